// A headless Chromium that nobody listens to, for measurements: Playwright hears of every request of a page, and on two cores
// that is a fifth of a page's time.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { executable, switches } from "./browser.mjs";

/** @typedef {Awaited<ReturnType<typeof launchBare>>} BareBrowser */
/** @typedef {Awaited<ReturnType<BareBrowser["newPage"]>>} BarePage */

/** Starts Chromium with its protocol on two pipes, one JSON text after the other with a zero byte between. */
export async function launchBare() {
  const profile = mkdtempSync(join(tmpdir(), "overskill-chromium-"));
  const own = [
    "--headless",
    "--remote-debugging-pipe",
    // A process for the next site, started while a page loads.
    "--disable-features=SpareRendererForSitePerProcess",
    `--user-data-dir=${profile}`,
    "about:blank",
  ];
  const child = spawn(executable(), [...switches(), ...own], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const tidy = () => {
    child.kill("SIGKILL");
    rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
  };
  process.once("exit", tidy);
  const [, , , input, output] = /** @type {any[]} */ (child.stdio);
  /** @type {Map<number, { resolve(result: any): void, reject(error: Error): void }>} */
  const waiting = new Map();
  let last = 0;
  let heard = Buffer.alloc(0);
  output.on("data", (/** @type {Buffer} */ data) => {
    heard = Buffer.concat([heard, data]);
    for (let end = heard.indexOf(0); end >= 0; end = heard.indexOf(0)) {
      const { id, result, error } = JSON.parse(heard.subarray(0, end).toString());
      heard = heard.subarray(end + 1);
      const one = waiting.get(id);
      waiting.delete(id);
      if (error) one?.reject(new Error(`Chromium: ${error.message}`));
      else one?.resolve(result);
    }
  });
  child.once("exit", (code) => {
    for (const { reject } of waiting.values()) reject(new Error(`Chromium ended with ${code}`));
  });

  /** @param {string} method @param {object} [params] @param {string} [sessionId] @returns {Promise<any>} */
  function call(method, params = {}, sessionId) {
    const id = ++last;
    input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  }

  return {
    /**
     * A page in a context of its own.
     *
     * @param {() => void} before what runs in each document before anything else
     */
    async newPage(before) {
      const { browserContextId } = await call("Target.createBrowserContext");
      const { targetId } = await call("Target.createTarget", { url: "about:blank", browserContextId });
      const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
      await call("Page.enable", {}, sessionId);
      await call("Page.addScriptToEvaluateOnNewDocument", { source: `(${before})()` }, sessionId);
      return {
        /** @param {string} url */
        async open(url) {
          const { errorText } = await call("Page.navigate", { url }, sessionId);
          if (errorText) throw new Error(`${url}: ${errorText}`);
        },
        /** @param {string} expression @returns {Promise<any>} */
        async evaluate(expression) {
          const { result, exceptionDetails } = await call("Runtime.evaluate", { expression, returnByValue: true }, sessionId);
          if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.text}`);
          return result.value;
        },
        close: () => call("Target.disposeBrowserContext", { browserContextId }),
      };
    },
    async close() {
      await call("Browser.close").catch(() => {});
      await ended;
      process.off("exit", tidy);
      tidy();
    },
  };
}
