// The page's client in a real browser: the meaning of `import.meta.hot`, updates, styles, errors, and coming back.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { launch } from "../../../tools/browser.mjs";
import { TestServer, until } from "../../../tools/page-server.mjs";

/** @type {import("../../../tools/browser.mjs").Browser} */
let browser;
/** @type {TestServer} */
let server;
/** @type {import("../../../tools/browser.mjs").Page} */
let page;

before(async () => {
  browser = await launch();
});
after(() => browser.close());
beforeEach(async () => {
  server = await TestServer.start();
  page = await (await browser.newContext()).newPage();
});
afterEach(async () => {
  await page.context().close();
  await server.stop();
});

/** What the page's modules pushed. @returns {Promise<string[]>} */
const log = () => page.evaluate("window.log");
/** @param {number} length */
const logged = async (length) => {
  await until(async () => (await log())?.length >= length, `${length} entries in the log`);
  return log();
};

/** Opens a page whose modules may push to `log`; it knows whether it was loaded anew. @param {string} html */
async function open(html, config = {}) {
  server.page("/", html, config, "<script>window.log = []; window.mark = Math.random();</script>");
  await page.goto(server.origin());
  await until(() => server.opened.length, "a socket");
  const mark = await page.evaluate("window.mark");
  return { reloaded: async () => (await page.evaluate("window.mark")) !== mark };
}

/** @param {string} path */
const entry = (path) => `<script type="module" src="${path}"></script>`;

test("a module that accepts itself is replaced, and hands its data on", async () => {
  const code = (/** @type {string} */ version) => `
    log.push("run ${version} after " + (import.meta.hot.data.count ?? 0));
    import.meta.hot.dispose((data) => { data.count = (data.count ?? 0) + 1; log.push("dispose ${version}"); });
    import.meta.hot.on("hello", (data) => log.push("hello ${version} " + data));
    import.meta.hot.accept((next) => log.push("accepted " + next.name));
    export const name = "${version}";`;
  server.hot("/a.js", code("one"));
  const { reloaded } = await open(entry("/a.js"));
  server.hot("/a.js", code("two"));
  server.update("/a.js");
  await logged(4);
  server.hot("/a.js", code("three"));
  server.update("/a.js");
  await logged(7);
  server.say({ type: "custom", event: "hello", data: "all" });
  assert.deepEqual(await logged(8), [
    "run one after 0",
    "dispose one",
    "run two after 1",
    "accepted two",
    "dispose two",
    "run three after 2",
    "accepted three",
    "hello three all", // and not those of versions before
  ]);
  assert.equal(await reloaded(), false);
});

test("dependencies are accepted by those who import them", async () => {
  server.hot("/dep.js", "export const value = 1;");
  server.hot("/other.js", "export const value = 1;");
  server.hot(
    "/a.js",
    `import "/dep.js"; import "/other.js";
    import.meta.hot.accept("/dep.js", (dep) => log.push("dep " + dep.value));
    import.meta.hot.accept(["/dep.js", "/other.js"], ([dep, other]) => log.push(\`both \${dep?.value} \${other?.value}\`));
    import.meta.hot.acceptExports(["x"], () => log.push("exports"));
    import.meta.hot.decline();`,
  );
  await open(entry("/a.js"));
  server.hot("/dep.js", "export const value = 2;");
  server.update(["/a.js", "/dep.js"]);
  await logged(2);
  server.hot("/other.js", "export const value = 3;");
  server.update(["/a.js", "/other.js"]);
  assert.deepEqual(await logged(3), ["dep 2", "both 2 undefined", "both undefined 3"]);
});

