//! The names that lead to the edge. Whatever answers them, it is a Worker: no machine has the address that they name.

use crate::{
    api::{Envelope, code, done, enveloped, is_missing},
    cloudflare::Settings,
};
use overskill_core::{Error, Result};
use overskill_http::{Call, Method};
use serde::Deserialize;
use serde_json::json;

/// An address that leads nowhere (RFC 6666), as Cloudflare says to take where a Worker answers.
const NOWHERE: &str = "100::";
/// Records in a page of a listing.
const PAGE: usize = 100;
const KINDS: [&str; 3] = ["A", "AAAA", "CNAME"];

/// A record of a zone.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    proxied: bool,
    #[serde(default)]
    comment: Option<String>,
}

impl Record {
    /// Whether we put it there; what somebody else did stays as it is.
    pub(super) fn is_ours(&self, settings: &Settings) -> bool {
        self.comment.as_deref() == Some(&comment(settings))
    }

    /// Whether requests come to the edge by it.
    pub(super) fn leads_to_the_edge(&self) -> bool {
        self.proxied
    }
}

fn comment(settings: &Settings) -> String {
    format!("{}: apps are served by its Worker", settings.prefix)
}

/// The records of these names that say where to go.
pub(super) async fn records(settings: &Settings, names: &[String]) -> Result<Vec<Record>> {
    let mut found = Vec::new();
    for name in names {
        let call = call(settings, Method::Get, &[])?.operation("list_records").query("name", name);
        let records = enveloped::<Vec<Record>>(call).await?.result.unwrap_or_default();
        found.extend(records.into_iter().filter(|record| KINDS.contains(&&*record.kind)));
    }
    Ok(found)
}

/// Every record of the zone that we put there, also for domains that were dropped since.
pub(super) async fn ours(settings: &Settings) -> Result<Vec<Record>> {
    let mut ours = Vec::new();
    for page in 1.. {
        let call = call(settings, Method::Get, &[])?.operation("list_records");
        let call = call.query("comment.exact", comment(settings)).query("page", page).query("per_page", PAGE);
        let told: Envelope<Vec<Record>> = enveloped(call).await?;
        let found = told.result.unwrap_or_default();
        let full = found.len() >= PAGE;
        // The filter is not told apart by case.
        ours.extend(found.into_iter().filter(|record| record.is_ours(settings)));
        if !told.result_info.and_then(|info| info.total_pages).map_or(full, |pages| page < pages) {
            break;
        }
    }
    Ok(ours)
}

/// Makes a record, or has an existing one of ours lead to the edge.
pub(super) async fn put(settings: &Settings, id: Option<&str>, name: &str) -> Result<()> {
    let body = json!({
        "type": "AAAA", "name": name, "content": NOWHERE, "proxied": true, "ttl": 1, "comment": comment(settings),
    });
    let call = match id {
        Some(id) => call(settings, Method::Patch, &[id])?,
        None => call(settings, Method::Post, &[])?,
    };
    match done(call.operation("put_record").json(&body).idempotent()).await {
        // "An identical record already exists", once "Record already exists": an earlier try of ours.
        Err(e) if id.is_none() && matches!(code(&e), Some(81_057 | 81_058)) => Ok(()),
        answer => answer,
    }
}

pub(super) async fn delete(settings: &Settings, id: &str) -> Result<()> {
    match done(call(settings, Method::Delete, &[id])?.operation("delete_record")).await {
        Err(e) if is_missing(&e) || code(&e) == Some(81_044) => Ok(()),
        answer => answer,
    }
}

fn call(settings: &Settings, method: Method, below: &[&str]) -> Result<Call> {
    let zone = settings.zone.as_deref().ok_or_else(|| Error::invalid("zone must be named for the DNS records"))?;
    let mut path = vec!["dns_records"];
    path.extend_from_slice(below);
    Ok(settings.api.zone(method, zone, &path))
}
