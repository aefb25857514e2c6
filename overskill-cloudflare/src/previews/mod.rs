//! Live previews at the edge.

mod listen;
mod mode;
mod push;
mod room;
mod server;

pub use mode::PreviewMode;

use crate::{edge::Edge, runtime};
use async_trait::async_trait;
use overskill_build::preview::PreviewEngine;
use overskill_core::{
    BackendName, Builder, Changes, EnvSnapshot, Preview, PreviewHost, PreviewStatus, Progress, ProgressSink, Readiness,
    Result, Scope, Snapshot, StreamName, StreamPosition, Update,
};
use overskill_http::{Call, Method};
use push::Shelves;
use room::{Room, State};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

/// The path of a preview's socket.
const SOCKET_PATH: &str = "/@overskill/socket";

/// Shows apps while they are being written, at `https://preview-{app}.{domain}`: the sources are compiled here, and what is
/// ready is pushed to the app's `PreviewRoom`, a Durable Object of the dispatch Worker, which serves it and holds the sockets.
/// No script is deployed, and none of the account's API calls is spent, unless another [`mode`](Self::mode) is set. Clones
/// share it. Made by [`Edge::previews`].
///
/// A preview is open once all that its pages load is at the edge, its packages too; while these are being prepared its page
/// tries again by itself. A room that had to give up its files says so: [`listen`](Self::listen) brings them back.
///
/// After a restart of this process the rooms go on as they are. The first change of an app then is
/// [`Missed`](Update::Missed), as nothing is known here of the graph of its modules: open the preview, and pages load anew if
/// anything differs.
#[derive(Clone)]
pub struct CloudflarePreviews(Arc<Inner>);

struct Inner {
    edge: Edge,
    engine: PreviewEngine,
    rooms: Mutex<HashMap<Scope, Arc<Room>>>,
    shelves: Shelves,
    progress: Option<Arc<dyn ProgressSink>>,
    servers: Option<Arc<dyn Builder>>,
    /// Of the server sides.
    date: String,
    mode: PreviewMode,
    /// The id of the KV namespace where files are in KV.
    kv: Mutex<Option<String>>,
}

impl Edge {
    /// The host of previews, which compiles with `engine`.
    pub fn previews(&self, engine: PreviewEngine) -> CloudflarePreviews {
        CloudflarePreviews(Arc::new(Inner {
            edge: self.clone(),
            engine,
            rooms: Mutex::default(),
            shelves: Shelves::default(),
            progress: None,
            servers: None,
            date: runtime::DATE.to_owned(),
            mode: PreviewMode::Shared,
            kv: Mutex::default(),
        }))
    }
}

impl CloudflarePreviews {
    /// Tells progress of opening there, on the stream `previews_{app}`.
    ///
    /// Before anything is opened: what was cloned before does not learn of it.
    pub fn progress_to(self, sink: impl ProgressSink) -> Self {
        self.changed(|inner| inner.progress = Some(Arc::new(sink)))
    }

    /// Builds the server sides of apps (`src/worker.ts`) with `builder`, to be run by the dispatch Worker's Worker Loader:
    /// still without a script for each app. What the app has no file for goes to it, and every method but GET and HEAD. It
    /// gets the variables of the preview's environment as its `env`, and the runtime's behaviour as where it is deployed:
    /// Node's modules if its package.json says `"overskill": {"node": true}`, and that of
    /// [a day](Self::compatibility_date). Unless this is set, such apps are shown without it.
    ///
    /// Before anything is opened, as above.
    pub fn servers(self, builder: impl Builder) -> Self {
        self.changed(|inner| inner.servers = Some(Arc::new(builder)))
    }

    /// The day whose behaviour of the runtime server sides get: `2026-11-01` unless set. Whoever names another for deployed apps
    /// ([`CloudflareBuilder::compatibility_date`](crate::CloudflareBuilder::compatibility_date)) names it here too, or a
    /// preview behaves otherwise than what is deployed of it.
    ///
    /// Before anything is opened, as above.
    ///
    /// # Errors
    /// `Invalid` when it is not written like `2026-11-01`.
    pub fn compatibility_date(self, date: impl Into<String>) -> Result<Self> {
        let date = date.into();
        crate::cloudflare::check_date(&date).map_err(|e| e.at(self.name().to_string(), "compatibility_date"))?;
        Ok(self.changed(|inner| inner.date = date))
    }

