//! A process that dies between any two calls, or within one, and another that goes on.

use crate::{
    common::{account, calls, connect, emulated, held, id, request, scope, scripts},
    mortal::{Mortal, dies_anywhere},
};
use futures::future::BoxFuture;
use overskill_cloudflare::{Cloudflare, R2Files, R2Keys, WfpTarget};
use overskill_core::{
    BackendName, Changes, Clock as _, DeploymentTarget as _, Fence, FileStore, Handle, ObservedState, Result, Route,
    RouteTable as _, Secret, Snapshot, SystemClock, TargetStatus, TestClock, memory::MemoryRoutes,
};
use overskill_testkit::{
    cloudflare::{CloudflareEmulator, Moment},
    fixtures::path,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

async fn deploy(target: &WfpTarget, n: u64, fence: u64) -> Result<Handle> {
    let fence = Fence::from_u64(fence);
    let request = request(n).under(fence);
    let staged = target.stage(&request).await?;
    target.activate(&request, &staged, fence).await
}

#[tokio::test]
async fn a_deploy_that_dies_anywhere_is_resumed_and_is_one_version() {
    for moment in [Moment::Before, Moment::After] {
        for at in 1.. {
            let emulator = emulated(|options| options);
            deploy(&account(&emulator).target(), 1, 1).await.unwrap();
            let process = Mortal::new(at, moment);
            let target = process.connect(&emulator).build().unwrap().target();
            let finished = process.does(async { drop(deploy(&target, 2, 2).await.unwrap()) }).await;
            // Whoever goes on has a fence of their own, and asks what became of the last.
            let next = account(&emulator).target();
            let status = next.status(&scope(), request(2).id(), Fence::from_u64(2)).await.unwrap();
            let landed = matches!(status, TargetStatus::Landed(_));
            assert!(landed || !finished, "{moment:?} {at}: {status:?}");
            deploy(&next, 2, 3).await.unwrap();
            let observed = next.observe(&scope()).await.unwrap();
            let of = |state| {
                observed.iter().filter(|o| o.state == state).map(|o| (o.id, o.digest, o.fence)).collect::<Vec<_>>()
            };
            let (live, fence) = (request(2), Fence::from_u64(3));
            assert_eq!(
                of(ObservedState::Active),
                [(Some(live.id()), Some(live.digest()), Some(fence))],
                "{moment:?} {at}"
            );
            assert_eq!(of(ObservedState::Previous).len(), 1);
            // What landed was adopted under its own name; nothing is there twice.
            let script = if landed { "todo42-2" } else { "todo42-3" };
            assert_eq!(scripts(&emulator, "production"), ["todo42-1", script], "{moment:?} {at}");
            if finished {
                assert!(at > 4, "only {at} calls were tried");
                break;
            }
        }
    }
}

/// The same where staging uploads: nothing is live before the route names it, and what landed is what it names then.
#[tokio::test]
async fn a_staging_that_dies_anywhere_leaves_what_is_live_and_is_one_version() {
    for moment in [Moment::Before, Moment::After] {
        for at in 1.. {
            let (emulator, routes) = (emulated(|options| options), MemoryRoutes::new());
            let open = |cf: Cloudflare| cf.target().routed_by(routes.clone());
            let route = async |n: u64, fence: u64, handle: Handle| {
                let name = BackendName::parse("cloudflare").unwrap();
                routes.set(&scope(), &Route::new(name, request(n).id(), handle, Fence::from_u64(fence))).await.unwrap();
            };
            route(1, 1, deploy(&open(account(&emulator)), 1, 1).await.unwrap()).await;
            let process = Mortal::new(at, moment);
            let target = open(process.connect(&emulator).build().unwrap());
            let finished = process.does(async { drop(deploy(&target, 2, 2).await.unwrap()) }).await;
            let next = open(account(&emulator));
            let active = async |target: &WfpTarget| {
                let observed = target.observe(&scope()).await.unwrap();
                let active = observed.into_iter().filter(|o| o.state == ObservedState::Active);
                active.map(|o| (o.id, o.digest, o.fence)).collect::<Vec<_>>()
            };
            let shown = |n: u64, fence| vec![(Some(id(n)), Some(request(n).digest()), Some(Fence::from_u64(fence)))];
            assert_eq!(active(&next).await, shown(1, 1), "{moment:?} {at}");
            let status = next.status(&scope(), id(2), Fence::from_u64(2)).await.unwrap();
            assert_eq!(status, TargetStatus::Absent, "{moment:?} {at}");
            let landed = scripts(&emulator, "production").contains(&"todo42-2".to_owned());
            route(2, 3, deploy(&next, 2, 3).await.unwrap()).await;
            assert_eq!(active(&next).await, shown(2, 3), "{moment:?} {at}");
            let script = if landed { "todo42-2" } else { "todo42-3" };
            assert_eq!(scripts(&emulator, "production"), ["todo42-1", script], "{moment:?} {at}");
            if finished {
                assert!(landed && at > 4, "only {at} calls were tried");
                break;
            }
        }
    }
}

fn first() -> Changes {
    Changes::new().put(path("a"), "1").put(path("b"), "1").put(path("c"), b"\xff".as_slice())
}

fn second() -> Changes {
    Changes::new().put(path("a"), "2").put(path("d"), "2").delete(path("b"))
}

/// What is in `a`, `b`, `c` and `d` before and after [`second`].
fn old_and_new() -> [[Option<Vec<u8>>; 4]; 2] {
    let some = |text: &str| Some(text.as_bytes().to_vec());
    [[some("1"), some("1"), Some(vec![0xff]), None], [some("2"), None, Some(vec![0xff]), some("2")]]
}

fn contents(snapshot: &Snapshot) -> [Option<Vec<u8>>; 4] {
    ["a", "b", "c", "d"].map(|at| snapshot.files.get(&path(at)).map(|file| file.contents().to_vec()))
}

/// Where the files of an account are, and what tests see of that place.
struct Place<S> {
    files: fn(&Cloudflare, &CloudflareEmulator) -> S,
    /// How many values it holds for the app.
    held: fn(&CloudflareEmulator) -> usize,
    sweep: fn(&CloudflareEmulator) -> BoxFuture<'_, Result<usize>>,
}

/// Changes that die anywhere have happened or have not; whoever goes on has them, and once it is swept the place holds what it
/// would hold if nobody had died.
async fn changes_die_anywhere<S: FileStore>(least: usize, place: Place<S>) {
    let [old, new] = old_and_new();
    let world = async || {
        let emulator = emulated(|options| options);
        crate::install::make_bucket(&emulator).await;
        let before = (place.files)(&account(&emulator), &emulator).apply(&scope(), &first(), None).await.unwrap();
        (emulator, before)
    };
    // The same without a death, with the second change made once and twice.
    let (calm, _) = world().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        (place.files)(&account(&calm), &calm).apply(&scope(), &second(), None).await.unwrap();
        held.push((place.held)(&calm));
    }
    let swept = AtomicUsize::new(0);
    dies_anywhere(
        least,
        world,
        async |(emulator, _), process| {
            let files = (place.files)(&process.connect(emulator).build().unwrap(), emulator);
            files.apply(&scope(), &second(), None).await.unwrap();
        },
        async |(emulator, before), finished, place_of_death| {
            let next = (place.files)(&account(emulator), emulator);
            let seen = next.snapshot(&scope()).await.unwrap();
            let happened = seen.position == before.next();
            assert_eq!(contents(&seen), if happened { new.clone() } else { old.clone() }, "{place_of_death}");
            assert!(happened || (!finished && seen.position == *before), "{place_of_death}");
            let after = next.apply(&scope(), &second(), Some(seen.position)).await.unwrap();
            let seen = next.snapshot(&scope()).await.unwrap();
            assert_eq!((seen.position, contents(&seen)), (after, new.clone()), "{place_of_death}");
            swept.fetch_add((place.sweep)(emulator).await.unwrap(), Ordering::Relaxed);
            assert_eq!((place.held)(emulator), held[usize::from(happened)], "{place_of_death}: what is kept");
            assert_eq!(next.snapshot(&scope()).await.unwrap(), seen, "{place_of_death}: nothing that counts is swept");
        },
    )
    .await;
    assert!(swept.into_inner() > 0, "no death left anything to sweep");
}

