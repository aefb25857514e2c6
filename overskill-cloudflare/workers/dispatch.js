// The Worker before all apps: finds out whose a request is and what serves it, and passes it on.

import { api, PREFIX as API } from "./api.js";
import { closed, MAIN } from "./closed.js";
import { fromApp, isFromElsewhere, toApp } from "./guard.js";
import { ingest, PREFIX as INGEST } from "./ingest.js";
import { plain, problem } from "./pages.js";
import { liveOf, scopeOfHost } from "./routes.js";
import { scopeOf, siteOf } from "./settings.js";
import { versionOf } from "./versions.js";

export { Egress } from "./egress.js";
export { PackageShelf } from "./shelf.js";
export { PreviewLobby } from "./lobby.js";
export { PreviewRoom } from "./room.js";
export { RouteTable } from "./routes.js";

/**
 * @import { Caller } from "./egress.js"
 * @import { Env, Scope } from "./settings.js"
 * @import { Live, Route } from "./routes.js"
 */

/** Paths of the platform itself, which no app has. */
const OURS = "/.overskill/";

export default {
  /** @param {Request} request @param {Env} env @param {ExecutionContext} ctx @returns {Promise<Response>} */
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    const site = siteOf(url.hostname, env.SETTINGS.domains);
    if ("own" in site) {
      if (url.pathname.startsWith(INGEST)) return ingest(request, url, env);
      return problem(request, 404, "Not found", "There is nothing here: each app has an address of its own.");
    }
    if ("label" in site) {
      const version = await versionOf(site.label, env);
      if (version) return looked(request, url, version.scope, version.script, env);
      return problem(request, 404, "No such app", `“${site.label}” is no address of an app.`);
    }
    const scope = "scope" in site ? site.scope : await connected(env, url.hostname);
    if (!scope) return problem(request, 404, "No such app", "This host name is not connected with an app.");
    if (url.pathname.startsWith(OURS)) return plain(404, "There is nothing here.");
    return serve(request, url, scope, env, ctx);
  },
};

/** @param {Env} env @param {string} hostname */
async function connected(env, hostname) {
  const [app = "", environment = ""] = (await scopeOfHost(env, hostname.toLowerCase().replace(/\.$/, "")))?.split("/") ?? [];
  return scopeOf(app, environment);
}

/** @param {Request} request @param {URL} url @param {Scope} scope @param {Env} env @param {ExecutionContext} ctx */
async function serve(request, url, scope, env, ctx) {
  const ancestors = env.SETTINGS.frame_ancestors;
  // Whatever a preview's host is asked for goes to its room first; elsewhere there is one only where it is noted.
  const room = scope.environment === "preview" ? env.ROOMS.getByName(scope.name) : undefined;
  const isApi = url.pathname.startsWith(API);
  if (room && !isApi) {
    const answer = await previewed(request, room, scope, env, ctx);
    if (answer) return answer;
  }
  const live = await liveOf(env, scope);
  if (isApi) {
    // An app has data once there is an app: else anybody fills the store under any name.
    const exists = live.route !== null || live.room || (room !== undefined && (await room.isOpened()));
    return exists ? api(request, url, scope, env) : Response.json({ error: "Nothing is open or live under this address." }, { status: 404 });
  }
  if (!room && live.room) {
    const answer = await previewed(request, env.ROOMS.getByName(scope.name), scope, env, ctx);
    if (answer) return answer;
  }
  if (live.route) return deployed(request, url, scope, live, live.route, env);
  const detail =
    scope.environment === "preview"
      ? `The preview of the app “${scope.app}” is not open: open it where the app is edited.`
      : `There is no app “${scope.app}” here, or it was never deployed.`;
  return problem(request, 404, scope.environment === "preview" ? "Not open" : "No such app", detail, ancestors);
}

/** What a preview shows, wherever that comes from; `undefined` if nobody opened it.
 *
 * @param {Request} request @param {{ fetch(request: Request): Promise<Response> }} room @param {Scope} scope @param {Env} env
 * @param {ExecutionContext} ctx */
