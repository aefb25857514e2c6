use super::driver::{BACKEND, Connection, Db, Fault, run, sql};
use crate::row;
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use overskill_core::{
    AppFile, AppliedChanges, CatchUp, Change, Changes, Digest, Error, FileMeta, FilePath, FileStore, Page, Readiness,
    Result, Scope, Snapshot, StoreInfo, StreamPosition,
};
use sqlx::{query_as, query_scalar};
use std::{collections::BTreeMap, num::NonZeroU32};

/// A [`FileStore`] in tables.
///
/// Contents are kept once by their digest, however many apps have them: apps begin as copies of a template and change
/// a few of its files. An app of 60 files that are all known writes names, not contents. In exchange the table of contents
/// has to know who uses them: two indexes by digest, and triggers that delete what the last row let go.
///
/// What `snapshot` and `changes_since` read is checked against its digest, so that nothing is built from a file that was
/// damaged on disk; `get` takes it as it is.
#[derive(Clone, Debug)]
pub struct Files {
    db: Db,
    info: StoreInfo,
}

impl Files {
    pub(super) fn new(db: Db, history: u32) -> Self {
        Self { db, info: StoreInfo::new(BACKEND).history(history) }
    }

    fn at(&self, seq: i64) -> Result<StreamPosition> {
        Ok(StreamPosition::new(self.db.incarnation(), row::number(seq)?))
    }

    /// What the scope's number has to be, so that it stands at `expected`.
    fn expected_seq(&self, scope: &Scope, expected: Option<StreamPosition>) -> Result<Option<i64>> {
        match expected {
            None => Ok(None),
            Some(position) if position.incarnation != self.db.incarnation() => Err(moved_on(scope)),
            Some(position) => Ok(Some(i64::try_from(position.seq).map_err(|_| moved_on(scope))?)),
        }
    }
}

#[async_trait]
impl FileStore for Files {
    fn info(&self) -> StoreInfo {
        self.info.clone()
    }

    async fn check(&self) -> Result<Readiness> {
        self.db.check().await
    }

    async fn get(&self, scope: &Scope, path: &FilePath) -> Result<Option<AppFile>> {
        run("get", || async {
            let sql = "SELECT c.digest, c.bytes FROM files f JOIN file_contents c ON c.digest = f.digest
                       WHERE f.app = $1 AND f.environment = $2 AND f.path = $3";
            let mut reader = self.db.reader().await?;
            let found: Option<(String, Vec<u8>)> = query_as(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(path.as_str())
                .fetch_optional(&mut *reader)
                .await?;
            // Hashing it again would cost more than reading it.
            let Some((digest, bytes)) = found else { return Ok(None) };
            Ok(Some(AppFile::from_stored(bytes.into(), row::stored(&digest)?)))
        })
        .await
    }

    async fn snapshot(&self, scope: &Scope) -> Result<Snapshot> {
        type Row = (i64, Option<String>, Option<String>, Option<Vec<u8>>);
        run("snapshot", || async {
            let sql = "SELECT s.seq, f.path, c.digest, c.bytes FROM file_scopes s
                       LEFT JOIN files f ON f.app = s.app AND f.environment = s.environment
                       LEFT JOIN file_contents c ON c.digest = f.digest
                       WHERE s.app = $1 AND s.environment = $2";
            let mut reader = self.db.reader().await?;
            let mut rows =
                query_as::<_, Row>(sql).bind(scope.app.as_str()).bind(scope.environment.as_str()).fetch(&mut *reader);
            let mut snapshot = Snapshot::new(self.at(0)?, BTreeMap::new());
            while let Some((seq, path, digest, bytes)) = rows.try_next().await? {
                snapshot.position = self.at(seq)?;
                if let Some(path) = path {
                    let (Some(digest), Some(bytes)) = (digest, bytes) else { return Err(lost(&path)) };
                    snapshot.files.insert(row::stored(&path)?, file(&digest, bytes)?);
                }
            }
            Ok(snapshot)
        })
        .await
    }

    async fn apply(
        &self,
        scope: &Scope,
        changes: &Changes,
        expected: Option<StreamPosition>,
    ) -> Result<StreamPosition> {
        run("apply", || async {
            if changes.is_empty() {
                return Err(Error::invalid("changes must touch at least one file, but are empty").into());
            }
            self.info.admit(changes)?;
            let expected = self.expected_seq(scope, expected)?;
            let mut writer = self.db.writer().await?;
            let mut tx = writer.begin().await?;
            // One step further, if it stands where it should; what is too old to be remembered goes.
            let step = sql!(
                sqlite: "INSERT INTO file_scopes (app, environment, seq)
                         SELECT $1, $2, 1 WHERE $3 IS NULL OR $3 = coalesce(
                             (SELECT seq FROM file_scopes WHERE app = $1 AND environment = $2), 0)
                         ON CONFLICT (app, environment) DO UPDATE SET seq = file_scopes.seq + 1
                         WHERE $3 IS NULL OR file_scopes.seq = $3
                         RETURNING seq;
                         DELETE FROM file_changes WHERE app = $1 AND environment = $2 AND seq <=
                             (SELECT seq FROM file_scopes WHERE app = $1 AND environment = $2) - $4",
                // The second look at `seq` is at what a transaction that was first has left.
                postgres: "WITH step AS (
                               INSERT INTO file_scopes (app, environment, seq)
                               SELECT $1, $2, 1 WHERE $3::bigint IS NULL OR $3 = coalesce(
                                   (SELECT seq FROM file_scopes WHERE app = $1 AND environment = $2), 0)
                               ON CONFLICT (app, environment) DO UPDATE SET seq = file_scopes.seq + 1
                               WHERE $3 IS NULL OR file_scopes.seq = $3
                               RETURNING seq
                           ), pruned AS (
                               DELETE FROM file_changes c USING step
                               WHERE c.app = $1 AND c.environment = $2 AND c.seq <= step.seq - $4
                           )
                           SELECT seq FROM step",
            );
            let step: Vec<i64> = query_scalar(step)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(expected)
                .bind(i64::from(self.info.history))
                .fetch_all(&mut *tx)
                .await?;
            let [seq] = step[..] else { return Err(moved_on(scope).into()) };
            super::change_files::write(&mut tx, scope, seq, changes).await?;
            tx.commit().await?;
            Ok(self.at(seq)?)
        })
        .await
    }

