//! A customer's own database, who can have in it and have it answer what they like.

use super::stage::Stage;
use crate::support::{
    Way,
    places::{ACME, acme},
    scope,
};
use overskill_core::ErrorKind;
use overskill_supabase::{MoveStep, Placement};

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
            "octet_length(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 0'",
            "more of table `entities`",
        ),
        (
            "row_to_json(record)",
            "row_to_json(record) RETURNS json LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN \
                '{\"entity_type\": \"Odd\", \"access\": 2, \"slots\": {}, \"columns\": []}'; END $$",
            "more than once",
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
            "{more}; SET allow_system_table_mods = on; ALTER FUNCTION pg_catalog.{function} RENAME TO as_it_was; \
             CREATE FUNCTION pg_catalog.{answers}"
        );
        stage.root(ACME).await.batch_execute(&bent).await.unwrap();
        let e = mover.relocate(system, &scope("one"), &Placement::Shared).await.unwrap_err();
        assert!(e.to_string().contains(told), "{function}: {e}");
        assert_eq!(mover.current(system, &scope("one")).await.unwrap().unwrap().step, MoveStep::Paused);
        mover.abort(system, &scope("one")).await.unwrap();
        assert_eq!(mover.placement(system, &scope("one")).await.unwrap(), Placement::OwnProject(acme()));
    }
}
