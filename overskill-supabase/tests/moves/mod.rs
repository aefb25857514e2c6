//! Apps move while they are in use.

mod beside;
mod crashes;
mod stage;
mod strangers;
mod walls;
mod writers;

use crate::support::{
    Way, key,
    places::{ACME, acme},
    scope,
};
use overskill_core::{
    ApiMethod, CatchUp, Clock as _, ErrorKind, ProgressKind, StreamName, SystemClock, SystemScopes, TestClock,
    memory::MemoryProgress,
};
use overskill_supabase::{
    ContextKeys, Explorer, ExplorerLimits, MoveStep, Placement, PoolOptions, Project, ProjectList, ProjectName, Query,
};
use stage::Stage;
use std::{sync::Arc, time::Duration};

/// Each of the six ways once.
fn round() -> [Placement; 6] {
    let project = || Placement::OwnProject(acme());
    [Placement::Schema, project(), Placement::Shared, project(), Placement::Schema, Placement::Shared]
}

#[tokio::test]
async fn an_app_moves_each_way_and_stays_the_same() {
    for way in Way::ALL {
        let stage = Stage::new(way).await;
        stage.fill("one", 1_010).await; // more than a page
        stage.fill("beside", 3).await;
        let (before, beside) = (stage.dump("one").await, stage.dump("beside").await);
        assert_eq!(before.len(), 1_010 + 12);
        for to in round() {
            let moved = stage.mover.relocate(&stage.world.system, &scope("one"), &to).await.unwrap();
            assert_eq!((moved.step, &moved.to), (MoveStep::Kept, &to));
            assert_eq!(moved.rows_copied, before.len() as u64);
            assert_eq!(stage.mover.placement(&stage.world.system, &scope("one")).await.unwrap(), to);
            assert_eq!(stage.dump("one").await, before, "{way:?} {to}");
            assert_eq!(stage.dump("beside").await, beside, "{way:?} {to}");
            // It is served there, to its users and its developers.
            let id = format!("new-{}", moved.id);
            assert_eq!(stage.create("one", &id, 1).await.status, 201);
            assert_eq!(stage.call("one", ApiMethod::Patch, &id, "{\"n\": 2}").await.status, 200);
            let read = stage.call("one", ApiMethod::Get, &id, "").await;
            assert!(read.status == 200 && String::from_utf8_lossy(&read.body).contains("\"n\":2"), "{read:?}");
            stage.define("one", &[("n1", "n")]).await;
            let filtered = stage.list("one", &[("n", "2")]).await;
            assert_eq!(filtered.len(), 2, "through a column of its own: {filtered:?}");
            stage.define("one", &[]).await;
            assert_eq!(stage.explored("one", &id).await, 1, "{way:?} {to}");
            stage.erase("one", &id).await;
            assert_eq!(stage.dump("one").await, before);
            stage.walls_stand().await;
            // The old copy is there until it is dropped.
            assert_eq!(stage.leftovers("one").await, before.len(), "{way:?} {to}");
            assert_eq!(stage.mover.drop_old(&stage.world.system, &scope("one")).await.unwrap(), 1);
            assert_eq!(stage.leftovers("one").await, 0);
            assert_eq!(stage.dump("one").await, before);
        }
        assert_eq!(stage.schemas().await, 0, "schemas go with their copies");
        let last = stage.mover.current(&stage.world.system, &scope("one")).await.unwrap().unwrap();
        assert_eq!((last.step, last.from), (MoveStep::Dropped, Placement::Schema));
        assert_eq!(stage.mover.unfinished(&stage.world.system).await.unwrap(), []);
    }
}

#[tokio::test]
async fn an_app_that_nobody_ever_used_or_that_is_suspended_can_be_moved() {
    let stage = Stage::new(Way::Pooled).await;
    let (system, mover) = (&stage.world.system, &stage.mover);
    mover.relocate(system, &scope("fresh"), &Placement::Schema).await.unwrap();
    assert_eq!(stage.create("fresh", "first", 1).await.status, 201);
    assert_eq!(stage.numbers("fresh").await.len(), 1);
    stage.fill("asleep", 4).await;
    let before = stage.dump("asleep").await;
    stage.world.schema.suspend(system, &scope("asleep"), true).await.unwrap();
    for to in [Placement::Schema, Placement::OwnProject(acme())] {
        let done = mover.relocate(system, &scope("asleep"), &to).await.unwrap();
        assert_eq!(done.rows_copied, before.len() as u64, "nothing of it is missed");
        assert_eq!(stage.dump("asleep").await, before);
        assert_eq!(stage.call("asleep", ApiMethod::Get, "", "").await.status, 403, "{to}");
    }
    stage.world.schema.suspend(system, &scope("asleep"), false).await.unwrap();
    assert_eq!(stage.numbers("asleep").await.len(), 4);
}

