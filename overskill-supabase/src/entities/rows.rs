//! Records as rows.

use crate::tx::{
    TenantTx,
    fault::{BACKEND, failed},
};
use async_trait::async_trait;
use overskill_core::{
    Effect, Error, Result, Timestamp,
    entities::{Change, EntityRows, ListQuery, MAX_PAGE_BYTES, Sort, Start, not_a_cursor, record},
};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

/// The records that a transaction sees.
pub(super) struct Rows<'a> {
    pub(super) tx: &'a TenantTx,
}

/// What a row is read as: id, fields, when it was created and changed, in milliseconds, and its place, in microseconds.
const COLUMNS: &str = "id, data::text AS body, (extract(epoch FROM created_at) * 1000)::int8 AS created, \
    (extract(epoch FROM updated_at) * 1000)::int8 AS updated, (extract(epoch FROM placed) * 1000000)::int8 AS place";

/// A moment from an argument in milliseconds.
macro_rules! moment {
    ($argument:literal) => {
        concat!("timestamptz 'epoch' + ", $argument, " * interval '1 millisecond'")
    };
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
        let sql = format!(
            concat!(
                "INSERT INTO {} (entity_type, id, data, created_at, updated_at) VALUES ($1, $2, $3, ",
                moment!("$4"),
                ", ",
                moment!("$4"),
                ") ON CONFLICT DO NOTHING"
            ),
            self.table()
        );
        let (data, at) = (Value::Object(fields), now.as_unix_millis());
        let arguments: [(&(dyn ToSql + Sync), Type); 4] =
            [(&entity, Type::TEXT), (&id, Type::TEXT), (&data, Type::JSONB), (&at, Type::INT8)];
        let created = self.tx.execute(&sql, &arguments).await? == 1;
        Ok(created.then(|| record(id, object(data), now, now)))
    }

    async fn read(&self, entity: &str, id: &str) -> Result<Option<Value>> {
        let sql = format!("{} AND id = $2", self.select());
        let row = self.tx.query_opt(&sql, &[(&entity, Type::TEXT), (&id, Type::TEXT)]).await?;
        row.map(|row| Found::of(&row).map(Found::shown)).transpose()
    }

    async fn list(&self, entity: &str, query: &ListQuery) -> Result<(Vec<Value>, Option<String>)> {
        let slots = if query.filters.is_empty() { Map::new() } else { self.slots(entity).await? };
        let mut from = query.from.clone();
        let (mut records, mut bytes, mut last) = (Vec::new(), 0, None);
        // A few at a time, and no more than a page holds but for the last: the largest records are large.
        loop {
            let missing = query.limit as usize + 1 - records.len();
            let ask = missing.min(101);
            let (sql, arguments) = listing(&self.table(), entity, query, &from, &slots, ask)?;
            let arguments: Vec<_> = arguments.iter().map(Argument::bound).collect();
            let rows = self.tx.query(&sql, &arguments).await?;
            for row in &rows {
                let found = Found::of(row)?;
                if records.len() == query.limit as usize
                    || (!records.is_empty() && bytes + found.size_bytes > MAX_PAGE_BYTES)
                {
                    return Ok((records, last));
                }
                bytes += found.size_bytes;
                last = Some(found.cursor(&query.sort));
                records.push(found.shown());
            }
            match &last {
                // The database ended here, and not for lack of rows.
                Some(_) if bytes > MAX_PAGE_BYTES => return Ok((records, last)),
                Some(cursor) if rows.len() == ask => from = Start::Cursor(cursor.clone()),
                _ => return Ok((records, None)),
            }
        }
    }

    async fn update(&self, entity: &str, id: &str, change: Change, now: Timestamp) -> Result<Option<Value>> {
        let update = format!(
            concat!(
                "UPDATE {} SET data = $3, updated_at = greatest(updated_at, ",
                moment!("$4"),
                ") WHERE entity_type = $1 AND id = $2 RETURNING (extract(epoch FROM updated_at) * 1000)::int8"
            ),
            self.table()
        );
        let sql = format!("{} AND id = $2 FOR NO KEY UPDATE", self.select());
        let Some(row) = self.tx.query_opt(&sql, &[(&entity, Type::TEXT), (&id, Type::TEXT)]).await? else {
            return Ok(None);
        };
        let found = Found::of(&row)?;
        let (data, at) = (Value::Object(change.apply(found.fields)?), now.as_unix_millis());
        let arguments: [(&(dyn ToSql + Sync), Type); 4] =
            [(&entity, Type::TEXT), (&id, Type::TEXT), (&data, Type::JSONB), (&at, Type::INT8)];
        let Some(row) = self.tx.query_opt(&update, &arguments).await? else {
            return Ok(None);
        };
        let updated = Timestamp::from_unix_millis(row.try_get(0).map_err(failed("update"))?);
        Ok(Some(record(id, object(data), found.created, updated)))
    }

    async fn delete(&self, entity: &str, id: &str, now: Timestamp) -> Result<bool> {
        let sql = format!(
            concat!(
                "UPDATE {} SET deleted_at = ",
                moment!("$3"),
                " WHERE entity_type = $1 AND id = $2 AND deleted_at IS NULL"
            ),
            self.table()
        );
        let arguments: [(&(dyn ToSql + Sync), Type); 3] =
            [(&entity, Type::TEXT), (&id, Type::TEXT), (&now.as_unix_millis(), Type::INT8)];
        Ok(self.tx.execute(&sql, &arguments).await? == 1)
    }
}

