// What `benches preview` asks of a real browser: how long an edit on disk takes to the page, and a server to its first page.
//
// It is given what to do as one line of JSON, and prints what it saw as one line of JSON: times in milliseconds, a row for each
// turn. It judges nothing.

import { spawn } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { launchBare } from "./bare-browser.mjs";
import { launch } from "./browser.mjs";

/** @typedef {import("playwright-core").Page} Page */

/**
 * @typedef {object} Contestant
 * @property {string} name
 * @property {string} command
 * @property {string[]} args
 * @property {string} cwd
 * @property {number} port
 * @property {string} host how the page is called
 * @property {string} [ready] how a page is called that is there once it may begin; its own otherwise
 * @property {string[]} [remove] what has to be gone before it starts
 */

/**
 * @typedef {object} Task
 * @property {"edits" | "starts"} what
 * @property {number} turns
 * @property {Contestant[]} contestants
 * @property {{ path: string, anchor: string }[]} edits texts that are on the page
 */

const DEADLINE = 120_000;

const now = () => performance.timeOrigin + performance.now();
const sleep = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Those that run: none outlives this program. @type {Set<import("node:child_process").ChildProcess>} */
const running = new Set();
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));

/** Starts a contestant. @param {Contestant} it */
function start({ command, args, cwd }) {
  const child = spawn(command, args, { cwd, stdio: ["ignore", "ignore", "pipe"] });
  running.add(child);
  child.once("exit", () => running.delete(child));
  let said = "";
  child.stderr.on("data", (data) => (said = (said + data).slice(-2000)));
  const ended = new Promise((resolve) => child.once("exit", resolve));
  return {
    check() {
      if (child.exitCode !== null) throw new Error(`${command} ended with ${child.exitCode}: ${said}`);
    },
    async stop() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** Whether the page is there. @param {Contestant} it @returns {Promise<boolean>} */
function answers({ port, host, ready = host }) {
  return new Promise((resolve) => {
    const headers = { host: `${ready}:${port}`, accept: "text/html", connection: "close" };
    const asked = request({ host: "127.0.0.1", port, path: "/", headers }, (response) => {
      response.once("data", () => resolve(response.statusCode === 200));
      response.once("end", () => resolve(response.statusCode === 200));
    });
    asked.once("error", () => resolve(false));
    asked.setTimeout(DEADLINE, () => asked.destroy());
    asked.end();
  });
}

/** Waits for the first answer, and says when it came. @param {Contestant} it @param {{ check(): void }} server */
async function firstAnswer(it, server) {
  const until = now() + DEADLINE;
  while (!(await answers(it))) {
    server.check();
    if (now() > until) throw new Error(`${it.name} did not answer within ${DEADLINE} ms`);
    await sleep(2);
  }
  return now();
}

/** What stands in each page before anything else in it. */
function observe() {
  const page = /** @type {any} */ (window);
  const at = () => performance.timeOrigin + performance.now();
  let loaded = 0;
  let filled = 0;
  const both = () => {
    if (loaded && filled) page.__ready ??= Math.max(loaded, filled);
  };
  const look = () => {
    if (!filled && document.getElementById("root")?.childElementCount) {
      filled = at();
      both();
    }
    if (page.__marker && document.body?.textContent?.includes(page.__marker)) {
      page.__found(at());
      page.__marker = "";
    }
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
  window.addEventListener("load", () => {
    loaded = at();
    both();
  });
  page.__expect = (/** @type {string} */ marker) => {
    page.__seen = new Promise((resolve) => (page.__found = resolve));
    page.__marker = marker;
  };
}

/** How far a page's clock is ahead of ours. @param {Pick<Page, "evaluate">} page */
async function ahead(page) {
  let best = { width: Infinity, ahead: 0 };
  for (let n = 0; n < 60; n++) {
    const before = now();
    const there = await page.evaluate("performance.timeOrigin + performance.now()");
    const after = now();
    const width = after - before;
    if (width < best.width) best = { width, ahead: Number(there) - (before + after) / 2 };
  }
  return best;
}

/** @param {Page} page @param {Contestant} it */
async function show(page, { host, port }) {
  await page.goto(`http://${host}:${port}/`, { waitUntil: "commit" });
  await page.waitForFunction("window.__ready", null, { timeout: DEADLINE, polling: 20 });
}

/** @param {Task} task */
async function edits({ contestants, turns, edits }) {
  const browser = await launch();
  const sides = [];
  for (const it of contestants) {
    const server = start(it);
    await firstAnswer(it, server);
    const page = await (await browser.newContext()).newPage();
    await page.addInitScript(observe);
    await show(page, it);
    sides.push({ it, server, page, clock: await ahead(page) });
  }
  await sleep(3000);
  const rows = [];
  const warmup = edits.length;
  for (let turn = -warmup; turn < turns; turn++) {
    const { path, anchor } = edits[(turn + warmup) % edits.length];
    const row = sides.map(() => 0);
    const order = sides.map((_, n) => n);
    if (turn % 2) order.reverse();
    for (const at of order) {
      const { it, page, clock } = sides[at];
      const marker = `m${turn + warmup}x${at}`;
      const file = join(it.cwd, path);
      const source = readFileSync(file, "utf8");
      const mark = new RegExp(`${anchor.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}( m\\d+x\\d+)?`);
      if (!mark.test(source)) throw new Error(`${path} does not hold ${anchor}`);
      const edited = source.replace(mark, `${anchor} ${marker}`);
      await page.evaluate((marker) => /** @type {any} */ (window).__expect(marker), marker);
      const begun = now();
      writeFileSync(file, edited);
      const seen = await Promise.race([page.evaluate(() => /** @type {any} */ (window).__seen), sleep(15_000)]);
      if (!seen) throw new Error(`${it.name}: an edit of ${path} did not reach the page within 15 s`);
      row[at] = seen - clock.ahead - begun;
      // What comes after it (styles, timers) is not the other's to pay for.
      await sleep(100 + 5 * ((turn + warmup) % 10));
    }
    if (turn >= 0) rows.push(row);
  }
  const clocks = [];
  for (const { page, clock } of sides) {
    const end = await ahead(page);
    clocks.push({ width: clock.width, drift: end.ahead - clock.ahead });
  }
  await browser.close();
  for (const { server } of sides) await server.stop();
  return { rows, clocks };
}

/** @param {Task} task */
async function starts({ contestants, turns }) {
  const browser = await launchBare();
  const rows = [];
  // The browser itself has to be warm, too.
  for (let turn = -2; turn < turns; turn++) {
    const row = contestants.map(() => [0, 0]);
    const order = contestants.map((_, n) => (n + turn + 2 * contestants.length) % contestants.length);
    if (turn % 2) order.reverse();
    for (const at of order) {
      const it = contestants[at];
      for (const path of it.remove ?? []) rmSync(path, { recursive: true, force: true });
      const page = await browser.newPage(observe);
      // What the other leaves to be cleared away is not this one's to pay for.
      await sleep(500);
      const begun = now();
      const server = start(it);
      const first = (await firstAnswer(it, server)) - begun;
      await page.open(`http://${it.host}:${it.port}/`);
      const until = now() + DEADLINE;
      let ready;
      while (!(ready = await page.evaluate("window.__ready ?? 0"))) {
        server.check();
        if (now() > until) throw new Error(`${it.name} showed nothing within ${DEADLINE} ms`);
        await sleep(20);
      }
      row[at] = [first, ready - (await ahead(page)).ahead - begun];
      await page.close();
      await server.stop();
    }
    if (turn >= 0) rows.push(row);
  }
  await browser.close();
  return { rows };
}

for await (const line of createInterface({ input: process.stdin })) {
  /** @type {Task} */
  const task = JSON.parse(line);
  const seen = await (task.what === "edits" ? edits(task) : starts(task));
  console.log(JSON.stringify(seen));
  break;
}
process.exit(0);
