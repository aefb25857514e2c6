//! The suite of every validator, for tokens of apps and for tokens of users.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use overskill_core::{
    DataKey, KeyId, Rights, Secret, SystemClock, SystemGrant, SystemScopes, TenantGate, TenantId, Timestamp,
    memory::MemoryAudit,
};
use overskill_http::{Client, Request, Response, not_sent, transport_fn};
use overskill_supabase::{
    Jwks, KeySource, MembershipKeys, MemoryMemberships, SupabaseValidator, TokenKeys, TrustedIssuer,
};
use overskill_testkit::{
    Flaw, TenantValidatorFixture, TokenAlgorithm, TokenClaim, TokenSource, TokenWish, tokens::TokenMint,
};
use serde_json::{Map, json};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

const ISSUER: &str = "https://ref.supabase.co/auth/v1";
const ACCEPTED: [TokenAlgorithm; 3] = [TokenAlgorithm::Es256, TokenAlgorithm::Rs256, TokenAlgorithm::EdDsa];

/// The mint's public keys where an issuer publishes them, or nothing at all.
fn published(body: Option<String>) -> Jwks {
    let transport = transport_fn(move |_: Request| {
        let body = body.clone();
        async move { body.map(|it| Response::new(200, it)).ok_or_else(|| not_sent("the network is down")) }
    });
    let client = Client::builder("jwks", "https://ref.supabase.co").transport(transport);
    let client = client.max_tries(NonZeroU32::MIN).build().unwrap();
    Jwks::new(client, Jwks::SUPABASE_PATH, Arc::new(SystemClock))
}

fn keys(mint: &TokenMint) -> KeySource {
    published(Some(mint.jwks_of(&ACCEPTED).to_string())).into()
}

fn attesting() -> MembershipKeys {
    MembershipKeys::new(KeyId::parse("m1").unwrap(), DataKey::from_bytes([7; 32]))
}

/// Who writes memberships.
async fn host(validator: Arc<SupabaseValidator>) -> (TenantGate, SystemGrant) {
    let gate = TenantGate::new(validator, Arc::new(MemoryAudit::new()), Arc::new(SystemClock));
    let grant = gate.system("test", "writes memberships", SystemScopes::All).await.unwrap();
    (gate, grant)
}

fn apps() -> TenantValidatorFixture {
    let mint = TokenMint::new(ISSUER, "authenticated");
    let validator = |keys: KeySource| {
        Arc::new(SupabaseValidator::builder().trust(TrustedIssuer::apps(ISSUER, keys)).build().unwrap())
    };
    let source = TokenSource::new({
        let mint = mint.clone();
        move |wish| Some(mint.mint(wish))
    });
    let source = source.accepts(ACCEPTED).undecided(validator(published(None).into()));
    TenantValidatorFixture::with(validator(keys(&mint)), source)
}

/// The same, where a membership has to attest the token.
async fn attested() -> TenantValidatorFixture {
    let mint = TokenMint::new(ISSUER, "authenticated");
    let rows = MemoryMemberships::new();
    let validator = |keys: KeySource, rows: MemoryMemberships| {
        let issuer = TrustedIssuer::apps(ISSUER, keys).attested();
        Arc::new(SupabaseValidator::builder().trust(issuer).memberships(attesting(), rows).build().unwrap())
    };
    let (sound, unreachable) = (validator(keys(&mint), rows.clone()), validator(published(None).into(), rows.clone()));
    let (gate, grant) = host(sound.clone()).await;
    let source = TokenSource::new(move |wish| {
        let tenant = TenantId::of_app(wish.tenant.app().clone());
        rows.insert(&gate, &grant, attesting().attest(wish.subject.clone(), tenant, Rights::ALL, Timestamp::EPOCH))
            .unwrap();
        Some(mint.mint(wish))
    });
    let source = source.accepts(ACCEPTED).undecided(unreachable);
    TenantValidatorFixture::with(sound, source)
}

/// Tokens as Supabase Auth makes them: no tenant, no rights, no `nbf`. What they open is a membership's to say. The project
/// is one that moves from its legacy secret to signing keys: HS256 is accepted beside the others, by a key of its own.
async fn users() -> TenantValidatorFixture {
    let mint = TokenMint::new(ISSUER, "authenticated").layout(|_: &TokenWish| {
        let more = json!({ "role": "authenticated", "app_metadata": { "provider": "email" } });
        more.as_object().cloned().unwrap_or_else(Map::new)
    });
    let rows = MemoryMemberships::new();
    let validator = |keys: KeySource, rows: MemoryMemberships| {
        let builder = SupabaseValidator::builder().trust(TrustedIssuer::users(ISSUER, keys));
        // The suite changes rows under way.
        let builder = builder.memberships(attesting(), rows).membership_ttl(Duration::ZERO);
        Arc::new(builder.build().unwrap())
    };
    let secret = Secret::new(String::from_utf8(mint.shared_secret()).unwrap());
    let legacy = || TokenKeys::none().legacy_secret(Some(mint.kid(TokenAlgorithm::Hs256)), &secret).unwrap();
    let jwks = |body| KeySource::both(legacy(), published(body));
    let sound = validator(jwks(Some(mint.jwks_of(&ACCEPTED).to_string())), rows.clone());
    let unreachable = validator(jwks(None), rows.clone());
    let (gate, grant) = host(sound.clone()).await;
    let source = TokenSource::new(move |wish| {
        let told = matches!(wish.flaw, Some(Flaw::TenantText(_) | Flaw::Missing(TokenClaim::Tenant)));
        let rights = wish.rights.parse::<Rights>().ok().filter(|_| !told && wish.environment.is_none())?;
        rows.insert(
            &gate,
            &grant,
            attesting().attest(wish.subject.clone(), wish.tenant.clone(), rights, Timestamp::EPOCH),
        )
        .unwrap();
        Some(mint.mint(wish))
    });
    let source = source.accepts(ACCEPTED.into_iter().chain([TokenAlgorithm::Hs256])).undecided(unreachable);
    TenantValidatorFixture::with(sound, source)
}

mod of_apps {
    overskill_testkit::tenant_validator_conformance!(v1, async { crate::apps() });
}

mod of_apps_attested {
    overskill_testkit::tenant_validator_conformance!(v1, async { crate::attested().await });
}

mod of_users {
    overskill_testkit::tenant_validator_conformance!(v1, async { crate::users().await });
}
