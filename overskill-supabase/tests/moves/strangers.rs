//! A customer's own database, who can have in it and have it answer what they like.

use super::stage::Stage;
use crate::support::{
    Way, key,
    places::{ACME, acme},
    scope, server,
};
use overskill_core::{Clock as _, ErrorKind, SystemClock, TestClock};
use overskill_supabase::{ContextKeys, MoveStep, Placement, ProjectList};
use std::time::Duration;

/// What this library would have refused to write, somebody wrote past it: it does not come back with the app.
#[tokio::test]
async fn rows_that_could_not_have_been_written_are_not_taken_over() {
    let stage = Stage::new(Way::Direct).await;
    let (system, mover) = (&stage.world.system, &stage.mover);
    let record = "INSERT INTO overskill_data.entities \
        (app_id, entity_type, id, owner, access, data, created_at, updated_at, deleted_at, placed) \
        SELECT app_id, 'Todo', 'bad', 'ada', 2, ";
    let from = " FROM overskill_guard.apps WHERE app = '@'";
    let cases: [(&str, ErrorKind); 10] = [
        ("'{\"n\": 1e400}', now(), now(), NULL, now()", ErrorKind::Invalid),
        ("jsonb_build_object('n', repeat('x', 1000000)), now(), now(), NULL, now()", ErrorKind::LimitExceeded),
        ("jsonb_build_object('n', repeat('x', 5000000)), now(), now(), NULL, now()", ErrorKind::LimitExceeded),
        ("'{}', 'infinity', now(), NULL, now()", ErrorKind::Invalid),
        ("'{}', now(), '-infinity', NULL, now()", ErrorKind::Invalid),
        ("'{}', now(), now(), '20000-01-01', now()", ErrorKind::Invalid),
        ("'{}', now(), now(), NULL, 'infinity'", ErrorKind::Invalid),
        ("UPDATE overskill_data.entities SET owner = repeat('x', 200)", ErrorKind::Invalid),
        (
            "UPDATE overskill_data.entity_types SET columns = '[{\"name\": \"n\", \"type\": \"text\", \"nullable\": true}]'",
            ErrorKind::Invalid,
        ),
        (
            "INSERT INTO overskill_data.entity_types (app_id, entity_type) SELECT app_id, 'K' || n \
            FROM overskill_guard.apps, generate_series(1, 500) n WHERE app = '@'",
            ErrorKind::LimitExceeded,
        ),
    ];
    for (n, (bad, kind)) in cases.into_iter().enumerate() {
        let app = format!("bad{n}");
        stage.fill(&app, 3).await;
        mover.relocate(system, &scope(&app), &Placement::OwnProject(acme())).await.unwrap();
        mover.drop_old(system, &scope(&app)).await.unwrap();
        let before = stage.dump(&app).await;
        let statement = match bad.split(' ').next().unwrap() {
            "UPDATE" => format!("{bad} WHERE app_id = (SELECT app_id FROM overskill_guard.apps WHERE app = '@')"),
            "INSERT" => bad.to_owned(),
            _ => format!("{record}{bad}{from}"),
        };
        let hand = format!("SET session_replication_role = replica; {}", statement.replace('@', &app));
        stage.root(ACME).await.batch_execute(&hand).await.unwrap();
        assert_ne!(stage.dump(&app).await, before);
        let e = mover.relocate(system, &scope(&app), &Placement::Shared).await.unwrap_err();
        assert_eq!(e.kind(), kind, "{bad}: {e}");
        let said = e.to_string();
        assert!(said.contains("could not have been written in") || said.contains("more of table"), "{bad}: {e}");
        assert_eq!(mover.current(system, &scope(&app)).await.unwrap().unwrap().step, MoveStep::Paused, "{bad}");
        mover.abort(system, &scope(&app)).await.unwrap();
        assert_eq!(mover.placement(system, &scope(&app)).await.unwrap(), Placement::OwnProject(acme()));
    }
    // Mended there, it comes back.
    let mended = "SET session_replication_role = replica; DELETE FROM overskill_data.entities WHERE id = 'bad'";
    stage.root(ACME).await.batch_execute(mended).await.unwrap();
    mover.relocate(system, &scope("bad0"), &Placement::Shared).await.unwrap();
    assert_eq!(stage.numbers("bad0").await.len(), 3);
}

