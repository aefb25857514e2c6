//! Reference backends in memory: one for each seam, for tests and for trying things out.
//!
//! They follow the seams' contracts to the letter and hold nothing back: all is gone when the last clone is. What is a
//! clone of another shares its state, so keeping one is keeping the store while the platform around it "crashes". `Debug`
//! shows no contents.
//!
//! ```
//! use overskill_core::{Changes, FilePath, FileStore, Scope, memory::MemoryFiles};
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let (store, scope) = (MemoryFiles::new(), Scope::sources("todo42".try_into()?));
//! let page = FilePath::parse("index.html")?;
//! let position = store.apply(&scope, &Changes::new().put(page.clone(), "<h1>hello</h1>"), None).await?;
//! assert_eq!(store.snapshot(&scope).await?.position, position);
//! # Ok::<(), overskill_core::Error>(())
//! # }).unwrap();
//! ```

mod api;
mod apps;
mod audit;
mod bundles;
mod deployments;
mod env;
mod files;
mod jobs;
mod platform;
mod previews;
mod progress;
mod routes;
mod services;
mod shared;
mod target;

pub use api::MemoryApi;
pub use apps::MemoryApps;
pub use audit::MemoryAudit;
pub use bundles::MemoryBundles;
pub use deployments::MemoryDeployments;
pub use env::MemoryEnv;
pub use files::MemoryFiles;
pub use jobs::MemoryJobs;
pub use platform::{MemoryBackends, RefuseTokens};
pub use previews::MemoryPreviews;
pub use progress::MemoryProgress;
pub use routes::MemoryRoutes;
pub use services::{MemoryNotifier, MemoryProbe, StaticBuilder};
pub use target::MemoryTarget;

use shared::Shared;

/// What these backends call themselves in errors and reports.
const NAME: &str = "memory";
