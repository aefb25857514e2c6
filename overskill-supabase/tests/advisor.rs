//! Supabase's own advisor, from npm's package `supabase`, finds nothing to say about our schema.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_core::Rights;
use overskill_supabase::{AppTables, Name, SchemaEditor};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use support::{DATABASE, Way, World, scope};

/// The program of npm's package; `cargo xtask setup` installs it.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("OVERSKILL_SUPABASE_CLI") {
        return named.into();
    }
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/supabase/node_modules/@supabase");
    let found = packages.read_dir().into_iter().flatten().flatten().map(|entry| entry.path().join("bin/supabase"));
    found.into_iter().find(|file| file.is_file()).expect(
        "Supabase's command line is not installed: run `cargo xtask setup`, or `npm ci` in tools/supabase, or set \
         OVERSKILL_SUPABASE_CLI",
    )
}

/// Whether it is content, and what it said.
fn advisors(world: &World) -> (bool, String) {
    let home = std::env::temp_dir().join(format!("overskill-advisor-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let url = format!("{}?sslmode=disable", world.cluster.tcp_url(DATABASE));
    let output = Command::new(program())
        .args(["db", "advisors", "--fail-on", "warn", "--level", "warn"])
        .arg(format!("--remote={url}"))
        .current_dir(&home)
        .env("HOME", &home)
        .env("DO_NOT_TRACK", "1")
        .output()
        .unwrap();
    let _ = std::fs::remove_dir_all(&home);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn supabases_advisor_is_content() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    let work = async |tx: &overskill_supabase::TenantTx| {
        let put = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', 'x', '{}')";
        tx.execute(put, &[]).await
    };
    world.pool(Way::Direct).with_tenant(&grant, &scope("one"), work).await.unwrap();
    own_tables(&world).await;
    let (content, said) = advisors(&world);
    assert!(content, "{said}");
    // It would not be with what AI-made apps are known for.
    world
        .cluster
        .execute(DATABASE, "CREATE TABLE public.todos (id int PRIMARY KEY); GRANT SELECT ON public.todos TO anon")
        .unwrap();
    let (content, said) = advisors(&world);
    assert!(!content && said.contains("RLS has not been enabled"), "{said}");
}

/// Tables in a schema of an app's own, as its developer makes them.
async fn own_tables(world: &World) {
    let server = support::server(&world.url(Way::Direct, "host"));
    let place = Name::parse("one_tables").unwrap();
    let tables = AppTables::own(server, world.gate.clone(), world.keys.clone(), place);
    tables.prepare(&world.system, &scope("one")).await.unwrap();
    let developer = world.grant_of("dev", "one", Rights::ALL).await;
    let editor = SchemaEditor::new(tables);
    for change in [
        r#"{ "change": "create_table", "table": "people", "columns": [{ "name": "name", "type": "text" }] }"#,
        r#"{ "change": "create_table", "table": "todos", "columns": [{ "name": "person", "type": "uuid" }] }"#,
        r#"{ "change": "create_index", "table": "todos", "columns": ["person"] }"#,
        r#"{ "change": "add_foreign_key", "table": "todos", "columns": ["person"], "to": "people", "to_columns": ["id"] }"#,
    ] {
        let change = serde_json::from_str(change).unwrap();
        let plan = editor.plan(&developer, &scope("one"), change).await.unwrap();
        editor.apply(&developer, &scope("one"), &plan).await.unwrap();
    }
}
