//! Copying an app's rows from one side to the other, and comparing both.

use super::side::{Argument, Side};
use crate::tx::fault::{BACKEND, failed};
use futures::TryStreamExt as _;
use overskill_core::{Effect, Error, ErrorKind, Result};
use std::{collections::BTreeMap, fmt::Write as _, pin::pin};
use tokio_postgres::types::Type;

/// Rows and bytes that travel at a time. A row may be larger; it travels alone.
const PAGE_ROWS: u32 = 1_000;
const PAGE_BYTES: u32 = 4 << 20;

/// No row of ours is as large.
const ROW_BYTES: usize = 4 << 20;

/// Name and type.
type Column = (String, String);

/// A table of tenants' rows, without the number of the app, which each database gives for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) name: String,
    /// In the order of the names.
    columns: Vec<Column>,
    /// Of the primary key.
    key: Vec<Column>,
}

/// The tables of a side, those that others refer to first.
pub(super) async fn shapes(side: &Side) -> Result<Vec<Shape>> {
    const COLUMNS: &str = "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), \
            array_position(i.indkey::int2[], a.attnum) \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
        LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary \
        WHERE c.relnamespace = to_regnamespace($1)::oid AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped \
          AND a.attgenerated = '' AND a.attname <> 'app_id' ORDER BY c.relname, a.attname";
    const REFERENCES: &str = "SELECT DISTINCT t.relname::text, r.relname::text \
        FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class t ON t.oid = c.conrelid \
        JOIN pg_catalog.pg_class r ON r.oid = c.confrelid \
        WHERE c.contype = 'f' AND t.oid <> r.oid AND t.relnamespace = to_regnamespace($1)::oid \
          AND r.relnamespace = t.relnamespace";
    let mut tables: BTreeMap<String, (Shape, BTreeMap<i32, Column>)> = BTreeMap::new();
    for row in side.rows(COLUMNS, &[(&side.home, Type::TEXT)]).await? {
        let text = |at: usize| row.try_get::<_, String>(at).map_err(failed("move"));
        let (name, column) = (text(0)?, (text(1)?, text(2)?));
        let place: Option<i32> = row.try_get(3).map_err(failed("move"))?;
        let shape = || (Shape { name: name.clone(), columns: Vec::new(), key: Vec::new() }, BTreeMap::new());
        let (shape, key) = tables.entry(name.clone()).or_insert_with(shape);
        shape.columns.push(column.clone());
        key.extend(place.map(|place| (place, column)));
    }
    let mut references = Vec::new();
    for row in side.rows(REFERENCES, &[(&side.home, Type::TEXT)]).await? {
        let text = |at: usize| row.try_get::<_, String>(at).map_err(failed("move"));
        references.push((text(0)?, text(1)?));
    }
    let mut left: Vec<Shape> =
        tables.into_values().map(|(shape, key)| Shape { key: key.into_values().collect(), ..shape }).collect();
    if let Some(keyless) = left.iter().find(|shape| shape.key.is_empty()) {
        let message = format!("table `{}` in {} has no primary key, so it cannot be moved", keyless.name, side.named);
        return Err(Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None).at(BACKEND, "move"));
    }
    let mut ordered: Vec<Shape> = Vec::new();
    while !left.is_empty() {
        let waits = |shape: &Shape| {
            references.iter().any(|(of, to)| *of == shape.name && left.iter().any(|other| other.name == *to))
        };
        let next = left.iter().position(|shape| !waits(shape)).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    Ok(ordered)
}

/// That both sides have the same tables.
pub(super) fn refuse_differences(source: (&Side, &[Shape]), target: (&Side, &[Shape])) -> Result<()> {
    let find = |shapes: &[Shape], name: &str| shapes.iter().find(|shape| shape.name == name).cloned();
    let names = source.1.iter().chain(target.1).map(|shape| &shape.name);
    let Some(name) = names.into_iter().find(|name| find(source.1, name) != find(target.1, name)) else {
        return Ok(());
    };
    let what = match (find(source.1, name), find(target.1, name)) {
        (Some(_), None) => format!("is not there in {}", target.0.named),
        (None, _) => format!("is not there in {}", source.0.named),
        _ => format!("has other columns in {} than in {}", source.0.named, target.0.named),
    };
    let message = format!(
        "table `{name}` {what}: install the same version of the schema in both databases, and move tables of your own yourself"
    );
    Err(Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None).at(BACKEND, "move"))
}

/// How many rows of the app there are.
pub(super) async fn count(side: &Side, shapes: &[Shape]) -> Result<u64> {
    let each =
        shapes.iter().map(|shape| format!("(SELECT count(*) FROM {} WHERE app_id = $1)", side.table(&shape.name)));
    let sql = format!("SELECT {}", each.collect::<Vec<_>>().join(" + "));
    side.begin(true).await?;
    let rows = side.rows(&sql, &[(&side.app_id, Type::INT8)]).await?;
    side.commit().await?;
    let rows: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(failed("move"))?;
    Ok(rows.unsigned_abs())
}

/// A page of rows: as a JSON list, and where the next page begins.
pub(super) struct Page {
    pub(super) rows: u64,
    pub(super) json: String,
    pub(super) last: Vec<String>,
}

