//! The rules of an [`AuditLog`].

use overskill_core::AuditLog;

/// What [`audit_log_conformance!`](crate::audit_log_conformance) needs: an audit log.
pub type AuditLogFixture = crate::Fixture<dyn AuditLog>;

suite! {
    $
    /// Tests of every rule of an [`AuditLog`](overskill_core::AuditLog): `audit_log_conformance!(v1, fixture())`, where the
    /// fixture is an [`AuditLogFixture`](crate::AuditLogFixture).
    ///
    /// A log takes nothing back, so what the cases append stays there.
    macro audit_log_conformance = audit, audit_log_v1;
    const V1 = "audit_log", v1;
    fixture AuditLogFixture;
    in cases {
        append_answers_the_chained_record: "append answers the record: the entry as it was given, behind the digest of the one before";
        entries_are_read_as_they_were_appended: "read answers the entry as it was appended, whatever it says";
        records_follow_each_other: "every record is one place after the one before, and names its digest";
        the_order_is_that_of_appending: "records stand in the order they were appended in, whatever time they name";
        a_scope_reads_its_own: "read with a scope answers the records of that scope alone, all of them";
        pages_join_without_gap_or_overlap: "pages of any limit join to the whole, and the last one has no next";
        a_page_may_begin_after_any_record: "after names a place in the whole log, also of a record of another scope";
        verify_counts_every_record: "verify checks the chain and counts every record";
        concurrent_appends_all_land: "concurrent appends are all there afterwards, in one whole chain";
        a_dropped_append_leaves_the_chain_whole: "an append whose future is dropped is there once or not at all, and the chain stays whole";
        the_chain_survives_a_restart: "records are durable, and the chain goes on after a restart";
        pointers_and_wrappers_answer_alike: "a wrapped log answers as the log itself";
        it_is_ready: "check answers that nothing is missing, and names the backend";
    }
}

mod cases {
    use super::AuditLogFixture as F;
    use crate::{
        Broken, PassThrough, Stop, Verdict, poll_times, race,
        suite::{ensure, ensure_eq},
    };
    use overskill_core::{
        Actor, Around, AuditEntry, AuditLog, AuditRecord, Environment, Scope, StreamPosition, SubjectId, Timestamp,
    };
    use std::{num::NonZeroU32, sync::Arc};

    fn entry(f: &F, scope: &Scope, action: &str) -> AuditEntry {
        AuditEntry::new(f.names().start(), Actor::System("kit".into()), action).in_scope(scope.clone())
    }

    fn limit(limit: u32) -> NonZeroU32 {
        NonZeroU32::new(limit).expect("not zero")
    }

    /// Every record of `scope`, or of all, after `after`, in pages of `size`.
    async fn all(
        log: &dyn AuditLog,
        scope: Option<&Scope>,
        mut after: Option<StreamPosition>,
        size: u32,
    ) -> Result<Vec<AuditRecord>, Stop> {
        let mut records = Vec::new();
        loop {
            let page = log.read(scope.cloned(), after, limit(size)).await?;
            ensure!(page.items.len() <= size as usize, "a page of at most {size} has {} records", page.items.len());
            ensure!(page.next.is_none() || page.next != after, "a page goes on where it began");
            records.extend(page.items);
            after = page.next;
            if after.is_none() {
                return Ok(records);
            }
        }
    }

    /// The chain after `first`, which others may append to as well, is whole; its records.
    async fn whole_since(log: &dyn AuditLog, first: &AuditRecord) -> Result<Vec<AuditRecord>, Stop> {
        let records = all(log, None, Some(first.position), 100).await?;
        if let Err(broken) = AuditRecord::verify(first.digest, &records) {
            return Err(Broken::new(format!("the chain is broken at {broken}, after {}", first.position)).into());
        }
        if let Some(next) = records.first() {
            ensure_eq!(next.position, first.position.next(), "place of the record after {}", first.position);
        }
        Ok(records)
    }

