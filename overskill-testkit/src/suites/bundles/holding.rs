use super::{F, MIN_AGE, is_there, keep};
use crate::{
    PassThrough, Verdict,
    fixtures::{artifact, artifact_with_server, noise, path},
    poll_times,
    suite::{ensure, ensure_eq, ensure_err},
};
use overskill_core::{AppFile, Around, Artifact, ArtifactConfig, BundleStore, Digest, Environment, ServerModule};
use std::sync::Arc;

pub(super) async fn put_answers_the_digest(f: &F) -> Verdict {
    let artifact = artifact_with_server(5, f.names().seed());
    for time in ["the first", "the second", "the third"] {
        let digest = f.store().put(&artifact, f.names().start()).await?;
        ensure_eq!(digest, artifact.digest(), "what {time} put answered");
    }
    keep(f, &f.names().scope(), &artifact, 0).await?;
    let digest = f.store().put(&artifact, f.names().start()).await?;
    ensure_eq!(digest, artifact.digest(), "what a put of a held artifact answered");
    Ok(())
}

fn of_every_kind(seed: u64) -> Result<Vec<(&'static str, Artifact)>, crate::Stop> {
    let strange = [
        (path("empty"), AppFile::new("")),
        (path("日本/ünï.css"), AppFile::new("a{}")),
        (path("same-1.js"), AppFile::new("same")),
        (path("same-2.js"), AppFile::new("same")),
        (path("every-byte.bin"), AppFile::new((0..=255).collect::<Vec<u8>>())),
        (path(&"x".repeat(475)), AppFile::new("long name")),
        (path("mebibyte.wasm"), AppFile::new(noise(1 << 20, seed))),
    ];
    let module: AppFile = "export default { fetch: () => new Response() }".into();
    // The module, a Wasm module and an asset of equal contents under equal paths, each to be told from the others.
    let wasm = [(path("twin"), module.clone()), (path("b.wasm"), AppFile::new(b"\0asm".as_slice()))].into();
    let server = ServerModule { module: module.clone(), wasm };
    let only_server = ServerModule { module: module.clone(), wasm: [].into() };
    let mut settings = ArtifactConfig::default();
    for (name, value) in [("compatibility_date", "2026-11-01"), ("ünï", ""), ("", "no name"), ("json", "{\"a\":[1]}")]
    {
        settings.settings.insert(name.into(), value.into());
    }
    Ok(vec![
        ("a single-page app", artifact(3, seed)),
        ("one with a server", artifact_with_server(4, seed)),
        ("one of 300 files", artifact(300, seed ^ 1)),
        ("one of strange files", Artifact::of_assets(strange)?),
        ("one without assets", Artifact::new([].into(), Some(only_server), ArtifactConfig::default())?),
        ("one with twins and settings", Artifact::new([(path("twin"), module)].into(), Some(server), settings)?),
    ])
}

pub(super) async fn an_artifact_is_read_as_it_was_put(f: &F) -> Verdict {
    let scope = f.names().scope_in(Environment::Production);
    let artifacts = of_every_kind(f.names().seed())?;
    for (_, artifact) in &artifacts {
        keep(f, &scope, artifact, 0).await?;
    }
    for (what, artifact) in &artifacts {
        let got = f.store().get(&scope, artifact.digest()).await?;
        let Some(got) = got else {
            return Err(crate::Broken::new(format!("{what} was put and held, and is not there")).into());
        };
        ensure_eq!(got.config(), artifact.config(), "configuration of {what}");
        ensure_eq!(got.server(), artifact.server(), "server of {what}");
        ensure!(*got == *artifact, "{what} has other assets: {:?}", got.manifest());
    }
    Ok(())
}

pub(super) async fn get_answers_only_holders(f: &F) -> Verdict {
    let scope = f.names().scope_in(Environment::Staging);
    let artifact = artifact(3, f.names().seed());
    f.store().put(&artifact, f.names().start()).await?;
    ensure_eq!(f.store().get(&scope, artifact.digest()).await?, None, "an artifact that is put and not held");
    keep(f, &scope, &artifact, 0).await?;
    ensure!(f.store().get(&scope, artifact.digest()).await?.is_some(), "the holder's own scope sees nothing");
    for other in f.names().beside(&scope) {
        let got = f.store().get(&other, artifact.digest()).await?;
        ensure!(got.is_none(), "{other} reads what {scope} alone holds");
    }
    let never = Digest::of(b"never put");
    ensure_eq!(f.store().get(&scope, never).await?, None, "an artifact that was never put");
    Ok(())
}

