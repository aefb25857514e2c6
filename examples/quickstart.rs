//! An app as AI writes them, live in the browser in one command: no account, no Node, nothing to install.
//!
//! ```sh
//! cargo run --example quickstart                     # previews examples/apps/todo-studio until Ctrl-C
//! cargo run --example quickstart -- --serve DIR      # previews any folder, and pushes what changes on disk
//! cargo run --example quickstart -- --deploy         # builds it for production, too, and serves that beside the preview
//! cargo run --example quickstart -- --json           # one object with what was measured, and ends
//! ```
//!
//! `--data DIR` keeps everything elsewhere than in `target/quickstart`; `--embedder ORIGIN` lets pages of that origin show the
//! preview in a frame and ask it where an element was written.
//!
//! Packages come from the npm registry named by `NPM_CONFIG_REGISTRY` or `~/.npmrc`, once; afterwards it works offline.

use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use overskill::{
    AppFile, AppHandle, AppId, AppRecord, Changes, Clock, Environment, FilePath, Outcome, Overskill, Preview,
    ProgressEvent, ProgressSink, Pushed, Scope, Sources, SystemClock, SystemScopes, Written,
    build::compiler::{Compiler, CompilerOptions},
    local::{FolderWatcher, LocalOptions, Skipped},
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() {
    let started = Instant::now();
    let ended = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => run(&arguments, started).await,
        Err(e) => Err(e.into()),
    };
    if let Err(e) = ended {
        let public = e.downcast_ref::<overskill::Error>().map(|e| format!("{}\n  ({e})", e.public_message()));
        eprintln!("quickstart: {}", public.unwrap_or_else(|| e.to_string()));
        std::process::exit(1);
    }
}

struct Arguments {
    folder: PathBuf,
    data: PathBuf,
    /// Whose pages may show the preview in a frame.
    embedder: Option<String>,
    json: bool,
    /// Somebody else's folder: it is watched, and nothing is edited in it.
    serve: bool,
    /// Build it for production, too, and serve that.
    deploy: bool,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut parsed = Self {
            folder: root.join("examples/apps/todo-studio"),
            data: root.join("target/quickstart"),
            embedder: None,
            json: false,
            serve: false,
            deploy: false,
        };
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut value = |name: &str, what: &str| arguments.next().ok_or(format!("{name} needs {what}"));
            let mut folder = |name: &str| value(name, "a folder").map(PathBuf::from);
            match argument.as_str() {
                "--json" => parsed.json = true,
                "--deploy" => parsed.deploy = true,
                "--serve" => (parsed.serve, parsed.folder) = (true, folder("--serve")?),
                "--data" => parsed.data = folder("--data")?,
                "--embedder" => parsed.embedder = Some(value("--embedder", "an origin")?),
                other => {
                    let known = "--serve DIR, --deploy, --json, --data DIR and --embedder ORIGIN";
                    return Err(format!("unknown argument {other:?}: there are {known}"));
                }
            }
        }
        Ok(parsed)
    }
}

