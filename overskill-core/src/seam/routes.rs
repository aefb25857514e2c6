use crate::{BackendName, DeploymentId, Fence, Handle, Readiness, Result, Scope};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt::Debug, time::Duration};

/// What serves a scope. **What is active is what the route names.**
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Route {
    /// The target that serves it.
    pub target: BackendName,
    /// The deployment that is live.
    pub deployment: DeploymentId,
    /// What the target calls it.
    pub handle: Handle,
    /// The fence it was activated under.
    pub fence: Fence,
}

impl Route {
    /// `target` serves `deployment`, which it calls `handle` and activated under `fence`.
    pub const fn new(target: BackendName, deployment: DeploymentId, handle: Handle, fence: Fence) -> Self {
        Self { target, deployment, handle, fence }
    }
}

/// Which target serves each scope.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait RouteTable: Debug + Send + Sync + 'static {
    /// How long a reader may still be sent to the previous route after `set` returned.
    fn staleness(&self) -> Duration;

    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// The route, or `None` when nothing is live.
    async fn get(&self, scope: &Scope) -> Result<Option<Route>>;

    /// Sets the route once it is durable, if and only if its fence is greater than that of every route before it, or
    /// equal to the current one for the same deployment (then the handle may change). Otherwise `Conflict`.
    async fn set(&self, scope: &Scope, route: &Route) -> Result<()>;

    /// Takes the scope off the air, under the same rule: `fence` must be greater than that of every route before.
    /// The fence is remembered.
    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()>;

    /// The highest fence that was ever set here, or [`Fence::ZERO`].
    async fn fence(&self, scope: &Scope) -> Result<Fence>;

    /// [`get`](Self::get) and [`fence`](Self::fence) in one answer, where the table can give one. The route may be newer than
    /// the fence, never older.
    async fn standing(&self, scope: &Scope) -> Result<(Option<Route>, Fence)> {
        let fence = self.fence(scope).await?;
        Ok((self.get(scope).await?, fence))
    }
}

crate::seam::forward_seam!(RouteTable as "routes" [fn staleness(&self) -> Duration;] {
    safe fn check(&self) -> Readiness;
    safe fn get(&self, scope: &Scope) -> Option<Route>;
    safe fn set(&self, scope: &Scope, route: &Route) -> ();
    unsafe_to_repeat fn clear(&self, scope: &Scope, fence: Fence) -> ();
    safe fn fence(&self, scope: &Scope) -> Fence;
    safe fn standing(&self, scope: &Scope) -> (Option<Route>, Fence);
});
