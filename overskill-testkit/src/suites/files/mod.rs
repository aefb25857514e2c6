//! The rules of a [`FileStore`].

mod history;
mod paging;
mod races;
mod reads;
mod writes;

use crate::{Stop, settle};
use overskill_core::{
    AppFile, AppliedChanges, CatchUp, Consistency, FilePath, FileStore, Scope, Snapshot, StreamPosition,
};
use std::{collections::BTreeMap, time::Duration};

/// What [`file_store_conformance!`](crate::file_store_conformance) needs: a file store.
pub type FileStoreFixture = crate::Fixture<dyn FileStore>;

suite! {
    $
    /// Tests of every rule of a [`FileStore`](overskill_core::FileStore): `file_store_conformance!(v1, fixture())`,
    /// where the fixture is a [`FileStoreFixture`](crate::FileStoreFixture).
    ///
    /// Reads of a store that declares `Eventual` consistency are repeated for as long as it may be stale, and then some.
    /// Limits over 32 MiB a file or 20,000 files a change are not tried out; a store has to take 1 KiB a file and 30 files a
    /// change for the other cases.
    macro file_store_conformance = files, file_store_v1;
    const V1 = "file_store", v1;
    fixture FileStoreFixture;
    in reads {
        an_untouched_scope_is_empty: "a scope that nothing was written to has no files, and a position with seq 0 that stays the same";
        contents_are_read_as_they_were_put: "get and snapshot answer the bytes that were put, whichever they are";
        paths_that_look_alike_are_different: "every path is a name of its own: nothing is folded, decoded, matched as a pattern or taken for a folder";
        the_longest_path_works: "a path of 475 bytes works";
        equal_contents_are_independent: "files with equal contents, in one scope or many, are changed and deleted independently";
        scopes_know_nothing_of_each_other: "files, listings, positions and history are seen in their own scope alone";
        pointers_and_wrappers_answer_alike: "a wrapped store answers as the store itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
    in writes {
        a_put_replaces: "a put replaces what was there under the path, and nothing else";
        a_delete_removes: "a delete removes the file, and nothing else";
        a_delete_of_nothing_is_fine: "a delete of a path that is not there succeeds";
        every_apply_adds_exactly_one: "each apply that succeeds adds exactly 1 to the position, whatever it changes";
        the_expected_position_lets_it_pass: "apply with the scope's own position as expected succeeds, from the start on";
        another_expected_position_is_refused: "apply with any other expected position is a conflict and changes nothing";
        no_changes_are_refused: "apply of no changes is invalid and adds nothing to the position";
        the_largest_file_is_taken_and_a_larger_refused: "a file of max_file_bytes is taken; a larger one exceeds the limit, the error names it, and nothing of the apply happens";
        the_most_changes_are_taken_and_more_refused: "max_changes changes are taken; more exceed the limit, the error names it, and nothing of the apply happens";
        many_files_at_once_all_arrive: "an apply of many files makes all of them happen";
        a_dropped_call_leaves_all_or_nothing: "an apply whose future is dropped happened whole or not at all, and the store goes on working";
        everything_survives_a_restart: "what apply returned for is durable: files, position and history";
    }
    in history {
        changes_since_is_exact_and_in_order: "changes_since answers exactly what was applied after the position, oldest first, each with the position it led to";
        nothing_since_the_head: "changes_since at the current position is empty";
        a_foreign_position_is_gone: "changes_since answers Gone for a position of another incarnation and for one that is ahead";
        changes_since_reaches_back: "changes_since reaches back as many applies as the store declares";
        history_leads_to_the_snapshot: "what changes_since tells, made to happen in order, leads from any position to the files of the snapshot";
    }
    in paging {
        a_listing_is_in_path_order: "list answers every file with its digest and size, in the order of the paths' bytes";
        pages_join_without_gap_or_overlap: "pages of any limit join to the whole listing, and the last one has no next";
        a_page_may_begin_after_a_path_that_is_not_there: "after names a place in the order, whether or not a file is there";
    }
    in races {
        apply_is_atomic: "apply is atomic: a reader sees all of it or nothing";
        a_snapshot_is_of_its_position: "the files of a snapshot are those of its position, whoever writes meanwhile";
        of_concurrent_conditional_applies_one_wins: "of concurrent applies that expect the same position exactly one succeeds, and the others are conflicts";
        concurrent_applies_all_land: "concurrent applies without condition all succeed, at positions without gap or repetition";
    }
}

/// How long a read of this store may be stale.
fn staleness(store: &dyn FileStore) -> Duration {
    match store.info().consistency {
        Consistency::Strong => Duration::ZERO,
        Consistency::Eventual(staleness) => staleness,
    }
}

/// The file there, once it had the time to show: `want`, if the rule holds.
async fn get(
    f: &FileStoreFixture,
    scope: &Scope,
    path: &FilePath,
    want: Option<&AppFile>,
) -> Result<Option<AppFile>, Stop> {
    let read = async || Ok(f.store().get(scope, path).await?);
    settle(staleness(&**f.store()), read, |got| got.as_ref() == want).await
}

/// The snapshot, once it had the time to show: at `want`, if the rule holds.
async fn snapshot(store: &dyn FileStore, scope: &Scope, want: StreamPosition) -> Result<Snapshot, Stop> {
    let read = async || Ok(store.snapshot(scope).await?);
    settle(staleness(store), read, |got| got.position == want).await
}

/// What happened since `position`, once it had the time to show: `want` entries, if the rule holds.
async fn since(
    store: &dyn FileStore,
    scope: &Scope,
    position: StreamPosition,
    want: usize,
) -> Result<CatchUp<AppliedChanges>, Stop> {
    let read = async || Ok(store.changes_since(scope, position).await?);
    let holds = |got: &_| matches!(got, CatchUp::Entries(entries) if entries.len() == want);
    settle(staleness(store), read, holds).await
}

/// Paths with contents, for comparing.
fn contents(files: &BTreeMap<FilePath, AppFile>) -> BTreeMap<&str, &[u8]> {
    files.iter().map(|(path, file)| (path.as_str(), &file.contents()[..])).collect()
}
