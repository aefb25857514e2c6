use super::{
    AppFacts, DeploymentRecord, DeploymentStrategy, Outcome, StrategyConfig,
    admission::{Admission, Busy, Wants},
    attempt::{Attempts, Before, Drove},
    journal::{Journal, LEASE_MARGIN},
};
use crate::{
    Actor, Artifact, BuildMode, BuildRequest, Builder, BundleStore, Clock, Consequence, DeployLease, DeployRequest,
    DeploymentEnd, DeploymentEvent, DeploymentId, DeploymentSource, DeploymentStore, DeploymentTarget, Digest, Doubt,
    Effect, EnvRevision, EnvStore, Error, ErrorKind, Fence, FileStore, Ids, IdsExt, Limits, OperatorChoice, Progress,
    ProgressSink, Result, Route, RouteTable, Scope, Standing, SubjectId, Timestamp, WorkerName, instruments, timeout,
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use serde_json::json;
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// What the service works with.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each field is the seam of its name")]
pub struct DeploymentsParts {
    pub strategy: DeploymentStrategy,
    pub store: Arc<dyn DeploymentStore>,
    pub routes: Arc<dyn RouteTable>,
    pub files: Arc<dyn FileStore>,
    pub bundles: Arc<dyn BundleStore>,
    pub env: Arc<dyn EnvStore>,
    pub builder: Arc<dyn Builder>,
    pub progress: Arc<dyn ProgressSink>,
    /// How long a build may take.
    pub build_timeout: Duration,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
}

/// What is asked for. Who may ask is the caller's to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDeployment {
    /// Who asks.
    pub actor: Actor,
    /// Where to.
    pub scope: Scope,
    /// What.
    pub source: DeploymentSource,
    /// With which variables; the current ones if none are named.
    pub env: Option<EnvRevision>,
    /// What the app may use.
    pub limits: Limits,
    /// Whose app it is: when there is a line, one owner after the other has a turn. The app itself if none is named.
    pub owner: Option<SubjectId>,
    /// What is otherwise for this app than in the strategy.
    pub strategy: Option<StrategyConfig>,
}

/// Runs deployments and keeps their record; it alone holds leases. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Deployments {
    pub(super) parts: Arc<DeploymentsParts>,
    pub(super) admission: Arc<Admission>,
}

/// A deployment before it is driven on.
struct Looked {
    record: DeploymentRecord,
    /// Who drives it, or another of its scope.
    lease: Option<DeployLease>,
    /// The newest of its scope.
    newest: DeploymentId,
}

/// How far a drive brought a deployment.
enum Driven {
    Known(Outcome),
    Waits(Timestamp),
}

impl Deployments {
    /// The service over `parts`.
    pub fn new(parts: DeploymentsParts) -> Self {
        let admission = Arc::new(Admission::new(parts.strategy.breaker));
        Self { parts: Arc::new(parts), admission }
    }

    /// Refuses what could not be deployed with.
    pub fn admit(&self, config: Option<&StrategyConfig>) -> Result<()> {
        config.map_or(Ok(()), |config| self.parts.strategy.configured(config).map(drop))
    }

    /// Records that a deployment is wanted, and returns its id. Nothing else happens until it is driven.
    ///
    /// A source artifact has to be held in the scope that its deployment went to; it is held for the new one from now on.
    pub async fn request(&self, new: NewDeployment) -> Result<DeploymentId> {
        self.request_as(None, new).await
    }

