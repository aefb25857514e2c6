//! The check of a grant, which every use case begins with.

use crate::{LIMIT, under_limit};
use async_trait::async_trait;
use overskill_benches::{Bench, Figure, Outcome, Reading};
use overskill_core::{
    AccessToken, Claims, Environment, Grant, Readiness, Refusal, Result, Right, Rights, Scope, SubjectId, SystemClock,
    SystemScopes, TenantGate, TenantId, TenantValidator, Timestamp, memory::MemoryAudit,
};
use std::{collections::BTreeSet, hint::black_box, sync::Arc, time::Duration};

const TENANT: Figure = under_limit("grant of a tenant", "a check");
const SYSTEM: Figure = under_limit("grant of the host, for 1,000 scopes", "a check");

pub(crate) const FIGURES: [Figure; 2] = [TENANT, SYSTEM];

pub(crate) async fn measure(bench: &mut Bench) -> Outcome<()> {
    let gate = TenantGate::new(Arc::new(Believes), Arc::new(MemoryAudit::new()), Arc::new(SystemClock));
    let scope = Scope::new("todo42".try_into()?, Environment::Production);
    let token = AccessToken::parse("app_todo42_tenant.any")?;
    let tenant: Grant = gate.admit(&token, &TenantId::of_app(scope.app.clone())).await?.into();
    bench.show(&TENANT, reading(bench, &gate, &tenant, &scope));

    let mut scopes = BTreeSet::from([scope.clone()]);
    for n in 1..1_000 {
        scopes.insert(Scope::new(format!("app{n}").as_str().try_into()?, Environment::Production));
    }
    let system: Grant = gate.system("bench", "measures", SystemScopes::Only(scopes)).await?.into();
    bench.show(&SYSTEM, reading(bench, &gate, &system, &scope));
    gate.permit(&system, &scope, Right::Operate)?;
    Ok(())
}

fn reading(bench: &Bench, gate: &TenantGate, grant: &Grant, scope: &Scope) -> Reading {
    let (turns, times) = bench.size((1_000, 1_000), (50, 1_000));
    Reading::of_calls(turns, times, LIMIT, || {
        assert!(gate.permit(black_box(grant), black_box(scope), Right::Operate).is_ok());
    })
}

/// Believes every token, for an hour.
#[derive(Debug)]
struct Believes;

#[async_trait]
impl TenantValidator for Believes {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("believes"))
    }

    async fn validate(&self, _: &AccessToken, tenant: &TenantId, now: Timestamp) -> Result<Claims, Refusal> {
        let subject = SubjectId::parse("ada").map_err(|_| Refusal::Malformed("subject"))?;
        Ok(Claims::new(subject, tenant.clone(), Rights::of(Right::ALL), now.plus(Duration::from_hours(1))))
    }
}