async fn run(arguments: &Arguments, started: Instant) -> Result<(), Failure> {
    // What this writes would be taken for the app's, keys and all.
    let (folder, data) = (arguments.folder.canonicalize(), std::path::absolute(&arguments.data)?);
    if folder.is_ok_and(|folder| data.starts_with(&folder) || data.canonicalize().is_ok_and(|d| d.starts_with(&folder)))
    {
        let message = "the data folder is inside of the folder to serve: name one outside of it with --data DIR";
        return Err(message.into());
    }
    // One compiler for the previews and for the watcher, which asks it whether files fit together.
    let compiler = Compiler::new(CompilerOptions::development());
    let (watcher, contents) = FolderWatcher::start(&arguments.folder, compiler.clone()).await?;
    for Skipped { path, why, .. } in &contents.skipped {
        eprintln!("left out {path}: {why}");
    }
    let bar = Bar::new(arguments.json);
    let mut server = LocalOptions::new().progress(bar.clone());
    if let Some(origin) = &arguments.embedder {
        server = server.embeddable_by(origin)?;
    }
    let platform = Overskill::local(&arguments.data).server(server).compiler(compiler).await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let background = platform.clone();
    let running = tokio::spawn(async move { background.run(async { drop(stopped.await) }).await });

    let app = app(&platform, &arguments.folder).await?;
    let files = contents.files.len();
    let preview = app.preview().open(Sources::files(contents.files.clone())?).await?;
    let ready = started.elapsed();
    let page = first_page(&preview).await?;
    let first_page = started.elapsed();
    if !arguments.json {
        bar.0.suspend(|| println!("{files} files of {} are live at {}", app.id(), preview.url));
    }
    // What imports packages waits for them, in the browser; what is wrong with them is known then.
    let scope = Scope::new(app.id().clone(), Environment::Preview);
    if let Some(backends) = platform.backends() {
        backends.previews().ready(&scope).await;
    }
    let packages = started.elapsed();
    bar.0.finish_and_clear();
    if !arguments.json {
        println!("ready after {ready:.0?}, first page after {first_page:.0?}, packages after {packages:.0?}");
    }
    let wrong = problems(&platform, &app);
    if wrong > 0 && !arguments.serve {
        return Err(format!("{wrong} things are wrong with the app, as said above").into());
    }
    if arguments.deploy {
        deploy(&app).await?;
    }
    let pushed = if arguments.serve { None } else { Some(edit(&app, &preview, &page, &contents.files).await?) };
    if arguments.json {
        let millis = |d: Duration| (d.as_secs_f64() * 1e5).round() / 1e2;
        let measured = serde_json::json!({
            "app": app.id(), "files": files, "preview_url": preview.url, "ready_ms": millis(ready),
            "first_page_ms": millis(first_page), "packages_ms": millis(packages), "edit_to_push_ms": pushed.map(millis),
        });
        println!("{measured}");
    } else {
        if let Some(pushed) = pushed {
            println!("an edit was with the page after {pushed:.1?}");
        }
        println!("what changes in {} is shown; Ctrl-C ends it", arguments.folder.display());
        tokio::select! {
            ended = serve(&platform, &app, watcher) => ended?,
            ended = tokio::signal::ctrl_c() => ended?,
        }
    }
    drop(stop);
    running.await?;
    Ok(())
}

/// Builds the app, and makes that the one that is live in production.
async fn deploy(app: &AppHandle) -> Result<(), Failure> {
    let begun = Instant::now();
    match app.deploy(Environment::Production).await?.outcome().await? {
        Outcome::Active { url: Some(url), .. } => {
            eprintln!("production is at {url}, built and deployed in {:.0?}", begun.elapsed());
            Ok(())
        }
        other => Err(format!("it could not be deployed: {other}").into()),
    }
}

/// The app of a folder, named after it.
async fn app(platform: &Overskill, folder: &Path) -> Result<AppHandle, Failure> {
    let name = folder.canonicalize()?.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let short: String = name.to_lowercase().chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let id = AppId::parse(&short).unwrap_or_else(|_| AppId::derive(&name));
    let host = platform.gate().system("quickstart", "previews a folder", SystemScopes::app(id.clone())).await?;
    let label: String = name.chars().take(50).collect();
    platform.put_app(&host, &AppRecord::new(id.clone(), label, SystemClock.now())).await?;
    Ok(platform.open(host, id).await?)
}

/// Pushes what changes on disk.
async fn serve(platform: &Overskill, app: &AppHandle, mut watcher: FolderWatcher) -> Result<(), Failure> {
    let mut changes = Changes::new();
    loop {
        let next = watcher.next().await?;
        // What could not be stored before goes along.
        changes = changes.iter().chain(next.iter()).map(|(path, change)| (path.clone(), change.clone())).collect();
        let begun = Instant::now();
        let names: Vec<_> = changes.iter().take(3).map(|(path, _)| path.as_str()).collect();
        let more = if changes.len() > 3 { format!(" and {} more", changes.len() - 3) } else { String::new() };
        let names = format!("{}{more}", names.join(", "));
        match app.apply(&changes, None).await {
            Ok(Written { pushed: Pushed::Failed(e), .. }) => {
                eprintln!("{names} stored, but the preview could not be told: {}", e.public_message());
            }
            Ok(_) => println!("{names} pushed in {:.1?}", begun.elapsed()),
            Err(e) => {
                eprintln!(
                    "{names} could not be stored, and will be tried again with the next change: {}",
                    e.public_message()
                );
                continue;
            }
        }
        changes = Changes::new();
        problems(platform, app);
    }
}

