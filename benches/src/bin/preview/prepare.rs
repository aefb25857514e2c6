//! The same app twice, once with Vite and its dependencies installed, and what both keep between two starts.

use overskill_benches::{Outcome, copy_app};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Everything of this benchmark, in the workspace's `target`.
pub(crate) struct Ground {
    root: PathBuf,
    workspace: PathBuf,
}

/// Who serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Vite,
}

impl Ground {
    /// Copies the app, and lets npm install what its lock names, unless that was done before.
    pub(crate) fn prepare() -> Outcome<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
        let ground = Self { root: workspace.join("target/bench-preview"), workspace };
        let app = ground.workspace.join("examples/apps/todo-studio");
        for side in [Side::Ours, Side::Vite] {
            let folder = ground.folder(side);
            for old in ["src", "public"] {
                let _ = fs::remove_dir_all(folder.join(old)); // from the run before
            }
            copy_app(&app, &folder)?;
        }
        let vite = ground.folder(Side::Vite);
        let (lock, stamp) = (fs::read(app.join("package-lock.json"))?, vite.join("node_modules/.installed-from.json"));
        if fs::read(&stamp).ok().as_ref() != Some(&lock) {
            let mut npm = Command::new("npm");
            npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&vite);
            run(&mut npm)?;
            fs::write(stamp, lock)?;
        }
        Ok(ground)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// The app's folder.
    pub(crate) fn folder(&self, side: Side) -> PathBuf {
        self.root.join(match side {
            Side::Ours => "ours",
            Side::Vite => "vite",
        })
    }

    /// Where we keep what lasts.
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// The version of Vite that was installed.
    pub(crate) fn vite_version(&self) -> Option<String> {
        let package = fs::read(self.folder(Side::Vite).join("node_modules/vite/package.json")).ok()?;
        let package: Value = serde_json::from_slice(&package).ok()?;
        Some(package["version"].as_str()?.to_owned())
    }

    /// How the browser's program starts a side; `cold` without prepared dependencies, but with all that was downloaded.
    pub(crate) fn contestant(&self, side: Side, cold: bool) -> Outcome<Value> {
        let folder = self.folder(side);
        let port = free_port()?;
        Ok(match side {
            Side::Ours => {
                let packages = self.data().join("packages");
                let made = ["unpacked", "prepared", "bundles", "work"].map(|made| packages.join(made));
                json!({
                    "name": "overskill", "command": std::env::current_exe()?, "cwd": folder, "port": port,
                    "args": [Path::new("serve"), folder.as_path(), self.data().as_path(), Path::new(&port.to_string())],
                    "host": format!("preview-{}.localhost", crate::serve::APP),
                    "remove": if cold { made.to_vec() } else { Vec::new() },
                })
            }
            Side::Vite => json!({
                "name": "Vite", "command": "node", "cwd": folder, "port": port,
                "args": ["node_modules/vite/bin/vite.js", "--host", "127.0.0.1", "--strictPort", "--port", port.to_string()],
                "host": "localhost",
                "remove": if cold { vec![folder.join("node_modules/.vite")] } else { Vec::new() },
            }),
        })
    }
}

/// Runs a program to its end; its last words if it failed.
pub(crate) fn run(command: &mut Command) -> Outcome<String> {
    let output = command.output().map_err(|e| format!("{}: {e}", command.get_program().to_string_lossy()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<_> = said.lines().rev().take(5).collect();
    let last: Vec<_> = last.into_iter().rev().collect();
    let program = command.get_program().to_string_lossy();
    Err(format!("{program}: {}: {}", output.status, last.join(" | ")).into())
}

fn free_port() -> Outcome<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
