//! Deployments to death: whichever call fails, lies or comes late, one version is live, or a person is asked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod aftermath;
mod cases;
mod common;
mod crashes;
mod diagram;
mod doubts;
mod line;
mod meanwhile;
mod operators;
mod placement;
mod rollbacks;
mod simulation;
mod story;
mod stragglers;
mod sweeps;
mod watch;
