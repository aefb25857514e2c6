//! todo-studio, built already, until a plain client gets its page: as a shared preview, and deployed into the dispatch
//! namespace, with assets that are there and assets that are not; and wrangler with the same files.

use crate::{
    app::{App, no_env, one_variable},
    rig::{NAMESPACE, Plain, Rig},
    wrangler::Project,
};
use overskill::{
    AppId, Clock as _, DeployRequest, DeploymentId, DeploymentTarget as _, Environment, Fence, Handle,
    PreviewHost as _, Route, RouteTable as _, Scope, SystemClock, SystemIds,
    cloudflare::{CloudflarePreviews, WfpTarget},
};
use overskill_benches::{Bench, Figure, Goal, Outcome, Reading, Turns, interleave};
use overskill_testkit::cloudflare::FaultPlan;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const LIMIT: &str = "round trips + 50 ms";
/// The same without a distance.
const HERE: &str = "50 ms";
const WRANGLER: &str = "wrangler";
const PAGE: &str = "time to its page";
/// What the client and the machine may add to the round trips.
const ADDED_MS: f64 = 50.0;

/// Most of what wrangler's calls take: a third for a shared preview, a half and a little for a deploy.
const OF_SHARED: Goal = Goal::AtMost(0.333);
const OF_WFP: Goal = Goal::AtMost(0.555);

/// A way to bring an app there, at one distance.
struct Case {
    wall: Figure,
    against: Figure,
    calls: Figure,
}

const fn case(name: &'static str, calls: Goal) -> Case {
    Case {
        wall: Figure::shown(name, PAGE, "ms", LIMIT).goal(Goal::AtMost(1.0)),
        calls: Figure::shown(name, "time of the calls", "ms", WRANGLER).goal(calls),
        ..near(name)
    }
}

/// Without a distance, the time of calls is the emulator's own, for wrangler too: what they may take is what all of it may.
const fn near(name: &'static str) -> Case {
    Case {
        wall: Figure::shown(name, PAGE, "ms", HERE).goal(Goal::AtMost(1.0)),
        against: Figure::shown(name, PAGE, "ms", WRANGLER).goal(Goal::AtMost(0.2)),
        calls: Figure::shown(name, "time of the calls", "ms", HERE).goal(Goal::AtMost(1.0)),
    }
}

/// By distance: the round trip in milliseconds, and the three ways.
const CASES: [(u32, [Case; 3]); 3] = [
    (0, [near("Shared, 0 ms away"), near("known assets, 0 ms away"), near("new assets, 0 ms away")]),
    (
        50,
        [
            case("Shared, 50 ms away", OF_SHARED),
            case("known assets, 50 ms away", OF_WFP),
            case("new assets, 50 ms away", OF_WFP),
        ],
    ),
    (
        100,
        [
            case("Shared, 100 ms away", OF_SHARED),
            case("known assets, 100 ms away", OF_WFP),
            case("new assets, 100 ms away", OF_WFP),
        ],
    ),
];
/// The contestants, in the order of the cases and then wrangler's.
const KNOWN: usize = 1;
const NEW: usize = 2;
const WRANGLER_KNOWN: usize = 3;
const WRANGLER_NEW: usize = 4;
/// Against whom each way is set: what wrangler does to bring the same there.
const PEERS: [usize; 3] = [WRANGLER_NEW, WRANGLER_KNOWN, WRANGLER_NEW];

const fn depth(name: &'static str) -> Figure {
    Figure::shown(name, "calls in sequence", "", "limit").goal(Goal::AtMost(1.0))
}
const DEPTHS: [(Figure, u32); 3] = [(depth("Shared"), 1), (depth("known assets"), 2), (depth("new assets"), 3)];
const CALLS: [Figure; 3] = [
    Figure::shown("Shared", "calls of the API", "", WRANGLER),
    Figure::shown("known assets", "calls of the API", "", WRANGLER),
    Figure::shown("new assets", "calls of the API", "", WRANGLER),
];

/// A new app until its page is at its own address, far away: the route is one signed request after the upload.
struct Routed {
    wall: Figure,
    depth: Figure,
    /// How many calls may come one after the other, that of the route among them.
    most: u32,
}

const fn routed(name: &'static str, most: u32) -> Routed {
    Routed { wall: Figure::shown(name, PAGE, "ms", LIMIT).goal(Goal::AtMost(1.0)), depth: depth(name), most }
}
/// With assets that are there, and with assets that are not.
const ROUTED: [Routed; 2] =
    [routed("known assets by a route, 100 ms away", 3), routed("new assets by a route, 100 ms away", 4)];
