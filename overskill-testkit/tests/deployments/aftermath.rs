//! What an end leaves behind: traffic, versions, artifacts and leases.

use crate::common::{
    Late, PRODUCTION, assert_live, deploy, deployed, later, live_on, platform, scope, target, written,
};
use overskill_core::{
    BundleStore as _, Clock as _, DeploymentStrategy, DeploymentTarget as _, Effect, ErrorKind, Fencing, Health,
    HealthGate, OperatorChoice, Outcome, SeededIds, TestClock,
    memory::{MemoryBackends, MemoryProbe, MemoryTarget, StaticBuilder},
};
use overskill_testkit::{
    TestPlatform,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// It has the traffic, the route could not be set, and a newer one takes its place and waits for permission: until that
/// is given, the version before serves.
#[tokio::test]
async fn what_was_activated_and_is_not_routed_loses_the_traffic_at_its_end() {
    for first_version in [false, true] {
        let (edge, plan) = (target("edge"), FaultPlan::new());
        let strategy = DeploymentStrategy::prefer(edge.clone()).permission_for(PRODUCTION);
        let test = TestPlatform::seeded(7, |builder, memory| {
            builder.deploy_with(strategy).routes(plan.around(memory.routes.clone()))
        });
        let test = test.await.unwrap();
        let app = written(&test).await;
        let approved = async |contents: &str| {
            let asks = deploy(&test, &app, contents).await;
            app.answer(asks.id, OperatorChoice::Approve).await.unwrap();
            later(&test, Duration::from_secs(1)).await;
            asks.id
        };
        let good = if first_version { None } else { Some(approved("one").await) };
        let plan = plan.always(Calls::of("routes", "set"), Fault::before());
        let unrouted = approved("two").await;
        assert_eq!(edge.serving(&scope()).unwrap().0, unrouted, "it has the traffic");
        plan.pause();
        let newer = deploy(&test, &app, "three").await;
        assert!(matches!(newer.outcome, Outcome::AwaitingOperator { .. }), "{}", newer.story);
        later(&test, Duration::from_mins(3)).await;
        let record = app.deployment(unrouted).await.unwrap();
        assert_eq!(record.outcome(), Some(Outcome::Superseded), "{}", record.timeline());
        match good {
            Some(good) => assert_live(&test, good, &edge).await,
            None => assert_eq!(edge.serving(&scope()), None, "{}", record.timeline()),
        }
    }
}

#[tokio::test]
async fn a_first_version_that_is_not_well_has_no_traffic_from_then_on() {
    let (probe, edge) = (MemoryProbe::new(), target("edge"));
    probe.otherwise(Health::Unhealthy { reason: "sick".into() });
    let test = platform(DeploymentStrategy::prefer(edge.clone()).gate_live(HealthGate::new(probe))).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    assert!(matches!(d.outcome, Outcome::Failed { .. }), "{}", d.story);
    assert_eq!(edge.serving(&scope()), None, "{}", d.story);
}

/// One is live, and died before its end was written. While somebody writes that, a newer one goes live: with one version
/// to keep, that is not the one to let go of.
#[tokio::test]
async fn what_is_newer_is_not_retired_by_what_is_older() {
    let clock = TestClock::new();
    let plan = FaultPlan::new().clock(Arc::new(clock.clone()));
    let unwritten = FaultPlan::new();
    let edge = target("edge");
    let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(7)));
    let strategy = DeploymentStrategy::prefer(plan.around(edge.clone()))
        .keep(NonZeroU32::MIN)
        .attempt_timeout(Duration::from_secs(10));
    let process = TestPlatform::over(clock, memory, |builder, memory| {
        builder.deploy_with(strategy).deployments(unwritten.around(memory.deployments.clone()))
    });
    let test = process.await.unwrap();
    let app = written(&test).await;
    // The request, the build, the activation, and then the end, which is not written.
    let unwritten = unwritten.nth(Calls::of("deployments", "commit"), 4, Fault::before());
    let older = app.deploy(PRODUCTION).await.unwrap();
    test.clock.drive(older.outcome()).await.unwrap_err();
    assert_eq!(unwritten.hits().total(), 1);
    assert_live(&test, older.id(), &edge).await;
    test.clock.advance(Duration::from_mins(5));

    let plan = plan.nth(Calls::of("target", "observe"), 1, Fault::Delay(Duration::from_secs(9)));
    let newer = async {
        test.clock.sleep(Duration::from_secs(1)).await;
        app.write([("index.html", "two")]).await.unwrap();
        let newer = app.deploy(PRODUCTION).await.unwrap();
        assert_eq!(live_on(&newer.outcome().await.unwrap()), "edge");
        newer.id()
    };
    let (ended, newer) = Box::pin(test.clock.drive(async { tokio::join!(older.outcome(), newer) })).await;
    assert_eq!(plan.hits().total(), 1);
    assert_eq!(live_on(&ended.unwrap()), "edge");
    assert_live(&test, newer, &edge).await;
    let digest = app.deployment(newer).await.unwrap().digest().unwrap();
    assert!(test.memory.bundles.get(&scope(), digest).await.unwrap().is_some(), "what is live is held");
}

