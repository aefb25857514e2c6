//! Jobs, and the queue of their runs.
//!
//! **Turns.** A run that becomes ready gets a turn: one more than the later of the turn that was last claimed and the
//! last turn of its own app (start-time fair queuing). Claims go by turn. So an app with a thousand runs waiting has a
//! thousand turns ahead of it, and another's first run is next; and a claim reads an index and no more of it than it
//! claims, but for what is running.
//!
//! **No leader.** Every claim first makes the runs that schedules call for, and wakes those whose next try has come. A
//! job is locked while it is looked at (`FOR UPDATE SKIP LOCKED` on Postgres; SQLite has one writer), and its next
//! moment is moved on in the transaction that makes the run, so each tick makes one.
//!
//! **Why no engine that exists.** `graphile_worker` 0.14.1 is the fastest one for Postgres in Rust, and cannot be had
//! this way: a lock does not expire (a sweep frees those of workers whose heartbeats, which are opt-in, stopped); a job
//! ends by its id alone (`DELETE … WHERE id = $1`), so whoever was overtaken ends what is somebody else's; what ended is
//! deleted, without a history; and jobs go by priority and age, so one app's backlog is in front of all others. Nor is it
//! faster. On one server with every commit on disk, several rounds of 40,000 runs, each round with all three:
//! `graphile_worker` with local queues of 500 and 5,000 ended 14,000 to 36,000 runs a second; this, 4 workers in batches
//! of 250 and 500, with leases, fences and history, 27,000 to 58,000, always more than it in the same round; a bare
//! `SKIP LOCKED` delete into a history, which leases nothing and commits once in place of twice, 48,000 to 121,000.

mod ends;
mod queue;
mod take;
mod turns;

use super::{
    claim_runs,
    deployments::later,
    driver::{BACKEND, Connection, Db, Fault, RunKey, row, run, run_id, run_key, sql},
};
use async_trait::async_trait;
use overskill_core::{
    Delivery, Error, JobName, JobSpec, Overlap, Page, Readiness, Result, RunBackoff, RunId, Schedule, Scheduler,
    SchedulerInfo, Scope, Timestamp,
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{query, query_as, query_scalar};
use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::AtomicU32},
};
use turns::{NewRun, Skipped};

/// A [`Scheduler`] and its [`RunQueue`](overskill_core::RunQueue) in tables.
#[derive(Clone, Debug)]
pub struct Jobs {
    db: Db,
    /// How many claims there were.
    claims: Arc<AtomicU32>,
}

impl Jobs {
    pub(super) fn new(db: Db) -> Self {
        Self { db, claims: Arc::default() }
    }
}

#[async_trait]
impl Scheduler for Jobs {
    fn info(&self) -> SchedulerInfo {
        SchedulerInfo::new(BACKEND, Delivery::Pull)
    }

    async fn check(&self) -> Result<Readiness> {
        self.db.check().await
    }

    async fn put(&self, job: &JobSpec, now: Timestamp) -> Result<()> {
        job.admit().map_err(|e| e.at(BACKEND, "put"))?;
        let schedule = json(&job.schedule)?;
        run("put", || async {
            let mut writer = self.db.writer().await?;
            let mut tx = writer.begin().await?;
            let sql = sql!(
                sqlite: "SELECT schedule, paused OR removed, next_run_ms FROM run_jobs
                         WHERE app = $1 AND environment = $2 AND name = $3",
                postgres: "SELECT schedule, paused OR removed, next_run_ms FROM run_jobs
                           WHERE app = $1 AND environment = $2 AND name = $3 FOR UPDATE",
            );
            let before: Option<(String, bool, Option<i64>)> = query_as(sql)
                .bind(job.scope.app.as_str())
                .bind(job.scope.environment.as_str())
                .bind(job.name.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            let next = match before {
                _ if job.paused => None,
                Some((before, false, next)) if before == schedule => next,
                _ => job.schedule.next_after(now).map(Timestamp::as_unix_millis),
            };
            let sql = "INSERT INTO run_jobs (app, environment, name, schedule, payload, max_attempts, backoff_first_ms,
                                             backoff_max_ms, overlap, paused, removed, next_run_ms)
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
                       ON CONFLICT (app, environment, name) DO UPDATE
                       SET schedule = excluded.schedule, payload = excluded.payload,
                           max_attempts = excluded.max_attempts, backoff_first_ms = excluded.backoff_first_ms,
                           backoff_max_ms = excluded.backoff_max_ms, overlap = excluded.overlap,
                           paused = excluded.paused, removed = excluded.removed, next_run_ms = excluded.next_run_ms
                       RETURNING id";
            let put = query_scalar(sql)
                .bind(job.scope.app.as_str())
                .bind(job.scope.environment.as_str())
                .bind(job.name.as_str())
                .bind(&schedule)
                .bind(&job.payload[..])
                .bind(i64::from(job.max_attempts.get()))
                .bind(row::int(job.backoff.first_ms)?)
                .bind(row::int(job.backoff.max_ms)?)
                .bind(json(&job.overlap)?)
                .bind(job.paused)
                .bind(false)
                .bind(next);
            let id: i64 = put.fetch_one(&mut *tx).await?;
            // Postgres keeps a copy on each run.
            let copies = sql!(
                sqlite: None::<&str>,
                postgres: Some("UPDATE runs SET payload = $2 WHERE job = $1 AND payload <> $2"),
            );
            if let Some(sql) = copies {
                query(sql).bind(id).bind(&job.payload[..]).execute(&mut *tx).await?;
            }
            tx.commit().await
        })
        .await
    }