    /// The same; under an id that is known it gives way, with a `Conflict`, to whatever has a newer one.
    pub(super) async fn request_as(&self, known: Option<DeploymentId>, new: NewDeployment) -> Result<DeploymentId> {
        let parts = &*self.parts;
        let targets = match &new.strategy {
            Some(config) => parts.strategy.configured(config)?.names(),
            None => parts.strategy.names(),
        };
        let now = parts.clock.now();
        let env = match new.env {
            Some(revision) => revision,
            None => parts.env.current(&new.scope).await?,
        };
        let mut events = vec![DeploymentEvent::Requested {
            actor: new.actor,
            source: new.source.clone(),
            env,
            limits: new.limits,
            targets,
            owner: new.owner,
            strategy: new.strategy.map(Box::new),
        }];
        let mut held = None;
        if let DeploymentSource::Artifact { digest, of } = new.source {
            let from = parts.store.scope_of(of).await?.filter(|from| from.app == new.scope.app);
            let from = from.ok_or_else(|| Error::not_found("no such deployment of this app").with("deployment", of))?;
            let artifact = parts.bundles.get(&from, digest).await?;
            let artifact = artifact.ok_or_else(|| {
                Error::not_found("the artifact is not kept any more: deploy the sources instead").with("digest", digest)
            })?;
            events.push(built(&artifact));
            held = Some(digest);
        }
        let id = known.unwrap_or_else(|| DeploymentId::generate(&*parts.ids, now));
        let mut commit = crate::Commit::new(id, new.scope, 0, events, now);
        let mut tries = 0;
        loop {
            let id = commit.id;
            if let Some(digest) = held {
                parts.bundles.hold(&commit.scope, digest, id).await?;
            }
            let Err(e) = parts.store.commit(&commit).await else { return Ok(id) };
            // What may have been recorded needs its artifact.
            if e.effect() == Effect::None && held.is_some() {
                self.let_go(id).await;
            }
            // Another one of the same moment, or of a clock that is ahead.
            if e.kind() != ErrorKind::Conflict || known.is_some() || tries == REQUEST_TRIES {
                return Err(e);
            }
            tries += 1;
            commit.id = self.next_id(&commit.scope, now).await?;
        }
    }

    /// What is known of a deployment, or `None`.
    pub async fn record(&self, id: DeploymentId) -> Result<Option<DeploymentRecord>> {
        let Some(scope) = self.parts.store.scope_of(id).await? else { return Ok(None) };
        let events = self.parts.store.events(id).await?;
        Ok(Some(DeploymentRecord::from_events(id, scope, events)))
    }

    /// The same with what a drive has to know besides.
    async fn look(&self, id: DeploymentId) -> Result<Looked> {
        let standing = self.parts.store.standing(id, self.parts.clock.now()).await?;
        let Standing { scope, events, lease, newest } = standing.ok_or_else(|| unknown(id))?;
        Ok(Looked { record: DeploymentRecord::from_events(id, scope, events), lease, newest })
    }

    /// Drives a deployment until there is something to know; waits while somebody else drives it, and while no target can
    /// take it.
    ///
    /// Dropping the future equals a crash: the record says how far it came, the lease runs out, and whoever drives it next
    /// goes on from there, from the stores and the targets alone.
    pub async fn outcome(&self, id: DeploymentId) -> Result<Outcome> {
        loop {
            let Looked { record, lease, newest } = self.look(id).await?;
            if let Some(outcome) = self.settled(&record) {
                return Ok(outcome);
            }
            let wait = match lease {
                None => match self.drive(record, newest).await {
                    Ok(Driven::Known(outcome)) => return Ok(outcome),
                    Ok(Driven::Waits(until)) => {
                        // Somebody whose caller has gone may stand in front.
                        for next in self.admission.fronts().into_iter().filter(|next| *next != id) {
                            self.drive_free(next).await;
                        }
                        until.since(self.parts.clock.now()).clamp(LEAST_WAIT, LONGEST_IN_LINE)
                    }
                    // Somebody else was quicker, or took over.
                    Err(e) if e.kind() == ErrorKind::Conflict => Duration::from_millis(50),
                    Err(e) => return Err(e),
                },
                Some(lease) => lease.expires_at.since(self.parts.clock.now()).clamp(LEAST_WAIT, LONGEST_WAIT),
            };
            self.parts.clock.sleep(self.parts.ids.jitter(wait).max(LEAST_WAIT)).await;
        }
    }

    /// Drives what nobody drives and what is due, at most `limit`, at the same time; returns how many ended.
    pub async fn drive_pending(&self, limit: NonZeroU32) -> Result<u32> {
        let pending = self.parts.store.pending(self.parts.clock.now(), limit).await?;
        let mut ids = self.admission.upcoming(limit.get() as usize);
        for summary in pending {
            if !ids.contains(&summary.id) {
                ids.push(summary.id);
            }
        }
        let drives: FuturesUnordered<_> = ids.into_iter().map(|id| self.drive_free(id)).collect();
        let ended = drives.filter(|ended| std::future::ready(*ended)).count().await;
        Ok(u32::try_from(ended).unwrap_or(u32::MAX))
    }

    /// Drives one that may go on, if nobody else does; whether it ended.
    pub async fn drive_now(&self, id: DeploymentId) -> bool {
        self.drive_free(id).await
    }

