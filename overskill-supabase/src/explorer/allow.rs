//! What a developer's query may consist of: an allow-list over the parsed tree, which is then written out anew. What is
//! not named here is refused, so that a construct that nobody thought of is refused too.

use super::words::{FUNCTIONS, SET_FUNCTIONS, SYSTEM_COLUMNS};
use overskill_core::{Error, Result};
use sqlparser::{
    ast::{
        AccessExpr, BinaryOperator, CastKind, CeilFloorKind, Cte, DataType, Distinct, Expr, Function, FunctionArg,
        FunctionArgExpr, FunctionArgumentClause, FunctionArguments, GroupByExpr, Ident, JoinConstraint, JoinOperator,
        LimitClause, ObjectName, ObjectNamePart, OrderByExpr, OrderByKind, Query, Select, SelectFlavor, SelectItem,
        SelectItemQualifiedWildcardKind, SetExpr, SetQuantifier, Statement, Subscript, TableAlias, TableFactor,
        TableWithJoins, UnaryOperator, Value, ValueWithSpan, WildcardAdditionalOptions, WindowType,
    },
    dialect::PostgreSqlDialect,
    parser::Parser,
};

/// Longest query in bytes.
pub(super) const MAX_BYTES: usize = 64 * 1024;

/// The query as it is to be run; `Invalid` says what about it is not allowed.
///
/// Names of tables without a schema are kinds of records: `Task` reads the records of that kind, with the columns `id`,
/// `owner`, `data`, `created_at` and `updated_at`.
pub(super) fn allowed(sql: &str) -> Result<String> {
    if sql.len() > MAX_BYTES {
        return Err(refused(format!("may be at most {MAX_BYTES} bytes long")));
    }
    if sql.contains('\0') {
        return Err(refused("may not hold the character NUL"));
    }
    let mut parsed = parse(sql)?;
    Walk { scopes: Vec::new() }.query(&mut parsed)?;
    let written = parsed.to_string();
    // What is run is what was looked at: read again, it is the same.
    if parse(&written)?.to_string() != written {
        return Err(refused("may not be written so that it can be read in two ways"));
    }
    Ok(written)
}

fn parse(sql: &str) -> Result<Query> {
    let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(50).try_with_sql(sql);
    let statements = parser.and_then(|mut it| it.parse_statements());
    let statements = statements.map_err(|e| refused(format!("cannot be read: {e}")))?;
    match <[Statement; 1]>::try_from(statements) {
        Ok([Statement::Query(query)]) => Ok(*query),
        Ok(_) => Err(refused("may only read: it must be SELECT, VALUES or WITH … SELECT")),
        Err(many) => Err(refused(format!("must be one statement, but was {}", many.len()))),
    }
}

pub(super) fn refused(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("query {why}")).at("explorer", "read")
}

fn not(what: &str) -> Error {
    refused(format!("may not use {what}"))
}

/// `Ok` when there is nothing of `what`.
fn no(there: bool, what: &str) -> Result<()> {
    if there { Err(not(what)) } else { Ok(()) }
}

struct Walk {
    /// Names of common tables that can be seen, from the outside in, as the database compares names.
    scopes: Vec<Vec<String>>,
}

