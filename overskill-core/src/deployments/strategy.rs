use super::{HealthGate, attempt::Drove, placement::Placed};
use crate::{
    BackendName, DeploymentEnd, DeploymentTarget, Doubt, Environment, Error, Notifier, PlacementPolicy, Result,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

/// Where to deploy, in which order, and what to do when that fails. Policy only: the [`Deployments`](crate::Deployments)
/// service runs it.
///
/// It cannot be empty: it begins with the preferred target.
///
/// ```
/// use overskill_core::{BackendName, DeploymentStrategy, Fallback, memory::MemoryTarget};
/// let target = |name| MemoryTarget::new(BackendName::parse(name).unwrap());
/// let strategy = DeploymentStrategy::prefer(target("edge-eu")).then(target("edge-us")).fall_back(Fallback::Cautious);
/// assert_eq!(strategy.targets().len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct DeploymentStrategy {
    targets: Vec<Arc<dyn DeploymentTarget>>,
    /// All that the platform has, also those that are not asked here: something may be live on them.
    registered: Vec<Arc<dyn DeploymentTarget>>,
    pub(super) fallback: Fallback,
    pub(super) tries_per_target: NonZeroU32,
    pub(super) attempt_timeout: Duration,
    pub(super) first_wait: Duration,
    pub(super) longest_wait: Duration,
    pub(super) notifier: Option<Arc<dyn Notifier>>,
    pub(super) staged_gate: Option<HealthGate>,
    pub(super) live_gate: Option<HealthGate>,
    pub(super) ask_within: Option<Duration>,
    pub(super) permission: BTreeSet<Environment>,
    pub(super) failback: Failback,
    pub(super) breaker: (NonZeroU32, Duration),
    pub(super) late_arrivals: Duration,
    pub(super) patience: Duration,
    pub(super) keep: NonZeroU32,
    pub(super) placed: Placed,
}

/// Whether an app that another target took comes back to the preferred one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failback {
    /// Only when somebody deploys, promotes or rolls back.
    #[default]
    Manual,
    /// With a deployment of the same artifact, this long after it fell back, and if that fails again after twice as long,
    /// and so on. It goes to targets before the one that serves it and to no other; nobody is asked what to do when they do
    /// not take it. As data: `{"after_ms": 60000}`.
    #[serde(rename = "after_ms", with = "millis")]
    After(Duration),
}

/// A duration as whole milliseconds.
mod millis {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

/// What to do when it stays unknown whether a target runs the new version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    /// Go on with the next target: availability first. The record names what is unsettled; the route names one target all
    /// the same, and only that is live.
    #[default]
    Eager,
    /// Stop: never give two targets reason to serve one app. An operator who says "try again" does not change that; one who
    /// approves gives the target in doubt up.
    Cautious,
}

impl DeploymentStrategy {
    /// Begins with the preferred target.
    pub fn prefer(target: impl DeploymentTarget) -> Self {
        let target: Arc<dyn DeploymentTarget> = Arc::new(target);
        Self {
            targets: vec![target.clone()],
            registered: vec![target],
            fallback: Fallback::default(),
            tries_per_target: NonZeroU32::new(3).expect("not zero"),
            attempt_timeout: Duration::from_mins(1),
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            notifier: None,
            staged_gate: None,
            live_gate: None,
            ask_within: None,
            permission: BTreeSet::new(),
            failback: Failback::default(),
            breaker: (NonZeroU32::new(5).expect("not zero"), Duration::from_secs(30)),
            late_arrivals: Duration::from_mins(10),
            patience: Duration::from_hours(1),
            keep: NonZeroU32::new(5).expect("not zero"),
            placed: Placed::default(),
        }
    }

    /// Adds a target that is asked when those before it cannot.
    pub fn then(mut self, target: impl DeploymentTarget) -> Self {
        let target: Arc<dyn DeploymentTarget> = Arc::new(target);
        self.targets.push(target.clone());
        self.registered.push(target);
        self
    }

