use crate::{Error, ErrorKind, Fence, JobName, Page, Readiness, Result, RunId, Schedule, Scope, Timestamp, WorkerName};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt::Debug, num::NonZeroU32, time::Duration};

/// How a [`Scheduler`]'s runs reach code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The platform calls the app.
    Push,
    /// Workers claim runs from a [`RunQueue`].
    Pull,
}

/// What a [`Scheduler`] can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerInfo {
    /// The backend's name.
    pub name: Cow<'static, str>,
    /// How runs reach code.
    pub delivery: Delivery,
    /// The shortest period it keeps.
    pub min_interval: Duration,
}

impl SchedulerInfo {
    /// A scheduler to the minute.
    pub fn new(name: impl Into<Cow<'static, str>>, delivery: Delivery) -> Self {
        Self { name: name.into(), delivery, min_interval: Duration::from_mins(1) }
    }
}

/// What happens when a run is due while an earlier one of the same job has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overlap {
    /// The new run is left out; the history says so.
    #[default]
    Skip,
    /// Both run.
    Allow,
}

/// When a run that failed is tried again: full jitter below a bound that doubles from `first` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunBackoff {
    /// The bound after the first failure, in milliseconds.
    pub first_ms: u64,
    /// The highest bound, in milliseconds.
    pub max_ms: u64,
}

impl Default for RunBackoff {
    /// 5 seconds to 1 hour.
    fn default() -> Self {
        Self { first_ms: 5_000, max_ms: 3_600_000 }
    }
}

/// A job: what to run, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobSpec {
    /// Whose it is.
    pub scope: Scope,
    /// Its name, unique within the scope.
    pub name: JobName,
    /// When it runs.
    pub schedule: Schedule,
    /// What it is given; at most [`MAX_PAYLOAD_BYTES`](Self::MAX_PAYLOAD_BYTES).
    pub payload: Bytes,
    /// How often a run is tried before it is given up.
    pub max_attempts: NonZeroU32,
    /// How long between tries.
    pub backoff: RunBackoff,
    /// What happens when runs overlap.
    pub overlap: Overlap,
    /// Whether it stands still. A paused job can be triggered, and misses what is due.
    pub paused: bool,
}

impl JobSpec {
    /// Largest payload in bytes.
    pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;

    /// A job without payload, tried 5 times.
    pub fn new(scope: Scope, name: JobName, schedule: Schedule) -> Self {
        Self {
            scope,
            name,
            schedule,
            payload: Bytes::new(),
            max_attempts: NonZeroU32::new(5).expect("not zero"),
            backoff: RunBackoff::default(),
            overlap: Overlap::default(),
            paused: false,
        }
    }

    /// Sets what it is given.
    pub fn payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets how often a run is tried.
    pub fn max_attempts(mut self, attempts: NonZeroU32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets how long between tries.
    pub fn backoff(mut self, backoff: RunBackoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Says what happens when runs overlap.
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Makes it stand still, or go on.
    pub fn paused(mut self, paused: bool) -> Self {
        self.paused = paused;
        self
    }

    /// Refuses what no scheduler takes.
    pub fn admit(&self) -> Result<()> {
        if self.payload.len() > Self::MAX_PAYLOAD_BYTES {
            let (limit, size) = (Self::MAX_PAYLOAD_BYTES, self.payload.len());
            let message = format!("job payload must be at most {limit} bytes, but has {size}");
            return Err(Error::new(ErrorKind::LimitExceeded, message).with("job", &self.name));
        }
        Ok(())
    }
}

/// Keeps jobs and makes runs of them when they are due.
///
/// Each tick of a schedule makes exactly one run, however many nodes look at it. After an outage only the newest missed
/// tick is made up for. Delivery is at least once: code that a run reaches has to bear it twice.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Scheduler: Debug + Send + Sync + 'static {
    /// What it can do.
    fn info(&self) -> SchedulerInfo;

    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Adds or replaces a job once it is durable. A schedule that changed counts from `now`.
    async fn put(&self, job: &JobSpec, now: Timestamp) -> Result<()>;

    /// Removes a job and its runs that have not been claimed. Fine if it is not there.
    async fn remove(&self, scope: &Scope, name: &JobName) -> Result<()>;

    /// Jobs of a scope in name order, at most `limit`, after the job `after`.
    async fn list(&self, scope: &Scope, after: Option<JobName>, limit: NonZeroU32) -> Result<Page<JobSpec, JobName>>;

    /// Makes a run now, whatever the schedule says. The same `run` twice is one run. `NotFound` without such a job.
    async fn trigger(&self, scope: &Scope, name: &JobName, run: RunId, now: Timestamp) -> Result<()>;
}

crate::seam::forward_seam!(Scheduler as "scheduler" [fn info(&self) -> SchedulerInfo;] {
    safe fn check(&self) -> Readiness;
    safe fn put(&self, job: &JobSpec, now: Timestamp) -> ();
    safe fn remove(&self, scope: &Scope, name: &JobName) -> ();
    safe fn list(&self, scope: &Scope, after: Option<JobName>, limit: NonZeroU32) -> Page<JobSpec, JobName>;
    safe fn trigger(&self, scope: &Scope, name: &JobName, run: RunId, now: Timestamp) -> ();
});

/// Which runs a worker wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Who claims.
    pub worker: WorkerName,
    /// Most runs to claim.
    pub max_runs: NonZeroU32,
    /// For how long they are the worker's.
    pub lease: Duration,
    /// Most runs of one app that may be claimed at a time, by all workers together; `None` for no limit.
    pub max_running_per_app: Option<NonZeroU32>,
    /// When. A store uses the later of this and its own clock, if it has one.
    pub now: Timestamp,
}

