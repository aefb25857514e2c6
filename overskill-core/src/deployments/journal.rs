use super::DeploymentRecord;
use crate::{
    BackendName, Clock, Commit, DeployLease, DeploymentEvent, DeploymentId, DeploymentStore, Fence, LeaseChange,
    Result, Scope, Timestamp, WorkerName,
    requests::{Requests, counted},
    timeout,
};
use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Writes the events of one deployment, under its lease. Events that stand next to each other go into one commit: those
/// that were noted are written with the next side effect's intent, or with the end.
#[derive(Debug)]
pub(super) struct Journal {
    store: Arc<dyn DeploymentStore>,
    clock: Arc<dyn Clock>,
    id: DeploymentId,
    scope: Scope,
    seq: u64,
    holder: WorkerName,
    lease: Option<DeployLease>,
    ttl: Duration,
    /// When somebody has to look at it if this drive breaks off. What has not ended is looked at anyway.
    due: Option<Timestamp>,
    /// The record gets no word of what targets are asked: it has ended, or waits for an answer.
    silent: bool,
    noted: Vec<DeploymentEvent>,
    /// What was written, in this drive.
    written: Vec<DeploymentEvent>,
    /// Something is on its way that changes what has traffic.
    acts: bool,
    abandoned: Arc<Abandoned>,
}

/// Leases whose drives were dropped or broke off, to be given back by whoever works next: dropping cannot wait.
#[derive(Debug, Default)]
pub(super) struct Abandoned(Mutex<Vec<Left>>);

/// A lease that was left behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) id: DeploymentId,
    pub(super) fence: Fence,
    /// When somebody has to look at it then; at once, unless that is known.
    pub(super) due: Option<Timestamp>,
}

impl Abandoned {
    pub(super) fn take(&self) -> Vec<Left> {
        std::mem::take(&mut *self.left())
    }

    pub(super) fn take_of(&self, id: DeploymentId) -> Option<Left> {
        let mut all = self.left();
        let place = all.iter().position(|left| left.id == id)?;
        Some(all.swap_remove(place))
    }

    fn left(&self) -> MutexGuard<'_, Vec<Left>> {
        self.0.lock().expect("nobody panics with this lock")
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // What is on its way may land as long as its call may take: the lease lasts until then.
        if let Some(lease) = self.lease.as_ref().filter(|_| !self.acts) {
            self.abandoned.left().push(Left { id: self.id, fence: lease.fence, due: self.due });
        }
    }
}

/// How much longer a lease lasts than the longest call and wait: for the commits before and after them.
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// How long after a drive that broke off somebody looks again.
const SOON: Duration = Duration::from_secs(30);

impl Journal {
    pub(super) fn new(
        store: Arc<dyn DeploymentStore>,
        clock: Arc<dyn Clock>,
        record: &DeploymentRecord,
        holder: WorkerName,
        ttl: Duration,
        abandoned: Arc<Abandoned>,
    ) -> Self {
        Self {
            store,
            clock,
            id: record.id(),
            scope: record.scope().clone(),
            seq: record.seq(),
            holder,
            lease: None,
            ttl,
            due: None,
            silent: false,
            noted: Vec::new(),
            written: Vec::new(),
            acts: false,
            abandoned,
        }
    }

    /// Remembers an event until the next commit.
    pub(super) fn note(&mut self, event: DeploymentEvent) {
        self.noted.push(event);
    }

    /// Asks a target for something, for at most `limit`, and notes what that took.
    pub(super) async fn ask<T>(
        &mut self,
        target: &BackendName,
        operation: &str,
        limit: Duration,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let began = self.clock.monotonic();
        self.acts = ["activate", "remove"].contains(&operation);
        let (result, Requests { count, trace }) = counted(timeout(&*self.clock, limit, call)).await;
        self.acts = false;
        let took = self.clock.monotonic().saturating_sub(began);
        // What has no provider to be asked says nothing.
        if count > 0 && !self.silent {
            self.note(DeploymentEvent::Asked {
                target: target.clone(),
                operation: operation.to_owned(),
                requests: count,
                millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                trace,
            });
        }
        result
    }

