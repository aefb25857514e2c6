//! The quota of the account: everybody waits, nobody is lost.

use crate::common::{connect, transport};
use futures::future::join_all;
use overskill_cloudflare::{Cloudflare, WfpTarget};
use overskill_core::{
    AppHandle, AppId, Clock as _, DeployRequest, DeploymentStrategy, DeploymentTarget as _, Environment, Fence,
    Outcome, Removal, Scope, SeededIds, TestClock, To, memory::MemoryBackends,
};
use overskill_http::Quota;
use overskill_testkit::{
    TestPlatform,
    cloudflare::{CloudflareEmulator, FaultPlan},
    fixtures,
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

const CALLS: usize = 60;
const WINDOW: Duration = Duration::from_mins(5);
const DEPLOYS: u64 = 40;

fn emulator(clock: &TestClock) -> CloudflareEmulator {
    CloudflareEmulator::options().clock(Arc::new(clock.clone())).quota(CALLS, WINDOW).in_process()
}

fn account(emulator: &CloudflareEmulator, clock: &TestClock) -> Cloudflare {
    let quota = Quota::new(NonZeroU32::new(u32::try_from(CALLS).unwrap()).unwrap(), WINDOW);
    let quota = quota.burst(NonZeroU32::new(12).unwrap()).reserve(2);
    connect(emulator).transport(transport(emulator)).clock(clock.clone()).quota(quota).build().unwrap()
}

/// Every app of many is deployed at once, each through the same account.
async fn deploy_all(target: &WfpTarget) {
    let deploys = (0..DEPLOYS).map(|n| async move {
        let app = AppId::parse(&format!("app{n}")).unwrap();
        let base = crate::common::request_of(n, fixtures::artifact(2, n));
        let scope = Scope::new(app, Environment::Production);
        let request = DeployRequest::new(base.id(), scope, base.artifact().clone(), base.env().clone());
        let fence = Fence::from_u64(1);
        let request = request.under(fence);
        let staged = target.stage(&request).await.unwrap_or_else(|e| panic!("app{n}: {e:?}"));
        target.activate(&request, &staged, fence).await.unwrap_or_else(|e| panic!("app{n}: {e:?}"));
    });
    join_all(deploys).await;
}

/// A platform over the account that keeps so many versions of an app.
async fn platform(clock: &TestClock, cf: &Cloudflare, keep: u32) -> TestPlatform {
    let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(7)));
    let strategy = DeploymentStrategy::prefer(cf.target().routed_by(memory.routes.clone()));
    let strategy = strategy.keep(NonZeroU32::new(keep).unwrap());
    TestPlatform::over(clock.clone(), memory, |builder, _| builder.deploy_with(strategy)).await.unwrap()
}

/// Deploys a page; how many calls it took.
async fn deploy_page(emulator: &CloudflareEmulator, app: &AppHandle, n: u64) -> usize {
    let before = emulator.requests().len();
    app.write([("index.html", format!("page {n}"))]).await.unwrap();
    let outcome = app.deploy(Environment::Production).await.unwrap().outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Active { .. }), "{outcome}");
    emulator.requests().len() - before
}

/// With Cloudflare's own quota and nothing in the way, versions are deployed for an hour, each in place of an older one: as
/// many as are promised, and not many more.
#[tokio::test]
async fn as_many_deploys_are_promised_as_the_quota_lets_through() {
    let clock = TestClock::new();
    let emulator = CloudflareEmulator::options().clock(Arc::new(clock.clone())).in_process();
    let cf = Cloudflare::connect(emulator.account(), emulator.token()).transport(transport(&emulator));
    let cf = cf.clock(clock.clone()).build().unwrap();
    let promised = u64::from(cf.target().info().deploys_per_hour.unwrap().get());
    let test = platform(&clock, &cf, 1).await;
    let app = test.app("todo42").await;
    let deployed = clock.drive(async {
        deploy_page(&emulator, &app, 0).await; // makes the namespace, and retires nothing
        assert_eq!(deploy_page(&emulator, &app, 1).await, 6);
        // The burst is spent, so that what flows is measured.
        for n in 2..=30 {
            deploy_page(&emulator, &app, n).await;
        }
        // A twelfth of an hour.
        let (began, mut n) = (clock.now(), 30);
        while clock.now().since(began) < WINDOW {
            n += 1;
            deploy_page(&emulator, &app, n).await;
        }
        n - 30
    });
    let deployed = Box::pin(deployed).await * 12;
    assert!(deployed >= promised && deployed - promised < 12 * 2, "{promised} are promised, {deployed} go through");
    assert_eq!(refused(&emulator), 0);
}

