//! Versions that are not well.

use crate::common::{PRODUCTION, assert_live, deploy, later, live_on, platform, scope, target, written};
use overskill_core::{
    BundleStore as _, Clock as _, DeploymentStrategy, DeploymentTarget as _, Doubt, Health, HealthGate, OperatorChoice,
    Outcome, RouteTable as _, memory::MemoryProbe,
};
use overskill_testkit::faulty::{Calls, Fault, FaultPlan};
use std::{num::NonZeroU32, time::Duration};

fn sick() -> Health {
    Health::Unhealthy { reason: "it answers 500".into() }
}

/// A gate that fails for the second version: the first deploy has one look, the second as many as it wants.
fn gate(probe: &MemoryProbe) -> HealthGate {
    HealthGate::new(probe.clone()).every(Duration::from_secs(1))
}

#[tokio::test]
async fn a_version_that_is_not_well_is_rolled_back_and_no_other_target_is_asked() {
    let (probe, edge, second) = (MemoryProbe::new(), target("edge"), target("second"));
    let test = platform(DeploymentStrategy::prefer(edge.clone()).then(second.clone()).gate_live(gate(&probe))).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    assert_eq!(live_on(&good.outcome), "edge");
    probe.otherwise(sick());
    let d = deploy(&test, &app, "two").await;
    assert!(matches!(&d.outcome, Outcome::RolledBack { reason } if reason.contains("it answers 500")), "{}", d.story);
    assert_live(&test, good.id, &edge).await;
    assert_eq!(second.observe(&scope()).await.unwrap(), []);
    assert!(d.story.contains("going back to"), "{}", d.story);
    later(&test, Duration::from_mins(11)).await;
    let left = edge.observe(&scope()).await.unwrap();
    assert!(left.iter().all(|o| o.id == Some(good.id)), "the bad one is swept: {left:?}");
    assert_live(&test, good.id, &edge).await;
}

#[tokio::test]
async fn a_first_version_that_is_not_well_leaves_nothing_live() {
    let (probe, edge) = (MemoryProbe::new(), target("edge"));
    probe.otherwise(sick());
    let test = platform(DeploymentStrategy::prefer(edge.clone()).gate_live(gate(&probe))).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    assert!(matches!(d.outcome, Outcome::Failed { .. }), "{}", d.story);
    assert_eq!(test.memory.routes.get(&scope()).await.unwrap(), None);
    later(&test, Duration::from_mins(11)).await;
    assert_eq!(edge.observe(&scope()).await.unwrap(), []);
}

#[tokio::test]
async fn a_staged_version_that_is_not_well_never_has_the_traffic() {
    let (probe, edge, second) = (MemoryProbe::new(), target("edge"), target("second"));
    let test = platform(DeploymentStrategy::prefer(edge.clone()).then(second.clone()).gate_staged(gate(&probe))).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    let fence = edge.serving(&scope()).unwrap().1;
    probe.otherwise(sick());
    let d = deploy(&test, &app, "two").await;
    assert_eq!(second.observe(&scope()).await.unwrap(), [], "no other target is asked for what is the app's fault");
    assert!(matches!(d.outcome, Outcome::Failed { .. }), "{}", d.story);
    assert_live(&test, good.id, &edge).await;
    assert_eq!(edge.serving(&scope()).unwrap().1, fence, "it was not touched");
}

#[tokio::test]
async fn a_gate_wants_so_many_good_looks_of_so_many() {
    let count = |n| NonZeroU32::new(n).unwrap();
    let (probe, edge) = (MemoryProbe::new(), target("edge"));
    let two_of_three = HealthGate::new(probe.clone()).passes(count(2), count(3)).every(Duration::from_secs(5));
    let test = platform(DeploymentStrategy::prefer(edge.clone()).gate_live(two_of_three)).await;
    let app = written(&test).await;
    for health in [Health::Healthy, sick(), Health::Healthy] {
        probe.answer(Ok(health));
    }
    let start = test.clock.monotonic();
    assert_eq!(live_on(&deploy(&test, &app, "one").await.outcome), "edge");
    assert_eq!(test.clock.monotonic().saturating_sub(start).as_secs(), 10, "two waits");
    for health in [sick(), sick()] {
        probe.answer(Ok(health));
    }
    let asked = probe.asked().len();
    let d = deploy(&test, &app, "two").await;
    assert!(matches!(d.outcome, Outcome::RolledBack { .. }), "{}", d.story);
    assert_eq!(probe.asked().len() - asked, 2, "the third could not have changed it");
}

