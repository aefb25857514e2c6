use super::ticks;
use crate::{
    AppId, ClaimRequest, Error, Fence, FinishResult, FinishedRun, Ids, IdsExt, JobName, JobSpec, Overlap, Result,
    RunId, RunLease, RunOutcome, RunRecord, RunState, Scope, Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
    ops::Bound,
    time::Duration,
};

pub(super) type JobKey = (Scope, JobName);

/// All jobs and runs, with an index for each question that is asked of them.
#[derive(Default)]
pub(super) struct Queue {
    jobs: BTreeMap<JobKey, Job>,
    runs: HashMap<RunId, Run>,
    /// Jobs that are not paused, by their next tick.
    ticks: BTreeSet<(Timestamp, JobKey)>,
    /// Waiting runs whose time has not come, by when it does.
    later: BTreeSet<(Timestamp, RunId)>,
    /// Running runs, by when their claim expires.
    claims: BTreeSet<(Timestamp, RunId)>,
    apps: HashMap<AppId, App>,
    /// Apps that have a run ready, by their turn.
    turns: BTreeSet<(u64, AppId)>,
    /// The turn of the app that was served last.
    turn: u64,
    logs: HashMap<JobKey, Log>,
    made: u64,
}

struct Job {
    spec: JobSpec,
    next: Option<Timestamp>,
}

struct Run {
    job: JobKey,
    /// Its place in the job's log.
    made: u64,
    due_at: Timestamp,
    /// When it may be claimed, while it waits.
    ready_at: Timestamp,
    state: RunState,
    attempts: u32,
    fence: Fence,
    /// Until when it is claimed, if the last claim has not been finished. It may have expired.
    claimed: Option<Timestamp>,
    failure: Option<String>,
    ended_at: Option<Timestamp>,
}

#[derive(Default)]
struct App {
    turn: u64,
    ready: BTreeSet<(Timestamp, RunId)>,
    running: u32,
}

/// The runs of a job, oldest first, and how many of them have not ended.
#[derive(Default)]
struct Log {
    runs: BTreeMap<u64, RunId>,
    open: u64,
}

impl Queue {
    pub(super) fn put(&mut self, spec: &JobSpec, now: Timestamp) {
        let key = (spec.scope.clone(), spec.name.clone());
        let known = self.jobs.remove(&key);
        // What is due while a job is paused is missed, so going on counts from now as well.
        let next = match known {
            Some(Job { spec: old, next }) => {
                if let Some(next) = next {
                    self.ticks.remove(&(next, key.clone()));
                }
                if old.schedule == spec.schedule && !old.paused { next } else { spec.schedule.next_after(now) }
            }
            None => spec.schedule.next_after(now),
        };
        if let Some(next) = next.filter(|_| !spec.paused) {
            self.ticks.insert((next, key.clone()));
        }
        self.jobs.insert(key, Job { spec: spec.clone(), next });
    }

    pub(super) fn remove(&mut self, key: &JobKey) {
        if let Some(Job { next: Some(next), .. }) = self.jobs.remove(key) {
            self.ticks.remove(&(next, key.clone()));
        }
        let runs: Vec<_> = self.logs.get(key).into_iter().flat_map(|log| log.runs.values().copied()).collect();
        for id in runs {
            if self.runs.get(&id).is_some_and(|run| run.state == RunState::Waiting) {
                self.leave(id);
                self.forget(id);
            }
        }
    }

    pub(super) fn list(&self, scope: &Scope, after: Option<JobName>, limit: usize) -> Vec<JobSpec> {
        let shortest = || JobName::parse("-").expect("a legal job name, and none sorts before it");
        let from = match after {
            Some(after) => Bound::Excluded((scope.clone(), after)),
            None => Bound::Included((scope.clone(), shortest())),
        };
        let jobs = self.jobs.range((from, Bound::Unbounded)).take_while(|((s, _), _)| s == scope);
        jobs.take(limit).map(|(_, job)| job.spec.clone()).collect()
    }

    pub(super) fn trigger(&mut self, key: JobKey, id: RunId, now: Timestamp) -> Result<()> {
        if !self.jobs.contains_key(&key) {
            return Err(Error::not_found("there is no such job: put it first"));
        }
        match self.runs.get(&id) {
            Some(run) if run.job == key => Ok(()),
            Some(_) => Err(Error::conflict("the run is of another job").with("run", id)),
            None => {
                self.make(key, id, now, now);
                Ok(())
            }
        }
    }