    /// Says what to do when an outcome stays unknown.
    pub fn fall_back(mut self, fallback: Fallback) -> Self {
        self.fallback = fallback;
        self
    }

    /// Sets how often each target is asked; 3 times otherwise.
    pub fn tries_per_target(mut self, tries: NonZeroU32) -> Self {
        self.tries_per_target = tries;
        self
    }

    /// Sets how long one call of a target may take; a minute otherwise.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = limit;
        self
    }

    /// Sets the bounds of the waits between tries: full jitter below `first`, doubling up to `longest`. A wait that a
    /// target asks for is kept up to `longest`; beyond it the next target is asked.
    pub fn waits(mut self, first: Duration, longest: Duration) -> Self {
        (self.first_wait, self.longest_wait) = (first, longest);
        self
    }

    /// Says whom to tell when it falls back or fails.
    pub fn notify(mut self, notifier: impl Notifier) -> Self {
        self.notifier = Some(Arc::new(notifier));
        self
    }

    /// Looks at the staged version before it gets the traffic, where the target serves it at an address of its own.
    pub fn gate_staged(mut self, gate: HealthGate) -> Self {
        self.staged_gate = Some(gate);
        self
    }

    /// Looks at the new version once it has the traffic, before the route names it.
    pub fn gate_live(mut self, gate: HealthGate) -> Self {
        self.live_gate = Some(gate);
        self
    }

    /// Asks a person where a deployment would fail otherwise: a cautious one that stays unknown, one that nobody took, a
    /// version that could not be rolled back. Without an answer within that time it fails.
    pub fn ask_operator(mut self, within: Duration) -> Self {
        self.ask_within = Some(within);
        self
    }

    /// Asks a person before anything goes live in `environment`. The time for the answer is that of
    /// [`ask_operator`](Self::ask_operator), or a day.
    pub fn permission_for(mut self, environment: Environment) -> Self {
        self.permission.insert(environment);
        self
    }

    /// Says when an app goes back to the preferred target after it fell back.
    pub fn failback(mut self, failback: Failback) -> Self {
        self.failback = failback;
        self
    }

    /// Leaves a target alone after so many failures in a row, of whichever apps, for `pause`; 5 and 30 seconds otherwise.
    pub fn breaker(mut self, failures: NonZeroU32, pause: Duration) -> Self {
        self.breaker = (failures, pause);
        self
    }

    /// How long a deployment waits for targets that are down or asked to be left alone; an hour otherwise. One that waits for
    /// its part of an hourly budget waits as long as it takes.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long after its end what a deployment may have left behind is removed; 10 minutes otherwise. It must be longer
    /// than a call of a target may still run after it was given up.
    pub fn late_arrivals(mut self, after: Duration) -> Self {
        self.late_arrivals = after;
        self
    }

    /// How many artifacts that were live are kept for a scope, so that it can go back to them; 5 otherwise.
    pub fn keep(mut self, versions: NonZeroU32) -> Self {
        self.keep = versions;
        self
    }

    /// Asks the target that was added last only for apps that it suits.
    ///
    /// ```
    /// # use overskill_core::{BackendName, DeploymentStrategy, memory::MemoryTarget};
    /// # let target = |name| MemoryTarget::new(BackendName::parse(name).unwrap());
    /// let strategy = DeploymentStrategy::prefer(target("edge")).then(target("servers")).when(|app| app.has_server);
    /// ```
    pub fn when(mut self, suits: impl Fn(&crate::AppFacts) -> bool + Send + Sync + 'static) -> Self {
        let last = self.targets.last().expect("a strategy has a target").info().name;
        self.placed.when(last, suits);
        self
    }

    /// Orders the targets for each app by what it is and what their platforms are good at.
    pub fn place(mut self, policy: PlacementPolicy) -> Self {
        self.placed.policy(policy);
        self
    }

    /// The targets for an app like this, in the order they are asked.
    pub fn targets_for(&self, app: &crate::AppFacts) -> Vec<Arc<dyn DeploymentTarget>> {
        self.placed.order(&self.targets, app)
    }

    pub(super) fn places_by_app(&self) -> bool {
        self.placed.by_app()
    }

    /// The longest time between two signs of life of a drive: one call of a target or a probe, and one wait.
    pub(super) fn longest_silence(&self) -> Duration {
        let gates = self.staged_gate.iter().chain(&self.live_gate).map(HealthGate::pause);
        self.attempt_timeout + gates.chain([self.longest_wait]).max().unwrap_or_default()
    }

    /// For what is live elsewhere and need not go live here: nobody is asked, and nobody waits for a target that is down.
    pub(super) fn in_vain_if_refused(self) -> Self {
        Self { ask_within: None, patience: Duration::ZERO, ..self }
    }

    /// A question, if there is somebody to ask; else the end.
    pub(super) fn doubt(&self, about: Doubt, reason: String) -> Drove {
        if self.ask_within.is_some() {
            Drove::Asks(about, reason)
        } else {
            Drove::Ended(DeploymentEnd::Failed { reason })
        }
    }

    pub(super) fn nobody_took(&self, last: impl std::fmt::Display) -> Drove {
        self.doubt(Doubt::NobodyTook, format!("no target took it; the last was {last}"))
    }

    pub(super) fn asks_before(&self, environment: Environment) -> bool {
        self.permission.contains(&environment)
    }

    /// How long an operator has to answer.
    pub(super) fn answer_within(&self) -> Duration {
        self.ask_within.unwrap_or(Duration::from_hours(24))
    }

    pub(crate) fn probes(&self) -> impl Iterator<Item = &Arc<dyn crate::HealthProbe>> {
        self.staged_gate.iter().chain(&self.live_gate).map(HealthGate::probe)
    }

    pub(crate) fn notifier(&self) -> Option<&Arc<dyn Notifier>> {
        self.notifier.as_ref()
    }

    /// All targets of the platform.
    pub(super) fn registered(&self) -> &[Arc<dyn DeploymentTarget>] {
        &self.registered
    }

    /// Asks these, of those that are registered.
    pub(super) fn choose(&mut self, targets: Vec<Arc<dyn DeploymentTarget>>) {
        self.targets = targets;
    }

    /// The targets, in the order they are asked.
    pub fn targets(&self) -> &[Arc<dyn DeploymentTarget>] {
        &self.targets
    }

    /// The names of the targets, in that order.
    pub fn names(&self) -> Vec<BackendName> {
        self.targets.iter().map(|t| t.info().name).collect()
    }

    /// What a fallback does not survive, if it ends on the platform of a target before it: two targets on one platform count
    /// as one when that is down.
    pub(crate) fn dependence(&self) -> Option<String> {
        let mut on: BTreeMap<String, Vec<BackendName>> = BTreeMap::new();
        for target in &self.targets {
            let info = target.info();
            on.entry(info.platform).or_default().push(info.name);
        }
        let shared = on.into_iter().filter(|(_, names)| names.len() > 1).map(|(platform, names)| {
            let names: Vec<_> = names.iter().map(BackendName::as_str).collect();
            format!("{} all end on `{platform}`", names.join(" and "))
        });
        let shared: Vec<_> = shared.collect();
        let advice = "a fallback between them survives no outage of the platform: add a target on another";
        (!shared.is_empty()).then(|| format!("{}; {advice}", shared.join(", ")))
    }

    /// Refuses two targets of one name: the record could not tell them apart.
    pub fn validate(&self) -> Result<()> {
        let mut seen = BTreeSet::new();
        match self.names().into_iter().find(|name| !seen.insert(name.clone())) {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format!(
                "strategy must have targets of different names, but has two called `{name}`: name one of them otherwise"
            ))),
        }
    }
}
