use super::{F, key, newest, set, values};
use crate::{
    Verdict, poll_times,
    suite::{ensure, ensure_eq},
};
use overskill_core::{EnvChanges, EnvRevision, EnvValue, KeyId, KeyProvider, Scope};

/// The keys that the sealed variables are sealed under, by name.
async fn sealed_under(f: &F, scope: &Scope, at: EnvRevision) -> Result<Vec<(String, Option<KeyId>)>, crate::Stop> {
    let entries = f.store().entries(scope, at).await?;
    Ok(entries.into_iter().map(|entry| (entry.key.to_string(), entry.key_id)).collect())
}

fn under(wanted: &[(&str, Option<&KeyId>)]) -> Vec<(String, Option<KeyId>)> {
    wanted.iter().map(|(name, id)| ((*name).to_owned(), id.cloned())).collect()
}

pub(super) async fn nothing_shows_a_sealed_value(f: &F) -> Verdict {
    let scope = f.names().scope();
    let secret = format!("s3cret{:016x}", f.names().seed());
    let hides = |what: &str, shown: String| {
        let hidden = !shown.contains(&secret) && !shown.contains("s3cret");
        ensure!(hidden, "{what} shows a sealed value: {}", shown.replace(&secret, "<the value>"));
        Ok(())
    };
    let revision = f.store().put(&scope, &set("TOKEN", EnvValue::sealed(&*secret)), None).await?;
    let got = f.store().get(&scope, revision).await?;
    ensure_eq!(got.values.get(&key("TOKEN")).map(EnvValue::expose), Some(secret.as_str()), "the value itself");
    hides("Debug of the store", format!("{:?} {:#?}", f.store(), f.store()))?;
    hides("Debug of the variables", format!("{got:?} {got:#?}"))?;
    hides("an entry", format!("{:?}", f.store().entries(&scope, revision).await?))?;
    let too_large = set("TOKEN", EnvValue::sealed(secret.repeat(2000)));
    let refused = f.store().put(&scope, &too_large, None).await;
    if let Err(e) = refused {
        hides("the error of a put that was refused", format!("{e} {e:?} {}", e.public_message()))?;
    }
    let ahead = Some(EnvRevision(revision.0.next()));
    if let Err(e) = f.store().put(&scope, &set("TOKEN", EnvValue::sealed(&*secret)), ahead).await {
        hides("the error of a put that was in conflict", format!("{e} {e:?} {}", e.public_message()))?;
    }
    f.besides().rotate();
    f.besides().retire(&KeyId::parse("kit-1")?);
    if let Err(e) = f.store().get(&scope, revision).await {
        hides("the error of a value that cannot be opened", format!("{e} {e:?} {}", e.public_message()))?;
    }
    Ok(())
}

pub(super) async fn old_values_open_after_a_rotation(f: &F) -> Verdict {
    let scope = f.names().scope();
    let old = f.besides().current().await?;
    let first =
        f.store().put(&scope, &set("A", EnvValue::sealed("a")).set(key("P"), EnvValue::plain("p")), None).await?;
    let new = f.besides().rotate();
    let second = f.store().put(&scope, &set("B", EnvValue::sealed("b")), None).await?;
    ensure_eq!(values(&f.store().get(&scope, first).await?), [("A", "a", true), ("P", "p", false)], "the old revision");
    let want = [("A", "a", true), ("B", "b", true), ("P", "p", false)];
    ensure_eq!(values(&f.store().get(&scope, second).await?), want, "the new revision");
    let want = under(&[("A", Some(&old)), ("B", Some(&new)), ("P", None)]);
    ensure_eq!(sealed_under(f, &scope, second).await?, want, "which key each variable is sealed under");
    Ok(())
}

pub(super) async fn reseal_moves_every_value_to_the_current_key(f: &F) -> Verdict {
    let scope = f.names().scope();
    let old = f.besides().current().await?;
    let start =
        set("A", EnvValue::sealed("a1")).set(key("B"), EnvValue::sealed("")).set(key("P"), EnvValue::plain("p"));
    let first = f.store().put(&scope, &start, None).await?;
    let second = f.store().put(&scope, &set("A", EnvValue::sealed("a2")), None).await?;
    let third = f.store().put(&scope, &EnvChanges::new().unset(key("B")), None).await?;
    ensure_eq!(f.store().reseal(&scope).await?, 0, "values that reseal moved with nothing to do");
    let entries = f.store().entries(&scope, first).await?;

    let new = f.besides().rotate();
    ensure!(
        f.store().reseal(&scope).await? >= 3,
        "reseal moved fewer than the three values that were under the old key"
    );
    ensure_eq!(f.store().reseal(&scope).await?, 0, "values that a second reseal moved");
    ensure_eq!(f.store().current(&scope).await?, third, "current revision after reseal");
    let since: Vec<_> = f.store().entries(&scope, first).await?.into_iter().map(|e| e.since).collect();
    ensure_eq!(since, entries.iter().map(|e| e.since).collect::<Vec<_>>(), "origins of the values after reseal");
    for (revision, want) in [
        (first, under(&[("A", Some(&new)), ("B", Some(&new)), ("P", None)])),
        (second, under(&[("A", Some(&new)), ("B", Some(&new)), ("P", None)])),
        (third, under(&[("A", Some(&new)), ("P", None)])),
    ] {
        ensure_eq!(sealed_under(f, &scope, revision).await?, want, "which keys revision {revision} is sealed under");
    }
    f.besides().retire(&old);
    for (revision, want) in [
        (first, vec![("A", "a1", true), ("B", "", true), ("P", "p", false)]),
        (second, vec![("A", "a2", true), ("B", "", true), ("P", "p", false)]),
        (third, vec![("A", "a2", true), ("P", "p", false)]),
    ] {
        ensure_eq!(values(&f.store().get(&scope, revision).await?), want, "revision {revision} without the old key");
    }
    Ok(())
}

