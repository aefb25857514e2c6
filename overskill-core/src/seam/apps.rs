use crate::{AppId, Page, Readiness, Result, StrategyConfig, SubjectId, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt::Debug, num::NonZeroU32};

/// Whether an app may be worked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppState {
    /// In use.
    Active,
    /// Nobody may change or deploy it; what is live stays live.
    Suspended,
    /// On its way out.
    Removed,
}

impl AppState {
    /// Its name: `active`, `suspended` or `removed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Removed => "removed",
        }
    }
}

/// An app that the platform knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    /// Its id.
    pub app: AppId,
    /// What people call it; at most 200 bytes.
    pub name: String,
    /// Whose it is.
    pub owner: Option<SubjectId>,
    /// Whether it may be worked with.
    pub state: AppState,
    /// When it was first put.
    pub created_at: Timestamp,
    /// What is otherwise for its deployments than in the platform's strategy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategyConfig>,
}

impl AppRecord {
    /// Longest name in bytes.
    pub const MAX_NAME_BYTES: usize = 200;

    /// An active app.
    pub fn new(app: AppId, name: impl Into<String>, created_at: Timestamp) -> Self {
        Self { app, name: name.into(), owner: None, state: AppState::Active, created_at, strategy: None }
    }

    /// Says whose it is.
    pub fn owned_by(mut self, owner: SubjectId) -> Self {
        self.owner = Some(owner);
        self
    }

    /// Sets whether it may be worked with.
    pub fn state(mut self, state: AppState) -> Self {
        self.state = state;
        self
    }

    /// Says what is otherwise for its deployments.
    pub fn deployed_with(mut self, strategy: StrategyConfig) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// Refuses what no directory takes.
    pub fn admit(&self) -> Result<()> {
        if self.name.len() > Self::MAX_NAME_BYTES {
            return Err(crate::ParseError::new("app name", "must be at most 200 bytes long", &self.name).into());
        }
        self.strategy.as_ref().map_or(Ok(()), StrategyConfig::admit)
    }
}

/// The list of apps with their state.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait AppDirectory: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Adds or replaces an app once it is durable. The time of creation of an app that was there stays.
    async fn put(&self, app: &AppRecord) -> Result<()>;

    /// One app, or `None`.
    async fn get(&self, app: &AppId) -> Result<Option<AppRecord>>;

    /// Apps in the order of their ids, at most `limit`, after the app `after`.
    async fn list(&self, after: Option<AppId>, limit: NonZeroU32) -> Result<Page<AppRecord, AppId>>;
}

crate::seam::forward_seam!(AppDirectory as "apps" [] {
    safe fn check(&self) -> Readiness;
    safe fn put(&self, app: &AppRecord) -> ();
    safe fn get(&self, app: &AppId) -> Option<AppRecord>;
    safe fn list(&self, after: Option<AppId>, limit: NonZeroU32) -> Page<AppRecord, AppId>;
});
