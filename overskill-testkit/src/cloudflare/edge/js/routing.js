// Which script a URL leads to. The table is `{ hosts: { host: script }, zones: [{ id, name, routes }], hostnames }`;
// a route is `{ host, path, script }`, with `*` at the beginning of a host and at the end of a path.

export function routeOf(table, url) {
  const host = url.hostname;
  const direct = table.hosts[host];
  if (direct) return direct;
  // A custom hostname is served as its zone's.
  const zone = table.hostnames[host] ?? zoneOf(table, host);
  if (zone === undefined) return null;
  let best = null;
  for (const route of table.zones[zone].routes) {
    if (matches(route, host, url.pathname) && (best === null || isNarrower(route, best))) best = route;
  }
  return best === null ? null : best.script;
}

function zoneOf(table, host) {
  return Object.keys(table.zones)
    .filter((id) => host === table.zones[id].name || host.endsWith(`.${table.zones[id].name}`))
    .sort((a, b) => table.zones[b].name.length - table.zones[a].name.length)[0];
}

function matches({ host: wanted, path }, host, pathname) {
  const fits = wanted.startsWith('*') ? host.endsWith(wanted.slice(1)) && (wanted !== `*.${host}`) : host === wanted;
  if (!fits) return false;
  return path.endsWith('*') ? pathname.startsWith(path.slice(0, -1)) : pathname === path;
}

function isNarrower(one, other) {
  const exact = (it) => Number(!it.host.startsWith('*'));
  return (
    exact(one) - exact(other) ||
    one.host.length - other.host.length ||
    one.path.length - other.path.length
  ) > 0;
}