pub(super) async fn what_was_never_put_cannot_be_held(f: &F) -> Verdict {
    let scope = f.names().scope();
    let artifact = artifact(2, f.names().seed());
    let held = f.store().hold(&scope, artifact.digest(), f.names().deployment()).await;
    ensure_err!(held, NotFound, "hold of an artifact that was never put");
    // The refused hold holds nothing: what is put later is nobody's.
    f.store().put(&artifact, f.names().start()).await?;
    ensure_eq!(f.store().get(&scope, artifact.digest()).await?, None, "an artifact whose only hold was refused");
    // Nor is a digest of something else that is stored, such as one file, an artifact.
    let file = artifact.assets().values().next().map_or(Digest::of(b""), AppFile::digest);
    let held = f.store().hold(&scope, file, f.names().deployment()).await;
    ensure_err!(held, NotFound, "hold of a file's digest");
    Ok(())
}

pub(super) async fn a_hold_is_one_hold(f: &F) -> Verdict {
    let scope = f.names().scope();
    let artifact = artifact(2, f.names().seed());
    let deployment = keep(f, &scope, &artifact, 0).await?;
    for _ in 0..3 {
        f.store().hold(&scope, artifact.digest(), deployment).await?;
    }
    f.store().release(deployment, f.names().after(10)).await?;
    let got = f.store().get(&scope, artifact.digest()).await?;
    ensure!(got.is_none(), "four equal holds and one release leave the artifact held");
    f.store().collect(f.names().after(8000), MIN_AGE).await?;
    ensure!(!is_there(f, &artifact).await?, "four equal holds and one release keep the artifact from collection");
    Ok(())
}

pub(super) async fn release_of_nothing_is_fine(f: &F) -> Verdict {
    let scope = f.names().scope();
    let artifact = artifact(2, f.names().seed());
    let deployment = keep(f, &scope, &artifact, 0).await?;
    f.store().release(f.names().deployment(), f.names().after(1)).await?;
    ensure!(f.store().get(&scope, artifact.digest()).await?.is_some(), "another deployment's release took the hold");
    for _ in 0..2 {
        f.store().release(deployment, f.names().after(2)).await?;
    }
    ensure_eq!(f.store().get(&scope, artifact.digest()).await?, None, "the artifact after its release");
    Ok(())
}

pub(super) async fn holding_says_who_holds_something(f: &F) -> Verdict {
    let (scope, other) = (f.names().scope(), f.names().scope());
    let artifact = artifact(2, f.names().seed());
    let (first, second) = (keep(f, &scope, &artifact, 0).await?, keep(f, &other, &artifact, 0).await?);
    let never = f.names().deployment();
    ensure_eq!(f.store().holding(&[]).await?, [].into(), "who of nobody holds something");
    ensure_eq!(f.store().holding(&[first, never]).await?, [first].into(), "who of those asked about holds something");
    ensure_eq!(f.store().holding(&[second, never, first]).await?, [first, second].into(), "holders of several scopes");
    f.store().release(first, f.names().after(1)).await?;
    ensure_eq!(f.store().holding(&[first, second]).await?, [second].into(), "who holds something after a release");
    Ok(())
}

pub(super) async fn one_of_two_holds_keeps(f: &F) -> Verdict {
    let (here, there) = (f.names().scope(), f.names().scope());
    let artifact = artifact(2, f.names().seed());
    let first = keep(f, &here, &artifact, 0).await?;
    let second = keep(f, &here, &artifact, 0).await?;
    let elsewhere = keep(f, &there, &artifact, 0).await?;
    f.store().release(first, f.names().after(1)).await?;
    ensure!(f.store().get(&here, artifact.digest()).await?.is_some(), "one of two releases took the artifact away");
    f.store().release(elsewhere, f.names().after(1)).await?;
    ensure!(f.store().get(&here, artifact.digest()).await?.is_some(), "a release in another scope took it away");
    ensure_eq!(f.store().get(&there, artifact.digest()).await?, None, "the artifact where its only hold was released");
    f.store().release(second, f.names().after(2)).await?;
    ensure_eq!(f.store().get(&here, artifact.digest()).await?, None, "the artifact after the second release");
    Ok(())
}