#[tokio::test]
async fn a_rollback_that_fails_is_a_question_and_can_be_tried_again() {
    let (probe, edge, plan) = (MemoryProbe::new(), target("edge"), FaultPlan::new());
    let strategy = DeploymentStrategy::prefer(plan.around(edge.clone()))
        .gate_live(gate(&probe))
        .ask_operator(Duration::from_hours(1));
    let test = platform(strategy).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    probe.otherwise(sick());
    // The activation of the bad version passes; those of the rollback do not.
    let plan = plan.from_nth(Calls::of("target", "activate"), 2, Fault::before());
    let d = deploy(&test, &app, "two").await;
    let record = app.deployment(d.id).await.unwrap();
    assert_eq!(*record.question().unwrap().0, Doubt::NotRolledBack, "{}", d.story);
    plan.pause();
    app.answer(d.id, OperatorChoice::Retry).await.unwrap();
    later(&test, Duration::from_mins(1)).await;
    let record = app.deployment(d.id).await.unwrap();
    assert!(matches!(record.outcome(), Some(Outcome::RolledBack { .. })), "{}", record.timeline());
    assert_live(&test, good.id, &edge).await;
}

#[tokio::test]
async fn a_version_whose_artifact_is_gone_cannot_be_gone_back_to_and_says_so() {
    let (probe, edge) = (MemoryProbe::new(), target("edge"));
    let test = platform(DeploymentStrategy::prefer(edge.clone()).gate_live(gate(&probe))).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    test.memory.bundles.release(good.id, test.clock.now()).await.unwrap();
    test.memory.bundles.collect(test.clock.now().plus(Duration::from_hours(1)), Duration::ZERO).await.unwrap();
    probe.otherwise(sick());
    let d = deploy(&test, &app, "two").await;
    assert!(matches!(&d.outcome, Outcome::Failed { reason } if reason.contains("not kept any more")), "{}", d.story);
}

#[tokio::test]
async fn only_the_last_versions_are_kept() {
    let edge = target("edge");
    let test = platform(DeploymentStrategy::prefer(edge.clone()).keep(NonZeroU32::new(2).unwrap())).await;
    let app = written(&test).await;
    let mut digests = Vec::new();
    for n in 0..5 {
        let d = deploy(&test, &app, &format!("version {n}")).await;
        digests.push(app.deployment(d.id).await.unwrap().digest().unwrap());
    }
    let mut held = Vec::new();
    for digest in digests {
        held.push(test.memory.bundles.get(&scope(), digest).await.unwrap().is_some());
    }
    assert_eq!(held, [false, false, false, true, true]);
    let _ = PRODUCTION;
}

/// What could not be removed when it was its turn, or is too many since less is kept, is let go of with the next one.
#[tokio::test]
async fn what_could_not_be_let_go_of_goes_with_the_next() {
    let (edge, plan) = (target("edge"), FaultPlan::new());
    let test = platform(DeploymentStrategy::prefer(plan.around(edge.clone())).keep(NonZeroU32::MIN)).await;
    let app = written(&test).await;
    let removals = Calls::of("target", "remove");
    let away = plan.clone().always(removals.clone(), Fault::before());
    let mut versions = Vec::new();
    for n in 0..4 {
        versions.push(deploy(&test, &app, &format!("version {n}")).await.id);
    }
    assert_eq!(away.hits().total(), 3, "the target is asked once a deployment");
    let held = async || test.memory.bundles.holding(&versions).await.unwrap().len();
    assert_eq!(held().await, 4, "what could not be removed is not forgotten");
    away.pause();
    let newest = deploy(&test, &app, "newest").await;
    assert_eq!(held().await, 0);
    let there: Vec<_> = edge.observe(&scope()).await.unwrap().into_iter().filter_map(|o| o.id).collect();
    assert_eq!(there, [newest.id]);
    let before = plan.calls(&removals);
    deploy(&test, &app, "one more").await;
    assert_eq!(plan.calls(&removals) - before, 1, "what is gone is not removed again");
}
