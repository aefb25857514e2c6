//! Variables that change without a deploy, and apps that stay in one place.

use crate::common::{account, emulated, request, request_of, scope, scripts};
use overskill_core::{
    Artifact, ArtifactConfig, BackendName, DeploymentTarget as _, EnvKey, EnvValue, ErrorKind, Fence, ObservedState,
    Route, RouteTable as _, Secret, ServerModule, TargetStatus, memory::MemoryRoutes,
};
use overskill_testkit::fixtures;
use std::collections::BTreeMap;

fn key(name: &str) -> EnvKey {
    EnvKey::parse(name).unwrap()
}

#[tokio::test]
async fn secrets_are_rotated_and_the_rest_stays() {
    let emulator = emulated(|options| options);
    let target = account(&emulator).target();
    let staged = target.stage(&request(1)).await.unwrap();
    let live = target.activate(&request(1), &staged, Fence::from_u64(1)).await.unwrap();
    let script = || emulator.state().namespaces["overskill-production"]["todo42-1"].clone();
    let before = script();

    let secrets: BTreeMap<_, _> =
        [(key("API_KEY"), Some(Secret::new("hunter3"))), (key("NEW"), Some("n".into()))].into();
    target.rotate_secrets(&scope(), &live, &secrets).await.unwrap();
    assert_eq!(
        (script().text("API_KEY"), script().text("NEW"), script().text("GREETING")),
        (Some("hunter3"), Some("n"), Some("hello"))
    );
    target.rotate_secrets(&scope(), &live, &[(key("NEW"), None)].into()).await.unwrap();
    assert_eq!(script().text("NEW"), None);

    let variables = [(key("GREETING"), Some(EnvValue::plain("good day"))), (key("MORE"), Some(EnvValue::sealed("m")))];
    target.set_variables(&scope(), &live, &variables.into()).await.unwrap();
    assert_eq!(
        (script().text("GREETING"), script().text("MORE"), script().text("API_KEY")),
        (Some("good day"), Some("m"), Some("hunter3"))
    );
    let after = script();
    assert_eq!(
        (after.assets, after.modules, after.tags, after.etag),
        (before.assets, before.modules, before.tags, before.etag)
    );
    let names = |bindings: &[serde_json::Value]| bindings.iter().filter(|b| b["type"] == "assets").count();
    assert_eq!(names(&after.bindings), 1, "what is no variable is inherited");
    // It is still the version that was deployed.
    let status = target.status(&scope(), request(1).id(), Fence::from_u64(1)).await.unwrap();
    assert_eq!(status, TargetStatus::Landed(live.clone()));

    let gone = overskill_core::Handle::new("todo42-9");
    let e = target.set_variables(&scope(), &gone, &[(key("A"), None)].into()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    let e =
        target.rotate_secrets(&scope(), &live, &[(key("A"), Some("x".repeat(6_000).into()))].into()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LimitExceeded);
}

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
