// One app's script in the preview namespace: serves out of KV what the app's room names. It holds nothing of the app's own, and
// reads no other app's files: the names of all that it reads begin alike.

import { tagged, told } from "./files.js";

/**
 * @typedef {{ FILES: KVNamespace, FOLDER: string }} ViewerEnv with what the names of its files begin with
 * @typedef {object} Named a file as a room names it
 * @property {string} digest
 * @property {string} type
 * @property {number} status
 * @property {string} cache
 * @property {number} [config_at] a page: where its config belongs, in bytes
 * @property {string} [config] JSON
 */

export default {
  /** @param {Request} request @param {ViewerEnv} env @returns {Promise<Response>} */
  async fetch(request, env) {
    const named = /** @type {Named} */ (await request.json());
    const bytes = await env.FILES.get(env.FOLDER + named.digest, "arrayBuffer");
    if (!bytes) {
      // What was written a moment ago is not everywhere yet.
      const headers = { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store", "retry-after": "1" };
      return new Response("This file is on its way: ask again soon.\n", { status: 503, headers });
    }
    const { type, status, cache, config_at: at, config } = named;
    const plain = { body: new Uint8Array(bytes), tag: named.digest.slice(0, 32) };
    const { body, tag } = at === undefined || config === undefined ? plain : await told(plain.body, at, config);
    return tagged(request, status, type, cache, tag, body);
  },
};
