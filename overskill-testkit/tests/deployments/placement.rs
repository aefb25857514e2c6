//! Which target an app goes to, and what an app has otherwise than its platform.

use crate::common::{PRODUCTION, assert_live, deploy, deployed, live_on, platform, scope, target, written};
use overskill_core::{
    AppFacts, AppId, AppRecord, Artifact, ArtifactConfig, AuditLog as _, BackendName, BuildRequest, Builder,
    BundleStore as _, Clock as _, DeploymentEvent, DeploymentStrategy, DeploymentTarget as _, Environment, ErrorKind,
    Fallback, Outcome, PlacementPolicy, PlatformFacts, Readiness, Result, Scope, StrategyConfig, TargetInfo,
    memory::{MemoryTarget, StaticBuilder},
};
use overskill_testkit::{
    TestPlatform,
    faulty::{Calls, Fault, FaultPlan},
};
use std::time::Duration;

/// A target of a platform that is good at something.
fn good_at(name: &str, facts: impl FnOnce(&mut PlatformFacts)) -> MemoryTarget {
    let mut info = TargetInfo::new(BackendName::parse(name).unwrap(), name);
    info.facts = PlatformFacts::read("https://example.com/made-up-for-this-test", "2026-11-22");
    facts(&mut info.facts);
    MemoryTarget::with(info)
}

/// Builds apps that say of themselves what `says` names: `sockets`, `node`, `crons`.
#[derive(Debug)]
struct Says(&'static [&'static str]);

#[async_trait::async_trait]
impl Builder for Says {
    async fn check(&self) -> Result<Readiness> {
        StaticBuilder.check().await
    }

    async fn build(&self, request: &BuildRequest) -> Result<Artifact> {
        let plain = StaticBuilder.build(request).await?;
        let mut config = ArtifactConfig::default();
        config.settings.extend(self.0.iter().map(|what| ((*what).to_owned(), "true".to_owned())));
        Artifact::new(plain.assets().clone(), None, config)
    }
}

/// Where an app that says this of itself goes.
async fn placed(strategy: DeploymentStrategy, says: &'static [&'static str]) -> Outcome {
    let test = TestPlatform::seeded(7, |builder, _| builder.deploy_with(strategy).builder(Says(says))).await.unwrap();
    let app = written(&test).await;
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    test.clock.drive(deployment.outcome()).await.unwrap()
}

#[tokio::test]
async fn a_target_that_does_not_suit_an_app_is_not_asked() {
    let strategy =
        || DeploymentStrategy::prefer(target("edge")).when(|app: &AppFacts| !app.needs_node).then(target("servers"));
    assert_eq!(live_on(&placed(strategy(), &["node"]).await), "servers");
    assert_eq!(live_on(&placed(strategy(), &[]).await), "edge");
}

#[tokio::test]
async fn an_app_that_no_target_suits_fails_and_leaves_nothing_behind() {
    let (edge, servers) = (target("edge"), target("servers"));
    let strategy = DeploymentStrategy::prefer(edge.clone())
        .when(|app| app.bytes < 10)
        .then(servers.clone())
        .when(|app| app.has_server);
    let test = platform(strategy).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "more than ten bytes").await;
    assert_eq!(d.outcome, Outcome::Failed { reason: "no target of the strategy suits this app".into() }, "{}", d.story);
    for target in [&edge, &servers] {
        assert_eq!(target.observe(&scope()).await.unwrap(), []);
    }
    assert_eq!(app.route(PRODUCTION).await.unwrap(), None);
    // The same app, smaller: the record of the failure stands in nobody's way.
    assert_eq!(live_on(&deploy(&test, &app, "small").await.outcome), "edge");
}

#[tokio::test]
async fn each_kind_of_app_goes_first_where_the_platform_is_good_at_it() {
    let strategy = || {
        DeploymentStrategy::prefer(good_at("plain", |_| ()))
            .then(good_at("sockets", |facts| facts.sleeping_sockets = true))
            .then(good_at("crons", |facts| facts.crons = true))
            .then(good_at("node", |facts| facts.node = true))
            .place(PlacementPolicy::Suitable)
    };
    // Static files suit everywhere: the order is the strategy's.
    let apps: [(&'static [&'static str], &str); 5] = [
        (&[], "plain"),
        (&["sockets"], "sockets"),
        (&["crons"], "crons"),
        (&["node"], "node"),
        (&["node", "sockets"], "node"), // without Node it does not run at all
    ];
    for (says, goes_to) in apps {
        assert_eq!(live_on(&placed(strategy(), says).await), goes_to, "{says:?}");
    }
}

