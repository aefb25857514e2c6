//! What one transaction leaves for the next on the same connection, and what sessions see of each other.

use crate::{
    stage::{Attack, Attacker, SECRET, Stage},
    support::{Signed, Way, scope, server},
};
use overskill_core::Rights;
use overskill_supabase::{PoolOptions, TenantPool, TenantTx, tokio_postgres::types::Type};

pub fn run(test: impl AsyncFnOnce(&Stage, Shared<'_>)) {
    Stage::on(async |stage| test(stage, Shared(stage)).await);
}

/// A pooler with one connection to the server, which everybody gets in turn.
#[derive(Clone, Copy)]
pub struct Shared<'a>(&'a Stage);

impl Shared<'_> {
    fn url(self) -> String {
        self.0.one_connection().url("overskill_app", &self.0.world.database)
    }

    pub async fn attacker(self) -> Attacker {
        Attacker::at(&self.url()).await
    }

    pub fn pool(self) -> TenantPool {
        let world = &self.0.world;
        TenantPool::new(server(&self.url()), world.gate.clone(), world.keys.clone(), PoolOptions::new())
    }

    /// The victim writes the secret as the library does it.
    async fn victim_writes(self, id: &str) -> overskill_core::Result<u64> {
        const SQL: &str = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', $1, $2)";
        let victim = self.0.world.grant("vic", "victim").await;
        let data = serde_json::json!({ "secret": SECRET });
        let work = async |tx: &TenantTx| tx.execute(SQL, &[(&id, Type::TEXT), (&data, Type::JSONB)]).await;
        self.pool().with_tenant(&victim, &scope("victim"), work).await
    }
}

pub const CLAIMS: &str = r#"SELECT set_config('request.jwt.claims', '{"app_id": 2}', "#;

#[test]
fn a_context_is_left_behind_on_the_connection() {
    run(async |_, shared| {
        let (victim, attacker) = (shared.attacker().await, shared.attacker().await);
        victim.say(&format!("{CLAIMS} false)")).await;
        assert!(attacker.say("SELECT data FROM weak.entities").await.contains(SECRET), "the twin leaks");
        shared.victim_writes("again").await.unwrap();
        let seen = attacker
            .say("SELECT current_setting('overskill.context', true);; SELECT data FROM overskill_data.entities");
        let seen = seen.await;
        assert!(!seen.contains(SECRET) && !seen.contains("victim"), "{seen}");
    });
}

#[test]
fn a_table_of_the_attackers_own_stands_before_the_real_one() {
    run(async |_, shared| {
        let (victim, attacker) = (shared.attacker().await, shared.attacker().await);
        attacker
            .say(
                "CREATE TEMP TABLE entities (app_id bigint, entity_type text, id text, data jsonb);; \
                  CREATE TEMP TABLE entity_types (app_id bigint, entity_type text, access smallint, slots jsonb);; \
                  CREATE TEMP TABLE keys AS SELECT 1;; CREATE TEMP TABLE apps AS SELECT 1;; \
                  SET search_path = pg_temp, overskill_data",
            )
            .await;
        // The twin's code names its table without its schema.
        victim.say("INSERT INTO entities (app_id, id, data) VALUES (2, 'v9', '{\"secret\": \"hushhush\"}')").await;
        assert!(attacker.say("SELECT data FROM pg_temp.entities").await.contains(SECRET), "the twin leaks");
        attacker.say("TRUNCATE pg_temp.entities").await;
        shared.victim_writes("again").await.unwrap();
        let seen = attacker.say("TABLE pg_temp.entities;; TABLE pg_temp.entity_types").await;
        assert!(!seen.contains(SECRET) && !seen.contains("Todo"), "{seen}");
    });
}

