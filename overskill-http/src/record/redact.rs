//! What may be shown of a body or a query.

use crate::Headers;
use serde_json::Value;

/// What a message's body shows: JSON that was kept whole without what may be secret, names of a form's fields, and of
/// all else the size.
pub(super) fn body(headers: &Headers, kept: &[u8], bytes: usize) -> String {
    if bytes == 0 {
        return String::new();
    }
    let whole = (kept.len() == bytes).then_some(kept);
    if let Some(mut json) = whole.and_then(|body| serde_json::from_slice(body).ok())
        && matches!(json, Value::Array(_) | Value::Object(_))
    {
        redact(&mut json, false);
        return json.to_string();
    }
    let content_type = headers.get("content-type").unwrap_or_default();
    let names = match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => Some(pairs(&String::from_utf8_lossy(kept))),
        "multipart/form-data" => parts(content_type, &String::from_utf8_lossy(kept)),
        _ => None,
    };
    names.unwrap_or_else(|| format!("… ({bytes} bytes)"))
}

/// The names of a query or a form. What has no value is no name, but may be a token; `=` may be base64's padding.
pub(super) fn pairs(query: &str) -> String {
    let shown = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
        Some((name, value)) if value.contains(|c| c != '=') => field(name),
        _ => "…".to_owned(),
    });
    shown.collect::<Vec<_>>().join("&")
}

/// The names of a multipart form's parts; `None` when it has none.
fn parts(content_type: &str, body: &str) -> Option<String> {
    let boundary = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
    });
    let delimiter = format!("--{}\r\n", boundary.filter(|boundary| !boundary.is_empty())?);
    let shown = body.split(&delimiter).skip(1).filter_map(|part| {
        let (head, _) = part.split_once("\r\n\r\n")?;
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
        let (_, name) = line.split_once("; name=\"")?;
        Some(field(name.split('"').next()?))
    });
    let shown: Vec<_> = shown.collect();
    (!shown.is_empty()).then(|| shown.join("&"))
}

/// A field whose value is not shown, and whose name only if it looks like one: the content type may be wrong.
fn field(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._/[]%".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) { format!("{name}=…") } else { "…".to_owned() }
}

/// Replaces what may be secret; `named` is whether a field's name says what a value here is.
fn redact(json: &mut Value, named: bool) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, named)),
        Value::Object(fields) => {
            let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
            let is_secret = ["secret", "encrypted", "sensitive"].iter().any(|start| kind.starts_with(start));
            for (name, value) in fields {
                match shows(&name.to_ascii_lowercase()) {
                    Shows::Nothing => *value = dots(),
                    Shows::Names => keep_names(value),
                    Shows::All if is_secret && !matches!(name.as_str(), "name" | "type") => keep_names(value),
                    Shows::All => redact(value, true),
                }
            }
        }
        Value::String(text) if named && !may_be_secret(text) => {}
        Value::Number(_) | Value::Bool(_) if named => {}
        Value::String(_) | Value::Number(_) | Value::Bool(_) => *json = dots(),
        Value::Null => {}
    }
}

/// Replaces every value, and keeps the names.
fn keep_names(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(keep_names),
        Value::Object(fields) => fields.values_mut().for_each(keep_names),
        other => *other = dots(),
    }
}

/// What a field of that name shows of its value.
enum Shows {
    All,
    /// It holds an app's own variables or data, whose names are harmless.
    Names,
    Nothing,
}

fn shows(name: &str) -> Shows {
    const TELLING: [&str; 18] = [
        "assertion",
        "auth",
        "bearer",
        "connection",
        "cookie",
        "credential",
        "dsn",
        "encrypted",
        "jwt",
        "key",
        "pass",
        "private",
        "pwd",
        "secret",
        "session",
        "signature",
        "token",
        "verifier",
    ];
    const VALUES: [&str; 8] = ["env", "env_vars", "envvars", "params", "text", "value", "values", "vars"];
    if TELLING.iter().any(|telling| name.contains(telling)) {
        Shows::Nothing
    } else if VALUES.contains(&name) {
        Shows::Names
    } else {
        Shows::All
    }
}

/// Whether a text is a secret whatever its name: a URL with a password or a query, a key, or JSON within JSON, of which
/// nobody knows what it holds.
fn may_be_secret(text: &str) -> bool {
    text.contains("://") && text.contains(['@', '?'])
        || text.contains("-----BEGIN")
        || ["Bearer ", "Basic ", "eyJ", "{", "["].iter().any(|start| text.trim_start().starts_with(start))
}

fn dots() -> Value {
    Value::from("…")
}
