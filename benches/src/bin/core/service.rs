//! A whole deployment by the service, every store in memory: what a deploy costs when nothing else does. Only shown: it
//! is mostly the stores' copies of what they keep.

use overskill_benches::{Bench, Figure, Outcome, Turns, deploys, interleave, nanos_each};
use overskill_core::{
    Artifact, DeployRequest, DeploymentId, DeploymentTarget, Deployments, EnvRevision, EnvSnapshot, Fence, FilePath,
    Incarnation, StreamPosition, memory::MemoryBackends,
};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

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
    deploy(memory, &Deployments::new(deploys::parts(memory)), times).await
}

/// Deploys so many small apps, one after the other, and says how long one took.
///
/// An app each: of two deployments of a scope in the same millisecond, either may be the newer.
pub(crate) async fn deploy(memory: &MemoryBackends, service: &Deployments, times: u32) -> Outcome<f64> {
    let mut all = Vec::new();
    for n in 0..times {
        all.push(deploys::wanted(memory, deploys::scope(n)?).await?);
    }
    let start = Instant::now();
    for new in all {
        deploys::deploy(service, new).await?;
    }
    Ok(nanos_each(start.elapsed(), times))
}

async fn by_hand(memory: &MemoryBackends, times: u32) -> Outcome<f64> {
    let scopes = (0..times).map(deploys::scope).collect::<Outcome<Vec<_>>>()?;
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