#[test]
fn a_plan_that_was_made_for_the_victim_is_used_again() {
    run(async |stage, _| {
        let weak = "ALTER FUNCTION weak.app() IMMUTABLE";
        stage.world.execute(weak);
        let session = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        let prepare = |of: &str| format!("PREPARE all_of AS SELECT data FROM {of};; EXECUTE all_of");
        let again = "EXECUTE all_of;; DEALLOCATE all_of";
        let said = session.say(&format!("{CLAIMS} false);; {}", prepare("weak.entities"))).await;
        assert!(said.contains(SECRET), "the victim sees its own");
        let evil = r#"SELECT set_config('request.jwt.claims', '{"app_id": 1}', false)"#;
        assert!(session.say(&format!("{evil};; {again}")).await.contains(SECRET), "the twin leaks");
        for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
            let set = |context: &Signed| {
                format!(
                    "SET plan_cache_mode = {mode};; SELECT set_config('overskill.context', '{}', false)",
                    context.text()
                )
            };
            let victim = set(&Signed::of("vic", "victim"));
            assert!(session.say(&format!("{victim};; {}", prepare("overskill_data.entities"))).await.contains(SECRET));
            let seen = session.say(&format!("{};; {again}", set(&Signed::of("eve", "evil")))).await;
            assert!(!seen.contains(SECRET) && seen.contains("mine"), "{mode}: {seen}");
        }
    });
}

#[test]
fn a_cursor_is_left_open() {
    run(async |stage, shared| {
        let (victim, attacker) = (shared.attacker().await, shared.attacker().await);
        victim
            .say(&format!(
                "BEGIN;; {CLAIMS} true);; DECLARE c CURSOR WITH HOLD FOR SELECT data FROM weak.entities;; COMMIT"
            ))
            .await;
        assert!(attacker.say("FETCH ALL FROM c").await.contains(SECRET), "the twin leaks");
        attacker.say("CLOSE ALL").await;
        let vic = stage.world.grant("vic", "victim").await;
        let declares =
            async |tx: &TenantTx| tx.simple("DECLARE c CURSOR FOR SELECT data FROM overskill_data.entities").await;
        shared.pool().with_tenant(&vic, &scope("victim"), declares).await.unwrap();
        let seen = attacker.say("SELECT statement FROM pg_cursors;; FETCH ALL FROM c").await;
        assert!(!seen.contains(SECRET) && !seen.contains("DECLARE"), "{seen}");
    });
}

#[test]
fn a_table_that_was_made_for_a_moment_is_left() {
    run(async |stage, shared| {
        let (victim, attacker) = (shared.attacker().await, shared.attacker().await);
        victim
            .say(&format!(
                "BEGIN;; {CLAIMS} true);; CREATE TEMP TABLE result AS SELECT data FROM weak.entities;; COMMIT"
            ))
            .await;
        assert!(attacker.say("TABLE pg_temp.result").await.contains(SECRET), "the twin leaks");
        attacker.say("DISCARD TEMP").await;
        let vic = stage.world.grant("vic", "victim").await;
        let reads = async |tx: &TenantTx| tx.query("SELECT data FROM overskill_data.entities ORDER BY id", &[]).await;
        let seen = shared.pool().with_tenant(&vic, &scope("victim"), reads).await.unwrap();
        assert_eq!(seen.len(), 1);
        let left = attacker.say("SELECT relname FROM pg_class WHERE relpersistence = 't'").await;
        assert_eq!(left, "", "nothing of a transaction is left");
    });
}

#[test]
fn settings_that_were_left_behind_stop_nobody() {
    run(async |stage, shared| {
        let attacker = shared.attacker().await;
        attacker
            .say("SET default_transaction_read_only = on;; SET row_security = off;; SET statement_timeout = 1;; \
                  SET lock_timeout = 1;; SET search_path = pg_temp;; SET default_transaction_isolation = serializable;; \
                  SET overskill.context = 'nonsense';; SET request.jwt.claims = 'nonsense';; SET timezone = 'Asia/Tokyo';; \
                  SET bytea_output = escape;; SET datestyle = 'German'")
            .await;
        let victim = shared.attacker().await;
        let writes =
            format!("BEGIN;; {CLAIMS} true);; INSERT INTO weak.entities (app_id, id) VALUES (2, 'x');; COMMIT");
        assert!(victim.say(&writes).await.contains("ERROR"), "the twin's writes stop");
        shared.victim_writes("again").await.unwrap();
        let vic = stage.world.grant("vic", "victim").await;
        let reads = async |tx: &TenantTx| tx.query("SELECT data FROM overskill_data.entities", &[]).await;
        let seen = shared.pool().with_tenant(&vic, &scope("victim"), reads).await.unwrap();
        assert_eq!(seen.len(), 2);
    });
}

/// What one tenant does in a transaction that is committed, on the connection that the next one gets.
async fn leaves(stage: &Stage, pool: &TenantPool, statements: &str) {
    let eve = stage.world.grant("eve", "evil").await;
    let work = async |tx: &TenantTx| {
        for statement in statements.split(";;") {
            tx.simple(statement).await?;
        }
        Ok(())
    };
    pool.with_tenant(&eve, &scope("evil"), work).await.unwrap();
}

