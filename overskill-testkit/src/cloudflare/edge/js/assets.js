// Static assets as the provider serves them.
// A site is `{ manifest: { path: hash }, config, navigation }`; `blob(hash)` fetches a file.

// The answer of the assets alone, as `env.ASSETS.fetch` gives it.
export async function serve(request, site, blob) {
  return (await find(request, site, blob)) ?? notFound(request, site, blob);
}

// The answer of the assets or of the Worker behind them; `worker` is null for assets alone.
export async function serveWith(request, site, blob, worker) {
  if (worker === null) return serve(request, site, blob);
  const { pathname } = new URL(request.url);
  if (workerFirst(site.config.run_worker_first, pathname)) return worker();
  if (request.method !== 'GET' && request.method !== 'HEAD') return worker();
  const found = await find(request, site, blob);
  if (found) return found;
  const navigates = request.headers.get('sec-fetch-mode') === 'navigate';
  const handled = (site.config.not_found_handling ?? 'none') !== 'none';
  return site.navigation && navigates && handled ? notFound(request, site, blob) : worker();
}

function workerFirst(rule, pathname) {
  if (!Array.isArray(rule)) return rule === true;
  const matches = (pattern) => glob(pattern).test(pathname);
  const [not, yes] = [rule.filter((it) => it.startsWith('!')), rule.filter((it) => !it.startsWith('!'))];
  return yes.some(matches) && !not.some((it) => matches(it.slice(1)));
}

const glob = (pattern) => new RegExp(`^${pattern.split('*').map((it) => it.replace(/[.+?^${}()|[\]\\]/g, '\\$&')).join('(.*)')}$`);

async function find(request, site, blob) {
  const url = new URL(request.url);
  const redirect = redirected(site.config._redirects, url.pathname);
  if (redirect) return to(redirect.to, url, redirect.status);
  let path;
  try {
    path = decodeURIComponent(url.pathname);
  } catch {
    return null;
  }
  const place = locate(path, (it) => Object.hasOwn(site.manifest, it), site.config.html_handling ?? 'auto-trailing-slash');
  if (place === null) return null;
  if (place.redirect) return to(place.redirect, url, 307);
  if (request.method !== 'GET' && request.method !== 'HEAD') return new Response('Method Not Allowed', { status: 405 });
  return file(request, site, blob, place.file, 200);
}

const to = (path, url, status) => new Response(null, { status, headers: { location: /^https?:/.test(path) ? path : path + url.search } });

// Where the file of a path is, or where to go instead.
function locate(path, has, mode) {
  const serveFile = (file) => (has(file) ? { file } : null);
  if (mode === 'none') return serveFile(path);
  const drop = mode === 'drop-trailing-slash';
  const force = mode === 'force-trailing-slash';
  // The path that the page `base` (without `.html`, without a slash at its end) is to have.
  const page = (base) => {
    if (base === '') return has('/index.html') ? { at: '/', file: '/index.html' } : null;
    if (has(`${base}.html`)) return { at: force ? `${base}/` : base, file: `${base}.html` };
    if (has(`${base}/index.html`)) return { at: drop ? base : `${base}/`, file: `${base}/index.html` };
    return null;
  };
  const settle = (found) => (found === null ? null : found.at === path ? { file: found.file } : { redirect: found.at });
  if (path.endsWith('/index.html') && has(path)) return settle(page(path.slice(0, -'/index.html'.length)));
  if (path.endsWith('.html') && has(path)) return settle(page(path.slice(0, -'.html'.length)));
  if (has(path)) return { file: path };
  if (path.endsWith('/') && has(`${path}index.html`) && !drop) return { file: `${path}index.html` };
  return settle(page(path.replace(/\/+$/, '')));
}

async function notFound(request, site, blob) {
  if (request.method !== 'GET' && request.method !== 'HEAD') return new Response('Method Not Allowed', { status: 405 });
  const handling = site.config.not_found_handling;
  if (handling === 'single-page-application' && site.manifest['/index.html']) {
    return file(request, site, blob, '/index.html', 200);
  }
  if (handling === '404-page') {
    let folder = new URL(request.url).pathname;
    while (folder !== '') {
      folder = folder.slice(0, folder.lastIndexOf('/'));
      if (site.manifest[`${folder}/404.html`]) return file(request, site, blob, `${folder}/404.html`, 404);
    }
  }
  return new Response(null, { status: 404 });
}

async function file(request, site, blob, path, status) {
  const hash = site.manifest[path];
  const etag = `"${hash}"`;
  const headers = new Headers({ etag, 'cache-control': 'public, max-age=0, must-revalidate' });
  const known = (request.headers.get('if-none-match') ?? '').split(',').some((it) => it.trim().replace(/^W\//, '') === etag);
  if (known && status === 200) return new Response(null, { status: 304, headers });
  const stored = await blob(hash);
  if (!stored.ok) return new Response('the file of this asset is not stored', { status: 500 });
  const type = stored.headers.get('content-type');
  if (type && type !== 'application/null') headers.set('content-type', type);
  addHeaders(headers, site.config._headers, new URL(request.url).pathname);
  return new Response(request.method === 'HEAD' ? null : stored.body, { status, headers });
}

// `_redirects`: `/from /to [status]`, with `*` and `:splat`.
function redirected(rules, pathname) {
  for (const line of (rules ?? '').split('\n')) {
    const [from, target, status] = line.trim().split(/\s+/);
    if (!target || from.startsWith('#')) continue;
    const match = glob(from).exec(pathname);
    if (match) return { to: target.replace(':splat', match[1] ?? ''), status: Number(status ?? 302) };
  }
  return null;
}

// `_headers`: a line with a path, then lines with a header each; `! Name` takes one away.
function addHeaders(headers, rules, pathname) {
  let applies = false;
  for (const line of (rules ?? '').split('\n')) {
    if (line.trim() === '' || line.trim().startsWith('#')) continue;
    if (!/^\s/.test(line)) {
      applies = glob(line.trim()).test(pathname);
    } else if (applies && line.trim().startsWith('!')) {
      headers.delete(line.trim().slice(1).trim());
    } else if (applies && line.includes(':')) {
      headers.set(line.slice(0, line.indexOf(':')).trim(), line.slice(line.indexOf(':') + 1).trim());
    }
  }
}
