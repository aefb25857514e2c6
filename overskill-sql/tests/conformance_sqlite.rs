//! The stores on SQLite keep every rule of their seams.
#![cfg(feature = "sqlite")]
#![allow(missing_docs)]

mod common;

use common::Folder;
use overskill_core::{
    AppDirectory, AuditLog, BundleStore, DeploymentStore, EnvStore, FileStore, RouteTable, Sealer, SystemIds,
};
use overskill_sql::{SqliteOptions, SqliteStores};
use overskill_testkit::{
    AppDirectoryFixture, AuditLogFixture, BundleStoreFixture, DeploymentStoreFixture, EnvStoreFixture,
    FileStoreFixture, Fixture, Jobs, JobsFixture, RouteTableFixture, TestKeys,
};
use std::sync::Arc;

/// A file of its own, with the durability that is the default.
async fn open(path: std::path::PathBuf) -> SqliteStores {
    SqliteStores::open(path, SqliteOptions::new()).await.expect("the database opens")
}

/// A fixture of the store that `pick` takes from the handle.
async fn on_file<S: ?Sized + 'static, W>(
    with: W,
    pick: impl Fn(&SqliteStores) -> Arc<S> + Clone + Send + Sync + 'static,
) -> Fixture<S, W> {
    let folder = Folder::new();
    let path = folder.db();
    let store = pick(&open(path.clone()).await);
    let reopen = move || {
        let (path, pick) = (path.clone(), pick.clone());
        async move { pick(&open(path).await) }
    };
    Fixture::with(store, with).reopen(reopen).keep(folder)
}

async fn files() -> FileStoreFixture {
    on_file::<dyn FileStore, _>((), |stores| Arc::new(stores.files())).await
}
async fn bundles() -> BundleStoreFixture {
    on_file::<dyn BundleStore, _>((), |stores| Arc::new(stores.bundles())).await
}
async fn env() -> EnvStoreFixture {
    let keys = TestKeys::new();
    let sealer = Sealer::new(Arc::new(keys.clone()), Arc::new(SystemIds));
    on_file::<dyn EnvStore, _>(keys, move |stores| Arc::new(stores.env(sealer.clone()))).await
}
async fn routes() -> RouteTableFixture {
    on_file::<dyn RouteTable, _>((), |stores| Arc::new(stores.routes())).await
}
async fn audit() -> AuditLogFixture {
    on_file::<dyn AuditLog, _>((), |stores| Arc::new(stores.audit())).await
}
async fn apps() -> AppDirectoryFixture {
    on_file::<dyn AppDirectory, _>((), |stores| Arc::new(stores.apps())).await
}
async fn deployments() -> DeploymentStoreFixture {
    on_file::<dyn DeploymentStore, _>((), |stores| Arc::new(stores.deployments())).await
}

async fn jobs() -> JobsFixture {
    on_file((), |stores| Arc::new(Jobs::new(Arc::new(stores.jobs())))).await
}

overskill_testkit::file_store_conformance!(v1, files());
overskill_testkit::bundle_store_conformance!(v1, bundles());
overskill_testkit::env_store_conformance!(v1, env());
overskill_testkit::route_table_conformance!(v1, routes());
overskill_testkit::audit_log_conformance!(v1, audit());
overskill_testkit::app_directory_conformance!(v1, apps());
overskill_testkit::deployment_store_conformance!(v1, deployments());
overskill_testkit::jobs_conformance!(v1, jobs());

/// In memory readers and the writer share one connection: the same rules, another way to break them.
mod in_memory {
    use super::*;

    async fn files() -> FileStoreFixture {
        FileStoreFixture::new(Arc::new(SqliteStores::in_memory().await.expect("memory opens").files()))
    }

    overskill_testkit::file_store_conformance!(
        v1,
        files(),
        except { everything_survives_a_restart: "it is gone with the handle, as it says" }
    );
}
