//! One app's preview, compiled: what a host serves, and what it tells those who look.
//!
//! A [`PreviewEngine`] opens an [`AppPreview`] from an app's files: it finds out what the pages import (and compiles it, once
//! for all apps), and has the packages prepared while pages load already. From then on requests are answered without
//! waiting, and each change of the sources gives the messages that bring open pages there, by the rules of Vite's hot module
//! replacement.

mod ahead;
mod app;
mod bake;
mod client;
pub(crate) mod config;
mod draft;
mod engine;
pub(crate) mod env;
pub(crate) mod files;
pub(crate) mod glob;
pub(crate) mod graph;
mod history;
pub(crate) mod html;
mod messages;
mod modules;
pub(crate) mod packages;
mod path;
pub(crate) mod resolve;
pub(crate) mod scan;
mod serve;
pub(crate) mod style;
pub mod tailwind;
#[cfg(test)]
pub(crate) mod testing;
mod turn;
mod types;
mod update;
mod view;

pub use app::AppPreview;
pub use bake::{Baked, BakedFile};
pub use client::{ClientFile, REFRESH_PREAMBLE, client_file};
pub use engine::PreviewEngine;
pub(crate) use path::content_type;
pub use types::{CatchUp, HotMessage, PageRequest, PageResponse};
