//! [`NpmScriptBuilder`]: an app's own build.

mod jail;
mod log;
mod watch;

use super::{declared, prebuilt::of_files};
use crate::Result;
use async_trait::async_trait;
pub use jail::BuildJail;
use jail::{Call, Folders, Jail};
use log::{Log, Mask, lines};
use overskill_core::{
    AppFile, Artifact, BuildRequest, Builder, Clock, Effect, Error, ErrorKind, FilePath, Ids, IdsExt as _, Progress,
    ProgressKind, Readiness, Secret, Snapshot, SystemClock, SystemIds,
};
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    sync::OnceCell,
};

/// Builds an app as its author does: `npm ci`, then `npm run build`, and takes what it leaves in `dist/`. For apps that need
/// what a [`ModuleBuilder`](super::ModuleBuilder) does not do: plugins of Vite, Sass, other frameworks. Needs Node and npm.
///
/// The app's own code runs, so it runs in a jail: with bubblewrap (0.8 or newer) or else `unshare`, it sees programs, its own
/// folder, and nothing else of the machine; it writes to its own folder alone, and makes no namespaces. While it is built there
/// is no network. `npm ci` before that has the network, for the registry alone: no code of the app or of a package runs then, an
/// `.npmrc` of the app is not read, and packages from git are refused. Without either, building is refused, unless
/// [`trust_all_apps`](Self::trust_all_apps) was called. It never has our environment. Install scripts of packages are not run.
///
/// Its log is told as progress. Values of `.env` files of the sources, and those given to [`mask`](Self::mask), are left out of
/// it. Whatever it starts ends with it, and nothing of it stays on the disk.
///
/// # Errors
/// `Invalid` when the build fails, or takes more than it may; the message has the end of its log. `Unsupported` when there is
/// no jail. `Unavailable` when Node, npm or the disk cannot be used.
#[derive(Clone, Debug)]
pub struct NpmScriptBuilder {
    folder: PathBuf,
    npm: PathBuf,
    script: String,
    output: FilePath,
    registry: Option<String>,
    masked: Vec<Secret>,
    trusted: bool,
    limits: Limits,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    jails: &'static [BuildJail],
    /// The first of them that works.
    jail: Arc<OnceCell<Option<BuildJail>>>,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    time: Duration,
    memory_bytes: u64,
    disk_bytes: u64,
    output_bytes: u64,
    log_lines: usize,
}

