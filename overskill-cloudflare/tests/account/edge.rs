//! The route table and Shared previews pass the suites on an installed account, by the dispatch Worker that the emulator's
//! workerd runs: in good weather, and where requests and answers get lost on the way to it.

use crate::{
    support::{
        engine,
        weather::{FAILING, LOSSY, THROTTLED, Through, WELL, Weather},
    },
    world::World,
};
use async_trait::async_trait;
use overskill_core::{Effect, Error, Fence, FilePath, Readiness, Result, Route, RouteTable, Scope};
use overskill_http::{Method, Request, Response, Transport as _, Url, transport_fn};
use overskill_testkit::{PreviewHostFixture, PreviewOutside, RouteTableFixture};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// What a viewer sees of a file; those of `public/` are served at the root.
pub(crate) fn seen_by_a_viewer(world: &Arc<World>) -> PreviewOutside {
    let viewer = world.clone();
    PreviewOutside::new().serving(move |scope, path: FilePath| {
        let path = path.as_str().strip_prefix("public/").unwrap_or(path.as_str()).to_owned();
        let world = viewer.clone();
        async move {
            let url = format!("{}/{path}", world.at(&scope.host_label()));
            let answer = world.ask(Method::Get, &url, &[("accept", "*/*")], "").await;
            match answer.status {
                200 => Ok(Some(answer.body)),
                404 => Ok(None),
                other => Err(Error::invalid(format!("{path} of {scope}: {other} {}", answer.text()))),
            }
        }
    })
}

async fn previews(weather: Weather) -> PreviewHostFixture {
    let world = Arc::new(World::start().await);
    let (host, outside) = (world.edge_in(weather).previews(engine()), seen_by_a_viewer(&world));
    PreviewHostFixture::with(Arc::new(host), outside).keep(world)
}

/// A table as a platform uses it: when it stays unknown whether a route was cleared, it looks before it clears again.
#[derive(Debug)]
struct Careful<T>(T);

#[async_trait]
impl<T: RouteTable> RouteTable for Careful<T> {
    fn staleness(&self) -> Duration {
        self.0.staleness()
    }

    async fn check(&self) -> Result<Readiness> {
        self.0.check().await
    }

    async fn get(&self, scope: &Scope) -> Result<Option<Route>> {
        self.0.get(scope).await
    }

    async fn set(&self, scope: &Scope, route: &Route) -> Result<()> {
        self.0.set(scope, route).await
    }

    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()> {
        loop {
            match self.0.clear(scope, fence).await {
                Err(e) if e.effect() == Effect::Unknown => match self.0.standing(scope).await? {
                    (None, highest) if highest == fence => return Ok(()),
                    (_, highest) if highest > fence => return Err(e),
                    _ => {}
                },
                other => return other,
            }
        }
    }

    async fn fence(&self, scope: &Scope) -> Result<Fence> {
        self.0.fence(scope).await
    }

    async fn standing(&self, scope: &Scope) -> Result<(Option<Route>, Fence)> {
        self.0.standing(scope).await
    }
}

async fn routes(weather: Weather) -> RouteTableFixture {
    let world = Arc::new(World::start().await);
    let open = move |world: &World| -> Arc<dyn RouteTable> {
        let table = world.edge_in(weather).routes();
        // In good weather the table is held to all of it by itself. In any other it may stay unknown whether a clear landed: a
        // second one is refused where it did, so that somebody has to look in between.
        if weather.is_empty() { Arc::new(table) } else { Arc::new(Careful(table)) }
    };
    let (table, again) = (open(&world), world.clone());
    let reopen = move || {
        let world = again.clone();
        async move {
            world.emulator.restart_edge().await.unwrap();
            open(&world)
        }
    };
    RouteTableFixture::new(table).reopen(reopen).keep(world)
}

/// The same in each weather.
macro_rules! suites {
    ($($name:ident: $weather:expr;)*) => {$(
        mod $name {
            mod previews {
                use super::super::*;
                overskill_testkit::preview_host_conformance!(v1, previews($weather));
            }
            mod routes {
                use super::super::*;
                overskill_testkit::route_table_conformance!(v1, routes($weather));
            }
        }
    )*};
}

suites! {
    well: WELL;
    throttled: THROTTLED;
    failing: FAILING;
    lossy: LOSSY;
}

#[tokio::test]
async fn what_a_weather_names_goes_wrong_as_often_as_it_says() {
    for weather in [THROTTLED, FAILING, LOSSY] {
        let (mut seen, arrived) = (0, Arc::new(AtomicU32::new(0)));
        let counter = arrived.clone();
        let way = Through::new(
            transport_fn(move |_: Request| {
                counter.fetch_add(1, Ordering::Relaxed);
                async { Ok(Response::new(200, "well")) }
            }),
            weather,
        );
        for _ in 0..2_000 {
            let request = Request::new(Method::Get, Url::parse("http://localhost/").unwrap());
            let well = match way.send(request).await {
                Ok(answer) => answer.collect(10).await.is_ok_and(|answer| answer.text() == "well"),
                Err(_) => false,
            };
            seen += u32::from(well);
        }
        let arrived = arrived.load(Ordering::Relaxed);
        assert!((1_640..1_760).contains(&seen), "{weather:?}: {seen} of 2,000 were well");
        let lost_before = weather.iter().filter(|(_, wrong)| !wrong.lands()).map(|(chance, _)| 2 * chance).sum::<u64>();
        assert!(u64::from(2_000 - arrived).abs_diff(lost_before) < 60, "{weather:?}: {arrived} arrived");
    }
}
