//! Whose tokens are believed, and for what.

use super::{jwks::Edition, jwks::Jwks, keys::TokenKeys};
use overskill_core::{Readiness, Refusal};
use std::{sync::Arc, time::Duration};

/// An issuer whose tokens are believed.
#[derive(Clone, Debug)]
pub struct TrustedIssuer {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) keys: KeySource,
    /// Whether its tokens say for which tenant they are, and with which rights.
    pub(super) names_tenants: bool,
    pub(super) attested: bool,
    pub(super) leeway: Duration,
    pub(super) max_lifetime: Duration,
}

impl TrustedIssuer {
    /// Supabase Auth of a project, `https://{ref}.supabase.co/auth/v1`: its tokens say who somebody is, and nothing more.
    /// Tenant and rights come from a membership. `iat` takes the place of `nbf`, which these tokens do not have, and may be
    /// up to 5 seconds ahead of our clock.
    pub fn users(issuer: impl Into<String>, keys: impl Into<KeySource>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: "authenticated".into(),
            keys: keys.into(),
            names_tenants: false,
            attested: true,
            leeway: Duration::from_secs(5),
            max_lifetime: Duration::from_hours(24),
        }
    }

    /// A [`TokenIssuer`](crate::TokenIssuer): its tokens name tenant, rights and environment, and are believed.
    pub fn apps(issuer: impl Into<String>, keys: impl Into<KeySource>) -> Self {
        Self { names_tenants: true, attested: false, leeway: Duration::ZERO, ..Self::users(issuer, keys) }
    }

    /// Sets for whom tokens have to be; `authenticated` otherwise.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// Wants a membership beside the token, whose rights are the most that the token has: for tokens that are good for
    /// longer than a membership may be.
    pub fn attested(mut self) -> Self {
        self.attested = true;
        self
    }

    /// Sets how far ahead of our clock a token may begin.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Sets for how long a token may be good; a day otherwise. One that is good for longer is refused from the start.
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = lifetime;
        self
    }
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug)]
pub struct KeySource(Source);

#[derive(Clone, Debug)]
enum Source {
    Fixed(Arc<TokenKeys>),
    Published(Jwks),
    /// Tokens that name none of the fixed keys are looked for among the published ones.
    Both(Arc<TokenKeys>, Jwks),
}

impl KeySource {
    /// Published keys, and fixed ones beside them: a project that moves from its legacy secret to signing keys.
    pub fn both(fixed: TokenKeys, published: Jwks) -> Self {
        Self(Source::Both(Arc::new(fixed), published))
    }

    /// Which edition is in use; none when it has to be looked at again.
    pub(super) fn edition(&self) -> Option<u64> {
        match &self.0 {
            Source::Fixed(_) => Some(0),
            Source::Published(jwks) | Source::Both(_, jwks) => jwks.fresh().map(|(_, edition)| edition),
        }
    }

    pub(super) async fn keys_for(&self, kid: Option<&str>) -> Result<Edition, Refusal> {
        let (fixed, published) = match &self.0 {
            Source::Fixed(keys) => return Ok((keys.clone(), 0)),
            Source::Published(jwks) => (None, jwks),
            Source::Both(keys, jwks) => (Some(keys), jwks),
        };
        if let Some(keys) = fixed.filter(|it| it.has(kid)) {
            return Ok((keys.clone(), published.fresh().map_or(0, |(_, edition)| edition)));
        }
        // A token that names no key could be of any.
        let kid = kid.filter(|it| it.len() <= TokenKeys::MAX_KID_BYTES).ok_or(Refusal::NotAuthentic("key"))?;
        Ok(published.keys_for(kid).await?)
    }

    pub(super) async fn check(&self, readiness: Readiness) -> Readiness {
        match &self.0 {
            Source::Fixed(_) => readiness,
            Source::Published(jwks) | Source::Both(_, jwks) => jwks.check(readiness).await,
        }
    }
}

impl From<TokenKeys> for KeySource {
    fn from(keys: TokenKeys) -> Self {
        Self(Source::Fixed(Arc::new(keys)))
    }
}

impl From<Jwks> for KeySource {
    fn from(jwks: Jwks) -> Self {
        Self(Source::Published(jwks))
    }
}
