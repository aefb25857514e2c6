//! `CronExpression::next_after` against a second, independent implementation.
//!
//! The oracle has its own parser, its own calendar (counted day by day from 1970-01-01, a Thursday) and its own idea of
//! clock changes: a daemon that looks at the wall clock once a minute. A wall-clock job runs whenever the clock shows one
//! of its minutes. A fixed-time job runs once the clock has come to a minute of its that it had never shown or passed
//! before, so late when the clock jumped over it, and not again when the clock goes back. From jiff it takes nothing but
//! the moments at which offsets change.
//!
//! Around every clock change of 2020 to 2034 in every zone, all runs come from that daemon, minute by minute. Between them
//! the clock is an even one, and the runs come from each expression's days and times of day; the two are held against
//! each other as well.

#![allow(clippy::unwrap_used, reason = "a test, helpers and all")]

use jiff::tz::{TimeZone, TimeZoneDatabase};
use overskill_core::{CronExpression, TimeZoneName, Timestamp};
use std::time::Instant;

const MINUTES_A_DAY: i64 = 1_440;
/// 2020-01-01T00:00Z and 2035-01-01T00:00Z, in minutes since the epoch.
const START: i64 = 18_262 * MINUTES_A_DAY;
const END: i64 = 23_741 * MINUTES_A_DAY;

const ZONES: [&str; 44] = [
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Juba",
    "America/Asuncion",
    "America/Chihuahua",
    "America/Havana",
    "America/Los_Angeles",
    "America/Mexico_City",
    "America/New_York",
    "America/Nuuk",
    "America/Port-au-Prince",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "America/Whitehorse",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Antarctica/Vostok",
    "Asia/Almaty",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Jerusalem",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Asia/Tokyo",
    "Atlantic/Azores",
    "Australia/Adelaide",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Europe/Athens",
    "Europe/Berlin",
    "Europe/Chisinau",
    "Europe/Dublin",
    "Europe/London",
    "Europe/Volgograd",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Easter",
    "Pacific/Norfolk",
];

/// Clock changes of other years that are like none of those above: dates left out, odd shifts.
const OLD_CHANGES: [(&str, i64, &str); 7] = [
    ("Pacific/Apia", 15_338, "2011-12-30 left out"),
    ("Pacific/Kiritimati", 9_130, "1994-12-31 left out"),
    ("Pacific/Kwajalein", 8_633, "1993-08-21 left out"),
    ("America/Caracas", 13_856, "2007-12-09 back by half an hour"),
    ("America/Caracas", 16_922, "2016-05-01 on by half an hour"),
    ("Asia/Pyongyang", 16_662, "2015-08-15 back by half an hour"),
    ("Asia/Pyongyang", 17_655, "2018-05-05 on by half an hour"),
];

const NASTY: [&str; 65] = [
    "* * * * *",
    "*/7 * * * *",
    "*/45 * * * *",
    "0 * * * *",
    "59 * * * *",
    "*/30 1-3 * * *",
    "*/10 0,1,2,3,23 * * *",
    "0 */2 * * *",
    "0 */5 * * *",
    "30 */3 * * *",
    "0 0 * * *",
    "59 23 * * *",
    "1 0 * * *",
    "30 0 * * *",
    "0 1 * * *",
    "15 1 * * *",
    "30 1 * * *",
    "45 1 * * *",
    "59 1 * * *",
    "0 2 * * *",
    "15 2 * * *",
    "30 2 * * *",
    "45 2 * * *",
    "59 2 * * *",
    "0 3 * * *",
    "30 3 * * *",
    "0 4 * * *",
    "0 23 * * *",
    "30 23 * * *",
    "30 23 * * SAT",
    "30 23 * * 6",
    "0 0 * * SUN",
    "30 0 * * 7",
    "30 2 * * 0",
    "0 2,3 * * *",
    "30 2,14 * * *",
    "30 1,13 * * *",
    "0,30 2 * * *",
    "30-30 2,2 * * *",
    "15-45/15 1-2 * * *",
    "@hourly",
    "@daily",
    "@weekly",
    "@monthly",
    "@yearly",
    "0 0 13 * FRI",
    "0 0 */2 * MON",
    "0 2 1-7 3,10,11 SUN",
    "30 2 8-14 MAR +SUN",
    "0 0 1 * +MON",
    "0 12 29 2 *",
    "0 12 29 FEB +SAT",
    "30 2 31 * *",
    "30 2 L * *",
    "30 1 LW * *",
    "0 3 15W * *",
    "0 3 1W * *",
    "0 3 31W * *",
    "0 2 L,15W,1 * *",
    "30 2 * * SUN#2",
    "30 1 * * SUN#1",
    "30 2 * * 0L",
    "*/20 2 * * SUN#L,FRI#5",
    "0 6 LW * +FRI",
    "0 0 30 2 MON-WED",
];

