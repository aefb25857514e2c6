//! Targets that fail, lie, or come late.

use crate::common::{
    Late, PRODUCTION, assert_live, deploy, deployed, later, live_on, platform, scope, target, written,
};
use async_trait::async_trait;
use overskill_core::{
    AppHandle, Around, Clock as _, DeploymentEvent, DeploymentId, DeploymentStrategy, DeploymentTarget as _, Drift,
    Effect, ErrorKind, Failback, Fallback, Fence, Fencing, Health, HealthGate, IdsExt as _, ObservedState, Operation,
    OperatorChoice, Outcome, Policy, Readiness, Result, Route, RouteTable, Scope, SeededIds, TargetInfo, TestClock,
    Timestamp,
    memory::{MemoryBackends, MemoryProbe, MemoryRoutes, MemoryTarget, StaticBuilder},
};
use overskill_testkit::{
    TestPlatform,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[tokio::test]
async fn a_fault_of_the_target_after_it_committed_is_adopted_and_no_second_target_is_asked() {
    for kind in [ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::Unexpected] {
        let plan = FaultPlan::new().nth(Calls::of("target", "activate"), 1, Fault::AfterEffect { kind });
        let (first, second) = (target("first"), target("second"));
        let test = platform(DeploymentStrategy::prefer(plan.around(first.clone())).then(second.clone())).await;
        let app = written(&test).await;
        let d = deploy(&test, &app, "one").await;
        assert_eq!(live_on(&d.outcome), "first", "{kind}: {}", d.story);
        assert_live(&test, d.id, &first).await;
        assert_eq!(second.observe(&scope()).await.unwrap(), []);
        assert!(d.story.contains("it had landed, adopted"), "{}", d.story);
    }
}

#[tokio::test]
async fn a_request_that_is_wrong_goes_to_no_other_target() {
    let fault = Fault::BeforeEffect { kind: ErrorKind::Invalid, effect: Effect::None };
    let plan = FaultPlan::new().always(Calls::of("target", "stage"), fault);
    let second = target("second");
    let test = platform(DeploymentStrategy::prefer(plan.around(target("first"))).then(second.clone())).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    assert!(matches!(d.outcome, Outcome::Failed { .. }), "{}", d.story);
    assert_eq!(second.observe(&scope()).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_too_large_for_the_first_goes_to_the_second() {
    let mut small = TargetInfo::new("small".try_into().unwrap(), "memory");
    small.max_artifact_bytes = 10;
    let second = target("second");
    let test = platform(DeploymentStrategy::prefer(MemoryTarget::with(small)).then(second.clone())).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "more than ten bytes").await;
    assert_eq!(live_on(&d.outcome), "second");
    assert!(d.story.contains("artifact must be at most 10 bytes, but has 19"), "{}", d.story);
}

/// The first takes the activation long after the second serves: it is never live, and a sweep removes it.
#[tokio::test]
async fn a_fallback_that_serves_is_not_disturbed_by_the_first_coming_late() {
    let (late, second) = (Late::new(target("first"), false), target("second"));
    let test = platform(DeploymentStrategy::prefer(late.clone()).then(second.clone())).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    assert_eq!(live_on(&d.outcome), "second", "{}", d.story);
    late.arrive().await.unwrap();
    assert_live(&test, d.id, &second).await;
    assert!(late.inner.serving(&scope()).is_some(), "it is there, and nobody is sent to it");
    assert_eq!(app.reconcile(PRODUCTION).await.unwrap().strays.len(), 1);

    later(&test, Duration::from_mins(11)).await;
    assert_eq!(late.inner.observe(&scope()).await.unwrap(), [], "swept");
    assert_live(&test, d.id, &second).await;
    let record = app.deployment(d.id).await.unwrap();
    assert!(matches!(record.events().last().unwrap().event, DeploymentEvent::Swept { .. }), "{}", record.timeline());
    assert!(record.leftovers().is_empty());
    // Once is enough.
    later(&test, Duration::from_hours(1)).await;
    assert_eq!(app.deployment(d.id).await.unwrap().events().len(), record.events().len());
}

/// Where old fences are taken, what comes late takes the traffic; a sweep gives it back.
#[tokio::test]
async fn where_fences_are_only_observed_a_late_arrival_is_undone_within_one_sweep() {
    let mut info = TargetInfo::new("first".try_into().unwrap(), "memory");
    info.fencing = Fencing::Observed;
    info.keeps_previous = true;
    let late = Late::new(MemoryTarget::with(info), true);
    let test = platform(DeploymentStrategy::prefer(late.clone()).then(target("second"))).await;
    let app = written(&test).await;
    // The first deployment is superseded while its activation hangs: it is tried again, and lands at the second try.
    let old = app.deploy(PRODUCTION).await.unwrap();
    let lost = test.clock.drive(old.outcome()).await.unwrap();
    assert_eq!(live_on(&lost), "first");
    let new = deploy(&test, &app, "two").await;
    assert_eq!(live_on(&new.outcome), "first");
    late.arrive().await.unwrap();
    assert_eq!(late.inner.serving(&scope()).unwrap().0, old.id(), "the old one has the traffic");
    let found = app.reconcile(PRODUCTION).await.unwrap();
    assert_eq!(found.drift, Drift::Drifted { wanted: new.id, serves: Some(old.id()) });

    later(&test, Duration::from_mins(11)).await;
    assert_live(&test, new.id, &late.inner).await;
    assert_eq!(app.reconcile(PRODUCTION).await.unwrap().drift, Drift::InSync);
    let record = app.deployment(old.id()).await.unwrap();
    assert!(matches!(record.events().last().unwrap().event, DeploymentEvent::Swept { .. }), "{}", record.timeline());
    // The old one is the version before again, and kept.
    let kept = late.inner.observe(&scope()).await.unwrap();
    assert!(kept.iter().any(|o| o.id == Some(old.id()) && o.state == ObservedState::Previous), "{kept:?}");
    let events = record.events().len();
    later(&test, Duration::from_hours(1)).await;
    assert_eq!(app.deployment(old.id()).await.unwrap().events().len(), events, "once is enough");
}

/// Nobody has to wait for a sweep: whoever sees it says so.
#[tokio::test]
async fn what_drifted_is_restored_at_once_when_somebody_asks_for_it() {
    let (late, test, app, old, new) = drifted().await;
    assert_eq!(late.inner.serving(&scope()).unwrap().0, old);
    app.restore(PRODUCTION).await.unwrap();
    assert_live(&test, new, &late.inner).await;
}

/// The activation that restores the route may come late itself.
#[tokio::test]
async fn a_restoration_that_comes_late_is_undone_too() {
    let (late, test, app, _, new) = drifted().await;
    late.hold_next();
    test.clock.drive(app.restore(PRODUCTION)).await.unwrap(); // at the second try
    let newest = deploy(&test, &app, "three").await;
    assert_live(&test, newest.id, &late.inner).await;
    late.arrive().await.unwrap();
    assert_eq!(late.inner.serving(&scope()).unwrap().0, new, "what was restored has the traffic");
    later(&test, Duration::from_mins(11)).await;
    assert_live(&test, newest.id, &late.inner).await;
}

/// What a sweep itself made live again may come late, over something newer than the deployment that is swept.
#[tokio::test]
async fn what_a_sweep_makes_live_late_is_undone_whoever_is_newer() {
    let (late, test, app, _, new) = drifted().await;
    late.hold_next();
    later(&test, Duration::from_mins(11)).await; // restored at the second try; the first is on its way
    assert_live(&test, new, &late.inner).await;
    let newest = deploy(&test, &app, "three").await;
    late.arrive().await.unwrap();
    assert_eq!(late.inner.serving(&scope()).unwrap().0, new);
    later(&test, Duration::from_mins(11)).await;
    assert_live(&test, newest.id, &late.inner).await;
}

/// It fell back, and the first target may hold something of it: that it is made live once more changes nothing of what is
/// due.
#[tokio::test]
async fn a_restoration_forgets_nothing_that_is_due() {
    let (late, second) = (Late::new(target("first"), false), target("second"));
    let strategy = DeploymentStrategy::prefer(late.clone()).then(second.clone());
    let test = platform(strategy.failback(Failback::After(Duration::from_mins(30)))).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    assert_eq!(live_on(&d.outcome), "second");
    late.arrive().await.unwrap();
    test.clock.advance(Duration::from_mins(2));
    app.restore(PRODUCTION).await.unwrap();
    later(&test, Duration::from_secs(1)).await;
    later(&test, Duration::from_mins(11)).await;
    assert_eq!(late.inner.observe(&scope()).await.unwrap(), [], "swept");
    for _ in 0..3 {
        later(&test, Duration::from_mins(10)).await;
    }
    assert_eq!(test.memory.routes.get(&scope()).await.unwrap().unwrap().target.as_str(), "first", "it went back");
}

/// A person is asked whether it runs; meanwhile it turns up, on a target that refuses old fences, for its own is the newest.
#[tokio::test]
async fn what_turns_up_while_a_person_is_asked_has_no_traffic_for_long() {
    let late = Late::new(target("first"), false);
    let strategy =
        DeploymentStrategy::prefer(late.clone()).fall_back(Fallback::Cautious).ask_operator(Duration::from_hours(24));
    let test = platform(strategy).await;
    let app = written(&test).await;
    late.let_through();
    let good = deploy(&test, &app, "one").await;
    late.hold_next();
    let asks = deploy(&test, &app, "two").await;
    assert!(!asks.outcome.is_final(), "{}", asks.story);
    late.arrive().await.unwrap();
    assert_eq!(late.inner.serving(&scope()).unwrap().0, asks.id);
    later(&test, Duration::from_mins(11)).await;
    assert_live(&test, good.id, &late.inner).await;
    // The question stands, and an answer is taken.
    app.answer(asks.id, OperatorChoice::Retry).await.unwrap();
    let resumed = app.resume(asks.id).await.unwrap();
    assert_eq!(live_on(&test.clock.drive(resumed.outcome()).await.unwrap()), "first");
    assert_live(&test, asks.id, &late.inner).await;
}

#[tokio::test]
async fn a_gate_may_take_longer_than_a_lease() {
    let count = |n| std::num::NonZeroU32::new(n).unwrap();
    let gate = || HealthGate::new(MemoryProbe::new()).passes(count(9), count(10)).every(Duration::from_mins(2));
    let edge = target("edge");
    let test = platform(DeploymentStrategy::prefer(edge.clone()).gate_staged(gate()).gate_live(gate())).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    assert_eq!(live_on(&d.outcome), "edge", "{}", d.story);
    let drives = d.events.iter().filter(|e| matches!(e, DeploymentEvent::Leased { .. })).count();
    assert_eq!(drives, 1, "{}", d.story);
}

/// A registry is down: what waits for it does not keep anybody else waiting, and does not wait for ever.
#[tokio::test]
async fn builds_that_cannot_be_made_now_do_not_fill_the_rounds() {
    let plan = FaultPlan::new().always(Calls::of("builder", "build"), Fault::before());
    let edge = target("edge");
    let test = TestPlatform::seeded(7, |builder, _| {
        builder.deploy_with(DeploymentStrategy::prefer(edge.clone())).builder(plan.around(StaticBuilder))
    });
    let test = test.await.unwrap();
    plan.pause();
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    plan.resume();
    let mut stuck = Vec::new();
    for n in 0..20 {
        let app = test.app(&format!("app{n}")).await;
        app.write([("index.html", "hi")]).await.unwrap();
        stuck.push((app.clone(), app.deploy(PRODUCTION).await.unwrap().id()));
    }
    later(&test, Duration::from_secs(1)).await;
    // It needs no build, and comes after twenty that do.
    let promoted = app.promote(PRODUCTION, PRODUCTION).await.unwrap();
    later(&test, Duration::from_secs(1)).await;
    let record = app.deployment(promoted.id()).await.unwrap();
    assert!(matches!(record.outcome(), Some(Outcome::Active { .. })), "{}", record.timeline());
    assert!(promoted.id() > good.id);
    // After an hour they are given up.
    for _ in 0..4 {
        later(&test, Duration::from_mins(31)).await;
        later(&test, Duration::from_secs(1)).await;
    }
    for (app, id) in stuck {
        let record = app.deployment(id).await.unwrap();
        assert!(matches!(record.outcome(), Some(Outcome::Failed { .. })), "{}", record.timeline());
    }
}

/// Who asked for it drives it, and so does the background, and somebody else who asks how it went: it is built once.
#[tokio::test]
async fn nobody_drives_what_is_driven_already() {
    let clock = TestClock::new();
    let plan = FaultPlan::new().clock(Arc::new(clock.clone()));
    let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(7)));
    let strategy = DeploymentStrategy::prefer(plan.around(target("edge")));
    let test = TestPlatform::over(clock, memory, |builder, _| {
        builder.deploy_with(strategy).builder(plan.around(StaticBuilder))
    });
    let test = test.await.unwrap();
    let slow = Fault::Delay(Duration::from_mins(3));
    let plan = plan.always(Calls::of("builder", "build"), slow);
    let app = written(&test).await;
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    let asked = async { tokio::join!(deployment.outcome(), deployment.outcome()) };
    let all = async {
        tokio::select! { () = test.platform.run(std::future::pending()) => panic!(), outcomes = asked => outcomes }
    };
    let (one, other) = Box::pin(test.clock.drive(all)).await;
    assert_eq!((live_on(&one.unwrap()), live_on(&other.unwrap())), ("edge", "edge"));
    assert_eq!(plan.calls(&Calls::of("builder", "build")), 1);
    assert_eq!(plan.calls(&Calls::of("target", "observe")), 1, "one look at where it goes");
}

