//! A move that ends in the middle goes on, or goes back, from wherever it was.

use super::stage::Stage;
use crate::support::{
    DATABASE, Way,
    places::{ACME, acme},
    scope,
};
use overskill_core::{ApiMethod, ErrorKind, ProgressEvent, ProgressSink};
use overskill_supabase::{MoveStep, Placement};
use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

/// Does something when a move is told to be at a stage, once.
pub struct At {
    stage: &'static str,
    hit: AtomicBool,
    then: Box<dyn Fn() + Send + Sync>,
}

impl At {
    pub fn stage(stage: &'static str, then: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { stage, hit: AtomicBool::new(false), then: Box::new(then) })
    }

    pub fn was_hit(&self) -> bool {
        self.hit.load(Ordering::SeqCst)
    }
}

impl ProgressSink for At {
    fn emit(&self, event: ProgressEvent) {
        if event.stage.as_deref() == Some(self.stage) && !self.hit.swap(true, Ordering::SeqCst) {
            (self.then)();
        }
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("At").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// Drops the future at the first wait for which `crash` says so: what a crash of the process does. `None` if it came to that.
async fn dropped<T>(future: impl Future<Output = T>, mut crash: impl FnMut() -> bool) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if crash() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Runs a move until it is told to be at a stage, and crashes there.
pub async fn crashed_at(stage: &Stage, app: &str, to: &Placement, at: &'static str) {
    let here = At::stage(at, || {});
    let mover = stage.mover.clone().progress(here.clone());
    let scope = scope(app);
    let done = dropped(mover.relocate(&stage.world.system, &scope, to), || here.was_hit()).await;
    assert!(done.is_none(), "it came to its end: {done:?}");
}

const STEPS: [(&str, MoveStep); 7] = [
    ("prepared", MoveStep::Prepared),
    ("pausing", MoveStep::Pausing),
    ("paused", MoveStep::Paused),
    ("copying", MoveStep::Paused),
    ("copied", MoveStep::Copied),
    ("verified", MoveStep::Verified),
    ("cut_over", MoveStep::CutOver),
];

/// At each step of each way: reads go on, writes wait or go on and are never lost, and the move is resumed or undone.
#[tokio::test]
async fn a_crash_at_each_step_of_each_way_is_survived() {
    let stage = Stage::new(Way::Pooled).await;
    let (system, mover) = (&stage.world.system, &stage.mover);
    let ways = |project: Placement| {
        [
            (Placement::Shared, Placement::Schema),
            (Placement::Schema, project.clone()),
            (project.clone(), Placement::Shared),
            (Placement::Shared, project.clone()),
            (project, Placement::Schema),
            (Placement::Schema, Placement::Shared),
        ]
    };
    for (way, (from, to)) in ways(Placement::OwnProject(acme())).into_iter().enumerate() {
        for (n, (at, step)) in STEPS.into_iter().enumerate() {
            let app = format!("a{way}{}", at.replace('_', ""));
            let app = app.as_str();
            stage.fill(app, 4).await;
            if from != Placement::Shared {
                mover.relocate(system, &scope(app), &from).await.unwrap();
                mover.drop_old(system, &scope(app)).await.unwrap();
            }
            let mut before = stage.dump(app).await;
            let ends: &[&str] = match (way + n) % 3 {
                0 => &["resume"],
                1 => &["abort"],
                _ => &["abort", "resume"],
            };
            for &end in ends {
                crashed_at(&stage, app, &to, at).await;
                let what = format!("{from} to {to}, {at}, {end}");
                let within = !matches!((&from, &to), (Placement::OwnProject(_), _) | (_, Placement::OwnProject(_)));
                if at == "cut_over" && within {
                    // Its last statement may have been on its way: it is over, or it can be resumed.
                    match mover.resume(system, &scope(app)).await {
                        Ok(_) => {}
                        Err(e) => assert!(matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{what}: {e}"),
                    }
                    assert_eq!(
                        mover.current(system, &scope(app)).await.unwrap().unwrap().step,
                        MoveStep::Kept,
                        "{what}"
                    );
                    assert_eq!(stage.dump(app).await, before, "{what}");
                    assert_eq!(stage.create(app, "after", 9).await.status, 201, "{what}");
                    break;
                }
                let now = mover.current(system, &scope(app)).await.unwrap().unwrap();
                assert!(now.step >= step && now.step <= MoveStep::CutOver, "{what}: {}", now.step);
                assert_eq!(stage.numbers(app).await.len(), 4, "{what}: reads go on");
                let answer = stage.call(app, ApiMethod::Patch, "t1", r#"{"n": 1}"#).await;
                match answer.status {
                    200 => before = stage.dump(app).await, // only when it was changed
                    503 => assert_eq!(answer.headers["retry-after"], "2", "{what}"),
                    other => panic!("{what}: {other} {answer:?}"),
                }
                let paused = answer.status == 503;
                let expected = (MoveStep::Pausing..MoveStep::CutOver).contains(&now.step)
                    || now.step == MoveStep::CutOver && matches!(to, Placement::OwnProject(_));
                // Another project is told of the pause after it was recorded.
                let told = now.step != MoveStep::Pausing || !matches!(from, Placement::OwnProject(_));
                assert!(!told || paused == expected, "{what}: {}, {answer:?}", now.step);
                if end == "abort" && now.step == MoveStep::CutOver {
                    let e = mover.abort(system, &scope(app)).await.unwrap_err();
                    assert!(e.kind() == ErrorKind::Conflict && e.to_string().contains("resume"), "{what}: {e}");
                    mover.resume(system, &scope(app)).await.unwrap();
                    assert_eq!(stage.dump(app).await, before, "{what}");
                    break; // it is at its end
                }
                let done = match end {
                    "abort" => mover.abort(system, &scope(app)).await.unwrap(),
                    _ => mover.resume(system, &scope(app)).await.unwrap(),
                };
                let (ended, place) = if end == "abort" { (MoveStep::Aborted, &from) } else { (MoveStep::Kept, &to) };
                assert_eq!((done.step, &mover.placement(system, &scope(app)).await.unwrap()), (ended, place), "{what}");
                assert_eq!(stage.dump(app).await, before, "{what}");
                assert_eq!(stage.create(app, &format!("after-{end}"), 9).await.status, 201, "{what}");
                stage.erase(app, &format!("after-{end}")).await;
                if end == "abort" {
                    assert_eq!(stage.leftovers(app).await, 0, "{what}: what was copied is removed");
                }
            }
        }
    }
    assert_eq!(mover.unfinished(system).await.unwrap(), []);
    stage.walls_stand().await;
}

/// Between any two waits of the whole move: it is dropped, and dropped again while it is resumed.
#[tokio::test]
async fn a_crash_at_any_wait_is_survived() {
    let stage = Stage::new(Way::Direct).await;
    let (system, mover) = (&stage.world.system, &stage.mover);
    let mut crashes: BTreeMap<MoveStep, u32> = BTreeMap::new();
    let round = [Placement::Schema, Placement::OwnProject(acme()), Placement::Shared];
    stage.fill("one", 3).await;
    let before = stage.dump("one").await;
    let one = scope("one");
    let (mut waits, mut whole) = (1_u32, 0);
    for to in round.iter().cycle() {
        let mut left = waits;
        let mut crash = || {
            left = left.saturating_sub(1);
            left == 0
        };
        let begun = dropped(mover.relocate(system, &one, to), &mut crash).await;
        let mut done = begun.is_some();
        whole = if done { whole + 1 } else { 0 };
        begun.transpose().unwrap();
        while !done {
            assert_eq!(stage.numbers("one").await.len(), 3, "reads go on");
            let left_at = mover.current(system, &one).await.unwrap().filter(|it| !it.step.is_over());
            let Some(left_at) = left_at else {
                if mover.placement(system, &one).await.unwrap() == *to {
                    break;
                }
                // It had not been recorded, or is being recorded now.
                match mover.relocate(system, &one, to).await {
                    Ok(_) => break,
                    Err(e) => assert_eq!(e.kind(), ErrorKind::Conflict, "{e}"),
                }
                continue;
            };
            *crashes.entry(left_at.step).or_default() += 1;
            // Later and later, so that it comes to its end.
            let mut left = waits * 2;
            let resumed = dropped(mover.resume(system, &one), || {
                left -= 1;
                left == 0
            });
            // What was sent before the crash may still have been done: then there is nothing to resume.
            match resumed.await {
                Some(Ok(_)) => done = true,
                Some(Err(e)) => assert!(matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{e}"),
                None => waits += 1,
            }
        }
        assert_eq!(mover.placement(system, &one).await.unwrap(), *to);
        assert_eq!(stage.dump("one").await, before, "after {waits} waits");
        assert_eq!(stage.create("one", "again", 1).await.status, 201);
        stage.erase("one", "again").await;
        mover.drop_old(system, &one).await.unwrap();
        if whole == 3 {
            break;
        }
        waits += 3 + waits / 12;
    }
    println!("crashes by step: {crashes:?}");
    assert!(crashes.len() >= 4, "the crashes were at few steps: {crashes:?}");
    stage.walls_stand().await;
}

/// The server itself is killed at each step, with everything that was under way.
#[tokio::test]
async fn a_server_that_dies_at_each_step_is_survived() {
    let stage = Arc::new(Stage::new(Way::Direct).await);
    let system = &stage.world.system;
    for (at, _) in STEPS {
        let app = format!("k{}", at.replace('_', ""));
        let one = scope(&app);
        stage.fill(&app, 3).await;
        let before = stage.dump(&app).await;
        let to = Placement::OwnProject(acme());
        let killer = stage.clone();
        let sink = At::stage(at, move || killer.world.cluster.kill().unwrap());
        let e = stage.mover.clone().progress(sink).relocate(system, &one, &to).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Unavailable, "{at}: {e}");
        stage.world.cluster.start_again().unwrap();
        assert_eq!(stage.numbers(&app).await.len(), 3, "{at}");
        stage.mover.resume(system, &one).await.unwrap();
        assert_eq!(stage.dump(&app).await, before, "{at}");
        assert_eq!(stage.create(&app, "after", 1).await.status, 201);
    }
    stage.walls_stand().await;
}

#[tokio::test]
async fn a_copy_that_differs_is_never_cut_over_to() {
    let stage = Stage::new(Way::Pooled).await;
    let (system, mover) = (&stage.world.system, &stage.mover);
    for (n, (wrong, told)) in [
        ("UPDATE @.entities SET data = '{\"n\": 77}' WHERE id = 't2'", "table `entities` has 14 rows"),
        ("DELETE FROM @.entities WHERE id = 't3'", "and 13 rows"),
        ("UPDATE @.entities SET owner = 'eve' WHERE id = 't1'", "table `entities` has 14 rows"),
        ("UPDATE @.entities SET placed = placed + interval '1 microsecond' WHERE id = 't1'", "entities"),
        ("UPDATE @.entity_types SET access = 0 WHERE entity_type = 'Todo'", "table `entity_types` has 2 rows"),
    ]
    .into_iter()
    .enumerate()
    {
        for to in [Placement::Schema, Placement::OwnProject(acme())] {
            let app = format!("d{n}{}", if to == Placement::Schema { "s" } else { "p" });
            stage.fill(&app, 4).await;
            let (before, one) = (stage.dump(&app).await, scope(&app));
            crashed_at(&stage, &app, &to, "copied").await;
            let now = mover.current(system, &one).await.unwrap().unwrap();
            assert_eq!(now.step, MoveStep::Copied);
            let (database, home) = match &to {
                Placement::Schema => {
                    let sql = "SELECT target FROM overskill_guard.moves WHERE move = $1";
                    (DATABASE, stage.root(DATABASE).await.query_one(sql, &[&now.id]).await.unwrap().get(0))
                }
                _ => (ACME, "overskill_data".to_owned()),
            };
            let number = "SELECT app_id FROM overskill_guard.apps WHERE app = $1";
            let number: i64 = stage.root(database).await.query_one(number, &[&app]).await.unwrap().get(0);
            // Even a superuser's hand is stopped, as long as it does not switch triggers off.
            let wrong = format!("{} AND app_id = {number}", wrong.replace('@', &home));
            if wrong.contains("UPDATE") {
                let e = stage.root(database).await.batch_execute(&wrong).await.unwrap_err();
                assert_eq!(e.code().unwrap().code(), "OS002", "{e}");
            }
            let switch = |to: &str| {
                format!(
                    "ALTER TABLE {home}.entities {to} TRIGGER USER; ALTER TABLE {home}.entity_types {to} TRIGGER USER"
                )
            };
            let hand = format!("{}; {wrong}; {}", switch("DISABLE"), switch("ENABLE"));
            stage.root(database).await.batch_execute(&hand).await.unwrap();
            let e = mover.resume(system, &one).await.unwrap_err();
            assert!(e.kind() == ErrorKind::Conflict && e.to_string().contains("the copy is not the same"), "{e}");
            assert!(e.to_string().contains(told), "{told}: {e}");
            assert_eq!(mover.placement(system, &one).await.unwrap(), Placement::Shared);
            assert_eq!(stage.numbers(&app).await.len(), 4);
            assert_eq!(stage.create(&app, "late", 1).await.status, 503);
            mover.abort(system, &one).await.unwrap();
            assert_eq!(stage.dump(&app).await, before);
            assert_eq!(stage.create(&app, "late", 1).await.status, 201);
            assert_eq!(stage.leftovers(&app).await, 0);
        }
    }
}

/// The page with all of them is there, and its note is not: none of them is one too many.
#[tokio::test]
async fn an_app_with_as_many_kinds_as_may_be_goes_on() {
    let stage = Stage::new(Way::Direct).await;
    let (system, mover, one) = (&stage.world.system, &stage.mover, scope("one"));
    stage.fill("one", 3).await;
    let root = stage.root(DATABASE).await;
    let kinds = "INSERT INTO overskill_data.entity_types (app_id, entity_type) SELECT app_id, 'K' || n \
        FROM overskill_guard.apps, generate_series(1, 498) n WHERE app = 'one'";
    assert_eq!(root.execute(kinds, &[]).await.unwrap(), 498);
    let before = stage.dump("one").await;
    for to in [Placement::OwnProject(acme()), Placement::Schema] {
        crashed_at(&stage, "one", &to, "copying").await;
        root.batch_execute("UPDATE overskill_guard.moves SET copied = NULL, rows_copied = 0 WHERE step = 'paused'")
            .await
            .unwrap();
        assert_eq!(mover.resume(system, &one).await.unwrap().step, MoveStep::Kept, "{to}");
        assert_eq!(stage.dump("one").await, before, "{to}");
    }
}

/// Whoever was stopped and comes back later finds nothing to change.
#[tokio::test]
async fn a_runner_that_was_taken_over_changes_nothing_more() {
    let stage = Arc::new(Stage::new(Way::Direct).await);
    let system = &stage.world.system;
    for (at, _) in STEPS.into_iter().filter(|(at, _)| *at != "cut_over") {
        let app = format!("z{at}");
        let one = scope(&app);
        stage.fill(&app, 3).await;
        let before = stage.dump(&app).await;
        // While the first is at this step, a second one takes the move over, and undoes it.
        let (other, name) = (stage.clone(), app.clone());
        let sink = At::stage(at, move || {
            let (stage, one) = (other.clone(), scope(&name));
            let undo = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async { stage.mover.abort(&stage.world.system, &one).await.unwrap() });
            });
            undo.join().unwrap();
        });
        let to = Placement::OwnProject(acme());
        let e = stage.mover.clone().progress(sink).relocate(system, &one, &to).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Conflict && e.to_string().contains("taken this move over"), "{at}: {e}");
        assert_eq!(stage.mover.current(system, &one).await.unwrap().unwrap().step, MoveStep::Aborted, "{at}");
        assert_eq!((stage.dump(&app).await, stage.leftovers(&app).await), (before, 0), "{at}");
        assert_eq!(stage.create(&app, "after", 1).await.status, 201, "{at}: writes are not left paused");
    }
}
