//! The Management API's client against the emulator, which knows nothing of it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod install;
#[path = "../support/mod.rs"]
mod support;

use overskill_core::{
    AppId, Effect, ErrorKind, KeyId, LocalKeys, LocalTokens, Retry, Secret, SystemGrant, SystemIds, SystemScopes,
    TenantGate, TestClock, memory::MemoryAudit,
};
use overskill_http::{Client, Credential, Limiter, Request, Response, Transport, cut_off, transport_fn};
use overskill_supabase::{
    ApiKeyKind, FunctionBundle, KeyState, Management, ProjectRef, SecretName, SigningKey, TokenKeys,
};
use overskill_testkit::{
    postgres::PostgresCluster,
    supabase::{Call, SupabaseEmulator, Trouble},
};
use serde_json::json;
use std::{num::NonZeroU32, sync::Arc, time::Duration};

struct Project {
    emulator: SupabaseEmulator,
    management: Management,
    grant: SystemGrant,
    gate: TenantGate,
    clock: TestClock,
}

fn gate(clock: &TestClock) -> TenantGate {
    let tokens = LocalTokens::new(LocalKeys::generate(KeyId::parse("k1").unwrap()).unwrap());
    TenantGate::new(Arc::new(tokens.validator()), Arc::new(MemoryAudit::new()), Arc::new(clock.clone()))
}

/// Carries requests to the emulator.
fn transport(emulator: &SupabaseEmulator) -> impl Transport + use<> {
    let emulator = emulator.clone();
    transport_fn(move |request: Request| {
        let emulator = emulator.clone();
        async move {
            let mut call = Call::new(request.method.as_str(), request.url.path()).body(request.body);
            call.query.extend(request.url.query_pairs());
            for (name, value) in request.headers.iter() {
                call.headers.insert(name.to_owned(), String::from_utf8_lossy(value).into_owned());
            }
            let Some(answer) = emulator.call(call).await else { return Err(cut_off("the connection ended")) };
            let response = Response::new(answer.status, answer.body);
            answer.headers.iter().try_fold(response, |response, (name, value)| response.with_header(name, value))
        }
    })
}

async fn project(database: Option<String>) -> Project {
    let clock = TestClock::new();
    let emulator = SupabaseEmulator::new(Arc::new(clock.clone()), database);
    let transport = transport(&emulator);
    let limiter = Limiter::new("supabase", Management::quota(), Arc::new(clock.clone())).unwrap();
    let client = Client::builder("supabase", Management::URL)
        .credential(Credential::bearer(emulator.token()))
        .limiter(limiter)
        .transport(transport)
        .clock(clock.clone())
        .max_tries(NonZeroU32::MIN);
    let gate = gate(&clock);
    let grant = gate.system("test", "looks at the project", SystemScopes::All).await.unwrap();
    let project_ref = ProjectRef::parse(emulator.project_ref()).unwrap();
    let management = Management::with(project_ref, client, gate.clone()).unwrap();
    Project { emulator, management, grant, gate, clock }
}

#[tokio::test]
async fn queries_run_on_a_real_database() {
    let url = PostgresCluster::shared().unwrap().fresh_database().unwrap();
    let Project { management, grant, .. } = project(Some(url)).await;
    let run = async |sql: &str, parameters: &[_]| management.query(&grant, sql, parameters).await;
    run("create table t (n int, at date, what jsonb); insert into t values (1, '2026-01-01', '{\"a\":null}')", &[])
        .await
        .unwrap();
    let rows = run("select *, $1::text as said from t where n = $2::int", &[json!("it's"), json!(1)]).await.unwrap();
    let want = json!({ "n": 1, "at": "2026-01-01", "what": { "a": null }, "said": "it's" });
    assert_eq!(serde_json::Value::from(rows[0].clone()), want);
    let e = run("select * from nowhere", &[]).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Invalid, Effect::None));
    assert!(format!("{e}").contains("42P01") && e.public_message() == "The service refused the request.", "{e}");
    let e = management.query_read_only(&grant, "insert into t values (2)", &[]).await.unwrap_err();
    assert!(format!("{e}").contains("25006"), "{e}");
    assert_eq!(management.query_read_only(&grant, "select from t", &[]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn functions_are_deployed_with_their_files() {
    let Project { emulator, management, grant, .. } = project(None).await;
    let bundle = FunctionBundle::new("gateway", "main.ts").unwrap();
    let e = management.deploy_function(&grant, &bundle, &SystemIds).await.unwrap_err();
    assert!(e.message().contains("`main.ts` is not"), "{e}");
    let bundle = bundle.file("main.ts", "import './a/b.ts'").unwrap().file("a/b.ts", "--x\r\n").unwrap();
    let first = management.deploy_function(&grant, &bundle, &SystemIds).await.unwrap();
    assert_eq!((first.version, first.slug.as_str(), first.verify_jwt), (1, "gateway", false));
    // The answer is lost, and it is sent again by whoever asks: the same function, one version further.
    emulator.trouble(Trouble::AnswerLost);
    let e = management.deploy_function(&grant, &bundle, &SystemIds).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::Unknown));
    let third = management.deploy_function(&grant, &bundle, &SystemIds).await.unwrap();
    assert_eq!((third.version, &third.id), (3, &first.id));
    assert_eq!(emulator.function_files("gateway")["a/b.ts"], "--x\r\n");
    assert_eq!(management.functions(&grant).await.unwrap(), [third]);
    management.delete_function(&grant, "gateway").await.unwrap();
    let e = management.delete_function(&grant, "gateway").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::NotFound);
    for bad in ["../x", "/x", "a//b", "a\\b", ""] {
        assert!(FunctionBundle::new("f", bad).is_err(), "{bad}");
    }
    assert!(FunctionBundle::new("1f", "x").is_err() && FunctionBundle::new("", "x").is_err());
}

