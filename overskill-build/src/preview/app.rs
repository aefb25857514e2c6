//! One open preview.

use super::{
    CatchUp, HotMessage, PageRequest, PageResponse,
    draft::{Draft, Next},
    engine::Shared,
    env::{PreviewEnv, Variables},
    files::Files,
    graph::Sources,
    history::History,
    messages,
    packages::{Coming, Packages, findings},
    resolve::Ask,
    scan, serve,
    turn::{Turn, turn},
    update::Ways,
    view::View,
};
use crate::{Problem, Result};
use futures::{
    FutureExt as _,
    future::{Either, select},
};
use overskill_core::{Changes, EnvSnapshot, FilePath, Progress, Scope, Snapshot, StreamPosition};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt, mem,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::Notify;

/// One app's preview: answers requests for its pages, modules and packages, and says what to tell its viewers when its
/// sources change.
///
/// It compiles nothing that any app of its engine has compiled before, and keeps no code: an app that nobody looks at costs
/// its list of files, the graph of its modules, and what differs from other apps.
pub struct AppPreview {
    scope: Scope,
    /// Changes happen one after the other.
    changing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Other packages are on their way, or none any more.
    came: Notify,
}

pub(super) struct State {
    pub(super) view: Arc<View>,
    pub(super) history: History,
    /// Modules that changed, but whose update would only break pages: they come with what mends them.
    pub(super) pending: BTreeSet<FilePath>,
    /// Modules that left while something was broken: pages let go of them once it is mended.
    pub(super) leaving: BTreeSet<FilePath>,
    /// Modules whose last update was refused by themselves.
    invalidated: HashSet<FilePath>,
    /// A page was told that a module is broken: it may have no instance of it that could take an update.
    pub(super) served_broken: bool,
    /// What came about by itself, for viewers who are there.
    untold: Vec<HotMessage>,
}

impl AppPreview {
    pub(super) async fn open(
        shared: Arc<Shared>,
        scope: &Scope,
        snapshot: &Snapshot,
        env: &EnvSnapshot,
        progress: &Progress,
    ) -> Result<Self> {
        progress.at(0, "scanning", "Reading the app's files");
        let next = Next {
            position: snapshot.position,
            files: Files::of(snapshot, &shared.pool),
            came_or_went: true,
            variables: Arc::new(Variables::of(env)),
            follows: false,
        };
        let Draft { mut view, wanted, .. } = Draft::first(shared, next).await;
        progress.at(10, "packages", format!("Preparing {} packages", view.graph.packages.len()));
        if let Some(wanted) = wanted {
            let wanted = wanted.progress_to(progress.clone());
            view.packages = wanted.asked();
            view.coming = Some(Coming::of(wanted));
        }
        let state = State {
            history: History::new(view.position),
            view: Arc::new(view),
            pending: BTreeSet::new(),
            leaving: BTreeSet::new(),
            invalidated: HashSet::new(),
            served_broken: false,
            untold: Vec::new(),
        };
        let app = Self {
            scope: scope.clone(),
            changing: tokio::sync::Mutex::new(()),
            state: Mutex::new(state),
            came: Notify::new(),
        };
        // It begins; and what others have had prepared is there at once.
        let _ = app.ready().now_or_never();
        // Whoever looks now is told by its page.
        app.state().untold.clear();
        Ok(app)
    }

    /// Waits until its packages are there, or known not to be had: until requests are answered without waiting and
    /// [`problems`](Self::problems) are complete. A request that waits for them does the same.
    ///
    /// It is here that the work is done, and in requests that wait for it: whoever serves the preview should wait once for
    /// each that is opened, and then send on what is [`untold`](Self::untold).
    pub async fn ready(&self) {
        loop {
            let came = pin!(self.came.notified()); // before the look, so that nothing is missed
            let Some(coming) = self.view().coming.clone() else { return };
            if let Either::Left((packages, _)) = select(pin!(coming.packages()), came).await {
                self.settle(&coming, packages).await;
            }
        }
    }

    /// Whether its packages are still on their way.
    pub fn is_preparing(&self) -> bool {
        self.state().view.coming.is_some()
    }

    /// What came about by itself and was told nobody yet: that packages which were on their way cannot be had. To be sent to
    /// every viewer, in its order with what [`apply`](Self::apply) and [`replace`](Self::replace) return, which have it
    /// before their own if it was not taken.
    pub fn untold(&self) -> Vec<HotMessage> {
        mem::take(&mut self.state().untold)
    }

    /// The position of the sources that it shows.
    pub fn position(&self) -> StreamPosition {
        self.state().history.head()
    }

    /// The sources that it shows.
    pub fn sources(&self) -> Snapshot {
        let view = self.view();
        let files = view.files.iter().map(|(path, file)| (path.clone(), (**file).clone()));
        Snapshot::new(view.position, files.collect())
    }

