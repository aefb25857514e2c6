// Files that never change and that many apps share: a set of npm packages as browsers load it, the page's own client.

import { DurableObject } from "cloudflare:workers";
import { Blobs, joined } from "./blobs.js";
import { Nonces } from "./nonces.js";

/**
 * @import { Env } from "./settings.js"
 * @import { Seal } from "./nonces.js"
 * @import { Blob } from "./blobs.js"
 * @typedef {{ name: string, type: string, digest: string }} ShelfFile
 */

/** One set, named by its digest. What was complete once is not changed any more. @extends {DurableObject<Env>} */
export class PackageShelf extends DurableObject {
  #blobs = new Blobs(this.ctx.storage.sql);
  #nonces = new Nonces(this.ctx.storage);

  /** Whether all of it is there. */
  isComplete() {
    const { sql } = this.ctx.storage;
    if (sql.exec("select 1 from sqlite_master where name = 'complete'").toArray().length === 0) return false;
    return sql.exec("select 1 from complete").toArray().length > 0;
  }

  /** @param {Seal} seal @returns {{ complete: boolean, replayed?: boolean }} */
  status(seal) {
    return this.#nonces.isNew(seal) ? { complete: this.isComplete() } : { complete: false, replayed: true };
  }

  /**
   * Adds files; the last call of a set says that it is whole.
   *
   * @param {Seal} seal
   * @param {ShelfFile[]} files
   * @param {Blob[]} blobs
   * @param {boolean} whole
   * @returns {{ complete: boolean, replayed?: boolean, missing?: string[] }}
   */
  add(seal, files, blobs, whole) {
    if (!this.#nonces.isNew(seal)) return { complete: false, replayed: true };
    if (this.isComplete()) return { complete: true };
    return this.ctx.storage.transactionSync(() => {
      const { sql } = this.ctx.storage;
      sql.exec("create table if not exists files (name text primary key, type text not null, digest text not null)");
      sql.exec("create table if not exists complete (at integer)");
      this.#blobs.create();
      for (const blob of blobs) this.#blobs.put(blob);
      for (const { name, type, digest } of files) sql.exec("insert or replace into files values (?, ?, ?)", name, type, digest);
      if (!whole) return { complete: false };
      const missing = sql.exec("select distinct digest from files where digest not in (select digest from blobs)").toArray();
      if (missing.length > 0) return { complete: false, missing: missing.map((row) => String(row.digest)) };
      sql.exec("insert into complete values (?)", Date.now());
      return { complete: true };
    });
  }

  /** @param {string} name @returns {{ type: string, bytes: Uint8Array } | null} */
  read(name) {
    if (!this.isComplete()) return null;
    const [row] = this.ctx.storage.sql.exec("select type, digest from files where name = ?", name).toArray();
    const parts = row && this.#blobs.get(String(row.digest));
    return parts ? { type: String(row.type), bytes: joined(parts) } : null;
  }
}
