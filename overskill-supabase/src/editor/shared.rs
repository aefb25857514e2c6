//! Plans for the tables that apps share: changes of the catalog and of records, without any DDL.

use super::{
    change::{ColumnSpec, SchemaChange},
    limits::EditorLimits,
    name::{Name, literal},
    plan::{LockLevel, PlannedStatement, PlannedStep, Unfit},
    types::{ColumnType, DefaultValue},
};
use crate::{
    inspector::{AppSchema, CatalogColumn, OWN, Run, TableInfo},
    tx::fault::failed,
};
use overskill_core::{Effect, Error, ErrorKind, Result};
use serde_json::{Map, Value, json};
use tokio_postgres::types::{ToSql, Type};

/// What a change comes to.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) steps: Vec<PlannedStep>,
    pub(super) destroys: Option<String>,
    pub(super) unfit: Option<Unfit>,
}

/// What is to be done, before it is SQL.
struct Draft {
    kind: String,
    columns: Vec<CatalogColumn>,
    slots: Map<String, Value>,
    statements: Vec<PlannedStatement>,
    /// Field, type (or `none`: any value at all is one too many) and whether it may be empty.
    check: Option<(String, String, bool)>,
    destroys: Option<String>,
}

pub(super) async fn outline(
    tx: &impl Run,
    schema: &AppSchema,
    change: &SchemaChange,
    limits: &EditorLimits,
) -> Result<Outline> {
    let draft = draft(schema, change, limits)?;
    let mut unfit = None;
    if let Some((field, fits, nullable)) = &draft.check {
        const UNFIT: &str = "SELECT records, ids FROM overskill_data.unfit($1, $2, $3, $4)";
        let arguments: [(&(dyn ToSql + Sync), Type); 4] =
            [(&draft.kind, Type::TEXT), (field, Type::TEXT), (fits, Type::TEXT), (nullable, Type::BOOL)];
        for row in tx.query(UNFIT, &arguments).await? {
            let count: i64 = row.try_get(0).map_err(failed("look for what does not fit"))?;
            let ids: Option<Vec<String>> = row.try_get(1).map_err(failed("look for what does not fit"))?;
            let rows = count.unsigned_abs();
            unfit = (rows > 0).then(|| Unfit { rows, ids: ids.unwrap_or_default() });
        }
    }
    Ok(Outline { steps: vec![PlannedStep::transaction(draft.statements)], destroys: draft.destroys, unfit })
}

fn draft(schema: &AppSchema, change: &SchemaChange, limits: &EditorLimits) -> Result<Draft> {
    let unsupported = |what: &str| {
        let message = format!("tables that apps share have no {what}: give the app a schema of its own first");
        Err(Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None))
    };
    match change {
        SchemaChange::CreateTable { table, columns, primary_key } => {
            return create(schema, table, columns, primary_key);
        }
        SchemaChange::AddUnique { .. } => return unsupported("unique columns"),
        SchemaChange::AddForeignKey { .. } => return unsupported("foreign keys"),
        SchemaChange::DropConstraint { .. } => return unsupported("constraints"),
        _ => {}
    }
    let name = change.table();
    let missing = || Error::not_found(format!("there is no table `{name}`"));
    let table = schema.table(name.as_str()).ok_or_else(missing)?;
    let mut draft = Draft::of(table);
    match change {
        SchemaChange::RenameTable { table: from, to } => {
            if schema.table(to.as_str()).is_some() {
                return Err(Error::conflict(format!("there is a table `{to}` already")));
            }
            draft.call("rename_kind", &[literal(from.as_str()), literal(to.as_str())], Touches::Both);
        }
        SchemaChange::DropTable { table: gone } => {
            draft.destroys = Some(format!("table {gone}"));
            draft.call("drop_kind", &[literal(gone.as_str())], Touches::Both);
        }
        SchemaChange::AddColumn { column, .. } => draft.add(table, column)?,
        SchemaChange::RenameColumn { column, to, .. } => draft.rename(column, to)?,
        SchemaChange::DropColumn { column, .. } => {
            draft.column(column)?;
            draft.columns.retain(|it| it.name != column.as_str());
            draft.slots.retain(|_, of| of != column.as_str());
            draft.destroys = Some(format!("column {name}.{column}"));
            draft.set_fields();
            let arguments = [draft.quoted(), literal(column.as_str()), "NULL".into(), "NULL".into()];
            draft.call("change_field", &arguments, Touches::Records);
        }
        SchemaChange::SetType { column, kind, .. } => {
            let it = draft.column(column)?;
            if let Some(default) = &it.default {
                read_default(default).sql(*kind)?;
                it.default = Some(written(&read_default(default), *kind));
            }
            it.kind = *kind;
            draft.check = Some((column.to_string(), kind.to_string(), true));
            let wrong_slot = |slot: &str| slot.starts_with('t') == kind.is_number();
            if draft.slots.iter().any(|(slot, of)| of == column.as_str() && wrong_slot(slot)) {
                let message =
                    format!("column `{name}.{column}` has an index for values of another kind: drop that first");
                return Err(Error::conflict(message));
            }
            draft.set_fields();
        }
        SchemaChange::SetNullable { column, nullable, .. } => {
            let it = draft.column(column)?;
            it.nullable = *nullable;
            let kind = it.kind.to_string();
            draft.check = (!nullable).then(|| (column.to_string(), kind, false));
            draft.set_fields();
        }
        SchemaChange::SetDefault { column, default, .. } => {
            let it = draft.column(column)?;
            if let Some(value) = default {
                value.sql(it.kind)?;
            }
            it.default = default.as_ref().map(|value| written(value, it.kind));
            draft.set_fields();
        }
        SchemaChange::CreateIndex { columns, .. } => draft.create_index(columns)?,
        SchemaChange::DropIndex { index, .. } => {
            if draft.slots.remove(index.as_str()).is_none() {
                return Err(Error::not_found(format!("table `{name}` has no index `{index}`")));
            }
            draft.set_fields();
            let kind = draft.quoted();
            draft.call("refill", &[kind], Touches::Records);
        }
        _ => return unsupported("such changes"),
    }
    let touches = draft.statements.iter().any(|it| it.locks.iter().any(|lock| lock.table == "entities"));
    if touches && table.rows.unwrap_or(0) > limits.rows {
        let message = format!(
            "the change writes every record of table `{name}` in one go, and it has more than {} of them, which is the limit `rows`",
            limits.rows
        );
        return Err(Error::new(ErrorKind::LimitExceeded, message));
    }
    Ok(draft)
}

