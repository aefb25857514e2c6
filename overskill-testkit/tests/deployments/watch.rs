//! What has to be true in any weather.

use crate::stragglers::Stragglers;
use overskill_core::{
    BackendName, Clock as _, DeploymentEvent, DeploymentId, DeploymentRecord, DeploymentStore as _,
    DeploymentTarget as _, Fence, Fencing, RecordedEvent, Route, RouteTable as _, Scope, TestClock,
    memory::MemoryBackends,
};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Looks at what is live while everything goes on. Clones share what they saw.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    clock: TestClock,
    memory: MemoryBackends,
    targets: Vec<Stragglers>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Under which fence somebody was told that something is live: what is live afterwards has none below it.
    acknowledged: BTreeMap<Scope, (DeploymentId, Fence)>,
    highest: BTreeMap<Scope, Fence>,
    /// What came late and was taken.
    late: BTreeMap<Scope, DeploymentId>,
    drifted: u32,
    unsettled: u32,
}

/// Whether a target serves what the route names. Who made it live once more and died before the route knew leaves a higher
/// fence; where old fences are taken, the same version may come late under a lower one.
pub(crate) fn is_served(target: &Stragglers, route: &Route, (id, fence): (DeploymentId, Fence)) -> bool {
    id == route.deployment && (fence >= route.fence || target.info().fencing == Fencing::Observed)
}

impl Watch {
    pub(crate) fn new(clock: &TestClock, memory: &MemoryBackends, targets: &[Stragglers]) -> Self {
        let (clock, memory, targets) = (clock.clone(), memory.clone(), targets.to_vec());
        Self { clock, memory, targets, seen: Arc::default() }
    }

    /// Somebody was told that this is live.
    pub(crate) async fn acknowledged(&self, scope: &Scope, id: DeploymentId) {
        let fence = self.memory.routes.fence(scope).await.unwrap();
        let mut seen = self.seen.lock().unwrap();
        let known = seen.acknowledged.entry(scope.clone()).or_insert((id, fence));
        if known.0 < id {
            *known = (id, fence);
        }
    }

    /// What is due arrives at the targets.
    pub(crate) async fn arrive(&self) {
        for target in &self.targets {
            let taken = target.arrive().await;
            self.seen.lock().unwrap().late.extend(taken);
        }
    }

    /// Looks at scopes in the middle of everything.
    pub(crate) async fn look(&self, scopes: &[Scope]) {
        self.arrive().await;
        for scope in scopes {
            self.look_at(scope).await;
        }
    }

    /// How often a late arrival served, and how often something that was not settled.
    pub(crate) fn seen(&self) -> (u32, u32) {
        let seen = self.seen.lock().unwrap();
        (seen.drifted, seen.unsettled)
    }

    async fn look_at(&self, scope: &Scope) {
        let (route, fence) = self.memory.routes.standing(scope).await.unwrap();
        {
            let mut seen = self.seen.lock().unwrap();
            let before = seen.highest.insert(scope.clone(), fence).unwrap_or(Fence::ZERO);
            assert!(fence >= before, "{scope}: the fence went from {before} to {fence}");
            if let Some((id, told)) = seen.acknowledged.get(scope) {
                let route = route.as_ref().unwrap_or_else(|| panic!("{scope}: {id} was live, and nothing is"));
                let kept = route.deployment >= *id && route.fence >= *told;
                assert!(kept, "{scope}: {id} was live under {told}, and now {route:?} is");
            }
        }
        let Some(route) = route else { return };
        if !self.at_rest(scope).await {
            return;
        }
        let target = self.targets.iter().find(|target| target.info().name == route.target).expect("it is one of ours");
        let serving = target.inner().serving(scope).map(|(id, fence, _)| (id, fence));
        if serving.is_some_and(|serving| is_served(target, &route, serving)) {
            return;
        }
        if !self.sweep_is_due(scope).await {
            let stories = self.stories(scope, serving.map(|(id, _)| id).into_iter().chain([route.deployment])).await;
            panic!(
                "{scope}: {} serves {serving:?}, the route is {route:?}, and no sweep is due\n{stories}",
                route.target
            );
        }
        if target.info().fencing == Fencing::Enforced {
            let told = match serving {
                Some((id, _)) => self.could_not_be_asked(id, &route.target).await,
                None => false,
            };
            if !told {
                let stories =
                    self.stories(scope, serving.map(|(id, _)| id).into_iter().chain([route.deployment])).await;
                panic!("{scope}: {} serves {serving:?}, the route is {route:?}\n{stories}", route.target);
            }
        }
        let mut seen = self.seen.lock().unwrap();
        let late = seen.late.get(scope).copied();
        if target.info().fencing == Fencing::Observed && late.is_some() && late == serving.map(|(id, _)| id) {
            seen.drifted += 1;
        } else {
            seen.unsettled += 1;
        }
    }

    async fn stories(&self, scope: &Scope, of: impl Iterator<Item = DeploymentId>) -> String {
        let mut stories = String::new();
        for id in of {
            stories += &self.record(id, scope).await.timeline();
        }
        stories
    }

    /// Whether nobody drives a deployment of it, and each has ended, waits, or asks.
    async fn at_rest(&self, scope: &Scope) -> bool {
        let store = &self.memory.deployments;
        let page = store.list(scope, None, NonZeroU32::new(32).unwrap()).await.unwrap();
        if store.lease(scope, self.clock.now()).await.unwrap().is_some() {
            return false;
        }
        for summary in page.items.into_iter().filter(|summary| summary.end.is_none()) {
            let record = self.record(summary.id, scope).await;
            if record.waits_until().is_none() && record.question().is_none() {
                return false;
            }
        }
        true
    }

    async fn record(&self, id: DeploymentId, scope: &Scope) -> DeploymentRecord {
        DeploymentRecord::from_events(id, scope.clone(), self.memory.deployments.events(id).await.unwrap())
    }

    /// Whether the record of what serves says that its target could not be asked, or did not take what it was to serve
    /// again.
    async fn could_not_be_asked(&self, id: DeploymentId, target: &BackendName) -> bool {
        let events = self.memory.deployments.events(id).await.unwrap();
        let last = events.iter().rev().find_map(|recorded| match &recorded.event {
            DeploymentEvent::Unsettled { target: of } | DeploymentEvent::RollingBack { target: of, .. } => {
                Some(Some(of))
            }
            DeploymentEvent::GaveWay { target: of, .. } if of == target => Some(None),
            _ => None,
        });
        last.flatten() == Some(target)
    }

    /// Whether somebody is going to look: a sweep of one that has ended, or whoever looks after one that waits or asks.
    async fn sweep_is_due(&self, scope: &Scope) -> bool {
        let store = &self.memory.deployments;
        let soon = self.clock.now().plus(Duration::from_hours(2));
        let pending = store.pending(soon, NonZeroU32::MAX).await.unwrap();
        let ids: Vec<_> = pending.into_iter().filter(|one| one.scope == *scope).map(|one| one.id).collect();
        for id in ids {
            let record = self.record(id, scope).await;
            let runs = |e: &RecordedEvent| matches!(e.event, DeploymentEvent::Activating { .. });
            if record.end().is_some() || record.events().iter().any(runs) {
                return true;
            }
        }
        false
    }
}
