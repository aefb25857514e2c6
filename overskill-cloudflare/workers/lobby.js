// Where rooms say what they want of the previews service, and where it listens.

import { DurableObject } from "cloudflare:workers";
import { Nonces } from "./nonces.js";

/**
 * @import { Env } from "./settings.js"
 * @import { Seal } from "./nonces.js"
 * @typedef {{ kind: "empty", scope: string } | { kind: "said", scope: string, text: string }} LobbyEvent
 */

/** A service that asked within this time is taken to listen. */
const LISTENS_MS = 40_000;
const MOST_WAITING = 1_000;

/** The one object that all rooms tell. @extends {DurableObject<Env>} */
export class PreviewLobby extends DurableObject {
  #nonces = new Nonces(this.ctx.storage);
  /** What was said is worth nothing later: it is not kept. @type {LobbyEvent[]} */
  #said = [];
  /** @type {Set<() => void>} */
  #listening = new Set();
  #listenedAt = 0;

  /** A room has lost its files, and somebody looks. It is remembered until the service takes it. @param {string} scope */
  want(scope) {
    this.#create();
    const waiting = this.ctx.storage.sql.exec("select count(*) as n from wanted").one();
    if (Number(waiting.n) >= MOST_WAITING) return;
    this.ctx.storage.sql.exec("insert or ignore into wanted values (?, ?)", scope, Date.now());
    this.#wake();
  }

  /** A page said something that the service has to answer. False if nobody listens. @param {string} scope @param {string} text */
  say(scope, text) {
    if (Date.now() - this.#listenedAt > LISTENS_MS || this.#said.length >= MOST_WAITING) return false;
    this.#said.push({ kind: "said", scope, text });
    this.#wake();
    return true;
  }

  /** What is wanted; or waits for it. @param {Seal} seal @param {number} waitMs */
  async take(seal, waitMs) {
    if (!this.#nonces.isNew(seal)) return { events: [], replayed: true };
    this.#create();
    this.#listenedAt = Date.now();
    let events = this.#take();
    if (events.length === 0 && waitMs > 0) {
      const woken = Promise.withResolvers();
      const wake = () => woken.resolve(undefined);
      this.#listening.add(wake);
      const late = setTimeout(wake, waitMs);
      await woken.promise;
      clearTimeout(late);
      this.#listening.delete(wake);
      this.#listenedAt = Date.now();
      events = this.#take();
    }
    return { events, replayed: false };
  }

  /** @returns {LobbyEvent[]} */
  #take() {
    const { sql } = this.ctx.storage;
    const wanted = sql.exec("select scope from wanted order by at limit 100").toArray().map((row) => String(row.scope));
    for (const scope of wanted) sql.exec("delete from wanted where scope = ?", scope);
    /** @type {LobbyEvent[]} */
    const events = wanted.map((scope) => ({ kind: "empty", scope }));
    return [...events, ...this.#said.splice(0, 100)];
  }

  #create() {
    this.ctx.storage.sql.exec("create table if not exists wanted (scope text primary key, at integer not null)");
  }

  #wake() {
    for (const wake of this.#listening) wake();
  }
}

/** The lobby's name. */
export const LOBBY = "lobby";
