//! A folder, previewed by the Workers on workerd: what the browser suites of the embedded preview look at, here at the edge.
//!
//! ```sh
//! cargo run -p overskill-cloudflare --example edge_preview -- --serve DIR --data DIR
//! ```
//!
//! It takes the arguments of the quickstart that those suites start: `OVERSKILL_QUICKSTART=…/edge_preview`.
#![allow(clippy::unwrap_used, reason = "it is for tests: one that cannot go on panics")]

#[path = "../tests/support/mod.rs"]
mod support;

use overskill_build::{
    compiler::{Compiler, CompilerOptions},
    packages::NpmPackages,
    preview::PreviewEngine,
};
use overskill_cloudflare::CloudflarePreviews;
use overskill_core::{Changes, PreviewHost as _, Snapshot, Update};
use overskill_local::FolderWatcher;
use serde_json::json;
use std::path::PathBuf;
use support::{Options, Workers, at, env, scope};

#[tokio::main]
async fn main() {
    let (mut folder, mut data, mut options) = (PathBuf::new(), PathBuf::from("target/edge-preview"), Options::new());
    let mut embedders = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().unwrap();
        match argument.as_str() {
            "--serve" => folder = value.into(),
            "--data" => data = value.into(),
            "--embedder" => embedders.push(value),
            other => panic!("unknown argument {other}"),
        }
    }
    if !embedders.is_empty() {
        options = options.setting("frame_ancestors", json!(format!("'self' {}", embedders.join(" "))));
    }
    let compiler = Compiler::new(CompilerOptions::development());
    let (mut watcher, contents) = FolderWatcher::start(&folder, compiler.clone()).await.unwrap();
    let packages = NpmPackages::builder(data.join("packages")).build().unwrap();
    let engine = PreviewEngine::new(compiler, packages).inspectable_from(embedders);
    let workers = Workers::with(options).await;
    let previews = workers.edge().previews(engine);
    let listener = previews.clone();
    let listening = tokio::spawn(async move { listener.listen(async |_| ()).await });

    let mut shown = Snapshot::new(at(1), contents.files);
    let preview = previews.open(&scope("todo42/preview"), &shown, &env(1)).await.unwrap();
    println!("{} files are live at {}", shown.files.len(), preview.url);
    loop {
        let changes = tokio::select! {
            changes = watcher.next() => changes.unwrap(),
            ended = tokio::signal::ctrl_c() => {
                ended.unwrap();
                break;
            }
        };
        push(&previews, &mut shown, &changes).await;
    }
    listening.abort();
}

async fn push(previews: &CloudflarePreviews, shown: &mut Snapshot, changes: &Changes) {
    let (base, next) = (shown.position, shown.position.next());
    changes.apply_to(&mut shown.files);
    shown.position = next;
    let begun = std::time::Instant::now();
    match previews.apply(&scope("todo42/preview"), base, next, changes).await {
        Ok(Update::Applied) => println!("{} files pushed in {:.1?}", changes.len(), begun.elapsed()),
        other => {
            println!("opened anew after {other:?}");
            previews.open(&scope("todo42/preview"), shown, &env(1)).await.unwrap();
        }
    }
}
