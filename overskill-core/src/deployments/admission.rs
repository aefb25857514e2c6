//! Whether a target may be asked now: breakers, pauses, hourly budgets, and the line of those who wait.

use crate::{
    BackendName, Consequence, DeploymentId, DeploymentTarget, Effect, Error, ErrorKind, Retry, TargetInfo, Timestamp,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

/// What this process knows of its targets, shared by all deployments.
///
/// A breaker counts failures in a row of one operation, of whichever apps: a target that takes every upload and activates
/// none is not well. A target that asks to slow down is paused for as long as it asks: that is no failure. An hourly budget
/// is kept in every window of an hour, but for what has the traffic already or gives it back: that counts, and is not
/// refused. Other processes count for themselves: give each its part of a budget.
#[derive(Debug)]
pub(super) struct Admission {
    failures: NonZeroU32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    targets: HashMap<BackendName, Target>,
    /// One for those who want the same: who waits for one target keeps nobody waiting who wants another.
    lines: BTreeMap<Wants, Line>,
    /// Turns are counted over all lines, so that an owner who waits in two has no more of them.
    next_turn: u64,
}

/// Which targets somebody waits for, with how many deploys an hour each takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wants(Arc<[(BackendName, Option<NonZeroU32>)]>);

impl Wants {
    pub(super) fn of(targets: &[Arc<dyn DeploymentTarget>]) -> Self {
        let wanted = |target: &Arc<dyn DeploymentTarget>| {
            let info = target.info();
            (info.name, info.deploys_per_hour)
        };
        let names: BTreeMap<_, _> = targets.iter().map(wanted).collect();
        Self(names.into_iter().collect())
    }

    fn shares_one_with(&self, other: &Self) -> bool {
        self.0.iter().any(|(name, _)| other.0.iter().any(|(other, _)| name == other))
    }
}

/// What a target is asked to do for a deployment, with a breaker for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Stage,
    Activate,
}

#[derive(Clone, Copy, Debug, Default)]
struct Breaker {
    failures: u32,
    /// It is open until then; after that one deployment goes to see.
    open_until: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Target {
    /// One for each [`Ask`].
    breakers: [Breaker; 2],
    /// Somebody went to see; given up for lost at that time.
    probing_until: Option<Timestamp>,
    /// It asked to be left alone until then.
    paused_until: Option<Timestamp>,
    /// When it was asked, in the last hour.
    asked: VecDeque<Timestamp>,
}

/// Why a target may not be asked now, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Busy {
    pub(super) until: Timestamp,
    pub(super) reason: String,
    /// It is well, and has no budget left: that comes back by itself, so it is worth any wait.
    pub(super) well: bool,
    /// In which line it waits.
    pub(super) line: Wants,
}

impl Busy {
    /// Of two targets' the one that ends first. If one of them is well, waiting for either is worth it.
    pub(super) fn earlier(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let well = one.iter().chain(&other).any(|busy| busy.well);
        one.into_iter().chain(other).min_by_key(|busy| busy.until).map(|busy| Self { well, ..busy })
    }

    pub(super) fn in_line(self, line: Wants) -> Self {
        Self { line, ..self }
    }
}

const HOUR: Duration = Duration::from_hours(1);

impl Admission {
    pub(super) fn new((failures, pause): (NonZeroU32, Duration)) -> Self {
        Self { failures, pause, state: Mutex::default() }
    }

    /// Counts one ask of a target, if it may be asked now.
    pub(super) fn enter(&self, info: &TargetInfo, now: Timestamp) -> Result<(), Busy> {
        let mut state = self.state();
        if let Some(busy) = state.busy(info, now) {
            return Err(busy);
        }
        let known = state.targets.entry(info.name.clone()).or_default();
        if known.is_doubted() {
            known.probing_until = Some(now.plus(self.pause));
        }
        known.count(info, now);
        Ok(())
    }

    /// Counts one that is asked whether or not it is busy: what has the traffic is made well first.
    pub(super) fn count(&self, info: &TargetInfo, now: Timestamp) {
        self.state().targets.entry(info.name.clone()).or_default().count(info, now);
    }

    /// When one of the targets may be asked, if none may now.
    pub(super) fn all_busy(&self, targets: &[Arc<dyn DeploymentTarget>], now: Timestamp) -> Option<Busy> {
        let mut earliest: Option<Busy> = None;
        for target in targets {
            earliest = Busy::earlier(earliest, Some(self.busy(&target.info(), now)?));
        }
        earliest
    }

