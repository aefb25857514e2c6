//! Opening a file: what is created, and what is refused.
#![cfg(feature = "sqlite")]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::Folder;
use overskill_core::{
    Actor, AppId, AuditEntry, AuditLog, CatchUp, Changes, DataKey, EnvChanges, EnvKey, EnvStore, EnvValue, Error,
    ErrorKind, FilePath, FileStore, KeyId, KeyProvider, LocalKeyProvider, Readiness, Scope, Sealer, SystemIds,
    Timestamp,
};
use overskill_sql::{SqliteOptions, SqliteStores};
use sqlx::{Connection as _, SqliteConnection};
use std::{path::Path, process::Command, sync::Arc};

async fn open(path: &Path) -> overskill_core::Result<SqliteStores> {
    SqliteStores::open(path, SqliteOptions::new()).await
}

async fn refused(path: &Path, options: SqliteOptions) -> Error {
    SqliteStores::open(path, options).await.expect_err("a refusal")
}

/// Writes to the file as somebody with a shell would.
async fn by_hand(path: &Path, sql: &'static str) {
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn one_file(contents: &'static str) -> Changes {
    Changes::new().put(FilePath::parse("a").unwrap(), contents)
}

fn scope() -> Scope {
    "todo42/development".parse().unwrap()
}

#[tokio::test]
async fn paths_that_cannot_be_are_refused_with_what_to_do() {
    let folder = Folder::new();
    let missing = refused(&folder.path().join("no/such/x.db"), SqliteOptions::new()).await;
    assert_eq!(missing.kind(), ErrorKind::Invalid);
    assert!(missing.to_string().contains("create `"), "{missing}");

    let a_folder = refused(folder.path(), SqliteOptions::new()).await;
    assert!(a_folder.to_string().contains("is a folder"), "{a_folder}");

    let none = refused(&folder.db(), SqliteOptions::new().create_if_missing(false)).await;
    assert!(none.to_string().contains("there is no"), "{none}");
    assert!(!folder.db().exists());

    std::fs::write(folder.db(), "this is no database at all, however long it may be".repeat(100)).unwrap();
    let text = refused(&folder.db(), SqliteOptions::new()).await;
    assert_eq!(text.kind(), ErrorKind::Invalid);
    assert!(text.to_string().contains("not an SQLite database"), "{text}");
}

#[tokio::test]
async fn the_database_of_something_else_is_left_alone() {
    let folder = Folder::new();
    by_hand(&folder.db(), "CREATE TABLE customers (id INTEGER PRIMARY KEY)").await;
    let e = refused(&folder.db(), SqliteOptions::new()).await;
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert!(e.to_string().contains("tables of something else"), "{e}");
    // Not even its journal has changed: bytes 18 and 19 of the header are 2 in a file in WAL mode.
    assert_eq!(std::fs::read(folder.db()).unwrap()[18..20], [1, 1], "the file was switched to WAL");
}

#[tokio::test]
async fn a_busy_timeout_of_any_length_is_taken() {
    let folder = Folder::new();
    let options = SqliteOptions::new().busy_timeout(std::time::Duration::MAX);
    let stores = SqliteStores::open(folder.db(), options).await.unwrap();
    stores.files().apply(&scope(), &one_file("x"), None).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_and_a_changed_migration_are_refused() {
    let folder = Folder::new();
    open(&folder.db()).await.unwrap().close().await.unwrap();
    by_hand(&folder.db(), "INSERT INTO schema_migrations VALUES (999, 'from the future', 'x')").await;
    let e = refused(&folder.db(), SqliteOptions::new()).await;
    assert_eq!(e.kind(), ErrorKind::Unsupported);
    assert!(e.to_string().contains("version 999") && e.to_string().contains("update"), "{e}");

    by_hand(&folder.db(), "DELETE FROM schema_migrations WHERE version = 999").await;
    open(&folder.db()).await.unwrap().close().await.unwrap();
    by_hand(&folder.db(), "UPDATE schema_migrations SET checksum = 'x' WHERE version = 1").await;
    let e = refused(&folder.db(), SqliteOptions::new()).await;
    assert!(e.to_string().contains("migrations never change"), "{e}");
}

const CHILDREN: u64 = 10;
const CHILD_OPENS: &str = "OVERSKILL_SQL_TEST_OPENS";

/// Run by the next test in processes of their own; by itself it has nothing to open.
#[tokio::test]
async fn a_child_process_opens_and_writes() {
    let Some(path) = std::env::var_os(CHILD_OPENS) else { return };
    let stores = open(Path::new(&path)).await.unwrap();
    stores.files().apply(&scope(), &one_file("x"), None).await.unwrap();
    stores.audit().append(&AuditEntry::new(Timestamp::EPOCH, Actor::Unknown, "opened")).await.unwrap();
}

#[tokio::test]
async fn ten_processes_that_open_at_once_migrate_once() {
    let folder = Folder::new();
    let start = |_| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "a_child_process_opens_and_writes"]).env(CHILD_OPENS, folder.db());
        child.spawn().unwrap()
    };
    let children: Vec<_> = (0..CHILDREN).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let stores = open(&folder.db()).await.unwrap();
    assert_eq!(stores.files().snapshot(&scope()).await.unwrap().position.seq, CHILDREN);
    assert_eq!(stores.audit().verify().await.unwrap(), CHILDREN);
    assert!(stores.check().await.unwrap().is_ready());
}

