use async_trait::async_trait;
use overskill_core::{
    AuditEntry, AuditLog, AuditRecord, Digest, Incarnation, Page, Readiness, Result, Scope, StreamPosition,
};
use overskill_testkit::{AuditLogFixture, suites::audit::V1};
use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    AnswersAnotherDigest,
    CutsDetails,
    BreaksTheChain,
    SortsByTime,
    LeaksEnvironments,
    SkipsBetweenPages,
    KnowsOnlyItsOwnPlaces,
    CountsOneLess,
    ReadsTheHeadTooSoon,
    LeavesGapsWhenDropped,
    ForgetsOnRestart,
    LosesEntries,
    NotReady,
}

const BUGS: &[(Bug, &[&str])] = &[
    (Bug::AnswersAnotherDigest, &["append_answers_the_chained_record"]),
    (Bug::CutsDetails, &["entries_are_read_as_they_were_appended"]),
    (Bug::BreaksTheChain, &["records_follow_each_other", "concurrent_appends_all_land"]),
    (Bug::SortsByTime, &["the_order_is_that_of_appending"]),
    (Bug::LeaksEnvironments, &["a_scope_reads_its_own"]),
    (Bug::SkipsBetweenPages, &["pages_join_without_gap_or_overlap"]),
    (Bug::KnowsOnlyItsOwnPlaces, &["a_page_may_begin_after_any_record"]),
    (Bug::CountsOneLess, &["verify_counts_every_record"]),
    (Bug::ReadsTheHeadTooSoon, &["concurrent_appends_all_land"]),
    (Bug::LeavesGapsWhenDropped, &["a_dropped_append_leaves_the_chain_whole"]),
    (Bug::ForgetsOnRestart, &["the_chain_survives_a_restart"]),
    (Bug::LosesEntries, &["pointers_and_wrappers_answer_alike", "records_follow_each_other"]),
    (Bug::NotReady, &["it_is_ready"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bug_of_an_audit_log_is_found() {
    super::judge(&V1, Bug::None, BUGS, fixture).await;
}

fn fixture(bug: Bug) -> AuditLogFixture {
    let records = Records::default();
    let log = move |records: Records| -> Arc<dyn AuditLog> { Arc::new(Log { records, bug, next: Mutex::new(1) }) };
    AuditLogFixture::new(log(records.clone())).reopen(move || {
        let again = if bug == Bug::ForgetsOnRestart { Records::default() } else { records.clone() };
        std::future::ready(log(again))
    })
}

type Records = Arc<Mutex<Vec<AuditRecord>>>;

#[derive(Debug)]
struct Log {
    records: Records,
    bug: Bug,
    next: Mutex<u64>,
}

impl Log {
    fn head(&self) -> (u64, Digest) {
        let records = self.records.lock().unwrap();
        records.last().map_or((1, AuditRecord::genesis()), |last| (last.position.seq + 1, last.digest))
    }

    fn at(seq: u64) -> StreamPosition {
        StreamPosition::new(Incarnation::from_u64(7), seq)
    }
}

#[async_trait]
impl AuditLog for Log {
    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready("broken");
        Ok(if self.bug == Bug::NotReady { ready.lacks("a disk", "mount one") } else { ready })
    }

    async fn append(&self, entry: &AuditEntry) -> Result<AuditRecord> {
        let mut entry = entry.clone();
        if self.bug == Bug::CutsDetails {
            entry.detail = entry.detail.chars().take(100).collect();
        }
        let early = self.head();
        let reserved = match self.bug {
            Bug::LeavesGapsWhenDropped => {
                let mut next = self.next.lock().unwrap();
                *next += 1;
                Some(*next - 1)
            }
            _ => None,
        };
        if matches!(self.bug, Bug::ReadsTheHeadTooSoon | Bug::LeavesGapsWhenDropped) {
            super::pause().await;
        }
        let mut records = self.records.lock().unwrap();
        let head = records.last().map_or((1, AuditRecord::genesis()), |last| (last.position.seq + 1, last.digest));
        let (seq, previous) = match self.bug {
            Bug::ReadsTheHeadTooSoon => early,
            Bug::BreaksTheChain => (head.0, AuditRecord::genesis()),
            _ => (reserved.unwrap_or(head.0), head.1),
        };
        let mut record = AuditRecord::chain(Self::at(seq), previous, entry);
        if self.bug != Bug::LosesEntries || seq % 2 == 0 {
            records.push(record.clone());
        }
        if self.bug == Bug::AnswersAnotherDigest {
            record.digest = Digest::of(b"another");
        }
        Ok(record)
    }

    async fn read(
        &self,
        scope: Option<Scope>,
        after: Option<StreamPosition>,
        limit: NonZeroU32,
    ) -> Result<Page<AuditRecord, StreamPosition>> {
        let records = self.records.lock().unwrap().clone();
        let wanted = |record: &AuditRecord| match (&scope, &record.entry.scope) {
            (None, _) => true,
            (Some(scope), Some(own)) if self.bug == Bug::LeaksEnvironments => scope.app == own.app,
            (Some(scope), own) => Some(scope) == own.as_ref(),
        };
        let mut records: Vec<_> = records.into_iter().filter(wanted).collect();
        if self.bug == Bug::SortsByTime {
            records.sort_by_key(|record| record.entry.at);
        }
        let mut from = after.map_or(0, |after| after.seq);
        if self.bug == Bug::KnowsOnlyItsOwnPlaces && !records.iter().any(|record| record.position.seq == from) {
            from = 0;
        }
        if self.bug == Bug::SkipsBetweenPages && from > 0 {
            from += 1;
        }
        records.retain(|record| record.position.seq > from);
        let limit = usize::try_from(limit.get()).unwrap();
        records.truncate(limit.saturating_add(1));
        Ok(Page::cut(records, limit, |record| record.position))
    }

    async fn verify(&self) -> Result<u64> {
        let records = self.records.lock().unwrap().len() as u64;
        Ok(if self.bug == Bug::CountsOneLess { records.saturating_sub(1) } else { records })
    }
}
