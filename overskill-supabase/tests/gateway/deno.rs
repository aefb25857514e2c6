//! Runs a gateway on real deno, and calls it with exactly these bytes.

use overskill_testkit::RawAnswer;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

/// A function that runs. It ends with its owner, however that ends: a closed pipe tells the shell between.
#[derive(Debug)]
pub(crate) struct Deno {
    port: u16,
    child: Child,
}

/// Closes the pipe, and waits until nothing runs any more.
impl Drop for Deno {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("OVERSKILL_DENO") {
        return path.into();
    }
    let pinned = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/node_modules/@deno/linux-x64-glibc/deno");
    assert!(pinned.is_file(), "deno is not installed: run `cargo xtask setup`, or set OVERSKILL_DENO");
    pinned
}

/// What deno itself has to say of the scripts, with these arguments; its own word when it is not content.
pub(crate) fn content(arguments: &[&str]) -> Result<(), String> {
    let mut command = std::process::Command::new(program());
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).env("NO_COLOR", "1");
    let output = command.env("DENO_DIR", cache()).env("DENO_NO_UPDATE_CHECK", "1").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) }
}

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("deno")
}

impl Deno {
    pub(crate) async fn run(script: &str, env: &[(&str, &str)]) -> Self {
        const WATCH: &str = r#"exec 3<&0; "$@" </dev/null & child=$!; cat <&3 >/dev/null; kill -9 $child"#;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "sh"]).arg(program());
        command.args([
            "run",
            "--no-check",
            "--no-remote",
            "--no-prompt",
            "--quiet",
            "--allow-env",
            "--allow-net=127.0.0.1",
        ]);
        command.arg(script).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("DENO_DIR", cache()).env("DENO_SERVE_ADDRESS", "tcp:127.0.0.1:0").env("NO_COLOR", "1");
        command.envs(env.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap().expect("deno ended before it listened");
            if let Some(port) = line.strip_prefix("listening on ") {
                break port.parse().unwrap();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { port, child }
    }

    /// Sends a request whose head is exactly these lines, and gives the status and the body.
    pub(crate) async fn raw(&self, head: &str, body: &str) -> (u16, String) {
        sent(&self.address(), head, body).await
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A usual call.
    pub(crate) async fn call(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
        let content_type = if body.is_empty() { "" } else { "\r\ncontent-type: application/json" };
        self.raw(&format!("{method} {path} HTTP/1.1\r\nauthorization: Bearer {token}{content_type}"), body).await
    }
}

/// Sends a request to anybody.
pub(crate) async fn sent(address: &str, head: &str, body: &str) -> (u16, String) {
    let answer = answered(address, head, body).await;
    answer.map_or((0, String::new()), |it| (it.status, String::from_utf8_lossy(&it.body).into_owned()))
}

/// The same with the header fields of the answer; `None` for no whole one.
pub(crate) async fn answered(address: &str, head: &str, body: &str) -> Option<RawAnswer> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let request = format!("{head}\r\nhost: gateway\r\nconnection: close\r\n{length}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    RawAnswer::read(&answer, false)
}
