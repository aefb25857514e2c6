//! Every fault of a [`FaultPlan`], on backends in memory.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use overskill_core::{
    AccessToken, Around, BackendName, Clock, DeployRequest, DeploymentId, DeploymentTarget, Effect, EnvRevision,
    EnvSnapshot, ErrorKind, Fence, Handle, Ids, IdsExt, Incarnation, Operation, Policy, Refusal, Result, Retrying,
    Route, RouteTable, Scope, SeededIds, StreamPosition, TargetStatus, TenantId, TenantValidator, TestClock,
    memory::{MemoryRoutes, MemoryTarget, RefuseTokens},
    timeout,
};
use overskill_testkit::{
    faulty::{Calls, Fault, FaultPlan, Faulty},
    fixtures,
};
use std::{future::Future, sync::Arc, time::Duration};

const LIMIT: Duration = Duration::from_secs(30);

fn scope() -> Scope {
    fixtures::scope("todo42/production")
}

fn route(fence: u64) -> Route {
    let id = DeploymentId::from_uuid(SeededIds::new(fence).uuid_v7(TestClock::new().now()));
    let target = BackendName::parse("kit").unwrap();
    Route::new(target, id, Handle::new("x"), Fence::from_u64(fence))
}

async fn fence(routes: &MemoryRoutes) -> u64 {
    routes.fence(&scope()).await.unwrap().as_u64()
}

fn request(seed: u64) -> DeployRequest {
    let id = DeploymentId::from_uuid(SeededIds::new(seed).uuid_v7(TestClock::new().now()));
    let revision = EnvRevision(StreamPosition::start(Incarnation::from_u64(1)));
    let env = EnvSnapshot { revision, values: [].into() };
    DeployRequest::new(id, scope(), Arc::new(fixtures::artifact(2, seed)), Arc::new(env))
}

#[tokio::test]
async fn before_the_effect_nothing_happens() {
    let routes = MemoryRoutes::new();
    let unknown = Fault::BeforeEffect { kind: ErrorKind::Timeout, effect: Effect::Unknown };
    let plan = FaultPlan::new().nth(Calls::named("set"), 1, Fault::before()).nth(Calls::named("set"), 2, unknown);
    let faulty = plan.around(routes.clone());
    let e = faulty.set(&scope(), &route(1)).await.unwrap_err();
    assert_eq!((e.kind(), e.effect(), e.operation()), (ErrorKind::Unavailable, Effect::None, "set"));
    let e = faulty.set(&scope(), &route(1)).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::Unknown));
    assert_eq!(fence(&routes).await, 0);
    faulty.set(&scope(), &route(1)).await.unwrap();
    assert_eq!(fence(&routes).await, 1);
}

#[tokio::test]
async fn the_second_activation_lands_and_its_answer_is_lost() {
    let target = MemoryTarget::new(BackendName::parse("kit").unwrap());
    let plan = FaultPlan::new().nth(Calls::of("target", "activate"), 2, Fault::after());
    let faulty = plan.around(target.clone());
    assert_eq!(faulty.info(), target.info(), "what is not async is passed on");
    let (first, second) = (request(1), request(2));
    for (request, fence) in [(&first, 1), (&second, 2)] {
        let staged = faulty.stage(request).await.unwrap();
        let done = faulty.activate(request, &staged, Fence::from_u64(fence)).await;
        assert_eq!(done.is_ok(), fence == 1);
        if let Err(e) = done {
            assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::Unknown));
            assert!(e.to_string().contains("after the effect, as the fault plan says"), "{e}");
        }
    }
    let status = faulty.status(&scope(), second.id(), Fence::from_u64(2)).await.unwrap();
    assert!(matches!(status, TargetStatus::Landed(_)), "{status:?}");
}

#[tokio::test]
async fn a_hanging_call_never_answers() {
    for (fault, want) in [(Fault::HangBefore, 0), (Fault::HangAfter, 1)] {
        let routes = MemoryRoutes::new();
        let faulty = FaultPlan::new().always(Calls::all(), fault).around(routes.clone());
        let clock = TestClock::new();
        let (scope, route) = (scope(), route(1));
        let e = clock.drive(timeout(&clock, LIMIT, faulty.set(&scope, &route))).await.unwrap_err();
        assert_eq!((e.kind(), clock.monotonic()), (ErrorKind::Timeout, LIMIT));
        assert_eq!(fence(&routes).await, want, "{fault}");
    }
}

