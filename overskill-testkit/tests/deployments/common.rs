//! What the cases have in common.

use async_trait::async_trait;
use overskill_core::{
    AppHandle, BackendName, DeployRequest, DeploymentEvent, DeploymentId, DeploymentState, DeploymentStrategy,
    DeploymentTarget, Environment, Error, ErrorKind, Fence, Handle, Observed, Outcome, Readiness, Removal, Result,
    RouteTable as _, Scope, Staged, TargetInfo, TargetStatus, memory::MemoryTarget,
};
use overskill_testkit::TestPlatform;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) const PRODUCTION: Environment = Environment::Production;

pub(crate) fn target(name: &str) -> MemoryTarget {
    MemoryTarget::new(BackendName::parse(name).unwrap())
}

pub(crate) fn scope() -> Scope {
    Scope::new("todo42".try_into().unwrap(), PRODUCTION)
}

pub(crate) async fn platform(strategy: DeploymentStrategy) -> TestPlatform {
    let strategy = strategy.attempt_timeout(Duration::from_secs(10));
    TestPlatform::seeded(7, |builder, _| builder.deploy_with(strategy)).await.unwrap()
}

/// The app, with a first version of its sources.
pub(crate) async fn written(test: &TestPlatform) -> AppHandle {
    let app = test.app("todo42").await;
    app.write([("index.html", "one")]).await.unwrap();
    app
}

pub(crate) struct Deployed {
    pub(crate) id: DeploymentId,
    pub(crate) outcome: Outcome,
    pub(crate) events: Vec<DeploymentEvent>,
    pub(crate) story: String,
}

/// Writes new sources, deploys them, and waits for what comes of it.
pub(crate) async fn deploy(test: &TestPlatform, app: &AppHandle, contents: &str) -> Deployed {
    app.write([("index.html", contents.to_owned())]).await.unwrap();
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    let outcome = test.clock.drive(deployment.outcome()).await.unwrap();
    deployed(app, deployment.id(), outcome).await
}

pub(crate) async fn deployed(app: &AppHandle, id: DeploymentId, outcome: Outcome) -> Deployed {
    let record = app.deployment(id).await.unwrap();
    let events = record.events().iter().map(|e| e.event.clone()).collect();
    for step in record.path().windows(2) {
        assert!(DeploymentState::STEPS.contains(&(step[0], step[1])), "{step:?} is no step:\n{}", record.timeline());
    }
    Deployed { id, outcome, events, story: record.timeline() }
}

pub(crate) fn live_on(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Active { target, .. } => target.as_str(),
        other => panic!("not live: {other}"),
    }
}

/// What the route names and what its target serves are one.
pub(crate) async fn assert_live(test: &TestPlatform, id: DeploymentId, target: &MemoryTarget) {
    let route = test.memory.routes.get(&scope()).await.unwrap().expect("something is live");
    let (serving, fence, _) = target.serving(&scope()).expect("the target serves something");
    assert_eq!((route.deployment, route.target, serving), (id, target.info().name, id));
    assert_eq!(fence, route.fence, "the target serves under the route's fence");
}

/// Lets time pass and does what is due.
pub(crate) async fn later(test: &TestPlatform, by: Duration) {
    test.clock.advance(by);
    test.clock.drive(test.platform.work()).await.unwrap();
}

type Held = Option<(DeployRequest, Staged, Fence)>;

/// A target whose next activation hangs, and completes long after everybody gave it up.
#[derive(Clone, Debug)]
pub(crate) struct Late {
    pub(crate) inner: MemoryTarget,
    held: Arc<Mutex<Held>>,
    hold: Arc<Mutex<bool>>,
    answers_status: bool,
}

impl Late {
    /// Holds the next activation; `answers_status` says whether it can be asked what it runs meanwhile.
    pub(crate) fn new(inner: MemoryTarget, answers_status: bool) -> Self {
        Self { inner, held: Arc::default(), hold: Arc::new(Mutex::new(true)), answers_status }
    }

    /// Holds nothing.
    pub(crate) fn let_through(&self) {
        *self.hold.lock().unwrap() = false;
    }

    /// Holds the next activation, too.
    pub(crate) fn hold_next(&self) {
        *self.hold.lock().unwrap() = true;
    }

    /// What was held arrives; whether the target took it.
    pub(crate) async fn arrive(&self) -> Result<Handle> {
        let (request, staged, fence) = self.held.lock().unwrap().take().expect("an activation was held");
        self.inner.activate(&request, &staged, fence).await
    }

    fn down(&self) -> bool {
        !self.answers_status && self.held.lock().unwrap().is_some()
    }
}

#[async_trait]
impl DeploymentTarget for Late {
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
        if std::mem::take(&mut *self.hold.lock().unwrap()) {
            *self.held.lock().unwrap() = Some((request.clone(), staged.clone(), fence));
            return Err(Error::new(ErrorKind::Timeout, "no answer"));
        }
        if self.down() {
            return Err(Error::new(ErrorKind::Timeout, "no answer"));
        }
        self.inner.activate(request, staged, fence).await
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        if self.down() {
            return Err(Error::new(ErrorKind::Unavailable, "down"));
        }
        self.inner.status(scope, id, fence).await
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        if self.down() {
            return Err(Error::new(ErrorKind::Unavailable, "down"));
        }
        self.inner.observe(scope).await
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        self.inner.remove(scope, removal).await
    }
}
