//! An audit log that a flood of bad tokens cannot fill.

use async_trait::async_trait;
use overskill_core::{
    AuditEntry, AuditLog, AuditRecord, Clock, Effect, Error, ErrorKind, Page, Readiness, Result, Retry, Scope,
    StreamPosition,
};
use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

/// An audit log that writes down so many refusals of each app and reason in a window, and counts the others; what was
/// counted is told with the next one that is written. Everything else passes as it is.
///
/// Give it to the [`TenantGate`](overskill_core::TenantGate): whoever holds a bad token must not be able to make us write
/// without end. A refusal that is only counted answers `append` with `RateLimited`; it stands all the same.
///
/// ```
/// use overskill_core::{SystemClock, memory::MemoryAudit};
/// use overskill_supabase::RefusalLimit;
/// use std::sync::Arc;
///
/// let audit = RefusalLimit::new(Arc::new(MemoryAudit::new()), Arc::new(SystemClock));
/// ```
#[derive(Clone, Debug)]
pub struct RefusalLimit {
    log: Arc<dyn AuditLog>,
    clock: Arc<dyn Clock>,
    each: u32,
    all: u32,
    window: Duration,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    since: Duration,
    written: u32,
    /// How many of a scope and reason were written in this window, and how many were only counted since one was.
    kinds: HashMap<(Option<Scope>, String), Kind>,
}

#[derive(Debug, Default)]
struct Kind {
    written: u32,
    counted: u64,
}

impl RefusalLimit {
    /// How many apps and reasons are told apart; the others count as one.
    const MAX_KINDS: usize = 10_000;

    /// In a minute, 10 refusals of each app and reason are written, and 600 in all.
    pub fn new(log: Arc<dyn AuditLog>, clock: Arc<dyn Clock>) -> Self {
        Self { log, clock, each: 10, all: 600, window: Duration::from_mins(1), seen: Arc::default() }
    }

    /// Sets how many of each app and reason, and how many in all, are written in a window.
    pub fn limits(mut self, each: NonZeroU32, all: NonZeroU32, window: Duration) -> Self {
        (self.each, self.all, self.window) = (each.get(), all.get(), window);
        self
    }

    /// Whether to write this one, and how many were counted since the last; how long to wait otherwise.
    fn admit(&self, entry: &AuditEntry) -> Result<u64, Duration> {
        let now = self.clock.monotonic();
        let mut seen = self.seen.lock().expect("nothing panics while it is held");
        if now.saturating_sub(seen.since) >= self.window {
            (seen.since, seen.written) = (now, 0);
            seen.kinds.retain(|_, kind| {
                kind.written = 0;
                kind.counted > 0
            });
        }
        let reason = entry.detail.split(':').next().unwrap_or_default();
        let mut key = (entry.scope.clone(), reason.to_owned());
        if seen.kinds.len() >= Self::MAX_KINDS && !seen.kinds.contains_key(&key) {
            key = (None, String::new());
        }
        let room = seen.written < self.all;
        let kind = seen.kinds.entry(key).or_default();
        if room && kind.written < self.each {
            kind.written += 1;
            let counted = std::mem::take(&mut kind.counted);
            seen.written += 1;
            return Ok(counted);
        }
        kind.counted += 1;
        Err(self.window.saturating_sub(now.saturating_sub(seen.since)))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl AuditLog for RefusalLimit {
    async fn check(&self) -> Result<Readiness> {
        self.log.check().await
    }

    async fn append(&self, entry: &AuditEntry) -> Result<AuditRecord> {
        if entry.action != "tenant.refused" {
            return self.log.append(entry).await;
        }
        match self.admit(entry) {
            Ok(0) => self.log.append(entry).await,
            Ok(counted) => {
                let detail = format!("{}; {counted} more like it were counted only", entry.detail);
                self.log.append(&entry.clone().detail(detail)).await
            }
            Err(wait) => Err(Error::new(ErrorKind::RateLimited, "too many refusals: this one was counted only")
                .at("refusals", "append")
                .effect_as(Effect::None)
                .retry_as(Retry::After(wait))),
        }
    }

    async fn read(
        &self,
        scope: Option<Scope>,
        after: Option<StreamPosition>,
        limit: NonZeroU32,
    ) -> Result<Page<AuditRecord, StreamPosition>> {
        self.log.read(scope, after, limit).await
    }

    async fn verify(&self) -> Result<u64> {
        self.log.verify().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{Actor, AppId, TestClock, Timestamp, memory::MemoryAudit};

    fn refused(app: &str, reason: &str) -> AuditEntry {
        AuditEntry::new(Timestamp::EPOCH, Actor::Unknown, "tenant.refused")
            .in_scope(Scope::sources(AppId::parse(app).unwrap()))
            .detail(format!("{reason}: the token is bad"))
    }

    #[tokio::test]
    async fn a_flood_is_counted_and_told_and_hides_nothing_else() {
        let (log, clock) = (MemoryAudit::new(), TestClock::new());
        let limit = RefusalLimit::new(Arc::new(log.clone()), Arc::new(clock.clone()));
        let mut written = 0;
        for _ in 0..1_000 {
            match limit.append(&refused("todo42", "malformed")).await {
                Ok(_) => written += 1,
                Err(e) => assert_eq!((e.kind(), e.effect()), (ErrorKind::RateLimited, Effect::None)),
            }
        }
        assert_eq!(written, 10);
        // Another app, another reason, another action: each has its own place.
        limit.append(&refused("todo43", "malformed")).await.unwrap();
        limit.append(&refused("todo42", "revoked")).await.unwrap();
        let deployed = AuditEntry::new(Timestamp::EPOCH, Actor::Unknown, "deploy.requested");
        for _ in 0..1_000 {
            limit.append(&deployed).await.unwrap();
        }
        clock.advance(Duration::from_mins(1));
        let told = limit.append(&refused("todo42", "malformed")).await.unwrap();
        assert!(told.entry.detail.ends_with("; 990 more like it were counted only"), "{}", told.entry.detail);
        assert_eq!(limit.verify().await.unwrap(), 1_013);
    }

    #[tokio::test]
    async fn made_up_apps_are_bounded_too() {
        let (log, clock) = (MemoryAudit::new(), TestClock::new());
        let limit = RefusalLimit::new(Arc::new(log), Arc::new(clock));
        for n in 0..20_000 {
            let _ = limit.append(&refused(&format!("app{n}"), "malformed")).await;
        }
        assert_eq!(limit.verify().await.unwrap(), 600);
        assert!(limit.seen.lock().unwrap().kinds.len() <= RefusalLimit::MAX_KINDS + 1);
    }
}
