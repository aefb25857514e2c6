// What this deployment of the Workers is for: the bindings, and the settings among them.

/**
 * @import { PreviewRoom } from "./room.js"
 * @import { RouteTable } from "./routes.js"
 * @import { PackageShelf } from "./shelf.js"
 * @import { PreviewLobby } from "./lobby.js"
 *
 * @typedef {{ app: string, environment: string, name: string }} Scope an app in an environment; its name is `app/environment`
 *
 * @typedef {object} Settings
 * @property {string[]} domains where apps are: `{prefix}{app}.{domain}`; the first is where previews say that they are
 * @property {string[]} targets names of the targets whose handles are scripts in the namespaces; others are proxied to
 * @property {Record<string, { cpuMs?: number, subRequests?: number, hosts?: string[] }>} [plans] limits of user Workers, by plan;
 *   `hosts`: the only ones that their code may fetch, with what is within them
 * @property {{ allow?: string[], deny?: string[] }} [egress] hosts that no code may fetch, and those that any may although they
 *   are addresses or names of a network of its own
 * @property {string} [default_plan] the plan of apps that have none
 * @property {string} [frame_ancestors] who may show previews in a frame: `'self' https://builder.example`
 * @property {string} [upstream] where `/api/*` goes: a URL that the scope and the path are added to
 * @property {{ issuer: string, audience: string, ttl_seconds: number }} [tokens] of the apps' tokens
 * @property {number} [max_api_body_bytes]
 * @property {boolean} [outbound] whether the namespaces have an outbound Worker, which is told the scope and the plan
 * @property {number} [room_idle_hours] after how long without anybody a room gives up its files
 *
 * @typedef {object} Env
 * @property {Settings} SETTINGS
 * @property {string} INGEST_KEYS JSON: secret keys by their ids, 64 hex digits each
 * @property {string} SOCKET_KEY what the tokens of sockets are made of
 * @property {string} [APP_TOKEN_KEY] JSON: `{ "kid", "pkcs8" }`, an ES256 key as PKCS #8 in base64url
 * @property {DurableObjectNamespace<RouteTable>} ROUTES
 * @property {DurableObjectNamespace<PreviewRoom>} ROOMS
 * @property {DurableObjectNamespace<PackageShelf>} SHELVES
 * @property {DurableObjectNamespace<PreviewLobby>} LOBBY
 * @property {DispatchNamespace} [PRODUCTION]
 * @property {DispatchNamespace} [STAGING]
 * @property {DispatchNamespace} [PREVIEW]
 * @property {DispatchNamespace} [DEVELOPMENT]
 * @property {WorkerLoader} [LOADER] loads the server sides of previews
 */

/** What stands before an app's id in a host name, by environment. */
export const PREFIXES = { production: "", staging: "staging-", preview: "preview-", development: "dev-" };

/** Names that mean something else on a platform's domain. */
const RESERVED = new Set(
  (
    "admin api app apps assets auth cdn console dev docs ftp help localhost mail overskill preview production root staging " +
    "static status support test www"
  ).split(" "),
);

/** @param {string} id */
const isApp = (id) => /^[a-z0-9]{1,32}$/.test(id) && !RESERVED.has(id);

/** @param {string} app @param {string} environment @returns {Scope | undefined} */
export function scopeOf(app, environment) {
  return isApp(app) && Object.hasOwn(PREFIXES, environment) ? { app, environment, name: `${app}/${environment}` } : undefined;
}

/** The scope that the first label of a host names. @param {string} label */
export function scopeOfLabel(label) {
  const dash = label.indexOf("-");
  const prefix = label.slice(0, dash + 1);
  const found = Object.entries(PREFIXES).find(([, known]) => known === prefix);
  return found && scopeOf(label.slice(dash + 1), found[0]);
}

/**
 * What a host name is: the platform's own, an app's, one of ours that is no app's, or somebody else's.
 *
 * @param {string} hostname without a port
 * @param {string[]} domains
 * @returns {{ own: true } | { scope: Scope } | { label: string } | { other: true }}
 */
export function siteOf(hostname, domains) {
  // With a dot at its end it is the same host.
  const name = hostname.toLowerCase().replace(/\.$/, "");
  // Of a domain within another, the longer is meant.
  const domain = domains.filter((it) => name === it || name.endsWith(`.${it}`)).sort((a, b) => b.length - a.length)[0];
  if (domain === undefined) return { other: true };
  if (name === domain) return { own: true };
  const label = name.slice(0, -domain.length - 1);
  const scope = scopeOfLabel(label);
  return scope ? { scope } : { label };
}
