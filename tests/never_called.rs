//! With mocks (feature `mock` of core): what must not be called is not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use overskill::{
    AccessToken, BackendName, DeploymentStrategy, Environment, ErrorKind, MockDeploymentTarget, MockFileStore,
    Overskill, Readiness, StoreInfo, TargetInfo,
};

fn target() -> MockDeploymentTarget {
    let mut target = MockDeploymentTarget::new();
    let name = BackendName::parse("mock").unwrap();
    target.expect_info().returning(move || TargetInfo::new(name.clone(), "mock"));
    target.expect_check().returning(|| Ok(Readiness::ready("mock")));
    target.expect_stage().never();
    target.expect_activate().never();
    target.expect_remove().never();
    target
}

#[tokio::test]
async fn a_refused_token_reaches_no_backend() {
    let mut files = MockFileStore::new();
    files.expect_info().returning(|| StoreInfo::new("mock"));
    files.expect_check().returning(|| Ok(Readiness::ready("mock")));
    files.expect_snapshot().never();
    files.expect_apply().never();
    let platform =
        Overskill::builder().files(files).deploy_with(DeploymentStrategy::prefer(target())).build().await.unwrap();
    let e = platform.app(&AccessToken::parse("not-a-token").unwrap(), "todo42").await.unwrap_err();
    assert_eq!((e.kind(), e.public_message()), (ErrorKind::Unauthenticated, "Access denied."));
}

#[tokio::test]
async fn a_deployment_that_nobody_drives_calls_no_target() {
    use overskill::{AppId, AppRecord, SystemScopes, Timestamp};
    let platform = Overskill::builder().deploy_with(DeploymentStrategy::prefer(target())).build().await.unwrap();
    let todo = AppId::parse("todo42").unwrap();
    let host = platform.gate().system("test", "deploys", SystemScopes::All).await.unwrap();
    platform.put_app(&host, &AppRecord::new(todo.clone(), "Todo", Timestamp::EPOCH)).await.unwrap();
    let app = platform.open(host, todo).await.unwrap();
    app.write([("index.html", "hi")]).await.unwrap();
    let deployment = app.deploy(Environment::Production).await.unwrap();
    drop(deployment.outcome()); // a future that is never polled does nothing
}