#[tokio::test]
async fn what_cannot_be_moved_is_refused_and_says_what_to_do() {
    let stage = Stage::new(Way::Direct).await;
    stage.fill("one", 2).await;
    let (world, one, mover) = (&stage.world, scope("one"), &stage.mover);
    let refused = async |to: &Placement, kind: ErrorKind, word: &str| {
        let e = mover.relocate(&world.system, &one, to).await.unwrap_err();
        assert!(e.kind() == kind && e.to_string().contains(word), "{to}: {e}");
        drop(mover.abort(&world.system, &one).await);
        assert_eq!(mover.placement(&world.system, &one).await.unwrap(), Placement::Shared);
        assert_eq!(stage.create("one", &format!("id{}", SystemClock.monotonic().as_nanos()), 1).await.status, 201);
    };
    refused(&Placement::Shared, ErrorKind::Invalid, "in the shared tables already").await;
    let named = |name: &str| Placement::OwnProject(ProjectName::parse(name).unwrap());
    refused(&named("nobody"), ErrorKind::NotFound, "not known").await;

    // Without the schema, with another key, with a hole in its walls, with rows of the app, and the platform itself.
    world.cluster.execute("postgres", "CREATE DATABASE bare OWNER host").unwrap();
    let keys = || ContextKeys::new(key("acme", 21));
    let others = ProjectList::new()
        .with(acme(), world.project_as(Way::Direct, ACME, keys()))
        .with(ProjectName::parse("bare").unwrap(), world.project_as(Way::Direct, "bare", keys()))
        .with(ProjectName::parse("wrong").unwrap(), world.project_as(Way::Direct, ACME, ContextKeys::new(key("k9", 3))))
        .with(
            ProjectName::parse("self").unwrap(),
            world.project_as(Way::Direct, crate::support::DATABASE, world.keys.clone()),
        );
    let mover = &world.mover(Way::Direct).projects(others);
    let refused = async |to: &Placement, kind: ErrorKind, word: &str| {
        let e = mover.relocate(&world.system, &one, to).await.unwrap_err();
        assert!(e.kind() == kind && e.to_string().contains(word), "{to}: {e}");
        assert_eq!(mover.current(&world.system, &one).await.unwrap().unwrap().step, MoveStep::Planned);
        assert_eq!(stage.create("one", &format!("id{}", SystemClock.monotonic().as_nanos()), 1).await.status, 201);
    };
    refused(&named("bare"), ErrorKind::Unsupported, "`Schema::install` it there").await;
    let again = mover.relocate(&world.system, &one, &Placement::Schema).await.unwrap_err();
    assert!(again.kind() == ErrorKind::Conflict && again.to_string().contains("resume it, or abort it"), "{again}");
    assert_eq!(mover.unfinished(&world.system).await.unwrap().len(), 1);
    mover.abort(&world.system, &one).await.unwrap();
    refused(&named("wrong"), ErrorKind::Unavailable, "keys").await;
    mover.abort(&world.system, &one).await.unwrap();
    refused(&named("self"), ErrorKind::Invalid, "the platform's own database").await;
    mover.abort(&world.system, &one).await.unwrap();
    world.cluster.execute(ACME, "ALTER TABLE overskill_data.entities NO FORCE ROW LEVEL SECURITY").unwrap();
    refused(&named(ACME), ErrorKind::Unsupported, "no forced row level security").await;
    world.cluster.execute(ACME, "ALTER TABLE overskill_data.entities FORCE ROW LEVEL SECURITY").unwrap();
    mover.abort(&world.system, &one).await.unwrap();
    let foreign = "ALTER TABLE overskill_data.entity_types DISABLE TRIGGER USER; \
        INSERT INTO overskill_guard.apps (app, environment) VALUES ('one', 'production') ON CONFLICT DO NOTHING; \
        INSERT INTO overskill_data.entity_types (app_id, entity_type) SELECT app_id, 'Old' FROM overskill_guard.apps; \
        ALTER TABLE overskill_data.entity_types ENABLE TRIGGER USER";
    world.cluster.execute(ACME, foreign).unwrap();
    refused(&named(ACME), ErrorKind::Conflict, "already, which no move left there").await;
    mover.abort(&world.system, &one).await.unwrap();
    assert_eq!(mover.abort(&world.system, &one).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(mover.resume(&world.system, &one).await.unwrap_err().kind(), ErrorKind::NotFound);

    // An old copy is not written over.
    mover.relocate(&world.system, &one, &Placement::Schema).await.unwrap();
    let e = mover.relocate(&world.system, &one, &Placement::Shared).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Conflict && e.to_string().contains("`drop_old`"), "{e}");

    // Grants, of the right gate and for the right apps.
    let some = world.gate.system("test", "one app", SystemScopes::app(scope("other").app)).await.unwrap();
    for e in [
        mover.relocate(&some, &one, &Placement::Schema).await.unwrap_err(),
        mover.resume(&some, &one).await.unwrap_err(),
        mover.abort(&some, &one).await.unwrap_err(),
        mover.placement(&some, &one).await.unwrap_err(),
        mover.current(&some, &one).await.unwrap_err(),
        mover.drop_old(&some, &one).await.unwrap_err(),
        mover.sweep(&some).await.unwrap_err(),
        mover.unfinished(&some).await.unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::Denied, "{e}");
    }
}

