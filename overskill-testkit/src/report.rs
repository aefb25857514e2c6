//! A suite's outcome as something to publish.

use crate::{
    Exception, Fixture, Suite,
    suite::{CaseOutcome, run_case},
};
use serde::{Deserialize, Serialize};
use std::{fmt::Write as _, future::Future, time::Instant};

/// Runs every case of `suite`, one after the other, each on a new fixture.
///
/// It runs on the caller's runtime, so a backend that blocks its thread and never gives it back is not told of here, as it
/// is in the tests that the macros make.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use overskill_core::memory::MemoryRoutes;
/// use overskill_testkit::{Exception, RouteTableFixture, report, suites::routes};
/// use std::sync::Arc;
///
/// let fixture = async || RouteTableFixture::new(Arc::new(MemoryRoutes::new()));
/// let known = [Exception { case: "routes_survive_a_restart", reason: "nothing of it outlives its process" }];
/// let report = report::run(&routes::V1, "memory", &known, fixture).await;
/// assert!(report.conforms(), "{}", report.to_markdown());
/// # });
/// ```
pub async fn run<S: ?Sized, W, F>(
    suite: &Suite<Fixture<S, W>>,
    backend: &str,
    exceptions: &[Exception],
    fixture: impl Fn() -> F,
) -> Report
where
    F: Future<Output = Fixture<S, W>>,
{
    let mut cases = Vec::new();
    for case in suite.cases {
        let start = Instant::now();
        let (outcome, message, seen) = match run_case(suite, case, exceptions, fixture(), drop).await {
            CaseOutcome::Passed => (Outcome::Passed, None, None),
            CaseOutcome::Failed(message) => (Outcome::Failed, Some(message), None),
            CaseOutcome::Excepted(reason, seen) => (Outcome::Excepted, Some(reason.to_owned()), Some(seen)),
            CaseOutcome::NotApplicable(why) => (Outcome::NotApplicable, Some(why.to_owned()), None),
        };
        let millis = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (name, rule) = (case.name.to_owned(), case.rule.to_owned());
        cases.push(CaseReport { name, rule, outcome, message, seen, millis });
    }
    Report {
        kit: env!("CARGO_PKG_VERSION").to_owned(),
        suite: suite.name.to_owned(),
        version: suite.version.to_owned(),
        backend: backend.to_owned(),
        cases,
    }
}

/// A suite's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of this crate: what exactly a case does is to be read there.
    pub kit: String,
    /// The suite's name.
    pub suite: String,
    /// The suite's version.
    pub version: String,
    /// The backend, as it was named to [`run`].
    pub backend: String,
    /// Every case, in the suite's order.
    pub cases: Vec<CaseReport>,
}

/// One case's outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CaseReport {
    /// The case.
    pub name: String,
    /// Its rule.
    pub rule: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What was broken, or why it is excepted or does not apply.
    pub message: Option<String>,
    /// What was seen of a rule that is broken as declared: whether the exception is still about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The rule holds.
    Passed,
    /// The rule is broken, or an exception is out of date.
    Failed,
    /// The rule is broken, as declared.
    Excepted,
    /// The rule is not one for this backend, by what it declares of itself.
    NotApplicable,
}

impl Report {
    /// Whether no case failed; exceptions are allowed.
    pub fn conforms(&self) -> bool {
        self.with(Outcome::Failed).next().is_none()
    }

    /// The cases with that outcome.
    pub fn with(&self, outcome: Outcome) -> impl Iterator<Item = &CaseReport> {
        self.cases.iter().filter(move |c| c.outcome == outcome)
    }

    /// As JSON, for machines.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and numbers are always JSON")
    }

    /// As Markdown, for people.
    pub fn to_markdown(&self) -> String {
        let count = |outcome| self.with(outcome).count();
        let mut text =
            format!("# {} on {}/{}, overskill-testkit {}\n\n", self.backend, self.suite, self.version, self.kit);
        let _ = writeln!(
            text,
            "{} passed, {} failed, {} excepted, {} not applicable.\n\n| case | rule | outcome | why |\n|---|---|---|---|",
            count(Outcome::Passed),
            count(Outcome::Failed),
            count(Outcome::Excepted),
            count(Outcome::NotApplicable)
        );
        for case in &self.cases {
            let outcome = match case.outcome {
                Outcome::Passed => "passed",
                Outcome::Failed => "**failed**",
                Outcome::Excepted => "excepted",
                Outcome::NotApplicable => "not applicable",
            };
            let why = case.message.as_deref().unwrap_or_default();
            let _ = writeln!(text, "| `{}` | {} | {outcome} | {} |", case.name, cell(&case.rule), cell(why));
        }
        text
    }
}

/// Text that stays inside its cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
