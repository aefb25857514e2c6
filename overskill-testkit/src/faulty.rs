//! Faults on purpose: [`Faulty`] wraps any backend and breaks the calls that a [`FaultPlan`] names.
//!
//! A plan is scripted ("the second `activate` lands, its answer is lost"), or seeded (so many of a thousand calls, drawn
//! from a number), or both; it keeps a count of every call and of how often each fault hit.
//!
//! ```
//! use overskill_core::{Effect, Error, ErrorKind, Operation, Policy, Repeat, Result};
//! use overskill_testkit::faulty::{Calls, Fault, FaultPlan};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let plan = FaultPlan::new().nth(Calls::of("target", "activate"), 2, Fault::after());
//! let target = plan.around("any backend"); // a backend of every seam that it was one of before
//! # let activate = Operation { seam: "target", name: "activate", repeat: Repeat::Unsafe };
//! # let mut lost = None;
//! # for _ in 0..3 {
//! #     let answer: Result<()> = target.policy().run(activate, || async { Ok(()) }).await;
//! #     if let Err(e) = answer { lost = Some(e); }
//! # }
//! // … the second `activate` is made, and its answer is lost:
//! # let lost: Error = lost.unwrap();
//! assert_eq!((lost.kind(), lost.effect()), (ErrorKind::Unavailable, Effect::Unknown));
//! assert_eq!(plan.hits().total(), 1);
//! # });
//! ```
//!
//! Methods that are not async (such as `info`) are passed on as they are.

use overskill_core::{
    Around, Clock, Effect, Error, ErrorKind, IdsExt as _, Operation, Policy, Result, SeededIds, SystemClock,
};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    task::Poll,
    time::Duration,
};

/// A backend whose calls fail as a [`FaultPlan`] says. Made by [`FaultPlan::around`].
pub type Faulty<S> = Around<S, FaultPolicy>;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The call is not made; the error is of this kind and claims this effect. `Effect::Unknown` is the honest answer of
    /// a client that lost its connection before the request left and cannot know that.
    BeforeEffect {
        /// The kind of the error.
        kind: ErrorKind,
        /// What the error says of the effect.
        effect: Effect,
    },
    /// The call is made to its end, and its answer, good or bad, is lost: an error of this kind with an unknown effect.
    AfterEffect {
        /// The kind of the error.
        kind: ErrorKind,
    },
    /// The call is not made and never answers.
    HangBefore,
    /// The call is made to its end and never answers.
    HangAfter,
    /// The call is begun, polled so often as it wakes, and dropped: `Unavailable` with an unknown effect. A call that
    /// is done earlier loses its answer.
    Cut {
        /// How often it is polled; 0 drops it before it has begun.
        polls: u32,
    },
    /// The call is made after this long, on the plan's clock.
    Delay(Duration),
}

impl Fault {
    /// `Unavailable` without effect; the call is not made.
    pub const fn before() -> Self {
        Self::BeforeEffect { kind: ErrorKind::Unavailable, effect: Effect::None }
    }

    /// `Unavailable` with an unknown effect; the call is made.
    pub const fn after() -> Self {
        Self::AfterEffect { kind: ErrorKind::Unavailable }
    }

    /// Dropped after its first poll.
    pub const fn cut() -> Self {
        Self::Cut { polls: 1 }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeforeEffect { kind, effect: Effect::None } => write!(f, "{kind} before the effect"),
            Self::BeforeEffect { kind, effect: Effect::Unknown } => {
                write!(f, "{kind} before the effect, said to be unknown")
            }
            Self::AfterEffect { kind } => write!(f, "{kind} after the effect"),
            Self::HangBefore => f.write_str("hang before the effect"),
            Self::HangAfter => f.write_str("hang after the effect"),
            Self::Cut { polls } => write!(f, "cut after {polls} polls"),
            Self::Delay(by) => write!(f, "delay of {by:?}"),
        }
    }
}

/// Which calls a rule is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    seam: Option<Cow<'static, str>>,
    name: Option<Cow<'static, str>>,
}

impl Calls {
    /// Every call.
    pub const fn all() -> Self {
        Self { seam: None, name: None }
    }

    /// Every call of a seam, such as `deployments`.
    pub fn of_seam(seam: impl Into<Cow<'static, str>>) -> Self {
        Self { seam: Some(seam.into()), name: None }
    }

    /// Every call of a method, such as `commit`, whichever seam it is of.
    pub fn named(name: impl Into<Cow<'static, str>>) -> Self {
        Self { seam: None, name: Some(name.into()) }
    }

