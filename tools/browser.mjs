// What the browser suites (`overskill-*/tests/browser/*.mjs`) start from: a headless Chromium that speaks to this machine only.

import { chromium } from "playwright-core";

/** @typedef {import("playwright-core").Browser} Browser */
/** @typedef {import("playwright-core").Page} Page */

const args = [
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-gpu",
  "--disable-quic",
  "--disable-sync",
  "--no-first-run",
];

/** Names other than the loopback ones resolve to nothing, so that no test can reach an outside host. */
const NOWHERE = "MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE [::1]";

/** The Chromium that `cargo xtask setup` found. */
export const executable = () => process.env.OVERSKILL_CHROMIUM ?? "/usr/bin/chromium";

/** @param {Record<string, string>} detours */
function ours(detours) {
  const rules = Object.entries(detours).map(([host, to]) => `MAP ${host} ${to}`);
  // An exclusion would come before any detour.
  const rest = rules.length > 0 ? [NOWHERE] : [NOWHERE, "EXCLUDE *.localhost"];
  return [...args, `--host-resolver-rules=${[...rules, ...rest].join(", ")}`];
}

/** What it is started with, where nobody else adds to it. Its own sandbox is off only for root, as below. */
export const switches = () => [...ours({}), ...(process.getuid?.() === 0 ? ["--no-sandbox"] : [])];

/**
 * Starts it; the caller closes it.
 *
 * Its own sandbox is off only for root, for whom Chromium refuses to start with it.
 *
 * @param {Record<string, string>} [detours] by host: where its connections go instead, such as `127.0.0.1:9000`
 * @returns {Promise<Browser>}
 */
export function launch(detours = {}) {
  return chromium.launch({
    executablePath: executable(),
    chromiumSandbox: process.getuid?.() !== 0,
    args: ours(detours),
  });
}
