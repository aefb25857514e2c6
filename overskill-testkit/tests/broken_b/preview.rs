use super::breaks;
use async_trait::async_trait;
use overskill_core::{
    BackendName, Change, Changes, EnvSnapshot, Preview, PreviewHost, PreviewStatus, Readiness, Result, Scope, Snapshot,
    StreamPosition, Update, memory::MemoryPreviews,
};
use overskill_testkit::{PreviewHostFixture, PreviewOutside, suites::preview::V1};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    AppliesOnAWrongBase,
    ForgetsToDelete,
    KeepsOldFiles,
    StaysOpen,
    AppliesNothing,
    AlwaysReplaces,
    NeedsChanges,
    SeesGhosts,
    HasOneAddress,
    SharesEnvironments,
    IsNotReady,
    GoesBack,
    RefusesVariables,
    ServesNothing,
}

const FLAWS: [Flaw; 14] = [
    Flaw::AppliesOnAWrongBase,
    Flaw::ForgetsToDelete,
    Flaw::KeepsOldFiles,
    Flaw::StaysOpen,
    Flaw::AppliesNothing,
    Flaw::AlwaysReplaces,
    Flaw::NeedsChanges,
    Flaw::SeesGhosts,
    Flaw::HasOneAddress,
    Flaw::SharesEnvironments,
    Flaw::IsNotReady,
    Flaw::GoesBack,
    Flaw::RefusesVariables,
    Flaw::ServesNothing,
];

#[derive(Debug)]
struct Broken {
    host: MemoryPreviews,
    flaw: Flaw,
}

fn fixture(flaw: Flaw) -> PreviewHostFixture {
    let host = MemoryPreviews::new();
    let seen = host.clone();
    let outside = PreviewOutside::new().serving(move |scope, path| {
        let shown = seen.shown(&scope).filter(|_| flaw != Flaw::ServesNothing);
        async move { Ok(shown.and_then(|s| s.files.get(&path).map(|file| file.contents().clone()))) }
    });
    PreviewHostFixture::with(Arc::new(Broken { host, flaw }), outside)
}

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || fixture(flaw)).await;
}

impl Broken {
    /// The scope as the host takes it.
    fn seen(&self, scope: &Scope) -> Scope {
        let one = overskill_core::Environment::Preview;
        if self.flaw == Flaw::SharesEnvironments { Scope::new(scope.app.clone(), one) } else { scope.clone() }
    }
}

#[async_trait]
impl PreviewHost for Broken {
    fn name(&self) -> BackendName {
        self.host.name()
    }

    async fn check(&self) -> Result<Readiness> {
        let readiness = self.host.check().await?;
        Ok(if self.flaw == Flaw::IsNotReady { readiness.lacks("a port", "open one") } else { readiness })
    }

    async fn open(&self, scope: &Scope, snapshot: &Snapshot, env: &EnvSnapshot) -> Result<Preview> {
        let mut snapshot = snapshot.clone();
        if let (Flaw::KeepsOldFiles, Some(before)) = (self.flaw, self.host.shown(scope)) {
            for (path, file) in before.files {
                snapshot.files.entry(path).or_insert(file);
            }
        }
        let scope = &self.seen(scope);
        let moved = self.host.shown(scope).is_some_and(|shown| shown.position != snapshot.position);
        if self.flaw == Flaw::RefusesVariables && self.host.env(scope).is_some_and(|had| had != *env) {
            return Err(overskill_core::Error::conflict("it is open with other variables"));
        }
        if self.flaw == Flaw::AlwaysReplaces || (self.flaw == Flaw::GoesBack && moved) {
            self.host.close(scope).await?;
        }
        let mut preview = self.host.open(scope, &snapshot, env).await?;
        if self.flaw == Flaw::HasOneAddress {
            preview.websocket_url = preview.url.clone();
        }
        Ok(preview)
    }

