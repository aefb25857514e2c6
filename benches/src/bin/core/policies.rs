//! Policies around a target that does nothing: what each adds to a call that succeeds at once.

use crate::{LIMIT, under_limit};
use async_trait::async_trait;
use overskill_benches::{Bench, Figure, Outcome, interleave, nanos_each};
use overskill_core::{
    Artifact, BackendName, Breaking, Clock, DeployRequest, DeploymentId, DeploymentTarget, EnvRevision, EnvSnapshot,
    Environment, Fence, FilePath, Handle, Ids, Incarnation, Limited, Observed, Readiness, Removal, Result, Retrying,
    Scope, Staged, StreamPosition, SystemClock, SystemIds, TargetInfo, TargetStatus, Timed,
};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

const RETRYING: Figure = under_limit("policy around a target: Retrying", "added to a call");
const TIMED: Figure = under_limit("policy around a target: Timed", "added to a call");
const BREAKING: Figure = under_limit("policy around a target: Breaking", "added to a call");
const LIMITED: Figure = under_limit("policy around a target: Limited", "added to a call");
const ALL: Figure = under_limit("policy around a target: all four", "added to a call");

pub(crate) const FIGURES: [Figure; 5] = [RETRYING, TIMED, BREAKING, LIMITED, ALL];

pub(crate) async fn measure(bench: &mut Bench) -> Outcome<()> {
    let (clock, ids): (Arc<dyn Clock>, Arc<dyn Ids>) = (Arc::new(SystemClock), Arc::new(SystemIds));
    let minute = Duration::from_mins(1);
    let many = NonZeroU32::new(64).expect("not zero");
    let timed = || Timed::new(Still, minute, clock.clone());
    let breaking = || Breaking::new(timed(), many, minute, clock.clone());
    let limited = || Limited::new(breaking(), many, minute, clock.clone());
    let targets: [Arc<dyn DeploymentTarget>; 6] = [
        Arc::new(Still),
        Arc::new(Retrying::new(Still, clock.clone(), ids.clone())),
        Arc::new(timed()),
        Arc::new(Breaking::new(Still, many, minute, clock.clone())),
        Arc::new(Limited::new(Still, many, minute, clock.clone())),
        Arc::new(Retrying::new(limited(), clock.clone(), ids.clone())),
    ];
    let request = request()?;
    // Short turns, so that most are not interrupted by another program.
    let calls = 200;
    let turns = interleave::<6>(bench.size(1_000, 50), async |who| {
        let target = &targets[who];
        let start = Instant::now();
        for _ in 0..calls {
            std::hint::black_box(target.stage(&request).await?);
        }
        Ok(nanos_each(start.elapsed(), calls))
    })
    .await?;
    for (who, figure) in FIGURES.iter().enumerate() {
        bench.show(figure, turns.added(who + 1, 0, LIMIT));
    }
    Ok(())
}

/// A request of a small app.
pub(crate) fn request() -> Outcome<DeployRequest> {
    let scope = Scope::new("todo42".try_into()?, Environment::Production);
    let artifact = Artifact::of_assets([(FilePath::parse("index.html")?, "hello".to_owned().into())])?;
    let revision = EnvRevision(StreamPosition::start(Incarnation::from_u64(1)));
    let id = DeploymentId::generate(&SystemIds, SystemClock.now());
    Ok(DeployRequest::new(id, scope, Arc::new(artifact), Arc::new(EnvSnapshot { revision, values: BTreeMap::new() })))
}

/// A target that does nothing, at once.
#[derive(Debug)]
pub(crate) struct Still;

#[async_trait]
impl DeploymentTarget for Still {
    fn info(&self) -> TargetInfo {
        TargetInfo::new(BackendName::parse("still").expect("a legal name"), "none")
    }

    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("still"))
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        Ok(Staged { id: request.id(), handle: Handle::new("staged") })
    }

    async fn activate(&self, _: &DeployRequest, staged: &Staged, _: Fence) -> Result<Handle> {
        Ok(staged.handle.clone())
    }

    async fn status(&self, _: &Scope, _: DeploymentId, _: Fence) -> Result<TargetStatus> {
        Ok(TargetStatus::Absent)
    }

    async fn observe(&self, _: &Scope) -> Result<Vec<Observed>> {
        Ok(Vec::new())
    }

    async fn remove(&self, _: &Scope, _: Removal) -> Result<()> {
        Ok(())
    }
}
