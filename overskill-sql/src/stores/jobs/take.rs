//! Which runs a claim gets.

use super::{Connection, Fault, json, row, sql};
use bytes::Bytes;
use overskill_core::{ClaimRequest, Fence, Result, RunLease, Timestamp};
use sqlx::{query, query_as};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

/// Why a run is dead whose last try nobody finished.
const GIVEN_UP: &str = "the worker did not finish it in time";

/// Chooses runs by turn, but no more of an app than may run besides those that do.
pub(super) async fn choose(
    tx: &mut Connection,
    request: &ClaimRequest,
    now: Timestamp,
    limit: NonZeroU32,
) -> Result<Vec<String>, Fault> {
    const PAGE: i64 = 256;
    // Two claims at once would each count without the other's.
    let one_at_a_time = sql!(
        sqlite: None::<&str>,
        postgres: Some("SELECT pg_advisory_xact_lock(hashtextextended('overskill claims ' || current_schema(), 0))"),
    );
    if let Some(sql) = one_at_a_time {
        query(sql).execute(&mut *tx).await?;
    }
    let wanted = request.max_runs.get() as usize;
    let (mut chosen, mut full) = (Vec::new(), BTreeSet::new());
    let mut running = BTreeMap::new();
    let (mut turn, mut run) = (i64::MIN, String::new());
    while chosen.len() < wanted {
        let sql = sql!(
            sqlite: "SELECT turn, run, app FROM runs
                     WHERE turn IS NOT NULL AND (turn, run) > ($1, $2) AND (lease_ms IS NULL OR lease_ms <= $3)
                       AND due_ms <= $3 AND app NOT IN (SELECT value FROM json_each($4))
                     ORDER BY turn, run LIMIT $5",
            postgres: "SELECT turn, run, app FROM runs
                       WHERE turn IS NOT NULL AND (turn, run) > ($1, $2) AND (lease_ms IS NULL OR lease_ms <= $3)
                         AND due_ms <= $3 AND app NOT IN (SELECT json_array_elements_text($4::json))
                       ORDER BY turn, run LIMIT $5 FOR UPDATE SKIP LOCKED",
        );
        let page: Vec<(i64, String, String)> = query_as(sql)
            .bind(turn)
            .bind(&run)
            .bind(now.as_unix_millis())
            .bind(json(&full)?)
            .bind(PAGE)
            .fetch_all(&mut *tx)
            .await?;
        let Some(last) = page.last() else { break };
        (turn, run) = (last.0, last.1.clone());
        let new: BTreeSet<_> = page.iter().map(|(.., app)| app).filter(|app| !running.contains_key(*app)).collect();
        if !new.is_empty() {
            running.extend(count_running(tx, &json(&new)?, limit, now).await?);
        }
        for (_, run, app) in page {
            let running = running.entry(app.clone()).or_insert(0);
            if *running >= i64::from(limit.get()) {
                full.insert(app);
            } else if chosen.len() < wanted {
                *running += 1;
                chosen.push(run);
            }
        }
    }
    Ok(chosen)
}

/// How many runs of each app run; what is over the limit is not counted. Those that run come first in the order of
/// turns, so this reads few of those that wait.
async fn count_running(
    tx: &mut Connection,
    apps: &str,
    limit: NonZeroU32,
    now: Timestamp,
) -> Result<Vec<(String, i64)>, Fault> {
    let sql = sql!(
        sqlite: "SELECT value, (SELECT count(*) FROM (SELECT 1 FROM runs WHERE app = value AND lease_ms > $2
                                                      ORDER BY turn LIMIT $3)) FROM json_each($1)",
        postgres: "SELECT value, (SELECT count(*) FROM (SELECT 1 FROM runs WHERE app = value AND lease_ms > $2
                                                        ORDER BY turn LIMIT $3) AS some)
                   FROM json_array_elements_text($1::json) AS apps (value)",
    );
    let counted = query_as(sql).bind(apps).bind(now.as_unix_millis()).bind(i64::from(limit.get()));
    Ok(counted.fetch_all(tx).await?)
}

/// A run that was claimed.
#[derive(sqlx::FromRow)]
pub(super) struct Taken {
    pub(super) turn: i64,
    pub(super) run: String,
    app: String,
    environment: String,
    name: String,
    payload: Vec<u8>,
    due_ms: i64,
    attempt: i64,
}

impl Taken {
    pub(super) fn lease(self, expires_at: Timestamp) -> Result<RunLease> {
        let attempt = u32::try_from(self.attempt).and_then(NonZeroU32::try_from).map_err(row::altered)?;
        Ok(RunLease {
            run: row::stored(&self.run)?,
            scope: row::scope(&self.app, &self.environment)?,
            job: row::stored(&self.name)?,
            payload: Bytes::from(self.payload),
            due_at: Timestamp::from_unix_millis(self.due_ms),
            attempt,
            fence: Fence::from_u64(attempt.get().into()),
            expires_at,
        })
    }
}