    async fn apply(
        &self,
        scope: &Scope,
        base: StreamPosition,
        next: StreamPosition,
        changes: &Changes,
    ) -> Result<Update> {
        if self.flaw == Flaw::AppliesNothing || (self.flaw == Flaw::NeedsChanges && changes.is_empty()) {
            let have = self.host.shown(scope).map(|s| s.position);
            return Ok(if changes.is_empty() || have.is_none() { Update::Missed { have } } else { Update::Applied });
        }
        let scope = &self.seen(scope);
        let shown = self.host.shown(scope).map(|s| s.position);
        let base = shown.filter(|_| self.flaw == Flaw::AppliesOnAWrongBase).unwrap_or(base);
        let keeps = |change: &Change| self.flaw != Flaw::ForgetsToDelete || *change != Change::Delete;
        let kept = changes.iter().filter(|(_, change)| keeps(change));
        let changes: Changes = kept.map(|(path, change)| (path.clone(), change.clone())).collect();
        self.host.apply(scope, base, next, &changes).await
    }

    async fn status(&self, scope: &Scope) -> Result<PreviewStatus> {
        match self.host.status(&self.seen(scope)).await? {
            PreviewStatus::Closed if self.flaw == Flaw::SeesGhosts => Ok(PreviewStatus::Empty),
            status => Ok(status),
        }
    }

    async fn close(&self, scope: &Scope) -> Result<()> {
        if self.flaw == Flaw::StaysOpen { Ok(()) } else { self.host.close(&self.seen(scope)).await }
    }
}

#[tokio::test]
async fn a_host_that_applies_on_a_wrong_base() {
    let cases = ["an_update_of_another_base_is_missed", "of_concurrent_updates_one_is_applied"];
    broken(Flaw::AppliesOnAWrongBase, &cases).await;
}

#[tokio::test]
async fn a_host_that_goes_back() {
    broken(Flaw::GoesBack, &["it_never_goes_back", "other_variables_take_their_place"]).await;
}

#[tokio::test]
async fn a_host_that_refuses_other_variables() {
    broken(Flaw::RefusesVariables, &["other_variables_take_their_place"]).await;
}

#[tokio::test]
async fn a_host_that_forgets_to_delete() {
    broken(Flaw::ForgetsToDelete, &["files_are_put_deleted_and_renamed"]).await;
}

#[tokio::test]
async fn a_host_that_keeps_old_files() {
    broken(Flaw::KeepsOldFiles, &["opening_at_another_position_replaces"]).await;
}

#[tokio::test]
async fn a_host_that_stays_open() {
    broken(Flaw::StaysOpen, &["a_closed_preview_is_closed"]).await;
}

#[tokio::test]
async fn a_host_that_applies_nothing() {
    broken(
        Flaw::AppliesNothing,
        &[
            "an_update_moves_it",
            "an_update_may_cover_several_positions",
            "a_repeated_update_is_applied_once",
            "a_hundred_updates_in_a_row_arrive",
            "a_dropped_call_leaves_all_or_nothing",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_host_that_always_replaces() {
    broken(Flaw::AlwaysReplaces, &["opening_at_the_same_position_changes_nothing"]).await;
}

#[tokio::test]
async fn a_host_that_needs_changes() {
    broken(Flaw::NeedsChanges, &["an_update_without_changes_moves_the_position"]).await;
}

#[tokio::test]
async fn a_host_that_sees_ghosts() {
    broken(Flaw::SeesGhosts, &["nothing_is_open_at_first"]).await;
}

#[tokio::test]
async fn a_host_with_one_address() {
    broken(Flaw::HasOneAddress, &["an_open_preview_says_where_it_is"]).await;
}

#[tokio::test]
async fn a_host_that_shares_environments() {
    broken(Flaw::SharesEnvironments, &["scopes_know_nothing_of_each_other"]).await;
}

#[tokio::test]
async fn a_host_that_serves_nothing() {
    broken(Flaw::ServesNothing, &["it_can_be_seen_from_outside"]).await;
}

#[tokio::test]
async fn a_host_that_is_not_ready() {
    broken(Flaw::IsNotReady, &["it_is_ready"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_case_passes_whatever_it_is_given() {
    super::every_case_fails_once(&V1, &FLAWS, fixture).await;
}
