//! Five hundred deploys with Workers for Platforms first and a target in memory behind it, under faults on the wire: each of
//! them ends as it does on targets in memory alone, and shows the same. In a shorter run the dispatch Worker serves what is
//! live.

use crate::{
    common::{emulated, transport},
    world::World,
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use overskill_cloudflare::{Cloudflare, WfpTarget};
use overskill_core::{
    AppFile, AppHandle, Artifact, BackendName, Deployment, DeploymentId, DeploymentStrategy, DeploymentTarget, Digest,
    Environment, Fallback, Fence, Fencing, IdsExt as _, ObservedState, Outcome, Route, RouteTable as _, Scope,
    SeededIds, TargetInfo, TestClock, To,
    memory::{MemoryBackends, MemoryRoutes, MemoryTarget},
};
use overskill_http::{Method, Quota};
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
const DEPLOYS: usize = 500;
const KEPT: u32 = 2;
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

/// What was asked for.
struct Asked {
    app: u64,
    /// What the page says, unless it is one from before.
    page: Option<String>,
    /// None when there was nothing to go back to.
    id: Option<DeploymentId>,
}

/// What became of what was asked for: how it ended, and with which artifact.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    app: u64,
    end: Option<(&'static str, Option<Digest>)>,
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
    asked: Vec<Asked>,
    /// What somebody waited for to the end.
    answered: BTreeSet<DeploymentId>,
    ends: BTreeMap<DeploymentId, (&'static str, Option<Digest>)>,
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
            asked: Vec::new(),
            answered: BTreeSet::new(),
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
        // Rolled in each run, so that all roll the same.
        let seed = self.dice.random_u64();
        if let First::Cloudflare(emulator, target) = &mut self.first {
            *target = cloudflare(emulator, &self.memory.routes, &self.clock, seed);
        }
        let strategy = DeploymentStrategy::prefer(self.target())
            .then(self.second.clone())
            .fall_back(Fallback::Cautious)
            .breaker(NonZeroU32::new(50).unwrap(), Duration::from_secs(20))
            .keep(NonZeroU32::new(KEPT).unwrap())
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
            let page = (what < 80).then(|| format!("version {version}"));
            let asked = match &page {
                Some(page) => {
                    app.write([("index.html", page.clone())]).await.unwrap();
                    Some(app.deploy(PRODUCTION).await.unwrap())
                }
                None => app.rollback(PRODUCTION, To::LastGood).await.ok(),
            };
            self.asked.push(Asked { app: n, page, id: asked.as_ref().map(Deployment::id) });
            if let Some(deployment) = asked {
                running.push(async move {
                    let outcome = deployment.outcome().await?;
                    Ok::<_, overskill_core::Error>((deployment, outcome))
                });
            }
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
            self.answered.insert(deployment.id());
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
        self.check_apps().await;
        self.check_account().await;
    }

    async fn check_apps(&mut self) {
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
                self.ends.insert(summary.id, (word, record.digest()));
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
                }
            }
        }
        self.story = Digest::of(&self.story).as_bytes().to_vec();
    }

    /// The account has of each app what its route names, and of those that were live before as many as are kept, each with its
    /// own contents; nothing else is there.
    async fn check_account(&self) {
        let First::Cloudflare(emulator, target) = &self.first else { return };
        let state = emulator.state();
        let used: Vec<_> = state.namespaces.iter().filter(|(_, scripts)| !scripts.is_empty()).collect();
        let [(namespace, scripts)] = used[..] else { panic!("{:?}", state.namespaces.keys()) };
        assert_eq!(namespace, "overskill-production");
        let (mut by_app, mut named) = (BTreeMap::<u64, Vec<&String>>::new(), BTreeMap::new());
        for (name, script) in scripts {
            let tag = |key: &str| script.tags.iter().find_map(|tag| tag.strip_prefix(key)).unwrap();
            let id: DeploymentId = tag("deployment-").parse().unwrap();
            let asked = self.asked.iter().find(|asked| asked.id == Some(id));
            let asked = asked.unwrap_or_else(|| panic!("{name} is of {id}, which nobody asked for"));
            let app = format!("app{}", asked.app);
            assert!(name.starts_with(&format!("{app}-")) && tag("app-") == app, "{name} is of {app}");
            let digest = self.ends[&id].1.expect("what was uploaded has an artifact").to_string();
            assert_eq!(tag("digest-"), digest, "{name}");
            // One page has one name in an app's assets, and another page has another.
            let [(path, hash)] = script.assets.iter().collect::<Vec<_>>()[..] else { panic!("{:?}", script.assets) };
            assert_eq!(path, "/index.html");
            assert_eq!(named.entry((asked.app, hash)).or_insert_with(|| digest.clone()), &digest, "{name}");
            by_app.entry(asked.app).or_default().push(name);
            assert_eq!(self.ends[&id].0, "active", "{name} was never live");
            // Which lets go of what is one too many. Nobody goes on with that for a process that died in the middle of it.
            let after = self.asked.iter().skip_while(|it| it.id != Some(id)).filter(|it| it.app == asked.app).skip(1);
            let live: Vec<_> = after.filter_map(|it| it.id.filter(|id| self.ends[id].0 == "active")).collect();
            if let Some(should) = live.get(KEPT as usize - 1) {
                assert!(
                    !self.answered.contains(should),
                    "{name} is kept for nothing: {} were live after it",
                    live.len()
                );
            }
        }
        let pages: BTreeSet<_> = named.iter().map(|((app, _), digest)| (app, digest)).collect();
        assert_eq!(pages.len(), named.len(), "one page has two names");
        for n in 0..APPS {
            let here = by_app.remove(&n).unwrap_or_default();
            let route = self.route(n).await.filter(|route| route.target == target.info().name);
            if let Some(route) = route {
                assert!(here.contains(&&route.handle.reference), "app{n}: {route:?}, and there is {here:?}");
                let tag = format!("deployment-{}", route.deployment);
                assert!(scripts[&route.handle.reference].tags.contains(&tag), "app{n}: {route:?}");
            }
        }
    }

    async fn route(&self, app: u64) -> Option<Route> {
        let scope = Scope::new(format!("app{app}").as_str().try_into().unwrap(), PRODUCTION);
        self.memory.routes.get(&scope).await.unwrap()
    }

    /// What became of everything that was asked for, in its order.
    fn told(&self) -> Vec<Told> {
        self.asked.iter().map(|asked| Told { app: asked.app, end: asked.id.map(|id| self.ends[&id]) }).collect()
    }

    /// Which of what was asked for each app shows, by its number, and the page's digest.
    async fn shown(&self) -> Vec<Option<(usize, Digest)>> {
        let mut shown = Vec::new();
        for n in 0..APPS {
            shown.push(self.route(n).await.map(|route| {
                let number = self.asked.iter().position(|asked| asked.id == Some(route.deployment)).unwrap();
                (number, self.ends[&route.deployment].1.unwrap())
            }));
        }
        shown
    }

    async fn run(seed: u64, deploys: usize, with_cloudflare: bool) -> Self {
        let clock = TestClock::new();
        let of = |options: CloudflareOptions| options.clock(Arc::new(clock.clone())).seed(seed);
        let emulator = with_cloudflare.then(|| emulated(of));
        Self::run_on(seed, deploys, clock, emulator).await
    }

    async fn run_on(seed: u64, deploys: usize, clock: TestClock, emulator: Option<CloudflareEmulator>) -> Self {
        let mut simulation = Self::new(seed, clock, emulator);
        simulation.restart().await;
        for n in 0..APPS {
            simulation.app(n).await.write([("index.html", "first")]).await.unwrap();
        }
        let mut round = 0;
        while simulation.asked.iter().filter(|asked| asked.id.is_some()).count() < deploys {
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
        for (end, _) in self.ends.values() {
            *ends.entry(*end).or_insert(0) += 1;
        }
        ends
    }
}

