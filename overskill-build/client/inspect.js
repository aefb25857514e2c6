// Click-to-inspect: the embedding page switches it on; then the element under the pointer is outlined, and a click tells
// where in the sources it was written instead of doing what it would do.
//
// Nothing in the app's code or its React is touched for it. React 18 keeps the place that the compiler passes to `jsxDEV`;
// React 19 keeps a stack trace taken there, which leads through the module's own source map to the same place.

/**
 * What this reads of React's own records of a page.
 *
 * @typedef {{ fileName: string, lineNumber: number, columnNumber?: number }} WrittenAt
 * @typedef {{ type?: any, name?: string, return: Fiber | null, _debugOwner?: Fiber | null,
 *   _debugSource?: WrittenAt | null, _debugStack?: Error | string | null }} Fiber
 * @typedef {{ file: string, line?: number, column?: number }} Place
 */

const LONGEST_TEXT = 200;

/** Who asked: where selections go. @type {{ window: MessageEventSource, origin: string } | undefined} */
let asker;
/** @type {HTMLElement | undefined} */
let outline;

const events = /** @type {const} */ (["pointerdown", "pointerup", "mousedown", "mouseup", "click", "dblclick", "auxclick"]);

/**
 * Begins; the caller has made sure that `origin` may ask.
 *
 * @param {MessageEventSource} window_
 * @param {string} origin
 */
export function enable(window_, origin) {
  const already = asker !== undefined;
  asker = { window: window_, origin };
  if (already) return;
  for (const name of events) addEventListener(name, onPointer, true);
  addEventListener("pointermove", onMove, true);
  addEventListener("scroll", hide, true);
}

export function disable() {
  asker = undefined;
  hide();
  for (const name of events) removeEventListener(name, onPointer, true);
  removeEventListener("pointermove", onMove, true);
  removeEventListener("scroll", hide, true);
}

/** @param {Event} event */
function elementOf(event) {
  const target = event.composedPath()[0];
  return target instanceof Element ? target : undefined;
}

