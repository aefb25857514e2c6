use super::{F, key, newest, set, values};
use crate::{
    PassThrough, Verdict, poll_times, race,
    suite::{ensure, ensure_eq, ensure_err},
};
use overskill_core::{
    Around, EnvChanges, EnvEntry, EnvRevision, EnvStore, EnvValue, ErrorKind, Incarnation, KeyProvider, StreamPosition,
};
use std::sync::Arc;

fn next(revision: EnvRevision) -> EnvRevision {
    EnvRevision(revision.0.next())
}

pub(super) async fn an_untouched_scope_has_an_empty_revision(f: &F) -> Verdict {
    let scope = f.names().scope();
    let revision = f.store().current(&scope).await?;
    ensure_eq!(revision.0.seq, 0, "seq of a new scope's revision");
    let got = f.store().get(&scope, revision).await?;
    ensure_eq!(got.revision, revision, "revision of a new scope's variables");
    ensure!(got.values.is_empty(), "a new scope has variables: {got:?}");
    ensure_eq!(f.store().entries(&scope, revision).await?, [], "entries of a new scope");
    ensure_eq!(f.store().current(&scope).await?, revision, "revision of a new scope, asked again");
    Ok(())
}

pub(super) async fn what_was_set_is_read(f: &F) -> Verdict {
    let scope = f.names().scope();
    let changes = EnvChanges::new()
        .set(key("API_URL"), EnvValue::plain("https://api.example"))
        .set(key("API_TOKEN"), EnvValue::sealed("t0ken"))
        .set(key("SAME"), EnvValue::sealed("https://api.example"));
    let revision = f.store().put(&scope, &changes, None).await?;
    ensure_eq!(f.store().current(&scope).await?, revision, "current revision after put");
    let got = f.store().get(&scope, revision).await?;
    ensure_eq!(got.revision, revision, "revision of the variables");
    let want = [
        ("API_TOKEN", "t0ken", true),
        ("API_URL", "https://api.example", false),
        ("SAME", "https://api.example", true),
    ];
    ensure_eq!(values(&got), want, "variables (name, value, sealed)");
    Ok(())
}

pub(super) async fn set_and_unset_change_what_they_name(f: &F) -> Verdict {
    let scope = f.names().scope();
    let start = EnvChanges::new()
        .set(key("A"), EnvValue::plain("a"))
        .set(key("B"), EnvValue::sealed("b"))
        .set(key("C"), EnvValue::sealed("c"));
    f.store().put(&scope, &start, None).await?;
    let changes = EnvChanges::new().set(key("A"), EnvValue::sealed("a2")).unset(key("B")).unset(key("NEVER"));
    f.store().put(&scope, &changes.set(key("D"), EnvValue::plain("d")), None).await?;
    let want = [("A", "a2", true), ("C", "c", true), ("D", "d", false)];
    ensure_eq!(values(&newest(f, &scope).await?), want, "variables after set and unset");
    f.store().put(&scope, &set("A", EnvValue::plain("a3")).unset(key("C")).unset(key("D")), None).await?;
    ensure_eq!(values(&newest(f, &scope).await?), [("A", "a3", false)], "variables after a sealed one became plain");
    f.store().put(&scope, &EnvChanges::new().unset(key("A")), None).await?;
    ensure_eq!(values(&newest(f, &scope).await?), [], "variables after the last was unset");
    f.store().put(&scope, &set("B", EnvValue::plain("back")), None).await?;
    ensure_eq!(values(&newest(f, &scope).await?), [("B", "back", false)], "variables after one was set again");
    Ok(())
}

pub(super) async fn every_put_adds_exactly_one(f: &F) -> Verdict {
    let scope = f.names().scope();
    let mut revision = f.store().current(&scope).await?;
    let puts = [
        ("a first value", set("A", EnvValue::plain("a"))),
        ("the same value", set("A", EnvValue::plain("a"))),
        (
            "three values",
            set("A", EnvValue::sealed("a")).set(key("B"), EnvValue::plain("b")).set(key("C"), EnvValue::plain("c")),
        ),
        ("an unset", EnvChanges::new().unset(key("A"))),
        ("an unset of nothing", EnvChanges::new().unset(key("A"))),
    ];
    for (what, changes) in puts {
        let after = f.store().put(&scope, &changes, None).await?;
        ensure_eq!(after, next(revision), "revision after {what}");
        ensure_eq!(f.store().current(&scope).await?, after, "current revision after {what}");
        revision = after;
    }
    Ok(())
}

