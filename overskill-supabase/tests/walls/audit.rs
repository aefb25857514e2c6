//! What the audit sees, and what an installation mends of it.

use crate::support::{DATABASE, Way, World, passwords, scope};
use overskill_core::ErrorKind;
use overskill_supabase::{PoolOptions, TenantTx};
use std::num::NonZeroU32;

/// Each opening in the walls, one at a time: the audit names it.
#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a list")]
async fn the_audit_finds_every_opening() {
    let world = World::new().await;
    assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new());
    for (opened, closed, word) in [
        (
            "CREATE TABLE overskill_data.t (app_id bigint)",
            "DROP TABLE overskill_data.t",
            "no forced row level security",
        ),
        (
            "ALTER TABLE overskill_data.entities NO FORCE ROW LEVEL SECURITY",
            "ALTER TABLE overskill_data.entities FORCE ROW LEVEL SECURITY",
            "no forced row level security",
        ),
        (
            "ALTER TABLE overskill_guard.keys DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE overskill_guard.keys ENABLE ROW LEVEL SECURITY",
            "overskill_guard.keys has no forced",
        ),
        (
            "CREATE VIEW overskill_data.v AS SELECT * FROM overskill_data.entities",
            "DROP VIEW overskill_data.v",
            "security_invoker",
        ),
        (
            "CREATE MATERIALIZED VIEW overskill_data.m AS SELECT 1 AS one",
            "DROP MATERIALIZED VIEW overskill_data.m",
            "materialized",
        ),
        (
            "ALTER POLICY app ON overskill_data.entities USING (true)",
            "ALTER POLICY app ON overskill_data.entities USING (app_id = (SELECT overskill_guard.app_in('overskill_data')))",
            "no restrictive policy",
        ),
        (
            "CREATE POLICY open ON overskill_data.entities USING (true)",
            "DROP POLICY open ON overskill_data.entities",
            "lets everybody in",
        ),
        (
            "CREATE POLICY open ON overskill_guard.keys TO overskill_app USING (true)",
            "DROP POLICY open ON overskill_guard.keys",
            "is for role overskill_app",
        ),
        (
            "CREATE FUNCTION overskill_data.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; \
             REVOKE ALL ON FUNCTION overskill_data.f() FROM PUBLIC",
            "DROP FUNCTION overskill_data.f()",
            "lets temporary objects stand for what it names",
        ),
        (
            "ALTER FUNCTION overskill_guard.opened(text) SET search_path = ''",
            "ALTER FUNCTION overskill_guard.opened(text) SET search_path = pg_catalog, pg_temp",
            "overskill_guard.opened lets temporary objects stand",
        ),
        (
            "GRANT SELECT ON overskill_data.entities TO PUBLIC",
            "REVOKE ALL ON overskill_data.entities FROM PUBLIC",
            "everybody has SELECT",
        ),
        (
            "GRANT TRUNCATE ON overskill_data.entities TO authenticated",
            "REVOKE TRUNCATE ON overskill_data.entities FROM authenticated",
            "authenticated has TRUNCATE",
        ),
        (
            "GRANT UPDATE ON overskill_data.entities TO overskill_app",
            "REVOKE UPDATE ON overskill_data.entities FROM overskill_app; \
             GRANT UPDATE (data, updated_at, deleted_at) ON overskill_data.entities TO overskill_app",
            "UPDATE or INSERT on whole tables",
        ),
        (
            "GRANT UPDATE (data) ON overskill_data.entities TO overskill_explorer",
            "REVOKE UPDATE (data) ON overskill_data.entities FROM overskill_explorer",
            "overskill_explorer has UPDATE",
        ),
        (
            "GRANT USAGE ON SCHEMA overskill_guard TO overskill_app",
            "REVOKE USAGE ON SCHEMA overskill_guard FROM overskill_app",
            "has USAGE on overskill_guard",
        ),
        ("ALTER ROLE overskill_app BYPASSRLS", "ALTER ROLE overskill_app NOBYPASSRLS", "bypasses row level security"),
        ("ALTER ROLE overskill_explorer CREATEROLE", "ALTER ROLE overskill_explorer NOCREATEROLE", "make roles"),
        (
            "GRANT service_role TO overskill_app",
            "REVOKE service_role FROM overskill_app",
            "belongs to role service_role",
        ),
        (
            "CREATE TABLE overskill_data.t (); ALTER TABLE overskill_data.t OWNER TO overskill_app",
            "DROP TABLE overskill_data.t",
            "overskill_app owns",
        ),
        (
            "ALTER TABLE storage.objects DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY",
            "storage.objects does not keep apps apart",
        ),
        (
            "ALTER POLICY overskill_app ON realtime.messages TO authenticated",
            "ALTER POLICY overskill_app ON realtime.messages TO authenticated, anon",
            "realtime.messages does not keep apps apart",
        ),
        (
            "UPDATE storage.buckets SET public = true WHERE id = 'apps'",
            "UPDATE storage.buckets SET public = false WHERE id = 'apps'",
            "the bucket apps is public",
        ),
        (
            "ALTER TABLE overskill_data.entities ALTER COLUMN t1 SET STATISTICS 100",
            "ALTER TABLE overskill_data.entities ALTER COLUMN t1 SET STATISTICS 0",
            "has statistics",
        ),
        (
            "DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE format('CREATE POLICY p%s ON overskill_data.entities TO host USING (false)', i); \
             END LOOP; END $$",
            "DO $$ BEGIN FOR i IN 1..100 LOOP EXECUTE format('DROP POLICY p%s ON overskill_data.entities', i); END LOOP; END $$",
            "policies",
        ),
    ] {
        world.cluster.execute(DATABASE, opened).unwrap();
        let found = world.schema.audit(&world.system).await.unwrap();
        assert!(found.iter().any(|finding| finding.contains(word)), "{opened}: {found:?}");
        world.cluster.execute(DATABASE, closed).unwrap();
        assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new(), "{closed}");
    }
}

