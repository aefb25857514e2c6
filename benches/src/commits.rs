//! Commits of deployments as a peer makes them: the statements of the store with arguments that were made beforehand.

use crate::{
    Outcome,
    statements::{ADD_EVENTS_SQLITE, ADVANCE, KEEP, RELEASE, TAKE},
};
use overskill_core::{Commit, DeploymentEvent, LeaseChange, Scope};
use sqlx::{Connection as _, SqliteConnection, query, query_scalar};

/// A commit, and what a peer would bind.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is what the statements bind under that name")]
pub struct PreparedCommit {
    pub commit: Commit,
    pub id: String,
    pub events: String,
    pub expected_seq: i64,
    pub new_seq: i64,
    pub end: Option<String>,
    pub now: i64,
    pub expires: i64,
    pub due: Option<i64>,
}

impl PreparedCommit {
    /// What a commit binds.
    pub fn of(commit: Commit) -> Outcome<Self> {
        let expected_seq = i64::try_from(commit.expected_seq)?;
        let end = commit.events.iter().find_map(|event| match event {
            DeploymentEvent::Ended { end } => Some(serde_json::to_string(end)),
            _ => None,
        });
        let expires = match &commit.lease {
            LeaseChange::Take { ttl, .. } | LeaseChange::Keep { ttl, .. } => commit.now.plus(*ttl),
            _ => commit.now,
        };
        Ok(Self {
            id: commit.id.to_string(),
            events: serde_json::to_string(&commit.events)?,
            expected_seq,
            new_seq: expected_seq + i64::try_from(commit.events.len())?,
            end: end.transpose()?,
            now: commit.now.as_unix_millis(),
            expires: expires.as_unix_millis(),
            due: commit.due.map(overskill_core::Timestamp::as_unix_millis),
            commit,
        })
    }
}

/// Makes a commit on SQLite through sqlx alone. The lease has the fence 1: each deployment is the first of its app.
pub async fn commit_on_sqlite(connection: &mut SqliteConnection, it: &PreparedCommit) -> Outcome<()> {
    let Scope { app, environment } = &it.commit.scope;
    let (app, environment) = (app.as_str(), environment.as_str());
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let advance = query_scalar(ADVANCE).bind(&it.id).bind(app).bind(environment).bind(it.new_seq).bind(&it.end);
    let advance = advance.bind(it.expected_seq).bind(false).bind(it.now).bind(it.due).bind(None::<String>);
    let advanced: Option<i64> = advance.fetch_optional(&mut *tx).await?;
    advanced.ok_or("not advanced")?;
    match &it.commit.lease {
        LeaseChange::None => {}
        LeaseChange::Take { holder, .. } => {
            let take = query_scalar(TAKE).bind(app).bind(environment).bind(0_i64).bind(&it.id);
            let take = take.bind(holder.as_str()).bind(it.expires).bind(it.now).bind(i64::MAX);
            let fence: Option<i64> = take.fetch_optional(&mut *tx).await?;
            fence.ok_or("not taken")?;
        }
        LeaseChange::Keep { .. } => {
            let keep = query_scalar(KEEP).bind(app).bind(environment).bind(&it.id).bind(1_i64);
            let holder: Option<String> = keep.bind(it.now).bind(it.expires).fetch_optional(&mut *tx).await?;
            holder.ok_or("not kept")?;
        }
        LeaseChange::Release { .. } => {
            let release = query(RELEASE).bind(app).bind(environment).bind(&it.id).bind(1_i64).bind(it.now);
            release.execute(&mut *tx).await?;
        }
    }
    let add = query(ADD_EVENTS_SQLITE).bind(&it.id).bind(it.expected_seq).bind(it.now).bind(&it.events);
    add.execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}
