//! Each kind of change: the locks that it takes and the tables that it writes anew are those of its plan.

use super::{
    Desk, column,
    support::{Way, scope},
};
use overskill_core::ErrorKind;
use overskill_supabase::{
    ColumnType, LockLevel, RowSecurity, SchemaChange, StepWay, TenantTx, tokio_postgres::types::Type,
};
use serde_json::{Value, json};

/// Two tables with rows, one pointing to the other.
const ROWS: &str = "
    INSERT INTO todo_tables.people (name) SELECT 'p' || n FROM generate_series(1, 30) n;
    INSERT INTO todo_tables.todos (title, n, person)
        SELECT 't' || row_number() OVER (), 1, id FROM todo_tables.people, generate_series(1, 40);";

async fn furnished(desk: &Desk) {
    desk.change(json!({ "change": "create_table", "table": "people", "columns": [
        { "name": "name", "type": "text", "nullable": false } ] }))
        .await;
    desk.change(json!({ "change": "create_table", "table": "todos", "columns": [
        { "name": "title", "type": "varchar(40)" },
        { "name": "n", "type": "integer" },
        { "name": "price", "type": "numeric(10,2)", "default": { "value": 1.5 } },
        { "name": "person", "type": "uuid" },
        { "name": "select", "type": "jsonb", "default": { "value": { "it's": "; --" } } } ] }))
        .await;
    desk.superuser(ROWS).await;
}

/// What is done one after another; `true`: a table is written anew.
fn changes() -> Vec<(Value, bool)> {
    let changes = [
        (json!({ "change": "add_column", "column": { "name": "plain", "type": "text" } }), false),
        (
            json!({ "change": "add_column", "column": { "name": "at", "type": "timestamptz", "nullable": false, "default": "now" } }),
            false,
        ),
        (
            json!({ "change": "add_column", "column": { "name": "done", "type": "boolean", "nullable": false, "default": { "value": false } } }),
            false,
        ),
        (
            json!({ "change": "add_column", "column": { "name": "key", "type": "uuid", "nullable": false, "default": "random_uuid" } }),
            true,
        ),
        (json!({ "change": "rename_column", "column": "plain", "to": "order" }), false),
        (
            json!({ "change": "set_default", "column": "order", "default": { "value": "x'); DROP TABLE people; --" } }),
            false,
        ),
        (json!({ "change": "set_default", "column": "order", "default": null }), false),
        (json!({ "change": "set_nullable", "column": "title", "nullable": false }), false),
        (json!({ "change": "set_nullable", "column": "title", "nullable": true }), false),
        (json!({ "change": "add_unique", "columns": ["title"] }), false),
        (json!({ "change": "create_index", "columns": ["n", "title"] }), false),
        (
            json!({ "change": "add_foreign_key", "columns": ["person"], "to": "people", "to_columns": ["id"], "on_delete": "cascade" }),
            false,
        ),
        (json!({ "change": "drop_constraint", "constraint": "todos_title_key" }), false),
        (json!({ "change": "drop_index", "index": "todos_n_title_idx" }), false),
        (json!({ "change": "set_type", "column": "title", "type": "varchar(80)" }), false),
        (json!({ "change": "set_type", "column": "title", "type": "text" }), false),
        (json!({ "change": "set_type", "column": "price", "type": "numeric(12,2)" }), false),
        (json!({ "change": "set_type", "column": "n", "type": "bigint" }), true),
        (json!({ "change": "drop_column", "column": "person" }), false),
        (json!({ "change": "add_column", "column": { "name": "parent", "type": "uuid" } }), false),
        (
            json!({ "change": "add_foreign_key", "columns": ["parent"], "to": "todos", "to_columns": ["id"], "on_delete": "set_null" }),
            false,
        ),
        (json!({ "change": "add_column", "column": { "name": "person", "type": "uuid" } }), false),
        (json!({ "change": "add_foreign_key", "columns": ["person"], "to": "people", "to_columns": ["id"] }), false),
        (json!({ "change": "drop_constraint", "constraint": "todos_person_fkey" }), false),
        (json!({ "change": "add_foreign_key", "columns": ["person"], "to": "people", "to_columns": ["id"] }), false),
        (json!({ "change": "rename_table", "to": "user" }), false),
        (json!({ "change": "drop_table" }), false),
    ];
    let mut table = "todos";
    let named = changes.into_iter().map(|(mut change, rewrites)| {
        change["table"] = json!(table);
        if change["change"] == "rename_table" {
            table = "user";
        }
        (change, rewrites)
    });
    named.collect()
}