    pub(super) async fn append_answers_the_chained_record(f: &F) -> Verdict {
        let scope = f.names().scope();
        let entry = entry(f, &scope, "kit.appended").detail("more of it");
        let record = f.store().append(&entry).await?;
        ensure_eq!(record.entry, entry, "the entry of the record");
        let chained = AuditRecord::chain(record.position, record.previous, entry);
        ensure_eq!(record, chained, "the record");
        ensure!(record.position.seq >= 1, "the record has the seq {}, but the first has 1", record.position.seq);
        if record.position.seq == 1 {
            ensure_eq!(record.previous, AuditRecord::genesis(), "what the first record names as the one before");
        }
        let read = all(&**f.store(), Some(&scope), None, 10).await?;
        ensure_eq!(read, [record], "what is read of the scope");
        Ok(())
    }

    pub(super) async fn entries_are_read_as_they_were_appended(f: &F) -> Verdict {
        let scope = f.names().scope_in(Environment::Production);
        let at = f.names().start();
        let subject = Actor::Subject(SubjectId::parse("user|7@example.com:x=1")?);
        let long = "detail with ünïcode 日本 🎉 'quotes' \\ and\nlines ".repeat(200);
        let entries = [
            AuditEntry::new(at, subject, "deploy.requested").detail(long),
            AuditEntry::new(at, Actor::Subject(SubjectId::parse("x")?), "same.name"),
            AuditEntry::new(at, Actor::System("x".into()), "same.name"),
            AuditEntry::new(at, Actor::System(String::new()), ""),
            AuditEntry::new(at, Actor::Unknown, "tenant.refused").detail("{\"json\": null}"),
            AuditEntry::new(Timestamp::EPOCH, Actor::Unknown, "at.epoch"),
            AuditEntry::new(Timestamp::from_unix_millis(-1), Actor::Unknown, "before.epoch"),
            AuditEntry::new(Timestamp::from_unix_millis(253_402_300_799_999), Actor::Unknown, "year.9999"),
        ];
        let first = f.store().append(&self::entry(f, &scope, "kit.first")).await?;
        for entry in &entries {
            f.store().append(&entry.clone().in_scope(scope.clone())).await?;
        }
        let read = all(&**f.store(), Some(&scope), Some(first.position), 3).await?;
        ensure_eq!(read.len(), entries.len(), "records of the scope");
        for (record, entry) in read.iter().zip(entries) {
            ensure_eq!(record.entry, entry.in_scope(scope.clone()), "an entry that was read");
        }
        // One of the whole platform is of no scope.
        let platform = AuditEntry::new(at, Actor::Unknown, "kit.platform").detail(scope.to_string());
        let appended = f.store().append(&platform).await?;
        let read = all(&**f.store(), None, Some(first.position), 100).await?;
        ensure!(read.contains(&appended), "an entry without scope is not read with the others");
        let read = all(&**f.store(), Some(&scope), Some(first.position), 100).await?;
        ensure!(!read.contains(&appended), "an entry without scope is read in a scope");
        Ok(())
    }

    pub(super) async fn records_follow_each_other(f: &F) -> Verdict {
        let scope = f.names().scope();
        let first = f.store().append(&entry(f, &scope, "kit.0")).await?;
        let mut appended = Vec::new();
        for n in 1..8 {
            appended.push(f.store().append(&entry(f, &scope, &format!("kit.{n}"))).await?);
        }
        let records = whole_since(&**f.store(), &first).await?;
        let own: Vec<_> = records.into_iter().filter(|r| r.entry.scope.as_ref() == Some(&scope)).collect();
        ensure_eq!(own, appended, "records as read, and as append answered them");
        Ok(())
    }

    pub(super) async fn the_order_is_that_of_appending(f: &F) -> Verdict {
        let scope = f.names().scope();
        for (n, seconds) in [50, 10, 90, 0, 90, 20].into_iter().enumerate() {
            let action = format!("kit.{n}");
            let entry = AuditEntry::new(f.names().after(seconds), Actor::Unknown, action).in_scope(scope.clone());
            f.store().append(&entry).await?;
        }
        let read = all(&**f.store(), Some(&scope), None, 4).await?;
        let actions: Vec<_> = read.iter().map(|r| r.entry.action.as_str()).collect();
        ensure_eq!(actions, ["kit.0", "kit.1", "kit.2", "kit.3", "kit.4", "kit.5"], "actions, in the order of the log");
        Ok(())
    }

