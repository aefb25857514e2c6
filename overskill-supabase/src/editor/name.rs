//! Names of tables, columns and what hangs on them.

use overskill_core::{Digest, ParseError};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// The name of a table, a column, an index or a schema: 1 to 63 bytes of `A-Z a-z 0-9 _` that begin with no digit.
///
/// It is what is stored: nothing is folded to lower case, nothing is cut, and quotes are no part of a name. Words that SQL
/// reserves (`order`, `user`) are names like others, for every statement quotes them.
///
/// ```
/// use overskill_supabase::Name;
/// assert_eq!(Name::parse("order")?.as_str(), "order");
/// assert!(Name::parse("\"order\"").is_err());
/// assert!(Name::parse(&"a".repeat(64)).is_err());
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// Longest name in bytes, which is Postgres' own limit: it would cut a longer one.
    pub const MAX_BYTES: usize = 63;

    /// Takes a name as it is.
    pub fn parse(s: &str) -> Result<Self, ParseError> {
        let rule = if s.is_empty() || s.len() > Self::MAX_BYTES {
            "must be 1 to 63 bytes long"
        } else if s.starts_with('"') || s.ends_with('"') {
            "must be given without quotes"
        } else if !s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            "may hold only A-Z, a-z, 0-9 and _"
        } else if s.starts_with(|c: char| c.is_ascii_digit()) {
            "may not begin with a digit"
        } else if ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"].contains(&s) {
            "may not be one of Postgres' own columns (tableoid, xmin, cmin, xmax, cmax, ctid)"
        } else {
            return Ok(Self(s.into()));
        };
        Err(ParseError::new("name", rule, s))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As SQL.
    pub(crate) fn quoted(&self) -> String {
        escape_identifier(&self.0)
    }

    /// A name made of others, such as `todos_title_idx`, that none of `taken` has. Long ones are cut and told apart by a
    /// digest.
    pub(super) fn made_of(parts: &[&str], taken: &[&str]) -> Self {
        let whole = parts.join("_");
        let fits = |name: &str| name.len() <= Self::MAX_BYTES && !taken.contains(&name);
        if fits(&whole) {
            return Self(whole.into());
        }
        let mut turn = 0_u32;
        loop {
            let digest = Digest::of(format!("{whole}/{turn}").as_bytes()).to_string();
            let tail = &digest[digest.len() - 8..];
            let name = format!("{}_{tail}", &whole[..whole.len().min(Self::MAX_BYTES - 9)]);
            if fits(&name) {
                return Self(name.into());
            }
            turn += 1;
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        Self::parse(s)
    }
}

impl TryFrom<String> for Name {
    type Error = ParseError;
    fn try_from(s: String) -> Result<Self, ParseError> {
        Self::parse(&s)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.to_string()
    }
}

/// A name that somebody else may have given, as SQL.
pub(super) fn quoted(name: &str) -> String {
    escape_identifier(name)
}

/// Text as SQL.
pub(super) fn literal(text: &str) -> String {
    escape_literal(text).trim_start().to_owned()
}

/// Several names as SQL.
pub(super) fn list(names: &[Name]) -> String {
    names.iter().map(Name::quoted).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_refused_with_the_rule_that_they_break() {
        for (given, word) in [
            ("", "1 to 63 bytes"),
            (&"n".repeat(64), "1 to 63 bytes"),
            ("\"todos\"", "without quotes"),
            ("to dos", "may hold only"),
            ("todos; DROP TABLE x", "may hold only"),
            ("tödos", "may hold only"),
            ("t\0", "may hold only"),
            ("1st", "digit"),
            ("ctid", "Postgres' own"),
        ] {
            let e = Name::parse(given).unwrap_err().to_string();
            assert!(e.starts_with("name ") && e.contains(word), "{given}: {e}");
        }
        assert!(serde_json::from_str::<Name>("\"a b\"").is_err());
        assert!(Name::parse(&"n".repeat(63)).is_ok());
    }

    #[test]
    fn names_that_are_made_fit_and_differ() {
        assert_eq!(Name::made_of(&["todos", "title", "idx"], &[]).as_str(), "todos_title_idx");
        let second = Name::made_of(&["todos", "title", "idx"], &["todos_title_idx"]);
        assert_ne!(second.as_str(), "todos_title_idx");
        let long = "x".repeat(63);
        let (one, other) = (Name::made_of(&[&long, "a"], &[]), Name::made_of(&[&long, "b"], &[]));
        assert!(one != other && one.as_str().len() == 63);
        assert_eq!(Name::parse(one.as_str()).unwrap(), one);
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r"E'a\\''b'");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
