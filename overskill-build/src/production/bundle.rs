//! Runs of the bundler, in a folder that holds nothing but what we put there.

use super::{tailwind::Form, tokens::CHOSEN};
use crate::{
    Problem, ProblemKind,
    packages::{
        Installed, NpmPackages,
        esbuild::{self, Complaint, Metafile, Ran},
        layout::{lay_out, stand_in_of},
        names::{NODE_BUILTINS, split_specifier},
        tree::MODULES,
        trouble::{Trouble, blocking, local},
    },
};
use overskill_core::BuildMode;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// The folder of the app's modules.
pub(super) const MODULES_OF_APP: &str = "app";
/// Most runs. Each brings what a package turned out to want.
const MAX_RUNS: usize = 8;

/// What Vite builds for unless told otherwise.
const TARGET: &str = "--target=chrome111,edge111,firefox114,safari16.4,ios16.4";

/// One run.
pub(super) struct Job<'a> {
    pub(super) packages: &'a NpmPackages,
    pub(super) program: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) limit: Duration,
    pub(super) mode: BuildMode,
}

/// What a run is to do.
pub(super) struct Order {
    /// Entries: the name of what comes out, and the file that goes in.
    pub(super) entries: Vec<(String, String)>,
    /// Where it goes: `out`.
    pub(super) to: &'static str,
    /// Whether what entries have in common becomes files of their own.
    pub(super) splitting: bool,
    /// Where it is to run.
    pub(super) whose: For,
}

/// Where bundled modules are to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Page,
    Server,
    /// The child that runs Tailwind.
    Tool(Form),
}

/// How a run ended.
pub(super) enum Bundled {
    Well(Metafile),
    Badly(Vec<Complaint>),
}

