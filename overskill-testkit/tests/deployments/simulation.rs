//! Ten thousand deploys of two hundred apps over three targets that fail at random; the same seed tells the same story.

use crate::{
    common::PRODUCTION,
    stragglers::Stragglers,
    watch::{Watch, is_served},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use overskill_core::{
    AppHandle, BackendName, BundleStore as _, Clock as _, DeploymentEnd, DeploymentId, DeploymentState,
    DeploymentStrategy, DeploymentTarget as _, Digest, Effect, ErrorKind, Failback, Fallback, Fencing, HealthGate,
    IdsExt as _, ObservedState, OperatorChoice, Outcome, Route, RouteTable as _, Scope, SeededIds, TargetInfo,
    TestClock, To,
    memory::{MemoryBackends, MemoryProbe, MemoryTarget},
};
use overskill_testkit::{
    TestPlatform, assert_story,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

const APPS: usize = 200;
const AT_ONCE: usize = 25;

struct Simulation {
    clock: TestClock,
    memory: MemoryBackends,
    targets: Vec<Stragglers>,
    dice: SeededIds,
    plan: FaultPlan,
    probe: MemoryProbe,
    platform: Option<TestPlatform>,
    watch: Watch,
    touched: BTreeSet<usize>,
    /// How many were asked for.
    deploys: Rc<Cell<u32>>,
    /// How each deployment ended, by id, and what a person was asked on the way.
    ends: BTreeMap<DeploymentId, &'static str>,
    asked: BTreeSet<DeploymentId>,
    /// Every step between two states that was seen.
    steps: BTreeSet<(DeploymentState, DeploymentState)>,
    /// How many waited for a budget.
    waited: usize,
    story: Vec<u8>,
}

/// One that takes old fences takes an app and makes it live in one call, as an unconditional PUT does.
fn target(name: &str, fencing: Fencing, per_hour: Option<u32>) -> MemoryTarget {
    let mut info = TargetInfo::new(BackendName::parse(name).unwrap(), name);
    info.fencing = fencing;
    info.deploys_per_hour = per_hour.and_then(NonZeroU32::new);
    info.stages_separately = fencing == Fencing::Enforced;
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
        .chance(calls("activate"), 10, Fault::HangAfter)
        .chance(calls("activate"), 20, Fault::Delay(Duration::from_secs(6)))
        .chance(calls("stage"), 20, Fault::Delay(Duration::from_secs(6)))
        .chance(calls("status"), 100, before(ErrorKind::Unavailable, Effect::None))
        .chance(calls("observe"), 60, before(ErrorKind::Unavailable, Effect::None))
        .chance(calls("observe"), 20, Fault::Delay(Duration::from_secs(6)))
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
        let targets = [
            ("alpha", Fencing::Enforced, Some(12)),
            ("beta", Fencing::Observed, None),
            ("gamma", Fencing::Enforced, Some(15)),
        ];
        let late = |(n, (name, fencing, budget))| Stragglers::new(target(name, fencing, budget), &clock, seed ^ n, 40);
        let targets: Vec<_> = (0..).zip(targets).map(late).collect();
        let plan = faults(seed, &clock);
        let watch = Watch::new(&clock, &memory, &targets);
        Self {
            clock,
            memory,
            targets,
            dice: SeededIds::new(seed ^ 0x5eed),
            plan,
            probe: MemoryProbe::new(),
            platform: None,
            watch,
            touched: BTreeSet::new(),
            deploys: Rc::default(),
            ends: BTreeMap::new(),
            asked: BTreeSet::new(),
            steps: BTreeSet::new(),
            waited: 0,
            story: Vec::new(),
        }
    }

    fn roll(&self, below: u64) -> u64 {
        self.dice.random_u64() % below
    }

    /// A new process over what is there: what the old one had in memory is gone.
    async fn restart(&mut self) {
        let plan = self.plan.clone();
        let mut order = self.targets.clone();
        order.rotate_left(usize::try_from(self.roll(3)).expect("below 3"));
        let mut targets = order.into_iter().map(|target| plan.around(target));
        let preferred = DeploymentStrategy::prefer(targets.next().expect("there are three"));
        let strategy = targets.fold(preferred, DeploymentStrategy::then);
        let fallback = if self.roll(2) == 0 { Fallback::Eager } else { Fallback::Cautious };
        let one = NonZeroU32::MIN;
        let gate = HealthGate::new(plan.around(self.probe.clone())).passes(one, one);
        let staged = HealthGate::new(plan.around(self.probe.clone())).passes(one, one.saturating_add(1));
        let mut strategy = strategy
            .fall_back(fallback)
            .gate_staged(staged)
            .gate_live(gate)
            .breaker(NonZeroU32::new(3).unwrap(), Duration::from_mins(1))
            .attempt_timeout(Duration::from_secs(10));
        if self.roll(2) == 0 {
            strategy = strategy.ask_operator(Duration::from_mins(30));
        }
        if self.roll(3) == 0 {
            strategy = strategy.failback(Failback::After(Duration::from_mins(7)));
        }
        let process = TestPlatform::over(self.clock.clone(), self.memory.clone(), move |builder, memory| {
            builder
                .deploy_with(strategy)
                .deployments(plan.around(memory.deployments.clone()))
                .routes(plan.around(memory.routes.clone()))
        });
        self.calm_down();
        self.platform = Some(process.await.unwrap());
        self.go_on();
    }

    /// Nothing goes wrong, until it goes on.
    fn calm_down(&self) {
        self.plan.pause();
        self.targets.iter().for_each(|target| target.pause(true));
    }

    fn go_on(&self) {
        self.plan.resume();
        self.targets.iter().for_each(|target| target.pause(false));
    }

    fn process(&self) -> TestPlatform {
        self.platform.clone().expect("it was started")
    }

    async fn app(&self, n: usize) -> AppHandle {
        let app = self.process().app(&format!("app{n}")).await;
        if n % 4 == 3 {
            // Whatever the process it runs in does in doubt.
            let mut record = app.record().clone();
            record.strategy = Some(serde_json::from_str(r#"{"fallback": "cautious"}"#).unwrap());
            self.process().platform.put_app(self.process().host(), &record).await.unwrap();
        }
        app
    }

    /// Many use cases at once; some are dropped in the middle, as if the process had died.
    async fn storm(&mut self) {
        let mut running = FuturesUnordered::new();
        // Some storms are about a few apps.
        let (first, apps) = if self.roll(2) == 0 { (0, APPS as u64) } else { (self.roll(APPS as u64), 10) };
        for _ in 0..AT_ONCE {
            let n = usize::try_from((first + self.roll(apps)) % APPS as u64).unwrap();
            self.touched.insert(n);
            let (what, version) = (self.roll(100), self.roll(1_000));
            let app = self.app(n).await;
            let (watch, deploys) = (self.watch.clone(), self.deploys.clone());
            let scope = Scope::new(app.id().clone(), PRODUCTION);
            let asked = async move {
                let deployment = match what {
                    0..70 => {
                        app.write([("index.html", format!("version {version}"))]).await?;
                        app.deploy(PRODUCTION).await?
                    }
                    70..85 => app.rollback(PRODUCTION, To::LastGood).await?,
                    85..90 => {
                        app.restore(PRODUCTION).await?;
                        return Ok(());
                    }
                    _ => app.promote(PRODUCTION, PRODUCTION).await?,
                };
                deploys.set(deploys.get() + 1);
                let outcome = deployment.outcome().await?;
                if let Outcome::Active { .. } = outcome {
                    watch.acknowledged(deployment.scope(), deployment.id()).await;
                }
                if !outcome.is_final() {
                    let choice = [OperatorChoice::Approve, OperatorChoice::Retry, OperatorChoice::Abort]
                        [usize::try_from(version % 3).expect("below 3")];
                    let _ = app.answer(deployment.id(), choice).await; // it may not be among the choices
                }
                Ok::<_, overskill_core::Error>(())
            };
            running.push(async move {
                let _ = asked.await;
                scope
            });
        }
        let until = if self.roll(3) == 0 { self.roll(AT_ONCE as u64) } else { AT_ONCE as u64 };
        let clock = self.clock.clone();
        let limit = clock.now().plus(Duration::from_mins(10));
        let asked = async {
            let mut done = 0;
            while done < until
                && clock.now() < limit
                && let Some(scope) = running.next().await
            {
                self.watch.look(&[scope]).await;
                done += 1;
            }
        };
        // What nobody waits for goes on beside it, under the same faults, and somebody looks all the time.
        let (platform, scopes) = (self.process().platform, self.scopes());
        let beside = async {
            loop {
                clock.sleep(Duration::from_secs(20)).await;
                let _ = platform.work().await; // a store may fail it
            }
        };
        let looking = async {
            loop {
                clock.sleep(Duration::from_secs(15)).await;
                self.watch.look(&scopes).await;
            }
        };
        let storm = async {
            tokio::select! {
                biased;
                () = asked => {}
                () = beside => {}
                () = looking => {}
            }
        };
        clock.drive(storm).await;
    }

    /// The scopes of the apps that were touched.
    fn scopes(&self) -> Vec<Scope> {
        let scope = |n: &usize| Scope::new(format!("app{n}").as_str().try_into().unwrap(), PRODUCTION);
        self.touched.iter().map(scope).collect()
    }

    /// Time passes, and what is left to do is done: at first in bad weather, then in calm.
    async fn calm(&mut self) {
        let (process, scopes) = (self.process(), self.scopes());
        for minutes in [5, 6, 6, 6] {
            self.clock.advance(Duration::from_mins(minutes));
            self.watch.look(&scopes).await;
            let _ = self.clock.drive(process.platform.work()).await; // a store may fail it
        }
        self.calm_down();
        for minutes in [5, 1, 31, 1, 11, 1, 61, 1, 61, 1, 15, 1, 15, 1] {
            self.clock.advance(Duration::from_mins(minutes));
            self.watch.look(&scopes).await;
            self.clock.drive(process.platform.work()).await.unwrap();
        }
        self.go_on();
    }

    async fn check(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        self.calm_down();
        for n in touched {
            let app = self.app(n).await;
            let scope = Scope::new(app.id().clone(), PRODUCTION);
            let key = scope.to_string();
            let route = self.memory.routes.get(&scope).await.unwrap();
            self.check_serving(&scope, route.as_ref()).await;
            self.watch.look(std::slice::from_ref(&scope)).await;
            let page = app.deployments(PRODUCTION, None, NonZeroU32::new(200).unwrap()).await.unwrap();
            let is_or_was_live = |end: &Option<DeploymentEnd>| matches!(end, Some(DeploymentEnd::Active { .. }));
            let never = page.items.iter().filter(|one| one.end.is_some() && !is_or_was_live(&one.end));
            let never: Vec<_> = never.map(|one| one.id).collect();
            let for_nothing = self.memory.bundles.holding(&never).await.unwrap();
            if let Some(id) = for_nothing.first() {
                let story = app.deployment(*id).await.unwrap().timeline();
                panic!("{key}: {id} was never live, and holds an artifact\n{story}");
            }
            if let Some(live) = &route {
                let held = self.memory.bundles.holding(&[live.deployment]).await.unwrap();
                assert!(held.contains(&live.deployment), "{key}: what is live holds no artifact");
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
                assert_story(&record);
                self.steps.extend(record.path().windows(2).map(|step| (step[0], step[1])));
                let timeline = record.timeline();
                self.waited += usize::from(timeline.contains("deploys an hour is spent"));
                self.story.extend(timeline.bytes());
            }
            self.story = Digest::of(&self.story).as_bytes().to_vec();
        }
        self.go_on();
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
                let serving = target.inner().serving(scope).map(|(id, fence, _)| (id, fence));
                let same = serving.is_some_and(|serving| is_served(target, route, serving));
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
        while simulation.deploys.get() < deploys {
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
    let mut all_drifted = 0;
    for run in 0..how_many().div_ceil(A_RUN) {
        let seed = 20_261_122 + u64::from(run);
        let simulation = Simulation::run(seed, A_RUN).await;
        println!("seed {seed}, {} deploys", simulation.deploys.get());
        assert!(simulation.ends.len() >= A_RUN as usize, "{} of them were looked at", simulation.ends.len());
        for row in simulation.plan.hits().rows() {
            println!("{:>6} of {:>6}  {}", row.hits, row.seen, row.rule);
        }
        let mut ends = BTreeMap::new();
        for end in simulation.ends.values() {
            *ends.entry(*end).or_insert(0) += 1;
        }
        println!("{ends:?}, {} asked a person", simulation.asked.len());
        assert_eq!(simulation.plan.hits().never(), [""; 0], "every fault has to hit");
        let (drifted, unsettled) = simulation.watch.seen();
        println!(
            "{drifted} looks saw a late arrival serve, {unsettled} something unsettled; all were undone by a sweep"
        );
        for target in &simulation.targets {
            let (held, landed) = target.counts();
            println!("{:>6} activations came late to {}, {landed} were taken", held, target.info().name);
            assert!(held > 0, "none came late");
        }
        all_drifted += drifted;
        for end in ["active", "failed", "superseded", "rolled back"] {
            assert!(ends.get(end).is_some_and(|n| *n > 0), "nothing ended as {end}");
        }
        println!("{} waited for a budget", simulation.waited);
        assert!(!simulation.asked.is_empty(), "nobody was asked anything");
        assert!(simulation.waited > 0, "nobody waited for a budget");
        let known = BTreeSet::from(DeploymentState::STEPS);
        let unknown: Vec<_> = simulation.steps.difference(&known).collect();
        assert!(unknown.is_empty(), "steps that nobody knows of: {unknown:?}");
        let unseen: Vec<_> = known.difference(&simulation.steps).collect();
        // Nobody is asked for permission here, and some steps are too rare to be seen in every run.
        let rare = [
            (DeploymentState::Requested, DeploymentState::Waiting),
            (DeploymentState::Requested, DeploymentState::AwaitingOperator),
            (DeploymentState::Deploying, DeploymentState::Building),
            (DeploymentState::Waiting, DeploymentState::AwaitingOperator),
            (DeploymentState::RollingBack, DeploymentState::AwaitingOperator),
        ];
        assert!(unseen.iter().all(|step| rare.contains(step)), "steps that were not seen: {unseen:?}");
    }
    assert!(all_drifted > 0, "what sweeps are there for was not seen");
}

#[tokio::test]
async fn the_same_seed_tells_the_same_story() {
    let (one, two, other) =
        (Simulation::run(1, 500).await, Simulation::run(1, 500).await, Simulation::run(2, 500).await);
    assert_eq!(one.story, two.story);
    assert_ne!(one.story, other.story);
}
