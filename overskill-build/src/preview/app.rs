//! One open preview.

use super::{
    CatchUp, HotMessage, PageRequest, PageResponse,
    config::{Config, VITE_CONFIGS},
    engine::Shared,
    env::{FILES as ENV_FILES, PageEnv, Variables},
    files::Files,
    graph::{Before, Graph, Sources},
    history::History,
    messages,
    resolve::Ask,
    scan, serve,
    turn::{Turn, turn},
    update::Ways,
    view::{Packages, View, findings},
};
use crate::{Problem, Result};
use overskill_core::{Changes, EnvSnapshot, FilePath, Progress, Scope, Snapshot, StreamPosition};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

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
}

/// What the next state is made of.
struct Next {
    position: StreamPosition,
    files: Files,
    came_or_went: bool,
    variables: Arc<Variables>,
    /// It follows from the present one; else every page has to be loaded anew.
    follows: bool,
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
        let files = Files::of(snapshot, &shared.pool);
        let config = shared.pool.config(Config::read(&files));
        let compiler = shared.compiler.with_options(config.compiler.clone());
        let sources = Sources { files: &files, config: &config, compiler: &compiler, pool: &shared.pool };
        let graph = Graph::build(sources, None);
        progress.at(10, "packages", format!("Preparing {} packages", graph.packages.len()));
        let packages = Packages::prepare(&shared, sources, &graph, None, true, progress).await;
        let variables = Arc::new(Variables::of(env));
        let page_env = PageEnv::of(&files, &variables);
        let findings = findings(sources, &graph, &packages);
        let problems = problems(sources, &page_env);
        let view = View {
            shared: shared.clone(),
            position: snapshot.position,
            config,
            compiler,
            graph: Arc::new(graph),
            packages,
            variables,
            env: Arc::new(page_env),
            stamps: Arc::default(),
            findings: findings.into(),
            problems: problems.into(),
            files,
        };
        let state = State {
            history: History::new(view.position),
            view: Arc::new(view),
            pending: BTreeSet::new(),
            leaving: BTreeSet::new(),
            invalidated: HashSet::new(),
            served_broken: false,
        };
        Ok(Self { scope: scope.clone(), changing: tokio::sync::Mutex::new(()), state: Mutex::new(state) })
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

    /// Answers a request. Quick: nothing is waited for.
    pub fn respond(&self, request: &PageRequest) -> PageResponse {
        let view = self.view();
        let (response, broken) = serve::respond(&view, request);
        if broken {
            self.state().served_broken = true;
        }
        response
    }

    /// What a viewer has missed who stands at `from` (`None`: it has just come and holds nothing), and what is wrong now.
    pub fn catch_up(&self, from: Option<StreamPosition>) -> CatchUp {
        let state = self.state();
        let mut missed = match from.map(|from| state.history.since(from)) {
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

    /// What is wrong with the app now: first what keeps parts of it from running.
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
        let shared = &old.shared;
        let differing = next.files.differing(&old.files);
        let differs = |is: &dyn Fn(&str) -> bool| differing.iter().any(|path| is(path.as_str()));
        let manifest = differs(&|path| matches!(path, "package.json" | "package-lock.json"));
        let reads = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let is_config = name.starts_with("tsconfig") || name.starts_with("jsconfig");
            let by_name = is_config && name.rsplit_once('.').is_some_and(|(_, ext)| ext == "json");
            by_name || path == "package.json" || VITE_CONFIGS.contains(&path)
        };
        let read_before = differing.iter().any(|path| old.config.read.contains(path));
        let config = if read_before || differs(&reads) {
            shared.pool.config(Config::read(&next.files))
        } else {
            old.config.clone()
        };
        let same_compiler = config.compiler == old.config.compiler;
        let compiler =
            if same_compiler { old.compiler.clone() } else { shared.compiler.with_options(config.compiler.clone()) };
        let env = if next.variables != old.variables || differs(&|path| ENV_FILES.contains(&path)) {
            Arc::new(PageEnv::of(&next.files, &next.variables))
        } else {
            old.env.clone()
        };
        let sources = Sources { files: &next.files, config: &config, compiler: &compiler, pool: &shared.pool };
        let resolves_alike = !next.came_or_went && same_compiler && config.resolves_like(&old.config);
        let before = Before { graph: &old.graph, files: &old.files, resolves_alike };
        let graph = Graph::build(sources, Some(before));
        let packages =
            Packages::prepare(shared, sources, &graph, Some(&old.packages), manifest, &Progress::discard()).await;
        let findings = findings(sources, &graph, &packages);
        let problems = problems(sources, &env);
        let new = View {
            shared: shared.clone(),
            position: next.position,
            graph: Arc::new(graph),
            packages,
            variables: next.variables,
            env,
            stamps: old.stamps.clone(),
            findings: findings.into(),
            problems: problems.into(),
            compiler,
            config,
            files: next.files,
        };
        let mut state = self.state();
        let moved = new.position != old.position;
        match turn(&mut state, old, new, &differing, next.follows) {
            Turn::Reload(view, message) => {
                // Stamps begin anew with the pages.
                state.history.restart(view.position);
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
                sent
            }
        }
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
            state.view = Arc::new(View { stamps: Arc::default(), ..(*view).clone() });
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

fn problems(sources: Sources<'_>, env: &PageEnv) -> Vec<Problem> {
    let mut problems = scan::page_problems(sources);
    problems.extend(sources.config.problems.iter().chain(&env.problems).cloned());
    problems
}
