//! `cargo xtask bench`: builds the programs of the `benches` package for release, and runs them.

use std::process::Stdio;

use crate::args::BenchOptions;
use crate::process::{self, Failure};
use crate::setup;
use crate::workspace::Workspace;

const PACKAGE: &str = "overskill-benches";

/// Runs the benchmark named, or all.
pub(crate) fn run(workspace: &Workspace, options: &BenchOptions) -> Result<(), Failure> {
    for name in choose(workspace.benchmarks()?, options.name.as_deref())? {
        let mut bench = process::cargo(workspace.root());
        bench.args(["run", "--quiet", "--release", "--package", PACKAGE]);
        bench.args(["--bin", &name, "--"]).envs(setup::npm_registry(workspace));
        if options.quick {
            bench.arg("--quick");
        }
        if options.json {
            let printed = process::output(bench.arg("--json").stdin(Stdio::null()))?;
            for line in printed.lines() {
                if is_row(line) {
                    println!("{line}");
                } else {
                    eprintln!("{line}");
                }
            }
        } else {
            process::run(&mut bench)?;
        }
    }
    Ok(())
}

fn choose(all: Vec<String>, name: Option<&str>) -> Result<Vec<String>, Failure> {
    if all.is_empty() {
        return Err(Failure::new("there are no benchmarks in benches/src/bin"));
    }
    match name {
        None => Ok(all),
        Some(name) if all.iter().any(|it| it == name) => Ok(vec![name.to_owned()]),
        Some(name) => Err(Failure::new(format!("there is no benchmark `{name}`; there are: {}", all.join(", ")))),
    }
}

/// Is the line one JSON object, as `--json` promises?
fn is_row(line: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_benchmark_is_chosen_by_name() {
        let all = || vec!["deploy".to_owned(), "queue".to_owned()];
        assert_eq!(choose(all(), None), Ok(all()));
        assert_eq!(choose(all(), Some("queue")), Ok(vec!["queue".to_owned()]));
        let failure = choose(all(), Some("queues")).expect_err("there is none");
        assert_eq!(failure.to_string(), "there is no benchmark `queues`; there are: deploy, queue");
        assert!(choose(Vec::new(), None).is_err());
    }

    #[test]
    fn only_whole_objects_are_rows() {
        assert!(is_row(r#"{"bench":"queue","per_second":1200}"#));
        for line in ["", "warming up", "[1]", r#"{"bench":"#, "12"] {
            assert!(!is_row(line), "{line}");
        }
    }
}