    /// Records what a person answered to the question of a deployment, which goes on when it is driven next.
    ///
    /// `Conflict` when nothing is asked (any more), `Invalid` for an answer that was not among the choices.
    pub async fn answer(&self, id: DeploymentId, actor: Actor, choice: OperatorChoice) -> Result<()> {
        let record = self.read(id).await?;
        let now = self.parts.clock.now();
        let Some((_, choices, deadline)) = record.question() else {
            let e = Error::conflict("the deployment asks nothing").public("This deployment asks nothing (any more).");
            return Err(e.with("deployment", id));
        };
        if deadline <= now {
            let e = Error::conflict("the time for an answer is over").public("The time for an answer is over.");
            return Err(e.with("deployment", id).with("until", deadline));
        }
        if !choices.contains(&choice) {
            let known: Vec<_> = choices.iter().map(|choice| choice.as_str()).collect();
            let message = format!("answer must be {}, but was {choice}", known.join(" or "));
            return Err(Error::invalid(message).with("deployment", id));
        }
        let event = DeploymentEvent::OperatorAnswered { actor, choice };
        let commit = crate::Commit::new(id, record.scope().clone(), record.seq(), [event], now);
        self.parts.store.commit(&commit).await.map(drop)
    }

    /// Drives one deployment if nobody else does; whether it ended.
    async fn drive_free(&self, id: DeploymentId) -> bool {
        let drive = async {
            let Looked { record, lease, newest } = self.look(id).await?;
            let this = self.under_strategy_of(&record).unwrap_or_else(|_| self.clone());
            if lease.is_some() {
                return Ok(false);
            }
            let settled = self.settled(&record).is_some();
            if settled {
                // Others in the line do not wait for what has ended or waits for an answer, wherever that came to be known.
                self.admission.leave(&owner(&record), id);
            }
            if record.end().is_some() {
                return this.chores(&record).await.map(|()| false);
            }
            if let Some((_, _, deadline)) = record.question().filter(|_| settled && !record.unanswered().is_empty()) {
                return this.watch_doubt(&record, deadline).await.map(|()| false);
            }
            if settled {
                return Ok(false);
            }
            let waiting = owner(&record);
            let driven = self.drive(record, newest).await;
            if driven.as_ref().is_err_and(|e| e.kind() != ErrorKind::Conflict) {
                self.put_off(id, &waiting).await;
            }
            Ok(matches!(driven?, Driven::Known(outcome) if outcome.is_final()))
        };
        match drive.await {
            Ok(ended) => ended,
            Err(e) if e.kind() == ErrorKind::Conflict => false, // somebody else was quicker
            Err(e) => {
                if e.kind() == ErrorKind::NotFound {
                    self.admission.forget(id);
                }
                tracing::warn!(deployment = %id, error = %e, "a deployment could not be driven");
                false
            }
        }
    }

    /// Lets others go first: what fails by itself, for its builder or a store is away, must not fill every round.
    async fn put_off(&self, id: DeploymentId, owner: &str) {
        self.admission.leave(owner, id);
        let later = async {
            let Looked { record, lease, .. } = self.look(id).await?;
            if record.end().is_none() && lease.is_none() {
                let now = self.parts.clock.now();
                let commit = crate::Commit::new(id, record.scope().clone(), record.seq(), [], now);
                self.parts.store.commit(&commit.due(Some(now.plus(PUT_OFF)))).await?;
            }
            Ok::<_, Error>(())
        };
        if let Err(e) = later.await {
            tracing::debug!(deployment = %id, error = %e, "it could not be put off");
        }
    }

    /// What is known of one that has ended or waits for an answer that may still come.
    fn settled(&self, record: &DeploymentRecord) -> Option<Outcome> {
        let overdue = record.question().is_some_and(|(_, _, deadline)| deadline <= self.parts.clock.now());
        record.outcome().filter(|_| !overdue)
    }

