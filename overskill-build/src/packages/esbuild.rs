//! The bundler: esbuild's own binary, as its npm packages ship it. A plain program; no Node.

use super::{
    fetch::Tool,
    integrity::Integrity,
    trouble::{Trouble, local},
};
use crate::{Problem, ProblemKind};
use overskill_core::{Clock, Error, ErrorKind};
use serde::{Deserialize, Deserializer};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
};

/// The version that is used.
pub(crate) const VERSION: &str = "0.28.2";

/// Its packages, by what Rust calls the system and the processor, each with what its tarball hashes to.
const PACKAGES: [(&str, &str, &str, &str); 4] = [
    (
        "linux",
        "x86_64",
        "@esbuild/linux-x64",
        "sha512-4xTZr1FUmSoQW4XIWmit3tzQrUTZM+N3P0XV8xROKYF50XfI7xeO90+1bZvNwxIufQ9hDQVRJH5YhgPVF8A/HQ==",
    ),
    (
        "linux",
        "aarch64",
        "@esbuild/linux-arm64",
        "sha512-pW4AC0P3it8c7do9MVM4p51FzHzdM/TZrerurgRcHJ2WTa1VQ1CIq18xncfpBJw4ojkiZZrKW2yIBWBP92j6Ug==",
    ),
    (
        "macos",
        "x86_64",
        "@esbuild/darwin-x64",
        "sha512-uq6suIWYP37qzGddBKPw5QEQPi6HiLGsO7UmkpfyaYNQ3D+rN6w6WfwH+nuqcGXWvawGwxOEroO4YGnFh95azw==",
    ),
    (
        "macos",
        "aarch64",
        "@esbuild/darwin-arm64",
        "sha512-n4KqkOQrraxHJcgjM1RvwbigfQKIKJVpM7xp+KsxiyUSrRdIXnt73VhrPAx0fV44hgfmIVKjxMN9J1t5jySVkw==",
    ),
];

/// Where the program is within its package.
const PROGRAM: &str = "bin/esbuild";
/// Largest program, in bytes.
const MAX_PROGRAM_BYTES: u64 = 64 << 20;
/// Most memory that it may take, in bytes: a package can lead it to a device that never ends.
#[cfg(target_os = "linux")]
const MAX_MEMORY_BYTES: u64 = 4 << 30;
/// How much of what it says is read, in bytes.
const MAX_SAID_BYTES: u64 = 1 << 20;

/// The program for this machine.
pub(crate) fn tool() -> Result<Tool, Trouble> {
    let (package, integrity) = for_this_machine(&PACKAGES)?;
    Ok(Tool { name: "esbuild", version: VERSION, package, integrity, file: PROGRAM, max_bytes: MAX_PROGRAM_BYTES })
}

/// Packages by what Rust calls the system and the processor, each with what its tarball hashes to.
pub(crate) type PackageTable = [(&'static str, &'static str, &'static str, &'static str)];

/// The package for this machine, and its integrity.
pub(crate) fn for_this_machine(table: &PackageTable) -> Result<(&'static str, Integrity), Trouble> {
    use std::env::consts::{ARCH, OS};
    let found = table.iter().find(|it| (it.0, it.1) == (OS, ARCH)).and_then(|it| Some((it.2, Integrity::parse(it.3)?)));
    found.ok_or_else(|| {
        let why =
            format!("packages can be prepared on Linux and macOS with x86-64 or ARM64, and this is {OS} with {ARCH}");
        Error::new(ErrorKind::Unsupported, why).at("npm", "prepare").into()
    })
}

/// What a run came to.
pub(crate) enum Ran {
    Well,
    Badly(Vec<Complaint>),
}

/// Something that esbuild says is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) message: String,
    /// The file that it is in, if it is in one: relative to where it ran.
    pub(crate) file: Option<String>,
    /// The line there, from 1.
    pub(crate) line: Option<u32>,
    /// What it adds.
    pub(crate) note: Option<String>,
}

