//! Gates look at the version that is being deployed: through the dispatch Worker, while the route names another.

use crate::{
    common::{id, request, scope, scripts},
    support::PATIENCE,
    world::World,
};
use overskill_core::{
    AppHandle, AppId, AppRecord, Changes, Clock as _, DeploymentStrategy, DeploymentTarget as _, Environment, Fence,
    HealthGate, HealthProbe, Outcome, Platform, SystemClock, SystemScopes, memory::MemoryBackends,
};
use overskill_http::{HttpProbe, Method};
use overskill_testkit::fixtures::path;
use std::{num::NonZeroU32, time::Duration};

const PRODUCTION: Environment = Environment::Production;

/// A platform whose routes are at the edge, and an app in it.
async fn platform(world: &World, strategy: DeploymentStrategy) -> (Platform, AppHandle) {
    let memory = MemoryBackends::new();
    let strategy = strategy.tries_per_target(NonZeroU32::MIN).late_arrivals(Duration::ZERO);
    let platform = memory.platform().deploy_with(strategy).routes(world.edge.routes()).build().await.unwrap();
    let host = platform.gate().system("tests", "a test", SystemScopes::All).await.unwrap();
    let app = AppId::parse("todo42").unwrap();
    platform.put_app(&host, &AppRecord::new(app.clone(), "todo", SystemClock.now())).await.unwrap();
    let app = platform.open(host, app).await.unwrap();
    (platform, app)
}

/// `GET`: status, body, and whether search engines are sent away.
async fn get(world: &World, url: &str) -> (u16, String, bool) {
    let answer = world.ask(Method::Get, url, &[], "").await;
    (answer.status, answer.text(), answer.header("x-robots-tag") == Some("noindex"))
}

async fn page(world: &World) -> String {
    get(world, &world.at("todo42")).await.1
}

/// An isolate may go on for a second with what it was told of a route.
async fn becomes(world: &World, wanted: &str) {
    let read = async {
        while page(world).await != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("no page says {wanted:?}"));
}

async fn deploy(app: &AppHandle, page: &str, healthy: bool) -> Outcome {
    let (index, health) = (path("index.html"), path("health.txt"));
    let changes = Changes::new().put(index, page.to_owned());
    let known = app.sources().await.unwrap().files.contains_key(&health);
    let changes = if healthy {
        changes.put(health, "well")
    } else if known {
        changes.delete(health)
    } else {
        changes
    };
    app.apply(&changes, None).await.unwrap();
    app.deploy(PRODUCTION).await.unwrap().outcome().await.unwrap()
}

/// Well is what has a `health.txt`.
fn probe() -> HttpProbe {
    HttpProbe::on_loopback().unwrap().path("/health.txt").unwrap()
}

fn gate(probe: impl HealthProbe) -> HealthGate {
    HealthGate::new(probe).passes(NonZeroU32::MIN, NonZeroU32::MIN).every(Duration::ZERO)
}

#[tokio::test]
async fn a_staged_gate_that_fails_leaves_the_old_version_serving_and_the_sweep_takes_the_new_one() {
    let world = World::start().await;
    let strategy = DeploymentStrategy::prefer(world.target()).gate_staged(gate(probe()));
    let (platform, app) = platform(&world, strategy).await;
    assert!(matches!(deploy(&app, "one", true).await, Outcome::Active { .. }));
    becomes(&world, "one").await;
    let first = scripts(&world.emulator, "production");

    let sick = deploy(&app, "two", false).await;
    assert!(matches!(&sick, Outcome::Failed { reason } if reason.contains("it answered 404")), "{sick}");
    assert_eq!(page(&world).await, "one");
    let both = scripts(&world.emulator, "production");
    assert_eq!(both.len(), 2, "it was staged: {both:?}");
    for _ in 0..3 {
        platform.work().await.unwrap();
    }
    assert_eq!(scripts(&world.emulator, "production"), first, "what was staged for nothing is swept");

    assert!(matches!(deploy(&app, "three", true).await, Outcome::Active { .. }));
    becomes(&world, "three").await;
}

#[tokio::test]
async fn a_live_gate_asks_the_new_version_while_the_route_names_the_old_one() {
    let world = World::start().await;
    let target = world.target();
    let strategy = DeploymentStrategy::prefer(target.clone()).gate_live(gate(target.probe(probe())));
    let (_platform, app) = platform(&world, strategy).await;
    assert!(matches!(deploy(&app, "one", true).await, Outcome::Active { .. }));
    becomes(&world, "one").await;
    let sick = deploy(&app, "two", false).await;
    assert!(matches!(&sick, Outcome::RolledBack { reason } if reason.contains("it answered 404")), "{sick}");
    assert_eq!(page(&world).await, "one");
    // The app's own address answers with the old version: a probe that only goes there finds it well.
    let strategy = DeploymentStrategy::prefer(world.target()).gate_live(gate(probe()));
    let (_other, app) = platform(&world, strategy).await;
    let unseen = deploy(&app, "two", false).await;
    assert!(matches!(unseen, Outcome::Active { .. }), "{unseen}");
}

#[tokio::test]
async fn a_version_has_an_address_that_nobody_can_guess() {
    let world = World::start().await;
    let (target, first) = (world.target(), request(1));
    let staged = target.stage(&first).await.unwrap();
    let url = staged.handle.url.expect("a staged version has an address").to_string();
    assert!(url.contains("-1-ptodo42."), "{url}");
    let (status, page, hidden) = get(&world, &format!("{url}/")).await;
    let index = first.artifact().assets().iter().find(|(path, _)| path.as_str() == "index.html").unwrap().1;
    assert_eq!((status, page.as_bytes(), hidden), (200, &index.contents()[..], true));
    // Nobody is sent there: nothing is routed.
    assert_eq!(get(&world, &world.at("todo42")).await.0, 404);
    // It is the app's pages and code, and none of its data.
    assert_eq!(get(&world, &format!("{url}/api/entities")).await.0, 404);

    target.stage(&request(2)).await.unwrap();
    let (_, label) = url.split_once("://v").unwrap();
    let proof = &label[..14];
    let other = if proof.starts_with('0') { "1" } else { "0" };
    for guess in [
        url.replacen(proof, &format!("{other}{}", &proof[1..]), 1),
        url.replacen(proof, &"0".repeat(14), 1),
        url.replacen("-1-p", "-2-p", 1),
        url.replacen("-1-p", "-1-s", 1),
        url.replacen("-ptodo42", "-ptodo43", 1),
        url.replacen("-1-p", "-01-p", 1),
    ] {
        assert_ne!(guess, url);
        let (status, page, _) = get(&world, &format!("{guess}/")).await;
        assert_eq!(status, 404, "{guess}: {page}");
    }
    // Staged under no fence, or in a table of another target's, it is looked at by nobody.
    let unfenced = target.stage(&request(3).under(Fence::ZERO)).await.unwrap();
    assert_eq!(unfenced.handle.url, None);
    assert!(unfenced.handle.reference.starts_with("todo42-0-"), "{}", unfenced.handle.reference);
    assert_eq!(target.observe(&scope()).await.unwrap().iter().filter(|o| o.id == Some(id(3))).count(), 1);
}
