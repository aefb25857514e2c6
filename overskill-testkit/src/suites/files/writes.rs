use super::{FileStoreFixture as F, contents, get, since, snapshot, staleness};
use crate::{
    Stop, Verdict,
    fixtures::{app_files, path},
    poll_times, settle,
    suite::{ensure, ensure_eq, ensure_err},
};
use overskill_core::{AppFile, Changes, Error, Incarnation, Scope, Snapshot, StreamPosition};

pub(super) async fn a_put_replaces(f: &F) -> Verdict {
    let scope = f.names().scope();
    let (at, other) = (path("src/App.tsx"), path("src/Other.tsx"));
    f.store()
        .apply(&scope, &Changes::new().put(at.clone(), "a longer first text").put(other.clone(), "o"), None)
        .await?;
    for text in ["second", "", "third"] {
        let file = AppFile::new(text);
        f.store().apply(&scope, &Changes::new().put(at.clone(), file.clone()), None).await?;
        ensure_eq!(get(f, &scope, &at, Some(&file)).await?, Some(file), "the file after it was replaced");
    }
    ensure_eq!(get(f, &scope, &other, Some(&"o".into())).await?, Some("o".into()), "a file that was left alone");
    Ok(())
}

pub(super) async fn a_delete_removes(f: &F) -> Verdict {
    let scope = f.names().scope();
    let (at, other) = (path("src/App.tsx"), path("src/App.tsx2"));
    f.store().apply(&scope, &Changes::new().put(at.clone(), "x").put(other.clone(), "o"), None).await?;
    let position = f.store().apply(&scope, &Changes::new().delete(at.clone()), None).await?;
    ensure_eq!(get(f, &scope, &at, None).await?, None, "the file after it was deleted");
    ensure_eq!(get(f, &scope, &other, Some(&"o".into())).await?, Some("o".into()), "a file that was left alone");
    let got = snapshot(&**f.store(), &scope, position).await?;
    ensure_eq!(got.files.keys().collect::<Vec<_>>(), [&other], "files in the snapshot after the delete");
    f.store().apply(&scope, &Changes::new().put(at.clone(), "again"), None).await?;
    ensure_eq!(get(f, &scope, &at, Some(&"again".into())).await?, Some("again".into()), "the file, put again");
    Ok(())
}

pub(super) async fn a_delete_of_nothing_is_fine(f: &F) -> Verdict {
    let scope = f.names().scope();
    let absent = Changes::new().delete(path("never/was.here"));
    f.store().apply(&scope, &absent, None).await?;
    f.store().apply(&scope, &Changes::new().put(path("a"), "a"), None).await?;
    let position = f.store().apply(&scope, &absent, None).await?;
    let got = snapshot(&**f.store(), &scope, position).await?;
    ensure_eq!(contents(&got.files), [("a", b"a".as_slice())].into(), "files after deletes of nothing");
    Ok(())
}

pub(super) async fn every_apply_adds_exactly_one(f: &F) -> Verdict {
    let scope = f.names().scope();
    let mut position = f.store().snapshot(&scope).await?.position;
    let applies = [
        ("a put", Changes::new().put(path("a"), "a")),
        ("the same put", Changes::new().put(path("a"), "a")),
        ("three puts", Changes::new().put(path("a"), "1").put(path("b"), "2").put(path("c"), "3")),
        ("a delete", Changes::new().delete(path("a"))),
        ("a delete of nothing", Changes::new().delete(path("a"))),
        ("the last deletes", Changes::new().delete(path("b")).delete(path("c"))),
        ("a put into what is empty again", Changes::new().put(path("a"), "a")),
    ];
    for (what, changes) in applies {
        let next = f.store().apply(&scope, &changes, None).await?;
        ensure_eq!(next, position.next(), "position after {what}");
        let got = snapshot(&**f.store(), &scope, next).await?.position;
        ensure_eq!(got, next, "position of the snapshot after {what}");
        position = next;
    }
    Ok(())
}

pub(super) async fn the_expected_position_lets_it_pass(f: &F) -> Verdict {
    let scope = f.names().scope();
    let mut position = f.store().snapshot(&scope).await?.position;
    for n in 0..4 {
        let changes = Changes::new().put(path("n"), n.to_string());
        let next = f.store().apply(&scope, &changes, Some(position)).await?;
        ensure_eq!(next, position.next(), "position after an apply that expected {position}");
        position = next;
    }
    ensure_eq!(get(f, &scope, &path("n"), Some(&"3".into())).await?, Some("3".into()), "the file");
    Ok(())
}