    /// Another host with other settings, to which nothing was opened yet.
    fn changed(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let Inner { edge, engine, progress, servers, date, mode, .. } = &*self.0;
        let mut inner = Inner {
            edge: edge.clone(),
            engine: engine.clone(),
            rooms: Mutex::default(),
            shelves: Shelves::default(),
            progress: progress.clone(),
            servers: servers.clone(),
            date: date.clone(),
            mode: mode.clone(),
            kv: Mutex::default(),
        };
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// What is wrong with an app that was opened here; `None` if none was.
    pub async fn problems(&self, scope: &Scope) -> Option<Vec<overskill_build::Problem>> {
        let room = self.room(scope)?;
        let state = room.turn().await;
        Some(state.app.as_ref()?.problems())
    }

    /// Lets a room give up what it shows, as it does by itself when nobody came for long: the next one who looks waits until
    /// it is [refilled](Self::listen).
    pub async fn evict(&self, scope: &Scope) -> Result<()> {
        let answer: Result<RoomStatus> = self.call(Method::Post, scope, "evict", |call| call).await;
        let room = self.room(scope);
        if let Some(room) = room {
            room.turn().await.lost();
        }
        answer.map(drop)
    }

    fn room(&self, scope: &Scope) -> Option<Arc<Room>> {
        self.0.rooms.lock().expect("nobody panics with this lock").get(scope).cloned()
    }

    fn room_or_new(&self, scope: &Scope) -> Arc<Room> {
        let mut rooms = self.0.rooms.lock().expect("nobody panics with this lock");
        rooms.entry(scope.clone()).or_default().clone()
    }

    fn forget(&self, scope: &Scope) {
        self.0.rooms.lock().expect("nobody panics with this lock").remove(scope);
    }

    fn preview(&self, scope: &Scope, position: StreamPosition) -> Preview {
        let edge = &self.0.edge;
        Preview::new(edge.address(scope, false, ""), edge.address(scope, true, SOCKET_PATH), position)
    }

    fn progress_of(&self, scope: &Scope, snapshot: &Snapshot) -> Progress {
        let Some(sink) = &self.0.progress else { return Progress::discard() };
        let stream = StreamName::parse(&format!("previews_{}", scope.app)).expect("a legal name");
        let run = Progress::to(sink.clone(), stream, snapshot.position.to_string());
        run.clock(self.0.edge.clock().clone()).start("Opening the preview")
    }

    /// What the room says of itself.
    async fn edge_status(&self, scope: &Scope) -> Result<RoomStatus> {
        self.call(Method::Get, scope, "", |call| call).await
    }

    /// A call to the room of a scope.
    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        scope: &Scope,
        what: &'static str,
        with: impl FnOnce(Call) -> Call,
    ) -> Result<T> {
        let mut path = vec!["previews", scope.app.as_str(), scope.environment.as_str()];
        path.extend((!what.is_empty()).then_some(what));
        let operation = if what.is_empty() { "preview" } else { what };
        // Everything that a room is told may be told again.
        self.0.edge.ask(method, &path, operation, |call| with(call.for_app(&scope.app)).idempotent()).await
    }

    fn failed(&self, e: overskill_core::Error, operation: &'static str, scope: &Scope) -> overskill_core::Error {
        let e = if e.operation().is_empty() { e.at(self.0.edge.name().to_string(), operation) } else { e };
        e.with("scope", scope)
    }

    async fn opened(
        &self,
        scope: &Scope,
        state: &mut State,
        snapshot: &Snapshot,
        env: &EnvSnapshot,
        progress: &Progress,
    ) -> Result<StreamPosition> {
        if let Some(app) = state.app.clone() {
            let is = self.edge_status(scope).await?;
            // It gave up what it had, or somebody else was here.
            if state.given.as_ref().is_some_and(|given| is.open_at().is_none() || is.push.as_ref() != Some(&given.push))
            {
                state.lost_all_but_sent();
            }
            let newer = snapshot.position.behind(app.position()).is_none();
            // Sources that are older than those shown leave those shown; only the variables are taken.
            let sources = if newer { snapshot } else { &app.sources() };
            let messages = app.replace(sources, env).await?;
            if !messages.is_empty() || app.position() != state.shown_at() || state.env.as_ref() != Some(env) {
                state.untold(messages);
            }
            state.env = Some(env.clone());
        } else {
            // Whether another service, or this one before it was restarted, was farther is said when it is pushed.
            let app = Arc::new(self.0.engine.open(scope, snapshot, env, progress).await?);
            if app.is_preparing() {
                let _: RoomStatus = self.call(Method::Post, scope, "prepare", |call| call).await?;
            }
            state.opened(app, env.clone());
        }
        match self.flush(scope, state).await? {
            push::Flushed::Shown(position) => Ok(position),
            push::Flushed::Overtaken(position) => {
                state.lost();
                state.app = None;
                Ok(position)
            }
        }
    }
}