/// One app's build takes its time: what is asked for meanwhile is driven all the same.
#[tokio::test]
async fn a_long_build_keeps_nobody_waiting_in_the_background() {
    let clock = TestClock::new();
    let plan = FaultPlan::new().clock(Arc::new(clock.clone()));
    let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(7)));
    let strategy = DeploymentStrategy::prefer(target("edge"));
    let test = TestPlatform::over(clock, memory, |builder, _| {
        builder.deploy_with(strategy).builder(plan.around(StaticBuilder))
    });
    let test = test.await.unwrap();
    let plan = plan.nth(Calls::of("builder", "build"), 1, Fault::Delay(Duration::from_mins(9)));
    let slow = written(&test).await.deploy(PRODUCTION).await.unwrap();
    let quick = async {
        test.clock.sleep(Duration::from_mins(1)).await;
        let app = test.app("quick").await;
        app.write([("index.html", "hi")]).await.unwrap();
        let quick = app.deploy(PRODUCTION).await.unwrap();
        test.clock.sleep(Duration::from_mins(1)).await;
        (quick.record().await.unwrap(), slow.record().await.unwrap())
    };
    let host = async {
        tokio::select! { () = test.platform.run(std::future::pending()) => panic!(), seen = quick => seen }
    };
    let (quick, slow) = Box::pin(test.clock.drive(host)).await;
    assert_eq!(plan.hits().total(), 1);
    assert!(quick.end().is_some(), "{}", quick.timeline());
    assert!(slow.end().is_none(), "it is still built: {}", slow.timeline());
}

