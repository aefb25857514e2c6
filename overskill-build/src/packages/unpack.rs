//! Unpacking a package's tarball, which anybody may have made.

use super::trouble::{Trouble, local};
use crate::ProblemKind;
use flate2::bufread::MultiGzDecoder;
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read, Write as _},
    path::Path,
};

/// How large a package may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnpackLimits {
    /// Unpacked, in bytes.
    pub(crate) bytes: u64,
    /// Files.
    pub(crate) files: u32,
    /// Folders above a file.
    pub(crate) depth: usize,
    /// How many times larger than the tarball; a first MiB is free.
    pub(crate) ratio: u64,
}

/// Longest path within a package, in bytes.
const PATH_BYTES: usize = 1024;
/// Longest extended header, in bytes: it holds little but a path.
const HEADER_BYTES: u64 = 64 * 1024;

/// Unpacks `tarball` into `into`, an empty folder that nobody else writes to, and gives the number of bytes that its
/// files have.
///
/// Only regular files come out of it. Anything that could lead elsewhere (a `..`, an absolute path, a link, a device)
/// damns the whole package: no honest tool packs those. Files that no browser loads (source maps, type declarations)
/// count, but are not written.
pub(crate) fn unpack(tarball: &[u8], into: &Path, limits: &UnpackLimits) -> Result<u64, Trouble> {
    let packed = tarball.len() as u64;
    let most = limits.bytes.min(packed.saturating_mul(limits.ratio).saturating_add(1 << 20));
    // Headers and padding come on top of the files.
    let most_read = most.saturating_add(u64::from(limits.files).saturating_mul(1536)).saturating_add(1 << 16);
    let mut archive = tar::Archive::new(Meter { inner: MultiGzDecoder::new(tarball), left: most_read });
    let (mut long_name, mut said_size): (Option<Vec<u8>>, Option<u64>) = (None, None);
    let (mut bytes, mut files) = (0_u64, 0_u32);
    let mut folders = HashSet::new();
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        let size = entry.header().entry_size().map_err(damaged)?;
        if kind.is_pax_global_extensions() || kind.is_pax_local_extensions() || kind.is_gnu_longname() {
            let data = small(&mut entry, size)?;
            if kind.is_gnu_longname() {
                long_name = Some(data.strip_suffix(b"\0").unwrap_or(&data).to_vec());
            } else if kind.is_pax_local_extensions() {
                let (path, own_size) = pax(&data)?;
                long_name = path.or(long_name);
                said_size = own_size.or(said_size);
            }
            continue;
        }
        // Another size than the header's would change where the next header is; only files beyond 8 GiB need that. Old npm
        // clients repeated the header's, though.
        if said_size.take().is_some_and(|said| said != size) {
            return Err(refuse("it overrides sizes in extended headers"));
        }
        let name = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        if kind.is_dir() {
            inner_path(&name, limits.depth)?;
            continue;
        }
        if !(kind.is_file() || kind.is_contiguous()) {
            let shown = String::from_utf8_lossy(&name).escape_debug().to_string();
            return Err(refuse(format!("`{shown}` in it is not a regular file but a link, a device or the like")));
        }
        let Some(path) = inner_path(&name, limits.depth)? else { continue };
        files += 1;
        bytes = bytes.saturating_add(size);
        if files > limits.files {
            return Err(too_large(format!("it has more than {} files", limits.files)));
        }
        if bytes > most {
            return Err(too_large(format!("it is more than {most} bytes when unpacked ({packed} bytes packed)")));
        }
        if !is_wanted(&path) {
            continue;
        }
        let file = into.join(&path);
        if let Some(folder) = file.parent().filter(|it| !folders.contains(*it)) {
            fs::create_dir_all(folder).map_err(|e| clash_or(e, &path))?;
            folders.insert(folder.to_owned());
        }
        // A name that occurs twice, or differs in case where the disk does not tell: the last wins, as with npm.
        let mut file = File::create(file).map_err(|e| clash_or(e, &path))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = entry.read(&mut buffer).map_err(damaged)?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).map_err(local("write a package's file"))?;
        }
    }
    Ok(bytes)
}

