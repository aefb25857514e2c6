//! The small parts of a query: names, values, operators, functions and types.

use super::{
    allow::{no, not, refused},
    words::SYSTEM_COLUMNS,
};
use overskill_core::Result;
use sqlparser::ast::{
    BinaryOperator, DataType, Ident, ObjectName, ObjectNamePart, Value, ValueWithSpan, WildcardAdditionalOptions,
};

/// A name as the database compares it.
pub(super) fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}

/// The database looks for tables among its own, too.
pub(super) fn not_the_systems(name: &Ident) -> Result<()> {
    no(name.value.to_lowercase().starts_with("pg_"), "names that begin with pg_")
}

pub(super) fn ident(name: &Ident) -> Result<()> {
    let bare = name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let quoted = name.quote_style == Some('"') && !name.value.contains('"');
    let sound = (name.quote_style.is_none() && bare || quoted) && !name.value.is_empty() && name.value.len() <= 63;
    no(!sound, "names that are empty, longer than 63 bytes, or written in an unusual way")
}

pub(super) fn column(name: &Ident) -> Result<()> {
    ident(name)?;
    no(SYSTEM_COLUMNS.contains(&folded(name).as_str()), "system columns")
}

pub(super) fn one_part_of(name: &ObjectName) -> Result<&Ident> {
    match &name.0[..] {
        [ObjectNamePart::Identifier(only)] => Ok(only),
        _ => Err(refused(
            "may name tables without a schema only: each is a kind of the app's records, or a table of its own",
        )),
    }
}

pub(super) fn one_part(name: &ObjectName) -> Result<()> {
    one_part_of(name).and_then(ident)
}

pub(super) fn plain(more: &WildcardAdditionalOptions) -> Result<()> {
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

pub(super) fn function(name: &ObjectName, known: &[&str]) -> Result<()> {
    let [ObjectNamePart::Identifier(only)] = &name.0[..] else { return Err(not("functions with a schema")) };
    ident(only)?;
    let name = folded(only);
    if known.contains(&name.as_str()) { Ok(()) } else { Err(not(&format!("the function `{name}`"))) }
}

pub(super) fn value(value: &ValueWithSpan) -> Result<()> {
    let usual =
        matches!(value.value, Value::Number(_, false) | Value::SingleQuotedString(_) | Value::Boolean(_) | Value::Null);
    no(!usual, "parameters, or text that is not in plain single quotes")
}

pub(super) fn operator(operator: &BinaryOperator) -> Result<()> {
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
pub(super) fn data_type(of: &DataType) -> Result<()> {
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
