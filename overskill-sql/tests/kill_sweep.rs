//! A process that writes is killed, again and again, and nothing that it acknowledged is lost or halved.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(missing_docs)]

mod common;
#[path = "kill_sweep/work.rs"]
mod work;

use overskill_core::Timestamp;
use std::time::Duration;
use work::{Round, Said, Stores, check, sealer, write};

/// The moments of the rounds: far enough ahead of every clock.
fn base() -> Timestamp {
    Timestamp::from_unix_millis(4_102_444_800_000) // 2100-01-01
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The same times in every run: between 0 and `most`, spread evenly.
fn pause(n: u64, most: Duration) -> Duration {
    let spread = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44;
    most.mul_f64(f64::from(u32::try_from(spread).unwrap()) / f64::from(1 << 20))
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use super::*;
    use crate::common::Folder;
    use overskill_sql::{SqliteOptions, SqliteStores};
    use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
    use std::{
        io::{BufRead as _, BufReader},
        path::Path,
        process::{Child, Command, Stdio},
        sync::Arc,
        thread::sleep,
    };

    const FILES: u64 = 5;
    const KILLS_OF_A_FILE: u64 = 42;
    const WRITER: &str = "OVERSKILL_TEST_KILLED_WRITER";

    fn stores(of: &SqliteStores) -> Stores {
        let jobs = Arc::new(of.jobs());
        Stores {
            files: Arc::new(of.files()),
            audit: Arc::new(of.audit()),
            deployments: Arc::new(of.deployments()),
            env: Arc::new(of.env(sealer())),
            bundles: Arc::new(of.bundles()),
            routes: Arc::new(of.routes()),
            scheduler: jobs.clone(),
            runs: jobs,
        }
    }

    /// Not a test of its own: the process that is killed. It has the file and the number of its round in a variable.
    #[test]
    fn writer_that_is_killed() {
        let Ok(told) = std::env::var(WRITER) else { return };
        let (round, db) = told.split_once(' ').unwrap();
        let round = Round::new(round.parse().unwrap(), base());
        println!();
        runtime().block_on(async {
            let opened = SqliteStores::open(db, SqliteOptions::new()).await.unwrap();
            println!("ready");
            write(&stores(&opened), round, |what, kind, n| println!("{what} {kind} {n}")).await.unwrap();
        });
    }

    fn start(db: &Path, round: u64) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sqlite::writer_that_is_killed", "--nocapture"])
            .env(WRITER, format!("{round} {}", db.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn signal(child: &Child, signal: &str) {
        let status = Command::new("sh").args(["-c", &format!("kill -s {signal} {}", child.id())]).status().unwrap();
        assert!(status.success());
    }

    /// Whether somebody has the right to write. The writer stands still while it is asked, so the answer holds.
    async fn is_in_transaction(db: &Path) -> bool {
        let options = SqliteConnectOptions::new().filename(db).busy_timeout(Duration::ZERO);
        let mut connection = options.connect().await.unwrap();
        let begun = sqlx::raw_sql("BEGIN IMMEDIATE; ROLLBACK").execute(&mut connection).await;
        connection.close().await.unwrap();
        let Err(e) = begun else { return false };
        let code = e.as_database_error().and_then(sqlx::error::DatabaseError::code).map(std::borrow::Cow::into_owned);
        assert_eq!(code.as_deref(), Some("5"), "it is locked, or free: {e}"); // SQLITE_BUSY
        true
    }

    #[test]
    fn nothing_acknowledged_is_lost_or_halved() {
        let (mut kills, mut inside, mut acknowledged) = (0, 0, 0);
        for file in 0..FILES {
            let folder = Folder::new();
            for n in 0..KILLS_OF_A_FILE {
                let mut child = start(&folder.db(), n);
                let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
                let mut said = Said::default();
                // Some are killed while they open the file, and so the first while it makes the schema.
                let early = n % 7 == 0;
                if !early {
                    assert!(lines.any(|line| line == "ready"), "the writer ended before it wrote");
                }
                sleep(pause(file * KILLS_OF_A_FILE + n, Duration::from_millis(40)));
                signal(&child, "STOP");
                let running = runtime();
                inside += usize::from(!early && running.block_on(is_in_transaction(&folder.db())));
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
                lines.for_each(|line| said.hear(&line));

                let round = Round::new(n, base());
                acknowledged += said.acknowledged(round);
                running.block_on(async {
                    let opened = SqliteStores::open(folder.db(), SqliteOptions::new()).await.unwrap();
                    if let Err(e) = check(&stores(&opened), &said, round).await {
                        panic!("after kill {kills}: {e:?}");
                    }
                    opened.close().await.unwrap();
                    let mut connection = SqliteConnectOptions::new().filename(folder.db()).connect().await.unwrap();
                    let found: Vec<String> =
                        sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut connection).await.unwrap();
                    assert_eq!(found, ["ok"], "after kill {kills}");
                });
            }
        }
        println!("{kills} kills, {inside} of them inside a transaction, {acknowledged} acknowledged writes");
        assert!(kills >= 200, "only {kills} kills");
        assert!(inside >= 50, "only {inside} of {kills} kills were inside a transaction");
        assert!(acknowledged >= kills, "only {acknowledged} writes were acknowledged");
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::*;
    use overskill_sql::{PostgresOptions, PostgresStores};
    use overskill_testkit::postgres::PostgresCluster;
    use std::sync::{Arc, Mutex};

    const KILLS: u64 = 10;

    async fn connect(url: &str) -> (PostgresStores, Stores) {
        let of = PostgresStores::connect(url, PostgresOptions::new()).await.unwrap();
        let jobs = Arc::new(of.jobs());
        let stores = Stores {
            files: Arc::new(of.files()),
            audit: Arc::new(of.audit()),
            deployments: Arc::new(of.deployments()),
            env: Arc::new(of.env(sealer())),
            bundles: Arc::new(of.bundles()),
            routes: Arc::new(of.routes()),
            scheduler: jobs.clone(),
            runs: jobs,
        };
        (of, stores)
    }

    #[test]
    fn nothing_acknowledged_is_lost_or_halved() {
        let cluster = PostgresCluster::options().durable(true).start().unwrap();
        let url = cluster.fresh_database().unwrap();
        let mut acknowledged = 0;
        runtime().block_on(async {
            for n in 0..KILLS {
                let round = Round::new(n, base());
                let said = Mutex::new(Said::default());
                let (of, stores) = connect(&url).await;
                let say = |what: &'static str, kind: &'static str, n: u64| {
                    said.lock().unwrap().hear(&format!("{what} {kind} {n}"));
                };
                let writing = write(&stores, round, say);
                let killing = async {
                    tokio::time::sleep(Duration::from_millis(150) + pause(n, Duration::from_millis(100))).await;
                    tokio::task::block_in_place(|| cluster.kill().unwrap());
                    std::future::pending::<()>().await;
                };
                // The writer ends with the error of whichever store noticed first.
                tokio::select! {
                    ended = writing => assert!(ended.is_err(), "the writer ended by itself"),
                    () = killing => {}
                }
                of.close().await.unwrap();
                cluster.start_again().unwrap();
                let said = said.into_inner().unwrap();
                acknowledged += said.acknowledged(round);
                let (of, stores) = connect(&url).await;
                if let Err(e) = check(&stores, &said, round).await {
                    panic!("after kill {n}: {e:?}");
                }
                of.close().await.unwrap();
            }
        });
        println!("{KILLS} kills of the server, {acknowledged} acknowledged writes");
        assert!(acknowledged >= 100, "only {acknowledged} writes were acknowledged");
    }
}
