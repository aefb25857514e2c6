//! Breakers, pauses, budgets, and the line of those who wait.

use crate::common::{PRODUCTION, deploy, later, live_on, platform, target, written};
use overskill_core::{
    AppHandle, Clock as _, Commit, Deployment, DeploymentEvent, DeploymentId, DeploymentStore as _, DeploymentStrategy,
    Effect, Error, ErrorKind, Fence, Health, HealthGate, LeaseChange, Outcome, Retry, SubjectId, TargetInfo,
    memory::{MemoryProbe, MemoryTarget},
};
use overskill_testkit::{
    TestPlatform,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

fn limited(name: &str, per_hour: u32) -> MemoryTarget {
    let mut info = TargetInfo::new(name.try_into().unwrap(), name);
    info.deploys_per_hour = NonZeroU32::new(per_hour);
    MemoryTarget::with(info)
}

async fn app_of(test: &TestPlatform, name: &str) -> AppHandle {
    let app = test.app(name).await;
    app.write([("index.html", name.to_owned())]).await.unwrap();
    app
}

/// Asks for a deployment of each app, and leaves them to the background.
async fn stampede(test: &TestPlatform, apps: u32) -> Vec<Deployment> {
    let mut deployments = Vec::new();
    for n in 0..apps {
        deployments.push(app_of(test, &format!("app{n}")).await.deploy(PRODUCTION).await.unwrap());
    }
    deployments
}

async fn live(test: &TestPlatform, deployments: &[Deployment]) -> BTreeMap<String, u32> {
    let mut live = BTreeMap::new();
    for deployment in deployments {
        match deployment.record().await.unwrap().outcome() {
            Some(Outcome::Active { target, .. }) => *live.entry(target.to_string()).or_default() += 1,
            None => *live.entry("waits".to_owned()).or_default() += 1,
            Some(other) => panic!("{other}: {}", deployment.record().await.unwrap().timeline()),
        }
    }
    let _ = test;
    live
}

fn counts(of: &[(&str, u32)]) -> BTreeMap<String, u32> {
    of.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

/// The first is down, the second takes ten an hour: the rest waits, and goes live when the first is well again.
#[tokio::test]
async fn a_broken_target_sends_no_more_to_the_next_than_its_budget() {
    let plan = FaultPlan::new().always(Calls::of("target", "stage"), Fault::before());
    let (first, second) = (target("first"), limited("second", 10));
    let strategy = DeploymentStrategy::prefer(plan.around(first.clone()))
        .then(second.clone())
        .tries_per_target(NonZeroU32::MIN)
        .breaker(NonZeroU32::new(5).unwrap(), Duration::from_secs(30));
    let test = platform(strategy).await;
    let deployments = stampede(&test, 40).await;
    for _ in 0..20 {
        later(&test, Duration::from_secs(5)).await;
    }
    assert_eq!(live(&test, &deployments).await, counts(&[("second", 10), ("waits", 30)]));
    let asked = plan.calls(&Calls::of("target", "stage"));
    assert!(asked < 40, "a broken target was asked {asked} times");
    plan.pause();
    for _ in 0..40 {
        later(&test, Duration::from_secs(5)).await;
    }
    assert_eq!(live(&test, &deployments).await, counts(&[("first", 30), ("second", 10)]));
}

/// A target that takes every upload and activates none is not well: that it can do the one says nothing of the other.
#[tokio::test]
async fn a_target_that_only_takes_uploads_is_left_alone() {
    let plan = FaultPlan::new().always(Calls::of("target", "activate"), Fault::before());
    let strategy = DeploymentStrategy::prefer(plan.around(target("first")))
        .then(target("second"))
        .tries_per_target(NonZeroU32::MIN)
        .breaker(NonZeroU32::new(5).unwrap(), Duration::from_mins(5));
    let test = platform(strategy).await;
    let deployments = stampede(&test, 20).await;
    for deployment in &deployments {
        assert_eq!(live_on(&test.clock.drive(deployment.outcome()).await.unwrap()), "second");
    }
    assert_eq!(plan.calls(&Calls::of("target", "stage")), 5, "after five nobody brings it anything");
    // One goes to see; the first is well again, and has them all.
    plan.pause();
    test.clock.advance(Duration::from_mins(6));
    for deployment in stampede(&test, 3).await {
        assert_eq!(live_on(&test.clock.drive(deployment.outcome()).await.unwrap()), "first");
    }
}

#[tokio::test]
async fn a_budget_lets_the_rest_through_an_hour_later() {
    let edge = limited("edge", 5);
    let test = platform(DeploymentStrategy::prefer(edge.clone())).await;
    let deployments = stampede(&test, 12).await;
    for (hour, want) in [(0, 5), (1, 10), (2, 12)] {
        for _ in 0..60 {
            later(&test, Duration::from_mins(1)).await;
        }
        let live = live(&test, &deployments).await;
        assert!(live["edge"] <= 5 * (hour + 1), "hour {hour}: {live:?}");
        if hour > 0 {
            assert!(live["edge"] >= want.min(5 * hour), "hour {hour}: {live:?}");
        }
    }
    for _ in 0..30 {
        later(&test, Duration::from_mins(1)).await;
    }
    assert_eq!(live(&test, &deployments).await, counts(&[("edge", 12)]));
}

/// One target is down for a moment, the budget of the other is spent: that comes back by itself, so nobody fails.
#[tokio::test]
async fn a_budget_that_will_be_back_is_worth_any_wait_whatever_else_is_down() {
    let plan = FaultPlan::new();
    let strategy = DeploymentStrategy::prefer(plan.around(target("first")))
        .then(limited("second", 1))
        .tries_per_target(NonZeroU32::MIN)
        .patience(Duration::from_mins(10))
        .breaker(NonZeroU32::MIN, Duration::from_secs(30));
    let test = platform(strategy).await;
    let _plan = plan.always(Calls::of("target", "stage"), Fault::before());
    let deployments = stampede(&test, 2).await;
    for _ in 0..50 {
        later(&test, Duration::from_mins(1)).await;
    }
    assert_eq!(live(&test, &deployments).await, counts(&[("second", 1), ("waits", 1)]));
    for _ in 0..20 {
        later(&test, Duration::from_mins(1)).await;
    }
    assert_eq!(live(&test, &deployments).await, counts(&[("second", 2)]));
}

/// Making the version before live again is asked of the provider, too.
#[tokio::test]
async fn a_rollback_counts_in_the_budget_of_its_target() {
    let (probe, edge) = (MemoryProbe::new(), limited("edge", 3));
    let gate = HealthGate::new(probe.clone());
    let test = platform(DeploymentStrategy::prefer(edge.clone()).gate_live(gate)).await;
    let app = written(&test).await;
    deploy(&test, &app, "one").await;
    probe.otherwise(Health::Unhealthy { reason: "sick".into() });
    let d = deploy(&test, &app, "two").await;
    assert!(matches!(d.outcome, Outcome::RolledBack { .. }), "{}", d.story);
    probe.otherwise(Health::Healthy);
    app.write([("index.html", "three")]).await.unwrap();
    let third = app.deploy(PRODUCTION).await.unwrap();
    for (minutes, live) in [(1, false), (61, true)] {
        later(&test, Duration::from_mins(minutes)).await;
        let record = third.record().await.unwrap();
        assert_eq!(record.end().is_some(), live, "{}", record.timeline());
    }
}

/// Many wait for a target that is down: what is due for others is done all the same, in the background as well.
#[tokio::test]
async fn a_long_line_keeps_nothing_else_from_being_done() {
    let plan = FaultPlan::new();
    let strategy = DeploymentStrategy::prefer(plan.around(target("edge")))
        .tries_per_target(NonZeroU32::MIN)
        .patience(Duration::from_hours(9))
        .breaker(NonZeroU32::MIN, Duration::from_hours(1));
    let test = platform(strategy).await;
    let mut aborted = Vec::new();
    for n in 0..3 {
        aborted.push(app_of(&test, &format!("other{n}")).await);
    }
    let _plan = plan.always(Calls::of("target", "stage"), Fault::before());
    let deployments = stampede(&test, 80).await;
    let seen = async {
        test.clock.sleep(Duration::from_mins(5)).await;
        // They are superseded: nobody needs a target for that.
        let mut older = Vec::new();
        for app in &aborted {
            older.push(app.deploy(PRODUCTION).await.unwrap());
            app.deploy(PRODUCTION).await.unwrap();
        }
        test.clock.sleep(Duration::from_mins(2)).await;
        let mut ends = Vec::new();
        for one in older {
            ends.push(one.record().await.unwrap().outcome());
        }
        ends
    };
    let host = async {
        tokio::select! { () = test.platform.run(std::future::pending()) => panic!(), seen = seen => seen }
    };
    let ends = Box::pin(test.clock.drive(host)).await;
    assert_eq!(ends, [const { Some(Outcome::Superseded) }; 3]);
    assert_eq!(live(&test, &deployments).await, counts(&[("waits", 80)]));
}

/// Whoever is at the front has its scope leased by somebody else, who may be long about it.
#[tokio::test]
async fn who_is_next_and_cannot_go_keeps_nobody_waiting() {
    let test = platform(DeploymentStrategy::prefer(limited("edge", 2))).await;
    let deployments = stampede(&test, 5).await;
    later(&test, Duration::from_secs(1)).await;
    assert_eq!(live(&test, &deployments).await, counts(&[("edge", 2), ("waits", 3)]));
    let mut waiting = Vec::new();
    for deployment in &deployments {
        if deployment.record().await.unwrap().end().is_none() {
            waiting.push(deployment);
        }
    }
    // Another process has the scope of who is next, and is gone.
    let record = waiting[0].record().await.unwrap();
    let holder = "elsewhere".try_into().unwrap();
    let take = LeaseChange::Take { holder, ttl: Duration::from_hours(3), above: Fence::ZERO };
    let commit = Commit::new(record.id(), record.scope().clone(), record.seq(), [], test.clock.now());
    test.memory.deployments.commit(&commit.lease(take)).await.unwrap();
    for _ in 0..75 {
        later(&test, Duration::from_mins(1)).await;
    }
    assert_eq!(live(&test, &deployments).await, counts(&[("edge", 4), ("waits", 1)]));
}

#[tokio::test]
async fn a_target_that_asks_to_slow_down_is_left_alone_for_that_long_by_all() {
    for (wait, asked_in_place) in [(Some(Duration::from_secs(5)), true), (Some(Duration::from_mins(10)), false)] {
        let edge = Slow::new(target("edge"), wait);
        let test = platform(DeploymentStrategy::prefer(edge.clone())).await;
        let app = written(&test).await;
        let start = test.clock.now();
        let deployment = app.deploy(PRODUCTION).await.unwrap();
        let outcome = test.clock.drive(deployment.outcome()).await.unwrap();
        assert_eq!(live_on(&outcome), "edge");
        let took = test.clock.now().since(start);
        assert!(took >= wait.unwrap(), "{took:?}");
        let waited = deployment.record().await.unwrap();
        let in_line = waited.events().iter().any(|e| matches!(e.event, DeploymentEvent::Waiting { .. }));
        assert_eq!(in_line, !asked_in_place, "{}", waited.timeline());
    }
}

/// An app that may go to one target alone, which is down, keeps nobody waiting who goes elsewhere.
#[tokio::test]
async fn who_waits_for_one_target_keeps_nobody_waiting_who_wants_another() {
    let plan = FaultPlan::new().always(Calls::of("target", "stage"), Fault::before());
    let strategy = DeploymentStrategy::prefer(target("edge"))
        .then(plan.around(target("servers")))
        .tries_per_target(NonZeroU32::MIN)
        .breaker(NonZeroU32::MIN, Duration::from_mins(30));
    let test = platform(strategy).await;
    test.app("servers").await;
    let mut record = app_record(&test, "servers").await;
    record.strategy = Some(serde_json::from_str(r#"{"targets": ["servers"]}"#).unwrap());
    test.platform.put_app(test.host(), &record).await.unwrap();
    let waiting = test.platform.open(test.host().clone(), record.app.clone()).await.unwrap();
    waiting.write([("index.html", "hi")]).await.unwrap();
    let waits = waiting.deploy(PRODUCTION).await.unwrap();
    later(&test, Duration::from_secs(1)).await;
    assert!(waits.record().await.unwrap().waits_until().is_some(), "{}", waits.record().await.unwrap().timeline());
    let deployment = app_of(&test, "elsewhere").await.deploy(PRODUCTION).await.unwrap();
    let outcome = async {
        tokio::select! {
            outcome = deployment.outcome() => outcome.unwrap(),
            () = test.clock.sleep(Duration::from_mins(20)) => panic!("it waits"),
        }
    };
    assert_eq!(live_on(&test.clock.drive(outcome).await), "edge");
    let story = deployment.record().await.unwrap().timeline();
    assert!(!story.contains("waits until"), "{story}");
}

/// Whoever goes to see and fails leaves it alone for another while; no second one goes at the same time.
#[tokio::test]
async fn who_goes_to_see_whether_it_is_well_and_fails_goes_alone() {
    let plan = FaultPlan::new().always(Calls::of("target", "stage"), Fault::before());
    let strategy = DeploymentStrategy::prefer(plan.around(target("first")))
        .then(target("second"))
        .tries_per_target(NonZeroU32::MIN)
        .breaker(NonZeroU32::new(3).unwrap(), Duration::from_mins(5));
    let test = platform(strategy).await;
    for (round, asked) in [(0, 3), (1, 4), (2, 5)] {
        for n in 0..6 {
            let app = app_of(&test, &format!("app{round}x{n}")).await;
            let deployment = app.deploy(PRODUCTION).await.unwrap();
            assert_eq!(live_on(&test.clock.drive(deployment.outcome()).await.unwrap()), "second");
        }
        assert_eq!(plan.calls(&Calls::of("target", "stage")), asked, "round {round}");
        test.clock.advance(Duration::from_mins(6));
    }
}

/// A target that says "slow down" and not for how long is left alone as long as a broken one, and is none.
#[tokio::test]
async fn a_target_that_does_not_say_how_long_is_left_alone_for_the_breakers_pause() {
    let slow = Fault::BeforeEffect { kind: ErrorKind::RateLimited, effect: Effect::None };
    let plan = FaultPlan::new().nth(Calls::of("target", "stage"), 1, slow);
    let strategy = DeploymentStrategy::prefer(plan.around(target("first")))
        .then(target("second"))
        .tries_per_target(NonZeroU32::MIN)
        .breaker(NonZeroU32::MIN, Duration::from_mins(5));
    let test = platform(strategy).await;
    let mut went = Vec::new();
    for (n, minutes) in [0, 4, 2].into_iter().enumerate() {
        test.clock.advance(Duration::from_mins(minutes));
        let deployment = app_of(&test, &format!("app{n}")).await.deploy(PRODUCTION).await.unwrap();
        went.push(live_on(&test.clock.drive(deployment.outcome()).await.unwrap()).to_owned());
    }
    assert_eq!(went, ["second", "second", "first"]);
    assert_eq!(plan.calls(&Calls::of("target", "stage")), 2);
}

#[tokio::test]
async fn one_owner_with_many_apps_delays_another_by_one() {
    let edge = limited("edge", 1);
    let test = platform(DeploymentStrategy::prefer(edge.clone())).await;
    let mut waiting = Vec::new();
    for (n, owner) in ["many", "many", "many", "many", "few", "other"].into_iter().enumerate() {
        let name = format!("app{n}");
        test.app(&name).await;
        let mut record = app_record(&test, &name).await;
        record.owner = Some(owner.parse::<SubjectId>().unwrap());
        test.platform.put_app(test.host(), &record).await.unwrap();
        waiting.push((owner, app_of_owned(&test, &name).await.deploy(PRODUCTION).await.unwrap()));
    }
    let mut order: Vec<(DeploymentId, &str)> = Vec::new();
    for _ in 0..800 {
        later(&test, Duration::from_mins(1)).await;
        for (owner, deployment) in &waiting {
            let known = order.iter().any(|(id, _)| *id == deployment.id());
            if !known && deployment.record().await.unwrap().end().is_some() {
                order.push((deployment.id(), owner));
            }
        }
    }
    let owners: Vec<_> = order.iter().map(|(_, owner)| *owner).collect();
    assert_eq!(owners.len(), 6, "all are live in the end");
    let few = owners.iter().position(|owner| *owner == "few").unwrap();
    let other = owners.iter().position(|owner| *owner == "other").unwrap();
    assert!(few <= 3 && other <= 3, "{owners:?}");
}

async fn app_record(test: &TestPlatform, name: &str) -> overskill_core::AppRecord {
    use overskill_core::AppDirectory as _;
    test.memory.apps.get(&name.try_into().unwrap()).await.unwrap().unwrap()
}

async fn app_of_owned(test: &TestPlatform, name: &str) -> AppHandle {
    let app = test.platform.open(test.host().clone(), name.try_into().unwrap()).await.unwrap();
    app.write([("index.html", name.to_owned())]).await.unwrap();
    app
}

/// Says once that it is asked too often.
#[derive(Clone, Debug)]
struct Slow {
    inner: MemoryTarget,
    wait: std::sync::Arc<std::sync::Mutex<Option<Duration>>>,
}

impl Slow {
    fn new(inner: MemoryTarget, wait: Option<Duration>) -> Self {
        Self { inner, wait: std::sync::Arc::new(std::sync::Mutex::new(wait)) }
    }
}

#[async_trait::async_trait]
impl overskill_core::DeploymentTarget for Slow {
    fn info(&self) -> TargetInfo {
        self.inner.info()
    }
    async fn check(&self) -> overskill_core::Result<overskill_core::Readiness> {
        self.inner.check().await
    }
    async fn stage(&self, request: &overskill_core::DeployRequest) -> overskill_core::Result<overskill_core::Staged> {
        if let Some(wait) = self.wait.lock().unwrap().take() {
            return Err(Error::new(ErrorKind::RateLimited, "slow down")
                .retry_as(Retry::After(wait))
                .effect_as(Effect::None));
        }
        self.inner.stage(request).await
    }
    async fn activate(
        &self,
        request: &overskill_core::DeployRequest,
        staged: &overskill_core::Staged,
        fence: overskill_core::Fence,
    ) -> overskill_core::Result<overskill_core::Handle> {
        self.inner.activate(request, staged, fence).await
    }
    async fn status(
        &self,
        scope: &overskill_core::Scope,
        id: DeploymentId,
        fence: overskill_core::Fence,
    ) -> overskill_core::Result<overskill_core::TargetStatus> {
        self.inner.status(scope, id, fence).await
    }
    async fn observe(&self, scope: &overskill_core::Scope) -> overskill_core::Result<Vec<overskill_core::Observed>> {
        self.inner.observe(scope).await
    }
    async fn remove(
        &self,
        scope: &overskill_core::Scope,
        removal: overskill_core::Removal,
    ) -> overskill_core::Result<()> {
        self.inner.remove(scope, removal).await
    }
}

/// One app asks for many at once, which nobody waits for: another's does not wait for all of them.
#[tokio::test]
async fn an_app_with_many_keeps_no_other_waiting() {
    let test = platform(DeploymentStrategy::prefer(target("edge"))).await;
    let (many, one) = (app_of(&test, "many").await, app_of(&test, "one").await);
    for _ in 0..100 {
        many.deploy(PRODUCTION).await.unwrap();
    }
    let one = one.deploy(PRODUCTION).await.unwrap();
    later(&test, Duration::from_secs(1)).await;
    assert_eq!(live(&test, std::slice::from_ref(&one)).await, counts(&[("edge", 1)]));
}

/// Whoever drives one has its scope for long: the others of it fill no round.
#[tokio::test]
async fn an_app_that_is_driven_keeps_no_other_waiting() {
    let plan = FaultPlan::new();
    let test = platform(DeploymentStrategy::prefer(plan.around(target("edge")))).await;
    let plan = plan.clock(std::sync::Arc::new(test.clock.clone()));
    let _slow = plan.clone().nth(Calls::of("target", "stage"), 1, Fault::Delay(Duration::from_secs(9)));
    let (many, one) = (app_of(&test, "many").await, app_of(&test, "one").await);
    let driven = many.deploy(PRODUCTION).await.unwrap();
    let beside = async {
        test.clock.sleep(Duration::from_secs(1)).await;
        for _ in 0..100 {
            many.deploy(PRODUCTION).await.unwrap();
        }
        let one = one.deploy(PRODUCTION).await.unwrap();
        test.platform.work().await.unwrap();
        one.record().await.unwrap()
    };
    let (_, one) = Box::pin(test.clock.drive(async { tokio::join!(driven.outcome(), beside) })).await;
    assert_eq!(live_on(&one.outcome().expect("it has ended")), "edge");
}

/// It is known to be down: no deployment asks it anything until its pause is over.
#[tokio::test]
async fn a_target_that_is_left_alone_is_asked_nothing() {
    let plan = FaultPlan::new().always(Calls::of("target", "stage"), Fault::before());
    let strategy = DeploymentStrategy::prefer(plan.around(target("first"))).then(target("second"));
    let test = platform(strategy.breaker(NonZeroU32::MIN, Duration::from_hours(1))).await;
    let app = written(&test).await;
    assert_eq!(live_on(&deploy(&test, &app, "one").await.outcome), "second");
    let before = plan.calls(&Calls::of_seam("target"));
    for n in 0..3 {
        assert_eq!(live_on(&deploy(&test, &app, &format!("version {n}")).await.outcome), "second");
    }
    assert_eq!(plan.calls(&Calls::of_seam("target")), before);
}