#[test]
fn the_next_ones_text_is_taken_for_other_letters() {
    const LETTERS: &str = "SET client_encoding = 'LATIN1'";
    run(async |stage, shared| {
        let root = stage.world.raw(Way::Direct, "postgres").await;
        let session = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        session.say(LETTERS).await;
        session
            .say(&format!(
                "BEGIN;; {CLAIMS} true);; INSERT INTO weak.entities (app_id, id, t1) VALUES (2, 'v9', 'é');; COMMIT"
            ))
            .await;
        let stored = "SELECT t1 FROM weak.entities WHERE id = 'v9'";
        assert_eq!(
            root.query_one(stored, &[]).await.unwrap().get::<_, String>(0),
            "Ã©",
            "the twin's letters are others"
        );
        for pool in [stage.world.pool(Way::Direct), shared.pool()] {
            leaves(stage, &pool, LETTERS).await;
            let vic = stage.world.grant("vic", "victim").await;
            let sql = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', 'v9', $1)";
            let data = serde_json::json!({ "word": "é" });
            let writes = async |tx: &TenantTx| tx.execute(sql, &[(&data, Type::JSONB)]).await;
            pool.with_tenant(&vic, &scope("victim"), writes).await.unwrap();
            let stored = "DELETE FROM overskill_data.entities WHERE id = 'v9' RETURNING data ->> 'word'";
            assert_eq!(root.query_one(stored, &[]).await.unwrap().get::<_, String>(0), "é");
        }
    });
}

/// The commit that nobody waits for is the worst of them: a crash of the server loses what was said to be kept.
#[test]
fn the_next_one_commits_by_the_attackers_settings() {
    const SETTINGS: &str = "SET synchronous_commit = off;; SET datestyle = 'German';; SET intervalstyle = 'iso_8601';; \
        SET timezone = 'Asia/Tokyo';; SET bytea_output = escape;; SET extra_float_digits = -15;; \
        SET standard_conforming_strings = off;; SET backslash_quote = on;; SET quote_all_identifiers = on;; SET lc_monetary = 'C';; \
        SET xmloption = document;; SET array_nulls = off;; SET transform_null_equals = on;; SET application_name = 'evil';; \
        SET idle_in_transaction_session_timeout = 0;; SET default_transaction_deferrable = on;; SET default_tablespace = 'pg_global';; \
        SET evil.word = 'mine'";
    const OF_A_ROLE: &str = "ALTER ROLE overskill_app SET synchronous_commit = off";
    const ALL: &str =
        "SELECT name || '=' || setting FROM pg_settings UNION ALL SELECT current_setting('evil.word', true) ORDER BY 1";
    run(async |stage, shared| {
        let session = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        session.say(&format!("BEGIN;; {SETTINGS};; COMMIT")).await;
        let says = "BEGIN READ WRITE;; SET LOCAL row_security = on;; SHOW synchronous_commit";
        assert_eq!(session.say(says).await, "off\n", "nobody waits for the twin's commits");
        for (pool, anew) in
            [(stage.world.pool(Way::Direct), stage.world.pool(Way::Direct)), (shared.pool(), shared.pool())]
        {
            let vic = stage.world.grant("vic", "victim").await;
            let scope = scope("victim");
            let settings = async |pool: &TenantPool, sql: &str| -> Vec<Option<String>> {
                let rows =
                    pool.with_tenant(&vic, &scope, async |tx: &TenantTx| tx.query(sql, &[]).await).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            };
            let before = settings(&pool, ALL).await;
            leaves(stage, &pool, SETTINGS).await;
            let after = settings(&pool, ALL).await;
            let others: Vec<_> =
                after.iter().flatten().filter(|&it| !before.iter().flatten().any(|was| was == it)).collect();
            assert!(others.iter().all(|it| it.is_empty()), "what was left is a setting of the next: {others:?}");
            leaves(stage, &pool, OF_A_ROLE).await;
            let of_the_next = settings(&anew, "SELECT current_setting('synchronous_commit')").await;
            assert_eq!(of_the_next, [Some("on".to_owned())]);
        }
    });
}

