//! Memberships in Postgres, out of reach of every tenant's role.

use super::membership::{Membership, Memberships};
use crate::{
    permit::{permit_all, permit_app},
    tx::{
        Server,
        connection::Connection,
        fault::{BACKEND, failed, failed_commit},
    },
};
use async_trait::async_trait;
use overskill_core::{
    AppId, Clock, Effect, Error, ErrorKind, KeyId, ParseError, Readiness, Result, Rights, SubjectId, SystemClock,
    SystemGrant, TenantGate, TenantId, Timestamp, timeout,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// Memberships in a schema of their own, `overskill_members`. Clones share connections, of which as many stay open as were
/// used at a time.
///
/// `server` logs in as the schema's owner: [`install`](Self::install) takes every right in it from the roles of tenants and
/// those that `PostgREST` may become, whatever the project's default privileges give them, [`Schema::audit`](crate::Schema::audit)
/// tells when one may use it again, and row level security is forced on all but its owner. What it says is checked against the keys nevertheless.
#[derive(Clone, Debug)]
pub struct PostgresMemberships {
    server: Server,
    clock: Arc<dyn Clock>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

const SCHEMA: &str = "
    BEGIN;
    SELECT pg_advisory_xact_lock(hashtextextended('overskill members', 0));
    CREATE SCHEMA IF NOT EXISTS overskill_members;
    REVOKE ALL ON SCHEMA overskill_members FROM PUBLIC;
    CREATE TABLE IF NOT EXISTS overskill_members.memberships (
        subject text COLLATE \"C\" NOT NULL,
        app text COLLATE \"C\" NOT NULL,
        tenant text NOT NULL,
        rights text NOT NULL,
        since bigint NOT NULL,
        kid text NOT NULL,
        mac bytea NOT NULL CHECK (octet_length(mac) = 32),
        PRIMARY KEY (subject, app)
    );
    REVOKE ALL ON overskill_members.memberships FROM PUBLIC;
    DO $$ DECLARE role text; BEGIN
        FOR role IN SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN
            ('overskill_app', 'overskill_explorer', 'authenticated', 'anon', 'service_role') LOOP
            EXECUTE format('REVOKE ALL ON SCHEMA overskill_members FROM %I', role);
            EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA overskill_members FROM %I', role);
        END LOOP;
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_policy WHERE polrelid = 'overskill_members.memberships'::regclass) THEN
            ALTER TABLE overskill_members.memberships ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY owner ON overskill_members.memberships TO CURRENT_USER USING (true);
        END IF;
    END $$;
    COMMIT;";

/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(5);

impl PostgresMemberships {
    /// The memberships in the database that `server` names. Connects when it is first used.
    pub fn new(server: Server) -> Self {
        Self { server, clock: Arc::new(SystemClock), idle: Arc::default() }
    }

    /// Sets where time comes from.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Creates what is missing. May be repeated. Needs a grant of `gate` for all apps, whichever gate that is: see
    /// [`Memberships`].
    pub async fn install(&self, gate: &TenantGate, grant: &SystemGrant) -> Result<()> {
        permit_all(gate, grant)?;
        self.with(async |connection| connection.client.batch_execute(SCHEMA).await.map_err(failed_commit("install")))
            .await
    }

    async fn with<T>(&self, work: impl AsyncFnOnce(&Connection) -> Result<T>) -> Result<T> {
        let kept = {
            let mut idle = self.idle.lock().expect("nothing panics while it is held");
            idle.retain(|it| !it.client.is_closed());
            idle.pop()
        };
        let working = async {
            let connection = match kept {
                Some(connection) => connection,
                None => self.server.connect().await?,
            };
            let done = work(&connection).await;
            // What failed may be in the middle of something.
            if done.is_ok() {
                self.idle.lock().expect("nothing panics while it is held").push(connection);
            }
            done
        };
        timeout(&*self.clock, LIMIT, working).await
    }
}

type Arguments<'a, const N: usize> = [(&'a (dyn ToSql + Sync), Type); N];

