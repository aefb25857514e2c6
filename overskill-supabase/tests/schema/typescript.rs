//! The types that are exported, judged by deno's own compiler.

use super::Desk;
use overskill_supabase::AppSchema;
use serde_json::json;
use std::{fs, path::Path, process::Command};

fn check(schema: &AppSchema, use_of_it: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("database.ts"), schema.to_typescript()).unwrap();
    fs::write(folder.path().join("use.ts"), use_of_it).unwrap();
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/node_modules/@deno/linux-x64-glibc/deno");
    let deno = std::env::var_os("OVERSKILL_DENO").map_or(pinned, Into::into);
    assert!(deno.is_file(), "deno is not installed: run `cargo xtask setup`, or set OVERSKILL_DENO");
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deno");
    let mut command = Command::new(deno);
    command.args(["check", "--no-remote", "--quiet", "use.ts"]).current_dir(folder.path());
    let done = command.env("DENO_DIR", cache).env("NO_COLOR", "1").output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}\n{}", schema.to_typescript());
}

#[tokio::test]
async fn types_are_those_of_the_tables() {
    let desk = Desk::new().await;
    desk.change(json!({ "change": "create_table", "table": "people", "columns": [{ "name": "name", "type": "text", "nullable": false }] })).await;
    desk.change(json!({ "change": "create_table", "table": "todos", "columns": [
        { "name": "title", "type": "varchar(20)", "nullable": false }, { "name": "n", "type": "numeric(4,1)" },
        { "name": "done", "type": "boolean", "nullable": false, "default": { "value": false } },
        { "name": "class", "type": "jsonb" }, { "name": "person", "type": "uuid" } ] }))
        .await;
    desk.change(json!({ "change": "add_foreign_key", "table": "todos", "columns": ["person"], "to": "people", "to_columns": ["id"] })).await;
    desk.superuser("ALTER TABLE todo_tables.todos ADD COLUMN \"it's \"\"odd\" int[]").await;
    check(
        &desk.schema().await,
        r#"import type { Database, Tables, TablesInsert, TablesUpdate } from "./database.ts";
        const row: Tables<"todos"> = { id: "x", title: "t", n: null, done: true, class: { a: [1] }, person: null, "it's \"odd": [1] };
        const title: string = row.title;
        const insert: TablesInsert<"todos"> = { title: "t" };
        const update: TablesUpdate<"todos"> = { n: 5 };
        const to: Database["todo_tables"]["Tables"]["todos"]["Relationships"][0]["referencedRelation"] = "people";
        // @ts-expect-error a title is needed
        const no_title: TablesInsert<"todos"> = { n: 1 };
        // @ts-expect-error a title is text
        const wrong: TablesUpdate<"todos"> = { title: 5 };
        // @ts-expect-error a title is never null
        const none: TablesUpdate<"todos"> = { title: null };
        // @ts-expect-error there is no such table
        type None = Tables<"nope">;
        export { insert, no_title, none, title, to, update, wrong };
        export type { None };"#,
    );
    let exported = desk.schema().await.to_json();
    assert_eq!(exported["tables"][1]["columns"][1]["type"], "varchar(20)");
    assert_eq!(exported["tables"][1]["foreign_keys"][0]["to"], "people");
}

#[tokio::test]
async fn types_of_shared_tables() {
    let desk = Desk::shared().await;
    check(
        &desk.schema().await,
        r#"import type { Database } from "./database.ts"; export type It = Database["entities"];"#,
    );
    desk.change(json!({ "change": "create_table", "table": "Task", "columns": [
        { "name": "title", "type": "text", "nullable": false }, { "name": "n", "type": "integer" } ] }))
        .await;
    check(
        &desk.schema().await,
        r#"import type { Tables, TablesInsert } from "./database.ts";
        const insert: TablesInsert<"Task"> = { title: "t" };
        const created: Tables<"Task">["created_at"] = "2026-11-22T00:00:00.000Z";
        // @ts-expect-error numbers only
        const wrong: TablesInsert<"Task"> = { title: "t", n: "5" };
        export { created, insert, wrong };"#,
    );
}