#[tokio::test]
async fn the_cheapest_platform_is_asked_first_and_one_of_unknown_cost_last() {
    let costs = |name: &str, dollars| good_at(name, |facts| facts.idle_fleet_dollars = dollars);
    let strategy = || {
        DeploymentStrategy::prefer(costs("unknown", None))
            .then(costs("dear", Some(1_025)))
            .then(costs("cheap", Some(125)))
            .place(PlacementPolicy::Cheapest)
    };
    assert_eq!(live_on(&placed(strategy(), &[]).await), "cheap");
    let order: Vec<_> =
        strategy().targets_for(&AppFacts::default()).iter().map(|target| target.info().name.to_string()).collect();
    assert_eq!(order, ["cheap", "dear", "unknown"]);
}

fn config(json: &str) -> StrategyConfig {
    serde_json::from_str(json).unwrap()
}

/// Stores what the app has otherwise than the platform.
async fn store(test: &TestPlatform, config: StrategyConfig) -> Result<()> {
    let mut record = AppRecord::new("todo42".try_into().unwrap(), "todo", test.clock.now());
    record.strategy = Some(config);
    test.platform.put_app(test.host(), &record).await
}

#[tokio::test]
async fn what_is_stored_with_an_app_decides_where_it_goes_and_what_happens_when_that_fails() {
    let plan = FaultPlan::new();
    let (edge, servers, pages) = (target("edge"), target("servers"), target("pages"));
    let strategy = DeploymentStrategy::prefer(edge.clone()).then(plan.around(servers.clone())).then(pages.clone());
    let test = platform(strategy).await;
    let app = written(&test).await;
    store(&test, config(r#"{"targets": ["servers", "pages"], "tries_per_target": 1, "fallback": "cautious"}"#))
        .await
        .unwrap();
    let d = deploy(&test, &app, "one").await;
    assert_eq!(live_on(&d.outcome), "servers", "{}", d.story);
    assert!(d.story.contains("to servers, then pages"), "{}", d.story);

    // One try, and no fallback while it is unknown what the first runs.
    let lost = Fault::BeforeEffect { kind: ErrorKind::Timeout, effect: overskill_core::Effect::Unknown };
    let plan =
        plan.always(Calls::of("target", "activate"), lost).always(Calls::of("target", "status"), Fault::before());
    let d = deploy(&test, &app, "two").await;
    assert!(matches!(&d.outcome, Outcome::Failed { reason } if reason.contains("unknown")), "{}", d.story);
    let tries = d.events.iter().filter(|e| matches!(e, DeploymentEvent::Activating { .. })).count();
    assert_eq!(tries, 1, "{}", d.story);
    assert_eq!(pages.observe(&scope()).await.unwrap(), []);

    // Eager, with the platform's other target first.
    plan.pause();
    store(&test, config(r#"{"targets": ["pages"], "fallback": "eager"}"#)).await.unwrap();
    let d = deploy(&test, &app, "three").await;
    assert_eq!(live_on(&d.outcome), "pages", "{}", d.story);
    assert_eq!(edge.observe(&scope()).await.unwrap(), [], "no deployment of this app was the platform's own");
    let _ = Fallback::Eager;
}

#[tokio::test]
async fn a_policy_that_is_stored_with_an_app_orders_its_targets() {
    let strategy = DeploymentStrategy::prefer(good_at("dear", |facts| facts.idle_fleet_dollars = Some(900)))
        .then(good_at("cheap", |facts| facts.idle_fleet_dollars = Some(5)));
    let test = platform(strategy).await;
    let app = written(&test).await;
    assert_eq!(live_on(&deploy(&test, &app, "one").await.outcome), "dear");
    store(&test, config(r#"{"place": "cheapest"}"#)).await.unwrap();
    assert_eq!(live_on(&deploy(&test, &app, "two").await.outcome), "cheap");
}

#[tokio::test]
async fn a_target_that_the_platform_does_not_have_is_refused_when_it_is_stored() {
    let test = platform(DeploymentStrategy::prefer(target("edge"))).await;
    let app = written(&test).await;
    let e = store(&test, config(r#"{"targets": ["moon"]}"#)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert!(e.to_string().contains("moon") && e.to_string().contains("edge"), "{e}");
    // Nothing of it was stored.
    assert_eq!(live_on(&deploy(&test, &app, "one").await.outcome), "edge");
}

/// It is live, and died before its end was written; the platform that comes up has lost a target of its strategy.
#[tokio::test]
async fn what_is_live_stays_so_whatever_the_platform_lost_since() {
    let (edge, moon) = (target("edge"), target("moon"));
    let plan = FaultPlan::new().nth(Calls::of("deployments", "commit"), 4, Fault::before());
    let strategy = DeploymentStrategy::prefer(edge.clone()).then(moon.clone());
    let test = TestPlatform::seeded(7, |builder, memory| {
        builder.deploy_with(strategy).deployments(plan.around(memory.deployments.clone()))
    });
    let test = test.await.unwrap();
    let app = written(&test).await;
    store(&test, config(r#"{"targets": ["edge", "moon"]}"#)).await.unwrap();
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    test.clock.drive(deployment.outcome()).await.unwrap_err();
    assert_live(&test, deployment.id(), &edge).await;

    let strategy = DeploymentStrategy::prefer(edge.clone());
    let without =
        TestPlatform::over(test.clock.clone(), test.memory.clone(), |builder, _| builder.deploy_with(strategy));
    let without = without.await.unwrap();
    without.clock.advance(Duration::from_mins(5));
    without.clock.drive(without.platform.work()).await.unwrap();
    let record = app.deployment(deployment.id()).await.unwrap();
    assert!(matches!(record.outcome(), Some(Outcome::Active { .. })), "{}", record.timeline());
    let digest = record.digest().unwrap();
    assert!(test.memory.bundles.get(&scope(), digest).await.unwrap().is_some(), "what is live is held");
}

#[tokio::test]
async fn a_target_that_the_platform_lost_since_fails_the_deployment_and_nothing_is_left_behind() {
    let (edge, moon) = (target("edge"), target("moon"));
    let test = platform(DeploymentStrategy::prefer(edge.clone()).then(moon.clone())).await;
    let app = written(&test).await;
    store(&test, config(r#"{"targets": ["moon"]}"#)).await.unwrap();
    let waiting = app.deploy(PRODUCTION).await.unwrap(); // asked for, and not driven yet

    let strategy = DeploymentStrategy::prefer(edge.clone());
    let without =
        TestPlatform::over(test.clock.clone(), test.memory.clone(), |builder, _| builder.deploy_with(strategy));
    let without = without.await.unwrap();
    let host = without.host().clone();
    let app = without.platform.open(host, app.id().clone()).await.unwrap();
    assert_eq!(without.clock.drive(without.platform.work()).await.unwrap(), 1);
    let record = app.deployment(waiting.id()).await.unwrap();
    let d = deployed(&app, waiting.id(), record.outcome().unwrap()).await;
    assert!(matches!(&d.outcome, Outcome::Failed { reason } if reason.contains("moon") && reason.contains("edge")));
    for target in [&edge, &moon] {
        assert_eq!(target.observe(&scope()).await.unwrap(), []);
    }
    // A new one is refused before anything is recorded.
    app.write([("index.html", "two")]).await.unwrap();
    let before = without.memory.audit.read(None, None, std::num::NonZeroU32::new(99).unwrap()).await.unwrap();
    let e = app.deploy(PRODUCTION).await.unwrap_err();
    assert!(e.to_string().contains("moon"), "{e}");
    assert!(!before.items.is_empty());
    let all = app.deployments(PRODUCTION, None, std::num::NonZeroU32::new(9).unwrap()).await.unwrap();
    assert_eq!(all.items.len(), 1);
}

/// Whatever targets make of an app's name, a label of DNS among it: it is refused before there is an app to deploy.
#[test]
fn a_slug_over_63_characters_or_of_strange_ones_names_no_app() {
    for (slug, says) in [
        ("a".repeat(64), "1 to 32 bytes"),
        (String::new(), "1 to 32 bytes"),
        ("my-app".to_owned(), "a-z and 0-9"),
        ("Shop".to_owned(), "a-z and 0-9"),
        ("müller".to_owned(), "a-z and 0-9"),
        ("shop.example".to_owned(), "a-z and 0-9"),
    ] {
        let e = AppId::parse(&slug).unwrap_err().to_string();
        assert!(e.starts_with("app id ") && e.contains(says), "{slug}: {e}");
    }
    // The longest one there is, and one made of a longer slug, fit into a label everywhere.
    for app in [AppId::parse(&"a".repeat(AppId::MAX_BYTES)).unwrap(), AppId::derive(&"a-Slug.".repeat(20))] {
        for environment in Environment::ALL {
            let label = Scope::new(app.clone(), environment).host_label();
            assert!(label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-'), "{label}");
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{label}");
        }
    }
}
