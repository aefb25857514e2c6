//! Deployments: what building an app takes, against Vite.

mod building;

use overskill_benches::Bench;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // This program is also our side of the contest.
    if let Some((role, rest)) = arguments.split_first()
        && role == "build"
    {
        if let Err(e) = runtime.block_on(building::run(rest)) {
            eprintln!("{e}");
            std::process::exit(1);
        }
        return;
    }
    let mut bench = Bench::start("deploy", &building::FIGURES);
    if bench.wants("building") {
        let outcome = runtime.block_on(building::measure(&mut bench));
        bench.attempt("building", outcome);
    }
    bench.finish();
}
