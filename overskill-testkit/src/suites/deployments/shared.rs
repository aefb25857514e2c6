//! What the cases have in common.

use super::DeploymentStoreFixture;
use crate::{Stop, suites::base::base};
use overskill_core::{
    Actor, BackendName, Commit, DeploymentEvent, DeploymentId, DeploymentSource, DeploymentStore, EnvRevision,
    Environment, Fence, Incarnation, LeaseChange, Limits, Scope, StreamPosition, Timestamp, WorkerName,
};
use std::time::Duration;

/// A deployment, as cases make them.
#[derive(Clone, Debug)]
pub(super) struct D {
    pub(super) id: DeploymentId,
    pub(super) scope: Scope,
}

impl D {
    pub(super) fn new(f: &DeploymentStoreFixture, at: Timestamp) -> Self {
        Self::of(f, f.names().scope_in(Environment::Production), at)
    }

    pub(super) fn of(f: &DeploymentStoreFixture, scope: Scope, at: Timestamp) -> Self {
        Self { id: DeploymentId::generate(f.names().ids(), at), scope }
    }

    pub(super) fn commit(
        &self,
        expected_seq: u64,
        events: impl IntoIterator<Item = DeploymentEvent>,
        now: Timestamp,
    ) -> Commit {
        Commit::new(self.id, self.scope.clone(), expected_seq, events, now)
    }
}

/// A new deployment in a new scope, requested at the base moment.
pub(super) async fn begin(f: &DeploymentStoreFixture) -> Result<(D, Timestamp), Stop> {
    let now = base(f.names());
    let d = D::new(f, now);
    f.store().commit(&d.commit(0, [requested()], now)).await?;
    Ok((d, now))
}

/// Where the sources of a deployment stand.
const SOURCES: StreamPosition = StreamPosition::new(Incarnation::from_u64(0xabc), 7);

pub(super) fn started() -> DeploymentEvent {
    DeploymentEvent::BuildStarted { position: SOURCES }
}

pub(super) fn requested() -> DeploymentEvent {
    let position = SOURCES;
    DeploymentEvent::Requested {
        actor: Actor::System("conformance".into()),
        source: DeploymentSource::Sources(position),
        env: EnvRevision(position),
        limits: Limits::default(),
        targets: vec![BackendName::parse("kit-target").expect("a legal name")],
        owner: None,
        strategy: None,
    }
}

pub(super) fn take(holder: &str, ttl: Duration) -> LeaseChange {
    let holder = WorkerName::parse(holder).expect("a legal name");
    LeaseChange::Take { holder, ttl, above: Fence::ZERO }
}

pub(super) async fn events(store: &(impl DeploymentStore + ?Sized), d: &D) -> Result<Vec<DeploymentEvent>, Stop> {
    Ok(store.events(d.id).await?.into_iter().map(|e| e.event).collect())
}
