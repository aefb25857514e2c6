//! What apps' own code finds around it: the same where it is deployed and in a preview.

use overskill_core::Artifact;

/// The day whose behaviour of the runtime apps get, unless their host names another.
pub(crate) const DATE: &str = "2026-11-01";

/// The setting of an artifact whose code needs what is Node's; `"overskill": {"node": true}` in package.json makes it.
const NODE: &str = "node";

/// The compatibility flags of an app's code.
pub(crate) fn flags(artifact: &Artifact) -> Vec<String> {
    let needs_node = artifact.config().settings.get(NODE).is_some_and(|value| value == "true");
    needs_node.then(|| "nodejs_compat".to_owned()).into_iter().collect()
}