#[tokio::test]
async fn files_in_kv_that_die_anywhere_are_the_old_or_the_new_and_go_on() {
    let place = Place {
        files: |cf, _| cf.files(),
        held: |emulator| {
            let state = emulator.state();
            let (namespace, held) = &state.kv["overskill-production"];
            // The copies for Workers are what the files are, whatever was cut off.
            let copy = |at: &str| emulator.kv_value(namespace, &format!("app_todo42_{at}")).map(|value| value.to_vec());
            assert_eq!(["a", "b", "c", "d"].map(copy), old_and_new()[1]);
            *held
        },
        sweep: |emulator| {
            Box::pin(async {
                // What is young may be named by a head that is not read yet.
                assert_eq!(account(emulator).files().sweep(&scope()).await?, 0);
                let later = TestClock::at(SystemClock.now().plus(Duration::from_hours(2)));
                connect(emulator).clock(later).build().unwrap().files().sweep(&scope()).await
            })
        },
    };
    changes_die_anywhere(5, place).await;
}

#[tokio::test]
async fn files_in_r2_that_die_anywhere_are_the_old_or_the_new_and_go_on() {
    fn files(cf: &Cloudflare, emulator: &CloudflareEmulator) -> R2Files {
        let (id, secret) = emulator.s3_keys(&emulator.token()).unwrap();
        cf.r2_files(&R2Keys::new(id, Secret::new(secret))).unwrap()
    }
    let place = Place {
        files,
        held: |emulator| emulator.state().buckets["overskill-files"].len(),
        sweep: |emulator| {
            Box::pin(async {
                // What is young may be about to be named by another process.
                assert_eq!(files(&account(emulator), emulator).sweep(&scope()).await?, 0);
                let later = TestClock::at(SystemClock.now().plus(Duration::from_hours(2)));
                files(&connect(emulator).clock(later).build().unwrap(), emulator).sweep(&scope()).await
            })
        },
    };
    changes_die_anywhere(4, place).await;
}

