use super::{DeploymentStrategy, Fallback, journal::Journal};
use crate::{
    AttemptOutcome, BackendName, Clock, Consequence, DeployRequest, DeploymentEnd, DeploymentEvent, DeploymentTarget,
    Effect, Error, ErrorKind, Failure, Fence, Handle, Ids, Result, RetryPolicy, Route, RouteTable, Staged,
    TargetStatus, instruments, timeout,
};
use std::{future::Future, sync::Arc};

/// One deployment, brought to an end under its lease.
pub(super) struct Attempts<'a> {
    pub(super) strategy: &'a DeploymentStrategy,
    pub(super) routes: &'a dyn RouteTable,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) ids: &'a Arc<dyn Ids>,
    pub(super) request: DeployRequest,
    pub(super) journal: &'a mut Journal,
    pub(super) fence: Fence,
    /// The activation that the record says began and does not say how it ended: whoever drove it before crashed.
    pub(super) open: Option<(BackendName, Fence)>,
}

/// How asking one target ended.
enum Asked {
    Landed(Handle),
    Superseded,
    /// Nothing of ours serves there, but the next target may take it.
    Next(Error),
    /// It could not be found out whether it serves there.
    Unsettled(Error),
    /// No target should be asked.
    Stop(Error),
}

/// How one try at a target failed.
enum Tried {
    Failed(Error),
    Superseded,
    Unsettled(Error),
}

