// What `caches.default` and `caches.open()` are kept in: a script's own, or a trusted namespace's, in memory, until workerd starts
// anew.
import { WorkerEntrypoint } from 'cloudflare:workers';

const MOST_ENTRIES = 1_000;
const MOST_BYTES = 8 << 20;
// `script, cache and URL → { until, bytes }`, the oldest first; the bytes are a response as HTTP/1.1 has it.
const entries = new Map();

export class Cache extends WorkerEntrypoint {
  async fetch(request) {
    const key = `${this.ctx.props.script} ${request.headers.get('cf-cache-namespace') ?? ''} ${request.url}`;
    switch (request.method) {
      case 'PUT':
        return put(key, new Uint8Array(await request.arrayBuffer()));
      case 'PURGE':
        return new Response(null, { status: entries.delete(key) ? 200 : 404 });
      default:
        return match(key);
    }
  }
}

function put(key, bytes) {
  if (bytes.length > MOST_BYTES) return new Response(null, { status: 413 });
  const { headers } = taken(bytes);
  const control = headers.get('cache-control') ?? '';
  const seconds = /s-maxage=(\d+)/.exec(control)?.[1] ?? /max-age=(\d+)/.exec(control)?.[1];
  // As the provider does: what sets cookies or forbids it is not kept, and nothing is said of that.
  if (headers.has('set-cookie') || /no-store|private|no-cache/.test(control) || seconds === '0') return new Response(null, { status: 204 });
  entries.delete(key);
  entries.set(key, { until: Date.now() + Number(seconds ?? 7_200) * 1_000, bytes });
  if (entries.size > MOST_ENTRIES) entries.delete(entries.keys().next().value);
  return new Response(null, { status: 204 });
}

function match(key) {
  const entry = entries.get(key);
  if (!entry || entry.until < Date.now()) return new Response(null, { status: 504, headers: { 'cf-cache-status': 'MISS' } });
  const { status, headers, body } = taken(entry.bytes);
  headers.set('cf-cache-status', 'HIT');
  return new Response(body, { status, headers });
}

function taken(bytes) {
  let end = 0;
  while (end < bytes.length && !(bytes[end] === 13 && bytes[end + 1] === 10 && bytes[end + 2] === 13)) end++;
  const [first, ...lines] = new TextDecoder().decode(bytes.subarray(0, end)).split('\r\n');
  const headers = new Headers();
  for (const line of lines) headers.append(line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim());
  let body = bytes.subarray(end + 4);
  if (headers.get('transfer-encoding') === 'chunked') body = unchunked(body);
  headers.delete('transfer-encoding');
  return { status: Number(first.split(' ')[1]), headers, body };
}

function unchunked(bytes) {
  const parts = [];
  for (let at = 0; at < bytes.length; ) {
    let end = at;
    while (bytes[end] !== 13) end++;
    const length = parseInt(new TextDecoder().decode(bytes.subarray(at, end)), 16);
    parts.push(bytes.subarray(end + 2, end + 2 + length));
    if (length === 0) break;
    at = end + 2 + length + 2;
  }
  const whole = new Uint8Array(parts.reduce((sum, it) => sum + it.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
