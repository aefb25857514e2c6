//! The preview host and the route table pass the suites, on real workerd, and looked at through the dispatch Worker.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_core::{Error, FilePath, RouteTable};
use overskill_testkit::{PreviewHostFixture, PreviewOutside, RouteTableFixture};
use std::sync::Arc;
use support::Workers;
use tokio::sync::Mutex;

async fn previews() -> PreviewHostFixture {
    let workers = Arc::new(Workers::start().await);
    let (host, viewer) = (workers.previews(), workers.clone());
    let outside = PreviewOutside::new().serving(move |scope, path: FilePath| {
        // Files of `public/` are served at the root.
        let path = path.as_str().strip_prefix("public/").unwrap_or(path.as_str()).to_owned();
        let workers = viewer.clone();
        async move {
            let answer = workers.get(&scope.host_label(), &format!("/{path}")).await;
            match answer.status {
                200 => Ok(Some(answer.body.into())),
                404 => Ok(None),
                other => Err(Error::invalid(format!("{path} of {scope} was answered with {other}: {}", answer.text()))),
            }
        }
    });
    PreviewHostFixture::with(Arc::new(host), outside).keep(workers)
}

overskill_testkit::preview_host_conformance!(v1, previews());

async fn routes() -> RouteTableFixture {
    let workers = Workers::start().await;
    let table: Arc<dyn RouteTable> = Arc::new(workers.edge().routes());
    let workers = Arc::new(Mutex::new(Some(workers)));
    let again = workers.clone();
    let reopen = move || {
        let workers = again.clone();
        async move {
            let mut workers = workers.lock().await;
            let running = workers.take().unwrap().restarted().await;
            let table: Arc<dyn RouteTable> = Arc::new(running.edge().routes());
            *workers = Some(running);
            table
        }
    };
    RouteTableFixture::new(table).reopen(reopen).keep(workers)
}

overskill_testkit::route_table_conformance!(v1, routes());
