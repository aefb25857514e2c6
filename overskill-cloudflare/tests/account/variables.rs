//! Variables that change without a deploy.

use crate::common::{account, emulated, request, scope};
use overskill_core::{DeploymentTarget as _, EnvKey, EnvValue, ErrorKind, Fence, Secret, TargetStatus};
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
