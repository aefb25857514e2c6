//! Applying: others in the way, other editors, crashes.

use super::{
    Desk, own,
    support::{World, scope},
};
use overskill_core::{Effect, ErrorKind, ProgressKind, Rights};
use overskill_supabase::{ChangeState, EditorLimits, SchemaEditor, SchemaInspector, StepWay, tokio_postgres::Client};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

async fn with_rows() -> Desk {
    let desk = Desk::new().await;
    desk.change(json!({ "change": "create_table", "table": "todos", "columns": [
        { "name": "title", "type": "text" }, { "name": "n", "type": "integer" } ] }))
        .await;
    desk.superuser("INSERT INTO todo_tables.todos (title, n) SELECT 't' || n, n FROM generate_series(1, 100) n").await;
    desk
}

fn index() -> Value {
    json!({ "change": "create_index", "table": "todos", "columns": ["n"] })
}

fn unique() -> Value {
    json!({ "change": "add_unique", "table": "todos", "columns": ["title"] })
}

/// Ends when `sql` is true.
async fn until(client: &Client, sql: &str) {
    for _ in 0..2_400 {
        if client.query_one(sql, &[]).await.unwrap().get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it never came to this: {sql}");
}

#[tokio::test]
async fn what_others_hold_is_given_up_in_time() {
    let desk = with_rows().await;
    let holder = desk.raw("postgres").await;
    let impatient =
        |desk: &Desk, rows| desk.editor().limits(EditorLimits::new().rows(rows).locks(Duration::from_millis(100), 2));
    for (change, rows) in [
        (json!({ "change": "add_column", "table": "todos", "column": { "name": "more", "type": "text" } }), 1_000),
        (json!({ "change": "drop_table", "table": "todos" }), 1_000),
        (json!({ "change": "set_nullable", "table": "todos", "column": "n", "nullable": false }), 0),
        (
            json!({ "change": "add_column", "table": "todos",
                 "column": { "name": "key", "type": "uuid", "nullable": false, "default": "random_uuid" } }),
            0,
        ),
    ] {
        let editor = impatient(&desk, rows);
        let plan = desk.plan(&editor, change.clone()).await.unwrap();
        let before = desk.schema().await;
        holder.batch_execute("BEGIN; LOCK TABLE todo_tables.todos IN ROW EXCLUSIVE MODE").await.unwrap();
        let e = desk.apply(&editor, &plan).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::None), "{change}: {e}");
        assert!(e.to_string().contains("2 attempts of 100ms"), "{e}");
        holder.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(desk.schema().await.fingerprint(), before.fingerprint(), "{change}");
        // Once they are gone, it works.
        let plan = desk.plan(&editor, change.clone()).await.unwrap();
        if change["change"] == "drop_table" {
            continue;
        }
        desk.apply(&editor, &plan).await.unwrap_or_else(|e| panic!("{change}: {e:?}"));
    }
    desk.walls_stand().await;
}

/// Building an index waits for others, and nobody for it; after its own time it is over, and mended once they are gone.
#[tokio::test]
async fn an_index_that_takes_too_long_is_mended() {
    let desk = with_rows().await;
    let holder = desk.raw("postgres").await;
    let short = Duration::from_millis(300);
    let limits = EditorLimits::new().rows(0).locks(Duration::from_millis(100), 2).timeouts(short, short);
    let editor = desk.editor().limits(limits);
    let (plan, before) = (desk.plan(&editor, unique()).await.unwrap(), desk.schema().await);
    holder.batch_execute("BEGIN; LOCK TABLE todo_tables.todos IN ROW EXCLUSIVE MODE").await.unwrap();
    let e = desk.apply(&editor, &plan).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::Unknown), "{e:?}");
    assert!(e.context().any(|(key, _)| key == "not taken back"), "{e}");
    assert_eq!(desk.plan(&editor, index()).await.unwrap_err().kind(), ErrorKind::Conflict);
    holder.batch_execute("ROLLBACK").await.unwrap();
    let undone = desk.editor().abandon(&desk.developer, &desk.scope).await.unwrap().unwrap();
    assert_eq!((undone.state, desk.schema().await.fingerprint()), (ChangeState::Undone, before.fingerprint()));
    let plan = desk.plan(&desk.careful(), unique()).await.unwrap();
    desk.apply(&desk.careful(), &plan).await.unwrap();
    desk.walls_stand().await;
}

