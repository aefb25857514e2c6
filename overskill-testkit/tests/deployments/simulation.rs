//! Ten thousand deploys of two hundred apps over three targets that fail at random; the same seed tells the same story.

use crate::common::PRODUCTION;
use futures::{StreamExt as _, stream::FuturesUnordered};
use overskill_core::{
    AppHandle, BackendName, Clock as _, DeploymentId, DeploymentState, DeploymentStrategy, DeploymentTarget as _,
    Digest, Effect, ErrorKind, Fallback, Fence, Fencing, HealthGate, IdsExt as _, ObservedState, OperatorChoice,
    Outcome, Route, RouteTable as _, Scope, SeededIds, TargetInfo, TestClock, To,
    memory::{MemoryBackends, MemoryProbe, MemoryTarget},
};
use overskill_testkit::{
    TestPlatform,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

const APPS: usize = 200;
const AT_ONCE: usize = 25;

struct Simulation {
    clock: TestClock,
    memory: MemoryBackends,
    targets: Vec<MemoryTarget>,
    dice: SeededIds,
    plan: FaultPlan,
    probe: MemoryProbe,
    platform: Option<TestPlatform>,
    /// What somebody was told is live, by scope: nothing older may be live afterwards.
    acknowledged: BTreeMap<String, (DeploymentId, Fence)>,
    highest: BTreeMap<String, Fence>,
    touched: BTreeSet<usize>,
    deploys: u32,
    /// How each deployment ended, by id, and what a person was asked on the way.
    ends: BTreeMap<DeploymentId, &'static str>,
    asked: BTreeSet<DeploymentId>,
    /// Every step between two states that was seen.
    steps: BTreeSet<(DeploymentState, DeploymentState)>,
    story: Vec<u8>,
}

fn target(name: &str, fencing: Fencing) -> MemoryTarget {
    let mut info = TargetInfo::new(BackendName::parse(name).unwrap(), name);
    info.fencing = fencing;
    info.keeps_previous = true;
    MemoryTarget::with(info)
}

/// What goes wrong, and how often in a thousand.
fn faults(seed: u64, clock: &TestClock) -> FaultPlan {
    let calls = |name| Calls::of("target", name);
    let before = |kind, effect| Fault::BeforeEffect { kind, effect };
    FaultPlan::seeded(seed)
        .clock(Arc::new(clock.clone()))
        .chance(calls("stage"), 40, before(ErrorKind::Unavailable, Effect::None))
        .chance(calls("stage"), 10, before(ErrorKind::RateLimited, Effect::None))
        .chance(calls("stage"), 5, before(ErrorKind::LimitExceeded, Effect::None))
        .chance(calls("stage"), 5, before(ErrorKind::Denied, Effect::None))
        .chance(calls("activate"), 40, Fault::AfterEffect { kind: ErrorKind::Timeout })
        .chance(calls("activate"), 40, before(ErrorKind::Timeout, Effect::Unknown))
        .chance(calls("activate"), 20, before(ErrorKind::Unavailable, Effect::None))
        .chance(calls("activate"), 10, Fault::HangBefore)
        .chance(calls("status"), 100, before(ErrorKind::Unavailable, Effect::None))
        .chance(calls("observe"), 60, before(ErrorKind::Unavailable, Effect::None))
        .chance(calls("remove"), 50, before(ErrorKind::Unavailable, Effect::None))
        .chance(Calls::of("deployments", "commit"), 4, before(ErrorKind::Unavailable, Effect::None))
        .chance(Calls::of("deployments", "commit"), 4, Fault::AfterEffect { kind: ErrorKind::Unavailable })
        .chance(Calls::of("routes", "set"), 10, before(ErrorKind::Unavailable, Effect::Unknown))
        .chance(Calls::of("routes", "set"), 10, Fault::AfterEffect { kind: ErrorKind::Timeout })
        .chance(Calls::of("health", "probe"), 30, before(ErrorKind::Unavailable, Effect::None))
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let clock = TestClock::new();
        let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(seed)));
        let targets = vec![
            target("alpha", Fencing::Enforced),
            target("beta", Fencing::Observed),
            target("gamma", Fencing::Enforced),
        ];
        let plan = faults(seed, &clock);
        Self {
            clock,
            memory,
            targets,
            dice: SeededIds::new(seed ^ 0x5eed),
            plan,
            probe: MemoryProbe::new(),
            platform: None,
            acknowledged: BTreeMap::new(),
            highest: BTreeMap::new(),
            touched: BTreeSet::new(),
            deploys: 0,
            ends: BTreeMap::new(),
            asked: BTreeSet::new(),
            steps: BTreeSet::new(),
            story: Vec::new(),
        }
    }

    fn roll(&self, below: u64) -> u64 {
        self.dice.random_u64() % below
    }

    /// A new process over what is there: what the old one had in memory is gone.
    async fn restart(&mut self) {
        let plan = self.plan.clone();
        let mut strategy = DeploymentStrategy::prefer(plan.around(self.targets[0].clone()));
        for target in &self.targets[1..] {
            strategy = strategy.then(plan.around(target.clone()));
        }
        let fallback = if self.roll(2) == 0 { Fallback::Eager } else { Fallback::Cautious };
        let one = NonZeroU32::MIN;
        let gate = HealthGate::new(plan.around(self.probe.clone())).passes(one, one);
        let mut strategy = strategy
            .fall_back(fallback)
            .gate_live(gate)
            .breaker(NonZeroU32::new(50).unwrap(), Duration::from_secs(20))
            .attempt_timeout(Duration::from_secs(10));
        if self.roll(2) == 0 {
            strategy = strategy.ask_operator(Duration::from_mins(30));
        }
        let process = TestPlatform::over(self.clock.clone(), self.memory.clone(), move |builder, memory| {
            builder
                .deploy_with(strategy)
                .deployments(plan.around(memory.deployments.clone()))
                .routes(plan.around(memory.routes.clone()))
        });
        self.plan.pause();
        self.platform = Some(process.await.unwrap());
        self.plan.resume();
    }

    fn process(&self) -> TestPlatform {
        self.platform.clone().expect("it was started")
    }

    async fn app(&self, n: usize) -> AppHandle {
        self.process().app(&format!("app{n}")).await
    }

    /// Many use cases at once; some are dropped in the middle, as if the process had died.
    async fn storm(&mut self) {
        let mut running = FuturesUnordered::new();
        for _ in 0..AT_ONCE {
            let n = usize::try_from(self.roll(APPS as u64)).unwrap();
            self.touched.insert(n);
            let (what, version) = (self.roll(100), self.roll(1_000));
            let app = self.app(n).await;
            self.deploys += 1;
            running.push(async move {
                let deployment = match what {
                    0..70 => {
                        app.write([("index.html", format!("version {version}"))]).await?;
                        app.deploy(PRODUCTION).await?
                    }
                    70..90 => app.rollback(PRODUCTION, To::LastGood).await?,
                    _ => app.promote(PRODUCTION, PRODUCTION).await?,
                };
                let outcome = deployment.outcome().await?;
                if !outcome.is_final() {
                    let choice = [OperatorChoice::Approve, OperatorChoice::Retry, OperatorChoice::Abort]
                        [usize::try_from(version % 3).expect("below 3")];
                    let _ = app.answer(deployment.id(), choice).await; // it may not be among the choices
                }
                Ok::<_, overskill_core::Error>((deployment, outcome))
            });
        }
        let until = if self.roll(3) == 0 { self.roll(AT_ONCE as u64) } else { AT_ONCE as u64 };
        let mut done = Vec::new();
        let clock = self.clock.clone();
        let limit = clock.now().plus(Duration::from_mins(10));
        clock
            .drive(async {
                while (done.len() as u64) < until && clock.now() < limit {
                    match running.next().await {
                        Some(ended) => done.push(ended),
                        None => break,
                    }
                }
            })
            .await;
        drop(running);
        for (deployment, outcome) in done.into_iter().flatten() {
            if let Outcome::Active { .. } = outcome {
                let fence = self.memory.routes.fence(deployment.scope()).await.unwrap();
                let known = self.acknowledged.entry(deployment.scope().to_string()).or_insert((deployment.id(), fence));
                if known.0 < deployment.id() {
                    *known = (deployment.id(), fence);
                }
            }
        }
    }

    /// The faults stop, time passes, and everything that is left to do is done.
    async fn calm(&mut self) {
        self.plan.pause();
        let process = self.process();
        for minutes in [5, 1, 1, 1, 31, 1, 11, 1, 15, 1] {
            self.clock.advance(Duration::from_mins(minutes));
            self.clock.drive(process.platform.work()).await.unwrap();
        }
        self.plan.resume();
    }

    async fn check(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        self.plan.pause();
        for n in touched {
            let app = self.app(n).await;
            let scope = Scope::new(app.id().clone(), PRODUCTION);
            let key = scope.to_string();
            let route = self.memory.routes.get(&scope).await.unwrap();
            self.check_serving(&scope, route.as_ref()).await;
            let fence = self.memory.routes.fence(&scope).await.unwrap();
            let before = self.highest.insert(key.clone(), fence).unwrap_or(Fence::ZERO);
            assert!(fence >= before, "{key}: the fence went from {before} to {fence}");
            let page = app.deployments(PRODUCTION, None, NonZeroU32::new(200).unwrap()).await.unwrap();
            if let Some((id, seen)) = self.acknowledged.get(&key) {
                let route = route.as_ref().unwrap_or_else(|| panic!("{key}: {id} was live, and nothing is"));
                assert!(route.fence >= *seen, "{key}: what was acknowledged is lost");
            }
            for summary in page.items {
                let record = app.deployment(summary.id).await.unwrap();
                let word = match record.outcome() {
                    Some(Outcome::Active { .. }) => "active",
                    Some(Outcome::RolledBack { .. }) => "rolled back",
                    Some(Outcome::Failed { .. }) => "failed",
                    Some(Outcome::Superseded) => "superseded",
                    Some(Outcome::AwaitingOperator { .. }) => "awaits an operator",
                    other => panic!("{key}: {other:?}\n{}", record.timeline()),
                };
                self.ends.insert(summary.id, word);
                if !record.answers().is_empty() || record.question().is_some() {
                    self.asked.insert(summary.id);
                }
                self.steps.extend(record.path().windows(2).map(|step| (step[0], step[1])));
                self.story.extend(record.timeline().bytes());
            }
            self.story = Digest::of(&self.story).as_bytes().to_vec();
        }
        self.plan.resume();
    }

    async fn check_serving(&self, scope: &Scope, route: Option<&Route>) {
        for target in &self.targets {
            let name = target.info().name;
            let live = route.filter(|route| route.target == name);
            for observed in target.observe(scope).await.unwrap() {
                let ours = live.is_some_and(|route| observed.id == Some(route.deployment));
                let story = async {
                    let id = observed.id.expect("all are ours");
                    self.process()
                        .platform
                        .open(self.process().host().clone(), scope.app.clone())
                        .await
                        .unwrap()
                        .deployment(id)
                        .await
                        .unwrap()
                        .timeline()
                };
                match observed.state {
                    ObservedState::Active if !ours => {
                        panic!("{scope}: {name} serves {observed:?}, the route is {route:?}\n{}", story.await)
                    }
                    ObservedState::Staged => panic!("{scope}: {name} has an orphan {observed:?}\n{}", story.await),
                    _ => {}
                }
            }
            if let Some(route) = live {
                // Who made it live once more and died before the route knew leaves a higher fence.
                let serving = target.serving(scope).map(|(id, fence, _)| (id, fence));
                let same = serving.is_some_and(|(id, fence)| id == route.deployment && fence >= route.fence);
                assert!(same, "{scope}: {name} serves {serving:?}, the route is {route:?}");
            }
        }
    }

    async fn run(seed: u64, deploys: u32) -> Self {
        let mut simulation = Self::new(seed);
        simulation.restart().await;
        for n in 0..APPS {
            simulation.app(n).await.write([("index.html", "first")]).await.unwrap();
        }
        while simulation.deploys < deploys {
            simulation.storm().await;
            if simulation.roll(4) == 0 {
                simulation.restart().await;
            }
            simulation.calm().await;
            simulation.check().await;
        }
        simulation
    }
}

