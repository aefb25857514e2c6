// `env.KV` of a user script. A real binding cannot cross into a loaded Worker, so this speaks its protocol.
import { WorkerEntrypoint } from 'cloudflare:workers';

export class Kv extends WorkerEntrypoint {
  #fetch(path, init = {}) {
    return this.env.CONTROL.fetch(`http://control${path}`, {
      ...init,
      headers: { ...init.headers, 'x-overskill-kv': this.ctx.props.id },
    });
  }

  async get(key, options) {
    if (Array.isArray(key)) return new Map([...(await this.getWithMetadata(key, options))].map(([k, it]) => [k, it.value]));
    return (await this.getWithMetadata(key, options)).value;
  }

  async getWithMetadata(key, options) {
    if (Array.isArray(key)) {
      return new Map(await Promise.all(key.map(async (it) => [it, await this.getWithMetadata(it, options)])));
    }
    const type = typeof options === 'string' ? options : options?.type ?? 'text';
    const response = await this.#fetch(`/${encodeURIComponent(check(key))}?urlencoded=true`);
    if (response.status === 404) return { value: null, metadata: null, cacheStatus: null };
    if (!response.ok) throw new Error(`KV GET failed: ${response.status} ${await response.text()}`);
    const read = { text: () => response.text(), json: () => response.json(), arrayBuffer: () => response.arrayBuffer(), stream: () => response.body };
    if (!(type in read)) throw new TypeError(`Unknown response type. Possible types are "text", "arrayBuffer", "json", and "stream".`);
    const metadata = response.headers.get('cf-kv-metadata');
    return { value: await read[type](), metadata: metadata && JSON.parse(metadata), cacheStatus: null };
  }

  async put(key, value, options = {}) {
    const query = new URLSearchParams({ urlencoded: 'true' });
    if (options.expiration) query.set('expiration', options.expiration);
    if (options.expirationTtl) query.set('expiration_ttl', options.expirationTtl);
    const headers = options.metadata === undefined ? {} : { 'cf-kv-metadata': JSON.stringify(options.metadata) };
    const response = await this.#fetch(`/${encodeURIComponent(check(key))}?${query}`, { method: 'PUT', body: value, headers });
    if (!response.ok) throw new Error(`KV PUT failed: ${response.status} ${await response.text()}`);
  }

  async delete(key) {
    await this.#fetch(`/${encodeURIComponent(check(key))}?urlencoded=true`, { method: 'DELETE' });
  }

  async list({ prefix, limit, cursor } = {}) {
    const query = new URLSearchParams();
    if (prefix) query.set('prefix', prefix);
    if (limit) query.set('key_count_limit', limit);
    if (cursor) query.set('cursor', cursor);
    return { ...(await (await this.#fetch(`/?${query}`)).json()), cacheStatus: null };
  }
}

function check(key) {
  if (key === '') throw new TypeError('Key name cannot be empty.');
  if (key === '.' || key === '..') throw new TypeError(`"${key}" is not allowed as a key name.`);
  const length = new TextEncoder().encode(key).length;
  if (length > 512) throw new Error(`KV: 414 UTF-8 encoded length of ${length} exceeds key length limit of 512.`);
  return key;
}
