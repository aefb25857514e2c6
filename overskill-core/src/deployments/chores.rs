//! What remains to be done after the end: removing what came late, and going back to the preferred target.

use super::{
    DeploymentRecord, Deployments, Failback,
    ending::{Answers, serves_another},
    journal::Journal,
    record::{leftovers, unanswered},
    service::PAGE,
};
use crate::{
    Actor, BackendName, Commit, Consequence, DeploymentEnd, DeploymentEvent, DeploymentId, DeploymentSource, ErrorKind,
    Fence, Fencing, LeaseChange, NewDeployment, Observed, ObservedState, Removal, Result, Route, Scope, Timestamp,
    timeout, urgently,
};
use std::{collections::BTreeSet, time::Duration};

/// After this long a target that cannot be asked is left to an operator: the record names it.
const GIVE_UP_SWEEPING: Duration = Duration::from_hours(24 * 7);
/// The longest until a target that could not be asked is asked again.
const LONGEST_UNTIL_SWEPT: Duration = Duration::from_hours(1);

/// What a sweep left on a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// What the target does not remove apart from everything else.
    ForGood,
}

impl DeploymentRecord {
    /// Whether it only goes back to the preferred target: what it brings is live elsewhere.
    pub(super) fn is_failback(&self) -> bool {
        matches!(self.actor(), Some(Actor::System(name)) if name == Actor::FAILBACK)
    }
}

impl Deployments {
    /// Does what is due for a deployment that has ended, and says when there is more.
    pub(super) async fn chores(&self, record: &DeploymentRecord) -> Result<()> {
        if !matches!(record.end(), Some(DeploymentEnd::Active { .. })) {
            // Whoever ended it may not have come so far.
            self.parts.bundles.release(record.id(), self.parts.clock.now()).await?;
            if self.to_sweep(record.events().iter().map(|e| &e.event)).is_empty() {
                return self.journal(record).release(None).await;
            }
        }
        let mut journal = self.lease_silently(record).await?;
        match self.due_chores(record, &mut journal).await {
            Ok(due) => journal.release(due).await,
            Err(e) => {
                // Nobody else of the scope has to wait until the lease runs out.
                journal.break_off().await?;
                Err(e)
            }
        }
    }

    /// The lease of the scope of one that has ended, or waits for an answer, without a word in its record.
    pub(super) async fn lease_silently(&self, record: &DeploymentRecord) -> Result<Journal> {
        let mut journal = self.journal(record).silent();
        let highest = self.highest_fence(record.scope(), &mut journal).await?;
        journal.take_silently(highest).await?;
        Ok(journal)
    }

    async fn due_chores(&self, record: &DeploymentRecord, journal: &mut Journal) -> Result<Option<Timestamp>> {
        let failback = match self.fail_back(record).await {
            // It will not be otherwise the next time.
            Err(e) if matches!(e.consequence(), Consequence::StopDeployment | Consequence::NextTarget) => {
                tracing::warn!(deployment = %record.id(), error = %e, "it cannot go back to the preferred target");
                None
            }
            failback => failback?,
        };
        let sweep = self.sweep(record, journal).await?;
        Ok(failback.into_iter().chain(sweep).min())
    }

