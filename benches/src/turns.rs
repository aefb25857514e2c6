//! Measuring several things in one run.

use crate::{Outcome, Reading};
use std::time::{Duration, Instant};

/// What each of `N` contestants showed in each turn.
#[derive(Clone, Debug)]
pub struct Turns<const N: usize>(Vec<[f64; N]>);

/// Lets `N` contestants run in turn, `turns` times; `run` is given the number of the contestant and says what it showed:
/// a time, or a rate.
///
/// The order changes from turn to turn, so that none always has the same neighbour's leftovers to pay for. A first turn
/// warms everything up and does not count.
pub async fn interleave<const N: usize>(
    turns: usize,
    mut run: impl AsyncFnMut(usize) -> Outcome<f64>,
) -> Outcome<Turns<N>> {
    let mut seen = Vec::with_capacity(turns);
    for turn in 0..=turns {
        let mut shown = [0.0; N];
        for step in 0..N {
            let place = (turn + step) % N;
            let contestant = if (turn / N).is_multiple_of(2) { place } else { N - 1 - place };
            shown[contestant] = run(contestant).await?;
        }
        if turn > 0 {
            seen.push(shown);
        }
    }
    Ok(Turns(seen))
}

impl<const N: usize> Turns<N> {
    /// Turns that were measured elsewhere: by a program in a browser, say.
    pub fn seen(turns: Vec<[f64; N]>) -> Self {
        Self(turns)
    }

    /// All turns of several heats.
    ///
    /// A contestant that the system has put on a core with a busy neighbour stays there for a while, and is slow in all
    /// turns of a heat; in the next heat, with new threads and connections, it is another's turn.
    pub fn of_heats(heats: impl IntoIterator<Item = Self>) -> Self {
        Self(heats.into_iter().flat_map(|heat| heat.0).collect())
    }

    /// The median of one contestant.
    pub fn of(&self, contestant: usize) -> f64 {
        median(self.0.iter().map(|turn| turn[contestant]))
    }

    /// What all but such a part of one contestant's turns stayed below: 0.95 is "95th percentile".
    pub fn quantile_of(&self, contestant: usize, part: f64) -> f64 {
        quantile(self.0.iter().map(|turn| turn[contestant]), part)
    }

    /// What the median of the ratios of neighbours could be at most, with 95 % confidence: the upper end of the interval
    /// between the 2.5th and the 97.5th percentile of the medians of samples drawn from the turns (bootstrap).
    pub fn ratio_bound(&self, ours: usize, peer: usize) -> f64 {
        const SAMPLES: usize = 2_000;
        let ratios: Vec<f64> = self.0.iter().map(|turn| turn[ours] / turn[peer]).collect();
        if ratios.is_empty() {
            return f64::NAN;
        }
        // The same samples each time: two looks at the same turns show the same.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ratios[usize::try_from(state % ratios.len() as u64).unwrap_or_default()]
        };
        let medians = (0..SAMPLES).map(|_| median((0..ratios.len()).map(|_| draw()).collect::<Vec<_>>()));
        quantile(medians.collect::<Vec<_>>(), 0.975)
    }

    /// Two contestants, and the median of the ratios of neighbours.
    pub fn compare(&self, ours: usize, peer: usize) -> Reading {
        let ratios = || self.0.iter().map(|turn| turn[ours] / turn[peer]);
        Reading {
            ours: self.of(ours),
            peer: Some(self.of(peer)),
            ratio: Some(median(ratios())),
            spread: Some((quantile(ratios(), 0.25), quantile(ratios(), 0.75))),
        }
    }

    /// The same of calls so short that another program on the core makes them take many times as long: for each the time
    /// that a tenth of its turns stayed below, and the ratio of the two.
    pub fn compare_undisturbed(&self, ours: usize, peer: usize) -> Reading {
        let undisturbed = |who: usize| quantile(self.0.iter().map(|turn| turn[who]), 0.1);
        let (ours_took, peer_took) = (undisturbed(ours), undisturbed(peer));
        let ratio = Some(ours_took / peer_took);
        Reading { ours: ours_took, peer: Some(peer_took), ratio, ..self.compare(ours, peer) }
    }

    /// By how much one contestant showed more than another, set against a limit.
    pub fn added(&self, ours: usize, peer: usize, limit: f64) -> Reading {
        Reading::limited(median(self.0.iter().map(|turn| turn[ours] - turn[peer])), limit)
    }
}

