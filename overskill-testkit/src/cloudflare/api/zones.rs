//! Zones: routes of Workers, DNS records, and the account's names for its Workers.

use super::super::{
    state::{Domain, Route, Scope, State, Zone},
    wire::{Call, Outcome, Refusal, ok, paged},
};
use super::{hostnames, scripts};
use serde_json::{Value, json};

pub(super) fn answer(state: &mut State, call: &Call<'_>, path: &[&str]) -> Option<Outcome> {
    let [zone, rest @ ..] = path else {
        let wanted = call.query("name");
        let found = state.zones.values().filter(|it| wanted.is_none_or(|name| it.name == name));
        return (call.method == "GET").then(|| paged(call, found.map(|it| told(state, it)).collect()));
    };
    if !state.zones.contains_key(*zone) {
        return Some(Err(Refusal::no_route(&format!("/zones/{zone}"))));
    }
    match rest {
        [] => (call.method == "GET").then(|| ok(told(state, &state.zones[*zone]))),
        ["workers", "routes", rest @ ..] => routes(state, call, zone, rest),
        ["custom_hostnames", rest @ ..] => hostnames::answer(state, call, zone, rest),
        ["dns_records", rest @ ..] => records(state, call, zone, rest),
        _ => None,
    }
}

fn told(state: &State, zone: &Zone) -> Value {
    json!({ "id": zone.id, "name": zone.name, "status": "active", "type": "full", "account": { "id": state.account } })
}

fn routes(state: &mut State, call: &Call<'_>, zone: &str, path: &[&str]) -> Option<Outcome> {
    Some(match (call.method.as_str(), path) {
        ("GET", []) => ok(state.zones[zone].routes.iter().map(route_json).collect::<Vec<_>>()),
        ("POST", []) => put_route(state, call, zone, None),
        ("PUT", [id]) => put_route(state, call, zone, Some(id)),
        ("GET", [id]) => {
            let found = state.zones[zone].routes.iter().find(|it| it.id == **id);
            found.ok_or_else(no_route).and_then(|it| ok(route_json(it)))
        }
        ("DELETE", [id]) => {
            let zone = state.zones.get_mut(zone).expect("the caller looked for it");
            let before = zone.routes.len();
            zone.routes.retain(|it| it.id != **id);
            let gone = zone.routes.len() < before;
            state.routing += 1;
            if gone { ok(json!({ "id": id })) } else { Err(no_route()) }
        }
        _ => return None,
    })
}

fn no_route() -> Refusal {
    Refusal::new(404, 10_009, "workers.api.error.route_not_found")
}

fn route_json(route: &Route) -> Value {
    json!({ "id": route.id, "pattern": route.pattern, "script": route.script })
}

fn put_route(state: &mut State, call: &Call<'_>, zone: &str, id: Option<&str>) -> Outcome {
    let body: Value = call.json(10_021)?;
    let pattern = body["pattern"].as_str().unwrap_or_default().to_owned();
    let script = body["script"].as_str().filter(|it| !it.is_empty()).map(str::to_owned);
    let zone_name = state.zones[zone].name.clone();
    let host = pattern.split('/').next().unwrap_or_default();
    let in_zone =
        host == zone_name || host == "*" || host.ends_with(&format!(".{zone_name}")) || host == format!("*{zone_name}");
    if !in_zone || host.trim_start_matches('*').contains('*') {
        let message = format!("route pattern {pattern:?} must be of the zone {zone_name}, with * only at its ends");
        return Err(Refusal::new(400, 10_022, message));
    }
    if let Some(script) = &script {
        scripts::find(state, &Scope::Account, script)?;
    }
    let new_id = state.hex_id();
    let zone = state.zones.get_mut(zone).expect("the caller looked for it");
    if zone.routes.iter().any(|it| it.pattern == pattern && Some(it.id.as_str()) != id) {
        return Err(Refusal::new(409, 10_020, "A route with the same pattern already exists."));
    }
    let route = if let Some(id) = id {
        let route = zone.routes.iter_mut().find(|it| it.id == id).ok_or_else(no_route)?;
        (route.pattern, route.script) = (pattern, script);
        route.clone()
    } else {
        let route = Route { id: new_id, pattern, script };
        zone.routes.push(route.clone());
        route
    };
    state.routing += 1;
    ok(route_json(&route))
}

