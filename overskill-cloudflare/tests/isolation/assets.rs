//! Static assets: the account keeps equal hashes once, so that a hash that can be named is a file that can be read.

use crate::account::{Account, AccountAttack, App, Careless, short};
use overskill_core::{Digest, EnvValue};
use serde_json::json;

/// Serves what it is asked for out of its assets.
const SERVES: &str = "export default { fetch(request, env) {\n  \
    return env.ASSETS.fetch(new URL(request.url).searchParams.get('to') ?? request);\n} };\n";

pub(crate) const ATTACKS: &[AccountAttack] = &[
    AccountAttack {
        name: "asset by the digest of its contents",
        by: "A's session of assets names what B's file is, by digests of its contents, and uploads nothing",
        without: "salting the names of assets",
        weak: Careless::PlainHashes,
        run: |it| {
            Box::pin(async move {
                let text = bank(it).await;
                let named = [Digest::of(text.as_bytes()), Digest::of_parts([text.as_bytes(), b"text/plain"])];
                taken(it, &named.map(short), text.len()).await
            })
        },
    },
    AccountAttack {
        name: "asset by what anybody knows",
        by: "the same, by what the library makes of account, prefix, B's id, type and contents",
        without: "a salt that is a secret",
        weak: Careless::KnownSalt,
        run: |it| {
            Box::pin(async move {
                let text = bank(it).await;
                let account = it.world.emulator.account();
                let no_token = ["overskill asset salt 1", &account, "overskill", ""].map(str::as_bytes);
                let no_token = Digest::of_parts(no_token).to_string();
                let salts = [it.known_salt(), no_token, format!("{account}/overskill"), String::new(), account];
                let named = salts.map(|salt| {
                    let content_type = "text/plain; charset=utf-8";
                    short(Digest::of_parts([
                        b"overskill asset 1".as_slice(),
                        salt.as_bytes(),
                        it.b.as_bytes(),
                        content_type.as_bytes(),
                        Digest::of(text.as_bytes()).as_bytes(),
                    ]))
                });
                taken(it, &named, text.len()).await
            })
        },
    },
    AccountAttack {
        name: "contents by a guess",
        by: "A deploys every guess of what B's file holds, and sees which one needs no upload",
        without: "salting the names of assets for each app",
        weak: Careless::OneSalt,
        run: |it| {
            Box::pin(async move {
                let pin = |n: u32| format!("the pin of {} is {n}", it.b);
                it.deploy(&it.b, &App { files: &[("pin.txt", &pin(4711))], server: SERVES, ..App::default() })
                    .await
                    .unwrap();
                let mut known = Vec::new();
                for n in 4710..=4712 {
                    it.world.emulator.clear_requests();
                    it.deploy(&it.a, &App { files: &[("x.txt", &pin(n))], server: SERVES, ..App::default() })
                        .await
                        .unwrap();
                    let calls = it.world.emulator.requests();
                    if !calls.iter().any(|call| call.path.contains("/workers/assets/upload")) {
                        known.push(n);
                    }
                }
                known == [4711]
            })
        },
    },
    AccountAttack {
        name: "assets of another host",
        by: "A's code asks its binding of assets for an address of B's",
        without: "binding code to its own assets alone",
        weak: Careless::AssetsOfAll,
        run: |it| {
            Box::pin(async move {
                bank(it).await;
                let own = App { files: &[("own.txt", "of mallory")], server: SERVES, ..App::default() };
                it.deploy(&it.a, &own).await.unwrap();
                let mut got = false;
                for path in ["/secret.txt", "/..%2fsecret.txt", "//secret.txt"] {
                    got |= it.leaks(&it.a, &format!("/?to={}{path}", it.world.at(&it.b))).await;
                }
                got
            })
        },
    },
    AccountAttack {
        name: "sealed variable in a page",
        by: "anybody reads what B's page imports, where B's sealed variable is called like a public one",
        without: "leaving sealed variables out of pages",
        weak: Careless::SealedInPages,
        run: |it| {
            Box::pin(async move {
                let variables = [("VITE_TITLE", EnvValue::plain("Bank")), ("VITE_KEY", EnvValue::sealed(it.secret()))];
                let page = App {
                    files: &[("env.js", "export default {};"), ("index.html", "<h1>Bank</h1>")],
                    variables: &variables,
                    page_env: Some("env.js"),
                    server: SERVES,
                    ..App::default()
                };
                it.deploy(&it.b, &page).await.unwrap();
                assert!(it.get(&it.b, "/env.js").await.contains("\"VITE_TITLE\":\"Bank\""));
                it.leaks(&it.b, "/env.js").await
            })
        },
    },
];

/// Deploys B with a file; what that holds.
async fn bank(it: &Account) -> String {
    let text = it.secret();
    let app = App { files: &[("secret.txt", &text)], server: SERVES, ..App::default() };
    it.deploy(&it.b, &app).await.unwrap();
    assert!(it.leaks(&it.b, "/secret.txt").await, "it is there for its owner");
    text
}

/// Whether A's script serves B's file after a session that named it by one of these hashes, and was given nothing else.
async fn taken(it: &Account, hashes: &[String], length: usize) -> bool {
    let (script, nothing) = (format!("{}-9", it.a), vec![0; length]);
    for hash in hashes {
        let (jwt, is_new) = it.session(&script, &[("/stolen.txt", hash.clone(), &nothing)]).await;
        if is_new {
            continue;
        }
        let metadata = json!({
            "main_module": "main.js", "compatibility_date": "2026-10-01", "assets": {"jwt": jwt, "config": {}},
            "bindings": [{"type": "assets", "name": "ASSETS"}],
        });
        it.put("overskill-production", &script, &metadata, &[("main.js", SERVES)]).await;
        it.route(&it.a, &script).await;
        return it.leaks(&it.a, "/stolen.txt").await;
    }
    false
}

/// The provider knows whose session it was: here, as it is emulated.
#[tokio::test]
async fn the_token_of_another_session_brings_nothing() {
    let it = Account::of_the_library().await;
    let text = bank(&it).await;
    let hash = short(Digest::of(b"any"));
    let (theirs, is_new) = it.session(&format!("{}-1", it.b), &[("/secret.txt", hash, text.as_bytes())]).await;
    assert!(is_new);
    let own = it.upload(&format!("{}-9", it.a), &[("/own.txt", short(Digest::of(b"own")), b"own")]).await;
    for (jwt, is_taken) in [(theirs.as_str(), false), ("", false), (own.as_str(), true)] {
        let metadata = json!({
            "main_module": "main.js", "compatibility_date": "2026-10-01", "assets": {"jwt": jwt, "config": {}},
            "bindings": [{"type": "assets", "name": "ASSETS"}],
        });
        let put = it.try_put("overskill-production", &format!("{}-9", it.a), &metadata, &[("main.js", SERVES)]).await;
        assert_eq!(put["success"], is_taken, "{put}");
    }
}

#[tokio::test]
async fn no_app_has_another_apps_assets() {
    crate::account::withstands(ATTACKS).await;
}
