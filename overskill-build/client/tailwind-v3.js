// The form of Tailwind 3 (`@tailwind base`, `tailwind.config.js`) for the compiler of Tailwind 4.
//
// Tailwind 3 knows no cascade layers: its `@layer` only says where rules go. So what the compiler makes is taken out of its
// layers again, in the order that Tailwind 3 has: base, components, utilities, the rest, utilities with variants.
// What differs nevertheless is listed in docs/tailwind-3.md.

import { PREFLIGHT, THEME, THEME_SHEET } from "./tailwind-v3-defaults.js";

/** @typedef {{ head: string, body: string | undefined, text: string }} Statement */

/** Utilities that take an opacity for a colour set by another utility: name and the declarations that hold the colour. */
const OPACITIES = /** @type {const} */ ([
  ["bg", /\b(background-color): ([^;{}]+);/g],
  ["text", /(?<![-\w])(color): ([^;{}]+);/g],
  ["border", /\b(border(?:-[a-z]+)*-color): ([^;{}]+);/g],
  ["ring", /(--tw-ring-color): ([^;{}]+);/g],
]);

/**
 * A style sheet of Tailwind 3 as one of Tailwind 4.
 *
 * @param {string} css
 * @param {any} config the project's configuration
 * @param {Iterable<string>} words the words of the project
 */
export function prepare(css, config, words) {
  const layers = { before: "", base: "", components: "", utilities: "" };
  /** @type {Set<string>} */
  const directives = new Set();
  let [imports, after, utilities, configured] = ["", "", "", false];
  const inUse = usedWithOthers(css, words);

  for (const statement of statements(withoutComments(css))) {
    const { head, body, text } = statement;
    const directive = /^@(?:tailwind|import)\s+(?:["']tailwindcss\/)?(base|components|utilities|variants|screens)\b/.exec(head);
    const layer = /^@layer\s+(base|components|utilities)$/.exec(head)?.[1];
    if (directive?.[1]) directives.add(directive[1]);
    else if (layer && body !== undefined) {
      const rest = asUtilities(body, (name) => layer === "utilities" || (layer === "components" && inUse.has(name)));
      utilities += rest.utilities;
      layers[/** @type {"base" | "components" | "utilities"} */ (layer)] += rest.body;
    } else if (head.startsWith("@import")) imports += text;
    else if (head.startsWith("@config")) [imports, configured] = [imports + text, true];
    else if (!head.startsWith("@charset")) {
      if (directives.size) after += text;
      else layers.before += text;
    }
  }

  const setting = configured ? "" : '@config "overskill:config";';
  const whole = directives.size > 0;
  const preflight = directives.has("base") && config.corePlugins?.preflight !== false ? PREFLIGHT : "";
  const generated = directives.has("utilities") || directives.has("components") ? "@tailwind utilities;" : "";
  return `${imports}
${whole ? `@import "overskill:theme";` : `@reference "overskill:theme";`}
${setting}
@custom-variant hover (&:hover);
@layer overskill-before { ${layers.before} }
@layer base { ${preflight} ${layers.base} }
@layer components { ${layers.components} }
@layer utilities { ${generated} ${layers.utilities} }
${utilities}
${after}`
    .replace(/@screen\s+([\w-]+)/g, "@variant $1")
    .replace(/@apply\s+([^;}]+?)\s*!important/g, (_, list) => `@apply ${list.replace(/(\S+)/g, "$1!")}`);
}

/**
 * What a prepared style sheet names beside its own things.
 *
 * @param {any} config the project's configuration
 */
export function resources(config) {
  if (config.prefix) throw new Error(`a prefix (${JSON.stringify(config.prefix)}) is not possible in a preview: remove it from the configuration`);
  /** @type {Record<string, string>} */
  const opacities = {};
  for (let percent = 0; percent <= 100; percent += 5) opacities[percent] = String(percent / 100);
  const defaults = {
    theme: {
      ...THEME,
      // The colours themselves are found without being here.
      borderColor: (/** @type {any} */ { theme }) => ({ DEFAULT: theme("colors.gray.200", "currentColor") }),
    },
    plugins: [
      (/** @type {any} */ { matchUtilities }) => {
        for (const [name] of OPACITIES) {
          const values = { ...opacities, ...config.theme?.opacity, ...config.theme?.extend?.opacity };
          matchUtilities({ [`${name}-opacity`]: (/** @type {string} */ value) => ({ [`--tw-${name}-opacity`]: value }) }, { values });
        }
      },
    ],
  };
  return {
    config: { ...config, presets: [defaults, ...(config.presets ?? [])] },
    sheets: { "overskill:theme": `@import "tailwindcss/theme.css" theme(inline);\n${THEME_SHEET}` },
  };
}

/**
 * Takes what the compiler made out of its layers, and does what its utilities cannot know.
 *
 * @param {string} css
 */
export function finish(css) {
  /** @type {Record<string, string>} */
  const parts = { imports: "", properties: "", "overskill-before": "", theme: "", base: "", components: "", utilities: "", rest: "", variants: "" };
  for (const { head, body, text } of statements(withoutComments(css))) {
    const layer = /^@layer\s+([\w-]+)$/.exec(head)?.[1];
    if (head.startsWith("@import")) parts.imports += text;
    else if (layer === "utilities" && body !== undefined) {
      let variants = false;
      for (const statement of statements(body)) {
        variants ||= hasVariant(statement.text);
        parts[variants ? "variants" : "utilities"] += `${betweenSiblings(readVariables(statement.text))}\n`;
      }
    } else if (layer !== undefined && layer in parts && body !== undefined) parts[layer] += body;
    else if (body !== undefined || !head.startsWith("@layer")) parts.rest += `${text}\n`;
  }
  for (const [name, declaration] of OPACITIES) {
    if (!css.includes(`--tw-${name}-opacity`)) continue;
    for (const part of ["utilities", "variants"]) parts[part] = parts[part]?.replace(declaration, (whole, property, value) => {
      if (/^(inherit|currentcolor|transparent|initial|unset)$/i.test(value)) return whole;
      return `${property}: color-mix(in srgb, ${value} calc(var(--tw-${name}-opacity, 1) * 100%), transparent);`;
    }) ?? "";
    parts.rest += `@property --tw-${name}-opacity { syntax: "*"; inherits: false; initial-value: 1; }\n`;
  }
  return Object.values(parts).join("\n");
}

/**
 * Classes that are named by `@apply`, or with a variant before them: Tailwind 4 does that with utilities only.
 *
 * @param {string} css
 * @param {Iterable<string>} words
 */
function usedWithOthers(css, words) {
  const names = new Set();
  for (const [, list] of css.matchAll(/@apply\s+([^;}]+)/g)) {
    for (const word of list?.split(/\s+/) ?? []) names.add(word.split(":").at(-1)?.replace(/^!|!$/g, ""));
  }
  for (const word of words) if (word.includes(":")) names.add(word.split(":").at(-1));
  return names;
}

