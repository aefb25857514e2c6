use super::{NAME, Shared};
use crate::{
    Commit, Committed, DeployLease, DeploymentEnd, DeploymentEvent, DeploymentId, DeploymentStore, DeploymentSummary,
    Error, ErrorKind, Fence, LeaseChange, Page, Readiness, RecordedEvent, Result, Scope, Standing, Timestamp,
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
    ops::Bound,
};

/// Records of deployments in memory. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDeployments(Shared<Records>);

#[derive(Default)]
struct Records {
    deployments: BTreeMap<DeploymentId, Deployment>,
    /// Those that somebody should look at, by when.
    due: BTreeSet<(Timestamp, DeploymentId)>,
    scopes: HashMap<Scope, ScopeRecord>,
}

struct Deployment {
    scope: Scope,
    events: Vec<RecordedEvent>,
    end: Option<DeploymentEnd>,
    due: Option<Timestamp>,
}

#[derive(Default)]
struct ScopeRecord {
    deployments: BTreeSet<DeploymentId>,
    /// The highest that was ever given out.
    fence: Fence,
    lease: Option<DeployLease>,
}

impl MemoryDeployments {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl DeploymentStore for MemoryDeployments {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(NAME))
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed> {
        let refused = |e: Error| e.at(NAME, "commit").with("deployment", commit.id).with("scope", &commit.scope);
        self.0.lock().commit(commit).map_err(refused)
    }

    async fn events(&self, id: DeploymentId) -> Result<Vec<RecordedEvent>> {
        Ok(self.0.lock().deployments.get(&id).map(|d| d.events.clone()).unwrap_or_default())
    }

    async fn scope_of(&self, id: DeploymentId) -> Result<Option<Scope>> {
        Ok(self.0.lock().deployments.get(&id).map(|d| d.scope.clone()))
    }

    async fn lease(&self, scope: &Scope, now: Timestamp) -> Result<Option<DeployLease>> {
        Ok(self.0.lock().scopes.get(scope).and_then(|record| record.held(now)).cloned())
    }

    async fn pending(&self, now: Timestamp, limit: NonZeroU32) -> Result<Vec<DeploymentSummary>> {
        let records = self.0.lock();
        let undriven =
            |summary: &DeploymentSummary| records.scopes.get(&summary.scope).is_none_or(|it| it.held(now).is_none());
        let due = records.due.iter().take_while(|(due, _)| *due <= now).filter_map(|(_, id)| records.summary(*id));
        let mut turns: HashMap<Scope, usize> = HashMap::new();
        let mut by_turn: Vec<_> = due
            .filter(undriven)
            .map(|summary| {
                let turn = turns.entry(summary.scope.clone()).or_default();
                *turn += 1;
                (*turn, summary)
            })
            .collect();
        by_turn.sort_by_key(|(turn, _)| *turn);
        Ok(by_turn.into_iter().map(|(_, summary)| summary).take(limit.get() as usize).collect())
    }

    async fn list(
        &self,
        scope: &Scope,
        before: Option<DeploymentId>,
        limit: NonZeroU32,
    ) -> Result<Page<DeploymentSummary, DeploymentId>> {
        let limit = limit.get() as usize;
        let records = self.0.lock();
        let older = (Bound::Unbounded, before.map_or(Bound::Unbounded, Bound::Excluded));
        let ids = records.scopes.get(scope).into_iter().flat_map(|record| record.deployments.range(older).rev());
        let items = ids.take(limit.saturating_add(1)).filter_map(|id| records.summary(*id)).collect();
        Ok(Page::cut(items, limit, |summary: &DeploymentSummary| summary.id))
    }

    async fn standing(&self, id: DeploymentId, now: Timestamp) -> Result<Option<Standing>> {
        let records = self.0.lock();
        let Some(deployment) = records.deployments.get(&id) else { return Ok(None) };
        let scope = records.scopes.get(&deployment.scope);
        Ok(Some(Standing {
            scope: deployment.scope.clone(),
            events: deployment.events.clone(),
            lease: scope.and_then(|scope| scope.held(now)).cloned(),
            newest: scope.and_then(|scope| scope.deployments.last()).copied().unwrap_or(id),
        }))
    }
}

