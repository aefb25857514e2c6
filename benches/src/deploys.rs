//! Small deployments, as several benchmarks ask for them.

use crate::Outcome;
use overskill_core::{
    Actor, Changes, DeploymentId, DeploymentSource, DeploymentStrategy, Deployments, DeploymentsParts, Environment,
    FilePath, FileStore, Limits, NewDeployment, Outcome as Ended, Scope,
    memory::{MemoryBackends, StaticBuilder},
};
use std::{sync::Arc, time::Duration};

/// What a service works with, all of it in memory, with the target of `memory`.
pub fn parts(memory: &MemoryBackends) -> DeploymentsParts {
    DeploymentsParts {
        strategy: DeploymentStrategy::prefer(memory.target.clone()),
        store: Arc::new(memory.deployments.clone()),
        routes: Arc::new(memory.routes.clone()),
        files: Arc::new(memory.files.clone()),
        bundles: Arc::new(memory.bundles.clone()),
        env: Arc::new(memory.env.clone()),
        builder: Arc::new(StaticBuilder),
        build_timeout: Duration::from_mins(1),
        progress: Arc::new(memory.progress.clone()),
        clock: memory.clock.clone(),
        ids: memory.ids.clone(),
    }
}

/// The scope of one of many small apps.
pub fn scope(n: u32) -> Outcome<Scope> {
    Ok(Scope::new(format!("todo{n}").as_str().try_into()?, Environment::Production))
}

/// Writes the sources of a small app, and says what to ask for.
pub async fn wanted(memory: &MemoryBackends, scope: Scope) -> Outcome<NewDeployment> {
    let changes = Changes::new().put(FilePath::parse("index.html")?, "hello");
    let position = memory.files.apply(&Scope::sources(scope.app.clone()), &changes, None).await?;
    Ok(NewDeployment {
        actor: Actor::system("bench"),
        scope,
        source: DeploymentSource::Sources(position),
        env: None,
        limits: Limits::default(),
        owner: None,
        strategy: None,
    })
}

/// Asks for a deployment, and drives it until it is live.
pub async fn deploy(service: &Deployments, new: NewDeployment) -> Outcome<DeploymentId> {
    let id = service.request(new).await?;
    match service.outcome(id).await? {
        Ended::Active { .. } => Ok(id),
        other => Err(format!("a deployment ended otherwise: {other}").into()),
    }
}
