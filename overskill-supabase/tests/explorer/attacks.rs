//! Queries that no developer may run. Each is shown to work, or to reach the database's own walls, where people would have
//! let it: on the check "it begins with SELECT, and there is no second statement", with a role that sees all tables. Ours
//! refuses it before the database hears of it; what the list would let through, the role and the policies stop.

use crate::{Field, scope};
use overskill_core::ErrorKind;
use overskill_supabase::{
    ExplorerLimits, Query, Table,
    tokio_postgres::{Client, SimpleQueryMessage},
};

use crate::support::Way;

/// The check that people write.
fn looks_harmless(sql: &str) -> bool {
    let text = sql.trim().to_lowercase();
    (text.starts_with("select") || text.starts_with("with") || text.starts_with("values")) && !text.contains("; drop")
}

/// The weak twin: the check, then the text as it is, in a transaction that reads, as a role that owns things.
async fn weak(client: &Client, sql: &str) -> Option<String> {
    assert!(looks_harmless(sql), "the attack does not pass the weak check: {sql}");
    client.batch_execute("BEGIN READ ONLY; SET LOCAL statement_timeout = '3s'").await.unwrap();
    let answer = client.simple_query(sql).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    let mut text = String::new();
    for message in answer.ok()? {
        if let SimpleQueryMessage::Row(row) = message {
            text.extend((0..row.len()).filter_map(|n| row.get(n)));
            text.push('\n');
        }
    }
    Some(text)
}

async fn ours(field: &Field, sql: &str) -> overskill_core::Result<Table> {
    let explorer = field.explorer(Way::Direct, ExplorerLimits::new());
    explorer.table(&field.developer("todo").await, &scope("todo"), &Query::new(sql)).await
}

/// What nobody of `todo` may see.
const DIARY: &str = "the diary of shop";

/// Makes all of them in turn, none of which changes anything, and tells by name of each that does not go as it should.
macro_rules! attacks {
    ($($name:ident: $sql:expr, $worked:expr;)*) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn none_succeeds() {
            let field = Field::new().await;
            let client = field.world.raw(Way::Direct, "postgres").await;
            let mut failed = Vec::new();
            $(
                let worked: fn(Option<&str>) -> bool = $worked;
                failed.extend(attack(&field, &client, $sql, worked).await.err().map(|why| format!("{}: {why}", stringify!($name))));
            )*
            assert!(failed.is_empty(), "{} did not go as they should:\n{}", failed.len(), failed.join("\n"));
        }
    };
}

/// The error says what was seen instead.
async fn attack(field: &Field, client: &Client, sql: &str, worked: fn(Option<&str>) -> bool) -> Result<(), String> {
    let got = weak(client, sql).await;
    if !worked(got.as_deref()) {
        return Err(format!("the attack does not work on the weak twin: {got:?}"));
    }
    match ours(field, sql).await {
        Ok(rows) => Err(format!("it was not refused: {rows:?}")),
        Err(e) if format!("{e:?}").contains(DIARY) => Err(format!("the refusal tells: {e}")),
        Err(e) if e.kind() == ErrorKind::Invalid && e.message().starts_with("query ") => Ok(()),
        Err(e) => Err(format!("it was refused, but not by the list: {e}")),
    }
}

fn leaked(got: Option<&str>) -> bool {
    got.is_some_and(|it| it.contains(DIARY))
}

fn ran(got: Option<&str>) -> bool {
    got.is_some()
}

