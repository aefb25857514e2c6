//! What a record and its progress tell, and how one is taken up again.

use crate::common::{PRODUCTION, deploy, deployed, live_on, platform, target, written};
use async_trait::async_trait;
use overskill_core::{
    DeployRequest, DeploymentEvent, DeploymentStrategy, DeploymentTarget, EnvChanges, EnvRevision, EnvValue, Error,
    ErrorKind, Fence, Handle, HealthGate, Observed, ProgressEvent, ProgressKind, Readiness, Removal, Result, Scope,
    Staged, StreamName, StreamPosition, TargetInfo, TargetStatus, To, Variables, count_request,
    memory::{MemoryProbe, MemoryTarget},
};
use overskill_testkit::{
    TestPlatform,
    faulty::{Calls, Fault, FaultPlan},
};

/// A target whose provider is asked over the network: twice to stage, once for the rest.
#[derive(Debug)]
struct Provided(MemoryTarget);

#[async_trait]
impl DeploymentTarget for Provided {
    fn info(&self) -> TargetInfo {
        self.0.info()
    }

    async fn check(&self) -> Result<Readiness> {
        self.0.check().await
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        count_request(Some("ray-session"));
        count_request(Some("ray-upload"));
        self.0.stage(request).await
    }

    async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Result<Handle> {
        count_request(Some("ray-activate"));
        if request.artifact().size_bytes() > 10 {
            return Err(Error::new(ErrorKind::Unavailable, "no room"));
        }
        self.0.activate(request, staged, fence).await
    }

    async fn status(&self, scope: &Scope, id: overskill_core::DeploymentId, fence: Fence) -> Result<TargetStatus> {
        count_request(None);
        self.0.status(scope, id, fence).await
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        count_request(Some("ray-observe"));
        self.0.observe(scope).await
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        self.0.remove(scope, removal).await
    }
}

#[tokio::test]
async fn the_story_tells_what_each_provider_answered_and_what_it_cost() {
    let test = platform(DeploymentStrategy::prefer(Provided(target("edge"))).then(target("second"))).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    let record = app.deployment(d.id).await.unwrap();
    let cost = record.cost();
    assert_eq!((cost.calls, cost.requests), (2, 4), "{}", d.story);
    assert!(cost.took.is_some());
    for line in ["stage took 0 ms and 2 requests, answered as ray-upload", "1 request, answered as ray-activate"] {
        assert!(d.story.contains(line), "{line}:\n{}", d.story);
    }
    assert!(d.story.contains("2 calls of targets, 4 requests to providers, "), "{}", d.story);

    // What failed tells its answers, too; and the second target has no provider that it would ask.
    let d = deploy(&test, &app, "more than ten bytes").await;
    assert_eq!(live_on(&d.outcome), "second");
    let asked = |e: &&DeploymentEvent| matches!(e, DeploymentEvent::Asked { .. });
    let of = |e: &DeploymentEvent| matches!(e, DeploymentEvent::Asked { target, .. } if target.as_str() == "edge");
    assert!(d.events.iter().filter(asked).all(of), "{}", d.story);
    let tries = d.story.matches("answered as ray-activate").count();
    assert_eq!(tries, 3, "{}", d.story);
}

fn told(test: &TestPlatform, scope: &Scope) -> Vec<ProgressEvent> {
    let told = test.memory.progress.since(&StreamName::deployments(scope), None);
    let overskill_core::CatchUp::Entries(events) = told else { panic!("nothing was dropped") };
    events.into_iter().map(|published| published.event).collect()
}

#[tokio::test]
async fn progress_tells_every_phase_with_what_is_brought_where() {
    let plan = FaultPlan::new().nth(Calls::of("target", "stage"), 1, Fault::before());
    let strategy = DeploymentStrategy::prefer(plan.around(target("edge")))
        .gate_staged(HealthGate::new(MemoryProbe::new()))
        .gate_live(HealthGate::new(MemoryProbe::new()));
    let test = platform(strategy).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "ten bytes!").await;
    let told = told(&test, &crate::common::scope());
    let phases: Vec<_> = told.iter().filter_map(|event| event.stage.as_deref()).collect();
    let expected = ["building", "built", "staging", "failed_try", "staging", "gate", "activating", "gate", "routing"];
    assert_eq!(phases, expected, "{}", d.story);
    let percent: Vec<_> = told.iter().filter_map(|event| event.progress).collect();
    assert!(percent.is_sorted(), "{percent:?}");
    assert_eq!(told.last().map(|event| event.kind), Some(ProgressKind::Completed));
    let details = |phase: &str, key: &str| {
        let event = told.iter().find(|event| event.stage.as_deref() == Some(phase)).unwrap();
        event.details.as_ref().unwrap()[key].clone()
    };
    assert_eq!((details("built", "files"), details("built", "bytes")), (1.into(), 10.into()));
    assert_eq!((details("staging", "bytes"), details("staging", "target")), (10.into(), "edge".into()));
    assert_eq!(details("failed_try", "operation"), "stage");
    assert_eq!(details("routing", "target"), "edge");
    assert!(told.iter().all(|event| event.run == d.id.to_string()));
}