test("an update of several modules is fetched at once and applied in its order", async () => {
  const accept = (/** @type {string} */ name) =>
    `log.push("run ${name}"); import.meta.hot.accept(() => log.push("accepted ${name}"));`;
  const names = ["a", "b", "c"];
  for (const name of names) server.hot(`/${name}.js`, accept(name));
  await open(names.map((name) => entry(`/${name}.js`)).join(""));
  await logged(3);
  await page.evaluate("log.length = 0");
  const slow = server.files.get("/a.js");
  if (slow) slow.delayMs = 400;
  server.hot("/b.js", `${accept("b")} throw new Error("b is broken");`);
  server.update("/a.js", "/b.js", "/c.js");
  server.update("/c.js");
  const entries = await logged(8);
  // `a` is slow, so its turn to run comes last; nobody is told before all of them are there.
  assert.deepEqual(entries.slice(0, 3).sort(), ["run a", "run b", "run c"]);
  assert.deepEqual(entries.slice(3), ["accepted a", "accepted b", "accepted c", "run c", "accepted c"]);
});

test("events come around updates, and what is pruned leaves", async () => {
  server.hot(
    "/a.js",
    `for (const event of ["vite:beforeUpdate", "vite:afterUpdate", "vite:beforePrune", "vite:beforeFullReload", "vite:invalidate"])
      import.meta.hot.on(event, (data) => log.push(event + " " + (data.updates?.[0].path ?? data.paths ?? data.path)));
    const off = () => log.push("never"); import.meta.hot.on("vite:afterUpdate", off); import.meta.hot.off("vite:afterUpdate", off);`,
  );
  server.hot(
    "/gone.js",
    `import.meta.hot.accept(); import.meta.hot.data.it = "kept";
    import.meta.hot.dispose((data) => log.push("disposed " + data.it));
    import.meta.hot.prune((data) => log.push("pruned " + data.it));`,
  );
  await open(entry("/a.js") + entry("/gone.js"));
  await until(() => server.requests.includes("/gone.js"), "the module");
  server.update("/gone.js");
  await logged(3);
  server.tell({ type: "prune", paths: ["/gone.js"] });
  assert.deepEqual(await logged(6), [
    "vite:beforeUpdate /gone.js",
    "disposed kept",
    "vite:afterUpdate /gone.js",
    "vite:beforePrune /gone.js",
    "disposed kept",
    "pruned kept",
  ]);
});

test("a module that refuses an update says so, and who was first", async () => {
  server.hot("/a.js", `import.meta.hot.accept(() => { if (location.hash) import.meta.hot.invalidate("not like this"); });`);
  server.hot("/b.js", `import.meta.hot.accept(() => import.meta.hot.invalidate());`);
  await open(entry("/a.js") + entry("/b.js"));
  await page.evaluate("location.hash = 'x'");
  server.update("/a.js");
  await until(() => server.said.length === 1, "the refusal");
  const first = { path: "/a.js", message: "not like this", firstInvalidatedBy: "/a.js" };
  assert.deepEqual(server.said[0], { type: "custom", event: "vite:invalidate", data: first });
  server.tell({
    type: "update",
    updates: [{ type: "js-update", path: "/b.js", acceptedPath: "/b.js", timestamp: 9, firstInvalidatedBy: "/a.js" }],
  });
  await until(() => server.said.length === 2, "the second refusal");
  assert.deepEqual(/** @type {any} */ (server.said[1]).data, { path: "/b.js", firstInvalidatedBy: "/a.js" });
});

test("twenty updates during a cut of five seconds all arrive, in order and once", async () => {
  const code = (/** @type {number | string} */ n) => `log.push(${JSON.stringify(n)}); import.meta.hot.accept();`;
  const edits = Array.from({ length: 20 }, (_, n) => n + 1);
  for (const n of edits) server.hot(`/${n}.js`, code("start"));
  const { reloaded } = await open(edits.map((n) => entry(`/${n}.js`)).join(""));
  await logged(20);
  await page.evaluate("log.length = 0");
  server.hot("/1.js", code("before"));
  server.update("/1.js");
  await logged(1);

  server.up = false;
  server.cut();
  for (const n of edits) {
    await new Promise((resolve) => setTimeout(resolve, 250));
    server.hot(`/${n}.js`, code(n));
    server.update(`/${n}.js`);
  }
  server.up = true;
  assert.deepEqual(await logged(21), ["before", ...edits]);
  assert.equal(server.opened.at(-1), 1, "it came back with the position at which it stood");
  assert.equal(await reloaded(), false);
  assert.equal(await page.locator("overskill-error").count(), 0);
});

