//! A part of a file, as RFC 9110, 14 has it: one range of bytes, or the whole.

use axum::http::{HeaderMap, header};
use std::ops::Range;

/// What of a file is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Whole,
    Part(Range<u64>),
    /// Nothing of it is there.
    Beyond,
}

/// What is asked for of a file of this size. Several ranges, and what is not understood, are the whole, as they may be.
pub(super) fn asked(headers: &HeaderMap, size_bytes: u64) -> Asked {
    // Tags of ours are weak, and a part of another version must not be put to what somebody has (13.1.5).
    if headers.contains_key(header::IF_RANGE) {
        return Asked::Whole;
    }
    let value = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    value.and_then(|value| part(value, size_bytes)).unwrap_or(Asked::Whole)
}

fn part(value: &str, size_bytes: u64) -> Option<Asked> {
    let (unit, range) = value.split_once('=')?;
    let (first, last) = range.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes"))?;
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let range = match (first, last) {
        ("", last) => size_bytes.saturating_sub(number(last)?)..size_bytes,
        (first, "") => number(first)?..size_bytes,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size_bytes)
        }
    };
    Some(if range.is_empty() { Asked::Beyond } else { Asked::Part(range) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: &str, size_bytes: u64) -> Asked {
        let headers = HeaderMap::from_iter([(header::RANGE, range.parse().unwrap())]);
        asked(&headers, size_bytes)
    }

    #[test]
    fn one_range_is_a_part() {
        for (range, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-499", 0..500),
            ("bytes=500-", 500..1000),
            ("bytes=-1", 999..1000),
            ("bytes=-5000", 0..1000),
            ("bytes=900-99999999999999999999999", 900..1000),
            ("Bytes=999-999", 999..1000),
        ] {
            assert_eq!(of(range, 1000), Asked::Part(part), "{range}");
        }
    }

    #[test]
    fn what_is_beyond_is_told_from_what_is_not_understood() {
        for range in ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(of(range, 1000), Asked::Beyond, "{range}");
        }
        assert_eq!((of("bytes=0-", 0), of("bytes=-1", 0)), (Asked::Beyond, Asked::Beyond));
        for range in
            ["bytes=0-1,3-4", "bytes=5-4", "bytes=-", "bytes=a-b", "bytes=+1-2", "lines=0-1", "bytes", "bytes=--1"]
        {
            assert_eq!(of(range, 1000), Asked::Whole, "{range}");
        }
    }

    #[test]
    fn a_part_under_a_condition_is_the_whole() {
        let headers = HeaderMap::from_iter([
            (header::RANGE, "bytes=0-1".parse().unwrap()),
            (header::IF_RANGE, "W/\"abc\"".parse().unwrap()),
        ]);
        assert_eq!((asked(&headers, 10), asked(&HeaderMap::new(), 10)), (Asked::Whole, Asked::Whole));
    }
}
