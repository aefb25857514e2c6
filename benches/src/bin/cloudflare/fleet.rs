//! Fifty thousand apps under the quota that Cloudflare grants a user, on a simulated clock; and as shared previews, which spend
//! none of it.
//!
//! Both sides are counted by the same app. Ours is brought there 50,000 times with a small artifact in its place, so that the
//! emulator need not hold 50,000 times a megabyte: that this takes as many calls is measured before.

use crate::{
    app::{App, no_env, one_variable},
    rig::{InProcess, Rig},
    wrangler::Project,
};
use futures::{StreamExt as _, stream};
use overskill::{
    AppId, Artifact, Clock as _, DeployRequest, DeploymentId, DeploymentTarget as _, Environment, Fence,
    PreviewHost as _, Scope, SeededIds, TestClock, cloudflare::Cloudflare,
};
use overskill_benches::{Bench, Figure, Goal, Outcome, Reading};
use overskill_testkit::{cloudflare::CloudflareEmulator, fixtures};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const WFP: &str = "50,000 apps deployed";
const SHARED: &str = "50,000 apps as shared previews, scaled from 200";
const WRANGLER: &str = "wrangler";

const WFP_CALLS: Figure = Figure::shown(WFP, "calls of the API", "", WRANGLER);
const WFP_TIME: Figure = Figure::shown(WFP, "simulated time", "h", WRANGLER);
const WFP_REFUSED: Figure = Figure::shown(WFP, "calls refused for the quota", "", "limit").goal(Goal::AtMost(1.0));
const WFP_OWN: Figure = Figure::shown(WFP, "time above the quota's own", "", "what the quota takes");
const SHARED_CALLS: Figure = Figure::shown(SHARED, "calls of the API", "", WRANGLER);
const SHARED_REQUESTS: Figure = Figure::shown(SHARED, "signed requests to our Worker, each", "", "");
const SHARED_TIME: Figure = Figure::shown(SHARED, "time by the rate of one process here", "h", WRANGLER);

pub(crate) const FIGURES: [Figure; 7] =
    [WFP_CALLS, WFP_TIME, WFP_REFUSED, WFP_OWN, SHARED_CALLS, SHARED_REQUESTS, SHARED_TIME];

/// What Cloudflare grants: so many calls in so long.
const CALLS: f64 = 1_200.0;
const WINDOW: Duration = Duration::from_mins(5);
const FLEET: f64 = 50_000.0;
/// How often the real app is deployed, to see what it takes.
const SAMPLE: u32 = 20;
/// How many deploys are under way at once. The quota is what they wait for: more would wait for longer, and have to look again
/// at what they saw.
const AT_ONCE: usize = 16;

pub(crate) async fn measure(bench: &mut Bench, rig: &Rig, app: &App) -> Outcome<()> {
    // As often as it calls for one app, it calls for each.
    let wrangler = Project::new(app.ground().join("wrangler-fleet"), app.artifact())?;
    wrangler.renew(usize::from(u8::MAX))?;
    let of_wrangler = f64::from(wrangler.deploy(&rig.emulator, "fleet").await?.calls) * FLEET;
    let hours_of = |calls: f64| calls / CALLS * WINDOW.as_secs_f64() / 3_600.0;

    let small = |n: u32| Arc::new(fixtures::artifact(2, u64::from(n)));
    let (real, _, _) = deploy_all(SAMPLE, |_| app.artifact().clone()).await?;
    let (in_its_place, _, _) = deploy_all(SAMPLE, small).await?;
    if real != in_its_place {
        let message = format!("{SAMPLE} deploys take {real} calls, and of the small artifact {in_its_place}");
        return Err(message.into());
    }
    let apps = bench.size(50_000_u32, 1_000);
    let scale = FLEET / f64::from(apps);
    let (calls, refused, took) = deploy_all(apps, small).await?;
    let (calls, hours) = (f64::from(calls) * scale, took.as_secs_f64() / 3_600.0 * scale);
    bench.show(&WFP_CALLS, against(calls, of_wrangler));
    bench.show(&WFP_TIME, against(hours, hours_of(of_wrangler)));
    bench.show(&WFP_REFUSED, Reading { ratio: Some(f64::from(refused)), ..Reading::limited(f64::from(refused), 0.0) });
    bench.show(&WFP_OWN, Reading::limited(hours, hours_of(calls)));

    let apps = bench.size(200_u32, 20);
    rig.edge.previews(app.engine()).open(&scope(0, "first")?, app.sources(), &no_env()).await?;
    let previews = rig.edge.previews(app.engine());
    previews.open(&scope(0, "second")?, app.sources(), &no_env()).await?;
    rig.emulator.clear_requests();
    rig.line.take();
    let begun = Instant::now();
    for n in 0..apps {
        previews.open(&scope(n, "fleet")?, app.sources(), &no_env()).await?;
    }
    let each = begun.elapsed().as_secs_f64() / f64::from(apps);
    let of_api = f64::from(u32::try_from(rig.emulator.requests().len())?) * FLEET / f64::from(apps);
    let requests = f64::from(u32::try_from(rig.line.take().len())?) / f64::from(apps);
    bench.show(&SHARED_CALLS, against(of_api, of_wrangler));
    bench.show(&SHARED_REQUESTS, Reading::alone(requests));
    bench.show(&SHARED_TIME, against(each * FLEET / 3_600.0, hours_of(of_wrangler)));
    Ok(())
}

fn against(ours: f64, peer: f64) -> Reading {
    Reading::limited(ours, peer)
}

fn scope(n: u32, name: &str) -> Outcome<Scope> {
    Ok(Scope::new(AppId::parse(&format!("{name}{n}"))?, Environment::Preview))
}

/// Deploys so many new apps, as fast as the quota lets: calls, those refused, and the time on the clock.
async fn deploy_all(apps: u32, artifact: impl Fn(u32) -> Arc<Artifact>) -> Outcome<(u32, u32, Duration)> {
    let clock = TestClock::new();
    let emulator = CloudflareEmulator::options().clock(Arc::new(clock.clone())).in_process();
    let cf = Cloudflare::connect(emulator.account(), emulator.token())
        .domains(["example.com"])
        .transport(InProcess(emulator.clone()))
        .clock(clock.clone())
        .ids(SeededIds::new(1))
        .build()?;
    let (target, ids, env) = (cf.target(), SeededIds::new(2), Arc::new(one_variable()?));
    let began = clock.now();
    let deploys = stream::iter(0..apps)
        .map(|n| {
            let (target, env, id) = (target.clone(), env.clone(), DeploymentId::generate(&ids, began));
            let (artifact, fence) = (artifact(n), Fence::from_u64(1));
            async move {
                let scope = Scope::new(AppId::parse(&format!("app{n}"))?, Environment::Production);
                let request = DeployRequest::new(id, scope, artifact, env).under(fence);
                let staged = target.stage(&request).await?;
                target.activate(&request, &staged, fence).await.map(drop)
            }
        })
        .buffer_unordered(AT_ONCE)
        .fold(Ok(()), |all: overskill::Result<()>, one| async { all.and(one) });
    clock.drive(deploys).await?;
    let took = clock.now().since(began);
    let calls = emulator.requests();
    let refused = calls.iter().filter(|call| call.status == Some(429)).count();
    if emulator.state().namespaces.get("overskill-production").map_or(0, std::collections::BTreeMap::len)
        != apps as usize
    {
        return Err("not every app was deployed".into());
    }
    Ok((u32::try_from(calls.len())?, u32::try_from(refused)?, took))
}
