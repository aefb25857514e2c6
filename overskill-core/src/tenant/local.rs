//! The embedded validator: tokens signed and checked with keys of this process (ES256).

use crate::{
    AccessToken, AppTokens, Claims, Environment, Error, ErrorKind, KeyId, ParseError, Readiness, Refusal, Result,
    Right, Rights, Scope, Secret, SubjectId, TenantId, TenantValidator, Timestamp,
};
use async_trait::async_trait;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// Signing keys of this process: ES256 (P-256), each with its id; one signs, all are accepted.
///
/// To rotate, make a new one current and keep the old until the last token it signed has expired.
#[derive(Clone)]
pub struct LocalKeys {
    current: KeyId,
    keys: BTreeMap<KeyId, LocalKey>,
}

#[derive(Clone)]
struct LocalKey {
    pkcs8: Secret,
    signing: EncodingKey,
    verifying: DecodingKey,
    public: (String, String),
}

impl LocalKeys {
    /// A new key from the operating system's randomness.
    pub fn generate(id: KeyId) -> Result<Self> {
        let fail = |_| Error::new(ErrorKind::Unexpected, "a P-256 key could not be made");
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).map_err(fail)?;
        Self::from_pkcs8(id, &Secret::new(URL_SAFE_NO_PAD.encode(pkcs8.as_ref())))
    }

    /// A key that was kept: PKCS #8 in base64url, as [`to_pkcs8`](Self::to_pkcs8) gives it.
    pub fn from_pkcs8(id: KeyId, pkcs8: &Secret) -> Result<Self> {
        let key = LocalKey::from_pkcs8(pkcs8)?;
        Ok(Self { current: id.clone(), keys: [(id, key)].into() })
    }

    /// Accepts tokens of these keys too.
    pub fn accept(mut self, others: &Self) -> Self {
        for (id, key) in &others.keys {
            self.keys.entry(id.clone()).or_insert_with(|| key.clone());
        }
        self
    }

    /// The current key, to be kept in a safe place.
    pub fn to_pkcs8(&self) -> Secret {
        self.signing_key().pkcs8.clone()
    }

    /// The public keys as a JWK Set (RFC 7517).
    pub fn jwks(&self) -> serde_json::Value {
        let keys = self.keys.iter().map(|(id, key)| {
            serde_json::json!({
                "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
                "kid": id.as_str(), "x": key.public.0, "y": key.public.1,
            })
        });
        serde_json::json!({ "keys": keys.collect::<Vec<_>>() })
    }

    fn signing_key(&self) -> &LocalKey {
        self.keys.get(&self.current).expect("the current key is among the keys")
    }
}

impl LocalKey {
    fn from_pkcs8(pkcs8: &Secret) -> Result<Self> {
        let refuse =
            || ParseError::secret("signing key", "must be a P-256 key as PKCS #8 in base64url", pkcs8.expose());
        let der = URL_SAFE_NO_PAD.decode(pkcs8.expose()).map_err(|_| refuse())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(|_| refuse())?;
        // An uncompressed point (SEC 1): 4, x, y.
        let point = pair.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        Ok(Self {
            pkcs8: pkcs8.clone(),
            signing: EncodingKey::from_ec_der(&der),
            verifying: DecodingKey::from_ec_der(point),
            public: (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y)),
        })
    }
}

impl fmt::Debug for LocalKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalKeys(current {}, {} in all)", self.current, self.keys.len())
    }
}

/// What a local token says. Times are seconds since the Unix epoch (RFC 7519).
#[derive(Serialize, Deserialize)]
struct LocalClaims {
    iss: String,
    aud: String,
    sub: SubjectId,
    exp: i64,
    nbf: i64,
    tenant: TenantId,
    rights: Rights,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<Environment>,
}

/// Makes tokens that a [`LocalValidator`] of the same keys, issuer and audience accepts.
#[derive(Clone, Debug)]
pub struct LocalTokens {
    keys: Arc<LocalKeys>,
    issuer: String,
    audience: String,
    app_token_ttl: Duration,
}

impl LocalTokens {
    /// Tokens of the issuer and for the audience `overskill`.
    pub fn new(keys: LocalKeys) -> Self {
        Self {
            keys: Arc::new(keys),
            issuer: "overskill".into(),
            audience: "overskill".into(),
            app_token_ttl: Duration::from_mins(5),
        }
    }

    /// Sets who issues them and whom they are for.
    pub fn issuer(mut self, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        (self.issuer, self.audience) = (issuer.into(), audience.into());
        self
    }

