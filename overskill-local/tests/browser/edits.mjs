// Edits on disk, as they arrive in the pages that look: the real quickstart on a copy of todo-studio, in a real browser.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { launch } from "../../../tools/browser.mjs";
import { eventually, Quickstart, Tab } from "../../../tools/quickstart.mjs";

/** @type {import("../../../tools/browser.mjs").Browser} */
let browser;
/** @type {Quickstart} */
let quickstart;
/** @type {Tab} */
let tab;
/** @type {(() => Promise<unknown>)[]} */
let afterwards = [];

before(async () => {
  [browser, quickstart] = await Promise.all([launch(), Quickstart.example("todo-studio")]);
});
after(async () => {
  await browser.close();
  await quickstart.assertNoNode();
  await quickstart.stop();
});
beforeEach(async () => {
  tab = await Tab.open(browser, quickstart.url);
  await tab.shows("page-title", "Today");
});
afterEach(async (context) => {
  // What a test wrote is taken back, so that each begins with the app as it was.
  await tab.page.close();
  if (/** @type {{ error?: unknown }} */ (context).error) console.error(quickstart.output);
  for (const undo of afterwards.splice(0).reverse()) await undo();
  await eventually(async () => !(await problems()), "an app without a problem").catch((error) => {
    throw new Error(`after ${context.name}: ${error.message}`);
  });
});

/** Whether a page that begins now is told of an error. */
async function problems() {
  const probe = await Tab.open(browser, quickstart.url);
  try {
    await probe.by("page-title").waitFor({ timeout: 5_000 }).catch(() => {});
    return probe.told.some((it) => it.type === "error") || (await probe.by("page-title").count()) === 0;
  } finally {
    await probe.page.close();
  }
}

/** Edits a file until the end of the test. @param {string} path @param {string | RegExp} what @param {string} by */
async function edit(path, what, by) {
  await restored(path);
  await quickstart.edit(path, what, by);
}

/** @type {Set<string>} */
const kept = new Set();

/** The file is at the end as it is now; or not there. @param {string} path */
async function restored(path) {
  if (kept.has(path)) return;
  kept.add(path);
  const was = await quickstart.read(path).catch(() => undefined);
  afterwards.push(async () => {
    kept.delete(path);
    await (was === undefined ? quickstart.remove(path).catch(() => {}) : quickstart.write(path, was));
  });
}

/** @param {string} path @param {string} text */
async function write(path, text) {
  await restored(path);
  await quickstart.write(path, text);
}

/** Counts to three, so that there is a state to lose. @param {Tab} [on] */
async function count(on = tab) {
  for (let n = 1; n <= 3; n++) {
    await on.by("counter").click();
    await on.shows("counter-value", String(n));
  }
  await on.page.mouse.move(1, 1); // a button under the pointer has another colour
}

/** The state and the page are those of before. @param {Tab} [on] */
async function stayed(on = tab) {
  assert.equal(await on.reloaded(), false, "the page was loaded anew");
  await on.shows("counter-value", "3");
}

const counter = "src/components/Counter.tsx";

test("a component is replaced where it stands, and its state stays", async () => {
  await count();
  await edit(counter, "Focus rounds", "Rounds of focus");
  await tab.page.getByText("Rounds of focus").waitFor();
  await stayed();
  await quickstart.edit(counter, "useState(0)", "useState(40)"); // other hooks: React begins it anew, as it does with Vite
  await tab.shows("counter-value", "40");
  assert.equal(await tab.reloaded(), false);
  assert.deepEqual(tab.errors, []);
});

test("a page, a hook, a store, a context: who takes it, and nobody loads anew", async () => {
  await count();
  await edit("src/pages/Index.tsx", 'title="Today"', 'title="This day"');
  await tab.shows("page-title", "This day");
  await stayed();
  await edit("src/hooks/use-document-title.ts", "`${page} · ${appTitle}`", "`${page} at ${appTitle}`");
  await eventually(async () => (await tab.page.title()) === "This day at Todo Studio", "the title");
  await stayed();
  await edit("src/lib/dates.ts", /^/, "// nothing that shows\n");
  await eventually(() => tab.news().length >= 3, "the third update");
  await stayed();
  assert.deepEqual(tab.errors, []);
});

test("style sheets are swapped: a theme, a CSS module, a class that no file had", async () => {
  await count();
  const button = () => tab.computed("[data-testid=counter]", "background-color");
  await edit("src/index.css", "--primary: 243 75% 59%;", "--primary: 120 100% 25%;");
  await eventually(async () => (await button()) === "rgb(0, 128, 0)", "a green button");
  await stayed();
  await edit(counter, '<CardContent className="flex items-center gap-2"', '<CardContent className="flex items-center gap-[13px]"');
  await eventually(async () => (await tab.computed("div:has(> [data-testid=counter])", "gap")).startsWith("13px"), "the gap");
  await stayed();

  await tab.page.getByRole("link", { name: "Calendar" }).click();
  await tab.by("month-grid").waitFor();
  await edit("src/components/calendar/MonthGrid.module.css", "gap: 1px", "gap: 9px");
  await eventually(async () => (await tab.computed("[data-testid=month-grid]", "row-gap")) === "9px", "the grid's gap");
  assert.equal(await tab.reloaded(), false);
  assert.deepEqual(tab.errors, []);
});

