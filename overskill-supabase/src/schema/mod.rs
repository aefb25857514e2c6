//! The tables of tenants and the walls between them: installing, keys, and looking after them.

pub(crate) mod audit;
pub(crate) mod versions;

use crate::{
    context::{ContextKey, ContextKeys, Session},
    permit::permit_all,
    tx::{
        SEARCH_PATH, Server,
        fault::{BACKEND, failed, failed_commit},
    },
};
use overskill_core::{
    Digest, Effect, Error, ErrorKind, Grant, Result, Right, Scope, Secret, SystemGrant, TenantGate, Timestamp,
};
use overskill_sql::postgres::{PostgresOptions, PostgresStores};
use tokio_postgres::{
    Client,
    types::{ToSql, Type},
};

/// One step of the schema. What ran never changes.
struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "tenants", sql: include_str!("0001_tenants.sql") },
    Migration { version: 3, name: "tables", sql: include_str!("0003_tables.sql") },
    Migration { version: 4, name: "placements", sql: include_str!("0004_placements.sql") },
    Migration { version: 5, name: "records", sql: include_str!("0005_records.sql") },
];

/// What belongs to Supabase's own services.
const SERVICES: &str = include_str!("services.sql");

/// Passwords of the roles that tenants' connections log in as. The server is sent a verifier, never the password.
///
/// All tenants log in as the same role, and Postgres lets a role change its own password: whoever may write the SQL that runs
/// [`with_tenant`](crate::TenantPool::with_tenant) can say `ALTER ROLE overskill_app PASSWORD 'x'`, and until
/// [`Schema::install`] sets it again, no new connection gets in, of no tenant. Nothing can be read by it, and what is connected
/// goes on. So run SQL of the host's own there, and that of developers by the [`Explorer`](crate::Explorer), which lets none of
/// this through; or have the server ask these roles for a client certificate instead (`cert` in its `pg_hba.conf`).
#[derive(Clone, Debug)]
pub struct RolePasswords {
    /// Of `overskill_app`, which reads and writes records.
    pub app: Secret,
    /// Of `overskill_explorer`, which runs developers' own queries.
    pub explorer: Secret,
}

/// The schema of tenants in one database, seen by whoever owns it. Every call takes a [`SystemGrant`] of its gate.
///
/// The role needs the right to create schemas, and roles (`CREATEROLE`) unless both are there: Supabase's `postgres`, and
/// no superuser.
///
/// # The shared table
///
/// Records of all apps are rows of `overskill_data.entities`, under the key `(app_id, entity_type, id)`; `app_id` is a number
/// for an app in one environment. The kind is part of the key, which `(app_id, id)` would leave out: apps choose the ids of
/// their records, each kind by itself, as everywhere in the [entity API](overskill_core::entities), so `Task` and `Note` may
/// both have a `1`. One key for all kinds would refuse that, and the refusal would tell who may not read a kind which ids are
/// in it. Every statement names a kind, so it stands second in every index, too.
///
/// Up to six fields of a kind are kept in columns of their own with an index each: three as `text` (the first 200 characters,
/// compared byte by byte) and three as `float8`. Those are the types of JSON's values that are worth an index; times are text
/// there. A column of another type would need a cast, which fails for the one value that is not of it, and fails the write
/// with it. Columns only narrow a search: what is compared in the end is the field itself, so a number beyond 2^53 or a long
/// text is not taken for its neighbour.
///
/// # The project is for apps alone
///
/// Supabase's services know one role for whoever signed in, `authenticated`, and a token of an app has it, too: each visitor
/// of each app, signed in or not. What lies between apps are policies on the tables here, on files and on channels. A table or
/// a function of the project's own that this role may use has no such policy, and `PostgREST` shows it to all of them:
/// `public.orders` with `TO authenticated USING (true)`, say. So a project that serves apps should have nothing else in it;
/// where it has, [`audit`](Self::audit) names what is open, and how to close it to apps' tokens.
#[derive(Clone, Debug)]
pub struct Schema {
    server: Server,
    gate: TenantGate,
}

impl Schema {
    /// The schema of the database that `server` names. Connects for each call; nothing stays open.
    pub fn new(server: Server, gate: TenantGate) -> Self {
        Self { server, gate }
    }