    /// When a target may be asked, if it may not now.
    pub(super) fn busy(&self, info: &TargetInfo, now: Timestamp) -> Option<Busy> {
        self.state().busy(info, now)
    }

    /// What an ask told of the target's health.
    pub(super) fn learned(&self, target: &BackendName, ask: Ask, error: Option<&Error>, now: Timestamp) {
        let mut state = self.state();
        let known = state.targets.entry(target.clone()).or_default();
        let slow = error.filter(|e| e.kind() == ErrorKind::RateLimited && e.effect() == Effect::None);
        if let Some(slow) = slow {
            let asked = if let Retry::After(wait) = slow.retry() { wait } else { self.pause };
            known.paused_until = known.paused_until.max(Some(now.plus(asked)));
            known.probing_until = None;
            return;
        }
        // Who says no to an app has answered, and is well.
        let answered = |e: &Error| matches!(e.consequence(), Consequence::StopDeployment | Consequence::NextTarget);
        if error.is_none_or(answered) {
            known.breakers[ask as usize] = Breaker::default();
            // Who went to see goes on until everything that was in doubt is well.
            known.probing_until = known.probing_until.filter(|_| error.is_none() && known.is_doubted());
            return;
        }
        let seeing = known.probing_until.take().is_some();
        let breaker = &mut known.breakers[ask as usize];
        breaker.failures += 1;
        if breaker.failures >= self.failures.get() || seeing {
            breaker.open_until = Some(now.plus(self.pause));
        }
    }

    /// Puts a deployment in the line of those who want the same.
    pub(super) fn wait(&self, wants: &Wants, owner: &str, id: DeploymentId) {
        let mut state = self.state();
        let state = &mut *state;
        let known = state.turn_of(owner);
        // What it wants may be otherwise than before.
        state.lines.retain(|other, line| {
            if other != wants {
                line.take_out(owner, id);
            }
            !line.is_empty()
        });
        let turn = known.unwrap_or_else(|| {
            state.next_turn += 1;
            state.next_turn
        });
        state.lines.entry(wants.clone()).or_default().push(owner, id, turn);
    }

    /// Whether it is this one's turn: it is the next in its line, and no owner whose turn comes before waits in another for
    /// a target of these and could have it now. It leaves the line then.
    pub(super) fn turn(&self, wants: &Wants, owner: &str, id: DeploymentId, now: Timestamp) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        if state.lines.get(wants).is_some_and(|line| !line.is_empty() && line.next() != Some(id)) {
            return false;
        }
        let turn = state.turn_of(owner).unwrap_or(u64::MAX);
        let before: Vec<_> = state
            .lines
            .iter()
            .filter(|(other, line)| {
                *other != wants && other.shares_one_with(wants) && line.turn().is_some_and(|t| t < turn)
            })
            .map(|(other, _)| other.clone())
            .collect();
        if before.iter().any(|other| !state.all_busy(other, now)) {
            return false;
        }
        state.leave(owner, id);
        true
    }

    /// Nothing is known of it any more.
    pub(super) fn forget(&self, id: DeploymentId) {
        let mut state = self.state();
        let owners: Vec<String> = state.lines.values().filter_map(|line| line.owner_of(id)).collect();
        for owner in owners {
            state.leave(&owner, id);
        }
    }

    /// Those at the front of each line.
    pub(super) fn fronts(&self) -> Vec<DeploymentId> {
        self.state().lines.values().filter_map(Line::next).collect()
    }

    /// It does not wait any more.
    pub(super) fn leave(&self, owner: &str, id: DeploymentId) {
        self.state().leave(owner, id);
    }

    /// Who is next, in order, at most `limit`; they stay in their lines.
    pub(super) fn upcoming(&self, limit: usize) -> Vec<DeploymentId> {
        let mut places: Vec<_> = self.state().lines.values().flat_map(|line| line.order(limit)).collect();
        places.sort_unstable();
        places.into_iter().map(|(_, _, id)| id).take(limit).collect()
    }

    /// How long whoever joins the line need not be looked at: the longer the line, the longer.
    pub(super) fn time_in_line(&self, wants: &Wants) -> Duration {
        let waiting = self.state().lines.get(wants).map_or(0, |line| line.waiting.len());
        Duration::from_secs(u64::try_from(waiting / 4).unwrap_or(u64::MAX).clamp(1, 600))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the admission panics")
    }
}

impl State {
    /// Whether an owner waits anywhere, and which turn they have next.
    fn turn_of(&self, owner: &str) -> Option<u64> {
        self.lines.values().find_map(|line| line.owners.get(owner)).map(|owner| owner.turn)
    }