#[tokio::test]
async fn locks_and_rewrites_are_as_planned() {
    let desk = Desk::new().await;
    furnished(&desk).await;
    let editor = desk.editor();
    for (change, rewrites) in changes() {
        let plan = desk.plan(&editor, change.clone()).await.unwrap();
        assert_eq!(plan.rewrites(), rewrites, "{change}");
        assert_eq!((plan.steps.len(), plan.steps[0].way), (1, StepWay::Transaction), "{change}");
        let before = desk.schema().await;
        let rehearsal = editor.rehearse(&desk.developer, &desk.scope, &plan).await.unwrap();
        assert!(rehearsal.is_as_planned(), "{change}: {rehearsal:#?}");
        assert!(rehearsal.statements.iter().any(|it| !it.taken.is_empty()), "{change}");
        assert_eq!(desk.schema().await.fingerprint(), before.fingerprint(), "{change}: the rehearsal left something");
        let done = desk.apply(&editor, &plan).await.unwrap();
        assert_eq!(done.steps, plan.steps);
        assert_ne!(desk.schema().await.fingerprint(), before.fingerprint(), "{change}: nothing was done");
        desk.walls_stand().await;
    }
    let history = editor.history(&desk.developer, &desk.scope, None).await.unwrap();
    assert_eq!(history.len(), changes().len() + 2, "rehearsals leave no trace");
    assert!(history.windows(2).all(|pair| pair[1].position.next() == pair[0].position));
}

#[tokio::test]
async fn large_tables_are_not_locked_for_long() {
    // Past its policies, too.
    let desk = Desk::installed_by("BYPASSRLS").await;
    furnished(&desk).await;
    let editor = desk.careful();
    // The other way leads to the same schema.
    let other = Desk::new().await;
    furnished(&other).await;
    let mut ways = Vec::new();
    for (change, rewrites) in changes() {
        if change["change"] == "set_type" && rewrites {
            let e = desk.plan(&editor, change).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::LimitExceeded);
            assert!(e.to_string().contains("limit `rows`") && e.to_string().contains("`todos.n`"), "{e}");
            continue;
        }
        let plan = desk.plan(&editor, change.clone()).await.unwrap();
        for statement in plan.statements().filter(|it| it.scans || it.rewrites) {
            let held = statement.locks.iter().map(|lock| lock.level).max().unwrap();
            assert!(!held.blocks_writes(), "{change}: {statement:?}");
        }
        let before = desk.schema().await;
        let rehearsal = editor.rehearse(&desk.developer, &desk.scope, &plan).await.unwrap();
        assert!(rehearsal.is_as_planned(), "{change}: {rehearsal:#?}");
        assert_eq!(desk.schema().await.fingerprint(), before.fingerprint(), "{change}: the rehearsal left something");
        let done = desk.apply(&editor, &plan).await.unwrap();
        assert_eq!((done.steps_done, &done.steps), (plan.steps.len(), &plan.steps));
        ways.push((
            change["change"].as_str().unwrap().to_owned(),
            plan.steps.iter().map(|step| step.way).collect::<Vec<_>>(),
        ));
        desk.walls_stand().await;
        other.change(change).await;
        assert_eq!(desk.schema().await.fingerprint(), other.schema().await.fingerprint());
        if ways.len() == 5 {
            let count =
                "SELECT count(*), count(DISTINCT key) FROM todo_tables.todos WHERE done = false AND at <= now()";
            let row = desk.raw("postgres").await.query_one(count, &[]).await.unwrap();
            assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1_200, 1_200), "each row has a key of its own");
        }
    }
    let way =
        |of: &str| ways.iter().find(|(change, ways)| change == of && ways.len() > 1).map(|(_, ways)| ways.clone());
    let alone = ways.iter().find(|(change, _)| change == "create_index").unwrap();
    assert_eq!(alone.1, [StepWay::Concurrently]);
    assert_eq!(way("add_unique").unwrap(), [StepWay::Concurrently, StepWay::Transaction]);
    assert_eq!(way("set_nullable").unwrap(), [StepWay::Transaction; 3]);
    assert_eq!(way("add_foreign_key").unwrap(), [StepWay::Transaction; 2]);
    let filled =
        [StepWay::Transaction, StepWay::Batches, StepWay::Transaction, StepWay::Transaction, StepWay::Transaction];
    assert_eq!(way("add_column").unwrap(), filled);
}

