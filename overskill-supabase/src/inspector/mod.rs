//! What tables an app has.

mod info;
pub(crate) mod owner;
mod shared;
mod typescript;

pub use info::{
    AppSchema, ColumnInfo, ForeignKeyInfo, IndexInfo, PolicyInfo, RowSecurity, SharedAccess, TableInfo, UniqueInfo,
};
use shared::COUNTED;
pub(crate) use shared::{CatalogColumn, OWN, of_catalog};

use crate::{
    context::ContextKeys,
    editor::{ColumnType, Name},
    pool::TenantPool,
    tx::{
        SEARCH_PATH, Server, TenantTx,
        connection::Connection,
        fault::{BACKEND, failed},
    },
};
use overskill_core::{
    Clock, Effect, Error, ErrorKind, Grant, Ids, Result, Right, Scope, SystemClock, SystemGrant, SystemIds, TenantGate,
    TenantGrant,
};
use owner::Owner;
use std::{fmt, sync::Arc, time::Duration};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// Where an app's tables are.
#[derive(Clone, Debug)]
pub struct AppTables(pub(crate) Place);

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Shared(TenantPool),
    Own(Arc<OwnSchema>),
}

/// A schema of the database that is one app's.
pub(crate) struct OwnSchema {
    pub(crate) server: Server,
    pub(crate) gate: TenantGate,
    pub(crate) keys: ContextKeys,
    pub(crate) schema: Name,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
}

impl AppTables {
    /// In the tables that all apps share. The pool's role is `overskill_app`, and its grants need the right that the pool
    /// wants (`Data`) beside `Develop`.
    pub const fn shared(pool: TenantPool) -> Self {
        Self(Place::Shared(pool))
    }

    /// In a schema of the app's own. `server` logs in as the role that installed the tenants' [`Schema`](crate::Schema) in
    /// this database, which then owns the tables too, and leads to the server itself or to sessions of a pooler.
    pub fn own(server: Server, gate: TenantGate, keys: ContextKeys, schema: Name) -> Self {
        let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
        Self(Place::Own(Arc::new(OwnSchema { server, gate, keys, schema, clock, ids })))
    }

    /// Makes the schema if there is none, and the app its only one; does nothing for shared tables. May be repeated.
    ///
    /// # Errors
    /// `Conflict` if the schema is another app's, or was there before and is nobody's but holds tables.
    pub async fn prepare(&self, grant: &SystemGrant, scope: &Scope) -> Result<()> {
        match &self.0 {
            Place::Shared(pool) => pool.gate().permit(&Grant::from(grant.clone()), scope, Right::Operate),
            Place::Own(own) => own.prepare(grant, scope).await,
        }
    }

    pub(crate) fn permit(&self, grant: &TenantGrant, scope: &Scope) -> Result<()> {
        let gate = match &self.0 {
            Place::Shared(pool) => pool.gate(),
            Place::Own(own) => &own.gate,
        };
        gate.permit(&Grant::from(grant.clone()), scope, Right::Develop)
    }
}

/// Says what tables an app has: with columns, keys, indexes, policies and sizes. For developers of the app: every call
/// needs a grant with the right `Develop`.
///
/// ```no_run
/// # async fn example(pool: overskill_supabase::TenantPool, grant: overskill_core::TenantGrant) -> overskill_core::Result<()> {
/// use overskill_core::{Environment, Scope};
/// use overskill_supabase::{AppTables, SchemaInspector};
///
/// let inspector = SchemaInspector::new(AppTables::shared(pool));
/// let scope = Scope::new(grant.app().clone(), Environment::Production);
/// let schema = inspector.inspect(&grant, &scope).await?;
/// println!("{}", schema.to_typescript());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SchemaInspector {
    tables: AppTables,
}

impl SchemaInspector {
    /// Looks at these tables.
    pub const fn new(tables: AppTables) -> Self {
        Self { tables }
    }