fn digest_of(page: impl Into<Vec<u8>>) -> Digest {
    Artifact::of_assets([("index.html".try_into().unwrap(), AppFile::new(page.into()))]).unwrap().digest()
}

#[tokio::test]
async fn five_hundred_deploys_keep_every_promise_and_each_ends_as_in_memory() {
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
    println!("{} requests, {} calls, faults {hits:?}", on_cloudflare.asked.len(), emulator.requests().len());
    println!("on Cloudflare {:?}, in memory {:?}", on_cloudflare.ends(), in_memory.ends());
    for fault in ["Throttled", "TooMany", "ServerError", "CutOff", "CutBody", "Hang"] {
        assert!(hits.contains_key(fault), "{fault} never hit: {hits:?}");
    }
    assert!(in_memory.ends().get("active").is_some_and(|n| *n >= DEPLOYS / 2), "{:?}", in_memory.ends());
    // Nobody ends otherwise for what the wire does: faults cost time, and some fall back.
    let (told, expected) = (on_cloudflare.told(), in_memory.told());
    for (n, (told, expected)) in told.iter().zip(&expected).enumerate() {
        assert_eq!(told, expected, "what was asked for as number {n}");
    }
    assert_eq!(told.len(), expected.len());
    let (shown, expected) = (on_cloudflare.shown().await, in_memory.shown().await);
    for (n, (shown, expected)) in shown.iter().zip(&expected).enumerate() {
        assert_eq!(shown, expected, "what app{n} shows");
    }
    assert!(shown.iter().flatten().count() as u64 > APPS / 2, "{shown:?}");
    // And what was deployed is what was written.
    for (asked, told) in on_cloudflare.asked.iter().zip(&told) {
        if let (Some(page), Some(("active", digest))) = (&asked.page, told.end) {
            assert_eq!(digest, Some(digest_of(page.clone())), "app{}", asked.app);
        }
    }
    let mut preferred = 0;
    for n in 0..APPS {
        preferred +=
            usize::from(on_cloudflare.route(n).await.is_some_and(|route| route.target.as_str() == "cloudflare"));
    }
    assert!(preferred > shown.iter().flatten().count() / 2, "{preferred} apps are on Cloudflare");
}

