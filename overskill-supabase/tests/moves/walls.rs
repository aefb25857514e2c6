//! The walls around apps that have a schema of their own.

use super::stage::Stage;
use crate::support::{DATABASE, Way, scope};
use overskill_supabase::Placement;

#[tokio::test]
async fn policies_of_apps_with_schemas_are_counted_once() {
    let stage = Stage::new(Way::Direct).await;
    for n in 0..12 {
        let app = format!("app{n}");
        stage.mover.relocate(&stage.world.system, &scope(&app), &Placement::Schema).await.unwrap();
        assert_eq!(stage.create(&app, "x", 1).await.status, 201);
    }
    let all = "SELECT count(*) FROM pg_policy";
    let count: i64 = stage.root(DATABASE).await.query_one(all, &[]).await.unwrap().get(0);
    assert!(count > 100, "there are {count}");
    // The same ones, again and again.
    stage.walls_stand().await;
}

/// Each opening in the walls of one app's schema, one at a time: the audit names it.
#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a list")]
async fn the_audit_finds_every_opening_of_an_apps_own_schema() {
    let stage = Stage::new(Way::Direct).await;
    stage.fill("one", 2).await;
    stage.mover.relocate(&stage.world.system, &scope("one"), &Placement::Schema).await.unwrap();
    let (_, home, _) = stage.live("one").await;
    let policy = "(app_id = (SELECT overskill_guard.app_in('@')))";
    for (opened, closed, word) in [
        ("CREATE TABLE @.t (app_id bigint)", "DROP TABLE @.t", "no forced row level security"),
        (
            "ALTER TABLE @.entities NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE @.entities FORCE ROW LEVEL SECURITY",
            "no forced row level security",
        ),
        (
            "ALTER POLICY app ON @.entities USING (app_id = (SELECT overskill_guard.app()))",
            "ALTER POLICY app ON @.entities USING ^",
            "policy app of table @.entities is not that of the shared table",
        ),
        (
            "ALTER POLICY app ON @.entities USING (app_id = (SELECT overskill_guard.app_in('overskill_data')))",
            "ALTER POLICY app ON @.entities USING ^",
            "no restrictive policy",
        ),
        (
            "ALTER POLICY seen ON @.entities USING (true)",
            "ALTER POLICY seen ON @.entities USING (access >= 1 OR owner = (SELECT overskill_guard.person()))",
            "policy seen of table @.entities is not that",
        ),
        (
            "CREATE POLICY more ON @.entities TO overskill_app USING (true)",
            "DROP POLICY more ON @.entities",
            "policy more of table @.entities is not that",
        ),
        (
            "DROP POLICY known ON @.entity_types",
            "CREATE POLICY known ON @.entity_types FOR SELECT TO overskill_app, authenticated USING (true)",
            "table @.entity_types lacks policy known",
        ),
        (
            "ALTER TABLE @.entities DISABLE TRIGGER entity_written",
            "ALTER TABLE @.entities ENABLE TRIGGER entity_written",
            "lets writes pass that a move has paused",
        ),
        (
            "ALTER TABLE @.entities DROP CONSTRAINT one_app",
            "ALTER TABLE @.entities ADD CONSTRAINT one_app CHECK (app_id = '#'::bigint)",
            "no checked constraint that says which",
        ),
        (
            "ALTER TABLE @.entities DROP CONSTRAINT one_app, ADD CONSTRAINT one_app CHECK (app_id > 0)",
            "ALTER TABLE @.entities DROP CONSTRAINT one_app, ADD CONSTRAINT one_app CHECK (app_id = '#'::bigint)",
            "no checked constraint that says which",
        ),
        (
            "GRANT SELECT ON @.entities TO service_role",
            "REVOKE ALL ON @.entities FROM service_role",
            "role service_role has SELECT",
        ),
        (
            "GRANT DELETE ON @.entities TO authenticated",
            "REVOKE DELETE ON @.entities FROM authenticated",
            "role authenticated has DELETE",
        ),
        ("GRANT USAGE ON SCHEMA @ TO anon", "REVOKE ALL ON SCHEMA @ FROM anon", "role anon has USAGE on @"),
        ("GRANT USAGE ON SCHEMA @ TO PUBLIC", "REVOKE ALL ON SCHEMA @ FROM PUBLIC", "everybody has USAGE"),
        (
            "GRANT CREATE ON SCHEMA @ TO overskill_app",
            "REVOKE CREATE ON SCHEMA @ FROM overskill_app",
            "overskill_app has CREATE",
        ),
        (
            "GRANT TRUNCATE ON @.entities TO overskill_app",
            "REVOKE TRUNCATE ON @.entities FROM overskill_app",
            "has TRUNCATE",
        ),
        (
            "GRANT UPDATE ON @.entities TO overskill_app",
            "REVOKE UPDATE ON @.entities FROM overskill_app; \
             GRANT UPDATE (data, updated_at, deleted_at) ON @.entities TO overskill_app",
            "UPDATE or INSERT on whole tables",
        ),
        ("CREATE VIEW @.v AS SELECT * FROM @.entities", "DROP VIEW @.v", "security_invoker"),
        (
            "CREATE FUNCTION @.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; REVOKE ALL ON FUNCTION @.f() FROM PUBLIC",
            "DROP FUNCTION @.f()",
            "lets temporary objects stand for what it names",
        ),
        (
            "ALTER TABLE @.entities ALTER COLUMN t1 SET STATISTICS 100",
            "ALTER TABLE @.entities ALTER COLUMN t1 SET STATISTICS 0",
            "has statistics",
        ),
        (
            "ALTER DEFAULT PRIVILEGES FOR ROLE host IN SCHEMA @ GRANT SELECT ON TABLES TO overskill_app",
            "ALTER DEFAULT PRIVILEGES FOR ROLE host IN SCHEMA @ REVOKE SELECT ON TABLES FROM overskill_app",
            "default privileges would give away",
        ),
        (
            "ALTER TABLE @.entities OWNER TO overskill_app",
            "ALTER TABLE @.entities OWNER TO host",
            "overskill_app owns @.entities",
        ),
        ("ALTER SCHEMA @ RENAME TO elsewhere", "ALTER SCHEMA elsewhere RENAME TO @", "which is not there"),
    ] {
        let (_, _, number) = stage.live("one").await;
        let named = |sql: &str| sql.replace('^', policy).replace('@', &home).replace('#', &number.to_string());
        stage.world.cluster.execute(DATABASE, &named(opened)).unwrap();
        let found = stage.world.schema.audit(&stage.world.system).await.unwrap();
        assert!(found.iter().any(|finding| finding.contains(&named(word))), "{opened}: {found:?}");
        stage.world.cluster.execute(DATABASE, &named(closed)).unwrap();
        let found = stage.world.schema.audit(&stage.world.system).await.unwrap();
        assert_eq!(found, Vec::<String>::new(), "{closed}");
    }
}