/// One file of a tarball, by its path within the package.
pub(crate) fn read_one(tarball: &[u8], wanted: &str, most_bytes: u64) -> Result<Option<Vec<u8>>, Trouble> {
    let meter = Meter { inner: MultiGzDecoder::new(tarball), left: most_bytes.saturating_add(1 << 20) };
    let mut archive = tar::Archive::new(meter);
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let here = inner_path(&entry.path_bytes(), usize::MAX)?;
        if entry.header().entry_type().is_file() && here.as_deref() == Some(wanted) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The path within the package: without the first folder, which is `package` mostly; `None` for that folder itself.
fn inner_path(name: &[u8], depth: usize) -> Result<Option<String>, Trouble> {
    let shown = || String::from_utf8_lossy(&name[..name.len().min(200)]).escape_debug().to_string();
    let Ok(text) = std::str::from_utf8(name) else {
        return Err(refuse(format!("the name `{}` in it is not UTF-8", shown())));
    };
    if text.starts_with('/') || text.chars().any(|c| c.is_control() || c == '\\') {
        return Err(refuse(format!(
            "the name `{}` in it is absolute, or holds a backslash or control character",
            shown()
        )));
    }
    if text.len() > PATH_BYTES {
        return Err(too_large(format!("a name in it is longer than {PATH_BYTES} bytes: `{}…`", shown())));
    }
    let mut segments: Vec<&str> = text.split('/').filter(|it| !matches!(*it, "" | ".")).collect();
    if segments.contains(&"..") {
        return Err(refuse(format!("the name `{}` in it leads out of the package", shown())));
    }
    if segments.len() < 2 {
        return Ok(None);
    }
    segments.remove(0);
    if segments.len() > depth {
        return Err(too_large(format!("`{}` in it is more than {depth} folders deep", shown())));
    }
    Ok(Some(segments.join("/")))
}

/// Whether a browser could come to load it.
fn is_wanted(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ![".map", ".d.ts", ".d.mts", ".d.cts", ".flow"].iter().any(|suffix| path.ends_with(suffix))
}

fn small(entry: &mut impl Read, size: u64) -> Result<Vec<u8>, Trouble> {
    if size > HEADER_BYTES {
        return Err(too_large(format!("an extended header in it is larger than {HEADER_BYTES} bytes")));
    }
    let mut data = Vec::new();
    entry.read_to_end(&mut data).map_err(damaged)?;
    Ok(data)
}

/// The path and the size that an extended header gives to the next file.
fn pax(data: &[u8]) -> Result<(Option<Vec<u8>>, Option<u64>), Trouble> {
    let (mut path, mut size) = (None, None);
    for record in tar::PaxExtensions::new(data) {
        let record = record.map_err(damaged)?;
        match record.key_bytes() {
            b"path" => path = Some(record.value_bytes().to_vec()),
            b"size" => match record.value().ok().and_then(|it| it.parse().ok()) {
                Some(said) => size = Some(said),
                None => return Err(refuse("it holds a size that is no number in an extended header")),
            },
            b"GNU.sparse.major" => return Err(refuse("it overrides sizes in extended headers")),
            _ => {}
        }
    }
    Ok((path, size))
}

/// Ends in an error once more was read than allowed.
struct Meter<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "it unpacks to more than is allowed"))?;
        Ok(read)
    }
}

fn damaged(e: impl std::borrow::Borrow<io::Error>) -> Trouble {
    let e = e.borrow();
    if e.kind() == io::ErrorKind::FileTooLarge {
        return too_large("it unpacks to more than is allowed");
    }
    refuse(format!("its tarball cannot be read: {e}"))
}

fn clash_or(e: io::Error, path: &str) -> Trouble {
    use io::ErrorKind::{AlreadyExists, InvalidFilename, IsADirectory, NotADirectory};
    if matches!(e.kind(), AlreadyExists | IsADirectory | NotADirectory | InvalidFilename) {
        return refuse(format!("`{}` in it is both a file and a folder, or no name for a file", path.escape_debug()));
    }
    local("write a package's file")(e)
}

