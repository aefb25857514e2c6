//! The statements of the stores through SQLite's C API, as near as safe code comes to it: `rusqlite`, on the caller's own
//! thread, with prepared statements kept.

use crate::{contest::Contestant, work::PreparedArtifact};
use async_trait::async_trait;
use overskill_benches::{
    Outcome, PreparedCommit,
    statements::{
        ADD_EVENTS_SQLITE, ADVANCE, ARTIFACT_AGAIN_SQLITE, ARTIFACT_NEW_SQLITE, GET, KEEP, PUT_BLOB_SQLITE,
        PUT_FILE_SQLITE, RELEASE, SNAPSHOT, STEP_SQLITE, TAKE,
    },
};
use overskill_core::{Change, Changes, FilePath, LeaseChange, Scope};
use rusqlite::{Connection, Row, ToSql};
use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    time::Duration,
};

pub(crate) struct CApi {
    writer: Connection,
    reader: Connection,
    /// The statements of each text, their arguments by number: `$1` is a name to SQLite, and `?1` the first argument.
    numbered: HashMap<&'static str, Vec<String>>,
}

impl CApi {
    /// Opens a database that has its schema, with the settings of the stores.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let connect = || {
            let connection = Connection::open(path)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "foreign_keys", "ON")?;
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.set_prepared_statement_cache_capacity(200);
            Outcome::Ok(connection)
        };
        let reader = connect()?;
        reader.pragma_update(None, "query_only", "ON")?;
        let texts = [
            ADD_EVENTS_SQLITE,
            ADVANCE,
            ARTIFACT_AGAIN_SQLITE,
            ARTIFACT_NEW_SQLITE,
            GET,
            KEEP,
            PUT_BLOB_SQLITE,
            PUT_FILE_SQLITE,
            RELEASE,
            SNAPSHOT,
            STEP_SQLITE,
            TAKE,
        ];
        let parts = |text: &str| text.replace('$', "?").split(';').map(str::to_owned).collect();
        Ok(Self { writer: connect()?, reader, numbered: texts.map(|text| (text, parts(text))).into() })
    }

    fn begin(&self) -> Outcome<()> {
        Ok(self.writer.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)?)
    }

    fn end(&self) -> Outcome<()> {
        Ok(self.writer.prepare_cached("COMMIT")?.execute([]).map(drop)?)
    }

    fn write(&self, text: &'static str, arguments: &[&dyn ToSql]) -> Outcome<u32> {
        self.run(&self.writer, text, arguments, |_| Ok(()))
    }

    /// Runs the statements of a text, shows their rows, and says how many there were.
    fn run(
        &self,
        on: &Connection,
        text: &'static str,
        arguments: &[&dyn ToSql],
        mut show: impl FnMut(&Row<'_>) -> rusqlite::Result<()>,
    ) -> Outcome<u32> {
        let mut count = 0;
        for sql in &self.numbered[text] {
            let mut statement = on.prepare_cached(sql)?;
            // A statement that names the 4th counts 4, whether it names the 3rd or not.
            for number in 1..=statement.parameter_count() {
                statement.raw_bind_parameter(number, arguments[number - 1])?;
            }
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                show(row)?;
                count += 1;
            }
        }
        Ok(count)
    }
}

#[async_trait(?Send)]
impl Contestant for CApi {
    async fn apply(&mut self, scope: &Scope, changes: &Changes) -> Outcome<()> {
        let (app, environment) = (scope.app.as_str(), scope.environment.as_str());
        self.begin()?;
        let mut seq = 0_i64;
        self.run(&self.writer, STEP_SQLITE, &[&app, &environment, &None::<i64>, &256_i64], |row| {
            seq = row.get(0)?;
            Ok(())
        })?;
        for (path, change) in changes.iter() {
            let Change::Put(file) = change else { return Err("nothing is deleted here".into()) };
            let (digest, size) = (file.digest().to_string(), i64::try_from(file.size_bytes())?);
            let contents = &file.contents()[..];
            let arguments: [&dyn ToSql; 7] = [&app, &environment, &seq, &path.as_str(), &digest, &contents, &size];
            self.write(PUT_FILE_SQLITE, &arguments)?;
        }
        self.end()
    }

    async fn get(&mut self, scope: &Scope, path: &FilePath) -> Outcome<usize> {
        let mut found = None;
        let arguments: [&dyn ToSql; 3] = [&scope.app.as_str(), &scope.environment.as_str(), &path.as_str()];
        self.run(&self.reader, GET, &arguments, |row| {
            found = Some((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?));
            Ok(())
        })?;
        Ok(found.map_or(0, |(_, bytes)| bytes.len()))
    }

    async fn snapshot(&mut self, scope: &Scope) -> Outcome<usize> {
        let mut rows = Vec::new();
        self.run(&self.reader, SNAPSHOT, &[&scope.app.as_str(), &scope.environment.as_str()], |row| {
            let (path, digest): (Option<String>, Option<String>) = (row.get(1)?, row.get(2)?);
            rows.push((row.get::<_, i64>(0)?, path, digest, row.get::<_, Option<Vec<u8>>>(3)?));
            Ok(())
        })?;
        Ok(rows.iter().filter_map(|(.., bytes)| Some(bytes.as_ref()?.len())).sum())
    }

    async fn put(&mut self, prepared: &PreparedArtifact) -> Outcome<()> {
        let digest = prepared.artifact.digest().to_string();
        self.begin()?;
        self.write(ARTIFACT_AGAIN_SQLITE, &[&digest, &prepared.now])?;
        if self.writer.changes() == 0 {
            let size = i64::try_from(prepared.artifact.size_bytes())?;
            self.write(ARTIFACT_NEW_SQLITE, &[&digest, &prepared.manifest, &size, &prepared.now])?;
            let mut seen = BTreeSet::new();
            for blob in prepared.artifact.blobs().filter(|blob| seen.insert(blob.digest())) {
                self.write(PUT_BLOB_SQLITE, &[&digest, &blob.digest().to_string(), &&blob.contents()[..]])?;
            }
        }
        self.end()
    }

    async fn commit(&mut self, it: &PreparedCommit) -> Outcome<()> {
        let Scope { app, environment } = &it.commit.scope;
        let (app, environment) = (app.as_str(), environment.as_str());
        self.begin()?;
        let (due, after) = (None::<i64>, None::<String>);
        let advance: [&dyn ToSql; 10] =
            [&it.id, &app, &environment, &it.new_seq, &it.end, &it.expected_seq, &false, &it.now, &due, &after];
        let mut taken = self.write(ADVANCE, &advance)?;
        taken += match &it.commit.lease {
            LeaseChange::None => 1,
            LeaseChange::Take { holder, .. } => {
                let holder = holder.as_str();
                let take: [&dyn ToSql; 8] =
                    [&app, &environment, &0_i64, &it.id, &holder, &it.expires, &it.now, &i64::MAX];
                self.write(TAKE, &take)?
            }
            LeaseChange::Keep { .. } => {
                self.write(KEEP, &[&app, &environment, &it.id, &1_i64, &it.now, &it.expires])?
            }
            LeaseChange::Release { .. } => {
                self.write(RELEASE, &[&app, &environment, &it.id, &1_i64, &it.now])?;
                1
            }
        };
        if taken != 2 {
            return Err("not advanced, or no lease".into());
        }
        self.write(ADD_EVENTS_SQLITE, &[&it.id, &it.expected_seq, &it.now, &it.events])?;
        self.end()
    }
}