/**
 * Rules of a single class as utilities of Tailwind 4, and what is left.
 *
 * @param {string} css
 * @param {(name: string) => boolean} wanted
 */
function asUtilities(css, wanted) {
  let [utilities, body] = ["", ""];
  for (const { head, body: inside, text } of statements(css)) {
    const selectors = splitSelectors(head).map((it) => /^\.([a-z][\w-]*)(.*)$/s.exec(it));
    if (inside === undefined || !selectors.every((it) => it?.[1] && wanted(it[1]))) {
      body += text;
      continue;
    }
    for (const selector of selectors) {
      utilities += `@utility ${selector?.[1]} { ${selector?.[2]?.trim() ? `&${selector[2]} { ${inside} }` : inside} }\n`;
    }
  }
  return { utilities, body };
}

/** @param {string} list */
const splitSelectors = (list) => list.split(/,(?![^([]*[)\]])/).map((it) => it.trim());

/** Whether a rule belongs to a class with a variant, as in `.hover\:flex`. @param {string} rule */
function hasVariant(rule) {
  const start = rule.startsWith("@") ? rule.indexOf("{") : 0;
  const name = /\.((?:\\.|[\w-])+)/.exec(rule.slice(start))?.[1]?.replace(/\\(.)/g, "$1") ?? "";
  let depth = 0;
  for (const character of name) {
    if (character === "[" || character === "(") depth++;
    else if (character === "]" || character === ")") depth--;
    else if (character === ":" && depth === 0) return true;
  }
  return false;
}

/** `w-[--width]` means `var(--width)` in Tailwind 3. @param {string} rule */
function readVariables(rule) {
  if (!/\\\[(?:[\w-]+\\:)?--/.test(rule)) return rule;
  return rule.replace(/([\w-]+): ([^;{}]*);/g, (whole, property, value) => {
    if (/^(transition|will-change)/.test(property)) return whole;
    return `${property}: ${value.replace(/(?<!var\()(?<![\w-])--[\w-]+/g, "var($&)")};`;
  });
}

/**
 * `space-y` and the like stand before each sibling but the first. Those of Tailwind 4 stand after each but the last, with no
 * weight of their own, which only a layer makes up for.
 *
 * @param {string} rule
 */
function betweenSiblings(rule) {
  return rule.replace(/:where\(([^{}]*?) > :not\(:last-child\)\)([^{}]*)\{([^{}]*)\}/g, (_, parent, rest, body) => {
    /** @type {Record<string, string>} */
    const opposite = { start: "end", end: "start", top: "bottom", bottom: "top" };
    const swapped = body.replace(
      /^(\s*(?:margin|border)(?:-block|-inline)?-)(start|end|top|bottom)\b/gm,
      (/** @type {string} */ _, /** @type {string} */ before, /** @type {string} */ side) => before + opposite[side],
    );
    return `${parent} > :not([hidden]) ~ :not([hidden])${rest}{${swapped}}`;
  });
}

// --- Reading CSS -----------------------------------------------------------------------------------------------------

/** @param {string} css */
function withoutComments(css) {
  return css.replace(/("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|\/\*[\s\S]*?\*\//g, (_, string) => string ?? " ");
}

/**
 * The statements of a style sheet or of a block's body, each with what stands before its `{`.
 *
 * @param {string} css
 */
function statements(css) {
  /** @type {Statement[]} */
  const all = [];
  let [start, open, depth, round] = [0, -1, 0, 0];
  /** @param {number} end */
  const add = (end) => {
    const text = css.slice(start, end + 1).trim();
    const head = css.slice(start, open < 0 ? end : open).trim();
    if (text !== ";" && text) all.push({ head, body: open < 0 ? undefined : css.slice(open + 1, end), text });
    [start, open] = [end + 1, -1];
  };
  for (let at = 0; at < css.length; at++) {
    switch (css[at]) {
      case "\\":
        at++;
        break;
      case '"':
      case "'": {
        const quote = css[at];
        while (++at < css.length && css[at] !== quote) if (css[at] === "\\") at++;
        break;
      }
      case "/":
        if (css[at + 1] === "*") at = Math.max(css.indexOf("*/", at + 2), at) + 1;
        break;
      case "(":
        round++;
        break;
      case ")":
        round--;
        break;
      case "{":
        if (depth++ === 0) open = at;
        break;
      case "}":
        if (--depth === 0) add(at);
        break;
      case ";":
        if (depth === 0 && round === 0) add(at);
    }
  }
  if (css.slice(start).trim()) add(css.length);
  return all;
}
