//! Cases of leases and fences.

use super::{
    DeploymentStoreFixture as F,
    shared::{D, begin, events, requested, started, take},
};
use crate::{
    Verdict, race,
    suite::{ensure, ensure_eq, ensure_err},
    suites::base::{base, secs},
};
use overskill_core::{
    Around, Commit, DeployLease, DeploymentEvent as E, DeploymentStore, Fence, LeaseChange, Result, Scope, Timestamp,
    WorkerName,
};
use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

/// Commits a change of the lease that has to give one.
async fn leased(store: &Arc<dyn DeploymentStore>, commit: Commit) -> Result<DeployLease, crate::Stop> {
    let committed = store.commit(&commit).await?;
    committed.lease.ok_or_else(|| crate::Broken::new("a commit that took or kept the lease gave none").into())
}

/// A new deployment, requested in a scope where there may be others.
async fn another(f: &F, scope: &Scope, now: Timestamp) -> Result<D, crate::Stop> {
    let newest = f.store().list(scope, None, NonZeroU32::MIN).await?.items.into_iter().next();
    let after = newest.map_or(now, |newest| newest.id.made_at().plus(Duration::from_millis(1)));
    let d = D::of(f, scope.clone(), now.max(after));
    f.store().commit(&d.commit(0, [requested()], now)).await?;
    Ok(d)
}

pub(super) async fn a_free_scope_is_leased(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    ensure_eq!(f.store().lease(&d.scope, now).await?, None, "lease of a new scope");
    let lease = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    ensure!(lease.fence > Fence::ZERO, "the fence is zero");
    let holder = WorkerName::parse("node-1")?;
    let want = DeployLease { fence: lease.fence, deployment: d.id, holder, expires_at: now.plus(secs(30)) };
    ensure_eq!(lease, want, "the lease");
    let read = f.store().lease(&d.scope, now.plus(secs(29))).await?;
    ensure_eq!(read, Some(want), "the lease as it is read");
    ensure_eq!(f.store().lease(&d.scope, now.plus(secs(31))).await?, None, "the lease after it expired");
    Ok(())
}

pub(super) async fn a_held_lease_is_refused_to_others(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let other = another(f, &d.scope, now).await?;
    let lease = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    for holder in ["node-1", "node-2"] {
        let take = other.commit(1, [started()], now.plus(secs(29))).lease(take(holder, secs(30)));
        ensure_err!(f.store().commit(&take).await, Conflict, "a lease that {holder} takes for another deployment");
    }
    ensure_eq!(events(f.store(), &other).await?, vec![requested()], "events of the refused commit");
    let read = f.store().lease(&d.scope, now).await?;
    ensure_eq!(read, Some(lease), "the lease after the refused commits");
    Ok(())
}

pub(super) async fn its_own_lease_is_taken_again_with_a_higher_fence(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let first = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    // Another driver of the same deployment is another holder: two must not drive it at once.
    let stolen = d.commit(1, [started()], now).lease(take("node-2", secs(60)));
    ensure_err!(f.store().commit(&stolen).await, Conflict, "another holder's take of the same deployment's lease");
    ensure_eq!(events(f.store(), &d).await?, vec![requested()], "events after the refused take");
    let second = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(60)))).await?;
    ensure!(second.fence > first.fence, "the fence went from {} to {}", first.fence, second.fence);
    ensure_eq!(second.expires_at, now.plus(secs(60)), "when the second lease expires");
    let keep = d.commit(1, [], now).lease(LeaseChange::Keep { fence: first.fence, ttl: secs(90) });
    ensure_err!(f.store().commit(&keep).await, Conflict, "keeping the lease under the first fence");
    ensure_eq!(f.store().lease(&d.scope, now).await?, Some(second), "the lease");
    Ok(())
}

pub(super) async fn an_expired_lease_is_taken_with_a_higher_fence(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let other = another(f, &d.scope, now).await?;
    let first = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    let later = now.plus(secs(31));
    let second = leased(f.store(), other.commit(1, [], later).lease(take("node-2", secs(30)))).await?;
    ensure!(second.fence > first.fence, "the fence went from {} to {}", first.fence, second.fence);
    ensure_eq!(second.deployment, other.id, "whose the lease is");
    let late = d.commit(1, [E::Released], later).lease(LeaseChange::Release { fence: first.fence });
    ensure_err!(f.store().commit(&late).await, Conflict, "releasing the lease under the first fence");
    ensure_eq!(f.store().lease(&d.scope, later).await?, Some(second), "the lease");
    Ok(())
}

