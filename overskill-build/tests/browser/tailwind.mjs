// Tailwind in a real browser: the form of Tailwind 3 against what Tailwind 3 itself makes, and Tailwind 4.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { launch } from "../../../tools/browser.mjs";
import { bundle, tailwindThree, text } from "../../../tools/npm-packages.mjs";
import { TestServer, until } from "../../../tools/page-server.mjs";

const require = createRequire(new URL("../../../tools/npm-packages.mjs", import.meta.url));

/** @type {import("../../../tools/browser.mjs").Browser} */
let browser;
/** @type {Map<string, string>} */
let packages;
/** @type {TestServer} */
let server;
/** @type {import("../../../tools/browser.mjs").Page} */
let page;

before(async () => {
  browser = await launch();
  packages = await bundle({
    "tailwindcss.js": { from: "tailwindcss" },
    "animate.js": { from: "tailwindcss-animate", names: [] },
    "forms.js": { from: "@tailwindcss/forms", names: [] },
    "typography.js": { from: "@tailwindcss/typography", names: [] },
  });
});
after(() => browser.close());
beforeEach(async () => {
  server = await TestServer.start();
  for (const [name, body] of packages) server.script(`/@npm/${name}`, body);
  /** @type {Record<string, string>} */
  const sheets = {};
  for (const name of ["index", "theme", "preflight", "utilities"]) {
    sheets[`tailwindcss/${name}.css`] = await text(`tailwindcss/${name}.css`);
  }
  sheets.tailwindcss = sheets["tailwindcss/index.css"] ?? "";
  server.script(
    "/@overskill/tailwind-core.js",
    `export { compile } from "/@npm/tailwindcss.js"; export const sheets = ${JSON.stringify(sheets)};`,
  );
  server.script("/@overskill/tailwind-candidates.js", "export default [];");
  page = await (await browser.newContext({ viewport: { width: 1000, height: 700 } })).newPage();
});
afterEach(async () => {
  await page.context().close();
  await server.stop();
});

/** A style sheet's module, as the server writes it. @param {string} css @param {string} given @param {string} [imports] */
function sheet(css, given, imports = "") {
  server.hot(
    "/src/index.css",
    `import { removeTailwindStyle, tailwindStyle } from "/@overskill/tailwind.js"; ${imports}
    await tailwindStyle("/src/index.css", ${JSON.stringify(css)}, ${given});
    document.documentElement.dataset.ready = String(Number(document.documentElement.dataset.ready ?? 0) + 1);
    import.meta.hot.accept();
    import.meta.hot.prune(() => removeTailwindStyle("/src/index.css"));`,
  );
}

/** @param {number} [times] */
const ready = (times = 1) => page.waitForFunction(`Number(document.documentElement.dataset.ready) >= ${times}`);

/** @param {string} selector @param {string} property @returns {Promise<string>} */
const computed = (selector, property) =>
  page.evaluate(`getComputedStyle(document.querySelector(${JSON.stringify(selector)})).getPropertyValue("${property}")`);

// What generators write today: a configuration of shadcn/ui, its style sheet, and its components' classes.
const CONFIG = {
  darkMode: ["class"],
  prefix: "",
  theme: {
    container: { center: true, padding: "2rem", screens: { "2xl": "1400px" } },
    extend: {
      colors: {
        border: "hsl(var(--border))",
        input: "hsl(var(--input))",
        ring: "hsl(var(--ring))",
        background: "hsl(var(--background))",
        foreground: "hsl(var(--foreground))",
        primary: { DEFAULT: "hsl(var(--primary))", foreground: "hsl(var(--primary-foreground))" },
        muted: { DEFAULT: "hsl(var(--muted) / <alpha-value>)", foreground: "hsl(var(--muted-foreground))" },
      },
      borderRadius: { lg: "var(--radius)", md: "calc(var(--radius) - 2px)", sm: "calc(var(--radius) - 4px)" },
      keyframes: { "accordion-down": { from: { height: "0" }, to: { height: "var(--radix-accordion-content-height)" } } },
      animation: { "accordion-down": "accordion-down 0.2s ease-out" },
    },
  },
  safelist: ["underline"],
};

