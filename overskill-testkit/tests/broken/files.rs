use async_trait::async_trait;
use overskill_core::{
    AppFile, AppliedChanges, CatchUp, Change, Changes, Environment, Error, FileMeta, FilePath, FileStore, Incarnation,
    Page, Readiness, Result, Scope, Snapshot, StoreInfo, StreamPosition, SystemIds, memory::MemoryFiles,
};
use overskill_testkit::{FileStoreFixture, suites::files::V1};
use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    UnstableStart,
    KeepsTextOnly,
    FoldsCase,
    CutsLongPaths,
    DeletesByContents,
    LeaksEnvironments,
    NotReady,
    ReadsStale,
    DeleteLeavesAnEmptyFile,
    DeleteOfNothingFails,
    CountsFiles,
    StartIsNoPosition,
    IgnoresExpected,
    TakesNoChanges,
    HasNoLimits,
    LosesAFileOfABatch,
    StaysBusyWhenDropped,
    ForgetsOnRestart,
    ReversesHistory,
    RepeatsTheHead,
    GuessesForeignPositions,
    ForgetsTooSoon,
    ListsWithoutCase,
    SkipsBetweenPages,
    WantsAfterToExist,
    TearsSnapshots,
    ChecksThenActs,
    GuessesItsPosition,
}