test("a module that accepts a moment after it ran takes the update that came in between", async () => {
  const code = (/** @type {string} */ version) =>
    `log.push("run ${version}"); setTimeout(() => import.meta.hot.accept(() => log.push("accepted after ${version}")), 150);`;
  server.hot("/a.js", code("one"));
  await open(entry("/a.js"));
  await logged(1);
  server.hot("/a.js", code("two"));
  server.update("/a.js");
  await logged(3);
  server.hot("/a.js", code("three"));
  server.update("/a.js");
  assert.deepEqual(await logged(5), ["run one", "run two", "accepted after one", "run three", "accepted after two"]);
});

test("it says in which epoch its page was loaded, each time it comes", async () => {
  server.hot("/a.js", "import.meta.hot.accept();");
  await open(entry("/a.js"), { epoch: 3 });
  server.cut();
  await until(() => server.opened.length >= 2, "another socket");
  assert.deepEqual(server.epochs, ["3", "3"]);
});

/** A page with a module that is on its way until it is let go. @param {string} html */
async function starting(html) {
  /** @type {() => void} */
  let go = () => {};
  server.hot("/held.js", "log.push('held'); import.meta.hot.accept();");
  const file = server.files.get("/held.js");
  if (file) file.held = new Promise((resolve) => (go = resolve));
  server.page("/", html, {}, "<script>window.log = [];</script>");
  await page.goto(server.origin(), { waitUntil: "commit" });
  await until(() => server.opened.length, "a socket");
  await until(() => server.requests.includes("/a.js"), "the other module");
  return go;
}

const loads = () => server.requests.filter((it) => it === "/").length;

test("what changes while the page's modules are on their way loads it anew, once they ran", async () => {
  server.hot("/a.js", "log.push('one'); import.meta.hot.accept();");
  const go = await starting(entry("/held.js") + entry("/a.js"));
  for (const version of ["two", "three"]) {
    server.hot("/a.js", `log.push('${version}'); import.meta.hot.accept();`);
    server.update("/a.js");
  }
  server.page("/", entry("/held.js") + entry("/a.js"), {}, "<script>window.log = [];</script>"); // at the newest position
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(loads(), 1, "not before it started: it would never start under many edits");
  go();
  await until(() => loads() === 2, "the page anew");
  await until(async () => (await log().catch(() => /** @type {string[]} */ ([])))?.includes("three"), "the newest version");
  assert.deepEqual(await log(), ["held", "three"]);
  server.hot("/a.js", "log.push('four'); import.meta.hot.accept();");
  server.update("/a.js");
  await logged(3);
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(loads(), 2);
});

test("what runs already takes its update, whatever else is on its way", async () => {
  server.hot("/a.js", "log.push('one'); import.meta.hot.accept();");
  const go = await starting(entry("/a.js") + entry("/held.js"));
  await logged(1);
  server.hot("/a.js", "log.push('two'); import.meta.hot.accept();");
  server.update("/a.js");
  await logged(2);
  go();
  assert.deepEqual(await logged(3), ["one", "two", "held"]);
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(loads(), 1);
});

test("what is old is not applied again, a reload neither", async () => {
  server.hot("/a.js", "log.push('run'); import.meta.hot.accept();");
  const { reloaded } = await open(entry("/a.js"));
  server.update("/a.js");
  await logged(2);
  const old = { incarnation: server.incarnation, seq: 1 };
  server.say({ type: "update", updates: [{ type: "js-update", path: "/a.js", acceptedPath: "/a.js", timestamp: 77 }], position: old });
  server.say({ type: "full-reload", path: "*", position: old });
  server.update("/a.js");
  await logged(3);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.deepEqual(await log(), ["run", "run", "run"]);
  assert.equal(await reloaded(), false);
});

