//! The first wall: who a token speaks for.

mod cache;
mod claims;
mod header;
mod jwks;
mod keys;
mod membership;
mod postgres;
mod trust;

pub use jwks::Jwks;
pub use keys::TokenKeys;
pub use membership::{Membership, MembershipKeys, Memberships, MemoryMemberships};
pub use postgres::PostgresMemberships;
pub use trust::{KeySource, TrustedIssuer};

use crate::permit::permit_all;
use async_trait::async_trait;
use cache::{Recent, Sum, Withdrawn, sum};
use claims::Said;
use header::Parts;
use keys::out_of_reach;
use membership::Attested;
use overskill_core::{
    AccessToken, AppId, Claims, Environment, Error, Readiness, Refusal, Result, Rights, SubjectId, SystemGrant,
    TenantGate, TenantId, TenantValidator, Timestamp,
};
use std::{fmt, sync::Arc, time::Duration};

const NAME: &str = "supabase";

/// Accepts tokens of the issuers it trusts: Supabase's own for users, and those that a
/// [`TokenIssuer`](crate::TokenIssuer) makes for apps.
///
/// In this order, and each step before the next looks: size · parts · header, of known fields only · issuer · key by its id ·
/// the algorithm that the key is for · signature · `exp nbf iss aud sub` · tenant · membership, where the issuer needs one.
/// What cannot be decided, because keys or memberships are out of reach or the clock is not set, is refused.
///
/// What was found true is kept until the token expires, under the digest of the token, and dropped when the issuer's keys
/// change, or when the token or its subject is [revoked](Self::revoke). A membership is asked for again after
/// [half a minute](SupabaseValidatorBuilder::membership_ttl).
///
/// ```
/// # use overskill_core::{DataKey, KeyId, Secret};
/// use overskill_supabase::{MemoryMemberships, MembershipKeys, SupabaseValidator, TokenKeys, TrustedIssuer};
///
/// let keys = TokenKeys::none().legacy_secret(None, &Secret::new("a secret of at least 32 bytes, kept safe"))?;
/// let attesting = MembershipKeys::new(KeyId::parse("m1")?, DataKey::from_bytes([7; 32]));
/// let validator = SupabaseValidator::builder()
///     .trust(TrustedIssuer::users("https://ref.supabase.co/auth/v1", keys))
///     .memberships(attesting, MemoryMemberships::new())
///     .build()?;
/// # let _ = validator;
/// # Ok::<(), overskill_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SupabaseValidator(Arc<Inner>);

struct Inner {
    issuers: Vec<TrustedIssuer>,
    attested: Option<Attested>,
    max_token_bytes: usize,
    membership_ttl: Duration,
    tokens: Recent<Sum, Arc<Known>>,
    members: Recent<(SubjectId, AppId), (Arc<Membership>, Timestamp)>,
    withdrawn: Withdrawn,
}

/// What a token says, found to be signed by its issuer.
struct Known {
    issuer: usize,
    edition: u64,
    /// The digest of what was signed.
    signed: Sum,
    subject: SubjectId,
    /// The tenant and the rights, unless memberships alone say so.
    says: Option<(TenantId, Rights)>,
    environment: Option<Environment>,
    from: Timestamp,
    until: Timestamp,
}

/// Settings of a [`SupabaseValidator`].
#[must_use = "a builder does nothing before `build`"]
#[derive(Debug)]
pub struct SupabaseValidatorBuilder {
    issuers: Vec<TrustedIssuer>,
    attested: Option<Attested>,
    max_token_bytes: usize,
    max_cached: usize,
    membership_ttl: Duration,
}

impl SupabaseValidator {
    /// A moment that has long passed: a clock that says it is earlier is not set.
    const SURELY_PAST: Timestamp = Timestamp::from_unix_millis(1_735_689_600_000); // 2025-01-01

    /// A validator that trusts nobody yet.
    pub fn builder() -> SupabaseValidatorBuilder {
        SupabaseValidatorBuilder {
            issuers: Vec::new(),
            attested: None,
            max_token_bytes: AccessToken::MAX_BYTES,
            max_cached: 50_000,
            membership_ttl: Duration::from_secs(30),
        }
    }

    /// Refuses this token from now on, in this process; whoever issued it goes on issuing others. Memberships end for all
    /// processes: [`Membership::since`]. The database goes on taking the context in an app's token until its session is
    /// [revoked there](crate::Schema::revoke).
    ///
    /// Needs a grant of `gate` for all apps. The gate is one that the caller brings, for a validator knows none: it should be
    /// the one made of this validator, whose audit log then has the grant.
    ///
    /// # Errors
    /// `Invalid` when it is no token: there is nothing to revoke.
    pub fn revoke(&self, gate: &TenantGate, grant: &SystemGrant, token: &AccessToken, now: Timestamp) -> Result<()> {
        permit_all(gate, grant)?;
        let refused = |_| Error::invalid("token to revoke must be a JSON Web Token").at(NAME, "revoke");
        let parts = Parts::of(token.expose()).map_err(refused)?;
        let said = parts.payload().and_then(|json| Said::read(&json)).map_err(refused)?;
        let (_, until) = said.validity(true).map_err(refused)?;
        self.0.withdrawn.token(sum(parts.signed), until, now);
        Ok(())
    }

