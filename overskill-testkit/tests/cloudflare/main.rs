//! The Cloudflare emulator: its API, its limits and faults, its edge, and other people's clients against it.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod api;
mod dispatch;
mod edge;
mod faults;
mod judges;
mod runtime;
mod storage;
mod support;
