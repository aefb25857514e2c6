// Bytes in an object's SQLite, by their digests. A row holds at most 2 MB, so they lie there in parts.

const PART_BYTES = 1 << 20;

/** @typedef {{ digest: string, bytes: Uint8Array }} Blob */

export class Blobs {
  /** @param {SqlStorage} sql */
  constructor(sql) {
    this.sql = sql;
  }

  /** Makes room for them. */
  create() {
    this.sql.exec(
      "create table if not exists blobs (digest text not null, part integer not null, bytes blob not null, " +
        "primary key (digest, part)) without rowid",
    );
  }

  /** @param {string} digest */
  has(digest) {
    return this.sql.exec("select 1 from blobs where digest = ? limit 1", digest).toArray().length > 0;
  }

  /** @param {Blob} blob */
  put({ digest, bytes }) {
    if (this.has(digest)) return;
    for (let part = 0; part === 0 || part * PART_BYTES < bytes.length; part++) {
      const piece = bytes.slice(part * PART_BYTES, (part + 1) * PART_BYTES);
      this.sql.exec("insert into blobs values (?, ?, ?)", digest, part, piece.buffer);
    }
  }

  /** @param {string} digest @returns {Uint8Array[] | undefined} its parts, in order */
  get(digest) {
    const rows = this.sql.exec("select bytes from blobs where digest = ? order by part", digest).toArray();
    if (rows.length === 0) return undefined;
    return rows.map((row) => new Uint8Array(/** @type {ArrayBuffer} */ (row.bytes)));
  }
}

/** @param {Uint8Array[]} parts */
export function joined(parts) {
  const [first] = parts;
  if (parts.length === 1 && first) return first;
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
