use super::StrategyConfig;
use crate::{
    Actor, BackendName, DeploymentEnd, DeploymentEvent, DeploymentId, DeploymentSource, Digest, Doubt, EnvRevision,
    Limits, OperatorChoice, PublicUrl, RecordedEvent, Scope, SubjectId, Timestamp,
};
use serde::Serialize;
use std::{collections::BTreeSet, fmt, fmt::Write as _};

/// Everything that is known of a deployment, read from its events alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentRecord {
    id: DeploymentId,
    scope: Scope,
    events: Vec<RecordedEvent>,
}

/// How far a deployment has come. What may follow what: [`DeploymentState::STEPS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeploymentState {
    /// It was asked for; nobody drives it.
    Requested,
    /// Its artifact is being made.
    Building,
    /// Targets are asked to take it.
    Deploying,
    /// No target can take it now.
    Waiting,
    /// It is not well, and the version before is being made live again.
    RollingBack,
    /// A person has to decide.
    AwaitingOperator,
    /// It ended.
    Ended,
}

impl DeploymentState {
    /// Every step there is, from one state to another. Tests hold the records of many thousand deployments against this,
    /// and the diagram in ARCHITECTURE.md.
    pub const STEPS: [(Self, Self); 17] = {
        use DeploymentState::{AwaitingOperator, Building, Deploying, Ended, Requested, RollingBack, Waiting};
        [
            (Requested, Building),
            (Requested, Deploying),
            (Requested, Waiting),
            (Requested, AwaitingOperator),
            (Building, Deploying),
            (Deploying, Building),
            (Deploying, Waiting),
            (Deploying, AwaitingOperator),
            (Deploying, RollingBack),
            (Deploying, Ended),
            (Waiting, Deploying),
            (Waiting, AwaitingOperator),
            (RollingBack, Deploying),
            (RollingBack, AwaitingOperator),
            (RollingBack, Ended),
            (AwaitingOperator, Requested),
            (AwaitingOperator, Deploying),
        ]
    };

    /// Where an event brings a deployment.
    fn after(event: &DeploymentEvent) -> Self {
        match event {
            DeploymentEvent::Requested { .. }
            | DeploymentEvent::OperatorAnswered { .. }
            | DeploymentEvent::Released => Self::Requested,
            DeploymentEvent::BuildStarted { .. } => Self::Building,
            DeploymentEvent::AwaitingOperator { .. } => Self::AwaitingOperator,
            DeploymentEvent::Waiting { .. } => Self::Waiting,
            DeploymentEvent::RollingBack { .. } => Self::RollingBack,
            DeploymentEvent::Gated { gate, failure: Some(_), .. } if gate == "live" => Self::RollingBack,
            DeploymentEvent::Ended { .. } | DeploymentEvent::Swept { .. } => Self::Ended,
            _ => Self::Deploying,
        }
    }
}

/// What a deployment cost until its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeploymentCost {
    /// How often targets were asked to stage or activate it.
    pub calls: u32,
    /// How many requests all calls of targets made to their providers.
    pub requests: u32,
    /// From the request for it to its end, if it ended.
    pub took: Option<std::time::Duration>,
}

/// How a deployment stands, as far as the caller has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is live.
    Active {
        /// On this target.
        target: BackendName,
        /// At this address, if the target gives it one.
        url: Option<PublicUrl>,
    },
    /// It was live, did badly, and the one before is live again.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// It is not live; what was live before still is.
    Failed {
        /// Why.
        reason: String,
    },
    /// A newer one took its place.
    Superseded,
    /// A person has to decide.
    AwaitingOperator {
        /// What.
        question: String,
        /// The answers there are.
        choices: Vec<OperatorChoice>,
        /// Until when.
        deadline: Timestamp,
    },
}

impl Outcome {
    /// Whether nothing comes after it.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::AwaitingOperator { .. })
    }
}

impl From<DeploymentEnd> for Outcome {
    fn from(end: DeploymentEnd) -> Self {
        match end {
            DeploymentEnd::Active { target, handle, .. } => Self::Active { target, url: handle.url },
            DeploymentEnd::RolledBack { reason, .. } => Self::RolledBack { reason },
            DeploymentEnd::Failed { reason } => Self::Failed { reason },
            DeploymentEnd::Superseded { .. } => Self::Superseded,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active { target, url: Some(url) } => write!(f, "live on {target}: {url}"),
            Self::Active { target, url: None } => write!(f, "live on {target}"),
            Self::RolledBack { reason } => write!(f, "rolled back: {reason}"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
            Self::Superseded => f.write_str("superseded by a newer deployment"),
            Self::AwaitingOperator { question, deadline, .. } => {
                write!(f, "waiting for an answer until {deadline}: {question}")
            }
        }
    }
}

impl DeploymentRecord {
    /// Reads a deployment from its events, oldest first.
    pub fn from_events(id: DeploymentId, scope: Scope, events: Vec<RecordedEvent>) -> Self {
        Self { id, scope, events }
    }

