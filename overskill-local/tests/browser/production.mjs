// todo-studio, built and deployed to local production by the real quickstart, beside what `npm run build` makes of it: the same
// routes, the same looks, a route that is loaded when it is needed, and nothing that complains.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { launch } from "../../../tools/browser.mjs";
import { eventually, PATIENCE_MS, Quickstart } from "../../../tools/quickstart.mjs";

const APP = new URL("../../../examples/apps/todo-studio/", import.meta.url).pathname;
const ROUTES = ["/", "/board", "/calendar", "/stats", "/settings", "/lists/work", "/lists/work/tasks/seed-1", "/no/such/page"];
/** What is compared, and where. */
const LOOKS = ["body", "h1", "main", ".nav-link", "[data-testid=counter]", "[data-testid=task-item]", "[data-testid=month-grid]", "button"];

/** @type {import("../../../tools/browser.mjs").Browser} */
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** The folder with what Vite makes of the app. Installed once for each lock. */
async function builtByVite() {
  const folder = join(tmpdir(), "overskill-test-todo-studio");
  await mkdir(folder, { recursive: true });
  await cp(APP, folder, { recursive: true, filter: (path) => !/\/(node_modules|dist)$/.test(path) });
  const run = (/** @type {string} */ program, /** @type {string[]} */ ...args) =>
    promisify(execFile)(program, args, { cwd: folder, env: { ...process.env, NODE_ENV: "" }, timeout: 5 * PATIENCE_MS });
  const lock = await readFile(join(folder, "package-lock.json"), "utf8");
  const stamp = join(folder, "node_modules/.installed-from.json");
  if ((await readFile(stamp, "utf8").catch(() => "")) !== lock) {
    await run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts");
    await writeFile(stamp, lock);
  }
  await run("npm", "run", "build");
  return join(folder, "dist");
}

/** Serves a folder as a host of single-page apps does. @param {string} folder */
async function serve(folder) {
  /** @type {Record<string, string>} */
  const types = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain" };
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? "/", "http://localhost").pathname;
    const file = await readFile(join(folder, path)).catch(() => undefined);
    const contents = file ?? (await readFile(join(folder, "index.html")));
    response.writeHead(200, { "content-type": file ? (types[extname(path)] ?? "application/octet-stream") : "text/html" });
    response.end(contents);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const address = server.address();
  assert.ok(address && typeof address === "object");
  return { url: `http://127.0.0.1:${address.port}`, close: () => server.close() };
}

/** A page that is looked at: what it loaded, and what it complained of. @param {string} url */
async function visit(url) {
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  /** @type {string[]} */
  const errors = [];
  /** @type {string[]} */
  const loaded = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error.stack ?? error)));
  page.on("response", (response) => loaded.push(`${response.status()} ${new URL(response.url()).pathname}`));
  await page.emulateMedia({ reducedMotion: "reduce" });
  await page.goto(url, { waitUntil: "networkidle" });
  return { page, errors, loaded };
}

/** Every computed property of the first element for each selector, and how many there are; nothing that moves or is random.
 * @param {import("../../../tools/browser.mjs").Page} page */
const looks = (page) =>
  page.evaluate(
    `(${(/** @type {string[]} */ selectors) =>
      selectors.map((selector) => {
        const all = document.querySelectorAll(selector);
        const style = all[0] && getComputedStyle(all[0]);
        const kept = style && Array.from(style).filter((name) => !/^(animation|transition|perspective-origin|transform-origin)/.test(name));
        return [selector, all.length, kept?.map((name) => `${name}: ${style.getPropertyValue(name)}`).sort()];
      })})(${JSON.stringify(LOOKS)})`,
  );

test("todo-studio in local production is what npm run build makes of it", async () => {
  const vite = await serve(await builtByVite());
  const quickstart = await Quickstart.example("todo-studio", { deploy: true });
  try {
    const ours = await eventually(() => /production is at (\S+?),/.exec(quickstart.output)?.[1], "a deployment");
    for (const route of ROUTES) {
      const [here, there] = [await visit(`${ours.replace(/\/$/, "")}${route}`), await visit(`${vite.url}${route}`)];
      const text = async (/** @type {import("../../../tools/browser.mjs").Page} */ page) => (await page.locator("#root").innerText()).trim();
      // A route that is loaded when it is needed may come a moment later on one side.
      const same = async () => (await text(here.page)) === (await text(there.page));
      await eventually(same, `${route} says the same`).catch(() => {});
      assert.equal(await text(here.page), await text(there.page), `${route} says the same`);
      assert.ok((await text(here.page)).length > 50, `${route} shows something`);
      assert.deepEqual(await looks(here.page), await looks(there.page), `${route} looks the same`);
      assert.deepEqual([here.errors, there.errors], [[], []], `${route} complains of nothing`);
      assert.deepEqual(here.loaded.filter((it) => !it.startsWith("200 ")), [], `${route} has all that it asks for`);
      await here.page.close();
      await there.page.close();
    }

    const { page, errors, loaded } = await visit(ours);
    const isLazy = (/** @type {string} */ it) => /\/assets\/StatsPage-[\w-]{8}\.js$/.test(it);
    assert.ok(loaded.some((it) => /\/assets\/index-[\w-]{8}\.css$/.test(it)), "the style sheet is a file of its own");
    assert.ok(!loaded.some(isLazy), "a route that nobody looks at is not loaded");
    await page.getByRole("link", { name: "Stats", exact: true }).click();
    await eventually(() => loaded.some(isLazy), "the route's own script");
    await eventually(async () => (await page.getByTestId("page-title").textContent()) === "Stats", "the route");
    assert.equal(loaded.filter((it) => it.endsWith(".html") || it === "200 /").length, 1, "without loading the page anew");
    // No hot reload, no source, no development.
    assert.ok(!loaded.some((it) => /@overskill|@npm|\/src\//.test(it)), loaded.join("\n"));
    await page.getByRole("link", { name: "Settings", exact: true }).click();
    await page.getByRole("tab", { name: "About" }).click();
    await eventually(async () => /Running in production mode/.test(await page.getByTestId("about").innerText()), "the mode");
    assert.deepEqual(errors, []);
    await page.close();
  } catch (error) {
    console.error(quickstart.output);
    throw error;
  } finally {
    await quickstart.stop();
    vite.close();
  }
});
