//! The child in which configurations run.

use super::{
    bundle::{Bundle, FOLDER, Form, write_sources},
    problem,
};
use crate::{
    Error, Problem, ProblemKind,
    packages::{
        NpmPackages,
        trouble::{Trouble, blocking, local},
    },
    production::{builder::Limits, trouble::Failure, walk::Ground},
};
use bytes::Bytes;
use overskill_core::FilePath;
use serde::Deserialize;
use serde_json::Value;
use std::{fs, io, path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

/// What the child takes before it runs anything, in bytes.
#[cfg(target_os = "linux")]
const RUNTIME_BYTES: u64 = 704 << 20;
/// How many processors it can keep busy: its own thread, and those that compile and collect for it.
#[cfg(target_os = "linux")]
const PROCESSORS: u64 = 8;
/// How much of what it says is read, in bytes.
const MAX_SAID_BYTES: u64 = 32 << 20;
/// How much of its complaints.
const MAX_COMPLAINTS_BYTES: u64 = 64 << 10;

/// Variables that Tailwind and its parts ask for. The child's environment has none of them but the first two; asking for
/// another one fails.
const VARIABLES: &str = "--allow-env=NO_COLOR,NODE_ENV,FORCE_COLOR,TERM,CI,DEBUG,ROLLUP_WATCH,JEST_WORKER_ID,TAILWIND_MODE,\
                         TAILWIND_DISABLE_TOUCH,OXIDE,BROWSERSLIST,LANG,TMPDIR,JITI_DEBUG,JITI_CACHE";

/// What deno is given to run.
const ENTRY: &str = "driver.mjs";
/// How a script begins that is a function; `load.js` calls it.
const SCRIPT: &str = "(function (require, module, exports, __overskill_url) {\n";

/// What it says in the end.
#[derive(Deserialize)]
struct Outcome {
    css: Option<Vec<String>>,
    error: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    name: String,
    message: String,
}

/// A child that has its script and waits for a job: coming up takes it as long as what is done meanwhile.
pub(in crate::production) struct Waiting {
    child: Child,
    work: tempfile::TempDir,
    bundle: Bundle,
    limits: Limits,
}

/// Starts a child for a script.
pub(super) async fn start(
    packages: &NpmPackages,
    limits: Limits,
    ground: &Ground,
    bundle: Bundle,
) -> Result<Waiting, Failure> {
    let program = packages.runner().await?;
    let work = packages.workspace().await?;
    // Real files and no links: one that leads out of the folder would be followed.
    let folder = work.path().to_owned();
    let texts =
        ground.files.iter().filter(|(path, file)| is_content(path) && std::str::from_utf8(file.contents()).is_ok());
    let sources: Vec<(FilePath, Bytes)> = texts.map(|(path, file)| (path.clone(), file.contents().clone())).collect();
    let (code, form, files) = (bundle.code.clone(), bundle.form, bundle.files.clone());
    let at = folder.clone();
    blocking(move || {
        let readable = at.join("app");
        fs::create_dir_all(&readable).map_err(local("make a folder"))?;
        write_sources(&readable, &sources)?;
        for (name, contents) in files {
            let to = at.join("app/.overskill").join(name);
            fs::create_dir_all(to.parent().unwrap_or(&at)).map_err(local("make a folder"))?;
            fs::write(to, contents).map_err(local("write a file"))?;
        }
        let own = at.join("app/.overskill");
        fs::create_dir_all(&own).map_err(local("make a folder"))?;
        let code = String::from_utf8_lossy(&code).replace(FOLDER, &own.display().to_string());
        match form {
            Form::Module => fs::write(own.join(ENTRY), code),
            Form::Script => fs::write(own.join("script.js"), [SCRIPT, &code, "\n})"].concat())
                .and_then(|()| fs::write(own.join(ENTRY), include_str!("load.js"))),
        }
        .map_err(local("write a file"))
    })
    .await?;
    let child = spawn(&program, &folder, limits).await?;
    bound(&child, limits)?;
    Ok(Waiting { child, work, bundle, limits })
}

/// Gives it a job; the sheets that it makes of those in the job.
pub(super) async fn run(packages: &NpmPackages, waiting: Waiting, job: &Value) -> Result<Vec<String>, Failure> {
    let Waiting { mut child, work, bundle, limits } = waiting;
    let mut input = serde_json::to_vec(job).unwrap_or_default();
    input.push(b'\n');
    // Its stdin stays open as long as somebody waits for it.
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        let give = async {
            if let Some(stdin) = &mut stdin {
                let _ = stdin.write_all(&input).await; // it may have ended: its exit tells
            }
        };
        let ((), said, complaints) =
            tokio::join!(give, read(stdout, MAX_SAID_BYTES), read(stderr, MAX_COMPLAINTS_BYTES));
        let status = child.wait().await.map_err(local("wait for Tailwind"))?;
        Ok::<_, Trouble>((status, said, complaints))
    };
    let done = tokio::select! {
        biased;
        done = talk => Some(done?),
        () = packages.clock().sleep(limits.tailwind_time) => None,
    };
    kill_group(&child);
    let _ = child.kill().await;
    blocking(move || {
        drop(work); // deletes the folder, here where that may block
        Ok(())
    })
    .await?;
    let Some((status, said, complaints)) = done else {
        let why = format!("Tailwind took longer than {} s and was stopped", limits.tailwind_time.as_secs());
        return Err(told(
            Problem::new(ProblemKind::Limit, why).help("simplify its configuration and plugins"),
            &bundle,
        ));
    };
    let last = said.trim_end().rsplit('\n').next().unwrap_or_default();
    match serde_json::from_str::<Outcome>(last) {
        Ok(Outcome { css: Some(css), error: None }) => Ok(css),
        Ok(Outcome { error: Some(said), .. }) if !out_of_memory(&said.message) => Err(refused(&said, &bundle)),
        outcome if outcome.is_ok() || out_of_memory(&complaints) || killed(status) => {
            let why = format!("Tailwind took more than {} MiB of memory and was stopped", limits.tailwind_bytes >> 20);
            Err(told(Problem::new(ProblemKind::Limit, why).help("simplify its configuration and plugins"), &bundle))
        }
        _ => {
            let first = complaints.lines().find(|it| !it.trim().is_empty()).unwrap_or_default().trim();
            let message = first.trim_start_matches("error: ").trim_start_matches("Uncaught (in promise) ");
            let said = match message.split_once(": ") {
                Some((name, message)) => Said { name: name.to_owned(), message: message.to_owned() },
                None => Said { name: String::new(), message: format!("it ended with {status} and said: {message}") },
            };
            Err(refused(&said, &bundle))
        }
    }
}

