use super::{
    DeploymentRecord, DeploymentStrategy, Outcome, StrategyConfig,
    admission::Admission,
    attempt::Drove,
    journal::{Abandoned, Journal, LEASE_MARGIN, Left},
};
use crate::{
    Actor, Artifact, Builder, BundleStore, Clock, DeployLease, DeploymentEnd, DeploymentEvent, DeploymentId,
    DeploymentSource, DeploymentStore, Digest, Effect, EnvRevision, EnvStore, Error, ErrorKind, FileStore, Ids, IdsExt,
    Limits, OperatorChoice, Progress, ProgressSink, Result, RouteTable, Scope, Standing, SubjectId, Timestamp,
    WorkerName, instruments, urgently,
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use std::{
    collections::HashSet,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

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
    abandoned: Arc<Abandoned>,
    /// What is driven in this process, so that nobody else in it does the same: before the lease comes the build.
    under_way: Arc<Mutex<HashSet<DeploymentId>>>,
}

/// That a deployment is driven, until it is dropped.
struct UnderWay<'a>(&'a Mutex<HashSet<DeploymentId>>, DeploymentId);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().expect("nobody panics with this lock").remove(&self.1);
    }
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
    /// Somebody else of this process drives it.
    Elsewhere,
}

impl Deployments {
    /// The service over `parts`.
    pub fn new(parts: DeploymentsParts) -> Self {
        let admission = Arc::new(Admission::new(parts.strategy.breaker));
        Self { parts: Arc::new(parts), admission, abandoned: Arc::default(), under_way: Arc::default() }
    }

    /// Refuses what could not be deployed with.
    pub fn admit(&self, config: Option<&StrategyConfig>) -> Result<()> {
        config.map_or(Ok(()), |config| self.parts.strategy.configured(config).map(drop))
    }

    /// Records that a deployment is wanted, and returns its id. Nothing else happens until it is driven.
    ///
    /// A source artifact has to be held in the scope that its deployment went to; it is held for the new one from now on.
    pub async fn request(&self, new: NewDeployment) -> Result<DeploymentId> {
        self.request_after(None, new).await
    }

