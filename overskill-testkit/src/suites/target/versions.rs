//! Cases of what is there: staging, activating, removing.

use super::{
    DeploymentTargetFixture as F,
    shared::{Site, request},
};
use crate::{
    Broken, Stop, Verdict,
    fixture::unseen,
    fixtures,
    suite::{ensure, ensure_eq, ensure_err},
};
use overskill_core::{
    AppFile, Around, Artifact, DeploymentTarget, ErrorKind, Fence, Fencing, Handle, Observed, ObservedState, Removal,
    Staged, TargetStatus,
};
use std::sync::Arc;

pub(super) async fn an_untouched_scope_has_nothing(f: &F) -> Verdict {
    let site = Site::new(f);
    let request = site.request(1);
    ensure_eq!(f.store().observe(&site.scope).await?, vec![], "what is in a new scope");
    site.ensure_status(&request, 1, TargetStatus::Absent, "status in a new scope").await?;
    site.ensure_serves(None, "in a new scope").await
}

pub(super) async fn staging_gives_no_traffic(f: &F) -> Verdict {
    let site = Site::new(f);
    let request = site.request(1);
    let staged = f.store().stage(&request).await?;
    ensure_eq!(staged.id, request.id(), "the deployment that was staged");
    site.ensure_status(&request, 1, TargetStatus::Absent, "status after staging").await?;
    site.ensure_nothing_live("after staging").await?;
    if f.store().info().stages_separately {
        let is_staged = |o: &Observed| o.id == Some(request.id()) && o.state == ObservedState::Staged;
        let seen = site.observe(|all| all.iter().any(is_staged)).await?;
        ensure!(seen.len() == 1 && is_staged(&seen[0]), "observed {seen:?}, wanted {} staged", request.id());
        ensure!(seen[0].digest.is_none_or(|d| d == request.digest()), "observed another digest: {seen:?}");
    }
    site.tidy().await
}

pub(super) async fn staging_is_safe_to_repeat(f: &F) -> Verdict {
    let site = Site::new(f);
    let request = site.request(1);
    let first = f.store().stage(&request).await?;
    for _ in 0..2 {
        ensure_eq!(f.store().stage(&request).await?.id, first.id, "the deployment that was staged again");
    }
    let seen = site.observe(|all| all.len() <= 1).await?;
    ensure!(seen.len() <= 1, "three times staged, one deployment is there as {seen:?}");
    site.activate(&request, &first, 1).await?;
    // Staging what is live changes nothing either.
    f.store().stage(&request).await?;
    site.ensure_live(&request, 1, "after it was staged again while live").await?;
    site.tidy().await
}

pub(super) async fn staging_leaves_what_is_live(f: &F) -> Verdict {
    let site = Site::new(f);
    let (live, next) = (site.request(1), site.request(2));
    site.deploy(&live, 1).await?;
    f.store().stage(&next).await?;
    site.ensure_live(&live, 1, "while another version is staged").await?;
    site.ensure_status(&next, 2, TargetStatus::Absent, "status of the version that is staged").await?;
    site.tidy().await
}

/// Makes `first` known to the target, then expects that `other`, of the same id, is refused.
async fn refuses(f: &F, site: Site<'_>, first: Artifact, other: Artifact, revision: u64, what: &str) -> Verdict {
    let live = site.request_of(first, 1);
    let other = request(live.id(), &site.scope, other, revision);
    let staged = f.store().stage(&live).await?;
    if f.store().info().stages_separately {
        ensure_err!(f.store().stage(&other).await, Conflict, "staging what is staged with {what}");
        ensure_err!(site.activate(&other, &staged, 1).await, Conflict, "activating what is staged with {what}");
    }
    site.activate(&live, &staged, 1).await?;
    ensure_err!(f.store().stage(&other).await, Conflict, "staging what is live with {what}");
    site.ensure_live(&live, 1, "after the refused calls").await?;
    site.tidy().await
}

pub(super) async fn an_id_names_one_artifact(f: &F) -> Verdict {
    let site = Site::new(f);
    refuses(f, site, fixtures::artifact(3, 1), fixtures::artifact(3, 2), 1, "another artifact").await
}

pub(super) async fn an_id_names_one_revision_of_the_variables(f: &F) -> Verdict {
    let site = Site::new(f);
    refuses(f, site, fixtures::artifact(3, 1), fixtures::artifact(3, 1), 2, "another revision of the variables").await
}

