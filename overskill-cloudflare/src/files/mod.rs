//! Apps' files in the account: a replica in Workers KV, or a store of their own in R2.
//!
//! Both keep a *head* for each scope, a small JSON value that names position and files, and contents in *blobs* that are
//! written once under a name that nobody used before. Writing the head is what makes changes happen; whoever reads an older
//! head reads the older files.

mod head;
mod kv;
#[cfg(feature = "r2")]
mod r2;
mod store;

pub use kv::KvFiles;
#[cfg(feature = "r2")]
pub(crate) use r2::empty as empty_bucket;
#[cfg(feature = "r2")]
pub use r2::{R2Files, R2Keys};
