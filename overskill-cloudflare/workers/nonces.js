// What was admitted once is not admitted again.

/** @typedef {{ nonce: string, time: number }} Seal of a request whose signature was checked */

/** How far the clocks of two machines may be apart. */
export const SKEW_MS = 60_000;

/** The nonces of one object. The signed path says which object a request is for, so that no other can be told it again. */
export class Nonces {
  /** @param {DurableObjectStorage} storage */
  constructor(storage) {
    this.storage = storage;
  }

  /** Whether it was not seen before; from now on it was. @param {Seal} seal */
  isNew({ nonce, time }) {
    const { sql } = this.storage;
    sql.exec("create table if not exists nonces (nonce text primary key, time integer not null) without rowid");
    // What is older than that is refused by its time.
    sql.exec("delete from nonces where time < ?", Date.now() - 3 * SKEW_MS);
    return sql.exec("insert or ignore into nonces values (?, ?)", nonce, time).rowsWritten > 0;
  }
}
