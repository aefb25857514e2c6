//! Deliberate bugs in the deployments service, each of which its tests have to catch.
//!
//! A copy of the sources gets one bug after the other; a bug under which the cases and the simulation stay green fails the
//! step. The list is checked against the sources by a test, so that it does not fall behind them.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    process::{self, Failure},
    steps::Outcome,
    workspace::Workspace,
};

/// What is wrong on purpose.
struct Bug {
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const ADMISSION: &str = "overskill-core/src/deployments/admission.rs";
const ATTEMPT: &str = "overskill-core/src/deployments/attempt.rs";
const CHORES: &str = "overskill-core/src/deployments/chores.rs";
const DRIVE: &str = "overskill-core/src/deployments/drive.rs";
const ENDING: &str = "overskill-core/src/deployments/ending.rs";
const JOURNAL: &str = "overskill-core/src/deployments/journal.rs";

const BUGS: [Bug; 23] = [
    Bug {
        name: "an unknown outcome is taken for a failure: nobody observes",
        file: ATTEMPT,
        from: "if error.effect() == Effect::None && !overtaken {",
        to: "if !overtaken {",
    },
    Bug {
        name: "the fence is not raised above what targets have seen",
        file: DRIVE,
        from: "let highest = self.highest_above(routed, scope, journal).await?;",
        to: "let highest = Fence::ZERO;",
    },
    Bug {
        name: "a version that is not well falls back to the next target",
        file: ATTEMPT,
        from: "Asked::Unwell(why) => return Ok(failed(format!(\"{name}: it is not well: {why}\"))),",
        to: "Asked::Unwell(why) => last = Some((name, Error::invalid(why))),",
    },
    Bug {
        name: "the route names it before anybody looked at it",
        file: ATTEMPT,
        from: "if let Some(gate) = &self.strategy.live_gate {",
        to: "if let Some(gate) = self.strategy.live_gate.as_ref().filter(|_| false) {",
    },
    Bug {
        name: "what came late is never swept",
        file: ENDING,
        from: "let comes_again = holds || !self.to_sweep(history.into_iter()).is_empty();",
        to: "let comes_again = holds || self.to_sweep(history.into_iter()).len() > 99;",
    },
    Bug {
        name: "an activation that a crash left open is forgotten",
        file: ATTEMPT,
        from: "if let Some((name, fence)) = self.open.take() {",
        to: "if let Some((name, fence)) = self.open.take().filter(|_| false) {",
    },
    Bug {
        name: "whoever was overtaken believes that it is live",
        file: ATTEMPT,
        from: "Err(e) if e.kind() == ErrorKind::Conflict => Ok(false),",
        to: "Err(e) if e.kind() == ErrorKind::Conflict => Ok(true),",
    },
    Bug {
        name: "an older deployment takes the place of a newer one",
        file: DRIVE,
        from: "&& let Some(by) = self.newer(record).await?",
        to: "&& let Some(by) = self.newer(record).await?.filter(|_| false)",
    },
    Bug {
        name: "a rollback reuses the fence of what it rolls back",
        file: ENDING,
        from: "let fence = journal.take(journal.fence()).await?;\n        let Some(before)",
        to: "let fence = journal.fence();\n        let Some(before)",
    },
    Bug {
        name: "a cautious strategy goes on in doubt",
        file: ATTEMPT,
        from: "if self.strategy.fallback == Fallback::Cautious {",
        to: "if false {",
    },
    Bug {
        name: "a question has no deadline",
        file: DRIVE,
        from: "if record.question().is_some() {",
        to: "if record.question().is_some_and(|_| false) {",
    },
    Bug {
        name: "the version before stays on the target that was left",
        file: CHORES,
        from: "one <= id && !is_live && !kept",
        to: "one == id && !is_live && !kept",
    },
    Bug {
        name: "an activation that was never answered is forgotten once another was",
        file: CHORES,
        from: "targets.extend(unanswered(events)",
        to: "targets.extend(unanswered(events.take(0))",
    },
    Bug {
        name: "a sweep that breaks off is forgotten",
        file: JOURNAL,
        from: "(self.silent, self.due) = (true, Some(self.clock.now()));",
        to: "self.silent = true;",
    },
    Bug {
        name: "a restoration that was not answered counts as one that was",
        file: ENDING,
        from: "*answers = Answers::NotAll;",
        to: "*answers = Answers::All;",
    },
    Bug {
        name: "a target is well because it takes uploads",
        file: ADMISSION,
        from: "known.breakers[ask as usize] = Breaker::default();",
        to: "known.breakers = [Breaker::default(); 2];",
    },
    Bug {
        name: "what went live between a look at the route and the lease is overtaken",
        file: DRIVE,
        from: "if fence != routed.next() {",
        to: "if fence == Fence::ZERO {",
    },
    Bug {
        name: "who waits for one target keeps everybody waiting",
        file: ADMISSION,
        from: "if before.iter().any(|other| !state.all_busy(other, now)) {",
        to: "if state.lines.keys().any(|other| other != wants) {",
    },
    Bug {
        name: "what is in doubt is forgotten by whoever goes on",
        file: ATTEMPT,
        from: "if let Some(doubt) = self.settle_held(&mut targets).await? {",
        to: "if let Some(doubt) = self.settle_held(&mut []).await?.filter(|_| false) {",
    },
    Bug {
        name: "what was activated and is not routed keeps the traffic until a sweep",
        file: ENDING,
        from: "self.undo_unrouted(record, Some(&end), &mut journal).await?;",
        to: "let _ = self.undo_unrouted(record, Some(&end), &mut journal);",
    },
    Bug {
        name: "who is retired may be newer than what went live",
        file: ENDING,
        from: "filter(|summary| summary.id < live);",
        to: "filter(|summary| summary.id != live);",
    },
    Bug {
        name: "what landed waits until its target is not busy",
        file: ATTEMPT,
        from: "if self.hurries && self.adopted.as_ref() == Some(&info.name) {",
        to: "if !self.hurries && self.adopted.as_ref() == Some(&info.name) {",
    },
    Bug {
        name: "what waits keeps the traffic",
        file: ENDING,
        from: "progress.log(\"Waiting for its turn\");\n            if journal.is_leased() {",
        to: "progress.log(\"Waiting for its turn\");\n            if !journal.is_leased() {",
    },
];

/// When the tests of a bug are given up, once they are built. Then it is not known whether they catch it: a busy machine is
/// slow with every bug. A test that would wait for ever has to end and fail.
const ONE_BUG: Duration = Duration::from_mins(10);

/// Names bugs to try, by a part of their name; all are tried without it.
const ONLY: &str = "OVERSKILL_BUGS";

/// What the tests say to a bug.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Caught,
    Missed,
}