test("what modules import besides code: JSON, raw text, a glob, an asset", async () => {
  await edit("src/content/tips/plan.md", "# Plan the evening before", "# Plan at noon");
  await tab.by("tips").getByText("Plan at noon").waitFor();
  await write("src/content/tips/rest.md", "# Rest\n\nNow and then.\n");
  await tab.by("tips").getByText("Rest").waitFor(); // the glob finds the new file
  await quickstart.remove("src/content/tips/rest.md");
  await tab.by("tips").getByText("Rest").waitFor({ state: "detached" });

  const logo = `document.querySelector("[data-testid=logo]").src`;
  const before = await tab.page.evaluate(logo);
  await edit("src/assets/logo.svg", /<svg /, '<svg data-edited="yes" ');
  const shown = () => tab.page.evaluate(`fetch(${logo}).then((it) => it.text()).then((it) => it.includes("data-edited"))`);
  await eventually(async () => (await tab.page.evaluate(logo)) !== before && (await shown()), "the new logo");

  await edit("src/data/seed-tasks.json", "Send the offer to Marta", "Send the offer to Maria");
  const fresh = await browser.newContext();
  const other = await Tab.open(fresh, quickstart.url);
  await other.by("task-list").getByText("Send the offer to Maria").waitFor();
  await fresh.close();

  await tab.page.getByRole("link", { name: "Settings" }).click();
  await tab.page.getByRole("tab", { name: "About" }).click();
  await edit("src/content/about.md", "Todo Studio keeps", "This app keeps");
  await tab.shows("about", /This app keeps/);
  assert.deepEqual(tab.errors, []);
});

test("a syntax error: overlay with file, line and frame; mended, it goes, and the state is kept", async () => {
  await count();
  await edit(counter, "const [count, setCount] = useState(0);", "const [count, setCount] = useState(0;");
  const text = await tab.overlayText();
  assert.match(text, /src\/components\/Counter\.tsx:12:\d+/);
  assert.match(text, /useState\(0;/);
  await quickstart.edit(counter, "useState(0;", "useState(0);");
  await tab.overlayGone();
  await stayed();
  // And the page did not miss what else there was in the edit that mended it.
  await quickstart.edit(counter, "Focus rounds", "Focus <b>");
  assert.match(await tab.overlayText(), /Counter\.tsx/);
  await quickstart.edit(counter, "Focus <b>", "Focus again");
  await tab.overlayGone();
  await tab.page.getByText("Focus again").waitFor();
  await stayed();
});

test("an error in a style sheet is shown with its place, and goes", async () => {
  await count();
  const sheet = "src/components/calendar/MonthGrid.module.css";
  await edit(sheet, ".weekday {", ".weekday { }}} {");
  assert.match(await tab.overlayText(), /MonthGrid\.module\.css:11:\d+.*> 11 \| \.weekday \{ \}\}\} \{/s);
  await quickstart.edit(sheet, ".weekday { }}} {", ".weekday {");
  await tab.overlayGone();
  await stayed();
  // What only Tailwind, in the page, can know.
  await edit("src/index.css", "@apply border-border;", "@apply no-such-class;");
  assert.match(await tab.overlayText(), /no-such-class.*src\/index\.css/s);
  await quickstart.edit("src/index.css", "@apply no-such-class;", "@apply border-border;");
  await tab.overlayGone();
  await stayed();
});

test("a page that begins with an error gets the overlay, and itself once it is mended", async () => {
  await edit("src/App.tsx", "const queryClient = new", "const queryClient == new");
  await tab.overlayText();
  const late = await Tab.open(browser, quickstart.url);
  assert.match(await late.overlayText(), /src\/App\.tsx:20/);
  await quickstart.edit("src/App.tsx", "const queryClient == new", "const queryClient = new");
  await late.shows("page-title", "Today");
  await late.overlayGone();
  await late.page.close();
});