impl Attempts<'_> {
    /// Asks the targets in order until one serves, and points the route to it. An error means that the record could not be
    /// kept: somebody else goes on from it.
    pub(super) async fn run(&mut self) -> Result<DeploymentEnd> {
        let mut targets: Vec<Arc<dyn DeploymentTarget>> = self.strategy.targets().to_vec();
        if let Some((name, fence)) = self.open.take() {
            self.settle_open(&mut targets, name, fence).await?;
        }
        let mut last = None;
        for target in targets {
            let name = target.info().name;
            match self.ask(&*target, &name).await? {
                Asked::Landed(handle) => return self.route(name, handle).await,
                Asked::Superseded => return Ok(DeploymentEnd::Superseded { by: None }),
                Asked::Stop(e) => return Ok(DeploymentEnd::Failed { reason: format!("{name}: {e}") }),
                Asked::Next(e) => last = Some((name, e)),
                Asked::Unsettled(e) => {
                    self.journal.note(DeploymentEvent::Unsettled { target: name.clone() });
                    if self.strategy.fallback == Fallback::Cautious {
                        let reason = format!("{name}: it stays unknown whether it runs this version: {e}");
                        return Ok(DeploymentEnd::Failed { reason });
                    }
                    last = Some((name, e));
                }
            }
        }
        let (name, e) = last.expect("a strategy has a target");
        Ok(DeploymentEnd::Failed { reason: format!("no target took it; the last was {name}: {e}") })
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
        let Some(place) = targets.iter().position(|t| t.info().name == name) else {
            // The strategy has it no more, so there is nobody to ask.
            self.journal.note(DeploymentEvent::Unsettled { target: name });
            return Ok(());
        };
        let (scope, id) = (self.request.scope(), self.request.id());
        let status = targets[place].status(scope, id, fence);
        match timeout(&**self.clock, self.strategy.attempt_timeout, status).await {
            Ok(TargetStatus::Landed(_)) => {
                self.journal.note(DeploymentEvent::Observed { target: name, adopted: true });
                targets[..=place].rotate_right(1);
            }
            Ok(_) => self.journal.note(DeploymentEvent::Observed { target: name, adopted: false }),
            Err(_) => self.journal.note(DeploymentEvent::Unsettled { target: name }),
        }
        Ok(())
    }

    async fn ask(&mut self, target: &dyn DeploymentTarget, name: &BackendName) -> Result<Asked> {
        if let Err(e) = target.info().admit(&self.request) {
            self.failed(name, "admit", &e);
            return Ok(Self::asked(e));
        }
        let retry = RetryPolicy::new(self.clock.clone(), self.ids.clone())
            .tries(self.strategy.tries_per_target)
            .waits(self.strategy.first_wait, self.strategy.longest_wait)
            .longest_asked(self.strategy.longest_wait);
        let mut raised = false;
        for attempt in 1.. {
            let error = match self.attempt(target, name, attempt).await? {
                Ok(handle) => return Ok(Asked::Landed(handle)),
                Err(Tried::Superseded) if !raised && self.raise(target).await? => {
                    raised = true;
                    continue;
                }
                Err(Tried::Superseded) => return Ok(Asked::Superseded),
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
    /// target could not be asked before. Takes the lease anew above what the target has; false if it shows nothing higher.
    async fn raise(&mut self, target: &dyn DeploymentTarget) -> Result<bool> {
        self.journal.keep().await?;
        let observed = target.observe(self.request.scope());
        let observed = timeout(&**self.clock, self.strategy.attempt_timeout, observed).await.unwrap_or_default();
        let highest = observed.iter().filter_map(|o| o.fence).fold(Fence::ZERO, Fence::max);
        if highest < self.fence {
            return Ok(false);
        }
        self.fence = self.journal.take(highest).await?;
        self.request = self.request.clone().under(self.fence);
        Ok(true)
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
        name: &BackendName,
        attempt: u32,
    ) -> Result<Result<Handle, Tried>> {
        self.journal.note(DeploymentEvent::Staging { target: name.clone(), attempt });
        self.journal.keep().await?;
        let staged: Staged = match self.timed(instruments::STAGE_SECONDS, target.stage(&self.request)).await {
            Ok(staged) => staged,
            Err(e) => {
                self.failed(name, "stage", &e);
                // Staging gives no traffic and is safe to repeat, so there is nothing to observe.
                return Ok(Err(Tried::Failed(e.effect_as(Effect::None))));
            }
        };
        self.request.progress().at(60, "activating", format!("Activating on {name}"));
        self.journal.note(DeploymentEvent::Staged { target: name.clone(), staged: staged.clone() });
        self.journal.note(DeploymentEvent::Activating { target: name.clone(), fence: self.fence });
        self.journal.keep().await?;
        let activate = target.activate(&self.request, &staged, self.fence);
        match self.timed(instruments::ACTIVATE_SECONDS, activate).await {
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
        let status = timeout(&**self.clock, self.strategy.attempt_timeout, target.status(scope, id, self.fence)).await;
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

    /// Points the route to what landed. Only that makes it live.
    async fn route(&mut self, target: BackendName, handle: Handle) -> Result<DeploymentEnd> {
        self.journal.note(DeploymentEvent::Routing { target: target.clone(), fence: self.fence });
        self.journal.keep().await?;
        let (scope, id) = (self.request.scope(), self.request.id());
        let route = Route::new(target.clone(), id, handle.clone(), self.fence);
        match self.routes.set(scope, &route).await {
            Ok(()) => {}
            // The lease was ours a moment ago, and routes are only set under one: somebody overtook us.
            Err(e) if e.kind() == ErrorKind::Conflict => return Ok(DeploymentEnd::Superseded { by: None }),
            Err(e) if e.effect() == Effect::Unknown => match self.routes.get(scope).await? {
                Some(now) if now == route => {}
                // It did not land: whoever goes on sets it under a fence of their own.
                _ => return Err(e),
            },
            Err(e) => return Err(e),
        }
        Ok(DeploymentEnd::Active { target, handle, fence: self.fence })
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
        metrics::counter!(instruments::ATTEMPTS_FAILED_TOTAL, "outcome" => word).increment(1);
        tracing::warn!(target = %target, operation, error = %error, "a try at a target failed");
        self.journal.note(DeploymentEvent::AttemptFailed {
            target: target.clone(),
            operation: operation.to_owned(),
            outcome,
            failure: Failure::from(error),
        });
    }

    async fn timed<T>(&self, name: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let timer = instruments::Timer::start(self.clock, name);
        let result = timeout(&**self.clock, self.strategy.attempt_timeout, call).await;
        timer.stop_with(&result);
        result
    }
}
