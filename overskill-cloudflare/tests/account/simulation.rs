//! Five hundred deploys with Workers for Platforms first and a target in memory behind it, under faults on the wire; the
//! same deploys on targets in memory alone end alike. A shorter run has workerd serve what is live.

use crate::common::{emulated, get, put_viewer, transport};
use futures::{StreamExt as _, stream::FuturesUnordered};
use overskill_cloudflare::{Cloudflare, WfpTarget};
use overskill_core::{
    AppFile, AppHandle, Artifact, BackendName, DeploymentId, DeploymentStrategy, DeploymentTarget, Digest, Environment,
    Fallback, Fence, Fencing, IdsExt as _, ObservedState, Outcome, Route, RouteTable as _, Scope, SeededIds,
    TargetInfo, TestClock, To,
    memory::{MemoryBackends, MemoryRoutes, MemoryTarget},
};
use overskill_http::Quota;
use overskill_testkit::{
    TestPlatform,
    cloudflare::{Calls, CloudflareEmulator, CloudflareOptions, Fault, FaultPlan, Moment},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

const APPS: u64 = 60;
const AT_ONCE: u64 = 20;
const DEPLOYS: u32 = 500;
const PRODUCTION: Environment = Environment::Production;

/// What goes wrong on the wire, and how often in a thousand.
fn faults(seed: u64) -> FaultPlan {
    FaultPlan::seeded(seed)
        .latency(Duration::from_millis(5), Duration::from_millis(200))
        .chance(20, Calls::any(), Fault::Throttled)
        .chance(10, Calls::any(), Fault::TooMany { retry_after: Some(Duration::from_secs(1)) })
        .chance(20, Calls::any(), Fault::ServerError { status: 500, moment: Moment::Before })
        .chance(20, Calls::any(), Fault::ServerError { status: 522, moment: Moment::After })
        .chance(30, Calls::of("PUT", "/scripts/"), Fault::CutOff(Moment::After))
        .chance(20, Calls::of("PUT", "/scripts/"), Fault::CutBody)
        .chance(10, Calls::of("GET", "/scripts"), Fault::CutOff(Moment::Before))
        .chance(5, Calls::of("PUT", "/scripts/"), Fault::Hang(Moment::After))
        .chance(5, Calls::of("POST", "/assets-upload-session"), Fault::Hang(Moment::Before))
}

/// The first target of a run, and how it is seen from outside.
#[derive(Clone)]
enum First {
    Cloudflare(CloudflareEmulator, WfpTarget),
    Memory(MemoryTarget),
}

struct Simulation {
    clock: TestClock,
    memory: MemoryBackends,
    first: First,
    second: MemoryTarget,
    dice: SeededIds,
    platform: Option<TestPlatform>,
    /// What somebody was told is live, by scope: nothing older may be live afterwards.
    acknowledged: BTreeMap<Scope, Fence>,
    deploys: u32,
    ends: BTreeMap<DeploymentId, &'static str>,
    story: Vec<u8>,
}

fn in_memory(name: &str) -> MemoryTarget {
    let mut info = TargetInfo::new(BackendName::parse(name).unwrap(), name);
    info.fencing = Fencing::Observed;
    info.keeps_previous = true;
    MemoryTarget::with(info)
}

fn cloudflare(emulator: &CloudflareEmulator, routes: &MemoryRoutes, clock: &TestClock, seed: u64) -> WfpTarget {
    let quota = Quota::new(NonZeroU32::new(1_000_000).unwrap(), Duration::from_mins(5));
    let cf = Cloudflare::connect(emulator.account(), emulator.token())
        .transport(transport(emulator))
        .clock(clock.clone())
        .ids(SeededIds::new(seed))
        .quota(quota);
    cf.build().unwrap().target().routed_by(routes.clone())
}

impl Simulation {
    fn new(seed: u64, clock: TestClock, emulator: Option<CloudflareEmulator>) -> Self {
        let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(seed)));
        let first = if let Some(emulator) = emulator {
            First::Cloudflare(emulator.clone(), cloudflare(&emulator, &memory.routes, &clock, seed))
        } else {
            First::Memory(in_memory("cloudflare"))
        };
        Self {
            memory,
            first,
            second: in_memory("behind"),
            dice: SeededIds::new(seed ^ 0x5eed),
            platform: None,
            acknowledged: BTreeMap::new(),
            deploys: 0,
            ends: BTreeMap::new(),
            story: Vec::new(),
            clock,
        }
    }

    fn roll(&self, below: u64) -> u64 {
        self.dice.random_u64() % below
    }

    fn process(&self) -> TestPlatform {
        self.platform.clone().expect("it was started")
    }

    fn target(&self) -> Arc<dyn DeploymentTarget> {
        match &self.first {
            First::Cloudflare(_, target) => Arc::new(target.clone()),
            First::Memory(target) => Arc::new(target.clone()),
        }
    }

    /// A new process over what is there: what the old one had in memory is gone, the target's too.
    async fn restart(&mut self) {
        if let First::Cloudflare(emulator, target) = &mut self.first {
            *target = cloudflare(emulator, &self.memory.routes, &self.clock, self.dice.random_u64());
        }
        let strategy = DeploymentStrategy::prefer(self.target())
            .then(self.second.clone())
            .fall_back(Fallback::Cautious)
            .breaker(NonZeroU32::new(50).unwrap(), Duration::from_secs(20))
            .attempt_timeout(Duration::from_mins(1));
        let process = TestPlatform::over(self.clock.clone(), self.memory.clone(), move |builder, _| {
            builder.deploy_with(strategy)
        });
        self.platform = Some(self.clock.drive(process).await.unwrap());
    }

    async fn app(&self, n: u64) -> AppHandle {
        self.process().app(&format!("app{n}")).await
    }

    /// Many use cases at once; some are dropped in the middle, as if the process had died.
    async fn storm(&mut self) {
        let mut running = FuturesUnordered::new();
        for _ in 0..AT_ONCE {
            let (n, what, version) = (self.roll(APPS), self.roll(100), self.roll(1_000));
            let app = self.app(n).await;
            self.deploys += 1;
            running.push(async move {
                let deployment = match what {
                    0..80 => {
                        app.write([("index.html", format!("version {version}"))]).await?;
                        app.deploy(PRODUCTION).await?
                    }
                    _ => app.rollback(PRODUCTION, To::LastGood).await?,
                };
                let outcome = deployment.outcome().await?;
                Ok::<_, overskill_core::Error>((deployment, outcome))
            });
        }
        let until = if self.roll(3) == 0 { self.roll(AT_ONCE) } else { AT_ONCE };
        let mut done = Vec::new();
        self.clock
            .drive(async {
                while (done.len() as u64) < until
                    && let Some(ended) = running.next().await
                {
                    done.push(ended);
                }
            })
            .await;
        drop(running);
        for (deployment, outcome) in done.into_iter().flatten() {
            if let Outcome::Active { .. } = outcome {
                let fence = self.memory.routes.fence(deployment.scope()).await.unwrap();
                let known = self.acknowledged.entry(deployment.scope().clone()).or_insert(fence);
                *known = fence.max(*known);
            }
        }
    }

    /// The faults stop, time passes, and everything that is left to do is done.
    async fn calm(&mut self) {
        if let First::Cloudflare(emulator, _) = &self.first {
            emulator.set_faults(FaultPlan::none());
        }
        let process = self.process();
        for minutes in [5, 1, 1, 1, 31, 1, 11, 1, 15, 1] {
            self.clock.advance(Duration::from_mins(minutes));
            self.clock.drive(process.platform.work()).await.unwrap();
        }
    }

    /// What the route names is what is served, and nothing is left that nobody knows of.
    async fn check(&mut self) {
        for n in 0..APPS {
            let app = self.app(n).await;
            let scope = Scope::new(app.id().clone(), PRODUCTION);
            let page = app.deployments(PRODUCTION, None, NonZeroU32::new(200).unwrap()).await.unwrap();
            let mut known = BTreeSet::new();
            for summary in page.items {
                let record = app.deployment(summary.id).await.unwrap();
                known.insert(summary.id);
                let word = match record.outcome() {
                    Some(Outcome::Active { .. }) => "active",
                    Some(Outcome::RolledBack { .. }) => "rolled back",
                    Some(Outcome::Failed { .. }) => "failed",
                    Some(Outcome::Superseded) => "superseded",
                    other => panic!("{scope}: {other:?}\n{}", record.timeline()),
                };
                self.ends.insert(summary.id, word);
                self.story.extend(record.timeline().bytes());
            }
            let route = self.memory.routes.get(&scope).await.unwrap();
            if let Some(fence) = self.acknowledged.get(&scope) {
                let route = route.as_ref().unwrap_or_else(|| panic!("{scope}: something was live, and nothing is"));
                assert!(route.fence >= *fence, "{scope}: what was acknowledged is lost");
            }
            for target in [self.target(), Arc::new(self.second.clone())] {
                let name = target.info().name;
                let observed = self.clock.drive(target.observe(&scope)).await.unwrap();
                let routed = route.as_ref().filter(|route| route.target == name);
                for one in &observed {
                    let id = one.id.expect("all are ours");
                    assert!(known.contains(&id), "{scope}: {name} has {one:?}, which nobody deployed");
                    let is_live = one.state == ObservedState::Active;
                    let named = routed.is_some_and(|route| route.deployment == id);
                    assert!(!is_live || named, "{scope}: {name} serves {one:?}, the route is {route:?}");
                }
                if let Some(route) = routed {
                    // The script that the route names is there, and is that deployment's.
                    let served = observed.iter().any(|one| {
                        let same = one.handle.as_ref().is_none_or(|handle| handle.reference == route.handle.reference);
                        one.id == Some(route.deployment) && same
                    });
                    assert!(served, "{scope}: the route is {route:?}, {name} has {observed:?}");
                    self.check_page(&app, route).await;
                }
            }
        }
        self.story = Digest::of(&self.story).as_bytes().to_vec();
    }

    /// Where somebody serves, what is served is the page of the deployment that the route names.
    async fn check_page(&self, app: &AppHandle, route: &Route) {
        let First::Cloudflare(emulator, target) = &self.first else { return };
        if emulator.edge_address().is_none() || route.target != target.info().name {
            return;
        }
        let scope = Scope::new(app.id().clone(), PRODUCTION);
        let (status, page) = get(emulator, &scope, &route.handle.reference, "/").await;
        let served = Artifact::of_assets([("index.html".try_into().unwrap(), AppFile::new(page))]).unwrap();
        let record = app.deployment(route.deployment).await.unwrap();
        assert_eq!((status, Some(served.digest())), (200, record.digest()), "{scope}: {route:?}");
    }

    async fn run(seed: u64, deploys: u32, with_cloudflare: bool) -> Self {
        let clock = TestClock::new();
        let of = |options: CloudflareOptions| options.clock(Arc::new(clock.clone())).seed(seed);
        let emulator = with_cloudflare.then(|| emulated(of));
        Self::run_on(seed, deploys, clock, emulator).await
    }

    async fn run_on(seed: u64, deploys: u32, clock: TestClock, emulator: Option<CloudflareEmulator>) -> Self {
        let mut simulation = Self::new(seed, clock, emulator);
        simulation.restart().await;
        for n in 0..APPS {
            simulation.app(n).await.write([("index.html", "first")]).await.unwrap();
        }
        let mut round = 0;
        while simulation.deploys < deploys {
            round += 1;
            if let First::Cloudflare(emulator, _) = &simulation.first {
                emulator.set_faults(faults(seed + round));
            }
            simulation.storm().await;
            if simulation.roll(4) == 0 {
                simulation.restart().await;
            }
            simulation.calm().await;
            simulation.check().await;
        }
        simulation
    }

    fn ends(&self) -> BTreeMap<&'static str, usize> {
        let mut ends = BTreeMap::new();
        for end in self.ends.values() {
            *ends.entry(*end).or_insert(0) += 1;
        }
        ends
    }

    /// Which digest is live in each scope.
    async fn live(&self) -> usize {
        let mut live = 0;
        for n in 0..APPS {
            let scope = Scope::new(format!("app{n}").as_str().try_into().unwrap(), PRODUCTION);
            live += usize::from(self.memory.routes.get(&scope).await.unwrap().is_some());
        }
        live
    }
}

