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
    let bytes =
        |it: &Prepared| it.files.iter().map(|(name, file)| (name.clone(), file.contents.clone())).collect::<Vec<_>>();
    assert_eq!(bytes(&again), bytes(&prepared));

    // The lock that was made leads to the same.
    let locked = PackageRequest::new(request.manifest.clone(), prepared.lock.clone(), request.entries.clone());
    let locked = prepare(&offline(cache.path()), &locked).await;
    assert_eq!((locked.digest, &locked.lock), (prepared.digest, &None));
}

/// What today's generated apps import.
#[tokio::test]
async fn what_generated_apps_import_is_prepared_in_seconds() {
    let manifest = r#"{"dependencies": {
        "@radix-ui/react-accordion": "^1.2.11", "@radix-ui/react-alert-dialog": "^1.1.14", "@radix-ui/react-dialog": "^1.1.14",
        "@radix-ui/react-dropdown-menu": "^2.1.15", "@radix-ui/react-popover": "^1.1.14", "@radix-ui/react-select": "^2.2.5",
        "@radix-ui/react-slot": "^1.2.3", "@radix-ui/react-tabs": "^1.1.12", "@radix-ui/react-tooltip": "^1.2.7",
        "@hookform/resolvers": "^3.10.0", "@tanstack/react-query": "^5.83.0", "class-variance-authority": "^0.7.1",
        "clsx": "^2.1.1", "date-fns": "^3.6.0", "framer-motion": "^12", "lodash": "^4.17.21", "lucide-react": "^0.462.0",
        "react": "^18.3.1", "react-dom": "^18.3.1", "react-hook-form": "^7.61.1", "react-router-dom": "^6.30.1",
        "recharts": "^2.15.4", "sonner": "^2.0.7", "swiper": "^11", "tailwind-merge": "^2.6.0", "zod": "^3.25.76",
        "zustand": "^5.0.8", "@fontsource/inter": "^5"}, "devDependencies": {"vite": "^7", "eslint": "^9", "typescript": "^5"}}"#;
    let common =
        ["react", "react-dom/client", "react/jsx-runtime", "react/jsx-dev-runtime", "lodash", "lodash/debounce"];
    let modules = [
        "@hookform/resolvers/zod",
        "@radix-ui/react-accordion",
        "@radix-ui/react-alert-dialog",
        "@radix-ui/react-dialog",
        "@radix-ui/react-dropdown-menu",
        "@radix-ui/react-popover",
        "@radix-ui/react-select",
        "@radix-ui/react-slot",
        "@radix-ui/react-tabs",
        "@radix-ui/react-tooltip",
        "@tanstack/react-query",
        "class-variance-authority",
        "clsx",
        "date-fns",
        "framer-motion",
        "lucide-react",
        "react-hook-form",
        "react-router-dom",
        "recharts",
        "sonner",
        "swiper/react",
        "tailwind-merge",
        "zod",
        "zustand",
        "zustand/middleware",
    ];
    let styles = ["swiper/css", "@fontsource/inter", "@fontsource/inter/400.css"];
    let all: Vec<&str> = common.into_iter().chain(modules).chain(styles).collect();
    let request = request(manifest, &all);
    let cache = tempfile::tempdir().unwrap();
    let prepared = prepare(&packages(cache.path()), &request).await;
    assert!(prepared.failed.is_empty(), "{:#?}", prepared.failed);
    for name in common {
        assert!(common_js(&prepared, name), "{name}");
    }
    for name in modules {
        assert!(!common_js(&prepared, name), "{name}");
    }
    for name in styles {
        assert!(matches!(prepared.entries[name], PackageEntry::Style { .. }), "{name}");
    }
    let lock = String::from_utf8(prepared.lock.clone().unwrap().to_vec()).unwrap();
    assert!(!lock.contains("node_modules/vite") && !lock.contains("node_modules/eslint"));
    assert_eq!(lock.matches("node_modules/react\"").count(), 1);
    let bytes: usize = prepared.files.values().map(|it| it.contents.len()).sum();
    eprintln!("{} files, {bytes} bytes", prepared.files.len());

    let prepared_again = prepare(&offline(cache.path()), &request).await;
    assert_eq!(prepared_again.digest, prepared.digest);
    std::fs::remove_dir_all(cache.path().join("prepared")).unwrap();
    eprintln!("with unpacked packages:");
    prepare(&offline(cache.path()), &request).await;
    std::fs::remove_dir_all(cache.path().join("prepared")).unwrap();
    std::fs::remove_dir_all(cache.path().join("unpacked")).unwrap();
    eprintln!("with tarballs:");
    assert_eq!(prepare(&offline(cache.path()), &request).await.digest, prepared.digest);
}
