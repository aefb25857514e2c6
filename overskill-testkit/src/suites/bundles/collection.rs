use super::{F, MIN_AGE, is_there, keep};
use crate::{
    Verdict,
    fixtures::{artifact, noise, path},
    race,
    suite::{ensure, ensure_eq, ensure_err},
};
use overskill_core::{AppFile, Artifact, Collected};

pub(super) async fn what_nobody_holds_is_collected(f: &F) -> Verdict {
    let scope = f.names().scope();
    let never_held = artifact(3, f.names().seed());
    let released = artifact(4, f.names().seed() ^ 1);
    f.store().put(&never_held, f.names().start()).await?;
    let deployment = keep(f, &scope, &released, 0).await?;
    f.store().release(deployment, f.names().after(1)).await?;
    let collected = f.store().collect(f.names().after(8000), MIN_AGE).await?;
    ensure_eq!(collected.artifacts, 2, "artifacts that were collected");
    ensure!(collected.bytes > 0, "two artifacts were collected, and no byte was freed");
    let again = f.store().collect(f.names().after(8000), MIN_AGE).await?;
    ensure_eq!(again, Collected::default(), "what a second collection removed");
    for artifact in [&never_held, &released] {
        ensure!(!is_there(f, artifact).await?, "an artifact that was counted as collected is still there");
    }
    Ok(())
}

pub(super) async fn what_is_held_is_not_collected(f: &F) -> Verdict {
    let scope = f.names().scope();
    let artifact = artifact(3, f.names().seed());
    keep(f, &scope, &artifact, 0).await?;
    for seconds in [8000, 90_000, 9_000_000] {
        let collected = f.store().collect(f.names().after(seconds), MIN_AGE).await?;
        ensure_eq!(collected, Collected::default(), "what was collected while everything was held");
        let got = f.store().get(&scope, artifact.digest()).await?;
        ensure!(got.is_some_and(|got| *got == artifact), "a held artifact is not there, or not whole");
    }
    Ok(())
}

pub(super) async fn what_is_young_is_not_collected(f: &F) -> Verdict {
    let artifact = artifact(3, f.names().seed());
    f.store().put(&artifact, f.names().after(1000)).await?;
    let collected = f.store().collect(f.names().after(4000), MIN_AGE).await?;
    ensure_eq!(
        collected,
        Collected::default(),
        "what was collected 3,000 s after it was put, with a min_age of 3,600 s"
    );
    let at_min_age = f.store().collect(f.names().after(1000).plus(MIN_AGE), MIN_AGE).await?;
    ensure_eq!(at_min_age, Collected::default(), "what was collected when it was min_age old, to the millisecond");
    ensure!(is_there(f, &artifact).await?, "an artifact that was put no longer than min_age ago is gone");
    Ok(())
}

pub(super) async fn a_put_makes_it_new_again(f: &F) -> Verdict {
    let artifact = artifact(3, f.names().seed());
    f.store().put(&artifact, f.names().start()).await?;
    f.store().put(&artifact, f.names().after(5000)).await?;
    let collected = f.store().collect(f.names().after(7000), MIN_AGE).await?;
    ensure_eq!(collected, Collected::default(), "what was collected 2,000 s after it was put again");
    // A put that arrives late, with an earlier time, makes nothing older.
    f.store().put(&artifact, f.names().after(100)).await?;
    f.store().collect(f.names().after(7000), MIN_AGE).await?;
    ensure!(is_there(f, &artifact).await?, "an artifact that was put again is gone");
    Ok(())
}

pub(super) async fn a_release_makes_it_new_again(f: &F) -> Verdict {
    let scope = f.names().scope();
    let artifact = artifact(3, f.names().seed());
    let deployment = keep(f, &scope, &artifact, 0).await?;
    f.store().release(deployment, f.names().after(10_000)).await?;
    let collected = f.store().collect(f.names().after(12_000), MIN_AGE).await?;
    ensure_eq!(collected, Collected::default(), "what was collected 2,000 s after its release");
    let collected = f.store().collect(f.names().after(20_000), MIN_AGE).await?;
    ensure_eq!(collected.artifacts, 1, "artifacts collected 10,000 s after the release");
    Ok(())
}

