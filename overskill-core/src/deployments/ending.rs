//! How a drive stops: at an end, with a question, in the line, or after a rollback.

use super::{
    DeploymentRecord, Deployments, Failback, Outcome,
    admission::{Ask, Busy},
    attempt::{Drove, set_route},
    drive::never_otherwise,
    journal::Journal,
    record::{is_in_doubt, may_serve, unanswered},
    service::{PAGE, owner, unreadable, word},
};
use crate::{
    AppFacts, BackendName, DeployRequest, DeploymentEnd, DeploymentEvent, DeploymentId, DeploymentTarget, Digest,
    Doubt, Effect, Error, ErrorKind, Fence, Fencing, Handle, Notice, Observed, ObservedState, OperatorChoice, Progress,
    ProgressKind, Removal, Result, Route, Scope, TargetStatus, Timestamp, instruments, timeout, urgently,
};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

/// What came of making a version live again.
pub(super) enum Remade {
    Live(Answers),
    /// Something newer was routed meanwhile.
    Overtaken,
    /// The target does not take it, or there is nothing to give it.
    Failed(Error),
}

/// Whether every activation was answered. One that was not may happen yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    All,
    NotAll,
}

/// All that is known of a deployment: what its record had before this drive, and what this drive added.
fn story<'a>(record: &'a DeploymentRecord, journal: &'a Journal) -> impl Iterator<Item = &'a DeploymentEvent> + Clone {
    record.events().iter().map(|e| &e.event).chain(journal.history())
}

/// Whether something else of ours has the traffic of what the route names.
pub(super) fn serves_another(observed: &[Observed], route: &Route) -> bool {
    let another = |o: &Observed| o.state == ObservedState::Active && o.id.is_some_and(|id| id != route.deployment);
    observed.iter().any(another)
}

impl Remade {
    /// The same, where a failure is one of the caller.
    pub(super) fn ok(self) -> Result<bool> {
        match self {
            Self::Live(_) => Ok(true),
            Self::Overtaken => Ok(false),
            Self::Failed(e) => Err(e),
        }
    }

    pub(super) fn answers(&self) -> Answers {
        if let Self::Live(answers) = self { *answers } else { Answers::NotAll }
    }
}

impl Deployments {
    /// Records the end, with when what it may have left behind is to be swept.
    pub(super) async fn end(
        &self,
        record: &DeploymentRecord,
        mut journal: Journal,
        end: DeploymentEnd,
        progress: &Progress,
    ) -> Result<Outcome> {
        let (parts, id, scope) = (&*self.parts, record.id(), record.scope());
        if !journal.is_leased() {
            let highest = self.highest_fence(scope, &mut journal).await?;
            journal.take(highest).await?;
        }
        if !matches!(end, DeploymentEnd::Active { .. }) {
            self.undo_unrouted(record, Some(&end), &mut journal).await?;
        }
        journal.note(DeploymentEvent::Ended { end: end.clone() });
        let history: Vec<_> = story(record, &journal).collect();
        let built = history.iter().find_map(|event| match event {
            DeploymentEvent::Built { digest, .. } => Some(*digest),
            _ => None,
        });
        let now = parts.clock.now();
        // What is not live holds its artifact for nothing, should nobody get as far as to say so below. Whoever built it may
        // have died before they wrote that they did.
        let holds = match (&end, built) {
            (DeploymentEnd::Active { .. }, _) => false,
            (_, Some(_)) => true,
            _ => parts.bundles.holding(&[id]).await.map_or(true, |holding| !holding.is_empty()),
        };
        let comes_again = holds || !self.to_sweep(history.into_iter()).is_empty();
        let sweep = comes_again.then(|| now.plus(parts.strategy.late_arrivals));
        let fell_back = match &end {
            DeploymentEnd::Active { target, .. } => self.fell_back(scope, built, target).await,
            _ => false,
        };
        let failback = match parts.strategy.failback {
            Failback::After(wait) if fell_back => Some(now.plus(wait)),
            _ => None,
        };
        // Under the first fence of a scope nothing came before.
        let is_first = journal.fence() == Fence::ZERO.next();
        let release = journal.release(sweep.into_iter().chain(failback).min());
        let (released, surplus) = if matches!(end, DeploymentEnd::Active { .. }) && !is_first {
            futures::join!(release, self.surplus(scope, id))
        } else {
            (release.await, Ok(Vec::new()))
        };
        released?;
        self.admission.leave(&owner(record), id);
        metrics::counter!(instruments::DEPLOYMENTS_TOTAL, "outcome" => word(&end)).increment(1);
        if matches!(end, DeploymentEnd::Active { .. }) {
            self.retire(scope, surplus).await;
        } else {
            self.let_go(id).await;
        }
        match &end {
            DeploymentEnd::Active { .. } => progress.complete("Deployed"),
            DeploymentEnd::Superseded { .. } => progress.complete("A newer deployment took its place"),
            _ => progress
                .fail(&Error::new(ErrorKind::Unavailable, "the deployment failed").public("The deployment failed.")),
        }
        let (deployment, scope) = (id, scope.clone());
        self.tell(match &end {
            DeploymentEnd::Active { target, .. } if fell_back => {
                Some(Notice::FellBack { deployment, scope, target: target.clone() })
            }
            DeploymentEnd::Failed { reason } | DeploymentEnd::RolledBack { reason, .. } => {
                Some(Notice::DeploymentFailed { deployment, scope, reason: reason.clone() })
            }
            _ => None,
        })
        .await;
        Ok(end.into())
    }

