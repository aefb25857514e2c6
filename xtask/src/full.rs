//! The steps that only `cargo xtask ci --full` adds: minutes each, too slow for every change.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::cargo_tools::{HACK, MUTANTS, SEMVER_CHECKS};
use crate::process::{self, Failure};
use crate::steps::{Outcome, Step};
use crate::workspace::Workspace;
use crate::{checks, external_types, mutations, setup};

/// The crates whose public API is promised to others, with their folders.
const PUBLISHED: [(&str, &str); 9] = [
    ("overskill", "."),
    ("overskill-core", "overskill-core"),
    ("overskill-http", "overskill-http"),
    ("overskill-sql", "overskill-sql"),
    ("overskill-build", "overskill-build"),
    ("overskill-local", "overskill-local"),
    ("overskill-cloudflare", "overskill-cloudflare"),
    ("overskill-supabase", "overskill-supabase"),
    ("overskill-testkit", "overskill-testkit"),
];

/// How long mutants are tried. Their order is random: another run tries others.
const MUTANTS_TIME: Duration = Duration::from_mins(20);

/// When a mutant's tests are given up: a mutant may loop for ever.
const ONE_MUTANT_TIME: Duration = Duration::from_mins(3);

/// The steps, in order.
pub(crate) fn steps() -> Vec<Step> {
    vec![
        Step { name: "hack", run: hack },
        Step { name: "external-types", run: external_types::check },
        Step { name: "semver", run: semver },
        Step { name: "mutants", run: mutants },
        Step { name: "mutations", run: mutations::check },
        Step { name: "simulation", run: simulation },
        Step { name: "tables", run: tables },
        // `browser` built the example.
        Step {
            name: "edge-browser",
            run: |workspace| checks::edge_previews(workspace, &["guests", "apps", "strangers"]),
        },
    ]
}

fn hack(workspace: &Workspace) -> Result<Outcome, Failure> {
    let mut hack = HACK.command(workspace)?;
    hack.args(["check", "--workspace", "--each-feature", "--no-dev-deps"]);
    process::run(&mut hack)?;
    Ok(Outcome::Passed)
}

/// What the public API is compared with.
#[derive(Debug, PartialEq, Eq)]
enum Baseline {
    /// The last release: what breaks its API must raise the version.
    Release(String),
    /// The first commit, when nothing was released yet: changes are told, not refused.
    FirstCommit(String),
}

fn semver(workspace: &Workspace) -> Result<Outcome, Failure> {
    let git = |args: &[&str]| {
        process::quiet_output(process::program("git", workspace.root()).args(args)).map(|text| text.trim().to_owned())
    };
    let baseline = match choose_baseline(
        git(&["describe", "--tags", "--abbrev=0"]).as_deref(),
        git(&["rev-list", "--max-parents=0", "HEAD"]).as_deref(),
        git(&["rev-parse", "HEAD"]).as_deref(),
    ) {
        Ok(baseline) => baseline,
        Err(reason) => return Ok(Outcome::Skipped(reason.to_owned())),
    };
    let (Baseline::Release(revision) | Baseline::FirstCommit(revision)) = &baseline;

    let mut check = SEMVER_CHECKS.command(workspace)?;
    check.args(["--baseline-rev", revision]);
    let mut compared = 0;
    for (package, folder) in PUBLISHED {
        let library = format!("{revision}:./{folder}/src/lib.rs");
        if git(&["cat-file", "-t", &library]).is_some() {
            check.args(["--package", package]);
            compared += 1;
        }
    }
    if compared == 0 {
        return Ok(Outcome::Skipped(format!("{revision} has no library")));
    }
    match (process::run(&mut check), baseline) {
        (Ok(()), _) => Ok(Outcome::Passed),
        (Err(failure), Baseline::Release(_)) => Err(failure),
        (Err(_), Baseline::FirstCommit(_)) => {
            Ok(Outcome::Noted("the API changed since the first commit; nothing is released yet".to_owned()))
        }
    }
}

fn choose_baseline(tag: Option<&str>, roots: Option<&str>, head: Option<&str>) -> Result<Baseline, &'static str> {
    if let Some(tag) = tag {
        return Ok(Baseline::Release(tag.to_owned()));
    }
    match roots.and_then(|roots| roots.lines().last()) {
        None => Err("no commit to compare with"),
        Some(root) if Some(root) == head => Err("this is the first commit"),
        Some(root) => Ok(Baseline::FirstCommit(root.to_owned())),
    }
}

