//! What an installation finds in the account, and single things in it.

use super::{
    EVERYTHING, Install, Names,
    dns::{self, Record},
    strangers,
};
use crate::{
    api::{Api, ScriptSummary, code, done, enveloped, is_missing, result, trusted},
    cloudflare::Settings,
};
use overskill_core::{Environment, Error, ErrorKind, Result};
use overskill_http::{Call, Method};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// What is there already.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) namespaces: BTreeSet<String>,
    /// Ids of KV namespaces.
    pub(super) kv: BTreeMap<Environment, String>,
    pub(super) has_bucket: bool,
    pub(super) worker: Option<ScriptSummary>,
    /// The Worker that sees what apps fetch.
    pub(super) outbound: Option<ScriptSummary>,
    /// Records of the domains, whoever's.
    pub(super) records: Vec<Record>,
    /// The zone's routes, whoever's.
    pub(super) routes: Vec<RouteEntry>,
    /// Where the zone sends customers' hostnames, whoever said so.
    pub(super) fallback: Option<String>,
}

/// A route of a zone.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RouteEntry {
    pub(super) id: String,
    pub(super) pattern: String,
    #[serde(default)]
    pub(super) script: Option<String>,
}

impl RouteEntry {
    pub(super) fn leads_to(&self, script: &str) -> bool {
        self.script.as_deref() == Some(script)
    }
}

#[derive(Debug, Deserialize)]
struct Fallback {
    origin: Option<String>,
    #[serde(default)]
    status: String,
}

impl Found {
    pub(super) async fn look(settings: &Settings, names: &Names, install: &Install) -> Result<Self> {
        let api = &settings.api;
        let mut found = Self::default();
        for namespace in api.namespaces().await? {
            if Environment::ALL.iter().any(|e| settings.of(*e) == namespace.namespace_name) {
                if namespace.trusted_workers {
                    return Err(trusted(&namespace.namespace_name));
                }
                found.namespaces.insert(namespace.namespace_name);
            }
        }
        for environment in Environment::ALL {
            if let Some(id) = api.kv_namespace(&settings.of(environment)).await? {
                found.kv.insert(environment, id);
            }
        }
        if install.bucket {
            found.has_bucket = match done(buckets(api, Method::Get, &[&names.bucket]).operation("get_bucket")).await {
                Err(e) if is_missing(&e) => false,
                answer => answer.map(|()| true)?,
            };
        }
        let call = api.account(Method::Get, &["workers", "scripts"]).operation("list_workers");
        let workers: Vec<ScriptSummary> = result(call.max_body_bytes(usize::MAX)).await?;
        for worker in workers {
            match &worker.id {
                id if *id == names.worker => found.worker = Some(worker),
                id if *id == names.outbound => found.outbound = Some(worker),
                _ => {}
            }
        }
        if install.dns {
            found.records = dns::records(settings, &names.hosts).await?;
        }
        found.routes = list_routes(settings).await?;
        // It is asked for by whoever serves customers' hostnames, or once did.
        let is_everything = |route: &RouteEntry| route.pattern == EVERYTHING && route.leads_to(&names.worker);
        if install.customer_hostnames || found.routes.iter().any(is_everything) {
            found.fallback = fallback(settings).await?;
        }
        Ok(found)
    }
}

pub(super) async fn create_bucket(api: &Api, name: &str) -> Result<()> {
    let call = buckets(api, Method::Post, &[]).operation("create_bucket").json(&json!({ "name": name })).idempotent();
    match done(call).await {
        // "The bucket you tried to create already exists, and you own it."
        Err(e) if code(&e) == Some(10_004) => Ok(()),
        answer => answer,
    }
}

