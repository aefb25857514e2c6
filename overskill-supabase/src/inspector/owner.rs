//! A connection as the owner of an app's schema.

use super::OwnSchema;
use crate::{
    context::{Context, Session as ContextSession},
    editor::Name,
    inspector::Run,
    tx::{
        SEARCH_PATH,
        connection::Connection,
        fault::{BACKEND, failed, failed_commit},
    },
};
use overskill_core::{Effect, Error, ErrorKind, Result, Right, Scope, Secret, TenantGrant};
use std::time::Duration;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// A session of the owner. Dropped, it closes the connection.
pub(crate) struct Owner<'a> {
    connection: Connection,
    own: &'a OwnSchema,
    scope: &'a Scope,
    grant: &'a TenantGrant,
    /// The app's number in this database.
    pub(crate) app_id: i64,
    /// The role that owns the tables.
    pub(crate) role: String,
    /// Whether there is a role for `PostgREST`.
    pub(crate) others: Vec<String>,
}

impl<'a> Owner<'a> {
    /// Connects, and looks whether the schema is that app's.
    pub(crate) async fn open(own: &'a OwnSchema, grant: &'a TenantGrant, scope: &'a Scope) -> Result<Self> {
        const WHOSE: &str = "SELECT s.app_id, current_user::text, \
                ARRAY(SELECT rolname::text FROM pg_catalog.pg_roles \
                      WHERE rolname IN ('anon', 'authenticated', 'service_role') ORDER BY 1) \
            FROM overskill_guard.app_schemas s JOIN overskill_guard.apps a USING (app_id) \
            JOIN pg_catalog.pg_namespace n ON n.nspname = s.schema_name \
            WHERE s.schema_name = $1 AND a.app = $2 AND a.environment = $3 AND a.state = 'active'";
        own.gate.permit(&grant.clone().into(), scope, Right::Develop)?;
        let connection = own.connect().await?;
        let arguments: [(&(dyn ToSql + Sync), Type); 3] = [
            (&own.schema.as_str(), Type::TEXT),
            (&scope.app.as_str(), Type::TEXT),
            (&scope.environment.as_str(), Type::TEXT),
        ];
        let row = connection.client.query_typed(WHOSE, &arguments).await.map_err(failed("open the schema"))?;
        let Some(row) = row.first() else {
            let message = format!("there is no schema `{}` of this app: prepare it first", own.schema);
            return Err(Error::not_found(message).at(BACKEND, "open the schema").with("scope", scope));
        };
        let read = failed("open the schema");
        let (app_id, role) = (row.try_get(0).map_err(&read)?, row.try_get(1).map_err(&read)?);
        let others = row.try_get(2).map_err(&read)?;
        Ok(Self { connection, own, scope, grant, app_id, role, others })
    }

    pub(crate) const fn schema(&self) -> &Name {
        &self.own.schema
    }

    /// Begins a transaction in which the app's rows are there, and which waits for no lock longer than `lock`.
    pub(crate) async fn begin(&self, lock: Duration, statement: Duration) -> Result<()> {
        const CONTEXT: &str = "SELECT set_config('overskill.context', $1, true)";
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {}; SET LOCAL standard_conforming_strings = on; \
             SET LOCAL client_min_messages = warning",
            limits("LOCAL ", lock, statement)
        );
        self.connection.client.batch_execute(&begin).await.map_err(failed("begin"))?;
        let entering = async {
            let signed = self.context();
            self.query(CONTEXT, &[(&signed.expose(), Type::TEXT)]).await?;
            self.stays().await
        };
        let entered = entering.await;
        if entered.is_err() {
            drop(self.rollback().await); // the first error is the one to tell
        }
        entered
    }

    /// That the app is not being moved, and is not until this transaction ends: what is made now would be left behind.
    async fn stays(&self) -> Result<()> {
        const STAYS: &str =
            "SELECT home IS NOT NULL, writes_paused FROM overskill_guard.apps WHERE app_id = $1 FOR SHARE";
        let rows = self.query(STAYS, &[(&self.app_id, Type::INT8)]).await?;
        let read = failed("begin");
        let said = rows.first().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose().map_err(read)?;
        let (kind, message) = match said {
            Some((true, false)) => return Ok(()),
            Some((true, true)) => {
                (ErrorKind::Unavailable, "the app is being moved: its tables can be changed again when that is done")
            }
            _ => (ErrorKind::Conflict, "the app has its data in another database: its tables are to be made there"),
        };
        Err(Error::new(kind, message).effect_as(Effect::None).at(BACKEND, "begin").with("scope", self.scope))
    }

    /// For statements that run outside of transactions.
    pub(crate) async fn limit(&self, lock: Duration, statement: Duration) -> Result<()> {
        self.connection.client.batch_execute(&limits("", lock, statement)).await.map_err(failed("begin"))
    }

    pub(crate) async fn commit(&self) -> Result<()> {
        self.connection.client.batch_execute("COMMIT").await.map_err(failed_commit("commit"))
    }

    pub(crate) async fn rollback(&self) -> Result<()> {
        self.connection.client.batch_execute("ROLLBACK").await.map_err(failed("rollback"))
    }

    /// Whether nobody answers any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.connection.client.is_closed()
    }

    /// Tries to be the only one who changes this schema, for as long as the session lasts.
    pub(crate) async fn hold(&self) -> Result<bool> {
        const HOLD: &str =
            "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended('overskill schema ' || $1, 0))";
        let rows = self.query(HOLD, &[(&self.own.schema.as_str(), Type::TEXT)]).await?;
        rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(failed("hold the schema"))
    }

    fn context(&self) -> Secret {
        let OwnSchema { keys, clock, ids, .. } = self.own;
        keys.sign(&Context {
            scope: self.scope,
            rights: self.grant.rights(),
            subject: self.grant.subject(),
            session: ContextSession::generate(&**ids),
            expires_at: clock.now().plus(Duration::from_mins(15)),
        })
    }
}

fn limits(local: &str, lock: Duration, statement: Duration) -> String {
    let millis = |of: Duration| of.as_millis().clamp(1, i32::MAX as u128);
    format!(
        "SET {local}lock_timeout = {}; SET {local}statement_timeout = {}; SET {local}search_path = {SEARCH_PATH}; \
         SET {local}row_security = on",
        millis(lock),
        millis(statement)
    )
}

impl Run for Owner<'_> {
    async fn query(&self, sql: &str, arguments: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        self.connection.client.query_typed(sql, arguments).await.map_err(failed_statement)
    }
}

/// A lost connection may have done what it was asked.
fn failed_statement(e: tokio_postgres::Error) -> Error {
    let gone = e.as_db_error().is_none();
    let error = failed("change the schema")(e);
    if gone { error.effect_as(Effect::Unknown) } else { error }
}

/// Whether another's lock was in the way.
pub(crate) fn is_locked(error: &Error) -> bool {
    error.context().any(|(key, value)| key == "sqlstate" && matches!(value, "55P03" | "40P01"))
        || (error.kind() == ErrorKind::Timeout && error.operation() == "hold the schema")
}
