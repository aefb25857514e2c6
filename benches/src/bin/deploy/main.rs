//! What a deployment costs: what the service adds to the target and the database, whether that grows with the number of
//! apps, and how long a stampede takes when the preferred target comes back.

mod growth;
mod overhead;
mod stampede;
mod stores;

use overskill_benches::Bench;

fn main() {
    let figures = [&overhead::FIGURES[..], &growth::FIGURES, &stampede::FIGURES].concat();
    let mut bench = Bench::start("deploy", &figures);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    if bench.wants("overhead") {
        let outcome = runtime.block_on(overhead::measure(&mut bench));
        bench.attempt("overhead", outcome);
    }
    if bench.wants("growth") {
        let outcome = runtime.block_on(growth::measure(&mut bench));
        bench.attempt("growth", outcome);
    }
    if bench.wants("stampede") {
        let outcome = runtime.block_on(stampede::measure(&mut bench));
        bench.attempt("stampede", outcome);
    }
    bench.finish();
}
