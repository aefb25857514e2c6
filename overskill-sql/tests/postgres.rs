//! What is special about the stores on Postgres: many nodes, lost connections, rows that are shared.
#![cfg(feature = "postgres")]
#![allow(missing_docs, clippy::unwrap_used)]

use overskill_core::{
    Actor, AppDirectory, AppRecord, Artifact, AuditEntry, AuditLog, BundleStore, Changes, DeploymentId, Effect,
    EnvChanges, EnvKey, EnvStore, EnvValue, ErrorKind, FilePath, FileStore, LocalKeyProvider, RunQueue, Scope, Sealer,
    SystemIds, Timestamp,
};
use overskill_sql::{PostgresOptions, PostgresStores};
use overskill_testkit::postgres::PostgresCluster;
use std::{sync::Arc, time::Duration};

/// A database of this test's own.
struct Database {
    cluster: &'static PostgresCluster,
    url: String,
}

impl Database {
    fn new() -> Self {
        let cluster = PostgresCluster::shared().unwrap();
        Self { cluster, url: cluster.fresh_database().unwrap() }
    }

    async fn connect(&self, options: PostgresOptions) -> overskill_core::Result<PostgresStores> {
        PostgresStores::connect(self.url.as_str(), options).await
    }

    async fn stores(&self) -> PostgresStores {
        self.connect(PostgresOptions::new()).await.unwrap()
    }

    fn by_hand(&self, sql: &str) {
        let end = self.url.find('?').unwrap_or(self.url.len());
        let name = self.url[..end].rsplit('/').next().unwrap();
        self.cluster.execute(name, sql).unwrap();
    }
}

fn path(s: &str) -> FilePath {
    FilePath::parse(s).unwrap()
}

fn scope(app: &str) -> Scope {
    format!("{app}/development").parse().unwrap()
}

#[tokio::test]
async fn ten_nodes_that_start_at_once_migrate_once() {
    let database = Database::new();
    let nodes = futures::future::join_all((0..10).map(|_| database.stores())).await;
    let life = nodes[0].incarnation();
    for node in nodes {
        assert_eq!(node.incarnation(), life);
        assert!(node.check().await.unwrap().is_ready());
        node.close().await.unwrap();
    }
}

#[tokio::test]
async fn schemas_in_one_database_know_nothing_of_each_other() {
    let database = Database::new();
    let named = |name: &str| PostgresOptions::new().schema(name).unwrap();
    let (one, two) = (database.connect(named("one")).await.unwrap(), database.connect(named("two")).await.unwrap());
    one.files().apply(&scope("todo42"), &Changes::new().put(path("a"), "a"), None).await.unwrap();
    assert_eq!(two.files().snapshot(&scope("todo42")).await.unwrap().files.len(), 0);
    assert_ne!(one.incarnation(), two.incarnation());
}

#[tokio::test]
async fn a_newer_schema_and_a_changed_migration_are_refused() {
    let database = Database::new();
    database.stores().await.close().await.unwrap();
    database.by_hand("INSERT INTO overskill.schema_migrations VALUES (999, 'from the future', 'x')");
    let e = database.connect(PostgresOptions::new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("version 999"), "{e}");
    database.by_hand("DELETE FROM overskill.schema_migrations WHERE version = 999");
    database.by_hand("UPDATE overskill.schema_migrations SET checksum = 'x' WHERE version = 1");
    let e = database.connect(PostgresOptions::new()).await.unwrap_err();
    assert!(e.to_string().contains("migrations never change"), "{e}");
}

