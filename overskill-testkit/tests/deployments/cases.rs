//! Targets that fail, lie, or come late.

use crate::common::{
    Late, PRODUCTION, assert_live, deploy, deployed, later, live_on, platform, scope, target, written,
};
use async_trait::async_trait;
use overskill_core::{
    AppHandle, Around, Clock as _, DeploymentEvent, DeploymentId, DeploymentStrategy, DeploymentTarget as _, Drift,
    Effect, ErrorKind, Fallback, Fence, Fencing, IdsExt as _, ObservedState, Operation, Outcome, Policy, Readiness,
    Result, Route, RouteTable, Scope, SeededIds, TargetInfo, TestClock, Timestamp,
    memory::{MemoryBackends, MemoryRoutes, MemoryTarget, StaticBuilder},
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
