//! The frame itself, on a route table as a third party would write it.

#![expect(clippy::unwrap_used, reason = "a poisoned lock or a missing case fails the test, as it should")]

use async_trait::async_trait;
use overskill_core::{Error, Fence, Readiness, Result, Route, RouteTable, Scope};
use overskill_testkit::{
    Exception, RouteTableFixture,
    report::{self, Outcome, Report},
    suites::routes::V1,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

#[derive(Debug, Default)]
struct Table {
    rows: Mutex<BTreeMap<Scope, (Fence, Option<Route>)>>,
    forgets_cleared_fences: bool,
    panics_when_cleared: bool,
    lacks: Option<&'static str>,
}

#[async_trait]
impl RouteTable for Table {
    fn staleness(&self) -> Duration {
        Duration::ZERO
    }

    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready("table");
        Ok(self.lacks.map_or(ready.clone(), |what| ready.lacks(what, "install it")))
    }

    async fn get(&self, scope: &Scope) -> Result<Option<Route>> {
        Ok(self.rows.lock().unwrap().get(scope).and_then(|(_, route)| route.clone()))
    }

    async fn set(&self, scope: &Scope, route: &Route) -> Result<()> {
        let mut rows = self.rows.lock().unwrap();
        let (fence, live) = rows.entry(scope.clone()).or_default();
        let same = live.as_ref().is_some_and(|l| l.deployment == route.deployment && l.fence == route.fence);
        if route.fence <= *fence && !same {
            return Err(Error::conflict("a higher fence was set"));
        }
        (*fence, *live) = (route.fence, Some(route.clone()));
        Ok(())
    }

    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()> {
        assert!(!self.panics_when_cleared, "out of paper");
        let mut rows = self.rows.lock().unwrap();
        let row = rows.entry(scope.clone()).or_default();
        if fence <= row.0 {
            return Err(Error::conflict("a higher fence was set"));
        }
        *row = (if self.forgets_cleared_fences { Fence::ZERO } else { fence }, None);
        Ok(())
    }

    async fn fence(&self, scope: &Scope) -> Result<Fence> {
        Ok(self.rows.lock().unwrap().get(scope).map_or(Fence::ZERO, |row| row.0))
    }
}

fn of(table: Table) -> RouteTableFixture {
    let table: Arc<dyn RouteTable> = Arc::new(table);
    let again = table.clone();
    RouteTableFixture::new(table).reopen(move || std::future::ready(again.clone()))
}

mod whole {
    use super::*;
    overskill_testkit::route_table_conformance!(v1, std::future::ready(of(Table::default())));

    #[tokio::test]
    async fn the_macro_makes_a_report_too() {
        let report = route_table_v1::report("a table").await;
        assert_eq!((report.backend.as_str(), report.conforms()), ("a table", true), "{}", report.to_markdown());
        assert_eq!(report.with(Outcome::Passed).count(), V1.cases.len());
    }
}

mod with_exceptions {
    use super::*;

    fn forgetful() -> RouteTableFixture {
        of(Table { forgets_cleared_fences: true, ..Table::default() })
    }

    overskill_testkit::route_table_conformance!(
        v1,
        std::future::ready(forgetful()),
        except {
            a_cleared_scope_remembers_its_fence: "rows are deleted, fence and all",
            the_fence_never_falls: "rows are deleted, fence and all",
            standing_is_route_and_fence: "rows are deleted, fence and all",
            routes_survive_a_restart: "rows are deleted, fence and all",
            pointers_and_wrappers_answer_alike: "rows are deleted, fence and all",
        }
    );

    #[tokio::test]
    async fn exceptions_show_in_the_report() {
        let report = route_table_v1::report("forgetful").await;
        assert!(report.conforms(), "{}", report.to_markdown());
        let excepted: Vec<_> =
            report.with(Outcome::Excepted).map(|c| (c.name.as_str(), c.message.as_deref())).collect();
        assert_eq!(excepted.len(), 5);
        assert!(excepted.contains(&("the_fence_never_falls", Some("rows are deleted, fence and all"))));
        assert!(report.to_markdown().contains("excepted | rows are deleted, fence and all |"));
    }
}

async fn run(table: impl Fn() -> Table, exceptions: &[Exception]) -> Report {
    report::run(&V1, "table", exceptions, async || of(table())).await
}

fn message<'a>(report: &'a Report, case: &str) -> (Outcome, &'a str) {
    let case = report.cases.iter().find(|c| c.name == case).unwrap();
    (case.outcome, case.message.as_deref().unwrap_or_default())
}

