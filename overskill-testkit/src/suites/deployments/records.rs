//! Cases of records: events, listings, what is pending.

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
    Actor, AttemptOutcome, BackendName, DeploymentEnd, DeploymentEvent as E, DeploymentId, DeploymentSource,
    DeploymentSummary, Digest, Doubt, EnvRevision, ErrorKind, Failback, Failure, Fence, Handle, Incarnation,
    LeaseChange, Limits, OperatorChoice, PublicUrl, Staged, Standing, StrategyConfig, StreamPosition, Timestamp,
    WorkerName,
};
use std::num::NonZeroU32;

fn limit(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("not zero")
}

fn failed(reason: &str) -> E {
    E::Ended { end: DeploymentEnd::Failed { reason: reason.into() } }
}

fn swept() -> E {
    E::Swept { target: BackendName::parse("kit-target").expect("a legal name") }
}

/// One event of every form, the end last.
fn every_event(other: DeploymentId, now: Timestamp) -> Result<Vec<E>, overskill_core::Error> {
    let target = BackendName::parse("kit-target")?;
    let text = "ünïcode, 'quotes', \"more\", a \\ and\na line\u{1f680}";
    let fence = Fence::from_u64(1 << 40);
    let handle = Handle::new(text).served_at(PublicUrl::parse("https://todo.example/a/b")?);
    let position = StreamPosition::new(Incarnation::from_u64(u64::MAX >> 1), 1 << 50);
    let mut limits = Limits::default();
    limits.cpu_ms = NonZeroU32::new(50);
    let mut strategy = StrategyConfig::default();
    (strategy.targets, strategy.failback) = (Some(vec![target.clone()]), Some(Failback::After(secs(1))));
    let failure = Failure { kind: ErrorKind::Timeout.to_string(), message: text.repeat(100), effect_unknown: true };
    Ok(vec![
        E::Requested {
            actor: Actor::Subject("ada@example".parse()?),
            source: DeploymentSource::Artifact { digest: Digest::of(b"artifact"), of: other },
            env: EnvRevision(position),
            limits,
            targets: vec![target.clone(), BackendName::parse("second")?],
            owner: Some("grace@example".parse()?),
            strategy: Some(Box::new(strategy)),
        },
        E::BuildStarted { position },
        E::Built { digest: Digest::of(b"built"), bytes: 1 << 40, files: 12 },
        E::Leased { above: fence, holder: WorkerName::parse("node-1")? },
        E::Staging { target: target.clone(), attempt: 3 },
        E::Staged { target: target.clone(), staged: Staged { id: other, handle: handle.clone() } },
        E::Activating { target: target.clone(), fence },
        E::Activated { target: target.clone(), handle: handle.clone() },
        E::Observed { target: target.clone(), adopted: true },
        E::AttemptFailed {
            target: target.clone(),
            operation: "activate".into(),
            outcome: AttemptOutcome::Unknown,
            failure,
        },
        E::Unsettled { target: target.clone() },
        E::Gated { target: target.clone(), gate: "live".into(), failure: Some(text.into()) },
        E::Gated { target: target.clone(), gate: "staged".into(), failure: None },
        E::Waiting { reason: text.into(), until: now.plus(secs(60)) },
        E::RollingBack { target: target.clone(), to: other, fence },
        E::GaveWay { target: target.clone(), to: other, fence },
        E::Leaving { target: target.clone() },
        E::Routing { target: target.clone(), fence },
        E::AwaitingOperator {
            about: Doubt::Unsettled(target.clone()),
            question: text.into(),
            choices: vec![OperatorChoice::Approve, OperatorChoice::Retry, OperatorChoice::Abort],
            deadline: now.plus(secs(3_600)),
        },
        E::OperatorAnswered { actor: Actor::System(text.into()), choice: OperatorChoice::Retry },
        E::Released,
        E::Ended { end: DeploymentEnd::Active { target, handle, fence } },
    ])
}

pub(super) async fn an_unknown_deployment_is_empty(f: &F) -> Verdict {
    let nobody = f.names().deployment();
    ensure_eq!(f.store().events(nobody).await?, vec![], "events of a deployment that does not exist");
    ensure_eq!(f.store().scope_of(nobody).await?, None, "scope of a deployment that does not exist");
    Ok(())
}