    pub(super) async fn a_scope_reads_its_own(f: &F) -> Verdict {
        let scope = f.names().scope();
        let others = f.names().beside(&scope);
        let mut own = Vec::new();
        for n in 0..3 {
            own.push(f.store().append(&entry(f, &scope, &format!("kit.own.{n}"))).await?);
            for other in &others {
                f.store().append(&entry(f, other, "kit.other")).await?;
            }
        }
        ensure_eq!(all(&**f.store(), Some(&scope), None, 2).await?, own, "records of {scope}");
        for other in &others {
            let read = all(&**f.store(), Some(other), None, 100).await?;
            let leaked = read.iter().find(|r| r.entry.scope.as_ref() != Some(other));
            ensure!(leaked.is_none(), "{other} reads a record of another scope: {leaked:?}");
            ensure_eq!(read.len(), 3, "records of {other}");
        }
        Ok(())
    }

    pub(super) async fn pages_join_without_gap_or_overlap(f: &F) -> Verdict {
        let scope = f.names().scope();
        let mut appended = Vec::new();
        for n in 0..7 {
            appended.push(f.store().append(&entry(f, &scope, &format!("kit.{n}"))).await?);
            f.store().append(&entry(f, &f.names().scope(), "kit.between")).await?;
        }
        for size in [1, 2, 3, 6, 7, 8, u32::MAX] {
            ensure_eq!(all(&**f.store(), Some(&scope), None, size).await?, appended, "pages of {size}, joined");
        }
        let whole = f.store().read(Some(scope.clone()), None, limit(7)).await?;
        ensure_eq!(whole.next, None, "next of a page that holds all there is");
        let since = Some(appended[0].position);
        let want = all(&**f.store(), None, since, 100).await?;
        let mut joined = all(&**f.store(), None, since, 3).await?;
        joined.truncate(want.len()); // others may have appended in between
        ensure_eq!(joined, want, "pages of the whole log, joined");
        Ok(())
    }

    pub(super) async fn a_page_may_begin_after_any_record(f: &F) -> Verdict {
        let (scope, other) = (f.names().scope(), f.names().scope());
        let mut own = Vec::new();
        let mut between = Vec::new();
        for n in 0..4 {
            own.push(f.store().append(&entry(f, &scope, &format!("kit.{n}"))).await?);
            between.push(f.store().append(&entry(f, &other, "kit.between")).await?);
        }
        for n in 0..4 {
            for after in [&own[n], &between[n]] {
                let read = all(&**f.store(), Some(&scope), Some(after.position), 2).await?;
                ensure_eq!(read, own[n + 1..], "records of the scope after {}", after.position);
            }
        }
        Ok(())
    }

    pub(super) async fn verify_counts_every_record(f: &F) -> Verdict {
        let scope = f.names().scope();
        let first = f.store().append(&entry(f, &scope, "kit.first")).await?;
        let before = f.store().verify().await?;
        for n in 0..5 {
            f.store().append(&entry(f, &scope, &format!("kit.{n}"))).await?;
        }
        let after = f.store().verify().await?;
        ensure!(after >= before + 5, "verify counted {before}, and {after} after five more appends");
        // Others may append as well, so what is read bounds it on both sides.
        let (least, read) = (f.store().verify().await?, whole_since(&**f.store(), &first).await?.len() as u64);
        let most = f.store().verify().await?;
        let counted = first.position.seq + read;
        ensure!(
            (least..=most).contains(&counted),
            "verify counted {least} and {most}, but {counted} records are there"
        );
        Ok(())
    }