/// Nobody got as far as to say that an artifact is not needed any more: somebody says it later.
#[tokio::test]
async fn an_artifact_of_what_failed_is_let_go_of_in_the_end() {
    let plan = FaultPlan::new().always(Calls::of("target", "stage"), Fault::before());
    let bundles = FaultPlan::new().nth(Calls::of("bundles", "release"), 1, Fault::before());
    let strategy = DeploymentStrategy::prefer(plan.around(target("edge")));
    let test = TestPlatform::seeded(7, |builder, memory| {
        builder.deploy_with(strategy).bundles(bundles.around(memory.bundles.clone()))
    });
    let test = test.await.unwrap();
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    assert!(matches!(d.outcome, Outcome::Failed { .. }), "{}", d.story);
    assert_eq!(bundles.hits().total(), 1);
    let digest = app.deployment(d.id).await.unwrap().digest().unwrap();
    assert!(test.memory.bundles.get(&scope(), digest).await.unwrap().is_some(), "it is held for nothing");
    later(&test, Duration::from_mins(11)).await;
    assert!(test.memory.bundles.get(&scope(), digest).await.unwrap().is_none());
}

/// A request that was not recorded holds nothing; one that was recorded and holds nothing yet is held by its drive.
#[tokio::test]
async fn what_is_asked_for_again_is_held_by_what_is_recorded_alone() {
    let (edge, plan) = (target("edge"), FaultPlan::new());
    let test = TestPlatform::seeded(7, |builder, memory| {
        let builder = builder.deploy_with(DeploymentStrategy::prefer(edge.clone()));
        builder.deployments(plan.around(memory.deployments.clone())).bundles(plan.around(memory.bundles.clone()))
    });
    let test = test.await.unwrap();
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    let holds = plan.calls(&Calls::of("bundles", "hold"));
    let plan = plan.nth(Calls::of("deployments", "commit"), 1, Fault::before()).nth(
        Calls::of("bundles", "hold"),
        1,
        Fault::before(),
    );
    app.promote(PRODUCTION, PRODUCTION).await.unwrap_err();
    assert_eq!(plan.calls(&Calls::of("bundles", "hold")), holds, "nobody knows of it");
    let again = app.promote(PRODUCTION, PRODUCTION).await.unwrap();
    let again = deployed(&app, again.id(), test.clock.drive(again.outcome()).await.unwrap()).await;
    assert_eq!((live_on(&again.outcome), plan.hits().total()), ("edge", 2), "{}", again.story);
    // The older one's hold is not needed.
    test.memory.bundles.release(d.id, test.clock.now()).await.unwrap();
    let digest = app.deployment(again.id).await.unwrap().digest().unwrap();
    assert!(test.memory.bundles.get(&scope(), digest).await.unwrap().is_some());
}

