//! A schema as it is.

use crate::{editor::ColumnType, tx::Access};
use overskill_core::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All tables of an app in one environment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AppSchema {
    /// The database's schema that they stand in; none for tables that are shared with other apps.
    pub schema: Option<String>,
    /// The tables, by their names.
    pub tables: Vec<TableInfo>,
}

impl AppSchema {
    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&TableInfo> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// What tells this schema from one that differs in anything but numbers of rows and bytes.
    pub fn fingerprint(&self) -> Digest {
        let mut plain = self.clone();
        for table in &mut plain.tables {
            (table.rows, table.bytes) = (None, None);
        }
        Digest::of(plain.to_json().to_string().as_bytes())
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("names and numbers alone")
    }

    /// As TypeScript: the type `Database` that `supabase-js` takes, with the types of rows, of what can be inserted and of
    /// what can be changed.
    pub fn to_typescript(&self) -> String {
        super::typescript::database(self)
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableInfo {
    /// Its name.
    pub name: String,
    /// Its columns in their order.
    pub columns: Vec<ColumnInfo>,
    /// The columns of its primary key.
    pub primary_key: Vec<String>,
    /// Columns that are unique together, but for the primary key.
    pub unique: Vec<UniqueInfo>,
    /// Where its rows point to.
    pub foreign_keys: Vec<ForeignKeyInfo>,
    /// Its indexes, those of keys too.
    pub indexes: Vec<IndexInfo>,
    /// Who may see and change which rows.
    pub policies: Vec<PolicyInfo>,
    /// Whether policies decide.
    pub row_security: RowSecurity,
    /// Who of an app's users may use it, in shared tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<SharedAccess>,
    /// How many rows there are: an estimate of the database's, none before it made one. In shared tables counted, up to
    /// 1,000.
    pub rows: Option<u64>,
    /// How large it is with its indexes, where it has files of its own.
    pub bytes: Option<u64>,
}

impl TableInfo {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnInfo> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type as the database writes it; `any` for a field of shared tables that nothing was said of.
    pub sql_type: String,
    /// The same, if it is one that a [`SchemaEditor`](crate::SchemaEditor) can make.
    #[serde(default, rename = "type")]
    pub kind: Option<ColumnType>,
    /// Whether it may hold nothing.
    pub nullable: bool,
    /// What it holds where nothing was said: an expression, or, in shared tables, JSON.
    pub default: Option<String>,
    /// The column of its own (`t1` to `t3`, `n1` to `n3`) that a field of shared tables is found by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hot: Option<String>,
}

/// Columns that are unique together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UniqueInfo {
    /// Its name.
    pub name: String,
    /// The columns.
    pub columns: Vec<String>,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ForeignKeyInfo {
    /// Its name.
    pub name: String,
    /// The columns that point.
    pub columns: Vec<String>,
    /// The table that they point to.
    pub to: String,
    /// Its columns that they point to.
    pub to_columns: Vec<String>,
    /// What becomes of rows when what they point to goes: `NO ACTION`, `CASCADE` and so on.
    pub on_delete: String,
    /// Whether the rows that were there before it were looked at.
    pub validated: bool,
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct IndexInfo {
    /// Its name.
    pub name: String,
    /// Its columns; expressions are left out.
    pub columns: Vec<String>,
    /// Whether no two rows are alike.
    pub unique: bool,
    /// Whether it stands for a key, and goes with it.
    pub of_key: bool,
    /// Whether it is whole: one whose building was cut off is not.
    pub valid: bool,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PolicyInfo {
    /// Its name.
    pub name: String,
    /// Whether it lets in; a restrictive one keeps out.
    pub permissive: bool,
    /// `ALL`, `SELECT`, `INSERT`, `UPDATE` or `DELETE`.
    pub command: String,
    /// For whom.
    pub roles: Vec<String>,
    /// Which rows are there.
    pub using: Option<String>,
    /// Which rows may be written.
    pub check: Option<String>,
}

/// Whether policies decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowSecurity {
    /// They do not.
    Off,
    /// For all but the table's owner.
    On,
    /// For everybody.
    Forced,
}

/// [`Access`] in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedAccess {
    /// [`Access::Owner`].
    Owner,
    /// [`Access::OwnerWrites`].
    OwnerWrites,
    /// [`Access::Everybody`].
    Everybody,
}

impl From<SharedAccess> for Access {
    fn from(access: SharedAccess) -> Self {
        match access {
            SharedAccess::Owner => Self::Owner,
            SharedAccess::OwnerWrites => Self::OwnerWrites,
            SharedAccess::Everybody => Self::Everybody,
        }
    }
}
