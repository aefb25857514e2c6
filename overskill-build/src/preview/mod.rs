//! One app's preview, compiled: what a host serves, and what it tells those who look.

mod types;

pub use types::{CatchUp, HotMessage, PageRequest, PageResponse};
