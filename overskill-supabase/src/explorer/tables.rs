//! What names of a query's tables stand for: kinds of the app's records, and tables of its own.

use super::{
    allow::{parse, refused},
    columns::Columns,
    parts::folded,
};
use crate::tx::{TenantTx, fault::failed};
use overskill_core::Result;
use sqlparser::ast::{Ident, TableAlias, TableFactor};

/// The tables of an app, in the database where the query runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables<'a> {
    /// The schema of its records.
    pub(super) home: &'a str,
    /// `None` before the database was asked: a name may stand for anything then.
    pub(super) own: Option<&'a [OwnTable]>,
}

/// A table in a [schema of the app's own](crate::AppTables::own).
#[derive(Clone, Debug)]
pub(super) struct OwnTable {
    pub(super) schema: String,
    pub(super) name: String,
    /// There are records of a kind of this name, too, in whatever letters.
    pub(super) is_kind: bool,
    pub(super) columns: Vec<String>,
}

/// The app's own tables, as the database has them now.
pub(super) async fn own(tx: &TenantTx) -> Result<Vec<OwnTable>> {
    const OWN: &str = "SELECT place, name, is_kind, columns FROM overskill_data.own_tables()";
    let rows = tx.query(OWN, &[]).await?;
    let read = |row: &tokio_postgres::Row| {
        let (schema, name) = (row.try_get(0)?, row.try_get(1)?);
        Ok(OwnTable { schema, name, is_kind: row.try_get(2)?, columns: row.try_get(3)? })
    };
    rows.iter().map(read).collect::<Result<_, _>>().map_err(failed("explore"))
}

impl Tables<'_> {
    /// What `name` stands for. A name for two is refused: nobody should read one and believe that it was the other.
    pub(super) fn named(&self, name: &Ident, alias: Option<TableAlias>) -> Result<(TableFactor, Columns)> {
        let wanted = folded(name);
        let mut own = self.own.unwrap_or_default().iter().filter(|it| it.name == wanted);
        let Some(it) = own.next() else {
            let columns = if self.own.is_some() { Columns::of(OF_RECORDS) } else { Columns::open() };
            let columns = columns.renamed(alias.as_ref());
            return Ok((records(self.home, name, alias)?, columns));
        };
        if let Some(other) = own.next() {
            return Err(refused(format!(
                "names `{wanted}`, which is in schema `{}` and in `{}`",
                it.schema, other.schema
            )));
        }
        if it.is_kind {
            return Err(refused(format!(
                "names `{wanted}`, which is a table in schema `{}` and a kind of records: rename one",
                it.schema
            )));
        }
        // Quoted, so that it can be nothing else; row level security says which rows. Within, so that there are no columns
        // but its own.
        let quoted = |part: &str| format!("\"{}\"", part.replace('"', "\"\""));
        let columns = Columns::of(&it.columns).renamed(alias.as_ref());
        let all: Vec<_> = it.columns.iter().map(|it| quoted(it)).collect();
        let all = if all.is_empty() { "*".to_owned() } else { all.join(", ") };
        let rows = format!("SELECT {all} FROM {}.{}", quoted(&it.schema), quoted(&it.name));
        Ok((derived(&rows, name, alias)?, columns))
    }
}

const OF_RECORDS: [&str; 5] = ["id", "owner", "data", "created_at", "updated_at"];

/// `name` as the kind of records it stands for.
fn records(home: &str, name: &Ident, alias: Option<TableAlias>) -> Result<TableFactor> {
    let kind = &name.value;
    let sound = |text: &str| {
        text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if !sound(kind) {
        return Err(refused(format!("names a table that cannot be: {:?}", kind.chars().take(40).collect::<String>())));
    }
    let rows = format!(
        "SELECT {} FROM {home}.entities WHERE entity_type = '{kind}' AND deleted_at IS NULL",
        OF_RECORDS.join(", ")
    );
    derived(&rows, name, alias)
}

/// What `rows` gives, by its name in the query.
fn derived(rows: &str, name: &Ident, alias: Option<TableAlias>) -> Result<TableFactor> {
    let alias =
        alias.unwrap_or_else(|| TableAlias { explicit: true, name: name.clone(), columns: Vec::new(), at: None });
    Ok(TableFactor::Derived { lateral: false, subquery: Box::new(parse(rows)?), alias: Some(alias), sample: None })
}
