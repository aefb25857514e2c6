//! The names of what is measured, and the timer that measures it.
//!
//! Durations are histograms in seconds; they carry an `outcome` and no name of an app.

use crate::Clock;
use std::{sync::Arc, time::Duration};

/// A whole deployment, from the lease to its end.
pub const DEPLOY_SECONDS: &str = "overskill_deploy_seconds";
/// A build.
pub const BUILD_SECONDS: &str = "overskill_build_seconds";
/// One `stage` call to a target.
pub const STAGE_SECONDS: &str = "overskill_stage_seconds";
/// One `activate` call to a target.
pub const ACTIVATE_SECONDS: &str = "overskill_activate_seconds";
/// A change of an app's sources, until it is durable.
pub const APPLY_SECONDS: &str = "overskill_apply_seconds";
/// An update pushed to an open preview.
pub const PUSH_SECONDS: &str = "overskill_push_seconds";
/// Opening a preview.
pub const OPEN_SECONDS: &str = "overskill_open_seconds";
/// Checking a token and making a grant.
pub const GRANT_SECONDS: &str = "overskill_grant_seconds";
/// Claiming runs.
pub const CLAIM_SECONDS: &str = "overskill_claim_seconds";
/// A use case of an app, by name.
pub const USE_CASE_SECONDS: &str = "overskill_use_case_seconds";
/// Bytes of sources that were written.
pub const APPLY_BYTES: &str = "overskill_apply_bytes";
/// Deployments that ended, by outcome.
pub const DEPLOYMENTS_TOTAL: &str = "overskill_deployments_total";
/// Tries at targets that failed, by outcome.
pub const ATTEMPTS_FAILED_TOTAL: &str = "overskill_attempts_failed_total";

/// Every histogram of seconds above, with what it measures.
pub const SECONDS: [(&str, &str); 10] = [
    (DEPLOY_SECONDS, "a whole deployment, from the lease to its end"),
    (BUILD_SECONDS, "a build"),
    (STAGE_SECONDS, "one `stage` call to a target"),
    (ACTIVATE_SECONDS, "one `activate` call to a target"),
    (APPLY_SECONDS, "a change of an app's sources, until it is durable"),
    (PUSH_SECONDS, "an update pushed to an open preview"),
    (OPEN_SECONDS, "opening a preview"),
    (GRANT_SECONDS, "checking a token and making a grant"),
    (CLAIM_SECONDS, "claiming runs"),
    (USE_CASE_SECONDS, "a use case of an app, by name"),
];

/// Tells the installed recorder the unit and meaning of every metric. A host calls it once, after it installed one.
pub fn describe() {
    for (name, text) in SECONDS {
        metrics::describe_histogram!(name, metrics::Unit::Seconds, text);
    }
    metrics::describe_histogram!(APPLY_BYTES, metrics::Unit::Bytes, "bytes of sources that were written");
    metrics::describe_counter!(DEPLOYMENTS_TOTAL, "deployments that ended, by outcome");
    metrics::describe_counter!(ATTEMPTS_FAILED_TOTAL, "tries at targets that failed, by outcome");
}

/// Measures one thing; what is dropped without [`stop`](Self::stop) counts as `dropped`.
pub(crate) struct Timer {
    clock: Arc<dyn Clock>,
    name: &'static str,
    start: Duration,
    outcome: &'static str,
}

impl Timer {
    pub(crate) fn start(clock: &Arc<dyn Clock>, name: &'static str) -> Self {
        Self { clock: clock.clone(), name, start: clock.monotonic(), outcome: "dropped" }
    }

    pub(crate) fn stop(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    /// Stops with the outcome of `result`: `ok`, or the kind of its error.
    pub(crate) fn stop_with<T>(self, result: &crate::Result<T>) {
        self.stop(result.as_ref().map_or_else(|e| e.kind().as_str(), |_| "ok"));
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let took = self.clock.monotonic().saturating_sub(self.start);
        metrics::histogram!(self.name, "outcome" => self.outcome).record(took.as_secs_f64());
    }
}
