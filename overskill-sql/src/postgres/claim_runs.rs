//! Claiming and ending runs: one statement for a batch.

use super::driver::{Connection, Db, Fault, RunKey};
use overskill_core::RunId;
use sqlx::query_as;
use std::collections::HashSet;

/// A run that was claimed: turn, run, app, environment, job, payload, when it was due, try, when the lease expires.
pub(super) type Taken = (i64, RunKey, String, String, String, Vec<u8>, i64, i64, i64);

/// What all claims of one call have in common.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) now_ms: i64,
    pub(super) lease_ms: i64,
    pub(super) worker: &'a str,
    /// What the history says of runs that have no try left.
    pub(super) given_up: &'static str,
}

/// The claim around a choice of rows. The clock is only a hint, so whoever finds it locked leaves it alone.
macro_rules! claim {
    ($picked:literal) => {
        concat!(
            "WITH moment AS MATERIALIZED (
                 SELECT greatest($1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint) AS now),
             picked AS MATERIALIZED (",
            $picked,
            "),
             taken AS (
                 UPDATE runs SET attempt = attempt + 1, lease_ms = (SELECT now FROM moment) + $2, worker = $3
                 FROM picked WHERE runs.ctid = place AND alive
                 RETURNING turn, run, app, environment, name, payload, due_ms, attempt, lease_ms),
             dead AS (
                 DELETE FROM runs USING picked WHERE runs.ctid = place AND NOT alive
                 RETURNING job, run, due_ms, attempt),
             buried AS (
                 INSERT INTO run_history (job, run, due_ms, state, attempts, failure, ended_ms)
                 SELECT job, run, due_ms, 'dead', attempt, $4, now FROM dead, moment),
             clock AS (
                 UPDATE run_clock SET turn = (SELECT max(turn) FROM taken)
                 WHERE id = (SELECT id FROM run_clock WHERE id = 1 AND turn < (SELECT max(turn) FROM taken)
                             FOR UPDATE SKIP LOCKED))
             SELECT array_agg(turn), array_agg(run), array_agg(app), array_agg(environment), array_agg(name),
                    array_agg(payload), array_agg(due_ms), array_agg(attempt), array_agg(lease_ms)
             FROM taken"
        )
    };
}

/// Claims the next runs by turn, in a transaction of its own; none while there are runs to be made or woken first.
///
/// Looks from where the last claim was, past what is running. It may pass by a run whose lease expired, which
/// [`take_next`] finds.
pub(super) async fn take_at_once(db: &Db, claim: Claim<'_>, most: u32) -> Result<Vec<Taken>, Fault> {
    const SQL: &str = claim!(
        "SELECT ctid AS place, attempt < max_attempts AS alive FROM runs
         WHERE turn >= (SELECT turn FROM run_clock WHERE id = 1)
           AND (lease_ms IS NULL OR lease_ms <= (SELECT now FROM moment)) AND due_ms <= (SELECT now FROM moment)
           AND ((SELECT min(next_run_ms) FROM run_jobs) <= (SELECT now FROM moment)) IS NOT TRUE
           AND ((SELECT min(wake_ms) FROM runs) <= (SELECT now FROM moment)) IS NOT TRUE
         ORDER BY turn, run LIMIT $5 FOR UPDATE SKIP LOCKED"
    );
    let mut writer = db.writer().await?;
    let taken = bound(SQL, claim).bind(i64::from(most)).fetch_all(writer.connection());
    Ok(rows(taken.await.map_err(Fault::of_commit)?))
}

/// Claims the next runs by turn.
pub(super) async fn take_next(tx: &mut Connection, claim: Claim<'_>, most: u32) -> Result<Vec<Taken>, Fault> {
    const SQL: &str = claim!(
        "SELECT ctid AS place, attempt < max_attempts AS alive FROM runs
         WHERE turn IS NOT NULL AND (lease_ms IS NULL OR lease_ms <= (SELECT now FROM moment))
           AND due_ms <= (SELECT now FROM moment)
         ORDER BY turn, run LIMIT $5 FOR UPDATE SKIP LOCKED"
    );
    Ok(rows(bound(SQL, claim).bind(i64::from(most)).fetch_all(tx).await?))
}

/// Claims runs that this transaction has locked.
pub(super) async fn take_chosen(tx: &mut Connection, claim: Claim<'_>, runs: &[RunId]) -> Result<Vec<Taken>, Fault> {
    const SQL: &str = claim!("SELECT ctid AS place, attempt < max_attempts AS alive FROM runs WHERE run = ANY($5)");
    let runs: Vec<RunKey> = runs.iter().map(|run| run.as_uuid()).collect();
    Ok(rows(bound(SQL, claim).bind(runs).fetch_all(tx).await?))
}

