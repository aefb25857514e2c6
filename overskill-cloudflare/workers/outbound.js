// The Worker that sees what the code in the dispatch namespaces fetches: `outbound` of the dispatch Worker's bindings.

import { pass } from "./egress.js";

/**
 * @import { Rules } from "./egress.js"
 */

export default {
  /**
   * @param {Request} request
   * @param {{ SETTINGS: Rules, scope?: string, plan?: string }} env what the dispatcher told is bound beside the settings
   * @returns {Promise<Response>}
   */
  fetch(request, { SETTINGS, scope, plan = "default" }) {
    return pass(request, typeof scope === "string" ? { scope, plan } : undefined, SETTINGS);
  },
};
