//! Which texts are taken as cron expressions: field by field, each with its own message.
//!
//! croner takes more than it means (`1,,2`, `0 JAN * * *`, `SUN-SUN`, a lone `,` that never comes), so it is only ever
//! given what passed here.

use crate::ParseError;

pub(super) const MAX_BYTES: usize = 128;

pub(super) const EXPRESSION: &str = "cron expression";

/// Largest step; beyond any field, and small enough that no sum overflows.
const MAX_STEP: u16 = 9_999;

/// The five fields, in the order of the text.
pub(super) const MINUTE: usize = 0;
pub(super) const HOUR: usize = 1;
pub(super) const DAY_OF_MONTH: usize = 2;
pub(super) const MONTH: usize = 3;
pub(super) const DAY_OF_WEEK: usize = 4;

pub(super) const FIELDS: [Field; 5] = [
    Field {
        name: "cron minute",
        rule: "must be `*`, or a comma-separated list of values 0-59, ranges `a-b`, and steps `*/n` or `a-b/n`",
        min: 0,
        max: 59,
        names: &[],
    },
    Field {
        name: "cron hour",
        rule: "must be `*`, or a comma-separated list of values 0-23, ranges `a-b`, and steps `*/n` or `a-b/n`",
        min: 0,
        max: 23,
        names: &[],
    },
    Field {
        name: "cron day of month",
        rule: "must be `*`, or a comma-separated list of values 1-31, ranges `a-b`, steps `*/n` or `a-b/n`, `L` (last \
               day), `LW` (last weekday) and `15W` (weekday nearest the 15th)",
        min: 1,
        max: 31,
        names: &[],
    },
    Field {
        name: "cron month",
        rule: "must be `*`, or a comma-separated list of values 1-12 or JAN-DEC, ranges `a-b`, and steps `*/n` or \
               `a-b/n`",
        min: 1,
        max: 12,
        names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
    },
    Field {
        name: "cron day of week",
        rule: "must be `*`, or a comma-separated list of values 0-7 or SUN-SAT (0 and 7 are Sunday), ranges `a-b`, \
               steps `*/n` or `a-b/n`, `5L` (last Friday) and `5#2` (second Friday), with `+` before it to ask for \
               both day fields",
        min: 0,
        max: 7,
        names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
    },
];

/// What one field takes.
pub(super) struct Field {
    pub(super) name: &'static str,
    rule: &'static str,
    pub(super) min: u16,
    pub(super) max: u16,
    names: &'static [&'static str],
}

/// The five fields of `text`, each legal in itself.
pub(super) fn fields(text: &str) -> Result<[&str; 5], ParseError> {
    let refuse = |rule| Err(ParseError::new(EXPRESSION, rule, text));
    if text.is_empty() || text.len() > MAX_BYTES {
        return refuse("must be 1 to 128 bytes long");
    }
    if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ' || b == b'\t') {
        return refuse("may hold only visible ASCII, spaces and tabs");
    }
    let five = match text.trim() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other if other.starts_with('@') => {
            return refuse(
                "must be five fields, or @yearly, @annually, @monthly, @weekly, @daily, @midnight or @hourly",
            );
        }
        other => other,
    };
    let parts: Vec<&str> = five.split_ascii_whitespace().collect();
    let Ok(parts) = <[&str; 5]>::try_from(parts.as_slice()) else {
        return refuse(match parts.len() {
            6 | 7 => {
                "must have five fields (minute hour day-of-month month day-of-week): seconds and years are not \
                 supported, a minute is the smallest step"
            }
            _ => "must have five fields (minute hour day-of-month month day-of-week)",
        });
    };
    for (index, part) in parts.into_iter().enumerate() {
        check(index, part)?;
    }
    Ok(parts)
}

/// The steps of `*/n` in one field's text.
pub(super) fn star_steps(part: &str) -> impl Iterator<Item = u16> {
    part.trim_start_matches('+').split(',').filter_map(|item| {
        let step = item.strip_prefix("*/")?;
        step.split('#').next()?.parse().ok()
    })
}

/// Is this field `*`, that is: does it leave the choice of days to the other one?
pub(super) fn is_star(part: &str) -> bool {
    matches!(part, "*" | "?" | "+*" | "+?")
}

fn check(index: usize, part: &str) -> Result<(), ParseError> {
    let field = &FIELDS[index];
    let list = if index == DAY_OF_WEEK { part.strip_prefix('+').unwrap_or(part) } else { part };
    if list == "*" || (list == "?" && matches!(index, DAY_OF_MONTH | DAY_OF_WEEK)) {
        return Ok(());
    }
    let upper = list.to_ascii_uppercase();
    for item in upper.split(',') {
        let legal = match index {
            DAY_OF_MONTH => field.takes_day_of_month(item),
            DAY_OF_WEEK => field.takes_day_of_week(item),
            _ => field.takes_span(item),
        };
        if !legal {
            return Err(ParseError::new(field.name, field.rule, item));
        }
    }
    // croner would forget the `L`.
    if index == DAY_OF_MONTH && upper.split(',').any(|i| i == "L") && upper.split(',').any(|i| i == "LW") {
        return Err(ParseError::new(field.name, "may not hold both `L` and `LW`", part));
    }
    Ok(())
}

impl Field {
    fn takes_day_of_month(&self, item: &str) -> bool {
        let nearest_weekday = || item.strip_suffix('W').is_some_and(|day| self.value(day).is_some());
        item == "L" || item == "LW" || nearest_weekday() || self.takes_span(item)
    }

