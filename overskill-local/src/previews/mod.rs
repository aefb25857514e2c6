//! The embedded host of live previews.

mod room;

use room::Turn;
pub(crate) use room::{Cut, Hot, Room, Viewer};

use crate::{
    disk::{self, blocking},
    options::Addresses,
};
use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use hmac::{Hmac, KeyInit as _, Mac as _};
use overskill_build::preview::PreviewEngine;
use overskill_core::{
    BackendName, Changes, Clock, EnvSnapshot, Preview, PreviewHost, PreviewStatus, Progress, ProgressSink, Readiness,
    Result, Scope, Secret, Snapshot, StreamName, StreamPosition, Update,
};
use std::{
    collections::{BTreeSet, HashMap},
    fmt, fs,
    num::NonZero,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::available_parallelism,
};
use tokio::sync::Notify;

/// The path of a preview's socket.
pub(crate) const SOCKET_PATH: &str = "/@overskill/socket";

/// Shows apps while they are being written: `http://preview-{app}.localhost:PORT`, with hot reload. Clones share it. Made by
/// [`LocalBackends::previews`](crate::LocalBackends::previews).
///
/// It holds sources in memory alone. After a restart it remembers which previews were open: whoever looks at one sees a page
/// that tries again, its status is [`Empty`](PreviewStatus::Empty), and [`next_empty`](Self::next_empty) names it, until it is
/// opened again. A page that was open all the time goes on where it was.
///
/// A preview is open as soon as its page can be loaded; its packages may still be on their way then. What imports some waits
/// for them, and so does [`ready`](Self::ready); the progress of opening it is complete once they came. Opening it and
/// changing it happens within a runtime of tokio.
#[derive(Clone)]
pub struct LocalPreviewHost(Arc<Inner>);

struct Inner {
    name: BackendName,
    engine: PreviewEngine,
    addresses: Addresses,
    /// A file for each open preview, so that they are known after a restart.
    folder: PathBuf,
    /// What the tokens of sockets are made of. It outlives a restart, so that open pages find their way back.
    key: Secret,
    rooms: Mutex<HashMap<Scope, Arc<Room>>>,
    /// Previews without sources that somebody asked for, and who waits for them.
    wanted: Mutex<BTreeSet<Scope>>,
    is_wanted: Notify,
    progress: Arc<dyn ProgressSink>,
    clock: Arc<dyn Clock>,
}

impl LocalPreviewHost {
    pub(crate) fn new(
        name: BackendName,
        engine: PreviewEngine,
        addresses: Addresses,
        folder: PathBuf,
        key: Secret,
        progress: Arc<dyn ProgressSink>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        fs::create_dir_all(&folder).map_err(|e| disk::failed("the folder of open previews could not be made", e))?;
        let inner = Inner {
            name,
            engine,
            addresses,
            folder,
            key,
            rooms: Mutex::default(),
            wanted: Mutex::default(),
            is_wanted: Notify::new(),
            progress,
            clock,
        };
        let host = Self(Arc::new(inner));
        let known = fs::read_dir(&host.0.folder).map_err(|e| disk::failed("the open previews could not be read", e))?;
        for entry in known.flatten() {
            if let Some(scope) = entry.file_name().to_str().and_then(|label| Scope::from_host_label(label).ok()) {
                host.room_or_new(&scope).remembered();
            }
        }
        Ok(host)
    }

    /// Waits until somebody looks at a preview whose sources were lost, and names it. A host of the platform answers with
    /// [`AppPreview::refill`](overskill_core::AppPreview::refill); see [`refill_each`](Self::refill_each).
    pub async fn next_empty(&self) -> Scope {
        loop {
            let notified = self.0.is_wanted.notified();
            let next = self.0.wanted.lock().expect("nobody panics with this lock").pop_first();
            match next {
                Some(scope) => return scope,
                None => notified.await,
            }
        }
    }