pub(super) async fn another_expected_position_is_refused(f: &F) -> Verdict {
    let scope = f.names().scope();
    let start = f.store().snapshot(&scope).await?.position;
    let other = |p: StreamPosition| StreamPosition::new(Incarnation::from_u64(p.incarnation.as_u64() ^ 1), p.seq);
    let changes = Changes::new().put(path("a"), "changed").put(path("new"), "new").delete(path("b"));
    for (what, wrong) in [("ahead of an empty scope", start.next()), ("of another incarnation", other(start))] {
        let refused = f.store().apply(&scope, &changes, Some(wrong)).await;
        ensure_err!(refused, Conflict, "apply at a position {what}");
    }
    ensure_eq!(f.store().snapshot(&scope).await?, Snapshot::new(start, [].into()), "the scope after refused applies");
    f.store().apply(&scope, &Changes::new().put(path("a"), "1"), None).await?;
    let head = f.store().apply(&scope, &Changes::new().put(path("a"), "2").put(path("b"), "2"), None).await?;
    let before = snapshot(&**f.store(), &scope, head).await?;
    for (what, wrong) in [
        ("of the start", start),
        ("one behind", start.next()),
        ("one ahead", head.next()),
        ("far ahead", StreamPosition::new(head.incarnation, u64::from(u32::MAX))),
        ("of another incarnation", other(head)),
    ] {
        let refused = f.store().apply(&scope, &changes, Some(wrong)).await;
        ensure_err!(refused, Conflict, "apply at a position {what}");
        let after = snapshot(&**f.store(), &scope, head).await?;
        ensure_eq!(after, before, "the scope after a refused apply at a position {what}");
    }
    let next = f.store().apply(&scope, &changes, Some(head)).await?;
    ensure_eq!(next, head.next(), "position after the refused applies and one that was not");
    Ok(())
}

pub(super) async fn no_changes_are_refused(f: &F) -> Verdict {
    let scope = f.names().scope();
    ensure_err!(f.store().apply(&scope, &Changes::new(), None).await, Invalid, "apply of nothing to a new scope");
    let head = f.store().apply(&scope, &Changes::new().put(path("a"), "a"), None).await?;
    ensure_err!(f.store().apply(&scope, &Changes::new(), None).await, Invalid, "apply of nothing");
    ensure_err!(f.store().apply(&scope, &Changes::new(), Some(head)).await, Invalid, "apply of nothing at the head");
    ensure_eq!(snapshot(&**f.store(), &scope, head).await?.position, head, "position after applies of nothing");
    Ok(())
}

/// An error that exceeds a limit says which.
fn names_limit(e: &Error, limit: u64) -> Verdict {
    let shown = e.to_string();
    ensure!(shown.contains(&limit.to_string()), "the error does not name the limit {limit}: {shown}");
    ensure!(!shown.contains("00000000"), "the error repeats what was given: {shown:.100}");
    Ok(())
}

async fn still_as_it_was(f: &F, scope: &Scope, before: &Snapshot) -> Verdict {
    let after = snapshot(&**f.store(), scope, before.position).await?;
    ensure_eq!(after, *before, "the scope after a refused apply");
    Ok(())
}

pub(super) async fn the_largest_file_is_taken_and_a_larger_refused(f: &F) -> Verdict {
    const TRIED_BYTES: u64 = 32 * 1024 * 1024;
    let max = f.store().info().max_file_bytes;
    let Some(bytes) = usize::try_from(max).ok().filter(|_| max <= TRIED_BYTES) else {
        return Err(Stop::NotApplicable("the store takes files of more than the 32 MiB that the kit tries"));
    };
    let scope = f.names().scope();
    let (small, large) = (path("small"), path("large"));
    let head = f.store().apply(&scope, &Changes::new().put(small.clone(), "s"), None).await?;
    let before = snapshot(&**f.store(), &scope, head).await?;
    let too_large = Changes::new().put(small.clone(), "changed").put(large.clone(), vec![b'0'; bytes + 1]);
    let refused = f.store().apply(&scope, &too_large, None).await;
    names_limit(&ensure_err!(refused, LimitExceeded, "a file of {} bytes", max + 1), max)?;
    still_as_it_was(f, &scope, &before).await?;
    let largest = AppFile::new(vec![b'0'; bytes]);
    f.store().apply(&scope, &Changes::new().put(large.clone(), largest.clone()), None).await?;
    let got = get(f, &scope, &large, Some(&largest)).await?;
    ensure!(got.as_ref() == Some(&largest), "a file of {max} bytes: got {got:?}, wanted {largest:?}");
    Ok(())
}