pub(super) async fn a_fence_is_above_what_was_seen_elsewhere(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let mut last = Fence::ZERO;
    for above in [41, 7, 0, 1 << 40, 3].map(Fence::from_u64) {
        let change = LeaseChange::Take { holder: WorkerName::parse("node-1")?, ttl: secs(30), above };
        let lease = leased(f.store(), d.commit(1, [], now).lease(change)).await?;
        ensure!(lease.fence > above, "the fence {} is not above {above}", lease.fence);
        ensure!(lease.fence > last, "the fence {} is not above the last, {last}", lease.fence);
        last = lease.fence;
    }
    Ok(())
}

pub(super) async fn keeping_a_lease_renews_it(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let other = another(f, &d.scope, now).await?;
    let lease = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    let later = now.plus(secs(20));
    let keep = LeaseChange::Keep { fence: lease.fence, ttl: secs(40) };
    let kept = leased(f.store(), d.commit(1, [started()], later).lease(keep)).await?;
    let want = DeployLease { expires_at: later.plus(secs(40)), ..lease };
    ensure_eq!(kept, want, "the lease after it was kept");
    let take = other.commit(1, [], now.plus(secs(59))).lease(take("node-2", secs(30)));
    ensure_err!(f.store().commit(&take).await, Conflict, "taking a lease that was kept");
    ensure_eq!(f.store().lease(&d.scope, now.plus(secs(59))).await?, Some(want), "the lease after the first expiry");
    Ok(())
}

pub(super) async fn an_expired_lease_is_not_kept(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let fence = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?.fence;
    let later = now.plus(secs(31));
    for change in [LeaseChange::Keep { fence, ttl: secs(30) }, LeaseChange::Release { fence }] {
        let late = d.commit(1, [started()], later).lease(change.clone());
        ensure_err!(f.store().commit(&late).await, Conflict, "{change:?} after the lease expired");
    }
    ensure_eq!(events(f.store(), &d).await?, vec![requested()], "events after the refused commits");
    Ok(())
}

pub(super) async fn a_released_lease_is_free_and_fences_grow(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let other = another(f, &d.scope, now).await?;
    let mut last = Fence::ZERO;
    for (d, holder) in [(&d, "node-1"), (&other, "node-2"), (&d, "node-1")] {
        let lease = leased(f.store(), d.commit(1, [], now).lease(take(holder, secs(30)))).await?;
        ensure!(lease.fence > last, "the fence {} is not above the last, {last}", lease.fence);
        last = lease.fence;
        let release = d.commit(1, [], now).lease(LeaseChange::Release { fence: lease.fence });
        ensure_eq!(f.store().commit(&release).await?.lease, None, "the lease that a release gives");
        ensure_eq!(f.store().lease(&d.scope, now).await?, None, "the lease after it was released");
        let again = f.store().commit(&release).await;
        ensure_err!(again, Conflict, "a second release");
    }
    Ok(())
}

pub(super) async fn a_stale_fence_writes_nothing(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let stale = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?.fence;
    let lease = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    let never = lease.fence.next();
    for fence in [stale, never, Fence::ZERO] {
        for change in [LeaseChange::Keep { fence, ttl: secs(90) }, LeaseChange::Release { fence }] {
            let commit = d.commit(1, [started(), E::Released], now).lease(change.clone());
            let done = f.store().commit(&commit).await;
            ensure_err!(done, Conflict, "{change:?} while the fence is {}", lease.fence);
            let read = events(f.store(), &d).await?;
            ensure_eq!(read, vec![requested()], "events after the refused commit {change:?}");
        }
    }
    ensure_eq!(f.store().lease(&d.scope, now).await?, Some(lease), "the lease after the refused commits");
    Ok(())
}

pub(super) async fn events_and_lease_happen_together(f: &F) -> Verdict {
    let now = base(f.names());
    let d = D::new(f, now);
    let first = [requested(), started()];
    let committed = f.store().commit(&d.commit(0, first, now).lease(take("node-1", secs(30)))).await?;
    ensure_eq!(committed.seq, 2, "how many events there are");
    let lease = committed.lease.ok_or_else(|| crate::Broken::new("the commit that took the lease gave none"))?;
    ensure_eq!(f.store().lease(&d.scope, now).await?, Some(lease.clone()), "the lease after the first commit");
    let release = LeaseChange::Release { fence: lease.fence };
    f.store().commit(&d.commit(2, [E::Released], now).lease(release)).await?;
    let want = vec![requested(), started(), E::Released];
    ensure_eq!(events(f.store(), &d).await?, want, "events after both commits");
    ensure_eq!(f.store().lease(&d.scope, now).await?, None, "the lease after the second commit");
    Ok(())
}

