//! What a deployment costs: building the app against Vite, what the service adds to the target and the database, whether that
//! grows with the number of apps, and how long a stampede takes when the preferred target comes back.

mod building;
mod growth;
mod overhead;
mod stampede;

use overskill_benches::Bench;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // This program is also our side of the contest.
    if let Some((role, rest)) = arguments.split_first()
        && role == "build"
    {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
        if let Err(e) = runtime.block_on(building::run(rest)) {
            eprintln!("{e}");
            std::process::exit(1);
        }
        return;
    }
    let figures = [&building::FIGURES[..], &overhead::FIGURES, &growth::FIGURES, &stampede::FIGURES].concat();
    let mut bench = Bench::start("deploy", &figures);
    if bench.wants("building") {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
        let outcome = runtime.block_on(building::measure(&mut bench));
        bench.attempt("building", outcome);
    }
    if bench.wants("overhead") {
        let outcome = overhead::measure(&mut bench);
        bench.attempt("overhead", outcome);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
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
