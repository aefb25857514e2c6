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

/// The schema's version that this library needs.
pub(super) fn newest_version() -> i64 {
    MIGRATIONS.last().map_or(0, |m| m.version)
}

/// Opens a file.
pub(super) async fn file(path: &Path, options: &SqliteOptions) -> Result<Db, Fault> {
    look_at(path, options)?;
    let writing = connect_options(options).filename(path).create_if_missing(options.create);
    let mut writer = writing.connect().await?;
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
        .busy_timeout(options.busy_timeout)
        .statement_cache_capacity(200)
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

/// Brings the schema up to date, under the lock of a writer, and says which life the database lives.
async fn migrate(
    connection: &mut SqliteConnection,
    options: &SqliteOptions,
    migrations: &'static [Migration],
) -> Result<Incarnation, Fault> {
    let mut tx = connection.begin_with("BEGIN EXCLUSIVE").await?;
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'";
    let tables: i64 = query_scalar(tables).fetch_one(&mut *tx).await?;
    let ours = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema_migrations'";
    let ours: i64 = query_scalar(ours).fetch_one(&mut *tx).await?;
    if tables > 0 && ours == 0 {
        return Err(refused("database must be new or overskill's own, but it has the tables of something else".into()));
    }
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
