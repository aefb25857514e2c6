//! Previews as a server uses them: pages, modules, updates, and what goes wrong.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

#[path = "preview/ahead.rs"]
mod ahead;
#[path = "preview/app.rs"]
mod app;
#[path = "preview/baking.rs"]
mod baking;
#[path = "preview/equal.rs"]
mod equal;
#[path = "preview/preparing.rs"]
mod preparing;
#[path = "preview/serving.rs"]
mod serving;
#[path = "preview/updates.rs"]
mod updates;
