//! Both backends pass the suites: one line each. The fixtures say how to open them, and how they look from outside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(clippy::unused_async, reason = "a fixture is awaited: most have to connect to something")]

use custom_backend::{FolderTarget, LogFiles};
use overskill_core::{BackendName, DeploymentTarget, FileStore};
use overskill_testkit::{DeploymentTargetFixture, FileStoreFixture, TargetOutside};
use std::sync::Arc;

async fn log_files() -> FileStoreFixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let open = move || -> Arc<dyn FileStore> { Arc::new(LogFiles::open(&path).unwrap()) };
    FileStoreFixture::new(open())
        .reopen(move || {
            let again = open();
            async { again }
        })
        .keep(folder)
}

async fn folder_target() -> DeploymentTargetFixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let open = move || FolderTarget::new(BackendName::parse("folder").unwrap(), &path);
    let target = open();
    let outside = target.clone();
    let outside = TargetOutside::new().serving(move |scope, path| {
        let asset = outside.asset(&scope, &path).map(|bytes| bytes.map(Into::into));
        async { asset }
    });
    DeploymentTargetFixture::with(Arc::new(target), outside)
        .reopen(move || {
            let again: Arc<dyn DeploymentTarget> = Arc::new(open());
            async { again }
        })
        .keep(folder)
}

overskill_testkit::file_store_conformance!(v1, log_files());
overskill_testkit::deployment_target_conformance!(v1, folder_target());
