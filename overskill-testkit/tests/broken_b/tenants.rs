use super::breaks;
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use overskill_core::{
    AccessToken, Claims, KeyId, LocalKeys, LocalTokens, LocalValidator, Readiness, Refusal, Result, Rights, SubjectId,
    TenantId, TenantValidator, Timestamp,
};
use overskill_testkit::{TenantValidatorFixture, TokenAlgorithm, TokenSource, suites::tenants::V1, tokens::TokenMint};
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
    AcceptsEveryAlgorithm,
    AcceptsTheFuture,
    AcceptsEveryIssuer,
    FillsInClaims,
    AcceptsEveryHeader,
    TakesTheLastClaim,
    LastsLonger,
    ConfusesReasons,
    IsNotReady,
    ForgetsTheEnvironment,
}

const FLAWS: [Flaw; 19] = [
    Flaw::AcceptsAlgNone,
    Flaw::IgnoresTheSignature,
    Flaw::IgnoresTheExpiry,
    Flaw::IgnoresTheTenant,
    Flaw::Widens,
    Flaw::GivesEveryRight,
    Flaw::RemembersAnswers,
    Flaw::DecidesWithoutKeys,
    Flaw::ShowsTokens,
    Flaw::AcceptsEveryAlgorithm,
    Flaw::AcceptsTheFuture,
    Flaw::AcceptsEveryIssuer,
    Flaw::FillsInClaims,
    Flaw::AcceptsEveryHeader,
    Flaw::TakesTheLastClaim,
    Flaw::LastsLonger,
    Flaw::ConfusesReasons,
    Flaw::IsNotReady,
    Flaw::ForgetsTheEnvironment,
];

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

fn fixture(flaw: Flaw) -> TenantValidatorFixture {
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
}

async fn broken(flaw: Flaw, cases: &[&str]) {
    breaks(&V1, cases, async || fixture(flaw)).await;
}

/// What a token says, true or not.
fn claimed(token: &AccessToken) -> Option<(Value, Claims)> {
    let mut parts = token.expose().split('.');
    let mut json = || -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok() };
    let (header, payload) = (json()?, json()?);
    let text = |name: &str| payload.get(name)?.as_str().map(str::to_owned);
    let claims = Claims::new(
        text("sub")?.parse().ok()?,
        text("tenant")?.parse().ok()?,
        text("rights")?.parse().ok()?,
        Timestamp::from_unix_millis(payload.get("exp")?.as_i64()? * 1000),
    );
    Some((header, claims))
}

#[async_trait]
impl TenantValidator for Broken {
    async fn check(&self) -> Result<Readiness> {
        let readiness = self.validator.check().await?;
        Ok(if self.flaw == Flaw::IsNotReady { readiness.lacks("a key", "make one") } else { readiness })
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
                let tenant = TenantId::of_app(claims.app().clone());
                Ok(Claims::new(claims.subject, tenant, claims.rights, claims.expires_at))
            }
            (Flaw::ForgetsTheEnvironment, _) => {
                let mut claims = validate(tenant, now).await?;
                claims.environment = None;
                Ok(claims)
            }
            (Flaw::GivesEveryRight, _) => {
                let mut claims = validate(tenant, now).await?;
                claims.rights = Rights::ALL;
                Ok(claims)
            }
            (Flaw::RemembersAnswers, _) => {
                let known = self.seen.lock().unwrap().get(token.expose()).cloned();
                if let Some(claims) = known {
                    return Ok(claims);
                }
                let claims = validate(tenant, now).await?;
                self.seen.lock().unwrap().insert(token.expose().to_owned(), claims.clone());
                Ok(claims)
            }
            (Flaw::ShowsTokens, _) => {
                token.expose().clone_into(&mut self.last.lock().unwrap());
                validate(tenant, now).await
            }
            (Flaw::AcceptsTheFuture, Some((_, claims))) => {
                validate(tenant, now.max(claims.expires_at.minus(Duration::from_secs(1)))).await
            }
            (Flaw::LastsLonger, _) => {
                let mut claims = validate(tenant, now).await?;
                claims.expires_at = claims.expires_at.plus(Duration::from_secs(1));
                Ok(claims)
            }
            (Flaw::FillsInClaims, _) => match validate(tenant, now).await {
                Err(Refusal::MissingClaim(_)) => Ok(Claims::new(
                    SubjectId::visitor(),
                    tenant.clone(),
                    Rights::NONE,
                    now.plus(Duration::from_secs(9)),
                )),
                answer => answer,
            },
            (flaw, Some((_, claims))) => match (flaw, validate(tenant, now).await) {
                (Flaw::AcceptsEveryAlgorithm, Err(Refusal::NotAuthentic("algorithm")))
                | (Flaw::AcceptsEveryIssuer, Err(Refusal::NotAuthentic("issuer" | "audience")))
                | (Flaw::AcceptsEveryHeader, Err(Refusal::NotAuthentic("critical header" | "type")))
                | (Flaw::TakesTheLastClaim, Err(Refusal::Malformed("claims"))) => Ok(claims),
                (_, answer) => answer,
            },
            (flaw, None) => match (flaw, validate(tenant, now).await) {
                (Flaw::ConfusesReasons, Err(Refusal::Malformed(_))) => Err(Refusal::OutsideValidity),
                (_, answer) => answer,
            },
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

#[tokio::test]
async fn a_validator_that_accepts_every_algorithm() {
    broken(Flaw::AcceptsEveryAlgorithm, &["other_algorithms_are_refused", "a_public_key_is_no_secret"]).await;
}

#[tokio::test]
async fn a_validator_that_accepts_the_future() {
    broken(Flaw::AcceptsTheFuture, &["a_token_of_the_future_is_refused"]).await;
}

#[tokio::test]
async fn a_validator_that_accepts_every_issuer() {
    broken(Flaw::AcceptsEveryIssuer, &["another_issuer_or_audience_is_refused"]).await;
}

#[tokio::test]
async fn a_validator_that_fills_in_claims() {
    broken(
        Flaw::FillsInClaims,
        &["missing_claims_are_refused", "tenants_are_compared_whole", "unknown_rights_are_refused"],
    )
    .await;
}

#[tokio::test]
async fn a_validator_that_accepts_every_header() {
    broken(Flaw::AcceptsEveryHeader, &["a_header_that_is_not_understood_is_refused"]).await;
}

#[tokio::test]
async fn a_validator_that_takes_the_last_claim() {
    broken(Flaw::TakesTheLastClaim, &["ambiguous_claims_are_refused"]).await;
}

#[tokio::test]
async fn a_validator_whose_claims_last_longer() {
    broken(Flaw::LastsLonger, &["a_valid_token_is_accepted", "accepted_algorithms_are_accepted"]).await;
}

#[tokio::test]
async fn a_validator_that_confuses_reasons() {
    broken(Flaw::ConfusesReasons, &["an_oversized_token_is_refused"]).await;
}

#[tokio::test]
async fn a_validator_that_forgets_the_environment() {
    broken(Flaw::ForgetsTheEnvironment, &["an_environment_passes_as_it_is"]).await;
}

#[tokio::test]
async fn a_validator_that_is_not_ready() {
    broken(Flaw::IsNotReady, &["it_is_ready"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_case_passes_whatever_it_is_given() {
    super::every_case_fails_once(&V1, &FLAWS, fixture).await;
}
