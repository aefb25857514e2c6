// The preview's client: takes the server's messages (Vite's, with a position) and applies them to the page.
//
// What it promises: messages are handled one after the other, in the order of their positions; after a cut it comes back
// with the position it stands at and gets what it missed; it never loads the page anew only because a socket was lost.

import { openSocket } from "./socket.js";

/**
 * @typedef {{ incarnation: string, seq: number }} Position
 * @typedef {{ type: string, path: string, acceptedPath: string, timestamp: number | string,
 *   explicitImportRequired?: boolean, isWithinCircularImport?: boolean, firstInvalidatedBy?: string }} Update
 * @typedef {{ type: string, position?: string | Position, updates?: Update[], path?: string, paths?: string[],
 *   event?: string, data?: unknown, err?: import("./overlay.js").PageError,
 *   more?: number }} Message
 * @typedef {Record<string, unknown>} Namespace
 * @typedef {(data: any) => unknown} Listener
 * @typedef {{ deps: string[], call: (modules: (Namespace | undefined)[]) => unknown }} Acceptance
 * @typedef {{ position?: string | Position, epoch?: number, token?: string, inspectOrigins?: string[], postErrors?: boolean }} Config
 */

const ACCEPTS_WITHIN_MS = 500;

/** What the server wrote into the page. @type {Config} */
export const config = JSON.parse(document.getElementById("overskill-preview")?.textContent || "{}");

// --- import.meta.hot -------------------------------------------------------------------------------------------------

/** By module: what it accepts. A module without an entry never ran in this page. @type {Map<string, Acceptance[]>} */
const acceptances = new Map();
/** Who waits for a module to accept something. @type {Map<string, (value?: undefined) => void>} */
const awaited = new Map();
/** @type {Map<string, Listener>} */
const disposers = new Map();
/** @type {Map<string, Listener>} */
const pruners = new Map();
/** @type {Map<string, Record<string, any>>} */
const kept = new Map();
/** @type {Map<string, Set<Listener>>} */
const listeners = new Map();
/** Which of them a module's present version added. @type {Map<string, [string, Listener][]>} */
const listenersOf = new Map();
/** While an update is applied: the module whose `invalidate` caused it. @type {string | undefined} */
let invalidatedFirst;

/**
 * Makes the `import.meta.hot` of a module that is being evaluated; what its version before asked for is forgotten.
 *
 * @param {string} path the module's address without its query
 */
export function createHotContext(path) {
  if (!kept.has(path)) kept.set(path, {});
  acceptances.set(path, []);
  for (const [event, listener] of listenersOf.get(path) ?? []) listeners.get(event)?.delete(listener);
  /** @type {[string, Listener][]} */
  const mine = [];
  listenersOf.set(path, mine);

  /** @param {string[]} deps @param {Acceptance["call"]} call */
  const accept = (deps, call) => {
    acceptances.get(path)?.push({ deps, call });
    awaited.get(path)?.();
  };

  return {
    get data() {
      return kept.get(path);
    },
    /**
     * @param {string | string[] | Listener} [deps] none or a function: the module itself
     * @param {Listener} [callback]
     */
    accept(deps, callback) {
      if (typeof deps === "function") accept([path], ([module]) => deps(module));
      else if (!deps) accept([path], () => {});
      else if (typeof deps === "string") accept([deps], ([module]) => callback?.(module));
      else if (Array.isArray(deps)) accept(deps, (modules) => callback?.(modules));
      else throw new TypeError("import.meta.hot.accept takes a path, a list of paths, or a function");
    },
    /** Which exports are meant is for the server; here it is an acceptance of itself.
     * @param {string | readonly string[]} _names @param {Listener} [callback] */
    acceptExports(_names, callback) {
      accept([path], ([module]) => callback?.(module));
    },
    /** @param {Listener} callback */
    dispose(callback) {
      disposers.set(path, callback);
    },
    /** @param {Listener} callback */
    prune(callback) {
      pruners.set(path, callback);
    },
    /** Nothing, as in Vite: a module that accepts nothing is declined already. */
    decline() {},
    /** @param {string} [message] */
    invalidate(message) {
      const data = { path, message, firstInvalidatedBy: invalidatedFirst ?? path };
      void notify("vite:invalidate", data);
      socket.send({ type: "custom", event: "vite:invalidate", data });
    },
    /** @param {string} event @param {Listener} listener */
    on(event, listener) {
      let all = listeners.get(event);
      if (!all) listeners.set(event, (all = new Set()));
      all.add(listener);
      mine.push([event, listener]);
    },
    /** @param {string} event @param {Listener} listener */
    off(event, listener) {
      listeners.get(event)?.delete(listener);
    },
    /** @param {string} event @param {unknown} [data] */
    send(event, data) {
      socket.send({ type: "custom", event, data });
    },
  };
}