impl Rows<'_> {
    /// Which fields have columns of their own: the field by its column.
    async fn slots(&self, entity: &str) -> Result<Map<String, Value>> {
        let sql = format!("SELECT slots FROM {} WHERE entity_type = $1", self.tx.table("entity_types"));
        let row = self.tx.query_opt(&sql, &[(&entity, Type::TEXT)]).await?;
        let slots: Option<Value> = row.map(|row| row.try_get(0)).transpose().map_err(failed("list"))?;
        Ok(slots.map(object).unwrap_or_default())
    }

    fn table(&self) -> String {
        self.tx.table("entities")
    }

    fn select(&self) -> String {
        select(&self.table())
    }
}

/// The records of a kind, `$1`, that were not deleted; conditions are to be added.
fn select(table: &str) -> String {
    format!("SELECT {COLUMNS} FROM {table} WHERE entity_type = $1 AND deleted_at IS NULL")
}

/// A row.
struct Found {
    id: String,
    fields: Map<String, Value>,
    size_bytes: usize,
    created: Timestamp,
    updated: Timestamp,
    placed_micros: i64,
}

impl Found {
    fn of(row: &Row) -> Result<Self> {
        let get = |column| row.try_get::<_, i64>(column).map_err(failed("read"));
        let text: &str = row.try_get(1).map_err(failed("read"))?;
        let fields = serde_json::from_str(text).map_err(|e| {
            Error::unexpected("a stored record is no JSON object", e).effect_as(Effect::None).at(BACKEND, "read")
        })?;
        Ok(Self {
            id: row.try_get(0).map_err(failed("read"))?,
            fields,
            size_bytes: text.len(),
            created: Timestamp::from_unix_millis(get(2)?),
            updated: Timestamp::from_unix_millis(get(3)?),
            placed_micros: get(4)?,
        })
    }

    /// Where the page after this row begins. Rows are never removed, so the row itself says where it stood, except by when
    /// it was changed: it may be changed again.
    fn cursor(&self, sort: &Sort) -> String {
        match sort {
            Sort::Updated { .. } => format!("u{}.{}.{}", self.updated.as_unix_millis(), self.placed_micros, self.id),
            _ => format!("r{}", self.id),
        }
    }

    fn shown(self) -> Value {
        record(&self.id, self.fields, self.created, self.updated)
    }
}

/// An argument of a statement that is put together.
enum Argument {
    Text(String),
    Int(i64),
    Float(f64),
}

impl Argument {
    fn bound(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::Int(number) => (number, Type::INT8),
            Self::Float(number) => (number, Type::FLOAT8),
        }
    }
}

/// A statement and its arguments.
struct Listing {
    sql: String,
    arguments: Vec<Argument>,
}

impl Listing {
    fn argument(&mut self, argument: Argument) -> String {
        self.arguments.push(argument);
        format!("${}", self.arguments.len())
    }

    fn text(&mut self, text: &str) -> String {
        self.argument(Argument::Text(text.to_owned()))
    }
}

