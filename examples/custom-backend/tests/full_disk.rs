//! What the suites cannot do to a backend: its disk is full in the middle of a line.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use custom_backend::LogFiles;
use overskill_core::{Changes, ErrorKind, FilePath, FileStore as _, Scope};
use std::process::Command;

/// Not a test of its own: it runs in a process whose files may not grow over some size.
#[tokio::test]
async fn writer_on_a_full_disk() {
    if std::env::var_os("CUSTOM_BACKEND_FULL_DISK").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let scope: Scope = "todo42/development".parse().unwrap();
    let put = |path: &str| Changes::new().put(FilePath::parse(path).unwrap(), "x");
    let files = LogFiles::open(folder.path()).unwrap();
    let mut head = files.snapshot(&scope).await.unwrap().position;
    // Long lines until one does not fit, of which the disk takes a part; then short ones, which still fit.
    let (mut long, mut short) = (0, 0);
    let full = loop {
        match files.apply(&scope, &put(&format!("{}/{long}", "long".repeat(100))), Some(head)).await {
            Ok(next) => (head, long) = (next, long + 1),
            Err(e) => break e,
        }
    };
    assert_eq!(full.kind(), ErrorKind::Unexpected, "{full}");
    while let Ok(next) = files.apply(&scope, &put(&format!("short/{short}")), Some(head)).await {
        (head, short) = (next, short + 1);
    }
    assert!(long > 0 && short > 0, "{long} long lines and {short} short ones");
    let again = LogFiles::open(folder.path()).unwrap().snapshot(&scope).await.unwrap();
    assert_eq!((again.position, again.files.len()), (head, long + short));
    assert_eq!(files.snapshot(&scope).await.unwrap(), again);
}

#[test]
fn half_a_line_is_cut_off_and_the_store_goes_on() {
    // The limit is in blocks of 512 bytes (POSIX), or of 1024 (bash). A write beyond it then fails instead of killing.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact writer_on_a_full_disk --nocapture";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("CUSTOM_BACKEND_FULL_DISK", "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("\n");
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