#[test]
fn the_next_one_calls_a_function_that_was_read_by_the_attackers_setting() {
    // What a function says is read once in a session, when it is first called.
    const READS: &str = "SET LOCAL standard_conforming_strings = off;; SET LOCAL backslash_quote = off";
    const FIELDS: &str = r#"[{"name": "due", "type": "date", "nullable": true}, {"name": "at", "type": "timestamptz", "nullable": true},
        {"name": "cost", "type": "numeric(4,2)", "nullable": true}]"#;
    const RECORD: &str = r#"INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Due', 'x',
        '{"due": "2026-01-31", "at": "2026-01-31T12:00:00.5Z", "cost": 12.5}') "#;
    let weak = r"CREATE FUNCTION weak.fits(said text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN said ~ '^\d+$'; END $$";
    run(async |stage, shared| {
        stage.world.execute(weak);
        let session = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        session.say(&format!("BEGIN;; {READS};; SELECT weak.fits('1');; COMMIT")).await;
        let said = session.say("RESET ALL;; SELECT weak.fits('1')").await;
        assert!(said.starts_with("f\n"), "the twin refuses what fits: {said}");
        for (app, who) in [("evil", "eve"), ("victim", "vic")] {
            let grant = stage.world.grant_of(who, app, Rights::ALL).await;
            let create = format!("SELECT overskill_data.create_kind('Due', '{FIELDS}')");
            let creates = async |tx: &TenantTx| tx.simple(&create).await;
            stage.world.pool(Way::Direct).with_tenant(&grant, &scope(app), creates).await.unwrap();
        }
        let vic = stage.world.grant("vic", "victim").await;
        for pool in [stage.world.pool(Way::Direct), shared.pool()] {
            leaves(stage, &pool, &format!("{READS};; SAVEPOINT s;; {RECORD};; ROLLBACK TO s")).await;
            let tx = pool.begin(&vic, &scope("victim")).await.unwrap();
            tx.simple(RECORD).await.unwrap();
            tx.rollback().await.unwrap();
        }
    });
}

#[test]
fn the_defaults_of_the_role_are_poisoned() {
    run(async |stage, _| {
        let attacker = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        attacker
            .say("ALTER ROLE overskill_app SET application_name = '1';; ALTER ROLE overskill_app SET search_path = pg_temp;; \
                  ALTER ROLE overskill_app SET default_transaction_read_only = on;; ALTER ROLE overskill_app SET row_security = off")
            .await;
        let victim = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        // The twin's code keeps the app in the session, and sets it where there is none yet.
        victim
            .say("BEGIN READ WRITE;; SET LOCAL row_security = on;; SELECT set_config('request.jwt.claims', \
                  format('{\"app_id\": %s}', coalesce(nullif(current_setting('application_name'), ''), '2')), true);; \
                  INSERT INTO weak.entities (app_id, id, data) VALUES (weak.app(), 'v9', '{\"secret\": \"hushhush\"}');; COMMIT")
            .await;
        let reads =
            "BEGIN;; SELECT set_config('request.jwt.claims', '{\"app_id\": 1}', true);; SELECT data FROM weak.entities";
        assert!(attacker.say(reads).await.contains(SECRET), "the twin leaks");
        for way in Way::ALL {
            stage.victim_writes(way, &format!("{way:?}")).await;
        }
        let attacker = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        attacker.say("SET row_security = on").await;
        attacker.begin(true, true, "overskill_app").await;
        let seen = attacker.say("SELECT data FROM overskill_data.entities").await;
        assert!(!seen.contains(SECRET) && seen.contains("mine"), "{seen}");
    });
}

#[test]
fn sessions_of_one_role_see_each_others_statements() {
    const SQL: &str = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', 'v8', $1)";
    run(async |stage, _| {
        let spy = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        let look = "SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
        let victim = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        let literal = r#"INSERT INTO weak.entities (app_id, id, data) VALUES (2, 'v9', '{"secret": "hushhush"}')"#;
        victim.say(&format!("BEGIN;; {CLAIMS} true);; {literal}")).await;
        assert!(spy.say(look).await.contains(SECRET), "the twin leaks");
        drop(victim);
        for way in Way::ALL {
            let vic = stage.world.grant("vic", "victim").await;
            let tx = stage.world.pool(way).begin(&vic, &scope("victim")).await.unwrap();
            let data = serde_json::json!({ "secret": SECRET });
            tx.execute(SQL, &[(&data, Type::JSONB)]).await.unwrap();
            for _ in 0..100 {
                let seen = spy.say(&format!("{look} AND query NOT LIKE 'INSERT INTO weak%'")).await;
                assert!(!seen.contains(SECRET), "{seen}");
            }
            tx.rollback().await.unwrap();
        }
    });
}

