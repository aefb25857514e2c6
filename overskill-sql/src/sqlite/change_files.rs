//! Writing changed files: one trip to SQLite's thread for each.

use super::driver::{Connection, Fault};
use crate::row;
use overskill_core::{Change, Changes, Scope};
use sqlx::query;

/// Makes `changes` happen as step `seq` of a scope.
pub(super) async fn write(tx: &mut Connection, scope: &Scope, seq: i64, changes: &Changes) -> Result<(), Fault> {
    const PUT: &str = "
        INSERT INTO file_contents (digest, bytes) VALUES ($5, $6) ON CONFLICT DO NOTHING;
        INSERT INTO file_changes (app, environment, seq, path, digest) VALUES ($1, $2, $3, $4, $5);
        INSERT INTO files (app, environment, path, digest, size_bytes) VALUES ($1, $2, $4, $5, $7)
            ON CONFLICT (app, environment, path) DO UPDATE
            SET digest = excluded.digest, size_bytes = excluded.size_bytes";
    const DELETE: &str = "
        INSERT INTO file_changes (app, environment, seq, path) VALUES ($1, $2, $3, $4);
        DELETE FROM files WHERE app = $1 AND environment = $2 AND path = $4";
    for (path, change) in changes.iter() {
        let statement = match change {
            Change::Put(_) => query(PUT),
            Change::Delete => query(DELETE),
        };
        let mut statement =
            statement.bind(scope.app.as_str()).bind(scope.environment.as_str()).bind(seq).bind(path.as_str());
        if let Change::Put(file) = change {
            statement =
                statement.bind(file.digest().to_string()).bind(&file.contents()[..]).bind(row::int(file.size_bytes())?);
        }
        statement.execute(&mut *tx).await?;
    }
    Ok(())
}
