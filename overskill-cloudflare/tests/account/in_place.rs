//! Apps whose Durable Objects keep them in one place: whatever comes late, and whoever cleans up, leaves what is newer and
//! what the objects hold.

use crate::common::{account, api, calls, connect, emulated, id, request_of, scope, scripts, transport};
use async_trait::async_trait;
use overskill_cloudflare::{Cloudflare, WfpTarget};
use overskill_core::{
    AppHandle, Artifact, ArtifactConfig, BackendName, BuildRequest, Builder, DeploymentStrategy, DeploymentTarget as _,
    Digest, Effect, Environment, ErrorKind, Fence, Health, HealthGate, ObservedState, Outcome, Readiness, Removal,
    Result, Route, RouteTable as _, SeededIds, ServerModule, TargetStatus, TestClock,
    memory::{MemoryBackends, MemoryProbe, MemoryRoutes, StaticBuilder},
};
use overskill_http::{Method, Request, Transport as _, not_sent, transport_fn};
use overskill_testkit::{
    TestPlatform,
    cloudflare::{Calls, CloudflareEmulator, Fault, FaultPlan, Moment},
    fixtures,
};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

fn with_objects(classes: &str, n: u64) -> Artifact {
    let mut config = ArtifactConfig::default();
    config.settings.insert("durable_objects".into(), classes.into());
    let code = format!(
        "import {{ DurableObject }} from 'cloudflare:workers';\n\
         export class Room extends DurableObject {{}}\nexport class Counter extends DurableObject {{}}\n\
         export default {{ fetch() {{ return new Response('{n}'); }} }};\n"
    );
    let server = ServerModule { module: code.into(), wasm: BTreeMap::new() };
    Artifact::new([(fixtures::path("index.html"), "hi".into())].into(), Some(server), config).unwrap()
}

#[tokio::test]
async fn an_app_with_durable_objects_stays_in_one_place() {
    let emulator = emulated(|options| options);
    let target = account(&emulator).target();
    let script = || emulator.state().namespaces["overskill-production"]["todo42"].clone();
    for (n, classes, tag) in
        [(1, "ROOMS=Room", "v1"), (2, "ROOMS=Room", "v1"), (3, "ROOMS=Room,COUNTERS=Counter", "v2")]
    {
        let request = request_of(n, with_objects(classes, n));
        let fence = Fence::from_u64(n);
        let staged = target.stage(&request).await.unwrap();
        let handle = target.activate(&request, &staged, fence).await.unwrap();
        assert_eq!(handle.reference, "todo42");
        assert_eq!(scripts(&emulator, "production"), ["todo42"]);
        assert_eq!(script().migration_tag.as_deref(), Some(tag), "{n}");
        let observed = target.observe(&scope()).await.unwrap();
        let seen: Vec<_> = observed.iter().map(|o| (o.state, o.id, o.fence)).collect();
        assert_eq!(seen, [(ObservedState::Active, Some(request.id()), Some(fence))]);
    }
    assert_eq!(script().classes, ["Counter", "Room"]);
    // An old fence is refused as far as it can be seen, and displaces nothing.
    let late = request_of(4, with_objects("ROOMS=Room", 4));
    let staged = target.stage(&late).await.unwrap();
    let e = target.activate(&late, &staged, Fence::from_u64(2)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    assert_eq!(script().migration_tag.as_deref(), Some("v2"));
}

/// There the upload gives the traffic, so it waits for the activation; and it has landed before the route names it.
#[tokio::test]
async fn what_stays_in_one_place_is_not_staged_and_lands_by_its_upload() {
    let (emulator, routes) = (emulated(|options| options), MemoryRoutes::new());
    let target = account(&emulator).target().routed_by(routes.clone());
    let request = request_of(1, with_objects("ROOMS=Room", 1));
    let fence = Fence::from_u64(1);
    let staged = target.stage(&request).await.unwrap();
    assert_eq!((&staged.handle.url, scripts(&emulator, "production").len()), (&None, 0));
    let handle = target.activate(&request, &staged, fence).await.unwrap();
    let status = target.status(&scope(), request.id(), fence).await.unwrap();
    assert_eq!(status, TargetStatus::Landed(handle.clone()));
    let name = BackendName::parse("cloudflare").unwrap();
    routes.set(&scope(), &Route::new(name, request.id(), handle, fence)).await.unwrap();
    let seen = async || {
        let observed = target.observe(&scope()).await.unwrap();
        observed.iter().map(|o| (o.state, o.id, o.fence)).collect::<Vec<_>>()
    };
    assert_eq!(seen().await, [(ObservedState::Active, Some(request.id()), Some(fence))]);
    // Uploaded over, it is what it is now, whatever the route says.
    let next = request_of(2, with_objects("ROOMS=Room", 2)).under(Fence::from_u64(2));
    let staged = target.stage(&next).await.unwrap();
    target.activate(&next, &staged, Fence::from_u64(2)).await.unwrap();
    assert_eq!(seen().await, [(ObservedState::Active, Some(next.id()), Some(Fence::from_u64(2)))]);
    let status = target.status(&scope(), request.id(), fence).await.unwrap();
    assert_eq!(status, TargetStatus::Superseded);
}

/// Deploys a version under the fence of its number.
async fn deploy(target: &WfpTarget, n: u64, artifact: Artifact) {
    let request = request_of(n, artifact);
    let staged = target.stage(&request).await.unwrap();
    target.activate(&request, &staged, Fence::from_u64(n)).await.unwrap();
}

#[tokio::test]
async fn what_somebody_uploaded_a_moment_ago_is_not_uploaded_over() {
    let (emulator, routes) = (emulated(|options| options), MemoryRoutes::new());
    let (late, other) = (account(&emulator).target(), account(&emulator).target());
    let by_route = account(&emulator).target().routed_by(routes.clone());
    deploy(&late, 1, with_objects("ROOMS=Room", 1)).await;
    let second = request_of(2, with_objects("ROOMS=Room", 2));
    late.observe(&scope()).await.unwrap();
    let staged = late.stage(&second).await.unwrap();
    deploy(&other, 3, with_objects("ROOMS=Room", 3)).await;
    let uploads = calls(&emulator, "PUT", "/scripts/");
    let e = late.activate(&second, &staged, Fence::from_u64(2)).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Conflict, Effect::None), "{e}");
    // Nor where the route alone tells what is newer.
    let name = BackendName::parse("cloudflare").unwrap();
    let route = Route::new(name, id(9), overskill_core::Handle::new("todo42"), Fence::from_u64(9));
    routes.set(&scope(), &route).await.unwrap();
    let e = by_route.activate(&second, &staged, Fence::from_u64(8)).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Conflict, Effect::None), "{e}");
    assert_eq!(calls(&emulator, "PUT", "/scripts/"), uploads, "nothing went up");
    let observed = other.observe(&scope()).await.unwrap();
    let seen: Vec<_> = observed.iter().map(|o| (o.state, o.id, o.fence)).collect();
    assert_eq!(seen, [(ObservedState::Active, Some(id(3)), Some(Fence::from_u64(3)))]);
}

