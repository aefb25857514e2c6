// What is around a preview: a network that fails, pages that embed it, and names that are markup.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import { after, before, test } from "node:test";
import { launch } from "../../../tools/browser.mjs";
import { eventually, LACKS, Quickstart, Tab } from "../../../tools/quickstart.mjs";

/** @typedef {import("node:net").AddressInfo} AddressInfo */

/** A page's server, for pages that embed previews. @param {string} html */
async function host(html) {
  const server = createServer((_, response) => response.setHeader("content-type", "text/html; charset=utf-8").end(html));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const origin = `http://localhost:${/** @type {AddressInfo} */ (server.address()).port}`;
  return { origin, close: () => server.close() };
}

/** A way to a server that can be cut, as a network is: nothing that was connected stays, and nobody comes through. */
class Wire {
  up = true;
  /** @type {Set<import("node:net").Socket>} */
  #ends = new Set();
  #server = createTcpServer((near) => {
    if (!this.up) return near.destroy();
    const far = connect(this.to, "127.0.0.1");
    for (const [end, other] of /** @type {const} */ ([[near, far], [far, near]])) {
      this.#ends.add(end);
      end.on("error", () => other.destroy()).on("close", () => (this.#ends.delete(end), other.destroy()));
    }
    near.pipe(far).pipe(near);
  });

  /** @param {number} to */
  constructor(to) {
    this.to = to;
  }

