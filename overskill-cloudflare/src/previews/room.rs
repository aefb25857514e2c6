//! What is known here of one room.

use super::{mode::Brought, server::Built};
use overskill_build::preview::{AppPreview, HotMessage};
use overskill_core::{EnvSnapshot, StreamPosition};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Mutex, MutexGuard};

/// One room: whoever has the turn changes it.
#[derive(Debug, Default)]
pub(super) struct Room {
    state: Mutex<State>,
    /// Whether it was opened here; for those who do not wait for the turn.
    open: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) app: Option<Arc<AppPreview>>,
    pub(super) env: Option<EnvSnapshot>,
    /// The app's own server side, if it has one and there is a builder.
    pub(super) server: Option<Built>,
    /// What the room was given last; `None` where that is not known.
    pub(super) given: Option<Given>,
    /// What the account has for its script, where one serves.
    pub(super) brought: Brought,
    /// What is on its way: it may have landed, whatever became of the call.
    pub(super) sent: Option<(Given, usize)>,
    /// What viewers were not told yet.
    pub(super) news: Vec<HotMessage>,
    /// Whether the room has to be given something.
    pub(super) dirty: bool,
    /// Most likely the room shows nothing: these are the first sources that there are, and it was told nothing yet.
    pub(super) is_new: bool,
    pub(super) closed: bool,
    open: Arc<AtomicBool>,
}

/// What a room shows after a push.
#[derive(Clone, Debug)]
pub(super) struct Given {
    /// The push, told from all others.
    pub(super) push: String,
    pub(super) position: StreamPosition,
    /// What tells each file from other versions of it, by key.
    pub(super) files: BTreeMap<String, String>,
    /// Its server side.
    pub(super) server: Value,
}

impl Room {
    pub(super) async fn turn(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().await;
        state.open = self.open.clone();
        state
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }
}

impl State {
    pub(super) fn opened(&mut self, app: Arc<AppPreview>, env: EnvSnapshot) {
        let (is_new, open) = (app.position().seq <= 1, self.open.clone());
        *self = Self { app: Some(app), env: Some(env), dirty: true, is_new, open, ..Self::default() };
    }

    pub(super) fn untold(&mut self, messages: Vec<HotMessage>) {
        self.news.extend(messages);
        self.dirty = true;
    }

    /// Where the room stands, as far as it is known.
    pub(super) fn shown_at(&self) -> StreamPosition {
        self.given.as_ref().map_or(StreamPosition::start(overskill_core::Incarnation::from_u64(0)), |it| it.position)
    }

    /// It is shown.
    pub(super) fn given(&mut self, given: Given, told: usize) {
        self.given = Some(given);
        self.sent = None;
        self.news.drain(..told.min(self.news.len()));
        self.dirty = !self.news.is_empty();
        self.open.store(true, Ordering::Relaxed);
    }

    /// It is not known any more what the room has, unless what is on its way is found there.
    pub(super) fn lost_all_but_sent(&mut self) {
        self.given = None;
        self.brought = Brought::default();
        self.dirty = true;
    }

    /// Whatever the room had may be gone.
    pub(super) fn lost(&mut self) {
        self.given = None;
        self.brought = Brought::default();
        self.sent = None;
        self.dirty = true;
    }

    pub(super) fn close(&mut self) {
        self.open.store(false, Ordering::Relaxed);
        *self = Self { closed: true, open: self.open.clone(), ..Self::default() };
    }
}
