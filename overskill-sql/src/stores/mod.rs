//! The stores, written once; see the notes in `lib.rs`.

mod apps;
mod audit;
mod bundles;
mod deployments;
mod env;
mod files;
mod jobs;
mod routes;

pub use apps::Apps;
pub use audit::Audit;
pub use bundles::Bundles;
pub use deployments::Deployments;
pub use env::Env;
pub use files::Files;
pub use jobs::Jobs;
pub use routes::Routes;

use super::{Stores, change_files, claim_runs, driver, put_blobs};
use overskill_core::{Records, Sealer};
use std::sync::Arc;

/// What the host may set of the stores themselves.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many changes per scope are remembered.
    pub(crate) history: u32,
}

impl Stores {
    /// Sources; the truth of what an app is.
    pub fn files(&self) -> Files {
        Files::new(self.db.clone(), self.settings.history)
    }

    /// Artifacts, and who holds them.
    pub fn bundles(&self) -> Bundles {
        Bundles::new(self.db.clone())
    }

    /// Environment variables, the secret ones sealed by `sealer`.
    pub fn env(&self, sealer: Sealer) -> Env {
        Env::new(self.db.clone(), sealer)
    }

    /// What nobody can take back.
    pub fn audit(&self) -> Audit {
        Audit::new(self.db.clone())
    }

    /// The apps that the platform knows.
    pub fn apps(&self) -> Apps {
        Apps::new(self.db.clone())
    }

    /// Deployments, what happened in them, and who may change a scope.
    pub fn deployments(&self) -> Deployments {
        Deployments::new(self.db.clone())
    }

    /// Jobs, and the queue of their runs.
    pub fn jobs(&self) -> Jobs {
        Jobs::new(self.db.clone())
    }

    /// What is live where.
    pub fn routes(&self) -> Routes {
        Routes::new(self.db.clone())
    }

    /// All of them, as a platform takes them: `builder.records(stores.records(sealer))`.
    pub fn records(&self, sealer: Sealer) -> Records {
        Records {
            files: Arc::new(self.files()),
            bundles: Arc::new(self.bundles()),
            env: Arc::new(self.env(sealer)),
            routes: Arc::new(self.routes()),
            deployments: Arc::new(self.deployments()),
            audit: Arc::new(self.audit()),
            apps: Arc::new(self.apps()),
            scheduler: Arc::new(self.jobs()),
            runs: Arc::new(self.jobs()),
        }
    }
}
