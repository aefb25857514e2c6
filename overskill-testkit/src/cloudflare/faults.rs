//! What goes wrong on purpose, by script or by seeded chance.

use overskill_core::{IdsExt as _, SeededIds};
use std::time::Duration;

/// The mark of a bulk write that is to refuse every second key.
pub(super) const REFUSE_KEYS: &str = "x-overskill-refuse-keys";

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Nothing has happened to the account.
    Before,
    /// The call has had its effect, and the caller does not learn it.
    After,
}

/// One thing that goes wrong with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// 429, with or without `Retry-After`.
    TooMany {
        /// Whole seconds go into the header.
        retry_after: Option<Duration>,
    },
    /// 429 with the body `null`, as the provider answers now and then.
    BareTooMany,
    /// "Please wait and consider throttling": code 971 in an answer with status 200.
    Throttled,
    /// A status of 500 to 599, with the provider's code 10001 for 500 and no envelope for others.
    ServerError {
        /// The status.
        status: u16,
        /// Before or after the effect.
        moment: Moment,
    },
    /// The connection ends without an answer.
    CutOff(Moment),
    /// Half of the body, then the connection ends. The call has had its effect.
    CutBody,
    /// No answer ever.
    Hang(Moment),
    /// A bulk write refuses every second key, in `unsuccessful_keys`.
    RefuseKeys,
}

/// Which calls a fault is for.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    method: Option<String>,
    path: String,
}

impl Calls {
    /// Every call.
    pub fn any() -> Self {
        Self::default()
    }

    /// Calls of that method whose path (with its query) holds that text.
    pub fn of(method: impl Into<String>, path: impl Into<String>) -> Self {
        Self { method: Some(method.into()), path: path.into() }
    }

    fn holds(&self, method: &str, path: &str) -> bool {
        self.method.as_deref().is_none_or(|it| it == method) && path.contains(&self.path)
    }
}

/// A plan of faults; [`none`](Self::none) until something is added.
///
/// ```
/// use overskill_testkit::cloudflare::{Calls, Fault, FaultPlan, Moment};
/// use std::time::Duration;
///
/// let plan = FaultPlan::seeded(7)
///     .latency(Duration::from_millis(5), Duration::from_millis(20))
///     .chance(30, Calls::any(), Fault::Throttled) // 3 % of the calls
///     .nth(2, Calls::of("PUT", "/scripts/"), Fault::CutOff(Moment::After)); // the second upload
/// ```
#[derive(Clone, Debug)]
pub struct FaultPlan {
    seed: u64,
    latency: (Duration, Duration),
    kv_staleness: Duration,
    chances: Vec<(u64, Calls, Fault)>,
    scripted: Vec<(Calls, usize, usize, Fault)>,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self::none()
    }
}

impl FaultPlan {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::seeded(0)
    }

    /// Nothing goes wrong yet; chance will be that of `seed`.
    pub fn seeded(seed: u64) -> Self {
        let (latency, kv_staleness) = ((Duration::ZERO, Duration::ZERO), Duration::ZERO);
        Self { seed, latency, kv_staleness, chances: Vec::new(), scripted: Vec::new() }
    }

    /// Every call takes that long, evenly spread.
    pub fn latency(mut self, from: Duration, to: Duration) -> Self {
        self.latency = (from, to.max(from));
        self
    }

    /// Reads of KV are behind by so much: of values, of lists, and of keys that are not there.
    pub fn kv_staleness(mut self, by: Duration) -> Self {
        self.kv_staleness = by;
        self
    }

    /// So many of a thousand calls fail like that.
    pub fn chance(mut self, per_mille: u64, calls: Calls, fault: Fault) -> Self {
        self.chances.push((per_mille, calls, fault));
        self
    }

    /// The `nth` of these calls fails, counted from 1 when the plan begins.
    pub fn nth(self, nth: usize, calls: Calls, fault: Fault) -> Self {
        self.some(nth, 1, calls, fault)
    }

    /// From the `nth` of these calls on, `count` of them fail; `usize::MAX` for all.
    pub fn some(mut self, nth: usize, count: usize, calls: Calls, fault: Fault) -> Self {
        self.scripted.push((calls, nth, count, fault));
        self
    }

    pub(super) fn staleness(&self) -> Duration {
        self.kv_staleness
    }
}

/// A plan at work.
#[derive(Debug)]
pub(super) struct Faults {
    plan: FaultPlan,
    ids: SeededIds,
    seen: Vec<usize>,
}

impl Faults {
    pub(super) fn new(plan: FaultPlan) -> Self {
        Self { ids: SeededIds::new(plan.seed), seen: vec![0; plan.scripted.len()], plan }
    }

    /// What is to happen to a call, and how long it takes.
    pub(super) fn pick(&mut self, method: &str, path: &str) -> (Option<Fault>, Duration) {
        let mut picked = None;
        for ((calls, nth, count, fault), seen) in self.plan.scripted.iter().zip(&mut self.seen) {
            if calls.holds(method, path) {
                *seen += 1;
                if *seen >= *nth && *seen - nth < *count {
                    picked = picked.or(Some(fault));
                }
            }
        }
        for (per_mille, calls, fault) in &self.plan.chances {
            if calls.holds(method, path) && self.ids.random_u64() % 1000 < *per_mille {
                picked = picked.or(Some(fault));
            }
        }
        let (from, to) = self.plan.latency;
        (picked.cloned(), from + self.ids.jitter(to.saturating_sub(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_strikes_where_it_says() {
        let put = || Calls::of("PUT", "/scripts/");
        let mut faults = Faults::new(FaultPlan::none().some(2, 2, put(), Fault::CutBody));
        let mut pick = |method: &str| faults.pick(method, "/a/scripts/b").0;
        assert_eq!(pick("PUT"), None);
        assert_eq!(pick("GET"), None);
        assert_eq!([pick("PUT"), pick("PUT"), pick("PUT")], [Some(Fault::CutBody), Some(Fault::CutBody), None]);
    }

    #[test]
    fn chance_is_that_of_the_seed() {
        let run = |seed| {
            let mut faults = Faults::new(FaultPlan::seeded(seed).chance(300, Calls::any(), Fault::Throttled));
            (0..1000).map(|_| faults.pick("GET", "/").0.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let hits = run(1).into_iter().filter(|it| *it).count();
        assert!((200..400).contains(&hits), "{hits} of 1000");
    }
}
