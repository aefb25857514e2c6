//! A project is brought to where it should be, from one handle: the database is real, the control API emulated.

use crate::{
    support::{Way, World, key, passwords, scope},
    transport,
};
use overskill_core::{
    AccessToken, ApiMethod, ApiRequest, ApiUpstream as _, AppTokens as _, Clock as _, DataKey, ErrorKind, FilePath,
    KeyId, Right, Rights, SubjectId, SystemClock, SystemIds, SystemScopes, TenantId, Timestamp, memory::MemoryAudit,
};
use overskill_sql::postgres::PostgresOptions;
use overskill_supabase::{
    ContextKeys, KeyState, MembershipKeys, Memberships as _, Placement, Query, SecretName, SigningKey, Supabase,
    SupabaseBuilder, TokenKeys, TrustedIssuer,
};
use overskill_testkit::{TokenWish, supabase::SupabaseEmulator, tokens::TokenMint};
use std::sync::Arc;

fn members() -> MembershipKeys {
    MembershipKeys::new(KeyId::parse("m1").unwrap(), DataKey::from_bytes([7; 32]))
}

/// A database without anything of ours, and a project.
async fn project() -> (World, SupabaseEmulator, impl Fn() -> SupabaseBuilder) {
    let world = World::bare("NOBYPASSRLS").await;
    let emulator = SupabaseEmulator::new(Arc::new(SystemClock), None);
    let key = SigningKey::generate(&SystemIds, SystemClock.now()).unwrap();
    let (url, keys, its) = (world.url(Way::Direct, "host"), world.keys.clone(), emulator.clone());
    let describe = move || {
        Supabase::connect(its.project_ref(), url.as_str())
            .passwords(passwords())
            .contexts(keys.clone())
            .signing_key(key.clone())
            .membership_keys(members())
            .access_token(its.token())
            .transport(transport(&its))
    };
    (world, emulator, describe)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_installed_once_and_then_as_it_should_be() {
    let (world, emulator, describe) = project().await;
    // Each handle has a burst of calls before it has to wait.
    let again = || describe().build().unwrap();
    let supabase = again();
    let gate = supabase.gate(Arc::new(MemoryAudit::new()));
    let grant = gate.system("test", "the first installation", SystemScopes::All).await.unwrap();
    let planned = again().plan(&gate, &grant).await.unwrap();
    for word in [
        "migration 1 (tenants)",
        "memberships",
        "import the key ",
        "overskill_data",
        "private channels",
        "Edge Function `gateway`",
    ] {
        assert_eq!(planned.iter().filter(|change| change.contains(word)).count(), 1, "{word}: {planned}");
    }
    // It changed nothing.
    assert_eq!(again().plan(&gate, &grant).await.unwrap(), planned);
    assert_eq!(again().install(&gate, &grant).await.unwrap(), planned);
    let now = again().plan(&gate, &grant).await.unwrap();
    assert!(now.is_empty() && now.to_string() == "nothing to change", "{now}");
    assert!(again().install(&gate, &grant).await.unwrap().is_empty());

    assert_eq!(emulator.jwks()["keys"][0]["kid"], supabase.issuer().unwrap().jwks()["keys"][0]["kid"]);
    assert!(emulator.function_files("gateway").contains_key("index.ts"));
    let shown = emulator.secret("OVERSKILL_PUBLISHABLE_KEY").unwrap();
    assert!(shown.starts_with("sb_publishable_"), "{shown}");
    assert_eq!(emulator.secret("OVERSKILL_JWKS").unwrap(), supabase.issuer().unwrap().jwks().to_string());

    // An installation that was interrupted before its end goes on there.
    let marks = supabase.management(&gate).unwrap().secrets(&grant).await.unwrap();
    let mark = marks.iter().find(|name| name.starts_with("OVERSKILL_GATEWAY_")).unwrap();
    let mark = SecretName::parse(mark).unwrap();
    supabase.management(&gate).unwrap().delete_secrets(&grant, &[mark]).await.unwrap();
    let left = again().install(&gate, &grant).await.unwrap();
    assert!(left.iter().count() == 1 && left.to_string().contains("Edge Function"), "{left}");

    // What changes is seen: a key of contexts, and a setting of the gateway.
    let both = ContextKeys::new(key("k2", 9)).accept(key("k1", 7));
    let changed = || describe().contexts(both.clone()).issuer("https://tokens.example.com").build().unwrap();
    let planned = changed().plan(&gate, &grant).await.unwrap().to_string();
    assert!(planned.contains("keys of contexts: k1, k2") && planned.contains("Edge Function"), "{planned}");
    changed().install(&gate, &grant).await.unwrap();
    assert!(changed().plan(&gate, &grant).await.unwrap().is_empty());
    let marks = changed().management(&gate).unwrap().secrets(&grant).await.unwrap();
    assert_eq!(marks.iter().filter(|name| name.starts_with("OVERSKILL_GATEWAY_")).count(), 1, "{marks:?}");
    // Channels that no policy is asked about are closed again, unless they are to stay.
    let control = supabase.management(&gate).unwrap();
    assert!(!control.has_public_channels(&grant).await.unwrap());
    control.set_public_channels(&grant, true).await.unwrap();
    assert!(changed().plan(&gate, &grant).await.unwrap().to_string().contains("private channels"));
    let open = describe().public_channels().build().unwrap();
    assert!(!open.plan(&gate, &grant).await.unwrap().to_string().contains("private channels"));
    again().install(&gate, &grant).await.unwrap();
    assert!(!control.has_public_channels(&grant).await.unwrap());
    // So is a wall that fell.
    world.execute("ALTER TABLE storage.objects DISABLE ROW LEVEL SECURITY");
    let fallen = supabase.schema(&gate).pending(&grant, &world.keys).await.unwrap();
    assert!(fallen.iter().any(|it| it.contains("storage.objects does not keep apps apart")), "{fallen:?}");
    assert!(!again().install(&gate, &grant).await.unwrap().is_empty());
    assert!(again().plan(&gate, &grant).await.unwrap().is_empty());
    // Nothing of it without a grant for all apps, of this gate.
    let some = gate.system("test", "one app", SystemScopes::app(scope("one").app)).await.unwrap();
    for grant in [&some, &world.system] {
        assert_eq!(again().plan(&gate, grant).await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(again().install(&gate, grant).await.unwrap_err().kind(), ErrorKind::Denied);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_keys_change_and_no_token_that_lives_is_refused() {
    let (_world, emulator, describe) = project().await;
    let key = || SigningKey::generate(&SystemIds, SystemClock.now()).unwrap();
    let (first_key, new) = (key(), key());
    let first = describe().signing_key(first_key.clone()).build().unwrap();
    let gate = first.gate(Arc::new(MemoryAudit::new()));
    let grant = gate.system("test", "keys change", SystemScopes::All).await.unwrap();
    first.install(&gate, &grant).await.unwrap();
    let issue = async |of: &Supabase| {
        let tokens = of.issuer().unwrap().granted(&gate, &grant);
        tokens.issue(&scope("todo"), None, SystemClock.now()).await.unwrap().0
    };
    let good = async |of: &Supabase, token: &AccessToken| {
        let gate = of.gate(Arc::new(MemoryAudit::new()));
        gate.admit(token, &TenantId::of_app(scope("todo").app)).await.is_ok()
    };
    let published = || {
        let shown = emulator.secret("OVERSKILL_JWKS").unwrap();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let known = emulator.jwks();
        [shown, known]
            .map(|keys| keys["keys"].as_array().unwrap().iter().map(|it| it["kid"].clone()).collect::<Vec<_>>())
    };

    // First everybody knows the new key, then it signs.
    let both = describe().signing_key(first_key.clone()).also_publish(new.clone()).build().unwrap();
    let planned = both.plan(&gate, &grant).await.unwrap().to_string();
    assert!(planned.contains(&format!("import the key {} of apps' tokens", new.kid())), "{planned}");
    both.install(&gate, &grant).await.unwrap();
    assert!(both.plan(&gate, &grant).await.unwrap().is_empty());
    assert!(published().iter().all(|keys| keys == &[first_key.kid(), new.kid()]), "{:?}", published());
    let turned = describe().signing_key(new.clone()).also_publish(first_key.clone()).build().unwrap();
    turned.install(&gate, &grant).await.unwrap();
    let (before, after) = (issue(&both).await, issue(&turned).await);
    for handle in [&both, &turned] {
        assert!(good(handle, &before).await && good(handle, &after).await);
    }
    // What those before do not know is refused, and so is what those after have forgotten.
    let last = describe().signing_key(new.clone()).build().unwrap();
    assert!(!good(&first, &after).await && !good(&last, &before).await && good(&last, &after).await);
    last.install(&gate, &grant).await.unwrap();
    assert_eq!(published()[0], [new.kid()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_project_has_otherwise_is_not_taken_for_ours() {
    let (_world, _, describe) = project().await;
    let ours = SigningKey::generate(&SystemIds, SystemClock.now()).unwrap();
    let supabase = describe().signing_key(ours.clone()).build().unwrap();
    let gate = supabase.gate(Arc::new(MemoryAudit::new()));
    let grant = gate.system("test", "an installation", SystemScopes::All).await.unwrap();
    supabase.install(&gate, &grant).await.unwrap();
    let control = supabase.management(&gate).unwrap();
    let refused = async |supabase: &Supabase, word: &str| {
        let planned = supabase.plan(&gate, &grant).await.unwrap_err();
        let installed = supabase.install(&gate, &grant).await.unwrap_err();
        for e in [planned, installed] {
            assert!(e.kind() == ErrorKind::Conflict && e.message().contains(word), "{e}");
            assert!(e.message().contains(ours.kid()), "{e}");
        }
    };
    // By the same id, with other bits: its tokens would be refused, and nobody would know why.
    let other = SigningKey::generate(&SystemIds, SystemClock.now()).unwrap();
    let posing = SigningKey::from_pkcs8(ours.kid(), &other.to_pkcs8()).unwrap();
    refused(&describe().signing_key(posing.clone()).build().unwrap(), "another signing key").await;
    refused(&describe().also_publish(posing).build().unwrap(), "another signing key").await;
    assert!(supabase.plan(&gate, &grant).await.unwrap().is_empty());
    let revoked = control.set_signing_key(&grant, ours.kid(), KeyState::Revoked).await.unwrap();
    assert_eq!(revoked.status, KeyState::Revoked);
    refused(&supabase, "has revoked").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_from_one_handle() {
    let (world, _, describe) = project().await;
    let mint = TokenMint::new("https://developers.example.com", "authenticated");
    let keys = TokenKeys::from_jwks(mint.jwks().to_string().as_bytes()).unwrap();
    let supabase = describe().trust(TrustedIssuer::apps("https://developers.example.com", keys)).build().unwrap();
    let audit = Arc::new(MemoryAudit::new());
    let gate = supabase.gate(audit.clone());
    let grant = gate.system("test", "the first installation", SystemScopes::All).await.unwrap();
    supabase.install(&gate, &grant).await.unwrap();

    // An app's user: a token of the issuer, a record through the API.
    let issuer = supabase.issuer().unwrap().granted(&gate, &grant);
    let issue = async || {
        let ada = SubjectId::parse("ada").unwrap();
        issuer.issue(&scope("todo"), Some(ada), SystemClock.now()).await.unwrap().0
    };
    let (token, leaked) = (issue().await, issue().await);
    let api = supabase.entities(&gate);
    assert!(api.check().await.unwrap().is_ready());
    let path = || FilePath::parse("entities/Task").unwrap();
    let request = ApiRequest::new(scope("todo"), token.clone(), ApiMethod::Post, path())
        .body("application/json", r#"{"id":"t1"}"#);
    let answer = api.call(&request).await.unwrap();
    assert_eq!(answer.status, 201, "{answer:?}");
    let other = ApiRequest::new(scope("shop"), token.clone(), ApiMethod::Get, path());
    assert_eq!(api.call(&other).await.unwrap().status, 401);

    // One of two tokens of the same user leaked: it ends, here and for the database, and the other goes on.
    let opened = async |token: &AccessToken| {
        let list = api.call(&ApiRequest::new(scope("todo"), token.clone(), ApiMethod::Get, path())).await.unwrap();
        let claims = token.expose().split('.').nth(1).unwrap();
        let client = world.raw(Way::Direct, "postgres").await;
        let context = "SELECT set_config('request.jwt.claims', convert_from(decode(rpad(translate($1, '-_', '+/'), \
            (length($1) + 3) / 4 * 4, '='), 'base64'), 'UTF8'), false)";
        client.query_one(context, &[&claims]).await.unwrap();
        let app = client.query_one("SELECT overskill_guard.app() IS NOT NULL", &[]).await.unwrap();
        (list.status, app.get::<_, bool>(0))
    };
    assert_eq!((opened(&leaked).await, opened(&token).await), ((200, true), (200, true)));
    let e = supabase.revoke(&gate, &world.system, &leaked).await.unwrap_err();
    assert_eq!((e.kind(), opened(&leaked).await), (ErrorKind::Denied, (200, true)));
    supabase.revoke(&gate, &grant, &leaked).await.unwrap();
    assert_eq!((opened(&leaked).await, opened(&token).await), ((401, false), (200, true)));

    // The same in a transaction, and in a developer's query.
    let tenant = TenantId::of_app(scope("todo").app);
    let user = gate.admit(&token, &tenant).await.unwrap();
    let count = "SELECT count(*) FROM overskill_data.entities";
    let seen = supabase
        .tenants(&gate)
        .with_tenant(&user, &scope("todo"), async |tx| Ok(tx.query_opt(count, &[]).await?.map(|row| row.get(0))))
        .await
        .unwrap();
    assert_eq!(seen, Some(1_i64));
    let dev = SubjectId::parse("dev").unwrap();
    let token = mint.access_token(&TokenWish::new(tenant.clone(), dev.clone(), SystemClock.now()).rights("develop"));
    let developer = gate.admit(&token, &tenant).await.unwrap();
    let (explorer, query) = (supabase.explorer(&gate, audit).unwrap(), Query::new("SELECT id FROM Task"));
    assert_eq!(explorer.table(&developer, &scope("todo"), &query).await.unwrap().rows, [["t1"]]);
    let token = mint.access_token(&TokenWish::new(tenant.clone(), dev.clone(), SystemClock.now()));
    let owner = gate.admit(&token, &tenant).await.unwrap();
    let e = explorer.table(&user, &scope("todo"), &query).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Denied, "a user is no developer");
    let row = members().attest(dev.clone(), tenant, Rights::of([Right::Develop]), Timestamp::EPOCH);
    supabase.memberships().unwrap().put(&gate, &grant, &row).await.unwrap();
    assert_eq!(supabase.memberships().unwrap().find(&dev, &scope("todo").app).await.unwrap(), Some(row));

    // Its tables, and where they are.
    let changes = supabase.editor(&gate).history(&owner, &scope("todo"), None).await.unwrap();
    assert_eq!(changes.len(), 0, "nobody changed them");
    let seen = supabase.inspector(&gate).inspect(&owner, &scope("todo")).await.unwrap();
    assert!(format!("{seen:?}").contains("Task"), "{seen:?}");
    assert_eq!(supabase.mover(&gate).placement(&grant, &scope("todo")).await.unwrap(), Placement::Shared);

    // The platform's own.
    let stores = supabase.records(&gate, &grant, PostgresOptions::new()).await.unwrap();
    assert!(stores.check().await.unwrap().is_ready());
    stores.close().await.unwrap();
    assert_eq!(supabase.management(&gate).unwrap().functions(&grant).await.unwrap()[0].slug, supabase.gateway().slug());
}
