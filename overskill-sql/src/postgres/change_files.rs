//! Writing changed files: one trip to the server for many.

use super::driver::{Connection, Fault};
use crate::row;
use overskill_core::{AppFile, Change, Changes, FilePath, Scope};
use sqlx::query;

/// Most bytes of contents in one message.
const BATCH_BYTES: u64 = 8 * 1024 * 1024;

/// Makes `changes` happen as step `seq` of a scope.
pub(super) async fn write(tx: &mut Connection, scope: &Scope, seq: i64, changes: &Changes) -> Result<(), Fault> {
    let mut puts: Vec<(&FilePath, &AppFile)> = Vec::new();
    let mut bytes = 0;
    let mut deletes = Vec::new();
    for (path, change) in changes.iter() {
        match change {
            Change::Delete => deletes.push(path.as_str()),
            Change::Put(file) => {
                puts.push((path, file));
                bytes += file.size_bytes();
                if bytes >= BATCH_BYTES {
                    put(tx, scope, seq, &puts).await?;
                    puts.clear();
                    bytes = 0;
                }
            }
        }
    }
    if !puts.is_empty() {
        put(tx, scope, seq, &puts).await?;
    }
    if !deletes.is_empty() {
        const DELETE: &str = "
            WITH gone AS (DELETE FROM files WHERE app = $1 AND environment = $2 AND path = ANY ($4))
            INSERT INTO file_changes (app, environment, seq, path) SELECT $1, $2, $3, unnest($4)";
        let delete = query(DELETE).bind(scope.app.as_str()).bind(scope.environment.as_str()).bind(seq).bind(deletes);
        delete.execute(&mut *tx).await?;
    }
    Ok(())
}

async fn put(tx: &mut Connection, scope: &Scope, seq: i64, puts: &[(&FilePath, &AppFile)]) -> Result<(), Fault> {
    // Contents in the order of their digests, so that two writers of the same contents do not wait for each other.
    const PUT: &str = "
        WITH put AS (
            SELECT * FROM unnest($4::text[], $5::text[], $6::bytea[], $7::bigint[]) AS p (path, digest, bytes, size_bytes)
        ), contents AS (
            INSERT INTO file_contents (digest, bytes)
            SELECT DISTINCT ON (digest) digest, bytes FROM put ORDER BY digest ON CONFLICT DO NOTHING
        ), changes AS (
            INSERT INTO file_changes (app, environment, seq, path, digest) SELECT $1, $2, $3, path, digest FROM put
        )
        INSERT INTO files (app, environment, path, digest, size_bytes) SELECT $1, $2, path, digest, size_bytes FROM put
            ON CONFLICT (app, environment, path) DO UPDATE
            SET digest = excluded.digest, size_bytes = excluded.size_bytes";
    let sizes = puts.iter().map(|(_, file)| row::int(file.size_bytes())).collect::<Result<Vec<_>, _>>()?;
    query(PUT)
        .bind(scope.app.as_str())
        .bind(scope.environment.as_str())
        .bind(seq)
        .bind(puts.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>())
        .bind(puts.iter().map(|(_, file)| file.digest().to_string()).collect::<Vec<_>>())
        .bind(puts.iter().map(|(_, file)| &file.contents()[..]).collect::<Vec<_>>())
        .bind(sizes)
        .execute(&mut *tx)
        .await?;
    Ok(())
}
