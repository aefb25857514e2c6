// /api/entities/{Entity} and /api/entities/{Entity}/{id} over PostgREST. The app and the owner are the database's to fill in.

import { invalid, json, notFound, nothing, Refused, wrongMethod } from "./answers.ts";
import type { Behind } from "./gateway.ts";
import type { Caller } from "./token.ts";

const TABLE = "/rest/v1/entities";
const ENTER = "/rest/v1/rpc/enter";
const SCHEMA = { "accept-profile": "overskill_data", "content-profile": "overskill_data" };
const COLUMNS = "id,data,created_at,updated_at,placed";
const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
const ID = /^[A-Za-z0-9_.-]{1,64}$/;
const MAX_RECORD_BYTES = 256 * 1024;
const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1000;
const OWN = ["id", "created_at", "updated_at"];

type Fields = Record<string, unknown>;
interface Row {
  id: string;
  data: Fields;
  created_at: string;
  updated_at: string;
  placed: string;
}

export async function entities(
  request: Request,
  path: string[],
  query: URLSearchParams,
  caller: Caller,
  behind: Behind,
): Promise<Response> {
  const [entity, id, ...more] = path;
  if (entity === undefined || more.length > 0) throw notFound();
  if (!NAME.test(entity)) throw invalid("An entity's name is 1 to 64 of A-Z a-z 0-9 _, not beginning with a digit.");
  if (id === undefined) {
    if (request.method === "GET" || request.method === "HEAD") return await list(entity, query, behind);
    if (request.method === "POST") return await create(entity, await fieldsOf(request), caller, behind);
    throw wrongMethod("GET, HEAD or POST");
  }
  if (!ID.test(id)) throw notFound();
  switch (request.method) {
    case "GET":
    case "HEAD":
      return json(200, shown(await read(entity, id, behind)));
    case "PUT":
      return json(200, shown(await write(entity, id, { data: own(await fieldsOf(request)) }, behind)));
    case "PATCH":
      return json(200, shown(await merge(entity, id, own(await fieldsOf(request)), behind)));
    case "DELETE":
      await write(entity, id, { deleted_at: new Date().toISOString() }, behind);
      return nothing();
    default:
      throw wrongMethod("GET, HEAD, PUT, PATCH or DELETE");
  }
}

async function list(entity: string, query: URLSearchParams, behind: Behind): Promise<Response> {
  const wanted = new URLSearchParams({ select: COLUMNS, entity_type: `eq.${entity}`, deleted_at: "is.null" });
  let [limit, order] = [DEFAULT_LIMIT, "placed.asc,id.asc"];
  let cursor: string | undefined;
  for (const [name, value] of query) {
    if (name === "limit") {
      limit = /^[0-9]{1,4}$/.test(value) ? Number(value) : 0;
      if (limit < 1 || limit > MAX_LIMIT) throw invalid(`limit is 1 to ${MAX_LIMIT}.`);
    } else if (name === "cursor") {
      cursor = value;
    } else if (name === "sort") {
      if (value !== "created_at" && value !== "-created_at") throw invalid("sort is created_at or -created_at here.");
      order = value.startsWith("-") ? "placed.desc,id.desc" : order;
    } else if (NAME.test(name)) {
      wanted.append(name === "id" ? "id" : `data->>${name}`, `eq.${value}`);
    } else {
      throw invalid("A filter's name is that of a field.");
    }
  }
  wanted.set("order", order);
  if (cursor !== undefined) {
    const seen = /^([0-9T:.+Z-]{20,40})~([A-Za-z0-9_.-]{1,64})$/.exec(cursor);
    if (!seen) throw invalid("cursor is what `next` was.");
    const than = order.includes("desc") ? "lt" : "gt";
    const [placed, id] = [`"${seen[1]}"`, `"${seen[2]}"`];
    wanted.set("or", `(placed.${than}.${placed},and(placed.eq.${placed},id.${than}.${id}))`);
  }
  wanted.set("limit", String(limit + 1));
  const answer = await behind("GET", `${TABLE}?${wanted}`, { headers: SCHEMA });
  const rows: Row[] = await answer.json();
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  return json(200, { items: rows.slice(0, limit).map(shown), next: last ? `${last.placed}~${last.id}` : null });
}

