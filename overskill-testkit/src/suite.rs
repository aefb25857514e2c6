//! What a suite is made of, and how one case is run.

use crate::Fixture;
use futures::{FutureExt, future::LocalBoxFuture};
use overskill_core::{Error, ParseError};
use std::{fmt, future::Future, panic::Location, time::Duration};

/// A versioned list of cases for fixtures of type `F`.
#[derive(Debug)]
#[non_exhaustive]
pub struct Suite<F: 'static> {
    /// The seam it is for, such as `file_store`.
    pub name: &'static str,
    /// The version of the list, such as `v1`.
    pub version: &'static str,
    /// The cases, in the order of the documentation.
    pub cases: &'static [Case<F>],
}

/// One rule of a seam, and how to see whether it holds.
#[non_exhaustive]
pub struct Case<F> {
    /// The name, as tests and exceptions use it.
    pub name: &'static str,
    /// The rule, as a sentence without its full stop.
    pub rule: &'static str,
    pub(crate) run: for<'a> fn(&'a F) -> LocalBoxFuture<'a, Verdict>,
}

impl<F> fmt::Debug for Case<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("rule", &self.rule).finish_non_exhaustive()
    }
}

/// A case that a backend is known not to pass, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The case.
    pub case: &'static str,
    /// Why; shown in the report.
    pub reason: &'static str,
}

/// What a case found: that the rule holds, or why it stopped.
pub type Verdict = Result<(), Stop>;

/// Why a case stopped before its end.
#[derive(Debug)]
pub enum Stop {
    /// The rule does not hold.
    Broken(Broken),
    /// The rule cannot be seen with this fixture, which lacks something; the reason shows in the report.
    NotApplicable(&'static str),
}

/// What was seen where a rule is broken.
#[derive(Clone, Debug)]
pub struct Broken {
    details: String,
    at: &'static Location<'static>,
}

impl Broken {
    /// `details` says what was wanted and what was seen.
    #[track_caller]
    pub fn new(details: impl Into<String>) -> Self {
        Self { details: details.into(), at: Location::caller() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [at {}:{}]", self.details, self.at.file(), self.at.line())
    }
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

/// A store that fails where a case wants an answer breaks the rule.
impl From<Error> for Stop {
    #[track_caller]
    fn from(e: Error) -> Self {
        Self::Broken(Broken::new(format!("the call failed: {e:?}")))
    }
}

/// A name that the kit made and the domain types refuse: a fault of the kit, told all the same.
impl From<ParseError> for Stop {
    #[track_caller]
    fn from(e: ParseError) -> Self {
        Self::Broken(Broken::new(format!("the kit gave a name that is not legal: {e}")))
    }
}

/// Breaks the rule unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::suite::Stop::Broken($crate::suite::Broken::new(format!($($why)+))));
        }
    };
}
pub(crate) use ensure;

/// Breaks the rule unless both are equal; the text says what was compared.
macro_rules! ensure_eq {
    ($got:expr, $want:expr, $($what:tt)+) => {
        match (&$got, &$want) {
            (got, want) => $crate::suite::ensure!(
                got == want,
                "{}: got {}, wanted {}",
                format_args!($($what)+),
                $crate::suite::shown(got),
                $crate::suite::shown(want)
            ),
        }
    };
}
pub(crate) use ensure_eq;

/// Breaks the rule unless the result is an error of the kind; gives the error.
macro_rules! ensure_err {
    ($result:expr, $kind:ident, $($what:tt)+) => {
        match $result {
            Err(e) if e.kind() == overskill_core::ErrorKind::$kind => e,
            Err(e) => return Err($crate::suite::Broken::new(format!(
                "{}: wanted {}, but the error was {e:?}", format_args!($($what)+), overskill_core::ErrorKind::$kind
            )).into()),
            Ok(answer) => return Err($crate::suite::Broken::new(format!(
                "{}: wanted {}, but it succeeded with {}",
                format_args!($($what)+), overskill_core::ErrorKind::$kind, $crate::suite::shown(&answer)
            )).into()),
        }
    };
}
pub(crate) use ensure_err;

/// A value for a failure's message: a large one is cut.
pub(crate) fn shown<T: fmt::Debug + ?Sized>(value: &T) -> String {
    const MAX_CHARS: usize = 600;
    let text = format!("{value:?}");
    match text.char_indices().nth(MAX_CHARS) {
        None => text,
        Some((cut, _)) => format!("{}… ({} bytes)", &text[..cut], text.len()),
    }
}

