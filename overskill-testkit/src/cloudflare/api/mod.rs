//! The API by path: who is asked, who asks, and which part answers.

pub(super) mod assets;
pub(super) mod bindings;
pub(super) mod hostnames;
pub(super) mod kv;
mod migrations;
mod namespaces;
mod scripts;
mod upload;
mod zones;

use super::{
    state::{Scope, State},
    wire::{Call, Outcome, Refusal, ok, paged, segments},
};
use serde_json::json;

/// The answer to a call whose path begins with `/client/v4`.
pub(super) fn answer(state: &mut State, call: &Call<'_>, path: &str) -> Outcome {
    let segments = segments(path.strip_prefix("/client/v4").unwrap_or(path));
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = call.method.as_str();
    // These have a token of their own.
    if let ["accounts", account, "workers", "assets", "upload", rest @ ..] = segments.as_slice() {
        return if *account == state.account { assets::upload(state, call, rest) } else { Err(no_permission()) };
    }
    authenticate(state, call)?;
    match (method, segments.as_slice()) {
        ("GET", ["accounts"]) => paged(call, vec![account_json(state)]),
        ("GET", ["user"]) => ok(json!({ "id": "e0".repeat(16), "email": "emulator@example.com" })),
        ("GET", ["user", "tokens", "verify"]) => verify(state, call),
        ("GET", ["memberships"]) => {
            paged(call, vec![json!({ "id": "e1".repeat(16), "status": "accepted", "account": account_json(state) })])
        }
        (_, ["accounts", account, ..]) if *account != state.account => Err(no_permission()),
        ("GET", ["accounts", _]) => ok(account_json(state)),
        (_, ["accounts", _, rest @ ..]) => {
            of_account(state, call, rest).unwrap_or_else(|| Err(Refusal::no_route(path)))
        }
        (_, ["zones", rest @ ..]) => zones::answer(state, call, rest).unwrap_or_else(|| Err(Refusal::no_route(path))),
        _ => Err(Refusal::no_route(path)),
    }
}

/// Nothing when there is no such path.
fn of_account(state: &mut State, call: &Call<'_>, path: &[&str]) -> Option<Outcome> {
    match path {
        ["workers", "dispatch", "namespaces", namespace, "scripts", script, rest @ ..] => {
            Some(scripts::answer(state, call, &Scope::Dispatch((*namespace).to_owned()), script, rest))
        }
        ["workers", "dispatch", "namespaces", rest @ ..] => namespaces::answer(state, call, rest),
        ["workers", "scripts"] => (call.method == "GET").then(|| scripts::list_of_account(state)),
        ["workers", "scripts", script, rest @ ..] => Some(scripts::answer(state, call, &Scope::Account, script, rest)),
        ["workers", "services", script] if call.method == "GET" => Some(scripts::service(state, script)),
        ["workers", "subdomain"] => zones::subdomain(state, call),
        ["workers", "domains", rest @ ..] => zones::domains(state, call, rest),
        ["storage", "kv", "namespaces", rest @ ..] => kv::answer(state, call, rest),
        ["r2", "buckets", rest @ ..] => super::r2::api(state, call, rest),
        _ => None,
    }
}

fn authenticate(state: &State, call: &Call<'_>) -> Result<(), Refusal> {
    let authorization = call.header("authorization");
    if authorization.is_empty() {
        let message = "Authentication failed (status: 400) [Missing X-Auth-Key, X-Auth-Email or Authorization headers]";
        return Err(Refusal::new(400, 9106, message));
    }
    let Some(token) = authorization.strip_prefix("Bearer ").filter(|it| !it.trim().is_empty()) else {
        return Err(Refusal::new(400, 6003, "Invalid request headers"));
    };
    if state.tokens.iter().any(|it| it.value == token) {
        return Ok(());
    }
    Err(Refusal::new(401, 10_000, "Authentication error"))
}

fn no_permission() -> Refusal {
    Refusal::new(403, 10_000, "Authentication error")
}

fn account_json(state: &State) -> serde_json::Value {
    json!({ "id": state.account, "name": "emulator", "type": "standard" })
}

fn verify(state: &State, call: &Call<'_>) -> Outcome {
    let token = call.header("authorization").trim_start_matches("Bearer ");
    let id = state.tokens.iter().find(|it| it.value == token).map(|it| it.id.as_str());
    ok(json!({ "id": id, "status": "active" }))
}
