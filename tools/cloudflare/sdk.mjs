// The official SDK against an emulator: `node sdk.mjs <api url> <account> <token> <zone>`. Says `ok`, or what was wrong.
import assert from 'node:assert/strict';
import Cloudflare from 'cloudflare';

const [baseURL, account_id, apiToken, zone_id] = process.argv.slice(2);
const cloudflare = new Cloudflare({ apiToken, baseURL, maxRetries: 0 });

const namespaces = cloudflare.workersForPlatforms.dispatch.namespaces;
const made = await namespaces.create({ account_id, name: 'sdk' });
assert.equal(made.namespace_name, 'sdk');
assert.deepEqual((await all(namespaces.list({ account_id }))).map((it) => it.namespace_name).includes('sdk'), true);
await assert.rejects(namespaces.create({ account_id, name: 'sdk' }), (e) => e.status === 409 && e.errors[0].code === 100120);
await assert.rejects(namespaces.get('none', { account_id }), (e) => e.status === 404 && e.errors[0].code === 100119);
await assert.rejects(namespaces.scripts.get('none', { account_id, dispatch_namespace: 'sdk' }), (e) => e.errors[0].code === 10092);

const kv = cloudflare.kv.namespaces;
const { id } = await kv.create({ account_id, title: 'sdk' });
const body = Array.from({ length: 25 }, (_, n) => ({ key: `k/${String(n).padStart(2, '0')}`, value: `v${n}`, metadata: { n } }));
assert.equal((await kv.bulkUpdate(id, { account_id, body })).successful_key_count, 25);
const names = (await all(kv.keys.list(id, { account_id, limit: 10 }))).map((it) => it.name);
assert.deepEqual(names, body.map((it) => it.key), 'every page of the list');
assert.equal(await (await kv.values.get('k/03', { account_id, namespace_id: id })).text(), 'v3');
assert.deepEqual(await kv.metadata.get('k/03', { account_id, namespace_id: id }), { n: 3 });
assert.deepEqual((await kv.bulkGet(id, { account_id, keys: ['k/01', 'none'] })).values, { 'k/01': 'v1', none: null });
assert.equal((await kv.bulkDelete(id, { account_id, body: names })).successful_key_count, 25);
await assert.rejects(kv.values.get('k/03', { account_id, namespace_id: id }), (e) => e.status === 404);

const hostnames = cloudflare.customHostnames;
const hostname = await hostnames.create({ zone_id, hostname: 'shop.customer.net', ssl: { method: 'txt', type: 'dv' } });
assert.equal(hostname.status, 'pending');
assert.deepEqual((await all(hostnames.list({ zone_id }))).map((it) => it.hostname), ['shop.customer.net']);
await hostnames.delete(hostname.id, { zone_id });

await cloudflare.r2.buckets.create({ account_id, name: 'sdk-bucket' });
assert.deepEqual((await cloudflare.r2.buckets.list({ account_id })).buckets.map((it) => it.name), ['sdk-bucket']);
await cloudflare.r2.buckets.delete('sdk-bucket', { account_id });

await kv.delete(id, { account_id });
await namespaces.delete('sdk', { account_id });
console.log('ok');

async function all(pages) {
  const items = [];
  for await (const item of pages) items.push(item);
  return items;
}
