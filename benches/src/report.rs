//! Rows, the table and the JSON.

use crate::Outcome;
use serde::Serialize;
use std::fmt::Write as _;

/// A number that a benchmark shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// What is done.
    pub case: &'static str,
    /// What is measured of it.
    pub metric: &'static str,
    /// In which unit.
    pub unit: &'static str,
    /// What it is set against; `"limit"` for a fixed number, `""` for nothing.
    pub peer: &'static str,
    /// What it should come to; without one it is only shown.
    pub goal: Option<Goal>,
}

/// What the ratio of a figure to its peer should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

/// What was measured for a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What ours showed.
    pub ours: f64,
    /// What the peer showed, or the limit.
    pub peer: Option<f64>,
    /// Ours to peer.
    pub ratio: Option<f64>,
    /// Between which ratios the middle half of the turns lay.
    pub spread: Option<(f64, f64)>,
}

/// One row of the output: with `--json`, an object of these fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields of `Figure` and `Reading`")]
pub struct Row {
    pub bench: &'static str,
    pub case: &'static str,
    pub metric: &'static str,
    pub unit: &'static str,
    pub ours: Option<f64>,
    pub peer: Option<f64>,
    pub peer_name: Option<&'static str>,
    pub ratio: Option<f64>,
    pub goal: Option<String>,
    /// Whether the goal was met; a goal that was not measured was not met.
    pub met: Option<bool>,
    #[serde(skip)]
    spread: Option<(f64, f64)>,
}

/// A benchmark that runs.
#[derive(Debug)]
pub struct Bench {
    name: &'static str,
    json: bool,
    quick: bool,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Figure {
    /// A figure that is only shown.
    pub const fn shown(case: &'static str, metric: &'static str, unit: &'static str, peer: &'static str) -> Self {
        Self { case, metric, unit, peer, goal: None }
    }

    /// Sets what its ratio should be.
    pub const fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }
}

impl Goal {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(most) => ratio <= most,
            Self::AtLeast(least) => ratio >= least,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("ratio <= {most}"),
            Self::AtLeast(least) => format!("ratio >= {least}"),
        }
    }
}

impl Reading {
    /// A number on its own.
    pub const fn alone(ours: f64) -> Self {
        Self { ours, peer: None, ratio: None, spread: None }
    }

    /// A number set against a limit.
    pub fn limited(ours: f64, limit: f64) -> Self {
        Self { ours, peer: Some(limit), ratio: Some(ours / limit), spread: None }
    }
}

impl Bench {
    /// Begins, with the options of the command line: `--json` and `--quick`.
    ///
    /// Each of `figures` will be one row.
    pub fn start(name: &'static str, figures: &[Figure]) -> Self {
        let options: Vec<String> = std::env::args().skip(1).collect();
        if let Some(unknown) = options.iter().find(|o| !["--json", "--quick"].contains(&o.as_str())) {
            eprintln!("{name}: there is no option `{unknown}`; there are: --json, --quick");
            std::process::exit(2);
        }
        let has = |option: &str| options.iter().any(|o| o == option);
        Self::with(name, figures, has("--json"), has("--quick"))
    }

    fn with(name: &'static str, figures: &[Figure], json: bool, quick: bool) -> Self {
        let rows = figures.iter().map(|figure| Row {
            bench: name,
            case: figure.case,
            metric: figure.metric,
            unit: figure.unit,
            ours: None,
            peer: None,
            peer_name: Some(figure.peer).filter(|peer| !peer.is_empty()),
            ratio: None,
            goal: figure.goal.map(Goal::text),
            met: figure.goal.map(|_| false),
            spread: None,
        });
        Self { name, json, quick, rows: rows.collect(), notes: Vec::new() }
    }

    /// Whether to look only for a moment: the numbers are rough.
    pub fn is_quick(&self) -> bool {
        self.quick
    }

    /// One of two sizes of a measurement.
    pub fn size<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Whether to measure a part: `OVERSKILL_STORE_PARTS=queue,sqlite` leaves out the others of the benchmark `store`.
    pub fn wants(&self, part: &str) -> bool {
        let setting = format!("OVERSKILL_{}_PARTS", self.name.to_uppercase());
        std::env::var(setting).map_or(true, |parts| parts.split(',').any(|it| it.trim() == part))
    }

    /// Says what a figure came to.
    ///
    /// # Panics
    ///
    /// If the benchmark did not begin with the figure.
    pub fn show(&mut self, figure: &Figure, reading: Reading) {
        let place = |row: &&mut Row| {
            (row.case, row.metric, row.peer_name.unwrap_or_default()) == (figure.case, figure.metric, figure.peer)
        };
        let row = self.rows.iter_mut().find(place).expect("figures are declared at the start");
        row.ours = Some(reading.ours);
        row.peer = reading.peer;
        row.ratio = reading.ratio;
        row.spread = reading.spread;
        row.met = figure.goal.map(|goal| reading.ratio.is_some_and(|ratio| goal.is_met(ratio)));
    }