    pub(super) async fn concurrent_appends_all_land(f: &F) -> Verdict {
        const WRITERS: usize = 5;
        const EACH: usize = 6;
        let scope = f.names().scope();
        let first = f.store().append(&entry(f, &scope, "kit.first")).await?;
        let writers = (0..WRITERS).map(|w| {
            let log = f.store().clone();
            let entries: Vec<_> = (0..EACH).map(|n| entry(f, &scope, &format!("kit.{w}.{n}"))).collect();
            async move {
                let mut records = Vec::new();
                for entry in &entries {
                    records.push(log.append(entry).await?);
                }
                Ok::<_, overskill_core::Error>(records)
            }
        });
        let mut appended = Vec::new();
        for writer in race(writers).await? {
            appended.extend(writer?);
        }
        appended.sort_by_key(|r| r.position.seq);
        whole_since(&**f.store(), &first).await?;
        let read = all(&**f.store(), Some(&scope), Some(first.position), 7).await?;
        ensure_eq!(read.len(), WRITERS * EACH, "records after concurrent appends");
        ensure_eq!(read, appended, "records as read, and as append answered them");
        f.store().verify().await?;
        Ok(())
    }

    pub(super) async fn a_dropped_append_leaves_the_chain_whole(f: &F) -> Verdict {
        let scope = f.names().scope();
        let first = f.store().append(&entry(f, &scope, "kit.first")).await?;
        for polls in 1..=10 {
            poll_times(polls, f.store().append(&entry(f, &scope, &format!("kit.dropped.{polls}")))).await;
            f.store().append(&entry(f, &scope, &format!("kit.after.{polls}"))).await?;
        }
        whole_since(&**f.store(), &first).await?;
        f.store().verify().await?;
        let read = all(&**f.store(), Some(&scope), Some(first.position), 100).await?;
        for polls in 1..=10 {
            let count = |action: String| read.iter().filter(|r| r.entry.action == action).count();
            let (dropped, after) = (count(format!("kit.dropped.{polls}")), count(format!("kit.after.{polls}")));
            ensure!(dropped <= 1, "an append that was dropped is there {dropped} times");
            ensure_eq!(after, 1, "how often the append after a dropped one is there");
        }
        Ok(())
    }

    pub(super) async fn the_chain_survives_a_restart(f: &F) -> Verdict {
        let scope = f.names().scope();
        let first = f.store().append(&entry(f, &scope, "kit.first")).await?;
        let second = f.store().append(&entry(f, &scope, "kit.second")).await?;
        let again = f.reopened().await?;
        ensure_eq!(
            all(&*again, Some(&scope), None, 10).await?,
            [first.clone(), second.clone()],
            "records after a restart"
        );
        let third = again.append(&entry(f, &scope, "kit.third")).await?;
        let records = whole_since(&*again, &first).await?;
        ensure!(records.contains(&second) && records.contains(&third), "a record is missing from the chain");
        ensure!(again.verify().await? >= 3, "verify counts fewer than three records after a restart");
        Ok(())
    }

    pub(super) async fn pointers_and_wrappers_answer_alike(f: &F) -> Verdict {
        let scope = f.names().scope();
        let boxed: Box<dyn AuditLog> = Box::new(f.store().clone());
        let wrapped: Arc<dyn AuditLog> = Arc::new(Around::with_policy(boxed, PassThrough));
        let appended = [wrapped.append(&entry(f, &scope, "kit.wrapped")).await?];
        ensure_eq!(all(&**f.store(), Some(&scope), None, 10).await?, appended, "a record appended through a wrapper");
        ensure_eq!(all(&*wrapped, Some(&scope), None, 10).await?, appended, "a record read through a wrapper");
        ensure!(wrapped.verify().await? >= 1, "verify through a wrapper counts nothing");
        Ok(())
    }

    pub(super) async fn it_is_ready(f: &F) -> Verdict {
        let readiness = f.store().check().await?;
        ensure!(readiness.is_ready(), "it lacks {:?}", readiness.problems());
        ensure!(!readiness.backend().is_empty(), "the backend has no name");
        Ok(())
    }
}
