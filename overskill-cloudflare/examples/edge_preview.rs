//! A folder, previewed through the dispatch Worker on an emulated account: what the browser suites of the embedded preview look
//! at, here at the edge.
//!
//! ```sh
//! cargo run -p overskill-cloudflare --example edge_preview -- --serve DIR --data DIR --mode shared
//! ```
//!
//! It takes the arguments of the quickstart that those suites start, and `--mode`: `cargo xtask test --only browser` runs them.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::Response,
};
use overskill_build::{
    compiler::{Compiler, CompilerOptions},
    packages::NpmPackages,
    preview::PreviewEngine,
};
use overskill_cloudflare::{Cloudflare, CloudflarePreviews, Edge, IngestKey, Install, PreviewMode};
use overskill_core::{
    AccessToken, ApiMethod, ApiRequest, ApiUpstream as _, Changes, EnvRevision, EnvSnapshot, FilePath, Incarnation,
    KeyId, LocalKeys, LocalTokens, PreviewHost as _, Scope, Snapshot, StreamPosition, SystemClock, SystemIds, Update,
};
use overskill_local::{EntityApi, FolderWatcher};
use overskill_testkit::cloudflare::CloudflareEmulator;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let Arguments { folder, data, embedders, mode } = Arguments::parse(std::env::args().skip(1))?;
    let compiler = Compiler::new(CompilerOptions::development());
    let (mut watcher, contents) = FolderWatcher::start(&folder, compiler.clone()).await?;
    let packages = NpmPackages::builder(data.join("packages")).build()?;
    let engine = PreviewEngine::new(compiler, packages).inspectable_from(embedders.clone());
    let keys = LocalKeys::generate(KeyId::parse("apps1")?)?;
    let upstream = apps_data(&data, &keys).await?;

    let emulator = CloudflareEmulator::options().zones(["localhost"]).start().await?;
    let (cf, edge) = platform(&emulator, &keys, &upstream, &embedders).await?;
    let mode = match mode.as_str() {
        "shared" => PreviewMode::Shared,
        "script" => PreviewMode::Script(cf),
        other => return Err(format!("--mode must be shared or script, but was {other:?}").into()),
    };
    let previews = edge.previews(engine).mode(mode);
    let (listener, scope) = (previews.clone(), "todo42/preview".parse::<Scope>()?);
    let listening = tokio::spawn(async move { listener.listen(async |_| ()).await });

    let mut shown = Snapshot::new(StreamPosition::start(Incarnation::from_u64(1)), contents.files);
    let preview = previews.open(&scope, &shown, &env()).await?;
    problems(&previews, &scope).await;
    println!("{} files are live at {}", shown.files.len(), preview.url);
    loop {
        let changes = tokio::select! {
            changes = watcher.next() => changes?,
            ended = tokio::signal::ctrl_c() => {
                ended?;
                break;
            }
        };
        push(&previews, &scope, &mut shown, &changes).await?;
    }
    listening.abort();
    Ok(())
}

struct Arguments {
    folder: PathBuf,
    data: PathBuf,
    embedders: Vec<String>,
    mode: String,
}

impl Arguments {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let (folder, data) = (PathBuf::from("."), PathBuf::from("target/edge-preview"));
        let mut parsed = Self { folder, data, embedders: Vec::new(), mode: "shared".to_owned() };
        while let Some(argument) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--serve" => parsed.folder = value.into(),
                "--data" => parsed.data = value.into(),
                "--embedder" => parsed.embedders.push(value),
                "--mode" => parsed.mode = value,
                other => return Err(format!("unknown argument {other:?}").into()),
            }
        }
        Ok(parsed)
    }
}

