//! Learning something without being shown it: keys, errors, plans, statistics, locks.

use crate::{stage::Attack, support::Signed};

#[test]
fn a_primary_key_tells_what_is_taken() {
    Attack::tells("INSERT INTO {t} (entity_type, id, data) VALUES ('Todo', '{x}', '{}')", "v1", "zz")
        .twin("ALTER TABLE weak.entities ALTER app_id SET DEFAULT 1")
        .fails();
}

#[test]
fn an_upsert_tells_what_is_taken() {
    let sql =
        "INSERT INTO {t} (entity_type, id, data) VALUES ('Todo', '{x}', '{}') ON CONFLICT DO NOTHING RETURNING id";
    Attack::tells(sql, "v1", "zz").twin("ALTER TABLE weak.entities ALTER app_id SET DEFAULT 1").fails();
}

#[test]
fn an_upsert_tells_by_its_refusal() {
    let sql = "INSERT INTO {t} AS e (entity_type, id, data) VALUES ('Todo', '{x}', '{}') \
               ON CONFLICT (app_id, entity_type, id) DO UPDATE SET data = '{}'";
    Attack::tells(&sql.replace("(app_id, entity_type, id) DO", "(id) DO"), "v1", "zz")
        .twin("ALTER TABLE weak.entities ALTER app_id SET DEFAULT 1")
        .ours(sql)
        .fails();
}

#[test]
fn a_foreign_key_tells_what_is_there() {
    // References are checked past policies.
    let weak = "CREATE TABLE weak.links (id text REFERENCES weak.entities); GRANT ALL ON weak.links TO overskill_app";
    let unlucky = "
        CREATE TABLE overskill_data.links (app_id bigint DEFAULT overskill_guard.app(), entity_type text, id text,
            FOREIGN KEY (app_id, entity_type, id) REFERENCES overskill_data.entities);
        ALTER TABLE overskill_data.links ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY app ON overskill_data.links AS RESTRICTIVE TO PUBLIC USING (app_id = (SELECT overskill_guard.app()));
        CREATE POLICY mine ON overskill_data.links TO overskill_app USING (true);
        GRANT ALL ON overskill_data.links TO overskill_app";
    Attack::tells("INSERT INTO weak.links VALUES ('{x}')", "v1", "zz")
        .twin(weak)
        .unlucky(unlucky)
        .ours("INSERT INTO overskill_data.links (entity_type, id) VALUES ('Todo', '{x}')")
        .fails();
}

#[test]
fn a_foreign_key_tells_which_apps_there_are() {
    let weak = "CREATE TABLE weak.apps (app_id bigint PRIMARY KEY); INSERT INTO weak.apps VALUES (1), (2);
        ALTER TABLE weak.entities ADD FOREIGN KEY (app_id) REFERENCES weak.apps; ALTER POLICY app ON weak.entities WITH CHECK (true)";
    Attack::tells("INSERT INTO {t} (app_id, entity_type, id, data) VALUES ({x}, 'Todo', 'new', '{}')", "2", "9999")
        .twin(weak)
        .unlucky("GRANT ALL ON overskill_data.entities TO overskill_app")
        .fails();
}

#[test]
fn a_check_of_other_rows_tells_of_them() {
    // An exclusion constraint or a unique index over more than the key sees all apps' rows.
    let weak = "CREATE UNIQUE INDEX ON weak.entities ((data ->> 'secret')); ALTER TABLE weak.entities ALTER app_id SET DEFAULT 1";
    let sql = "INSERT INTO {t} (entity_type, id, data) VALUES ('Todo', 'mine', '{\"secret\": \"{x}\"}')";
    Attack::tells(sql, "hushhush", "nobodys").twin(weak).fails();
}

#[test]
fn an_error_tells_the_value_that_made_it() {
    // A view is no wall: what can fail is evaluated on rows that it does not show.
    let weak = "ALTER TABLE weak.entities DISABLE ROW LEVEL SECURITY;
        CREATE VIEW weak.v AS SELECT * FROM weak.entities WHERE app_id = weak.app(); GRANT ALL ON weak.v TO overskill_app";
    let ours = "SELECT id FROM {t} WHERE (data ->> 'secret')::int = 1";
    Attack::reads("SELECT id FROM weak.v WHERE (data ->> 'secret')::int = 1").twin(weak).ours(ours).fails();
}

