// Runs a script that is no module: of a module deno would first parse the whole, as large as it is.

import { createRequire } from "node:module";

const own = createRequire(import.meta.url);
const module = { exports: {} };
const run = (0, eval)(Deno.readTextFileSync(new URL("script.js", import.meta.url)));
run(own, module, module.exports, import.meta.url);