#[async_trait]
impl Memberships for PostgresMemberships {
    async fn check(&self) -> Result<Readiness> {
        const THERE: &str = "SELECT to_regclass('overskill_members.memberships') IS NOT NULL";
        let rows = self
            .with(async |connection| connection.client.query_typed(THERE, &[]).await.map_err(failed("check")))
            .await?;
        let there = rows.first().is_some_and(|row| row.get(0));
        let ready = Readiness::ready(BACKEND);
        Ok(if there { ready } else { ready.lacks("there is no table of memberships", "call `install` once") })
    }

    async fn find(&self, subject: &SubjectId, app: &AppId) -> Result<Option<Membership>> {
        const FIND: &str = "SELECT subject, tenant, rights, since, kid, mac FROM overskill_members.memberships \
            WHERE subject = $1 AND app = $2";
        let (subject, app) = (subject.as_str(), app.as_str());
        let rows = self
            .with(async |connection| {
                let arguments: Arguments<'_, 2> = [(&subject, Type::TEXT), (&app, Type::TEXT)];
                connection.client.query_typed(FIND, &arguments).await.map_err(failed("find"))
            })
            .await?;
        rows.first().map(read).transpose()
    }

    async fn put(&self, gate: &TenantGate, grant: &SystemGrant, membership: &Membership) -> Result<()> {
        const PUT: &str = "INSERT INTO overskill_members.memberships (subject, app, tenant, rights, since, kid, mac) \
            VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (subject, app) DO UPDATE SET tenant = excluded.tenant, \
            rights = excluded.rights, since = excluded.since, kid = excluded.kid, mac = excluded.mac";
        permit_app(gate, grant, membership.tenant.app())?;
        let Membership { subject, tenant, rights, since, key, mac } = membership;
        let (app, mac) = (tenant.app().as_str(), &mac[..]);
        let (subject, tenant, rights, key) = (subject.as_str(), tenant.to_string(), rights.to_string(), key.as_str());
        let since = since.as_unix_millis();
        self.with(async |connection| {
            let arguments: Arguments<'_, 7> = [
                (&subject, Type::TEXT),
                (&app, Type::TEXT),
                (&tenant, Type::TEXT),
                (&rights, Type::TEXT),
                (&since, Type::INT8),
                (&key, Type::TEXT),
                (&mac, Type::BYTEA),
            ];
            connection.client.execute_typed(PUT, &arguments).await.map(drop).map_err(failed_commit("put"))
        })
        .await
    }

    async fn remove(&self, gate: &TenantGate, grant: &SystemGrant, subject: &SubjectId, app: &AppId) -> Result<bool> {
        const REMOVE: &str = "DELETE FROM overskill_members.memberships WHERE subject = $1 AND app = $2";
        permit_app(gate, grant, app)?;
        let (subject, app) = (subject.as_str(), app.as_str());
        self.with(async |connection| {
            let arguments: Arguments<'_, 2> = [(&subject, Type::TEXT), (&app, Type::TEXT)];
            let removed = connection.client.execute_typed(REMOVE, &arguments).await;
            removed.map(|rows| rows > 0).map_err(failed_commit("remove"))
        })
        .await
    }
}

/// A row that cannot be read is no membership, and nobody's guess.
fn read(row: &Row) -> Result<Membership> {
    let unreadable = |e: ParseError| {
        Error::new(ErrorKind::Unexpected, "a membership in the database cannot be read")
            .effect_as(Effect::None)
            .at(BACKEND, "find")
            .with("column", e.field())
    };
    let mac: &[u8] = row.get(5);
    let mac = mac.try_into().map_err(|_| unreadable(ParseError::new("mac", "must be 32 bytes", "")))?;
    Ok(Membership::stored(
        row.get::<_, &str>(0).parse::<SubjectId>().map_err(unreadable)?,
        row.get::<_, &str>(1).parse::<TenantId>().map_err(unreadable)?,
        row.get::<_, &str>(2).parse::<Rights>().map_err(unreadable)?,
        Timestamp::from_unix_millis(row.get(3)),
        KeyId::parse(row.get(4)).map_err(unreadable)?,
        mac,
    ))
}
