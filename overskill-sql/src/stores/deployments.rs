use super::driver::{Connection, Db, Fault, Row, row, run, sql};
use async_trait::async_trait;
use overskill_core::{
    Commit, Committed, DeployLease, DeploymentEnd, DeploymentEvent, DeploymentId, DeploymentStore, DeploymentSummary,
    Error, ErrorKind, Fence, LeaseChange, Page, Readiness, RecordedEvent, Result, Scope, Standing, Timestamp,
};
use sqlx::{Row as _, query, query_as, query_scalar};
use std::num::NonZeroU32;

/// The later of a parameter and the database's clock, if it has one that all nodes share.
macro_rules! later {
    ($parameter:literal) => {
        sql!(
            sqlite: $parameter,
            postgres: concat!("greatest(", $parameter, ", (extract(epoch FROM clock_timestamp()) * 1000)::bigint)"),
        )
    };
}
pub(super) use later;

/// A [`DeploymentStore`] in three tables: deployments, their events, and a lease for each scope.
#[derive(Clone, Debug)]
pub struct Deployments {
    db: Db,
}

impl Deployments {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }
}

#[async_trait]
impl DeploymentStore for Deployments {
    async fn check(&self) -> Result<Readiness> {
        self.db.check().await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed> {
        let plan = Plan::of(commit).map_err(|e| e.at(super::driver::BACKEND, "commit"))?;
        run("commit", || async {
            let mut writer = self.db.writer().await?;
            let mut tx = writer.begin().await?;
            let now = plan.advance(&mut tx).await?;
            let lease = plan.change_lease(&mut tx, now).await?;
            plan.add_events(&mut tx, now).await?;
            tx.commit().await?;
            Ok(Committed { seq: commit.expected_seq + commit.events.len() as u64, lease })
        })
        .await
        .map_err(|e| e.with("deployment", commit.id).with("scope", &commit.scope))
    }

    async fn events(&self, id: DeploymentId) -> Result<Vec<RecordedEvent>> {
        run("events", || async {
            let sql = "SELECT seq, at_ms, event FROM deployment_events WHERE deployment = $1 ORDER BY seq";
            let mut reader = self.db.brief_reader().await?;
            let rows: Vec<EventRow> = query_as(sql).bind(id.to_string()).fetch_all(&mut *reader).await?;
            Ok(rows.into_iter().map(recorded).collect::<Result<_>>()?)
        })
        .await
    }

    async fn scope_of(&self, id: DeploymentId) -> Result<Option<Scope>> {
        run("scope_of", || async {
            let sql = "SELECT app, environment FROM deployments WHERE id = $1";
            let mut reader = self.db.brief_reader().await?;
            let found: Option<(String, String)> =
                query_as(sql).bind(id.to_string()).fetch_optional(&mut *reader).await?;
            Ok(found.map(|(app, environment)| row::scope(&app, &environment)).transpose()?)
        })
        .await
    }

    async fn lease(&self, scope: &Scope, now: Timestamp) -> Result<Option<DeployLease>> {
        run("lease", || async {
            let sql = concat!(
                "SELECT fence, deployment, holder, expires_ms FROM deployment_leases
                 WHERE app = $1 AND environment = $2 AND expires_ms > ",
                later!("$3")
            );
            let mut reader = self.db.brief_reader().await?;
            let found: Option<LeaseRow> = query_as(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(now.as_unix_millis())
                .fetch_optional(&mut *reader)
                .await?;
            Ok(found.map(lease).transpose()?)
        })
        .await
    }

    async fn pending(&self, now: Timestamp, limit: NonZeroU32) -> Result<Vec<DeploymentSummary>> {
        run("pending", || async {
            let sql = concat!(
                "SELECT id, app, environment, seq, ended FROM (
                     SELECT id, app, environment, seq, ended, due_ms,
                            row_number() OVER (PARTITION BY app, environment ORDER BY due_ms, id) AS turn
                     FROM (
                         SELECT id, app, environment, seq, ended, due_ms FROM deployments
                         WHERE due_ms <= ",
                later!("$1"),
                " AND NOT EXISTS (
                             SELECT 1 FROM deployment_leases
                             WHERE deployment_leases.app = deployments.app
                               AND deployment_leases.environment = deployments.environment
                               AND deployment_leases.deployment IS NOT NULL AND expires_ms > ",
                later!("$1"),
                ") ORDER BY due_ms, id LIMIT $3
                     ) AS free
                 ) AS due ORDER BY turn, due_ms, id LIMIT $2"
            );
            let mut reader = self.db.reader().await?;
            let limit = i64::from(limit.get());
            let found = query_as(sql).bind(now.as_unix_millis()).bind(limit).bind(limit.max(TURNS));
            let rows: Vec<SummaryRow> = found.fetch_all(&mut *reader).await?;
            Ok(rows.into_iter().map(summary).collect::<Result<_>>()?)
        })
        .await
    }

    async fn list(
        &self,
        scope: &Scope,
        before: Option<DeploymentId>,
        limit: NonZeroU32,
    ) -> Result<Page<DeploymentSummary, DeploymentId>> {
        run("list", || async {
            // Above every id, whose first character is a hex digit.
            let before = before.map_or_else(|| "g".to_owned(), |id| id.to_string());
            let sql = "SELECT id, app, environment, seq, ended FROM deployments
                       WHERE app = $1 AND environment = $2 AND id < $3 ORDER BY id DESC LIMIT $4";
            let mut reader = self.db.brief_reader().await?;
            let rows: Vec<SummaryRow> = query_as(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(before)
                .bind(i64::from(limit.get()) + 1)
                .fetch_all(&mut *reader)
                .await?;
            let items = rows.into_iter().map(summary).collect::<Result<_>>()?;
            Ok(Page::cut(items, limit.get() as usize, |summary: &DeploymentSummary| summary.id))
        })
        .await
    }

    async fn standing(&self, id: DeploymentId, now: Timestamp) -> Result<Option<Standing>> {
        run("standing", || async {
            // What is of the deployment comes with each of its events: there is at least one, and seldom are there many.
            let sql = concat!(
                "SELECT d.app, d.environment,
                        (SELECT max(id) FROM deployments n WHERE n.app = d.app AND n.environment = d.environment),
                        l.fence, l.deployment, l.holder, l.expires_ms, e.seq, e.at_ms, e.event
                 FROM deployments d JOIN deployment_events e ON e.deployment = d.id
                 LEFT JOIN deployment_leases l
                   ON l.app = d.app AND l.environment = d.environment AND l.expires_ms > ",
                later!("$2"),
                " WHERE d.id = $1 ORDER BY e.seq"
            );
            let mut reader = self.db.brief_reader().await?;
            let rows: Vec<Row> =
                query(sql).bind(id.to_string()).bind(now.as_unix_millis()).fetch_all(&mut *reader).await?;
            let Some(first) = rows.first() else { return Ok(None) };
            let (app, environment): (&str, &str) = (first.try_get(0)?, first.try_get(1)?);
            let held: Option<i64> = first.try_get(3)?;
            let held = held
                .map(|fence| Ok::<_, sqlx::Error>((fence, first.try_get(4)?, first.try_get(5)?, first.try_get(6)?)));
            let held: Option<LeaseRow> = held.transpose()?;
            let event = |row: &Row| Ok(recorded((row.try_get(7)?, row.try_get(8)?, row.try_get(9)?))?);
            Ok(Some(Standing {
                scope: row::scope(app, environment)?,
                newest: row::stored(first.try_get(2)?)?,
                lease: held.map(lease).transpose()?,
                events: rows.iter().map(event).collect::<Result<_, Fault>>()?,
            }))
        })
        .await
    }
}

/// Among how many of those that have been due longest every scope has its turn: more would have to be sorted in each round.
const TURNS: i64 = 4_096;

/// Number, time, event.
type EventRow = (i64, i64, String);

fn recorded((seq, at, event): EventRow) -> Result<RecordedEvent> {
    let event = serde_json::from_str(&event).map_err(row::altered)?;
    Ok(RecordedEvent { seq: row::number(seq)?, at: Timestamp::from_unix_millis(at), event })
}

/// Fence, deployment, holder, end.
type LeaseRow = (i64, String, String, i64);

fn lease((fence, deployment, holder, expires): LeaseRow) -> Result<DeployLease> {
    Ok(DeployLease {
        fence: Fence::from_u64(row::number(fence)?),
        deployment: row::stored(&deployment)?,
        holder: row::stored(&holder)?,
        expires_at: Timestamp::from_unix_millis(expires),
    })
}

/// Id, app, environment, number of events, end.
type SummaryRow = (String, String, String, i64, Option<String>);

fn summary((id, app, environment, seq, ended): SummaryRow) -> Result<DeploymentSummary> {
    Ok(DeploymentSummary {
        id: row::stored(&id)?,
        scope: row::scope(&app, &environment)?,
        seq: row::number(seq)?,
        end: ended.map(|json| serde_json::from_str(&json).map_err(row::altered)).transpose()?,
    })
}

/// The highest fence that a column holds.
const LAST_FENCE: i64 = i64::MAX;

/// A commit in the database's words: what can be refused without asking it is refused by now.
struct Plan<'a> {
    commit: &'a Commit,
    id: String,
    expected_seq: i64,
    new_seq: i64,
    /// All events as one JSON array, in order.
    events: String,
    end: Option<String>,
    only_sweeps: bool,
}

impl<'a> Plan<'a> {
    fn of(commit: &'a Commit) -> Result<Self> {
        let mut end: Option<&DeploymentEnd> = None;
        for event in &commit.events {
            match event {
                DeploymentEvent::Swept { .. } => {}
                _ if end.is_some() => return Err(ended()),
                DeploymentEvent::Ended { end: how } => end = Some(how),
                _ => {}
            }
        }
        let json = |e: serde_json::Error| Error::unexpected("an event does not go into JSON", e);
        let added = row::int(commit.events.len() as u64)?;
        let expected_seq = row::int(commit.expected_seq)?;
        Ok(Self {
            commit,
            id: commit.id.to_string(),
            expected_seq,
            new_seq: expected_seq.saturating_add(added),
            events: serde_json::to_string(&commit.events).map_err(json)?,
            end: end.map(serde_json::to_string).transpose().map_err(json)?,
            only_sweeps: commit.events.iter().all(|event| matches!(event, DeploymentEvent::Swept { .. })),
        })
    }

