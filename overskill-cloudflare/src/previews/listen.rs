//! What rooms want of this service.

use super::{CloudflarePreviews, RoomStatus};
use futures::{StreamExt as _, stream};
use overskill_core::{Result, Scope, Update};
use overskill_http::Method;
use serde::Deserialize;
use std::{collections::BTreeSet, sync::Mutex, time::Duration};

/// How long one question waits for an answer at the edge.
const WAIT_MS: u64 = 20_000;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 16;

#[derive(Deserialize)]
struct Wanted {
    events: Vec<Event>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Event {
    /// Somebody looks at a room that gave up its files.
    Empty { scope: String },
    /// A page said something that only who knows its modules can answer.
    Said { scope: String, text: String },
}

impl CloudflarePreviews {
    /// Answers what rooms want: those that lost their files are given to `refill`, which opens them again
    /// ([`AppPreview::refill`](overskill_core::AppPreview::refill)), and what pages say is answered here.
    ///
    /// It never ends; the host spawns it, once. Without it, rooms that were given up stay empty until they are opened, and
    /// where a module refuses its update pages load anew instead of updating what imports it.
    pub async fn listen<F: Future<Output = ()>>(&self, refill: impl Fn(Scope) -> F) {
        let busy = Mutex::new(BTreeSet::new());
        let busy = || busy.lock().expect("nobody panics with this lock");
        let rounds = stream::unfold(FIRST_WAIT, async |wait| match self.wanted().await {
            Ok(events) => Some((events, FIRST_WAIT)),
            Err(e) => {
                tracing::warn!(error = %e, "the rooms of previews cannot be listened to");
                self.0.edge.clock().sleep(wait).await;
                Some((Vec::new(), (wait * 2).min(LONGEST_WAIT)))
            }
        });
        let answered = rounds.flat_map(stream::iter).for_each_concurrent(AT_ONCE, |event| {
            let (busy, refill) = (&busy, &refill);
            async move {
                match event {
                    Event::Empty { scope } => {
                        let Ok(scope) = scope.parse::<Scope>() else { return };
                        if busy().insert(scope.clone()) {
                            refill(scope.clone()).await;
                            busy().remove(&scope);
                        }
                    }
                    Event::Said { scope, text } => {
                        let Ok(scope) = scope.parse::<Scope>() else { return };
                        if let Err(e) = self.said(&scope, &text).await {
                            tracing::warn!(%scope, error = %e, "a page of a preview was not answered");
                        }
                    }
                }
            }
        });
        answered.await;
    }

    async fn wanted(&self) -> Result<Vec<Event>> {
        let wanted: Wanted =
            self.0.edge.ask(Method::Get, &["wanted"], "wanted", |call| call.query("wait_ms", WAIT_MS)).await?;
        Ok(wanted.events)
    }

    async fn said(&self, scope: &Scope, text: &str) -> Result<()> {
        let room = self.room(scope);
        let mut state = match &room {
            Some(room) => Some(room.turn().await),
            None => None,
        };
        let known = state.as_mut().and_then(|state| Some((state.app.clone()?, state)));
        let Some((app, state)) = known else {
            // Nothing is known of its modules: pages begin anew.
            let reloaded: Result<RoomStatus> = self.call(Method::Post, scope, "reload", |call| call).await;
            return reloaded.map(drop);
        };
        let messages = app.client_message(text);
        if messages.is_empty() {
            return Ok(());
        }
        state.untold(messages);
        self.flush(scope, state).await.map(drop)
    }

    /// What becomes of an update of an app that was not opened here.
    pub(super) async fn missed(&self, scope: &Scope, next: overskill_core::StreamPosition) -> Result<Update> {
        let is = self.edge_status(scope).await?;
        Ok(match is.open_at() {
            Some(have) if have == next => Update::Applied,
            have => Update::Missed { have },
        })
    }
}