async function create(entity: string, fields: Fields, caller: Caller, behind: Behind): Promise<Response> {
  const id = fields.id ?? crypto.randomUUID();
  if (typeof id !== "string" || !ID.test(id)) throw invalid("id is 1 to 64 of A-Z a-z 0-9 _ . -");
  const make = () => send("POST", new URLSearchParams(), { entity_type: entity, id, data: own(fields) }, behind);
  let rows: Row[];
  try {
    rows = await make();
  } catch (error) {
    // The first record of an app: the database does not know it yet, and takes it in by its signed context.
    if (!(error instanceof Refused) || error.status !== 403 || !await entered(caller, behind)) throw error;
    rows = await make();
  }
  return json(201, shown(rows[0]));
}

async function entered(caller: Caller, behind: Behind): Promise<boolean> {
  const headers = { ...SCHEMA, "content-type": "application/json" };
  const answer = await behind("POST", ENTER, { headers, body: JSON.stringify({ context: caller.context }) });
  return await answer.json() === true;
}

async function read(entity: string, id: string, behind: Behind): Promise<Row> {
  const wanted = one(entity, id);
  wanted.set("select", COLUMNS);
  const rows: Row[] = await (await behind("GET", `${TABLE}?${wanted}`, { headers: SCHEMA })).json();
  if (rows.length !== 1) throw notFound();
  return rows[0];
}

async function write(
  entity: string,
  id: string,
  change: Record<string, unknown>,
  behind: Behind,
  seen?: string,
): Promise<Row> {
  const which = one(entity, id);
  if (seen !== undefined) which.set("updated_at", `eq.${seen}`);
  const rows = await send("PATCH", which, { ...change, updated_at: new Date().toISOString() }, behind);
  if (rows.length !== 1) throw notFound();
  return rows[0];
}

// Reads and writes back what nobody changed in between.
async function merge(entity: string, id: string, fields: Fields, behind: Behind): Promise<Row> {
  for (let turn = 0; turn < 5; turn++) {
    const row = await read(entity, id, behind);
    const merged = Object.entries({ ...row.data, ...fields }).filter(([, value]) => value !== null);
    try {
      return await write(entity, id, { data: Object.fromEntries(merged) }, behind, row.updated_at);
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 404) throw error;
    }
  }
  throw new Refused(409, "It was changed in the meantime.");
}

async function send(
  method: string,
  which: URLSearchParams,
  body: Record<string, unknown>,
  behind: Behind,
): Promise<Row[]> {
  which.set("select", COLUMNS);
  const headers = { ...SCHEMA, "content-type": "application/json", prefer: "return=representation" };
  const answer = await behind(method, `${TABLE}?${which}`, { headers, body: JSON.stringify(body) });
  return await answer.json();
}

function one(entity: string, id: string): URLSearchParams {
  return new URLSearchParams({ entity_type: `eq.${entity}`, id: `eq.${id}`, deleted_at: "is.null" });
}

function shown(row: Row): Fields {
  return { ...row.data, id: row.id, created_at: row.created_at, updated_at: row.updated_at };
}

// Fields that are the record's own may be repeated, and change nothing.
function own(fields: Fields): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !OWN.includes(name)));
}

async function fieldsOf(request: Request): Promise<Fields> {
  const type = (request.headers.get("content-type") ?? "").split(";")[0].trim().toLowerCase();
  if (type !== "application/json") throw new Refused(415, "Send application/json.");
  const text = await limited(request, MAX_RECORD_BYTES);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid("The body is no JSON.");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw invalid("The body is no JSON object.");
  const wrong = Object.keys(value).find((name) => !NAME.test(name) || name === "__proto__");
  if (wrong !== undefined) throw invalid("A field's name is 1 to 64 of A-Z a-z 0-9 _, not beginning with a digit.");
  return value as Fields;
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