impl Verdict {
    /// By the exit code of nextest under `timeout`.
    fn of(code: i32) -> Result<Self, Failure> {
        match code {
            0 => Ok(Self::Missed),
            100 => Ok(Self::Caught),
            124 => {
                let seconds = ONE_BUG.as_secs();
                Err(Failure::new(format!(
                    "its tests took longer than {seconds} s, so it is not known: try it again alone"
                )))
            }
            other => Err(Failure::new(format!("its tests ended with exit code {other}, so it is not known"))),
        }
    }
}

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let bugs = named(std::env::var(ONLY).ok().as_deref())?;
    let place = workspace.target().join("mutations");
    let sources = place.join("sources");
    copy_sources(workspace.root(), &sources)?;
    let test = || try_tests(&sources, &place.join("target"));
    match test() {
        Ok(Verdict::Missed) => {}
        Ok(Verdict::Caught) => return Err(Failure::new("the tests of deployments fail without any bug")),
        Err(why) => return Err(Failure::new(format!("without any bug: {why}"))),
    }
    let (mut missed, mut unknown) = (Vec::new(), Vec::new());
    for bug in &bugs {
        let file = sources.join(bug.file);
        let right = read(&file)?;
        write(&file, &right.replacen(bug.from, bug.to, 1))?;
        let verdict = test();
        write(&file, &right)?;
        match verdict {
            Ok(Verdict::Caught) => println!("caught: {}", bug.name),
            Ok(Verdict::Missed) => missed.push(format!("nobody noticed: {}", bug.name)),
            Err(why) => unknown.push(format!("{}: {why}", bug.name)),
        }
    }
    missed.extend(unknown);
    if missed.is_empty() {
        return Ok(Outcome::Noted(format!("{} of {} bugs tried, each caught", bugs.len(), BUGS.len())));
    }
    Err(Failure::new(missed.join("; ")))
}

