//! Everything in memory but the stores and the targets is dropped at every poll of each use case; a new process goes on.

use crate::common::{Late, PRODUCTION, live_on, scope, target, written};
use overskill_core::{
    AppHandle, Deployment, DeploymentId, DeploymentStrategy, DeploymentTarget as _, Environment, Fallback, Fencing,
    Health, HealthGate, ObservedState, OperatorChoice, Outcome, Result, RouteTable as _, SeededIds, TestClock, To,
    memory::{MemoryBackends, MemoryProbe, MemoryTarget},
};
use overskill_testkit::{
    TestPlatform, assert_story,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{future::Future, pin::pin, sync::Arc, task::Poll, time::Duration};

/// What outlives a crash: stores, targets, and the world outside.
struct World {
    clock: TestClock,
    memory: MemoryBackends,
    first: MemoryTarget,
    second: MemoryTarget,
    probe: MemoryProbe,
    first_is_down: bool,
    permission: bool,
    cautious: bool,
    /// The first takes an activation, does not say so, and cannot be asked.
    first_is_silent: bool,
}

impl World {
    fn new() -> Self {
        let clock = TestClock::new();
        let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(3)));
        let (first, second, probe) = (target("first"), target("second"), MemoryProbe::new());
        Self {
            clock,
            memory,
            first,
            second,
            probe,
            first_is_down: false,
            permission: false,
            cautious: false,
            first_is_silent: false,
        }
    }

    /// A process over what is there. Delays give every call moments at which it can be dropped.
    async fn process(&self, slow: bool) -> TestPlatform {
        let clock = Arc::new(self.clock.clone());
        let mut plan = FaultPlan::new().clock(clock.clone());
        if slow {
            plan = plan.always(Calls::all(), Fault::Delay(Duration::from_millis(3)));
        }
        let mut down = plan.clone();
        if self.first_is_down {
            down = FaultPlan::new().clock(clock).always(Calls::of("target", "activate"), Fault::before());
        }
        if self.first_is_silent && slow {
            down = plan
                .clone()
                .always(Calls::of("target", "activate"), Fault::after())
                .always(Calls::of("target", "status"), Fault::before());
        }
        let mut strategy = DeploymentStrategy::prefer(down.around(self.first.clone()))
            .then(plan.around(self.second.clone()))
            .gate_live(HealthGate::new(self.probe.clone()))
            .attempt_timeout(Duration::from_secs(10));
        if self.cautious {
            strategy = strategy.fall_back(Fallback::Cautious).ask_operator(Duration::from_hours(1));
        }
        if self.permission {
            strategy = strategy.permission_for(PRODUCTION);
        }
        let process = TestPlatform::over(self.clock.clone(), self.memory.clone(), move |builder, memory| {
            builder
                .deploy_with(strategy)
                .deployments(plan.around(memory.deployments.clone()))
                .routes(plan.around(memory.routes.clone()))
                .bundles(plan.around(memory.bundles.clone()))
        });
        self.clock.drive(process).await.unwrap()
    }

    /// A calm process does what is left, as often as it takes; then what came late is swept.
    async fn recover(&self) -> TestPlatform {
        let process = self.process(false).await;
        for minutes in [5, 1, 1, 11, 1] {
            self.clock.advance(Duration::from_mins(minutes)); // leases run out, sweeps fall due
            self.clock.drive(process.platform.work()).await.unwrap();
        }
        process
    }

    /// One version is live, its target serves it under the route's fence, and nothing else serves or is staged anywhere.
    async fn assert_whole(&self, when: &str) -> Option<DeploymentId> {
        let route = self.memory.routes.get(&scope()).await.unwrap();
        for target in [&self.first, &self.second] {
            let name = overskill_core::DeploymentTarget::info(target).name;
            let live = route.as_ref().filter(|route| route.target == name);
            for observed in target.observe(&scope()).await.unwrap() {
                let ours = live.is_some_and(|route| observed.id == Some(route.deployment));
                match observed.state {
                    ObservedState::Active => {
                        assert!(ours, "{when}: {name} serves {observed:?}, the route is {route:?}");
                    }
                    ObservedState::Staged => panic!("{when}: {name} has an orphan {observed:?}"),
                    ObservedState::Previous => {}
                }
            }
            if let Some(route) = live {
                let (id, fence, _) =
                    target.serving(&scope()).unwrap_or_else(|| panic!("{when}: {name} serves nothing"));
                // Who made it live once more and died before the route knew leaves a higher fence.
                assert!(id == route.deployment && fence >= route.fence, "{when}: {id} under {fence}, {route:?}");
            }
        }
        route.map(|route| route.deployment)
    }
}

/// Polls so often, moving the clock when nothing else happens; `None` when it had not ended.
async fn polled<T>(clock: &TestClock, future: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let once = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx)));
        if let Poll::Ready(done) = once.await {
            return Some(done);
        }
        clock.advance_to_next_sleeper();
    }
    None
}

