//! Making runs and giving them turns.

use super::{Connection, Fault, RunKey, json, parsed, run_id, sql};
use overskill_core::{Ids, Overlap, Result, RunId, Schedule, Timestamp};
use serde::Serialize;
use sqlx::{query, query_as, query_scalar};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

/// Most jobs that one claim looks at, and most runs that it wakes. The next one goes on.
const MOST_AT_ONCE: i64 = 1_000;

/// A run to be added.
#[derive(Serialize)]
pub(super) struct NewRun {
    pub(super) run: RunId,
    pub(super) job: i64,
    pub(super) app: String,
    pub(super) tick_ms: Option<i64>,
    pub(super) due_ms: i64,
    pub(super) max_attempts: i64,
    /// Filled in by [`add`].
    pub(super) turn: i64,
}

/// Adds runs, each with its turn, and says how many. One that is there already is left alone.
pub(super) async fn add(tx: &mut Connection, mut new: Vec<NewRun>) -> Result<u64, Fault> {
    let mut turns = Turns::after_those_of(tx, new.iter().map(|run| run.app.as_str())).await?;
    for run in &mut new {
        run.turn = turns.next(&run.app);
    }
    // SQLite needs the `WHERE` to tell the conflict clause from a join.
    let sql = sql!(
        sqlite: "INSERT INTO runs (run, job, app, tick_ms, due_ms, turn, attempt, max_attempts)
                 SELECT value ->> 'run', value ->> 'job', value ->> 'app', value ->> 'tick_ms', value ->> 'due_ms',
                        value ->> 'turn', 0, value ->> 'max_attempts'
                 FROM json_each($1) WHERE true ON CONFLICT DO NOTHING",
        postgres: "INSERT INTO runs (run, job, app, environment, name, payload, tick_ms, due_ms, turn, attempt, max_attempts)
                   SELECT run, id, job.app, environment, name, payload, tick_ms, due_ms, turn, 0, new.max_attempts
                   FROM json_to_recordset($1::json) AS new (run uuid, job bigint, tick_ms bigint, due_ms bigint,
                                                            turn bigint, max_attempts bigint)
                   JOIN run_jobs AS job ON id = job
                   ON CONFLICT DO NOTHING",
    );
    Ok(query(sql).bind(json(&new)?).execute(tx).await?.rows_affected())
}

