//! When a job runs: [`Schedule`], [`CronExpression`], [`TimeZoneName`]. Pure: nothing here reads a clock.

mod cron;
mod note;
mod syntax;
mod zone;

pub use cron::CronExpression;
pub use note::CronNote;
pub use zone::TimeZoneName;

use crate::Timestamp;
use serde::{Deserialize, Serialize};

/// When a job runs.
///
/// As JSON: `{"kind":"cron","expression":"0 9 * * MON-FRI","zone":"Europe/Berlin"}` (without `zone`: UTC),
/// `{"kind":"at","at":1767225600000}` or `{"kind":"on_demand"}`.
///
/// ```
/// use overskill_core::{Schedule, Timestamp};
///
/// let nightly = Schedule::Cron { expression: "30 2 * * *".parse()?, zone: "America/New_York".parse()? };
/// let new_year = Timestamp::from_unix_millis(1_767_225_600_000); // 2026-01-01T00:00:00Z
/// assert_eq!(nightly.next_after(new_year).unwrap().to_string(), "2026-01-01T07:30:00.000Z");
///
/// assert_eq!(Schedule::At(new_year).next_after(Timestamp::EPOCH), Some(new_year));
/// assert_eq!(Schedule::At(new_year).next_after(new_year), None);
/// assert_eq!(Schedule::OnDemand.next_after(new_year), None);
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// Again and again, by the wall clock of a time zone.
    Cron {
        /// At which minutes.
        expression: CronExpression,
        /// On whose wall clock.
        #[serde(default)]
        zone: TimeZoneName,
    },
    /// Once.
    At(#[serde(with = "at")] Timestamp),
    /// Only when triggered.
    OnDemand,
}

impl Schedule {
    /// The first run strictly later than `after`; `None` when there is none.
    ///
    /// ```text
    /// schedule            after       next
    /// Cron 0 12 * * *     12:00:00    12:00 of the next day: a run is not its own successor
    /// At t                before t    t; at t or later: none
    /// OnDemand            any         none
    /// ```
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron { expression, zone } => expression.next_after(after, zone),
            Self::At(at) => Some(*at).filter(|at| *at > after),
            Self::OnDemand => None,
        }
    }
}

/// `At` as an object, so that it can carry the tag.
mod at {
    use crate::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct At {
        at: Timestamp,
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    pub(super) fn serialize<S: Serializer>(at: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        At { at: *at }.serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        At::deserialize(d).map(|a| a.at)
    }
}

/// Comparisons by the text alone, for names that carry what the text was parsed into.
macro_rules! compared_by_text {
    ($name:ident) => {
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0 == other.0
            }
        }
        impl Eq for $name {}
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.0.cmp(&other.0)
            }
        }
        impl std::hash::Hash for $name {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }
    };
}
use compared_by_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_tagged_json() {
        let cron =
            Schedule::Cron { expression: "0 9 * * MON-FRI".parse().unwrap(), zone: "Europe/Berlin".parse().unwrap() };
        for (schedule, json) in [
            (cron, r#"{"kind":"cron","expression":"0 9 * * MON-FRI","zone":"Europe/Berlin"}"#),
            (Schedule::At(Timestamp::from_unix_millis(7)), r#"{"kind":"at","at":7}"#),
            (Schedule::OnDemand, r#"{"kind":"on_demand"}"#),
        ] {
            assert_eq!(serde_json::to_string(&schedule).unwrap(), json);
            assert_eq!(serde_json::from_str::<Schedule>(json).unwrap(), schedule);
        }
        let utc = serde_json::from_str(r#"{"kind":"cron","expression":"@daily"}"#).unwrap();
        assert!(matches!(utc, Schedule::Cron { zone, .. } if zone == TimeZoneName::default()));
        let e = serde_json::from_str::<Schedule>(r#"{"kind":"cron","expression":"0 0 30 2 *"}"#).unwrap_err();
        assert!(e.to_string().contains("cron day of month never comes"), "{e}");
    }
}