pub(super) async fn a_deployment_is_created_once(f: &F) -> Verdict {
    let now = base(f.names());
    let d = D::new(f, now);
    let committed = f.store().commit(&d.commit(0, [requested()], now)).await?;
    ensure_eq!((committed.seq, committed.lease), (1, None), "what the first commit led to");
    ensure_eq!(f.store().scope_of(d.id).await?.as_ref(), Some(&d.scope), "scope of the deployment");
    let again = f.store().commit(&d.commit(0, [requested(), started()], now)).await;
    ensure_err!(again, Conflict, "a commit that creates what is there");
    ensure_eq!(events(f.store(), &d).await?, vec![requested()], "events after the refused commit");
    Ok(())
}

pub(super) async fn events_come_back_as_they_were(f: &F) -> Verdict {
    let now = base(f.names());
    let d = D::new(f, now);
    let written = every_event(f.names().deployment(), now)?;
    for (n, event) in (0..).zip(&written) {
        let committed = f.store().commit(&d.commit(n, [event.clone()], now.plus(secs(n)))).await?;
        ensure_eq!(committed.seq, n + 1, "how many events there are after event {}", n + 1);
    }
    let read = f.store().events(d.id).await?;
    ensure_eq!(read.len(), written.len(), "how many events there are");
    for (n, (got, want)) in (0..).zip(read.into_iter().zip(written)) {
        ensure_eq!(got.seq, n + 1, "place of event {}", n + 1);
        ensure_eq!(got.at, now.plus(secs(n)), "time of event {}", n + 1);
        ensure_eq!(got.event, want, "event {}", n + 1);
    }
    Ok(())
}

pub(super) async fn the_events_of_one_commit_stay_together(f: &F) -> Verdict {
    let now = base(f.names());
    let d = D::new(f, now);
    let written = every_event(f.names().deployment(), now)?;
    let committed = f.store().commit(&d.commit(0, written.clone(), now)).await?;
    ensure_eq!(committed.seq, written.len() as u64, "how many events the commit wrote");
    let read = f.store().events(d.id).await?;
    ensure_eq!(read.iter().map(|e| e.seq).collect::<Vec<_>>(), (1..=committed.seq).collect::<Vec<_>>(), "places");
    ensure_eq!(read.into_iter().map(|e| e.event).collect::<Vec<_>>(), written, "events of one commit");
    Ok(())
}

pub(super) async fn a_wrong_count_of_events_is_refused(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    f.store().commit(&d.commit(1, [started()], now)).await?;
    for expected in [0, 1, 3, 100] {
        let wrong = d.commit(expected, [E::Released], now).lease(take("node-1", secs(30)));
        ensure_err!(f.store().commit(&wrong).await, Conflict, "a commit that expects {expected} of 2 events");
    }
    let want = vec![requested(), started()];
    ensure_eq!(events(f.store(), &d).await?, want, "events after the refused commits");
    ensure_eq!(f.store().lease(&d.scope, now).await?, None, "lease after the refused commits");
    let nobody = D::new(f, now);
    let commit = f.store().commit(&nobody.commit(1, [started()], now)).await;
    ensure_err!(commit, Conflict, "a commit that expects an event of a deployment that does not exist");
    ensure_eq!(f.store().scope_of(nobody.id).await?, None, "scope after the refused commit");
    Ok(())
}

pub(super) async fn an_ended_deployment_takes_only_sweeps(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    f.store().commit(&d.commit(1, [failed("no target")], now)).await?;
    for refused in [vec![started()], vec![swept(), E::Released], vec![failed("again")]] {
        let commit = f.store().commit(&d.commit(2, refused.clone(), now)).await;
        ensure_err!(commit, Conflict, "{refused:?} after the end");
    }
    ensure_eq!(f.store().events(d.id).await?.len(), 2, "how many events there are after the refused commits");
    let (both, _) = begin(f).await?;
    let commit = f.store().commit(&both.commit(1, [failed("no target"), started()], now)).await;
    ensure_err!(commit, Conflict, "an event after the end in one commit");
    ensure_eq!(events(f.store(), &both).await?, vec![requested()], "events after the refused commit");
    f.store().commit(&d.commit(2, [swept()], now)).await?;
    f.store().commit(&d.commit(3, [swept(), swept()], now)).await?;
    ensure_eq!(f.store().events(d.id).await?.len(), 5, "how many events there are after three sweeps");
    let commit = f.store().commit(&d.commit(5, [started()], now)).await;
    ensure_err!(commit, Conflict, "an event after the end and sweeps");
    Ok(())
}

