//! Claiming and ending runs.

use super::driver::{Connection, Db, Fault, RunKey, list, run_id};
use overskill_core::RunId;
use sqlx::{query, query_as, query_scalar};

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

/// Claims nothing: on Postgres, this saves trips to the server.
#[allow(clippy::unused_async, reason = "Postgres asks its server")]
pub(super) async fn take_at_once(_: &Db, _: Claim<'_>, _: u32) -> Result<Vec<Taken>, Fault> {
    Ok(Vec::new())
}

/// Claims the next runs by turn.
pub(super) async fn take_next(tx: &mut Connection, claim: Claim<'_>, most: u32) -> Result<Vec<Taken>, Fault> {
    let sql = "SELECT run FROM runs
               WHERE turn IS NOT NULL AND (lease_ms IS NULL OR lease_ms <= $1) AND due_ms <= $1
               ORDER BY turn, run LIMIT $2";
    let next: Vec<RunKey> = query_scalar(sql).bind(claim.now_ms).bind(i64::from(most)).fetch_all(&mut *tx).await?;
    let next = next.into_iter().map(run_id).collect::<Result<Vec<_>, _>>()?;
    take_chosen(tx, claim, &next).await
}

/// Claims runs that nobody holds.
pub(super) async fn take_chosen(tx: &mut Connection, claim: Claim<'_>, runs: &[RunId]) -> Result<Vec<Taken>, Fault> {
    let runs = list(runs.iter().map(RunId::to_string).collect());
    let sql = "INSERT INTO run_history (job, run, due_ms, state, attempts, failure, ended_ms)
               SELECT job, run, due_ms, 'dead', attempt, $2, $3 FROM runs
               WHERE run IN (SELECT value FROM json_each($1)) AND attempt >= max_attempts";
    let bury = query(sql).bind(&runs).bind(claim.given_up).bind(claim.now_ms);
    if bury.execute(&mut *tx).await?.rows_affected() > 0 {
        let sql = "DELETE FROM runs WHERE run IN (SELECT value FROM json_each($1)) AND attempt >= max_attempts";
        query(sql).bind(&runs).execute(&mut *tx).await?;
    }
    let sql = "UPDATE runs SET attempt = attempt + 1, lease_ms = $2, worker = $3
               WHERE run IN (SELECT value FROM json_each($1))";
    let take = query(sql).bind(&runs).bind(claim.now_ms.saturating_add(claim.lease_ms)).bind(claim.worker);
    take.execute(&mut *tx).await?;
    let sql = "SELECT turn, run, run_jobs.app, environment, name, payload, due_ms, attempt, lease_ms
               FROM json_each($1) AS chosen JOIN runs ON run = chosen.value JOIN run_jobs ON run_jobs.id = job";
    let taken: Vec<Taken> = query_as(sql).bind(&runs).fetch_all(&mut *tx).await?;
    if let Some(turn) = taken.iter().map(|taken| taken.0).max() {
        query("UPDATE run_clock SET turn = $1 WHERE id = 1 AND turn < $1").bind(turn).execute(tx).await?;
    }
    Ok(taken)
}

/// Runs that are over.
#[derive(Default)]
pub(super) struct Ends(Vec<End>);

#[derive(serde::Serialize)]
struct End {
    run: RunId,
    fence: i64,
    state: &'static str,
    failure: Option<String>,
}

impl Ends {
    pub(super) fn push(&mut self, run: RunId, fence: i64, state: &'static str, failure: Option<String>) {
        self.0.push(End { run, fence, state, failure });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Moves runs into the history, in a transaction of its own, and says which: run and fence of each.
pub(super) async fn end_at_once(db: &Db, ends: &Ends, now_ms: i64) -> Result<Vec<(RunId, i64)>, Fault> {
    let mut writer = db.writer().await?;
    let mut tx = writer.begin().await?;
    let over = end(&mut tx, ends, now_ms).await?;
    tx.commit().await?;
    Ok(over)
}

/// Moves runs into the history, and says which: run and fence of each.
pub(super) async fn end(tx: &mut Connection, ends: &Ends, now_ms: i64) -> Result<Vec<(RunId, i64)>, Fault> {
    let json = |e| overskill_core::Error::unexpected("a value does not go into JSON", e);
    let ends = serde_json::to_string(&ends.0).map_err(json)?;
    let sql = "INSERT INTO run_history (job, run, due_ms, state, attempts, failure, ended_ms)
               SELECT job, run, due_ms, ends.value ->> 'state', attempt,
                      coalesce(ends.value ->> 'failure', failure), $2
               FROM json_each($1) AS ends JOIN runs ON run = ends.value ->> 'run'
               WHERE attempt = ends.value ->> 'fence' AND lease_ms IS NOT NULL
               RETURNING run, attempts";
    let over: Vec<(RunKey, i64)> = query_as(sql).bind(&ends).bind(now_ms).fetch_all(&mut *tx).await?;
    let sql = "DELETE FROM runs WHERE run IN (SELECT value FROM json_each($1))";
    let runs: Vec<_> = over.iter().map(|(run, _)| run.as_str()).collect();
    query(sql).bind(serde_json::Value::from(runs).to_string()).execute(tx).await?;
    over.into_iter().map(|(run, fence)| Ok((run_id(run)?, fence))).collect()
}
