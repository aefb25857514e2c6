//! Migrations of Durable Object classes: what a script's classes become, or why not.

use super::super::{
    state::{Class, Scope, Script, State},
    wire::Refusal,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// The classes and the tag after the `migrations` of an upload.
pub(super) fn apply(
    state: &mut State,
    scope: &Scope,
    before: Option<&Script>,
    migrations: &Value,
) -> Result<(BTreeMap<String, Class>, Option<String>), Refusal> {
    let mut classes = before.map(|it| it.classes.clone()).unwrap_or_default();
    let tag = before.and_then(|it| it.migration_tag.clone());
    if migrations.is_null() {
        return Ok((classes, tag));
    }
    let expected = migrations["old_tag"].as_str();
    if expected.is_some_and(|it| Some(it) != tag.as_deref())
        || (expected.is_none() && tag.is_some() && migrations.get("new_tag").is_some())
    {
        let message = format!(
            "migration tag precondition failed; current tag is {:?}, but old_tag is {:?}",
            tag.as_deref().unwrap_or_default(),
            expected.unwrap_or_default()
        );
        return Err(Refusal::new(412, 10_079, message));
    }
    let steps = match migrations["steps"].as_array() {
        Some(steps) => steps.clone(),
        None => vec![migrations.clone()],
    };
    for step in &steps {
        apply_step(state, scope, &mut classes, step)?;
    }
    let new_tag = migrations["new_tag"].as_str().map(str::to_owned);
    Ok((classes, new_tag.or(tag)))
}

fn apply_step(
    state: &mut State,
    scope: &Scope,
    classes: &mut BTreeMap<String, Class>,
    step: &Value,
) -> Result<(), Refusal> {
    for (field, sqlite) in [("new_classes", false), ("new_sqlite_classes", true)] {
        for class in strings(step, field) {
            if classes.contains_key(class) {
                let message =
                    format!("Cannot apply new-class migration to class '{class}' that is already depended on");
                return Err(Refusal::new(400, 10_074, message));
            }
            classes.insert(class.to_owned(), Class { namespace_id: state.hex_id(), sqlite });
        }
    }
    for class in strings(step, "deleted_classes") {
        classes.remove(class).ok_or_else(|| missing("delete", class))?;
    }
    for renamed in step["renamed_classes"].as_array().into_iter().flatten() {
        let (from, to) = (renamed["from"].as_str().unwrap_or_default(), renamed["to"].as_str().unwrap_or_default());
        let moved = classes.remove(from).ok_or_else(|| missing("rename", from))?;
        classes.insert(to.to_owned(), moved);
    }
    for transferred in step["transferred_classes"].as_array().into_iter().flatten() {
        let from = transferred["from"].as_str().unwrap_or_default();
        let owner = transferred["from_script"].as_str().unwrap_or_default();
        let owner = state.scripts_of_mut(scope)?.get_mut(owner).ok_or_else(|| missing("transfer", from))?;
        let moved = owner.classes.remove(from).ok_or_else(|| missing("transfer", from))?;
        classes.insert(transferred["to"].as_str().unwrap_or(from).to_owned(), moved);
    }
    Ok(())
}

fn missing(what: &str, class: &str) -> Refusal {
    Refusal::new(400, 10_061, format!("Cannot {what} class '{class}': the script has no such Durable Object class"))
}

fn strings<'a>(step: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    step[field].as_array().into_iter().flatten().filter_map(Value::as_str)
}