impl Job<'_> {
    /// Links the packages into the folder.
    pub(super) async fn lay_out(&self, installed: &Installed, absent: &BTreeSet<String>) -> Result<(), Trouble> {
        let (folder, places, absent) = (self.folder.to_owned(), installed.places.clone(), absent.clone());
        blocking(move || lay_out(&folder, &places, &absent)).await
    }

    /// Bundles. Packages that turn out to be wanted are brought, and what is not there is stood in for.
    pub(super) async fn run(
        &self,
        order: &Order,
        installed: &mut Installed,
        absent: &mut BTreeSet<String>,
    ) -> Result<Bundled, Trouble> {
        let mut complaints = Vec::new();
        for _ in 0..MAX_RUNS {
            complaints = match esbuild::run(
                self.program,
                self.folder,
                &self.arguments(order),
                self.limit,
                &**self.packages.clock(),
            )
            .await?
            {
                Ran::Badly(complaints) => complaints,
                Ran::Well => {
                    let path = self.meta(order);
                    let meta = blocking(move || Metafile::read(&path)).await?;
                    let strangers = strangers(&meta);
                    if strangers.is_empty() {
                        return Ok(Bundled::Well(meta));
                    }
                    return Ok(Bundled::Badly(strangers));
                }
            };
            let mut helped = false;
            for complaint in &complaints {
                helped |= self.help(complaint, installed, absent).await?;
            }
            if !helped {
                break;
            }
            self.lay_out(installed, absent).await?;
        }
        Ok(Bundled::Badly(complaints))
    }

    /// Brings what a package wants, or something in its stead; false if that is no help.
    async fn help(
        &self,
        complaint: &Complaint,
        installed: &mut Installed,
        absent: &mut BTreeSet<String>,
    ) -> Result<bool, Trouble> {
        let (Some(wanted), Some(file)) = (complaint.unresolved(), complaint.file.as_deref()) else { return Ok(false) };
        let Some((name, _)) = split_specifier(wanted) else { return Ok(false) };
        let Some(place) = place_of(file) else { return Ok(false) };
        if self.packages.install_more(installed, place, name).await? {
            return Ok(true);
        }
        // There, but without that file.
        if installed.find(place, name).is_some() {
            return Ok(false);
        }
        Ok(absent.insert(name.to_owned()))
    }

    fn meta(&self, order: &Order) -> PathBuf {
        self.folder.join(format!("{}.json", order.to))
    }

    fn arguments(&self, order: &Order) -> Vec<String> {
        let mut all: Vec<String> = [
            "--bundle",
            // Packages are linked into the folder: they find each other by where they are linked, not by where they lie.
            "--preserve-symlinks",
            "--define:process.env.NODE_ENV=\"production\"",
            "--charset=utf8",
            // No package's tsconfig.json, which could extend any file, is looked at.
            "--tsconfig-raw={}",
            "--jsx=automatic",
            "--loader:.js=jsx",
            "--loader:.woff2=file",
            "--legal-comments=none",
            "--log-level=error",
            "--log-limit=0",
            "--color=false",
            "--entry-names=[name]",
            "--public-path=/assets",
        ]
        .map(str::to_owned)
        .into();
        all.push(format!("--outdir={}", order.to));
        all.push(format!("--metafile={}.json", order.to));
        all.push(format!("--chunk-names={CHOSEN}"));
        all.push(format!("--asset-names={CHOSEN}"));
        all.extend(esbuild::ASSET_EXTENSIONS.iter().map(|it| format!("--loader:.{it}=file")));
        if self.mode == BuildMode::Production {
            all.push("--minify".to_owned());
        }
        if order.splitting {
            all.push("--splitting".to_owned());
        }
        let more: &[&str] = match order.whose {
            For::Page => &[
                "--format=esm",
                "--platform=browser",
                "--conditions=module,production",
                TARGET,
                "--define:process.env={}",
            ],
            For::Server => &[
                "--format=esm",
                "--platform=neutral",
                "--main-fields=module,main",
                "--target=es2022",
                "--conditions=workerd,worker,browser,module,production",
                "--external:node:*",
                "--external:cloudflare:*",
                "--external:*.wasm",
            ],
            For::Tool(Form::Script) => &["--format=cjs", "--platform=node", "--target=es2022", URL, DIRECTORY, FOLDER],
            For::Tool(Form::Module) => &["--format=esm", "--platform=node", "--target=es2022", BANNER, FOLDER],
        };
        all.extend(more.iter().map(|it| (*it).to_owned()));
        if order.whose == For::Page {
            all.push(format!("--external:/{}", super::emit::ENV_MODULE));
            all.extend(NODE_BUILTINS.iter().map(|it| format!("--alias:node:{it}={it}")));
        }
        if !matches!(order.whose, For::Tool(_)) {
            all.extend(ENV.map(str::to_owned));
        }
        all.extend(order.entries.iter().map(|(name, file)| format!("{name}=./{file}")));
        all
    }
}

/// What `import.meta.env` is to packages; the app's own modules have it otherwise by now.
const ENV: [&str; 6] = [
    "--define:import.meta.env.MODE=\"production\"",
    "--define:import.meta.env.BASE_URL=\"/\"",
    "--define:import.meta.env.PROD=true",
    "--define:import.meta.env.DEV=false",
    "--define:import.meta.env.SSR=false",
    "--define:import.meta.env={\"MODE\":\"production\",\"BASE_URL\":\"/\",\"PROD\":true,\"DEV\":false,\"SSR\":false}",
];
/// What `CommonJS` modules ask for that is Node's own.
const BANNER: &str = "--banner:js=import { createRequire as __overskillRequire } from \"node:module\"; \
                      const require = __overskillRequire(import.meta.url);";
/// What a script is told that a module knows.
const URL: &str = "--define:import.meta.url=__overskill_url";
const DIRECTORY: &str = "--define:import.meta.dirname=\"__overskill_folder__\"";
/// Where Tailwind looks for its files: beside the bundle.
const FOLDER: &str = "--define:__dirname=\"__overskill_folder__\"";

