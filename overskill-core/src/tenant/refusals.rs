//! How many refusals the audit log is given: a flood of bad tokens must not fill it.

use crate::{AppId, Clock};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Refusals of a gate. Those above the limits are counted, and the count is told with the next that is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    since: Duration,
    written: u32,
    kinds: HashMap<(Option<AppId>, &'static str), Kind>,
}

/// How many of an app and reason were written in this window, and how many were only counted since one was.
#[derive(Debug, Default)]
struct Kind {
    written: u32,
    counted: u64,
}

impl Refusals {
    const WINDOW: Duration = Duration::from_mins(1);
    /// In a window, of each app and reason, and in all.
    const EACH: u32 = 10;
    const ALL: u32 = 600;
    /// How many apps and reasons are told apart; the others count as one.
    const MAX_KINDS: usize = 10_000;

    /// How many like this one were counted since the last that was written; `None` when this one is to be counted only.
    pub(super) fn admit(&self, app: &AppId, reason: &'static str, clock: &dyn Clock) -> Option<u64> {
        let now = clock.monotonic();
        let mut seen = self.0.lock().expect("nothing panics while it is held");
        if now.saturating_sub(seen.since) >= Self::WINDOW {
            (seen.since, seen.written) = (now, 0);
            seen.kinds.retain(|_, kind| {
                kind.written = 0;
                kind.counted > 0
            });
        }
        let mut key = (Some(app.clone()), reason);
        if seen.kinds.len() >= Self::MAX_KINDS && !seen.kinds.contains_key(&key) {
            key = (None, "");
        }
        let room = seen.written < Self::ALL;
        let kind = seen.kinds.entry(key).or_default();
        if room && kind.written < Self::EACH {
            kind.written += 1;
            let counted = std::mem::take(&mut kind.counted);
            seen.written += 1;
            return Some(counted);
        }
        kind.counted += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestClock;

    #[test]
    fn a_flood_is_counted_and_told_and_hides_nothing_else() {
        let (refusals, clock) = (Refusals::default(), TestClock::new());
        let (todo, shop) = (AppId::parse("todo42").unwrap(), AppId::parse("shop").unwrap());
        let written = (0..1_000).filter(|_| refusals.admit(&todo, "malformed", &clock).is_some()).count();
        assert_eq!(written, 10);
        // Another app, and another reason: each has its own place.
        assert_eq!(refusals.admit(&shop, "malformed", &clock), Some(0));
        assert_eq!(refusals.admit(&todo, "revoked", &clock), Some(0));
        clock.advance(Duration::from_mins(1));
        assert_eq!(refusals.admit(&todo, "malformed", &clock), Some(990));
        assert_eq!(refusals.admit(&todo, "malformed", &clock), Some(0));
    }

    #[test]
    fn made_up_apps_are_bounded_too() {
        let (refusals, clock) = (Refusals::default(), TestClock::new());
        let apps = (0..20_000).map(|n| AppId::parse(&format!("app{n}")).unwrap());
        let written = apps.filter(|app| refusals.admit(app, "malformed", &clock).is_some()).count();
        assert_eq!(written, 600);
        assert!(refusals.0.lock().unwrap().kinds.len() <= Refusals::MAX_KINDS + 1);
    }
}
