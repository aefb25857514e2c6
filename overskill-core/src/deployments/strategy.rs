use crate::{BackendName, DeploymentTarget, Error, Notifier, Result};
use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

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
    pub(super) fallback: Fallback,
    pub(super) tries_per_target: NonZeroU32,
    pub(super) attempt_timeout: Duration,
    pub(super) first_wait: Duration,
    pub(super) longest_wait: Duration,
    pub(super) notifier: Option<Arc<dyn Notifier>>,
}

/// What to do when it stays unknown whether a target runs the new version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// Go on with the next target: availability first. The record names what is unsettled; the route names one target all
    /// the same, and only that is live.
    #[default]
    Eager,
    /// Stop: never give two targets reason to serve one app.
    Cautious,
}

impl DeploymentStrategy {
    /// Begins with the preferred target.
    pub fn prefer(target: impl DeploymentTarget) -> Self {
        Self {
            targets: vec![Arc::new(target)],
            fallback: Fallback::default(),
            tries_per_target: NonZeroU32::new(3).expect("not zero"),
            attempt_timeout: Duration::from_mins(1),
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            notifier: None,
        }
    }

    /// Adds a target that is asked when those before it cannot.
    pub fn then(mut self, target: impl DeploymentTarget) -> Self {
        self.targets.push(Arc::new(target));
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

    pub(crate) fn notifier(&self) -> Option<&Arc<dyn Notifier>> {
        self.notifier.as_ref()
    }

    /// The targets, in the order they are asked.
    pub fn targets(&self) -> &[Arc<dyn DeploymentTarget>] {
        &self.targets
    }

    /// The names of the targets, in that order.
    pub fn names(&self) -> Vec<BackendName> {
        self.targets.iter().map(|t| t.info().name).collect()
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
