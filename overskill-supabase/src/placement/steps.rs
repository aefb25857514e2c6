//! The steps of a move, one after the other.

use super::{
    Placement, SHARED, beside, copy,
    copy::Shape,
    mover::{Move, MoveStep, Mover, moves},
    side::{Argument, Side, answered, number_of, taken_over},
};
use crate::{
    context::{ContextKeys, Session},
    schema::audit,
    tx::{
        SEARCH_PATH, Server,
        connection::Connection,
        fault::{BACKEND, failed, failed_commit},
    },
};
use overskill_core::{Effect, Error, ErrorKind, Progress, Result};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::types::Type;

/// One runner's work on a move. What it writes counts only while nobody has taken the move over.
pub(super) struct Run<'a> {
    mover: &'a Mover,
    it: Move,
    /// Its name, new for each run.
    runner: String,
    progress: Progress,
}

/// How a place of a move is reached.
struct Site {
    server: Server,
    keys: ContextKeys,
    home: String,
    named: String,
    is_project: bool,
}

/// The record of the move, in the platform's database.
struct Ledger(Connection);

impl<'a> Run<'a> {
    pub(super) fn new(mover: &'a Mover, it: Move, progress: Progress) -> Self {
        let runner = Session::generate(&*mover.ids).to_string();
        Self { mover, it, runner, progress }
    }

    pub(super) async fn finish_all(mut self) -> Result<Move> {
        let ledger = Ledger(self.mover.connect().await?);
        let copied = self.claim(&ledger, UNDER_WAY).await?;
        if self.it.step == MoveStep::Aborting {
            return self.undo(ledger).await;
        }
        if self.it.step == MoveStep::Planned {
            self.prepare(&ledger).await?;
            self.tell(MoveStep::Prepared, 5, "The new place is ready");
        }
        if self.it.step == MoveStep::CutOver {
            return self.finish(ledger).await;
        }
        let (source, target) = (self.side(&self.it.source).await?, self.side(&self.it.target).await?);
        let shapes = copy::shapes(&source).await?;
        copy::refuse_differences((&source, &shapes), (&target, &copy::shapes(&target).await?))?;
        if self.it.step == MoveStep::Prepared {
            self.pause(&ledger).await?;
            self.tell(MoveStep::Pausing, 10, "Writes have to wait");
        }
        if self.it.step == MoveStep::Pausing {
            // The platform's own tables were paused together with the record.
            if self.it.source_is_project() {
                source.say(&self.runner, "writes_paused = true", &[]).await?;
            }
            source.drain(self.mover.drain).await?;
            ledger.advance(&self, MoveStep::Pausing, MoveStep::Paused).await?;
            self.tell(MoveStep::Paused, 15, "Nothing is written any more");
        }
        if self.it.step == MoveStep::Paused {
            if self.it.changes_database() {
                beside::refuse_own_tables(&source).await?;
                beside::carry_history(&source, &target, &self.runner).await?;
            }
            self.copy(&ledger, &source, &target, &shapes, copied).await?;
            ledger.advance(&self, MoveStep::Paused, MoveStep::Copied).await?;
            self.tell(MoveStep::Copied, 70, "All rows are copied");
        }
        if self.it.step == MoveStep::Copied {
            self.compare(&ledger, &source, &target, &shapes).await?;
            ledger.advance(&self, MoveStep::Copied, MoveStep::Verified).await?;
            self.tell(MoveStep::Verified, 90, "Both places hold the same");
        }
        if self.it.step == MoveStep::Verified {
            self.cut_over(&ledger, &source, &target).await?;
            self.tell(MoveStep::CutOver, 95, "The new place counts");
        }
        self.finish(ledger).await
    }

    pub(super) async fn abort(mut self) -> Result<Move> {
        let ledger = Ledger(self.mover.connect().await?);
        self.claim(&ledger, "step NOT IN ('kept', 'dropped', 'aborted', 'cut_over')").await?;
        self.undo(ledger).await
    }

    /// Removes the old copy.
    pub(super) async fn drop_old(mut self) -> Result<Move> {
        const ALONE: &str = "step = 'kept' AND NOT EXISTS (SELECT FROM overskill_guard.moves o \
            WHERE o.app_id = moves.app_id AND o.step NOT IN ('kept', 'dropped', 'aborted'))";
        let ledger = Ledger(self.mover.connect().await?);
        self.claim(&ledger, ALONE).await?;
        let old = self.side(&self.it.source).await?;
        if self.it.source_is_project() {
            // One that was gone when the app left has not been told yet.
            old.say(&self.runner, "home = NULL, writes_paused = false", &[]).await?;
        }
        self.wipe(&old).await?;
        ledger.advance(&self, MoveStep::Kept, MoveStep::Dropped).await?;
        self.it.step = MoveStep::Dropped;
        Ok(self.it)
    }