#[test]
fn a_division_by_zero_tells_one_letter() {
    let weak = "ALTER TABLE weak.entities DISABLE ROW LEVEL SECURITY;
        CREATE VIEW weak.v AS SELECT * FROM weak.entities WHERE app_id = weak.app(); GRANT ALL ON weak.v TO overskill_app";
    let ask = |of: &str| {
        format!("SELECT id FROM {of} WHERE 1 / (CASE WHEN data ->> 'secret' LIKE '{{x}}%' THEN 0 ELSE 1 END) = 7")
    };
    Attack::tells(&ask("weak.v"), "h", "q").twin(weak).ours(ask("{t}")).fails();
}

#[test]
fn a_function_of_the_attackers_own_sees_every_row() {
    let weak = "ALTER TABLE weak.entities DISABLE ROW LEVEL SECURITY;
        CREATE VIEW weak.v AS SELECT * FROM weak.entities WHERE app_id = weak.app(); GRANT ALL ON weak.v TO overskill_app";
    let spy = "CREATE FUNCTION pg_temp.spy(seen jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS \
               $$ BEGIN RAISE NOTICE '%', seen; RETURN true; END $$;; SELECT id FROM {of} WHERE pg_temp.spy(data)";
    Attack::reads(&spy.replace("{of}", "weak.v")).twin(weak).ours(spy.replace("{of}", "{t}")).fails();
}

#[test]
fn a_function_of_the_attackers_own_is_called_leakproof() {
    let sql = "CREATE FUNCTION pg_temp.spy(seen jsonb) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 LEAKPROOF AS \
               $$ BEGIN RAISE NOTICE '%', seen; RETURN true; END $$;; SELECT id FROM {t} WHERE pg_temp.spy(data)";
    Attack::reads(sql)
        .twin("ALTER ROLE overskill_app SUPERUSER")
        .meanwhile("ALTER ROLE overskill_app NOSUPERUSER")
        .fails();
}

#[test]
fn an_operator_of_the_attackers_own_is_shown_statistics() {
    // The planner asks an operator about the most common values, to guess how many rows it will find.
    let weak = "ALTER TABLE weak.entities DISABLE ROW LEVEL SECURITY;
        INSERT INTO weak.entities (app_id, id, t1) SELECT 2, 'n' || n, 'hushhush' FROM generate_series(1, 500) n; ANALYZE weak.entities";
    let sql = "CREATE FUNCTION pg_temp.spy(a text, b text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS \
               $$ BEGIN RAISE NOTICE '%', a; RETURN true; END $$;; \
               CREATE OPERATOR pg_temp.<<<< (PROCEDURE = pg_temp.spy, LEFTARG = text, RIGHTARG = text, RESTRICT = eqsel);; \
               EXPLAIN SELECT id FROM {t} WHERE t1 OPERATOR(pg_temp.<<<<) 'x'";
    Attack::reads(sql).twin(weak).meanwhile(common()).fails();
}

/// Many rows of the victim with the secret in a column of its own.
fn common() -> &'static str {
    let context = Signed::of("vic", "victim").text();
    let sql = format!(
        "SELECT set_config('overskill.context', '{context}', false);
        UPDATE overskill_data.entity_types SET slots = '{{\"t1\": \"secret\"}}';
        INSERT INTO overskill_data.entities (entity_type, id, data)
            SELECT 'Todo', 'n' || n, '{{\"secret\": \"hushhush\"}}' FROM generate_series(1, 500) n;
        ANALYZE overskill_data.entities"
    );
    sql.leak()
}

/// The same in a twin where a view stands before the table.
const COMMON_BEHIND_A_VIEW: &str = "ALTER TABLE weak.entities DISABLE ROW LEVEL SECURITY;
    INSERT INTO weak.entities (app_id, id, t1) SELECT 2, 'n' || n, 'hushhush' FROM generate_series(1, 500) n;
    INSERT INTO weak.entities (app_id, id, t1) SELECT 1, 'm' || n, 'mine' FROM generate_series(1, 500) n;
    CREATE VIEW weak.v AS SELECT * FROM weak.entities WHERE app_id = weak.app(); GRANT ALL ON weak.v TO overskill_app;
    ANALYZE weak.entities";