    /// Refuses every token of `subject` that became valid before `now`, in this process. Its memberships are asked for
    /// again at once. Needs a grant of `gate` for all apps: a subject may belong to many.
    pub fn revoke_subject(
        &self,
        gate: &TenantGate,
        grant: &SystemGrant,
        subject: &SubjectId,
        now: Timestamp,
    ) -> Result<()> {
        permit_all(gate, grant)?;
        let longest = self.0.issuers.iter().map(|it| it.max_lifetime).max().unwrap_or_default();
        self.0.withdrawn.subject(subject.clone(), now, now.plus(longest), now);
        self.0.members.retain(|(of, _), _| of != subject);
        Ok(())
    }

    async fn known(&self, token: &AccessToken, now: Timestamp) -> Result<Arc<Known>, Refusal> {
        let text = token.expose();
        if text.len() > self.0.max_token_bytes {
            return Err(Refusal::Malformed("too large"));
        }
        if now < Self::SURELY_PAST {
            return Err(out_of_reach("the clock is not set").at(NAME, "validate").into());
        }
        let digest = sum(text);
        if let Some(known) = self.0.tokens.get(&digest)
            && self.0.issuers[known.issuer].keys.edition() == Some(known.edition)
        {
            return Ok(known);
        }
        let known = Arc::new(self.read(text).await?);
        self.0.tokens.insert(digest, known.clone());
        Ok(known)
    }

    /// Everything about a token that stays true until it expires.
    async fn read(&self, text: &str) -> Result<Known, Refusal> {
        let parts = Parts::of(text)?;
        let header = parts.header()?;
        // Nobody believes it yet: it says only whose keys to ask.
        let said = Said::read(&parts.payload()?)?;
        let iss = said.iss.as_deref().ok_or(Refusal::MissingClaim("iss"))?;
        let position = self.0.issuers.iter().position(|it| it.issuer == iss);
        let position = position.ok_or(Refusal::NotAuthentic("issuer"))?;
        let issuer = &self.0.issuers[position];
        let (keys, edition) = issuer.keys.keys_for(header.kid.as_deref()).await?;
        keys.verify(header.kid.as_deref(), header.algorithm, parts.signed, parts.signature)?;
        if !said.is_for(&issuer.audience)? {
            return Err(Refusal::NotAuthentic("audience"));
        }
        // Of a project's own keys, those for servers and for nobody are no users.
        if said.role.as_deref().is_some_and(|role| role != "authenticated") {
            return Err(Refusal::NotAuthentic("role"));
        }
        let subject = said.sub.as_deref().ok_or(Refusal::MissingClaim("sub"))?;
        let subject = subject.parse::<SubjectId>().map_err(|_| Refusal::MissingClaim("sub"))?;
        let (from, until) = said.validity(!issuer.names_tenants)?;
        if until.since(from) > issuer.max_lifetime {
            return Err(Refusal::OutsideValidity);
        }
        let (says, environment) =
            if issuer.names_tenants { (Some(tenant_of(&said)?), environment_of(&said)?) } else { (None, None) };
        Ok(Known { issuer: position, edition, signed: sum(parts.signed), subject, says, environment, from, until })
    }

    async fn membership(&self, known: &Known, app: &AppId, now: Timestamp) -> Result<Arc<Membership>, Refusal> {
        let attested = self.0.attested.as_ref().ok_or(Refusal::NotAttested)?;
        let key = (known.subject.clone(), app.clone());
        let fresh = |asked: Timestamp| now >= asked && now.since(asked) < self.0.membership_ttl;
        let row = match self.0.members.get(&key) {
            Some((row, asked)) if fresh(asked) => row,
            _ => {
                let row = Arc::new(attested.find(&known.subject, app).await?);
                self.0.members.insert(key, (row.clone(), now));
                row
            }
        };
        // To the second, as tokens have it.
        if known.from.as_unix_millis().div_euclid(1000) < row.since.as_unix_millis().div_euclid(1000) {
            return Err(Refusal::Revoked);
        }
        Ok(row)
    }
}

/// Shows nothing of the tokens it knows.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("issuers", &self.issuers)
            .field("attested", &self.attested)
            .finish_non_exhaustive()
    }
}

fn tenant_of(said: &Said) -> Result<(TenantId, Rights), Refusal> {
    let tenant = said.tenant.as_deref().and_then(|it| it.parse().ok()).ok_or(Refusal::MissingClaim("tenant"))?;
    let rights = said.rights.as_deref().and_then(|it| it.parse().ok()).ok_or(Refusal::MissingClaim("rights"))?;
    Ok((tenant, rights))
}