    async fn remove(&self, scope: &Scope, name: &JobName) -> Result<()> {
        run("remove", || async {
            let mut writer = self.db.writer().await?;
            let mut tx = writer.begin().await?;
            let sql = "UPDATE run_jobs SET removed = $4, next_run_ms = NULL, payload = $5
                       WHERE app = $1 AND environment = $2 AND name = $3 AND removed = $6 RETURNING id";
            let id: Option<i64> = query_scalar(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(name.as_str())
                .bind(true)
                .bind(&[0_u8; 0][..])
                .bind(false)
                .fetch_optional(&mut *tx)
                .await?;
            let Some(id) = id else { return Ok(()) };
            let sql = "DELETE FROM runs WHERE job = $1 AND lease_ms IS NULL";
            query(sql).bind(id).execute(&mut *tx).await?;
            // Those that a worker has may end; they get no other try.
            query("UPDATE runs SET max_attempts = attempt WHERE job = $1").bind(id).execute(&mut *tx).await?;
            tx.commit().await
        })
        .await
    }

    async fn list(&self, scope: &Scope, after: Option<JobName>, limit: NonZeroU32) -> Result<Page<JobSpec, JobName>> {
        run("list", || async {
            let sql = "SELECT name, schedule, payload, max_attempts, backoff_first_ms, backoff_max_ms, overlap, paused
                       FROM run_jobs WHERE app = $1 AND environment = $2 AND name > $3 AND removed = $4
                       ORDER BY name LIMIT $5";
            let mut reader = self.db.reader().await?;
            let rows: Vec<SpecRow> = query_as(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(after.as_ref().map_or("", JobName::as_str))
                .bind(false)
                .bind(i64::from(limit.get()) + 1)
                .fetch_all(&mut *reader)
                .await?;
            let jobs = rows.into_iter().map(|row| spec(scope, row)).collect::<Result<_>>()?;
            Ok(Page::cut(jobs, limit.get() as usize, |job: &JobSpec| job.name.clone()))
        })
        .await
    }

    async fn trigger(&self, scope: &Scope, name: &JobName, id: RunId, now: Timestamp) -> Result<()> {
        run("trigger", || async {
            let mut writer = self.db.writer().await?;
            let mut tx = writer.begin().await?;
            // The lock keeps `remove` from missing the run.
            let sql = sql!(
                sqlite: "SELECT id, max_attempts, overlap FROM run_jobs
                         WHERE app = $1 AND environment = $2 AND name = $3 AND removed = $4",
                postgres: "SELECT id, max_attempts, overlap FROM run_jobs
                           WHERE app = $1 AND environment = $2 AND name = $3 AND removed = $4 FOR NO KEY UPDATE",
            );
            let found: Option<(i64, i64, String)> = query_as(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(name.as_str())
                .bind(false)
                .fetch_optional(&mut *tx)
                .await?;
            let (job, max_attempts, overlap) = found.ok_or_else(|| no_job(scope, name))?;
            let app = scope.app.as_str().to_owned();
            // One statement: a run moves from one table to the other in one transaction.
            let sql = "SELECT (SELECT job FROM runs WHERE run = $2),
                              EXISTS (SELECT 1 FROM run_history WHERE job = $1 AND run = $2),
                              EXISTS (SELECT 1 FROM runs WHERE job = $1)";
            let (of, is_over, has_open_run): (Option<i64>, bool, bool) =
                query_as(sql).bind(job).bind(run_key(id)).fetch_one(&mut *tx).await?;
            let of_another = || Fault::from(Error::conflict("the run is of another job").with("run", id));
            match of {
                _ if is_over => return Ok(()),
                Some(of) if of == job => return Ok(()),
                Some(_) => return Err(of_another()),
                None => {}
            }
            let due_ms = now.as_unix_millis();
            if has_open_run && parsed::<Overlap>(&overlap)? == Overlap::Skip {
                turns::skip(&mut tx, &[Skipped { run: id, job, due_ms, ended_ms: due_ms }]).await?;
            } else {
                let new = NewRun { run: id, job, app, tick_ms: None, due_ms, max_attempts, turn: 0 };
                if turns::add(&mut tx, vec![new]).await? == 0 {
                    return Err(of_another()); // it was triggered for both at the same time
                }
            }
            tx.commit().await
        })
        .await
    }
}

/// Name, schedule, payload, tries, first and highest backoff, overlap, paused.
type SpecRow = (String, String, Vec<u8>, i64, i64, i64, String, bool);

fn spec(scope: &Scope, row: SpecRow) -> Result<JobSpec> {
    let (name, schedule, payload, max_attempts, first_ms, max_ms, overlap, paused) = row;
    let max_attempts = u32::try_from(max_attempts).and_then(NonZeroU32::try_from).map_err(row::altered)?;
    let backoff = RunBackoff { first_ms: row::number(first_ms)?, max_ms: row::number(max_ms)? };
    Ok(JobSpec::new(scope.clone(), row::stored(&name)?, parsed::<Schedule>(&schedule)?)
        .payload(payload)
        .max_attempts(max_attempts)
        .backoff(backoff)
        .overlap(parsed::<Overlap>(&overlap)?)
        .paused(paused))
}

/// A value as JSON text: of a column, or of rows that go to the database as one parameter.
fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::unexpected("a value does not go into JSON", e))
}

/// A value of a column that holds JSON.
fn parsed<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(row::altered)
}

fn no_job(scope: &Scope, name: &JobName) -> Error {
    Error::not_found("there is no such job").with("scope", scope).with("job", name)
}
