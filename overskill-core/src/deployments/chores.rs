//! What remains to be done after the end: removing what came late, and going back to the preferred target.

use super::{DeploymentRecord, Deployments, Failback, journal::Journal};
use crate::{
    Actor, BackendName, DeploymentEnd, DeploymentEvent, DeploymentId, DeploymentSource, NewDeployment, ObservedState,
    Removal, Result, Timestamp, timeout,
};
use std::time::Duration;

/// After this long a target that cannot be asked is left to an operator: the record names it.
const GIVE_UP_SWEEPING: Duration = Duration::from_hours(24 * 7);

impl Deployments {
    /// Does what is due for a deployment that has ended, and says when there is more.
    pub(super) async fn chores(&self, record: &DeploymentRecord) -> Result<()> {
        let mut journal = self.journal(record);
        journal.take_silently(self.highest_fence(record.scope()).await?).await?;
        let failback = self.fail_back(record).await?;
        let sweep = self.sweep(record, &mut journal).await?;
        journal.release(failback.into_iter().chain(sweep).min()).await
    }

    /// Removes what the deployment left on targets that do not serve it; when to come again, if one could not be asked.
    async fn sweep(&self, record: &DeploymentRecord, journal: &mut Journal) -> Result<Option<Timestamp>> {
        let (now, strategy) = (self.parts.clock.now(), &self.parts.strategy);
        let ended = record.events().iter().rev().find(|e| matches!(e.event, DeploymentEvent::Ended { .. }));
        let Some(ended) = ended.map(|e| e.at) else { return Ok(None) };
        let late = ended.plus(strategy.late_arrivals);
        let targets = record.leftovers();
        if targets.is_empty() || late > now {
            return Ok((!targets.is_empty()).then_some(late));
        }
        let mut again = None;
        for name in targets {
            match self.sweep_target(record, &name, journal).await {
                Ok(()) => journal.note(DeploymentEvent::Swept { target: name }),
                Err(e) => {
                    tracing::warn!(deployment = %record.id(), target = %name, error = %e, "a target could not be swept");
                    let waited = now.since(ended);
                    again = (waited < GIVE_UP_SWEEPING).then(|| now.plus(waited.max(strategy.late_arrivals)));
                }
            }
        }
        Ok(again)
    }

    async fn sweep_target(&self, record: &DeploymentRecord, name: &BackendName, journal: &mut Journal) -> Result<()> {
        let (parts, id, scope) = (&*self.parts, record.id(), record.scope());
        let (clock, limit) = (&*parts.clock, parts.strategy.attempt_timeout);
        let target = self.target(name)?;
        journal.keep().await?;
        let observed = timeout(clock, limit, target.observe(scope)).await?;
        let routed = parts.routes.get(scope).await?.filter(|route| route.target == *name);
        let is_live = |one: DeploymentId| routed.as_ref().is_some_and(|route| route.deployment == one);
        // What is newer is swept by its own record; what this or an older one left here, if it is not live, by this one.
        let left = observed.iter().filter_map(|o| Some((o.id?, o.state)));
        let left = left
            .filter(|(one, state)| *one <= id && !is_live(*one) && (*one == id || *state != ObservedState::Previous));
        for (one, state) in left {
            if let Some(route) = routed.as_ref().filter(|_| state == ObservedState::Active) {
                // It came late and took the traffic of what is live.
                let fence = journal.fence();
                self.make_live_again(scope, route, fence, journal).await?.ok()?;
            }
            journal.keep().await?;
            timeout(clock, limit, target.remove(scope, Removal::Only(one))).await?;
        }
        Ok(())
    }

    /// Asks for the same artifact on the preferred target, once it is time; when to come again, if it is not.
    async fn fail_back(&self, record: &DeploymentRecord) -> Result<Option<Timestamp>> {
        let parts = &*self.parts;
        let (Failback::After(wait), Some(DeploymentEnd::Active { target, .. })) =
            (parts.strategy.failback, record.end())
        else {
            return Ok(None);
        };
        let preferred = parts.strategy.targets().first().expect("a strategy has a target").info().name;
        let live = parts.routes.get(record.scope()).await?;
        if *target == preferred || live.is_none_or(|route| route.deployment != record.id()) {
            return Ok(None); // somebody deployed since
        }
        let now = parts.clock.now();
        let ended = record.events().iter().find(|e| matches!(e.event, DeploymentEvent::Ended { .. }));
        let due = ended.map_or(now, |e| e.at).plus(wait);
        if due > now {
            return Ok(Some(due));
        }
        if let Some(busy) = self.admission.all_busy(&parts.strategy.targets()[..1], now) {
            return Ok(Some(busy.until));
        }
        let Some(digest) = record.digest() else { return Ok(None) };
        self.request(NewDeployment {
            actor: Actor::System("failback".into()),
            scope: record.scope().clone(),
            source: DeploymentSource::Artifact { digest, of: record.id() },
            env: record.env(),
            limits: record.limits(),
            owner: record.owner().cloned(),
            strategy: record.strategy().cloned(),
        })
        .await?;
        Ok(None)
    }
}
