//! Custom hostnames (Cloudflare for `SaaS`) of a zone. Their codes: developers.cloudflare.com, *Status codes – Custom
//! hostnames*.

use super::super::{
    state::{Hostname, State, Zone},
    wire::{Call, Outcome, Refusal, ok, paged, with_status},
};
use serde_json::{Map, Value, json};

pub(super) fn answer(state: &mut State, call: &Call<'_>, zone: &str, path: &[&str]) -> Option<Outcome> {
    Some(match (call.method.as_str(), path) {
        ("GET", []) => list(&state.zones[zone], call),
        ("POST", []) => create(state, call, zone),
        ("GET", ["fallback_origin"]) => match &state.zones[zone].fallback_origin {
            Some(origin) => ok(fallback(&state.zones[zone], origin)),
            None => Err(Refusal::new(404, 1456, "The fallback origin was not found.")),
        },
        ("PUT", ["fallback_origin"]) => put_fallback(state, call, zone),
        ("DELETE", ["fallback_origin"]) => {
            zone_mut(state, zone).fallback_origin = None;
            state.routing += 1;
            ok(Value::Null)
        }
        ("GET", [id]) => state.zones[zone].hostnames.get(*id).ok_or_else(not_found).and_then(|it| ok(told(it, zone))),
        ("PATCH", [id]) => change(state, call, zone, id),
        ("DELETE", [id]) => {
            let gone = zone_mut(state, zone).hostnames.remove(*id).ok_or_else(not_found);
            state.routing += 1;
            gone.and_then(|_| ok(json!({ "id": id })))
        }
        _ => return None,
    })
}

fn zone_mut<'a>(state: &'a mut State, zone: &str) -> &'a mut Zone {
    state.zones.get_mut(zone).expect("the caller looked for it")
}

fn not_found() -> Refusal {
    Refusal::new(404, 1436, "The custom hostname was not found.")
}

fn list(zone: &Zone, call: &Call<'_>) -> Outcome {
    call.number("per_page", 20, 5, 50)?;
    let wanted = call.query("hostname");
    let found = zone.hostnames.values().filter(|it| wanted.is_none_or(|name| it.host.contains(name)));
    paged(call, found.map(|it| told(it, &zone.id)).collect())
}

fn create(state: &mut State, call: &Call<'_>, zone: &str) -> Outcome {
    let body: Value = call.json(1407)?;
    let name = body["hostname"].as_str().unwrap_or_default().to_ascii_lowercase();
    let label =
        |it: &str| !it.is_empty() && it.len() <= 63 && it.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if name.len() > 255 || !name.contains('.') || !name.split('.').all(label) {
        return Err(Refusal::new(400, 1407, format!("Invalid custom hostname {name:?}.")));
    }
    let top = name.rsplit('.').next().unwrap_or_default();
    if ["test", "example", "invalid", "localhost"].contains(&top) {
        return Err(Refusal::new(400, 1409, "Reserved top domain custom hostnames are not supported."));
    }
    let zone_name = &state.zones[zone].name;
    if name == *zone_name || name.ends_with(&format!(".{zone_name}")) {
        // That it is refused is documented, the code is not.
        return Err(Refusal::new(400, 1407, "A custom hostname must not belong to the zone itself."));
    }
    if ["com", "net", "org"].iter().any(|top| name.ends_with(&format!("example.{top}"))) {
        return Err(Refusal::new(400, 1411, "Custom hostnames ending in example.com, .net or .org are prohibited."));
    }
    if state.zones.values().any(|zone| zone.hostnames.values().any(|it| it.host == name)) {
        return Err(Refusal::new(409, 1406, "Duplicate custom hostname found."));
    }
    let made = Hostname {
        id: state.uuid(),
        host: name,
        status: "pending".to_owned(),
        ssl_status: "initializing".to_owned(),
        ssl: body["ssl"].as_object().cloned().unwrap_or_default(),
        metadata: body.get("custom_metadata").cloned(),
        errors: Vec::new(),
        created: call.now,
    };
    let answer = told(&made, zone);
    zone_mut(state, zone).hostnames.insert(made.id.clone(), made);
    state.routing += 1;
    with_status(201, ok(answer))
}

fn change(state: &mut State, call: &Call<'_>, zone: &str, id: &str) -> Outcome {
    let body: Value = call.json(1407)?;
    let hostname = zone_mut(state, zone).hostnames.get_mut(id).ok_or_else(not_found)?;
    if let Some(ssl) = body["ssl"].as_object() {
        // A change of the method starts the validation again.
        if ssl.get("method") != hostname.ssl.get("method") {
            "initializing".clone_into(&mut hostname.ssl_status);
        }
        hostname.ssl.extend(ssl.clone());
    }
    if let Some(metadata) = body.get("custom_metadata") {
        hostname.metadata = Some(metadata.clone());
    }
    ok(told(hostname, zone))
}

fn put_fallback(state: &mut State, call: &Call<'_>, zone: &str) -> Outcome {
    let body: Value = call.json(1407)?;
    let origin = body["origin"].as_str().unwrap_or_default().to_owned();
    let name = &state.zones[zone].name;
    if origin != *name && !origin.ends_with(&format!(".{name}")) {
        return Err(Refusal::new(400, 1410, "The fallback origin must be a hostname of the zone."));
    }
    zone_mut(state, zone).fallback_origin = Some(origin.clone());
    state.routing += 1;
    ok(fallback(&state.zones[zone], &origin))
}

fn fallback(zone: &Zone, origin: &str) -> Value {
    let wrong = "DNS records are not setup correctly. Origin should be a proxied A/AAAA/CNAME dns record";
    let (status, errors) = if zone.serves_hostnames() { ("active", Vec::new()) } else { ("initializing", vec![wrong]) };
    json!({ "origin": origin, "status": status, "errors": errors })
}

fn told(hostname: &Hostname, zone: &str) -> Value {
    let name = &hostname.host;
    let mut ssl: Map<String, Value> = hostname.ssl.clone();
    ssl.insert("status".into(), hostname.ssl_status.clone().into());
    ssl.entry("type").or_insert_with(|| "dv".into());
    ssl.entry("method").or_insert_with(|| "http".into());
    if hostname.ssl_status != "active" {
        let record = json!({
            "txt_name": format!("_acme-challenge.{name}"), "txt_value": hostname.id.replace('-', ""),
            "status": "pending",
        });
        ssl.insert("validation_records".into(), json!([record]));
    }
    let mut told = json!({
        "id": hostname.id, "hostname": name, "status": hostname.status, "ssl": ssl,
        "created_at": hostname.created.to_string(), "verification_errors": hostname.errors,
    });
    if hostname.status != "active" {
        told["ownership_verification"] =
            json!({ "type": "txt", "name": format!("_cf-custom-hostname.{name}"), "value": hostname.id });
        told["ownership_verification_http"] = json!({
            "http_url": format!("http://{name}/.well-known/cf-custom-hostname-challenge/{}", hostname.id),
            "http_body": format!("{zone}-{}", hostname.id),
        });
    }
    if let Some(metadata) = &hostname.metadata {
        told["custom_metadata"] = metadata.clone();
    }
    told
}