pub(super) async fn one_artifact_may_be_deployed_again(f: &F) -> Verdict {
    let site = Site::new(f);
    let first = site.request(1);
    let again = site.request_of(fixtures::artifact(3, 1), 2);
    ensure_eq!(first.digest(), again.digest(), "digests of the two requests");
    site.deploy(&first, 1).await?;
    site.deploy(&again, 2).await?;
    site.ensure_live(&again, 2, "after the same artifact was deployed again").await?;
    site.tidy().await
}

pub(super) async fn activation_lands(f: &F) -> Verdict {
    let site = Site::new(f);
    let request = site.request(1);
    let (_, handle) = site.deploy(&request, 7).await?;
    ensure!(!handle.reference.is_empty(), "the handle has no reference");
    site.ensure_live(&request, 7, "after the activation").await?;
    ensure_eq!(site.landed(&request, 7).await?, handle, "handle that status answers");
    site.tidy().await
}

pub(super) async fn activation_is_safe_to_repeat(f: &F) -> Verdict {
    let site = Site::new(f);
    let request = site.request(1);
    let (staged, handle) = site.deploy(&request, 3).await?;
    for _ in 0..2 {
        let again = site.activate(&request, &staged, 3).await?;
        ensure_eq!(again, handle, "handle of an activation that was repeated");
    }
    site.ensure_live(&request, 3, "after the activation was repeated").await?;
    site.tidy().await
}

pub(super) async fn a_version_that_is_gone_is_staged_again(f: &F) -> Verdict {
    let site = Site::new(f);
    let request = site.request(1);
    let staged = f.store().stage(&request).await?;
    f.store().remove(&site.scope, Removal::Only(request.id())).await?;
    match site.activate(&request, &staged, 1).await {
        Ok(_) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => {
            site.ensure_nothing_live("after a staged version that is gone was refused").await?;
            site.deploy(&request, 1).await?;
        }
        Err(e) => return Err(e.into()),
    }
    site.ensure_live(&request, 1, "after it was staged again").await?;
    // What proves the staging is text that may be older than the target's memory.
    let other = site.request(2);
    let unknown = Staged { id: other.id(), handle: Handle::new("no-such-version") };
    match site.activate(&other, &unknown, 2).await {
        Ok(_) => site.ensure_live(&other, 2, "after what was never staged was activated").await?,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            site.ensure_live(&request, 1, "after what was never staged was refused").await?;
        }
        Err(e) => return Err(e.into()),
    }
    site.tidy().await
}

pub(super) async fn removing_one_leaves_the_others(f: &F) -> Verdict {
    let site = Site::new(f);
    let (live, other) = (site.request(1), site.request(2));
    site.deploy(&live, 1).await?;
    f.store().stage(&other).await?;
    f.store().remove(&site.scope, Removal::Only(other.id())).await?;
    let gone = |all: &[Observed]| all.iter().all(|o| o.id != Some(other.id()));
    let seen = site.observe(gone).await?;
    ensure!(gone(&seen), "the removed version is still there: {seen:?}");
    site.ensure_live(&live, 1, "after another version was removed").await?;
    f.store().remove(&site.scope, Removal::Only(f.names().deployment())).await?;
    site.ensure_live(&live, 1, "after a deployment that was never there was removed").await?;
    site.tidy().await
}

pub(super) async fn removing_the_live_one_ends_it(f: &F) -> Verdict {
    let site = Site::new(f);
    let request = site.request(1);
    site.deploy(&request, 1).await?;
    f.store().remove(&site.scope, Removal::Only(request.id())).await?;
    site.ensure_nothing_live("after the live version was removed").await?;
    site.ensure_status(&request, 1, TargetStatus::Absent, "status after the removal").await?;
    site.tidy().await
}

pub(super) async fn removing_all_leaves_nothing(f: &F) -> Verdict {
    let site = Site::new(f);
    let (first, second, third) = (site.request(1), site.request(2), site.request(3));
    site.deploy(&first, 1).await?;
    site.deploy(&second, 2).await?;
    f.store().stage(&third).await?;
    f.store().remove(&site.scope, Removal::All).await?;
    let seen = site.observe(<[_]>::is_empty).await?;
    ensure_eq!(seen, vec![], "what is there after everything was removed");
    site.ensure_status(&second, 2, TargetStatus::Absent, "status after everything was removed").await?;
    site.ensure_serves(None, "after everything was removed").await
}