#[tokio::test]
async fn urls_that_lead_nowhere_say_so_and_nothing_else() {
    for (url, kind) in [
        ("postgres://user:hunter2@127.0.0.1:1/none", ErrorKind::Unavailable),
        ("postgres://user:hunter2@host:no-port/none", ErrorKind::Invalid),
    ] {
        let e = PostgresStores::connect(url, PostgresOptions::new()).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(!format!("{e} {e:?}").contains("hunter2"), "{e:?}");
    }
    let none = PostgresCluster::shared().unwrap().url("there_is_no_such_database");
    let e = PostgresStores::connect(none, PostgresOptions::new()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert!(e.to_string().contains("create it"), "{e}");
}

#[tokio::test]
async fn a_server_that_was_restarted_is_found_again() {
    let cluster = PostgresCluster::start().unwrap();
    let stores = PostgresStores::connect(cluster.fresh_database().unwrap(), PostgresOptions::new()).await.unwrap();
    let files = stores.files();
    let changes = Changes::new().put(path("a"), "a");
    let position = files.apply(&scope("todo42"), &changes, None).await.unwrap();
    cluster.kill().unwrap();
    let e = files.apply(&scope("todo42"), &changes, None).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e}");
    cluster.start_again().unwrap();
    assert_eq!(files.snapshot(&scope("todo42")).await.unwrap().position, position);
    assert_eq!(files.apply(&scope("todo42"), &changes, Some(position)).await.unwrap(), position.next());
}

#[tokio::test]
async fn a_row_that_stays_locked_is_a_timeout_without_effect() {
    let database = Database::new();
    let stores = database.connect(PostgresOptions::new().statement_timeout(Duration::from_millis(200))).await.unwrap();
    let files = stores.files();
    let position = files.apply(&scope("todo42"), &Changes::new().put(path("a"), "a"), None).await.unwrap();
    let mut other = <sqlx::PgConnection as sqlx::Connection>::connect(&database.url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM overskill.file_scopes FOR UPDATE").execute(&mut other).await.unwrap();
    let e = files.apply(&scope("todo42"), &Changes::new().put(path("a"), "b"), None).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::None), "{e}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(files.snapshot(&scope("todo42")).await.unwrap().position, position);
}

/// Contents that one app lets go while another takes them up: the race that the foreign keys are for.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn contents_that_many_apps_share_are_never_lost() {
    const APPS: usize = 4;
    const ROUNDS: usize = 40;
    let database = Database::new();
    let stores = database.connect(PostgresOptions::new().history(0)).await.unwrap();
    let writers = (0..APPS).map(|app| {
        let files = stores.files();
        tokio::spawn(async move {
            let scope = scope(&format!("todo{app}"));
            for round in 0..ROUNDS {
                let shared = |n: usize| format!("shared {}", (round + n) % 3);
                let changes = Changes::new().put(path("a"), shared(0)).put(path("b"), shared(1));
                let at = files.apply(&scope, &changes, None).await.expect("an apply among others");
                let read = files.snapshot(&scope).await.expect("a snapshot among others");
                assert_eq!((read.position, read.files.len()), (at, 2));
                assert_eq!(read.files[&path("a")].contents(), shared(0).as_bytes());
                let gone = Changes::new().delete(path("a")).delete(path("b"));
                files.apply(&scope, &gone, None).await.expect("a delete among others");
            }
        })
    });
    for writer in futures::future::join_all(writers).await {
        writer.unwrap();
    }
    for app in 0..APPS {
        // The last delete is remembered, and names no contents; this one takes what the steps before it left.
        stores.files().apply(&scope(&format!("todo{app}")), &Changes::new().delete(path("a")), None).await.unwrap();
    }
    database.by_hand(
        "DO $$ BEGIN IF (SELECT count(*) FROM overskill.file_contents) <> 0 THEN RAISE 'contents are left'; END IF; END $$",
    );
}

