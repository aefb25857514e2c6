//! What an account has of a scope, and what a target remembers of it for a moment.

use super::names::Label;
use crate::api::{AssetToken, ScriptSummary};
use overskill_core::{DeploymentId, Digest, Fence, Handle, Observed, ObservedState, Route, Scope};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// The scripts of a scope.
#[derive(Clone, Debug, Default)]
pub(super) struct Site {
    scripts: Vec<ScriptSummary>,
    /// Those that are ours, by fence.
    versions: Vec<Version>,
}

/// A script that is ours.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) script: String,
    pub(super) label: Label,
}

impl Version {
    fn is_in_place(&self) -> bool {
        self.script == super::names::in_place(&self.label.app)
    }
}

/// What the platform's routes say of a scope.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    /// If it names this target.
    pub(super) route: Option<Route>,
    /// The highest there ever was, whatever the target.
    pub(super) fence: Fence,
}

impl Site {
    pub(super) fn of(scripts: Vec<ScriptSummary>) -> Self {
        let version = |script: &ScriptSummary| {
            let label = Label::read(script.tags.as_deref()?)?;
            Some(Version { script: script.id.clone(), label })
        };
        let mut versions: Vec<Version> = scripts.iter().filter_map(version).collect();
        versions.sort_by_key(|version| (version.label.fence, version.label.id));
        Self { scripts, versions }
    }

    /// Everything that is there, ours or not.
    pub(super) fn scripts(&self) -> &[ScriptSummary] {
        &self.scripts
    }

    /// The version with the greatest fence.
    pub(super) fn newest(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// The newest one of an artifact.
    pub(super) fn of_artifact(&self, digest: Digest) -> Option<&Version> {
        self.versions.iter().rev().find(|version| version.label.digest == digest)
    }

    /// What has the traffic, and under which fence: what the route names, or without routes the newest.
    pub(super) fn active(&self, standing: Option<&Standing>) -> Option<(&Version, Fence)> {
        let Some(standing) = standing else { return self.newest().map(|newest| (newest, newest.label.fence)) };
        let route = standing.route.as_ref()?;
        let named = self.versions.iter().find(|version| version.script == route.handle.reference)?;
        // What stays in one place may have been uploaded over: its own tags say what it is.
        let under = if named.is_in_place() { named.label.fence } else { route.fence };
        Some((named, under))
    }

    /// The version in the script that stays in one place.
    pub(super) fn in_place(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.is_in_place())
    }

    /// The same with a version that was just brought there.
    pub(super) fn with(mut self, script: &str, label: Label) -> Self {
        self.versions.retain(|version| version.script != script);
        self.versions.push(Version { script: script.to_owned(), label });
        self.versions.sort_by_key(|version| (version.label.fence, version.label.id));
        self
    }

    /// The newest script of a deployment.
    pub(super) fn version(&self, id: DeploymentId) -> Option<&Version> {
        self.versions.iter().rev().find(|version| version.label.id == id)
    }

    pub(super) fn observed(&self, standing: Option<&Standing>, handle: impl Fn(&str) -> Handle) -> Vec<Observed> {
        let active = self.active(standing);
        let observed = |version: &Version| {
            let Version { script, label } = version;
            let (state, fence) = match active {
                Some((live, under)) if live.script == *script => (ObservedState::Active, under),
                // What was staged under a fence that was never routed to; older ones may have served.
                _ if standing.is_some_and(|standing| label.fence >= standing.fence) => {
                    (ObservedState::Staged, label.fence)
                }
                _ => (ObservedState::Previous, label.fence),
            };
            let fence = Some(fence).filter(|fence| *fence > Fence::ZERO);
            Observed::new(state).id(label.id).digest(label.digest).fence(fence).handle(handle(script))
        };
        let ours = self.versions.iter().map(observed);
        // What somebody else tagged with the app's tag has no fence, so nothing is routed to it by us.
        let others = self.scripts.iter().filter(|s| s.tags.as_deref().and_then(Label::read).is_none());
        ours.chain(others.map(|s| Observed::new(ObservedState::Staged).handle(Handle::new(&*s.id)))).collect()
    }
}

/// What was seen and brought there lately. Losing it costs calls, nothing else.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    sites: HashMap<Scope, (Site, Duration)>,
    tokens: HashMap<(Scope, DeploymentId), Token>,
}

/// A token of assets, which is for one script.
#[derive(Debug)]
struct Token {
    secret: AssetToken,
    script: String,
    at: Duration,
}

/// How long what was seen counts as seen: from a look to the upload that follows.
const A_MOMENT: Duration = Duration::from_secs(15);
/// How long a token of assets is used; the provider takes it for an hour.
const TOKEN_LIFE: Duration = Duration::from_mins(30);
/// What is remembered of so many scopes at most.
const MOST: usize = 4_096;

impl Memory {
    pub(super) fn saw(&self, scope: &Scope, site: Site, now: Duration) {
        let mut memory = self.lock();
        if memory.sites.len() >= MOST {
            memory.sites.retain(|_, (_, at)| now.saturating_sub(*at) < A_MOMENT);
        }
        if memory.sites.len() < MOST {
            memory.sites.insert(scope.clone(), (site, now));
        }
    }

    pub(super) fn seen(&self, scope: &Scope, now: Duration) -> Option<Site> {
        let memory = self.lock();
        let (site, at) = memory.sites.get(scope)?;
        (now.saturating_sub(*at) < A_MOMENT).then(|| site.clone())
    }

    pub(super) fn forget(&self, scope: &Scope) {
        self.lock().sites.remove(scope);
    }

    pub(super) fn keep(&self, scope: &Scope, id: DeploymentId, script: &str, token: AssetToken, now: Duration) {
        let mut memory = self.lock();
        if memory.tokens.len() >= MOST {
            memory.tokens.retain(|_, token| now.saturating_sub(token.at) < TOKEN_LIFE);
        }
        if memory.tokens.len() < MOST {
            let token = Token { secret: token, script: script.to_owned(), at: now };
            memory.tokens.insert((scope.clone(), id), token);
        }
    }

    pub(super) fn token(&self, scope: &Scope, id: DeploymentId, script: &str, now: Duration) -> Option<AssetToken> {
        let memory = self.lock();
        let kept = memory.tokens.get(&(scope.clone(), id))?;
        (kept.script == script && now.saturating_sub(kept.at) < TOKEN_LIFE).then(|| kept.secret.clone())
    }

    pub(super) fn drop_token(&self, scope: &Scope, id: DeploymentId) {
        self.lock().tokens.remove(&(scope.clone(), id));
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().expect("nobody panics with this lock")
    }
}