/// Runs a use case again and again, dropping it one poll later each time, until it ends by itself.
async fn crash_everywhere<F: Future<Output = Result<()>>>(
    prepare: impl AsyncFn(&mut World),
    use_case: impl Fn(TestPlatform, AppHandle) -> F,
    check: impl AsyncFn(&World, &AppHandle, &str),
) {
    let mut crashes = 0;
    for polls in 0.. {
        let mut world = World::new();
        prepare(&mut world).await;
        let process = world.process(true).await;
        let app = process.app("todo42").await;
        let ended = polled(&world.clock, use_case(process.clone(), app), polls).await.is_some();
        drop(process);
        let after = world.recover().await;
        let when = format!("after {polls} polls");
        world.assert_whole(&when).await;
        check(&world, &after.app("todo42").await, &when).await;
        if ended {
            break;
        }
        crashes += 1;
    }
    assert!(crashes >= 12, "only {crashes} crashes were tried");
}

async fn live(world: &World, app: &AppHandle) -> Deployment {
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    let outcome = world.clock.drive(deployment.outcome()).await.unwrap();
    assert_eq!(live_on(&outcome), "first");
    deployment
}

/// Two versions were live; the second is.
async fn two_versions(world: &mut World) {
    let process = world.process(false).await;
    let app = written(&process).await;
    live(world, &app).await;
    app.write([("index.html", "two")]).await.unwrap();
    live(world, &app).await;
}

async fn every_request_ended(app: &AppHandle, when: &str) {
    let all = app.deployments(PRODUCTION, None, std::num::NonZeroU32::new(99).unwrap()).await.unwrap();
    for summary in all.items {
        let record = app.deployment(summary.id).await.unwrap();
        assert!(record.end().is_some(), "{when}: it never ended:\n{}", record.timeline());
        assert!(record.leftovers().is_empty(), "{when}: not swept:\n{}", record.timeline());
        assert_story(&record);
    }
}

#[tokio::test]
async fn a_deploy_survives_a_crash_at_any_poll() {
    let deploy = async |_: TestPlatform, app: AppHandle| {
        app.write([("index.html", "three")]).await?;
        app.deploy(PRODUCTION).await?.outcome().await.map(drop)
    };
    crash_everywhere(two_versions, deploy, async |_, app, when| every_request_ended(app, when).await).await;
}

#[tokio::test]
async fn a_fallback_survives_a_crash_at_any_poll() {
    let prepare = async |world: &mut World| {
        two_versions(world).await;
        world.first_is_down = true;
    };
    let deploy = async |_: TestPlatform, app: AppHandle| app.deploy(PRODUCTION).await?.outcome().await.map(drop);
    crash_everywhere(prepare, deploy, async |_, app, when| every_request_ended(app, when).await).await;
}

/// Whoever goes on asks no second target as long as the first may have it.
#[tokio::test]
async fn in_doubt_no_second_target_is_asked_whatever_poll_it_crashes_at() {
    let prepare = async |world: &mut World| {
        two_versions(world).await;
        (world.cautious, world.first_is_silent) = (true, true);
    };
    let deploy = async |_: TestPlatform, app: AppHandle| {
        app.write([("index.html", "three")]).await?;
        app.deploy(PRODUCTION).await?.outcome().await.map(drop)
    };
    crash_everywhere(prepare, deploy, async |world, _, when| {
        assert_eq!(world.second.observe(&scope()).await.unwrap(), [], "{when}");
    })
    .await;
}

#[tokio::test]
async fn a_version_that_is_not_well_is_rolled_back_whatever_poll_it_crashes_at() {
    let prepare = async |world: &mut World| {
        two_versions(world).await;
        world.probe.otherwise(Health::Unhealthy { reason: "sick".into() });
    };
    let deploy = async |_: TestPlatform, app: AppHandle| app.deploy(PRODUCTION).await?.outcome().await.map(drop);
    crash_everywhere(prepare, deploy, async |world, app, when| {
        every_request_ended(app, when).await;
        let live = world.memory.routes.get(&scope()).await.unwrap().unwrap();
        let record = app.deployment(live.deployment).await.unwrap();
        assert!(matches!(record.outcome(), Some(Outcome::Active { .. })), "{when}: what is sick is live");
    })
    .await;
}

#[tokio::test]
async fn a_rollback_survives_a_crash_at_any_poll() {
    let back =
        async |_: TestPlatform, app: AppHandle| app.rollback(PRODUCTION, To::LastGood).await?.outcome().await.map(drop);
    crash_everywhere(two_versions, back, async |_, app, when| every_request_ended(app, when).await).await;
}

