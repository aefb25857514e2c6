//! Signed notices that a deployment may be driven on.

use super::{
    Shared,
    problem::Problem,
    request::{parse, whole},
};
use crate::{DeploymentId, ErrorKind, Timestamp, WebhookRefusal, WebhookSecrets, WebhookSignature};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// Who is believed, and what was taken already.
pub(super) struct Notices {
    secrets: WebhookSecrets,
    /// Time (in seconds) and id of each notice that would still be believed, earliest first.
    taken: Mutex<BTreeSet<(i64, String)>>,
}

/// So many notices within the time in which they would be believed again.
const MAX_TAKEN: usize = 10_000;

impl Notices {
    pub(super) fn new(secrets: WebhookSecrets) -> Self {
        Self { secrets, taken: Mutex::default() }
    }

    /// Remembers a notice, or refuses it for having come before. Sent anew, with a new time, it may come again.
    fn take(&self, seconds: i64, id: &str, now: Timestamp) -> Result<(), Problem> {
        let mut taken = self.taken();
        let oldest = now.minus(WebhookSecrets::TOLERANCE).as_unix_millis().div_euclid(1000);
        *taken = taken.split_off(&(oldest, String::new()));
        if taken.len() >= MAX_TAKEN {
            let detail = "Too many notices; try again later.";
            let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimited, detail);
            return Err(problem.retry_after(Duration::from_mins(1)));
        }
        if taken.insert((seconds, id.to_owned())) {
            return Ok(());
        }
        Err(Problem::new(StatusCode::CONFLICT, ErrorKind::Conflict, "This notice was taken already."))
    }

    fn taken(&self) -> MutexGuard<'_, BTreeSet<(i64, String)>> {
        self.taken.lock().expect("nobody panics with this lock")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Notified {
    deployment: String,
}

/// The answer does not wait for what comes of it.
pub(super) async fn notify(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let notices = shared.notices.as_ref().ok_or_else(Problem::not_found)?;
    let signed = signature(&headers).ok_or_else(not_signed)?;
    let body = whole(body).await?;
    let now = shared.platform.clock().now();
    notices.secrets.verify(&signed, &body, now).map_err(|refusal| {
        metrics::counter!("overskill_router_notices_refused_total").increment(1);
        match refusal {
            // Only who has the secret is told.
            WebhookRefusal::OutsideTolerance => {
                Problem::unauthenticated(SIGNED, "The time of the notice is more than 5 minutes off.")
            }
            _ => not_signed(),
        }
    })?;
    let notified: Notified = parse(&body)?;
    let id: DeploymentId = notified.deployment.parse()?;
    let seconds = signed.timestamp.parse().map_err(|_| not_signed())?;
    notices.take(seconds, &signed.id, now)?;
    if let Err(e) = shared.platform.nudge(id).await {
        // It led to nothing, so it may come again.
        notices.taken().remove(&(seconds, signed.id));
        return Err(e.into());
    }
    Ok(StatusCode::ACCEPTED)
}

const SIGNED: &str = r#"Signature realm="overskill""#;

fn not_signed() -> Problem {
    Problem::unauthenticated(SIGNED, "The notice is not signed as it should be.")
}

/// The three header fields, each of them once.
fn signature(headers: &HeaderMap) -> Option<WebhookSignature> {
    let field = |name| {
        let mut fields = headers.get_all(name).into_iter();
        let field = fields.next()?.to_str().ok()?;
        fields.next().is_none().then(|| field.to_owned())
    };
    let (id, timestamp) = (field("webhook-id")?, field("webhook-timestamp")?);
    Some(WebhookSignature { id, timestamp, signature: field("webhook-signature")? })
}
