//! What is SQLite's own: connections, transactions, dialect.

pub(super) use crate::{fault::Fault, row};

use overskill_core::{Error, Ids, Incarnation, Readiness, Result, RunId};
use sqlx::{
    ConnectOptions as _, Connection as _, Sqlite, SqliteConnection, Transaction, query, query_as,
    sqlite::{SqliteArguments, SqliteConnectOptions},
};
use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};

/// The backend's name in errors and reports.
pub(super) const BACKEND: &str = "sqlite";

/// A connection of this database.
pub(super) type Connection = SqliteConnection;

/// A row of this database.
pub(super) type Row = sqlx::sqlite::SqliteRow;

/// A statement with its arguments.
pub(super) type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// The id of a run, as its column holds it.
pub(super) type RunKey = String;

pub(super) fn run_key(run: RunId) -> RunKey {
    run.to_string()
}

#[allow(clippy::needless_pass_by_value, reason = "on Postgres it is a number")]
pub(super) fn run_id(key: RunKey) -> Result<RunId> {
    row::stored(&key)
}

/// The statement in this database's dialect.
macro_rules! sql {
    (sqlite: $sqlite:expr, postgres: $postgres:expr $(,)?) => {
        $sqlite
    };
}
pub(super) use sql;

/// Many texts as one argument: what `json_each($1)` takes apart.
pub(super) fn list(texts: Vec<String>) -> String {
    serde_json::Value::from(texts).to_string()
}

/// Runs the body of an operation and names the operation in its error.
///
/// Here a body runs once: writers wait for each other, so none loses a race.
pub(super) async fn run<T, F>(operation: &'static str, body: impl FnOnce() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Fault>>,
{
    body().await.map_err(|fault| fault.at(BACKEND, operation))
}

/// One open database. Cheap to clone.
#[derive(Clone)]
pub(super) struct Db(Arc<Inner>);

struct Inner {
    writing: SqliteConnectOptions,
    reading: SqliteConnectOptions,
    writer: Mutex<Option<SqliteConnection>>,
    /// Whether the last transaction was not committed, so that the connection has to be looked at.
    suspect: AtomicBool,
    /// `None` in memory, where the writer reads.
    readers: Option<Readers>,
    incarnation: AtomicU64,
    ids: Arc<dyn Ids>,
}

/// Connections that read, made when they are first needed.
///
/// Not sqlx's pool: that one spawns a task and asks each connection for a sign of life whenever it is given back.
pub(super) struct Readers {
    free: Semaphore,
    idle: StdMutex<Vec<SqliteConnection>>,
}

impl Db {
    /// Takes a connection whose database has its schema. In memory, `readers` is 0.
    pub(super) fn new(
        writer: SqliteConnection,
        writing: SqliteConnectOptions,
        reading: SqliteConnectOptions,
        readers: u32,
        incarnation: Incarnation,
        ids: Arc<dyn Ids>,
    ) -> Self {
        let readers =
            (readers > 0).then(|| Readers { free: Semaphore::new(readers as usize), idle: StdMutex::default() });
        Self(Arc::new(Inner {
            writing,
            reading,
            writer: Mutex::new(Some(writer)),
            suspect: AtomicBool::new(false),
            readers,
            incarnation: AtomicU64::new(incarnation.as_u64()),
            ids,
        }))
    }

    /// A connection to read with. One statement sees one state of the database.
    pub(super) async fn reader(&self) -> Result<Reader<'_>, Fault> {
        let Some(readers) = &self.0.readers else {
            return Ok(Reader::Writer(self.writer().await?));
        };
        let permit = readers.free.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = readers.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.0.reading.connect().await?,
        };
        Ok(Reader::Pooled { connection: Some(connection), readers, _permit: permit })
    }

    /// A connection for one statement that takes no longer than writing some rows: the one that writes, if nobody writes.
    /// It has in memory what was just written, which a reader has to read, and a thread that is often still awake.
    pub(super) async fn brief_reader(&self) -> Result<Reader<'_>, Fault> {
        match self.0.writer.try_lock() {
            Ok(guard) if guard.is_some() && !self.0.suspect.load(Ordering::Relaxed) => {
                Ok(Reader::Writer(Writer { guard, suspect: &self.0.suspect }))
            }
            _ => self.reader().await,
        }
    }

    /// The connection that writes, once it is this caller's turn.
    pub(super) async fn writer(&self) -> Result<Writer<'_>, Fault> {
        let mut guard = self.0.writer.lock().await;
        let connection = guard.as_mut().ok_or(sqlx::Error::PoolClosed)?;
        if self.0.suspect.load(Ordering::Relaxed) {
            // The rollback comes before the ping. When SQLite rolled back by itself (a full disk), sqlx's rollback
            // fails, and the connection would refuse every transaction from now on.
            if connection.ping().await.is_err() || connection.is_in_transaction() {
                if self.0.readers.is_none() {
                    return Err(sqlx::Error::WorkerCrashed.into()); // memory cannot be opened again
                }
                tracing::debug!("opening SQLite's writing connection anew");
                *connection = self.0.writing.connect().await?;
            }
            self.0.suspect.store(false, Ordering::Relaxed);
        }
        Ok(Writer { guard, suspect: &self.0.suspect })
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
            let (version, life): (i64, String) = {
                let sql = "SELECT max(version), (SELECT value FROM meta WHERE name = 'incarnation')
                           FROM schema_migrations";
                let mut reader = self.reader().await?;
                query_as(sql).fetch_one(&mut *reader).await?
            };
            let mut writer = self.writer().await?;
            let writable = writer.begin().await;
            let newest = super::open::newest_version();
            Ok(match writable {
                _ if version != newest => ready.lacks(
                    format!("the schema has version {version}, this library's is {newest}"),
                    "end the older processes and start this one again",
                ),
                _ if life != format!("{:x}", self.incarnation().as_u64()) => ready.lacks(
                    "another process has begun a new incarnation: this one gives out positions of the old one",
                    "start this process again",
                ),
                Err(fault) => ready.lacks(
                    format!("the database cannot be written to: {}", fault.at(BACKEND, "check").message()),
                    "check the permissions of its file and folder, and for processes that keep it locked",
                ),
                Ok(_) => ready,
            })
        })
        .await
    }

    pub(super) async fn close(&self) -> Result<()> {
        run("close", || async {
            if let Some(readers) = &self.0.readers {
                readers.free.close();
                let idle = std::mem::take(&mut *readers.idle());
                for connection in idle {
                    connection.close().await?;
                }
            }
            match self.0.writer.lock().await.take() {
                Some(connection) => Ok(connection.close().await?),
                None => Ok(()),
            }
        })
        .await
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Db").field(&self.0.writing.get_filename()).finish()
    }
}

