//! Where workerd is, and one run of it.

use overskill_core::{Error, ErrorKind, Result};
use std::{
    collections::VecDeque,
    ffi::OsString,
    fs, io,
    net::TcpListener,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    time::{sleep, timeout},
};

const LOG_LINES: usize = 10_000;
/// On a machine that builds at the same time it has taken 6 s.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Runs workerd with a listening socket at 3, and ends it with its owner: when the pipe says "stop", or breaks.
const KEEPER: &str = r#"
exec 3>&1 1>&2 5<&0
"$@" </dev/null 5<&- &
child=$!
( read -r word <&5; kill -KILL "$child" 2>/dev/null; [ "$word" = stop ] || rm -rf "$OVERSKILL_FOLDER" ) 3>&- &
wait "$child"
"#;

/// Lines that workerd and Workers wrote.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no holder of the lock panics").iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().expect("no holder of the lock panics");
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// What came after the first `count` lines, shortened.
    fn since(&self, count: usize) -> String {
        let lines = self.lines();
        let new = lines.get(count.min(lines.len())..).unwrap_or_default().join("\n");
        new.chars().take(2000).collect()
    }
}

/// The program `workerd`.
pub(super) fn find() -> Result<PathBuf> {
    find_in(std::env::var_os("OVERSKILL_WORKERD"), &std::env::current_dir().unwrap_or_default())
}

fn find_in(named: Option<OsString>, from: &Path) -> Result<PathBuf> {
    if let Some(named) = named {
        let named = PathBuf::from(named);
        return if named.is_file() {
            Ok(named)
        } else {
            let message = "OVERSKILL_WORKERD names no file";
            Err(Error::new(ErrorKind::Unavailable, message).with("file", named.display()))
        };
    }
    let folders = |folder: &Path| {
        let mut found: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.path()).collect();
        found.sort();
        found
    };
    for folder in from.ancestors() {
        let tools = folders(&folder.join("tools"));
        for place in [folder.to_owned()].iter().chain(&tools) {
            for package in folders(&place.join("node_modules/@cloudflare")) {
                let program = package.join("bin/workerd");
                if package.file_name().is_some_and(|it| it.as_bytes().starts_with(b"workerd-")) && program.is_file() {
                    return Ok(program);
                }
            }
        }
    }
    let message = "there is no workerd here: looked for node_modules/@cloudflare/workerd-*/bin/workerd in the current \
                   folder and those above it (and in `tools/*` of them); run `cargo xtask setup`, or set \
                   OVERSKILL_WORKERD to the program";
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// The newest compatibility date that it knows: its version.
pub(super) async fn newest_date(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output().await;
    let output = output.map_err(|e| failed("workerd --version did not run", e))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let date = said.split_whitespace().last().filter(|it| it.len() == 10);
    date.map(str::to_owned)
        .ok_or_else(|| Error::new(ErrorKind::Unavailable, "workerd --version tells no date").with("said", said))
}

/// One workerd; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Workerd {
    child: Child,
    stdin: ChildStdin,
    pub(super) admin: PathBuf,
}

impl Workerd {
    /// Starts it in a folder that holds its `config.capnp`; `ready` is asked until it says yes.
    pub(super) async fn start(program: &Path, folder: &Path, nth: u64, edge: &TcpListener, log: &Log) -> Result<Self> {
        let admin = folder.join(format!("admin-{nth}.sock"));
        let listener = edge.try_clone().map_err(|e| failed("the edge's socket cannot be shared", e))?;
        let before = log.lines().len();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", KEEPER, "workerd"])
            .arg(program)
            .args(["serve", "--experimental", "--socket-fd", "edge=3", "--socket-addr"])
            .arg(format!("admin=unix:{}", admin.display()))
            .arg(folder.join("config.capnp"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("OVERSKILL_FOLDER", folder)
            .current_dir(folder)
            .process_group(0) // out of reach of the terminal's signals
            .stdin(Stdio::piped())
            .stdout(Stdio::from(OwnedFd::from(listener)))
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| failed("workerd did not start", e))?;
        let stdin = child.stdin.take().expect("it is piped");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let into = log.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                into.push(line);
            }
        });
        let mut started = Self { child, stdin, admin };
        match timeout(START_LIMIT, started.until_ready()).await {
            Ok(true) => Ok(started),
            outcome => {
                let why = if outcome.is_ok() { "workerd ended at once" } else { "workerd did not get ready in 60 s" };
                started.stop().await;
                sleep(Duration::from_millis(50)).await; // for its last lines
                Err(Error::new(ErrorKind::Invalid, why).with("log", log.since(before)))
            }
        }
    }

    /// No when it ends instead.
    async fn until_ready(&mut self) -> bool {
        loop {
            if matches!(super::ask(&self.admin, "/ready").await, Ok((204, _))) {
                return true;
            }
            if self.has_ended() {
                return false;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// What it holds in memory, where the system tells (Linux).
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        // Its keeper is our child, and it is the keeper's.
        let keeper = self.child.id()?;
        let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
        let status = |id: &str| fs::read_to_string(format!("/proc/{id}/status")).ok();
        let of =
            |text: &str, name: &str| text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        let workerd = children
            .split_whitespace()
            .filter_map(status)
            .find(|it| of(it, "Name:").is_some_and(|name| name == "workerd"))?;
        let kilobytes = of(&workerd, "VmRSS:")?.trim_end_matches("kB").trim().parse::<u64>().ok()?;
        Some(kilobytes * 1024)
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it, and waits for that.
    pub(super) async fn stop(mut self) {
        let _ = self.stdin.write_all(b"stop\n").await;
        drop(self.stdin);
        let _ = self.child.wait().await;
        let _ = fs::remove_file(&self.admin);
    }
}

pub(super) fn failed(what: &'static str, e: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, what).caused_by(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_workerd_is_said_with_what_to_do() {
        let folder = std::env::temp_dir().join(format!("overskill-no-workerd-{}", std::process::id()));
        let said = find_in(None, &folder).unwrap_err().to_string();
        assert!(said.contains("cargo xtask setup") && said.contains("OVERSKILL_WORKERD"), "{said}");
        let said = find_in(Some("/nowhere/workerd".into()), &folder).unwrap_err().to_string();
        assert!(said.contains("names no file") && said.contains("/nowhere/workerd"), "{said}");
    }
}