/// Takes three polls for a call, which happens in the second.
#[derive(Debug)]
struct Slow;

impl Policy for Slow {
    async fn run<'a, T, F, Fut>(&'a self, _: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        tokio::task::yield_now().await;
        let done = call().await;
        tokio::task::yield_now().await;
        done
    }
}

#[tokio::test]
async fn a_cut_call_is_dropped_after_its_polls() {
    for (polls, want) in [(0, 0), (1, 0), (2, 1), (3, 1), (100, 1)] {
        let routes = MemoryRoutes::new();
        let plan = FaultPlan::new().nth(Calls::all(), 1, Fault::Cut { polls });
        let faulty = plan.around(Around::with_policy(routes.clone(), Slow));
        let e = faulty.set(&scope(), &route(1)).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::Unknown));
        assert_eq!(fence(&routes).await, want, "cut after {polls} polls");
    }
}

#[tokio::test]
async fn a_delayed_call_waits_on_the_plans_clock() {
    let routes = MemoryRoutes::new();
    let clock = TestClock::new();
    let plan = FaultPlan::new().clock(Arc::new(clock.clone())).always(Calls::all(), Fault::Delay(LIMIT));
    let faulty = plan.around(routes.clone());
    clock.drive(faulty.set(&scope(), &route(1))).await.unwrap();
    assert_eq!((clock.monotonic(), fence(&routes).await), (LIMIT, 1));
}

#[tokio::test]
async fn a_plan_names_calls_and_the_first_rule_that_hits_decides() {
    let plan = FaultPlan::new()
        .nth(Calls::of("routes", "get"), 2, Fault::after())
        .from_nth(Calls::named("set"), 3, Fault::before())
        .always(Calls::of_seam("target"), Fault::before())
        .always(Calls::of("routes", "get"), Fault::HangBefore)
        .nth(Calls::of("routes", "clear"), 1, Fault::before());
    plan.pause();
    let faulty = plan.around(MemoryRoutes::new());
    faulty.get(&scope()).await.unwrap();
    plan.resume();
    assert_eq!(faulty.get(&scope()).await.unwrap_err().effect(), Effect::Unknown, "the second, counted while paused");
    for n in 1..=4 {
        assert_eq!(faulty.set(&scope(), &route(n)).await.is_ok(), n < 3, "set {n}");
    }
    assert_eq!(plan.calls(&Calls::named("set")), 4);
    assert_eq!(plan.calls(&Calls::of_seam("routes")), 6);
    assert_eq!(plan.calls(&Calls::of("routes", "clear")), 0, "never called");
    let hits: Vec<_> = plan.hits().rows().iter().map(|r| r.hits).collect();
    assert_eq!(hits, [1, 2, 0, 0, 0]);
    assert_eq!(plan.hits().never().len(), 3);
    let table = plan.hits().to_string();
    assert!(table.contains("*.set from call 3 on: unavailable before the effect"), "{table}");
    assert!(table.contains("routes.get call 2: unavailable after the effect"), "{table}");
}

fn random_plan(seed: u64) -> FaultPlan {
    FaultPlan::seeded(seed)
        .chance(Calls::all(), 50, Fault::before())
        .chance(Calls::all(), 50, Fault::after())
        .chance(Calls::named("set"), 50, Fault::cut())
        .chance(Calls::named("get"), 100, Fault::Delay(Duration::from_millis(1)))
}

/// Calls with faults: whatever the answers were, the highest fence that was asked for is the one that is there.
async fn random_run(plan: &FaultPlan, calls: u64) -> u64 {
    let routes = MemoryRoutes::new();
    let clock = TestClock::new();
    let faulty: Faulty<_> = plan.clone().clock(Arc::new(clock.clone())).around(routes.clone());
    for n in 1..=calls {
        let _ = faulty.set(&scope(), &route(n)).await; // a fault
        if n % 3 == 0 {
            let _ = clock.drive(faulty.get(&scope())).await; // or another
        }
    }
    fence(&routes).await
}

