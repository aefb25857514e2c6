//! Packages from a registry within the test: what is asked of it, what is kept, and what goes wrong.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use overskill_build::packages::{
    DependencyResolver, NpmPackages, NpmPackagesBuilder, PackageEntry, PackageRequest, PinnedPackage, Prepared,
};
use overskill_core::{ErrorKind, Progress, ProgressEvent, ProgressSink, StreamName};
use overskill_http::{NetworkTransport, Request, Response, Transport as _, transport_fn};
use std::{
    collections::BTreeMap,
    io::Write as _,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, OnceLock},
};

/// A registry of packages that a test made. esbuild comes from the real one, once for all tests.
#[derive(Clone, Default)]
struct Registry(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Name, then version with the rest of its entry and its tarball.
    packages: BTreeMap<String, BTreeMap<String, (String, Vec<u8>)>>,
    asked: Vec<String>,
    down: bool,
}

/// Name, version, the rest of `package.json`, and the other files.
type Published<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)]);

impl Registry {
    fn new(packages: &[Published<'_>]) -> Self {
        let registry = Self::default();
        for (name, version, manifest, files) in packages {
            registry.publish(name, version, manifest, files);
        }
        registry
    }

    /// Publishes a version: the rest of its `package.json`, and its other files.
    fn publish(&self, name: &str, version: &str, manifest: &str, files: &[(&str, &str)]) {
        let comma = if manifest.is_empty() { "" } else { "," };
        let json = format!("{{\"name\": \"{name}\", \"version\": \"{version}\"{comma}{manifest}}}");
        let mut all = vec![("package.json", json.as_str())];
        all.extend(files);
        self.publish_tarball(name, version, manifest, tarball(&all));
    }

    fn publish_tarball(&self, name: &str, version: &str, manifest: &str, tarball: Vec<u8>) {
        let mut state = self.0.lock().unwrap();
        let versions = state.packages.entry(name.to_owned()).or_default();
        versions.insert(version.to_owned(), (manifest.to_owned(), tarball));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }

    fn go_down(&self) {
        self.0.lock().unwrap().down = true;
    }

    fn builder(&self, cache: &Path) -> NpmPackagesBuilder {
        let registry = self.clone();
        let transport = transport_fn(move |request: Request| {
            let registry = registry.clone();
            async move { registry.answer(&request).await }
        });
        NpmPackages::builder(cache).ignore_environment().registry("https://registry.test/npm").transport(transport)
    }

    fn at(&self, cache: &Path) -> NpmPackages {
        self.builder(cache).build().unwrap()
    }

    async fn answer(&self, request: &Request) -> overskill_http::Result<Response> {
        let path = request.url.path().strip_prefix("/npm/").unwrap().replace("%2F", "/");
        assert_eq!(request.url.host(), "registry.test");
        if path.starts_with("@esbuild/") {
            return Ok(Response::new(200, esbuild(&path).await));
        }
        let state = &mut *self.0.lock().unwrap();
        state.asked.push(path.clone());
        if state.down {
            return Err(overskill_http::not_sent("nobody is there"));
        }
        if let Some((name, file)) = path.split_once("/-/") {
            let base = name.rsplit('/').next().unwrap();
            let version = file.strip_prefix(&format!("{base}-")).and_then(|it| it.strip_suffix(".tgz"));
            let found = version.and_then(|it| state.packages.get(name)?.get(it));
            return Ok(found.map_or_else(|| Response::new(404, ""), |it| Response::new(200, it.1.clone())));
        }
        let Some(versions) = state.packages.get(&path) else {
            return Ok(Response::new(404, ""));
        };
        let entries: Vec<String> = versions
            .iter()
            .map(|(version, (manifest, tarball))| {
                let comma = if manifest.is_empty() { "" } else { "," };
                format!("\"{version}\": {{\"dist\": {{\"integrity\": \"{}\"}}{comma}{manifest}}}", integrity(tarball))
            })
            .collect();
        Ok(Response::new(200, format!("{{\"name\": \"{path}\", \"versions\": {{{}}}}}", entries.join(","))))
    }
}

fn integrity(tarball: &[u8]) -> String {
    use base64::Engine as _;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, tarball);
    format!("sha512-{}", base64::engine::general_purpose::STANDARD.encode(digest))
}