fn environment_of(said: &Said) -> Result<Option<Environment>, Refusal> {
    said.env.as_deref().map(str::parse).transpose().map_err(|_| Refusal::MissingClaim("env"))
}

#[async_trait]
impl TenantValidator for SupabaseValidator {
    async fn check(&self) -> Result<Readiness> {
        let mut readiness = Readiness::ready(NAME);
        for issuer in &self.0.issuers {
            readiness = issuer.keys.check(readiness).await;
        }
        if let Some(attested) = &self.0.attested {
            for problem in attested.store.check().await?.problems() {
                readiness = readiness.lacks(problem.what.clone(), problem.remedy.clone());
            }
        }
        Ok(readiness)
    }

    async fn validate(&self, token: &AccessToken, tenant: &TenantId, now: Timestamp) -> Result<Claims, Refusal> {
        let known = self.known(token, now).await?;
        let issuer = &self.0.issuers[known.issuer];
        if now.plus(issuer.leeway) < known.from || known.until <= now {
            return Err(Refusal::OutsideValidity);
        }
        if self.0.withdrawn.has(&known.signed, &known.subject, known.from) {
            return Err(Refusal::Revoked);
        }
        if tenant.subject().is_some_and(|it| *it != known.subject) {
            return Err(Refusal::OtherTenant);
        }
        let (own, rights) = match &known.says {
            Some((own, _)) if own.app() != tenant.app() => return Err(Refusal::OtherTenant),
            // A token for a user's part of the app has to be that user's.
            Some((own, _)) if own.subject().is_some_and(|it| *it != known.subject) => return Err(Refusal::NotAttested),
            Some((own, rights)) if issuer.attested => {
                let row = self.membership(&known, own.app(), now).await?;
                // Who belongs to their own part only speaks for no more than that.
                let narrow = if own.subject().is_some() { own } else { &row.tenant };
                (narrow.clone(), rights.intersection(row.rights))
            }
            Some((own, rights)) => (own.clone(), *rights),
            None => {
                let row = self.membership(&known, tenant.app(), now).await?;
                (row.tenant.clone(), row.rights)
            }
        };
        let claims = Claims::new(known.subject.clone(), own, rights, known.until);
        Ok(known.environment.into_iter().fold(claims, Claims::in_environment))
    }
}

impl SupabaseValidatorBuilder {
    /// Trusts one more issuer.
    pub fn trust(mut self, issuer: TrustedIssuer) -> Self {
        self.issuers.push(issuer);
        self
    }

    /// Sets where memberships are kept, and the keys that attest them.
    pub fn memberships(mut self, keys: MembershipKeys, store: impl Memberships) -> Self {
        self.attested = Some(Attested { keys, store: Arc::new(store) });
        self
    }

    /// Sets the largest token in bytes; [`AccessToken::MAX_BYTES`] otherwise.
    pub fn max_token_bytes(mut self, bytes: usize) -> Self {
        self.max_token_bytes = bytes;
        self
    }

    /// Sets how many tokens, and how many memberships, are kept in memory; 50,000 otherwise, of some 300 bytes each.
    pub fn max_cached(mut self, tokens: usize) -> Self {
        self.max_cached = tokens;
        self
    }

    /// Sets how long a membership counts before it is asked for again; 30 seconds otherwise. A member who was removed stays
    /// one for so long.
    pub fn membership_ttl(mut self, ttl: Duration) -> Self {
        self.membership_ttl = ttl;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    /// `Invalid` when nobody is trusted, an issuer is named twice, or one needs memberships and there are none.
    pub fn build(self) -> Result<SupabaseValidator> {
        let refuse = |why: &'static str| Err(Error::invalid(why).at(NAME, "build"));
        if self.issuers.is_empty() {
            return refuse("validator must trust an issuer, but was given none");
        }
        for (n, issuer) in self.issuers.iter().enumerate() {
            if issuer.issuer.is_empty() || issuer.audience.is_empty() {
                return refuse("issuer and audience must not be empty");
            }
            if self.issuers[..n].iter().any(|it| it.issuer == issuer.issuer) {
                return refuse("issuer must be trusted once, but was given twice");
            }
            if issuer.attested && self.attested.is_none() {
                return refuse("issuer needs memberships, but there are none: give some with `memberships`");
            }
        }
        Ok(SupabaseValidator(Arc::new(Inner {
            issuers: self.issuers,
            attested: self.attested,
            max_token_bytes: self.max_token_bytes.min(AccessToken::MAX_BYTES),
            membership_ttl: self.membership_ttl,
            tokens: Recent::new(self.max_cached),
            members: Recent::new(self.max_cached),
            withdrawn: Withdrawn::default(),
        })))
    }
}
