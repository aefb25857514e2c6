//! Between rows and domain types.

use crate::fault::Fault;
use overskill_core::{AppId, Effect, Error, ErrorKind, ParseError, Result, Scope};
use std::str::FromStr;

/// Parses text of a row that this library wrote. What does not parse was altered: `Unexpected`.
pub(crate) fn stored<T: FromStr<Err = ParseError>>(text: &str) -> Result<T> {
    text.parse().map_err(altered)
}

/// The scope of a row.
pub(crate) fn scope(app: &str, environment: &str) -> Result<Scope> {
    Ok(Scope::new(AppId::parse(app).map_err(altered)?, stored(environment)?))
}

/// A number as databases keep it. Numbers over 2⁶³ are refused.
pub(crate) fn int(n: u64) -> Result<i64> {
    i64::try_from(n).map_err(|_| Error::invalid(format!("number must be below 2^63, but was {n}")))
}

/// A number of a row. Negative ones were never written.
pub(crate) fn number(n: i64) -> Result<u64> {
    u64::try_from(n).map_err(altered)
}

/// Text of a row that no type parses.
pub(crate) fn altered(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = "a stored row is not one that this library writes: was the database altered by hand?";
    Error::new(ErrorKind::Unexpected, message).effect_as(Effect::None).caused_by(source)
}

impl From<ParseError> for Fault {
    fn from(e: ParseError) -> Self {
        Error::from(e).into()
    }
}
