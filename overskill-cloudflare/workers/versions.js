// Addresses of single versions: for whoever looks at one before the route names it, and can make its address.

import { scopeOf } from "./settings.js";

/**
 * @import { Env, Scope } from "./settings.js"
 */

/** What the signed text begins with: nothing else that the key signs begins so. */
const LABEL = "overskill-version-1";

/** @type {Record<string, string>} */
const ENVIRONMENTS = { p: "production", s: "staging", v: "preview", d: "development" };

/**
 * The version that the first label of a host names; `undefined` for every other label, one with a false proof among them.
 *
 * @param {string} label `v{proof}-{fence}-{environment}{app}`
 * @param {Env} env
 * @returns {Promise<{ scope: Scope, script: string } | undefined>}
 */
export async function versionOf(label, env) {
  const [, proof = "", fence = "", letter = "", app = ""] = /^v([0-9a-f]{14})-(\d{1,20})-([psvd])([a-z0-9]{1,32})$/.exec(label) ?? [];
  const scope = scopeOf(app, ENVIRONMENTS[letter] ?? "");
  if (!scope) return undefined;
  const script = `${app}-${fence}`;
  const told = fromHex(proof);
  const signed = new TextEncoder().encode(`${LABEL}\n${scope.name}\n${script}`);
  /** @type {Record<string, string>} */
  const keys = JSON.parse(env.INGEST_KEYS);
  for (const secret of Object.values(keys)) {
    const key = await crypto.subtle.importKey("raw", fromHex(secret), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, signed)).subarray(0, told.length);
    if (crypto.subtle.timingSafeEqual(mac, told)) return { scope, script };
  }
  return undefined;
}

/** @param {string} text */
const fromHex = (text) => Uint8Array.from(text.match(/../g) ?? [], (byte) => parseInt(byte, 16));
