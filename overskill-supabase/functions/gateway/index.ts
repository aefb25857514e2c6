// One function for all apps of a project: it checks an app's token and passes the call on *with that token*, so that the
// database decides. It holds no key that could do more than a browser's.

import { type Config, gateway } from "./gateway.ts";
import { readKeys } from "./token.ts";

function setting(name: string): string {
  const value = Deno.env.get(name);
  if (!value) throw new Error(`the secret ${name} is not set`);
  return value;
}

const config: Config = Object.freeze({
  url: setting("SUPABASE_URL").replace(/\/+$/, ""),
  publishableKey: setting("OVERSKILL_PUBLISHABLE_KEY"),
  issuer: setting("OVERSKILL_ISSUER"),
  audience: "authenticated",
  keys: await readKeys(setting("OVERSKILL_JWKS")),
  bucket: "apps",
});

// What Supabase gives every function, and this one must never be able to use.
for (const name of Object.keys(Deno.env.toObject())) {
  if (name.startsWith("SUPABASE_") && name !== "SUPABASE_URL") Deno.env.delete(name);
}

Deno.serve({ onListen: ({ port }) => console.log(`listening on ${port}`) }, (request) => gateway(request, config));
