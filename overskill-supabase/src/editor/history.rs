//! What was changed.

use super::{
    change::SchemaChange,
    plan::{PlannedStep, StepWay},
};
use crate::{
    inspector::{Run, owner::Owner, read},
    tx::fault::failed,
};
use overskill_core::{Incarnation, Result, StreamPosition, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use tokio_postgres::types::{ToSql, Type};

/// A change that was made, or begun.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SchemaChangeRecord {
    /// Its place among the changes of this schema.
    pub position: StreamPosition,
    /// The plan's name.
    pub plan: String,
    /// When it was begun.
    pub at: Timestamp,
    /// Who made it.
    pub subject: String,
    /// The change.
    pub change: SchemaChange,
    /// What was run.
    pub steps: Vec<PlannedStep>,
    /// How many of the steps are done.
    pub steps_done: usize,
    /// How far it came.
    pub state: ChangeState,
}

/// How far a change came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ChangeState {
    /// Some of its steps may be done: it waits to be resumed or abandoned.
    Begun,
    /// All of it is.
    Done,
    /// It was taken back.
    Undone,
}

impl SchemaChangeRecord {
    /// As a migration: the name of its file, as Supabase's own tool names them, and its SQL.
    ///
    /// Statements that run outside of transactions say so, and those that run batch by batch are one statement.
    pub fn migration(&self) -> (String, String) {
        let digits: String = self.at.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
        let name = format!("{digits}_{}_{}.sql", self.change.event(), self.change.table());
        let mut sql = format!("-- {} at {} by {}\n", self.change.event(), self.at, one_line(&self.subject));
        for step in &self.steps {
            let (begin, end) = match step.way {
                StepWay::Transaction => ("BEGIN;\n", "COMMIT;\n"),
                StepWay::Concurrently => ("-- outside of a transaction\n", ""),
                StepWay::Batches => ("-- in batches\n", ""),
            };
            sql.push_str(begin);
            for statement in &step.statements {
                writeln!(sql, "{};", statement.sql).expect("a string takes all");
            }
            sql.push_str(end);
        }
        (name, sql)
    }

    pub(super) fn of(row: &tokio_postgres::Row) -> Result<Self> {
        let stored: Stored = read(row, 0)?;
        let life = Incarnation::from_u64(stored.incarnation.cast_unsigned());
        Ok(Self {
            position: StreamPosition::new(life, stored.seq),
            plan: stored.plan,
            at: Timestamp::from_unix_millis(stored.at_millis),
            subject: stored.subject,
            change: stored.change,
            steps: stored.steps,
            steps_done: stored.steps_done,
            state: stored.state,
        })
    }
}

/// A comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[derive(Deserialize)]
struct Stored {
    incarnation: i64,
    seq: u64,
    plan: String,
    at_millis: i64,
    subject: String,
    change: SchemaChange,
    steps: Vec<PlannedStep>,
    steps_done: usize,
    state: ChangeState,
}

/// At most this many are given at a time.
pub(super) const PAGE: i64 = 100;

/// Changes of the shared tables, newest first.
pub(super) async fn of_shared(tx: &impl Run, before: u64) -> Result<Vec<SchemaChangeRecord>> {
    const CHANGES: &str = "SELECT * FROM overskill_data.schema_changes($1, $2)";
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    let rows = tx.query(CHANGES, &[(&before, Type::INT8), (&PAGE, Type::INT8)]).await?;
    rows.iter().map(SchemaChangeRecord::of).collect()
}

const OF: &str = "SELECT to_jsonb(c) || jsonb_build_object('at_millis', (extract(epoch FROM c.changed_at) * 1000)::int8) \
    FROM overskill_guard.schema_changes c WHERE c.app_id = $1 AND c.place = $2";

