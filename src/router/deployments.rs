//! What became of deployments, and answers to what they ask.

use super::{
    problem::Problem,
    request::{Asked, Caller, Which, json},
};
use crate::{
    Actor, BackendName, DeploymentEnd, DeploymentId, DeploymentRecord, DeploymentSource, DeploymentState, Digest,
    Doubt, Drift, Environment, OperatorChoice, Outcome, ParseError, PublicUrl, Route, Timestamp,
};
use axum::{
    Json,
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    environment: String,
    before: Option<String>,
    limit: Option<String>,
}

#[derive(Serialize)]
pub(super) struct List {
    deployments: Vec<Line>,
    /// What to give as `before` for the page after this one.
    next: Option<DeploymentId>,
}

#[derive(Serialize)]
struct Line {
    id: DeploymentId,
    environment: Environment,
    requested_at: Timestamp,
    /// How many events there are.
    events: u64,
    outcome: Option<DeploymentEnd>,
}

const MAX_LIMIT: u32 = 100;

pub(super) async fn list(Caller(app): Caller, Asked(query): Asked<ListQuery>) -> Result<Json<List>, Problem> {
    let environment = environment(&query.environment)?;
    let wrong = |e: ParseError, field| Problem::malformed(e.to_string()).field(field);
    let before = query.before.as_deref().map(str::parse::<DeploymentId>).transpose().map_err(|e| wrong(e, "before"))?;
    let limit = match query.limit.as_deref().map(|limit| (limit, limit.parse::<NonZeroU32>())) {
        None => const { NonZeroU32::new(20).expect("not zero") },
        Some((_, Ok(limit))) if limit.get() <= MAX_LIMIT => limit,
        Some((given, _)) => return Err(wrong(ParseError::new("limit", "must be 1 to 100", given), "limit")),
    };
    let page = app.deployments(environment, before, limit).await?;
    let line = |summary: crate::DeploymentSummary| Line {
        requested_at: summary.id.made_at(),
        id: summary.id,
        environment: summary.scope.environment,
        events: summary.seq,
        outcome: summary.end,
    };
    Ok(Json(List { deployments: page.items.into_iter().map(line).collect(), next: page.next }))
}

fn environment(given: &str) -> Result<Environment, Problem> {
    given.parse().map_err(|e: ParseError| Problem::malformed(e.to_string()).field("environment"))
}

#[derive(Serialize)]
pub(super) struct One {
    id: DeploymentId,
    environment: Environment,
    state: DeploymentState,
    requested_at: Option<Timestamp>,
    requested_by: Option<Actor>,
    source: Option<DeploymentSource>,
    artifact: Option<Digest>,
    events: u64,
    /// How it ended, if it did.
    outcome: Option<DeploymentEnd>,
    /// Where it can be opened, if it is live.
    url: Option<PublicUrl>,
    question: Option<Asks>,
    cost: Cost,
}

#[derive(Serialize)]
struct Asks {
    about: Doubt,
    question: String,
    choices: Vec<OperatorChoice>,
    deadline: Timestamp,
}

#[derive(Serialize)]
struct Cost {
    target_calls: u32,
    provider_requests: u32,
    /// From the request to the end.
    seconds: Option<f64>,
}

impl One {
    fn of(record: &DeploymentRecord) -> Self {
        let cost = record.cost();
        let (mut url, mut question) = (None, None);
        match record.outcome() {
            Some(Outcome::Active { url: at, .. }) => url = at,
            Some(Outcome::AwaitingOperator { question: text, choices, deadline }) => {
                question = record.question().map(|(about, ..)| Asks {
                    about: about.clone(),
                    question: text,
                    choices,
                    deadline,
                });
            }
            _ => {}
        }
        Self {
            id: record.id(),
            environment: record.scope().environment,
            state: record.state(),
            requested_at: record.events().first().map(|e| e.at),
            requested_by: record.actor().cloned(),
            source: record.source().cloned(),
            artifact: record.digest(),
            events: record.seq(),
            outcome: record.end().cloned(),
            url,
            question,
            cost: Cost {
                target_calls: cost.calls,
                provider_requests: cost.requests,
                seconds: cost.took.map(|took| took.as_secs_f64()),
            },
        }
    }
}

pub(super) async fn one(Caller(app): Caller, Which(id): Which) -> Result<Json<One>, Problem> {
    Ok(Json(One::of(&app.deployment(id).await?)))
}

pub(super) async fn timeline(Caller(app): Caller, Which(id): Which) -> Result<impl IntoResponse, Problem> {
    let story = app.deployment(id).await?.timeline();
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], story))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    choice: String,
}

/// It is written down when this answers, and goes on without anybody waiting for it.
pub(super) async fn answer(
    Caller(app): Caller,
    Which(id): Which,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<One>), Problem> {
    let answer: Answer = json(&headers, body).await?;
    let choice: OperatorChoice = answer.choice.parse::<OperatorChoice>()?;
    app.answer(id, choice).await?;
    Ok((StatusCode::ACCEPTED, Json(One::of(&app.deployment(id).await?))))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InEnvironment {
    environment: String,
}

#[derive(Serialize)]
pub(super) struct Live {
    /// `null` when nothing is live.
    route: Option<Route>,
}

pub(super) async fn route(Caller(app): Caller, Asked(query): Asked<InEnvironment>) -> Result<Json<Live>, Problem> {
    Ok(Json(Live { route: app.route(environment(&query.environment)?).await? }))
}

#[derive(Serialize)]
pub(super) struct Found {
    drift: Drift,
    strays: Vec<Stray>,
    /// Targets that could not be asked.
    unknown: Vec<BackendName>,
}

#[derive(Serialize)]
struct Stray {
    target: BackendName,
    deployment: Option<DeploymentId>,
    artifact: Option<Digest>,
}

pub(super) async fn reconcile(Caller(app): Caller, Asked(query): Asked<InEnvironment>) -> Result<Json<Found>, Problem> {
    let found = app.reconcile(environment(&query.environment)?).await?;
    let stray = |(target, observed): (BackendName, crate::Observed)| Stray {
        target,
        deployment: observed.id,
        artifact: observed.digest,
    };
    Ok(Json(Found {
        drift: found.drift,
        strays: found.strays.into_iter().map(stray).collect(),
        unknown: found.unknown,
    }))
}
