//! Activations that hang, and happen minutes after everybody gave them up.

use async_trait::async_trait;
use overskill_core::{
    Clock as _, DeployRequest, DeploymentId, DeploymentTarget, Error, ErrorKind, Fence, Handle, IdsExt as _, Observed,
    Readiness, Removal, Result, Scope, SeededIds, Staged, TargetInfo, TargetStatus, TestClock, Timestamp,
    memory::MemoryTarget,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// The longest that an activation is late; shorter than the time after which a sweep comes.
const LATEST: Duration = Duration::from_mins(8);

/// A target to which some activations come late. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Stragglers {
    inner: MemoryTarget,
    clock: TestClock,
    dice: SeededIds,
    per_mille: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    calm: bool,
    on_the_way: Vec<Straggler>,
    held: u32,
    landed: u32,
}

#[derive(Debug)]
struct Straggler {
    due: Timestamp,
    request: DeployRequest,
    staged: Staged,
    fence: Fence,
}

impl Stragglers {
    pub(crate) fn new(inner: MemoryTarget, clock: &TestClock, seed: u64, per_mille: u64) -> Self {
        Self { inner, clock: clock.clone(), dice: SeededIds::new(seed), per_mille, state: Arc::default() }
    }

    pub(crate) fn inner(&self) -> &MemoryTarget {
        &self.inner
    }

    pub(crate) fn pause(&self, calm: bool) {
        self.state.lock().unwrap().calm = calm;
    }

    /// What is due arrives; the scopes in which it was taken.
    pub(crate) async fn arrive(&self) -> Vec<(Scope, DeploymentId)> {
        let now = self.clock.now();
        let due: Vec<_> = self.state.lock().unwrap().on_the_way.extract_if(.., |late| late.due <= now).collect();
        let mut taken = Vec::new();
        for late in due {
            if self.inner.activate(&late.request, &late.staged, late.fence).await.is_ok() {
                self.state.lock().unwrap().landed += 1;
                taken.push((late.request.scope().clone(), late.request.id()));
            }
        }
        taken
    }

    /// How many were late, and how many of them were taken.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let state = self.state.lock().unwrap();
        (state.held, state.landed)
    }
}

#[async_trait]
impl DeploymentTarget for Stragglers {
    fn info(&self) -> TargetInfo {
        self.inner.info()
    }

    async fn check(&self) -> Result<Readiness> {
        self.inner.check().await
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        self.inner.stage(request).await
    }

    async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Result<Handle> {
        let roll = self.dice.random_u64();
        let late = {
            let mut state = self.state.lock().unwrap();
            let late = !state.calm && roll % 1_000 < self.per_mille;
            if late {
                let part = u32::try_from(roll >> 32).expect("half of it");
                let due = self.clock.now().plus(LATEST.mul_f64(f64::from(part) / f64::from(u32::MAX)));
                let (request, staged) = (request.clone(), staged.clone());
                state.on_the_way.push(Straggler { due, request, staged, fence });
                state.held += 1;
            }
            late
        };
        if late {
            return Err(Error::new(ErrorKind::Timeout, "no answer yet"));
        }
        self.inner.activate(request, staged, fence).await
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        self.inner.status(scope, id, fence).await
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        self.inner.observe(scope).await
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        self.inner.remove(scope, removal).await
    }
}
