//! How a deployment is brought to its end or its stop: what is known, the build, the lease, the targets.

use super::{
    AppFacts, DeploymentRecord, Deployments,
    admission::{Busy, Wants},
    attempt::{Attempts, Before, Drove},
    journal::Journal,
    service::{LONGEST_WAIT, PAGE, built, owner, unreadable},
};
use crate::{
    Artifact, BackendName, BuildMode, BuildRequest, Consequence, DeployRequest, DeploymentEnd, DeploymentEvent,
    DeploymentId, DeploymentSource, DeploymentTarget, Doubt, Error, ErrorKind, Fence, OperatorChoice, Progress, Result,
    Route, Scope, Timestamp, instruments, timeout,
};
use serde_json::json;
use std::sync::Arc;

impl Deployments {
    /// How it ends or stops, once that is certain; it is for the caller to record.
    pub(super) async fn bring_to_end(
        &self,
        record: &DeploymentRecord,
        newest: DeploymentId,
        journal: &mut Journal,
        progress: &Progress,
    ) -> Result<Drove> {
        let (parts, id, scope) = (&*self.parts, record.id(), record.scope());
        let failed = |reason| Ok(Drove::Ended(DeploymentEnd::Failed { reason }));
        if let Some(known) = self.known_already(record, newest, journal).await? {
            return Ok(known);
        }
        // Builds run before the lease: they may take long and touch nothing.
        let artifact = match self.artifact(record, journal, progress).await? {
            Ok(artifact) => artifact,
            Err(reason) => return failed(reason),
        };
        if self.needs_permission(record).await? {
            let question = format!("may {} go live in {}?", short(&artifact), scope.environment);
            return Ok(Drove::Asks(Doubt::Permission, question));
        }
        let env = match parts.env.get(scope, record.env().ok_or_else(|| unreadable(id))?).await {
            Ok(env) => env,
            Err(e) if never_otherwise(&e) => return failed(format!("variables: {e}")),
            Err(e) => return Err(e),
        };
        let (route, routed) = parts.routes.standing(scope).await?;
        match &route {
            Some(route) if route.deployment == id => return Ok(self.live_already(route.clone(), journal)),
            // A newer one was quicker while this one was built.
            Some(Route { deployment, .. }) if *deployment > id => {
                return Ok(Drove::Ended(DeploymentEnd::Superseded { by: Some(*deployment) }));
            }
            _ => {}
        }
        let given_up = |name: &BackendName| {
            record.answers().iter().any(|(about, choice, _)| {
                *choice == OperatorChoice::Approve && matches!(about, Doubt::Unsettled(of) if of == name)
            })
        };
        let mut targets = parts.strategy.targets_for(&AppFacts::of(&artifact));
        targets.retain(|target| !given_up(&target.info().name));
        if record.is_failback()
            && let Some(place) =
                targets.iter().position(|it| route.as_ref().is_some_and(|r| r.target == it.info().name))
        {
            // Where it is live, it need not be brought once more.
            targets.truncate(place);
        }
        let mut held = record.may_serve();
        held.retain(|name| !given_up(name));
        let line = Wants::of(&targets);
        let open = record.open_activation();
        let patient = self.is_patient(record);
        if open.is_none() {
            // What is open is settled at once; everything else keeps its place in the line.
            let now = parts.clock.now();
            if let Some(busy) = self.admission.all_busy(&targets, now) {
                return Ok(if busy.well || patient {
                    self.watch_while_waiting(record).await;
                    Drove::Waits(busy.in_line(line))
                } else {
                    parts.strategy.nobody_took(busy.reason)
                });
            }
            if !self.admission.turn(&line, &owner(record), id, now) {
                self.watch_while_waiting(record).await;
                let (until, reason) = (now.plus(LONGEST_WAIT), "others are before it".into());
                return Ok(Drove::Waits(Busy { until, reason, well: true, line }));
            }
        }
        let highest = self.highest_above(routed, scope, journal).await?;
        let fence = journal.take(highest).await?;
        // Where no fence lies between that of the route and ours, nobody has held the lease since the route was read, and
        // nobody sets routes without it.
        let mut before = Before::Known(route.map(|it| it.target));
        if fence != routed.next() {
            match parts.routes.get(scope).await? {
                Some(Route { deployment, .. }) if deployment > id => {
                    return Ok(Drove::Ended(DeploymentEnd::Superseded { by: Some(deployment) }));
                }
                Some(route) if route.deployment == id => return Ok(self.live_already(route, journal)),
                _ => before = Before::ToBeRead,
            }
        }
        let request = DeployRequest::new(id, scope.clone(), artifact, Arc::new(env))
            .under(fence)
            .limits(record.limits())
            .progress_to(progress.clone());
        let mut attempts = Attempts {
            strategy: &parts.strategy,
            targets,
            admission: &self.admission,
            routes: &*parts.routes,
            clock: &parts.clock,
            ids: &parts.ids,
            request,
            journal,
            fence,
            before,
            open,
            held,
            patient,
            adopted: None,
            hurries: record.adoptions() < 2,
        };
        Ok(match attempts.run().await? {
            Drove::Waits(busy) => Drove::Waits(busy.in_line(line)),
            drove => drove,
        })
    }