    /// Which one.
    pub fn id(&self) -> DeploymentId {
        self.id
    }

    /// Where to.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Its events, oldest first.
    pub fn events(&self) -> &[RecordedEvent] {
        &self.events
    }

    /// How many events it has.
    pub fn seq(&self) -> u64 {
        self.events.last().map_or(0, |e| e.seq)
    }

    /// Who asked for it.
    pub fn actor(&self) -> Option<&Actor> {
        self.find(|e| if let DeploymentEvent::Requested { actor, .. } = e { Some(actor) } else { None })
    }

    /// What it deploys.
    pub fn source(&self) -> Option<&DeploymentSource> {
        self.find(|e| if let DeploymentEvent::Requested { source, .. } = e { Some(source) } else { None })
    }

    /// With which variables.
    pub fn env(&self) -> Option<EnvRevision> {
        self.find(|e| if let DeploymentEvent::Requested { env, .. } = e { Some(*env) } else { None })
    }

    /// What the app may use.
    pub fn limits(&self) -> Limits {
        self.find(|e| if let DeploymentEvent::Requested { limits, .. } = e { Some(*limits) } else { None })
            .unwrap_or_default()
    }

    /// Its artifact, once it is built.
    pub fn digest(&self) -> Option<Digest> {
        self.find(|e| if let DeploymentEvent::Built { digest, .. } = e { Some(*digest) } else { None })
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Option<&DeploymentEnd> {
        self.find(|e| if let DeploymentEvent::Ended { end } = e { Some(end) } else { None })
    }

    /// The activation that began and that nothing came of yet, as far as is known: it was not answered, or landed, and neither
    /// did it go live nor did it give way. The target and the fence.
    pub fn open_activation(&self) -> Option<(BackendName, crate::Fence)> {
        let mut open = None;
        for recorded in &self.events {
            match &recorded.event {
                DeploymentEvent::Activating { target, fence } => open = Some((target.clone(), *fence)),
                DeploymentEvent::AttemptFailed { outcome: crate::AttemptOutcome::Unknown, .. } => {}
                DeploymentEvent::AttemptFailed { operation, .. } if operation != "activate" => {}
                DeploymentEvent::AttemptFailed { .. }
                | DeploymentEvent::Observed { adopted: false, .. }
                | DeploymentEvent::Unsettled { .. }
                | DeploymentEvent::GaveWay { .. }
                | DeploymentEvent::Ended { .. } => open = None,
                _ => {}
            }
        }
        open
    }

    /// Whose app it is, if that was told.
    pub fn owner(&self) -> Option<&SubjectId> {
        self.find(|e| if let DeploymentEvent::Requested { owner, .. } = e { owner.as_ref() } else { None })
    }

    /// What is otherwise for its app than in the platform's strategy.
    pub fn strategy(&self) -> Option<&StrategyConfig> {
        self.find(|e| if let DeploymentEvent::Requested { strategy, .. } = e { strategy.as_deref() } else { None })
    }

    /// The question that nobody has answered yet, with its choices and deadline.
    pub fn question(&self) -> Option<(&Doubt, &[OperatorChoice], Timestamp)> {
        let last = self.events.iter().rev().find_map(|e| match &e.event {
            DeploymentEvent::AwaitingOperator { about, choices, deadline, .. } => {
                Some(Some((about, choices.as_slice(), *deadline)))
            }
            DeploymentEvent::OperatorAnswered { .. } | DeploymentEvent::Ended { .. } => Some(None),
            _ => None,
        });
        last.flatten()
    }

    /// What operators answered, and to which question, oldest first.
    pub fn answers(&self) -> Vec<(&Doubt, OperatorChoice, &Actor)> {
        let mut asked = None;
        let mut answers = Vec::new();
        for recorded in &self.events {
            match &recorded.event {
                DeploymentEvent::AwaitingOperator { about, .. } => asked = Some(about),
                DeploymentEvent::OperatorAnswered { actor, choice } => {
                    answers.extend(asked.take().map(|about| (about, *choice, actor)));
                }
                _ => {}
            }
        }
        answers
    }

    /// When it ended, if it did.
    pub(super) fn ended_at(&self) -> Option<Timestamp> {
        self.events.iter().find(|e| matches!(e.event, DeploymentEvent::Ended { .. })).map(|e| e.at)
    }

    /// When it was asked for last: at first, or by an operator who wants it tried again.
    pub(super) fn asked_at(&self) -> Option<Timestamp> {
        let asked = |e: &&RecordedEvent| {
            matches!(e.event, DeploymentEvent::Requested { .. } | DeploymentEvent::OperatorAnswered { .. })
        };
        self.events.iter().rev().find(asked).map(|e| e.at)
    }

    /// Until when it waits for a target, if that is the last that is known of it.
    pub fn waits_until(&self) -> Option<Timestamp> {
        match self.events.last().map(|e| &e.event) {
            Some(DeploymentEvent::Waiting { until, .. }) => Some(*until),
            _ => None,
        }
    }

    /// The target that serves it although it is not well, and why it is not; the rollback is not done.
    pub fn unwell(&self) -> Option<(BackendName, String)> {
        if self.end().is_some() {
            return None;
        }
        self.find(|e| match e {
            DeploymentEvent::Gated { target, gate, failure: Some(why) } if gate == "live" => {
                Some((target.clone(), why.clone()))
            }
            _ => None,
        })
    }

    /// Targets on which something of it may be or turn up, although they do not serve it: for a sweep.
    pub fn leftovers(&self) -> BTreeSet<BackendName> {
        leftovers(self.events.iter().map(|e| &e.event))
    }

    /// Targets that were asked to activate it and never answered: that may happen yet, though they serve it or something
    /// newer by now. One that refuses old fences refuses it then.
    pub fn unanswered(&self) -> BTreeSet<BackendName> {
        unanswered(self.events.iter().map(|e| &e.event))
    }

    /// Targets that serve it or may, as far as its events tell.
    pub(super) fn may_serve(&self) -> BTreeSet<BackendName> {
        may_serve(self.events.iter().map(|e| &e.event))
    }

    /// Whether a target may serve it, or may yet, although nobody is sent there as long as it is not live.
    pub(super) fn is_in_doubt(&self) -> bool {
        is_in_doubt(self.events.iter().map(|e| &e.event))
    }

    /// How often it was found where nobody had answered that it is.
    pub(super) fn adoptions(&self) -> usize {
        self.events.iter().filter(|e| matches!(e.event, DeploymentEvent::Observed { adopted: true, .. })).count()
    }

    /// What it cost so far.
    pub fn cost(&self) -> DeploymentCost {
        let mut cost = DeploymentCost::default();
        for recorded in &self.events {
            match &recorded.event {
                DeploymentEvent::Staging { .. } | DeploymentEvent::Activating { .. } => cost.calls += 1,
                DeploymentEvent::Asked { requests, .. } => cost.requests = cost.requests.saturating_add(*requests),
                DeploymentEvent::Ended { .. } => {
                    cost.took = self.events.first().map(|first| recorded.at.since(first.at));
                }
                _ => {}
            }
        }
        cost
    }

    /// How far it has come.
    pub fn state(&self) -> DeploymentState {
        self.path().last().copied().unwrap_or(DeploymentState::Requested)
    }

    /// The states it went through, from [`Requested`](DeploymentState::Requested) on; each differs from the one before.
    pub fn path(&self) -> Vec<DeploymentState> {
        let mut path: Vec<DeploymentState> = Vec::new();
        let moves =
            |e: &&RecordedEvent| !matches!(e.event, DeploymentEvent::Asked { .. } | DeploymentEvent::GaveWay { .. });
        for recorded in self.events.iter().filter(moves) {
            let state = DeploymentState::after(&recorded.event);
            // What is swept after the end changes nothing of it.
            if path.last().is_none_or(|last| *last != state && *last != DeploymentState::Ended) {
                path.push(state);
            }
        }
        path
    }

    /// How it stands, if there is something for the caller to know: it ended, or waits for an answer.
    pub fn outcome(&self) -> Option<Outcome> {
        if let Some(end) = self.end() {
            return Some(end.clone().into());
        }
        match self.events.last().map(|e| &e.event) {
            Some(DeploymentEvent::AwaitingOperator { question, choices, deadline, .. }) => {
                Some(Outcome::AwaitingOperator {
                    question: question.clone(),
                    choices: choices.clone(),
                    deadline: *deadline,
                })
            }
            _ => None,
        }
    }

    /// The story, a line an event, with the seconds since the first.
    pub fn timeline(&self) -> String {
        let mut story = String::new();
        let start = self.events.first().map_or(Timestamp::EPOCH, |e| e.at);
        for recorded in &self.events {
            let after = recorded.at.since(start).as_secs_f64();
            writeln!(story, "{after:>9.3} s  {}", Line(&recorded.event)).expect("a String takes what is written");
        }
        if let DeploymentCost { calls, requests, took: Some(took) } = self.cost() {
            let asked = if requests > 0 { format!("{requests} requests to providers, ") } else { String::new() };
            let took = took.as_secs_f64();
            writeln!(story, "{:>11}  {calls} calls of targets, {asked}{took:.3} s", "")
                .expect("a String takes what is written");
        }
        story
    }

    fn find<'a, T>(&'a self, pick: impl Fn(&'a DeploymentEvent) -> Option<T>) -> Option<T> {
        self.events.iter().find_map(|e| pick(&e.event))
    }
}

/// Targets on which something of a deployment may be or turn up, although they do not serve it.
pub(super) fn leftovers<'a>(events: impl Iterator<Item = &'a DeploymentEvent>) -> BTreeSet<BackendName> {
    let (mut touched, mut all, mut holders) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
    for event in events {
        match event {
            DeploymentEvent::Requested { targets, .. } => all.clone_from(targets),
            DeploymentEvent::Leased { holder, .. } => {
                holders.insert(holder.clone());
            }
            DeploymentEvent::Staging { target, .. }
            | DeploymentEvent::Activating { target, .. }
            | DeploymentEvent::Leaving { target }
            | DeploymentEvent::Unsettled { target } => {
                touched.insert(target.clone());
            }
            DeploymentEvent::Ended { end } => {
                // Whoever crashed may have begun at any of them without a word.
                if holders.len() > 1 {
                    touched.extend(all.iter().cloned());
                }
                if let DeploymentEnd::Active { target, .. } = end {
                    touched.remove(target);
                }
            }
            DeploymentEvent::Swept { target } => {
                touched.remove(target);
            }
            _ => {}
        }
    }
    touched
}

/// Targets that were asked to activate a deployment and never answered.
pub(super) fn unanswered<'a>(events: impl Iterator<Item = &'a DeploymentEvent>) -> BTreeSet<BackendName> {
    let (mut open, mut unanswered) = (None, BTreeSet::new());
    for event in events {
        match event {
            DeploymentEvent::Activating { target, .. } => unanswered.extend(open.replace(target.clone())),
            DeploymentEvent::AttemptFailed { outcome, operation, .. }
                if *outcome == crate::AttemptOutcome::Unknown || operation != "activate" => {}
            DeploymentEvent::Observed { adopted: false, .. } | DeploymentEvent::Unsettled { .. } => {
                unanswered.extend(open.take());
            }
            // It answered, or the route names it, which nobody sets without an answer.
            DeploymentEvent::Activated { .. }
            | DeploymentEvent::AttemptFailed { .. }
            | DeploymentEvent::Observed { .. }
            | DeploymentEvent::Ended { end: DeploymentEnd::Active { .. } } => open = None,
            DeploymentEvent::Ended { .. } => unanswered.extend(open.take()),
            DeploymentEvent::Swept { target } => {
                unanswered.remove(target);
            }
            _ => {}
        }
    }
    unanswered
}

