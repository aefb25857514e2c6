//! Other variables for a version that runs, without a deploy.

use super::{WfpTarget, metadata::Binding, names};
use overskill_core::{EnvKey, EnvValue, Error, Handle, Result, Scope, Secret};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What a change of settings says: every binding that is not named here would be gone.
#[derive(Debug, Serialize)]
pub(crate) struct Settings {
    pub(crate) bindings: Vec<Binding>,
}

/// Beside the deployments: to rotate a key that leaked, on what runs now. The next deploy brings the variables of its own
/// revision.
impl WfpTarget {
    /// Changes secrets of a version together: `None` removes one, and what is not named stays.
    ///
    /// # Errors
    /// `NotFound` when the version is gone; `LimitExceeded` for a value over 5 KiB; `Invalid` for a version of another app.
    pub async fn rotate_secrets(
        &self,
        scope: &Scope,
        version: &Handle,
        secrets: &BTreeMap<EnvKey, Option<Secret>>,
    ) -> Result<()> {
        let refuse = |e: Error| self.settings.at(e, "rotate_secrets").with("scope", scope);
        check_own(scope, version).map_err(refuse)?;
        let patch = secrets_patch(secrets).map_err(refuse)?;
        let (api, namespace) = (&self.settings.api, self.namespace(scope));
        api.patch_secrets(&scope.app, &namespace, &version.reference, &patch).await.map_err(refuse)
    }

    /// Changes variables of a version together, plain or sealed: `None` removes one. Every other binding is inherited as it
    /// is.
    ///
    /// # Errors
    /// `NotFound` when the version is gone; `LimitExceeded` for a value over 5 KiB; `Invalid` for the name of a binding that
    /// is no variable, and for a version of another app.
    pub async fn set_variables(
        &self,
        scope: &Scope,
        version: &Handle,
        variables: &BTreeMap<EnvKey, Option<EnvValue>>,
    ) -> Result<()> {
        let refuse = |e: Error| self.settings.at(e, "set_variables").with("scope", scope);
        check_own(scope, version).map_err(refuse)?;
        let (api, namespace) = (&self.settings.api, self.namespace(scope));
        let known = api.bindings(&scope.app, &namespace, &version.reference).await.map_err(refuse)?;
        if known.is_empty() {
            return Err(refuse(Error::not_found("the version is gone")));
        }
        let settings = Settings { bindings: merged(&known, variables).map_err(refuse)? };
        api.patch_settings(&scope.app, &namespace, &version.reference, &settings).await.map_err(refuse)
    }
}

/// A handle comes from wherever the host keeps it: one of another app must not lead to that app's variables.
fn check_own(scope: &Scope, version: &Handle) -> Result<()> {
    if names::is_of(&scope.app, &version.reference) {
        return Ok(());
    }
    let shown: String = version.reference.chars().take(names::MAX_NAME_BYTES).collect();
    Err(Error::invalid(format!("version must be a script of the app {}, but was {shown:?}", scope.app)))
}

fn secrets_patch(secrets: &BTreeMap<EnvKey, Option<Secret>>) -> Result<Value> {
    let mut patch = Map::new();
    for (key, secret) in secrets {
        let value = match secret {
            None => Value::Null,
            Some(secret) => {
                let binding = Binding::variable(key, &EnvValue::Sealed(secret.clone()))?;
                json!(binding)
            }
        };
        patch.insert(key.to_string(), value);
    }
    Ok(Value::Object(patch))
}

/// The whole list: what is named is new, what is not is inherited.
fn merged(known: &[Value], variables: &BTreeMap<EnvKey, Option<EnvValue>>) -> Result<Vec<Binding>> {
    let named: BTreeSet<&str> = variables.keys().map(EnvKey::as_str).collect();
    let mut bindings = Vec::new();
    for binding in known {
        let Some(name) = binding["name"].as_str() else { continue };
        let is_variable = matches!(binding["type"].as_str(), Some("plain_text" | "secret_text"));
        if !named.contains(name) {
            bindings.push(Binding::Inherit { name: name.to_owned() });
        } else if !is_variable {
            return Err(Error::invalid(format!(
                "variable must not have the name of a binding, but is called {name:?}"
            )));
        }
    }
    for (key, value) in variables {
        if let Some(value) = value {
            bindings.push(Binding::variable(key, value)?);
        }
    }
    Ok(bindings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> EnvKey {
        EnvKey::parse(name).unwrap()
    }

    #[test]
    fn what_is_not_named_is_inherited() {
        let known = [
            json!({"type": "plain_text", "name": "A", "text": "1"}),
            json!({"type": "secret_text", "name": "B"}),
            json!({"type": "assets", "name": "ASSETS"}),
            json!({"type": "plain_text", "name": "GONE", "text": "1"}),
        ];
        let variables =
            [(key("A"), Some(EnvValue::plain("2"))), (key("GONE"), None), (key("NEW"), Some(EnvValue::sealed("s")))];
        let settings = Settings { bindings: merged(&known, &variables.into()).unwrap() };
        let want = json!({"bindings": [
            {"type": "inherit", "name": "B"},
            {"type": "inherit", "name": "ASSETS"},
            {"type": "plain_text", "name": "A", "text": "2"},
            {"type": "secret_text", "name": "NEW", "text": "s"},
        ]});
        assert_eq!(json!(settings), want);
        let clash = merged(&known, &[(key("ASSETS"), None)].into()).unwrap_err();
        assert!(clash.message().contains("ASSETS"));
    }

    #[test]
    fn a_secret_that_is_removed_is_null() {
        let secrets = [(key("A"), Some("new".into())), (key("B"), None)];
        let want = json!({"A": {"type": "secret_text", "name": "A", "text": "new"}, "B": null});
        assert_eq!(secrets_patch(&secrets.into()).unwrap(), want);
    }
}
