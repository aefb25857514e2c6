//! Plans for tables in a schema of the app's own: each change as statements, with Postgres' own table of locks.

use super::{
    change::{ColumnSpec, OnDelete, SchemaChange},
    limits::EditorLimits,
    name::{Name, list, quoted},
    plan::{LockLevel, PlannedStatement, PlannedStep, StepWay},
    types::{ColumnType, DefaultValue},
};
use crate::inspector::{AppSchema, ColumnInfo, TableInfo};
use overskill_core::{Effect, Error, ErrorKind, Result};
use std::collections::BTreeMap;

/// What a plan is made from.
pub(super) struct Ground<'a> {
    pub(super) schema: &'a AppSchema,
    pub(super) place: &'a Name,
    pub(super) app_id: i64,
    /// The role that owns the tables.
    pub(super) owner: &'a str,
    /// Roles of Supabase that are there.
    pub(super) others: &'a [String],
    pub(super) limits: &'a EditorLimits,
    /// Rows, counted up to the limit and one more, and bytes of the tables that the change names.
    pub(super) sizes: BTreeMap<String, (u64, u64)>,
}

/// The steps, and what they destroy.
pub(super) type Steps = (Vec<PlannedStep>, Option<String>);

use LockLevel::{AccessExclusive, RowExclusive, RowShare, Share, ShareRowExclusive, ShareUpdateExclusive};

pub(super) fn steps(ground: &Ground<'_>, change: &SchemaChange) -> Result<Steps> {
    let kept = |step: PlannedStep| Ok((vec![step], None));
    match change {
        SchemaChange::CreateTable { table, columns, primary_key } => {
            ground.create(table, columns, primary_key).map(|step| (vec![step], None))
        }
        SchemaChange::RenameTable { table, to } => {
            ground.table(table)?;
            ground.free(to)?;
            kept(ground.alter(table, &format!("RENAME TO {}", to.quoted())))
        }
        SchemaChange::DropTable { table } => ground.drop_table(table),
        SchemaChange::AddColumn { table, column } => ground.add_column(table, column).map(|steps| (steps, None)),
        SchemaChange::RenameColumn { table, column, to } => {
            ground.column(table, column)?;
            ground.no_column(table, to)?;
            kept(ground.alter(table, &format!("RENAME COLUMN {} TO {}", column.quoted(), to.quoted())))
        }
        SchemaChange::DropColumn { table, column } => ground.drop_column(table, column),
        SchemaChange::SetType { table, column, kind } => ground.set_type(table, column, *kind),
        SchemaChange::SetNullable { table, column, nullable } => {
            ground.set_nullable(table, column, *nullable).map(|steps| (steps, None))
        }
        SchemaChange::SetDefault { table, column, default } => {
            let kind = ground.kind(table, column)?;
            let set = match default {
                Some(value) => format!("SET DEFAULT {}", value.sql(kind)?),
                None => "DROP DEFAULT".to_owned(),
            };
            kept(ground.alter(table, &format!("ALTER COLUMN {} {set}", column.quoted())))
        }
        SchemaChange::AddUnique { table, columns } => ground.add_unique(table, columns).map(|steps| (steps, None)),
        SchemaChange::CreateIndex { table, columns } => {
            ground.create_index(table, columns).map(|step| (vec![step], None))
        }
        SchemaChange::DropIndex { table, index } => ground.drop_index(table, index).map(|step| (vec![step], None)),
        SchemaChange::AddForeignKey { table, columns, to, to_columns, on_delete } => {
            ground.add_foreign_key(table, columns, to, to_columns, *on_delete).map(|steps| (steps, None))
        }
        SchemaChange::DropConstraint { table, constraint } => {
            ground.drop_constraint(table, constraint).map(|step| (vec![step], None))
        }
    }
}

