//! A database with the tenants' schema, as Supabase would have it, and grants for whoever a test wants to be.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

pub mod places;

use hmac::{Hmac, KeyInit as _, Mac as _};
use overskill_core::{
    AccessToken, AppId, Claims, Clock as _, Environment, KeyId, LocalKeys, LocalTokens, Right, Rights, Scope, Secret,
    SubjectId, SystemClock, SystemGrant, SystemScopes, TenantGate, TenantGrant, TenantId, memory::MemoryAudit,
};
use overskill_supabase::{
    ContextKey, ContextKeys, PoolOptions, RolePasswords, Schema, Server, TenantPool,
    tokio_postgres::{self, Client, NoTls, SimpleQueryMessage},
};
use overskill_testkit::postgres::{PgBouncer, PostgresCluster};
use sha2::Sha256;
use std::{sync::Arc, time::Duration};

/// How the roles of a Supabase project are made; `host` stands for its `postgres`.
const SUPABASE: &str = "
    CREATE ROLE anon NOLOGIN NOINHERIT;
    CREATE ROLE authenticated NOLOGIN NOINHERIT;
    CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
    CREATE ROLE authenticator LOGIN NOINHERIT;
    GRANT anon, authenticated, service_role TO authenticator;";

/// Tables of Supabase's storage and realtime, with their columns, keys, grants and owners; `host` may make policies on them,
/// as Supabase lets `postgres`.
const SERVICES: &str = include_str!("services.sql");

/// Everybody who logs in.
pub const ROLES: [&str; 5] = ["overskill_app", "overskill_explorer", "authenticator", "host", "postgres"];

pub struct World {
    pub cluster: PostgresCluster,
    pub pooler: PgBouncer,
    pub tokens: LocalTokens,
    pub gate: TenantGate,
    pub system: SystemGrant,
    pub keys: ContextKeys,
    pub schema: Schema,
    /// Where its connections lead.
    pub database: String,
}

/// The database that tests use.
pub const DATABASE: &str = "tenants";

impl World {
    /// Installed by a role that is no superuser.
    pub async fn new() -> Self {
        Self::installed_by("NOBYPASSRLS").await
    }

    /// Installed by a role with these attributes more.
    pub async fn installed_by(attributes: &str) -> Self {
        let world = Self::bare(attributes).await;
        world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap();
        world
    }

    /// Without the schema.
    pub async fn bare(attributes: &str) -> Self {
        let cluster = PostgresCluster::start().unwrap();
        let host = format!("CREATE ROLE host LOGIN NOSUPERUSER CREATEROLE CREATEDB {attributes};");
        cluster.execute("postgres", &format!("{SUPABASE}{host}")).unwrap();
        cluster.execute("postgres", &format!("CREATE DATABASE {DATABASE} OWNER host")).unwrap();
        cluster.execute(DATABASE, SERVICES).unwrap();
        let pooler = PgBouncer::start(&cluster, &ROLES, 2).unwrap();
        let tokens = LocalTokens::new(LocalKeys::generate(KeyId::parse("local").unwrap()).unwrap());
        let gate = TenantGate::new(Arc::new(tokens.validator()), Arc::new(MemoryAudit::new()), Arc::new(SystemClock));
        let system = gate.system("test", "a test", SystemScopes::All).await.unwrap();
        let keys = ContextKeys::new(key("k1", 7));
        let schema = Schema::new(server(&role_url(&cluster, "host", DATABASE)), gate.clone());
        Self { cluster, pooler, tokens, gate, system, keys, schema, database: DATABASE.to_owned() }
    }

    /// A pool of tenants, on the server or behind the pooler.
    pub fn pool(&self, way: Way) -> TenantPool {
        self.pool_with(way, "overskill_app", PoolOptions::new())
    }

    pub fn pool_with(&self, way: Way, role: &str, options: PoolOptions) -> TenantPool {
        TenantPool::new(server(&self.url(way, role)), self.gate.clone(), self.keys.clone(), options)
    }

