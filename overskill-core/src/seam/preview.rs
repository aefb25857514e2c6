use crate::{BackendName, Changes, EnvSnapshot, PublicUrl, Readiness, Result, Scope, Snapshot, StreamPosition};
use async_trait::async_trait;
use std::fmt::Debug;

/// An open preview.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Preview {
    /// Where its pages are.
    pub url: PublicUrl,
    /// Where its updates come from.
    pub websocket_url: PublicUrl,
    /// The sources that it shows.
    pub position: StreamPosition,
}

impl Preview {
    /// A preview that shows the sources at `position`.
    pub const fn new(url: PublicUrl, websocket_url: PublicUrl, position: StreamPosition) -> Self {
        Self { url, websocket_url, position }
    }
}

/// What a host knows of a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreviewStatus {
    /// It is open.
    Open {
        /// The preview.
        preview: Preview,
        /// How many viewers are connected.
        viewers: u32,
    },
    /// It is not open here.
    Closed,
    /// Somebody wants to see it, but the host lost its sources: open it again.
    Empty,
}

/// Whether an update reached a preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// It shows the new position now.
    Applied,
    /// It stands elsewhere: catch up from there, or open it anew if that cannot be told.
    Missed {
        /// The position that it has; `None` if the host knows nothing of the preview.
        have: Option<StreamPosition>,
    },
}

/// Where live previews run. It takes sources, compiles and serves them; it never reads a `FileStore`.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait PreviewHost: Debug + Send + Sync + 'static {
    /// Its name, as the host gave it.
    fn name(&self) -> BackendName;

    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Shows `snapshot` with the variables of `env`, and says at which position the preview stands then.
    ///
    /// If it is open with other sources or another revision of the variables, these take their place; with the same,
    /// nothing happens. It never goes back: sources that are older than those shown, in the same incarnation, leave those
    /// shown.
    async fn open(&self, scope: &Scope, snapshot: &Snapshot, env: &EnvSnapshot) -> Result<Preview>;

    /// Brings an open preview from `base` to `next`; or says where it stands.
    async fn apply(
        &self,
        scope: &Scope,
        base: StreamPosition,
        next: StreamPosition,
        changes: &Changes,
    ) -> Result<Update>;

    /// What the host knows of it.
    async fn status(&self, scope: &Scope) -> Result<PreviewStatus>;

    /// Ends it. Fine if it is not open.
    async fn close(&self, scope: &Scope) -> Result<()>;
}

crate::seam::forward_seam!(PreviewHost as "previews" [fn name(&self) -> BackendName;] {
    safe fn check(&self) -> Readiness;
    safe fn open(&self, scope: &Scope, snapshot: &Snapshot, env: &EnvSnapshot) -> Preview;
    safe fn apply(&self, scope: &Scope, base: StreamPosition, next: StreamPosition, changes: &Changes) -> Update;
    safe fn status(&self, scope: &Scope) -> PreviewStatus;
    safe fn close(&self, scope: &Scope) -> ();
});