    /// Creates the deployment or moves it on, if it is as expected, and says when that is.
    async fn advance(&self, tx: &mut Connection) -> Result<Timestamp, Fault> {
        let sql = concat!(
            "INSERT INTO deployments (id, app, environment, seq, ended, due_ms)
             SELECT $1, $2, $3, $4, $5, CASE WHEN $9 IS NULL AND $5 IS NULL THEN $8 ELSE $9 END
             WHERE CASE WHEN $6 = 0 THEN NOT EXISTS (SELECT 1 FROM deployments WHERE app = $2 AND environment = $3
                                                         AND id > CASE WHEN $10 < $1 THEN $10 ELSE $1 END)
                        ELSE EXISTS (SELECT 1 FROM deployments WHERE id = $1) END
             ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, ended = coalesce(deployments.ended, excluded.ended),
               due_ms = CASE WHEN $9 IS NOT NULL OR coalesce(deployments.ended, excluded.ended) IS NOT NULL THEN $9
                             WHEN deployments.due_ms <= $8 THEN deployments.due_ms ELSE $8 END
             WHERE deployments.seq = $6 AND deployments.app = $2 AND deployments.environment = $3
               AND (deployments.ended IS NULL OR $7)
             RETURNING ",
            later!("$8")
        );
        let Scope { app, environment } = &self.commit.scope;
        let now: Option<i64> = query_scalar(sql)
            .bind(&self.id)
            .bind(app.as_str())
            .bind(environment.as_str())
            .bind(self.new_seq)
            .bind(&self.end)
            .bind(self.expected_seq)
            .bind(self.only_sweeps)
            .bind(self.commit.now.as_unix_millis())
            .bind(self.commit.due.map(Timestamp::as_unix_millis))
            .bind(self.commit.after.map(|after| after.to_string()))
            .fetch_optional(&mut *tx)
            .await?;
        match now {
            Some(now) => Ok(Timestamp::from_unix_millis(now)),
            None => Err(self.why_refused(tx).await?.into()),
        }
    }

