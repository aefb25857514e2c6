use super::driver::{Db, Fault, list, run, sql};
use crate::row;
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use overskill_core::{
    Artifact, BundleStore, Collected, DeploymentId, Digest, Error, Manifest, Readiness, Result, Scope, Timestamp,
};
use sqlx::{query, query_as, query_scalar};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// A [`BundleStore`] in tables: manifests as JSON, and each blob once by its digest.
///
/// [`collect`](BundleStore::collect) removes artifacts in small transactions, so that it holds up nobody.
#[derive(Clone, Debug)]
pub struct Bundles {
    db: Db,
}

/// How many artifacts one transaction of `collect` removes.
const BATCH: i64 = 16;

/// Where a collection has come to: since when nobody holds the artifact, and its digest.
type Place = (i64, String);

impl Bundles {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Removes up to [`BATCH`] artifacts behind the place `after` that nobody holds since before `cutoff`, and says how
    /// far it came.
    async fn collect_some(&self, cutoff: i64, after: &Place) -> Result<(Collected, Option<Place>), Fault> {
        let mut writer = self.db.writer().await?;
        let mut tx = writer.begin().await?;
        let old = sql!(
            sqlite: "SELECT since_ms, digest FROM artifacts a WHERE since_ms < $1 AND (since_ms, digest) > ($3, $4)
                     AND NOT EXISTS (SELECT 1 FROM artifact_holds h WHERE h.artifact = a.digest)
                     ORDER BY since_ms, digest LIMIT $2",
            // Whoever puts or holds one at this moment keeps it, and a second collector takes others.
            postgres: "SELECT since_ms, digest FROM artifacts a WHERE since_ms < $1 AND (since_ms, digest) > ($3, $4)
                       AND NOT EXISTS (SELECT 1 FROM artifact_holds h WHERE h.artifact = a.digest)
                       ORDER BY since_ms, digest LIMIT $2 FOR UPDATE SKIP LOCKED",
        );
        let old = query_as(old).bind(cutoff).bind(BATCH).bind(after.0).bind(&after.1);
        let old: Vec<Place> = old.fetch_all(&mut *tx).await?;
        let Some(last) = old.last().cloned() else { return Ok((Collected::default(), None)) };
        let old: Vec<String> = old.into_iter().map(|(_, digest)| digest).collect();
        let artifacts = old.len() as u64;
        let links = sql!(
            sqlite: "DELETE FROM artifact_blobs WHERE artifact IN (SELECT value FROM json_each($1)) RETURNING blob",
            postgres: "DELETE FROM artifact_blobs WHERE artifact = ANY ($1) RETURNING blob",
        );
        let old = list(old);
        let blobs: Vec<String> = query_scalar(links).bind(&old).fetch_all(&mut *tx).await?;
        let gone = sql!(
            sqlite: "DELETE FROM artifacts WHERE digest IN (SELECT value FROM json_each($1))",
            postgres: "DELETE FROM artifacts WHERE digest = ANY ($1)",
        );
        query(gone).bind(&old).execute(&mut *tx).await?;
        let blobs = list(blobs);
        // Two collectors would each see that the other's artifact still has a blob that both have, and both leave it.
        let one_at_a_time = sql!(
            sqlite: None::<&str>,
            postgres: Some("SELECT FROM blobs WHERE digest = ANY ($1) ORDER BY digest FOR UPDATE"),
        );
        if let Some(sql) = one_at_a_time {
            query(sql).bind(&blobs).execute(&mut *tx).await?;
        }
        let unused = sql!(
            sqlite: "DELETE FROM blobs WHERE digest IN (SELECT value FROM json_each($1))
                     AND NOT EXISTS (SELECT 1 FROM artifact_blobs WHERE blob = blobs.digest) RETURNING length(bytes)",
            postgres: "DELETE FROM blobs WHERE digest = ANY ($1)
                       AND NOT EXISTS (SELECT 1 FROM artifact_blobs WHERE blob = blobs.digest)
                       RETURNING octet_length(bytes)::bigint",
        );
        let freed: Vec<i64> = query_scalar(unused).bind(&blobs).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        Ok((Collected { artifacts, bytes: row::number(freed.iter().sum())? }, Some(last)))
    }
}

#[async_trait]
impl BundleStore for Bundles {
    async fn check(&self) -> Result<Readiness> {
        self.db.check().await
    }

    async fn put(&self, artifact: &Artifact, now: Timestamp) -> Result<Digest> {
        run("put", || async {
            let digest = artifact.digest().to_string();
            let mut writer = self.db.writer().await?;
            let mut tx = writer.begin().await?;
            let again = sql!(
                sqlite: "UPDATE artifacts SET since_ms = max(since_ms, $2) WHERE digest = $1",
                postgres: "UPDATE artifacts SET since_ms = greatest(since_ms, $2) WHERE digest = $1",
            );
            let again = query(again).bind(&digest).bind(now.as_unix_millis()).execute(&mut *tx).await?;
            if again.rows_affected() == 0 {
                let new = sql!(
                    sqlite: "INSERT INTO artifacts (digest, manifest, size_bytes, since_ms) VALUES ($1, $2, $3, $4)",
                    // Somebody may put the same one at this moment.
                    postgres: "INSERT INTO artifacts (digest, manifest, size_bytes, since_ms) VALUES ($1, $2, $3, $4)
                               ON CONFLICT (digest) DO UPDATE
                               SET since_ms = greatest(artifacts.since_ms, excluded.since_ms)",
                );
                let manifest = serde_json::to_string(&artifact.manifest())
                    .map_err(|e| Error::unexpected("a manifest could not be written as JSON", e))?;
                query(new)
                    .bind(&digest)
                    .bind(manifest)
                    .bind(row::int(artifact.size_bytes())?)
                    .bind(now.as_unix_millis())
                    .execute(&mut *tx)
                    .await?;
                super::put_blobs::write(&mut tx, &digest, artifact).await?;
            }
            tx.commit().await?;
            Ok(artifact.digest())
        })
        .await
    }

