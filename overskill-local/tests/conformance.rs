//! The embedded target and preview host pass the suites, looked at through real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use bytes::Bytes;
use overskill_core::{DeploymentTarget, Error, FilePath, Result, Scope};
use overskill_testkit::{DeploymentTargetFixture, PreviewHostFixture, PreviewOutside, TargetOutside};
use std::sync::Arc;
use support::Running;
use tokio::sync::Mutex;

async fn fetch(running: Arc<Running>, scope: Scope, path: String) -> Result<Option<Bytes>> {
    let answer = running.get(&scope.host_label(), &format!("/{path}")).await;
    match answer.status {
        200 => Ok(Some(answer.body.into())),
        404 => Ok(None),
        other => Err(Error::invalid(format!("{path} of {scope} was answered with {other}: {}", answer.text()))),
    }
}

/// A server that may be started again; it is there but while that happens.
type Restarting = Arc<Mutex<Option<Arc<Running>>>>;

async fn target() -> DeploymentTargetFixture {
    let running = Running::start().await;
    let target = running.backends.target();
    let server: Restarting = Arc::new(Mutex::new(Some(Arc::new(running))));
    let (outside, again) = (server.clone(), server.clone());
    let outside = TargetOutside::new().serving(move |scope, path: FilePath| {
        let outside = outside.clone();
        async move {
            let running = outside.lock().await.clone().unwrap();
            fetch(running, scope, path.to_string()).await
        }
    });
    let reopen = move || {
        let server = again.clone();
        async move {
            let mut server = server.lock().await;
            let running = Arc::into_inner(server.take().unwrap()).expect("nobody asks meanwhile").restarted().await;
            let target: Arc<dyn DeploymentTarget> = Arc::new(running.backends.target());
            *server = Some(Arc::new(running));
            target
        }
    };
    DeploymentTargetFixture::with(Arc::new(target), outside).reopen(reopen).keep(server)
}

overskill_testkit::deployment_target_conformance!(v1, target());

async fn previews() -> PreviewHostFixture {
    let running = Arc::new(Running::start().await);
    let (host, outside) = (running.backends.previews(), running.clone());
    let outside = PreviewOutside::new().serving(move |scope, path: FilePath| {
        // Files of `public/` are served at the root.
        let path = path.as_str().strip_prefix("public/").unwrap_or(path.as_str()).to_owned();
        fetch(outside.clone(), scope, path)
    });
    PreviewHostFixture::with(Arc::new(host), outside).keep(running)
}

overskill_testkit::preview_host_conformance!(v1, previews());
