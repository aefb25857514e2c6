//! Steps that run one after another, and the table of what they took.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::process::Failure;
use crate::workspace::Workspace;

/// One step of a suite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// The name that `--only` takes.
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Workspace) -> Result<Outcome, Failure>,
}

/// How a step that did not fail ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// Passed, and there is something to know.
    Noted(String),
    /// Did not run, for a reason that is no failure.
    Skipped(String),
}

/// A line of the table.
#[derive(Debug)]
struct Row {
    name: &'static str,
    took: Duration,
    result: Result<Outcome, Failure>,
}

/// The steps named, in the suite's order; all of them when none is named.
pub(crate) fn select(all: Vec<Step>, only: &[String]) -> Result<Vec<Step>, Failure> {
    if let Some(unknown) = only.iter().find(|name| all.iter().all(|step| step.name != name.as_str())) {
        let names: Vec<_> = all.iter().map(|step| step.name).collect();
        let names = names.join(", ");
        return Err(Failure::new(format!("there is no step `{unknown}`; there are: {names}")));
    }
    let wanted = |step: &Step| only.is_empty() || only.iter().any(|name| name == step.name);
    Ok(all.into_iter().filter(wanted).collect())
}

/// Runs the steps until one fails, then prints the table.
pub(crate) fn run(workspace: &Workspace, steps: &[Step]) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for step in steps {
        eprintln!("\n==> {}", step.name);
        let start = Instant::now();
        let result = (step.run)(workspace);
        let took = start.elapsed();
        eprintln!("<== {} ({:.1} s)", step.name, took.as_secs_f64());
        let failed = result.is_err();
        rows.push(Row { name: step.name, took, result });
        if failed {
            break;
        }
    }
    print!("\n{}", table(&rows));
    match rows.pop() {
        Some(Row { name, result: Err(failure), .. }) => Err(Failure::new(format!("step `{name}` failed: {failure}"))),
        _ => Ok(()),
    }
}

fn table(rows: &[Row]) -> String {
    let total: Duration = rows.iter().map(|row| row.took).sum();
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let width = width.max("total".len());
    let mut table = String::new();
    let mut add = |name: &str, took: Duration, result: &str| {
        let line = format!("{name:<width$}  {:>7.1} s  {result}", took.as_secs_f64());
        writeln!(table, "{}", line.trim_end()).expect("a string can be written to");
    };
    for row in rows {
        let result = match &row.result {
            Ok(Outcome::Passed) => "passed".to_owned(),
            Ok(Outcome::Noted(note)) => format!("passed: {note}"),
            Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
            Err(_) => "FAILED".to_owned(),
        };
        add(row.name, row.took, &result);
    }
    add("total", total, "");
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn step(name: &'static str) -> Step {
        Step { name, run: |_| Ok(Outcome::Passed) }
    }

    fn names(steps: &[Step]) -> Vec<&'static str> {
        steps.iter().map(|step| step.name).collect()
    }

    #[test]
    fn steps_run_in_the_suites_order_whatever_the_order_asked() {
        let all = vec![step("setup"), step("fmt"), step("doc")];
        assert_eq!(names(&select(all.clone(), &[]).unwrap()), ["setup", "fmt", "doc"]);
        let only = ["doc".to_owned(), "fmt".to_owned()];
        assert_eq!(names(&select(all, &only).unwrap()), ["fmt", "doc"]);
    }

    #[test]
    fn an_unknown_step_is_refused_with_those_there_are() {
        let failure = select(vec![step("fmt"), step("doc")], &["docs".to_owned()]).expect_err("there is no `docs`");
        assert_eq!(failure.to_string(), "there is no step `docs`; there are: fmt, doc");
    }

    #[test]
    fn the_first_failure_ends_the_run_and_is_named() {
        let broken = Step { name: "broken", run: |_| Err(Failure::new("it broke")) };
        let unreached = Step { name: "unreached", run: |_| panic!("a step ran after a failure") };
        let here = Workspace::at(std::path::Path::new("."));
        let failure = run(&here, &[step("fine"), broken, unreached]).expect_err("it broke");
        assert_eq!(failure.to_string(), "step `broken` failed: it broke");
    }

    #[test]
    fn the_table_lines_up() {
        let row = |name, tenths: u64, result| Row { name, took: Duration::from_millis(tenths * 100), result };
        let rows = [
            row("fmt", 4, Ok(Outcome::Passed)),
            row("semver", 0, Ok(Outcome::Skipped("no baseline".to_owned()))),
            row("mutants", 12_000, Ok(Outcome::Noted("2 missed".to_owned()))),
            row("deny", 15, Err(Failure::new("no"))),
        ];
        let expected = "\
fmt          0.4 s  passed
semver       0.0 s  skipped: no baseline
mutants   1200.0 s  passed: 2 missed
deny         1.5 s  FAILED
total     1201.9 s
";
        assert_eq!(table(&rows), expected);
    }
}
