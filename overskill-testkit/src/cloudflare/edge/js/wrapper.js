// Around the main module of a user script. It can unload the isolate, which workerd never does by itself, and makes
// the bindings that cannot cross into a loaded Worker: namespaces of Durable Objects.
import { WorkerEntrypoint, abortIsolate } from 'cloudflare:workers';
import './overskill-caches.js';
import * as user from './MAIN';
export * from './MAIN';

export class OverskillControl extends WorkerEntrypoint {
  abort() {
    abortIsolate('unloaded');
  }
}

const OBJECTS = 'overskill:objects';

function withObjects(env) {
  const names = env[OBJECTS];
  if (!names) return env;
  delete env[OBJECTS];
  for (const name of names) env[name] = new ObjectNamespace(env[name]);
  return env;
}

class ObjectId {
  constructor(hex, name) {
    this.hex = hex;
    this.name = name;
  }
  toString() {
    return this.hex;
  }
  equals(other) {
    return String(other) === this.hex;
  }
}

class ObjectNamespace {
  #gate;
  constructor(gate) {
    this.#gate = gate;
  }
  idFromName(name) {
    return new ObjectId(sha256(String(name)), String(name));
  }
  idFromString(hex) {
    if (!/^[0-9a-f]{64}$/.test(hex)) throw new TypeError('Invalid Durable Object ID: must be 64 hex digits');
    return new ObjectId(hex);
  }
  newUniqueId() {
    const bytes = crypto.getRandomValues(new Uint8Array(32));
    return new ObjectId([...bytes].map((it) => it.toString(16).padStart(2, '0')).join(''));
  }
  jurisdiction() {
    return this;
  }
  getByName(name) {
    return this.get(this.idFromName(name));
  }
  get(id) {
    const gate = this.#gate;
    const hex = String(id);
    return new Proxy({ id, name: id.name }, {
      get(target, property) {
        if (property in target) return target[property];
        if (typeof property === 'symbol' || property === 'then') return undefined;
        if (property !== 'fetch') return (...args) => gate.call(hex, property, args);
        return async (input, init) => {
          const request = new Request(input, init);
          request.headers.set('x-overskill-object', hex);
          return gate.fetch(request);
        };
      },
    });
  }
}

// FIPS 180-4; ids have to be there at once, which Web Crypto cannot do.
function sha256(text) {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((it) => n % it)) primes.push(n);
  const fraction = (it) => ((it - Math.floor(it)) * 2 ** 32) | 0;
  const k = primes.map((it) => fraction(Math.cbrt(it)));
  const h = primes.slice(0, 8).map((it) => fraction(Math.sqrt(it)));
  const bytes = new TextEncoder().encode(text);
  const padded = new DataView(new ArrayBuffer(((bytes.length + 72) >> 6) << 6));
  bytes.forEach((it, at) => padded.setUint8(at, it));
  padded.setUint8(bytes.length, 0x80);
  padded.setUint32(padded.byteLength - 4, bytes.length * 8);
  const right = (it, by) => (it >>> by) | (it << (32 - by));
  for (let block = 0; block < padded.byteLength; block += 64) {
    const w = [];
    let [a, b, c, d, e, f, g, last] = h;
    for (let at = 0; at < 64; at++) {
      const [x, y] = [w[at - 15], w[at - 2]];
      w[at] = at < 16
        ? padded.getInt32(block + at * 4)
        : (w[at - 16] + (right(x, 7) ^ right(x, 18) ^ (x >>> 3)) + w[at - 7] + (right(y, 17) ^ right(y, 19) ^ (y >>> 10))) | 0;
      const one = (last + (right(e, 6) ^ right(e, 11) ^ right(e, 25)) + ((e & f) ^ (~e & g)) + k[at] + w[at]) | 0;
      const two = ((right(a, 2) ^ right(a, 13) ^ right(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [last, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, last].forEach((it, at) => (h[at] = (h[at] + it) | 0));
  }
  return h.map((it) => (it >>> 0).toString(16).padStart(8, '0')).join('');
}

function wrapped(handler) {
  if (typeof handler === 'function') {
    return class extends handler {
      constructor(ctx, env) {
        super(ctx, withObjects(env));
      }
    };
  }
  const around = (it) => (event, env, ctx) => it.call(handler, event, withObjects(env), ctx);
  const all = Object.entries(handler ?? {}).map(([key, it]) => [key, typeof it === 'function' ? around(it) : it]);
  return Object.fromEntries(all);
}

export default wrapped(user.default);
