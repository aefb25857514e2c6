//! The rows in SQLite.

use crate::disk;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use overskill_core::{
    Effect, Error, ErrorKind, Readiness, Result, Scope, Timestamp,
    entities::{self, Change, EntityRows, ListQuery, MAX_PAGE_BYTES, Sort, Start, not_a_cursor},
};
use serde_json::{Map, Value};
use sqlx::{
    QueryBuilder, Row as _, Sqlite, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous},
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// The rows of all apps. Every statement names the scope.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pool: SqlitePool,
    /// Writers wait here, in turn, rather than for SQLite's lock.
    writing: Arc<Mutex<()>>,
}

/// The records of one scope, for one caller.
pub(super) struct Rows<'a> {
    pub(super) store: &'a Store,
    pub(super) scope: &'a Scope,
    /// Who makes new ones.
    pub(super) by: &'a str,
}

#[async_trait]
impl EntityRows for Rows<'_> {
    async fn create(
        &self,
        entity: &str,
        id: &str,
        fields: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Option<Value>> {
        self.store.create(self.scope, entity, id, self.by, fields, now).await
    }

    async fn read(&self, entity: &str, id: &str) -> Result<Option<Value>> {
        self.store.read(self.scope, entity, id).await
    }

    async fn list(&self, entity: &str, query: &ListQuery) -> Result<(Vec<Value>, Option<String>)> {
        self.store.list(self.scope, entity, query).await
    }

    async fn update(&self, entity: &str, id: &str, change: Change, now: Timestamp) -> Result<Option<Value>> {
        self.store.update(self.scope, entity, id, change, now).await
    }

    async fn delete(&self, entity: &str, id: &str, now: Timestamp) -> Result<bool> {
        self.store.delete(self.scope, entity, id, now).await
    }
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Offset(u32),
    /// After the row of that number, whatever the order.
    Row(i64),
    /// After what was changed at that millisecond and has that number: the row itself may be changed again.
    Updated {
        millis: i64,
        row: i64,
    },
}

impl From {
    fn of(query: &ListQuery) -> Result<Self> {
        match &query.from {
            Start::Offset(offset) => Ok(Self::Offset(*offset)),
            Start::Cursor(cursor) => Self::parse(cursor)
                .filter(|from| matches!(from, Self::Updated { .. }) == matches!(query.sort, Sort::Updated { .. }))
                .ok_or_else(|| not_a_cursor(cursor)),
        }
    }

    /// As text that means nothing to anybody else.
    fn to_cursor(self) -> String {
        match self {
            Self::Offset(offset) => format!("o{offset}"), // never given out: what comes and goes would shift it
            Self::Row(row) => format!("r{row}"),
            Self::Updated { millis, row } => format!("u{millis}.{row}"),
        }
    }

    fn parse(cursor: &str) -> Option<Self> {
        let row = || cursor.strip_prefix('r')?.parse().ok().map(Self::Row);
        let updated = || {
            let (millis, row) = cursor.strip_prefix('u')?.split_once('.')?;
            Some(Self::Updated { millis: millis.parse().ok()?, row: row.parse().ok()? })
        };
        row().or_else(updated)
    }
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS entities (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    app TEXT NOT NULL,
    environment TEXT NOT NULL,
    entity TEXT NOT NULL,
    id TEXT NOT NULL,
    fields TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    deleted_ms INTEGER
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS entities_by_id ON entities (app, environment, entity, id);
CREATE INDEX IF NOT EXISTS entities_in_order ON entities (app, environment, entity, row) WHERE deleted_ms IS NULL;
PRAGMA user_version = 1;
";

/// The schema's version that this library writes.
const VERSION: i64 = 1;

impl Store {
    pub(super) async fn open(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.map_err(failed("open"))?;
        let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&pool).await.map_err(failed("open"))?;
        if version > VERSION {
            let message = format!("`{}` was written by a newer overskill: use that one", file.display());
            return Err(Error::new(ErrorKind::Unsupported, message.clone()).public(message).at(disk::BACKEND, "open"));
        }
        sqlx::raw_sql(SCHEMA).execute(&pool).await.map_err(failed("open"))?;
        Ok(Self { pool, writing: Arc::default() })
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) async fn check(&self) -> Result<Readiness> {
        let one: Result<i64, _> = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&self.pool).await;
        one.map_err(failed("check"))?;
        Ok(Readiness::ready("local entities"))
    }