/**
 * Calls who listens, and waits for them; one that fails is told to the console and stops nobody.
 *
 * @param {string} event
 * @param {unknown} data
 */
async function notify(event, data) {
  const calls = [...(listeners.get(event) ?? [])].map(async (listener) => listener(data));
  for (const result of await Promise.allSettled(calls)) if (result.status === "rejected") console.error(result.reason);
}

/** @param {Map<string, Listener>} callbacks @param {string} path */
async function leave(callbacks, path) {
  try {
    await callbacks.get(path)?.(kept.get(path));
  } catch (error) {
    console.error(error);
  }
}

// --- Messages --------------------------------------------------------------------------------------------------------

/** The sources that this page shows. @type {Position | undefined} */
let position = parsePosition(config.position);
/** The end of what is being handled. */
let handled = Promise.resolve();
/** Messages of sockets before this one are not looked at: they come again. */
let firstSocket = 0;
let reloading = false;
/** Whether some of the page's own modules could not start. */
let startFailed = false;
/** Whether the page's own modules are still on their way: they may wait for their packages. */
let starting = document.readyState !== "complete";
/** Whether something changed meanwhile that may have been fetched before. */
let startsOld = false;

if (starting) {
  addEventListener("DOMContentLoaded", () => {
    starting = false;
    if (startsOld) reload();
  });
}

/** @param {string | Position | undefined} given @returns {Position | undefined} */
function parsePosition(given) {
  if (typeof given !== "string") return given && { incarnation: String(given.incarnation), seq: Number(given.seq) };
  const [incarnation, seq] = given.split(":");
  return { incarnation, seq: Number(seq) };
}

/** @param {Message} message @param {number} socketNumber */
function receive(message, socketNumber) {
  handled = handled.then(async () => {
    if (reloading || socketNumber < firstSocket) return;
    const to = parsePosition(message.position);
    if (to && position && to.incarnation === position.incarnation && to.seq <= position.seq) return;
    try {
      await handle(message);
      position = to ?? position;
    } catch (error) {
      if (!(error instanceof Unreachable)) return void console.error("[overskill]", error);
      // The server went while its news was being fetched: stay where we are and have it told again.
      firstSocket = socket.restart();
    }
  });
}

/** @param {Message} message */
async function handle(message) {
  switch (message.type) {
    case "update":
      return update(message);
    case "full-reload":
      await notify("vite:beforeFullReload", message);
      if (concernsThisPage(message.path)) reload();
      return;
    case "prune": {
      await notify("vite:beforePrune", message);
      const paths = message.paths ?? [];
      await Promise.all(paths.map((path) => leave(disposers, path)));
      await Promise.all(paths.map((path) => leave(pruners, path)));
      for (const path of paths) kept.delete(path);
      return;
    }
    case "error":
      await notify("vite:error", message);
      if (message.err) await report({ ...message.err, more: message.more });
      return;
    case "custom":
      return notify(message.event ?? "", message.data);
  }
}

/** One update may touch several modules: all are fetched at once, and then applied in the order given.
 * @param {Message} message */
async function update(message) {
  const updates = message.updates ?? [];
  await notify("vite:beforeUpdate", message);
  if (!startFailed) await Promise.all(updates.map(({ path }) => accepting(path)));
  if ((starting || startFailed) && updates.some((it) => it.type === "js-update" && !acceptances.get(it.path)?.length)) {
    // What never ran to its end cannot take an update: now it may. What did not begin to run may be the old version.
    if (startFailed) return reload();
    startsOld = true;
  }
  overlay?.clear();
  const ready = await Promise.all(updates.map((it) => (it.type === "js-update" ? fetchModule(it) : swapLinks(it))));
  for (const apply of ready) apply?.();
  await notify("vite:afterUpdate", message);
}