#[test]
fn next_after_agrees_with_a_daemon_that_looks_at_the_clock_each_minute() {
    let began = Instant::now();
    let calendar = Calendar::new();
    let mut random = Random(0x6f76_6572_736b_696c);
    let mut jobs: Vec<Job> = NASTY.iter().map(|text| Job::new(text, &calendar).expect(text)).collect();
    let mut refused = 0;
    for _ in 0..80 {
        match Job::new(&random.expression(), &calendar) {
            Some(job) => jobs.push(job),
            None => refused += 1,
        }
    }

    let mut tally = Tally::default();
    let mut changes = 0;
    for (z, name) in ZONES.iter().enumerate() {
        let zone = Zone::new(name);
        for change in zone.changes(START, END) {
            changes += 1;
            tally.around(change, &jobs, &zone, &calendar);
        }
        for (j, job) in jobs.iter().enumerate() {
            if (j + z) % 11 == 0 {
                tally.all_years(job, &zone, &calendar);
            }
            for _ in 0..8 {
                tally.anywhere(START * 60_000 + random.below((END - START) * 60_000), job, &zone, &calendar);
            }
        }
    }
    for (name, day, what) in OLD_CHANGES {
        let zone = Zone::new(name);
        let found = zone.changes((day - 2) * MINUTES_A_DAY, (day + 3) * MINUTES_A_DAY);
        let [change] = found[..] else { panic!("{what}: {found:?}") };
        tally.around(change, &jobs, &zone, &calendar);
    }

    println!(
        "{} comparisons, {} mismatches: {} expressions ({} of them generated, {} more refused as never coming), {} zones, \
         {} clock changes of 2020-2034 and {} older ones; {:.1} s",
        tally.compared,
        tally.mismatches.len(),
        jobs.len(),
        jobs.len() - NASTY.len(),
        refused,
        ZONES.len(),
        changes,
        OLD_CHANGES.len(),
        began.elapsed().as_secs_f64(),
    );
    assert!(tally.mismatches.is_empty(), "{:#?}", &tally.mismatches[..tally.mismatches.len().min(20)]);
    assert!(tally.compared >= 1_000_000, "{}", tally.compared);
    assert!(changes >= 700, "{changes}");
}

#[derive(Default)]
struct Tally {
    compared: usize,
    mismatches: Vec<String>,
}

impl Tally {
    /// All runs within thirty hours of a clock change, from the daemon.
    fn around(&mut self, change: i64, jobs: &[Job], zone: &Zone, calendar: &Calendar) {
        let far = 30 * 60;
        let looks = looks(zone, calendar, change - far, change + far);
        for job in jobs {
            // Of busy jobs fewer hours.
            let reach = match job.times.len() {
                0..=4 => far,
                5..=100 => 6 * 60,
                _ => 100,
            };
            let (from, to) = (change - reach, change + reach);
            let first = looks.partition_point(|look| look.minute < from);
            let runs = daemon(job, &looks[first..looks.partition_point(|look| look.minute < to)]);
            let quick = runs_between(job, zone, calendar, from, to);
            assert_eq!(runs, quick, "the oracle contradicts itself: {} in {}", job.text, zone.name);
            self.chain(job, zone, from, &runs);
            // From the edges of the change itself, whatever the job's rhythm.
            for after in [change * 60_000 - 1, (change + 30) * 60_000 - 7] {
                self.anywhere(after, job, zone, calendar);
            }
        }
    }

