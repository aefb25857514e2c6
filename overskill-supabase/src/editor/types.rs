//! Types of columns, and values that columns begin with.

use super::name::literal;
use overskill_core::{Error, ParseError, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{fmt, str::FromStr};

/// What a column holds. Written as Postgres writes it; `varchar(20)`, `int8` and the like are read too.
///
/// ```
/// use overskill_supabase::ColumnType;
/// assert_eq!(ColumnType::parse("timestamptz")?, ColumnType::Timestamp);
/// assert_eq!(ColumnType::parse("character varying(20)")?.to_string(), "varchar(20)");
/// assert!(ColumnType::parse("strnig").unwrap_err().to_string().contains("text"));
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum ColumnType {
    /// Text of any length.
    Text,
    /// Text of at most this many characters, 1 to 10,485,760.
    Varchar(u32),
    /// A whole number of 32 bits.
    Integer,
    /// A whole number of 64 bits.
    BigInt,
    /// A number of 64 bits with a floating point.
    Double,
    /// A decimal number of any size.
    Numeric,
    /// A decimal number of so many digits (1 to 1,000), so many of them (up to all) behind the point.
    Decimal(u16, u16),
    /// True or false.
    Boolean,
    /// A UUID.
    Uuid,
    /// A day.
    Date,
    /// A moment.
    Timestamp,
    /// JSON.
    Json,
}

impl ColumnType {
    const RULE: &'static str = "must be text, varchar(n), integer, bigint, double precision, numeric, numeric(p,s), \
        boolean, uuid, date, timestamptz or jsonb";

    /// Reads a type. Upper and lower case are alike.
    pub fn parse(s: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError::new("column type", Self::RULE, s);
        let lower = s.trim().to_ascii_lowercase();
        let (name, arguments) = match lower.split_once('(') {
            Some((name, rest)) => (name.trim_end(), Some(rest.strip_suffix(')').ok_or_else(refuse)?)),
            None => (lower.as_str(), None),
        };
        let whole = |text: &str| text.trim().parse::<u32>().map_err(|_| refuse());
        Ok(match (name, arguments) {
            ("text" | "varchar" | "character varying", None) => Self::Text,
            ("varchar" | "character varying", Some(n)) => match whole(n)? {
                n @ 1..=10_485_760 => Self::Varchar(n),
                _ => return Err(refuse()),
            },
            ("integer" | "int" | "int4", None) => Self::Integer,
            ("bigint" | "int8", None) => Self::BigInt,
            ("double precision" | "float8" | "double", None) => Self::Double,
            ("numeric" | "decimal", None) => Self::Numeric,
            ("numeric" | "decimal", Some(of)) => {
                let (digits, behind) = of.split_once(',').unwrap_or((of, "0"));
                match (whole(digits)?, whole(behind)?) {
                    (digits @ 1..=1_000, behind) if behind <= digits => Self::Decimal(
                        u16::try_from(digits).map_err(|_| refuse())?,
                        u16::try_from(behind).map_err(|_| refuse())?,
                    ),
                    _ => return Err(refuse()),
                }
            }
            ("boolean" | "bool", None) => Self::Boolean,
            ("uuid", None) => Self::Uuid,
            ("date", None) => Self::Date,
            ("timestamptz" | "timestamp with time zone", None) => Self::Timestamp,
            ("jsonb" | "json", None) => Self::Json,
            _ => return Err(refuse()),
        })
    }

    /// Whether values are text for whoever writes them.
    pub(super) const fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Varchar(_))
    }

    pub(super) const fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::BigInt | Self::Double | Self::Numeric | Self::Decimal(..))
    }

    /// What becomes of a column of this type that is to be of another; none where there is no way.
    pub(super) fn into(self, to: Self) -> Option<Retype> {
        let way = |rewrites, loses, casts| Some(Retype { rewrites, loses, casts });
        match (self, to) {
            _ if self == to => way(false, false, false),
            (Self::Varchar(_), Self::Text) | (Self::Decimal(..), Self::Numeric) => way(false, false, false),
            (Self::Varchar(n), Self::Varchar(m)) => way(m < n, false, false),
            // Without a cast: it would cut what is too long, where an assignment refuses.
            (Self::Text, Self::Varchar(_))
            | (_, Self::Text)
            | (Self::Integer | Self::BigInt, Self::Integer | Self::BigInt | Self::Numeric | Self::Decimal(..))
            | (Self::Integer, Self::Double)
            | (Self::Date, Self::Timestamp) => way(true, false, false),
            (from, _) if from.is_text() => way(true, false, true),
            (Self::Decimal(p, s), Self::Decimal(q, t)) => way(t != s || q < p, t < s, false),
            (from, to) if from.is_number() && to.is_number() => way(true, true, false),
            (Self::Timestamp, Self::Date) => way(true, true, false),
            _ => None,
        }
    }

    /// As TypeScript.
    pub(crate) const fn typescript(self) -> &'static str {
        match self {
            Self::Text | Self::Varchar(_) | Self::Uuid | Self::Date | Self::Timestamp => "string",
            Self::Integer | Self::BigInt | Self::Double | Self::Numeric | Self::Decimal(..) => "number",
            Self::Boolean => "boolean",
            Self::Json => "Json",
        }
    }
}

