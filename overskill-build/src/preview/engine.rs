//! The way in: opens previews.

use super::AppPreview;
use crate::{Result, compiler::Compiler, packages::DependencyResolver};
use overskill_core::{EnvSnapshot, Progress, Scope, Snapshot};
use std::sync::Arc;

/// Opens previews; they share its compiler, its packages, and the files that are alike. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PreviewEngine(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) compiler: Compiler,
    pub(super) dependencies: Box<dyn DependencyResolver>,
}

impl PreviewEngine {
    /// An engine that compiles with `compiler` and gets packages from `dependencies`.
    pub fn new(compiler: Compiler, dependencies: impl DependencyResolver) -> Self {
        Self(Arc::new(Shared { compiler, dependencies: Box::new(dependencies) }))
    }

    /// Opens an app's preview: scans what its pages import and gets its packages ready.
    ///
    /// What is wrong with the app is no error: it is in [`AppPreview::problems`], the page shows it, and the rest works. An
    /// error means that its packages could not be asked for at all.
    pub async fn open(
        &self,
        scope: &Scope,
        snapshot: &Snapshot,
        env: &EnvSnapshot,
        progress: &Progress,
    ) -> Result<AppPreview> {
        AppPreview::open(self.0.clone(), scope, snapshot, env, progress).await
    }
}