/// Whoever waited for it has gone. The scope is free at once for whoever works next, unless an activation is on its way.
#[tokio::test]
async fn a_lease_does_not_outlast_who_was_dropped() {
    for (hangs, free) in [("stage", true), ("activate", false)] {
        let (edge, plan) = (target("edge"), FaultPlan::new());
        let strategy = DeploymentStrategy::prefer(plan.around(edge.clone()));
        let test = platform(strategy.attempt_timeout(Duration::from_secs(10))).await;
        let app = written(&test).await;
        let good = deploy(&test, &app, "one").await;
        let plan = plan.nth(Calls::of("target", hangs), 1, Fault::HangBefore);
        app.write([("index.html", "two")]).await.unwrap();
        let dropped = app.deploy(PRODUCTION).await.unwrap();
        let start = test.clock.now();
        let gone = test.clock.sleep(Duration::from_secs(3));
        test.clock
            .drive(async {
                tokio::select! { ended = dropped.outcome() => panic!("{ended:?}"), () = gone => {} }
            })
            .await;
        assert_eq!(plan.hits().total(), 1);
        assert_live(&test, good.id, &edge).await;
        test.clock.drive(test.platform.work()).await.unwrap();
        let record = app.deployment(dropped.id()).await.unwrap();
        assert_eq!(record.end().is_some(), free, "{}", record.timeline());
        assert_eq!(live_on(&test.clock.drive(dropped.outcome()).await.unwrap()), "edge");
        assert_eq!(test.clock.now().since(start) < Duration::from_secs(10), free);
        assert_live(&test, dropped.id(), &edge).await;
    }
}

/// In one drive: the first target has it and cannot be asked, the second refuses it for good. The undoing is under a fence of
/// its own, or a target that enforces fences would refuse it.
#[tokio::test]
async fn what_landed_unseen_loses_the_traffic_in_the_drive_that_fails() {
    let (first, second, plan) = (target("first"), target("second"), FaultPlan::new());
    let refuses = FaultPlan::new();
    let strategy = DeploymentStrategy::prefer(plan.around(first.clone()))
        .then(refuses.around(second.clone()))
        .tries_per_target(NonZeroU32::MIN);
    let test = platform(strategy).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    let plan = plan.nth(Calls::of("target", "activate"), 1, Fault::after()).nth(
        Calls::of("target", "status"),
        1,
        Fault::before(),
    );
    let denied = Fault::BeforeEffect { kind: ErrorKind::Denied, effect: Effect::None };
    let _refuses = refuses.always(Calls::of("target", "stage"), denied);
    let d = deploy(&test, &app, "two").await;
    assert_eq!(plan.hits().total(), 2, "{}", d.story);
    assert!(matches!(d.outcome, Outcome::Failed { .. }), "{}", d.story);
    assert_live(&test, good.id, &first).await;
}

/// The rollback failed, a person was asked, and gives it up when the target is well again.
#[tokio::test]
async fn what_could_not_be_rolled_back_is_undone_when_it_is_given_up() {
    let (probe, edge, plan) = (MemoryProbe::new(), target("edge"), FaultPlan::new());
    let strategy = DeploymentStrategy::prefer(plan.around(edge.clone()))
        .gate_live(HealthGate::new(probe.clone()))
        .ask_operator(Duration::from_hours(1));
    let test = platform(strategy).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    probe.otherwise(Health::Unhealthy { reason: "sick".into() });
    let plan = plan.from_nth(Calls::of("target", "activate"), 2, Fault::before());
    let d = deploy(&test, &app, "two").await;
    assert!(matches!(d.outcome, Outcome::AwaitingOperator { .. }), "{}", d.story);
    assert_eq!(edge.serving(&scope()).unwrap().0, d.id);
    plan.pause();
    app.answer(d.id, OperatorChoice::Abort).await.unwrap();
    later(&test, Duration::from_secs(1)).await;
    let record = app.deployment(d.id).await.unwrap();
    assert!(matches!(record.outcome(), Some(Outcome::Failed { .. })), "{}", record.timeline());
    assert_live(&test, good.id, &edge).await;
}