    /// Calls `refill` for each preview whose sources were lost as soon as somebody looks at it: for as many at once as there are
    /// processors, and for each of them once at a time. One that was in vain is called again when somebody looks again.
    ///
    /// It never ends. What is under way is dropped with it.
    pub async fn refill_each<F: Future<Output = ()>>(&self, refill: impl Fn(Scope) -> F) {
        let at_once = available_parallelism().map_or(2, NonZero::get).max(2);
        let busy = Mutex::new(BTreeSet::new());
        let busy = || busy.lock().expect("nobody panics with this lock");
        let wanted = stream::unfold((), |()| async { Some((self.next_empty().await, ())) });
        let refilled = wanted.for_each_concurrent(at_once, |scope| {
            let filling = busy().insert(scope.clone()).then(|| refill(scope.clone()));
            let busy = &busy;
            async move {
                if let Some(filling) = filling {
                    filling.await;
                    busy().remove(&scope);
                }
            }
        });
        refilled.await;
    }

    /// Waits until the packages of an app that is shown are there, or known not to be had: its page can be loaded before, but
    /// what imports packages waits for them. False if it is not open, or closed meanwhile.
    pub async fn ready(&self, scope: &Scope) -> bool {
        let Some(room) = self.room(scope) else { return false };
        let Some(app) = room.shown() else { return false };
        tokio::select! {
            biased;
            () = app.ready() => true,
            () = room.closed() => false,
        }
    }

    /// What is wrong with an app that is shown; `None` if it is not open. What is wrong with its packages is known once it is
    /// [`ready`](Self::ready).
    pub fn problems(&self, scope: &Scope) -> Option<Vec<overskill_build::Problem>> {
        Some(self.room(scope)?.shown()?.problems())
    }

    /// A room of a preview that is open, or was before a restart.
    pub(crate) fn room(&self, scope: &Scope) -> Option<Arc<Room>> {
        self.0.rooms.lock().expect("nobody panics with this lock").get(scope).cloned()
    }

    /// Somebody asks for a preview whose sources are not there.
    pub(crate) fn want(&self, scope: &Scope, room: &Room) {
        room.want();
        self.0.wanted.lock().expect("nobody panics with this lock").insert(scope.clone());
        self.0.is_wanted.notify_one();
    }

    /// Every preview that is open, or was before a restart.
    pub(crate) fn scopes(&self) -> Vec<Scope> {
        let mut scopes: Vec<_> = self.0.rooms.lock().expect("nobody panics with this lock").keys().cloned().collect();
        scopes.sort();
        scopes
    }

    fn room_or_new(&self, scope: &Scope) -> Arc<Room> {
        let mut rooms = self.0.rooms.lock().expect("nobody panics with this lock");
        rooms.entry(scope.clone()).or_insert_with(|| Arc::new(Room::new(self.0.token(scope)))).clone()
    }

    fn preview(&self, scope: &Scope, position: StreamPosition) -> Preview {
        let addresses = &self.0.addresses;
        Preview::new(addresses.of(scope), addresses.socket(scope, SOCKET_PATH), position)
    }

    fn failed(&self, e: overskill_core::Error, operation: &'static str, scope: &Scope) -> overskill_core::Error {
        let e = if e.operation().is_empty() { e.at(self.0.name.to_string(), operation) } else { e };
        e.with("scope", scope)
    }
}

impl Inner {
    /// What a page's socket has to show: nobody guesses it who has not the page or the key.
    fn token(&self, scope: &Scope) -> Secret {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(self.key.expose().as_bytes()).expect("any length is legal");
        mac.update(b"overskill preview socket 1\0");
        mac.update(scope.to_string().as_bytes());
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        Secret::new(&overskill_core::Digest::from_bytes(digest).to_string()[..32])
    }

    fn progress_of(&self, scope: &Scope, snapshot: &Snapshot) -> Progress {
        let stream = StreamName::parse(&format!("previews_{}", scope.app)).expect("a legal name");
        let run = Progress::to(self.progress.clone(), stream, snapshot.position.to_string());
        run.clock(self.clock.clone()).start("Opening the preview")
    }