/// Makes a route to the Worker.
pub(super) async fn create_route(settings: &Settings, pattern: &str, script: &str) -> Result<()> {
    let body = json!({ "pattern": pattern, "script": script });
    let call = routes(settings, Method::Post, &[])?.operation("create_route").json(&body).idempotent();
    match done(call).await {
        // "A route with the same pattern already exists": an earlier try of ours, or somebody else's of a moment ago.
        Err(e) if code(&e) == Some(10_020) => {
            let there = list_routes(settings).await?.into_iter().find(|route| route.pattern == pattern);
            match there {
                Some(route) if route.leads_to(script) => Ok(()),
                Some(route) => Err(strangers::in_the_way(&route).caused_by(e)),
                None => Err(e),
            }
        }
        answer => answer,
    }
}

async fn list_routes(settings: &Settings) -> Result<Vec<RouteEntry>> {
    let call = routes(settings, Method::Get, &[])?.operation("list_routes");
    Ok(enveloped::<Vec<RouteEntry>>(call).await?.result.unwrap_or_default())
}

pub(super) async fn delete_route(settings: &Settings, id: &str) -> Result<()> {
    gone(done(routes(settings, Method::Delete, &[id])?.operation("delete_route")).await)
}

/// Where the zone sends customers' hostnames, unless that is on its way out.
async fn fallback(settings: &Settings) -> Result<Option<String>> {
    let call = fallback_origin(settings, Method::Get)?.operation("get_fallback_origin");
    match enveloped::<Fallback>(call).await {
        Err(e) if is_missing(&e) => Ok(None),
        told => {
            let told = told?.result.filter(|told| !["pending_deletion", "deleted"].contains(&&*told.status));
            Ok(told.and_then(|told| told.origin).filter(|origin| !origin.is_empty()))
        }
    }
}

pub(super) async fn put_fallback(settings: &Settings, origin: &str) -> Result<()> {
    let call = fallback_origin(settings, Method::Put)?.operation("put_fallback_origin");
    done(call.json(&json!({ "origin": origin }))).await
}

pub(super) async fn delete_fallback(settings: &Settings) -> Result<()> {
    gone(done(fallback_origin(settings, Method::Delete)?.operation("delete_fallback_origin")).await)
}

fn fallback_origin(settings: &Settings, method: Method) -> Result<Call> {
    let zone = settings.zone.as_deref().ok_or_else(|| Error::invalid("zone must be named for the fallback origin"))?;
    Ok(settings.api.zone(method, zone, &["custom_hostnames", "fallback_origin"]))
}

pub(super) async fn delete_worker(api: &Api, name: &str) -> Result<()> {
    let call = api.account(Method::Delete, &["workers", "scripts", name]).query("force", true);
    gone(done(call.operation("delete_worker")).await)
}

/// Removes the bucket; one that still holds objects is emptied first.
pub(super) async fn delete_bucket(settings: &Settings, install: &Install, name: &str) -> Result<()> {
    let api = &settings.api;
    match done(buckets(api, Method::Delete, &[name]).operation("delete_bucket")).await {
        // "The bucket you tried to delete (…) is not empty": with code 10008 as wrangler shows it, without any as
        // alchemy-run/distilled#462 saw it; a 409 in both.
        Err(e) if code(&e) == Some(10_008) || e.kind() == ErrorKind::Conflict => {
            install.empty_bucket(settings, e).await?;
        }
        answer => return gone(answer),
    }
    gone(done(buckets(api, Method::Delete, &[name]).operation("delete_bucket")).await)
}

fn gone(answer: Result<()>) -> Result<()> {
    match answer {
        Err(e) if is_missing(&e) => Ok(()),
        answer => answer,
    }
}

fn buckets(api: &Api, method: Method, below: &[&str]) -> Call {
    let mut path = vec!["r2", "buckets"];
    path.extend_from_slice(below);
    api.account(method, &path)
}

fn routes(settings: &Settings, method: Method, below: &[&str]) -> Result<Call> {
    let zone = settings.zone.as_deref().ok_or_else(|| Error::invalid("zone must be named for the routes"))?;
    let mut path = vec!["workers", "routes"];
    path.extend_from_slice(below);
    Ok(settings.api.zone(method, zone, &path))
}