attacks! {
    the_shared_table_by_its_name: "SELECT data FROM overskill_data.entities", leaked;
    the_shared_table_through_a_subquery: "SELECT (SELECT string_agg(data::text, '') FROM overskill_data.entities)", leaked;
    the_shared_table_through_a_common_table: "WITH x AS (SELECT * FROM overskill_data.entities) SELECT data FROM x", leaked;
    sql_within_sql: "SELECT query_to_xml('select data from overskill_data.entities', true, true, '')", leaked;
    a_whole_table_as_xml: "SELECT table_to_xml('overskill_data.entities'::regclass, true, true, '')", leaked;
    a_whole_schema_as_xml: "SELECT schema_to_xml('overskill_data', true, true, '')", leaked;
    another_context: "SELECT set_config('overskill.context', 'x', true)", ran;
    another_role: "SELECT set_config('role', 'service_role', true)", ran;
    settings_that_are_secret: "SELECT current_setting('data_directory')", ran;
    files_of_the_server: "SELECT pg_read_file('PG_VERSION')", ran;
    folders_of_the_server: "SELECT pg_ls_dir('.')", ran;
    other_peoples_queries: "SELECT query FROM pg_stat_activity", ran;
    other_peoples_queries_by_schema: "SELECT query FROM pg_catalog.pg_stat_activity", ran;
    names_of_everything: "SELECT relname FROM pg_class", |got| got.is_some_and(|it| it.contains("entities"));
    names_through_a_type: "SELECT 'overskill_guard.keys'::regclass::oid", ran;
    keys_of_contexts: "SELECT inner_pad FROM overskill_guard.keys", |got| got.is_some_and(|it| it.contains("\\x"));
    ending_other_sessions: "SELECT pg_terminate_backend(0)", ran;
    locks_that_others_wait_for: "SELECT pg_advisory_lock(1)", ran;
    messages_to_others: "SELECT pg_notify('a', 'b')", ran;
    time_that_is_wasted: "SELECT pg_sleep(0.01)", ran;
    memory_that_is_wasted: "SELECT length(repeat('x', 50000000))", ran;
    rows_that_are_locked: "SELECT id FROM Task FOR UPDATE", |got| got.is_none();
    a_table_that_is_made: "SELECT id INTO stolen FROM Task", |got| got.is_none();
    a_change_within_a_query: "WITH x AS (DELETE FROM overskill_data.entities RETURNING data) SELECT data FROM x", |got| got.is_none();
    two_statements: "SELECT 1; SELECT data FROM overskill_data.entities", leaked;
    out_of_the_transaction: "SELECT 1; COMMIT; SELECT data FROM overskill_data.entities", leaked;
    a_comment_that_hides: "SELECT/**/data/**/FROM/**/overskill_data/**/./**/entities", leaked;
    letters_in_disguise: "SELECT data FROM U&\"overskill!005fdata\" UESCAPE '!'.entities", leaked;
    a_schema_in_quotes: "SELECT data FROM \"overskill_data\".\"entities\"", leaked;
    text_in_dollars: "SELECT $$x$$", ran;
    an_operator_with_a_schema: "SELECT 1 OPERATOR(pg_catalog.+) 1", ran;
    a_column_of_the_system: "SELECT tableoid FROM overskill_data.entities", ran;
    a_recursion_without_end: "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT 1 FROM x) SELECT count(*) FROM x", |got| got.is_none();
    a_name_seen_from_outside_its_scope:
        "SELECT (WITH pg_authid AS (SELECT 1) SELECT count(*) FROM pg_authid), (SELECT string_agg(rolname, ' ') FROM pg_authid)",
        |got| got.is_some_and(|it| it.contains("postgres"));
    a_name_in_other_letters:
        "WITH \"Pg_Authid\" AS (SELECT 1) SELECT rolname FROM Pg_Authid",
        |got| got.is_some_and(|it| it.contains("postgres"));
    the_user_that_runs_it: "SELECT current_user", ran;
    the_server_that_runs_it: "SELECT version(), inet_server_addr()", ran;
    statistics_of_all_apps: "SELECT most_common_vals FROM pg_stats", ran;
    large_objects: "SELECT lo_get(1)", |got| got.is_none();
    a_function_in_place_of_a_table: "SELECT * FROM pg_ls_waldir()", ran;
    a_function_of_another_schema: "SELECT pg_catalog.pg_backend_pid()", ran;
    a_sample_of_a_table: "SELECT data FROM overskill_data.entities TABLESAMPLE SYSTEM (100)", leaked;
    json_that_names_a_table: "SELECT database_to_xml(true, true, '')", leaked;
    a_sequence_that_counts: "SELECT nextval('overskill_guard.apps_app_id_seq')", |got| got.is_none();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_list_the_walls_stand_too() {
    // As if the list let everything through: the same role and context, the text as it is, on the bare connection.
    let field = Field::new().await;
    let client = field.world.raw(Way::Direct, "overskill_explorer").await;
    let grant = field.developer("todo").await;
    let role = field.world.pool_with(
        Way::Direct,
        "overskill_explorer",
        overskill_supabase::PoolOptions::new().right(overskill_core::Right::Develop),
    );
    for sql in [
        "SELECT data FROM overskill_data.entities",
        "SELECT query_to_xml('select data from overskill_data.entities', true, true, '')::text",
        "SELECT schema_to_xml('overskill_data', true, true, '')::text",
        "SELECT inner_pad FROM overskill_guard.keys",
        "SELECT set_config('overskill.context', 'x', true), (SELECT string_agg(data::text, '') FROM overskill_data.entities)",
        "SELECT set_config('role', 'service_role', true)",
        "SELECT pg_read_file('PG_VERSION')",
        "DELETE FROM overskill_data.entities",
        "SELECT most_common_vals::text FROM pg_stats WHERE schemaname = 'overskill_data'",
    ] {
        // Without a context there is nothing; with one there are no rows of others.
        let bare = client.simple_query(sql).await;
        assert!(!format!("{bare:?}").contains(DIARY), "{sql}");
        let tx = role.begin_read_only(&grant, &scope("todo")).await.unwrap();
        let inside = tx.query(sql, &[]).await;
        assert!(!format!("{inside:?}").contains(DIARY), "{sql}");
        if let Ok(rows) = inside {
            for row in rows.iter().filter(|row| !row.is_empty()) {
                let text = row.try_get::<_, Option<&str>>(0).ok().flatten().unwrap_or_default().to_owned();
                assert!(!text.contains(DIARY), "{sql}");
            }
        }
        drop(tx);
    }
}