    /// The same; where it is known which one it comes after, it gives way, with a `Conflict`, to whatever came in between.
    pub(super) async fn request_after(&self, known: Option<DeploymentId>, new: NewDeployment) -> Result<DeploymentId> {
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
        let id = DeploymentId::generate(&*parts.ids, now);
        let mut commit = crate::Commit::new(id, new.scope, 0, events, now).after(known);
        let mut tries = 0;
        loop {
            let Err(e) = parts.store.commit(&commit).await else { break };
            // Another one of the same moment, or of a clock that is ahead.
            if e.kind() != ErrorKind::Conflict || known.is_some() || tries == REQUEST_TRIES {
                return Err(e);
            }
            tries += 1;
            commit.id = self.next_id(&commit.scope, now).await?;
        }
        if let Some(digest) = held {
            // What is not known to any record is held by nobody, so this comes second; should it fail, the drive does it.
            if let Err(e) = parts.bundles.hold(&commit.scope, digest, commit.id).await {
                tracing::warn!(deployment = %commit.id, error = %e, "its artifact is not held yet");
            }
        }
        Ok(commit.id)
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
    /// Dropping the future equals a crash: the record says how far it came, and whoever drives it next goes on from there,
    /// from the stores and the targets alone. The lease is given back by whoever works next in this process, unless an
    /// activation is on its way: then it runs out.
    pub async fn outcome(&self, id: DeploymentId) -> Result<Outcome> {
        loop {
            self.give_back().await;
            let Looked { record, lease, newest } = self.look(id).await?;
            if let Some(outcome) = self.settled(&record) {
                return Ok(outcome);
            }
            let wait = match lease {
                None => match self.drive_alone(record, newest).await {
                    Ok(Driven::Known(outcome)) => return Ok(outcome),
                    Ok(Driven::Waits(until)) => {
                        // Somebody whose caller has gone may stand in front.
                        for next in self.admission.fronts().into_iter().filter(|next| *next != id) {
                            self.drive_free(next).await;
                        }
                        until.since(self.parts.clock.now()).clamp(LEAST_WAIT, LONGEST_IN_LINE)
                    }
                    Ok(Driven::Elsewhere) => ELSEWHERE,
                    // Somebody else was quicker, or took over.
                    Err(e) if e.kind() == ErrorKind::Conflict => Duration::from_millis(50),
                    Err(e) => return Err(e),
                },
                Some(lease) => {
                    self.admission.leave(&owner(&record), id);
                    lease.expires_at.since(self.parts.clock.now()).clamp(LEAST_WAIT, LONGEST_WAIT)
                }
            };
            self.parts.clock.sleep(self.parts.ids.jitter(wait).max(LEAST_WAIT)).await;
        }
    }

    /// Drives what nobody drives and what is due, at most `limit`, at the same time; returns how many ended.
    pub async fn drive_pending(&self, limit: NonZeroU32) -> Result<u32> {
        let ids = self.due(limit).await?;
        let drives: FuturesUnordered<_> = ids.into_iter().map(|id| self.drive_free(id)).collect();
        let ended = drives.filter(|ended| std::future::ready(*ended)).count().await;
        Ok(u32::try_from(ended).unwrap_or(u32::MAX))
    }

    /// What is to be driven now and is not driven in this process: by turns one of those at the front of the lines and one
    /// that is due or that nobody drives, at most `limit` of each.
    pub(crate) async fn due(&self, limit: NonZeroU32) -> Result<Vec<DeploymentId>> {
        self.give_back().await;
        let under_way = self.under_way.lock().expect("nobody panics with this lock").clone();
        let and_those = limit.saturating_add(u32::try_from(under_way.len()).unwrap_or(u32::MAX));
        let pending = self.parts.store.pending(self.parts.clock.now(), and_those).await?;
        let mut pending = pending.into_iter().map(|summary| summary.id);
        let mut waiting = self.admission.upcoming(limit.get() as usize).into_iter();
        let (mut ids, mut known) = (Vec::new(), under_way);
        loop {
            let next = [waiting.next(), pending.next()];
            if next == [None, None] {
                return Ok(ids);
            }
            ids.extend(next.into_iter().flatten().filter(|id| known.insert(*id)));
        }
    }

    /// Gives back the leases of drives that were dropped.
    async fn give_back(&self) {
        for left in self.abandoned.take() {
            let (id, due) = (left.id, left.due.unwrap_or_else(|| self.parts.clock.now()));
            match self.give_back_one(left, due).await {
                // It ran out, and somebody else has it.
                Err(e) if e.kind() == ErrorKind::Conflict => {}
                Err(e) => tracing::debug!(deployment = %id, error = %e, "a lease has to run out"),
                Ok(()) => {}
            }
        }
    }

    async fn give_back_one(&self, left: Left, due: Timestamp) -> Result<()> {
        let record = self.read(left.id).await?;
        self.hand_back(&record, left.fence, due).await
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
                // Somebody else has its scope, for as long as that takes: others in the line do not wait for it.
                self.admission.leave(&owner(&record), id);
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
            if let Some((_, _, deadline)) = record.question().filter(|_| settled && record.is_in_doubt()) {
                return this.watch_doubt(&record, deadline).await.map(|()| false);
            }
            if settled {
                return Ok(false);
            }
            let waiting = owner(&record);
            let driven = self.drive_alone(record, newest).await;
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
            // It may have failed under its lease.
            if let Some(left) = self.abandoned.take_of(id) {
                return self.give_back_one(left, self.parts.clock.now().plus(PUT_OFF)).await;
            }
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

    /// Drives it unless somebody of this process does.
    async fn drive_alone(&self, record: DeploymentRecord, newest: DeploymentId) -> Result<Driven> {
        let id = record.id();
        if !self.under_way.lock().expect("nobody panics with this lock").insert(id) {
            return Ok(Driven::Elsewhere);
        }
        let _under_way = UnderWay(&self.under_way, id);
        let driven = self.drive(record, newest).await;
        if driven.as_ref().is_err_and(|e| e.kind() == ErrorKind::Conflict) {
            // Somebody else may have ended it while this one built it, and held what came of it.
            let record = self.record(id).await?;
            let end = record.as_ref().and_then(DeploymentRecord::end);
            if end.is_some_and(|end| !matches!(end, DeploymentEnd::Active { .. })) {
                self.let_go(id).await;
            }
        }
        driven
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
        let is_failback = record.is_failback();
        if record.strategy().is_none() && !is_failback {
            return Ok(self.clone());
        }
        let strategy = match record.strategy() {
            Some(config) => self.parts.strategy.configured(config)?,
            None => self.parts.strategy.clone(),
        };
        let strategy = if is_failback { strategy.in_vain_if_refused() } else { strategy };
        let parts = Arc::new(DeploymentsParts { strategy, ..(*self.parts).clone() });
        Ok(Self { parts, ..self.clone() })
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
        let mut drove = if let Some(drove) = known {
            // It may be live all the same.
            self.known_already(&record, newest, &mut journal).await?.unwrap_or(drove)
        } else {
            // Somebody waits for what was there before; nobody does for the preferred target.
            let is_urgent = !record.is_failback() && self.comes_back(&record).await?;
            let coming = Box::pin(self.bring_to_end(&record, newest, &mut journal, &progress));
            if is_urgent { urgently(coming).await? } else { coming.await? }
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
        Journal::new(store, clock, record, holder, ttl, self.abandoned.clone())
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
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Time between two looks at what somebody else of this process drives.
const ELSEWHERE: Duration = Duration::from_millis(250);
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

pub(super) fn built(artifact: &Artifact) -> DeploymentEvent {
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
