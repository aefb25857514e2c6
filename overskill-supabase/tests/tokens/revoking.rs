//! What was withdrawn, and memberships that were not given.

use crate::{
    Field,
    forge::{ISSUER, KID, NOW, TENANT, claims, header},
    validate,
    weak::{Hole, mirrored},
};
use async_trait::async_trait;
use hmac::{Hmac, KeyInit as _, Mac as _};
use overskill_core::{
    AccessToken, AppId, Claims, Clock as _, DataKey, Error, ErrorKind, KeyId, Readiness, Refusal, Result, Right,
    Rights, Secret, SubjectId, SystemClock, SystemGrant, SystemScopes, TenantGate, TenantId, TenantValidator as _,
    TestClock, Timestamp, memory::MemoryAudit,
};
use overskill_supabase::{
    Membership, MembershipKeys, Memberships, MemoryMemberships, SupabaseValidator, TokenKeys, TrustedIssuer,
};
use serde_json::json;
use sha2::Sha256;
use std::{sync::Arc, time::Duration};

const USERS: &str = "https://ref.supabase.co/auth/v1";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_millis(seconds * 1000)
}

#[tokio::test]
async fn a_revoked_token_with_its_signature_written_in_the_other_way() {
    let field = Field::new();
    let token = field.issuer.token(&header(), &claims().to_string());
    let other = mirrored(&token);
    assert_ne!(token, other);
    for (hole, opens) in [(Hole::RevokedByWholeToken, true), (Hole::Sound, false)] {
        let mut weak = field.weak(hole);
        weak.revoke(&token);
        assert!(!weak.opens(&token, TENANT, NOW));
        assert_eq!(weak.opens(&other, TENANT, NOW), opens, "{hole:?}");
    }
    let ours = field.ours();
    // It is the same token, and was good.
    validate(&ours, &other, TENANT, NOW).await.unwrap();
    let host = Host::of(&ours).await;
    ours.revoke(&host.gate, &host.grant, &AccessToken::parse(&token).unwrap(), at(NOW)).unwrap();
    for text in [&token, &other] {
        assert_eq!(validate(&ours, text, TENANT, NOW).await.unwrap_err().reason(), "revoked");
    }
}

#[tokio::test]
async fn a_subject_is_revoked_with_all_that_it_had() {
    let field = Field::new();
    let ours = field.ours();
    let token = |nbf: i64| {
        let mut claims = claims();
        claims["nbf"] = json!(nbf);
        field.issuer.token(&header(), &claims.to_string())
    };
    let (before, after) = (token(NOW), token(NOW + 10));
    validate(&ours, &before, TENANT, NOW).await.unwrap();
    let host = Host::of(&ours).await;
    let revoke = |subject: &str, seconds| {
        ours.revoke_subject(&host.gate, &host.grant, &subject.parse().unwrap(), at(NOW + seconds)).unwrap();
    };
    revoke("ada", 10);
    assert_eq!(validate(&ours, &before, TENANT, NOW + 10).await.unwrap_err().reason(), "revoked");
    validate(&ours, &after, TENANT, NOW + 10).await.unwrap();
    revoke("bob", 100);
    validate(&ours, &after, TENANT, NOW + 10).await.unwrap();
    let no_token = AccessToken::parse("no.token").unwrap();
    let e = ours.revoke(&host.gate, &host.grant, &no_token, at(NOW)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Invalid);
    // Only with a grant for all apps, of the gate that is given.
    let one = host.gate.system("test", "one app", SystemScopes::app("todo42".parse().unwrap())).await.unwrap();
    let token = AccessToken::parse(&after).unwrap();
    for grant in [&one, &Host::of(&ours).await.grant] {
        let ended = ours.revoke(&host.gate, grant, &token, at(NOW));
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Denied);
        let ended = ours.revoke_subject(&host.gate, grant, &"ada".parse().unwrap(), at(NOW + 100));
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Denied);
    }
    validate(&ours, &after, TENANT, NOW + 10).await.unwrap();
}

/// The host's own code, at a gate.
struct Host {
    gate: TenantGate,
    grant: SystemGrant,
}

impl Host {
    async fn of(validator: &SupabaseValidator) -> Self {
        let gate = TenantGate::new(Arc::new(validator.clone()), Arc::new(MemoryAudit::new()), Arc::new(SystemClock));
        let grant = gate.system("test", "a test", SystemScopes::All).await.unwrap();
        Self { gate, grant }
    }

    fn insert(&self, rows: &MemoryMemberships, row: Membership) {
        rows.insert(&self.gate, &self.grant, row).unwrap();
    }
}

fn keys() -> MembershipKeys {
    MembershipKeys::new(KeyId::parse("m1").unwrap(), DataKey::from_bytes([7; 32]))
}

