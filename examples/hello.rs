//! Deploys a small app on the in-memory platform and prints its timeline.
//!
//! ```sh
//! cargo run --example hello
//! ```

use overskill::{
    AppId, AppRecord, BackendName, Claims, Clock, DeploymentStrategy, Environment, Overskill, Rights, SubjectId,
    SystemClock, SystemScopes, TenantId, memory::MemoryTarget,
};
use std::{error::Error, time::Duration};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Where apps run. In service this is Cloudflare, Deno or GitHub, and a second one takes over when the first is down.
    let (eu, us) = (BackendName::parse("edge-eu")?, BackendName::parse("edge-us")?);
    let edge = MemoryTarget::new(eu);
    let strategy = DeploymentStrategy::prefer(edge.clone()).then(MemoryTarget::new(us));
    let platform = Overskill::builder().deploy_with(strategy).build().await?;

    // The host adds an app, and says so in the audit log.
    let todo = AppId::parse("todo42")?;
    let host = platform.gate().system("hello", "adds the example's app", SystemScopes::app(todo.clone())).await?;
    platform.put_app(&host, &AppRecord::new(todo.clone(), "Todo", SystemClock.now())).await?;

    // Ada signs in: her token becomes a grant, or an audited refusal.
    let now = SystemClock.now();
    let (ada, tenant) = (SubjectId::parse("ada")?, TenantId::of_app(todo.clone()));
    let ada = Claims::new(ada, tenant, Rights::ALL, now.plus(Duration::from_mins(5)));
    let token = platform.local_tokens().mint(&ada, now)?;
    let app = platform.app(&token, "todo42").await?;

    // She writes two files, all or none, and deploys them.
    app.write([
        ("index.html", "<!doctype html><title>Todo</title><script src=\"/todo.js\"></script><h1>Todo</h1>"),
        ("todo.js", "console.log('hello from todo42')"),
    ])
    .await?;
    let deployment = app.deploy(Environment::Production).await?;
    let outcome = deployment.outcome().await?;

    println!("todo42 is {outcome}\n\n{}", deployment.record().await?.timeline());
    let page = edge.asset(deployment.scope(), &"index.html".parse()?).ok_or("nothing is served")?;
    println!("GET / -> {}", String::from_utf8_lossy(page.contents()));
    Ok(())
}