fn create(schema: &AppSchema, table: &Name, columns: &[ColumnSpec], primary_key: &[Name]) -> Result<Draft> {
    if schema.table(table.as_str()).is_some() {
        return Err(Error::conflict(format!("there is a table `{table}` already")));
    }
    if !primary_key.is_empty() {
        return Err(Error::invalid("primary_key must name no columns, for every record has its `id`"));
    }
    let mut draft = Draft {
        kind: table.to_string(),
        columns: Vec::new(),
        slots: Map::new(),
        statements: Vec::new(),
        check: None,
        destroys: None,
    };
    for column in columns {
        not_own(&column.name)?;
        draft.columns.push(catalogued(column)?);
    }
    let arguments = [draft.quoted(), jsonb(&json!(draft.columns))];
    draft.call("create_kind", &arguments, Touches::Catalog);
    Ok(draft)
}

#[derive(Clone, Copy)]
enum Touches {
    Catalog,
    Records,
    Both,
}

impl Draft {
    fn of(table: &TableInfo) -> Self {
        let own = |name: &str| OWN.iter().any(|(it, ..)| *it == name);
        let said = table.columns.iter().filter(|column| !own(&column.name));
        let columns = said.filter_map(|column| {
            let default = column.default.as_deref().and_then(|text| serde_json::from_str(text).ok());
            Some(CatalogColumn { name: column.name.clone(), kind: column.kind?, nullable: column.nullable, default })
        });
        let slots = table.indexes.iter().map(|index| (index.name.clone(), Value::from(index.columns[0].clone())));
        Self {
            kind: table.name.clone(),
            columns: columns.collect(),
            slots: slots.collect(),
            statements: Vec::new(),
            check: None,
            destroys: None,
        }
    }

    fn quoted(&self) -> String {
        literal(&self.kind)
    }

    fn call(&mut self, function: &str, arguments: &[String], touches: Touches) {
        let sql = format!("SELECT overskill_data.{function}({})", arguments.join(", "));
        let locks: &[&str] = match touches {
            Touches::Catalog => &["entity_types"],
            Touches::Records => &["entities"],
            Touches::Both => &["entities", "entity_types"],
        };
        let locks = locks.iter().map(|table| (*table, LockLevel::RowExclusive));
        self.statements.push(PlannedStatement::new(sql, locks));
    }

    fn set_fields(&mut self) {
        let arguments = [self.quoted(), jsonb(&json!(self.columns)), jsonb(&Value::Object(self.slots.clone()))];
        self.call("set_fields", &arguments, Touches::Catalog);
    }