#[tokio::test]
async fn closing_folds_the_log_into_the_file() {
    let folder = Folder::new();
    let stores = open(&folder.db()).await.unwrap();
    stores.files().apply(&scope(), &one_file("x"), None).await.unwrap();
    assert!(stores.files().get(&scope(), &FilePath::parse("a").unwrap()).await.unwrap().is_some());
    stores.close().await.unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["overskill.db"]);
    let e = stores.files().snapshot(&scope()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
    let e = stores.files().apply(&scope(), &one_file("x"), None).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable, "{e}");
}

#[tokio::test]
async fn another_process_that_writes_is_waited_for() {
    let folder = Folder::new();
    let options = SqliteOptions::new().busy_timeout(std::time::Duration::from_millis(50));
    let stores = SqliteStores::open(folder.db(), options).await.unwrap();
    let url = format!("sqlite://{}", folder.db().display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let e = stores.files().apply(&scope(), &one_file("x"), None).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, overskill_core::Effect::None));
    assert!(e.to_string().contains("another process"), "{e}");
    assert!(!stores.check().await.unwrap().is_ready());
    lock.rollback().await.unwrap();
    stores.files().apply(&scope(), &one_file("x"), None).await.unwrap();
}

#[tokio::test]
async fn a_process_of_an_earlier_life_is_not_ready() {
    let folder = Folder::new();
    let (one, two) = (open(&folder.db()).await.unwrap(), open(&folder.db()).await.unwrap());
    one.begin_new_incarnation().await.unwrap();
    assert!(one.check().await.unwrap().is_ready());
    let found = two.check().await.unwrap();
    assert!(found.problems().iter().any(|problem| problem.what.contains("new incarnation")), "{found:?}");
}

/// Keys that are far away: while one is fetched, a new life begins.
#[derive(Debug)]
struct SlowKeys {
    keys: LocalKeyProvider,
    stores: SqliteStores,
}

#[async_trait::async_trait]
impl KeyProvider for SlowKeys {
    async fn check(&self) -> overskill_core::Result<Readiness> {
        self.keys.check().await
    }

    async fn current(&self) -> overskill_core::Result<KeyId> {
        self.stores.begin_new_incarnation().await?;
        self.keys.current().await
    }

    async fn data_key(&self, id: &KeyId, app: &AppId) -> overskill_core::Result<DataKey> {
        self.keys.data_key(id, app).await
    }
}

#[tokio::test]
async fn what_is_sealed_while_a_new_life_begins_still_opens() {
    let stores = SqliteStores::in_memory().await.unwrap();
    let keys = SlowKeys { keys: LocalKeyProvider::generate(&SystemIds), stores: stores.clone() };
    let env = stores.env(Sealer::new(Arc::new(keys), Arc::new(SystemIds)));
    let key = EnvKey::parse("KEY").unwrap();
    env.put(&scope(), &EnvChanges::new().set(key.clone(), EnvValue::sealed("hunter2")), None).await.unwrap();
    let now = env.current(&scope()).await.unwrap();
    assert_eq!(env.get(&scope(), now).await.unwrap().values[&key].expose(), "hunter2");
}

#[tokio::test]
async fn a_new_incarnation_makes_old_positions_meaningless_and_loses_nothing() {
    let folder = Folder::new();
    let stores = open(&folder.db()).await.unwrap();
    let sealer = Sealer::new(Arc::new(LocalKeyProvider::generate(&SystemIds)), Arc::new(SystemIds));
    let (files, env, audit) = (stores.files(), stores.env(sealer.clone()), stores.audit());
    let entry = AuditEntry::new(Timestamp::EPOCH, Actor::Unknown, "a");
    let key = EnvKey::parse("KEY").unwrap();
    let old = files.apply(&scope(), &one_file("x"), None).await.unwrap();
    let set = EnvChanges::new().set(key.clone(), EnvValue::sealed("hunter2"));
    let old_env = env.put(&scope(), &set, None).await.unwrap();
    let first = audit.append(&entry).await.unwrap();

    let life = stores.begin_new_incarnation().await.unwrap();
    assert_ne!(life, old.incarnation);
    let second = audit.append(&entry).await.unwrap();
    stores.close().await.unwrap();
    let stores = open(&folder.db()).await.unwrap();
    assert_eq!(stores.incarnation(), life);
    let (files, env, audit) = (stores.files(), stores.env(sealer), stores.audit());

    let e = files.apply(&scope(), &one_file("y"), Some(old)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    assert_eq!(files.changes_since(&scope(), old).await.unwrap(), CatchUp::Gone);
    assert_eq!(files.snapshot(&scope()).await.unwrap().files.len(), 1);

    assert_eq!(env.get(&scope(), old_env).await.unwrap_err().kind(), ErrorKind::NotFound);
    let now = env.current(&scope()).await.unwrap();
    assert_eq!(env.get(&scope(), now).await.unwrap().values[&key].expose(), "hunter2");

    assert_eq!(audit.verify().await.unwrap(), 2);
    let limit = std::num::NonZeroU32::MIN;
    let page = audit.read(None, None, limit).await.unwrap();
    assert_eq!((page.items, page.next), (vec![first.clone()], Some(first.position)));
    assert_eq!(audit.read(None, Some(first.position), limit).await.unwrap().items, [second]);
    let never = first.position.next();
    assert_eq!(audit.read(None, Some(never), limit).await.unwrap_err().kind(), ErrorKind::Conflict);
}
