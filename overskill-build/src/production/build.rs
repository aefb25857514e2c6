//! One build, from the sources to the artifact.

use super::{
    builder::Limits,
    bundle::{self, Bundled, Job, MODULES_OF_APP, Order},
    declared,
    emit::{self, Emitted, Emitter, LOAD_MODULE, file_name},
    finish::{Named, Outs, module_path},
    names::{Assets, stem_and_extension},
    page::{self, PageRoot},
    prebuilt::is_single_page,
    sheets::{Sheet, Sheets},
    shortcuts::Shortcuts,
    styles::{self, Brought, Groups, Root},
    tailwind::{self, Styling},
    tokens::{Token, in_any_literal},
    trouble::{Failure, none_of},
    walk::{self, App, Ground, Made, Side},
};
use crate::{
    Location, Problem, ProblemKind,
    compiler::Compiler,
    packages::{
        Installed, NpmPackages, PackageRequest,
        esbuild::Metafile,
        names::is_node_builtin,
        trouble::{Trouble, blocking},
    },
    preview::{packages::tailwind_major, resolve::Ask, scan},
};
use overskill_core::{
    AppFile, Artifact, ArtifactConfig, BuildRequest, FilePath, Progress, ProgressKind, ServerModule, Snapshot,
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Where an app's server side may begin.
const SERVERS: [&str; 4] = ["src/worker.ts", "src/worker.tsx", "src/worker.js", "src/worker.mjs"];
/// The folder of the server side's modules.
const MODULES_OF_SERVER: &str = "server";

pub(super) struct Build<'a> {
    compiler: &'a Compiler,
    packages: &'a NpmPackages,
    limits: Limits,
    request: &'a BuildRequest,
}

/// What the sources hold.
struct Taken {
    ground: Arc<Ground>,
    app: App,
    pages: Vec<PageRoot>,
    /// The server side with the unit that it begins with.
    server: Option<(App, usize)>,
    /// What Tailwind's configuration names.
    tool: Arc<App>,
}

impl Taken {
    /// How many modules the app has.
    fn units(&self) -> usize {
        self.app.units.len() + self.server.as_ref().map_or(0, |(app, _)| app.units.len())
    }
}

/// What is made of them, before it is bundled.
struct Prepared {
    page: Emitted,
    server: Option<Emitted>,
    assets: Assets,
    groups: Groups,
    styling: Styling,
}

impl<'a> Build<'a> {
    pub(super) fn new(
        compiler: &'a Compiler,
        packages: &'a NpmPackages,
        limits: Limits,
        request: &'a BuildRequest,
    ) -> Self {
        Self { compiler, packages, limits, request }
    }

    pub(super) async fn run(&self) -> Result<Artifact, Failure> {
        let settings = declared::settings(&self.request.snapshot)?;
        let snapshot = self.snapshot()?;
        let compiler = self.compiler.clone();
        let (ground, tool) = off_thread(move || Ok(look(&snapshot, &compiler))).await?;
        let (ground, tool) = (Arc::new(ground), Arc::new(tool));
        // What takes longest begins first.
        let begun = async { Ok(self.begin_tailwind(&ground, &tool).await) };
        let (begun, (taken, installed, prepared)) = futures::try_join!(begun, self.prepare(&ground, &tool))?;
        let units = taken.units();
        let styles = tailwind::run(self.packages, self.limits, &ground, &prepared.styling, &installed, begun);
        let bundled = self.bundle(&taken, &prepared, (*installed).clone());
        let (styles, bundled) = futures::try_join!(styles, bundled)?;
        self.tell(85, "Bundled", json!({ "modules": units }));

        let progress = self.request.progress.clone();
        off_thread(move || finish(&taken, &prepared, &styles, bundled, settings, &progress)).await
    }