    /// What was activated and is not live at the `end`, or while it waits, must not have the traffic until a sweep: what the
    /// route names gets it back; at the end, without a route, nothing has it. What was never answered is fenced out, where the target can.
    /// A target that cannot be asked now is left to whoever looks next.
    async fn undo_unrouted(
        &self,
        record: &DeploymentRecord,
        end: Option<&DeploymentEnd>,
        journal: &mut Journal,
    ) -> Result<()> {
        let (parts, scope) = (&*self.parts, record.scope());
        if journal.history().any(|event| matches!(event, DeploymentEvent::RollingBack { .. })) {
            return Ok(()); // that was tried just now
        }
        let begun = story(record, journal).filter_map(|event| match event {
            DeploymentEvent::Activating { target, fence } => Some((target.clone(), *fence)),
            _ => None,
        });
        let begun: Vec<_> = begun.collect();
        // At the end, what is still open was not answered either.
        let ended = end.map(|end| DeploymentEvent::Ended { end: end.clone() });
        let unanswered = unanswered(story(record, journal).chain(&ended));
        let mut targets = may_serve(story(record, journal));
        targets.extend(unanswered.iter().cloned());
        if targets.is_empty() {
            return Ok(());
        }
        let route = parts.routes.get(scope).await?;
        if route.as_ref().is_some_and(|route| route.fence > journal.fence()) {
            return Ok(()); // set since, by somebody who knows better what has to serve
        }
        if route.is_none() && end.is_none() {
            return Ok(()); // nobody is sent there yet, and it may be what goes live
        }
        targets.retain(|name| route.as_ref().is_none_or(|route| route.target == *name));
        for name in targets {
            journal.keep().await?;
            let under = begun.iter().filter(|(target, _)| *target == name).map(|(_, fence)| *fence);
            let may_come = under.max().filter(|_| unanswered.contains(&name));
            let undoing = Box::pin(self.undo_on(&name, record, route.as_ref(), may_come, journal));
            let undone = urgently(undoing).await;
            if let Err(e) = undone {
                tracing::warn!(deployment = %record.id(), target = %name, error = %e, "it may have traffic until a sweep");
                journal.note(DeploymentEvent::Unsettled { target: name });
            }
        }
        Ok(())
    }

    async fn undo_on(
        &self,
        name: &BackendName,
        record: &DeploymentRecord,
        route: Option<&Route>,
        may_come: Option<Fence>,
        journal: &mut Journal,
    ) -> Result<()> {
        let (scope, limit, target) = (record.scope(), self.parts.strategy.attempt_timeout, self.target(name)?);
        let Some(route) = route else {
            let remove = target.remove(scope, Removal::Only(record.id()));
            return journal.ask(name, "remove", limit, remove).await;
        };
        let observed = journal.ask(name, "observe", limit, target.observe(scope)).await?;
        let is_fenced_out = |fence| {
            let above = |o: &Observed| o.state == ObservedState::Active && o.fence.is_some_and(|it| it > fence);
            target.info().fencing != Fencing::Enforced || observed.iter().any(above)
        };
        if serves_another(&observed, route) || may_come.is_some_and(|fence| !is_fenced_out(fence)) {
            // That of this drive may be the one of what is to be undone.
            let highest = observed.iter().filter_map(|o| o.fence).fold(journal.fence(), Fence::max);
            let fence = journal.take(highest).await?;
            if self.make_live_again(scope, route, fence, journal).await?.ok()? {
                journal.note(DeploymentEvent::GaveWay { target: name.clone(), to: route.deployment, fence });
            }
        }
        Ok(())
    }