/// The rows of a table after a key; `None` when there are no more.
pub(super) async fn page(side: &Side, shape: &Shape, after: Option<&[String]>) -> Result<Option<Page>> {
    let columns = shape.columns();
    let key = shape.key.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ");
    let as_text: Vec<_> = shape.key.iter().map(|(name, _)| format!("r.{}::text", quoted(name))).collect();
    let mut arguments: Vec<Argument<'_>> = vec![(&side.app_id, Type::INT8)];
    let mut beyond = String::new();
    if let Some(after) = after {
        let values: Vec<_> = shape.key.iter().zip(2..).map(|((_, kind), n)| format!("${n}::text::{kind}")).collect();
        write!(beyond, " AND ({key}) > ({})", values.join(", ")).expect("a string takes all");
        arguments.extend(after.iter().map(|value| (value as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT)));
    }
    let sql = format!(
        "SELECT p.j, p.k FROM (SELECT w.j, w.k, sum(octet_length(w.j)) OVER (ORDER BY w.n) - octet_length(w.j) AS before, w.n \
           FROM (SELECT row_to_json(r)::text AS j, ARRAY[{}] AS k, row_number() OVER (ORDER BY {key}) AS n \
                 FROM (SELECT {columns} FROM {} WHERE app_id = $1{beyond} ORDER BY {key} LIMIT {PAGE_ROWS}) r) w) p \
         WHERE p.before < {PAGE_BYTES} ORDER BY p.n",
        as_text.join(", "),
        side.table(&shape.name),
    );
    side.begin(true).await?;
    let page = side.answered(read(side, &sql, &arguments, shape)).await?;
    side.commit().await?;
    Ok(page)
}

/// Reads no more than was asked for: the database may be a customer's, who can have it answer what they like.
async fn read(side: &Side, sql: &str, arguments: &[Argument<'_>], shape: &Shape) -> Result<Option<Page>> {
    let arguments = arguments.iter().map(|(value, kind)| (*value, kind.clone()));
    let mut rows = pin!(side.client().query_typed_raw(sql, arguments).await.map_err(failed("move"))?);
    let mut page = Page { rows: 0, json: String::from("["), last: Vec::new() };
    while let Some(row) = rows.try_next().await.map_err(failed("move"))? {
        let text: &str = row.try_get(0).map_err(failed("move"))?;
        page.last = row.try_get(1).map_err(failed("move"))?;
        let is_full = page.rows == u64::from(PAGE_ROWS) || page.json.len() > (PAGE_BYTES + PAGE_ROWS) as usize;
        if is_full || text.len() > ROW_BYTES || page.last.len() != shape.key.len() {
            let message = format!(
                "{} answers with more of table `{}` than it was asked for: it is not a database that an app can be moved from",
                side.named, shape.name
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message).effect_as(Effect::None).at(BACKEND, "move"));
        }
        page.json.extend((page.json.len() > 1).then_some(','));
        page.json.push_str(text);
        page.rows += 1;
    }
    page.json.push(']');
    Ok((page.rows > 0).then_some(page))
}

/// Writes a page, if this is still the runner, and says how many rows of it are new. What is there already stays as it is:
/// comparing shows whether it is the same.
pub(super) async fn put(side: &Side, shape: &Shape, page: &Page, runner: &str) -> Result<u64> {
    let columns = shape.columns();
    let sql = format!(
        "INSERT INTO {table} (app_id, {columns}) OVERRIDING SYSTEM VALUE \
         SELECT $1, {columns} FROM json_populate_recordset(NULL::{table}, $2::text::json) ON CONFLICT DO NOTHING",
        table = side.table(&shape.name)
    );
    side.begin(false).await?;
    side.hold(runner).await?;
    let put = side.run(&sql, &[(&side.app_id, Type::INT8), (&page.json, Type::TEXT)]).await;
    let new = put.map_err(|e| match e.kind() {
        ErrorKind::Invalid | ErrorKind::LimitExceeded => {
            let message = format!(
                "table `{}` holds a row that could not have been written in {}: mend it where it is, and resume this move; or \
                 abort it",
                shape.name, side.named
            );
            Error::new(e.kind(), message).effect_as(Effect::None).at(BACKEND, "move").caused_by(e)
        }
        _ => e,
    })?;
    side.commit().await?;
    Ok(new)
}

/// How many rows a side has of each table, and a digest over all that they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) table: String,
    pub(super) rows: i64,
    pub(super) digest: String,
}

pub(super) async fn sums(side: &Side, shapes: &[Shape]) -> Result<Vec<Sum>> {
    side.begin(true).await?;
    let mut sums = Vec::new();
    for shape in shapes {
        // In the order of bytes, which is the same whatever a database's language is.
        let order: Vec<_> =
            shape.key.iter().map(|(name, _)| format!("(r.{}::text) COLLATE \"C\"", quoted(name))).collect();
        let sql = format!(
            "SELECT count(*), encode(sha256(coalesce(string_agg(sha256(convert_to(row_to_json(r)::text, 'UTF8')), ''::bytea \
                 ORDER BY {}), ''::bytea)), 'hex') FROM (SELECT {} FROM {} WHERE app_id = $1) r",
            order.join(", "),
            shape.columns(),
            side.table(&shape.name),
        );
        let rows = side.rows(&sql, &[(&side.app_id, Type::INT8)]).await?;
        let row = rows.first().ok_or_else(|| Error::new(ErrorKind::Unexpected, "an aggregate gave no row"))?;
        let (rows, digest) = (row.try_get(0).map_err(failed("move"))?, row.try_get(1).map_err(failed("move"))?);
        sums.push(Sum { table: shape.name.clone(), rows, digest });
    }
    side.commit().await?;
    Ok(sums)
}

impl Shape {
    fn columns(&self) -> String {
        self.columns.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(", ")
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