#[tokio::test]
async fn secrets_are_set_and_never_repeated() {
    let Project { emulator, management, grant, .. } = project(None).await;
    let name = |text: &str| SecretName::parse(text).unwrap();
    management.set_secrets(&grant, &[(name("A"), Secret::new("1")), (name("B"), Secret::new("2"))]).await.unwrap();
    management.set_secrets(&grant, &[(name("B"), Secret::new("3"))]).await.unwrap();
    assert_eq!(management.secrets(&grant).await.unwrap(), ["A", "B"]);
    assert_eq!(emulator.secret("B").as_deref(), Some("3"));
    management.delete_secrets(&grant, &[name("A"), name("C")]).await.unwrap();
    assert_eq!(management.secrets(&grant).await.unwrap(), ["B"]);
    assert!(SecretName::parse("SUPABASE_URL").unwrap_err().to_string().contains("Supabase's own"));
    let e = management.set_secrets(&grant, &[(name("D"), Secret::new("hunter2 ".repeat(10_000)))]).await.unwrap_err();
    assert!(!format!("{e:?}").contains("hunter2"));
    // A server that repeats what it refuses does so to nobody's eyes.
    let many: Vec<_> = (0..101).map(|n| (name(&format!("N{n}")), Secret::new("hunter2"))).collect();
    let e = management.set_secrets(&grant, &many).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Invalid && !format!("{e:?}").contains("hunter2"), "{e:?}");
    assert_eq!(management.secrets(&grant).await.unwrap().len(), 1);
}

#[tokio::test]
async fn api_keys_are_hidden_until_asked_for() {
    let Project { management, grant, .. } = project(None).await;
    let hidden = management.api_keys(&grant, false).await.unwrap();
    let secret = hidden.iter().find(|it| it.kind == Some(ApiKeyKind::Secret)).unwrap();
    assert_eq!(secret.key(), None);
    let shown = management.api_keys(&grant, true).await.unwrap();
    let key = shown.iter().find(|it| it.kind == Some(ApiKeyKind::Secret)).unwrap().key().unwrap();
    assert!(key.expose().starts_with("sb_secret_") && !format!("{shown:?}").contains(key.expose()));
    let made = management.create_api_key(&grant, ApiKeyKind::Publishable, "gateway").await.unwrap();
    assert!(made.key().unwrap().expose().starts_with("sb_publishable_"));
    let e = management.create_api_key(&grant, ApiKeyKind::Publishable, "gateway").await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    management.delete_api_key(&grant, made.id.as_deref().unwrap()).await.unwrap();
    assert_eq!(management.api_keys(&grant, false).await.unwrap().len(), 2);
    assert!(management.create_api_key(&grant, ApiKeyKind::Legacy, "x").await.is_err());
}

