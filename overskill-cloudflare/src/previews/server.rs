//! An app's own server side (`src/worker.ts`), built for a preview.

use super::room::State;
use crate::runtime;
use bytes::Bytes;
use overskill_build::preview::AppPreview;
use overskill_core::{
    AppFile, BuildMode, BuildRequest, Builder, Digest, EnvSnapshot, ErrorKind, FilePath, Result, Scope, Snapshot,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Where an app's server side is, as the builder of artifacts has it.
const ENTRIES: [&str; 4] = ["src/worker.ts", "src/worker.tsx", "src/worker.js", "src/worker.mjs"];

/// The page of a build whose pages nobody wants.
const NO_PAGE: &str = "<!doctype html><title>-</title>";

/// What was built of an app's server side, and of what.
#[derive(Clone, Debug)]
pub(super) struct Built {
    /// Of the sources and the variables.
    of: Digest,
    /// As the room is told.
    pub(super) told: Value,
    /// The bytes that it names.
    pub(super) blobs: BTreeMap<Digest, Bytes>,
    /// Why there is none, as viewers are told.
    pub(super) problem: Option<String>,
}

/// Brings `state.server` to the sources that `app` shows: with the behaviour of the runtime of a day, and, if it is built, under
/// this id.
pub(super) async fn build(
    builder: &dyn Builder,
    scope: &Scope,
    app: &AppPreview,
    env: &EnvSnapshot,
    state: &mut State,
    date: &str,
    id: &str,
) -> Result<()> {
    let sources = app.sources();
    if !ENTRIES.iter().any(|entry| sources.files.keys().any(|path| path.as_str() == *entry)) {
        state.server = None;
        return Ok(());
    }
    let of = digest(&sources, env);
    if state.server.as_ref().is_some_and(|built| built.of == of) {
        return Ok(());
    }
    let request = BuildRequest::new(scope.clone(), Arc::new(without_pages(&sources)), BuildMode::Production);
    let artifact = match builder.build(&request).await {
        Ok(artifact) => artifact,
        // The sources are at fault: what ran before goes on, and viewers are told.
        Err(e) if e.kind() == ErrorKind::Invalid => {
            let before = state.server.take();
            let (told, blobs) = before.map_or((Value::Null, BTreeMap::new()), |built| (built.told, built.blobs));
            state.server = Some(Built { of, told, blobs, problem: Some(problem(e.public_message())) });
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let Some(server) = artifact.server() else {
        state.server = None;
        return Ok(());
    };
    let mut blobs = BTreeMap::new();
    let mut blob = |file: &AppFile| {
        blobs.insert(file.digest(), file.contents().clone());
        file.digest()
    };
    let wasm: Vec<_> = server.wasm.iter().map(|(path, file)| json!({ "path": path, "digest": blob(file) })).collect();
    let values: BTreeMap<_, _> = env.values.iter().map(|(key, value)| (key.as_str(), value.expose())).collect();
    let told = json!({
        "id": id, "date": date, "flags": runtime::flags(&artifact), "module": blob(&server.module), "wasm": wasm,
        "env": values,
    });
    state.server = Some(Built { of, told, blobs, problem: None });
    Ok(())
}

fn digest(sources: &Snapshot, env: &EnvSnapshot) -> Digest {
    let files = sources.files.iter().filter(|(path, _)| matters(path));
    let parts = files.flat_map(|(path, file)| [path.as_str().as_bytes().to_vec(), file.digest().as_bytes().to_vec()]);
    let values = env.values.iter().flat_map(|(key, value)| [key.as_str().into(), value.expose().as_bytes().to_vec()]);
    let parts: Vec<Vec<u8>> = parts.chain([Vec::new()]).chain(values).collect();
    Digest::of_parts(parts.iter().map(Vec::as_slice))
}

/// Whether a file may be of the server side: what pages alone are made of is not.
fn matters(path: &FilePath) -> bool {
    !path.as_str().starts_with("public/") && !matches!(path.extension(), Some("html" | "css"))
}

fn without_pages(sources: &Snapshot) -> Snapshot {
    let mut files: BTreeMap<_, _> = sources
        .files
        .iter()
        .filter(|(path, _)| matters(path))
        .map(|(path, file)| (path.clone(), file.clone()))
        .collect();
    files.insert(FilePath::parse("index.html").expect("a legal path"), AppFile::new(NO_PAGE));
    Snapshot::new(sources.position, files)
}

fn problem(message: &str) -> String {
    json!({ "type": "error", "err": { "message": message, "stack": "", "plugin": "overskill" } }).to_string()
}