/// The routes cannot be set: each try brings the whole app, so there is a pause between them.
#[tokio::test]
async fn what_fails_under_its_lease_lets_others_go_first() {
    let (edge, plan) = (target("edge"), FaultPlan::new().always(Calls::of("routes", "set"), Fault::before()));
    let asked = FaultPlan::new();
    let strategy = DeploymentStrategy::prefer(asked.around(edge.clone()));
    let test = TestPlatform::seeded(7, |builder, memory| {
        builder.deploy_with(strategy).routes(plan.around(memory.routes.clone()))
    });
    let test = test.await.unwrap();
    let app = written(&test).await;
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    for _ in 0..12 {
        later(&test, Duration::from_secs(5)).await;
    }
    let tries = asked.calls(&Calls::of("target", "stage"));
    assert!((1..=3).contains(&tries), "{tries} tries in a minute");
    plan.pause();
    later(&test, Duration::from_secs(31)).await;
    let outcome = app.deployment(deployment.id()).await.unwrap().outcome();
    assert_eq!(live_on(&outcome.unwrap()), "edge");
}

/// It was live for a month, is restored, and that comes late over something newer: a sweep that cannot ask the target just
/// then is not put off for another month.
#[tokio::test]
async fn what_was_live_for_long_is_looked_after_like_anything_else() {
    let mut info = target("edge").info();
    info.fencing = Fencing::Observed;
    let late = Late::new(MemoryTarget::with(info), true);
    late.let_through();
    let plan = FaultPlan::new();
    let test = platform(DeploymentStrategy::prefer(plan.around(late.clone()))).await;
    let app = written(&test).await;
    let old = deploy(&test, &app, "one").await;
    later(&test, Duration::from_hours(24 * 30)).await;
    late.hold_next();
    test.clock.drive(app.restore(PRODUCTION)).await.unwrap(); // at the second try
    let newest = deploy(&test, &app, "two").await;
    late.arrive().await.unwrap();
    assert_eq!(late.inner.serving(&scope()).unwrap().0, old.id, "what was restored has the traffic");
    let plan = plan.always(Calls::of("target", "observe"), Fault::before());
    later(&test, Duration::from_mins(11)).await;
    assert_eq!(late.inner.serving(&scope()).unwrap().0, old.id, "the target cannot be asked");
    plan.pause();
    later(&test, Duration::from_mins(61)).await;
    assert_live(&test, newest.id, &late.inner).await;
}

/// It was asked to activate it, and whoever asked is gone; a newer one takes its place. What was asked for is fenced out: it
/// may not come any more.
#[tokio::test]
async fn what_a_crash_left_open_is_fenced_out_when_it_is_given_up() {
    let late = Late::new(target("edge"), true);
    late.let_through();
    let plan = FaultPlan::new();
    let strategy = DeploymentStrategy::prefer(plan.around(late.clone())).permission_for(PRODUCTION);
    let test = platform(strategy.attempt_timeout(Duration::from_mins(5))).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    app.answer(good.id, OperatorChoice::Approve).await.unwrap();
    later(&test, Duration::from_secs(1)).await;
    let open = deploy(&test, &app, "two").await;
    app.answer(open.id, OperatorChoice::Approve).await.unwrap();
    late.hold_next();
    let plan = plan.nth(Calls::of("target", "status"), 1, Fault::HangBefore);
    let gone = test.clock.sleep(Duration::from_secs(3));
    let resumed = app.resume(open.id).await.unwrap();
    test.clock
        .drive(async {
            tokio::select! { ended = resumed.outcome() => panic!("{ended:?}"), () = gone => {} }
        })
        .await;
    assert_eq!(plan.hits().total(), 1);
    let newer = deploy(&test, &app, "three").await;
    assert!(matches!(newer.outcome, Outcome::AwaitingOperator { .. }), "{}", newer.story);
    later(&test, Duration::from_mins(6)).await;
    let record = app.deployment(open.id).await.unwrap();
    assert_eq!(record.outcome(), Some(Outcome::Superseded), "{}", record.timeline());
    late.arrive().await.unwrap_err();
    assert_live(&test, good.id, &late.inner).await;
}

