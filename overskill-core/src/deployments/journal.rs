use crate::{
    Clock, Commit, DeployLease, DeploymentEvent, DeploymentId, DeploymentStore, Fence, LeaseChange, Result, Scope,
    WorkerName,
};
use std::{sync::Arc, time::Duration};

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
    noted: Vec<DeploymentEvent>,
}

impl Journal {
    pub(super) fn new(
        store: Arc<dyn DeploymentStore>,
        clock: Arc<dyn Clock>,
        id: DeploymentId,
        scope: Scope,
        seq: u64,
        holder: WorkerName,
        ttl: Duration,
    ) -> Self {
        Self { store, clock, id, scope, seq, holder, lease: None, ttl, noted: Vec::new() }
    }

    /// Remembers an event until the next commit.
    pub(super) fn note(&mut self, event: DeploymentEvent) {
        self.noted.push(event);
    }

    /// Writes what was noted and takes the scope's lease, or takes it anew, under a fence above `above`.
    pub(super) async fn take(&mut self, above: Fence) -> Result<Fence> {
        self.commit(LeaseChange::Take { holder: self.holder.clone(), ttl: self.ttl, above }).await?;
        let fence = self.fence();
        self.note(DeploymentEvent::Leased { fence, holder: self.holder.clone() });
        Ok(fence)
    }

    /// Whether the lease was taken.
    pub(super) fn is_leased(&self) -> bool {
        self.lease.is_some()
    }

    /// Writes what was noted and renews the lease, before a side effect.
    pub(super) async fn keep(&mut self) -> Result<()> {
        self.commit(LeaseChange::Keep { fence: self.fence(), ttl: self.ttl }).await
    }

    /// Writes what was noted and gives the lease back.
    pub(super) async fn release(&mut self) -> Result<()> {
        self.commit(LeaseChange::Release { fence: self.fence() }).await
    }

    /// The fence of the lease, or zero without one.
    pub(super) fn fence(&self) -> Fence {
        self.lease.as_ref().map_or(Fence::ZERO, |l| l.fence)
    }

    async fn commit(&mut self, lease: LeaseChange) -> Result<()> {
        let commit = Commit::new(self.id, self.scope.clone(), self.seq, self.noted.iter().cloned(), self.clock.now());
        let committed = self.store.commit(&commit.lease(lease)).await?;
        self.noted.clear();
        self.seq = committed.seq;
        self.lease = committed.lease;
        Ok(())
    }
}