    /// Creates what is missing and brings it up to date, sets the passwords and the keys, and looks at the result: all in
    /// one transaction, so it happens whole or not at all. May be repeated.
    ///
    /// Where the project has Supabase's storage and realtime, their tables get policies too: an app's files are those of the
    /// private bucket `apps` in `{app}/{environment}/`, its channels `app:{app}:{environment}:…`, and its tokens open no file
    /// and no channel of the project's own users. Policies of the project's go on for those, and cannot widen an app's. Other
    /// tables of the project's are [its own to close](Self#the-project-is-for-apps-alone).
    ///
    /// Tenants' roles and `PostgREST`'s make no temporary objects any more, if the role owns the database. Other roles that own
    /// or may use something in it are granted `TEMPORARY` and still do; any other has to be granted it. To drop one of those
    /// roles, end what it has here first, as before: `DROP OWNED BY` it, in this database.
    ///
    /// `Unsupported` for a server with known holes, or a database that a newer library wrote. Needs a grant for all apps.
    pub async fn install(&self, grant: &SystemGrant, passwords: &RolePasswords, keys: &ContextKeys) -> Result<()> {
        const RECORD: &str = "INSERT INTO overskill_guard.migrations (version, name, checksum) VALUES ($1, $2, $3)";
        self.permit_all(grant)?;
        let connection = self.server.connect().await?;
        let client = &connection.client;
        versions::refuse_known_holes(client).await?;
        let run = async |sql: &str| client.batch_execute(sql).await.map_err(failed("install"));
        run(&format!(
            "BEGIN; SET LOCAL statement_timeout = '10min'; SET LOCAL lock_timeout = '10s'; \
             SET LOCAL search_path = {SEARCH_PATH}; \
             SELECT pg_advisory_xact_lock(hashtextextended('overskill tenants', 0))"
        ))
        .await?;
        run(BASE).await?;
        run(include_str!("0000_roles.sql")).await?;
        let missing = to_run(client).await?;
        for migration in missing {
            run(migration.sql).await?;
            let arguments: [(&(dyn ToSql + Sync), Type); 3] =
                [(&migration.version, Type::INT8), (&migration.name, Type::TEXT), (&migration.checksum(), Type::TEXT)];
            client.execute_typed(RECORD, &arguments).await.map_err(failed("install"))?;
        }
        if !missing.is_empty() {
            run(FURNISH).await?;
        }
        run(SERVICES).await?;
        run(&format!("COMMENT ON FUNCTION overskill_guard.place() IS '{}'", Digest::of(SERVICES.as_bytes()))).await?;
        for (role, password) in [("overskill_app", &passwords.app), ("overskill_explorer", &passwords.explorer)] {
            // Letters, digits and a few signs: nothing that would end the literal.
            let verifier = postgres_protocol::password::scram_sha_256(password.expose().as_bytes());
            run(&format!("ALTER ROLE {role} PASSWORD '{verifier}'")).await?;
        }
        set_keys(client, keys).await?;
        refuse_findings(&audit::walls(client).await?)?;
        client.batch_execute("COMMIT").await.map_err(failed_commit("install"))
    }

    /// What [`install`](Self::install) would change, in words; nothing when all is as it should be. Passwords cannot be
    /// compared.
    pub async fn pending(&self, grant: &SystemGrant, keys: &ContextKeys) -> Result<Vec<String>> {
        const STATE: &str = "SELECT to_regclass('overskill_guard.migrations') IS NOT NULL, \
            obj_description(to_regprocedure('overskill_guard.place()')::oid, 'pg_proc')";
        const KEYS: &str = "SELECT kid, inner_pad FROM overskill_guard.keys WHERE not_after IS NULL";
        self.permit_all(grant)?;
        let connection = self.server.connect().await?;
        let client = &connection.client;
        let state = client.query_typed_one(STATE, &[]).await.map_err(failed("look at the schema"))?;
        let (there, services): (bool, Option<String>) = (state.get(0), state.get(1));
        let missing = if there { to_run(client).await? } else { MIGRATIONS };
        if !missing.is_empty() {
            return Ok(missing.iter().map(|m| format!("run migration {} ({})", m.version, m.name)).collect());
        }
        let mut pending: Vec<_> = audit::walls(client).await?.into_iter().map(|it| format!("mend: {it}")).collect();
        if services.as_deref() != Some(Digest::of(SERVICES.as_bytes()).to_string().as_str()) {
            pending.push("renew what belongs to the project's own services".to_owned());
        }
        let rows = client.query_typed(KEYS, &[]).await.map_err(failed("look at the keys"))?;
        let known: Vec<(&str, &[u8])> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let as_they_are = |key: &ContextKey| known.contains(&(key.id().as_str(), &key.pads().0[..]));
        if known.len() != keys.all().count() || !keys.all().all(as_they_are) {
            let names: Vec<_> = keys.all().map(|key| key.id().as_str()).collect();
            pending.push(format!("set the keys of contexts: {}", names.join(", ")));
        }
        Ok(pending)
    }

