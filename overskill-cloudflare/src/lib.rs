//! Cloudflare Workers for Platforms as a target of overskill: deploys, files in KV and R2, previews at the edge.
//!
//! ```
//! use overskill_cloudflare::Cloudflare;
//!
//! # fn example() -> overskill_core::Result<()> {
//! let cf = Cloudflare::connect("0123456789abcdef0123456789abcdef", "an API token")
//!     .prefix("acme") // every name in the account begins with it
//!     .domains(["apps.example.com"])
//!     .build()?;
//! let target = cf.target(); // a `DeploymentTarget`
//! let files = cf.files(); // a `FileStore`, as a replica
//! # Ok(()) }
//! # example().unwrap();
//! ```
//!
//! # What it is
//!
//! - One [`Cloudflare`] is one account. Everything made from it shares one [limiter](CloudflareBuilder::quota): Cloudflare
//!   counts 1,200 calls in 5 minutes for a user, over all of their tokens.
//! - [`WfpTarget`] runs apps as user Workers in dispatch namespaces, one for each environment:
//!   `{prefix}-production` and so on. A version is a script of its own, `{app}-{fence}`, with its code, assets, variables
//!   and secrets in one atomic upload; the route names it. A target that [knows the routes](WfpTarget::at) stages it whole,
//!   at an address of its own, so that gates can ask it.
//! - [`KvFiles`] keeps a replica of apps' files in Workers KV, `R2Files` (feature `r2`) in R2. Neither is bound to a
//!   tenant's code.
//! - [`Cloudflare::install`] puts the platform's own Workers and what they need into the account, with the one that sees
//!   what apps' code fetches;
//!   [`plan`](Cloudflare::plan) says before what that would change, and [`uninstall`](Cloudflare::uninstall) leaves nothing.
//! - [`Hostnames`] are customers' own domains.
//! - [`Edge`] reaches the platform's own Worker through a signed route, which spends none of the account's calls: for
//!   [`CloudflareRoutes`] and `CloudflarePreviews` (feature `previews`).
//!
//! Errors carry the provider's code in their context (`code=10092`).

mod api;
mod cloudflare;
mod edge;
mod files;
mod hostnames;
mod install;
#[cfg(feature = "previews")]
mod previews;
mod routes;
mod runtime;
mod target;
mod workers;

pub use cloudflare::{Cloudflare, CloudflareBuilder};
pub use edge::{Edge, EdgeBuilder, IngestKey};
pub use files::{AccountFiles, KvFiles, KvShelf};
#[cfg(feature = "r2")]
pub use files::{R2Files, R2Keys, R2Shelf};
pub use hostnames::{CertificateState, Hostname, HostnameState, Hostnames, Validation};
pub use install::{Action, Change, Install, Plan};
#[cfg(feature = "previews")]
pub use previews::{CloudflarePreviews, PreviewMode};
pub use routes::CloudflareRoutes;
pub use target::WfpTarget;
