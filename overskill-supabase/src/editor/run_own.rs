//! Changes of tables in a schema of the app's own, as the role that owns it.

use super::{
    ChangeState, PlannedStatement, PlannedStep, Rehearsal, SchemaChange, SchemaChangeRecord, SchemaEditor, SchemaPlan,
    StepWay, drifted, name::quoted, own, own::Ground, rehearsal::rehearse,
};
use crate::{
    inspector::{
        AppSchema, Run, of_schema,
        owner::{Owner, is_locked},
    },
    schema::audit,
    tx::fault::{BACKEND, failed},
};
use overskill_core::{Clock as _, Digest, Effect, Error, ErrorKind, Progress, Result, TenantGrant};
use std::{collections::BTreeMap, time::Duration};
use tokio_postgres::types::Type;

impl SchemaEditor {
    pub(super) async fn plan_own(&self, owner: &Owner<'_>, change: SchemaChange) -> Result<SchemaPlan> {
        if let Some(record) = owner.unfinished().await? {
            return Err(unfinished(&record));
        }
        let (made_for, (steps, destroys)) = self.look_own(owner, &change).await?;
        let mut plan = SchemaPlan::new(self.plan_id(), change, steps, made_for);
        plan.destroys = destroys;
        Ok(plan)
    }

    pub(super) async fn rehearse_own(&self, owner: &Owner<'_>, plan: &SchemaPlan) -> Result<Rehearsal> {
        self.hold(owner).await?;
        self.still_holds(owner, plan).await?;
        owner.begin(self.limits.lock_timeout, self.limits.statement_timeout).await?;
        let rehearsed = async {
            let rehearsal = rehearse(owner, owner.schema().as_str(), &plan.steps, &*self.clock).await?;
            walls_stand(owner).await?;
            Ok(rehearsal)
        };
        let rehearsed = rehearsed.await.map_err(clearer(plan));
        owner.rollback().await?;
        rehearsed
    }

    pub(super) async fn apply_own(
        &self,
        owner: &Owner<'_>,
        grant: &TenantGrant,
        plan: &SchemaPlan,
        progress: &Progress,
    ) -> Result<SchemaChangeRecord> {
        self.hold(owner).await?;
        match owner.change_of(&plan.id).await? {
            Some(record) if record.state == ChangeState::Done => return Ok(record),
            Some(record) if record.state == ChangeState::Begun => return self.go_on(owner, record, progress).await,
            Some(_) => return Err(Error::conflict("the change was taken back: plan it again")),
            None => {}
        }
        if let Some(record) = owner.unfinished().await? {
            return Err(unfinished(&record));
        }
        self.still_holds(owner, plan).await?;
        let subject = grant.subject().as_str();
        if let [PlannedStep { way: StepWay::Transaction, .. }] = plan.steps.as_slice() {
            let note = async || owner.record(self.life(), plan, subject, true).await;
            self.transaction(owner, &plan.steps[0], note).await.map_err(clearer(plan))?;
        } else {
            owner.begin(self.limits.lock_timeout, self.limits.statement_timeout).await?;
            let begun = owner.record(self.life(), plan, subject, false).await;
            end(owner, begun).await?;
        }
        let record =
            owner.change_of(&plan.id).await?.ok_or_else(|| Error::conflict("the change is not in the history"))?;
        if record.state == ChangeState::Done { Ok(record) } else { self.go_on(owner, record, progress).await }
    }

    /// The steps that are left. What fails is taken back with all that was done, unless nobody answers any more.
    pub(super) async fn go_on(
        &self,
        owner: &Owner<'_>,
        mut record: SchemaChangeRecord,
        progress: &Progress,
    ) -> Result<SchemaChangeRecord> {
        let all = record.steps.len();
        for at in record.steps_done..all {
            let state = if at + 1 == all { ChangeState::Done } else { ChangeState::Begun };
            if let Err(e) = self.step(owner, &record, at, state, progress).await {
                if owner.is_gone() {
                    return Err(e.effect_as(Effect::Unknown));
                }
                let back = self.undo(owner, &record).await;
                let e = e.with("step", format!("{} of {all}", at + 1));
                return Err(match back {
                    Ok(_) => e.effect_as(Effect::None),
                    Err(undo) => e.effect_as(Effect::Unknown).with("not taken back", undo.message()),
                });
            }
            (record.steps_done, record.state) = (at + 1, state);
            let percent = u8::try_from((at + 1) * 99 / all).unwrap_or(99);
            progress.at(percent, "step_done", format!("Step {} of {all} is done", at + 1));
        }
        owner.change_of(&record.plan).await?.ok_or_else(|| Error::conflict("the change is not in the history"))
    }