pub(super) async fn revisions_never_change(f: &F) -> Verdict {
    let scope = f.names().scope();
    let mut states = vec![(f.store().current(&scope).await?, Vec::new())];
    let puts = [
        (set("A", EnvValue::sealed("a1")), vec![("A", "a1", true)]),
        (set("B", EnvValue::plain("b1")), vec![("A", "a1", true), ("B", "b1", false)]),
        (set("A", EnvValue::sealed("a2")), vec![("A", "a2", true), ("B", "b1", false)]),
        (EnvChanges::new().unset(key("B")), vec![("A", "a2", true)]),
        (set("A", EnvValue::plain("a3")), vec![("A", "a3", false)]),
        (EnvChanges::new().unset(key("A")), vec![]),
    ];
    for (changes, want) in puts {
        states.push((f.store().put(&scope, &changes, None).await?, want));
    }
    for (revision, want) in states.iter().rev() {
        let got = f.store().get(&scope, *revision).await?;
        ensure_eq!(values(&got), *want, "variables at revision {revision}");
        ensure_eq!(got.revision, *revision, "revision of the variables");
        let names: Vec<_> =
            f.store().entries(&scope, *revision).await?.into_iter().map(|e| e.key.to_string()).collect();
        let want: Vec<_> = want.iter().map(|(name, ..)| (*name).to_owned()).collect();
        ensure_eq!(names, want, "entries at revision {revision}");
    }
    Ok(())
}

pub(super) async fn entries_tell_names_and_origins(f: &F) -> Verdict {
    let scope = f.names().scope();
    let sealed_under = Some(f.besides().current().await?);
    let first =
        set("Z", EnvValue::plain("z")).set(key("A"), EnvValue::sealed("a")).set(key("_"), EnvValue::sealed("u"));
    let first = f.store().put(&scope, &first, None).await?;
    let second = set("a", EnvValue::plain("small")).set(key("Z"), EnvValue::sealed("z2")).unset(key("_"));
    let second = f.store().put(&scope, &second, None).await?;
    let entry = |name: &str, since, key_id: &Option<overskill_core::KeyId>| EnvEntry {
        key: key(name),
        sealed: key_id.is_some(),
        since,
        key_id: key_id.clone(),
    };
    let want = [entry("A", first, &sealed_under), entry("Z", first, &None), entry("_", first, &sealed_under)];
    ensure_eq!(f.store().entries(&scope, first).await?, want, "entries at {first}");
    let want = [entry("A", first, &sealed_under), entry("Z", second, &sealed_under), entry("a", second, &None)];
    ensure_eq!(f.store().entries(&scope, second).await?, want, "entries at {second}");
    Ok(())
}

pub(super) async fn the_expected_revision_lets_it_pass(f: &F) -> Verdict {
    let scope = f.names().scope();
    let mut revision = f.store().current(&scope).await?;
    for n in 0..4 {
        let after = f.store().put(&scope, &set("N", EnvValue::plain(n.to_string())), Some(revision)).await?;
        ensure_eq!(after, next(revision), "revision after a put that expected {revision}");
        revision = after;
    }
    Ok(())
}

pub(super) async fn another_expected_revision_is_refused(f: &F) -> Verdict {
    let scope = f.names().scope();
    let start = f.store().current(&scope).await?;
    let changes = set("A", EnvValue::plain("changed")).set(key("NEW"), EnvValue::plain("new"));
    let refused = f.store().put(&scope, &changes, Some(next(start))).await;
    ensure_err!(refused, Conflict, "put at a revision ahead of an empty scope");
    f.store().put(&scope, &set("A", EnvValue::plain("1")), None).await?;
    let head = f.store().put(&scope, &set("A", EnvValue::plain("2")), None).await?;
    let other = Incarnation::from_u64(head.0.incarnation.as_u64() ^ 1);
    for (what, wrong) in [
        ("of the start", start),
        ("one behind", next(start)),
        ("one ahead", next(head)),
        ("of another incarnation", EnvRevision(StreamPosition::new(other, head.0.seq))),
    ] {
        let refused = f.store().put(&scope, &changes, Some(wrong)).await;
        ensure_err!(refused, Conflict, "put at a revision {what}");
        ensure_eq!(f.store().current(&scope).await?, head, "current revision after a refused put");
        ensure_eq!(values(&newest(f, &scope).await?), [("A", "2", false)], "variables after a refused put");
    }
    Ok(())
}

