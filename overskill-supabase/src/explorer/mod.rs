//! Developers' own queries, on the rows of their own app.

mod allow;
mod columns;
mod export;
mod parts;
mod tables;
mod words;

pub use export::Format;

use crate::{
    context::ContextKeys,
    placement::Projects,
    pool::{Plan, PoolOptions, TenantPool},
    tx::{Canceller, Server, TenantTx},
};
use allow::refused;
use bytes::Bytes;
use export::{Members, distinct};
use futures::{Stream, TryStreamExt as _, stream};
use overskill_core::{
    Actor, AuditEntry, AuditLog, Clock, Digest, Effect, Error, ErrorKind, Result, Right, Scope, SystemClock,
    TenantGate, TenantGrant,
};
use serde_json::Value;
use std::{num::NonZeroU32, pin::pin, sync::Arc, time::Duration};
use tables::Tables;
use tokio_postgres::SimpleQueryMessage;

/// What one query may give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplorerLimits {
    rows: u64,
    bytes: u64,
    row_bytes: u32,
    queries_per_app: NonZeroU32,
    connections: NonZeroU32,
    timeout: Duration,
}

impl ExplorerLimits {
    /// 10,000 rows, 16 MiB, 1 MiB for a row, 2 queries of an app and 4 of all apps at a time, 3 seconds for a step.
    pub const fn new() -> Self {
        Self {
            rows: 10_000,
            bytes: 16 << 20,
            row_bytes: 1 << 20,
            queries_per_app: NonZeroU32::new(2).expect("not zero"),
            connections: NonZeroU32::new(4).expect("not zero"),
            timeout: Duration::from_secs(3),
        }
    }

    /// Sets how many rows a query may give.
    pub const fn rows(mut self, rows: u64) -> Self {
        self.rows = rows;
        self
    }

    /// Sets how many bytes a query may give, as JSON, and how many one of its rows may have.
    pub const fn bytes(mut self, all: u64, row: u32) -> Self {
        (self.bytes, self.row_bytes) = (all, row);
        self
    }

    /// Sets how many queries of one app, and of all apps, may run at a time.
    pub const fn concurrency(mut self, per_app: NonZeroU32, all: NonZeroU32) -> Self {
        (self.queries_per_app, self.connections) = (per_app, all);
        self
    }

    /// Sets how long the server may work before the first rows, and between any two batches.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Default for ExplorerLimits {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs queries that developers wrote themselves, on the records of their app and nothing else.
///
/// Between a query and other apps' rows stand, each of its own strength:
///
/// 1. an allow-list over the parsed tree: tables are kinds of the app's records, or [of its own](crate::AppTables::own),
///    functions are those of a list, `t.name` is a column that the query's own text or the catalog gives to `t`, since it would
///    be a call otherwise; what is run is the tree, written out anew;
/// 2. the database's role `overskill_explorer`, which belongs to nothing, owns nothing and can only read, and on whose rows
///    row level security is forced;
/// 3. the signed context, which no statement can change into another's;
/// 4. one statement by the extended protocol, as a cursor in a transaction that only reads and is always rolled back, with a
///    timeout, and limits on rows, bytes and queries at a time. Locks that outlive transactions are given back with it.
///
/// Every query is audited by its digest: who, where, when. It needs the right to `Develop`.
///
/// ```no_run
/// # async fn example(gate: overskill_core::TenantGate, grant: overskill_core::TenantGrant, keys: overskill_supabase::ContextKeys, audit: std::sync::Arc<dyn overskill_core::AuditLog>) -> overskill_core::Result<()> {
/// use overskill_core::{Environment, Scope, Secret};
/// use overskill_supabase::{Explorer, ExplorerLimits, Query, Server};
///
/// let server = Server::parse(&Secret::new("postgres://overskill_explorer:…@db.example.com:6543/postgres"))?;
/// let explorer = Explorer::new(server, gate, keys, audit, ExplorerLimits::new())?;
/// let scope = Scope::new(grant.app().clone(), Environment::Production);
/// let query = Query::new("SELECT data->>'status' AS status, count(*) FROM Task GROUP BY 1");
/// for row in explorer.table(&grant, &scope, &query).await?.rows {
///     println!("{row:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Explorer {
    pool: TenantPool,
    audit: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
    limits: ExplorerLimits,
}