/// How many deploys are simulated: `cargo xtask ci --full` asks for a million.
fn how_many() -> u32 {
    std::env::var("OVERSKILL_SIMULATED_DEPLOYS").map_or(10_000, |n| n.parse().expect("a number of deploys"))
}

#[tokio::test]
async fn ten_thousand_deploys_under_faults_keep_every_promise() {
    const A_RUN: u32 = 10_000; // records are kept for ever, in memory
    for run in 0..how_many().div_ceil(A_RUN) {
        let seed = 20_261_122 + u64::from(run);
        let simulation = Simulation::run(seed, A_RUN).await;
        println!("seed {seed}, {} deploys", simulation.deploys);
        for row in simulation.plan.hits().rows() {
            println!("{:>6} of {:>6}  {}", row.hits, row.seen, row.rule);
        }
        let mut ends = BTreeMap::new();
        for end in simulation.ends.values() {
            *ends.entry(*end).or_insert(0) += 1;
        }
        println!("{ends:?}, {} asked a person", simulation.asked.len());
        assert_eq!(simulation.plan.hits().never(), [""; 0], "every fault has to hit");
        for end in ["active", "failed", "superseded", "rolled back"] {
            assert!(ends.get(end).is_some_and(|n| *n > 0), "nothing ended as {end}");
        }
        assert!(!simulation.asked.is_empty(), "nobody was asked anything");
        let known = BTreeSet::from(DeploymentState::STEPS);
        let unknown: Vec<_> = simulation.steps.difference(&known).collect();
        assert!(unknown.is_empty(), "steps that nobody knows of: {unknown:?}");
        let unseen: Vec<_> = known.difference(&simulation.steps).collect();
        println!("steps that were not seen: {unseen:?}");
    }
}

#[tokio::test]
async fn the_same_seed_tells_the_same_story() {
    let (one, two, other) =
        (Simulation::run(1, 500).await, Simulation::run(1, 500).await, Simulation::run(2, 500).await);
    assert_eq!(one.story, two.story);
    assert_ne!(one.story, other.story);
}
