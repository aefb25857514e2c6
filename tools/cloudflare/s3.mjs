// A client of S3 that others wrote against R2 of an emulator: `node s3.mjs <s3 url> <key id> <secret>`. Says `ok`.
import assert from 'node:assert/strict';
import { AwsClient } from 'aws4fetch';

const [base, accessKeyId, secretAccessKey] = process.argv.slice(2);
const options = { accessKeyId, secretAccessKey, service: 's3', region: 'auto', retries: 0 };
const s3 = new AwsClient(options);
const ask = async (method, path, body, headers) => s3.fetch(`${base}/files${path}`, { method, body, headers });

const put = await ask('PUT', '/dir/1', 'one', { 'content-type': 'text/x', 'x-amz-meta-k': 'v', 'cache-control': 'no-store' });
assert.equal(put.status, 200);
const got = await ask('GET', '/dir/1');
assert.deepEqual([got.status, await got.text(), got.headers.get('content-type')], [200, 'one', 'text/x']);
assert.deepEqual([got.headers.get('x-amz-meta-k'), got.headers.get('cache-control')], ['v', 'no-store']);
assert.equal(got.headers.get('etag'), put.headers.get('etag'));
const part = await ask('GET', '/dir/1', undefined, { range: 'bytes=1-1' });
assert.deepEqual([part.status, await part.text(), part.headers.get('content-range')], [206, 'n', 'bytes 1-1/3']);
assert.equal((await ask('HEAD', '/dir/1')).headers.get('content-length'), '3');
assert.equal((await ask('GET', '/none')).status, 404);
assert.equal((await ask('PUT', '/dir/1', 'again', { 'if-none-match': '*' })).status, 412);
assert.equal((await ask('PUT', '/dir/1', 'two', { 'if-match': put.headers.get('etag') })).status, 200);
assert.equal((await ask('PUT', '/dir/1', 'three', { 'if-match': put.headers.get('etag') })).status, 412);

await ask('PUT', '/dir/%C3%BC%202', 'b');
await ask('PUT', '/dir/sub/3', 'c');
const list = async (query) => {
  const text = await (await ask('GET', `?list-type=2&${query}`)).text();
  const all = (name) => [...text.matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, 'g'))].map((it) => it[1]);
  return { keys: all('Key'), prefixes: all('Prefix').slice(1), next: all('NextContinuationToken')[0] };
};
assert.deepEqual(await list('prefix=dir%2F&delimiter=%2F'), { keys: ['dir/1', 'dir/ü 2'], prefixes: ['dir/sub/'], next: undefined });
const first = await list('max-keys=2');
assert.deepEqual(first.keys, ['dir/1', 'dir/sub/3']);
assert.deepEqual((await list(`continuation-token=${encodeURIComponent(first.next)}`)).keys, ['dir/ü 2']);
const copied = await ask('PUT', '/copy', undefined, { 'x-amz-copy-source': '/files/dir/1' });
assert.equal(copied.status, 200);
assert.equal(await (await ask('GET', '/copy')).text(), 'two');

const upload = /<UploadId>(.*)<\/UploadId>/.exec(await (await ask('POST', '/parts?uploads=')).text())[1];
for (const n of [1, 2]) assert.equal((await ask('PUT', `/parts?partNumber=${n}&uploadId=${upload}`, `part ${n} `)).status, 200);
const named = [1, 2].map((n) => `<Part><PartNumber>${n}</PartNumber></Part>`).join('');
assert.equal((await ask('POST', `/parts?uploadId=${upload}`, `<CompleteMultipartUpload>${named}</CompleteMultipartUpload>`)).status, 200);
assert.equal(await (await ask('GET', '/parts')).text(), 'part 1 part 2 ');

const gone = ['dir/sub/3', 'copy'].map((it) => `<Object><Key>${it}</Key></Object>`).join('');
assert.equal((await ask('POST', '?delete=', `<Delete>${gone}</Delete>`)).status, 200);
assert.equal((await ask('DELETE', '/dir/1')).status, 204);

const code = async (client, path) => /<Code>(.*)<\/Code>/.exec(await (await client.fetch(`${base}${path}`)).text())[1];
assert.equal(await code(new AwsClient({ ...options, secretAccessKey: 'wrong' }), '/files/parts'), 'SignatureDoesNotMatch');
assert.equal(await code(new AwsClient({ ...options, accessKeyId: 'wrong' }), '/files/parts'), 'InvalidAccessKeyId');
assert.equal(await code(new AwsClient({ ...options, region: 'elsewhere' }), '/files/parts'), 'AuthorizationHeaderMalformed');
assert.equal(await code(s3, '/nowhere/parts'), 'NoSuchBucket');
console.log('ok');
