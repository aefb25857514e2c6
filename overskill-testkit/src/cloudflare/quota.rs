//! The provider's quota of calls, over all tokens of the account.

use overskill_core::Timestamp;
use std::{collections::VecDeque, time::Duration};

/// So many calls in so long; over it, everything is refused for as long again.
#[derive(Debug)]
pub(super) struct Quota {
    calls: usize,
    window: Duration,
    taken: VecDeque<Timestamp>,
    blocked_until: Option<Timestamp>,
}

/// How the quota stands after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Within { remaining: usize },
    Exceeded { retry_after: Duration },
}

impl Quota {
    pub(super) fn new(calls: usize, window: Duration) -> Self {
        Self { calls, window, taken: VecDeque::new(), blocked_until: None }
    }

    pub(super) fn limit(&self) -> usize {
        self.calls
    }

    pub(super) fn take(&mut self, now: Timestamp) -> Standing {
        if let Some(until) = self.blocked_until {
            if now < until {
                return Standing::Exceeded { retry_after: until.since(now) };
            }
            self.blocked_until = None;
            self.taken.clear();
        }
        while self.taken.front().is_some_and(|at| now.since(*at) >= self.window) {
            self.taken.pop_front();
        }
        if self.taken.len() >= self.calls {
            self.blocked_until = Some(now.plus(self.window));
            return Standing::Exceeded { retry_after: self.window };
        }
        self.taken.push_back(now);
        Standing::Within { remaining: self.calls - self.taken.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_quota_everything_is_refused_for_a_while() {
        let mut quota = Quota::new(2, Duration::from_secs(10));
        let at = |seconds: i64| Timestamp::from_unix_millis(seconds * 1000);
        assert_eq!(quota.take(at(0)), Standing::Within { remaining: 1 });
        assert_eq!(quota.take(at(5)), Standing::Within { remaining: 0 });
        assert_eq!(quota.take(at(10)), Standing::Within { remaining: 0 }, "the first has left the window");
        assert_eq!(quota.take(at(11)), Standing::Exceeded { retry_after: Duration::from_secs(10) });
        assert_eq!(quota.take(at(20)), Standing::Exceeded { retry_after: Duration::from_secs(1) });
        assert_eq!(quota.take(at(21)), Standing::Within { remaining: 1 });
    }
}
