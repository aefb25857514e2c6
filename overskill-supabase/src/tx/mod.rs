//! Transactions of one tenant.

pub(crate) mod connection;
pub(crate) mod fault;

pub use connection::{Canceller, Server};

use crate::{
    context::{Context, ContextKeys, Session},
    pool::{Held, Place},
};
use fault::{BACKEND, failed, failed_commit};
use futures::{Stream, StreamExt as _};
use overskill_core::{Clock, Effect, Error, ErrorKind, Result, Scope, SubjectId, Timestamp};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_postgres::{
    Client, Row, SimpleQueryMessage,
    error::SqlState,
    types::{ToSql, Type},
};

/// A transaction in which the database shows the rows of one app and no others.
///
/// Its context is local to the transaction and its statements have no names ([but for](Self::query) columns of types that are
/// not Postgres' own), so it works alike on a session and behind a pooler that hands out single transactions. It ends with
/// [`commit`](Self::commit) or [`rollback`](Self::rollback); dropped, it closes the connection, and the server rolls back and
/// stops what runs within a second.
///
/// Arguments come with their types, and names of tables with their schema: `search_path` holds Postgres' own names alone.
/// The schema is `overskill_data`, unless the app was [moved](crate::Mover) into one of its own: [`table`](Self::table)
/// knows. Settings and temporary objects that an earlier transaction left on the connection are gone.
pub struct TenantTx {
    held: Option<Held>,
    scope: Scope,
    subject: SubjectId,
    session: Session,
    /// The schema with the app's tables.
    home: String,
    /// A statement failed: a `COMMIT` would roll back, and say nothing of it.
    broken: AtomicBool,
    /// Before the context runs out, from when on the tables would merely look empty.
    deadline: Timestamp,
    clock: Arc<dyn Clock>,
}

/// Who of an app's users may use a kind of records. Developers who explore the app's data see all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever made a record reads and writes it, and nobody else. Visitors, who did not sign in, make none.
    Owner = 0,
    /// All read a record; whoever made it writes it. Visitors make none.
    OwnerWrites = 1,
    /// All read and write: as long as nothing was said.
    Everybody = 2,
}

/// Names are Postgres' own before they are a temporary object's. Where `pg_temp` is not named, it comes first, for types as
/// for tables: then whoever may make a domain named `text` has a say in whatever casts to it.
pub(crate) const SEARCH_PATH: &str = "pg_catalog, pg_temp";

/// How a transaction begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preamble<'a> {
    pub(crate) context: Context<'a>,
    pub(crate) read_only: bool,
    pub(crate) statement_timeout: Duration,
    pub(crate) deadline: Timestamp,
}

/// Where a transaction was asked to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// In the platform's database, which knows where each app is.
    Platform,
    /// In the database of a project that the app was moved to by its move of this number.
    Project { generation: i64 },
}

/// What came of it.
pub(crate) enum Begun {
    Here(Box<TenantTx>),
    /// The app's tables are not here. The platform's database says where they are.
    Elsewhere {
        place: Place,
        project: Option<(String, i64)>,
    },
}