    /// Every call of one method of one seam.
    pub fn of(seam: impl Into<Cow<'static, str>>, name: impl Into<Cow<'static, str>>) -> Self {
        Self { seam: Some(seam.into()), name: Some(name.into()) }
    }

    fn matches(&self, operation: Operation) -> bool {
        self.seam.as_ref().is_none_or(|s| s == operation.seam) && self.name.as_ref().is_none_or(|n| n == operation.name)
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seam.as_deref().unwrap_or("*"), self.name.as_deref().unwrap_or("*"))
    }
}

/// What goes wrong, and when. Cheap to clone; clones are one plan, with one count of calls.
///
/// The first rule that hits a call decides. A seeded rule draws from the seed, the rule's place, the operation and how
/// many calls of that operation there were: so a run with the same calls replays, whatever other operations run between
/// them.
#[derive(Clone, Debug)]
pub struct FaultPlan(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    seed: u64,
    clock: Arc<dyn Clock>,
    calm: bool,
    rules: Vec<Rule>,
    calls: BTreeMap<(&'static str, &'static str), u64>,
    log: Vec<FaultHit>,
}

#[derive(Debug)]
struct Rule {
    calls: Calls,
    when: When,
    fault: Fault,
    seen: u64,
    hits: u64,
}

#[derive(Clone, Copy, Debug)]
enum When {
    Nth(u64),
    From(u64),
    PerMille(u16),
}

/// One fault that hit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultHit {
    /// The seam.
    pub seam: &'static str,
    /// The method.
    pub name: &'static str,
    /// Which call of that method it was; the first is 1.
    pub call: u64,
    /// What went wrong.
    pub fault: Fault,
}

impl Default for FaultPlan {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultPlan {
    /// A plan in which nothing goes wrong yet.
    pub fn new() -> Self {
        Self::seeded(0)
    }

    /// The same, with a seed for what is added by [`chance`](Self::chance).
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            seed,
            clock: Arc::new(SystemClock),
            calm: false,
            rules: Vec::new(),
            calls: BTreeMap::new(),
            log: Vec::new(),
        })))
    }

    /// Takes time for delays from another clock.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        self.state().clock = clock;
        self
    }

    /// The `n`th of these calls, counted from now on, fails so; the first is 1.
    pub fn nth(self, calls: Calls, n: u64, fault: Fault) -> Self {
        self.add(calls, When::Nth(n), fault)
    }

    /// All of these calls fail so, from the `n`th on, counted from now on: a backend that went down and stays down.
    pub fn from_nth(self, calls: Calls, n: u64, fault: Fault) -> Self {
        self.add(calls, When::From(n), fault)
    }

    /// All of these calls fail so.
    pub fn always(self, calls: Calls, fault: Fault) -> Self {
        self.from_nth(calls, 1, fault)
    }

    /// So many of a thousand of these calls fail so, drawn from the seed.
    pub fn chance(self, calls: Calls, per_mille: u16, fault: Fault) -> Self {
        self.add(calls, When::PerMille(per_mille), fault)
    }

    /// Puts the plan around a backend. One plan may be around many.
    pub fn around<S>(&self, inner: S) -> Faulty<S> {
        Around::with_policy(inner, FaultPolicy { plan: self.clone() })
    }

    /// Lets every call through until [`resume`](Self::resume), so that a test can look at what is there. Calls are
    /// counted all the same.
    pub fn pause(&self) {
        self.state().calm = true;
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.state().calm = false;
    }

    /// How many of these calls there were, whatever became of them.
    pub fn calls(&self, calls: &Calls) -> u64 {
        let state = self.state();
        let matching = state.calls.iter().filter(|((seam, name), _)| {
            calls.matches(Operation { seam, name, repeat: overskill_core::Repeat::Unsafe })
        });
        matching.map(|(_, n)| n).sum()
    }

    /// How often each rule hit.
    pub fn hits(&self) -> FaultHits {
        let row = |r: &Rule| FaultCount { rule: r.to_string(), fault: r.fault, seen: r.seen, hits: r.hits };
        FaultHits { rows: self.state().rules.iter().map(row).collect() }
    }

    /// Every fault that hit, in order: two runs that replay have equal logs.
    pub fn log(&self) -> Vec<FaultHit> {
        self.state().log.clone()
    }

    fn add(self, calls: Calls, when: When, fault: Fault) -> Self {
        self.state().rules.push(Rule { calls, when, fault, seen: 0, hits: 0 });
        self
    }

    fn next(&self, operation: Operation) -> Option<Fault> {
        let mut guard = self.state();
        let state = &mut *guard;
        let call = state.calls.entry((operation.seam, operation.name)).or_insert(0);
        *call += 1;
        let call = *call;
        let mut found = None;
        for (place, rule) in state.rules.iter_mut().enumerate().filter(|(_, r)| r.calls.matches(operation)) {
            rule.seen += 1;
            let hits = match rule.when {
                When::Nth(n) => rule.seen == n,
                When::From(n) => rule.seen >= n,
                When::PerMille(p) => draw(state.seed, place, operation, call) % 1000 < u64::from(p),
            };
            if hits && !state.calm && found.is_none() {
                rule.hits += 1;
                found = Some(rule.fault);
            }
        }
        if let Some(fault) = found {
            state.log.push(FaultHit { seam: operation.seam, name: operation.name, call, fault });
        }
        found
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder of the plan panics")
    }
}