/// Three artifacts, each with files of its own and one that they share.
fn sharing(seed: u64) -> Result<[Artifact; 3], crate::Stop> {
    let shared = AppFile::new(noise(4000, seed));
    let one = |n: u64| {
        Artifact::of_assets([
            (path("shared.js"), shared.clone()),
            (path(&format!("renamed-{n}.js")), shared.clone()),
            (path("own.js"), AppFile::new(noise(500, seed.wrapping_add(n)))),
        ])
    };
    Ok([one(1)?, one(2)?, one(3)?])
}

pub(super) async fn shared_contents_survive(f: &F) -> Verdict {
    let scope = f.names().scope();
    let [held, young, old] = sharing(f.names().seed())?;
    keep(f, &scope, &held, 0).await?;
    f.store().put(&old, f.names().start()).await?;
    f.store().put(&young, f.names().after(6000)).await?;
    let collected = f.store().collect(f.names().after(8000), MIN_AGE).await?;
    ensure_eq!(collected.artifacts, 1, "artifacts that were collected");
    let got = f.store().get(&scope, held.digest()).await?;
    ensure!(got.is_some_and(|got| *got == held), "a held artifact lost what it shared with a collected one");
    f.store().hold(&scope, young.digest(), f.names().deployment()).await?;
    let got = f.store().get(&scope, young.digest()).await?;
    ensure!(got.is_some_and(|got| *got == young), "a young artifact lost what it shared with a collected one");
    keep(f, &scope, &old, 8000).await?;
    let got = f.store().get(&scope, old.digest()).await?;
    ensure!(got.is_some_and(|got| *got == old), "a collected artifact that was put again is not whole");
    Ok(())
}

pub(super) async fn what_was_collected_can_be_put_again(f: &F) -> Verdict {
    let scope = f.names().scope();
    let artifact = artifact(3, f.names().seed());
    let deployment = keep(f, &scope, &artifact, 0).await?;
    f.store().release(deployment, f.names().after(1)).await?;
    f.store().collect(f.names().after(8000), MIN_AGE).await?;
    let held = f.store().hold(&scope, artifact.digest(), deployment).await;
    ensure_err!(held, NotFound, "hold of a collected artifact");
    ensure_eq!(f.store().get(&scope, artifact.digest()).await?, None, "a collected artifact");
    keep(f, &scope, &artifact, 8000).await?;
    let got = f.store().get(&scope, artifact.digest()).await?;
    ensure!(got.is_some_and(|got| *got == artifact), "an artifact that was put again is not there, or not whole");
    Ok(())
}

pub(super) async fn puts_and_collections_do_not_race(f: &F) -> Verdict {
    for round in 0..12 {
        let scope = f.names().scope();
        let [again, fresh, old] = sharing(f.names().seed().wrapping_add(1000 * round))?;
        // `again` and `old` are due; `fresh` is new and shares contents with them, and `again` is put anew.
        f.store().put(&again, f.names().start()).await?;
        f.store().put(&old, f.names().start()).await?;
        let calls = [None, Some(again.clone()), Some(fresh.clone())].map(|artifact| {
            let (store, scope, now) = (f.store().clone(), scope.clone(), f.names().after(8000));
            let deployment = f.names().deployment();
            async move {
                let Some(artifact) = artifact else {
                    return store.collect(now, MIN_AGE).await.map(drop);
                };
                let digest = store.put(&artifact, now).await?;
                store.hold(&scope, digest, deployment).await
            }
        });
        for done in race(calls).await? {
            done?;
        }
        f.store().collect(f.names().after(8000), MIN_AGE).await?;
        for (what, artifact) in [("put again", &again), ("put", &fresh)] {
            let got = f.store().get(&scope, artifact.digest()).await?;
            ensure!(got.is_some_and(|got| *got == *artifact), "an artifact that was {what} meanwhile is not whole");
        }
    }
    Ok(())
}
