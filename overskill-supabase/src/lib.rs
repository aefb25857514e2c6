//! Tenants of overskill on Supabase and Postgres: validation, row level security that is proven, data.
//!
//! Tens of thousands of apps share a few tables. Two walls stand between them:
//!
//! - In front, a [`TenantGate`](overskill_core::TenantGate) turns tokens into grants, and every call here wants one.
//! - Behind, forced row level security, for roles that own nothing. What it compares rows with is a *signed context*
//!   (app, environment, rights, subject, session, expiry) whose HMAC the database checks itself, with keys that no tenant's
//!   role can read. A role, a claim or a setting that SQL can change decides nothing.
//!
//! [`Supabase::connect`] is where to begin: from one handle come the validator, the issuer of apps' tokens, the entity API, the
//! explorer and all the rest, and `install` brings the project to where it should be. Each part can be made by itself too:
//! [`Schema`] installs the second wall, and says what is wrong with it; [`TenantPool`] hands out transactions in which there
//! are the rows of one app and no others, wherever its tables are. [`Mover`] moves an app to a schema of its own, or to
//! another project's database, and back, while it is in use.
//!
//! ```
//! use overskill_core::{Clock, KeyId, Secret, SystemClock, SystemIds};
//! use overskill_supabase::{ContextKey, ContextKeys, RolePasswords, SigningKey, Supabase};
//!
//! let supabase = Supabase::connect("abcdefghijklmnopqrst", "postgres://postgres:…@db.example.com:5432/postgres")
//!     .passwords(RolePasswords { app: Secret::new("…"), explorer: Secret::new("…") })
//!     .contexts(ContextKeys::new(ContextKey::generate(KeyId::parse("2026-11")?, &SystemIds)))
//!     .signing_key(SigningKey::generate(&SystemIds, SystemClock.now())?)
//!     .build()?;
//! let (validator, issuer) = (supabase.validator(), supabase.issuer()?);
//! # let _ = (validator, issuer);
//! # Ok::<(), overskill_core::Error>(())
//! ```
//!
//! # Why `tokio-postgres`
//!
//! Behind a pooler that hands out single transactions, a statement must have no name: sqlx names them unless each is told
//! not to, and one that was forgotten fails only under load. `query_typed` has no name, takes one round trip, and the same
//! client can cancel a statement in the server, which exploring data needs.

mod context;
mod editor;
mod entities;
#[cfg(test)]
mod entry_points;
mod explorer;
mod gateway;
mod inspector;
mod install;
mod management;
mod permit;
mod placement;
mod pool;
mod schema;
mod supabase;
mod tokens;
mod tx;
mod validator;

pub use context::{ContextKey, ContextKeys, Session};
pub use editor::{
    ChangeState, ColumnSpec, ColumnType, DefaultValue, EditorLimits, LockLevel, Name, OnDelete, PlannedStatement,
    PlannedStep, Rehearsal, RehearsedStatement, SchemaChange, SchemaChangeRecord, SchemaEditor, SchemaPlan, StepWay,
    TableLock, Unfit,
};
pub use entities::EntityApi;
pub use explorer::{Cut, Explorer, ExplorerLimits, Format, Query, Rows, Table};
pub use gateway::gateway_function;
pub use inspector::{
    AppSchema, AppTables, ColumnInfo, ForeignKeyInfo, IndexInfo, PolicyInfo, RowSecurity, SchemaInspector,
    SharedAccess, TableInfo, UniqueInfo,
};
pub use install::Changes;
pub use management::{
    Advice, ApiKey, ApiKeyKind, EdgeFunction, FunctionBundle, KeyState, Management, ProjectRef, ProjectSigningKey,
    SecretName,
};
pub use placement::{Move, MoveStep, Mover, Placement, Project, ProjectList, ProjectName, Projects};
pub use pool::{Plan, PoolOptions, TenantPool};
pub use schema::{RolePasswords, Schema};
pub use supabase::{Supabase, SupabaseBuilder};
pub use tokens::{GrantedIssuer, SigningKey, TokenIssuer};
pub use tokio_postgres;
pub use tx::{Access, Canceller, Server, TenantTx};
pub use validator::{
    Jwks, KeySource, Membership, MembershipKeys, Memberships, MemoryMemberships, PostgresMemberships,
    SupabaseValidator, SupabaseValidatorBuilder, TokenKeys, TrustedIssuer,
};
