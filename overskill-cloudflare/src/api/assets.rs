//! Static assets: a session says which are new, the new ones are uploaded, and a token stands for all of them.

use super::{Api, enveloped, result};
use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use overskill_core::{AppId, Error, ErrorKind, Result, Secret};
use overskill_http::{Call, Credential, Method, Multipart, Target};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, time::Duration};

/// What stands for uploaded assets in a script's metadata; the script has to come within the hour.
pub(crate) type AssetToken = Secret;

/// One static asset of an app.
#[derive(Clone, Debug)]
pub(crate) struct Asset {
    /// Where it is served: `/index.html`.
    pub(crate) path: String,
    /// 32 hex digits that nobody else's asset has.
    pub(crate) hash: String,
    pub(crate) content_type: String,
    pub(crate) contents: Bytes,
}

/// Buckets that are uploaded at the same time.
const AT_ONCE: usize = 3;

#[derive(Debug, Deserialize)]
struct Session {
    #[serde(default)]
    jwt: Option<String>,
    #[serde(default)]
    buckets: Vec<Vec<String>>,
}

/// What a session's token says of itself.
#[derive(Debug, Default, Deserialize)]
struct Claims {
    /// Each asset is uploaded by itself.
    #[serde(default)]
    wrangler_single_asset_uploads: bool,
    #[serde(default)]
    edge_kv_upload_concurrency: Option<usize>,
}

impl Api {
    /// Brings the assets of a script there, those that are new; the token for its metadata.
    pub(crate) async fn upload_assets(
        &self,
        app: &AppId,
        namespace: &str,
        script: &str,
        assets: &[Asset],
    ) -> Result<AssetToken> {
        let manifest: Map<String, Value> = assets
            .iter()
            .map(|asset| (asset.path.clone(), json!({"hash": asset.hash, "size": asset.contents.len()})))
            .collect();
        let below = ["workers", "dispatch", "namespaces", namespace, "scripts", script, "assets-upload-session"];
        let by_hash: BTreeMap<&str, &Asset> = assets.iter().map(|asset| (asset.hash.as_str(), asset)).collect();
        for last in [false, true] {
            // A second session is a session like the first: the last token counts.
            let begin = self.account(Method::Post, &below).operation("begin_assets").for_app(app).idempotent();
            let session: Session = result(begin.json(&json!({ "manifest": manifest }))).await?;
            let token = session.jwt.map(Secret::new).ok_or_else(|| no_token("the session of assets has no token"))?;
            if session.buckets.is_empty() {
                return Ok(token);
            }
            match self.upload_buckets(app, &token, &session.buckets, &by_hash).await {
                // It ended while we were at it, or its last answer was lost: the next one knows what came through.
                Err(e) if e.kind() == ErrorKind::Unauthenticated && !last => {
                    tracing::debug!(error = %e, "the session of assets ended early");
                }
                token => return token,
            }
        }
        unreachable!("the last try returns")
    }

    async fn upload_buckets(
        &self,
        app: &AppId,
        token: &Secret,
        buckets: &[Vec<String>],
        assets: &BTreeMap<&str, &Asset>,
    ) -> Result<AssetToken> {
        // The session's token opens this door, not the account's.
        let client = self.client.with_credential(Credential::bearer(token.clone()), self.client.limiter().cloned())?;
        let find = |hash: &String| {
            let unknown =
                || Error::new(ErrorKind::Unexpected, "the session asks for an asset that is not in the manifest");
            assets.get(hash.as_str()).copied().ok_or_else(unknown)
        };
        let claims = claims(token);
        let mut calls: Vec<Call> = Vec::new();
        for bucket in buckets {
            let upload = |below: &[&str]| {
                let mut path = vec!["accounts", &*self.account, "workers", "assets", "upload"];
                path.extend_from_slice(below);
                let call = client.post(Target::from(&path[..])).operation("upload_assets").for_app(app);
                call.idempotent().try_timeout(Duration::from_mins(5)) // named by what it holds
            };
            if claims.wrangler_single_asset_uploads {
                for hash in bucket {
                    let asset = find(hash)?;
                    calls.push(upload(&[hash]).body(&asset.content_type, asset.contents.clone()));
                }
                continue;
            }
            let mut form = Multipart::new(&*self.ids);
            for hash in bucket {
                let asset = find(hash)?;
                form = form.file(hash, hash, &asset.content_type, BASE64_STANDARD.encode(&asset.contents))?;
            }
            calls.push(upload(&[]).query("base64", true).multipart(form));
        }
        let at_once = claims.edge_kv_upload_concurrency.filter(|_| claims.wrangler_single_asset_uploads);
        let answers = calls.into_iter().map(enveloped::<Session>);
        // Whichever ends last has the token; all have to end well.
        let answers = stream::iter(answers).buffer_unordered(at_once.unwrap_or(AT_ONCE).clamp(1, 50));
        let answers: Vec<super::Envelope<Session>> = answers.try_collect().await?;
        let token = answers.into_iter().filter_map(|answer| answer.result?.jwt).next_back();
        token.map(Secret::new).ok_or_else(|| no_token("all assets were uploaded, but no token came"))
    }
}

/// What a token says; nothing if it is not one of the known form.
fn claims(token: &Secret) -> Claims {
    let payload = token.expose().split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    payload.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

fn no_token(message: &'static str) -> Error {
    Error::new(ErrorKind::Unexpected, message).effect_as(overskill_core::Effect::None)
}