impl Ground<'_> {
    fn table(&self, name: &Name) -> Result<&TableInfo> {
        self.schema.table(name.as_str()).ok_or_else(|| Error::not_found(format!("there is no table `{name}`")))
    }

    fn column(&self, table: &Name, name: &Name) -> Result<&ColumnInfo> {
        let missing = || Error::not_found(format!("table `{table}` has no column `{name}`"));
        self.table(table)?.column(name.as_str()).ok_or_else(missing)
    }

    fn kind(&self, table: &Name, name: &Name) -> Result<ColumnType> {
        let column = self.column(table, name)?;
        column.kind.ok_or_else(|| {
            let message = format!("column `{table}.{name}` is of type {}, which is not known here", column.sql_type);
            Error::new(ErrorKind::Unsupported, message).effect_as(Effect::None)
        })
    }

    fn no_column(&self, table: &Name, name: &Name) -> Result<()> {
        match self.table(table)?.column(name.as_str()) {
            Some(_) => Err(Error::conflict(format!("table `{table}` has a column `{name}` already"))),
            None => Ok(()),
        }
    }

    /// Tables and indexes share their names.
    fn free(&self, name: &Name) -> Result<()> {
        if self.taken().contains(&name.as_str()) {
            return Err(Error::conflict(format!("there is a table or an index `{name}` already")));
        }
        Ok(())
    }

    fn taken(&self) -> Vec<&str> {
        let names = self.schema.tables.iter().flat_map(|table| {
            let indexes = table.indexes.iter().map(|index| index.name.as_str());
            let keys = table.foreign_keys.iter().map(|key| key.name.as_str());
            std::iter::once(table.name.as_str()).chain(indexes).chain(keys)
        });
        names.collect()
    }

    fn at(&self, table: &str) -> String {
        format!("{}.{}", self.place.quoted(), quoted(table))
    }

    /// One `ALTER TABLE` under the strongest lock, which it holds for a moment.
    fn alter(&self, table: &Name, what: &str) -> PlannedStep {
        PlannedStep::transaction(vec![self.altering(table, what)])
    }

    fn altering(&self, table: &Name, what: &str) -> PlannedStatement {
        let sql = format!("ALTER TABLE {} {what}", self.at(table.as_str()));
        PlannedStatement::new(sql, [(table.as_str(), AccessExclusive)])
    }

    /// Which limit makes the table a large one.
    fn large(&self, table: &Name) -> Option<String> {
        let (rows, bytes) = self.sizes.get(table.as_str()).copied().unwrap_or_default();
        if rows > self.limits.rows {
            return Some(format!("it has more than {} rows, which is the limit `rows`", self.limits.rows));
        }
        (bytes > self.limits.bytes)
            .then(|| format!("it has {bytes} bytes, and the limit `bytes` is {}", self.limits.bytes))
    }

    fn has_rows(&self, table: &Name) -> bool {
        self.sizes.get(table.as_str()).is_some_and(|(rows, _)| *rows > 0)
    }

    fn create(&self, table: &Name, columns: &[ColumnSpec], primary_key: &[Name]) -> Result<PlannedStep> {
        self.free(table)?;
        let mut parts = columns.iter().map(ColumnSpec::sql).collect::<Result<Vec<_>>>()?;
        if primary_key.is_empty() {
            if columns.iter().any(|column| column.name.as_str() == "id") {
                return Err(Error::invalid(
                    "primary_key must name columns, for there is a column `id` that it could be",
                ));
            }
            parts.insert(0, "\"id\" uuid DEFAULT gen_random_uuid() NOT NULL".into());
        }
        let key = if primary_key.is_empty() { "\"id\"".to_owned() } else { list(primary_key) };
        let name = Name::made_of(&[table.as_str(), "pkey"], &self.taken());
        parts.push(format!("CONSTRAINT {} PRIMARY KEY ({key})", name.quoted()));
        let at = self.at(table.as_str());
        let has = |role: &str| self.others.iter().any(|it| it == role);
        let tenants = if has("authenticated") { "overskill_app, authenticated" } else { "overskill_app" };
        let supabase = self.others.iter().filter(|role| *role != "service_role").map(|role| format!(", {role}"));
        let app = format!("(SELECT overskill_guard.app()) = {}", self.app_id);
        let sql = [
            format!("CREATE TABLE {at} ({})", parts.join(", ")),
            format!("ALTER TABLE {at} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
            format!("CREATE POLICY app ON {at} AS RESTRICTIVE TO PUBLIC USING ({app}) WITH CHECK ({app})"),
            format!("CREATE POLICY helpers ON {at} TO {} USING (true)", quoted(self.owner)),
            format!("CREATE POLICY tenants ON {at} TO {tenants} USING ({app}) WITH CHECK ({app})"),
            format!(
                "CREATE POLICY explored ON {at} FOR SELECT TO overskill_explorer USING ((SELECT overskill_guard.develops()))"
            ),
            format!(
                "REVOKE ALL ON {at} FROM PUBLIC, overskill_app, overskill_explorer{}",
                supabase.collect::<String>()
            ),
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {at} TO {tenants}"),
            format!("GRANT SELECT ON {at} TO overskill_explorer"),
        ];
        let statement = |sql| PlannedStatement::new(sql, [(table.as_str(), AccessExclusive)]);
        Ok(PlannedStep::transaction(sql.into_iter().map(statement).collect()))
    }

    fn drop_table(&self, table: &Name) -> Result<Steps> {
        let it = self.table(table)?;
        let name = table.as_str();
        let points = |other: &&TableInfo| other.name != name && other.foreign_keys.iter().any(|key| key.to == name);
        if let Some(other) = self.schema.tables.iter().find(points) {
            let message = format!("table `{table}` cannot be dropped while rows of `{}` point to it", other.name);
            return Err(Error::conflict(message));
        }
        let locks = locks_of(name, it.foreign_keys.iter().map(|key| key.to.as_str()));
        let statement = PlannedStatement::new(format!("DROP TABLE {}", self.at(name)), locks);
        Ok((vec![PlannedStep::transaction(vec![statement])], Some(format!("table {table}"))))
    }

    fn add_column(&self, table: &Name, column: &ColumnSpec) -> Result<Vec<PlannedStep>> {
        self.no_column(table, &column.name)?;
        if self.table(table)?.columns.len() >= SchemaChange::MAX_COLUMNS {
            let message = format!("table `{table}` has {} columns, which is the most", SchemaChange::MAX_COLUMNS);
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let has_rows = self.has_rows(table);
        if !column.nullable && column.default.is_none() && has_rows {
            let message = format!(
                "column `{}` must be nullable or have a default, for table `{table}` has rows that would hold nothing there",
                column.name
            );
            return Err(Error::invalid(message));
        }
        let rewrites = column.default.as_ref().is_some_and(DefaultValue::is_volatile);
        let sql = column.sql()?;
        let name = column.name.quoted();
        if !rewrites || self.large(table).is_none() {
            let statement = self.altering(table, &format!("ADD COLUMN {sql}")).rewriting(rewrites);
            return Ok(vec![PlannedStep::transaction(vec![statement])]);
        }
        let default = column.default.as_ref().map(|value| value.sql(column.kind)).transpose()?.unwrap_or_default();
        let add = self.altering(table, &format!("ADD COLUMN {name} {}", column.kind));
        let set = self.altering(table, &format!("ALTER COLUMN {name} SET DEFAULT {default}"));
        let undo = format!("ALTER TABLE {} DROP COLUMN IF EXISTS {name}", self.at(table.as_str()));
        let fill = format!("UPDATE {} SET {name} = DEFAULT WHERE {name} IS NULL", self.at(table.as_str()));
        let mut steps = vec![
            PlannedStep::transaction(vec![add, set]).or_undo(undo),
            PlannedStep {
                way: StepWay::Batches,
                statements: vec![PlannedStatement::new(fill, [(table.as_str(), RowExclusive)])],
                undo: None,
                builds: None,
            },
        ];
        if !column.nullable {
            steps.extend(self.require_online(table, &column.name));
        }
        Ok(steps)
    }

    fn drop_column(&self, table: &Name, column: &Name) -> Result<Steps> {
        self.column(table, column)?;
        let it = self.table(table)?;
        no_part_of_key(it, column)?;
        let holds = |columns: &[String]| columns.iter().any(|it| it == column.as_str());
        let mut pointing =
            self.schema.tables.iter().flat_map(|other| other.foreign_keys.iter().map(move |key| (other, key)));
        if let Some((other, key)) = pointing.find(|(_, key)| key.to == it.name && holds(&key.to_columns)) {
            let message = format!(
                "column `{table}.{column}` is what rows of `{}` point to: drop `{}` first",
                other.name, key.name
            );
            return Err(Error::conflict(message));
        }
        let gone = it.foreign_keys.iter().filter(|key| holds(&key.columns)).map(|key| key.to.as_str());
        let sql = format!("ALTER TABLE {} DROP COLUMN {}", self.at(table.as_str()), column.quoted());
        let statement = PlannedStatement::new(sql, locks_of(table.as_str(), gone));
        Ok((vec![PlannedStep::transaction(vec![statement])], Some(format!("column {table}.{column}"))))
    }

    fn set_type(&self, table: &Name, column: &Name, to: ColumnType) -> Result<Steps> {
        let (it, from) = (self.table(table)?, self.kind(table, column)?);
        let holds = |columns: &[String]| columns.iter().any(|it| it == column.as_str());
        let bound = it.foreign_keys.iter().find(|key| holds(&key.columns)).or_else(|| {
            let all = self.schema.tables.iter().flat_map(|other| &other.foreign_keys);
            all.into_iter().find(|key| key.to == it.name && holds(&key.to_columns))
        });
        if let Some(key) = bound {
            let message =
                format!("column `{table}.{column}` is part of the foreign key `{}`: drop that first", key.name);
            return Err(Error::conflict(message));
        }
        let Some(way) = from.into(to) else {
            let message = format!("column `{table}.{column}` is of type {from}, which cannot become {to}");
            return Err(Error::invalid(message));
        };
        let same_family = (from.is_text() && to.is_text()) || (from.is_number() && to.is_number());
        if from != to && !same_family && self.column(table, column)?.default.is_some() {
            let message = format!(
                "column `{table}.{column}` has a default of type {from}: drop that first, then set one of type {to}"
            );
            return Err(Error::conflict(message));
        }
        if way.rewrites
            && let Some(why) = self.large(table)
        {
            let message = format!(
                "retyping `{table}.{column}` would keep everybody from table `{table}` while it is written anew, and {why}: \
                 add a column of type {to}, fill it, drop the old one and rename"
            );
            return Err(Error::new(ErrorKind::LimitExceeded, message));
        }
        let using = if way.casts { format!(" USING {}::{to}", column.quoted()) } else { String::new() };
        let statement = self.altering(table, &format!("ALTER COLUMN {} TYPE {to}{using}", column.quoted()));
        let destroys = way.loses.then(|| format!("what does not fit {to} in column {table}.{column}"));
        Ok((vec![PlannedStep::transaction(vec![statement.rewriting(way.rewrites)])], destroys))
    }

    fn set_nullable(&self, table: &Name, column: &Name, nullable: bool) -> Result<Vec<PlannedStep>> {
        let was = self.column(table, column)?.nullable;
        if nullable {
            no_part_of_key(self.table(table)?, column)?;
            return Ok(vec![self.alter(table, &format!("ALTER COLUMN {} DROP NOT NULL", column.quoted()))]);
        }
        if was && self.large(table).is_some() {
            return Ok(self.require_online(table, column));
        }
        let mut statement = self.altering(table, &format!("ALTER COLUMN {} SET NOT NULL", column.quoted()));
        statement.scans = was;
        Ok(vec![PlannedStep::transaction(vec![statement])])
    }

    /// A check that holds for new rows at once, is then compared with the old ones while others write, and makes it needless
    /// to look at them again.
    fn require_online(&self, table: &Name, column: &Name) -> Vec<PlannedStep> {
        let (at, name) = (self.at(table.as_str()), column.quoted());
        let check = Name::made_of(&[table.as_str(), column.as_str(), "not_null"], &self.taken()).quoted();
        let add = self.altering(table, &format!("ADD CONSTRAINT {check} CHECK ({name} IS NOT NULL) NOT VALID"));
        let validate = format!("ALTER TABLE {at} VALIDATE CONSTRAINT {check}");
        let validate = PlannedStatement::new(validate, [(table.as_str(), ShareUpdateExclusive)]).scanning();
        let set = self.altering(table, &format!("ALTER COLUMN {name} SET NOT NULL"));
        let drop = self.altering(table, &format!("DROP CONSTRAINT {check}"));
        vec![
            PlannedStep::transaction(vec![add]).or_undo(format!("ALTER TABLE {at} DROP CONSTRAINT IF EXISTS {check}")),
            PlannedStep::transaction(vec![validate]),
            PlannedStep::transaction(vec![set, drop]),
        ]
    }

    fn columns(&self, table: &Name, columns: &[Name]) -> Result<()> {
        columns.iter().try_for_each(|column| self.column(table, column).map(drop))
    }

    fn index_name(&self, table: &Name, columns: &[Name], end: &str) -> Name {
        let parts: Vec<_> = [table.as_str()].into_iter().chain(columns.iter().map(Name::as_str)).chain([end]).collect();
        Name::made_of(&parts, &self.taken())
    }

    fn concurrently(&self, table: &Name, unique: &str, name: &Name, columns: &[Name]) -> PlannedStep {
        let sql = format!(
            "CREATE {unique}INDEX CONCURRENTLY {} ON {} ({})",
            name.quoted(),
            self.at(table.as_str()),
            list(columns)
        );
        PlannedStep {
            way: StepWay::Concurrently,
            statements: vec![PlannedStatement::new(sql, [(table.as_str(), ShareUpdateExclusive)]).scanning()],
            undo: Some(format!("DROP INDEX CONCURRENTLY IF EXISTS {}", self.at(name.as_str()))),
            builds: Some(name.to_string()),
        }
    }

    fn add_unique(&self, table: &Name, columns: &[Name]) -> Result<Vec<PlannedStep>> {
        self.columns(table, columns)?;
        let alike = |have: &Vec<String>| have.iter().map(String::as_str).eq(columns.iter().map(Name::as_str));
        let it = self.table(table)?;
        if alike(&it.primary_key) || it.unique.iter().any(|unique| alike(&unique.columns)) {
            return Err(Error::conflict(format!("table `{table}` is unique in these columns already")));
        }
        let name = self.index_name(table, columns, "key");
        let quoted = name.quoted();
        if self.large(table).is_none() {
            let statement =
                self.altering(table, &format!("ADD CONSTRAINT {quoted} UNIQUE ({})", list(columns))).scanning();
            return Ok(vec![PlannedStep::transaction(vec![statement])]);
        }
        let build = self.concurrently(table, "UNIQUE ", &name, columns);
        Ok(vec![build, self.alter(table, &format!("ADD CONSTRAINT {quoted} UNIQUE USING INDEX {quoted}"))])
    }

    fn create_index(&self, table: &Name, columns: &[Name]) -> Result<PlannedStep> {
        self.columns(table, columns)?;
        let name = self.index_name(table, columns, "idx");
        if self.large(table).is_some() {
            return Ok(self.concurrently(table, "", &name, columns));
        }
        let sql = format!("CREATE INDEX {} ON {} ({})", name.quoted(), self.at(table.as_str()), list(columns));
        Ok(PlannedStep::transaction(vec![PlannedStatement::new(sql, [(table.as_str(), Share)]).scanning()]))
    }

    fn drop_index(&self, table: &Name, index: &Name) -> Result<PlannedStep> {
        let missing = || Error::not_found(format!("table `{table}` has no index `{index}`"));
        let it = self.table(table)?.indexes.iter().find(|it| it.name == index.as_str()).ok_or_else(missing)?;
        if it.of_key {
            return Err(Error::invalid(format!("index `{index}` stands for a key: drop the constraint of that name")));
        }
        let sql = format!("DROP INDEX {}", self.at(index.as_str()));
        Ok(PlannedStep::transaction(vec![PlannedStatement::new(sql, [(table.as_str(), AccessExclusive)])]))
    }

    fn add_foreign_key(
        &self,
        table: &Name,
        columns: &[Name],
        to: &Name,
        to_columns: &[Name],
        on_delete: OnDelete,
    ) -> Result<Vec<PlannedStep>> {
        self.columns(table, columns)?;
        self.columns(to, to_columns)?;
        let target = self.table(to)?;
        let alike = |have: &Vec<String>| have.iter().map(String::as_str).eq(to_columns.iter().map(Name::as_str));
        if !alike(&target.primary_key) && !target.unique.iter().any(|unique| alike(&unique.columns)) {
            let message = format!("to_columns must be the primary key of `{to}`, or unique together, in this order");
            return Err(Error::invalid(message));
        }
        for (column, other) in columns.iter().zip(to_columns) {
            let (from, into) = (self.kind(table, column)?, self.kind(to, other)?);
            if from != into && !(from.is_text() && into.is_text()) {
                let message =
                    format!("column `{table}.{column}` is of type {from}, but `{to}.{other}` is of type {into}");
                return Err(Error::invalid(message));
            }
            if on_delete == OnDelete::SetNull && !self.column(table, column)?.nullable {
                let message = format!("on_delete cannot be set_null, for column `{table}.{column}` is not nullable");
                return Err(Error::invalid(message));
            }
        }
        let name = self.index_name(table, columns, "fkey").quoted();
        let rule = format!(
            "ADD CONSTRAINT {name} FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {}",
            list(columns),
            self.at(to.as_str()),
            list(to_columns),
            on_delete.sql()
        );
        let at = self.at(table.as_str());
        let both = |level| {
            let other = (to != table).then_some((to.as_str(), level));
            [(table.as_str(), level)].into_iter().chain(other).collect::<Vec<_>>()
        };
        if self.large(table).is_none() {
            let sql = format!("ALTER TABLE {at} {rule}");
            return Ok(vec![PlannedStep::transaction(vec![
                PlannedStatement::new(sql, both(ShareRowExclusive)).scanning(),
            ])]);
        }
        let add = PlannedStatement::new(format!("ALTER TABLE {at} {rule} NOT VALID"), both(ShareRowExclusive));
        let other = (to != table).then_some((to.as_str(), RowShare));
        let locks = [(table.as_str(), ShareUpdateExclusive)].into_iter().chain(other);
        let validate = PlannedStatement::new(format!("ALTER TABLE {at} VALIDATE CONSTRAINT {name}"), locks).scanning();
        Ok(vec![
            PlannedStep::transaction(vec![add]).or_undo(format!("ALTER TABLE {at} DROP CONSTRAINT IF EXISTS {name}")),
            PlannedStep::transaction(vec![validate]),
        ])
    }

    fn drop_constraint(&self, table: &Name, constraint: &Name) -> Result<PlannedStep> {
        let it = self.table(table)?;
        let foreign = it.foreign_keys.iter().find(|key| key.name == constraint.as_str());
        let unique = it.unique.iter().find(|unique| unique.name == constraint.as_str());
        if foreign.is_none() && unique.is_none() {
            let message = format!("table `{table}` has no foreign key and nothing unique of the name `{constraint}`");
            return Err(Error::not_found(message));
        }
        if let Some(unique) = unique {
            let all = self.schema.tables.iter().flat_map(|other| &other.foreign_keys);
            if let Some(key) = all.into_iter().find(|key| key.to == it.name && key.to_columns == unique.columns) {
                let message =
                    format!("`{constraint}` is what the foreign key `{}` points to: drop that first", key.name);
                return Err(Error::conflict(message));
            }
        }
        let sql = format!("ALTER TABLE {} DROP CONSTRAINT {}", self.at(table.as_str()), constraint.quoted());
        let locks = locks_of(table.as_str(), foreign.map(|key| key.to.as_str()));
        Ok(PlannedStep::transaction(vec![PlannedStatement::new(sql, locks)]))
    }
}

/// The strongest lock on a table, and on those whose triggers go with its foreign keys.
fn locks_of<'a>(table: &'a str, others: impl IntoIterator<Item = &'a str>) -> Vec<(&'a str, LockLevel)> {
    let mut names: Vec<_> = others.into_iter().filter(|other| *other != table).collect();
    names.sort_unstable();
    names.dedup();
    [table].into_iter().chain(names).map(|name| (name, AccessExclusive)).collect()
}

fn no_part_of_key(table: &TableInfo, column: &Name) -> Result<()> {
    if table.primary_key.iter().any(|it| it == column.as_str()) {
        let message = format!("column `{}.{column}` is part of the primary key, which stays as it is", table.name);
        return Err(Error::invalid(message));
    }
    Ok(())
}
