use super::{FileStoreFixture as F, contents, get, snapshot, staleness};
use crate::{
    PassThrough, Verdict,
    fixtures::{app_files, noise, path},
    outlast,
    suite::{ensure, ensure_eq, ensure_err},
};
use overskill_core::{AppFile, Around, CatchUp, Changes, FilePath, FileStore};
use std::{num::NonZeroU32, sync::Arc};

pub(super) async fn an_untouched_scope_is_empty(f: &F) -> Verdict {
    let scope = f.names().scope();
    ensure_eq!(f.store().get(&scope, &path("src/App.tsx")).await?, None, "a file of a new scope");
    let first = f.store().snapshot(&scope).await?;
    ensure!(first.files.is_empty(), "a new scope has files: {first:?}");
    ensure_eq!(first.position.seq, 0, "seq of a new scope");
    let page = f.store().list(&scope, None, NonZeroU32::MAX).await?;
    ensure!(page.items.is_empty() && page.next.is_none(), "the listing of a new scope has entries: {page:?}");
    let since = f.store().changes_since(&scope, first.position).await?;
    ensure_eq!(since, CatchUp::Entries(Vec::new()), "changes since the start of a new scope");
    ensure_eq!(f.store().snapshot(&scope).await?.position, first.position, "position of a new scope, asked again");
    Ok(())
}

pub(super) async fn contents_are_read_as_they_were_put(f: &F) -> Verdict {
    let scope = f.names().scope();
    let most = usize::try_from(f.store().info().max_file_bytes).unwrap_or(usize::MAX);
    let files: [(&str, AppFile); 8] = [
        ("empty", AppFile::new("")),
        ("text.txt", AppFile::new("line one\nline two\r\n")),
        ("zero", AppFile::new(b"\0".as_slice())),
        ("every-byte.bin", AppFile::new((0..=255).collect::<Vec<u8>>())),
        ("not-utf8.txt", AppFile::new(b"\xff\xfe\x80".as_slice())),
        ("mark.txt", AppFile::new("\u{feff}with a byte order mark")),
        ("mebibyte.bin", AppFile::new(noise(most.min(1 << 20), f.names().seed()))),
        ("日本/ünïcode – “quoted” 🎉.txt", AppFile::new("日本語")),
    ];
    let mut changes = Changes::new();
    for (at, file) in &files {
        changes = changes.put(path(at), file.clone());
    }
    let position = f.store().apply(&scope, &changes, None).await?;
    for (at, file) in &files {
        let got = get(f, &scope, &path(at), Some(file)).await?;
        ensure!(got.is_some(), "{at:?} was put and is not there");
        ensure!(got.as_ref() == Some(file), "{at:?}: got {got:?}, wanted {file:?}");
    }
    let got = snapshot(&**f.store(), &scope, position).await?;
    ensure_eq!(got.files.keys().map(FilePath::as_str).collect::<Vec<_>>().len(), files.len(), "files in the snapshot");
    for (at, file) in &files {
        ensure_eq!(got.files.get(&path(at)), Some(file), "{at:?} in the snapshot");
    }
    Ok(())
}

pub(super) async fn paths_that_look_alike_are_different(f: &F) -> Verdict {
    const ALIKE: [&str; 26] = [
        "a", "a/b", "a/b/c", "A", "a/B", "a.", "a ", " a", "a%2Fb", "a%2fb", "a+b", "a_b", "axb", "a%", "a%b", "a*",
        "a?", "a:b", "a'b", "a\"b", "é", "e\u{301}", "ß", "ss", "0", "00",
    ];
    let scope = f.names().scope();
    let mut changes = Changes::new();
    for at in ALIKE {
        changes = changes.put(path(at), format!("this is {at:?}"));
    }
    let position = f.store().apply(&scope, &changes, None).await?;
    let got = snapshot(&**f.store(), &scope, position).await?;
    ensure_eq!(got.files.len(), ALIKE.len(), "how many of the paths are there");
    // Deleting one at a time shows whether its neighbours go with it.
    for (n, at) in ALIKE.into_iter().enumerate() {
        let file = AppFile::new(format!("this is {at:?}"));
        ensure_eq!(get(f, &scope, &path(at), Some(&file)).await?, Some(file), "{at:?}");
        let position = f.store().apply(&scope, &Changes::new().delete(path(at)), None).await?;
        let left = snapshot(&**f.store(), &scope, position).await?;
        ensure_eq!(left.files.len(), ALIKE.len() - n - 1, "files left after {at:?} was deleted");
    }
    Ok(())
}

pub(super) async fn the_longest_path_works(f: &F) -> Verdict {
    let scope = f.names().scope();
    let ascii = "x".repeat(FilePath::MAX_BYTES);
    let deep = "d/".repeat(FilePath::MAX_BYTES / 2) + "x";
    let wide = "日".repeat(FilePath::MAX_BYTES / 3) + "x";
    let shorter = ascii[1..].to_owned();
    let paths = [&ascii, &deep, &wide, &shorter].map(|p| path(p));
    let mut changes = Changes::new();
    for at in &paths {
        changes = changes.put(at.clone(), format!("{} bytes", at.as_str().len()));
    }
    let position = f.store().apply(&scope, &changes, None).await?;
    let got = snapshot(&**f.store(), &scope, position).await?;
    for at in &paths {
        let file = AppFile::new(format!("{} bytes", at.as_str().len()));
        ensure_eq!(
            get(f, &scope, at, Some(&file)).await?.as_ref(),
            Some(&file),
            "a path of {} bytes",
            at.as_str().len()
        );
        ensure_eq!(got.files.get(at), Some(&file), "a path of {} bytes in the snapshot", at.as_str().len());
    }
    Ok(())
}

