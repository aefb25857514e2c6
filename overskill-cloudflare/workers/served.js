// Answers out of what a room holds.
//
// A file's key is `{form}:{path}`. The path is decoded and has no `/` before it; the form is what the query asks for: empty (as
// what it is), `import` (the module that stands for it), `raw`, `url`, `inline`, `worker`, `init`, `css` (a sheet that a page
// links to), or `proxy{index}` (an inline script of a page).

import { joined } from "./blobs.js";
import { holds, tagOf, tagged, told } from "./files.js";
import { decodePath, isPrivate, looksLikeFile, wantsCss } from "./guard.js";
import { plain, wantsPage } from "./pages.js";

/**
 * @import { Env } from "./settings.js"
 * @import { Blobs } from "./blobs.js"
 * @typedef {Record<string, SqlStorageValue>} Row
 * @typedef {object} Shown
 * @property {(key: string) => Row | undefined} files
 * @property {Blobs} blobs
 * @property {string[]} shelves
 * @property {() => Promise<Record<string, unknown>>} config
 * @property {() => void} broken takes note that a page was told of a broken module
 */

const FOR_EVER = "public, max-age=31536000, immutable";
const FORMS = ["raw", "url", "inline", "worker", "init"];

/** @param {Request} request @param {URL} url @param {Shown} shown @param {Env} env */
export async function answer(request, url, shown, env) {
  const path = decodePath(url.pathname);
  if (path === undefined) return plain(400, "This is no path of a file: it is encoded once, and leads nowhere else.");
  const file = find(path, url, request, shown);
  if (file) return sent(request, file, shown, env);
  const [, set, name] = /^@npm\/([0-9a-f]{64})\/(.+)$/.exec(path) ?? [];
  // Only the app's own sets: another app's are as if they were not there.
  if (set !== undefined && name !== undefined && shown.shelves.includes(set) && url.search === "") {
    return shelved(request, env, set, name, undefined, FOR_EVER);
  }
  const isPage = !path.startsWith("@") && !isPrivate(path) && !looksLikeFile(path);
  const page = isPage && wantsPage(request.headers) ? shown.files(":") : undefined;
  return page ? sent(request, page, shown, env) : plain(404, `There is no /${path.slice(0, 200)} in this app.`);
}

/** @param {string} path @param {URL} url @param {Request} request @param {Shown} shown */
function find(path, url, request, shown) {
  const names = new Map(url.search.slice(1).split("&").map((pair) => /** @type {[string, string]} */ (pair.split("=", 2))));
  if (names.has("html-proxy")) return shown.files(`proxy${names.get("index") ?? ""}:${path}`);
  const form = FORMS.find((it) => names.has(it));
  const forms = [form, names.has("import") && "import", (names.has("direct") || wantsCss(request.headers)) && "css", ""];
  for (const it of forms) {
    const file = typeof it === "string" ? shown.files(`${it}:${path}`) : undefined;
    if (file) return file;
  }
  return undefined;
}

/** What stands in the place of a shelf where the app's own script serves a file: see viewer.js. */
const SCRIPT = "script";

/** @param {Request} request @param {Row} file @param {Shown} shown @param {Env} env */
async function sent(request, file, shown, env) {
  const { digest: named, shelf, name, config_at: at } = file;
  const [status, cache, type, digest] = [Number(file.status), String(file.cache), String(file.type), String(named)];
  if (typeof shelf === "string" && shelf !== SCRIPT) return shelved(request, env, shelf, String(name), digest, cache);
  if (status === 500) shown.broken();
  // What a page is told must not end the element that it stands in.
  const config = typeof at === "number" ? JSON.stringify(await shown.config()).replaceAll("<", "\\u003c") : undefined;
  if (shelf === SCRIPT) {
    const headers = { "x-overskill-room": "script", "x-overskill-script": String(name) };
    return Response.json({ digest, type, status, cache, ...(config === undefined ? {} : { config_at: at, config }) }, { headers });
  }
  const parts = shown.blobs.get(digest);
  if (!parts) return plain(503, "This file is on its way: ask again soon.");
  const whole = { body: joined(parts), tag: digest.slice(0, 32) };
  const { body, tag } = typeof at === "number" && config !== undefined ? await told(whole.body, at, config) : whole;
  return tagged(request, status, type, cache, tag, body);
}

/** @param {Request} request @param {Env} env @param {string} set @param {string} name @param {string | undefined} digest
 * @param {string} cache */
async function shelved(request, env, set, name, digest, cache) {
  const tag = digest?.slice(0, 32) ?? (await tagOf(new TextEncoder().encode(`${set}/${name}`)));
  if (holds(request, tag)) return tagged(request, 200, "", cache, tag, new Uint8Array());
  const found = await env.SHELVES.getByName(set).read(name);
  if (!found) return plain(404, `There is no /@npm/${set}/${name.slice(0, 200)}: the packages changed; load the page anew.`);
  return tagged(request, 200, found.type, cache, tag, found.bytes);
}
