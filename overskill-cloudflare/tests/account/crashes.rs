//! A process that dies between any two calls, or within one, and another that goes on.

use crate::common::{account, calls, connect, emulated, id, request, scope, scripts, send};
use overskill_cloudflare::{Cloudflare, WfpTarget};
use overskill_core::{
    BackendName, Changes, DeploymentTarget as _, Fence, FileStore as _, Handle, ObservedState, Result, Route,
    RouteTable as _, Snapshot, TargetStatus, memory::MemoryRoutes,
};
use overskill_http::{Request, Transport, transport_fn};
use overskill_testkit::{
    cloudflare::{CloudflareEmulator, Moment},
    fixtures::path,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// The way of a process that dies at its `at`th call, before or after that had its effect.
fn mortal(emulator: &CloudflareEmulator, at: usize, moment: Moment) -> (impl Transport + use<>, Arc<Notify>) {
    let (emulator, made, died) = (emulator.clone(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let told = died.clone();
    let way = transport_fn(move |request: Request| {
        let (emulator, died) = (emulator.clone(), told.clone());
        let is_last = made.fetch_add(1, Ordering::Relaxed) + 1 == at;
        async move {
            if !is_last {
                return send(&emulator, request).await;
            }
            if moment == Moment::After {
                drop(send(&emulator, request).await);
            }
            died.notify_one();
            std::future::pending().await
        }
    });
    (way, died)
}

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
            let (way, died) = mortal(&emulator, at, moment);
            let target = connect(&emulator).transport(way).build().unwrap().target();
            let finished = tokio::select! {
                done = deploy(&target, 2, 2) => { done.unwrap(); true }
                () = died.notified() => false
            };
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
            let (way, died) = mortal(&emulator, at, moment);
            let target = open(connect(&emulator).transport(way).build().unwrap());
            let finished = tokio::select! {
                done = deploy(&target, 2, 2) => { done.unwrap(); true }
                () = died.notified() => false
            };
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

#[tokio::test]
async fn files_that_die_anywhere_are_the_old_or_the_new_and_go_on() {
    let first = || Changes::new().put(path("a"), "1").put(path("b"), "1").put(path("c"), b"\xff".as_slice());
    let second = || Changes::new().put(path("a"), "2").delete(path("b"));
    let contents = |snapshot: &Snapshot| {
        let file = |at: &str| snapshot.files.get(&path(at)).map(|file| file.contents().to_vec());
        ["a", "b", "c"].map(file)
    };
    let some = |text: &str| Some(text.as_bytes().to_vec());
    let (old, new) = ([some("1"), some("1"), Some(vec![0xff])], [some("2"), None, Some(vec![0xff])]);
    for moment in [Moment::Before, Moment::After] {
        for at in 1.. {
            let emulator = emulated(|options| options);
            let before = account(&emulator).files().apply(&scope(), &first(), None).await.unwrap();
            let (way, died) = mortal(&emulator, at, moment);
            let files = connect(&emulator).transport(way).build().unwrap().files();
            let (place, changes) = (scope(), second());
            let finished = tokio::select! {
                done = files.apply(&place, &changes, None) => { done.unwrap(); true }
                () = died.notified() => false
            };
            let next = account(&emulator).files();
            let seen = next.snapshot(&scope()).await.unwrap();
            let happened = seen.position == before.next();
            assert_eq!(contents(&seen), if happened { new.clone() } else { old.clone() }, "{moment:?} {at}");
            assert!(happened || (!finished && seen.position == before), "{moment:?} {at}");
            let after = next.apply(&scope(), &second(), Some(seen.position)).await.unwrap();
            let seen = next.snapshot(&scope()).await.unwrap();
            assert_eq!((seen.position, contents(&seen)), (after, new.clone()), "{moment:?} {at}");
            // The copies for Workers are what the files are, whatever was cut off.
            let namespace = emulator.state().kv["overskill-production"].0.clone();
            let copy =
                |at: &str| emulator.kv_value(&namespace, &format!("app_todo42_{at}")).map(|value| value.to_vec());
            assert_eq!(["a", "b", "c"].map(copy), new.clone(), "{moment:?} {at}");
            if finished {
                assert!(at > 5, "only {at} calls were tried");
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_installation_that_dies_anywhere_is_gone_on_with() {
    for moment in [Moment::Before, Moment::After] {
        for at in 1.. {
            let emulator = emulated(|options| options);
            let (way, died) = mortal(&emulator, at, moment);
            let cf = connect(&emulator).transport(way).build().unwrap();
            let install = crate::install::install();
            let finished = tokio::select! {
                done = cf.install(&install) => { done.unwrap(); true }
                () = died.notified() => false
            };
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