pub(super) async fn equal_contents_are_independent(f: &F) -> Verdict {
    let (here, there) = (f.names().scope(), f.names().scope());
    let same = AppFile::new(noise(5000, f.names().seed()));
    let (one, two) = (path("one.bin"), path("two.bin"));
    let both = Changes::new().put(one.clone(), same.clone()).put(two.clone(), same.clone());
    f.store().apply(&here, &both, None).await?;
    f.store().apply(&there, &both, None).await?;
    let changes = Changes::new().delete(one.clone());
    f.store().apply(&here, &changes, None).await?;
    ensure_eq!(get(f, &here, &one, None).await?, None, "the deleted file");
    ensure_eq!(get(f, &here, &two, Some(&same)).await?.as_ref(), Some(&same), "its twin in the same scope");
    f.store().apply(&here, &Changes::new().put(two.clone(), "other"), None).await?;
    f.store().apply(&there, &Changes::new().delete(two.clone()), None).await?;
    let twin = get(f, &there, &one, Some(&same)).await?;
    ensure_eq!(twin.as_ref(), Some(&same), "the last file with these contents");
    f.store().apply(&here, &Changes::new().put(one.clone(), same.clone()), None).await?;
    ensure_eq!(get(f, &here, &one, Some(&same)).await?.as_ref(), Some(&same), "the same contents, put again");
    Ok(())
}

pub(super) async fn scopes_know_nothing_of_each_other(f: &F) -> Verdict {
    let scope = f.names().scope();
    let others = f.names().beside(&scope);
    let files = app_files(4, f.names().seed());
    let mut changes = Changes::new();
    for (at, file) in &files {
        changes = changes.put(at.clone(), file.clone());
    }
    let first = path(files.keys().next().expect("there are four").as_str());
    let position = f.store().apply(&scope, &changes, None).await?;
    for other in &others {
        ensure_eq!(f.store().get(other, &first).await?, None, "{first:?} of {scope}, read in {other}");
        let empty = f.store().snapshot(other).await?;
        ensure!(empty.files.is_empty(), "the snapshot of {other} shows files of {scope}: {:?}", empty.files.keys());
        ensure_eq!(empty.position.seq, 0, "seq of {other} after an apply in {scope}");
        let page = f.store().list(other, None, NonZeroU32::MAX).await?;
        ensure!(page.items.is_empty(), "the listing of {other} shows files of {scope}: {page:?}");
        let since = f.store().changes_since(other, empty.position).await?;
        ensure_eq!(since, CatchUp::Entries(Vec::new()), "changes of {other} after an apply in {scope}");
    }
    for other in &others {
        let changes = Changes::new().put(first.clone(), "other").put(path("more"), "more");
        f.store().apply(other, &changes, None).await?;
        f.store().apply(other, &Changes::new().delete(first.clone()), None).await?;
    }
    let got = snapshot(&**f.store(), &scope, position).await?;
    ensure_eq!(got.position, position, "position of {scope} after applies in others");
    ensure_eq!(contents(&got.files), contents(&files), "files of {scope} after applies in others");
    Ok(())
}

pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
    let scope = f.names().scope();
    let boxed: Box<dyn FileStore> = Box::new(f.store().clone());
    let wrapped: Arc<dyn FileStore> = Arc::new(Around::with_policy(boxed, PassThrough));
    ensure_eq!(wrapped.info(), f.store().info(), "info through a wrapper");
    let start = wrapped.snapshot(&scope).await?.position;
    let at = path("a.txt");
    let position = wrapped.apply(&scope, &Changes::new().put(at.clone(), "a"), Some(start)).await?;
    ensure_eq!(position, start.next(), "position after an apply through a wrapper");
    outlast(staleness(&**f.store())).await;
    ensure_eq!(get(f, &scope, &at, Some(&"a".into())).await?, Some("a".into()), "a file put through a wrapper");
    ensure_eq!(wrapped.get(&scope, &at).await?, Some("a".into()), "a file read through a wrapper");
    let refused = wrapped.apply(&scope, &Changes::new().delete(at.clone()), Some(start)).await;
    ensure_err!(refused, Conflict, "apply at an old position through a wrapper");
    let page = wrapped.list(&scope, None, NonZeroU32::MIN).await?;
    ensure_eq!(page, f.store().list(&scope, None, NonZeroU32::MIN).await?, "a listing through a wrapper");
    let since = wrapped.changes_since(&scope, position).await?;
    ensure_eq!(since, CatchUp::Entries(Vec::new()), "changes since the head through a wrapper");
    Ok(())
}

pub(super) async fn it_is_ready(f: &F) -> Verdict {
    let readiness = f.store().check().await?;
    ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
    ensure!(!readiness.backend().is_empty(), "the backend has no name");
    ensure!(!f.store().info().name.is_empty(), "its info has no name");
    Ok(())
}