    /// Sets how long an app's token lasts; 5 minutes otherwise.
    pub fn app_token_ttl(mut self, ttl: Duration) -> Self {
        self.app_token_ttl = ttl;
        self
    }

    /// A token that says `claims`, valid from `now`. Whole seconds count: `expires_at` is rounded down.
    pub fn mint(&self, claims: &Claims, now: Timestamp) -> Result<AccessToken> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.keys.current.to_string());
        let claims = LocalClaims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: claims.subject.clone(),
            exp: claims.expires_at.as_unix_millis().div_euclid(1000),
            nbf: now.as_unix_millis().div_euclid(1000),
            tenant: claims.tenant.clone(),
            rights: claims.rights,
            env: claims.environment,
        };
        let token = encode(&header, &claims, &self.keys.signing_key().signing)
            .map_err(|e| Error::unexpected("a token could not be signed", e))?;
        Ok(AccessToken::parse(&token)?)
    }

    /// A validator that accepts these tokens.
    pub fn validator(&self) -> LocalValidator {
        LocalValidator { keys: self.keys.clone(), issuer: self.issuer.clone(), audience: self.audience.clone() }
    }
}

#[async_trait]
impl AppTokens for LocalTokens {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("local keys"))
    }

    async fn issue(
        &self,
        scope: &Scope,
        subject: Option<SubjectId>,
        now: Timestamp,
    ) -> Result<(AccessToken, Timestamp)> {
        let expires_at = now.plus(self.app_token_ttl);
        let subject = subject.unwrap_or_else(SubjectId::visitor);
        let tenant = TenantId::of_user(scope.app.clone(), subject.clone());
        let claims =
            Claims::new(subject, tenant, Rights::of([Right::Data]), expires_at).in_environment(scope.environment);
        Ok((self.mint(&claims, now)?, expires_at))
    }
}

/// Accepts tokens of [`LocalTokens`] and nothing else: ES256 of a known key, right issuer and audience, within its time.
#[derive(Clone, Debug)]
pub struct LocalValidator {
    keys: Arc<LocalKeys>,
    issuer: String,
    audience: String,
}

impl LocalValidator {
    fn claims(&self, token: &AccessToken) -> Result<LocalClaims, Refusal> {
        let header = decode_header(token.expose()).map_err(|_| Refusal::Malformed("header"))?;
        if header.alg != Algorithm::ES256 {
            return Err(Refusal::NotAuthentic("algorithm"));
        }
        // What must be understood and is not (RFC 7515, 4.1.11), and what was signed to be something else.
        if header.crit.is_some() {
            return Err(Refusal::NotAuthentic("critical header"));
        }
        if header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(Refusal::NotAuthentic("type"));
        }
        let kid = header.kid.as_deref().and_then(|kid| KeyId::parse(kid).ok());
        let key = kid.and_then(|kid| self.keys.keys.get(&kid)).ok_or(Refusal::NotAuthentic("key"))?;
        // The signature only: times are compared with our own clock, the rest where its refusal has a name.
        let mut signature_only = Validation::new(Algorithm::ES256);
        signature_only.required_spec_claims.clear();
        (signature_only.validate_exp, signature_only.validate_nbf, signature_only.validate_aud) = (false, false, false);
        let decoded = decode::<SignedClaims>(token.expose(), &key.verifying, &signature_only);
        let claims = decoded.map_err(|e| match e.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => Refusal::NotAuthentic("signature"),
            _ => Refusal::Malformed("claims"),
        })?;
        let claims = claims.claims;
        let have = |claim: Option<String>, name| claim.ok_or(Refusal::MissingClaim(name));
        if have(claims.iss, "iss")? != self.issuer {
            return Err(Refusal::NotAuthentic("issuer"));
        }
        if have(claims.aud, "aud")? != self.audience {
            return Err(Refusal::NotAuthentic("audience"));
        }
        Ok(LocalClaims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: have(claims.sub, "sub")?.parse().map_err(|_| Refusal::MissingClaim("sub"))?,
            exp: claims.exp.ok_or(Refusal::MissingClaim("exp"))?,
            nbf: claims.nbf.ok_or(Refusal::MissingClaim("nbf"))?,
            tenant: have(claims.tenant, "tenant")?.parse().map_err(|_| Refusal::MissingClaim("tenant"))?,
            rights: have(claims.rights, "rights")?.parse().map_err(|_| Refusal::MissingClaim("rights"))?,
            env: claims.env.map(|e| e.parse()).transpose().map_err(|_| Refusal::MissingClaim("env"))?,
        })
    }
}

