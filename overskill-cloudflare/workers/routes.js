// Which target serves an app in each of its environments: one object per app, asked at most once a second per isolate.

import { DurableObject } from "cloudflare:workers";
import { Nonces } from "./nonces.js";

/**
 * @import { Env, Scope } from "./settings.js"
 * @import { Seal } from "./nonces.js"
 * @typedef {{ target: string, deployment: string, fence: string, handle: { reference: string, url?: string | null } }} Route
 * @typedef {{ route: Route | null, plan: string | null, room: boolean }} Live what the dispatcher knows of a scope
 * @typedef {{ fence: string, route: Route | null, conflict?: boolean, replayed?: boolean }} Standing
 */

const SCHEMA =
  "create table if not exists routes (environment text primary key, fence text not null, route text);" +
  "create table if not exists facts (name text primary key, value text not null)";

/** An app's routes, its plan, and which of its previews are open. @extends {DurableObject<Env>} */
export class RouteTable extends DurableObject {
  #nonces = new Nonces(this.ctx.storage);

  /** @param {string} environment @returns {Live} */
  live(environment) {
    return { route: this.#standing(environment).route, plan: this.#fact("plan"), room: this.#fact(`room ${environment}`) !== null };
  }

  /** @param {Seal} seal @param {string} environment @returns {Standing} */
  get(seal, environment) {
    return this.#nonces.isNew(seal) ? this.#standing(environment) : { ...NONE, replayed: true };
  }

  /**
   * Sets a route, or takes the scope off the air: under a fence above all others, or the current one for the same deployment.
   *
   * @param {Seal} seal
   * @param {string} environment
   * @param {string} fence a decimal number: it may be larger than a JavaScript number can be
   * @param {Route | null} route
   * @returns {Standing}
   */
  set(seal, environment, fence, route) {
    if (!this.#nonces.isNew(seal)) return { ...NONE, replayed: true };
    const now = this.#standing(environment);
    const isSame = route !== null && now.route?.deployment === route.deployment && now.route.fence === fence;
    if (BigInt(fence) <= BigInt(now.fence) && !isSame) return { ...now, conflict: true };
    this.ctx.storage.sql.exec(SCHEMA);
    const text = route && JSON.stringify(route);
    this.ctx.storage.sql.exec("insert or replace into routes values (?, ?, ?)", environment, fence, text);
    return { fence, route };
  }

  /** Notes something of the app, or forgets it. @param {Seal | null} seal none when a room says it @param {string} name
   * @param {string | null} value @returns {{ replayed?: boolean }} */
  note(seal, name, value) {
    if (seal && !this.#nonces.isNew(seal)) return { replayed: true };
    if (this.#fact(name) === value) return {};
    this.ctx.storage.sql.exec(SCHEMA);
    if (value === null) this.ctx.storage.sql.exec("delete from facts where name = ?", name);
    else this.ctx.storage.sql.exec("insert or replace into facts values (?, ?)", name, value);
    return {};
  }

  /** @param {string} name @returns {string | null} */
  fact(name) {
    return this.#fact(name);
  }

  /** Whoever is asked for and never told anything keeps nothing. */
  #isKnown() {
    return this.ctx.storage.sql.exec("select 1 from sqlite_master where name = 'facts'").toArray().length > 0;
  }

  /** @param {string} environment @returns {Standing} */
  #standing(environment) {
    if (!this.#isKnown()) return NONE;
    const [row] = this.ctx.storage.sql.exec("select fence, route from routes where environment = ?", environment).toArray();
    if (!row) return NONE;
    return { fence: String(row.fence), route: row.route === null ? null : JSON.parse(String(row.route)) };
  }

  /** @param {string} name */
  #fact(name) {
    if (!this.#isKnown()) return null;
    const [row] = this.ctx.storage.sql.exec("select value from facts where name = ?", name).toArray();
    return row ? String(row.value) : null;
  }
}

/** @type {Standing} */
const NONE = { fence: "0", route: null };

/** How long an isolate may go on with what it was told. */
const STALE_AFTER_MS = 1_000;
const MOST_KEPT = 10_000;

/** @template T */
class Kept {
  /** Values and no promises: what another request waits for is its own. @type {Map<string, { at: number, value: T }>} */
  #values = new Map();

  /** @param {string} key @param {() => Promise<T>} ask @returns {Promise<T>} */
  async get(key, ask) {
    // From when it was asked: the answer may be on its way for a while.
    const at = Date.now();
    const kept = this.#values.get(key);
    if (kept && at - kept.at < STALE_AFTER_MS && at >= kept.at) return kept.value;
    const value = await ask();
    this.#values.delete(key);
    this.#values.set(key, { at, value });
    if (this.#values.size > MOST_KEPT) this.#values.delete(this.#values.keys().next().value ?? "");
    return value;
  }
}

/** @type {Kept<Live>} */
const lives = new Kept();
/** @type {Kept<string | null>} */
const hosts = new Kept();

/** What serves a scope, not older than a second. @param {Env} env @param {Scope} scope @returns {Promise<Live>} */
export const liveOf = (env, scope) =>
  lives.get(scope.name, async () => ({ ...(await env.ROUTES.getByName(scope.app).live(scope.environment)) }));

/** The scope that a host name of somebody else's was connected with. @param {Env} env @param {string} hostname */
export const scopeOfHost = (env, hostname) => hosts.get(hostname, async () => env.ROUTES.getByName(hostKey(hostname)).fact("scope"));

/** Where a host name is noted. No app is called so. @param {string} hostname */
export const hostKey = (hostname) => `host ${hostname}`;