    /// Takes one out of its line; if it was at the front of those of its owner, the owner's turn is used up.
    fn leave(&mut self, owner: &str, id: DeploymentId) {
        if !self.lines.values_mut().any(|line| line.take_out(owner, id)) {
            return;
        }
        self.next_turn += 1;
        let turn = self.next_turn;
        self.lines.retain(|_, line| {
            line.give_turn(owner, turn);
            !line.is_empty()
        });
    }

    fn all_busy(&mut self, wants: &Wants, now: Timestamp) -> bool {
        wants.0.iter().all(|(name, per_hour)| {
            self.targets.get_mut(name).is_some_and(|target| target.busy(*per_hour, now).is_some())
        })
    }

    fn busy(&mut self, info: &TargetInfo, now: Timestamp) -> Option<Busy> {
        let busy = self.targets.get_mut(&info.name)?.busy(info.deploys_per_hour, now)?;
        Some(Busy { reason: format!("{}: {}", info.name, busy.reason), ..busy })
    }
}

impl Target {
    /// Whether a breaker was opened and nobody has seen since that it is well again.
    fn is_doubted(&self) -> bool {
        self.breakers.iter().any(|breaker| breaker.open_until.is_some())
    }

    fn count(&mut self, info: &TargetInfo, now: Timestamp) {
        if info.deploys_per_hour.is_some() {
            self.asked.push_back(now);
        }
    }

    fn busy(&mut self, per_hour: Option<NonZeroU32>, now: Timestamp) -> Option<Busy> {
        let busy = |until: Timestamp, reason: &str| {
            Some(Busy { until, reason: reason.to_owned(), well: false, line: nobody() })
        };
        if let Some(until) = self.probing_until.filter(|until| *until > now) {
            return busy(until, "it failed too often, and one deployment is there to see whether it is well again");
        }
        let open = self.breakers.iter().filter_map(|breaker| breaker.open_until).max();
        if let Some(until) = open.filter(|until| *until > now) {
            return busy(until, "it failed too often in a row and is left alone");
        }
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return busy(until, "it asked to be left alone");
        }
        let limit = per_hour?.get() as usize;
        while self.asked.front().is_some_and(|asked| asked.plus(HOUR) <= now) {
            self.asked.pop_front();
        }
        let oldest = self.asked.front().filter(|_| self.asked.len() >= limit)?;
        let reason = format!("its budget of {limit} deploys an hour is spent");
        Some(Busy { until: oldest.plus(HOUR), reason, well: true, line: nobody() })
    }
}

/// Until it is known where it waits.
fn nobody() -> Wants {
    Wants(Arc::new([]))
}

/// Those who wait for the same: one owner after the other has a turn, so that one with a thousand apps delays the others by
/// one.
#[derive(Debug, Default)]
struct Line {
    /// Owners by the turn they have next.
    turns: BTreeMap<u64, String>,
    owners: HashMap<String, Owner>,
    waiting: HashSet<DeploymentId>,
}

#[derive(Debug)]
struct Owner {
    turn: u64,
    waiting: VecDeque<DeploymentId>,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn push(&mut self, owner: &str, id: DeploymentId, turn: u64) {
        if !self.waiting.insert(id) {
            return;
        }
        if let Some(known) = self.owners.get_mut(owner) {
            known.waiting.push_back(id);
            return;
        }
        self.turns.insert(turn, owner.to_owned());
        self.owners.insert(owner.to_owned(), Owner { turn, waiting: VecDeque::from([id]) });
    }

    fn next(&self) -> Option<DeploymentId> {
        let owner = self.turns.values().next()?;
        self.owners.get(owner)?.waiting.front().copied()
    }

    /// The turn of who is next.
    fn turn(&self) -> Option<u64> {
        self.turns.keys().next().copied()
    }

    fn owner_of(&self, id: DeploymentId) -> Option<String> {
        self.owners.iter().find(|(_, owner)| owner.waiting.contains(&id)).map(|(name, _)| name.clone())
    }

    /// Takes one out; whether it was there.
    fn take_out(&mut self, owner: &str, id: DeploymentId) -> bool {
        if !self.waiting.remove(&id) {
            return false;
        }
        let Some(known) = self.owners.get_mut(owner) else { return false };
        known.waiting.retain(|waiting| *waiting != id);
        if known.waiting.is_empty() {
            self.turns.remove(&known.turn);
            self.owners.remove(owner);
        }
        true
    }