async function previewed(request, room, scope, env, ctx) {
  const answer = await room.fetch(looking(request));
  const ancestors = env.SETTINGS.frame_ancestors;
  switch (answer.headers.get("x-overskill-room")) {
    case "server":
      return served(request, answer, scope, env, ctx);
    case "script":
      return shown(request, await scripted(request, answer, env), ancestors);
    case "closed":
      return undefined;
    default:
      return shown(request, answer, ancestors);
  }
}

/**
 * What the app's own script in the preview namespace makes of the file that the room names.
 *
 * @param {Request} request @param {Response} named the room's answer @param {Env} env
 */
async function scripted(request, named, env) {
  const held = request.headers.get("if-none-match");
  const headers = { "content-type": "application/json", ...(held === null ? {} : { "if-none-match": held }) };
  try {
    const script = env.PREVIEW?.get(named.headers.get("x-overskill-script") ?? "");
    if (!script) return plain(503, "This platform has no namespace for previews.");
    return await script.fetch(new Request(request.url, { method: "POST", headers, body: await named.text() }));
  } catch (error) {
    console.error(`the script of a preview failed: ${error}`);
    return plain(503, "This preview is being prepared: ask again soon.");
  }
}

/** A request as a room gets it: without its body, which may yet be for an app; who wants the head alone is given that here.
 * @param {Request} request */
const looking = ({ url, method, headers }) => new Request(url, { method: method === "HEAD" ? "GET" : method, headers });

/** What a room answered: sources are for the app's own pages. @param {Request} request @param {Response} answer
 * @param {string} [frameAncestors] */
function shown(request, answer, frameAncestors = "'self'") {
  if (answer.webSocket) return answer;
  const response = new Response(request.method === "HEAD" ? null : answer.body, answer);
  const { headers } = response;
  headers.set("x-content-type-options", "nosniff");
  headers.set("referrer-policy", "same-origin");
  headers.set("cross-origin-resource-policy", "same-origin");
  if (!headers.has("content-security-policy")) headers.set("content-security-policy", `frame-ancestors ${frameAncestors}`);
  return response;
}

/**
 * A preview's own server side: loaded where it is asked for, and told from every other by app and contents.
 *
 * @param {Request} request
 * @param {Response} answer the room's, which names it
 * @param {Scope} scope
 * @param {Env} env
 * @param {ExecutionContext} ctx
 */
async function served(request, answer, scope, env, ctx) {
  if (!env.LOADER) return problem(request, 503, "Not available", "This platform has no Worker Loader: the server side of previews needs it.");
  const id = answer.headers.get("x-overskill-server") ?? "";
  const { plan, limits } = planOf(await liveOf(env, scope), env);
  const { Egress } = /** @type {{ Egress(options: { props: Caller }): Fetcher }} */ (/** @type {unknown} */ (ctx.exports));
  const { domains } = env.SETTINGS;
  try {
    // What it may fetch is the plan's, so another plan loads it anew; and so does what is around it, whose number is the last.
    const worker = env.LOADER.get(`${scope.name}@${id}/${plan}/1`, async () => {
      const code = await env.ROOMS.getByName(scope.name).server(id);
      if (!code) throw new Error("Worker not found: it was changed meanwhile");
      const wasm = code.wasm.map(({ path, bytes }) => [path, { wasm: bytes.slice().buffer }]);
      return {
        mainModule: MAIN,
        modules: { ...Object.fromEntries(wasm), "main.js": { js: code.module }, ...closed("main.js") },
        compatibilityDate: code.date,
        compatibilityFlags: code.flags,
        env: code.env,
        globalOutbound: Egress({ props: { scope: scope.name, plan } }),
      };
    });
    return fromApp(await worker.getEntrypoint(undefined, { limits }).fetch(toApp(request)), domains);
  } catch (error) {
    return failed(request, scope, error);
  }
}

/** @param {Request} request @param {URL} url @param {Scope} scope @param {Live} live @param {Route} route @param {Env} env */
async function deployed(request, url, scope, live, route, env) {
  const { domains, targets } = env.SETTINGS;
  if (!targets.includes(route.target)) return proxied(request, url, route, domains);
  return run(request, scope, route.handle.reference, live, env);
}

/**
 * One version at an address of its own, whatever the route names: its pages and its code, and no data of the app's.
 *
 * @param {Request} request @param {URL} url @param {Scope} scope @param {string} script @param {Env} env
 */