/// Every type that can become another: the flag says the truth, and values survive.
#[tokio::test]
async fn retyping_writes_a_table_anew_where_the_plan_says_so() {
    let kinds = [
        ("text", "'7'"),
        ("varchar(5)", "'7'"),
        ("varchar(9)", "'7'"),
        ("integer", "7"),
        ("bigint", "7"),
        ("double precision", "7"),
        ("numeric", "7"),
        ("numeric(10,2)", "7"),
        ("numeric(12,2)", "7"),
        ("numeric(12,3)", "7"),
        ("boolean", "true"),
        ("uuid", "gen_random_uuid()"),
        ("date", "current_date"),
        ("timestamptz", "now()"),
        ("jsonb", "'7'"),
    ];
    let desk = Desk::new().await;
    let columns: Vec<_> =
        (0..).zip(kinds).map(|(n, (kind, _))| json!({ "name": format!("c{n}"), "type": kind })).collect();
    desk.change(json!({ "change": "create_table", "table": "t", "columns": columns })).await;
    let values: Vec<_> = kinds.iter().map(|(_, value)| *value).collect();
    desk.superuser(&format!("INSERT INTO todo_tables.t VALUES (gen_random_uuid(), {})", values.join(", "))).await;
    let editor = desk.editor();
    let (mut kept, mut rewritten, mut lossy, mut none, mut refused) = (0, 0, 0, 0, 0);
    for n in 0..kinds.len() {
        for (kind, _) in kinds {
            let change = json!({ "change": "set_type", "table": "t", "column": format!("c{n}"), "type": kind });
            let plan = match desk.plan(&editor, change).await {
                Ok(plan) => plan,
                Err(e) => {
                    assert!(e.to_string().contains("cannot become"), "{e}");
                    none += 1;
                    continue;
                }
            };
            let (from, lost) = (kinds[n].0, plan.is_destructive());
            match editor.rehearse(&desk.developer, &desk.scope, &plan).await {
                Ok(rehearsal) => {
                    assert!(rehearsal.is_as_planned(), "{from} to {kind}: {rehearsal:#?}");
                    if plan.rewrites() {
                        rewritten += 1;
                    } else {
                        kept += 1;
                    }
                    lossy += usize::from(lost);
                }
                Err(e) => {
                    // A 7 is no UUID, no day and no truth.
                    assert!(e.to_string().contains("values that are there do not allow this"), "{from} to {kind}: {e}");
                    assert_eq!(e.kind(), ErrorKind::Invalid);
                    refused += 1;
                }
            }
        }
    }
    println!("kept {kept}, rewritten {rewritten} of which lossy {lossy}, without a way {none}, refused {refused}");
    assert!(kept > 15 && rewritten > 40 && lossy > 5 && none > 30 && refused > 10);
}

