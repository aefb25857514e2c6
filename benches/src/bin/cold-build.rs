//! How long it takes to build the facade for the first time, with default features and everything it depends on: what
//! somebody waits who adds overskill to a service.

use overskill_benches::{Bench, Figure, Goal, Outcome, Reading};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

const CASE: &str = "facade, default features, dev profile";

/// Two cores for 150 seconds. Other programs make a build wait, but hardly make it work more.
const LIMIT: f64 = 300.0;

const CORES: Figure = Figure::shown(CASE, "time of all cores together", "s", "limit").goal(Goal::AtMost(1.0));
const WALL: Figure = Figure::shown(CASE, "time", "s", "");
const CRATES: Figure = Figure::shown(CASE, "crates compiled", "", "");

fn main() {
    let mut bench = Bench::start("cold-build", &[CORES, WALL, CRATES]);
    if bench.is_quick() {
        bench.note("there is no quick way to build everything: run it without --quick");
    } else {
        let built = build();
        if let Some(built) = bench.attempt("build", built) {
            bench.show(&WALL, Reading::alone(built.wall_seconds));
            bench.show(&CRATES, Reading::alone(built.crates));
            if let Some(seconds) = built.core_seconds {
                bench.show(&CORES, Reading::limited(seconds, LIMIT));
            }
        }
    }
    bench.finish();
}

struct Built {
    wall_seconds: f64,
    core_seconds: Option<f64>,
    crates: f64,
}

fn build() -> Outcome<Built> {
    let folder = Folder::new()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--package", "overskill", "--lib", "--locked", "--offline", "--message-format", "json"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .env("CARGO_TARGET_DIR", &folder.0)
        // A wrapper may have everything in its cache.
        .env("RUSTC_WRAPPER", "")
        .env("CARGO_INCREMENTAL", "1")
        .stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    let (start, before) = (Instant::now(), children_seconds());
    let output = cargo.output()?;
    let wall_seconds = start.elapsed().as_secs_f64();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        let last: Vec<_> = errors.lines().filter(|line| line.starts_with("error")).take(3).collect();
        return Err(format!("cargo: {}: {}", output.status, last.join("; ")).into());
    }
    let core_seconds = children_seconds().zip(before).map(|(after, before)| after - before);
    Ok(Built { wall_seconds, core_seconds, crates: crates(&String::from_utf8_lossy(&output.stdout)) })
}

/// How many packages cargo says it compiled.
fn crates(messages: &str) -> f64 {
    let compiled = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let fresh = message["reason"] == "compiler-artifact" && message["fresh"] == false;
        fresh.then(|| message["package_id"].to_string())
    };
    let packages: BTreeSet<String> = messages.lines().filter_map(compiled).collect();
    u32::try_from(packages.len()).map_or(f64::NAN, f64::from)
}

/// The time that children of this process spent on cores until they ended, where the system tells.
fn children_seconds() -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0; // Linux shows it to programs in these, whatever its own are
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may hold spaces. `cutime` and `cstime` are the 14th and 15th of what follows.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(13);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// An empty folder, gone when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("overskill-cold-build-{}", std::process::id()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // what is left over harms nobody
    }
}