async function looked(request, url, scope, script, env) {
  if (url.pathname.startsWith(OURS) || url.pathname.startsWith(API)) return plain(404, "There is nothing here.");
  const answer = await run(request, scope, script, await liveOf(env, scope), env);
  if (answer.webSocket) return answer;
  answer.headers.set("cache-control", "no-store");
  answer.headers.set("x-robots-tag", "noindex");
  return answer;
}

/** A script of an app, within the limits of its plan. @param {Request} request @param {Scope} scope @param {string} script
 * @param {Live} live @param {Env} env */
async function run(request, scope, script, live, env) {
  const { domains, outbound } = env.SETTINGS;
  if (!isOf(scope, script)) {
    console.error(`the route of ${scope.name} names a script of another app`);
    return problem(request, 503, "Not available", "This app's address leads to code that is not its own: deploy it again.");
  }
  const namespace = namespaceOf(scope, env);
  if (!namespace) return problem(request, 503, "Not available", `This platform has no namespace for ${scope.environment}.`);
  const { plan, limits } = planOf(live, env);
  try {
    const options = { limits, ...(outbound ? { outbound: { scope: scope.name, plan } } : {}) };
    return fromApp(await namespace.get(script, {}, options).fetch(toApp(request)), domains);
  } catch (error) {
    return failed(request, scope, error);
  }
}

/** Whether a script is one of the app's: `{app}`, or `{app}-` and more. No app's id has a dash. @param {Scope} scope
 * @param {string} script */
const isOf = ({ app }, script) => script === app || script.startsWith(`${app}-`);

/** The plan of an app, and the limits of its Workers. @param {Live} live @param {Env} env */
function planOf(live, env) {
  const { plans = {}, default_plan: fallback = "default" } = env.SETTINGS;
  const plan = live.plan !== null && Object.hasOwn(plans, live.plan) ? live.plan : fallback;
  const { hosts: _, ...limits } = plans[plan] ?? {};
  return { plan, limits };
}

/** @param {Scope} scope @param {Env} env */
function namespaceOf({ environment }, env) {
  if (environment === "production") return env.PRODUCTION;
  if (environment === "staging") return env.STAGING;
  return environment === "preview" ? env.PREVIEW : env.DEVELOPMENT;
}

/** @param {Request} request @param {Scope} scope @param {unknown} error */
function failed(request, scope, error) {
  const message = error instanceof Error ? error.message : String(error);
  if (message.startsWith("Worker not found")) {
    console.error(`the route of ${scope.name} names a script that is not there`);
    return problem(request, 503, "Not available", "This app is being deployed: try again soon.");
  }
  if (/exceeded|limit/i.test(message)) return problem(request, 503, "Over its limit", "This app used more than its plan allows: try again.");
  console.error(`${scope.name} failed: ${message}`);
  return problem(request, 500, "Something went wrong", "This app failed to answer.");
}

/** An app that runs elsewhere. @param {Request} request @param {URL} url @param {Route} route @param {string[]} domains */
async function proxied(request, url, route, domains) {
  if (!route.handle.url) return problem(request, 503, "Not available", "This app runs elsewhere, at no address that is known.");
  const base = new URL(route.handle.url);
  if (!("other" in siteOf(base.hostname, domains))) {
    return problem(request, 508, "Not available", "This app's address leads back here: deploy it again.");
  }
  const to = new URL(base);
  to.pathname = `${base.pathname.replace(/\/$/, "")}${url.pathname}`;
  to.search = url.search;
  try {
    const passed = toApp(request, to);
    passed.headers.set("x-forwarded-host", url.host);
    passed.headers.set("x-forwarded-proto", url.protocol.slice(0, -1));
    // It is same-origin for the app as it is for its viewers.
    if (passed.headers.has("origin") && !isFromElsewhere(request, url)) passed.headers.set("origin", base.origin);
    const answer = fromApp(await fetch(passed), domains);
    const location = answer.headers.get("location");
    if (location && URL.canParse(location, to)) {
      const next = new URL(location, to);
      if (next.origin === base.origin) answer.headers.set("location", `${url.origin}${next.pathname}${next.search}${next.hash}`);
    }
    return answer;
  } catch (error) {
    console.error(`a platform did not answer: ${error}`);
    return problem(request, 502, "Not available", "This app does not answer now: try again soon.");
  }
}
