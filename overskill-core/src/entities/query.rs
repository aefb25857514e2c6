//! What a list is asked for.

use super::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::{ParseError, Result};

/// A list, as its query asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListQuery {
    /// Fields and the values they must have, as text.
    pub filters: Vec<(String, String)>,
    /// In which order.
    pub sort: Sort,
    /// Where the page begins.
    pub from: Start,
    /// How many records at most, 1 to 1,000.
    pub limit: u32,
}

/// In which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sort {
    /// As they were created.
    Created {
        /// The last first.
        descending: bool,
    },
    /// By when they were last changed.
    Updated {
        /// The last first.
        descending: bool,
    },
    /// By id.
    Id {
        /// The last first.
        descending: bool,
    },
    /// By a field: those without it first, then numbers, then text.
    Field {
        /// Which.
        name: String,
        /// The last first.
        descending: bool,
    },
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// After so many records.
    Offset(u32),
    /// At what the store's own `next` was.
    Cursor(String),
}

/// Most filters in one query.
const MAX_FILTERS: usize = 16;

impl ListQuery {
    /// Takes a request's query.
    pub fn parse(query: &[(String, String)]) -> Result<Self> {
        let (mut filters, mut sort, mut limit) = (Vec::new(), None, None);
        let (mut offset, mut cursor) = (None, None);
        for (name, value) in query {
            let number =
                |field| -> Result<u32> { value.parse().map_err(|_| refuse(field, "must be a whole number", value)) };
            match name.as_str() {
                "limit" => {
                    let given = number("limit")?;
                    if given == 0 || given > MAX_LIMIT {
                        return Err(refuse("limit", "must be 1 to 1,000", value));
                    }
                    limit = Some(given);
                }
                "offset" => offset = Some(Start::Offset(number("offset")?)),
                "cursor" => cursor = Some(Start::Cursor(cursor_text(value)?)),
                "sort" => sort = Some(Sort::parse(value)?),
                _ => {
                    if filters.len() == MAX_FILTERS {
                        return Err(refuse("query", "may have at most 16 filters", name));
                    }
                    self::name("filter", name)?;
                    filters.push((name.clone(), value.clone()));
                }
            }
        }
        let sort = sort.unwrap_or(Sort::Created { descending: false });
        let from = match (cursor, offset) {
            (Some(_), Some(_)) => return Err(refuse("offset", "may not stand beside a cursor", "both")),
            (from, other) => from.or(other).unwrap_or(Start::Offset(0)),
        };
        Ok(Self { filters, sort, from, limit: limit.unwrap_or(DEFAULT_LIMIT) })
    }
}

impl Sort {
    /// Whether the last comes first.
    pub fn is_descending(&self) -> bool {
        let (Self::Created { descending }
        | Self::Updated { descending }
        | Self::Id { descending }
        | Self::Field { descending, .. }) = self;
        *descending
    }

    fn parse(text: &str) -> Result<Self> {
        let descending = text.starts_with('-');
        let field = text.strip_prefix('-').unwrap_or(text);
        name("sort", field)?;
        Ok(match field {
            "created_at" | "created_date" => Self::Created { descending },
            "updated_at" | "updated_date" => Self::Updated { descending },
            "id" => Self::Id { descending },
            _ => Self::Field { name: field.to_owned(), descending },
        })
    }
}

/// What a store refuses when a cursor is none of its own, or one of another sort.
pub fn not_a_cursor(given: &str) -> crate::Error {
    refuse("cursor", "must be what `next` was in the page before, with the sort that it came from", given)
}

fn cursor_text(value: &str) -> Result<String> {
    if value.is_empty() || value.len() > 256 || !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(not_a_cursor(value));
    }
    Ok(value.to_owned())
}

fn refuse(field: &'static str, rule: &'static str, given: &str) -> crate::Error {
    ParseError::new(field, rule, given).into()
}

/// The name of an entity or a field.
pub(super) fn name(field: &'static str, name: &str) -> Result<()> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) || name.as_bytes()[0].is_ascii_digit() {
        return Err(refuse(field, "must be 1 to 64 of A-Z, a-z, 0-9 and _, not beginning with a digit", name));
    }
    Ok(())
}

/// The id of a record that the app chose itself.
pub(super) fn id(id: &str) -> Result<()> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    if id.is_empty() || id.len() > 64 || !id.bytes().all(legal) || id.bytes().all(|b| b == b'.') {
        return Err(refuse("field `id`", "must be 1 to 64 of A-Z, a-z, 0-9, _, - and .", id));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<ListQuery> {
        let query: Vec<_> = query.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        ListQuery::parse(&query)
    }

    #[test]
    fn defaults_and_settings() {
        let query = parse(&[]).unwrap();
        assert_eq!((query.limit, query.from, query.sort), (100, Start::Offset(0), Sort::Created { descending: false }));
        let query = parse(&[("done", "false"), ("sort", "-priority"), ("limit", "5"), ("offset", "10")]).unwrap();
        assert_eq!(query.filters, [("done".to_owned(), "false".to_owned())]);
        assert_eq!(query.sort, Sort::Field { name: "priority".into(), descending: true });
        assert_eq!((query.limit, query.from), (5, Start::Offset(10)));
    }

    #[test]
    fn bad_queries_name_what_is_wrong() {
        for (query, word) in [
            (vec![("limit", "0")], "limit"),
            (vec![("limit", "1001")], "1,000"),
            (vec![("limit", "many")], "whole number"),
            (vec![("offset", "-1")], "offset"),
            (vec![("cursor", "")], "cursor"),
            (vec![("cursor", "a\n")], "cursor"),
            (vec![("cursor", "r1"), ("offset", "1")], "offset"),
            (vec![("sort", "a b")], "sort"),
            (vec![("a'b", "x")], "filter"),
            (vec![("a", "x"); 17], "16"),
        ] {
            let e = parse(&query).unwrap_err();
            assert!(e.public_message().contains(word), "{query:?}: {e}");
        }
    }
}