fn listing(
    table: &str,
    entity: &str,
    query: &ListQuery,
    from: &Start,
    slots: &Map<String, Value>,
    limit: usize,
) -> Result<(String, Vec<Argument>)> {
    let mut listing = Listing { sql: select(table), arguments: vec![Argument::Text(entity.to_owned())] };
    for (name, value) in &query.filters {
        push_filter(&mut listing, name, value, slots);
    }
    let (before, direction) = if query.sort.is_descending() { ("<", "DESC") } else { (">", "ASC") };
    let places: Vec<String> = match &query.sort {
        Sort::Created { .. } => vec!["placed".into(), "id".into()],
        Sort::Updated { .. } => vec!["updated_at".into(), "placed".into(), "id".into()],
        Sort::Id { .. } => vec!["id".into()],
        Sort::Field { name, .. } => {
            let field = listing.text(name);
            places_of(&field).into_iter().chain(["placed".into(), "id".into()]).collect()
        }
    };
    let place = places.join(", ");
    let mut offset = 0;
    match (from, &query.sort) {
        (Start::Offset(given), _) => offset = *given,
        (Start::Cursor(cursor), Sort::Updated { .. }) => {
            let parts = || {
                let (millis, rest) = cursor.strip_prefix('u')?.split_once('.')?;
                let (micros, id) = rest.split_once('.')?;
                Some((millis.parse().ok()?, micros.parse().ok()?, id))
            };
            let (millis, micros, id) = parts().ok_or_else(|| not_a_cursor(cursor))?;
            let (millis, micros) = (listing.argument(Argument::Int(millis)), listing.argument(Argument::Int(micros)));
            let id = listing.text(id);
            let stood = format!(
                "timestamptz 'epoch' + {millis} * interval '1 millisecond', \
                 timestamptz 'epoch' + {micros} * interval '1 microsecond', {id}"
            );
            write!(listing.sql, " AND (updated_at, placed, id) {before} ({stood})").expect("a string takes all");
        }
        (Start::Cursor(cursor), _) => {
            let id = cursor.strip_prefix('r').ok_or_else(|| not_a_cursor(cursor))?;
            let id = listing.text(id);
            let stood = format!("SELECT {place} FROM {table} WHERE entity_type = $1 AND id = {id}");
            write!(listing.sql, " AND ({place}) {before} ({stood})").expect("a string takes all");
        }
    }
    let order: Vec<_> = places.iter().map(|place| format!("{place} {direction}")).collect();
    let limit = listing.argument(Argument::Int(i64::try_from(limit).unwrap_or(i64::MAX)));
    let offset = listing.argument(Argument::Int(offset.into()));
    // No row comes before which a page is full. A window without an order takes the rows as they are.
    let sql = format!(
        "SELECT id, body, created, updated, place FROM (\
            SELECT r.*, sum(octet_length(body)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(body) AS before FROM (\
                {} ORDER BY {} LIMIT {limit} OFFSET {offset}) r) w WHERE before <= {MAX_PAGE_BYTES}",
        listing.sql,
        order.join(", ")
    );
    Ok((sql, listing.arguments))
}

/// What orders a row by a field: those without a value first, then numbers, then text, byte by byte.
fn places_of(field: &str) -> [String; 3] {
    let kind = format!("jsonb_typeof(data -> {field})");
    [
        format!(
            "CASE {kind} WHEN 'number' THEN 1 WHEN 'boolean' THEN 1 WHEN 'null' THEN 0 ELSE CASE WHEN {kind} IS NULL THEN 0 ELSE 2 END END"
        ),
        format!(
            "CASE {kind} WHEN 'number' THEN (data ->> {field})::numeric \
             WHEN 'boolean' THEN (data ->> {field})::boolean::int::numeric ELSE 0 END"
        ),
        format!("(CASE WHEN {kind} IN ('string', 'object', 'array') THEN data ->> {field} ELSE '' END) COLLATE \"C\""),
    ]
}

/// A field has a value: as text, as a number of whatever form, as `true`, `false` or `null`; or it is the record's id.
fn push_filter(listing: &mut Listing, name: &str, value: &str, slots: &Map<String, Value>) {
    let text = listing.text(value);
    if name == "id" {
        write!(listing.sql, " AND id = {text}").expect("a string takes all");
        return;
    }
    let field = listing.text(name);
    let number = value.parse::<i64>().map(|n| n.to_string()).ok().or_else(|| {
        let number = value.parse::<f64>().ok().filter(|n| n.is_finite())?;
        Some(number.to_string())
    });
    let kind = format!("jsonb_typeof(data -> {field})");
    let as_text = format!("({kind} = 'string' AND data ->> {field} = {text})");
    let as_number = number.map(|number| {
        let number = listing.text(&number);
        // The cast is made of numbers alone: a condition may be evaluated before the one that stands before it.
        format!("CASE WHEN {kind} = 'number' THEN (data ->> {field})::numeric = {number}::numeric ELSE false END")
    });
    let slot = slots.iter().find(|(_, of)| of.as_str() == Some(name)).map(|(slot, _)| slot.as_str());
    // With a column of its own, the index finds the rows and the condition looks at them once more.
    let condition = match (slot, as_number) {
        (Some(slot @ ("n1" | "n2" | "n3")), Some(as_number)) => {
            let near = listing.argument(Argument::Float(value.parse().unwrap_or(f64::NAN)));
            format!("{slot} = {near} AND {as_number}")
        }
        (Some(slot @ ("t1" | "t2" | "t3")), _) => format!("{slot} = left({text}, 200) AND {as_text}"),
        (_, Some(as_number)) => format!("({as_text} OR {as_number})"),
        (_, None) if matches!(value, "true" | "false") => format!("({as_text} OR data -> {field} = {text}::jsonb)"),
        (_, None) if value == "null" => format!("({as_text} OR {kind} = 'null' OR {kind} IS NULL)"),
        (_, None) => as_text,
    };
    write!(listing.sql, " AND {condition}").expect("a string takes all");
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