#[tokio::test]
async fn what_passes_before_it_has_traffic_may_fail_with_it() {
    let (well, sick) = (MemoryProbe::new(), MemoryProbe::new());
    let edge = target("edge");
    let strategy = DeploymentStrategy::prefer(edge.clone())
        .then(target("second"))
        .gate_staged(HealthGate::new(well))
        .gate_live(HealthGate::new(sick.clone()));
    let test = platform(strategy).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    sick.otherwise(Health::Unhealthy { reason: "500 under load".into() });
    let d = deploy(&test, &app, "two").await;
    assert!(matches!(&d.outcome, Outcome::RolledBack { reason } if reason.contains("500 under load")), "{}", d.story);
    assert!(d.story.contains("staged gate passed") && d.story.contains("live gate failed"), "{}", d.story);
    assert_live(&test, good.id, &edge).await;
}

/// A process dies while it sweeps: what it swept is swept by another.
#[tokio::test]
async fn a_sweep_that_breaks_off_is_done_again() {
    for (commit, fault) in [(1, Fault::HangAfter), (2, Fault::HangAfter), (2, Fault::before())] {
        let plan = FaultPlan::new();
        let (late, second) = (Late::new(target("first"), false), target("second"));
        let strategy = DeploymentStrategy::prefer(late.clone()).then(second.clone());
        let test = overskill_testkit::TestPlatform::seeded(7, |builder, memory| {
            let strategy = strategy.attempt_timeout(Duration::from_secs(10));
            builder.deploy_with(strategy).deployments(plan.around(memory.deployments.clone()))
        });
        let test = test.await.unwrap();
        let app = written(&test).await;
        let d = deploy(&test, &app, "one").await;
        late.arrive().await.unwrap();
        let plan = plan.nth(Calls::of("deployments", "commit"), commit, fault);
        test.clock.advance(Duration::from_mins(11));
        let limit = test.clock.sleep(Duration::from_mins(1));
        test.clock
            .drive(async {
                tokio::select! { _ = test.platform.work() => {}, () = limit => {} }
            })
            .await;
        assert_eq!(plan.hits().total(), 1, "it broke off");
        // When the lease has run out; or when a sweep that failed is tried again.
        later(&test, Duration::from_mins(5)).await;
        later(&test, Duration::from_mins(20)).await;
        assert_eq!(late.inner.observe(&scope()).await.unwrap(), [], "commit {commit}: swept");
        assert_live(&test, d.id, &second).await;
    }
}