/// Targets that serve it or may, as far as the events tell: it landed there, or it stayed unknown whether it did.
pub(super) fn may_serve<'a>(events: impl Iterator<Item = &'a DeploymentEvent>) -> BTreeSet<BackendName> {
    let (mut open, mut may) = (None, BTreeSet::new());
    for event in events {
        match event {
            DeploymentEvent::Activating { target, .. } => may.extend(open.replace(target.clone())),
            DeploymentEvent::Activated { target, .. }
            | DeploymentEvent::Observed { target, adopted: true }
            | DeploymentEvent::Unsettled { target } => {
                may.insert(target.clone());
                open = None;
            }
            DeploymentEvent::Observed { target, adopted: false }
            | DeploymentEvent::GaveWay { target, .. }
            | DeploymentEvent::Swept { target } => {
                may.remove(target);
                open = None;
            }
            DeploymentEvent::AttemptFailed { outcome, operation, .. }
                if *outcome != crate::AttemptOutcome::Unknown && operation == "activate" =>
            {
                open = None;
            }
            _ => {}
        }
    }
    may.extend(open);
    may
}

/// Whether a target may serve a deployment, or may yet.
pub(super) fn is_in_doubt<'a>(events: impl Iterator<Item = &'a DeploymentEvent> + Clone) -> bool {
    !unanswered(events.clone()).is_empty() || !may_serve(events).is_empty()
}

