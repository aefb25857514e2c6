// The quickstart example as a process of its own, on a copy of an app; and pages in the real browser that look at it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { renameSync, writeFileSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { until } from "./page-server.mjs";

const ROOT = new URL("../", import.meta.url).pathname;
const BINARY = process.env.OVERSKILL_QUICKSTART ?? join(ROOT, "target/debug/examples/quickstart");
/** Another host than the embedded one may take more arguments. */
const MORE = (process.env.OVERSKILL_QUICKSTART_ARGS ?? "").split(" ").filter((it) => it !== "");
/** What the host of the previews has not: `list`, a page with all apps at the domain itself. */
export const LACKS = new Set((process.env.OVERSKILL_QUICKSTART_LACKS ?? "").split(" "));
/** Tarballs, by their digests: they stay between runs, so that a package is downloaded once. All else is made anew. */
const TARBALLS = process.env.OVERSKILL_TARBALLS ?? join(tmpdir(), "overskill-test-tarballs");
/** Generous: machines that test are busy with other things. */
export const PATIENCE_MS = 60_000;

/**
 * @typedef {import("playwright-core").Page} Page
 * @typedef {{ type: string, updates?: { type: string, path: string, acceptedPath: string }[], err?: Record<string, any>,
 *   position?: { incarnation: string, seq: number } }} Message
 * @typedef {{ embedder?: string, registry?: string, data?: string, name?: string,
 *   deploy?: boolean }} Options
 */

/**
 * @template T
 * @param {() => T | Promise<T>} probe
 * @param {string} what
 */
export const eventually = (probe, what) => until(probe, what, PATIENCE_MS);

/** A running quickstart. */
export class Quickstart {
  /** What it printed. */
  output = "";
  /** Where the preview is. */
  url = "";
  /** Every program that it, or what it started, was seen to run as. @type {Set<string>} */
  programs = new Set();

  #writes = 0;
  /** @type {import("node:child_process").ChildProcess} */
  #process;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #watch;