#[tokio::test]
async fn a_promotion_survives_a_crash_at_any_poll() {
    let prepare = async |world: &mut World| {
        two_versions(world).await;
        let app = world.process(false).await.app("todo42").await;
        let staged = app.deploy(Environment::Staging).await.unwrap();
        world.clock.drive(staged.outcome()).await.unwrap();
    };
    let promote = async |_: TestPlatform, app: AppHandle| {
        app.promote(Environment::Staging, PRODUCTION).await?.outcome().await.map(drop)
    };
    crash_everywhere(prepare, promote, async |_, app, when| every_request_ended(app, when).await).await;
}

#[tokio::test]
async fn an_approval_survives_a_crash_at_any_poll() {
    let prepare = async |world: &mut World| {
        two_versions(world).await;
        world.permission = true;
        let app = world.process(false).await.app("todo42").await;
        app.write([("index.html", "three")]).await.unwrap();
        let asked = world.clock.drive(app.deploy(PRODUCTION).await.unwrap().outcome()).await.unwrap();
        assert!(!asked.is_final());
    };
    let approve = async |process: TestPlatform, app: AppHandle| {
        let newest = app.deployments(PRODUCTION, None, std::num::NonZeroU32::MIN).await?.items.remove(0).id;
        app.answer(newest, OperatorChoice::Approve).await?;
        // Drives it, as a background worker does.
        process.platform.work().await.map(drop)
    };
    let newest_is_live_if_answered = async |world: &World, app: &AppHandle, when: &str| {
        let newest = app.deployments(PRODUCTION, None, std::num::NonZeroU32::MIN).await.unwrap().items.remove(0);
        let record = app.deployment(newest.id).await.unwrap();
        let live = world.memory.routes.get(&scope()).await.unwrap().unwrap().deployment == newest.id;
        assert_eq!(live, !record.answers().is_empty(), "{when}:\n{}", record.timeline());
    };
    crash_everywhere(prepare, approve, newest_is_live_if_answered).await;
}

/// Something came late over what is live, where old fences are taken: whoever sweeps may die at any moment.
#[tokio::test]
async fn a_sweep_survives_a_crash_at_any_poll() {
    let prepare = async |world: &mut World| {
        let mut info = overskill_core::DeploymentTarget::info(&world.first);
        info.fencing = Fencing::Observed;
        world.first = MemoryTarget::with(info);
        let late = Late::new(world.first.clone(), true);
        let strategy = DeploymentStrategy::prefer(late.clone()).then(world.second.clone());
        let process = TestPlatform::over(world.clock.clone(), world.memory.clone(), |builder, _| {
            builder.deploy_with(strategy.attempt_timeout(Duration::from_secs(10)))
        });
        let process = process.await.unwrap();
        let app = written(&process).await;
        let old = live(world, &app).await; // at the second try: the first is on its way
        app.write([("index.html", "two")]).await.unwrap();
        live(world, &app).await;
        late.arrive().await.unwrap();
        assert_eq!(world.first.serving(&scope()).unwrap().0, old.id());
        world.clock.advance(Duration::from_mins(11));
    };
    let sweep = async |process: TestPlatform, _: AppHandle| process.platform.work().await.map(drop);
    crash_everywhere(prepare, sweep, async |_, app, when| every_request_ended(app, when).await).await;
}

#[tokio::test]
async fn what_a_crash_left_open_is_adopted_where_it_landed() {
    let world = World::new();
    let hangs = FaultPlan::new().nth(Calls::of("target", "activate"), 1, Fault::HangAfter);
    let down = FaultPlan::new().always(Calls::of("target", "activate"), Fault::before());
    let strategy = DeploymentStrategy::prefer(down.around(world.first.clone()))
        .then(hangs.around(world.second.clone()))
        .attempt_timeout(Duration::from_hours(9));
    let process =
        TestPlatform::over(world.clock.clone(), world.memory.clone(), |builder, _| builder.deploy_with(strategy));
    let process = world.clock.drive(process).await.unwrap();
    let app = written(&process).await;
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    let id = deployment.id();
    {
        let mut outcome = pin!(deployment.outcome());
        while hangs.hits().total() == 0 {
            let once = std::future::poll_fn(|cx| Poll::Ready(outcome.as_mut().poll(cx)));
            assert!(once.await.is_pending());
            if hangs.hits().total() == 0 {
                world.clock.advance_to_next_sleeper();
            }
        }
    }
    drop(process); // it landed on the second target, and nobody was told

    world.clock.advance(Duration::from_hours(10));
    let after = world.process(false).await; // the first is up again
    world.clock.drive(after.platform.work()).await.unwrap();
    let record = after.app("todo42").await.deployment(id).await.unwrap();
    let story = record.timeline();
    assert_eq!(live_on(&record.outcome().unwrap()), "second", "{story}");
    assert!(story.contains("it had landed, adopted"), "{story}");
    assert!(world.first.serving(&scope()).is_none(), "no second target got it: {story}");
    assert_eq!(story.matches("first: activating").count(), 3, "{story}");
}
