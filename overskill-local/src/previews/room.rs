//! One preview: what it shows, and who looks.

use overskill_build::preview::{AppPreview, CatchUp, HotMessage, PreviewEngine};
use overskill_core::{Changes, EnvSnapshot, Progress, Result, Scope, Secret, Snapshot, StreamPosition, Update};
use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use tokio::{
    sync::{MutexGuard, Notify, mpsc},
    task::JoinSet,
};

/// How many messages wait for a viewer before it is cut: it comes back by itself and gets what it missed, or loads anew.
const QUEUE: usize = 256;

/// What progress ends with.
pub(super) const OPEN: &str = "The preview is open.";

/// One preview. It is there before its sources are, and after they were lost.
#[derive(Debug)]
pub(crate) struct Room {
    token: Secret,
    /// Whose turn it is to change what is shown; true once the room was closed.
    turn: tokio::sync::Mutex<bool>,
    /// The same, for those who wait for it.
    closed: AtomicBool,
    closing: Notify,
    shown: Mutex<Option<Shown>>,
    wanted: AtomicBool,
    /// Whether it is known after a restart.
    remembered: AtomicBool,
    viewers: Mutex<Vec<Arc<Seat>>>,
    next_seat: AtomicU64,
}

#[derive(Debug)]
struct Shown {
    app: Arc<AppPreview>,
    /// What waits for its packages, while they are on their way. It ends with this.
    waiting: Option<JoinSet<()>>,
}

/// A message on its way to viewers; its text is shared by all of them.
#[derive(Clone, Debug)]
pub(crate) struct Hot {
    pub(crate) position: Option<StreamPosition>,
    pub(crate) text: axum::extract::ws::Utf8Bytes,
}

/// Why a viewer is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It did not take its messages.
    Slow,
    /// The preview was closed.
    Closed,
}

/// The room's side of a viewer.
#[derive(Debug)]
struct Seat {
    id: u64,
    queue: mpsc::Sender<Hot>,
    cut: Mutex<Option<Cut>>,
    is_cut: Notify,
}

/// A viewer's side. It leaves when it is dropped.
#[derive(Debug)]
pub(crate) struct Viewer {
    room: Arc<Room>,
    seat: Arc<Seat>,
    queue: mpsc::Receiver<Hot>,
}

impl Room {
    pub(super) fn new(token: Secret) -> Self {
        Self {
            token,
            turn: tokio::sync::Mutex::new(false),
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            shown: Mutex::default(),
            wanted: AtomicBool::new(false),
            remembered: AtomicBool::new(false),
            viewers: Mutex::default(),
            next_seat: AtomicU64::new(0),
        }
    }

    /// What it shows, if it has sources.
    pub(crate) fn shown(&self) -> Option<Arc<AppPreview>> {
        self.shown.lock().expect("nobody panics with this lock").as_ref().map(|shown| shown.app.clone())
    }

    /// What a page's socket has to show.
    pub(crate) fn token(&self) -> &Secret {
        &self.token
    }

    /// How many look.
    pub(crate) fn viewers(&self) -> u32 {
        u32::try_from(self.viewers.lock().expect("nobody panics with this lock").len()).unwrap_or(u32::MAX)
    }

    pub(super) fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    pub(super) fn remembered(&self) {
        self.remembered.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_remembered(&self) -> bool {
        self.remembered.load(Ordering::Relaxed)
    }

    /// Waits for a turn; `None` once the room was closed.
    pub(super) async fn turn(self: &Arc<Self>) -> Option<Turn<'_>> {
        let turn = self.turn.lock().await;
        (!*turn).then_some(Turn { room: self, closed: turn })
    }

    /// Ends once the room was closed.
    pub(crate) async fn closed(&self) {
        let told = self.closing.notified(); // before the look, so that nothing is missed
        if !self.closed.load(Ordering::Acquire) {
            told.await;
        }
    }

    /// Takes somebody in, and says what they missed since `from`; `epoch` is their page's. What is sent from now on waits in
    /// their queue.
    pub(crate) fn join(
        self: &Arc<Self>,
        from: Option<StreamPosition>,
        epoch: Option<u64>,
    ) -> Option<(Viewer, Vec<Hot>)> {
        let (sender, queue) = mpsc::channel(QUEUE);
        let id = self.next_seat.fetch_add(1, Ordering::Relaxed);
        let seat = Arc::new(Seat { id, queue: sender, cut: Mutex::default(), is_cut: Notify::new() });
        // The seat first: what happens in between is told twice rather than not at all.
        self.viewers.lock().expect("nobody panics with this lock").push(seat.clone());
        metrics::gauge!(crate::instruments::VIEWERS).increment(1);
        let viewer = Viewer { room: self.clone(), seat, queue };
        let missed = match self.shown()?.catch_up(from, epoch) {
            CatchUp::Messages(messages) => messages,
            CatchUp::Reload(message) => vec![message],
        };
        Some((viewer, missed.into_iter().map(Hot::from).collect()))
    }

    /// Takes what a viewer said.
    pub(crate) fn hear(&self, text: &str) {
        if let Some(app) = self.shown() {
            self.tell(app.client_message(text));
        }
    }