    /// Everything up to what the bundler and Tailwind are given.
    async fn prepare(
        &self,
        ground: &Arc<Ground>,
        tool: &Arc<App>,
    ) -> Result<(Arc<Taken>, Arc<Installed>, Arc<Prepared>), Failure> {
        let (ground, tool) = (ground.clone(), tool.clone());
        let taken = off_thread(move || take(ground, tool)).await?;
        let units = taken.units();
        self.tell(20, &format!("Compiled {units} modules"), json!({ "modules": units }));

        let installed = self.install(&taken).await?;
        let packages = installed.places.len();
        self.tell(40, &format!("Packages: {packages}"), json!({ "packages": packages }));

        let (taken, installed) = (Arc::new(taken), Arc::new(installed));
        let (of_sources, of_packages) = (taken.clone(), installed.clone());
        let prepared = off_thread(move || prepare(&of_sources, &of_packages)).await?;
        Ok((taken, installed, Arc::new(prepared)))
    }

    /// The sources, with the lock to build with.
    fn snapshot(&self) -> Result<Arc<Snapshot>, Failure> {
        let Some(lock) = &self.request.lock else { return Ok(self.request.snapshot.clone()) };
        let mut snapshot = (*self.request.snapshot).clone();
        snapshot.files.insert(FilePath::parse("package-lock.json")?, AppFile::new(lock.clone()));
        Ok(Arc::new(snapshot))
    }

    fn tell(&self, percent: u8, message: &str, details: serde_json::Value) {
        self.request.progress.at(percent, "building", message);
        self.request.progress.event(ProgressKind::Output, "building", message, details);
    }

    async fn install(&self, taken: &Taken) -> Result<Installed, Failure> {
        let apps = [Some(&taken.app), taken.server.as_ref().map(|(app, _)| app), Some(&*taken.tool)];
        let entries: BTreeSet<String> = apps.into_iter().flatten().flat_map(|app| app.packages.clone()).collect();
        let mut entries = entries;
        if uses_tailwind(&taken.app) {
            entries.insert("tailwindcss".to_owned());
        }
        if entries.is_empty() {
            return Ok(Installed::default());
        }
        let request = requested(&taken.ground, entries);
        let installed = self.packages.install(&request.progress_to(self.request.progress.clone())).await?;
        let mut problems = Vec::new();
        for (name, problem) in &installed.failed {
            let used = apps.into_iter().flatten().filter(|app| app.side != Side::Tool && app.packages.contains(name));
            for app in used {
                let at = walk::place_of(app, name);
                problems.push(placed(&taken.ground, problem.clone(), at));
            }
        }
        none_of(problems)?;
        Ok(installed)
    }

    /// Starts Tailwind 3 where sheets seem to need it, before they are looked into: coming up takes it longer than that.
    async fn begin_tailwind(&self, ground: &Ground, tool: &App) -> Option<Result<tailwind::Waiting, Failure>> {
        let says = |file: &AppFile| {
            let text = std::str::from_utf8(file.contents()).unwrap_or_default();
            text.contains("@tailwind") || text.contains("tailwindcss/")
        };
        let mut sheets = ground.files.iter().filter(|(path, _)| path.extension() == Some("css"));
        if tailwind_major(&ground.files) != Some(3) || !sheets.any(|(_, file)| says(file)) {
            return None;
        }
        let mut entries = tool.packages.clone();
        entries.insert("tailwindcss".to_owned());
        let begin = async {
            let installed = self.packages.install(&requested(ground, entries)).await?;
            tailwind::begin(self.packages, self.limits, ground, &installed).await
        };
        Some(begin.await)
    }

