//! Logical tables: changes of the catalog and of records.

use super::{
    Desk, read,
    support::{Way, scope},
};
use overskill_core::{
    ApiMethod, ApiRequest, ApiUpstream as _, ErrorKind, FilePath, ProgressKind, Result, Right, Rights,
};
use overskill_supabase::{
    Access, EditorLimits, EntityApi, Mover, Placement, SharedAccess, TenantTx, tokio_postgres::types::Type,
};
use serde_json::{Value, json};

/// The app has tasks of two people, of which only one is public.
async fn with_tasks() -> Desk {
    let desk = Desk::shared().await;
    desk.change(json!({ "change": "create_table", "table": "Task", "columns": [
        { "name": "title", "type": "varchar(20)", "nullable": false },
        { "name": "n", "type": "integer", "default": { "value": 7 } },
        { "name": "at", "type": "timestamptz", "default": "now" } ] }))
        .await;
    for (subject, id, data) in [
        ("ada", "one", json!({ "title": "first", "n": 1, "extra": "12" })),
        ("bob", "two", json!({ "title": "second", "extra": 13 })),
        ("bob", "gone", json!({ "title": "third", "extra": true })),
    ] {
        put(&desk, subject, id, &data).await.unwrap();
    }
    let pool = desk.world.pool(Way::Direct);
    let bob = desk.world.grant("bob", "todo").await;
    let delete = "UPDATE overskill_data.entities SET deleted_at = now() WHERE id = 'gone'";
    pool.with_tenant(&bob, &desk.scope, async |tx| tx.execute(delete, &[]).await).await.unwrap();
    desk
}

async fn put(desk: &Desk, subject: &str, id: &str, data: &Value) -> Result<u64> {
    let grant = desk.world.grant(subject, "todo").await;
    let put = async |tx: &TenantTx| {
        let put = format!("INSERT INTO {} (entity_type, id, data) VALUES ('Task', $1, $2)", tx.table("entities"));
        tx.execute(&put, &[(&id, Type::TEXT), (data, Type::JSONB)]).await
    };
    desk.world.pool(Way::Direct).with_tenant(&grant, &desk.scope, put).await
}

