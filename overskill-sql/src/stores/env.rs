use super::driver::{Db, Fault, run};
use crate::row;
use async_trait::async_trait;
use overskill_core::{
    EnvChanges, EnvEntry, EnvKey, EnvRevision, EnvSnapshot, EnvStore, EnvValue, Error, ErrorKind, Incarnation, KeyId,
    MAX_ENV_VARS, Readiness, Result, Scope, SealContext, Sealed, Sealer, StreamPosition,
};
use sqlx::{query, query_as, query_scalar};

/// An [`EnvStore`] in tables: what each revision set, with secrets as the [`Sealer`] made them.
///
/// A sealed value is bound to its app, environment, name and revision, so a row that was copied over another is refused.
/// Plain values are plain: whoever writes to the database by hand may change them, or put one in a secret's place.
#[derive(Clone, Debug)]
pub struct Env {
    db: Db,
    sealer: Sealer,
}

/// How many values `reseal` reads at a time.
const BATCH: i64 = 64;

/// A stored variable.
struct Stored {
    key: EnvKey,
    /// The revision that set it, as it was when it did.
    set: EnvRevision,
    value: Value,
}

enum Value {
    Plain(String),
    Sealed(Sealed),
}

impl Env {
    pub(super) fn new(db: Db, sealer: Sealer) -> Self {
        Self { db, sealer }
    }

    fn revision(&self, seq: u64) -> EnvRevision {
        EnvRevision(StreamPosition::new(self.db.incarnation(), seq))
    }

    async fn newest(&self, scope: &Scope) -> Result<u64, Fault> {
        let mut reader = self.db.reader().await?;
        let sql = "SELECT seq FROM env_scopes WHERE app = $1 AND environment = $2";
        let seq: Option<i64> = query_scalar(sql)
            .bind(scope.app.as_str())
            .bind(scope.environment.as_str())
            .fetch_optional(&mut *reader)
            .await?;
        Ok(row::number(seq.unwrap_or(0))?)
    }

