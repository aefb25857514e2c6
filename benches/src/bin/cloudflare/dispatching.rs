//! What our dispatcher costs over one that only knows scripts, both over the same emulated namespace; and what is left of
//! workerd without one.

use crate::rig::{NAMESPACE, Rig};
use futures::future::join_all;
use overskill::{
    AppId, Clock as _, DeploymentId, Environment, Fence, Handle, Route, RouteTable as _, Scope, SystemClock, SystemIds,
};
use overskill_benches::{Bench, Figure, Goal, Outcome, Turns, interleave};
use serde_json::json;
use std::time::{Duration, Instant};

const CASE: &str = "requests through the dispatcher";
const BARE: Figure = Figure::shown(CASE, "rate", "/s", "minimal dispatcher").goal(Goal::AtLeast(0.8));
const PLAIN: Figure = Figure::shown(CASE, "rate", "/s", "workerd alone");

pub(crate) const FIGURES: [Figure; 2] = [BARE, PLAIN];

const CLIENTS: usize = 16;
const CODE: &str = "export default { fetch() { return new Response('hello from an app'); } };\n";

pub(crate) async fn measure(bench: &mut Bench, rig: &Rig) -> Outcome<()> {
    rig.put("workers/scripts/alone", CODE, &json!([])).await?;
    rig.route("alone.bare.test/*", "alone").await?;
    rig.put(&format!("workers/dispatch/namespaces/{NAMESPACE}/scripts/hello-1"), CODE, &json!([])).await?;
    let scope = Scope::new(AppId::parse("hello")?, Environment::Production);
    let id = DeploymentId::generate(&SystemIds, SystemClock.now());
    let name = overskill::BackendName::parse("cloudflare")?;
    let route = Route::new(name, id, Handle::new("hello-1"), Fence::from_u64(1));
    rig.edge.routes().set(&scope, &route).await?;
    let hosts = [rig.host("hello", Environment::Production), "hello-1.bare.test".into(), "alone.bare.test".into()];
    let time = bench.size(Duration::from_millis(700), Duration::from_millis(100));
    let turns: Turns<3> = interleave(bench.size(20, 3), async |who| rate(rig, &hosts[who], time).await).await?;
    bench.show(&BARE, turns.compare(0, 1));
    bench.show(&PLAIN, turns.compare(0, 2));
    Ok(())
}

/// Requests a second by clients that ask again as soon as they are answered.
async fn rate(rig: &Rig, host: &str, time: Duration) -> Outcome<f64> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(rig.plain().await?);
    }
    let begun = Instant::now();
    let asked = clients.into_iter().map(|mut client| async move {
        let mut answered = 0_u32;
        while begun.elapsed() < time {
            match client.get(host, "/").await? {
                (200, body) if body == b"hello from an app" => answered += 1,
                (status, body) => {
                    return Err(format!("{host}: {status} {}", String::from_utf8_lossy(&body)).into());
                }
            }
        }
        Outcome::Ok(answered)
    });
    let mut answered = 0;
    for asked in join_all(asked).await {
        answered += asked?;
    }
    Ok(f64::from(answered) / begun.elapsed().as_secs_f64())
}
