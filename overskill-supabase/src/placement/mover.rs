//! Moving an app from one placement to another.

use super::{
    Placement, ProjectList, Projects, SHARED,
    side::{Argument, number_of, taken_over},
    steps::Run,
};
use crate::{
    context::ContextKeys,
    schema::Schema,
    tx::{
        connection::Connection,
        fault::{BACKEND, failed, failed_commit},
    },
};
use overskill_core::{
    AppId, Clock, DiscardProgress, Effect, Environment, Error, ErrorKind, Grant, Ids, IdsExt as _, Progress,
    ProgressSink, Result, Right, Scope, StreamName, SystemClock, SystemGrant, SystemIds, Timestamp,
};
use std::{fmt, sync::Arc, time::Duration};
use tokio_postgres::{Row, types::Type};

/// Moves apps between placements while they are in use.
///
/// A move pauses the app's writes, waits for those that had begun, copies, compares counts and digests of both sides, and
/// only then cuts over. Reads go on all the time. A write meanwhile is refused with `Unavailable`, has changed nothing and may
/// be tried again; the pause is as long as copying takes. Nothing can be written to a place that is not the app's any more,
/// by whomever: the database says so, in the transaction that writes.
///
/// What moves are the app's records, and their columns with the history of these. Tables in [schemas of the app's
/// own](crate::AppTables::own) stay where they are: a move to another database is refused while there are any, which is looked
/// at once more when it cuts over, and none are made while writes are paused. So do the files and channels of Supabase's own
/// services, which go on being served from the platform's project.
///
/// Each step is recorded before the next begins. A move that ended in the middle, by an error or a crash, stays as it is, and
/// [`resume`](Self::resume) goes on from there; until the cut-over, [`abort`](Self::abort) returns to the old place. The old
/// copy stays until [`drop_old`](Self::drop_old), or until a [`sweep`](Self::sweep) finds that its time is over.
///
/// Several may run: one move of an app at a time, and each is run by whoever took it up last.
///
/// ```no_run
/// # async fn example(schema: overskill_supabase::Schema, keys: overskill_supabase::ContextKeys, gate: overskill_core::TenantGate, customer: overskill_supabase::Project) -> overskill_core::Result<()> {
/// use overskill_core::{AppId, Environment, Scope, SystemScopes};
/// use overskill_supabase::{Mover, Placement, ProjectList, ProjectName};
///
/// let acme = ProjectName::parse("acme")?;
/// let mover = Mover::new(schema, keys).projects(ProjectList::new().with(acme.clone(), customer));
/// let scope = Scope::new(AppId::parse("todo42")?, Environment::Production);
/// let grant = gate.system("support", "acme brings its own Supabase", SystemScopes::app(scope.app.clone())).await?;
/// let moved = mover.relocate(&grant, &scope, &Placement::OwnProject(acme)).await?;
/// println!("{} rows are in {} now", moved.rows_copied, moved.to);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Mover {
    pub(super) schema: Schema,
    pub(super) keys: ContextKeys,
    pub(super) projects: Arc<dyn Projects>,
    progress: Arc<dyn ProgressSink>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
    pub(super) drain: Duration,
    /// Rows, and bytes of them.
    pub(super) most: (u64, u64),
    keep: Duration,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum MoveStep {
    /// It is recorded, and nothing else.
    Planned,
    /// The new place is there and empty.
    Prepared,
    /// Writes are refused; some that began before may still run.
    Pausing,
    /// Nothing writes any more.
    Paused,
    /// All rows are in both places.
    Copied,
    /// Counts and digests of both are the same.
    Verified,
    /// The new place counts; the old one may not know it yet.
    CutOver,
    /// It is done; the old copy is still there.
    Kept,
    /// It is done, and the old copy is gone.
    Dropped,
    /// It is being undone.
    Aborting,
    /// It was undone.
    Aborted,
}

impl MoveStep {
    const ALL: [(Self, &'static str); 11] = [
        (Self::Planned, "planned"),
        (Self::Prepared, "prepared"),
        (Self::Pausing, "pausing"),
        (Self::Paused, "paused"),
        (Self::Copied, "copied"),
        (Self::Verified, "verified"),
        (Self::CutOver, "cut_over"),
        (Self::Kept, "kept"),
        (Self::Dropped, "dropped"),
        (Self::Aborting, "aborting"),
        (Self::Aborted, "aborted"),
    ];

    /// A stable word, as it is recorded and told.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(step, _)| *step == self).expect("all are listed").1
    }

    fn parse(word: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, text)| *text == word).map(|(step, _)| *step);
        found.ok_or_else(|| {
            let message = format!("a move is at step `{word}`, which this library does not know: update overskill");
            Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None).at(BACKEND, "move")
        })
    }

    /// Whether neither `resume` nor `abort` has anything left to do.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Kept | Self::Dropped | Self::Aborted)
    }
}