    async fn why_refused(&self, tx: &mut Connection) -> Result<Error, Fault> {
        let sql = "SELECT id, app, environment, seq, ended FROM deployments WHERE id = $1";
        let found: Option<SummaryRow> = query_as(sql).bind(&self.id).fetch_optional(tx).await?;
        let found = found.map(summary).transpose()?;
        let (seq, expected) = (found.as_ref().map_or(0, |d| d.seq), self.commit.expected_seq);
        Ok(match found {
            Some(d) if d.scope != self.commit.scope => Error::conflict("the deployment is of another scope"),
            Some(d) if d.end.is_some() && d.seq == expected => ended(),
            None if expected == 0 && self.commit.after.is_some() => {
                Error::conflict("the scope has another deployment since")
            }
            None if expected == 0 => Error::conflict("the scope has a newer deployment"),
            _ => Error::conflict(format!("the deployment must have {expected} events, but has {seq}: read them again")),
        })
    }

    async fn change_lease(&self, tx: &mut Connection, now: Timestamp) -> Result<Option<DeployLease>, Fault> {
        match &self.commit.lease {
            LeaseChange::None => Ok(None),
            LeaseChange::Take { holder, ttl, above } => {
                let above = row::int(above.as_u64()).ok().filter(|above| *above < LAST_FENCE).ok_or_else(no_fence)?;
                let sql = "INSERT INTO deployment_leases (app, environment, fence, deployment, holder, expires_ms)
                           VALUES ($1, $2, $3 + 1, $4, $5, $6)
                           ON CONFLICT (app, environment) DO UPDATE
                           SET fence = CASE WHEN deployment_leases.fence > $3 THEN deployment_leases.fence ELSE $3 END + 1,
                               deployment = excluded.deployment, holder = excluded.holder,
                               expires_ms = excluded.expires_ms
                           WHERE deployment_leases.fence < $8
                             AND (deployment_leases.deployment IS NULL OR deployment_leases.expires_ms <= $7
                                  OR (deployment_leases.deployment = $4 AND deployment_leases.holder = $5))
                           RETURNING fence";
                let expires_at = now.plus(*ttl);
                let fence: Option<i64> = query_scalar(sql)
                    .bind(self.commit.scope.app.as_str())
                    .bind(self.commit.scope.environment.as_str())
                    .bind(above)
                    .bind(&self.id)
                    .bind(holder.as_str())
                    .bind(expires_at.as_unix_millis())
                    .bind(now.as_unix_millis())
                    .bind(LAST_FENCE)
                    .fetch_optional(&mut *tx)
                    .await?;
                let Some(fence) = fence else { return Err(self.why_held(tx).await?.into()) };
                let fence = Fence::from_u64(row::number(fence)?);
                Ok(Some(DeployLease { fence, deployment: self.commit.id, holder: holder.clone(), expires_at }))
            }
            LeaseChange::Keep { fence, ttl } => {
                let sql = "UPDATE deployment_leases SET expires_ms = $6
                           WHERE app = $1 AND environment = $2 AND deployment = $3 AND fence = $4 AND expires_ms > $5
                           RETURNING holder";
                let expires_at = now.plus(*ttl);
                let holder: Option<String> = query_scalar(sql)
                    .bind(self.commit.scope.app.as_str())
                    .bind(self.commit.scope.environment.as_str())
                    .bind(&self.id)
                    .bind(stored_fence(*fence))
                    .bind(now.as_unix_millis())
                    .bind(expires_at.as_unix_millis())
                    .fetch_optional(tx)
                    .await?;
                let holder = row::stored(&holder.ok_or_else(|| not_held(*fence))?)?;
                Ok(Some(DeployLease { fence: *fence, deployment: self.commit.id, holder, expires_at }))
            }
            LeaseChange::Release { fence } => {
                let sql = "UPDATE deployment_leases SET deployment = NULL, holder = NULL, expires_ms = NULL
                           WHERE app = $1 AND environment = $2 AND deployment = $3 AND fence = $4 AND expires_ms > $5";
                let release = query(sql)
                    .bind(self.commit.scope.app.as_str())
                    .bind(self.commit.scope.environment.as_str())
                    .bind(&self.id)
                    .bind(stored_fence(*fence))
                    .bind(now.as_unix_millis());
                match release.execute(tx).await?.rows_affected() {
                    1 => Ok(None),
                    _ => Err(not_held(*fence).into()),
                }
            }
        }
    }