  /** @param {number} to a port */
  static async lay(to) {
    const wire = new Wire(to);
    await new Promise((resolve) => wire.#server.listen(0, "127.0.0.1", () => resolve(undefined)));
    return wire;
  }

  get port() {
    return /** @type {AddressInfo} */ (this.#server.address()).port;
  }

  cut() {
    this.up = false;
    for (const end of this.#ends) end.destroy();
  }

  remove() {
    this.cut();
    this.#server.close();
  }
}

/** Its folder's name is markup: it is the app's name in the list. */
const NAME = "<img src=x onerror=alert(1)>";

/** @type {import("../../../tools/browser.mjs").Browser} */
let browser;
/** @type {Quickstart} */
let quickstart;

before(async () => {
  [browser, quickstart] = await Promise.all([launch(), Quickstart.example("todo-studio", { name: NAME })]);
});
after(async () => {
  await browser.close();
  await quickstart.assertNoNode();
  await quickstart.stop();
});

const counter = "src/components/Counter.tsx";

test("a cut of 5 s during 20 edits: all of them arrive, in order, and the page stays", async () => {
  const url = new URL(quickstart.url);
  const wire = await Wire.lay(Number(url.port));
  // Its own browser, for whom the preview's name leads through the wire.
  const elsewhere = await launch({ [url.hostname]: `127.0.0.1:${wire.port}` });
  try {
    const tab = await Tab.open(elsewhere, quickstart.url);
    for (const n of ["1", "2", "3"]) {
      await tab.by("counter").click();
      await tab.shows("counter-value", n);
    }
    const files = [counter, "src/pages/Index.tsx", "src/components/PageHeader.tsx", "src/index.css"];
    const texts = await Promise.all(files.map((path) => quickstart.read(path)));
    const [from, sockets, begun] = [tab.told.length, tab.sockets, Date.now()];
    for (let n = 1; n <= 20; n++) {
      if (n === 5) wire.cut();
      const at = n % files.length;
      const [path, text] = [files[at] ?? "", texts[at] ?? ""];
      const next = path.endsWith(".css")
        ? `${text}\n:root { --edit: ${n}; }\n`
        : text.replace("Focus rounds", `Counter ${n}`).replace('title="Today"', `title="Index ${n}"`).replace("</h1>", `</h1><i data-testid="header">${n}</i>`);
      const pushed = quickstart.output.length;
      await quickstart.write(path, next);
      // The server saw each by itself: twenty edits are not to become fewer.
      await eventually(() => quickstart.output.slice(pushed).includes("pushed in"), `edit ${n} to be pushed`);
    }
    // As long as it was said, however quickly they were written.
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, begun + 5_000 - Date.now())));
    assert.ok(tab.news(from).length < 20, "the cut kept something from the page");
    wire.up = true;

    await tab.page.getByText("Counter 20", { exact: true }).waitFor();
    await tab.shows("header", "18");
    await tab.shows("page-title", "Index 17");
    await eventually(async () => (await tab.computed(":root", "--edit")).trim() === "19", "the last style");
    await tab.shows("counter-value", "3");
    assert.equal(await tab.reloaded(), false, "the page was loaded anew");
    assert.ok(tab.sockets > sockets, "it came back by another socket");
    const news = tab.news(from).filter((it) => it.position);
    const order = news.map((it) => it.position?.seq ?? 0);
    const [first = 0] = order;
    const run = (/** @type {number} */ from, /** @type {number} */ to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
    // What was heard before the cut but not shown, as its modules could not be fetched any more, is told again.
    const returned = order.findIndex((seq, n) => seq <= (order[n - 1] ?? 0));
    const parts = returned < 0 ? [order] : [order.slice(0, returned), order.slice(returned)];
    assert.equal(order.at(-1), first + 19, String(order));
    for (const part of parts) assert.deepEqual(part, run(part[0] ?? 0, part.at(-1) ?? 0), "all of them, in order");
    assert.ok(news.every((it) => it.type === "update"));
    for (const [at, path] of files.entries()) await quickstart.write(path, texts[at] ?? "");
  } finally {
    await elsewhere.close();
    wire.remove();
  }
});

test("inspection answers the page that embeds it, with file and line", async () => {
  const embedder = await host(`<!doctype html><title>Embedder</title><iframe id="frame" width="1200" height="700"></iframe><script>
    window.answers = [];
    addEventListener("message", (event) => answers.push({ origin: event.origin, ...event.data }));</script>`);
  // An app that keeps nothing in the browser's storage, which Chromium denies to foreign frames of private windows.
  const embedded = await Quickstart.example("tailwind4", { embedder: embedder.origin });
  const tab = new Tab(await browser.newPage({ viewport: { width: 1300, height: 800 } }));
  const { page } = tab;
  try {
    await page.goto(embedder.origin);
    await page.evaluate(`document.getElementById("frame").src = ${JSON.stringify(embedded.url)}`);
    const frame = page.frameLocator("#frame");
    const add = frame.getByTestId(/^add-/).first();
    await add.waitFor();
    /** @returns {Promise<Record<string, unknown>[]>} */
    const answers = () => page.evaluate("answers.filter((it) => it.type === 'element-selected')");
    const say = (/** @type {string} */ type) => page.evaluate(`frame.contentWindow.postMessage({ type: "${type}" }, "*")`);
    /** The line that was written, as the answer says. @param {Record<string, unknown> | undefined} answer */
    const line = async (answer) => (await embedded.read(String(answer?.file))).split("\n")[Number(answer?.line) - 1]?.trim();

    await say("enable-inspection");
    await eventually(async () => {
      await page.mouse.move(1, 1);
      await add.hover();
      return (await frame.locator("overskill-outline").count()) > 0;
    }, "the outline");
    await add.click();
    const [button] = await eventually(async () => ((await answers()).length === 1 ? answers() : undefined), "an answer");
    assert.deepEqual([button?.file, button?.tag, button?.component], ["src/components/MenuCard.tsx", "button", "MenuCard"]);
    assert.equal(await line(button), "<button");
    assert.equal(button?.origin, new URL(embedded.url).origin);
    await frame.getByTestId("heading").click();
    const [, heading] = await eventually(async () => ((await answers()).length === 2 ? answers() : undefined), "a second answer");
    assert.deepEqual([heading?.file, heading?.tag, heading?.component], ["src/App.tsx", "h1", "App"]);
    assert.match((await line(heading)) ?? "", /^<h1 /);
    assert.match((await frame.getByTestId("order").textContent()) ?? "", /Nothing yet/, "the click did nothing else");

    const asked = (await answers()).length;

    await say("disable-inspection");
    await eventually(async () => {
      await add.click();
      return /1 × /.test((await frame.getByTestId("order").textContent()) ?? "");
    }, "clicks to click again");
    assert.equal((await answers()).length, asked);
    assert.deepEqual(tab.errors, []);
  } finally {
    await page.close();
    await embedded.stop();
    embedder.close();
  }
});

test("another page gets no frame, and no answer", async () => {
  const stranger = await host(`<!doctype html><title>Stranger</title><iframe id="frame" src="${quickstart.url}"></iframe><script>
    window.answers = [];
    addEventListener("message", (event) => answers.push(event.data));</script>`);
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    /** @type {string[]} */
    const said = [];
    page.on("console", (message) => said.push(message.text()));
    await page.goto(stranger.origin);
    await eventually(() => said.some((text) => /frame-ancestors/.test(text)), "the frame to be refused");
    assert.equal(await page.frameLocator("#frame").getByTestId("counter").count(), 0);

    // A window of its own it may open; that does not answer.
    const [opened] = await Promise.all([
      context.waitForEvent("page"),
      page.evaluate(`void (window.other = open(${JSON.stringify(quickstart.url)}))`),
    ]);
    await opened.getByTestId("counter").waitFor();
    await page.evaluate(`other.postMessage({ type: "enable-inspection" }, "*")`);
    await opened.evaluate("new Promise((done) => setTimeout(done))"); // what was posted before has been heard
    await opened.getByTestId("counter").click();
    await eventually(async () => (await opened.getByTestId("counter-value").textContent()) === "1", "the click to click");
    assert.equal(await opened.locator("overskill-outline").count(), 0);
    assert.deepEqual(await page.evaluate("answers"), []);
  } finally {
    await context.close();
    stranger.close();
  }
});