    /// Makes `keys` those that the database takes, and no others.
    pub async fn keys(&self, grant: &SystemGrant, keys: &ContextKeys) -> Result<()> {
        self.permit_all(grant)?;
        let connection = self.server.connect().await?;
        connection.client.batch_execute("BEGIN").await.map_err(failed("set the keys"))?;
        set_keys(&connection.client, keys).await?;
        connection.client.batch_execute("COMMIT").await.map_err(failed_commit("set the keys"))
    }

    /// What is wrong with the walls, in sentences: a table without forced row level security, a policy or a grant too many,
    /// a role that may too much. And what else the project has that answers visitors of apps, who are all `authenticated`:
    /// [it is for apps alone](Self#the-project-is-for-apps-alone). Nothing when all is well.
    pub async fn audit(&self, grant: &SystemGrant) -> Result<Vec<String>> {
        self.permit_all(grant)?;
        let connection = self.server.connect().await?;
        let mut findings = audit::walls(&connection.client).await?;
        findings.extend(audit::visitors(&connection.client).await?);
        Ok(findings)
    }

    /// The platform's own stores (sources, bundles, env, deployments, audit, schedules) in the schema `overskill_records` of
    /// this database, out of reach of every role of tenants.
    ///
    /// `url` is for sqlx: `sslmode=verify-full` is the one that checks certificates. It has to lead to the server itself or
    /// to sessions of a pooler, as the role that this schema was made with: the stores keep prepared statements.
    pub async fn records(
        &self,
        grant: &SystemGrant,
        url: impl Into<Secret>,
        options: PostgresOptions,
    ) -> Result<PostgresStores> {
        const CLOSE: &str = "DO $$ DECLARE role text; BEGIN
            REVOKE ALL ON SCHEMA overskill_records FROM PUBLIC;
            FOR role IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN
                ('overskill_app', 'overskill_explorer', 'authenticated', 'anon', 'service_role') LOOP
                EXECUTE format('REVOKE ALL ON SCHEMA overskill_records FROM %I', role);
                EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA overskill_records FROM %I', role);
            END LOOP; END $$";
        self.permit_all(grant)?;
        let stores = PostgresStores::connect(url, options.schema("overskill_records")?).await?;
        let client = &self.server.connect().await?.client;
        client.batch_execute(CLOSE).await.map_err(failed("close the records"))?;
        refuse_findings(&audit::walls(client).await?)?;
        Ok(stores)
    }

    /// Ends a session before its contexts expire, for whatever shows them to this database: `PostgREST`, storage and realtime,
    /// and so the [gateway](crate::gateway_function). A channel that is open already stays so until realtime looks at its
    /// token again. Pools sign a context of their own for each transaction: before them stands a
    /// [`SupabaseValidator`](crate::SupabaseValidator), with a [list of its own](crate::SupabaseValidator::revoke).
    ///
    /// `until` is when the last of the contexts expires; for [a token](Session::of_token) that is
    /// [`TokenIssuer::MAX_TTL`](crate::TokenIssuer::MAX_TTL) from now at the latest. Needs a grant for all apps.
    pub async fn revoke(&self, grant: &SystemGrant, session: Session, until: Timestamp) -> Result<()> {
        const REVOKE: &str = "WITH gone AS (DELETE FROM overskill_guard.revoked WHERE until < now() - interval '1 hour') \
            INSERT INTO overskill_guard.revoked (session, until) VALUES ($1, timestamptz 'epoch' + $2 * interval '1 millisecond') \
            ON CONFLICT (session) DO UPDATE SET until = greatest(revoked.until, excluded.until)";
        self.permit_all(grant)?;
        let arguments: [(&(dyn ToSql + Sync), Type); 2] =
            [(&session.to_string(), Type::TEXT), (&until.as_unix_millis(), Type::INT8)];
        let client = &self.server.connect().await?.client;
        client.execute_typed(REVOKE, &arguments).await.map(drop).map_err(failed_commit("revoke"))
    }

