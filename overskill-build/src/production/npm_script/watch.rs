//! What a build takes, looked at while it runs; and an end to all that it started.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The programs that carry `mark` in their environment, and all that they started: those that ran from the group as well.
pub(super) fn programs(mark: &str, root: Option<u32>) -> BTreeSet<u32> {
    let mut parents: BTreeMap<u32, u32> = BTreeMap::new();
    let mut found: BTreeSet<u32> = root.into_iter().collect();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(parent) = parent(&entry.path()) {
            parents.insert(id, parent);
        }
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|it| it == mark.as_bytes()) {
            found.insert(id);
        }
    }
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(id, parent)| found.contains(parent) && !found.contains(id))
            .map(|(id, _)| *id)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn parent(process: &Path) -> Option<u32> {
    // The name, in brackets, may hold anything.
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What programs take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Takes {
    pub(super) memory: u64,
    /// In files that have no name any more; [`disk`] counts the others.
    pub(super) disk: u64,
}

/// What these take: memory of their own and shared, files that are memory, and files without a name that they hold.
pub(super) fn takes(programs: &BTreeSet<u32>) -> Takes {
    let (mut own, mut shared, mut held) = (0_u64, 0_u64, BTreeMap::new());
    for id in programs {
        let process = Path::new("/proc").join(id.to_string());
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let bytes_of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|it| it.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        own += bytes_of("RssAnon:") + bytes_of("VmSwap:");
        shared += bytes_of("RssShmem:");
        hold(&process, &mut held);
    }
    let in_files = |memory: bool| held.values().filter(|it| it.0 == memory).map(|it| it.1).sum::<u64>();
    // What is mapped and held is in both.
    Takes { memory: own + shared.max(in_files(true)), disk: in_files(false) }
}

/// Files by device and number, for several programs may hold one: whether it is memory, and its bytes.
type Held = BTreeMap<(u64, u64), (bool, u64)>;

/// Finds the files without a name that a program has open or mapped. Where we may not look at what is mapped (only root may)
/// they are those that are open; mapped memory is in the program's own count.
#[cfg(unix)]
fn hold(process: &Path, held: &mut Held) {
    use std::os::unix::fs::MetadataExt as _;
    const GONE: &str = " (deleted)";
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().filter_map(|it| {
        let to = fs::read_link(it.path()).ok()?;
        Some((it.path(), to.to_str()?.strip_suffix(GONE)?.to_owned()))
    });
    let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
    let mapped = maps.lines().filter_map(|line| {
        let line = line.strip_suffix(GONE)?;
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        // Without the zeros that `maps` puts before.
        let range = format!("{}-{}", from.trim_start_matches('0'), to.trim_start_matches('0'));
        Some((process.join("map_files").join(range), line[line.find('/')?..].to_owned()))
    });
    for (at, name) in open.chain(mapped) {
        let Ok(about) = fs::metadata(at) else { continue };
        if about.is_file() && about.nlink() == 0 {
            let memory = ["/memfd:", "/dev/zero", "/SYSV"].iter().any(|it| name.starts_with(it));
            held.insert((about.dev(), about.ino()), (memory, blocks(&about)));
        }
    }
}

/// Ends them. What starts others while it is ended is found the next time.
#[cfg(unix)]
pub(super) fn end(mark: &str, root: Option<u32>) {
    use rustix::process::{Pid, Signal, kill_process, kill_process_group};
    const ROUNDS: usize = 20;
    let pid = |id: u32| i32::try_from(id).ok().and_then(Pid::from_raw);
    if let Some(group) = root.and_then(pid) {
        let _ = kill_process_group(group, Signal::KILL); // gone already, mostly
    }
    for _ in 0..ROUNDS {
        let left: Vec<Pid> = programs(mark, None).into_iter().filter_map(pid).collect();
        if left.is_empty() {
            return;
        }
        for program in left {
            let _ = kill_process(program, Signal::KILL); // gone already
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    tracing::warn!("programs that a build started could not be ended");
}

/// How many bytes a folder takes on the disk, as far as counting past `most` is of any use. A folder in it that keeps us out
/// may hold anything.
pub(super) fn disk(folder: &Path, most: u64) -> u64 {
    let (mut bytes, mut left) = (0_u64, vec![folder.to_owned()]);
    while let Some(folder) = left.pop() {
        let entries = fs::read_dir(folder);
        if entries.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied) {
            return u64::MAX;
        }
        for entry in entries.into_iter().flatten().flatten() {
            // Of a link itself, not of what it leads to.
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                left.push(entry.path());
            }
            bytes = bytes.saturating_add(blocks(&about));
            if bytes > most {
                return bytes;
            }
        }
    }
    bytes
}

#[cfg(unix)]
fn blocks(about: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    about.blocks() * 512
}

/// Deletes a folder, whatever rights its contents have.
#[cfg(unix)]
pub(super) fn delete(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    if fs::remove_dir_all(folder).is_ok() {
        return Ok(());
    }
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)); // deleting will tell
        let folders = fs::read_dir(&folder).into_iter().flatten().flatten();
        left.extend(folders.filter(|it| it.file_type().is_ok_and(|it| it.is_dir())).map(|it| it.path()));
    }
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_folder_that_keeps_us_out_may_hold_anything() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("file"), [1; 10_000]).unwrap();
        assert!((10_000..1 << 20).contains(&disk(folder.path(), 1 << 30)));
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o000)).unwrap();
        let root = fs::read_dir(&inside).is_ok(); // nothing keeps root out
        assert_eq!(disk(folder.path(), 1 << 30) == u64::MAX, !root);
        delete(folder.path()).unwrap();
    }
}
