//! The tables that apps share: what their catalog says.

use super::{
    Run,
    info::{AppSchema, ColumnInfo, IndexInfo, RowSecurity, SharedAccess, TableInfo},
    read,
};
use crate::{editor::ColumnType, tx::fault::failed};
use overskill_core::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio_postgres::types::Type;

/// A column as the catalog keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct CatalogColumn {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: ColumnType,
    pub(crate) nullable: bool,
    /// `{"value": …}`, or one of those that are known only when a record is made: `{"now": "date"}`, `{"uuid": true}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) default: Option<Value>,
}

/// Records are counted so far when somebody merely looks.
pub(crate) const COUNTED: u64 = 1_000;

/// What every record has.
pub(crate) const OWN: [(&str, ColumnType, Option<&str>); 3] = [
    ("id", ColumnType::Text, Some("an id")),
    ("created_at", ColumnType::Timestamp, Some("now")),
    ("updated_at", ColumnType::Timestamp, Some("now")),
];

/// The logical tables of the transaction's app, with the records of all of them, or of `one`, counted as far as `most`.
pub(crate) async fn of_catalog(tx: &impl Run, most: u64, one: Option<&str>) -> Result<AppSchema> {
    const CATALOG: &str = "SELECT entity_type, access, slots, columns, records FROM overskill_data.catalog($1, $2)";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = tx.query(CATALOG, &[(&most, Type::INT8), (&one, Type::TEXT)]).await?;
    let mut tables = Vec::new();
    for row in &rows {
        let slots: BTreeMap<String, String> = read(row, 2)?;
        let declared: Vec<CatalogColumn> = read(row, 3)?;
        let records: Option<i64> = row.try_get(4).map_err(failed("inspect"))?;
        let access: i16 = row.try_get(1).map_err(failed("inspect"))?;
        let hot = |name: &str| slots.iter().find(|(_, of)| *of == name).map(|(slot, _)| slot.clone());
        let own = OWN.iter().map(|(name, kind, default)| ColumnInfo {
            name: (*name).into(),
            sql_type: kind.to_string(),
            kind: Some(*kind),
            nullable: false,
            default: default.map(str::to_owned),
            hot: None,
        });
        let said = declared.iter().map(|column| ColumnInfo {
            name: column.name.clone(),
            sql_type: column.kind.to_string(),
            kind: Some(column.kind),
            nullable: column.nullable,
            default: column.default.as_ref().map(Value::to_string),
            hot: hot(&column.name),
        });
        // Fields that have columns of their own, but of which nothing else was said.
        let unsaid = slots.iter().filter(|(_, of)| !declared.iter().any(|column| column.name == **of));
        let unsaid = unsaid.map(|(slot, of)| ColumnInfo {
            name: of.clone(),
            sql_type: "any".into(),
            kind: None,
            nullable: true,
            default: None,
            hot: Some(slot.clone()),
        });
        let index = |(slot, of): (&String, &String)| IndexInfo {
            name: slot.clone(),
            columns: vec![of.clone()],
            unique: false,
            of_key: false,
            valid: true,
        };
        tables.push(TableInfo {
            name: row.try_get(0).map_err(failed("inspect"))?,
            columns: own.chain(said).chain(unsaid).collect(),
            primary_key: vec!["id".into()],
            unique: Vec::new(),
            foreign_keys: Vec::new(),
            indexes: slots.iter().map(index).collect(),
            policies: Vec::new(),
            row_security: RowSecurity::Forced,
            access: Some(match access {
                0 => SharedAccess::Owner,
                1 => SharedAccess::OwnerWrites,
                _ => SharedAccess::Everybody,
            }),
            rows: records.map(i64::unsigned_abs),
            bytes: None,
        });
    }
    Ok(AppSchema { schema: None, tables })
}
