//! What can be changed.

use super::{
    name::Name,
    types::{ColumnType, DefaultValue},
};
use overskill_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// A column that is to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ColumnSpec {
    /// Its name.
    pub name: Name,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Whether it may hold nothing.
    #[serde(default = "yes")]
    pub nullable: bool,
    /// What it holds where nothing was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<DefaultValue>,
}

const fn yes() -> bool {
    true
}

impl ColumnSpec {
    /// A column that may hold nothing and has no default.
    pub const fn new(name: Name, kind: ColumnType) -> Self {
        Self { name, kind, nullable: true, default: None }
    }

    /// A column that always holds something.
    pub const fn required(mut self) -> Self {
        self.nullable = false;
        self
    }

    /// Sets what it holds where nothing was said.
    pub fn default_to(mut self, default: DefaultValue) -> Self {
        self.default = Some(default);
        self
    }

    /// As it stands in `CREATE TABLE`.
    pub(super) fn sql(&self) -> Result<String> {
        let default = match &self.default {
            Some(value) => format!(" DEFAULT {}", value.sql(self.kind)?),
            None => String::new(),
        };
        let null = if self.nullable { "" } else { " NOT NULL" };
        Ok(format!("{} {}{default}{null}", self.name.quoted(), self.kind))
    }
}

/// What becomes of rows whose parent is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnDelete {
    /// The parent cannot be removed.
    #[default]
    Refuse,
    /// They are removed too.
    Cascade,
    /// They lose their parent.
    SetNull,
}

impl OnDelete {
    pub(super) const fn sql(self) -> &'static str {
        match self {
            Self::Refuse => "NO ACTION",
            Self::Cascade => "CASCADE",
            Self::SetNull => "SET NULL",
        }
    }
}

/// One change of an app's schema. Everything in it is typed; none of it is SQL.
///
/// ```
/// use overskill_supabase::SchemaChange;
/// let change: SchemaChange = serde_json::from_str(r#"{
///     "change": "add_column", "table": "todos",
///     "column": { "name": "done", "type": "boolean", "nullable": false, "default": { "value": false } }
/// }"#)?;
/// assert_eq!(change.table().as_str(), "todos");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SchemaChange {
    /// A new table. Without a primary key, it gets a column `id` of random UUIDs; in shared tables every table has its
    /// `id`, and names none.
    CreateTable {
        /// Its name.
        table: Name,
        /// Its columns, at most 200.
        columns: Vec<ColumnSpec>,
        /// The columns of its primary key, at most 8.
        #[serde(default)]
        primary_key: Vec<Name>,
    },
    /// Another name.
    RenameTable {
        /// Which table.
        table: Name,
        /// Its new name.
        to: Name,
    },
    /// No table any more, and none of its rows.
    DropTable {
        /// Which table.
        table: Name,
    },
    /// One column more.
    AddColumn {
        /// Where.
        table: Name,
        /// The column.
        column: ColumnSpec,
    },
    /// Another name.
    RenameColumn {
        /// Where.
        table: Name,
        /// Which column.
        column: Name,
        /// Its new name.
        to: Name,
    },
    /// One column less, with what it held, and with the indexes and constraints that name it.
    DropColumn {
        /// Where.
        table: Name,
        /// Which column.
        column: Name,
    },
    /// Another type. In shared tables values stay as they are, and have to fit.
    SetType {
        /// Where.
        table: Name,
        /// Which column.
        column: Name,
        /// The new type.
        #[serde(rename = "type")]
        kind: ColumnType,
    },
    /// Whether a column may hold nothing.
    SetNullable {
        /// Where.
        table: Name,
        /// Which column.
        column: Name,
        /// Whether it may.
        nullable: bool,
    },
    /// What a column holds where nothing is said from now on.
    SetDefault {
        /// Where.
        table: Name,
        /// Which column.
        column: Name,
        /// What it holds; none for nothing.
        default: Option<DefaultValue>,
    },
    /// No two rows are alike in these columns.
    AddUnique {
        /// Where.
        table: Name,
        /// Which columns, at most 8.
        columns: Vec<Name>,
    },
    /// An index. In shared tables, the column gets one of its app's six columns of its own: three for text, three for
    /// numbers.
    CreateIndex {
        /// Where.
        table: Name,
        /// Which columns, at most 8.
        columns: Vec<Name>,
    },
    /// One index less.
    DropIndex {
        /// Where.
        table: Name,
        /// Which index, by its name.
        index: Name,
    },
    /// Rows point to rows of another table, or of the same.
    AddForeignKey {
        /// Where.
        table: Name,
        /// Which columns point, at most 8.
        columns: Vec<Name>,
        /// Where to.
        to: Name,
        /// Which columns they point to: a primary key, or columns that are unique together.
        to_columns: Vec<Name>,
        /// What becomes of them when what they point to goes.
        #[serde(default)]
        on_delete: OnDelete,
    },
    /// One rule less: a foreign key, or that columns are unique.
    DropConstraint {
        /// Where.
        table: Name,
        /// Which, by its name.
        constraint: Name,
    },
}

