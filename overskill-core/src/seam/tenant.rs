use crate::{AccessToken, AppId, Environment, Error, Policy, Readiness, Result, SubjectId, TenantId, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt, fmt::Debug, str::FromStr, sync::Arc};

/// What a subject may do with an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Use the app's data through its own `/api/*`. All that an app's token ever carries.
    Data,
    /// See and change sources, previews and schedules.
    Develop,
    /// Deploy, roll back, and set variables and secrets.
    Operate,
}

impl Right {
    /// Every right.
    pub const ALL: [Self; 3] = [Self::Data, Self::Develop, Self::Operate];

    /// Its name: `data`, `develop` or `operate`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Develop => "develop",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of [`Right`]s. No right contains another. As text, and so in JSON: names joined with spaces, as an OAuth scope.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rights(u8);

impl Rights {
    /// No right at all.
    pub const NONE: Self = Self(0);
    /// Every right.
    pub const ALL: Self = Self(0b111);

    /// These rights.
    pub fn of(rights: impl IntoIterator<Item = Right>) -> Self {
        Self(rights.into_iter().fold(0, |bits, r| bits | 1 << r as u8))
    }

    /// Whether `right` is among them.
    pub const fn has(self, right: Right) -> bool {
        self.0 & 1 << right as u8 != 0
    }

    /// Those that are in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = Right::ALL.into_iter().filter(|r| self.has(*r)).map(Right::as_str).collect();
        f.write_str(&names.join(" "))
    }
}

impl Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rights({self})")
    }
}

impl FromStr for Rights {
    type Err = crate::ParseError;

    fn from_str(s: &str) -> Result<Self, crate::ParseError> {
        let right = |word: &str| {
            let known = Right::ALL.into_iter().find(|r| r.as_str() == word);
            known.ok_or_else(|| crate::ParseError::new("rights", "may name only data, develop and operate", s))
        };
        s.split_ascii_whitespace().map(right).collect::<Result<Vec<_>, _>>().map(Self::of)
    }
}

impl TryFrom<String> for Rights {
    type Error = crate::ParseError;
    fn try_from(s: String) -> Result<Self, crate::ParseError> {
        s.parse()
    }
}

impl From<Rights> for String {
    fn from(r: Rights) -> String {
        r.to_string()
    }
}

/// What a token says once it was found to be true. Not yet a grant: only a [`TenantGate`](crate::TenantGate) makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claims {
    /// Who.
    pub subject: SubjectId,
    /// For which tenant: the whole app, or the subject's own part of it.
    pub tenant: TenantId,
    /// What they may do.
    pub rights: Rights,
    /// In which environment; in each if none is named. An app's own token names the one that its page is of.
    pub environment: Option<Environment>,
    /// Until when; that moment is already too late.
    pub expires_at: Timestamp,
}

impl Claims {
    /// `subject` may do `rights` with `tenant` until `expires_at`, in each environment.
    pub const fn new(subject: SubjectId, tenant: TenantId, rights: Rights, expires_at: Timestamp) -> Self {
        Self { subject, tenant, rights, environment: None, expires_at }
    }

    /// In this environment alone.
    pub fn in_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// The app they are for.
    pub fn app(&self) -> &AppId {
        self.tenant.app()
    }
}

/// Why a tenant was refused. Audited in full; a caller outside sees one sentence for all.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a token, or larger than allowed.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// The signature, key, algorithm, issuer or audience is wrong.
    #[error("the token is not authentic: {0}")]
    NotAuthentic(&'static str),
    /// Not valid yet, or not any more.
    #[error("the token is outside its validity")]
    OutsideValidity,
    /// A claim that has to be there is missing or of the wrong form.
    #[error("the token lacks the claim `{0}`")]
    MissingClaim(&'static str),
    /// It speaks for another tenant.
    #[error("the token is for another tenant")]
    OtherTenant,
    /// The subject is no member of the tenant, or the membership does not attest it.
    #[error("the membership is not attested")]
    NotAttested,
    /// It was withdrawn.
    #[error("the token was revoked")]
    Revoked,
    /// It could not be decided, so it is refused.
    #[error("the token could not be checked")]
    Undecided(#[source] Arc<Error>),
}

impl Refusal {
    /// The one sentence for a caller outside.
    pub const PUBLIC: &'static str = "Access denied.";

    /// A stable word for the audit log and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::NotAuthentic(_) => "not_authentic",
            Self::OutsideValidity => "outside_validity",
            Self::MissingClaim(_) => "missing_claim",
            Self::OtherTenant => "other_tenant",
            Self::NotAttested => "not_attested",
            Self::Revoked => "revoked",
            Self::Undecided(_) => "undecided",
        }
    }
}

impl From<Error> for Refusal {
    fn from(e: Error) -> Self {
        Self::Undecided(Arc::new(e))
    }
}

/// Turns a token into claims, or refuses. It fails closed: what cannot be decided is refused.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait TenantValidator: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Whether `token` speaks for `tenant` at `now`.
    ///
    /// The claims' tenant is of the same app. If `tenant` names a subject, the claims are that subject's.
    async fn validate(&self, token: &AccessToken, tenant: &TenantId, now: Timestamp) -> Result<Claims, Refusal>;
}

macro_rules! forward_validator {
    ($($Pointer:ident),*) => {$(
        #[deny(clippy::missing_trait_methods)]
        #[async_trait]
        impl<S: TenantValidator + ?Sized> TenantValidator for $Pointer<S> {
            async fn check(&self) -> Result<Readiness> {
                (**self).check().await
            }
            async fn validate(&self, token: &AccessToken, tenant: &TenantId, now: Timestamp) -> Result<Claims, Refusal> {
                (**self).validate(token, tenant, now).await
            }
        }
    )*};
}
forward_validator!(Arc, Box);

/// A refusal is an answer and is passed through; only what could not be decided is a failure that a policy sees.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<S: TenantValidator, P: Policy> TenantValidator for crate::Around<S, P> {
    async fn check(&self) -> Result<Readiness> {
        const CHECK: crate::Operation =
            crate::Operation { seam: "tenants", name: "check", repeat: crate::Repeat::Safe };
        self.policy().run(CHECK, || self.inner().check()).await
    }

    async fn validate(&self, token: &AccessToken, tenant: &TenantId, now: Timestamp) -> Result<Claims, Refusal> {
        const VALIDATE: crate::Operation =
            crate::Operation { seam: "tenants", name: "validate", repeat: crate::Repeat::Safe };
        let call = || async {
            match self.inner().validate(token, tenant, now).await {
                // `Around` is the only holder of a failure that was just made; a shared one is told again.
                Err(Refusal::Undecided(e)) => Err(Arc::try_unwrap(e).unwrap_or_else(|shared| {
                    Error::new(shared.kind(), shared.message().to_owned())
                        .retry_as(shared.retry())
                        .effect_as(shared.effect())
                        .caused_by(shared)
                })),
                decided => Ok(decided),
            }
        };
        self.policy().run(VALIDATE, call).await?
    }
}