#[test]
fn statistics_are_read() {
    let weak = "ALTER TABLE weak.entities DISABLE ROW LEVEL SECURITY;
        INSERT INTO weak.entities (app_id, id, t1) SELECT 2, 'n' || n, 'hushhush' FROM generate_series(1, 500) n; ANALYZE weak.entities";
    let sql = "SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats \
               WHERE (schemaname || '.' || tablename) = '{t}'";
    Attack::reads(sql).twin(weak).meanwhile(common()).fails();
}

#[test]
fn a_plan_tells_how_common_a_value_is() {
    let ask = |of: &str| format!("EXPLAIN SELECT id FROM {of} WHERE t1 = '{{x}}'");
    Attack::tells(&ask("weak.v"), "hushhush", "nobodys")
        .twin(COMMON_BEHIND_A_VIEW)
        .meanwhile(common())
        .ours(ask("{t}"))
        .fails();
}

#[test]
fn a_plan_tells_how_large_an_app_is() {
    let ask = |of: &str| format!("EXPLAIN SELECT id FROM {of} WHERE app_id = {{x}}");
    Attack::tells(&ask("weak.v"), "2", "9").twin(COMMON_BEHIND_A_VIEW).meanwhile(common()).ours(ask("{t}")).fails();
}

#[test]
fn a_key_that_is_being_taken_makes_others_wait() {
    // Another's insert that is not committed yet: a key over all apps waits for it.
    let sql =
        "SET LOCAL lock_timeout = '200ms';; INSERT INTO {t} (entity_type, id, data) VALUES ('Todo', 'pending', '{}')";
    let ours = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', 'pending', '{}')";
    Attack::hears(sql, "lock timeout")
        .twin("ALTER TABLE weak.entities ALTER app_id SET DEFAULT 1")
        .while_the_victim("INSERT INTO weak.entities (app_id, id, data) VALUES (2, 'pending', '{}')", ours)
        .fails();
}

#[test]
fn a_row_that_is_locked_makes_others_wait() {
    let weak =
        "DROP POLICY app ON weak.entities; CREATE POLICY reads ON weak.entities FOR SELECT USING (app_id = weak.app());
        CREATE POLICY locks ON weak.entities FOR UPDATE USING (true)";
    // An UPDATE that names no column of the table does not ask the policy for SELECT.
    Attack::hears("SET LOCAL lock_timeout = '200ms';; UPDATE {t} SET data = '{}'", "lock timeout")
        .twin(weak)
        .while_the_victim(
            "UPDATE weak.entities SET t1 = t1 WHERE id = 'v1'",
            "UPDATE overskill_data.entities SET data = data WHERE id = 'v1'",
        )
        .fails();
}

#[test]
fn advisory_locks_tell_who_is_active() {
    Attack::hears(
        "SELECT CASE WHEN count(*) > 0 THEN 'active' END FROM pg_locks WHERE locktype = 'advisory'",
        "active",
    )
    .while_the_victim("SELECT pg_advisory_xact_lock(2)", "SELECT count(*) FROM overskill_data.entities")
    .fails();
}

#[test]
fn a_sequence_tells_how_much_others_write() {
    let weak = "CREATE SEQUENCE weak.numbers; GRANT ALL ON weak.numbers TO PUBLIC; ALTER TABLE weak.entities ADD n bigint DEFAULT nextval('weak.numbers')";
    let ours = "SELECT CASE WHEN last_value > 0 THEN 'hushhush' END FROM pg_sequences WHERE schemaname LIKE 'overskill%' \
                AND last_value IS NOT NULL;; SELECT 'hushhush' FROM overskill_guard.apps_app_id_seq";
    Attack::reads("SELECT CASE WHEN last_value > 0 THEN 'hushhush' END FROM weak.numbers")
        .twin(weak)
        .ours(ours)
        .fails();
}
