//! What is known of a target only in part: it may serve this version, or something newer.

use crate::common::{PRODUCTION, assert_live, deploy, deployed, later, live_on, platform, scope, target, written};
use overskill_core::{
    Clock as _, DeploymentStrategy, DeploymentTarget, Doubt, ErrorKind, Fallback, OperatorChoice, Outcome, SeededIds,
    memory::{MemoryBackends, MemoryTarget},
};
use overskill_testkit::{
    TestPlatform,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_hours(1);

fn cautious(plan: &FaultPlan, first: impl DeploymentTarget, second: &MemoryTarget) -> DeploymentStrategy {
    DeploymentStrategy::prefer(plan.around(first)).then(second.clone()).fall_back(Fallback::Cautious).ask_operator(HOUR)
}

/// It cannot be asked what it runs.
fn unreachable() -> FaultPlan {
    let plan = FaultPlan::new().always(Calls::of("target", "status"), Fault::before());
    plan.always(Calls::of("target", "observe"), Fault::before())
}

/// "Try again" is no leave to go elsewhere: as long as the first may serve it, the second is not asked.
#[tokio::test]
async fn a_retry_asks_no_other_target_as_long_as_the_first_is_in_doubt() {
    for landed in [false, true] {
        // It takes the activation, does not say so, and cannot be asked.
        let plan =
            FaultPlan::new().always(Calls::of("target", "activate"), Fault::AfterEffect { kind: ErrorKind::Timeout });
        let away = unreachable();
        let (first, second) = (target("first"), target("second"));
        let test = platform(cautious(&plan, away.around(first.clone()), &second)).await;
        let app = written(&test).await;
        let d = deploy(&test, &app, "one").await;
        assert!(matches!(d.outcome, Outcome::AwaitingOperator { .. }), "{}", d.story);
        // It can be asked what it runs again, or not even that; it takes nothing new either way.
        let _plan = plan.always(Calls::of("target", "stage"), Fault::before());
        if landed {
            away.pause();
        }
        app.answer(d.id, OperatorChoice::Retry).await.unwrap();
        later(&test, Duration::from_mins(1)).await;
        let record = app.deployment(d.id).await.unwrap();
        assert_eq!(second.observe(&scope()).await.unwrap(), [], "{}", record.timeline());
        let unsettled = Doubt::Unsettled("first".try_into().unwrap());
        assert_eq!(record.question().map(|(about, ..)| about), Some(&unsettled), "{}", record.timeline());
        // Somebody gives the first up.
        app.answer(d.id, OperatorChoice::Approve).await.unwrap();
        later(&test, Duration::from_mins(1)).await;
        assert_live(&test, d.id, &second).await;
    }
}

/// Whoever drove it is gone; whoever goes on knows from the record alone what is in doubt.
#[tokio::test]
async fn whoever_goes_on_asks_no_other_target_either() {
    for lost_from_the_strategy in [false, true] {
        let (first, second) = (target("first"), target("second"));
        let hangs = FaultPlan::new().always(Calls::of("target", "activate"), Fault::HangAfter);
        let strategy = cautious(&hangs, first.clone(), &second).attempt_timeout(Duration::from_hours(9));
        let test = TestPlatform::seeded(7, |builder, _| builder.deploy_with(strategy)).await.unwrap();
        let app = written(&test).await;
        let deployment = app.deploy(PRODUCTION).await.unwrap();
        let gone = test.clock.sleep(Duration::from_mins(1));
        test.clock
            .drive(async {
                tokio::select! { _ = deployment.outcome() => panic!("it hangs"), () = gone => {} }
            })
            .await;
        test.clock.advance(Duration::from_hours(10));

        let plan = unreachable();
        let strategy = if lost_from_the_strategy {
            DeploymentStrategy::prefer(second.clone()).fall_back(Fallback::Cautious).ask_operator(HOUR)
        } else {
            cautious(&plan, first.clone(), &second)
        };
        let after = TestPlatform::over(test.clock.clone(), test.memory.clone(), |b, _| b.deploy_with(strategy));
        let after = after.await.unwrap();
        after.clock.drive(after.platform.work()).await.unwrap();
        let record = after.app("todo42").await.deployment(deployment.id()).await.unwrap();
        assert_eq!(second.observe(&scope()).await.unwrap(), [], "{}", record.timeline());
        assert!(matches!(record.question(), Some((Doubt::Unsettled(_), ..))), "{}", record.timeline());
    }
}

/// The stores are of yesterday, the target knows a higher fence, and cannot be asked which just now: that is not to say
/// that something newer is live.
#[tokio::test]
async fn a_target_that_cannot_say_what_it_has_seen_ends_nothing() {
    let edge = target("edge");
    let before = platform(DeploymentStrategy::prefer(edge.clone())).await;
    let app = written(&before).await;
    for contents in ["one", "two", "three"] {
        deploy(&before, &app, contents).await;
    }
    let clock = before.clock.clone();
    let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(8)));
    // When the fence is chosen, and when it was refused.
    let plan = FaultPlan::new().nth(Calls::of("target", "observe"), 1, Fault::before()).nth(
        Calls::of("target", "observe"),
        2,
        Fault::before(),
    );
    let strategy = DeploymentStrategy::prefer(plan.around(edge.clone())).attempt_timeout(Duration::from_secs(10));
    let test = TestPlatform::over(clock, memory, |builder, _| builder.deploy_with(strategy)).await.unwrap();
    let app = written(&test).await;
    let deployment = app.deploy(PRODUCTION).await.unwrap();
    let outcome = test.clock.drive(deployment.outcome()).await.unwrap();
    let d = deployed(&app, deployment.id(), outcome).await;
    assert_eq!(plan.hits().total(), 2, "{}", d.story);
    assert_eq!(live_on(&d.outcome), "edge", "{}", d.story);
    assert_live(&test, d.id, &edge).await;
}
