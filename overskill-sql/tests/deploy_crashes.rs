//! A process dies before and after every call of a backend that a use case makes; another goes on from the stores and the
//! targets alone.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use overskill_core::{
    AppHandle, AppId, AppRecord, BackendName, Clock as _, DeploymentStrategy, DeploymentTarget as _, Environment,
    Fence, Health, HealthGate, ObservedState, OperatorChoice, Outcome, Platform, Records, Result, Scope, Sealer,
    SeededIds, SystemClock, SystemIds, SystemScopes, TestClock, To,
    memory::{MemoryBackends, MemoryProbe, MemoryTarget, StaticBuilder},
};
use overskill_testkit::{
    TestKeys,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{
    future::Future,
    num::NonZeroU32,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

const PRODUCTION: Environment = Environment::Production;

/// What outlives a crash: the database, the targets, and the world outside. Every run has an app of its own.
struct World {
    clock: TestClock,
    memory: MemoryBackends,
    records: Records,
    app: AppId,
    first: MemoryTarget,
    second: MemoryTarget,
    probe: MemoryProbe,
    first_is_down: bool,
    permission: bool,
}

fn sealer() -> Sealer {
    Sealer::new(Arc::new(TestKeys::new()), Arc::new(SystemIds))
}

impl World {
    fn new(records: Records, clock: &TestClock) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let target = |name| MemoryTarget::new(BackendName::parse(name).unwrap());
        Self {
            clock: clock.clone(),
            memory: MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(n))),
            records,
            app: AppId::parse(&format!("crash{n}")).unwrap(),
            first: target("first"),
            second: target("second"),
            probe: MemoryProbe::new(),
            first_is_down: false,
            permission: false,
        }
    }

    /// A process over what is there, whose calls of backends fail as `plan` says.
    async fn process(&self, plan: &FaultPlan) -> (Platform, AppHandle) {
        let down = if self.first_is_down {
            FaultPlan::new().always(Calls::of("target", "activate"), Fault::before())
        } else {
            FaultPlan::new()
        };
        let mut strategy = DeploymentStrategy::prefer(plan.around(down.around(self.first.clone())))
            .then(plan.around(self.second.clone()))
            .gate_live(HealthGate::new(plan.around(self.probe.clone())))
            .attempt_timeout(Duration::from_secs(10));
        if self.permission {
            strategy = strategy.permission_for(PRODUCTION);
        }
        // Everything that a use case asks.
        let records = Records {
            files: Arc::new(plan.around(self.records.files.clone())),
            bundles: Arc::new(plan.around(self.records.bundles.clone())),
            env: Arc::new(plan.around(self.records.env.clone())),
            routes: Arc::new(plan.around(self.records.routes.clone())),
            deployments: Arc::new(plan.around(self.records.deployments.clone())),
            audit: Arc::new(plan.around(self.records.audit.clone())),
            apps: Arc::new(plan.around(self.records.apps.clone())),
            ..self.records.clone()
        };
        let builder = plan.around(StaticBuilder);
        plan.pause();
        let platform = self.memory.platform().records(records).builder(builder).deploy_with(strategy);
        let platform = platform.build().await.unwrap();
        let host = platform.gate().system("test", "a process starts", SystemScopes::All).await.unwrap();
        let record = AppRecord::new(self.app.clone(), "crashing", self.clock.now());
        platform.put_app(&host, &record).await.unwrap();
        let app = platform.open(host, self.app.clone()).await.unwrap();
        plan.resume();
        (platform, app)
    }

    async fn calm(&self) -> (Platform, AppHandle) {
        self.process(&FaultPlan::new()).await
    }

    async fn driven<T>(&self, future: impl Future<Output = T>) -> T {
        until_crash(&self.clock, &FaultPlan::new(), future).await.expect("nothing crashes it")
    }

    /// Two versions were live in production, the second is.
    async fn two_versions(&self) {
        let (_, app) = self.calm().await;
        for version in ["one", "two"] {
            app.write([("index.html", version)]).await.unwrap();
            self.driven(app.deploy(PRODUCTION).await.unwrap().outcome()).await.unwrap();
        }
    }

    /// A calm process does what is left, as often as it takes, until what came late is swept.
    async fn recover(&self) -> AppHandle {
        let (platform, app) = self.calm().await;
        for minutes in [5, 1, 1, 11, 1] {
            self.clock.advance(Duration::from_mins(minutes)); // leases run out, sweeps fall due
            self.driven(platform.work()).await.unwrap();
        }
        app
    }

    async fn assert_whole(&self, app: &AppHandle, when: &str) {
        let scope = Scope::new(self.app.clone(), PRODUCTION);
        let route = app.route(PRODUCTION).await.unwrap();
        for target in [&self.first, &self.second] {
            let name = target.info().name;
            let live = route.as_ref().filter(|route| route.target == name);
            for observed in target.observe(&scope).await.unwrap() {
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
                let serving = target.serving(&scope).map(|(id, fence, _)| (id, fence));
                assert_eq!(serving, Some((route.deployment, route.fence)), "{when}: what {name} serves");
            }
        }
        let all = app.deployments(PRODUCTION, None, NonZeroU32::new(99).unwrap()).await.unwrap();
        for summary in all.items {
            let record = app.deployment(summary.id).await.unwrap();
            let asks = record.question().is_some(); // nobody has answered yet
            assert!(record.end().is_some() || asks, "{when}: it never ended:\n{}", record.timeline());
            assert!(record.leftovers().is_empty() || asks, "{when}: it was not swept:\n{}", record.timeline());
            assert!(record.actor().is_some(), "{when}: its story has no beginning");
        }
    }
}