test("markup in names and messages is text", async () => {
  const tab = await Tab.open(browser, quickstart.url);
  /** @type {string[]} */
  const dialogs = [];
  tab.page.on("dialog", (dialog) => (dialogs.push(dialog.message()), void dialog.dismiss()));
  const was = await quickstart.read(counter);
  const file = `src/components/${NAME}.tsx`;
  await quickstart.write(file, `export const x = "<img src=x onerror=alert(2)>" ++ ;\n`);
  await quickstart.write(counter, `import "./${NAME}";\n${was}`);
  const text = await tab.overlayText();
  assert.ok(text.includes(NAME) && text.includes("onerror=alert(2)"), text);
  await quickstart.remove(file);
  await eventually(async () => /import|resolve|find/i.test(await tab.overlayText()), "the missing file to be named");
  assert.ok((await tab.overlayText()).includes(NAME));
  await quickstart.write(counter, `import "<img src=x onerror=alert(3)>";\n${was}`);
  await eventually(async () => (await tab.overlayText()).includes("alert(3)"), "the third message");
  assert.equal(await tab.overlay.locator("img").count(), 0);
  await quickstart.write(counter, was);
  await tab.overlayGone();

  const { port } = new URL(quickstart.url);
  await tab.page.goto(`http://localhost:${port}/`);
  if (!LACKS.has("list")) {
    const entry = tab.page.getByRole("link", { name: NAME });
    await entry.waitFor();
    assert.equal(await entry.getAttribute("href").then((href) => href && new URL(href).origin), new URL(quickstart.url).origin);
  }
  assert.equal(await tab.page.locator("img").count(), 0);
  for (const path of ["/%3Cimg%20src=x%20onerror=alert(4)%3E", "/..%2f..%2fetc/passwd"]) {
    await tab.page.goto(`http://localhost:${port}${path}`);
    assert.equal(await tab.page.locator("img").count(), 0);
  }
  await tab.page.goto(`http://preview-nobody-${"x".repeat(20)}.localhost:${port}/%3Cimg%20src=x%20onerror=alert(5)%3E`);
  assert.equal(await tab.page.locator("img").count(), 0);
  assert.deepEqual(dialogs, []);
  await tab.page.close();
});
