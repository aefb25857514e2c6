//! What somebody forgot, or added later: tables, views, functions, grants.

use crate::stage::Attack;

#[test]
fn row_security_was_never_enabled() {
    // The original plan writes a policy and does not switch it on.
    let weak = "ALTER TABLE weak.entities DISABLE ROW LEVEL SECURITY";
    Attack::reads("SELECT data FROM {t}").twin(weak).fails();
}

#[test]
fn the_owner_asks() {
    // Not forced, a policy does not bind the owner.
    Attack::reads("SELECT data FROM {t}").by_the_owner().fails();
}

#[test]
fn the_owner_switches_row_security_off() {
    Attack::reads("SET row_security = off;; SELECT data FROM {t}").by_the_owner().fails();
}

#[test]
fn the_role_of_the_app_owns_its_table() {
    let weak = "ALTER TABLE weak.entities OWNER TO overskill_app; ALTER TABLE weak.entities FORCE ROW LEVEL SECURITY";
    Attack::reads("ALTER TABLE {t} DISABLE ROW LEVEL SECURITY;; SELECT data FROM {t}").twin(weak).fails();
}

#[test]
fn a_policy_is_added_by_the_attacker() {
    let weak = "ALTER TABLE weak.entities OWNER TO overskill_app; ALTER TABLE weak.entities FORCE ROW LEVEL SECURITY";
    Attack::reads("CREATE POLICY mine ON {t} USING (true);; SELECT data FROM {t}").twin(weak).fails();
}

#[test]
fn a_permissive_policy_is_added_later() {
    Attack::reads("SELECT data FROM {t}")
        .twin("CREATE POLICY later ON weak.entities USING (true)")
        .unlucky("CREATE POLICY later ON overskill_data.entities USING (true)")
        .fails();
}

#[test]
fn a_view_reads_as_its_owner() {
    Attack::reads("SELECT data FROM weak.v")
        .twin(
            "CREATE VIEW weak.v AS SELECT * FROM weak.entities; ALTER VIEW weak.v OWNER TO weak_owner;
               GRANT SELECT ON weak.v TO overskill_app",
        )
        .unlucky(
            "CREATE VIEW overskill_data.v AS SELECT * FROM overskill_data.entities;
                  GRANT SELECT ON overskill_data.v TO overskill_app",
        )
        .ours("SELECT data FROM overskill_data.v")
        .fails();
}

#[test]
fn a_materialized_view_holds_what_its_owner_saw() {
    Attack::reads("SELECT data FROM weak.m")
        .twin("CREATE MATERIALIZED VIEW weak.m AS SELECT * FROM weak.entities; GRANT SELECT ON weak.m TO overskill_app")
        .unlucky(
            "CREATE MATERIALIZED VIEW overskill_data.m AS SELECT * FROM overskill_data.entities;
                  GRANT SELECT ON overskill_data.m TO overskill_app",
        )
        .ours("SELECT data FROM overskill_data.m")
        .fails();
}

#[test]
fn a_function_runs_as_its_owner() {
    Attack::reads("SELECT data FROM weak.f()")
        .twin(
            "CREATE FUNCTION weak.f() RETURNS SETOF weak.entities LANGUAGE sql SECURITY DEFINER
               AS 'SELECT * FROM weak.entities'; ALTER FUNCTION weak.f() OWNER TO weak_owner",
        )
        .unlucky(
            "CREATE FUNCTION overskill_data.f() RETURNS SETOF overskill_data.entities LANGUAGE sql SECURITY DEFINER
                  AS 'SELECT * FROM overskill_data.entities'",
        )
        .ours("SELECT data FROM overskill_data.f()")
        .fails();
}

