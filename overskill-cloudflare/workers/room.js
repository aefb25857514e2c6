// One preview: what it shows, ready to be served, and the sockets of those who look.
//
// Everything that outlives a moment is in SQLite: between two messages the object may be gone from memory, while its
// sockets stay open.

import { DurableObject } from "cloudflare:workers";
import { Blobs, joined } from "./blobs.js";
import { isFromElsewhere } from "./guard.js";
import { History, behind, parsePosition, reload } from "./history.js";
import { LOBBY } from "./lobby.js";
import { Nonces } from "./nonces.js";
import { plain, waiting } from "./pages.js";
import { answer } from "./served.js";

/**
 * @import { Env } from "./settings.js"
 * @import { Blob } from "./blobs.js"
 * @import { Position } from "./history.js"
 * @import { Seal } from "./nonces.js"
 *
 * @typedef {object} RoomFile a file as it is served
 * @property {string} key how it is asked for: see served.js
 * @property {string} type
 * @property {string} cache
 * @property {number} status
 * @property {string} digest
 * @property {number} [config_at] a page: where its config belongs, in bytes
 * @property {string} [shelf] its bytes are there, under `name`
 * @property {string} [name]
 *
 * @typedef {object} Commit
 * @property {string} push this change, told from all others
 * @property {string | null} after the push that it follows; none if it replaces whatever there is, "" if it is for a room that
 *   shows nothing
 * @property {string} position
 * @property {string} env the revision of the variables
 * @property {RoomFile[]} files
 * @property {string[]} removed keys
 * @property {string[]} shelves sets whose files may be asked for
 * @property {Record<string, unknown>} config what pages are told besides their position
 * @property {string[]} messages to every viewer, the last of them with the position if that is a new one
 * @property {string[]} problems what whoever comes is told
 * @property {Server | null} [server] the app's own server side, if it has one
 *
 * @typedef {object} Server
 * @property {string} id told from all others
 * @property {string} date its compatibility date
 * @property {string[]} flags its compatibility flags
 * @property {string} module the digest of its module
 * @property {{ path: string, digest: string }[]} wasm
 * @property {Record<string, string>} env
 *
 * @typedef {{ state: "closed" | "preparing" | "empty" | "open", position?: string, env?: string, push?: string,
 *   viewers: number, replayed?: boolean }} RoomStatus
 * @typedef {RoomStatus & { done: boolean, missing?: string[] }} Committed
 */

const SOCKET_PATH = "/@overskill/socket";
const MOST_SAID_BYTES = 64 * 1024;
const USED_EVERY_MS = 3_600_000;
const WANT_EVERY_MS = 2_000;

/** A preview's room. @extends {DurableObject<Env>} */
export class PreviewRoom extends DurableObject {
  #sql = this.ctx.storage.sql;
  #nonces = new Nonces(this.ctx.storage);
  #blobs = new Blobs(this.#sql);
  #history = new History(this.#sql);
  #wantedAt = 0;
  #token = "";