    /// Shows other sources or other variables, and returns what to send to every viewer: nothing if they are those that it
    /// shows, one update if the sources are newer ones of the same incarnation. Older ones leave those shown.
    ///
    /// It waits for packages that the change needs, but not while those of before are still on their way.
    pub async fn replace(&self, snapshot: &Snapshot, env: &EnvSnapshot) -> Result<Vec<HotMessage>> {
        let _turn = self.changing.lock().await;
        let view = self.view();
        let variables = Variables::of(env);
        let same_life = snapshot.position.incarnation == view.position.incarnation;
        let newer = !same_life || snapshot.position.seq > view.position.seq;
        let again = view.packages.failure.is_some();
        if !newer && variables == *view.variables && !again {
            return Ok(Vec::new());
        }
        let files = if newer { Files::of(snapshot, &view.shared.pool) } else { view.files.clone() };
        let next = Next {
            position: if newer { snapshot.position } else { view.position },
            came_or_went: !files.same_paths(&view.files),
            files,
            variables: Arc::new(variables),
            follows: same_life,
        };
        Ok(self.advance(&view, next).await)
    }

    /// Brings the sources from `base` to `next` and returns what to send to every viewer; `None` if it does not stand at
    /// `base`. All changes are one update.
    ///
    /// It waits for packages that the change needs, but not while those of before are still on their way: then what the
    /// change does not need any more is dropped, and pages go on waiting for what it needs.
    pub async fn apply(
        &self,
        base: StreamPosition,
        next: StreamPosition,
        changes: &Changes,
    ) -> Result<Option<Vec<HotMessage>>> {
        let _turn = self.changing.lock().await;
        let view = self.view();
        if view.position != base || base.behind(next).is_none() {
            return Ok(None);
        }
        let (files, came_or_went) = view.files.with(changes, &view.shared.pool);
        let variables = view.variables.clone();
        let next = Next { position: next, files, came_or_went, variables, follows: true };
        Ok(Some(self.advance(&view, next).await))
    }

    /// Answers a request. At once, but for modules that import packages which are still on their way: those wait for them.
    pub async fn respond(&self, request: &PageRequest) -> PageResponse {
        loop {
            let mut view = self.view();
            if view.coming.is_some() {
                view = Arc::new(View::clone(&view)); // nobody else looks at this one
            }
            let (response, broken) = serve::respond(&view, request);
            if view.has_to_wait() {
                drop(view);
                self.ready().await;
                continue;
            }
            if broken {
                self.state().served_broken = true;
            }
            return response;
        }
    }

    /// What a viewer has missed who stands at `from` (`None`: it has just come and holds nothing), and what is wrong now.
    /// `epoch` is the one that its page was given, if it says so.
    pub fn catch_up(&self, from: Option<StreamPosition>, epoch: Option<u64>) -> CatchUp {
        let state = self.state();
        let mut missed = match from.map(|from| state.history.since(from, epoch)) {
            Some(CatchUp::Reload(message)) => return CatchUp::Reload(message),
            Some(CatchUp::Messages(messages)) => messages,
            None => Vec::new(),
        };
        let wrong = state.view.blocking();
        if let Some(first) = wrong.first() {
            missed.extend(messages::together(vec![messages::error(first, wrong.len() - 1)], None));
        }
        CatchUp::Messages(missed)
    }

    /// Takes a text that a viewer sent, and returns what to send to every viewer: a module that took its update and finds
    /// that it cannot (`vite:invalidate`) passes it on to who imports it. Everything else is for others.
    pub fn client_message(&self, text: &str) -> Vec<HotMessage> {
        const LONGEST: usize = 64 * 1024;
        let Some(message) = (text.len() <= LONGEST).then(|| serde_json::from_str::<Value>(text).ok()).flatten() else {
            return Vec::new();
        };
        let (data, event) = (&message["data"], message["event"].as_str());
        let path = data["path"].as_str().and_then(|path| FilePath::parse(path.strip_prefix('/')?).ok());
        match path {
            Some(path) if message["type"] == "custom" && event == Some("vite:invalidate") => {
                let first = data["firstInvalidatedBy"].as_str().unwrap_or_default().to_owned();
                self.invalidated(&path, &first)
            }
            _ => Vec::new(),
        }
    }

    /// What is wrong with the app now: first what keeps parts of it from running. What is wrong with packages is known once
    /// it is [`ready`](Self::ready).
    pub fn problems(&self) -> Vec<Problem> {
        let view = self.view();
        let (blocking, other): (Vec<_>, Vec<_>) = view.findings.iter().partition(|finding| finding.blocking);
        let found = blocking.iter().map(|it| &it.problem).chain(view.problems.iter());
        found.chain(other.iter().map(|it| &it.problem)).cloned().collect()
    }

    /// About how much memory it holds by itself, in bytes; what it shares with others is not counted.
    pub fn retained_bytes(&self) -> usize {
        let state = self.state();
        size_of::<Self>() + state.view.retained_bytes() + state.history.retained_bytes()
    }