pub(super) async fn removing_nothing_is_fine(f: &F) -> Verdict {
    let site = Site::new(f);
    for _ in 0..2 {
        f.store().remove(&site.scope, Removal::All).await?;
        f.store().remove(&site.scope, Removal::Only(f.names().deployment())).await?;
    }
    ensure_eq!(f.store().observe(&site.scope).await?, vec![], "what is there after nothing was removed");
    Ok(())
}

pub(super) async fn a_removed_scope_can_be_deployed_to(f: &F) -> Verdict {
    let site = Site::new(f);
    let (first, second) = (site.request(1), site.request(2));
    site.deploy(&first, 1).await?;
    f.store().remove(&site.scope, Removal::All).await?;
    site.deploy(&second, 2).await?;
    site.ensure_live(&second, 2, "after a removed scope was deployed to").await?;
    site.tidy().await
}

pub(super) async fn what_is_there_survives_a_restart(f: &F) -> Verdict {
    let site = Site::new(f);
    let (old, live, next) = (site.request(1), site.request(2), site.request(3));
    let overtaken = f.store().stage(&old).await?;
    let (_, handle) = site.deploy(&live, 5).await?;
    let staged = f.store().stage(&next).await?;
    // Whoever goes on has what was written down, and nothing else.
    let read_back = |staged: &Staged| -> Result<Staged, Stop> {
        let text = serde_json::to_string(staged).and_then(|text| serde_json::from_str(&text));
        text.map_err(|e| Broken::new(format!("what proves the staging is no text: {e}")).into())
    };
    let (overtaken, staged) = (read_back(&overtaken)?, read_back(&staged)?);

    let again = site.reopened().await?;
    again.ensure_live(&live, 5, "after a restart").await?;
    ensure_eq!(again.landed(&live, 5).await?, handle, "handle that status answers after a restart");
    again.ensure_status(&old, 3, TargetStatus::Superseded, "status of a lower fence after a restart").await?;
    if f.store().info().fencing == Fencing::Enforced {
        let late = again.activate(&old, &overtaken, 3).await;
        ensure_err!(late, Conflict, "activating under fence 3 after 5 and a restart");
        again.ensure_live(&live, 5, "after the refused activation").await?;
    }
    let other = request(live.id(), &site.scope, fixtures::artifact(3, 9), 1);
    ensure_err!(again.target.stage(&other).await, Conflict, "staging what is live with another artifact");
    match again.activate(&next, &staged, 6).await {
        Ok(_) => {}
        // It may have forgotten what served nobody.
        Err(e) if e.kind() == ErrorKind::NotFound => drop(again.deploy(&next, 6).await?),
        Err(e) => return Err(e.into()),
    }
    again.ensure_live(&next, 6, "after what was staged before a restart was activated").await?;
    again.tidy().await
}

pub(super) async fn it_can_be_seen_from_outside(f: &F) -> Verdict {
    if f.besides().serving.is_none() {
        return Err(unseen("the fixture does not say how assets are read; say how with `TargetOutside::serving`"));
    }
    let site = Site::new(f);
    site.ensure_serves(None, "in a new scope").await?;
    for (seed, fence) in [(1, 1), (2, 2)] {
        let request = site.request(seed);
        site.deploy(&request, fence).await?;
        site.ensure_serves(Some(request.artifact()), &format!("after version {seed} was activated")).await?;
    }
    site.tidy().await
}

pub(super) async fn scopes_know_nothing_of_each_other(f: &F) -> Verdict {
    let site = Site::new(f);
    let live = site.request(1);
    site.deploy(&live, 9).await?;
    for scope in f.names().beside(&site.scope) {
        let other = Site::of(f, scope);
        ensure_eq!(f.store().observe(&other.scope).await?, vec![], "what is in {}", other.scope);
        other.ensure_status(&live, 9, TargetStatus::Absent, &format!("status in {}", other.scope)).await?;
        let request = other.request(2);
        other.deploy(&request, 1).await?;
        other.ensure_live(&request, 1, "in a scope of its own").await?;
        site.ensure_live(&live, 9, "after another scope was deployed to").await?;
        other.tidy().await?;
    }
    site.ensure_live(&live, 9, "after other scopes were removed").await?;
    site.tidy().await
}

/// Largest artifact that a case makes to see a limit.
const LARGEST_BYTES: u64 = 128 * 1024 * 1024;
/// Most files that a case makes to see a limit.
const MOST_FILES: u32 = 30_000;