    /// How it ends or stops by what is known of it before anything is asked.
    pub(super) async fn known_already(
        &self,
        record: &DeploymentRecord,
        newest: DeploymentId,
        journal: &mut Journal,
    ) -> Result<Option<Drove>> {
        let (parts, id, scope) = (&*self.parts, record.id(), record.scope());
        let ended = |reason| Ok(Some(Drove::Ended(DeploymentEnd::Failed { reason })));
        // A crash between the route and the record: it is live, whatever came since. What was never driven and is the newest
        // is asked after later.
        let driven = record.events().iter().any(|e| matches!(e.event, DeploymentEvent::Leased { .. }));
        if driven || newest != id {
            let route = parts.routes.get(scope).await?;
            if let Some(route) = route.filter(|route| route.deployment == id) {
                return Ok(Some(self.live_already(route, journal)));
            }
        }
        if let Some((_, OperatorChoice::Abort, actor)) = record.answers().last() {
            return ended(format!("{actor} aborted it"));
        }
        if record.question().is_some() {
            return ended("nobody answered in time".into());
        }
        // What has the traffic and is not well goes first, whatever is newer.
        if let Some((target, why)) = record.unwell() {
            let highest = self.highest_fence(scope, journal).await?;
            journal.take(highest).await?;
            return Ok(Some(Drove::Unwell { target, why }));
        }
        if newest != id
            && let Some(by) = self.newer(record).await?
        {
            return Ok(Some(Drove::Ended(DeploymentEnd::Superseded { by: Some(by) })));
        }
        Ok(None)
    }

    /// What was asked to activate it may do so while it waits, or serve it.
    async fn watch_while_waiting(&self, record: &DeploymentRecord) {
        let due = record.waits_until().filter(|until| *until <= self.parts.clock.now());
        let Some(until) = due.filter(|_| record.is_in_doubt()) else { return };
        if let Err(e) = self.watch_doubt(record, until).await {
            // It waits on, and somebody looks again when that is due.
            tracing::warn!(deployment = %record.id(), error = %e, "what may turn up could not be looked for");
        }
    }

    /// Whether it waits on for what may be back.
    fn is_patient(&self, record: &DeploymentRecord) -> bool {
        let asked = record.asked_at().unwrap_or(Timestamp::EPOCH);
        self.parts.clock.now().since(asked) < self.parts.strategy.patience
    }

    /// The end of one that the route names.
    fn live_already(&self, Route { target, handle, fence, .. }: Route, journal: &mut Journal) -> Drove {
        // Whoever crashed may have taken the record of where the version before is with it.
        for other in self.parts.strategy.registered().iter().map(|other| other.info().name) {
            if other != target {
                journal.note(DeploymentEvent::Leaving { target: other });
            }
        }
        Drove::Ended(DeploymentEnd::Active { target, handle, fence })
    }

    /// Whether a person has to be asked before it goes live. What comes back to where it was before is not asked for.
    async fn needs_permission(&self, record: &DeploymentRecord) -> Result<bool> {
        if !self.parts.strategy.asks_before(record.scope().environment) {
            return Ok(false);
        }
        if record
            .answers()
            .iter()
            .any(|(about, choice, _)| **about == Doubt::Permission && *choice == OperatorChoice::Approve)
        {
            return Ok(false);
        }
        Ok(!self.comes_back(record).await?)
    }

    /// Whether it brings what the scope had before.
    pub(super) async fn comes_back(&self, record: &DeploymentRecord) -> Result<bool> {
        Ok(match record.source() {
            Some(DeploymentSource::Artifact { of, .. }) => {
                self.parts.store.scope_of(*of).await?.as_ref() == Some(record.scope())
            }
            _ => false,
        })
    }

    /// The deployment that takes this one's place: a newer one of the scope that has not failed.
    async fn newer(&self, record: &DeploymentRecord) -> Result<Option<DeploymentId>> {
        let mut before = None;
        loop {
            let page = self.parts.store.list(record.scope(), before, PAGE).await?;
            for summary in page.items {
                if summary.id <= record.id() {
                    return Ok(None);
                }
                if !matches!(summary.end, Some(DeploymentEnd::Failed { .. } | DeploymentEnd::RolledBack { .. })) {
                    return Ok(Some(summary.id));
                }
            }
            match page.next {
                Some(next) => before = Some(next),
                None => return Ok(None),
            }
        }
    }