#[test]
fn a_function_takes_the_app_as_an_argument() {
    // The original plan's `get_app_entities_optimized(p_app_id)`.
    Attack::reads("SELECT data FROM weak.f({v})")
        .twin(
            "CREATE FUNCTION weak.f(app bigint) RETURNS SETOF weak.entities LANGUAGE sql SECURITY DEFINER
               AS 'SELECT * FROM weak.entities WHERE app_id = app'; ALTER FUNCTION weak.f(bigint) OWNER TO weak_owner",
        )
        .unlucky(
            "CREATE FUNCTION overskill_data.f(app bigint) RETURNS SETOF overskill_data.entities LANGUAGE sql
                  SECURITY DEFINER AS 'SELECT * FROM overskill_data.entities WHERE app_id = app'",
        )
        .ours("SELECT data FROM overskill_data.f({v})")
        .fails();
}

#[test]
fn a_definers_function_finds_the_attackers_table() {
    // Without a search_path of its own it finds temporary tables first.
    let weak = "
        CREATE TABLE public.hmac_keys (secret text); INSERT INTO public.hmac_keys VALUES ('unknown');
        CREATE OR REPLACE FUNCTION weak.app() RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$ BEGIN
            RETURN CASE WHEN current_setting('weak.mac', true) = (SELECT secret FROM hmac_keys)
                   THEN current_setting('weak.app', true)::bigint END; END $$;
        GRANT SELECT ON public.hmac_keys TO PUBLIC;";
    let sql = "CREATE TEMP TABLE hmac_keys AS SELECT 'mine' AS secret;; GRANT SELECT ON hmac_keys TO PUBLIC;; \
               SELECT set_config('weak.mac', 'mine', true), set_config('weak.app', '2', true);; SELECT data FROM {t}";
    let mut forged = crate::support::Signed::of("eve", "victim");
    forged.byte = 1;
    // HMAC's pads of a key of the attacker's own.
    let ours = format!(
        "CREATE TEMP TABLE keys AS SELECT 'k1' AS kid, decode(repeat('37', 32) || repeat('36', 32), 'hex') AS inner_pad, \
         decode(repeat('5d', 32) || repeat('5c', 32), 'hex') AS outer_pad, NULL::timestamptz AS not_after;; \
         GRANT SELECT ON keys TO PUBLIC;; SET search_path = pg_temp, overskill_guard;; \
         SELECT set_config('overskill.context', '{}', true);; SELECT data FROM {{t}}",
        forged.text()
    );
    Attack::reads(sql).twin(weak).ours(ours).fails();
}

#[test]
fn the_keys_are_read() {
    let weak = "CREATE TABLE weak.keys AS SELECT 'hushhush' AS secret; GRANT SELECT ON weak.keys TO PUBLIC";
    Attack::reads("SELECT secret FROM weak.keys")
        .twin(weak)
        .unlucky("INSERT INTO overskill_guard.keys VALUES ('hushhush', repeat('x', 64)::bytea, repeat('y', 64)::bytea)")
        .ours("SELECT * FROM overskill_guard.keys;; ROLLBACK;; TABLE overskill_guard.keys")
        .fails();
}

#[test]
fn the_keys_are_read_although_granted() {
    // A grant too many alone opens nothing: there is no policy for the role.
    let weak = "CREATE TABLE weak.keys AS SELECT 'hushhush' AS secret; GRANT SELECT ON weak.keys TO PUBLIC";
    Attack::reads("SELECT secret FROM weak.keys")
        .twin(weak)
        .unlucky(
            "GRANT USAGE ON SCHEMA overskill_guard TO PUBLIC; GRANT SELECT ON overskill_guard.keys TO PUBLIC;
                  INSERT INTO overskill_guard.keys VALUES ('hushhush', repeat('x', 64)::bytea, repeat('y', 64)::bytea)",
        )
        .ours("SELECT * FROM overskill_guard.keys")
        .fails();
}

#[test]
fn a_helper_signs_for_whoever_asks() {
    let weak = "
        CREATE FUNCTION weak.sign(app text) RETURNS text LANGUAGE sql SECURITY DEFINER AS
            $$ SELECT encode(sha256(convert_to('key' || app, 'UTF8')), 'hex') $$;
        CREATE OR REPLACE FUNCTION weak.app() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT
            CASE WHEN current_setting('weak.mac', true) = weak.sign(current_setting('weak.app', true))
            THEN current_setting('weak.app', true)::bigint END $$;";
    let sql = "SELECT set_config('weak.app', '2', true), set_config('weak.mac', weak.sign('2'), true);; \
               SELECT data FROM {t}";
    let ours = "SELECT overskill_guard.opened('1.k1.victim.production.d.65.00.9999999999.00');; ROLLBACK;; \
                SELECT overskill_guard.present();; SELECT data FROM {t}";
    Attack::reads(sql).twin(weak).ours(ours).fails();
}

