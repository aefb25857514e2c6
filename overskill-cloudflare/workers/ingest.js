// What the platform tells its Workers, signed: routes, previews, shared files. See docs/protocols/ingest.md.

import { LOBBY } from "./lobby.js";
import { SKEW_MS } from "./nonces.js";
import { parsePosition } from "./history.js";
import { hostKey } from "./routes.js";
import { scopeOf } from "./settings.js";

/**
 * @import { Env, Scope } from "./settings.js"
 * @import { Seal } from "./nonces.js"
 * @import { Blob } from "./blobs.js"
 * @import { Commit } from "./room.js"
 * @import { ShelfFile } from "./shelf.js"
 * @typedef {{ head: Record<string, unknown>, blobs: Blob[] }} Frame
 */

export const PREFIX = "/.overskill/v1/";
const MOST_BYTES = 24 << 20;
const LONGEST_WAIT_MS = 25_000;
/** Of this text the signature is made, with what follows it: no other thing that is signed begins like it. */
const LABEL = "overskill-ingest-1";

class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @param {Request} request @param {URL} url @param {Env} env */
export async function ingest(request, url, env) {
  try {
    const body = await bodyOf(request);
    const seal = await sealOf(request, url, body, env);
    const answer = await told(request.method, url, body, seal, env);
    if (answer === undefined) throw new Refused(404, "there is no such thing here: see docs/protocols/ingest.md");
    if (answer.replayed) throw new Refused(401, "nonce was used before: sign each request anew");
    return Response.json(answer, { headers: { "cache-control": "no-store" } });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return Response.json({ error: error.message }, { status: error.status, headers: { "cache-control": "no-store" } });
  }
}

/** @param {Request} request */
async function bodyOf(request) {
  const tooLarge = () => new Refused(413, `body must be at most ${MOST_BYTES} bytes`);
  if (Number(request.headers.get("content-length") ?? 0) > MOST_BYTES) throw tooLarge();
  const body = new Uint8Array(await request.arrayBuffer());
  if (body.length > MOST_BYTES) throw tooLarge();
  return body;
}

/**
 * Checks who says it: the signature is over everything that matters, so that nothing of it can be changed or used elsewhere.
 *
 * @param {Request} request
 * @param {URL} url
 * @param {Uint8Array} body
 * @param {Env} env
 * @returns {Promise<Seal>}
 */
async function sealOf(request, url, body, env) {
  const form = /^Overskill-HMAC-SHA256 key=([\w.-]{1,64}), time=(\d{1,15}), nonce=([0-9a-f]{32}), mac=([0-9a-f]{64})$/;
  const [, id = "", time = "", nonce = "", mac = ""] = form.exec(request.headers.get("authorization") ?? "") ?? [];
  if (id === "") throw new Refused(401, "authorization must be `Overskill-HMAC-SHA256 key=…, time=…, nonce=…, mac=…`");
  /** @type {Record<string, string>} */
  const keys = JSON.parse(env.INGEST_KEYS);
  const secret = Object.hasOwn(keys, id) ? keys[id] : undefined;
  if (secret === undefined) throw new Refused(401, "key is not known here");
  const text = new TextEncoder();
  const digest = hex(await crypto.subtle.digest("SHA-256", body));
  const signed = [LABEL, request.method, url.host, url.pathname + url.search, time, nonce, digest].join("\n");
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", fromHex(secret), algorithm, false, ["verify"]);
  if (!(await crypto.subtle.verify("HMAC", key, fromHex(mac), text.encode(signed)))) {
    throw new Refused(401, "mac is not that of this request");
  }
  if (Math.abs(Date.now() - Number(time)) > SKEW_MS) {
    throw new Refused(401, `time is more than ${SKEW_MS / 1000} seconds away from ${Date.now()}: set the clock`);
  }
  return { nonce, time: Number(time) };
}

/**
 * @param {string} method
 * @param {URL} url
 * @param {Uint8Array} body
 * @param {Seal} seal
 * @param {Env} env
 * @returns {Promise<{ replayed?: boolean } | undefined>}
 */
async function told(method, url, body, seal, env) {
  const [what = "", ...rest] = url.pathname.slice(PREFIX.length).split("/").map(decoded);
  const to = `${method} ${what}`;
  const [first = "", second = "", third = ""] = rest;
  switch (to) {
    case "GET check":
      return env.ROUTES.getByName("check").get(seal, "check").then(({ replayed = false }) => ({ ok: true, replayed }));
    case "GET routes":
      return env.ROUTES.getByName(scoped(first, second).app).get(seal, second);
    case "PUT routes":
      return setRoute(scoped(first, second), jsonOf(body), seal, env);
    case "PUT apps": {
      const { app } = scoped(first, "production");
      return env.ROUTES.getByName(app).note(seal, "plan", textOrNull(jsonOf(body), "plan"));
    }
    case "PUT hosts": {
      const scope = textOrNull(jsonOf(body), "scope");
      if (scope !== null) scoped(...pair(scope));
      return env.ROUTES.getByName(hostKey(first.toLowerCase())).note(seal, "scope", scope);
    }
    case "GET wanted":
      return env.LOBBY.getByName(LOBBY).take(seal, Math.min(Number(url.searchParams.get("wait_ms") ?? 0), LONGEST_WAIT_MS));
    case "GET shelves":
      return env.SHELVES.getByName(setOf(first)).status(seal);
    case "PUT shelves": {
      const { head, blobs } = frameOf(body);
      const files = /** @type {ShelfFile[]} */ (head.files ?? []);
      return env.SHELVES.getByName(setOf(first)).add(seal, files, blobs, head.whole === true);
    }
    default:
      return what === "previews" ? preview(method, scoped(first, second), third, body, seal, env) : undefined;
  }
}

