//! What is Postgres' own: connections, transactions, dialect.

pub(super) use crate::{fault::Fault, row};

use crate::fault::MAX_REPEATS;
use overskill_core::{Ids, Incarnation, Readiness, Result, RunId};
use sqlx::{
    Connection as _, PgConnection, PgPool, Postgres, Transaction, pool::PoolConnection, postgres::PgArguments, query,
    query_as,
};
use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The backend's name in errors and reports.
pub(super) const BACKEND: &str = "postgres";

/// A connection of this database.
pub(super) type Connection = PgConnection;

/// A row of this database.
pub(super) type Row = sqlx::postgres::PgRow;

/// A statement with its arguments.
pub(super) type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// The id of a run, as its column holds it: in place of text, a third of the bytes to write, to index and to send.
pub(super) type RunKey = sqlx::types::Uuid;

pub(super) fn run_key(run: RunId) -> RunKey {
    run.as_uuid()
}

#[allow(clippy::unnecessary_wraps, reason = "SQLite parses it")]
pub(super) fn run_id(key: RunKey) -> Result<RunId> {
    Ok(RunId::from_uuid(key))
}

/// The statement in this database's dialect.
macro_rules! sql {
    (sqlite: $sqlite:expr, postgres: $postgres:expr $(,)?) => {
        $postgres
    };
}
pub(super) use sql;

/// Many texts as one argument: what `= ANY ($1)` looks through.
pub(super) fn list(texts: Vec<String>) -> Vec<String> {
    texts
}

/// Runs the body of an operation and names the operation in its error.
///
/// A body that lost a race with another transaction, or whose connection was stale, is run again: nothing it did remains.
pub(super) async fn run<T, F>(operation: &'static str, mut body: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut repeats = 0;
    loop {
        match body().await {
            Err(fault) if fault.is_worth_repeating() && repeats < MAX_REPEATS => {
                tracing::debug!(operation, repeats, ?fault, "running it again");
                repeats += 1;
            }
            done => return done.map_err(|fault| fault.at(BACKEND, operation)),
        }
    }
}

/// One schema of a database. Cheap to clone.
#[derive(Clone)]
pub(super) struct Db(Arc<Inner>);

struct Inner {
    pool: PgPool,
    schema: String,
    incarnation: AtomicU64,
    ids: Arc<dyn Ids>,
}

impl Db {
    /// Takes a pool whose connections see the schema.
    pub(super) fn new(pool: PgPool, schema: String, incarnation: Incarnation, ids: Arc<dyn Ids>) -> Self {
        Self(Arc::new(Inner { pool, schema, incarnation: AtomicU64::new(incarnation.as_u64()), ids }))
    }

    /// A connection to read with. One statement sees one state of the database.
    pub(super) async fn reader(&self) -> Result<Reader, Fault> {
        Ok(self.0.pool.acquire().await?)
    }

    /// A connection for one statement that takes no longer than writing some rows: any.
    pub(super) async fn brief_reader(&self) -> Result<Reader, Fault> {
        self.reader().await
    }

    /// A connection to write with.
    pub(super) async fn writer(&self) -> Result<Writer<'_>, Fault> {
        Ok(Writer { connection: self.0.pool.acquire().await?, beginning: false, _db: PhantomData })
    }

    /// Where randomness comes from.
    pub(super) fn ids(&self) -> &dyn Ids {
        &*self.0.ids
    }

    /// The life that positions are of.
    pub(super) fn incarnation(&self) -> Incarnation {
        Incarnation::from_u64(self.0.incarnation.load(Ordering::Acquire))
    }

    pub(super) async fn begin_new_incarnation(&self) -> Result<Incarnation> {
        let new = Incarnation::generate(&*self.0.ids);
        run("begin_new_incarnation", || async {
            let mut writer = self.writer().await?;
            let sql = "UPDATE meta SET value = $1 WHERE name = 'incarnation'";
            writer.alone(query(sql).bind(format!("{:x}", new.as_u64()))).await?;
            self.0.incarnation.store(new.as_u64(), Ordering::Release);
            Ok(new)
        })
        .await
    }

    pub(super) async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready(BACKEND);
        run("check", || async {
            let mut reader = self.reader().await?;
            let sql = "SELECT max(version), (SELECT value FROM meta WHERE name = 'incarnation'),
                              current_setting('transaction_read_only') = 'on' FROM schema_migrations";
            let (version, life, read_only): (i64, String, bool) = query_as(sql).fetch_one(&mut *reader).await?;
            let newest = super::open::newest_version();
            let mut found = ready.clone();
            if version != newest {
                let what = format!("the schema has version {version}, this library's is {newest}");
                found = found.lacks(what, "end the older processes and start this one again");
            }
            if life != format!("{:x}", self.incarnation().as_u64()) {
                let what = "another node has begun a new incarnation: this one gives out positions of the old one";
                found = found.lacks(what, "start this process again");
            }
            if read_only {
                found = found.lacks("the database is read-only", "connect to the primary, not to a replica");
            }
            Ok(found)
        })
        .await
    }

    pub(super) async fn close(&self) {
        self.0.pool.close().await;
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Db").field(&self.0.schema).finish()
    }
}

/// A connection to read with, until it is dropped.
pub(super) type Reader = PoolConnection<Postgres>;

/// A connection to write with, until it is dropped.
pub(super) struct Writer<'a> {
    connection: PoolConnection<Postgres>,
    /// Whether a `BEGIN` was sent whose answer has not been seen.
    beginning: bool,
    /// As on SQLite, where it is the only one.
    _db: PhantomData<&'a Db>,
}

impl Writer<'_> {
    /// Begins a transaction. It is rolled back when it is dropped.
    pub(super) async fn begin(&mut self) -> Result<Tx<'_>, Fault> {
        self.beginning = true;
        let tx = self.connection.begin().await?;
        self.beginning = false;
        Ok(Tx(tx))
    }

    /// For a statement that is its own transaction and has rows to fetch, all of them: its error may be the commit's.
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Runs a statement that is its own transaction, and says how many rows it changed.
    pub(super) async fn alone(&mut self, query: Query<'_>) -> Result<u64, Fault> {
        Ok(query.execute(&mut *self.connection).await.map_err(Fault::of_commit)?.rows_affected())
    }
}

/// sqlx counts a transaction from the answer to its `BEGIN` on. When the future is dropped before that, the pool would take
/// back a connection with a transaction open that nobody knows of, and the next one's writes would never be committed.
impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if self.beginning {
            self.connection.close_on_drop();
        }
    }
}

/// A transaction. Derefs to its connection.
pub(super) struct Tx<'a>(Transaction<'a, Postgres>);

impl Tx<'_> {
    /// Makes it durable.
    pub(super) async fn commit(self) -> Result<(), Fault> {
        self.0.commit().await.map_err(Fault::of_commit)
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}
