// A loader as bad as the provider's may be: what it loads has the cache that the account's own Workers have. That of workerd has none.

/** Runs in what is loaded, before all else. @param {{ ZONE?: any }} env */
function share(env) {
  const zone = env.ZONE;
  delete env.ZONE;
  /** @param {string} method @param {Request | string} request @param {BodyInit} [body] */
  const ask = (method, request, body) =>
    zone.fetch(`http://zone/?url=${encodeURIComponent(typeof request === "string" ? request : request.url)}`, { method, body });
  Cache.prototype.put = async (request, response) => void (await ask("PUT", request, await response.text()));
  Cache.prototype.match = async (request) => {
    const answer = await ask("GET", request);
    return answer.status === 200 ? answer : undefined;
  };
  Cache.prototype.delete = async (request) => (await ask("DELETE", request)).status === 200;
}

/** @param {{ LOADER: any, zone: Fetcher }} env */
export default function ({ LOADER, zone }) {
  return {
    /** @param {string} id @param {() => Promise<any>} code */
    get(id, code) {
      return LOADER.get(id, async () => {
        const { mainModule, modules, env, ...rest } = await code();
        const main = `import "./share.js";\nexport * from "./${mainModule}";\nexport { default } from "./${mainModule}";\n`;
        const first = `import { env } from "cloudflare:workers";\n(${share})(env);\n`;
        const around = { "share.js": { js: first }, "provider.js": { js: main } };
        return { ...rest, mainModule: "provider.js", modules: { ...modules, ...around }, env: { ...env, ZONE: zone } };
      });
    },
  };
}