/// What a backslash says is a setting of whoever first calls the function in a session.
#[tokio::test]
async fn no_function_holds_a_backslash() {
    let world = World::new().await;
    let sql = "SELECT count(*), coalesce(string_agg(p.proname, ' ') FILTER (WHERE strpos(p.prosrc, chr(92)) > 0), '') \
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname LIKE 'overskill%'";
    let row = world.raw(Way::Direct, "postgres").await.query_one(sql, &[]).await.unwrap();
    assert!(row.get::<_, i64>(0) > 30);
    assert_eq!(row.get::<_, String>(1), "");
}

/// What stays on a connection, the next tenant meets: nobody of theirs makes any, where the database is ours to say so.
#[tokio::test]
async fn tenants_make_no_temporary_objects() {
    let world = World::new().await;
    let may = "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles \
        WHERE rolname !~ '^pg_' AND has_database_privilege(rolname, current_database(), 'TEMPORARY')";
    let root = world.raw(Way::Direct, "postgres").await;
    let who = async || root.query_one(may, &[]).await.unwrap().get::<_, String>(0);
    let others = "host postgres service_role supabase_realtime_admin supabase_storage_admin";
    assert_eq!(who().await, others);
    for role in ["overskill_app", "authenticated"] {
        world.execute(&format!("GRANT TEMPORARY ON DATABASE {} TO {role}", world.database));
        let found = world.schema.audit(&world.system).await.unwrap();
        assert!(found.len() == 1 && found[0].contains(&format!("role {role} may make temporary")), "{found:?}");
        assert_eq!(world.schema.pending(&world.system, &world.keys).await.unwrap().len(), 1);
        world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap();
        assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new());
    }
    assert_eq!(who().await, others);
}

/// Other roles of the server are left as they were: they can be dropped, and a group of tenants' roles stops no installation.
#[tokio::test]
async fn an_installation_binds_no_role_that_had_nothing_here() {
    let world = World::bare("NOBYPASSRLS").await;
    world.execute(
        "CREATE ROLE passing LOGIN; CREATE ROLE visitors; CREATE TABLE public.news (id int); \
         GRANT SELECT ON public.news TO visitors, service_role; ALTER ROLE authenticated INHERIT; GRANT visitors TO authenticated",
    );
    for _ in 0..2 {
        world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap();
    }
    let root = world.raw(Way::Direct, "postgres").await;
    let may = "SELECT has_database_privilege($1, current_database(), 'TEMPORARY')";
    for (role, kept) in [("service_role", true), ("visitors", false), ("authenticated", false), ("passing", false)] {
        assert_eq!(root.query_one(may, &[&role]).await.unwrap().get::<_, bool>(0), kept, "{role}");
    }
    world.execute("DROP ROLE passing");
    // Somebody gives it to the group: the error says what to take back.
    world.execute(&format!("GRANT TEMPORARY ON DATABASE {} TO visitors", world.database));
    let e = world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap_err();
    let way_out = format!("REVOKE TEMPORARY ON DATABASE {} FROM visitors", world.database);
    assert!(e.message().contains(&way_out), "{e}");
    root.batch_execute(&way_out).await.unwrap();
    world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap();
}