    async fn bundle(&self, taken: &Taken, prepared: &Arc<Prepared>, mut installed: Installed) -> Result<Outs, Failure> {
        let orders = orders(taken, prepared);
        if orders.is_empty() {
            return Ok(Outs::default());
        }
        let program = self.packages.bundler().await?;
        let turn = self.packages.bundling_turn().await;
        let work = self.packages.workspace().await?;
        let (folder, written) = (work.path().to_owned(), prepared.clone());
        let bytes = blocking(move || write(&folder, &written)).await?;
        let message = format!("Bundling {bytes} bytes of modules");
        self.tell(50, &message, json!({ "bytes": bytes }));
        let limit = self.packages.bundling_limit();
        let job =
            Job { packages: self.packages, program: &program, folder: work.path(), limit, mode: self.request.mode };
        let mut absent = BTreeSet::new();
        job.lay_out(&installed, &absent).await?;
        let mut outs = Outs::default();
        for order in orders {
            let (app, emitted) = match (&taken.server, &prepared.server) {
                (Some((app, _)), Some(emitted)) if order.whose == bundle::For::Server => (app, emitted),
                _ => (&taken.app, &prepared.page),
            };
            match job.run(&order, &mut installed, &mut absent).await? {
                Bundled::Well(meta) => {
                    none_of(absent_ones(&meta, &installed))?;
                    let mut stems: Vec<String> = app.units.iter().map(|unit| stem_of(&unit.path)).collect();
                    // A page's script is called after the page, as Vite has it.
                    for page in taken.pages.iter().filter(|_| order.whose == bundle::For::Page) {
                        for unit in page.scripts() {
                            stem_and_extension(page.path.as_str()).0.clone_into(&mut stems[unit]);
                        }
                    }
                    let (folder, most) = (work.path().to_owned(), self.limits.output_bytes);
                    let stem = move |unit: usize| stems.get(unit).cloned();
                    outs = off_thread(move || {
                        outs.read(&folder, &meta, most, stem)?;
                        Ok(outs)
                    })
                    .await?;
                }
                Bundled::Badly(complaints) => {
                    let file = |name: &str, line: Option<u32>| source_of(&taken.ground, app, emitted, name, line);
                    return Err(Failure::Problems(bundle::problems(&complaints, file)));
                }
            }
        }
        drop(turn);
        blocking(move || {
            drop(work); // deletes the folder, here where that may block
            Ok(())
        })
        .await?;
        Ok(outs)
    }
}

async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done: Result<T, Failure> = blocking(move || Ok::<_, Trouble>(work())).await?;
    done
}

/// What packages to ask for.
fn requested(ground: &Ground, entries: BTreeSet<String>) -> PackageRequest {
    let contents = |name| ground.files.get(name).map(|(_, file)| file.contents().clone());
    let manifest = contents("package.json").unwrap_or_else(|| "{}".into());
    PackageRequest::new(manifest, contents("package-lock.json"), entries)
}

/// The files, and what Tailwind's configuration names.
fn look(snapshot: &Snapshot, compiler: &Compiler) -> (Ground, App) {
    let ground = Ground::of(snapshot, compiler);
    let mut tool = App::new(Side::Tool);
    if let Some(config) = scan::tailwind_config(&ground.files).cloned() {
        tool.take(&ground, &config, Ask::Plain);
    }
    (ground, tool)
}