impl Walk {
    fn query(&mut self, query: &mut Query) -> Result<()> {
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
                self.query(query)?;
                aliased(alias)?;
                not_the_systems(&alias.name)?;
                self.scopes.last_mut().expect("one was just pushed").push(folded(&alias.name));
            }
        }
        self.body(body)?;
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
        Ok(())
    }

    fn body(&mut self, body: &mut SetExpr) -> Result<()> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, op: _, set_quantifier, right } => {
                use SetQuantifier::{All, Distinct, None};
                no(!matches!(set_quantifier, All | Distinct | None), "BY NAME")?;
                self.body(left)?;
                self.body(right)
            }
            SetExpr::Values(values) => {
                no(values.explicit_row, "ROW in VALUES")?;
                values.rows.iter_mut().flat_map(|row| row.content.iter_mut()).try_for_each(|it| self.expr(it))
            }
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                Err(not("statements that write"))
            }
            SetExpr::Table(_) => Err(not("TABLE: use SELECT")),
        }
    }

    fn select(&mut self, select: &mut Select) -> Result<()> {
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
        if let Some(Distinct::On(all)) = distinct {
            all.iter_mut().try_for_each(|it| self.expr(it))?;
        }
        from.iter_mut().try_for_each(|it| self.joined(it))?;
        for item in projection {
            match item {
                SelectItem::UnnamedExpr(expr) => self.expr(expr)?,
                SelectItem::ExprWithAlias { expr, alias } => {
                    self.expr(expr)?;
                    ident(alias)?;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), more) => {
                    one_part(name)?;
                    plain(more)?;
                }
                SelectItem::Wildcard(more) => plain(more)?,
                SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
                    return Err(not("this kind of *"));
                }
            }
        }
        selection.iter_mut().chain(having.iter_mut()).try_for_each(|it| self.expr(it))?;
        match group_by {
            GroupByExpr::Expressions(all, modifiers) => {
                no(!modifiers.is_empty(), "this kind of GROUP BY")?;
                all.iter_mut().try_for_each(|it| self.expr(it))
            }
            GroupByExpr::All(_) => Err(not("GROUP BY ALL")),
        }
    }

    fn joined(&mut self, tables: &mut TableWithJoins) -> Result<()> {
        self.table(&mut tables.relation)?;
        for join in &mut tables.joins {
            no(join.global, "GLOBAL")?;
            self.table(&mut join.relation)?;
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
                JoinConstraint::On(expr) => self.expr(expr)?,
                JoinConstraint::Using(columns) => columns.iter().try_for_each(one_part)?,
                JoinConstraint::Natural | JoinConstraint::None => {}
            }
        }
        Ok(())
    }

    fn table(&mut self, table: &mut TableFactor) -> Result<()> {
        match table {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality: _,
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
                    return args.args.iter_mut().try_for_each(|it| self.argument(it));
                }
                let name = one_part_of(name)?.clone();
                ident(&name)?;
                not_the_systems(&name)?;
                if self.scopes.iter().flatten().any(|it| *it == folded(&name)) {
                    return Ok(());
                }
                *table = records(&name, alias.take())?;
                Ok(())
            }
            TableFactor::Derived { lateral: _, subquery, alias, sample } => {
                no(sample.is_some(), "TABLESAMPLE")?;
                alias.as_ref().map_or(Ok(()), aliased)?;
                self.query(subquery)
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality: _, alias } => {
                alias.as_ref().map_or(Ok(()), aliased)?;
                function(name, SET_FUNCTIONS)?;
                args.iter_mut().try_for_each(|it| self.argument(it))
            }
            TableFactor::UNNEST { alias, array_exprs, with_offset, with_offset_alias, with_ordinality: _ } => {
                no(*with_offset || with_offset_alias.is_some(), "WITH OFFSET")?;
                alias.as_ref().map_or(Ok(()), aliased)?;
                array_exprs.iter_mut().try_for_each(|it| self.expr(it))
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                alias.as_ref().map_or(Ok(()), aliased)?;
                self.joined(table_with_joins)
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

    fn expr(&mut self, expr: &mut Expr) -> Result<()> {
        match expr {
            Expr::Identifier(name) => column(name),
            Expr::CompoundIdentifier(names) => {
                no(names.len() > 2, "names of more than two parts")?;
                names.iter().try_for_each(column)
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
                self.query(subquery)
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
            Expr::Exists { subquery, negated: _ } | Expr::Subquery(subquery) => self.query(subquery),
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

/// `name` as the kind of records it stands for.
fn records(name: &Ident, alias: Option<TableAlias>) -> Result<TableFactor> {
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
        "SELECT id, owner, data, created_at, updated_at FROM overskill_data.entities \
         WHERE entity_type = '{kind}' AND deleted_at IS NULL"
    );
    let alias =
        alias.unwrap_or_else(|| TableAlias { explicit: true, name: name.clone(), columns: Vec::new(), at: None });
    Ok(TableFactor::Derived { lateral: false, subquery: Box::new(parse(&rows)?), alias: Some(alias), sample: None })
}

/// A name as the database compares it.
fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// The database looks for tables among its own, too.
fn not_the_systems(name: &Ident) -> Result<()> {
    no(name.value.to_lowercase().starts_with("pg_"), "names that begin with pg_")
}

fn ident(name: &Ident) -> Result<()> {
    let bare = name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let quoted = name.quote_style == Some('"') && !name.value.contains('"');
    let sound = (name.quote_style.is_none() && bare || quoted) && !name.value.is_empty() && name.value.len() <= 63;
    no(!sound, "names that are empty, longer than 63 bytes, or written in an unusual way")
}

fn column(name: &Ident) -> Result<()> {
    ident(name)?;
    no(SYSTEM_COLUMNS.contains(&folded(name).as_str()), "system columns")
}

fn one_part_of(name: &ObjectName) -> Result<&Ident> {
    match &name.0[..] {
        [ObjectNamePart::Identifier(only)] => Ok(only),
        _ => Err(refused("may name tables without a schema only: each is a kind of the app's records")),
    }
}

fn one_part(name: &ObjectName) -> Result<()> {
    one_part_of(name).and_then(ident)
}

fn plain(more: &WildcardAdditionalOptions) -> Result<()> {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = more;
    let foreign = opt_ilike.is_some()
        || opt_exclude.is_some()
        || opt_except.is_some()
        || opt_replace.is_some()
        || opt_rename.is_some()
        || opt_alias.is_some();
    no(foreign, "anything after *")
}

fn function(name: &ObjectName, known: &[&str]) -> Result<()> {
    let [ObjectNamePart::Identifier(only)] = &name.0[..] else { return Err(not("functions with a schema")) };
    ident(only)?;
    let name = folded(only);
    if known.contains(&name.as_str()) { Ok(()) } else { Err(not(&format!("the function `{name}`"))) }
}

fn value(value: &ValueWithSpan) -> Result<()> {
    let usual =
        matches!(value.value, Value::Number(_, false) | Value::SingleQuotedString(_) | Value::Boolean(_) | Value::Null);
    no(!usual, "parameters, or text that is not in plain single quotes")
}

fn operator(operator: &BinaryOperator) -> Result<()> {
    use BinaryOperator as Op;
    let usual = matches!(
        operator,
        Op::Plus
            | Op::Minus
            | Op::Multiply
            | Op::Divide
            | Op::Modulo
            | Op::StringConcat
            | Op::Gt
            | Op::Lt
            | Op::GtEq
            | Op::LtEq
            | Op::Eq
            | Op::NotEq
            | Op::And
            | Op::Or
            | Op::Arrow
            | Op::LongArrow
            | Op::HashArrow
            | Op::HashLongArrow
            | Op::AtArrow
            | Op::ArrowAt
            | Op::Question
            | Op::QuestionAnd
            | Op::QuestionPipe
            | Op::PGRegexMatch
            | Op::PGRegexIMatch
            | Op::PGRegexNotMatch
            | Op::PGRegexNotIMatch
    );
    no(!usual, "this operator")
}

/// Types that name nothing: `regclass` and its like look names up.
fn data_type(of: &DataType) -> Result<()> {
    use sqlparser::ast::ArrayElemTypeDef::SquareBracket;
    match of {
        DataType::Array(SquareBracket(of, None)) => data_type(of),
        DataType::Character(_)
        | DataType::Char(_)
        | DataType::CharacterVarying(_)
        | DataType::Varchar(_)
        | DataType::Text
        | DataType::Uuid
        | DataType::Numeric(_)
        | DataType::Decimal(_)
        | DataType::Float(_)
        | DataType::SmallInt(_)
        | DataType::Int(_)
        | DataType::Int2(_)
        | DataType::Int4(_)
        | DataType::Int8(_)
        | DataType::Integer(_)
        | DataType::BigInt(_)
        | DataType::Float4
        | DataType::Float8
        | DataType::Real
        | DataType::DoublePrecision
        | DataType::Bool
        | DataType::Boolean
        | DataType::Date
        | DataType::Time(..)
        | DataType::Timestamp(..)
        | DataType::Interval { .. }
        | DataType::JSON
        | DataType::JSONB => Ok(()),
        _ => Err(not("this type")),
    }
}
