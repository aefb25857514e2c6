//! Which target serves each scope, as the dispatch Worker knows it.

use crate::edge::Edge;
use async_trait::async_trait;
use overskill_core::{
    AppId, BackendName, DeploymentId, Effect, Error, Fence, Handle, PublicUrl, Readiness, Result, Route, RouteTable,
    Scope,
};
use overskill_http::{Call, Method, Repeat};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;

/// The routes at the edge: a Durable Object for each app, which the dispatch Worker asks at most once a second.
///
/// Read from here they are as they are; a viewer may be sent to the previous one for [a second](RouteTable::staleness). A change
/// whose answer was lost is looked for by itself, and made again if it is not there, four times at most. Its effect stays unknown
/// if that cannot be asked either, if each of the four was lost, or if something newer is there by then. Where every call
/// hangs, that may last for minutes: longer than a lease, which the fences are there for. Made by [`Edge::routes`].
#[derive(Clone, Debug)]
pub struct CloudflareRoutes(Edge);

/// How long an isolate of the dispatch Worker goes on with what it was told.
const STALENESS: Duration = Duration::from_secs(1);
/// How often a change whose answer is lost is made, at most.
const TRIES: u32 = 4;

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

    /// Sets or clears. Whose answer is lost asks what is there, and says it again if it is not that.
    async fn put(&self, scope: &Scope, operation: &'static str, fence: Fence, route: Option<&Route>) -> Result<()> {
        let mut lost: Option<Error> = None;
        for _ in 0..TRIES {
            let answer = self.put_once(scope, operation, fence, route).await;
            let is_answer = answer.is_ok();
            let standing = match answer {
                Ok(standing) if !standing.conflict => return Ok(()),
                Ok(standing) => standing,
                Err(e) if e.effect() == Effect::Unknown => {
                    let asked = self.told(scope, operation).await;
                    let Ok(standing) = asked else { return Err(e) };
                    lost = Some(e);
                    standing
                }
                // What was lost before may land yet.
                Err(e) if lost.is_some() => return Err(e.effect_as(Effect::Unknown)),
                Err(e) => return Err(e),
            };
            let highest = self::fence(&standing.fence)?;
            if lost.is_some() && highest == fence && standing.route.map(self::route).transpose()?.as_ref() == route {
                return Ok(());
            }
            if is_answer || highest > fence {
                let message = format!("fence must be above {highest}, but was {fence}: take the lease again");
                let error = Error::conflict(message).at(self.0.name().to_string(), operation).with("scope", scope);
                // It may have been so until something newer came.
                return Err(if lost.is_some() { error.effect_as(Effect::Unknown) } else { error });
            }
        }
        Err(lost.unwrap_or_else(|| unreachable!("whoever was answered has returned")))
    }

    async fn put_once(
        &self,
        scope: &Scope,
        operation: &'static str,
        fence: Fence,
        route: Option<&Route>,
    ) -> Result<Standing> {
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
        self.0.ask(Method::Put, &path, operation, with).await
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IngestKey;
    use overskill_core::{ErrorKind, KeyId, SeededIds, Timestamp};
    use overskill_http::{Request, Response, cut_off, transport_fn};
    use serde_json::{Value, from_slice};
    use std::{
        collections::VecDeque,
        num::NonZeroU32,
        sync::{Arc, Mutex},
    };

    /// What becomes of a change.
    #[derive(Clone, Copy, PartialEq)]
    enum Change {
        /// It lands, and its answer is lost.
        Lands,
        /// It is lost, and so is its answer.
        Lost,
        /// The same as the first; and a newer one lands right after it.
        Displaced,
        Answered,
    }

    /// The Worker's table for one scope, where the next changes go so and every other one is answered.
    fn table(changes: &[Change]) -> (CloudflareRoutes, Arc<Mutex<Value>>) {
        let table = Arc::new(Mutex::new(json!({ "fence": "0", "route": null })));
        let (kept, next) = (table.clone(), Mutex::new(changes.iter().copied().collect::<VecDeque<_>>()));
        let way = transport_fn(move |request: Request| {
            let mut now = kept.lock().unwrap();
            let said = |now: &Value| Ok(Response::new(200, now.to_string()));
            let answer = match request.method {
                Method::Put => {
                    let change = next.lock().unwrap().pop_front().unwrap_or(Change::Answered);
                    let fences = |of: &Value| of["fence"].as_str().unwrap().parse::<u64>().unwrap();
                    let mut body: Value = from_slice(&request.body).unwrap();
                    let same = !body["route"].is_null() && body["route"]["deployment"] == now["route"]["deployment"];
                    let admitted = fences(&body) > fences(&now) || fences(&body) == fences(&now) && same;
                    if admitted && change != Change::Lost {
                        if !body["route"].is_null() {
                            body["route"]["fence"] = body["fence"].clone();
                        }
                        *now = body;
                    }
                    if change == Change::Displaced {
                        *now = json!({ "fence": "9", "route": null });
                    }
                    let mut told = now.clone();
                    told["conflict"] = (!admitted).into();
                    if change == Change::Answered { said(&told) } else { Err(cut_off("no way back")) }
                }
                _ => said(&now),
            };
            async move { answer }
        });
        let key = IngestKey::generate(KeyId::parse("k1").unwrap(), &SeededIds::new(1));
        let edge = Edge::builder("http://localhost", key).transport(way).max_tries(NonZeroU32::MIN).build().unwrap();
        (edge.routes(), table)
    }

    fn scope() -> Scope {
        "todo42/production".parse().unwrap()
    }

    fn live(fence: u64) -> Route {
        let id = DeploymentId::generate(&SeededIds::new(1), Timestamp::from_unix_millis(1_794_000_000_000));
        Route::new(BackendName::parse("cloudflare").unwrap(), id, Handle::new("todo42-1"), Fence::from_u64(fence))
    }

    #[tokio::test]
    async fn a_change_whose_answer_was_lost_is_looked_for() {
        for changes in [&[Change::Lands][..], &[Change::Lost], &[Change::Lost, Change::Lost, Change::Lands]] {
            let (routes, _) = table(changes);
            routes.set(&scope(), &live(1)).await.unwrap();
            assert_eq!(routes.get(&scope()).await.unwrap(), Some(live(1)));
            let (routes, _) = table(&[&[Change::Answered], changes].concat());
            routes.set(&scope(), &live(1)).await.unwrap();
            routes.clear(&scope(), Fence::from_u64(2)).await.unwrap();
            assert_eq!(routes.standing(&scope()).await.unwrap(), (None, Fence::from_u64(2)));
            // Whoever was answered is not excused.
            let e = routes.clear(&scope(), Fence::from_u64(2)).await.unwrap_err();
            assert_eq!((e.kind(), e.effect()), (ErrorKind::Conflict, Effect::None), "{e}");
        }
    }

    #[tokio::test]
    async fn what_something_newer_displaced_is_refused_and_may_have_been() {
        for clears in [false, true] {
            let (routes, _) = table(&[Change::Displaced]);
            let route = live(2);
            let changed =
                if clears { routes.clear(&scope(), route.fence).await } else { routes.set(&scope(), &route).await };
            let e = changed.unwrap_err();
            assert_eq!((e.kind(), e.effect()), (ErrorKind::Conflict, Effect::Unknown), "{e}");
            assert!(e.message().contains("above 9, but was 2"), "{e}");
        }
    }

    #[tokio::test]
    async fn what_is_lost_each_time_stays_unknown() {
        let (routes, table) = table(&[Change::Lost; 99]);
        let e = routes.clear(&scope(), Fence::from_u64(1)).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::Unknown), "{e}");
        assert_eq!(table.lock().unwrap()["fence"], "0");
    }
}