    /// Takes the move over, if it is one of those that `condition` names, and gives how far copying came.
    async fn claim(&mut self, ledger: &Ledger, condition: &str) -> Result<Option<Value>> {
        let sql = format!(
            "WITH m AS (UPDATE overskill_guard.moves SET runner = $2 WHERE move = $1 AND {condition} \
                        RETURNING app_id, copied), \
                  a AS (UPDATE overskill_guard.apps SET mover = $2 FROM m WHERE apps.app_id = m.app_id) \
             SELECT copied FROM m"
        );
        let arguments: [Argument<'_>; 2] = [(&self.it.id, Type::TEXT), (&self.runner, Type::TEXT)];
        let rows = ledger.0.client.query_typed(&sql, &arguments).await.map_err(failed_commit("move"))?;
        let Some(row) = rows.first() else {
            let message =
                "this move is over, or not as far as that, or another one is under way: look at what it is now";
            return Err(Error::conflict(message).at(BACKEND, "move").with("move", &self.it.id));
        };
        let copied = row.try_get(0).map_err(failed("move"))?;
        // It may be further than it was when the caller looked.
        let now = moves(&ledger.0, "m.move = $1", &[(&self.it.id, Type::TEXT)]).await?;
        self.it = now.into_iter().next().ok_or_else(taken_over)?;
        Ok(copied)
    }

    async fn site(&self, place: &str) -> Result<Site> {
        let placement = Placement::of_place(place)?;
        let named = placement.to_string();
        if let Placement::OwnProject(name) = placement {
            let project = self.mover.projects.project(&name).await?;
            let home = SHARED.to_owned();
            return Ok(Site { server: project.owner, keys: project.keys, home, named, is_project: true });
        }
        let (server, keys) = (self.mover.schema.server().clone(), self.mover.keys.clone());
        Ok(Site { server, keys, home: place.to_owned(), named, is_project: false })
    }

    /// A place of the move, for this runner alone.
    async fn side(&self, place: &str) -> Result<Side> {
        let Site { server, keys, home, named, is_project } = self.site(place).await?;
        let (clock, ids) = (self.mover.clock.clone(), self.mover.ids.clone());
        let side = Side::open(&server, &keys, &self.it.scope, &home, named, clock, ids).await?;
        if is_project {
            side.claim(&self.runner).await?;
        }
        Ok(side)
    }

    async fn prepare(&mut self, ledger: &Ledger) -> Result<()> {
        if self.it.changes_database() {
            beside::refuse_own_tables(&self.side(&self.it.source).await?).await?;
        }
        match &self.it.to {
            Placement::Schema => return self.furnish(ledger).await,
            Placement::OwnProject(_) => {
                let named = self.it.to.to_string();
                answered(&*self.mover.clock, &named, Box::pin(self.greet())).await?;
            }
            Placement::Shared => {}
        }
        let target = self.side(&self.it.target).await?;
        let shapes = copy::shapes(&target).await?;
        let there = copy::sums(&target, &shapes).await?;
        if let Some(sum) = there.iter().find(|sum| sum.rows > 0) {
            let message = format!(
                "{} holds {} rows of this app in `{}` already, which no move left there: remove them, or abort this move",
                target.named, sum.rows, sum.table
            );
            return Err(Error::conflict(message).at(BACKEND, "move").with("scope", &self.it.scope));
        }
        if self.it.target_is_project() {
            target.say(&self.runner, "home = NULL, writes_paused = false", &[]).await?;
        }
        ledger.advance(self, MoveStep::Planned, MoveStep::Prepared).await
    }

    /// Makes the tables of an app in a schema of its own, together with the record of it.
    async fn furnish(&self, ledger: &Ledger) -> Result<()> {
        const FURNISH: &str = "SELECT overskill_guard.furnish($1, app_id) FROM overskill_guard.moves WHERE move = $2";
        ledger.begin().await?;
        let arguments: [Argument<'_>; 2] = [(&self.it.target, Type::TEXT), (&self.it.id, Type::TEXT)];
        ledger.0.client.query_typed(FURNISH, &arguments).await.map_err(failed("move"))?;
        ledger.advance(self, MoveStep::Planned, MoveStep::Prepared).await?;
        ledger.commit().await
    }

    /// Looks at a project that an app is to be moved to, and makes the app known there.
    async fn greet(&self) -> Result<()> {
        const INSTALLED: &str = "SELECT to_regprocedure('overskill_data.whereabouts()') IS NOT NULL";
        const KNOW: &str = "INSERT INTO overskill_guard.apps (app, environment, home) VALUES ($1, $2, NULL) \
            ON CONFLICT DO NOTHING";
        const MOVER: &str = "SELECT coalesce(mover, '') FROM overskill_guard.apps WHERE app_id = $1";
        let Site { server, named, .. } = self.site(&self.it.target).await?;
        let refuse = |message: String| {
            Err(Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None).at(BACKEND, "move"))
        };
        let connection = server.connect().await?;
        let client = &connection.client;
        crate::schema::versions::refuse_known_holes(client).await?;
        let row = client.query_typed_one(INSTALLED, &[]).await.map_err(failed("move"))?;
        if !row.try_get::<_, bool>(0).map_err(failed("move"))? {
            return refuse(format!(
                "{named} has not this library's schema, or an older one: `Schema::install` it there"
            ));
        }
        let findings = audit::walls(client).await?;
        if !findings.is_empty() {
            return refuse(format!("the walls in {named} do not stand: {}", findings.join("; ")));
        }
        let scope = &self.it.scope;
        let arguments: [Argument<'_>; 2] =
            [(&scope.app.as_str(), Type::TEXT), (&scope.environment.as_str(), Type::TEXT)];
        client.execute_typed(KNOW, &arguments).await.map_err(failed_commit("move"))?;
        let number = number_of(client, scope).await?.ok_or_else(taken_over)?;
        let row = client.query_typed_one(MOVER, &[(&number, Type::INT8)]).await.map_err(failed("move"))?;
        // The claim was made on the platform alone so far.
        if row.try_get::<_, String>(0).map_err(failed("move"))? == self.runner {
            let message = format!("{named} is the platform's own database: it has to be another");
            return Err(Error::invalid(message).at(BACKEND, "move"));
        }
        Ok(())
    }

    /// Records that writes are paused, and pauses them where the platform can.
    async fn pause(&self, ledger: &Ledger) -> Result<()> {
        ledger.begin().await?;
        ledger.advance(self, MoveStep::Prepared, MoveStep::Pausing).await?;
        if !self.it.source_is_project() {
            ledger.say(self, "writes_paused = true", &[]).await?;
        }
        ledger.commit().await
    }

    async fn copy(
        &self,
        ledger: &Ledger,
        source: &Side,
        target: &Side,
        shapes: &[Shape],
        copied: Option<Value>,
    ) -> Result<()> {
        const NOTE: &str = "UPDATE overskill_guard.moves SET copied = $3, rows_copied = rows_copied + $4 \
            WHERE move = $1 AND runner = $2 AND step = 'paused'";
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let begun = copied.as_ref().and_then(|it| text(&it["table"]));
        let first = shapes.iter().position(|shape| Some(&shape.name) == begun.as_ref()).unwrap_or(0);
        let mut after: Option<Vec<String>> =
            copied.as_ref().and_then(|it| it["after"].as_array()?.iter().map(text).collect());
        let mut count = self.it.rows_copied;
        // Nothing is written there: whoever gives more than that makes it up.
        let there = copy::count(source, shapes).await?;
        let (most_rows, most_bytes) = self.mover.most;
        let mut bytes = 0;
        let too_much = |what: String| {
            let message = format!("{} {what}; resume this move then, or abort it", source.named);
            Err(Error::new(ErrorKind::LimitExceeded, message).effect_as(Effect::None).at(BACKEND, "move"))
        };
        if there > most_rows {
            return too_much(format!(
                "holds {there} rows of this app, and a move takes {most_rows}: remove some, or set `Mover::most` higher"
            ));
        }
        // What a run before put there may not have been noted: one page.
        let mut may_be_there = true;
        for shape in &shapes[first..] {
            while let Some(page) = copy::page(source, shape, after.as_deref()).await? {
                bytes += page.json.len() as u64;
                if count + page.rows > there {
                    return too_much(format!(
                        "gives more rows than the {there} that it counted: find out what adds them"
                    ));
                } else if bytes > most_bytes {
                    return too_much(format!("gives more than {most_bytes} bytes of rows: set `Mover::most` higher"));
                }
                let new = copy::put(target, shape, &page, &self.runner).await?;
                if new != page.rows && !(may_be_there && new == 0) {
                    ledger.hold(self).await?; // else it is another runner's work
                    let message = format!(
                        "{} gives rows of table `{}` more than once, or somebody else writes them in {}: nothing was cut over; \
                         abort this move, and find out which",
                        source.named, shape.name, target.named
                    );
                    return Err(Error::conflict(message).at(BACKEND, "move").with("scope", &self.it.scope));
                }
                may_be_there = false;
                let note = json!({ "table": shape.name, "after": page.last });
                let rows = i64::try_from(page.rows).unwrap_or(i64::MAX);
                let arguments: [Argument<'_>; 4] =
                    [(&self.it.id, Type::TEXT), (&self.runner, Type::TEXT), (&note, Type::JSONB), (&rows, Type::INT8)];
                ledger.changed(NOTE, &arguments).await?;
                count += page.rows;
                self.progress.at(20, "copying", format!("{count} of {there} rows are copied"));
                after = Some(page.last);
            }
            after = None;
        }
        Ok(())
    }

    async fn compare(&self, ledger: &Ledger, source: &Side, target: &Side, shapes: &[Shape]) -> Result<()> {
        let old = copy::sums(source, shapes).await?;
        let new = copy::sums(target, shapes).await?;
        let Some((old, new)) = old.iter().zip(&new).find(|(old, new)| old != new) else { return Ok(()) };
        ledger.hold(self).await?; // else it is another runner's work that was looked at
        let message = format!(
            "the copy is not the same: table `{}` has {} rows with digest {:.12} in {}, and {} rows with digest {:.12} in {}; \
             nothing was cut over: abort this move, and find out who else writes there",
            old.table, old.rows, old.digest, source.named, new.rows, new.digest, target.named
        );
        Err(Error::conflict(message).at(BACKEND, "move").with("scope", &self.it.scope))
    }

    /// From here on, the new place counts: one transaction on the platform decides it.
    async fn cut_over(&mut self, ledger: &Ledger, source: &Side, target: &Side) -> Result<()> {
        const CUT: &str = "UPDATE overskill_guard.moves SET step = 'cut_over', \
            cut_at = timestamptz 'epoch' + $3 * interval '1 millisecond' \
            WHERE move = $1 AND runner = $2 AND step = 'verified'";
        let generation = (&self.it.generation as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT8);
        if self.it.target_is_project() {
            // Whoever is sent there finds the app; writes have to wait until the old place is closed.
            let set = "home = 'overskill_data', generation = $3, writes_paused = true";
            target.say(&self.runner, set, std::slice::from_ref(&generation)).await?;
        }
        let project = self.it.target.strip_prefix("project:");
        let home = project.is_none().then_some(self.it.target.as_str());
        let now = self.mover.clock.now();
        let arguments: [Argument<'_>; 3] =
            [(&self.it.id, Type::TEXT), (&self.runner, Type::TEXT), (&now.as_unix_millis(), Type::INT8)];
        ledger.begin().await?;
        ledger.changed(CUT, &arguments).await?;
        let set = "home = $3, project = $4, generation = $5, writes_paused = false";
        ledger.say(self, set, &[(&home, Type::TEXT), (&project, Type::TEXT), generation]).await?;
        if self.it.changes_database() {
            // Once more: a move may rest for long between its steps, and the owner of the tables can do as it likes.
            beside::refuse_own_tables(source).await?;
        }
        ledger.commit().await?;
        self.it.cut_over_at = Some(now);
        Ok(())
    }

    /// Closes the old place, opens the new one.
    async fn finish(mut self, ledger: Ledger) -> Result<Move> {
        if self.it.source_is_project() {
            let closed = async {
                self.side(&self.it.source).await?.say(&self.runner, "home = NULL, writes_paused = false", &[]).await
            };
            let since = self.it.cut_over_at.map(|at| self.mover.clock.now().since(at)).unwrap_or_default();
            match closed.await {
                // It takes no writes, and by now nobody is sent there.
                Err(e) if e.kind() == ErrorKind::Unavailable && since > GIVEN_UP => {
                    tracing::warn!(scope = %self.it.scope, error = %e, "the old place of a move is gone");
                }
                closed => closed?,
            }
        }
        if self.it.target_is_project() {
            self.side(&self.it.target).await?.say(&self.runner, "writes_paused = false", &[]).await?;
        }
        ledger.advance(&self, MoveStep::CutOver, MoveStep::Kept).await?;
        self.tell(MoveStep::Kept, 100, "The old copy is kept for a while");
        let now = moves(&ledger.0, "m.move = $1", &[(&self.it.id, Type::TEXT)]).await?;
        Ok(now.into_iter().next().unwrap_or(self.it))
    }

    /// Opens the old place again, then removes what is in the new one.
    async fn undo(mut self, ledger: Ledger) -> Result<Move> {
        if self.it.step != MoveStep::Aborting {
            let was = self.it.step;
            ledger.begin().await?;
            ledger.advance(&self, was, MoveStep::Aborting).await?;
            if !self.it.source_is_project() {
                ledger.say(&self, "writes_paused = false", &[]).await?;
            }
            ledger.commit().await?;
            self.tell(MoveStep::Aborting, 50, "Going back");
            if was == MoveStep::Planned {
                return self.undone(ledger).await; // nothing was made, and nothing paused
            }
        }
        if self.it.source_is_project() {
            self.side(&self.it.source).await?.say(&self.runner, "writes_paused = false", &[]).await?;
        }
        let new = self.side(&self.it.target).await?;
        if self.it.target_is_project() {
            new.say(&self.runner, "home = NULL, writes_paused = false", &[]).await?;
        }
        self.wipe(&new).await?;
        self.undone(ledger).await
    }

    async fn undone(mut self, ledger: Ledger) -> Result<Move> {
        ledger.advance(&self, MoveStep::Aborting, MoveStep::Aborted).await?;
        self.tell(MoveStep::Aborted, 99, "It is undone");
        Ok(self.it)
    }

    async fn wipe(&self, side: &Side) -> Result<()> {
        let tables: Vec<_> = copy::shapes(side).await?.into_iter().map(|shape| shape.name).collect();
        side.wipe(&self.runner, &tables).await
    }

    fn tell(&mut self, step: MoveStep, percent: u8, message: &str) {
        self.it.step = step;
        self.progress.at(percent, step.as_str(), message);
    }
}

/// A move that still has something to do.
const UNDER_WAY: &str = "step NOT IN ('kept', 'dropped', 'aborted')";

/// For how long a project that cannot be reached is waited for before it need not be told that it lost an app.
const GIVEN_UP: Duration = Duration::from_mins(10);

impl Move {
    fn source_is_project(&self) -> bool {
        matches!(self.from, Placement::OwnProject(_))
    }

    fn target_is_project(&self) -> bool {
        matches!(self.to, Placement::OwnProject(_))
    }

    fn changes_database(&self) -> bool {
        self.source_is_project() || self.target_is_project()
    }
}

impl Ledger {
    async fn begin(&self) -> Result<()> {
        let begin = format!("BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL search_path = {SEARCH_PATH}");
        self.0.client.batch_execute(&begin).await.map_err(failed("move"))
    }

    async fn commit(&self) -> Result<()> {
        self.0.client.batch_execute("COMMIT").await.map_err(failed_commit("move"))
    }

    /// Runs a statement that has to change one row, which it does only for the runner.
    async fn changed(&self, sql: &str, arguments: &[Argument<'_>]) -> Result<()> {
        match self.0.client.execute_typed(sql, arguments).await.map_err(failed_commit("move"))? {
            1 => Ok(()),
            _ => Err(taken_over()),
        }
    }

    async fn advance(&self, run: &Run<'_>, from: MoveStep, to: MoveStep) -> Result<()> {
        const ADVANCE: &str =
            "UPDATE overskill_guard.moves SET step = $4 WHERE move = $1 AND runner = $2 AND step = $3";
        let arguments: [Argument<'_>; 4] = [
            (&run.it.id, Type::TEXT),
            (&run.runner, Type::TEXT),
            (&from.as_str(), Type::TEXT),
            (&to.as_str(), Type::TEXT),
        ];
        self.changed(ADVANCE, &arguments).await
    }

    /// That this is still the runner.
    async fn hold(&self, run: &Run<'_>) -> Result<()> {
        const HOLD: &str = "SELECT FROM overskill_guard.moves WHERE move = $1 AND runner = $2";
        let arguments: [Argument<'_>; 2] = [(&run.it.id, Type::TEXT), (&run.runner, Type::TEXT)];
        let held = self.0.client.query_typed(HOLD, &arguments).await.map_err(failed("move"))?;
        if held.is_empty() { Err(taken_over()) } else { Ok(()) }
    }

    /// Changes what the platform says of the app; arguments of `set` begin at `$3`.
    async fn say(&self, run: &Run<'_>, set: &str, more: &[Argument<'_>]) -> Result<()> {
        let sql = format!(
            "UPDATE overskill_guard.apps SET {set} WHERE mover = $2 \
             AND app_id = (SELECT m.app_id FROM overskill_guard.moves m WHERE m.move = $1)"
        );
        let mut arguments: Vec<Argument<'_>> = vec![(&run.it.id, Type::TEXT), (&run.runner, Type::TEXT)];
        arguments.extend_from_slice(more);
        self.changed(&sql, &arguments).await
    }
}