/// How a column gets another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retype {
    /// The table is written anew.
    pub(super) rewrites: bool,
    /// Values may lose what does not fit without an error: digits, the time of a day.
    pub(super) loses: bool,
    /// The values have to be read anew.
    pub(super) casts: bool,
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Varchar(n) => return write!(f, "varchar({n})"),
            Self::Decimal(digits, behind) => return write!(f, "numeric({digits},{behind})"),
            Self::Text => "text",
            Self::Integer => "integer",
            Self::BigInt => "bigint",
            Self::Double => "double precision",
            Self::Numeric => "numeric",
            Self::Boolean => "boolean",
            Self::Uuid => "uuid",
            Self::Date => "date",
            Self::Timestamp => "timestamptz",
            Self::Json => "jsonb",
        })
    }
}

impl FromStr for ColumnType {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        Self::parse(s)
    }
}

impl TryFrom<String> for ColumnType {
    type Error = ParseError;
    fn try_from(s: String) -> Result<Self, ParseError> {
        Self::parse(&s)
    }
}

impl From<ColumnType> for String {
    fn from(kind: ColumnType) -> Self {
        kind.to_string()
    }
}

/// What a column holds where nothing was said: a value, or one of two things that are known only when a row is made. Never
/// SQL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DefaultValue {
    /// This value, which has to fit the column: text for text, UUIDs, days and moments, a number for numbers.
    Value(Value),
    /// The moment at which a row is made. For moments and days.
    Now,
    /// A new random UUID. For UUIDs.
    RandomUuid,
}

impl DefaultValue {
    /// Longest value in bytes of JSON.
    pub const MAX_BYTES: usize = 4 * 1024;

    /// As an expression of `kind`; `Invalid` if it is not of that type.
    pub(super) fn sql(&self, kind: ColumnType) -> Result<String> {
        let value = match (self, kind) {
            (Self::Now, ColumnType::Timestamp) => return Ok("now()".into()),
            (Self::Now, ColumnType::Date) => return Ok("CURRENT_DATE".into()),
            (Self::RandomUuid, ColumnType::Uuid) => return Ok("gen_random_uuid()".into()),
            (Self::Value(value), _) => value,
            _ => return Err(Error::invalid(format!("default {self:?} is not for columns of type {kind}"))),
        };
        let text = value.to_string();
        if text.len() > Self::MAX_BYTES {
            let message = format!("default must be at most {} bytes of JSON, but was {}", Self::MAX_BYTES, text.len());
            return Err(Error::invalid(message));
        }
        let refuse = |why: &str| {
            let shown: String = text.chars().take(40).collect();
            Err(Error::invalid(format!("default must {why} for a column of type {kind}, but was {shown}")))
        };
        let plain = match (value, kind) {
            (_, ColumnType::Json) => text,
            (Value::String(s), _) if s.contains('\0') => return refuse("hold no character NUL"),
            (Value::String(s), ColumnType::Varchar(n)) if s.chars().count() > n as usize => {
                return refuse("not be longer than the column");
            }
            (Value::String(s), ColumnType::Uuid) if !is_uuid(s) => return refuse("be a UUID"),
            (Value::String(s), ColumnType::Date | ColumnType::Timestamp) if !is_moment(s, kind) => {
                return refuse("be as 2026-11-22 for a day and 2026-11-22T13:45:00Z for a moment");
            }
            (Value::String(s), kind)
                if kind.is_text() || matches!(kind, ColumnType::Uuid | ColumnType::Date | ColumnType::Timestamp) =>
            {
                s.clone()
            }
            (Value::Bool(b), ColumnType::Boolean) => b.to_string(),
            (Value::Number(n), ColumnType::Integer) if n.as_i64().is_none_or(|n| i32::try_from(n).is_err()) => {
                return refuse("be a whole number of 32 bits");
            }
            (Value::Number(n), ColumnType::BigInt) if n.as_i64().is_none() => {
                return refuse("be a whole number of 64 bits");
            }
            (Value::Number(n), ColumnType::Decimal(digits, behind))
                if n.as_f64().is_none_or(|n| n.abs() >= 10_f64.powi(i32::from(digits) - i32::from(behind))) =>
            {
                return refuse("not have more digits before the point than the column");
            }
            (Value::Number(n), kind) if kind.is_number() => n.to_string(),
            _ => return refuse("be a value of that type"),
        };
        Ok(format!("{}::{kind}", literal(&plain)))
    }

