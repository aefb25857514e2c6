//! The platform's own Worker in the account, and customers' domains.

use crate::common::{account, calls, connect, emulated, request};
use bytes::Bytes;
use overskill_cloudflare::{Action, CertificateState, HostnameState, IngestKey, Install, R2Keys, Validation};
use overskill_core::{Changes, DeploymentTarget as _, ErrorKind, Fence, FileStore as _, KeyId, Secret, SeededIds};
use overskill_testkit::{
    cloudflare::CloudflareEmulator,
    fixtures::{path, scope},
};
use serde_json::{Value, json};

pub(crate) fn install() -> Install {
    let key = IngestKey::generate(KeyId::parse("k1").unwrap(), &SeededIds::new(1));
    Install::new(key.to_binding(), "a key for sockets").setting("default_plan", "free")
}

/// What `install` would do for files in R2.
pub(crate) async fn make_bucket(emulator: &CloudflareEmulator) {
    api(emulator, "POST", "r2/buckets", &json!({"name": "overskill-files"})).await;
}

async fn api(emulator: &CloudflareEmulator, method: &str, below: &str, body: &Value) {
    let body = ("application/json".to_owned(), Bytes::from(body.to_string()));
    crate::common::api(emulator, method, below, body).await;
}

#[tokio::test]
async fn it_says_what_it_would_change_changes_that_and_is_done() {
    let emulator = emulated(|options| options);
    let cf = account(&emulator);
    let plan = cf.plan(&install()).await.unwrap();
    assert_eq!(plan.to_string().lines().count(), 15, "{plan}");
    assert!(plan.to_string().contains("create Worker `overskill-dispatch`"), "{plan}");
    assert!(emulator.requests().iter().all(|call| call.method == "GET"), "a plan changes nothing");

    assert_eq!(cf.install(&install()).await.unwrap(), plan);
    assert!(cf.plan(&install()).await.unwrap().is_empty());
    let state = emulator.state();
    let worker = &state.scripts["overskill-dispatch"];
    let bound = |name: &str| worker.bindings.iter().find(|b| b["name"] == name).cloned().unwrap_or_default();
    assert_eq!(worker.text("SOCKET_KEY"), Some("a key for sockets"));
    assert_eq!(bound("SETTINGS")["json"]["domains"], json!(["example.com"]));
    assert_eq!(bound("SETTINGS")["json"]["targets"], json!(["cloudflare"]));
    assert_eq!(bound("SETTINGS")["json"]["default_plan"], "free");
    assert_eq!(bound("STAGING")["namespace"], "overskill-staging");
    assert_eq!(bound("FILES_STAGING")["namespace_id"], state.kv["overskill-staging"].0);
    assert!(worker.classes.iter().any(|class| class == "PreviewRoom"), "{:?}", worker.classes);
    assert_eq!(state.routes["*.example.com/*"].as_deref(), Some("overskill-dispatch"));
    let told = json!({ "service": "overskill-outbound" });
    assert_eq!(bound("STAGING")["outbound"]["worker"], told);
    assert_eq!(bound("STAGING")["outbound"]["params"], json!([{ "name": "scope" }, { "name": "plan" }]));
    assert!(state.scripts.contains_key("overskill-outbound"));
    for name in ["*.example.com", "example.com"] {
        let [record] = &state.records[name][..] else { panic!("{:?}", state.records) };
        assert_eq!((&record["type"], &record["proxied"]), (&json!("AAAA"), &json!(true)));
    }

    emulator.clear_requests();
    assert!(cf.install(&install()).await.unwrap().is_empty());
    assert!(emulator.requests().iter().all(|call| call.method == "GET"), "what is as it should be is left alone");
}

