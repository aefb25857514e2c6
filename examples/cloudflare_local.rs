//! The whole platform on Cloudflare, on this machine: its API and its edge are emulated, and no account is needed.
//!
//! ```sh
//! cargo run --example cloudflare_local --features cloudflare              # until Ctrl-C
//! cargo run --example cloudflare_local --features cloudflare -- --json    # one object with what was measured, and ends
//! ```
//!
//! It installs the dispatch Worker, opens a preview of `examples/apps/todo-studio`, deploys it into the dispatch namespace, edits a
//! file, deploys again and goes back. Every page comes from workerd, which `cargo xtask setup` installs, and is looked at as a
//! stranger would: through the dispatch Worker. `--data DIR` keeps npm packages elsewhere than in `target/cloudflare_local`.

use async_trait::async_trait;
use overskill::{
    AppHandle, AppId, AppRecord, BackendName, Clock, DeploymentStrategy, Environment, KeyId, Outcome, Overskill,
    PublicUrl, Pushed, Sources, SystemClock, SystemIds, SystemScopes, Timestamp, To,
    build::{
        compiler::{Compiler, CompilerOptions},
        packages::NpmPackages,
        preview::PreviewEngine,
        production::ModuleBuilder,
    },
    cloudflare::{Cloudflare, IngestKey, Install},
    local::read_folder,
};
use overskill_testkit::{
    RawAnswer,
    cloudflare::{CloudflareEmulator, RecordedCall},
};
use serde_json::{Map, Value, json};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PRODUCTION: Environment = Environment::Production;
/// What is edited: a text of the first page.
const EDITED: &str = "src/components/Counter.tsx";
const BEFORE: &str = "Focus rounds";
const AFTER: &str = "Rounds at the edge";

#[tokio::main]
async fn main() {
    let ended = match arguments(std::env::args().skip(1)) {
        Ok((json, data)) => run(json, &data).await,
        Err(e) => Err(e.into()),
    };
    if let Err(e) = ended {
        eprintln!("cloudflare_local: {e}");
        std::process::exit(1);
    }
}

fn arguments(mut arguments: impl Iterator<Item = String>) -> Result<(bool, PathBuf), String> {
    let (mut json, mut data) = (false, Path::new(env!("CARGO_MANIFEST_DIR")).join("target/cloudflare_local"));
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--data" => data = arguments.next().ok_or("--data needs a folder")?.into(),
            other => return Err(format!("unknown argument {other:?}: there are --json and --data DIR")),
        }
    }
    Ok((json, data))
}

async fn run(json: bool, data: &Path) -> Result<(), Failure> {
    let mut story = Story { quiet: json, figures: Map::new(), since: Instant::now() };
    let emulator = CloudflareEmulator::options().zones(["localhost"]).start().await?;
    let edge = emulator.edge_address().ok_or("the emulator has no edge")?;
    story.step("emulator_ms", &format!("Cloudflare is at {}, its edge at {edge}", emulator.api_url()));

    let cf = Cloudflare::connect(emulator.account(), emulator.token())
        .api_base(emulator.api_url())
        .zone(emulator.zone_id("localhost")?)
        .domains(["localhost"])
        .served_at(format!("http://localhost:{}", edge.port()));
    // What was seen a moment ago is not looked at again. How often that is does not depend on the machine where time stands
    // still, and so the calls can be counted.
    let cf = if json { cf.clock(Timeless) } else { cf };
    let cf = cf.build()?;
    let key = IngestKey::generate(KeyId::parse("k1")?, &SystemIds);
    let install = Install::new(key.to_binding(), "a key for sockets");
    let plan = cf.install(&install).await?;
    story.step("install_ms", &format!("{} things were installed:\n{plan}", plan.changes().len()));
    story.tell("installed", plan.changes().len());

    let packages = NpmPackages::builder(data.join("packages")).build()?;
    let engine = PreviewEngine::new(Compiler::new(CompilerOptions::development()), packages.clone());
    let at_edge = cf.edge(key)?;
    let previews = at_edge.previews(engine);
    let strategy = DeploymentStrategy::prefer(cf.target().at(&at_edge));
    let platform = Overskill::builder()
        .previews(previews.clone())
        .builder(ModuleBuilder::new(packages))
        .routes(at_edge.routes())
        .deploy_with(strategy)
        .build()
        .await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (background, listener) = (platform.clone(), platform.clone());
    let running = tokio::spawn(async move {
        // Rooms that gave up their files get them again.
        let refill = previews.listen(async |scope| {
            if let Err(e) = refill(&listener, scope.app.clone()).await {
                eprintln!("{scope}: {e}");
            }
        });
        tokio::select! {
            () = refill => {}
            () = background.run(async { drop(stopped.await) }) => {}
        }
    });
    let app = app(&platform).await?;
    let told = tell(&app, edge, &emulator, &mut story).await;
    if told.is_ok() && json {
        println!("{}", Value::Object(story.figures));
    } else if told.is_ok() {
        println!("Both stay until Ctrl-C.");
        tokio::signal::ctrl_c().await?;
    }
    drop(stop);
    running.await?;
    drop(emulator); // and workerd with it
    told
}

/// The system's time, in which nothing grows old.
#[derive(Debug)]
struct Timeless;

#[async_trait]
impl Clock for Timeless {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}

async fn refill(platform: &Overskill, app: AppId) -> overskill::Result<()> {
    let host = platform.gate().system("cloudflare_local", "refills a preview", SystemScopes::app(app.clone())).await?;
    platform.open(host, app).await?.preview().refill().await.map(drop)
}