    /// All runs of the fifteen years; of busy jobs only those of one year.
    fn all_years(&mut self, job: &Job, zone: &Zone, calendar: &Calendar) {
        let to = match job.times.len() {
            0..=2 => END,
            3..=30 => START + 366 * MINUTES_A_DAY,
            _ => START + 20 * MINUTES_A_DAY,
        };
        let runs = runs_between(job, zone, calendar, START, to);
        self.chain(job, zone, START, &runs);
    }

    /// From one moment.
    fn anywhere(&mut self, after_millis: i64, job: &Job, zone: &Zone, calendar: &Calendar) {
        let from = after_millis.div_euclid(60_000) + 1;
        // 29 February on a given day of the week may be 28 years away.
        let run = [2, 40, 800, 11_000]
            .into_iter()
            .find_map(|days| runs_between(job, zone, calendar, from, from + days * MINUTES_A_DAY).first().copied());
        self.compare(job, zone, after_millis, run.unwrap_or_else(|| panic!("the oracle finds no run of {}", job.text)));
    }

    /// Each run follows the one before, the first one the minute before `from`.
    fn chain(&mut self, job: &Job, zone: &Zone, from: i64, runs: &[i64]) {
        let mut after = from - 1;
        for &run in runs {
            self.compare(job, zone, after * 60_000, run);
            after = run;
        }
    }

    fn compare(&mut self, job: &Job, zone: &Zone, after_millis: i64, run: i64) {
        let got = job.subject.next_after(Timestamp::from_unix_millis(after_millis), &zone.subject);
        self.compared += 1;
        if got != Some(Timestamp::from_unix_millis(run * 60_000)) {
            let after = Timestamp::from_unix_millis(after_millis);
            let due = Timestamp::from_unix_millis(run * 60_000);
            self.mismatches.push(format!("{:?} in {} after {after}: {got:?}, but due at {due}", job.text, zone.name));
        }
    }
}

/// What the daemon sees in one minute.
struct Look {
    minute: i64,
    /// What the clock shows: day of the calendar, minute of the day.
    day: usize,
    time: usize,
    /// Has it shown or passed that before?
    again: bool,
    /// How many minutes it jumped over just now.
    jumped: i64,
}

/// The wall clock of `from..to`, looked at in each minute. One table serves all jobs.
fn looks(zone: &Zone, calendar: &Calendar, from: i64, to: i64) -> Vec<Look> {
    // Some hours of looking back, for a fold before `from`.
    let begin = from - 240;
    let mut segment = zone.segment_at(begin);
    let mut latest = begin + zone.segments[segment].1 - 1;
    let mut looks = Vec::new();
    for minute in begin..to {
        while zone.segments.get(segment + 1).is_some_and(|next| next.0 <= minute) {
            segment += 1;
        }
        let clock = minute + zone.segments[segment].1;
        if minute >= from {
            let (day, time) = (calendar.index(clock.div_euclid(MINUTES_A_DAY)), clock.rem_euclid(MINUTES_A_DAY));
            let (again, jumped) = (clock <= latest, (clock - latest - 1).max(0));
            looks.push(Look { minute, day, time: usize::try_from(time).unwrap(), again, jumped });
        }
        latest = latest.max(clock);
    }
    looks
}

/// The runs of a job, as Vixie's daemon has them.
fn daemon(job: &Job, looks: &[Look]) -> Vec<i64> {
    let mut runs = Vec::new();
    for look in looks {
        let due = job.days[look.day] && job.at[look.time] && !(job.fixed && look.again);
        if due || (job.fixed && look.jumped > 0 && job.missed(look)) {
            runs.push(look.minute);
        }
    }
    runs
}

