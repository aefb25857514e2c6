//! What code finds in its `env`, and who changes that: bindings, variables, handles of versions, files in KV.

use crate::{
    account::{Account, AccountAttack, App, Careless},
    support::{at, engine, env, scope, snapshot},
};
use overskill_cloudflare::PreviewMode;
use overskill_core::{Digest, EnvKey, EnvValue, Handle, PreviewHost as _, Scope, Secret};
use overskill_http::Method;
use serde_json::json;

/// Tells all that it was given, and all that it finds behind that.
const CURIOUS: &str = "export default { async fetch(request, env) {\n  const found = [];\n  \
    for (const [name, it] of Object.entries(env)) {\n    found.push(name, String(it));\n    \
    try { for (const { name } of (await it.list()).keys) found.push(name, await it.get(name)); } catch {}\n    \
    try { found.push(await (await it.getByName('vault').fetch('http://vault/')).text()); } catch {}\n  }\n  \
    return new Response(found.join('\\n'));\n} };\n";

/// Keeps its pages, each with a number that no two have.
const KEEPS: &str = "export default { async fetch(request) {\n  \
    const pages = await caches.open('pages');\n  \
    const kept = await pages.match(request.url);\n  \
    if (kept) return kept;\n  \
    const page = new Response('SECRET ' + crypto.randomUUID(), { headers: { 'cache-control': 'max-age=600' } });\n  \
    await pages.put(request.url, page.clone());\n  \
    return page;\n} };\n";

/// Tells what every cache that it can open has at an address, forgets it, and puts something there.
const RAIDS: &str = "export default { async fetch(request) {\n  \
    const at = new URL(request.url).searchParams.get('at');\n  \
    const told = [];\n  \
    for (const open of [() => caches.default, () => caches.open('pages'), () => caches.open('default')]) {\n    \
    try {\n      \
    const cache = await open();\n      \
    told.push(await (await cache.match(at))?.text());\n      \
    if (await cache.delete(at)) told.push('forgotten');\n      \
    await cache.put(at, new Response('of mallory', { headers: { 'cache-control': 'max-age=600' } }));\n    \
    } catch (error) { told.push(String(error)); }\n  }\n  \
    return new Response(told.join('\\n'));\n} };\n";

