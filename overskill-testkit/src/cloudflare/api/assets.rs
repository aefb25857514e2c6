//! Static assets: a session says which files are missing, uploads bring them, the last one yields the completion token.

use super::super::{
    multipart,
    state::{Asset, AssetSession, Scope, State},
    wire::{Call, Outcome, Refusal, ok, with_status},
};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use overskill_core::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const MAX_FILES: usize = 100_000;
const MAX_FILE_BYTES: usize = 25 << 20;
const MAX_BUCKET_FILES: usize = 1000;
const MAX_BUCKET_BYTES: usize = 40 << 20;
const LIFETIME: Duration = Duration::from_hours(1);

/// `POST …/assets-upload-session`
pub(super) fn open_session(state: &mut State, call: &Call<'_>, scope: &Scope, name: &str) -> Outcome {
    let body: Value = call.json(10_021)?;
    let manifest =
        body["manifest"].as_object().ok_or_else(|| Refusal::new(400, 10_021, "manifest must be an object"))?;
    if manifest.len() > MAX_FILES {
        let message = format!("a script may have {MAX_FILES} assets, not {}", manifest.len());
        return Err(Refusal::new(400, 10_021, message));
    }
    let mut wanted = BTreeMap::new();
    for (path, file) in manifest {
        let (hash, size) = (file["hash"].as_str().unwrap_or_default(), file["size"].as_u64());
        let size = size.and_then(|it| usize::try_from(it).ok());
        if !path.starts_with('/') {
            return Err(Refusal::new(400, 10_021, format!("asset path {path:?} must begin with /")));
        }
        if hash.len() != 32 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Refusal::new(400, 10_021, format!("hash of asset {path:?} must be 32 hexadecimal digits")));
        }
        let Some(size) = size.filter(|it| *it <= MAX_FILE_BYTES) else {
            let message = format!("asset {path:?} may have {MAX_FILE_BYTES} bytes, not {}", file["size"]);
            return Err(Refusal::new(400, 10_021, message));
        };
        wanted.insert(path.clone(), (hash.to_owned(), size));
    }
    let sizes: BTreeMap<_, _> = wanted.values().map(|(hash, size)| (hash.clone(), *size)).collect();
    let missing: BTreeSet<_> = sizes.keys().filter(|it| !state.assets.contains_key(*it)).cloned().collect();
    let buckets = buckets(&missing, &sizes);
    let session = AssetSession {
        scope: scope.clone(),
        script: name.to_owned(),
        complete: missing.is_empty(),
        manifest: wanted,
        missing,
        expires: call.now.plus(LIFETIME),
    };
    let jwt = issue(state, session);
    ok(json!({ "jwt": jwt, "buckets": buckets }))
}

/// `POST …/workers/assets/upload[/{hash}]`, with the session's token.
pub(super) fn upload(state: &mut State, call: &Call<'_>, path: &[&str]) -> Outcome {
    let jwt = call.header("authorization").trim_start_matches("Bearer ").to_owned();
    let files = match path {
        _ if call.method != "POST" => return Err(Refusal::new(405, 10_001, "Method not allowed")),
        [] if call.query("base64") == Some("true") => multipart::parts(call.header("content-type"), call.body)?
            .into_iter()
            .map(|part| {
                let body = BASE64_STANDARD.decode(&part.body);
                let body =
                    body.map_err(|e| Refusal::new(400, 10_021, format!("asset {} is not base64: {e}", part.name)))?;
                Ok((part.name, part.content_type, Bytes::from(body)))
            })
            .collect::<Result<Vec<_>, Refusal>>()?,
        [hash] => vec![((*hash).to_owned(), call.header("content-type").to_owned(), call.body.clone())],
        _ => return Err(Refusal::new(400, 10_021, "base64=true is required")),
    };
    let mut session =
        state.sessions.remove(&jwt).filter(|it| it.expires > call.now && !it.complete).ok_or_else(expired)?;
    let sizes: BTreeMap<_, _> = session.manifest.values().cloned().collect();
    let refused = files.iter().find_map(|(hash, _, body)| match sizes.get(hash) {
        None => Some(format!("hash {hash} is not in the manifest")),
        Some(size) if *size != body.len() => {
            Some(format!("asset {hash} has {} bytes, but the manifest says {size}", body.len()))
        }
        Some(_) => None,
    });
    if let Some(message) = refused {
        state.sessions.insert(jwt, session);
        return Err(Refusal::new(400, 10_021, message));
    }
    for (hash, content_type, body) in files {
        session.missing.remove(&hash);
        state.assets.insert(hash, Asset { content_type, body });
    }
    if session.missing.is_empty() {
        session.complete = true;
        session.expires = call.now.plus(LIFETIME);
        let jwt = issue(state, session);
        return with_status(201, ok(json!({ "jwt": jwt })));
    }
    state.sessions.insert(jwt, session);
    with_status(202, ok(json!({})))
}

/// The manifest that a completion token stands for.
pub(super) fn complete(
    state: &mut State,
    now: Timestamp,
    scope: &Scope,
    name: &str,
    jwt: &str,
) -> Result<BTreeMap<String, String>, Refusal> {
    let session = state.sessions.get(jwt).filter(|it| it.expires > now).ok_or_else(expired)?;
    if !session.complete {
        let message = format!("assets: {} files of the session were not uploaded", session.missing.len());
        return Err(Refusal::new(400, 10_021, message));
    }
    if session.scope != *scope || session.script != name {
        return Err(Refusal::new(400, 10_021, "assets: the token is of another script's session"));
    }
    Ok(session.manifest.iter().map(|(path, (hash, _))| (path.clone(), hash.clone())).collect())
}

/// Ends all sessions, as time does.
pub(in super::super) fn expire(state: &mut State) {
    state.sessions.clear();
}

/// Groups of files for one upload each.
fn buckets(missing: &BTreeSet<String>, sizes: &BTreeMap<String, usize>) -> Vec<Vec<String>> {
    let mut buckets: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for hash in missing {
        let size = sizes.get(hash).copied().unwrap_or_default();
        match buckets.last_mut() {
            Some(last) if last.len() < MAX_BUCKET_FILES && bytes + size <= MAX_BUCKET_BYTES => {
                last.push(hash.clone());
                bytes += size;
            }
            _ => {
                buckets.push(vec![hash.clone()]);
                bytes = size;
            }
        }
    }
    buckets
}

/// A token that says when it ends, as the provider's does.
fn issue(state: &mut State, session: AssetSession) -> String {
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let mut claims = json!({
        "exp": session.expires.as_unix_millis() / 1000, "iss": "emulator", "script": session.script, "jti": state.hex_id(),
    });
    if state.single_asset_uploads {
        claims["wrangler_single_asset_uploads"] = true.into();
        claims["edge_kv_upload_concurrency"] = 50.into();
    }
    let signature = state.hex_id();
    let jwt = format!("{}.{}.{signature}", part(json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    state.sessions.insert(jwt.clone(), session);
    jwt
}

fn expired() -> Refusal {
    Refusal::new(401, 10_000, "Authentication error: the assets upload token is unknown or has expired")
}
