//! Whether a deploy costs more where many apps have been deployed.

use overskill_benches::{
    Bench, Figure, Goal, Outcome, Turns,
    deploys::{deploy, parts, scope, wanted},
    interleave, nanos_each,
};
use overskill_core::{Deployments, DeploymentsParts, memory::MemoryBackends};
use overskill_sql::{SqliteOptions, SqliteStores};
use sqlx::{ConnectOptions as _, Connection as _, query, sqlite::SqliteConnectOptions};
use std::{path::Path, sync::Arc, time::Instant};

const CASE: &str = "SQLite: a deploy with so many apps in the store";
const FIVE_THOUSAND: Figure = Figure::shown(CASE, "5,000", "µs", "500").goal(Goal::AtMost(1.2));
const FIFTY_THOUSAND: Figure = Figure::shown(CASE, "50,000", "µs", "500").goal(Goal::AtMost(1.2));

pub(crate) const FIGURES: [Figure; 2] = [FIVE_THOUSAND, FIFTY_THOUSAND];

pub(crate) async fn measure(bench: &mut Bench) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let mut stores = Vec::new();
    for apps in [500, 5_000, bench.size(50_000, 10_000)] {
        let path = folder.path().join(format!("{apps}.db"));
        let store = SqliteStores::open(&path, SqliteOptions::new()).await?;
        fill(&store, &path, apps).await?;
        stores.push(store);
    }
    let memory = MemoryBackends::new();
    let services: Vec<_> = stores.iter().map(|stores| over(&memory, stores)).collect();
    let (times, mut next) = (bench.size(40_u32, 5), 0);
    let turns: Turns<3> = interleave(bench.size(60, 3), async |who| {
        let mut all = Vec::new();
        for _ in 0..times {
            // Apps that are there already, in no order.
            next = (next * 7_919 + 17) % 499;
            all.push(wanted(&memory, scope(next)?).await?);
        }
        let start = Instant::now();
        for new in all {
            deploy(&services[who], new).await?;
        }
        Ok(nanos_each(start.elapsed(), times) / 1e3)
    })
    .await?;
    bench.show(&FIVE_THOUSAND, turns.compare(1, 0));
    bench.show(&FIFTY_THOUSAND, turns.compare(2, 0));
    Ok(())
}

/// A service over `stores`, with everything else in memory.
fn over(memory: &MemoryBackends, stores: &SqliteStores) -> Deployments {
    let (store, routes) = (Arc::new(stores.deployments()), Arc::new(stores.routes()));
    Deployments::new(DeploymentsParts { store, routes, ..parts(memory) })
}

/// Deploys one app, and copies its rows to all others.
async fn fill(store: &SqliteStores, path: &Path, apps: u32) -> Outcome<()> {
    const IDS: &str = "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < $1 - 1)";
    let memory = MemoryBackends::new();
    let service = over(&memory, store);
    let first = deploy(&service, wanted(&memory, scope(apps)?).await?).await?.to_string();
    let mut on = SqliteConnectOptions::new().filename(path).connect().await?;
    // An id of its own for each, older than any that is made now.
    let id = "printf('%08x-0000-7000-8000-%012x', n, n)";
    for sql in [
        format!("INSERT INTO deployments SELECT {id}, 'todo' || n, environment, seq, ended, due_ms FROM numbers, deployments WHERE id = $2"),
        format!("INSERT INTO deployment_events SELECT {id}, seq, at_ms, event FROM numbers, deployment_events WHERE deployment = $2"),
        format!("INSERT INTO routes SELECT 'todo' || n, environment, target, {id}, reference, url, fence FROM numbers, routes WHERE deployment = $2"),
        "INSERT INTO deployment_leases SELECT 'todo' || n, environment, fence, NULL, NULL, NULL FROM numbers, deployment_leases WHERE app = (SELECT app FROM deployments WHERE id = $2)".to_owned(),
    ] {
        query(sqlx::AssertSqlSafe(sql.replacen("INSERT", &format!("{IDS} INSERT"), 1))).bind(apps).bind(&first).execute(&mut on).await?;
    }
    Ok(on.close().await?)
}
