//! The steps of `cargo xtask test`.
//!
//! Clippy and rustdoc share the checked dependencies, tests and doctests the built ones: for that, all of them choose
//! the whole workspace and all features.

use std::process::Command;

use crate::cargo_tools::{DENY, NEXTEST};
use crate::process::{self, Failure};
use crate::setup;
use crate::steps::{Outcome, Step};
use crate::workspace::Workspace;

/// The example that the browser suites preview apps with.
const QUICKSTART: &str = "quickstart";

/// The example that does the same at the emulated edge.
const EDGE_PREVIEW: &str = "edge_preview";

/// The example that a browser suite runs to its end.
const CLOUDFLARE_LOCAL: &str = "cloudflare_local";

/// How previews are shown at the edge: each is looked at by suites of the embedded preview.
const EDGE_MODES: [&str; 2] = ["shared", "script"];

/// The steps, in order. The browser step is among them once there is a browser suite.
pub(crate) fn steps(workspace: &Workspace) -> Result<Vec<Step>, Failure> {
    let mut steps = vec![
        Step { name: "setup", run: |workspace| passed(setup::run(workspace)) },
        Step { name: "fmt", run: |workspace| run(process::cargo(workspace.root()).args(["fmt", "--all", "--check"])) },
        Step { name: "clippy", run: clippy },
        Step { name: "doc", run: doc },
        Step { name: "nextest", run: nextest },
        Step {
            name: "doctest",
            run: |workspace| {
                let mut doctest = process::cargo(workspace.root());
                run(doctest.args(["test", "--doc", "--workspace", "--all-features"]))
            },
        },
        Step { name: "js", run: js },
        Step { name: "browser", run: browser },
        Step { name: "deny", run: deny },
    ];
    if workspace.browser_suites()?.is_empty() {
        steps.retain(|step| step.name != "browser");
    }
    Ok(steps)
}

fn clippy(workspace: &Workspace) -> Result<Outcome, Failure> {
    let everything = ["--workspace", "--all-targets", "--all-features"];
    // The seams are for crates that take nothing else of ours: core must stand alone.
    let core_alone = ["--package", "overskill-core", "--no-default-features"];
    for chosen in [everything, core_alone] {
        let mut clippy = process::cargo(workspace.root());
        clippy.arg("clippy").args(chosen);
        process::run(clippy.args(["--", "-D", "warnings"]))?;
    }
    Ok(Outcome::Passed)
}

fn doc(workspace: &Workspace) -> Result<Outcome, Failure> {
    let mut doc = process::cargo(workspace.root());
    doc.args(["doc", "--workspace", "--all-features", "--no-deps"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

fn nextest(workspace: &Workspace) -> Result<Outcome, Failure> {
    let mut nextest = NEXTEST.command(workspace)?;
    nextest.args(["run", "--workspace", "--all-features", "--no-tests=fail"]);
    if let Some(folder) = setup::postgres(workspace) {
        nextest.env("OVERSKILL_POSTGRES_BIN", folder);
    }
    nextest.envs(setup::npm_registry(workspace));
    process::run(&mut nextest)?;
    // Named tests that share a server: in one process, which nextest does not have.
    let mut attacks = process::cargo(workspace.root());
    attacks.args(["test", "--workspace", "--all-features", "--test", "attacks"]);
    if let Some(folder) = setup::postgres(workspace) {
        attacks.env("OVERSKILL_POSTGRES_BIN", folder);
    }
    run(&mut attacks)
}

/// Type-checks the JavaScript that runs in Node, what a preview brings into the page, and the Workers, by their `JSDoc`
/// types.
fn js(workspace: &Workspace) -> Result<Outcome, Failure> {
    for project in ["tools/jsconfig.json", "overskill-build/client/jsconfig.json", "tools/workers/jsconfig.json"] {
        let mut tsc = process::program("node", workspace.root());
        process::run(tsc.args(["tools/node_modules/typescript/bin/tsc", "--project", project]))?;
    }
    Ok(Outcome::Passed)
}

fn browser(workspace: &Workspace) -> Result<Outcome, Failure> {
    // With the workspace's features, as the tests were built: nothing is compiled twice.
    let mut build = process::cargo(workspace.root());
    build.args(["build", "--workspace", "--all-features"]);
    process::run(build.args([QUICKSTART, EDGE_PREVIEW, CLOUDFLARE_LOCAL].iter().flat_map(|it| ["--example", it])))?;
    process::run(suites(workspace, QUICKSTART)?.args(workspace.browser_suites()?))?;
    // One is enough for every change: what differs at the edge is how edits get there.
    edge_previews(workspace, &["edits"])
}

/// Runs suites of the embedded preview on previews at the emulated edge.
pub(crate) fn edge_previews(workspace: &Workspace, names: &[&str]) -> Result<Outcome, Failure> {
    for mode in EDGE_MODES {
        let mut node = suites(workspace, EDGE_PREVIEW)?;
        node.args(names.iter().map(|name| format!("overskill-local/tests/browser/{name}.mjs")));
        node.env("OVERSKILL_QUICKSTART_ARGS", format!("--mode {mode}")).env("OVERSKILL_QUICKSTART_LACKS", "list");
        process::run(&mut node)?;
    }
    Ok(Outcome::Passed)
}

/// Node's test runner, for suites whose previews that example shows.
fn suites(workspace: &Workspace, example: &str) -> Result<Command, Failure> {
    let chromium = setup::chromium().ok_or_else(|| Failure::new("no Chromium: run `cargo xtask setup` first"))?;
    let examples = workspace.target().join("debug/examples");
    let mut node = process::program("node", workspace.root());
    node.env("OVERSKILL_QUICKSTART", examples.join(example));
    node.env("OVERSKILL_CLOUDFLARE_LOCAL", examples.join(CLOUDFLARE_LOCAL));
    node.env("OVERSKILL_TARBALLS", workspace.target().join("test-tarballs"));
    node.env("OVERSKILL_CHROMIUM", chromium).envs(setup::npm_registry(workspace));
    node.args(["--test", "--test-reporter=spec"]);
    Ok(node)
}

fn deny(workspace: &Workspace) -> Result<Outcome, Failure> {
    let mut deny = DENY.command(workspace)?;
    deny.args(["check", "--hide-inclusion-graph"]);
    run(deny.args(["bans", "licenses", "sources"]))
}

fn run(command: &mut Command) -> Result<Outcome, Failure> {
    passed(process::run(command))
}

fn passed(result: Result<(), Failure>) -> Result<Outcome, Failure> {
    result.map(|()| Outcome::Passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn names(workspace: &Workspace) -> Vec<&'static str> {
        let steps = steps(workspace).unwrap();
        steps.iter().map(|step| step.name).collect()
    }

    #[test]
    fn the_browser_step_is_there_once_a_suite_is() {
        let root = std::env::temp_dir().join(format!("xtask-checks-{}", std::process::id()));
        let folder = root.join("overskill-console/tests/browser");
        std::fs::create_dir_all(&folder).unwrap();
        let here = Workspace::at(&root);

        let before = names(&here);
        std::fs::write(folder.join("pages.mjs"), "").unwrap();
        let after = names(&here);
        std::fs::remove_dir_all(&root).unwrap();

        assert!(!before.contains(&"browser"));
        assert!(after.contains(&"browser"));
    }

    #[test]
    fn setup_comes_first() {
        let here = Workspace::at(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")));
        assert_eq!(names(&here).first(), Some(&"setup"));
    }
}