    /// The app's schema as it is now.
    pub async fn inspect(&self, grant: &TenantGrant, scope: &Scope) -> Result<AppSchema> {
        self.tables.permit(grant, scope)?;
        match &self.tables.0 {
            Place::Shared(pool) => {
                let tx = pool.begin_read_only(grant, scope).await?;
                let schema = of_catalog(&tx, COUNTED, None).await;
                drop(tx.rollback().await); // what was read stands
                schema
            }
            Place::Own(own) => of_schema(&Owner::open(own, grant, scope).await?).await,
        }
    }
}

/// Whoever runs statements.
pub(crate) trait Run {
    /// Runs one statement.
    fn query(
        &self,
        sql: &str,
        arguments: &[(&(dyn ToSql + Sync), Type)],
    ) -> impl Future<Output = Result<Vec<Row>>> + Send;
}

impl Run for TenantTx {
    async fn query(&self, sql: &str, arguments: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        Self::query(self, sql, arguments).await
    }
}

/// The tables of a schema.
pub(crate) async fn of_schema(owner: &Owner<'_>) -> Result<AppSchema> {
    // With an empty path, names in expressions are whole.
    owner.limit(Duration::from_secs(5), Duration::from_mins(1)).await?;
    let rows = owner.query(include_str!("tables.sql"), &[(&owner.schema().as_str(), Type::TEXT)]).await?;
    let mut tables = rows.iter().map(|row| read(row, 0)).collect::<Result<Vec<TableInfo>>>()?;
    for column in tables.iter_mut().flat_map(|table| &mut table.columns) {
        column.kind = ColumnType::parse(&column.sql_type).ok();
    }
    Ok(AppSchema { schema: Some(owner.schema().to_string()), tables })
}

/// A cell that holds JSON.
pub(crate) fn read<T: serde::de::DeserializeOwned>(row: &Row, at: usize) -> Result<T> {
    let value: serde_json::Value = row.try_get(at).map_err(failed("inspect"))?;
    serde_json::from_value(value).map_err(|e| {
        let message = "the database describes its tables in a way that is not known here";
        Error::unexpected(message, e).effect_as(Effect::None).at(BACKEND, "inspect")
    })
}

impl OwnSchema {
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let connection = self.server.connect().await?;
        crate::schema::versions::refuse_known_holes(&connection.client).await?;
        Ok(connection)
    }

    async fn prepare(&self, grant: &SystemGrant, scope: &Scope) -> Result<()> {
        self.gate.permit(&Grant::from(grant.clone()), scope, Right::Operate)?;
        let connection = self.connect().await?;
        let client = &connection.client;
        let run = async |sql: &str| client.batch_execute(sql).await.map_err(failed("prepare the schema"));
        run(&format!(
            "BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '1min'; \
             SET LOCAL search_path = {SEARCH_PATH}"
        ))
        .await?;
        let arguments: [(&(dyn ToSql + Sync), Type); 3] = [
            (&self.schema.as_str(), Type::TEXT),
            (&scope.app.as_str(), Type::TEXT),
            (&scope.environment.as_str(), Type::TEXT),
        ];
        let rows = client.query_typed("SELECT overskill_guard.claim_schema($1, $2, $3)", &arguments).await;
        let rows = rows.map_err(failed("prepare the schema"))?;
        let claimed: bool =
            rows.first().map_or(Ok(false), |row| row.try_get(0)).map_err(failed("prepare the schema"))?;
        if !claimed {
            let message = format!("the schema `{}` is another's", self.schema);
            return Err(Error::new(ErrorKind::Conflict, message)
                .at(BACKEND, "prepare the schema")
                .with("scope", scope));
        }
        client.batch_execute("COMMIT").await.map_err(crate::tx::fault::failed_commit("prepare the schema"))
    }
}

impl fmt::Debug for OwnSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnSchema").field("server", &self.server).field("schema", &self.schema).finish_non_exhaustive()
    }
}