#[tokio::test]
async fn a_signing_key_of_ours_becomes_the_projects() {
    let Project { emulator, management, grant, .. } = project(None).await;
    let key = SigningKey::generate(&SystemIds, overskill_core::Timestamp::from_unix_millis(1_767_225_600_000)).unwrap();
    let imported = management.import_signing_key(&grant, &key).await.unwrap();
    assert_eq!((imported.id.as_str(), imported.status), (key.kid(), KeyState::Standby));
    // What the project publishes verifies what we sign, and holds nothing private.
    let published = emulator.jwks();
    assert_eq!(published["keys"][0].get("d"), None);
    assert!(TokenKeys::from_jwks(published.to_string().as_bytes()).is_ok());
    let e = management.import_signing_key(&grant, &key).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Conflict);
    let revoked = management.set_signing_key(&grant, key.kid(), KeyState::Revoked).await.unwrap();
    assert_eq!(revoked.status, KeyState::Revoked);
    assert_eq!(emulator.jwks()["keys"], json!([]));
    assert!(management.set_signing_key(&grant, key.kid(), KeyState::InUse).await.is_err());
    management.delete_signing_key(&grant, key.kid()).await.unwrap();
    assert_eq!(management.signing_keys(&grant).await.unwrap(), []);
    let id = management.trust_jwks(&grant, "https://tokens.example.com/jwks.json").await.unwrap();
    management.distrust(&grant, &id).await.unwrap();
    assert_eq!(management.distrust(&grant, &id).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn advice_and_types_are_passed_on() {
    let Project { emulator, management, grant, .. } = project(None).await;
    emulator.advise(
        "security",
        json!([{ "name": "rls_disabled_in_public", "title": "RLS Disabled in Public", "level": "ERROR" }]),
    );
    let advice = management.security_advice(&grant).await.unwrap();
    assert_eq!((advice[0].name.as_str(), advice[0].level.as_str()), ("rls_disabled_in_public", "ERROR"));
    assert_eq!(management.performance_advice(&grant).await.unwrap(), []);
    emulator.types("export type Database = { a: 1 }");
    assert!(management.typescript_types(&grant, &["public"]).await.unwrap().contains("a: 1"));
}

#[tokio::test]
async fn nobody_calls_more_often_than_the_api_allows() {
    let Project { emulator, management, grant, clock, .. } = project(None).await;
    let calls = async {
        for _ in 0..300 {
            management.functions(&grant).await.unwrap();
        }
    };
    tokio::pin!(calls);
    let mut waits = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut calls => break,
            () = tokio::task::yield_now() => {
                waits += 1;
                clock.advance_to_next_sleeper();
            }
        }
    }
    // The emulator would have answered 429 to the 121st in any minute.
    assert!(emulator.asked().len() == 300 && waits > 100, "{waits}");
}

#[tokio::test]
async fn a_429_says_when_it_is_over() {
    let Project { emulator, management, grant, .. } = project(None).await;
    emulator.trouble(Trouble::Status(429));
    let e = management.functions(&grant).await.unwrap_err();
    assert_eq!((e.kind(), e.retry()), (ErrorKind::RateLimited, Retry::After(Duration::from_mins(1))));
    emulator.trouble(Trouble::Status(500));
}

#[tokio::test]
async fn every_call_wants_a_grant_for_all_apps_of_its_own_gate() {
    let Project { emulator, management, grant, gate: own, clock } = project(None).await;
    let few = own.system("test", "one app", SystemScopes::app(AppId::parse("todo42").unwrap())).await.unwrap();
    let foreign = gate(&clock).system("test", "another platform", SystemScopes::All).await.unwrap();
    let key = SigningKey::generate(&SystemIds, overskill_core::Timestamp::EPOCH).unwrap();
    let bundle = FunctionBundle::new("f", "f.ts").unwrap().file("f.ts", "").unwrap();
    for bad in [&few, &foreign] {
        let denied = [
            management.query(bad, "select 1", &[]).await.err(),
            management.query_read_only(bad, "select 1", &[]).await.err(),
            management.security_advice(bad).await.err(),
            management.performance_advice(bad).await.err(),
            management.typescript_types(bad, &[]).await.err(),
            management.deploy_function(bad, &bundle, &SystemIds).await.err(),
            management.functions(bad).await.err(),
            management.delete_function(bad, "f").await.err(),
            management.set_secrets(bad, &[]).await.err(),
            management.secrets(bad).await.err(),
            management.delete_secrets(bad, &[]).await.err(),
            management.api_keys(bad, true).await.err(),
            management.create_api_key(bad, ApiKeyKind::Secret, "x").await.err(),
            management.delete_api_key(bad, "x").await.err(),
            management.signing_keys(bad).await.err(),
            management.import_signing_key(bad, &key).await.err(),
            management.set_signing_key(bad, "x", KeyState::InUse).await.err(),
            management.delete_signing_key(bad, "x").await.err(),
            management.trust_jwks(bad, "https://x").await.err(),
            management.distrust(bad, "x").await.err(),
        ];
        for (n, denied) in denied.into_iter().enumerate() {
            assert_eq!(denied.map(|e| e.kind()), Some(ErrorKind::Denied), "call {n}");
        }
    }
    assert_eq!(emulator.asked(), []);
    assert!(management.functions(&grant).await.is_ok());
    assert!(ProjectRef::parse("../../v1/organizations").is_err());
}
