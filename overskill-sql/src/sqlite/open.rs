//! Opening: checks, pragmas, migrations.

use super::{
    driver::{BACKEND, Db, Fault, refused},
    options::{Durability, SqliteOptions},
};
use crate::migrate::{Migration, to_run};
use overskill_core::{Clock as _, IdsExt as _, Incarnation};
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, query, query_as, query_scalar,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use std::{path::Path, time::Duration};

/// The schema, in order.
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "stores", sql: include_str!("../../migrations/sqlite/0001_stores.sql") },
    Migration { version: 2, name: "deployments", sql: include_str!("../../migrations/sqlite/0002_deployments.sql") },
    Migration { version: 3, name: "jobs", sql: include_str!("../../migrations/sqlite/0003_jobs.sql") },
];

/// SQLite takes an `int` of milliseconds, and sqlx panics over more: 24 days.
const LONGEST_BUSY_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// The schema's version that this library needs.
pub(super) fn newest_version() -> i64 {
    MIGRATIONS.last().map_or(0, |m| m.version)
}

/// Opens a file.
pub(super) async fn file(path: &Path, options: &SqliteOptions) -> Result<Db, Fault> {
    look_at(path, options)?;
    let writing = connect_options(options).filename(path).create_if_missing(options.create);
    let mut writer = writing.connect().await?;
    refuse_others(&mut writer).await?; // before its file is switched to WAL
    write_ahead(&mut writer, options).await?;
    let incarnation = migrate(&mut writer, options, MIGRATIONS).await?;
    let reading = connect_options(options).filename(path).pragma("query_only", "ON");
    Ok(Db::new(writer, writing, reading, options.readers.get(), incarnation, options.ids.clone()))
}

/// Opens a database of its own in memory.
pub(super) async fn memory(options: &SqliteOptions) -> Result<Db, Fault> {
    let writing = connect_options(options).in_memory(true).filename(":memory:");
    let mut writer = writing.connect().await?;
    let incarnation = migrate(&mut writer, options, MIGRATIONS).await?;
    Ok(Db::new(writer, writing.clone(), writing, 0, incarnation, options.ids.clone()))
}

fn look_at(path: &Path, options: &SqliteOptions) -> Result<(), Fault> {
    let shown = path.display();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|f| !f.is_dir()) {
        let folder = folder.display();
        return Err(refused(format!("path of the database must be in a folder that exists: create `{folder}` first")));
    }
    if path.is_dir() {
        return Err(refused(format!("path of the database must name a file, but `{shown}` is a folder")));
    }
    if !options.create && !path.exists() {
        return Err(refused(format!("path of the database must name a file that exists, but there is no `{shown}`")));
    }
    Ok(())
}

fn connect_options(options: &SqliteOptions) -> SqliteConnectOptions {
    let synchronous = match options.durability {
        Durability::Full => SqliteSynchronous::Full,
        Durability::Normal => SqliteSynchronous::Normal,
    };
    SqliteConnectOptions::new()
        .synchronous(synchronous)
        .foreign_keys(true)
        .busy_timeout(options.busy_timeout.min(LONGEST_BUSY_TIMEOUT))
        .statement_cache_capacity(200)
        // The indexes by digest are written all over: with SQLite's own 2 MB, an apply of some files writes pages twice.
        .pragma("cache_size", "-16384")
        .thread_name(|n| format!("{BACKEND}-{n}"))
        .disable_statement_logging()
}

/// Switches the file to WAL. SQLite does not wait for other processes that do the same, so this does.
async fn write_ahead(connection: &mut SqliteConnection, options: &SqliteOptions) -> Result<(), Fault> {
    const PAUSE: Duration = Duration::from_millis(10);
    let started = options.clock.monotonic();
    loop {
        let failed = match query_scalar::<_, String>("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                return Err(refused(format!(
                    "database must be able to have a write-ahead log, but its journal stays `{mode}`: is the file on a \
                     network disk?"
                )));
            }
            Err(e) => e,
        };
        let locked = failed.as_database_error().is_some_and(|e| matches!(e.code().as_deref(), Some("5" | "261")));
        if !locked || options.clock.monotonic().saturating_sub(started) > options.busy_timeout {
            return Err(failed.into());
        }
        options.clock.sleep(PAUSE).await;
    }
}

/// Refuses the database of something else.
async fn refuse_others(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let sql = "SELECT count(*) > 0 AND NOT coalesce(max(type = 'table' AND name = 'schema_migrations'), 0)
               FROM sqlite_schema WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'";
    if query_scalar(sql).fetch_one(connection).await? {
        return Err(refused("database must be new or overskill's own, but it has the tables of something else".into()));
    }
    Ok(())
}