const CSS = `@tailwind base;
@tailwind components;
@tailwind utilities;
@layer base {
  :root { --background: 0 0% 100%; --foreground: 222 84% 5%; --primary: 243 75% 59%; --primary-foreground: 0 0% 100%;
    --muted: 210 40% 96%; --muted-foreground: 215 16% 47%; --border: 214 32% 91%; --input: 214 32% 85%; --ring: 222 84% 5%; --radius: 0.5rem; }
  .dark { --background: 222 84% 5%; --foreground: 210 40% 98%; }
  * { @apply border-border; }
  body { @apply bg-background text-foreground; }
  h1 { @apply text-2xl font-semibold tracking-tight; }
}
@layer components {
  .btn { @apply inline-flex items-center rounded px-4 py-2 text-sm font-medium shadow transition-colors; }
  .btn-primary { @apply btn bg-primary text-primary-foreground hover:bg-primary/90; }
  .loud { @apply font-bold !important; }
}
@layer utilities {
  .no-scrollbar { scrollbar-width: none; }
  .no-scrollbar::-webkit-scrollbar { display: none; }
}
@screen md { .wide { padding: theme('spacing.6'); } }
a { color: rgb(100 108 255); }
.plain { padding: 3px; margin-left: theme(spacing.2) }`;

const HTML = `
<div class="container"><h1>Title</h1><h2>plain</h2><a href="#">link</a> <a href="#" class="text-white bg-black bg-opacity-50">link</a></div>
<button class="btn-primary">Go</button> <button class="btn md:p-6 loud">Go</button> <button>bare</button>
<button class="inline-flex h-9 items-center justify-center rounded-md border border-input bg-background px-4 text-sm ring-offset-background focus-visible:outline-none focus-visible:ring-2 disabled:opacity-50 [&_svg]:size-4" disabled><svg viewBox="0 0 1 1"></svg>x</button>
<div class="rounded-lg border bg-muted/50 p-6 text-muted-foreground shadow-sm space-y-1.5"><p>one</p><p>two</p><p class="text-xs leading-none">three</p></div>
<div class="rounded-sm border-2 border-dashed border-gray-300 bg-blue-500 text-red-600 shadow"></div>
<div class="ring rounded"></div><div class="ring-2 ring-ring ring-offset-2 blur-sm drop-shadow"></div>
<div style="--side: 123px" class="w-[--side] max-w-screen-md h-[calc(100%-theme(spacing.4))] flex-shrink-0">w</div>
<input class="flex h-10 w-full rounded-md border border-input px-3 py-2 placeholder:text-muted-foreground" placeholder="p">
<input placeholder="bare"><textarea></textarea><hr><ul class="list-disc pl-5 md:grid md:grid-cols-2 gap-2"><li>a</li><li class="md:col-span-2">b</li></ul>
<table class="w-full caption-bottom text-sm"><tbody class="[&_tr:last-child]:border-0 divide-y"><tr class="border-b"><td class="p-4 align-middle">c</td></tr><tr><td>d</td></tr></tbody></table>
<div data-state="open" class="data-[state=open]:flex hidden animate-accordion-down data-[state=open]:animate-in fade-in-0 zoom-in-95">s</div>
<p class="truncate plain md:p-4 no-scrollbar">para</p>
<div class="absolute inset-x-0 top-1/2 -translate-y-1/2 transform bg-gradient-to-r from-indigo-500 to-pink-500 h-4 z-50 opacity-90"></div>
<div class="dark"><p class="dark:text-green-400 dark:bg-background">dark</p></div><p class="line-clamp-2">clamp</p><div class="scale-95 rotate-3 hover:scale-100 translate-x-2">t</div><div class="divide-x flex"><b>1</b><b>2</b></div>
<p class="ring-1 ring-indigo-500 divide-indigo-500 text-violet-600/75 fill-sky-500 uppercase tracking-wide border-l-4 border-indigo-500/30 hover:underline group-hover:block sm:flex lg:hidden backdrop-blur-sm">v</p><dialog open>d</dialog><img class="aspect-video object-cover" alt="">`;

/** Every computed property of every element, and where it stands. */
const LOOK = `(() => {
  // The elements stand there before the sheet does, so what has a transition is on its way: it is to be seen at its end.
  for (const it of document.getAnimations()) if (it instanceof CSSTransition) it.finish();
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  // As it looks on white and on black.
  const pixel = (color) => "#" + ["white", "black"].flatMap((ground) => {
    for (const style of [ground, color]) { context.fillStyle = style; context.fillRect(0, 0, 1, 1); }
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
  });
  const colors = (value) => value.replace(/(?:rgba?|hsla?|oklab|oklch|color)\\([^()]*\\)/g, pixel);
  // A shadow that cannot be seen is none.
  const shadow = (value) => value.split(/,(?![^(]*\\))/).map((it) => colors(it.trim())).filter((it) => !/^#255,255,255,0,0,0 | 0px 0px 0px 0px$/.test(it)).join(", ");
  return [...document.querySelectorAll("body, body *:not(script)")].map((element) => {
    const style = getComputedStyle(element);
    const rect = element.getBoundingClientRect();
    const all = { box: [rect.x, rect.y, rect.width, rect.height].map((it) => Math.round(it * 10) / 10).join(" ") };
    for (const name of style) if (!name.startsWith("--")) all[name] = name === "box-shadow" ? shadow(style[name]) : colors(style.getPropertyValue(name));
    return { element: element.localName + "." + (element.getAttribute("class") ?? ""), all };
  });
})()`;

