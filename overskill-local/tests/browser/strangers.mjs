// Apps that nobody here shaped, unedited: made by their own generators, or published with their sources, at exact versions.
//
// What a preview cannot show of them is asserted too, by its message, and listed in docs/previews-compatibility.md of overskill-build.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { launch } from "../../../tools/browser.mjs";
import { eventually, Quickstart, Tab } from "../../../tools/quickstart.mjs";

const run = promisify(execFile);

/** @type {import("../../../tools/browser.mjs").Browser} */
let browser;
/** @type {string} */
let place;
before(async () => {
  [browser, place] = await Promise.all([launch(), mkdtemp(join(tmpdir(), "overskill-strangers-"))]);
});
after(async () => {
  await browser.close();
  await rm(place, { recursive: true, force: true });
});

/** Lets a generator make a folder. @param {string} generator with its exact version @param {string} name @param {string[]} options */
async function generated(generator, name, ...options) {
  const npm = run("npm", ["exec", "--yes", "--", generator, name, ...options], { cwd: place, timeout: 240_000 });
  npm.child.stdin?.end();
  await npm;
  return join(place, name);
}

/** Unpacks a package as it was published. @param {string} name @param {string} version @param {string} [without] its own build */
async function published(name, version, without = "package/none") {
  const folder = join(place, name);
  await mkdir(folder, { recursive: true });
  const { stdout } = await run("npm", ["pack", "--silent", "--pack-destination", place, `${name}@${version}`], { cwd: place });
  await run("tar", ["-xzf", join(place, stdout.trim().split("\n").at(-1) ?? ""), "-C", folder, "--strip-components", "1", `--exclude=${without}`]);
  return folder;
}

/** @param {string} folder @param {(quickstart: Quickstart, tab: Tab) => Promise<void>} use */
async function preview(folder, use) {
  const name = folder.slice(place.length + 1).replaceAll("/", "-").replace("@", "");
  const quickstart = await Quickstart.copy(folder, { name });
  try {
    const tab = new Tab(await browser.newPage());
    await tab.page.goto(quickstart.url);
    await tab.mark();
    await use(quickstart, tab);
    await quickstart.assertNoNode();
    await tab.page.close();
  } catch (error) {
    console.error(quickstart.output);
    throw error;
  } finally {
    await quickstart.stop();
  }
}

/** How many dependencies it declares, and how many packages they come to. @param {Quickstart} quickstart */
async function size(quickstart) {
  const { dependencies = {}, devDependencies = {} } = JSON.parse(await quickstart.read("package.json"));
  return { declared: Object.keys(dependencies).length + Object.keys(devDependencies).length, unpacked: await count(join(quickstart.data, "packages/unpacked")) };
}

/** Packages lie two folders deep. @param {string} folder */
async function count(folder) {
  const outer = await readdir(folder);
  const inner = await Promise.all(outer.map((name) => readdir(join(folder, name))));
  return inner.flat().length;
}

/** Errors but those of other hosts, which this browser cannot reach. @param {Tab} tab */
const ownErrors = (tab) => tab.errors.filter((text) => !text.includes("net::ERR_NAME_NOT_RESOLVED"));

test("create-vite: react-ts", async () => {
  await preview(await generated("create-vite@9.3.0", "react-ts", "--template", "react-ts", "--no-interactive"), async (quickstart, tab) => {
    const button = tab.page.getByRole("button");
    await tab.shows(button, "Count is 0");
    await button.click();
    await button.click();
    await tab.shows(button, "Count is 2");
    await quickstart.edit("src/App.tsx", "Get started", "Get going");
    await tab.shows(tab.page.locator("h1"), "Get going");
    await tab.shows(button, "Count is 2");
    const images = `[...document.images].every((it) => it.complete && it.naturalWidth > 0)`;
    await eventually(() => tab.page.evaluate(images), "every image");
    assert.equal(await tab.reloaded(), false);
    assert.deepEqual(tab.errors, []);
  });
});

test("create-vite: vanilla-ts", async () => {
  await preview(await generated("create-vite@9.3.0", "vanilla-ts", "--template", "vanilla-ts", "--no-interactive"), async (quickstart, tab) => {
    const button = tab.page.getByRole("button");
    await tab.shows(button, "Count is 0");
    await button.click();
    await tab.shows(button, "Count is 1");
    await quickstart.edit("src/main.ts", "Get started", "Get going");
    await tab.anew("h1"); // nobody accepts it, as with Vite
    await tab.shows(tab.page.locator("h1"), "Get going");
    assert.deepEqual(tab.errors, []);
  });
});

test("vite-template-mantine: 50 dependencies, Mantine, PostCSS, svgr, aliases of its own plugins", async () => {
  await preview(await published("vite-template-mantine", "1.0.1"), async (quickstart, tab) => {
    const { declared, unpacked } = await size(quickstart);
    assert.ok(declared >= 40 && unpacked >= 40, `${declared} declared, ${unpacked} unpacked`);
    await tab.page.getByText("BaseLayout").waitFor();
    assert.match(await tab.computed(":root", "--mantine-color-blue-6"), /#/);
    await quickstart.edit("src/app/layouts/base-layout/ui/base-layout.tsx", "BaseLayout</", "Another layout</");
    await tab.page.getByText("Another layout").waitFor();
    assert.equal(await tab.reloaded(), false);
    assert.deepEqual(ownErrors(tab), []);
  });
});

test("create-react-admin: an app of more than 40 packages, with its data and its login", async () => {
  const options = ["--data-provider", "ra-data-fakerest", "--auth-provider", "local-auth-provider"];
  const resources = ["--resource", "posts", "--resource", "comments", "--install", "skip"];
  await preview(await generated("create-react-admin@5.15.0", "admin", ...options, ...resources), async (quickstart, tab) => {
    const { unpacked } = await size(quickstart);
    assert.ok(unpacked >= 40, `${unpacked} packages`);
    const { page } = tab;
    await page.getByLabel("Username").fill("janedoe");
    await page.getByRole("textbox", { name: "Password" }).fill("password");
    await page.getByRole("button", { name: /sign in/i }).click();
    await page.getByRole("menuitem", { name: "Comments" }).click();
    await page.locator("table tbody tr").first().waitFor();
    assert.equal(await tab.reloaded(), false);
    assert.deepEqual(ownErrors(tab), []);
  });
});

test("@medusajs/dashboard: 1,427 files compile; what its host's plugin makes up is named", async () => {
  await preview(await published("@medusajs/dashboard", "2.0.0", "package/dist"), async (quickstart, tab) => {
    const { declared, unpacked } = await size(quickstart);
    assert.ok(declared >= 40 && unpacked >= 40, `${declared} declared, ${unpacked} unpacked`);
    const said = quickstart.output.split("\n").filter((line) => /^\S+:\d+:\d+: /.test(line));
    console.log(`What a preview of it lacks:\n${said.join("\n")}`);
    const made = ["displays", "forms", "links", "menu-items", "routes", "widgets"].map((name) => `virtual:medusa/${name}`);
    for (const name of made) assert.ok(said.some((line) => line.includes(name)), `${name} is not named:\n${quickstart.output}`);
    assert.deepEqual(said.filter((line) => !made.some((name) => line.includes(`\`${name}\` is no file, package or web address`))), []);
    assert.match(await tab.overlayText(), /virtual:medusa\/\w+.*(plugin of Vite|do not exist in previews)/s);
  });
});
