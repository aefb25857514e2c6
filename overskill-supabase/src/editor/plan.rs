//! What a change comes to.

use super::change::SchemaChange;
use overskill_core::{Digest, Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Postgres' locks on tables, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockLevel {
    /// `ACCESS SHARE`: reading.
    AccessShare,
    /// `ROW SHARE`: reading rows that are to stay as they are.
    RowShare,
    /// `ROW EXCLUSIVE`: writing rows.
    RowExclusive,
    /// `SHARE UPDATE EXCLUSIVE`: one such work at a time; reading and writing go on.
    ShareUpdateExclusive,
    /// `SHARE`: nobody writes.
    Share,
    /// `SHARE ROW EXCLUSIVE`: nobody writes.
    ShareRowExclusive,
    /// `EXCLUSIVE`: nobody writes.
    Exclusive,
    /// `ACCESS EXCLUSIVE`: nobody reads or writes.
    AccessExclusive,
}

impl LockLevel {
    const ALL: [(Self, &'static str, &'static str); 8] = [
        (Self::AccessShare, "ACCESS SHARE", "AccessShareLock"),
        (Self::RowShare, "ROW SHARE", "RowShareLock"),
        (Self::RowExclusive, "ROW EXCLUSIVE", "RowExclusiveLock"),
        (Self::ShareUpdateExclusive, "SHARE UPDATE EXCLUSIVE", "ShareUpdateExclusiveLock"),
        (Self::Share, "SHARE", "ShareLock"),
        (Self::ShareRowExclusive, "SHARE ROW EXCLUSIVE", "ShareRowExclusiveLock"),
        (Self::Exclusive, "EXCLUSIVE", "ExclusiveLock"),
        (Self::AccessExclusive, "ACCESS EXCLUSIVE", "AccessExclusiveLock"),
    ];

    /// From `pg_locks.mode`.
    pub(super) fn of_mode(mode: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, _, known)| *known == mode).map(|(level, ..)| *level)
    }

    /// Whether writers have to wait.
    pub fn blocks_writes(self) -> bool {
        self >= Self::Share
    }

    /// Whether readers have to wait.
    pub fn blocks_reads(self) -> bool {
        self == Self::AccessExclusive
    }
}

impl fmt::Display for LockLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name, _) = Self::ALL[*self as usize];
        f.write_str(name)
    }
}

/// A lock on a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableLock {
    /// The table, by the name that it has before the statement (or after, if it is new).
    pub table: String,
    /// The strongest lock that the statement takes on it.
    pub level: LockLevel,
}

/// One statement of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedStatement {
    /// What is run. Exactly one statement: the server is asked in a way in which it takes no second one.
    pub sql: String,
    /// The locks that it takes.
    pub locks: Vec<TableLock>,
    /// The table is written anew, which takes as long as the table is large.
    pub rewrites: bool,
    /// All rows are read while the lock is held.
    pub scans: bool,
}

/// How the statements of a step are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepWay {
    /// Together in one transaction.
    Transaction,
    /// Outside of transactions: an index that is built while others write.
    Concurrently,
    /// For a few pages of the table at a time, each in a transaction of its own.
    Batches,
}

/// What happens whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PlannedStep {
    /// How.
    pub way: StepWay,
    /// What.
    pub statements: Vec<PlannedStatement>,
    /// What takes it back when a later step fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
    /// The index that it builds outside of transactions, of which a crash may leave a part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builds: Option<String>,
}

impl PlannedStep {
    /// These statements in one transaction.
    pub(super) const fn transaction(statements: Vec<PlannedStatement>) -> Self {
        Self { way: StepWay::Transaction, statements, undo: None, builds: None }
    }

    pub(super) fn or_undo(mut self, undo: String) -> Self {
        self.undo = Some(undo);
        self
    }
}

impl PlannedStatement {
    pub(super) fn new<'a>(sql: String, locks: impl IntoIterator<Item = (&'a str, LockLevel)>) -> Self {
        let locks = locks.into_iter().map(|(table, level)| TableLock { table: table.to_owned(), level }).collect();
        Self { sql, locks, rewrites: false, scans: false }
    }

    pub(super) const fn rewriting(mut self, rewrites: bool) -> Self {
        self.rewrites = rewrites;
        self
    }

    pub(super) const fn scanning(mut self) -> Self {
        self.scans = true;
        self
    }
}

/// Rows that keep a change from being made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unfit {
    /// How many there are.
    pub rows: u64,
    /// The first of their ids, at most 20.
    pub ids: Vec<String>,
}

/// What a change comes to here and now: its statements with their locks, and what is lost.
///
/// It holds for the schema as it was looked at; one that has changed since refuses it. It can be shown, and only be made by
/// a [`SchemaEditor`](crate::SchemaEditor): what came back from somewhere else is planned again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SchemaPlan {
    /// Its name, by which a second run of the same plan is known.
    pub id: String,
    /// The change.
    pub change: SchemaChange,
    /// What is run, in this order.
    pub steps: Vec<PlannedStep>,
    /// What is lost for good, such as a table with its rows. [Confirmed](Self::confirm) before it is applied.
    pub destroys: Option<String>,
    /// Rows that do not fit. While there are any, nothing is applied.
    pub unfit: Option<Unfit>,
    /// The schema that it was made for.
    pub made_for: Digest,
    confirmed: bool,
}

impl SchemaPlan {
    pub(super) const fn new(id: String, change: SchemaChange, steps: Vec<PlannedStep>, made_for: Digest) -> Self {
        Self { id, change, steps, destroys: None, unfit: None, made_for, confirmed: false }
    }

    /// The strongest lock on any table.
    pub fn strongest_lock(&self) -> Option<LockLevel> {
        self.statements().flat_map(|statement| &statement.locks).map(|lock| lock.level).max()
    }

    /// Whether a table is written anew.
    pub fn rewrites(&self) -> bool {
        self.statements().any(|statement| statement.rewrites)
    }

    /// Whether something is lost for good.
    pub fn is_destructive(&self) -> bool {
        self.destroys.is_some()
    }

    /// Agrees to lose what it [`destroys`](Self::destroys), which has to be repeated: `table todos`, `column todos.title`.
    ///
    /// # Errors
    /// `Invalid` when it is something else that is lost, or nothing.
    pub fn confirm(mut self, destroyed: &str) -> Result<Self> {
        match &self.destroys {
            Some(what) if what == destroyed => self.confirmed = true,
            Some(what) => {
                return Err(Error::invalid(format!("what is lost is `{what}`, but `{destroyed}` was confirmed")));
            }
            None => return Err(Error::invalid("nothing is lost, so there is nothing to confirm")),
        }
        Ok(self)
    }

    /// Whether it may be applied as it is.
    pub(super) fn ready(&self) -> Result<()> {
        if let Some(unfit) = &self.unfit {
            return Err(unfit.refusal());
        }
        match &self.destroys {
            Some(what) if !self.confirmed => {
                Err(Error::invalid(format!("the change destroys {what}: confirm it with `plan.confirm(\"{what}\")`")))
            }
            _ => Ok(()),
        }
    }

    /// All statements in their order.
    pub fn statements(&self) -> impl Iterator<Item = &PlannedStatement> {
        self.steps.iter().flat_map(|step| &step.statements)
    }
}

impl Unfit {
    pub(super) fn refusal(&self) -> Error {
        let Self { rows, ids } = self;
        let shown = ids.iter().take(5).map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
        Error::invalid(format!("{rows} rows do not fit, such as {shown}: change them first"))
    }
}
