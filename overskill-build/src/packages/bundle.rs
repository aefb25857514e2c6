//! One run of the bundler after another, until what can be bundled is.

use super::{
    esbuild::{self, Complaint, Metafile, Ran},
    layout::{lay_out, stand_in_of},
    names::{is_node_builtin, split_specifier},
    pack::{Pack, Round},
    prepared::{PackageEntry, PackageFile},
    tree::{MODULES, Tree},
    trouble::{Trouble, blocking, local},
};
use crate::{Problem, ProblemKind};
use overskill_core::{Clock, Error};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Most runs for one set of packages. Each takes away what does not work; the last leaves out everything.
pub(crate) const MAX_RUNS: usize = 12;

/// What a bundling takes.
pub(crate) struct Job {
    pub(crate) program: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) tree: Arc<Tree>,
    pub(crate) entries: BTreeSet<String>,
    /// Places with the folders that hold their files.
    pub(crate) places: BTreeMap<String, PathBuf>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limit: Duration,
    pub(crate) max_bytes: u64,
    /// What was wanted in each run.
    pub(crate) rounds: Vec<Round>,
    /// Something of it is there but could not be had.
    pub(crate) for_now: bool,
}

impl Job {
    /// Bundles. `more` brings the files of a place that turns out to be needed, and of all that it needs.
    pub(crate) async fn run<F>(mut self, more: impl Fn(String) -> F) -> Result<Pack, Trouble>
    where
        F: Future<Output = Result<BTreeMap<String, PathBuf>, Trouble>>,
    {
        let mut pack = self.runs(more).await?;
        self.rounds.retain(|round| !round.is_empty());
        (pack.rounds, pack.for_now) = (self.rounds, self.for_now);
        Ok(pack)
    }

    async fn runs<F>(&mut self, more: impl Fn(String) -> F) -> Result<Pack, Trouble>
    where
        F: Future<Output = Result<BTreeMap<String, PathBuf>, Trouble>>,
    {
        let stems = stems(&self.entries);
        let mut left = self.entries.clone();
        let mut failed: BTreeMap<String, Problem> = BTreeMap::new();
        let mut absent: BTreeSet<String> = BTreeSet::new();
        let mut blamed: BTreeSet<String> = BTreeSet::new();
        let mut wrapped: BTreeSet<String> = BTreeSet::new();
        let mut stale = true;
        for _ in 0..MAX_RUNS {
            if left.is_empty() {
                return Ok(Pack { failed, ..Pack::default() });
            }
            if stale {
                let (folder, places, absent) = (self.folder.clone(), self.places.clone(), absent.clone());
                blocking(move || lay_out(&folder, &places, &absent)).await?;
                stale = false;
            }
            let complaints = match self.once(&left, &stems, &wrapped).await? {
                Ran::Badly(complaints) => complaints,
                Ran::Well => {
                    let (folder, stems, most) = (self.folder.clone(), stems.clone(), self.max_bytes);
                    let (entries, now) = (left.clone(), wrapped.clone());
                    let read = move || read(&folder, &entries, &stems, &now, most);
                    match blocking(read).await? {
                        Outcome::Complaints(complaints) => complaints,
                        Outcome::Wrap(entries) => {
                            wrapped.extend(entries);
                            continue;
                        }
                        Outcome::Pack(mut pack) => {
                            self.note_absent(&mut pack, &absent);
                            pack.failed.extend(failed);
                            return Ok(pack);
                        }
                    }
                }
            };
            self.rounds.push(Round::new());
            for complaint in complaints {
                let unresolved = complaint.unresolved().map(str::to_owned);
                match (unresolved, complaint.file.as_deref().and_then(place_of)) {
                    // An entry itself is not there.
                    (Some(entry), _) if complaint.file.is_none() => {
                        let known = |it: &&String| **it == entry || plain(it) == entry;
                        let Some(entry) = left.iter().find(known).cloned() else { continue };
                        left.remove(&entry);
                        let problem = no_such_entry(&entry, &complaint);
                        failed.insert(entry, problem);
                    }
                    // A package wants another one: that nobody thought of, or that is not there.
                    (Some(wanted), Some(place)) if self.bring(&wanted, place, &mut absent, &more).await? => {
                        stale = true;
                    }
                    (_, place) => {
                        let gone = self.blame(&left, place, &mut blamed);
                        for entry in gone {
                            left.remove(&entry);
                            failed.insert(entry.clone(), does_not_bundle(&entry, place, &complaint));
                        }
                    }
                }
            }
        }
        let give_up = |entry: String| {
            let why = format!("`{entry}` could not be bundled: too much is wrong with the packages that it needs");
            (entry, Problem::new(ProblemKind::Package, why))
        };
        failed.extend(left.into_iter().map(give_up));
        Ok(Pack { failed, ..Pack::default() })
    }