/// All that was claimed as one row of columns: less to send and to take apart than a row of nine values for each run.
/// Nulls when it was nothing.
type Columns = (
    Option<Vec<i64>>,
    Option<Vec<RunKey>>,
    Option<Vec<String>>,
    Option<Vec<String>>,
    Option<Vec<String>>,
    Option<Vec<Vec<u8>>>,
    Option<Vec<i64>>,
    Option<Vec<i64>>,
    Option<Vec<i64>>,
);

fn rows(columns: Vec<Columns>) -> Vec<Taken> {
    let all =
        columns.into_iter().filter_map(|(turns, runs, apps, environments, names, payloads, dues, tries, leases)| {
            let whose = apps?.into_iter().zip(environments?).zip(names?).zip(payloads?);
            let when = dues?.into_iter().zip(tries?).zip(leases?);
            Some(turns?.into_iter().zip(runs?).zip(whose).zip(when))
        });
    let row = |(((turn, run), (((app, environment), name), payload)), ((due, attempt), lease))| {
        (turn, run, app, environment, name, payload, due, attempt, lease)
    };
    all.flatten().map(row).collect()
}

type Bound<'q> = sqlx::query::QueryAs<'q, sqlx::Postgres, Columns, sqlx::postgres::PgArguments>;

fn bound<'q>(sql: &'static str, claim: Claim<'q>) -> Bound<'q> {
    query_as(sql).bind(claim.now_ms).bind(claim.lease_ms).bind(claim.worker).bind(claim.given_up)
}

/// Runs that are over, column by column.
#[derive(Default)]
pub(super) struct Ends {
    runs: Vec<RunKey>,
    fences: Vec<i64>,
    states: Vec<&'static str>,
    failures: Vec<Option<String>>,
}

impl Ends {
    pub(super) fn push(&mut self, run: RunId, fence: i64, state: &'static str, failure: Option<String>) {
        self.runs.push(run.as_uuid());
        self.fences.push(fence);
        self.states.push(state);
        self.failures.push(failure);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

/// Moves runs into the history, in a transaction of its own, and says which: run and fence of each.
pub(super) async fn end_at_once(db: &Db, ends: &Ends, now_ms: i64) -> Result<Vec<(RunId, i64)>, Fault> {
    let mut writer = db.writer().await?;
    over(writer.connection(), ends, now_ms).await.map_err(Fault::of_commit)
}

/// Moves runs into the history, and says which: run and fence of each.
pub(super) async fn end(tx: &mut Connection, ends: &Ends, now_ms: i64) -> Result<Vec<(RunId, i64)>, Fault> {
    Ok(over(tx, ends, now_ms).await?)
}

async fn over(on: &mut Connection, ends: &Ends, now_ms: i64) -> sqlx::Result<Vec<(RunId, i64)>> {
    // What comes back is what was not ended: as a rule, nothing. `coalesce` keeps the planner from believing a sample in
    // which nothing was leased: it would look for the few that are in the whole table, once for each end.
    let sql = "WITH moment AS MATERIALIZED (
                   SELECT greatest($5, (extract(epoch FROM statement_timestamp()) * 1000)::bigint) AS now),
               gone AS (
                   DELETE FROM runs USING unnest($1, $2, $3, $4) AS ends (named, fence, state, why)
                   WHERE run = named AND attempt = fence AND coalesce(lease_ms, 0) > 0
                   RETURNING job, run, due_ms, state, attempt, coalesce(why, failure) AS failure),
               history AS (
                   INSERT INTO run_history (job, run, due_ms, state, attempts, failure, ended_ms)
                   SELECT job, run, due_ms, state, attempt, failure, (SELECT now FROM moment) FROM gone)
               SELECT named, fence FROM unnest($1, $2) AS ends (named, fence)
               WHERE (named, fence) NOT IN (SELECT run, attempt FROM gone)";
    let over = query_as(sql).bind(&ends.runs).bind(&ends.fences).bind(&ends.states).bind(&ends.failures);
    let stale: Vec<(RunKey, i64)> = over.bind(now_ms).fetch_all(on).await?;
    let stale: HashSet<_> = stale.into_iter().collect();
    let all = ends.runs.iter().copied().zip(ends.fences.iter().copied());
    Ok(all.filter(|end| !stale.contains(end)).map(|(run, fence)| (RunId::from_uuid(run), fence)).collect())
}
