//! The diagram of states in ARCHITECTURE.md is the one that the code has.

use overskill_core::DeploymentState;
use std::{collections::BTreeSet, path::Path};

#[test]
fn the_diagram_shows_every_step_and_no_other() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = std::fs::read_to_string(file).unwrap();
    let (_, diagram) = text.split_once("stateDiagram-v2\n").expect("there is a diagram");
    let (diagram, _) = diagram.split_once("```").expect("it ends");
    let steps = diagram.lines().filter_map(|line| line.split_once(" --> "));
    let name = |name: &str| name.split(':').next().unwrap_or_default().trim().to_owned();
    let mut drawn = BTreeSet::new();
    for (from, to) in steps.map(|(from, to)| (name(from), name(to))) {
        assert!(drawn.insert((from.clone(), to.clone())), "{from} --> {to} is drawn twice");
    }
    let mut wanted =
        BTreeSet::from([("[*]".to_owned(), "Requested".to_owned()), ("Ended".to_owned(), "[*]".to_owned())]);
    wanted.extend(DeploymentState::STEPS.map(|(from, to)| (format!("{from:?}"), format!("{to:?}"))));
    assert_eq!(drawn, wanted);
}
