//! What is in the way of an installation and somebody else's: it is named, and stays as it is.

use super::{
    EVERYTHING, INSTALLED, Install, Names, Sees,
    account::{Found, RouteEntry},
    fallback_of,
};
use crate::{api::ScriptSummary, cloudflare::Settings};
use overskill_core::{Error, Result};

/// Whether an installation of ours put it there. No other Worker has such a tag.
pub(super) fn is_ours(worker: &ScriptSummary) -> bool {
    worker.tags.iter().flatten().any(|tag| tag.starts_with(INSTALLED))
}

/// Refuses to take anything from somebody else.
pub(super) fn refuse(settings: &Settings, install: &Install, names: &Names, found: &Found) -> Result<()> {
    refuse_workers(install, found)?;
    for pattern in &names.routes {
        match found.routes.iter().find(|route| route.pattern == *pattern) {
            Some(route) if !route.leads_to(&names.worker) => return Err(in_the_way(route)),
            _ => {}
        }
    }
    match (&names.fallback, &found.fallback) {
        (Some(ours), Some(origin)) if !origin.starts_with(&fallback_of(settings)) => {
            let message = "the zone's fallback origin must be free for customers' hostnames";
            Err(Error::conflict(format!("{message}, or `{ours}`, but is `{origin}`: remove it")))
        }
        _ => Ok(()),
    }
}

/// Refuses to take the place of a Worker of somebody else's, or to remove it.
pub(super) fn refuse_workers(install: &Install, found: &Found) -> Result<()> {
    let outbound = found.outbound.as_ref().filter(|_| install.outbound == Sees::Ours);
    let Some(worker) = found.worker.iter().chain(outbound).find(|worker| !is_ours(worker)) else { return Ok(()) };
    Err(Error::conflict(format!(
        "Worker `{}` must be this platform's own, but has no tag `{INSTALLED}…`, so somebody else made it: rename or remove \
         it, or take another prefix with `CloudflareBuilder::prefix`",
        worker.id
    )))
}

/// The refusal of a route that leads elsewhere.
pub(super) fn in_the_way(route: &RouteEntry) -> Error {
    let pattern = &route.pattern;
    let whom = if pattern == EVERYTHING { "customers' hostnames" } else { "apps" };
    let to = route.script.as_deref().map_or("no Worker".to_owned(), |script| format!("`{script}`"));
    Error::conflict(format!("route `{pattern}` must be free for {whom}, but leads to {to}: remove it"))
}
