//! How tries end, and what is remembered of it.

use super::{Connection, Fault, json, row, sql};
use overskill_core::{Fence, FinishedRun, Ids, IdsExt as _, Result, RunOutcome, RunRecord, RunState, Timestamp};
use serde::Serialize;
use sqlx::{query, query_as};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// A run that is over.
#[derive(Serialize)]
pub(super) struct End {
    run: String,
    fence: i64,
    state: &'static str,
    failure: Option<String>,
}

/// A try that failed.
pub(super) struct Failed<'a> {
    run: String,
    fence: i64,
    reason: &'a str,
    retry_after_ms: Option<u64>,
}

/// Parts what is over from what may be tried again.
pub(super) fn ends(finished: &[FinishedRun]) -> (Vec<End>, Vec<Failed<'_>>) {
    let (mut ends, mut failures) = (Vec::new(), Vec::new());
    let mut named = HashSet::new();
    for it in finished.iter().filter(|it| named.insert((it.run, it.fence))) {
        let (run, fence) = (it.run.to_string(), fence_number(it.fence));
        let over = |run, state: RunState, failure| End { run, fence, state: state.as_str(), failure };
        match &it.outcome {
            RunOutcome::Done => ends.push(over(run, RunState::Done, None)),
            RunOutcome::Dead { reason } => ends.push(over(run, RunState::Dead, Some(text(reason)))),
            RunOutcome::Failed { reason, retry_after_ms } => {
                failures.push(Failed { run, fence, reason, retry_after_ms: *retry_after_ms });
            }
        }
    }
    (ends, failures)
}

