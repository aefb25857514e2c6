//! Cloudflare's API v4: paths, envelopes, and what its error codes mean.

mod assets;
mod classify;
mod kv;
mod scripts;

pub(crate) use assets::{Asset, AssetToken};
pub(crate) use classify::{CloudflareErrors, code};
pub(crate) use kv::{KvPair, MAX_VALUE_BYTES};
pub(crate) use scripts::{Module, ScriptSummary, Upload, trusted};

use overskill_core::{Clock, Error, Ids, Result};
use overskill_http::{Call, Client, Method, Target};
use serde::{Deserialize, de::DeserializeOwned};
use std::sync::Arc;

/// The account's API. Clones share client and limiter.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) account: Arc<str>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
}

/// What every answer is wrapped in.
#[derive(Debug, Deserialize)]
pub(crate) struct Envelope<T> {
    // The attribute keeps serde from asking that `T` has a default.
    #[serde(default = "nothing")]
    pub(crate) result: Option<T>,
    #[serde(default)]
    pub(crate) result_info: Option<ResultInfo>,
}

fn nothing<T>() -> Option<T> {
    None
}

/// Where a listing goes on.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ResultInfo {
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    #[serde(default)]
    pub(crate) total_pages: Option<u32>,
}

impl ResultInfo {
    /// The cursor of the next page, if there is one.
    pub(crate) fn next(self) -> Option<String> {
        self.cursor.filter(|cursor| !cursor.is_empty())
    }
}

impl Api {
    /// Begins a call below `accounts/{account}`; each segment is encoded.
    pub(crate) fn account(&self, method: Method, below: &[&str]) -> Call {
        let mut path = vec!["accounts", &*self.account];
        path.extend_from_slice(below);
        self.client.call(method, Target::from(&path[..]))
    }

    /// Begins a call below `zones/{zone}`.
    pub(crate) fn zone(&self, method: Method, zone: &str, below: &[&str]) -> Call {
        let mut path = vec!["zones", zone];
        path.extend_from_slice(below);
        self.client.call(method, Target::from(&path[..]))
    }
}

/// Makes the call; its result, which has to be there.
pub(crate) async fn result<T: DeserializeOwned>(call: Call) -> Result<T> {
    let envelope: Envelope<T> = enveloped(call).await?;
    envelope.result.ok_or_else(|| {
        let message = "the answer has no result";
        Error::new(overskill_core::ErrorKind::Unexpected, message)
    })
}

/// Makes the call; its result with what is said besides.
pub(crate) async fn enveloped<T: DeserializeOwned>(call: Call) -> Result<Envelope<T>> {
    call.send().await?.json()
}

/// Makes a call whose answer says nothing but that it was done; some have no body.
pub(crate) async fn done(call: Call) -> Result<()> {
    call.send().await.map(drop)
}

/// Whether the call failed because its subject is not there, whichever code says so.
pub(crate) fn is_missing(e: &Error) -> bool {
    e.kind() == overskill_core::ErrorKind::NotFound
}