    /// The artifact to deploy, held for this deployment: the one that was built or named, or a new build. The inner error
    /// is why there will never be one.
    async fn artifact(
        &self,
        record: &DeploymentRecord,
        journal: &mut Journal,
        progress: &Progress,
    ) -> Result<Result<Arc<Artifact>, String>> {
        let (parts, id, scope) = (&*self.parts, record.id(), record.scope());
        if let Some(digest) = record.digest() {
            let gone = || format!("artifact {digest} is not kept any more");
            let before =
                |e: &DeploymentEvent| matches!(e, DeploymentEvent::Waiting { .. } | DeploymentEvent::Leased { .. });
            let is_first = !record.events().iter().any(|e| before(&e.event));
            if is_first && matches!(record.source(), Some(DeploymentSource::Artifact { .. })) {
                // Who asked for it may have died before it was held.
                match parts.bundles.hold(scope, digest, id).await {
                    Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Err(gone())),
                    held => held?,
                }
            }
            return match parts.bundles.get(scope, digest).await {
                Err(e) if never_otherwise(&e) => Ok(Err(format!("artifact {digest}: {e}"))),
                found => Ok(found?.ok_or_else(gone)),
            };
        }
        // As new as can be: what was written after the request was meant for a deploy too.
        let snapshot = match parts.files.snapshot(&Scope::sources(scope.app.clone())).await {
            Err(e) if never_otherwise(&e) => return Ok(Err(format!("sources: {e}"))),
            snapshot => snapshot?,
        };
        progress.at(10, "building", format!("Building {} files", snapshot.files.len()));
        journal.note(DeploymentEvent::BuildStarted { position: snapshot.position });
        // The same for every environment: what is promoted is what was built.
        let request =
            BuildRequest::new(scope.clone(), Arc::new(snapshot), BuildMode::Production).progress_to(progress.clone());
        let timer = instruments::Timer::start(&parts.clock, instruments::BUILD_SECONDS);
        let artifact = timeout(&*parts.clock, parts.build_timeout, parts.builder.build(&request)).await;
        timer.stop_with(&artifact);
        let artifact = match artifact {
            Ok(artifact) => Arc::new(artifact),
            // The builder is not there: the sources are not at fault, and it may be back.
            Err(e)
                if matches!(e.kind(), ErrorKind::Unavailable | ErrorKind::RateLimited) && self.is_patient(record) =>
            {
                return Err(e);
            }
            Err(e) => return Ok(Err(format!("build: {}", e.message()))),
        };
        let digest = parts.bundles.put(&artifact, parts.clock.now()).await?;
        parts.bundles.hold(scope, digest, id).await?;
        journal.note(built(&artifact));
        let (files, bytes) = (artifact.files(), artifact.size_bytes());
        let details = json!({ "files": files, "bytes": bytes, "digest": digest.to_string() });
        let message = format!("Built {files} files, {bytes} bytes");
        progress.step(30, "built", message, details);
        Ok(Ok(artifact))
    }

    /// The highest fence anybody has seen in the scope: a restored store must not fall behind it.
    pub(super) async fn highest_fence(&self, scope: &Scope, journal: &mut Journal) -> Result<Fence> {
        self.highest_above(self.parts.routes.fence(scope).await?, scope, journal).await
    }

    /// The same, where that of the routes is known.
    async fn highest_above(&self, mut highest: Fence, scope: &Scope, journal: &mut Journal) -> Result<Fence> {
        let limit = self.parts.strategy.attempt_timeout;
        for target in self.parts.strategy.registered() {
            let info = target.info();
            // One that cannot be asked now refuses a fence that is too low, and is asked again then. One that is left alone
            // is not asked by every deployment for that alone.
            if self.admission.busy(&info, self.parts.clock.now()).is_some_and(|busy| !busy.well) {
                continue;
            }
            let observed = journal.ask(&info.name, "observe", limit, target.observe(scope)).await;
            if let Ok(observed) = observed {
                highest = observed.iter().filter_map(|o| o.fence).fold(highest, Fence::max);
            }
        }
        Ok(highest)
    }
}

/// Whether a store that is asked again says the same: what it keeps is damaged or gone. Who may not ask now, for a password
/// has changed, may later.
pub(super) fn never_otherwise(error: &Error) -> bool {
    use ErrorKind::{Conflict, Denied, Unauthenticated};
    let said_no = matches!(error.kind(), Conflict | Denied | Unauthenticated);
    matches!(error.consequence(), Consequence::StopDeployment | Consequence::NextTarget) && !said_no
}

fn short(artifact: &Artifact) -> String {
    let mut digest = artifact.digest().to_string();
    digest.truncate(12);
    format!("artifact {digest}")
}