/// One number for a seed, a rule, an operation and a call of it, and no other.
fn draw(seed: u64, rule: usize, operation: Operation, call: u64) -> u64 {
    let digest = overskill_core::Digest::of_parts([
        &seed.to_le_bytes()[..],
        &(rule as u64).to_le_bytes(),
        operation.seam.as_bytes(),
        operation.name.as_bytes(),
        &call.to_le_bytes(),
    ]);
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    SeededIds::new(u64::from_le_bytes(first)).random_u64()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, when, fault, .. } = self;
        match when {
            When::Nth(n) => write!(f, "{calls} call {n}: {fault}"),
            When::From(n) => write!(f, "{calls} from call {n} on: {fault}"),
            When::PerMille(p) => write!(f, "{calls} {p} of 1000: {fault}"),
        }
    }
}

/// The policy of a [`Faulty`] backend.
#[derive(Clone, Debug)]
pub struct FaultPolicy {
    plan: FaultPlan,
}

impl FaultPolicy {
    /// The plan that it follows.
    pub const fn plan(&self) -> &FaultPlan {
        &self.plan
    }
}

impl Policy for FaultPolicy {
    async fn run<'a, T, F, Fut>(&'a self, operation: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        let Some(fault) = self.plan.next(operation) else {
            return call().await;
        };
        let failed = |kind, effect| {
            let message = format!("{fault}, as the fault plan says");
            Err(Error::new(kind, message).at(operation.seam, operation.name).effect_as(effect))
        };
        match fault {
            Fault::BeforeEffect { kind, effect } => failed(kind, effect),
            Fault::AfterEffect { kind } => {
                drop(call().await);
                failed(kind, Effect::Unknown)
            }
            Fault::HangBefore => std::future::pending().await,
            Fault::HangAfter => {
                drop(call().await);
                std::future::pending().await
            }
            Fault::Cut { polls } => {
                cut(call(), polls).await;
                failed(ErrorKind::Unavailable, Effect::Unknown)
            }
            Fault::Delay(by) => {
                let clock = self.plan.state().clock.clone();
                clock.sleep(by).await;
                call().await
            }
        }
    }
}

/// Polls `call` as it wakes, at most `polls` times, and drops it before this returns.
async fn cut<T>(call: impl Future<Output = T>, polls: u32) {
    let mut call = pin!(call);
    let mut polled = 0;
    std::future::poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(());
        }
        polled += 1;
        if call.as_mut().poll(context).is_ready() || polled == polls {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// How often each rule of a plan hit. `Display` is a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultHits {
    rows: Vec<FaultCount>,
}

/// How often one rule hit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCount {
    /// The rule, in words.
    pub rule: String,
    /// What goes wrong.
    pub fault: Fault,
    /// How many calls it was about.
    pub seen: u64,
    /// How many of them it hit.
    pub hits: u64,
}

impl FaultHits {
    /// A row for each rule, in the order they were added.
    pub fn rows(&self) -> &[FaultCount] {
        &self.rows
    }

    /// How often anything went wrong.
    pub fn total(&self) -> u64 {
        self.rows.iter().map(|r| r.hits).sum()
    }

    /// The rules that never hit. A test of random faults asserts that there are none: what never happened was not
    /// tested.
    pub fn never(&self) -> Vec<&str> {
        self.rows.iter().filter(|r| r.hits == 0).map(|r| r.rule.as_str()).collect()
    }
}

impl fmt::Display for FaultHits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8} {:>8}  rule", "hits", "calls")?;
        self.rows.iter().try_for_each(|r| writeln!(f, "{:>8} {:>8}  {}", r.hits, r.seen, r.rule))
    }
}
