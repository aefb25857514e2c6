//! What a build does not pull in. `cargo tree` says so.

use std::process::Command;

/// The packages that `package` pulls in, without development dependencies.
fn tree(package: &str, features: &[&str]) -> Vec<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}", "--package", package]);
    cargo.args(features).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("names are UTF-8");
    let names = text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.collect()
}

fn assert_without(packages: &[String], unwanted: &[&str]) {
    assert!(packages.len() > 10, "cargo tree listed {packages:?}");
    for name in unwanted {
        assert!(!packages.iter().any(|p| p == name), "{name} is pulled in");
    }
}

#[test]
fn without_default_features_nothing_heavy_is_pulled_in() {
    let packages = tree("overskill", &["--no-default-features"]);
    assert_without(
        &packages,
        &[
            "axum",
            "sqlx",
            "sqlx-core",
            "oxc",
            "reqwest",
            "hyper",
            "notify",
            "overskill-build",
            "overskill-http",
            "overskill-local",
            "overskill-sql",
        ],
    );
}

#[test]
fn the_router_brings_axum_and_no_client_no_compiler_and_no_driver() {
    let packages = tree("overskill", &["--no-default-features", "--features", "router"]);
    assert!(packages.iter().any(|p| p == "axum"));
    assert_without(&packages, &["sqlx-core", "oxc", "reqwest", "overskill-http", "overskill-local", "overskill-sql"]);
}

#[test]
fn no_provider_comes_unasked() {
    let packages = tree("overskill", &[]);
    assert_without(&packages, &["overskill-cloudflare", "object_store", "overskill-supabase", "tokio-postgres"]);
    let packages = tree("overskill", &["--no-default-features", "--features", "cloudflare"]);
    assert!(packages.iter().any(|p| p == "overskill-cloudflare"));
    assert_without(&packages, &["sqlx-core", "axum", "overskill-local", "overskill-sql", "overskill-supabase"]);
    let packages = tree("overskill", &["--no-default-features", "--features", "supabase"]);
    assert!(packages.iter().any(|p| p == "overskill-supabase"));
    assert_without(
        &packages,
        &["axum", "oxc", "sqlx-sqlite", "overskill-build", "overskill-cloudflare", "overskill-local"],
    );
}

#[test]
fn core_does_no_io() {
    let packages = tree("overskill-core", &["--all-features"]);
    assert_without(&packages, &["axum", "sqlx", "oxc", "reqwest", "hyper", "mio", "socket2", "rustls", "chrono"]);
}

#[test]
fn core_by_itself_has_no_c_in_it() {
    let packages = tree("overskill-core", &[]);
    assert_without(&packages, &["aws-lc-sys", "ring", "openssl-sys", "jsonwebtoken", "mockall", "cc"]);
}

#[test]
fn cloudflare_without_previews_has_no_compiler() {
    let packages = tree("overskill-cloudflare", &["--no-default-features"]);
    assert_without(&packages, &["oxc", "lightningcss", "overskill-build", "axum", "sqlx", "object_store"]);
    assert!(tree("overskill-cloudflare", &[]).iter().any(|p| p == "overskill-build"), "the control");
}

#[test]
fn sqlite_needs_no_tls_and_no_postgres() {
    let packages = tree("overskill-sql", &["--no-default-features", "--features", "sqlite"]);
    assert_without(&packages, &["sqlx-postgres", "rustls", "sqlx-macros", "reqwest"]);
}

#[test]
fn the_kit_is_light_until_asked() {
    let packages = tree("overskill-testkit", &[]);
    assert_without(&packages, &["sqlx", "axum", "reqwest", "hyper", "overskill-sql", "overskill-http"]);
}

#[test]
fn only_the_http_crate_names_reqwest() {
    for package in ["overskill-core", "overskill-sql", "overskill-testkit"] {
        assert_without(&tree(package, &["--all-features"]), &["reqwest"]);
    }
    assert!(tree("overskill-http", &[]).iter().any(|p| p == "reqwest"));
}