    async fn once(
        &self,
        entries: &BTreeSet<String>,
        stems: &BTreeMap<String, String>,
        wrapped: &BTreeSet<String>,
    ) -> Result<Ran, Trouble> {
        let mut arguments = esbuild::arguments();
        arguments.extend(
            [
                "--splitting",
                "--outdir=out",
                "--metafile=meta.json",
                "--chunk-names=chunk-[hash]",
                "--asset-names=[name]-[hash]",
                // A page of a real app takes in megabytes of this; names stay, for whoever reads a stack.
                "--minify-whitespace",
                "--line-limit=200",
                "--legal-comments=eof",
            ]
            .map(str::to_owned),
        );
        arguments.extend(super::names::NODE_BUILTINS.iter().map(|it| format!("--alias:node:{it}={it}")));
        let mut wrappers = Vec::new();
        for entry in entries {
            let stem = &stems[entry];
            if wrapped.contains(entry) {
                // The specifier holds no quote and no backslash.
                let code = format!("import * as all from \"{}\";\nexport default all;\n", plain(entry));
                wrappers.push((format!("{stem}.mjs"), code));
                arguments.push(format!("{stem}=./{WRAPPERS}{stem}.mjs"));
            } else {
                arguments.push(format!("{stem}={}", plain(entry)));
            }
        }
        let folder = self.folder.clone();
        let clean = move || {
            match fs::remove_dir_all(folder.join("out")) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => fs::create_dir_all(folder.join(WRAPPERS))?,
            }
            wrappers.into_iter().try_for_each(|(name, code)| fs::write(folder.join(WRAPPERS).join(name), code))
        };
        blocking(move || clean().map_err(local("prepare a run of esbuild"))).await?;
        esbuild::run(&self.program, &self.folder, &arguments, self.limit, &*self.clock).await
    }

    /// Sees to it that what the package at `place` wants is there, or something in its stead. False if that is no help.
    async fn bring<F>(
        &mut self,
        wanted: &str,
        place: &str,
        absent: &mut BTreeSet<String>,
        more: impl Fn(String) -> F,
    ) -> Result<bool, Trouble>
    where
        F: Future<Output = Result<BTreeMap<String, PathBuf>, Trouble>>,
    {
        let Some((name, _)) = split_specifier(wanted) else { return Ok(false) };
        if let Some(round) = self.rounds.last_mut() {
            round.insert((place.to_owned(), name.to_owned()));
        }
        if let Some(found) = self.tree.lookup(place, name) {
            if self.places.contains_key(found) || self.tree.nodes[found].bundled {
                return Ok(false); // the package is there, but nothing of that name in it
            }
            match more(found.to_owned()).await {
                Ok(places) => {
                    self.places.extend(places);
                    return Ok(true);
                }
                Err(fault @ Trouble::Fault(_)) => return Err(fault),
                Err(Trouble::Problem { .. }) => self.for_now = true,
            }
        }
        Ok(absent.insert(name.to_owned()))
    }

    /// Which entries go because of a file at `place`: those of that package at first, and all that need it the next time.
    fn blame(&self, left: &BTreeSet<String>, place: Option<&str>, blamed: &mut BTreeSet<String>) -> BTreeSet<String> {
        let Some(place) = place else { return left.clone() };
        let own = |entry: &&String| self.root_of(entry).is_some_and(|root| root == place);
        let gone: BTreeSet<String> = left.iter().filter(own).cloned().collect();
        if blamed.insert(place.to_owned()) && !gone.is_empty() {
            return gone;
        }
        let needs =
            |entry: &&String| self.root_of(entry).is_some_and(|root| self.tree.needed([root], true).contains(place));
        let gone: BTreeSet<String> = left.iter().filter(needs).cloned().collect();
        if gone.is_empty() { left.clone() } else { gone }
    }

    fn root_of(&self, entry: &str) -> Option<&str> {
        let (name, _) = split_specifier(entry)?;
        self.tree.lookup("", name)
    }

    /// Entries that import, always and at once, what is not there, cannot work.
    fn note_absent(&self, pack: &mut Pack, absent: &BTreeSet<String>) {
        if absent.is_empty() {
            return;
        }
        for (entry, needs) in std::mem::take(&mut pack.stand_ins) {
            let hard = needs.iter().find(|(importer, name)| {
                let optional = |place: &str| {
                    self.tree.nodes.get(place).is_some_and(|it| {
                        it.optional_peers.contains(name) || it.optional_dependencies.contains_key(name)
                    })
                };
                absent.contains(name) && !place_of(importer).is_some_and(optional)
            });
            if let Some((importer, name)) = hard {
                let importer = place_of(importer).map_or(importer.as_str(), super::tree::name_at);
                let why = format!("`{entry}` cannot be used: `{importer}` imports `{name}`, which is not installed");
                pack.entries.remove(&entry);
                pack.failed.insert(
                    entry,
                    Problem::new(ProblemKind::Package, why).help(format!("add `{name}` to package.json")),
                );
            }
        }
    }
}

