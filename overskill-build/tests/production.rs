//! Apps built for production, with packages as they are published, from the registry that npm uses here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "production/apps.rs"]
mod apps;
#[path = "production/forms.rs"]
mod forms;
#[path = "production/npm_script.rs"]
mod npm_script;
#[path = "production/support.rs"]
mod support;
#[path = "production/tailwind.rs"]
mod tailwind;
