//! The [`RunQueue`].

use super::{
    Fault, Jobs,
    claim_runs::{Claim, Taken, end, end_at_once, take_at_once, take_chosen, take_next},
    ends::{RecordRow, ends, fence_number, record, try_again},
    later, row, run, run_key, sql,
    take::{choose, leases},
    turns::{tick, wake},
};
use async_trait::async_trait;
use overskill_core::{
    ClaimRequest, Error, FinishResult, FinishedRun, JobName, Readiness, Result, RunLease, RunQueue, RunRecord,
    Scheduler, Scope, Timestamp,
};
use sqlx::{query, query_as, query_scalar};
use std::{collections::HashSet, num::NonZeroU32, sync::atomic::Ordering, time::Duration};

/// Of so many claims that are filled at once, one looks at all runs, also at those whose lease expired. A claim that is
/// not filled does so anyway.
const QUICK_CLAIMS: u32 = 16;

/// How many runs are forgotten in one transaction: a month of history is more than one statement may take its time for,
/// and on SQLite everybody else waits.
const FORGOTTEN_AT_ONCE: u64 = 10_000;

/// Why a run is dead whose last try nobody finished.
const GIVEN_UP: &str = "the worker did not finish it in time";

/// A lease in milliseconds; at most some 30,000 years, so that no sum of times overflows.
fn millis(lease: Duration) -> i64 {
    Timestamp::EPOCH.plus(lease).as_unix_millis().min(1 << 50)
}

#[async_trait]
impl RunQueue for Jobs {
    async fn check(&self) -> Result<Readiness> {
        Scheduler::check(self).await
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<RunLease>> {
        let claim_at = |now: Timestamp| Claim {
            now_ms: now.as_unix_millis(),
            lease_ms: millis(request.lease),
            worker: request.worker.as_str(),
            given_up: GIVEN_UP,
        };
        let most = request.max_runs.get();
        run("claim", || async {
            let mut taken = Vec::new();
            let look_at_all = self.claims.fetch_add(1, Ordering::Relaxed).is_multiple_of(QUICK_CLAIMS);
            if !look_at_all && request.max_running_per_app.is_none() {
                taken = take_at_once(&self.db, claim_at(request.now), most).await?;
            }
            let left = most - u32::try_from(taken.len()).unwrap_or(most).min(most);
            if left > 0 {
                match self.claim_any(request, claim_at, left).await {
                    Ok(more) => taken.extend(more),
                    Err(e) if taken.is_empty() => return Err(e),
                    // What was taken is the worker's; the next claim hears of the failure.
                    Err(e) => tracing::debug!(?e, "claimed less than there may be"),
                }
            }
            Ok(leases(taken)?)
        })
        .await
    }

    async fn renew(&self, lease: &RunLease, by: Duration, now: Timestamp) -> Result<RunLease> {
        run("renew", || async {
            let mut writer = self.db.writer().await?;
            let mut tx = writer.begin().await?;
            // Also one that expired: it is the worker's until somebody else has it.
            let sql = concat!(
                "UPDATE runs SET lease_ms = ",
                later!("$1"),
                " + $2 WHERE run = $3 AND attempt = $4 AND lease_ms IS NOT NULL RETURNING lease_ms"
            );
            let expires: Option<i64> = query_scalar(sql)
                .bind(now.as_unix_millis())
                .bind(millis(by))
                .bind(run_key(lease.run))
                .bind(fence_number(lease.fence))
                .fetch_optional(&mut *tx)
                .await?;
            let Some(expires) = expires else {
                let message = "the run is not this worker's any more: stop working on it";
                return Err(Error::conflict(message).with("run", lease.run).with("fence", lease.fence).into());
            };
            tx.commit().await?;
            Ok(RunLease { expires_at: Timestamp::from_unix_millis(expires), ..lease.clone() })
        })
        .await
    }

    async fn finish(&self, finished: &[FinishedRun], now: Timestamp) -> Result<Vec<FinishResult>> {
        if finished.is_empty() {
            return Ok(Vec::new());
        }
        run("finish", || async {
            let (mut ends, failures) = ends(finished);
            let mut taken = HashSet::new();
            if failures.is_empty() {
                taken.extend(end_at_once(&self.db, &ends, now.as_unix_millis()).await?);
            } else {
                let mut writer = self.db.writer().await?;
                let mut tx = writer.begin().await?;
                taken.extend(try_again(&mut tx, &failures, &mut ends, self.db.ids(), now).await?);
                if !ends.is_empty() {
                    taken.extend(end(&mut tx, &ends, now.as_unix_millis()).await?);
                }
                tx.commit().await?;
            }
            // Each end is taken once, however often it is named.
            let mut result = |it: &FinishedRun| {
                let was = taken.remove(&(it.run, fence_number(it.fence)));
                if was { FinishResult::Taken } else { FinishResult::Stale }
            };
            Ok(finished.iter().map(&mut result).collect())
        })
        .await
    }

    async fn history(&self, scope: &Scope, name: &JobName, limit: NonZeroU32) -> Result<Vec<RunRecord>> {
        run("history", || async {
            let sql = "WITH asked AS (SELECT id FROM run_jobs WHERE app = $1 AND environment = $2 AND name = $3)
                       SELECT run, due_ms, state, attempts, failure, ended_ms FROM (
                           SELECT * FROM (
                               SELECT run, due_ms, CASE WHEN lease_ms IS NULL THEN 'waiting' ELSE 'running' END AS state,
                                      attempt AS attempts, failure, CAST(NULL AS BIGINT) AS ended_ms
                               FROM runs WHERE job = (SELECT id FROM asked) ORDER BY run DESC LIMIT $4) AS open
                           UNION ALL
                           SELECT * FROM (
                               SELECT run, due_ms, state, attempts, failure, ended_ms
                               FROM run_history WHERE job = (SELECT id FROM asked) ORDER BY run DESC LIMIT $4) AS over
                       ) AS records ORDER BY run DESC LIMIT $4";
            let mut reader = self.db.reader().await?;
            let rows: Vec<RecordRow> = query_as(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(name.as_str())
                .bind(i64::from(limit.get()))
                .fetch_all(&mut *reader)
                .await?;
            Ok(rows.into_iter().map(record).collect::<Result<_>>()?)
        })
        .await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64> {
        let mut forgotten = 0;
        loop {
            let some = run("prune", || self.forget_some(before)).await?;
            forgotten += some;
            if some < FORGOTTEN_AT_ONCE {
                break;
            }
        }
        run("prune", || async {
            let sql = "DELETE FROM run_jobs WHERE removed = $1
                       AND NOT EXISTS (SELECT 1 FROM runs WHERE job = id)
                       AND NOT EXISTS (SELECT 1 FROM run_history WHERE job = id)";
            self.db.writer().await?.alone(query(sql).bind(true)).await
        })
        .await?;
        Ok(forgotten)
    }
}

/// The moment of a claim, and what there is to do at it.
struct Now {
    at: Timestamp,
    /// A schedule calls for a run, or one wants its next try.
    calls: bool,
}

impl Jobs {
    /// Forgets up to [`FORGOTTEN_AT_ONCE`] runs that were over before `before`.
    async fn forget_some(&self, before: Timestamp) -> Result<u64, Fault> {
        let sql = sql!(
            sqlite: "DELETE FROM run_history WHERE (job, run) IN (
                         SELECT job, run FROM run_history WHERE ended_ms < $1 LIMIT $2)",
            postgres: "DELETE FROM run_history WHERE ctid = ANY (ARRAY (
                           SELECT ctid FROM run_history WHERE ended_ms < $1 LIMIT $2))",
        );
        let most = row::int(FORGOTTEN_AT_ONCE)?;
        self.db.writer().await?.alone(query(sql).bind(before.as_unix_millis()).bind(most)).await
    }

