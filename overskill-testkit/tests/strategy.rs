//! Deployments in their simple form, under faults: one active version, and nothing done twice on an unknown outcome.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use overskill_core::{
    AppHandle, BackendName, BundleStore as _, Clock as _, DeploymentEvent, DeploymentId, DeploymentStrategy,
    Environment, ErrorKind, Fallback, Notice, Outcome, RouteTable, Scope, TargetInfo, To,
    memory::{MemoryNotifier, MemoryTarget},
};
use overskill_testkit::{
    TestPlatform,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{future::Future, pin::pin, time::Duration};

const PRODUCTION: Environment = Environment::Production;

fn target(name: &str) -> MemoryTarget {
    MemoryTarget::new(BackendName::parse(name).unwrap())
}

/// A platform whose first target fails as `plan` says; the second is well.
async fn two_targets(plan: &FaultPlan, fallback: Fallback) -> (TestPlatform, MemoryTarget, MemoryTarget) {
    let (first, second) = (target("first"), target("second"));
    let strategy = DeploymentStrategy::prefer(plan.around(first.clone()))
        .then(second.clone())
        .fall_back(fallback)
        .attempt_timeout(Duration::from_secs(10));
    let test = TestPlatform::seeded(7, |builder, _| builder.deploy_with(strategy)).await.unwrap();
    (test, first, second)
}

async fn written(test: &TestPlatform) -> AppHandle {
    let app = test.app("todo42").await;
    app.write([("index.html", "one")]).await.unwrap();
    app
}

async fn deploy(test: &TestPlatform, app: &AppHandle) -> (DeploymentId, Outcome, Vec<DeploymentEvent>) {
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    let outcome = test.clock.drive(deployment.outcome()).await.unwrap();
    let events = deployment.record().await.unwrap().events().iter().map(|e| e.event.clone()).collect();
    (deployment.id(), outcome, events)
}

fn live_on(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Active { target, .. } => target.as_str(),
        other => panic!("not live: {other}"),
    }
}

fn scope() -> Scope {
    Scope::new("todo42".try_into().unwrap(), PRODUCTION)
}

#[tokio::test]
async fn the_happy_path_writes_intent_before_each_effect_and_routes_last() {
    let plan = FaultPlan::new();
    let (test, first, second) = two_targets(&plan, Fallback::Eager).await;
    let app = written(&test).await;
    let (id, outcome, events) = deploy(&test, &app).await;
    assert_eq!(live_on(&outcome), "first");
    let words: Vec<_> =
        events.iter().map(|e| serde_json::to_value(e).unwrap()["event"].as_str().unwrap().to_owned()).collect();
    let story = [
        "requested",
        "build_started",
        "built",
        "leased",
        "staging",
        "staged",
        "activating",
        "activated",
        "routing",
        "ended",
    ];
    assert_eq!(words, story);
    let route = test.memory.routes.get(&scope()).await.unwrap().unwrap();
    assert_eq!((route.deployment, first.serving(&scope()).unwrap().0), (id, id));
    assert!(second.serving(&scope()).is_none());
}

#[tokio::test]
async fn a_target_that_is_down_is_tried_three_times_then_the_next_serves() {
    let plan = FaultPlan::new().always(Calls::named("stage"), Fault::before());
    let (test, _, second) = two_targets(&plan, Fallback::Cautious).await;
    let app = written(&test).await;
    let (_, outcome, _) = deploy(&test, &app).await;
    assert_eq!(live_on(&outcome), "second");
    assert_eq!(plan.calls(&Calls::named("stage")), 3);
    assert!(second.serving(&scope()).is_some());
}

