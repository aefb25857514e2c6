// The example apps in a real browser, by the real quickstart: they render, they navigate, and nothing complains.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch } from "../../../tools/browser.mjs";
import { eventually, Quickstart, Tab } from "../../../tools/quickstart.mjs";

/** @type {import("../../../tools/browser.mjs").Browser} */
let browser;
before(async () => {
  browser = await launch();
});
after(() => browser.close());

/** Names what fails. @param {string} what @param {() => Promise<void>} run */
const step = (what, run) =>
  run().catch((error) => {
    throw new Error(`${what}: ${error.message}`, { cause: error });
  });

/**
 * @param {string} app
 * @param {(quickstart: Quickstart) => Promise<void>} use
 * @param {import("../../../tools/quickstart.mjs").Options} [options]
 */
async function withApp(app, use, options) {
  const quickstart = await Quickstart.example(app, options);
  try {
    await use(quickstart);
    await quickstart.assertNoNode();
  } catch (error) {
    console.error(quickstart.output);
    throw error;
  } finally {
    await quickstart.stop();
  }
}

test("todo-studio: every page, dialog, menu and tab, without an error; a second run needs no network", async () => {
  await withApp("todo-studio", async (quickstart) => {
    const tab = await Tab.open(browser, quickstart.url);
    const { page } = tab;
    const link = (/** @type {string} */ name) => page.getByRole("link", { name, exact: true });
    const press = (/** @type {string} */ name) => page.getByRole("button", { name }).click();

    await tab.shows("page-title", "Today");
    await tab.shows("app-title", "Todo Studio");
    assert.ok((await tab.by("task-item").count()) > 0);
    await eventually(() => page.evaluate(`document.querySelector("[data-testid=logo]").naturalWidth > 0`), "the logo");

    await step("pages", async () => {
      for (const name of ["Board", "Calendar", "Stats", "Settings", "Today"]) {
        await link(name).click();
        await tab.shows("page-title", name === "Calendar" ? /./ : name);
      }
      await page.getByRole("link", { name: "Work" }).click();
      await tab.shows("page-title", "Work");
      await tab.by("task-item").first().getByRole("link").click();
      await tab.by("task-detail").waitFor();
      assert.equal(await tab.reloaded(), false, "links do not load the page anew");
    });

    await step("styles are Tailwind's", async () => {
      await link("Today").click();
      await tab.by("counter").waitFor();
      const primary = await tab.colour("hsl(var(--primary))");
      assert.match(primary, /^rgb/);
      await eventually(async () => (await tab.computed("[data-testid=counter]", "background-color")) === primary, "the colour");
      assert.equal(await tab.computed("[data-testid=counter]", "height"), "40px"); // h-10
      assert.equal(await tab.computed("[data-testid=counter]", "padding-left"), "16px"); // px-4
      assert.equal(await tab.computed(".nav-link", "display"), "flex"); // @apply
      assert.equal(await tab.computed("body", "background-color"), await tab.colour("hsl(var(--background))"));
      assert.match(await tab.computed("body", "font-family"), /^Inter/); // the configuration's theme
      assert.equal(await tab.computed("main", "animation-name"), "fade-up"); // and its keyframes
    });

    await step("dialog, form, toast", async () => {
      await tab.by("new-task").click();
      const dialog = page.getByRole("dialog");
      await dialog.getByRole("button", { name: "Add task" }).click();
      await dialog.getByText("Give the task a title.").waitFor(); // zod, through its resolver
      await dialog.getByLabel("Title").fill("Water the plants");
      await dialog.getByLabel("Priority").click();
      await page.getByRole("option", { name: "High" }).click();
      await dialog.getByRole("button", { name: "Add task" }).click();
      await dialog.waitFor({ state: "detached" });
      await page.getByText("Task added").waitFor();
      await page.keyboard.press("n");
      await dialog.waitFor();
      await page.keyboard.press("Escape");
      await dialog.waitFor({ state: "detached" });
    });

    await step("menus, popover, select, accordion, tooltip", async () => {
      await tab.by("theme-toggle").click();
      await page.getByRole("menuitemradio", { name: "Dark" }).click();
      await eventually(() => page.evaluate(`document.documentElement.classList.contains("dark")`), "the dark theme");
      const dark = await tab.colour("hsl(var(--background))");
      await eventually(async () => (await tab.computed("body", "background-color")) === dark, "the dark background");
      await tab.by("tips").getByRole("button").first().click();
      await tab.by("tips").getByRole("region").first().waitFor();
      await tab.by("new-task").hover();
      await page.getByRole("tooltip").waitFor({ state: "attached" });
      await link("Board").click();
      await page.getByRole("combobox", { name: "List" }).click();
      await page.getByRole("option", { name: "Home" }).click();
      await page.getByRole("link", { name: "Work" }).click();
      await page.getByRole("button", { name: "Priority" }).click();
      await page.getByLabel("High").click();
      await page.keyboard.press("Escape");
      await link("Calendar").click();
      await tab.by("month-grid").getByRole("button").nth(10).click();
      await page.getByRole("dialog").waitFor();
      await page.keyboard.press("Escape");
      assert.equal(await tab.computed("[data-testid=month-grid]", "display"), "grid"); // a CSS module
    });

    await step("tabs, and a dialog that asks", async () => {
      await link("Settings").click();
      await page.getByRole("tab", { name: "About" }).click();
      await tab.shows("about", /Nothing leaves your machine.*Running in development mode/s);
      await page.getByRole("tab", { name: "General" }).click();
      await press("Start over");
      await page.getByRole("alertdialog").waitFor();
      await press("Cancel");
      await page.getByRole("tab", { name: "Shared" }).click();
      await tab.by("load-shared").click(); // the embedded API, through the preview's own origin
      await tab.by("shared-notes").getByText("No notes yet").waitFor();
      await page.getByPlaceholder("A note for all").fill("Hello from a test");
      await press("Share");
      await tab.by("shared-notes").getByText("Hello from a test").waitFor();
    });
    assert.equal(await tab.reloaded(), false);

    await step("deep links, and what is not there", async () => {
      await page.goto(`${quickstart.url}/lists/work/tasks/seed-1`);
      await tab.by("task-detail").waitFor();
      await page.goto(`${quickstart.url}/stats`);
      await tab.shows("page-title", "Stats"); // lazy
      await page.goto(`${quickstart.url}/no/such/page`);
      await tab.shows("not-found", /404.*\/no\/such\/page/s);
      await page.setViewportSize({ width: 390, height: 800 });
      await press("Menu");
      await page.getByRole("dialog").waitFor(); // the sheet of small screens
    });
    assert.deepEqual(tab.errors, []);
    await page.close();

    await step("a second run with the same data, offline", async () => {
      await quickstart.stop({ keep: true });
      const offline = { data: quickstart.data, registry: "http://127.0.0.1:9/" };
      const second = await Quickstart.serve(quickstart.place, quickstart.folder, offline);
      try {
        const again = await Tab.open(browser, second.url);
        await again.shows("page-title", "Today");
        await again.by("counter").click();
        await again.shows("counter-value", "1");
        await second.assertNoNode();
        assert.deepEqual(again.errors, []);
        await again.page.close();
      } finally {
        await second.stop({ keep: true });
      }
    });
  });
});