/// Whoever built it died before that was written, and whoever ended it did not hear that the end was.
#[tokio::test]
async fn an_artifact_that_no_record_knows_is_let_go_of() {
    let (edge, plan) = (target("edge"), FaultPlan::new());
    let test = TestPlatform::seeded(7, |builder, memory| {
        let strategy = DeploymentStrategy::prefer(edge.clone());
        builder.deploy_with(strategy).deployments(plan.around(memory.deployments.clone()))
    });
    let test = test.await.unwrap();
    let app = written(&test).await;
    let older = app.deploy(PRODUCTION).await.unwrap();
    let unwritten = plan.clone().nth(Calls::of("deployments", "commit"), 1, Fault::before());
    test.clock.drive(older.outcome()).await.unwrap_err();
    assert_eq!(unwritten.hits().total(), 1);
    let holds = async || !test.memory.bundles.holding(&[older.id()]).await.unwrap().is_empty();
    assert!(holds().await, "it was built");
    let newer = app.deploy(PRODUCTION).await.unwrap();
    // It takes the lease, and then it ends.
    let unheard = plan.nth(Calls::of("deployments", "commit"), 2, Fault::AfterEffect { kind: ErrorKind::Unavailable });
    test.clock.drive(older.outcome()).await.unwrap_err();
    assert_eq!(unheard.hits().total(), 2);
    assert_eq!(older.record().await.unwrap().outcome(), Some(Outcome::Superseded));
    test.clock.drive(newer.outcome()).await.unwrap();
    later(&test, Duration::from_mins(11)).await;
    assert!(!holds().await, "nobody says that it is not needed");
}

/// A newer one ended it while it was built on another machine.
#[tokio::test]
async fn what_is_built_after_its_end_is_not_held() {
    let (edge, plan) = (target("edge"), FaultPlan::new());
    let test = TestPlatform::seeded(7, |builder, _| {
        let strategy = DeploymentStrategy::prefer(edge.clone());
        builder.deploy_with(strategy).builder(plan.around(StaticBuilder))
    });
    let test = test.await.unwrap();
    let elsewhere = TestPlatform::over(test.clock.clone(), test.memory.clone(), |builder, _| {
        builder.deploy_with(DeploymentStrategy::prefer(edge.clone()))
    });
    let elsewhere = elsewhere.await.unwrap();
    let app = written(&test).await;
    let plan = plan.clock(Arc::new(test.clock.clone()));
    let _slow = plan.nth(Calls::of("builder", "build"), 1, Fault::Delay(Duration::from_mins(1)));
    let older = app.deploy(PRODUCTION).await.unwrap();
    let beside = async {
        test.clock.sleep(Duration::from_secs(1)).await;
        let newer = elsewhere.app("todo42").await.deploy(PRODUCTION).await.unwrap();
        assert_eq!(live_on(&newer.outcome().await.unwrap()), "edge");
        elsewhere.platform.work().await.unwrap();
        assert_eq!(older.record().await.unwrap().outcome(), Some(Outcome::Superseded));
    };
    let (outcome, ()) = Box::pin(test.clock.drive(async { tokio::join!(older.outcome(), beside) })).await;
    assert_eq!(outcome.unwrap(), Outcome::Superseded);
    assert!(test.memory.bundles.holding(&[older.id()]).await.unwrap().is_empty());
}