    pub(super) fn claim(&mut self, request: &ClaimRequest, ids: &dyn Ids) -> Vec<RunLease> {
        let now = request.now;
        self.expire(now);
        self.make_due(now, ids);
        self.ready_due(now);

        let mut leases = Vec::new();
        let mut full = Vec::new();
        while leases.len() < request.max_runs.get() as usize
            && let Some((turn, name)) = self.turns.pop_first()
        {
            let Some(app) = self.apps.get_mut(&name) else { continue };
            if request.max_running_per_app.is_some_and(|max| app.running >= max.get()) {
                full.push((turn, name));
                continue;
            }
            self.turn = self.turn.max(turn);
            let Some((_, id)) = app.ready.pop_first() else { continue };
            app.turn = turn + 1;
            app.running += 1;
            if !app.ready.is_empty() {
                self.turns.insert((app.turn, name));
            }
            leases.extend(self.lease(id, now.plus(request.lease)));
        }
        self.turns.extend(full);
        leases
    }

    pub(super) fn renew(&mut self, lease: &RunLease, until: Timestamp) -> Result<RunLease> {
        let gone = || Error::conflict("the run is not this worker's any more: stop working on it");
        let id = lease.run;
        let run = self.runs.get(&id).filter(|run| run.is_of(lease.fence)).ok_or_else(gone)?;
        let app = run.job.0.app.clone();
        self.leave(id);
        self.apps.entry(app).or_default().running += 1;
        self.claims.insert((until, id));
        let run = self.runs.get_mut(&id).ok_or_else(gone)?;
        (run.state, run.claimed) = (RunState::Running, Some(until));
        Ok(RunLease { expires_at: until, ..lease.clone() })
    }

    pub(super) fn finish(&mut self, finished: &FinishedRun, now: Timestamp, ids: &dyn Ids) -> FinishResult {
        let id = finished.run;
        if !self.runs.get(&id).is_some_and(|run| run.is_of(finished.fence)) {
            return FinishResult::Stale;
        }
        self.leave(id);
        match &finished.outcome {
            RunOutcome::Done => self.end(id, RunState::Done, None, now),
            RunOutcome::Dead { reason } => self.end(id, RunState::Dead, Some(reason.clone()), now),
            RunOutcome::Failed { reason, retry_after_ms } => match self.next_try(id) {
                None => self.end(id, RunState::Dead, Some(reason.clone()), now),
                Some(bound) => {
                    let wait = retry_after_ms.map_or_else(|| ids.jitter(bound), Duration::from_millis);
                    if let Some(run) = self.runs.get_mut(&id) {
                        run.failure = Some(reason.clone());
                        run.claimed = None;
                    }
                    self.wait(id, now.plus(wait));
                }
            },
        }
        FinishResult::Taken
    }

    pub(super) fn history(&self, key: &JobKey, limit: usize) -> Vec<RunRecord> {
        let runs = self.logs.get(key).into_iter().flat_map(|log| log.runs.values().rev());
        let record = |id: &RunId| {
            let run = self.runs.get(id)?;
            Some(RunRecord {
                run: *id,
                due_at: run.due_at,
                state: run.state,
                attempts: run.attempts,
                failure: run.failure.clone(),
                ended_at: run.ended_at,
            })
        };
        runs.filter_map(record).take(limit).collect()
    }

    pub(super) fn prune(&mut self, before: Timestamp) -> u64 {
        let over = |(id, run): (&RunId, &Run)| run.ended_at.filter(|ended| *ended < before).map(|_| *id);
        let over: Vec<_> = self.runs.iter().filter_map(over).collect();
        for id in &over {
            self.forget(*id);
        }
        over.len() as u64
    }