/// Says what is wrong with the app, and how much that is.
fn problems(platform: &Overskill, app: &AppHandle) -> usize {
    let scope = Scope::new(app.id().clone(), Environment::Preview);
    let problems = platform.backends().and_then(|b| b.previews().problems(&scope)).unwrap_or_default();
    // One trouble with the registry is one for each import: it is said once.
    let mut said = std::collections::BTreeMap::<&str, (usize, usize)>::new();
    for (place, problem) in problems.iter().enumerate() {
        said.entry(&problem.message).or_insert((place, 0)).1 += 1;
    }
    let mut said: Vec<_> = said.into_values().collect();
    said.sort_unstable();
    for (place, times) in said.into_iter().take(10) {
        let more = if times > 1 { format!(" (and {} more like it)", times - 1) } else { String::new() };
        eprintln!("{}{more}", problems[place]);
    }
    problems.len()
}

/// Changes a component, and waits until the page is told.
async fn edit(
    app: &AppHandle,
    preview: &Preview,
    page: &str,
    files: &std::collections::BTreeMap<FilePath, AppFile>,
) -> Result<Duration, Failure> {
    let is_component =
        |path: &&FilePath| path.as_str().starts_with("src/components/") && path.extension() == Some("tsx");
    let path = files.keys().find(is_component).or_else(|| files.keys().find(|p| p.extension() == Some("tsx")));
    let path = path.ok_or("the app has no component to edit")?;
    let mut socket = socket(preview, page).await?;
    let source = String::from_utf8_lossy(files[path].contents()).into_owned();
    let begun = Instant::now();
    app.write([(path.clone(), format!("{source}\n// Edited by the quickstart.\n"))]).await?;
    let pushed = loop {
        let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await;
        let message = message.map_err(|_| "the page was not told of the edit within 10 s")?;
        let text = message.ok_or("the socket was closed")??.into_text()?;
        if text.contains("\"type\":\"update\"") || text.contains("\"type\":\"full-reload\"") {
            break begun.elapsed();
        }
    };
    app.write([(path.clone(), files[path].clone())]).await?;
    Ok(pushed)
}

/// `http://name.localhost:PORT` without a resolver that knows such names.
async fn connect(preview: &Preview) -> Result<(TcpStream, String), Failure> {
    let host = preview.url.as_str().strip_prefix("http://").ok_or("a local preview is at an http address")?;
    let port: u16 = host.rsplit(':').next().unwrap_or_default().parse()?;
    Ok((TcpStream::connect(("127.0.0.1", port)).await?, host.to_owned()))
}

/// Asks for the first page as a browser does.
async fn first_page(preview: &Preview) -> Result<String, Failure> {
    let (mut stream, host) = connect(preview).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\naccept: text/html\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if !answer.starts_with("HTTP/1.1 200") {
        return Err(format!("the page was answered with {:?}", answer.lines().next().unwrap_or_default()).into());
    }
    Ok(answer)
}

/// Connects as the page does, with the token that the page was given.
async fn socket(preview: &Preview, page: &str) -> Result<tokio_tungstenite::WebSocketStream<TcpStream>, Failure> {
    let config = page.split("id=\"overskill-preview\"").nth(1).and_then(|rest| rest.split(['<', '>']).nth(1));
    let config: serde_json::Value = serde_json::from_str(config.ok_or("the page names no socket")?)?;
    let token = config["token"].as_str().ok_or("the page has no token")?;
    let (stream, _) = connect(preview).await?;
    let address = format!("{}?token={token}", preview.websocket_url);
    let (mut socket, _) = tokio_tungstenite::client_async(address, stream).await?;
    socket.next().await.ok_or("the socket was closed")??; // `connected`
    Ok(socket)
}

/// A progress bar, drawn where nobody parses the output.
#[derive(Clone, Debug)]
struct Bar(ProgressBar);

impl Bar {
    fn new(hidden: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr());
        if hidden {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{bar:32} {pos:>3} % {msg}");
        Self(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }
}

impl ProgressSink for Bar {
    fn emit(&self, event: ProgressEvent) {
        if let Some(percent) = event.progress {
            self.0.set_position(percent.into());
        }
        self.0.set_message(event.message);
    }
}