  /** @param {DurableObjectState} ctx @param {Env} env */
  constructor(ctx, env) {
    super(ctx, env);
    // Pings wake nobody.
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair('{"type":"ping"}', '{"type":"pong"}'));
  }

  // --- For the previews service --------------------------------------------------------------------------------------

  /** @param {Seal} seal @returns {RoomStatus} */
  status(seal) {
    return this.#nonces.isNew(seal) ? this.#status() : REPLAYED;
  }

  /** By key: the digests of what it serves, to find out what differs. @param {Seal} seal */
  digests(seal) {
    if (!this.#nonces.isNew(seal)) return { ...REPLAYED, files: {} };
    const rows = this.#state() === "open" ? this.#sql.exec("select key, print from files").toArray() : [];
    return { ...this.#status(), files: Object.fromEntries(rows.map((row) => [String(row.key), String(row.print)])) };
  }

  /** It will be open soon: pages wait for it from now on. @param {Seal} seal @param {string} scope @returns {Promise<RoomStatus>} */
  async prepare(seal, scope) {
    if (!this.#nonces.isNew(seal)) return REPLAYED;
    this.#create(scope);
    if (this.#state() !== "open") this.#set("state", "preparing");
    await this.#note(scope, true);
    return this.#status();
  }

  /** Takes bytes that a commit will name. @param {Seal} seal @param {string} scope @param {Blob[]} blobs @returns {RoomStatus} */
  stage(seal, scope, blobs) {
    if (!this.#nonces.isNew(seal)) return REPLAYED;
    this.ctx.storage.transactionSync(() => {
      this.#create(scope);
      for (const blob of blobs) this.#blobs.put(blob);
    });
    return this.#status();
  }

  /**
   * Shows something else, all of it at once, and tells the viewers.
   *
   * @param {Seal} seal
   * @param {string} scope
   * @param {Commit} commit
   * @param {Blob[]} blobs
   * @returns {Promise<Committed>}
   */
  async commit(seal, scope, commit, blobs) {
    if (!this.#nonces.isNew(seal)) return { ...REPLAYED, done: false };
    const committed = this.#commit(scope, commit, blobs);
    if (committed.state !== "closed") await this.#note(scope, true, !commit.after);
    return committed;
  }

  /** Ends it, and lets everybody go. @param {Seal} seal @param {string} scope @returns {Promise<RoomStatus>} */
  async close(seal, scope) {
    if (!this.#nonces.isNew(seal)) return REPLAYED;
    for (const socket of this.ctx.getWebSockets()) socket.close(1000, "the preview was closed");
    await this.ctx.storage.deleteAlarm();
    for (const table of this.#isKnown() ? ["meta", "files", "blobs", "history"] : []) this.#sql.exec(`drop table if exists ${table}`);
    await this.#note(scope, false);
    return { state: "closed", viewers: 0 };
  }

  /** Gives up what it shows, and remembers that it was open. @param {Seal} seal @returns {RoomStatus} */
  evict(seal) {
    if (!this.#nonces.isNew(seal)) return REPLAYED;
    this.#evict();
    return this.#status();
  }

  /** Has every page loaded anew. @param {Seal} seal @returns {RoomStatus} */
  reload(seal) {
    if (!this.#nonces.isNew(seal)) return REPLAYED;
    if (this.#state() === "open") {
      this.#restart(true);
      this.#tell(['{"type":"full-reload","path":"*"}']);
    }
    return this.#status();
  }

  // --- For viewers ---------------------------------------------------------------------------------------------------

  /** Whether somebody opened it and nobody closed it. */
  isOpened() {
    return this.#state() !== "closed";
  }

  /** @param {Request} request @override */
  async fetch(request) {
    const url = new URL(request.url);
    const state = this.#state();
    if (state === "closed") return new Response(null, { status: 404, headers: { "x-overskill-room": "closed" } });
    const scope = this.#get("scope") ?? "";
    if (url.pathname === SOCKET_PATH) return this.#connect(request, url, scope);
    const server = /** @type {Server | null} */ (JSON.parse(this.#get("server") ?? "null"));
    if (server && state === "open" && request.method !== "GET" && request.method !== "HEAD") return forServer(server.id);
    if (request.method !== "GET" && request.method !== "HEAD") {
      const refused = plain(405, "Use GET or HEAD: a preview has no server side here but /api/.");
      refused.headers.set("allow", "GET, HEAD");
      return refused;
    }
    if (state !== "open") {
      this.#want(scope);
      return waiting(request, this.env.SETTINGS.frame_ancestors);
    }
    this.#used(false);
    const shown = {
      files: this.#files,
      blobs: this.#blobs,
      shelves: this.#list("shelves"),
      config: async () => ({
        ...JSON.parse(this.#get("config") ?? "{}"),
        position: parsePosition(this.#get("position") ?? ""),
        epoch: Number(this.#get("epoch") ?? 0),
        token: await this.#socketToken(scope),
      }),
      broken: () => this.#set("served_broken", "1"),
    };
    const answered = await answer(request, url, shown, this.env);
    return server && answered.status === 404 ? forServer(server.id) : answered;
  }

  /** The app's server side as it is loaded, if that is still the one that is asked for. @param {string} id */
  server(id) {
    const server = /** @type {Server | null} */ (JSON.parse(this.#get("server") ?? "null"));
    if (this.#state() !== "open" || server?.id !== id) return null;
    const bytes = (/** @type {string} */ digest) => joined(this.#blobs.get(digest) ?? []);
    const wasm = server.wasm.map(({ path, digest }) => ({ path, bytes: bytes(digest) }));
    return { module: new TextDecoder().decode(bytes(server.module)), wasm, env: server.env, date: server.date, flags: server.flags };
  }

  /** @param {string} key */
  #files = (key) => this.#sql.exec("select * from files where key = ?", key).toArray()[0];

  /** Lets a page of this very preview connect, and nobody else. @param {Request} request @param {URL} url @param {string} scope */
  async #connect(request, url, scope) {
    if (isFromElsewhere(request, url)) {
      return plain(403, "Only the preview's own pages may connect: the request comes from another origin.");
    }
    const query = url.searchParams;
    if (!same(query.get("token") ?? "", await this.#socketToken(scope))) {
      return plain(403, "The token is missing or not this preview's: load the page again.");
    }
    const [incarnation, seq, epoch] = [query.get("incarnation"), query.get("seq"), query.get("epoch")];
    const from = incarnation === null && seq === null ? null : parsePosition(`${incarnation}:${seq}`);
    if (from === undefined || (epoch !== null && !/^\d{1,15}$/.test(epoch))) {
      return plain(400, "incarnation, seq and epoch must be those that this preview's page was given.");
    }
    if (this.#state() !== "open") {
      this.#want(scope);
      return plain(503, "This preview is being prepared: connect again soon.");
    }
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      return plain(426, "This address is a WebSocket: connect to it as one.");
    }
    const [client, server] = Object.values(new WebSocketPair());
    if (!client || !server) throw new Error("a pair has two sides");
    this.ctx.acceptWebSocket(server);
    server.serializeAttachment({ epoch: epoch === null ? null : Number(epoch) });
    server.send('{"type":"connected"}');
    for (const text of this.#missed(from, epoch === null ? undefined : Number(epoch))) server.send(text);
    this.#used(false);
    return new Response(null, { status: 101, webSocket: client });
  }

  /** @param {Position | null} from @param {number | undefined} epoch */
  #missed(from, epoch) {
    const head = parsePosition(this.#get("position") ?? "");
    if (!head) return [];
    /** @type {string[]} */
    let missed = [];
    if (from) {
      const isOlder = epoch !== undefined && epoch !== Number(this.#get("epoch") ?? 0);
      if (isOlder || behind(from, head) === undefined || from.seq < Number(this.#get("since") ?? 0)) return [reload(from, head)];
      missed = this.#history.since(from.seq);
    }
    return [...missed, ...this.#list("problems")];
  }

  /** @param {WebSocket} socket @param {string | ArrayBuffer} message @override */
  async webSocketMessage(socket, message) {
    if (typeof message !== "string" || message.length > MOST_SAID_BYTES || this.#state() !== "open") return;
    /** @type {{ type?: unknown, event?: unknown, data?: { path?: unknown } } | null} */
    let said;
    try {
      said = JSON.parse(message);
    } catch {
      return;
    }
    if (said?.type !== "custom" || said.event !== "vite:invalidate" || typeof said.data?.path !== "string") return;
    // A page that has to be loaded anew anyway has nothing to say.
    const { epoch } = socket.deserializeAttachment() ?? {};
    const now = Number(this.#get("epoch") ?? 0);
    if (epoch !== null && epoch !== now) return;
    // Who imports what is for the service to know. Where it does not listen, pages begin anew.
    if (await this.env.LOBBY.getByName(LOBBY).say(this.#get("scope") ?? "", message)) return;
    if (Number(this.#get("epoch") ?? 0) !== now) return; // another page said so meanwhile
    this.#restart(true);
    this.#tell([JSON.stringify({ type: "full-reload", path: "*", triggeredBy: said.data.path })]);
  }

  /** @param {WebSocket} socket @param {number} code @override */
  webSocketClose(socket, code) {
    // 1005 and 1006 say that there was no code: nobody may send them.
    socket.close(code === 1005 || code === 1006 ? 1000 : code);
  }

  /** Nobody may have come for long: then it gives up its files. @override */
  async alarm() {
    const idle = (this.env.SETTINGS.room_idle_hours ?? 168) * 3_600_000;
    const used = Number(this.#get("used") ?? 0);
    if (this.#state() !== "open") return;
    if (this.#viewers() > 0 || Date.now() - used < idle) await this.ctx.storage.setAlarm(Math.max(used, Date.now() - idle / 2) + idle);
    else this.#evict();
  }

  // --- What it is made of --------------------------------------------------------------------------------------------

  /**
   * Tells the app's routes whether there is a room. If that fails, so does the call, which is made again: what was told is known.
   *
   * @param {string} scope @param {boolean} is @param {boolean} [again] whether or not it was told before
   */
  async #note(scope, is, again = false) {
    if (is && !again && this.#get("noted") === "1") return;
    const [app = "", environment = ""] = scope.split("/");
    await this.env.ROUTES.getByName(app).note(null, `room ${environment}`, is ? "open" : null);
    if (is && this.#isKnown()) this.#set("noted", "1");
  }

  /** @param {string} scope @param {Commit} commit @param {Blob[]} blobs @returns {Committed} */
  #commit(scope, commit, blobs) {
    const is = this.#status();
    // A call that is repeated finds it done.
    if (is.state === "open" && is.push === commit.push) return { ...is, done: true };
    const shown = is.state === "open" ? is.push : "";
    const replaces = commit.after === null || commit.after === "";
    if (commit.after !== null && shown !== commit.after) return { ...is, done: false };
    const { missing, told } = this.ctx.storage.transactionSync(() => this.#take(scope, commit, blobs, replaces));
    if (missing.length > 0) return { ...this.#status(), done: false, missing };
    this.#tell(told);
    this.#used(true);
    return { ...this.#status(), done: true };
  }

  /** @param {string} scope @param {Commit} commit @param {Blob[]} blobs @param {boolean} replaces
   * @returns {{ missing: string[], told: string[] }} */
  #take(scope, commit, blobs, replaces) {
    this.#create(scope);
    for (const blob of blobs) this.#blobs.put(blob);
    const { server = null } = commit;
    const code = server ? [server.module, ...server.wasm.map((it) => it.digest)] : [];
    const needed = new Set([...commit.files.filter((file) => !file.shelf).map((file) => file.digest), ...code]);
    const missing = [...needed].filter((digest) => !this.#blobs.has(digest));
    if (missing.length > 0) return { missing, told: [] };
    const was = parsePosition(this.#get("position") ?? "");
    const is = parsePosition(commit.position);
    if (!is) throw new Error("the position was checked before");
    const moved = was?.incarnation !== is.incarnation || was.seq !== is.seq;
    // Pages that were told of a broken module may have no instance of it that could take what mends it.
    const mends = this.#get("served_broken") === "1" && commit.files.some((file) => this.#mends(file));
    const known = this.#state() === "open";
    if (replaces) this.#sql.exec("delete from files");
    for (const key of commit.removed) this.#sql.exec("delete from files where key = ?", key);
    for (const file of commit.files) this.#put(file);
    const unused = "delete from blobs where digest not in (select digest from files union select value from json_each(?))";
    this.#sql.exec(unused, JSON.stringify(code));
    this.#set("server", JSON.stringify(server));
    this.#set("state", "open");
    this.#set("push", commit.push);
    this.#set("position", commit.position);
    this.#set("env", commit.env);
    this.#set("shelves", JSON.stringify(commit.shelves));
    this.#set("config", JSON.stringify(commit.config));
    this.#set("problems", JSON.stringify(commit.problems));
    const anew = replaces ? known || moved : mends;
    /** @type {string[]} */
    const told = anew ? [JSON.stringify({ type: "full-reload", path: "*", ...(moved ? { position: is } : {}) })] : commit.messages;
    const restarts = anew || replaces || told.some((text) => text.includes('"type":"full-reload"') && JSON.parse(text).type === "full-reload");
    if (restarts) this.#restart(!moved && known);
    else {
      const since = this.#history.add(is.seq, !moved, told);
      if (since > Number(this.#get("since") ?? 0)) this.#set("since", String(Math.min(since, is.seq)));
    }
    return { missing: [], told };
  }

  /** @param {RoomFile} file */
  #mends(file) {
    return file.status === 200 && this.#files(file.key)?.status === 500;
  }

  /** @param {RoomFile} file */
  #put({ key, type, cache, status, digest, config_at: configAt, shelf, name }) {
    // What tells it from another version, for whoever asks what there is.
    const print = [digest, status, type, shelf ?? "", configAt ?? ""].join(" ");
    const values = [key, type, cache, status, digest, configAt ?? null, shelf ?? null, name ?? null, print];
    this.#sql.exec("insert or replace into files values (?, ?, ?, ?, ?, ?, ?, ?, ?)", ...values);
  }

  /** From here on, nothing of before helps: who was not there has to load the page. @param {boolean} samePosition */
  #restart(samePosition) {
    this.#history.clear();
    const head = parsePosition(this.#get("position") ?? "");
    this.#set("since", String(head?.seq ?? 0));
    this.#set("served_broken", "0");
    // A page is told by it that it was loaded before.
    if (samePosition) this.#set("epoch", String(Number(this.#get("epoch") ?? 0) + 1));
  }

  #evict() {
    if (this.#state() !== "open") return;
    for (const table of ["files", "blobs", "history"]) this.#sql.exec(`delete from ${table}`);
    this.#set("state", "empty");
  }

  /** @param {string[]} texts */
  #tell(texts) {
    if (texts.length === 0) return;
    for (const socket of this.ctx.getWebSockets()) {
      try {
        for (const text of texts) socket.send(text);
      } catch {
        socket.close(1013, "too slow: connect again");
      }
    }
  }

  /** @returns {RoomStatus} */
  #status() {
    const state = this.#state();
    const viewers = this.#viewers();
    if (state !== "open") return { state, viewers };
    const get = (/** @type {string} */ name) => this.#get(name) ?? "";
    return { state, position: get("position"), env: get("env"), push: get("push"), viewers };
  }

  #viewers() {
    return this.ctx.getWebSockets().filter((socket) => socket.readyState === WebSocket.READY_STATE_OPEN).length;
  }

  /** Asks the service to fill it; not for every request. @param {string} scope */
  #want(scope) {
    const now = Date.now();
    if (now - this.#wantedAt < WANT_EVERY_MS) return;
    this.#wantedAt = now;
    if (this.#state() === "empty") this.ctx.waitUntil(this.env.LOBBY.getByName(LOBBY).want(scope));
  }

  /** Notes that it is in use, once an hour. @param {boolean} now */
  #used(now) {
    const moment = Date.now();
    if (!now && moment - Number(this.#get("used") ?? 0) < USED_EVERY_MS) return;
    this.#set("used", String(moment));
    const idle = (this.env.SETTINGS.room_idle_hours ?? 168) * 3_600_000;
    this.ctx.waitUntil(this.ctx.storage.setAlarm(moment + idle));
  }

  /** What a page's socket has to show: nobody guesses it who has not the page. @param {string} scope */
  async #socketToken(scope) {
    if (this.#token === "") {
      const text = new TextEncoder();
      const algorithm = { name: "HMAC", hash: "SHA-256" };
      const key = await crypto.subtle.importKey("raw", text.encode(this.env.SOCKET_KEY), algorithm, false, ["sign"]);
      const mac = await crypto.subtle.sign("HMAC", key, text.encode(`overskill preview socket 1\0${scope}`));
      this.#token = [...new Uint8Array(mac).slice(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    }
    return this.#token;
  }

  /** @returns {RoomStatus["state"]} */
  #state() {
    return /** @type {RoomStatus["state"]} */ (this.#get("state") ?? "closed");
  }

  /** Whoever is asked for and was never opened keeps nothing. */
  #isKnown() {
    return this.#sql.exec("select 1 from sqlite_master where name = 'meta'").toArray().length > 0;
  }

  /** @param {string} scope */
  #create(scope) {
    if (this.#isKnown()) return;
    this.#sql.exec("create table meta (name text primary key, value text not null) without rowid");
    this.#sql.exec(
      "create table files (key text primary key, type text not null, cache text not null, status integer not null, " +
        "digest text not null, config_at integer, shelf text, name text, print text not null) without rowid",
    );
    this.#blobs.create();
    this.#history.create();
    this.#set("scope", scope);
    this.#set("state", "preparing");
  }

  /** @param {string} name */
  #get(name) {
    if (!this.#isKnown()) return undefined;
    const [row] = this.#sql.exec("select value from meta where name = ?", name).toArray();
    return row && String(row.value);
  }

  /** @param {string} name @param {string} value */
  #set(name, value) {
    if (this.#get(name) !== value) this.#sql.exec("insert or replace into meta values (?, ?)", name, value);
  }

  /** @param {string} name @returns {string[]} */
  #list(name) {
    return JSON.parse(this.#get(name) ?? "[]");
  }
}

/** Says that the app's own server side is to answer. @param {string} id */
const forServer = (id) => new Response(null, { status: 404, headers: { "x-overskill-room": "server", "x-overskill-server": id } });

/** @type {RoomStatus} */
const REPLAYED = { state: "closed", viewers: 0, replayed: true };

/** Compares without telling how much is alike. @param {string} given @param {string} wanted */
function same(given, wanted) {
  const [a, b] = [new TextEncoder().encode(given), new TextEncoder().encode(wanted)];
  return a.byteLength === b.byteLength && crypto.subtle.timingSafeEqual(a, b);
}