fn named(part: Option<&str>) -> Result<Vec<&'static Bug>, Failure> {
    let bugs: Vec<_> = BUGS.iter().filter(|bug| part.is_none_or(|part| bug.name.contains(part))).collect();
    if bugs.is_empty() {
        return Err(Failure::new(format!("{ONLY} is in the name of no bug")));
    }
    Ok(bugs)
}

/// Builds the tests, however long that takes, and runs them until one fails.
fn try_tests(sources: &Path, target: &Path) -> Result<Verdict, Failure> {
    const TESTS: [&str; 8] = [
        "nextest",
        "run",
        "--package",
        "overskill-testkit",
        "--features",
        "tokens",
        "--filterset",
        "binary(deployments) | binary(strategy)",
    ];
    let mut build = process::program("cargo", sources);
    process::run(build.args(TESTS).arg("--no-run").env("CARGO_TARGET_DIR", target))?;
    let mut run = process::program("timeout", sources);
    run.arg(ONE_BUG.as_secs().to_string()).arg("cargo").args(TESTS).args(["--fail-fast", "--status-level=none"]);
    Verdict::of(process::run_for_code(run.env("CARGO_TARGET_DIR", target))?)
}

/// Removes what an earlier copy has and git knows no more: a test that moved would be there twice.
fn remove_unknown(folder: &Path, known: &BTreeSet<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_unknown(&entry.path(), known)?;
        } else if !known.contains(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Copies what git knows of; files that are as they were keep their times, so that little is built again.
fn copy_sources(root: &Path, to: &Path) -> Result<(), Failure> {
    let files = process::output(process::program("git", root).args(["ls-files", "-z"]))?;
    let known: BTreeSet<_> = files.split('\0').map(|file| to.join(file)).collect();
    remove_unknown(to, &known).map_err(|e| Failure::new(format!("{}: {e}", to.display())))?;
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        let (from, to) = (root.join(file), to.join(file));
        let Ok(contents) = fs::read(&from) else { continue }; // deleted, and not committed yet
        if fs::read(&to).is_ok_and(|old| old == contents) {
            continue;
        }
        let folder = to.parent().expect("a file has a folder");
        let copied = fs::create_dir_all(folder).and_then(|()| fs::write(&to, contents));
        copied.map_err(|e| Failure::new(format!("{}: {e}", to.display())))?;
    }
    Ok(())
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|e| Failure::new(format!("{}: {e}", file.display())))
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|e| Failure::new(format!("{}: {e}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_test_that_failed_catches_a_bug() {
        assert_eq!(Verdict::of(100), Ok(Verdict::Caught));
        assert_eq!(Verdict::of(0), Ok(Verdict::Missed));
        let slow = Verdict::of(124).unwrap_err().to_string();
        assert!(slow.contains("longer than 600 s") && slow.contains("not known"), "{slow}");
        // What does not compile, and what was killed.
        for code in [101, 104, 137] {
            assert!(Verdict::of(code).unwrap_err().to_string().contains("not known"), "{code}");
        }
    }

    #[test]
    fn bugs_are_chosen_by_a_part_of_their_name() {
        assert_eq!(named(None).unwrap().len(), BUGS.len());
        assert_eq!(named(Some("deadline")).unwrap().len(), 1);
        assert!(named(Some("no such bug")).is_err());
    }

    #[test]
    fn every_bug_has_its_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for bug in &BUGS {
            let text = fs::read_to_string(root.join(bug.file)).unwrap();
            assert_eq!(text.matches(bug.from).count(), 1, "{}: `{}` in {}", bug.name, bug.from, bug.file);
        }
    }
}
