//! Telling progress: `Progress::at`, from the call to the moment that the sink has the event.

use crate::{LIMIT, under_limit};
use overskill_benches::{Bench, Figure, Outcome, Reading};
use overskill_core::{DiscardProgress, Progress, ProgressSink, StreamName, memory::MemoryProgress};
use std::sync::Arc;

const DISCARDED: Figure = under_limit("progress: to a sink that drops it", "a publish");
const RING: Figure = under_limit("progress: to a full ring in memory", "a publish");
const STREAMS: Figure = under_limit("progress: to 1,000 full rings in turn", "a publish");

pub(crate) const FIGURES: [Figure; 3] = [DISCARDED, RING, STREAMS];

pub(crate) fn measure(bench: &mut Bench) -> Outcome<()> {
    // Short turns, so that most are not interrupted by another program.
    let (turns, times) = bench.size((2_000, 200), (100, 200));
    let one = [Progress::to(Arc::new(DiscardProgress), StreamName::tool_execution("1")?, "run-1").build()];
    bench.show(&DISCARDED, reading(turns, times, &one));
    let ring: Arc<dyn ProgressSink> = Arc::new(MemoryProgress::new());
    let one = [Progress::to(ring, StreamName::tool_execution("1")?, "run-1").build()];
    bench.show(&RING, reading(turns, times, &one));
    let rings: Arc<dyn ProgressSink> = Arc::new(MemoryProgress::new());
    let tell = |n| Ok(Progress::to(rings.clone(), StreamName::tool_execution(&format!("{n}"))?, "run-1").build());
    let many = (0..1_000).map(tell).collect::<Outcome<Vec<_>>>()?;
    // Full before the first turn.
    many.iter().cycle().take(256_000).for_each(|progress| progress.at(1, "writing", "Writing src/App.tsx"));
    bench.show(&STREAMS, reading(turns, times, &many));
    Ok(())
}

fn reading(turns: usize, times: u32, tellers: &[Progress]) -> Reading {
    let mut next = tellers.iter().cycle();
    Reading::of_calls(turns, times, LIMIT, || {
        if let Some(progress) = next.next() {
            progress.at(std::hint::black_box(30), "writing", "Writing src/App.tsx");
        }
    })
}
