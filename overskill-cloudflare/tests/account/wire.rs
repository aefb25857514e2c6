//! What goes over the wire, against the types of the provider's own SDK (npm `cloudflare`).

use crate::common::{account, emulated, request, request_of, scope};
use overskill_core::{
    Artifact, ArtifactConfig, Changes, DeploymentTarget as _, EnvKey, EnvValue, Fence, FileStore as _, Limits,
    SeededIds, ServerModule,
};
use overskill_http::Multipart;
use overskill_testkit::{cloudflare::CloudflareEmulator, fixtures};
use serde_json::Value;
use std::{
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
    let url = format!("{}/accounts/{}/workers/scripts/{name}", emulator.api_url(), emulator.account());
    let call = http::Request::put(url).header("authorization", format!("Bearer {}", emulator.token()));
    let call = call.header("content-type", form.content_type());
    let answer = emulator.call(call.body(form.into_body()).unwrap()).await.unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
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

    let json = |(_, body): &(String, String)| serde_json::from_str::<Value>(body).unwrap();
    let mut all = Vec::new();
    for form in bodies(&emulator, "PUT", "/dispatch/namespaces/overskill-production/scripts/") {
        all.push(("Upload", part(&form, "metadata")));
    }
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
    assert_eq!(kinds.len(), 12, "{kinds:?}");
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
