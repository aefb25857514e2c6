//! What row level security with a signed context costs: 50,000 apps and 2 million rows in one table.
//!
//! The newest 100 records of an app, in a transaction of its own: through the pool, as tenants' role, against the same
//! transaction as a role that no policy binds and that names the app itself. What is compared is the processor time that
//! the server's process took, which other programs on the machine hardly change.
//!
//! Beside that: what a look at a token costs, what the explorer adds to a query, and how one table for all apps compares with
//! a table for each.

mod tables;
mod validation;

use futures::future::join_all;
use overskill_benches::{Bench, Figure, Goal, Outcome, Reading, Turns, interleave, nanos_each};
use overskill_core::{
    AccessToken, ApiMethod, ApiRequest, ApiUpstream as _, AppId, Claims, Clock as _, Environment, FilePath,
    IdsExt as _, KeyId, LocalKeys, LocalTokens, Right, Rights, Scope, Secret, SeededIds, SubjectId, SystemClock,
    SystemIds, SystemScopes, TenantGate, TenantGrant, TenantId, memory::MemoryAudit,
};
use overskill_supabase::{
    ContextKey, ContextKeys, EntityApi, Explorer, ExplorerLimits, Plan, PoolOptions, Query, RolePasswords, Schema,
    Server, TenantPool,
    tokio_postgres::{Client, NoTls, connect, types::Type},
};
use overskill_testkit::postgres::PostgresCluster;
use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

const NEWEST: &str = "newest 100 records of an app";
const PEER: &str = "no RLS";
const PREPARED: Figure = Figure::shown(NEWEST, "server's time, prepared", "us", PEER).goal(Goal::AtMost(1.35));
const UNPREPARED: Figure = Figure::shown(NEWEST, "server's time, unprepared", "us", PEER).goal(Goal::AtMost(1.5));
const P95: Figure = Figure::shown(NEWEST, "p95 of 16 clients", "ms", "limit").goal(Goal::AtMost(1.0));
const RATE: Figure = Figure::shown(NEWEST, "transactions of 16 clients", "/s", "");
const API: Figure = Figure::shown("entity API", "lists of 16 clients", "/s", "");
const WRITES: Figure = Figure::shown("entity API", "new records of 16 clients", "/s", "");
const EXPLORED: Figure = Figure::shown("explorer", "a query of 100 rows", "us", "in a transaction");

const SELECT: &str = "SELECT id, data FROM overskill_data.entities WHERE entity_type = 'Todo' AND deleted_at IS NULL \
    ORDER BY placed DESC, id DESC LIMIT 100";
const SELECT_OF: &str = "SELECT id, data FROM overskill_data.entities WHERE app_id = $1 AND entity_type = 'Todo' \
    AND deleted_at IS NULL ORDER BY placed DESC, id DESC LIMIT 100";
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE; RESET ALL; \
    SET LOCAL statement_timeout = 8000; SET LOCAL lock_timeout = 3000; SET LOCAL row_security = on; \
    SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL client_encoding = 'UTF8'; \
    SET LOCAL synchronous_commit = on; DISCARD TEMP";
const COMMIT: &str = "SELECT 1; COMMIT";

fn main() {
    let figures =
        [&[PREPARED, UNPREPARED, P95, RATE, API, WRITES, EXPLORED][..], &validation::ALL, &tables::ALL].concat();
    let mut bench = Bench::start("tenants", &figures);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let outcome = runtime.block_on(validation::measure(&mut bench));
    bench.attempt("validation", outcome);
    let outcome = runtime.block_on(measure(&mut bench));
    bench.attempt("tenants", outcome);
    bench.finish();
}

/// The apps whose records are read: each has 150.
struct Apps {
    scopes: Vec<Scope>,
    grants: Vec<TenantGrant>,
    tokens: Vec<AccessToken>,
    numbers: Vec<i64>,
    contexts: Vec<String>,
    random: SeededIds,
}

impl Apps {
    fn next(&self) -> usize {
        usize::try_from(self.random.random_u64() % self.scopes.len() as u64).unwrap_or_default()
    }
}

