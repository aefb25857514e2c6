//! The stores in a Postgres schema.
//!
//! Everything is in a schema of its own (`overskill` unless [set](PostgresOptions::schema)), so it can share a database
//! with anything else. Times are milliseconds since 1970 (`to_timestamp(at_ms / 1000.0)`), ids and digests are text.
//!
//! Connect to the server itself, or to a pooler that gives every client a session of its own: the stores set
//! `search_path` and timeouts when they connect and keep prepared statements, which a pooler that hands out single
//! transactions loses.
//!
//! What is durable is up to the server's `synchronous_commit`; `on`, its default, survives a power cut.

mod change_files;
mod claim_runs;
mod driver;
mod open;
mod options;
mod put_blobs;
#[path = "../stores/mod.rs"]
mod stores;

pub use options::PostgresOptions;
pub use stores::*;

use driver::Db;
use overskill_core::{Incarnation, Readiness, Result, Secret};

/// Every store, in one Postgres schema. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PostgresStores {
    db: Db,
    settings: Settings,
}

impl PostgresStores {
    /// Connects, creates the schema when it is missing, and brings it up to date. The role needs the right to create the
    /// schema, or to own it.
    ///
    /// The URL is `postgres://user:password@host:port/database`; it is a secret and appears in no error.
    pub async fn connect(url: impl Into<Secret>, options: PostgresOptions) -> Result<Self> {
        let db = open::server(&url.into(), &options).await.map_err(|f| f.at(driver::BACKEND, "connect"))?;
        Ok(Self { db, settings: options.settings() })
    }

    /// Whether the database can be read and written.
    pub async fn check(&self) -> Result<Readiness> {
        self.db.check().await
    }

    /// The life that positions are of.
    pub fn incarnation(&self) -> Incarnation {
        self.db.incarnation()
    }

    /// Makes every position that was given out before meaningless.
    ///
    /// Call it once on a database that was restored from an older copy, before anything else uses it, on this machine or
    /// another: the copy will give out positions again that stood for something else, and whoever remembers one of those
    /// (a preview, a replica, a client) must start again from a snapshot rather than go on from it.
    pub async fn begin_new_incarnation(&self) -> Result<Incarnation> {
        self.db.begin_new_incarnation().await
    }

    /// Closes the connections, once the calls that run have ended. Calls made afterwards are `Unavailable`.
    pub async fn close(&self) -> Result<()> {
        self.db.close().await;
        Ok(())
    }
}

type Stores = PostgresStores;