pub(super) async fn release_lets_go_of_everything(f: &F) -> Verdict {
    let scope = f.names().scope();
    let artifacts = [artifact(2, f.names().seed()), artifact(3, f.names().seed() ^ 1)];
    let deployment = f.names().deployment();
    for artifact in &artifacts {
        let digest = f.store().put(artifact, f.names().start()).await?;
        f.store().hold(&scope, digest, deployment).await?;
    }
    f.store().release(deployment, f.names().after(1)).await?;
    for artifact in &artifacts {
        let got = f.store().get(&scope, artifact.digest()).await?;
        ensure!(got.is_none(), "an artifact is held by a deployment that was released");
    }
    Ok(())
}

pub(super) async fn holds_survive_a_restart(f: &F) -> Verdict {
    let scope = f.names().scope();
    let (held, loose) = (artifact_with_server(5, f.names().seed()), artifact(2, f.names().seed() ^ 1));
    let deployment = keep(f, &scope, &held, 0).await?;
    f.store().put(&loose, f.names().start()).await?;
    let again = f.reopened().await?;
    let got = again.get(&scope, held.digest()).await?;
    ensure!(got.is_some_and(|got| *got == held), "a held artifact is not there, or not whole, after a restart");
    again.hold(&scope, loose.digest(), f.names().deployment()).await?;
    again.collect(f.names().after(8000), MIN_AGE).await?;
    ensure!(again.get(&scope, held.digest()).await?.is_some(), "a hold of before the restart kept nothing");
    again.release(deployment, f.names().after(8000)).await?;
    ensure_eq!(again.get(&scope, held.digest()).await?, None, "the artifact after its release");
    Ok(())
}

pub(super) async fn a_dropped_put_can_be_repeated(f: &F) -> Verdict {
    for polls in 1..=8 {
        let scope = f.names().scope();
        let artifact = artifact_with_server(20, f.names().seed().wrapping_add(polls as u64));
        poll_times(polls, f.store().put(&artifact, f.names().start())).await;
        keep(f, &scope, &artifact, 0).await?;
        let got = f.store().get(&scope, artifact.digest()).await?;
        let files = got.as_ref().map(|got| got.files());
        ensure!(
            got.is_some_and(|got| *got == artifact),
            "after a put dropped at poll {polls}, {files:?} files are there of {}",
            artifact.files()
        );
    }
    Ok(())
}

pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
    let scope = f.names().scope();
    let boxed: Box<dyn BundleStore> = Box::new(f.store().clone());
    let wrapped: Arc<dyn BundleStore> = Arc::new(Around::with_policy(boxed, PassThrough));
    let artifact = artifact(2, f.names().seed());
    let deployment = f.names().deployment();
    let never = wrapped.hold(&scope, artifact.digest(), deployment).await;
    ensure_err!(never, NotFound, "hold through a wrapper of what was never put");
    let digest = wrapped.put(&artifact, f.names().start()).await?;
    wrapped.hold(&scope, digest, deployment).await?;
    ensure!(f.store().get(&scope, digest).await?.is_some(), "what was put and held through a wrapper is not there");
    ensure!(wrapped.get(&scope, digest).await?.is_some(), "a wrapper reads nothing");
    wrapped.release(deployment, f.names().after(1)).await?;
    ensure_eq!(f.store().get(&scope, digest).await?, None, "what was released through a wrapper");
    let collected = wrapped.collect(f.names().after(8000), MIN_AGE).await?;
    ensure_eq!(collected.artifacts, 1, "artifacts collected through a wrapper");
    Ok(())
}

pub(super) async fn it_is_ready(f: &F) -> Verdict {
    let readiness = f.store().check().await?;
    ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
    ensure!(!readiness.backend().is_empty(), "the backend has no name");
    Ok(())
}
