// The emulated edge: finds the Worker of a URL, runs user scripts of dispatch namespaces, and gives them what they are
// bound to. What the account holds it asks its owner for, over CONTROL.
import { DurableObject, WorkerEntrypoint } from 'cloudflare:workers';
import { serve, serveWith } from './assets.js';
import { Cache } from './cache.js';
import { routeOf } from './routing.js';
import { Kv } from './kv.js';
import caches from './caches.txt';
import wrapper from './wrapper.txt';

export { Cache, Kv };

const control = (env, path) => env.CONTROL.fetch(`http://control${path}`);
const blobs = (env) => (hash) => control(env, `/blob/${hash}`);

// --- URLs of users ---

let table = null;
let tableEpoch = 0;

async function routing(env) {
  if (table !== null) return table;
  const epoch = tableEpoch;
  const fetched = await (await control(env, '/routing')).json();
  if (epoch === tableEpoch) table = fetched; // or it may be older than the last change
  return fetched;
}

export default {
  async fetch(request, env) {
    const routes = await routing(env);
    const script = routeOf(routes, new URL(request.url));
    if (script === null) return new Response('error code: 1016', { status: 530 });
    const service = env[`script:${script}`] ?? null;
    const site = routes.sites[script];
    if (!site) return service === null ? new Response('error code: 1101', { status: 500 }) : service.fetch(request);
    return serveWith(request, site, blobs(env), service && (() => service.fetch(request)));
  },
};

// `env.ASSETS` of an account script, or of a user script.
export class Assets extends WorkerEntrypoint {
  async fetch(request) {
    const { script, namespace, version } = this.ctx.props;
    const site = namespace ? await siteOf(this.env, namespace, script, version) : (await routing(this.env)).sites[script];
    if (!site) return new Response('the script has no assets', { status: 404 });
    return serve(request, site, blobs(this.env));
  }
}

// --- User scripts ---

// `loader id → { used, running, objects }`: what is loaded, the one used least recently first.
const loaded = new Map();
// `version → site`; as many as are loaded.
const sites = new Map();

const path = (namespace, script) => `/user/${encodeURIComponent(namespace)}/${encodeURIComponent(script)}`;

async function versionOf(env, namespace, script) {
  const response = await control(env, `${path(namespace, script)}/version`);
  if (response.status !== 200) throw new Error('Worker not found.');
  return response.json();
}

async function siteOf(env, namespace, script, version) {
  let site = sites.get(version);
  if (!site) {
    site = await (await control(env, `${path(namespace, script)}/site`)).json();
    sites.set(version, site);
    if (sites.size > env.MAX_LOADED * 2) sites.delete(sites.keys().next().value);
  }
  return site;
}

// What the loader needs to run a script; `exports` are those of the emulator.
async function code(env, exports, namespace, script, version, outbound) {
  const response = await control(env, `${path(namespace, script)}/code?version=${version}`);
  if (response.status !== 200) throw new Error('Worker not found.');
  const told = await response.json();
  const modules = {
    'overskill-emulator.js': { js: wrapper.replaceAll('./MAIN', `./${told.main}`) },
    'overskill-caches.js': { js: caches.replace('TRUSTED', told.trusted) },
  };
  for (const it of told.modules) {
    modules[it.name] = { [it.kind]: 'base64' in it ? Uint8Array.fromBase64(it.base64).buffer : it.kind === 'json' ? JSON.parse(it.text) : it.text };
  }
  const bindings = { ...told.values };
  for (const [name, id] of Object.entries(told.kv)) bindings[name] = exports.Kv({ props: { id } });
  for (const [name, props] of Object.entries(told.services)) bindings[name] = exports.Service({ props });
  for (const name of told.assets) bindings[name] = exports.Assets({ props: { namespace, script, version } });
  for (const [name, props] of Object.entries(told.objects)) bindings[name] = exports.Objects({ props });
  bindings['overskill:cache'] = exports.Cache({ props: { script: told.trusted ? `${namespace}/` : `${namespace}/${script}` } });
  if (Object.keys(told.objects).length > 0) bindings['overskill:objects'] = Object.keys(told.objects);
  const options = { mainModule: 'overskill-emulator.js', modules, compatibilityDate: told.date, compatibilityFlags: told.flags, env: bindings };
  if (outbound) options.globalOutbound = exports.Outbound({ props: outbound });
  return options;
}

function load(env, exports, namespace, script, version, outbound) {
  const id = `${namespace}/${script}@${version}${outbound ? `#${JSON.stringify(outbound.params)}` : ''}`;
  const entry = loaded.get(id) ?? { used: 0, running: 0, objects: false };
  loaded.delete(id); // to the end
  entry.used = Date.now();
  loaded.set(id, entry);
  return { entry, worker: env.LOADER.get(id, () => code(env, exports, namespace, script, version, outbound)) };
}

