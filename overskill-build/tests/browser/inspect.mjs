// Click-to-inspect in a real browser, with React 18 and 19: what is answered, and to whom.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { launch } from "../../../tools/browser.mjs";
import { bundle, jsx } from "../../../tools/npm-packages.mjs";
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

/** The second is what a package would bring: an element of its own around one of the app's. */
const CARD = `import { createElement } from "react";
export function Frame(props: { children?: unknown }) {
  return createElement("section", { id: "frame", style: { padding: "10px" } }, props.children);
}
`;

const APP = `import { memo } from "react";
import { Frame } from "/@npm/card.js";
import { Label } from "/src/Label.tsx";

const Button = memo(function SaveButton({ name }: { name: string }) {
  return (
    <button id="b" onClick={() => (window.clicked = true)}>
      {name}
    </button>
  );
});

export default function App() {
  return (
    <main>
      <Button name="Save" />
      <Frame>
        <p>inside</p>
      </Frame>
      <Label text={"long ".repeat(100)} />
    </main>
  );
}
`;

const LABEL = `// A comment, so that lines differ.
export const Label = ({ text }: { text: string }) => <span id="l" key="k" className="a">{text}</span>;
`;

/** @param {"18" | "19"} version */
async function serveApp(version) {
  const names = {
    react: ["createElement", "memo", "StrictMode"],
    "react-dom/client": ["createRoot"],
    "react/jsx-dev-runtime": ["jsxDEV", "Fragment"],
  };
  const files = await bundle(
    Object.fromEntries(Object.entries(names).map(([from, exports]) => [`${from.replaceAll("/", "_")}.js`, { from, names: exports }])),
    version === "18" ? { react: "react-18", "react-dom": "react-dom-18" } : {},
  );
  for (const [name, body] of files) server.script(`/@npm/${name}`, body);
  const imports = Object.fromEntries(Object.keys(names).map((from) => [from, `/@npm/${from.replaceAll("/", "_")}.js`]));
  server.script("/@npm/card.js", (await jsx(CARD, "card.tsx")).replace(/\/\/# sourceMappingURL.*/, ""));
  server.script("/src/App.tsx", await jsx(APP, "src/App.tsx"));
  server.script("/src/Label.tsx", await jsx(LABEL, "src/Label.tsx"));
  server.script(
    "/src/main.js",
    `import { createElement, StrictMode } from "react"; import { createRoot } from "react-dom/client"; import App from "/src/App.tsx";
    createRoot(document.getElementById("root")).render(createElement(StrictMode, null, createElement(App)));`,
  );
  const html = `<div id="root"></div><p id="plain">not React's</p><script type="module" src="/src/main.js"></script>`;
  const map = `<script type="importmap">${JSON.stringify({ imports })}</script>`;
  server.page("/", html, { inspectOrigins: [server.origin("localhost")] }, map);
  server.files.set("/parent", {
    type: "text/html",
    body: `<script>
      window.heard = []; addEventListener("message", ({ data, origin }) => heard.push({ ...data, origin }));
      window.say = (type) => document.querySelector("iframe").contentWindow.postMessage({ type }, "*");
    </script><iframe src="${server.origin("127.0.0.1")}/" width="600" height="400"></iframe>`,
  });
}

/** @returns {Promise<any[]>} */
const heard = () => page.evaluate("heard");

for (const version of /** @type {const} */ (["18", "19"])) {
  test(`React ${version}: a click tells where the element is written, and does nothing else`, async () => {
    await serveApp(version);
    await page.goto(`${server.origin("localhost")}/parent`);
    const frame = page.frameLocator("iframe");
    await frame.locator("#b").waitFor();
    await page.evaluate(`say("enable-inspection")`);
    // Until it is heard, a click is the app's.
    await until(async () => {
      await frame.locator("#plain").hover();
      await frame.locator("#b").hover();
      return (await frame.locator("overskill-outline").count()) === 1;
    }, "the outline");

    await frame.locator("#b").click();
    await frame.locator("#l").click();
    await frame.locator("#frame p").click();
    await frame.locator("#frame").click({ position: { x: 2, y: 2 } });
    await frame.locator("#plain").click();
    const answers = await until(async () => ((await heard()).length === 5 ? heard() : undefined), "five answers");
    assert.deepEqual(answers.map(({ type, origin, file, line, component, tag }) => ({ type, origin, file, line, component, tag })), [
      { file: "src/App.tsx", line: 7, component: "SaveButton", tag: "button" },
      { file: "src/Label.tsx", line: 2, component: "Label", tag: "span" },
      { file: "src/App.tsx", line: 18, component: "App", tag: "p" },
      // The element is a package's: where the app names the package's component.
      { file: "src/App.tsx", line: 17, component: "App", tag: "section" },
      { file: null, line: null, component: null, tag: "p" },
    ].map((it) => ({ type: "element-selected", origin: server.origin("127.0.0.1"), ...it })));
    assert.equal(answers[0].column, 5);
    assert.equal(answers[0].text, "Save");
    assert.equal(answers[1].text.length, 200);
    assert.ok(answers[0].rect.width > 10 && answers[0].rect.height > 5);

    const app = page.frames()[1];
    assert.equal(await app?.evaluate("window.clicked"), undefined);
    await page.evaluate(`say("disable-inspection")`);
    await until(async () => {
      await frame.locator("#b").click();
      return app?.evaluate("window.clicked");
    }, "the app's own click");
    assert.equal(await frame.locator("overskill-outline").count(), 0);
  });
}

test("any other page is not answered", async () => {
  await serveApp("19");
  const parent = server.files.get("/parent");
  if (parent) parent.body = parent.body.replace("127.0.0.1", "localhost");
  // The page that embeds is now the one that is not named, and the frame is the same.
  await page.goto(`${server.origin("127.0.0.1")}/parent`);
  const frame = page.frameLocator("iframe");
  await frame.locator("#b").waitFor();
  await page.evaluate(`say("enable-inspection")`);
  await page.waitForTimeout(500);
  await frame.locator("#b").hover();
  await frame.locator("#b").click();
  await page.waitForTimeout(300);
  assert.deepEqual(await heard(), []);
  assert.equal(await frame.locator("overskill-outline").count(), 0);
  assert.equal(await page.frames()[1]?.evaluate("window.clicked"), true);
  assert.ok(!server.requests.includes("/@overskill/inspect.js"));
});
