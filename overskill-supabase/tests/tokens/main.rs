//! Attacks on tokens. Each is shown three times: it opens a validator with the one hole that it is made for, it does not
//! open the same validator without that hole, and it does not open ours.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod forge;
mod revoking;
mod weak;

use forge::{Forge, ISSUER, KID, NOW, TENANT, b64, claims, header, mac, with};
use overskill_core::{AccessToken, Refusal, TenantId, TenantValidator as _, Timestamp};
use overskill_supabase::{SupabaseValidator, TokenKeys, TrustedIssuer};
use serde_json::{Value, json};
use std::{collections::HashSet, fs};
use tempfile::TempDir;
use weak::{Hole, Weak};

const OTHER_ISSUER: &str = "https://tokens.other.example";

/// A platform that trusts two issuers, and one attacker.
struct Field {
    issuer: Forge,
    other: Forge,
    attacker: Forge,
    folder: TempDir,
}

impl Field {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("keys")).unwrap();
        Self { issuer: Forge::new(), other: Forge::new(), attacker: Forge::new(), folder }
    }

    fn weak(&self, hole: Hole) -> Weak {
        let (jwks, point) = (json!({ "keys": [self.attacker.jwk("x")] }).to_string(), self.attacker.point());
        Weak {
            hole,
            point: self.issuer.point(),
            other_point: self.other.point(),
            web: Box::new(move |url| match url {
                "https://attacker.example/jwks.json" => Some(jwks.clone().into_bytes()),
                "https://attacker.example/cert" => Some(point.clone()),
                _ => None,
            }),
            key_folder: self.folder.path().join("keys"),
            revoked: HashSet::new(),
        }
    }

    fn ours(&self) -> SupabaseValidator {
        let keys = |forge: &Forge, kid: &str| {
            TokenKeys::from_jwks(json!({ "keys": [forge.jwk(kid)] }).to_string().as_bytes()).unwrap()
        };
        SupabaseValidator::builder()
            .trust(TrustedIssuer::apps(ISSUER, keys(&self.issuer, KID)))
            .trust(TrustedIssuer::apps(OTHER_ISSUER, keys(&self.other, "other-1")))
            .build()
            .unwrap()
    }

    /// Shows the attack; gives why we refuse it.
    async fn attack(&self, hole: Hole, token: &str) -> &'static str {
        self.attack_on(hole, token, TENANT, NOW).await
    }

    async fn attack_on(&self, hole: Hole, token: &str, tenant: &str, now: i64) -> &'static str {
        // The field is fair: a good token opens all three.
        let good = self.issuer.token(&header(), &claims().to_string());
        assert!(self.weak(hole).opens(&good, TENANT, NOW) && self.weak(Hole::Sound).opens(&good, TENANT, NOW));
        let ours = self.ours();
        validate(&ours, &good, TENANT, NOW).await.unwrap();

        assert!(self.weak(hole).opens(token, tenant, now), "the attack does not work where there is {hole:?}");
        assert!(!self.weak(Hole::Sound).opens(token, tenant, now), "the hole is another one than {hole:?}");
        let first = validate(&ours, token, tenant, now).await.unwrap_err();
        let again = validate(&ours, token, tenant, now).await.unwrap_err();
        assert_eq!(first.reason(), again.reason());
        first.reason()
    }
}

async fn validate(ours: &SupabaseValidator, token: &str, tenant: &str, now: i64) -> Result<(), Refusal> {
    let token = AccessToken::parse(token).map_err(|_| Refusal::Malformed("token"))?;
    let now = Timestamp::from_unix_millis(now * 1000);
    ours.validate(&token, &TenantId::parse(tenant).unwrap(), now).await.map(drop)
}

/// The usual header with one field changed or added.
fn header_with(name: &str, value: impl Into<Value>) -> Value {
    let mut header = header();
    header[name] = value.into();
    header
}

#[tokio::test]
async fn a_token_without_signature_and_with_the_algorithm_none() {
    let token = format!("{}.{}.", b64(header_with("alg", "none").to_string()), b64(claims().to_string()));
    assert_eq!(Field::new().attack(Hole::AlgNone, &token).await, "not_authentic");
}