/// A project with its legacy secret, and who belongs to what.
fn project(rows: impl Memberships) -> (Secret, SupabaseValidator) {
    let secret = Secret::new("a secret of at least 32 bytes, kept safe");
    let issuer = TrustedIssuer::users(USERS, TokenKeys::none().legacy_secret(Some(KID), &secret).unwrap());
    (secret, SupabaseValidator::builder().trust(issuer).memberships(keys(), rows).build().unwrap())
}

/// A token as Supabase Auth makes them.
fn user_token(secret: &Secret, sub: &str, iat: i64) -> AccessToken {
    let claims = json!({
        "iss": USERS, "aud": "authenticated", "sub": sub, "role": "authenticated", "iat": iat, "exp": iat + 3600,
        "session_id": "5b3c", "app_metadata": { "tenant": TENANT, "rights": "operate" },
    });
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": KID });
    AccessToken::parse(&crate::forge::mac(secret.expose().as_bytes(), &header, &claims.to_string())).unwrap()
}

fn tenant(text: &str) -> TenantId {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_subject_may_belong_to_many_tenants_and_to_no_other() {
    let rows = MemoryMemberships::new();
    let (secret, ours) = project(rows.clone());
    let (host, ada): (_, SubjectId) = (Host::of(&ours).await, "ada".parse().unwrap());
    let data = Rights::of([Right::Data]);
    host.insert(&rows, keys().attest(ada.clone(), tenant(TENANT), Rights::ALL, Timestamp::EPOCH));
    host.insert(&rows, keys().attest(ada.clone(), tenant("app_shop_user_ada"), data, Timestamp::EPOCH));
    let token = user_token(&secret, "ada", NOW);
    let ask = async |of: &str| ours.validate(&token, &tenant(of), at(NOW)).await;
    let all = Claims::new(ada.clone(), tenant(TENANT), Rights::ALL, at(NOW + 3600));
    assert_eq!(ask(TENANT).await.unwrap(), all);
    let own = Claims::new(ada, tenant("app_shop_user_ada"), data, at(NOW + 3600));
    assert_eq!(ask("app_shop_tenant").await.unwrap(), own);
    assert_eq!(ask("app_other_tenant").await.unwrap_err().reason(), "not_attested");
    // Five seconds ahead of our clock it may be, and not six.
    let early = user_token(&secret, "ada", NOW + 5);
    assert!(ours.validate(&early, &tenant(TENANT), at(NOW)).await.is_ok());
    let too_early = user_token(&secret, "ada", NOW + 6);
    let refused = ours.validate(&too_early, &tenant(TENANT), at(NOW)).await.unwrap_err();
    assert_eq!(refused.reason(), "outside_validity");
}

/// What the original design attested with: `sub:tenant`, without lengths.
fn joined(key: &DataKey, row: &Membership) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).unwrap();
    mac.update(format!("{}:{}", row.subject, row.tenant).as_bytes());
    mac.finalize().into_bytes().into()
}

#[tokio::test]
async fn a_name_that_flows_into_the_tenant_of_another_membership() {
    let key = DataKey::from_bytes([7; 32]);
    // An app of the attacker's attests its user `a` in a part named after … and the text is that of somebody else's row.
    let given = keys().attest("a".parse().unwrap(), tenant("app_b_user_c:app_todo42_tenant"), Rights::ALL, at(0));
    let wanted = keys().attest("a:app_b_user_c".parse().unwrap(), tenant(TENANT), Rights::ALL, at(0));
    assert_eq!(joined(&key, &given), joined(&key, &wanted), "joined, one is good for the other");
    let mut forged = wanted.clone();
    forged.mac = given.mac;
    assert!(!keys().attests(&forged) && keys().attests(&wanted));

    let rows = MemoryMemberships::new();
    let (secret, ours) = project(rows.clone());
    Host::of(&ours).await.insert(&rows, forged);
    let token = user_token(&secret, "a:app_b_user_c", NOW);
    let refused = ours.validate(&token, &tenant(TENANT), at(NOW)).await.unwrap_err();
    assert_eq!(refused.reason(), "not_attested");
}

#[tokio::test]
async fn a_row_that_somebody_wrote_into_the_table() {
    let rows = MemoryMemberships::new();
    let others = MembershipKeys::new(KeyId::parse("m1").unwrap(), DataKey::from_bytes([8; 32]));
    let ada: SubjectId = "ada".parse().unwrap();
    let few = keys().attest(ada.clone(), tenant(TENANT), Rights::of([Right::Data]), Timestamp::EPOCH);
    let mut raised = few.clone();
    raised.rights = Rights::ALL;
    let (secret, ours) = project(rows.clone());
    let (host, token) = (Host::of(&ours).await, user_token(&secret, "ada", NOW));
    for row in [others.attest(ada, tenant(TENANT), Rights::ALL, Timestamp::EPOCH), raised] {
        host.insert(&rows, row);
        let refused = ours.validate(&token, &tenant(TENANT), at(NOW)).await.unwrap_err();
        assert_eq!(refused.reason(), "not_attested");
    }
    host.insert(&rows, few);
    assert!(ours.validate(&token, &tenant(TENANT), at(NOW)).await.is_ok());
}

