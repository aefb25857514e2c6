use super::{NAME, Shared};
use crate::{Error, Fence, Readiness, Result, Route, RouteTable, Scope};
use async_trait::async_trait;
use std::{collections::HashMap, time::Duration};

/// Routes in memory; a reader sees a new one at once. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryRoutes(Shared<HashMap<Scope, Fenced>>);

/// What is live, and the highest fence there ever was.
#[derive(Default)]
struct Fenced {
    fence: Fence,
    route: Option<Route>,
}

impl MemoryRoutes {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl RouteTable for MemoryRoutes {
    fn staleness(&self) -> Duration {
        Duration::ZERO
    }

    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(NAME))
    }

    async fn get(&self, scope: &Scope) -> Result<Option<Route>> {
        Ok(self.0.lock().get(scope).and_then(|fenced| fenced.route.clone()))
    }

    async fn set(&self, scope: &Scope, route: &Route) -> Result<()> {
        let mut table = self.0.lock();
        let fenced = table.entry(scope.clone()).or_default();
        let same = |current: &Route| current.deployment == route.deployment && current.fence == route.fence;
        if route.fence > fenced.fence || fenced.route.as_ref().is_some_and(same) {
            *fenced = Fenced { fence: route.fence, route: Some(route.clone()) };
            Ok(())
        } else {
            Err(overtaken("set", scope, route.fence, fenced.fence))
        }
    }

    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()> {
        let mut table = self.0.lock();
        let fenced = table.entry(scope.clone()).or_default();
        if fence > fenced.fence {
            *fenced = Fenced { fence, route: None };
            Ok(())
        } else {
            Err(overtaken("clear", scope, fence, fenced.fence))
        }
    }

    async fn fence(&self, scope: &Scope) -> Result<Fence> {
        Ok(self.0.lock().get(scope).map_or(Fence::ZERO, |fenced| fenced.fence))
    }

    async fn standing(&self, scope: &Scope) -> Result<(Option<Route>, Fence)> {
        let table = self.0.lock();
        Ok(table.get(scope).map_or((None, Fence::ZERO), |fenced| (fenced.route.clone(), fenced.fence)))
    }
}

fn overtaken(operation: &'static str, scope: &Scope, fence: Fence, highest: Fence) -> Error {
    let message = format!("fence must be above {highest}, but was {fence}: take the lease again");
    Error::conflict(message).at(NAME, operation).with("scope", scope)
}
