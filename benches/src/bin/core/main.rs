//! What core adds to what it calls: the strategy, progress, the check of a grant. Each should cost less than a
//! microsecond.

mod between;
mod grants;
mod policies;
mod progress;
mod service;

use overskill_benches::{Bench, Figure, Goal};

/// A microsecond, in the unit of the figures.
const LIMIT: f64 = 1_000.0;

/// A time that is to stay below the limit.
const fn under_limit(case: &'static str, metric: &'static str) -> Figure {
    Figure::shown(case, metric, "ns", "limit").goal(Goal::AtMost(1.0))
}

fn main() {
    let figures =
        [&policies::FIGURES[..], &between::FIGURES, &service::FIGURES, &progress::FIGURES, &grants::FIGURES].concat();
    let mut bench = Bench::start("core", &figures);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
    runtime.block_on(async {
        let outcome = policies::measure(&mut bench).await;
        bench.attempt("policies", outcome);
        let outcome = between::measure(&mut bench).await;
        bench.attempt("strategy", outcome);
        let outcome = service::measure(&mut bench).await;
        bench.attempt("service", outcome);
        let outcome = progress::measure(&mut bench);
        bench.attempt("progress", outcome);
        let outcome = grants::measure(&mut bench).await;
        bench.attempt("grants", outcome);
    });
    bench.finish();
}