test("commonjs: every library answers as it does elsewhere", async () => {
  await withApp("commonjs", async (quickstart) => {
    const tab = await Tab.open(browser, quickstart.url);
    const { page } = tab;
    await tab.shows("all-ok", /^(\d+) of \1$/).catch(async (error) => {
      throw new Error(`${error.message}\n${await page.locator("table").innerText()}`);
    });
    assert.equal(await page.locator("tbody tr").count(), await page.locator("tbody tr[data-ok=true]").count());
    assert.deepEqual(tab.errors, []);
    await page.close();
  });
});

test("vanilla-ts: assets, a CSS module, a dynamic import, its own acceptance", async () => {
  await withApp("vanilla-ts", async (quickstart) => {
    const tab = await Tab.open(browser, quickstart.url);
    const { page } = tab;
    await tab.shows("timer", "3:00");
    await tab.by("less").click();
    await tab.shows("timer", "2:50");
    await eventually(() => page.evaluate(`document.querySelector("[data-testid=teapot]").naturalWidth > 0`), "the teapot");
    await tab.by("load-facts").click();
    await tab.by("facts").getByText("Oolong").waitFor();
    assert.equal(await tab.computed("[data-testid=timer]", "color"), "rgb(19, 78, 74)");

    // Accepted by who imports it, and by itself: the time left is handed on.
    await quickstart.edit("src/timer.ts", "+10 s", "+ ten");
    await tab.shows("more", "+ ten");
    await tab.shows("timer", "2:50");
    await quickstart.edit("src/main.ts", "Tea timer", "Tea clock");
    await tab.shows(page.locator("h1"), "Tea clock");
    await tab.shows("timer", "2:50");
    await quickstart.edit("src/timer.module.css", "#134e4a", "#0000ff");
    await eventually(async () => (await tab.computed("[data-testid=timer]", "color")) === "rgb(0, 0, 255)", "blue");
    assert.equal(await tab.reloaded(), false);
    assert.deepEqual(tab.errors, []);
    await page.close();
  });
});

test("tailwind4: its theme, utilities, variants and container queries", async () => {
  await withApp("tailwind4", async (quickstart) => {
    const tab = await Tab.open(browser, quickstart.url);
    const { page } = tab;
    await tab.shows("heading", "Harbour Coffee");
    assert.match(await tab.computed("[data-testid=heading]", "font-family"), /^Georgia/);
    const button = "[data-testid^=add-]";
    const roast = await tab.colour("var(--color-roast-600)");
    await eventually(async () => (await tab.computed(button, "background-color")) === roast, "the theme's colour");
    assert.equal(await tab.computed("[data-testid=drink]", "border-top-left-radius"), "16px"); // its own @utility
    assert.equal(await tab.computed("[data-testid=drink]", "background-color"), "rgb(255, 255, 255)");
    await page.locator(button).first().click();
    await tab.shows("order", /1 × /);
    await tab.by("theme").click();
    const dark = await tab.colour("var(--color-roast-900)");
    await eventually(async () => (await tab.computed("[data-testid=drink]", "background-color")) === dark, "the dark variant");

    // A class that no file had before is there with the edit that brings it.
    await quickstart.edit("src/App.tsx", "text-4xl font-bold", "text-4xl font-bold tracking-[7px]");
    await eventually(async () => (await tab.computed("[data-testid=heading]", "letter-spacing")) === "7px", "the new class");
    await tab.shows("order", /1 × /);
    assert.equal(await tab.reloaded(), false);
    assert.deepEqual(tab.errors, []);
    await page.close();
  });
});