/// One looks at the route, and asks a target that takes its time; meanwhile a newer one goes live and is done.
#[tokio::test]
async fn who_was_overtaken_while_it_asked_its_targets_gives_way() {
    for restores in [false, true] {
        let clock = TestClock::new();
        let plan = FaultPlan::new().clock(Arc::new(clock.clone()));
        let edge = target("edge");
        let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(7)));
        let strategy = DeploymentStrategy::prefer(plan.around(edge.clone())).attempt_timeout(Duration::from_secs(10));
        let test = TestPlatform::over(clock, memory, |builder, _| builder.deploy_with(strategy)).await.unwrap();
        let app = written(&test).await;
        deploy(&test, &app, "one").await;
        let plan = plan.nth(Calls::of("target", "observe"), 1, Fault::Delay(Duration::from_secs(9)));
        let older = app.deploy(PRODUCTION).await.unwrap();
        let slow = async {
            if restores { app.restore(PRODUCTION).await.map(|()| None) } else { older.outcome().await.map(Some) }
        };
        let newer = async {
            test.clock.sleep(Duration::from_secs(1)).await;
            let newer = app.promote(PRODUCTION, PRODUCTION).await.unwrap();
            (newer.id(), newer.outcome().await.unwrap())
        };
        let (slow, (newer, outcome)) = Box::pin(test.clock.drive(async { tokio::join!(slow, newer) })).await;
        assert_eq!(plan.hits().total(), 1);
        assert_eq!(live_on(&outcome), "edge");
        match slow {
            Ok(Some(outcome)) => assert_eq!(outcome, Outcome::Superseded),
            Err(e) if restores => assert_eq!(e.kind(), ErrorKind::Conflict, "{e}"),
            other => panic!("{other:?}"),
        }
        assert_live(&test, newer, &edge).await;
    }
}