/// The same from the job's days and times of day, without looking at minutes that it does not name.
fn runs_between(job: &Job, zone: &Zone, calendar: &Calendar, from: i64, to: i64) -> Vec<i64> {
    let mut runs = Vec::new();
    let mut segment = zone.segment_at(from);
    loop {
        let (start, offset) = zone.segments[segment];
        let end = zone.segments.get(segment + 1).map_or(i64::MAX, |next| next.0);
        // Where the clock of the segment before stopped: below it everything was shown, and up to `start` nothing.
        let before = segment.checked_sub(1).map_or(i64::MIN, |before| start + zone.segments[before].1);
        if job.fixed
            && start >= from
            && start < to
            && (before.max(0)..start + offset).any(|jumped| job.names(jumped, calendar))
        {
            runs.push(start);
        }
        let (first, last) = (start.max(from) + offset, end.min(to) + offset);
        let first = if job.fixed { first.max(before) } else { first };
        let mut day = first.div_euclid(MINUTES_A_DAY);
        while day * MINUTES_A_DAY < last {
            if job.days[calendar.index(day)] {
                for &time in &job.times {
                    let clock = day * MINUTES_A_DAY + time;
                    // At the end of a gap, a run for what the clock jumped over may be there already.
                    if clock >= first && clock < last && runs.last() != Some(&(clock - offset)) {
                        runs.push(clock - offset);
                    }
                }
            }
            day += 1;
        }
        if end >= to {
            return runs;
        }
        segment += 1;
    }
}

/// One expression: the subject of the test, and what the oracle makes of it.
struct Job {
    text: String,
    subject: CronExpression,
    /// By day of the calendar.
    days: Vec<bool>,
    /// Minutes of a day, ascending.
    times: Vec<i64>,
    at: Vec<bool>,
    fixed: bool,
}

impl Job {
    /// `None` when both agree that it never comes.
    fn new(text: &str, calendar: &Calendar) -> Option<Self> {
        let fields: Vec<String> = match text {
            "@hourly" => "0 * * * *",
            "@daily" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" => "0 0 1 1 *",
            _ => text,
        }
        .split(' ')
        .map(str::to_ascii_uppercase)
        .collect();
        let [minute, hour, day, month, weekday] = &fields[..] else { panic!("{text}") };

        let (minutes, hours, months) = (values(minute, 0, 59), values(hour, 0, 23), values(month, 1, 12));
        let days: Vec<bool> = calendar
            .days
            .iter()
            .map(|today| {
                let by_day = day.split(',').any(|item| day_of_month(item, today));
                let by_weekday = weekday.trim_start_matches('+').split(',').any(|item| day_of_week(item, today));
                let both = day == "*" || weekday == "*" || weekday.starts_with('+');
                months.contains(&today.month) && if both { by_day && by_weekday } else { by_day || by_weekday }
            })
            .collect();
        let subject = CronExpression::parse(text);
        assert_eq!(subject.is_ok(), days.contains(&true), "{text}: {subject:?}");

        let times: Vec<i64> =
            (0..MINUTES_A_DAY).filter(|t| hours.contains(&(t / 60)) && minutes.contains(&(t % 60))).collect();
        let fixed = times.len() == 1 && !minute.contains(['*', '/']) && !hour.contains(['*', '/']);
        Some(Self {
            text: text.to_owned(),
            subject: subject.ok()?,
            at: (0..MINUTES_A_DAY).map(|t| times.contains(&t)).collect(),
            days,
            times,
            fixed,
        })
    }

    /// Does it name this minute of the calendar?
    fn names(&self, clock: i64, calendar: &Calendar) -> bool {
        let time = clock.rem_euclid(MINUTES_A_DAY);
        self.days[calendar.index(clock.div_euclid(MINUTES_A_DAY))] && self.at[usize::try_from(time).unwrap()]
    }

    /// Does it name a minute that the clock jumped over?
    fn missed(&self, look: &Look) -> bool {
        let (mut day, mut time) = (look.day, look.time);
        (0..look.jumped).any(|_| {
            (day, time) = if time == 0 { (day - 1, self.at.len() - 1) } else { (day, time - 1) };
            self.days[day] && self.at[time]
        })
    }
}

/// The values of a field without letters.
fn values(field: &str, min: i64, max: i64) -> Vec<i64> {
    (min..=max).filter(|value| field.split(',').any(|item| span(item, *value, min, max))).collect()
}