/** @param {string} method @param {Scope} scope @param {string} what @param {Uint8Array} body @param {Seal} seal @param {Env} env
 * @returns {Promise<{ replayed?: boolean } | undefined>} */
async function preview(method, scope, what, body, seal, env) {
  const room = env.ROOMS.getByName(scope.name);
  switch (`${method} ${what}`) {
    case "GET ":
      return room.status(seal);
    case "GET files":
      return room.digests(seal);
    case "POST prepare":
      return room.prepare(seal, scope.name);
    case "POST blobs":
      return room.stage(seal, scope.name, frameOf(body).blobs);
    case "POST commit": {
      const { head, blobs } = frameOf(body);
      return room.commit(seal, scope.name, commitOf(head), blobs);
    }
    case "POST reload":
      return room.reload(seal);
    case "POST evict":
      return room.evict(seal);
    case "DELETE ":
      return room.close(seal, scope.name);
    default:
      return undefined;
  }
}

/** @param {Scope} scope @param {Record<string, unknown>} head @param {Seal} seal @param {Env} env */
function setRoute(scope, head, seal, env) {
  const fence = String(head.fence);
  if (!/^\d{1,20}$/.test(fence)) throw new Refused(400, "fence must be a number as text");
  /** @type {Record<string, unknown> | null} */
  const route = head.route === null ? null : objectOf(head.route, "route");
  if (!route) return env.ROUTES.getByName(scope.app).set(seal, scope.environment, fence, null);
  const handle = objectOf(route.handle, "route.handle");
  const { target, deployment } = route;
  const { reference, url = null } = handle;
  if (typeof target !== "string" || typeof deployment !== "string" || typeof reference !== "string") {
    throw new Refused(400, "route must have target, deployment and handle.reference as texts");
  }
  if (url !== null && (typeof url !== "string" || !/^https?:\/\//.test(url))) {
    throw new Refused(400, "route.handle.url must be an http or https address, or null");
  }
  return env.ROUTES.getByName(scope.app).set(seal, scope.environment, fence, { target, deployment, fence, handle: { reference, url } });
}

/** @param {Record<string, unknown>} head */
function commitOf(head) {
  const commit = /** @type {Commit} */ (/** @type {unknown} */ (head));
  const lists = [commit.files, commit.removed, commit.shelves, commit.messages, commit.problems];
  if (!lists.every(Array.isArray)) throw new Refused(400, "files, removed, shelves, messages and problems must be lists");
  if (typeof commit.position !== "string" || !parsePosition(commit.position)) throw new Refused(400, "position must be `{hex}:{number}`");
  if (typeof commit.push !== "string" || commit.push === "") throw new Refused(400, "push must be a text");
  if (typeof commit.after !== "string" && commit.after !== null) throw new Refused(400, "after must be a text or null");
  return commit;
}

/**
 * A frame: the length of its head as a big-endian 32-bit number, the head as JSON, and then the bytes that `head.blobs` names,
 * one after the other.
 *
 * @param {Uint8Array} body
 * @returns {Frame}
 */
function frameOf(body) {
  const short = () => new Refused(400, "body must be a frame: it ends before what its head announces");
  if (body.length < 4) throw short();
  const length = new DataView(body.buffer, body.byteOffset).getUint32(0);
  if (4 + length > body.length) throw short();
  const head = jsonOf(body.subarray(4, 4 + length));
  const listed = /** @type {{ digest: string, length: number }[]} */ (head.blobs ?? []);
  let at = 4 + length;
  const blobs = listed.map(({ digest, length }) => {
    if (!/^[0-9a-f]{64}$/.test(digest) || !(length >= 0) || at + length > body.length) throw short();
    at += length;
    return { digest, bytes: body.slice(at - length, at) };
  });
  if (at !== body.length) throw new Refused(400, "body must be a frame: there is more than its head announces");
  return { head, blobs };
}

/** @param {string} segment */
function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new Refused(400, "path must be percent-encoded UTF-8");
  }
}

/** @param {Uint8Array} bytes @returns {Record<string, unknown>} */
function jsonOf(bytes) {
  try {
    return objectOf(JSON.parse(new TextDecoder().decode(bytes)), "body");
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused(400, "body must be JSON");
  }
}

/** @param {unknown} value @param {string} name @returns {Record<string, unknown>} */
function objectOf(value, name) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Refused(400, `${name} must be a JSON object`);
  return /** @type {Record<string, unknown>} */ (value);
}

/** @param {Record<string, unknown>} head @param {string} name */
function textOrNull(head, name) {
  const value = head[name];
  if (typeof value === "string" || value === null) return value;
  throw new Refused(400, `${name} must be a text or null`);
}

/** @param {string} app @param {string} environment */
function scoped(app, environment) {
  const scope = scopeOf(app, environment);
  if (!scope) throw new Refused(400, "scope must be an app id and an environment");
  return scope;
}

/** @param {string} text @returns {[string, string]} */
function pair(text) {
  const [app = "", environment = "", more] = text.split("/");
  return more === undefined ? [app, environment] : ["", ""];
}

/** @param {string} digest */
function setOf(digest) {
  if (!/^[0-9a-f]{64}$/.test(digest)) throw new Refused(400, "the name of a set must be 64 hex digits");
  return digest;
}

/** @param {ArrayBuffer} bytes */
const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** @param {string} text */
const fromHex = (text) => Uint8Array.from(text.match(/../g) ?? [], (byte) => parseInt(byte, 16));
