// Runs an app's own Tailwind 3 over its sheets. Bundled with it and with the app's configuration, and run where neither can
// reach anything but the app's files.

import postcss from "overskill:postcss";
import tailwindcss from "tailwindcss";
import { answer, job } from "./overskill-job.mjs";

answer(async () => {
  // Before the job is there: it is still being put together.
  const given = await import("overskill:config");
  const config = given.default ?? given;
  const css = [];
  for (const sheet of (await job).sheets) {
    const plugins = [imports, tailwindcss(config)];
    const made = await postcss(plugins).process(sheet.css, { from: `${Deno.cwd()}${sheet.path}` });
    css.push(made.css);
  }
  return css;
});

/** What `@import "tailwindcss/base"` stands for. */
function imports(root) {
  root.walkAtRules("import", (rule) => {
    const named = /^["']tailwindcss\/(base|components|utilities|variants|screens)(?:\.css)?["']/.exec(rule.params);
    if (named) rule.replaceWith(postcss.atRule({ name: "tailwind", params: named[1] === "screens" ? "variants" : named[1] }));
  });
}