    /// Makes a call that changes what has traffic: the lease outlasts whoever is dropped in the middle.
    pub(super) async fn acting<T>(&mut self, call: impl Future<Output = T>) -> T {
        self.acts = true;
        let result = call.await;
        self.acts = false;
        result
    }

    /// For one that has ended, or waits for an answer: its record gets no word of what targets are asked, and it stays due
    /// until the lease is given back.
    pub(super) fn silent(mut self) -> Self {
        (self.silent, self.due) = (true, Some(self.clock.now()));
        self
    }

    /// Takes the lease without a word in the record.
    pub(super) async fn take_silently(&mut self, above: Fence) -> Result<()> {
        self.commit(LeaseChange::Take { holder: self.holder.clone(), ttl: self.ttl, above }, self.due).await
    }

    /// Has somebody look at it then, should this drive break off.
    pub(super) fn due_if_broken_off(&mut self, due: Timestamp) {
        self.due = Some(due);
    }

    /// Whether something was noted that is not written.
    pub(super) fn has_notes(&self) -> bool {
        !self.noted.is_empty()
    }

    /// Everything that was noted in this drive.
    pub(super) fn history(&self) -> impl Iterator<Item = &DeploymentEvent> + Clone {
        self.written.iter().chain(&self.noted)
    }

    /// Writes what was noted and takes the scope's lease, or takes it anew, under a fence above `above`.
    pub(super) async fn take(&mut self, above: Fence) -> Result<Fence> {
        self.note(DeploymentEvent::Leased { above, holder: self.holder.clone() });
        self.take_silently(above).await?;
        Ok(self.fence())
    }

    /// Whether the lease was taken.
    pub(super) fn is_leased(&self) -> bool {
        self.lease.is_some()
    }

    /// Writes what was noted and renews the lease, before a side effect.
    pub(super) async fn keep(&mut self) -> Result<()> {
        self.commit(LeaseChange::Keep { fence: self.fence(), ttl: self.ttl }, self.due).await
    }

    /// The same before a side effect that is safe to repeat and that the record need not know of beforehand, if the lease
    /// may run out in the longest time that a call and a wait take; otherwise what was noted is written with the next commit.
    pub(super) async fn keep_unless_fresh(&mut self) -> Result<()> {
        let fresh =
            |lease: &DeployLease| lease.expires_at.since(self.clock.now()) >= self.ttl.saturating_sub(LEASE_MARGIN / 2);
        if self.lease.as_ref().is_some_and(fresh) { Ok(()) } else { self.keep().await }
    }

    /// Writes what was noted and gives the lease back, if it is held. `due` is when somebody should look at it next.
    pub(super) async fn release(&mut self, due: Option<Timestamp>) -> Result<()> {
        let change = if self.is_leased() { LeaseChange::Release { fence: self.fence() } } else { LeaseChange::None };
        self.commit(change, due).await
    }

    /// Gives the lease back in the middle: somebody looks at it soon, or when nothing can come late any more.
    pub(super) async fn break_off(&mut self) -> Result<()> {
        let soon = self.clock.now().plus(SOON);
        self.noted.clear();
        self.release(Some(self.due.map_or(soon, |due| due.max(soon)))).await
    }

    /// The fence of the lease, or zero without one.
    pub(super) fn fence(&self) -> Fence {
        self.lease.as_ref().map_or(Fence::ZERO, |l| l.fence)
    }

    async fn commit(&mut self, lease: LeaseChange, due: Option<Timestamp>) -> Result<()> {
        let commit = Commit::new(self.id, self.scope.clone(), self.seq, self.noted.iter().cloned(), self.clock.now());
        let committed = self.store.commit(&commit.lease(lease).due(due)).await?;
        self.written.append(&mut self.noted);
        self.seq = committed.seq;
        self.lease = committed.lease;
        Ok(())
    }
}
