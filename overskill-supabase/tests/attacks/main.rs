//! Attacks of one tenant on another, each by a mechanism of its own.
//!
//! The attacker can send any statement as a role of ours: the worst that a hole in our own code, or a query of a tenant's
//! own, could be. Each attack is first made on a twin that is weak in one way (the original plan's design, or worse), where
//! it must succeed; then on the real schema, directly and through `PgBouncer` in transaction mode, where it must not.
//!
//! Each is a test by its name, in a database of its own. They share a server, as long as they leave it as it was: so they run
//! in one process, by `cargo test --test attacks`. nextest, which gives each test a process, leaves them out; it would take
//! three times as long.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(unreachable_pub, reason = "a test's modules")]

mod claims;
mod explorer;
mod names;
mod openings;
mod oracles;
mod schemas;
mod services;
mod sessions;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod temporary;
mod timing;