/// Runs it in `folder`, with nothing of our environment.
pub(crate) async fn run(
    program: &Path,
    folder: &Path,
    arguments: &[String],
    limit: Duration,
    clock: &dyn Clock,
) -> Result<Ran, Trouble> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env_clear().kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = spawn(&mut command, clock).await?;
    bound_memory(&child)?;
    let said = child.stderr.take();
    let finish = async {
        let text = match said {
            Some(said) => read_some(said).await?,
            None => String::new(),
        };
        let status = child.wait().await.map_err(local("wait for esbuild"))?;
        Ok::<_, Trouble>((text, status))
    };
    let (text, status) = tokio::select! {
        biased;
        done = finish => done?,
        () = clock.sleep(limit) => {
            let why = format!("bundling took longer than {} s and was stopped", limit.as_secs());
            return Err(Problem::new(ProblemKind::Limit, why).help("import less, or smaller packages").into());
        }
    };
    if status.success() {
        return Ok(Ran::Well);
    }
    if text.contains("out of memory") || text.contains("cannot allocate memory") {
        let why = "bundling took more memory than there is for it and was stopped";
        return Err(Problem::new(ProblemKind::Limit, why).help("import less, or smaller packages").into());
    }
    let complaints = complaints(&text);
    if complaints.is_empty() {
        let said: String = text.chars().take(500).collect();
        let e = Error::new(ErrorKind::Unexpected, format!("esbuild ended with {status}")).at("npm", "bundle");
        return Err(e.with("said", said.escape_debug()).into());
    }
    Ok(Ran::Badly(complaints))
}

/// Bounds what a program may take from here on.
#[cfg(target_os = "linux")]
fn bound_memory(child: &tokio::process::Child) -> Result<(), Trouble> {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = child.id().and_then(|it| Pid::from_raw(i32::try_from(it).ok()?));
    let most = Rlimit { current: Some(MAX_MEMORY_BYTES), maximum: Some(MAX_MEMORY_BYTES) };
    match pid.map(|pid| prlimit(Some(pid), Resource::As, most)) {
        None | Some(Ok(_) | Err(rustix::io::Errno::SRCH)) => Ok(()),
        Some(Err(e)) => Err(local("bound esbuild's memory")(e.into())),
    }
}

/// Other systems cannot do it from outside.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail where it does something")]
fn bound_memory(_: &tokio::process::Child) -> Result<(), Trouble> {
    Ok(())
}

/// Starts a program that may have been written a moment ago: while another thread is between fork and exec, that child
/// still holds the file open for writing.
async fn spawn(command: &mut Command, clock: &dyn Clock) -> Result<tokio::process::Child, Trouble> {
    const TRIES: u32 = 50;
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && tries < TRIES => {
                tries += 1;
                clock.sleep(Duration::from_millis(10)).await;
            }
            other => return other.map_err(local("start esbuild")),
        }
    }
}