#[tokio::test]
async fn the_algorithm_none_in_other_letters() {
    let token = format!("{}.{}.", b64(header_with("alg", "nOnE").to_string()), b64(claims().to_string()));
    assert_eq!(Field::new().attack(Hole::AlgNoneInAnyCase, &token).await, "not_authentic");
}

#[tokio::test]
async fn the_public_key_taken_for_a_shared_secret() {
    let field = Field::new();
    let token = mac(&field.issuer.point(), &header_with("alg", "HS256"), &claims().to_string());
    assert_eq!(field.attack(Hole::HeaderPicksAlgorithm, &token).await, "not_authentic");
}

#[tokio::test]
async fn a_key_id_that_is_a_path_to_a_file_the_attacker_knows() {
    let field = Field::new();
    fs::write(field.folder.path().join("robots.txt"), "User-agent: *").unwrap();
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": "../robots.txt" });
    let token = mac(b"User-agent: *", &header, &claims().to_string());
    assert_eq!(field.attack(Hole::KidIsAPath, &token).await, "not_authentic");
}

#[tokio::test]
async fn another_issuers_key_under_this_issuers_name() {
    let field = Field::new();
    let token = field.other.token(&header_with("kid", "other-1"), &claims().to_string());
    assert_eq!(field.attack(Hole::KeyOfAnyIssuer, &token).await, "not_authentic");
}

#[tokio::test]
async fn a_header_that_brings_its_own_key() {
    let field = Field::new();
    let token = field.attacker.token(&header_with("jwk", field.attacker.jwk(KID)), &claims().to_string());
    assert_eq!(field.attack(Hole::HeaderBringsKey, &token).await, "not_authentic");
}

#[tokio::test]
async fn a_header_that_says_where_the_keys_are() {
    let field = Field::new();
    let token = field.attacker.token(&header_with("jku", "https://attacker.example/jwks.json"), &claims().to_string());
    assert_eq!(field.attack(Hole::HeaderSaysWhereKeysAre, &token).await, "not_authentic");
}

#[tokio::test]
async fn a_header_that_says_where_the_certificates_are() {
    let field = Field::new();
    let token = field.attacker.token(&header_with("x5u", "https://attacker.example/cert"), &claims().to_string());
    assert_eq!(field.attack(Hole::HeaderSaysWhereCertificatesAre, &token).await, "not_authentic");
}

#[tokio::test]
async fn a_critical_header_that_nobody_understands() {
    let field = Field::new();
    let mut header = header_with("crit", json!(["urn:example:only-from-this-address"]));
    header["urn:example:only-from-this-address"] = json!("192.0.2.1");
    let token = field.issuer.token(&header, &claims().to_string());
    assert_eq!(field.attack(Hole::UnknownHeadersIgnored, &token).await, "not_authentic");
}

#[tokio::test]
async fn text_signed_as_it_is_and_read_as_claims() {
    // The issuer signs somebody's text with `b64: false` (RFC 7797); the text happens to be claims in base64.
    let field = Field::new();
    let mut header = header_with("b64", false);
    header["crit"] = json!(["b64"]);
    let token = field.issuer.token(&header, &claims().to_string());
    assert_eq!(field.attack(Hole::UnknownHeadersIgnored, &token).await, "not_authentic");
}

#[tokio::test]
async fn a_token_of_another_kind_by_the_same_key() {
    let field = Field::new();
    let token = field.issuer.token(&header_with("typ", "logout+jwt"), &claims().to_string());
    assert_eq!(field.attack(Hole::TypeIgnored, &token).await, "not_authentic");
}

#[tokio::test]
async fn an_empty_signature() {
    let token = format!("{}.{}.", b64(header().to_string()), b64(claims().to_string()));
    assert_eq!(Field::new().attack(Hole::EmptySignaturePasses, &token).await, "not_authentic");
}