impl Readers {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().expect("no holder of the idle readers panics")
    }
}

/// A connection to read with, until it is dropped.
pub(super) enum Reader<'a> {
    Pooled { connection: Option<SqliteConnection>, readers: &'a Readers, _permit: SemaphorePermit<'a> },
    Writer(Writer<'a>),
}

impl Deref for Reader<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match self {
            Self::Pooled { connection, .. } => connection.as_ref().expect("taken only by drop"),
            Self::Writer(writer) => writer,
        }
    }
}

impl DerefMut for Reader<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        match self {
            Self::Pooled { connection, .. } => connection.as_mut().expect("taken only by drop"),
            Self::Writer(writer) => writer,
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Self::Pooled { connection, readers, .. } = self
            && let Some(connection) = connection.take()
            && !readers.free.is_closed()
        {
            readers.idle().push(connection);
        }
    }
}

/// The connection that writes, until it is dropped.
pub(super) struct Writer<'a> {
    guard: MutexGuard<'a, Option<SqliteConnection>>,
    suspect: &'a AtomicBool,
}

impl Writer<'_> {
    /// Begins a transaction that has the right to write. It is rolled back when it is dropped.
    pub(super) async fn begin(&mut self) -> Result<Tx<'_>, Fault> {
        self.suspect.store(true, Ordering::Relaxed);
        let suspect = self.suspect;
        let inner = self.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Tx { inner, suspect })
    }

    /// Runs a statement that is its own transaction, and says how many rows it changed.
    pub(super) async fn alone(&mut self, query: Query<'_>) -> Result<u64, Fault> {
        Ok(query.execute(&mut **self).await.map_err(Fault::of_commit)?.rows_affected())
    }
}

impl Deref for Writer<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.guard.as_ref().expect("`writer` looked")
    }
}

impl DerefMut for Writer<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.guard.as_mut().expect("`writer` looked")
    }
}

/// A transaction that may write. Derefs to its connection.
pub(super) struct Tx<'a> {
    inner: Transaction<'a, Sqlite>,
    suspect: &'a AtomicBool,
}

impl Tx<'_> {
    /// Makes it durable.
    pub(super) async fn commit(self) -> Result<(), Fault> {
        self.inner.commit().await.map_err(Fault::of_commit)?;
        self.suspect.store(false, Ordering::Relaxed);
        Ok(())
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.inner
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.inner
    }
}

/// Refuses a path before SQLite would say something less clear.
pub(super) fn refused(message: String) -> Fault {
    Error::invalid(message).into()
}
