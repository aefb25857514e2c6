//! The stores against the same statements through the same driver: what overskill adds to sqlx.
//!
//! The peer runs, on a database of the same schema, the statements of the store one for one, in the same transactions and
//! with the same settings, with arguments that were made beforehand. On SQLite its C API runs them too, on the caller's
//! own thread and without copies: that distance is sqlx's as much as ours, and only shown. On Postgres the peer uses
//! sqlx's pool, as a service has to that does many things at a time; another has a connection to itself.
//!
//! None of that waits for a disk: SQLite's files are in memory, and Postgres is told not to. A disk would add the same to
//! all, a hundred times what they differ by, and more to one than to another whenever it has something else to do.
//!
//! The queue is held against the simplest that could do: one statement that deletes what it hands out, with
//! `SKIP LOCKED`, and writes history, but knows no lease and no second try. Here commits do wait for the disk: a batch has
//! few of them.

mod bare_postgres;
mod bare_sqlite;
mod c_api;
mod contest;
mod queue;
mod statements;
mod work;

use bare_postgres::BarePostgres;
use bare_sqlite::BareSqlite;
use c_api::CApi;
use contest::{Contestant, Figures, Ours, Seen, contest};
use overskill_benches::{Bench, OneCore, Outcome, Turns};
use overskill_sql::{PostgresOptions, PostgresStores, SqliteOptions, SqliteStores};
use overskill_testkit::postgres::PostgresCluster;
use std::path::PathBuf;

const SQLITE: Figures = contest::figures!("SQLite", "C API");
const POSTGRES: Figures = contest::figures!("Postgres", "sqlx, without pool");

fn main() {
    let figures = [SQLITE.peers, SQLITE.third, POSTGRES.peers, POSTGRES.third].concat();
    let mut bench = Bench::start("store", &[&figures[..], &queue::FIGURES].concat());
    // One call after the other on one core, servers and all, so that it waits for nothing but its store.
    let one_core = OneCore::keep();
    let alone = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    if bench.wants("sqlite") {
        let outcome = alone.block_on(heats(&bench, async || sqlite(&bench).await));
        let outcome = outcome.map(|seen| SQLITE.show(&mut bench, &seen));
        bench.attempt("SQLite", outcome);
    }
    if bench.wants("postgres") {
        let outcome = alone.block_on(heats(&bench, async || postgres(&bench).await));
        let outcome = outcome.map(|seen| POSTGRES.show(&mut bench, &seen));
        bench.attempt("Postgres", outcome);
    }
    drop((alone, one_core));
    if bench.wants("queue") {
        let together = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
        let outcome = together.block_on(queue::measure(&mut bench));
        bench.attempt("queue", outcome);
    }
    bench.finish();
}

/// Several heats, each from new databases on.
async fn heats(bench: &Bench, mut heat: impl AsyncFnMut() -> Outcome<Seen>) -> Outcome<Seen> {
    let mut heats = Vec::new();
    for _ in 0..bench.size(7, 1) {
        heats.push(heat().await?);
    }
    Ok(std::array::from_fn(|case| Turns::of_heats(heats.iter().map(|heat| heat[case].clone()))))
}

async fn sqlite(bench: &Bench) -> Outcome<Seen> {
    let folder = Folder::new()?;
    let open = async |name: &str| {
        let path = folder.0.join(name);
        let stores = SqliteStores::open(&path, SqliteOptions::new()).await?;
        Outcome::Ok((path, stores))
    };
    // Each is closed once, so that all begin alike. The schema is the stores' own.
    let (_, made) = open("ours.db").await?;
    made.close().await?;
    let (_, ours) = open("ours.db").await?;
    let ours = Ours::new(ours.files(), ours.bundles(), ours.deployments());
    let (bare, made) = open("bare.db").await?;
    made.close().await?;
    let (raw, made) = open("raw.db").await?;
    made.close().await?;
    let contestants: [Box<dyn Contestant>; 3] =
        [Box::new(ours), Box::new(BareSqlite::open(&bare).await?), Box::new(CApi::open(&raw)?)];
    contest(bench, contestants).await
}

async fn postgres(bench: &Bench) -> Outcome<Seen> {
    let cluster = PostgresCluster::start()?; // it does not wait for the disk unless told to
    let ours = PostgresStores::connect(cluster.fresh_database()?, PostgresOptions::new()).await?;
    let ours = Ours::new(ours.files(), ours.bundles(), ours.deployments());
    let made = async || {
        let url = cluster.fresh_database()?;
        PostgresStores::connect(url.clone(), PostgresOptions::new()).await?.close().await?;
        Outcome::Ok(url)
    };
    let (one, pool) = (BarePostgres::one(&made().await?).await?, BarePostgres::pool(&made().await?).await?);
    let contestants: [Box<dyn Contestant>; 3] = [Box::new(ours), Box::new(pool), Box::new(one)];
    contest(bench, contestants).await
}

/// An empty folder in memory, where there is such a thing, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let memory = Some(PathBuf::from("/dev/shm")).filter(|folder| folder.is_dir());
        let folder = memory.unwrap_or_else(std::env::temp_dir);
        let folder = folder.join(format!("overskill-bench-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // what is left over harms nobody
    }
}