    async fn step(
        &self,
        owner: &Owner<'_>,
        record: &SchemaChangeRecord,
        at: usize,
        state: ChangeState,
        progress: &Progress,
    ) -> Result<()> {
        let step = &record.steps[at];
        let note = async || owner.note(&record.plan, at + 1, state).await;
        match step.way {
            StepWay::Transaction => self.transaction(owner, step, note).await,
            StepWay::Concurrently => {
                self.build(owner, step).await?;
                note().await
            }
            StepWay::Batches => {
                self.fill(owner, step, progress).await?;
                note().await
            }
        }
    }

    /// All statements and a note of them, or nothing. Tried again when others hold the table.
    async fn transaction(
        &self,
        owner: &Owner<'_>,
        step: &PlannedStep,
        note: impl AsyncFn() -> Result<()>,
    ) -> Result<()> {
        // Others do not wait for what takes no lock that they would need.
        let waited_for = step.statements.iter().flat_map(|it| &it.locks).any(|lock| lock.level.blocks_writes());
        let timeout = if waited_for { self.limits.statement_timeout } else { self.limits.online_timeout };
        self.patiently(async || {
            owner.begin(self.limits.lock_timeout, timeout).await?;
            let work = async {
                for statement in &step.statements {
                    owner.query(&statement.sql, &[]).await?;
                }
                walls_stand(owner).await?;
                note().await
            };
            let worked = work.await;
            end(owner, worked).await
        })
        .await
    }

    /// Tries again when others hold the table.
    async fn patiently<T>(&self, work: impl AsyncFn() -> Result<T>) -> Result<T> {
        let mut attempt = 1;
        loop {
            match work().await {
                Err(e) if is_locked(&e) && attempt < self.limits.attempts => {
                    self.clock.sleep(Duration::from_millis(100) * attempt).await;
                    attempt += 1;
                }
                Err(e) if is_locked(&e) => return Err(given_up(e, attempt, self.limits.lock_timeout)),
                done => return done,
            }
        }
    }

    /// An index, while others write. It waits for those who began before it, and nobody waits for it: as long as it may run
    /// at all. What a crash left of it is removed first.
    async fn build(&self, owner: &Owner<'_>, step: &PlannedStep) -> Result<()> {
        const STATE: &str = "SELECT x.indisvalid FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid \
            JOIN pg_catalog.pg_namespace n ON n.oid = i.relnamespace WHERE n.nspname = $1 AND i.relname = $2";
        let name = step.builds.as_deref().unwrap_or_default();
        owner.limit(self.limits.online_timeout, self.limits.online_timeout).await?;
        let rows = owner.query(STATE, &[(&owner.schema().as_str(), Type::TEXT), (&name, Type::TEXT)]).await?;
        match rows.first().map(|row| row.try_get::<_, bool>(0)).transpose().map_err(failed("look at an index"))? {
            Some(true) => return Ok(()),
            Some(false) => {
                let left = format!("{}.{}", owner.schema().quoted(), quoted(name));
                owner.query(&format!("DROP INDEX CONCURRENTLY IF EXISTS {left}"), &[]).await?;
            }
            None => {}
        }
        for statement in &step.statements {
            owner.query(&statement.sql, &[]).await?;
        }
        Ok(())
    }