/// Nobody took it, and a person is asked; or it waits, for all it may go to are busy. What was never answered turns up
/// meanwhile.
#[tokio::test]
async fn what_turns_up_while_it_waits_for_whatever_has_no_traffic_for_long() {
    for (waits, down) in [(false, false), (true, false), (true, true)] {
        let late = Late::new(target("first"), false);
        let (plan, unreachable) = (FaultPlan::new(), FaultPlan::new());
        let strategy = DeploymentStrategy::prefer(unreachable.around(late.clone()))
            .then(plan.around(target("second")))
            .tries_per_target(std::num::NonZeroU32::MIN);
        let strategy = if waits {
            strategy.breaker(std::num::NonZeroU32::MIN, Duration::from_mins(40))
        } else {
            strategy.ask_operator(Duration::from_hours(24))
        };
        let test = platform(strategy).await;
        let app = written(&test).await;
        late.let_through();
        let good = deploy(&test, &app, "one").await;
        let _plan = plan.always(Calls::of("target", "stage"), Fault::before());
        late.hold_next();
        app.write([("index.html", "two")]).await.unwrap();
        let doubtful = app.deploy(PRODUCTION).await.unwrap();
        later(&test, Duration::from_millis(1)).await;
        let record = app.deployment(doubtful.id()).await.unwrap();
        assert!(record.end().is_none() && !record.unanswered().is_empty(), "{}", record.timeline());
        assert_eq!(record.waits_until().is_some(), waits, "{}", record.timeline());
        late.arrive().await.unwrap();
        assert_eq!(late.inner.serving(&scope()).unwrap().0, doubtful.id());
        let unreachable = unreachable.always(Calls::of_seam("target"), Fault::before());
        if !down {
            unreachable.pause();
        }
        later(&test, Duration::from_mins(11)).await;
        if down {
            // Nobody can look now: it waits on, and whoever waits for it hears nothing of that.
            let record = app.deployment(doubtful.id()).await.unwrap();
            assert!(record.waits_until().is_some(), "{}", record.timeline());
            unreachable.pause();
            later(&test, Duration::from_mins(11)).await;
        }
        assert_live(&test, good.id, &late.inner).await;
    }
}