/// The app of `examples/apps/todo-studio`, without files yet.
async fn app(platform: &Overskill) -> Result<AppHandle, Failure> {
    let id = AppId::parse("todostudio")?;
    let host = platform.gate().system("cloudflare_local", "shows an app", SystemScopes::app(id.clone())).await?;
    platform.put_app(&host, &AppRecord::new(id.clone(), "Todo Studio", SystemClock.now())).await?;
    Ok(platform.open(host, id).await?)
}

/// What happens to the app.
async fn tell(
    app: &AppHandle,
    edge: SocketAddr,
    emulator: &CloudflareEmulator,
    story: &mut Story,
) -> Result<(), Failure> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/apps/todo-studio");
    let files = read_folder(folder).await?.files;
    story.tell("files", files.len());
    let preview = app.preview().open(Sources::files(files)?).await?;
    let page = page(edge, &preview.url, "/").await?;
    if page.status != 200 {
        return Err(format!("the preview was answered with {}", page.status).into());
    }
    story.step("preview_ms", &format!("The preview is at {}", preview.url));
    story.tell("preview_url", preview.url.as_str());

    emulator.clear_requests();
    let url = live(app.deploy(PRODUCTION).await?.outcome().await?)?;
    let first = script(edge, &url, None).await?;
    story.step("deploy_ms", &format!("Built and deployed: it is at {url}, and begins with {first}"));
    story.tell("deploy_calls", calls(emulator));
    story.tell("production_url", url.as_str());

    let source = app.read(EDITED).await?.ok_or("the app lacks what is edited")?;
    let source = String::from_utf8(source.contents().to_vec())?;
    let written = app.write([(EDITED, source.replace(BEFORE, AFTER))]).await?;
    if !matches!(written.pushed, Pushed::Shown) {
        return Err(format!("the edit was not pushed: {:?}", written.pushed).into());
    }
    let module = self::page(edge, &preview.url, &format!("/{EDITED}")).await?;
    if !String::from_utf8_lossy(&module.body).contains(AFTER) {
        return Err("the preview does not show the edit".into());
    }
    story.step("edit_ms", &format!("An edit of {EDITED} is in the preview: “{AFTER}”"));

    emulator.clear_requests();
    let url = live(app.deploy(PRODUCTION).await?.outcome().await?)?;
    let second = script(edge, &url, Some(&first)).await?;
    story.step("redeploy_ms", &format!("Deployed again: it begins with {second}"));
    story.tell("redeploy_calls", calls(emulator));

    emulator.clear_requests();
    let url = live(app.rollback(PRODUCTION, To::LastGood).await?.outcome().await?)?;
    let back = script(edge, &url, Some(&second)).await?;
    if back != first {
        return Err(format!("it went back to {back}, and not to {first}").into());
    }
    story.step("rollback_ms", &format!("Gone back: it begins with {back} again"));
    story.tell("rollback_calls", calls(emulator));
    Ok(())
}

/// What Cloudflare was asked since, in the order in which it came: `PUT dispatch/namespaces/…/scripts/todostudio-1`.
fn calls(emulator: &CloudflareEmulator) -> Vec<String> {
    let shown = |call: RecordedCall| {
        let path = call.path.split('?').next().unwrap_or_default();
        let path = path.split_once("/workers/").map_or(path, |(_, below)| below);
        format!("{} {path}", call.method)
    };
    emulator.requests().into_iter().map(shown).collect()
}

fn live(outcome: Outcome) -> Result<PublicUrl, Failure> {
    match outcome {
        Outcome::Active { url: Some(url), target, .. } if target == BackendName::parse("cloudflare")? => Ok(url),
        other => Err(format!("it could not be deployed: {other}").into()),
    }
}

/// The script that the app's page begins with, once it is another than `before`: an isolate may know the old route for a second.
async fn script(edge: SocketAddr, url: &PublicUrl, before: Option<&str>) -> Result<String, Failure> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let page = page(edge, url, "/").await?;
        let text = String::from_utf8_lossy(&page.body).into_owned();
        let script = text.split("<script").skip(1).find_map(|tag| tag.split("src=\"").nth(1)?.split('"').next());
        match script {
            Some(script) if page.status == 200 && Some(script) != before => {
                let answer = self::page(edge, url, script).await?;
                return if answer.status == 200 {
                    Ok(script.to_owned())
                } else {
                    Err("its script is not there".into())
                };
            }
            _ if Instant::now() > until => {
                return Err(format!("the page was answered with {}: {text:.200}", page.status).into());
            }
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Asks as a browser does, without a resolver that knows names below `localhost`.
async fn page(edge: SocketAddr, url: &PublicUrl, path: &str) -> Result<RawAnswer, Failure> {
    let host = url.as_str().split("://").nth(1).ok_or("an address has a host")?;
    let mut stream = TcpStream::connect(edge).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/html,*/*\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(RawAnswer::read(&answer, false).ok_or("half an answer")?)
}

/// What happened, and how long each step took.
struct Story {
    quiet: bool,
    figures: Map<String, Value>,
    since: Instant,
}

impl Story {
    fn step(&mut self, name: &str, text: &str) {
        let took = self.since.elapsed();
        if !self.quiet {
            println!("{:>8.1?}  {}", took, text.trim_end().replace('\n', "\n          "));
        }
        self.tell(name, (took.as_secs_f64() * 1e5).round() / 1e2);
        self.since = Instant::now();
    }

    fn tell(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), json!(value.into()));
    }
}
