//! The rules of a [`DeploymentStore`].

mod leases;
mod records;
mod shared;

use overskill_core::DeploymentStore;

/// What [`deployment_store_conformance!`](crate::deployment_store_conformance) needs: a store of deployments.
///
/// The moments that cases give it lie at least an hour ahead, so a store with a clock of its own sees the same.
pub type DeploymentStoreFixture = crate::Fixture<dyn DeploymentStore>;

suite! {
    $
    /// Tests of every rule of a [`DeploymentStore`](overskill_core::DeploymentStore):
    /// `deployment_store_conformance!(v1, fixture())`, where the fixture is a
    /// [`DeploymentStoreFixture`](crate::DeploymentStoreFixture).
    macro deployment_store_conformance = deployments, deployment_store_v1;
    const V1 = "deployment_store", v1;
    fixture DeploymentStoreFixture;
    in records {
        an_unknown_deployment_is_empty: "a deployment that does not exist has no events and no scope";
        a_deployment_is_created_once: "a commit that expects no events creates a deployment, and a second one is a conflict";
        events_come_back_as_they_were: "events are read in order, each with its place and time, exactly as they were written";
        the_events_of_one_commit_stay_together: "a commit of several events writes all of them, in order";
        ids_of_a_scope_only_grow: "a new deployment with a lesser id than one of its scope is a conflict and changes nothing; in another scope it is none, and the older one may still be moved on";
        what_came_in_between_goes_first: "a new deployment that is to come after one is a conflict, and changes nothing, if its scope has a newer one than that";
        a_wrong_count_of_events_is_refused: "a commit that expects another number of events is a conflict and changes nothing";
        an_ended_deployment_takes_only_sweeps: "after the end nothing but sweeps may follow; the rest is a conflict and changes nothing";
        a_deployment_stays_in_its_scope: "a commit of a deployment in another scope is a conflict and changes nothing";
        of_concurrent_commits_one_wins: "of concurrent commits that expect the same number of events exactly one succeeds";
        a_scope_lists_its_deployments_newest_first: "list gives a scope's deployments newest first, page by page, each once";
        standing_says_all_of_it: "standing answers the scope, the events, the lease of the moment and the newest deployment of the scope, as the other calls do; and nothing for a deployment that does not exist";
        a_summary_says_how_far_it_is: "a summary has the scope, the number of events and the end";
        pending_is_what_nobody_drives: "pending lists deployments that have not ended and whose scope nobody has leased at that moment";
        what_is_due_later_is_pending_then: "pending leaves out what is due later, lists it then, ended or not, and those first that have been due longest";
        pending_is_oldest_first_and_limited: "pending lists the oldest first, and no more than asked for";
        pending_gives_every_scope_its_turn: "pending lists one of each scope before a second of any";
    }
    in leases {
        a_free_scope_is_leased: "a free lease is taken, with what was asked for and a fence above zero";
        a_held_lease_is_refused_to_others: "a lease that another deployment holds is a conflict, and the events of that commit are not written";
        its_own_lease_is_taken_again_with_a_higher_fence: "the holder of a lease may take it again for its deployment, under a higher fence; another holder may not, and the lower fence is void";
        an_expired_lease_is_taken_with_a_higher_fence: "a lease that expired is taken by another deployment, under a higher fence";
        a_fence_is_above_what_was_seen_elsewhere: "the fence of a lease is greater than the one it was asked to be above";
        keeping_a_lease_renews_it: "keeping a lease under its fence makes it last from then on, under the same fence";
        an_expired_lease_is_not_kept: "a lease that expired is not kept and not released";
        a_released_lease_is_free_and_fences_grow: "a released lease is free at once, and the next one has a higher fence";
        a_stale_fence_writes_nothing: "a commit under a fence that was overtaken is a conflict: no event is written and no lease changes";
        events_and_lease_happen_together: "the events and the lease of one commit happen together";
        a_lease_is_its_deployments_alone: "a lease is kept and released by its own deployment alone: another's commit under the same fence is a conflict and changes nothing";
        a_lease_changes_without_events: "a commit without events changes the lease alone";
        a_commit_without_lease_needs_none: "a commit that leaves the lease alone is taken while another deployment holds it";
        of_concurrent_takes_one_wins: "of concurrent takes of one scope exactly one succeeds, and no fence is given out twice";
        scopes_know_nothing_of_each_other: "deployments and leases are seen in their own scope alone";
        records_survive_a_restart: "events, leases and fences are durable";
        a_dropped_call_leaves_all_or_nothing: "a commit whose future is dropped happened as a whole or not at all, and the store goes on working";
        pointers_and_wrappers_answer_alike: "a wrapped store answers as the store itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
}