#[tokio::test]
async fn an_index_is_built_while_others_write_and_a_crash_is_mended() {
    const BUILDING: &str = "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
        WHERE l.relation = 'todo_tables.todos'::regclass AND l.mode = 'ShareUpdateExclusiveLock' AND l.granted \
          AND a.query LIKE 'CREATE % CONCURRENTLY %')";
    for (change, goes_on) in [(index(), "apply"), (unique(), "apply"), (index(), "resume"), (unique(), "abandon")] {
        let desk = with_rows().await;
        let (holder, watcher) = (desk.raw("postgres").await, desk.raw("postgres").await);
        let editor = desk.careful();
        let before = desk.schema().await;
        let plan = desk.plan(&editor, change.clone()).await.unwrap();
        assert_eq!(plan.steps[0].way, StepWay::Concurrently);
        holder.batch_execute("BEGIN; UPDATE todo_tables.todos SET n = 0 WHERE n = 1").await.unwrap();
        let crash = async {
            until(&watcher, BUILDING).await;
            // Its plan's lock, and none that is stronger: others write.
            let held = "SELECT max(l.mode) FILTER (WHERE l.mode NOT IN ('ShareUpdateExclusiveLock', 'AccessShareLock', \
                'RowShareLock', 'RowExclusiveLock')) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
                WHERE l.relation = 'todo_tables.todos'::regclass AND a.query LIKE 'CREATE % CONCURRENTLY %'";
            assert_eq!(watcher.query_one(held, &[]).await.unwrap().get::<_, Option<String>>(0), None);
            watcher.batch_execute("INSERT INTO todo_tables.todos (title, n) VALUES ('meanwhile', 1000)").await.unwrap();
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE 'CREATE % CONCURRENTLY %'";
            assert_eq!(watcher.query_one(end, &[]).await.unwrap().get::<_, i64>(0), 1);
        };
        let (cut, ()) = tokio::join!(desk.apply(&editor, &plan), crash);
        let e = cut.unwrap_err();
        assert_eq!(e.effect(), Effect::Unknown, "{e:?}");
        holder.batch_execute("COMMIT").await.unwrap();
        let left = desk.schema().await;
        assert!(left.table("todos").unwrap().indexes.iter().any(|it| !it.valid), "a part of the index is there");
        let other = desk.plan(&editor, json!({ "change": "drop_table", "table": "todos" })).await.unwrap_err();
        assert!(other.kind() == ErrorKind::Conflict && other.to_string().contains("`resume`"), "{other}");
        let done = match goes_on {
            "apply" => desk.apply(&editor, &plan).await.unwrap(),
            "resume" => editor.resume(&desk.developer, &desk.scope).await.unwrap().unwrap(),
            _ => editor.abandon(&desk.developer, &desk.scope).await.unwrap().unwrap(),
        };
        let after = desk.schema().await;
        assert!(after.tables[0].indexes.iter().all(|it| it.valid), "{change}: {after:?}");
        if goes_on == "abandon" {
            assert_eq!((done.state, after.fingerprint()), (ChangeState::Undone, before.fingerprint()));
            let e = desk.apply(&editor, &plan).await.unwrap_err();
            assert!(e.to_string().contains("taken back"), "{e}");
        } else {
            assert_eq!((done.state, done.steps_done), (ChangeState::Done, plan.steps.len()));
            assert_eq!(after.tables[0].indexes.len(), before.tables[0].indexes.len() + 1);
        }
        assert_eq!(editor.resume(&desk.developer, &desk.scope).await.unwrap(), None);
        desk.walls_stand().await;
    }
}

/// Every step of the longest change is cut off, once before and once after it.
#[tokio::test]
async fn a_change_that_was_cut_off_goes_on_where_it_was() {
    let change = json!({ "change": "add_column", "table": "todos",
        "column": { "name": "key", "type": "uuid", "nullable": false, "default": "random_uuid" } });
    let desk = with_rows().await;
    let editor = desk.careful();
    let steps = desk.plan(&editor, change.clone()).await.unwrap().steps.len();
    assert_eq!(steps, 5);
    for cut_at in 0..steps {
        let desk = with_rows().await;
        let editor = desk.careful();
        let plan = desk.plan(&editor, change.clone()).await.unwrap();
        // The session ends when it wants to note that the step is done: what it did is undone with it, but not what it
        // committed before, such as batches.
        desk.superuser(&format!(
            "CREATE FUNCTION public.cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                 PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(60); RETURN NEW; END $$; \
             CREATE TRIGGER cut BEFORE UPDATE ON overskill_guard.schema_changes FOR EACH ROW \
             WHEN (NEW.steps_done = {}) EXECUTE FUNCTION public.cut()",
            cut_at + 1
        ))
        .await;
        let e = desk.apply(&editor, &plan).await.unwrap_err();
        assert_eq!(e.effect(), Effect::Unknown, "step {cut_at}: {e:?}");
        desk.superuser("DROP TRIGGER cut ON overskill_guard.schema_changes").await;
        let half = editor.history(&desk.developer, &desk.scope, None).await.unwrap();
        assert_eq!((half[0].state, half[0].steps_done), (ChangeState::Begun, cut_at), "step {cut_at}");
        let before = half[1].clone();
        let done = if cut_at % 2 == 0 {
            desk.apply(&editor, &plan).await.unwrap()
        } else {
            editor.resume(&desk.developer, &desk.scope).await.unwrap().unwrap()
        };
        assert_eq!((done.state, done.steps_done), (ChangeState::Done, steps));
        assert_eq!(done.position, before.position.next());
        let schema = desk.schema().await;
        assert!(!schema.tables[0].column("key").unwrap().nullable);
        let row = desk
            .raw("postgres")
            .await
            .query_one("SELECT count(DISTINCT key) FROM todo_tables.todos", &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i64>(0), 100);
        assert_eq!(desk.apply(&editor, &plan).await.unwrap(), done, "once more is as good as once");
    }
}

