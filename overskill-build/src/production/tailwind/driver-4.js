// Runs an app's own Tailwind 4 over its sheets. Bundled with it and with the plugins that the sheets name, and run where none
// of them can reach anything but the app's files.

import { compile } from "tailwindcss";
import { modules } from "overskill:modules";

const job = JSON.parse(await new Response(Deno.stdin.readable).text());
try {
  const css = [];
  for (const sheet of job.sheets) {
    const { build } = await compile(sheet.css, {
      base: sheet.path,
      async loadModule(id, base, kind) {
        const get = modules[base]?.[id];
        if (!get) throw new Error(`${kind} ${JSON.stringify(id)}, named in ${base}, was not found`);
        const module = await get();
        return { path: id, base, module: module.default ?? module };
      },
      async loadStylesheet(id, base) {
        const own = job.own[id] ?? job.own[`${id}.css`];
        if (own !== undefined) return { path: id, base: id, content: own };
        const found = job.imports[base]?.[id];
        if (!found) throw new Error(`style sheet ${JSON.stringify(id)}, imported in ${base}, was not found`);
        return { path: found.path, base: found.path, content: found.css };
      },
    });
    css.push(build(job.words.split(" ")));
  }
  end({ css });
} catch (error) {
  end({ error: { name: String(error?.name), message: String(error?.message ?? error) } });
}

function end(outcome) {
  const bytes = new TextEncoder().encode(`\n${JSON.stringify(outcome)}\n`);
  for (let done = 0; done < bytes.length; ) done += Deno.stdout.writeSync(bytes.subarray(done));
  Deno.exit(0);
}
