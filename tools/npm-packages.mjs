// npm packages for tests in the browser, and what Tailwind 3 itself makes of a style sheet.

import { build, transform } from "esbuild";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const require = createRequire(import.meta.url);
const here = new URL(".", import.meta.url).pathname;

/**
 * Bundles packages into ES modules that share what they have in common, so that there is one React.
 *
 * @param {Record<string, { from: string, names?: string[] }>} entries by file name: the specifier, and its named exports if it
 *   is a CommonJS module
 * @param {Record<string, string>} [alias]
 * @returns {Promise<Map<string, string>>} texts by file name
 */
export async function bundle(entries, alias = {}) {
  const outdir = await mkdtemp(join(tmpdir(), "overskill-npm-"));
  try {
    const { outputFiles } = await build({
      entryPoints: Object.keys(entries).map((out) => ({ in: `entry:${out}`, out: out.replace(/\.js$/, "") })),
      bundle: true,
      splitting: true,
      format: "esm",
      write: false,
      outdir,
      absWorkingDir: here,
      define: { "process.env.NODE_ENV": '"development"' },
      alias,
      logLevel: "error",
      plugins: [
        {
          name: "entries",
          setup(build) {
            build.onResolve({ filter: /^entry:/ }, ({ path }) => ({ path: path.slice("entry:".length), namespace: "entry" }));
            build.onLoad({ filter: /.*/, namespace: "entry" }, ({ path }) => {
              const { from, names } = entries[path] ?? { from: "" };
              const text = JSON.stringify(from);
              const contents = names
                ? `import it from ${text}; export const { ${names.join(", ")} } = it; export default it;`
                : `export * from ${text}; import * as all from ${text}; export default all.default ?? all;`;
              return { contents, resolveDir: here };
            });
          },
        },
      ],
    });
    return new Map(outputFiles.map(({ path, text }) => [path.slice(outdir.length + 1), text]));
  } finally {
    await rm(outdir, { recursive: true });
  }
}

/** Compiles JSX as the preview does: with the places where elements are written. @param {string} source @param {string} file */
export async function jsx(source, file) {
  const { code } = await transform(source, {
    loader: "tsx",
    jsx: "automatic",
    jsxDev: true,
    sourcemap: "inline",
    sourcefile: file,
  });
  return code;
}

/** The text of a package's file. @param {string} path with the package's name first */
export const text = (path) => readFile(new URL(`node_modules/${path}`, import.meta.url), "utf8");

/**
 * What Tailwind 3 makes of a style sheet.
 *
 * @param {string} css
 * @param {Record<string, unknown>} config
 * @param {string} content
 */
export async function tailwindThree(css, config, content) {
  const { default: postcss } = await import("postcss");
  const tailwind = require("tailwindcss-3");
  const plugin = tailwind({ ...config, content: [{ raw: content, extension: "html" }] });
  return (await postcss([plugin]).process(css, { from: undefined })).css;
}
