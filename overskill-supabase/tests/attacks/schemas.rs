//! Reaching into the schema of another app, when the victim's app has one of its own.
//!
//! The twin has a schema for each app and takes that for the wall.

use crate::stage::Attack;

#[test]
fn the_search_path_leads_to_anothers_schema() {
    Attack::reads("SET LOCAL search_path = {s};; SELECT data FROM entities").on_a_schema().fails();
}

#[test]
fn a_table_is_named_with_anothers_schema() {
    // Its policy asks whether there is an app, and leaves the rest to the schema.
    let weak = "ALTER TABLE weak_2.entities ENABLE ROW LEVEL SECURITY; \
        CREATE POLICY app ON weak_2.entities USING (weak.app() IS NOT NULL)";
    Attack::reads("SELECT data FROM {t}").twin(weak).on_a_schema().fails();
}

#[test]
fn a_setting_says_which_schema_is_ones_own() {
    let weak = "ALTER TABLE weak_2.entities ENABLE ROW LEVEL SECURITY; \
        CREATE POLICY app ON weak_2.entities USING (current_setting('overskill.home', true) = 'weak_2')";
    Attack::reads("SELECT set_config('overskill.home', '{s}', true);; SELECT data FROM {t}")
        .twin(weak)
        .on_a_schema()
        .fails();
}

#[test]
fn a_whole_schema_is_read_as_xml() {
    Attack::reads("SELECT schema_to_xml('{s}', true, false, '')").on_a_schema().fails();
}

#[test]
fn a_schemas_name_tells_which_apps_there_are() {
    Attack::tells("SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%{x}%'", "victim", "nobody")
        .twin("CREATE SCHEMA app_victim_production")
        .meanwhile("DROP SCHEMA app_victim_production")
        .on_a_schema()
        .fails();
}

#[test]
fn the_text_of_a_policy_tells_which_apps_there_are() {
    let sql = "SELECT count(*) FROM pg_policy WHERE pg_get_expr(polqual, polrelid) LIKE '%{x}%'";
    Attack::tells(sql, "victim", "nobody")
        .twin("CREATE POLICY app ON weak_2.entities USING (current_setting('app.name', true) = 'victim')")
        .meanwhile("DROP POLICY app ON weak_2.entities")
        .on_a_schema()
        .fails();
}

#[test]
fn comments_tell_whose_a_schema_is() {
    let sql = "SELECT count(*) FROM pg_description WHERE description LIKE '%{x}%'";
    Attack::tells(sql, "victim", "nobody")
        .twin("COMMENT ON SCHEMA weak_2 IS 'the app victim'")
        .meanwhile("COMMENT ON SCHEMA weak_2 IS NULL")
        .on_a_schema()
        .fails();
}

#[test]
fn statistics_show_values_of_anothers_schema() {
    let weak = "INSERT INTO weak_2.entities SELECT 2, 'Todo', 'v' || n, 'vic', '{}', 'hushhush' FROM generate_series(10, 99) n; \
        ANALYZE weak_2.entities";
    Attack::reads("SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats WHERE schemaname = '{s}'")
        .twin(weak)
        .meanwhile("ANALYZE")
        .on_a_schema()
        .fails();
}

#[test]
fn default_privileges_let_everybody_empty_a_new_table() {
    // TRUNCATE asks no policy.
    let weak = "ALTER DEFAULT PRIVILEGES IN SCHEMA weak_2 GRANT ALL ON TABLES TO overskill_app; \
        CREATE TABLE weak_2.later AS SELECT * FROM weak_2.entities";
    Attack::harms(
        "TRUNCATE weak_2.later;; COMMIT",
        "SELECT NOT EXISTS (SELECT FROM weak_2.later)",
        "SELECT NOT EXISTS (SELECT FROM {t})",
    )
    .twin(weak)
    .ours("TRUNCATE {t} CASCADE;; COMMIT")
    .on_a_schema_made_after("ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO overskill_app")
    .fails();
}

#[test]
fn default_privileges_let_the_web_read_a_new_schema() {
    // As PostgREST's role: whoever is signed in anywhere.
    let weak = "ALTER DEFAULT PRIVILEGES IN SCHEMA weak_2 GRANT ALL ON TABLES TO authenticated; \
        CREATE TABLE weak_2.later AS SELECT * FROM weak_2.entities";
    Attack::reads("SELECT data FROM weak_2.later")
        .twin(weak)
        .ours("SELECT data FROM {t}")
        .on_a_schema_made_after(
            "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO authenticated, PUBLIC; \
             ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO authenticated, PUBLIC",
        )
        .role("authenticator")
        .fails();
}

#[test]
fn the_web_names_anothers_schema() {
    // PostgREST's role may use the schemas of all apps, for the gateway's sake: row level security is all there is.
    Attack::reads("SELECT data FROM {t}").on_a_schema().role("authenticator").fails();
}

#[test]
fn the_web_writes_into_anothers_schema() {
    let put = "INSERT INTO {t} (entity_type, id, data) VALUES ('Todo', 'planted', '{}');; COMMIT";
    let harm = "SELECT EXISTS (SELECT FROM {t} WHERE id = 'planted')";
    Attack::harms(put, harm, harm).on_a_schema().role("authenticator").fails();
}

