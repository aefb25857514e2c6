//! The emulator's memory while thousands of scripts are deployed, each of which is asked for once.

use crate::rig::{NAMESPACE, Rig};
use overskill_benches::{Bench, Figure, Goal, Outcome, Reading};
use serde_json::json;
use std::{fs, time::Instant};

const CASE: &str = "5,000 scripts deployed and asked";
const GROWTH: Figure = Figure::shown(CASE, "memory of workerd", "MiB", "after 1,000").goal(Goal::AtMost(1.25));
const MOST: Figure = Figure::shown(CASE, "the most in between", "MiB", "after 1,000");
const HELD: Figure = Figure::shown(CASE, "memory of this process", "MiB", "after 1,000");
const LOADED: Figure = Figure::shown(CASE, "scripts loaded at the end", "", "");
const RATE: Figure = Figure::shown(CASE, "upload and first answer", "ms", "");

pub(crate) const FIGURES: [Figure; 5] = [GROWTH, MOST, HELD, LOADED, RATE];

pub(crate) async fn measure(bench: &mut Bench, rig: &Rig) -> Outcome<()> {
    let (all, first) = (bench.size(5_000, 300), bench.size(1_000, 100));
    let mut plain = rig.plain().await?;
    let begun = Instant::now();
    let (mut after_first, mut held, mut most) = (0.0, 0.0, 0.0_f64);
    for n in 1..=all {
        let name = format!("script{n}");
        let code = format!("export default {{ fetch() {{ return new Response('{name}'); }} }};\n");
        rig.put(&format!("workers/dispatch/namespaces/{NAMESPACE}/scripts/{name}"), &code, &json!([])).await?;
        let (status, body) = plain.get(&format!("{name}.bare.test"), "/").await?;
        if (status, &body[..]) != (200, name.as_bytes()) {
            return Err(format!("{name}: {status} {}", String::from_utf8_lossy(&body)).into());
        }
        if n % (first / 10) == 0 {
            most = most.max(workerd_mib(rig).await?);
        }
        if n == first {
            (after_first, held) = (workerd_mib(rig).await?, resident_mib()?);
        }
    }
    bench.show(&RATE, Reading::alone(begun.elapsed().as_secs_f64() * 1e3 / f64::from(all)));
    bench.show(&GROWTH, Reading::limited(workerd_mib(rig).await?, after_first));
    bench.show(&MOST, Reading::limited(most, after_first));
    bench.show(&HELD, Reading::limited(resident_mib()?, held));
    bench.show(&LOADED, Reading::alone(f64::from(u32::try_from(rig.emulator.loaded_scripts().await?)?)));
    Ok(())
}

async fn workerd_mib(rig: &Rig) -> Outcome<f64> {
    let bytes = rig.emulator.edge_memory_bytes().await.ok_or("nobody tells what workerd holds")?;
    Ok(f64::from(u32::try_from(bytes >> 10)?) / 1024.0)
}

/// Of this process.
fn resident_mib() -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}