/** Waits a while for a module that began to run and accepts nothing yet: React's components do so only after they ran, and
 * two edits may come faster than that. @param {string} path */
async function accepting(path) {
  if (acceptances.get(path)?.length !== 0) return;
  await new Promise((resolve) => {
    awaited.set(path, resolve);
    setTimeout(resolve, ACCEPTS_WITHIN_MS);
  });
  awaited.delete(path);
}

/** @param {Update} update @returns {Promise<(() => void) | undefined>} */
async function fetchModule(update) {
  const { path, acceptedPath, firstInvalidatedBy } = update;
  const concerned = acceptances.get(path)?.filter((it) => it.deps.includes(acceptedPath));
  if (!concerned || (path !== acceptedPath && concerned.length === 0)) return undefined;
  await leave(disposers, acceptedPath);
  /** @type {Namespace | undefined} */
  let module;
  try {
    module = await importUpdated(update);
  } catch (error) {
    if (error instanceof Unreachable) throw error;
    if (update.isWithinCircularImport) {
      console.info(`[overskill] ${acceptedPath} is part of a circle of imports; loading the page anew to keep their order`);
      return reload;
    }
    console.error(error);
    await report({ message: error instanceof Error ? error.message : String(error), id: acceptedPath });
  }
  return () => {
    invalidatedFirst = firstInvalidatedBy;
    for (const { deps, call } of concerned) {
      try {
        const result = call(deps.map((dep) => (dep === acceptedPath ? module : undefined)));
        if (result instanceof Promise) result.catch((error) => console.error(error));
      } catch (error) {
        console.error(error);
      }
    }
    invalidatedFirst = undefined;
  };
}

class Unreachable extends Error {}

/** Modules that could not be fetched a moment before they could. @type {Set<string>} */
const doubted = new Set();

/** @param {Update} update @returns {Promise<Namespace>} */
async function importUpdated({ acceptedPath, timestamp, explicitImportRequired }) {
  const [path, query] = acceptedPath.split("?");
  const address = `${path}?${explicitImportRequired ? "import&" : ""}t=${timestamp}${query ? `&${query}` : ""}`;
  try {
    return await import(address);
  } catch (error) {
    // A module that is wrong, or a server that is gone? Only the second is worth trying again.
    const answer = await fetch(address, { cache: "no-store" }).catch(() => undefined);
    if (!answer) throw new Unreachable(acceptedPath);
    // The server may have come back between the two: once more, and what is wrong fails again.
    const notFetched = error instanceof TypeError && /module/.test(error.message);
    if (answer.ok && notFetched && !doubted.delete(address)) {
      doubted.add(address);
      throw new Unreachable(acceptedPath);
    }
    throw error;
  }
}

/** The new sheet stands beside the old one until it is there, so that the page is never without.
 * @param {Update} update */
async function swapLinks({ path, timestamp }) {
  const wanted = new URL(path, location.href);
  const links = [...document.querySelectorAll("link")].filter((link) => {
    const address = new URL(link.href, location.href);
    return /\bstylesheet\b/.test(link.rel) && address.origin === wanted.origin && address.pathname === wanted.pathname;
  });
  await Promise.all(
    links.map((link) => {
      const next = /** @type {HTMLLinkElement} */ (link.cloneNode());
      wanted.searchParams.set("t", String(timestamp));
      next.href = wanted.pathname + wanted.search;
      return new Promise((resolve) => {
        next.onload = () => resolve(link.remove());
        next.onerror = () => resolve(next.remove());
        link.after(next);
      });
    }),
  );
  return undefined;
}

/** @param {string | undefined} path `*`, nothing, or a page */
function concernsThisPage(path) {
  if (!path?.endsWith(".html") || path === "/index.html") return true;
  const page = decodeURI(location.pathname);
  return page === path || (page.endsWith("/") && `${page}index.html` === path);
}

function reload() {
  reloading = true;
  // A moment, so that what comes together is one load.
  setTimeout(() => location.reload(), 20);
}

// --- Styles ----------------------------------------------------------------------------------------------------------