/// Drives a future, moving the clock when nothing else goes on; `None` once a call hangs.
async fn until_crash<T>(clock: &TestClock, plan: &FaultPlan, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    loop {
        tokio::select! {
            biased;
            done = &mut future => return Some(done),
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
        if plan.hits().total() > 0 {
            return None;
        }
        clock.advance_to_next_sleeper();
    }
}

/// Lets a use case die before and after each call that it makes, and checks what a calm process makes of it.
async fn sweep<F: Future<Output = Result<()>>>(
    records: &Records,
    prepare: impl AsyncFn(&mut World),
    use_case: impl Fn(Platform, AppHandle) -> F,
) {
    // Postgres takes the later of its own time and what it is told.
    let clock = TestClock::at(SystemClock.now().plus(Duration::from_hours(1)));
    // A process that starts makes calls, too: those count and do not fail.
    let counting = FaultPlan::new();
    World::new(records.clone(), &clock).process(&counting).await;
    let start = counting.calls(&Calls::all());
    let mut crashes = 0;
    for (mode, fault) in [("before", Fault::HangBefore), ("after", Fault::HangAfter)] {
        for n in start + 1.. {
            let mut world = World::new(records.clone(), &clock);
            world.two_versions().await;
            prepare(&mut world).await;
            let plan = FaultPlan::new().nth(Calls::all(), n, fault);
            let (platform, app) = world.process(&plan).await;
            let ended = until_crash(&clock, &plan, use_case(platform, app)).await;
            let last = plan.log().last().map(|hit| format!("{hit:?}")).unwrap_or_default();
            let app = world.recover().await;
            world.assert_whole(&app, &format!("{mode} call {}, {last}", n - start)).await;
            if plan.hits().total() == 0 {
                ended.expect("nothing crashed it").unwrap();
                break;
            }
            crashes += 1;
        }
    }
    println!("{crashes} crashes");
    assert!(crashes >= 20, "only {crashes} crashes were tried");
}

async fn deploys(records: Records) {
    let deploy = async |_: Platform, app: AppHandle| {
        app.write([("index.html", "three")]).await?;
        app.deploy(PRODUCTION).await?.outcome().await.map(drop)
    };
    sweep(&records, async |_| (), deploy).await;
}

async fn fallbacks(records: Records) {
    let deploy = async |_: Platform, app: AppHandle| app.deploy(PRODUCTION).await?.outcome().await.map(drop);
    sweep(&records, async |world| world.first_is_down = true, deploy).await;
}

async fn rollbacks(records: Records) {
    let back =
        async |_: Platform, app: AppHandle| app.rollback(PRODUCTION, To::LastGood).await?.outcome().await.map(drop);
    sweep(&records, async |_| (), back).await;
}

async fn versions_that_are_not_well(records: Records) {
    let deploy = async |_: Platform, app: AppHandle| app.deploy(PRODUCTION).await?.outcome().await.map(drop);
    let sick = async |world: &mut World| world.probe.otherwise(Health::Unhealthy { reason: "sick".into() });
    sweep(&records, sick, deploy).await;
}

async fn promotions(records: Records) {
    let prepare = async |world: &mut World| {
        let (_, app) = world.calm().await;
        world.driven(app.deploy(Environment::Staging).await.unwrap().outcome()).await.unwrap();
    };
    let promote = async |_: Platform, app: AppHandle| {
        app.promote(Environment::Staging, PRODUCTION).await?.outcome().await.map(drop)
    };
    sweep(&records, prepare, promote).await;
}

async fn approvals(records: Records) {
    let prepare = async |world: &mut World| {
        world.permission = true;
        let (_, app) = world.calm().await;
        let asked = world.driven(app.deploy(PRODUCTION).await.unwrap().outcome()).await.unwrap();
        assert!(!asked.is_final());
    };
    let approve = async |platform: Platform, app: AppHandle| {
        let newest = app.deployments(PRODUCTION, None, NonZeroU32::MIN).await?.items.remove(0).id;
        app.answer(newest, OperatorChoice::Approve).await?;
        platform.work().await?;
        let live = app.route(PRODUCTION).await?.map(|route| route.deployment);
        assert_eq!(live, Some(newest), "what was approved is live");
        Ok(())
    };
    sweep(&records, prepare, approve).await;
}

/// Three more deploys, of which a copy of the store knows nothing: the targets have seen higher fences.
async fn three_more(world: &World) -> Fence {
    let (_, app) = world.calm().await;
    for version in ["three", "four", "five"] {
        app.write([("index.html", version)]).await.unwrap();
        world.driven(app.deploy(PRODUCTION).await.unwrap().outcome()).await.unwrap();
    }
    app.route(PRODUCTION).await.unwrap().unwrap().fence
}

/// With the copy in its place, the app can be deployed, and nothing else serves.
async fn goes_on(world: &World, ahead: Fence) {
    let (_, app) = world.calm().await;
    app.write([("index.html", "after the restore")]).await.unwrap();
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    let outcome = world.driven(deployment.outcome()).await.unwrap();
    assert!(matches!(outcome, Outcome::Active { .. }), "{outcome}");
    let route = app.route(PRODUCTION).await.unwrap().unwrap();
    assert!(route.fence > ahead, "fence {} is not above {ahead}", route.fence);
    let app = world.recover().await;
    world.assert_whole(&app, "after the restore").await;
}

macro_rules! sweeps {
    ($records:expr) => {
        #[tokio::test]
        async fn a_deploy_survives_a_crash_at_any_call() {
            let (records, _keep) = $records.await;
            super::deploys(records).await;
        }

        #[tokio::test]
        async fn a_fallback_survives_a_crash_at_any_call() {
            let (records, _keep) = $records.await;
            super::fallbacks(records).await;
        }

        #[tokio::test]
        async fn a_rollback_survives_a_crash_at_any_call() {
            let (records, _keep) = $records.await;
            super::rollbacks(records).await;
        }

        #[tokio::test]
        async fn what_is_not_well_is_rolled_back_whatever_call_it_crashes_at() {
            let (records, _keep) = $records.await;
            super::versions_that_are_not_well(records).await;
        }

        #[tokio::test]
        async fn a_promotion_survives_a_crash_at_any_call() {
            let (records, _keep) = $records.await;
            super::promotions(records).await;
        }

        #[tokio::test]
        async fn an_approval_survives_a_crash_at_any_call() {
            let (records, _keep) = $records.await;
            super::approvals(records).await;
        }
    };
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::{World, common::Folder, sealer};
    use overskill_core::{Clock as _, Records, SystemClock, TestClock};
    use overskill_sql::{SqliteOptions, SqliteStores};

    async fn open(folder: &Folder) -> SqliteStores {
        SqliteStores::open(folder.db(), SqliteOptions::new()).await.unwrap()
    }

    async fn records() -> (Records, Folder) {
        let folder = Folder::new();
        (open(&folder).await.records(sealer()), folder)
    }

    sweeps!(records());

    #[tokio::test]
    async fn an_older_copy_of_the_store_does_not_wedge_an_app() {
        let folder = Folder::new();
        let stores = open(&folder).await;
        let clock = TestClock::at(SystemClock.now());
        let mut world = World::new(stores.records(sealer()), &clock);
        world.two_versions().await;
        stores.close().await.unwrap();
        let copy = std::fs::read(folder.db()).unwrap();

        let stores = open(&folder).await;
        world.records = stores.records(sealer());
        let ahead = super::three_more(&world).await;
        stores.close().await.unwrap();
        std::fs::write(folder.db(), copy).unwrap();

        world.records = open(&folder).await.records(sealer());
        super::goes_on(&world, ahead).await;
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::{World, sealer};
    use overskill_core::{Clock as _, Records, SystemClock, TestClock};
    use overskill_sql::{PostgresOptions, PostgresStores};
    use overskill_testkit::postgres::PostgresCluster;
    use std::time::Duration;

    async fn open(url: String) -> PostgresStores {
        PostgresStores::connect(url, PostgresOptions::new()).await.unwrap()
    }

    async fn records() -> (Records, ()) {
        let url = PostgresCluster::shared().unwrap().fresh_database().unwrap();
        (open(url).await.records(sealer()), ())
    }

    sweeps!(records());

    #[tokio::test]
    async fn an_older_copy_of_the_store_does_not_wedge_an_app() {
        let cluster = PostgresCluster::shared().unwrap();
        let (now, before) = (format!("now_{}", std::process::id()), format!("before_{}", std::process::id()));
        cluster.create_database(&now).unwrap();
        let stores = open(cluster.url(&now)).await;
        // Postgres takes the later of its own time and what it is told.
        let clock = TestClock::at(SystemClock.now().plus(Duration::from_hours(1)));
        let mut world = World::new(stores.records(sealer()), &clock);
        world.two_versions().await;
        stores.close().await.unwrap();
        cluster.execute("postgres", &format!("CREATE DATABASE {before} TEMPLATE {now}")).unwrap();

        let stores = open(cluster.url(&now)).await;
        world.records = stores.records(sealer());
        let ahead = super::three_more(&world).await;
        stores.close().await.unwrap();

        world.records = open(cluster.url(&before)).await.records(sealer());
        super::goes_on(&world, ahead).await;
    }
}