    /// The variables of a revision, in name order, opened by nobody yet.
    async fn read(&self, scope: &Scope, EnvRevision(at): EnvRevision) -> Result<Vec<Stored>, Fault> {
        type Found =
            (i64, Option<String>, Option<i64>, Option<String>, Option<String>, Option<Vec<u8>>, Option<String>);
        let never = || {
            let e = Error::not_found("the scope never had this revision of its variables");
            Fault::from(e.with("scope", scope).with("revision", EnvRevision(at)))
        };
        let Ok(seq) = i64::try_from(at.seq) else { return Err(never()) };
        if at.incarnation != self.db.incarnation() {
            return Err(never());
        }
        let sql = "SELECT s.seq, v.key, v.seq, v.life, v.plain, v.sealed, v.key_id FROM env_scopes s
                   LEFT JOIN env_values v ON v.app = s.app AND v.environment = s.environment
                       AND (v.plain IS NOT NULL OR v.sealed IS NOT NULL)
                       AND v.seq = (SELECT max(n.seq) FROM env_values n WHERE n.app = s.app
                                    AND n.environment = s.environment AND n.key = v.key AND n.seq <= $3)
                   WHERE s.app = $1 AND s.environment = $2 ORDER BY v.key";
        let found: Vec<Found> = {
            let mut reader = self.db.reader().await?;
            query_as(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(seq)
                .fetch_all(&mut *reader)
                .await?
        };
        if seq > found.first().map_or(0, |(newest, ..)| *newest) {
            return Err(never());
        }
        let stored = |(_, key, seq, life, plain, sealed, key_id): Found| match (key, seq, life) {
            (Some(key), Some(seq), Some(life)) => Some(stored(scope, &key, seq, &life, (plain, sealed, key_id))),
            _ => None,
        };
        Ok(found.into_iter().filter_map(stored).collect::<Result<_>>()?)
    }

    /// Writes what was sealed for the revision `new`, unless somebody was faster: then `false`.
    async fn write(
        &self,
        scope: &Scope,
        EnvRevision(new): EnvRevision,
        values: &[(&EnvKey, Option<Value>)],
    ) -> Result<bool, Fault> {
        let seq = row::int(new.seq)?;
        let (app, environment) = (scope.app.as_str(), scope.environment.as_str());
        let mut writer = self.db.writer().await?;
        let mut tx = writer.begin().await?;
        let step = "INSERT INTO env_scopes (app, environment, seq) SELECT $1, $2, 1 WHERE $3 = 1
                    ON CONFLICT DO NOTHING";
        let further = "UPDATE env_scopes SET seq = $3 WHERE app = $1 AND environment = $2 AND seq = $3 - 1";
        let step = query(if seq == 1 { step } else { further }).bind(app).bind(environment).bind(seq);
        if step.execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(false);
        }
        // The life that the values were sealed for, whatever it is by now: under another they would not open.
        let life = format!("{:x}", new.incarnation.as_u64());
        for (key, value) in values {
            let (plain, sealed) = match value {
                None => (None, None),
                Some(Value::Plain(plain)) => (Some(plain), None),
                Some(Value::Sealed(sealed)) => (None, Some(sealed)),
            };
            let sql = "INSERT INTO env_values (app, environment, key, seq, life, plain, sealed, key_id)
                       VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
            query(sql)
                .bind(app)
                .bind(environment)
                .bind(key.as_str())
                .bind(seq)
                .bind(&life)
                .bind(plain)
                .bind(sealed.map(|s| &s.as_bytes()[..]))
                .bind(sealed.map(|s| s.key_id().as_str()))
                .execute(&mut *tx)
                .await?;
        }
        let count = "SELECT count(*) FROM env_values v WHERE app = $1 AND environment = $2
                     AND (plain IS NOT NULL OR sealed IS NOT NULL)
                     AND seq = (SELECT max(seq) FROM env_values n WHERE n.app = v.app
                                AND n.environment = v.environment AND n.key = v.key)";
        let count: i64 = query_scalar(count).bind(app).bind(environment).fetch_one(&mut *tx).await?;
        if row::number(count)? > MAX_ENV_VARS as u64 {
            let message = format!("a scope may have at most {MAX_ENV_VARS} variables, but would have {count}");
            return Err(Error::new(ErrorKind::LimitExceeded, message).with("scope", scope).into());
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Sealed values under another key than `current`, after the place `after`.
    async fn outdated(&self, scope: &Scope, current: &KeyId, after: &(String, i64)) -> Result<Vec<Stored>, Fault> {
        type Found = (String, i64, String, Option<Vec<u8>>, Option<String>);
        let sql = "SELECT key, seq, life, sealed, key_id FROM env_values
                   WHERE app = $1 AND environment = $2 AND key_id <> $3 AND (key, seq) > ($4, $5)
                   ORDER BY key, seq LIMIT $6";
        let mut reader = self.db.reader().await?;
        let found: Vec<Found> = query_as(sql)
            .bind(scope.app.as_str())
            .bind(scope.environment.as_str())
            .bind(current.as_str())
            .bind(&after.0)
            .bind(after.1)
            .bind(BATCH)
            .fetch_all(&mut *reader)
            .await?;
        let stored = |(key, seq, life, sealed, key_id): Found| stored(scope, &key, seq, &life, (None, sealed, key_id));
        Ok(found.into_iter().map(stored).collect::<Result<_>>()?)
    }

    /// Puts values that were sealed anew in the place of the old ones, where those are still there.
    async fn replace(&self, scope: &Scope, values: &[(Stored, Sealed)]) -> Result<u64, Fault> {
        let sql = "UPDATE env_values SET sealed = $5, key_id = $6
                   WHERE app = $1 AND environment = $2 AND key = $3 AND seq = $4 AND sealed = $7";
        let mut writer = self.db.writer().await?;
        let mut tx = writer.begin().await?;
        let mut replaced = 0;
        for (old, new) in values {
            let Value::Sealed(sealed) = &old.value else { continue };
            let done = query(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(old.key.as_str())
                .bind(row::int(old.set.0.seq)?)
                .bind(&new.as_bytes()[..])
                .bind(new.key_id().as_str())
                .bind(&sealed.as_bytes()[..])
                .execute(&mut *tx)
                .await?;
            replaced += done.rows_affected();
        }
        tx.commit().await?;
        Ok(replaced)
    }
}

#[async_trait]
impl EnvStore for Env {
    /// Asks the provider of keys too.
    async fn check(&self) -> Result<Readiness> {
        let keys = self.sealer.keys().check().await?;
        let ready = self.db.check().await?;
        Ok(keys.problems().iter().fold(ready, |all, problem| all.lacks(problem.what.clone(), problem.remedy.clone())))
    }

    async fn current(&self, scope: &Scope) -> Result<EnvRevision> {
        run("current", || async { Ok(self.revision(self.newest(scope).await?)) }).await
    }

    async fn put(&self, scope: &Scope, changes: &EnvChanges, expected: Option<EnvRevision>) -> Result<EnvRevision> {
        run("put", || async {
            changes.admit()?;
            loop {
                let newest = self.newest(scope).await?;
                if expected.is_some_and(|expected| expected != self.revision(newest)) {
                    let e = Error::conflict("the variables were changed: read them again").with("scope", scope);
                    return Err(e.with("revision", self.revision(newest)).into());
                }
                let new = self.revision(newest + 1);
                // Sealed before the transaction begins, for keys may come from far away.
                let mut values = Vec::new();
                for (key, value) in changes.iter() {
                    let value = match value {
                        None => None,
                        Some(EnvValue::Plain(value)) => Some(Value::Plain(value.clone())),
                        Some(EnvValue::Sealed(secret)) => {
                            let context = SealContext::new(scope, key, new);
                            Some(Value::Sealed(self.sealer.seal(&context, secret.expose()).await?))
                        }
                    };
                    values.push((key, value));
                }
                // What was sealed for a revision that somebody else was faster to make is sealed again for the next.
                if self.write(scope, new, &values).await? {
                    return Ok(new);
                }
            }
        })
        .await
    }

    async fn get(&self, scope: &Scope, revision: EnvRevision) -> Result<EnvSnapshot> {
        run("get", || async {
            let mut snapshot = EnvSnapshot { revision, values: [].into() };
            for stored in self.read(scope, revision).await? {
                let value = match &stored.value {
                    Value::Plain(value) => EnvValue::Plain(value.clone()),
                    Value::Sealed(sealed) => {
                        let context = SealContext::new(scope, &stored.key, stored.set);
                        EnvValue::Sealed(self.sealer.open(&context, sealed).await?)
                    }
                };
                snapshot.values.insert(stored.key, value);
            }
            Ok(snapshot)
        })
        .await
    }

    async fn entries(&self, scope: &Scope, revision: EnvRevision) -> Result<Vec<EnvEntry>> {
        run("entries", || async {
            let entry = |stored: Stored| {
                let key_id = match &stored.value {
                    Value::Plain(_) => None,
                    Value::Sealed(sealed) => Some(sealed.key_id().clone()),
                };
                EnvEntry { since: self.revision(stored.set.0.seq), key: stored.key, sealed: key_id.is_some(), key_id }
            };
            Ok(self.read(scope, revision).await?.into_iter().map(entry).collect())
        })
        .await
    }

    async fn reseal(&self, scope: &Scope) -> Result<u64> {
        let (mut after, mut resealed) = ((String::new(), 0), 0);
        loop {
            let batch = run("reseal", || async {
                let current = self.sealer.keys().current().await?;
                self.outdated(scope, &current, &after).await
            });
            let mut anew = Vec::new();
            for stored in batch.await? {
                let Value::Sealed(sealed) = &stored.value else { continue };
                let context = SealContext::new(scope, &stored.key, stored.set);
                let secret = self.sealer.open(&context, sealed).await?;
                let sealed = self.sealer.seal(&context, secret.expose()).await?;
                anew.push((stored, sealed));
            }
            let Some((last, _)) = anew.last() else { return Ok(resealed) };
            after = (last.key.to_string(), row::int(last.set.0.seq)?);
            resealed += run("reseal", || self.replace(scope, &anew)).await?;
        }
    }
}

fn stored(
    scope: &Scope,
    key: &str,
    seq: i64,
    life: &str,
    value: (Option<String>, Option<Vec<u8>>, Option<String>),
) -> Result<Stored> {
    let value = match value {
        (Some(plain), None, None) => Value::Plain(plain),
        (None, Some(sealed), Some(key_id)) => {
            let sealed = Sealed::from_bytes(sealed).map_err(|e| e.with("scope", scope).with("key", key))?;
            if sealed.key_id().as_str() != key_id {
                let e = row::altered("a sealed value beside the id of another key");
                return Err(e.with("scope", scope).with("key", key));
            }
            Value::Sealed(sealed)
        }
        _ => return Err(row::altered("a variable without a value").with("scope", scope).with("key", key)),
    };
    let life = u64::from_str_radix(life, 16).map_err(row::altered)?;
    let set = EnvRevision(StreamPosition::new(Incarnation::from_u64(life), row::number(seq)?));
    Ok(Stored { key: row::stored(key)?, set, value })
}
