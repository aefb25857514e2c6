//! What a list is asked for.

use super::{EntityApi, refuse};
use overskill_core::Result;

/// A list, as its query asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListQuery {
    /// Fields and the values they must have.
    pub(super) filters: Vec<(String, String)>,
    pub(super) sort: Sort,
    pub(super) from: From,
    pub(super) limit: u32,
}

/// In which order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// As they were created.
    Created { descending: bool },
    /// By when they were last changed.
    Updated { descending: bool },
    /// By id.
    Id { descending: bool },
    /// By a field.
    Field { name: String, descending: bool },
}

/// Where a page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Offset(u32),
    /// After the row of that number, whatever the order.
    Row(i64),
    /// After what was changed at that millisecond and has that number: the row itself may be changed again.
    Updated {
        millis: i64,
        row: i64,
    },
}

/// Most filters in one query.
const MAX_FILTERS: usize = 16;

impl ListQuery {
    pub(super) fn parse(query: &[(String, String)]) -> Result<Self> {
        let (mut filters, mut sort, mut limit) = (Vec::new(), None, None);
        let (mut offset, mut cursor) = (None, None);
        for (name, value) in query {
            let number =
                |field| -> Result<u32> { value.parse().map_err(|_| refuse(field, "must be a whole number", value)) };
            match name.as_str() {
                "limit" => {
                    let given = number("limit")?;
                    if given == 0 || given > EntityApi::MAX_LIMIT {
                        return Err(refuse("limit", "must be 1 to 1,000", value));
                    }
                    limit = Some(given);
                }
                "offset" => offset = Some(From::Offset(number("offset")?)),
                "cursor" => cursor = Some(From::parse(value)?),
                "sort" => sort = Some(Sort::parse(value)?),
                _ => {
                    if filters.len() == MAX_FILTERS {
                        return Err(refuse("query", "may have at most 16 filters", name));
                    }
                    super::query::name("filter", name)?;
                    filters.push((name.clone(), value.clone()));
                }
            }
        }
        let sort = sort.unwrap_or(Sort::Created { descending: false });
        let from = match (cursor, offset) {
            (Some(_), Some(_)) => return Err(refuse("offset", "may not stand beside a cursor", "both")),
            (Some(from), None) if matches!(from, From::Updated { .. }) != matches!(sort, Sort::Updated { .. }) => {
                return Err(refuse(
                    "cursor",
                    "must be used with the sort that it came from",
                    "a cursor of another sort",
                ));
            }
            (from, other) => from.or(other).unwrap_or(From::Offset(0)),
        };
        Ok(Self { filters, sort, from, limit: limit.unwrap_or(EntityApi::DEFAULT_LIMIT) })
    }
}

impl Sort {
    pub(super) fn is_descending(&self) -> bool {
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

impl From {
    /// As text that means nothing to anybody else.
    pub(super) fn to_cursor(self) -> String {
        match self {
            Self::Offset(offset) => format!("o{offset}"), // never given out: what comes and goes would shift it
            Self::Row(row) => format!("r{row}"),
            Self::Updated { millis, row } => format!("u{millis}.{row}"),
        }
    }

    fn parse(cursor: &str) -> Result<Self> {
        let row = || cursor.strip_prefix('r')?.parse().ok().map(Self::Row);
        let updated = || {
            let (millis, row) = cursor.strip_prefix('u')?.split_once('.')?;
            Some(Self::Updated { millis: millis.parse().ok()?, row: row.parse().ok()? })
        };
        row().or_else(updated).ok_or_else(|| refuse("cursor", "must be what `next` was in the page before", cursor))
    }
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
        assert_eq!((query.limit, query.from, query.sort), (100, From::Offset(0), Sort::Created { descending: false }));
        let query = parse(&[("done", "false"), ("sort", "-priority"), ("limit", "5"), ("offset", "10")]).unwrap();
        assert_eq!(query.filters, [("done".to_owned(), "false".to_owned())]);
        assert_eq!(query.sort, Sort::Field { name: "priority".into(), descending: true });
        assert_eq!((query.limit, query.from), (5, From::Offset(10)));
    }

    #[test]
    fn bad_queries_name_what_is_wrong() {
        for (query, word) in [
            (vec![("limit", "0")], "limit"),
            (vec![("limit", "1001")], "1,000"),
            (vec![("limit", "many")], "whole number"),
            (vec![("offset", "-1")], "offset"),
            (vec![("cursor", "x")], "cursor"),
            (vec![("cursor", "r1"), ("offset", "1")], "offset"),
            (vec![("cursor", "r1"), ("sort", "updated_at")], "cursor"),
            (vec![("cursor", "u1.1"), ("sort", "title")], "cursor"),
            (vec![("cursor", "o1")], "cursor"),
            (vec![("sort", "a b")], "sort"),
            (vec![("a'b", "x")], "filter"),
            (vec![("a", "x"); 17], "16"),
        ] {
            let e = parse(&query).unwrap_err();
            assert!(e.public_message().contains(word), "{query:?}: {e}");
        }
    }

    #[test]
    fn cursors_round_trip() {
        for from in [From::Row(42), From::Updated { millis: -7, row: 42 }] {
            assert_eq!(From::parse(&from.to_cursor()).unwrap(), from);
        }
    }
}