    #[tracing::instrument(name = "overskill.deployments.drive", skip_all,
        fields(app = %record.scope().app, environment = %record.scope().environment, deployment = %record.id()))]
    async fn drive(&self, record: DeploymentRecord, newest: DeploymentId) -> Result<Driven> {
        let (this, misfit) = match self.under_strategy_of(&record) {
            Ok(this) => (this, None),
            // It was taken once: the platform has lost a target since.
            Err(e) => (self.clone(), Some(Drove::Ended(DeploymentEnd::Failed { reason: e.message().to_owned() }))),
        };
        this.drive_on(record, newest, misfit).await
    }

    /// This service with what is otherwise for the app of `record`.
    fn under_strategy_of(&self, record: &DeploymentRecord) -> Result<Self> {
        let Some(config) = record.strategy() else { return Ok(self.clone()) };
        let strategy = self.parts.strategy.configured(config)?;
        let parts = Arc::new(DeploymentsParts { strategy, ..(*self.parts).clone() });
        Ok(Self { parts, admission: self.admission.clone() })
    }

    async fn drive_on(&self, record: DeploymentRecord, newest: DeploymentId, known: Option<Drove>) -> Result<Driven> {
        let parts = &*self.parts;
        let timer = instruments::Timer::start(&parts.clock, instruments::DEPLOY_SECONDS);
        let (id, scope) = (record.id(), record.scope().clone());
        let progress = Progress::of_deployment(parts.progress.clone(), parts.clock.clone(), &scope, id);
        match how_far(&record) {
            None => progress.start("Deploying"),
            Some(percent) => progress.go_on(percent),
        }
        let mut journal = self.journal(&record);
        let mut drove = match known {
            Some(drove) => drove,
            None => self.bring_to_end(&record, newest, &mut journal, &progress).await?,
        };
        if let Drove::Unwell { target, why } = drove {
            progress.at(80, "rolling_back", format!("Not well on {target}: going back"));
            drove = self.roll_back(&record, &mut journal, target, why).await?;
        }
        match drove {
            Drove::Ended(end) => {
                let outcome = self.end(&record, journal, end.clone(), &progress).await?;
                timer.stop(word(&end));
                Ok(Driven::Known(outcome))
            }
            Drove::Unwell { .. } => unreachable!("what is not well was rolled back"),
            Drove::Asks(about, question) => {
                timer.stop("asks");
                self.ask(&record, journal, about, question, &progress).await.map(Driven::Known)
            }
            Drove::Waits(busy) => {
                timer.stop("waits");
                self.wait(&record, journal, busy, &progress).await.map(Driven::Waits)
            }
        }
    }

    /// What writes the events of `record` in this drive.
    pub(super) fn journal(&self, record: &DeploymentRecord) -> Journal {
        let parts = &*self.parts;
        let ttl = parts.strategy.longest_silence() + LEASE_MARGIN;
        // A name for this drive alone: nobody takes the lease of another, not even of this process.
        let holder = format!("drive-{:016x}", parts.ids.random_u64());
        let holder = WorkerName::parse(&holder).expect("hex digits are legal");
        let (store, clock) = (parts.store.clone(), parts.clock.clone());
        Journal::new(store, clock, record.id(), record.scope().clone(), record.seq(), holder, ttl)
    }

    /// How it ends or stops, once that is certain; it is for the caller to record.
    async fn bring_to_end(
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
            Err(e) if matches!(e.consequence(), Consequence::StopDeployment | Consequence::NextTarget) => {
                return failed(format!("variables: {e}"));
            }
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
        let given_up = |target: &Arc<dyn DeploymentTarget>| {
            let name = target.info().name;
            record.answers().iter().any(|(about, choice, _)| {
                *choice == OperatorChoice::Approve && matches!(about, Doubt::Unsettled(of) if *of == name)
            })
        };
        let mut targets = parts.strategy.targets_for(&AppFacts::of(&artifact));
        targets.retain(|target| !given_up(target));
        let line = Wants::of(&targets);
        let open = record.open_activation();
        let patient = self.is_patient(record);
        if open.is_none() {
            // What a crash left open is settled at once; everything else keeps its place in the line.
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
            patient,
        };
        Ok(match attempts.run().await? {
            Drove::Waits(busy) => Drove::Waits(busy.in_line(line)),
            drove => drove,
        })
    }

    /// How it ends or stops by what is known of it before anything is asked.
    async fn known_already(
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

    /// What was asked to activate it and never answered may do so while it waits.
    async fn watch_while_waiting(&self, record: &DeploymentRecord) {
        let due = record.waits_until().filter(|until| *until <= self.parts.clock.now());
        let Some(until) = due.filter(|_| !record.unanswered().is_empty()) else { return };
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
        Ok(match record.source() {
            Some(DeploymentSource::Artifact { of, .. }) => {
                self.parts.store.scope_of(*of).await?.as_ref() != Some(record.scope())
            }
            _ => true,
        })
    }

    /// An id that sorts after every other of the scope, even if the clock stands still or went back: what is newer is told
    /// by the order of the ids.
    async fn next_id(&self, scope: &Scope, now: Timestamp) -> Result<DeploymentId> {
        let newest = self.parts.store.list(scope, None, NonZeroU32::MIN).await?.items.into_iter().next();
        let after = newest.map_or(now, |newest| newest.id.made_at().plus(Duration::from_millis(1)));
        Ok(DeploymentId::generate(&*self.parts.ids, now.max(after)))
    }

    /// What a deployment held is not needed any more. If that cannot be said now, the artifact stays: better than the
    /// other way round.
    pub(super) async fn let_go(&self, id: DeploymentId) {
        if let Err(e) = self.parts.bundles.release(id, self.parts.clock.now()).await {
            tracing::warn!(deployment = %id, error = %e, "an artifact is held for nothing");
        }
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
            let artifact = parts.bundles.get(scope, digest).await?;
            return Ok(artifact.ok_or_else(|| format!("artifact {digest} is not kept any more")));
        }
        // As new as can be: what was written after the request was meant for a deploy too.
        let snapshot = parts.files.snapshot(&Scope::sources(scope.app.clone())).await?;
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
            // One that cannot be asked now refuses a fence that is too low, and is asked again then.
            let observed = journal.ask(&target.info().name, "observe", limit, target.observe(scope)).await;
            if let Ok(observed) = observed {
                highest = observed.iter().filter_map(|o| o.fence).fold(highest, Fence::max);
            }
        }
        Ok(highest)
    }

    pub(super) async fn read(&self, id: DeploymentId) -> Result<DeploymentRecord> {
        self.record(id).await?.ok_or_else(|| unknown(id))
    }
}