    fn column(&mut self, name: &Name) -> Result<&mut CatalogColumn> {
        not_own(name)?;
        let kind = &self.kind;
        let missing = || Error::not_found(format!("table `{kind}` has no column `{name}`"));
        self.columns.iter_mut().find(|it| it.name == name.as_str()).ok_or_else(missing)
    }

    fn no_column(&self, name: &Name) -> Result<()> {
        not_own(name)?;
        if self.columns.iter().any(|it| it.name == name.as_str()) {
            return Err(Error::conflict(format!("table `{}` has a column `{name}` already", self.kind)));
        }
        Ok(())
    }

    fn add(&mut self, table: &TableInfo, column: &ColumnSpec) -> Result<()> {
        self.no_column(&column.name)?;
        if self.columns.len() >= SchemaChange::MAX_COLUMNS {
            let message = format!("table `{}` has {} columns, which is the most", self.kind, SchemaChange::MAX_COLUMNS);
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let fills = column.default.is_some() && table.rows != Some(0);
        self.columns.push(catalogued(column)?);
        // Records may have the field already, for nothing was said of it.
        self.check = Some((column.name.to_string(), column.kind.to_string(), column.nullable || fills));
        self.set_fields();
        if let Some(default) = column.default.as_ref().filter(|_| fills) {
            let value = jsonb(&written(default, column.kind));
            let arguments = [self.quoted(), literal(column.name.as_str()), "NULL".into(), value];
            self.call("change_field", &arguments, Touches::Records);
        }
        Ok(())
    }

    fn rename(&mut self, from: &Name, to: &Name) -> Result<()> {
        self.no_column(to)?;
        self.column(from)?.name = to.to_string();
        for of in self.slots.values_mut().filter(|of| *of == from.as_str()) {
            *of = to.as_str().into();
        }
        // Where it would take the place of something that nobody spoke of.
        self.check = Some((to.to_string(), "none".into(), true));
        self.set_fields();
        let arguments = [self.quoted(), literal(from.as_str()), literal(to.as_str()), "NULL".into()];
        self.call("change_field", &arguments, Touches::Records);
        Ok(())
    }

    fn create_index(&mut self, columns: &[Name]) -> Result<()> {
        let [column] = columns else {
            let message =
                format!("columns must name one column in tables that apps share, but names {}", columns.len());
            return Err(Error::invalid(message));
        };
        let kind = self.column(column)?.kind;
        let letter = match kind {
            ColumnType::Boolean | ColumnType::Json => {
                let message =
                    format!("column `{}.{column}` is of type {kind}, which shared tables have no index for", self.kind);
                return Err(Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None));
            }
            _ if kind.is_number() => 'n',
            _ => 't',
        };
        if self.slots.values().any(|of| of == column.as_str()) {
            return Err(Error::conflict(format!("column `{}.{column}` has an index already", self.kind)));
        }
        let mut free = (1..=3).map(|n| format!("{letter}{n}")).filter(|slot| !self.slots.contains_key(slot));
        let Some(slot) = free.next() else {
            let message =
                format!("table `{}` has three indexes for such columns already, which is the most", self.kind);
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        };
        self.slots.insert(slot, column.as_str().into());
        self.set_fields();
        let kind = self.quoted();
        self.call("refill", &[kind], Touches::Records);
        Ok(())
    }
}

fn not_own(name: &Name) -> Result<()> {
    if OWN.iter().any(|(own, ..)| *own == name.as_str()) {
        return Err(Error::invalid(format!("column must not be `{name}`, which every record has and nobody changes")));
    }
    Ok(())
}

fn catalogued(column: &ColumnSpec) -> Result<CatalogColumn> {
    if let Some(default) = &column.default {
        default.sql(column.kind)?;
    }
    let default = column.default.as_ref().map(|value| written(value, column.kind));
    Ok(CatalogColumn { name: column.name.to_string(), kind: column.kind, nullable: column.nullable, default })
}

/// A default as the catalog keeps it.
fn written(default: &DefaultValue, kind: ColumnType) -> Value {
    match default {
        DefaultValue::Value(value) => json!({ "value": value }),
        DefaultValue::Now if kind == ColumnType::Date => json!({ "now": "date" }),
        DefaultValue::Now => json!({ "now": "timestamptz" }),
        DefaultValue::RandomUuid => json!({ "uuid": true }),
    }
}

fn read_default(written: &Value) -> DefaultValue {
    match (written.get("now"), written.get("uuid")) {
        (Some(_), _) => DefaultValue::Now,
        (_, Some(_)) => DefaultValue::RandomUuid,
        _ => DefaultValue::Value(written.get("value").cloned().unwrap_or_default()),
    }
}

fn jsonb(value: &Value) -> String {
    format!("{}::jsonb", literal(&value.to_string()))
}