/// Postgres lets a role change its own password, and nothing else that others would miss.
#[tokio::test]
async fn sql_of_a_tenants_own_changes_the_password_of_all_until_an_installation() {
    let world = World::new().await;
    let root = world.raw(Way::Direct, "postgres").await;
    let stored = async || {
        let sql = "SELECT rolname || rolpassword FROM pg_authid WHERE rolname ~ '^overskill_' ORDER BY rolname";
        let rows = root.query(sql, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };
    let (installed, pool) = (stored().await, world.pool(Way::Direct));
    let (eve, vic) = (world.grant("eve", "evil").await, world.grant("vic", "victim").await);
    let says =
        async |sql: &str| pool.with_tenant(&eve, &scope("evil"), async |tx: &TenantTx| tx.simple(sql).await).await;
    for refused in [
        "ALTER ROLE overskill_app NOLOGIN",
        "ALTER ROLE overskill_app VALID UNTIL '2000-01-01'",
        "ALTER ROLE overskill_app CONNECTION LIMIT 0",
        "ALTER ROLE overskill_explorer RENAME TO overskill_gone",
        "ALTER ROLE overskill_explorer PASSWORD 'x'",
    ] {
        assert_eq!(says(refused).await.unwrap_err().kind(), ErrorKind::Denied, "{refused}");
    }
    assert_eq!(stored().await, installed);
    says("ALTER ROLE overskill_app PASSWORD 'x'").await.unwrap();
    let changed = stored().await;
    assert!(changed[0] != installed[0] && changed[1..] == installed[1..]);
    // Who is connected goes on.
    pool.with_tenant(&vic, &scope("victim"), async |tx: &TenantTx| tx.query("SELECT 1", &[]).await).await.unwrap();
    world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap();
    assert_ne!(stored().await[0], changed[0]);
}

/// Where it is somebody else's, the names that everything of ours finds are still Postgres' own, and what one leaves is gone.
#[tokio::test]
async fn in_another_owners_database_nothing_temporary_is_left_for_the_next() {
    let world = World::bare("NOBYPASSRLS").await;
    world.execute(&format!(
        "ALTER DATABASE {0} OWNER TO postgres; GRANT CREATE ON DATABASE {0} TO host",
        world.database
    ));
    world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap();
    assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new());
    let (eve, vic) = (world.grant("eve", "evil").await, world.grant("vic", "victim").await);
    for way in Way::ALL {
        let pool = world.pool_with(way, "overskill_app", PoolOptions::new().connections(NonZeroU32::MIN));
        let leaves = async |tx: &TenantTx| {
            tx.simple("CREATE TEMP TABLE loot (it text)").await?;
            tx.simple("CREATE DOMAIN pg_temp.text AS pg_catalog.text").await?;
            tx.query("SELECT pg_typeof('x'::text) = 'pg_catalog.text'::regtype", &[]).await
        };
        let own = pool.with_tenant(&eve, &scope("evil"), leaves).await.unwrap();
        assert!(own[0].get::<_, bool>(0), "{way:?}");
        for read_only in [true, false] {
            let scope = scope("victim");
            let tx = if read_only { pool.begin_read_only(&vic, &scope).await } else { pool.begin(&vic, &scope).await };
            let tx = tx.unwrap();
            let left = "SELECT count(*) FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace \
                WHERE n.oid = pg_my_temp_schema() UNION ALL SELECT count(*) FROM pg_class WHERE relpersistence = 't'";
            let left: Vec<i64> = tx.query(left, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
            assert_eq!(left, [0, 0], "{way:?}");
            tx.rollback().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_bucket_that_was_made_public_is_seen_by_plans_and_installations() {
    let world = World::new().await;
    assert_eq!(world.schema.pending(&world.system, &world.keys).await.unwrap(), Vec::<String>::new());
    world.execute("UPDATE storage.buckets SET public = true WHERE id = 'apps'");
    let pending = world.schema.pending(&world.system, &world.keys).await.unwrap();
    assert!(pending.len() == 1 && pending[0].contains("the bucket apps is public"), "{pending:?}");
    let e = world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Unsupported && e.message().contains("the bucket apps is public"), "{e}");
}

/// Whoever uses an app is `authenticated`, as far as the project's own tables and functions know.
#[tokio::test]
async fn the_audit_names_what_the_project_answers_to_visitors_of_apps() {
    let world = World::new().await;
    let table = "CREATE TABLE public.orders (id int); GRANT SELECT ON public.orders TO authenticated";
    let closed = "CREATE POLICY no_apps ON public.orders AS RESTRICTIVE TO authenticated USING (NOT (SELECT overskill_guard.is_apps()))";
    let function = "CREATE FUNCTION public.total() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    for (opened, closed, word) in [
        (table, format!("ALTER TABLE public.orders ENABLE ROW LEVEL SECURITY; {closed}"), "table public.orders answers visitors"),
        ("CREATE POLICY open ON public.orders TO authenticated USING (true); DROP POLICY no_apps ON public.orders", closed.to_owned(), "table public.orders"),
        ("ALTER TABLE public.orders DISABLE ROW LEVEL SECURITY", "REVOKE ALL ON public.orders FROM authenticated".to_owned(), "table public.orders"),
        ("GRANT UPDATE (id) ON public.orders TO PUBLIC", "DROP TABLE public.orders".to_owned(), "table public.orders"),
        (
            "CREATE TABLE public.inner (id int); CREATE VIEW public.outer AS SELECT * FROM public.inner; GRANT SELECT ON public.outer TO authenticated",
            "ALTER VIEW public.outer SET (security_invoker = true)".to_owned(),
            "view public.\"outer\" answers visitors",
        ),
        (function, "REVOKE ALL ON FUNCTION public.total() FROM PUBLIC".to_owned(), "function public.total() answers visitors"),
        (
            "GRANT EXECUTE ON FUNCTION public.total() TO authenticated",
            "CREATE OR REPLACE FUNCTION public.total() RETURNS int LANGUAGE sql AS 'SELECT 1 WHERE NOT overskill_guard.is_apps()'".to_owned(),
            "function public.total()",
        ),
        (
            "CREATE SCHEMA more; GRANT USAGE ON SCHEMA more TO authenticated; CREATE TABLE more.orders (id int); GRANT ALL ON more.orders TO authenticated",
            "REVOKE USAGE ON SCHEMA more FROM authenticated".to_owned(),
            "table more.orders answers",
        ),
    ] {
        world.execute(opened);
        let found = world.schema.audit(&world.system).await.unwrap();
        assert!(found.len() == 1 && found[0].contains(word), "{opened}: {found:?}");
        // No wall between apps: nothing to mend by an installation, nor in a place that an app is moved to.
        assert_eq!(world.schema.pending(&world.system, &world.keys).await.unwrap(), Vec::<String>::new(), "{opened}");
        world.execute(&closed);
        assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new(), "{closed}");
    }
    // By a group, and by words that nobody runs.
    for (opened, closed, word) in [
        (
            "CREATE ROLE visitors; ALTER ROLE authenticated INHERIT; GRANT visitors TO authenticated; CREATE TABLE public.news (id int); \
             ALTER TABLE public.news ENABLE ROW LEVEL SECURITY; GRANT SELECT ON public.news TO visitors; \
             CREATE POLICY open ON public.news TO visitors USING (true)",
            "REVOKE visitors FROM authenticated; ALTER ROLE authenticated NOINHERIT",
            "table public.news",
        ),
        (
            "CREATE FUNCTION public.sum() RETURNS int LANGUAGE sql AS $$ SELECT 1 -- overskill_guard.is_apps()\n$$",
            "DROP FUNCTION public.sum()",
            "function public.sum()",
        ),
        (
            "CREATE FUNCTION public.sum() RETURNS int LANGUAGE sql AS $$ SELECT 1 /* once\n overskill_guard.is_apps() */ $$",
            "CREATE OR REPLACE FUNCTION public.sum() RETURNS int LANGUAGE sql AS \
                $$ /* a */ SELECT 1 WHERE NOT overskill_guard.is_apps() /* b */ $$",
            "function public.sum()",
        ),
    ] {
        world.execute(opened);
        let found = world.schema.audit(&world.system).await.unwrap();
        assert!(found.len() == 1 && found[0].contains(word), "{opened}: {found:?}");
        world.execute(closed);
        assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new(), "{closed}");
    }
    // What row level security closes to everybody, and what only its triggers call.
    world.execute(
        "CREATE TABLE public.closed (id int); GRANT ALL ON public.closed TO authenticated; \
         ALTER TABLE public.closed ENABLE ROW LEVEL SECURITY; \
         CREATE FUNCTION public.changed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    );
    assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new());
}