fn tarball(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("package/{path}"), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// esbuild's tarball from the real registry: kept beside the tests' other output, for it is large.
async fn esbuild(path: &str) -> Vec<u8> {
    static ONCE: OnceLock<tokio::sync::Mutex<()>> = OnceLock::new();
    let _one = ONCE.get_or_init(tokio::sync::Mutex::default).lock().await;
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(path.replace('/', "_"));
    if let Ok(bytes) = std::fs::read(&kept) {
        return bytes;
    }
    let url = format!("{}/{path}", registry().trim_end_matches('/'));
    let request = Request::new(overskill_http::Method::Get, overskill_http::Url::parse(&url).unwrap());
    let answer = NetworkTransport::new().unwrap().send(request).await;
    let answer = answer.expect("the npm registry must be reachable for esbuild").collect(64 << 20).await.unwrap();
    assert_eq!(answer.status, 200, "the npm registry must have esbuild");
    let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.write_all(&answer.body).unwrap();
    file.persist(kept).unwrap();
    answer.body.into()
}

/// Where the real registry is: what xtask says, else what npm says.
fn registry() -> String {
    if let Ok(url) = std::env::var("NPM_CONFIG_REGISTRY") {
        return url;
    }
    let npm = Command::new("npm").args(["config", "get", "registry"]).output();
    let said = npm.expect("set NPM_CONFIG_REGISTRY to an npm registry, or install npm, which knows one").stdout;
    String::from_utf8(said).unwrap().trim().to_owned()
}

fn request(manifest: &str, entries: &[&str]) -> PackageRequest {
    PackageRequest::new(manifest.to_owned(), None, entries.iter().map(|it| (*it).to_owned()).collect())
}

fn with_lock(manifest: &str, lock: impl Into<bytes::Bytes>, entries: &[&str]) -> PackageRequest {
    let entries = entries.iter().map(|it| (*it).to_owned()).collect();
    PackageRequest::new(manifest.to_owned(), Some(lock.into()), entries)
}

fn code(prepared: &Prepared, entry: &str) -> String {
    match prepared.entries.get(entry) {
        Some(PackageEntry::Module { file, .. } | PackageEntry::Style { file } | PackageEntry::Asset { file }) => {
            String::from_utf8_lossy(&prepared.files[file].contents).into_owned()
        }
        other => panic!("{entry}: {other:?}, {:?}", prepared.failed),
    }
}

fn failure(prepared: &Prepared, entry: &str) -> String {
    let problem = prepared.failed.get(entry).unwrap_or_else(|| panic!("{entry} works: {prepared:?}"));
    assert!(problem.help.is_some(), "{problem} does not say what to do");
    problem.to_string()
}

const ESM: &str = "export const name = 'a';";

#[tokio::test]
async fn only_what_is_imported_is_loaded_once_and_then_offline() {
    let registry = Registry::new(&[
        ("a", "1.0.0", r#""module": "i.mjs", "dependencies": {"b": "^1"}"#, &[("i.mjs", "export * from 'b';")]),
        ("b", "1.1.0", "", &[("index.js", "exports.b = process.env.NODE_ENV;")]),
        ("b", "1.0.0", "", &[("index.js", "")]),
        ("unused", "1.0.0", "", &[]),
        ("tool", "1.0.0", "", &[]),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let asked = request(r#"{"dependencies": {"a": "^1", "unused": "*"}, "devDependencies": {"tool": "*"}}"#, &["a"]);
    let packages = registry.at(cache.path());
    let (one, two) = futures::join!(packages.prepare(&asked), packages.prepare(&asked));
    let prepared = one.unwrap();
    assert!(Arc::ptr_eq(&prepared, &two.unwrap()), "both share it");
    assert!(prepared.failed.is_empty(), "{:?}", prepared.failed);
    let mut calls = registry.asked();
    calls.sort();
    assert_eq!(calls, ["a", "a/-/a-1.0.0.tgz", "b", "b/-/b-1.1.0.tgz", "unused"]);
    // `export *` of a CommonJS module: its names are known only when it runs.
    assert!(matches!(&prepared.entries["a"], PackageEntry::Module { common_js: true, .. }));
    assert!(prepared.files.values().any(|it| String::from_utf8_lossy(&it.contents).contains("\"development\"")));
    let lock: serde_json::Value = serde_json::from_slice(prepared.lock.as_ref().unwrap()).unwrap();
    assert_eq!(lock["packages"]["node_modules/b"]["version"], "1.1.0");

    registry.go_down();
    let again = registry.at(cache.path()).prepare(&asked).await.unwrap();
    assert_eq!((again.digest, &again.lock, &again.entries), (prepared.digest, &prepared.lock, &prepared.entries));
    assert_eq!(registry.asked(), [""; 0]);
    // The recorded lock leads to the same packages, without anybody being asked.
    let locked = with_lock(r#"{"dependencies": {"a": "^1"}}"#, prepared.lock.clone().unwrap(), &["a"]);
    assert_eq!(registry.at(cache.path()).prepare(&locked).await.unwrap().digest, prepared.digest);
    assert_eq!(registry.asked(), [""; 0]);
}

#[tokio::test]
async fn one_bad_package_does_not_spoil_the_others() {
    let registry = Registry::new(&[
        ("good", "1.0.0", r#""exports": {".": "./i.mjs"}"#, &[("i.mjs", ESM)]),
        ("broken", "1.0.0", "", &[("index.js", "let a = ;")]),
        ("uses-broken", "1.0.0", r#""dependencies": {"broken": "*"}"#, &[("index.js", "require('broken')")]),
        ("half", "1.0.0", "", &[("index.js", "import './gone.js'"), ("ok.js", "export const ok = 1")]),
        ("needs", "1.0.0", "", &[("index.js", "import x from 'nowhere'; export default x")]),
        (
            "tries",
            "1.0.0",
            r#""peerDependencies": {"opt": "*"}, "peerDependenciesMeta": {"opt": {"optional": true}}"#,
            &[("index.js", "import 'opt'; export const a = 1")],
        ),
    ]);
    let manifest = r#"{"dependencies": {"good": "*", "broken": "*", "uses-broken": "*", "half": "*", "needs": "*",
        "tries": "*", "gone": "*", "good2": "npm:good@9", "git": "github:a/b"}}"#;
    let entries = [
        "good",
        "good/sub",
        "broken",
        "uses-broken",
        "half",
        "half/ok.js",
        "needs",
        "tries",
        "gone",
        "good2",
        "git",
        "unlisted",
        "virtual:x",
        "fs",
        "node:path",
    ];
    let cache = tempfile::tempdir().unwrap();
    let prepared = registry.at(cache.path()).prepare(&request(manifest, &entries)).await.unwrap();
    let fine: Vec<&str> = prepared.entries.keys().map(String::as_str).collect();
    assert_eq!(fine, ["fs", "good", "node:path", "tries"], "{:#?}", prepared.failed);
    for (entry, says) in [
        ("good/sub", "not exported by package \"good\""),
        ("broken", "Unexpected \";\" (in `broken/index.js`)"),
        ("uses-broken", "in `broken/index.js`"),
        ("half", "./gone.js"),
        ("needs", "`needs` imports `nowhere`, which is not installed"),
        ("gone", "the registry has no package of this name"),
        ("good2", "no version of it in the range"),
        ("git", "git repository"),
        ("unlisted", "`unlisted` is not in package.json (add it: `npm install unlisted`)"),
        ("virtual:x", "neither a package nor a file"),
    ] {
        let problem = failure(&prepared, entry);
        assert!(problem.contains(says), "{entry}: {problem}");
    }
    // What follows from packages alone is kept with them.
    let again = registry.at(cache.path()).prepare(&request(manifest, &entries)).await.unwrap();
    assert_eq!((again.digest, &again.failed), (prepared.digest, &prepared.failed));
}

#[tokio::test]
async fn a_package_cannot_read_the_hosts_files() {
    let secret = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(secret.path(), r#"{"password": "hunter2"}"#).unwrap();
    let unparsable = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(unparsable.path(), "hunter2").unwrap();
    let path = secret.path().to_str().unwrap();
    let up = "../".repeat(40);
    let direct = format!("import s from '{path}'; export default s");
    let relative = format!("export {{ default }} from '{up}{}'", &path[1..]);
    let error = format!("import '{}'", unparsable.path().display());
    let registry = Registry::new(&[
        ("direct", "1.0.0", "", &[("index.js", &direct)]),
        ("relative", "1.0.0", "", &[("index.js", &relative)]),
        ("error", "1.0.0", "", &[("index.js", &error)]),
        ("main", "1.0.0", &format!("\"main\": \"{up}{}\"", &path[1..]), &[]),
        ("good", "1.0.0", "", &[("index.js", ESM)]),
    ]);
    let all = ["direct", "relative", "error", "main", "good"];
    for entry in &all[..4] {
        let cache = tempfile::tempdir().unwrap();
        let manifest = format!(r#"{{"dependencies": {{"{entry}": "*", "good": "*"}}}}"#);
        let prepared = registry.at(cache.path()).prepare(&request(&manifest, &[entry, "good"])).await.unwrap();
        assert!(prepared.failed.contains_key(*entry), "{entry}: {prepared:?}");
        assert!(!format!("{:?}", prepared.failed).contains("hunter2"), "{:?}", prepared.failed);
        let leaks = prepared.files.values().any(|it| String::from_utf8_lossy(&it.contents).contains("hunter2"));
        assert!(!leaks, "{entry}");
        if *entry != "error" && *entry != "main" {
            assert!(prepared.entries.contains_key("good"), "{entry}: {:?}", prepared.failed);
        }
    }
}

#[tokio::test]
async fn what_is_not_what_the_lock_says_is_refused() {
    let registry = Registry::new(&[("a", "1.0.0", "", &[("index.js", ESM)]), ("b", "1.0.0", "", &[("index.js", ESM)])]);
    let lock = format!(
        r#"{{"lockfileVersion": 3, "packages": {{
            "node_modules/a": {{"version": "1.0.0", "integrity": "{}"}}, "node_modules/b": {{"version": "1.0.0"}}}}}}"#,
        integrity(b"something else")
    );
    let cache = tempfile::tempdir().unwrap();
    let asked = with_lock(r#"{"dependencies": {"a": "*", "b": "*"}}"#, lock, &["a", "b"]);
    let prepared = registry.at(cache.path()).prepare(&asked).await.unwrap();
    let problem = failure(&prepared, "a");
    assert!(problem.contains("`a` 1.0.0: what the registry gave is not what the lock states"), "{problem}");
    assert!(prepared.entries.contains_key("b") && prepared.lock.is_none());
}

#[tokio::test]
async fn a_damaged_cache_is_mended() {
    let registry = Registry::new(&[("a", "1.0.0", "", &[("index.js", ESM)])]);
    let cache = tempfile::tempdir().unwrap();
    let asked = request(r#"{"dependencies": {"a": "*"}}"#, &["a"]);
    let first = registry.at(cache.path()).prepare(&asked).await.unwrap();
    for (folder, cut) in [("prepared", true), ("tarballs", true), ("unpacked", false), ("locks", true)] {
        for file in walk(&cache.path().join(folder)) {
            if cut {
                std::fs::write(&file, b"half of").unwrap();
            } else {
                std::fs::remove_file(&file).unwrap();
            }
        }
        let again = registry.at(cache.path()).prepare(&asked).await.unwrap();
        assert_eq!((again.digest, &again.entries), (first.digest, &first.entries), "{folder}");
    }
    std::fs::remove_dir_all(cache.path().join("prepared")).unwrap();
    let again = registry.at(cache.path()).prepare(&asked).await.unwrap();
    assert_eq!(code(&again, "a"), code(&first, "a"));
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn without_the_registry_what_is_cached_works_and_the_rest_says_so() {
    let registry = Registry::new(&[("a", "1.0.0", "", &[("index.js", ESM)]), ("b", "1.0.0", "", &[("index.js", ESM)])]);
    let cache = tempfile::tempdir().unwrap();
    let manifest = r#"{"dependencies": {"a": "*", "b": "*"}}"#;
    let first = registry.at(cache.path()).prepare(&request(manifest, &["a"])).await.unwrap();
    registry.go_down();
    let packages = registry.builder(cache.path()).build().unwrap();
    let lock = first.lock.clone().unwrap();
    let both = packages.prepare(&with_lock(manifest, lock.clone(), &["a", "b"])).await.unwrap();
    assert!(
        both.entries.contains_key("a") && failure(&both, "b").contains("`b` 1.0.0: the registry cannot be reached")
    );
    let none = packages.prepare(&request(r#"{"dependencies": {"c": "*"}}"#, &["c"])).await.unwrap();
    assert!(failure(&none, "c").contains("`c` (*): the registry cannot be reached"));
    assert!(none.lock.is_none());
    // It is asked again the next time, and what was missing comes at another address than what is there now.
    registry.0.lock().unwrap().down = false;
    let whole = packages.prepare(&with_lock(manifest, lock, &["a", "b"])).await.unwrap();
    assert!(whole.failed.is_empty() && whole.digest != both.digest);
}

#[tokio::test]
async fn bad_manifests_and_locks_say_what_to_do() {
    let registry = Registry::new(&[("a", "1.0.0", "", &[("index.js", ESM)])]);
    let cache = tempfile::tempdir().unwrap();
    let packages = registry.at(cache.path());
    for (manifest, lock, says) in [
        ("{", None, "package.json is not JSON"),
        ("{}", Some("{}"), "states no `lockfileVersion`"),
        ("{}", Some("nope"), "package-lock.json is not JSON"),
        ("{}", Some(r#"{"lockfileVersion": 1}"#), "version 1"),
    ] {
        let asked = match lock {
            Some(lock) => with_lock(manifest, lock, &["a"]),
            None => request(manifest, &["a"]),
        };
        let problem = failure(&packages.prepare(&asked).await.unwrap(), "a");
        assert!(problem.contains(says), "{problem}");
    }
    let nowhere = NpmPackages::builder(tempfile::tempdir().unwrap().path()).ignore_environment().build().unwrap();
    let e = nowhere.prepare(&request(r#"{"dependencies": {"a": "*"}}"#, &["a"])).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    assert!(e.to_string().contains("NPM_CONFIG_REGISTRY"), "{e}");
    assert!(!nowhere.check().await.unwrap().is_ready() && packages.check().await.unwrap().is_ready());
}

#[tokio::test]
async fn styles_fonts_and_pictures() {
    let registry = Registry::new(&[(
        "ui",
        "1.0.0",
        r#""exports": {".": "./i.js", "./css": "./ui.css", "./*": "./*"}"#,
        &[
            ("i.js", "import './ui.css'; import logo from './logo.png'; export { logo }"),
            ("ui.css", "@font-face { font-family: x; src: url(./x.woff2) } .a { background: url('logo.png') }"),
            ("x.woff2", "font"),
            ("logo.png", "picture"),
        ],
    )]);
    let cache = tempfile::tempdir().unwrap();
    let asked = request(r#"{"dependencies": {"ui": "*"}}"#, &["ui", "ui/css", "ui/logo.png"]);
    let prepared = registry.at(cache.path()).prepare(&asked).await.unwrap();
    assert!(prepared.failed.is_empty(), "{:?}", prepared.failed);
    let PackageEntry::Style { file } = &prepared.entries["ui/css"] else { panic!("{prepared:?}") };
    assert_eq!(prepared.files[file].content_type, "text/css; charset=utf-8");
    let font = prepared.files.iter().find(|it| it.0.starts_with("x-")).unwrap();
    assert_eq!((&*font.1.contents, font.1.content_type.as_str()), (&b"font"[..], "font/woff2"));
    assert!(code(&prepared, "ui/css").contains(&format!("url(\"./{}\")", font.0)));
    let PackageEntry::Asset { file } = &prepared.entries["ui/logo.png"] else { panic!("{prepared:?}") };
    assert_eq!(prepared.files[file].contents, "picture");
    let all: String = prepared.files.values().map(|it| String::from_utf8_lossy(&it.contents)).collect();
    assert!(all.contains(&format!("new URL(\"./{file}\", import.meta.url).href")));
    assert!(code(&prepared, "ui").contains("link.rel = \"stylesheet\""));
}

#[tokio::test]
async fn nested_versions_aliases_browser_fields_and_conditions() {
    let registry = Registry::new(&[
        ("a", "1.0.0", r#""dependencies": {"c": "^1"}"#, &[("index.js", "export { v } from 'c'")]),
        ("b", "1.0.0", r#""dependencies": {"c": "^2"}"#, &[("index.js", "export { v } from 'c'")]),
        ("c", "1.0.0", "", &[("index.js", "export const v = 'one'")]),
        ("c", "2.0.0", "", &[("index.js", "export const v = 'two'")]),
        (
            "@s/d",
            "1.0.0",
            r##""imports": {"#in": "./in.js"}, "exports": {".": {"browser": {"development": "./dev.js"}, "default": "./no.js"}}"##,
            &[("dev.js", "export * from '#in'"), ("in.js", "export const v = 'dev'")],
        ),
        (
            "e",
            "1.0.0",
            r#""browser": {"fs": false, "./node.js": "./web.js"}, "main": "node.js""#,
            &[("node.js", "module.exports = 'node'"), ("web.js", "require('fs'); module.exports = 'web'")],
        ),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let manifest = r#"{"dependencies": {"a": "*", "b": "*", "alias": "npm:@s/d@1", "e": "*"}}"#;
    let prepared = registry.at(cache.path()).prepare(&request(manifest, &["a", "b", "alias", "e"])).await.unwrap();
    for (entry, says) in [("a", "\"one\""), ("b", "\"two\""), ("alias", "\"dev\""), ("e", "\"web\"")] {
        assert!(code(&prepared, entry).contains(says), "{entry}: {}", code(&prepared, entry));
    }
}

#[tokio::test]
async fn what_the_platform_brings_is_bundled_into_one_module() {
    let registry = Registry::new(&[(
        "css-core",
        "4.0.0",
        "",
        &[
            ("index.js", "export * from './inner.js'"),
            ("inner.js", "export const compile = (x) => x + 'compiled'"),
            ("index.css", ".a {}"),
        ],
    )]);
    let cache = tempfile::tempdir().unwrap();
    let packages = registry.at(cache.path());
    let sum = integrity(&registry.0.lock().unwrap().packages["css-core"]["4.0.0"].1.clone());
    let pinned = PinnedPackage::new("css-core", "4.0.0", sum);
    let source = "export { compile } from 'css-core'";
    let code = packages.bundle_pinned(std::slice::from_ref(&pinned), source).await.unwrap();
    let text = String::from_utf8_lossy(&code);
    assert!(text.contains("compiled") && text.contains("as compile") && !text.contains("import"), "{text}");
    let folder = packages.fetch_package(&pinned).await.unwrap();
    assert_eq!(std::fs::read_to_string(folder.join("index.css")).unwrap(), ".a {}");
    registry.go_down();
    assert_eq!(registry.at(cache.path()).bundle_pinned(std::slice::from_ref(&pinned), source).await.unwrap(), code);
    let wrong = PinnedPackage { integrity: integrity(b"x"), version: "../4".into(), ..pinned };
    assert_eq!(packages.fetch_package(&wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[derive(Debug, Default)]
struct Keep(Mutex<Vec<ProgressEvent>>);

impl ProgressSink for Keep {
    fn emit(&self, event: ProgressEvent) {
        self.0.lock().unwrap().push(event);
    }
}

#[tokio::test]
async fn progress_is_told_to_all_who_wait() {
    let registry = Registry::new(&[("a", "1.0.0", "", &[("index.js", ESM)]), ("b", "1.0.0", "", &[("index.js", ESM)])]);
    let cache = tempfile::tempdir().unwrap();
    let packages = registry.at(cache.path());
    let told = [Arc::new(Keep::default()), Arc::new(Keep::default())];
    let asked = told.clone().map(|keep| {
        let progress = Progress::to(keep, StreamName::parse("s").unwrap(), "r").build();
        request(r#"{"dependencies": {"a": "*", "b": "*"}}"#, &["a", "b"]).progress_to(progress)
    });
    let (one, two) = futures::join!(packages.prepare(&asked[0]), packages.prepare(&asked[1]));
    assert!(Arc::ptr_eq(&one.unwrap(), &two.unwrap()));
    for keep in told {
        let events = keep.0.lock().unwrap();
        let said: Vec<&str> = events.iter().map(|it| it.message.as_str()).collect();
        assert!(said.iter().any(|it| it.starts_with("Packages: 2 of 2")), "{said:?}");
        assert!(said.contains(&"Preparing packages") && said.ends_with(&["Packages are ready"]), "{said:?}");
        assert!(events.iter().all(|it| it.progress.is_some_and(|percent| percent <= 90)));
    }
}

#[tokio::test]
async fn a_large_package_is_not_taken() {
    let registry = Registry::new(&[("a", "1.0.0", "", &[("index.js", &"x();".repeat(100_000))])]);
    let cache = tempfile::tempdir().unwrap();
    let packages = registry.builder(cache.path()).max_package_bytes(1 << 20, 100_000).build().unwrap();
    let asked = request(r#"{"dependencies": {"a": "*"}}"#, &["a"]);
    let problem = failure(&packages.prepare(&asked).await.unwrap(), "a");
    assert!(problem.contains("`a` 1.0.0: it is more than"), "{problem}");
}

fn locked(packages: &[(&str, &str)]) -> String {
    let entries: Vec<String> = packages.iter().map(|(place, rest)| format!("\"{place}\": {{{rest}}}")).collect();
    format!("{{\"lockfileVersion\": 3, \"packages\": {{{}}}}}", entries.join(","))
}

#[tokio::test]
async fn one_apps_lock_decides_nothing_for_another() {
    let b = tarball(&[("package.json", r#"{"name": "b", "version": "1.0.0"}"#), ("index.js", "export const b = 'b';")]);
    let registry = Registry::new(&[("a", "1.0.0", "", &[("index.js", "export * from 'b';")])]);
    registry.publish_tarball("b", "1.0.0", "", b.clone());
    let stated = format!(r#""version": "1.0.0", "integrity": "{}""#, integrity(&b));
    let a = r#""version": "1.0.0", "dependencies": {"b": "*"}"#;
    let cache = tempfile::tempdir().unwrap();
    let packages = registry.at(cache.path());
    let manifest = r#"{"dependencies": {"a": "*"}}"#;
    let ask = |b: &str| with_lock(manifest, locked(&[("node_modules/a", a), ("node_modules/b", b)]), &["a"]);
    // Says that `b` comes inside of another tarball, where it is not.
    let hostile = packages.prepare(&ask(&format!(r#"{stated}, "inBundle": true"#))).await.unwrap();
    assert!(hostile.failed.contains_key("a"), "{hostile:?}");
    let honest = packages.prepare(&ask(&stated)).await.unwrap();
    assert!(honest.entries.contains_key("a"), "{:?}", honest.failed);
}

#[tokio::test]
async fn what_a_package_wants_without_stating_it_is_each_apps_own() {
    let registry = Registry::new(&[
        ("a", "1.0.0", "", &[("index.js", "export { c } from 'c';")]),
        ("c", "1.0.0", "", &[("index.js", "export const c = 'good';")]),
        ("evil", "1.0.0", "", &[("index.js", "export const c = 'evil';")]),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let (manifest, version) = (r#"{"dependencies": {"a": "*"}}"#, r#""version": "1.0.0""#);
    let ask = |more: &[(&str, &str)]| {
        let all: Vec<_> = [("node_modules/a", version)].into_iter().chain(more.iter().copied()).collect();
        with_lock(manifest, locked(&all), &["a"])
    };
    let packages = registry.at(cache.path());
    let without = packages.prepare(&ask(&[])).await.unwrap();
    assert!(failure(&without, "a").contains("imports `c`, which is not installed"));
    let evil = ask(&[("node_modules/c", r#""version": "1.0.0", "name": "evil""#)]);
    let evil = packages.prepare(&evil).await.unwrap();
    assert!(code(&evil, "a").contains("evil"));
    let with = ask(&[("node_modules/c", version)]);
    let good = packages.prepare(&with).await.unwrap();
    assert!(good.digest != evil.digest && good.digest != without.digest);
    let whole = |it: &Prepared| {
        it.files.values().map(|it| String::from_utf8_lossy(&it.contents).into_owned()).collect::<String>()
    };
    assert!(whole(&good).contains("'good'") || whole(&good).contains("\"good\""), "{}", whole(&good));
    assert!(!whole(&good).contains("evil"));
    registry.go_down();
    let again = registry.at(cache.path()).prepare(&with).await.unwrap();
    assert_eq!((again.digest, whole(&again)), (good.digest, whole(&good)));
}

#[tokio::test]
async fn what_cannot_be_had_for_now_is_asked_for_again() {
    let registry = Registry::new(&[
        ("a", "1.0.0", "", &[("index.js", "export { c } from 'c';")]),
        ("c", "1.0.0", "", &[("index.js", "export const c = 'good';")]),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let packages = registry.at(cache.path());
    let lock = |c: &str| locked(&[("node_modules/a", r#""version": "1.0.0""#), ("node_modules/c", c)]);
    let manifest = r#"{"dependencies": {"a": "*"}}"#;
    // What is stated of `c` is not what the registry gives, yet.
    let c =
        format!(r#""version": "1.0.0", "integrity": "{}""#, integrity(&tarball(&[("index.js", "export const c = 1")])));
    let asked = with_lock(manifest, lock(&c), &["a"]);
    let failed = packages.prepare(&asked).await.unwrap();
    assert!(failed.failed.contains_key("a"), "{failed:?}");
    registry.publish_tarball("c", "1.0.0", "", tarball(&[("index.js", "export const c = 1")]));
    let mended = packages.prepare(&asked).await.unwrap();
    assert!(mended.entries.contains_key("a") && mended.digest != failed.digest, "{:?}", mended.failed);
}

#[tokio::test]
async fn which_files_the_host_has_is_not_told() {
    let hidden = tempfile::Builder::new().suffix(".unknown").tempfile().unwrap();
    let there = hidden.path().to_str().unwrap();
    let gone = "/overskill-nobody-has-this/x.unknown";
    let relative = format!("{}overskill-nobody-has-this/x.unknown", "../".repeat(40));
    for path in [there, gone, &relative] {
        let registry = Registry::new(&[("a", "1.0.0", "", &[("index.js", &format!("import '{path}';"))])]);
        let cache = tempfile::tempdir().unwrap();
        let asked = request(r#"{"dependencies": {"a": "*"}}"#, &["a"]);
        let problem = failure(&registry.at(cache.path()).prepare(&asked).await.unwrap(), "a");
        assert!(problem.contains("reaches for files outside of packages") && !problem.contains("unknown"), "{problem}");
    }
}

#[tokio::test]
async fn a_file_where_a_folder_is_thought_of_is_no_fault_of_the_machine() {
    let registry = Registry::new(&[("b", "1.0.0", "", &[("index.js", ESM)])]);
    let inner: &[(&str, &str)] = &[("index.js", "export * from 'b';"), ("node_modules", "a file")];
    registry.publish("a", "1.0.0", "", inner);
    registry.publish("d", "1.0.0", "", &[("index.js", "export * from 'b';"), ("node_modules/@x", "a file")]);
    let version = r#""version": "1.0.0", "dependencies": {"b": "*"}"#;
    for name in ["a", "d"] {
        let cache = tempfile::tempdir().unwrap();
        let (outer, nested) = (format!("node_modules/{name}"), format!("node_modules/{name}/node_modules/b"));
        let lock = locked(&[(&outer, version), (&nested, r#""version": "1.0.0""#)]);
        let asked = with_lock(format!(r#"{{"dependencies": {{"{name}": "*"}}}}"#).as_str(), lock, &[name]);
        let prepared = registry.at(cache.path()).prepare(&asked).await.unwrap();
        assert!(prepared.entries.contains_key(name), "{:?}", prepared.failed);
    }
}