    fn takes_day_of_week(&self, item: &str) -> bool {
        match item.split_once('#') {
            Some((span, nth)) => matches!(nth, "1" | "2" | "3" | "4" | "5" | "L") && self.takes_span(span),
            None => item.strip_suffix('L').is_some_and(|day| self.value(day).is_some()) || self.takes_span(item),
        }
    }

    /// `v`, `a-b`, `a-b/n` or `*/n`.
    fn takes_span(&self, item: &str) -> bool {
        let (span, step) = match item.split_once('/') {
            None => (item, None),
            Some((span, step)) => match number(step) {
                Some(step @ 1..=MAX_STEP) => (span, Some(step)),
                _ => return false,
            },
        };
        match span.split_once('-') {
            _ if span == "*" => step.is_some(),
            None => step.is_none() && self.value(span).is_some(),
            // To croner this is 0-7, every day.
            Some(("SUN", "SUN")) => false,
            Some((_, "SUN")) if self.names.contains(&"SUN") => self.takes_span(&item.replacen("-SUN", "-7", 1)),
            Some((first, last)) => self.value(first).zip(self.value(last)).is_some_and(|(first, last)| first <= last),
        }
    }

    fn value(&self, text: &str) -> Option<u16> {
        match self.names.iter().zip(self.min..).find(|(name, _)| **name == text) {
            Some((_, value)) => Some(value),
            None => number(text).filter(|n| (self.min..=self.max).contains(n)),
        }
    }
}

/// Digits and nothing else; `u16::from_str` would take a sign.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_field_and_what_it_takes() {
        for (text, start) in [
            ("", "cron expression must be 1 to 128 bytes long"),
            ("   ", "cron expression must have five fields"),
            ("* * * *", "cron expression must have five fields"),
            (
                "0 * * * * *",
                "cron expression must have five fields (minute hour day-of-month month day-of-week): seconds",
            ),
            (
                "0 0 0 1 1 * 2027",
                "cron expression must have five fields (minute hour day-of-month month day-of-week): sec",
            ),
            ("@reboot", "cron expression must be five fields, or @yearly"),
            ("@Daily", "cron expression must be five fields, or @yearly"),
            ("@daily 0 0 * * *", "cron expression must be five fields, or @yearly"),
            ("0 0 * * \u{17f}un", "cron expression may hold only visible ASCII"),
            ("0\n0 * * *", "cron expression may hold only visible ASCII"),
            ("60 * * * *", "cron minute must be `*`, or a comma-separated list of values 0-59"),
            ("*,5 * * * *", "cron minute must be"),
            (", * * * *", "cron minute must be"),
            ("1,,2 * * * *", "cron minute must be"),
            ("0/10 * * * *", "cron minute must be"),
            ("/10 * * * *", "cron minute must be"),
            ("*/0 * * * *", "cron minute must be"),
            ("*/99999 * * * *", "cron minute must be"),
            ("*/ * * * *", "cron minute must be"),
            ("+5 * * * *", "cron minute must be"),
            ("5- * * * *", "cron minute must be"),
            ("9-5 * * * *", "cron minute must be"),
            ("? * * * *", "cron minute must be"),
            ("0 24 * * *", "cron hour must be"),
            ("0 JAN * * *", "cron hour must be"),
            ("0 0 0 * *", "cron day of month must be"),
            ("0 0 32 * *", "cron day of month must be"),
            ("0 0 +1 * *", "cron day of month must be"),
            ("0 0 5W7 * *", "cron day of month must be"),
            ("0 0 1-15W * *", "cron day of month must be"),
            ("0 0 L-3 * *", "cron day of month must be"),
            ("0 0 L,LW * *", "cron day of month may not hold both `L` and `LW`"),
            ("0 0 * 13 *", "cron month must be"),
            ("0 0 * MON *", "cron month must be"),
            ("0 0 * JANUARY *", "cron month must be"),
            ("0 0 * * 8", "cron day of week must be"),
            ("0 0 * * L", "cron day of week must be"),
            ("0 0 * * JAN", "cron day of week must be"),
            ("0 0 * * SUN-SUN", "cron day of week must be"),
            ("0 0 * * FRI-MON", "cron day of week must be"),
            ("0 0 * * 5#0", "cron day of week must be"),
            ("0 0 * * 5#6", "cron day of week must be"),
            ("0 0 * * 5#2L", "cron day of week must be"),
            ("0 0 * * MON,+FRI", "cron day of week must be"),
            ("0 0 * * ++FRI", "cron day of week must be"),
        ] {
            let shown = fields(text).expect_err(text).to_string();
            assert!(shown.starts_with(start), "{text:?}: {shown}");
        }
        assert!(fields(&"1,".repeat(64)).unwrap_err().to_string().ends_with("bytes)"));
    }

    #[test]
    fn the_dialect_is_taken() {
        for text in [
            "* * * * *",
            " 0\t0  1 1 * ",
            "*/15 9-17 * * MON-FRI",
            "0,30 00-23/2 01,15 jan-Mar,12 0-7",
            "0 0 L * *",
            "0 0 LW,15W * ?",
            "0 0 ? * fri#2,MON-wed#L,6L,*/2#3",
            "0 0 1 * +MON",
            "0 0 * * SAT-SUN",
            "0 0 * * +*",
            "@hourly",
            " @midnight ",
        ] {
            assert!(fields(text).is_ok(), "{text:?}: {:?}", fields(text).err());
        }
    }
}
