//! The embedded target and preview host pass the suites, looked at through real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use bytes::Bytes;
use overskill_core::{
    AppFacts, BackendName, DeploymentStrategy, DeploymentTarget, Error, FilePath, PlacementPolicy, Result, Scope,
    memory::MemoryTarget,
};
use overskill_local::LocalTarget;
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

#[tokio::test]
async fn apps_are_placed_by_what_this_platform_is_good_at() {
    let running = Running::start().await;
    let other = || MemoryTarget::new(BackendName::parse("other").unwrap());
    let first = |strategy: DeploymentStrategy, app: &AppFacts| strategy.targets_for(app)[0].info().name.to_string();
    let (files, mut server) = (AppFacts::default(), AppFacts::default());
    server.has_server = true;

    let last = || DeploymentStrategy::prefer(other()).then(running.backends.target());
    assert_eq!(first(last(), &files), "other");
    assert_eq!(first(last().place(PlacementPolicy::Cheapest), &files), "local", "what the other costs nobody knows");
    let preferred = || DeploymentStrategy::prefer(running.backends.target()).then(other());
    assert_eq!(first(preferred().place(PlacementPolicy::Suitable), &files), "local");
    assert_eq!(first(preferred().place(PlacementPolicy::Suitable), &server), "other");
}

/// A fact without a source is no fact: the README is the source, and says what the code does.
#[tokio::test]
async fn the_facts_are_those_of_the_readme() {
    let info = Running::start().await.backends.target().info();
    let facts = &info.facts;
    assert_eq!(*facts, LocalTarget::FACTS);
    let readme = include_str!("../README.md");
    let (_, table) = readme.split_once("## For placement").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    assert!(facts.source.contains("For placement") && table.contains(facts.read_on), "{}", facts.source);
    let says = |row: &str, what: &str| {
        let line = table.lines().find(|line| line.starts_with(&format!("| {row}"))).unwrap();
        assert!(line.contains(what), "{line} says {what}");
    };
    says("static files", &format!("| {} MiB and 20,000 files", info.max_artifact_bytes >> 20));
    assert_eq!(info.max_artifact_files, 20_000);
    says("server module", "| none");
    assert!(!info.runs_servers && !facts.node && !facts.crons);
    says("sockets of an app", "| none");
    assert!(!facts.sleeping_sockets);
    says("50,000 apps", &format!("| {} dollars a month", facts.idle_fleet_dollars.unwrap()));
}

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