/// What happens right after an upload has landed.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Somebody else uploads a version under the fence of its number.
    Another(u64),
    /// Nothing can be asked any more.
    Silence,
}

/// The account on a way where that happens.
fn interrupted(emulator: &CloudflareEmulator, then: Then) -> Cloudflare {
    let (way, landed) = (Arc::new(transport(emulator)), Arc::new(AtomicBool::new(false)));
    let seen = emulator.clone();
    let way = transport_fn(move |request: Request| {
        let (way, landed, emulator) = (way.clone(), landed.clone(), seen.clone());
        async move {
            if landed.load(Ordering::Relaxed) && matches!(then, Then::Silence) {
                return Err(not_sent("no way there"));
            }
            let uploads = request.method == Method::Put && request.url.expose().contains("/scripts/todo42?");
            let answer = way.send(request).await;
            if uploads {
                landed.store(true, Ordering::Relaxed);
                if let Then::Another(n) = then {
                    let digest = Digest::of(b"another");
                    let tags = [
                        "app-todo42".to_owned(),
                        format!("deployment-{}", id(n)),
                        format!("digest-{digest}"),
                        "env-1.1".to_owned(),
                        format!("fence-{n}"),
                    ];
                    let tags = ("application/json".to_owned(), serde_json::json!(tags).to_string().into());
                    let at = "workers/dispatch/namespaces/overskill-production/scripts/todo42/tags";
                    api(&emulator, "PUT", at, tags).await;
                }
            }
            answer
        }
    });
    connect(emulator).transport(way).max_tries(NonZeroU32::MIN).build().unwrap()
}

#[tokio::test]
async fn what_is_there_after_an_upload_is_what_is_told() {
    for (then, kind, became) in [
        (Then::Another(5), ErrorKind::Conflict, "Superseded"),
        (Then::Another(1), ErrorKind::Unavailable, "Absent"),
        (Then::Silence, ErrorKind::Unavailable, "Landed"),
    ] {
        let emulator = emulated(|options| options);
        let target = interrupted(&emulator, then).target();
        let request = request_of(2, with_objects("ROOMS=Room", 2));
        let staged = target.stage(&request).await.unwrap();
        let e = target.activate(&request, &staged, Fence::from_u64(2)).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (kind, Effect::Unknown), "{then:?}: {e}");
        let status = account(&emulator).target().status(&scope(), id(2), Fence::from_u64(2)).await.unwrap();
        assert!(format!("{status:?}").starts_with(became), "{then:?}: {status:?}");
    }
}