/// The beginning of what it says; the rest is read so that it can end, and dropped.
async fn read_some(mut from: impl AsyncRead + Unpin) -> Result<String, Trouble> {
    let mut text = Vec::new();
    let read = async {
        (&mut from).take(MAX_SAID_BYTES).read_to_end(&mut text).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await
    };
    read.await.map_err(local("read what esbuild says"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Reads what it says: `✘ [ERROR] …`, then an indented `file:line:column:` with lines of the file, then notes.
///
/// Lines of files are not taken over: a package could have made it read a file that is not its own.
fn complaints(text: &str) -> Vec<Complaint> {
    let mut all: Vec<Complaint> = Vec::new();
    for line in text.lines() {
        if let Some(message) = line.strip_prefix("✘ [ERROR] ") {
            all.push(Complaint { message: message.trim().to_owned(), file: None, line: None, note: None });
        } else if let Some(last) = all.last_mut() {
            if let Some(place) = line.strip_prefix("    ").filter(|it| !it.starts_with(' ')) {
                let place = place.strip_suffix(':').and_then(|it| {
                    let mut parts = it.rsplitn(3, ':');
                    let (column, line) = (parts.next()?, parts.next()?);
                    let all_digits = column.bytes().all(|b| b.is_ascii_digit());
                    Some((parts.next()?, line.parse().ok().filter(|_| all_digits)?))
                });
                if let (None, Some((file, line)), None) = (&last.file, place, &last.note) {
                    (last.file, last.line) = (Some(file.to_owned()), Some(line));
                }
            } else if let Some(note) = line.strip_prefix("  ").filter(|it| !it.starts_with(' ')) {
                last.note.get_or_insert_with(|| note.trim().to_owned());
            }
        }
    }
    all
}

impl Complaint {
    /// What could not be resolved, if that is it.
    pub(crate) fn unresolved(&self) -> Option<&str> {
        self.message.strip_prefix("Could not resolve \"")?.strip_suffix('"')
    }
}

/// What it says of its own outcome.
#[derive(Debug, Deserialize)]
pub(crate) struct Metafile {
    pub(crate) inputs: BTreeMap<String, Input>,
    pub(crate) outputs: BTreeMap<String, Output>,
}

/// A file that went in.
#[derive(Debug, Deserialize)]
pub(crate) struct Input {
    #[serde(default)]
    pub(crate) imports: Vec<Imported>,
    pub(crate) format: Option<String>,
}

/// An import, of a file that went in or came out.
#[derive(Debug, Deserialize)]
pub(crate) struct Imported {
    pub(crate) path: String,
    pub(crate) kind: String,
}

/// A file that came out.
#[derive(Debug, Deserialize)]
pub(crate) struct Output {
    #[serde(default)]
    pub(crate) imports: Vec<Imported>,
    #[serde(rename = "entryPoint")]
    pub(crate) entry_point: Option<String>,
    #[serde(rename = "cssBundle")]
    pub(crate) css_bundle: Option<String>,
    #[serde(default, deserialize_with = "keys")]
    pub(crate) inputs: BTreeSet<String>,
}

fn keys<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<BTreeSet<String>, D::Error> {
    Ok(std::collections::HashMap::<String, serde_json::Value>::deserialize(from)?.into_keys().collect())
}

impl Metafile {
    pub(crate) fn read(path: &Path) -> Result<Self, Trouble> {
        let text = std::fs::read(path).map_err(local("read what esbuild wrote"))?;
        serde_json::from_slice(&text).map_err(|e| Error::unexpected("esbuild's metafile makes no sense", e).into())
    }
}

/// How files that are no code are taken.
pub(crate) const ASSET_EXTENSIONS: [&str; 28] = [
    "apng", "avif", "bmp", "cur", "eot", "flac", "gif", "glb", "gltf", "ico", "jfif", "jpeg", "jpg", "m4a", "mp3",
    "mp4", "ogg", "opus", "otf", "pdf", "png", "svg", "ttf", "wasm", "wav", "webm", "webp", "woff",
];

/// What all runs have in common.
pub(crate) fn arguments() -> Vec<String> {
    let mut all: Vec<String> = [
        "--bundle",
        "--format=esm",
        "--platform=browser",
        // Packages are linked into the folder: they find each other by where they are linked, not by where they lie.
        "--preserve-symlinks",
        "--conditions=module,development",
        "--define:process.env.NODE_ENV=\"development\"",
        "--target=es2022",
        "--charset=utf8",
        // No package's tsconfig.json, which could extend any file, is looked at.
        "--tsconfig-raw={}",
        "--jsx=automatic",
        "--loader:.js=jsx",
        "--loader:.woff2=file",
        "--log-level=error",
        "--log-limit=0",
        "--color=false",
    ]
    .map(str::to_owned)
    .into();
    all.extend(ASSET_EXTENSIONS.iter().map(|it| format!("--loader:.{it}=file")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_read_without_the_lines_of_files() {
        let text = "✘ [ERROR] Could not resolve \"react/nope\"\n\n  The path \"./nope\" is not exported by package \
                    \"react\":\n\n    node_modules/react/package.json:24:13:\n      24 │   \"exports\": {\n         ╵ ^\n\n\
                    ✘ [ERROR] Unexpected \";\"\n\n    node_modules/bad/index.js:1:8:\n      1 │ secret = ; \n        ╵  ^\n\n";
        let all = complaints(text);
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].unresolved(), Some("react/nope"));
        assert_eq!(all[0].file, None, "the place is the note's");
        assert_eq!(all[0].note.as_deref(), Some("The path \"./nope\" is not exported by package \"react\":"));
        assert_eq!((all[1].file.as_deref(), all[1].line), (Some("node_modules/bad/index.js"), Some(1)));
        assert!(!format!("{all:?}").contains("secret"));
    }

    #[test]
    fn every_platform_in_the_table_has_a_usable_integrity() {
        for (.., integrity) in PACKAGES {
            assert_eq!(Integrity::parse(integrity).unwrap().to_string(), integrity);
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn its_memory_is_bounded() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read _; ulimit -v"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        bound_memory(&child).unwrap();
        let said = child.wait_with_output().await.unwrap().stdout; // it reads the end of its input
        assert_eq!(String::from_utf8(said).unwrap().trim(), (MAX_MEMORY_BYTES / 1024).to_string());
    }
}
