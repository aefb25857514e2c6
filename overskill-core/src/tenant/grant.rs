use crate::{Actor, AppId, Claims, Environment, Right, Rights, Scope, SubjectId, TenantId, Timestamp};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Which gate made a grant. Unique within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GateId(u64);

impl GateId {
    pub(super) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Proof that a [`TenantGate`](crate::TenantGate) checked a token. There is no other way to make one.
///
/// It is good for one app, until it expires, at the gate that made it. Each use of it is checked again.
#[derive(Clone, Debug)]
pub struct TenantGrant {
    pub(super) gate: GateId,
    pub(super) claims: Arc<Claims>,
}

impl TenantGrant {
    /// The app it is good for.
    pub fn app(&self) -> &AppId {
        self.claims.app()
    }

    /// The tenant that the token spoke for.
    pub fn tenant(&self) -> &TenantId {
        &self.claims.tenant
    }

    /// The user that the token spoke for.
    pub fn subject(&self) -> &SubjectId {
        &self.claims.subject
    }

    /// What it allows.
    pub fn rights(&self) -> Rights {
        self.claims.rights
    }

    /// In which environment it is good; in each if it names none.
    pub fn environment(&self) -> Option<Environment> {
        self.claims.environment
    }

    /// From when on it allows nothing.
    pub fn expires_at(&self) -> Timestamp {
        self.claims.expires_at
    }

    /// The same grant with no more than `rights`.
    pub fn narrowed(&self, rights: Rights) -> Self {
        let mut claims = Claims::clone(&self.claims);
        claims.rights = claims.rights.intersection(rights);
        Self { gate: self.gate, claims: Arc::new(claims) }
    }
}

/// What the host's own code may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemScopes {
    /// Every app.
    All,
    /// These apps, in every environment.
    Apps(BTreeSet<AppId>),
    /// These scopes.
    Only(BTreeSet<Scope>),
}

impl SystemScopes {
    /// One app, in every environment.
    pub fn app(app: AppId) -> Self {
        Self::Apps([app].into())
    }

    pub(super) fn contain(&self, app: &AppId, environment: Option<Environment>) -> bool {
        match self {
            Self::All => true,
            Self::Apps(apps) => apps.contains(app),
            Self::Only(scopes) => environment.is_some_and(|e| scopes.contains(&Scope::new(app.clone(), e))),
        }
    }
}

/// Proof that the host's own code said in the audit log what it is about to do. Made by
/// [`TenantGate::system`](crate::TenantGate::system).
#[derive(Clone, Debug)]
pub struct SystemGrant {
    pub(super) gate: GateId,
    pub(super) actor: Actor,
    pub(super) scopes: Arc<SystemScopes>,
}

impl SystemGrant {
    /// Who acts.
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// What it may touch.
    pub fn scopes(&self) -> &SystemScopes {
        &self.scopes
    }
}

/// A tenant's grant, or the host's own.
#[derive(Clone, Debug)]
pub enum Grant {
    /// By a token that was checked.
    Tenant(TenantGrant),
    /// By the host's own code.
    System(SystemGrant),
}

impl Grant {
    /// Who acts.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Tenant(grant) => Actor::Subject(grant.subject().clone()),
            Self::System(grant) => grant.actor.clone(),
        }
    }

    pub(super) fn gate(&self) -> GateId {
        match self {
            Self::Tenant(grant) => grant.gate,
            Self::System(grant) => grant.gate,
        }
    }

    pub(super) fn allows(&self, right: Right) -> bool {
        match self {
            Self::Tenant(grant) => grant.rights().has(right),
            Self::System(_) => true,
        }
    }
}

impl From<TenantGrant> for Grant {
    fn from(grant: TenantGrant) -> Self {
        Self::Tenant(grant)
    }
}

impl From<SystemGrant> for Grant {
    fn from(grant: SystemGrant) -> Self {
        Self::System(grant)
    }
}
