use super::driver::{Db, Fault, Row, run, sql};
use crate::row;
use async_trait::async_trait;
use overskill_core::{
    Actor, AuditEntry, AuditLog, AuditRecord, Digest, Effect, Error, ErrorKind, Page, Readiness, Result, Scope,
    StreamPosition, Timestamp,
};
use sqlx::{Row as _, query, query_as};
use std::num::NonZeroU32;

/// An [`AuditLog`] in a table. One writer at a time adds to the chain.
///
/// [`verify`](AuditLog::verify) notices records that were changed, taken out or put in by somebody who wrote to the
/// database by hand, also at the end of the log. It cannot notice that everything after some record was written anew,
/// the head included: compare the newest digest with one that was noted elsewhere.
#[derive(Clone, Debug)]
pub struct Audit {
    db: Db,
}

/// How many records `verify` looks at at a time.
const PAGE: i64 = 500;

impl Audit {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Where the log ends: the last record's number and digest. `None` if somebody deleted that.
    async fn head(&self) -> Result<Option<(u64, Digest)>, Fault> {
        let mut reader = self.db.reader().await?;
        let head = query_as("SELECT seq, digest FROM audit_head WHERE id = 1").fetch_optional(&mut *reader).await?;
        head.map(end).transpose()
    }

    /// Records after the number `seq`, oldest first.
    async fn after(&self, scope: Option<&Scope>, seq: i64, limit: i64) -> Result<Vec<AuditRecord>, Fault> {
        let mut reader = self.db.reader().await?;
        let found = match scope {
            None => {
                let sql =
                    "SELECT seq, position, at_ms, actor_kind, actor, action, app, environment, detail, previous, digest
                           FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2";
                query(sql).bind(seq).bind(limit).fetch_all(&mut *reader).await?
            }
            Some(scope) => {
                let sql =
                    "SELECT seq, position, at_ms, actor_kind, actor, action, app, environment, detail, previous, digest
                           FROM audit WHERE seq > $1 AND app = $3 AND environment = $4 ORDER BY seq LIMIT $2";
                let found = query(sql).bind(seq).bind(limit);
                found.bind(scope.app.as_str()).bind(scope.environment.as_str()).fetch_all(&mut *reader).await?
            }
        };
        found.iter().map(record).collect()
    }

    /// The number of a place that a reader goes on from.
    async fn number_of(&self, place: StreamPosition) -> Result<i64, Fault> {
        if place.incarnation == self.db.incarnation() || place.seq == 0 {
            // Beyond what a row can have is beyond the end.
            return Ok(i64::try_from(place.seq).unwrap_or(i64::MAX));
        }
        // The copy that this database was restored from may have had that record, or another one in its place.
        let mut reader = self.db.reader().await?;
        let found: Option<(i64,)> = query_as("SELECT seq FROM audit WHERE seq = $1 AND position = $2")
            .bind(row::int(place.seq)?)
            .bind(place.to_string())
            .fetch_optional(&mut *reader)
            .await?;
        let Some((seq,)) = found else {
            let e = Error::conflict("the place is of another life of this log: read it from the start");
            return Err(e.with("after", place).into());
        };
        Ok(seq)
    }
}

#[async_trait]
impl AuditLog for Audit {
    async fn check(&self) -> Result<Readiness> {
        self.db.check().await
    }