/// A query, and which page of its rows is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    sql: String,
    page: Option<Page>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    by: Vec<String>,
    descending: bool,
    after: Option<Vec<String>>,
    limit: NonZeroU32,
}

impl Query {
    /// Largest page.
    pub const MAX_PAGE: u32 = 1_000;

    /// All rows of `sql`: SELECT, VALUES or WITH. Tables are kinds of records by their names, with the columns `id`, `owner`,
    /// `data`, `created_at` and `updated_at`; upper and lower case count in their names, whether quoted or not. Or they are
    /// tables in [schemas of the app's own](crate::AppTables::own), by their names alone, folded as the database does. A name
    /// that could be both is refused.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), page: None }
    }

    /// The first `limit` rows, in the order of the output columns `by`, which must be unique together and never null.
    pub fn page(mut self, by: impl IntoIterator<Item = impl Into<String>>, limit: NonZeroU32) -> Self {
        let by = by.into_iter().map(Into::into).collect();
        self.page = Some(Page { by, descending: false, after: None, limit });
        self
    }

    /// Turns the order of pages around.
    pub fn descending(mut self) -> Self {
        if let Some(page) = &mut self.page {
            page.descending = true;
        }
        self
    }

    /// Goes on after a row: what [`Table::next`] was.
    pub fn after(mut self, next: Vec<String>) -> Self {
        if let Some(page) = &mut self.page {
            page.after = Some(next);
        }
        self
    }

    /// The statement that is run. What a caller gave stands in it as names and texts that are quoted.
    fn allowed(&self, tables: Tables<'_>) -> Result<String> {
        let inner = allow::allowed(&self.sql, tables)?;
        let Some(Page { by, descending, after, limit }) = &self.page else { return Ok(inner) };
        let quoted = |name: &String| {
            let sound = !name.is_empty() && name.len() <= 63 && !name.contains(['"', '\0']);
            // Without its table: `q.name` could be a call of a function.
            if sound { Ok(format!("\"{name}\"")) } else { Err(refused(format!("cannot be paged by {name:?}"))) }
        };
        let columns = by.iter().map(quoted).collect::<Result<Vec<_>>>()?;
        if columns.is_empty() || columns.len() > 4 || limit.get() > Self::MAX_PAGE {
            return Err(refused("is paged by 1 to 4 columns, and at most 1,000 rows at a time"));
        }
        let way = if *descending { "DESC" } else { "ASC" };
        let beyond = match after {
            None => String::new(),
            Some(values) if values.len() == columns.len() && !values.iter().any(|it| it.contains('\0')) => {
                // Of unknown type, so that the database reads each as its column's.
                let values: Vec<_> = values.iter().map(|it| format!("'{}'", it.replace('\'', "''"))).collect();
                let than = if *descending { "<" } else { ">" };
                format!(" WHERE ({}) {than} ({})", columns.join(", "), values.join(", "))
            }
            Some(_) => return Err(refused("goes on after as many values as it is paged by")),
        };
        let order: Vec<_> = columns.iter().map(|it| format!("{it} {way}")).collect();
        // One more, to know whether there is a next page.
        Ok(format!("SELECT q.* FROM ({inner}) q{beyond} ORDER BY {} LIMIT {}", order.join(", "), limit.get() + 1))
    }
}

/// Rows in memory.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// Names of the columns, each once: a second `a` is `a_2`.
    pub columns: Vec<String>,
    /// The rows, as the database writes them in JSON.
    pub rows: Vec<Vec<Value>>,
    /// Which limit cut it short, if one did.
    pub cut: Option<Cut>,
    /// With what to go on, when there is another page.
    pub next: Option<Vec<String>>,
}

/// Why there are fewer rows than there could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// There are more than the limit allows.
    Rows,
    /// They would be larger than the limit allows.
    Bytes,
}

/// A query that runs: its rows as they come. Dropped, it is cancelled in the server.
#[derive(Debug)]
pub struct Rows {
    tx: Option<TenantTx>,
    columns: Vec<String>,
    limits: ExplorerLimits,
    given: u64,
    bytes: u64,
    cut: Option<Cut>,
}

