//! Queries that no developer may run. Each is shown to work, or to reach the database's own walls, where people would have
//! let it: on the check "it begins with SELECT, and there is no second statement", with a role that sees all tables. Ours
//! refuses it before the database hears of it.

use crate::{
    stage::{SECRET, Stage},
    support::{Way, scope, server},
};
use overskill_core::{ErrorKind, Right, Rights, memory::MemoryAudit};
use overskill_supabase::{
    Explorer, ExplorerLimits, Query, Table,
    tokio_postgres::{Client, SimpleQueryMessage},
};
use std::sync::Arc;

/// Each is a test by its name: what is asked, and whether the answer of the weak twin shows that it worked.
macro_rules! attacks {
    ($($name:ident: $sql:expr, $worked:expr;)*) => {
        $(
            #[test]
            fn $name() {
                fails($sql, $worked);
            }
        )*

        /// All of them.
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

attacks! {
    a_table_of_anothers_own: "SELECT name FROM victim_tables.people", leaked;
    a_table_of_anothers_own_within_another: "SELECT p.name FROM (SELECT 1) AS t, LATERAL (SELECT * FROM victim_tables.people) AS p", leaked;
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
    rows_that_are_locked: "SELECT data FROM Todo FOR UPDATE", leaked;
    a_table_that_is_made: "SELECT data INTO stolen FROM Todo", ran;
    a_change_within_a_query: "WITH x AS (DELETE FROM Todo RETURNING data) SELECT data FROM x", leaked;
    two_statements: "SELECT 1; SELECT data FROM overskill_data.entities", leaked;
    out_of_the_transaction: "SELECT 1; COMMIT; SELECT data FROM overskill_data.entities", leaked;
    a_comment_that_hides: "SELECT/**/data/**/FROM/**/overskill_data/**/./**/entities", leaked;
    letters_in_disguise: "SELECT data FROM U&\"overskill!005fdata\" UESCAPE '!'.entities", leaked;
    a_schema_in_quotes: "SELECT data FROM \"overskill_data\".\"entities\"", leaked;
    text_in_dollars: "SELECT $$x$$", ran;
    an_operator_with_a_schema: "SELECT 1 OPERATOR(pg_catalog.+) 1", ran;
    a_column_of_the_system: "SELECT tableoid FROM Todo", ran;
    a_recursion_that_takes_its_time:
        "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x WHERE n < 100000) SELECT count(*) FROM x",
        |got| got.is_some_and(|it| it.contains("100000"));
    a_name_seen_from_outside_its_scope:
        "SELECT (WITH pg_authid AS (SELECT 1) SELECT count(*) FROM pg_authid), (SELECT string_agg(rolname, ' ') FROM pg_authid)",
        |got| got.is_some_and(|it| it.contains("postgres"));
    a_name_in_other_letters:
        "WITH \"Pg_Authid\" AS (SELECT 1) SELECT rolname FROM Pg_Authid",
        |got| got.is_some_and(|it| it.contains("postgres"));
    the_user_that_runs_it: "SELECT current_user", ran;
    the_server_that_runs_it: "SELECT version(), inet_server_addr()", ran;
    statistics_of_all_apps: "SELECT most_common_vals FROM pg_stats", ran;
    large_objects: "SELECT convert_from(lo_get(1), 'UTF8')", leaked;
    a_function_in_place_of_a_table: "SELECT * FROM pg_ls_waldir()", ran;
    a_function_of_another_schema: "SELECT pg_catalog.pg_backend_pid()", ran;
    a_sample_of_a_table: "SELECT data FROM Todo TABLESAMPLE SYSTEM (100)", leaked;
    json_that_names_a_table: "SELECT database_to_xml(true, true, '')", leaked;
    indexes_of_everybody_by_a_columns_name: "SELECT g.pg_get_indexdef FROM generate_series(16384, 100000) g", |got| got.is_some_and(|it| it.contains("INDEX"));
    other_peoples_queries_by_a_columns_name: "SELECT g.pg_stat_get_backend_activity FROM generate_series(1, 64) g", ran;
    secret_settings_by_a_columns_name: "SELECT t.current_setting FROM unnest(ARRAY['data_directory']) t", ran;
    ending_other_sessions_by_a_columns_name: "SELECT g.pg_terminate_backend FROM generate_series(0, 0) g", ran;
    locks_by_a_columns_name: "SELECT g.pg_advisory_lock FROM generate_series(1, 1) g", ran;
    time_that_is_wasted_by_a_columns_name: "SELECT g.pg_sleep FROM generate_series(0, 0) g", ran;
    files_by_a_columns_name_in_quotes: "SELECT \"t\" . /**/ \"pg_read_file\" FROM unnest(ARRAY['PG_VERSION']) AS t(name)", ran;
    names_by_a_columns_name_in_order_by: "SELECT 1 FROM generate_series(1, 2) g ORDER BY g.pg_get_viewdef", ran;
    a_whole_row_by_a_columns_name: "SELECT t.row_to_json FROM Todo t", leaked;
    the_size_of_a_row_by_a_columns_name: "SELECT q.pg_column_size FROM (SELECT 1 AS n) q", ran;
    the_type_of_a_join_by_a_columns_name: "SELECT j.pg_typeof FROM (generate_series(1, 1) a CROSS JOIN generate_series(1, 1) b) j", ran;
    a_columns_name_that_stands_beside:
        "SELECT (SELECT d.x::text FROM (SELECT 1 AS pg_sleep) g, (SELECT g.pg_sleep AS x) d) FROM generate_series(0, 0) g", ran;
    a_field_of_what_is_no_row: "SELECT (g).pg_sleep FROM generate_series(0, 0) g", ran;
    a_columns_name_of_a_list_of_values:
        "SELECT (VALUES (1) ORDER BY \"*VALUES*\".pg_typeof::text LIMIT 1) FROM (SELECT 1 AS pg_typeof) AS \"*VALUES*\"", ran;
    a_columns_name_of_another_join:
        "SELECT (SELECT 1 FROM (SELECT 1 AS pg_get_viewdef) g, (SELECT 1) t JOIN (SELECT 1) u ON g.pg_get_viewdef IS NULL) FROM generate_series(0, 0) g", ran;
    a_sequence_that_counts: "SELECT nextval('overskill_guard.apps_app_id_seq')", ran;
}

/// What the victim has beside records, and the table that the twin has for a kind.
const MORE_OF_THE_VICTIMS: &str = "CREATE SCHEMA victim_tables; CREATE TABLE victim_tables.people AS SELECT 'hushhush' AS name; \
     CREATE TABLE public.todo AS SELECT * FROM overskill_data.entities; SELECT lo_from_bytea(1, 'hushhush')";

fn leaked(got: Option<&str>) -> bool {
    got.is_some_and(|it| it.contains(SECRET))
}

fn ran(got: Option<&str>) -> bool {
    got.is_some()
}

/// It works on the weak twin, and ours refuses it by its list.
fn fails(sql: &str, worked: fn(Option<&str>) -> bool) {
    Stage::on(async |stage| {
        stage.world.execute(MORE_OF_THE_VICTIMS);
        let client = stage.world.raw(Way::Direct, "postgres").await;
        let got = weak(&client, sql).await;
        assert!(worked(got.as_deref()), "the attack does not work on the weak twin: {got:?}");
        for way in Way::ALL {
            let e = ours(stage, way, sql).await.expect_err("it was not refused");
            assert!(!format!("{e:?}").contains(SECRET), "the refusal tells, {way:?}: {e}");
            let by_the_list = e.kind() == ErrorKind::Invalid && e.message().starts_with("query ");
            assert!(by_the_list, "it was refused, but not by the list, {way:?}: {e}");
        }
    });
}

/// The check that people write.
fn looks_harmless(sql: &str) -> bool {
    let text = sql.trim().to_lowercase();
    (text.starts_with("select") || text.starts_with("with") || text.starts_with("values")) && !text.contains("; drop")
}

/// The weak twin: the check, then the text as it is, in a transaction that is rolled back, as a role that owns things.
async fn weak(client: &Client, sql: &str) -> Option<String> {
    assert!(looks_harmless(sql), "the attack does not pass the weak check: {sql}");
    client.batch_execute("BEGIN; SET LOCAL statement_timeout = '30s'").await.unwrap();
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

/// By a developer of the attacker's app.
async fn ours(stage: &Stage, way: Way, sql: &str) -> overskill_core::Result<Table> {
    let world = &stage.world;
    let server = server(&world.url(way, "overskill_explorer"));
    let (audit, limits) = (Arc::new(MemoryAudit::new()), ExplorerLimits::new());
    let explorer = Explorer::new(server, world.gate.clone(), world.keys.clone(), audit, limits)?;
    let developer = world.grant_of("eve", "evil", Rights::of([Right::Develop])).await;
    explorer.table(&developer, &scope("evil"), &Query::new(sql)).await
}