#[tokio::test]
async fn a_failure_names_the_rule_the_case_the_seed_and_the_line() {
    let report = run(|| Table { forgets_cleared_fences: true, ..Table::default() }, &[]).await;
    assert!(!report.conforms());
    let (outcome, text) = message(&report, "a_cleared_scope_remembers_its_fence");
    assert_eq!(outcome, Outcome::Failed);
    let rule = "rule broken: \"clear remembers its fence: what is not above it stays out\" \
                (route_table/v1/a_cleared_scope_remembers_its_fence): fence after clear with 8: got Fence(0), wanted Fence(8)";
    assert!(text.starts_with(rule), "{text}");
    assert!(text.contains("routes.rs:") && text.contains("[seed "), "{text}");
}

#[tokio::test]
async fn an_exception_that_passes_is_out_of_date() {
    let exceptions = [Exception { case: "set_is_safe_to_repeat", reason: "never true" }];
    let report = run(Table::default, &exceptions).await;
    let (outcome, text) = message(&report, "set_is_safe_to_repeat");
    assert_eq!(outcome, Outcome::Failed);
    assert!(text.contains("the exception is out of date: route_table/v1/set_is_safe_to_repeat"), "{text}");
    assert_eq!(report.with(Outcome::Failed).count(), 1);
}

#[tokio::test]
async fn a_panic_breaks_the_rule_and_hides_no_other_case() {
    let report = run(|| Table { panics_when_cleared: true, ..Table::default() }, &[]).await;
    let (outcome, text) = message(&report, "clear_takes_the_route_away");
    assert_eq!(outcome, Outcome::Failed);
    assert!(text.contains("it panicked: out of paper") && text.contains("[seed "), "{text}");
    assert_eq!(message(&report, "it_is_ready").0, Outcome::Passed);
    assert_eq!(report.cases.len(), V1.cases.len());
}

#[tokio::test]
async fn what_a_backend_lacks_is_told() {
    let report = run(|| Table { lacks: Some("a disk"), ..Table::default() }, &[]).await;
    let (outcome, text) = message(&report, "it_is_ready");
    assert!(outcome == Outcome::Failed && text.contains("a disk"), "{text}");
}

#[tokio::test]
async fn a_fixture_that_cannot_reopen_is_not_passed_in_silence() {
    let fixture = async || RouteTableFixture::new(Arc::new(Table::default()));
    let report = report::run(&V1, "table", &[], fixture).await;
    assert!(!report.conforms());
    let (outcome, text) = message(&report, "routes_survive_a_restart");
    assert_eq!(outcome, Outcome::Failed);
    assert!(text.contains("the fixture does not open its store again; say how with `reopen`, or except"), "{text}");
    let exceptions = [Exception { case: "routes_survive_a_restart", reason: "nothing of it outlives its process" }];
    let report = report::run(&V1, "table", &exceptions, fixture).await;
    assert!(report.conforms() && report.to_markdown().contains("0 failed, 1 excepted"), "{}", report.to_markdown());
}

#[tokio::test]
async fn an_exception_says_what_was_seen() {
    let exceptions = [Exception { case: "the_fence_never_falls", reason: "rows are deleted, fence and all" }];
    let report = run(|| Table { forgets_cleared_fences: true, ..Table::default() }, &exceptions).await;
    let case = report.cases.iter().find(|c| c.name == "the_fence_never_falls").unwrap();
    assert_eq!((case.outcome, case.message.as_deref()), (Outcome::Excepted, Some(exceptions[0].reason)));
    assert!(case.seen.as_deref().unwrap().starts_with("rule broken: \"fence answers the highest"), "{:?}", case.seen);
    assert_eq!(report.kit, env!("CARGO_PKG_VERSION"));
}

/// A case that does not apply needs no exception: it would stay when the backend begins to declare otherwise.
#[tokio::test]
async fn an_exception_of_what_does_not_apply_is_out_of_date() {
    use overskill_core::{BackendName, Fencing, TargetInfo, memory::MemoryTarget};
    use overskill_testkit::{DeploymentTargetFixture, TargetOutside, suites::target};
    let mut info = TargetInfo::new(BackendName::parse("kit").unwrap(), "memory");
    info.fencing = Fencing::Observed;
    let exceptions = [Exception { case: "a_lower_fence_is_refused", reason: "it takes any fence" }];
    let fixture =
        async || DeploymentTargetFixture::with(Arc::new(MemoryTarget::with(info.clone())), TargetOutside::new());
    let report = report::run(&target::V1, "memory", &exceptions, fixture).await;
    let (outcome, text) = message(&report, "a_lower_fence_is_refused");
    assert_eq!(outcome, Outcome::Failed);
    assert!(text.contains("out of date") && text.contains("does not apply (the target declares"), "{text}");
}

