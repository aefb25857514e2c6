use super::{FileStoreFixture as F, staleness};
use crate::{
    Stop, Verdict,
    fixtures::path,
    outlast,
    suite::{ensure, ensure_eq},
};
use overskill_core::{AppFile, Changes, FileMeta, FilePath, Page, Scope};
use std::{collections::BTreeMap, num::NonZeroU32};

/// Paths whose order is easily mistaken: capitals before small letters, marks between, other scripts last.
const ORDER: [&str; 14] = ["-", "0", "10", "2", "A/z", "Z", "_", "a", "a b", "a-b", "a/b", "ab", "z", "é"];

async fn filled(f: &F) -> Result<(Scope, BTreeMap<FilePath, AppFile>), Stop> {
    let scope = f.names().scope();
    let files: BTreeMap<_, _> = ORDER.iter().map(|at| (path(at), AppFile::new(format!("{at} ").repeat(7)))).collect();
    let mut changes = Changes::new();
    for (at, file) in files.iter().rev() {
        changes = changes.put(at.clone(), file.clone());
    }
    f.store().apply(&scope, &changes, None).await?;
    outlast(staleness(&**f.store())).await;
    Ok((scope, files))
}

async fn list(f: &F, scope: &Scope, after: Option<&str>, limit: NonZeroU32) -> Result<Page<FileMeta, FilePath>, Stop> {
    Ok(f.store().list(scope, after.map(path), limit).await?)
}

fn names(page: &Page<FileMeta, FilePath>) -> Vec<&str> {
    page.items.iter().map(|meta| meta.path.as_str()).collect()
}

pub(super) async fn a_listing_is_in_path_order(f: &F) -> Verdict {
    let (scope, files) = filled(f).await?;
    let page = list(f, &scope, None, NonZeroU32::MAX).await?;
    ensure_eq!(names(&page), ORDER, "the whole listing");
    ensure_eq!(page.next, None, "next of the whole listing");
    for meta in &page.items {
        let file = &files[&meta.path];
        ensure_eq!(
            (meta.digest, meta.size_bytes),
            (file.digest(), file.size_bytes()),
            "digest and size of {}",
            meta.path
        );
    }
    Ok(())
}

pub(super) async fn pages_join_without_gap_or_overlap(f: &F) -> Verdict {
    let (scope, _) = filled(f).await?;
    for limit in [1, 2, 3, 13, 14, 15] {
        let most = NonZeroU32::new(limit).expect("not zero");
        let (mut joined, mut after) = (Vec::new(), None);
        loop {
            let page = f.store().list(&scope, after, most).await?;
            ensure!(page.items.len() <= limit as usize, "a page of at most {limit} has {}", page.items.len());
            ensure!(page.next.is_none() || !page.items.is_empty(), "a page before the last is empty");
            joined.extend(page.items.iter().map(|meta| meta.path.to_string()));
            ensure!(joined.len() <= ORDER.len(), "pages of {limit} go on after all: {joined:?}");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        ensure_eq!(joined, ORDER, "pages of {limit}, joined");
    }
    Ok(())
}

pub(super) async fn a_page_may_begin_after_a_path_that_is_not_there(f: &F) -> Verdict {
    let (scope, _) = filled(f).await?;
    let all = NonZeroU32::MAX;
    for (after, from) in [(" ", 0), ("1", 2), ("a/a", 10), ("a/b", 11), ("a/b/c", 11), ("y", 12), ("zz", 13)] {
        let page = list(f, &scope, Some(after), all).await?;
        ensure_eq!(names(&page), ORDER[from..], "the listing after {after:?}");
    }
    for after in ["é", "日"] {
        let page = list(f, &scope, Some(after), all).await?;
        ensure!(page.items.is_empty() && page.next.is_none(), "the listing after {after:?}: {page:?}");
    }
    Ok(())
}