#[tokio::test]
async fn an_upload_in_one_place_whose_answer_was_lost_is_not_sent_again() {
    let lost = FaultPlan::none().nth(1, Calls::of("PUT", "/scripts/"), Fault::CutOff(Moment::After));
    let emulator = emulated(|options| options.faults(lost));
    let target = account(&emulator).target();
    let request = request_of(1, with_objects("ROOMS=Room", 1));
    let staged = target.stage(&request).await.unwrap();
    let e = target.activate(&request, &staged, Fence::from_u64(1)).await.unwrap_err();
    assert_eq!((e.effect(), calls(&emulator, "PUT", "/scripts/")), (Effect::Unknown, 1), "{e}");
    let status = target.status(&scope(), id(1), Fence::from_u64(1)).await.unwrap();
    assert!(matches!(status, TargetStatus::Landed(_)), "{status:?}");
    // Under another fence code and tags go up together.
    target.activate(&request, &staged, Fence::from_u64(2)).await.unwrap();
    assert_eq!((calls(&emulator, "PUT", "/scripts/"), calls(&emulator, "PUT", "/tags")), (2, 0));
}

#[tokio::test]
async fn nothing_less_than_everything_removes_what_stays_in_one_place() {
    let emulator = emulated(|options| options);
    let plain = account(&emulator).target();
    let routed = account(&emulator).target().routed_by(MemoryRoutes::new());
    deploy(&plain, 1, with_objects("ROOMS=Room", 1)).await;
    deploy(&plain, 2, fixtures::artifact(2, 2)).await;
    for target in [&plain, &routed] {
        let e = target.remove(&scope(), Removal::Only(id(1))).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unsupported, Effect::None), "{e}");
        assert!(e.message().contains("todo42") && e.message().contains("Removal::All"), "{e}");
        assert_eq!(scripts(&emulator, "production"), ["todo42", "todo42-2"]);
    }
    let observed = plain.observe(&scope()).await.unwrap();
    assert!(observed.iter().any(|o| o.id == Some(id(1))), "what stays is told: {observed:?}");
    plain.remove(&scope(), Removal::Only(id(2))).await.unwrap();
    assert_eq!(scripts(&emulator, "production"), ["todo42"]);
    plain.remove(&scope(), Removal::All).await.unwrap();
    assert_eq!(scripts(&emulator, "production"), [""; 0]);
}

/// Builds an app whose page says `objects` with a Durable Object, and any other without.
#[derive(Debug)]
struct Objects;

#[async_trait]
impl Builder for Objects {
    async fn check(&self) -> Result<Readiness> {
        StaticBuilder.check().await
    }

    async fn build(&self, request: &BuildRequest) -> Result<Artifact> {
        let plain = StaticBuilder.build(request).await?;
        let says = plain.assets()[&fixtures::path("index.html")].contents();
        Ok(if says.starts_with(b"objects") { with_objects("ROOMS=Room", says.len() as u64) } else { plain })
    }
}

/// A platform over the account, and an app in it.
async fn platform(
    emulator: &CloudflareEmulator,
    strategy: impl FnOnce(DeploymentStrategy) -> DeploymentStrategy,
) -> (TestPlatform, AppHandle) {
    let clock = TestClock::new();
    let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(7)));
    let cf = connect(emulator).clock(clock.clone()).build().unwrap();
    let strategy = strategy(DeploymentStrategy::prefer(cf.target().routed_by(memory.routes.clone())));
    let test = TestPlatform::over(clock, memory, |builder, _| builder.deploy_with(strategy).builder(Objects));
    let test = test.await.unwrap();
    let app = test.app("todo42").await;
    (test, app)
}

async fn deploy_page(test: &TestPlatform, app: &AppHandle, page: &str) -> (Outcome, overskill_core::DeploymentId) {
    app.write([("index.html", page.to_owned())]).await.unwrap();
    let deployment = app.deploy(Environment::Production).await.unwrap();
    (test.clock.drive(deployment.outcome()).await.unwrap(), deployment.id())
}

#[tokio::test]
async fn an_app_that_has_no_objects_any_more_keeps_what_they_held_when_old_versions_retire() {
    let emulator = emulated(|options| options);
    let (test, app) = platform(&emulator, |strategy| strategy.keep(NonZeroU32::MIN)).await;
    for (page, there) in [
        ("objects", &["todo42"][..]),
        ("one", &["todo42", "todo42-2"]),
        ("two", &["todo42", "todo42-3"]),
        // They are back, with what they held.
        ("objects again", &["todo42"]),
    ] {
        let (outcome, _) = deploy_page(&test, &app, page).await;
        assert!(matches!(outcome, Outcome::Active { .. }), "{page}: {outcome}");
        assert_eq!(scripts(&emulator, "production"), there, "{page}");
    }
}

#[tokio::test]
async fn a_sweep_leaves_what_objects_hold_and_the_record_says_so() {
    let (emulator, probe) = (emulated(|options| options), MemoryProbe::new());
    probe.otherwise(Health::Unhealthy { reason: "sick".into() });
    let (test, app) = platform(&emulator, |strategy| strategy.gate_live(HealthGate::new(probe))).await;
    let (outcome, sick) = deploy_page(&test, &app, "objects").await;
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome}");
    for _ in 0..3 {
        test.clock.advance(Duration::from_mins(11));
        test.clock.drive(test.platform.work()).await.unwrap();
        assert_eq!(scripts(&emulator, "production"), ["todo42"]);
    }
    let left = app.deployment(sick).await.unwrap().leftovers();
    assert!(left.iter().any(|name| name.as_str() == "cloudflare"), "{left:?}");
}
