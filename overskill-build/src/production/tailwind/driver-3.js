// Runs an app's own Tailwind 3 over its sheets. Bundled with it and with the app's configuration, and run where neither can
// reach anything but the app's files.

import postcss from "overskill:postcss";
import tailwindcss from "tailwindcss";

try {
  // Before the job is there: it is still being put together.
  const given = await import("overskill:config");
  const job = JSON.parse(await new Response(Deno.stdin.readable).text());
  const config = given.default ?? given;
  const css = [];
  for (const sheet of job.sheets) {
    const plugins = [imports, tailwindcss(config)];
    const made = await postcss(plugins).process(sheet.css, { from: `${Deno.cwd()}${sheet.path}` });
    css.push(made.css);
  }
  end({ css });
} catch (error) {
  end({ error: { name: String(error?.name), message: String(error?.message ?? error), sheet: error?.file, line: error?.line } });
}

/** What `@import "tailwindcss/base"` stands for. */
function imports(root) {
  root.walkAtRules("import", (rule) => {
    const named = /^["']tailwindcss\/(base|components|utilities|variants|screens)(?:\.css)?["']/.exec(rule.params);
    if (named) rule.replaceWith(postcss.atRule({ name: "tailwind", params: named[1] === "screens" ? "variants" : named[1] }));
  });
}

function end(outcome) {
  const bytes = new TextEncoder().encode(`\n${JSON.stringify(outcome)}\n`);
  for (let done = 0; done < bytes.length; ) done += Deno.stdout.writeSync(bytes.subarray(done));
  Deno.exit(0);
}