fn refuse(why: impl Into<String>) -> Trouble {
    Trouble::problem(ProblemKind::Package, why)
}

fn too_large(why: impl Into<String>) -> Trouble {
    Trouble::problem(ProblemKind::Limit, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use tar::{Builder, EntryType, Header};

    const LIMITS: UnpackLimits = UnpackLimits { bytes: 4 << 20, files: 50, depth: 8, ratio: 200 };

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut zip = GzEncoder::new(Vec::new(), Compression::best());
        zip.write_all(bytes).unwrap();
        zip.finish().unwrap()
    }

    /// A tar entry whose name is written as it is: the crate's own setters refuse what attackers write.
    fn entry(kind: EntryType, name: &[u8], contents: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(contents.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.as_old_mut().linkname[..11].copy_from_slice(b"/etc/passwd");
        }
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend(contents);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn tarball(entries: &[Vec<u8>]) -> Vec<u8> {
        gzip(&[entries.concat(), vec![0; 1024]].concat())
    }

    fn pax(record: &str) -> Vec<u8> {
        let length = record.len() + 3 + usize::from(record.len() > 6) + usize::from(record.len() > 95);
        entry(EntryType::XHeader, b"pax", format!("{length} {record}\n").as_bytes())
    }

    fn try_unpack(tarball: &[u8]) -> (tempfile::TempDir, Result<u64, Trouble>) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let done = unpack(tarball, &inner, &LIMITS);
        let beside: Vec<_> = fs::read_dir(outer.path()).unwrap().collect();
        assert_eq!(beside.len(), 1, "something was written outside");
        (outer, done)
    }

    fn refusal(tarball: &[u8]) -> String {
        match try_unpack(tarball).1 {
            Err(Trouble::Problem { problem, passing: false }) => problem.message,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn whatever_leads_elsewhere_damns_the_package() {
        use EntryType as T;
        for (name, hostile, says) in [
            ("traversal", entry(T::Regular, b"package/../../x", b"x"), "leads out"),
            ("traversal at once", entry(T::Regular, b"../x", b"x"), "leads out"),
            ("traversal at the end", entry(T::Directory, b"package/a/..", b""), "leads out"),
            ("absolute", entry(T::Regular, b"/etc/x", b"x"), "absolute"),
            ("backslash", entry(T::Regular, b"package/..\\..\\x", b"x"), "backslash"),
            ("control", entry(T::Regular, b"package/a\x1b[2J", b"x"), "control character"),
            ("line end", entry(T::Regular, b"package/a\nb", b"x"), "control character"),
            ("no UTF-8", entry(T::Regular, b"package/\xff", b"x"), "not UTF-8"),
            ("symbolic link", entry(T::Symlink, b"package/a", b""), "not a regular file"),
            ("hard link", entry(T::Link, b"package/a", b""), "not a regular file"),
            ("device", entry(T::Char, b"package/a", b""), "not a regular file"),
            ("block device", entry(T::Block, b"package/a", b""), "not a regular file"),
            ("pipe", entry(T::Fifo, b"package/a", b""), "not a regular file"),
            ("sparse", entry(T::GNUSparse, b"package/a", b""), "not a regular file"),
            ("unknown", entry(T::new(b'Z'), b"package/a", b""), "not a regular file"),
            ("deep", entry(T::Regular, b"package/1/2/3/4/5/6/7/8/9", b"x"), "deep"),
            (
                "long name",
                [entry(T::GNULongName, b"l", b"package/../../x\0"), entry(T::Regular, b"x", b"")].concat(),
                "leads out",
            ),
            ("pax name", [pax("path=../../x"), entry(T::Regular, b"package/x", b"x")].concat(), "leads out"),
            ("pax size", [pax("size=2"), entry(T::Regular, b"package/x", b"x")].concat(), "overrides sizes"),
            ("no pax size", [pax("size=x"), entry(T::Regular, b"package/x", b"x")].concat(), "no number"),
            ("large header", entry(T::GNULongName, b"l", &vec![b'a'; 70_000]), "larger than 65536"),
        ] {
            for entries in [vec![hostile.clone()], vec![entry(T::Regular, b"package/ok.js", b"ok"), hostile]] {
                let message = refusal(&tarball(&entries));
                assert!(message.contains(says), "{name}: {message}");
            }
        }
    }

    #[test]
    fn a_size_may_be_said_twice() {
        let old_npm = [pax("size=1"), pax("path=package/y.js"), entry(EntryType::Regular, b"package/x", b"x")];
        let (outer, done) = try_unpack(&tarball(&old_npm));
        assert_eq!((done.unwrap(), fs::read(outer.path().join("inner/y.js")).unwrap()), (1, b"x".to_vec()));
    }

    #[test]
    fn sizes_are_bounded() {
        let file = |name: String, bytes: usize| entry(EntryType::Regular, name.as_bytes(), &vec![0; bytes]);
        assert!(refusal(&tarball(&[file("package/bomb".into(), 3 << 20)])).contains("more than"));
        let padding = [file("package/a".into(), 1), vec![0; 1024], vec![7; 64 << 20]].concat();
        assert_eq!(try_unpack(&gzip(&padding)).1.unwrap(), 1, "what comes after the end is not even read");
        let many: Vec<_> = (0..51).map(|n| file(format!("package/{n}"), 0)).collect();
        assert!(refusal(&tarball(&many)).contains("more than 50 files"));
        let mut liar = entry(EntryType::Regular, b"package/a", b"");
        let mut header = Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&liar);
        header.set_size(u64::MAX / 2);
        header.set_cksum();
        liar.copy_from_slice(header.as_bytes());
        refusal(&tarball(&[liar]));
    }

    #[test]
    fn what_is_both_file_and_folder_is_refused_and_damage_is_told() {
        let file = |name: &[u8]| entry(EntryType::Regular, name, b"x");
        assert!(refusal(&tarball(&[file(b"package/a"), file(b"package/a/b")])).contains("both a file and a folder"));
        assert!(refusal(&tarball(&[file(b"package/a/b"), file(b"package/a")])).contains("both a file and a folder"));
        assert!(refusal(b"no gzip").contains("cannot be read"));
        let whole = tarball(&[entry(EntryType::Regular, b"package/a", &[7; 2000])]);
        refusal(&whole[..whole.len() / 2]);
    }

    #[test]
    fn honest_packages_come_out_without_what_no_browser_loads() {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let long = format!("package/{}/index.js", "long".repeat(40));
        for (path, text) in [
            ("package/package.json", "{}"),
            ("node-v1/other-root.js", "root"),
            ("package/./dist/a.js", "a"),
            ("package/dist/a.js", "again"),
            ("package/a.d.ts", "types"),
            ("package/a.js.map", "map"),
            (&long, "long"),
        ] {
            let mut header = Header::new_gnu();
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        let tarball = builder.into_inner().unwrap().finish().unwrap();
        let (folder, done) = try_unpack(&tarball);
        assert_eq!(done.unwrap(), 2 + 4 + 1 + 5 + 5 + 3 + 4);
        let read = |path: &str| fs::read_to_string(folder.path().join("inner").join(path));
        assert_eq!(read("other-root.js").unwrap(), "root");
        assert_eq!(read("dist/a.js").unwrap(), "again");
        assert_eq!(read(&long["package/".len()..]).unwrap(), "long");
        assert!(read("a.d.ts").is_err() && read("a.js.map").is_err());
        assert_eq!(read_one(&tarball, "dist/a.js", 100).unwrap().unwrap(), b"a");
        assert!(read_one(&tarball, "nope", 100).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn no_name_writes_outside(name in "(package|\\.\\.|\\.|/|\\\\|a|%2e){1,12}", kind in 0u8..8) {
            let one = entry(EntryType::new(b'0' + kind), &name.as_bytes()[..name.len().min(99)], b"");
            let (folder, _) = try_unpack(&tarball(&[one]));
            drop(folder);
        }

        #[test]
        fn junk_never_panics(junk: Vec<u8>) {
            drop(try_unpack(&junk));
            drop(try_unpack(&gzip(&junk)));
        }
    }
}
