//! What an app says of itself, for the choice of a target.

use crate::Result;
use overskill_core::{Error, FilePath, Snapshot};
use serde_json::Value;
use std::collections::BTreeMap;

/// What `"overskill"` in package.json may say, each with `true` or `false`; [`AppFacts`](overskill_core::AppFacts) reads it.
const KNOWN: [&str; 3] = ["crons", "node", "sockets"];
/// What an app may not: only the host knows whether its objects may fetch whatever they like, which no outbound Worker sees.
const OF_THE_HOST: &str = "durable_objects";

/// The settings of the artifact: what package.json says is so.
///
/// A package.json that cannot be read is not refused here: whoever needs it does.
pub(super) fn settings(sources: &Snapshot) -> Result<BTreeMap<String, String>> {
    let manifest = sources.files.get(&FilePath::parse("package.json")?);
    let manifest = manifest.and_then(|file| serde_json::from_slice::<Value>(file.contents()).ok());
    let Some(said) = manifest.as_ref().and_then(|manifest| manifest.get("overskill")) else {
        return Ok(BTreeMap::new());
    };
    let refused = |what: String| {
        let why = format!("package.json's `overskill` {what}: it takes {}, each true or false", KNOWN.join(", "));
        Error::invalid(why.clone()).public(why)
    };
    let said = said.as_object().ok_or_else(|| refused("must be an object".into()))?;
    let mut settings = BTreeMap::new();
    for (key, value) in said {
        if key == OF_THE_HOST {
            return Err(refused(format!("has `{key}`, which only the platform can give an app, so remove it")));
        }
        if !KNOWN.contains(&key.as_str()) {
            let key: String = key.chars().take(40).collect();
            return Err(refused(format!("has `{}`, which nobody knows", key.escape_debug())));
        }
        match value {
            Value::Bool(true) => drop(settings.insert(key.clone(), "true".to_owned())),
            Value::Bool(false) => {}
            _ => return Err(refused(format!("has `{key}`, which is neither true nor false"))),
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preview::testing::snapshot;

    fn said(manifest: &str) -> Result<Vec<String>> {
        settings(&snapshot(1, &[("package.json", manifest)])).map(|settings| settings.into_keys().collect())
    }

    #[test]
    fn what_is_true_is_a_setting() {
        let manifest = r#"{"name": "chat", "overskill": {"sockets": true, "node": true, "crons": false}}"#;
        assert_eq!(said(manifest).unwrap(), ["node", "sockets"]);
        for nothing in [r#"{"name": "chat"}"#, "{", r#"{"overskill": {}}"#] {
            assert_eq!(said(nothing).unwrap(), [""; 0], "{nothing}");
        }
        assert!(settings(&snapshot(1, &[("index.html", "hi")])).unwrap().is_empty());
    }

    #[test]
    fn an_app_does_not_give_itself_durable_objects() {
        let e = said(r#"{"overskill": {"durable_objects": "ROOMS=Room"}}"#).unwrap_err();
        assert!(e.public_message().contains("`durable_objects`, which only the platform can give an app"), "{e}");
    }

    #[test]
    fn what_nobody_knows_is_refused_by_name() {
        for (manifest, word) in [
            (r#"{"overskill": {"socket": true}}"#, "`socket`"),
            (r#"{"overskill": {"crons": "daily"}}"#, "`crons`"),
            (r#"{"overskill": true}"#, "object"),
        ] {
            let e = said(manifest).unwrap_err().to_string();
            assert!(e.contains(word) && e.contains("crons, node, sockets"), "{manifest}: {e}");
        }
    }
}