#[tokio::test]
async fn a_deployment_is_taken_up_again_by_its_id() {
    let edge = target("edge");
    let test = platform(DeploymentStrategy::prefer(edge.clone())).await;
    let app = written(&test).await;
    let id = app.deploy(PRODUCTION).await.unwrap().id(); // nobody waits for it, and the process ends

    let strategy = DeploymentStrategy::prefer(edge);
    let next = TestPlatform::over(test.clock.clone(), test.memory.clone(), |builder, _| builder.deploy_with(strategy));
    let next = next.await.unwrap();
    let app = next.platform.open(next.host().clone(), app.id().clone()).await.unwrap();
    let resumed = app.resume(id).await.unwrap();
    assert_eq!(live_on(&next.clock.drive(resumed.outcome()).await.unwrap()), "edge");
    // Of one that has ended it tells the end.
    let again = app.resume(id).await.unwrap();
    assert_eq!(live_on(&again.outcome().await.unwrap()), "edge");
    let stranger = next.app("other").await;
    assert_eq!(stranger.resume(id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_rollback_takes_the_variables_that_the_call_names() {
    let edge = target("edge");
    let test = platform(DeploymentStrategy::prefer(edge.clone())).await;
    let app = written(&test).await;
    let set = async |value: &str| {
        let changes = EnvChanges::new().set("COLOUR".try_into().unwrap(), EnvValue::Plain(value.to_owned()));
        app.env(PRODUCTION).put(&changes, None).await.unwrap()
    };
    let seen = || {
        let env = edge.env(&crate::common::scope()).unwrap();
        (env.revision, env.values.len())
    };
    let green = set("green").await;
    let first = deploy(&test, &app, "one").await;
    let blue = set("blue").await;
    deploy(&test, &app, "two").await;
    let red = set("red").await;
    let to = To::Deployment(first.id);
    for (variables, revision) in
        [(Variables::OfThen, green), (Variables::Newest, red), (Variables::Revision(blue), blue)]
    {
        let back = app.rollback_with(PRODUCTION, to, variables).await.unwrap();
        let outcome = test.clock.drive(back.outcome()).await.unwrap();
        let d = deployed(&app, back.id(), outcome).await;
        assert_eq!(live_on(&d.outcome), "edge", "{}", d.story);
        assert_eq!(seen(), (revision, 1), "{variables:?}");
    }
    // One that never was is refused before anything is recorded.
    let never = EnvRevision(StreamPosition { seq: 99, ..red.0 });
    let e = app.rollback_with(PRODUCTION, to, Variables::Revision(never)).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
    let all = app.deployments(PRODUCTION, None, std::num::NonZeroU32::new(99).unwrap()).await.unwrap();
    assert_eq!(all.items.len(), 5);
}

#[tokio::test]
async fn targets_that_end_on_one_platform_are_remarked_on() {
    let on = |name: &str, platform: &str| {
        MemoryTarget::with(TargetInfo::new(overskill_core::BackendName::parse(name).unwrap(), platform))
    };
    let strategy = DeploymentStrategy::prefer(on("direct", "edge")).then(on("by-workflow", "edge"));
    let same = platform(strategy.clone()).await.platform.report().await;
    assert!(same.is_ready());
    assert_eq!(same.remarks.len(), 1);
    let remark = &same.remarks[0];
    assert!(["direct", "by-workflow", "`edge`"].iter().all(|word| remark.contains(word)), "{remark}");
    let other = DeploymentStrategy::prefer(on("direct", "edge")).then(on("servers", "elsewhere"));
    assert_eq!(platform(other).await.platform.report().await.remarks, [""; 0]);
}