/// Whatever seed a failure named: all cases can be run again at once, on one store that they share.
#[tokio::test]
async fn cases_of_one_seed_share_a_store() {
    let table = Arc::new(Table::default());
    let fixture = async || {
        let again: Arc<dyn RouteTable> = table.clone();
        RouteTableFixture::new(table.clone()).reopen(move || std::future::ready(again.clone())).seed(7)
    };
    let report = report::run(&V1, "shared", &[], fixture).await;
    assert!(report.conforms(), "{}", report.to_markdown());
}

/// Answers every read after a while.
#[derive(Debug)]
struct Slow {
    table: Table,
    takes: Duration,
    blocks: bool,
}

#[async_trait]
impl RouteTable for Slow {
    fn staleness(&self) -> Duration {
        Duration::ZERO
    }

    async fn check(&self) -> Result<Readiness> {
        if self.blocks {
            std::thread::sleep(self.takes);
        } else {
            tokio::time::sleep(self.takes).await;
        }
        self.table.check().await
    }

    async fn get(&self, scope: &Scope) -> Result<Option<Route>> {
        self.table.get(scope).await
    }

    async fn set(&self, scope: &Scope, route: &Route) -> Result<()> {
        self.table.set(scope, route).await
    }

    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()> {
        self.table.clear(scope, fence).await
    }

    async fn fence(&self, scope: &Scope) -> Result<Fence> {
        self.table.fence(scope).await
    }
}

/// What the test of `it_is_ready` says of a table whose check takes that long, where a case may take that long.
fn checked(takes: Duration, blocks: bool, limit: Duration) -> std::result::Result<(), String> {
    let fixture = move || {
        let slow = Slow { table: Table::default(), takes, blocks };
        std::future::ready(RouteTableFixture::new(Arc::new(slow)).limit(limit))
    };
    let test = || overskill_testkit::__macro::test_case(&V1, "it_is_ready", &[], fixture);
    std::panic::catch_unwind(test).map_err(|panic| panic.downcast_ref::<String>().unwrap().clone())
}

#[test]
fn a_fixture_says_how_long_a_case_may_take() {
    let (short, long) = (Duration::from_millis(50), Duration::from_mins(1));
    assert_eq!(checked(4 * short, false, long), Ok(()));
    let said = checked(20 * short, false, short).unwrap_err();
    assert!(said.contains("it was not done after 50ms") && said.contains("`Fixture::limit`"), "{said}");
}

#[test]
fn a_backend_that_blocks_its_thread_is_told_of() {
    let said = checked(Duration::from_mins(10), true, Duration::from_millis(100)).unwrap_err();
    assert!(said.contains("rule broken: \"check answers") && said.contains("it blocks its thread"), "{said}");
}

#[tokio::test]
async fn a_report_survives_json() {
    let report = run(Table::default, &[]).await;
    assert_eq!(serde_json::from_str::<Report>(&report.to_json()).unwrap(), report);
}

#[test]
fn names_follow_their_seed_and_are_not_shared() {
    let names = |seed| {
        let fixture = of(Table::default()).seed(seed);
        let scopes: Vec<_> = (0..3).map(|_| fixture.names().scope()).collect();
        (scopes, fixture.names().deployment().as_uuid().as_u64_pair().1)
    };
    assert_eq!(names(1), names(1));
    assert!(names(1).0.iter().all(|s| !names(2).0.contains(s)));
    assert!(names(1).0.is_sorted());
    assert_ne!(of(Table::default()).names().seed(), of(Table::default()).names().seed());
}

#[tokio::test]
async fn what_is_kept_outlives_the_store() {
    #[derive(Debug)]
    struct Guard(Arc<Table>, Arc<Mutex<Option<usize>>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            *self.1.lock().unwrap() = Some(Arc::strong_count(&self.0));
        }
    }
    let seen = Arc::new(Mutex::new(None));
    let table = Arc::new(Table::default());
    let guard = Guard(table.clone(), seen.clone());
    drop(RouteTableFixture::new(table).keep(guard));
    assert_eq!(*seen.lock().unwrap(), Some(1), "the store is gone when the guard goes");
}