    fn give_turn(&mut self, owner: &str, turn: u64) {
        if let Some(known) = self.owners.get_mut(owner) {
            self.turns.remove(&known.turn);
            known.turn = turn;
            self.turns.insert(turn, owner.to_owned());
        }
    }

    /// Round after round, each owner's next: the round, the turn, and who it is.
    fn order(&self, limit: usize) -> Vec<(usize, u64, DeploymentId)> {
        let rounds = self.owners.values().map(|owner| owner.waiting.len()).max().unwrap_or(0);
        let mut order = Vec::new();
        for round in 0..rounds {
            for (turn, owner) in &self.turns {
                if order.len() == limit {
                    return order;
                }
                let next = self.owners.get(owner).and_then(|owner| owner.waiting.get(round));
                order.extend(next.map(|id| (round, *turn, *id)));
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IdsExt, SeededIds, TargetInfo, memory::MemoryTarget};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(seconds))
    }

    fn target(per_hour: u32) -> MemoryTarget {
        let mut info = TargetInfo::new("edge".try_into().unwrap(), "memory");
        info.deploys_per_hour = NonZeroU32::new(per_hour);
        MemoryTarget::with(info)
    }

    fn admission() -> Admission {
        Admission::new((NonZeroU32::new(2).unwrap(), Duration::from_secs(30)))
    }

    fn ids(n: usize) -> Vec<DeploymentId> {
        let ids = SeededIds::new(1);
        (0..n).map(|_| DeploymentId::from_uuid(ids.uuid_v7(at(1)))).collect()
    }

    #[test]
    fn a_budget_holds_in_every_window_of_an_hour() {
        let (admission, target) = (admission(), target(3));
        let enter = |seconds| admission.enter(&target.info(), at(seconds)).map_err(|busy| busy.until);
        assert_eq!([enter(0), enter(1_800), enter(3_599)], [Ok(()); 3]);
        assert_eq!(enter(3_599), Err(at(3_600)));
        assert_eq!(enter(3_600), Ok(()), "the first is an hour ago");
        assert_eq!(enter(3_601), Err(at(5_400)));
    }

    #[test]
    fn after_failures_in_a_row_one_goes_to_see() {
        let (admission, target) = (admission(), target(0));
        let name = target.info().name;
        let down = Error::new(ErrorKind::Unavailable, "down");
        admission.learned(&name, Ask::Stage, Some(&down), at(0));
        assert!(admission.enter(&target.info(), at(0)).is_ok());
        admission.learned(&name, Ask::Stage, Some(&down), at(1));
        assert_eq!(admission.enter(&target.info(), at(2)).unwrap_err().until, at(31));
        assert!(admission.enter(&target.info(), at(31)).is_ok(), "one goes to see");
        assert_eq!(admission.enter(&target.info(), at(32)).unwrap_err().until, at(61), "one alone");
        admission.learned(&name, Ask::Stage, Some(&down), at(33));
        assert_eq!(admission.enter(&target.info(), at(34)).unwrap_err().until, at(63));
        assert!(admission.enter(&target.info(), at(63)).is_ok());
        admission.learned(&name, Ask::Stage, None, at(64));
        assert!(admission.enter(&target.info(), at(64)).is_ok());
    }

    #[test]
    fn what_it_does_well_says_nothing_of_what_it_does_not() {
        let (admission, target) = (admission(), target(0));
        let name = target.info().name;
        let down = Error::new(ErrorKind::Unavailable, "down");
        for second in [0, 1] {
            assert!(admission.enter(&target.info(), at(second)).is_ok());
            admission.learned(&name, Ask::Stage, None, at(second));
            admission.learned(&name, Ask::Activate, Some(&down), at(second));
        }
        assert_eq!(admission.enter(&target.info(), at(2)).unwrap_err().until, at(31), "it activates nothing");
        assert!(admission.enter(&target.info(), at(31)).is_ok(), "one goes to see");
        admission.learned(&name, Ask::Stage, None, at(32));
        assert!(admission.enter(&target.info(), at(33)).is_err(), "that it stages was never in doubt");
        admission.learned(&name, Ask::Activate, None, at(34));
        assert!(admission.enter(&target.info(), at(35)).is_ok());
    }

