//! The example apps.

use super::support::{asset, builder, built, example, names, packages_in, registry, request};
use overskill_build::{packages::NpmPackages, production::ModuleBuilder};
use overskill_core::{Builder as _, FilePath};

#[tokio::test]
async fn todo_studio_has_pages_a_lazy_route_and_tailwinds_styles() {
    let artifact = built(example("todo-studio")).await.unwrap_or_else(|e| panic!("{e}"));
    let (main, code) = asset(&artifact, "assets/index-", ".js");
    let (sheet, css) = asset(&artifact, "assets/index-", ".css");
    let (lazy, _) = asset(&artifact, "assets/StatsPage-", ".js");
    let (_, page) = asset(&artifact, "index.html", "");
    assert!(page.contains(&format!("src=\"/{main}\"")) && page.contains(&format!("href=\"/{sheet}\"")), "{page}");
    assert!(!page.contains("/src/main.tsx"), "{page}");
    let lazy_name = lazy.as_str().rsplit('/').next().unwrap();
    assert!(code.contains(lazy_name), "the route is loaded by its hashed name");
    assert!(!code.contains("__overskill_h") && !code.contains("__overskill_e"), "no token is left");
    // Of the configuration's theme, of @apply, of a plugin, of a CSS module.
    for part in ["font-family:Inter", ".nav-link{", "accordion-down", "--tw-enter-opacity", "_grid"] {
        assert!(css.contains(part), "{part} in {css}");
    }
    assert!(!css.contains("@apply") && !css.contains("@tailwind"));
    assert!(artifact.config().single_page && artifact.server().is_none());
    assert!(names(&artifact).contains(&"favicon.svg") && names(&artifact).contains(&"robots.txt"));
    // What it was made of stays where it was made.
    for (path, file) in artifact.assets() {
        let text = String::from_utf8_lossy(file.contents());
        assert!(!text.contains("production-packages") && !text.contains("/src/pages/"), "{path}");
    }
}

/// The same sources and the same lock, on two paths and with two caches, one of which knows nothing.
#[tokio::test]
async fn the_same_sources_have_the_same_digest() {
    let elsewhere = tempfile::tempdir().unwrap();
    let fresh = elsewhere.path().join("a longer path/to another cache");
    // Tarballs are what takes long, and decides nothing.
    std::fs::create_dir_all(&fresh).unwrap();
    // Of both Tailwinds, each in its child, and of none.
    for app in ["todo-studio", "tailwind4", "vanilla-ts"] {
        let sources = example(app);
        let here = built(sources.clone()).await.unwrap_or_else(|e| panic!("{e}"));
        let there = ModuleBuilder::new(packages_in(&fresh)).build(&request(sources.clone())).await.unwrap();
        assert_eq!(here.digest(), there.digest(), "{app}: {:?} and {:?}", names(&here), names(&there));
        assert_eq!(builder().build(&request(sources)).await.unwrap().digest(), here.digest());
    }
}

#[tokio::test]
async fn tailwind_4_is_that_of_the_lock() {
    let artifact = built(example("tailwind4")).await.unwrap_or_else(|e| panic!("{e}"));
    let (_, css) = asset(&artifact, "assets/index-", ".css");
    for part in ["--color-roast-600", "@layer", "Georgia"] {
        assert!(css.contains(part), "{part} in {css}");
    }
    assert!(!css.contains("@theme") && !css.contains("@utility"), "{css}");
}

#[tokio::test]
async fn common_js_and_plain_apps() {
    for app in ["commonjs", "vanilla-ts"] {
        let artifact = built(example(app)).await.unwrap_or_else(|e| panic!("{app}: {e}"));
        let (_, code) = asset(&artifact, "assets/index-", ".js");
        assert!(!code.contains("import.meta.env") && !code.contains("process.env"), "{app}");
        assert!(artifact.assets().contains_key(&FilePath::parse("index.html").unwrap()));
    }
}

#[tokio::test]
async fn what_is_cached_is_built_without_the_registry() {
    let sources = example("vanilla-ts");
    let first = built(sources.clone()).await.unwrap();
    let nobody = overskill_http::transport_fn(|request: overskill_http::Request| async move {
        let answer: overskill_http::Result<overskill_http::Response> =
            Err(overskill_http::not_sent(format!("{} was asked for offline", request.url)));
        answer
    });
    let offline = NpmPackages::builder(super::support::cache()).registry(registry()).transport(nobody).build().unwrap();
    let again = ModuleBuilder::new(offline).build(&request(sources)).await.unwrap();
    assert_eq!(again.digest(), first.digest());
}