    /// The value of a step, or a note of what went wrong in it. The figures that depend on it stay without numbers.
    pub fn attempt<T>(&mut self, step: &str, outcome: Outcome<T>) -> Option<T> {
        outcome.map_err(|e| self.note(format!("{step}: not measured: {e}"))).ok()
    }

    /// Says something that belongs under the table.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints the rows: a table, or one JSON object a line.
    pub fn finish(self) {
        if self.json {
            for row in &self.rows {
                println!("{}", serde_json::to_string(row).expect("a row is plain data"));
            }
            self.notes.iter().for_each(|note| eprintln!("{}: {note}", self.name));
        } else {
            print!("{}", self.table());
        }
    }

    fn table(&self) -> String {
        let head = ["case", "metric", "ours", "peer", "", "ratio", "middle half", "goal", "met"];
        let mut lines = vec![head.map(str::to_owned)];
        for row in &self.rows {
            let number = |n: Option<f64>| n.map_or("-".to_owned(), |n| format!("{} {}", rounded(n), row.unit));
            lines.push([
                row.case.to_owned(),
                row.metric.to_owned(),
                number(row.ours),
                if row.peer_name.is_some() { number(row.peer) } else { String::new() },
                row.peer_name.unwrap_or_default().to_owned(),
                row.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
                row.spread.map_or(String::new(), |(low, high)| format!("{low:.2} to {high:.2}")),
                row.goal.as_deref().map_or(String::new(), |goal| goal.trim_start_matches("ratio ").to_owned()),
                row.met.map_or("", |met| if met { "yes" } else { "NO" }).to_owned(),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 9] = std::array::from_fn(width);
        let mut table = format!("{}\n", self.name);
        for line in &lines {
            let mut out = String::new();
            for (column, cell) in line.iter().enumerate() {
                let width = widths[column];
                let right = matches!(column, 2 | 3 | 5);
                let cell = if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                write!(out, "{cell}  ").expect("a string can be written to");
            }
            table.push_str(out.trim_end());
            table.push('\n');
        }
        for note in &self.notes {
            writeln!(table, "* {note}").expect("a string can be written to");
        }
        table
    }
}

/// A number with about three digits that mean something.
fn rounded(n: f64) -> String {
    match n.abs() {
        x if x >= 100.0 => format!("{n:.0}"),
        x if x >= 10.0 => format!("{n:.1}"),
        _ => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Figure = Figure::shown("get", "time", "µs", "sqlx").goal(Goal::AtMost(1.3));
    const RATE: Figure = Figure::shown("queue", "rate", "runs/s", "bare").goal(Goal::AtLeast(0.6));
    const SIZE: Figure = Figure::shown("size", "bytes", "B", "");

    fn bench() -> Bench {
        Bench::with("store", &[GET, RATE, SIZE], true, false)
    }

    #[test]
    fn what_was_not_measured_was_not_met() {
        let bench = bench();
        let rows: Vec<_> = bench.rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        assert_eq!(
            rows[0],
            r#"{"bench":"store","case":"get","metric":"time","unit":"µs","ours":null,"peer":null,"peer_name":"sqlx","ratio":null,"goal":"ratio <= 1.3","met":false}"#
        );
        assert!(rows[2].ends_with(r#""goal":null,"met":null}"#), "{}", rows[2]);
    }

    #[test]
    fn goals_are_bounds_of_the_ratio() {
        let reading = |ratio| Reading { ours: 1.0, peer: Some(1.0), ratio: Some(ratio), spread: None };
        for (figure, ratio, met) in
            [(GET, 1.3, true), (GET, 1.31, false), (RATE, 0.6, true), (RATE, 0.59, false), (GET, f64::NAN, false)]
        {
            let mut bench = bench();
            bench.show(&figure, reading(ratio));
            let row = bench.rows.iter().find(|row| row.case == figure.case).unwrap();
            assert_eq!(row.met, Some(met), "{} {ratio}", figure.case);
        }
    }

    #[test]
    fn a_step_that_failed_is_noted_under_the_table() {
        let mut bench = bench();
        assert_eq!(bench.attempt::<()>("postgres", Err("no server".into())), None);
        bench.show(&SIZE, Reading::alone(12.0));
        bench.show(&RATE, Reading { ours: 700.0, peer: Some(1000.0), ratio: Some(0.7), spread: Some((0.65, 0.75)) });
        let expected = "\
store
case   metric        ours         peer        ratio  middle half   goal    met
get    time             -            -  sqlx                       <= 1.3  NO
queue  rate    700 runs/s  1000 runs/s  bare   0.70  0.65 to 0.75  >= 0.6  yes
size   bytes       12.0 B
* postgres: not measured: no server
";
        assert_eq!(bench.table(), expected);
    }
}