pub(super) async fn a_lease_is_its_deployments_alone(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let beside = another(f, &d.scope, now).await?;
    let (elsewhere, _) = begin(f).await?;
    let lease = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    let fence = lease.fence;
    for thief in [&beside, &elsewhere] {
        for change in [LeaseChange::Keep { fence, ttl: secs(90) }, LeaseChange::Release { fence }] {
            let commit = thief.commit(1, [started()], now).lease(change.clone());
            ensure_err!(f.store().commit(&commit).await, Conflict, "{change:?} by another deployment");
            let read = events(f.store(), thief).await?;
            ensure_eq!(read, vec![requested()], "events after the refused commit {change:?}");
        }
    }
    ensure_eq!(f.store().lease(&d.scope, now).await?, Some(lease), "the lease after the refused commits");
    ensure_eq!(f.store().lease(&elsewhere.scope, now).await?, None, "the lease of the other scope");
    Ok(())
}

pub(super) async fn a_lease_changes_without_events(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let committed = f.store().commit(&d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    ensure_eq!(committed.seq, 1, "how many events there are after the lease was taken");
    let fence = committed.lease.map_or(Fence::ZERO, |l| l.fence);
    let keep = LeaseChange::Keep { fence, ttl: secs(60) };
    ensure_eq!(f.store().commit(&d.commit(1, [], now).lease(keep)).await?.seq, 1, "the same, after it was kept");
    let release = LeaseChange::Release { fence };
    ensure_eq!(f.store().commit(&d.commit(1, [], now).lease(release)).await?.seq, 1, "the same, after its release");
    ensure_eq!(events(f.store(), &d).await?, vec![requested()], "events");
    Ok(())
}

pub(super) async fn a_commit_without_lease_needs_none(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let lease = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    let other = another(f, &d.scope, now).await?;
    let committed = f.store().commit(&other.commit(1, [started()], now)).await?;
    ensure_eq!((committed.seq, committed.lease), (2, None), "what the commit led to");
    ensure_eq!(f.store().lease(&d.scope, now).await?, Some(lease), "the lease of the other deployment");
    Ok(())
}

pub(super) async fn of_concurrent_takes_one_wins(f: &F) -> Verdict {
    let now = base(f.names());
    let scope = D::new(f, now).scope;
    let mut fences = BTreeSet::new();
    let mut rivals = Vec::new();
    for _ in 0..12 {
        rivals.push(another(f, &scope, now).await?);
    }
    for round in 1..=6 {
        let takes = rivals.iter().map(|d| {
            let (store, d) = (f.store().clone(), d.clone());
            let commit = d.commit(1, [], now).lease(take("node-1", secs(30)));
            async move {
                let done = store.commit(&commit).await;
                (d, done)
            }
        });
        let mut won = Vec::new();
        for (d, done) in race(takes).await? {
            match done {
                Ok(committed) => won.extend(committed.lease.map(|l| (d, l))),
                refused => drop(ensure_err!(refused, Conflict, "a take that lost the race")),
            }
        }
        ensure_eq!(won.len(), 1, "how many of 12 deployments took the lease in round {round}");
        for (d, lease) in won {
            ensure!(fences.last() < Some(&lease.fence), "the fence {} is not above {fences:?}", lease.fence);
            fences.insert(lease.fence);
            ensure_eq!(f.store().lease(&scope, now).await?, Some(lease.clone()), "the lease after the race");
            f.store().commit(&d.commit(1, [], now).lease(LeaseChange::Release { fence: lease.fence })).await?;
        }
    }
    Ok(())
}

pub(super) async fn scopes_know_nothing_of_each_other(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let lease = leased(f.store(), d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    let limit = std::num::NonZeroU32::MAX;
    for scope in f.names().beside(&d.scope) {
        ensure_eq!(f.store().lease(&scope, now).await?, None, "lease of {scope}");
        ensure_eq!(f.store().list(&scope, None, limit).await?.items, vec![], "deployments of {scope}");
        let other = another(f, &scope, now).await?;
        leased(f.store(), other.commit(1, [], now).lease(take("node-2", secs(60)))).await?;
        let listed: Vec<_> = f.store().list(&scope, None, limit).await?.items.iter().map(|d| d.id).collect();
        ensure_eq!(listed, vec![other.id], "deployments of {scope} after one was requested");
    }
    ensure_eq!(f.store().lease(&d.scope, now).await?, Some(lease), "the lease after others were taken");
    let listed: Vec<_> = f.store().list(&d.scope, None, limit).await?.items.iter().map(|d| d.id).collect();
    ensure_eq!(listed, vec![d.id], "deployments after others were requested");
    Ok(())
}

pub(super) async fn records_survive_a_restart(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let commit = d.commit(1, [started()], now).lease(take("node-1", secs(30)));
    let lease = leased(f.store(), commit).await?;
    let (released, _) = begin(f).await?;
    let fence = leased(f.store(), released.commit(1, [], now).lease(take("node-1", secs(30)))).await?.fence;
    f.store().commit(&released.commit(1, [], now).lease(LeaseChange::Release { fence })).await?;
    let written = f.store().events(d.id).await?;

    let again = f.reopened().await?;
    ensure_eq!(again.events(d.id).await?, written, "events after a restart");
    ensure_eq!(again.scope_of(d.id).await?.as_ref(), Some(&d.scope), "scope after a restart");
    ensure_eq!(again.lease(&d.scope, now).await?, Some(lease), "the lease after a restart");
    let next = leased(&again, released.commit(1, [], now).lease(take("node-2", secs(30)))).await?;
    ensure!(next.fence > fence, "after a restart the fence went from {fence} to {}", next.fence);
    Ok(())
}

pub(super) async fn a_dropped_call_leaves_all_or_nothing(f: &F) -> Verdict {
    for polls in 0..8 {
        let (d, now) = begin(f).await?;
        let commit = d.commit(1, [started(), E::Released], now).lease(take("node-1", secs(30)));
        crate::poll_times(polls, f.store().commit(&commit)).await;
        // A store may go on with a commit that was dropped; a commit of ours comes before or after it.
        let next = d.commit(1, [started()], now).lease(take("node-2", secs(30)));
        let (done, node) = match f.store().commit(&next).await {
            Ok(_) => (2, "node-2"),
            Err(e) if e.kind() == overskill_core::ErrorKind::Conflict => (3, "node-1"),
            Err(e) => return Err(e.into()),
        };
        ensure_eq!(f.store().events(d.id).await?.len(), done, "how many events there are after a dropped commit");
        let holder = f.store().lease(&d.scope, now).await?.map(|l| l.holder.to_string());
        ensure_eq!(holder.as_deref(), Some(node), "who holds the lease after a dropped commit");
    }
    Ok(())
}

pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
    let boxed: Box<dyn DeploymentStore> = Box::new(f.store().clone());
    let wrapped: Arc<dyn DeploymentStore> = Arc::new(Around::with_policy(boxed, crate::PassThrough));
    let now = base(f.names());
    let d = D::new(f, now);
    let lease = leased(&wrapped, d.commit(0, [requested()], now).lease(take("node-1", secs(30)))).await?;
    ensure_eq!(wrapped.events(d.id).await?, f.store().events(d.id).await?, "events through a wrapper");
    ensure_eq!(wrapped.scope_of(d.id).await?.as_ref(), Some(&d.scope), "scope through a wrapper");
    ensure_eq!(wrapped.lease(&d.scope, now).await?, Some(lease), "lease through a wrapper");
    let limit = std::num::NonZeroU32::MIN;
    let listed = f.store().list(&d.scope, None, limit).await?;
    ensure_eq!(wrapped.list(&d.scope, None, limit).await?, listed, "list through a wrapper");
    let pending = wrapped.pending(now.plus(secs(31)), std::num::NonZeroU32::MAX).await?;
    ensure!(pending.iter().any(|p| p.id == d.id), "it is not pending through a wrapper");
    let again = wrapped.commit(&d.commit(0, [requested()], now)).await;
    ensure_err!(again, Conflict, "a commit that creates what is there, through a wrapper");
    Ok(())
}

pub(super) async fn it_is_ready(f: &F) -> Verdict {
    let readiness = f.store().check().await?;
    ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
    ensure!(!readiness.backend().is_empty(), "the backend has no name");
    Ok(())
}
