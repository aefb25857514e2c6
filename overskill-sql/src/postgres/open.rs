//! Connecting: options, schema, migrations.

use super::{
    driver::{Db, Fault},
    options::PostgresOptions,
};
use crate::migrate::{Migration, to_run};
use overskill_core::{IdsExt as _, Incarnation, Secret};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    query, query_as, query_scalar,
};
use std::{str::FromStr as _, time::Duration};

/// The schema, in order.
const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "stores", sql: include_str!("../../migrations/postgres/0001_stores.sql") },
    Migration { version: 2, name: "deployments", sql: include_str!("../../migrations/postgres/0002_deployments.sql") },
    Migration { version: 3, name: "jobs", sql: include_str!("../../migrations/postgres/0003_jobs.sql") },
];

/// A connection that was idle for longer is asked for a sign of life before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);

/// The schema's version that this library needs.
pub(super) fn newest_version() -> i64 {
    MIGRATIONS.last().map_or(0, |m| m.version)
}

/// Connects to a server.
pub(super) async fn server(url: &Secret, options: &PostgresOptions) -> Result<Db, Fault> {
    let connect = PgConnectOptions::from_str(url.expose())?
        .application_name(BACKEND_APPLICATION)
        .statement_cache_capacity(200)
        .options([
            ("search_path", options.schema.clone()),
            ("statement_timeout", options.statement_timeout_ms()),
            ("idle_in_transaction_session_timeout", options.idle_timeout_ms()),
            // Every statement has its index, so one plan is right for all arguments and sizes of tables: it is made once
            // for a connection, and must not be one for the small tables that it may have been made with.
            ("plan_cache_mode", "force_generic_plan".into()),
            ("enable_seqscan", "off".into()),
            ("jit", "off".into()),
        ])
        .disable_statement_logging();
    let mut connection = connect.connect().await?;
    let incarnation = migrate(&mut connection, options, MIGRATIONS).await?;
    connection.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(options.max_connections.get())
        .acquire_timeout(options.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(connect);
    Ok(Db::new(pool, options.schema.clone(), incarnation, options.ids.clone()))
}

/// What the server shows of these connections in `pg_stat_activity`.
const BACKEND_APPLICATION: &str = "overskill";

/// Brings the schema up to date, under a lock of its own, and says which life the database lives.
async fn migrate(
    connection: &mut PgConnection,
    options: &PostgresOptions,
    migrations: &'static [Migration],
) -> Result<Incarnation, Fault> {
    let mut tx = connection.begin().await?;
    // Whoever waits here may wait for the migrations of somebody else.
    sqlx::raw_sql("SET LOCAL statement_timeout = '10min'").execute(&mut *tx).await?;
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('overskill schema ' || $1, 0))";
    query(lock).bind(&options.schema).execute(&mut *tx).await?;
    // The name was checked to need no quotes.
    let found: bool = query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)")
        .bind(&options.schema)
        .fetch_one(&mut *tx)
        .await?;
    if !found {
        let create = format!("CREATE SCHEMA {}", options.schema);
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut *tx).await?;
    }
    let create = "CREATE TABLE IF NOT EXISTS schema_migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL, \
                  checksum TEXT NOT NULL)";
    sqlx::raw_sql(create).execute(&mut *tx).await?;
    let ran = "SELECT version, checksum FROM schema_migrations ORDER BY version";
    let ran: Vec<(i64, String)> = query_as(ran).fetch_all(&mut *tx).await?;
    for migration in to_run(migrations, &ran)? {
        sqlx::raw_sql(migration.sql).execute(&mut *tx).await?;
        let record = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)";
        let record = query(record).bind(migration.version).bind(migration.name).bind(migration.checksum());
        record.execute(&mut *tx).await?;
        tracing::debug!(version = migration.version, name = migration.name, "migrated Postgres' schema");
    }
    let born = "INSERT INTO meta (name, value) VALUES ('incarnation', $1) ON CONFLICT DO NOTHING";
    query(born).bind(format!("{:x}", options.ids.random_u64() >> 1)).execute(&mut *tx).await?;
    let incarnation = "SELECT value FROM meta WHERE name = 'incarnation'";
    let incarnation: String = query_scalar(incarnation).fetch_one(&mut *tx).await?;
    tx.commit().await.map_err(Fault::of_commit)?;
    let incarnation = u64::from_str_radix(&incarnation, 16).map_err(crate::row::altered)?;
    Ok(Incarnation::from_u64(incarnation))
}