/// Is `value` in `*`, `a`, `a-b`, `*/n` or `a-b/n`?
fn span(item: &str, value: i64, min: i64, max: i64) -> bool {
    let (range, step) = item.split_once('/').unwrap_or((item, "1"));
    let (first, last) = match range.split_once('-') {
        _ if range == "*" => (min, max),
        Some((first, last)) => (number(first), if last == "SUN" { 7 } else { number(last) }),
        None => (number(range), number(range)),
    };
    value >= first && value <= last && (value - first) % step.parse::<i64>().unwrap() == 0
}

fn number(text: &str) -> i64 {
    const MONTHS: &str = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC";
    const WEEKDAYS: &str = "SUN MON TUE WED THU FRI SAT";
    let place =
        |names: &str| names.split(' ').position(|name| name == text).and_then(|place| i64::try_from(place).ok());
    let named = place(MONTHS).map(|month| month + 1).or(place(WEEKDAYS));
    named.unwrap_or_else(|| text.parse().unwrap_or_else(|_| panic!("no number: {text}")))
}

fn day_of_month(item: &str, today: &Date) -> bool {
    // The weekday, 0 = Sunday, of another day of the month.
    let weekday_of = |day: i64| (today.weekday + day - today.day).rem_euclid(7);
    let working = |day: i64| !matches!(weekday_of(day), 0 | 6);
    if item == "L" {
        today.day == today.month_days
    } else if item == "LW" {
        working(today.day) && !(today.day + 1..=today.month_days).any(working)
    } else if let Some(wanted) = item.strip_suffix('W') {
        let wanted = number(wanted);
        // The nearest working day of the month; on a tie there is only one working day at that distance anyway.
        wanted <= today.month_days
            && (1..=today.month_days).filter(|day| working(*day)).min_by_key(|day| (day - wanted).abs())
                == Some(today.day)
    } else {
        span(item, today.day, 1, 31)
    }
}

fn day_of_week(item: &str, today: &Date) -> bool {
    // 0 and 7 are the same day.
    let named = |part: &str| span(part, today.weekday, 0, 7) || (today.weekday == 0 && span(part, 7, 0, 7));
    if let Some((part, nth)) = item.split_once('#') {
        let last = today.day + 7 > today.month_days;
        named(part) && if nth == "L" { last } else { (today.day - 1) / 7 + 1 == number(nth) }
    } else if let Some(part) = item.strip_suffix('L') {
        named(part) && today.day + 7 > today.month_days
    } else {
        named(item)
    }
}

struct Date {
    month: i64,
    day: i64,
    month_days: i64,
    weekday: i64,
}

/// The days of 1990 to 2069.
struct Calendar {
    days: Vec<Date>,
}

impl Calendar {
    /// 1990-01-01, in days since the epoch.
    const FIRST: i64 = 7_305;