    /// Claims up to `most` runs, after making those that schedules call for.
    async fn claim_any<'r>(
        &self,
        request: &'r ClaimRequest,
        claim_at: impl Fn(Timestamp) -> Claim<'r>,
        most: u32,
    ) -> Result<Vec<Taken>, Fault> {
        let Some(now) = self.something_to_do(request.now).await? else { return Ok(Vec::new()) };
        let mut writer = self.db.writer().await?;
        let mut tx = writer.begin().await?;
        if now.calls {
            tick(&mut tx, self.db.ids(), now.at).await?;
            wake(&mut tx, now.at).await?;
        }
        let taken = match request.max_running_per_app {
            None => take_next(&mut tx, claim_at(now.at), most).await?,
            Some(limit) => {
                let chosen = choose(&mut tx, request, now.at, limit).await?;
                take_chosen(&mut tx, claim_at(now.at), &chosen).await?
            }
        };
        tx.commit().await?;
        Ok(taken)
    }

    /// Looks without a transaction, so that workers who find nothing disturb nobody.
    async fn something_to_do(&self, now: Timestamp) -> Result<Option<Now>, Fault> {
        let sql = concat!(
            "SELECT ",
            later!("$1"),
            ", (SELECT min(next_run_ms) FROM run_jobs), (SELECT min(wake_ms) FROM runs), (SELECT min(turn) FROM runs)"
        );
        let mut reader = self.db.reader().await?;
        let (now, tick, wake, turn): (i64, Option<i64>, Option<i64>, Option<i64>) =
            query_as(sql).bind(now.as_unix_millis()).fetch_one(&mut *reader).await?;
        let calls = [tick, wake].into_iter().flatten().any(|at| at <= now);
        Ok((calls || turn.is_some()).then_some(Now { at: Timestamp::from_unix_millis(now), calls }))
    }
}