/// Two are live one after the other where old fences are taken, then the first comes late a second time.
async fn drifted() -> (Late, TestPlatform, AppHandle, DeploymentId, DeploymentId) {
    let mut info = TargetInfo::new("first".try_into().unwrap(), "memory");
    info.fencing = Fencing::Observed;
    info.keeps_previous = true;
    let late = Late::new(MemoryTarget::with(info), true);
    let two = std::num::NonZeroU32::MIN.saturating_add(1);
    let test = platform(DeploymentStrategy::prefer(late.clone()).tries_per_target(two)).await;
    let app = written(&test).await;
    let old = deploy(&test, &app, "one").await;
    let new = deploy(&test, &app, "two").await;
    late.arrive().await.unwrap();
    (late, test, app, old.id, new.id)
}

#[tokio::test]
async fn an_older_activation_that_comes_late_to_an_enforcing_target_is_refused() {
    let late = Late::new(target("first"), true);
    let test = platform(DeploymentStrategy::prefer(late.clone())).await;
    let app = written(&test).await;
    let old = deploy(&test, &app, "one").await;
    let new = deploy(&test, &app, "two").await;
    assert_eq!((live_on(&old.outcome), live_on(&new.outcome)), ("first", "first"));
    assert_eq!(late.arrive().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_live(&test, new.id, &late.inner).await;
}

#[tokio::test]
async fn a_lease_that_is_lost_midway_ends_the_drive_and_not_the_deployment() {
    let clock = TestClock::new();
    let slow = Fault::Delay(Duration::from_secs(9));
    let plan = FaultPlan::new().clock(Arc::new(clock.clone())).nth(Calls::of("target", "stage"), 1, slow);
    let edge = target("edge");
    let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(7)));
    let strategy = DeploymentStrategy::prefer(plan.around(edge.clone())).attempt_timeout(Duration::from_secs(10));
    let test = TestPlatform::over(clock, memory, |builder, _| builder.deploy_with(strategy)).await.unwrap();
    let app = written(&test).await;
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    let outcome = async {
        let ended = deployment.outcome();
        futures::pin_mut!(ended);
        for _ in 0..40 {
            if let std::task::Poll::Ready(done) = futures::poll!(&mut ended) {
                return done;
            }
            tokio::task::yield_now().await;
        }
        // The machine sleeps for an hour in the middle of staging: the lease has run out when it wakes.
        test.clock.skew_millis(3_600_000);
        test.clock.drive(ended).await
    };
    let outcome = outcome.await.unwrap();
    assert_eq!(live_on(&outcome), "edge");
    let d = deployed(&app, deployment.id(), outcome).await;
    let drives = d.events.iter().filter(|e| matches!(e, DeploymentEvent::Leased { .. })).count();
    assert!(drives >= 2, "{}", d.story);
    assert_live(&test, d.id, &edge).await;
}