    /// `None` if the id is taken, even by a record that was deleted.
    pub(super) async fn create(
        &self,
        scope: &Scope,
        entity: &str,
        id: &str,
        by: &str,
        fields: Map<String, Value>,
        now: Timestamp,
    ) -> Result<Option<Value>> {
        const INSERT: &str = "INSERT INTO entities \
            (app, environment, entity, id, fields, created_by, created_ms, updated_ms) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT DO NOTHING";
        let _turn = self.writing.lock().await;
        let at = now.as_unix_millis();
        let insert = sqlx::query(INSERT)
            .bind(scope.app.as_str())
            .bind(scope.environment.as_str())
            .bind(entity)
            .bind(id)
            .bind(Value::Object(fields.clone()).to_string())
            .bind(by)
            .bind(at);
        let done = insert.execute(&self.pool).await.map_err(failed_write("create"))?;
        Ok((done.rows_affected() == 1).then(|| shown(id, fields, at, at)))
    }

    pub(super) async fn read(&self, scope: &Scope, entity: &str, id: &str) -> Result<Option<Value>> {
        let mut select = select(scope, entity);
        select.push(" AND id = ").push_bind(id.to_owned());
        let row = select.build().fetch_optional(&self.pool).await.map_err(failed("read"))?;
        row.map(|row| record(&row).map(|(_, record)| record)).transpose()
    }

    /// The records, and where the next page begins.
    pub(super) async fn list(
        &self,
        scope: &Scope,
        entity: &str,
        query: &ListQuery,
    ) -> Result<(Vec<Value>, Option<String>)> {
        let mut select = select(scope, entity);
        for (name, value) in &query.filters {
            push_filter(&mut select, name, value);
        }
        let (before, direction) = if query.sort.is_descending() { (" < ", " DESC") } else { (" > ", " ASC") };
        let mut offset = 0;
        match From::of(query)? {
            From::Offset(given) => offset = given,
            From::Row(row) => {
                // Rows are never removed, so the last of the page before still says where it stood; but only to its own.
                select.push(" AND (");
                push_place(&mut select, &query.sort);
                select.push(")").push(before).push("(SELECT ");
                push_place(&mut select, &query.sort);
                select.push(" FROM entities WHERE row = ").push_bind(row);
                push_owner(&mut select, scope, entity);
                select.push(")");
            }
            From::Updated { millis, row } => {
                select.push(" AND (updated_ms, row)").push(before).push("(").push_bind(millis);
                select.push(", ").push_bind(row).push(")");
            }
        }
        match &query.sort {
            Sort::Created { .. } => {}
            Sort::Updated { .. } => drop(select.push(" ORDER BY updated_ms").push(direction)),
            Sort::Id { .. } => drop(select.push(" ORDER BY id").push(direction)),
            Sort::Field { name, .. } => {
                select.push(" ORDER BY fields ->> ").push_bind(path(name)).push(direction);
            }
        }
        select.push(if matches!(query.sort, Sort::Created { .. }) { " ORDER BY row" } else { ", row" }).push(direction);
        select.push(" LIMIT ").push_bind(i64::from(query.limit) + 1).push(" OFFSET ").push_bind(i64::from(offset));
        let mut rows = select.build().fetch(&self.pool);
        let (mut records, mut bytes, mut last, mut next) = (Vec::new(), 0, None, None);
        while let Some(row) = rows.try_next().await.map_err(failed("list"))? {
            let size = row.get::<&str, _>("fields").len();
            if records.len() == query.limit as usize || (!records.is_empty() && bytes + size > MAX_PAGE_BYTES) {
                next = last;
                break;
            }
            bytes += size;
            let (number, record) = record(&row)?;
            records.push(record);
            last = Some(match query.sort {
                Sort::Updated { .. } => From::Updated { millis: row.get("updated_ms"), row: number },
                _ => From::Row(number),
            });
        }
        Ok((records, next.map(From::to_cursor)))
    }

