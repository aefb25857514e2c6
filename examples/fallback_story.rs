//! The preferred target goes down, a deploy falls back, and when it is well again an operator brings the app home: printed
//! as timelines.
//!
//! ```sh
//! cargo run --example fallback_story
//! ```

use async_trait::async_trait;
use overskill::{
    AppHandle, AppId, AppRecord, BackendName, Clock, DeployRequest, Deployment, DeploymentId, DeploymentStrategy,
    DeploymentTarget, Environment, Error, ErrorKind, Fence, Handle, Observed, Overskill, Readiness, Removal, Result,
    Scope, Staged, SystemClock, SystemScopes, TargetInfo, TargetStatus, memory::MemoryTarget,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const PRODUCTION: Environment = Environment::Production;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let edge = Shaky::new(MemoryTarget::new(BackendName::parse("edge")?));
    let servers = MemoryTarget::new(BackendName::parse("servers")?);
    // Short waits, so that nobody waits for an example.
    let strategy = DeploymentStrategy::prefer(edge.clone())
        .then(servers)
        .waits(Duration::from_millis(20), Duration::from_millis(100))
        .breaker(3.try_into()?, Duration::from_millis(200))
        .late_arrivals(Duration::from_millis(300));
    let platform = Overskill::builder().deploy_with(strategy).build().await?;
    let todo = AppId::parse("todo42")?;
    let host = platform.gate().system("story", "tells a story", SystemScopes::app(todo.clone())).await?;
    platform.put_app(&host, &AppRecord::new(todo.clone(), "Todo", SystemClock.now())).await?;
    let app = platform.open(host, todo).await?;

    app.write([("index.html", "<h1>One</h1>")]).await?;
    tell("A good day", app.deploy(PRODUCTION).await?).await?;

    edge.down.store(true, Ordering::SeqCst);
    app.write([("index.html", "<h1>Two</h1>")]).await?;
    tell("The edge is down", app.deploy(PRODUCTION).await?).await?;
    live(&app).await?;

    edge.down.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(250)).await; // the breaker closes
    println!(
        "The edge is well again, and an operator brings the app home: the same bytes, the preferred target first.\n"
    );
    let home = app.promote(PRODUCTION, PRODUCTION).await?;
    let home_id = home.id();
    tell("Home again", home).await?;
    live(&app).await?;

    // What is left on the other targets is swept once nothing can arrive late any more.
    tokio::time::sleep(Duration::from_millis(350)).await;
    platform.work().await?;
    let record = app.deployment(home_id).await?;
    println!("After the sweep:\n{}", record.timeline().lines().rev().take(2).collect::<Vec<_>>().join("\n"));
    println!("\n{:?}", app.reconcile(PRODUCTION).await?);
    Ok(())
}

async fn tell(title: &str, deployment: Deployment) -> Result<()> {
    let outcome = deployment.outcome().await?;
    println!("{title}: {outcome}\n{}", deployment.record().await?.timeline());
    Ok(())
}

async fn live(app: &AppHandle) -> Result<()> {
    if let Some(route) = app.route(PRODUCTION).await? {
        println!("The route names {} on {}, fence {}.\n", route.deployment, route.target, route.fence);
    }
    Ok(())
}

/// A target that is down now and then.
#[derive(Clone, Debug)]
struct Shaky {
    inner: MemoryTarget,
    down: Arc<AtomicBool>,
}

impl Shaky {
    fn new(inner: MemoryTarget) -> Self {
        Self { inner, down: Arc::default() }
    }

    fn up(&self) -> Result<&MemoryTarget> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "503 Service Unavailable"));
        }
        Ok(&self.inner)
    }
}

#[async_trait]
impl DeploymentTarget for Shaky {
    fn info(&self) -> TargetInfo {
        self.inner.info()
    }

    async fn check(&self) -> Result<Readiness> {
        self.inner.check().await
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        self.up()?.stage(request).await
    }

    async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Result<Handle> {
        self.up()?.activate(request, staged, fence).await
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        self.up()?.status(scope, id, fence).await
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        self.up()?.observe(scope).await
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        self.up()?.remove(scope, removal).await
    }
}
