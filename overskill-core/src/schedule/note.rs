//! Remarks on expressions that are legal but may surprise.

use super::{
    cron::{comes_in, croner_of},
    syntax::{self, DAY_OF_MONTH, DAY_OF_WEEK, HOUR, MINUTE, MONTH},
};
use std::fmt;

/// Something about a [`CronExpression`](crate::CronExpression) that its author may not expect. `Display` says it in a
/// sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CronNote {
    /// `*/7`: the step does not divide the field and starts over, so that the last pause is a shorter one.
    UnevenStep {
        /// What is counted: `minute`, `hour`, `day`, `month` or `weekday`.
        unit: &'static str,
        /// The step.
        step: u16,
    },
    /// `*/90`: the step is as long as the field or longer, so that only the field's first value is left.
    LongStep {
        /// What is counted: `minute`, `hour`, `day`, `month` or `weekday`.
        unit: &'static str,
        /// The step.
        step: u16,
    },
    /// Day of month and day of week are both given, and either is enough.
    EitherDay,
    /// The same, and one of them begins with `*/`: Vixie's own cron and some others would ask for both.
    EitherDayDisputed,
    /// `0 0 30 2 MON`: the day of month never comes, only the day of week counts.
    DayOfMonthNeverComes,
    /// `0 0 31 * *`, `0 0 29 2 *`: some of the months do not have the day, or not in every year.
    MonthsLeftOut,
    /// `30 1,13 * * *`: several given times, some at an hour at which clocks change.
    ClockChange,
}

impl fmt::Display for CronNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |unit| match unit {
            "minute" => "hour",
            "hour" => "day",
            "day" => "month",
            "month" => "year",
            _ => "week",
        };
        match *self {
            Self::UnevenStep { unit, step } => {
                let whole = whole(unit);
                write!(f, "the {unit} step */{step} starts over with each {whole}, so the last pause in each is shorter")
            }
            Self::LongStep { unit, step } => {
                let whole = whole(unit);
                write!(f, "the {unit} step */{step} does not reach beyond the {whole}: only the first {unit} of each counts")
            }
            Self::EitherDay => f.write_str(
                "day of month and day of week are both given and either is enough; a + before the day of week asks for both",
            ),
            Self::EitherDayDisputed => f.write_str(
                "day of month and day of week are both given and either is enough here, while some crons ask for both when \
                 one begins with *; a + before the day of week asks for both",
            ),
            Self::DayOfMonthNeverComes => {
                f.write_str("the day of month never comes in the months given: only the day of week counts")
            }
            Self::MonthsLeftOut => f.write_str(
                "not every month given has that day in every year, and those without it are left out; L is the last day of \
                 any month",
            ),
            Self::ClockChange => f.write_str(
                "where clocks change at one of these times, that run is left out or comes twice; only a job with a single \
                 minute and hour runs exactly once",
            ),
        }
    }
}

/// The notes on an expression of these fields; bit n of `hours` is hour n.
pub(super) fn all(fields: [&str; 5], hours: u64, fixed_time: bool) -> Vec<CronNote> {
    let mut notes = Vec::new();
    for (index, unit, count) in [
        (MINUTE, "minute", 60),
        (HOUR, "hour", 24),
        (DAY_OF_MONTH, "day", 31),
        (MONTH, "month", 12),
        (DAY_OF_WEEK, "weekday", 7),
    ] {
        for step in syntax::star_steps(fields[index]) {
            if step >= count {
                notes.push(CronNote::LongStep { unit, step });
            } else if count % step != 0 || (index == DAY_OF_MONTH && step != 1) {
                notes.push(CronNote::UnevenStep { unit, step });
            }
        }
    }

    let [minute, hour, day_of_month, month, day_of_week] = fields;
    let any_weekday = syntax::is_star(day_of_week);
    let by_day_of_month = croner_of(["0", "0", day_of_month, month, "*"]);
    let mut months = by_day_of_month.iter().flat_map(|cron| (2001..=2028).map(|year| comes_in(&cron.pattern, year)));
    if any_weekday {
        if !months.all(|mut year| year.all(|comes| comes)) {
            notes.push(CronNote::MonthsLeftOut);
        }
    } else if !syntax::is_star(day_of_month) && !day_of_week.starts_with('+') {
        let disputed = [day_of_month, day_of_week].iter().any(|field| field.starts_with('*'));
        notes.push(if disputed { CronNote::EitherDayDisputed } else { CronNote::EitherDay });
        if !months.any(|mut year| year.any(|comes| comes)) {
            notes.push(CronNote::DayOfMonthNeverComes);
        }
    }

    // Nearly every zone changes its clocks between 23:00 and 04:00.
    let at_risk = hours & (1 << 23 | 0b1111) != 0;
    if !fixed_time && at_risk && !minute.contains('*') && !hour.contains('*') {
        notes.push(CronNote::ClockChange);
    }
    notes
}

#[cfg(test)]
mod tests {
    use crate::{CronExpression, CronNote};

    #[test]
    fn what_may_surprise_is_noted_and_nothing_else() {
        let uneven = |unit, step| CronNote::UnevenStep { unit, step };
        let long = |unit, step| CronNote::LongStep { unit, step };
        for (text, notes) in [
            ("* * * * *", vec![]),
            ("@hourly", vec![]),
            ("*/15 */6 * */3 *", vec![]),
            ("0 9,17 * * MON-FRI", vec![]),
            ("30 2 L * *", vec![]),
            ("0 0 1 * +MON", vec![]),
            ("0 0 */1 * *", vec![]),
            ("*/7 * * * *", vec![uneven("minute", 7)]),
            ("5,*/45 */5 * * *", vec![uneven("minute", 45), uneven("hour", 5)]),
            ("0 0 */2 * *", vec![uneven("day", 2)]),
            ("0 0 1 */5 *", vec![uneven("month", 5)]),
            ("0 0 * * */2", vec![uneven("weekday", 2)]),
            ("0 0 * * */2#1", vec![uneven("weekday", 2)]),
            ("*/60 * * * *", vec![long("minute", 60)]),
            ("*/90 * * * *", vec![long("minute", 90)]),
            ("0 0 13 * FRI", vec![CronNote::EitherDay]),
            ("0 0 1-31 * FRI", vec![CronNote::EitherDay]),
            ("0 0 */2 * FRI", vec![uneven("day", 2), CronNote::EitherDayDisputed]),
            ("0 0 30 2 MON", vec![CronNote::EitherDay, CronNote::DayOfMonthNeverComes]),
            ("0 0 31 * *", vec![CronNote::MonthsLeftOut]),
            ("0 0 29 2 *", vec![CronNote::MonthsLeftOut]),
            ("0 0 29-31 1,3 *", vec![]),
            ("30 1,13 * * *", vec![CronNote::ClockChange]),
            ("0-30 2 * * *", vec![CronNote::ClockChange]),
        ] {
            assert_eq!(CronExpression::parse(text).unwrap().notes(), notes, "{text}");
        }
    }

    #[test]
    fn notes_are_sentences() {
        let shown = |text| CronExpression::parse(text).unwrap().notes()[0].to_string();
        assert_eq!(
            shown("*/7 * * * *"),
            "the minute step */7 starts over with each hour, so the last pause in each is shorter"
        );
        assert_eq!(
            shown("0 */24 * * *"),
            "the hour step */24 does not reach beyond the day: only the first hour of each counts"
        );
    }
}
