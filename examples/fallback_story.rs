//! The preferred target goes down, a deploy falls back, and when it is well again an operator brings the app home: printed
//! as timelines.
//!
//! ```sh
//! cargo run --example fallback_story
//! ```

use overskill::{
    AppHandle, AppId, AppRecord, Around, BackendName, Clock, Deployment, DeploymentStrategy, Environment, Error,
    ErrorKind, Operation, Overskill, Policy, Result, SystemScopes, TestClock, memory::MemoryTarget,
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
    let outage = Outage::default();
    let edge = Around::with_policy(MemoryTarget::new(BackendName::parse("edge")?), outage.clone());
    let servers = MemoryTarget::new(BackendName::parse("servers")?);
    // Hours pass in this story, and nobody waits for them.
    let clock = TestClock::new();
    let strategy = DeploymentStrategy::prefer(edge).then(servers);
    let platform = Overskill::builder().clock(clock.clone()).deploy_with(strategy).build().await?;
    let todo = AppId::parse("todo42")?;
    let host = platform.gate().system("story", "tells a story", SystemScopes::app(todo.clone())).await?;
    platform.put_app(&host, &AppRecord::new(todo.clone(), "Todo", clock.now())).await?;
    let app = platform.open(host, todo).await?;

    app.write([("index.html", "<h1>One</h1>")]).await?;
    tell(&clock, "A good day", app.deploy(PRODUCTION).await?).await?;

    outage.0.store(true, Ordering::SeqCst);
    app.write([("index.html", "<h1>Two</h1>")]).await?;
    tell(&clock, "The edge is down", app.deploy(PRODUCTION).await?).await?;
    live(&app).await?;

    outage.0.store(false, Ordering::SeqCst);
    clock.advance(Duration::from_mins(5)); // the breaker closes
    println!(
        "The edge is well again, and an operator brings the app home: the same bytes, the preferred target first.\n"
    );
    let home = app.promote(PRODUCTION, PRODUCTION).await?;
    let home_id = home.id();
    tell(&clock, "Home again", home).await?;
    live(&app).await?;

    // What is left on the other targets is swept once nothing can arrive late any more.
    clock.advance(Duration::from_hours(1));
    clock.drive(platform.work()).await?;
    let record = app.deployment(home_id).await?;
    println!("After the sweep:\n{}", record.timeline().lines().rev().take(2).collect::<Vec<_>>().join("\n"));
    println!("\n{:?}", app.reconcile(PRODUCTION).await?);
    Ok(())
}

async fn tell(clock: &TestClock, title: &str, deployment: Deployment) -> Result<()> {
    let outcome = clock.drive(deployment.outcome()).await?;
    println!("{title}: {outcome}\n{}", deployment.record().await?.timeline());
    Ok(())
}

async fn live(app: &AppHandle) -> Result<()> {
    if let Some(route) = app.route(PRODUCTION).await? {
        println!("The route names {} on {}, fence {}.\n", route.deployment, route.target, route.fence);
    }
    Ok(())
}

/// Keeps every call from a target while it is down.
#[derive(Clone, Debug, Default)]
struct Outage(Arc<AtomicBool>);

impl Policy for Outage {
    async fn run<'a, T, F, Fut>(&'a self, _: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        if self.0.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "503 Service Unavailable"));
        }
        call().await
    }
}
