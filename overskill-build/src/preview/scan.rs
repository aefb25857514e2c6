//! One module's facts: what it leads to, what it accepts, what is wrong with it.

use super::{
    files::Files,
    glob,
    graph::{How, Sources},
    html::{LoadKind, Page},
    packages::tailwind_major,
    resolve::{Ask, Target, Unresolved, resolve, resolve_in_style},
    tailwind::{self, TailwindForm, TailwindNeedKind, TailwindStyle},
};
use crate::{
    Location, Problem, ProblemKind,
    compiler::{Import, ImportKind, Module, StyleReference, StyleReferenceKind},
};
use overskill_core::{AppFile, FilePath};
use std::{borrow::Cow, sync::Arc};

/// What is known of a module once it was compiled.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) found: Vec<Found>,
    /// With whether it keeps the module from running.
    pub(crate) findings: Vec<(Problem, bool)>,
    pub(super) accepts_self: bool,
    pub(super) style: bool,
    pub(super) refresh: bool,
}

/// Where one of its imports leads.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) target: Result<Target, Unresolved>,
    pub(super) how: How,
}

/// What is made of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// A script or JSON, or anything that the compiler has to refuse.
    Script,
    /// A style sheet.
    Style,
    /// Anything else: its address is what is imported.
    Asset,
}

impl Sort {
    pub(crate) fn of(path: &str) -> Self {
        let name = path.rsplit('/').next().unwrap_or(path);
        match name.rsplit_once('.').map_or("", |(_, ext)| ext).to_ascii_lowercase().as_str() {
            "css" | "pcss" | "postcss" => Self::Style,
            "js" | "mjs" | "cjs" | "jsx" | "ts" | "mts" | "cts" | "tsx" | "json" | "json5" | "vue" | "svelte"
            | "astro" | "mdx" | "scss" | "sass" | "less" | "styl" | "stylus" | "graphql" | "gql" => Self::Script,
            _ => Self::Asset,
        }
    }
}

/// Whether an import of the file needs no `?import` to be told from a request for the file itself.
pub(super) fn is_plain_import(path: &str) -> bool {
    let ext = path.rsplit_once('.').map_or("", |(_, ext)| ext).to_ascii_lowercase();
    matches!(ext.as_str(), "js" | "mjs" | "cjs" | "jsx" | "ts" | "mts" | "cts" | "tsx" | "css" | "pcss" | "postcss")
}

/// How many things a sheet may name before the rest is left to the page.
const MOST_FOUND: usize = 1000;
/// How many imports of one module may lead nowhere before the rest is left to the page.
const MOST_UNRESOLVED: usize = 50;
const INLINE: &str = "?html-proxy&index=";

/// The path of an inline script of a page; it is a module of its own.
pub(super) fn inline_path(page: &str, index: usize) -> Option<FilePath> {
    FilePath::parse(&format!("{page}{INLINE}{index}.js")).ok()
}

/// The file at `path`, or the inline script of a page.
pub(crate) fn source<'a>(files: &'a Files, path: &str) -> Option<Cow<'a, AppFile>> {
    if let Some((page, index)) = path.split_once(INLINE) {
        let index: usize = index.strip_suffix(".js")?.parse().ok()?;
        let loads = Page::read(files.text(page)?).loads;
        return loads.into_iter().find_map(|load| match load.kind {
            LoadKind::Inline(number, code) if number == index => Some(Cow::Owned(AppFile::new(code))),
            _ => None,
        });
    }
    files.get(path).map(|(_, file)| Cow::Borrowed(&**file))
}

pub(super) fn exists(files: &Files, path: &FilePath) -> bool {
    files.has(path.as_str().split(INLINE).next().unwrap_or_default())
}

/// The pages of an app: HTML files that are not in a folder.
pub(crate) fn pages(files: &Files) -> impl Iterator<Item = (&FilePath, &str)> {
    files
        .iter()
        .filter(|(path, _)| !path.as_str().contains('/') && path.extension() == Some("html"))
        .filter_map(|(path, file)| Some((path, str::from_utf8(file.contents()).ok()?)))
}

