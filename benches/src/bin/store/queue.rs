//! The queue on Postgres: four workers take runs in batches and end them, until none is left.

use overskill_benches::{Bench, Figure, Goal, Outcome, Reading, Turns, interleave};
use overskill_core::{
    ClaimRequest, Clock, Environment, FinishResult, FinishedRun, JobName, JobSpec, RunOutcome, RunQueue, Schedule,
    Scheduler, Scope, SystemClock, WorkerName,
};
use overskill_sql::{PostgresOptions, PostgresStores};
use overskill_testkit::postgres::PostgresCluster;
use sqlx::{PgPool, postgres::PgPoolOptions, query, query_as};
use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;

/// Runs that were claimed under a lease, ended, and are in the history, against rows that were deleted and are in one.
const RUNS: Figure = Figure::shown(CASE, "rate", "runs/s", PEER).goal(Goal::AtLeast(0.6));
/// The same against a queue that loses no run when a worker dies, as this one.
const RUNS_HELD: Figure = Figure::shown(CASE, "rate", "runs/s", PEER_HELD);
const CLAIM: Figure = Figure::shown(CASE, "time of a claim", "ms", PEER);
const FINISH: Figure = Figure::shown(CASE, "time of a finish", "ms", PEER);

pub(crate) const FIGURES: [Figure; 4] = [RUNS, RUNS_HELD, CLAIM, FINISH];

const CASE: &str = "Postgres: RunQueue, batches of 500, 4 workers";
const PEER: &str = "bare SKIP LOCKED";
const PEER_HELD: &str = "SKIP LOCKED, locks held";

const WORKERS: usize = 4;
const BATCH: NonZeroU32 = NonZeroU32::new(500).expect("not zero");
const APPS: u32 = 1_000;

/// An id as triggers make them, of ours and of the peers: a UUIDv7 of the millisecond `n`.
macro_rules! uuid_v7 {
    () => {
        "(left(lpad(to_hex(1767225600000 + n), 12, '0'), 8) || '-' || right(to_hex(1767225600000 + n), 4) || '-7'
          || substr(gen_random_uuid()::text, 16))::uuid"
    };
}

pub(crate) async fn measure(bench: &mut Bench) -> Outcome<()> {
    let cluster = PostgresCluster::options().durable(true).setting("max_wal_size", "4GB").start()?;
    let runs: u32 = bench.size(30_000, 3_000);
    let url = cluster.fresh_database()?;
    let stores = PostgresStores::connect(url.clone(), PostgresOptions::new()).await?;
    let ours = Ours::new(stores.jobs(), &url).await?;
    let bare = Bare::new(&cluster.fresh_database()?).await?;
    let held = Bare::new(&cluster.fresh_database()?).await?;
    // Who, and the claims and the finishes of that one.
    let mut seen = Vec::new();
    let turns: Turns<3> = interleave(bench.size(9, 1), async |who| {
        let worked = match who {
            0 => ours.work_off(runs).await?,
            1 => bare.work_off(runs, work_bare).await?,
            _ => held.work_off(runs, work_held).await?,
        };
        seen.push((who, worked));
        Ok(f64::from(runs) / worked.took.as_secs_f64())
    })
    .await?;
    bench.show(&RUNS, turns.compare(0, 1));
    bench.show(&RUNS_HELD, turns.compare(0, 2));
    let batches = f64::from(runs) / f64::from(BATCH.get());
    let each = |ours: usize, part: fn(&Worked) -> Duration| {
        let parts = seen.iter().filter(|(who, _)| *who == ours).map(|(_, worked)| part(worked));
        let (times, took) = parts.fold((0.0, Duration::ZERO), |(times, sum), part| (times + 1.0, sum + part));
        took.as_secs_f64() * 1e3 / times / batches
    };
    let peer = each(1, |worked| worked.claiming);
    bench.show(&CLAIM, Reading::limited(each(0, |worked| worked.claiming), peer));
    bench.show(&FINISH, Reading::limited(each(0, |worked| worked.finishing), peer));
    Ok(())
}

/// What it took until no run was left.
#[derive(Clone, Copy)]
struct Worked {
    took: Duration,
    /// All claims of all workers.
    claiming: Duration,
    /// All finishes of all workers.
    finishing: Duration,
}