#[tokio::test]
async fn an_activation_that_landed_without_an_answer_is_adopted_not_repeated() {
    for fault in [Fault::after(), Fault::HangAfter] {
        let plan = FaultPlan::new().nth(Calls::named("activate"), 1, fault);
        let (test, first, second) = two_targets(&plan, Fallback::Eager).await;
        let app = written(&test).await;
        let (id, outcome, events) = deploy(&test, &app).await;
        assert_eq!(live_on(&outcome), "first", "{fault}");
        assert_eq!(plan.calls(&Calls::named("activate")), 1, "{fault}: it was done twice");
        assert!(
            events.contains(&DeploymentEvent::Observed { target: BackendName::parse("first").unwrap(), adopted: true })
        );
        assert_eq!(first.serving(&scope()).unwrap().0, id);
        assert!(second.serving(&scope()).is_none());
    }
}

#[tokio::test]
async fn an_activation_that_did_not_land_is_tried_again_after_asking() {
    let unknown = Fault::BeforeEffect { kind: ErrorKind::Unavailable, effect: overskill_core::Effect::Unknown };
    let plan = FaultPlan::new().nth(Calls::named("activate"), 1, unknown);
    let (test, ..) = two_targets(&plan, Fallback::Eager).await;
    let app = written(&test).await;
    let (_, outcome, _) = deploy(&test, &app).await;
    assert_eq!(live_on(&outcome), "first");
    assert_eq!(plan.calls(&Calls::named("status")), 1);
}

#[tokio::test]
async fn an_outcome_that_stays_unknown_falls_back_only_when_eager() {
    let plan = || {
        FaultPlan::new()
            .always(Calls::named("activate"), Fault::after())
            .always(Calls::named("status"), Fault::before())
    };
    let (test, first, _) = two_targets(&plan(), Fallback::Eager).await;
    let app = written(&test).await;
    let (id, outcome, events) = deploy(&test, &app).await;
    assert_eq!(live_on(&outcome), "second");
    assert!(events.contains(&DeploymentEvent::Unsettled { target: BackendName::parse("first").unwrap() }));
    // Both run it, but the route names one, and that is what is live.
    assert_eq!(first.serving(&scope()).unwrap().0, id);
    assert_eq!(test.memory.routes.get(&scope()).await.unwrap().unwrap().target.as_str(), "second");

    let (test, _, second) = two_targets(&plan(), Fallback::Cautious).await;
    let app = written(&test).await;
    let (_, outcome, _) = deploy(&test, &app).await;
    assert!(matches!(&outcome, Outcome::Failed { reason } if reason.contains("stays unknown")), "{outcome}");
    assert!(second.serving(&scope()).is_none());
    assert_eq!(test.memory.routes.get(&scope()).await.unwrap(), None);
}

#[tokio::test]
async fn wrong_credentials_stop_everything_and_a_limit_tries_the_next() {
    let denied = Fault::BeforeEffect { kind: ErrorKind::Unauthenticated, effect: overskill_core::Effect::None };
    let plan = FaultPlan::new().always(Calls::named("stage"), denied);
    let (test, _, second) = two_targets(&plan, Fallback::Eager).await;
    let app = written(&test).await;
    assert!(matches!(deploy(&test, &app).await.1, Outcome::Failed { .. }));
    assert!(second.serving(&scope()).is_none());

    let mut small = TargetInfo::new(BackendName::parse("small").unwrap(), "memory");
    small.max_artifact_bytes = 2;
    let strategy = DeploymentStrategy::prefer(MemoryTarget::with(small)).then(target("large"));
    let test = TestPlatform::seeded(7, |b, _| b.deploy_with(strategy)).await.unwrap();
    let app = written(&test).await;
    assert_eq!(live_on(&deploy(&test, &app).await.1), "large");
}

#[tokio::test]
async fn somebody_is_told_of_a_fallback_and_of_a_failure_and_a_deaf_notifier_changes_nothing() {
    let notifier = MemoryNotifier::new();
    let down = FaultPlan::new().always(Calls::named("stage"), Fault::before());
    let strategy =
        DeploymentStrategy::prefer(down.around(target("first"))).then(target("second")).notify(notifier.clone());
    let test = TestPlatform::seeded(7, |b, _| b.deploy_with(strategy)).await.unwrap();
    let app = written(&test).await;
    deploy(&test, &app).await;
    assert!(matches!(&notifier.notices()[..], [Notice::FellBack { target, .. }] if target.as_str() == "second"));

    let deaf = FaultPlan::new().always(Calls::named("notify"), Fault::before());
    let strategy = DeploymentStrategy::prefer(down.around(target("first"))).notify(deaf.around(notifier.clone()));
    let test = TestPlatform::seeded(7, |b, _| b.deploy_with(strategy)).await.unwrap();
    let app = written(&test).await;
    assert!(matches!(deploy(&test, &app).await.1, Outcome::Failed { .. }));
    assert_eq!(deaf.calls(&Calls::named("notify")), 1);
}