#[tokio::test]
async fn a_hundred_apps_at_once_do_not_wait_for_each_other() {
    let edge = target("edge");
    let test = platform(DeploymentStrategy::prefer(edge.clone())).await;
    let mut deployments = Vec::new();
    for n in 0..100 {
        let app = test.app(&format!("app{n}")).await;
        app.write([("index.html", format!("app {n}"))]).await.unwrap();
        deployments.push(app.deploy(PRODUCTION).await.unwrap());
    }
    let start = test.clock.monotonic();
    let outcomes = futures::future::join_all(deployments.iter().map(overskill_core::Deployment::outcome));
    for outcome in test.clock.drive(outcomes).await {
        assert_eq!(live_on(&outcome.unwrap()), "edge");
    }
    assert!(test.clock.monotonic().saturating_sub(start) < Duration::from_secs(1));
}

#[tokio::test]
async fn a_record_that_cannot_be_written_after_the_target_succeeded_is_caught_up_with() {
    for commit in 2..6 {
        let edge = target("edge");
        let plan = FaultPlan::new().nth(Calls::of("deployments", "commit"), commit, Fault::before());
        let strategy = DeploymentStrategy::prefer(edge.clone());
        let test = overskill_testkit::TestPlatform::seeded(7, |builder, memory| {
            builder.deploy_with(strategy).deployments(plan.around(memory.deployments.clone()))
        });
        let test = test.await.unwrap();
        let app = written(&test).await;
        let deployment = app.deploy(PRODUCTION).await.unwrap();
        let _ = test.clock.drive(deployment.outcome()).await; // this drive may fail
        later(&test, Duration::from_mins(5)).await;
        let outcome = test.clock.drive(deployment.outcome()).await.unwrap();
        assert_eq!(live_on(&outcome), "edge", "commit {commit}");
        assert_live(&test, deployment.id(), &edge).await;
    }
}

#[tokio::test]
async fn an_eager_fallback_names_what_is_unsettled_and_a_cautious_one_fails_without_an_operator() {
    for (fallback, live) in [(Fallback::Eager, true), (Fallback::Cautious, false)] {
        let late = Late::new(target("first"), false);
        let strategy = DeploymentStrategy::prefer(late.clone()).then(target("second")).fall_back(fallback);
        let test = platform(strategy).await;
        let app = written(&test).await;
        let d = deploy(&test, &app, "one").await;
        assert_eq!(matches!(d.outcome, Outcome::Active { .. }), live, "{}", d.story);
        assert!(d.events.iter().any(|e| matches!(e, DeploymentEvent::Unsettled { .. })), "{}", d.story);
    }
}

#[tokio::test]
async fn what_is_queued_gives_way_to_what_is_newer() {
    let test = platform(DeploymentStrategy::prefer(target("edge"))).await;
    let app = written(&test).await;
    let older = app.deploy(PRODUCTION).await.unwrap();
    let newer = app.deploy(PRODUCTION).await.unwrap();
    assert_eq!(test.clock.drive(older.outcome()).await.unwrap(), Outcome::Superseded);
    assert_eq!(app.route(PRODUCTION).await.unwrap(), None, "nothing of the older one was live");
    let outcome = test.clock.drive(newer.outcome()).await.unwrap();
    assert_eq!(live_on(&outcome), "edge");
}

/// Holds the first build until it is let go.
#[derive(Clone, Debug, Default)]
struct Slow(Arc<(AtomicBool, tokio::sync::Notify)>);

impl Policy for Slow {
    async fn run<'a, T, F, Fut>(&'a self, operation: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        if operation.name == "build" && !self.0.0.swap(true, Ordering::SeqCst) {
            self.0.1.notified().await;
        }
        call().await
    }
}