fn take(ground: Arc<Ground>, tool: Arc<App>) -> Result<Taken, Failure> {
    let mut app = App::new(Side::Page);
    app.problems.extend(ground.config.problems.iter().cloned());
    let entry = SERVERS.iter().find_map(|name| ground.files.get(name)).map(|(path, _)| path.clone());
    // An app may be a server side alone.
    let pages =
        if entry.is_some() && !ground.files.has("index.html") { Vec::new() } else { page::read(&ground, &mut app) };
    let server = entry.map(|path| {
        let mut app = App::new(Side::Server);
        let unit = app.take(&ground, &path, Ask::Plain);
        (app, unit)
    });
    let server_problems = server.iter().flat_map(|(app, _)| app.problems.iter().cloned());
    let mut problems: Vec<Problem> = Vec::new();
    for problem in app.problems.iter().cloned().chain(server_problems) {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    none_of(problems)?;
    Ok(Taken { ground, app, pages, server, tool })
}

fn prepare(taken: &Taken, installed: &Installed) -> Result<Prepared, Failure> {
    let (ground, mut assets) = (&taken.ground, Assets::default());
    let mut emitted = |app| {
        let shortcuts = Shortcuts::new(installed, &ground.compiler);
        Emitter { ground, app, installed, assets: &mut assets, shortcuts }.emit()
    };
    let page = emitted(&taken.app)?;
    let server = taken.server.as_ref().map(|(app, _)| emitted(app)).transpose()?;
    let pages: Vec<Vec<usize>> = taken.pages.iter().map(PageRoot::scripts).collect();
    let groups = styles::groups(&taken.app, &page, &pages);
    let mut sheets = Sheets { ground, installed, assets: &mut assets, problems: Vec::new() };
    let mut styling = Styling::new(ground);
    for (number, group) in groups.groups.iter().enumerate() {
        for brought in &group.sheets {
            let sheet = match brought {
                Brought::Unit(unit) => Sheet::Own(taken.app.units[*unit].path.clone()),
                Brought::Import(place) => Sheet::Of(page.package_styles[place].clone()),
            };
            styling.add(tailwind::For::Group(number), &mut sheets, &sheet)?;
        }
    }
    for path in taken.pages.iter().flat_map(PageRoot::linked) {
        styling.add(tailwind::For::Linked(path.clone()), &mut sheets, &Sheet::Own(path.clone()))?;
    }
    for (number, unit) in taken.app.units.iter().enumerate() {
        if matches!(unit.made, Made::StyleText) {
            styling.add(tailwind::For::Text(number), &mut sheets, &Sheet::Own(unit.path.clone()))?;
        }
    }
    let mut problems = sheets.problems;
    problems.extend(page.problems.iter().cloned());
    problems.extend(server.iter().flat_map(|it| it.problems.iter().cloned()));
    none_of(problems)?;
    Ok(Prepared { page, server, assets, groups, styling })
}

fn uses_tailwind(app: &App) -> bool {
    let is_tailwind =
        |made: &Made| matches!(made, Made::Style { module, .. } if module.style.as_ref().is_some_and(|it| it.tailwind));
    app.units.iter().any(|unit| is_tailwind(&unit.made))
}

/// Writes the modules for the bundler. Blocks.
fn write(folder: &std::path::Path, prepared: &Prepared) -> Result<u64, Trouble> {
    let named = |code: &[String]| -> Vec<(String, String)> {
        code.iter().enumerate().map(|(unit, code)| (file_name(unit), code.clone())).collect()
    };
    let mut files = named(&prepared.page.code);
    files.extend(prepared.page.shortcuts.iter().cloned());
    files.push((LOAD_MODULE.to_owned(), include_str!("load.js").to_owned()));
    let mut bytes = bundle::write(folder, MODULES_OF_APP, &files)?;
    if let Some(server) = &prepared.server {
        let mut files = named(&server.code);
        let env = "export default {\"BASE_URL\":\"/\",\"MODE\":\"production\"};\n";
        files.push((emit::ENV_MODULE.to_owned(), env.to_owned()));
        bytes += bundle::write(folder, MODULES_OF_SERVER, &files)?;
    }
    Ok(bytes)
}

/// The runs of the bundler: pages, workers, server.
fn orders(taken: &Taken, prepared: &Prepared) -> Vec<Order> {
    let mut orders = Vec::new();
    let mut units: Vec<usize> = taken.pages.iter().flat_map(PageRoot::scripts).collect();
    units.extend(&prepared.page.dynamic);
    units.sort_unstable();
    units.dedup();
    let entry = |token: Token, unit: usize| (token.to_string(), module_path(unit));
    if !units.is_empty() {
        let entries = units.into_iter().map(|unit| entry(Token::Entry(unit), unit)).collect();
        orders.push(Order { entries, to: "out", splitting: true, whose: bundle::For::Page });
    }
    if !prepared.page.workers.is_empty() {
        // Each is one file: a classic worker cannot import anything.
        let workers = prepared.page.workers.iter();
        let entries = workers.map(|unit| entry(Token::Worker(*unit), *unit)).collect();
        orders.push(Order { entries, to: "out-workers", splitting: false, whose: bundle::For::Page });
    }
    if let Some((_, unit)) = &taken.server {
        let entries = vec![(Token::Server.to_string(), format!("{MODULES_OF_SERVER}/{}", file_name(*unit)))];
        orders.push(Order { entries, to: "out-server", splitting: false, whose: bundle::For::Server });
    }
    orders
}

fn finish(
    taken: &Taken,
    prepared: &Prepared,
    styles: &BTreeMap<tailwind::For, String>,
    mut outs: Outs,
    settings: BTreeMap<String, String>,
    progress: &Progress,
) -> Result<Artifact, Failure> {
    let group_key = |number: usize| format!("styles-{number}");
    let linked_key = |path: &FilePath| format!("linked-{path}");
    for (whose, css) in styles {
        match whose {
            tailwind::For::Group(number) => {
                outs.add_style(&group_key(*number), &stem_of_group(taken, &prepared.groups, *number), css.clone());
            }
            tailwind::For::Linked(path) => outs.add_style(&linked_key(path), &stem_of(path), css.clone()),
            tailwind::For::Text(unit) => outs.set_text(Token::Text(*unit), in_any_literal(css)),
        }
    }
    // Empty sheets are not loaded.
    let of_root = |root: Root| -> Vec<String> {
        let groups = prepared.groups.of_root.get(&root).into_iter().flatten();
        let filled = groups.filter(|it| styles.get(&tailwind::For::Group(**it)).is_some_and(|css| !css.is_empty()));
        filled.map(|it| group_key(*it)).collect()
    };
    let of_page = |page: &PageRoot, outs: &Outs| {
        let (mut scripts, mut styles) = (Vec::new(), Vec::new());
        for unit in page.scripts() {
            let (more, sheets) = outs.reached(&Token::Entry(unit).to_string());
            scripts.extend(more);
            styles.extend(sheets);
        }
        (scripts, styles)
    };
    // What every page has loaded nothing needs to load ahead.
    let mut there: Option<BTreeSet<String>> = None;
    for page in &taken.pages {
        let scripts: BTreeSet<String> = of_page(page, &outs).0.into_iter().collect();
        there = Some(there.map_or_else(|| scripts.clone(), |it| it.intersection(&scripts).cloned().collect()));
    }
    for unit in &prepared.page.dynamic {
        outs.set_loads(*unit, &of_root(Root::Unit(*unit)), &there.clone().unwrap_or_default());
    }
    let heads: Vec<_> = taken
        .pages
        .iter()
        .enumerate()
        .map(|(number, page)| {
            let (scripts, mut sheets) = of_page(page, &outs);
            sheets.extend(of_root(Root::Page(number)));
            (scripts, sheets)
        })
        .collect();
    let mut named = outs.name()?;
    let server = server(taken, prepared, &mut named);

    let mut assets = Assets { files: prepared.assets.files.clone() };
    page::public_files(&taken.ground, &mut assets)?;
    let (defaults, mut holes) = (page::defaults(&taken.ground), BTreeMap::new());
    for (page, (scripts, sheets)) in taken.pages.iter().zip(heads) {
        assets.files.extend(page.other_files(&taken.ground));
        let own: BTreeSet<String> = page.scripts().into_iter().map(|it| Token::Entry(it).to_string()).collect();
        let address = |key: &String| named.address(key);
        let ahead: Vec<String> = unique(scripts.iter().filter(|it| !own.contains(*it)).filter_map(address));
        let sheets: Vec<String> = unique(sheets.iter().filter_map(address));
        let (html, found) = page.write(
            &page::head_tags(&ahead, &sheets),
            |unit| named.address(&Token::Entry(unit).to_string()),
            |path| named.address(&linked_key(path)),
            &defaults,
        );
        assets.files.insert(page.path.clone(), AppFile::new(html));
        if !found.is_empty() {
            holes.insert(page.path.clone(), found);
        }
    }
    assets.files.extend(named.files);
    let mut config = ArtifactConfig::default();
    config.settings = settings;
    config.single_page = is_single_page(assets.files.keys());
    config.page_env = page::page_env(prepared.page.reads_env, defaults, holes)?;
    if let Some((module, env)) = config.page_env.as_ref().and_then(|it| Some((it.module.clone()?, it))) {
        assets.files.insert(module, AppFile::new(env.default_module_code()));
    }
    let artifact = Artifact::new(assets.files, server, config)?;
    let (files, bytes) = (artifact.files(), artifact.size_bytes());
    let message = format!("Built {files} files, {bytes} bytes");
    progress.event(ProgressKind::Output, "building", message, json!({ "files": files, "bytes": bytes }));
    Ok(artifact)
}

fn server(taken: &Taken, prepared: &Prepared, named: &mut Named) -> Option<ServerModule> {
    taken.server.as_ref()?;
    let module = named.take(&Token::Server.to_string())?;
    let wasm = prepared.server.as_ref().map(|it| it.wasm.clone()).unwrap_or_default();
    Some(ServerModule { module, wasm })
}

fn unique(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    all.filter(|it| seen.insert(it.clone())).collect()
}

/// What a unit's file is called after: its own name, or that of its folder.
fn stem_of(path: &FilePath) -> String {
    let (stem, _) = stem_and_extension(path.as_str());
    match stem {
        "index" => path.as_str().rsplit('/').nth(1).unwrap_or(stem).to_owned(),
        stem => stem.split('?').next().unwrap_or(stem).to_owned(),
    }
}

/// What a group is called after: the part of the app that needs it.
fn stem_of_group(taken: &Taken, groups: &Groups, number: usize) -> String {
    let root = groups.of_root.iter().find(|(_, needed)| needed.contains(&number)).map(|(root, _)| root);
    match root {
        Some(Root::Page(page)) => stem_and_extension(taken.pages[*page].path.as_str()).0.to_owned(),
        Some(Root::Unit(unit)) => stem_of(&taken.app.units[*unit].path),
        None => "styles".to_owned(),
    }
}

/// What always runs and imports a package that is not there cannot work.
fn absent_ones(meta: &Metafile, installed: &Installed) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, importer) in bundle::needed_stand_ins(meta) {
        let Some((place, node)) =
            installed.tree.nodes.iter().rev().find(|(place, _)| importer.starts_with(&format!("{place}/")))
        else {
            continue;
        };
        if node.optional_peers.contains(&name)
            || node.optional_dependencies.contains_key(&name)
            || is_node_builtin(&name)
        {
            continue;
        }
        let who = place.trim_start_matches("node_modules/");
        let why = format!("`{who}` imports `{name}`, which is not installed");
        problems.push(Problem::new(ProblemKind::Package, why).help(format!("add `{name}` to package.json")));
    }
    problems
}

