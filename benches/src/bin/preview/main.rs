//! Previews against Vite's dev server, esbuild and bare oxc; and many of them at once.

mod browser;
mod crowd;
mod many;
mod prepare;
mod serve;
mod transform;

use overskill_benches::Bench;
use prepare::Ground;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // This program is also our side of the contests.
    let ended = match arguments.split_first() {
        Some((role, rest)) if role == "serve" => Some(runtime.block_on(serve::run(rest))),
        Some((role, rest)) if role == "crowd" => Some(runtime.block_on(crowd::run(rest))),
        _ => None,
    };
    if let Some(ended) = ended {
        if let Err(e) = ended {
            eprintln!("{e}");
            std::process::exit(1);
        }
        return;
    }
    let figures = [&browser::FIGURES[..], &transform::FIGURES, &many::FIGURES].concat();
    let mut bench = Bench::start("preview", &figures);
    let ground = Ground::prepare();
    if let Some(ground) = bench.attempt("the apps", ground) {
        if let Some(version) = ground.vite_version() {
            bench.note(format!("Vite is {version}"));
        }
        if bench.wants("compiling") {
            let alone = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
            let outcome = alone.block_on(transform::measure(&mut bench, &ground));
            bench.attempt("compiling", outcome);
        }
        if bench.wants("starts") {
            let outcome = browser::starts(&mut bench, &ground);
            bench.attempt("starts", outcome);
        }
        if bench.wants("many") {
            let outcome = runtime.block_on(many::measure(&mut bench, &ground));
            bench.attempt("many", outcome);
        }
        if bench.wants("edits") {
            let outcome = browser::edits(&mut bench, &ground);
            bench.attempt("edits", outcome);
        }
    }
    bench.finish();
}
