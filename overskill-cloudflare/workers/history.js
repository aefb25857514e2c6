// What a room's viewers were told lately, for those who come back.

const MOST_MESSAGES = 256;
const MOST_BYTES = 1 << 20;

/** @typedef {{ incarnation: string, seq: number }} Position */

/** @param {string} text `{incarnation in hex}:{seq}` @returns {Position | undefined} */
export function parsePosition(text) {
  const [, incarnation, seq] = /^([0-9a-f]{1,16}):(\d{1,20})$/.exec(text) ?? [];
  if (incarnation === undefined || seq === undefined || !Number.isSafeInteger(Number(seq))) return undefined;
  return { incarnation, seq: Number(seq) };
}

/** How far `from` is behind; `undefined` if it is of another life, or ahead. @param {Position} from @param {Position} head */
export function behind(from, head) {
  return from.incarnation === head.incarnation && from.seq <= head.seq ? head.seq - from.seq : undefined;
}

/** @param {Position} from @param {Position} head */
export function reload(from, head) {
  // Who is there already, or farther, would take a message with this position for one that it has seen.
  const to = behind(head, from) === undefined ? { position: head } : {};
  return JSON.stringify({ type: "full-reload", path: "*", ...to });
}

export class History {
  /** @param {SqlStorage} sql */
  constructor(sql) {
    this.sql = sql;
  }

  create() {
    // An entry is what was told together. `again` is of an entry that was told without a new position.
    this.sql.exec(
      "create table if not exists history (id integer primary key, entry integer not null, seq integer not null, " +
        "again integer not null, text text not null)",
    );
  }

  clear() {
    this.sql.exec("delete from history");
  }

  /**
   * Adds what was told, and forgets what is too old or too much.
   *
   * @param {number} seq
   * @param {boolean} again
   * @param {string[]} texts
   * @returns {number} whoever stands before this has missed what is gone; 0 if nothing went
   */
  add(seq, again, texts) {
    if (texts.length === 0) return 0;
    const { entry } = this.sql.exec("select coalesce(max(entry), 0) + 1 as entry from history").one();
    for (const text of texts) {
      this.sql.exec("insert into history (entry, seq, again, text) values (?, ?, ?, ?)", entry, seq, again ? 1 : 0, text);
    }
    let since = 0;
    for (;;) {
      const { n, bytes } = this.sql.exec("select count(*) as n, coalesce(sum(length(text)), 0) as bytes from history").one();
      if (Number(n) <= MOST_MESSAGES && Number(bytes) <= MOST_BYTES) return since;
      const oldest = this.sql.exec("select entry, seq, again from history order by id limit 1").one();
      // Who stands where a repeated message was told may have missed it.
      since = Math.max(since, Number(oldest.seq) + Number(oldest.again));
      this.sql.exec("delete from history where entry = ?", oldest.entry);
    }
  }

  /** What somebody has missed who stands at `seq`. @param {number} seq */
  since(seq) {
    const rows = this.sql.exec("select text from history where seq > ? or (again = 1 and seq = ?) order by id", seq, seq);
    return rows.toArray().map((row) => String(row.text));
  }
}