/// Tries changed versions of core against its tests, for as long as there is time.
fn mutants(workspace: &Workspace) -> Result<Outcome, Failure> {
    const ALL_TRIED: [i32; 3] = [0, 2, 3]; // all caught; some missed; some timed out
    const OUT_OF_TIME: i32 = 124; // `timeout`'s own

    let tool = MUTANTS.ensure(workspace)?;
    let target = workspace.target();
    let mut mutants = process::program("timeout", workspace.root());
    mutants
        .args(["--foreground", "--signal=INT", "--kill-after=60"])
        .arg(MUTANTS_TIME.as_secs().to_string())
        .arg(tool)
        .args(["mutants", "--package", "overskill-core", "--all-features"])
        // `nextest`, earlier in the suite, is the baseline.
        .args(["--baseline=skip", "--shuffle", "--no-times", "--timeout"])
        .arg(ONE_MUTANT_TIME.as_secs().to_string())
        .arg("--output")
        .arg(&target)
        // Not the doctests: each is a program of its own to build, for each mutant.
        .args(["--", "--lib", "--tests"]);
    let code = process::run_for_code(&mut mutants)?;
    if !ALL_TRIED.contains(&code) && code != OUT_OF_TIME {
        return Err(Failure::new(format!("cargo-mutants exited {code}")));
    }

    let results = target.join("mutants.out");
    let caught = count_lines(&results.join("caught.txt")) + count_lines(&results.join("timeout.txt"));
    let missed = count_lines(&results.join("missed.txt"));
    if caught + missed == 0 {
        return Err(Failure::new("cargo-mutants tried no mutant"));
    }
    let until = if code == OUT_OF_TIME { ", then the time was up" } else { "" };
    Ok(Outcome::Noted(format!("{caught} mutants caught, {missed} missed (mutants.out/missed.txt){until}")))
}

/// A million deploys in place of ten thousand; optimised, or it takes half an hour.
fn simulation(workspace: &Workspace) -> Result<Outcome, Failure> {
    let mut test = process::cargo(workspace.root());
    test.args(["nextest", "run", "--release", "--package", "overskill-testkit", "--features", "tokens"])
        .args(["--filterset", "test(ten_thousand_deploys)", "--no-capture"])
        .env("OVERSKILL_SIMULATED_DEPLOYS", "1000000");
    process::run(&mut test)?;
    Ok(Outcome::Passed)
}

/// A table for each of 50,000 apps in place of 5,000, against one for all. What it comes to is shown; that it was measured is
/// asked for.
fn tables(workspace: &Workspace) -> Result<Outcome, Failure> {
    let mut bench = process::cargo(workspace.root());
    bench
        .args(["run", "--quiet", "--release", "--package", "overskill-benches", "--bin", "tenants", "--", "--json"])
        .envs(setup::npm_registry(workspace))
        .env("OVERSKILL_BENCH_TABLES", "50000")
        .stdin(Stdio::null());
    compared_tables(&process::output(&mut bench)?).map(Outcome::Noted)
}

/// What the rows say of one table against many.
fn compared_tables(printed: &str) -> Result<String, Failure> {
    let rows = printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut figures = Vec::new();
    for row in rows.filter(|row| row["case"] == "one table for all apps") {
        let metric = row["metric"].as_str().unwrap_or_default();
        let (Some(ours), Some(peer)) = (row["ours"].as_f64(), row["peer"].as_f64()) else {
            return Err(Failure::new(format!("50,000 tables: {metric} was not measured")));
        };
        figures.push(format!("{metric} {ours:.1} against {peer:.1} {}", row["unit"].as_str().unwrap_or_default()));
    }
    if figures.is_empty() { Err(Failure::new("50,000 tables: nothing was measured")) } else { Ok(figures.join("; ")) }
}

fn count_lines(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_is_the_last_tag_else_the_first_commit() {
        assert_eq!(
            choose_baseline(Some("v0.2.0"), Some("aaa"), Some("bbb")),
            Ok(Baseline::Release("v0.2.0".to_owned()))
        );
        assert_eq!(choose_baseline(None, Some("aaa"), Some("bbb")), Ok(Baseline::FirstCommit("aaa".to_owned())));
    }

    #[test]
    fn figures_of_tables_have_to_be_measured() {
        let row = |metric: &str, ours: &str| {
            format!(r#"{{"case":"one table for all apps","metric":"{metric}","unit":"us","ours":{ours},"peer":30.0}}"#)
        };
        let printed = format!("a note\n{}\n{}\n", row("a list", "20.04"), r#"{"case":"another","ours":null}"#);
        assert_eq!(compared_tables(&printed), Ok("a list 20.0 against 30.0 us".to_owned()));
        let failure = compared_tables(&row("a list", "null")).expect_err("it was not measured");
        assert_eq!(failure.to_string(), "50,000 tables: a list was not measured");
        assert!(compared_tables("").is_err());
    }

    #[test]
    fn without_history_there_is_no_baseline() {
        assert_eq!(choose_baseline(None, Some("aaa"), Some("aaa")), Err("this is the first commit"));
        assert_eq!(choose_baseline(None, None, None), Err("no commit to compare with"));
    }
}
