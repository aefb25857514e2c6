use super::{NAME, Shared};
use crate::{
    AuditEntry, AuditLog, AuditRecord, Effect, Error, ErrorKind, Ids, Incarnation, Page, Readiness, Result, Scope,
    StreamPosition, SystemIds,
};
use async_trait::async_trait;
use std::num::NonZeroU32;

/// An audit log in memory. Clones share it. It only grows: for tests, and for platforms that do not live long.
#[derive(Clone, Debug)]
pub struct MemoryAudit {
    incarnation: Incarnation,
    records: Shared<Vec<AuditRecord>>,
}

impl MemoryAudit {
    /// An empty log.
    pub fn new() -> Self {
        Self::with(&SystemIds)
    }

    /// An empty log whose incarnation comes from `ids`.
    pub fn with(ids: &dyn Ids) -> Self {
        Self { incarnation: Incarnation::generate(ids), records: Shared::default() }
    }
}

impl Default for MemoryAudit {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl AuditLog for MemoryAudit {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(NAME))
    }

    async fn append(&self, entry: &AuditEntry) -> Result<AuditRecord> {
        let mut records = self.records.lock();
        let start = (StreamPosition::start(self.incarnation), AuditRecord::genesis());
        let (position, previous) = records.last().map_or(start, |last| (last.position, last.digest));
        let record = AuditRecord::chain(position.next(), previous, entry.clone());
        records.push(record.clone());
        Ok(record)
    }

    async fn read(
        &self,
        scope: Option<Scope>,
        after: Option<StreamPosition>,
        limit: NonZeroU32,
    ) -> Result<Page<AuditRecord, StreamPosition>> {
        let skip = match after {
            None => 0,
            Some(after) if after.incarnation == self.incarnation => after.seq,
            Some(after) => {
                let e = Error::conflict("the place is of another life of this log: read it from the start");
                return Err(e.at(NAME, "read").with("after", after));
            }
        };
        let limit = limit.get() as usize;
        let records = self.records.lock();
        // Places count from 1 without gaps, so the record behind place n has the index n.
        let later = records.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
        let wanted = |record: &&AuditRecord| scope.is_none() || record.entry.scope == scope;
        let items = later.filter(wanted).take(limit.saturating_add(1)).cloned().collect();
        Ok(Page::cut(items, limit, |record: &AuditRecord| record.position))
    }

    async fn verify(&self) -> Result<u64> {
        let records = self.records.lock().clone();
        match AuditRecord::verify(AuditRecord::genesis(), &records) {
            Ok(_) => Ok(records.len() as u64),
            Err(at) => Err(Error::new(ErrorKind::Unexpected, "the audit log was altered: its chain is broken here")
                .at(NAME, "verify")
                .with("record", at)
                .effect_as(Effect::None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Actor, SeededIds, Timestamp};

    #[tokio::test]
    async fn a_record_that_was_altered_is_named() {
        let log = MemoryAudit::with(&SeededIds::new(1));
        for n in 0..3 {
            log.append(&AuditEntry::new(Timestamp::EPOCH, Actor::Unknown, format!("a{n}"))).await.unwrap();
        }
        assert_eq!(log.verify().await.unwrap(), 3);
        log.records.lock()[1].entry.detail = "forged".into();
        let e = log.verify().await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unexpected, Effect::None));
        assert!(e.to_string().ends_with(":2"), "{e}");
    }
}