pub(crate) const ATTACKS: &[AccountAttack] = &[
    AccountAttack {
        name: "files behind a binding",
        by: "A's code lists and reads all that its bindings lead to",
        without: "binding no code to apps' files",
        weak: Careless::FilesBound,
        run: |it| {
            Box::pin(async move {
                let (id, key) = (it.kv(), format!("app_{}_secret.txt", it.b));
                let (at, token) = (format!("storage/kv/namespaces/{id}/values/{key}"), it.world.emulator.token());
                let put = it.call("PUT", &at, &token, "text/plain", it.secret().into()).await;
                assert_eq!(put["success"], true, "{put}");
                it.deploy(&it.a, &App { server: CURIOUS, ..App::default() }).await.unwrap();
                it.leaks(&it.a, "/").await
            })
        },
    },
    AccountAttack {
        name: "caches of a namespace",
        by: "A's code looks for what B's code keeps of its pages, has it forgotten, and puts pages of its own in their place",
        without: "namespaces whose scripts share no cache",
        weak: Careless::Trusted,
        run: |it| {
            Box::pin(async move {
                let namespace = "workers/dispatch/namespaces/overskill-production";
                let trust = async |trusted: bool| {
                    let body = json!({"name": "overskill-production", "trusted_workers": trusted});
                    it.json("PUT", namespace, &body).await;
                };
                if it.is(Careless::Trusted) {
                    trust(true).await;
                }
                let bank = KEEPS.replace("SECRET", &it.secret());
                it.deploy(&it.b, &App { server: &bank, ..App::default() }).await.unwrap();
                it.deploy(&it.a, &App { server: RAIDS, ..App::default() }).await.unwrap();
                assert_eq!(it.get(&it.b, "/one").await, it.get(&it.b, "/one").await, "it is kept for its owner");
                let raid = |path: &str| format!("/?at={}{path}", it.world.at(&it.b));
                let found = it.get(&it.a, &raid("/one")).await;
                it.get(&it.a, &raid("/two")).await;
                let shown = it.get(&it.b, "/two").await;
                if it.is(Careless::Trusted) {
                    trust(false).await;
                }
                let got = [found.contains(&it.secret()), found.contains("forgotten"), shown.contains("of mallory")];
                assert!(got == [got[0]; 3], "all of it or nothing: {found}, {shown}");
                got[0]
            })
        },
    },
    AccountAttack {
        name: "class of another's script",
        by: "A's artifact asks for a Durable Object of B's script, by name, and for one of its own that is called alike",
        without: "taking classes of the app's own script alone",
        weak: Careless::ForeignClasses,
        run: |it| {
            Box::pin(async move {
                let class = |says: &str| {
                    format!(
                        "import {{ DurableObject }} from 'cloudflare:workers';\n\
                         export class Vault extends DurableObject {{ fetch() {{ return new Response({says:?}); }} }}\n"
                    )
                };
                let bank = class(&it.secret()) + CURIOUS;
                it.deploy(&it.b, &App { server: &bank, objects: "VAULT=Vault", ..App::default() }).await.unwrap();
                assert!(it.leaks(&it.b, "/").await, "it is there for its owner");
                let own = class("of mallory") + CURIOUS;
                for objects in [format!("VAULT=Vault@{}", it.b), "VAULT=Vault".to_owned()] {
                    let app = App { server: &own, objects: &objects, ..App::default() };
                    // That it is refused is fine.
                    if it.deploy(&it.a, &app).await.is_ok() && it.leaks(&it.a, "/").await {
                        return true;
                    }
                }
                false
            })
        },
    },
    AccountAttack {
        name: "name of the platform's",
        by: "A has a variable that says that it is B, under the name of the platform's own",
        without: "keeping such names for the platform",
        weak: Careless::AnyName,
        run: |it| {
            Box::pin(async move {
                let variables = [("OVERSKILL_APP", EnvValue::plain(it.b.clone()))];
                let app = App { server: CURIOUS, variables: &variables, ..App::default() };
                let deployed = it.deploy(&it.a, &app).await;
                deployed.is_ok() && it.get(&it.a, "/").await.contains(&format!("OVERSKILL_APP\n{}", it.b))
            })
        },
    },
    AccountAttack {
        name: "variable of another's version",
        by: "A changes a variable of its own, of a version whose handle is B's",
        without: "refusing handles of other apps",
        weak: Careless::AnyHandle,
        run: |it| {
            Box::pin(async move {
                let bank = deployed(it).await;
                let variable = (EnvKey::parse("API").unwrap(), Some(EnvValue::plain("https://evil.test")));
                let scope = scope_of(it, Careless::AnyHandle);
                let changed = it.target().set_variables(&scope, &Handle::new(bank), &[variable].into()).await;
                assert_eq!(changed.is_ok(), it.is(Careless::AnyHandle), "{changed:?}");
                it.get(&it.b, "/").await.contains("https://evil.test")
            })
        },
    },
    AccountAttack {
        name: "secret of another's version",
        by: "A rotates a secret of its own, of a version whose handle is B's",
        without: "refusing handles of other apps",
        weak: Careless::AnyHandleOfSecrets,
        run: |it| {
            Box::pin(async move {
                let bank = deployed(it).await;
                let scope = scope_of(it, Careless::AnyHandleOfSecrets);
                let secrets = [(EnvKey::parse("KEY").unwrap(), Some(Secret::new("of mallory")))];
                let changed = it.target().rotate_secrets(&scope, &Handle::new(bank), &secrets.into()).await;
                assert_eq!(changed.is_ok(), it.is(Careless::AnyHandleOfSecrets), "{changed:?}");
                it.get(&it.b, "/").await.contains("of mallory")
            })
        },
    },
    AccountAttack {
        name: "file of another's folder",
        by: "the script that serves A's preview out of KV is asked for a file of B's, by its digest and by its whole key",
        without: "binding it to A's folder",
        weak: Careless::OneFolder,
        run: |it| {
            Box::pin(async move {
                let previews = it.world.edge.previews(engine()).mode(PreviewMode::Script(it.world.cf.clone()));
                for (app, text) in [(&it.b, it.secret()), (&it.a, "of mallory".to_owned())] {
                    let files = [("index.html", "<!doctype html><title>x</title>"), ("public/note.txt", text.as_str())];
                    let preview = scope(&format!("{app}/preview"));
                    previews.open(&preview, &snapshot(at(1), &files), &env(1)).await.unwrap();
                }
                assert!(it.leaks(&format!("preview-{}", it.b), "/note.txt").await, "it is there for its owner");
                let script = format!("{}-preview-preview", it.a);
                if it.is(Careless::OneFolder) {
                    let kv = &it.world.emulator.state().kv["overskill-preview"].0;
                    let metadata = json!({"main_module": "viewer.js", "compatibility_date": "2026-10-01", "bindings": [
                        {"type": "kv_namespace", "name": "FILES", "namespace_id": kv}, {"type": "plain_text", "name": "FOLDER", "text": ""},
                    ]});
                    let modules = [
                        ("viewer.js", include_str!("../../workers/viewer.js")),
                        ("files.js", include_str!("../../workers/files.js")),
                    ];
                    it.put("overskill-preview", &script, &metadata, &modules).await;
                }
                let digest = Digest::of(it.secret().as_bytes());
                let folder = format!("preview_{}_preview_", it.b);
                let mut got = false;
                for name in [digest.to_string(), format!("{folder}{digest}"), format!("../{folder}{digest}")] {
                    let named = json!({"digest": name, "type": "text/plain", "status": 200, "cache": "no-store"});
                    got |= asked(it, &script, &named.to_string()).await.contains(&it.secret());
                }
                got
            })
        },
    },
];

