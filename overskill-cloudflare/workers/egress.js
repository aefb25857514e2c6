// What apps' own code fetches: to the public internet by name, and nowhere near the platform. See docs/protocols/egress.md.

import { WorkerEntrypoint } from "cloudflare:workers";
import { siteOf } from "./settings.js";

/**
 * @import { Settings } from "./settings.js"
 * @typedef {{ scope: string, plan: string }} Caller whose code it is; the dispatch Worker says so
 * @typedef {Pick<Settings, "domains" | "upstream" | "egress" | "plans">} Rules
 */

/** Names that never mean something in public: of one machine, of one network, of the clouds' own services. */
const INSIDE = "localhost local internal intranet lan home corp private arpa test invalid example onion alt".split(" ");
const PORTS = ["", "80", "443", "8080", "8443"];

/** What goes no further: it would tell where it runs, or pass for something that the platform or the edge said. */
const NOT_OUT =
  /^(x-overskill-.*|cf-(connecting-ip|connecting-o2o|ew-via|ipcountry|ray|visitor|worker)|x-forwarded-.*|x-real-ip|forwarded|via|cdn-loop|true-client-ip)$/;

/**
 * Why an address may not be fetched, for the app's author; `undefined` for one that may.
 *
 * @param {URL} url @param {Caller} caller @param {Rules} rules
 */
export function refusal(url, caller, { domains, upstream, egress = {}, plans = {} }) {
  if (url.protocol !== "http:" && url.protocol !== "https:") return "the scheme must be http or https";
  const host = url.hostname.toLowerCase().replace(/\.+$/, "");
  // The platform first: no setting opens it.
  if (!("other" in siteOf(host, domains))) return "the host is the platform's own";
  if (upstream && host === new URL(upstream).hostname.toLowerCase()) return "the host is the platform's own";
  if (within(host, egress.deny ?? [])) return "the host is not allowed on this platform";
  const hosts = Object.hasOwn(plans, caller.plan) ? plans[caller.plan]?.hosts : undefined;
  if (hosts && !within(host, hosts)) return `the host is not among those of the plan “${caller.plan}”`;
  if (within(host, egress.allow ?? [])) return undefined;
  if (host.startsWith("[") || /^\d+(\.\d+){3}$/.test(host)) return "the host must be a name, and no address";
  if (!host.includes(".") || within(host, INSIDE)) return "the host must be a public name";
  if (!PORTS.includes(url.port)) return `the port must be ${PORTS.filter(Boolean).join(", ")}`;
  return undefined;
}

/** Whether a host is one of these names, or within one. @param {string} host @param {string[]} names */
const within = (host, names) => names.some((name) => host === name || host.endsWith(`.${name}`));

/**
 * Sends what an app's code fetches, if it may. Redirects come back to that code, which follows them through here.
 *
 * @param {Request} request @param {Caller | undefined} caller @param {Rules} rules
 */
export async function pass(request, caller, rules) {
  const url = new URL(request.url);
  const why = caller === undefined ? "nobody said whose code it is" : refusal(url, caller, rules);
  if (caller === undefined || why !== undefined) {
    console.warn(`${caller?.scope ?? "somebody"} may not fetch ${url.protocol}//${url.host}: ${why}`);
    const headers = { "content-type": "text/plain; charset=utf-8", "x-egress-refused": "1" };
    return new Response(`This app may not fetch that: ${why}.\n`, { status: 403, headers });
  }
  const headers = new Headers(request.headers);
  for (const name of [...headers.keys()]) if (NOT_OUT.test(name)) headers.delete(name);
  // Whoever is called too often, or worse, can say by whom.
  headers.set("via", `1.1 overskill (${caller.scope})`);
  try {
    // The caller's options for the edge would be ours here, as would its cache, which all apps would share.
    return await fetch(new Request(request, { headers, redirect: "manual", cf: {}, cache: "no-store" }));
  } catch (error) {
    console.warn(`${caller.scope} fetched ${url.host}, which failed: ${error}`);
    return new Response(`${url.host} does not answer.\n`, { status: 502, headers: { "content-type": "text/plain; charset=utf-8" } });
  }
}

/** The same for code that the dispatch Worker loads itself; its props are the caller. @extends {WorkerEntrypoint<{ SETTINGS: Settings }, Caller>} */
export class Egress extends WorkerEntrypoint {
  /** @param {Request} request @override */
  fetch(request) {
    return pass(request, this.ctx.props, this.env.SETTINGS);
  }
}