    pub fn url(&self, way: Way, role: &str) -> String {
        match way {
            Way::Direct => role_url(&self.cluster, role, &self.database),
            Way::Pooled => self.pooler.url(role, &self.database),
        }
    }

    /// Everything from now on is in this database.
    pub fn move_to(&mut self, database: &str) {
        database.clone_into(&mut self.database);
        self.schema = Schema::new(server(&role_url(&self.cluster, "host", database)), self.gate.clone());
    }

    /// Runs statements as a superuser.
    pub fn execute(&self, sql: &str) {
        self.cluster.execute(&self.database, sql).unwrap();
    }

    /// A connection without anything of ours around it.
    pub async fn raw(&self, way: Way, role: &str) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url(way, role), NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }

    pub fn token(&self, subject: &str, app: &str, rights: Rights) -> AccessToken {
        let now = SystemClock.now();
        let (subject, tenant) = (SubjectId::parse(subject).unwrap(), TenantId::of_app(AppId::parse(app).unwrap()));
        self.tokens.mint(&Claims::new(subject, tenant, rights, now.plus(Duration::from_mins(10))), now).unwrap()
    }

    pub async fn grant(&self, subject: &str, app: &str) -> TenantGrant {
        self.grant_of(subject, app, Rights::of([Right::Data])).await
    }

    pub async fn grant_of(&self, subject: &str, app: &str, rights: Rights) -> TenantGrant {
        let token = self.token(subject, app, rights);
        self.gate.admit(&token, &TenantId::of_app(AppId::parse(app).unwrap())).await.unwrap()
    }
}

/// How a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Direct,
    /// Through `PgBouncer` in transaction mode, with two connections to the server.
    Pooled,
}

impl Way {
    pub const ALL: [Self; 2] = [Self::Direct, Self::Pooled];
}

/// A key of 32 times the same byte.
pub fn key(id: &str, byte: u8) -> ContextKey {
    ContextKey::parse(KeyId::parse(id).unwrap(), &Secret::new(format!("{byte:02x}").repeat(32))).unwrap()
}

/// A context as the documentation says it is, signed by hand.
pub struct Signed {
    pub version: &'static str,
    pub kid: &'static str,
    pub byte: u8,
    pub app: &'static str,
    pub environment: &'static str,
    pub rights: &'static str,
    pub subject: &'static str,
    pub session: String,
    pub expires_in_seconds: i64,
}

impl Signed {
    pub fn of(subject: &'static str, app: &'static str) -> Self {
        Self {
            version: "1",
            kid: "k1",
            byte: 7,
            app,
            environment: "production",
            rights: "d",
            subject,
            session: "5e".repeat(16),
            expires_in_seconds: 600,
        }
    }

    pub fn text(&self) -> String {
        let expiry = SystemClock.now().as_unix_millis() / 1000 + self.expires_in_seconds;
        let Self { version, kid, byte, app, environment, rights, subject, session, .. } = self;
        let subject = hex(subject.as_bytes());
        let text = format!("{version}.{kid}.{app}.{environment}.{rights}.{subject}.{session}.{expiry}");
        let mut mac = Hmac::<Sha256>::new_from_slice(&[*byte; 32]).unwrap();
        mac.update(text.as_bytes());
        format!("{text}.{}", hex(&mac.finalize().into_bytes()))
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect()
}

pub fn passwords() -> RolePasswords {
    RolePasswords { app: Secret::new("correct horse"), explorer: Secret::new("battery staple") }
}

pub fn scope(app: &str) -> Scope {
    Scope::new(AppId::parse(app).unwrap(), Environment::Production)
}

pub fn server(url: &str) -> Server {
    Server::parse(&Secret::new(url)).unwrap()
}

pub fn role_url(cluster: &PostgresCluster, role: &str, database: &str) -> String {
    cluster.url(database).replacen("postgres@", &format!("{role}@"), 1)
}

/// The values of all rows, as text; `None` for SQL's null.
pub fn cells(messages: &[SimpleQueryMessage]) -> Vec<Vec<Option<String>>> {
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}