#[test]
fn a_context_is_read_off_another_session() {
    run(async |stage, _| {
        let spy = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        let look = "SELECT query FROM pg_stat_activity WHERE query LIKE '%set_config%' AND pid <> pg_backend_pid()";
        let victim = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        let context = Signed::of("vic", "victim").text();
        victim.say(&format!("BEGIN;; SELECT set_config('overskill.context', '{context}', true)")).await;
        assert!(spy.say(look).await.contains(&context), "a context in the text of a statement is everybody's");
        drop(victim);
        let vic = stage.world.grant("vic", "victim").await;
        for way in Way::ALL {
            // Nothing came after the preamble: it is what the server shows.
            let tx = stage.world.pool(way).begin(&vic, &scope("victim")).await.unwrap();
            let seen = spy.say(&look.replace("query LIKE '%set_config%' AND ", "")).await;
            assert!(seen.contains("$1, true") && !seen.contains("1.k1.victim"), "{way:?}: {seen}");
            tx.rollback().await.unwrap();
        }
    });
}

#[test]
fn news_of_others_are_listened_to() {
    run(async |stage, _| {
        let weak = "CREATE FUNCTION weak.tells() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_notify('changes', NEW.data::text); RETURN NEW; END $$;
            CREATE TRIGGER tells AFTER INSERT ON weak.entities FOR EACH ROW EXECUTE FUNCTION weak.tells()";
        stage.world.execute(weak);
        let attacker = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        attacker.say("LISTEN changes;; LISTEN entities;; LISTEN overskill;; LISTEN pgrst;; LISTEN realtime").await;
        let heard = async || attacker.say("SELECT 1;; SELECT pg_sleep(0.2);; SELECT 1").await;
        for way in Way::ALL {
            stage.victim_writes(way, &format!("{way:?}")).await;
        }
        assert!(!heard().await.contains(SECRET));
        let victim = Attacker::connect(stage, Way::Direct, "overskill_app").await;
        victim.say(&format!("BEGIN;; {CLAIMS} true);; INSERT INTO weak.entities (app_id, id, data) VALUES (2, 'v9', '{{\"secret\": \"hushhush\"}}');; COMMIT")).await;
        assert!(heard().await.contains(SECRET), "the twin leaks");
    });
}

#[test]
fn a_copy_leaves_by_another_door() {
    run(async |stage, _| {
        use futures::TryStreamExt as _;
        let weak = "ALTER TABLE weak.entities DISABLE ROW LEVEL SECURITY;
            CREATE VIEW weak.v AS SELECT * FROM weak.entities WHERE app_id = weak.app()";
        stage.world.execute(weak);
        let copy = async |way: Way, table: &str| {
            let client = stage.world.raw(way, "overskill_app").await;
            let context = Signed::of("eve", "evil").text();
            client
                .batch_execute(&format!("BEGIN; SELECT set_config('overskill.context', '{context}', true)"))
                .await
                .unwrap();
            match client.copy_out(&format!("COPY {table} TO STDOUT")).await {
                Ok(rows) => rows
                    .try_collect::<Vec<_>>()
                    .await
                    .unwrap()
                    .iter()
                    .map(|b| String::from_utf8_lossy(b).into_owned())
                    .collect(),
                Err(e) => e.to_string(),
            }
        };
        assert!(copy(Way::Direct, "weak.entities").await.contains(SECRET), "the twin leaks");
        for way in Way::ALL {
            let seen = copy(way, "overskill_data.entities").await;
            assert!(!seen.contains(SECRET) && seen.contains("mine"), "{seen}");
        }
    });
}

#[test]
fn a_program_of_the_server_is_run() {
    let weak = "ALTER ROLE overskill_app INHERIT; GRANT pg_execute_server_program TO overskill_app";
    let sql = "CREATE TEMP TABLE out (line text);; COPY out FROM PROGRAM 'echo hush''h''ush';; TABLE out";
    Attack::reads(sql)
        .twin(weak)
        .meanwhile("REVOKE pg_execute_server_program FROM overskill_app; ALTER ROLE overskill_app NOINHERIT")
        .fails();
}