/// An event as a line of the story.
struct Line<'a>(&'a DeploymentEvent);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use DeploymentEvent as E;
        match self.0 {
            E::Requested { actor, source, targets, .. } => {
                match source {
                    DeploymentSource::Sources(at) => write!(f, "{actor} asked to deploy the sources at {at}")?,
                    DeploymentSource::Artifact { digest, of } => {
                        write!(f, "{actor} asked to deploy artifact {} of {of}", short(digest))?;
                    }
                }
                let names: Vec<_> = targets.iter().map(BackendName::as_str).collect();
                write!(f, " to {}", names.join(", then "))
            }
            E::BuildStarted { position } => write!(f, "building the sources at {position}"),
            E::Built { digest, bytes, files } => {
                write!(f, "artifact {}: {files} files, {bytes} bytes", short(digest))
            }
            E::Leased { above, holder } => write!(f, "{holder} drives it, under a fence above {above}"),
            E::Staging { target, attempt: 1 } => write!(f, "{target}: staging"),
            E::Staging { target, attempt } => write!(f, "{target}: staging, try {attempt}"),
            E::Staged { target, staged } => write!(f, "{target}: staged as {}", staged.handle.reference),
            E::Activating { target, fence } => write!(f, "{target}: activating, fence {fence}"),
            E::Activated { target, handle } => write!(f, "{target}: active as {}", handle.reference),
            E::Observed { target, adopted: true } => write!(f, "{target}: asked what it runs: it had landed, adopted"),
            E::Observed { target, adopted: false } => write!(f, "{target}: asked what it runs: not this"),
            E::AttemptFailed { target, operation, failure, .. } => {
                write!(f, "{target}: {operation} failed: {}", failure.message)
            }
            E::Unsettled { target } => {
                write!(f, "{target}: could not be asked what it runs: it may still turn up there")
            }
            E::Gated { target, gate, failure: None } => write!(f, "{target}: {gate} gate passed"),
            E::Gated { target, gate, failure: Some(why) } => write!(f, "{target}: {gate} gate failed: {why}"),
            E::Waiting { reason, until } => write!(f, "waits until {until}: {reason}"),
            E::RollingBack { target, to, fence } => write!(f, "{target}: going back to {to}, fence {fence}"),
            E::GaveWay { target, to, fence } => write!(f, "{target}: serves {to} again, fence {fence}"),
            E::Leaving { target } => write!(f, "{target}: serves the version before until that is swept"),
            E::Routing { target, fence } => write!(f, "route to {target}, fence {fence}"),
            E::AwaitingOperator { question, deadline, .. } => write!(f, "waits until {deadline}: {question}"),
            E::OperatorAnswered { actor, choice } => write!(f, "{actor} answered: {choice:?}"),
            E::Asked { target, operation, requests, millis, trace } => {
                let plural = if *requests == 1 { "" } else { "s" };
                write!(f, "{target}: {operation} took {millis} ms and {requests} request{plural}")?;
                trace.as_ref().map_or(Ok(()), |trace| write!(f, ", answered as {trace}"))
            }
            E::Released => f.write_str("given back"),
            E::Ended { end } => match end {
                DeploymentEnd::Active { target, handle, .. } => {
                    write!(f, "LIVE on {target}")?;
                    handle.url.as_ref().map_or(Ok(()), |url| write!(f, " at {url}"))
                }
                DeploymentEnd::RolledBack { to, reason } => write!(f, "ROLLED BACK to {to}: {reason}"),
                DeploymentEnd::Failed { reason } => write!(f, "FAILED: {reason}"),
                DeploymentEnd::Superseded { by: Some(by) } => write!(f, "SUPERSEDED by {by}"),
                DeploymentEnd::Superseded { by: None } => f.write_str("SUPERSEDED"),
            },
            E::Swept { target } => write!(f, "{target}: nothing is left behind, and nothing comes late"),
        }
    }
}

fn short(digest: &Digest) -> String {
    let mut text = digest.to_string();
    text.truncate(12);
    text
}
