//! One open preview.

use super::{CatchUp, HotMessage, PageRequest, PageResponse, engine::Shared};
use crate::{Problem, Result};
use overskill_core::{Changes, EnvSnapshot, Progress, Scope, Snapshot, StreamPosition};
use std::sync::Arc;

/// One app's preview: answers requests for its pages, modules and packages, and says what to tell its viewers when its
/// sources change.
#[derive(Debug)]
pub struct AppPreview {
    shared: Arc<Shared>,
}

impl AppPreview {
    pub(super) async fn open(
        shared: Arc<Shared>,
        _scope: &Scope,
        _snapshot: &Snapshot,
        _env: &EnvSnapshot,
        _progress: &Progress,
    ) -> Result<Self> {
        Ok(Self { shared })
    }

    /// The position of the sources that it shows.
    pub fn position(&self) -> StreamPosition {
        unimplemented!()
    }

    /// Shows other sources or other variables, whatever it showed before, and returns what to send to every viewer.
    pub async fn replace(&self, _snapshot: &Snapshot, _env: &EnvSnapshot) -> Result<Vec<HotMessage>> {
        unimplemented!()
    }

    /// Brings the sources from `base` to `next` and returns what to send to every viewer; `None` if it does not stand at
    /// `base`.
    pub async fn apply(
        &self,
        _base: StreamPosition,
        _next: StreamPosition,
        _changes: &Changes,
    ) -> Result<Option<Vec<HotMessage>>> {
        unimplemented!()
    }

    /// Answers a request. Quick: nothing is waited for.
    pub fn respond(&self, _request: &PageRequest) -> PageResponse {
        unimplemented!()
    }

    /// What a viewer has missed who stands at `from` (`None`: it has just come and holds nothing).
    pub fn catch_up(&self, _from: Option<StreamPosition>) -> CatchUp {
        unimplemented!()
    }

    /// Takes a text that a viewer sent, and returns what to send to every viewer.
    pub fn client_message(&self, _text: &str) -> Vec<HotMessage> {
        unimplemented!()
    }

    /// What is wrong with the app now.
    pub fn problems(&self) -> Vec<Problem> {
        unimplemented!()
    }

    /// About how much memory it holds by itself, in bytes; what it shares with others is not counted.
    pub fn retained_bytes(&self) -> usize {
        unimplemented!()
    }
}