    /// When each run that waits for its time may be claimed.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> impl Iterator<Item = Timestamp> {
        self.later.iter().map(|(ready_at, _)| *ready_at)
    }

    /// Makes a run; or, when it would overlap, a note that it was left out.
    fn make(&mut self, key: JobKey, id: RunId, due_at: Timestamp, now: Timestamp) {
        let Some(overlap) = self.jobs.get(&key).map(|job| job.spec.overlap) else { return };
        self.made += 1;
        let log = self.logs.entry(key.clone()).or_default();
        log.runs.insert(self.made, id);
        let skipped = overlap == Overlap::Skip && log.open > 0;
        log.open += u64::from(!skipped);
        let run = Run {
            job: key,
            made: self.made,
            due_at,
            ready_at: due_at,
            state: if skipped { RunState::Skipped } else { RunState::Waiting },
            attempts: 0,
            fence: Fence::ZERO,
            claimed: None,
            failure: None,
            ended_at: skipped.then_some(now),
        };
        self.runs.insert(id, run);
        if !skipped {
            self.wait(id, due_at);
        }
    }

    /// Makes the run of the newest tick of each job that has one due.
    fn make_due(&mut self, now: Timestamp, ids: &dyn Ids) {
        while let Some((tick, key)) = self.ticks.pop_first() {
            if tick > now {
                self.ticks.insert((tick, key));
                break;
            }
            let Some(job) = self.jobs.get_mut(&key) else { continue };
            let tick = ticks::newest(&job.spec.schedule, tick, now);
            job.next = job.spec.schedule.next_after(now);
            if let Some(next) = job.next {
                self.ticks.insert((next, key.clone()));
            }
            self.make(key, RunId::generate(ids, now), tick, now);
        }
    }

    /// Gives back what was claimed and not finished in time.
    fn expire(&mut self, now: Timestamp) {
        while let Some((expires, id)) = self.claims.first().copied().filter(|(expires, _)| *expires <= now) {
            self.leave(id);
            if self.next_try(id).is_some() {
                // Its worker may still finish it, until somebody else has it.
                self.wait(id, expires);
            } else {
                self.end(id, RunState::Dead, Some("the worker did not finish it in time".into()), now);
            }
        }
    }

    fn ready_due(&mut self, now: Timestamp) {
        while let Some((ready_at, id)) = self.later.first().copied().filter(|(ready_at, _)| *ready_at <= now) {
            self.later.remove(&(ready_at, id));
            let Some(run) = self.runs.get(&id) else { continue };
            let name = run.job.0.app.clone();
            let app = self.apps.entry(name.clone()).or_default();
            if app.ready.is_empty() {
                app.turn = app.turn.max(self.turn);
                self.turns.insert((app.turn, name));
            }
            app.ready.insert((ready_at, id));
        }
    }

    fn lease(&mut self, id: RunId, expires_at: Timestamp) -> Option<RunLease> {
        let run = self.runs.get_mut(&id)?;
        run.attempts += 1;
        run.fence = run.fence.next();
        (run.state, run.claimed) = (RunState::Running, Some(expires_at));
        self.claims.insert((expires_at, id));
        let (scope, job) = run.job.clone();
        Some(RunLease {
            run: id,
            scope,
            job,
            payload: self.jobs.get(&run.job)?.spec.payload.clone(),
            due_at: run.due_at,
            attempt: NonZeroU32::new(run.attempts)?,
            fence: run.fence,
            expires_at,
        })
    }

    /// Puts a run in line for `ready_at`.
    fn wait(&mut self, id: RunId, ready_at: Timestamp) {
        if let Some(run) = self.runs.get_mut(&id) {
            (run.state, run.ready_at) = (RunState::Waiting, ready_at);
            self.later.insert((ready_at, id));
        }
    }

    /// Takes a run out of wherever it waits or runs.
    fn leave(&mut self, id: RunId) {
        let Some(run) = self.runs.get(&id) else { return };
        let name = &run.job.0.app;
        match run.state {
            RunState::Running => {
                if let Some(expires) = run.claimed {
                    self.claims.remove(&(expires, id));
                }
                if let Some(app) = self.apps.get_mut(name) {
                    app.running = app.running.saturating_sub(1);
                }
            }
            RunState::Waiting => {
                self.later.remove(&(run.ready_at, id));
                if let Some(app) = self.apps.get_mut(name)
                    && app.ready.remove(&(run.ready_at, id))
                    && app.ready.is_empty()
                {
                    self.turns.remove(&(app.turn, name.clone()));
                }
            }
            RunState::Done | RunState::Dead | RunState::Skipped => {}
        }
        // An app that rests keeps no turn; it joins again at the turn the others have reached.
        if self.apps.get(name).is_some_and(|app| app.running == 0 && app.ready.is_empty() && app.turn <= self.turn) {
            self.apps.remove(name);
        }
    }

    fn end(&mut self, id: RunId, state: RunState, failure: Option<String>, now: Timestamp) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        (run.state, run.claimed, run.ended_at) = (state, None, Some(now));
        run.failure = failure.or(run.failure.take());
        if let Some(log) = self.logs.get_mut(&run.job) {
            log.open -= 1;
        }
    }

    fn forget(&mut self, id: RunId) {
        let Some(run) = self.runs.remove(&id) else { return };
        if let Some(log) = self.logs.get_mut(&run.job) {
            log.runs.remove(&run.made);
            log.open -= u64::from(run.ended_at.is_none());
            if log.runs.is_empty() {
                self.logs.remove(&run.job);
            }
        }
    }

    /// The bound of the wait before the next try; `None` when there is none left, or the job is gone.
    fn next_try(&self, id: RunId) -> Option<Duration> {
        let run = self.runs.get(&id)?;
        let spec = &self.jobs.get(&run.job)?.spec;
        let doublings = run.attempts.saturating_sub(1).min(63);
        let bound = spec.backoff.first_ms.saturating_mul(1 << doublings).min(spec.backoff.max_ms);
        (run.attempts < spec.max_attempts.get()).then(|| Duration::from_millis(bound))
    }
}

impl Run {
    /// Whether the claim under `fence` is the last one, and not finished.
    fn is_of(&self, fence: Fence) -> bool {
        self.claimed.is_some() && self.fence == fence
    }
}