/// What one worker did.
#[derive(Default)]
struct Share {
    runs: u32,
    claiming: Duration,
    finishing: Duration,
}

struct Ours<Q> {
    queue: Arc<Q>,
    by_hand: PgPool,
}

impl<Q: Scheduler + RunQueue> Ours<Q> {
    async fn new(queue: Q, url: &str) -> Outcome<Self> {
        for n in 0..APPS {
            let scope = Scope::new(format!("app{n}").as_str().try_into()?, Environment::Production);
            let job = JobSpec::new(scope, JobName::parse("job")?, Schedule::OnDemand).payload("hello");
            queue.put(&job, SystemClock.now()).await?;
        }
        let by_hand = PgPoolOptions::new().max_connections(1).connect(url).await?;
        Ok(Self { queue: Arc::new(queue), by_hand })
    }

    async fn work_off(&self, runs: u32) -> Outcome<Worked> {
        // As triggers leave them, spread over the apps; in the order in which they came, as the peer's.
        const FILL: &str = concat!(
            "INSERT INTO overskill.runs (run, job, app, environment, name, payload, due_ms, turn, attempt, max_attempts)
             SELECT ",
            uuid_v7!(),
            ", job.id, job.app, job.environment, job.name, job.payload, 0, n, 0, 5
             FROM generate_series(1, $1) AS n
             JOIN (SELECT id, app, environment, name, payload, row_number() OVER (ORDER BY id) - 1 AS place FROM overskill.run_jobs) AS job
               ON job.place = n % $2
             ORDER BY n"
        );
        let clear = "TRUNCATE overskill.runs, overskill.run_history; UPDATE overskill.run_clock SET turn = 0";
        sqlx::raw_sql(clear).execute(&self.by_hand).await?;
        query(FILL).bind(i64::from(runs)).bind(i64::from(APPS)).execute(&self.by_hand).await?;
        // No checkpoint and no vacuum: in service, too, a run waits for seconds and not for the next checkpoint.
        for settle in ["ANALYZE overskill.runs", "ANALYZE overskill.run_jobs"] {
            sqlx::raw_sql(settle).execute(&self.by_hand).await?;
        }
        let (name, start) = (WorkerName::parse("w-1")?, Instant::now());
        let workers = (0..WORKERS).map(|_| tokio::spawn(work(self.queue.clone(), name.clone())));
        let worked = ended(workers.collect(), start, runs).await?;
        let (left, kept): (i64, i64) =
            query_as("SELECT (SELECT count(*) FROM overskill.runs), (SELECT count(*) FROM overskill.run_history)")
                .fetch_one(&self.by_hand)
                .await?;
        if (left, kept) == (0, i64::from(runs)) { Ok(worked) } else { Err("runs were lost".into()) }
    }
}

/// One worker of ours.
async fn work(queue: Arc<impl RunQueue>, worker: WorkerName) -> Outcome<Share> {
    let mut share = Share::default();
    loop {
        let start = Instant::now();
        let claimed = queue.claim(&ClaimRequest::new(worker.clone(), BATCH, SystemClock.now())).await?;
        share.claiming += start.elapsed();
        if claimed.is_empty() {
            return Ok(share);
        }
        let finished: Vec<_> = claimed
            .iter()
            .map(|lease| FinishedRun { run: lease.run, fence: lease.fence, outcome: RunOutcome::Done })
            .collect();
        let start = Instant::now();
        let results = queue.finish(&finished, SystemClock.now()).await?;
        share.finishing += start.elapsed();
        if results.iter().any(|result| *result != FinishResult::Taken) {
            return Err("an end was not taken".into());
        }
        share.runs += u32::try_from(finished.len())?;
    }
}

struct Bare(PgPool);

impl Bare {
    async fn new(url: &str) -> Outcome<Self> {
        const SCHEMA: &str = "
            CREATE TABLE queue (id uuid PRIMARY KEY, app text NOT NULL, due_ms bigint NOT NULL, payload bytea NOT NULL);
            CREATE INDEX queue_due ON queue (due_ms);
            CREATE TABLE history (id uuid PRIMARY KEY, app text NOT NULL, due_ms bigint NOT NULL,
                                  done_ms bigint NOT NULL, worker text NOT NULL)";
        let pool = PgPoolOptions::new().max_connections(10).test_before_acquire(false).connect(url).await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(Self(pool))
    }