    /// Records a question, and tells whoever is to be told.
    pub(super) async fn ask(
        &self,
        record: &DeploymentRecord,
        mut journal: Journal,
        about: Doubt,
        question: String,
        progress: &Progress,
    ) -> Result<Outcome> {
        let (id, strategy) = (record.id(), &self.parts.strategy);
        let choices = match &about {
            Doubt::Permission => vec![OperatorChoice::Approve, OperatorChoice::Abort],
            Doubt::Unsettled(_) => vec![OperatorChoice::Approve, OperatorChoice::Retry, OperatorChoice::Abort],
            Doubt::NobodyTook | Doubt::NotRolledBack => vec![OperatorChoice::Retry, OperatorChoice::Abort],
        };
        if journal.is_leased() {
            self.undo_unrouted(record, None, &mut journal).await?;
        }
        let now = self.parts.clock.now();
        let deadline = now.plus(strategy.answer_within());
        // What may run it, or turn up, is looked at before there is an answer.
        let late = is_in_doubt(story(record, &journal)).then(|| now.plus(strategy.late_arrivals));
        let due = late.map_or(deadline, |late| late.min(deadline));
        journal.note(DeploymentEvent::AwaitingOperator {
            about,
            question: question.clone(),
            choices: choices.clone(),
            deadline,
        });
        journal.release(Some(due)).await?;
        self.admission.leave(&owner(record), id);
        let details = json!({ "choices": choices, "deadline": deadline });
        progress.event(ProgressKind::ApprovalRequired, "awaiting_operator", "Waiting for an answer", details);
        let (deployment, scope) = (id, record.scope().clone());
        self.tell(Some(Notice::AwaitingOperator {
            deployment,
            scope,
            question: question.clone(),
            choices: choices.clone(),
            deadline,
        }))
        .await;
        Ok(Outcome::AwaitingOperator { question, choices, deadline })
    }

    /// Records that no target can take it now, unless that is known, and puts it in the line.
    pub(super) async fn wait(
        &self,
        record: &DeploymentRecord,
        mut journal: Journal,
        busy: Busy,
        progress: &Progress,
    ) -> Result<Timestamp> {
        self.admission.wait(&busy.line, &owner(record), record.id());
        let known = record.waits_until().filter(|until| *until > self.parts.clock.now());
        if known.is_none() || journal.is_leased() || journal.has_notes() {
            progress.log("Waiting for its turn");
            if journal.is_leased() {
                self.undo_unrouted(record, None, &mut journal).await?;
            }
            // In a long line nobody has to look at each of them all the time.
            let now = self.parts.clock.now();
            let mut until = busy.until.max(now.plus(self.admission.time_in_line(&busy.line)));
            if is_in_doubt(story(record, &journal)) {
                // What may run it, or turn up, is looked at meanwhile.
                until = until.min(now.plus(self.parts.strategy.late_arrivals));
            }
            journal.note(DeploymentEvent::Waiting { reason: busy.reason, until });
            journal.release(Some(until)).await?;
        }
        Ok(busy.until)
    }

