// What code that the dispatch Worker loads finds closed. It runs in the platform's own account, whose Workers share the caches of a
// zone: what one puts there may answer what another fetches, and nothing says that what is loaded has a cache of its own.

/**
 * Runs in a loaded Worker before its own code: a cache keeps nothing there, and nothing is found in one.
 *
 * @param {string[]} methods
 */
function close(methods) {
  for (const method of methods) {
    const value = async () => (method === "delete" ? false : undefined);
    Object.defineProperty(Cache.prototype, method, { value, writable: false, configurable: false });
  }
}

/** The name of the module that is before what it closes. */
export const MAIN = "overskill.js";

/** The modules around an app's own. @param {string} main the app's main one */
export function closed(main) {
  const methods = ["put", "match", "delete"];
  // Modules run in the order of their imports.
  const first = `import "./overskill-closed.js";\n`;
  const own = JSON.stringify(`./${main}`);
  return {
    [MAIN]: { js: `${first}export * from ${own};\nexport { default } from ${own};\n` },
    "overskill-closed.js": { js: `(${close})(${JSON.stringify(methods)});\n` },
  };
}
