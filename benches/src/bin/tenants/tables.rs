//! One table for all apps against a table for each, behind the same wall: the same roles, context, transaction and rows.
//!
//! There are 5,000 tables; `OVERSKILL_BENCH_TABLES=50000` makes as many as there are apps, as `cargo xtask ci --full`
//! does, and takes minutes longer.

use crate::{BEGIN, COMMIT, client, server_nanos};
use overskill_benches::{Bench, Figure, Outcome, Reading, Turns, interleave};
use overskill_core::{IdsExt as _, SeededIds};
use overskill_supabase::tokio_postgres::{Client, types::Type};
use std::time::Instant;

const CASE: &str = "one table for all apps";
const PEER: &str = "a table for each";
const TIME: Figure = Figure::shown(CASE, "server's time of a list of 12", "us", PEER);
const MEMORY: Figure = Figure::shown(CASE, "memory of a connection that saw all apps", "MB", PEER);
const DISK: Figure = Figure::shown(CASE, "catalogs", "MB", PEER);
const NEW: Figure = Figure::shown(CASE, "an app is added", "ms", PEER);
pub(crate) const ALL: [Figure; 4] = [TIME, MEMORY, DISK, NEW];

/// Tables made in one transaction: each holds locks until its end.
const AT_A_TIME: u32 = 250;

/// `contexts` are of `app1`, `app2`, and so on.
pub(crate) async fn measure(bench: &mut Bench, contexts: &[String], url: &str) -> Outcome<()> {
    let apps = match std::env::var("OVERSKILL_BENCH_TABLES") {
        Ok(number) => number.parse()?,
        Err(_) => bench.size(5_000, 100),
    };
    let root = client(url).await?;
    let catalogs = async || -> Outcome<f64> {
        let size = "SELECT sum(pg_total_relation_size(oid))::float8 / 1e6 FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace";
        Ok(root.query_one(size, &[]).await?.get(0))
    };
    let before = catalogs().await?;
    let since = Instant::now();
    enter(&root, apps).await?;
    let entered = since.elapsed().as_secs_f64() * 1e3 / f64::from(apps);
    let since = Instant::now();
    make_tables(&root, apps).await?;
    let made = since.elapsed().as_secs_f64() * 1e3 / f64::from(apps);
    bench.show(&NEW, compared(entered, made));
    bench.show(&DISK, compared(before, catalogs().await?));

    let as_app = url.replacen("postgres@", "overskill_app@", 1);
    let clients = [client(&as_app).await?, client(&as_app).await?];
    let mut pids = [0; 2];
    for (pid, client) in pids.iter_mut().zip(&clients) {
        *pid = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    }
    // Of as many apps as have contexts here; a table lets everybody in who has one.
    let random = SeededIds::new(3);
    let next = |below: usize| usize::try_from(random.random_u64() % below as u64).unwrap_or_default();
    let list = async |who: usize, context: &String, table: usize| -> Outcome<()> {
        let client = &clients[who];
        let arguments = [(context as _, Type::TEXT)];
        let set = "SELECT set_config('overskill.context', $1, true), overskill_data.whereabouts()";
        let (began, set) = tokio::join!(client.batch_execute(BEGIN), client.query_typed(set, &arguments));
        began.and(set.map(drop))?;
        let sql = match who {
            0 => "SELECT id, data FROM overskill_data.entities WHERE entity_type = 'Todo' AND deleted_at IS NULL \
                  ORDER BY placed DESC, id DESC LIMIT 12"
                .to_owned(),
            _ => format!(
                "SELECT id, data FROM own.t{table} WHERE deleted_at IS NULL ORDER BY placed DESC, id DESC LIMIT 12"
            ),
        };
        let rows = client.query_typed(&sql, &[]).await?;
        client.batch_execute(COMMIT).await?;
        if rows.len() == 12 { Ok(()) } else { Err(format!("{} rows", rows.len()).into()) }
    };
    let times = bench.size(250, 10);
    let turns: Turns<2> = interleave(bench.size(20, 2), async |who| {
        let before = server_nanos(pids[who])?;
        for _ in 0..times {
            list(who, &contexts[next(contexts.len())], next(apps as usize)).await?;
        }
        Ok((server_nanos(pids[who])? - before) / f64::from(times) / 1e3)
    })
    .await?;
    bench.show(&TIME, turns.compare(0, 1));
    for (app, context) in (0..apps as usize).zip(contexts.iter().cycle()) {
        list(0, context, app).await?;
        list(1, context, app).await?;
    }
    bench.show(&MEMORY, compared(private_megabytes(pids[0])?, private_megabytes(pids[1])?));
    Ok(())
}

fn compared(ours: f64, peer: f64) -> Reading {
    Reading { ours, peer: Some(peer), ratio: Some(ours / peer), spread: None }
}

/// As many apps as there will be tables, as their first transactions bring them in.
async fn enter(root: &Client, apps: u32) -> Outcome<()> {
    for from in (0..apps).step_by(AT_A_TIME as usize) {
        let until = (from + AT_A_TIME).min(apps);
        let sql = format!(
            "INSERT INTO overskill_guard.apps (app, environment) SELECT 'more' || n, 'production' FROM generate_series({from}, {until} - 1) n"
        );
        root.batch_execute(&sql).await?;
    }
    Ok(())
}

/// A table with its key, its index, its rows and its policy for each app, as careful as ours.
async fn make_tables(root: &Client, apps: u32) -> Outcome<()> {
    root.batch_execute("CREATE SCHEMA own; GRANT USAGE ON SCHEMA own TO overskill_app").await?;
    for from in (0..apps).step_by(AT_A_TIME as usize) {
        let until = (from + AT_A_TIME).min(apps);
        let sql = format!(
            "DO $do$ BEGIN FOR n IN {from}..{until} - 1 LOOP
                EXECUTE format($$
                    CREATE TABLE own.t%1$s (id text COLLATE \"C\" PRIMARY KEY, owner text NOT NULL, data jsonb NOT NULL,
                        placed timestamptz NOT NULL, deleted_at timestamptz);
                    CREATE INDEX ON own.t%1$s (placed, id);
                    INSERT INTO own.t%1$s SELECT gen_random_uuid()::text, 'ada', jsonb_build_object('title', 'Item ' || k),
                        timestamptz '2026-01-01' + k * interval '1 hour' FROM generate_series(1, 12) k;
                    ALTER TABLE own.t%1$s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
                    CREATE POLICY app ON own.t%1$s USING ((SELECT overskill_guard.app()) IS NOT NULL);
                    GRANT SELECT ON own.t%1$s TO overskill_app$$, n);
            END LOOP; END $do$"
        );
        root.batch_execute(&sql).await?;
    }
    Ok(())
}

/// What a process has for itself. Linux tells.
fn private_megabytes(pid: i32) -> Outcome<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kilobytes =
        text.lines().filter(|line| line.starts_with("Private_")).filter_map(|line| line.split_whitespace().nth(1));
    Ok(kilobytes.filter_map(|number| number.parse::<f64>().ok()).sum::<f64>() / 1e3)
}
