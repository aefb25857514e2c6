//! A backend written outside overskill, with nothing but its public API: a [`FileStore`](overskill_core::FileStore) that
//! keeps sources in plain log files, and a [`DeploymentTarget`](overskill_core::DeploymentTarget) that "deploys" to a folder
//! of this machine.
//!
//! `tests/conformance.rs` proves both with one line each. `CONTRIBUTING.md` explains this crate step by step.

mod disk;
mod files;
mod target;

pub use files::LogFiles;
pub use target::FolderTarget;
