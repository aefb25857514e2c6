//! How many attacks there are, and that each is shown where it works.

use crate::explorer;
use std::collections::BTreeSet;

const SOURCES: [(&str, &str); 8] = [
    ("claims", include_str!("claims.rs")),
    ("openings", include_str!("openings.rs")),
    ("oracles", include_str!("oracles.rs")),
    ("schemas", include_str!("schemas.rs")),
    ("services", include_str!("services.rs")),
    ("sessions", include_str!("sessions.rs")),
    ("temporary", include_str!("temporary.rs")),
    ("timing", include_str!("timing.rs")),
];

/// What makes an attack on a twin, where it must succeed, before it makes it on ours: [`Attack::fails`], and others of their own.
///
/// [`Attack::fails`]: crate::stage::Attack::fails
const SHOWN_BY: [&str; 5] = [".fails()", "run(async |", "left_for_the_next(", "tells_by_its_time(", "Stage::on("];

#[test]
fn there_are_more_than_a_hundred_and_fifty_and_each_has_its_twin() {
    let mut names = BTreeSet::new();
    for (module, source) in SOURCES {
        for part in source.split("\n#[test]\n").skip(1) {
            let (head, body) = part.split_once("() {\n").unwrap();
            let name = head.strip_prefix("fn ").unwrap();
            let body = body.split("\n}\n").next().unwrap();
            assert!(SHOWN_BY.iter().any(|it| body.contains(it)), "{module}::{name} is shown nowhere");
            println!("{module}::{name}");
            assert!(names.insert(name), "{name} is there twice");
        }
    }
    // One line makes each of these, on both.
    for &name in explorer::NAMES {
        assert!(names.insert(name), "{name} is there twice");
    }
    assert!(names.len() >= 150, "{} attacks", names.len());
}
