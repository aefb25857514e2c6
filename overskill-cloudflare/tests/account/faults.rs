//! Faults by name.

use crate::common::{account, calls, connect, emulated, request, scope, scripts};
use overskill_core::{
    Changes, Clock as _, DeploymentTarget as _, Effect, ErrorKind, Fence, FileStore as _, ObservedState, SystemClock,
    TargetStatus, TestClock, memory::MemoryRoutes,
};
use overskill_testkit::{
    cloudflare::{Calls, Fault, FaultPlan, Moment},
    fixtures::{app_files, path},
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

const FENCE: Fence = Fence::from_u64(1);

#[tokio::test]
async fn an_upload_that_landed_and_whose_answer_was_lost_is_adopted() {
    let lost = FaultPlan::none().nth(1, Calls::of("PUT", "/scripts/"), Fault::CutOff(Moment::After));
    let emulator = emulated(|options| options.faults(lost));
    let target = connect(&emulator).max_tries(NonZeroU32::MIN).build().unwrap().target();
    let request = request(1);
    let staged = target.stage(&request).await.unwrap();
    let e = target.activate(&request, &staged, FENCE).await.unwrap_err();
    assert_eq!(e.effect(), Effect::Unknown, "{e:?}");
    let status = target.status(&scope(), request.id(), FENCE).await.unwrap();
    let TargetStatus::Landed(handle) = status else { panic!("{status:?}") };
    assert_eq!(handle.reference, "todo42-1");
    // Whoever asks again gets the same, without another upload.
    assert_eq!(target.activate(&request, &staged, FENCE).await.unwrap(), handle);
    assert_eq!(scripts(&emulator, "production"), ["todo42-1"]);
    assert_eq!(calls(&emulator, "PUT", "/scripts/"), 1);
}

#[tokio::test]
async fn a_staged_upload_whose_answer_was_lost_is_found_and_activating_it_calls_nothing() {
    let lost = FaultPlan::none().nth(1, Calls::of("PUT", "/scripts/"), Fault::CutOff(Moment::After));
    let emulator = emulated(|options| options.faults(lost));
    let cf = connect(&emulator).max_tries(NonZeroU32::MIN).build().unwrap();
    let (target, request) = (cf.target().routed_by(MemoryRoutes::new()), request(1));
    target.stage(&request).await.unwrap_err();
    let staged = target.stage(&request).await.unwrap();
    assert_eq!(calls(&emulator, "PUT", "/scripts/"), 1);
    emulator.clear_requests();
    let handle = target.activate(&request, &staged, FENCE).await.unwrap();
    assert_eq!((handle.reference.as_str(), emulator.requests().len()), ("todo42-1", 0));
}

#[tokio::test]
async fn an_upload_that_is_sent_again_is_one_version() {
    let lost = FaultPlan::none().some(1, 2, Calls::of("PUT", "/scripts/"), Fault::CutOff(Moment::After));
    let emulator = emulated(|options| options.faults(lost));
    let target = account(&emulator).target();
    let request = request(1);
    let staged = target.stage(&request).await.unwrap();
    target.activate(&request, &staged, FENCE).await.unwrap();
    assert_eq!(scripts(&emulator, "production"), ["todo42-1"]);
    assert_eq!(calls(&emulator, "PUT", "/scripts/"), 3);
}

#[tokio::test]
async fn keys_that_were_not_written_are_written_again() {
    let half = FaultPlan::none().some(1, 3, Calls::of("PUT", "/bulk"), Fault::RefuseKeys);
    let emulator = emulated(|options| options.faults(half));
    let files = account(&emulator).files();
    let app = app_files(87, 1);
    let changes: Changes = app.iter().fold(Changes::new(), |changes, (at, file)| changes.put(at.clone(), file.clone()));
    let position = files.apply(&scope(), &changes, None).await.unwrap();
    let snapshot = files.snapshot(&scope()).await.unwrap();
    assert_eq!((snapshot.position, &snapshot.files), (position, &app));
    // Every second key was refused three times, so what was left was written a fourth time; then the files themselves.
    assert_eq!(calls(&emulator, "PUT", "/bulk"), 5);
    let (namespace, keys) = emulator.state().kv["overskill-production"].clone();
    assert_eq!(keys, 2 * 87 + 1, "contents, files, and the head");
    for (at, file) in &app {
        let value = emulator.kv_value(&namespace, &format!("app_todo42_{at}"));
        assert_eq!(value.as_ref(), Some(file.contents()), "{at}");
    }
}

#[tokio::test]
async fn keys_that_are_never_written_leave_everything_as_it_was() {
    let emulator = emulated(|options| options);
    let files = account(&emulator).files();
    let before = files.apply(&scope(), &Changes::new().put(path("a"), "1").put(path("b"), "1"), None).await.unwrap();
    emulator.set_faults(FaultPlan::none().some(1, usize::MAX, Calls::of("PUT", "/bulk"), Fault::RefuseKeys));
    let changes = Changes::new().put(path("a"), "2").put(path("b"), "3").put(path("c"), "4");
    // A single key is never every second one, so of three something is always left.
    let outcome = files.apply(&scope(), &changes, None).await;
    emulator.set_faults(FaultPlan::none());
    let snapshot = account(&emulator).files().snapshot(&scope()).await.unwrap();
    match outcome {
        Ok(position) => assert_eq!(snapshot.position, position),
        Err(e) => {
            assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e:?}");
            assert_eq!(snapshot.position, before);
        }
    }
}