#[tokio::test]
async fn rows_belong_to_the_app_alone() {
    for attributes in ["NOBYPASSRLS", "BYPASSRLS"] {
        let desk = Desk::installed_by(attributes).await;
        furnished(&desk).await;
        desk.change(json!({ "change": "add_foreign_key", "table": "todos", "columns": ["person"], "to": "people", "to_columns": ["id"] }))
            .await;
        let world = &desk.world;
        let pool = world.pool(Way::Pooled);
        let (ada, bob) = (world.grant("ada", "todo").await, world.grant("bob", "shop").await);
        let count = "SELECT count(*) FROM todo_tables.todos";
        let seen = async |grant, app: &str| {
            let tx = pool.begin(grant, &scope(app)).await.unwrap();
            let seen = tx.query_opt(count, &[]).await.unwrap().unwrap().get::<_, i64>(0);
            tx.rollback().await.unwrap();
            seen
        };
        assert_eq!((seen(&ada, "todo").await, seen(&bob, "shop").await), (1_200, 0));
        // Through keys, too: the rows that a key points to are there for whoever may write.
        let put = "INSERT INTO todo_tables.todos (title, person) SELECT $1, id FROM todo_tables.people LIMIT 1";
        pool.with_tenant(&ada, &scope("todo"), async |tx| tx.execute(put, &[(&"new", Type::TEXT)]).await)
            .await
            .unwrap();
        let e = pool
            .with_tenant(&bob, &scope("shop"), async |tx| {
                tx.execute("INSERT INTO todo_tables.todos (title) VALUES ('stranger')", &[]).await
            })
            .await
            .unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Denied);
        let truncate = async |tx: &TenantTx| tx.execute("TRUNCATE todo_tables.todos", &[]).await;
        let truncated = pool.with_tenant(&ada, &scope("todo"), truncate).await;
        assert_eq!(truncated.unwrap_err().kind(), ErrorKind::Denied);
        let schema = desk.schema().await;
        for table in &schema.tables {
            assert_eq!(table.row_security, RowSecurity::Forced);
            assert!(table.policies.iter().any(|it| it.name == "app" && !it.permissive && it.roles == ["public"]));
            assert!(table.bytes.unwrap() > 0);
        }
    }
}

/// The audit sees what is wrong with tables of such schemas, and the editor leaves none so.
#[tokio::test]
async fn the_audit_looks_at_apps_schemas() {
    let desk = Desk::new().await;
    furnished(&desk).await;
    for (opened, closed, word) in [
        ("CREATE TABLE todo_tables.x ()", "DROP TABLE todo_tables.x", "no forced row level security"),
        (
            "ALTER TABLE todo_tables.todos NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE todo_tables.todos FORCE ROW LEVEL SECURITY",
            "no forced row level security",
        ),
        (
            "ALTER POLICY app ON todo_tables.todos USING (true)",
            "ALTER POLICY app ON todo_tables.todos USING ((SELECT overskill_guard.app()) = 1)",
            "no restrictive policy",
        ),
        (
            "CREATE POLICY open ON todo_tables.todos USING (true)",
            "DROP POLICY open ON todo_tables.todos",
            "lets everybody in",
        ),
        (
            "GRANT TRUNCATE ON todo_tables.todos TO overskill_app",
            "REVOKE TRUNCATE ON todo_tables.todos FROM overskill_app",
            "overskill_app has TRUNCATE",
        ),
        (
            "GRANT SELECT ON todo_tables.todos TO PUBLIC",
            "REVOKE SELECT ON todo_tables.todos FROM PUBLIC",
            "everybody has SELECT",
        ),
        ("CREATE VIEW todo_tables.v AS SELECT 1", "DROP VIEW todo_tables.v", "security_invoker"),
    ] {
        desk.superuser(opened).await;
        let found = desk.world.schema.audit(&desk.world.system).await.unwrap();
        assert!(found.iter().any(|finding| finding.contains(word)), "{opened}: {found:?}");
        let editor = desk.editor();
        let plan =
            desk.plan(&editor, json!({ "change": "create_index", "table": "todos", "columns": ["n"] })).await.unwrap();
        let e = desk.apply(&editor, &plan).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Unsupported && e.to_string().contains(word), "{opened}: {e}");
        desk.superuser(closed).await;
        desk.walls_stand().await;
    }
}

#[tokio::test]
async fn a_plan_can_be_shown() {
    let desk = Desk::new().await;
    furnished(&desk).await;
    let change = SchemaChange::AddColumn { table: super::name("todos"), column: column("word", ColumnType::Text) };
    let plan = desk.editor().plan(&desk.developer, &desk.scope, change).await.unwrap();
    assert_eq!(plan.strongest_lock(), Some(LockLevel::AccessExclusive));
    let shown = serde_json::to_value(&plan).unwrap();
    assert_eq!(
        shown["steps"][0]["statements"][0]["sql"],
        "ALTER TABLE \"todo_tables\".\"todos\" ADD COLUMN \"word\" text"
    );
    assert_eq!(shown["steps"][0]["statements"][0]["locks"][0]["level"], "access_exclusive");
    assert_eq!(shown["change"]["change"], "add_column");
}