    /// Closes an app's data to all of its tenants, at once and for contexts that were signed before too; `false` opens it
    /// again. In a [project of its own](crate::Placement::OwnProject) it is closed within
    /// [`PoolOptions::route_age`](crate::PoolOptions::route_age).
    pub async fn suspend(&self, grant: &SystemGrant, scope: &Scope, suspended: bool) -> Result<()> {
        const SUSPEND: &str = "INSERT INTO overskill_guard.apps (app, environment, state) VALUES ($1, $2, $3) \
            ON CONFLICT (app, environment) DO UPDATE SET state = excluded.state";
        self.gate.permit(&Grant::from(grant.clone()), scope, Right::Operate)?;
        let state = if suspended { "suspended" } else { "active" };
        let arguments: [(&(dyn ToSql + Sync), Type); 3] =
            [(&scope.app.as_str(), Type::TEXT), (&scope.environment.as_str(), Type::TEXT), (&state, Type::TEXT)];
        let client = &self.server.connect().await?.client;
        client.execute_typed(SUSPEND, &arguments).await.map(drop).map_err(failed_commit("suspend"))
    }

    /// The database, as whoever owns the schema.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn gate(&self) -> &TenantGate {
        &self.gate
    }

    pub(crate) fn permit_all(&self, grant: &SystemGrant) -> Result<()> {
        permit_all(&self.gate, grant)
    }
}

impl Migration {
    /// A checkout that turned line ends into CRLF is not a change.
    fn checksum(&self) -> String {
        Digest::of(self.sql.replace("\r\n", "\n").as_bytes()).to_string()
    }
}

/// What is there before the first migration.
const BASE: &str = "
    CREATE SCHEMA IF NOT EXISTS overskill_guard;
    REVOKE ALL ON SCHEMA overskill_guard FROM PUBLIC;
    CREATE TABLE IF NOT EXISTS overskill_guard.migrations (
        version bigint PRIMARY KEY, name text NOT NULL, checksum text NOT NULL);
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = 'overskill_guard.migrations'::regclass) THEN
            ALTER TABLE overskill_guard.migrations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY helpers ON overskill_guard.migrations TO CURRENT_USER USING (true);
        END IF;
    END $$;";

/// Tables in apps' own schemas become what the shared ones became.
const FURNISH: &str = "SELECT overskill_guard.furnish(home, app_id) FROM overskill_guard.apps \
    WHERE home LIKE 'overskill\\_app\\_%'";

async fn to_run(client: &Client) -> Result<&'static [Migration]> {
    const RAN: &str = "SELECT version, checksum FROM overskill_guard.migrations ORDER BY version";
    let refuse = |message: String| {
        Err(Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None).at(BACKEND, "install"))
    };
    let ran = client.query_typed(RAN, &[]).await.map_err(failed("install"))?;
    for (i, row) in ran.iter().enumerate() {
        let (version, checksum): (i64, String) = (row.get(0), row.get(1));
        let Some(known) = MIGRATIONS.get(i).filter(|m| m.version == version) else {
            let newest = MIGRATIONS.last().map_or(0, |m| m.version);
            return refuse(format!(
                "the tenants' schema has version {version}, but this library knows versions up to {newest}: update overskill"
            ));
        };
        if known.checksum() != checksum {
            return refuse(format!("migration {version} ({}) is not the one that made this schema", known.name));
        }
    }
    Ok(&MIGRATIONS[ran.len()..])
}

async fn set_keys(client: &Client, keys: &ContextKeys) -> Result<()> {
    const KEEP: &str = "DELETE FROM overskill_guard.keys WHERE kid <> ALL ($1)";
    const PUT: &str = "INSERT INTO overskill_guard.keys (kid, inner_pad, outer_pad) VALUES ($1, $2, $3) \
        ON CONFLICT (kid) DO UPDATE SET inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad, not_after = NULL";
    let names: Vec<_> = keys.all().map(|key| key.id().as_str()).collect();
    client.execute_typed(KEEP, &[(&names, Type::TEXT_ARRAY)]).await.map_err(failed("set the keys"))?;
    for key in keys.all() {
        let (inner, outer) = key.pads();
        let arguments: [(&(dyn ToSql + Sync), Type); 3] =
            [(&key.id().as_str(), Type::TEXT), (&&inner[..], Type::BYTEA), (&&outer[..], Type::BYTEA)];
        client.execute_typed(PUT, &arguments).await.map_err(failed("set the keys"))?;
    }
    Ok(())
}

fn refuse_findings(findings: &[String]) -> Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let message = format!("the walls between tenants would not stand: {}", findings.join("; "));
    Err(Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None).at(BACKEND, "install"))
}
