//! The account's side against the emulated API: suites, faults by name, installation, wire truth, and many deploys at once.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod conformance;
mod crashes;
mod edge;
mod egress;
mod faults;
mod gates;
mod in_place;
mod install;
mod mortal;
mod previews;
mod quota;
mod removals;
mod simulation;
#[path = "../support/mod.rs"]
mod support;
mod variables;
mod wire;
mod world;
