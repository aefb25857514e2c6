//! Bad input: a clear error that names the field and the limit, and nothing applied.

use super::{
    Desk, own, read,
    support::{World, scope},
    user,
};
use overskill_core::ErrorKind;
use overskill_supabase::{EditorLimits, Name, SchemaChange, SchemaEditor, SchemaInspector};
use serde_json::{Value, json};

#[test]
fn what_cannot_be_read_names_the_field_and_the_rule() {
    let long = "n".repeat(64);
    let add = |name: &str, kind: &str| json!({ "change": "add_column", "table": "todos", "column": { "name": name, "type": kind } });
    for (given, word) in [
        (json!({ "change": "drop_table", "table": long }), "name must be 1 to 63 bytes long"),
        (json!({ "change": "drop_table", "table": "\"todos\"" }), "name must be given without quotes"),
        (json!({ "change": "drop_table", "table": "todos; DROP TABLE people" }), "name may hold only"),
        (json!({ "change": "drop_table", "table": "todos\" CASCADE --" }), "name may hold only"),
        (json!({ "change": "drop_table", "table": "public.todos" }), "name may hold only"),
        (add("ctid", "text"), "Postgres' own columns"),
        (add("x", "strnig"), "column type must be text, varchar(n)"),
        (add("x", "text); DROP TABLE people; --"), "column type must be text, varchar(n)"),
        (add("x", "varchar(99999999999)"), "column type must be"),
        (json!({ "change": "run_sql", "sql": "DROP TABLE people" }), "unknown variant `run_sql`"),
        (
            json!({ "change": "set_default", "table": "t", "column": "c", "default": { "sql": "now()" } }),
            "unknown variant `sql`",
        ),
    ] {
        let e = serde_json::from_value::<SchemaChange>(given.clone()).unwrap_err().to_string();
        assert!(e.contains(word), "{given}: {e}");
    }
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a list")]
async fn what_could_not_be_is_refused_and_nothing_applied() {
    let desk = Desk::new().await;
    desk.change(json!({ "change": "create_table", "table": "people", "columns": [{ "name": "name", "type": "text", "nullable": false }] })).await;
    desk.change(json!({ "change": "create_table", "table": "todos", "columns": [
        { "name": "k1", "type": "text", "nullable": false }, { "name": "k2", "type": "integer", "nullable": false },
        { "name": "person", "type": "uuid" }, { "name": "n", "type": "integer", "default": { "value": 1 } } ],
        "primary_key": ["k1", "k2"] }))
        .await;
    desk.change(json!({ "change": "add_foreign_key", "table": "todos", "columns": ["person"], "to": "people", "to_columns": ["id"] })).await;
    desk.superuser("INSERT INTO todo_tables.todos VALUES ('a', 1), ('b', 2)").await;
    let before = desk.schema().await;
    let on = |change: &str, more: Value| {
        let mut change = json!({ "change": change, "table": "todos" });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        change
    };
    let many: Vec<_> = (0..201).map(|n| json!({ "name": format!("c{n}"), "type": "text" })).collect();
    for (change, kind, word) in [
        (json!({ "change": "create_table", "table": "todos", "columns": [] }), ErrorKind::Conflict, "`todos` already"),
        (json!({ "change": "create_table", "table": "people_pkey", "columns": [] }), ErrorKind::Conflict, "already"),
        (
            json!({ "change": "create_table", "table": "t", "columns": many }),
            ErrorKind::Invalid,
            "columns must name 0 to 200",
        ),
        (
            json!({ "change": "create_table", "table": "t", "columns": [{ "name": "a", "type": "text" }, { "name": "a", "type": "text" }] }),
            ErrorKind::Invalid,
            "columns names the column `a` twice",
        ),
        (
            json!({ "change": "create_table", "table": "t", "columns": [], "primary_key": ["x"] }),
            ErrorKind::Invalid,
            "primary_key names `x`",
        ),
        (
            json!({ "change": "create_table", "table": "t", "columns": [{ "name": "id", "type": "text" }] }),
            ErrorKind::Invalid,
            "primary_key",
        ),
        (
            json!({ "change": "create_table", "table": "t", "columns": [{ "name": "a", "type": "integer", "default": { "value": "1; DROP" } }] }),
            ErrorKind::Invalid,
            "default must be a value of that type for a column of type integer",
        ),
        (json!({ "change": "drop_table", "table": "people" }), ErrorKind::Conflict, "rows of `todos` point to it"),
        (json!({ "change": "drop_table", "table": "nope" }), ErrorKind::NotFound, "no table `nope`"),
        (on("rename_table", json!({ "to": "people" })), ErrorKind::Conflict, "`people` already"),
        (on("add_column", json!({ "column": { "name": "n", "type": "text" } })), ErrorKind::Conflict, "`n` already"),
        (
            on("add_column", json!({ "column": { "name": "x", "type": "text", "nullable": false } })),
            ErrorKind::Invalid,
            "column `x` must be nullable or have a default",
        ),
        (on("drop_column", json!({ "column": "k1" })), ErrorKind::Invalid, "primary key"),
        (json!({ "change": "drop_column", "table": "people", "column": "id" }), ErrorKind::Invalid, "primary key"),
        (on("set_nullable", json!({ "column": "k1", "nullable": true })), ErrorKind::Invalid, "primary key"),
        (on("set_type", json!({ "column": "person", "type": "text" })), ErrorKind::Conflict, "todos_person_fkey"),
        (
            json!({ "change": "set_type", "table": "people", "column": "id", "type": "text" }),
            ErrorKind::Conflict,
            "todos_person_fkey",
        ),
        (on("set_type", json!({ "column": "n", "type": "uuid" })), ErrorKind::Invalid, "cannot become uuid"),
        (
            on("set_type", json!({ "column": "n", "type": "text" })),
            ErrorKind::Conflict,
            "has a default of type integer",
        ),
        (on("set_default", json!({ "column": "n", "default": "now" })), ErrorKind::Invalid, "default"),
        (on("add_unique", json!({ "columns": [] })), ErrorKind::Invalid, "columns must name 1 to 8 columns"),
        (on("add_unique", json!({ "columns": ["k1", "k2"] })), ErrorKind::Conflict, "unique in these columns already"),
        (on("create_index", json!({ "columns": ["n", "n"] })), ErrorKind::Invalid, "twice"),
        (on("drop_index", json!({ "index": "todos_pkey" })), ErrorKind::Invalid, "stands for a key"),
        (on("drop_constraint", json!({ "constraint": "todos_pkey" })), ErrorKind::NotFound, "todos_pkey"),
        (
            on("add_foreign_key", json!({ "columns": ["n"], "to": "people", "to_columns": ["id"] })),
            ErrorKind::Invalid,
            "`todos.n` is of type integer, but `people.id` is of type uuid",
        ),
        (
            on("add_foreign_key", json!({ "columns": ["k1"], "to": "people", "to_columns": ["name"] })),
            ErrorKind::Invalid,
            "primary key of `people`",
        ),
        (
            on("add_foreign_key", json!({ "columns": ["k1", "n"], "to": "people", "to_columns": ["id"] })),
            ErrorKind::Invalid,
            "to_columns must name 2 to 2 columns",
        ),
    ] {
        let e = desk.plan(&desk.editor(), change.clone()).await.unwrap_err();
        assert!(e.kind() == kind && e.to_string().contains(word), "{change}: {e}");
    }
    assert_eq!(desk.schema().await, before);
    let history = desk.editor().history(&desk.developer, &desk.scope, None).await.unwrap();
    assert_eq!(history.len(), 3);
}

#[tokio::test]
async fn what_would_lock_a_large_table_names_the_limit() {
    let desk = Desk::new().await;
    desk.change(json!({ "change": "create_table", "table": "todos", "columns": [{ "name": "n", "type": "integer" }] }))
        .await;
    desk.superuser("INSERT INTO todo_tables.todos (n) SELECT generate_series(1, 101)").await;
    let retype = json!({ "change": "set_type", "table": "todos", "column": "n", "type": "bigint" });
    for (limits, word) in [
        (EditorLimits::new().rows(100), "more than 100 rows, which is the limit `rows`"),
        (EditorLimits::new().bytes(8_192), "the limit `bytes` is 8192"),
    ] {
        let e = desk.plan(&desk.editor().limits(limits), retype.clone()).await.unwrap_err();
        assert!(e.kind() == ErrorKind::LimitExceeded && e.to_string().contains(word), "{e}");
        assert!(e.to_string().contains("add a column of type bigint"), "{e}");
    }
    assert_eq!(desk.schema().await.tables[0].columns[1].sql_type, "integer");
    let plan = desk.plan(&desk.editor().limits(EditorLimits::new().rows(101)), retype).await.unwrap();
    desk.apply(&desk.editor().limits(EditorLimits::new().rows(101)), &plan).await.unwrap();
}

#[tokio::test]
async fn what_destroys_has_to_be_confirmed_by_name() {
    let desk = Desk::new().await;
    desk.change(
        json!({ "change": "create_table", "table": "todos", "columns": [{ "name": "at", "type": "timestamptz" }] }),
    )
    .await;
    for (change, what) in [
        (json!({ "change": "drop_table", "table": "todos" }), "table todos"),
        (json!({ "change": "drop_column", "table": "todos", "column": "at" }), "column todos.at"),
        (
            json!({ "change": "set_type", "table": "todos", "column": "at", "type": "date" }),
            "what does not fit date in column todos.at",
        ),
    ] {
        let before = desk.schema().await;
        let plan = desk.plan(&desk.editor(), change.clone()).await.unwrap();
        assert_eq!(plan.destroys.as_deref(), Some(what));
        let e = desk.editor().apply(&desk.developer, &desk.scope, &plan).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Invalid && e.to_string().contains(what), "{e}");
        assert!(plan.clone().confirm("table people").unwrap_err().to_string().contains(what));
        assert_eq!(desk.schema().await, before, "{change}");
    }
    let plan = desk
        .plan(&desk.editor(), json!({ "change": "create_index", "table": "todos", "columns": ["at"] }))
        .await
        .unwrap();
    assert!(plan.confirm("index").is_err(), "nothing is lost");
}