/// Leases runs: those `chosen`, or the next by turn. Those that have no try left are dead instead.
pub(super) async fn take(
    tx: &mut Connection,
    request: &ClaimRequest,
    now: Timestamp,
    chosen: Option<&[String]>,
) -> Result<Vec<Taken>, Fault> {
    let (now, expires) = (now.as_unix_millis(), now.plus(request.lease).as_unix_millis());
    sql!(
        sqlite: {
            let next: Vec<String>;
            let chosen = match chosen {
                Some(chosen) => chosen,
                None => {
                    let sql = "SELECT run FROM runs
                               WHERE turn IS NOT NULL AND (lease_ms IS NULL OR lease_ms <= $1) AND due_ms <= $1
                               ORDER BY turn, run LIMIT $2";
                    let found = sqlx::query_scalar(sql).bind(now).bind(i64::from(request.max_runs.get()));
                    next = found.fetch_all(&mut *tx).await?;
                    &next
                }
            };
            let chosen = json(&chosen)?;
            let sql = "INSERT INTO run_history (job, run, due_ms, state, attempts, failure, ended_ms)
                       SELECT job, run, due_ms, 'dead', attempt, $2, $3 FROM runs
                       WHERE run IN (SELECT value FROM json_each($1)) AND attempt >= max_attempts";
            if query(sql).bind(&chosen).bind(GIVEN_UP).bind(now).execute(&mut *tx).await?.rows_affected() > 0 {
                let sql = "DELETE FROM runs
                           WHERE run IN (SELECT value FROM json_each($1)) AND attempt >= max_attempts";
                query(sql).bind(&chosen).execute(&mut *tx).await?;
            }
            let sql = "UPDATE runs SET attempt = attempt + 1, lease_ms = $2, worker = $3
                       WHERE run IN (SELECT value FROM json_each($1))";
            query(sql).bind(&chosen).bind(expires).bind(request.worker.as_str()).execute(&mut *tx).await?;
            let sql = "SELECT turn, run, run_jobs.app, environment, name, payload, due_ms, attempt
                       FROM json_each($1) AS chosen JOIN runs ON run = chosen.value JOIN run_jobs ON id = job";
            let taken: Vec<Taken> = query_as(sql).bind(&chosen).fetch_all(&mut *tx).await?;
            if let Some(turn) = taken.iter().map(|taken| taken.turn).max() {
                let sql = "UPDATE run_clock SET turn = $1 WHERE only = 1 AND turn < $1";
                query(sql).bind(turn).execute(tx).await?;
            }
            Ok(taken)
        },
        postgres: {
            // One statement: what it reads, locks, leases and buries is one batch. The clock is only a hint, so whoever
            // finds it locked leaves it alone.
            macro_rules! take {
                ($picked:literal) => {
                    concat!(
                        "WITH picked AS MATERIALIZED (", $picked, "),
                         taken AS (
                             UPDATE runs SET attempt = attempt + 1, lease_ms = $2, worker = $3
                             FROM picked WHERE runs.ctid = place AND alive
                             RETURNING turn, run, job, due_ms, attempt),
                         dead AS (
                             DELETE FROM runs USING picked WHERE runs.ctid = place AND NOT alive
                             RETURNING job, run, due_ms, attempt),
                         buried AS (
                             INSERT INTO run_history (job, run, due_ms, state, attempts, failure, ended_ms)
                             SELECT job, run, due_ms, 'dead', attempt, $4, $1 FROM dead),
                         clock AS (
                             UPDATE run_clock SET turn = (SELECT max(turn) FROM taken)
                             WHERE only = (SELECT only FROM run_clock
                                           WHERE only = 1 AND turn < (SELECT max(turn) FROM taken)
                                           FOR UPDATE SKIP LOCKED))
                         SELECT turn, run, app, environment, name, payload, due_ms, attempt
                         FROM taken JOIN run_jobs ON id = job"
                    )
                };
            }
            const NEXT: &str = take!(
                "SELECT ctid AS place, attempt < max_attempts AS alive FROM runs
                 WHERE turn IS NOT NULL AND (lease_ms IS NULL OR lease_ms <= $1) AND due_ms <= $1
                 ORDER BY turn, run LIMIT $5 FOR UPDATE SKIP LOCKED"
            );
            // `choose` locked them.
            const CHOSEN: &str = take!(
                "SELECT ctid AS place, attempt < max_attempts AS alive FROM runs
                 WHERE run IN (SELECT json_array_elements_text($5::json))"
            );
            let common =
                |sql| query_as(sql).bind(now).bind(expires).bind(request.worker.as_str()).bind(GIVEN_UP);
            let taken = match chosen {
                None => common(NEXT).bind(i64::from(request.max_runs.get())).fetch_all(tx).await?,
                Some(chosen) => common(CHOSEN).bind(json(&chosen)?).fetch_all(tx).await?,
            };
            Ok(taken)
        },
    )
}