/// Makes runs wait that have a try left, and adds the others to those that are over.
pub(super) async fn try_again(
    tx: &mut Connection,
    failures: &[Failed<'_>],
    ends: &mut Vec<End>,
    ids: &dyn Ids,
    now: Timestamp,
) -> Result<Vec<(String, i64)>, Fault> {
    let sql = sql!(
        sqlite: "SELECT run, attempt, runs.max_attempts, backoff_first_ms, backoff_max_ms, $2
                 FROM json_each($1) AS named JOIN runs ON run = named.value JOIN run_jobs ON run_jobs.id = job
                 WHERE lease_ms IS NOT NULL",
        postgres: "SELECT run, attempt, runs.max_attempts, backoff_first_ms, backoff_max_ms,
                          greatest($2, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
                   FROM runs JOIN run_jobs ON run_jobs.id = job
                   WHERE run IN (SELECT json_array_elements_text($1::json)) AND lease_ms IS NOT NULL
                   ORDER BY run FOR UPDATE OF runs",
    );
    let runs: Vec<_> = failures.iter().map(|failed| &failed.run).collect();
    type Found = (String, i64, i64, i64, i64, i64);
    let found = query_as(sql).bind(json(&runs)?).bind(now.as_unix_millis());
    let found: Vec<Found> = found.fetch_all(&mut *tx).await?;
    let found: HashMap<_, _> = found
        .into_iter()
        .map(|(run, attempt, max, first, most, now)| ((run, attempt), (max, first, most, now)))
        .collect();
    let mut waits = Vec::new();
    for failed in failures {
        let key = (failed.run.clone(), failed.fence);
        let Some((max_attempts, first_ms, max_ms, now)) = found.get(&key) else { continue };
        let (run, attempt) = key;
        if attempt >= *max_attempts {
            let state = RunState::Dead.as_str();
            ends.push(End { run, fence: attempt, state, failure: Some(text(failed.reason)) });
            continue;
        }
        let wait = match failed.retry_after_ms {
            Some(wait) => Duration::from_millis(wait),
            None => ids.jitter(bound(row::number(*first_ms)?, row::number(*max_ms)?, attempt)),
        };
        let wake_ms = Timestamp::from_unix_millis(*now).plus(wait).as_unix_millis();
        waits.push(Wait { run, fence: attempt, wake_ms, failure: text(failed.reason) });
    }
    let sql = sql!(
        sqlite: "UPDATE runs SET turn = NULL, lease_ms = NULL, worker = NULL, wake_ms = waits.value ->> 'wake_ms',
                                 failure = waits.value ->> 'failure'
                 FROM json_each($1) AS waits WHERE run = waits.value ->> 'run'",
        postgres: "UPDATE runs SET turn = NULL, lease_ms = NULL, worker = NULL, wake_ms = waits.wake_ms,
                                   failure = waits.failure
                   FROM json_to_recordset($1::json) AS waits (run text, wake_ms bigint, failure text)
                   WHERE runs.run = waits.run",
    );
    if !waits.is_empty() {
        query(sql).bind(json(&waits)?).execute(tx).await?;
    }
    Ok(waits.into_iter().map(|wait| (wait.run, wait.fence)).collect())
}

#[derive(Serialize)]
struct Wait {
    run: String,
    #[serde(skip)]
    fence: i64,
    wake_ms: i64,
    failure: String,
}

/// The bound of the wait after a try.
fn bound(first_ms: u64, max_ms: u64, attempt: i64) -> Duration {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(63);
    Duration::from_millis(first_ms.saturating_mul(1 << doublings).min(max_ms))
}

/// Moves runs into the history, and says which: run and fence of each.
pub(super) async fn end(tx: &mut Connection, ends: &[End], now: Timestamp) -> Result<Vec<(String, i64)>, Fault> {
    let ends = json(&ends)?;
    sql!(
        sqlite: {
            let sql = "INSERT INTO run_history (job, run, due_ms, state, attempts, failure, ended_ms)
                       SELECT job, run, due_ms, ends.value ->> 'state', attempt,
                              coalesce(ends.value ->> 'failure', failure), $2
                       FROM json_each($1) AS ends JOIN runs ON run = ends.value ->> 'run'
                       WHERE attempt = ends.value ->> 'fence' AND lease_ms IS NOT NULL
                       RETURNING run, attempts";
            let over: Vec<(String, i64)> =
                query_as(sql).bind(&ends).bind(now.as_unix_millis()).fetch_all(&mut *tx).await?;
            let runs: Vec<_> = over.iter().map(|(run, _)| run).collect();
            let sql = "DELETE FROM runs WHERE run IN (SELECT value FROM json_each($1))";
            query(sql).bind(json(&runs)?).execute(tx).await?;
            Ok(over)
        },
        postgres: {
            let sql = "WITH gone AS (
                           DELETE FROM runs USING json_to_recordset($1::json)
                                                  AS ends (run text, fence bigint, state text, failure text)
                           WHERE runs.run = ends.run AND attempt = fence AND lease_ms IS NOT NULL
                           RETURNING job, runs.run, due_ms, state, attempt, coalesce(ends.failure, runs.failure) AS failure),
                       over AS (
                           INSERT INTO run_history (job, run, due_ms, state, attempts, failure, ended_ms)
                           SELECT job, run, due_ms, state, attempt, failure,
                                  greatest($2, (extract(epoch FROM statement_timestamp()) * 1000)::bigint)
                           FROM gone)
                       SELECT run, attempt FROM gone";
            Ok(query_as(sql).bind(&ends).bind(now.as_unix_millis()).fetch_all(tx).await?)
        },
    )
}

/// Run, when it was due, state, tries, failure, end.
pub(super) type RecordRow = (String, i64, String, i64, Option<String>, Option<i64>);

pub(super) fn record((run, due, state, attempts, failure, ended): RecordRow) -> Result<RunRecord> {
    use RunState::{Dead, Done, Running, Skipped, Waiting};
    let states = [Waiting, Running, Done, Dead, Skipped];
    let unknown = || row::altered(format!("run state `{state}`"));
    Ok(RunRecord {
        run: row::stored(&run)?,
        due_at: Timestamp::from_unix_millis(due),
        state: states.into_iter().find(|it| it.as_str() == state).ok_or_else(unknown)?,
        attempts: u32::try_from(attempts).map_err(row::altered)?,
        failure,
        ended_at: ended.map(Timestamp::from_unix_millis),
    })
}

/// A fence as it is stored, or −1, which no run has: one over 2⁶³ was never given out.
pub(super) fn fence_number(fence: Fence) -> i64 {
    i64::try_from(fence.as_u64()).unwrap_or(-1)
}

/// Postgres' text holds no zero byte.
fn text(reason: &str) -> String {
    reason.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_highest() {
        let bounds: Vec<_> = (1..=4).map(|attempt| bound(1_000, 3_000, attempt).as_millis()).collect();
        assert_eq!(bounds, [1_000, 2_000, 3_000, 3_000]);
        assert_eq!(bound(u64::MAX, u64::MAX, i64::MAX), Duration::from_millis(u64::MAX));
        assert_eq!(bound(5, 0, 1), Duration::ZERO);
    }
}
