//! A folder that is read and watched.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use overskill_build::compiler::{Compiler, CompilerOptions};
use overskill_core::{Change, Changes, ErrorKind, TestClock};
use overskill_local::{FolderWatcher, read_folder};
use std::{fs, path::Path, pin::pin, sync::Arc, time::Duration};

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

async fn watch(folder: &Path) -> FolderWatcher {
    FolderWatcher::start(folder, Compiler::new(CompilerOptions::development())).await.unwrap().0
}

async fn next(watcher: &mut FolderWatcher) -> Vec<String> {
    let changes = tokio::time::timeout(Duration::from_secs(10), watcher.next()).await.expect("a change in time");
    told(&changes.unwrap())
}

fn told(changes: &Changes) -> Vec<String> {
    let told = |change: &Change| matches!(change, Change::Put(_)).then_some('+').unwrap_or('-');
    changes.iter().map(|(path, change)| format!("{}{path}", told(change))).collect()
}

/// Gathers until all of `want` was told, in whatever pieces.
async fn until(watcher: &mut FolderWatcher, want: &[&str]) {
    let mut seen = std::collections::BTreeSet::new();
    while !want.iter().all(|w| seen.contains(*w)) {
        seen.extend(next(watcher).await);
    }
}

#[tokio::test]
async fn what_is_not_the_apps_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let root = folder.path();
    for path in
        ["index.html", "src/a.ts", "src/dist/kept.ts", ".env", "node_modules/x/index.js", "src/node_modules/y.js"]
    {
        write(root, path, path);
    }
    for path in [".git/config", "dist/index.html", "src/a.ts~", "src/.a.ts.swp", "src/.#a.ts"] {
        write(root, path, path);
    }
    write(outside.path(), "secret.txt", "secret");
    write(outside.path(), "deep/secret.txt", "secret");
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink(outside.path().join("secret.txt"), root.join("src/leak.txt")).unwrap();
        symlink(outside.path(), root.join("src/leaks")).unwrap();
        symlink("../node_modules/x/index.js", root.join("src/hidden.js")).unwrap();
        symlink("a.ts", root.join("src/inside.ts")).unwrap();
        symlink(".", root.join("src/loop")).unwrap();
    }
    fs::File::create(root.join("large.bin")).unwrap().set_len(100 << 20).unwrap();
    let contents = read_folder(root).await.unwrap();
    let names: Vec<_> = contents.files.keys().map(|path| path.as_str().to_owned()).collect();
    let mut want = vec![".env", "index.html", "src/a.ts", "src/dist/kept.ts"];
    if cfg!(unix) {
        want.push("src/inside.ts");
    }
    assert_eq!(names, want);
    assert_eq!(contents.skipped.len(), 1);
    assert_eq!(contents.skipped[0].path, "large.bin");
    assert!(contents.skipped[0].why.contains("larger than"), "{:?}", contents.skipped);
}

#[tokio::test]
async fn what_is_no_folder_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "file", "x");
    for missing in ["none", "file"] {
        let e = read_folder(folder.path().join(missing)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert!(e.public_message().contains(missing), "{e}");
    }
}

/// The file is there with its whole text at once, as many editors save it.
fn save(folder: &Path, path: &str, text: &str) {
    let whole = tempfile::NamedTempFile::new().unwrap();
    fs::write(&whole, text).unwrap();
    whole.persist(folder.join(path)).unwrap();
}

#[tokio::test]
async fn what_fits_is_told_at_once_and_what_does_not_within_20_ms() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "src/a.ts", "export {};");
    let (clock, compiler) = (TestClock::new(), Compiler::new(CompilerOptions::development()));
    let (mut watcher, _) = FolderWatcher::start_with(root, compiler, Arc::new(clock.clone())).await.unwrap();

    // Time stands still: who waits waits for ever.
    save(root, "src/a.ts", "export const a = 1;");
    assert_eq!(next(&mut watcher).await, ["+src/a.ts"]);

    save(root, "src/a.ts", "import './b';");
    {
        let mut next = pin!(next(&mut watcher));
        tokio::select! {
            told = &mut next => panic!("{told:?} was told at once"),
            () = clock.next_sleeper() => {}
        }
        clock.advance(Duration::from_millis(19));
        let early = tokio::time::timeout(Duration::from_millis(200), &mut next).await;
        assert!(early.is_err(), "{early:?} after 19 ms");
        clock.advance(Duration::from_millis(1));
        assert_eq!(next.await, ["+src/a.ts"]);
    }

    // The rest comes meanwhile: nobody waits for the end of the 20 ms.
    save(root, "src/a.ts", "import './c';");
    let mut next = pin!(next(&mut watcher));
    tokio::select! {
        told = &mut next => panic!("{told:?} was told at once"),
        () = clock.next_sleeper() => {}
    }
    save(root, "src/c.ts", "export {};");
    assert_eq!(next.await, ["+src/a.ts", "+src/c.ts"]);
}

