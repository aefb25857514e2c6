//! The frame of the benchmarks: what each prints, and how two things are measured in one run.
//!
//! A benchmark declares its [`Figure`]s first. Each becomes one row, in that order, whatever happens: a figure that
//! could not be measured is a row without numbers, and if it had a goal, the goal was not met.
//!
//! Nothing is measured on its own. [`interleave`] runs the contestants in turn, many times over, and compares each turn
//! with its neighbour: a machine that is slow for a second is slow for all of them. The ratio shown is the median of
//! the ratios of neighbours; of calls so short that a busy core makes them many times as long, it is the ratio of what a
//! tenth of the turns stayed below.

mod apps;
mod commits;
mod core_of_its_own;
pub mod deploys;
mod report;
pub mod statements;
mod turns;

pub use apps::copy_app;
pub use commits::{PreparedCommit, commit_on_sqlite};
pub use core_of_its_own::OneCore;
pub use report::{Bench, Figure, Goal, Reading, Row};
pub use turns::{Turns, interleave, nanos_each};

/// What a measurement comes to. What went wrong is shown, and costs the rows that depend on it.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
