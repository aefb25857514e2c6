// How a file of a preview is answered, wherever its bytes come from.

/**
 * A page with what it is told, and a tag of both.
 *
 * @param {Uint8Array} page @param {number} at where it belongs, in bytes @param {string} config JSON
 * @returns {Promise<{ body: Uint8Array, tag: string }>}
 */
export async function told(page, at, config) {
  const text = new TextEncoder().encode(config);
  const body = new Uint8Array(page.length + text.length);
  body.set(page.subarray(0, at));
  body.set(text, at);
  body.set(page.subarray(at), at + text.length);
  return { body, tag: await tagOf(body) };
}

/** @param {Uint8Array} bytes */
export async function tagOf(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest.subarray(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {Request} request @param {number} status @param {string} type @param {string} cache @param {string} tag @param {Uint8Array} body */
export function tagged(request, status, type, cache, tag, body) {
  const headers = new Headers({ "cache-control": cache, etag: `"${tag}"` });
  if (status === 200 && holds(request, tag)) return new Response(null, { status: 304, headers });
  headers.set("content-type", type);
  return new Response(request.method === "HEAD" ? null : body, { status, headers });
}

/** Whether whoever asks has it. @param {Request} request @param {string} tag */
export function holds(request, tag) {
  const held = request.headers.get("if-none-match") ?? "";
  return held.split(",").some((one) => [`"${tag}"`, "*"].includes(one.trim().replace(/^W\//, "")));
}
