//! The platform's own Worker in the account, and customers' domains.

use crate::{
    common::{account, calls, connect, emulated, held, request, send},
    support::{at, engine, env, snapshot},
    world::World,
};
use bytes::Bytes;
use overskill_cloudflare::{
    Action, CertificateState, Cloudflare, HostnameState, IngestKey, Install, PreviewMode, R2Keys, Validation,
};
use overskill_core::{
    BackendName, Changes, DeploymentTarget as _, ErrorKind, Fence, FileStore as _, Handle, KeyId, PreviewHost as _,
    PreviewStatus, Route, RouteTable as _, Secret, SeededIds,
};
use overskill_http::{Method, Multipart, Request, transport_fn};
use overskill_testkit::{
    cloudflare::{CloudflareEmulator, Snapshot},
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
async fn another_key_or_binding_is_an_update_of_that_alone() {
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

/// The keys of the account's bucket.
pub(crate) fn r2_keys(emulator: &CloudflareEmulator) -> R2Keys {
    let (id, secret) = emulator.s3_keys(&emulator.token()).unwrap();
    R2Keys::new(id, Secret::new(secret))
}

/// Uses an account: a version, files in KV and R2, and customers' domains.
pub(crate) async fn fill(emulator: &CloudflareEmulator, cf: &Cloudflare, hostnames: usize) {
    let staged = cf.target().stage(&request(1)).await.unwrap();
    cf.target().activate(&request(1), &staged, Fence::from_u64(1)).await.unwrap();
    let changes = Changes::new().put(path("a"), "1").put(path("b"), "2");
    cf.files().apply(&scope("todo42/development"), &changes, None).await.unwrap();
    cf.r2_files(&r2_keys(emulator)).unwrap().apply(&scope("todo42/staging"), &changes, None).await.unwrap();
    for n in 0..hostnames {
        cf.hostnames().unwrap().create(&format!("shop{n}.customer.org")).await.unwrap();
    }
}

/// What somebody else has in the account and in the zone, under names that resemble ours.
pub(crate) async fn strangers(emulator: &CloudflareEmulator) {
    let zone = emulator.zone_id("example.com").unwrap();
    let zone = |below: &str| format!("/zones/{zone}/{below}");
    for title in ["theirs", "overskill", "overskill-production-2"] {
        api(emulator, "POST", "storage/kv/namespaces", &json!({"title": title})).await;
        api(emulator, "POST", "workers/dispatch/namespaces", &json!({"name": title})).await;
        api(emulator, "POST", "r2/buckets", &json!({"name": title})).await;
    }
    let kv = emulator.state().kv["theirs"].0.clone();
    api(emulator, "PUT", &format!("storage/kv/namespaces/{kv}/values/hostname_shop0.customer.org"), &json!(1)).await;
    for script in ["site", "overskill-dispatch-2"] {
        for at in [format!("workers/scripts/{script}"), format!("workers/dispatch/namespaces/theirs/scripts/{script}")]
        {
            put_script(emulator, &at).await;
        }
    }
    let route = json!({"pattern": "shop.example.com/*", "script": "site"});
    api(emulator, "POST", &zone("workers/routes"), &route).await;
    for (kind, name, content) in [("AAAA", "shop.example.com", "100::"), ("TXT", "example.com", "v=spf1 -all")] {
        let record = json!({"type": kind, "name": name, "content": content, "proxied": kind == "AAAA"});
        api(emulator, "POST", &zone("dns_records"), &record).await;
    }
    api(emulator, "PUT", &zone("custom_hostnames/fallback_origin"), &json!({"origin": "shop.example.com"})).await;
    for n in 0..3 {
        let hostname = json!({"hostname": format!("shop{n}.stranger.org"), "ssl": {"method": "http", "type": "dv"}});
        api(emulator, "POST", &zone("custom_hostnames"), &hostname).await;
    }
}

async fn put_script(emulator: &CloudflareEmulator, at: &str) {
    let metadata = json!({"main_module": "a.js", "compatibility_date": "2026-10-01"}).to_string();
    let form = Multipart::new(&SeededIds::new(1)).text("metadata", "application/json", metadata);
    let code = "export default { fetch() { return new Response('theirs'); } };";
    let form = form.and_then(|form| form.file("a.js", "a.js", "application/javascript+module", code)).unwrap();
    crate::common::api(emulator, "PUT", at, (form.content_type(), form.into_body())).await;
}

#[tokio::test]
async fn nothing_is_left_after_uninstall() {
    let world = World::with(Install::customer_hostnames).await;
    let (emulator, cf) = (&world.emulator, &world.cf);
    // More than a page of a listing.
    fill(emulator, cf, 60).await;
    let (shared, todo) = (world.edge.previews(engine()), scope("todo42/preview"));
    let script = world.edge.previews(engine()).mode(PreviewMode::Script(cf.clone()));
    let files = [("index.html", "<!doctype html><html><head></head><body>hi</body></html>"), ("public/note.txt", "n")];
    script.open(&todo, &snapshot(at(1), &files), &env(1)).await.unwrap();
    shared.open(&scope("shared/preview"), &snapshot(at(1), &files), &env(1)).await.unwrap();
    let handle = Handle::new("todo42-1");
    let name = BackendName::parse("cloudflare").unwrap();
    let route = Route::new(name, crate::common::id(1), handle, Fence::from_u64(1));
    world.edge.routes().set(&crate::common::scope(), &route).await.unwrap();
    let full = held(emulator);
    for (what, things) in full.as_object().unwrap().iter().filter(|(what, _)| *what != "assets") {
        assert!(things.as_object().is_some_and(|things| !things.is_empty()), "{what}: {full}");
    }
    assert_eq!(emulator.state().hostnames.len(), 60);

    // The bucket is the last, and holds files: without keys that is said, and everything else is gone.
    // That customers' hostnames were served is seen.
    let e = cf.uninstall(&install()).await.unwrap_err();
    assert!(e.message().contains("r2_keys"), "{e}");
    let plan = cf.uninstall(&install().r2_keys(r2_keys(emulator))).await.unwrap();
    assert_eq!(plan.to_string(), "remove R2 bucket `overskill-files`");
    assert_eq!(held(emulator), serde_json::to_value(Snapshot::default()).unwrap());
    assert!(cf.uninstall(&install()).await.unwrap().is_empty());

    // Nor does anything that Durable Objects kept come back.
    cf.install(&Install::new(world.key.to_binding(), "a key for sockets")).await.unwrap();
    assert_eq!(world.edge.routes().get(&crate::common::scope()).await.unwrap(), None);
    assert_eq!(world.edge.routes().fence(&crate::common::scope()).await.unwrap(), Fence::ZERO);
    for at in ["todo42/preview", "shared/preview"] {
        assert_eq!(world.edge.previews(engine()).status(&scope(at)).await.unwrap(), PreviewStatus::Closed, "{at}");
    }
}

#[tokio::test]
async fn what_a_stranger_has_survives_an_installation_and_its_end() {
    let emulator = emulated(|options| options);
    strangers(&emulator).await;
    let before = held(&emulator);
    let cf = account(&emulator);
    cf.install(&install()).await.unwrap();
    fill(&emulator, &cf, 2).await;
    // Asked for a name that is there, we answer how it stands; it is no more ours than before.
    let theirs = cf.hostnames().unwrap().create("shop1.stranger.org").await.unwrap();
    assert_eq!(cf.hostnames().unwrap().find("shop1.stranger.org").await.unwrap(), Some(theirs));
    // A name that somebody made after ours of that name was let go is theirs.
    let let_go = cf.hostnames().unwrap().create("late.stranger.org").await.unwrap();
    cf.hostnames().unwrap().delete(&let_go.id).await.unwrap();
    let zone = emulator.zone_id("example.com").unwrap();
    let late = json!({"hostname": "late.stranger.org", "ssl": {"method": "http", "type": "dv"}});
    api(&emulator, "POST", &format!("/zones/{zone}/custom_hostnames"), &late).await;
    assert_eq!(emulator.state().hostnames.len(), 3 + 2 + 1);

    let plan = cf.uninstall(&install().r2_keys(r2_keys(&emulator))).await.unwrap();
    let gone: Vec<_> = plan.changes().iter().filter(|c| c.what == "custom hostname").map(|c| c.name.clone()).collect();
    assert_eq!(gone.len(), 2, "{plan}");
    assert!(plan.changes().iter().all(|change| change.action == Action::Remove), "{plan}");
    let mut left = held(&emulator);
    assert!(left["hostnames"].as_object_mut().unwrap().remove("late.stranger.org").is_some());
    assert_eq!(left, before);
}

/// A Worker of one of our names that no installation made, and what leads to it.
#[tokio::test]
async fn a_worker_of_our_name_that_is_a_strangers_is_neither_taken_nor_removed() {
    for name in ["overskill-dispatch", "overskill-outbound"] {
        let emulator = emulated(|options| options);
        let zone = emulator.zone_id("example.com").unwrap();
        put_script(&emulator, &format!("workers/scripts/{name}")).await;
        let route = json!({"pattern": "old.example.com/*", "script": name});
        api(&emulator, "POST", &format!("/zones/{zone}/workers/routes"), &route).await;
        let (before, cf) = (held(&emulator), account(&emulator));
        let refused = [
            cf.plan(&install()).await.unwrap_err(),
            cf.install(&install()).await.unwrap_err(),
            cf.uninstall(&install()).await.unwrap_err(),
        ];
        for e in refused {
            assert!(e.kind() == ErrorKind::Conflict && e.message().contains(&format!("Worker `{name}`")), "{e}");
            assert!(e.message().contains("rename or remove it") && e.message().contains("::prefix`"), "{e}");
        }
        assert_eq!(held(&emulator), before, "{name}");
        if name == "overskill-outbound" {
            // It is in nobody's way where code may fetch what it likes, and stays.
            cf.install(&install().without_outbound()).await.unwrap();
            cf.uninstall(&install().without_outbound()).await.unwrap();
            assert_eq!(held(&emulator), before);
        }
        let other = connect(&emulator).prefix("acme").build().unwrap();
        other.install(&install()).await.unwrap();
        assert!(other.plan(&install()).await.unwrap().is_empty(), "the remedy");
        other.uninstall(&install()).await.unwrap();
        assert_eq!(held(&emulator), before);
    }
}

#[tokio::test]
async fn a_route_that_is_a_strangers_is_neither_taken_nor_removed() {
    for (pattern, to, said) in
        [("*.example.com/*", json!("site"), "`site`"), ("example.com/*", Value::Null, "no Worker")]
    {
        let emulator = emulated(|options| options);
        let zone = emulator.zone_id("example.com").unwrap();
        put_script(&emulator, "workers/scripts/site").await;
        let route = json!({"pattern": pattern, "script": to});
        api(&emulator, "POST", &format!("/zones/{zone}/workers/routes"), &route).await;
        let (before, cf) = (held(&emulator), account(&emulator));
        for e in [cf.plan(&install()).await.unwrap_err(), cf.install(&install()).await.unwrap_err()] {
            assert!(e.kind() == ErrorKind::Conflict && e.message().contains(&format!("route `{pattern}`")), "{e}");
            assert!(e.message().contains(said) && e.message().contains("remove it"), "{e}");
        }
        assert!(cf.uninstall(&install()).await.unwrap().is_empty());
        assert_eq!(held(&emulator), before, "{pattern}");
    }
}

/// What was free when it was looked at, and is not when it is taken.
#[tokio::test]
async fn a_route_that_a_stranger_took_meanwhile_is_not_ours() {
    let emulator = emulated(|options| options);
    put_script(&emulator, "workers/scripts/site").await;
    let stranger = emulator.clone();
    let way = transport_fn(move |request: Request| {
        let emulator = stranger.clone();
        async move {
            let taken = emulator.state().routes.contains_key("example.com/*");
            if request.method == Method::Post && request.url.expose().ends_with("/workers/routes") && !taken {
                let zone = emulator.zone_id("example.com").unwrap();
                let route = json!({"pattern": "example.com/*", "script": "site"});
                api(&emulator, "POST", &format!("/zones/{zone}/workers/routes"), &route).await;
            }
            send(&emulator, request).await
        }
    });
    let e = connect(&emulator).transport(way).build().unwrap().install(&install()).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Conflict && e.message().contains("route `example.com/*`"), "{e}");
    assert!(e.message().contains("`site`"), "{e}");
    assert_eq!(emulator.state().routes["example.com/*"].as_deref(), Some("site"));
    // What was made until then is ours, and goes.
    let gone = account(&emulator).uninstall(&install()).await.unwrap();
    assert!(gone.changes().iter().any(|change| change.name == "overskill-dispatch"), "{gone}");
    assert_eq!(emulator.state().routes.len(), 1);
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
async fn a_domain_that_was_dropped_leaves_no_record() {
    let emulator = emulated(|options| options);
    let zone = emulator.zone_id("example.com").unwrap();
    let many: Vec<String> = (0..60).map(|n| format!("d{n}.example.com")).collect();
    let at = |domains: &[String]| connect(&emulator).domains(domains.to_vec()).build().unwrap();
    at(&many).install(&install()).await.unwrap();
    // Somebody else's, of another platform, or with a note that resembles ours.
    for (name, comment) in [("a", Value::Null), ("b", json!("another: apps are served by its Worker"))] {
        let record =
            json!({"type": "AAAA", "name": format!("{name}.example.com"), "content": "100::", "comment": comment});
        api(&emulator, "POST", &format!("/zones/{zone}/dns_records"), &record).await;
    }
    assert_eq!(emulator.state().records.len(), 2 * 60 + 2);
    let plan = at(&many[..1]).uninstall(&install()).await.unwrap();
    assert_eq!(plan.changes().iter().filter(|change| change.what == "DNS record").count(), 2 * 60, "{plan}");
    assert_eq!(emulator.state().records.into_keys().collect::<Vec<_>>(), ["a.example.com", "b.example.com"]);
    assert!(emulator.state().routes.is_empty());
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let emulator = emulated(|options| options);
    let e = connect(&emulator).domains::<String>([]).build().unwrap().plan(&install()).await.unwrap_err();
    assert!(e.message().contains("domains must name"), "{e}");
    let bare = overskill_cloudflare::Cloudflare::connect("a", "t").domains(["example.com"]).build().unwrap();
    assert!(bare.install(&install()).await.unwrap_err().message().contains("zone must be named"));
    assert!(bare.hostnames().unwrap_err().message().contains("need a zone"));
    for name in ["domains", "targets", "outbound"] {
        let e = account(&emulator).install(&install().setting(name, json!(["theirs"]))).await.unwrap_err();
        assert!(e.kind() == ErrorKind::Invalid && e.message().contains(&format!("`{name}`")), "{e}");
    }
    assert!(emulator.state().scripts.is_empty());
}

#[tokio::test]
async fn what_customers_hostnames_take_is_planned_made_and_mended() {
    let emulator = emulated(|options| options);
    let (cf, all) = (account(&emulator), install().customer_hostnames());
    cf.install(&install()).await.unwrap();
    assert_eq!(
        emulator.state().fallback_origins.len() + emulator.state().routes.len(),
        2,
        "not unless it is asked for"
    );
    let plan = cf.plan(&all).await.unwrap();
    let made = "create DNS record `overskill-customers.example.com`\n\
                create route `*/*`\ncreate fallback origin `overskill-customers.example.com`";
    assert_eq!(plan.to_string(), made);
    assert_eq!(cf.install(&all).await.unwrap(), plan);
    assert!(cf.plan(&all).await.unwrap().is_empty());
    // The first of the domains is another one.
    let moved = connect(&emulator).domains(["apps.example.com", "example.com"]).build().unwrap();
    let plan = moved.install(&all).await.unwrap().to_string();
    assert!(plan.contains("update fallback origin `overskill-customers.apps.example.com`"), "{plan}");
    assert!(moved.plan(&all).await.unwrap().is_empty());
    let gone = moved.uninstall(&all).await.unwrap().to_string();
    assert!(gone.contains("remove fallback origin `overskill-customers.apps.example.com`"), "{gone}");
    assert_eq!(held(&emulator), serde_json::to_value(Snapshot::default()).unwrap());
}

#[tokio::test]
async fn what_a_stranger_needs_for_hostnames_is_not_taken() {
    let emulator = emulated(|options| options);
    let zone = emulator.zone_id("example.com").unwrap();
    put_script(&emulator, "workers/scripts/site").await;
    let (cf, all) = (account(&emulator), install().customer_hostnames());
    let refused = async |word: &str| {
        let before = held(&emulator);
        for e in [cf.plan(&all).await.unwrap_err(), cf.install(&all).await.unwrap_err()] {
            assert!(e.kind() == ErrorKind::Conflict && e.message().contains(word), "{e}");
        }
        assert_eq!(held(&emulator), before);
        // What is none of its business, an installation without does not mind.
        cf.install(&install()).await.unwrap();
        cf.uninstall(&install()).await.unwrap();
        assert_eq!(held(&emulator), before);
    };
    let at = format!("/zones/{zone}/custom_hostnames/fallback_origin");
    api(&emulator, "PUT", &at, &json!({"origin": "shop.example.com"})).await;
    refused("`shop.example.com`").await;
    api(&emulator, "DELETE", &at, &Value::Null).await;
    let route = json!({"pattern": "*/*", "script": "site"});
    api(&emulator, "POST", &format!("/zones/{zone}/workers/routes"), &route).await;
    refused("`site`").await;
}

#[tokio::test]
async fn a_customer_sees_an_app_under_a_domain_of_the_customers_own() {
    let world = World::start().await;
    let (staged, name) = (world.target().stage(&request(1)).await.unwrap(), "www.customer.org");
    let handle = world.target().activate(&request(1), &staged, Fence::from_u64(1)).await.unwrap();
    let backend = BackendName::parse("cloudflare").unwrap();
    let route = Route::new(backend, crate::common::id(1), handle, Fence::from_u64(1));
    world.edge.routes().set(&crate::common::scope(), &route).await.unwrap();
    world.edge.routes().connect_host(name, Some(&crate::common::scope())).await.unwrap();
    world.cf.hostnames().unwrap().create(name).await.unwrap();
    world.emulator.set_hostname(name, "active", "active").await.unwrap();
    let at = |host: &str| format!("{}/", world.base.replace("apps.localhost", host));
    let app = world.ask(Method::Get, &at("todo42.apps.localhost"), &[], "").await;
    assert_eq!(app.status, 200, "{app:?}");
    let nowhere = world.ask(Method::Get, &at(name), &[], "").await;
    assert_eq!(nowhere.status, 530, "nothing leads from a customer's domain to the Worker");

    let install = Install::new(world.key.to_binding(), "a key for sockets");
    world.cf.install(&install.customer_hostnames()).await.unwrap();
    let page = world.ask(Method::Get, &at(name), &[], "").await;
    assert_eq!((page.status, &page.body), (200, &app.body), "{page:?}");
    let other = world.ask(Method::Get, &at("www.elsewhere.org"), &[], "").await;
    assert_eq!(other.status, 530, "whose name was never taken in");
}

#[tokio::test]
async fn a_customers_domain_comes_and_goes() {
    let emulator = emulated(|options| options);
    let hostnames = account(&emulator).hostnames().unwrap();
    let made = hostnames.create("www.customer.org").await.unwrap();
    assert_eq!((&made.state, &made.certificate), (&HostnameState::Pending, &CertificateState::Initializing));
    assert!(made.validation.iter().any(|v| matches!(v, Validation::Txt { .. })), "{made:?}");
    assert_eq!(hostnames.create("www.customer.org").await.unwrap(), made, "asked for twice, it is one");
    assert_eq!(calls(&emulator, "POST", "custom_hostnames"), 1);

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