/** Said in other words with the same meaning, or listed as a difference in docs/tailwind-3.md. */
const OTHERWISE = new Set([
  "transform", "translate", "scale", "rotate", // 4 has a property for each; `box` compares where things stand
  "perspective-origin", "transform-origin",
  "transition-property", // 4 names more of them
  "outline-style", "outline-width", "outline-color", "outline-offset",
  "background-image", // gradients: in oklab, and with positions
]);

/** Whether two values are the same, but for the rounding of colours. @param {string} one @param {string} other */
function same(one, other) {
  const [ones, others] = [one, other].map((it) => it.split(/#([\d,]+)/));
  return ones?.length === others?.length && ones?.every((part, index) => {
    if (index % 2 === 0) return part === others?.[index];
    const numbers = others?.[index]?.split(",").map(Number) ?? [];
    return part.split(",").every((it, at) => Math.abs(Number(it) - (numbers[at] ?? NaN)) <= 2);
  });
}

test("the form of Tailwind 3 looks as Tailwind 3 makes it look", async () => {
  const plugins = [require("tailwindcss-animate")];
  const expectedCss = await tailwindThree(CSS, { ...CONFIG, plugins }, HTML);
  server.files.set("/three", { type: "text/html", body: `<!doctype html><html><head><style>${expectedCss}</style></head><body>${HTML}</body></html>` });
  await page.goto(`${server.origin()}/three`);
  const expected = /** @type {any[]} */ (await page.evaluate(LOOK));

  server.script("/tailwind.config.js", `import animate from "/@npm/animate.js"; export default { ...${JSON.stringify(CONFIG)}, plugins: [animate] };`);
  sheet(CSS, "{ v3, config }", `import * as v3 from "/@overskill/tailwind-v3.js"; import * as config from "/tailwind.config.js";`);
  server.page("/", `${HTML}<script type="module" src="/src/index.css"></script>`);
  await page.goto(server.origin());
  await ready();
  const found = /** @type {any[]} */ (await page.evaluate(LOOK));

  assert.equal(found.length, expected.length);
  const differences = [];
  for (const [index, { element, all }] of expected.entries()) {
    for (const [name, value] of Object.entries(all)) {
      if (!OTHERWISE.has(name) && !same(String(value), found[index].all[name] ?? "")) {
        differences.push(`${element}: ${name}: ${value} in Tailwind 3, ${found[index].all[name]} here`);
      }
    }
  }
  assert.deepEqual(differences, []);
  assert.equal(await page.locator("overskill-error").count(), 0);
  // Nothing that the words need comes late: `underline` is in the configuration's list only.
  await page.evaluate(`document.querySelector("h1").style.color = "red"`);
  assert.match(String(await page.evaluate(`document.querySelector("style").textContent`)), /\.underline/);
});

test("edits of the sheet and of the configuration, and new classes, show without a reload", async () => {
  const config = (/** @type {string} */ color) => server.script("/tailwind.config.js", `export default { theme: { extend: { colors: { brand: "${color}" } } } };`);
  const imports = (/** @type {number} */ n) => `import * as v3 from "/@overskill/tailwind-v3.js"; import * as config from "/tailwind.config.js?t=${n}";`;
  const css = "@tailwind base; @tailwind utilities;";
  config("rgb(1 2 3)");
  sheet(css, "{ v3, config }", imports(0));
  server.page("/", `<p id="p" class="text-brand">x</p><script type="module" src="/src/index.css"></script>`, {}, "<script>window.mark = 1</script>");
  await page.goto(server.origin());
  await ready();
  assert.equal(await computed("#p", "color"), "rgb(1, 2, 3)");

  // A class that no source names, and that is there before the next picture.
  const width = await page.evaluate(`new Promise((resolve) => {
    p.className = "text-brand w-[37px] block";
    requestAnimationFrame(() => resolve(p.getBoundingClientRect().width));
  })`);
  assert.equal(width, 37);

  config("rgb(4 5 6)");
  sheet(`${css} p { top: 9px }`, "{ v3, config }", imports(1));
  server.update("/src/index.css");
  await ready(2);
  assert.equal(await computed("#p", "color"), "rgb(4, 5, 6)");
  assert.equal(await computed("#p", "top"), "9px");
  assert.equal(await computed("#p", "width"), "37px");
  assert.equal(await page.evaluate("mark"), 1);
  assert.equal(await page.locator("style").count(), 1);

  server.tell({ type: "prune", paths: ["/src/index.css"] });
  await until(async () => (await page.locator("style").count()) === 0, "the sheet leaves");
  await page.evaluate(`p.className = "w-[38px]"`);
  assert.equal(await page.locator("style").count(), 0);
});

test("a sheet that is wrong is shown in the overlay, and the one before stays", async () => {
  const css = (/** @type {string} */ rule) => `@import "tailwindcss"; p { @apply ${rule}; }`;
  sheet(css("text-lg"), "{}");
  server.page("/", `<p>x</p><script type="module" src="/src/index.css"></script>`);
  await page.goto(server.origin());
  await ready();
  assert.equal(await computed("p", "font-size"), "18px");
  sheet(css("no-such-thing"), "{}");
  server.update("/src/index.css");
  const overlay = page.locator("overskill-error");
  await overlay.waitFor();
  assert.match(String(await overlay.locator(".message").textContent()), /no-such-thing/);
  assert.match(String(await overlay.locator(".place").textContent()), /^src\/index\.css/);
  assert.equal(await computed("p", "font-size"), "18px");
  sheet(css("text-xl"), "{}");
  server.update("/src/index.css");
  await until(async () => (await computed("p", "font-size")) === "20px", "it is mended");
  assert.equal(await overlay.count(), 0);
});

test("in the form of Tailwind 3, a sheet may use utilities without having them, and a prefix is refused", async () => {
  const imports = `import * as v3 from "/@overskill/tailwind-v3.js";`;
  sheet(
    "p { padding: 3px } .card { @apply bg-brand p-4 md:flex; color: theme(colors.red.500) }",
    `{ v3, config: { default: { theme: { extend: { colors: { brand: "rgb(1 2 3)" } } } } } }`,
    imports,
  );
  server.page("/", `<p class="card underline">x</p><script type="module" src="/src/index.css"></script>`);
  await page.goto(server.origin());
  await ready();
  const looks = async () => [await computed("p", "background-color"), await computed("p", "padding-left"), await computed("p", "display"), await computed("p", "color")];
  assert.deepEqual(await looks(), ["rgb(1, 2, 3)", "16px", "flex", "rgb(239, 68, 68)"]);
  assert.equal(await computed("p", "text-decoration-line"), "none");

  sheet("@tailwind utilities;", `{ v3, config: { default: { prefix: "tw-" } } }`, imports);
  server.update("/src/index.css");
  await page.locator("overskill-error").waitFor();
  assert.match(String(await page.locator("overskill-error .message").textContent()), /prefix \("tw-"\) is not possible/);
});

test("Tailwind 4: theme, plugins, configuration, imports of sheets and of packages", async () => {
  const css = `@import "tailwindcss"; @import "tw-animate-css"; @import "./buttons.css";
    @plugin "@tailwindcss/typography"; @plugin "@tailwindcss/forms" { strategy: "class"; } @config "../tailwind.config.js";
    @custom-variant dark (&:is(.dark *));
    @theme inline { --color-brand: var(--brand); }
    :root { --brand: rgb(7 8 9); }
    @layer base { * { @apply border-brand; } }`;
  server.script("/tailwind.config.js", `export default { theme: { extend: { spacing: { huge: "77px" } } } };`);
  sheet(
    css,
    `{ modules: { "/src/index.css": { "@tailwindcss/typography": typography, "@tailwindcss/forms": forms, "../tailwind.config.js": config } },
      sheets: { "/src/index.css": { "tw-animate-css": { path: "/@npm/tw.css", css: ${JSON.stringify(await text("tw-animate-css/dist/tw-animate.css"))} },
        "./buttons.css": { path: "/src/buttons.css", css: '@import "./deep.css"; @utility button-* { padding: --value(integer)px; }' } },
        "/src/buttons.css": { "./deep.css": { path: "/src/deep.css", css: ".deep { color: theme(--color-brand) }" } } } }`,
    `import * as typography from "/@npm/typography.js"; import * as forms from "/@npm/forms.js"; import * as config from "/tailwind.config.js";`,
  );
  const html = `<article class="prose"><h1>t</h1></article><div id="a" class="border text-brand p-huge animate-in fade-in-0 deep"></div>
    <input class="form-input"><div class="dark"><p class="dark:text-brand">x</p></div>`;
  server.page("/", `${html}<script type="module" src="/src/index.css"></script>`);
  await page.goto(server.origin());
  await ready();
  assert.equal(await page.locator("overskill-error").count(), 0);
  assert.equal(await computed("#a", "border-top-color"), "rgb(7, 8, 9)");
  assert.equal(await computed("#a", "color"), "rgb(7, 8, 9)");
  assert.equal(await computed("#a", "padding-left"), "77px");
  assert.equal(await computed("#a", "animation-name"), "enter");
  assert.equal(await computed("article h1", "font-weight"), "800");
  assert.equal(await computed("input", "padding-top"), "8px");
  assert.equal(await computed(".dark p", "color"), "rgb(7, 8, 9)");
});
