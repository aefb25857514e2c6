//! Tailwind, the app's configuration and its plugins as one script.

use super::{Script, problem};
use crate::{
    Problem, ProblemKind,
    packages::{
        Installed, NpmPackages, esbuild,
        trouble::{Trouble, blocking, local},
    },
    preview::scan::{Sort, tailwind_config},
    production::{
        bundle::{self, Bundled, For, Job, MODULES_OF_APP, Order},
        trouble::Failure,
        walk::Ground,
    },
};
use bytes::Bytes;
use overskill_core::{BuildMode, Digest, FilePath};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

/// A script for the child.
pub(super) struct Bundle {
    pub(super) code: Bytes,
    pub(super) form: Form,
    /// Files beside it.
    pub(super) files: Vec<(&'static str, Bytes)>,
    /// The configuration, for messages.
    pub(super) config: Option<FilePath>,
}

/// What form a script has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::production) enum Form {
    /// A function of what it may ask for, which starts sooner.
    Script,
    /// A module: its code waits for something before it is there, which no function's can.
    Module,
}

/// What in a script stands for the folder that it lies in.
pub(super) const FOLDER: &str = "__overskill_folder__";

/// What both drivers share.
const JOB: &str = include_str!("job.js");

const SHEETS: [&str; 4] = ["index.css", "preflight.css", "theme.css", "utilities.css"];

/// Tailwind 3, with the configuration if there is one.
pub(super) async fn three(
    packages: &NpmPackages,
    ground: &Ground,
    installed: &Installed,
    config: Option<&FilePath>,
) -> Result<Bundle, Failure> {
    let mut installed = installed.clone();
    let place = place_of_tailwind(packages, &mut installed).await?;
    let postcss = installed.tree.lookup(&place, "postcss").unwrap_or("node_modules/postcss").to_owned();
    packages.install_more(&mut installed, &place, "postcss").await?;
    let folder = installed.places[&place].clone();
    let preflight = folder.join("lib/css/preflight.css");
    let preflight =
        blocking(move || fs::read(preflight).map(Bytes::from).map_err(local("read Tailwind's files"))).await?;
    let given = config.map_or_else(|| "data:text/javascript,export default {}".to_owned(), |it| format!("./{it}"));
    let driver = include_str!("driver-3.js")
        .replace("\"overskill:postcss\"", &format!("\"../{postcss}\""))
        .replace("\"overskill:config\"", &Value::from(given).to_string());
    let (form, code) = bundled(packages, ground, &mut installed, &driver, Vec::new()).await?;
    Ok(Bundle { code, form, files: vec![("css/preflight.css", preflight)], config: config.cloned() })
}

/// Tailwind 4, with the scripts that the sheets name.
pub(super) async fn four(
    packages: &NpmPackages,
    ground: &Ground,
    installed: &Installed,
    scripts: &[Script],
) -> Result<Bundle, Failure> {
    let mut installed = installed.clone();
    place_of_tailwind(packages, &mut installed).await?;
    let mut modules = "export const modules = {};\n".to_owned();
    for script in scripts {
        let named = match &script.file {
            Some(file) => format!("./{file}"),
            None => script.specifier.clone(),
        };
        let (from, specifier) = (Value::from(script.from.as_str()), Value::from(script.specifier.as_str()));
        let named = Value::from(named);
        let _ = writeln!(modules, "(modules[{from}] ??= {{}})[{specifier}] = () => import({named});");
    }
    let driver = include_str!("driver-4.js").replace("\"overskill:modules\"", "\"./overskill-modules.mjs\"");
    let extra = vec![("overskill-modules.mjs".to_owned(), modules)];
    let (form, code) = bundled(packages, ground, &mut installed, &driver, extra).await?;
    let config = scripts.iter().find_map(|it| it.file.clone()).or_else(|| tailwind_config(&ground.files).cloned());
    Ok(Bundle { code, form, files: Vec::new(), config })
}

/// Tailwind 4's own sheets, by what they are imported as.
pub(super) fn own_sheets(installed: &Installed) -> Result<Map<String, Value>, Failure> {
    let Some((_, folder)) = installed.find("", "tailwindcss") else { return Err(missing()) };
    let mut all = Map::new();
    for name in SHEETS {
        let Ok(text) = fs::read_to_string(folder.join(name)) else { continue };
        all.insert(format!("tailwindcss/{name}"), text.clone().into());
        if name == "index.css" {
            all.insert("tailwindcss".to_owned(), text.into());
        }
    }
    Ok(all)
}

fn missing() -> Failure {
    let problem = Problem::new(ProblemKind::Package, "a style sheet is written for Tailwind, which is not installed");
    Failure::Problems(vec![problem.help("add `tailwindcss` to package.json")])
}

async fn place_of_tailwind(packages: &NpmPackages, installed: &mut Installed) -> Result<String, Failure> {
    packages.install_more(installed, "", "tailwindcss").await?;
    match installed.find("", "tailwindcss") {
        Some((place, _)) => Ok(place.to_owned()),
        None => Err(missing()),
    }
}

/// What is kept of a script besides its code: its form, and the app's files that went into it, with their digests.
#[derive(Serialize, Deserialize)]
struct Head {
    form: Form,
    read: BTreeMap<String, Digest>,
}