impl SchemaChange {
    /// Most columns of a table.
    pub const MAX_COLUMNS: usize = 200;
    /// Most columns of a key or an index.
    pub const MAX_KEY_COLUMNS: usize = 8;

    /// The table that is changed, by the name that it has before.
    pub fn table(&self) -> &Name {
        match self {
            Self::CreateTable { table, .. }
            | Self::RenameTable { table, .. }
            | Self::DropTable { table }
            | Self::AddColumn { table, .. }
            | Self::RenameColumn { table, .. }
            | Self::DropColumn { table, .. }
            | Self::SetType { table, .. }
            | Self::SetNullable { table, .. }
            | Self::SetDefault { table, .. }
            | Self::AddUnique { table, .. }
            | Self::CreateIndex { table, .. }
            | Self::DropIndex { table, .. }
            | Self::AddForeignKey { table, .. }
            | Self::DropConstraint { table, .. } => table,
        }
    }

    /// What has happened once it is done, such as `table_created`: the stage of its last progress event.
    pub fn event(&self) -> &'static str {
        match self {
            Self::CreateTable { .. } => "table_created",
            Self::RenameTable { .. } => "table_renamed",
            Self::DropTable { .. } => "table_dropped",
            Self::AddColumn { .. } => "column_added",
            Self::RenameColumn { .. } => "column_renamed",
            Self::DropColumn { .. } => "column_dropped",
            Self::SetType { .. } => "column_retyped",
            Self::SetNullable { .. } => "column_nullability_set",
            Self::SetDefault { .. } => "column_default_set",
            Self::AddUnique { .. } => "unique_added",
            Self::CreateIndex { .. } => "index_created",
            Self::DropIndex { .. } => "index_dropped",
            Self::AddForeignKey { .. } => "foreign_key_added",
            Self::DropConstraint { .. } => "constraint_dropped",
        }
    }

    /// Refuses what no schema could take.
    pub(super) fn bounded(&self) -> Result<()> {
        let among = |field: &str, names: &[Name], least: usize, most: usize| {
            if names.len() < least || names.len() > most {
                let given = names.len();
                return Err(Error::invalid(format!("{field} must name {least} to {most} columns, but names {given}")));
            }
            match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
                Some((_, twice)) => Err(Error::invalid(format!("{field} names the column `{twice}` twice"))),
                None => Ok(()),
            }
        };
        match self {
            Self::CreateTable { columns, primary_key, .. } => {
                let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
                among("columns", &names, 0, Self::MAX_COLUMNS)?;
                among("primary_key", primary_key, 0, Self::MAX_KEY_COLUMNS)?;
                match primary_key.iter().find(|key| !names.contains(key)) {
                    Some(key) => Err(Error::invalid(format!("primary_key names `{key}`, which is no column"))),
                    None => Ok(()),
                }
            }
            Self::AddUnique { columns, .. } | Self::CreateIndex { columns, .. } => {
                among("columns", columns, 1, Self::MAX_KEY_COLUMNS)
            }
            Self::AddForeignKey { columns, to_columns, .. } => {
                among("columns", columns, 1, Self::MAX_KEY_COLUMNS)?;
                among("to_columns", to_columns, columns.len(), columns.len())
            }
            _ => Ok(()),
        }
    }
}
