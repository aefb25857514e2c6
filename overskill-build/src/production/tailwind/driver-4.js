// Runs an app's own Tailwind 4 over its sheets. Bundled with it and with the plugins that the sheets name, and run where none
// of them can reach anything but the app's files.

import { compile } from "tailwindcss";
import { modules } from "overskill:modules";
import { answer, job } from "./overskill-job.mjs";

answer(async () => {
  const { sheets, imports, own, words } = await job;
  const css = [];
  for (const sheet of sheets) {
    const { build } = await compile(sheet.css, {
      base: sheet.path,
      async loadModule(id, base, kind) {
        const get = modules[base]?.[id];
        if (!get) throw new Error(`${kind} ${JSON.stringify(id)}, named in ${base}, was not found`);
        const module = await get();
        return { path: id, base, module: module.default ?? module };
      },
      async loadStylesheet(id, base) {
        const content = own[id] ?? own[`${id}.css`];
        if (content !== undefined) return { path: id, base: id, content };
        const found = imports[base]?.[id];
        if (!found) throw new Error(`style sheet ${JSON.stringify(id)}, imported in ${base}, was not found`);
        return { path: found.path, base: found.path, content: found.css };
      },
    });
    css.push(build(words.split(" ")));
  }
  return css;
});