test("news whose modules cannot be fetched because the server went is told again", async () => {
  server.hot("/a.js", "log.push('one'); import.meta.hot.accept();");
  const { reloaded } = await open(entry("/a.js"));
  await logged(1);
  server.hot("/a.js", "log.push('two'); import.meta.hot.accept();");
  // The message still gets through; what it names does not.
  await page.route("**/a.js?t=*", (route) => route.abort());
  server.update("/a.js");
  await until(() => server.opened.length >= 3, "more sockets");
  assert.equal(server.opened.at(-1), 0);
  await page.unroute("**/a.js?t=*");
  assert.deepEqual(await logged(2), ["one", "two"]);
  assert.equal(await reloaded(), false);
  assert.equal(await page.locator("overskill-error").count(), 0);
});

test("a full reload loads the page anew, and another page's does not", async () => {
  const { reloaded } = await open("");
  server.tell({ type: "full-reload", path: "/other.html" });
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.equal(await reloaded(), false);
  server.page("/", "", {}, "<script>window.mark = 'new'</script>");
  server.tell({ type: "full-reload", path: "*" });
  await until(() => reloaded().catch(() => false), "the new page");
});

test("a hidden page waits, and comes back as soon as it is seen", async () => {
  await open("");
  await page.evaluate(`Object.defineProperty(document, "hidden", { get: () => window.away, configurable: true }); window.away = true;`);
  server.up = false;
  server.cut();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const before = server.opened.length;
  server.up = true;
  await page.evaluate(`window.away = false; document.dispatchEvent(new Event("visibilitychange"));`);
  await until(() => server.opened.length > before, "the socket", 500);
});

test("styles keep their places, and links are never without a sheet", async () => {
  server.files.set("/linked.css", { type: "text/css", body: "p { color: rgb(1, 1, 1) }" });
  server.hot(
    "/a.js",
    `import { updateStyle, removeStyle } from "/@overskill/client.js";
    Object.assign(window, { updateStyle, removeStyle });
    updateStyle("/1.css", "p { top: 1px }"); updateStyle("/2.css", "p { top: 2px }"); updateStyle("/3.css", "p { top: 3px }");`,
  );
  await open(`<link rel="stylesheet" href="/linked.css?v=1"><p>text</p>${entry("/a.js")}`);
  const order = () => page.evaluate(`[...document.querySelectorAll("style")].map((it) => it.textContent)`);
  await until(async () => /** @type {any[]} */ (await order()).length === 3, "styles");
  await page.evaluate(`updateStyle("/2.css", "p { top: 22px }"); removeStyle("/3.css"); updateStyle("/4.css", "p { left: 4px }");`);
  assert.deepEqual(await order(), ["p { top: 1px }", "p { top: 22px }", "p { left: 4px }"]);

  await page.evaluate(`window.seen = new Set(); (function look() { seen.add(getComputedStyle(document.querySelector("p")).color); requestAnimationFrame(look); })();`);
  server.files.set("/linked.css", { type: "text/css", body: "p { color: rgb(2, 2, 2) }", delayMs: 200 });
  server.tell({ type: "update", updates: [{ type: "css-update", path: "/linked.css", acceptedPath: "/linked.css", timestamp: 5 }] });
  await until(() => page.evaluate(`seen.has("rgb(2, 2, 2)")`), "the new sheet");
  assert.deepEqual(await page.evaluate("[...seen]"), ["rgb(1, 1, 1)", "rgb(2, 2, 2)"]);
  assert.equal(await page.locator("link").count(), 1);
});

const EVIL = `<img src=x onerror="window.attacked = 1"><script>window.attacked = 1</script>`;