#[tokio::test]
async fn a_newer_deployment_takes_the_place_of_one_that_waits() {
    let (test, first, _) = two_targets(&FaultPlan::new(), Fallback::Eager).await;
    let app = written(&test).await;
    let old = app.deploy(PRODUCTION).await.unwrap();
    app.write([("index.html", "two")]).await.unwrap();
    let new = app.deploy(PRODUCTION).await.unwrap();
    assert_eq!(live_on(&test.clock.drive(new.outcome()).await.unwrap()), "first");
    assert_eq!(test.clock.drive(old.outcome()).await.unwrap(), Outcome::Superseded);
    assert_eq!(first.serving(&scope()).unwrap().0, new.id());
}

#[tokio::test]
async fn rollback_and_promotion_deploy_what_was_built_byte_for_byte() {
    let (test, first, _) = two_targets(&FaultPlan::new(), Fallback::Eager).await;
    let app = written(&test).await;
    let (good, ..) = deploy(&test, &app).await;
    let one = first.serving(&scope()).unwrap().2.digest();
    app.write([("index.html", "two")]).await.unwrap();
    let (bad, ..) = deploy(&test, &app).await;
    assert_ne!(first.serving(&scope()).unwrap().2.digest(), one);

    let back = app.rollback(PRODUCTION, To::LastGood).await.unwrap();
    test.clock.drive(back.outcome()).await.unwrap();
    assert_eq!(first.serving(&scope()).unwrap().2.digest(), one);
    let forth = app.rollback(PRODUCTION, To::Deployment(bad)).await.unwrap();
    test.clock.drive(forth.outcome()).await.unwrap();
    assert_ne!(first.serving(&scope()).unwrap().2.digest(), one);
    let again = app.rollback(PRODUCTION, To::Deployment(good)).await.unwrap();
    test.clock.drive(again.outcome()).await.unwrap();

    let staging = app.promote(PRODUCTION, Environment::Staging).await.unwrap();
    test.clock.drive(staging.outcome()).await.unwrap();
    let staged = Scope::new(app.id().clone(), Environment::Staging);
    assert_eq!(first.serving(&staged).unwrap().2.digest(), one);
    let stranger = test.app("other7").await;
    let e = stranger.rollback(PRODUCTION, To::Deployment(good)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_nobody_awaits_is_driven_in_the_background() {
    let (test, first, _) = two_targets(&FaultPlan::new(), Fallback::Eager).await;
    let app = written(&test).await;
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    assert!(first.serving(&scope()).is_none());
    assert_eq!(test.clock.drive(test.platform.work()).await.unwrap(), 1);
    assert_eq!(first.serving(&scope()).unwrap().0, deployment.id());
    // `run` stops when it is told to.
    test.platform.run(std::future::ready(())).await;
}

/// Polls `future` so often, moving the clock when it waits for nothing else; `None` when it had not ended.
async fn polled<T>(test: &TestPlatform, future: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let once = std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx)));
        if let std::task::Poll::Ready(done) = once.await {
            return Some(done);
        }
        test.clock.advance_to_next_sleeper();
    }
    None
}