    async fn remember(self: &Arc<Self>, scope: &Scope) -> Result<()> {
        let path = self.folder.join(scope.host_label());
        blocking(move || {
            // Not forced to the disk: what is forgotten in a power cut is opened again by whoever wants it.
            fs::write(path, b"").map_err(|e| disk::failed("an open preview could not be remembered", e))
        })
        .await
    }

    async fn forget(self: &Arc<Self>, scope: &Scope) -> Result<()> {
        let path = self.folder.join(scope.host_label());
        blocking(move || disk::remove(&path)).await
    }
}

/// A room that is being opened. If that fails, or whoever asked does not wait for it, a room that was not there before is
/// none: else it would be prepared for ever before the eyes of who looks.
struct Opening<'a> {
    host: &'a Inner,
    scope: &'a Scope,
    turn: Option<Turn<'a>>,
}

impl<'a> Opening<'a> {
    fn get(&self) -> &Turn<'a> {
        self.turn.as_ref().expect("it is taken when this is dropped")
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take_if(|turn| turn.is_unused()) {
            self.host.rooms.lock().expect("nobody panics with this lock").remove(self.scope);
            self.host.wanted.lock().expect("nobody panics with this lock").remove(self.scope);
            turn.close();
        }
    }
}

impl fmt::Debug for LocalPreviewHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms = self.0.rooms.lock().expect("nobody panics with this lock").len();
        f.debug_struct("LocalPreviewHost").field("name", &self.0.name).field("rooms", &rooms).finish_non_exhaustive()
    }
}

#[async_trait]
impl PreviewHost for LocalPreviewHost {
    fn name(&self) -> BackendName {
        self.0.name.clone()
    }

    async fn check(&self) -> Result<Readiness> {
        let (name, folder) = (self.0.name.to_string(), self.0.folder.clone());
        blocking(move || {
            Ok(if folder.is_dir() {
                Readiness::ready(name)
            } else {
                let missing = format!("its folder `{}` is gone", folder.display());
                Readiness::ready(name).lacks(missing, "start it again, and leave the folder where it is")
            })
        })
        .await
    }

    async fn open(&self, scope: &Scope, snapshot: &Snapshot, env: &EnvSnapshot) -> Result<Preview> {
        loop {
            let room = self.room_or_new(scope);
            let Some(turn) = room.turn().await else { continue }; // it was closed meanwhile
            let turn = Opening { host: &self.0, scope, turn: Some(turn) };
            let is_new = room.shown().is_none();
            let progress = if is_new { self.0.progress_of(scope, snapshot) } else { Progress::discard() };
            let opened = turn.get().open(&self.0.engine, scope, snapshot, env, &progress).await;
            let (position, waits) = opened.map_err(|e| {
                progress.fail(&e);
                self.failed(e, "open", scope)
            })?;
            self.0.wanted.lock().expect("nobody panics with this lock").remove(scope);
            if !room.is_remembered() {
                self.0.remember(scope).await?;
                room.remembered();
            }
            if is_new && !waits {
                progress.complete(room::OPEN);
            }
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
        let Some(room) = self.room(scope) else { return Ok(Update::Missed { have: None }) };
        let Some(turn) = room.turn().await else { return Ok(Update::Missed { have: None }) };
        turn.apply(base, next, changes).await.map_err(|e| self.failed(e, "apply", scope))
    }

    async fn status(&self, scope: &Scope) -> Result<PreviewStatus> {
        Ok(match self.room(scope) {
            None => PreviewStatus::Closed,
            Some(room) => match room.shown() {
                Some(app) => {
                    let preview = self.preview(scope, app.position());
                    PreviewStatus::Open { preview, viewers: room.viewers() }
                }
                None if room.is_wanted() => PreviewStatus::Empty,
                None => PreviewStatus::Closed,
            },
        })
    }

    async fn close(&self, scope: &Scope) -> Result<()> {
        let Some(room) = self.room(scope) else { return Ok(()) };
        let Some(turn) = room.turn().await else { return Ok(()) };
        self.0.forget(scope).await?;
        self.0.rooms.lock().expect("nobody panics with this lock").remove(scope);
        self.0.wanted.lock().expect("nobody panics with this lock").remove(scope);
        turn.close();
        Ok(())
    }
}