    /// `None` if there is no such record.
    pub(super) async fn update(
        &self,
        scope: &Scope,
        entity: &str,
        id: &str,
        change: Change,
        now: Timestamp,
    ) -> Result<Option<Value>> {
        const UPDATE: &str = "UPDATE entities SET fields = $1, updated_ms = max(updated_ms, $2) WHERE row = $3";
        let _turn = self.writing.lock().await;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed("update"))?;
        let mut select = select(scope, entity);
        select.push(" AND id = ").push_bind(id.to_owned());
        let Some(row) = select.build().fetch_optional(&mut *tx).await.map_err(failed("update"))? else {
            return Ok(None);
        };
        let fields = change.apply(stored(row.get("fields"))?)?;
        let text = Value::Object(fields.clone()).to_string();
        let updated = now.as_unix_millis().max(row.get("updated_ms"));
        let update = sqlx::query(UPDATE).bind(text).bind(updated).bind(row.get::<i64, _>("row"));
        update.execute(&mut *tx).await.map_err(failed("update"))?;
        tx.commit().await.map_err(failed_write("update"))?;
        Ok(Some(shown(id, fields, row.get("created_ms"), updated)))
    }

    /// Whether there was such a record.
    pub(super) async fn delete(&self, scope: &Scope, entity: &str, id: &str, now: Timestamp) -> Result<bool> {
        const DELETE: &str = "UPDATE entities SET deleted_ms = $1 \
            WHERE app = $2 AND environment = $3 AND entity = $4 AND id = $5 AND deleted_ms IS NULL";
        let _turn = self.writing.lock().await;
        let delete = sqlx::query(DELETE)
            .bind(now.as_unix_millis())
            .bind(scope.app.as_str())
            .bind(scope.environment.as_str())
            .bind(entity)
            .bind(id);
        let done = delete.execute(&self.pool).await.map_err(failed_write("delete"))?;
        Ok(done.rows_affected() == 1)
    }
}

/// The records of an entity that were not deleted; conditions are to be added.
fn select(scope: &Scope, entity: &str) -> QueryBuilder<Sqlite> {
    let mut select =
        QueryBuilder::new("SELECT row, id, fields, created_ms, updated_ms FROM entities WHERE deleted_ms IS NULL");
    push_owner(&mut select, scope, entity);
    select
}

/// Whose it is.
fn push_owner(select: &mut QueryBuilder<Sqlite>, scope: &Scope, entity: &str) {
    select.push(" AND app = ").push_bind(scope.app.to_string());
    select.push(" AND environment = ").push_bind(scope.environment.as_str());
    select.push(" AND entity = ").push_bind(entity.to_owned());
}

/// What orders a row among the others, as SQLite's `ORDER BY` does: without a value before those with one.
fn push_place(select: &mut QueryBuilder<Sqlite>, sort: &Sort) {
    match sort {
        Sort::Created { .. } => {}
        Sort::Updated { .. } => drop(select.push("updated_ms, ")),
        Sort::Id { .. } => drop(select.push("id, ")),
        Sort::Field { name, .. } => {
            select.push("fields ->> ").push_bind(path(name)).push(" IS NOT NULL, coalesce(fields ->> ");
            select.push_bind(path(name)).push(", 0), ");
        }
    }
    select.push("row");
}

