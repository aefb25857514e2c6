// Runs in a user script before its own code: caches by name are the script's own, and there is no default one. In a trusted
// namespace all of its scripts share them, the default one too. What is kept is in the emulator's `Cache`.
import { env } from 'cloudflare:workers';

const service = env['overskill:cache'];
delete env['overskill:cache'];

const names = new WeakMap();
const { open } = CacheStorage.prototype;

function ask(cache, method, url, body) {
  const name = names.get(cache);
  if (name === undefined && !TRUSTED) throw new Error('caches.default is disabled: the namespace is untrusted');
  return service.fetch(url, { method, body, headers: name === undefined ? {} : { 'cf-cache-namespace': name } });
}

// The response as HTTP/1.1 has it.
async function written({ status, headers, body }) {
  const lines = [`HTTP/1.1 ${status} OK`, ...[...headers].map(([name, value]) => `${name}: ${value}`)];
  return new Blob([`${lines.join('\r\n')}\r\n\r\n`, await new Response(body).arrayBuffer()]).arrayBuffer();
}

const methods = {
  async put(input, response) {
    const request = new Request(input);
    if (request.method !== 'GET') throw new TypeError('Cannot cache response to non-GET request.');
    if (response.status === 206) throw new TypeError('Cannot cache response to a range request (206 Partial Content).');
    if (response.headers.get('vary')?.includes('*')) throw new TypeError("Cannot cache response with 'Vary: *' header.");
    await ask(this, 'PUT', request.url, await written(response));
  },
  async match(input, options) {
    const request = new Request(input);
    if (request.method !== 'GET' && !options?.ignoreMethod) return undefined;
    const answer = await ask(this, 'GET', request.url);
    return answer.headers.get('cf-cache-status') === 'HIT' ? answer : undefined;
  },
  async delete(input, options) {
    const request = new Request(input);
    if (request.method !== 'GET' && !options?.ignoreMethod) return false;
    return (await ask(this, 'PURGE', request.url)).status === 200;
  },
};

for (const [name, value] of Object.entries(methods)) Object.defineProperty(Cache.prototype, name, { value });
Object.defineProperty(CacheStorage.prototype, 'open', {
  async value(name) {
    const cache = await open.call(this, name);
    names.set(cache, String(name));
    return cache;
  },
});