    /// Tells everybody. Who does not listen is cut.
    fn tell(&self, messages: Vec<HotMessage>) {
        let messages: Vec<Hot> = messages.into_iter().map(Hot::from).collect();
        if messages.is_empty() {
            return;
        }
        self.viewers.lock().expect("nobody panics with this lock").retain(|seat| {
            let heard = messages.iter().all(|message| seat.queue.try_send(message.clone()).is_ok());
            if !heard {
                seat.cut(Cut::Slow);
                metrics::gauge!(crate::instruments::VIEWERS).decrement(1);
            }
            heard
        });
    }
}

/// The right to change what a room shows.
pub(super) struct Turn<'a> {
    room: &'a Arc<Room>,
    closed: MutexGuard<'a, bool>,
}

impl Turn<'_> {
    /// Shows a snapshot unless what is shown is as new, and says what is shown then; and whether that still waits for its
    /// packages: then `progress` is completed when they came.
    pub(super) async fn open(
        &self,
        engine: &PreviewEngine,
        scope: &Scope,
        snapshot: &Snapshot,
        env: &EnvSnapshot,
        progress: &Progress,
    ) -> Result<(StreamPosition, bool)> {
        let Some(app) = self.room.shown() else {
            let app = Arc::new(engine.open(scope, snapshot, env, progress).await?);
            let position = app.position();
            let waiting = app.is_preparing().then(|| {
                let mut waiting = JoinSet::new();
                waiting.spawn(packages_came(Arc::downgrade(self.room), app.clone(), progress.clone()));
                waiting
            });
            let waits = waiting.is_some();
            *self.room.shown.lock().expect("nobody panics with this lock") = Some(Shown { app, waiting });
            self.room.wanted.store(false, Ordering::Relaxed);
            return Ok((position, waits));
        };
        let is_newer = snapshot.position.behind(app.position()).is_none();
        // Sources that are older than those shown leave those shown; only the variables are taken. Where nothing differs,
        // packages that could not be had are tried again.
        let messages =
            if is_newer { app.replace(snapshot, env).await? } else { app.replace(&app.sources(), env).await? };
        let position = app.position();
        self.room.tell(messages);
        Ok((position, false))
    }

    /// Brings what is shown from `base` to `next`.
    pub(super) async fn apply(&self, base: StreamPosition, next: StreamPosition, changes: &Changes) -> Result<Update> {
        let Some(app) = self.room.shown() else { return Ok(Update::Missed { have: None }) };
        let have = app.position();
        if have != base {
            // A repeated call finds the new position already there.
            return Ok(if have == next { Update::Applied } else { Update::Missed { have: Some(have) } });
        }
        Ok(match app.apply(base, next, changes).await? {
            Some(messages) => {
                self.room.tell(messages);
                Update::Applied
            }
            None => Update::Missed { have: Some(app.position()) },
        })
    }

    /// Whether it shows nothing and never did.
    pub(super) fn is_unused(&self) -> bool {
        self.room.shown().is_none() && !self.room.is_remembered()
    }

    /// Lets everybody go.
    pub(super) fn close(mut self) {
        *self.closed = true;
        self.room.closed.store(true, Ordering::Release);
        self.room.closing.notify_waiters();
        *self.room.shown.lock().expect("nobody panics with this lock") = None;
        for seat in self.room.viewers.lock().expect("nobody panics with this lock").drain(..) {
            seat.cut(Cut::Closed);
            metrics::gauge!(crate::instruments::VIEWERS).decrement(1);
        }
    }
}

/// Waits until an app has its packages, and tells viewers if it cannot have them.
async fn packages_came(room: Weak<Room>, app: Arc<AppPreview>, progress: Progress) {
    app.ready().await;
    let Some(room) = room.upgrade() else { return };
    // Between two changes, so that nobody is told of them in another order.
    let Some(turn) = room.turn().await else { return };
    turn.room.tell(app.untold());
    progress.complete(OPEN);
    let mut shown = room.shown.lock().expect("nobody panics with this lock");
    if let Some(shown) = shown.as_mut().filter(|shown| Arc::ptr_eq(&shown.app, &app)) {
        shown.waiting = None; // nothing of this is kept
    }
}

impl Seat {
    fn cut(&self, why: Cut) {
        *self.cut.lock().expect("nobody panics with this lock") = Some(why);
        self.is_cut.notify_one();
    }

    async fn until_cut(&self) -> Cut {
        loop {
            if let Some(why) = *self.cut.lock().expect("nobody panics with this lock") {
                return why;
            }
            self.is_cut.notified().await;
        }
    }
}

impl Viewer {
    /// The next message, or why there will be none. A call that is dropped takes nothing.
    pub(crate) async fn next(&mut self) -> std::result::Result<Hot, Cut> {
        let Self { seat, queue, .. } = self;
        tokio::select! {
            biased;
            why = seat.until_cut() => Err(why),
            // The seat keeps a sender, so the queue never ends by itself.
            Some(message) = queue.recv() => Ok(message),
        }
    }

    /// Ends when the room lets the viewer go.
    pub(crate) async fn cut(&self) -> Cut {
        self.seat.until_cut().await
    }

    pub(crate) fn room(&self) -> &Room {
        &self.room
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut viewers = self.room.viewers.lock().expect("nobody panics with this lock");
        let before = viewers.len();
        viewers.retain(|seat| seat.id != self.seat.id);
        if viewers.len() < before {
            metrics::gauge!(crate::instruments::VIEWERS).decrement(1);
        }
    }
}

impl From<HotMessage> for Hot {
    fn from(message: HotMessage) -> Self {
        Self { position: message.position, text: message.text.into() }
    }
}
