//! Backends that break one rule each: the case of that rule finds it, and names the rule.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod deployments;
mod jobs;
mod panics;
mod preview;
mod progress;
mod target;
#[cfg(feature = "tokens")]
mod tenants;

use overskill_testkit::{
    Fixture, Suite,
    report::{self, Outcome},
};
use std::{collections::BTreeSet, future::Future};

/// Runs the suite and expects that `cases` fail, each with a message that names its rule, and that not everything does:
/// a backend that answers nothing at all would prove little.
async fn breaks<S: ?Sized, W, F>(suite: &Suite<Fixture<S, W>>, cases: &[&str], fixture: impl Fn() -> F)
where
    F: Future<Output = Fixture<S, W>>,
{
    let report = report::run(suite, "broken", &[], fixture).await;
    let failed: Vec<_> = report.cases.iter().filter(|c| c.outcome == Outcome::Failed).collect();
    for case in &failed {
        println!("found by {} {}", suite.name, case.name);
    }
    for case in cases {
        let found = failed.iter().find(|c| c.name == *case);
        let found = found.unwrap_or_else(|| panic!("{case} did not find it; the report: {}", report.to_markdown()));
        let message = found.message.as_deref().unwrap_or_default();
        let rule = format!("rule broken: \"{}\" ({}/{}/{case}): ", found.rule, suite.name, suite.version);
        assert!(message.starts_with(&rule), "{message}");
        assert!(!message.contains("panicked"), "{message}");
    }
    let passed = report.cases.iter().filter(|c| c.outcome == Outcome::Passed).count();
    assert!(passed > 0, "{}", report.to_markdown());
    assert!(!report.conforms());
}

/// Runs the suite on every broken backend of a list: each case fails for at least one, so that none passes whatever it is
/// given.
async fn every_case_fails_once<B: Copy, S: ?Sized, W>(
    suite: &Suite<Fixture<S, W>>,
    flaws: &[B],
    fixture: impl Fn(B) -> Fixture<S, W>,
) {
    let mut caught = BTreeSet::new();
    for flaw in flaws {
        let report = report::run(suite, "broken", &[], async || fixture(*flaw)).await;
        caught.extend(report.with(Outcome::Failed).map(|case| case.name.clone()));
    }
    let idle: Vec<_> = suite.cases.iter().map(|case| case.name).filter(|name| !caught.contains(*name)).collect();
    assert!(idle.is_empty(), "no broken backend fails {idle:?}");
}
