//! Which runs a claim gets.

use super::{Connection, Fault, RunKey, claim_runs::Taken, json, row, run_id, run_key, sql};
use bytes::Bytes;
use overskill_core::{ClaimRequest, Fence, Result, RunId, RunLease, Timestamp};
use sqlx::{query, query_as};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

/// Chooses runs by turn, but no more of an app than may run besides those that do.
pub(super) async fn choose(
    tx: &mut Connection,
    request: &ClaimRequest,
    now: Timestamp,
    limit: NonZeroU32,
) -> Result<Vec<RunId>, Fault> {
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
    // No turn is as low, so it does not matter which run.
    let (mut turn, mut run) = (i64::MIN, row::stored::<RunId>("00000000-0000-0000-0000-000000000000")?);
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
        let page: Vec<(i64, RunKey, String)> = query_as(sql)
            .bind(turn)
            .bind(run_key(run))
            .bind(now.as_unix_millis())
            .bind(json(&full)?)
            .bind(PAGE)
            .fetch_all(&mut *tx)
            .await?;
        let page = page.into_iter().map(|(turn, run, app)| Ok((turn, run_id(run)?, app)));
        let page = page.collect::<Result<Vec<_>>>()?;
        let Some(last) = page.last() else { break };
        (turn, run) = (last.0, last.1);
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
                                                        ORDER BY turn LIMIT $3) AS counted)
                   FROM json_array_elements_text($1::json) AS apps (value)",
    );
    let counted = query_as(sql).bind(apps).bind(now.as_unix_millis()).bind(i64::from(limit.get()));
    Ok(counted.fetch_all(tx).await?)
}

/// The leases of runs that were claimed, in the order of their turns.
pub(super) fn leases(mut taken: Vec<Taken>) -> Result<Vec<RunLease>> {
    taken.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let lease = |(_, run, app, environment, job, payload, due, attempt, expires): Taken| {
        let attempt = u32::try_from(attempt).and_then(NonZeroU32::try_from).map_err(row::altered)?;
        Ok(RunLease {
            run: run_id(run)?,
            scope: row::scope(&app, &environment)?,
            job: row::stored(&job)?,
            payload: Bytes::from(payload),
            due_at: Timestamp::from_unix_millis(due),
            attempt,
            fence: Fence::from_u64(attempt.get().into()),
            expires_at: Timestamp::from_unix_millis(expires),
        })
    };
    taken.into_iter().map(lease).collect()
}
