//! Backends that are broken on purpose: each fails its suite in the cases that were made for it, with a message that names
//! the rule; and every case of every suite here fails for at least one of them, so that none passes whatever it is given.

#![expect(clippy::unwrap_used, reason = "a poisoned lock fails the test, as it should")]

mod apps;
mod audit;
mod bundles;
mod env;
mod files;
mod routes;

use overskill_testkit::{
    Fixture, Suite,
    report::{self, Outcome},
};
use std::{collections::BTreeSet, fmt::Debug};

/// Runs the suite on the backend with each bug, and without any.
async fn judge<B: Copy + Debug, S: ?Sized, W>(
    suite: &Suite<Fixture<S, W>>,
    healthy: B,
    bugs: &[(B, &[&str])],
    fixture: impl Fn(B) -> Fixture<S, W>,
) {
    let report = report::run(suite, "healthy", &[], async || fixture(healthy)).await;
    assert!(report.conforms(), "{}", report.to_markdown());

    let mut caught = BTreeSet::new();
    for (bug, wanted) in bugs {
        let report = report::run(suite, &format!("{bug:?}"), &[], async || fixture(*bug)).await;
        caught.extend(report.with(Outcome::Failed).map(|case| case.name.clone()));
        for wanted in *wanted {
            let case = report.cases.iter().find(|case| case.name == *wanted).expect("a case of the suite");
            assert_eq!(case.outcome, Outcome::Failed, "{wanted} does not see {bug:?}: {}", report.to_markdown());
            let message = case.message.as_deref().unwrap_or_default();
            let start = format!("rule broken: \"{}\" ({}/{}/{wanted}): ", case.rule, suite.name, suite.version);
            assert!(message.starts_with(&start), "{bug:?}: {message}");
            assert!(message.contains("[at ") && message.contains("[seed "), "{bug:?}: {message}");
        }
    }
    let idle: Vec<_> = suite.cases.iter().map(|case| case.name).filter(|name| !caught.contains(*name)).collect();
    assert!(idle.is_empty(), "no broken backend fails {idle:?}");
}

/// The time between two steps that should have been one: long enough for others to come in between.
async fn pause() {
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
}

/// What a store says that cannot be used while another call is under way.
fn busy(backend: &'static str) -> overskill_core::Error {
    overskill_core::Error::new(overskill_core::ErrorKind::Unavailable, "another call never ended").at(backend, "write")
}