pub(super) async fn a_revision_that_never_was_is_not_found(f: &F) -> Verdict {
    let scope = f.names().scope();
    let start = f.store().current(&scope).await?;
    ensure_err!(f.store().get(&scope, next(start)).await, NotFound, "get ahead of an empty scope");
    let head = f.store().put(&scope, &set("A", EnvValue::plain("a")), None).await?;
    let other = Incarnation::from_u64(head.0.incarnation.as_u64() ^ 1);
    for (what, never) in [
        ("one ahead", next(head)),
        ("far ahead", EnvRevision(StreamPosition::new(head.0.incarnation, u64::from(u32::MAX)))),
        ("of another incarnation", EnvRevision(StreamPosition::new(other, head.0.seq))),
        ("at the start of another incarnation", EnvRevision(StreamPosition::start(other))),
    ] {
        ensure_err!(f.store().get(&scope, never).await, NotFound, "get at a revision {what}");
        ensure_err!(f.store().entries(&scope, never).await, NotFound, "entries at a revision {what}");
    }
    Ok(())
}

pub(super) async fn scopes_know_nothing_of_each_other(f: &F) -> Verdict {
    let scope = f.names().scope();
    f.store().put(&scope, &set("A", EnvValue::plain("here")), None).await?;
    let head = f.store().put(&scope, &set("B", EnvValue::sealed("here")), None).await?;
    for other in f.names().beside(&scope) {
        let current = f.store().current(&other).await?;
        ensure_eq!(current.0.seq, 0, "seq of {other} after puts in {scope}");
        ensure_eq!(values(&f.store().get(&other, current).await?), [], "variables of {other} after puts in {scope}");
        let foreign = f.store().get(&other, head).await;
        ensure_err!(foreign, NotFound, "a revision of {scope}, read in {other}");
        ensure_err!(f.store().entries(&other, head).await, NotFound, "entries of {scope}, read in {other}");
        f.store().put(&other, &set("A", EnvValue::sealed("there")), None).await?;
        f.store().put(&other, &EnvChanges::new().unset(key("B")), None).await?;
        ensure_eq!(values(&newest(f, &other).await?), [("A", "there", true)], "variables of {other}");
    }
    ensure_eq!(f.store().current(&scope).await?, head, "current revision of {scope} after puts in others");
    let want = [("A", "here", false), ("B", "here", true)];
    ensure_eq!(values(&newest(f, &scope).await?), want, "variables of {scope} after puts in others");
    Ok(())
}

pub(super) async fn of_concurrent_conditional_puts_one_wins(f: &F) -> Verdict {
    let scope = f.names().scope();
    let mut head = f.store().current(&scope).await?;
    for _ in 0..6 {
        let puts = [0, 1, 2, 3, 4].map(|n| {
            let (store, scope) = (f.store().clone(), scope.clone());
            let changes = set("WINNER", EnvValue::sealed(n.to_string()));
            async move { store.put(&scope, &changes, Some(head)).await }
        });
        let done = race(puts).await?;
        let won: Vec<_> = (0..done.len()).filter(|n| done[*n].is_ok()).collect();
        ensure_eq!(won.len(), 1, "how many of {} puts at {head} succeeded", done.len());
        for lost in done.iter().filter(|d| d.is_err()) {
            ensure_err!(lost.as_ref(), Conflict, "a put that lost the race at {head}");
        }
        head = next(head);
        let got = newest(f, &scope).await?;
        ensure_eq!(got.revision, head, "current revision after the race");
        let want = won[0].to_string();
        ensure_eq!(values(&got), [("WINNER", want.as_str(), true)], "variables after the race");
    }
    Ok(())
}

