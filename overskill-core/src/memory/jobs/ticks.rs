use crate::{Schedule, Timestamp};
use std::time::Duration;

/// The newest tick of `schedule` that is not later than `now`, given one that is not: `tick`.
///
/// A schedule can only be asked for what comes next, so the newest is searched for by halves: an outage of a year costs
/// forty questions, and not half a million.
pub(super) fn newest(schedule: &Schedule, tick: Timestamp, now: Timestamp) -> Timestamp {
    let due = |after| schedule.next_after(after).filter(|next| *next <= now);
    let Some(mut newest) = due(tick) else { return tick };
    // There is a tick after `newest` as long as `due` says so; there is none after `now`.
    let mut none_after = now;
    while let Some(next) = due(newest) {
        newest = next;
        let middle = newest.plus(none_after.since(newest) / 2);
        match due(middle) {
            Some(later) => newest = later,
            None => none_after = middle,
        }
        if none_after <= newest.plus(Duration::from_millis(1)) {
            break;
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn walked(schedule: &Schedule, mut tick: Timestamp, now: Timestamp) -> Timestamp {
        while let Some(next) = schedule.next_after(tick).filter(|next| *next <= now) {
            tick = next;
        }
        tick
    }

    proptest! {
        #[test]
        fn it_is_what_walking_finds(
            cron in prop_oneof![
                Just("* * * * *"), Just("*/7 * * * *"), Just("0 3 * * *"), Just("30 2 * * SUN"),
                Just("* * 1 1 *"), Just("0 0 29 2 *"), Just("5,50 1-3 * MAR,OCT *"),
            ],
            zone in prop_oneof![Just("UTC"), Just("Europe/Berlin"), Just("America/New_York")],
            from in 0i64..4_000_000_000_000,
            minutes in 0u64..10_000,
        ) {
            let schedule = Schedule::Cron { expression: cron.parse().unwrap(), zone: zone.parse().unwrap() };
            let tick = schedule.next_after(Timestamp::from_unix_millis(from)).unwrap();
            let now = tick.plus(Duration::from_secs(minutes * 61));
            prop_assert_eq!(newest(&schedule, tick, now), walked(&schedule, tick, now));
        }
    }

    #[test]
    fn what_comes_once_is_its_own_newest() {
        let at = Timestamp::from_unix_millis(5);
        assert_eq!(newest(&Schedule::At(at), at, Timestamp::from_unix_millis(1_000)), at);
    }
}
