//! Whether what targets serve is what the route names.

use super::{Deployments, ending::Answers};
use crate::{BackendName, DeploymentId, Error, Observed, ObservedState, Result, Scope, timeout, urgently};
use futures::{StreamExt as _, stream::FuturesUnordered};
use serde::Serialize;

/// What was found in a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciled {
    /// How the target that the route names stands.
    pub drift: Drift,
    /// What serves on other targets, or serves although nothing is live: nobody is sent there, but it is there.
    pub strays: Vec<(BackendName, Observed)>,
    /// Targets that could not be asked.
    pub unknown: Vec<BackendName>,
}

/// How a target stands against the route. As data: `{"is": "drifted", …}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Drift {
    /// It serves what the route names; or nothing is live, and nothing serves.
    InSync,
    /// It serves something else.
    Drifted {
        /// What the route names.
        wanted: DeploymentId,
        /// What it serves, if that is one of ours.
        serves: Option<DeploymentId>,
    },
    /// It serves nothing.
    Missing {
        /// What the route names.
        wanted: DeploymentId,
    },
    /// Nothing is live, but something serves.
    Unmanaged,
    /// The target that the route names could not be asked.
    Unknown,
}

impl Deployments {
    /// Compares what every target serves in `scope` with what the route names. Changes nothing: see
    /// [`restore`](Self::restore).
    pub async fn reconcile(&self, scope: &Scope) -> Result<Reconciled> {
        let parts = &*self.parts;
        let route = parts.routes.get(scope).await?;
        let ask = |target: &std::sync::Arc<dyn crate::DeploymentTarget>| {
            let target = target.clone();
            async move {
                let name = target.info().name;
                (name, timeout(&*parts.clock, parts.strategy.attempt_timeout, target.observe(scope)).await)
            }
        };
        let answers: Vec<_> =
            parts.strategy.registered().iter().map(ask).collect::<FuturesUnordered<_>>().collect().await;
        let mut found = Reconciled { drift: Drift::InSync, strays: Vec::new(), unknown: Vec::new() };
        if let Some(route) = &route {
            found.drift = Drift::Missing { wanted: route.deployment };
        }
        for (name, answer) in answers {
            let routed = route.as_ref().filter(|route| route.target == name);
            let Ok(observed) = answer else {
                if routed.is_some() {
                    found.drift = Drift::Unknown;
                }
                found.unknown.push(name);
                continue;
            };
            let active = observed.into_iter().filter(|o| o.state == ObservedState::Active);
            for serves in active {
                match routed {
                    Some(route) if serves.id == Some(route.deployment) => found.drift = Drift::InSync,
                    Some(route) if found.drift != Drift::InSync => {
                        found.drift = Drift::Drifted { wanted: route.deployment, serves: serves.id };
                    }
                    _ => found.strays.push((name.clone(), serves)),
                }
            }
        }
        if route.is_none() && !found.strays.is_empty() {
            found.drift = Drift::Unmanaged;
        }
        found.strays.sort_by(|a, b| a.0.cmp(&b.0));
        found.unknown.sort();
        Ok(found)
    }

    /// Gives the live version a part of the visitors, and the one before the others.
    pub async fn share(&self, scope: &Scope, percent: u8) -> Result<()> {
        if percent > 100 {
            return Err(Error::invalid(format!("percent must be at most 100, but was {percent}")));
        }
        let route = self.parts.routes.get(scope).await?;
        let route = route.ok_or_else(|| Error::not_found("nothing is live here").with("scope", scope))?;
        let target = self.target(&route.target)?;
        let share = target.share(scope, route.deployment, route.fence, percent);
        timeout(&*self.parts.clock, self.parts.strategy.attempt_timeout, share).await
    }

    /// Makes the target that the route names serve what the route names, under a new fence. `NotFound` when nothing is
    /// live; `Conflict` while a deployment of the scope is driven.
    pub async fn restore(&self, scope: &Scope) -> Result<()> {
        urgently(Box::pin(self.restore_now(scope))).await
    }

    async fn restore_now(&self, scope: &Scope) -> Result<()> {
        let route = self.parts.routes.get(scope).await?;
        let route = route.ok_or_else(|| Error::not_found("nothing is live here").with("scope", scope))?;
        let record = self.read(route.deployment).await?;
        let mut journal = self.lease_silently(&record).await?;
        let fence = journal.fence();
        // Somebody may have deployed before the lease was ours.
        let now = match self.parts.routes.get(scope).await {
            Ok(now) => now,
            Err(e) => {
                journal.break_off().await?;
                return Err(e);
            }
        };
        if now.is_none_or(|now| now.deployment != route.deployment) {
            journal.release(Some(self.parts.clock.now())).await?;
            return Err(Error::conflict("something newer went live meanwhile").with("scope", scope));
        }
        // An activation that is not answered may happen when something newer is live: somebody looks again then.
        let late = self.parts.clock.now().plus(self.parts.strategy.late_arrivals);
        journal.due_if_broken_off(late);
        let restored = self.make_live_again(scope, &route, fence, &mut journal).await;
        let answered = restored.as_ref().is_ok_and(|restored| restored.answers() == Answers::All);
        // What else was due for it is still.
        journal.release(Some(if answered { self.parts.clock.now() } else { late })).await?;
        if restored?.ok()? {
            Ok(())
        } else {
            Err(Error::conflict("something newer went live meanwhile").with("scope", scope))
        }
    }
}