/// What a page's tag leads to.
pub(crate) fn load(sources: Sources<'_>, page: &str, kind: &LoadKind) -> Option<Result<Target, Unresolved>> {
    let from_page = |address: &str| {
        let plain = address.split('#').next().unwrap_or_default();
        let decoded = percent_encoding::percent_decode_str(plain).decode_utf8_lossy();
        // In a page, `src/main.tsx` is a path and no package.
        let relative = !decoded.starts_with(['/', '.']) && !decoded.contains("://") && !decoded.starts_with("data:");
        let path = if relative { format!("./{decoded}") } else { decoded.into_owned() };
        resolve(sources.files, sources.config, page, &path)
    };
    match kind {
        LoadKind::Script(src) => Some(from_page(src)),
        LoadKind::Inline(index, _) => inline_path(page, *index).map(|path| Ok(Target::File(path, Ask::Plain))),
        LoadKind::Style(href) => Some(from_page(href).map(|target| match target {
            Target::File(path, _) => Target::File(path, Ask::Linked),
            other => other,
        })),
    }
}

/// The modules that pages load.
pub(super) fn roots(sources: Sources<'_>) -> Vec<(FilePath, Ask)> {
    let mut roots = Vec::new();
    for (page, html) in pages(sources.files) {
        for load_ in Page::read(html).loads {
            match load(sources, page.as_str(), &load_.kind) {
                // A sheet that Tailwind has to see is loaded by a script.
                Some(Ok(Target::File(path, Ask::Linked))) if is_tailwind(sources, &path) => {
                    roots.push((path, Ask::Plain));
                }
                Some(Ok(Target::File(path, ask))) => roots.push((path, ask)),
                _ => {}
            }
        }
    }
    roots
}

/// What is wrong with the pages themselves.
pub(crate) fn page_problems(sources: Sources<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    match sources.files.get("index.html") {
        None => {
            problems
                .push(Problem::new(ProblemKind::Entry, "there is no index.html, so there is no page to show").help(
                "add an index.html with `<script type=\"module\" src=\"/src/main.tsx\"></script>` to the app's root",
            ));
        }
        Some((path, file)) => match str::from_utf8(file.contents()) {
            Err(error) => problems.push(
                Problem::new(
                    ProblemKind::Entry,
                    format!("index.html is not UTF-8 from byte {} on", error.valid_up_to()),
                )
                .help("save it as UTF-8")
                .in_file(path.clone()),
            ),
            Ok(html) if !Page::read(html).loads.iter().any(|load| !matches!(load.kind, LoadKind::Style(_))) => {
                problems.push(
                    Problem::new(ProblemKind::Entry, "index.html loads no script, so nothing of the app runs")
                        .help("add `<script type=\"module\" src=\"/src/main.tsx\"></script>` to its body")
                        .in_file(path.clone()),
                );
            }
            Ok(_) => {}
        },
    }
    for (page, html) in pages(sources.files) {
        for load_ in Page::read(html).loads {
            let Some(Err(error)) = load(sources, page.as_str(), &load_.kind) else { continue };
            let problem = Problem::new(ProblemKind::Entry, error.message);
            let written = match &load_.kind {
                LoadKind::Script(address) | LoadKind::Style(address) => address.as_str(),
                LoadKind::Inline(..) => continue,
            };
            let problem = problem.help(error.help.unwrap_or_default()).in_file(page.clone());
            problems.push(match html.find(written) {
                Some(offset) if !written.is_empty() => problem.at_offset(html, offset),
                _ => problem,
            });
        }
    }
    problems
}

pub(crate) fn is_tailwind(sources: Sources<'_>, path: &FilePath) -> bool {
    let Some(file) = source(sources.files, path.as_str()).filter(|_| Sort::of(path.as_str()) == Sort::Style) else {
        return false;
    };
    let compiled = sources.compiler.compile(path, &file, crate::compiler::Query::None);
    compiled.is_ok_and(|module| module.style.as_ref().is_some_and(|style| style.tailwind))
}