    async fn hold(&self, scope: &Scope, digest: Digest, deployment: DeploymentId) -> Result<()> {
        run("hold", || async {
            // A hold that is there counts as a row too, so that it can be told from an artifact that is not.
            let sql = "INSERT INTO artifact_holds (deployment, app, environment, artifact)
                       SELECT $1, $2, $3, digest FROM artifacts WHERE digest = $4
                       ON CONFLICT (deployment, app, environment, artifact) DO UPDATE SET artifact = excluded.artifact";
            let hold = query(sql)
                .bind(deployment.to_string())
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(digest.to_string());
            if self.db.writer().await?.alone(hold).await? == 0 {
                let e = Error::not_found("the artifact is not in the store: put it first");
                return Err(e.with("digest", digest).into());
            }
            Ok(())
        })
        .await
    }

    async fn release(&self, deployment: DeploymentId, now: Timestamp) -> Result<()> {
        run("release", || async {
            let mut writer = self.db.writer().await?;
            let mut tx = writer.begin().await?;
            let holds = "DELETE FROM artifact_holds WHERE deployment = $1 RETURNING artifact";
            let held: Vec<String> = query_scalar(holds).bind(deployment.to_string()).fetch_all(&mut *tx).await?;
            let since = sql!(
                sqlite: "UPDATE artifacts SET since_ms = max(since_ms, $2)
                         WHERE digest IN (SELECT value FROM json_each($1))",
                postgres: "UPDATE artifacts SET since_ms = greatest(since_ms, $2) WHERE digest = ANY ($1)",
            );
            if !held.is_empty() {
                query(since).bind(list(held)).bind(now.as_unix_millis()).execute(&mut *tx).await?;
            }
            tx.commit().await
        })
        .await
    }

    async fn holding(&self, deployments: &[DeploymentId]) -> Result<BTreeSet<DeploymentId>> {
        run("holding", || async {
            let sql = sql!(
                sqlite: "SELECT DISTINCT deployment FROM artifact_holds
                         WHERE deployment IN (SELECT value FROM json_each($1))",
                postgres: "SELECT DISTINCT deployment FROM artifact_holds WHERE deployment = ANY ($1)",
            );
            let ids = list(deployments.iter().map(ToString::to_string).collect());
            let mut reader = self.db.brief_reader().await?;
            let holding: Vec<String> = query_scalar(sql).bind(ids).fetch_all(&mut *reader).await?;
            Ok(holding.iter().map(|id| row::stored(id)).collect::<Result<_>>()?)
        })
        .await
    }

    async fn get(&self, scope: &Scope, digest: Digest) -> Result<Option<Arc<Artifact>>> {
        run("get", || async {
            // The manifest first, under no digest, then the blobs: one statement, so one state.
            let sql = sql!(
                sqlite: "SELECT '', CAST(manifest AS BLOB) FROM artifacts WHERE digest = $1 AND EXISTS (
                             SELECT 1 FROM artifact_holds WHERE artifact = $1 AND app = $2 AND environment = $3)
                         UNION ALL
                         SELECT b.digest, b.bytes FROM artifact_blobs l JOIN blobs b ON b.digest = l.blob
                         WHERE l.artifact = $1 AND EXISTS (
                             SELECT 1 FROM artifact_holds WHERE artifact = $1 AND app = $2 AND environment = $3)",
                postgres: "SELECT '', convert_to(manifest, 'UTF8') FROM artifacts WHERE digest = $1 AND EXISTS (
                               SELECT 1 FROM artifact_holds WHERE artifact = $1 AND app = $2 AND environment = $3)
                           UNION ALL
                           SELECT b.digest, b.bytes FROM artifact_blobs l JOIN blobs b ON b.digest = l.blob
                           WHERE l.artifact = $1 AND EXISTS (
                               SELECT 1 FROM artifact_holds WHERE artifact = $1 AND app = $2 AND environment = $3)",
            );
            let mut reader = self.db.reader().await?;
            let mut rows = query_as::<_, (String, Vec<u8>)>(sql)
                .bind(digest.to_string())
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .fetch(&mut *reader);
            let (mut manifest, mut blobs) = (None::<Manifest>, HashMap::<Digest, Bytes>::new());
            while let Some((name, bytes)) = rows.try_next().await? {
                if name.is_empty() {
                    manifest = Some(serde_json::from_slice(&bytes).map_err(row::altered)?);
                } else {
                    blobs.insert(row::stored(&name)?, bytes.into());
                }
            }
            let Some(manifest) = manifest else { return Ok(None) };
            let artifact = Artifact::from_manifest(&manifest, |blob| blobs.get(&blob).cloned())?;
            if artifact.digest() != digest {
                return Err(Fault::from(row::altered("a manifest")).with("digest", digest));
            }
            Ok(Some(Arc::new(artifact)))
        })
        .await
    }

    async fn collect(&self, now: Timestamp, min_age: Duration) -> Result<Collected> {
        let cutoff = now.minus(min_age).as_unix_millis();
        let mut collected = Collected::default();
        // Those that are held are passed by once, and not with every batch.
        let mut after = (i64::MIN, String::new());
        loop {
            let (some, last) = run("collect", || self.collect_some(cutoff, &after)).await?;
            let Some(last) = last else { return Ok(collected) };
            after = last;
            collected.artifacts += some.artifacts;
            collected.bytes += some.bytes;
        }
    }
}