#[tokio::test]
async fn another_key_or_route_is_an_update_of_that_alone() {
    let emulator = emulated(|options| options);
    let cf = account(&emulator);
    cf.install(&install()).await.unwrap();
    let other = install().setting("default_plan", "paid");
    let plan = cf.install(&other).await.unwrap();
    let changed: Vec<_> = plan.changes().iter().map(|c| (c.action, c.name.as_str())).collect();
    assert_eq!(changed, [(Action::Update, "overskill-dispatch")]);
    assert_eq!(emulator.state().scripts["overskill-dispatch"].migration_tag.as_deref(), Some("v1"));
    assert!(cf.plan(&other).await.unwrap().is_empty());

    // A KV namespace that was made again has another id, so the Worker has to be bound anew.
    let kv = emulator.state().kv["overskill-preview"].0.clone();
    api(&emulator, "DELETE", &format!("storage/kv/namespaces/{kv}"), &Value::Null).await;
    let plan = cf.install(&other).await.unwrap();
    assert_eq!(plan.to_string(), "create KV namespace `overskill-preview`\nupdate Worker `overskill-dispatch`");
    assert!(cf.plan(&other).await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_left_after_uninstall() {
    let emulator = emulated(|options| options);
    let cf = account(&emulator);
    cf.install(&install()).await.unwrap();
    let staged = cf.target().stage(&request(1)).await.unwrap();
    cf.target().activate(&request(1), &staged, Fence::from_u64(1)).await.unwrap();
    let changes = Changes::new().put(path("a"), "1");
    cf.files().apply(&scope("todo42/development"), &changes, None).await.unwrap();
    let (id, secret) = emulator.s3_keys(&emulator.token()).unwrap();
    let keys = R2Keys::new(id, Secret::new(secret));
    let r2 = cf.r2_files(&keys).unwrap();
    r2.apply(&scope("todo42/development"), &changes, None).await.unwrap();
    // What is not ours stays.
    api(&emulator, "POST", "storage/kv/namespaces", &json!({"title": "theirs"})).await;

    // The bucket is the last, and holds files: without keys that is said, and everything else is gone.
    let e = cf.uninstall(&install()).await.unwrap_err();
    assert!(e.message().contains("r2_keys"), "{e}");
    let plan = cf.uninstall(&install().r2_keys(keys)).await.unwrap();
    assert_eq!(plan.to_string(), "remove R2 bucket `overskill-files`");
    assert!(plan.changes().iter().all(|change| change.action == Action::Remove), "{plan}");
    let state = emulator.state();
    assert_eq!(state.kv.keys().collect::<Vec<_>>(), ["theirs"]);
    let rest = (state.namespaces.len(), state.scripts.len(), state.buckets.len(), state.routes.len());
    assert_eq!((rest, state.records.len()), ((0, 0, 0, 0), 0));
    assert!(cf.uninstall(&install()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_name_that_leads_somewhere_is_left_alone_and_one_of_ours_is_mended() {
    let emulator = emulated(|options| options);
    let cf = account(&emulator);
    let zone = emulator.zone_id("example.com").unwrap();
    let theirs = json!({"type": "CNAME", "name": "example.com", "content": "site.example.net", "proxied": true});
    api(&emulator, "POST", &format!("/zones/{zone}/dns_records"), &theirs).await;
    // What says nothing of where to go is in nobody's way.
    let text = json!({"type": "TXT", "name": "*.example.com", "content": "v=spf1 -all"});
    api(&emulator, "POST", &format!("/zones/{zone}/dns_records"), &text).await;
    let plan = cf.install(&install()).await.unwrap().to_string();
    assert!(plan.contains("create DNS record `*.example.com`") && !plan.contains("record `example.com`"), "{plan}");
    assert!(cf.plan(&install()).await.unwrap().is_empty());

    let records = emulator.state().records;
    let ours = records["*.example.com"].iter().find(|record| record["type"] == "AAAA").unwrap().clone();
    let at = format!("/zones/{zone}/dns_records/{}", ours["id"].as_str().unwrap());
    api(&emulator, "PATCH", &at, &json!({"proxied": false})).await;
    assert_eq!(cf.install(&install()).await.unwrap().to_string(), "update DNS record `*.example.com`");
    assert!(cf.plan(&install()).await.unwrap().is_empty());

    let gone = cf.uninstall(&install()).await.unwrap().to_string();
    assert!(gone.contains("remove DNS record `*.example.com`"), "{gone}");
    let left: Vec<_> = emulator.state().records.into_values().flatten().map(|record| record["type"].clone()).collect();
    assert_eq!(left, ["TXT", "CNAME"]);
    let plan = cf.plan(&install().without_dns()).await.unwrap().to_string();
    assert!(!plan.contains("DNS"), "{plan}");
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let emulator = emulated(|options| options);
    let e = connect(&emulator).domains::<String>([]).build().unwrap().plan(&install()).await.unwrap_err();
    assert!(e.message().contains("domains must name"), "{e}");
    let bare = overskill_cloudflare::Cloudflare::connect("a", "t").domains(["example.com"]).build().unwrap();
    assert!(bare.install(&install()).await.unwrap_err().message().contains("zone must be named"));
    assert!(bare.hostnames().unwrap_err().message().contains("need a zone"));
}

#[tokio::test]
async fn a_customers_domain_comes_and_goes() {
    let emulator = emulated(|options| options);
    let hostnames = account(&emulator).hostnames().unwrap();
    let made = hostnames.create("www.customer.org").await.unwrap();
    assert_eq!((&made.state, &made.certificate), (&HostnameState::Pending, &CertificateState::Initializing));
    assert!(made.validation.iter().any(|v| matches!(v, Validation::Txt { .. })), "{made:?}");
    assert_eq!(hostnames.create("www.customer.org").await.unwrap(), made, "asked for twice, it is one");
    assert_eq!(calls(&emulator, "POST", "custom_hostnames"), 2);

    emulator.set_hostname("www.customer.org", "active", "pending_validation").await.unwrap();
    assert!(!hostnames.status(&made.id).await.unwrap().unwrap().is_live());
    emulator.set_hostname("www.customer.org", "active", "active").await.unwrap();
    assert!(hostnames.find("www.customer.org").await.unwrap().unwrap().is_live());
    emulator.set_hostname("www.customer.org", "moved", "expired").await.unwrap();
    let moved = hostnames.refresh(&made.id).await.unwrap();
    assert_eq!((moved.state, moved.certificate), (HostnameState::Moved, CertificateState::Expired));

    hostnames.delete(&made.id).await.unwrap();
    hostnames.delete(&made.id).await.unwrap();
    assert_eq!(hostnames.find("www.customer.org").await.unwrap(), None);
    assert_eq!(hostnames.status(&made.id).await.unwrap(), None);
    let e = hostnames.create("apps.example.com").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid, "{e:?}");
}