    /// Removes what the deployment left on targets that do not serve it; when to come again, if one could not be asked.
    async fn sweep(&self, record: &DeploymentRecord, journal: &mut Journal) -> Result<Option<Timestamp>> {
        let (now, strategy) = (self.parts.clock.now(), &self.parts.strategy);
        let Some(ended) = record.ended_at() else { return Ok(None) };
        let late = ended.plus(strategy.late_arrivals);
        let known = self.to_sweep(record.events().iter().map(|e| &e.event));
        let mut targets = known.clone();
        if let Some(DeploymentEnd::Active { target, .. }) = record.end()
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
                Ok((Answers::All, Left::Nothing)) => {
                    if known.contains(&name) {
                        journal.note(DeploymentEvent::Swept { target: name });
                    }
                    continue;
                }
                // It will not be otherwise the next time: the record goes on naming the target.
                Ok((Answers::All, Left::ForGood)) => continue,
                Ok((Answers::NotAll, _)) => strategy.late_arrivals,
                Err(e) => {
                    tracing::warn!(deployment = %record.id(), target = %name, error = %e, "a target could not be swept");
                    let late = strategy.late_arrivals;
                    now.since(ended).clamp(late, late.max(LONGEST_UNTIL_SWEPT))
                }
            };
            // What somebody made live once more may have ended long ago.
            let still = now.since(ended) < GIVE_UP_SWEEPING || !known.contains(&name);
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
    ) -> Result<(Answers, Left)> {
        let (parts, id, scope) = (&*self.parts, record.id(), record.scope());
        let (clock, limit) = (&*parts.clock, parts.strategy.attempt_timeout);
        let target = self.target(name)?;
        journal.keep().await?;
        let observed = timeout(clock, limit, target.observe(scope)).await?;
        let routed = parts.routes.get(scope).await?.filter(|route| route.target == *name);
        let answers = match &routed {
            Some(route) => self.undo_late(scope, route, &observed, journal).await?,
            None => Answers::All,
        };
        // What was live here is kept as long as others that were.
        let was_live = matches!(record.end(), Some(DeploymentEnd::Active { target, .. }) if target == name);
        let goes = |one: DeploymentId, state| {
            let is_live = routed.as_ref().is_some_and(|route| route.deployment == one);
            let kept =
                if one == id { was_live && state != ObservedState::Staged } else { state == ObservedState::Previous };
            one <= id && !is_live && !kept
        };
        // What is newer is swept by its own record; what this or an older one left here, if it is not live, by this one.
        let left = observed.iter().filter_map(|o| Some((o.id?, o.state))).filter(|(one, state)| goes(*one, *state));
        let mut stays = Left::Nothing;
        for (one, _) in left {
            journal.keep().await?;
            match journal.acting(timeout(clock, limit, target.remove(scope, Removal::Only(one)))).await {
                // Whatever else there is goes all the same.
                Err(e) if e.kind() == ErrorKind::Unsupported => {
                    tracing::warn!(deployment = %one, target = %name, error = %e, "a target keeps what is left there");
                    stays = Left::ForGood;
                }
                removed => removed?,
            }
        }
        Ok((answers, stays))
    }

    /// Makes live again what the route names, if something else of ours has its traffic, whenever that came: nobody but the
    /// holder of the scope's lease, which is the caller, may change that.
    async fn undo_late(
        &self,
        scope: &Scope,
        route: &Route,
        observed: &[Observed],
        journal: &mut Journal,
    ) -> Result<Answers> {
        if !serves_another(observed, route) {
            return Ok(Answers::All);
        }
        journal.due_if_broken_off(self.parts.clock.now().plus(self.parts.strategy.late_arrivals));
        let remade = self.make_live_again(scope, route, journal.fence(), journal).await?;
        let answers = remade.answers();
        remade.ok()?;
        Ok(answers)
    }

    /// While a person is asked what is to become of a version that may run somewhere, it may turn up there: what the route
    /// names gets its traffic back.
    pub(super) async fn watch_doubt(&self, record: &DeploymentRecord, deadline: Timestamp) -> Result<()> {
        let (parts, scope) = (&*self.parts, record.scope());
        let mut journal = self.lease_silently(record).await?;
        let watch = async {
            let Some(route) = parts.routes.get(scope).await? else { return Ok(Answers::All) };
            let target = self.target(&route.target)?;
            let observed = timeout(&*parts.clock, parts.strategy.attempt_timeout, target.observe(scope)).await?;
            self.undo_late(scope, &route, &observed, &mut journal).await
        };
        match urgently(watch).await {
            Ok(answers) => {
                let late = parts.clock.now().plus(parts.strategy.late_arrivals);
                let due = if answers == Answers::All { deadline } else { deadline.min(late) };
                match journal.release(Some(due)).await {
                    Err(e) if e.kind() == ErrorKind::Conflict => {
                        self.hand_back(record, journal.fence(), parts.clock.now()).await
                    }
                    released => released,
                }
            }
            Err(e) => {
                // An answer that came meanwhile has added to the record: what goes on from it is not to wait for the lease.
                if journal.break_off().await.is_err() {
                    self.hand_back(record, journal.fence(), parts.clock.now()).await?;
                }
                Err(e)
            }
        }
    }

    /// Gives a lease back, whatever has been added to the record.
    pub(super) async fn hand_back(&self, record: &DeploymentRecord, fence: Fence, due: Timestamp) -> Result<()> {
        let (record, now) = (self.read(record.id()).await?, self.parts.clock.now());
        let commit = Commit::new(record.id(), record.scope().clone(), record.seq(), [], now);
        self.parts.store.commit(&commit.lease(LeaseChange::Release { fence }).due(Some(due))).await.map(drop)
    }

    /// Asks for the same artifact on the preferred target, once it is time; when to look again. As long as that does not
    /// take it, the time until the next try doubles.
    async fn fail_back(&self, record: &DeploymentRecord) -> Result<Option<Timestamp>> {
        let parts = &*self.parts;
        let (Failback::After(wait), Some(DeploymentEnd::Active { target, .. })) =
            (parts.strategy.failback, record.end())
        else {
            return Ok(None);
        };
        let Some(preferred) = self.preferred(record.scope(), record.digest()).await? else { return Ok(None) };
        let live = parts.routes.get(record.scope()).await?;
        if *target == preferred.info().name || live.is_none_or(|route| route.deployment != record.id()) {
            return Ok(None); // somebody deployed since
        }
        let now = parts.clock.now();
        let due = record.ended_at().unwrap_or(now).plus(wait);
        if due > now {
            return Ok(Some(due));
        }
        // What somebody asked for since goes before.
        let newest = parts.store.list(record.scope(), None, PAGE).await?.items;
        if newest.iter().any(|other| other.id > record.id() && other.end.is_none()) {
            return Ok(Some(now.plus(wait)));
        }
        if let Some(busy) = self.admission.all_busy(&[preferred], now) {
            return Ok(Some(busy.until));
        }
        let Some(digest) = record.digest() else { return Ok(None) };
        let back = NewDeployment {
            actor: Actor::System(Actor::FAILBACK.into()),
            scope: record.scope().clone(),
            source: DeploymentSource::Artifact { digest, of: record.id() },
            env: record.env(),
            limits: record.limits(),
            owner: record.owner().cloned(),
            strategy: record.strategy().cloned(),
        };
        match self.request_after(newest.first().map(|newest| newest.id), back).await {
            // Somebody asked for something in between, whatever their clock says.
            Err(e) if e.kind() == ErrorKind::Conflict => Ok(Some(now.plus(wait))),
            asked => asked.map(|_| Some(now.plus(now.since(record.ended_at().unwrap_or(now)).max(wait)))),
        }
    }
}