/// The account with the platform's own Worker in it, which passes apps' calls on to `upstream`.
async fn platform(
    emulator: &CloudflareEmulator,
    keys: &LocalKeys,
    upstream: &str,
    embedders: &[String],
) -> Outcome<(Cloudflare, Edge)> {
    let port = emulator.edge_address().ok_or("the emulator has no edge")?.port();
    let cf = Cloudflare::connect(emulator.account(), emulator.token())
        .api_base(emulator.api_url())
        .zone(emulator.zone_id("localhost")?)
        .domains(["localhost"])
        .served_at(format!("http://localhost:{port}"))
        .build()?;
    let key = IngestKey::generate(KeyId::parse("k1")?, &SystemIds);
    let token_key = json!({ "kid": "apps1", "pkcs8": keys.to_pkcs8().expose() });
    let mut install = Install::new(key.to_binding(), "a key for sockets")
        .app_token_key(token_key.to_string())
        .setting("upstream", upstream);
    if !embedders.is_empty() {
        install = install.setting("frame_ancestors", format!("'self' {}", embedders.join(" ")));
    }
    cf.install(&install).await?;
    let edge = cf.edge(key)?;
    Ok((cf, edge))
}

async fn push(previews: &CloudflarePreviews, scope: &Scope, shown: &mut Snapshot, changes: &Changes) -> Outcome<()> {
    let (base, next) = (shown.position, shown.position.next());
    changes.apply_to(&mut shown.files);
    shown.position = next;
    let begun = Instant::now();
    match previews.apply(scope, base, next, changes).await {
        Ok(Update::Applied) => println!("{} files pushed in {:.1?}", changes.len(), begun.elapsed()),
        other => {
            println!("opened anew after {other:?}");
            previews.open(scope, shown, &env()).await?;
        }
    }
    problems(previews, scope).await;
    Ok(())
}

/// Says what is wrong with the app: each thing once, and no more than one reads.
async fn problems(previews: &CloudflarePreviews, scope: &Scope) {
    let problems = previews.problems(scope).await.unwrap_or_default();
    let mut said = BTreeSet::new();
    for problem in problems.iter().filter(|problem| said.insert(&problem.message)).take(10) {
        eprintln!("{problem}");
    }
}

fn env() -> EnvSnapshot {
    let revision = EnvRevision(StreamPosition::start(Incarnation::from_u64(2)));
    EnvSnapshot { revision, values: BTreeMap::new() }
}

/// Serves apps' data as a host's own service does, and says where: below it are app, environment and path.
async fn apps_data(data: &Path, keys: &LocalKeys) -> Outcome<String> {
    let validator = LocalTokens::new(keys.clone()).validator();
    let api = EntityApi::open(&data.join("apps.db"), validator, Arc::new(SystemClock), Arc::new(SystemIds)).await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let base = format!("http://{}", listener.local_addr()?);
    let router = Router::new().fallback(call).with_state(api);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(base)
}

async fn call(
    State(api): State<EntityApi>,
    method: Method,
    uri: Uri,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, StatusCode> {
    let mut segments = uri.path().trim_start_matches('/').splitn(3, '/');
    let mut segment = || segments.next().ok_or(StatusCode::NOT_FOUND);
    let scope = format!("{}/{}", segment()?, segment()?).parse().map_err(|_| StatusCode::NOT_FOUND)?;
    let path = FilePath::parse(segment()?).map_err(|_| StatusCode::NOT_FOUND)?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = AccessToken::parse(header("authorization").trim_start_matches("Bearer "));
    let token = token.map_err(|_| StatusCode::UNAUTHORIZED)?;
    let method = match method.as_str() {
        "GET" => ApiMethod::Get,
        "HEAD" => ApiMethod::Head,
        "POST" => ApiMethod::Post,
        "PUT" => ApiMethod::Put,
        "PATCH" => ApiMethod::Patch,
        "DELETE" => ApiMethod::Delete,
        _ => return Err(StatusCode::METHOD_NOT_ALLOWED),
    };
    let mut request = ApiRequest::new(scope, token, method, path).body(header("content-type"), body);
    for (name, value) in query {
        request = request.query(name, value);
    }
    let answer = api.call(&request).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).map_err(|_| StatusCode::BAD_GATEWAY)
}