#[tokio::test]
async fn what_does_not_fit_is_taken_back() {
    let desk = with_rows().await;
    desk.superuser("INSERT INTO todo_tables.todos (title) VALUES ('t1')").await;
    let before = desk.schema().await;
    for editor in [desk.editor(), desk.careful()] {
        for change in
            [unique(), json!({ "change": "set_nullable", "table": "todos", "column": "n", "nullable": false })]
        {
            let plan = desk.plan(&editor, change.clone()).await.unwrap();
            let e = editor.rehearse(&desk.developer, &desk.scope, &plan).await.unwrap_err();
            assert!(matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Invalid), "{change}: {e:?}");
            let e = desk.apply(&editor, &plan).await.unwrap_err();
            assert!(matches!(e.kind(), ErrorKind::Conflict | ErrorKind::Invalid), "{change}: {e:?}");
            assert_eq!(e.effect(), Effect::None, "{e:?}");
            assert_eq!(desk.schema().await.fingerprint(), before.fingerprint(), "{change}");
            assert_eq!(editor.resume(&desk.developer, &desk.scope).await.unwrap(), None);
        }
    }
    desk.superuser("DELETE FROM todo_tables.todos WHERE n IS NULL").await;
    let plan = desk.plan(&desk.careful(), unique()).await.unwrap();
    desk.apply(&desk.careful(), &plan).await.unwrap();
}

#[tokio::test]
async fn of_several_editors_one_wins() {
    let desk = with_rows().await;
    let editor = desk.editor();
    let mut plans = Vec::new();
    for n in 0..4 {
        let change =
            json!({ "change": "add_column", "table": "todos", "column": { "name": format!("c{n}"), "type": "text" } });
        plans.push(desk.plan(&editor, change).await.unwrap());
    }
    let done = futures::future::join_all(plans.iter().map(|plan| desk.apply(&editor, plan))).await;
    let (won, lost): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 3));
    for e in lost {
        let e = e.unwrap_err();
        assert!(e.kind() == ErrorKind::Conflict && e.to_string().contains("plan it again"), "{e}");
    }
    assert_eq!(desk.schema().await.tables[0].columns.len(), 4);
    // One plan, applied by several at once, is one change.
    for editor in [desk.editor(), desk.careful()] {
        let plan = desk.plan(&editor, unique()).await.unwrap();
        let done = futures::future::join_all((0..4).map(|_| desk.apply(&editor, &plan))).await;
        let first = done[0].as_ref().unwrap();
        assert!(done.iter().all(|it| it.as_ref().unwrap() == first));
        desk.change(json!({ "change": "drop_constraint", "table": "todos", "constraint": "todos_title_key" })).await;
    }
}

#[tokio::test]
async fn a_schema_that_changed_since_refuses_the_plan() {
    let desk = with_rows().await;
    let editor = desk.editor();
    let plan = desk.plan(&editor, index()).await.unwrap();
    for drift in [
        "ALTER TABLE todo_tables.todos ADD COLUMN sneaked text",
        "ALTER TABLE todo_tables.todos ALTER COLUMN n SET DEFAULT 5",
        "CREATE INDEX sneaked ON todo_tables.todos (title)",
        "ALTER TABLE todo_tables.todos RENAME TO todo",
    ] {
        desk.superuser(drift).await;
        for e in [
            desk.apply(&editor, &plan).await.unwrap_err(),
            editor.rehearse(&desk.developer, &desk.scope, &plan).await.unwrap_err(),
        ] {
            assert!(e.kind() == ErrorKind::Conflict && e.to_string().contains("plan it again"), "{drift}: {e}");
        }
    }
    // A table that has grown large since, too.
    let desk = with_rows().await;
    let editor = desk.editor().limits(EditorLimits::new().rows(150));
    let plan = desk.plan(&editor, index()).await.unwrap();
    desk.superuser("INSERT INTO todo_tables.todos (n) SELECT generate_series(1, 100)").await;
    assert_eq!(desk.apply(&editor, &plan).await.unwrap_err().kind(), ErrorKind::Conflict);
    let plan = desk.plan(&editor, index()).await.unwrap();
    assert_eq!(plan.steps[0].way, StepWay::Concurrently);
}