/// Everything in memory but the stores and the target is dropped at every poll; a new process goes on from the record.
#[tokio::test]
async fn a_crash_at_any_poll_ends_in_one_active_version() {
    let mut crashes = 0;
    for polls in 0.. {
        // Delays give the deployment moments at which it can be dropped.
        let slow = |plan: FaultPlan| plan.always(Calls::all(), Fault::Delay(Duration::from_millis(3)));
        let edge = target("edge");
        let plan = |test: &TestPlatform| slow(FaultPlan::new().clock(std::sync::Arc::new(test.clock.clone())));
        let first = TestPlatform::seeded(7, |b, _| b).await.unwrap();
        let wrap = |test: &TestPlatform| {
            let plan = plan(test);
            let memory = test.memory.clone();
            let strategy = DeploymentStrategy::prefer(plan.around(edge.clone()));
            TestPlatform::over(test.clock.clone(), test.memory.clone(), move |b, _| {
                b.deploy_with(strategy)
                    .deployments(plan.around(memory.deployments))
                    .routes(plan.around(memory.routes))
                    .bundles(plan.around(memory.bundles))
            })
        };
        let before = first.clock.drive(wrap(&first)).await.unwrap();
        let app = written(&before).await;
        let deployment = before.clock.drive(app.deploy(PRODUCTION)).await.unwrap();
        let ended = polled(&before, deployment.outcome(), polls).await.is_some();

        let after = before.clock.drive(wrap(&before)).await.unwrap();
        let app = after.app("todo42").await;
        after.clock.advance(Duration::from_mins(5)); // the lease of whoever crashed runs out
        let work = async {
            after.platform.work().await?;
            Ok::<_, overskill_core::Error>(app.deployment(deployment.id()).await?.outcome())
        };
        let outcome = after.clock.drive(work).await.unwrap();
        assert_eq!(live_on(&outcome.expect("the record ended")), "edge", "after {polls} polls");
        let route = after.memory.routes.get(&scope()).await.unwrap().unwrap();
        let (serving, fence, _) = edge.serving(&scope()).unwrap();
        assert_eq!((route.deployment, serving), (deployment.id(), deployment.id()), "after {polls} polls");
        assert!(fence >= route.fence);
        if ended {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 10, "only {crashes} crashes were tried");
}

/// A store that was restored from an older copy does not wedge an app: fences come from the route and the target too.
#[tokio::test]
async fn a_store_that_forgot_does_not_fall_behind() {
    let (test, first, _) = two_targets(&FaultPlan::new(), Fallback::Eager).await;
    let app = written(&test).await;
    for n in 0..3 {
        app.write([("index.html", format!("v{n}"))]).await.unwrap();
        deploy(&test, &app).await;
        test.clock.advance(Duration::from_secs(1));
    }
    let high = first.serving(&scope()).unwrap().1;
    let mut restored = test.memory.clone();
    restored.deployments = overskill_core::memory::MemoryDeployments::new();
    restored.routes = overskill_core::memory::MemoryRoutes::new();
    let strategy = DeploymentStrategy::prefer(first.clone());
    let after = TestPlatform::over(test.clock.clone(), restored, |b, _| b.deploy_with(strategy)).await.unwrap();
    let app = after.app("todo42").await;
    let (id, outcome, _) = deploy(&after, &app).await;
    assert_eq!(live_on(&outcome), "first");
    let (serving, fence, _) = first.serving(&scope()).unwrap();
    assert!(serving == id && fence > high);
}

/// What is newer is told by the order in which it was asked for, whatever the clocks say.
#[tokio::test]
async fn a_clock_that_went_back_keeps_no_newer_version_out() {
    let (test, first, _) = two_targets(&FaultPlan::new(), Fallback::Eager).await;
    let app = written(&test).await;
    for n in 0..20 {
        app.write([("index.html", format!("v{n}"))]).await.unwrap();
        test.clock.skew_millis(if n % 2 == 0 { -60_000 } else { 0 });
        let (id, outcome, _) = deploy(&test, &app).await;
        assert_eq!(live_on(&outcome), "first", "deployment {n}");
        assert_eq!(first.serving(&scope()).unwrap().0, id);
    }
}

/// A wait that a target asks for, and calls that take all their time, are no reason to lose the lease.
#[tokio::test]
async fn the_lease_lasts_as_long_as_what_is_done_under_it() {
    let edge = target("edge");
    let plan = FaultPlan::new()
        .nth(Calls::named("stage"), 1, Fault::before())
        .nth(Calls::named("stage"), 2, Fault::HangBefore)
        .nth(Calls::named("activate"), 1, Fault::HangAfter)
        .nth(Calls::named("status"), 1, Fault::Delay(Duration::from_secs(599)));
    let strategy = DeploymentStrategy::prefer(plan.around(edge.clone()))
        .attempt_timeout(Duration::from_mins(10))
        .waits(Duration::from_mins(10), Duration::from_mins(10));
    let test = TestPlatform::seeded(7, |b, _| b.deploy_with(strategy)).await.unwrap();
    let plan = plan.clock(std::sync::Arc::new(test.clock.clone()));
    let app = written(&test).await;
    let (_, outcome, events) = deploy(&test, &app).await;
    assert_eq!(live_on(&outcome), "edge");
    assert_eq!(plan.calls(&Calls::named("activate")), 1);
    let leased = events.iter().filter(|e| matches!(e, DeploymentEvent::Leased { .. })).count();
    assert_eq!(leased, 1, "the lease was lost on the way");
}

/// A build that never ends ends the deployment, and keeps nobody else waiting.
#[tokio::test]
async fn a_build_that_hangs_fails_and_holds_nobody_up() {
    let plan = FaultPlan::new().nth(Calls::of("builder", "build"), 1, Fault::HangBefore);
    let builder = plan.around(overskill_core::memory::StaticBuilder);
    let test = TestPlatform::seeded(7, |b, _| b.builder(builder)).await.unwrap();
    let (one, other) = (written(&test).await, test.app("other7").await);
    other.write([("index.html", "other")]).await.unwrap();
    let both = [one.deploy(PRODUCTION).await.unwrap(), other.deploy(PRODUCTION).await.unwrap()];
    assert_eq!(test.clock.drive(test.platform.work()).await.unwrap(), 2);
    let (mut failed, mut live) = (0, 0);
    for deployment in both {
        match deployment.record().await.unwrap().outcome().unwrap() {
            Outcome::Failed { reason } if reason.contains("no answer within") => failed += 1,
            Outcome::Active { .. } => live += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((failed, live), (1, 1));
}

/// Two that drive the same deployment at once: one does, the other waits for it.
#[tokio::test]
async fn two_drivers_do_not_meet() {
    let edge = target("edge");
    let plan = FaultPlan::new();
    let strategy = DeploymentStrategy::prefer(plan.around(edge.clone()));
    let test = TestPlatform::seeded(7, |b, _| b.deploy_with(strategy)).await.unwrap();
    let slow = Fault::Delay(Duration::from_secs(20));
    let plan = plan.clock(std::sync::Arc::new(test.clock.clone())).always(Calls::of_seam("target"), slow);
    let app = written(&test).await;
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    let both = async { tokio::join!(deployment.outcome(), test.platform.work(), deployment.outcome()) };
    let (one, _, two) = Box::pin(test.clock.drive(both)).await;
    assert_eq!(live_on(&one.unwrap()), "edge");
    assert_eq!(live_on(&two.unwrap()), "edge");
    assert_eq!(plan.calls(&Calls::named("activate")), 1);
}

/// What failed holds no artifact, and what is live does.
#[tokio::test]
async fn what_failed_lets_its_artifact_go() {
    let denied = Fault::BeforeEffect { kind: ErrorKind::Denied, effect: overskill_core::Effect::None };
    let plan = FaultPlan::new().nth(Calls::named("stage"), 2, denied);
    let (test, ..) = two_targets(&plan, Fallback::Eager).await;
    let app = written(&test).await;
    deploy(&test, &app).await;
    app.write([("index.html", "two")]).await.unwrap();
    let (_, outcome, _) = deploy(&test, &app).await;
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome}");
    let later = test.clock.now().plus(Duration::from_hours(1));
    let collected = test.memory.bundles.collect(later, Duration::from_mins(1)).await.unwrap();
    assert_eq!(collected.artifacts, 1, "only that of the failed deployment");
}
