use super::breaks;
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use overskill_core::{
    AccessToken, Claims, KeyId, LocalKeys, LocalTokens, LocalValidator, Readiness, Refusal, Result, Rights, TenantId,
    TenantValidator, Timestamp,
};
use overskill_testkit::{
    TenantValidatorFixture, TokenAlgorithm, TokenSource, suites::tenants::V1, tokens::TokenMint,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    AcceptsAlgNone,
    IgnoresTheSignature,
    IgnoresTheExpiry,
    IgnoresTheTenant,
    Widens,
    GivesEveryRight,
    RemembersAnswers,
    DecidesWithoutKeys,
    ShowsTokens,
}

struct Broken {
    validator: LocalValidator,
    flaw: Flaw,
    seen: Mutex<HashMap<String, Claims>>,
    last: Mutex<String>,
}

impl std::fmt::Debug for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Broken({})", self.last.lock().unwrap())
    }
}

/// One mint for all: its RSA key takes long.
static MINT: LazyLock<TokenMint> = LazyLock::new(|| TokenMint::new("https://issuer.example", "overskill"));

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || {
        let kid = KeyId::parse(MINT.kid(TokenAlgorithm::Es256)).unwrap();
        let keys = LocalKeys::from_pkcs8(kid, &MINT.es256_pkcs8()).unwrap();
        let validator = LocalTokens::new(keys).issuer("https://issuer.example", "overskill").validator();
        let broken = Arc::new(Broken { validator, flaw, seen: Mutex::default(), last: Mutex::default() });
        let mut source = TokenSource::new(|wish| Some(MINT.mint(wish)));
        if flaw == Flaw::DecidesWithoutKeys {
            // Its keys are said to be out of reach, and it answers all the same.
            source = source.undecided(broken.clone());
        }
        TenantValidatorFixture::with(broken, source)
    })
    .await;
}

/// What a token says, true or not.
fn claimed(token: &AccessToken) -> Option<(Value, Claims)> {
    let mut parts = token.expose().split('.');
    let mut json = || -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok() };
    let (header, payload) = (json()?, json()?);
    let text = |name: &str| payload.get(name)?.as_str().map(str::to_owned);
    let claims = Claims {
        subject: text("sub")?.parse().ok()?,
        tenant: text("tenant")?.parse().ok()?,
        rights: text("rights")?.parse().ok()?,
        expires_at: Timestamp::from_unix_millis(payload.get("exp")?.as_i64()? * 1000),
    };
    Some((header, claims))
}

#[async_trait]
impl TenantValidator for Broken {
    async fn check(&self) -> Result<Readiness> {
        self.validator.check().await
    }

    async fn validate(&self, token: &AccessToken, tenant: &TenantId, now: Timestamp) -> Result<Claims, Refusal> {
        let validate = async |tenant: &TenantId, now| self.validator.validate(token, tenant, now).await;
        let says = claimed(token);
        match (self.flaw, says) {
            (Flaw::AcceptsAlgNone, Some((header, claims))) if header["alg"] == "none" => Ok(claims),
            (Flaw::IgnoresTheSignature, Some((_, claims))) => match validate(tenant, now).await {
                Err(Refusal::NotAuthentic("signature")) => Ok(claims),
                answer => answer,
            },
            (Flaw::IgnoresTheExpiry, Some((_, claims))) => {
                validate(tenant, now.min(claims.expires_at.minus(Duration::from_secs(1)))).await
            }
            (Flaw::IgnoresTheTenant, Some((_, claims))) => validate(&claims.tenant, now).await,
            (Flaw::Widens, _) => {
                let claims = validate(tenant, now).await?;
                Ok(Claims { tenant: TenantId::of_app(claims.app().clone()), ..claims })
            }
            (Flaw::GivesEveryRight, _) => Ok(Claims { rights: Rights::ALL, ..validate(tenant, now).await? }),
            (Flaw::RemembersAnswers, _) => {
                let known = self.seen.lock().unwrap().get(token.expose()).cloned();
                match known {
                    Some(claims) => Ok(claims),
                    None => {
                        let claims = validate(tenant, now).await?;
                        self.seen.lock().unwrap().insert(token.expose().to_owned(), claims.clone());
                        Ok(claims)
                    }
                }
            }
            (Flaw::ShowsTokens, _) => {
                token.expose().clone_into(&mut self.last.lock().unwrap());
                validate(tenant, now).await
            }
            _ => validate(tenant, now).await,
        }
    }
}

#[tokio::test]
async fn a_validator_that_accepts_alg_none() {
    broken(Flaw::AcceptsAlgNone, &["an_unsigned_token_is_refused"]).await;
}

#[tokio::test]
async fn a_validator_that_ignores_the_signature() {
    broken(Flaw::IgnoresTheSignature, &["a_forged_signature_is_refused", "a_foreign_key_is_refused"]).await;
}

#[tokio::test]
async fn a_validator_that_ignores_the_expiry() {
    broken(Flaw::IgnoresTheExpiry, &["an_expired_token_is_refused"]).await;
}

#[tokio::test]
async fn a_validator_that_ignores_the_tenant() {
    let cases = ["a_token_of_another_app_is_refused", "a_token_of_another_user_is_refused"];
    broken(Flaw::IgnoresTheTenant, &cases).await;
}

#[tokio::test]
async fn a_validator_that_widens_a_users_token() {
    broken(Flaw::Widens, &["a_users_token_is_not_widened"]).await;
}

#[tokio::test]
async fn a_validator_that_gives_every_right() {
    broken(Flaw::GivesEveryRight, &["rights_pass_as_they_are"]).await;
}

#[tokio::test]
async fn a_validator_that_remembers_an_answer_too_long() {
    broken(Flaw::RemembersAnswers, &["answers_do_not_depend_on_what_came_before"]).await;
}

#[tokio::test]
async fn a_validator_that_decides_without_keys() {
    broken(Flaw::DecidesWithoutKeys, &["what_cannot_be_decided_is_refused"]).await;
}

#[tokio::test]
async fn a_validator_that_shows_tokens() {
    broken(Flaw::ShowsTokens, &["refusals_show_nothing_of_the_token"]).await;
}
