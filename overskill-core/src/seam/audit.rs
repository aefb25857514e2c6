use crate::{Digest, Page, Readiness, Result, Scope, StreamPosition, SubjectId, Timestamp};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::{fmt, fmt::Debug, num::NonZeroU32};

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A user, by a token that was checked.
    Subject(SubjectId),
    /// The host's own code, by the name it gave itself.
    System(String),
    /// Somebody whose token was refused.
    Unknown,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(subject) => write!(f, "{subject}"),
            Self::System(name) => write!(f, "system:{name}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Something that has to be remembered. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What, as a stable word such as `tenant.refused` or `deploy.requested`.
    pub action: String,
    /// Where; `None` for the whole platform.
    pub scope: Option<Scope>,
    /// More of it, for people.
    pub detail: String,
}

impl AuditEntry {
    /// `actor` did `action`.
    pub fn new(at: Timestamp, actor: Actor, action: impl Into<String>) -> Self {
        Self { at, actor, action: action.into(), scope: None, detail: String::new() }
    }

    /// Says where.
    pub fn in_scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Says more. Never a secret.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// An entry as it stands in the log: each names the digest of the one before, so that none can be changed, taken out or
/// put in between without breaking the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its place; the first has `seq` 1.
    pub position: StreamPosition,
    /// The digest of the record before, or of nothing.
    pub previous: Digest,
    /// What happened.
    pub entry: AuditEntry,
    /// The digest of all of the above.
    pub digest: Digest,
}

impl AuditRecord {
    /// What the first record names as the one before.
    pub fn genesis() -> Digest {
        Digest::of(b"")
    }

    /// Puts `entry` behind the record with the digest `previous`.
    pub fn chain(position: StreamPosition, previous: Digest, entry: AuditEntry) -> Self {
        let scope = entry.scope.as_ref().map(Scope::to_string);
        // A name that cannot be told from another's: subjects, system names and nobody are three kinds.
        let (kind, name) = match &entry.actor {
            Actor::Subject(subject) => ("subject", subject.as_str()),
            Actor::System(name) => ("system", name.as_str()),
            Actor::Unknown => ("unknown", ""),
        };
        let digest = Digest::of_parts([
            b"overskill audit 1".as_slice(),
            position.to_string().as_bytes(),
            previous.as_bytes(),
            &entry.at.as_unix_millis().to_le_bytes(),
            kind.as_bytes(),
            name.as_bytes(),
            entry.action.as_bytes(),
            scope.as_deref().unwrap_or_default().as_bytes(),
            entry.detail.as_bytes(),
        ]);
        Self { position, previous, entry, digest }
    }

    /// Whether `records`, which follow each other, are unbroken after the digest `previous`; the place of the first that
    /// is not, otherwise.
    pub fn verify(previous: Digest, records: &[Self]) -> Result<Digest, StreamPosition> {
        let mut last: Option<&Self> = None;
        for record in records {
            let link = last.map_or(previous, |l| l.digest);
            let follows = last.is_none_or(|l| record.position == l.position.next());
            let whole = Self::chain(record.position, record.previous, record.entry.clone()) == *record;
            if record.previous != link || !follows || !whole {
                return Err(record.position);
            }
            last = Some(record);
        }
        Ok(last.map_or(previous, |l| l.digest))
    }
}

/// What nobody can take back: a durable log that only grows.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait AuditLog: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// Adds an entry and returns its record once it is durable.
    async fn append(&self, entry: &AuditEntry) -> Result<AuditRecord>;

    /// Records after the place `after`, oldest first, at most `limit`; with `scope`, only those of that scope.
    async fn read(
        &self,
        scope: Option<Scope>,
        after: Option<StreamPosition>,
        limit: NonZeroU32,
    ) -> Result<Page<AuditRecord, StreamPosition>>;

    /// Checks the whole chain and returns how many records it has; `Unexpected` names the first that is broken.
    async fn verify(&self) -> Result<u64>;
}

crate::seam::forward_seam!(AuditLog as "audit" [] {
    safe fn check(&self) -> Readiness;
    unsafe_to_repeat fn append(&self, entry: &AuditEntry) -> AuditRecord;
    safe fn read(&self, scope: Option<Scope>, after: Option<StreamPosition>, limit: NonZeroU32) -> Page<AuditRecord, StreamPosition>;
    safe fn verify(&self) -> u64;
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Incarnation;

    fn records(n: u64) -> Vec<AuditRecord> {
        let mut previous = AuditRecord::genesis();
        (1..=n)
            .map(|seq| {
                let entry = AuditEntry::new(Timestamp::EPOCH, Actor::Unknown, format!("a{seq}"));
                let record = AuditRecord::chain(StreamPosition::new(Incarnation::from_u64(7), seq), previous, entry);
                previous = record.digest;
                record
            })
            .collect()
    }

    #[test]
    fn an_unbroken_chain_is_whole() {
        let all = records(5);
        assert_eq!(AuditRecord::verify(AuditRecord::genesis(), &all), Ok(all[4].digest));
        assert_eq!(AuditRecord::verify(all[1].digest, &all[2..]), Ok(all[4].digest));
    }

    #[test]
    fn every_change_breaks_it() {
        let broken = |change: &dyn Fn(&mut Vec<AuditRecord>)| {
            let mut all = records(5);
            change(&mut all);
            AuditRecord::verify(AuditRecord::genesis(), &all).is_err()
        };
        assert!(broken(&|r| r[2].entry.detail.push('x')));
        assert!(broken(&|r| r[2].entry.actor = Actor::System(String::new())));
        assert!(broken(&|r| r[2].entry.at = Timestamp::from_unix_millis(1)));
        assert!(broken(&|r| drop(r.remove(2))));
        assert!(broken(&|r| r.swap(1, 2)));
        assert!(broken(&|r| {
            let copy = r[2].clone();
            r.insert(3, copy);
        }));
        assert!(broken(&|r| {
            let mut forged = r[2].entry.clone();
            forged.detail = "forged".into();
            r[2] = AuditRecord::chain(r[2].position, r[2].previous, forged);
        }));
    }
}