/// Compiles a module and tells where its imports lead.
pub(crate) fn scan(sources: Sources<'_>, path: &FilePath, ask: Ask) -> Result<Scan, Arc<Problem>> {
    let file = source(sources.files, path.as_str()).ok_or_else(|| {
        Problem::new(ProblemKind::Entry, format!("{path} is not among the app's files")).in_file(path.clone())
    })?;
    match (ask, Sort::of(path.as_str())) {
        (Ask::Url | Ask::Init, _) => Ok(Scan::default()),
        (Ask::Worker, _) => Ok(Scan {
            found: vec![Found { target: Ok(Target::File(path.clone(), Ask::Plain)), how: How::Import }],
            ..Scan::default()
        }),
        (Ask::Plain | Ask::Linked | Ask::Part | Ask::Inline, Sort::Style) => {
            let module = sources.compiler.compile(path, &file, crate::compiler::Query::None)?;
            Ok(scan_style(sources, path, ask, &module, &file))
        }
        _ => {
            let module = sources.compiler.compile(path, &file, ask.query())?;
            Ok(scan_script(sources, path, &module, &file))
        }
    }
}

fn scan_script(sources: Sources<'_>, path: &FilePath, module: &Module, file: &AppFile) -> Scan {
    let text = str::from_utf8(file.contents()).unwrap_or_default();
    let mut scan = Scan {
        accepts_self: module.hot.accepts_self || module.refresh,
        refresh: module.refresh,
        findings: module.warnings.iter().map(|warning| (warning.clone(), false)).collect(),
        ..Scan::default()
    };
    if tailwind_config(sources.files) == Some(path) {
        // It is served with a `require` of its own.
        scan.findings.clear();
    }
    let mut unresolved_ones = 0;
    for import in &module.imports {
        if unresolved_ones >= MOST_UNRESOLVED {
            break;
        }
        let target = import_target(sources, path, import);
        if let Err(error) = &target {
            unresolved_ones += 1;
            scan.findings.push((unresolved(error, text, import.at), import.kind != ImportKind::Accept));
        }
        let how = if import.kind == ImportKind::Accept { How::Accept } else { How::Import };
        scan.found.push(Found { target, how });
    }
    if tailwind_config(sources.files) == Some(path) {
        for specifier in tailwind::config_requires(text) {
            let target = resolve(sources.files, sources.config, path.as_str(), &specifier);
            if let Err(error) = &target {
                let at = Location::of(text, text.find(&specifier).unwrap_or_default());
                scan.findings.push((unresolved(error, text, at), true));
            }
            scan.found.push(Found { target, how: How::Import });
        }
    }
    for call in &module.globs {
        match glob::matches(sources, path.as_str(), call) {
            Ok(matches) => scan.found.extend(
                matches
                    .into_iter()
                    .map(|found| Found { target: Ok(Target::File(found.path, found.ask)), how: How::Import }),
            ),
            Err(error) => scan.findings.push((unresolved(&error, text, call.at), true)),
        }
    }
    scan
}

/// Where an import of a script leads.
pub(crate) fn import_target(sources: Sources<'_>, path: &FilePath, import: &Import) -> Result<Target, Unresolved> {
    let importer = path.as_str().split(INLINE).next().unwrap_or_default();
    if import.kind == ImportKind::Url {
        let target = resolve_in_style(sources.files, sources.config, importer, &import.specifier)?;
        return Ok(match target {
            // A worker is a module like others; everything else is its address.
            Target::File(path, _) if Sort::of(path.as_str()) == Sort::Script && path.extension() != Some("json") => {
                Target::File(path, Ask::Plain)
            }
            Target::File(path, _) => Target::File(path, Ask::Url),
            other => other,
        });
    }
    resolve(sources.files, sources.config, importer, &import.specifier)
}

