//! One app's preview, compiled: what a host serves, and what it tells those who look.

mod client;
pub mod tailwind;
mod types;

pub use client::{ClientFile, REFRESH_PREAMBLE, client_file};
pub use types::{CatchUp, HotMessage, PageRequest, PageResponse};
