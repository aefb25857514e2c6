//! Whoever writes while an app moves loses nothing.

use super::{
    crashes::crashed_at,
    round,
    stage::{Stage, call_on},
};
use crate::support::{DATABASE, Signed, Way, places::acme, scope};
use overskill_core::{ApiMethod, Effect, ErrorKind, Retry};
use overskill_supabase::{EntityApi, MoveStep, Placement, tokio_postgres::types::Type};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

const WRITERS: usize = 4;

/// Two machines, each with a memory of its own, and four writers that note what was confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_lose_nothing_while_an_app_moves() {
    for way in Way::ALL {
        let stage = Arc::new(Stage::new(way).await);
        stage.fill("busy", 100).await;
        assert_eq!(stage.create("busy", "counter", 0).await.status, 201);
        let (stop, waited) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (written, reads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (stage, stop, waited) = (stage.clone(), stop.clone(), waited.clone());
                let written = written.clone();
                let api = EntityApi::new(Stage::another_pool(&stage.world, way, &stage.projects));
                tokio::spawn(async move {
                    let mut confirmed = BTreeMap::new();
                    let mut n = 0_i64;
                    while !stop.load(Ordering::SeqCst) {
                        n += 1;
                        let id = format!("w{writer}-{}", n % 40);
                        let body = json!({ "n": n }).to_string();
                        let answer = if confirmed.contains_key(&id) {
                            call_on(&api, &stage.world, "busy", ApiMethod::Patch, &id, &body).await
                        } else {
                            let body = json!({ "id": id, "n": n }).to_string();
                            call_on(&api, &stage.world, "busy", ApiMethod::Post, "", &body).await
                        };
                        match answer.status {
                            200 | 201 => {
                                confirmed.insert(id, n);
                                written.fetch_add(1, Ordering::SeqCst);
                            }
                            503 => {
                                waited.fetch_add(1, Ordering::SeqCst);
                                tokio::time::sleep(Duration::from_millis(5)).await;
                            }
                            other => panic!("{other}: {answer:?}"),
                        }
                    }
                    confirmed
                })
            })
            .collect();
        let reader = {
            let (stage, stop, reads) = (stage.clone(), stop.clone(), reads.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let answer = stage.call("busy", ApiMethod::Get, "counter", "").await;
                    assert_eq!(answer.status, 200, "reads go on: {answer:?}");
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        for to in round() {
            // Each place is written to for a while.
            let so_far = written.load(Ordering::SeqCst);
            while written.load(Ordering::SeqCst) < so_far + 25 && writers.iter().all(|writer| !writer.is_finished()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            stage.mover.relocate(&stage.world.system, &scope("busy"), &to).await.unwrap();
            stage.mover.drop_old(&stage.world.system, &scope("busy")).await.unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        reader.await.unwrap();
        let mut expected: BTreeMap<String, i64> = (1..=100).map(|n| (format!("t{n}"), n)).collect();
        expected.insert("counter".to_owned(), 0);
        for writer in writers {
            expected.extend(writer.await.unwrap());
        }
        assert_eq!(stage.numbers("busy").await, expected, "{way:?}");
        let (written, waited, reads) =
            (written.load(Ordering::SeqCst), waited.load(Ordering::SeqCst), reads.load(Ordering::SeqCst));
        println!("{way:?}: {written} writes confirmed, {waited} told to wait, {reads} reads");
        assert!(written >= 150 && reads > 0);
    }
}

/// The move waits for who began before, and refuses who comes after: in between there is nobody.
#[tokio::test]
async fn a_writer_that_began_before_the_pause_is_waited_for() {
    for to in [Placement::Schema, Placement::OwnProject(acme())] {
        let stage = Stage::new(Way::Direct).await;
        stage.fill("one", 2).await;
        let (system, one, world) = (&stage.world.system, scope("one"), &stage.world);
        let put = |tx: &overskill_supabase::TenantTx| {
            format!("INSERT INTO {} (entity_type, id, data) VALUES ('Todo', $1, '{{\"n\": 7}}')", tx.table("entities"))
        };
        let ada = world.grant("ada", "one").await;
        let early = stage.pool.begin(&ada, &one).await.unwrap();
        early.execute(&put(&early), &[(&"early", Type::TEXT)]).await.unwrap();
        let idle = stage.pool.begin(&ada, &one).await.unwrap();
        idle.query(&format!("SELECT id FROM {}", idle.table("entities")), &[]).await.unwrap();

        let impatient = stage.mover.clone().drain(Duration::from_millis(100));
        let e = impatient.relocate(system, &one, &to).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Timeout && e.to_string().contains("resume the move; or abort it"), "{e}");
        assert_eq!(stage.mover.current(system, &one).await.unwrap().unwrap().step, MoveStep::Pausing);
        // Who comes now is refused, with nothing done; so is the one that began before and did not write.
        let answer = stage.create("one", "late", 1).await;
        assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "2"));
        assert!(String::from_utf8_lossy(&answer.body).contains("being moved"), "{answer:?}");
        let e = idle.execute(&put(&idle), &[(&"late", Type::TEXT)]).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e}");
        assert!(matches!(e.retry(), Retry::After(_)), "{e}");
        idle.rollback().await.unwrap();
        let developer = world.grant_of("dev", "one", overskill_core::Rights::ALL).await;
        let define =
            async |tx: &overskill_supabase::TenantTx| tx.define("New", overskill_supabase::Access::Owner, &[]).await;
        let e = stage.pool.with_tenant(&developer, &one, define).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e}");
        // And so is whoever changes kinds of records, in whatever way.
        let by_hand = stage.root(DATABASE).await;
        let e = by_hand.batch_execute("UPDATE overskill_data.entity_types SET access = 0").await.unwrap_err();
        assert_eq!(e.code().unwrap().code(), "OS001", "{e}");
        // The early one is committed, and is not lost.
        let (moved, committed) = tokio::join!(stage.mover.resume(system, &one), async { early.commit().await });
        committed.unwrap();
        assert_eq!(moved.unwrap().step, MoveStep::Kept);
        assert_eq!(stage.numbers("one").await["early"], 7);
        assert_eq!(stage.create("one", "late", 1).await.status, 201);
        stage.walls_stand().await;
    }
}