#[tokio::test]
async fn a_session_of_assets_that_ended_is_begun_again() {
    let emulator = emulated(|options| options);
    let target = account(&emulator).target();
    let request = request(1);
    let staged = target.stage(&request).await.unwrap();
    emulator.expire_asset_sessions();
    target.activate(&request, &staged, FENCE).await.unwrap();
    let state = emulator.state();
    assert_eq!(state.namespaces["overskill-production"]["todo42-1"].assets.len(), 3);
    // The very first found no namespace; the second and the third are the two sessions.
    assert_eq!(calls(&emulator, "POST", "assets-upload-session"), 3);
    assert_eq!(calls(&emulator, "POST", "assets/upload?"), 1, "the assets themselves were there");
}

#[tokio::test]
async fn assets_that_are_uploaded_one_by_one_arrive_too() {
    let emulator = emulated(|options| options.single_asset_uploads(true));
    let target = account(&emulator).target();
    let request = request(1);
    let staged = target.stage(&request).await.unwrap();
    target.activate(&request, &staged, FENCE).await.unwrap();
    assert_eq!(emulator.state().namespaces["overskill-production"]["todo42-1"].assets.len(), 3);
    assert_eq!(calls(&emulator, "POST", "assets/upload/"), 3);
}

#[tokio::test]
async fn a_namespace_that_was_deleted_underneath_is_made_again() {
    let emulator = emulated(|options| options);
    let (target, other) = (account(&emulator).target(), account(&emulator));
    let request = request(1);
    let staged = target.stage(&request).await.unwrap();
    delete_namespace(&emulator, "overskill-production").await;
    target.activate(&request, &staged, FENCE).await.unwrap();
    assert_eq!(scripts(&emulator, "production"), ["todo42-1"]);
    // Gone once more, nothing is live, and that is said and no error.
    delete_namespace(&emulator, "overskill-production").await;
    let observed = other.target().observe(&scope()).await.unwrap();
    assert_eq!(observed, []);
    let status = other.target().status(&scope(), request.id(), FENCE).await.unwrap();
    assert_eq!(status, TargetStatus::Absent);
}

#[tokio::test]
async fn a_kv_namespace_that_was_deleted_underneath_begins_another_stream() {
    let emulator = emulated(|options| options);
    let files = account(&emulator).files();
    let first = files.apply(&scope(), &Changes::new().put(path("a"), "1"), None).await.unwrap();
    let namespace = emulator.state().kv["overskill-production"].0.clone();
    let below = format!("storage/kv/namespaces/{namespace}");
    call(&emulator, "DELETE", &below).await;
    let fresh = account(&emulator).files();
    let snapshot = fresh.snapshot(&scope()).await.unwrap();
    assert!(snapshot.files.is_empty());
    assert_ne!(snapshot.position.incarnation, first.incarnation);
    assert!(fresh.apply(&scope(), &Changes::new().put(path("a"), "2"), Some(first)).await.is_err());
}

#[tokio::test]
async fn files_that_were_not_shown_outside_are_shown_with_the_next_change() {
    let emulator = emulated(|options| options);
    let files = account(&emulator).files();
    // The third bulk write is the one that shows the files; it is refused for good.
    let refused = Fault::ServerError { status: 500, moment: Moment::Before };
    emulator.set_faults(FaultPlan::none().some(2, 8, Calls::of("PUT", "/bulk"), refused));
    files.apply(&scope(), &Changes::new().put(path("a"), "1").put(path("b"), "1"), None).await.unwrap();
    emulator.set_faults(FaultPlan::none());
    let namespace = emulator.state().kv["overskill-production"].0.clone();
    assert_eq!(emulator.kv_value(&namespace, "app_todo42_a"), None);
    // Another process knows nothing of it but what the head says.
    let other = account(&emulator).files();
    assert_eq!(other.get(&scope(), &path("a")).await.unwrap(), Some("1".into()));
    other.apply(&scope(), &Changes::new().delete(path("b")), None).await.unwrap();
    assert_eq!(emulator.kv_value(&namespace, "app_todo42_a").as_deref(), Some(b"1".as_slice()));
    assert_eq!(emulator.kv_value(&namespace, "app_todo42_b"), None);
}