fn scan_style(sources: Sources<'_>, path: &FilePath, ask: Ask, module: &Module, file: &AppFile) -> Scan {
    let text = str::from_utf8(file.contents()).unwrap_or_default();
    let Some(style) = &module.style else { return Scan::default() };
    let mut scan = Scan {
        style: true,
        accepts_self: ask == Ask::Linked || ask == Ask::Plain && style.classes.is_none(),
        findings: module.warnings.iter().map(|warning| (warning.clone(), false)).collect(),
        ..Scan::default()
    };
    for reference in &style.references {
        match style_target(sources, path, reference, style.tailwind) {
            None => {}
            Some(Err(error)) => {
                // An address may still lead somewhere when the page asks for it.
                let blocking = matches!(reference.kind, StyleReferenceKind::Import(_));
                if blocking {
                    scan.findings.push((unresolved(&error, text, reference.at), blocking));
                }
                scan.found.push(Found { target: Err(error), how: How::Import });
            }
            Some(target) => scan.found.push(Found { target, how: How::Import }),
        }
    }
    if style.tailwind {
        tailwind_needs(sources, path, &style.css, text, &mut scan);
    }
    scan
}

/// What Tailwind takes from a sheet: its configuration and plugins. What its imports name is found where they are scanned.
fn tailwind_needs(sources: Sources<'_>, path: &FilePath, css: &str, text: &str, scan: &mut Scan) {
    if TailwindForm::is_three(css, tailwind_major(sources.files)) {
        let config = tailwind_config(sources.files).map(|config| Ok(Target::File(config.clone(), Ask::Plain)));
        scan.found.extend(config.map(|target| Found { target, how: How::Import }));
    }
    let mut sheet = TailwindStyle::new(path, css, TailwindForm::Four);
    while let Some(need) = sheet.next_need().filter(|_| scan.found.len() < MOST_FOUND) {
        // Imports are references of the sheet like in any other.
        if need.kind != TailwindNeedKind::Script {
            continue;
        }
        let target = resolve(sources.files, sources.config, path.as_str(), &need.specifier);
        if let Err(error) = &target {
            let at = Location::of(text, text.find(&need.specifier).unwrap_or_default());
            scan.findings.push((unresolved(error, text, at), true));
        }
        scan.found.push(Found { target, how: How::Import });
    }
}

/// Where a reference of a style sheet leads; `None` if it stays as it is.
pub(crate) fn style_target(
    sources: Sources<'_>,
    path: &FilePath,
    reference: &StyleReference,
    tailwind: bool,
) -> Option<Result<Target, Unresolved>> {
    let specifier = reference.specifier.as_str();
    let is_import = matches!(reference.kind, StyleReferenceKind::Import(_));
    if !is_import && specifier.starts_with('#') {
        return None;
    }
    let named = specifier.trim_start_matches('~');
    if is_import && tailwind && (named == "tailwindcss" || named.starts_with("tailwindcss/")) {
        return None;
    }
    // `font.woff2?#iefix`: what is behind belongs to the address.
    let file = if is_import { specifier } else { specifier.split(['?', '#']).next().unwrap_or(specifier) };
    let target = resolve_in_style(sources.files, sources.config, path.as_str(), file);
    Some(target.map(|target| match target {
        Target::File(path, _) => Target::File(path, if is_import { Ask::Part } else { Ask::Url }),
        other => other,
    }))
}

/// The configuration of Tailwind 3, which the page itself reads.
pub(crate) fn tailwind_config(files: &Files) -> Option<&FilePath> {
    const NAMES: [&str; 4] = ["tailwind.config.ts", "tailwind.config.js", "tailwind.config.mjs", "tailwind.config.cjs"];
    NAMES.into_iter().find_map(|name| files.get(name)).map(|(path, _)| path)
}

/// The problem that an import leads nowhere.
pub(crate) fn unresolved(error: &Unresolved, source: &str, at: Location) -> Problem {
    let kind = if error.unsupported { ProblemKind::Unsupported } else { ProblemKind::Unresolved };
    let problem = Problem::new(kind, error.message.clone()).at(source, at);
    match &error.help {
        Some(help) => problem.help(help.clone()),
        None => problem,
    }
}