/// What a run left.
enum Outcome {
    Pack(Pack),
    /// It left what may not be.
    Complaints(Vec<Complaint>),
    /// The names that these export are known only once they run: they have to be taken like `CommonJS` modules.
    Wrap(BTreeSet<String>),
}

/// Where wrappers of entries are.
const WRAPPERS: &str = "overskill-wrappers/";

/// Reads what a run wrote. Blocks.
fn read(
    folder: &Path,
    entries: &BTreeSet<String>,
    stems: &BTreeMap<String, String>,
    wrapped: &BTreeSet<String>,
    most: u64,
) -> Result<Outcome, Trouble> {
    let meta = Metafile::read(&folder.join("meta.json"))?;
    let strangers = strangers(&meta);
    if !strangers.is_empty() {
        return Ok(Outcome::Complaints(strangers));
    }
    let unknowable = unknowable(folder, &meta, entries, stems, wrapped)?;
    if !unknowable.is_empty() {
        return Ok(Outcome::Wrap(unknowable));
    }
    let mut pack = Pack::default();
    let mut useless = BTreeSet::new();
    for entry in entries {
        let stem = &stems[entry];
        let (script, style) = (format!("out/{stem}.js"), format!("out/{stem}.css"));
        let found = if let Some(output) = meta.outputs.get(&script) {
            let source = output.entry_point.as_deref().unwrap_or_default();
            pack.stand_ins.insert(entry.clone(), imported_stand_ins(&meta, source));
            if is_asset(source) {
                let mut others = meta.outputs.iter().filter(|(path, it)| !is_code(path) && it.inputs.contains(source));
                others.next().map(|(path, _)| {
                    useless.insert(script.clone());
                    PackageEntry::Asset { file: file_name(path) }
                })
            } else {
                let common_js = wrapped.contains(entry)
                    || meta.inputs.get(source).is_some_and(|it| it.format.as_deref() == Some("cjs"));
                Some(PackageEntry::Module { file: file_name(&script), common_js })
            }
        } else {
            meta.outputs.contains_key(&style).then(|| PackageEntry::Style { file: file_name(&style) })
        };
        let Some(found) = found else {
            return Err(Error::unexpected("esbuild left out an entry", entry.escape_debug().to_string()).into());
        };
        pack.entries.insert(entry.clone(), found);
    }
    let mut bytes = 0;
    for (path, output) in &meta.outputs {
        if useless.contains(path) {
            continue;
        }
        let mut contents = fs::read(folder.join(path)).map_err(local("read what esbuild wrote"))?;
        if is_script(path) {
            finish_script(&mut contents, output);
        }
        bytes += contents.len() as u64;
        if bytes > most {
            let why = format!("the imported packages come to more than {most} bytes when bundled");
            return Err(Problem::new(ProblemKind::Limit, why).help("import less, or smaller packages").into());
        }
        let imports = output.imports.iter().filter(|it| it.kind == "import-statement").map(|it| file_name(&it.path));
        let file = PackageFile::new(content_type(path), contents).importing(imports.collect());
        pack.files.insert(file_name(path), file);
    }
    Ok(Outcome::Pack(pack))
}

/// Entries whose modules say `export * from` a `CommonJS` module: esbuild drops those names from what the entry exports.
fn unknowable(
    folder: &Path,
    meta: &Metafile,
    entries: &BTreeSet<String>,
    stems: &BTreeMap<String, String>,
    wrapped: &BTreeSet<String>,
) -> Result<BTreeSet<String>, Trouble> {
    let mut suspects: BTreeMap<&str, Vec<&String>> = BTreeMap::new();
    for entry in entries.difference(wrapped) {
        let Some(output) = meta.outputs.get(&format!("out/{}.js", stems[entry])) else { continue };
        let Some(source) = output.entry_point.as_deref() else { continue };
        if meta.inputs.get(source).is_none_or(|it| it.format.as_deref() != Some("esm")) {
            continue;
        }
        let holders = meta.outputs.iter().filter(|(path, it)| is_script(path) && it.inputs.contains(source));
        for (path, _) in holders {
            suspects.entry(path).or_default().push(entry);
        }
    }
    let mut found = BTreeSet::new();
    for (path, entries) in suspects {
        let code = fs::read(folder.join(path)).map_err(local("read what esbuild wrote"))?;
        let marks = |it: &[u8]| it == b"__reExport(";
        if code.windows(b"__reExport(".len()).any(marks) {
            found.extend(entries.into_iter().cloned());
        }
    }
    Ok(found)
}