#[tokio::test]
async fn edits_new_files_deletes_and_renames_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "src/a.ts", "export {};");
    let mut watcher = watch(root).await;
    write(root, "src/a.ts", "export const a = 1;");
    assert_eq!(next(&mut watcher).await, ["+src/a.ts"]);
    write(root, "src/new/deep/b.ts", "export const b = 1;");
    until(&mut watcher, &["+src/new/deep/b.ts"]).await;
    write(root, "src/new/deep/c.ts", "export const c = 1;");
    until(&mut watcher, &["+src/new/deep/c.ts"]).await;
    fs::rename(root.join("src/a.ts"), root.join("src/z.ts")).unwrap();
    until(&mut watcher, &["-src/a.ts", "+src/z.ts"]).await;
    fs::rename(root.join("src/new"), root.join("src/old")).unwrap();
    until(&mut watcher, &["-src/new/deep/b.ts", "+src/old/deep/b.ts", "+src/old/deep/c.ts"]).await;
    write(root, "src/old/deep/b.ts", "export const b = 2;");
    until(&mut watcher, &["+src/old/deep/b.ts"]).await;
    fs::remove_dir_all(root.join("src/old")).unwrap();
    until(&mut watcher, &["-src/old/deep/b.ts", "-src/old/deep/c.ts"]).await;
    write(root, "node_modules/x/index.js", "1");
    write(root, "src/z.ts", "export const z = 1;");
    assert_eq!(next(&mut watcher).await, ["+src/z.ts"], "and nothing of node_modules");
    let names: Vec<_> = watcher.files().keys().map(|path| path.as_str().to_owned()).collect();
    assert_eq!(names, ["src/z.ts"]);
}

#[tokio::test]
async fn files_that_need_each_other_come_together() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "src/main.ts", "export {};");
    let mut watcher = watch(root).await;
    let mut together = 0;
    for n in 0..5 {
        // The importer first: by itself it does not resolve.
        write(root, "src/main.ts", &format!("import './part{n}';"));
        tokio::time::sleep(Duration::from_millis(5)).await;
        write(root, &format!("src/part{n}.ts"), "export const part = 1;");
        let part = format!("+src/part{n}.ts");
        let first = next(&mut watcher).await;
        if first.contains(&part) {
            together += 1;
        } else {
            until(&mut watcher, &[&part]).await;
        }
    }
    assert!(together >= 3, "only {together} of 5 pairs came as one; a busy machine may part one or two");
}

#[tokio::test]
async fn what_stays_broken_is_told_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "src/a.ts", "export {};");
    let mut watcher = watch(folder.path()).await;
    write(folder.path(), "src/a.ts", "import './nowhere'; export const = ;");
    assert_eq!(next(&mut watcher).await, ["+src/a.ts"]);
    write(folder.path(), "src/a.ts", "");
    assert_eq!(next(&mut watcher).await, ["+src/a.ts"]);
}

#[tokio::test]
async fn a_folder_that_is_removed_and_made_anew_is_watched_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "src/made/deep/a.ts", "export const a = 1;");
    let mut watcher = watch(root).await;
    for n in 0..3 {
        // As generators do, faster than anybody looks.
        fs::remove_dir_all(root.join("src/made")).unwrap();
        write(root, "src/made/deep/a.ts", &format!("export const a = {n}0;"));
        until(&mut watcher, &["+src/made/deep/a.ts"]).await;
        write(root, "src/made/deep/a.ts", &format!("export const a = {n}1;"));
        until(&mut watcher, &["+src/made/deep/a.ts"]).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_name_that_is_no_text_is_left_out_and_changes_nothing_else() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "index.html", "<p>kept</p>");
    write(root, "src/a.ts", "export {};");
    let strange = std::ffi::OsStr::from_bytes(b"src/caf\xe9.ts");
    let mut watcher = watch(root).await;
    fs::write(root.join(strange), "export {};").unwrap();
    write(root, "src/a.ts", "export const a = 1;");
    assert_eq!(next(&mut watcher).await, ["+src/a.ts"], "nothing was deleted");
    let contents = read_folder(root).await.unwrap();
    assert_eq!(contents.files.len(), 2);
    assert_eq!(contents.skipped.len(), 1);
    assert!(contents.skipped[0].path.starts_with("src/caf"), "{:?}", contents.skipped);
    assert!(contents.skipped[0].why.contains("UTF-8"), "{:?}", contents.skipped);
}