/// The time of each of `times` calls, in nanoseconds.
pub fn nanos_each(took: Duration, times: u32) -> f64 {
    took.as_secs_f64() * 1e9 / f64::from(times)
}

impl Reading {
    /// The median time of a call in nanoseconds, over `turns` of `times` calls each, set against a limit.
    pub fn of_calls(turns: usize, times: u32, limit: f64, mut call: impl FnMut()) -> Self {
        let mut turn = || {
            let start = Instant::now();
            (0..times).for_each(|_| call());
            nanos_each(start.elapsed(), times)
        };
        turn();
        Self::limited(median((0..turns).map(|_| turn())), limit)
    }
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    quantile(values, 0.5)
}

/// The value below which such a part of all lie, between two of them if need be.
fn quantile(values: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let mut rest = part * f64::from(u32::try_from(values.len().saturating_sub(1)).unwrap_or(u32::MAX));
    for pair in values.windows(2) {
        if rest < 1.0 {
            return pair[0] + (pair[1] - pair[0]) * rest;
        }
        rest -= 1.0;
    }
    values.last().copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    /// None of these futures ever waits.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("it waited"),
        }
    }

    #[test]
    fn the_order_alternates_and_the_first_turn_does_not_count() {
        let mut order = Vec::new();
        let turns = now(interleave::<2>(4, async |who| {
            order.push(who);
            Ok(if order.len() <= 2 { 1_000.0 } else { [3.0, 2.0][who] })
        }))
        .unwrap();
        assert_eq!(order, [0, 1, 1, 0, 1, 0, 0, 1, 0, 1]);
        assert_eq!((turns.of(0), turns.of(1)), (3.0, 2.0));
    }

    #[test]
    fn the_ratio_is_that_of_neighbours() {
        // The machine was ten times as slow in the second turn.
        let turns = Turns(vec![[2.0, 1.0], [20.0, 10.0], [2.4, 1.2]]);
        let reading = turns.compare(0, 1);
        assert_eq!((reading.ours, reading.peer, reading.ratio), (2.4, Some(1.2), Some(2.0)));
        assert_eq!(turns.added(0, 1, 2.4).ratio, Some(0.5));
    }

    #[test]
    fn the_first_failure_ends_it() {
        let ended = now(interleave::<2>(9, async |who| if who == 1 { Err("broken".into()) } else { Ok(1.0) }));
        assert_eq!(ended.unwrap_err().to_string(), "broken");
    }

    #[test]
    fn quantiles_lie_on_values_or_between_them() {
        assert_eq!((median([3.0, 1.0, 2.0]), median([4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        let values = || [50.0, 10.0, 30.0, 20.0, 40.0];
        let at = |part| quantile(values(), part);
        assert_eq!((at(0.0), at(0.1), at(0.25), at(1.0)), (10.0, 14.0, 20.0, 50.0));
        assert_eq!((median([7.0]), median([7.0, 7.0])), (7.0, 7.0));
        assert!(median([]).is_nan());
    }

    #[test]
    fn the_bound_of_the_ratio_lies_above_it_as_far_as_the_turns_differ() {
        let same = Turns(vec![[3.0, 2.0]; 50]);
        assert_eq!((same.ratio_bound(0, 1), same.quantile_of(1, 0.95)), (1.5, 2.0));
        let wide = Turns((1..=101).map(|n| [f64::from(n), 51.0]).collect());
        let bound = wide.ratio_bound(0, 1);
        assert!((1.1..1.5).contains(&bound), "{bound}");
        assert!(Turns::<2>(Vec::new()).ratio_bound(0, 1).is_nan());
    }

    #[test]
    fn what_disturbs_most_turns_of_one_does_not_count() {
        let slow = [[9.0, 1.0]; 7];
        let turns = Turns([&slow[..], &[[1.2, 1.0]; 3]].concat());
        assert_eq!(turns.compare(0, 1).ratio, Some(9.0));
        assert_eq!(turns.compare_undisturbed(0, 1).ratio, Some(1.2));
    }
}