/// Each of the two would see the other's row, and leave the contents for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn contents_that_two_apps_let_go_at_once_are_gone() {
    const ROUNDS: usize = 60;
    let database = Database::new();
    let stores = database.connect(PostgresOptions::new().history(0)).await.unwrap();
    let both = async |changes: Changes| {
        let apply = |app| {
            let (files, changes) = (stores.files(), changes.clone());
            tokio::spawn(async move { files.apply(&scope(app), &changes, None).await })
        };
        let (one, two) = (apply("todo1"), apply("todo2"));
        one.await.unwrap().unwrap();
        two.await.unwrap().unwrap();
    };
    for round in 0..ROUNDS {
        both(Changes::new().put(path("a"), format!("contents {round}"))).await;
        both(Changes::new().delete(path("a"))).await;
        both(Changes::new().delete(path("a"))).await; // now the history lets them go, too
    }
    database.by_hand(
        "DO $$ BEGIN IF (SELECT count(*) FROM overskill.file_contents) <> 0 THEN RAISE 'contents are left'; END IF; END $$",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_write_one_audit_log() {
    const EACH: u64 = 50;
    let database = Database::new();
    let nodes = [database.stores().await, database.stores().await];
    let writers = nodes.each_ref().map(|node| {
        let audit = node.audit();
        tokio::spawn(async move {
            for n in 0..EACH {
                let entry = AuditEntry::new(Timestamp::EPOCH, Actor::Unknown, format!("a{n}"));
                audit.append(&entry).await.expect("an append among others");
            }
        })
    });
    for writer in writers {
        writer.await.unwrap();
    }
    let audit = nodes[0].audit();
    assert_eq!(audit.verify().await.unwrap(), 2 * EACH);
    database.by_hand("UPDATE overskill.audit SET detail = 'forged' WHERE seq = 17");
    let e = audit.verify().await.unwrap_err();
    assert!(e.to_string().ends_with(":17"), "{e}");
    database
        .by_hand("UPDATE overskill.audit SET detail = '' WHERE seq = 17; DELETE FROM overskill.audit WHERE seq = 100");
    let e = audit.verify().await.unwrap_err();
    assert!(e.to_string().ends_with(":100"), "{e}");
}

#[tokio::test]
async fn sealed_values_that_were_swapped_are_refused() {
    let database = Database::new();
    let sealer = Sealer::new(Arc::new(LocalKeyProvider::generate(&SystemIds)), Arc::new(SystemIds));
    let env = database.stores().await.env(sealer);
    let scope = scope("todo42");
    let set = |name, value: &str| EnvChanges::new().set(EnvKey::parse(name).unwrap(), EnvValue::sealed(value));
    env.put(&scope, &set("ONE", "1"), None).await.unwrap();
    let revision = env.put(&scope, &set("TWO", "2"), None).await.unwrap();
    env.get(&scope, revision).await.unwrap();
    database.by_hand(
        "UPDATE overskill.env_values a SET sealed = b.sealed FROM overskill.env_values b WHERE a.key <> b.key",
    );
    let e = env.get(&scope, revision).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unexpected, Effect::None), "{e}");
}

#[tokio::test]
async fn text_that_postgres_cannot_store_is_invalid() {
    let database = Database::new();
    let entry = AuditEntry::new(Timestamp::EPOCH, Actor::Unknown, "a").detail("\0");
    let e = database.stores().await.audit().append(&entry).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Invalid, Effect::None), "{e}");
}

/// So does what needs no transaction around it: its statement is one.
#[tokio::test]
async fn a_statement_alone_that_takes_too_long_did_not_happen() {
    let database = Database::new();
    let stores = database.connect(PostgresOptions::new().statement_timeout(Duration::from_millis(200))).await.unwrap();
    let app = AppRecord::new("todo42".parse().unwrap(), "before", Timestamp::EPOCH);
    stores.apps().put(&app).await.unwrap();
    let mut other = <sqlx::PgConnection as sqlx::Connection>::connect(&database.url).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT * FROM overskill.apps FOR UPDATE").execute(&mut other).await.unwrap();
    let after = AppRecord { name: "after".into(), ..app.clone() };
    let e = stores.apps().put(&after).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::None), "{e}");
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(stores.apps().get(&app.app).await.unwrap(), Some(app));
}

#[tokio::test]
async fn the_longest_timeout_is_taken() {
    Database::new().connect(PostgresOptions::new().statement_timeout(Duration::MAX)).await.unwrap();
}

#[tokio::test]
async fn a_node_of_an_earlier_life_is_not_ready() {
    let database = Database::new();
    let (one, two) = (database.stores().await, database.stores().await);
    one.begin_new_incarnation().await.unwrap();
    assert!(one.check().await.unwrap().is_ready());
    let found = two.check().await.unwrap();
    assert!(found.problems().iter().any(|problem| problem.what.contains("new incarnation")), "{found:?}");
}

