// Whose call it is. ES256 only, by keys that are known from the start; nothing in a token's header is followed.

import { denied, forbidden } from "./answers.ts";

export type Keys = ReadonlyMap<string, CryptoKey>;

export interface Caller {
  readonly app: string;
  readonly environment: string;
  readonly subject: string;
  // The signed context, for the database.
  readonly context: string;
  // The token as it came: all that services behind are shown.
  readonly token: string;
}

const MAX_TOKEN_CHARS = 8192;
const SIGNATURE = { name: "ECDSA", hash: "SHA-256" };

export async function readKeys(jwks: string): Promise<Keys> {
  const keys = new Map<string, CryptoKey>();
  for (const { kid, kty, crv, x, y } of JSON.parse(jwks).keys) {
    if (kty !== "EC" || crv !== "P-256" || typeof kid !== "string" || keys.has(kid)) continue;
    const curve = { name: "ECDSA", namedCurve: "P-256" };
    keys.set(kid, await crypto.subtle.importKey("jwk", { kty, crv, x, y }, curve, false, ["verify"]));
  }
  if (keys.size === 0) throw new Error("OVERSKILL_JWKS has no key for ES256");
  return keys;
}

export async function callerOf(
  request: Request,
  config: { issuer: string; audience: string; keys: Keys },
): Promise<Caller> {
  // Two fields of this name come joined with a comma, and match nothing.
  const match = /^Bearer ([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})$/i.exec(
    request.headers.get("authorization") ?? "",
  );
  if (!match || match[0].length > MAX_TOKEN_CHARS) throw denied();
  const [header, payload, signature] = match.slice(1);
  const head = object(header);
  const known = Object.keys(head).every((name) => ["alg", "typ", "kid"].includes(name));
  const key = typeof head.kid === "string" ? config.keys.get(head.kid) : undefined;
  if (!known || head.alg !== "ES256" || (head.typ ?? "JWT") !== "JWT" || !key) throw denied();
  const signed = new TextEncoder().encode(`${header}.${payload}`);
  if (!await crypto.subtle.verify(SIGNATURE, key, bytes(signature), signed)) throw denied();

  const claims = object(payload);
  const now = Date.now() / 1000;
  const inTime = typeof claims.exp === "number" && typeof claims.nbf === "number" && claims.nbf <= now + 5 &&
    now < claims.exp;
  if (!inTime || claims.iss !== config.issuer || claims.aud !== config.audience) throw denied();
  if (claims.role !== "authenticated" || typeof claims.sub !== "string" || claims.sub === "") throw denied();
  // `app_{id}_tenant` or `app_{id}_user_{subject}`, and nothing around it.
  const tenant = /^app_([a-z0-9]{1,32})_(?:tenant|user_(.{1,128}))$/.exec(String(claims.tenant));
  if (!tenant || (tenant[2] !== undefined && tenant[2] !== claims.sub)) throw denied();
  const rights = String(claims.rights).split(" ");
  if (!rights.includes("data")) throw forbidden();
  if (!["development", "preview", "staging", "production"].includes(String(claims.env))) throw denied();
  return Object.freeze({
    app: tenant[1],
    environment: String(claims.env),
    subject: claims.sub,
    context: contextOf(claims),
    token: match[0].slice("Bearer ".length),
  });
}

function contextOf(claims: Record<string, unknown>): string {
  const metadata = claims.app_metadata;
  const context = typeof metadata === "object" && metadata !== null && "overskill" in metadata
    ? metadata.overskill
    : null;
  if (typeof context !== "string" || context.length > 1024) throw denied();
  return context;
}

function bytes(base64url: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(base64url.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  } catch {
    throw denied();
  }
}

function object(base64url: string): Record<string, unknown> {
  try {
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes(base64url)));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch {
    // Told below.
  }
  throw denied();
}
