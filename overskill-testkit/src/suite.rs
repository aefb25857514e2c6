//! What a suite is made of, and how one case is run.

use crate::Fixture;
use futures::{FutureExt, future::LocalBoxFuture};
use overskill_core::{Error, ParseError};
use std::{
    fmt,
    future::Future,
    panic::{Location, resume_unwind},
    sync::mpsc,
    time::Duration,
};

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
    /// The rule is not one for this backend, by what it declares of itself; the reason shows in the report. What the
    /// *fixture* lacks is no such reason: that is declared as an exception, or it would pass in silence.
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

/// Longest time that one case may take if its fixture does not say; what hangs is broken.
pub(crate) const CASE_LIMIT: Duration = Duration::from_mins(2);

/// Longest time until a fixture is ready.
const FIXTURE_LIMIT: Duration = Duration::from_mins(5);

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

/// Runs one case on its own fixture; panics and hangs are failures too. `begins` is told how long the case may take, once
/// the fixture is ready.
pub(crate) async fn run_case<S: ?Sized, W>(
    suite: &Suite<Fixture<S, W>>,
    case: &Case<Fixture<S, W>>,
    exceptions: &[Exception],
    fixture: impl Future<Output = Fixture<S, W>>,
    begins: impl FnOnce(Duration),
) -> CaseOutcome {
    let mut seed = None;
    let run = async {
        let Ok(mut fixture) = tokio::time::timeout(FIXTURE_LIMIT, fixture).await else {
            return Err(Broken::new(format!("the fixture was not ready after {FIXTURE_LIMIT:?}")).into());
        };
        fixture.begin(case.name);
        seed = Some(fixture.names().seed());
        let limit = fixture.case_limit();
        begins(limit);
        match tokio::time::timeout(limit, (case.run)(&fixture)).await {
            Ok(verdict) => verdict,
            Err(_) => Err(Broken::new(format!("it was not done after {limit:?}; {SLOW}")).into()),
        }
    };
    let found = match std::panic::AssertUnwindSafe(run).catch_unwind().await {
        Ok(Ok(())) => Found::Holds,
        Ok(Err(Stop::Broken(broken))) => Found::Broken(broken.to_string()),
        Ok(Err(Stop::NotApplicable(why))) => Found::NotApplicable(why),
        Err(panic) => Found::Broken(format!("it panicked: {}", panic_text(&*panic))),
    };
    conclude(suite, case, exceptions, seed, found)
}

const SLOW: &str = "a backend that is slow, not broken, is given more time with `Fixture::limit`";

/// What a case found, before exceptions count.
enum Found {
    Holds,
    Broken(String),
    NotApplicable(&'static str),
}

fn conclude<F>(
    suite: &Suite<F>,
    case: &Case<F>,
    exceptions: &[Exception],
    seed: Option<u64>,
    found: Found,
) -> CaseOutcome {
    let Suite { name, version, .. } = suite;
    let Case { name: case, rule, .. } = case;
    let exception = exceptions.iter().find(|e| e.case == *case);
    let message = |details| {
        let seed = seed.map_or(String::new(), |seed| format!(" [seed {seed}]"));
        format!("rule broken: \"{rule}\" ({name}/{version}/{case}): {details}{seed}")
    };
    let outdated = |now: &str, e: &Exception| {
        CaseOutcome::Failed(format!(
            "the exception is out of date: {name}/{version}/{case} {now}, so take out `{case}: {:?}`",
            e.reason
        ))
    };
    match (found, exception) {
        (Found::Holds, None) => CaseOutcome::Passed,
        (Found::Holds, Some(e)) => outdated("passes now", e),
        (Found::NotApplicable(why), None) => CaseOutcome::NotApplicable(why),
        (Found::NotApplicable(why), Some(e)) => outdated(&format!("does not apply ({why})"), e),
        (Found::Broken(details), None) => CaseOutcome::Failed(message(details)),
        (Found::Broken(details), Some(e)) => CaseOutcome::Excepted(e.reason, message(details)),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no text)")
}

/// Runs one case as a test, on a runtime and threads of its own; what the macros call.
///
/// The runtime has two threads, so that it serves stores of every kind and calls that race really do. All of it runs beside
/// the test's own thread, which so can tell of a backend that blocks a thread and never gives it back.
pub fn test_case<S, W, F>(
    suite: &'static Suite<Fixture<S, W>>,
    case: &str,
    exceptions: &'static [Exception],
    fixture: impl FnOnce() -> F + Send + 'static,
) where
    S: ?Sized + 'static,
    W: 'static,
    F: Future<Output = Fixture<S, W>>,
{
    let case = suite.cases.iter().find(|c| c.name == case).expect("the macro takes the names from the suite");
    let (tell, told) = mpsc::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a tokio runtime can be built");
        // Nobody listens any more only if this came too late to matter.
        let begins = |limit| drop(tell.send(Told::Begins(limit)));
        let outcome = runtime.block_on(run_case(suite, case, exceptions, fixture(), begins));
        drop(tell.send(Told::Ended(outcome)));
        // What the backend left running is stopped, and not waited for without end.
        runtime.shutdown_timeout(Duration::from_secs(10));
    };
    let runner = std::thread::Builder::new().name(case.name.to_owned()).spawn(run);
    let runner = runner.expect("a thread can be started");
    let mut limit = FIXTURE_LIMIT;
    let outcome = loop {
        // A case that only waits is told so by its own clock first.
        let grace = limit.clamp(Duration::from_secs(1), Duration::from_secs(30));
        match told.recv_timeout(limit + grace) {
            Ok(Told::Begins(case_limit)) => limit = case_limit,
            Ok(Told::Ended(outcome)) => {
                if let Err(panic) = runner.join() {
                    resume_unwind(panic);
                }
                break outcome;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let what = format!("it blocks its thread, and was not done after {limit:?}; {SLOW}");
                break conclude(suite, case, exceptions, None, Found::Broken(what));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => match runner.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => unreachable!("it tells its outcome before it ends"),
            },
        }
    };
    match outcome {
        CaseOutcome::Passed => {}
        CaseOutcome::Failed(message) => panic!("{message}"),
        CaseOutcome::Excepted(reason, message) => println!("excepted, because {reason}; {message}"),
        CaseOutcome::NotApplicable(why) => println!("not applicable: {why}"),
    }
}

/// What the thread of a case tells.
enum Told {
    Begins(Duration),
    Ended(CaseOutcome),
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