impl Owner<'_> {
    /// Changes of this schema, newest first.
    pub(super) async fn changes(&self, before: u64) -> Result<Vec<SchemaChangeRecord>> {
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let sql = format!("{OF} AND c.seq < $3 ORDER BY c.seq DESC LIMIT $4");
        self.stored(&sql, &[(&before, Type::INT8), (&PAGE, Type::INT8)]).await
    }

    /// The change that was begun and neither ended nor taken back.
    pub(super) async fn unfinished(&self) -> Result<Option<SchemaChangeRecord>> {
        Ok(self.stored(&format!("{OF} AND c.state = 'begun'"), &[]).await?.pop())
    }

    /// What became of a plan.
    pub(super) async fn change_of(&self, plan: &str) -> Result<Option<SchemaChangeRecord>> {
        Ok(self.stored(&format!("{OF} AND c.plan = $3"), &[(&plan, Type::TEXT)]).await?.pop())
    }

    async fn stored(&self, sql: &str, more: &[(&(dyn ToSql + Sync), Type)]) -> Result<Vec<SchemaChangeRecord>> {
        let place = self.schema().as_str();
        let mut arguments: Vec<(&(dyn ToSql + Sync), Type)> = vec![(&self.app_id, Type::INT8), (&place, Type::TEXT)];
        arguments.extend(more.iter().cloned());
        self.query(sql, &arguments).await?.iter().map(SchemaChangeRecord::of).collect()
    }

    /// Notes how far a change came.
    pub(super) async fn note(&self, plan: &str, steps_done: usize, state: ChangeState) -> Result<()> {
        const NOTE: &str =
            "UPDATE overskill_guard.schema_changes SET steps_done = $3, state = $4 WHERE app_id = $1 AND plan = $2";
        let done = i32::try_from(steps_done).unwrap_or(i32::MAX);
        let state = match state {
            ChangeState::Begun => "begun",
            ChangeState::Done => "done",
            ChangeState::Undone => "undone",
        };
        let arguments: [(&(dyn ToSql + Sync), Type); 4] =
            [(&self.app_id, Type::INT8), (&plan, Type::TEXT), (&done, Type::INT4), (&state, Type::TEXT)];
        self.query(NOTE, &arguments).await.map(drop)
    }

    /// Writes a change down.
    pub(super) async fn record(
        &self,
        life: Incarnation,
        plan: &super::SchemaPlan,
        subject: &str,
        done: bool,
    ) -> Result<()> {
        const RECORD: &str = "SELECT overskill_guard.record_change($1, $2, $3, $4, $5, $6, $7, $8)";
        let (place, life) = (self.schema().as_str(), life.as_u64().cast_signed());
        let (change, steps) = written(plan);
        let arguments: [(&(dyn ToSql + Sync), Type); 8] = [
            (&self.app_id, Type::INT8),
            (&place, Type::TEXT),
            (&life, Type::INT8),
            (&plan.id, Type::TEXT),
            (&subject, Type::TEXT),
            (&change, Type::JSONB),
            (&steps, Type::JSONB),
            (&done, Type::BOOL),
        ];
        self.query(RECORD, &arguments).await.map(drop)
    }
}

/// Writes a change of the shared tables down.
pub(super) async fn record_shared(tx: &impl Run, life: Incarnation, plan: &super::SchemaPlan) -> Result<u64> {
    const RECORD: &str = "SELECT overskill_data.record_change($1, $2, $3, $4)";
    let life = life.as_u64().cast_signed();
    let (change, steps) = written(plan);
    let arguments: [(&(dyn ToSql + Sync), Type); 4] =
        [(&life, Type::INT8), (&plan.id, Type::TEXT), (&change, Type::JSONB), (&steps, Type::JSONB)];
    let rows = tx.query(RECORD, &arguments).await?;
    let seq: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed("record the change"))?;
    Ok(seq.unsigned_abs())
}

fn written(plan: &super::SchemaPlan) -> (serde_json::Value, serde_json::Value) {
    let write = |value: serde_json::Result<serde_json::Value>| value.expect("names, numbers and text alone");
    (write(serde_json::to_value(&plan.change)), write(serde_json::to_value(&plan.steps)))
}