/// A field has a value: as text, as a number of whatever form, as `true`, `false` or `null`; or it is the record's id.
fn push_filter(select: &mut QueryBuilder<Sqlite>, name: &str, value: &str) {
    if name == "id" {
        select.push(" AND id = ").push_bind(value.to_owned());
        return;
    }
    let field = path(name);
    let kind = |select: &mut QueryBuilder<Sqlite>, text: &'static str| {
        select.push("json_type(fields, ").push_bind(field.clone()).push(") = ").push(text);
    };
    select.push(" AND (fields ->> ").push_bind(field.clone()).push(" = ").push_bind(value.to_owned());
    match value {
        "true" => kind(select.push(" OR "), "'true'"),
        "false" => kind(select.push(" OR "), "'false'"),
        "null" => {
            kind(select.push(" OR "), "'null'");
            select.push(" OR json_type(fields, ").push_bind(field.clone()).push(") IS NULL");
        }
        _ => {
            let whole = value.parse::<i64>().ok();
            if let Some(number) = value.parse::<f64>().ok().filter(|n| n.is_finite()) {
                kind(select.push(" OR ("), "'integer'");
                kind(select.push(" OR "), "'real'");
                // Beside `AND`, the two above belong together.
                select.push(") AND fields ->> ").push_bind(field.clone()).push(" = ");
                // Whole numbers stay whole: as a float, one beyond 2^53 would be another.
                match whole {
                    Some(whole) => select.push_bind(whole),
                    None => select.push_bind(number),
                };
            }
        }
    }
    select.push(")");
}

/// The path of a field, for SQLite's JSON functions; the name was parsed.
fn path(name: &str) -> String {
    format!("$.\"{name}\"")
}

fn record(row: &SqliteRow) -> Result<(i64, Value)> {
    let fields = stored(row.get("fields"))?;
    let shown = shown(row.get("id"), fields, row.get("created_ms"), row.get("updated_ms"));
    Ok((row.get("row"), shown))
}

fn stored(fields: &str) -> Result<Map<String, Value>> {
    serde_json::from_str(fields).map_err(|e| {
        Error::unexpected("a stored record is damaged", e).effect_as(Effect::None).at(disk::BACKEND, "read")
    })
}

fn shown(id: &str, fields: Map<String, Value>, created_ms: i64, updated_ms: i64) -> Value {
    let at = Timestamp::from_unix_millis;
    entities::record(id, fields, at(created_ms), at(updated_ms))
}

/// A failure before anything was committed.
fn failed(operation: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |e| failed_write(operation)(e).effect_as(Effect::None)
}

/// A failure that may have come after the commit.
fn failed_write(operation: &'static str) -> impl Fn(sqlx::Error) -> Error {
    move |e| {
        let code =
            e.as_database_error().and_then(sqlx::error::DatabaseError::code).and_then(|code| code.parse::<i32>().ok());
        let (kind, message) = match code.map(|code| code & 0xff) {
            Some(5 | 6) => (ErrorKind::Unavailable, "another process keeps the entities' database locked"),
            Some(8) => (ErrorKind::Denied, "the entities' database cannot be written to: check its permissions"),
            Some(13) => (ErrorKind::Unavailable, "the disk is full: free some space"),
            Some(14) => (ErrorKind::Unavailable, "the entities' database cannot be opened: check its permissions"),
            Some(11 | 26) => (ErrorKind::Unexpected, "the entities' database is damaged: restore a copy"),
            _ => (ErrorKind::Unexpected, "the entities' database refused the statement"),
        };
        Error::new(kind, message).effect_as(Effect::Unknown).caused_by(e).at(disk::BACKEND, operation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip() {
        for from in [From::Row(42), From::Updated { millis: -7, row: 42 }] {
            assert_eq!(From::parse(&from.to_cursor()), Some(from));
        }
        assert_eq!((From::parse("o1"), From::parse("r"), From::parse("")), (None, None, None));
    }

    #[test]
    fn cursors_of_another_sort_are_refused() {
        for (cursor, sort) in [("r1", "updated_at"), ("u1.1", "title"), ("o1", "title"), ("x", "title")] {
            let query = [("cursor".to_owned(), cursor.to_owned()), ("sort".to_owned(), sort.to_owned())];
            let e = From::of(&ListQuery::parse(&query).unwrap()).unwrap_err();
            assert!(e.public_message().contains("cursor"), "{e}");
        }
    }
}
