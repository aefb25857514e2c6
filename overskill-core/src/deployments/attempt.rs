use super::{
    DeploymentStrategy, Fallback,
    admission::{Admission, Ask, Busy},
    journal::Journal,
};
use crate::{
    AttemptOutcome, BackendName, Clock, Consequence, DeployRequest, DeploymentEnd, DeploymentEvent, DeploymentTarget,
    Doubt, Effect, Error, ErrorKind, Failure, Fence, Handle, Ids, Observed, ObservedState, ProgressKind, Result,
    RetryPolicy, Route, RouteTable, Staged, TargetInfo, TargetStatus,
    instruments::{self, Timer},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// One deployment, brought to an end under its lease.
pub(super) struct Attempts<'a> {
    pub(super) strategy: &'a DeploymentStrategy,
    /// The strategy's targets for this app, in order; those that an operator gave up are not among them.
    pub(super) targets: Vec<Arc<dyn DeploymentTarget>>,
    pub(super) admission: &'a Admission,
    pub(super) routes: &'a dyn RouteTable,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) ids: &'a Arc<dyn Ids>,
    pub(super) request: DeployRequest,
    pub(super) journal: &'a mut Journal,
    pub(super) fence: Fence,
    pub(super) before: Before,
    /// The activation that the record says began and does not say how it ended: whoever drove it before crashed.
    pub(super) open: Option<(BackendName, Fence)>,
    /// Targets that may serve it, by what the record says, and that no operator gave up.
    pub(super) held: BTreeSet<BackendName>,
    /// Whether it still waits for targets that are down.
    pub(super) patient: bool,
    /// The target that was found to serve it: it is asked whether or not it is busy, for it has the traffic already.
    pub(super) adopted: Option<BackendName>,
    /// Whether that is done; it was tried often enough otherwise, and waits for its turn like anything else.
    pub(super) hurries: bool,
}

/// Which target is routed to until this deployment's is.
pub(super) enum Before {
    /// This one, or none.
    Known(Option<BackendName>),
    /// Somebody may have changed it.
    ToBeRead,
}

/// How a drive ended.
#[derive(Debug)]
pub(super) enum Drove {
    /// For good.
    Ended(DeploymentEnd),
    /// With a question.
    Asks(Doubt, String),
    /// It has the traffic and is not well.
    Unwell { target: BackendName, why: String },
    /// No target can take it now.
    Waits(Busy),
}

/// How asking one target ended.
enum Asked {
    Landed(Handle),
    Superseded,
    /// Nothing of ours serves there, but the next target may take it.
    Next(Error),
    /// It may not be asked now.
    Busy(Busy),
    /// The staged version is not well: the app's fault.
    Unwell(String),
    /// It could not be found out whether it serves there.
    Unsettled(Error),
    /// No target should be asked.
    Stop(Error),
}

/// How one try at a target failed.
enum Tried {
    Failed(Error),
    Unwell(String),
    Superseded,
    Unsettled(Error),
}

