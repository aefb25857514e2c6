//! The rules of a [`Scheduler`] with its [`RunQueue`].

mod claiming;
mod finishing;
mod scheduling;
mod shared;

use overskill_core::{RunQueue, Scheduler};
use std::sync::Arc;

/// A scheduler, and the queue that its runs are claimed from.
#[derive(Clone, Debug)]
pub struct Jobs {
    scheduler: Arc<dyn Scheduler>,
    queue: Arc<dyn RunQueue>,
}

impl Jobs {
    /// A store that is both.
    pub fn new<S: Scheduler + RunQueue>(store: Arc<S>) -> Self {
        Self { scheduler: store.clone(), queue: store }
    }

    /// Two stores on the same data.
    pub fn of(scheduler: Arc<dyn Scheduler>, queue: Arc<dyn RunQueue>) -> Self {
        Self { scheduler, queue }
    }
}

/// What [`jobs_conformance!`](crate::jobs_conformance) needs: a scheduler and its queue.
///
/// **The queue has to be empty, and used by nobody else while a case runs**: whoever claims, claims runs of every app.
/// The moments that cases give it lie at least an hour ahead, so a store with a clock of its own sees the same.
pub type JobsFixture = crate::Fixture<Jobs>;

suite! {
    $
    /// Tests of every rule of a [`Scheduler`](overskill_core::Scheduler) and its [`RunQueue`](overskill_core::RunQueue):
    /// `jobs_conformance!(v1, fixture())`, where the fixture is a [`JobsFixture`](crate::JobsFixture).
    macro jobs_conformance = jobs, jobs_v1;
    const V1 = "jobs", v1;
    fixture JobsFixture;
    in scheduling {
        jobs_come_back_as_they_were: "a job is listed exactly as it was put";
        jobs_are_listed_by_name: "list gives a scope's jobs in name order, page by page, each once";
        a_job_is_replaced: "a job that is put again replaces the one of its name";
        a_removed_job_is_gone: "a removed job is not listed, not triggered and makes no runs; those that wait are dropped; removing nothing is fine";
        a_claimed_run_outlives_its_job: "a run that is claimed when its job is removed stays its worker's, and ends as they say";
        payloads_have_a_limit: "a payload of the largest size passes whole, a larger one is refused and nothing is put";
        a_trigger_makes_a_run: "a trigger makes a run that is due at that moment, with the job's payload, as the first try";
        the_same_run_twice_is_one_run: "the same run triggered again is one run, even after it is over";
        triggering_no_job_is_not_found: "a trigger of a job that does not exist is not found";
        every_tick_makes_one_run: "each tick of a schedule makes exactly one run, due at that tick";
        every_node_together_makes_one_run: "each tick makes exactly one run, however many claim at once";
        a_new_job_has_missed_nothing: "a schedule counts from the moment the job was put";
        only_the_newest_missed_tick_is_made_up_for: "after an outage only the newest missed tick makes a run";
        a_moment_comes_once: "a job for one moment runs once, and not at all if that moment was over when it was put";
        a_job_on_demand_waits_for_a_trigger: "a job on demand makes no run by itself";
        a_paused_job_misses_what_is_due: "a paused job makes no runs and makes up for none, and can be triggered";
        a_changed_schedule_counts_from_now: "a schedule that changed counts from the moment it was put";
        an_unchanged_schedule_keeps_its_place: "a job that is put again with the same schedule loses no tick";
        an_overlapping_run_is_left_out: "a run that is due while another of its job has not ended is left out, and the history says so";
        an_overlapping_run_may_be_allowed: "where the job allows it, runs overlap";
        scopes_know_nothing_of_each_other: "jobs and runs are seen, triggered and removed in their own scope alone";
        pointers_and_wrappers_answer_alike: "a wrapped scheduler and queue answer as themselves";
        it_is_ready: "check of the scheduler, and of the queue, answers that nothing is missing, and names the backend";
    }
    in claiming {
        what_is_not_due_waits: "a run is claimed when it is due, not before";
        a_claim_has_its_limit: "a claim gives no more runs than asked for, those of one app in the order they were due";
        a_claimed_run_is_nobody_elses: "until its lease expires, a claimed run is given to nobody else";
        an_expired_run_is_claimed_again: "a run whose lease expired is claimed as another try, under a higher fence";
        a_run_that_never_ends_is_given_up: "a run whose every try expired is given up";
        no_run_is_in_two_leases: "of concurrent claims each run goes to one, and none is lost";
        renewing_extends_a_claim: "a renewed claim lasts from then on, under the same fence";
        a_lost_claim_is_not_renewed: "renewing a claim that was lost, or of a run that is over, is a conflict and changes nothing";
        an_app_does_not_wait_behind_another: "the first run of an app is in the next claim, however many runs of another app wait";
        apps_take_turns: "a claim has about as many runs of each app that waits";
        running_runs_of_an_app_are_limited: "no more runs of one app are claimed at a time than allowed, by all workers together";
        a_dropped_claim_loses_nothing: "runs of a claim whose future is dropped are claimed again, at once or after their lease";
    }
    in finishing {
        a_done_run_is_over: "a run that is done is not claimed again, and the history says when it ended";
        a_failed_run_is_tried_again: "a run that failed is tried again within the bounds of its backoff";
        a_wait_that_was_asked_for_is_kept: "a run that failed and asked for a wait is tried again after it, not before";
        a_run_is_dead_after_its_last_try: "a run that failed as often as it may be tried is dead, and the history says why";
        a_run_may_be_given_up_at_once: "a run that ends as dead is not tried again";
        a_stale_end_changes_nothing: "the end of a try that was overtaken, of a run that is over or unknown, is stale and changes nothing";
        an_expired_claim_may_end_its_run: "the end of a try whose lease expired is taken as long as nobody else claimed the run";
        ends_are_answered_in_order: "the ends of several runs are taken each on its own, and answered in order";
        history_is_newest_first: "history has the newest runs first, each with its state, no more than asked for";
        pruning_forgets_what_is_over: "prune forgets runs that were over before the moment, and no others";
        jobs_survive_a_restart: "jobs, runs, their ends, leases and fences are durable";
    }
}