async fn rows(desk: &Desk, sql: &str) -> Vec<String> {
    let rows = desk.raw("postgres").await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn data(desk: &Desk, id: &str) -> Value {
    let sql = format!("SELECT data::text FROM overskill_data.entities WHERE id = '{id}'");
    serde_json::from_str(&rows(desk, &sql).await[0]).unwrap()
}

#[tokio::test]
async fn changes_of_the_catalog_reach_the_records() {
    let desk = with_tasks().await;
    let editor = desk.editor();
    assert_eq!(data(&desk, "two").await["n"], 7, "a default");
    let changes = [
        json!({ "change": "create_index", "table": "Task", "columns": ["title"] }),
        json!({ "change": "create_index", "table": "Task", "columns": ["n"] }),
        json!({ "change": "rename_column", "table": "Task", "column": "title", "to": "order" }),
        json!({ "change": "add_column", "table": "Task", "column": { "name": "done", "type": "boolean", "nullable": false, "default": { "value": false } } }),
        json!({ "change": "set_type", "table": "Task", "column": "order", "type": "text" }),
        json!({ "change": "set_type", "table": "Task", "column": "n", "type": "double precision" }),
        json!({ "change": "set_nullable", "table": "Task", "column": "n", "nullable": false }),
        json!({ "change": "set_default", "table": "Task", "column": "order", "default": { "value": "'; DROP TABLE x; --" } }),
        json!({ "change": "drop_index", "table": "Task", "index": "n1" }),
        json!({ "change": "drop_column", "table": "Task", "column": "n" }),
        json!({ "change": "rename_table", "table": "Task", "to": "user" }),
    ];
    for change in &changes {
        let plan = desk.plan(&editor, change.clone()).await.unwrap();
        let before =
            (desk.schema().await, rows(&desk, "SELECT e::text FROM overskill_data.entities e ORDER BY id").await);
        let rehearsal = editor.rehearse(&desk.developer, &desk.scope, &plan).await.unwrap();
        assert!(rehearsal.is_as_planned(), "{change}: {rehearsal:#?}");
        let after =
            (desk.schema().await, rows(&desk, "SELECT e::text FROM overskill_data.entities e ORDER BY id").await);
        assert_eq!(before, after, "{change}: the rehearsal left something");
        let done = desk.apply(&editor, &plan).await.unwrap();
        assert_eq!(desk.apply(&editor, &plan).await.unwrap(), done, "{change}: once more is as good as once");
        assert_ne!(desk.schema().await.fingerprint(), before.0.fingerprint(), "{change}");
        desk.walls_stand().await;
    }
    assert_eq!(
        data(&desk, "one").await,
        json!({ "order": "first", "extra": "12", "done": false, "at": data(&desk, "one").await["at"] })
    );
    let kept =
        rows(&desk, "SELECT concat_ws(',', id, entity_type, owner, t1, n1) FROM overskill_data.entities ORDER BY id")
            .await;
    assert_eq!(
        kept,
        ["gone,user,bob,third", "one,user,ada,first", "two,user,bob,second"],
        "owners and columns of their own stay"
    );
    let schema = desk.schema().await;
    let table = schema.table("user").unwrap();
    assert_eq!((schema.tables.len(), table.rows, table.access), (1, Some(2), Some(SharedAccess::Everybody)));
    let names: Vec<_> = table.columns.iter().map(|it| (it.name.as_str(), it.sql_type.as_str(), it.nullable)).collect();
    assert_eq!(names[3..], [("order", "text", false), ("at", "timestamptz", true), ("done", "boolean", false)]);
    assert_eq!(table.column("order").unwrap().hot.as_deref(), Some("t1"));
    let history = editor.history(&desk.developer, &desk.scope, None).await.unwrap();
    assert_eq!(history.len(), changes.len() + 1);
    assert_eq!((history[0].position.seq, history[0].subject.as_str()), (12, "dev"));
    assert!(history[0].migration().1.contains("SELECT overskill_data.rename_kind('Task', 'user');"));
    desk.change(json!({ "change": "drop_table", "table": "user" })).await;
    assert_eq!(rows(&desk, "SELECT id FROM overskill_data.entities").await, Vec::<String>::new());
    let told = desk.told.0.lock().unwrap();
    assert_eq!((told[1].kind, told[1].stage.as_deref()), (ProgressKind::Completed, Some("table_created")));
    assert_eq!(told.last().unwrap().stage.as_deref(), Some("table_dropped"));
}

#[tokio::test]
async fn records_have_to_fit_their_columns() {
    let desk = with_tasks().await;
    for (bad, word) in [
        (json!({}), "field title must not be empty"),
        (json!({ "title": null }), "field title must not be empty"),
        (json!({ "title": 5 }), "field title must be of type varchar(20)"),
        (json!({ "title": "x".repeat(21) }), "field title must be of type varchar(20)"),
        (json!({ "title": "t", "n": "5" }), "field n must be of type integer"),
        (json!({ "title": "t", "n": 5.5 }), "field n must be of type integer"),
        (json!({ "title": "t", "n": 3_000_000_000_i64 }), "field n must be of type integer"),
        (json!({ "title": "t", "at": "today" }), "field at must be of type timestamptz"),
        (json!({ "title": "t", "at": "2026-13-01T00:00:00Z" }), "field at must be of type timestamptz"),
    ] {
        let e = put(&desk, "ada", "bad", &bad).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains(word), "{bad}: {e}");
    }
    put(&desk, "ada", "good", &json!({ "title": "t", "n": null, "at": "2026-11-22T13:45:00.123Z", "more": [1] }))
        .await
        .unwrap();
    let ada = desk.world.grant("ada", "todo").await;
    let pool = desk.world.pool(Way::Direct);
    let update = "UPDATE overskill_data.entities SET data = '{\"title\": 5}' WHERE id = 'good'";
    let e = pool.with_tenant(&ada, &desk.scope, async |tx| tx.execute(update, &[]).await).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    let api = EntityApi::new(pool.clone());
    let token = desk.world.token("ada", "todo", Rights::of([Right::Data]));
    let path = FilePath::parse("entities/Task").unwrap();
    let request =
        ApiRequest::new(desk.scope.clone(), token, ApiMethod::Post, path).body("application/json", "{\"title\": 5}");
    let answer = api.call(&request).await.unwrap();
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.status == 400 && said.contains("field title must be of type varchar(20)"), "{said}");
    // Tables that nobody spoke of take anything, as ever.
    let other = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Other', 'x', '{\"title\": 5}')";
    pool.with_tenant(&ada, &desk.scope, async |tx| tx.execute(other, &[]).await).await.unwrap();
    assert_eq!(desk.schema().await.table("Other").unwrap().columns.len(), 3);
}

