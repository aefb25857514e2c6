// React Refresh in a real browser: a component is replaced where it stands, and its state stays.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "../../../tools/browser.mjs";
import { bundle } from "../../../tools/npm-packages.mjs";
import { TestServer, until } from "../../../tools/page-server.mjs";

/** @type {import("../../../tools/browser.mjs").Browser} */
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** What a compiler makes of a component with a counter. @param {string} label @param {string} hook */
const counter = (label, hook) => `
import { createElement as h, useState } from "/@npm/react.js";
const sign = $RefreshSig$();
export function Counter() {
  sign();
  const [count, setCount] = useState(${hook});
  return h("button", { onClick: () => setCount(count + 1) }, "${label} " + count);
}
sign(Counter, "useState{[count, setCount](${hook})}");
$RefreshReg$(Counter, "Counter");
import * as RefreshRuntime from "/@overskill/refresh.js";
import * as current from "/counter.js?t=THIS";
queueMicrotask(() => {
  RefreshRuntime.registerExportsForReactRefresh("/counter.js", current);
  import.meta.hot.accept((next) => {
    const refused = next && RefreshRuntime.validateRefreshBoundaryAndEnqueueUpdate("/counter.js", current, next);
    if (refused) import.meta.hot.invalidate(refused);
  });
});
function $RefreshReg$(type, id) { return RefreshRuntime.register(type, "/counter.js " + id); }
function $RefreshSig$() { return RefreshRuntime.createSignatureFunctionForTransform(); }
`;

for (const version of ["18", "19"]) {
  test(`React ${version}: an edit shows in place; other hooks begin anew; other exports are refused`, async () => {
    const server = await TestServer.start();
    const page = await browser.newPage();
    try {
      const files = await bundle(
        {
          "react.js": { from: "react", names: ["createElement", "useState"] },
          "react-dom.js": { from: "react-dom/client", names: ["createRoot"] },
        },
        version === "18" ? { react: "react-18", "react-dom": "react-dom-18" } : {},
      );
      for (const [name, body] of files) server.script(`/@npm/${name}`, body);
      const write = (/** @type {string} */ code) => server.hot("/counter.js", code.replace("THIS", String(server.seq + 1)));
      server.hot("/counter.js", counter("one", "0").replace("?t=THIS", ""));
      server.script(
        "/main.js",
        `import { createElement } from "/@npm/react.js"; import { createRoot } from "/@npm/react-dom.js"; import { Counter } from "/counter.js";
        createRoot(document.getElementById("root")).render(createElement(Counter));`,
      );
      const preamble = `<script type="module">import { injectIntoGlobalHook } from "/@overskill/refresh.js"; injectIntoGlobalHook(window);
        window.$RefreshReg$ = () => {}; window.$RefreshSig$ = () => (type) => type;</script>`;
      server.page("/", `<div id="root"></div><script type="module" src="/main.js"></script>`, {}, preamble);
      await page.goto(server.origin());
      const button = page.locator("button");
      await button.click();
      await button.click();
      assert.equal(await button.textContent(), "one 2");

      const shows = (/** @type {string} */ text) => until(async () => (await button.textContent()) === text, text);
      write(counter("two", "0"));
      server.update("/counter.js");
      await shows("two 2");
      write(counter("three", "7"));
      server.update("/counter.js");
      await shows("three 7");
      write(`${counter("four", "7")} export const version = 4;`);
      server.update("/counter.js");
      const refusal = await until(() => server.said[0], "the refusal");
      assert.match(/** @type {any} */ (refusal).data.message, /export "version" added/);
    } finally {
      await page.close();
      await server.stop();
    }
  });
}