/// What the bundler says is wrong, said of the app's own files. `file` gives a module's path, and its line in the source.
pub(super) fn problems(complaints: &[Complaint], file: impl Fn(&str, Option<u32>) -> Option<Problem>) -> Vec<Problem> {
    let problem = |complaint: &Complaint| {
        let mut message = complaint.message.clone();
        // Modules go by other names there.
        for name in names_in(&message) {
            if let Some(Problem { file: Some(path), .. }) = file(&name, None) {
                message = message.replace(&format!("{MODULES_OF_APP}/{name}"), path.as_str());
                message = message.replace(&format!("./{name}"), path.as_str());
            }
        }
        let own = complaint
            .file
            .as_deref()
            .and_then(|it| file(it.strip_prefix(MODULES_OF_APP)?.trim_start_matches('/'), complaint.line));
        let mut problem = own.unwrap_or_else(|| {
            let place =
                complaint.file.as_deref().and_then(place_of).map(|it| it.trim_start_matches(MODULES).to_owned());
            let message = place.map(|it| format!("`{it}`: ")).unwrap_or_default();
            Problem::new(ProblemKind::Package, message)
        });
        problem.message.push_str(&message);
        if let Some(note) = &complaint.note {
            problem = problem.help(note.clone());
        }
        problem
    };
    let mut all: Vec<Problem> = complaints.iter().map(problem).collect();
    all.dedup();
    all
}

fn names_in(message: &str) -> Vec<String> {
    let words = message.split(['"', '\'', '/', ' ']);
    words.filter(|it| super::emit::unit_of(it).is_some()).map(str::to_owned).collect()
}

/// The place of the package that a file is of.
fn place_of(file: &str) -> Option<&str> {
    let at = file.rfind(MODULES)? + MODULES.len();
    let rest = &file[at..];
    let mut slashes = rest.match_indices('/').map(|(at, _)| at);
    let end = if rest.starts_with('@') { slashes.nth(1) } else { slashes.next() };
    Some(&file[..at + end?])
}

/// Files that neither the app nor a package brought: whoever reaches for the machine's own gets nothing.
fn strangers(meta: &Metafile) -> Vec<Complaint> {
    let own = |path: &str| {
        let path = path.strip_prefix("(disabled):").unwrap_or(path);
        let inside = path.starts_with(MODULES)
            || path.strip_prefix(MODULES_OF_APP).is_some_and(|it| it.starts_with('/'))
            || path.strip_prefix("server").is_some_and(|it| it.starts_with('/'));
        (inside && !path.split('/').any(|it| it == "..")) || path.starts_with("<data:") || path.starts_with("data:")
    };
    let stranger = |importer: Option<&String>| Complaint {
        message: "files outside of the app and its packages were reached for".to_owned(),
        file: importer.cloned(),
        line: None,
        note: None,
    };
    let all: Vec<_> = meta.inputs.keys().filter(|it| !own(it) && !it.starts_with('<')).collect();
    all.into_iter()
        .map(|path| {
            let importer = meta.inputs.iter().find(|(_, input)| input.imports.iter().any(|it| it.path == *path));
            stranger(importer.map(|(importer, _)| importer))
        })
        .collect()
}

/// Packages that are not there, and without which a module that always runs throws.
pub(super) fn needed_stand_ins(meta: &Metafile) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (importer, input) in &meta.inputs {
        for import in input.imports.iter().filter(|it| it.kind == "import-statement") {
            if let Some(name) = stand_in_of(&import.path).filter(|it| !NODE_BUILTINS.contains(it)) {
                found.insert(name.to_owned(), importer.clone());
            }
        }
    }
    found
}

/// Writes modules into the folder. Blocks.
pub(super) fn write(folder: &Path, name: &str, files: &[(String, String)]) -> Result<u64, Trouble> {
    let folder = folder.join(name);
    fs::create_dir_all(&folder).map_err(local("make a folder"))?;
    let mut bytes = 0;
    for (name, code) in files {
        fs::write(folder.join(name), code).map_err(local("write a module"))?;
        bytes += code.len() as u64;
    }
    Ok(bytes)
}