/// How often it is looked at what a build takes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Where `npm` is looked for in a jail.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl NpmScriptBuilder {
    /// A builder that works in `folder`, where each build has a folder of its own while it runs.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            npm: "npm".into(),
            script: "build".to_owned(),
            output: FilePath::parse("dist").expect("it is a legal path"),
            registry: None,
            masked: Vec::new(),
            trusted: false,
            limits: Limits {
                time: Duration::from_mins(10),
                memory_bytes: 4 << 30,
                disk_bytes: 4 << 30,
                output_bytes: 256 << 20,
                log_lines: 2_000,
            },
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            jails: &[BuildJail::Bubblewrap, BuildJail::Unshare],
            jail: Arc::default(),
        }
    }

    /// The npm to call; the one on `PATH` unless set. `node` has to lie beside it.
    pub fn npm(mut self, program: impl Into<PathBuf>) -> Self {
        self.npm = program.into();
        self
    }

    /// Which script of `package.json` builds, and into which folder; `build` and `dist` unless set.
    pub fn script(mut self, name: impl Into<String>, output: FilePath) -> Self {
        (self.script, self.output) = (name.into(), output);
        self
    }

    /// The registry that npm takes packages from; the one of `npm config` unless set.
    pub fn registry(mut self, url: impl Into<String>) -> Self {
        self.registry = Some(url.into());
        self
    }

    /// Leaves these out of what is told of a build, wherever they stand: secrets of the app's environments. Values of fewer
    /// than six characters are words, and stay.
    pub fn mask(mut self, secrets: impl IntoIterator<Item = Secret>) -> Self {
        self.masked.extend(secrets);
        self
    }

    /// Builds in this jail and in no other; the first that works of bubblewrap and `unshare` unless set.
    pub fn jail(mut self, jail: BuildJail) -> Self {
        self.jails = match jail {
            BuildJail::Bubblewrap => &[BuildJail::Bubblewrap],
            BuildJail::Unshare => &[BuildJail::Unshare],
        };
        self.jail = Arc::default();
        self
    }

    /// Builds without a jail where there is none: **every app can do what this process can do.** For machines whose apps are
    /// all one's own.
    pub fn trust_all_apps(mut self) -> Self {
        self.trusted = true;
        self
    }

    /// How long a build may take, `npm ci` included; 10 minutes unless set.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limits.time = limit;
        self
    }

    /// How much memory its programs may take together, and how much of the disk, in bytes; 4 GiB each unless set. Looked at
    /// five times a second, so a build can be over for a moment.
    ///
    /// Counted are memory of their own and shared, files in memory, and whatever is in the build's folder or was deleted there
    /// and is still open: in a jail nothing else can be written to. Not counted is what the kernel keeps for them (pipes,
    /// sockets, and what is on its way through these); and, unless we are root, mapped files that nobody has open, and shared
    /// memory that a program gave back for a while. Where builds want to do harm, put this process in a cgroup with a limit.
    pub fn max_bytes(mut self, memory: u64, disk: u64) -> Self {
        (self.limits.memory_bytes, self.limits.disk_bytes) = (memory, disk);
        self
    }

    /// How large an artifact may be, and how much a build may print, in bytes each; and how many lines of what it prints are
    /// told. 256 MiB and 2,000 unless set. A build that prints more lines goes on; one that prints more bytes is ended.
    pub fn max_output(mut self, bytes: u64, log_lines: usize) -> Self {
        (self.limits.output_bytes, self.limits.log_lines) = (bytes, log_lines);
        self
    }

    /// Where time comes from; the machine's clocks unless set.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The jail that works on this machine; `None` when there is none and apps are not trusted.
    async fn found_jail(&self) -> Option<Jail> {
        let found = self.jail.get_or_init(|| async {
            for jail in self.jails {
                if self.works(Jail::In(*jail)).await {
                    return Some(*jail);
                }
            }
            None
        });
        found.await.map(Jail::In).or(self.trusted.then_some(Jail::Nothing))
    }

    /// Whether a program runs in a jail, and sees nothing of ours there.
    async fn works(&self, jail: Jail) -> bool {
        let try_it = async {
            let work = Work::new(&self.folder, "probe".to_owned()).await?;
            let call =
                Call { program: "/bin/sh".into(), arguments: words(&["-c", "pwd; ls /"]), environment: Vec::new() };
            let mut command = command(&jail.around(call, &work.folders(), false));
            let said = command.output().await.map_err(|e| disk("start a jail")(e))?;
            let said_text = String::from_utf8_lossy(&said.stdout).into_owned();
            Ok::<_, Error>(said.status.success() && said_text.starts_with("/app") && !said_text.contains("home"))
        };
        try_it.await.unwrap_or(false)
    }

    async fn run(&self, request: &BuildRequest) -> Result<Artifact> {
        let Some(jail) = self.found_jail().await else {
            let why = "this machine has no jail for an app's own build: install bubblewrap, or allow user namespaces \
                       for `unshare`; where all apps are one's own, call `trust_all_apps`";
            return Err(Error::new(ErrorKind::Unsupported, why));
        };
        let mut log =
            Log::new(Mask::of(&self.masked, &request.snapshot), request.progress.clone(), self.limits.log_lines);
        let settings = declared::settings(&request.snapshot)?;
        let work = Work::new(
            &self.folder,
            format!("OVERSKILL_BUILD={:016x}{:016x}", self.ids.random_u64(), self.ids.random_u64()),
        )
        .await?;
        work.write(request).await?;
        let registry = match &self.registry {
            Some(registry) => Some(registry.clone()),
            None => registry_of(&self.npm).await,
        };
        let deadline = self.clock.monotonic() + self.limits.time;
        let steps =
            [(vec!["ci", "--ignore-scripts", "--no-audit", "--no-fund"], true), (vec!["run", &self.script], false)];
        for (number, (arguments, network)) in steps.into_iter().enumerate() {
            let shown = format!("npm {}", arguments.join(" "));
            request.progress.at(if number == 0 { 15 } else { 50 }, "building", &shown);
            let call = self.call(jail, &work, &arguments, registry.as_deref());
            let call = jail.around(call, &work.folders(), network);
            self.step(&call, &work, &shown, deadline, &mut log).await?;
        }
        let (work, output, most) = (Arc::new(work), self.output.clone(), self.limits.output_bytes);
        let artifact = {
            let work = work.clone();
            blocking(move || take(&work.app, &output, most, settings)).await?
        };
        let message = format!("Built {} files, {} bytes", artifact.files(), artifact.size_bytes());
        tell(&request.progress, &message, &artifact);
        Ok(artifact)
    }

    fn call(&self, jail: Jail, work: &Work, arguments: &[&str], registry: Option<&str>) -> Call {
        let folders = work.folders();
        let (_, tmp) = jail.inside(&folders);
        let npm = on_path(&self.npm);
        let beside = npm.parent().map(|it| it.display().to_string()).unwrap_or_default();
        let mut environment: Vec<(String, OsString)> = vec![
            ("PATH".into(), format!("{beside}:{PATH}").into()),
            ("HOME".into(), tmp.join("home").into()),
            ("TMPDIR".into(), tmp.into()),
            ("CI".into(), "1".into()),
            ("NO_COLOR".into(), "1".into()),
            ("npm_config_cache".into(), tmp.join("cache").into()),
            ("npm_config_update_notifier".into(), "false".into()),
            // Whatever addresses a lock names, packages come from the registry.
            ("npm_config_replace_registry_host".into(), "always".into()),
            ("npm_config_git".into(), "false".into()),
            ("npm_config_loglevel".into(), "warn".into()),
        ];
        if let Some((name, value)) = work.mark.split_once('=') {
            environment.push((name.to_owned(), value.into()));
        }
        if let Some(registry) = registry {
            environment.push(("npm_config_registry".into(), registry.into()));
        }
        Call { program: npm, arguments: words(arguments), environment }
    }

    /// Runs a step to its end, or ends it.
    async fn step(&self, call: &Call, work: &Work, shown: &str, deadline: Duration, log: &mut Log) -> Result<()> {
        let mut command = command(call);
        command.current_dir(&work.app).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|e| {
            let why = format!("`{}` could not be started: install it, or say where it is", call.program.display());
            Error::new(ErrorKind::Unavailable, why).caused_by(e)
        })?;
        let mut running = Running { child, mark: work.mark.clone() };
        let (to, mut said) = tokio::sync::mpsc::channel(64);
        let readers = [
            tokio::spawn(lines(running.child.stdout.take(), log.printed().clone(), to.clone())),
            tokio::spawn(lines(running.child.stderr.take(), log.printed().clone(), to)),
        ];
        let readers = Readers(readers.map(|it| it.abort_handle()));
        let look_again = self.clock.sleep(LOOK_EVERY);
        tokio::pin!(look_again);
        let status = loop {
            tokio::select! {
                biased;
                // First: a build that always has something to say is looked at, too.
                () = &mut look_again => {
                    if let Err(e) = self.look(&running, work, shown, deadline, log).await {
                        running.end().await;
                        return Err(e);
                    }
                    look_again.set(self.clock.sleep(LOOK_EVERY));
                }
                Some(line) = said.recv() => log.line(&line),
                status = running.child.wait() => break status.map_err(disk("wait for npm"))?,
            }
        };
        // What it left running holds the pipes open.
        running.end().await;
        while let Ok(Some(line)) = tokio::time::timeout(Duration::from_millis(200), said.recv()).await {
            log.line(&line);
        }
        drop(readers);
        self.look(&running, work, shown, deadline, log).await?;
        if status.success() {
            return Ok(());
        }
        let why = format!("`{shown}` failed ({status}): {}", log.end());
        Err(Error::invalid(why.clone()).public(why))
    }

    /// Whether a build takes more than it may.
    async fn look(&self, running: &Running, work: &Work, shown: &str, deadline: Duration, log: &Log) -> Result<()> {
        let limits = self.limits;
        let too_much = |what: String, help: &str| {
            let why = format!("`{shown}` {what} and was stopped: {help}");
            Err(Error::invalid(why.clone()).public(why))
        };
        if self.clock.monotonic() >= deadline {
            return too_much(format!("took longer than {} s", limits.time.as_secs()), "make the build shorter");
        }
        if log.printed().load(Ordering::Relaxed) > limits.output_bytes {
            return too_much(format!("printed more than {} bytes", limits.output_bytes), "print less");
        }
        let (mark, root, folder) = (running.mark.clone(), running.child.id(), work.place.clone());
        let (memory, disk) = blocking(move || {
            let takes = watch::takes(&watch::programs(&mark, root));
            let disk = takes.disk.saturating_add(watch::disk(&folder, limits.disk_bytes));
            Ok((takes.memory, disk))
        })
        .await?;
        if disk > limits.disk_bytes {
            return too_much(format!("took more than {} bytes of the disk", limits.disk_bytes), "write less");
        }
        if memory > limits.memory_bytes {
            return too_much(format!("took more than {} bytes of memory", limits.memory_bytes), "build less at once");
        }
        Ok(())
    }
}

