//! The account's side against the emulated API: suites, faults by name, installation, wire truth, and many deploys at once.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod conformance;
mod crashes;
mod faults;
mod install;
mod quota;
mod simulation;
mod variables;
mod wire;