/// Each type takes what it should and refuses the rest, in the database itself.
#[tokio::test]
async fn types_of_fields() {
    let desk = Desk::shared().await;
    let client = desk.raw("postgres").await;
    let uuid = "11111111-2222-3333-4444-555555555555";
    for (kind, good, bad) in [
        ("text", vec![json!(""), json!("x")], vec![json!(1), json!({})]),
        ("varchar(2)", vec![json!("éé")], vec![json!("abc"), json!(1)]),
        (
            "integer",
            vec![json!(0), json!(-2_147_483_648_i64), json!(5.0)],
            vec![json!(2_147_483_648_i64), json!(0.5), json!("1")],
        ),
        ("bigint", vec![json!(i64::MAX)], vec![json!(1e19), json!(true)]),
        ("double precision", vec![json!(0.1), json!(1e300)], vec![json!("0.1")]),
        ("numeric", vec![json!(0.1)], vec![json!([])]),
        ("numeric(4,2)", vec![json!(99.99), json!(-1)], vec![json!(100), json!(0.001)]),
        ("boolean", vec![json!(true)], vec![json!("true"), json!(0)]),
        (
            "uuid",
            vec![json!(uuid), json!(uuid.replace('1', "A"))],
            vec![json!("x"), json!(format!("{uuid}0")), json!(1)],
        ),
        ("date", vec![json!("2024-02-29")], vec![json!("2023-02-29"), json!("yesterday"), json!("2024-2-9")]),
        (
            "timestamptz",
            vec![json!("2024-02-29T10:00:00+01:00")],
            vec![json!("2024-02-29"), json!("now"), json!("2024-02-29T25:00:00Z")],
        ),
        ("jsonb", vec![json!([1, { "a": null }])], vec![]),
        ("unheard of", vec![], vec![json!(1), json!("x")]),
    ] {
        for (values, fits) in [(good, true), (bad, false)] {
            for value in values {
                let row = client.query_one("SELECT overskill_guard.fits($1, $2)", &[&kind, &value]).await.unwrap();
                assert_eq!(row.get::<_, bool>(0), fits, "{kind}: {value}");
            }
        }
    }
}

#[tokio::test]
async fn rows_that_do_not_fit_are_named_and_nothing_happens() {
    let desk = with_tasks().await;
    let editor = desk.editor();
    put(&desk, "ada", "none", &json!({ "title": "x", "n": null })).await.unwrap();
    for (change, ids) in [
        (
            json!({ "change": "set_type", "table": "Task", "column": "title", "type": "integer" }),
            vec!["one", "two", "none"],
        ),
        (json!({ "change": "set_type", "table": "Task", "column": "title", "type": "varchar(5)" }), vec!["two"]),
        (json!({ "change": "set_nullable", "table": "Task", "column": "n", "nullable": false }), vec!["none"]),
        (
            json!({ "change": "add_column", "table": "Task", "column": { "name": "extra", "type": "text" } }),
            vec!["two"],
        ),
        (json!({ "change": "rename_column", "table": "Task", "column": "n", "to": "extra" }), vec!["one", "two"]),
    ] {
        let plan = desk.plan(&editor, change.clone()).await.unwrap();
        let unfit = plan.unfit.clone().unwrap();
        assert_eq!(
            (unfit.rows, unfit.ids),
            (ids.len() as u64, ids.iter().map(|id| (*id).to_owned()).collect()),
            "{change}"
        );
        let before = desk.schema().await;
        for e in [
            desk.apply(&editor, &plan).await.unwrap_err(),
            editor.rehearse(&desk.developer, &desk.scope, &plan).await.unwrap_err(),
        ] {
            assert_eq!(e.kind(), ErrorKind::Invalid);
            assert!(e.to_string().contains(&format!("{} rows do not fit, such as `{}`", ids.len(), ids[0])), "{e}");
        }
        assert_eq!(desk.schema().await, before);
    }
    // A row that came after the plan is seen too.
    let change = json!({ "change": "set_type", "table": "Task", "column": "title", "type": "varchar(10)" });
    let plan = desk.plan(&editor, change).await.unwrap();
    assert_eq!(plan.unfit, None);
    put(&desk, "ada", "late", &json!({ "title": "eleven char" })).await.unwrap();
    let e = desk.apply(&editor, &plan).await.unwrap_err();
    assert!(e.to_string().contains("1 rows do not fit, such as `late`"), "{e}");
}