#[test]
fn the_web_changes_a_record_in_anothers_schema() {
    let change = "UPDATE {t} SET data = '{}' WHERE id = 'v1';; COMMIT";
    let harm = "SELECT EXISTS (SELECT FROM {t} WHERE id = 'v1' AND data = '{}')";
    let weak = "GRANT UPDATE ON weak_2.entities TO authenticated";
    Attack::harms(change, harm, harm).twin(weak).on_a_schema().role("authenticator").fails();
}

#[test]
fn a_function_in_anothers_schema_runs_as_its_owner() {
    // Whoever may use the schema may call what is in it, unless somebody thought of that.
    let weak = "CREATE FUNCTION weak_2.all_of_it() RETURNS SETOF weak_2.entities LANGUAGE sql SECURITY DEFINER \
        AS 'SELECT * FROM weak_2.entities'; ALTER FUNCTION weak_2.all_of_it() OWNER TO weak_owner; \
        REVOKE ALL ON weak_2.entities FROM overskill_app";
    Attack::reads("SELECT data FROM {s}.all_of_it()")
        .twin(weak)
        .unlucky(
            "CREATE FUNCTION {s}.all_of_it() RETURNS SETOF {s}.entities LANGUAGE sql SECURITY DEFINER \
             AS 'SELECT * FROM {s}.entities'",
        )
        .on_a_schema()
        .fails();
}

#[test]
fn a_view_in_anothers_schema_reads_as_its_owner() {
    let weak = "CREATE VIEW weak_2.all_of_it AS SELECT * FROM weak_2.entities; ALTER VIEW weak_2.all_of_it OWNER TO weak_owner; \
        GRANT SELECT ON weak_2.all_of_it TO overskill_app; REVOKE ALL ON weak_2.entities FROM overskill_app";
    Attack::reads("SELECT data FROM {s}.all_of_it")
        .twin(weak)
        .unlucky(
            "CREATE VIEW {s}.all_of_it AS SELECT * FROM {s}.entities; GRANT SELECT ON {s}.all_of_it TO overskill_app",
        )
        .on_a_schema()
        .fails();
}

#[test]
fn something_is_planted_in_anothers_schema() {
    let there = "SELECT to_regclass('{s}.planted') IS NOT NULL";
    Attack::harms("CREATE TABLE {s}.planted (data jsonb);; COMMIT", there, there)
        .twin("GRANT CREATE ON SCHEMA weak_2 TO overskill_app")
        .on_a_schema()
        .fails();
}

#[test]
fn a_record_is_put_into_anothers_schema() {
    let there = "SELECT EXISTS (SELECT FROM {t} WHERE id = 'evil')";
    Attack::harms("INSERT INTO {t} (entity_type, id, data) VALUES ('Todo', 'evil', '{}');; COMMIT", there, there)
        .on_a_schema()
        .fails();
}

#[test]
fn somebody_says_that_they_are_the_mover() {
    // What copies between places has to pass by policies; a setting that anybody can make must not be enough.
    let weak = "ALTER TABLE weak_2.entities ENABLE ROW LEVEL SECURITY; CREATE POLICY app ON weak_2.entities \
        USING (app_id = weak.app() OR current_setting('overskill.moving', true) = 'on')";
    Attack::reads("SELECT set_config('overskill.moving', 'on', true);; SELECT data FROM {t}")
        .twin(weak)
        .on_a_schema()
        .fails();
}

#[test]
fn the_mover_writes_whatever_it_is_given() {
    let weak = "ALTER TABLE weak_2.entities ENABLE ROW LEVEL SECURITY; CREATE POLICY app ON weak_2.entities \
        USING (app_id = weak.app() OR current_setting('overskill.moving', true) = 'on')";
    let there = "SELECT EXISTS (SELECT FROM {t} WHERE id = 'evil')";
    let put = "SELECT set_config('overskill.moving', 'on', true);; \
        INSERT INTO {t} (entity_type, id, data) VALUES ('Todo', 'evil', '{}');; COMMIT";
    Attack::harms(put, there, there).twin(weak).on_a_schema().fails();
}

#[test]
fn what_makes_schemas_is_called_by_somebody_else() {
    let weak = "REVOKE ALL ON weak_2.entities FROM overskill_app; \
        CREATE FUNCTION weak.furnish(place text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS \
        $$ BEGIN EXECUTE format('GRANT SELECT ON %I.entities TO %I', place, session_user); END $$";
    Attack::reads("SELECT weak.furnish('weak_2');; SELECT data FROM {t}")
        .twin(weak)
        .ours("SELECT overskill_guard.furnish('{s}', 1);; SELECT data FROM {t}")
        .on_a_schema()
        .fails();
}

#[test]
fn what_a_move_left_behind_is_read() {
    // The old copy, which nobody looks after any more.
    let weak = "CREATE TABLE weak.entities_before_the_move AS SELECT * FROM weak.entities; \
        GRANT SELECT ON weak.entities_before_the_move TO overskill_app";
    Attack::reads("SELECT data FROM weak.entities_before_the_move")
        .twin(weak)
        .ours("SELECT data FROM overskill_data.entities")
        .on_a_schema()
        .fails();
}