impl Records {
    /// All checks come first, so that a refused commit leaves nothing behind.
    fn commit(&mut self, commit: &Commit) -> Result<Committed> {
        let Commit { id, scope, expected_seq, after, events, lease, due, now } = commit;
        let known = self.deployments.get(id);
        let seq = known.map_or(0, Deployment::seq);
        if seq != *expected_seq {
            let message = format!("the deployment must have {expected_seq} events, but has {seq}: read them again");
            return Err(Error::conflict(message));
        }
        if known.is_some_and(|d| d.scope != *scope) {
            return Err(Error::conflict("the deployment is of another scope"));
        }
        let newest = self.scopes.get(scope).and_then(|record| record.deployments.last());
        if known.is_none() && newest.is_some_and(|newest| newest > id) {
            return Err(Error::conflict("the scope has a newer deployment"));
        }
        if known.is_none() && after.is_some_and(|after| newest.is_some_and(|newest| *newest > after)) {
            return Err(Error::conflict("the scope has another deployment since"));
        }
        let mut end = known.and_then(|d| d.end.clone());
        for event in events {
            if end.is_some() && !matches!(event, DeploymentEvent::Swept { .. }) {
                return Err(Error::conflict("the deployment has ended: nothing but `swept` may follow"));
            }
            if let DeploymentEvent::Ended { end: how } = event {
                end = Some(how.clone());
            }
        }
        let leased = self.scopes.entry(scope.clone()).or_default().change(*id, lease, *now)?;

        let deployment = self.deployments.entry(*id).or_insert_with(|| Deployment {
            scope: scope.clone(),
            events: Vec::new(),
            end: None,
            due: None,
        });
        let recorded =
            (seq + 1..).zip(events).map(|(seq, event)| RecordedEvent { seq, at: *now, event: event.clone() });
        deployment.events.extend(recorded);
        deployment.end = end;
        let seq = deployment.seq();
        if let Some(before) = deployment.due {
            self.due.remove(&(before, *id));
        }
        let before = deployment.due.filter(|before| before <= now);
        deployment.due = due.or_else(|| deployment.end.is_none().then_some(before.unwrap_or(*now)));
        self.due.extend(deployment.due.map(|due| (due, *id)));
        self.scopes.entry(scope.clone()).or_default().deployments.insert(*id);
        Ok(Committed { seq, lease: leased })
    }

    fn summary(&self, id: DeploymentId) -> Option<DeploymentSummary> {
        let d = self.deployments.get(&id)?;
        Some(DeploymentSummary { id, scope: d.scope.clone(), seq: d.seq(), end: d.end.clone() })
    }
}

impl Deployment {
    fn seq(&self) -> u64 {
        self.events.len() as u64
    }
}

impl ScopeRecord {
    fn held(&self, now: Timestamp) -> Option<&DeployLease> {
        self.lease.as_ref().filter(|lease| lease.expires_at > now)
    }

    fn change(&mut self, id: DeploymentId, change: &LeaseChange, now: Timestamp) -> Result<Option<DeployLease>> {
        match change {
            LeaseChange::None => Ok(None),
            LeaseChange::Take { holder, ttl, above } => {
                let own = |lease: &DeployLease| lease.deployment == id && lease.holder == *holder;
                if let Some(other) = self.held(now).filter(|lease| !own(lease)) {
                    let e = Error::conflict("somebody else holds the lease: wait until it ends or expires");
                    return Err(e.with("holder", other.deployment).with("until", other.expires_at));
                }
                let highest = self.fence.max(*above);
                if highest.as_u64() == u64::MAX {
                    return Err(Error::new(
                        ErrorKind::LimitExceeded,
                        "no fence is left above the highest that was seen",
                    ));
                }
                self.fence = highest.next();
                let (fence, holder) = (self.fence, holder.clone());
                self.lease = Some(DeployLease { fence, deployment: id, holder, expires_at: now.plus(*ttl) });
                Ok(self.lease.clone())
            }
            LeaseChange::Keep { fence, ttl } => {
                self.require(id, *fence, now)?.expires_at = now.plus(*ttl);
                Ok(self.lease.clone())
            }
            LeaseChange::Release { fence } => {
                self.require(id, *fence, now)?;
                self.lease = None;
                Ok(None)
            }
        }
    }

    fn require(&mut self, id: DeploymentId, fence: Fence, now: Timestamp) -> Result<&mut DeployLease> {
        let own = |lease: &&mut DeployLease| lease.deployment == id && lease.fence == fence && lease.expires_at > now;
        self.lease.as_mut().filter(own).ok_or_else(|| {
            Error::conflict("the lease is not held under this fence any more: take it again").with("fence", fence)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IdsExt, SeededIds};
    use std::time::Duration;

    #[tokio::test]
    async fn a_fence_at_the_end_of_all_numbers_is_refused_and_not_wrapped() {
        let (store, ids) = (MemoryDeployments::new(), SeededIds::new(1));
        let now = Timestamp::from_unix_millis(1_000);
        let id = DeploymentId::from_uuid(ids.uuid_v7(now));
        let scope: Scope = "todo42/production".parse().unwrap();
        let take = |above| LeaseChange::Take {
            holder: "w".try_into().unwrap(),
            ttl: Duration::from_mins(1),
            above: Fence::from_u64(above),
        };
        let commit = |above| Commit::new(id, scope.clone(), 0, [], now).lease(take(above));
        let e = store.commit(&commit(u64::MAX)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::LimitExceeded);
        let lease = store.commit(&commit(u64::MAX - 1)).await.unwrap().lease.unwrap();
        assert_eq!(lease.fence.as_u64(), u64::MAX);
    }
}
