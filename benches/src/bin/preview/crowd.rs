//! Many apps from one template in one process, as its parent commands it: `preview crowd DATA PACKAGES TEMPLATE`.
//!
//! It answers each line of its input with one line of JSON.

use crate::serve::app;
use overskill::{
    AppFile, AppHandle, FilePath, Overskill, Sources,
    build::{
        compiler::{Compiler, CompilerOptions},
        packages::NpmPackages,
    },
    local::{LocalOptions, read_folder},
};
use overskill_benches::{Outcome, Turns};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::Arc,
    time::Instant,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// What the parent asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Makes and opens the apps from the first number up to the second.
    Open { from: u32, to: u32, at_once: bool },
    /// How much memory the process holds.
    Memory,
    /// Edits one app.
    Edit { app: u32, text: String },
}

/// What became of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) seconds: f64,
    /// Of one app.
    pub(crate) average_ms: f64,
    pub(crate) p95_ms: f64,
    pub(crate) errors: Vec<String>,
    /// Bytes of the files that only this app has.
    pub(crate) own_bytes: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) port: u16,
    /// What the compiler remembers, for all apps together.
    pub(crate) compiled_bytes: u64,
}

/// What differs from app to app: its name stands in these.
const OWN: [(&str, &str); 6] = [
    ("src/components/Counter.tsx", "Focus rounds"),
    ("src/components/layout/Header.tsx", "New task"),
    ("src/pages/Index.tsx", "of what was due is done."),
    ("src/components/layout/Sidebar.tsx", ">Lists<"),
    ("index.html", "<title>Todo Studio"),
    ("src/index.css", "/* Every colour"),
];

/// What is remembered of compiled modules is bounded; here it is small, and full before anything is measured.
const COMPILED_BYTES: u64 = 8 << 20;

struct Crowd {
    platform: Overskill,
    compiler: Compiler,
    template: BTreeMap<FilePath, AppFile>,
    handles: HashMap<u32, AppHandle>,
}

pub(crate) async fn run(arguments: &[String]) -> Outcome<()> {
    let [data, packages, template] = arguments else {
        return Err("crowd needs a data folder, a packages folder and a template".into());
    };
    raise_limit();
    let compiler = Compiler::with_cache_bytes(CompilerOptions::development(), COMPILED_BYTES);
    let packages = NpmPackages::builder(packages).build()?;
    let server = LocalOptions::new().port(0);
    let platform = Overskill::local(data).server(server).compiler(compiler.clone()).packages(packages).await?;
    let background = platform.clone();
    tokio::spawn(async move { background.run(std::future::pending()).await });
    let template = read_folder(template).await?.files;
    let mut crowd = Crowd { platform, compiler, template, handles: HashMap::new() };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = crowd.obey(serde_json::from_str(&line)?).await?;
        println!("{}", serde_json::to_string(&answer)?);
    }
    Ok(())
}

impl Crowd {
    async fn obey(&mut self, command: Command) -> Outcome<Answer> {
        match command {
            Command::Open { from, to, at_once } => self.open(from, to, at_once).await,
            Command::Memory => Ok(self.answer()),
            Command::Edit { app: number, text } => {
                if !self.handles.contains_key(&number) {
                    self.handles.insert(number, app(&self.platform, &name(number)).await?);
                }
                let (path, anchor) = OWN[0];
                let source = String::from_utf8(self.template[&FilePath::parse(path)?].contents().to_vec())?;
                let begun = Instant::now();
                self.handles[&number].write([(path, source.replace(anchor, &text))]).await?;
                Ok(Answer { seconds: begun.elapsed().as_secs_f64(), ..self.answer() })
            }
        }
    }

    fn answer(&self) -> Answer {
        let port = self.platform.backends().map_or(0, |backends| backends.address().port());
        let compiled_bytes = self.compiler.cached_bytes();
        Answer { port, memory_bytes: resident_bytes(), compiled_bytes, ..Answer::default() }
    }

    async fn open(&self, from: u32, to: u32, at_once: bool) -> Outcome<Answer> {
        let begun = Instant::now();
        let shared = Arc::new(self.template.clone());
        let mut own_bytes = 0;
        let mut seen = Vec::new();
        let create = |number: u32| {
            let (platform, template) = (self.platform.clone(), shared.clone());
            async move {
                let begun = Instant::now();
                let bytes = create(&platform, number, &template).await?;
                Outcome::Ok((begun.elapsed().as_secs_f64() * 1e3, bytes))
            }
        };
        let mut errors = Vec::new();
        let mut outcomes = Vec::new();
        if at_once {
            let all: Vec<_> = (from..to).map(|number| tokio::spawn(create(number))).collect();
            for one in all {
                outcomes.push(one.await?);
            }
        } else {
            for number in from..to {
                outcomes.push(create(number).await);
            }
        }
        for outcome in outcomes {
            match outcome {
                Ok((millis, bytes)) => {
                    seen.push([millis]);
                    own_bytes = bytes;
                }
                Err(e) => errors.push(e.to_string()),
            }
        }
        let average_ms = seen.iter().map(|[millis]| millis).sum::<f64>() / f64::from(u32::try_from(seen.len().max(1))?);
        let p95_ms = Turns::seen(seen).quantile_of(0, 0.95);
        let seconds = begun.elapsed().as_secs_f64();
        Ok(Answer { seconds, average_ms, p95_ms, errors, own_bytes, ..self.answer() })
    }
}

/// Makes an app as a request does that brought its own copy of every file, and opens its preview.
async fn create(platform: &Overskill, number: u32, template: &BTreeMap<FilePath, AppFile>) -> Outcome<u64> {
    let mut files: BTreeMap<FilePath, AppFile> =
        template.iter().map(|(path, file)| (path.clone(), AppFile::new(file.contents().to_vec()))).collect();
    let mut own_bytes = 0;
    for (path, anchor) in OWN {
        let path = FilePath::parse(path)?;
        let source = String::from_utf8(files.get(&path).ok_or("the template lacks a file")?.contents().to_vec())?;
        if !source.contains(anchor) {
            return Err(format!("{path} does not hold {anchor:?}").into());
        }
        let file = AppFile::new(source.replace(anchor, &format!("{anchor} {}", name(number))));
        own_bytes += file.size_bytes();
        files.insert(path, file);
    }
    let app = app(platform, &name(number)).await?;
    app.preview().open(Sources::files(files)?).await?;
    Ok(own_bytes)
}

/// What an app is called.
pub(crate) fn name(number: u32) -> String {
    format!("crowd{number}")
}

/// Lets this process open as many sockets as it may.
pub(crate) fn raise_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }); // else there are fewer sockets
    }
}

/// How many sockets one process may have, with room for its files; as many as wanted where nobody tells.
pub(crate) fn most_sockets() -> u32 {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, getrlimit};
        getrlimit(Resource::Nofile).maximum.map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(u32::MAX) - 200)
    }
    #[cfg(not(target_os = "linux"))]
    {
        u32::MAX
    }
}

/// What of this process is in memory, where the system tells (Linux).
fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