/// Writers that come between a look at the records and the new columns: none gets something through that does not fit.
#[tokio::test]
async fn writers_cannot_slip_past_a_change() {
    let desk = with_tasks().await;
    let world = &desk.world;
    let ada = world.grant("ada", "todo").await;
    let pool = world.pool(Way::Direct);
    let write = async |n: usize| {
        let mut written = 0;
        for at in 0..40 {
            let (id, data) = (format!("w{n}-{at}"), json!({ "title": format!("{n}"), "word": at }));
            let put = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Task', $1, $2)";
            let done = pool
                .with_tenant(&ada, &desk.scope, async |tx| {
                    tx.execute(put, &[(&id, Type::TEXT), (&data, Type::JSONB)]).await
                })
                .await;
            match done {
                Ok(_) => written += 1,
                Err(e) => assert_eq!(e.kind(), ErrorKind::Invalid, "{e}"),
            }
        }
        written
    };
    let change = async {
        let change = json!({ "change": "add_column", "table": "Task", "column": { "name": "word", "type": "text" } });
        let editor = desk.editor();
        let mut taken = false;
        // The first numbers that come keep it out: they are removed, and it is tried again.
        while !taken {
            let plan = desk.plan(&editor, change.clone()).await.unwrap();
            taken = desk.apply(&editor, &plan).await.is_ok();
            if !taken {
                desk.superuser("DELETE FROM overskill_data.entities WHERE data ? 'word'").await;
            }
        }
    };
    let (one, two, ()) = tokio::join!(write(1), write(2), change);
    let left =
        rows(&desk, "SELECT id FROM overskill_data.entities WHERE jsonb_typeof(data -> 'word') <> 'string'").await;
    assert_eq!(left, Vec::<String>::new(), "{one} and {two} were written");
}

#[tokio::test]
async fn what_shared_tables_do_not_have_is_refused() {
    let desk = with_tasks().await;
    let editor = desk.editor();
    let on = |change: &str, more: Value| {
        let mut change = json!({ "change": change, "table": "Task" });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        change
    };
    for (change, kind, word) in [
        (on("add_unique", json!({ "columns": ["title"] })), ErrorKind::Unsupported, "schema of its own"),
        (
            on("add_foreign_key", json!({ "columns": ["title"], "to": "Task", "to_columns": ["id"] })),
            ErrorKind::Unsupported,
            "foreign keys",
        ),
        (on("drop_constraint", json!({ "constraint": "x" })), ErrorKind::Unsupported, "constraints"),
        (on("drop_column", json!({ "column": "id" })), ErrorKind::Invalid, "every record has"),
        (
            on("add_column", json!({ "column": { "name": "created_at", "type": "date" } })),
            ErrorKind::Invalid,
            "every record has",
        ),
        (on("add_column", json!({ "column": { "name": "title", "type": "date" } })), ErrorKind::Conflict, "already"),
        (on("rename_table", json!({ "to": "Task" })), ErrorKind::Conflict, "already"),
        (on("create_index", json!({ "columns": ["title", "n"] })), ErrorKind::Invalid, "one column"),
        (on("create_index", json!({ "columns": ["nope"] })), ErrorKind::NotFound, "no column `nope`"),
        (json!({ "change": "drop_table", "table": "Nope" }), ErrorKind::NotFound, "no table `Nope`"),
        (
            json!({ "change": "create_table", "table": "T", "columns": [{ "name": "k", "type": "text" }], "primary_key": ["k"] }),
            ErrorKind::Invalid,
            "primary_key",
        ),
    ] {
        let e = desk.plan(&editor, change.clone()).await.unwrap_err();
        assert!(e.kind() == kind && e.to_string().contains(word), "{change}: {e}");
    }
    let few = desk.editor().limits(EditorLimits::new().rows(1));
    let e = desk.plan(&few, on("drop_column", json!({ "column": "n" }))).await.unwrap_err();
    assert!(
        e.kind() == ErrorKind::LimitExceeded
            && e.to_string().contains("more than 1 of them, which is the limit `rows`"),
        "{e}"
    );
    // What touches no record has no such limit.
    let plan = desk.plan(&few, on("set_default", json!({ "column": "n", "default": null }))).await.unwrap();
    desk.apply(&few, &plan).await.unwrap();
}

