// Everything outside of the dispatch Worker: the scripts in the namespaces, the upstream of `/api/*`, other platforms.

/** @type {Map<string, { version: number, code: string, env: Record<string, string> }>} */
const scripts = new Map();
/** What the provider keeps of what is fetched, by address: one cache for all Workers of the account. @type {Map<string, string>} */
const zone = new Map();
/** What came in, by host. @type {Record<string, unknown>[]} */
let seen = [];

export default {
  /** @param {Request} request */
  async fetch(request) {
    const url = new URL(request.url);
    if (url.hostname === "control") return control(request, url);
    if (url.hostname === "zone") return zoned(request, url);
    /** @type {{ cacheLevel?: string, resolveOverride?: string }} */
    const options = request.cf ?? {};
    if (options.resolveOverride) url.hostname = options.resolveOverride;
    const mayKeep = request.method === "GET" && options.cacheLevel !== "bypass";
    const kept = mayKeep ? zone.get(url.href) : undefined;
    if (kept !== undefined) return new Response(kept);
    const answer = await answered(request, url);
    if (mayKeep && url.pathname.includes("/kept/")) zone.set(url.href, await answer.clone().text());
    return answer;
  },
};

/** @param {Request} request @param {URL} url */
async function answered(request, url) {
  const body = await request.text();
  seen.push({ method: request.method, url: request.url, headers: Object.fromEntries(request.headers), body });
  // Both can send whoever asks on to data of their choice.
  const [, path] = /\/moved-to\/(.*)$/.exec(url.pathname) ?? [];
  if (path !== undefined) return new Response(null, { status: 302, headers: { location: `http://data.test/v1/${path}` } });
  if (url.hostname === "data.test") {
    const headers = new Headers({ "content-type": "application/json", "x-total": "7" });
    for (const [name, value] of [
      ["set-cookie", "a=b; Domain=localhost"],
      ["access-control-allow-origin", "*"],
      ["x-overskill-room", "closed"],
    ]) {
      headers.append(name ?? "", value ?? "");
    }
    return new Response(JSON.stringify({ method: request.method, url: url.href, body }), { headers });
  }
  if (url.hostname === "elsewhere.test") {
    if (url.pathname.endsWith("/moved")) return new Response(null, { status: 302, headers: { location: "/base/there?x=1" } });
    const headers = { "set-cookie": "s=1; Domain=.localhost; Path=/; HttpOnly", "alt-svc": "h3=\":443\"" };
    const says = request.headers.get("x-says") ?? "";
    return new Response(`elsewhere: ${request.method} ${url.pathname}${url.search} ${body}${says}`, { headers });
  }
  return new Response("nobody is there", { status: 502 });
}

/** The cache for code that is loaded: `?url=`. @param {Request} request @param {URL} url */
async function zoned(request, url) {
  const at = url.searchParams.get("url") ?? "";
  if (request.method === "PUT") zone.set(at, await request.text());
  if (request.method === "DELETE") return new Response(null, { status: zone.delete(at) ? 200 : 404 });
  const kept = zone.get(at);
  return kept === undefined ? new Response(null, { status: 404 }) : new Response(kept);
}

/** @param {Request} request @param {URL} url */
async function control(request, url) {
  const path = url.pathname;
  if (path.startsWith("/script/")) {
    const name = path.slice("/script/".length);
    if (request.method === "PUT") {
      const version = (scripts.get(name)?.version ?? 0) + 1;
      const { code, env } = /** @type {any} */ (await request.json());
      scripts.set(name, { version, code, env });
      return new Response("put");
    }
    const script = scripts.get(name);
    return script ? Response.json(script) : new Response(null, { status: 404 });
  }
  if (path === "/seen") {
    const answer = Response.json(seen);
    if (url.search === "?take") seen = [];
    return answer;
  }
  return new Response(null, { status: 404 });
}