pub(super) async fn a_deployment_stays_in_its_scope(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    for scope in f.names().beside(&d.scope) {
        let moved = D { scope: scope.clone(), ..d.clone() };
        let commit = moved.commit(1, [started()], now).lease(take("node-1", secs(30)));
        ensure_err!(f.store().commit(&commit).await, Conflict, "a commit of the deployment in {scope}");
        ensure_eq!(f.store().lease(&scope, now).await?, None, "lease of {scope} after the refused commit");
    }
    ensure_eq!(events(f.store(), &d).await?, vec![requested()], "events after the refused commits");
    ensure_eq!(f.store().scope_of(d.id).await?, Some(d.scope), "scope after the refused commits");
    Ok(())
}

pub(super) async fn of_concurrent_commits_one_wins(f: &F) -> Verdict {
    for _ in 0..4 {
        let (d, now) = begin(f).await?;
        let commits = (0..8).map(|n| {
            let store = f.store().clone();
            let commit = d.commit(1, [E::Built { digest: Digest::of(b"x"), bytes: n, files: 1 }], now);
            async move { store.commit(&commit).await.map(|_| commit.events) }
        });
        let done = race(commits).await?;
        let won: Vec<_> = done.iter().flatten().collect();
        ensure_eq!(won.len(), 1, "how many of 8 commits that expect 1 event succeeded");
        for refused in done.iter().filter(|d| d.is_err()) {
            ensure_err!(refused.as_ref(), Conflict, "a commit that lost the race");
        }
        ensure_eq!(&events(f.store(), &d).await?[1..], &won[0][..], "events after the race");
    }
    Ok(())
}

pub(super) async fn a_scope_lists_its_deployments_newest_first(f: &F) -> Verdict {
    let (first, now) = begin(f).await?;
    let mut want = vec![first.id];
    for n in 1..7 {
        let d = D::of(f, first.scope.clone(), now.plus(secs(n)));
        f.store().commit(&d.commit(0, [requested()], now.plus(secs(n)))).await?;
        want.insert(0, d.id);
    }
    for page in [1, 2, 3, 7, 50] {
        let (mut got, mut before) = (Vec::new(), None);
        for _ in 0..=want.len() {
            let listed = f.store().list(&first.scope, before, limit(page)).await?;
            ensure!(listed.items.len() <= page as usize, "a page of {page} has {} entries", listed.items.len());
            got.extend(listed.items.into_iter().map(|d| d.id));
            before = listed.next;
            if before.is_none() {
                break;
            }
        }
        ensure_eq!(got, want, "deployments in pages of {page}");
    }
    Ok(())
}

pub(super) async fn ids_of_a_scope_only_grow(f: &F) -> Verdict {
    let (first, now) = begin(f).await?;
    let late = D::of(f, first.scope.clone(), now.plus(secs(1)));
    let newer = D::of(f, first.scope.clone(), now.plus(secs(2)));
    f.store().commit(&newer.commit(0, [requested()], now)).await?;
    let refused = f.store().commit(&late.commit(0, [requested()], now.plus(secs(3)))).await;
    ensure_err!(refused, Conflict, "a new deployment that is older than another of its scope");
    ensure_eq!(f.store().scope_of(late.id).await?, None, "the scope of a refused deployment");
    ensure_eq!(events(f.store(), &late).await?, vec![], "the events of a refused deployment");
    let elsewhere = D { id: late.id, ..D::new(f, now) };
    f.store().commit(&elsewhere.commit(0, [requested()], now)).await?;
    f.store().commit(&first.commit(1, [started()], now)).await?;
    Ok(())
}