#[tokio::test]
async fn an_app_sees_and_changes_its_own_tables_alone() {
    let desk = with_tasks().await;
    let world = &desk.world;
    let other = world.grant_of("eve", "shop", Rights::ALL).await;
    let editor = desk.editor();
    let change = read(json!({ "change": "drop_table", "table": "Task" }));
    let e = editor.plan(&other, &scope("shop"), change.clone()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    assert_eq!(editor.plan(&other, &desk.scope, change.clone()).await.unwrap_err().kind(), ErrorKind::Denied);
    // Another's table of the same name is another.
    let create = read(json!({ "change": "create_table", "table": "Task", "columns": [] }));
    let plan = editor.plan(&other, &scope("shop"), create).await.unwrap();
    editor.apply(&other, &scope("shop"), &plan).await.unwrap();
    let plan = editor.plan(&other, &scope("shop"), change).await.unwrap().confirm("table Task").unwrap();
    editor.apply(&other, &scope("shop"), &plan).await.unwrap();
    assert_eq!(desk.schema().await.table("Task").unwrap().rows, Some(2));
    let history = editor.history(&other, &scope("shop"), None).await.unwrap();
    assert_eq!(history.len(), 2);
    // Not even by SQL: the functions look at the signed context.
    let ada = world.grant("ada", "todo").await;
    let pool = world.pool(Way::Direct);
    for sql in [
        "SELECT overskill_data.drop_kind('Task')",
        "SELECT overskill_data.hold_kinds()",
        "SELECT * FROM overskill_data.catalog(10, NULL)",
        "SELECT overskill_data.set_fields('Task', '[]', '{}')",
        "SELECT overskill_data.record_change(1, repeat('a', 32), '{}', '[]')",
        "SELECT * FROM overskill_data.schema_changes(10, 10)",
        "SELECT * FROM overskill_data.unfit('Task', 'title', 'text', true)",
        "SELECT overskill_data.change_field('Task', 'title', NULL, NULL)",
        "SELECT overskill_data.rename_kind('Task', 'x')",
        "SELECT overskill_data.create_kind('x', '[]')",
        "SELECT overskill_data.refill('Task')",
        "SELECT overskill_guard.claim_schema('x', 'todo', 'production')",
        "SELECT * FROM overskill_guard.schema_changes",
    ] {
        let e = pool.with_tenant(&ada, &desk.scope, async |tx| tx.query(sql, &[]).await.map(drop)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Denied, "{sql}: {e}");
    }
}

#[tokio::test]
async fn of_several_editors_one_wins() {
    let desk = with_tasks().await;
    let editor = desk.editor();
    let mut plans = Vec::new();
    for n in 0..4 {
        let change =
            json!({ "change": "add_column", "table": "Task", "column": { "name": format!("c{n}"), "type": "text" } });
        plans.push(desk.plan(&editor, change).await.unwrap());
    }
    let done = futures::future::join_all(plans.iter().map(|plan| desk.apply(&editor, plan))).await;
    let lost: Vec<_> = done.iter().filter_map(|it| it.as_ref().err()).collect();
    assert_eq!(lost.len(), 3);
    assert!(lost.iter().all(|e| e.kind() == ErrorKind::Conflict), "{lost:?}");
}

/// The same tables in a schema of the app's own: its kinds and records are changed there, and what was left behind is not.
#[tokio::test]
async fn an_app_that_moved_is_changed_where_it_is() {
    let desk = with_tasks().await;
    let before = desk.schema().await;
    let mover = Mover::new(desk.world.schema.clone(), desk.world.keys.clone());
    mover.relocate(&desk.world.system, &desk.scope, &Placement::Schema).await.unwrap();
    assert_eq!(desk.schema().await.fingerprint(), before.fingerprint());
    let editor = desk.editor();
    for change in [
        json!({ "change": "add_column", "table": "Task", "column": { "name": "done", "type": "boolean", "nullable": false, "default": { "value": true } } }),
        json!({ "change": "create_index", "table": "Task", "columns": ["title"] }),
        json!({ "change": "rename_table", "table": "Task", "to": "Chore" }),
    ] {
        let plan = desk.plan(&editor, change.clone()).await.unwrap();
        let rehearsal = editor.rehearse(&desk.developer, &desk.scope, &plan).await.unwrap();
        assert!(rehearsal.is_as_planned(), "{change}: {rehearsal:#?}");
        desk.apply(&editor, &plan).await.unwrap();
        desk.walls_stand().await;
    }
    let home = rows(&desk, "SELECT home FROM overskill_guard.apps WHERE app = 'todo'").await.remove(0);
    let sql =
        format!("SELECT concat_ws(',', id, entity_type, owner, t1, data ->> 'done') FROM {home}.entities ORDER BY id");
    assert_eq!(
        rows(&desk, &sql).await,
        ["gone,Chore,bob,third", "one,Chore,ada,first,true", "two,Chore,bob,second,true"]
    );
    let left = rows(&desk, "SELECT DISTINCT entity_type FROM overskill_data.entities").await;
    assert!(!left.contains(&"Chore".to_owned()), "{left:?}");
    desk.change(json!({ "change": "rename_table", "table": "Chore", "to": "Task" })).await;
    let e = put(&desk, "ada", "bad", &json!({ "title": 5 })).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains("field title"), "{e}");
}

