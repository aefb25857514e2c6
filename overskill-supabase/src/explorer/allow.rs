//! What a developer's query may consist of: an allow-list over the parsed tree, which is then written out anew. What is
//! not named here is refused, so that a construct that nobody thought of is refused too.

use super::{
    columns::{Columns, Level, column_of, columns_of, given_by, named},
    parts::{
        column, data_type, folded, function, ident, not_the_systems, one_part, one_part_of, operator, plain, value,
    },
    tables::Tables,
    words::{FUNCTIONS, SET_FUNCTIONS},
};
use overskill_core::{Effect, Error, ErrorKind, Result};
use sqlparser::{
    ast::{
        AccessExpr, CastKind, CeilFloorKind, Cte, Distinct, Expr, Function, FunctionArg, FunctionArgExpr,
        FunctionArgumentClause, FunctionArguments, GroupByExpr, Ident, JoinConstraint, JoinOperator, LimitClause,
        OrderByExpr, OrderByKind, Query, Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
        SetQuantifier, Statement, Subscript, TableAlias, TableFactor, TableWithJoins, UnaryOperator, WindowType,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
    tokenizer::{Token, Tokenizer},
};

/// Longest query in bytes, and in words and signs: what is long may be deep, and what is deep needs much stack to be read,
/// written and dropped.
pub(super) const MAX_BYTES: usize = 64 * 1024;
const MAX_TOKENS: usize = 4_000;
/// How deep expressions, and queries joined by UNION and its like, may stand in each other.
const MAX_DEPTH: u32 = 200;
const MAX_COLUMNS: usize = 100_000;
const STACK_BYTES: usize = 32 << 20;

/// The query as it is to be run; `Invalid` says what about it is not allowed.
///
/// Names of tables without a schema are kinds of records: `Task` reads the records of that kind, with the columns `id`,
/// `owner`, `data`, `created_at` and `updated_at`. Or they are tables of the app's own, with the columns that they have.
pub(super) fn allowed(sql: &str, tables: Tables<'_>) -> Result<String> {
    if sql.len() > MAX_BYTES {
        return Err(refused(format!("may be at most {MAX_BYTES} bytes long")));
    }
    if sql.contains('\0') {
        return Err(refused("may not hold the character NUL"));
    }
    // The parser takes tens of kilobytes for each step in, and the caller's stack may be small.
    std::thread::scope(|scope| {
        let reading =
            std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || written_anew(sql, tables));
        let reading = reading.map_err(|e| {
            Error::new(ErrorKind::Unavailable, "there is no thread to read a query")
                .effect_as(Effect::None)
                .caused_by(e)
        })?;
        reading.join().unwrap_or_else(|_| Err(refused("cannot be read")))
    })
}

fn written_anew(sql: &str, tables: Tables<'_>) -> Result<String> {
    let mut parsed = parse(sql)?;
    Walk { tables, scopes: Vec::new(), levels: Vec::new(), columns: 0, depth: 0 }.query(&mut parsed)?;
    let written = parsed.to_string();
    // What is run is what was looked at: read again, it is the same.
    if parse(&written)?.to_string() != written {
        return Err(refused("may not be written so that it can be read in two ways"));
    }
    Ok(written)
}

pub(super) fn parse(sql: &str) -> Result<Query> {
    let dialect = PostgreSqlDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location();
    let tokens = tokens.map_err(|e| refused(format!("cannot be read: {e}")))?;
    let words = tokens.iter().filter(|it| !matches!(it.token, Token::Whitespace(_))).count();
    if words > MAX_TOKENS {
        return Err(refused(format!("may have at most {MAX_TOKENS} words and signs, but had {words}")));
    }
    let mut parser = Parser::new(&dialect).with_recursion_limit(50).with_tokens_with_locations(tokens);
    let statements = parser.parse_statements().map_err(|e| refused(format!("cannot be read: {e}")))?;
    match <[Statement; 1]>::try_from(statements) {
        Ok([Statement::Query(query)]) => Ok(*query),
        Ok(_) => Err(refused("may only read: it must be SELECT, VALUES or WITH … SELECT")),
        Err(many) => Err(refused(format!("must be one statement, but was {}", many.len()))),
    }
}

pub(super) fn refused(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("query {why}")).at("explorer", "read")
}

pub(super) fn not(what: &str) -> Error {
    refused(format!("may not use {what}"))
}