    async fn changes_since(&self, scope: &Scope, position: StreamPosition) -> Result<CatchUp<AppliedChanges>> {
        run("changes_since", || async {
            let mut reader = self.db.reader().await?;
            self.since(&mut reader, scope, position).await
        })
        .await
    }

    async fn list(
        &self,
        scope: &Scope,
        after: Option<FilePath>,
        limit: NonZeroU32,
    ) -> Result<Page<FileMeta, FilePath>> {
        run("list", || async {
            let sql = "SELECT path, digest, size_bytes FROM files
                       WHERE app = $1 AND environment = $2 AND path > $3 ORDER BY path LIMIT $4";
            let mut reader = self.db.reader().await?;
            let found: Vec<(String, String, i64)> = query_as(sql)
                .bind(scope.app.as_str())
                .bind(scope.environment.as_str())
                .bind(after.as_ref().map_or("", FilePath::as_str))
                .bind(i64::from(limit.get()) + 1)
                .fetch_all(&mut *reader)
                .await?;
            let meta = |(path, digest, size): (String, String, i64)| {
                Ok(FileMeta {
                    path: row::stored(&path)?,
                    digest: row::stored(&digest)?,
                    size_bytes: row::number(size)?,
                })
            };
            let items = found.into_iter().map(meta).collect::<Result<Vec<_>>>()?;
            Ok(Page::cut(items, limit.get() as usize, |meta| meta.path.clone()))
        })
        .await
    }
}

impl Files {
    async fn since(
        &self,
        reader: &mut Connection,
        scope: &Scope,
        position: StreamPosition,
    ) -> Result<CatchUp<AppliedChanges>, Fault> {
        type Row = (i64, Option<i64>, Option<String>, Option<String>, Option<Vec<u8>>);
        let Ok(from) = i64::try_from(position.seq) else { return Ok(CatchUp::Gone) };
        if position.incarnation != self.db.incarnation() {
            return Ok(CatchUp::Gone);
        }
        let sql = "SELECT s.seq, h.seq, h.path, h.digest, c.bytes FROM file_scopes s
                   LEFT JOIN file_changes h ON h.app = s.app AND h.environment = s.environment AND h.seq > $3
                   LEFT JOIN file_contents c ON c.digest = h.digest
                   WHERE s.app = $1 AND s.environment = $2 ORDER BY h.seq";
        let mut rows =
            query_as::<_, Row>(sql).bind(scope.app.as_str()).bind(scope.environment.as_str()).bind(from).fetch(reader);
        // Each step left at least one row, so what is remembered is whole if it begins right behind `from`.
        let (mut head, mut reached, mut steps) = (0, from, Vec::<(i64, Vec<(FilePath, Change)>)>::new());
        while let Some((newest, seq, path, digest, bytes)) = rows.try_next().await? {
            head = newest;
            let (Some(seq), Some(path)) = (seq, path) else { continue };
            if seq > reached {
                if seq != reached + 1 {
                    return Ok(CatchUp::Gone);
                }
                reached = seq;
                steps.push((seq, Vec::new()));
            }
            let change = match (digest, bytes) {
                (None, _) => Change::Delete,
                (Some(digest), Some(bytes)) => Change::Put(file(&digest, bytes)?),
                (Some(_), None) => return Err(lost(&path)),
            };
            if let Some((_, changes)) = steps.last_mut() {
                changes.push((row::stored(&path)?, change));
            }
        }
        if reached != head {
            return Ok(CatchUp::Gone); // forgotten, or ahead of what ever was
        }
        let entry = |(seq, changes): (i64, Vec<_>)| {
            Ok(AppliedChanges { position: self.at(seq)?, changes: changes.into_iter().collect() })
        };
        Ok(CatchUp::Entries(steps.into_iter().map(entry).collect::<Result<_>>()?))
    }
}

/// Contents of a row, if they are what they were.
fn file(digest: &str, bytes: Vec<u8>) -> Result<AppFile> {
    let file = AppFile::new(Bytes::from(bytes));
    if file.digest() == row::stored::<Digest>(digest)? {
        Ok(file)
    } else {
        Err(row::altered("contents").with("digest", digest))
    }
}

fn lost(path: &str) -> Fault {
    Fault::from(row::altered("a file without contents")).with("path", path)
}

fn moved_on(scope: &Scope) -> Error {
    Error::conflict("the sources stand at another position: read them again").with("scope", scope)
}