    /// Some pages at a time. Rows that are made meanwhile have the value already. One that is changed before its turn goes to
    /// another page, which may have had its own: so until none is left, or only such as are made empty again and again, which
    /// is told: where a column may be empty, they may be meant to.
    async fn fill(&self, owner: &Owner<'_>, step: &PlannedStep, progress: &Progress) -> Result<()> {
        const MOST_PASSES: u32 = 20;
        for statement in &step.statements {
            let mut passes = 0;
            while self.is_left(owner, statement).await? {
                if passes == MOST_PASSES {
                    let table = statement.locks.first().map_or("", |lock| lock.table.as_str());
                    let message =
                        format!("Rows of table {table} are made empty as soon as they are filled: they stay empty");
                    progress.at(50, "rows_left_empty", message);
                    break;
                }
                self.pass(owner, statement).await?;
                passes += 1;
            }
        }
        Ok(())
    }

    /// Once through all pages that there are.
    async fn pass(&self, owner: &Owner<'_>, statement: &PlannedStatement) -> Result<()> {
        const PAGES: &str = "SELECT pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::int8 \
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = $1 AND c.relname = $2";
        let table = statement.locks.first().map_or("", |lock| lock.table.as_str());
        let rows = owner.query(PAGES, &[(&owner.schema().as_str(), Type::TEXT), (&table, Type::TEXT)]).await?;
        let pages: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed("look at a table"))?;
        let mut from = 0;
        while from < pages {
            let to = from + i64::from(self.limits.batch_pages);
            let sql = format!("{} AND ctid >= '({from},0)' AND ctid < '({to},0)'", statement.sql);
            let locks = statement.locks.iter().map(|lock| (lock.table.as_str(), lock.level));
            let batch = PlannedStep::transaction(vec![PlannedStatement::new(sql, locks)]);
            self.transaction(owner, &batch, async || Ok(())).await?;
            from = to;
        }
        Ok(())
    }

    /// Whether a row is there that the statement would change.
    async fn is_left(&self, owner: &Owner<'_>, statement: &PlannedStatement) -> Result<bool> {
        let (Some(lock), Some((_, condition))) = (statement.locks.first(), statement.sql.rsplit_once(" WHERE ")) else {
            return Ok(false); // no plan of ours
        };
        let table = format!("{}.{}", owner.schema().quoted(), quoted(&lock.table));
        let sql = format!("SELECT FROM {table} WHERE {condition} LIMIT 1");
        self.patiently(async || {
            owner.begin(self.limits.lock_timeout, self.limits.online_timeout).await?;
            let left = owner.query(&sql, &[]).await;
            owner.rollback().await?;
            left.map(|rows| !rows.is_empty())
        })
        .await
    }

    /// Takes back what was done, last things first.
    pub(super) async fn undo(&self, owner: &Owner<'_>, record: &SchemaChangeRecord) -> Result<SchemaChangeRecord> {
        // A transaction that failed left nothing; an index may have left a part.
        let (done, rest) = record.steps.split_at(record.steps_done.min(record.steps.len()));
        let part = rest.first().filter(|step| step.way == StepWay::Concurrently);
        for undo in done.iter().chain(part).rev().filter_map(|step| step.undo.as_ref()) {
            self.patiently(async || {
                owner.limit(self.limits.lock_timeout, self.limits.online_timeout).await?;
                owner.query(undo, &[]).await
            })
            .await?;
        }
        owner.note(&record.plan, 0, ChangeState::Undone).await?;
        owner.change_of(&record.plan).await?.ok_or_else(|| Error::conflict("the change is not in the history"))
    }

    /// Waits until nobody else changes this schema, as long as for a lock.
    pub(super) async fn hold(&self, owner: &Owner<'_>) -> Result<()> {
        let patience = self.limits.lock_timeout * self.limits.attempts.max(1);
        let since = self.clock.monotonic();
        while !owner.hold().await? {
            if self.clock.monotonic().saturating_sub(since) >= patience {
                let message = "another editor is changing this schema";
                return Err(Error::new(ErrorKind::Timeout, message)
                    .effect_as(Effect::None)
                    .at(BACKEND, "hold the schema"));
            }
            self.clock.sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn still_holds(&self, owner: &Owner<'_>, plan: &SchemaPlan) -> Result<()> {
        let (made_for, (steps, destroys)) = match self.look_own(owner, &plan.change).await {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Conflict) => {
                return Err(drifted().caused_by(e));
            }
            looked => looked?,
        };
        let same = made_for == plan.made_for && steps == plan.steps && destroys == plan.destroys;
        if same { Ok(()) } else { Err(drifted()) }
    }

    async fn look_own(&self, owner: &Owner<'_>, change: &SchemaChange) -> Result<(Digest, own::Steps)> {
        let schema = of_schema(owner).await?;
        owner.begin(self.limits.lock_timeout, self.limits.statement_timeout).await?;
        let sizes = self.sizes(owner, &schema, change).await;
        owner.rollback().await?;
        let ground = Ground {
            schema: &schema,
            place: owner.schema(),
            app_id: owner.app_id,
            owner: &owner.role,
            others: &owner.others,
            limits: &self.limits,
            sizes: sizes?,
        };
        Ok((schema.fingerprint(), own::steps(&ground, change)?))
    }

    /// Rows up to the limit, and bytes, of the table that is changed.
    async fn sizes(
        &self,
        owner: &Owner<'_>,
        schema: &AppSchema,
        change: &SchemaChange,
    ) -> Result<BTreeMap<String, (u64, u64)>> {
        let mut sizes = BTreeMap::new();
        for table in schema.tables.iter().filter(|table| table.name == change.table().as_str()) {
            let most = i64::try_from(self.limits.rows).unwrap_or(i64::MAX).saturating_add(1);
            let at = format!("{}.{}", owner.schema().quoted(), quoted(&table.name));
            let count = format!("SELECT count(*) FROM (SELECT FROM {at} LIMIT $1) AS counted");
            let rows = owner.query(&count, &[(&most, Type::INT8)]).await?;
            let rows: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed("count rows"))?;
            sizes.insert(table.name.clone(), (rows.unsigned_abs(), table.bytes.unwrap_or(0)));
        }
        Ok(sizes)
    }
}

