//! The platform in memory: what a seed promises, and that it is in this process alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use overskill_core::{AuditLog as _, Environment, RouteTable as _, Scope, StreamName};
use overskill_testkit::{TestPlatform, fixtures};
use std::num::NonZeroU32;

/// Everything that can be seen of an app that was written, deployed, changed and deployed again.
async fn story(test: TestPlatform) -> Vec<String> {
    let app = test.app("todo42").await;
    app.write(fixtures::todo_app()).await.unwrap();
    let mut told = Vec::new();
    for text in ["one", "two"] {
        app.write([("note.txt", text)]).await.unwrap();
        let deployment = app.deploy(Environment::Production).await.unwrap();
        let outcome = test.clock.drive(deployment.outcome()).await.unwrap();
        told.push(format!("{:?} {outcome:?}", deployment.id()));
        told.extend(deployment.record().await.unwrap().events().iter().map(|e| format!("{e:?}")));
    }
    let scope = Scope::new("todo42".try_into().unwrap(), Environment::Production);
    told.push(format!("{:?}", test.memory.routes.get(&scope).await.unwrap()));
    told.push(format!("{:?}", test.memory.audit.read(None, None, NonZeroU32::MAX).await.unwrap()));
    told.push(format!("{:?}", test.memory.progress.since(&StreamName::deployments(&scope), None)));
    told
}

#[tokio::test]
async fn the_same_seed_tells_the_same_story() {
    let seeded = async |seed| story(TestPlatform::seeded(seed, |builder, _| builder).await.unwrap()).await;
    let (one, again, other) = (seeded(1).await, seeded(1).await, seeded(2).await);
    assert_eq!(one, again);
    assert_eq!(story(overskill_testkit::platform().await).await, one, "the seed of `platform` is 1");
    assert_eq!(one.len(), other.len());
    assert!(one.iter().zip(&other).any(|(one, other)| one != other), "another seed has the same ids: {one:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_child_process_is_started() {
    story(overskill_testkit::platform().await).await;
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let children = std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap();
        assert_eq!(children.trim(), "", "children of this process");
    }
}
