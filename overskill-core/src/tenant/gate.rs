use super::{
    grant::{GateId, Grant, SystemGrant, SystemScopes, TenantGrant},
    refusals::Refusals,
};
use crate::{
    AccessToken, Actor, AppId, AuditEntry, AuditLog, Clock, Effect, Environment, Error, ErrorKind, ParseError, Refusal,
    Result, Right, Scope, TenantId, TenantValidator, instruments,
};
use std::sync::Arc;

/// The one place where grants are made. Cheap to clone; clones are the same gate.
///
/// Refusals are audited with their reason, and the caller gets one sentence whatever the reason was. Whoever holds a bad
/// token must not be able to make us write without end: in a minute, 10 refusals of each app and reason are written, and 100
/// of each reason. The others are counted, and the next that is written tells how many.
///
/// **In-process code is trusted:** the gate prevents accidents. What prevents attacks is the second wall, in the database.
#[derive(Clone, Debug)]
pub struct TenantGate {
    id: GateId,
    validator: Arc<dyn TenantValidator>,
    audit: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
    refusals: Refusals,
}

impl TenantGate {
    /// A gate of its own: its grants are good at no other.
    pub fn new(validator: Arc<dyn TenantValidator>, audit: Arc<dyn AuditLog>, clock: Arc<dyn Clock>) -> Self {
        Self { id: GateId::next(), validator, audit, clock, refusals: Refusals::default() }
    }

    /// A grant for `tenant`, if `token` speaks for it.
    ///
    /// `Unauthenticated` when it does not, `Unavailable` when that could not be decided; the public message is
    /// [`Refusal::PUBLIC`] for all.
    #[tracing::instrument(name = "overskill.tenants.admit", skip_all, fields(app = %tenant.app()))]
    pub async fn admit(&self, token: &AccessToken, tenant: &TenantId) -> Result<TenantGrant> {
        let timer = instruments::Timer::start(&self.clock, instruments::GRANT_SECONDS);
        let now = self.clock.now();
        let decided = match self.validator.validate(token, tenant, now).await {
            // A validator may be anybody's: what it must hold is held here.
            Ok(claims) if claims.expires_at <= now => Err(Refusal::OutsideValidity),
            Ok(claims) if claims.app() != tenant.app() => Err(Refusal::OtherTenant),
            Ok(claims) if tenant.subject().is_some_and(|s| *s != claims.subject) => Err(Refusal::OtherTenant),
            Ok(claims) if claims.tenant.subject().is_some_and(|s| *s != claims.subject) => Err(Refusal::NotAttested),
            decided => decided,
        };
        match decided {
            Ok(claims) => {
                timer.stop("ok");
                Ok(TenantGrant { gate: self.id, claims: Arc::new(claims) })
            }
            Err(refusal) => {
                timer.stop(refusal.reason());
                Err(self.refused(tenant, refusal).await)
            }
        }
    }

