//! Writing an artifact's blobs: one trip to the server for many.

use super::driver::{Connection, Fault};
use overskill_core::{AppFile, Artifact};
use sqlx::query;
use std::collections::BTreeMap;

/// Most bytes of contents in one message.
const BATCH_BYTES: u64 = 8 * 1024 * 1024;

/// Keeps the blobs of an artifact whose row is there.
pub(super) async fn write(tx: &mut Connection, digest: &str, artifact: &Artifact) -> Result<(), Fault> {
    // In the order of their digests, so that two writers of the same blobs do not wait for each other.
    let blobs: BTreeMap<_, &AppFile> = artifact.blobs().map(|blob| (blob.digest(), blob)).collect();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for blob in blobs.into_values() {
        batch.push(blob);
        bytes += blob.size_bytes();
        if bytes >= BATCH_BYTES {
            put(tx, digest, &batch).await?;
            batch.clear();
            bytes = 0;
        }
    }
    if batch.is_empty() { Ok(()) } else { put(tx, digest, &batch).await }
}

async fn put(tx: &mut Connection, digest: &str, batch: &[&AppFile]) -> Result<(), Fault> {
    const PUT: &str = "
        WITH put AS (
            SELECT * FROM unnest($2::text[], $3::bytea[]) AS p (digest, bytes)
        ), new AS (
            INSERT INTO blobs (digest, bytes) SELECT digest, bytes FROM put ORDER BY digest ON CONFLICT DO NOTHING
        )
        INSERT INTO artifact_blobs (artifact, blob) SELECT $1, digest FROM put ON CONFLICT DO NOTHING";
    query(PUT)
        .bind(digest)
        .bind(batch.iter().map(|blob| blob.digest().to_string()).collect::<Vec<_>>())
        .bind(batch.iter().map(|blob| &blob.contents()[..]).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
    Ok(())
}
