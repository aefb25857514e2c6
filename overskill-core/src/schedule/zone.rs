//! Time zones by name.

use super::compared_by_text;
use crate::{ParseError, parse::text_newtype};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A time zone of the IANA time zone database, such as `Europe/Berlin`, spelled as there. The default is `UTC`.
///
/// Only the database that is compiled in is asked, never the machine's: the same name gives the same rules on every
/// machine of one release. Old names that the database keeps as links, such as `US/Eastern`, are taken.
///
/// ```
/// use overskill_core::TimeZoneName;
/// assert_eq!(TimeZoneName::parse("Pacific/Chatham")?.as_str(), "Pacific/Chatham");
/// assert!(TimeZoneName::parse("Europe/Atlantis").is_err());
/// assert_eq!(TimeZoneName::default().as_str(), "UTC");
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeZoneName(Arc<str>, TimeZone);

impl TimeZoneName {
    /// Takes a name as it is.
    pub fn parse(s: &str) -> Result<Self, ParseError> {
        match TimeZoneDatabase::bundled().get(s) {
            Ok(zone) if zone.iana_name() == Some(s) && !zone.is_unknown() => Ok(Self(s.into(), zone)),
            _ => Err(ParseError::new(
                "time zone",
                "must be a name of the IANA time zone database, spelled as there (Europe/Berlin, UTC)",
                s,
            )),
        }
    }

    /// Universal time: no clock changes.
    pub fn utc() -> Self {
        Self("UTC".into(), TimeZone::UTC)
    }

    pub(super) fn rules(&self) -> &TimeZone {
        &self.1
    }
}

impl Default for TimeZoneName {
    fn default() -> Self {
        Self::utc()
    }
}

text_newtype!(TimeZoneName);
compared_by_text!(TimeZoneName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_names_of_the_database_are_taken_spelled_as_there() {
        for good in ["UTC", "Etc/UTC", "America/New_York", "US/Eastern", "America/Argentina/Buenos_Aires", "Etc/GMT+5"]
        {
            assert_eq!(TimeZoneName::parse(good).unwrap().as_str(), good);
        }
        for bad in
            ["", "utc", "america/new_york", "Etc/Unknown", "localtime", "EST5EDT4", "+02:00", "../etc/passwd", " UTC"]
        {
            assert!(TimeZoneName::parse(bad).is_err(), "{bad}");
        }
        let e = TimeZoneName::parse("Europe/Atlantis").unwrap_err();
        assert!(e.to_string().starts_with("time zone must be a name of the IANA time zone database"), "{e}");
        assert_eq!(TimeZoneName::parse("UTC").unwrap(), TimeZoneName::default());
    }

    #[test]
    fn every_name_of_the_database_is_taken() {
        let names = TimeZoneDatabase::bundled().available().map(|n| n.to_string()).collect::<Vec<_>>();
        assert!(names.len() > 500, "{}", names.len());
        for name in names {
            assert_eq!(TimeZoneName::parse(&name).unwrap().as_str(), name);
        }
    }

    proptest! {
        #[test]
        fn never_panics(s in ".{0,60}") {
            if let Ok(z) = TimeZoneName::parse(&s) { prop_assert_eq!(z.as_str(), s); }
        }
    }
}