#[tokio::test]
async fn five_hundred_deploys_keep_every_promise_and_end_as_in_memory() {
    let on_cloudflare = Simulation::run(20_261_122, DEPLOYS, true).await;
    let in_memory = Simulation::run(20_261_122, DEPLOYS, false).await;
    let First::Cloudflare(emulator, _) = &on_cloudflare.first else { unreachable!() };
    let mut hits: BTreeMap<String, usize> = BTreeMap::new();
    for call in emulator.requests() {
        if let Some(fault) = call.fault {
            let name: String = format!("{fault:?}").chars().take_while(char::is_ascii_alphabetic).collect();
            *hits.entry(name).or_default() += 1;
        }
    }
    println!("{} deploys, {} calls, faults {hits:?}", on_cloudflare.deploys, emulator.requests().len());
    println!("on Cloudflare {:?}, in memory {:?}", on_cloudflare.ends(), in_memory.ends());
    for fault in ["Throttled", "TooMany", "ServerError", "CutOff", "CutBody", "Hang"] {
        assert!(hits.contains_key(fault), "{fault} never hit: {hits:?}");
    }
    for run in [&on_cloudflare, &in_memory] {
        assert!(run.ends().get("active").is_some_and(|n| *n >= DEPLOYS as usize / 2), "{:?}", run.ends());
    }
    // Nobody fails for what the wire does: faults cost time, and some fall back.
    assert_eq!(on_cloudflare.ends().get("failed"), in_memory.ends().get("failed"), "failures");
    assert_eq!(on_cloudflare.live().await, in_memory.live().await, "apps that are live");
}

#[tokio::test]
async fn what_is_live_after_a_storm_is_what_workerd_serves() {
    let clock = TestClock::new();
    let options = CloudflareEmulator::options().quota(usize::MAX, Duration::from_mins(5)).seed(5);
    let emulator = options.clock(Arc::new(clock.clone())).start().await.unwrap();
    clock.drive(put_viewer(&emulator)).await;
    let run = Simulation::run_on(5, 60, clock, Some(emulator)).await;
    assert!(run.live().await > 5, "{:?}", run.ends());
}

#[tokio::test]
async fn the_same_seed_tells_the_same_story() {
    let (one, two) = (Simulation::run(3, 60, true).await, Simulation::run(3, 60, true).await);
    assert_eq!(one.story, two.story);
}
