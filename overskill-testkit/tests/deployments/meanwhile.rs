//! What has the traffic while a deployment waits or asks.

use crate::common::{Deployed, PRODUCTION, assert_live, deploy, later, live_on, platform, scope, target, written};
use overskill_core::{
    AppHandle, DeploymentId, DeploymentStrategy, ErrorKind, Fallback, Health, HealthGate, OperatorChoice, Outcome,
    TargetInfo,
    memory::{MemoryProbe, MemoryTarget},
};
use overskill_testkit::{
    TestPlatform,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{num::NonZeroU32, time::Duration};

const ONE: NonZeroU32 = NonZeroU32::MIN;

struct Unrouted {
    test: TestPlatform,
    app: AppHandle,
    edge: MemoryTarget,
    /// What goes wrong at the target, and when routes are set.
    plan: FaultPlan,
    routes: FaultPlan,
    good: Deployed,
    /// It has the traffic, and the route could not be set.
    landed: DeploymentId,
}

/// One version is live, and another has its traffic, on a target with a budget or none.
async fn unrouted(per_hour: Option<u32>, strategy: impl FnOnce(DeploymentStrategy) -> DeploymentStrategy) -> Unrouted {
    let mut info = TargetInfo::new("edge".try_into().unwrap(), "edge");
    info.deploys_per_hour = per_hour.and_then(NonZeroU32::new);
    let (edge, plan, routes) = (MemoryTarget::with(info), FaultPlan::new(), FaultPlan::new());
    let strategy = strategy(DeploymentStrategy::prefer(plan.around(edge.clone())).tries_per_target(ONE));
    let around = routes.clone();
    let test = TestPlatform::seeded(7, move |builder, memory| {
        builder.deploy_with(strategy).routes(around.around(memory.routes.clone()))
    });
    let test = test.await.unwrap();
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    let failing = routes.clone().always(Calls::of("routes", "set"), Fault::before());
    app.write([("index.html", "two")]).await.unwrap();
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    test.clock.drive(deployment.outcome()).await.unwrap_err();
    assert_eq!(failing.hits().total(), 1);
    routes.pause();
    assert_eq!(edge.serving(&scope()).unwrap().0, deployment.id(), "it has the traffic");
    Unrouted { test, app, edge, plan, routes, good, landed: deployment.id() }
}

impl Unrouted {
    async fn outcome(&self) -> (Option<Outcome>, String) {
        let record = self.app.deployment(self.landed).await.unwrap();
        (record.outcome(), record.timeline())
    }

    /// Its target fails once, and is left alone for a while.
    async fn waits_for_its_target_and_goes_live(&self) {
        let _once = self.plan.clone().nth(Calls::of("target", "stage"), 1, Fault::before());
        self.soon().await;
        let record = self.app.deployment(self.landed).await.unwrap();
        assert!(record.waits_until().is_some(), "{}", record.timeline());
        assert_live(&self.test, self.good.id, &self.edge).await;
        for _ in 0..4 {
            later(&self.test, Duration::from_mins(31)).await;
        }
        assert_live(&self.test, self.landed, &self.edge).await;
    }

    async fn soon(&self) {
        later(&self.test, Duration::from_secs(31)).await;
    }
}

#[tokio::test]
async fn what_landed_is_finished_though_the_budget_is_spent() {
    let it = unrouted(Some(2), |strategy| strategy).await;
    it.soon().await;
    let (outcome, story) = it.outcome().await;
    assert_eq!(live_on(&outcome.expect(&story)), "edge");
    assert_live(&it.test, it.landed, &it.edge).await;
}

#[tokio::test]
async fn what_is_asked_about_gives_the_traffic_back() {
    let it = unrouted(None, |strategy| strategy.ask_operator(Duration::from_hours(1))).await;
    let _once = it.plan.clone().nth(Calls::of("target", "stage"), 1, Fault::before());
    it.soon().await;
    let (outcome, story) = it.outcome().await;
    assert!(matches!(outcome, Some(Outcome::AwaitingOperator { .. })), "{story}");
    assert!(story.contains(&format!("edge: serves {} again", it.good.id)), "{story}");
    assert_live(&it.test, it.good.id, &it.edge).await;
}

#[tokio::test]
async fn what_waits_gives_the_traffic_back() {
    let it = unrouted(None, |strategy| strategy.breaker(ONE, Duration::from_mins(30))).await;
    it.waits_for_its_target_and_goes_live().await;
}

/// The target could take nothing back just then: somebody looks again before there is an answer.
#[tokio::test]
async fn what_could_not_be_given_back_is_given_back_later() {
    let it = unrouted(None, |strategy| strategy.ask_operator(Duration::from_hours(1))).await;
    let plan = it.plan.clone().always(Calls::of("target", "stage"), Fault::before());
    it.soon().await;
    let (outcome, story) = it.outcome().await;
    assert!(matches!(outcome, Some(Outcome::AwaitingOperator { .. })), "{story}");
    assert_eq!(it.edge.serving(&scope()).unwrap().0, it.landed, "{story}");
    plan.pause();
    later(&it.test, Duration::from_mins(11)).await;
    assert_live(&it.test, it.good.id, &it.edge).await;
}

/// Its rollback could not be done, and a person is asked; the target is well again before there is an answer.
#[tokio::test]
async fn what_is_not_well_does_not_keep_the_traffic_until_somebody_answers() {
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
    assert_eq!(edge.serving(&scope()).unwrap().0, d.id, "{}", d.story);
    plan.pause();
    later(&test, Duration::from_mins(11)).await;
    assert_live(&test, good.id, &edge).await;
    app.answer(d.id, OperatorChoice::Retry).await.unwrap();
    later(&test, Duration::from_secs(1)).await;
    let record = app.deployment(d.id).await.unwrap();
    assert!(matches!(record.outcome(), Some(Outcome::RolledBack { .. })), "{}", record.timeline());
    assert_live(&test, good.id, &edge).await;
}

/// It landed, and the routes cannot be set for a long time: it does not use up everybody's budget.
#[tokio::test]
async fn what_cannot_be_finished_waits_for_its_turn_in_the_end() {
    let it = unrouted(Some(2), |strategy| strategy).await;
    it.routes.resume();
    let before = it.plan.calls(&Calls::of("target", "stage"));
    for _ in 0..20 {
        it.soon().await;
    }
    let tries = it.plan.calls(&Calls::of("target", "stage")) - before;
    assert!((2..=4).contains(&tries), "{tries} tries in ten minutes");
    it.routes.pause();
    for _ in 0..10 {
        later(&it.test, Duration::from_mins(11)).await;
    }
    assert_live(&it.test, it.landed, &it.edge).await;
}

/// The same where no other target may be asked: it waits for the one that has it.
#[tokio::test]
async fn what_landed_where_somebody_is_careful_waits_for_its_target() {
    let cautious = |strategy: DeploymentStrategy| {
        strategy
            .fall_back(Fallback::Cautious)
            .breaker(ONE, Duration::from_mins(30))
            .ask_operator(Duration::from_hours(1))
    };
    let it = unrouted(None, cautious).await;
    it.waits_for_its_target_and_goes_live().await;
}

/// Its answer was lost, it was found all the same and that was written; then whoever drove it was gone, and its target asks to
/// be left alone.
#[tokio::test]
async fn what_was_found_and_left_does_not_keep_the_traffic() {
    let strategy = |strategy: DeploymentStrategy| {
        strategy.gate_live(HealthGate::new(MemoryProbe::new())).breaker(ONE, Duration::from_mins(30))
    };
    let it = unrouted(Some(9), strategy).await;
    let plan = it.plan.clone();
    let _lost = plan.clone().nth(Calls::of("target", "activate"), 1, Fault::AfterEffect { kind: ErrorKind::Timeout });
    it.routes.resume();
    it.soon().await;
    it.soon().await;
    let _down = plan.nth(Calls::of("target", "stage"), 1, Fault::before());
    it.routes.pause();
    it.soon().await;
    let record = it.app.deployment(it.landed).await.unwrap();
    assert!(record.waits_until().is_some(), "{}", record.timeline());
    // The route could not be set when it was given back: what it names serves, under a fence that is higher.
    assert_eq!(it.edge.serving(&scope()).unwrap().0, it.good.id, "{}", record.timeline());
}