#[tokio::test]
async fn a_membership_that_ended_ends_within_its_time() {
    let rows = MemoryMemberships::new();
    let (secret, ours) = project(rows.clone());
    let host = Host::of(&ours).await;
    let (ada, app): (SubjectId, AppId) = ("ada".parse().unwrap(), "todo42".parse().unwrap());
    let member = |since| keys().attest("ada".parse().unwrap(), tenant(TENANT), Rights::ALL, since);
    host.insert(&rows, member(Timestamp::EPOCH));
    let token = user_token(&secret, "ada", NOW);
    let ask = async |seconds| ours.validate(&token, &tenant(TENANT), at(NOW + seconds)).await;
    assert!(ask(0).await.is_ok());
    assert!(rows.remove(&host.gate, &host.grant, &ada, &app).await.unwrap());
    assert_eq!(ask(30).await.unwrap_err().reason(), "not_attested");
    // All sessions end: tokens of before do not count any more, in every process that reads the row.
    rows.put(&host.gate, &host.grant, &member(at(NOW + 60))).await.unwrap();
    assert_eq!(ask(60).await.unwrap_err().reason(), "revoked");
    let new = user_token(&secret, "ada", NOW + 60);
    assert!(ours.validate(&new, &tenant(TENANT), at(NOW + 60)).await.is_ok());
}

#[derive(Debug)]
struct Down;

#[async_trait]
impl Memberships for Down {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("down").lacks("the store", "start it"))
    }
    async fn find(&self, _: &SubjectId, _: &AppId) -> Result<Option<Membership>> {
        Err(Error::new(ErrorKind::Unavailable, "no connection"))
    }
    async fn put(&self, _: &TenantGate, _: &SystemGrant, _: &Membership) -> Result<()> {
        Err(Error::new(ErrorKind::Unavailable, "no connection"))
    }
    async fn remove(&self, _: &TenantGate, _: &SystemGrant, _: &SubjectId, _: &AppId) -> Result<bool> {
        Err(Error::new(ErrorKind::Unavailable, "no connection"))
    }
}

#[tokio::test]
async fn a_store_that_is_down_decides_nothing() {
    let (secret, ours) = project(Down);
    let token = user_token(&secret, "ada", NOW);
    for _ in 0..2 {
        let refused = ours.validate(&token, &tenant(TENANT), at(NOW)).await.unwrap_err();
        assert!(matches!(refused, Refusal::Undecided(_)), "{refused:?}");
    }
    assert_eq!(ours.check().await.unwrap().problems().len(), 1);
}

#[tokio::test]
async fn a_clock_that_is_not_set_decides_nothing() {
    let field = Field::new();
    let token = AccessToken::parse(&field.issuer.token(&header(), &claims().to_string())).unwrap();
    let ours = field.ours();
    // A machine that starts up in 1970 would find every token of the past valid.
    for now in [Timestamp::EPOCH, Timestamp::from_unix_millis(-1), at(1_700_000_000)] {
        let refused = ours.validate(&token, &tenant(TENANT), now).await.unwrap_err();
        assert!(matches!(refused, Refusal::Undecided(_)), "{refused:?}");
    }
    let clock = TestClock::new();
    assert!(ours.validate(&token, &tenant(TENANT), clock.now()).await.is_ok());
    clock.advance(Duration::from_mins(5));
    assert!(ours.validate(&token, &tenant(TENANT), clock.now()).await.is_err());
}

#[test]
fn what_cannot_work_is_not_built() {
    let keys = || TokenKeys::none().legacy_secret(None, &Secret::new("x".repeat(32))).unwrap();
    let told =
        |builder: overskill_supabase::SupabaseValidatorBuilder| builder.build().unwrap_err().message().to_owned();
    assert!(told(SupabaseValidator::builder()).contains("was given none"));
    let users = TrustedIssuer::users(USERS, keys());
    assert!(told(SupabaseValidator::builder().trust(users)).contains("give some with `memberships`"));
    let twice = SupabaseValidator::builder().trust(TrustedIssuer::apps(ISSUER, keys()));
    assert!(told(twice.trust(TrustedIssuer::apps(ISSUER, keys()))).contains("given twice"));
    let shown = format!("{:?}", Arc::new(keys()));
    assert!(!shown.contains("xxx"), "{shown}");
}