/// What a room says of itself.
#[derive(Debug, serde::Deserialize)]
struct RoomStatus {
    state: RoomState,
    position: Option<StreamPosition>,
    push: Option<String>,
    #[serde(default)]
    viewers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoomState {
    Closed,
    Preparing,
    Empty,
    Open,
}

impl RoomStatus {
    /// Where it stands, if it shows something.
    fn open_at(&self) -> Option<StreamPosition> {
        self.position.filter(|_| self.state == RoomState::Open)
    }
}

impl fmt::Debug for CloudflarePreviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms = self.0.rooms.lock().expect("nobody panics with this lock").len();
        f.debug_struct("CloudflarePreviews").field("edge", &self.0.edge).field("rooms", &rooms).finish_non_exhaustive()
    }
}

#[async_trait]
impl PreviewHost for CloudflarePreviews {
    fn name(&self) -> BackendName {
        self.0.edge.name().clone()
    }

    async fn check(&self) -> Result<Readiness> {
        self.0.edge.readiness().await
    }

    async fn open(&self, scope: &Scope, snapshot: &Snapshot, env: &EnvSnapshot) -> Result<Preview> {
        loop {
            let room = self.room_or_new(scope);
            let mut state = room.turn().await;
            if state.closed {
                continue; // meanwhile
            }
            let progress = if state.app.is_none() { self.progress_of(scope, snapshot) } else { Progress::discard() };
            let opened = self.opened(scope, &mut state, snapshot, env, &progress).await;
            let position = opened.map_err(|e| {
                progress.fail(&e);
                self.failed(e, "open", scope)
            })?;
            progress.complete("The preview is open.");
            return Ok(self.preview(scope, position));
        }
    }

    async fn apply(
        &self,
        scope: &Scope,
        base: StreamPosition,
        next: StreamPosition,
        changes: &Changes,
    ) -> Result<Update> {
        let applied = async {
            let Some(room) = self.room(scope) else { return self.missed(scope, next).await };
            let mut state = room.turn().await;
            let Some(app) = state.app.clone() else { return self.missed(scope, next).await };
            // What an earlier call left undone.
            if let push::Flushed::Overtaken(have) = self.flush(scope, &mut state).await? {
                state.app = None;
                return Ok(Update::Missed { have: Some(have) });
            }
            let have = app.position();
            if have != base {
                // A repeated call finds the new position already there.
                return Ok(if have == next { Update::Applied } else { Update::Missed { have: Some(have) } });
            }
            let Some(messages) = app.apply(base, next, changes).await? else {
                return Ok(Update::Missed { have: Some(app.position()) });
            };
            state.untold(messages);
            Ok(match self.flush(scope, &mut state).await? {
                push::Flushed::Shown(_) => Update::Applied,
                push::Flushed::Overtaken(have) => {
                    state.app = None;
                    Update::Missed { have: Some(have) }
                }
            })
        };
        applied.await.map_err(|e| self.failed(e, "apply", scope))
    }

    async fn status(&self, scope: &Scope) -> Result<PreviewStatus> {
        let is = self.edge_status(scope).await.map_err(|e| self.failed(e, "status", scope))?;
        Ok(match (is.state, is.open_at()) {
            (_, Some(position)) => PreviewStatus::Open { preview: self.preview(scope, position), viewers: is.viewers },
            (RoomState::Preparing | RoomState::Empty, None) => PreviewStatus::Empty,
            (RoomState::Closed | RoomState::Open, None) => {
                // A room that lost everything does not know that it was open.
                let room = self.room(scope);
                let lost = room.is_some_and(|room| room.is_open());
                if lost { PreviewStatus::Empty } else { PreviewStatus::Closed }
            }
        })
    }

    async fn close(&self, scope: &Scope) -> Result<()> {
        let room = self.room(scope);
        let mut turn = match &room {
            Some(room) => Some(room.turn().await),
            None => None,
        };
        let closed: Result<RoomStatus> = self.call(Method::Delete, scope, "", |call| call).await;
        closed.map_err(|e| self.failed(e, "close", scope))?;
        self.take_away(scope).await.map_err(|e| self.failed(e, "close", scope))?;
        if let Some(state) = &mut turn {
            state.close();
            self.forget(scope);
        }
        Ok(())
    }
}
