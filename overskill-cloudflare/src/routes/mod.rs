//! Which target serves each scope, as the dispatch Worker knows it.

use crate::edge::Edge;
use async_trait::async_trait;
use overskill_core::{
    AppId, BackendName, DeploymentId, Error, Fence, Handle, PublicUrl, Readiness, Result, Route, RouteTable, Scope,
};
use overskill_http::{Call, Method, Repeat};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

/// The routes at the edge: a Durable Object for each app, which the dispatch Worker asks at most once a second.
///
/// Read from here they are as they are; a viewer may be sent to the previous one for [a second](RouteTable::staleness).
/// Made by [`Edge::routes`].
#[derive(Clone, Debug)]
pub struct CloudflareRoutes(Edge);

/// How long an isolate of the dispatch Worker goes on with what it was told.
const STALENESS: Duration = Duration::from_secs(1);

impl CloudflareRoutes {
    pub(crate) fn new(edge: Edge) -> Self {
        Self(edge)
    }

    /// Says on which plan an app is, which sets the limits of its Workers; `None`: the default.
    pub async fn set_plan(&self, app: &AppId, plan: Option<&str>) -> Result<()> {
        let body = json!({ "plan": plan });
        self.note(&["apps", app.as_str()], "set_plan", &body).await
    }

    /// Says which app is shown under a host name of its own, such as `todo.example`; `None`: none any more.
    pub async fn connect_host(&self, hostname: &str, scope: Option<&Scope>) -> Result<()> {
        let name = hostname.to_ascii_lowercase();
        let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-".contains(&c);
        // With a dot at its end it would be another name of a host that may be somebody else's.
        if name.len() > 253 || !name.bytes().all(legal) || name.split('.').any(str::is_empty) {
            let shown: String = hostname.chars().take(60).collect();
            let rule = "must be 1 to 253 of a-z, 0-9 and -, with single dots in between, in ASCII (punycode)";
            return Err(Error::invalid(format!("hostname {rule}, but was {shown:?}")));
        }
        let body = json!({ "scope": scope.map(ToString::to_string) });
        self.note(&["hosts", &name], "connect_host", &body).await
    }

    async fn note(&self, path: &[&str], operation: &'static str, body: &serde_json::Value) -> Result<()> {
        let noted = self.0.ask(Method::Put, path, operation, |call| call.json(body)).await;
        noted.map(|_: serde_json::Value| ())
    }

    async fn told(&self, scope: &Scope, operation: &'static str) -> Result<Standing> {
        let path = ["routes", scope.app.as_str(), scope.environment.as_str()];
        self.0.ask(Method::Get, &path, operation, |call| call.for_app(&scope.app)).await
    }

    async fn put(&self, scope: &Scope, operation: &'static str, fence: Fence, route: Option<&Route>) -> Result<()> {
        let route = route.map(|route| {
            json!({
                "target": route.target, "deployment": route.deployment,
                "handle": { "reference": route.handle.reference, "url": route.handle.url },
            })
        });
        let route = serde_json::Value::from(route);
        let body = json!({ "fence": fence.as_u64().to_string(), "route": route });
        let path = ["routes", scope.app.as_str(), scope.environment.as_str()];
        // A route that was cleared under a fence cannot be cleared under it again.
        let repeat = if route.is_null() { Repeat::Once } else { Repeat::Idempotent };
        let with = |call: Call| call.for_app(&scope.app).json(&body).repeat(repeat);
        let standing: Standing = self.0.ask(Method::Put, &path, operation, with).await?;
        if standing.conflict {
            let message = format!("fence must be above {}, but was {fence}: take the lease again", standing.fence);
            let error = Error::conflict(message).at(self.0.name().to_string(), operation);
            return Err(error.with("scope", scope));
        }
        Ok(())
    }
}

/// What the table answers. Fences are texts: JavaScript's numbers do not hold them all.
#[derive(Debug, Deserialize)]
struct Standing {
    fence: String,
    route: Option<Told>,
    #[serde(default)]
    conflict: bool,
}

#[derive(Debug, Deserialize, Serialize)]
struct Told {
    target: BackendName,
    deployment: DeploymentId,
    handle: ToldHandle,
    fence: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct ToldHandle {
    reference: String,
    url: Option<PublicUrl>,
}

fn fence(text: &str) -> Result<Fence> {
    let number = text.parse().map_err(|e| Error::unexpected("the route table gave a fence that is none", e))?;
    Ok(Fence::from_u64(number))
}

fn route(told: Told) -> Result<Route> {
    let mut handle = Handle::new(told.handle.reference);
    handle.url = told.handle.url;
    Ok(Route::new(told.target, told.deployment, handle, fence(&told.fence)?))
}

#[async_trait]
impl RouteTable for CloudflareRoutes {
    fn staleness(&self) -> Duration {
        STALENESS
    }

    async fn check(&self) -> Result<Readiness> {
        self.0.readiness().await
    }

    async fn get(&self, scope: &Scope) -> Result<Option<Route>> {
        self.told(scope, "get").await?.route.map(route).transpose()
    }

    async fn set(&self, scope: &Scope, route: &Route) -> Result<()> {
        self.put(scope, "set", route.fence, Some(route)).await
    }

    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()> {
        self.put(scope, "clear", fence, None).await
    }

    async fn fence(&self, scope: &Scope) -> Result<Fence> {
        fence(&self.told(scope, "fence").await?.fence)
    }

    async fn standing(&self, scope: &Scope) -> Result<(Option<Route>, Fence)> {
        let told = self.told(scope, "standing").await?;
        Ok((told.route.map(route).transpose()?, fence(&told.fence)?))
    }
}