const BUGS: &[(Bug, &[&str])] = &[
    (Bug::UnstableStart, &["an_untouched_scope_is_empty"]),
    (Bug::KeepsTextOnly, &["contents_are_read_as_they_were_put"]),
    (Bug::FoldsCase, &["paths_that_look_alike_are_different"]),
    (Bug::CutsLongPaths, &["the_longest_path_works"]),
    (Bug::DeletesByContents, &["equal_contents_are_independent"]),
    (Bug::LeaksEnvironments, &["scopes_know_nothing_of_each_other"]),
    (Bug::NotReady, &["it_is_ready"]),
    (Bug::ReadsStale, &["a_put_replaces", "equal_contents_are_independent"]),
    (Bug::DeleteLeavesAnEmptyFile, &["a_delete_removes"]),
    (Bug::DeleteOfNothingFails, &["a_delete_of_nothing_is_fine"]),
    (Bug::CountsFiles, &["every_apply_adds_exactly_one"]),
    (Bug::StartIsNoPosition, &["the_expected_position_lets_it_pass"]),
    (Bug::IgnoresExpected, &["another_expected_position_is_refused", "of_concurrent_conditional_applies_one_wins"]),
    (Bug::TakesNoChanges, &["no_changes_are_refused"]),
    (
        Bug::HasNoLimits,
        &["the_largest_file_is_taken_and_a_larger_refused", "the_most_changes_are_taken_and_more_refused"],
    ),
    (Bug::LosesAFileOfABatch, &["many_files_at_once_all_arrive", "contents_are_read_as_they_were_put"]),
    (Bug::StaysBusyWhenDropped, &["a_dropped_call_leaves_all_or_nothing"]),
    (Bug::ForgetsOnRestart, &["everything_survives_a_restart"]),
    (Bug::ReversesHistory, &["changes_since_is_exact_and_in_order", "history_leads_to_the_snapshot"]),
    (Bug::RepeatsTheHead, &["nothing_since_the_head"]),
    (Bug::GuessesForeignPositions, &["a_foreign_position_is_gone"]),
    (Bug::ForgetsTooSoon, &["changes_since_reaches_back"]),
    (Bug::ListsWithoutCase, &["a_listing_is_in_path_order"]),
    (Bug::SkipsBetweenPages, &["pages_join_without_gap_or_overlap"]),
    (Bug::WantsAfterToExist, &["a_page_may_begin_after_a_path_that_is_not_there"]),
    (Bug::TearsSnapshots, &["apply_is_atomic", "a_snapshot_is_of_its_position"]),
    (Bug::ChecksThenActs, &["of_concurrent_conditional_applies_one_wins"]),
    (Bug::GuessesItsPosition, &["concurrent_applies_all_land"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bug_of_a_file_store_is_found() {
    super::judge(&V1, Bug::None, BUGS, fixture).await;
}

fn fixture(bug: Bug) -> FileStoreFixture {
    let declared =
        StoreInfo::new("broken").max_file_bytes(1 << 20).max_changes(NonZeroU32::new(600).unwrap()).history(64);
    let real = match bug {
        Bug::HasNoLimits => StoreInfo::new("broken").history(64),
        Bug::ForgetsTooSoon => declared.clone().history(63),
        _ => declared.clone(),
    };
    let files = Files {
        inner: MemoryFiles::with(&SystemIds, real),
        declared,
        bug,
        reads: Mutex::default(),
        busy: AtomicBool::new(false),
        starts: AtomicU64::new(1),
    };
    let kept = files.inner.clone();
    FileStoreFixture::new(Arc::new(files)).reopen(move || {
        let again = if bug == Bug::ForgetsOnRestart { MemoryFiles::new() } else { kept.clone() };
        let again: Arc<dyn FileStore> = Arc::new(again);
        async { again }
    })
}

#[derive(Debug)]
struct Files {
    inner: MemoryFiles,
    declared: StoreInfo,
    bug: Bug,
    reads: Mutex<HashMap<(Scope, FilePath), Option<AppFile>>>,
    busy: AtomicBool,
    starts: AtomicU64,
}

impl Files {
    fn scope(&self, scope: &Scope) -> Scope {
        match self.bug {
            Bug::LeaksEnvironments => Scope::new(scope.app.clone(), Environment::Development),
            _ => scope.clone(),
        }
    }

    fn path(&self, path: &FilePath) -> FilePath {
        match self.bug {
            Bug::FoldsCase => FilePath::parse(&path.as_str().to_lowercase()).unwrap(),
            Bug::CutsLongPaths => {
                let cut: String = path.as_str().chars().take(100).collect();
                FilePath::parse(cut.trim_end_matches('/')).unwrap()
            }
            _ => path.clone(),
        }
    }

    fn change(&self, change: &Change) -> Change {
        match (self.bug, change) {
            (Bug::KeepsTextOnly, Change::Put(file)) => {
                Change::Put(String::from_utf8_lossy(file.contents()).into_owned().into())
            }
            (Bug::DeleteLeavesAnEmptyFile, Change::Delete) => Change::Put("".into()),
            _ => change.clone(),
        }
    }
}

#[async_trait]
impl FileStore for Files {
    fn info(&self) -> StoreInfo {
        self.declared.clone()
    }

    async fn check(&self) -> Result<Readiness> {
        let ready = self.inner.check().await?;
        Ok(if self.bug == Bug::NotReady { ready.lacks("a disk", "mount one") } else { ready })
    }

    async fn get(&self, scope: &Scope, path: &FilePath) -> Result<Option<AppFile>> {
        let file = self.inner.get(&self.scope(scope), &self.path(path)).await?;
        if self.bug != Bug::ReadsStale {
            return Ok(file);
        }
        Ok(self.reads.lock().unwrap().entry((scope.clone(), path.clone())).or_insert(file).clone())
    }

    async fn snapshot(&self, scope: &Scope) -> Result<Snapshot> {
        let mut snapshot = self.inner.snapshot(&self.scope(scope)).await?;
        if self.bug == Bug::UnstableStart && snapshot.position.seq == 0 {
            let life = self.starts.fetch_add(1, Ordering::Relaxed);
            snapshot.position = StreamPosition::start(Incarnation::from_u64(life));
        }
        if self.bug == Bug::TearsSnapshots {
            let mut files = BTreeMap::new();
            for path in snapshot.files.keys() {
                tokio::task::yield_now().await;
                files.extend(self.inner.get(scope, path).await?.map(|file| (path.clone(), file)));
            }
            snapshot.files = files;
        }
        Ok(snapshot)
    }

    async fn apply(
        &self,
        scope: &Scope,
        changes: &Changes,
        expected: Option<StreamPosition>,
    ) -> Result<StreamPosition> {
        let scope = &self.scope(scope);
        let mut changes: Changes =
            changes.iter().map(|(path, change)| (self.path(path), self.change(change))).collect();
        match self.bug {
            Bug::DeletesByContents => {
                let files = self.inner.snapshot(scope).await?.files;
                for (path, change) in changes.clone().iter() {
                    let file = files.get(path).filter(|_| *change == Change::Delete);
                    for (twin, _) in files.iter().filter(|(_, twin)| Some(*twin) == file) {
                        changes = changes.delete(twin.clone());
                    }
                }
            }
            Bug::DeleteOfNothingFails => {
                let files = self.inner.snapshot(scope).await?.files;
                if changes.iter().any(|(path, change)| *change == Change::Delete && !files.contains_key(path)) {
                    return Err(Error::not_found("nothing to delete"));
                }
            }
            Bug::CountsFiles if changes.len() > 1 => {
                for (path, change) in changes.iter().skip(1) {
                    let one = [(path.clone(), change.clone())].into_iter().collect();
                    self.inner.apply(scope, &one, None).await?;
                }
            }
            Bug::StartIsNoPosition if expected.is_some_and(|expected| expected.seq == 0) => {
                return Err(Error::conflict("there is nothing yet"));
            }
            Bug::IgnoresExpected => return self.inner.apply(scope, &changes, None).await,
            Bug::TakesNoChanges if changes.is_empty() => return Ok(self.inner.snapshot(scope).await?.position),
            Bug::LosesAFileOfABatch if changes.len() > 5 => {
                let all = changes.len();
                changes = changes.iter().take(all - 1).map(|(path, change)| (path.clone(), change.clone())).collect();
            }
            Bug::StaysBusyWhenDropped => {
                if self.busy.swap(true, Ordering::Relaxed) {
                    return Err(super::busy("broken"));
                }
                super::pause().await;
                let done = self.inner.apply(scope, &changes, expected).await;
                self.busy.store(false, Ordering::Relaxed);
                return done;
            }
            Bug::ChecksThenActs if expected.is_some() => {
                let at = self.inner.snapshot(scope).await?.position;
                if Some(at) != expected {
                    return Err(Error::conflict("it stands elsewhere"));
                }
                super::pause().await;
                self.inner.apply(scope, &changes, None).await?;
                return Ok(at.next());
            }
            Bug::GuessesItsPosition if expected.is_none() => {
                let at = self.inner.snapshot(scope).await?.position;
                super::pause().await;
                self.inner.apply(scope, &changes, None).await?;
                return Ok(at.next());
            }
            _ => {}
        }
        self.inner.apply(scope, &changes, expected).await
    }

    async fn changes_since(&self, scope: &Scope, position: StreamPosition) -> Result<CatchUp<AppliedChanges>> {
        let scope = &self.scope(scope);
        let from = match self.bug {
            Bug::RepeatsTheHead if position.seq > 0 => StreamPosition::new(position.incarnation, position.seq - 1),
            _ => position,
        };
        Ok(match (self.bug, self.inner.changes_since(scope, from).await?) {
            (Bug::ReversesHistory, CatchUp::Entries(entries)) => CatchUp::Entries(entries.into_iter().rev().collect()),
            (Bug::GuessesForeignPositions, CatchUp::Gone) => CatchUp::Entries(Vec::new()),
            (_, caught_up) => caught_up,
        })
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<FilePath>,
        limit: NonZeroU32,
    ) -> Result<Page<FileMeta, FilePath>> {
        let scope = &self.scope(scope);
        if self.bug == Bug::WantsAfterToExist
            && let Some(after) = &after
            && self.inner.get(scope, after).await?.is_none()
        {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let first = after.is_none();
        let mut page = self.inner.list(scope, after, limit).await?;
        if self.bug == Bug::ListsWithoutCase {
            page.items.sort_by_key(|meta| meta.path.as_str().to_lowercase());
        }
        if self.bug == Bug::SkipsBetweenPages && !first && !page.items.is_empty() {
            page.items.remove(0);
        }
        Ok(page)
    }
}
