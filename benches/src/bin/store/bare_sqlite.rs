//! The statements of the stores through sqlx alone, on SQLite.

use crate::{contest::Contestant, work::PreparedArtifact};
use async_trait::async_trait;
use overskill_benches::{
    Outcome, PreparedCommit, commit_on_sqlite,
    statements::{
        ARTIFACT_AGAIN_SQLITE, ARTIFACT_NEW_SQLITE, GET, PUT_BLOB_SQLITE, PUT_FILE_SQLITE, SNAPSHOT, STEP_SQLITE,
    },
};
use overskill_core::{Change, Changes, FilePath, Scope};
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, query, query_as, query_scalar,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};
use std::{collections::BTreeSet, path::Path, time::Duration};

pub(crate) struct BareSqlite {
    writer: SqliteConnection,
    reader: SqliteConnection,
}

impl BareSqlite {
    /// Opens a database that has its schema, with the settings of the stores.
    pub(crate) async fn open(path: &Path) -> Outcome<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(200)
            .disable_statement_logging();
        let writer = options.connect().await?;
        let reader = options.pragma("query_only", "ON").connect().await?;
        Ok(Self { writer, reader })
    }
}

#[async_trait(?Send)]
impl Contestant for BareSqlite {
    async fn apply(&mut self, scope: &Scope, changes: &Changes) -> Outcome<()> {
        let (app, environment) = (scope.app.as_str(), scope.environment.as_str());
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let step = query_scalar(STEP_SQLITE).bind(app).bind(environment).bind(None::<i64>).bind(256_i64);
        let step: Vec<i64> = step.fetch_all(&mut *tx).await?;
        let seq = step.first().ok_or("no step")?;
        for (path, change) in changes.iter() {
            let Change::Put(file) = change else { return Err("nothing is deleted here".into()) };
            query(PUT_FILE_SQLITE)
                .bind(app)
                .bind(environment)
                .bind(seq)
                .bind(path.as_str())
                .bind(file.digest().to_string())
                .bind(&file.contents()[..])
                .bind(i64::try_from(file.size_bytes())?)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    async fn get(&mut self, scope: &Scope, path: &FilePath) -> Outcome<usize> {
        let get = query_as(GET).bind(scope.app.as_str()).bind(scope.environment.as_str()).bind(path.as_str());
        let found: Option<(String, Vec<u8>)> = get.fetch_optional(&mut self.reader).await?;
        Ok(found.map_or(0, |(_, bytes)| bytes.len()))
    }

    async fn snapshot(&mut self, scope: &Scope) -> Outcome<usize> {
        let snapshot = query_as(SNAPSHOT).bind(scope.app.as_str()).bind(scope.environment.as_str());
        let rows: Vec<(i64, Option<String>, Option<String>, Option<Vec<u8>>)> =
            snapshot.fetch_all(&mut self.reader).await?;
        Ok(rows.iter().filter_map(|(.., bytes)| Some(bytes.as_ref()?.len())).sum())
    }

    async fn put(&mut self, prepared: &PreparedArtifact) -> Outcome<()> {
        let digest = prepared.artifact.digest().to_string();
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        let again = query(ARTIFACT_AGAIN_SQLITE).bind(&digest).bind(prepared.now).execute(&mut *tx).await?;
        if again.rows_affected() == 0 {
            query(ARTIFACT_NEW_SQLITE)
                .bind(&digest)
                .bind(&prepared.manifest)
                .bind(i64::try_from(prepared.artifact.size_bytes())?)
                .bind(prepared.now)
                .execute(&mut *tx)
                .await?;
            let mut seen = BTreeSet::new();
            for blob in prepared.artifact.blobs().filter(|blob| seen.insert(blob.digest())) {
                let put = query(PUT_BLOB_SQLITE).bind(&digest).bind(blob.digest().to_string());
                put.bind(&blob.contents()[..]).execute(&mut *tx).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    async fn commit(&mut self, it: &PreparedCommit) -> Outcome<()> {
        commit_on_sqlite(&mut self.writer, it).await
    }
}
