//! What remains to be done after the end.

use crate::common::{PRODUCTION, assert_live, deploy, later, live_on, platform, scope, target, written};
use overskill_core::{
    Around, Clock as _, Commit, DeploymentEnd, DeploymentId, DeploymentRecord, DeploymentStore as _,
    DeploymentStrategy, DeploymentTarget as _, Effect, Environment, ErrorKind, Failback, Notice, Operation, Policy,
    Result, RouteTable as _, SeededIds, To,
    memory::{MemoryDeployments, MemoryNotifier},
};
use overskill_testkit::{
    TestPlatform,
    faulty::{Calls, Fault, FaultPlan},
};
use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

#[tokio::test]
async fn an_app_goes_back_to_the_preferred_target_when_the_strategy_says_so() {
    let plan = FaultPlan::new();
    let (first, second) = (target("first"), target("second"));
    let strategy = DeploymentStrategy::prefer(plan.around(first.clone()))
        .then(second.clone())
        .failback(Failback::After(Duration::from_mins(30)));
    let test = platform(strategy).await;
    let app = written(&test).await;
    let plan = plan.always(Calls::of("target", "stage"), Fault::before());
    let d = deploy(&test, &app, "one").await;
    assert_eq!(live_on(&d.outcome), "second");
    plan.pause();
    later(&test, Duration::from_mins(29)).await;
    assert_live(&test, d.id, &second).await;
    for _ in 0..3 {
        later(&test, Duration::from_mins(2)).await;
    }
    let route = test.memory.routes.get(&scope()).await.unwrap().unwrap();
    assert_eq!(route.target.as_str(), "first");
    let record = app.deployment(route.deployment).await.unwrap();
    assert_eq!(record.actor().unwrap().to_string(), "system:failback");
    assert_eq!(record.digest(), app.deployment(d.id).await.unwrap().digest());
}

/// Somebody asks for something while an artifact is read, on a machine whose clock is behind.
#[derive(Clone, Debug, Default)]
struct Meanwhile(Arc<Mutex<Option<(MemoryDeployments, Commit)>>>);

impl Policy for Meanwhile {
    async fn run<'a, T, F, Fut>(&'a self, operation: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        let asks = if operation.name == "get" { self.0.lock().unwrap().take() } else { None };
        if let Some((store, commit)) = asks {
            store.commit(&commit).await?;
        }
        call().await
    }
}

#[tokio::test]
async fn what_somebody_asks_for_meanwhile_goes_before_what_goes_back() {
    let (plan, meanwhile) = (FaultPlan::new(), Meanwhile::default());
    let strategy = DeploymentStrategy::prefer(plan.around(target("first")))
        .then(target("second"))
        .attempt_timeout(Duration::from_secs(10))
        .failback(Failback::After(Duration::from_mins(30)));
    let around = meanwhile.clone();
    let test = TestPlatform::seeded(7, move |builder, memory| {
        builder.deploy_with(strategy).bundles(Around::with_policy(memory.bundles.clone(), around))
    });
    let test = test.await.unwrap();
    let app = written(&test).await;
    let plan = plan.always(Calls::of("target", "stage"), Fault::before());
    let d = deploy(&test, &app, "one").await;
    assert_eq!(live_on(&d.outcome), "second");
    plan.pause();
    let asked = DeploymentId::generate(&SeededIds::new(1), d.id.made_at().plus(Duration::from_millis(1)));
    let commit = Commit::new(asked, scope(), 0, [d.events[0].clone()], test.clock.now());
    *meanwhile.0.lock().unwrap() = Some((test.memory.deployments.clone(), commit));
    for _ in 0..2 {
        later(&test, Duration::from_mins(31)).await;
    }
    assert!(meanwhile.0.lock().unwrap().is_none(), "the artifact was to go back");
    let record = app.deployment(asked).await.unwrap();
    assert_eq!(live_on(&record.outcome().expect("it was driven")), "first", "{}", record.timeline());
    let all = app.deployments(PRODUCTION, None, NonZeroU32::new(9).unwrap()).await.unwrap().items;
    assert_eq!(all.iter().map(|one| one.id).collect::<Vec<_>>(), [asked, d.id]);
}

