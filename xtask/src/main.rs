//! `cargo xtask`: the project's tasks, in Rust, so that a clean clone needs only cargo, node and npm.
//!
//! `cargo xtask test` is the test command, for people and CI alike; `cargo xtask help` lists the rest.

mod args;
mod bench;
mod cargo_tools;
mod checks;
mod external_types;
mod full;
mod mutations;
mod process;
mod setup;
mod steps;
mod workspace;

use std::process::ExitCode;

use args::{Request, Suite};
use process::Failure;
use workspace::Workspace;

fn main() -> ExitCode {
    match args::parse(std::env::args_os()).and_then(|request| carry_out(&request)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(request: &Request) -> Result<(), Failure> {
    let workspace = Workspace::find()?;
    match request {
        Request::Help => {
            print!("{}", args::HELP);
            Ok(())
        }
        Request::Setup => setup::run(&workspace),
        Request::Check { suite, only } => {
            let mut all = checks::steps(&workspace)?;
            if *suite == Suite::Full {
                all.extend(full::steps());
            }
            steps::run(&workspace, &steps::select(all, only)?)
        }
        Request::Bench(options) => bench::run(&workspace, options),
    }
}