/// `Ok` when there is nothing of `what`.
pub(super) fn no(there: bool, what: &str) -> Result<()> {
    if there { Err(not(what)) } else { Ok(()) }
}

struct Walk<'a> {
    tables: Tables<'a>,
    /// Common tables that can be seen, from the outside in, by their names as the database compares them.
    scopes: Vec<Vec<(String, Columns)>>,
    /// What stands in the FROM of the SELECTs around, from the outside in.
    levels: Vec<Level>,
    /// Columns of all tables that were named.
    columns: usize,
    depth: u32,
}

impl Walk<'_> {
    /// Gives the columns that it has.
    fn query(&mut self, query: &mut Query) -> Result<Columns> {
        self.query_and_level(query).map(|(columns, _)| columns)
    }

    /// Gives what its ORDER BY sees, too: it is that of the query in parentheses around it, as well.
    fn query_and_level(&mut self, query: &mut Query) -> Result<(Columns, Level)> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        no(fetch.is_some(), "FETCH: use LIMIT")?;
        no(!locks.is_empty(), "locks")?;
        no(
            for_clause.is_some() || settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty(),
            "this",
        )?;
        self.scopes.push(Vec::new());
        if let Some(with) = with {
            no(with.recursive, "WITH RECURSIVE")?;
            for Cte { alias, query, from, materialized: _, closing_paren_token: _ } in &mut with.cte_tables {
                no(from.is_some(), "this kind of WITH")?;
                let columns = self.query(query)?;
                aliased(alias)?;
                not_the_systems(&alias.name)?;
                let known = (folded(&alias.name), columns.renamed(Some(alias)));
                self.scopes.last_mut().expect("one was just pushed").push(known);
            }
        }
        let (columns, level) = self.body(body)?;
        self.levels.push(level);
        if let Some(order_by) = order_by {
            no(order_by.interpolate.is_some(), "INTERPOLATE")?;
            match &mut order_by.kind {
                OrderByKind::Expressions(all) => self.ordered(all)?,
                OrderByKind::All(_) => return Err(not("ORDER BY ALL")),
            }
        }
        match limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) => {
                no(!limit_by.is_empty(), "LIMIT BY")?;
                limit.as_mut().map_or(Ok(()), |it| self.expr(it))?;
                offset.as_mut().map_or(Ok(()), |it| self.expr(&mut it.value))?;
            }
            Some(LimitClause::OffsetCommaLimit { .. }) => return Err(not("LIMIT with a comma")),
        }
        self.scopes.pop();
        Ok((columns, self.levels.pop().expect("it was pushed above")))
    }

    fn deeper<T>(&mut self, look: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        no(self.depth >= MAX_DEPTH, "more than 200 expressions within each other")?;
        self.depth += 1;
        let seen = look(self)?;
        self.depth -= 1;
        Ok(seen)
    }

    fn body(&mut self, body: &mut SetExpr) -> Result<(Columns, Level)> {
        self.deeper(|it| it.body_itself(body))
    }

    fn expr(&mut self, expr: &mut Expr) -> Result<()> {
        self.deeper(|it| it.expr_itself(expr))
    }

    fn body_itself(&mut self, body: &mut SetExpr) -> Result<(Columns, Level)> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query_and_level(query),
            SetExpr::SetOperation { left, op: _, set_quantifier, right } => {
                use SetQuantifier::{All, Distinct, None};
                no(!matches!(set_quantifier, All | Distinct | None), "BY NAME")?;
                let (columns, _) = self.body(left)?;
                self.body(right)?;
                Ok((columns, Level::default()))
            }
            SetExpr::Values(values) => {
                no(values.explicit_row, "ROW in VALUES")?;
                values.rows.iter_mut().flat_map(|row| row.content.iter_mut()).try_for_each(|it| self.expr(it))?;
                let width = values.rows.first().map_or(0, |row| row.content.len());
                Ok((Columns::of((1..=width).map(|n| format!("column{n}"))), Level::default()))
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(not("statements that write"))
            }
            SetExpr::Table(_) => Err(not("TABLE: use SELECT")),
        }
    }

    fn select(&mut self, select: &mut Select) -> Result<(Columns, Level)> {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        no(into.is_some(), "SELECT INTO")?;
        let foreign = !optimizer_hints.is_empty()
            || select_modifiers.is_some()
            || top.is_some()
            || exclude.is_some()
            || !lateral_views.is_empty()
            || prewhere.is_some()
            || !connect_by.is_empty()
            || !cluster_by.is_empty()
            || !distribute_by.is_empty()
            || !sort_by.is_empty()
            || !named_window.is_empty()
            || qualify.is_some()
            || value_table_mode.is_some()
            || !matches!(flavor, SelectFlavor::Standard);
        no(foreign, "clauses that Postgres does not have, or WINDOW")?;
        self.levels.push(Level::default());
        let mut there = Columns::default();
        for tables in from {
            there.append(self.joined(tables)?)?;
        }
        self.levels.last_mut().expect("it was just pushed").whole = true;
        if let Some(Distinct::On(all)) = distinct {
            all.iter_mut().try_for_each(|it| self.expr(it))?;
        }
        let mut columns = Columns::default();
        for item in projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    self.expr(expr)?;
                    columns.push(named(expr));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.expr(expr)?;
                    ident(alias)?;
                    columns.push(Some(folded(alias)));
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), more) => {
                    one_part(name)?;
                    plain(more)?;
                    columns.append(columns_of(&self.levels, one_part_of(name)?)?.clone())?;
                }
                SelectItem::Wildcard(more) => {
                    plain(more)?;
                    columns.append(there.clone())?;
                }
                SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
                    return Err(not("this kind of *"));
                }
            }
        }
        selection.iter_mut().chain(having.iter_mut()).try_for_each(|it| self.expr(it))?;
        match group_by {
            GroupByExpr::Expressions(all, modifiers) => {
                no(!modifiers.is_empty(), "this kind of GROUP BY")?;
                all.iter_mut().try_for_each(|it| self.expr(it))?;
            }
            GroupByExpr::All(_) => return Err(not("GROUP BY ALL")),
        }
        Ok((columns, self.levels.pop().expect("it was pushed above")))
    }

    /// Gives the columns of all of them, in the order of `*`.
    fn joined(&mut self, tables: &mut TableWithJoins) -> Result<Columns> {
        let mut all = self.table(&mut tables.relation)?;
        for join in &mut tables.joins {
            no(join.global, "GLOBAL")?;
            let right = self.table(&mut join.relation)?;
            let (JoinOperator::Join(on)
            | JoinOperator::Inner(on)
            | JoinOperator::Left(on)
            | JoinOperator::LeftOuter(on)
            | JoinOperator::Right(on)
            | JoinOperator::RightOuter(on)
            | JoinOperator::FullOuter(on)
            | JoinOperator::CrossJoin(on)) = &mut join.join_operator
            else {
                return Err(not("this kind of join"));
            };
            match on {
                JoinConstraint::On(expr) => {
                    self.expr(expr)?;
                    all.append(right)?;
                }
                JoinConstraint::Using(columns) => {
                    columns.iter().try_for_each(one_part)?;
                    let both = columns.iter().map(|it| one_part_of(it).map(folded)).collect::<Result<_>>()?;
                    all = all.merged(right, both)?;
                }
                JoinConstraint::Natural => {
                    let both = all.shared_with(&right);
                    all = all.merged(right, both)?;
                }
                JoinConstraint::None => all.append(right)?,
            }
        }
        Ok(all)
    }

    fn table(&mut self, table: &mut TableFactor) -> Result<Columns> {
        let before = self.relations().len();
        let columns = self.table_itself(table)?;
        self.columns += columns.len();
        no(self.columns > MAX_COLUMNS, "tables with more than 100,000 columns together")?;
        // Those within a join that has a name cannot be seen from outside.
        if let TableFactor::NestedJoin { alias: Some(_), .. } = table {
            self.relations().truncate(before);
        }
        let name = match table {
            TableFactor::Table { alias: None, name, .. } => Some(one_part_of(name)?.clone()),
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => alias.as_ref().map(|it| it.name.clone()),
            _ => None,
        };
        if let Some(name) = name {
            // What the database itself calls a list of VALUES, which would be taken first.
            no(name.value.starts_with('*'), "tables whose names begin with *")?;
            self.relations().push((folded(&name), columns.clone()));
        }
        Ok(columns)
    }

    /// Those of the SELECT whose FROM is being read.
    fn relations(&mut self) -> &mut Vec<(String, Columns)> {
        &mut self.levels.last_mut().expect("a FROM is part of a SELECT").relations
    }

    fn table_itself(&mut self, table: &mut TableFactor) -> Result<Columns> {
        match table {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                let foreign = !with_hints.is_empty()
                    || version.is_some()
                    || !partitions.is_empty()
                    || json_path.is_some()
                    || sample.is_some()
                    || !index_hints.is_empty();
                no(foreign, "anything but an alias after a table")?;
                if let Some(alias) = alias {
                    aliased(alias)?;
                }
                if let Some(args) = args {
                    no(args.settings.is_some(), "SETTINGS")?;
                    function(name, SET_FUNCTIONS)?;
                    args.args.iter_mut().try_for_each(|it| self.argument(it))?;
                    return Ok(given_by(one_part_of(name)?, args.args.len(), *with_ordinality, alias));
                }
                let name = one_part_of(name)?.clone();
                ident(&name)?;
                not_the_systems(&name)?;
                let common =
                    |scope: &Vec<(String, Columns)>| scope.iter().rev().find(|it| it.0 == folded(&name)).cloned();
                if let Some((_, columns)) = self.scopes.iter().rev().find_map(common) {
                    return Ok(columns.renamed(alias.as_ref()));
                }
                let (stands_for, columns) = self.tables.named(&name, alias.take())?;
                *table = stands_for;
                Ok(columns)
            }
            TableFactor::Derived { lateral: _, subquery, alias, sample } => {
                no(sample.is_some(), "TABLESAMPLE")?;
                alias.as_ref().map_or(Ok(()), aliased)?;
                Ok(self.query(subquery)?.renamed(alias.as_ref()))
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality, alias } => {
                alias.as_ref().map_or(Ok(()), aliased)?;
                function(name, SET_FUNCTIONS)?;
                args.iter_mut().try_for_each(|it| self.argument(it))?;
                Ok(given_by(one_part_of(name)?, args.len(), *with_ordinality, alias))
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset, with_offset_alias, with_ordinality } => {
                no(*with_offset || with_offset_alias.is_some(), "WITH OFFSET")?;
                alias.as_ref().map_or(Ok(()), aliased)?;
                array_exprs.iter_mut().try_for_each(|it| self.expr(it))?;
                Ok(given_by(&Ident::new("unnest"), array_exprs.len(), *with_ordinality, alias))
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                alias.as_ref().map_or(Ok(()), aliased)?;
                Ok(self.joined(table_with_joins)?.renamed(alias.as_ref()))
            }
            _ => Err(not("this kind of table")),
        }
    }

    fn ordered(&mut self, all: &mut [OrderByExpr]) -> Result<()> {
        all.iter_mut().try_for_each(|it| {
            no(it.with_fill.is_some(), "WITH FILL")?;
            no(matches!(it.options.sort, Some(sqlparser::ast::OrderBySort::Using(_))), "ORDER BY … USING")?;
            self.expr(&mut it.expr)
        })
    }

    fn all<'a>(&mut self, exprs: impl IntoIterator<Item = &'a mut Box<Expr>>) -> Result<()> {
        exprs.into_iter().try_for_each(|it| self.expr(it))
    }

    fn expr_itself(&mut self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::Identifier(name) => column(name),
            Expr::CompoundIdentifier(names) => {
                let [relation, name] = &names[..] else { return Err(not("names of more than two parts")) };
                ident(relation)?;
                column(name)?;
                column_of(&self.levels, relation, name)
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expr(root)?;
                access_chain.iter_mut().try_for_each(|it| match it {
                    AccessExpr::Subscript(Subscript::Index { index }) => self.expr(index),
                    _ => Err(not("fields of expressions, or slices")),
                })
            }
            Expr::IsFalse(it)
            | Expr::IsNotFalse(it)
            | Expr::IsTrue(it)
            | Expr::IsNotTrue(it)
            | Expr::IsNull(it)
            | Expr::IsNotNull(it)
            | Expr::IsUnknown(it)
            | Expr::IsNotUnknown(it)
            | Expr::Nested(it) => self.expr(it),
            Expr::IsDistinctFrom(one, other) | Expr::IsNotDistinctFrom(one, other) => self.all([one, other]),
            Expr::InList { expr, list, negated: _ } => {
                self.expr(expr)?;
                list.iter_mut().try_for_each(|it| self.expr(it))
            }
            Expr::InSubquery { expr, subquery, negated: _ } => {
                self.expr(expr)?;
                self.query(subquery).map(drop)
            }
            Expr::Between { expr, negated: _, low, high } => self.all([expr, low, high]),
            Expr::BinaryOp { left, op, right } => {
                operator(op)?;
                self.all([left, right])
            }
            Expr::AnyOp { left, compare_op, right, is_some: _ } | Expr::AllOp { left, compare_op, right } => {
                operator(compare_op)?;
                self.all([left, right])
            }
            Expr::Like { any, expr, pattern, escape_char, .. }
            | Expr::ILike { any, expr, pattern, escape_char, .. } => {
                no(*any, "LIKE ANY")?;
                self.all([expr, pattern])?;
                self.all(escape_char)
            }
            Expr::UnaryOp { op, expr } => {
                no(!matches!(op, UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not), "this operator")?;
                self.expr(expr)
            }
            Expr::Cast { kind, expr, data_type: to, format } => {
                let usual = matches!(kind, CastKind::Cast | CastKind::DoubleColon) && format.is_none();
                no(!usual, "this kind of cast")?;
                data_type(to)?;
                self.expr(expr)
            }
            Expr::TypedString(typed) => {
                no(typed.uses_odbc_syntax, "ODBC's braces")?;
                data_type(&typed.data_type)?;
                value(&typed.value)
            }
            Expr::AtTimeZone { timestamp, time_zone } => self.all([timestamp, time_zone]),
            Expr::Extract { field: _, syntax: _, expr } => self.expr(expr),
            Expr::Ceil { expr, field } | Expr::Floor { expr, field } => {
                let usual = matches!(field, CeilFloorKind::DateTimeField(sqlparser::ast::DateTimeField::NoDateTime));
                no(!usual, "this kind of rounding")?;
                self.expr(expr)
            }
            Expr::Position { expr, r#in } => self.all([expr, r#in]),
            Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                self.expr(expr)?;
                self.all(substring_from.iter_mut().chain(substring_for))
            }
            Expr::Trim { trim_where: _, trim_what, expr, trim_characters } => {
                self.expr(expr)?;
                self.all(trim_what)?;
                trim_characters.iter_mut().flatten().try_for_each(|it| self.expr(it))
            }
            Expr::Value(it) => value(it),
            Expr::Function(it) => self.function(it),
            Expr::Case { operand, conditions, else_result, .. } => {
                self.all(operand.iter_mut().chain(else_result))?;
                conditions.iter_mut().try_for_each(|it| {
                    self.expr(&mut it.condition)?;
                    self.expr(&mut it.result)
                })
            }
            Expr::Exists { subquery, negated: _ } | Expr::Subquery(subquery) => self.query(subquery).map(drop),
            Expr::Tuple(all) => all.iter_mut().try_for_each(|it| self.expr(it)),
            Expr::Array(array) => array.elem.iter_mut().try_for_each(|it| self.expr(it)),
            Expr::Interval(interval) => self.expr(&mut interval.value),
            _ => Err(not("this kind of expression")),
        }
    }

    fn function(&mut self, call: &mut Function) -> Result<()> {
        let Function { name, uses_odbc_syntax, parameters, args, within_group, filter, null_treatment, over } = call;
        function(name, FUNCTIONS)?;
        let foreign = *uses_odbc_syntax || null_treatment.is_some() || !matches!(parameters, FunctionArguments::None);
        no(foreign, "this kind of call")?;
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(_) => return Err(not("this kind of call")),
            FunctionArguments::List(list) => {
                list.args.iter_mut().try_for_each(|it| self.argument(it))?;
                for clause in &mut list.clauses {
                    match clause {
                        FunctionArgumentClause::OrderBy(all) => self.ordered(all)?,
                        _ => return Err(not("this kind of call")),
                    }
                }
            }
        }
        self.ordered(within_group)?;
        self.all(filter)?;
        match over {
            None => Ok(()),
            Some(WindowType::NamedWindow(_)) => Err(not("WINDOW")),
            Some(WindowType::WindowSpec(window)) => {
                no(window.window_name.is_some() || window.window_frame.is_some(), "frames of windows")?;
                window.partition_by.iter_mut().try_for_each(|it| self.expr(it))?;
                self.ordered(&mut window.order_by)
            }
        }
    }

    fn argument(&mut self, argument: &mut FunctionArg) -> Result<()> {
        match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => self.expr(expr),
            FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => Ok(()),
            _ => Err(not("named arguments")),
        }
    }
}

fn aliased(alias: &TableAlias) -> Result<()> {
    no(alias.at.is_some(), "AT")?;
    ident(&alias.name)?;
    for column in &alias.columns {
        ident(&column.name)?;
        column.data_type.as_ref().map_or(Ok(()), data_type)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
