//! One app's preview, compiled: what a host serves, and what it tells those who look.

mod app;
mod client;
mod config;
mod engine;
mod env;
mod files;
mod glob;
mod graph;
mod history;
mod html;
mod messages;
mod path;
mod resolve;
mod scan;
#[cfg(test)]
mod testing;
mod types;

pub use app::AppPreview;
pub use client::{ClientFile, REFRESH_PREAMBLE, client_file};
pub use engine::PreviewEngine;
pub use types::{CatchUp, HotMessage, PageRequest, PageResponse};
