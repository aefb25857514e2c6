//! Which target suits which app.

use crate::{Artifact, BackendName, DeploymentTarget};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// What decides where an app is placed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[non_exhaustive]
pub struct AppFacts {
    /// It has a server module.
    pub has_server: bool,
    /// Many of its connections stay open (`WebSocket`s).
    pub many_sockets: bool,
    /// It needs modules that only Node has.
    pub needs_node: bool,
    /// It is to be called on a schedule.
    pub has_crons: bool,
    /// How large its artifact is, in bytes.
    pub bytes: u64,
}

impl AppFacts {
    /// What an artifact says of its app. The settings `sockets`, `node` and `crons` of its
    /// [`ArtifactConfig`](crate::ArtifactConfig), each with the value `true`, say what its files do not. The builders of
    /// overskill-build take them from package.json: `{"overskill": {"sockets": true}}`.
    pub fn of(artifact: &Artifact) -> Self {
        let says = |key: &str| artifact.config().settings.get(key).is_some_and(|value| value == "true");
        Self {
            has_server: artifact.server().is_some(),
            many_sockets: says("sockets"),
            needs_node: says("node"),
            has_crons: says("crons"),
            bytes: artifact.size_bytes(),
        }
    }
}

/// What matters most when a platform is chosen. Each puts those targets first whose platform is good at it; their order is
/// otherwise that of the strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PlacementPolicy {
    /// The order of the strategy.
    #[default]
    AsListed,
    /// What the app is: sockets, Node, schedules, or static files alone.
    Suitable,
    /// What costs least for an app like this.
    Cheapest,
}

/// What a target says of its platform, for placement. Each provider's crate holds its own, with the source: a fact without
/// a source is no fact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlatformFacts {
    /// Its sockets may sleep without cost while nothing is said.
    pub sleeping_sockets: bool,
    /// It runs most of what Node runs.
    pub node: bool,
    /// It calls apps on a schedule.
    pub crons: bool,
    /// US dollars a month for 50,000 apps that are seldom visited; `None` where nobody knows, which ranks last.
    pub idle_fleet_dollars: Option<u32>,
    /// Where that was read.
    pub source: &'static str,
    /// When, as year-month-day.
    pub read_on: &'static str,
}

impl PlatformFacts {
    /// Facts that were read at `source` on that day; none are claimed yet.
    pub const fn read(source: &'static str, read_on: &'static str) -> Self {
        Self { sleeping_sockets: false, node: false, crons: false, idle_fleet_dollars: None, source, read_on }
    }
}

/// The strategy's conditions and policy.
#[derive(Clone, Default)]
pub(super) struct Placed {
    conditions: Vec<(BackendName, Condition)>,
    policy: PlacementPolicy,
}

type Condition = Arc<dyn Fn(&AppFacts) -> bool + Send + Sync>;

impl Placed {
    pub(super) fn when(&mut self, target: BackendName, suits: impl Fn(&AppFacts) -> bool + Send + Sync + 'static) {
        self.conditions.push((target, Arc::new(suits)));
    }

    pub(super) fn policy(&mut self, policy: PlacementPolicy) {
        self.policy = policy;
    }

    /// Whether two apps may have different targets.
    pub(super) fn by_app(&self) -> bool {
        !self.conditions.is_empty() || self.policy != PlacementPolicy::AsListed
    }

    pub(super) fn order(
        &self,
        targets: &[Arc<dyn DeploymentTarget>],
        app: &AppFacts,
    ) -> Vec<Arc<dyn DeploymentTarget>> {
        let suits = |name: &BackendName| self.conditions.iter().all(|(of, suits)| of != name || suits(app));
        let mut chosen: Vec<_> = targets.iter().filter(|target| suits(&target.info().name)).cloned().collect();
        // A stable sort: what is equal stays as listed.
        chosen.sort_by_key(|target| self.policy.rank(&target.info(), app));
        chosen
    }
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Placed({:?}, {} conditions)", self.policy, self.conditions.len())
    }
}

impl PlacementPolicy {
    /// The lower, the sooner it is asked.
    fn rank(self, info: &crate::TargetInfo, app: &AppFacts) -> u32 {
        let facts = &info.facts;
        match self {
            Self::AsListed => 0,
            Self::Suitable => {
                let lacks = |needed: bool, has: bool| u32::from(needed && !has);
                lacks(app.has_server, info.runs_servers) * 8
                    + lacks(app.needs_node, facts.node) * 4
                    + lacks(app.has_crons, facts.crons) * 2
                    + lacks(app.many_sockets, facts.sleeping_sockets)
            }
            Self::Cheapest => facts.idle_fleet_dollars.unwrap_or(u32::MAX),
        }
    }
}
