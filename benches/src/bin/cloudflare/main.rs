//! Cloudflare, emulated: what it takes to bring an app there against wrangler, a whole fleet under the quota, the dispatcher,
//! edits through a preview's room, and the emulator's memory.

mod app;
mod deploys;
mod dispatching;
mod edits;
mod fleet;
mod memory;
mod rig;
mod wrangler;

use app::App;
use overskill_benches::{Bench, Outcome};
use overskill_testkit::cloudflare::CloudflareEmulator;
use rig::Rig;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // This program is also our side of a contest.
    if let Some((role, rest)) = arguments.split_first()
        && role == "serve"
    {
        if let Err(e) = runtime.block_on(edits::serve(rest)) {
            eprintln!("{e}");
            std::process::exit(1);
        }
        return;
    }
    let figures =
        [&deploys::figures()[..], &fleet::FIGURES, &dispatching::FIGURES, &edits::figures(), &memory::FIGURES].concat();
    let mut bench = Bench::start("cloudflare", &figures);
    runtime.block_on(with_rig(&mut bench));
    if bench.wants("edits") {
        let outcome = edits::measure(&mut bench);
        bench.attempt("edits", outcome);
    }
    bench.finish();
}

/// What is measured in this process, on an account of its own each: what one leaves behind is not the next one's to carry.
async fn with_rig(bench: &mut Bench) {
    if bench.wants("deploys") || bench.wants("fleet") {
        let prepared = App::prepare().await;
        if let Some(app) = bench.attempt("the app", prepared) {
            if bench.wants("deploys") {
                let outcome = async { deploys::measure(bench, &rig().await?, &app).await }.await;
                bench.attempt("deploys", outcome);
            }
            if bench.wants("fleet") {
                let outcome = async { fleet::measure(bench, &rig().await?, &app).await }.await;
                bench.attempt("fleet", outcome);
            }
        }
    }
    if bench.wants("dispatcher") {
        let outcome = async { dispatching::measure(bench, &rig().await?).await }.await;
        bench.attempt("dispatcher", outcome);
    }
    if bench.wants("memory") {
        let outcome = async { memory::measure(bench, &rig().await?).await }.await;
        bench.attempt("memory", outcome);
    }
}

async fn rig() -> Outcome<Rig> {
    Rig::start(CloudflareEmulator::options()).await
}