#[tokio::test]
async fn a_build_that_ends_late_does_not_take_the_place_of_what_is_newer() {
    let slow = Slow::default();
    let test = TestPlatform::seeded(7, |builder, _| {
        let builds = Around::with_policy(StaticBuilder, slow.clone());
        builder.deploy_with(DeploymentStrategy::prefer(target("edge"))).builder(builds)
    });
    let test = test.await.unwrap();
    let app = written(&test).await;
    let older = app.deploy(PRODUCTION).await.unwrap();
    let newer = async {
        let newer = deploy(&test, &app, "two").await;
        slow.0.1.notify_one();
        newer
    };
    let (outcome, newer) = tokio::join!(older.outcome(), newer);
    assert_eq!(live_on(&newer.outcome), "edge", "{}", newer.story);
    let older = deployed(&app, older.id(), outcome.unwrap()).await;
    assert_eq!(older.outcome, Outcome::Superseded, "{}", older.story);
    assert_eq!(test.memory.routes.get(&scope()).await.unwrap().unwrap().deployment, newer.id);
}

/// Routes where somebody else is a moment earlier.
#[derive(Debug)]
struct Overtaking {
    inner: MemoryRoutes,
    by: Mutex<Option<DeploymentId>>,
}

#[async_trait]
impl RouteTable for Overtaking {
    fn staleness(&self) -> Duration {
        self.inner.staleness()
    }

    async fn check(&self) -> Result<Readiness> {
        self.inner.check().await
    }

    async fn get(&self, scope: &Scope) -> Result<Option<Route>> {
        self.inner.get(scope).await
    }

    async fn set(&self, scope: &Scope, route: &Route) -> Result<()> {
        let by = self.by.lock().unwrap().take();
        if let Some(by) = by {
            let fence = Fence::from_u64(route.fence.as_u64() + 5);
            let other = Route::new(route.target.clone(), by, route.handle.clone(), fence);
            self.inner.set(scope, &other).await?;
        }
        self.inner.set(scope, route).await
    }

    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()> {
        self.inner.clear(scope, fence).await
    }

    async fn fence(&self, scope: &Scope) -> Result<Fence> {
        self.inner.fence(scope).await
    }
}

#[tokio::test]
async fn who_is_overtaken_at_the_route_does_not_believe_to_be_live() {
    let by = DeploymentId::from_uuid(SeededIds::new(9).uuid_v7(Timestamp::EPOCH));
    let test = TestPlatform::seeded(7, |builder, memory| {
        let routes = Overtaking { inner: memory.routes.clone(), by: Mutex::new(Some(by)) };
        builder.deploy_with(DeploymentStrategy::prefer(target("edge"))).routes(routes)
    });
    let test = test.await.unwrap();
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    assert_eq!(d.outcome, Outcome::Superseded, "{}", d.story);
    assert_eq!(test.memory.routes.get(&scope()).await.unwrap().unwrap().deployment, by);
}

/// What a store keeps is damaged: that is said, and the deployment does not come again for ever.
#[tokio::test]
async fn what_cannot_be_read_ends_it() {
    let damaged = || Fault::BeforeEffect { kind: ErrorKind::Unexpected, effect: Effect::None };
    for (seam, call, word) in [("bundles", "get", "artifact"), ("files", "snapshot", "sources")] {
        let plan = FaultPlan::new();
        let around = plan.clone();
        let test = TestPlatform::seeded(7, move |builder, memory| {
            builder.bundles(around.around(memory.bundles.clone())).files(around.around(memory.files.clone()))
        });
        let test = test.await.unwrap();
        let app = written(&test).await;
        let good = deploy(&test, &app, "one").await;
        let (promoted, unread) = if seam == "bundles" {
            let promoted = app.promote(PRODUCTION, PRODUCTION).await.unwrap();
            (promoted, plan.nth(Calls::of(seam, call), 1, damaged()))
        } else {
            // Who asks for it reads them too.
            let plan = plan.nth(Calls::of(seam, call), 2, damaged());
            (app.deploy(PRODUCTION).await.unwrap(), plan)
        };
        let outcome = test.clock.drive(promoted.outcome()).await.unwrap();
        assert_eq!(unread.hits().total(), 1);
        assert!(matches!(&outcome, Outcome::Failed { reason } if reason.contains(word)), "{outcome}");
        let route = test.memory.routes.get(&scope()).await.unwrap().unwrap();
        assert_eq!(route.deployment, good.id);
    }
}