#[tokio::test]
async fn old_copies_are_swept_when_their_time_is_over() {
    let stage = Stage::new(Way::Direct).await;
    stage.fill("one", 3).await;
    let (system, one) = (&stage.world.system, scope("one"));
    stage.mover.relocate(system, &one, &Placement::Schema).await.unwrap();
    let later = |days: u64| {
        let clock = TestClock::at(SystemClock.now().plus(Duration::from_hours(24 * days)));
        stage.world.mover(Way::Direct).clock(clock)
    };
    assert_eq!(later(6).sweep(system).await.unwrap(), 0);
    assert_ne!(stage.leftovers("one").await, 0);
    assert_eq!(later(8).sweep(system).await.unwrap(), 1);
    assert_eq!((stage.leftovers("one").await, later(8).sweep(system).await.unwrap()), (0, 0));
    assert_eq!(stage.numbers("one").await.len(), 3);
    let named = stage.world.mover(Way::Direct).keep_old(Duration::ZERO);
    stage.mover.relocate(system, &one, &Placement::Shared).await.unwrap();
    assert_eq!(
        named.clock(TestClock::at(SystemClock.now().plus(Duration::from_secs(1)))).sweep(system).await.unwrap(),
        1
    );
    assert_eq!(stage.schemas().await, 0);
}

/// It comes back believing that the app is still there.
#[tokio::test]
async fn what_was_left_in_a_project_that_was_gone_for_long_can_be_dropped() {
    let stage = Stage::new(Way::Direct).await;
    stage.fill("one", 3).await;
    let (world, system, one) = (&stage.world, &stage.world.system, scope("one"));
    let (before, project) = (stage.dump("one").await, Placement::OwnProject(acme()));
    stage.mover.relocate(system, &one, &project).await.unwrap();
    stage.mover.drop_old(system, &one).await.unwrap();
    crashes::crashed_at(&stage, "one", &Placement::Shared, "cut_over").await;
    let nobody = || crate::support::server("postgres://host@127.0.0.1:1/acme");
    let gone = Project::new(nobody(), nobody(), nobody(), ContextKeys::new(key("acme", 21)));
    let gone = world.mover(Way::Direct).projects(ProjectList::new().with(acme(), gone));
    assert_eq!(gone.resume(system, &one).await.unwrap_err().kind(), ErrorKind::Unavailable, "it is waited for");
    let later = TestClock::at(SystemClock.now().plus(Duration::from_mins(11)));
    assert_eq!(gone.clock(later).resume(system, &one).await.unwrap().step, MoveStep::Kept);
    assert_eq!(stage.numbers("one").await.len(), 3);
    // Now it is back.
    assert_eq!(stage.mover.drop_old(system, &one).await.unwrap(), 1);
    assert_eq!(stage.leftovers("one").await, 0);
    stage.mover.relocate(system, &one, &project).await.unwrap();
    assert_eq!(stage.dump("one").await, before);
    assert_eq!(stage.create("one", "again", 1).await.status, 201);
}