impl fmt::Display for MoveStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A move, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Move {
    /// Its name.
    pub id: String,
    /// Whose data it moves.
    pub scope: Scope,
    /// Where that was.
    pub from: Placement,
    /// Where it is going, or went.
    pub to: Placement,
    /// How far it is.
    pub step: MoveStep,
    /// Rows that were copied; a page that was copied again after a crash counts twice.
    pub rows_copied: u64,
    /// When the new place began to count.
    pub cut_over_at: Option<Timestamp>,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) generation: i64,
}

impl Mover {
    /// Moves apps of the platform whose database has `schema`, with the keys that were installed there.
    pub fn new(schema: Schema, keys: ContextKeys) -> Self {
        Self {
            schema,
            keys,
            projects: Arc::new(ProjectList::new()),
            progress: Arc::new(DiscardProgress),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            drain: Duration::from_mins(2),
            most: (100_000_000, 256 << 30),
            keep: Duration::from_hours(7 * 24),
        }
    }

    /// Sets who knows the projects that apps may be moved to.
    pub fn projects(mut self, projects: impl Projects) -> Self {
        self.projects = Arc::new(projects);
        self
    }

    /// Sets where progress is told: in the stream `moves/{scope}`, one run for each call.
    pub fn progress(mut self, sink: Arc<dyn ProgressSink>) -> Self {
        self.progress = sink;
        self
    }

    /// Sets how long a move waits for transactions that were writing when it paused writes: two minutes, unless said otherwise.
    /// It should be longer than a [transaction](crate::PoolOptions::transaction) may take.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// Sets how many rows of an app, and bytes of them as JSON in one run, a move takes before it stops with `LimitExceeded`: a
    /// customer's own database could give rows for ever. 100 million rows and 256 GiB, unless said otherwise.
    pub fn most(mut self, rows: u64, bytes: u64) -> Self {
        self.most = (rows, bytes);
        self
    }

    /// Sets for how long [`sweep`](Self::sweep) keeps old copies: seven days, unless said otherwise.
    pub fn keep_old(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }

    /// Sets where time comes from.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets where names of moves and schemas come from.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// Where an app's tables are.
    pub async fn placement(&self, grant: &SystemGrant, scope: &Scope) -> Result<Placement> {
        self.permit(grant, scope)?;
        let connection = self.connect().await?;
        self.place(&connection, scope).await?.map_or(Ok(Placement::Shared), |it| Placement::of_place(&it.at))
    }

    /// Moves an app, from the first step to the last.
    ///
    /// `Conflict` when a move of it is under way, an old copy is still where it is to go, or tables would be left behind. After
    /// any other error, the move is as far as [`current`](Self::current) says.
    pub async fn relocate(&self, grant: &SystemGrant, scope: &Scope, to: &Placement) -> Result<Move> {
        self.permit(grant, scope)?;
        let planned = self.plan(scope, to).await?;
        self.run(planned).await
    }

    /// Goes on with the move that an error or a crash ended, and takes it over from whoever else runs it. An abort that did
    /// not come to its end goes on, too. `NotFound` when there is no move under way.
    pub async fn resume(&self, grant: &SystemGrant, scope: &Scope) -> Result<Move> {
        self.permit(grant, scope)?;
        let found = self.under_way(scope).await?;
        self.run(found).await
    }

    /// Returns to the old place: writes go on there at once, and the new copy is removed. `Conflict` once the new place
    /// counts: then move it back. `NotFound` when there is no move under way.
    pub async fn abort(&self, grant: &SystemGrant, scope: &Scope) -> Result<Move> {
        self.permit(grant, scope)?;
        let found = self.under_way(scope).await?;
        if found.step == MoveStep::CutOver {
            let message = format!("the app is in {} already: resume this move, and then move the app back", found.to);
            return Err(Error::conflict(message).at(BACKEND, "abort").with("scope", scope));
        }
        let progress = self.told(&found);
        let aborted = Box::pin(Run::new(self, found, progress.clone()).abort()).await; // it is large
        told_end(&progress, aborted, "The app is where it was")
    }

    /// The last move of an app, over or not.
    pub async fn current(&self, grant: &SystemGrant, scope: &Scope) -> Result<Option<Move>> {
        self.permit(grant, scope)?;
        let connection = self.connect().await?;
        let all = moves(&connection, "a.app = $1 AND a.environment = $2", &both(&names(scope))).await?;
        Ok(all.into_iter().next())
    }

