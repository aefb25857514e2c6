//! `Retry-After` (RFC 9110 § 10.2.3): seconds, or an HTTP date (§ 5.6.7) in any of its three forms.

use jiff::{civil::DateTime, fmt::strtime, tz::TimeZone};
use overskill_core::Timestamp;
use std::time::Duration;

/// Longest wait that is taken from a server, one day: more is a mistake of the server, or of its clock.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// How long a `Retry-After` value asks to wait from `now` on, at most [`MAX_RETRY_AFTER`]. `None` when it is malformed.
///
/// ```
/// use overskill_http::parse_retry_after;
/// use overskill_core::Timestamp;
/// use std::time::Duration;
///
/// let now = Timestamp::from_unix_millis(946_684_740_000); // 1999-12-31T23:59:00Z
/// assert_eq!(parse_retry_after("120", now), Some(Duration::from_mins(2)));
/// assert_eq!(parse_retry_after("Fri, 31 Dec 1999 23:59:59 GMT", now), Some(Duration::from_secs(59)));
/// assert_eq!(parse_retry_after("soon", now), None);
/// ```
pub fn parse_retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        parse_http_date(value, now)?.since(now)
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// An HTTP date: the preferred form, RFC 850's, or asctime's. All must be taken, and all are in GMT.
pub(crate) fn parse_http_date(value: &str, now: Timestamp) -> Option<Timestamp> {
    const FORMS: [&str; 3] = ["%d %b %Y %H:%M:%S GMT", "%d-%b-%y %H:%M:%S GMT", "%b %e %H:%M:%S %Y"];
    // Nothing depends on the day of the week, so a wrong one is forgiven.
    let (_weekday, rest) = value.split_once(' ')?;
    for form in FORMS {
        let Ok(broken_down) = strtime::parse(form, rest) else {
            continue;
        };
        let date = broken_down.to_datetime().ok()?;
        let date = if form.contains("%y") { within_50_years(date, now)? } else { date };
        let zoned = TimeZone::UTC.to_timestamp(date).ok()?;
        return Some(Timestamp::from_unix_millis(zoned.as_millisecond()));
    }
    None
}

/// A year of two digits is the one within 50 years from now on, else the most recent one of the past (§ 5.6.7).
fn within_50_years(date: DateTime, now: Timestamp) -> Option<DateTime> {
    let this_year = jiff::Timestamp::from_millisecond(now.as_unix_millis()).ok()?.to_zoned(TimeZone::UTC).year();
    let century = this_year - this_year.rem_euclid(100);
    let mut year = century + date.year().rem_euclid(100);
    if year > this_year + 50 {
        year -= 100;
    }
    date.with().year(year).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 1994-11-06T08:49:37Z, the moment of RFC 9110's examples.
    const EXAMPLE: Timestamp = Timestamp::from_unix_millis(784_111_777_000);

    #[test]
    fn the_examples_of_rfc_9110_are_understood() {
        let minute_before = EXAMPLE.minus(Duration::from_mins(1));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_http_date(date, minute_before), Some(EXAMPLE), "{date}");
            assert_eq!(parse_retry_after(date, minute_before), Some(Duration::from_mins(1)), "{date}");
        }
        assert_eq!(parse_retry_after("120", EXAMPLE), Some(Duration::from_mins(2)));
    }

    #[test]
    fn what_lies_in_the_past_means_now_and_what_lies_too_far_is_capped() {
        let past = "Fri, 31 Dec 1993 23:59:59 GMT";
        assert_eq!(parse_retry_after(past, EXAMPLE), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("0", EXAMPLE), Some(Duration::ZERO));
        for far in ["99999999999999999999999999", "86401", "Fri, 31 Dec 2199 23:59:59 GMT"] {
            assert_eq!(parse_retry_after(far, EXAMPLE), Some(MAX_RETRY_AFTER), "{far}");
        }
    }

    #[test]
    fn malformed_values_mean_nothing() {
        for bad in [
            "",
            " ",
            "-1",
            "+5",
            "1.5",
            "5s",
            "soon",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Feb 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(parse_retry_after(bad, EXAMPLE), None, "{bad:?}");
        }
    }

    #[test]
    fn years_of_two_digits_lie_within_50_years() {
        let now = Timestamp::from_unix_millis(1_795_305_600_000); // 2026-11-22
        let year = |digits: &str| {
            let date = DateTime::constant(2000 + digits.parse::<i16>().unwrap(), 1, 1, 0, 0, 0, 0);
            within_50_years(date, now).unwrap().year()
        };
        assert_eq!((year("26"), year("76"), year("77"), year("99")), (2026, 2076, 1977, 1999));
    }

    proptest! {
        #[test]
        fn every_date_is_read_back(seconds in 0_i64..4_000_000_000) {
            let at = Timestamp::from_unix_millis(seconds * 1000);
            let zoned = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(TimeZone::UTC);
            for form in ["%a, %d %b %Y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y", "%A, %d-%b-%y %H:%M:%S GMT"] {
                prop_assert_eq!(parse_http_date(&zoned.strftime(form).to_string(), at), Some(at));
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in ".*") {
            let _ = parse_retry_after(&text, EXAMPLE);
        }
    }
}