  /** @param {string} place @param {string} folder @param {Options} options */
  constructor(place, folder, options) {
    this.place = place;
    this.folder = folder;
    this.data = options.data ?? join(place, "data");
    const more = options.embedder ? ["--embedder", options.embedder] : [];
    if (options.deploy) more.push("--deploy");
    /** @type {NodeJS.ProcessEnv} */
    const env = {
      HOME: process.env.HOME,
      // Node is there, but calling it is noticed: see `nodeCalls`.
      PATH: join(place, "trap"),
      OVERSKILL_WORKERD: process.env.OVERSKILL_WORKERD,
      NPM_CONFIG_REGISTRY: options.registry ?? process.env.NPM_CONFIG_REGISTRY ?? process.env.npm_config_registry,
    };
    this.#process = spawn(BINARY, ["--serve", folder, "--data", this.data, ...MORE, ...more], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding("utf8").on("data", (text) => (this.output += text));
    }
    this.#process.on("error", (error) => (this.output += String(error)));
    this.#watch = setInterval(() => void this.#lookAtPrograms(), 50);
  }

  /** Serves a copy of an app of `examples/apps`. @param {string} app @param {Options} [options] */
  static example(app, options = {}) {
    return Quickstart.copy(join(ROOT, "examples/apps", app), { name: app, ...options });
  }

  /** Serves a copy of a folder. @param {string} from @param {Options} [options] */
  static async copy(from, options = {}) {
    const place = await mkdtemp(join(tmpdir(), "overskill-quickstart-"));
    const folder = join(place, options.name ?? "app");
    await cp(from, folder, { recursive: true, filter: (path) => !/\/(node_modules|dist)$/.test(path) });
    return Quickstart.serve(place, folder, options);
  }

  /** Serves a folder. @param {string} place where its own things go; all of it goes away at the end
   * @param {string} folder @param {Options} [options] */
  static async serve(place, folder, options = {}) {
    for (const program of ["node", "npm", "npx", "bun", "deno"]) {
      await mkdir(join(place, "trap"), { recursive: true });
      await writeFile(join(place, "trap", program), `#!/bin/sh\necho "${program} $*" >> "${place}/node-calls"\nexit 1\n`);
      await chmod(join(place, "trap", program), 0o755);
    }
    if (!options.data) {
      await mkdir(TARBALLS, { recursive: true });
      await mkdir(join(place, "data/packages"), { recursive: true });
      await symlink(TARBALLS, join(place, "data/packages/tarballs"));
    }
    const quickstart = new Quickstart(place, folder, options);
    try {
      const live = await until(() => quickstart.#live(), `a preview of ${folder}`, 3 * PATIENCE_MS);
      quickstart.url = live;
    } catch (error) {
      await quickstart.stop();
      throw new Error(`${error}\n${quickstart.output}`);
    }
    return quickstart;
  }

  #live() {
    if (this.#process.exitCode !== null) throw new Error(`it ended with ${this.#process.exitCode}`);
    return /are live at (\S+)/.exec(this.output)?.[1];
  }

  /** Ends it as Ctrl-C does. @param {{ keep?: boolean }} [options] */
  async stop({ keep = false } = {}) {
    clearInterval(this.#watch);
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    if (this.#process.exitCode === null && this.#process.kill("SIGINT")) {
      const late = setTimeout(() => this.#process.kill("SIGKILL"), 20_000);
      await ended;
      clearTimeout(late);
    }
    if (!keep) await rm(this.place, { recursive: true, force: true });
  }

  /** Calls of Node and its like that were tried by name. */
  async nodeCalls() {
    return readFile(join(this.place, "node-calls"), "utf8").catch(() => "");
  }

  /** Fails if Node was started, by its name or from anywhere. */
  async assertNoNode() {
    assert.equal(await this.nodeCalls(), "");
    const names = [...this.programs].filter((program) => /^(node|npm|npx|bun|deno)\b/.test(program));
    assert.deepEqual(names, []);
  }

  async #lookAtPrograms() {
    const processes = (await readdir("/proc").catch(() => [])).filter((name) => /^\d+$/.test(name));
    /** @type {Map<number, { parent: number, name: string }>} */
    const all = new Map();
    for (const id of processes) {
      const stat = await readFile(`/proc/${id}/stat`, "utf8").catch(() => "");
      const [, name = "", parent = ""] = /^\d+ \((.*)\) \S+ (\d+)/s.exec(stat) ?? [];
      all.set(Number(id), { parent: Number(parent), name });
    }
    for (const [id, { name }] of all) {
      for (let at = all.get(id); at; at = all.get(at.parent)) if (at.parent === this.#process.pid) this.programs.add(name);
    }
  }

  /** @param {string} path */
  read(path) {
    return readFile(join(this.folder, path), "utf8");
  }

  /** At once: a busy machine may take long between emptying a file and writing it. @param {string} path
   * @param {string | Buffer} text */
  async write(path, text) {
    await mkdir(dirname(join(this.folder, path)), { recursive: true });
    const beside = join(this.place, `writing-${this.#writes++}`);
    await writeFile(beside, text);
    await rename(beside, join(this.folder, path));
  }

  /** Files in this order, with nothing else in between; how many milliseconds it took. @param {[path: string, text: string][]} files */
  async writeTogether(files) {
    const ready = files.map(([path, text]) => {
      const beside = join(this.place, `writing-${this.#writes++}`);
      writeFileSync(beside, text);
      return [beside, join(this.folder, path)];
    });
    const from = performance.now();
    for (const [beside, at] of ready) renameSync(beside, at);
    return performance.now() - from;
  }

  /** Replaces a part of a file, which must be there. @param {string} path @param {string | RegExp} what @param {string} by */
  async edit(path, what, by) {
    const text = await this.read(path);
    const next = text.replace(what, () => by);
    assert.notEqual(next, text, `${path} holds no ${what}`);
    await this.write(path, next);
  }

  /** @param {string} path */
  remove(path) {
    return rm(join(this.folder, path));
  }

  /** @param {string} from @param {string} to */
  rename(from, to) {
    return rename(join(this.folder, from), join(this.folder, to));
  }
}

/** A tab: what it was told, what it said, and whether it was loaded anew. */
export class Tab {
  /** Errors on the console, and those that nothing caught. @type {string[]} */
  errors = [];
  /** All that came over its sockets. @type {Message[]} */
  told = [];
  /** How many sockets it opened. */
  sockets = 0;

  /** @param {Page} page */
  constructor(page) {
    this.page = page;
    page.on("console", (message) => {
      if (message.type() === "error") this.errors.push(`${message.text()} (${message.location().url})`);
    });
    page.on("pageerror", (error) => this.errors.push(String(error.stack ?? error)));
    page.on("websocket", (socket) => {
      this.sockets++;
      socket.on("framereceived", ({ payload }) => this.told.push(JSON.parse(String(payload))));
    });
    page.setDefaultTimeout(PATIENCE_MS);
  }

  /** @param {import("playwright-core").Browser | import("playwright-core").BrowserContext} browser @param {string} url */
  static async open(browser, url) {
    const tab = new Tab(await browser.newPage());
    await tab.page.goto(url);
    await tab.mark();
    return tab;
  }

  /** From here on, `reloaded` says whether the page is another one; and it is connected. */
  async mark() {
    await eventually(() => this.told.some((it) => it.type === "connected"), "a socket");
    // It may be told to load anew at this very moment.
    await eventually(() => this.page.evaluate("window.mark = true").catch(() => false), "a page that stays");
  }

  /** @returns {Promise<boolean>} */
  reloaded() {
    return this.page.evaluate("window.mark !== true");
  }

  /** Waits for another page, with what it is to show. @param {string} selector */
  async anew(selector) {
    await eventually(() => this.reloaded().catch(() => false), "the page to be loaded anew");
    await this.page.locator(selector).first().waitFor();
    await this.mark();
  }

  /** @param {string} id a `data-testid` */
  by(id) {
    return this.page.getByTestId(id);
  }

  /** @param {import("playwright-core").Locator | string} place a locator, or a `data-testid` @param {string | RegExp} text */
  async shows(place, text) {
    const locator = typeof place === "string" ? this.by(place) : place;
    /** @type {string | null | undefined} */
    let last;
    const matches = async () => {
      last = await locator.first().textContent({ timeout: 1_000 }).catch(() => undefined);
      return typeof text === "string" ? last === text : text.test(last ?? "");
    };
    await eventually(matches, String(text)).catch((error) => {
      const news = this.news().slice(-8).map((it) => JSON.stringify(it).slice(0, 400));
      throw new Error(`${error.message}; it shows ${last}\nerrors: ${this.errors.join("\n")}\nnews: ${news.join("\n")}`);
    });
  }

  /** A property as the browser computed it. @param {string} selector @param {string} property @returns {Promise<string>} */
  computed(selector, property) {
    return this.page.evaluate(
      `getComputedStyle(document.querySelector(${JSON.stringify(selector)})).getPropertyValue(${JSON.stringify(property)})`,
    );
  }

  /** What the browser makes of a colour. @param {string} colour @returns {Promise<string>} */
  colour(colour) {
    return this.page.evaluate(`(() => {
      const probe = document.body.appendChild(document.createElement("i"));
      probe.style.transition = "none";
      probe.style.backgroundColor = ${JSON.stringify(colour)};
      const found = getComputedStyle(probe).backgroundColor;
      probe.remove();
      return found;
    })()`);
  }

  /** The overlay, whose parts are in its shadow. */
  get overlay() {
    return this.page.locator("overskill-error");
  }

  /** What the overlay says, once it is there. */
  async overlayText() {
    await this.overlay.waitFor({ state: "attached" });
    return (await this.overlay.locator(".panel").textContent()) ?? "";
  }

  async overlayGone() {
    await this.overlay.waitFor({ state: "detached" });
  }

  /** What it was told since `from`, but for the sockets' own talk. @param {number} [from] */
  news(from = 0) {
    return this.told.slice(from).filter((it) => it.type !== "connected" && it.type !== "pong");
  }
}