/// Longest time that one case may take; what hangs is broken.
const CASE_LIMIT: Duration = Duration::from_mins(2);

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CaseOutcome {
    Passed,
    /// The whole message, with the rule.
    Failed(String),
    /// It fails, as declared: the reason, and the whole message.
    Excepted(&'static str, String),
    NotApplicable(&'static str),
}

/// Runs one case on its own fixture; panics and hangs are failures too.
pub(crate) async fn run_case<S: ?Sized, W>(
    suite: &Suite<Fixture<S, W>>,
    case: &Case<Fixture<S, W>>,
    exceptions: &[Exception],
    fixture: impl Future<Output = Fixture<S, W>>,
) -> CaseOutcome {
    let mut seed = None;
    let run = async {
        let fixture = fixture.await;
        seed = Some(fixture.names().seed());
        (case.run)(&fixture).await
    };
    let guarded = std::panic::AssertUnwindSafe(tokio::time::timeout(CASE_LIMIT, run)).catch_unwind();
    let details = match guarded.await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(Stop::Broken(broken)))) => Some(broken.to_string()),
        Ok(Ok(Err(Stop::NotApplicable(why)))) => return CaseOutcome::NotApplicable(why),
        Ok(Err(_)) => Some(format!("it was not done after {CASE_LIMIT:?}")),
        Err(panic) => Some(format!("it panicked: {}", panic_text(&*panic))),
    };
    let Suite { name, version, .. } = suite;
    let Case { name: case, rule, .. } = case;
    let exception = exceptions.iter().find(|e| e.case == *case);
    let message = |details| {
        let seed = seed.map_or(String::new(), |seed| format!(" [seed {seed}]"));
        format!("rule broken: \"{rule}\" ({name}/{version}/{case}): {details}{seed}")
    };
    match (details, exception) {
        (None, None) => CaseOutcome::Passed,
        (None, Some(e)) => CaseOutcome::Failed(format!(
            "the exception is out of date: {name}/{version}/{case} passes now, so take out `{case}: {:?}`",
            e.reason
        )),
        (Some(details), None) => CaseOutcome::Failed(message(details)),
        (Some(details), Some(e)) => CaseOutcome::Excepted(e.reason, message(details)),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

/// Runs one case as a test, on a runtime of its own; what the macros call.
///
/// The runtime has two threads, so that it serves stores of every kind and calls that race really do.
pub fn test_case<S: ?Sized, W>(
    suite: &Suite<Fixture<S, W>>,
    case: &str,
    exceptions: &[Exception],
    fixture: impl Future<Output = Fixture<S, W>>,
) {
    let case = suite.cases.iter().find(|c| c.name == case).expect("the macro takes the names from the suite");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a tokio runtime can be built");
    match runtime.block_on(run_case(suite, case, exceptions, fixture)) {
        CaseOutcome::Passed => {}
        CaseOutcome::Failed(message) => panic!("{message}"),
        CaseOutcome::Excepted(reason, message) => println!("excepted, because {reason}; {message}"),
        CaseOutcome::NotApplicable(why) => println!("not applicable: {why}"),
    }
}

/// Refuses, when the test is compiled, exceptions of cases that the suite does not have, and those without a reason.
///
/// ```compile_fail
/// # mod example {
/// # use overskill_testkit::RouteTableFixture;
/// # async fn fixture() -> RouteTableFixture { unimplemented!() }
/// overskill_testkit::route_table_conformance!(v1, fixture(), except { no_such_case: "a reason" });
/// # }
/// ```
/// ```compile_fail
/// # mod example {
/// # use overskill_testkit::RouteTableFixture;
/// # async fn fixture() -> RouteTableFixture { unimplemented!() }
/// overskill_testkit::route_table_conformance!(v1, fixture(), except { it_is_ready: " " });
/// # }
/// ```
/// A version that the suite does not have is refused too:
/// ```compile_fail
/// # mod example {
/// # use overskill_testkit::RouteTableFixture;
/// # async fn fixture() -> RouteTableFixture { unimplemented!() }
/// overskill_testkit::route_table_conformance!(v0, fixture());
/// # }
/// ```
/// What they would have to be:
/// ```
/// # mod example {
/// # use overskill_testkit::RouteTableFixture;
/// # async fn fixture() -> RouteTableFixture { unimplemented!() }
/// overskill_testkit::route_table_conformance!(v1, fixture(), except { it_is_ready: "a reason" });
/// # }
/// ```
pub const fn admit<F>(suite: &Suite<F>, exceptions: &[Exception]) {
    let mut i = 0;
    while i < exceptions.len() {
        assert!(!exceptions[i].reason.trim_ascii().is_empty(), "an exception needs a reason");
        let mut c = 0;
        while c < suite.cases.len() && !same(suite.cases[c].name, exceptions[i].case) {
            c += 1;
        }
        assert!(c < suite.cases.len(), "an exception names a case that the suite does not have");
        i += 1;
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}