fn records(state: &mut State, call: &Call<'_>, zone: &str, path: &[&str]) -> Option<Outcome> {
    let not_found = || Refusal::new(404, 81_044, "Record does not exist.");
    let id = state.hex_id();
    // Whether custom hostnames are served depends on one of them.
    state.routing += u64::from(call.method != "GET");
    let records = &mut state.zones.get_mut(zone).expect("the caller looked for it").records;
    Some(match (call.method.as_str(), path) {
        ("GET", []) => {
            let commented = call.query("comment.exact").map(str::to_lowercase);
            let matches = |it: &&Value| {
                let comment = |wanted: &String| it["comment"].as_str().is_some_and(|it| it.to_lowercase() == *wanted);
                let plain = |key: &&str| call.query(key).is_none_or(|wanted| it[*key] == wanted);
                ["name", "type", "content"].iter().all(plain) && commented.as_ref().is_none_or(comment)
            };
            paged(call, records.values().filter(matches).cloned().collect())
        }
        ("POST", []) => call.json::<Value>(9207).and_then(|mut record| {
            for field in ["type", "name", "content"] {
                if !record[field].is_string() {
                    return Err(Refusal::new(400, 9005, format!("DNS record: {field} must be a string")));
                }
            }
            let same = |it: &&Value| ["type", "name", "content"].iter().all(|field| it[*field] == record[*field]);
            if records.values().any(|it| same(&it)) {
                return Err(Refusal::new(400, 81_058, "An identical record already exists."));
            }
            record["id"] = id.clone().into();
            records.insert(id, record.clone());
            ok(record)
        }),
        ("GET", [id]) => records.get(*id).cloned().ok_or_else(not_found).and_then(ok),
        ("PATCH" | "PUT", [id]) => call.json::<Value>(9207).and_then(|change| {
            let record = records.get_mut(*id).ok_or_else(not_found)?;
            for (key, value) in change.as_object().into_iter().flatten().filter(|(key, _)| *key != "id") {
                record[key] = value.clone();
            }
            ok(record.clone())
        }),
        ("DELETE", [id]) => records.remove(*id).ok_or_else(not_found).and_then(|_| ok(json!({ "id": id }))),
        _ => return None,
    })
}

/// `…/workers/subdomain`: the account's part of `workers.dev`.
pub(super) fn subdomain(state: &mut State, call: &Call<'_>) -> Option<Outcome> {
    Some(match call.method.as_str() {
        "GET" => match &state.subdomain {
            Some(name) => ok(json!({ "subdomain": name })),
            None => Err(Refusal::new(404, 10_007, "workers.api.error.subdomain_not_found")),
        },
        "PUT" => call.json::<Value>(10_021).and_then(|body| {
            let name = body["subdomain"].as_str().unwrap_or_default().to_owned();
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
                return Err(Refusal::new(400, 10_031, "subdomain must be of a-z, 0-9 and -"));
            }
            state.subdomain = Some(name.clone());
            state.routing += 1;
            ok(json!({ "subdomain": name }))
        }),
        _ => return None,
    })
}

/// `…/workers/domains`: hosts that lead to one Worker, whatever the path.
pub(super) fn domains(state: &mut State, call: &Call<'_>, path: &[&str]) -> Option<Outcome> {
    let not_found = || Refusal::new(404, 100_114, "workers.api.error.domain_not_found");
    Some(match (call.method.as_str(), path) {
        ("GET", []) => ok(state.domains.iter().map(|(host, it)| domain_json(state, host, it)).collect::<Vec<_>>()),
        ("PUT", []) => call.json(10_021).and_then(|body| put_domain(state, &body)),
        ("GET", [id]) => {
            let found = state.domains.iter().find(|(_, it)| it.id == **id);
            found.ok_or_else(not_found).and_then(|(host, it)| ok(domain_json(state, host, it)))
        }
        ("DELETE", [id]) => {
            let host = state.domains.iter().find(|(_, it)| it.id == **id).map(|(host, _)| host.clone());
            state.routing += 1;
            host.and_then(|it| state.domains.remove(&it)).ok_or_else(not_found).and_then(|_| ok(Value::Null))
        }
        _ => return None,
    })
}

fn domain_json(state: &State, host: &str, domain: &Domain) -> Value {
    let zone = state.zones.get(&domain.zone).map(|it| it.name.as_str());
    json!({
        "id": domain.id, "hostname": host, "service": domain.service, "zone_id": domain.zone, "zone_name": zone,
        "environment": "production",
    })
}

fn put_domain(state: &mut State, body: &Value) -> Outcome {
    let host = body["hostname"].as_str().unwrap_or_default().to_owned();
    let service = body["service"].as_str().unwrap_or_default().to_owned();
    scripts::find(state, &Scope::Account, &service)?;
    let of = |zone: &&Zone| host == zone.name || host.ends_with(&format!(".{}", zone.name));
    let zone = state.zones.values().find(of).map(|it| it.id.clone());
    let zone =
        zone.ok_or_else(|| Refusal::new(400, 10_021, format!("hostname {host:?} is of no zone of the account")))?;
    let id = state.domains.get(&host).map_or_else(|| state.hex_id(), |it| it.id.clone());
    let domain = Domain { id, service, zone };
    let answer = domain_json(state, &host, &domain);
    state.domains.insert(host, domain);
    state.routing += 1;
    ok(answer)
}
