//! Cases of fences: who is live when several want to be.

use super::{DeploymentTargetFixture as F, shared::Site};
use crate::{
    Stop, Verdict, race,
    suite::{ensure, ensure_err},
};
use overskill_core::{ErrorKind, Fence, Fencing, Observed, ObservedState, Removal, TargetStatus};

/// The case does not apply to a target that declares that it takes any fence.
fn enforced(f: &F) -> Result<(), Stop> {
    match f.store().info().fencing {
        Fencing::Enforced => Ok(()),
        Fencing::Observed => Err(Stop::NotApplicable("the target declares that it takes any fence")),
    }
}

pub(super) async fn a_higher_fence_takes_over(f: &F) -> Verdict {
    let site = Site::new(f);
    for (seed, fence) in [(1, 1), (2, 2), (3, 40), (4, 1 << 40)] {
        let request = site.request(seed);
        site.deploy(&request, fence).await?;
        site.ensure_live(&request, fence, &format!("after the activation under fence {fence}")).await?;
    }
    site.tidy().await
}

pub(super) async fn an_overtaken_activation_is_told(f: &F) -> Verdict {
    let site = Site::new(f);
    let (first, second) = (site.request(1), site.request(2));
    site.deploy(&first, 1).await?;
    site.deploy(&second, 5).await?;
    let never = site.request(3);
    site.ensure_status(&first, 1, TargetStatus::Superseded, "status of what was overtaken").await?;
    site.ensure_status(&never, 4, TargetStatus::Superseded, "status of a lower fence that never came").await?;
    site.ensure_status(&never, 6, TargetStatus::Absent, "status of a higher fence that never came").await?;
    site.ensure_status(&first, 6, TargetStatus::Absent, "status of what was overtaken, under a new fence").await?;
    site.ensure_live(&second, 5, "after status was asked").await?;
    site.tidy().await
}

pub(super) async fn a_lower_fence_is_refused(f: &F) -> Verdict {
    enforced(f)?;
    let site = Site::new(f);
    let (old, new) = (site.request(1), site.request(2));
    let staged = f.store().stage(&old).await?;
    let (newest, _) = site.deploy(&new, 5).await?;
    for fence in [1, 4] {
        ensure_err!(site.activate(&old, &staged, fence).await, Conflict, "activating under fence {fence} after 5");
        let own = site.activate(&new, &newest, fence).await;
        ensure_err!(own, Conflict, "activating what is live under fence {fence} after 5");
        site.ensure_live(&new, 5, "after the refused activations").await?;
    }
    site.tidy().await
}

pub(super) async fn one_fence_is_for_one_deployment(f: &F) -> Verdict {
    enforced(f)?;
    let site = Site::new(f);
    let (live, other) = (site.request(1), site.request(2));
    site.deploy(&live, 5).await?;
    let staged = f.store().stage(&other).await?;
    ensure_err!(site.activate(&other, &staged, 5).await, Conflict, "activating another deployment under fence 5");
    site.ensure_live(&live, 5, "after the refused activation").await?;
    site.tidy().await
}

pub(super) async fn a_removed_scope_remembers_its_fence(f: &F) -> Verdict {
    enforced(f)?;
    let site = Site::new(f);
    let (first, late, next) = (site.request(1), site.request(2), site.request(3));
    site.deploy(&first, 5).await?;
    f.store().remove(&site.scope, Removal::All).await?;
    let staged = f.store().stage(&late).await?;
    for fence in [1, 4, 5] {
        let refused = site.activate(&late, &staged, fence).await;
        ensure_err!(refused, Conflict, "activating under fence {fence} after 5 and the removal of everything");
    }
    site.ensure_nothing_live("after the refused activations").await?;
    site.deploy(&next, 6).await?;
    site.ensure_live(&next, 6, "after a removed scope was deployed to under a higher fence").await?;
    site.tidy().await
}

pub(super) async fn of_concurrent_activations_the_highest_wins(f: &F) -> Verdict {
    enforced(f)?;
    for round in 0..4 {
        let site = Site::new(f);
        let mut rivals = Vec::new();
        for fence in [3, 6, 1, 5, 2, 4] {
            let request = site.request(fence + 10 * round);
            rivals.push((f.store().stage(&request).await?, request, fence));
        }
        let activations = rivals.into_iter().map(|(staged, request, fence)| {
            let target = f.store().clone();
            async move {
                let done = target.activate(&request, &staged, Fence::from_u64(fence)).await;
                (request, fence, done)
            }
        });
        for (request, fence, done) in race(activations).await? {
            match done {
                Ok(_) if fence == 6 => site.ensure_live(&request, 6, "after concurrent activations").await?,
                Err(e) if fence == 6 || e.kind() != ErrorKind::Conflict => return Err(e.into()),
                Ok(_) | Err(_) => {}
            }
        }
        site.tidy().await?;
    }
    Ok(())
}

pub(super) async fn what_was_overtaken_is_restored_by_activating_again(f: &F) -> Verdict {
    let site = Site::new(f);
    let (old, new) = (site.request(1), site.request(2));
    let staged = f.store().stage(&old).await?;
    let (newest, _) = site.deploy(&new, 5).await?;
    match site.activate(&old, &staged, 3).await {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::Conflict => {}
        Err(e) => return Err(e.into()),
    }
    if let Err(e) = site.activate(&new, &newest, 5).await {
        // It may keep one version only.
        ensure!(e.kind() == ErrorKind::NotFound, "activating the newest again failed: {e:?}");
        site.deploy(&new, 5).await?;
    }
    site.ensure_live(&new, 5, "after the newest was activated again").await?;
    site.tidy().await
}

pub(super) async fn the_previous_version_is_kept(f: &F) -> Verdict {
    if !f.store().info().keeps_previous {
        return Err(Stop::NotApplicable("the target declares that it does not keep the version before"));
    }
    let site = Site::new(f);
    let (first, second) = (site.request(1), site.request(2));
    let (staged, _) = site.deploy(&first, 1).await?;
    site.deploy(&second, 2).await?;
    let kept = |o: &Observed| o.id == Some(first.id()) && o.state == ObservedState::Previous;
    let seen = site.observe(|all| all.iter().any(kept)).await?;
    ensure!(seen.iter().any(kept), "observed {seen:?}, wanted {} as the version before", first.id());
    site.activate(&first, &staged, 3).await?;
    site.ensure_live(&first, 3, "after going back to the version before").await?;
    site.tidy().await
}