/** @type {Map<string, HTMLStyleElement>} */
const styles = new Map();
for (const style of document.querySelectorAll("style")) {
  if (style.dataset.overskillStyle) styles.set(style.dataset.overskillStyle, style);
}
/** After which one the next goes: those of one round of evaluation stand in its order. @type {Element | undefined} */
let lastStyle;

/**
 * Puts a style sheet into the page, or other contents into one that is there; its place stays.
 *
 * @param {string} id
 * @param {string} css
 */
export function updateStyle(id, css) {
  let style = styles.get(id);
  if (!style) {
    style = document.createElement("style");
    style.dataset.overskillStyle = id;
    const nonce = document.getElementById("overskill-preview")?.nonce;
    if (nonce) style.nonce = nonce;
    styles.set(id, style);
    if (lastStyle?.isConnected) lastStyle.after(style);
    else {
      document.head.append(style);
      setTimeout(() => (lastStyle = undefined));
    }
    lastStyle = style;
  }
  if (style.textContent !== css) style.textContent = css;
}

/** @param {string} id */
export function removeStyle(id) {
  styles.get(id)?.remove();
  styles.delete(id);
}

// --- Errors ----------------------------------------------------------------------------------------------------------

/** @type {typeof import("./overlay.js") | undefined} */
let overlay;

/** Shows an error, and tells the embedding page if it may know.
 * @param {import("./overlay.js").PageError} error */
export async function report(error) {
  overlay ??= await import("./overlay.js");
  overlay.show(error);
  tellParent({ type: "preview-error", ...overlay.plain(error) });
}

/** @param {Record<string, unknown>} message */
function tellParent(message) {
  if (!config.postErrors || parent === window) return;
  const embedding = location.ancestorOrigins?.[0];
  for (const origin of config.inspectOrigins ?? []) {
    if (!embedding || embedding === origin) parent.postMessage(message, origin);
  }
}

let started = document.readyState === "complete";
addEventListener("load", () => (started = true));

addEventListener(
  "error",
  (event) => {
    const { target } = event;
    if (target instanceof HTMLScriptElement) {
      if (target.type !== "module" || new URL(target.src, location.href).origin !== location.origin) return;
      startFailed = true;
      // The server knows better what is wrong, and says so on the socket: this is for when it does not.
      setTimeout(() => overlay?.isShown() || report(loadFailure(target.src)), 500);
    } else if (event instanceof ErrorEvent) {
      const { message, filename, lineno: line, colno: column, error } = event;
      // Before the page is there, or with modules that do not fit together, things may not run: else it is the app's affair.
      const ours = error && URL.canParse(filename) && new URL(filename).origin === location.origin;
      if (!ours || (started && !(error instanceof SyntaxError))) {
        const file = pathOf(filename).replace(/^\//, "");
        return tellParent({ type: "preview-error", message, file, line, column, stack: error?.stack });
      }
      startFailed ||= !started;
      // The first is the cause; and what the server said of it is better than what a page sees.
      if (overlay?.isShown()) return;
      void report({ message, stack: error?.stack, loc: { file: pathOf(filename), line, column } });
    }
  },
  true,
);

addEventListener("unhandledrejection", ({ reason }) => {
  const message = reason instanceof Error ? reason.message : String(reason);
  const address = /dynamically imported module:? (\S+)|^Importing a module script failed/.exec(message);
  if (address) void report({ ...loadFailure(address[1] ?? ""), stack: reason.stack });
  else tellParent({ type: "preview-error", message, stack: reason?.stack });
});

/** @param {string} address @returns {import("./overlay.js").PageError} */
function loadFailure(address) {
  const id = address && pathOf(address);
  return { message: `${id || "A module"}, or something that it imports, could not be loaded`, id };
}

/** @param {string} address */
const pathOf = (address) => (URL.canParse(address, location.href) ? new URL(address, location.href).pathname : address);

// --- The embedding page ----------------------------------------------------------------------------------------------

addEventListener("message", async ({ data, origin, source }) => {
  if (!source || !config.inspectOrigins?.includes(origin)) return;
  if (data?.type === "enable-inspection") (await import("./inspect.js")).enable(source, origin);
  else if (data?.type === "disable-inspection") (await import("./inspect.js")).disable();
});

const socket = openSocket({ token: config.token, epoch: config.epoch, position: () => position, receive, notify });
