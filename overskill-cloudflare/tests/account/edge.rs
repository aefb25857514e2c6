//! The route table and Shared previews pass the suites on an installed account, by the dispatch Worker that the emulator's
//! workerd runs: in good weather, and where requests and answers get lost on the way to it.

use crate::{
    support::{
        engine,
        weather::{FAILING, LOSSY, THROTTLED, Through, WELL, Weather},
    },
    world::World,
};
use overskill_core::{Error, FilePath, RouteTable};
use overskill_http::{Method, Request, Response, Transport as _, Url, transport_fn};
use overskill_testkit::{PreviewHostFixture, PreviewOutside, RouteTableFixture};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
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

async fn routes(weather: Weather) -> RouteTableFixture {
    let world = Arc::new(World::start().await);
    let open = move |world: &World| -> Arc<dyn RouteTable> { Arc::new(world.edge_in(weather).routes()) };
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
