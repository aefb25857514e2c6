//! The way in: opens previews.

use super::{AppPreview, files::Pool, tailwind::Words};
use crate::{Result, compiler::Compiler, packages::DependencyResolver};
use overskill_core::{EnvSnapshot, Progress, Scope, Snapshot};
use std::sync::Arc;

/// Opens previews; they share its compiler, its packages, and the files that are alike. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PreviewEngine(Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) compiler: Compiler,
    pub(super) dependencies: Arc<dyn DependencyResolver>,
    pub(super) pool: Pool,
    pub(super) words: Words,
    pub(super) inspect_origins: Vec<String>,
}

impl PreviewEngine {
    /// An engine that compiles with `compiler` and gets packages from `dependencies`.
    pub fn new(compiler: Compiler, dependencies: impl DependencyResolver) -> Self {
        Self(Arc::new(Shared {
            compiler,
            dependencies: Arc::new(dependencies),
            pool: Pool::default(),
            words: Words::default(),
            inspect_origins: Vec::new(),
        }))
    }

    /// Lets pages of these origins (`https://builder.example`) that embed a preview ask which source an element comes from,
    /// and tells them of errors in it. None may, unless said here. For engines that opened nothing yet: those who were
    /// cloned before do not learn of it.
    pub fn inspectable_from(self, origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(Arc::new(Shared {
            compiler: self.0.compiler.clone(),
            dependencies: self.0.dependencies.clone(),
            pool: Pool::default(),
            words: Words::default(),
            inspect_origins: origins.into_iter().map(Into::into).collect(),
        }))
    }

    /// Opens an app's preview: scans what its pages import. Its packages may still be on their way then: pages and what
    /// imports no package are answered at once, the rest waits, and so does [`AppPreview::ready`].
    ///
    /// What is wrong with the app, or with its packages, is no error: it is in [`AppPreview::problems`], the page shows it,
    /// and the rest works.
    ///
    /// Within a runtime of tokio, the scan runs on a thread for what blocks.
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