pub(super) async fn the_most_changes_are_taken_and_more_refused(f: &F) -> Verdict {
    const TRIED: u32 = 20_000;
    let max = f.store().info().max_changes.get();
    if max > TRIED {
        return Err(Stop::NotApplicable("the store takes more than the 20,000 changes that the kit tries"));
    }
    let scope = f.names().scope();
    let head = f.store().apply(&scope, &Changes::new().put(path("small"), "s"), None).await?;
    let before = snapshot(&**f.store(), &scope, head).await?;
    let mut changes = Changes::new().put(path("f/0"), "the first");
    for n in 1..max {
        changes = changes.delete(path(&format!("f/{n}")));
    }
    let refused = f.store().apply(&scope, &changes.clone().put(path("one/more"), "x"), None).await;
    names_limit(&ensure_err!(refused, LimitExceeded, "{} changes", u64::from(max) + 1), u64::from(max))?;
    still_as_it_was(f, &scope, &before).await?;
    let next = f.store().apply(&scope, &changes, None).await?;
    let got = snapshot(&**f.store(), &scope, next).await?;
    ensure_eq!(got.files.len(), 2, "files after {max} changes, one of them a put");
    Ok(())
}

pub(super) async fn many_files_at_once_all_arrive(f: &F) -> Verdict {
    let scope = f.names().scope();
    let most = usize::try_from(f.store().info().max_changes.get()).unwrap_or(usize::MAX);
    let files = app_files(most.min(500), f.names().seed());
    let mut changes = Changes::new();
    for (at, file) in &files {
        changes = changes.put(at.clone(), file.clone());
    }
    let head = f.store().apply(&scope, &changes, None).await?;
    let got = snapshot(&**f.store(), &scope, head).await?;
    let missing: Vec<_> = files.keys().filter(|at| !got.files.contains_key(*at)).collect();
    ensure!(missing.is_empty(), "{} of {} files are missing: {missing:?}", missing.len(), files.len());
    ensure!(got.files == files, "a file has other contents, or there are more than {}", files.len());
    let mut changes = Changes::new();
    for at in files.keys() {
        changes = changes.delete(at.clone());
    }
    let head = f.store().apply(&scope, &changes, None).await?;
    let left = snapshot(&**f.store(), &scope, head).await?;
    ensure_eq!(left.files.len(), 0, "files after all {} were deleted at once", files.len());
    Ok(())
}

pub(super) async fn a_dropped_call_leaves_all_or_nothing(f: &F) -> Verdict {
    for polls in 1..=12 {
        let scope = f.names().scope();
        let start = Changes::new().put(path("a"), "before").put(path("b"), "before");
        let head = f.store().apply(&scope, &start, None).await?;
        let dropped = Changes::new().put(path("a"), "dropped").delete(path("b")).put(path("c"), "dropped");
        poll_times(polls, f.store().apply(&scope, &dropped, None)).await;

        let before = [("a", b"before".as_slice()), ("b", b"before")].into();
        let after = [("a", b"dropped".as_slice()), ("c", b"dropped")].into();
        // What was on its way may still land a little later, but never in part.
        let read = async || Ok(f.store().snapshot(&scope).await?);
        let seen = settle(staleness(&**f.store()), read, |seen| head.behind(seen.position).is_some()).await?;
        let (behind, seen) = (head.behind(seen.position), contents(&seen.files));
        let whole = behind == Some(0) && seen == before || behind == Some(1) && seen == after;
        ensure!(whole, "after an apply was dropped at poll {polls}, {behind:?} ahead, the files are {seen:?}");

        let next = f.store().apply(&scope, &Changes::new().put(path("d"), "next"), None).await?;
        let got = snapshot(&**f.store(), &scope, next).await?;
        let mut want = if head.behind(next) == Some(2) { after } else { before };
        want.insert("d", b"next");
        ensure_eq!(contents(&got.files), want, "files after the next apply, at {next}, {head} before the dropped one");
    }
    Ok(())
}

pub(super) async fn everything_survives_a_restart(f: &F) -> Verdict {
    let scope = f.names().scope();
    let start = f.store().snapshot(&scope).await?.position;
    let files = app_files(20, f.names().seed());
    let mut changes = Changes::new().put(path("gone"), "x");
    for (at, file) in &files {
        changes = changes.put(at.clone(), file.clone());
    }
    f.store().apply(&scope, &changes, None).await?;
    let head = f.store().apply(&scope, &Changes::new().delete(path("gone")), None).await?;
    let history = since(&**f.store(), &scope, start, 2).await?;

    let again = f.reopened().await?;
    let got = snapshot(&*again, &scope, head).await?;
    ensure_eq!(got.position, head, "position after a restart");
    ensure!(got.files == files, "files after a restart: {:?}", got.files.keys());
    ensure_eq!(since(&*again, &scope, start, 2).await?, history, "history after a restart");
    let next = again.apply(&scope, &Changes::new().put(path("more"), "m"), Some(head)).await?;
    ensure_eq!(next, head.next(), "position of the first apply after a restart");
    Ok(())
}