/// What a move would refuse is not made in the first place. Short numbers are long where the catalog keeps them.
#[tokio::test]
async fn the_columns_of_a_table_take_a_mebibyte() {
    let desk = Desk::shared().await;
    let column = |n: u32| json!({ "name": format!("c{n}"), "type": "jsonb", "nullable": true, "default": { "value": vec![1e300; 500] } });
    let create = |table: &str, columns: u32| json!({ "change": "create_table", "table": table, "columns": (0..columns).map(column).collect::<Vec<_>>() });
    desk.change(create("large", 6)).await;
    for too_much in [create("larger", 7), json!({ "change": "add_column", "table": "large", "column": column(6) })] {
        let plan = desk.plan(&desk.editor(), too_much).await.unwrap();
        for e in [
            desk.editor().rehearse(&desk.developer, &desk.scope, &plan).await.unwrap_err(),
            desk.apply(&desk.editor(), &plan).await.unwrap_err(),
        ] {
            assert!(e.kind() == ErrorKind::LimitExceeded && e.to_string().contains("may take 1 MiB"), "{e}");
        }
    }
    assert_eq!(desk.schema().await.tables.len(), 1);
}

/// As many as a record, an editor and a move may bring in.
#[tokio::test]
async fn an_app_says_the_rules_of_at_most_500_kinds() {
    let desk = Desk::shared().await;
    let define = async |from: u32, to: u32| {
        let work = async |tx: &TenantTx| {
            for n in from..=to {
                tx.define(&format!("K{n}"), Access::Owner, &[]).await?;
            }
            Ok(())
        };
        desk.world.pool(Way::Direct).with_tenant(&desk.developer, &desk.scope, work).await
    };
    define(1, 500).await.unwrap();
    let e = define(501, 501).await.unwrap_err();
    assert!(e.kind() == ErrorKind::LimitExceeded && e.to_string().contains("at most 500"), "{e}");
    define(500, 500).await.unwrap(); // it is there
}
