//! What remains to be done after the end: removing what came late, and going back to the preferred target.

use super::{
    DeploymentRecord, Deployments, Failback,
    ending::Answers,
    journal::Journal,
    record::{leftovers, unanswered},
};
use crate::{
    Actor, BackendName, Consequence, DeploymentEnd, DeploymentEvent, DeploymentId, DeploymentSource, Fencing,
    NewDeployment, ObservedState, Removal, Result, Timestamp, timeout,
};
use std::{collections::BTreeSet, time::Duration};

/// After this long a target that cannot be asked is left to an operator: the record names it.
const GIVE_UP_SWEEPING: Duration = Duration::from_hours(24 * 7);

impl Deployments {
    /// Does what is due for a deployment that has ended, and says when there is more.
    pub(super) async fn chores(&self, record: &DeploymentRecord) -> Result<()> {
        let mut journal = self.journal(record).after_the_end();
        let highest = self.highest_fence(record.scope(), &mut journal).await?;
        journal.take_silently(highest).await?;
        let failback = match self.fail_back(record).await {
            // It will not be otherwise the next time.
            Err(e) if matches!(e.consequence(), Consequence::StopDeployment | Consequence::NextTarget) => {
                tracing::warn!(deployment = %record.id(), error = %e, "it cannot go back to the preferred target");
                None
            }
            failback => failback?,
        };
        let sweep = self.sweep(record, &mut journal).await?;
        journal.release(failback.into_iter().chain(sweep).min()).await
    }

    /// Removes what the deployment left on targets that do not serve it; when to come again, if one could not be asked.
    async fn sweep(&self, record: &DeploymentRecord, journal: &mut Journal) -> Result<Option<Timestamp>> {
        let (now, strategy) = (self.parts.clock.now(), &self.parts.strategy);
        let ended = record.events().iter().rev().find(|e| matches!(e.event, DeploymentEvent::Ended { .. }));
        let Some(ended) = ended.map(|e| e.at) else { return Ok(None) };
        let late = ended.plus(strategy.late_arrivals);
        let mut targets = self.to_sweep(record.events().iter().map(|e| &e.event));
        if targets.is_empty()
            && let Some(DeploymentEnd::Active { target, .. }) = record.end()
            && self.takes_old_fences(target)
        {
            // Somebody made it live once more, which the record does not tell.
            targets.insert(target.clone());
        }
        if targets.is_empty() || late > now {
            return Ok((!targets.is_empty()).then_some(late));
        }
        let mut again: Option<Timestamp> = None;
        for name in targets {
            let wait = match self.sweep_target(record, &name, journal).await {
                Ok(Answers::All) => {
                    journal.note(DeploymentEvent::Swept { target: name });
                    continue;
                }
                Ok(Answers::NotAll) => strategy.late_arrivals,
                Err(e) => {
                    tracing::warn!(deployment = %record.id(), target = %name, error = %e, "a target could not be swept");
                    now.since(ended).max(strategy.late_arrivals)
                }
            };
            let still = now.since(ended) < GIVE_UP_SWEEPING;
            again = again.into_iter().chain(still.then(|| now.plus(wait))).min();
        }
        Ok(again)
    }

    /// Where something of a deployment may be left behind, or come late and take the traffic of what is newer.
    pub(super) fn to_sweep<'e>(
        &self,
        events: impl Iterator<Item = &'e DeploymentEvent> + Clone,
    ) -> BTreeSet<BackendName> {
        let mut targets = leftovers(events.clone());
        targets.extend(unanswered(events).into_iter().filter(|name| self.takes_old_fences(name)));
        targets
    }

    fn takes_old_fences(&self, name: &BackendName) -> bool {
        self.target(name).is_ok_and(|target| target.info().fencing == Fencing::Observed)
    }

    async fn sweep_target(
        &self,
        record: &DeploymentRecord,
        name: &BackendName,
        journal: &mut Journal,
    ) -> Result<Answers> {
        let (parts, id, scope) = (&*self.parts, record.id(), record.scope());
        let (clock, limit) = (&*parts.clock, parts.strategy.attempt_timeout);
        let target = self.target(name)?;
        journal.keep().await?;
        let observed = timeout(clock, limit, target.observe(scope)).await?;
        let routed = parts.routes.get(scope).await?.filter(|route| route.target == *name);
        let is_live = |one: DeploymentId| routed.as_ref().is_some_and(|route| route.deployment == one);
        // What was live here is kept as long as others that were.
        let was_live = matches!(record.end(), Some(DeploymentEnd::Active { target, .. }) if target == name);
        let goes = |one: DeploymentId, state| {
            let (this, previous) = (one == id, state == ObservedState::Previous);
            one <= id && !is_live(one) && if this { !(was_live && previous) } else { !previous }
        };
        let mut answers = Answers::All;
        // What is newer is swept by its own record; what this or an older one left here, if it is not live, by this one.
        let left = observed.iter().filter_map(|o| Some((o.id?, o.state))).filter(|(one, state)| goes(*one, *state));
        for (one, state) in left {
            if let Some(route) = routed.as_ref().filter(|_| state == ObservedState::Active) {
                // It came late and took the traffic of what is live.
                let fence = journal.fence();
                journal.due_if_broken_off(clock.now().plus(parts.strategy.late_arrivals));
                let remade = self.make_live_again(scope, route, fence, journal).await?;
                answers = answers.and(remade.answers());
                remade.ok()?;
                if one == id && was_live {
                    continue;
                }
            }
            journal.keep().await?;
            timeout(clock, limit, target.remove(scope, Removal::Only(one))).await?;
        }
        Ok(answers)
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
