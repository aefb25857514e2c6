// /api/entities/{Entity} and /api/entities/{Entity}/{id}, by functions of the database through PostgREST. The app and the owner
// are the database's to fill in. Records pass through as text: a number of JavaScript's is not every number of JSON's.

import { invalid, notFound, nothing, Refused, text, wrongMethod } from "./answers.ts";
import type { Behind } from "./gateway.ts";
import type { Caller } from "./token.ts";

const PROFILE = { "content-profile": "overskill_data", "content-type": "application/json" };
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
const NAMES = "1 to 64 of A-Z, a-z, 0-9 and _, not beginning with a digit";
const ID = /^(?!\.+$)[A-Za-z0-9_.-]{1,64}$/;
const NUMBER = /^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$/;
const MAX_RECORD_BYTES = 256 * 1024;
const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1000;
const MAX_OFFSET = 2 ** 32 - 1;
const MAX_FILTERS = 16;
const TAKEN = "There is one with this id already.";

// A body, as it came and as it was understood.
interface Body {
  readonly text: string;
  readonly id: unknown;
}

export async function entities(
  request: Request,
  path: string[],
  query: URLSearchParams,
  caller: Caller,
  behind: Behind,
): Promise<Response> {
  const [kind, id, ...more] = path;
  if (kind === undefined || more.length > 0) {
    throw notFound("The path must be /api/entities/{Entity} or /api/entities/{Entity}/{id}.");
  }
  if (!NAME.test(kind)) throw invalid(`entity name must be ${NAMES}.`);
  const ask = (name: string, given: Record<string, string>) => call(name, { kind, ...given }, behind);
  if (id === undefined) {
    if (request.method === "GET" || request.method === "HEAD") {
      return text(200, await ask("list_records", { asked: JSON.stringify(asked(query)) }));
    }
    if (request.method === "POST") return await create(kind, await bodyOf(request), caller, behind);
    throw wrongMethod("GET, HEAD or POST");
  }
  const found = (record: string) => {
    if (record === "null" || record === "false") throw notFound("There is no such record.");
    return record;
  };
  if (!ID.test(id)) throw notFound("There is no such record.");
  switch (request.method) {
    case "GET":
    case "HEAD":
      return text(200, found(await ask("read_record", { id })));
    case "PUT":
    case "PATCH": {
      const body = await bodyOf(request);
      if (body.id !== undefined && body.id !== id) {
        throw invalid("field `id` must be the one in the path, or be left out.");
      }
      const merges = String(request.method === "PATCH");
      return text(200, found(await ask("change_record", { id, fields: body.text, merges })));
    }
    case "DELETE":
      found(await ask("delete_record", { id }));
      return nothing();
    default:
      throw wrongMethod("GET, HEAD, PUT, PATCH or DELETE");
  }
}

// What a list is asked for: `limit`, `offset` or `cursor`, `sort`, and filters by any other name.
function asked(query: URLSearchParams): Record<string, unknown> {
  let [limit, offset, sort] = [DEFAULT_LIMIT, undefined as number | undefined, "created_at"];
  let cursor: string | undefined;
  const filters: (string | null)[][] = [];
  for (const [name, value] of query) {
    if (name === "limit") {
      limit = /^[0-9]{1,4}$/.test(value) ? Number(value) : 0;
      if (limit < 1 || limit > MAX_LIMIT) throw invalid("limit must be 1 to 1,000.");
    } else if (name === "offset") {
      offset = /^[0-9]{1,10}$/.test(value) ? Number(value) : Infinity;
      if (offset > MAX_OFFSET) throw invalid("offset must be a whole number.");
    } else if (name === "cursor") {
      cursor = value;
    } else if (name === "sort") {
      if (!NAME.test(value.replace(/^-/, ""))) throw invalid(`sort must be ${NAMES}, with - before it or without.`);
      sort = value;
    } else {
      if (!NAME.test(name)) throw invalid(`filter must be ${NAMES}.`);
      if (filters.push([name, value, numberOf(value)]) > MAX_FILTERS) throw invalid("There may be at most 16 filters.");
    }
  }
  if (cursor !== undefined && offset !== undefined) throw invalid("offset may not stand beside a cursor.");
  const field = sort.replace(/^-/, "");
  const known: Record<string, string> = {
    created_at: "created",
    created_date: "created",
    updated_at: "updated",
    updated_date: "updated",
    id: "id",
  };
  const by = Object.hasOwn(known, field) ? known[field] : "field";
  const of = by === "updated" ? /^u[0-9]{1,18}\.[0-9]{1,18}\.(.*)$/ : /^r(.*)$/;
  if (cursor !== undefined && !ID.test(of.exec(cursor)?.[1] ?? "")) {
    throw invalid("cursor must be what `next` was in the page before, with the sort that it came from.");
  }
  return {
    limit,
    offset: offset ?? 0,
    cursor: cursor ?? null,
    sort: by,
    field,
    descending: sort.startsWith("-"),
    filters,
  };
}

function numberOf(value: string): string | null {
  return NUMBER.test(value) && Number.isFinite(Number(value)) ? value : null;
}

async function create(kind: string, body: Body, caller: Caller, behind: Behind): Promise<Response> {
  const id = body.id ?? crypto.randomUUID();
  if (typeof id !== "string" || !ID.test(id)) throw invalid("field `id` must be 1 to 64 of A-Z, a-z, 0-9, _, - and .");
  const make = () => call("make_record", { kind, id, fields: body.text }, behind);
  let record: string;
  try {
    record = await make();
  } catch (error) {
    // The first record of an app: the database does not know it yet, and takes it in by its signed context.
    if (!(error instanceof Refused) || error.status !== 403) throw error;
    if (await call("enter", { context: caller.context }, behind) !== "true") throw error;
    record = await make();
  }
  if (record === "null") throw new Refused(409, TAKEN);
  return text(201, record);
}

// Throws unless the database takes the caller's context, and the app is not suspended.
export async function admitted(behind: Behind): Promise<void> {
  await call("admitted", {}, behind);
}

// A function of the database's, as the caller.
async function call(name: string, given: Record<string, string>, behind: Behind): Promise<string> {
  const answer = await behind("POST", `/rest/v1/rpc/${name}`, { headers: PROFILE, body: JSON.stringify(given) });
  return (await answer.text()).trim();
}

async function bodyOf(request: Request): Promise<Body> {
  const type = (request.headers.get("content-type") ?? "").split(";")[0].trim().toLowerCase();
  if (type !== "application/json") throw new Refused(415, "Send application/json.");
  const text = await limited(request, MAX_RECORD_BYTES);
  let value: unknown;
  try {
    value = JSON.parse(text, (_, part) => {
      // Too large a number is one for the database, and none for whoever reads it.
      if (part === Infinity || part === -Infinity) throw new Error();
      return part;
    });
  } catch {
    throw invalid("The body must be a JSON object.");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid("The body must be a JSON object.");
  }
  const wrong = Object.keys(value).find((name) => !NAME.test(name) || name === "__proto__");
  if (wrong !== undefined) throw invalid(`field name must be ${NAMES}.`);
  const id = Object.hasOwn(value, "id") ? (value as { id: unknown }).id : undefined;
  return { text, id: id === null ? undefined : id };
}

async function limited(request: Request, most: number): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of request.body ?? []) {
    bytes += part.length;
    if (bytes > most) throw new Refused(413, `A record is at most ${most} bytes.`);
    parts.push(part);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await new Blob(parts as BlobPart[]).arrayBuffer());
  } catch {
    throw invalid("The body is no UTF-8.");
  }
}
