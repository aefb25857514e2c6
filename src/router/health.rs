//! Whether the platform can be used: for load balancers and the like.

use super::Shared;
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// What was found last, and when. One asks at a time, and the others get what it finds.
pub(super) struct Health {
    kept: Duration,
    found: Mutex<Option<(Duration, BTreeSet<String>)>>,
}

impl Health {
    /// What is found counts for that long.
    pub(super) fn kept(kept: Duration) -> Self {
        Self { kept, found: Mutex::default() }
    }
}

pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let clock = shared.platform.clock();
    let mut found = shared.health.found.lock().await;
    let fresh = found.as_ref().is_some_and(|(at, _)| clock.monotonic().saturating_sub(*at) < shared.health.kept);
    if !fresh {
        let report = shared.platform.report().await;
        if !report.is_ready() {
            tracing::warn!(%report, "not everything is ready");
        }
        let unready = report.seams.into_iter().filter(|seam| !seam.problems.is_empty()).map(|seam| seam.seam);
        *found = Some((clock.monotonic(), unready.collect()));
    }
    let unready = found.as_ref().map(|(_, unready)| unready.clone()).unwrap_or_default();
    drop(found);
    if unready.is_empty() {
        return Json(serde_json::json!({ "status": "ok" })).into_response();
    }
    let body = serde_json::json!({ "status": "not ready", "seams": unready });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}
