//! Changing what tables an app has.

mod change;
mod history;
mod limits;
mod name;
mod own;
mod plan;
mod rehearsal;
mod run_own;
mod run_shared;
mod shared;
mod types;

pub use change::{ColumnSpec, OnDelete, SchemaChange};
pub use history::{ChangeState, SchemaChangeRecord};
pub use limits::EditorLimits;
pub use name::Name;
pub use plan::{LockLevel, PlannedStatement, PlannedStep, SchemaPlan, StepWay, TableLock, Unfit};
pub use rehearsal::{Rehearsal, RehearsedStatement};
pub use types::{ColumnType, DefaultValue};

use crate::inspector::{AppTables, Place, owner::Owner};
use overskill_core::{
    Clock, DiscardProgress, Error, ErrorKind, Ids, Incarnation, Progress, ProgressKind, ProgressSink, Result, Scope,
    StreamName, SystemClock, SystemIds, TenantGrant,
};
use serde_json::json;
use std::sync::Arc;

/// Changes an app's schema in four steps: a typed change, a plan that says what it comes to, a rehearsal that shows it, and
/// the change itself. For developers of the app: every call needs a grant with the right `Develop`.
///
/// - A **plan** holds the SQL of every step, the locks that it takes, whether a table is written anew and what is lost. Where
///   a large table would stay locked for as long as it takes to go through it, the plan goes another way (an index that is
///   built while others write, a rule that is compared with old rows afterwards, values that are filled in batches) or is
///   refused with the limit's name.
/// - A **rehearsal** runs it in a transaction that is rolled back, and compares the plan's locks with those of `pg_locks`. It
///   holds these locks while it runs: not for longer than a statement of the change may.
/// - **Applied** is a plan only on the schema that it was made for, with a timeout for locks; what destroys something, only
///   after [`SchemaPlan::confirm`]. One that needs several transactions is written down before: after a crash,
///   [`resume`](Self::resume) ends it and [`abandon`](Self::abandon) takes it back.
///
/// For tables that apps share, a change is one of the catalog and of records, and no DDL. Records that are written from then
/// on have to fit their columns.
///
/// ```no_run
/// # async fn example(tables: overskill_supabase::AppTables, grant: overskill_core::TenantGrant) -> overskill_core::Result<()> {
/// use overskill_core::{Environment, Scope};
/// use overskill_supabase::{ColumnSpec, ColumnType, Name, SchemaChange, SchemaEditor};
///
/// let editor = SchemaEditor::new(tables);
/// let scope = Scope::new(grant.app().clone(), Environment::Production);
/// let change = SchemaChange::CreateTable {
///     table: Name::parse("todos")?,
///     columns: vec![ColumnSpec::new(Name::parse("title")?, ColumnType::Text).required()],
///     primary_key: vec![],
/// };
/// let plan = editor.plan(&grant, &scope, change).await?;
/// assert!(editor.rehearse(&grant, &scope, &plan).await?.is_as_planned());
/// let done = editor.apply(&grant, &scope, &plan).await?;
/// println!("{}", done.migration().1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SchemaEditor {
    tables: AppTables,
    limits: EditorLimits,
    progress: Arc<dyn ProgressSink>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl SchemaEditor {
    /// Changes these tables, with [`EditorLimits::new`].
    pub fn new(tables: AppTables) -> Self {
        Self {
            tables,
            limits: EditorLimits::new(),
            progress: Arc::new(DiscardProgress),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        }
    }

    /// Sets what a change may ask of the database.
    pub const fn limits(mut self, limits: EditorLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets where progress is told, in the stream `schema/{scope}`: the last event of a change has a stage such as
    /// `table_created`.
    pub fn progress(mut self, sink: Arc<dyn ProgressSink>) -> Self {
        self.progress = sink;
        self
    }

    /// Sets where time comes from.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets where the names of plans come from.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// What a change comes to on the schema as it is now. Changes nothing.
    ///
    /// # Errors
    /// `NotFound` for tables and columns that are not there, `Conflict` for those that are there already or that others hang
    /// on, `Invalid` for what could never be, `LimitExceeded` for what would lock a large table, `Unsupported` for what
    /// shared tables do not have.
    pub async fn plan(&self, grant: &TenantGrant, scope: &Scope, change: SchemaChange) -> Result<SchemaPlan> {
        self.tables.permit(grant, scope)?;
        change.bounded()?;
        match &self.tables.0 {
            Place::Shared(pool) => self.plan_shared(pool, grant, scope, change).await,
            Place::Own(own) => self.plan_own(&Owner::open(own, grant, scope).await?, change).await,
        }
        .map_err(|e| e.with("scope", scope))
    }

    /// Makes the change, measures it, and takes it back. Needs no confirmation: nothing is left of it.
    ///
    /// # Errors
    /// What [`apply`](Self::apply) would say, such as that values do not fit, but for [`SchemaPlan::confirm`].
    pub async fn rehearse(&self, grant: &TenantGrant, scope: &Scope, plan: &SchemaPlan) -> Result<Rehearsal> {
        self.tables.permit(grant, scope)?;
        match &self.tables.0 {
            Place::Shared(pool) => self.rehearse_shared(pool, grant, scope, plan).await,
            Place::Own(own) => self.rehearse_own(&Owner::open(own, grant, scope).await?, plan).await,
        }
        .map_err(|e| e.with("scope", scope))
    }

    /// Makes the change. A plan that was applied already answers as it did then.
    ///
    /// # Errors
    /// `Invalid` when something is destroyed that was not confirmed, or rows do not fit; `Conflict` when the schema is not the
    /// one that the plan was made for, or another change is unfinished; `Timeout` without effect when others kept the table
    /// for as long as the [limits](EditorLimits) allow; for tables of the app's own `Unavailable` while the app is
    /// [moved](crate::Mover), and `Conflict` when it has its data in another database. With [`Effect::Unknown`](overskill_core::Effect::Unknown), apply
    /// the same plan again.
    pub async fn apply(&self, grant: &TenantGrant, scope: &Scope, plan: &SchemaPlan) -> Result<SchemaChangeRecord> {
        self.tables.permit(grant, scope)?;
        plan.ready()?;
        let progress = self.teller(scope, &plan.id)?;
        progress.start(format!("Changing table {}", plan.change.table()));
        let done = match &self.tables.0 {
            Place::Shared(pool) => self.apply_shared(pool, grant, scope, plan).await,
            Place::Own(own) => match Owner::open(own, grant, scope).await {
                Ok(owner) => self.apply_own(&owner, grant, plan, &progress).await,
                Err(e) => Err(e),
            },
        };
        told(&progress, done, scope)
    }

    /// Ends a change that was begun and cut off; none when there is none. Indexes that were built in part are built anew.
    pub async fn resume(&self, grant: &TenantGrant, scope: &Scope) -> Result<Option<SchemaChangeRecord>> {
        self.unfinished(grant, scope, true).await
    }

    /// Takes back what was done of a change that was begun and cut off; none when there is none.
    pub async fn abandon(&self, grant: &TenantGrant, scope: &Scope) -> Result<Option<SchemaChangeRecord>> {
        self.unfinished(grant, scope, false).await
    }

    /// What was changed, newest first, at most 100 at a time: those before `before`, or the newest.
    pub async fn history(
        &self,
        grant: &TenantGrant,
        scope: &Scope,
        before: Option<&SchemaChangeRecord>,
    ) -> Result<Vec<SchemaChangeRecord>> {
        self.tables.permit(grant, scope)?;
        let before = before.map_or(u64::MAX, |record| record.position.seq);
        match &self.tables.0 {
            Place::Shared(pool) => {
                let tx = pool.begin_read_only(grant, scope).await?;
                let found = history::of_shared(&tx, before).await;
                drop(tx.rollback().await); // what was read stands
                found
            }
            Place::Own(own) => Owner::open(own, grant, scope).await?.changes(before).await,
        }
    }

    async fn unfinished(&self, grant: &TenantGrant, scope: &Scope, go_on: bool) -> Result<Option<SchemaChangeRecord>> {
        self.tables.permit(grant, scope)?;
        // Changes of shared tables are one transaction: none is ever unfinished.
        let Place::Own(own) = &self.tables.0 else { return Ok(None) };
        let owner = Owner::open(own, grant, scope).await?;
        self.hold(&owner).await?;
        let Some(record) = owner.unfinished().await? else { return Ok(None) };
        let progress = self.teller(scope, &record.plan)?;
        progress.start(format!("Changing table {}", record.change.table()));
        let ended = if go_on { self.go_on(&owner, record, &progress).await } else { self.undo(&owner, &record).await };
        told(&progress, ended, scope).map(Some)
    }

    fn teller(&self, scope: &Scope, plan: &str) -> Result<Progress> {
        let stream = StreamName::parse(&format!("schema/{scope}"))?;
        let builder = Progress::to(self.progress.clone(), stream, plan).clock(self.clock.clone());
        Ok(builder.call(plan, "schema", 0).build())
    }

    fn life(&self) -> Incarnation {
        Incarnation::generate(&*self.ids)
    }

    fn plan_id(&self) -> String {
        let mut bytes = [0; 16];
        self.ids.fill(&mut bytes);
        bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
    }
}

/// The schema is another than the plan's.
fn drifted() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "the schema, or the size of a table, has changed since the plan was made: plan it again",
    )
}

/// Tells how it ended.
fn told(progress: &Progress, done: Result<SchemaChangeRecord>, scope: &Scope) -> Result<SchemaChangeRecord> {
    match &done {
        Ok(record) if record.state == ChangeState::Done => {
            let details = json!({ "position": record.position, "change": record.change });
            let (stage, table) = (record.change.event(), record.change.table());
            progress.event(ProgressKind::Completed, stage, format!("Changed table {table}"), details);
        }
        Ok(record) => {
            let error = Error::conflict("the change was taken back");
            progress.fail(&error.with("plan", &record.plan));
        }
        Err(e) => progress.fail(e),
    }
    done.map_err(|e| e.with("scope", scope))
}
