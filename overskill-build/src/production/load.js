// What a module loads along with another one that it imports when it is needed: style sheets, which it waits for, and
// scripts, which come at the same time and not one after the other.

const asked = {};

export function load(get, files) {
  if (!files || typeof document === "undefined") return get();
  const waiting = [];
  for (const href of files.split(" ")) {
    if (!(href in asked)) asked[href] = ask(href);
    if (asked[href]) waiting.push(asked[href]);
  }
  return waiting.length ? Promise.all(waiting).then(get) : get();
}

function ask(href) {
  const style = href.endsWith(".css");
  const rel = style ? "stylesheet" : "modulepreload";
  const there = [...document.getElementsByTagName("link")].some((it) => it.rel === rel && it.getAttribute("href") === href);
  if (there) return;
  const link = document.createElement("link");
  link.rel = rel;
  link.href = href;
  document.head.append(link);
  if (!style) return;
  return new Promise((resolve, reject) => {
    link.onload = resolve;
    link.onerror = () => {
      delete asked[href];
      link.remove();
      reject(new Error(`Unable to load ${href}`));
    };
  });
}
