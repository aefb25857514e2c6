//! How every parser of this crate refuses bad input: it names the field, the limit and what was given.

use crate::{Error, ErrorKind};
use std::fmt;

/// How many characters of what was given an error repeats.
const SHOWN_CHARS: usize = 40;

/// Why some text is not a valid value.
///
/// ```
/// use overskill_core::AppId;
/// let e = AppId::parse("Todo 42").unwrap_err();
/// assert_eq!(e.to_string(), "app id may hold only a-z and 0-9, but was \"Todo 42\"");
/// assert_eq!(e.field(), "app id");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {rule}, but was {given}")]
pub struct ParseError {
    field: &'static str,
    rule: &'static str,
    given: String,
}

impl ParseError {
    /// `field` broke `rule` (a phrase that continues "`field` …", with its limit) with `given`, which is shortened.
    pub fn new(field: &'static str, rule: &'static str, given: &str) -> Self {
        Self { field, rule, given: Shortened(given).to_string() }
    }

    /// The same for a value that may be secret: nothing of it is repeated but its length.
    pub fn secret(field: &'static str, rule: &'static str, given: &str) -> Self {
        Self { field, rule, given: format!("{} bytes long", given.len()) }
    }

    /// What was being parsed.
    pub fn field(&self) -> &'static str {
        self.field
    }

    /// The rule it broke, with its limit.
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

impl From<ParseError> for Error {
    fn from(e: ParseError) -> Self {
        Error::new(ErrorKind::Invalid, e.to_string()).caused_by(e)
    }
}

/// Quotes text for an error: at most 40 characters, control characters escaped.
pub(crate) struct Shortened<'a>(pub(crate) &'a str);

impl fmt::Display for Shortened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        let head: String = chars.by_ref().take(SHOWN_CHARS).collect();
        write!(f, "{head:?}")?;
        if chars.next().is_some() {
            write!(f, "… ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

/// The text traits that every parsed newtype over `Arc<str>` has: `Display`, `Debug`, `FromStr`, `TryFrom`, serde.
macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::ParseError;
            fn from_str(s: &str) -> Result<Self, $crate::ParseError> {
                Self::parse(s)
            }
        }
        impl TryFrom<String> for $name {
            type Error = $crate::ParseError;
            fn try_from(s: String) -> Result<Self, $crate::ParseError> {
                Self::parse(&s)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = $crate::ParseError;
            fn try_from(s: &str) -> Result<Self, $crate::ParseError> {
                Self::parse(s)
            }
        }
        impl From<$name> for String {
            fn from(v: $name) -> String {
                v.0.to_string()
            }
        }
        impl From<&$name> for $name {
            fn from(v: &$name) -> $name {
                v.clone()
            }
        }
    };
}
pub(crate) use text_newtype;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_input_is_shortened_and_control_characters_are_escaped() {
        let e = ParseError::new("thing", "must be short", &format!("a\n{}", "é".repeat(100)));
        let shown = e.to_string();
        assert!(shown.starts_with("thing must be short, but was \"a\\néé"), "{shown}");
        assert!(shown.ends_with("… (202 bytes)"), "{shown}");
        assert!(shown.len() < 160);
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let e = ParseError::secret("token", "must have three parts", "hunter2");
        assert_eq!(e.to_string(), "token must have three parts, but was 7 bytes long");
    }
}
