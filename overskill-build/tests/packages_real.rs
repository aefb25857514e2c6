//! Packages as they are published, from the registry that npm uses here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use overskill_build::packages::{DependencyResolver, NpmPackages, PackageEntry, PackageRequest, Prepared};
use std::{path::Path, process::Command, sync::Arc, time::Instant};

/// Where the registry is: what xtask says, else what npm says.
fn registry() -> String {
    if let Ok(url) = std::env::var("NPM_CONFIG_REGISTRY") {
        return url;
    }
    let npm = Command::new("npm").args(["config", "get", "registry"]).output();
    let said = npm.expect("set NPM_CONFIG_REGISTRY to an npm registry, or install npm, which knows one").stdout;
    String::from_utf8(said).unwrap().trim().to_owned()
}

fn packages(cache: &Path) -> NpmPackages {
    NpmPackages::builder(cache).registry(registry()).build().unwrap()
}

/// A resolver that nobody answers: what it gives comes from the cache.
fn offline(cache: &Path) -> NpmPackages {
    let nobody = overskill_http::transport_fn(|request: overskill_http::Request| async move {
        let answer: overskill_http::Result<overskill_http::Response> =
            Err(overskill_http::not_sent(format!("{} was asked for offline", request.url)));
        answer
    });
    NpmPackages::builder(cache).registry(registry()).transport(nobody).build().unwrap()
}

fn request(manifest: &str, entries: &[&str]) -> PackageRequest {
    PackageRequest::new(manifest.to_owned(), None, entries.iter().map(|it| (*it).to_owned()).collect())
}

async fn prepare(packages: &NpmPackages, request: &PackageRequest) -> Arc<Prepared> {
    let began = Instant::now();
    let prepared = packages.prepare(request).await.expect("the registry must be reachable for this test");
    eprintln!("prepared {} entries in {:?}", prepared.entries.len(), began.elapsed());
    prepared
}

fn common_js(prepared: &Prepared, name: &str) -> bool {
    match prepared.entries.get(name) {
        Some(PackageEntry::Module { file, common_js }) => {
            assert!(prepared.files.contains_key(file), "{file}");
            *common_js
        }
        other => panic!("{name}: {other:?} {:?}", prepared.failed.get(name)),
    }
}

#[tokio::test]
async fn react_is_one_and_common_js_and_there_offline() {
    let cache = tempfile::tempdir().unwrap();
    let entries = ["react", "react-dom/client", "react/jsx-dev-runtime"];
    let request = request(r#"{"dependencies": {"react": "^18.3.1", "react-dom": "^18.3.1"}}"#, &entries);
    let prepared = prepare(&packages(cache.path()), &request).await;
    assert!(prepared.failed.is_empty(), "{:?}", prepared.failed);
    for name in entries {
        assert!(common_js(&prepared, name), "{name}");
    }
    let holds = |file: &overskill_build::packages::PackageFile, text: &str| {
        String::from_utf8_lossy(&file.contents).contains(text)
    };
    let reacts = prepared.files.values().filter(|it| holds(it, "react.development.js\"(")).count();
    assert_eq!(reacts, 1, "react's own code is in one file");
    assert!(!prepared.files.values().any(|it| holds(it, "react.production.min.js")));

    let again = prepare(&offline(cache.path()), &request).await;
    assert_eq!(again.digest, prepared.digest);
    assert_eq!(again.lock, prepared.lock);
    let bytes = |it: &Prepared| it.files.iter().map(|(name, file)| (name.clone(), file.contents.clone())).collect::<Vec<_>>();
    assert_eq!(bytes(&again), bytes(&prepared));

    // The lock that was made leads to the same.
    let locked = PackageRequest::new(request.manifest.clone(), prepared.lock.clone(), request.entries.clone());
    let locked = prepare(&offline(cache.path()), &locked).await;
    assert_eq!((locked.digest, &locked.lock), (prepared.digest, &None));
}