/// Files that no package brought: a package that reaches for the machine's own files must get nothing.
fn strangers(meta: &Metafile) -> Vec<Complaint> {
    let own = |path: &str| {
        let path = path.strip_prefix("(disabled):").unwrap_or(path);
        let inside = path.starts_with(MODULES) || path.starts_with(WRAPPERS);
        (inside && !path.split('/').any(|it| it == "..")) || path.starts_with("<data:") || path.starts_with("data:")
    };
    let mut found = Vec::new();
    for (importer, input) in meta.inputs.iter().filter(|(path, _)| own(path)) {
        let reaches = input.imports.iter().any(|it| meta.inputs.contains_key(&it.path) && !own(&it.path));
        if reaches {
            let message = "it reaches for files outside of packages".to_owned();
            found.push(Complaint { message, file: Some(importer.clone()), line: None, note: None });
        }
    }
    if found.is_empty() && meta.inputs.keys().any(|it| !own(it)) {
        let message = "files outside of packages were reached for".into();
        found.push(Complaint { message, file: None, line: None, note: None });
    }
    found
}

/// The stand-ins that a module imports, itself or through others, without a condition; with who does.
fn imported_stand_ins(meta: &Metafile, source: &str) -> Vec<(String, String)> {
    let (mut seen, mut left, mut found) = (BTreeSet::new(), vec![source], Vec::new());
    while let Some(path) = left.pop() {
        let Some(input) = meta.inputs.get(path).filter(|_| seen.insert(path)) else { continue };
        for import in input.imports.iter().filter(|it| it.kind == "import-statement") {
            match stand_in_of(&import.path) {
                Some(name) => found.push((path.to_owned(), name.to_owned())),
                None => left.push(&import.path),
            }
        }
    }
    found
}

/// Makes addresses of files that a script names ones that hold wherever it is served, and brings its style sheet along.
fn finish_script(code: &mut Vec<u8>, output: &esbuild::Output) {
    let assets: Vec<String> =
        output.imports.iter().filter(|it| it.kind == "file-loader").map(|it| file_name(&it.path)).collect();
    if assets.is_empty() && output.css_bundle.is_none() {
        return;
    }
    let mut text = String::from_utf8_lossy(code).into_owned();
    for asset in assets {
        let literal = format!("\"./{asset}\"");
        text = text.replace(&literal, &format!("new URL({literal}, import.meta.url).href"));
    }
    if let Some(style) = &output.css_bundle {
        let style = file_name(style);
        let bring = format!(
            "{{\n  const href = new URL(\"./{style}\", import.meta.url).href;\n  \
             if (typeof document !== \"undefined\" && ![...document.styleSheets].some((it) => it.href === href)) {{\n    \
             const link = document.createElement(\"link\");\n    link.rel = \"stylesheet\";\n    link.href = href;\n    \
             document.head.append(link);\n  }}\n}}\n"
        );
        text.push_str(&bring);
    }
    *code = text.into_bytes();
}

fn no_such_entry(entry: &str, complaint: &Complaint) -> Problem {
    let (name, _) = split_specifier(entry).unwrap_or((entry, ""));
    let why = match &complaint.note {
        Some(note) => {
            let note = note.trim_end_matches(':').replacen("The path", "the path", 1);
            format!("`{entry}` cannot be imported: {note}")
        }
        None => format!("the package `{name}` has nothing that is called `{entry}`"),
    };
    Problem::new(ProblemKind::Unresolved, why).help(format!("import what `{name}` documents, or change its version"))
}

fn does_not_bundle(entry: &str, place: Option<&str>, complaint: &Complaint) -> Problem {
    let place = place.filter(|place| !reaches_out(place, complaint));
    let file = complaint.file.as_deref().filter(|_| place.is_some()).map(|it| it.trim_start_matches(MODULES));
    let why = match file {
        Some(file) => format!("`{entry}` cannot be bundled: {} (in `{file}`)", complaint.message),
        // What it says of such a file may be what stands in it.
        None => format!("`{entry}` cannot be bundled: a package reaches for files outside of packages"),
    };
    Problem::new(ProblemKind::Package, why).help("use another version of the package, or another package")
}

