//! What an attacker makes for a moment, in a database where everybody may: names that code of others then finds.

use crate::{
    sessions::{CLAIMS, run},
    stage::{Attack, Attacker, SECRET, Stage},
    support::{Signed, Way, scope},
};
use overskill_supabase::{PoolOptions, TenantPool, TenantTx};
use std::num::NonZeroU32;

/// A key of the guard that gives the attacker away if they ever read keys.
const A_KEY: &str =
    "INSERT INTO overskill_guard.keys VALUES ('hushhush', repeat('x', 64)::bytea, repeat('y', 64)::bytea)";

/// Code that runs as its owner and names types without their schema.
const CASTS: &str = "CREATE OR REPLACE FUNCTION weak.app() RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER \
    SET search_path = '' AS $$ DECLARE said text := '1'; BEGIN PERFORM pg_catalog.to_timestamp(said::float8); RETURN 1; END $$; \
    ALTER FUNCTION weak.app() OWNER TO weak_owner";

/// The same, with whatever search path its caller has.
const CALLS: &str = "CREATE OR REPLACE FUNCTION weak.app() RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER AS \
    $$ BEGIN RETURN octet_length(sha256('x'::pg_catalog.bytea) || 'y'::pg_catalog.bytea); END $$; \
    ALTER FUNCTION weak.app() OWNER TO weak_owner";

/// Tells all rows of a table to whoever caused it to run, if whoever it runs as may read them.
fn tells(rows: &str) -> String {
    format!(
        "BEGIN RAISE NOTICE '%', (SELECT pg_catalog.string_agg(it::pg_catalog.text, ' ') FROM {rows} it); \
         EXCEPTION WHEN OTHERS THEN NULL; END"
    )
}

/// Domains by the names of Postgres' own types, whose check is the attacker's code.
fn domains(rows: &str) -> String {
    let spy = format!(
        "CREATE FUNCTION pg_temp.spy() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {}; RETURN true; END $$",
        tells(rows)
    );
    let domain = |name: &str| format!(";; CREATE DOMAIN pg_temp.{name} AS pg_catalog.{name} CHECK (pg_temp.spy())");
    let names = ["text", "bytea", "float8", "jsonb", "timestamptz", "oid", "name", "numeric"];
    spy + &names.map(domain).concat()
}

/// A type by the name of one of Postgres' own, and casts to it and from it, which are the attacker's code.
fn casts(rows: &str) -> String {
    format!(
        "CREATE TYPE pg_temp.float8 AS (it pg_catalog.float8);; \
         CREATE FUNCTION pg_temp.made(pg_catalog.text) RETURNS pg_temp.float8 LANGUAGE plpgsql AS \
             $$ BEGIN {}; RETURN ROW($1::pg_catalog.float8); END $$;; \
         CREATE FUNCTION pg_temp.back(pg_temp.float8) RETURNS pg_catalog.float8 LANGUAGE sql AS 'SELECT $1.it';; \
         CREATE CAST (pg_catalog.text AS pg_temp.float8) WITH FUNCTION pg_temp.made(pg_catalog.text) AS IMPLICIT;; \
         CREATE CAST (pg_temp.float8 AS pg_catalog.float8) WITH FUNCTION pg_temp.back(pg_temp.float8) AS IMPLICIT",
        tells(rows)
    )
}

/// Functions of the names and arguments of Postgres' own, in a schema that the search path then begins with.
fn functions(schema: &str, rows: &str) -> String {
    let function = |signature: &str, gives: &str| {
        format!("CREATE FUNCTION {schema}.{signature} LANGUAGE plpgsql AS $$ BEGIN {}; {gives}; END $$;; ", tells(rows))
    };
    [
        function("sha256(bytea) RETURNS bytea", "RETURN $1"),
        function("octet_length(text) RETURNS int", "RETURN 9"),
        function("jsonb_typeof(jsonb) RETURNS text", "RETURN 'string'"),
        function("length(text) RETURNS int", "RETURN 9"),
    ]
    .concat()
        + &format!("SET LOCAL search_path = {schema}, pg_catalog")
}

/// Operators of the same kind.
fn operators(schema: &str, rows: &str) -> String {
    let operator = |name: &str, kind: &str, result: &str, gives: &str| {
        format!(
            "CREATE FUNCTION {schema}.joins({kind}, {kind}) RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN {}; {gives}; END $$;; \
             CREATE OPERATOR {schema}.{name} (LEFTARG = {kind}, RIGHTARG = {kind}, FUNCTION = {schema}.joins);; ",
            tells(rows)
        )
    };
    [
        operator("||", "bytea", "bytea", "RETURN $1"),
        operator("=", "text", "boolean", "RETURN true"),
        operator("<=", "timestamptz", "boolean", "RETURN false"),
    ]
    .concat()
        + &format!("SET LOCAL search_path = {schema}, pg_catalog")
}