impl ClaimRequest {
    /// Up to `max_runs` runs for a minute.
    pub fn new(worker: WorkerName, max_runs: NonZeroU32, now: Timestamp) -> Self {
        Self { worker, max_runs, lease: Duration::from_mins(1), max_running_per_app: None, now }
    }

    /// Sets for how long runs are the worker's.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Limits how many runs of one app are claimed at a time.
    pub fn max_running_per_app(mut self, runs: NonZeroU32) -> Self {
        self.max_running_per_app = Some(runs);
        self
    }
}

/// A run that a worker claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLease {
    /// The run.
    pub run: RunId,
    /// Whose job it is.
    pub scope: Scope,
    /// The job.
    pub job: JobName,
    /// What it is given.
    pub payload: Bytes,
    /// When it was due.
    pub due_at: Timestamp,
    /// Which try this is; the first is 1.
    pub attempt: NonZeroU32,
    /// Greater than that of every claim of this run before.
    pub fence: Fence,
    /// When somebody else may claim it.
    pub expires_at: Timestamp,
}

/// How a try at a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum RunOutcome {
    /// It is done.
    Done,
    /// It failed; try again if tries are left, else it is dead.
    Failed {
        /// Why.
        reason: String,
        /// How long to wait, in place of the job's own backoff.
        retry_after_ms: Option<u64>,
    },
    /// It failed and is not to be tried again.
    Dead {
        /// Why.
        reason: String,
    },
}

/// A claimed run, and how the try at it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedRun {
    /// The run.
    pub run: RunId,
    /// The fence it was claimed under.
    pub fence: Fence,
    /// How it ended.
    pub outcome: RunOutcome,
}

/// Whether an end was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishResult {
    /// It was.
    Taken,
    /// The run was claimed by somebody else since, or is over; nothing changed.
    Stale,
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for a worker, or for its time.
    Waiting,
    /// A worker has it.
    Running,
    /// It is done.
    Done,
    /// It was given up.
    Dead,
    /// It was left out, because an earlier one had not ended.
    Skipped,
}

impl RunState {
    /// Its name: `waiting`, `running`, `done`, `dead` or `skipped`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
        }
    }
}

/// A run in a job's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// When it was due.
    pub due_at: Timestamp,
    /// What became of it.
    pub state: RunState,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed, if one did.
    pub failure: Option<String>,
    /// When it was over, if it is.
    pub ended_at: Option<Timestamp>,
}

/// The pull side of a [`Scheduler`]: workers claim runs, each under a lease and a fence.
///
/// Apps take turns: one with a thousand runs waiting does not keep another's first run waiting behind them.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait RunQueue: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Claims runs that are due; makes those that schedules call for first. A run whose lease expired is due again, as
    /// another try.
    async fn claim(&self, request: &ClaimRequest) -> Result<Vec<RunLease>>;

    /// Makes a claim last until `by` from `now`. `Conflict` if it is not the worker's any more.
    async fn renew(&self, lease: &RunLease, by: Duration, now: Timestamp) -> Result<RunLease>;

    /// Says how runs ended, each on its own; a result for each, in order. All that were taken are durable.
    async fn finish(&self, finished: &[FinishedRun], now: Timestamp) -> Result<Vec<FinishResult>>;

    /// The newest runs of a job, newest first, at most `limit`.
    async fn history(&self, scope: &Scope, name: &JobName, limit: NonZeroU32) -> Result<Vec<RunRecord>>;

    /// Forgets runs that were over before `before`, and returns how many.
    async fn prune(&self, before: Timestamp) -> Result<u64>;
}

crate::seam::forward_seam!(RunQueue as "runs" [] {
    safe fn check(&self) -> Readiness;
    unsafe_to_repeat fn claim(&self, request: &ClaimRequest) -> Vec<RunLease>;
    safe fn renew(&self, lease: &RunLease, by: Duration, now: Timestamp) -> RunLease;
    unsafe_to_repeat fn finish(&self, finished: &[FinishedRun], now: Timestamp) -> Vec<FinishResult>;
    safe fn history(&self, scope: &Scope, name: &JobName, limit: NonZeroU32) -> Vec<RunRecord>;
    safe fn prune(&self, before: Timestamp) -> u64;
});
