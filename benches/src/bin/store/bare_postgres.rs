//! The statements of the stores through sqlx alone, on Postgres: on one connection, or on sqlx's pool.

use crate::{contest::Contestant, work::PreparedArtifact};
use async_trait::async_trait;
use overskill_benches::{
    Outcome, PreparedCommit,
    statements::{
        ADD_EVENTS_POSTGRES, ADVANCE_POSTGRES, ARTIFACT_AGAIN_POSTGRES, ARTIFACT_NEW_POSTGRES, GET, KEEP,
        PUT_BLOBS_POSTGRES, PUT_FILES_POSTGRES, RELEASE, SNAPSHOT, STEP_POSTGRES, TAKE,
    },
};
use overskill_core::{AppFile, Change, Changes, FilePath, LeaseChange, Scope};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    query, query_as, query_scalar,
};
use std::{collections::BTreeMap, str::FromStr as _};

pub(crate) enum BarePostgres {
    One(PgConnection),
    Pool(PgPool),
}

/// A connection, for one call.
enum Held<'a> {
    One(&'a mut PgConnection),
    Pooled(PoolConnection<Postgres>),
}

impl BarePostgres {
    /// Connects to a database that has its schema, with the settings of the stores.
    pub(crate) async fn one(url: &str) -> Outcome<Self> {
        Ok(Self::One(options(url)?.connect().await?))
    }

    /// The same, as a service would that does many things at a time.
    pub(crate) async fn pool(url: &str) -> Outcome<Self> {
        let pool = PgPoolOptions::new().max_connections(10).test_before_acquire(false);
        Ok(Self::Pool(pool.connect_with(options(url)?).await?))
    }

    async fn held(&mut self) -> Outcome<Held<'_>> {
        Ok(match self {
            Self::One(connection) => Held::One(connection),
            Self::Pool(pool) => Held::Pooled(pool.acquire().await?),
        })
    }
}

fn options(url: &str) -> Outcome<PgConnectOptions> {
    let settings = [
        ("search_path", "overskill"),
        ("statement_timeout", "30000"),
        ("idle_in_transaction_session_timeout", "30000"),
    ];
    let options = PgConnectOptions::from_str(url)?.statement_cache_capacity(200).options(settings);
    Ok(options.disable_statement_logging())
}

impl Held<'_> {
    fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::One(connection) => connection,
            Self::Pooled(connection) => connection,
        }
    }
}

#[async_trait(?Send)]
impl Contestant for BarePostgres {
    async fn apply(&mut self, scope: &Scope, changes: &Changes) -> Outcome<()> {
        let (app, environment) = (scope.app.as_str(), scope.environment.as_str());
        let mut held = self.held().await?;
        let mut tx = held.connection().begin().await?;
        let step = query_scalar(STEP_POSTGRES).bind(app).bind(environment).bind(None::<i64>).bind(256_i64);
        let step: Vec<i64> = step.fetch_all(&mut *tx).await?;
        let mut puts: Vec<(&FilePath, &AppFile)> = Vec::with_capacity(changes.len());
        for (path, change) in changes.iter() {
            let Change::Put(file) = change else { return Err("nothing is deleted here".into()) };
            puts.push((path, file));
        }
        let sizes = puts.iter().map(|(_, file)| i64::try_from(file.size_bytes())).collect::<Result<Vec<_>, _>>()?;
        query(PUT_FILES_POSTGRES)
            .bind(app)
            .bind(environment)
            .bind(step.first().ok_or("no step")?)
            .bind(puts.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>())
            .bind(puts.iter().map(|(_, file)| file.digest().to_string()).collect::<Vec<_>>())
            .bind(puts.iter().map(|(_, file)| &file.contents()[..]).collect::<Vec<_>>())
            .bind(sizes)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    async fn get(&mut self, scope: &Scope, path: &FilePath) -> Outcome<usize> {
        let get = query_as(GET).bind(scope.app.as_str()).bind(scope.environment.as_str()).bind(path.as_str());
        let found: Option<(String, Vec<u8>)> = get.fetch_optional(self.held().await?.connection()).await?;
        Ok(found.map_or(0, |(_, bytes)| bytes.len()))
    }

    async fn snapshot(&mut self, scope: &Scope) -> Outcome<usize> {
        let snapshot = query_as(SNAPSHOT).bind(scope.app.as_str()).bind(scope.environment.as_str());
        let rows: Vec<(i64, Option<String>, Option<String>, Option<Vec<u8>>)> =
            snapshot.fetch_all(self.held().await?.connection()).await?;
        Ok(rows.iter().filter_map(|(.., bytes)| Some(bytes.as_ref()?.len())).sum())
    }

    async fn put(&mut self, prepared: &PreparedArtifact) -> Outcome<()> {
        let digest = prepared.artifact.digest().to_string();
        let mut held = self.held().await?;
        let mut tx = held.connection().begin().await?;
        let again = query(ARTIFACT_AGAIN_POSTGRES).bind(&digest).bind(prepared.now).execute(&mut *tx).await?;
        if again.rows_affected() == 0 {
            query(ARTIFACT_NEW_POSTGRES)
                .bind(&digest)
                .bind(&prepared.manifest)
                .bind(i64::try_from(prepared.artifact.size_bytes())?)
                .bind(prepared.now)
                .execute(&mut *tx)
                .await?;
            let blobs: BTreeMap<_, &AppFile> = prepared.artifact.blobs().map(|blob| (blob.digest(), blob)).collect();
            query(PUT_BLOBS_POSTGRES)
                .bind(&digest)
                .bind(blobs.values().map(|blob| blob.digest().to_string()).collect::<Vec<_>>())
                .bind(blobs.values().map(|blob| &blob.contents()[..]).collect::<Vec<_>>())
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    async fn commit(&mut self, it: &PreparedCommit) -> Outcome<()> {
        let Scope { app, environment } = &it.commit.scope;
        let (app, environment) = (app.as_str(), environment.as_str());
        let mut held = self.held().await?;
        let mut tx = held.connection().begin().await?;
        let advance = query_scalar(ADVANCE_POSTGRES).bind(&it.id).bind(app).bind(environment).bind(it.new_seq);
        let advance =
            advance.bind(&it.end).bind(it.expected_seq).bind(false).bind(it.now).bind(None::<i64>).bind(None::<String>);
        let now: Option<i64> = advance.fetch_optional(&mut *tx).await?;
        let now = now.ok_or("not advanced")?;
        let expires = now + (it.expires - it.now);
        match &it.commit.lease {
            LeaseChange::None => {}
            LeaseChange::Take { holder, .. } => {
                let take = query_scalar(TAKE).bind(app).bind(environment).bind(0_i64).bind(&it.id);
                let take = take.bind(holder.as_str()).bind(expires).bind(now).bind(i64::MAX);
                let fence: Option<i64> = take.fetch_optional(&mut *tx).await?;
                fence.ok_or("not taken")?;
            }
            LeaseChange::Keep { .. } => {
                let keep = query_scalar(KEEP).bind(app).bind(environment).bind(&it.id).bind(1_i64);
                let holder: Option<String> = keep.bind(now).bind(expires).fetch_optional(&mut *tx).await?;
                holder.ok_or("not kept")?;
            }
            LeaseChange::Release { .. } => {
                let release = query(RELEASE).bind(app).bind(environment).bind(&it.id).bind(1_i64).bind(now);
                release.execute(&mut *tx).await?;
            }
        }
        let add = query(ADD_EVENTS_POSTGRES).bind(&it.id).bind(it.expected_seq).bind(now).bind(&it.events);
        add.execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }
}