#[tokio::test]
async fn progress_is_told() {
    let desk = with_rows().await;
    let plan = desk.plan(&desk.careful(), unique()).await.unwrap();
    desk.apply(&desk.careful(), &plan).await.unwrap();
    desk.superuser("INSERT INTO todo_tables.todos (title) VALUES (NULL)").await;
    let change = json!({ "change": "set_nullable", "table": "todos", "column": "title", "nullable": false });
    let plan = desk.plan(&desk.editor(), change).await.unwrap();
    desk.apply(&desk.editor(), &plan).await.unwrap_err();
    let told = desk.told.0.lock().unwrap();
    let kinds: Vec<_> = told.iter().map(|it| (it.kind, it.stage.as_deref().unwrap_or(""))).collect();
    assert_eq!(
        kinds,
        [
            (ProgressKind::Started, ""),
            (ProgressKind::Completed, "table_created"),
            (ProgressKind::Started, ""),
            (ProgressKind::Progress, "step_done"),
            (ProgressKind::Progress, "step_done"),
            (ProgressKind::Completed, "unique_added"),
            (ProgressKind::Started, ""),
            (ProgressKind::Failed, ""),
        ]
    );
    assert_eq!(told[0].stream.as_str(), format!("schema/{}", scope("todo")));
    assert_eq!(told[1].details.as_ref().unwrap()["change"]["table"], "todos");
}

/// The exported migrations, run by hand on another server, make the same schema.
#[tokio::test]
async fn the_history_can_be_run_elsewhere() {
    let desk = with_rows().await;
    for change in [
        unique(),
        index(),
        json!({ "change": "add_column", "table": "todos",
        "column": { "name": "key", "type": "uuid", "nullable": false, "default": "random_uuid" } }),
    ] {
        let plan = desk.plan(&desk.careful(), change).await.unwrap();
        desk.apply(&desk.careful(), &plan).await.unwrap();
    }
    desk.change(
        json!({ "change": "rename_column", "table": "todos", "column": "title", "to": "it's".replace('\'', "_") }),
    )
    .await;
    let mut history = desk.editor().history(&desk.developer, &desk.scope, None).await.unwrap();
    history.reverse();
    assert!(history[0].migration().0.ends_with("_table_created_todos.sql"));
    let other = Desk::new().await;
    for record in &history {
        let (_, sql) = record.migration();
        let client = other.raw("host").await;
        // One at a time, as a tool for migrations would: an index that is built while others write stands alone.
        for statement in sql.split(";\n").map(str::trim).filter(|it| !it.is_empty()) {
            client.batch_execute(statement).await.unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
    }
    assert_eq!(other.schema().await.fingerprint(), desk.schema().await.fingerprint());
    let json = serde_json::to_value(&history).unwrap();
    assert_eq!(json[0]["change"]["change"], "create_table");
    let older = desk.editor().history(&desk.developer, &desk.scope, Some(&history[2])).await.unwrap();
    assert_eq!(older.len(), 2);
}

#[tokio::test]
async fn a_schema_is_one_apps() {
    let desk = with_rows().await;
    let world: &World = &desk.world;
    let shop = own(world, super::PLACE);
    let e = shop.prepare(&world.system, &scope("shop")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
    desk.tables.prepare(&world.system, &scope("todo")).await.unwrap();
    let bob = world.grant_of("bob", "shop", Rights::ALL).await;
    let e = SchemaInspector::new(desk.tables.clone()).inspect(&bob, &scope("shop")).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "the schema of another app: {e}");
    let plan = desk.plan(&desk.editor(), index()).await.unwrap();
    let e = SchemaEditor::new(desk.tables.clone()).apply(&bob, &scope("shop"), &plan).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound, "{e}");
    desk.superuser("CREATE SCHEMA theirs; CREATE TABLE theirs.t ()").await;
    for place in ["overskill_data", "overskill_x", "pg_x", "auth", "theirs"] {
        let e = own(world, place).prepare(&world.system, &scope("shop")).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict, "{place}: {e}");
    }
}