fn placed(ground: &Ground, problem: Problem, at: Option<(&FilePath, Option<Location>)>) -> Problem {
    let Some((path, at)) = at else { return problem };
    let file = ground.file(path.as_str());
    let text = file.as_ref().and_then(|it| std::str::from_utf8(it.contents()).ok());
    let problem = problem.in_file(path.clone());
    match (text, at) {
        (Some(text), Some(at)) => problem.at(text, at),
        _ => problem,
    }
}

/// An empty problem at the place in the sources that a line of a module comes from.
fn source_of(ground: &Ground, app: &App, emitted: &Emitted, name: &str, line: Option<u32>) -> Option<Problem> {
    let number = emit::unit_of(name).filter(|it| *it < emitted.code.len())?;
    let unit = app.units.get(number)?;
    let at = line.and_then(|line| {
        let (Made::Code { module, .. } | Made::Style { module, .. }) = &unit.made else { return None };
        let map = oxc_sourcemap::SourceMap::from_json_string(module.source_map.as_deref()?).ok()?;
        let line = line.checked_sub(1)?;
        let token = map.get_tokens().find(|token| token.get_dst_line() == line)?;
        Some(Location { line: token.get_src_line() + 1, column: token.get_src_col() + 1 })
    });
    Some(placed(ground, Problem::new(ProblemKind::Unresolved, ""), Some((&unit.path, at))))
}