    #[test]
    fn who_asks_to_slow_down_is_paused_and_not_broken() {
        let (admission, target) = (admission(), target(0));
        let slow = Error::new(ErrorKind::RateLimited, "slow").retry_as(Retry::After(Duration::from_mins(10)));
        admission.learned(&target.info().name, Ask::Stage, Some(&slow), at(0));
        assert_eq!(admission.enter(&target.info(), at(599)).unwrap_err().until, at(600));
        assert!(admission.enter(&target.info(), at(600)).is_ok());
    }

    #[test]
    fn an_app_that_is_refused_says_nothing_against_the_target() {
        let (admission, target) = (admission(), target(0));
        for _ in 0..9 {
            admission.learned(&target.info().name, Ask::Activate, Some(&Error::invalid("bad app")), at(0));
        }
        assert!(admission.enter(&target.info(), at(0)).is_ok());
    }

    #[test]
    fn owners_take_turns() {
        let (admission, ids) = (admission(), ids(6));
        let line = nobody();
        for id in &ids[..4] {
            admission.wait(&line, "many", *id);
        }
        admission.wait(&line, "few", ids[4]);
        admission.wait(&line, "few", ids[4]);
        admission.wait(&line, "other", ids[5]);
        assert_eq!(admission.upcoming(99).len(), 6);
        assert_eq!(admission.upcoming(9), [ids[0], ids[4], ids[5], ids[1], ids[2], ids[3]]);
        assert!(!admission.turn(&line, "few", ids[4], at(9)), "not yet");
        assert!(admission.turn(&line, "many", ids[0], at(9)));
        assert_eq!(admission.upcoming(3), [ids[4], ids[5], ids[1]]);
        admission.leave("few", ids[4]);
        assert!(admission.turn(&line, "other", ids[5], at(9)));
        assert_eq!(admission.upcoming(99), ids[1..4]);
    }

    fn wants(names: &[&str]) -> Wants {
        Wants(names.iter().map(|name| (BackendName::parse(name).unwrap(), NonZeroU32::new(1))).collect())
    }

    #[test]
    fn who_wants_something_else_stands_in_another_line() {
        let (admission, ids) = (admission(), ids(4));
        let (edge, servers) = (wants(&["edge"]), wants(&["servers"]));
        admission.wait(&edge, "one", ids[0]);
        admission.wait(&edge, "one", ids[1]);
        admission.wait(&servers, "two", ids[2]);
        assert_eq!(admission.upcoming(9), [ids[0], ids[2], ids[1]]);
        assert!(admission.turn(&servers, "two", ids[2], at(9)));
        assert!(admission.turn(&servers, "three", ids[3], at(9)), "nobody waits for that");
        assert!(!admission.turn(&edge, "three", ids[3], at(9)));
        // What it wants is otherwise now.
        admission.wait(&servers, "one", ids[0]);
        assert_eq!(admission.fronts(), [ids[1], ids[0]]);
        admission.forget(ids[1]);
        assert_eq!(admission.upcoming(9), [ids[0]]);
    }

    #[test]
    fn lines_that_share_a_target_take_turns_and_wait_for_nobody_who_could_not_go() {
        let (admission, ids) = (admission(), ids(5));
        let (edge, both) = (wants(&["edge"]), wants(&["edge", "servers"]));
        for id in &ids[..2] {
            admission.wait(&both, "first", *id);
        }
        admission.wait(&edge, "second", ids[2]);
        admission.wait(&edge, "first", ids[3]);
        assert!(!admission.turn(&edge, "second", ids[2], at(9)), "the first was there before");
        assert!(!admission.turn(&edge, "new", ids[4], at(9)), "so were all");
        assert!(admission.turn(&both, "first", ids[0], at(9)));
        assert!(!admission.turn(&both, "first", ids[1], at(9)), "an owner in two lines has no more turns");
        assert!(admission.turn(&edge, "second", ids[2], at(9)));
    }

    #[test]
    fn who_could_not_go_anyway_keeps_nobody_waiting() {
        let (admission, ids) = (admission(), ids(2));
        let (servers, both) = (wants(&["servers"]), wants(&["edge", "servers"]));
        admission.wait(&servers, "blocked", ids[0]);
        admission.wait(&both, "free", ids[1]);
        assert!(!admission.turn(&both, "free", ids[1], at(9)));
        let slow = Error::new(ErrorKind::RateLimited, "slow").retry_as(Retry::After(Duration::from_mins(10)));
        admission.learned(&BackendName::parse("servers").unwrap(), Ask::Stage, Some(&slow), at(9));
        assert!(admission.turn(&both, "free", ids[1], at(9)));
        assert!(admission.turn(&servers, "blocked", ids[0], at(9)), "it is the next of its line all the same");
    }
}
