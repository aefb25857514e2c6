//! How tries end, and what is remembered of it.

use super::{Connection, Fault, RunKey, claim_runs::Ends, json, row, run_id, sql};
use overskill_core::{Fence, FinishedRun, Ids, IdsExt as _, Result, RunId, RunOutcome, RunRecord, RunState, Timestamp};
use serde::Serialize;
use sqlx::{query, query_as};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// A try that failed.
pub(super) struct Failed<'a> {
    run: RunId,
    fence: i64,
    reason: &'a str,
    retry_after_ms: Option<u64>,
}

/// Parts what is over from what may be tried again.
pub(super) fn ends(finished: &[FinishedRun]) -> (Ends, Vec<Failed<'_>>) {
    let (mut ends, mut failures) = (Ends::default(), Vec::new());
    let mut named = HashSet::new();
    for it in finished.iter().filter(|it| named.insert((it.run, it.fence))) {
        let (run, fence) = (it.run, fence_number(it.fence));
        match &it.outcome {
            RunOutcome::Done => ends.push(run, fence, RunState::Done.as_str(), None),
            RunOutcome::Dead { reason } => ends.push(run, fence, RunState::Dead.as_str(), Some(text(reason))),
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
    ends: &mut Ends,
    ids: &dyn Ids,
    now: Timestamp,
) -> Result<Vec<(RunId, i64)>, Fault> {
    type Found = (RunKey, i64, i64, i64, i64, i64);
    let sql = sql!(
        sqlite: "SELECT run, attempt, runs.max_attempts, backoff_first_ms, backoff_max_ms, $2
                 FROM json_each($1) AS named JOIN runs ON run = named.value JOIN run_jobs ON run_jobs.id = job
                 WHERE lease_ms IS NOT NULL",
        postgres: "SELECT run, attempt, runs.max_attempts, backoff_first_ms, backoff_max_ms,
                          greatest($2, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
                   FROM runs JOIN run_jobs ON run_jobs.id = job
                   WHERE run IN (SELECT json_array_elements_text($1::json)::uuid) AND lease_ms IS NOT NULL
                   ORDER BY run FOR UPDATE OF runs",
    );
    let runs: Vec<_> = failures.iter().map(|failed| &failed.run).collect();
    let found = query_as(sql).bind(json(&runs)?).bind(now.as_unix_millis());
    let found: Vec<Found> = found.fetch_all(&mut *tx).await?;
    let found: HashMap<_, _> = found
        .into_iter()
        .map(|(run, attempt, max, first, most, now)| Ok(((run_id(run)?, attempt), (max, first, most, now))))
        .collect::<Result<_>>()?;
    let mut waits = Vec::new();
    for failed in failures {
        let (run, attempt) = (failed.run, failed.fence);
        let Some((max_attempts, first_ms, max_ms, now)) = found.get(&(run, attempt)) else { continue };
        if attempt >= *max_attempts {
            ends.push(run, attempt, RunState::Dead.as_str(), Some(text(failed.reason)));
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
                   FROM json_to_recordset($1::json) AS waits (run uuid, wake_ms bigint, failure text)
                   WHERE runs.run = waits.run",
    );
    if !waits.is_empty() {
        query(sql).bind(json(&waits)?).execute(tx).await?;
    }
    Ok(waits.into_iter().map(|wait| (wait.run, wait.fence)).collect())
}

#[derive(Serialize)]
struct Wait {
    run: RunId,
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

/// Run, when it was due, state, tries, failure, end.
pub(super) type RecordRow = (RunKey, i64, String, i64, Option<String>, Option<i64>);

pub(super) fn record((run, due, state, attempts, failure, ended): RecordRow) -> Result<RunRecord> {
    use RunState::{Dead, Done, Running, Skipped, Waiting};
    let states = [Waiting, Running, Done, Dead, Skipped];
    let unknown = || row::altered(format!("run state `{state}`"));
    Ok(RunRecord {
        run: run_id(run)?,
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
