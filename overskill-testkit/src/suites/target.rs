//! The rules of a [`DeploymentTarget`].

mod fencing;
mod shared;
mod versions;

use bytes::Bytes;
use futures::future::BoxFuture;
use overskill_core::{DeploymentTarget, FilePath, Result, Scope};
use std::{fmt, future::Future, time::Duration};

/// What [`deployment_target_conformance!`](crate::deployment_target_conformance) needs: a target, and how it is looked at
/// from outside.
///
/// Cases deploy to apps that nobody else has, and remove what they put there.
///
/// ```
/// use overskill_core::{BackendName, memory::MemoryTarget};
/// use overskill_testkit::{DeploymentTargetFixture, TargetOutside};
/// use std::sync::Arc;
///
/// let target = Arc::new(MemoryTarget::new(BackendName::parse("memory").unwrap()));
/// let seen = target.clone();
/// let outside = TargetOutside::new().serving(move |scope, path| {
///     let contents = seen.asset(&scope, &path).map(|file| file.contents().clone());
///     async { Ok(contents) } // a real target's pages are fetched
/// });
/// DeploymentTargetFixture::with(target, outside);
/// ```
pub type DeploymentTargetFixture = crate::Fixture<dyn DeploymentTarget, TargetOutside>;

type Read = dyn Fn(Scope, FilePath) -> BoxFuture<'static, Result<Option<Bytes>>> + Send + Sync;

/// What the outside of a [`DeploymentTarget`] is.
#[derive(Default)]
pub struct TargetOutside {
    serving: Option<Box<Read>>,
    settles_within: Duration,
}

impl TargetOutside {
    /// It cannot be seen from outside, and what it says is so at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says how an asset that a scope serves is read; `None` when it serves none under that path. Without this, cases
    /// believe what the target says of itself, and `it_can_be_seen_from_outside` has to be excepted.
    pub fn serving<F>(mut self, read: impl Fn(Scope, FilePath) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Option<Bytes>>> + Send + 'static,
    {
        self.serving = Some(Box::new(move |scope, path| Box::pin(read(scope, path))));
        self
    }

    /// Says how long it takes at most until a change shows everywhere.
    pub fn settles_within(mut self, limit: Duration) -> Self {
        self.settles_within = limit;
        self
    }
}

impl fmt::Debug for TargetOutside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetOutside")
            .field("serving", &self.serving.is_some())
            .field("settles_within", &self.settles_within)
            .finish()
    }
}

suite! {
    $
    /// Tests of every rule of a [`DeploymentTarget`](overskill_core::DeploymentTarget):
    /// `deployment_target_conformance!(v1, fixture())`, where the fixture is a
    /// [`DeploymentTargetFixture`](crate::DeploymentTargetFixture).
    macro deployment_target_conformance = target, deployment_target_v1;
    const V1 = "deployment_target", v1;
    fixture DeploymentTargetFixture;
    in versions {
        an_untouched_scope_has_nothing: "a scope that nothing was deployed to has nothing in it, and every deployment is absent";
        staging_gives_no_traffic: "what is staged is not live; a target that stages separately shows it as staged";
        staging_is_safe_to_repeat: "staging the same request again succeeds and makes no second version";
        staging_leaves_what_is_live: "what is live stays live while another version is staged";
        an_id_names_one_artifact: "the same deployment with another artifact is a conflict and changes nothing";
        an_id_names_one_revision_of_the_variables: "the same deployment with another revision of the variables is a conflict and changes nothing";
        one_artifact_may_be_deployed_again: "the same artifact is deployed again under another id and with other variables";
        activation_lands: "an activated version is live: status, observe and the outside agree";
        activation_is_safe_to_repeat: "activating again under the same fence succeeds and changes nothing";
        a_version_that_is_gone_is_staged_again: "activating what is not staged is not found, or stages it; staging it again helps";
        removing_one_leaves_the_others: "remove takes away the named deployment and no other";
        removing_the_live_one_ends_it: "what was live and is removed serves no more";
        removing_all_leaves_nothing: "after remove of everything a scope has nothing in it";
        removing_nothing_is_fine: "remove of what is not there succeeds";
        a_removed_scope_can_be_deployed_to: "a scope that was removed takes the next deployment";
        what_is_there_survives_a_restart: "a restart of whoever drives the target changes nothing: what is live, under which fence, and what an id stands for are known";
        it_can_be_seen_from_outside: "what is live is what the outside is served";
        scopes_know_nothing_of_each_other: "what is deployed, activated or removed is so in its own scope alone";
        what_is_too_large_is_refused_at_once: "an artifact over the declared limits is refused, and nothing of it is there";
        servers_run_as_declared: "an app with a server is taken if the target declares so; otherwise it is unsupported, and nothing of it is there";
        a_dropped_call_leaves_all_or_nothing: "a call whose future is dropped happened or did not, and the same call again succeeds";
        pointers_and_wrappers_answer_alike: "a wrapped target answers as the target itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
    in fencing {
        a_higher_fence_takes_over: "a version that is activated under a greater fence replaces the one before";
        an_overtaken_activation_is_told: "status of an activation with a lower fence than the live one is superseded";
        a_lower_fence_is_refused: "where fences are enforced, activating under a lower fence than before is a conflict and changes nothing";
        one_fence_is_for_one_deployment: "where fences are enforced, another deployment under the same fence is a conflict and changes nothing";
        a_removed_scope_remembers_its_fence: "where fences are enforced, what was overtaken stays so after everything was removed";
        of_concurrent_activations_the_highest_wins: "where fences are enforced, the highest of concurrent activations is live in the end";
        what_was_overtaken_is_restored_by_activating_again: "whatever an old fence did, activating the newest again makes it live";
        the_previous_version_is_kept: "where declared, the version before is kept, and goes live again under a new fence without staging";
    }
}