#[tokio::test]
async fn an_installation_that_dies_anywhere_is_gone_on_with() {
    for moment in [Moment::Before, Moment::After] {
        for at in 1.. {
            let emulator = emulated(|options| options);
            let process = Mortal::new(at, moment);
            let cf = process.connect(&emulator).build().unwrap();
            let install = crate::install::install();
            let finished = process.does(async { drop(cf.install(&install).await.unwrap()) }).await;
            let next = account(&emulator);
            next.install(&install).await.unwrap();
            assert!(next.plan(&install).await.unwrap().is_empty(), "{moment:?} {at}");
            let state = emulator.state();
            assert_eq!((state.namespaces.len(), state.kv.len(), state.buckets.len(), state.routes.len()), (4, 4, 1, 2));
            next.uninstall(&install).await.unwrap();
            if finished {
                assert!(calls(&emulator, "POST", "") > 5 && at > 15, "only {at} calls were tried");
                break;
            }
        }
    }
}

/// What an account holds, without what is drawn for each.
fn shape(emulator: &CloudflareEmulator) -> Value {
    let state = emulator.state();
    let records = state.records.iter().map(|(name, records)| {
        let told = |it: &Value| json!([it["type"], it["content"], it["proxied"], it["comment"]]);
        let mut records: Vec<_> = records.iter().map(told).collect();
        records.sort_by_key(ToString::to_string);
        (name, records)
    });
    let namespaces: BTreeMap<_, Vec<_>> =
        state.namespaces.iter().map(|(name, scripts)| (name, scripts.keys().collect())).collect();
    json!({
        "records": records.collect::<BTreeMap<_, _>>(), "routes": state.routes, "fallback": state.fallback_origins,
        "namespaces": namespaces, "scripts": state.scripts.keys().collect::<Vec<_>>(), "hostnames": state.hostnames,
        "kv": state.kv.keys().collect::<Vec<_>>(), "buckets": state.buckets,
    })
}

/// With what customers' hostnames take, where there was nothing or an installation without: whoever goes on has all of it and
/// nothing twice, whoever gives up has none of it, and what a stranger had and makes meanwhile stays.
#[tokio::test]
async fn an_installation_for_customers_that_dies_anywhere_is_gone_on_with_or_taken_back() {
    let all = || crate::install::install().customer_hostnames();
    let stranger = async |emulator: &CloudflareEmulator, below: &str, method: &str, body: &Value| {
        let body = ("application/json".to_owned(), body.to_string().into());
        let zone = emulator.zone_id("example.com").unwrap();
        crate::common::api(emulator, method, &format!("/zones/{zone}/{below}"), body).await;
    };
    for was_there in [false, true] {
        let world = async || {
            let emulator = emulated(|options| options);
            crate::install::strangers(&emulator).await;
            // There is room for ours.
            stranger(&emulator, "custom_hostnames/fallback_origin", "DELETE", &Value::Null).await;
            let before = held(&emulator);
            if was_there {
                account(&emulator).install(&crate::install::install()).await.unwrap();
            }
            (emulator, before)
        };
        let (calm, _) = world().await;
        account(&calm).install(&all()).await.unwrap();
        stranger(&calm, "dns_records", "POST", &meanwhile()).await;
        for gives_up in [false, true] {
            dies_anywhere(
                if was_there { 15 } else { 28 },
                &world,
                async |(emulator, _), process| {
                    drop(process.connect(emulator).build().unwrap().install(&all()).await.unwrap());
                },
                async |(emulator, before), _, at| {
                    let next = account(emulator);
                    if gives_up {
                        // They need not know what it was for.
                        next.uninstall(&crate::install::install()).await.unwrap();
                        assert_eq!(&held(emulator), before, "{at}");
                        assert!(next.uninstall(&all()).await.unwrap().is_empty(), "{at}");
                        return;
                    }
                    stranger(emulator, "dns_records", "POST", &meanwhile()).await;
                    next.install(&all()).await.unwrap();
                    assert!(next.plan(&all()).await.unwrap().is_empty(), "{at}");
                    assert_eq!(shape(emulator), shape(&calm), "{at}");
                },
            )
            .await;
        }
    }
}

/// A record that somebody else makes.
fn meanwhile() -> Value {
    json!({"type": "TXT", "name": "overskill-customers.example.com", "content": "theirs"})
}
