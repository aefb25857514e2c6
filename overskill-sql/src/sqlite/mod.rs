//! The stores in one SQLite file.
//!
//! The file is in WAL mode, with tables that can be read with the `sqlite3` shell: times are milliseconds since 1970
//! (`datetime(at_ms / 1000, 'unixepoch')`), ids and digests are text. Several processes may have it open. One connection
//! writes, and whoever wants to write waits in turn; some connections read, and never wait for the writer.
//!
//! To copy a file that is in use: `sqlite3 overskill.db ".backup copy.db"`. A copy that goes into service in place of
//! the original begins a [new incarnation](SqliteStores::begin_new_incarnation).

mod change_files;
mod claim_runs;
mod driver;
mod open;
mod options;
mod put_blobs;
#[path = "../stores/mod.rs"]
mod stores;

pub use options::{Durability, SqliteOptions};
pub use stores::*;

use driver::Db;
use overskill_core::{Incarnation, Readiness, Result};
use std::path::Path;

/// Every store, in one SQLite file. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteStores {
    db: Db,
    settings: Settings,
}

impl SqliteStores {
    /// Opens the file, creates it when it is missing, and brings its schema up to date.
    ///
    /// `Invalid` for a path that cannot be one of these databases, `Unsupported` for one that a newer overskill wrote.
    pub async fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        let db = open::file(path.as_ref(), &options).await.map_err(|f| f.at(driver::BACKEND, "open"))?;
        Ok(Self { db, settings: options.settings() })
    }

    /// Stores that are gone with the last clone of this handle: for tests and experiments.
    pub async fn in_memory() -> Result<Self> {
        Self::in_memory_with(SqliteOptions::new()).await
    }

    /// The same, with options. Nothing is durable, and readers wait for the writer.
    pub async fn in_memory_with(options: SqliteOptions) -> Result<Self> {
        let db = open::memory(&options).await.map_err(|f| f.at(driver::BACKEND, "open"))?;
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
    /// Call it once on a database that was restored from an older copy, before anything else uses it, in this process or
    /// another: the copy will give out positions again that stood for something else, and whoever remembers one of those
    /// (a preview, a replica, a client) must start again from a snapshot rather than go on from it.
    pub async fn begin_new_incarnation(&self) -> Result<Incarnation> {
        self.db.begin_new_incarnation().await
    }

    /// Closes the connections, once the calls that run have ended, and folds the write-ahead log into the file.
    ///
    /// A handle that is just dropped loses nothing: it only leaves this to the background. Calls made afterwards are
    /// `Unavailable`.
    pub async fn close(&self) -> Result<()> {
        self.db.close().await
    }
}

type Stores = SqliteStores;
