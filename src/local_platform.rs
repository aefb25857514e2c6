use crate::{Overskill, OverskillBuilder};
use overskill_build::{
    compiler::{Compiler, CompilerOptions},
    packages::{DependencyResolver, NpmPackages},
    preview::PreviewEngine,
    production::ModuleBuilder,
};
use overskill_core::{
    DeploymentStrategy, Environment, Error, ErrorKind, KeyId, LocalKeyProvider, LogNotifier, Result, Scope, Sealer,
    SystemIds, SystemScopes,
};
use overskill_local::{LocalBackends, LocalOptions};
use overskill_sql::{SqliteOptions, SqliteStores};
use std::{
    future::{Future, IntoFuture},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
};
use tokio::sync::watch;

/// What [`Overskill::local`] begins; `.await` it to get the platform.
#[must_use = "it does nothing before it is awaited"]
#[derive(Debug)]
pub struct LocalPlatform {
    folder: PathBuf,
    options: LocalOptions,
    compiler: Compiler,
    packages: Option<Box<dyn DependencyResolver>>,
    change: Vec<Change>,
}

struct Change(Box<dyn FnOnce(OverskillBuilder) -> OverskillBuilder + Send>);

impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Change")
    }
}

impl LocalPlatform {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            options: LocalOptions::new(),
            compiler: Compiler::new(CompilerOptions::development()),
            packages: None,
            change: Vec::new(),
        }
    }

    /// How the server on loopback is: its port, who may embed previews, and so on.
    pub fn server(mut self, options: LocalOptions) -> Self {
        self.options = options;
        self
    }

    /// Where previews and builds get their packages from; otherwise from the npm registry of `NPM_CONFIG_REGISTRY` or `~/.npmrc`, and
    /// once from there, from the folder.
    pub fn packages(mut self, packages: impl DependencyResolver) -> Self {
        self.packages = Some(Box::new(packages));
        self
    }

    /// What compiles previews; one that is shared with a [`FolderWatcher`](overskill_local::FolderWatcher) compiles once.
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = compiler;
        self
    }

    /// Changes the platform before it is built: another target in front, other progress.
    pub fn with(mut self, change: impl FnOnce(OverskillBuilder) -> OverskillBuilder + Send + 'static) -> Self {
        self.change.push(Change(Box::new(change)));
        self
    }

    async fn build(self) -> Result<Overskill> {
        let Self { folder, options, compiler, packages, change } = self;
        std::fs::create_dir_all(&folder).map_err(|e| {
            let message = format!("data folder must be one that can be made, but `{}` is not", folder.display());
            Error::new(ErrorKind::Invalid, message).caused_by(e).at("local", "open")
        })?;
        let packages = match packages {
            Some(packages) => packages,
            None => Box::new(NpmPackages::builder(folder.join("packages")).build()?),
        };
        // Builds need the packages' own files: a resolver that is not npm leaves them to the registry.
        let npm = match packages.npm() {
            Some(npm) => npm,
            None => NpmPackages::builder(folder.join("packages")).build()?,
        };
        let modules = ModuleBuilder::new(npm).compiler(compiler.clone());
        let stores = SqliteStores::open(folder.join("overskill.db"), SqliteOptions::new()).await?;
        let engine = PreviewEngine::new(compiler, packages).inspectable_from(options.embedders());
        let local = LocalBackends::start(&folder, engine, options.directory(stores.apps())).await?;
        let keys = LocalKeyProvider::new(KeyId::parse("local")?, local.root_key().clone());
        let records = stores.records(Sealer::new(Arc::new(keys), Arc::new(SystemIds)));
        let builder = Overskill::builder()
            .records(records)
            .previews(local.previews())
            .builder(modules)
            .deploy_with(DeploymentStrategy::prefer(local.target()).notify(LogNotifier))
            .served_by(local);
        change.into_iter().fold(builder, |builder, change| (change.0)(builder)).build().await
    }
}

impl IntoFuture for LocalPlatform {
    type Output = Result<Overskill>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.build())
    }
}

/// Runs background work and the server until `shutdown` ends; then drains the server.
pub(crate) async fn run(platform: &Overskill, local: &LocalBackends, shutdown: impl Future<Output = ()> + Send) {
    let (stop, mut stopped) = watch::channel(());
    let work = async move {
        platform.platform.run(shutdown).await;
        drop(stop);
    };
    let serve = async {
        let shutdown = async move { while stopped.changed().await.is_ok() {} };
        if let Err(e) = local.serve(shutdown).await {
            tracing::error!(error = %e, "the local server does not run");
        }
    };
    let previews = local.previews();
    let refill = previews.refill_each(|scope| async move {
        if let Err(e) = refill(platform, &scope).await {
            tracing::warn!(%scope, error = %e, "a preview that somebody looks at could not be filled again");
        }
    });
    tokio::select! {
        ((), ()) = async { tokio::join!(work, serve) } => {}
        () = refill => {}
    }
}

/// Somebody looks at a preview that was open before a restart.
async fn refill(platform: &Overskill, scope: &Scope) -> Result<()> {
    if scope.environment != Environment::Preview {
        return Ok(());
    }
    let reason = "a preview that was open before a restart is looked at";
    let grant = platform.gate().system("local server", reason, SystemScopes::app(scope.app.clone())).await?;
    platform.open(grant, scope.app.clone()).await?.preview().refill().await?;
    Ok(())
}