/// What tells a script from others before it is made: everything but the contents of the app's own scripts, of which the
/// bundler alone knows which it needs. A file that comes or goes may change where a name leads, and so may settings.
fn key_of(ground: &Ground, installed: &Installed, driver: &str, extra: &[(String, String)]) -> Digest {
    let paths: Vec<&str> = ground.files.iter().map(|(path, _)| path.as_str()).collect();
    let settings = ground.files.iter().filter(|(path, _)| path.extension() == Some("json"));
    let settings: Vec<_> = settings.map(|(path, file)| (path.as_str(), file.digest())).collect();
    let places: Vec<_> = installed.places.iter().map(|(place, at)| (place, at.to_string_lossy())).collect();
    let versions = (env!("CARGO_PKG_VERSION"), esbuild::VERSION);
    let all = serde_json::to_vec(&(versions, driver, JOB, extra, paths, settings, places));
    Digest::of(&all.expect("texts and digests are JSON"))
}

/// A script that was made before of the same files.
async fn kept(packages: &NpmPackages, ground: &Ground, key: Digest) -> Option<(Form, Bytes)> {
    let kept = packages.kept_tool(key).await?;
    let end = kept.iter().position(|byte| *byte == b'\n')?;
    let head: Head = serde_json::from_slice(&kept[..end]).ok()?;
    let same = head.read.iter().all(|(path, digest)| digest_of(ground, path) == Some(*digest));
    same.then(|| (head.form, kept.slice(end + 1..)))
}

fn digest_of(ground: &Ground, path: &str) -> Option<Digest> {
    ground.files.get(path).map(|(_, file)| file.digest())
}

async fn bundled(
    packages: &NpmPackages,
    ground: &Ground,
    installed: &mut Installed,
    driver: &str,
    extra: Vec<(String, String)>,
) -> Result<(Form, Bytes), Failure> {
    let key = key_of(ground, installed, driver, &extra);
    if let Some(kept) = kept(packages, ground, key).await {
        return Ok(kept);
    }
    let program = packages.bundler().await?;
    let work = packages.workspace().await?;
    let mut files = extra;
    files.push(("overskill-driver.mjs".to_owned(), driver.to_owned()));
    files.push(("overskill-job.mjs".to_owned(), JOB.to_owned()));
    let scripts = ground.files.iter().filter(|(path, _)| Sort::of(path.as_str()) == Sort::Script);
    // Their own form: how configurations resolve what they name is the business of Node's rules.
    let sources: Vec<(FilePath, Bytes)> = scripts.map(|(path, file)| (path.clone(), file.contents().clone())).collect();
    let folder = work.path().to_owned();
    blocking(move || {
        write_sources(&folder.join(MODULES_OF_APP), &sources)?;
        bundle::write(&folder, MODULES_OF_APP, &files).map(drop)
    })
    .await?;
    let job = Job {
        packages,
        program: &program,
        folder: work.path(),
        limit: packages.bundling_limit(),
        mode: BuildMode::Development,
    };
    let mut absent = BTreeSet::new();
    job.lay_out(installed, &absent).await?;
    let entries = vec![("driver".to_owned(), format!("{MODULES_OF_APP}/overskill-driver.mjs"))];
    let order = |form| Order { entries: entries.clone(), to: "out", splitting: false, whose: For::Tool(form) };
    let mut form = Form::Script;
    let mut ran = job.run(&order(form), installed, &mut absent).await?;
    if let Bundled::Badly(complaints) = &ran
        && complaints.iter().any(|it| it.message.starts_with("Top-level await"))
    {
        form = Form::Module;
        ran = job.run(&order(form), installed, &mut absent).await?;
    }
    match ran {
        Bundled::Well(meta) => {
            let code = work.path().join("out/driver.js");
            let code = blocking(move || {
                let code = fs::read(code).map_err(local("read what esbuild wrote"))?;
                drop(work); // deletes the folder, here where that may block
                Ok(Bytes::from(code))
            })
            .await?;
            let read = meta.inputs.keys().filter_map(|it| it.strip_prefix(MODULES_OF_APP)?.strip_prefix('/'));
            let read = read.filter_map(|it| Some((it.to_owned(), digest_of(ground, it)?))).collect();
            if let Ok(head) = serde_json::to_vec(&Head { form, read }) {
                packages.keep_tool(key, head, code.clone()).await?;
            }
            Ok((form, code))
        }
        Bundled::Badly(complaints) => {
            let own = |name: &str, _: Option<u32>| {
                let path = FilePath::parse(name).ok().filter(|it| ground.files.has(it.as_str()))?;
                Some(problem("").in_file(path))
            };
            Err(Failure::Problems(bundle::problems(&complaints, own)))
        }
    }
}

/// Writes an app's files as they are; those whose names no disk takes are left out. Blocks.
pub(super) fn write_sources(folder: &Path, sources: &[(FilePath, Bytes)]) -> Result<(), Trouble> {
    for (path, contents) in sources {
        if path.as_str().split('/').any(|segment| segment.len() > 255 || segment == "node_modules") {
            continue;
        }
        let to = folder.join(path.as_str());
        if let Some(above) = to.parent() {
            fs::create_dir_all(above).map_err(local("make a folder"))?;
        }
        fs::write(to, contents).map_err(local("write a file"))?;
    }
    Ok(())
}