#[tokio::test]
async fn a_seed_replays() {
    let run = async |seed| {
        let plan = random_plan(seed);
        let last = random_run(&plan, 300).await;
        (last, plan.log())
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await.1, run(8).await.1);
}

#[tokio::test]
async fn an_operation_replays_whatever_runs_between_its_calls() {
    let of_sets = async |gets: usize| {
        let plan = random_plan(3);
        let faulty = plan.clone().clock(Arc::new(TestClock::new())).around(MemoryRoutes::new());
        for n in 1..=100 {
            for _ in 0..gets {
                drop(faulty.fence(&scope()).await);
            }
            drop(faulty.set(&scope(), &route(n)).await);
        }
        plan.log().into_iter().filter(|hit| hit.name == "set").collect::<Vec<_>>()
    };
    assert_eq!(of_sets(0).await, of_sets(5).await);
}

#[tokio::test]
async fn random_faults_all_hit_about_as_often_as_they_should() {
    let plan = random_plan(1);
    random_run(&plan, 3_000).await;
    let hits = plan.hits();
    println!("{hits}");
    assert_eq!(hits.never(), Vec::<&str>::new(), "what never happened was not tested");
    for (row, per_mille) in hits.rows().iter().zip([50, 50, 50, 100]) {
        let expected = row.seen * per_mille / 1000;
        assert!((expected / 2..expected * 2).contains(&row.hits), "{row:?}");
    }
    assert_eq!(hits.total(), plan.log().len() as u64);
}

#[tokio::test]
async fn retries_see_faults_as_they_see_failures() {
    let retrying = |plan: &FaultPlan, routes: &MemoryRoutes| {
        let clock = TestClock::new();
        let ids: Arc<dyn Ids> = Arc::new(SeededIds::new(1));
        (clock.clone(), Retrying::new(plan.around(routes.clone()), Arc::new(clock), ids))
    };
    // Without effect, everything is tried again.
    let (routes, plan) = (MemoryRoutes::new(), FaultPlan::new().nth(Calls::named("clear"), 1, Fault::before()));
    let (clock, store) = retrying(&plan, &routes);
    clock.drive(store.clear(&scope(), Fence::from_u64(1))).await.unwrap();
    assert_eq!(plan.calls(&Calls::named("clear")), 2);
    // After a lost answer, only what is safe to repeat.
    let (routes, plan) = (MemoryRoutes::new(), FaultPlan::new().nth(Calls::all(), 1, Fault::after()));
    let (clock, store) = retrying(&plan, &routes);
    let e = clock.drive(store.clear(&scope(), Fence::from_u64(1))).await.unwrap_err();
    assert_eq!((e.effect(), plan.calls(&Calls::all()), fence(&routes).await), (Effect::Unknown, 1, 1));
}

#[tokio::test]
async fn a_validator_whose_call_fails_refuses() {
    let plan = FaultPlan::new().always(Calls::of("tenants", "validate"), Fault::after());
    let faulty = plan.around(RefuseTokens);
    let token = AccessToken::parse("any").unwrap();
    let tenant = TenantId::parse("app_todo42_tenant").unwrap();
    let refusal = faulty.validate(&token, &tenant, TestClock::new().now()).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Undecided(_)), "{refusal:?}");
    assert!(faulty.check().await.is_ok());
}

#[tokio::test]
async fn rules_draw_apart() {
    let calls = async |rules_before: usize| {
        let mut plan = FaultPlan::seeded(5);
        for _ in 0..rules_before {
            plan = plan.chance(Calls::named("never"), 500, Fault::before());
        }
        let plan = plan.chance(Calls::all(), 500, Fault::before());
        let faulty = plan.around(MemoryRoutes::new());
        for _ in 0..64 {
            drop(faulty.get(&scope()).await);
        }
        plan.log().iter().map(|hit| hit.call).collect::<Vec<_>>()
    };
    assert_ne!(calls(0).await, calls(1).await);
}