impl TenantTx {
    /// Begins: one batch, so one round trip. The database itself says, within the transaction, whether the app's tables are
    /// here: an answer of earlier is never relied on.
    pub(crate) async fn begin(
        held: Held,
        keys: &ContextKeys,
        clock: Arc<dyn Clock>,
        preamble: Preamble<'_>,
        at: At,
    ) -> Result<Begun> {
        // The context is an argument: text of statements can be seen by other sessions of the same role.
        const CONTEXT: &str = "SELECT set_config('overskill.context', $1, true), overskill_data.whereabouts()";
        let Preamble { context, read_only, statement_timeout, deadline } = preamble;
        let signed = keys.sign(&context);
        let timeout = statement_timeout.as_millis().clamp(1, i32::MAX as u128);
        let (scope, subject, session) = (context.scope.clone(), context.subject.clone(), context.session);
        let (home, broken) = (String::new(), AtomicBool::new(false));
        let mut tx = Self { held: Some(held), scope, subject, session, home, broken, deadline, clock };
        let mode = if read_only { "ONLY" } else { "WRITE" };
        // Against whatever somebody before left behind on the connection, and against defaults that the role gave itself: text
        // is what the driver sends, and a commit is on disk.
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ {mode} NOT DEFERRABLE; RESET ALL; SET LOCAL statement_timeout = {timeout}; \
             SET LOCAL lock_timeout = 3000; SET LOCAL row_security = on; SET LOCAL search_path = {SEARCH_PATH}; \
             SET LOCAL client_encoding = 'UTF8'; SET LOCAL synchronous_commit = on; DISCARD TEMP"
        );
        for entered in [false, true] {
            let text = signed.expose();
            let arguments: [(&(dyn ToSql + Sync), Type); 1] = [(&text, Type::TEXT)];
            let client = tx.client();
            let (opened, set) = tokio::join!(client.batch_execute(&begin), client.query_typed(CONTEXT, &arguments));
            opened.map_err(failed("begin"))?;
            let rows = set.map_err(failed("begin"))?;
            let answer: Option<String> =
                rows.first().map(|row| row.try_get(1)).transpose().map_err(failed("begin"))?.flatten();
            match (answer.as_deref().map(Whereabouts::read), at) {
                (None, _) => {
                    let message = format!(
                        "the database does not take contexts under the key `{}`: install the key, and compare the \
                         clocks of this machine and the server",
                        keys.current()
                    );
                    return Err(tx.refused(Error::new(ErrorKind::Unavailable, message)).await);
                }
                (Some(Some(it)), At::Platform) if !it.home.is_empty() => {
                    tx.home = it.home;
                    return Ok(Begun::Here(Box::new(tx)));
                }
                (Some(Some(it)), At::Project { generation }) if !it.home.is_empty() && it.generation == generation => {
                    tx.home = it.home;
                    return Ok(Begun::Here(Box::new(tx)));
                }
                (Some(Some(it)), At::Platform) => {
                    return tx.leave((!it.project.is_empty()).then_some((it.project, it.generation))).await;
                }
                (_, At::Project { .. }) => return tx.leave(None).await,
                // The first transaction ever for this app in this environment.
                (Some(None), At::Platform) if !entered => {
                    client.batch_execute("ROLLBACK").await.map_err(failed("begin"))?;
                    let (writable, entering, done) = tokio::join!(
                        client.batch_execute("BEGIN READ WRITE"),
                        client.query_typed("SELECT overskill_data.enter($1)", &arguments),
                        client.batch_execute("COMMIT"),
                    );
                    writable.and(entering.map(drop)).and(done).map_err(failed("begin"))?;
                }
                (Some(None), At::Platform) => {
                    return Err(tx.refused(Error::new(ErrorKind::Denied, "the app is suspended")).await);
                }
            }
        }
        unreachable!("the second turn returns")
    }

    /// Ends what could not begin.
    async fn refused(self, error: Error) -> Error {
        let error = error.effect_as(Effect::None).at(BACKEND, "begin").with("scope", &self.scope);
        self.rollback().await.err().unwrap_or(error)
    }

    /// Gives up the connection, and keeps the place for another one.
    async fn leave(mut self, project: Option<(String, i64)>) -> Result<Begun> {
        self.client().batch_execute("ROLLBACK").await.map_err(failed("begin"))?;
        let place = self.held.take().expect("it is there until the end").give_back();
        Ok(Begun::Elsewhere { place, project })
    }

    /// A table of the app with its schema, as statements name it: `entities` is `overskill_data."entities"`, or that of the
    /// app's own schema.
    pub fn table(&self, name: &str) -> String {
        format!("{}.\"{}\"", self.home, name.replace('"', "\"\""))
    }

    pub(crate) fn home(&self) -> &str {
        &self.home
    }

    /// Whose rows it sees.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Who acts.
    pub fn subject(&self) -> &SubjectId {
        &self.subject
    }

    /// Its own, in which nothing but this transaction runs.
    pub fn session(&self) -> Session {
        self.session
    }

    /// What stops the statement that runs.
    pub fn canceller(&self) -> Canceller {
        self.held.as_ref().expect("it is there until the end").connection().canceller()
    }

    /// Runs one statement, and gives its rows. Statements that are begun together travel together.
    ///
    /// Behind a pooler that hands out single transactions, columns have to be of Postgres' own types: `e.data`, or
    /// `e.mood::text`, not `e` for a whole row or an enum as it is. What another type is, the driver asks by a statement with a
    /// name, which the next server connection does not know.
    pub async fn query(&self, sql: &str, arguments: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<Row>> {
        self.noted(self.client().query_typed(sql, arguments).await).map_err(failed("query"))
    }

    /// Runs one statement that gives a row or none. More are `Unexpected`.
    pub async fn query_opt(&self, sql: &str, arguments: &[(&(dyn ToSql + Sync), Type)]) -> Result<Option<Row>> {
        let mut rows = self.query(sql, arguments).await?;
        if rows.len() > 1 {
            let message = format!("the statement gave {} rows where one was expected", rows.len());
            return Err(Error::new(ErrorKind::Unexpected, message).effect_as(Effect::None).at(BACKEND, "query"));
        }
        Ok(rows.pop())
    }

    /// Runs one statement, and says how many rows it changed.
    pub async fn execute(&self, sql: &str, arguments: &[(&(dyn ToSql + Sync), Type)]) -> Result<u64> {
        self.noted(self.client().execute_typed(sql, arguments).await).map_err(failed("execute"))
    }

    /// Runs one statement, and gives its rows as they come.
    pub async fn query_stream<'a>(
        &'a self,
        sql: &str,
        arguments: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<impl Stream<Item = Result<Row>> + Send + use<'a>> {
        let arguments = arguments.iter().map(|(value, kind)| (*value, kind.clone()));
        let rows = self.noted(self.client().query_typed_raw(sql, arguments).await).map_err(failed("query"))?;
        Ok(rows.map(|row| self.noted(row).map_err(failed("query"))))
    }

    /// Runs text that holds no input of anybody, such as `FETCH 100 FROM c`; every value comes as text.
    pub async fn simple(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        self.noted(self.client().simple_query(sql).await).map_err(failed("query"))
    }

    /// Says who may use a kind of records, and which of its fields have columns of their own, so that filters on them are
    /// found through an index. What was said before is replaced; records that are there follow.
    ///
    /// The grant needs the right `Develop`; `Denied` otherwise. A field of text goes into a column `t1` to `t3`, one of
    /// numbers into `n1` to `n3`: `[("t1", "status"), ("n1", "priority")]`; anything else is `Invalid`.
    pub async fn define(&self, entity: &str, access: Access, columns: &[(&str, &str)]) -> Result<()> {
        let access = access as i16;
        let columns = serde_json::Value::Object(columns.iter().map(|(c, f)| ((*c).to_owned(), (*f).into())).collect());
        let arguments: [(&(dyn ToSql + Sync), Type); 3] =
            [(&entity, Type::TEXT), (&access, Type::INT2), (&columns, Type::JSONB)];
        self.query("SELECT overskill_data.define($1, $2, $3)", &arguments).await.map(drop)
    }

    /// Makes it durable. Refused, and rolled back, if a statement failed, whoever took note of it.
    pub async fn commit(mut self) -> Result<()> {
        let refuse = |kind, message: &'static str| {
            Error::new(kind, message).effect_as(Effect::None).at(BACKEND, "commit").with("scope", &self.scope)
        };
        let refused = if self.clock.now() >= self.deadline {
            Some(refuse(ErrorKind::Timeout, "the transaction took longer than its context may last"))
        } else if self.broken.load(Ordering::Relaxed) {
            Some(refuse(ErrorKind::Conflict, "a statement of the transaction failed"))
        } else {
            None
        };
        let refused = match refused {
            Some(error) => Some(error),
            // A COMMIT of what failed rolls back and says nothing; a statement before it says so. Nobody may have waited for
            // the answer that would have told.
            None => match self.client().batch_execute("SELECT 1; COMMIT").await {
                Err(e) if e.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => {
                    Some(refuse(ErrorKind::Conflict, "a statement of the transaction failed"))
                }
                done => {
                    done.map_err(failed_commit("commit"))?;
                    None
                }
            },
        };
        if let Some(error) = refused {
            self.rollback().await?;
            return Err(error);
        }
        self.give_back();
        Ok(())
    }

    /// Undoes it. An error means that the connection was lost, and so was the transaction.
    pub async fn rollback(mut self) -> Result<()> {
        // What a developer wrote may have left a lock of the session, which the next one would have; in one message, so that
        // a pooler sends both to the same server.
        const DEVELOPERS: &str = "ROLLBACK; SELECT pg_catalog.pg_advisory_unlock_all()";
        let developers = self.held.as_ref().is_some_and(Held::is_developers);
        let end = if developers { DEVELOPERS } else { "ROLLBACK" };
        self.client().batch_execute(end).await.map_err(failed("rollback"))?;
        self.give_back();
        Ok(())
    }

    fn client(&self) -> &Client {
        &self.held.as_ref().expect("it is there until the end").connection().client
    }

    fn give_back(&mut self) {
        if let Some(held) = self.held.take() {
            drop(held.give_back());
        }
    }

    fn noted<T>(&self, done: Result<T, tokio_postgres::Error>) -> Result<T, tokio_postgres::Error> {
        if done.is_err() {
            self.broken.store(true, Ordering::Relaxed);
        }
        done
    }
}

/// Where the database says that an app's tables are.
struct Whereabouts {
    generation: i64,
    /// Empty when they are not in this database.
    home: String,
    /// Empty when it is not known to be a project's database.
    project: String,
}

impl Whereabouts {
    /// `None` for an app that is not known, or suspended.
    fn read(answer: &str) -> Option<Self> {
        let mut parts = answer.split(':').map(str::to_owned);
        let (generation, home, project) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { generation: generation.parse().ok()?, home, project })
    }
}

impl fmt::Debug for TenantTx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantTx")
            .field("scope", &self.scope)
            .field("subject", &self.subject)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