/// Whether a complaint is about a file outside of packages: which are there on this machine is nobody's business.
fn reaches_out(place: &str, complaint: &Complaint) -> bool {
    let folder = complaint.file.as_deref().and_then(|it| it.rsplit_once('/')).map_or("", |(folder, _)| folder);
    match complaint.unresolved() {
        Some(wanted) if wanted.starts_with('/') => true,
        Some(wanted) if wanted.starts_with('.') => {
            let mut depth = folder.split('/').count().saturating_sub(place.split('/').count());
            wanted.split('/').any(|segment| match segment {
                "" | "." => false,
                ".." if depth == 0 => true,
                ".." => {
                    depth -= 1;
                    false
                }
                _ => {
                    depth += 1;
                    false
                }
            })
        }
        Some(_) => false,
        None => [" ../", ": /", "\"../", "\"/"].iter().any(|it| complaint.message.contains(it)),
    }
}

/// The place of the package that a file is of; `None` for any other file.
fn place_of(file: &str) -> Option<&str> {
    if !file.starts_with(MODULES) || file.split('/').any(|it| it == "..") {
        return None;
    }
    let start = file.rfind(MODULES)? + MODULES.len();
    let rest = &file[start..];
    let mut slashes = rest.match_indices('/').map(|(at, _)| at);
    let end = if rest.starts_with('@') { slashes.nth(1) } else { slashes.next() };
    Some(&file[..start + end.unwrap_or(rest.len())])
}

/// A specifier without `node:`, so that what stands in for it is found.
fn plain(specifier: &str) -> &str {
    if is_node_builtin(specifier) { specifier.strip_prefix("node:").unwrap_or(specifier) } else { specifier }
}

/// A name for each entry's file: legal, telling, and different even where case does not count.
fn stems(entries: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut taken = BTreeSet::new();
    let mut stems = BTreeMap::new();
    for entry in entries {
        let legal = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        let short: String = entry.chars().map(legal).take(80).collect();
        let mut stem = short.trim_start_matches(['.', '-']).to_owned();
        if !stem.starts_with(|c: char| c.is_ascii_alphanumeric()) && !stem.starts_with('_') {
            stem = format!("entry{stem}");
        }
        if stem.starts_with("chunk-") || !taken.insert(stem.to_ascii_lowercase()) {
            stem = format!("{stem}-{}", &overskill_core::Digest::of(entry.as_bytes()).to_string()[..8]);
            taken.insert(stem.clone());
        }
        stems.insert(entry.clone(), stem);
    }
    stems
}

fn file_name(path: &str) -> String {
    path.strip_prefix("out/").unwrap_or(path).to_owned()
}

fn extension(path: &str) -> String {
    Path::new(path).extension().and_then(|it| it.to_str()).unwrap_or_default().to_ascii_lowercase()
}

fn is_script(path: &str) -> bool {
    extension(path) == "js"
}

fn is_code(path: &str) -> bool {
    matches!(extension(path).as_str(), "js" | "css")
}

fn is_asset(path: &str) -> bool {
    let extension = extension(path);
    extension == "woff2" || esbuild::ASSET_EXTENSIONS.contains(&extension.as_str())
}

fn content_type(path: &str) -> String {
    match extension(path).as_str() {
        "js" => "text/javascript; charset=utf-8".to_owned(),
        "css" => "text/css; charset=utf-8".to_owned(),
        _ => mime_guess::from_path(path).first_or_octet_stream().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_a_file_of_its_own() {
        let entries = ["a/b", "a_b", "A_b", "@x/y", "chunk-1", "...", "a/b.css", "日本"].map(str::to_owned);
        let stems = stems(&entries.clone().into());
        let different: BTreeSet<String> = stems.values().map(|it| it.to_lowercase()).collect();
        assert_eq!(different.len(), entries.len(), "{stems:?}");
        assert_eq!(stems["@x/y"], "_x_y");
        assert!(stems.values().all(|it| !it.contains('/') && !it.starts_with(['.', '-'])), "{stems:?}");
    }

    #[test]
    fn files_are_of_packages_or_of_nobody() {
        assert_eq!(place_of("node_modules/a/x.js"), Some("node_modules/a"));
        assert_eq!(place_of("node_modules/@a/b/x/y.js"), Some("node_modules/@a/b"));
        assert_eq!(place_of("node_modules/a/node_modules/@b/c/x.js"), Some("node_modules/a/node_modules/@b/c"));
        assert_eq!(place_of("../../etc/passwd.json"), None);
        assert_eq!(place_of("node_modules/../../x.json"), None);
    }
}