    async fn advance(&self, old: &Arc<View>, next: Next) -> Vec<HotMessage> {
        let follows = next.follows;
        let Draft { view: mut new, wanted, differing } = Draft::after(old, next).await;
        match (wanted, &old.coming) {
            // Who waits goes on with these; what nobody waits for any more is dropped.
            (Some(wanted), Some(coming)) => {
                new.packages = wanted.asked();
                new.coming = Some(coming.instead(wanted));
            }
            (Some(wanted), None) => new.packages = wanted.prepare().await,
            (None, _) => {}
        }
        if new.coming.is_none() {
            new.findings = findings(new.sources(), &new.graph, &new.packages).into();
        }
        let mut state = self.state();
        let old = state.view.clone(); // with the stamps of updates that were refused meanwhile
        new.stamps.clone_from(&old.stamps);
        new.epoch = state.history.epoch();
        let moved = new.position != old.position;
        let untold = mem::take(&mut state.untold);
        let sent = match turn(&mut state, &old, new, &differing, follows) {
            Turn::Reload(mut view, message) => {
                // Stamps begin anew with the pages.
                state.history.restart(view.position);
                view.epoch = state.history.epoch();
                state.view = Arc::new(view);
                state.pending.clear();
                state.leaving.clear();
                state.invalidated.clear();
                state.served_broken = false;
                // At the same position a viewer would take it for one that it has seen.
                messages::together(vec![message], moved.then_some(state.view.position))
            }
            Turn::Go(view, all, renewed) => {
                for path in &renewed {
                    state.invalidated.remove(path);
                }
                let sent = messages::together(all, moved.then_some(view.position));
                if moved {
                    state.history.moved(view.position, &sent);
                } else {
                    state.history.told(&sent);
                }
                state.view = Arc::new(view);
                untold.into_iter().chain(sent).collect()
            }
        };
        drop(state);
        if old.coming.is_some() {
            self.came.notify_waiters();
        }
        sent
    }

    /// The packages that were on their way are there.
    async fn settle(&self, coming: &Coming, packages: Packages) {
        let _turn = self.changing.lock().await;
        let view = self.view();
        if !view.coming.as_ref().is_some_and(|it| it.is(coming)) {
            return; // somebody else did it, or others are on their way by now
        }
        let findings: Arc<[_]> = findings(view.sources(), &view.graph, &packages).into();
        let mut state = self.state();
        let view = View { packages, coming: None, findings, ..(*state.view).clone() };
        let wrong = view.blocking();
        if let Some(first) = wrong.first().filter(|_| wrong != state.view.blocking()) {
            let told = messages::together(vec![messages::error(first, wrong.len() - 1)], None);
            state.untold.extend(told);
        }
        state.view = Arc::new(view);
        drop(state);
        self.came.notify_waiters();
    }

    fn invalidated(&self, path: &FilePath, first: &str) -> Vec<HotMessage> {
        let mut state = self.state();
        let view = state.view.clone();
        let Some(stamp) = view.stamps.get(path).copied() else { return Vec::new() };
        let ways = Ways::of(&view.graph);
        let at = view.graph.nodes.iter().position(|node| node.ask == Ask::Plain && node.path == *path);
        let Some(at) = at.filter(|at| view.graph.nodes[*at].accepts_self) else { return Vec::new() };
        // Every page says so; one is enough.
        if !state.invalidated.insert(path.clone()) {
            return Vec::new();
        }
        let reaches: Vec<_> = ways.importers(at).iter().map(|importer| ways.reach(*importer, Some(first))).collect();
        let circular = reaches.iter().flat_map(|reach| &reach.acceptors).any(|it| it.accepted == first);
        if reaches.is_empty() || circular || reaches.iter().any(|reach| reach.dead_end) {
            state.history.restart(view.position);
            let epoch = state.history.epoch();
            state.view = Arc::new(View { stamps: Arc::default(), epoch, ..(*view).clone() });
            state.invalidated.clear();
            return messages::together(vec![messages::full_reload("*", Some(path.as_str()))], None);
        }
        let mut stamps: HashMap<FilePath, u64> = (*view.stamps).clone();
        let renewed = reaches.iter().flat_map(|reach| &reach.renewed).map(|at| &view.graph.nodes[*at].path);
        stamps.extend(renewed.map(|path| (path.clone(), stamp)));
        let mut acceptors: Vec<_> = reaches.into_iter().flat_map(|reach| reach.acceptors).collect();
        acceptors.sort_by(|a, b| (&a.path, &a.accepted).cmp(&(&b.path, &b.accepted)));
        acceptors.dedup_by(|a, b| a.path == b.path && a.accepted == b.accepted);
        state.view = Arc::new(View { stamps: Arc::new(stamps), ..(*view).clone() });
        let sent = messages::together(vec![messages::update(&acceptors, stamp)], None);
        state.history.told(&sent);
        sent
    }

    fn view(&self) -> Arc<View> {
        self.state().view.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under this lock")
    }
}

impl fmt::Debug for AppPreview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view();
        f.debug_struct("AppPreview")
            .field("scope", &self.scope)
            .field("position", &view.position)
            .field("modules", &view.graph.nodes.len())
            .field("problems", &(view.findings.len() + view.problems.len()))
            .finish_non_exhaustive()
    }
}

pub(super) fn problems(sources: Sources<'_>, env: &PreviewEnv) -> Vec<Problem> {
    let mut problems = scan::page_problems(sources);
    problems.extend(sources.config.problems.iter().chain(&env.problems).cloned());
    problems
}
