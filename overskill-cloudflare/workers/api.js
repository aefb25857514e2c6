// An app's `/api/*`: to the upstream, with a short-lived token of the app's own.

import { joined } from "./blobs.js";
import { decodePath, fromUpstream, isFromElsewhere } from "./guard.js";
import { json } from "./pages.js";

/** @import { Env, Scope } from "./settings.js" */

export const PREFIX = "/api/";

const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]);
const MOST_BODY_BYTES = 10 << 20;
const WITHIN_MS = 30_000;

/**
 * Passes a call on. Of the request's headers only the media type goes along: no cookie, no token of anybody's.
 *
 * @param {Request} request
 * @param {URL} url
 * @param {Scope} scope
 * @param {Env} env
 */
export async function api(request, url, scope, env) {
  const { upstream, max_api_body_bytes: limit = MOST_BODY_BYTES } = env.SETTINGS;
  if (isFromElsewhere(request, url)) {
    return json(403, "Only the app's own pages may call its API: open the app at its own address.");
  }
  if (upstream === undefined) return json(503, "This platform has no API for apps.");
  if (!METHODS.has(request.method)) return json(405, "Use GET, HEAD, POST, PUT, PATCH or DELETE.");
  const path = decodePath(url.pathname)?.slice("api/".length);
  const isClean = path !== undefined && path !== "" && path.split("/").every((segment) => segment !== "");
  if (!isClean || path.length > 475) return json(400, "The path is not valid: it must be /api/ and names between single slashes.");
  const body = await bodyOf(request, limit);
  if (body === undefined) return json(413, `The body must be at most ${limit} bytes.`);
  const to = new URL(upstream);
  const segments = [scope.app, scope.environment, ...path.split("/")].map(encodeURIComponent);
  to.pathname = `${to.pathname.replace(/\/$/, "")}/${segments.join("/")}`;
  to.search = url.search;
  const headers = new Headers({ authorization: `Bearer ${await tokenOf(scope, env)}` });
  const type = request.headers.get("content-type");
  if (type !== null) headers.set("content-type", type);
  const has = request.method !== "GET" && request.method !== "HEAD" && body.length > 0;
  try {
    const signal = AbortSignal.timeout(WITHIN_MS);
    const answer = await fetch(to, { method: request.method, headers, body: has ? body : null, redirect: "manual", signal });
    return fromUpstream(answer);
  } catch (error) {
    console.error(`the API of ${scope.name} did not answer: ${error}`);
    const late = error instanceof Error && error.name === "TimeoutError";
    return json(late ? 504 : 502, "The app's API does not answer now: try again soon.");
  }
}

/** The body, unless it is too large: then reading it ends early. @param {Request} request @param {number} limit */
async function bodyOf(request, limit) {
  if (Number(request.headers.get("content-length") ?? 0) > limit) return undefined;
  const parts = [];
  let length = 0;
  for await (const part of request.body ?? []) {
    length += part.length;
    if (length > limit) return undefined;
    parts.push(part);
  }
  return joined(parts);
}

/** Tokens that are good for a while yet, by scope. @type {Map<string, { token: string, until: number }>} */
const kept = new Map();
const MOST_KEPT = 5_000;
/** Whoever is not signed in. */
const VISITOR = "overskill|visitor";

/** A token that is good in this scope alone, and carries no right but `data`. @param {Scope} scope @param {Env} env */
async function tokenOf(scope, env) {
  const known = kept.get(scope.name);
  const now = Math.floor(Date.now() / 1000);
  if (known && now < known.until) return known.token;
  const { issuer, audience, ttl_seconds: ttl } = env.SETTINGS.tokens ?? { issuer: "overskill", audience: "overskill", ttl_seconds: 300 };
  if (!env.APP_TOKEN_KEY) throw new Error("APP_TOKEN_KEY is missing");
  /** @type {{ kid: string, pkcs8: string }} */
  const { kid, pkcs8 } = JSON.parse(env.APP_TOKEN_KEY);
  const claims = {
    iss: issuer,
    aud: audience,
    sub: VISITOR,
    nbf: now,
    exp: now + ttl,
    tenant: `app_${scope.app}_user_${VISITOR}`,
    rights: "data",
    env: scope.environment,
  };
  const text = new TextEncoder();
  const signed = [{ alg: "ES256", typ: "JWT", kid }, claims].map((it) => base64url(text.encode(JSON.stringify(it)))).join(".");
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  const key = await crypto.subtle.importKey("pkcs8", fromBase64url(pkcs8), algorithm, false, ["sign"]);
  const signature = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, key, text.encode(signed));
  const token = `${signed}.${base64url(new Uint8Array(signature))}`;
  kept.delete(scope.name);
  kept.set(scope.name, { token, until: now + Math.floor(ttl / 2) });
  if (kept.size > MOST_KEPT) kept.delete(kept.keys().next().value ?? "");
  return token;
}

/** @param {Uint8Array} bytes */
const base64url = (bytes) =>
  btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** @param {string} text */
const fromBase64url = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