/// A history of some days is more than one statement may take its time for.
#[tokio::test]
async fn a_long_history_is_forgotten_in_short_steps() {
    const RUNS: u64 = 25_000;
    let database = Database::new();
    let jobs = database.stores().await.jobs();
    database.by_hand(&format!(
        "INSERT INTO overskill.run_history (job, run, due_ms, state, attempts, ended_ms)
         SELECT 1, gen_random_uuid(), 0, 'done', 1, n FROM generate_series(1, {RUNS} + 10) AS n;
         CREATE TABLE steps (rows bigint);
         CREATE FUNCTION step() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO public.steps SELECT count(*) FROM gone; RETURN NULL; END $$;
         CREATE TRIGGER step AFTER DELETE ON overskill.run_history REFERENCING OLD TABLE AS gone
             FOR EACH STATEMENT EXECUTE FUNCTION step()"
    ));
    let before = Timestamp::from_unix_millis(i64::try_from(RUNS).unwrap() + 1);
    assert_eq!(jobs.prune(before).await.unwrap(), RUNS);
    database.by_hand(
        "DO $$ BEGIN
             IF (SELECT max(rows) FROM steps) > 10000 THEN RAISE 'a step was long'; END IF;
             IF (SELECT count(*) FROM overskill.run_history) <> 10 THEN RAISE 'too much was forgotten'; END IF;
         END $$",
    );
}

/// Two collectors and a writer that puts and holds what they look at.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn collectors_share_the_work_and_take_nothing_that_is_held() {
    const ARTIFACTS: u64 = 60;
    let database = Database::new();
    let stores = database.stores().await;
    let (bundles, scope) = (stores.bundles(), scope("todo42"));
    let artifact =
        |n| Artifact::of_assets([(path("shared"), "s".into()), (path("own"), format!("{n}").into())]).unwrap();
    for n in 0..ARTIFACTS {
        bundles.put(&artifact(n), Timestamp::EPOCH).await.unwrap();
    }
    let now = Timestamp::EPOCH.plus(Duration::from_hours(1));
    let collect = || {
        let bundles = stores.bundles();
        tokio::spawn(async move { bundles.collect(now, Duration::from_mins(1)).await })
    };
    let (one, two) = (collect(), collect());
    let digest = bundles.put(&artifact(7), now).await.unwrap();
    bundles.hold(&scope, digest, DeploymentId::generate(&SystemIds, now)).await.unwrap();
    let collected = one.await.unwrap().unwrap().artifacts + two.await.unwrap().unwrap().artifacts;
    assert!((ARTIFACTS - 1..=ARTIFACTS).contains(&collected), "{collected} of {ARTIFACTS}");
    assert_eq!(*bundles.get(&scope, digest).await.unwrap().unwrap(), artifact(7));
    let none = stores.bundles().collect(now, Duration::from_mins(1)).await.unwrap();
    assert_eq!(none.artifacts, 0);
}

/// Each of the two would see the other's artifact, and leave the blob that both have for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_blob_of_artifacts_that_two_collectors_take_at_once_is_gone() {
    const ROUNDS: u64 = 12;
    let database = Database::new();
    let stores = database.stores().await;
    let now = Timestamp::EPOCH.plus(Duration::from_hours(1));
    for round in 0..ROUNDS {
        for n in 0..32 {
            let own = format!("{round} {n}");
            let files = [(path("shared"), format!("{round}").into()), (path("own"), own.into())];
            stores.bundles().put(&Artifact::of_assets(files).unwrap(), Timestamp::EPOCH).await.unwrap();
        }
        let collect = || {
            let bundles = stores.bundles();
            tokio::spawn(async move { bundles.collect(now, Duration::from_mins(1)).await })
        };
        let (one, two) = (collect(), collect());
        one.await.unwrap().unwrap();
        two.await.unwrap().unwrap();
    }
    database.by_hand(
        "DO $$ BEGIN IF (SELECT count(*) FROM overskill.blobs) <> 0 THEN RAISE 'blobs are left'; END IF; END $$",
    );
}