/// As long as the preferred target does not take it, it stays where it is: nothing is brought there once more, versions
/// that could be gone back to stay, and the tries become fewer.
#[tokio::test]
async fn who_cannot_go_back_stays_and_tries_more_and_more_seldom() {
    let plan = FaultPlan::new();
    let told = MemoryNotifier::new();
    let (first, second) = (target("first"), target("second"));
    let strategy = DeploymentStrategy::prefer(plan.around(first.clone()))
        .then(second.clone())
        .notify(told.clone())
        .ask_operator(Duration::from_hours(1))
        .failback(Failback::After(Duration::from_mins(30)));
    let test = platform(strategy).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    let plan = plan.always(Calls::of("target", "activate"), Fault::before());
    let d = deploy(&test, &app, "two").await;
    assert_eq!(live_on(&d.outcome), "second");
    for _ in 0..48 * 4 {
        later(&test, Duration::from_mins(15)).await;
    }
    assert_live(&test, d.id, &second).await;
    let all = app.deployments(PRODUCTION, None, std::num::NonZeroU32::new(99).unwrap()).await.unwrap().items;
    // After 0.5, 1, 2, 4, 8, 16 and 32 hours.
    assert!((7..=9).contains(&(all.len() - 2)), "{} tries", all.len() - 2);
    for one in all.iter().filter(|one| one.id > d.id) {
        assert!(matches!(one.end, Some(DeploymentEnd::Failed { .. })), "{one:?}");
    }
    assert!(told.notices().iter().all(|notice| !matches!(notice, Notice::AwaitingOperator { .. })));
    // What was live before is still there to go back to; and so is, on the first, what goes back.
    plan.pause();
    let back = app.rollback(PRODUCTION, To::LastGood).await.unwrap();
    assert_eq!(live_on(&test.clock.drive(back.outcome()).await.unwrap()), "first");
    assert_eq!(back.record().await.unwrap().digest(), app.deployment(good.id).await.unwrap().digest());
}

/// What went back to the preferred target was live before, on the other one: going back from it leads to other code.
#[tokio::test]
async fn the_last_good_version_is_another_one() {
    let plan = FaultPlan::new();
    let strategy = DeploymentStrategy::prefer(plan.around(target("first")))
        .then(target("second"))
        .failback(Failback::After(Duration::from_mins(30)));
    let test = platform(strategy).await;
    let app = written(&test).await;
    let good = deploy(&test, &app, "one").await;
    let plan = plan.always(Calls::of("target", "stage"), Fault::before());
    assert_eq!(live_on(&deploy(&test, &app, "two").await.outcome), "second");
    plan.pause();
    for _ in 0..3 {
        later(&test, Duration::from_mins(31)).await;
    }
    assert_eq!(test.memory.routes.get(&scope()).await.unwrap().unwrap().target.as_str(), "first");
    let back = app.rollback(PRODUCTION, To::LastGood).await.unwrap();
    assert_eq!(live_on(&test.clock.drive(back.outcome()).await.unwrap()), "first");
    let digest = |record: DeploymentRecord| record.digest();
    assert_eq!(digest(back.record().await.unwrap()), digest(app.deployment(good.id).await.unwrap()));
}

/// What somebody asked for since goes before: the old artifact must not come back over it.
#[tokio::test]
async fn going_back_waits_for_what_was_asked_for_since() {
    let plan = FaultPlan::new();
    let (first, second) = (target("first"), target("second"));
    let strategy = DeploymentStrategy::prefer(plan.around(first.clone()))
        .then(second.clone())
        .permission_for(PRODUCTION)
        .failback(Failback::After(Duration::from_mins(30)));
    let test = platform(strategy).await;
    let app = written(&test).await;
    let plan = plan.always(Calls::of("target", "stage"), Fault::before());
    let approved = async |contents: &str| {
        let asks = deploy(&test, &app, contents).await;
        app.answer(asks.id, overskill_core::OperatorChoice::Approve).await.unwrap();
        let resumed = app.resume(asks.id).await.unwrap();
        (asks.id, test.clock.drive(resumed.outcome()).await.unwrap())
    };
    let (_, outcome) = approved("one").await;
    assert_eq!(live_on(&outcome), "second");
    plan.pause();
    let asks = deploy(&test, &app, "two").await; // waits for permission
    let broken = app.deploy(PRODUCTION).await.unwrap(); // and a newer one is given up
    test.clock.drive(broken.outcome()).await.unwrap();
    app.answer(broken.id(), overskill_core::OperatorChoice::Abort).await.unwrap();
    for _ in 0..6 {
        later(&test, Duration::from_mins(20)).await;
    }
    app.answer(asks.id, overskill_core::OperatorChoice::Approve).await.unwrap();
    let resumed = app.resume(asks.id).await.unwrap();
    assert_eq!(live_on(&test.clock.drive(resumed.outcome()).await.unwrap()), "first");
    for _ in 0..4 {
        later(&test, Duration::from_mins(31)).await;
    }
    assert_live(&test, asks.id, &first).await;
    let all = app.deployments(PRODUCTION, None, std::num::NonZeroU32::new(9).unwrap()).await.unwrap();
    assert_eq!(all.items.len(), 3, "nothing went back over it");
}