/// Makes the runs that schedules call for, and moves those schedules on.
pub(super) async fn tick(tx: &mut Connection, ids: &dyn Ids, now: Timestamp) -> Result<(), Fault> {
    type Due = (i64, String, String, String, i64, i64);
    let sql = sql!(
        sqlite: "SELECT id, app, schedule, overlap, max_attempts, next_run_ms FROM run_jobs
                 WHERE next_run_ms <= $1 ORDER BY next_run_ms LIMIT $2",
        postgres: "SELECT id, app, schedule, overlap, max_attempts, next_run_ms FROM run_jobs
                   WHERE next_run_ms <= $1 ORDER BY next_run_ms LIMIT $2 FOR UPDATE SKIP LOCKED",
    );
    let due: Vec<Due> = query_as(sql).bind(now.as_unix_millis()).bind(MOST_AT_ONCE).fetch_all(&mut *tx).await?;
    // Only now that the jobs are locked: whoever made a run of one before has committed it, and nobody makes another.
    let open = sql!(
        sqlite: "SELECT DISTINCT job FROM runs WHERE job IN (SELECT value FROM json_each($1))",
        postgres: "SELECT DISTINCT job FROM runs WHERE job IN (SELECT json_array_elements_text($1::json)::bigint)",
    );
    let jobs: Vec<_> = due.iter().map(|(job, ..)| job).collect();
    let open: Vec<i64> = query_scalar(open).bind(json(&jobs)?).fetch_all(&mut *tx).await?;
    let open: HashSet<_> = open.into_iter().collect();
    let (mut moved, mut new, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for (job, app, schedule, overlap, max_attempts, first) in due {
        // One job that cannot be read must not keep all others from running.
        let (Ok(schedule), Ok(overlap)) = (parsed::<Schedule>(&schedule), parsed::<Overlap>(&overlap)) else {
            tracing::error!(job, app, schedule, overlap, "a job cannot be read and stands still: put it again");
            moved.push(Moved { job, next_run_ms: None });
            continue;
        };
        let tick = newest_until(&schedule, Timestamp::from_unix_millis(first), now);
        moved.push(Moved { job, next_run_ms: schedule.next_after(now).map(Timestamp::as_unix_millis) });
        // Runs sort by their id, so it is of the moment they were due.
        let (run, tick_ms) = (RunId::generate(ids, tick), tick.as_unix_millis());
        if open.contains(&job) && overlap == Overlap::Skip {
            skipped.push(Skipped { run, job, due_ms: tick_ms, ended_ms: now.as_unix_millis() });
        } else {
            new.push(NewRun { run, job, app, tick_ms: Some(tick_ms), due_ms: tick_ms, max_attempts, turn: 0 });
        }
    }
    let sql = sql!(
        sqlite: "UPDATE run_jobs SET next_run_ms = moved.value ->> 'next_run_ms'
                 FROM json_each($1) AS moved WHERE run_jobs.id = moved.value ->> 'job'",
        postgres: "UPDATE run_jobs SET next_run_ms = moved.next_run_ms
                   FROM json_to_recordset($1::json) AS moved (job bigint, next_run_ms bigint) WHERE run_jobs.id = moved.job",
    );
    query(sql).bind(json(&moved)?).execute(&mut *tx).await?;
    if !skipped.is_empty() {
        skip(tx, &skipped).await?;
    }
    if !new.is_empty() {
        add(tx, new).await?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Moved {
    job: i64,
    next_run_ms: Option<i64>,
}

/// A run that was left out because an earlier one had not ended.
#[derive(Serialize)]
pub(super) struct Skipped {
    pub(super) run: RunId,
    pub(super) job: i64,
    pub(super) due_ms: i64,
    pub(super) ended_ms: i64,
}

/// Notes runs that were left out.
pub(super) async fn skip(tx: &mut Connection, skipped: &[Skipped]) -> Result<(), Fault> {
    let sql = sql!(
        sqlite: "INSERT INTO run_history (job, run, due_ms, state, attempts, ended_ms)
                 SELECT value ->> 'job', value ->> 'run', value ->> 'due_ms', 'skipped', 0, value ->> 'ended_ms'
                 FROM json_each($1)",
        postgres: "INSERT INTO run_history (job, run, due_ms, state, attempts, ended_ms)
                   SELECT job, run, due_ms, 'skipped', 0, ended_ms
                   FROM json_to_recordset($1::json) AS skipped (job bigint, run uuid, due_ms bigint, ended_ms bigint)",
    );
    query(sql).bind(json(&skipped)?).execute(tx).await?;
    Ok(())
}

/// Gives a turn to runs whose next try has come.
pub(super) async fn wake(tx: &mut Connection, now: Timestamp) -> Result<(), Fault> {
    let sql = sql!(
        sqlite: "SELECT run, app FROM runs WHERE wake_ms <= $1 ORDER BY wake_ms LIMIT $2",
        postgres: "SELECT run, app FROM runs WHERE wake_ms <= $1 ORDER BY wake_ms LIMIT $2 FOR UPDATE SKIP LOCKED",
    );
    let awake: Vec<(RunKey, String)> =
        query_as(sql).bind(now.as_unix_millis()).bind(MOST_AT_ONCE).fetch_all(&mut *tx).await?;
    if awake.is_empty() {
        return Ok(());
    }
    let mut turns = Turns::after_those_of(tx, awake.iter().map(|(_, app)| app.as_str())).await?;
    let awake = awake.into_iter().map(|(run, app)| Ok(Awake { turn: turns.next(&app), run: run_id(run)? }));
    let awake = awake.collect::<Result<Vec<_>>>()?;
    let sql = sql!(
        sqlite: "UPDATE runs SET turn = awake.value ->> 'turn', wake_ms = NULL
                 FROM json_each($1) AS awake WHERE run = awake.value ->> 'run'",
        postgres: "UPDATE runs SET turn = awake.turn, wake_ms = NULL
                   FROM json_to_recordset($1::json) AS awake (run uuid, turn bigint) WHERE runs.run = awake.run",
    );
    query(sql).bind(json(&awake)?).execute(tx).await?;
    Ok(())
}

#[derive(Serialize)]
struct Awake {
    run: RunId,
    turn: i64,
}

/// The last turn of each app, at least the one that was last claimed.
struct Turns(HashMap<String, i64>);

impl Turns {
    async fn after_those_of(tx: &mut Connection, apps: impl Iterator<Item = &str>) -> Result<Self, Fault> {
        let apps: BTreeSet<&str> = apps.collect();
        let sql = sql!(
            sqlite: "SELECT apps.value, max(coalesce((SELECT max(turn) FROM runs WHERE app = apps.value), 0), clock.turn)
                     FROM json_each($1) AS apps, run_clock AS clock WHERE clock.id = 1",
            postgres: "SELECT apps.app, greatest((SELECT max(turn) FROM runs WHERE runs.app = apps.app), clock.turn)
                       FROM json_array_elements_text($1::json) AS apps (app), run_clock AS clock WHERE clock.id = 1",
        );
        let last: Vec<(String, i64)> = query_as(sql).bind(json(&apps)?).fetch_all(tx).await?;
        Ok(Self(last.into_iter().collect()))
    }

    fn next(&mut self, app: &str) -> i64 {
        let last = self.0.get_mut(app).expect("the clock has a row, so every app has a turn");
        *last += 1;
        *last
    }
}

/// The newest moment of the schedule that is not after `now`, given one, `first`, that is not. Looks at ever longer
/// times before `now`, so that a schedule that was left alone for years is not gone through minute by minute.
fn newest_until(schedule: &Schedule, first: Timestamp, now: Timestamp) -> Timestamp {
    let mut back = Duration::from_mins(2);
    let mut newest = first;
    while back < now.since(first) {
        match schedule.next_after(now.minus(back)).filter(|tick| *tick <= now) {
            Some(tick) => {
                newest = tick;
                break;
            }
            None => back *= 4,
        }
    }
    while let Some(tick) = schedule.next_after(newest).filter(|tick| *tick <= now) {
        newest = tick;
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        // Minutes of 2026-01-01, or with a day before it: `3T10:30`.
        let (day, time) = text.split_once('T').unwrap_or(("0", text));
        let (hours, minutes) = time.split_once(':').unwrap();
        let minutes =
            (day.parse::<u64>().unwrap() * 24 + hours.parse::<u64>().unwrap()) * 60 + minutes.parse::<u64>().unwrap();
        Timestamp::from_unix_millis(1_767_225_600_000).plus(Duration::from_secs(minutes * 60))
    }

    #[test]
    fn the_newest_missed_moment_is_found_from_any_distance() {
        let cron =
            |expression: &str| Schedule::Cron { expression: expression.parse().unwrap(), zone: "UTC".parse().unwrap() };
        let minutely = cron("* * * * *");
        let morning = cron("0-30 9 * * *");
        for (schedule, first, now, newest) in [
            (&minutely, "10:00", "10:00", "10:00"),
            (&minutely, "10:00", "10:01", "10:01"),
            (&minutely, "10:00", "2000T23:59", "2000T23:59"),
            (&morning, "9:00", "9:01", "9:01"),
            (&morning, "9:00", "12:00", "9:30"),
            (&morning, "9:00", "7T8:59", "6T9:30"),
            (&morning, "9:00", "900T9:07", "900T9:07"),
            (&Schedule::At(at("9:00")), "9:00", "900T9:07", "9:00"),
        ] {
            assert_eq!(newest_until(schedule, at(first), at(now)), at(newest), "{schedule:?} {now}");
        }
    }
}
