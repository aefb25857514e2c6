#![doc = include_str!("../README.md")]

pub mod compiler;
pub mod packages;
pub mod preview;
mod problem;
pub mod production;

pub use overskill_core::{Error, Result};
pub use problem::{Location, Problem, ProblemKind};