    async fn why_held(&self, tx: &mut Connection) -> Result<Error, Fault> {
        let sql = "SELECT fence, deployment, expires_ms FROM deployment_leases WHERE app = $1 AND environment = $2";
        let (app, environment) = (self.commit.scope.app.as_str(), self.commit.scope.environment.as_str());
        let found: Option<(i64, Option<String>, Option<i64>)> =
            query_as(sql).bind(app).bind(environment).fetch_optional(tx).await?;
        let held = Error::conflict("another deployment holds the lease: wait until it ends or expires");
        Ok(match found {
            Some((LAST_FENCE, ..)) => no_fence(),
            Some((_, Some(holder), Some(until))) => {
                held.with("holder", holder).with("until", Timestamp::from_unix_millis(until))
            }
            _ => held, // it has just been given back
        })
    }

    async fn add_events(&self, tx: &mut Connection, now: Timestamp) -> Result<(), Fault> {
        if self.commit.events.is_empty() {
            return Ok(());
        }
        let sql = sql!(
            sqlite: "INSERT INTO deployment_events (deployment, seq, at_ms, event)
                     SELECT $1, $2 + key + 1, $3, value FROM json_each($4)",
            postgres: "INSERT INTO deployment_events (deployment, seq, at_ms, event)
                       SELECT $1, $2 + place, $3, event::text
                       FROM json_array_elements($4::json) WITH ORDINALITY AS events (event, place)",
        );
        let add = query(sql).bind(&self.id).bind(self.expected_seq).bind(now.as_unix_millis()).bind(&self.events);
        add.execute(tx).await?;
        Ok(())
    }
}

/// A fence as it is stored, or −1, which no row has: one over 2⁶³ was never given out.
fn stored_fence(fence: Fence) -> i64 {
    i64::try_from(fence.as_u64()).unwrap_or(-1)
}

fn ended() -> Error {
    Error::conflict("the deployment has ended: nothing but `swept` may follow")
}

fn not_held(fence: Fence) -> Error {
    Error::conflict("the lease is not held under this fence any more: take it again").with("fence", fence)
}

fn no_fence() -> Error {
    Error::new(ErrorKind::LimitExceeded, "no fence is left above the highest that was seen: fences end at 2^63 - 1")
}