/// What a signed token may say; `serde` refuses a claim that comes twice.
#[derive(Deserialize)]
struct SignedClaims {
    iss: Option<String>,
    aud: Option<String>,
    sub: Option<String>,
    exp: Option<i64>,
    nbf: Option<i64>,
    tenant: Option<String>,
    rights: Option<String>,
    env: Option<String>,
}

#[async_trait]
impl TenantValidator for LocalValidator {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("local keys"))
    }

    async fn validate(&self, token: &AccessToken, tenant: &TenantId, now: Timestamp) -> Result<Claims, Refusal> {
        let claims = self.claims(token)?;
        let moment = |seconds: i64| Timestamp::from_unix_millis(seconds.saturating_mul(1000));
        let (from, until) = (moment(claims.nbf), moment(claims.exp));
        if now < from || until <= now {
            return Err(Refusal::OutsideValidity);
        }
        let (whole, subject) = (claims.tenant.app(), &claims.sub);
        if whole != tenant.app() || tenant.subject().is_some_and(|s| s != subject) {
            return Err(Refusal::OtherTenant);
        }
        // A token for a user's part of the app has to be that user's.
        if claims.tenant.subject().is_some_and(|s| s != subject) {
            return Err(Refusal::NotAttested);
        }
        let found = Claims::new(claims.sub, claims.tenant, claims.rights, until);
        Ok(claims.env.into_iter().fold(found, Claims::in_environment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock as _;
    use crate::{AppId, TestClock};

    fn key(id: &str) -> LocalKeys {
        LocalKeys::generate(KeyId::parse(id).unwrap()).unwrap()
    }

    fn claims(now: Timestamp) -> Claims {
        let (subject, tenant) = (SubjectId::parse("ada").unwrap(), TenantId::parse("app_todo42_tenant").unwrap());
        Claims::new(subject, tenant, Rights::of([Right::Develop, Right::Operate]), now.plus(Duration::from_mins(1)))
    }

    #[tokio::test]
    async fn a_minted_token_is_accepted_until_it_expires() {
        let now = TestClock::new().now();
        let tokens = LocalTokens::new(key("k1"));
        let token = tokens.mint(&claims(now), now).unwrap();
        let validate = async |at| tokens.validator().validate(&token, &claims(now).tenant, at).await;
        assert_eq!(validate(now).await.unwrap(), claims(now));
        assert!(validate(claims(now).expires_at.minus(Duration::from_millis(1))).await.is_ok());
        assert!(matches!(validate(claims(now).expires_at).await, Err(Refusal::OutsideValidity)));
        assert!(matches!(validate(now.minus(Duration::from_secs(1))).await, Err(Refusal::OutsideValidity)));
    }

    #[tokio::test]
    async fn keys_rotate_and_are_kept_as_text() {
        let now = TestClock::new().now();
        let old = key("k1");
        let token = LocalTokens::new(old.clone()).mint(&claims(now), now).unwrap();
        let kept = LocalKeys::from_pkcs8(KeyId::parse("k1").unwrap(), &old.to_pkcs8()).unwrap();
        let rotated = LocalTokens::new(key("k2").accept(&kept));
        assert!(rotated.validator().validate(&token, &claims(now).tenant, now).await.is_ok());
        let without = LocalTokens::new(key("k2")).validator().validate(&token, &claims(now).tenant, now).await;
        assert!(matches!(without, Err(Refusal::NotAuthentic("key"))));
        assert_eq!(rotated.keys.jwks()["keys"].as_array().unwrap().len(), 2);
        let e = LocalKeys::from_pkcs8(KeyId::parse("k1").unwrap(), &Secret::new("hunter2")).unwrap_err();
        assert!(e.to_string().contains("PKCS #8") && !format!("{e:?} {old:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn an_app_token_carries_data_and_nothing_else() {
        let now = TestClock::new().now();
        let tokens = LocalTokens::new(key("k1"));
        let scope = Scope::new(AppId::parse("todo42").unwrap(), Environment::Preview);
        let (token, expires_at) = tokens.issue(&scope, None, now).await.unwrap();
        let seen = tokens.validator().validate(&token, &TenantId::of_app(scope.app), now).await.unwrap();
        assert_eq!((seen.rights, seen.expires_at), (Rights::of([Right::Data]), expires_at));
        // What a preview's page holds opens nothing of production.
        assert_eq!((seen.environment, seen.subject), (Some(Environment::Preview), SubjectId::visitor()));
    }
}