#[async_trait]
impl Builder for NpmScriptBuilder {
    async fn check(&self) -> Result<Readiness> {
        let mut readiness = Readiness::ready("npm-script");
        if self.found_jail().await.is_none() {
            readiness = readiness.lacks(
                "there is no jail for apps' own builds",
                "install bubblewrap, or allow user namespaces for `unshare`, or call `trust_all_apps`",
            );
        }
        if !on_path(&self.npm).is_file() {
            readiness = readiness.lacks("there is no npm", "install Node with npm, or say where it is");
        }
        Ok(readiness)
    }

    async fn build(&self, request: &BuildRequest) -> Result<Artifact> {
        let done = self.run(request).await;
        done.map_err(|e| e.effect_as(Effect::None).at("npm-script", "build").with("scope", &request.scope))
    }
}

/// A build that runs. Dropped, it is ended, with all that it started.
struct Running {
    child: Child,
    mark: String,
}

impl Running {
    async fn end(&mut self) {
        let (mark, root) = (self.mark.clone(), self.child.id());
        let _ = tokio::task::spawn_blocking(move || watch::end(&mark, root)).await;
        let _ = self.child.kill().await; // and waited for
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        watch::end(&self.mark, self.child.id());
    }
}

/// Readers that end with what they read for.
struct Readers([tokio::task::AbortHandle; 2]);

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