#[test]
fn an_app_is_taken_in_without_a_signature() {
    let weak = "CREATE TABLE weak.apps (app text, app_id bigint); GRANT ALL ON weak.apps TO PUBLIC;
        INSERT INTO weak.apps VALUES ('evil', 1), ('victim', 2);
        CREATE OR REPLACE FUNCTION weak.app() RETURNS bigint LANGUAGE sql STABLE AS
            $$ SELECT max(app_id) FROM weak.apps WHERE app = 'evil' $$;";
    Attack::reads("INSERT INTO weak.apps VALUES ('evil', 2);; SELECT data FROM {t}")
        .twin(weak)
        .ours(
            "SELECT overskill_data.enter('1.k1.evil');; INSERT INTO overskill_guard.apps (app, environment) \
               VALUES ('evil2', 'production');; SELECT data FROM {t}",
        )
        .fails();
}

#[test]
fn records_are_inserted_for_another_app() {
    let planted = "SELECT count(*) > 0 FROM {t} WHERE app_id = {v} AND id = 'planted'";
    let sql = "INSERT INTO {t} (app_id, entity_type, id, data) VALUES ({v}, 'Todo', 'planted', '{}')";
    let weak = "DROP POLICY app ON weak.entities; CREATE POLICY app ON weak.entities USING (app_id = weak.app()) WITH CHECK (true)";
    Attack::harms(&format!("{sql};; COMMIT"), planted, planted).twin(weak).fails();
}

#[test]
fn records_are_inserted_for_another_app_although_granted() {
    let planted = "SELECT count(*) > 0 FROM {t} WHERE app_id = {v} AND id = 'planted'";
    let sql = "INSERT INTO {t} (app_id, entity_type, id, data) VALUES ({v}, 'Todo', 'planted', '{}');; COMMIT";
    let weak = "ALTER POLICY app ON weak.entities WITH CHECK (true)";
    Attack::harms(sql, planted, planted)
        .twin(weak)
        .unlucky("GRANT ALL ON overskill_data.entities TO overskill_app")
        .fails();
}

#[test]
fn records_are_moved_to_another_app() {
    let moved = "SELECT count(*) > 1 FROM {t} WHERE app_id = {v}";
    let weak = "ALTER POLICY app ON weak.entities WITH CHECK (true)";
    Attack::harms("UPDATE {t} SET app_id = {v};; COMMIT", moved, moved)
        .twin(weak)
        .unlucky("GRANT ALL ON overskill_data.entities TO overskill_app")
        .fails();
}

#[test]
fn records_are_put_under_another_owner() {
    let given = "SELECT count(*) > 0 FROM {t} WHERE id = 'e1' AND owner = 'vic'";
    Attack::harms("UPDATE {t} SET owner = 'vic' WHERE id = 'e1';; COMMIT", given, given)
        .unlucky("GRANT ALL ON overskill_data.entities TO overskill_app")
        .fails();
}

#[test]
fn a_view_without_a_check_takes_what_it_does_not_show() {
    let planted = "SELECT count(*) > 0 FROM {t} WHERE app_id = {v} AND id = 'planted'";
    let weak = "ALTER TABLE weak.entities DISABLE ROW LEVEL SECURITY;
        CREATE VIEW weak.v AS SELECT * FROM weak.entities WHERE app_id = weak.app(); GRANT ALL ON weak.v TO overskill_app";
    Attack::harms("INSERT INTO weak.v (app_id, id, data) VALUES ({v}, 'planted', '{}');; COMMIT", planted, planted)
        .twin(weak)
        .unlucky("CREATE VIEW overskill_data.v AS SELECT * FROM overskill_data.entities; GRANT ALL ON overskill_data.v TO overskill_app")
        .ours("INSERT INTO overskill_data.v (app_id, entity_type, id, access, data) VALUES ({v}, 'Todo', 'planted', 2, '{}');; COMMIT")
        .fails();
}