/// An app that belongs on the second target has not fallen back.
#[tokio::test]
async fn an_app_that_is_where_it_belongs_goes_nowhere_and_nobody_is_told() {
    let told = MemoryNotifier::new();
    let (edge, servers) = (target("edge"), target("servers"));
    let strategy = DeploymentStrategy::prefer(edge.clone())
        .when(|app| app.bytes < 10)
        .then(servers.clone())
        .notify(told.clone())
        .failback(Failback::After(Duration::from_mins(30)));
    let test = platform(strategy).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "more than ten bytes").await;
    assert_eq!(live_on(&d.outcome), "servers");
    for _ in 0..4 {
        later(&test, Duration::from_mins(31)).await;
    }
    assert_live(&test, d.id, &servers).await;
    assert_eq!(told.notices(), [], "{}", d.story);
}

#[tokio::test]
async fn without_a_word_it_stays_where_it_fell_back_to() {
    let plan = FaultPlan::new().nth(Calls::of("target", "stage"), 1, Fault::before());
    let strategy = DeploymentStrategy::prefer(plan.around(target("first")))
        .then(target("second"))
        .tries_per_target(std::num::NonZeroU32::MIN);
    let test = platform(strategy).await;
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    assert_eq!(live_on(&d.outcome), "second");
    later(&test, Duration::from_hours(48)).await;
    assert_eq!(test.memory.routes.get(&scope()).await.unwrap().unwrap().deployment, d.id);
    // Somebody says it: the same artifact, on the preferred target.
    let back = app.promote(PRODUCTION, PRODUCTION).await.unwrap();
    assert_eq!(live_on(&test.clock.drive(back.outcome()).await.unwrap()), "first");
    let _ = Environment::Staging;
}

#[tokio::test]
async fn a_target_that_cannot_be_swept_now_is_swept_later() {
    let plan = FaultPlan::new();
    let (first, second) = (target("first"), target("second"));
    let test = platform(DeploymentStrategy::prefer(plan.around(first.clone())).then(second.clone())).await;
    let app = written(&test).await;
    let plan = plan.always(Calls::of("target", "activate"), Fault::before());
    let d = deploy(&test, &app, "one").await;
    assert_eq!(live_on(&d.outcome), "second");
    assert_eq!(first.observe(&scope()).await.unwrap().len(), 1, "it is staged on the first");
    let plan = plan.always(Calls::of("target", "observe"), Fault::before());
    later(&test, Duration::from_mins(11)).await;
    assert_eq!(first.observe(&scope()).await.unwrap().len(), 1, "the first cannot be asked");
    plan.pause();
    later(&test, Duration::from_mins(30)).await;
    assert_eq!(first.observe(&scope()).await.unwrap(), []);
    assert!(app.deployment(d.id).await.unwrap().leftovers().is_empty());
}

/// It holds the app's data, say. Whatever else there is goes, nobody asks again, and the record goes on naming the target.
#[tokio::test]
async fn what_a_target_keeps_holds_up_no_sweep() {
    let plan = FaultPlan::new();
    let (first, second) = (target("first"), target("second"));
    let test = platform(DeploymentStrategy::prefer(plan.around(first.clone())).then(second.clone())).await;
    let app = written(&test).await;
    let plan = plan.always(Calls::of("target", "activate"), Fault::before());
    deploy(&test, &app, "one").await;
    let d = deploy(&test, &app, "two").await;
    assert_eq!(first.observe(&scope()).await.unwrap().len(), 2, "both are staged on the first");
    let (removals, kind, effect) = (Calls::of("target", "remove"), ErrorKind::Unsupported, Effect::None);
    // The older one's sweep finds that, the newer one's both.
    let keeps = Fault::BeforeEffect { kind, effect };
    let plan = plan.nth(removals.clone(), 1, keeps).nth(removals.clone(), 2, keeps);
    for _ in 0..4 {
        later(&test, Duration::from_mins(11)).await;
        assert_eq!((first.observe(&scope()).await.unwrap().len(), plan.calls(&removals)), (1, 3));
    }
    let left = app.deployment(d.id).await.unwrap().leftovers();
    assert!(left.iter().any(|name| name.as_str() == "first"), "{left:?}");
}

#[tokio::test]
async fn a_happy_deployment_leaves_no_chores() {
    let edge = target("edge");
    let plan = FaultPlan::new();
    let strategy = DeploymentStrategy::prefer(edge.clone());
    let test = overskill_testkit::TestPlatform::seeded(7, |builder, memory| {
        let builder = builder.deploy_with(strategy).deployments(plan.around(memory.deployments.clone()));
        builder.routes(plan.around(memory.routes.clone()))
    });
    let test = test.await.unwrap();
    let app = written(&test).await;
    let d = deploy(&test, &app, "one").await;
    assert_eq!(live_on(&d.outcome), "edge");
    assert_eq!(plan.calls(&Calls::of("deployments", "commit")), 4, "{}", d.story);
    assert_eq!(plan.calls(&Calls::of("routes", "set")), 1);
    later(&test, Duration::from_hours(48)).await;
    assert_eq!(plan.calls(&Calls::of("deployments", "commit")), 4, "nothing is left to do");
}
