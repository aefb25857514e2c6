//! Questions to people.

use crate::common::{Late, PRODUCTION, assert_live, deploy, deployed, later, live_on, platform, target, written};
use overskill_core::{
    DeploymentStrategy, Doubt, Environment, ErrorKind, Fallback, Notice, OperatorChoice, Outcome, To,
    memory::MemoryNotifier,
};
use overskill_testkit::faulty::{Calls, Fault, FaultPlan};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);

fn asks(outcome: &Outcome) -> &[OperatorChoice] {
    match outcome {
        Outcome::AwaitingOperator { choices, .. } => choices,
        other => panic!("asks nothing: {other}"),
    }
}

#[tokio::test]
async fn when_nobody_took_it_the_version_before_serves_and_a_person_is_asked() {
    let plan = FaultPlan::new();
    let (first, second) = (target("first"), target("second"));
    let told = MemoryNotifier::new();
    let strategy = DeploymentStrategy::prefer(plan.around(first.clone()))
        .then(plan.around(second.clone()))
        .ask_operator(HOUR)
        .notify(told.clone());
    let test = platform(strategy).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    let plan = plan.always(Calls::of("target", "stage"), Fault::before());
    let d = deploy(&test, &app, "two").await;
    assert_eq!(asks(&d.outcome), [OperatorChoice::Retry, OperatorChoice::Abort], "{}", d.story);
    assert_live(&test, good.id, &first).await;
    assert!(matches!(told.notices().last(), Some(Notice::AwaitingOperator { deployment, .. }) if *deployment == d.id));

    // Not one of the choices; then, with the targets well again, once more.
    assert_eq!(app.answer(d.id, OperatorChoice::Approve).await.unwrap_err().kind(), ErrorKind::Invalid);
    plan.pause();
    app.answer(d.id, OperatorChoice::Retry).await.unwrap();
    assert_eq!(app.answer(d.id, OperatorChoice::Retry).await.unwrap_err().kind(), ErrorKind::Conflict);
    later(&test, Duration::from_mins(1)).await;
    later(&test, Duration::from_mins(1)).await;
    let d = deployed(&app, d.id, app.deployment(d.id).await.unwrap().outcome().unwrap()).await;
    assert_eq!(live_on(&d.outcome), "first", "{}", d.story);
    assert_live(&test, d.id, &first).await;
}

#[tokio::test]
async fn an_abort_and_a_deadline_end_it_as_failed() {
    let plan = FaultPlan::new().always(Calls::of("target", "stage"), Fault::before());
    let test = platform(DeploymentStrategy::prefer(plan.around(target("edge"))).ask_operator(HOUR)).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    app.answer(d.id, OperatorChoice::Abort).await.unwrap();
    later(&test, Duration::from_secs(1)).await;
    let record = app.deployment(d.id).await.unwrap();
    assert!(
        matches!(record.outcome(), Some(Outcome::Failed { reason }) if reason.contains("aborted")),
        "{}",
        record.timeline()
    );

    let d = deploy(&test, &app, "two").await;
    later(&test, Duration::from_mins(59)).await;
    assert_eq!(asks(&app.deployment(d.id).await.unwrap().outcome().unwrap()).len(), 2, "there is time yet");
    later(&test, Duration::from_mins(2)).await;
    let record = app.deployment(d.id).await.unwrap();
    let late = app.answer(d.id, OperatorChoice::Retry).await.unwrap_err();
    assert!(
        matches!(record.outcome(), Some(Outcome::Failed { reason }) if reason.contains("in time")),
        "{}",
        record.timeline()
    );
    assert_eq!(late.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_cautious_strategy_asks_what_to_do_with_the_unknown() {
    for choice in [OperatorChoice::Approve, OperatorChoice::Retry] {
        let late = Late::new(target("first"), false);
        let second = target("second");
        let strategy = DeploymentStrategy::prefer(late.clone()).then(second.clone());
        let test = platform(strategy.fall_back(Fallback::Cautious).ask_operator(HOUR)).await;
        let app = written(&test).await;
        let d = deploy(&test, &app, "one").await;
        assert_eq!(asks(&d.outcome).len(), 3, "{}", d.story);
        let record = app.deployment(d.id).await.unwrap();
        assert_eq!(*record.question().unwrap().0, Doubt::Unsettled("first".try_into().unwrap()));
        if choice == OperatorChoice::Retry {
            late.arrive().await.unwrap(); // it is well again, and has it
        }
        app.answer(d.id, choice).await.unwrap();
        later(&test, Duration::from_mins(1)).await;
        let record = app.deployment(d.id).await.unwrap();
        let live = if choice == OperatorChoice::Retry { &late.inner } else { &second };
        assert_live(&test, d.id, live).await;
        assert!(record.outcome().unwrap().is_final(), "{}", record.timeline());
    }
}

#[tokio::test]
async fn nothing_goes_live_without_permission_where_it_is_needed() {
    let edge = target("edge");
    let test = platform(DeploymentStrategy::prefer(edge.clone()).permission_for(PRODUCTION)).await;
    let app = written(&test).await;
    let staging = app.deploy(Environment::Staging).await.unwrap();
    assert_eq!(live_on(&test.clock.drive(staging.outcome()).await.unwrap()), "edge", "staging needs none");

    let mut live = Vec::new();
    for contents in ["one", "two"] {
        let d = deploy(&test, &app, contents).await;
        assert_eq!(asks(&d.outcome), [OperatorChoice::Approve, OperatorChoice::Abort], "{}", d.story);
        app.answer(d.id, OperatorChoice::Approve).await.unwrap();
        later(&test, Duration::from_secs(1)).await;
        assert_live(&test, d.id, &edge).await;
        live.push(d.id);
    }
    // Going back is never a question.
    let back = app.rollback(PRODUCTION, To::LastGood).await.unwrap();
    assert_eq!(live_on(&test.clock.drive(back.outcome()).await.unwrap()), "edge");
}