/// Whoever changes a row moves it to another page, which may have had its turn.
#[tokio::test]
async fn a_column_is_filled_while_others_write() {
    for nullable in [true, false] {
        let desk = with_rows().await;
        desk.superuser("INSERT INTO todo_tables.todos (title, n) SELECT 't' || n, n FROM generate_series(101, 5000) n")
            .await;
        let (editor, writer, over) = (desk.careful(), desk.raw("postgres").await, AtomicBool::new(false));
        let column = json!({ "name": "key", "type": "uuid", "nullable": nullable, "default": "random_uuid" });
        let plan =
            desk.plan(&editor, json!({ "change": "add_column", "table": "todos", "column": column })).await.unwrap();
        assert_eq!(plan.steps[1].way, StepWay::Batches);
        let changing = async {
            while !over.load(Ordering::SeqCst) {
                let some = "UPDATE todo_tables.todos SET n = n + 1 \
                    WHERE id IN (SELECT id FROM todo_tables.todos ORDER BY random() LIMIT 200)";
                writer.batch_execute(some).await.unwrap();
            }
        };
        let applies = async {
            let done = desk.apply(&editor, &plan).await;
            over.store(true, Ordering::SeqCst);
            done
        };
        let (done, ()) = tokio::join!(applies, changing);
        assert_eq!(done.unwrap().state, ChangeState::Done, "nullable: {nullable}");
        let count = "SELECT count(*), count(DISTINCT key) FROM todo_tables.todos";
        let row = writer.query_one(count, &[]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (5_000, 5_000), "nullable: {nullable}");
    }
}

/// Between two steps somebody takes the table, for longer than a lock is waited for: that is no reason to take all back.
#[tokio::test]
async fn a_column_is_filled_when_others_let_go_of_the_table() {
    let desk = with_rows().await;
    let editor = desk.editor().limits(EditorLimits::new().rows(0).locks(Duration::from_millis(100), 20));
    let column = json!({ "name": "key", "type": "uuid", "nullable": true, "default": "random_uuid" });
    let plan = desk.plan(&editor, json!({ "change": "add_column", "table": "todos", "column": column })).await.unwrap();
    assert_eq!(plan.steps[1].way, StepWay::Batches);
    // The first step ends slowly, and whoever waits for the table then has it before the next one looks at it.
    desk.superuser(
        "CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$; \
         CREATE TRIGGER slow BEFORE UPDATE ON overskill_guard.schema_changes FOR EACH ROW \
         WHEN (NEW.steps_done = 1) EXECUTE FUNCTION public.slow()",
    )
    .await;
    let (watcher, holder) = (desk.raw("postgres").await, desk.raw("postgres").await);
    let holds = async {
        until(&watcher, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')").await;
        holder.batch_execute("BEGIN; LOCK TABLE todo_tables.todos IN ACCESS EXCLUSIVE MODE").await.unwrap();
        until(
            &watcher,
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'todo_tables.todos'::regclass AND NOT granted)",
        )
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        holder.batch_execute("COMMIT").await.unwrap();
    };
    let (done, ()) = tokio::join!(desk.apply(&editor, &plan), holds);
    assert_eq!(done.unwrap().state, ChangeState::Done);
    let left = "SELECT count(*) FROM todo_tables.todos WHERE key IS NULL";
    assert_eq!(watcher.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn rows_that_stay_empty_are_told() {
    for (empties, told) in [(true, 1), (false, 0)] {
        let desk = with_rows().await;
        let editor = desk.careful();
        if empties {
            desk.superuser(
                "CREATE FUNCTION public.empties() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                     RETURN jsonb_populate_record(NEW, '{\"key\": null}'); END $$; \
                 CREATE TRIGGER empties BEFORE UPDATE ON todo_tables.todos FOR EACH ROW WHEN (OLD.n = 7) \
                 EXECUTE FUNCTION public.empties()",
            )
            .await;
        }
        let column = json!({ "name": "key", "type": "uuid", "nullable": true, "default": "random_uuid" });
        let change = json!({ "change": "add_column", "table": "todos", "column": column });
        let plan = desk.plan(&editor, change).await.unwrap();
        assert_eq!(desk.apply(&editor, &plan).await.unwrap().state, ChangeState::Done);
        let stages = desk.told.0.lock().unwrap();
        let left = stages.iter().filter(|it| it.stage.as_deref() == Some("rows_left_empty")).count();
        assert_eq!(left, told);
    }
}