pub(super) async fn an_interrupted_reseal_harms_nothing(f: &F) -> Verdict {
    for polls in 1..=8 {
        let scope = f.names().scope();
        let start = set("A", EnvValue::sealed("a1")).set(key("B"), EnvValue::sealed("b"));
        let first = f.store().put(&scope, &start, None).await?;
        let second = f.store().put(&scope, &set("A", EnvValue::sealed("a2")), None).await?;
        let new = f.besides().rotate();
        poll_times(polls, f.store().reseal(&scope)).await;
        let whole = async |when: &str| -> Verdict {
            for (revision, a) in [(first, "a1"), (second, "a2")] {
                let want = [("A", a, true), ("B", "b", true)];
                ensure_eq!(values(&f.store().get(&scope, revision).await?), want, "variables at {revision}, {when}");
            }
            Ok(())
        };
        whole(&format!("after a reseal that was dropped at poll {polls}")).await?;
        f.store().reseal(&scope).await?;
        whole("after the next reseal").await?;
        for revision in [first, second] {
            let want = under(&[("A", Some(&new)), ("B", Some(&new))]);
            ensure_eq!(sealed_under(f, &scope, revision).await?, want, "which keys {revision} is sealed under");
        }
    }
    Ok(())
}

pub(super) async fn reseal_stays_in_its_scope(f: &F) -> Verdict {
    let scope = f.names().scope();
    let old = f.besides().current().await?;
    let others = f.names().beside(&scope);
    for scope in others.iter().chain([&scope]) {
        f.store().put(scope, &set("A", EnvValue::sealed("a")), None).await?;
    }
    let new = f.besides().rotate();
    ensure!(f.store().reseal(&scope).await? >= 1, "reseal moved nothing");
    let here = sealed_under(f, &scope, f.store().current(&scope).await?).await?;
    ensure_eq!(here, under(&[("A", Some(&new))]), "the key of the scope that was resealed");
    for other in &others {
        let there = sealed_under(f, other, f.store().current(other).await?).await?;
        ensure_eq!(there, under(&[("A", Some(&old))]), "the key of {other} after {scope} was resealed");
        ensure_eq!(values(&newest(f, other).await?), [("A", "a", true)], "variables of {other}");
    }
    Ok(())
}

pub(super) async fn a_retired_key_fails_closed(f: &F) -> Verdict {
    let scope = f.names().scope();
    let old = f.besides().current().await?;
    let start = set("LOST", EnvValue::sealed("lost")).set(key("P"), EnvValue::plain("p"));
    let revision = f.store().put(&scope, &start, None).await?;
    f.besides().rotate();
    f.besides().retire(&old);
    match f.store().get(&scope, revision).await {
        Err(_) => {}
        Ok(got) if !got.values.contains_key(&key("LOST")) => {
            ensure!(false, "get leaves out the variable that it cannot open");
        }
        Ok(got) => ensure!(false, "get answers a value that nobody can open: {:?}", values(&got)),
    }
    let want = under(&[("LOST", Some(&old)), ("P", None)]);
    ensure_eq!(sealed_under(f, &scope, revision).await?, want, "entries, which open nothing");
    ensure_eq!(f.store().current(&scope).await?, revision, "current revision");
    let resealed = f.store().reseal(&scope).await;
    ensure!(resealed.is_err(), "reseal says it moved {resealed:?} values, one of which nobody can open");
    ensure_eq!(sealed_under(f, &scope, revision).await?, want, "entries after a reseal that failed");
    Ok(())
}

pub(super) async fn a_lost_value_can_be_replaced(f: &F) -> Verdict {
    let scope = f.names().scope();
    let old = f.besides().current().await?;
    f.store().put(&scope, &set("A", EnvValue::sealed("lost")).set(key("B"), EnvValue::sealed("lost")), None).await?;
    let new = f.besides().rotate();
    f.besides().retire(&old);
    let changes = set("A", EnvValue::sealed("found")).unset(key("B"));
    let revision = f.store().put(&scope, &changes, None).await?;
    ensure_eq!(values(&f.store().get(&scope, revision).await?), [("A", "found", true)], "variables set anew");
    ensure_eq!(sealed_under(f, &scope, revision).await?, under(&[("A", Some(&new))]), "the key of the new value");
    Ok(())
}