test("files written together are one update", async () => {
  await count();
  await restored(counter);
  await restored("src/pages/Index.tsx");
  const was = await quickstart.read(counter);
  const page = await quickstart.read("src/pages/Index.tsx");
  for (let attempt = 1; ; attempt++) {
    const from = tab.told.length;
    const title = `Together ${attempt}`;
    await restored(`src/lib/words${attempt}.ts`);
    // Those that need the other first: what is there fits together only with the last.
    const took = await quickstart.writeTogether([
      ["src/pages/Index.tsx", `import { WORDS${attempt} } from "@/lib/words${attempt}";\n${page.replace('title="Today"', `title={WORDS${attempt}.page}`)}`],
      [counter, `import { WORDS${attempt} } from "@/lib/words${attempt}";\n${was.replace("Focus rounds", `{WORDS${attempt}.counter}`)}`],
      [`src/lib/words${attempt}.ts`, `export const WORDS${attempt} = { page: "${title}", counter: "As one ${attempt}" };\n`],
    ]);
    await tab.shows("page-title", title);
    await tab.page.getByText(`As one ${attempt}`).waitFor();
    await stayed();
    // The rest is waited for 20 ms: a machine that stopped the writer for as long has not written them together.
    if (took > 10 && attempt < 5) continue;
    const updates = tab.news(from).filter((it) => it.type === "update");
    const paths = updates.flatMap((it) => it.updates ?? []).map((it) => it.path);
    assert.ok(updates.length === 1, `${updates.length} updates: ${paths}`);
    assert.ok(paths.includes("/src/pages/Index.tsx") && paths.includes(`/${counter}`), String(paths));
    assert.equal(tab.news(from).some((it) => it.type === "error"), false);
    return;
  }
});

test("a new file, a renamed file, a deleted file", async () => {
  await count();
  const page = "src/pages/Index.tsx";
  await write("src/components/Badge2.tsx", `export const Badge2 = () => <p data-testid="fresh">fresh</p>;\n`);
  const was = await quickstart.read(page);
  const next = was.replace("    </>\n", "      <Badge2 />\n    </>\n");
  await write(page, `import { Badge2 } from "@/components/Badge2";\n${next}`);
  await tab.shows("fresh", "fresh");
  await tab.overlayGone();
  await stayed();

  await restored("src/components/Sign.tsx");
  await quickstart.rename("src/components/Badge2.tsx", "src/components/Sign.tsx");
  assert.match(await tab.overlayText(), /Badge2/);
  await quickstart.edit(page, "@/components/Badge2", "@/components/Sign");
  await quickstart.edit("src/components/Sign.tsx", ">fresh<", ">renamed<");
  await tab.overlayGone();
  await tab.shows("fresh", "renamed");
  await stayed();

  await quickstart.remove("src/components/Sign.tsx");
  const text = await tab.overlayText();
  assert.match(text, /Sign/);
  assert.match(text, /src\/pages\/Index\.tsx:1/);
  await quickstart.write(page, was);
  await tab.overlayGone();
  await tab.by("fresh").waitFor({ state: "detached" });
  await stayed();
});

test("a dependency is added to package.json, and used", async () => {
  const page = "src/pages/Index.tsx";
  const was = await quickstart.read(page);
  const title = 'title={typeof mitt().emit}';
  await write(page, `import mitt from "mitt";\n${was.replace('title="Today"', title)}`);
  const text = await tab.overlayText();
  assert.match(text, /`mitt` is not in package\.json.*src\/pages\/Index\.tsx:1/s);
  assert.match(text, /npm install mitt/, "it says what to do");
  // The rest of it stands, and takes edits.
  await edit(counter, "Focus rounds", "Meanwhile");
  await tab.page.getByText("Meanwhile").waitFor();
  await edit("package.json", '"date-fns":', '"mitt": "3.0.1",\n    "date-fns":');
  await tab.shows("page-title", "function");
  await tab.overlayGone();
  await tab.shows("app-title", "Todo Studio");
});

test("an import of nothing known: named, with what to do; the rest keeps working", async () => {
  await count();
  await edit("src/pages/StatsPage.tsx", /^/, `import { nothing } from "no-such-package-here";\nconsole.log(nothing);\n`);
  const text = await tab.overlayText();
  assert.match(text, /no-such-package-here/);
  assert.match(text, /src\/pages\/StatsPage\.tsx:1/);
  assert.match(text, /package\.json/);
  await edit(counter, "Focus rounds", "Still here");
  await tab.page.getByText("Still here").waitFor();
  await stayed();
  const late = await Tab.open(browser, `${quickstart.url}/board`);
  await late.shows("page-title", "Board");
  await late.page.close();
});

test("a variable is changed in .env", async () => {
  await write(".env", `VITE_APP_TITLE="Kitchen Studio"\nSECRET=hush\n`);
  await tab.shows("app-title", "Kitchen Studio");
  await quickstart.write(".env", "VITE_APP_TITLE=Garden\n");
  await tab.shows("app-title", "Garden");
  assert.deepEqual(tab.errors, []);
});

test("two tabs are told the same, in the same order", async () => {
  const second = await Tab.open(browser, quickstart.url);
  await second.shows("page-title", "Today");
  await count();
  await count(second);
  const from = [tab.told.length, second.told.length];
  await restored(counter);
  const was = await quickstart.read(counter);
  for (let n = 1; n <= 5; n++) {
    await quickstart.write(counter, was.replace("Focus rounds", `Round ${n}`));
    for (const each of [tab, second]) await each.page.getByText(`Round ${n}`, { exact: true }).waitFor();
  }
  await stayed();
  await stayed(second);
  assert.deepEqual(tab.news(from[0]), second.news(from[1]));
  await second.page.close();
});