#[tokio::test]
async fn a_signature_of_zeros() {
    let token = format!("{}.{}.{}", b64(header().to_string()), b64(claims().to_string()), b64([0; 64]));
    assert_eq!(Field::new().attack(Hole::ZeroSignaturePasses, &token).await, "not_authentic");
}

#[tokio::test]
async fn a_token_larger_than_any_may_be() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("pad", "x".repeat(1 << 20)));
    assert_eq!(field.attack(Hole::NoSizeLimit, &token).await, "malformed");
}

#[tokio::test]
async fn a_claim_that_comes_twice() {
    let field = Field::new();
    let rest = claims().to_string();
    let token = field.issuer.token(&header(), &format!("{{\"tenant\":\"app_mine_tenant\",{}", &rest[1..]));
    assert_eq!(field.attack(Hole::LastDuplicateCounts, &token).await, "malformed");
}

#[tokio::test]
async fn an_issuer_that_nobody_compares() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("iss", "https://staging.overskill.example"));
    assert_eq!(field.attack(Hole::IssuerNotCompared, &token).await, "not_authentic");
}

#[tokio::test]
async fn an_issuer_that_begins_like_ours() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("iss", format!("{ISSUER}.attacker.example")));
    assert_eq!(field.attack(Hole::IssuerByPrefix, &token).await, "not_authentic");
}

#[tokio::test]
async fn an_audience_that_nobody_compares() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("aud", "billing"));
    assert_eq!(field.attack(Hole::AudienceNotCompared, &token).await, "not_authentic");
}

#[tokio::test]
async fn an_audience_that_contains_ours() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("aud", "unauthenticated"));
    assert_eq!(field.attack(Hole::AudienceByContains, &token).await, "not_authentic");
}

#[tokio::test]
async fn a_token_a_second_after_its_expiry() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("exp", NOW - 1));
    assert_eq!(field.attack(Hole::AMinuteOfGrace, &token).await, "outside_validity");
}

#[tokio::test]
async fn a_token_without_expiry() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("exp", Value::Null));
    assert_eq!(field.attack(Hole::ExpiryOptional, &token).await, "missing_claim");
}

#[tokio::test]
async fn an_expiry_that_is_text() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("exp", (NOW + 300).to_string()));
    assert_eq!(field.attack(Hole::ExpiryOfAnyType, &token).await, "malformed");
}

#[tokio::test]
async fn a_token_that_is_not_valid_yet() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("nbf", NOW + 1));
    assert_eq!(field.attack(Hole::NotBeforeIgnored, &token).await, "outside_validity");
}

#[tokio::test]
async fn a_token_for_ten_years() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("exp", NOW + 10 * 365 * 86_400));
    assert_eq!(field.attack(Hole::AnyLifetime, &token).await, "outside_validity");
}

#[tokio::test]
async fn a_servers_role_in_a_users_token() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("role", "service_role"));
    assert_eq!(field.attack(Hole::AnyRole, &token).await, "not_authentic");
}

#[tokio::test]
async fn a_tenant_in_letters_that_fold_into_anothers() {
    // KELVIN SIGN becomes a k.
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("tenant", "app_\u{212a}iosk_tenant"));
    let reason = field.attack_on(Hole::TenantFolded, &token, "app_kiosk_tenant", NOW).await;
    assert_eq!(reason, "missing_claim");
}

#[tokio::test]
async fn a_tenant_that_holds_anothers() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("tenant", format!("evil_{TENANT}")));
    assert_eq!(field.attack(Hole::TenantFoundAnywhere, &token).await, "missing_claim");
}

#[tokio::test]
async fn a_tenant_with_unseen_space_around_it() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("tenant", format!("{TENANT}\u{2003}")));
    assert_eq!(field.attack(Hole::TenantTrimmed, &token).await, "missing_claim");
}

#[tokio::test]
async fn a_users_part_taken_for_the_whole() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &with("tenant", "app_todo42_user_bob"));
    // Ada's token for Bob's part: the part is not hers, and the whole is nobody's.
    assert_eq!(field.attack(Hole::PartWidened, &token).await, "not_attested");
}