    /// Whether each row gets another value, so that adding such a column writes the table anew.
    pub(super) const fn is_volatile(&self) -> bool {
        matches!(self, Self::RandomUuid)
    }
}

fn is_uuid(s: &str) -> bool {
    s.len() == 36
        && s.bytes()
            .enumerate()
            .all(|(i, b)| if matches!(i, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() })
}

/// Whether digits stand where they should; whether there is such a day is the database's to know.
fn is_moment(s: &str, kind: ColumnType) -> bool {
    let shape: String = s.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    let Some(rest) = shape.strip_prefix("9999-99-99") else { return false };
    if kind == ColumnType::Date {
        return rest.is_empty();
    }
    let Some(rest) = rest.strip_prefix("T99:99:99") else { return false };
    let rest = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches('9'));
    matches!(rest, "Z" | "+99:99" | "-99:99")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALL: [ColumnType; 12] = [
        ColumnType::Text,
        ColumnType::Varchar(7),
        ColumnType::Integer,
        ColumnType::BigInt,
        ColumnType::Double,
        ColumnType::Numeric,
        ColumnType::Decimal(10, 2),
        ColumnType::Boolean,
        ColumnType::Uuid,
        ColumnType::Date,
        ColumnType::Timestamp,
        ColumnType::Json,
    ];

    #[test]
    fn types_are_read_as_they_are_written() {
        for kind in ALL {
            assert_eq!(ColumnType::parse(&kind.to_string()).unwrap(), kind);
        }
        for bad in ["", "strnig", "varchar(0)", "varchar(x)", "numeric(2,3)", "numeric(1001)", "text; DROP", "int[]"] {
            let e = ColumnType::parse(bad).unwrap_err().to_string();
            assert!(e.starts_with("column type must be text, varchar(n)"), "{bad}: {e}");
        }
    }

    #[test]
    fn defaults_are_values_and_never_sql() {
        let sql = |value: Value, kind| DefaultValue::Value(value).sql(kind);
        assert_eq!(sql(json!("'); DROP TABLE x; --"), ColumnType::Text).unwrap(), "'''); DROP TABLE x; --'::text");
        assert_eq!(sql(json!(5), ColumnType::Integer).unwrap(), "'5'::integer");
        assert_eq!(sql(json!({"a": "'"}), ColumnType::Json).unwrap(), r#"'{"a":"''"}'::jsonb"#);
        for (value, kind) in [
            (json!("now()"), ColumnType::Timestamp),
            (json!("5"), ColumnType::Integer),
            (json!(5.5), ColumnType::Integer),
            (json!(3_000_000_000_i64), ColumnType::Integer),
            (json!("x"), ColumnType::Uuid),
            (json!("a\0"), ColumnType::Text),
            (json!("12345678"), ColumnType::Varchar(7)),
            (json!(null), ColumnType::Text),
            (json!("2026-11-22"), ColumnType::Timestamp),
            (json!(1e9), ColumnType::Decimal(10, 2)),
            (json!("x".repeat(5_000)), ColumnType::Text),
        ] {
            let e = sql(value.clone(), kind).unwrap_err().to_string();
            assert!(e.starts_with("default "), "{value}: {e}");
        }
        assert!(sql(json!("2026-11-22T13:45:00.5+01:00"), ColumnType::Timestamp).is_ok());
        assert!(DefaultValue::Now.sql(ColumnType::Text).is_err());
    }

    #[test]
    fn what_would_be_cut_without_a_word_is_told() {
        let loses = |from: ColumnType, to| from.into(to).map(|way| way.loses);
        assert_eq!(loses(ColumnType::Timestamp, ColumnType::Date), Some(true));
        assert_eq!(loses(ColumnType::Double, ColumnType::Integer), Some(true));
        assert_eq!(loses(ColumnType::Decimal(10, 2), ColumnType::Decimal(10, 1)), Some(true));
        assert_eq!(loses(ColumnType::Integer, ColumnType::BigInt), Some(false));
        assert_eq!(loses(ColumnType::Boolean, ColumnType::Uuid), None);
    }
}
