//! What is seen in a real browser: an edit on disk until it is in the page, and a server's start until its first page.

use crate::prepare::{Ground, Side, run};
use overskill_benches::{Bench, Figure, Goal, Outcome, Reading, Turns};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

const EDIT: &str = "edit on disk to DOM";
const WARM: &str = "start, dependencies prepared";
const COLD: &str = "start, dependencies only downloaded";

const EDIT_MEDIAN: Figure = Figure::shown(EDIT, "median", "ms", "Vite").goal(Goal::AtMost(1.0));
const EDIT_BOUND: Figure = Figure::shown(EDIT, "95 % bound of the ratio", "", "1").goal(Goal::AtMost(1.15));
const EDIT_TAIL: Figure = Figure::shown(EDIT, "95th percentile", "ms", "50 ms or Vite").goal(Goal::AtMost(1.0));
const EDIT_TAIL_VITE: Figure = Figure::shown(EDIT, "95th percentile", "ms", "Vite");
const WARM_FIRST: Figure = Figure::shown(WARM, "first response", "ms", "Vite").goal(Goal::AtMost(0.5));
const WARM_LOAD: Figure = Figure::shown(WARM, "page loaded and filled", "ms", "Vite").goal(Goal::AtMost(0.8));
const WARM_TAIL: Figure = Figure::shown(WARM, "the same, 95th percentile", "ms", "limit").goal(Goal::AtMost(1.0));
const COLD_FIRST: Figure = Figure::shown(COLD, "first response", "ms", "Vite").goal(Goal::AtMost(1.0));
const COLD_LOAD: Figure = Figure::shown(COLD, "page loaded and filled", "ms", "Vite").goal(Goal::AtMost(1.0));

pub(crate) const FIGURES: [Figure; 9] =
    [EDIT_MEDIAN, EDIT_BOUND, EDIT_TAIL, EDIT_TAIL_VITE, WARM_FIRST, WARM_LOAD, WARM_TAIL, COLD_FIRST, COLD_LOAD];

#[derive(Deserialize)]
struct Edits {
    rows: Vec<[f64; 2]>,
    clocks: Vec<Clock>,
}

/// How well a page's clock is known.
#[derive(Deserialize)]
struct Clock {
    width: f64,
    drift: f64,
}

#[derive(Deserialize)]
struct Starts {
    /// By turn, side and what was waited for.
    rows: Vec<[[f64; 2]; 2]>,
}

/// Edits of components that the first page shows.
pub(crate) fn edits(bench: &mut Bench, ground: &Ground) -> Outcome<()> {
    let edits = [
        ("src/components/Counter.tsx", "Focus rounds"),
        ("src/components/layout/Header.tsx", "New task"),
        ("src/pages/Index.tsx", "of what was due is done."),
        ("src/components/layout/Sidebar.tsx", "text-muted-foreground\">Lists"),
    ];
    let edits = edits.map(|(path, anchor)| json!({ "path": path, "anchor": anchor }));
    let contestants = [ground.contestant(Side::Ours, false)?, ground.contestant(Side::Vite, false)?];
    let turns = bench.size(240, 24);
    let seen =
        browser(ground, &json!({ "what": "edits", "turns": turns, "contestants": contestants, "edits": edits }))?;
    let Edits { rows, clocks } = serde_json::from_value(seen)?;
    if let Some(off) = clocks.iter().find(|clock| clock.width.abs() > 5.0 || clock.drift.abs() > 1.0) {
        bench.note(format!(
            "the page's clock is known to {:.2} ms, and went off by {:.2} ms: edits are known no better",
            off.width, off.drift
        ));
    }
    let turns = Turns::seen(rows);
    bench.show(&EDIT_MEDIAN, turns.compare(0, 1));
    let bound = turns.ratio_bound(0, 1);
    bench.show(&EDIT_BOUND, Reading::limited(bound, 1.0));
    let (ours, vite) = (turns.quantile_of(0, 0.95), turns.quantile_of(1, 0.95));
    bench.show(&EDIT_TAIL, Reading::limited(ours, vite.max(50.0)));
    bench.show(&EDIT_TAIL_VITE, Reading::limited(ours, vite));
    Ok(())
}

/// Starts, with what was prepared before and without.
pub(crate) fn starts(bench: &mut Bench, ground: &Ground) -> Outcome<()> {
    for cold in [true, false] {
        let contestants = [ground.contestant(Side::Ours, cold)?, ground.contestant(Side::Vite, cold)?];
        let turns = bench.size(24, 3);
        let seen = browser(ground, &json!({ "what": "starts", "turns": turns, "contestants": contestants }))?;
        let Starts { rows } = serde_json::from_value(seen)?;
        let of = |at: usize| Turns::seen(rows.iter().map(|row| [row[0][at], row[1][at]]).collect());
        let (first, load) = (of(0), of(1));
        if cold {
            bench.show(&COLD_FIRST, first.compare(0, 1));
            bench.show(&COLD_LOAD, load.compare(0, 1));
        } else {
            bench.show(&WARM_FIRST, first.compare(0, 1));
            bench.show(&WARM_LOAD, load.compare(0, 1));
            bench.show(&WARM_TAIL, Reading::limited(load.quantile_of(0, 0.95), 1_000.0));
        }
    }
    Ok(())
}

/// Lets the program with the browser do something.
fn browser(ground: &Ground, task: &Value) -> Outcome<Value> {
    let mut input = tempfile::tempfile()?;
    writeln!(input, "{task}")?;
    std::io::Seek::rewind(&mut input)?;
    let mut node = Command::new("node");
    node.arg(ground.workspace().join("tools/preview-bench.mjs")).stdin(Stdio::from(input));
    Ok(serde_json::from_str(&run(&mut node)?)?)
}