#[test]
fn everything_is_truncated() {
    let gone = "SELECT count(*) = 0 FROM {t} WHERE app_id = {v}";
    Attack::harms("TRUNCATE {t} CASCADE;; COMMIT", gone, gone).fails();
}

#[test]
fn records_of_others_are_deleted() {
    let gone = "SELECT count(*) = 0 FROM {t} WHERE app_id = {v}";
    let weak = "DROP POLICY app ON weak.entities; CREATE POLICY reads ON weak.entities FOR SELECT USING (true); \
                CREATE POLICY app ON weak.entities FOR DELETE USING (true)";
    Attack::harms("DELETE FROM {t} WHERE id = 'v1';; COMMIT", gone, gone)
        .twin(weak)
        .unlucky(
            "GRANT DELETE ON overskill_data.entities TO overskill_app; \
                  CREATE POLICY gone ON overskill_data.entities FOR DELETE USING (true)",
        )
        .fails();
}

#[test]
fn records_of_others_are_merged_over() {
    let gone = "SELECT count(*) > 0 FROM {t} WHERE app_id = {v} AND data = '{\"merged\": 1}'";
    let sql = "MERGE INTO {t} e USING (SELECT 'v1' AS id) s ON e.id = s.id \
               WHEN MATCHED THEN UPDATE SET data = '{\"merged\": 1}';; COMMIT";
    let weak = "DROP POLICY app ON weak.entities; CREATE POLICY reads ON weak.entities USING (true)";
    Attack::harms(sql, gone, gone).twin(weak).fails();
}

#[test]
fn a_trigger_is_put_on_the_table() {
    let weak = "GRANT TRIGGER ON weak.entities TO overskill_app";
    let sql = "CREATE FUNCTION weak.spy() RETURNS trigger LANGUAGE plpgsql AS \
               $$ BEGIN RAISE NOTICE '%', NEW.data; RETURN NEW; END $$;; \
               CREATE TRIGGER spy BEFORE INSERT ON {t} FOR EACH ROW EXECUTE FUNCTION weak.spy();; \
               SELECT 'hushhush' FROM pg_trigger WHERE tgname = 'spy'";
    Attack::reads(sql).twin(weak).fails();
}

#[test]
fn a_connection_of_its_own_goes_round_it() {
    let weak = "CREATE EXTENSION dblink; GRANT EXECUTE ON FUNCTION dblink_connect_u(text, text) TO overskill_app";
    let sql = "SELECT dblink_connect_u('c', format('host=127.0.0.1 port=%s user=postgres dbname=%s', \
               current_setting('port'), current_database()));; \
               SELECT * FROM dblink('c', 'SELECT data::text FROM {t}') AS x(data text)";
    Attack::reads(sql)
        .twin(weak)
        .meanwhile("REVOKE EXECUTE ON FUNCTION dblink_connect_u(text, text) FROM overskill_app")
        .ours(format!("SAVEPOINT s;; {sql};; ROLLBACK TO s;; {}", sql.replace("dblink_connect_u", "dblink_connect")))
        .fails();
}

#[test]
fn files_of_the_server_are_read() {
    let weak = "GRANT pg_read_server_files TO overskill_app; GRANT pg_write_server_files TO overskill_app; \
                ALTER ROLE overskill_app INHERIT; \
                GRANT EXECUTE ON FUNCTION pg_read_binary_file(text) TO overskill_app; CHECKPOINT";
    let sql = "SELECT encode(pg_read_binary_file(pg_relation_filepath('{t}')), 'escape')";
    Attack::reads(sql)
        .twin(weak)
        .meanwhile(
            "REVOKE pg_read_server_files, pg_write_server_files FROM overskill_app; \
             ALTER ROLE overskill_app NOINHERIT; \
             REVOKE EXECUTE ON FUNCTION pg_read_binary_file(text) FROM overskill_app; CHECKPOINT",
        )
        .fails();
}