    /// Makes the version before live again. What is not well has the traffic of `target`, and no route.
    pub(super) async fn roll_back(
        &self,
        record: &DeploymentRecord,
        journal: &mut Journal,
        target: BackendName,
        why: String,
    ) -> Result<Drove> {
        let (parts, scope) = (&*self.parts, record.scope());
        let reason = format!("{target}: it is not well: {why}");
        let fence = journal.take(journal.fence()).await?;
        let Some(before) = parts.routes.get(scope).await? else {
            return Ok(Drove::Ended(DeploymentEnd::Failed { reason: format!("{reason}; nothing was live before") }));
        };
        let to = before.deployment;
        if before.target != target {
            // The other target serves it all the time.
            return Ok(Drove::Ended(DeploymentEnd::RolledBack { to, reason }));
        }
        journal.note(DeploymentEvent::RollingBack { target: target.clone(), to, fence });
        journal.keep().await?;
        match self.make_live_again(scope, &before, fence, journal).await? {
            Remade::Live(_) => Ok(Drove::Ended(DeploymentEnd::RolledBack { to, reason })),
            Remade::Overtaken => Ok(Drove::Ended(DeploymentEnd::Superseded { by: None })),
            Remade::Failed(e) => {
                let question = format!("{reason}; and {to} could not be made live again: {e}");
                tracing::error!(deployment = %record.id(), error = %e, "a rollback failed");
                if parts.strategy.ask_within.is_some() {
                    return Ok(Drove::Asks(Doubt::NotRolledBack, question));
                }
                Ok(Drove::Ended(DeploymentEnd::Failed { reason: question }))
            }
        }
    }

    /// Activates what a route names once more, under a new fence, and points the route to it. An error means that a store
    /// could not be reached: whoever goes on tries again.
    pub(super) async fn make_live_again(
        &self,
        scope: &Scope,
        route: &Route,
        fence: Fence,
        journal: &mut Journal,
    ) -> Result<Remade> {
        let parts = &*self.parts;
        let target = match self.target(&route.target) {
            Ok(target) => target,
            Err(e) => return Ok(Remade::Failed(e)),
        };
        let record = self.read(route.deployment).await?;
        let (Some(digest), Some(env)) = (record.digest(), record.env()) else {
            return Ok(Remade::Failed(unreadable(route.deployment)));
        };
        let artifact = match parts.bundles.get(scope, digest).await {
            Err(e) if never_otherwise(&e) => return Ok(Remade::Failed(e)),
            artifact => artifact?,
        };
        let Some(artifact) = artifact else {
            return Ok(Remade::Failed(Error::not_found("its artifact is not kept any more")));
        };
        let env = match parts.env.get(scope, env).await {
            Err(e) if never_otherwise(&e) => return Ok(Remade::Failed(e)),
            env => Arc::new(env?),
        };
        let request =
            DeployRequest::new(route.deployment, scope.clone(), artifact, env).under(fence).limits(record.limits());
        let (mut tries, mut answers) = (0, Answers::All);
        let handle = loop {
            tries += 1;
            journal.keep().await?;
            let again = Box::pin(self.activate_once(&*target, &request, fence, journal, &mut answers));
            match urgently(again).await {
                Ok(handle) => break handle,
                Err(e) if tries < parts.strategy.tries_per_target.get() && e.kind() != ErrorKind::Conflict => {
                    tracing::warn!(deployment = %route.deployment, error = %e, "a version could not be made live again");
                    parts.clock.sleep(parts.strategy.first_wait).await;
                }
                Err(e) => return Ok(Remade::Failed(e)),
            }
        };
        journal.keep().await?;
        let again = Route::new(route.target.clone(), route.deployment, handle, fence);
        let set = journal.acting(set_route(&*parts.routes, scope, &again)).await?;
        Ok(if set { Remade::Live(answers) } else { Remade::Overtaken })
    }

    async fn activate_once(
        &self,
        target: &dyn DeploymentTarget,
        request: &DeployRequest,
        fence: Fence,
        journal: &mut Journal,
        answers: &mut Answers,
    ) -> Result<Handle> {
        let (info, limit, clock) = (target.info(), self.parts.strategy.attempt_timeout, &self.parts.clock);
        let name = &info.name;
        self.admission.count(&info, clock.now());
        let staged = journal.ask(name, "stage", limit, target.stage(request)).await;
        self.admission.learned(name, Ask::Stage, staged.as_ref().err(), clock.now());
        let staged = staged?;
        journal.keep().await?;
        let activated = journal.ask(name, "activate", limit, target.activate(request, &staged, fence)).await;
        self.admission.learned(name, Ask::Activate, activated.as_ref().err(), clock.now());
        match activated {
            Err(e) if e.effect() == Effect::Unknown => {
                journal.keep().await?;
                let status = target.status(request.scope(), request.id(), fence);
                if let Ok(TargetStatus::Landed(handle)) = journal.ask(name, "status", limit, status).await {
                    return Ok(handle);
                }
                *answers = Answers::NotAll;
                Err(e)
            }
            other => other,
        }
    }