/// The functions that the question for a page calls are the database's own, and so its owner's.
#[tokio::test]
async fn a_database_that_answers_more_than_it_was_asked_is_not_listened_to() {
    for (function, answers, told) in [
        (
            "octet_length(text)",
            "FUNCTION pg_catalog.octet_length(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0'",
            "more of table `entities`",
        ),
        (
            "row_to_json(record)",
            "FUNCTION pg_catalog.row_to_json(record) RETURNS json LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN \
                '{\"entity_type\": \"Odd\", \"access\": 2, \"slots\": {}, \"columns\": []}'; END $$",
            "more than once",
        ),
        (
            "count()",
            "AGGREGATE pg_catalog.count(*) (SFUNC = pg_catalog.int8abs, STYPE = int8, INITCOND = '0')",
            "more rows than the 0 that it counted",
        ),
    ] {
        let stage = Stage::new(Way::Direct).await;
        let (system, mover) = (&stage.world.system, &stage.mover);
        stage.fill("one", 3).await;
        let more = "SET session_replication_role = replica; INSERT INTO overskill_data.entities \
            (app_id, entity_type, id, owner, access, data) SELECT app_id, 'Todo', 'l' || n, 'ada', 2, \
            jsonb_build_object('body', repeat('x', 300000)) FROM overskill_guard.apps, generate_series(1, 40) n";
        mover.relocate(system, &scope("one"), &Placement::OwnProject(acme())).await.unwrap();
        mover.drop_old(system, &scope("one")).await.unwrap();
        let bent = format!(
            "{more}; SET allow_system_table_mods = on; ALTER ROUTINE pg_catalog.{function} RENAME TO as_it_was; \
             CREATE {answers}"
        );
        stage.root(ACME).await.batch_execute(&bent).await.unwrap();
        let e = mover.relocate(system, &scope("one"), &Placement::Shared).await.unwrap_err();
        assert!(e.to_string().contains(told), "{function}: {e}");
        assert_eq!(mover.current(system, &scope("one")).await.unwrap().unwrap().step, MoveStep::Paused);
        mover.abort(system, &scope("one")).await.unwrap();
        assert_eq!(mover.placement(system, &scope("one")).await.unwrap(), Placement::OwnProject(acme()));
    }
}

#[tokio::test]
async fn no_more_is_taken_than_was_said() {
    let stage = Stage::new(Way::Direct).await;
    let (system, mover, one) = (&stage.world.system, &stage.mover, scope("one"));
    stage.fill("one", 3).await;
    mover.relocate(system, &one, &Placement::OwnProject(acme())).await.unwrap();
    mover.drop_old(system, &one).await.unwrap();
    let before = stage.dump("one").await;
    for (rows, bytes, told) in [(14, u64::MAX, "holds 15 rows"), (15, 100_000, "more than 100000 bytes")] {
        let careful = mover.clone().most(rows, bytes);
        let e = careful.relocate(system, &one, &Placement::Shared).await.unwrap_err();
        assert!(e.kind() == ErrorKind::LimitExceeded && e.to_string().contains(told), "{e}");
        assert!(e.to_string().contains("`Mover::most`"), "{e}");
        assert_eq!(mover.current(system, &one).await.unwrap().unwrap().step, MoveStep::Paused);
        mover.abort(system, &one).await.unwrap();
    }
    mover.clone().most(15, 1 << 30).relocate(system, &one, &Placement::Shared).await.unwrap();
    assert_eq!(stage.dump("one").await, before);
}

/// As long as a statement may take, and no longer: the app's writes wait meanwhile.
#[tokio::test]
async fn a_database_that_says_nothing_is_not_waited_for() {
    let stage = Stage::new(Way::Direct).await;
    let (system, one) = (&stage.world.system, scope("one"));
    stage.fill("one", 3).await;
    let clock = TestClock::at(SystemClock.now());
    let mover = stage.mover.clone().clock(clock.clone());
    let late = Duration::from_mins(12);

    // It takes the connection, and that is all.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://host@{}/x", listener.local_addr().unwrap());
    let keys = ContextKeys::new(key("acme", 21));
    let silent = overskill_supabase::Project::new(server(&url), server(&url), server(&url), keys);
    let to_silence = mover.clone().projects(ProjectList::new().with(acme(), silent));
    let waits = async {
        let taken = listener.accept().await.unwrap();
        clock.advance(late);
        taken
    };
    let to = Placement::OwnProject(acme());
    let (ended, _taken) = tokio::join!(to_silence.relocate(system, &one, &to), waits);
    let e = ended.unwrap_err();
    assert!(e.kind() == ErrorKind::Unavailable && e.to_string().contains("did not answer within"), "{e}");
    assert_eq!(stage.create("one", "meanwhile", 1).await.status, 201, "nothing was paused");
    stage.mover.abort(system, &one).await.unwrap();

    // It falls silent in the middle.
    stage.mover.relocate(system, &one, &to).await.unwrap();
    stage.mover.drop_old(system, &one).await.unwrap();
    let root = stage.root(ACME).await;
    root.batch_execute(
        "SET allow_system_table_mods = on; ALTER FUNCTION pg_catalog.row_to_json(record) RENAME TO as_it_was; \
         CREATE FUNCTION pg_catalog.row_to_json(record) RETURNS json LANGUAGE plpgsql STABLE AS \
             $$ BEGIN PERFORM pg_catalog.pg_sleep(500); RETURN NULL; END $$",
    )
    .await
    .unwrap();
    let sleeps = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')";
    let waits = async {
        while !root.query_one(sleeps, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        clock.advance(late);
    };
    let (ended, ()) = tokio::join!(mover.relocate(system, &one, &Placement::Shared), waits);
    let e = ended.unwrap_err();
    assert!(e.kind() == ErrorKind::Unavailable && e.to_string().contains("did not answer within"), "{e}");
    assert_eq!(stage.mover.current(system, &one).await.unwrap().unwrap().step, MoveStep::Paused);
    stage.mover.abort(system, &one).await.unwrap();
}