pub(super) async fn what_is_too_large_is_refused_at_once(f: &F) -> Verdict {
    let info = f.store().info();
    let mut over = Vec::new();
    if info.max_artifact_bytes < LARGEST_BYTES {
        let bytes = usize::try_from(info.max_artifact_bytes).unwrap_or(usize::MAX);
        let page = (fixtures::path("index.html"), AppFile::new("<h1>large</h1>"));
        over.push(Artifact::of_assets([page, (fixtures::path("big.bin"), fixtures::noise(bytes, 1).into())])?);
    }
    if info.max_artifact_files < MOST_FILES {
        over.push(fixtures::artifact(info.max_artifact_files as usize + 1, 1));
    }
    if over.is_empty() {
        return Err(Stop::NotApplicable("the target declares no limit that a test could reach"));
    }
    for artifact in over {
        let site = Site::new(f);
        let (bytes, files) = (artifact.size_bytes(), artifact.files());
        let request = site.request_of(artifact, 1);
        let e = ensure_err!(f.store().stage(&request).await, LimitExceeded, "staging {bytes} bytes in {files} files");
        ensure_eq!(e.effect(), overskill_core::Effect::None, "effect of the refusal");
        ensure_eq!(f.store().observe(&site.scope).await?, vec![], "what is there after the refusal");
    }
    Ok(())
}

pub(super) async fn servers_run_as_declared(f: &F) -> Verdict {
    let site = Site::new(f);
    let request = site.request_of(fixtures::artifact_with_server(3, 1), 1);
    if f.store().info().runs_servers {
        site.deploy(&request, 1).await?;
        site.landed(&request, 1).await?;
    } else {
        ensure_err!(f.store().stage(&request).await, Unsupported, "staging an app with a server");
        ensure_eq!(f.store().observe(&site.scope).await?, vec![], "what is there after the refusal");
    }
    site.tidy().await
}

pub(super) async fn a_dropped_call_leaves_all_or_nothing(f: &F) -> Verdict {
    for polls in 0..5 {
        let site = Site::new(f);
        let (first, second) = (site.request(1), site.request(2));
        site.deploy(&first, 1).await?;
        crate::poll_times(polls, f.store().stage(&second)).await;
        site.ensure_live(&first, 1, "after a dropped stage").await?;
        let staged = f.store().stage(&second).await?;
        crate::poll_times(polls, site.activate(&second, &staged, 2)).await;
        let status = site.status(&second, 2).await?;
        ensure!(status != TargetStatus::Superseded, "a dropped activation is superseded by nothing");
        site.activate(&second, &staged, 2).await?;
        site.ensure_live(&second, 2, "after a dropped activation was repeated").await?;
        crate::poll_times(polls, f.store().remove(&site.scope, Removal::All)).await;
        f.store().remove(&site.scope, Removal::All).await?;
        ensure_eq!(site.observe(<[_]>::is_empty).await?, vec![], "what is there after a dropped remove was repeated");
    }
    Ok(())
}

pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
    let site = Site::new(f);
    let boxed: Box<dyn DeploymentTarget> = Box::new(f.store().clone());
    let wrapped: Arc<dyn DeploymentTarget> = Arc::new(Around::with_policy(boxed, crate::PassThrough));
    ensure_eq!(wrapped.info(), f.store().info(), "info through a wrapper");
    let request = site.request(1);
    let fence = Fence::from_u64(4);
    let staged = wrapped.stage(&request).await?;
    let handle = wrapped.activate(&request, &staged, fence).await?;
    site.ensure_live(&request, 4, "after it was activated through a wrapper").await?;
    crate::outlast(site.settles()).await;
    let status = wrapped.status(&site.scope, request.id(), fence).await?;
    ensure_eq!(status, TargetStatus::Landed(handle), "status through a wrapper");
    let seen = f.store().observe(&site.scope).await?;
    ensure_eq!(wrapped.observe(&site.scope).await?, seen, "what is observed through a wrapper");
    wrapped.remove(&site.scope, Removal::All).await?;
    ensure_eq!(site.observe(<[_]>::is_empty).await?, vec![], "what is there after a remove through a wrapper");
    Ok(())
}

pub(super) async fn it_is_ready(f: &F) -> Verdict {
    let readiness = f.store().check().await?;
    ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
    ensure!(!readiness.backend().is_empty(), "the backend has no name");
    ensure!(!f.store().info().platform.is_empty(), "the target names no platform");
    Ok(())
}
