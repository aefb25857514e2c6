use super::breaks;
use async_trait::async_trait;
use overskill_core::{
    BackendName, Change, Changes, Preview, PreviewHost, PreviewStatus, Readiness, Result, Scope, Snapshot,
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
}

#[derive(Debug)]
struct Broken {
    host: MemoryPreviews,
    flaw: Flaw,
}

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || {
        let host = MemoryPreviews::new();
        let seen = host.clone();
        let outside = PreviewOutside::new().serving(move |scope, path| {
            let shown = seen.shown(&scope);
            async move { Ok(shown.and_then(|s| s.files.get(&path).map(|file| file.contents().clone()))) }
        });
        PreviewHostFixture::with(Arc::new(Broken { host, flaw }), outside)
    })
    .await;
}

#[async_trait]
impl PreviewHost for Broken {
    fn name(&self) -> BackendName {
        self.host.name()
    }

    async fn check(&self) -> Result<Readiness> {
        self.host.check().await
    }

    async fn open(&self, scope: &Scope, snapshot: &Snapshot) -> Result<Preview> {
        let mut snapshot = snapshot.clone();
        if let (Flaw::KeepsOldFiles, Some(before)) = (self.flaw, self.host.shown(scope)) {
            for (path, file) in before.files {
                snapshot.files.entry(path).or_insert(file);
            }
        }
        self.host.open(scope, &snapshot).await
    }

    async fn apply(
        &self,
        scope: &Scope,
        base: StreamPosition,
        next: StreamPosition,
        changes: &Changes,
    ) -> Result<Update> {
        let shown = self.host.shown(scope).map(|s| s.position);
        let base = shown.filter(|_| self.flaw == Flaw::AppliesOnAWrongBase).unwrap_or(base);
        let keeps = |change: &Change| self.flaw != Flaw::ForgetsToDelete || *change != Change::Delete;
        let kept = changes.iter().filter(|(_, change)| keeps(change));
        let changes: Changes = kept.map(|(path, change)| (path.clone(), change.clone())).collect();
        self.host.apply(scope, base, next, &changes).await
    }

    async fn status(&self, scope: &Scope) -> Result<PreviewStatus> {
        self.host.status(scope).await
    }

    async fn close(&self, scope: &Scope) -> Result<()> {
        if self.flaw == Flaw::StaysOpen { Ok(()) } else { self.host.close(scope).await }
    }
}

#[tokio::test]
async fn a_host_that_applies_on_a_wrong_base() {
    let cases = ["an_update_of_another_base_is_missed", "of_concurrent_updates_one_is_applied"];
    broken(Flaw::AppliesOnAWrongBase, &cases).await;
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