async fn measure(bench: &mut Bench) -> Outcome<()> {
    let cluster = PostgresCluster::options().setting("shared_buffers", "512MB").start()?;
    let url = cluster.fresh_database()?;
    let tokens = LocalTokens::new(LocalKeys::generate(KeyId::parse("bench")?)?);
    let gate = TenantGate::new(Arc::new(tokens.validator()), Arc::new(MemoryAudit::new()), Arc::new(SystemClock));
    let keys = ContextKeys::new(ContextKey::generate(KeyId::parse("bench")?, &SystemIds));
    let system = gate.system("bench", "measuring", SystemScopes::All).await?;
    let passwords = RolePasswords { app: Secret::new("one"), explorer: Secret::new("other") };
    let server = Server::parse(&Secret::new(url.as_str()))?;
    Schema::new(server.clone(), gate.clone()).install(&system, &passwords, &keys).await?;
    let root = client(&url).await?;
    fill(&root, bench.size(10_000, 200), bench.size(40_000, 800)).await?;
    let pool = |connections| {
        let some = NonZeroU32::new(connections).expect("not zero");
        let plan = Plan::new("bench").connections_per_app(some).wait(Duration::from_mins(1));
        let options = PoolOptions::new().connections(some).plans(move |_| plan).transaction(Duration::from_hours(1));
        let server = server.clone().role("overskill_app", &passwords.app);
        TenantPool::new(server, gate.clone(), keys.clone(), options)
    };
    let one = pool(1);
    let apps = apps(bench, &tokens, &gate, &one, &root).await?;
    tables::measure(bench, &apps.contexts, &url).await?;
    explorer(bench, &server, &gate, &keys, &tokens, &passwords.explorer).await?;
    let (unprepared, prepared) = (library(bench, &one, &apps, &url).await?, statements(bench, &apps, &url).await?);
    bench.show(&UNPREPARED, micros(&unprepared));
    bench.show(&PREPARED, micros(&prepared));
    together(bench, &pool(16), apps).await
}