impl Explorer {
    /// Queries on the database that `server` logs in to as `overskill_explorer`, for grants of `gate`.
    ///
    /// # Errors
    /// `Invalid` when the server's role is another one.
    pub fn new(
        server: Server,
        gate: TenantGate,
        keys: ContextKeys,
        audit: Arc<dyn AuditLog>,
        limits: ExplorerLimits,
    ) -> Result<Self> {
        if server.role_name() != "overskill_explorer" {
            let message = "database role must be `overskill_explorer`, which can only read";
            return Err(Error::invalid(message).at("explorer", "new").with("role", server.role_name()));
        }
        let plan = Plan::new("explorer")
            .connections_per_app(limits.queries_per_app)
            .waiting_per_app(limits.queries_per_app.get())
            .statement_timeout(limits.timeout);
        let options = PoolOptions::new().connections(limits.connections).right(Right::Develop).plans(move |_| plan);
        let pool = TenantPool::new(server, gate, keys, options);
        Ok(Self { pool, audit, clock: Arc::new(SystemClock), limits })
    }

    /// Sets where the time of audit entries comes from.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets who knows the projects that apps were moved to; without it, queries on those apps are `Unsupported`.
    pub fn projects(mut self, projects: impl Projects) -> Self {
        self.pool = self.pool.with_projects(Arc::new(projects));
        self
    }

    /// Runs a query, whose rows are then asked for.
    pub async fn run(&self, grant: &TenantGrant, scope: &Scope, query: &Query) -> Result<Rows> {
        // Nothing of it is looked at for somebody who may not ask.
        self.pool.gate().permit(&grant.clone().into(), scope, Right::Develop)?;
        query.allowed(Tables { home: SHARED, own: None })?;
        let actor = Actor::Subject(grant.subject().clone());
        let entry = AuditEntry::new(self.clock.now(), actor, "explorer.queried").in_scope(scope.clone());
        self.audit.append(&entry.detail(format!("query {}", Digest::of(query.sql.as_bytes())))).await?;
        let tx = self.pool.begin_read_only(grant, scope).await?;
        let own = tables::own(&tx).await?;
        let begun = match query.allowed(Tables { home: tx.home(), own: Some(&own) }) {
            Ok(sql) => begin(&tx, &sql, self.limits).await.map_err(told),
            Err(e) => Err(e),
        };
        match begun {
            Ok(columns) => Ok(Rows { tx: Some(tx), columns, limits: self.limits, given: 0, bytes: 0, cut: None }),
            Err(e) => {
                drop(tx.rollback().await); // the first error is the one to tell
                Err(e)
            }
        }
    }

    /// Runs a query and reads all rows that the limits allow.
    pub async fn table(&self, grant: &TenantGrant, scope: &Scope, query: &Query) -> Result<Table> {
        let mut running = self.run(grant, scope, query).await?;
        let mut rows = Vec::new();
        while let Some(batch) = running.next().await? {
            rows.extend(batch);
        }
        let (columns, cut) = (std::mem::take(&mut running.columns), running.cut);
        let mut next = None;
        if let Some(page) = &query.page {
            let limit = page.limit.get() as usize;
            let more = rows.len() > limit || cut.is_some();
            rows.truncate(limit);
            if let Some(last) = rows.last().filter(|_| more) {
                let value = |name: &String| columns.iter().position(|it| it == name).map(|at| text(&last[at]));
                next = page.by.iter().map(value).collect();
            }
        }
        Ok(Table { columns, rows, cut, next })
    }

    /// Runs a query and writes its rows as they come. When a limit cuts it short, the last item is `LimitExceeded`: an
    /// export that is not whole must not look so.
    pub async fn export(
        &self,
        grant: &TenantGrant,
        scope: &Scope,
        query: &Query,
        format: Format,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + 'static> {
        let rows = self.run(grant, scope, query).await?;
        let head = format.begin(&rows.columns);
        Ok(stream::try_unfold((Some(rows), head, true), move |(rows, mut out, mut first)| async move {
            let Some(mut rows) = rows else { return Ok(None) };
            let Some(batch) = rows.next().await? else {
                if let Some(cut) = rows.cut {
                    let message = format!("the query gives more than its limit of {cut:?} allows");
                    return Err(Error::new(ErrorKind::LimitExceeded, message.to_lowercase()).at("explorer", "export"));
                }
                out.push_str(format.end());
                return Ok(Some((Bytes::from(out), (None, String::new(), false))));
            };
            for row in &batch {
                format.row(&rows.columns, row, first, &mut out);
                first = false;
            }
            Ok(Some((Bytes::from(out), (Some(rows), String::new(), first))))
        }))
    }
}

