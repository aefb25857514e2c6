//! A process that deploys is killed, again and again: what it said is so, and nothing is halved.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_core::{ArtifactConfig, DeploymentTarget as _, ErrorKind, Fence, ObservedState};
use overskill_local::{LocalBackends, LocalOptions};
use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};
use support::{Running, deployment, engine, scope};

const TODO: &str = "todo42/production";
const WRITER: &str = "OVERSKILL_TEST_KILLED_WRITER";
const ROUNDS: u64 = 12;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Not a test of its own: the process that is killed. It has the folder and its first number in a variable.
#[test]
fn writer_that_is_killed() {
    let Ok(told) = std::env::var(WRITER) else { return };
    let (first, folder) = told.split_once(' ').unwrap();
    let first: u64 = first.parse().unwrap();
    runtime().block_on(async {
        let backends = LocalBackends::start(folder, engine(), LocalOptions::new().port(0)).await.unwrap();
        let target = backends.target();
        for n in first.. {
            let request = deployment(TODO, &files(n), ArtifactConfig::default());
            let staged = target.stage(&request).await.unwrap();
            target.activate(&request, &staged, Fence::from_u64(n)).await.unwrap();
            println!("live {n}");
        }
    });
}

/// Two files that belong together.
fn files(n: u64) -> [(&'static str, &'static str); 2] {
    let page: &'static str = format!("page {n}").leak();
    let script: &'static str = format!("script {n} {}", "x".repeat(200_000)).leak();
    [("index.html", page), ("a.js", script)]
}

/// The same times in every run: between 0 and 60 ms.
fn pause(round: u64) -> Duration {
    Duration::from_micros(round.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 60_000)
}

fn spawn(folder: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_that_is_killed", "--nocapture"])
        .env(WRITER, format!("{first} {}", folder.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a writer run until it has been at it for a while, kills it, and says what it said last.
fn killed(folder: &Path, first: u64, after: Duration) -> u64 {
    let mut child = spawn(folder, first);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    // The harness writes without a line end before what the writer says first.
    let mut said = lines.filter_map(|line| line.rsplit_once("live ")?.1.parse::<u64>().ok());
    let begun = said.next().expect("the writer deploys");
    sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    said.last().unwrap_or(begun)
}

#[test]
fn what_a_killed_process_said_is_live_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = 1;
    for round in 0..ROUNDS {
        let said = killed(folder.path(), first, pause(round));
        let live = runtime().block_on(look(folder.path(), said));
        first = live + 1;
    }
    assert!(first > ROUNDS, "each round deployed something");
}

/// What is live after a kill: what was said last, or what was being deployed.
async fn look(folder: &Path, said: u64) -> u64 {
    let server = Running::again(folder, LocalOptions::new()).await;
    let page = server.get("todo42", "/index.html").await;
    let live: u64 = page.text().strip_prefix("page ").unwrap_or_else(|| panic!("{page:?}")).parse().unwrap();
    assert!((said..=said + 1).contains(&live), "{live} is live, but {said} was said");
    let script = server.get("todo42", "/a.js").await;
    assert_eq!((script.status, script.text()), (200, files(live)[1].1), "of the same version, and whole");

    let target = server.backends.target();
    let todo = scope(TODO);
    let seen = target.observe(&todo).await.unwrap();
    let active: Vec<_> = seen.iter().filter(|o| o.state == ObservedState::Active).collect();
    assert!(active.len() == 1 && active[0].fence == Some(Fence::from_u64(live)), "{seen:?}");
    // Who held the lease before is fenced off, after any number of crashes.
    let late = deployment(TODO, &files(live - 1), ArtifactConfig::default());
    let staged = target.stage(&late).await.unwrap();
    for fence in [live - 1, live] {
        let e = target.activate(&late, &staged, Fence::from_u64(fence)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Conflict, "{e}");
    }
    target.remove(&todo, overskill_core::Removal::Only(late.id())).await.unwrap();
    // The change above cleared away what the crash left.
    let needed = target.observe(&todo).await.unwrap().iter().filter_map(|o| o.digest).collect::<Vec<_>>();
    let mut there: Vec<_> = fs::read_dir(folder.join("deployments/todo42.production"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "versions.json")
        .collect();
    let mut wanted: Vec<_> = needed.iter().map(|digest| format!("{digest}.pack")).collect();
    there.sort();
    wanted.sort();
    wanted.dedup();
    assert_eq!(there, wanted);
    server.stopped().await;
    live
}

#[tokio::test]
async fn what_a_crash_left_is_cleared_away() {
    let server = Running::start().await;
    server.deploy(TODO, 1, &files(1), ArtifactConfig::default()).await;
    let folder = server.path().join("deployments/todo42.production");
    for litter in ["0123.pack", "versions.new", "4567.new"] {
        fs::write(folder.join(litter), "half").unwrap();
    }
    server.deploy(TODO, 2, &files(2), ArtifactConfig::default()).await;
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "the record and two packs: {left:?}");
    assert_eq!(server.get("todo42", "/index.html").await.text(), "page 2");
}