    /// Versions that are too many once `live` is and that nobody let go of, and where they are, the newest first. In general
    /// it is one; what could not be let go of when it was its turn still holds its artifact.
    async fn surplus(&self, scope: &Scope, live: DeploymentId) -> Result<Vec<(DeploymentId, BackendName)>> {
        let parts = &*self.parts;
        // Failures do not crowd out what is kept for ever: what is further back waits for a better day.
        let page = parts.store.list(scope, None, PAGE.saturating_mul(parts.strategy.keep)).await?;
        // What is newer went live while this one's end was not written yet, and may be what is live.
        let older = page.items.into_iter().filter(|summary| summary.id < live);
        let were_live = older.filter_map(|summary| match summary.end {
            Some(DeploymentEnd::Active { target, .. }) => Some((summary.id, target)),
            _ => None,
        });
        let mut surplus: Vec<_> = were_live.skip(parts.strategy.keep.get() as usize - 1).collect();
        if !surplus.is_empty() {
            let ids: Vec<_> = surplus.iter().map(|(id, _)| *id).collect();
            let holding = parts.bundles.holding(&ids).await?;
            surplus.retain(|(id, _)| holding.contains(id));
        }
        Ok(surplus)
    }

    /// Lets go of versions that are too many: of the artifact last, for it tells that there is something to let go of.
    async fn retire(&self, scope: &Scope, surplus: Result<Vec<(DeploymentId, BackendName)>>) {
        let retire = async {
            let (parts, mut away) = (&*self.parts, BTreeMap::new());
            for (id, name) in surplus? {
                if away.contains_key(&name) {
                    continue; // it did not remove the one before, and is not asked to remove the next
                }
                if let Ok(target) = self.target(&name) {
                    let remove = target.remove(scope, Removal::Only(id));
                    match timeout(&*parts.clock, parts.strategy.attempt_timeout, remove).await {
                        // Where there is but one place, what was there is gone already.
                        Err(e) if e.kind() != ErrorKind::Unsupported => {
                            away.insert(name, e);
                            continue;
                        }
                        _ => {}
                    }
                }
                parts.bundles.release(id, parts.clock.now()).await?;
            }
            away.into_values().next().map_or(Ok(()), Err)
        };
        if let Err(e) = retire.await {
            tracing::warn!(%scope, error = %e, "an old version is kept for nothing");
        }
    }

    /// The target that an app with this artifact goes to first, if one suits it.
    pub(super) async fn preferred(
        &self,
        scope: &Scope,
        digest: Option<Digest>,
    ) -> Result<Option<Arc<dyn DeploymentTarget>>> {
        let strategy = &self.parts.strategy;
        if !strategy.places_by_app() {
            return Ok(strategy.targets().first().cloned());
        }
        let Some(digest) = digest else { return Ok(None) };
        let artifact = self.parts.bundles.get(scope, digest).await?;
        Ok(artifact.and_then(|artifact| strategy.targets_for(&AppFacts::of(&artifact)).into_iter().next()))
    }

    /// Whether that is not the target that the app goes to first.
    async fn fell_back(&self, scope: &Scope, digest: Option<Digest>, target: &BackendName) -> bool {
        let preferred = self.preferred(scope, digest).await;
        preferred.is_ok_and(|preferred| preferred.is_some_and(|preferred| preferred.info().name != *target))
    }

    pub(super) fn target(&self, name: &BackendName) -> Result<Arc<dyn DeploymentTarget>> {
        let found = self.parts.strategy.registered().iter().find(|target| target.info().name == *name);
        found.cloned().ok_or_else(|| Error::not_found("the strategy has no such target any more").with("target", name))
    }

    async fn tell(&self, notice: Option<Notice>) {
        if let (Some(notice), Some(notifier)) = (notice, &self.parts.strategy.notifier) {
            // That nobody could be told changes nothing of what happened.
            let told = timeout(&*self.parts.clock, self.parts.strategy.attempt_timeout, notifier.notify(&notice)).await;
            if let Err(e) = told {
                tracing::warn!(error = %e, "a notice could not be delivered");
            }
        }
    }
}