#[tokio::test]
async fn a_move_tells_how_far_it_is() {
    let stage = Stage::new(Way::Direct).await;
    stage.fill("one", 3).await;
    let (ring, one) = (MemoryProgress::new(), scope("one"));
    let mover = stage.mover.clone().progress(Arc::new(ring.clone()));
    mover.relocate(&stage.world.system, &one, &Placement::OwnProject(acme())).await.unwrap();
    let stream = StreamName::parse("moves/one/production").unwrap();
    let CatchUp::Entries(events) = ring.since(&stream, None) else { panic!("all are there") };
    let told: Vec<_> = events.iter().filter_map(|it| it.event.stage.as_deref()).collect();
    let want = ["prepared", "pausing", "paused", "copying", "copying", "copied", "verified", "cut_over", "kept"];
    assert_eq!(told, want);
    assert_eq!(events.first().unwrap().event.kind, ProgressKind::Started);
    assert_eq!(events.last().unwrap().event.kind, ProgressKind::Completed);
    let e = mover.relocate(&stage.world.system, &one, &Placement::Shared).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict, "the copy there is still kept");
    mover.drop_old(&stage.world.system, &one).await.unwrap();
    stage.world.cluster.execute(ACME, "ALTER TABLE overskill_data.entities ADD more int").unwrap();
    let e = mover.relocate(&stage.world.system, &one, &Placement::Shared).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("has other columns"), "{e}");
    let CatchUp::Entries(events) = ring.since(&stream, None) else { panic!("all are there") };
    assert_eq!(events.last().unwrap().event.kind, ProgressKind::Failed);
    assert_eq!(stage.create("one", "still", 1).await.status, 201, "it stopped before anything was paused");
}

/// A pool that knows no projects says so; and one whose memory is old asks again.
#[tokio::test]
async fn what_is_remembered_of_a_place_is_never_trusted() {
    let stage = Stage::new(Way::Pooled).await;
    stage.fill("one", 2).await;
    let (world, one, mover) = (&stage.world, scope("one"), &stage.mover);
    let project = Placement::OwnProject(acme());
    let relocate = async |to: &Placement| {
        mover.relocate(&world.system, &one, to).await.unwrap();
        mover.drop_old(&world.system, &one).await.unwrap();
    };
    relocate(&project).await;
    let ignorant = world.pool(Way::Pooled);
    let e = ignorant.begin(&world.grant("ada", "one").await, &one).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("PoolOptions::projects"), "{e}");
    // Remembered for an hour, and still right after each move.
    let options = PoolOptions::new().projects(stage.projects.clone()).route_age(Duration::from_hours(1));
    let pool = world.pool_with(Way::Pooled, "overskill_app", options);
    let count = async || {
        let tx = pool.begin(&world.grant("ada", "one").await, &one).await?;
        let row = tx.query_opt(&format!("SELECT count(*) FROM {}", tx.table("entities")), &[]).await?;
        tx.rollback().await?;
        Ok::<i64, overskill_core::Error>(row.unwrap().get(0))
    };
    let mut expected = count().await.unwrap();
    for to in [Placement::Shared, project.clone(), Placement::Schema, project.clone()] {
        relocate(&to).await;
        expected += 1;
        assert_eq!(stage.create("one", &format!("n{expected}"), 1).await.status, 201);
        assert_eq!(count().await.unwrap(), expected, "{to}");
    }
    // The project's database is restored from before the last moves: it believes that the app is there, and is not asked.
    let restored = "UPDATE overskill_guard.apps SET generation = 3, home = 'overskill_data', writes_paused = false";
    world.cluster.execute(ACME, restored).unwrap();
    let e = count().await.unwrap_err();
    assert!(e.kind() == ErrorKind::Unavailable && e.to_string().contains("restored from a backup"), "{e}");
}

/// Developers' queries follow their app.
#[tokio::test]
async fn an_explorer_without_projects_says_so() {
    let stage = Stage::new(Way::Direct).await;
    stage.fill("one", 2).await;
    let world = &stage.world;
    stage.mover.relocate(&world.system, &scope("one"), &Placement::OwnProject(acme())).await.unwrap();
    let server = world.server_in(Way::Direct, "overskill_explorer", crate::support::DATABASE);
    let audit = Arc::new(overskill_core::memory::MemoryAudit::new());
    let explorer = Explorer::new(server, world.gate.clone(), world.keys.clone(), audit, ExplorerLimits::new()).unwrap();
    let developer = world.grant_of("dev", "one", overskill_core::Rights::ALL).await;
    let query = Query::new("SELECT count(*) FROM Todo");
    let e = explorer.table(&developer, &scope("one"), &query).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains("acme"), "{e}");
    let seen = explorer.projects(stage.projects.clone()).table(&developer, &scope("one"), &query).await.unwrap();
    assert_eq!(seen.rows, [[serde_json::json!(2)]]);
}
