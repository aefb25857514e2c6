//! One side of a move: an app's tables in one database, seen by whoever owns them.

use super::SHARED;
use crate::{
    context::{Context, ContextKeys, Session},
    tx::{
        SEARCH_PATH, Server,
        connection::Connection,
        fault::{BACKEND, failed, failed_commit},
    },
};
use overskill_core::{Clock, Effect, Error, ErrorKind, Ids, Result, Rights, Scope, SubjectId, timeout};
use std::{sync::Arc, time::Duration};
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};

/// An argument and its type.
pub(super) type Argument<'a> = (&'a (dyn ToSql + Sync), Type);

/// A connection as the owner, and the app's tables there.
pub(super) struct Side {
    connection: Connection,
    keys: ContextKeys,
    scope: Scope,
    /// The schema of the tables.
    pub(super) home: String,
    /// What the app's number is in this database.
    pub(super) app_id: i64,
    /// What people call it.
    pub(super) named: String,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl Side {
    /// Where the place `place` of a move is. The app has to have its number there.
    pub(super) async fn open(
        server: &Server,
        keys: &ContextKeys,
        scope: &Scope,
        home: &str,
        named: String,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self> {
        // It is large.
        let knocking = Box::pin(async {
            let connection = server.connect().await?;
            let number = number_of(&connection.client, scope).await?;
            Ok((connection, number))
        });
        let (connection, number) = answered(&*clock, &named, knocking).await?;
        let app_id = number.ok_or_else(|| {
            let message = format!("the app is not known in {named}");
            Error::new(ErrorKind::NotFound, message).effect_as(Effect::None).at(BACKEND, "move").with("scope", scope)
        })?;
        let (keys, scope, home) = (keys.clone(), scope.clone(), home.to_owned());
        Ok(Self { connection, keys, scope, home, app_id, named, clock, ids })
    }

    /// What `asked` of this side comes to.
    pub(super) async fn answered<T>(&self, asked: impl Future<Output = Result<T>>) -> Result<T> {
        answered(&*self.clock, &self.named, asked).await
    }

    pub(super) fn client(&self) -> &Client {
        &self.connection.client
    }

    /// A table, as statements name it.
    pub(super) fn table(&self, name: &str) -> String {
        format!("{}.\"{}\"", self.home, name.replace('"', "\"\""))
    }

    pub(super) async fn rows(&self, sql: &str, arguments: &[Argument<'_>]) -> Result<Vec<Row>> {
        self.answered(async { self.client().query_typed(sql, arguments).await.map_err(failed("move")) }).await
    }

    pub(super) async fn run(&self, sql: &str, arguments: &[Argument<'_>]) -> Result<u64> {
        self.answered(async { self.client().execute_typed(sql, arguments).await.map_err(failed("move")) }).await
    }

    /// Begins a transaction that sees the app's rows in these tables, whether they are the live ones or not, and that writes
    /// them as they are. Values come in the same form from every server.
    pub(super) async fn begin(&self, read_only: bool) -> Result<()> {
        const ENTER: &str =
            "SELECT set_config('overskill.context', $1, true), set_config('overskill.moving', 'on', true)";
        const SEEN: &str = "SELECT overskill_guard.app_in($1)";
        let subject = SubjectId::visitor();
        let context = Context {
            scope: &self.scope,
            rights: Rights::of([]),
            subject: &subject,
            session: Session::generate(&*self.ids),
            expires_at: self.clock.now().plus(TRANSACTION),
        };
        let mode = if read_only { "ONLY" } else { "WRITE" };
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ {mode}; SET LOCAL statement_timeout = '10min'; \
             SET LOCAL lock_timeout = '10s'; SET LOCAL row_security = on; SET LOCAL search_path = {SEARCH_PATH}; \
             SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; \
             SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'"
        );
        self.answered(async { self.client().batch_execute(&begin).await.map_err(failed("move")) }).await?;
        let signed = self.keys.sign(&context);
        self.rows(ENTER, &[(&signed.expose(), Type::TEXT)]).await?;
        let seen = self.rows(SEEN, &[(&self.home, Type::TEXT)]).await?;
        let seen: Option<i64> = seen.first().map(|row| row.try_get(0)).transpose().map_err(failed("move"))?.flatten();
        if seen == Some(self.app_id) {
            return Ok(());
        }
        self.undo().await;
        let message = format!(
            "{} does not show the app's rows to the mover: its keys have to be those that were installed there, and its role \
             the one that installed the schema",
            self.named
        );
        Err(Error::new(ErrorKind::Unavailable, message).effect_as(Effect::None).at(BACKEND, "move"))
    }

    pub(super) async fn commit(&self) -> Result<()> {
        self.answered(async { self.client().batch_execute("COMMIT").await.map_err(failed_commit("move")) }).await
    }

    /// A connection that is lost has undone it too.
    pub(super) async fn undo(&self) {
        drop(self.answered(async { self.client().batch_execute("ROLLBACK").await.map_err(failed("move")) }).await);
    }

    /// Says that `runner` moves the app from now on: what an older one still sends finds nothing to change.
    pub(super) async fn claim(&self, runner: &str) -> Result<()> {
        const CLAIM: &str = "UPDATE overskill_guard.apps SET mover = $2 WHERE app_id = $1";
        self.run(CLAIM, &[(&self.app_id, Type::INT8), (&runner, Type::TEXT)]).await.map(drop)
    }

    /// Changes what this database says of the app; `set` is a list of columns and values, with arguments from `$3` on.
    pub(super) async fn say(&self, runner: &str, set: &str, more: &[Argument<'_>]) -> Result<()> {
        let sql = format!("UPDATE overskill_guard.apps SET {set} WHERE app_id = $1 AND mover = $2");
        let mut arguments: Vec<Argument<'_>> = vec![(&self.app_id, Type::INT8), (&runner, Type::TEXT)];
        arguments.extend_from_slice(more);
        match self.run(&sql, &arguments).await? {
            0 => Err(taken_over()),
            _ => Ok(()),
        }
    }

    /// Within a transaction: that this is still the runner, and stays so until the end of the transaction.
    pub(super) async fn hold(&self, runner: &str) -> Result<()> {
        const HOLD: &str = "SELECT FROM overskill_guard.apps WHERE app_id = $1 AND mover = $2 FOR SHARE";
        let held = self.rows(HOLD, &[(&self.app_id, Type::INT8), (&runner, Type::TEXT)]).await?;
        if held.is_empty() { Err(taken_over()) } else { Ok(()) }
    }

    /// Waits until everybody who was writing to the tables when writes were paused is done. Whoever comes later is refused, and
    /// is not waited for.
    pub(super) async fn drain(&self, limit: Duration) -> Result<()> {
        const WRITERS: &str = "SELECT DISTINCT l.virtualtransaction FROM pg_catalog.pg_locks l \
            WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'RowExclusiveLock' \
              AND l.relation IN (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relnamespace = to_regnamespace($1)::oid) \
              AND l.pid IS DISTINCT FROM pg_backend_pid() \
              AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())";
        let writers = async || -> Result<Vec<String>> {
            let rows = self.rows(WRITERS, &[(&self.home, Type::TEXT)]).await?;
            rows.iter().map(|row| row.try_get(0).map_err(failed("move"))).collect()
        };
        let mut waited_for = writers().await?;
        let since = self.clock.monotonic();
        while !waited_for.is_empty() {
            if self.clock.monotonic().saturating_sub(since) > limit {
                let message = format!(
                    "{} transactions that began to write in {} before its writes were paused are still open after {limit:?}: \
                     end them, and resume the move; or abort it",
                    waited_for.len(),
                    self.named
                );
                return Err(Error::new(ErrorKind::Timeout, message).effect_as(Effect::None).at(BACKEND, "move"));
            }
            self.clock.sleep(Duration::from_millis(20)).await;
            let still = writers().await?;
            waited_for.retain(|writer| still.contains(writer));
        }
        Ok(())
    }

    /// Removes the app's rows from these tables, or the schema that is its own. They must not be the live ones.
    pub(super) async fn wipe(&self, runner: &str, tables: &[String]) -> Result<()> {
        const DEAD: &str = "SELECT FROM overskill_guard.apps \
            WHERE app_id = $1 AND mover = $2 AND home IS DISTINCT FROM $3 FOR SHARE";
        loop {
            self.begin(false).await?;
            let dead =
                self.rows(DEAD, &[(&self.app_id, Type::INT8), (&runner, Type::TEXT), (&self.home, Type::TEXT)]).await?;
            if dead.is_empty() {
                self.undo().await;
                return Err(taken_over());
            }
            if self.home != SHARED {
                self.run(&format!("DROP SCHEMA IF EXISTS {} CASCADE", self.home), &[]).await?;
                return self.commit().await;
            }
            let mut gone = 0;
            // Those that refer to others first.
            for table in tables.iter().rev() {
                let table = self.table(table);
                let delete = format!(
                    "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE app_id = $1 LIMIT 5000)) \
                     AND app_id = $1"
                );
                gone = self.run(&delete, &[(&self.app_id, Type::INT8)]).await?;
                if gone > 0 {
                    break;
                }
            }
            self.commit().await?;
            if gone == 0 {
                return Ok(());
            }
        }
    }
}

/// For how long the mover's own contexts hold.
const TRANSACTION: Duration = Duration::from_mins(15);

/// Longer than any statement may run: what has not come to its end by then is stuck, or has a server that says nothing.
const SILENCE: Duration = Duration::from_mins(11);

/// What `asked` of the side that is called `named` comes to. It may be a customer's, and is not waited for without end.
pub(super) async fn answered<T>(clock: &dyn Clock, named: &str, asked: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(clock, SILENCE, async { Ok(asked.await) }).await.unwrap_or_else(|_| {
        let message = format!("{named} did not answer within {SILENCE:?}: resume this move when it does, or abort it");
        Err(Error::new(ErrorKind::Unavailable, message).effect_as(Effect::Unknown).at(BACKEND, "move"))
    })
}

pub(super) async fn number_of(client: &Client, scope: &Scope) -> Result<Option<i64>> {
    const NUMBER: &str = "SELECT app_id FROM overskill_guard.apps WHERE app = $1 AND environment = $2";
    let arguments: [Argument<'_>; 2] = [(&scope.app.as_str(), Type::TEXT), (&scope.environment.as_str(), Type::TEXT)];
    let rows = client.query_typed(NUMBER, &arguments).await.map_err(failed("move"))?;
    rows.first().map(|row| row.try_get(0)).transpose().map_err(failed("move"))
}

pub(super) fn taken_over() -> Error {
    let message = "another runner has taken this move over, or it was ended: look at what it is now";
    Error::new(ErrorKind::Conflict, message).effect_as(Effect::None).at(BACKEND, "move")
}
