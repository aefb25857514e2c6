//! An edit on disk until it is in the DOM of a real Chromium, through the dispatcher and the preview's room, with others who
//! look at the same preview.

use crate::{
    app::{no_env, workspace},
    rig::Rig,
};
use futures::{StreamExt as _, stream};
use overskill::{
    AppFile, FilePath, Incarnation, PreviewHost as _, PreviewStatus, Scope, Snapshot, StreamPosition, Update,
    build::{
        compiler::{Compiler, CompilerOptions},
        packages::NpmPackages,
        preview::PreviewEngine,
    },
    local::FolderWatcher,
};
use overskill_benches::{Bench, Figure, Outcome, Reading, Turns, copy_app};
use overskill_testkit::cloudflare::CloudflareEmulator;
use serde::Deserialize;
use serde_json::json;
use std::{
    fs,
    io::{Seek as _, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};
use tokio::net::TcpStream;

const ALONE: &str = "edit to DOM, 1 socket";
const HUNDRED: &str = "edit to DOM, 100 sockets";
const THOUSAND: &str = "edit to DOM, 1,000 sockets";

const fn median(case: &'static str, peer: &'static str) -> Figure {
    Figure::shown(case, "median", "ms", peer)
}
const fn tail(case: &'static str) -> Figure {
    Figure::shown(case, "95th percentile", "ms", "1 socket")
}

const SIZES: [(u32, Figure, Figure); 3] = [
    (1, median(ALONE, "1 socket"), tail(ALONE)),
    (100, median(HUNDRED, "1 socket"), tail(HUNDRED)),
    (1_000, median(THOUSAND, "1 socket"), tail(THOUSAND)),
];

pub(crate) fn figures() -> Vec<Figure> {
    SIZES.iter().flat_map(|(_, median, tail)| [*median, *tail]).collect()
}

const APP: &str = "bench";
/// Its page is there once everybody looks.
const READY: &str = "ready";
/// Texts of the first page.
const EDITS: [(&str, &str); 3] = [
    ("src/components/Counter.tsx", "Focus rounds"),
    ("src/components/layout/Header.tsx", "New task"),
    ("src/pages/Index.tsx", "of what was due is done."),
];

#[derive(Deserialize)]
struct Seen {
    rows: Vec<[f64; 1]>,
}

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    let workspace = workspace()?;
    let ground = workspace.join("target/bench-cloudflare");
    let folder = ground.join("edited");
    let _ = fs::remove_dir_all(&folder); // of the run before
    copy_app(&workspace.join("examples/apps/todo-studio"), &folder)?;
    let turns = bench.size(60, 6);
    let mut alone = None;
    for (sockets, median, tail) in SIZES {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let contestant = json!({
            "name": "overskill", "command": std::env::current_exe()?, "cwd": folder, "port": port,
            "args": ["serve", folder, ground, port.to_string(), sockets.to_string()],
            "host": format!("preview-{APP}.localhost"), "ready": format!("preview-{READY}.localhost"),
        });
        let edits = EDITS.map(|(path, anchor)| json!({ "path": path, "anchor": anchor }));
        let task = json!({ "what": "edits", "turns": turns, "contestants": [contestant], "edits": edits });
        let mut input = tempfile::tempfile()?;
        writeln!(input, "{task}")?;
        input.rewind()?;
        let mut node = Command::new("node");
        let output =
            node.arg(workspace.join("tools/preview-bench.mjs")).stdin(Stdio::from(input)).stderr(Stdio::piped());
        let output = output.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).chars().take(600).collect::<String>();
            return Err(format!("{sockets} sockets: {said}").into());
        }
        let Seen { rows } = serde_json::from_slice(&output.stdout)?;
        let turns = Turns::seen(rows);
        let (middle, late) = (turns.of(0), turns.quantile_of(0, 0.95));
        let (of_one, late_of_one) = *alone.get_or_insert((middle, late));
        bench.show(&median, Reading::limited(middle, of_one));
        bench.show(&tail, Reading::limited(late, late_of_one));
    }
    Ok(())
}

/// `cloudflare serve FOLDER GROUND PORT SOCKETS`: shows the folder through the dispatcher to one socket fewer than that, and
/// pushes what changes in it, until the program is killed.
pub(crate) async fn serve(arguments: &[String]) -> Outcome<()> {
    let [folder, ground, port, sockets] = arguments else {
        return Err("serve needs a folder, a ground, a port and a number of sockets".into());
    };
    raise_limit();
    let compiler = Compiler::new(CompilerOptions::development());
    let (mut watcher, contents) = FolderWatcher::start(Path::new(folder), compiler.clone()).await?;
    let packages = NpmPackages::builder(Path::new(ground).join("packages")).build()?;
    let rig = Rig::start(CloudflareEmulator::options().edge_port(port.parse()?)).await?;
    let previews = rig.edge.previews(PreviewEngine::new(compiler, packages));
    let scope: Scope = format!("{APP}/preview").parse()?;
    let mut shown = Snapshot::new(StreamPosition::start(Incarnation::from_u64(1)), contents.files);
    previews.open(&scope, &shown, &no_env()).await?;
    let others = sockets.parse::<u32>()?.saturating_sub(1);
    let page = rig.plain().await?.until_ok(&rig.host(APP, scope.environment), "/").await?;
    let token = token(&String::from_utf8_lossy(&page))?;
    let looking = stream::iter(0..others).map(|_| look(rig.address, &token)).buffer_unordered(32);
    looking.fold(Ok(()), |all: Outcome<()>, one| async { all.and(one) }).await?;
    if !matches!(previews.status(&scope).await?, PreviewStatus::Open { viewers, .. } if viewers == others) {
        return Err("not everybody is in the room".into());
    }
    let files = [(FilePath::parse("index.html")?, AppFile::new("<!doctype html><title>Ready</title>"))];
    let ready = Snapshot::new(shown.position, files.into());
    previews.open(&format!("{READY}/preview").parse()?, &ready, &no_env()).await?;
    loop {
        let changes = watcher.next().await?;
        let (base, next) = (shown.position, shown.position.next());
        changes.apply_to(&mut shown.files);
        shown.position = next;
        if !matches!(previews.apply(&scope, base, next, &changes).await?, Update::Applied) {
            return Err("an edit was not pushed".into());
        }
    }
}

/// What the page's socket has to show.
fn token(page: &str) -> Outcome<String> {
    let config = page.split("id=\"overskill-preview\"").nth(1).and_then(|rest| rest.split(['<', '>']).nth(1));
    let config: serde_json::Value = serde_json::from_str(config.ok_or("the page names no socket")?)?;
    Ok(config["token"].as_str().ok_or("the page has no token")?.to_owned())
}

/// Looks on, as a page does whose socket is open.
async fn look(edge: SocketAddr, token: &str) -> Outcome<()> {
    let stream = TcpStream::connect(edge).await?;
    let address = format!("ws://preview-{APP}.localhost:{}/@overskill/socket?token={token}", edge.port());
    let (mut socket, _) = tokio_tungstenite::client_async(address, stream).await?;
    socket.next().await.ok_or("a socket was closed")??; // `connected`
    tokio::spawn(async move { while let Some(Ok(_)) = socket.next().await {} });
    Ok(())
}

/// Lets this process open as many sockets as it may, and what it starts too.
fn raise_limit() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }); // else there are fewer sockets
    }
}