    /// Moves that are under way, and were perhaps left there by a crash: whoever runs none of them resumes them all when it
    /// starts. Needs a grant for all apps.
    pub async fn unfinished(&self, grant: &SystemGrant) -> Result<Vec<Move>> {
        self.schema.permit_all(grant)?;
        let connection = self.connect().await?;
        moves(&connection, "m.step NOT IN ('kept', 'dropped', 'aborted')", &[]).await
    }

    /// Drops the copies that moves of an app left behind, whatever their age; says how many. They cannot be had back.
    pub async fn drop_old(&self, grant: &SystemGrant, scope: &Scope) -> Result<usize> {
        self.permit(grant, scope)?;
        let connection = self.connect().await?;
        let condition = "a.app = $1 AND a.environment = $2 AND m.step = 'kept'";
        let kept = moves(&connection, condition, &both(&names(scope))).await?;
        for old in &kept {
            Run::new(self, old.clone(), Progress::discard()).drop_old().await?;
        }
        Ok(kept.len())
    }

    /// Drops the copies of all apps that were left behind for longer than they are [kept](Self::keep_old); says how many.
    /// Needs a grant for all apps.
    pub async fn sweep(&self, grant: &SystemGrant) -> Result<usize> {
        self.schema.permit_all(grant)?;
        let connection = self.connect().await?;
        let before = self.clock.now().minus(self.keep).as_unix_millis();
        let condition = "m.step = 'kept' AND m.cut_at < timestamptz 'epoch' + $1 * interval '1 millisecond'";
        let mut dropped = 0;
        for old in moves(&connection, condition, &[(&before, Type::INT8)]).await? {
            match Run::new(self, old, Progress::discard()).drop_old().await {
                Ok(_) => dropped += 1,
                Err(e) if e.kind() == ErrorKind::Conflict => {} // it is being moved again: the next sweep
                Err(e) => return Err(e),
            }
        }
        Ok(dropped)
    }

    async fn run(&self, found: Move) -> Result<Move> {
        let progress = self.told(&found);
        let (to, aborting) = (found.to.to_string(), found.step == MoveStep::Aborting);
        let run = Run::new(self, found, progress.clone());
        if aborting {
            return told_end(&progress, Box::pin(run.abort()).await, "The app is where it was");
        }
        told_end(&progress, Box::pin(run.finish_all()).await, &format!("The app is in {to}"))
    }

    fn told(&self, of: &Move) -> Progress {
        let stream = format!("moves/{}", of.scope);
        let stream = StreamName::parse(&stream).expect("a scope's letters are those of a stream's name");
        let builder = Progress::to(self.progress.clone(), stream, of.id.clone()).clock(self.clock.clone());
        builder.call(of.id.clone(), "move", 0).start(format!("Moving from {} to {}", of.from, of.to))
    }

    fn permit(&self, grant: &SystemGrant, scope: &Scope) -> Result<()> {
        self.schema.gate().permit(&Grant::from(grant.clone()), scope, Right::Operate)
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        self.schema.server().connect().await
    }

    async fn under_way(&self, scope: &Scope) -> Result<Move> {
        let connection = self.connect().await?;
        let condition = "a.app = $1 AND a.environment = $2 AND m.step NOT IN ('kept', 'dropped', 'aborted')";
        let found = moves(&connection, condition, &both(&names(scope))).await?.into_iter().next();
        found.ok_or_else(|| {
            Error::not_found("no move of this app is under way").at(BACKEND, "move").with("scope", scope)
        })
    }

    /// Where the platform says an app is; `None` for one that is not known.
    async fn place(&self, connection: &Connection, scope: &Scope) -> Result<Option<Place>> {
        const PLACE: &str = "SELECT app_id, coalesce(home, 'project:' || project), generation FROM overskill_guard.apps \
            WHERE app = $1 AND environment = $2";
        let rows = connection.client.query_typed(PLACE, &both(&names(scope))).await.map_err(failed("move"))?;
        let Some(row) = rows.first() else { return Ok(None) };
        let read = || Ok(Place { app_id: row.try_get(0)?, at: row.try_get(1)?, generation: row.try_get(2)? });
        read().map(Some).map_err(failed("move"))
    }