/// Everything of ours that runs as its owner and that tenants can cause to run, each in a savepoint of its own.
fn all_of_ours(plant: &str) -> String {
    let developer = Signed { rights: "dv", ..Signed::of("eve", "evil") }.text();
    let fields = r#"[{"name": "a", "type": "text", "nullable": false, "default": {"value": "x"}},
        {"name": "b", "type": "numeric(3,1)", "nullable": true, "default": {"value": 1}},
        {"name": "c", "type": "timestamptz", "nullable": true, "default": {"now": "timestamptz"}}]"#;
    let calls = [
        "SELECT overskill_data.whereabouts()".to_owned(),
        format!("SELECT overskill_data.enter('{developer}')"),
        "SELECT data FROM overskill_data.entities".to_owned(),
        "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', 'new', '{\"n\": 1}')".to_owned(),
        "UPDATE overskill_data.entities SET data = '{\"n\": 2}'".to_owned(),
        format!("SELECT overskill_data.create_kind('Kind', '{fields}'::pg_catalog.jsonb)"),
        format!("SELECT overskill_data.set_fields('Todo', '{fields}'::pg_catalog.jsonb, '{{\"t1\": \"a\", \"n1\": \"b\"}}');; \
                 INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', 'fits', '{{\"a\": \"x\"}}')"),
        "SELECT overskill_data.define('Todo', 2::pg_catalog.int2, '{\"t1\": \"a\", \"n1\": \"b\"}')".to_owned(),
        "SELECT overskill_data.catalog(9, NULL)".to_owned(),
        "SELECT overskill_data.hold_kinds()".to_owned(),
        "SELECT overskill_data.rename_kind('Todo', 'Done')".to_owned(),
        "SELECT overskill_data.drop_kind('Todo')".to_owned(),
        "SELECT overskill_data.change_field('Todo', 'a', NULL, '{\"uuid\": true}')".to_owned(),
        "SELECT overskill_data.refill('Todo')".to_owned(),
        "SELECT overskill_data.unfit('Todo', 'a', 'numeric(3,1)', true)".to_owned(),
        format!("SELECT overskill_data.record_change(1, '{}', '{{}}', '[]')", "0".repeat(32)),
        "SELECT overskill_data.schema_changes(9, 9)".to_owned(),
        // What PostgREST's role and the explorer's may call beside that.
        "SELECT overskill_data.own_tables()".to_owned(),
        "SELECT overskill_data.admitted(), overskill_data.served_from()".to_owned(),
        "SELECT overskill_data.make_record('Todo', 'made', '{\"a\": 1}')".to_owned(),
        "SELECT overskill_data.read_record('Todo', 'e1')".to_owned(),
        "SELECT overskill_data.change_record('Todo', 'e1', '{\"a\": 2}', 'true')".to_owned(),
        "SELECT overskill_data.delete_record('Todo', 'e1')".to_owned(),
        r#"SELECT overskill_data.list_records('Todo', '{"limit": 9, "descending": false, "filters": [["a", "1", "1"]]}')"#
            .to_owned(),
        "SELECT overskill_guard.place(), overskill_guard.is_apps()".to_owned(),
    ];
    let each = calls.map(|call| format!(";; SAVEPOINT s;; {call};; ROLLBACK TO s"));
    // Anew, and writing: the explorer's transactions only read unless it says so.
    format!(
        "ROLLBACK;; BEGIN READ WRITE;; {plant};; SELECT set_config('overskill.context', '{developer}', true){}",
        each.concat()
    )
}

/// By names that a definer's function finds: on the twin they tell records, on ours they would tell keys.
fn planted(on_twin: &str, on_ours: &str, weak: &'static str) -> Attack {
    let reads = format!("{on_twin};; SELECT data FROM {{t}}");
    Attack::reads(&reads).twin(weak).unlucky(A_KEY).ours(all_of_ours(on_ours))
}

#[test]
fn a_definers_function_finds_the_attackers_type() {
    planted(&domains("weak.entities"), &domains("overskill_guard.keys"), CASTS).fails();
}

#[test]
fn a_definers_function_finds_the_explorers_type() {
    let twin =
        "SELECT 1;; ROLLBACK;; BEGIN READ WRITE;; SELECT set_config('request.jwt.claims', '{\"app_id\": 1}', true)";
    let twin = format!("{twin};; {}", domains("weak.entities"));
    planted(&twin, &domains("overskill_guard.keys"), CASTS).role("overskill_explorer").fails();
}

#[test]
fn a_definers_function_finds_a_type_of_whoever_comes_by_the_web() {
    let ours = format!("SELECT set_config('role', 'authenticated', true);; {}", domains("overskill_guard.keys"));
    planted(&domains("weak.entities"), &ours, CASTS).role("authenticator").fails();
}

#[test]
fn a_definers_function_casts_by_the_attackers_cast() {
    planted(&casts("weak.entities"), &casts("overskill_guard.keys"), CASTS).fails();
}

#[test]
fn a_definers_function_calls_the_attackers_function() {
    planted(&functions("weak", "weak.entities"), &functions("pg_temp", "overskill_guard.keys"), CALLS).fails();
}

