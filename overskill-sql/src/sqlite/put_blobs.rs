//! Writing an artifact's blobs: one trip to SQLite's thread for each.

use super::driver::{Connection, Fault};
use overskill_core::Artifact;
use sqlx::query;
use std::collections::BTreeSet;

/// Keeps the blobs of an artifact whose row is there.
pub(super) async fn write(tx: &mut Connection, digest: &str, artifact: &Artifact) -> Result<(), Fault> {
    const PUT: &str = "
        INSERT INTO blobs (digest, bytes) VALUES ($2, $3) ON CONFLICT DO NOTHING;
        INSERT INTO artifact_blobs (artifact, blob) VALUES ($1, $2)";
    let mut seen = BTreeSet::new();
    for blob in artifact.blobs().filter(|blob| seen.insert(blob.digest())) {
        let put = query(PUT).bind(digest).bind(blob.digest().to_string()).bind(&blob.contents()[..]);
        put.execute(&mut *tx).await?;
    }
    Ok(())
}
