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

/// How much memory these take that no other has, in bytes.
pub(super) fn memory(programs: &BTreeSet<u32>) -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let resident = |id: &u32| {
        let statm = fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
        let mut fields = statm.split_ascii_whitespace().skip(1).map(|it| it.parse::<u64>().unwrap_or(0));
        let (resident, shared) = (fields.next()?, fields.next()?);
        Some(resident.saturating_sub(shared) * PAGE_BYTES)
    };
    programs.iter().filter_map(resident).sum()
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

/// How many bytes a folder takes on the disk, as far as counting past `most` is of any use.
pub(super) fn disk(folder: &Path, most: u64) -> u64 {
    let (mut bytes, mut left) = (0_u64, vec![folder.to_owned()]);
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Of a link itself, not of what it leads to.
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                left.push(entry.path());
            }
            bytes = bytes.saturating_add(taken(&about));
            if bytes > most {
                return bytes;
            }
        }
    }
    bytes
}

#[cfg(unix)]
fn taken(about: &fs::Metadata) -> u64 {
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