    fn new() -> Self {
        let mut days = Vec::new();
        let mut since_epoch = 0;
        for year in 1970..2070 {
            let leap = year % 4 == 0; // 2000 is one
            for (month, month_days) in
                (1..).zip([31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
            {
                for day in 1..=month_days {
                    if since_epoch >= Self::FIRST {
                        days.push(Date { month, day, month_days, weekday: (4 + since_epoch) % 7 });
                    }
                    since_epoch += 1;
                }
            }
        }
        Self { days }
    }

    #[expect(clippy::unused_self, reason = "it is this calendar's index")]
    fn index(&self, day: i64) -> usize {
        usize::try_from(day - Self::FIRST).unwrap()
    }
}

/// One time zone: the subject of the test, and its offsets.
struct Zone {
    name: String,
    subject: TimeZoneName,
    /// From which minute, which offset in minutes.
    segments: Vec<(i64, i64)>,
}

impl Zone {
    fn new(name: &str) -> Self {
        let rules: TimeZone = TimeZoneDatabase::bundled().get(name).unwrap();
        let first = jiff::Timestamp::from_second(Calendar::FIRST * 86_400).unwrap();
        let mut segments = vec![(first.as_second() / 60, i64::from(rules.to_offset(first).seconds()) / 60)];
        for transition in rules.following(first).take_while(|t| t.timestamp().as_second() < 99 * 365 * 86_400) {
            let (at, offset) = (transition.timestamp().as_second(), i64::from(transition.offset().seconds()));
            assert!(at % 60 == 0 && offset % 60 == 0, "{name}: {transition:?}");
            if segments.last().unwrap().1 != offset / 60 {
                segments.push((at / 60, offset / 60));
            }
        }
        Self { name: name.to_owned(), subject: TimeZoneName::parse(name).unwrap(), segments }
    }

    /// The minutes of `from..to` at which the offset changes.
    fn changes(&self, from: i64, to: i64) -> Vec<i64> {
        self.segments.iter().skip(1).map(|s| s.0).filter(|at| (from..to).contains(at)).collect()
    }

    fn segment_at(&self, minute: i64) -> usize {
        self.segments.partition_point(|s| s.0 <= minute) - 1
    }
}

/// The generator `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: i64) -> i64 {
        i64::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    fn between(&mut self, first: i64, last: i64) -> i64 {
        first + self.below(last - first + 1)
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(i64::try_from(of.len()).unwrap())).unwrap()]
    }

    /// Mostly near the hours at which clocks change.
    fn expression(&mut self) -> String {
        let minute = self.field(0, 59, 1);
        let hour = match self.below(3) {
            0 => self.field(0, 23, 2),
            1 => self.one_of(&["0", "1", "2", "3", "23"]).to_owned(),
            _ => self.one_of(&["0-4", "1-3", "1,2", "2,3", "23,0,1", "*/2", "*/3", "*"]).to_owned(),
        };
        let day = match self.below(8) {
            0 => self.field(1, 31, 2),
            1 => self.one_of(&["L", "LW", "L,15", "LW,1W", "31", "30,31"]).to_owned(),
            2 => format!("{}W", self.between(1, 31)),
            _ => "*".to_owned(),
        };
        let month = match self.below(6) {
            0 => self.field(1, 12, 2),
            1 => self.one_of(&["MAR,OCT,NOV", "mar-apr", "JAN-DEC/2", "Feb", "4,6,9,11"]).to_owned(),
            _ => "*".to_owned(),
        };
        let plus = if self.below(4) == 0 { "+" } else { "" };
        let weekday = match self.below(8) {
            0 => format!("{plus}{}", self.field(0, 7, 2)),
            1 => format!("{plus}{}#{}", self.between(0, 7), self.between(1, 5)),
            2 => format!("{plus}{}L", self.between(0, 7)),
            3 => format!(
                "{plus}{}",
                self.one_of(&["SUN", "sat-SUN", "MON-FRI", "mon,wed,SUN", "SUN#L", "FRI#L,MON#1", "SAT-SUN#2"])
            ),
            _ => "*".to_owned(),
        };
        format!("{minute} {hour} {day} {month} {weekday}")
    }

    fn field(&mut self, min: i64, max: i64, star: i64) -> String {
        let (a, b) = (self.between(min, max), self.between(min, max));
        let (first, last) = (a.min(b), a.max(b));
        match self.below(9) {
            0 => "*".to_owned(),
            1 => format!("*/{}", self.between(1, max)),
            2 => format!("{first}-{last}"),
            3 => format!("{first}-{last}/{}", self.between(1, 9)),
            4 => format!("{a},{b}"),
            5 => format!("{a},{first}-{last}/{},{}", self.between(2, 9), self.between(min, max)),
            n if n < 6 + star => format!("{a}"),
            _ => format!("{a:02}"),
        }
    }
}

#[test]
fn the_oracle_knows_its_calendar() {
    let calendar = Calendar::new();
    let day = |since_epoch| {
        let day = &calendar.days[calendar.index(since_epoch)];
        (day.month, day.day, day.month_days, day.weekday)
    };
    assert_eq!(day(Calendar::FIRST), (1, 1, 31, 1)); // a Monday
    assert_eq!(day(START / MINUTES_A_DAY), (1, 1, 31, 3)); // 2020-01-01, a Wednesday
    assert_eq!(day(END / MINUTES_A_DAY), (1, 1, 31, 1)); // 2035-01-01, a Monday
    assert_eq!(day(15_338), (12, 30, 31, 5)); // 2011-12-30, a Friday
    assert_eq!(day(19_782), (2, 29, 29, 4)); // 2024-02-29, a Thursday
}