    async fn work_off<W>(&self, runs: u32, work: fn(PgPool) -> W) -> Outcome<Worked>
    where
        W: Future<Output = Outcome<Share>> + Send + 'static,
    {
        const FILL: &str = concat!(
            "INSERT INTO queue SELECT ",
            uuid_v7!(),
            ", 'app' || (n % $2), 0, 'hello' FROM generate_series(1, $1) AS n"
        );
        sqlx::raw_sql("TRUNCATE queue, history").execute(&self.0).await?;
        query(FILL).bind(i64::from(runs)).bind(i64::from(APPS)).execute(&self.0).await?;
        sqlx::raw_sql("ANALYZE queue").execute(&self.0).await?;
        let start = Instant::now();
        let workers = (0..WORKERS).map(|_| tokio::spawn(work(self.0.clone())));
        ended(workers.collect(), start, runs).await
    }
}

/// One worker of the peer. What it takes is over when it has it: a worker that dies then loses its batch.
async fn work_bare(pool: PgPool) -> Outcome<Share> {
    type Taken = (String, String, i64, Vec<u8>);
    const TAKE: &str = "
        WITH taken AS (
            DELETE FROM queue WHERE id IN (
                SELECT id FROM queue WHERE due_ms <= $1 ORDER BY due_ms LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING id, app, due_ms, payload
        ), kept AS (
            INSERT INTO history (id, app, due_ms, done_ms, worker) SELECT id, app, due_ms, $1, $3 FROM taken
        )
        SELECT id::text, app, due_ms, payload FROM taken";
    let mut share = Share::default();
    loop {
        let start = Instant::now();
        let take = query_as(TAKE).bind(SystemClock.now().as_unix_millis()).bind(i64::from(BATCH.get())).bind("w-1");
        let taken: Vec<Taken> = take.fetch_all(&pool).await?;
        share.claiming += start.elapsed();
        if taken.is_empty() {
            return Ok(share);
        }
        share.runs += u32::try_from(taken.len())?;
    }
}

/// One worker of the other peer. It keeps its batch locked, in one transaction, for as long as it works on it: when it
/// dies, its connection does, and the batch is there again. Such a worker needs a connection to itself, and nobody sees
/// what it is at.
async fn work_held(pool: PgPool) -> Outcome<Share> {
    type Taken = (String, String, i64, Vec<u8>);
    const TAKE: &str = "
        SELECT id::text, app, due_ms, payload FROM queue
        WHERE due_ms <= $1 ORDER BY due_ms LIMIT $2 FOR UPDATE SKIP LOCKED";
    const END: &str = "
        WITH done AS (DELETE FROM queue WHERE id = ANY ($1::uuid[]) RETURNING id, app, due_ms)
        INSERT INTO history (id, app, due_ms, done_ms, worker) SELECT id, app, due_ms, $2, $3 FROM done";
    let mut share = Share::default();
    loop {
        let start = Instant::now();
        let mut tx = pool.begin().await?;
        let take = query_as(TAKE).bind(SystemClock.now().as_unix_millis()).bind(i64::from(BATCH.get()));
        let taken: Vec<Taken> = take.fetch_all(&mut *tx).await?;
        share.claiming += start.elapsed();
        if taken.is_empty() {
            return Ok(share);
        }
        let ended: Vec<_> = taken.into_iter().map(|(id, ..)| id).collect();
        let start = Instant::now();
        let end = query(END).bind(&ended).bind(SystemClock.now().as_unix_millis()).bind("w-1");
        end.execute(&mut *tx).await?;
        tx.commit().await?;
        share.finishing += start.elapsed();
        share.runs += u32::try_from(ended.len())?;
    }
}

/// Waits for the workers, and adds up what they did.
async fn ended(workers: Vec<JoinHandle<Outcome<Share>>>, start: Instant, runs: u32) -> Outcome<Worked> {
    let mut all = Share::default();
    for worker in workers {
        let share = worker.await??;
        all.runs += share.runs;
        all.claiming += share.claiming;
        all.finishing += share.finishing;
    }
    let worked = Worked { took: start.elapsed(), claiming: all.claiming, finishing: all.finishing };
    if all.runs == runs { Ok(worked) } else { Err(format!("{} of {runs} runs were done", all.runs).into()) }
}
