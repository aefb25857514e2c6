//! The throw-away Postgres cluster: what it promises about starting, crashing and leaving nothing behind.

use overskill_testkit::postgres::PostgresCluster;
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// The folder of the socket, which is the cluster's own.
fn folder_of(url: &str) -> PathBuf {
    url.split_once("?host=").expect("the URL names the socket's folder").1.into()
}

fn gone_soon(folder: &Path) -> bool {
    let since = Instant::now();
    while folder.exists() {
        if since.elapsed() > Duration::from_secs(20) {
            return false;
        }
        sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn databases_are_separate_and_refuse_odd_names() {
    let cluster = PostgresCluster::shared().unwrap();
    let (one, other) = (cluster.fresh_database().unwrap(), cluster.fresh_database().unwrap());
    assert_ne!(one, other);
    cluster.create_database("mine").unwrap();
    cluster.execute("mine", "CREATE TABLE t (n int)").unwrap();
    let e = cluster.execute("postgres", "SELECT * FROM t").unwrap_err();
    assert!(e.to_string().contains("relation \"t\" does not exist"), "{e}");
    let e = cluster.create_database("mine").unwrap_err();
    assert!(e.to_string().contains("already exists"), "{e}");
    for odd in ["", "a; drop database mine", "A", &"x".repeat(64)] {
        assert!(cluster.create_database(odd).unwrap_err().to_string().contains("must be 1 to 63"), "{odd}");
    }
    assert!(cluster.tcp_url("mine").starts_with("postgres://postgres@127.0.0.1:"));
}

#[test]
fn settings_reach_the_server() {
    let cluster = PostgresCluster::options().durable(true).setting("work_mem", "7MB").start().unwrap();
    let asks =
        |setting: &str, value: &str| format!("DO $$ BEGIN ASSERT current_setting('{setting}') = '{value}'; END $$");
    cluster.execute("postgres", &asks("fsync", "on")).unwrap();
    cluster.execute("postgres", &asks("work_mem", "7MB")).unwrap();
    assert!(cluster.execute("postgres", &asks("work_mem", "8MB")).is_err());
}

#[test]
fn what_was_committed_survives_a_kill_and_a_restart() {
    let cluster = PostgresCluster::options().durable(true).start().unwrap();
    cluster.execute("postgres", "CREATE TABLE t (n int PRIMARY KEY)").unwrap();
    for n in 0..3 {
        cluster.execute("postgres", &format!("INSERT INTO t VALUES ({n})")).unwrap();
        cluster.kill().unwrap();
        cluster.kill().unwrap(); // nothing left to kill
        assert!(cluster.execute("postgres", "SELECT 1").is_err());
        cluster.start_again().unwrap();
        cluster.start_again().unwrap(); // it runs
        let again = cluster.execute("postgres", &format!("INSERT INTO t VALUES ({n})"));
        assert!(again.unwrap_err().to_string().contains("duplicate key"));
    }
    assert!(cluster.log().contains("automatic recovery"), "{}", cluster.log());
    cluster.restart().unwrap();
    assert!(cluster.execute("postgres", "INSERT INTO t VALUES (2)").is_err());
}

#[test]
fn a_drop_leaves_nothing() {
    let cluster = PostgresCluster::start().unwrap();
    let folder = folder_of(&cluster.url("postgres"));
    assert!(folder.exists());
    drop(cluster);
    assert!(!folder.exists());
}

/// The number in a dead server's file may be anybody's by now.
#[test]
fn a_drop_after_a_kill_ends_nobody_else() {
    let cluster = PostgresCluster::start().unwrap();
    let folder = folder_of(&cluster.url("postgres"));
    cluster.kill().unwrap();
    let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
    let file = folder.join("data/postmaster.pid");
    let left = std::fs::read_to_string(&file).unwrap();
    let (_, rest) = left.split_once('\n').unwrap();
    std::fs::write(&file, format!("{}\n{rest}", bystander.id())).unwrap();
    drop(cluster);
    let ended = bystander.try_wait().unwrap();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert_eq!(ended, None, "a process that has nothing to do with it was ended");
    assert!(!folder.exists());
}

/// One of ten: the machine may have other things to do.
#[test]
fn a_cluster_starts_within_two_seconds() {
    let mut took = Vec::new();
    while took.len() < 10 {
        let since = Instant::now();
        let cluster = PostgresCluster::start().unwrap();
        took.push(since.elapsed());
        drop(cluster);
        if took.last() < Some(&Duration::from_secs(2)) {
            return;
        }
    }
    panic!("ten starts took {took:?}");
}

/// Not a test of its own: the process that `an_owner_that_is_killed_leaves_nothing` kills.
#[test]
fn owner_that_is_killed() {
    if std::env::var_os("OVERSKILL_TEST_OWNER").is_none() {
        return;
    }
    let cluster = PostgresCluster::start().unwrap();
    println!("\ncluster {}", cluster.url("postgres"));
    sleep(Duration::from_mins(10));
}

#[test]
fn an_owner_that_is_killed_leaves_nothing() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_that_is_killed", "--nocapture"])
        .env("OVERSKILL_TEST_OWNER", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = said.find_map(|line| line.strip_prefix("cluster ").map(str::to_owned)).expect("it says its URL");
    let folder = folder_of(&url);
    assert!(folder.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(gone_soon(&folder), "{} is still there", folder.display());
}