const FAR_MS: u32 = 100;

pub(crate) fn figures() -> Vec<Figure> {
    let cases = CASES.iter().flat_map(|(_, cases)| cases.iter().flat_map(|it| [it.wall, it.against, it.calls]));
    cases
        .chain(DEPTHS.map(|(figure, _)| figure))
        .chain(CALLS)
        .chain(ROUTED.iter().flat_map(|it| [it.wall, it.depth]))
        .collect()
}

/// What one of them cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall_ms: f64,
    calls_ms: f64,
    depth: u32,
    /// Of the account's API.
    calls: u32,
}

struct Contest<'a> {
    rig: &'a Rig,
    app: &'a App,
    previews: CloudflarePreviews,
    target: WfpTarget,
    plain: Plain,
    wrangler: Project,
    round_trip: Duration,
    /// Apps and versions so far.
    n: u64,
}

pub(crate) async fn measure(bench: &mut Bench, rig: &Rig, app: &App) -> Outcome<()> {
    let mut contest = Contest {
        rig,
        app,
        previews: rig.edge.previews(app.engine()),
        target: rig.cf.target(),
        plain: rig.plain().await?,
        wrangler: Project::new(app.ground().join("wrangler"), app.artifact())?,
        round_trip: Duration::ZERO,
        n: 0,
    };
    contest.wrangler.renew(0)?;
    let (files, built) = (app.sources().files.len(), app.artifact().files());
    let version = contest.wrangler.version().unwrap_or_default();
    bench.note(format!("the app has {files} files, built {built}; wrangler is {version}"));
    let (mut depths, mut calls) = ([0; 5], [0; 5]);
    for (round_trip_ms, cases) in &CASES {
        contest.round_trip = Duration::from_millis(u64::from(*round_trip_ms));
        rig.line.set_round_trip(contest.round_trip);
        let mut costs: [Vec<f64>; 5] = Default::default();
        let turns = bench.size(8, 2);
        let walls = interleave::<5>(turns, async |who| {
            let cost = contest.bring(who).await?;
            // The first turn does not count.
            if !costs[who].is_empty() {
                // Without a distance, calls that are made together may be over one after the other.
                if *round_trip_ms > 0 {
                    depths[who] = cost.depth.max(depths[who]);
                }
                calls[who] = cost.calls.max(calls[who]);
            }
            costs[who].push(cost.calls_ms);
            Ok(cost.wall_ms)
        })
        .await?;
        let costs = Turns::seen((1..=turns).map(|turn| costs.each_ref().map(|of| of[turn])).collect());
        for (who, (case, (_, depth))) in cases.iter().zip(DEPTHS).enumerate() {
            let limit = f64::from(depth * round_trip_ms) + ADDED_MS;
            bench.show(&case.wall, Reading::limited(walls.of(who), limit));
            bench.show(&case.against, walls.compare(who, PEERS[who]));
            let calls = match round_trip_ms {
                0 => Reading::limited(costs.of(who), ADDED_MS),
                _ => costs.compare(who, PEERS[who]),
            };
            bench.show(&case.calls, calls);
        }
    }
    for (who, (figure, most)) in DEPTHS.iter().enumerate() {
        bench.show(figure, Reading::limited(f64::from(depths[who]), f64::from(*most)));
        bench.show(&CALLS[who], Reading::limited(f64::from(calls[who]), f64::from(calls[PEERS[who]])));
    }
    rig.line.set_round_trip(Duration::from_millis(u64::from(FAR_MS)));
    for (known, figures) in [true, false].into_iter().zip(&ROUTED) {
        let (mut walls, mut depth) = (Vec::new(), 0);
        for _ in 0..bench.size(8, 2) {
            let cost = contest.routed(known).await?;
            walls.push([cost.wall_ms]);
            depth = cost.depth.max(depth);
        }
        let limit = f64::from(figures.most * FAR_MS) + ADDED_MS;
        bench.show(&figures.wall, Reading::limited(Turns::seen(walls).of(0), limit));
        bench.show(&figures.depth, Reading::limited(f64::from(depth), f64::from(figures.most)));
    }
    rig.line.set_round_trip(Duration::ZERO);
    Ok(())
}

