// The example `cloudflare_local`: it tells the whole story, and leaves nothing running.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { eventually } from "../../../tools/quickstart.mjs";

const ROOT = new URL("../../../", import.meta.url).pathname;
const BINARY = process.env.OVERSKILL_CLOUDFLARE_LOCAL ?? join(ROOT, "target/debug/examples/cloudflare_local");
const TARBALLS = process.env.OVERSKILL_TARBALLS ?? join(tmpdir(), "overskill-test-tarballs");

/** Processes that have this text in their environment. @param {string} mark */
async function marked(mark) {
  const ids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const texts = await Promise.all(ids.map((id) => readFile(`/proc/${id}/environ`, "utf8").catch(() => "")));
  return ids.filter((_, at) => texts[at]?.includes(mark));
}

/** What it prints, once it has ended. @param {string} data @param {string} mark @param {NodeJS.ProcessEnv} env */
async function run(data, mark, env) {
  const child = spawn(BINARY, ["--json", "--data", data], { cwd: ROOT, env: { ...process.env, TMPDIR: mark, ...env } });
  let [printed, said] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => (printed += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (said += text));
  const code = await new Promise((resolve, reject) => child.once("error", reject).once("close", resolve));
  return { code, printed, said };
}

test("deployed, opened, edited, deployed again and gone back, on one machine; nothing is left", async () => {
  // What it starts keeps its files there, and so can be told from all else that runs.
  const place = await mkdtemp(join(tmpdir(), "cf-local-"));
  try {
    await mkdir(TARBALLS, { recursive: true });
    await mkdir(join(place, "data/packages"), { recursive: true });
    await symlink(TARBALLS, join(place, "data/packages/tarballs"));
    const { code, printed, said } = await run(join(place, "data"), place, {});
    assert.equal(code, 0, said);
    /** @type {Record<string, number | string | string[]>} */
    const told = JSON.parse(printed);
    assert.deepEqual([told.files, told.installed], [87, 15]);
    for (const step of ["emulator", "install", "preview", "deploy", "edit", "redeploy", "rollback"]) {
      assert.ok(Number(told[`${step}_ms`]) > 0, `${step}: ${printed}`);
    }
    assert.match(String(told.preview_url), /^http:\/\/preview-todostudio\.localhost:\d+$/);
    assert.match(String(told.production_url), /^http:\/\/todostudio\.localhost:\d+$/);
    // A look, a session, a bucket of assets, the upload; what is gone back to has no new assets.
    const scripts = "dispatch/namespaces/overskill-production/scripts";
    for (const [n, step] of ["deploy", "redeploy", "rollback"].entries()) {
      const script = `${scripts}/todostudio-${n + 1}`;
      const bucket = step === "rollback" ? [] : ["POST assets/upload"];
      const calls = [`GET ${scripts}`, `POST ${script}/assets-upload-session`, ...bucket, `PUT ${script}`];
      assert.deepEqual(told[`${step}_calls`], calls, step);
    }
    assert.equal(printed.trim().split("\n").length, 1, "one object and nothing else");
    await eventually(async () => (await marked(place)).length === 0, "all that it started to end");
    assert.deepEqual((await readdir(place)).filter((name) => name.startsWith("overskill-cf-")), []);
  } finally {
    await rm(place, { recursive: true, force: true });
  }
});

test("without workerd it says what to do", async () => {
  const place = await mkdtemp(join(tmpdir(), "cf-local-"));
  const { code, said } = await run(place, place, { OVERSKILL_WORKERD: "/nowhere/workerd" });
  await rm(place, { recursive: true, force: true });
  assert.equal(code, 1);
  assert.match(said, /OVERSKILL_WORKERD names no file/);
});
