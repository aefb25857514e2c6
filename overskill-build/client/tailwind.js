// Tailwind in the page: the app's configuration and plugins are its authors' code, and run here and nowhere else.
//
// The words of the app's sources come with it, so that the first picture has its styles; classes that are put together at
// run time are seen as they reach the document, before it is painted.

import { removeStyle, report, updateStyle } from "./client.js";
import words from "./tailwind-candidates.js";
import { compile, sheets as ownSheets } from "./tailwind-core.js";

/**
 * What a style sheet names, by the path of the sheet that names it and then as written there.
 *
 * @typedef {object} Given
 * @property {Record<string, Record<string, any>>} [modules] modules of plugins and configurations
 * @property {Record<string, Record<string, { path: string, css: string }>>} [sheets] imported style sheets
 * @property {{ default?: any }} [config] the project's `tailwind.config`, where the sheet has the form of Tailwind 3
 * @property {typeof import("./tailwind-v3.js")} [v3] where the sheet has the form of Tailwind 3
 *
 * @typedef {object} Sheet
 * @property {(words: string[]) => string} build
 * @property {string[]} always words that the configuration asks for
 */

/** Bit of a compiler's `features`: the sheet holds utilities, so that new words change it. */
const UTILITIES = 16;

/** @type {Map<string, Sheet>} */
const sheets = new Map();
/** Every word met so far. */
const seen = new Set(words);
/** Which call is the newest, by sheet. @type {Map<string, number>} */
const versions = new Map();

/**
 * Compiles a style sheet and puts it into the page; later words are added as they come. What is wrong with it is shown in
 * the overlay, and the sheet before stays.
 *
 * @param {string} id the sheet's path
 * @param {string} css
 * @param {Given} [given]
 */
export async function tailwindStyle(id, css, given = {}) {
  const version = (versions.get(id) ?? 0) + 1;
  versions.set(id, version);
  // Its place in the order of sheets is taken now, whatever takes how long.
  if (version === 1) updateStyle(id, "");
  try {
    const sheet = given.v3 ? await versionThree(id, css, given, given.v3) : await versionFour(id, css, given);
    if (versions.get(id) !== version) return;
    sheets.set(id, sheet);
    updateStyle(id, sheet.build([...seen, ...sheet.always]));
    watch();
  } catch (error) {
    if (versions.get(id) !== version) return;
    console.error(error);
    await report({
      message: `Tailwind: ${error instanceof Error ? error.message : String(error)}`,
      id,
      help: "The rest of the page goes on without this style sheet's changes.",
    });
  }
}

/** @param {string} id */
export function removeTailwindStyle(id) {
  versions.set(id, (versions.get(id) ?? 0) + 1);
  sheets.delete(id);
  removeStyle(id);
}

/** @param {string} id @param {string} css @param {Given} given @returns {Promise<Sheet>} */
async function versionFour(id, css, given) {
  const { features, build } = await compile(css, { base: id, ...loaders(given) });
  return { build: features & UTILITIES ? build : once(build), always: [] };
}

/** @param {string} id @param {string} css @param {Given} given @param {NonNullable<Given["v3"]>} v3 @returns {Promise<Sheet>} */
async function versionThree(id, css, given, v3) {
  const config = given.config?.default ?? given.config ?? {};
  const prepared = v3.prepare(css, config, seen);
  const { features, build } = await compile(prepared, { base: id, ...loaders(given, v3.resources(config)) });
  const finished = changed(build, v3.finish);
  const always = (config.safelist ?? []).filter((/** @type {unknown} */ it) => typeof it === "string");
  return { build: features & UTILITIES ? finished : once(finished), always };
}

/**
 * What `finish` makes of what is built. Most words that the document brings are no classes of Tailwind: the compiler gives the
 * same text again.
 *
 * @param {Sheet["build"]} build @param {(css: string) => string} finish @returns {Sheet["build"]}
 */
function changed(build, finish) {
  let [raw, finished] = ["", ""];
  return (words) => {
    const css = build(words);
    if (css !== raw) [raw, finished] = [css, finish(css)];
    return finished;
  };
}

/** For a sheet without utilities: more words do not change it. @param {Sheet["build"]} build @returns {Sheet["build"]} */
function once(build) {
  const css = build([]);
  return () => css;
}

/**
 * How Tailwind gets what a sheet names: nothing is looked for, all of it came along.
 *
 * @param {Given} given
 * @param {{ config?: any, sheets?: Record<string, string> }} [own]
 * @returns {Omit<Parameters<typeof compile>[1], "base">}
 */
function loaders({ modules = {}, sheets = {} }, own = {}) {
  return {
    async loadModule(id, base, kind) {
      if (own.config && id === "overskill:config") return { path: id, base, module: own.config };
      const module = modules[base]?.[id];
      if (module === undefined) throw new Error(`${kind} ${JSON.stringify(id)}, named in ${base}, was not found`);
      if (module instanceof Error) throw module;
      return { path: id, base, module: module.default ?? module };
    },
    async loadStylesheet(id, base) {
      const text = own.sheets?.[id] ?? ownSheets[id] ?? ownSheets[`${id}.css`];
      if (text !== undefined) return { path: id, base: id, content: text };
      const sheet = sheets[base]?.[id];
      if (!sheet) throw new Error(`style sheet ${JSON.stringify(id)}, imported in ${base}, was not found`);
      return { path: sheet.path, base: sheet.path, content: sheet.css };
    },
  };
}

// --- Words in the document -------------------------------------------------------------------------------------------

let watching = false;

function watch() {
  if (watching) return;
  watching = true;
  const observer = new MutationObserver((records) => {
    const before = seen.size;
    for (const { type, target, addedNodes } of records) {
      if (type === "attributes") meet(/** @type {Element} */ (target));
      for (const node of addedNodes) if (node instanceof Element) meetAll(node);
    }
    if (seen.size > before) rebuild();
  });
  observer.observe(document.documentElement, { subtree: true, childList: true, attributes: true, attributeFilter: ["class"] });
  const before = seen.size;
  meetAll(document.documentElement);
  if (seen.size > before) rebuild();
}

/** @param {Element} element */
function meetAll(element) {
  meet(element);
  for (const inner of element.querySelectorAll("[class]")) meet(inner);
}

/** @param {Element} element */
function meet(element) {
  // The list is a getter that parses; the attribute is enough, and an SVG's is one too.
  for (const word of element.getAttribute("class")?.split(/\s+/) ?? []) if (word) seen.add(word);
}

function rebuild() {
  for (const [id, { build, always }] of sheets) {
    try {
      updateStyle(id, build([...seen, ...always]));
    } catch (error) {
      console.error(error);
    }
  }
}
