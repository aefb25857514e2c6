// Who may ask for what: origins, headers that may pass, and paths.

/**
 * Whether a page of another origin asks. What no browser sent has no origin, and is the user's own.
 *
 * @param {Request} request
 * @param {URL} url
 */
export function isFromElsewhere(request, url) {
  const origin = request.headers.get("origin");
  if (origin !== null) return origin.toLowerCase() !== url.origin;
  const site = request.headers.get("sec-fetch-site");
  // Apps are one another's `same-site`: that is not enough.
  return site !== null && site !== "same-origin" && site !== "none";
}

/** Names that only the platform may set, towards apps and towards viewers. */
const OURS = /^x-overskill-/;

/** What a request may not bring to an app: it would look as if the platform or the edge had said it. */
const NOT_TO_APPS = new Set(
  (
    "cf-worker cf-ew-via cf-visitor forwarded x-forwarded-host x-forwarded-server x-real-ip x-client-ip true-client-ip via " +
    "x-original-url x-rewrite-url"
  ).split(" "),
);

/**
 * The request as an app gets it.
 *
 * @param {Request} request
 * @param {string | URL} [to] another address
 */
export function toApp(request, to) {
  const headers = new Headers(request.headers);
  for (const name of [...headers.keys()]) if (OURS.test(name) || NOT_TO_APPS.has(name)) headers.delete(name);
  // A redirect is the app's answer: it is for the browser to follow.
  const cleaned = new Request(request, { headers, redirect: "manual" });
  return to === undefined ? cleaned : new Request(to, cleaned);
}

/**
 * An app's answer as viewers get it. Its cookies stay its own: one for a whole domain would go to every other app.
 *
 * @param {Response} response
 * @param {string[]} domains
 */
export function fromApp(response, domains) {
  // The answer that opens a socket has headers too.
  const { webSocket, status, headers } = response;
  const answer = webSocket ? new Response(null, { status, webSocket, headers }) : new Response(response.body, response);
  for (const name of [...answer.headers.keys()]) if (OURS.test(name) || name === "alt-svc") answer.headers.delete(name);
  const cookies = response.headers.getSetCookie();
  answer.headers.delete("set-cookie");
  for (const cookie of cookies) answer.headers.append("set-cookie", ownCookie(cookie, domains));
  answer.headers.set("x-content-type-options", "nosniff");
  return answer;
}

/** @param {string} cookie @param {string[]} domains */
function ownCookie(cookie, domains) {
  const parts = cookie.split(";");
  const kept = parts.filter((part, index) => {
    const [, domain] = (index > 0 && /^\s*domain\s*=(.*)$/i.exec(part)) || [];
    if (domain === undefined) return true;
    const told = domain.trim().toLowerCase();
    // What is no plain name may become one in a browser that decodes it.
    if (!/^[a-z0-9.-]{0,255}$/.test(told)) return false;
    // A dot before it or at its end makes it no other.
    const name = told.replace(/^\.+|\.+$/g, "");
    // A domain of ours, one above it, or one within it.
    return !domains.some((ours) => name === ours || ours.endsWith(`.${name}`) || name.endsWith(`.${ours}`));
  });
  return kept.join(";");
}

/** Headers that an upstream may not set: those of one connection, those that we answer for, and cookies. */
const NOT_FROM_UPSTREAM = new Set(
  (
    "connection content-encoding content-length content-security-policy cross-origin-resource-policy keep-alive " +
    "proxy-authenticate proxy-authorization set-cookie te trailer transfer-encoding upgrade access-control-allow-origin " +
    "access-control-allow-credentials clear-site-data x-content-type-options alt-svc"
  ).split(" "),
);

/** @param {Response} response */
export function fromUpstream(response) {
  const headers = new Headers();
  for (const [name, value] of response.headers) {
    if (!NOT_FROM_UPSTREAM.has(name) && !OURS.test(name)) headers.append(name, value);
  }
  headers.set("x-content-type-options", "nosniff");
  headers.set("cross-origin-resource-policy", "same-origin");
  return new Response(response.body, { status: response.status, headers });
}

/**
 * A path without its first `/`, decoded once; `undefined` for what leads elsewhere or is no text.
 *
 * @param {string} path
 */
export function decodePath(path) {
  let decoded;
  try {
    decoded = decodeURIComponent(path.slice(1));
  } catch {
    return undefined;
  }
  if (/[\u0000-\u001f\u007f-\u009f\\]/.test(decoded)) return undefined;
  if (decoded.split("/").some((segment) => segment === "." || segment === "..")) return undefined;
  // Whoever encodes twice wants what one decoding would have been refused.
  return /%(2e|2f|5c|25|00)/i.test(decoded) ? undefined : decoded;
}

/** Whether a file of the sources is nobody's business. @param {string} path */
export const isPrivate = (path) => path.split("/").some((segment) => segment.startsWith("."));

/** What pages never are. */
const FILES = new Set(
  (
    "ts tsx mts cts js mjs cjs jsx json json5 map vue svelte css scss sass less html htm xml txt md csv pdf zip gz tar wasm " +
    "png jpg jpeg gif svg webp avif ico bmp tif tiff mp3 mp4 webm ogg ogv oga wav flac aac m4a mov avi mkv woff woff2 ttf otf " +
    "eot webmanifest manifest glb gltf hdr obj doc docx xls xlsx ppt pptx rss atom ics yaml yml toml bin exe apk dmg iso rar 7z"
  ).split(" "),
);

/** Whether a path looks like a file and not like a page of an app's own router. @param {string} path */
export function looksLikeFile(path) {
  const [, ext] = /[^/]\.([^./]+)$/.exec(path) ?? [];
  return ext !== undefined && FILES.has(ext.toLowerCase());
}

/** Whether a page's `<link>` asks. @param {Headers} headers */
export const wantsCss = (headers) => headers.get("accept")?.startsWith("text/css") ?? false;