/// SQL by hand, past everything in this library but the signed context: the database itself refuses what is stale.
#[tokio::test]
async fn a_stale_writer_is_refused_by_the_database() {
    let stage = Stage::new(Way::Direct).await;
    stage.fill("one", 2).await;
    let (system, one, world) = (&stage.world.system, scope("one"), &stage.world);
    let context = Signed::of("ada", "one").text();
    let write = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', 'stale', '{}')";
    let read = "SELECT count(*) FROM overskill_data.entities";
    let by_hand = async |begin: &str| {
        let client = world.raw(Way::Direct, "overskill_app").await;
        client
            .batch_execute(&format!("{begin}; SELECT set_config('overskill.context', '{context}', true)"))
            .await
            .unwrap();
        client
    };
    let code = |e: &overskill_supabase::tokio_postgres::Error| e.code().unwrap().code().to_owned();
    // Its view of the world is from before the pause, and its write comes after.
    let old_view = by_hand("BEGIN ISOLATION LEVEL REPEATABLE READ").await;
    assert_eq!(old_view.query_one(read, &[]).await.unwrap().get::<_, i64>(0), 12);
    let old_reader = by_hand("BEGIN").await;
    assert_eq!(old_reader.query_one(read, &[]).await.unwrap().get::<_, i64>(0), 12);
    crashed_at(&stage, "one", &Placement::Schema, "paused").await;
    assert_eq!(code(&by_hand("BEGIN").await.batch_execute(write).await.unwrap_err()), "OS001");
    let update = "UPDATE overskill_data.entities SET data = '{}'";
    assert_eq!(code(&by_hand("BEGIN").await.batch_execute(update).await.unwrap_err()), "OS001");
    assert_eq!(code(&old_view.batch_execute(write).await.unwrap_err()), "40001", "it cannot see the pause");
    stage.mover.resume(system, &one).await.unwrap();
    assert_eq!(code(&old_reader.batch_execute(write).await.unwrap_err()), "OS002");
    for statement in [write, update, read] {
        let e = by_hand("BEGIN").await.batch_execute(statement).await.unwrap_err();
        assert_eq!(code(&e), "OS002", "{statement}: neither old rows nor none: {e}");
    }
    // Whoever only says that it moves the app is not believed.
    let liar = by_hand("BEGIN; SELECT set_config('overskill.moving', 'on', true)").await;
    assert_eq!(code(&liar.batch_execute(write).await.unwrap_err()), "OS002");
    let left = stage.root(DATABASE).await;
    let written = "SELECT count(*) FROM overskill_data.entities WHERE id = 'stale'";
    assert_eq!(left.query_one(written, &[]).await.unwrap().get::<_, i64>(0), 0);
}