fn unknown(id: DeploymentId) -> Error {
    Error::not_found("no such deployment").with("deployment", id)
}

/// How often a request looks again which id comes next, when others were quicker.
const REQUEST_TRIES: u32 = 8;
/// Least and longest time between two looks at a deployment that somebody else drives.
const LEAST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Longest time between two looks of somebody who waits in the line.
const LONGEST_IN_LINE: Duration = Duration::from_secs(10);
/// How long what could not be driven lets others go first.
const PUT_OFF: Duration = Duration::from_secs(30);
pub(super) const PAGE: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

/// Under which name it stands in the line.
pub(super) fn owner(record: &DeploymentRecord) -> String {
    record.owner().map_or_else(|| record.scope().app.to_string(), ToString::to_string)
}

/// How far a drive before this one told that it came, in percent; `None` for the first.
fn how_far(record: &DeploymentRecord) -> Option<u8> {
    let reached = record.events().iter().filter_map(|e| match e.event {
        DeploymentEvent::Routing { .. } => Some(90),
        DeploymentEvent::Activating { .. } => Some(60),
        DeploymentEvent::Staging { .. } => Some(40),
        DeploymentEvent::BuildStarted { .. } => Some(10),
        DeploymentEvent::Waiting { .. } | DeploymentEvent::AwaitingOperator { .. } | DeploymentEvent::Leased { .. } => {
            Some(0)
        }
        _ => None,
    });
    reached.max()
}

fn short(artifact: &Artifact) -> String {
    let mut digest = artifact.digest().to_string();
    digest.truncate(12);
    format!("artifact {digest}")
}

fn built(artifact: &Artifact) -> DeploymentEvent {
    let digest: Digest = artifact.digest();
    DeploymentEvent::Built { digest, bytes: artifact.size_bytes(), files: artifact.files() as u64 }
}

pub(super) fn word(end: &DeploymentEnd) -> &'static str {
    match end {
        DeploymentEnd::Active { .. } => "active",
        DeploymentEnd::RolledBack { .. } => "rolled_back",
        DeploymentEnd::Failed { .. } => "failed",
        DeploymentEnd::Superseded { .. } => "superseded",
    }
}

pub(super) fn unreadable(id: DeploymentId) -> Error {
    Error::new(ErrorKind::Unexpected, "the record lacks what it began with")
        .effect_as(Effect::None)
        .with("deployment", id)
}
