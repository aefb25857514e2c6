//! The stores on Postgres keep every rule of their seams.
#![cfg(feature = "postgres")]
#![allow(missing_docs)]

use overskill_core::{
    AppDirectory, AuditLog, BundleStore, DeploymentStore, EnvStore, FileStore, RouteTable, Sealer, SystemIds,
};
use overskill_sql::{PostgresOptions, PostgresStores};
use overskill_testkit::{
    AppDirectoryFixture, AuditLogFixture, BundleStoreFixture, DeploymentStoreFixture, EnvStoreFixture,
    FileStoreFixture, Fixture, Jobs, JobsFixture, RouteTableFixture, TestKeys, postgres::PostgresCluster,
};
use std::sync::Arc;

async fn connect(url: &str) -> PostgresStores {
    PostgresStores::connect(url, PostgresOptions::new()).await.expect("the database can be used")
}

/// A fixture of the store that `pick` takes from the handle, in a database of its own.
async fn on_server<S: ?Sized + 'static, W>(
    with: W,
    pick: impl Fn(&PostgresStores) -> Arc<S> + Clone + Send + Sync + 'static,
) -> Fixture<S, W> {
    let cluster = PostgresCluster::shared().expect("a server starts");
    let url: Arc<str> = cluster.fresh_database().expect("a database is made").into();
    let store = pick(&connect(&url).await);
    let reopen = move || {
        let (url, pick) = (url.clone(), pick.clone());
        async move { pick(&connect(&url).await) }
    };
    Fixture::with(store, with).reopen(reopen)
}

async fn files() -> FileStoreFixture {
    on_server::<dyn FileStore, _>((), |stores| Arc::new(stores.files())).await
}
async fn bundles() -> BundleStoreFixture {
    on_server::<dyn BundleStore, _>((), |stores| Arc::new(stores.bundles())).await
}
async fn env() -> EnvStoreFixture {
    let keys = TestKeys::new();
    let sealer = Sealer::new(Arc::new(keys.clone()), Arc::new(SystemIds));
    on_server::<dyn EnvStore, _>(keys, move |stores| Arc::new(stores.env(sealer.clone()))).await
}
async fn routes() -> RouteTableFixture {
    on_server::<dyn RouteTable, _>((), |stores| Arc::new(stores.routes())).await
}
async fn audit() -> AuditLogFixture {
    on_server::<dyn AuditLog, _>((), |stores| Arc::new(stores.audit())).await
}
async fn apps() -> AppDirectoryFixture {
    on_server::<dyn AppDirectory, _>((), |stores| Arc::new(stores.apps())).await
}
async fn deployments() -> DeploymentStoreFixture {
    on_server::<dyn DeploymentStore, _>((), |stores| Arc::new(stores.deployments())).await
}

async fn jobs() -> JobsFixture {
    on_server((), |stores| Arc::new(Jobs::new(Arc::new(stores.jobs())))).await
}

overskill_testkit::file_store_conformance!(v1, files());
overskill_testkit::bundle_store_conformance!(v1, bundles());
overskill_testkit::env_store_conformance!(v1, env());
overskill_testkit::route_table_conformance!(v1, routes());
overskill_testkit::audit_log_conformance!(v1, audit());
overskill_testkit::app_directory_conformance!(v1, apps());
overskill_testkit::deployment_store_conformance!(v1, deployments());
overskill_testkit::jobs_conformance!(v1, jobs());