async fn spawn(program: &Path, folder: &Path, limits: Limits) -> Result<Child, Failure> {
    const TRIES: u32 = 50;
    let app = folder.join("app");
    let mut command = Command::new(program);
    command.args([
        "run",
        "--quiet",
        "--no-prompt",
        "--no-remote",
        "--no-npm",
        "--no-config",
        "--no-lock",
        "--cached-only",
    ]);
    command.args(["--node-modules-dir=none", "--no-code-cache", "--allow-sys=cpus", VARIABLES]);
    command.arg(format!("--v8-flags=--max-old-space-size={}", (limits.tailwind_bytes >> 20).max(64)));
    let mut readable = std::ffi::OsString::from("--allow-read=");
    readable.push(&app);
    command.arg(readable).arg(app.join(".overskill").join(ENTRY));
    command.current_dir(&app).env_clear().kill_on_drop(true);
    // Where nothing can be: what deno would keep there nobody asks for again.
    command.env("NO_COLOR", "1").env("NODE_ENV", "production").env("DENO_DIR", "/dev/null/deno");
    command.env("DENO_NO_UPDATE_CHECK", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    command.process_group(0);
    let mut tries = 0;
    loop {
        match command.spawn() {
            // Written a moment ago, and another thread is between fork and exec.
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other => return other.map_err(|e| local("start deno")(e).into()),
        }
    }
}

/// Whether Tailwind may find classes in a file.
fn is_content(path: &FilePath) -> bool {
    !path.as_str().starts_with("public/") && !path.as_str().split('/').any(|it| it.starts_with('.'))
}

async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> String {
    let Some(mut from) = from else { return String::new() };
    let mut text = Vec::new();
    let _ = (&mut from).take(most).read_to_end(&mut text).await; // what is missing its outcome will tell
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&text).into_owned()
}

/// The problem of what it said.
fn refused(said: &Said, bundle: &Bundle) -> Failure {
    let message = said.message.split(", run again with").next().unwrap_or_default();
    let message: String = message.chars().take(600).collect();
    let denied = said.name == "NotCapable" || message.contains("Requires ") || message.contains("--no-remote");
    let problem = if denied {
        problem(format!("Tailwind's configuration may not do this: {message}"))
            .help("it can use packages and the app's own files, and nothing else of the machine or the network")
    } else {
        let message = message.replace('\n', " ");
        Problem::new(ProblemKind::Syntax, format!("Tailwind failed: {message}"))
    };
    told(problem, bundle)
}

fn told(problem: Problem, bundle: &Bundle) -> Failure {
    let problem = match &bundle.config {
        Some(config) => problem.in_file(config.clone()),
        None => problem,
    };
    Failure::Problems(vec![problem])
}

fn out_of_memory(complaints: &str) -> bool {
    ["out of memory", "Out of memory", "allocation failed", "heap limit"].iter().any(|it| complaints.contains(it))
}

#[cfg(unix)]
fn killed(status: std::process::ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal().is_some()
}

#[cfg(not(unix))]
fn killed(_: std::process::ExitStatus) -> bool {
    false
}

/// Bounds what the program may write to in memory (what it only reserves does not count), and how long its threads may
/// work together: if we are gone it sees that by its stdin, but only where it comes to look.
#[cfg(target_os = "linux")]
fn bound(child: &Child, limits: Limits) -> Result<(), Failure> {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let Some(pid) = child.id().and_then(|it| Pid::from_raw(i32::try_from(it).ok()?)) else { return Ok(()) };
    let memory = limits.tailwind_bytes.saturating_add(RUNTIME_BYTES);
    let work = limits.tailwind_time.as_secs().saturating_add(1).saturating_mul(PROCESSORS);
    for (resource, most) in [(Resource::Data, memory), (Resource::Cpu, work)] {
        match prlimit(Some(pid), resource, Rlimit { current: Some(most), maximum: Some(most) }) {
            Ok(_) | Err(rustix::io::Errno::SRCH) => {}
            Err(e) => return Err(Error::unexpected("Tailwind could not be bounded", io::Error::from(e)).into()),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail where it does something")]
fn bound(_: &Child, _: Limits) -> Result<(), Failure> {
    Ok(())
}

/// Ends what it may have started.
#[cfg(target_os = "linux")]
fn kill_group(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(pid) = child.id().and_then(|it| Pid::from_raw(i32::try_from(it).ok()?)) {
        let _ = kill_process_group(pid, Signal::KILL); // gone already, mostly
    }
}

#[cfg(not(target_os = "linux"))]
fn kill_group(_: &Child) {}