#[tokio::test]
async fn what_is_live_after_a_storm_is_what_the_dispatch_worker_serves() {
    let clock = TestClock::new();
    let options = CloudflareEmulator::options().quota(usize::MAX, Duration::from_mins(5)).seed(5);
    let world = World::on(options.clock(Arc::new(clock.clone())), |install| install).await;
    let run = Simulation::run_on(5, 60, clock, Some(world.emulator.clone())).await;
    let mut seen = 0;
    for n in 0..APPS {
        let Some(route) = run.route(n).await.filter(|route| route.target.as_str() == "cloudflare") else { continue };
        let app = format!("app{n}");
        world.edge.routes().set(&Scope::new(app.as_str().try_into().unwrap(), PRODUCTION), &route).await.unwrap();
        let answer = world.ask(Method::Get, &format!("{}/", world.at(&app)), &[("accept", "text/html")], "").await;
        let (asked, told) = run.asked.iter().zip(run.told()).find(|(it, _)| it.id == Some(route.deployment)).unwrap();
        let digest = told.end.and_then(|(_, digest)| digest);
        assert_eq!((answer.status, Some(digest_of(answer.body.to_vec()))), (200, digest), "{app}: {route:?}");
        assert!(asked.page.as_ref().is_none_or(|page| *page == answer.text()), "{app}: {}", answer.text());
        seen += 1;
    }
    assert!(seen > 5, "{:?}", run.ends());
}

#[tokio::test]
async fn the_same_seed_tells_the_same_story() {
    let (one, two) = (Simulation::run(3, 60, true).await, Simulation::run(3, 60, true).await);
    assert_eq!(one.story, two.story);
}
