//! Attacks of one tenant on another, each by a mechanism of its own.
//!
//! The attacker can send any statement as a role of ours: the worst that a hole in our own code, or a query of a tenant's
//! own, could be. Each attack is first made on a twin that is weak in one way (the original plan's design, or worse), where
//! it must succeed; then on the real schema, directly and through `PgBouncer` in transaction mode, where it must not.
//!
//! The attacks of a module are one test: they are made in turn on one server, each in a database of its own. Those that
//! fail are told by name; `OVERSKILL_ATTACK=a_part_of_its_name` makes only one of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(unreachable_pub, reason = "a test's modules")]

#[macro_use]
mod stage;
mod claims;
mod openings;
mod oracles;
mod schemas;
mod services;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