/// The schema of the tables that apps share.
const SHARED: &str = "overskill_data";

/// How many rows are given at a time.
const BATCH: u64 = 200;

/// Declares the cursors, and gives the names of the columns.
async fn begin(tx: &TenantTx, sql: &str, limits: ExplorerLimits) -> Result<Vec<String>> {
    // By the extended protocol, so that there is one statement whatever it says.
    let names = format!("DECLARE overskill_names NO SCROLL CURSOR FOR SELECT q.* FROM ({sql}) q");
    tx.execute(&names, &[]).await?;
    // Too large a row is not sent. `OFFSET 0` keeps the two steps apart.
    let rows = format!(
        "DECLARE overskill_rows NO SCROLL CURSOR FOR \
         SELECT CASE WHEN octet_length(w.j) <= {} THEN w.j END FROM (SELECT row_to_json(q)::text AS j FROM ({sql}) q OFFSET 0) w",
        limits.row_bytes
    );
    tx.execute(&rows, &[]).await?;
    let described = tx.simple("FETCH 0 FROM overskill_names").await?;
    let names = described.iter().find_map(|message| match message {
        SimpleQueryMessage::RowDescription(columns) => Some(columns.iter().map(|it| it.name().to_owned()).collect()),
        _ => None,
    });
    let names: Vec<String> = names.unwrap_or_default();
    Ok(distinct(names))
}

impl Rows {
    /// Names of the columns, each once.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Which limit cut it short, if one did so far.
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// What stops it in the server while [`next`](Self::next) waits. Nothing once it has ended.
    pub fn canceller(&self) -> Option<Canceller> {
        self.tx.as_ref().map(TenantTx::canceller)
    }

    /// Some more rows; `None` once there are no more, or a limit is reached.
    pub async fn next(&mut self) -> Result<Option<Vec<Vec<Value>>>> {
        let Some(tx) = &self.tx else { return Ok(None) };
        let room = self.limits.rows - self.given;
        let wanted = BATCH.min(room + 1);
        let mut batch = Vec::new();
        let read = async {
            let fetched = tx.query_stream(&format!("FETCH {wanted} FROM overskill_rows"), &[]).await.map_err(told)?;
            // One at a time: a batch of the largest rows would be many times what a query may give.
            let mut fetched = pin!(fetched);
            let mut count = 0;
            while let Some(row) = fetched.try_next().await.map_err(told)? {
                count += 1;
                let json: Option<&str> = row.try_get(0).map_err(|e| Error::unexpected("a row cannot be read", e))?;
                self.bytes = self.bytes.saturating_add(json.map_or(u64::MAX, |it| it.len() as u64));
                let Some(json) = json.filter(|_| self.bytes <= self.limits.bytes) else {
                    self.cut = Some(Cut::Bytes);
                    break;
                };
                if self.given == self.limits.rows {
                    self.cut = Some(Cut::Rows);
                    break;
                }
                self.given += 1;
                let Members(values) =
                    serde_json::from_str(json).map_err(|e| Error::unexpected("a row is no JSON object", e))?;
                batch.push(values);
            }
            Ok(count < wanted || self.cut.is_some())
        };
        let ended: Result<bool> = read.await;
        if !matches!(ended, Ok(false)) {
            self.end().await;
        }
        ended?;
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// Always undone: there is nothing that could be kept.
    async fn end(&mut self) {
        if let Some(tx) = self.tx.take() {
            drop(tx.rollback().await); // without a connection there is nothing to undo
        }
    }
}

/// A fault of the query is the developer's to mend, and told; the context of the error stays inside.
fn told(e: Error) -> Error {
    let said = e.context().find(|(key, _)| *key == "said").map(|(_, text)| text.to_owned());
    match (e.kind(), said) {
        (ErrorKind::Unexpected | ErrorKind::Invalid, said) => {
            let why = said.unwrap_or_else(|| "it does not take one of the values".to_owned());
            Error::invalid(format!("the database refused the query: {why}"))
                .effect_as(Effect::None)
                .at("explorer", "run")
                .caused_by(e)
        }
        _ => e,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