impl Attempts<'_> {
    /// Asks the targets in order until one serves, and points the route to it. An error means that the record could not be
    /// kept: somebody else goes on from it.
    pub(super) async fn run(&mut self) -> Result<Drove> {
        let mut targets = std::mem::take(&mut self.targets);
        if let Some((name, fence)) = self.open.take() {
            self.held.insert(name.clone());
            self.settle_open(&mut targets, name, fence).await?;
        }
        if let Some(doubt) = self.settle_held(&mut targets).await? {
            return Ok(doubt);
        }
        let (mut last, mut busy): (_, Option<Busy>) = (None, None);
        for target in targets {
            let info = target.info();
            let name = info.name.clone();
            match self.ask(&*target, &info).await? {
                Asked::Landed(handle) => return self.go_live(name, handle).await,
                Asked::Superseded => return Ok(Drove::Ended(DeploymentEnd::Superseded { by: None })),
                Asked::Stop(e) => return Ok(failed(format!("{name}: {e}"))),
                Asked::Unwell(why) => return Ok(failed(format!("{name}: it is not well: {why}"))),
                Asked::Next(e) if self.held.contains(&name) => {
                    let fails_all = e.consequence() == Consequence::RetryThenNext;
                    let busy = self.admission.busy(&info, self.clock.now()).filter(|_| fails_all);
                    return Ok(match busy {
                        Some(still) if still.well || self.patient => Drove::Waits(still),
                        _ => self.in_doubt(name, format_args!("it does not take it again: {e}")),
                    });
                }
                Asked::Busy(still) if self.held.contains(&name) => {
                    return Ok(if still.well || self.patient {
                        Drove::Waits(still)
                    } else {
                        self.in_doubt(name, still.reason)
                    });
                }
                Asked::Next(e) => {
                    // It may take it later, if it only asked to be left alone or fails for everybody.
                    if e.consequence() == Consequence::RetryThenNext {
                        let still = self.admission.busy(&info, self.clock.now());
                        busy = Busy::earlier(busy, still);
                    }
                    last = Some((name, e));
                }
                Asked::Busy(still) => busy = Busy::earlier(busy, Some(still)),
                Asked::Unsettled(e) => {
                    self.journal.note(DeploymentEvent::Unsettled { target: name.clone() });
                    if self.strategy.fallback == Fallback::Cautious {
                        return Ok(self.in_doubt(name, e));
                    }
                    last = Some((name, e));
                }
            }
        }
        Ok(match (busy, last) {
            // One that may be asked later may take it yet.
            (Some(busy), _) if busy.well || self.patient => Drove::Waits(busy),
            (_, Some((name, e))) => self.strategy.nobody_took(format!("{name}: {e}")),
            (Some(busy), None) => self.strategy.nobody_took(busy.reason),
            (None, None) => failed("no target of the strategy suits this app".into()),
        })
    }

    /// Asks what became of an activation that a crash left open. If it landed, its target is asked first now, so that it is
    /// adopted under the new fence and no second target gets it.
    async fn settle_open(
        &mut self,
        targets: &mut [Arc<dyn DeploymentTarget>],
        name: BackendName,
        fence: Fence,
    ) -> Result<()> {
        self.journal.keep().await?;
        let Some(place) = place_of(&name, targets) else {
            // The strategy has it no more, so there is nobody to ask.
            self.journal.note(DeploymentEvent::Unsettled { target: name });
            return Ok(());
        };
        let (scope, id) = (self.request.scope(), self.request.id());
        let status = targets[place].status(scope, id, fence);
        match self.journal.ask(&name, "status", self.strategy.attempt_timeout, status).await {
            Ok(TargetStatus::Landed(_)) => {
                self.adopted = Some(name.clone());
                self.journal.note(DeploymentEvent::Observed { target: name, adopted: true });
                targets[..=place].rotate_right(1);
            }
            Ok(_) => self.journal.note(DeploymentEvent::Observed { target: name, adopted: false }),
            Err(_) => self.journal.note(DeploymentEvent::Unsettled { target: name }),
        }
        Ok(())
    }

    /// Under [`Fallback::Cautious`] no target is asked as long as another may serve this version, whenever that was
    /// activated: one that serves it is asked first, and one that cannot be asked is a question.
    async fn settle_held(&mut self, targets: &mut [Arc<dyn DeploymentTarget>]) -> Result<Option<Drove>> {
        if self.strategy.fallback != Fallback::Cautious {
            self.held.clear();
        }
        for name in self.held.clone() {
            self.journal.keep().await?;
            let observed = match place_of(&name, targets) {
                Some(place) => {
                    let observe = targets[place].observe(self.request.scope());
                    self.journal.ask(&name, "observe", self.strategy.attempt_timeout, observe).await.map(|o| (place, o))
                }
                None => Err(Error::not_found("the strategy has it no more, so there is nobody to ask")),
            };
            match observed {
                Ok((place, observed)) => {
                    let ours = |o: &Observed| o.state == ObservedState::Active && o.id == Some(self.request.id());
                    let adopted = observed.iter().any(ours);
                    if adopted {
                        self.adopted = Some(name.clone());
                        targets[..=place].rotate_right(1);
                    } else {
                        self.held.remove(&name);
                    }
                    self.journal.note(DeploymentEvent::Observed { target: name, adopted });
                }
                Err(e) => {
                    self.journal.note(DeploymentEvent::Unsettled { target: name.clone() });
                    return Ok(Some(self.in_doubt(name, e)));
                }
            }
        }
        Ok(None)
    }

    fn in_doubt(&self, target: BackendName, why: impl std::fmt::Display) -> Drove {
        let reason = format!("{target}: it stays unknown whether it runs this version: {why}");
        self.strategy.doubt(Doubt::Unsettled(target), reason)
    }

    async fn ask(&mut self, target: &dyn DeploymentTarget, info: &TargetInfo) -> Result<Asked> {
        if let Err(e) = info.admit(&self.request) {
            self.failed(&info.name, "admit", &e);
            return Ok(Self::asked(e));
        }
        let retry = RetryPolicy::new(self.clock.clone(), self.ids.clone())
            .tries(self.strategy.tries_per_target)
            .waits(self.strategy.first_wait, self.strategy.longest_wait)
            .longest_asked(self.strategy.longest_wait);
        let mut raised = false;
        for attempt in 1.. {
            if self.hurries && self.adopted.as_ref() == Some(&info.name) {
                self.admission.count(info, self.clock.now());
            } else if let Err(busy) = self.admission.enter(info, self.clock.now()) {
                return Ok(Asked::Busy(busy));
            }
            let error = match self.attempt(target, info, attempt).await? {
                Ok(handle) => return Ok(Asked::Landed(handle)),
                Err(Tried::Superseded) if !raised => match self.raise(target).await? {
                    Ok(true) => {
                        raised = true;
                        continue;
                    }
                    Ok(false) => return Ok(Asked::Superseded),
                    // What it has seen is not known, so neither is that something newer is there.
                    Err(e) => e.effect_as(Effect::None),
                },
                Err(Tried::Superseded) => return Ok(Asked::Superseded),
                Err(Tried::Unwell(why)) => return Ok(Asked::Unwell(why)),
                Err(Tried::Unsettled(e)) => return Ok(Asked::Unsettled(e)),
                Err(Tried::Failed(e)) => e,
            };
            match retry.wait(attempt, &error) {
                // What says itself that it may work later is tried again: `NotFound` after staging is, elsewhere it is not.
                Some(wait) if error.consequence() != Consequence::StopDeployment => self.clock.sleep(wait).await,
                _ => return Ok(Self::asked(error)),
            }
        }
        unreachable!("tries end below u32::MAX")
    }

    /// The target knows a higher fence, though the lease is still ours: the store was restored from an older copy, or the
    /// target could not be asked before. Takes the lease anew above what the target has; false if it shows nothing higher,
    /// and an inner error if it could not be asked.
    async fn raise(&mut self, target: &dyn DeploymentTarget) -> Result<Result<bool, Error>> {
        self.journal.keep().await?;
        let (name, observed) = (target.info().name, target.observe(self.request.scope()));
        let observed = match self.journal.ask(&name, "observe", self.strategy.attempt_timeout, observed).await {
            Ok(observed) => observed,
            Err(e) => return Ok(Err(e)),
        };
        let highest = observed.iter().filter_map(|o| o.fence).fold(Fence::ZERO, Fence::max);
        if highest < self.fence {
            return Ok(Ok(false));
        }
        self.fence = self.journal.take(highest).await?;
        self.before = Before::ToBeRead;
        self.request = self.request.clone().under(self.fence);
        Ok(Ok(true))
    }

    fn asked(error: Error) -> Asked {
        match error.consequence() {
            Consequence::StopDeployment => Asked::Stop(error),
            _ => Asked::Next(error),
        }
    }

    /// Stages and activates once. What fails comes out with its effect settled: `Failed` has none.
    async fn attempt(
        &mut self,
        target: &dyn DeploymentTarget,
        info: &TargetInfo,
        attempt: u32,
    ) -> Result<Result<Handle, Tried>> {
        let name = &info.name;
        let (files, bytes) = (self.request.artifact().files(), self.request.artifact().size_bytes());
        let details = json!({ "target": name, "files": files, "bytes": bytes, "attempt": attempt });
        self.tell(40, "staging", format!("Bringing {files} files, {bytes} bytes to {name}"), details);
        self.journal.note(DeploymentEvent::Staging { target: name.clone(), attempt });
        self.journal.keep_unless_fresh().await?;
        let (timer, limit) = (Timer::start(self.clock, instruments::STAGE_SECONDS), self.strategy.attempt_timeout);
        let staged = self.journal.ask(name, "stage", limit, target.stage(&self.request)).await;
        timer.stop_with(&staged);
        self.admission.learned(name, Ask::Stage, staged.as_ref().err(), self.clock.now());
        let staged: Staged = match staged {
            Ok(staged) => staged,
            Err(e) => {
                self.failed(name, "stage", &e);
                // Staging gives no traffic and is safe to repeat, so there is nothing to observe.
                return Ok(Err(Tried::Failed(e.effect_as(Effect::None))));
            }
        };
        self.journal.note(DeploymentEvent::Staged { target: name.clone(), staged: staged.clone() });
        if let Some(gate) = self.strategy.staged_gate.as_ref().filter(|_| info.stages_separately) {
            self.tell(
                50,
                "gate",
                "Looking at it before it has traffic".into(),
                json!({ "target": name, "gate": "staged" }),
            );
            let (limit, journal) = (self.strategy.attempt_timeout, &mut *self.journal);
            let looked = gate.look(&**self.clock, limit, &self.request, &staged.handle, journal).await?;
            let gate = String::from("staged");
            self.journal.note(DeploymentEvent::Gated { target: name.clone(), gate, failure: looked.clone().err() });
            if let Err(why) = looked {
                return Ok(Err(Tried::Unwell(why)));
            }
        }
        self.tell(60, "activating", format!("Activating on {name}"), json!({ "target": name, "fence": self.fence }));
        self.journal.note(DeploymentEvent::Activating { target: name.clone(), fence: self.fence });
        self.journal.keep().await?;
        let activate = target.activate(&self.request, &staged, self.fence);
        let timer = Timer::start(self.clock, instruments::ACTIVATE_SECONDS);
        let activated = self.journal.ask(name, "activate", limit, activate).await;
        timer.stop_with(&activated);
        self.admission.learned(name, Ask::Activate, activated.as_ref().err(), self.clock.now());
        match activated {
            Ok(handle) => {
                self.journal.note(DeploymentEvent::Activated { target: name.clone(), handle: handle.clone() });
                Ok(Ok(handle))
            }
            Err(e) => {
                self.failed(name, "activate", &e);
                self.settle(target, name, e).await
            }
        }
    }

    /// Finds out whether a failed activation landed: by asking, where it may have.
    async fn settle(
        &mut self,
        target: &dyn DeploymentTarget,
        name: &BackendName,
        error: Error,
    ) -> Result<Result<Handle, Tried>> {
        let overtaken = error.kind() == ErrorKind::Conflict;
        if error.effect() == Effect::None && !overtaken {
            // The staged version is gone: the next try stages it again.
            let again = error.kind() == ErrorKind::NotFound;
            return Ok(Err(Tried::Failed(if again { error.retry_as(crate::Retry::Backoff) } else { error })));
        }
        // Both calls may take their whole time: the lease has to last until the second has ended.
        self.journal.keep().await?;
        let (scope, id) = (self.request.scope(), self.request.id());
        let status = target.status(scope, id, self.fence);
        let status = self.journal.ask(name, "status", self.strategy.attempt_timeout, status).await;
        Ok(match status {
            Ok(TargetStatus::Landed(handle)) => {
                self.journal.note(DeploymentEvent::Observed { target: name.clone(), adopted: true });
                Ok(handle)
            }
            Ok(TargetStatus::Superseded) => Err(Tried::Superseded),
            Ok(TargetStatus::Absent) => {
                self.journal.note(DeploymentEvent::Observed { target: name.clone(), adopted: false });
                Err(Tried::Failed(error.effect_as(Effect::None)))
            }
            Err(_) if overtaken => Err(Tried::Failed(error)),
            Err(asking) => Err(Tried::Unsettled(error.with("and_when_asked", asking.kind()))),
        })
    }

    /// Looks at what landed, and points the route to it. Only that makes it live.
    async fn go_live(&mut self, target: BackendName, handle: Handle) -> Result<Drove> {
        if let Some(gate) = &self.strategy.live_gate {
            self.tell(80, "gate", "Looking at it with its traffic".into(), json!({ "target": target, "gate": "live" }));
            let (limit, journal) = (self.strategy.attempt_timeout, &mut *self.journal);
            let looked = gate.look(&**self.clock, limit, &self.request, &handle, journal).await?;
            let gate = String::from("live");
            self.journal.note(DeploymentEvent::Gated { target: target.clone(), gate, failure: looked.clone().err() });
            if let Err(why) = looked {
                return Ok(Drove::Unwell { target, why });
            }
        }
        let before = match std::mem::replace(&mut self.before, Before::ToBeRead) {
            Before::Known(before) => before,
            Before::ToBeRead => self.routes.get(self.request.scope()).await?.map(|route| route.target),
        };
        if let Some(before) = before.filter(|before| *before != target) {
            self.journal.note(DeploymentEvent::Leaving { target: before });
        }
        self.tell(
            90,
            "routing",
            format!("Sending visitors to {target}"),
            json!({ "target": target, "fence": self.fence }),
        );
        self.journal.note(DeploymentEvent::Routing { target: target.clone(), fence: self.fence });
        self.journal.keep_unless_fresh().await?;
        let route = Route::new(target.clone(), self.request.id(), handle.clone(), self.fence);
        if !self.journal.acting(set_route(self.routes, self.request.scope(), &route)).await? {
            // The lease was ours a moment ago, and routes are only set under one: somebody overtook us.
            return Ok(Drove::Ended(DeploymentEnd::Superseded { by: None }));
        }
        Ok(Drove::Ended(DeploymentEnd::Active { target, handle, fence: self.fence }))
    }

    fn failed(&mut self, target: &BackendName, operation: &str, error: &Error) {
        let outcome = match (error.effect(), error.consequence()) {
            (Effect::Unknown, _) => AttemptOutcome::Unknown,
            (_, Consequence::RetryThenNext) => AttemptOutcome::Unavailable,
            _ => AttemptOutcome::Rejected,
        };
        let word = match outcome {
            AttemptOutcome::Unknown => "unknown",
            AttemptOutcome::Unavailable => "unavailable",
            AttemptOutcome::Rejected => "rejected",
        };
        let (kind, details) = (error.kind(), json!({ "target": target, "operation": operation, "outcome": word }));
        self.request.progress().event(
            ProgressKind::Log,
            "failed_try",
            format!("{target}: {operation}: {kind}"),
            details,
        );
        metrics::counter!(instruments::ATTEMPTS_FAILED_TOTAL, "outcome" => word).increment(1);
        tracing::warn!(target = %target, operation, error = %error, "a try at a target failed");
        self.journal.note(DeploymentEvent::AttemptFailed {
            target: target.clone(),
            operation: operation.to_owned(),
            outcome,
            failure: Failure::from(error),
        });
    }

    /// Tells whoever watches how far it has come.
    fn tell(&self, percent: u8, phase: &str, message: String, details: Value) {
        self.request.progress().step(percent, phase, message, details);
    }
}

fn place_of(name: &BackendName, targets: &[Arc<dyn DeploymentTarget>]) -> Option<usize> {
    targets.iter().position(|target| target.info().name == *name)
}

fn failed(reason: String) -> Drove {
    Drove::Ended(DeploymentEnd::Failed { reason })
}

/// Sets a route, asking after a lost answer; false when something newer has been set.
pub(super) async fn set_route(routes: &dyn RouteTable, scope: &crate::Scope, route: &Route) -> Result<bool> {
    match routes.set(scope, route).await {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::Conflict => Ok(false),
        Err(e) if e.effect() == Effect::Unknown => match routes.get(scope).await? {
            Some(now) if now == *route => Ok(true),
            // It did not land: whoever goes on sets it under a fence of their own.
            _ => Err(e),
        },
        Err(e) => Err(e),
    }
}