/// The folder of one build; deleted when dropped.
struct Work {
    place: PathBuf,
    app: PathBuf,
    tmp: PathBuf,
    shm: PathBuf,
    root: PathBuf,
    filter: PathBuf,
    /// What its programs have in their environment.
    mark: String,
}

impl Work {
    async fn new(folder: &Path, mark: String) -> Result<Self> {
        let folder = folder.to_owned();
        blocking(move || {
            let make = || -> std::io::Result<PathBuf> {
                fs::create_dir_all(&folder)?;
                let place = tempfile::Builder::new().prefix("build").tempdir_in(fs::canonicalize(&folder)?)?;
                for name in ["app", "tmp/home", "shm", "root"] {
                    fs::create_dir_all(place.path().join(name))?;
                }
                fs::write(place.path().join("filter"), jail::filter())?;
                Ok(place.keep())
            };
            let place = make().map_err(disk("make a folder"))?;
            let [app, tmp, shm, root, filter] = ["app", "tmp", "shm", "root", "filter"].map(|it| place.join(it));
            Ok(Self { place, app, tmp, shm, root, filter, mark })
        })
        .await
    }

    fn folders(&self) -> Folders<'_> {
        Folders { app: &self.app, tmp: &self.tmp, shm: &self.shm, root: &self.root, filter: &self.filter }
    }

    /// Writes the sources.
    async fn write(&self, request: &BuildRequest) -> Result<()> {
        let (app, snapshot, lock) = (self.app.clone(), request.snapshot.clone(), request.lock.clone());
        blocking(move || write(&app, &snapshot, lock.as_deref()).map_err(disk("write the sources"))).await
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(e) = watch::delete(&self.place) {
            tracing::warn!(error = %e, "the folder of a build was left on the disk");
        }
    }
}

fn write(app: &Path, snapshot: &Snapshot, lock: Option<&[u8]>) -> std::io::Result<()> {
    // Where packages come from is the host's to say.
    let sources = snapshot.files.iter().filter(|(path, _)| path.as_str().rsplit('/').next() != Some(".npmrc"));
    for (path, file) in sources {
        let to = app.join(path.as_str());
        if let Some(above) = to.parent() {
            fs::create_dir_all(above)?;
        }
        fs::write(to, file.contents())?;
    }
    if let Some(lock) = lock {
        fs::write(app.join("package-lock.json"), lock)?;
    }
    Ok(())
}

