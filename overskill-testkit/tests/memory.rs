//! The reference backends of overskill-core pass the suites that they are the reference of.

use overskill_core::{
    AppDirectory, AuditLog, BundleStore, EnvStore, FileStore, RouteTable, Sealer, SystemIds,
    memory::{MemoryApps, MemoryAudit, MemoryBundles, MemoryEnv, MemoryFiles, MemoryRoutes},
};
use overskill_testkit::{
    AppDirectoryFixture, AuditLogFixture, BundleStoreFixture, EnvStoreFixture, FileStoreFixture, RouteTableFixture,
    TestKeys,
};
use std::sync::Arc;

/// A fixture of a store in memory; clones share their contents, so one of them stands for the store opened again.
macro_rules! in_memory {
    ($fixture:ident, $Fixture:ident, $Seam:ident, $Memory:ident) => {
        async fn $fixture() -> $Fixture {
            let store = $Memory::new();
            let again = store.clone();
            $Fixture::new(Arc::new(store)).reopen(move || {
                let again: Arc<dyn $Seam> = Arc::new(again.clone());
                async { again }
            })
        }
    };
}

in_memory!(files, FileStoreFixture, FileStore, MemoryFiles);
in_memory!(bundles, BundleStoreFixture, BundleStore, MemoryBundles);
in_memory!(routes, RouteTableFixture, RouteTable, MemoryRoutes);
in_memory!(audit, AuditLogFixture, AuditLog, MemoryAudit);
in_memory!(apps, AppDirectoryFixture, AppDirectory, MemoryApps);

fn env() -> EnvStoreFixture {
    let keys = TestKeys::new();
    let store = MemoryEnv::with(&SystemIds, Sealer::new(Arc::new(keys.clone()), Arc::new(SystemIds)));
    let again = store.clone();
    EnvStoreFixture::with(Arc::new(store), keys).reopen(move || {
        let again: Arc<dyn EnvStore> = Arc::new(again.clone());
        async { again }
    })
}

overskill_testkit::file_store_conformance!(v1, files());
overskill_testkit::bundle_store_conformance!(v1, bundles());
overskill_testkit::env_store_conformance!(v1, std::future::ready(env()));
overskill_testkit::route_table_conformance!(v1, routes());
overskill_testkit::audit_log_conformance!(v1, audit());
overskill_testkit::app_directory_conformance!(v1, apps());