/// Whatever somebody's default privileges would give away is taken back.
#[tokio::test]
async fn default_privileges_open_nothing_in_a_new_schema() {
    let stage = Stage::new(Way::Direct).await;
    let world = &stage.world;
    let defaults = "ALTER DEFAULT PRIVILEGES FOR ROLE host GRANT ALL ON TABLES TO PUBLIC, anon, authenticated, overskill_app; \
        ALTER DEFAULT PRIVILEGES FOR ROLE host GRANT ALL ON SCHEMAS TO PUBLIC, anon, overskill_app, overskill_explorer";
    world.cluster.execute(DATABASE, defaults).unwrap();
    stage.mover.relocate(&world.system, &scope("one"), &Placement::Schema).await.unwrap();
    assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new());
    assert_eq!(stage.create("one", "x", 1).await.status, 201);
}

/// What somebody bent is made straight by furnishing once more, as every newer version of the schema does.
#[tokio::test]
async fn furnishing_a_schema_again_mends_it() {
    let stage = Stage::new(Way::Direct).await;
    let world = &stage.world;
    stage.fill("one", 2).await;
    stage.mover.relocate(&world.system, &scope("one"), &Placement::Schema).await.unwrap();
    let ((_, home, number), before) = (stage.live("one").await, stage.dump("one").await);
    let bent = "DROP POLICY app ON @.entities; DROP POLICY seen ON @.entities; CREATE POLICY open ON @.entities USING (true); \
        ALTER TABLE @.entities NO FORCE ROW LEVEL SECURITY; ALTER TABLE @.entities DISABLE TRIGGER entity_written; \
        GRANT ALL ON @.entities TO anon, PUBLIC; GRANT ALL ON SCHEMA @ TO anon; ALTER TABLE @.entity_types DROP CONSTRAINT one_app; \
        ALTER TABLE @.entities ALTER data SET STATISTICS 10; ALTER TABLE @.entities DROP CONSTRAINT entities_app_id_entity_type_fkey";
    world.cluster.execute(DATABASE, &bent.replace('@', &home)).unwrap();
    assert!(world.schema.audit(&world.system).await.unwrap().len() > 8);
    let owner = world.raw(Way::Direct, "host").await;
    owner.query("SELECT overskill_guard.furnish($1, $2)", &[&home, &number]).await.unwrap();
    assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new());
    assert_eq!(stage.dump("one").await, before);
    assert_eq!(stage.create("one", "x", 1).await.status, 201);
}