pub(super) async fn what_came_in_between_goes_first(f: &F) -> Verdict {
    let (first, now) = begin(f).await?;
    let between = D::of(f, first.scope.clone(), now.plus(secs(1)));
    f.store().commit(&between.commit(0, [requested()], now)).await?;
    let late = D::of(f, first.scope.clone(), now.plus(secs(2)));
    let refused = f.store().commit(&late.commit(0, [requested()], now).after(Some(first.id))).await;
    ensure_err!(refused, Conflict, "a new deployment after one that is the newest no more");
    ensure_eq!(f.store().scope_of(late.id).await?, None, "the scope of a refused deployment");
    let before = D::of(f, first.scope.clone(), now.minus(secs(1)));
    let refused = f.store().commit(&before.commit(0, [requested()], now).after(Some(between.id))).await;
    ensure_err!(refused, Conflict, "a new deployment after the newest, with an id before it");
    f.store().commit(&late.commit(0, [requested()], now).after(Some(between.id))).await?;
    let elsewhere = D::new(f, now);
    f.store().commit(&elsewhere.commit(0, [requested()], now).after(Some(between.id))).await?;
    Ok(())
}

pub(super) async fn standing_says_all_of_it(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    let unknown = D::of(f, d.scope.clone(), now);
    ensure_eq!(f.store().standing(unknown.id, now).await?, None, "standing of an unknown deployment");
    let newer = D::of(f, d.scope.clone(), now.plus(secs(1)));
    let elsewhere = D::new(f, now.plus(secs(2)));
    for it in [&newer, &elsewhere] {
        f.store().commit(&it.commit(0, [requested()], now)).await?;
    }
    let taken = f.store().commit(&d.commit(1, [started(), started()], now).lease(take("node-1", secs(30)))).await?;
    for it in [&d, &newer] {
        let held = f.store().standing(it.id, now.plus(secs(29))).await?;
        let events = f.store().events(it.id).await?;
        let want = Standing { scope: d.scope.clone(), events, lease: taken.lease.clone(), newest: newer.id };
        ensure_eq!(held, Some(want.clone()), "standing while the lease is held");
        let over = f.store().standing(it.id, now.plus(secs(31))).await?;
        ensure_eq!(over, Some(Standing { lease: None, ..want }), "standing after the lease expired");
    }
    Ok(())
}

pub(super) async fn a_summary_says_how_far_it_is(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    f.store().commit(&d.commit(1, [started()], now)).await?;
    let listed = f.store().list(&d.scope, None, limit(1)).await?.items;
    let want = DeploymentSummary { id: d.id, scope: d.scope.clone(), seq: 2, end: None };
    ensure_eq!(listed, vec![want], "summary of a deployment that has not ended");
    let end = DeploymentEnd::Superseded { by: Some(f.names().deployment()) };
    f.store().commit(&d.commit(2, [E::Ended { end: end.clone() }, swept()], now)).await?;
    let listed = f.store().list(&d.scope, None, limit(1)).await?.items;
    let want = DeploymentSummary { id: d.id, scope: d.scope.clone(), seq: 4, end: Some(end) };
    ensure_eq!(listed, vec![want], "summary of a deployment that ended and was swept");
    Ok(())
}

/// Those of `ours` that are pending, in the order of the listing.
async fn pending(f: &F, ours: &[&D], now: Timestamp) -> Result<Vec<DeploymentId>, crate::Stop> {
    let all = f.store().pending(now, limit(1_000_000)).await?;
    let ids = all.into_iter().map(|d| d.id);
    Ok(ids.filter(|id| ours.iter().any(|d| d.id == *id)).collect())
}

