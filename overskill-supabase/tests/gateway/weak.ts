// The weak twin: a gateway as people write them, on the project's secret key, sound but for one hole.

import { callerOf, readKeys } from "../../functions/gateway/token.ts";

const env = (name: string) => Deno.env.get(name)!;
const [url, secret, hole] = [env("SUPABASE_URL"), env("SUPABASE_SERVICE_ROLE_KEY"), env("HOLE")];
const ids: Record<string, number> = JSON.parse(env("APP_IDS"));
const issuer = { issuer: env("OVERSKILL_ISSUER"), audience: "authenticated", keys: await readKeys(env("OVERSKILL_JWKS")) };
const cache = new Map<string, string>();

// deno-lint-ignore no-explicit-any
type Any = any;
const claims = (token: string): Any => JSON.parse(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
const appOf = (token: string): string => claims(token).tenant.split("_")[1];

async function app(request: Request): Promise<string> {
  const field = request.headers.get("authorization") ?? "";
  if (hole === "algorithm_none") {
    const token = field.replace("Bearer ", "");
    if (JSON.parse(atob(token.split(".")[0])).alg === "none") return appOf(token);
  }
  if (hole === "two_tokens" && field.includes(", ")) {
    const [first, second] = field.split(", ");
    await callerOf(new Request("http://x", { headers: { authorization: first } }), issuer);
    return appOf(second.replace("Bearer ", ""));
  }
  const caller = await callerOf(request, issuer);
  const context: Any = {};
  if (hole === "header_names_app") context.app = request.headers.get("x-app-id") ?? undefined;
  return context.app ?? caller.app;
}

function merge(into: Any, from: Any): Any {
  for (const name of Object.keys(from)) {
    if (typeof from[name] === "object" && from[name] !== null) merge(into[name] ??= {}, from[name]);
    else into[name] = from[name];
  }
  return into;
}

async function behind(request: Request, path: string, more: RequestInit & { profile?: string } = {}): Promise<Response> {
  const host = hole === "host_is_believed" ? request.headers.get("x-forwarded-host") : null;
  const passed = hole === "headers_passed_on" ? Object.fromEntries(request.headers) : {};
  for (const name of ["host", "authorization", "content-length", "connection"]) delete passed[name];
  const profile = { "accept-profile": "plain", "content-profile": "plain" };
  const headers = { "content-type": "application/json", prefer: "return=representation", ...profile, ...passed };
  const answer = await fetch(new URL(path, host ? `http://${host}` : url), {
    ...more,
    headers: { ...headers, apikey: secret, authorization: `Bearer ${secret}` },
  });
  if (!answer.ok) throw new Error(`${answer.status} from ${answer.url}: ${await answer.text()}`);
  return answer;
}

async function handle(request: Request): Promise<Response> {
  const at = request.url.indexOf("/api/");
  const [, area, ...rest] = request.url.slice(at).split("?")[0].split("/").slice(1);
  const mine = await app(request);
  const known = cache.get(request.url);
  if (known && request.method === "GET" && hole === "answers_kept_by_url") return new Response(known);
  if (area === "storage") {
    let path = rest.join("/");
    if (hole === "path_joined_decoded") path = decodeURIComponent(path);
    else if (hole === "path_decoded_twice") {
      if (decodeURIComponent(path).includes("..")) throw new Error("no");
      path = decodeURIComponent(decodeURIComponent(path));
    } else if (hole === "backslashes_forgotten") {
      path = decodeURIComponent(path);
      if (path.includes("../")) throw new Error("no");
    } else path = path.split("/").map(decodeURIComponent).map(encodeURIComponent).join("/");
    return await behind(request, `/storage/v1/object/authenticated/apps/${mine}/production/${path}`);
  }
  const [entity] = rest.map(decodeURIComponent);
  if (request.method === "POST") {
    const body = await request.json();
    if (hole === "objects_merged") merge({}, body);
    const own = { app_id: ids[mine], entity_type: entity, id: crypto.randomUUID(), owner: "somebody", access: 2 };
    const row = hole === "body_spread_last" ? { ...own, data: {}, ...body } : { ...own, data: body };
    return await behind(request, "/rest/v1/entities", { method: "POST", body: JSON.stringify(row) });
  }
  const query = new URLSearchParams({ select: "data", app_id: `eq.${ids[mine]}` });
  const filter = hole === "filter_pasted"
    ? `&or=(and(app_id.eq.${ids[mine]},entity_type.eq.${encodeURIComponent(entity)}))`.replace(/^/, "")
    : `&entity_type=eq.${encodeURIComponent(entity)}`;
  if (hole === "filter_pasted") query.delete("app_id");
  const text = await (await behind(request, `/rest/v1/entities?${query}${filter}`)).text();
  cache.set(request.url, text);
  return new Response(text);
}

Deno.serve({ onListen: ({ port }) => console.log(`listening on ${port}`) }, async (request) => {
  try {
    return await handle(request);
  } catch (error) {
    return new Response(hole === "errors_told" ? String(error) : "Something went wrong.", { status: 500 });
  }
});