/// For whom a change of A's is made: for A, but by somebody careless, who goes by the handle, for B.
fn scope_of(it: &Account, careless: Careless) -> Scope {
    scope(&format!("{}/production", if it.is(careless) { &it.b } else { &it.a }))
}

/// Deploys B with a secret and a variable; its script.
async fn deployed(it: &Account) -> String {
    let variables = [("KEY", EnvValue::sealed(it.secret())), ("API", EnvValue::plain("https://api.bank.test"))];
    let app = App { server: CURIOUS, variables: &variables, ..App::default() };
    it.deploy(&it.b, &app).await.unwrap();
    assert!(it.leaks(&it.b, "/").await, "its own code has it");
    format!("{}-1", it.b)
}

/// What a script of the preview namespace answers, behind a door that no platform has: what the dispatcher lets in is not what
/// is tried here.
async fn asked(it: &Account, script: &str, body: &str) -> String {
    const DOOR: &str = "export default { fetch(request, env) { return env.PREVIEW.get(request.headers.get('x-script')).fetch(request); } };\n";
    const HOST: &str = "door.example.com";
    let emulator = &it.world.emulator;
    if !emulator.state().scripts.contains_key("door") {
        let metadata = json!({"main_module": "door.js", "compatibility_date": "2026-10-01", "bindings": [
            {"type": "dispatch_namespace", "name": "PREVIEW", "namespace": "overskill-preview"},
        ]});
        it.put("", "door", &metadata, &[("door.js", DOOR)]).await;
        let zone = emulator.zone_id("example.com").unwrap();
        let route = json!({"pattern": format!("{HOST}/*"), "script": "door"});
        it.json("POST", &format!("/zones/{zone}/workers/routes"), &route).await;
    }
    let headers = [("x-script", script), ("content-type", "application/json")];
    it.world.ask(Method::Post, &format!("http://{HOST}/"), &headers, body).await.text()
}

#[tokio::test]
async fn no_code_has_another_apps_secrets() {
    crate::account::withstands(ATTACKS).await;
}
