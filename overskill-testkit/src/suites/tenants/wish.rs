//! What a case wishes for: a token with certain claims and at most one flaw.

use overskill_core::{Environment, SubjectId, TenantId, Timestamp};
use std::time::Duration;

/// A token that a case wishes for. Times are whole seconds, as tokens have them (RFC 7519).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenWish {
    /// The tenant it is for.
    pub tenant: TenantId,
    /// Who has it.
    pub subject: SubjectId,
    /// The rights, as text: joined with spaces.
    pub rights: String,
    /// From when on it is valid.
    pub issued_at: Timestamp,
    /// The first moment it is not valid.
    pub expires_at: Timestamp,
    /// How it is signed; `None` for the usual algorithm.
    pub algorithm: Option<TokenAlgorithm>,
    /// The one environment it is good in; every environment if there is none.
    pub environment: Option<Environment>,
    /// What is wrong with it, if anything.
    pub flaw: Option<Flaw>,
}

impl TokenWish {
    /// A good token with every right, from the full second before `now` on, for five minutes.
    pub fn new(tenant: TenantId, subject: SubjectId, now: Timestamp) -> Self {
        let millis = now.as_unix_millis();
        let issued_at = Timestamp::from_unix_millis(millis - millis.rem_euclid(1000));
        let expires_at = issued_at.plus(Duration::from_mins(5));
        let rights = "data develop operate".into();
        Self { tenant, subject, rights, issued_at, expires_at, algorithm: None, environment: None, flaw: None }
    }

    /// Sets the rights.
    pub fn rights(mut self, rights: impl Into<String>) -> Self {
        self.rights = rights.into();
        self
    }

    /// Sets how it is signed.
    pub fn signed_with(mut self, algorithm: TokenAlgorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Sets when it is valid.
    pub fn valid(mut self, from: Timestamp, until: Timestamp) -> Self {
        (self.issued_at, self.expires_at) = (from, until);
        self
    }

    /// Makes it good in one environment alone.
    pub fn in_environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Sets what is wrong with it.
    pub fn flaw(mut self, flaw: Flaw) -> Self {
        self.flaw = Some(flaw);
        self
    }
}

/// How a token is signed: every algorithm of RFC 7518, 3.1 and RFC 8037 (`none` is a [`Flaw`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSA with PKCS #1 v1.5 and SHA-256.
    Rs256,
    /// RSA with PKCS #1 v1.5 and SHA-384.
    Rs384,
    /// RSA with PKCS #1 v1.5 and SHA-512.
    Rs512,
    /// RSA with PSS and SHA-256.
    Ps256,
    /// RSA with PSS and SHA-384.
    Ps384,
    /// RSA with PSS and SHA-512.
    Ps512,
    /// Ed25519.
    EdDsa,
    /// A shared secret with SHA-256.
    Hs256,
    /// A shared secret with SHA-384.
    Hs384,
    /// A shared secret with SHA-512.
    Hs512,
}

impl TokenAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 13] = [
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::EdDsa,
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
    ];

    /// Its name in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }
}

/// A claim that every token has to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TokenClaim {
    /// Until when it is valid.
    Expiry,
    /// Who has it.
    Subject,
    /// Who made it.
    Issuer,
    /// Whom it is for.
    Audience,
    /// Which tenant it is for.
    Tenant,
}

impl TokenClaim {
    /// Every such claim.
    pub const ALL: [Self; 5] = [Self::Expiry, Self::Subject, Self::Issuer, Self::Audience, Self::Tenant];
}

/// In which form a public key is taken for a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyForm {
    /// As PEM text (RFC 7468).
    Pem,
    /// As a DER `SubjectPublicKeyInfo` (RFC 5280).
    Der,
    /// As the bare key, such as a point on its curve.
    Raw,
}

impl KeyForm {
    /// Every form.
    pub const ALL: [Self; 3] = [Self::Pem, Self::Der, Self::Raw];
}

/// What is wrong with a token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// A bit of the signature is another.
    ForgedSignature,
    /// The signature is left out.
    NoSignature,
    /// The claims were changed after it was signed.
    AlteredClaims,
    /// It is signed with a key that nobody published, under the id of one that was.
    ForeignKey,
    /// Its key id is of no key.
    UnknownKey,
    /// Its algorithm is `none`, and it has no signature.
    AlgNone,
    /// It claims HS256, and its secret is the public key.
    KeyConfusion(KeyForm),
    /// It is not a token of access, by its `typ`.
    WrongType,
    /// Its header names an extension in `crit` that nobody knows (RFC 7515, 4.1.11).
    UnknownCritical,
    /// A claim is missing.
    Missing(TokenClaim),
    /// Another issuer made it.
    WrongIssuer,
    /// It is for another audience.
    WrongAudience,
    /// Its tenant is this text.
    TenantText(String),
    /// It names two subjects, this one first.
    DuplicateClaim(SubjectId),
    /// Its claims are no JSON.
    NotJson,
    /// It is larger than any token may be.
    Oversized,
}
