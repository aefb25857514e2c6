//! Cloudflare Workers for Platforms as a target of overskill: deploys, files in KV and R2, previews at the edge.

mod edge;
#[cfg(feature = "previews")]
mod previews;
mod routes;
#[allow(dead_code, reason = "whoever installs them reads it")]
mod workers;

pub use edge::{Edge, EdgeBuilder, IngestKey};
#[cfg(feature = "previews")]
pub use previews::CloudflarePreviews;
pub use routes::CloudflareRoutes;