/// Commits what worked, and rolls back what did not.
async fn end(owner: &Owner<'_>, worked: Result<()>) -> Result<()> {
    match worked {
        Ok(()) => owner.commit().await,
        Err(e) => {
            drop(owner.rollback().await); // the first error is the one to tell
            Err(e)
        }
    }
}

/// Refuses to leave a table that others could read.
async fn walls_stand(owner: &Owner<'_>) -> Result<()> {
    // Of this app alone: others' faults are neither its hindrance nor its to know.
    let rows = owner.query(audit::SCHEMAS, &[(&owner.schema().as_str(), Type::TEXT)]).await?;
    let findings: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    if findings.is_empty() {
        return Ok(());
    }
    let message = format!("the walls around the app's tables would not stand: {}", findings.join("; "));
    Err(Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None).at(BACKEND, "change the schema"))
}

fn unfinished(record: &SchemaChangeRecord) -> Error {
    let message = "a change was begun and cut off: call `resume` to end it, or `abandon` to take it back";
    Error::conflict(message).with("plan", &record.plan).with("change", record.change.event())
}

fn given_up(e: Error, attempts: u32, timeout: Duration) -> Error {
    let message = format!("others kept the table for all of {attempts} attempts of {timeout:?} each: given up");
    Error::new(ErrorKind::Timeout, message).effect_as(Effect::None).at(BACKEND, "change the schema").caused_by(e)
}

/// Values that do not fit are the caller's to know of.
fn clearer(plan: &SchemaPlan) -> impl Fn(Error) -> Error {
    let what = format!("{} of table `{}`", plan.change.event(), plan.change.table());
    move |e| match e.kind() {
        ErrorKind::Invalid | ErrorKind::Conflict if e.effect() == Effect::None && e.context().next().is_some() => {
            let message = format!("values that are there do not allow this ({what})");
            Error::new(e.kind(), message).effect_as(Effect::None).at(BACKEND, "change the schema").caused_by(e)
        }
        _ => e,
    }
}