/// Every entry point wants a grant of this gate, with the right to develop.
#[tokio::test]
async fn grants_are_checked() {
    for desk in [Desk::new().await, Desk::shared().await] {
        let create = json!({ "change": "create_table", "table": "todos", "columns": [] });
        let plan = desk.plan(&desk.editor(), create.clone()).await.unwrap();
        let stranger = World::new().await;
        let foreign = stranger.grant_of("dev", "todo", overskill_core::Rights::ALL).await;
        for grant in [user(&desk.world).await, foreign] {
            let (editor, at) = (desk.editor(), &desk.scope);
            let refused = [
                SchemaInspector::new(desk.tables.clone()).inspect(&grant, at).await.map(drop),
                editor.plan(&grant, at, read(create.clone())).await.map(drop),
                editor.rehearse(&grant, at, &plan).await.map(drop),
                editor.apply(&grant, at, &plan).await.map(drop),
                editor.resume(&grant, at).await.map(drop),
                editor.abandon(&grant, at).await.map(drop),
                editor.history(&grant, at, None).await.map(drop),
            ];
            for (n, done) in refused.into_iter().enumerate() {
                assert_eq!(done.unwrap_err().kind(), ErrorKind::Denied, "entry point {n}");
            }
        }
        assert_eq!(desk.tables.prepare(&stranger.system, &desk.scope).await.unwrap_err().kind(), ErrorKind::Denied);
        assert!(desk.schema().await.tables.is_empty());
    }
    // Without the schema of tenants, there is nothing to hold on to.
    let bare = World::bare("NOBYPASSRLS").await;
    assert!(own(&bare, "todo_tables").prepare(&bare.system, &scope("todo")).await.is_err());
    let editor = SchemaEditor::new(own(&bare, "todo_tables"));
    let developer = bare.grant_of("dev", "todo", overskill_core::Rights::ALL).await;
    let change = SchemaChange::DropTable { table: Name::parse("t").unwrap() };
    assert!(editor.plan(&developer, &scope("todo"), change).await.is_err());
}

