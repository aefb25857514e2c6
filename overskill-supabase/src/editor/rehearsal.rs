//! A change that is made, measured and taken back.

use super::plan::{LockLevel, PlannedStatement, PlannedStep, StepWay, TableLock};
use crate::{inspector::Run, tx::fault::failed};
use overskill_core::{Clock, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio_postgres::types::Type;

/// What happened when a plan was rehearsed. Nothing of it is left.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Rehearsal {
    /// Each statement as it went.
    pub statements: Vec<RehearsedStatement>,
    /// How long it took, all in all.
    pub took: Duration,
}

impl Rehearsal {
    /// Whether every statement took the locks that the plan says, and wrote tables anew just where the plan says.
    pub fn is_as_planned(&self) -> bool {
        self.statements.iter().all(RehearsedStatement::is_as_planned)
    }
}

/// A statement as it went.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RehearsedStatement {
    /// What was run. An index that will be built while others write is built like any other here, and batches are one.
    pub sql: String,
    /// The locks that were to be expected: those of the plan, without those that statements before had taken.
    pub expected: Vec<TableLock>,
    /// The locks that it took, from `pg_locks`: the strongest on each table of the schema.
    pub taken: Vec<TableLock>,
    /// Whether the plan says that a table is written anew.
    pub to_rewrite: bool,
    /// Whether a table was: whether it is in another file.
    pub rewrote: bool,
    /// How long it took.
    pub took: Duration,
}

impl RehearsedStatement {
    /// Whether it went as the plan says.
    pub fn is_as_planned(&self) -> bool {
        self.expected == self.taken && self.to_rewrite == self.rewrote
    }
}

/// Runs all statements in the transaction that is open, and says how they went. `place` is where the tables are.
pub(super) async fn rehearse(
    tx: &impl Run,
    place: &str,
    steps: &[PlannedStep],
    clock: &dyn Clock,
) -> Result<Rehearsal> {
    let begun = clock.monotonic();
    let mut statements = Vec::new();
    for step in steps {
        for planned in &step.statements {
            let (sql, planned) = in_a_transaction(planned, step.way);
            let before = Look::at(tx, place).await?;
            let since = clock.monotonic();
            tx.query(&sql, &[]).await?;
            let took = clock.monotonic().saturating_sub(since);
            let after = Look::at(tx, place).await?;
            statements.push(compared(sql, &planned, &before, &after, took));
        }
    }
    Ok(Rehearsal { statements, took: clock.monotonic().saturating_sub(begun) })
}

/// What stands for a statement that runs outside of transactions.
fn in_a_transaction(planned: &PlannedStatement, way: StepWay) -> (String, PlannedStatement) {
    if way != StepWay::Concurrently {
        return (planned.sql.clone(), planned.clone());
    }
    let mut locked = planned.clone();
    for lock in &mut locked.locks {
        lock.level = LockLevel::Share;
    }
    // It stands before any name.
    (planned.sql.replacen(" CONCURRENTLY", "", 1), locked)
}

/// Tables, their files, and the locks of this session.
struct Look {
    tables: BTreeMap<i64, (String, Option<i64>)>,
    locks: BTreeSet<(i64, LockLevel)>,
}

impl Look {
    async fn at(tx: &impl Run, place: &str) -> Result<Self> {
        const TABLES: &str = "SELECT c.oid::int8, c.relname::text, pg_catalog.pg_relation_filenode(c.oid)::int8 \
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')";
        const LOCKS: &str = "SELECT l.relation::int8, l.mode FROM pg_catalog.pg_locks l \
            WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted \
              AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())";
        let read = failed("look at locks");
        let mut tables = BTreeMap::new();
        for row in tx.query(TABLES, &[(&place, Type::TEXT)]).await? {
            let name = row.try_get(1).map_err(&read)?;
            tables.insert(row.try_get(0).map_err(&read)?, (name, row.try_get(2).map_err(&read)?));
        }
        let mut locks = BTreeSet::new();
        for row in tx.query(LOCKS, &[]).await? {
            let mode: String = row.try_get(1).map_err(&read)?;
            if let Some(level) = LockLevel::of_mode(&mode) {
                locks.insert((row.try_get(0).map_err(&read)?, level));
            }
        }
        Ok(Self { tables, locks })
    }
}

fn compared(
    sql: String,
    planned: &PlannedStatement,
    before: &Look,
    after: &Look,
    took: Duration,
) -> RehearsedStatement {
    // A table that was dropped has a name no more; one that was renamed is planned for by its old one.
    let name = |oid: &i64| before.tables.get(oid).or_else(|| after.tables.get(oid)).map(|(name, _)| name.clone());
    let held: BTreeSet<(String, LockLevel)> =
        before.locks.iter().filter_map(|(oid, level)| Some((name(oid)?, *level))).collect();
    let is_held = |lock: &TableLock| held.contains(&(lock.table.clone(), lock.level));
    let mut expected: Vec<_> = planned.locks.iter().filter(|lock| !is_held(lock)).cloned().collect();
    expected.sort();
    let mut strongest = BTreeMap::new();
    for (oid, level) in after.locks.difference(&before.locks).filter(|(_, level)| *level > LockLevel::AccessShare) {
        if let Some(table) = name(oid) {
            let known = strongest.entry(table).or_insert(*level);
            *known = (*known).max(*level);
        }
    }
    // What it needed besides a lock that was there already says nothing.
    strongest.retain(|table, _| !planned.locks.iter().any(|lock| lock.table == *table && is_held(lock)));
    let taken = strongest.into_iter().map(|(table, level)| TableLock { table, level }).collect();
    let moved =
        |(oid, (_, file)): (&i64, &(String, Option<i64>))| after.tables.get(oid).is_some_and(|(_, now)| now != file);
    let rewrote = before.tables.iter().any(moved);
    RehearsedStatement { sql, expected, taken, to_rewrite: planned.rewrites, rewrote, took }
}