async fn client(url: &str) -> Outcome<Client> {
    let (client, connection) = connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Apps with 150 records and apps with 12, in the order of nothing.
async fn fill(root: &Client, large: i32, small: i32) -> Outcome<()> {
    root.batch_execute(&format!(
        "SET session_replication_role = replica;
        INSERT INTO overskill_guard.apps (app, environment)
            SELECT 'app' || i, 'production' FROM generate_series(1, {large} + {small}) i;
        INSERT INTO overskill_data.entity_types (app_id, entity_type) SELECT app_id, 'Todo' FROM overskill_guard.apps;
        INSERT INTO overskill_data.entities (app_id, entity_type, id, owner, access, data, placed)
            SELECT app_id, 'Todo', gen_random_uuid()::text, 'ada', 2,
                jsonb_build_object('title', 'Item ' || k, 'done', k % 2 = 0, 'body', repeat(md5(k::text || app_id), 4)),
                timestamptz '2026-01-01' + random() * interval '300 days'
            FROM overskill_guard.apps a,
                LATERAL generate_series(1, CASE WHEN substr(app, 4)::int <= {large} THEN 150 ELSE 12 END) k
            ORDER BY random();
        SET session_replication_role = origin;
        CREATE ROLE bench_plain LOGIN BYPASSRLS;
        GRANT USAGE ON SCHEMA overskill_data TO bench_plain;
        GRANT SELECT ON overskill_data.entities TO bench_plain;"
    ))
    .await?;
    root.batch_execute("VACUUM ANALYZE overskill_data.entities").await?;
    Ok(())
}

async fn apps(
    bench: &Bench,
    tokens: &LocalTokens,
    gate: &TenantGate,
    pool: &TenantPool,
    root: &Client,
) -> Outcome<Apps> {
    let mut apps = Apps {
        scopes: Vec::new(),
        grants: Vec::new(),
        tokens: Vec::new(),
        numbers: Vec::new(),
        contexts: Vec::new(),
        random: SeededIds::new(7),
    };
    for n in 1..=bench.size(2_000, 50) {
        let app = AppId::parse(&format!("app{n}"))?;
        let (tenant, now) = (TenantId::of_app(app.clone()), SystemClock.now());
        let end = now.plus(Duration::from_hours(2));
        let claims = Claims::new(SubjectId::parse("ada")?, tenant.clone(), Rights::of([Right::Data]), end);
        let token = tokens.mint(&claims, now)?;
        let (grant, scope) = (gate.admit(&token, &tenant).await?, Scope::new(app, Environment::Production));
        let tx = pool.begin(&grant, &scope).await?;
        let context = tx.query_opt("SELECT current_setting('overskill.context')", &[]).await?;
        apps.contexts.push(context.ok_or("no context")?.get(0));
        tx.rollback().await?;
        let number = "SELECT app_id FROM overskill_guard.apps WHERE app = $1";
        apps.numbers.push(root.query_one(number, &[&scope.app.as_str()]).await?.get(0));
        apps.scopes.push(scope);
        apps.grants.push(grant);
        apps.tokens.push(token);
    }
    Ok(apps)
}

/// The library against the same statements without names.
async fn library(bench: &Bench, pool: &TenantPool, apps: &Apps, url: &str) -> Outcome<Turns<2>> {
    let peer = client(&url.replacen("postgres@", "bench_plain@", 1)).await?;
    let tx = pool.begin(&apps.grants[0], &apps.scopes[0]).await?;
    let pids = [
        tx.query_opt("SELECT pg_backend_pid()", &[]).await?.ok_or("no process")?.get(0),
        peer.query_one("SELECT pg_backend_pid()", &[]).await?.get::<_, i32>(0),
    ];
    tx.rollback().await?;
    let times = bench.size(300, 20);
    interleave(bench.size(40, 2), async |who| {
        let before = server_nanos(pids[who])?;
        for _ in 0..times {
            let app = apps.next();
            let rows = if who == 0 {
                let tx = pool.begin(&apps.grants[app], &apps.scopes[app]).await?;
                let rows = tx.query(SELECT, &[]).await?;
                tx.commit().await?;
                rows
            } else {
                let context = [(&apps.contexts[app] as _, Type::TEXT)];
                let set = "SELECT set_config('overskill.context', $1, true)";
                let (began, set) = tokio::join!(peer.batch_execute(BEGIN), peer.query_typed(set, &context));
                began.and(set.map(drop))?;
                let rows = peer.query_typed(SELECT_OF, &[(&apps.numbers[app], Type::INT8)]).await?;
                peer.batch_execute(COMMIT).await?;
                rows
            };
            if rows.len() != 100 {
                return Err(format!("{} rows", rows.len()).into());
            }
        }
        Ok((server_nanos(pids[who])? - before) / f64::from(times))
    })
    .await
}

/// The same statements, prepared, by both.
async fn statements(bench: &Bench, apps: &Apps, url: &str) -> Outcome<Turns<2>> {
    let clients = [
        client(&url.replacen("postgres@", "overskill_app@", 1)).await?,
        client(&url.replacen("postgres@", "bench_plain@", 1)).await?,
    ];
    let mut pids = [0; 2];
    for (pid, client) in pids.iter_mut().zip(&clients) {
        *pid = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    }
    let set = "SELECT set_config('overskill.context', $1, true)";
    let begun = "SELECT set_config('overskill.context', $1, true), overskill_data.whereabouts()";
    let sets = [clients[0].prepare(begun).await?, clients[1].prepare(set).await?];
    let selects = [clients[0].prepare(SELECT).await?, clients[1].prepare(SELECT_OF).await?];
    let times = bench.size(300, 20);
    interleave(bench.size(40, 2), async |who| {
        let (client, before) = (&clients[who], server_nanos(pids[who])?);
        for _ in 0..times {
            let app = apps.next();
            let context = apps.contexts[app].as_str();
            client.batch_execute(BEGIN).await?;
            client.query(&sets[who], &[&context]).await?;
            let rows = match who {
                0 => client.query(&selects[0], &[]).await?,
                _ => client.query(&selects[1], &[&apps.numbers[app]]).await?,
            };
            client.batch_execute(COMMIT).await?;
            if rows.len() != 100 {
                return Err(format!("{} rows", rows.len()).into());
            }
        }
        Ok((server_nanos(pids[who])? - before) / f64::from(times))
    })
    .await
}

/// Sixteen clients at a time.
async fn together(bench: &mut Bench, pool: &TenantPool, apps: Apps) -> Outcome<()> {
    let (apps, all) = (Arc::new(apps), bench.size(1_000_u32, 20));
    let run = async |api: Option<(EntityApi, ApiMethod)>| -> Outcome<(Vec<f64>, f64)> {
        // Through the API each takes several times as long.
        let times = if api.is_some() { all.div_ceil(4) } else { all };
        let since = Instant::now();
        let clients = (0..16).map(|_| {
            let (pool, apps, api) = (pool.clone(), apps.clone(), api.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                for _ in 0..times {
                    let (app, since) = (apps.next(), Instant::now());
                    if let Some((api, method)) = &api {
                        let kind = if *method == ApiMethod::Get { "entities/Todo" } else { "entities/Note" };
                        let (scope, path) = (apps.scopes[app].clone(), FilePath::parse(kind)?);
                        let request = ApiRequest::new(scope, apps.tokens[app].clone(), *method, path);
                        let request = match method {
                            ApiMethod::Post => request.body("application/json", r#"{"title":"Item","done":false}"#),
                            _ => request,
                        };
                        let answer = api.call(&request).await?;
                        if ![200, 201].contains(&answer.status) {
                            return Err(format!("answered with {}", answer.status).into());
                        }
                    } else {
                        let tx = pool.begin(&apps.grants[app], &apps.scopes[app]).await?;
                        tx.query(SELECT, &[]).await?;
                        tx.commit().await?;
                    }
                    took.push(since.elapsed().as_secs_f64() * 1e3);
                }
                Outcome::Ok(took)
            })
        });
        let mut all = Vec::new();
        for took in join_all(clients).await {
            all.extend(took??);
        }
        let rate = f64::from(16 * times) / since.elapsed().as_secs_f64();
        Ok((all, rate))
    };
    run(None).await?; // connects
    let (took, rate) = run(None).await?;
    let each = Turns::seen(took.into_iter().map(|took| [took]).collect());
    bench.show(&P95, Reading::limited(each.quantile_of(0, 0.95), 100.0));
    bench.show(&RATE, Reading::alone(rate));
    let api = EntityApi::new(pool.clone());
    let (_, rate) = run(Some((api.clone(), ApiMethod::Get))).await?;
    bench.show(&API, Reading::alone(rate));
    let (_, rate) = run(Some((api, ApiMethod::Post))).await?;
    bench.show(&WRITES, Reading::alone(rate));
    Ok(())
}

/// A developer's query against the same query in a transaction of the same role: parsing, the allow-list, the cursor, JSON.
async fn explorer(
    bench: &mut Bench,
    server: &Server,
    gate: &TenantGate,
    keys: &ContextKeys,
    tokens: &LocalTokens,
    password: &Secret,
) -> Outcome<()> {
    let server = server.clone().role("overskill_explorer", password);
    let limits = ExplorerLimits::new();
    let explorer = Explorer::new(server.clone(), gate.clone(), keys.clone(), Arc::new(MemoryAudit::new()), limits)?;
    let pool = TenantPool::new(server, gate.clone(), keys.clone(), PoolOptions::new().right(Right::Develop));
    let (scope, now) = (Scope::new(AppId::parse("app1")?, Environment::Production), SystemClock.now());
    let tenant = TenantId::of_app(scope.app.clone());
    let end = now.plus(Duration::from_hours(2));
    let claims = Claims::new(SubjectId::parse("dev")?, tenant.clone(), Rights::of([Right::Develop]), end);
    let grant = gate.admit(&tokens.mint(&claims, now)?, &tenant).await?;
    let query = Query::new("SELECT id, data->>'title' AS title FROM Todo ORDER BY created_at DESC, id DESC LIMIT 100");
    let plain = "SELECT id, data->>'title' FROM overskill_data.entities WHERE entity_type = 'Todo' AND deleted_at IS NULL \
        ORDER BY created_at DESC, id DESC LIMIT 100";
    let times = bench.size(50, 5);
    let turns = interleave::<2>(bench.size(20, 2), async |who| {
        let since = Instant::now();
        for _ in 0..times {
            let rows = if who == 0 {
                explorer.table(&grant, &scope, &query).await?.rows.len()
            } else {
                let tx = pool.begin_read_only(&grant, &scope).await?;
                let rows = tx.query(plain, &[]).await?.len();
                tx.rollback().await?;
                rows
            };
            if rows != 100 {
                return Err(format!("{rows} rows").into());
            }
        }
        Ok(nanos_each(since.elapsed(), times))
    })
    .await?;
    bench.show(&EXPLORED, micros(&turns));
    Ok(())
}

fn micros(turns: &Turns<2>) -> Reading {
    let nanos = turns.compare(0, 1);
    Reading { ours: nanos.ours / 1e3, peer: nanos.peer.map(|peer| peer / 1e3), ..nanos }
}

/// The processor time that a process took so far. Linux tells.
fn server_nanos(pid: i32) -> Outcome<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    Ok(text.split_whitespace().next().ok_or("an empty schedstat")?.parse()?)
}