    /// A grant for the host's own code, once the audit log holds who acts and why.
    ///
    /// `actor` and `reason` are for people: up to 64 and 500 bytes, not empty; `actor` is not [`Actor::FAILBACK`].
    #[tracing::instrument(name = "overskill.tenants.system", skip_all, fields(actor = actor))]
    pub async fn system(&self, actor: &str, reason: &str, scopes: SystemScopes) -> Result<SystemGrant> {
        if actor.is_empty() || actor.len() > 64 {
            return Err(ParseError::new("actor", "must be 1 to 64 bytes long", actor).into());
        }
        if actor == Actor::FAILBACK {
            return Err(ParseError::new("actor", "must not be the platform's own name", actor).into());
        }
        if reason.is_empty() || reason.len() > 500 {
            return Err(ParseError::new("reason", "must be 1 to 500 bytes long", reason).into());
        }
        let reach = match &scopes {
            SystemScopes::All => "all apps".to_owned(),
            SystemScopes::Apps(apps) => apps.iter().map(AppId::as_str).collect::<Vec<_>>().join(" "),
            SystemScopes::Only(scopes) => scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" "),
        };
        let actor = Actor::system(actor);
        let entry = AuditEntry::new(self.clock.now(), actor.clone(), "system.granted");
        self.audit.append(&entry.detail(format!("{reason} [{reach}]"))).await?;
        Ok(SystemGrant { gate: self.id, actor, scopes: Arc::new(scopes) })
    }

    /// Whether `grant` allows `right` in `scope`, now and here. `Denied` or `Unauthenticated` when it does not.
    ///
    /// Every use case asks this first. It takes well under a microsecond and does not wait.
    pub fn permit(&self, grant: &Grant, scope: &Scope, right: Right) -> Result<()> {
        self.permit_in(grant, &scope.app, Some(scope.environment), right)
    }

    /// The same for what belongs to an app in all its environments.
    pub fn permit_app(&self, grant: &Grant, app: &AppId, right: Right) -> Result<()> {
        self.permit_in(grant, app, None, right)
    }

    /// Whether `grant` allows anything at all in some environment of `app`.
    pub(crate) fn permit_somewhere(&self, grant: &Grant, app: &AppId) -> Result<()> {
        let anywhere = Environment::ALL.into_iter().flat_map(|e| Right::ALL.map(|right| (e, right)));
        let tries = anywhere.map(|(e, right)| self.permit_in(grant, app, Some(e), right));
        tries.reduce(Result::or).expect("there are environments and rights")
    }

    fn permit_in(&self, grant: &Grant, app: &AppId, environment: Option<Environment>, right: Right) -> Result<()> {
        let refuse = |kind, why: &'static str| {
            Err(Error::new(kind, why).public(Refusal::PUBLIC).at("gate", "permit").with("app", app))
        };
        if grant.gate() != self.id {
            return refuse(ErrorKind::Denied, "the grant is of another gate");
        }
        let inside = match grant {
            Grant::Tenant(grant) if grant.expires_at() <= self.clock.now() => {
                return refuse(ErrorKind::Unauthenticated, "the grant has expired");
            }
            Grant::Tenant(grant) => {
                let there = |only: Environment| environment.is_some_and(|asked| asked == only);
                grant.app() == app && grant.environment().is_none_or(there)
            }
            Grant::System(grant) => grant.scopes.contain(app, environment),
        };
        if !inside {
            return refuse(ErrorKind::Denied, "the grant is for another app or environment");
        }
        if !grant.allows(right) {
            return refuse(ErrorKind::Denied, "the grant lacks the right").map_err(|e| e.with("right", right));
        }
        Ok(())
    }

    async fn refused(&self, tenant: &TenantId, refusal: Refusal) -> Error {
        let kind = match &refusal {
            Refusal::Undecided(_) => ErrorKind::Unavailable,
            _ => ErrorKind::Unauthenticated,
        };
        let reason = refusal.reason();
        let error = Error::new(kind, "access was refused")
            .public(Refusal::PUBLIC)
            .effect_as(Effect::None)
            .at("gate", "admit")
            .with("reason", reason);
        let Some(counted) = self.refusals.admit(tenant.app(), reason, &*self.clock) else {
            return error.with("not_audited", "counted only").caused_by(refusal);
        };
        let mut detail = format!("{reason}: {refusal} (tenant {tenant})");
        if counted.like_it > 0 {
            detail = format!("{detail}; {} more like it were counted only", counted.like_it);
        }
        if counted.of_others > 0 {
            detail = format!("{detail}; {} of other apps for this reason, too", counted.of_others);
        }
        let entry = AuditEntry::new(self.clock.now(), Actor::Unknown, "tenant.refused")
            .in_scope(Scope::sources(tenant.app().clone()))
            .detail(detail);
        // A refusal stands even if it could not be written down.
        match self.audit.append(&entry).await {
            Ok(_) => error.caused_by(refusal),
            Err(e) => error.with("not_audited", e.kind()).caused_by(refusal),
        }
    }
}