pub(super) async fn pending_is_what_nobody_drives(f: &F) -> Verdict {
    let (d, now) = begin(f).await?;
    ensure_eq!(pending(f, &[&d], now).await?, vec![d.id], "pending after the request");
    let committed = f.store().commit(&d.commit(1, [], now).lease(take("node-1", secs(30)))).await?;
    ensure_eq!(pending(f, &[&d], now.plus(secs(29))).await?, vec![], "pending while it is driven");
    let other = D::of(f, d.scope.clone(), now.plus(secs(1)));
    f.store().commit(&other.commit(0, [requested()], now)).await?;
    ensure_eq!(
        pending(f, &[&other], now.plus(secs(29))).await?,
        vec![],
        "pending while another of its scope is driven"
    );
    let later = now.plus(secs(31));
    ensure_eq!(pending(f, &[&other], later).await?, vec![other.id], "pending after the lease of another expired");
    ensure_eq!(pending(f, &[&d], later).await?, vec![d.id], "pending after its lease expired");
    let fence = committed.lease.map_or(Fence::ZERO, |l| l.fence);
    f.store().commit(&d.commit(1, [], now).lease(LeaseChange::Release { fence })).await?;
    ensure_eq!(pending(f, &[&d], now).await?, vec![d.id], "pending after its lease was released");
    f.store().commit(&d.commit(1, [failed("stopped")], now)).await?;
    ensure_eq!(pending(f, &[&d], later).await?, vec![], "pending after the end");
    Ok(())
}

pub(super) async fn what_is_due_later_is_pending_then(f: &F) -> Verdict {
    let now = base(f.names());
    let (asks, ended, plain) = (D::new(f, now), D::new(f, now.plus(secs(1))), D::new(f, now.plus(secs(2))));
    f.store().commit(&asks.commit(0, [requested()], now).due(Some(now.plus(secs(100))))).await?;
    let swept_at = Some(now.plus(secs(50)));
    f.store().commit(&ended.commit(0, [requested(), failed("stopped")], now).due(swept_at)).await?;
    let refs = [&asks, &ended, &plain];
    ensure_eq!(pending(f, &refs, now.plus(secs(49))).await?, vec![], "pending before anything is due");
    f.store().commit(&plain.commit(0, [requested()], now.plus(secs(60)))).await?;
    let at = |seconds| now.plus(secs(seconds));
    ensure_eq!(pending(f, &refs, at(60)).await?, vec![ended.id, plain.id], "pending once it is due, ended or not");
    ensure_eq!(pending(f, &refs, at(100)).await?, vec![ended.id, plain.id, asks.id], "order by when they were due");
    // A commit without a word of it: what has ended is never due again, what has not is due as it was.
    let target = BackendName::parse("first")?;
    f.store().commit(&ended.commit(2, [E::Swept { target }], at(101))).await?;
    f.store().commit(&asks.commit(1, [started()], at(102))).await?;
    ensure_eq!(pending(f, &refs, at(103)).await?, vec![plain.id, asks.id], "pending after a sweep and an event");
    Ok(())
}

pub(super) async fn pending_is_oldest_first_and_limited(f: &F) -> Verdict {
    let now = base(f.names());
    let mut ours = Vec::new();
    for n in 0..4 {
        let d = D::new(f, now.plus(secs(n)));
        f.store().commit(&d.commit(0, [requested()], now.plus(secs(n)))).await?;
        ours.push(d);
    }
    let refs: Vec<_> = ours.iter().collect();
    let want: Vec<_> = ours.iter().map(|d| d.id).collect();
    ensure_eq!(pending(f, &refs, now.plus(secs(9))).await?, want, "order of what is pending");
    for n in 1..=3 {
        let got = f.store().pending(now.plus(secs(9)), limit(n)).await?.len();
        ensure_eq!(got, n as usize, "how many are listed with the limit {n}");
    }
    Ok(())
}

pub(super) async fn pending_gives_every_scope_its_turn(f: &F) -> Verdict {
    let (first, now) = begin(f).await?;
    let mut ours = vec![first];
    for n in 1..4 {
        let d = D::of(f, ours[0].scope.clone(), now.plus(secs(n)));
        f.store().commit(&d.commit(0, [requested()], now.plus(secs(n)))).await?;
        ours.push(d);
    }
    let alone = D::new(f, now.plus(secs(5)));
    f.store().commit(&alone.commit(0, [requested()], now.plus(secs(5)))).await?;
    let refs: Vec<_> = ours.iter().chain([&alone]).collect();
    let want = [ours[0].id, alone.id, ours[1].id, ours[2].id, ours[3].id];
    ensure_eq!(pending(f, &refs, now.plus(secs(9))).await?, want, "one of each scope, then the others");
    Ok(())
}