    async fn append(&self, entry: &AuditEntry) -> Result<AuditRecord> {
        run("append", || async {
            let mut writer = self.db.writer().await?;
            let mut tx = writer.begin().await?;
            let head = sql!(
                sqlite: "SELECT seq, digest FROM audit_head WHERE id = 1",
                // Whoever comes second waits here, and sees what the first one wrote.
                postgres: "SELECT seq, digest FROM audit_head WHERE id = 1 FOR UPDATE",
            );
            let head = query_as(head).fetch_optional(&mut *tx).await?;
            let (seq, previous) = end(head.ok_or_else(|| row::altered("an audit log without a head"))?)?;
            let position = StreamPosition::new(self.db.incarnation(), seq).next();
            let record = AuditRecord::chain(position, previous, entry.clone());
            let (kind, actor) = match &entry.actor {
                Actor::Subject(subject) => ("subject", subject.as_str()),
                Actor::System(name) => ("system", name.as_str()),
                Actor::Unknown => ("unknown", ""),
            };
            let sql = "INSERT INTO audit (seq, position, at_ms, actor_kind, actor, action, app, environment, detail,
                                          previous, digest)
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
            let scope = entry.scope.as_ref();
            let (seq, digest) = (row::int(position.seq)?, record.digest.to_string());
            query(sql)
                .bind(seq)
                .bind(position.to_string())
                .bind(entry.at.as_unix_millis())
                .bind(kind)
                .bind(actor)
                .bind(&entry.action)
                .bind(scope.map(|s| s.app.as_str()))
                .bind(scope.map(|s| s.environment.as_str()))
                .bind(&entry.detail)
                .bind(previous.to_string())
                .bind(&digest)
                .execute(&mut *tx)
                .await?;
            let sql = "UPDATE audit_head SET seq = $1, digest = $2 WHERE id = 1";
            query(sql).bind(seq).bind(digest).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(record)
        })
        .await
    }

    async fn read(
        &self,
        scope: Option<Scope>,
        after: Option<StreamPosition>,
        limit: NonZeroU32,
    ) -> Result<Page<AuditRecord, StreamPosition>> {
        run("read", || async {
            let seq = match after {
                None => 0,
                Some(place) => self.number_of(place).await?,
            };
            let records = self.after(scope.as_ref(), seq, i64::from(limit.get()) + 1).await?;
            Ok(Page::cut(records, limit.get() as usize, |record| record.position))
        })
        .await
    }

    async fn verify(&self) -> Result<u64> {
        run("verify", || async {
            let (mut seq, mut digest) = (0, AuditRecord::genesis());
            loop {
                let records = self.after(None, row::int(seq)?, PAGE).await?;
                // A record and the head change together, so a head that is read later is at least as far.
                let head = if records.is_empty() { self.head().await? } else { None };
                for run in records.chunk_by(|a, b| a.position.incarnation == b.position.incarnation) {
                    let first = run[0].position;
                    if first.seq != seq + 1 {
                        return Err(broken(first));
                    }
                    digest = AuditRecord::verify(digest, run).map_err(broken)?;
                    seq += run.len() as u64;
                }
                match head {
                    None if !records.is_empty() => {}
                    Some(head) if head == (seq, digest) => return Ok(seq),
                    // Somebody appended in between.
                    Some((further, _)) if further > seq && !self.after(None, row::int(seq)?, 1).await?.is_empty() => {}
                    _ => return Err(broken(StreamPosition::new(self.db.incarnation(), seq).next())),
                }
            }
        })
        .await
    }
}

fn end((seq, digest): (i64, String)) -> Result<(u64, Digest), Fault> {
    Ok((row::number(seq)?, row::stored(&digest)?))
}

fn broken(at: StreamPosition) -> Fault {
    let message = "the audit log was altered: its chain is broken here";
    Error::new(ErrorKind::Unexpected, message).with("record", at).effect_as(Effect::None).into()
}

/// A record as it was stored; whether it is true is for [`AuditRecord::verify`] to say.
fn record(stored: &Row) -> Result<AuditRecord, Fault> {
    let text = |column| stored.try_get::<&str, _>(column);
    let seq: i64 = stored.try_get("seq")?;
    let read = || {
        let position: StreamPosition = row::stored(text("position")?)?;
        if row::int(position.seq)? != seq {
            return Err(row::altered(format!("{position} as record {seq}")).into());
        }
        let actor = text("actor")?;
        let actor = match text("actor_kind")? {
            "subject" => Actor::Subject(row::stored(actor)?),
            "system" => Actor::System(actor.to_owned()),
            "unknown" if actor.is_empty() => Actor::Unknown,
            kind => return Err(row::altered(format!("actor of kind {kind:?}")).into()),
        };
        let scope = match (stored.try_get("app")?, stored.try_get("environment")?) {
            (Some(app), Some(environment)) => Some(row::scope(app, environment)?),
            (None::<&str>, None::<&str>) => None,
            _ => return Err(row::altered("half a scope").into()),
        };
        let mut entry = AuditEntry::new(Timestamp::from_unix_millis(stored.try_get("at_ms")?), actor, text("action")?);
        entry.scope = scope;
        entry = entry.detail(text("detail")?);
        let (previous, digest) = (row::stored(text("previous")?)?, row::stored(text("digest")?)?);
        Ok::<_, Fault>(AuditRecord { position, previous, entry, digest })
    };
    read().map_err(|fault| fault.with("record", seq))
}
