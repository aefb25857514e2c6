//! Dispatch namespaces, and what concerns many of their scripts.

use super::super::{
    state::{Namespace, Scope, State, no_namespace},
    wire::{Call, Outcome, Refusal, ok, ok_with},
};
use super::scripts;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) fn answer(state: &mut State, call: &Call<'_>, path: &[&str]) -> Option<Outcome> {
    Some(match (call.method.as_str(), path) {
        ("GET", []) => ok(state.namespaces.values().map(Namespace::to_json).collect::<Vec<_>>()),
        ("POST", []) => create(state, call),
        ("GET", [name]) => state.namespaces.get(*name).ok_or_else(no_namespace).and_then(|it| ok(it.to_json())),
        ("PUT", [name]) => change(state, call, name),
        ("DELETE", [name]) => delete(state, name),
        ("GET", [name, "scripts"]) => list(state, call, name),
        ("DELETE", [name, "scripts"]) => delete_by_tag(state, call, name),
        _ => return None,
    })
}

fn create(state: &mut State, call: &Call<'_>) -> Outcome {
    let name = name_of(&call.json(10_021)?)?;
    if state.namespaces.contains_key(&name) {
        return Err(Refusal::new(409, 100_120, "workers.api.error.dispatch_namespace_already_exists"));
    }
    let (created, modified) = (call.now, call.now);
    let id = state.uuid();
    let made = Namespace { id, name: name.clone(), trusted: false, created, modified, scripts: BTreeMap::new() };
    let told = made.to_json();
    state.namespaces.insert(name, made);
    ok(told)
}

/// Renames, or makes it trusted.
fn change(state: &mut State, call: &Call<'_>, name: &str) -> Outcome {
    let body: Value = call.json(10_021)?;
    if !state.namespaces.contains_key(name) {
        return Err(no_namespace());
    }
    let new = name_of(&body)?;
    if new != name && state.namespaces.contains_key(&new) {
        return Err(Refusal::new(409, 100_120, "workers.api.error.dispatch_namespace_already_exists"));
    }
    let mut namespace = state.namespaces.remove(name).ok_or_else(no_namespace)?;
    namespace.name.clone_from(&new);
    namespace.modified = call.now;
    if let Some(trusted) = body["trusted_workers"].as_bool() {
        namespace.trusted = trusted;
    }
    let told = namespace.to_json();
    state.namespaces.insert(new, namespace);
    ok(told)
}

fn delete(state: &mut State, name: &str) -> Outcome {
    state.namespaces.remove(name).ok_or_else(no_namespace)?;
    state.sessions.retain(|_, session| session.scope != Scope::Dispatch(name.to_owned()));
    ok(Value::Null)
}

fn name_of(body: &Value) -> Result<String, Refusal> {
    let name = body["name"].as_str().unwrap_or_default();
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(legal) {
        return Err(Refusal::new(
            400,
            10_021,
            format!("namespace name must be 1 to 63 of a-z, 0-9, - and _, not {name:?}"),
        ));
    }
    Ok(name.to_owned())
}

fn list(state: &State, call: &Call<'_>, name: &str) -> Outcome {
    let namespace = state.namespaces.get(name).ok_or_else(no_namespace)?;
    let limit = call.number("limit", 100, 1, 1000)?;
    let filter = TagFilter::parse(call.query("tags").unwrap_or_default())?;
    let after = call.query("cursor").unwrap_or_default();
    let mut found = namespace.scripts.values().filter(|it| it.name.as_str() > after && filter.matches(&it.tags));
    let page: Vec<_> = found.by_ref().take(limit).collect();
    let cursor = found.next().and(page.last()).map_or("", |it| it.name.as_str()).to_owned();
    let items: Vec<_> = page.into_iter().map(|it| scripts::listed(it, Some(name))).collect();
    let info = json!({ "count": items.len(), "cursor": cursor });
    ok_with(items, info)
}

fn delete_by_tag(state: &mut State, call: &Call<'_>, name: &str) -> Outcome {
    let namespace = state.namespaces.get_mut(name).ok_or_else(no_namespace)?;
    let filter = TagFilter::parse(call.query("tags").unwrap_or_default())?;
    if filter.0.is_empty() {
        return Err(Refusal::new(400, 10_021, "tags must name at least one tag"));
    }
    namespace.scripts.retain(|_, script| !filter.matches(&script.tags));
    ok(Value::Null)
}

/// `a:yes,b:no`.
struct TagFilter<'a>(Vec<(&'a str, bool)>);

impl<'a> TagFilter<'a> {
    fn parse(text: &'a str) -> Result<Self, Refusal> {
        let terms = text.split(',').filter(|it| !it.is_empty()).map(|term| match term.rsplit_once(':') {
            Some((tag, "yes")) => Ok((tag, true)),
            Some((tag, "no")) => Ok((tag, false)),
            _ => Err(Refusal::new(400, 10_021, format!("tags must be tag:yes or tag:no, but was {term:?}"))),
        });
        Ok(Self(terms.collect::<Result<_, _>>()?))
    }

    fn matches(&self, tags: &[String]) -> bool {
        self.0.iter().all(|(tag, wanted)| tags.iter().any(|it| it == tag) == *wanted)
    }
}