pub(super) async fn concurrent_puts_all_land(f: &F) -> Verdict {
    const WRITERS: u64 = 5;
    const EACH: u64 = 4;
    let scope = f.names().scope();
    let start = f.store().current(&scope).await?;
    let writers = (0..WRITERS).map(|w| {
        let (store, scope) = (f.store().clone(), scope.clone());
        async move {
            let mut seqs = Vec::new();
            for n in 0..EACH {
                let changes = set(&format!("W{w}_{n}"), EnvValue::sealed(format!("{w} {n}")));
                seqs.push(store.put(&scope, &changes, None).await?.0.seq);
            }
            Ok::<_, overskill_core::Error>(seqs)
        }
    });
    let mut seqs = Vec::new();
    for writer in race(writers).await? {
        seqs.extend(writer?);
    }
    seqs.sort_unstable();
    let want: Vec<_> = (1..=WRITERS * EACH).map(|n| start.0.seq + n).collect();
    ensure_eq!(seqs, want, "seqs of all revisions");
    let got = newest(f, &scope).await?;
    ensure_eq!(got.values.len() as u64, WRITERS * EACH, "variables after all puts");
    ensure!(got.values.values().all(EnvValue::is_sealed), "a sealed variable became plain: {got:?}");
    Ok(())
}

pub(super) async fn a_dropped_put_leaves_all_or_nothing(f: &F) -> Verdict {
    for polls in 1..=10 {
        let scope = f.names().scope();
        let start = set("A", EnvValue::sealed("before")).set(key("B"), EnvValue::plain("before"));
        let head = f.store().put(&scope, &start, None).await?;
        let dropped = set("A", EnvValue::sealed("dropped")).unset(key("B")).set(key("C"), EnvValue::plain("dropped"));
        poll_times(polls, f.store().put(&scope, &dropped, None)).await;
        let before = vec![("A", "before", true), ("B", "before", false)];
        let after = vec![("A", "dropped", true), ("C", "dropped", false)];
        let seen = newest(f, &scope).await?;
        let want = if seen.revision == head { &before } else { &after };
        ensure_eq!(values(&seen), *want, "variables at {}, {head} before a put dropped at poll {polls}", seen.revision);
        let last = f.store().put(&scope, &set("D", EnvValue::plain("next")), None).await?;
        let mut want = if last == next(head) { before } else { after };
        want.push(("D", "next", false));
        ensure_eq!(values(&newest(f, &scope).await?), want, "variables at {last}, {head} before the dropped put");
    }
    Ok(())
}

pub(super) async fn revisions_survive_a_restart(f: &F) -> Verdict {
    let scope = f.names().scope();
    let first = f.store().put(&scope, &set("A", EnvValue::sealed("one")), None).await?;
    let second =
        f.store().put(&scope, &set("A", EnvValue::sealed("two")).set(key("B"), EnvValue::plain("b")), None).await?;
    let entries = f.store().entries(&scope, second).await?;
    let again = f.reopened().await?;
    ensure_eq!(again.current(&scope).await?, second, "current revision after a restart");
    ensure_eq!(values(&again.get(&scope, first).await?), [("A", "one", true)], "variables at {first} after a restart");
    let want = [("A", "two", true), ("B", "b", false)];
    ensure_eq!(values(&again.get(&scope, second).await?), want, "variables at {second} after a restart");
    ensure_eq!(again.entries(&scope, second).await?, entries, "entries after a restart");
    let third = again.put(&scope, &EnvChanges::new().unset(key("B")), Some(second)).await?;
    ensure_eq!(third, next(second), "revision of the first put after a restart");
    Ok(())
}

pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
    let scope = f.names().scope();
    let boxed: Box<dyn EnvStore> = Box::new(f.store().clone());
    let wrapped: Arc<dyn EnvStore> = Arc::new(Around::with_policy(boxed, PassThrough));
    let start = wrapped.current(&scope).await?;
    let head = wrapped.put(&scope, &set("A", EnvValue::sealed("a")), Some(start)).await?;
    ensure_eq!(values(&newest(f, &scope).await?), [("A", "a", true)], "variables that were put through a wrapper");
    ensure_eq!(values(&wrapped.get(&scope, head).await?), [("A", "a", true)], "variables through a wrapper");
    ensure_eq!(
        wrapped.entries(&scope, head).await?,
        f.store().entries(&scope, head).await?,
        "entries through a wrapper"
    );
    let refused = wrapped.put(&scope, &set("A", EnvValue::plain("b")), Some(start)).await;
    ensure_eq!(refused.map_err(|e| e.kind()), Err(ErrorKind::Conflict), "a put at an old revision through a wrapper");
    ensure_eq!(wrapped.reseal(&scope).await?, 0, "values that reseal moved through a wrapper");
    Ok(())
}

pub(super) async fn it_is_ready(f: &F) -> Verdict {
    let readiness = f.store().check().await?;
    ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
    ensure!(!readiness.backend().is_empty(), "the backend has no name");
    Ok(())
}