#[test]
fn a_definers_function_uses_the_attackers_operator() {
    planted(&operators("weak", "weak.entities"), &operators("pg_temp", "overskill_guard.keys"), CALLS).fails();
}

/// What is planted for the next on the connection: it tells, and keeps where the attacker finds it, what it is shown.
const KEEPS: &str = "CREATE TEMP TABLE loot (it pg_catalog.text);; \
    CREATE FUNCTION pg_temp.keeps(pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS \
        $$ BEGIN INSERT INTO pg_temp.loot VALUES ($1); PERFORM pg_catalog.pg_notify('loot', $1); RETURN true; \
           EXCEPTION WHEN OTHERS THEN RETURN true; END $$";

/// Made by the attacker on a connection that the victim has next, and reads by: behind a pooler, and kept by a pool of ours.
fn left_for_the_next(plant: &str, reads: &str) {
    let plant = format!("{KEEPS};; {plant}");
    run(async |stage, shared| {
        let (victim, attacker) = (shared.attacker().await, shared.attacker().await);
        attacker.say(&plant).await;
        victim.say(&format!("BEGIN;; {CLAIMS} true);; {};; COMMIT", reads.replace("{t}", "weak.entities"))).await;
        assert!(attacker.say("TABLE pg_temp.loot").await.contains(SECRET), "the twin leaks");
        attacker.say("TRUNCATE pg_temp.loot").await;

        let reads = reads.replace("{t}", "overskill_data.entities");
        let ear = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        ear.say("LISTEN loot").await;
        victim_reads(stage, &shared.pool(), &reads).await;
        let seen = attacker.say("TABLE pg_temp.loot").await + &ear.say("SELECT 1;; SELECT 1").await;
        assert!(!seen.contains(SECRET), "pooled: {seen}");

        let one = PoolOptions::new().connections(NonZeroU32::MIN);
        let pool = stage.world.pool_with(Way::Direct, "overskill_app", one);
        let eve = stage.world.grant("eve", "evil").await;
        let plants = async |tx: &TenantTx| {
            for statement in plant.split(";;") {
                tx.simple(statement).await?;
            }
            Ok(())
        };
        pool.with_tenant(&eve, &scope("evil"), plants).await.unwrap();
        victim_reads(stage, &pool, &reads).await;
        let left = async |tx: &TenantTx| tx.query("SELECT FROM pg_class WHERE relpersistence = 't'", &[]).await;
        let left = pool.with_tenant(&eve, &scope("evil"), left).await.unwrap();
        let heard = ear.say("SELECT 1;; SELECT 1").await;
        assert!(left.is_empty() && !heard.contains(SECRET), "direct: {} and {heard}", left.len());
    });
}

async fn victim_reads(stage: &Stage, pool: &TenantPool, reads: &str) {
    let vic = stage.world.grant("vic", "victim").await;
    let seen = pool.with_tenant(&vic, &scope("victim"), async |tx: &TenantTx| tx.simple(reads).await).await.unwrap();
    assert!(format!("{seen:?}").contains(SECRET), "the victim sees its own");
}

#[test]
fn the_next_one_casts_to_the_attackers_type() {
    let plant = "CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.keeps(VALUE))";
    left_for_the_next(plant, "SELECT data::text FROM {t}");
}

#[test]
fn the_next_one_casts_by_the_attackers_cast() {
    let plant = "CREATE TYPE pg_temp.text AS (it pg_catalog.text);; \
        CREATE FUNCTION pg_temp.shown(jsonb) RETURNS pg_temp.text LANGUAGE plpgsql AS $$ BEGIN \
            PERFORM pg_temp.keeps($1::pg_catalog.text); RETURN ROW($1::pg_catalog.text); END $$;; \
        CREATE CAST (jsonb AS pg_temp.text) WITH FUNCTION pg_temp.shown(jsonb)";
    left_for_the_next(plant, "SELECT data::text FROM {t}");
}

#[test]
fn the_next_one_calls_the_attackers_function() {
    let plant = "CREATE OR REPLACE FUNCTION weak.reverse(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
            PERFORM pg_temp.keeps(pg_catalog.reverse($1)); RETURN pg_catalog.reverse($1); END $$;; \
        SET search_path = weak, pg_catalog";
    left_for_the_next(plant, "SELECT reverse(reverse(data::pg_catalog.text)) FROM {t}");
}

#[test]
fn the_next_one_uses_the_attackers_operator() {
    let plant = "CREATE OR REPLACE FUNCTION weak.joins(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
            PERFORM pg_temp.keeps($1); RETURN $1; END $$;; DROP OPERATOR IF EXISTS weak.|| (text, text);; \
        CREATE OPERATOR weak.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = weak.joins);; \
        SET search_path = weak, pg_catalog";
    left_for_the_next(plant, "SELECT data::pg_catalog.text || ''::pg_catalog.text FROM {t}");
}
