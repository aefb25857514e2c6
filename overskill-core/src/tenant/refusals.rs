//! How many refusals the audit log is given: a flood of bad tokens must not fill it.

use crate::{AppId, Clock};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Refusals of a gate. Those above the limits are counted, and the count is told with the next that is written.
///
/// Whoever floods it with apps that they made up hides, of other apps, refusals for that reason alone, and those of one
/// minute.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    since: Duration,
    reasons: HashMap<&'static str, Reason>,
}

/// What was refused for one reason: in this window, and what nobody was told of before.
#[derive(Debug, Default)]
struct Reason {
    written: u32,
    apps: HashMap<AppId, Kind>,
    /// Of apps that are not told apart any more.
    counted: u64,
}

/// How many of an app were written in this window, and how many were only counted since one was.
#[derive(Debug, Default)]
struct Kind {
    written: u32,
    counted: u64,
}

/// How many refusals were counted only: of this app, and of apps that were not told apart, for the same reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) like_it: u64,
    pub(super) of_others: u64,
}

impl Refusals {
    const WINDOW: Duration = Duration::from_mins(1);
    /// In a window, of each app and reason, and of each reason.
    const EACH: u32 = 10;
    const ALL: u32 = 100;
    /// How many apps are told apart for a reason, and how many of them are remembered in the next window.
    const MAX_APPS: usize = 2_000;
    const KEPT_APPS: usize = 200;

    /// How many were counted since the last that was written; `None` when this one is to be counted only.
    pub(super) fn admit(&self, app: &AppId, reason: &'static str, clock: &dyn Clock) -> Option<Counted> {
        let now = clock.monotonic();
        let mut seen = self.0.lock().expect("nothing panics while it is held");
        if now.saturating_sub(seen.since) >= Self::WINDOW {
            seen.since = now;
            seen.reasons.values_mut().for_each(Reason::begin_window);
        }
        let reason = seen.reasons.entry(reason).or_default();
        let room = reason.written < Self::ALL;
        if reason.apps.len() >= Self::MAX_APPS && !reason.apps.contains_key(app) {
            reason.counted += 1;
            return None;
        }
        let kind = reason.apps.entry(app.clone()).or_default();
        if room && kind.written < Self::EACH {
            kind.written += 1;
            reason.written += 1;
            let like_it = std::mem::take(&mut kind.counted);
            return Some(Counted { like_it, of_others: std::mem::take(&mut reason.counted) });
        }
        kind.counted += 1;
        None
    }
}

impl Reason {
    /// Forgets the apps of the window before, but for those of which most was not told.
    fn begin_window(&mut self) {
        self.written = 0;
        let mut apps: Vec<_> = self.apps.drain().filter(|(_, kind)| kind.counted > 0).collect();
        apps.sort_unstable_by(|(a, one), (b, other)| other.counted.cmp(&one.counted).then_with(|| a.cmp(b)));
        let forgotten = apps.split_off(apps.len().min(Refusals::KEPT_APPS));
        self.counted += forgotten.iter().map(|(_, kind)| kind.counted).sum::<u64>();
        self.apps.extend(apps.into_iter().map(|(app, kind)| (app, Kind { written: 0, ..kind })));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestClock;

    const NONE: Option<Counted> = Some(Counted { like_it: 0, of_others: 0 });

    fn app(name: &str) -> AppId {
        AppId::parse(name).unwrap()
    }

    #[test]
    fn a_flood_is_counted_and_told_and_hides_nothing_else() {
        let (refusals, clock) = (Refusals::default(), TestClock::new());
        let (todo, shop) = (app("todo42"), app("shop"));
        let written = (0..1_000).filter(|_| refusals.admit(&todo, "malformed", &clock).is_some()).count();
        assert_eq!(written, 10);
        // Another app, and another reason: each has its own place.
        assert_eq!(refusals.admit(&shop, "malformed", &clock), NONE);
        assert_eq!(refusals.admit(&todo, "revoked", &clock), NONE);
        clock.advance(Duration::from_mins(1));
        assert_eq!(refusals.admit(&todo, "malformed", &clock), Some(Counted { like_it: 990, of_others: 0 }));
        assert_eq!(refusals.admit(&todo, "malformed", &clock), NONE);
    }

    #[test]
    fn made_up_apps_are_bounded_and_hide_nothing_for_other_reasons_nor_for_long() {
        let (refusals, clock) = (Refusals::default(), TestClock::new());
        let shop = app("shop");
        for round in 0..3 {
            let apps = (0..20_000).map(|n| app(&format!("made{round}x{n}")));
            let written = apps.filter(|app| refusals.admit(app, "malformed", &clock).is_some()).count();
            assert_eq!(written, 100, "round {round}");
            assert!(refusals.admit(&shop, "revoked", &clock).is_some(), "another reason");
            let apps: usize = refusals.0.lock().unwrap().reasons.values().map(|reason| reason.apps.len()).sum();
            assert!(apps <= Refusals::MAX_APPS + 1, "{apps} are remembered");
            clock.advance(Duration::from_mins(1));
            // The flood is over: what is refused now is written, and tells of it.
            let counted = refusals.admit(&shop, "malformed", &clock).expect("it is written");
            assert!(counted.like_it == 0 && counted.of_others > 19_000, "{counted:?}");
            clock.advance(Duration::from_mins(1));
        }
    }
}
