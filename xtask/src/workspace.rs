//! Where things are.

use std::path::{Path, PathBuf};

use crate::process::Failure;

/// The checked-out workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The one whose `cargo xtask` this is.
    pub(crate) fn find() -> Result<Self, Failure> {
        let xtask = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = xtask
            .parent()
            .filter(|root| root.join("Cargo.toml").is_file())
            .ok_or_else(|| Failure::new("no workspace here: run `cargo xtask`"))?;
        Ok(Self::at(root))
    }

    /// The one at this folder.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What cargo builds goes here.
    pub(crate) fn target(&self) -> PathBuf {
        match std::env::var_os("CARGO_TARGET_DIR") {
            Some(elsewhere) => self.root.join(elsewhere),
            None => self.root.join("target"),
        }
    }

    /// Where `setup` installs cargo's tools.
    pub(crate) fn cargo_tools(&self) -> PathBuf {
        self.target().join("tools")
    }

    /// The folder of the npm tools and their lock file.
    pub(crate) fn npm_tools(&self) -> PathBuf {
        self.root.join("tools")
    }

    /// The folders with a lock file of npm's: `tools` first, and then those in it.
    pub(crate) fn npm_folders(&self) -> Result<Vec<PathBuf>, Failure> {
        let tools = self.npm_tools();
        let within = entries(&tools)?.into_iter().map(|name| tools.join(name));
        let locked = |folder: &PathBuf| folder.join("package-lock.json").is_file();
        Ok(std::iter::once(tools.clone()).chain(within).filter(locked).collect())
    }

    /// The browser suites, `overskill-*/tests/browser/*.mjs`, relative to the root and in order.
    pub(crate) fn browser_suites(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut suites = Vec::new();
        for member in entries(&self.root)? {
            let folder = self.root.join(&member).join("tests/browser");
            if !member.starts_with("overskill-") || !folder.is_dir() {
                continue;
            }
            suites.extend(
                entries(&folder)?
                    .into_iter()
                    .filter(|name| Path::new(name).extension().is_some_and(|it| it == "mjs"))
                    .map(|name| Path::new(&member).join("tests/browser").join(name)),
            );
        }
        Ok(suites)
    }

    /// The names of the benchmarks: `benches/src/bin/NAME.rs` and `benches/src/bin/NAME/main.rs`.
    pub(crate) fn benchmarks(&self) -> Result<Vec<String>, Failure> {
        let folder = self.root.join("benches/src/bin");
        if !folder.is_dir() {
            return Ok(Vec::new());
        }
        let names = entries(&folder)?.into_iter().filter_map(|name| {
            let is_folder = folder.join(&name).join("main.rs").is_file();
            match name.strip_suffix(".rs") {
                Some(stem) => Some(stem.to_owned()),
                None => is_folder.then_some(name),
            }
        });
        Ok(names.collect())
    }
}

/// The names in a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<String>, Failure> {
    let unreadable = |error| Failure::new(format!("could not read {}: {error}", folder.display()));
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        names.extend(name.into_string());
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_and_benchmarks_are_found_by_their_place() {
        let root = std::env::temp_dir().join(format!("xtask-workspace-{}", std::process::id()));
        let here = Workspace::at(&root);
        for file in [
            "overskill-b/tests/browser/two.mjs",
            "overskill-b/tests/browser/notes.md",
            "overskill-a/tests/browser/one.mjs",
            "overskill-a/tests/browser/helpers/shared.mjs",
            "elsewhere/tests/browser/three.mjs",
            "benches/src/bin/queue.rs",
            "benches/src/bin/deploy/main.rs",
            "benches/src/bin/shared/rows.rs",
        ] {
            let file = root.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }

        let suites = here.browser_suites().unwrap();
        let benchmarks = here.benchmarks().unwrap();
        std::fs::remove_dir_all(&root).unwrap();

        let expected = ["overskill-a/tests/browser/one.mjs", "overskill-b/tests/browser/two.mjs"];
        assert_eq!(suites, expected.map(PathBuf::from));
        assert_eq!(benchmarks, ["deploy", "queue"]);
    }
}