test("the overlay shows texts as texts, and goes when it is mended", async () => {
  server.hot("/a.js", "import.meta.hot.accept();");
  const { reloaded } = await open(entry("/a.js"));
  const err = { message: `Bad ${EVIL}`, id: `src/${EVIL}.tsx`, frame: `> 1 | ${EVIL}`, help: EVIL, stack: EVIL, loc: { file: `src/${EVIL}.tsx`, line: 3, column: 7 } };
  server.say({ type: "error", err, more: 2 });
  const overlay = page.locator("overskill-error");
  await overlay.waitFor();
  assert.equal(await overlay.locator(".message").textContent(), `Bad ${EVIL}`);
  assert.equal(await overlay.locator(".place").textContent(), `src/${EVIL}.tsx:3:7`);
  assert.equal(await overlay.locator(".frame").textContent(), `> 1 | ${EVIL}`);
  assert.equal(await overlay.locator(".help").textContent(), EVIL);
  assert.equal(await overlay.locator(".more").textContent(), "and 2 more problems");
  assert.equal(await overlay.locator("img, script").count(), 0);
  assert.equal(await page.evaluate("window.attacked"), undefined);
  await page.keyboard.press("Escape");
  await until(async () => (await overlay.count()) === 0, "Esc closes it");

  server.say({ type: "error", err });
  await overlay.waitFor();
  server.update("/a.js");
  await until(async () => (await overlay.count()) === 0, "it goes");
  assert.equal(await reloaded(), false);
});

test("a page that could not start shows why, and starts once it is mended", async () => {
  server.script("/main.js", `import { missing } from "/dep.js"; document.title = missing;`);
  server.script("/dep.js", "export const other = 1;");
  await open(entry("/main.js"));
  const overlay = page.locator("overskill-error");
  await overlay.waitFor();
  assert.match(String(await overlay.locator(".message").textContent()), /missing/);
  assert.match(String(await overlay.locator(".place").textContent()), /^main\.js:1:10$/);
  server.script("/dep.js", "export const missing = 'mended';");
  server.page("/", entry("/main.js"));
  server.update("/main.js");
  await until(async () => (await page.title().catch(() => "")) === "mended", "the page");
  assert.equal(await overlay.count(), 0);
});

test("an error while the page starts does not keep what runs from being updated", async () => {
  server.hot("/a.js", "log.push('one'); import.meta.hot.accept();");
  server.hot("/b.js", "import.meta.hot.accept; throw new Error('not yet');");
  const { reloaded } = await open(entry("/a.js") + entry("/b.js"));
  await page.locator("overskill-error").waitFor();
  server.hot("/a.js", "log.push('two'); import.meta.hot.accept();");
  server.update("/a.js");
  assert.deepEqual(await logged(2), ["one", "two"]);
  assert.equal(await reloaded(), false);
  server.hot("/b.js", "log.push('b'); import.meta.hot.accept();");
  server.update("/b.js");
  await until(async () => (await log().catch(() => /** @type {string[]} */ ([])))?.includes("b"), "what was mended runs");
});

test("a module that cannot be loaded is named, and the parent page is told where it may be", async () => {
  server.hot("/a.js", `window.load = () => { import("/lazy.js"); }; window.fail = () => setTimeout(() => { throw new Error("in the app"); });`);
  server.files.set("/parent", {
    type: "text/html",
    body: `<script>window.heard = []; addEventListener("message", ({ data }) => heard.push(data));</script><iframe src="/"></iframe>`,
  });
  server.page("/", entry("/a.js"), { inspectOrigins: [server.origin(), "https://elsewhere.example"], postErrors: true });
  await page.goto(`${server.origin()}/parent`);
  const frame = page.frameLocator("iframe");
  const inner = await until(() => page.frames()[1], "the frame");
  await inner.waitForFunction("window.load");
  await inner.evaluate("load()");
  await frame.locator("overskill-error").waitFor();
  assert.match(String(await frame.locator("overskill-error .message").textContent()), /^\/lazy\.js/);
  await inner.evaluate("fail()");
  const heard = await until(
    async () => {
      const all = /** @type {any[]} */ (await page.evaluate("heard"));
      return all.length >= 2 ? all : undefined;
    },
    "what the parent hears",
  );
  assert.deepEqual(heard.map((it) => [it.type, it.file]), [["preview-error", "lazy.js"], ["preview-error", "a.js"]]);
  assert.match(heard[1].message, /in the app/);
});