/// The files that a build left. Links are none: what they lead to may be anything.
fn take(app: &Path, output: &FilePath, most: u64, settings: BTreeMap<String, String>) -> Result<Artifact> {
    let root = app.join(output.as_str());
    let (mut files, mut bytes, mut left) = (BTreeMap::new(), 0_u64, vec![root.clone()]);
    // Nothing on the way there may be a link, either.
    for part in root.ancestors().take_while(|it| *it != app) {
        if part.symlink_metadata().is_ok_and(|it| it.is_symlink()) {
            left.clear();
        }
    }
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let about = entry.metadata().map_err(disk("read what was built"))?;
            if about.is_dir() {
                left.push(entry.path());
            } else if about.is_file() {
                bytes = bytes.saturating_add(about.len());
                if bytes > most {
                    let why = format!("the built app has more than {most} bytes, which is the limit: make it smaller");
                    return Err(Error::invalid(why.clone()).public(why));
                }
                let inside = entry.path();
                let inside = inside.strip_prefix(&root).ok().and_then(Path::to_str).unwrap_or_default();
                let path = FilePath::parse(inside)?;
                files.insert(path, AppFile::new(fs::read(entry.path()).map_err(disk("read what was built"))?));
            }
        }
    }
    of_files(files, settings).map_err(|lacks| {
        let why = format!("the build left {lacks} in `{output}/`: it must write the app there");
        Error::invalid(why.clone()).public(why)
    })
}

fn tell(progress: &Progress, message: &str, artifact: &Artifact) {
    let details = serde_json::json!({ "files": artifact.files(), "bytes": artifact.size_bytes() });
    progress.event(ProgressKind::Output, "building", message, details);
}

/// A command with the call's environment and nothing of ours, in a group of its own.
fn command(call: &Call) -> Command {
    let mut command = Command::new(&call.program);
    command.args(&call.arguments).env_clear().kill_on_drop(true).process_group(0);
    command.env("PATH", PATH).envs(call.environment.iter().map(|(name, value)| (name, value)));
    command
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn on_path(program: &Path) -> PathBuf {
    if program.components().count() > 1 {
        return program.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    std::env::split_paths(&path)
        .map(|it| it.join(program))
        .find(|it| it.is_file())
        .unwrap_or_else(|| program.to_owned())
}

/// The registry that npm itself would take, by its own settings: those of our machine, which the build does not see.
async fn registry_of(npm: &Path) -> Option<String> {
    let output = Command::new(npm).args(["config", "get", "registry"]).kill_on_drop(true).output().await.ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.trim().to_owned()).filter(|it| it.starts_with("http"))
}

fn disk(doing: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::new(ErrorKind::Unavailable, format!("the builder could not {doing}")).caused_by(e)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => Err(Error::unexpected("a build was broken off", e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::testing::snapshot;
    use overskill_core::BuildMode;

    fn request() -> BuildRequest {
        let lock = r#"{ "name": "app", "lockfileVersion": 3, "packages": { "": { "name": "app" } } }"#;
        let sources = [
            ("package.json", r#"{ "name": "app", "scripts": { "build": "mkdir dist && env > dist/index.html" } }"#),
            ("package-lock.json", lock),
        ];
        BuildRequest::new("todo42/production".parse().unwrap(), Arc::new(snapshot(1, &sources)), BuildMode::Production)
    }

    #[tokio::test]
    async fn without_a_jail_it_builds_for_trusted_apps_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = NpmScriptBuilder::new(folder.path());
        builder.jail = Arc::new(OnceCell::new_with(Some(None)));
        let refused = builder.build(&request()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert!(refused.to_string().contains("trust_all_apps"), "{refused}");
        assert!(!builder.check().await.unwrap().is_ready());

        let artifact = builder.trust_all_apps().build(&request()).await.unwrap();
        let environment = String::from_utf8_lossy(artifact.assets().values().next().unwrap().contents()).into_owned();
        assert!(environment.contains("NO_COLOR=1"), "{environment}");
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !environment.contains("CARGO"), "{environment}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
