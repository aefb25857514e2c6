//! Tokens for apps that Supabase accepts, made without Supabase's own secret.

mod key;

pub use key::SigningKey;

use crate::context::{Context, ContextKeys, Session};
use async_trait::async_trait;
use jsonwebtoken::{Algorithm, Header, encode};
use overskill_core::{
    AccessToken, AppTokens, Environment, Error, Grant, Ids, Readiness, Result, Right, Rights, Scope, SubjectId,
    SystemGrant, SystemIds, TenantGate, TenantId, Timestamp,
};
use serde::Serialize;
use std::{fmt, sync::Arc, time::Duration};

/// Makes the short-lived tokens that apps carry: ES256, for one app, one environment and one subject, with the right to data
/// and no other.
///
/// Supabase's services accept them once they know the key: either [imported](crate::Management::import_signing_key) as the
/// project's own, or published as [`jwks`](Self::jwks) and named as
/// [third-party auth](crate::Management::trust_jwks). The legacy secret, which could make a token of any role, is not needed.
///
/// In the project that accepts them, whoever uses an app is `authenticated` by them: it should be
/// [for apps alone](crate::Schema#the-project-is-for-apps-alone).
///
/// Beside what Supabase wants (`role`, `aud`, `sub`), a token has the claims `tenant`, `rights` and `env` for a
/// [`SupabaseValidator`](crate::SupabaseValidator) that trusts it as [`apps`](crate::TrustedIssuer::apps), and the signed
/// context for the database in `app_metadata.overskill`. Context and token expire at the same second. To end a token before,
/// wherever it is shown, [revoke](crate::Schema::revoke) [its session](crate::Session::of_token).
///
/// ```
/// use overskill_core::{AppTokens, Clock, KeyId, Scope, SystemClock, SystemIds, SystemScopes, TenantGate, memory::MemoryAudit};
/// use overskill_supabase::{ContextKey, ContextKeys, SigningKey, SupabaseValidator, TokenIssuer, TokenKeys, TrustedIssuer};
/// use std::sync::Arc;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
///
/// let contexts = ContextKeys::new(ContextKey::generate(KeyId::parse("c1")?, &SystemIds));
/// let key = SigningKey::generate(&SystemIds, SystemClock.now())?;
/// let issuer = TokenIssuer::new("https://tokens.example.com", key, contexts);
///
/// let keys = TokenKeys::from_jwks(issuer.jwks().to_string().as_bytes())?;
/// let validator = SupabaseValidator::builder().trust(TrustedIssuer::apps(issuer.issuer(), keys)).build()?;
/// let gate = TenantGate::new(Arc::new(validator), Arc::new(MemoryAudit::new()), Arc::new(SystemClock));
///
/// // Who serves apps makes tokens for them: of all, or of some.
/// let grant = gate.system("server", "serves apps", SystemScopes::All).await?;
/// let tokens = issuer.granted(&gate, &grant);
/// let scope: Scope = "todo42/production".parse()?;
/// let (token, expires_at) = tokens.issue(&scope, None, SystemClock.now()).await?;
/// # let _ = (token, expires_at);
/// # Ok::<(), overskill_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct TokenIssuer(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    issuer: String,
    audience: String,
    current: SigningKey,
    /// Published too: keys that signed before, or will sign soon.
    others: Vec<SigningKey>,
    contexts: ContextKeys,
    ttl: Duration,
    ids: Arc<dyn Ids>,
}

impl TokenIssuer {
    /// Longest life of a token.
    pub const MAX_TTL: Duration = Duration::from_hours(1);

    /// Tokens of `issuer` for the audience `authenticated`, signed with `key`, good for 5 minutes; the database checks their
    /// context by `contexts`.
    pub fn new(issuer: impl Into<String>, key: SigningKey, contexts: ContextKeys) -> Self {
        Self(Arc::new(Inner {
            issuer: issuer.into(),
            audience: "authenticated".into(),
            current: key,
            others: Vec::new(),
            contexts,
            ttl: Duration::from_mins(5),
            ids: Arc::new(SystemIds),
        }))
    }

    /// Sets how long a token lasts; at most an hour.
    pub fn ttl(self, ttl: Duration) -> Self {
        self.with(|it| it.ttl = ttl.min(Self::MAX_TTL))
    }

    /// Publishes `key` too. To rotate: publish the new key, sign with it once everybody has fetched it, and leave out the old
    /// one once the last token under it has expired.
    pub fn also_publish(self, key: SigningKey) -> Self {
        self.with(|it| it.others.push(key))
    }

    /// Sets where the names of sessions come from.
    pub fn ids(self, ids: impl Ids) -> Self {
        self.with(|it| it.ids = Arc::new(ids))
    }

