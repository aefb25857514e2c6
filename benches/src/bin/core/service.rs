//! A whole deployment by the service, every store in memory: what a deploy costs when nothing else does. Only shown: it
//! is mostly the stores' copies of what they keep.

use overskill_benches::{Bench, Figure, Outcome, Turns, interleave, nanos_each};
use overskill_core::{
    Actor, Artifact, Changes, DeployRequest, DeploymentId, DeploymentSource, DeploymentStrategy, DeploymentTarget,
    Deployments, DeploymentsParts, EnvRevision, EnvSnapshot, Environment, Fence, FilePath, FileStore, Incarnation,
    Limits, NewDeployment, Outcome as Ended, Scope, StreamPosition,
    memory::{MemoryBackends, StaticBuilder},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

const WHOLE: Figure = Figure::shown("deploy by the service, all in memory", "time", "ns", "stage and activate");

pub(crate) const FIGURES: [Figure; 1] = [WHOLE];

pub(crate) async fn measure(bench: &mut Bench) -> Outcome<()> {
    let times = bench.size(20_u32, 5);
    let turns: Turns<2> = interleave(bench.size(200, 10), async |who| {
        // New every time, so that what the stores keep does not grow.
        let memory = MemoryBackends::new();
        if who == 0 { by_service(&memory, times).await } else { by_hand(&memory, times).await }
    })
    .await?;
    bench.show(&WHOLE, turns.compare(0, 1));
    Ok(())
}

async fn by_service(memory: &MemoryBackends, times: u32) -> Outcome<f64> {
    let service = Deployments::new(parts(memory, DeploymentStrategy::prefer(memory.target.clone())));
    deploy(memory, &service, times).await
}

/// Deploys so many small apps, one after the other, and says how long one took.
///
/// An app each: of two deployments of a scope in the same millisecond, either may be the newer.
pub(crate) async fn deploy(memory: &MemoryBackends, service: &Deployments, times: u32) -> Outcome<f64> {
    let changes = Changes::new().put(FilePath::parse("index.html")?, "hello");
    let mut wanted = Vec::new();
    for n in 0..times {
        let scope = scope(n)?;
        let position = memory.files.apply(&Scope::sources(scope.app.clone()), &changes, None).await?;
        let (actor, source) = (Actor::system("bench"), DeploymentSource::Sources(position));
        wanted.push(NewDeployment {
            actor,
            scope,
            source,
            env: None,
            limits: Limits::default(),
            owner: None,
            strategy: None,
        });
    }
    let start = Instant::now();
    for new in wanted {
        let id = service.request(new).await?;
        match service.outcome(id).await? {
            Ended::Active { .. } => {}
            other => return Err(format!("a deployment ended otherwise: {other:?}").into()),
        }
    }
    Ok(nanos_each(start.elapsed(), times))
}

async fn by_hand(memory: &MemoryBackends, times: u32) -> Outcome<f64> {
    let scopes = (0..times).map(scope).collect::<Outcome<Vec<_>>>()?;
    let env = Arc::new(EnvSnapshot {
        revision: EnvRevision(StreamPosition::start(Incarnation::from_u64(1))),
        values: BTreeMap::new(),
    });
    let start = Instant::now();
    for scope in scopes {
        let artifact = Artifact::of_assets([(FilePath::parse("index.html")?, "hello".to_owned().into())])?;
        let id = DeploymentId::generate(&*memory.ids, memory.clock.now());
        let request = DeployRequest::new(id, scope, Arc::new(artifact), env.clone());
        let staged = memory.target.stage(&request).await?;
        memory.target.activate(&request, &staged, Fence::from_u64(1)).await?;
    }
    Ok(nanos_each(start.elapsed(), times))
}

/// The scope of one of many small apps.
pub(crate) fn scope(n: u32) -> Outcome<Scope> {
    Ok(Scope::new(format!("todo{n}").as_str().try_into()?, Environment::Production))
}

/// What a service works with, all of it in memory.
pub(crate) fn parts(memory: &MemoryBackends, strategy: DeploymentStrategy) -> DeploymentsParts {
    DeploymentsParts {
        strategy,
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