/// Brings the schema up to date, under the lock of a writer, and says which life the database lives.
async fn migrate(
    connection: &mut SqliteConnection,
    options: &SqliteOptions,
    migrations: &'static [Migration],
) -> Result<Incarnation, Fault> {
    let mut tx = connection.begin_with("BEGIN EXCLUSIVE").await?;
    refuse_others(&mut tx).await?;
    let create = "CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, \
                  checksum TEXT NOT NULL) STRICT";
    query(create).execute(&mut *tx).await?;
    let ran = "SELECT version, checksum FROM schema_migrations ORDER BY version";
    let ran: Vec<(i64, String)> = query_as(ran).fetch_all(&mut *tx).await?;
    for migration in to_run(migrations, &ran)? {
        sqlx::raw_sql(migration.sql).execute(&mut *tx).await?;
        let record = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)";
        let record = query(record).bind(migration.version).bind(migration.name).bind(migration.checksum());
        record.execute(&mut *tx).await?;
        tracing::debug!(version = migration.version, name = migration.name, "migrated SQLite's schema");
    }
    let born = "INSERT INTO meta (name, value) VALUES ('incarnation', $1) ON CONFLICT DO NOTHING";
    query(born).bind(format!("{:x}", options.ids.random_u64() >> 1)).execute(&mut *tx).await?;
    let incarnation = "SELECT value FROM meta WHERE name = 'incarnation'";
    let incarnation: String = query_scalar(incarnation).fetch_one(&mut *tx).await?;
    tx.commit().await.map_err(Fault::of_commit)?;
    let incarnation = u64::from_str_radix(&incarnation, 16).map_err(crate::row::altered)?;
    Ok(Incarnation::from_u64(incarnation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{Changes, Effect, ErrorKind, FilePath, FileStore as _, Scope};

    /// A file of its own, gone when it is dropped.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("overskill-sql-{name}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    async fn pragma<T>(connection: &mut SqliteConnection, name: &'static str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        query_scalar(name).fetch_one(connection).await.unwrap()
    }

    #[tokio::test]
    async fn durability_is_what_was_asked_for() {
        let folder = Folder::new("durability");
        for (durability, level) in [(Durability::Full, 2), (Durability::Normal, 1)] {
            let options = SqliteOptions::new().durability(durability);
            let db = file(&folder.0.join("x.db"), &options).await.unwrap();
            let mut writer = db.writer().await.unwrap();
            assert_eq!(pragma::<i64>(&mut writer, "PRAGMA synchronous").await, level);
            assert_eq!(pragma::<String>(&mut writer, "PRAGMA journal_mode").await, "wal");
            assert_eq!(pragma::<i64>(&mut writer, "PRAGMA foreign_keys").await, 1);
            assert_eq!(pragma::<i64>(&mut writer, "PRAGMA busy_timeout").await, 5000);
            let mut reader = db.reader().await.unwrap();
            assert!(query("DELETE FROM meta").execute(&mut *reader).await.is_err(), "a reader writes");
        }
    }

    /// When SQLite rolls back by itself, sqlx counts a transaction too many, and its connection takes no more.
    #[tokio::test]
    async fn a_full_disk_is_an_error_and_space_makes_it_work_again() {
        let folder = Folder::new("full");
        let stores = super::super::SqliteStores::open(folder.0.join("x.db"), SqliteOptions::new()).await.unwrap();
        let scope: Scope = "todo42/development".parse().unwrap();
        let path = FilePath::parse("a").unwrap();
        let small = Changes::new().put(path.clone(), "small");
        let position = stores.files().apply(&scope, &small, None).await.unwrap();
        let big = Changes::new().put(path, vec![7; 4 << 20]);
        {
            let mut writer = stores.db.writer().await.unwrap();
            let pages: i64 = pragma(&mut writer, "PRAGMA page_count").await;
            let limit = format!("PRAGMA max_page_count = {}", pages + 20);
            sqlx::raw_sql(sqlx::AssertSqlSafe(limit)).execute(&mut *writer).await.unwrap();
        }
        let e = stores.files().apply(&scope, &big, None).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e}");
        assert!(e.to_string().contains("disk is full"), "{e}");
        assert_eq!(stores.files().snapshot(&scope).await.unwrap().position, position);
        {
            let mut writer = stores.db.writer().await.unwrap();
            sqlx::raw_sql("PRAGMA max_page_count = 1000000").execute(&mut *writer).await.unwrap();
        }
        assert_eq!(stores.files().apply(&scope, &big, Some(position)).await.unwrap(), position.next());
    }

    #[tokio::test]
    async fn a_writer_that_is_stuck_is_opened_anew() {
        let folder = Folder::new("stuck");
        let stores = super::super::SqliteStores::open(folder.0.join("x.db"), SqliteOptions::new()).await.unwrap();
        let scope: Scope = "todo42/development".parse().unwrap();
        let changes = Changes::new().put(FilePath::parse("a").unwrap(), "a");
        {
            let mut writer = stores.db.writer().await.unwrap();
            let mut tx = writer.begin().await.unwrap();
            // As SQLite itself does when it cannot go on.
            query("ROLLBACK").execute(&mut *tx).await.unwrap();
        }
        stores.files().apply(&scope, &changes, None).await.unwrap();
    }
}