    /// Who issues: the claim `iss`.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The public keys as a JWK Set (RFC 7517), to be served where [third-party auth](crate::Management::trust_jwks) looks for
    /// them.
    pub fn jwks(&self) -> serde_json::Value {
        serde_json::json!({ "keys": self.keys().map(SigningKey::public_jwk).collect::<Vec<_>>() })
    }

    /// The key that signs, and then the others that are published.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        std::iter::once(&self.0.current).chain(&self.0.others)
    }

    /// What makes tokens, for the apps that `grant` is for; each time, `gate` is asked about it. An issuer has no gate of its
    /// own: whoever holds it can bring any, and make tokens. Hand on what this gives, and not the issuer.
    pub fn granted(&self, gate: &TenantGate, grant: &SystemGrant) -> GrantedIssuer {
        GrantedIssuer { issuer: self.clone(), gate: gate.clone(), grant: grant.clone().into() }
    }

    fn with(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Self(Arc::new(inner))
    }
}

/// Times are seconds since the Unix epoch (RFC 7519).
#[derive(Serialize)]
struct AppClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a SubjectId,
    role: &'static str,
    iat: i64,
    nbf: i64,
    exp: i64,
    session_id: String,
    is_anonymous: bool,
    tenant: TenantId,
    rights: Rights,
    env: Environment,
    app_metadata: Metadata<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    overskill: &'a str,
}

/// A [`TokenIssuer`] in the hands of who holds a grant: [`TokenIssuer::granted`]. Clones are cheap.
#[derive(Clone, Debug)]
pub struct GrantedIssuer {
    issuer: TokenIssuer,
    gate: TenantGate,
    grant: Grant,
}

#[async_trait]
impl AppTokens for GrantedIssuer {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("supabase tokens"))
    }

    /// `Denied` when the grant is of another gate, or for other apps.
    async fn issue(
        &self,
        scope: &Scope,
        subject: Option<SubjectId>,
        now: Timestamp,
    ) -> Result<(AccessToken, Timestamp)> {
        self.gate.permit(&self.grant, scope, Right::Data)?;
        self.issuer.sign(scope, subject, now)
    }
}

impl TokenIssuer {
    fn sign(&self, scope: &Scope, subject: Option<SubjectId>, now: Timestamp) -> Result<(AccessToken, Timestamp)> {
        let Inner { issuer, audience, current, contexts, ttl, ids, .. } = &*self.0;
        let seconds = |t: Timestamp| t.as_unix_millis().div_euclid(1000);
        let expires_at = Timestamp::from_unix_millis(seconds(now.plus(*ttl)) * 1000);
        let is_anonymous = subject.is_none();
        let subject = subject.unwrap_or_else(SubjectId::visitor);
        let (rights, session) = (Rights::of([Right::Data]), Session::generate(&**ids));
        let context = contexts.sign(&Context { scope, rights, subject: &subject, session, expires_at });
        let claims = AppClaims {
            iss: issuer,
            aud: audience,
            sub: &subject,
            role: "authenticated",
            iat: seconds(now),
            nbf: seconds(now),
            exp: seconds(expires_at),
            session_id: session.to_string(),
            is_anonymous,
            tenant: TenantId::of_user(scope.app.clone(), subject.clone()),
            rights,
            env: scope.environment,
            app_metadata: Metadata { overskill: context.expose() },
        };
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(current.kid().to_owned());
        let token = encode(&header, &claims, current.signing())
            .map_err(|e| Error::unexpected("a token could not be signed", e).at("supabase", "issue"))?;
        Ok((AccessToken::parse(&token)?, expires_at))
    }
}

impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer")
            .field("issuer", &self.0.issuer)
            .field("current", &self.0.current)
            .field("others", &self.0.others)
            .field("contexts", &self.0.contexts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContextKey, SupabaseValidator, TokenKeys, TrustedIssuer};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use overskill_core::{
        Clock as _, ErrorKind, KeyId, SeededIds, SystemScopes, TenantValidator as _, TestClock, memory::MemoryAudit,
    };
    use serde_json::Value;

    fn issuer() -> TokenIssuer {
        let ids = SeededIds::new(1);
        let contexts = ContextKeys::new(ContextKey::generate(KeyId::parse("c1").unwrap(), &ids));
        TokenIssuer::new(
            "https://tokens.example.com",
            SigningKey::generate(&ids, TestClock::new().now()).unwrap(),
            contexts,
        )
    }

    fn validator(issuer: &TokenIssuer) -> SupabaseValidator {
        let keys = TokenKeys::from_jwks(issuer.jwks().to_string().as_bytes()).unwrap();
        SupabaseValidator::builder().trust(TrustedIssuer::apps(issuer.issuer(), keys)).build().unwrap()
    }

    #[tokio::test]
    async fn a_token_is_for_one_subject_of_one_app_in_one_environment() {
        let (issuer, now) = (issuer(), TestClock::new().now());
        let scope: Scope = "todo42/preview".parse().unwrap();
        let (token, expires_at) = issuer.sign(&scope, Some("ada".parse().unwrap()), now).unwrap();
        let seen = validator(&issuer).validate(&token, &"app_todo42_tenant".parse().unwrap(), now).await.unwrap();
        assert_eq!((seen.subject.as_str(), seen.tenant.to_string().as_str()), ("ada", "app_todo42_user_ada"));
        assert_eq!((seen.rights, seen.environment), (Rights::of([Right::Data]), Some(Environment::Preview)));
        assert_eq!((seen.expires_at, expires_at), (now.plus(Duration::from_mins(5)), now.plus(Duration::from_mins(5))));

        let payload = URL_SAFE_NO_PAD.decode(token.expose().split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((&claims["role"], &claims["aud"]), (&"authenticated".into(), &"authenticated".into()));
        let context = claims["app_metadata"]["overskill"].as_str().unwrap();
        let session = claims["session_id"].as_str().unwrap();
        assert!(context.starts_with(&format!("1.c1.todo42.preview.d.616461.{session}.")), "{context}");
        assert_eq!(Session::of_token(&token).unwrap(), Session::parse(session).unwrap());
        // To the second, whatever the clock says: the context must not outlive the token.
        let (token, expires_at) = issuer.sign(&scope, None, now.plus(Duration::from_millis(999))).unwrap();
        assert_eq!(expires_at, now.plus(Duration::from_mins(5)));
        let seen = validator(&issuer).validate(&token, &"app_todo42_tenant".parse().unwrap(), now).await.unwrap();
        assert_eq!(seen.subject, SubjectId::visitor());
    }

    #[tokio::test]
    async fn tokens_are_made_for_who_holds_a_grant_for_the_app() {
        let (issuer, now) = (issuer(), TestClock::new().now());
        let gate =
            || TenantGate::new(Arc::new(validator(&issuer)), Arc::new(MemoryAudit::new()), Arc::new(TestClock::new()));
        let (ours, other) = (gate(), gate());
        let grant = async |gate: &TenantGate, scopes| gate.system("test", "serves apps", scopes).await.unwrap();
        let scope: Scope = "todo42/production".parse().unwrap();
        let only = SystemScopes::Only([scope.clone()].into());
        for scopes in [SystemScopes::All, SystemScopes::app(scope.app.clone()), only] {
            let tokens = issuer.granted(&ours, &grant(&ours, scopes).await);
            let (token, _) = tokens.issue(&scope, None, now).await.unwrap();
            assert!(ours.admit(&token, &"app_todo42_tenant".parse().unwrap()).await.is_ok());
        }
        let staging: Scope = "todo42/staging".parse().unwrap();
        for grant in [
            grant(&other, SystemScopes::All).await,
            grant(&ours, SystemScopes::app("shop".parse().unwrap())).await,
            grant(&ours, SystemScopes::Only([staging].into())).await,
        ] {
            let e = issuer.granted(&ours, &grant).issue(&scope, None, now).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Denied);
        }
    }

    #[tokio::test]
    async fn keys_rotate_and_lives_are_short() {
        let (old, now) = (issuer(), TestClock::new().now());
        let ids = SeededIds::new(2);
        let scope: Scope = "todo42/production".parse().unwrap();
        let (token, _) = old.sign(&scope, None, now).unwrap();
        let key = SigningKey::generate(&ids, now).unwrap();
        let new = TokenIssuer::new(old.issuer(), key, old.0.contexts.clone()).also_publish(old.0.current.clone());
        let new = new.ttl(Duration::from_hours(1_000)).ids(ids);
        assert_eq!(new.jwks()["keys"].as_array().unwrap().len(), 2);
        let tenant = "app_todo42_tenant".parse().unwrap();
        assert!(validator(&new).validate(&token, &tenant, now).await.is_ok());
        let (token, expires_at) = new.sign(&scope, None, now).unwrap();
        assert_eq!(expires_at, now.plus(TokenIssuer::MAX_TTL));
        assert!(validator(&old).validate(&token, &tenant, now).await.is_err());
        let private = new.0.current.private_jwk();
        let d = serde_json::from_str::<Value>(private.expose()).unwrap()["d"].as_str().unwrap().to_owned();
        assert!(!format!("{new:?}").contains(&d) && !new.jwks().to_string().contains(&d));
    }
}
