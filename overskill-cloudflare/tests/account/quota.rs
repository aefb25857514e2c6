//! The quota of the account: everybody waits, nobody is lost.

use crate::common::{connect, transport};
use futures::future::join_all;
use overskill_cloudflare::{Cloudflare, WfpTarget};
use overskill_core::{AppId, Clock as _, DeployRequest, DeploymentTarget as _, Environment, Fence, Scope, TestClock};
use overskill_http::Quota;
use overskill_testkit::{cloudflare::CloudflareEmulator, fixtures};
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

/// Deploys a new app of three new assets; how many calls it took.
async fn deploy_new(emulator: &CloudflareEmulator, target: &WfpTarget, n: u64) -> usize {
    let base = crate::common::request_of(n, fixtures::artifact(3, n));
    let scope = Scope::new(AppId::parse(&format!("new{n}")).unwrap(), Environment::Production);
    let request = DeployRequest::new(base.id(), scope, base.artifact().clone(), base.env().clone());
    let request = request.under(Fence::from_u64(1));
    let before = emulator.requests().len();
    let staged = target.stage(&request).await.unwrap();
    target.activate(&request, &staged, Fence::from_u64(1)).await.unwrap();
    emulator.requests().len() - before
}

/// With Cloudflare's own quota and nothing in the way, new apps are deployed for an hour: as many as are promised, and not many
/// more.
#[tokio::test]
async fn as_many_deploys_are_promised_as_the_quota_lets_through() {
    let clock = TestClock::new();
    let emulator = CloudflareEmulator::options().clock(Arc::new(clock.clone())).in_process();
    let cf = Cloudflare::connect(emulator.account(), emulator.token()).transport(transport(&emulator));
    let target = cf.clock(clock.clone()).build().unwrap().target();
    let promised = u64::from(target.info().deploys_per_hour.unwrap().get());
    let deployed = clock.drive(async {
        deploy_new(&emulator, &target, 0).await; // makes the namespace
        assert_eq!(deploy_new(&emulator, &target, 1).await, 4);
        // The burst is spent, so that what flows is measured.
        for n in 2..=40 {
            deploy_new(&emulator, &target, n).await;
        }
        // A twelfth of an hour.
        let (began, mut n) = (clock.now(), 40);
        while clock.now().since(began) < WINDOW {
            n += 1;
            deploy_new(&emulator, &target, n).await;
        }
        n - 40
    });
    let deployed = deployed.await * 12;
    assert!(deployed >= promised && deployed - promised < 12 * 2, "{promised} are promised, {deployed} go through");
    assert_eq!(refused(&emulator), 0);
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
