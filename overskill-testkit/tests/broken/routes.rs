use async_trait::async_trait;
use overskill_core::{Environment, Error, Fence, Readiness, Result, Route, RouteTable, Scope};
use overskill_testkit::{RouteTableFixture, suites::routes::V1};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    InventsAFence,
    LosesTheAddress,
    FirstWins,
    LastWins,
    HandlesAreForEver,
    EqualFencesPass,
    ClearForgetsTheFence,
    ClearOverrules,
    ClearLeavesTheRoute,
    FenceIsTheRoutes,
    StandsWithoutAFence,
    LeaksEnvironments,
    ChecksThenActs,
    ForgetsOnRestart,
    StaysBusyWhenDropped,
    NotReady,
}

const BUGS: &[(Bug, &[&str])] = &[
    (Bug::InventsAFence, &["an_untouched_scope_has_no_route"]),
    (Bug::LosesTheAddress, &["a_route_is_read_as_it_was_set"]),
    (Bug::FirstWins, &["a_higher_fence_takes_over"]),
    (Bug::LastWins, &["a_lower_fence_is_refused", "of_concurrent_sets_the_highest_fence_wins"]),
    (Bug::HandlesAreForEver, &["the_same_deployment_may_change_its_handle", "set_is_safe_to_repeat"]),
    (
        Bug::EqualFencesPass,
        &["an_equal_fence_of_another_deployment_is_refused", "of_concurrent_sets_under_one_fence_one_wins"],
    ),
    (Bug::ClearForgetsTheFence, &["a_cleared_scope_remembers_its_fence"]),
    (Bug::ClearOverrules, &["clear_with_a_stale_fence_is_refused", "pointers_and_wrappers_answer_alike"]),
    (Bug::ClearLeavesTheRoute, &["clear_takes_the_route_away"]),
    (Bug::FenceIsTheRoutes, &["the_fence_never_falls"]),
    (Bug::StandsWithoutAFence, &["standing_is_route_and_fence"]),
    (Bug::LeaksEnvironments, &["scopes_know_nothing_of_each_other"]),
    (Bug::ChecksThenActs, &["of_concurrent_sets_under_one_fence_one_wins"]),
    (Bug::ForgetsOnRestart, &["routes_survive_a_restart"]),
    (Bug::StaysBusyWhenDropped, &["a_dropped_call_leaves_all_or_nothing"]),
    (Bug::NotReady, &["it_is_ready"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bug_of_a_route_table_is_found() {
    super::judge(&V1, Bug::None, BUGS, fixture).await;
}

fn fixture(bug: Bug) -> RouteTableFixture {
    let rows = Rows::default();
    let table =
        move |rows: Rows| -> Arc<dyn RouteTable> { Arc::new(Table { rows, bug, busy: AtomicBool::new(false) }) };
    RouteTableFixture::new(table(rows.clone())).reopen(move || {
        let again = if bug == Bug::ForgetsOnRestart { Rows::default() } else { rows.clone() };
        std::future::ready(table(again))
    })
}

type Rows = Arc<Mutex<BTreeMap<Scope, (Fence, Option<Route>)>>>;

#[derive(Debug)]
struct Table {
    rows: Rows,
    bug: Bug,
    busy: AtomicBool,
}

impl Table {
    fn row(&self, scope: &Scope) -> (Fence, Option<Route>) {
        self.rows.lock().unwrap().get(&self.scope(scope)).cloned().unwrap_or_default()
    }

    fn scope(&self, scope: &Scope) -> Scope {
        match self.bug {
            Bug::LeaksEnvironments => Scope::new(scope.app.clone(), Environment::Production),
            _ => scope.clone(),
        }
    }

    fn admits(&self, (fence, live): &(Fence, Option<Route>), route: &Route) -> bool {
        let same = live.as_ref().is_some_and(|live| live.deployment == route.deployment && live.fence == route.fence);
        match self.bug {
            Bug::FirstWins => live.is_none() || same,
            Bug::LastWins => true,
            Bug::HandlesAreForEver => route.fence > *fence,
            Bug::EqualFencesPass => route.fence >= *fence,
            _ => route.fence > *fence || same,
        }
    }
}

#[async_trait]
impl RouteTable for Table {
    fn staleness(&self) -> Duration {
        Duration::ZERO
    }

    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready("broken");
        Ok(if self.bug == Bug::NotReady { ready.lacks("a disk", "mount one") } else { ready })
    }

    async fn get(&self, scope: &Scope) -> Result<Option<Route>> {
        Ok(self.row(scope).1)
    }

    async fn set(&self, scope: &Scope, route: &Route) -> Result<()> {
        let mut route = route.clone();
        if self.bug == Bug::LosesTheAddress {
            route.handle.url = None;
        }
        if self.bug == Bug::StaysBusyWhenDropped {
            if self.busy.swap(true, Ordering::Relaxed) {
                return Err(super::busy("broken"));
            }
            super::pause().await;
            self.busy.store(false, Ordering::Relaxed);
        }
        if self.bug == Bug::ChecksThenActs {
            if !self.admits(&self.row(scope), &route) {
                return Err(Error::conflict("a higher fence was set"));
            }
            super::pause().await;
            self.rows.lock().unwrap().insert(scope.clone(), (route.fence, Some(route)));
            return Ok(());
        }
        let mut rows = self.rows.lock().unwrap();
        let row = rows.entry(self.scope(scope)).or_default();
        if !self.admits(row, &route) {
            return Err(Error::conflict("a higher fence was set"));
        }
        *row = (route.fence, Some(route));
        Ok(())
    }

    async fn clear(&self, scope: &Scope, fence: Fence) -> Result<()> {
        let mut rows = self.rows.lock().unwrap();
        let row = rows.entry(self.scope(scope)).or_default();
        if fence <= row.0 && self.bug != Bug::ClearOverrules {
            return Err(Error::conflict("a higher fence was set"));
        }
        let fence = if self.bug == Bug::ClearForgetsTheFence { Fence::ZERO } else { fence };
        let route = row.1.take().filter(|_| self.bug == Bug::ClearLeavesTheRoute);
        *row = (fence, route);
        Ok(())
    }

    async fn fence(&self, scope: &Scope) -> Result<Fence> {
        let (fence, live) = self.row(scope);
        Ok(match self.bug {
            Bug::InventsAFence => fence.max(Fence::ZERO.next()),
            Bug::FenceIsTheRoutes => live.map_or(Fence::ZERO, |live| live.fence),
            _ => fence,
        })
    }

    async fn standing(&self, scope: &Scope) -> Result<(Option<Route>, Fence)> {
        let route = self.get(scope).await?;
        let fence = self.fence(scope).await?;
        let routed = route.as_ref().map_or(Fence::ZERO, |live| live.fence);
        Ok((route, if self.bug == Bug::StandsWithoutAFence { routed } else { fence }))
    }
}