/// What is wrong in another app's schema is no hindrance here, and not told here.
#[tokio::test]
async fn faults_of_another_apps_tables_are_not_this_ones() {
    let desk = Desk::new().await;
    let other = own(&desk.world, "shop_tables");
    other.prepare(&desk.world.system, &scope("shop")).await.unwrap();
    desk.superuser("CREATE TABLE shop_tables.diary (app_id bigint, secret text)").await;
    let found = desk.world.schema.audit(&desk.world.system).await.unwrap();
    assert!(found.iter().any(|finding| finding.contains("shop_tables.diary")), "{found:?}");
    let create = |table: &str| json!({ "change": "create_table", "table": table, "columns": [{ "name": "title", "type": "text" }] });
    desk.change(create("todos")).await;
    // Its own are.
    desk.superuser("CREATE TABLE todo_tables.open (app_id bigint)").await;
    let editor = desk.editor();
    let plan = desk.plan(&editor, create("more")).await.unwrap();
    let e = desk.apply(&editor, &plan).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("todo_tables.open"), "{e}");
    assert!(!format!("{e:?}").contains("shop_tables"), "{e:?}");
}

#[tokio::test]
async fn the_schema_that_everybody_has_is_no_apps() {
    let desk = Desk::new().await;
    let e = own(&desk.world, "public").prepare(&desk.world.system, &scope("todo")).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Conflict && e.message().contains("`public`"), "{e}");
}