impl Contest<'_> {
    async fn bring(&mut self, who: usize) -> Outcome<Cost> {
        self.n += 1;
        match who {
            KNOWN => {
                let fence = self.n;
                self.ours(async |it| {
                    it.deploy("known", Environment::Production, fence).await.map(|_| it.bare("known", fence))
                })
                .await
            }
            NEW => {
                let app = format!("new{}", self.n);
                self.ours(async |it| it.deploy(&app, Environment::Production, 1).await.map(|_| it.bare(&app, 1))).await
            }
            WRANGLER_KNOWN | WRANGLER_NEW => self.wrangler(who == WRANGLER_NEW).await,
            _ => {
                let scope = Scope::new(AppId::parse(&format!("shared{}", self.n))?, Environment::Preview);
                self.ours(async |it| {
                    it.previews.open(&scope, it.app.sources(), &no_env()).await?;
                    Ok(it.rig.host(scope.app.as_str(), scope.environment))
                })
                .await
            }
        }
    }

    /// The address of a version at the dispatcher that only knows scripts: the one that wrangler's are looked at with.
    #[expect(clippy::unused_self, reason = "it reads as the others do")]
    fn bare(&self, app: &str, fence: u64) -> String {
        format!("{app}-{fence}.bare.test")
    }

    /// Brings something there, and asks for its page.
    async fn ours(&mut self, bring: impl AsyncFnOnce(&Self) -> Outcome<String>) -> Outcome<Cost> {
        self.rig.emulator.clear_requests();
        self.rig.line.take();
        let begun = Instant::now();
        let host = bring(self).await?;
        let page = self.plain.until_ok(&host, "/").await?;
        let wall_ms = begun.elapsed().as_secs_f64() * 1e3;
        if !String::from_utf8_lossy(&page).contains("Todo Studio") {
            return Err(format!("{host} shows another page").into());
        }
        let calls = self.rig.line.take();
        let of_api = u32::try_from(self.rig.emulator.requests().len())?;
        Ok(Cost { wall_ms, calls_ms: calls.busy().as_secs_f64() * 1e3, depth: calls.depth(), calls: of_api })
    }

    /// Deploys a version of an app.
    async fn deploy(&self, app: &str, environment: Environment, fence: u64) -> Outcome<(Scope, DeploymentId, Handle)> {
        let scope = Scope::new(AppId::parse(app)?, environment);
        let id = DeploymentId::generate(&SystemIds, SystemClock.now());
        let env = Arc::new(one_variable()?);
        let fence = Fence::from_u64(fence);
        let request = DeployRequest::new(id, scope.clone(), self.app.artifact().clone(), env).under(fence);
        let staged = self.target.stage(&request).await?;
        let handle = self.target.activate(&request, &staged, fence).await?;
        Ok((scope, id, handle))
    }

    /// A new app until its page is at its own address.
    async fn routed(&mut self, known: bool) -> Outcome<Cost> {
        self.n += 1;
        let app = format!("routed{}", self.n);
        if known {
            // It has another environment.
            self.deploy(&app, Environment::Staging, 1).await?;
        }
        self.ours(async |it| {
            let (scope, id, handle) = it.deploy(&app, Environment::Production, 1).await?;
            let target = it.target.info().name;
            it.rig.edge.routes().set(&scope, &Route::new(target, id, handle, Fence::from_u64(1))).await?;
            Ok(it.rig.host(&app, Environment::Production))
        })
        .await
    }

    async fn wrangler(&mut self, new: bool) -> Outcome<Cost> {
        let emulator = &self.rig.emulator;
        if new {
            self.wrangler.renew(usize::try_from(self.n)?)?;
        }
        let name = if new { format!("wrangled{}", self.n) } else { "wrangled".to_owned() };
        emulator.set_faults(FaultPlan::none().latency(self.round_trip, self.round_trip));
        let begun = Instant::now();
        let run = self.wrangler.deploy(emulator, &name).await;
        emulator.set_faults(FaultPlan::none());
        let run = run?;
        let page = self.plain.until_ok(&format!("{name}.bare.test"), "/").await?;
        let wall_ms = begun.elapsed().as_secs_f64() * 1e3;
        if !String::from_utf8_lossy(&page).contains("Todo Studio") {
            return Err(format!("{name} of {NAMESPACE} shows another page").into());
        }
        Ok(Cost { wall_ms, calls_ms: run.api.as_secs_f64() * 1e3, depth: run.calls, calls: run.calls })
    }
}
