//! The rules of a [`RouteTable`].

use overskill_core::RouteTable;

/// What [`route_table_conformance!`](crate::route_table_conformance) needs: a route table.
pub type RouteTableFixture = crate::Fixture<dyn RouteTable>;

suite! {
    $
    /// Tests of every rule of a [`RouteTable`](overskill_core::RouteTable): `route_table_conformance!(v1, fixture())`,
    /// where the fixture is a [`RouteTableFixture`](crate::RouteTableFixture).
    macro route_table_conformance = routes, route_table_v1;
    const V1 = "route_table", v1;
    fixture RouteTableFixture;
    in cases {
        an_untouched_scope_has_no_route: "a scope that nothing was set in has no route, and the fence zero";
        a_route_is_read_as_it_was_set: "get answers the route exactly as it was set";
        a_higher_fence_takes_over: "a route with a greater fence replaces the one before";
        a_lower_fence_is_refused: "a route with a lower fence than any before is a conflict and changes nothing";
        the_same_deployment_may_change_its_handle: "under the current fence, the same deployment may change its handle";
        an_equal_fence_of_another_deployment_is_refused: "under the current fence, another deployment is a conflict and changes nothing";
        set_is_safe_to_repeat: "setting the same route again succeeds and changes nothing";
        clear_takes_the_route_away: "after clear with a greater fence there is no route";
        a_cleared_scope_remembers_its_fence: "clear remembers its fence: what is not above it stays out";
        clear_with_a_stale_fence_is_refused: "clear with a fence that is not greater than every fence before is a conflict and changes nothing";
        the_fence_never_falls: "fence answers the highest fence that was ever set or cleared with, and never falls";
        standing_is_route_and_fence: "standing answers the route and the fence, as get and fence do";
        scopes_know_nothing_of_each_other: "a route and a fence are seen in their own scope alone";
        of_concurrent_sets_the_highest_fence_wins: "of concurrent sets the one with the highest fence is what stays";
        of_concurrent_sets_under_one_fence_one_wins: "of concurrent sets under one fence by different deployments exactly one succeeds";
        routes_survive_a_restart: "routes and fences are durable";
        a_dropped_call_leaves_all_or_nothing: "a set whose future is dropped happened or did not, and the table goes on working";
        pointers_and_wrappers_answer_alike: "a wrapped route table answers as the table itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
}

mod cases {
    use super::RouteTableFixture;
    use crate::{
        Verdict, race, settle,
        suite::{ensure, ensure_eq, ensure_err},
    };
    use overskill_core::{
        Around, BackendName, DeploymentId, Environment, Fence, Handle, PublicUrl, Route, RouteTable, Scope,
    };
    use std::sync::Arc;

    type F = RouteTableFixture;

    fn route(deployment: DeploymentId, fence: u64, reference: &str) -> Route {
        let target = BackendName::parse("kit-target").expect("a legal name");
        Route::new(target, deployment, Handle::new(reference), Fence::from_u64(fence))
    }

    fn scope(f: &F) -> Scope {
        f.names().scope_in(Environment::Production)
    }

    /// The route there, once it had the time to show: `want`, if the rule holds.
    async fn read(f: &F, scope: &Scope, want: Option<&Route>) -> Result<Option<Route>, crate::Stop> {
        let staleness = f.store().staleness();
        settle(staleness, async || Ok(f.store().get(scope).await?), |got| got.as_ref() == want).await
    }

    pub(super) async fn an_untouched_scope_has_no_route(f: &F) -> Verdict {
        let scope = scope(f);
        ensure_eq!(f.store().get(&scope).await?, None, "route of a new scope");
        ensure_eq!(f.store().fence(&scope).await?, Fence::ZERO, "fence of a new scope");
        Ok(())
    }

    pub(super) async fn a_route_is_read_as_it_was_set(f: &F) -> Verdict {
        let scope = scope(f);
        let mut route = route(f.names().deployment(), 7, "a handle with ünïcode, 'quotes' and a \\");
        route.handle = route.handle.served_at(PublicUrl::parse("https://todo.example/a/b")?);
        f.store().set(&scope, &route).await?;
        ensure_eq!(read(f, &scope, Some(&route)).await?, Some(route), "route after set");
        Ok(())
    }

    pub(super) async fn a_higher_fence_takes_over(f: &F) -> Verdict {
        let scope = scope(f);
        for fence in [1, 2, 9, 1 << 40] {
            let route = route(f.names().deployment(), fence, "next");
            f.store().set(&scope, &route).await?;
            ensure_eq!(read(f, &scope, Some(&route)).await?, Some(route), "route after set with fence {fence}");
        }
        Ok(())
    }

    pub(super) async fn a_lower_fence_is_refused(f: &F) -> Verdict {
        let scope = scope(f);
        let (old, new) = (route(f.names().deployment(), 4, "old"), route(f.names().deployment(), 5, "new"));
        f.store().set(&scope, &old).await?;
        f.store().set(&scope, &new).await?;
        ensure_err!(f.store().set(&scope, &old).await, Conflict, "set with fence 4 after 5");
        let same = route(new.deployment, 4, "new");
        ensure_err!(f.store().set(&scope, &same).await, Conflict, "set by the live deployment with fence 4 after 5");
        ensure_eq!(read(f, &scope, Some(&new)).await?, Some(new), "route after the refused set");
        ensure_eq!(f.store().fence(&scope).await?, Fence::from_u64(5), "fence after the refused set");
        Ok(())
    }

    pub(super) async fn the_same_deployment_may_change_its_handle(f: &F) -> Verdict {
        let scope = scope(f);
        let first = route(f.names().deployment(), 3, "first");
        let mut second = first.clone();
        second.handle = Handle::new("second");
        f.store().set(&scope, &first).await?;
        f.store().set(&scope, &second).await?;
        ensure_eq!(read(f, &scope, Some(&second)).await?, Some(second), "route after its handle was changed");
        Ok(())
    }

    pub(super) async fn an_equal_fence_of_another_deployment_is_refused(f: &F) -> Verdict {
        let scope = scope(f);
        let live = route(f.names().deployment(), 3, "live");
        let other = route(f.names().deployment(), 3, "other");
        f.store().set(&scope, &live).await?;
        ensure_err!(f.store().set(&scope, &other).await, Conflict, "set by another deployment under the same fence");
        ensure_eq!(read(f, &scope, Some(&live)).await?, Some(live), "route after the refused set");
        Ok(())
    }

    pub(super) async fn set_is_safe_to_repeat(f: &F) -> Verdict {
        let scope = scope(f);
        let route = route(f.names().deployment(), 3, "live");
        for _ in 0..3 {
            f.store().set(&scope, &route).await?;
        }
        ensure_eq!(read(f, &scope, Some(&route)).await?, Some(route), "route after three equal sets");
        Ok(())
    }

    pub(super) async fn clear_takes_the_route_away(f: &F) -> Verdict {
        let scope = scope(f);
        f.store().set(&scope, &route(f.names().deployment(), 1, "live")).await?;
        f.store().clear(&scope, Fence::from_u64(2)).await?;
        ensure_eq!(read(f, &scope, None).await?, None, "route after clear");
        let next = route(f.names().deployment(), 3, "next");
        f.store().set(&scope, &next).await?;
        ensure_eq!(read(f, &scope, Some(&next)).await?, Some(next), "route set after clear");
        Ok(())
    }

    pub(super) async fn a_cleared_scope_remembers_its_fence(f: &F) -> Verdict {
        let scope = scope(f);
        let live = route(f.names().deployment(), 1, "live");
        f.store().set(&scope, &live).await?;
        f.store().clear(&scope, Fence::from_u64(8)).await?;
        ensure_eq!(f.store().fence(&scope).await?, Fence::from_u64(8), "fence after clear with 8");
        for fence in [1, 7, 8] {
            let mut late = live.clone();
            late.fence = Fence::from_u64(fence);
            ensure_err!(f.store().set(&scope, &late).await, Conflict, "set with fence {fence} after clear with 8");
        }
        ensure_eq!(read(f, &scope, None).await?, None, "route after the refused sets");
        // A scope that never had a route remembers it as well.
        let scope = self::scope(f);
        f.store().clear(&scope, Fence::from_u64(2)).await?;
        ensure_err!(f.store().set(&scope, &live).await, Conflict, "set with fence 1 after clear with 2 of a new scope");
        Ok(())
    }

    pub(super) async fn clear_with_a_stale_fence_is_refused(f: &F) -> Verdict {
        let scope = scope(f);
        let live = route(f.names().deployment(), 5, "live");
        f.store().set(&scope, &live).await?;
        for fence in [0, 4, 5] {
            let cleared = f.store().clear(&scope, Fence::from_u64(fence)).await;
            ensure_err!(cleared, Conflict, "clear with fence {fence} after set with 5");
        }
        ensure_eq!(read(f, &scope, Some(&live)).await?, Some(live), "route after the refused clears");
        Ok(())
    }

    pub(super) async fn the_fence_never_falls(f: &F) -> Verdict {
        let scope = scope(f);
        let mut highest = Fence::ZERO;
        for (n, fence) in [3, 1, 4, 1, 5, 9, 2, 6].map(Fence::from_u64).into_iter().enumerate() {
            let done = if n % 2 == 0 {
                f.store().set(&scope, &route(f.names().deployment(), fence.as_u64(), "x")).await
            } else {
                f.store().clear(&scope, fence).await
            };
            ensure_eq!(done.is_ok(), fence > highest, "whether fence {fence} is admitted after {highest}");
            highest = highest.max(fence);
            ensure_eq!(f.store().fence(&scope).await?, highest, "fence after {fence} was tried");
        }
        Ok(())
    }

    pub(super) async fn standing_is_route_and_fence(f: &F) -> Verdict {
        let scope = scope(f);
        ensure_eq!(f.store().standing(&scope).await?, (None, Fence::ZERO), "standing of a new scope");
        let live = route(f.names().deployment(), 4, "live");
        f.store().set(&scope, &live).await?;
        ensure_eq!(read(f, &scope, Some(&live)).await?, Some(live.clone()), "route after set");
        ensure_eq!(f.store().standing(&scope).await?, (Some(live), Fence::from_u64(4)), "standing after set");
        f.store().clear(&scope, Fence::from_u64(9)).await?;
        ensure_eq!(read(f, &scope, None).await?, None, "route after clear");
        ensure_eq!(f.store().standing(&scope).await?, (None, Fence::from_u64(9)), "standing after clear");
        Ok(())
    }

    pub(super) async fn scopes_know_nothing_of_each_other(f: &F) -> Verdict {
        let scope = scope(f);
        let live = route(f.names().deployment(), 9, "live");
        f.store().set(&scope, &live).await?;
        for other in f.names().beside(&scope) {
            ensure_eq!(f.store().get(&other).await?, None, "route of {other} after a set in {scope}");
            ensure_eq!(f.store().fence(&other).await?, Fence::ZERO, "fence of {other} after a set in {scope}");
            f.store().set(&other, &route(f.names().deployment(), 1, "other")).await?;
            f.store().clear(&other, Fence::from_u64(20)).await?;
        }
        ensure_eq!(read(f, &scope, Some(&live)).await?, Some(live), "route of {scope} after changes in others");
        ensure_eq!(f.store().fence(&scope).await?, Fence::from_u64(9), "fence of {scope} after changes in others");
        Ok(())
    }

    pub(super) async fn of_concurrent_sets_the_highest_fence_wins(f: &F) -> Verdict {
        for _ in 0..8 {
            let scope = scope(f);
            let sets = [5, 2, 8, 1, 7, 3, 6, 4].map(|fence| {
                let (store, scope) = (f.store().clone(), scope.clone());
                let route = route(f.names().deployment(), fence, "racing");
                async move { (route.clone(), store.set(&scope, &route).await) }
            });
            let mut highest = None;
            for (route, done) in race(sets).await? {
                let admitted = match done {
                    Ok(()) => true,
                    Err(e) if e.kind() == overskill_core::ErrorKind::Conflict => false,
                    Err(e) => return Err(e.into()),
                };
                if route.fence == Fence::from_u64(8) {
                    ensure!(admitted, "the set with the highest fence was refused");
                    highest = Some(route);
                }
            }
            ensure_eq!(read(f, &scope, highest.as_ref()).await?, highest, "route after concurrent sets");
        }
        Ok(())
    }

    pub(super) async fn of_concurrent_sets_under_one_fence_one_wins(f: &F) -> Verdict {
        for _ in 0..8 {
            let scope = scope(f);
            let sets = [0; 6].map(|_| {
                let (store, scope) = (f.store().clone(), scope.clone());
                let route = route(f.names().deployment(), 1, "racing");
                async move { store.set(&scope, &route).await.map(|()| route) }
            });
            let done = race(sets).await?;
            let won: Vec<_> = done.iter().flatten().collect();
            ensure_eq!(won.len(), 1, "how many of 6 deployments won fence 1");
            for refused in done.iter().filter(|d| d.is_err()) {
                ensure_err!(refused.as_ref(), Conflict, "a set that lost the race");
            }
            ensure_eq!(read(f, &scope, Some(won[0])).await?.as_ref(), Some(won[0]), "route after the race");
        }
        Ok(())
    }

    pub(super) async fn routes_survive_a_restart(f: &F) -> Verdict {
        let (set, cleared) = (scope(f), scope(f));
        let live = route(f.names().deployment(), 6, "live");
        f.store().set(&set, &live).await?;
        f.store().clear(&cleared, Fence::from_u64(3)).await?;
        let again = f.reopened().await?;
        let staleness = again.staleness();
        let got = settle(staleness, async || Ok(again.get(&set).await?), |got| got.as_ref() == Some(&live)).await?;
        ensure_eq!(got, Some(live.clone()), "route after a restart");
        ensure_eq!(again.fence(&cleared).await?, Fence::from_u64(3), "fence of a cleared scope after a restart");
        let mut stale = live;
        stale.fence = Fence::from_u64(2);
        ensure_err!(again.set(&cleared, &stale).await, Conflict, "set with fence 2 after clear with 3 and a restart");
        Ok(())
    }

    pub(super) async fn a_dropped_call_leaves_all_or_nothing(f: &F) -> Verdict {
        for polls in 1..=8 {
            let scope = scope(f);
            let before = route(f.names().deployment(), 1, "before");
            let dropped = route(f.names().deployment(), 2, "dropped");
            f.store().set(&scope, &before).await?;
            crate::poll_times(polls, f.store().set(&scope, &dropped)).await;
            let either = |seen: &Option<Route>| [&before, &dropped].into_iter().any(|one| seen.as_ref() == Some(one));
            let seen = settle(f.store().staleness(), async || Ok(f.store().get(&scope).await?), either).await?;
            ensure!(either(&seen), "route after a dropped set: {seen:?}");
            let next = route(f.names().deployment(), 3, "next");
            f.store().set(&scope, &next).await?;
            ensure_eq!(read(f, &scope, Some(&next)).await?, Some(next), "route set after a dropped set");
        }
        Ok(())
    }

    pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
        let scope = scope(f);
        let boxed: Box<dyn RouteTable> = Box::new(f.store().clone());
        let wrapped: Arc<dyn RouteTable> = Arc::new(Around::with_policy(boxed, crate::PassThrough));
        let live = route(f.names().deployment(), 2, "live");
        wrapped.set(&scope, &live).await?;
        ensure_eq!(read(f, &scope, Some(&live)).await?, Some(live.clone()), "route that was set through a wrapper");
        crate::outlast(f.store().staleness()).await;
        ensure_eq!(wrapped.get(&scope).await?, Some(live), "route that was read through a wrapper");
        ensure_eq!(wrapped.staleness(), f.store().staleness(), "staleness that was asked through a wrapper");
        let stale = wrapped.clear(&scope, Fence::from_u64(1)).await;
        ensure_err!(stale, Conflict, "clear with a stale fence through a wrapper");
        wrapped.clear(&scope, Fence::from_u64(3)).await?;
        ensure_eq!(f.store().fence(&scope).await?, Fence::from_u64(3), "fence after clear through a wrapper");
        Ok(())
    }

    pub(super) async fn it_is_ready(f: &F) -> Verdict {
        let readiness = f.store().check().await?;
        ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
        ensure!(!readiness.backend().is_empty(), "the backend has no name");
        Ok(())
    }
}