#[tokio::test]
async fn a_sweep_removes_what_was_brought_for_nothing() {
    let emulator = emulated(|options| options);
    let files = account(&emulator).files();
    files.apply(&scope(), &Changes::new().put(path("a"), "1"), None).await.unwrap();
    // The head is never written: its contents stay behind.
    let refused = Fault::ServerError { status: 500, moment: Moment::Before };
    emulator.set_faults(FaultPlan::none().some(1, usize::MAX, Calls::of("PUT", "/values/"), refused));
    files.apply(&scope(), &Changes::new().put(path("b"), "2"), None).await.unwrap_err();
    emulator.set_faults(FaultPlan::none());
    let keys = || emulator.state().kv["overskill-production"].1;
    assert_eq!(keys(), 4);
    assert_eq!(account(&emulator).files().sweep(&scope()).await.unwrap(), 0, "it may be about to be named");
    let later = TestClock::at(SystemClock.now().plus(Duration::from_hours(2)));
    let later = connect(&emulator).clock(later).build().unwrap();
    assert_eq!(later.files().sweep(&scope()).await.unwrap(), 1);
    assert_eq!(keys(), 3);
    assert_eq!(files.get(&scope(), &path("a")).await.unwrap(), Some("1".into()));
}

/// Contents are listed already, and the head that names them, which was written a second after, is not read yet.
#[tokio::test]
async fn a_sweep_that_reads_an_old_head_keeps_what_the_new_one_names() {
    let clock = TestClock::new();
    let emulator = emulated(|options| options.clock(Arc::new(clock.clone())));
    let process = || {
        let cf = connect(&emulator).clock(clock.clone()).kv_write_interval(Duration::from_secs(1));
        cf.kv_staleness(Duration::from_mins(2)).build().unwrap().files()
    };
    let (one, other) = (process(), process());
    emulator.set_faults(FaultPlan::none().kv_staleness(Duration::from_mins(1)));
    let began = clock.now();
    let both = async {
        one.apply(&scope(), &Changes::new().put(path("a"), "1"), None).await.unwrap();
        one.apply(&scope(), &Changes::new().put(path("b"), "2"), None).await.unwrap();
    };
    clock.drive(both).await;
    let between = began.plus(Duration::from_millis(60_500));
    clock.advance(between.since(clock.now()));
    assert_eq!(other.get(&scope(), &path("b")).await.unwrap(), None, "the head is old");
    assert_eq!(other.sweep(&scope()).await.unwrap(), 0);
    clock.advance(Duration::from_mins(5));
    assert_eq!(other.get(&scope(), &path("b")).await.unwrap(), Some("2".into()));
}

#[tokio::test]
async fn going_back_is_one_call_and_no_upload() {
    let emulator = emulated(|options| options);
    let target = account(&emulator).target();
    let (first, second) = (request(1), request(2));
    let staged = target.stage(&first).await.unwrap();
    target.activate(&first, &staged, FENCE).await.unwrap();
    let next = target.stage(&second).await.unwrap();
    target.activate(&second, &next, Fence::from_u64(2)).await.unwrap();
    target.observe(&scope()).await.unwrap();
    emulator.clear_requests();
    let back = target.stage(&first.under(Fence::from_u64(3))).await.unwrap();
    let handle = target.activate(&request(1), &back, Fence::from_u64(3)).await.unwrap();
    assert_eq!(handle.reference, "todo42-1", "the script that is there");
    let made: Vec<_> = emulator.requests().into_iter().map(|call| call.method).collect();
    assert_eq!(made, ["PUT"], "tags alone");
    let observed = target.observe(&scope()).await.unwrap();
    let active: Vec<_> =
        observed.iter().filter(|o| o.state == ObservedState::Active).map(|o| (o.id, o.fence)).collect();
    assert_eq!(active, [(Some(request(1).id()), Some(Fence::from_u64(3)))]);
}

#[tokio::test]
async fn wrong_tokens_and_accounts_are_named() {
    use overskill_cloudflare::Cloudflare;
    let emulator = emulated(|options| options);
    let way = || crate::common::transport(&emulator);
    let token = Cloudflare::connect(emulator.account(), "hunter2").transport(way()).build().unwrap();
    let account = Cloudflare::connect("ffffffffffffffff", emulator.token()).transport(way()).build().unwrap();
    for cf in [token, account] {
        for readiness in [cf.target().check().await.unwrap(), cf.files().check().await.unwrap()] {
            assert!(!readiness.is_ready());
            let said = format!("{:?}", readiness.problems());
            assert!(said.contains("token") && !said.contains("hunter2"), "{said}");
        }
        let e = cf.target().stage(&request(1)).await.unwrap_err();
        let stops = matches!(e.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied | ErrorKind::Invalid);
        assert!(stops && e.effect() == Effect::None && !format!("{e:?}").contains("hunter2"), "{e:?}");
    }
}

async fn delete_namespace(emulator: &overskill_testkit::cloudflare::CloudflareEmulator, name: &str) {
    call(emulator, "DELETE", &format!("workers/dispatch/namespaces/{name}")).await;
}

/// Somebody else's call.
async fn call(emulator: &overskill_testkit::cloudflare::CloudflareEmulator, method: &str, below: &str) {
    crate::common::api(emulator, method, below, ("application/json".to_owned(), bytes::Bytes::new())).await;
}
