//! One app's preview, compiled: what a host serves, and what it tells those who look.
//!
//! A [`PreviewEngine`] opens an [`AppPreview`] from an app's files: it finds out what the pages import (and compiles it, once
//! for all apps), and has the packages prepared while pages load already. From then on requests are answered without
//! waiting, and each change of the sources gives the messages that bring open pages there, by the rules of Vite's hot module
//! replacement.

mod app;
mod client;
mod config;
mod draft;
mod engine;
mod env;
mod files;
mod glob;
mod graph;
mod history;
mod html;
mod messages;
mod modules;
mod packages;
mod path;
mod resolve;
mod scan;
mod serve;
mod style;
pub mod tailwind;
#[cfg(test)]
mod testing;
mod turn;
mod types;
mod update;
mod view;

pub use app::AppPreview;
pub use client::{ClientFile, REFRESH_PREAMBLE, client_file};
pub use engine::PreviewEngine;
pub use types::{CatchUp, HotMessage, PageRequest, PageResponse};
