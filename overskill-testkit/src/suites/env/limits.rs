use super::{F, key, newest, set, values};
use crate::{
    Verdict,
    suite::{ensure, ensure_eq, ensure_err},
};
use overskill_core::{EnvChanges, EnvValue, MAX_ENV_VARS, Scope};

pub(super) async fn values_are_read_as_they_were_set(f: &F) -> Verdict {
    let scope = f.names().scope();
    let texts = [
        String::new(),
        " spaces around ".into(),
        "two\nlines\r\n\ttab".into(),
        "ünïcode 日本語 🎉 e\u{301}".into(),
        "'quotes' \"and\" `more` $HOME ${A} %PATH% \\n".into(),
        "postgres://user:p%40ss@host/db?x=1&y=2#z".into(),
        "{\"json\":[1,null,\"\\u0000\"]}".into(),
        "null".into(),
        // What a store's own form of a sealed value may look like.
        "kit-1".into(),
        "v1:kit-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into(),
        "enc:kit-1:0011223344556677889900112233445566778899".into(),
        "{\"sealed\":{\"key\":\"kit-1\",\"nonce\":\"\",\"bytes\":\"\"}}".into(),
        "Sealed(…)".into(),
    ];
    let mut changes = EnvChanges::new();
    for (n, text) in texts.iter().enumerate() {
        changes = changes.set(key(&format!("P{n}")), EnvValue::plain(text.as_str()));
        changes = changes.set(key(&format!("S{n}")), EnvValue::sealed(text.as_str()));
    }
    f.store().put(&scope, &changes, None).await?;
    let got = newest(f, &scope).await?;
    for (n, text) in texts.iter().enumerate() {
        for (name, sealed) in [(format!("P{n}"), false), (format!("S{n}"), true)] {
            let value = got.values.get(&key(&name));
            let value = value.map(|v| (v.expose(), v.is_sealed()));
            ensure_eq!(value, Some((text.as_str(), sealed)), "{name} (value, sealed)");
        }
    }
    Ok(())
}

pub(super) async fn names_that_look_alike_are_different(f: &F) -> Verdict {
    let scope = f.names().scope();
    let long = "L".repeat(128);
    let names = ["A", "AB", "A_", "A_B", "AxB", "_", "__", "a", "a0", &long[..127], &long];
    let mut changes = EnvChanges::new();
    for name in names {
        changes = changes.set(key(name), EnvValue::sealed(format!("this is {name}")));
    }
    f.store().put(&scope, &changes, None).await?;
    for (n, name) in names.into_iter().enumerate() {
        let got = newest(f, &scope).await?;
        ensure_eq!(got.values.len(), names.len() - n, "variables left before {name} is unset");
        let value = got.values.get(&key(name)).map(EnvValue::expose);
        ensure_eq!(value, Some(format!("this is {name}").as_str()), "{name}");
        f.store().put(&scope, &EnvChanges::new().unset(key(name)), None).await?;
    }
    Ok(())
}

pub(super) async fn no_changes_are_refused(f: &F) -> Verdict {
    let scope = f.names().scope();
    ensure_err!(f.store().put(&scope, &EnvChanges::new(), None).await, Invalid, "put of nothing in a new scope");
    let head = f.store().put(&scope, &set("A", EnvValue::plain("a")), None).await?;
    ensure_err!(f.store().put(&scope, &EnvChanges::new(), Some(head)).await, Invalid, "put of nothing");
    ensure_eq!(f.store().current(&scope).await?, head, "current revision after puts of nothing");
    Ok(())
}

async fn still(f: &F, scope: &Scope, head: overskill_core::EnvRevision, variables: usize) -> Verdict {
    ensure_eq!(f.store().current(scope).await?, head, "current revision after a refused put");
    ensure_eq!(newest(f, scope).await?.values.len(), variables, "variables after a refused put");
    Ok(())
}

pub(super) async fn the_largest_value_is_taken_and_a_larger_refused(f: &F) -> Verdict {
    let scope = f.names().scope();
    // Two bytes a character, so that characters and bytes cannot be mistaken for each other.
    let largest = "é".repeat(EnvValue::MAX_BYTES / 2);
    let changes = set("PLAIN", EnvValue::plain(&*largest)).set(key("SEALED"), EnvValue::sealed(&*largest));
    let head = f.store().put(&scope, &changes, None).await?;
    let want = [("PLAIN", largest.as_str(), false), ("SEALED", largest.as_str(), true)];
    ensure!(values(&newest(f, &scope).await?) == want, "values of {} bytes are not as they were set", largest.len());
    let larger = format!("{largest}x");
    for value in [EnvValue::plain(&*larger), EnvValue::sealed(&*larger)] {
        let refused = f.store().put(&scope, &set("A", EnvValue::plain("a")).set(key("LARGE"), value), None).await;
        let e = ensure_err!(refused, LimitExceeded, "a value of {} bytes", larger.len());
        ensure!(e.to_string().contains(&EnvValue::MAX_BYTES.to_string()), "the error does not name the limit: {e}");
        still(f, &scope, head, 2).await?;
    }
    Ok(())
}

pub(super) async fn the_most_variables_are_taken_and_more_refused(f: &F) -> Verdict {
    let scope = f.names().scope();
    let mut changes = EnvChanges::new();
    for n in 0..MAX_ENV_VARS {
        changes = changes.set(key(&format!("N{n}")), EnvValue::plain("x"));
    }
    let too_many = changes.clone().set(key("ONE_MORE"), EnvValue::plain("x"));
    let start = f.store().current(&scope).await?;
    ensure_err!(f.store().put(&scope, &too_many, None).await, LimitExceeded, "{} variables at once", MAX_ENV_VARS + 1);
    still(f, &scope, start, 0).await?;
    let head = f.store().put(&scope, &changes, None).await?;
    still(f, &scope, head, MAX_ENV_VARS).await?;
    let refused = f.store().put(&scope, &set("ONE_MORE", EnvValue::plain("x")), None).await;
    let e = ensure_err!(refused, LimitExceeded, "one variable more than {MAX_ENV_VARS}");
    ensure!(e.to_string().contains(&MAX_ENV_VARS.to_string()), "the error does not name the limit: {e}");
    still(f, &scope, head, MAX_ENV_VARS).await?;
    // One may go in the place of another, and all may be set anew.
    let swap = set("ONE_MORE", EnvValue::plain("x")).unset(key("N0"));
    f.store().put(&scope, &swap, None).await?;
    let head = f.store().put(&scope, &set("ONE_MORE", EnvValue::sealed("y")), None).await?;
    still(f, &scope, head, MAX_ENV_VARS).await
}
