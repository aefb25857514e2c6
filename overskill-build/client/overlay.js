// The error overlay: what is wrong, where, and what to do, above the page until it is mended.
//
// Nothing that it shows is taken as markup: every text goes in as text.

/**
 * An error in the form of Vite's `error` message, with what to do about it and how many others there are.
 *
 * @typedef {{ message: string, stack?: string, id?: string, frame?: string, help?: string, more?: number,
 *   loc?: { file?: string, line?: number, column?: number } }} PageError
 */

const STYLE = `
:host { all: initial; position: fixed; inset: 0; z-index: 2147483647; color-scheme: dark; }
.behind { position: absolute; inset: 0; overflow: auto; padding: 6vh 16px; background: rgb(12 12 16 / 0.72); }
.panel { max-width: 880px; margin: 0 auto; padding: 24px 28px; border-radius: 10px; border-top: 4px solid #ff6b6b;
  background: #1a1b22; color: #e6e6ea; font: 14px/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  box-shadow: 0 16px 60px rgb(0 0 0 / 0.5); box-sizing: border-box; }
.message { margin: 0 0 12px; font-size: 16px; color: #ff8f8f; white-space: pre-wrap; overflow-wrap: anywhere; }
.place { margin: 0 0 12px; color: #7cc4ff; overflow-wrap: anywhere; }
.frame, .stack { margin: 0 0 12px; padding: 12px; border-radius: 6px; overflow: auto; background: #101117; white-space: pre; font: inherit; }
.stack { color: #9a9aa5; font-size: 12px; max-height: 40vh; }
.more { margin: 0 0 12px; color: #ff8f8f; }
.help { margin: 0 0 12px; color: #b9e7a8; white-space: pre-wrap; }
.note { margin: 0; color: #8a8a95; font-size: 12px; }
button { float: right; border: 0; background: none; color: #8a8a95; font: inherit; font-size: 18px; cursor: pointer; }
`;

/** @type {HTMLElement | undefined} */
let host;
/** What had the focus before. @type {Element | null} */
let focused = null;

/** Shows an error; one that was shown before goes. @param {PageError} error */
export function show(error) {
  clear();
  focused = document.activeElement;
  host = document.createElement("overskill-error");
  const root = host.attachShadow({ mode: "open" });
  const style = element("style", STYLE);
  const nonce = document.getElementById("overskill-preview")?.nonce;
  if (nonce) style.nonce = nonce;

  const { message, file, line, column, frame, help, stack, more } = plain(error);
  const close = element("button", "×");
  close.ariaLabel = "Close";
  close.onclick = clear;
  const panel = element("div", undefined, "panel");
  panel.role = "alertdialog";
  panel.tabIndex = -1;
  panel.ariaLabel = "The preview has an error";
  panel.append(close, element("p", message, "message"));
  if (file) panel.append(element("p", [file, line, column].filter((it) => it !== undefined).join(":"), "place"));
  if (frame) panel.append(element("pre", frame, "frame"));
  if (help) panel.append(element("p", help, "help"));
  if (stack) panel.append(element("pre", stack, "stack"));
  if (more) panel.append(element("p", more === 1 ? "and one more problem" : `and ${more} more problems`, "more"));
  panel.append(element("p", "Esc or a click outside closes this; it goes by itself once the error is mended.", "note"));

  const behind = element("div", undefined, "behind");
  behind.append(panel);
  behind.onclick = (event) => event.target === behind && clear();
  root.append(style, behind);
  document.documentElement.append(host);
  addEventListener("keydown", onKey, true);
  panel.focus({ preventScroll: true });
}

/** Takes the overlay away, if there is one. */
export function clear() {
  if (!host) return;
  removeEventListener("keydown", onKey, true);
  host.remove();
  host = undefined;
  if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
}

export const isShown = () => host !== undefined;

/** An error's parts, each once, as texts and numbers. @param {PageError} error */
export function plain(error) {
  const { message, loc, frame, help, more } = error;
  // A stack begins with the message in most browsers; once is enough.
  const stack = error.stack?.replace(`${message}\n`, "").replace(/^\w*Error: (?=\s*at )/, "").trim();
  return {
    message: String(message),
    // As the project names its files.
    file: (loc?.file ?? error.id)?.replace(/^\//, ""),
    line: loc?.line,
    column: loc?.column,
    frame: frame || undefined,
    help: help || undefined,
    stack: stack || undefined,
    more: more || undefined,
  };
}

/** @param {KeyboardEvent} event */
function onKey(event) {
  if (event.key !== "Escape") return;
  event.stopPropagation();
  clear();
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {string} [text]
 * @param {string} [className]
 */
function element(tag, text, className) {
  const it = document.createElement(tag);
  if (text !== undefined) it.textContent = text;
  if (className) it.className = className;
  return it;
}