    /// Records a move; nothing else happens.
    async fn plan(&self, scope: &Scope, to: &Placement) -> Result<Move> {
        const KNOW: &str = "INSERT INTO overskill_guard.apps (app, environment) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        const PLAN: &str = "INSERT INTO overskill_guard.moves (move, app_id, source, target, generation, step, runner, began_at) \
            SELECT $1, a.app_id, $3, $4, $5, 'planned', '', timestamptz 'epoch' + $6 * interval '1 millisecond' \
            FROM overskill_guard.apps a WHERE a.app_id = $2 AND coalesce(a.home, 'project:' || a.project) = $3";
        const KEPT: &str = "SELECT FROM overskill_guard.moves WHERE app_id = $1 AND source = $2 AND step = 'kept'";
        let refuse = |message: String| Error::conflict(message).at(BACKEND, "move").with("scope", scope);
        let connection = self.connect().await?;
        let client = &connection.client;
        if number_of(client, scope).await?.is_none() {
            client.execute_typed(KNOW, &both(&names(scope))).await.map_err(failed("move"))?;
        }
        let place = self.place(&connection, scope).await?.ok_or_else(|| refuse("the app is gone".to_owned()))?;
        let from = Placement::of_place(&place.at)?;
        if from == *to {
            return Err(Error::invalid(format!("the app is in {to} already")).at(BACKEND, "move").with("scope", scope));
        }
        let target = match to {
            Placement::Shared => SHARED.to_owned(),
            Placement::Schema => format!("overskill_app_{:016x}", self.ids.random_u64()),
            Placement::OwnProject(name) => format!("project:{name}"),
        };
        let number = (&place.app_id as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT8);
        let kept = client.query_typed(KEPT, &[number.clone(), (&target, Type::TEXT)]).await.map_err(failed("move"))?;
        if !kept.is_empty() {
            return Err(refuse(format!(
                "{to} still has the copy of this app that an earlier move left there: look at it, and `drop_old` it"
            )));
        }
        let now = self.clock.now();
        let id = self.ids.uuid_v7(now).to_string();
        let generation = place.generation + 1;
        let arguments: [Argument<'_>; 6] = [
            (&id, Type::TEXT),
            number,
            (&place.at, Type::TEXT),
            (&target, Type::TEXT),
            (&generation, Type::INT8),
            (&now.as_unix_millis(), Type::INT8),
        ];
        let planned = client.execute_typed(PLAN, &arguments).await.map_err(failed_commit("move"));
        match planned {
            Ok(1) => {}
            Ok(_) => return Err(refuse("the app has just been moved by another: look where it is".to_owned())),
            Err(e) if e.kind() == ErrorKind::Conflict => {
                return Err(refuse("a move of this app is under way: resume it, or abort it".to_owned()).caused_by(e));
            }
            Err(e) => return Err(e),
        }
        Ok(Move {
            id,
            scope: scope.clone(),
            from,
            to: to.clone(),
            step: MoveStep::Planned,
            rows_copied: 0,
            cut_over_at: None,
            source: place.at,
            target,
            generation,
        })
    }
}

struct Place {
    app_id: i64,
    /// A schema, or `project:` and a name.
    at: String,
    generation: i64,
}

impl fmt::Debug for Mover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mover").field("schema", &self.schema).field("projects", &self.projects).finish_non_exhaustive()
    }
}

fn told_end(progress: &Progress, ended: Result<Move>, well: &str) -> Result<Move> {
    match &ended {
        Ok(_) => progress.complete(well),
        Err(e) => progress.fail(e),
    }
    ended
}

fn names(scope: &Scope) -> [&str; 2] {
    [scope.app.as_str(), scope.environment.as_str()]
}

fn both<'a>(names: &'a [&'a str; 2]) -> [Argument<'a>; 2] {
    [(&names[0], Type::TEXT), (&names[1], Type::TEXT)]
}

/// Recorded moves, the newest first.
pub(super) async fn moves(connection: &Connection, condition: &str, arguments: &[Argument<'_>]) -> Result<Vec<Move>> {
    let sql = format!(
        "SELECT m.move, a.app, a.environment, m.source, m.target, m.generation, m.step, m.rows_copied, \
           (extract(epoch FROM m.cut_at) * 1000)::int8 \
         FROM overskill_guard.moves m JOIN overskill_guard.apps a USING (app_id) WHERE {condition} \
         ORDER BY m.began_at DESC, m.move DESC"
    );
    let rows = connection.client.query_typed(&sql, arguments).await.map_err(failed("move"))?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Move> {
    let text = |at: usize| row.try_get::<_, String>(at).map_err(failed("move"));
    let number = |at: usize| row.try_get::<_, Option<i64>>(at).map_err(failed("move"));
    let environment: Environment = text(2)?.parse()?;
    let (source, target) = (text(3)?, text(4)?);
    Ok(Move {
        id: text(0)?,
        scope: Scope::new(AppId::parse(&text(1)?)?, environment),
        from: Placement::of_place(&source)?,
        to: Placement::of_place(&target)?,
        step: MoveStep::parse(&text(6)?)?,
        rows_copied: number(7)?.and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
        cut_over_at: number(8)?.map(Timestamp::from_unix_millis),
        source,
        target,
        generation: number(5)?.ok_or_else(taken_over)?,
    })
}
