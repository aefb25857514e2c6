//! The embedded target and preview host pass the suites, looked at through real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use bytes::Bytes;
use overskill_core::{Error, FilePath, Result, Scope};
use overskill_testkit::{DeploymentTargetFixture, PreviewHostFixture, PreviewOutside, TargetOutside};
use std::sync::Arc;
use support::Running;

async fn fetch(running: Arc<Running>, scope: Scope, path: String) -> Result<Option<Bytes>> {
    let answer = running.get(&scope.host_label(), &format!("/{path}")).await;
    match answer.status {
        200 => Ok(Some(answer.body.into())),
        404 => Ok(None),
        other => Err(Error::invalid(format!("{path} of {scope} was answered with {other}: {}", answer.text()))),
    }
}

async fn target() -> DeploymentTargetFixture {
    let running = Arc::new(Running::start().await);
    let (target, outside) = (running.backends.target(), running.clone());
    let outside =
        TargetOutside::new().serving(move |scope, path: FilePath| fetch(outside.clone(), scope, path.to_string()));
    DeploymentTargetFixture::with(Arc::new(target), outside).keep(running)
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
