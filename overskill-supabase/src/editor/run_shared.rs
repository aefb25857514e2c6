//! Changes of the tables that apps share, each in one transaction of the tenants' pool.

use super::{
    ChangeState, Rehearsal, SchemaChange, SchemaChangeRecord, SchemaEditor, SchemaPlan, drifted, history,
    rehearsal::rehearse,
    shared::{Outline, outline},
};
use crate::{
    inspector::{AppSchema, Run, of_catalog, owner::is_locked},
    pool::TenantPool,
    tx::TenantTx,
};
use overskill_core::{Digest, Error, Result, Scope, TenantGrant};
use std::time::Duration;

impl SchemaEditor {
    pub(super) async fn plan_shared(
        &self,
        pool: &TenantPool,
        grant: &TenantGrant,
        scope: &Scope,
        change: SchemaChange,
    ) -> Result<SchemaPlan> {
        let tx = pool.begin_read_only(grant, scope).await?;
        let looked = self.look(&tx, &change).await;
        drop(tx.rollback().await); // what was read stands
        let (made_for, outline) = looked?;
        let mut plan = SchemaPlan::new(self.plan_id(), change, outline.steps, made_for);
        (plan.destroys, plan.unfit) = (outline.destroys, outline.unfit);
        Ok(plan)
    }

    pub(super) async fn rehearse_shared(
        &self,
        pool: &TenantPool,
        grant: &TenantGrant,
        scope: &Scope,
        plan: &SchemaPlan,
    ) -> Result<Rehearsal> {
        let tx = pool.begin(grant, scope).await?;
        let rehearsed = async {
            self.hold_kinds(&tx, plan).await?;
            rehearse(&tx, tx.home(), &plan.steps, &*self.clock).await
        };
        let rehearsed = rehearsed.await;
        tx.rollback().await?;
        rehearsed
    }

    pub(super) async fn apply_shared(
        &self,
        pool: &TenantPool,
        grant: &TenantGrant,
        scope: &Scope,
        plan: &SchemaPlan,
    ) -> Result<SchemaChangeRecord> {
        let mut attempt = 1;
        loop {
            match self.try_shared(pool, grant, scope, plan).await {
                Err(e) if is_locked(&e) && attempt < self.limits.attempts => {
                    self.clock.sleep(Duration::from_millis(100) * attempt).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn try_shared(
        &self,
        pool: &TenantPool,
        grant: &TenantGrant,
        scope: &Scope,
        plan: &SchemaPlan,
    ) -> Result<SchemaChangeRecord> {
        let tx = pool.begin(grant, scope).await?;
        let work = async {
            if let Some(done) = self.done_before(&tx, plan).await? {
                return Ok(done);
            }
            self.hold_kinds(&tx, plan).await?;
            for statement in plan.statements() {
                Run::query(&tx, &statement.sql, &[]).await?;
            }
            let seq = history::record_shared(&tx, self.life(), plan).await?;
            let records = history::of_shared(&tx, seq.saturating_add(1)).await?;
            records.into_iter().next().ok_or_else(|| Error::conflict("the change is not in the history"))
        };
        match work.await {
            Ok(record) => tx.commit().await.map(|()| record),
            Err(e) => {
                drop(tx.rollback().await); // the first error is the one to tell
                Err(e)
            }
        }
    }

    /// The record of a plan that was applied already, among the newest.
    async fn done_before(&self, tx: &TenantTx, plan: &SchemaPlan) -> Result<Option<SchemaChangeRecord>> {
        let records = history::of_shared(tx, u64::MAX).await?;
        Ok(records.into_iter().find(|record| record.plan == plan.id && record.state == ChangeState::Done))
    }

    /// Keeps everybody else from the app's kinds, and looks whether the plan still holds.
    async fn hold_kinds(&self, tx: &TenantTx, plan: &SchemaPlan) -> Result<()> {
        let wait = self.limits.lock_timeout.as_millis().clamp(1, i32::MAX as u128);
        tx.simple(&format!("SET LOCAL lock_timeout = {wait}")).await?;
        Run::query(tx, "SELECT overskill_data.hold_kinds()", &[]).await?;
        let (made_for, outline) = self.look(tx, &plan.change).await?;
        if made_for != plan.made_for || outline.steps != plan.steps || outline.destroys != plan.destroys {
            return Err(drifted());
        }
        match outline.unfit {
            Some(unfit) => Err(unfit.refusal()),
            None => Ok(()),
        }
    }

    async fn look(&self, tx: &TenantTx, change: &SchemaChange) -> Result<(Digest, Outline)> {
        let schema: AppSchema =
            of_catalog(tx, self.limits.rows.saturating_add(1), Some(change.table().as_str())).await?;
        let outline = outline(tx, &schema, change, &self.limits).await?;
        Ok((schema.fingerprint(), outline))
    }
}