// Unloads what was not used for long, as long as there is too much.
async function unload(env) {
  for (const [id, entry] of loaded) {
    if (loaded.size <= env.MAX_LOADED) return;
    const rest = Date.now() - entry.used;
    const enough = entry.objects ? 60_000 : loaded.size > env.MAX_LOADED * 2 ? 0 : 1_000;
    if (entry.running > 0 || rest < enough) continue;
    loaded.delete(id);
    const missing = () => {
      throw new Error('it was never loaded');
    };
    try {
      await env.LOADER.get(id, missing).getEntrypoint('OverskillControl').abort();
    } catch {
      // The end of the isolate is the end of the call.
    }
  }
}

// A dispatch namespace; `props` name it and its outbound Worker.
export class Namespace extends WorkerEntrypoint {
  async fetch(request) {
    const { namespace, outbound: service } = this.ctx.props;
    const { name, outbound: params } = JSON.parse(decodeURIComponent(request.headers.get('x-overskill-run')));
    const plain = new Request(request);
    plain.headers.delete('x-overskill-run');
    const { version, assets, worker: hasWorker } = await versionOf(this.env, namespace, name);
    const run = hasWorker ? () => this.run(plain, namespace, name, version, service && { service, params: params ?? {} }) : null;
    if (!assets) return run();
    return serveWith(plain, await siteOf(this.env, namespace, name, version), blobs(this.env), run);
  }

  async run(request, namespace, name, version, outbound) {
    const { entry, worker } = load(this.env, this.ctx.exports, namespace, name, version, outbound);
    entry.running++;
    try {
      const response = await worker.getEntrypoint().fetch(request);
      // A socket lives longer than its request, and nobody tells when it ends.
      if (response.webSocket) entry.objects = true;
      return response;
    } finally {
      entry.running--;
      if (loaded.size > this.env.MAX_LOADED) this.ctx.waitUntil(unload(this.env));
    }
  }
}

export class Service extends WorkerEntrypoint {
  fetch(request) {
    const service = this.env[`script:${this.ctx.props.service}`];
    if (!service) throw new Error(`the service ${this.ctx.props.service} is gone`);
    return service.fetch(request);
  }
}

// Takes the requests that user scripts make to an outbound Worker.
export class Outbound extends WorkerEntrypoint {
  fetch(request) {
    const { service, params } = this.ctx.props;
    const marked = new Request(request);
    marked.headers.set('x-overskill-params', encodeURIComponent(JSON.stringify(params)));
    return this.env[`script:${service}`].fetch(marked);
  }
}

// --- Durable Objects of user scripts ---

// A binding to a class; `props` name the script, the class and the namespace that keeps the data.
export class Objects extends WorkerEntrypoint {
  #host(id) {
    const { OBJECTS } = this.env;
    return OBJECTS.get(OBJECTS.idFromName(`${this.ctx.props.id}:${id}`));
  }
  fetch(request) {
    const id = request.headers.get('x-overskill-object');
    const plain = new Request(request);
    plain.headers.set('x-overskill-object', encodeURIComponent(JSON.stringify({ ...this.ctx.props, object: id })));
    return this.#host(id).fetch(plain);
  }
  call(id, method, args) {
    return this.#host(id).invoke({ ...this.ctx.props, object: id }, method, args);
  }
}

// Keeps one object of a user script as a facet of itself, with a database of its own.
export class ObjectHost extends DurableObject {
  async fetch(request) {
    const wanted = JSON.parse(decodeURIComponent(request.headers.get('x-overskill-object')));
    const plain = new Request(request);
    plain.headers.delete('x-overskill-object');
    return (await this.#object(wanted)).fetch(plain);
  }
  async invoke(wanted, method, args) {
    return (await this.#object(wanted))[method](...args);
  }
  async #object({ namespace, script, class: name, object }) {
    const { version } = await versionOf(this.env, namespace, script);
    const same = `${version}/${name}`;
    if (this.running && this.running !== same) this.ctx.facets.abort('object', new Error('the script has a new version'));
    this.running = same;
    return this.ctx.facets.get('object', () => {
      const { entry, worker } = load(this.env, this.ctx.exports, namespace, script, version, null);
      entry.objects = true;
      return { class: worker.getDurableObjectClass(name), id: object };
    });
  }
}

// --- For the owner ---

export class Admin extends WorkerEntrypoint {
  async fetch(request) {
    const url = new URL(request.url);
    switch (url.pathname) {
      case '/ready':
        return new Response(null, { status: 204 });
      case '/routing':
        table = null;
        tableEpoch++;
        return new Response(null, { status: 204 });
      case '/loaded':
        return Response.json({ scripts: loaded.size });
      case '/scheduled': {
        const service = this.env[`script:${url.searchParams.get('script')}`];
        const result = await service.scheduled({ cron: url.searchParams.get('cron'), scheduledTime: new Date(Number(url.searchParams.get('time'))) });
        return Response.json({ outcome: result.outcome });
      }
      default:
        return new Response(null, { status: 404 });
    }
  }
}