/** @param {Event} event */
function onMove(event) {
  const element = elementOf(event);
  if (!element) return hide();
  const { left, top, width, height } = element.getBoundingClientRect();
  outline ??= makeOutline();
  Object.assign(outline.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
}

function makeOutline() {
  const box = document.createElement("overskill-outline");
  // Set one by one and not as a style attribute, which a page's policy may forbid.
  Object.assign(box.style, {
    position: "fixed",
    zIndex: "2147483646",
    pointerEvents: "none",
    boxSizing: "border-box",
    border: "2px solid #4f7cff",
    background: "rgb(79 124 255 / 0.12)",
    borderRadius: "2px",
  });
  document.documentElement.append(box);
  return box;
}

function hide() {
  outline?.remove();
  outline = undefined;
}

/** @param {Event} event */
function onPointer(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
  const element = elementOf(event);
  if (event.type === "click" && element) void select(element);
}

/** @param {Element} element */
async function select(element) {
  const to = asker;
  const { x, y, width, height } = element.getBoundingClientRect();
  const text = (element.textContent ?? "").replace(/\s+/g, " ").trim();
  const { place, component } = await written(element);
  if (to !== asker) return;
  to?.window.postMessage(
    {
      type: "element-selected",
      file: place?.file ?? null,
      line: place?.line ?? null,
      column: place?.column ?? null,
      component: component ?? null,
      tag: element.localName,
      text: text.length > LONGEST_TEXT ? `${text.slice(0, LONGEST_TEXT - 1)}…` : text,
      rect: { x, y, width, height },
    },
    { targetOrigin: to.origin },
  );
}

/**
 * Where an element was written, or the nearest around it that was written in the app and not in a package.
 *
 * @param {Element} element
 * @returns {Promise<{ place?: Place, component?: string }>}
 */
async function written(element) {
  for (let node = /** @type {Element | null} */ (element); node; node = node.parentElement) {
    const key = Object.keys(node).find((it) => it.startsWith("__reactFiber$") || it.startsWith("__reactInternalInstance$"));
    if (!key) continue;
    let fiber = /** @type {Fiber | null} */ (/** @type {any} */ (node)[key]);
    for (; fiber; fiber = fiber.return) {
      const place = await placeOf(fiber);
      if (place) return { place, component: nameOf(fiber._debugOwner ?? fiber.return) };
    }
    return {};
  }
  return {};
}

/** @param {Fiber} fiber @returns {Promise<Place | undefined>} */
async function placeOf({ _debugSource: source, _debugStack: stack }) {
  if (source) return { file: filePath(source.fileName), line: source.lineNumber, column: source.columnNumber };
  if (!stack) return undefined;
  for (const line of (typeof stack === "string" ? stack : (stack.stack ?? "")).split("\n")) {
    // What stands below this is React's work, not where the element was written.
    if (/react[-_]stack[-_]bottom[-_]frame/.test(line)) break;
    const [, address, row, column] = /((?:https?):\/\/\S+?):(\d+):(\d+)\)?$/.exec(line.trim()) ?? [];
    if (!address) continue;
    const { origin, pathname } = new URL(address);
    if (origin !== location.origin || /^\/@(npm|overskill)\//.test(pathname)) continue;
    const place = await original(address, Number(row), Number(column));
    return { file: filePath(pathname), ...place };
  }
  return undefined;
}

/** As the project names its files. @param {string} name */
function filePath(name) {
  const path = /^https?:/.test(name) ? new URL(name).pathname : name;
  return decodeURIComponent(path).replace(/^\/+/, "").replace(/\?.*$/, "");
}

/** The name of the nearest component from here upwards. @param {Fiber | null | undefined} fiber */
function nameOf(fiber) {
  for (; fiber; fiber = fiber.return) {
    const type = fiber.type;
    // `memo` and `forwardRef` hold the function.
    const inner = type?.type ?? type?.render ?? type;
    const name = fiber.name ?? type?.displayName ?? inner?.displayName ?? (typeof inner === "function" && inner.name);
    if (name && typeof type !== "string") return String(name);
  }
  return undefined;
}

// --- Source maps -----------------------------------------------------------------------------------------------------

/** By address: for each line, its marks as [column, source line, source column], all from 0.
 * @type {Map<string, Promise<[number, number, number][][] | undefined>>} */
const maps = new Map();

/** @param {string} address @param {number} line from 1 @param {number} column from 1 */
async function original(address, line, column) {
  let map = maps.get(address);
  if (!map) maps.set(address, (map = loadMap(address).catch(() => undefined)));
  const mark = (await map)?.[line - 1]?.findLast(([from]) => from <= column - 1);
  return mark && { line: mark[1] + 1, column: mark[2] + 1 };
}

/** @param {string} address */
async function loadMap(address) {
  const code = await (await fetch(address)).text();
  const map = [...code.matchAll(/^\/\/[#@] sourceMappingURL=(\S+)$/gm)].at(-1)?.[1];
  return map ? decode((await (await fetch(new URL(map, address))).json()).mappings) : undefined;
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/**
 * Reads the `mappings` of a source map (version 3) of one source.
 *
 * @param {string} mappings
 */
function decode(mappings) {
  let [sourceLine, sourceColumn] = [0, 0];
  return mappings.split(";").map((line) => {
    let column = 0;
    /** @type {[number, number, number][]} */
    const marks = [];
    for (const segment of line.split(",")) {
      const numbers = vlq(segment);
      column += numbers[0] ?? 0;
      if (numbers.length < 4) continue;
      sourceLine += numbers[2] ?? 0;
      sourceColumn += numbers[3] ?? 0;
      marks.push([column, sourceLine, sourceColumn]);
    }
    return marks;
  });
}

/** @param {string} segment base 64, least significant digits first, sign in the lowest bit */
function vlq(segment) {
  const numbers = [];
  let [value, shift] = [0, 0];
  for (const character of segment) {
    const digit = DIGITS.indexOf(character);
    value |= (digit & 31) << shift;
    shift += 5;
    if (digit & 32) continue;
    numbers.push(value & 1 ? -(value >> 1) : value >> 1);
    [value, shift] = [0, 0];
  }
  return numbers;
}