/// While versions of many apps are tidied up, which takes the quota for minutes, somebody goes back.
#[tokio::test]
async fn what_goes_back_does_not_wait_for_what_is_tidied_up() {
    let clock = TestClock::new();
    let emulator = emulator(&clock);
    let cf = account(&emulator, &clock);
    let (test, target) = (platform(&clock, &cf, 5).await, cf.target());
    let app = test.app("todo42").await;
    let all = async {
        deploy_all(&target).await;
        for n in 1..=2 {
            deploy_page(&emulator, &app, n).await;
        }
        // A burst is there again; and answers take their time, so that many have looked before the first removes anything.
        clock.sleep(WINDOW).await;
        let far = Duration::from_millis(100);
        emulator.set_faults(FaultPlan::none().latency(far, far));
        let began = clock.now();
        let tidy = async {
            join_all((0..DEPLOYS).map(|n| remove(&target, n))).await;
            clock.now().since(began)
        };
        let back = async {
            // The tidying has begun.
            clock.sleep(Duration::from_secs(1)).await;
            let back = app.rollback(Environment::Production, To::LastGood).await.unwrap();
            let outcome = back.outcome().await.unwrap();
            assert!(matches!(outcome, Outcome::Active { .. }), "{outcome}");
            clock.now().since(began)
        };
        futures::join!(tidy, back)
    };
    let (tidied, went_back) = Box::pin(clock.drive(all)).await;
    println!("went back after {went_back:?}, tidied up after {tidied:?}");
    assert!(tidied > WINDOW, "the quota is spent: {tidied:?}");
    assert!(went_back < Duration::from_secs(20), "it took {went_back:?}");
    assert_eq!(refused(&emulator), 0);
}

/// Removes the version that [`deploy_all`] brought there.
async fn remove(target: &WfpTarget, n: u64) {
    let scope = Scope::new(AppId::parse(&format!("app{n}")).unwrap(), Environment::Production);
    target.remove(&scope, Removal::Only(crate::common::id(n))).await.unwrap();
}

fn refused(emulator: &CloudflareEmulator) -> usize {
    emulator.requests().iter().filter(|call| call.status == Some(429)).count()
}

#[tokio::test]
async fn within_the_quota_nobody_is_refused() {
    let clock = TestClock::new();
    let emulator = emulator(&clock);
    let began = clock.now();
    clock.drive(deploy_all(&account(&emulator, &clock).target())).await;
    assert_eq!(emulator.state().namespaces["overskill-production"].len() as u64, DEPLOYS);
    assert_eq!(refused(&emulator), 0);
    let (calls, took) = (emulator.requests().len(), clock.now().since(began));
    println!("{calls} calls in {took:?}");
    assert!(took > WINDOW * 2, "{calls} calls of {CALLS} in 5 minutes took {took:?}");
}

#[tokio::test]
async fn when_others_have_used_it_up_everybody_waits_and_nobody_is_lost() {
    let clock = TestClock::new();
    let emulator = emulator(&clock);
    // Somebody at the dashboard, as the same user.
    for _ in 0..CALLS {
        let url = format!("{}/accounts/{}/workers/scripts", emulator.api_url(), emulator.account());
        let call = http::Request::get(url).header("authorization", format!("Bearer {}", emulator.token()));
        emulator.call(call.body(bytes::Bytes::new()).unwrap()).await.unwrap();
    }
    clock.drive(deploy_all(&account(&emulator, &clock).target())).await;
    assert!(refused(&emulator) > 0);
    assert!(refused(&emulator) <= 12, "a burst is refused, and nothing after it: {}", refused(&emulator));
    assert_eq!(emulator.state().namespaces["overskill-production"].len() as u64, DEPLOYS);
}
