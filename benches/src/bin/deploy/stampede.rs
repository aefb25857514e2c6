//! Fifty thousand apps want to be deployed while the preferred target is down for half an hour; on a simulated clock.
//!
//! Each owner has from one app to a thousand. Both targets have an hourly budget, and the target itself counts: one ask too
//! many in any hour fails the measurement.

use overskill_benches::{
    Bench, Figure, Goal, Outcome, Reading,
    deploys::{parts, wanted},
};
use overskill_core::{
    Around, BackendName, Clock, DeploymentEnd, DeploymentEvent, DeploymentId, DeploymentStore, DeploymentStrategy,
    Deployments, DeploymentsParts, DiscardProgress, Environment, Error, ErrorKind, Operation, Policy, Result, Scope,
    SeededIds, SubjectId, TargetInfo, TestClock, Timestamp,
    memory::{MemoryBackends, MemoryTarget},
};
use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

const CASE: &str = "50,000 apps, the preferred target down for 30 minutes";
const LIVE: Figure =
    Figure::shown(CASE, "simulated time until all are live", "min", "what the budgets allow").goal(Goal::AtMost(1.1));
const OVER: Figure = Figure::shown(CASE, "asks over a budget", "", "").goal(Goal::AtMost(0.0));
const SMALL: Figure =
    Figure::shown(CASE, "wait of owners with one app, 95 %", "min", "all, 95 %").goal(Goal::AtMost(1.0));
const LARGE: Figure = Figure::shown(CASE, "wait of owners with 1,000 apps, 95 %", "min", "all, 95 %");
const SPREAD: Figure = Figure::shown(CASE, "first app of an owner: slowest wait", "min", "median wait");
const FELL: Figure = Figure::shown(CASE, "apps that fell back", "", "");

pub(crate) const FIGURES: [Figure; 6] = [LIVE, OVER, SMALL, LARGE, SPREAD, FELL];

/// Deploys an hour that each target takes.
const PREFERRED: u32 = 14_400;
const SECOND: u32 = 300;
const DOWN: Duration = Duration::from_mins(30);

pub(crate) async fn measure(bench: &mut Bench) -> Outcome<()> {
    let apps = bench.size(50_000, 2_000);
    let clock = TestClock::new();
    let start = clock.now();
    let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(1)));
    let scale = bench.size(1, 25);
    let preferred = Counted::target("preferred", PREFERRED / scale, &clock, Some(start.plus(DOWN)));
    let second = Counted::target("second", SECOND / scale, &clock, None);
    let strategy =
        DeploymentStrategy::prefer(preferred.clone()).then(second.clone()).patience(Duration::from_hours(12));
    let progress = Arc::new(DiscardProgress);
    let service = Deployments::new(DeploymentsParts { strategy, progress, ..parts(&memory) });
    let mut asked: BTreeMap<DeploymentId, (String, Timestamp)> = BTreeMap::new();
    let (mut wanted_apps, mut n) = (owners(apps).into_iter(), 0_u32);
    // All of them within the first ten minutes.
    let a_second = (apps / 600).max(1);
    let (mut live, mut waits) = (0, Waits::default());
    while live < apps {
        for owner in wanted_apps.by_ref().take(a_second as usize) {
            let scope = Scope::new(format!("app{n}").as_str().try_into()?, Environment::Production);
            n += 1;
            let mut new = wanted(&memory, scope).await?;
            new.owner = Some(SubjectId::parse(&owner)?);
            let id = service.request(new).await?;
            asked.insert(id, (owner, clock.now()));
        }
        // As a platform's rounds of background work do.
        let limit = NonZeroU32::new(64).ok_or("not zero")?;
        loop {
            let ended = clock.drive(service.drive_pending(limit)).await?;
            live += ended;
            if ended == 0 {
                break;
            }
        }
        clock.advance(Duration::from_secs(1));
        if clock.now().since(start) > Duration::from_hours(24) {
            return Err(format!("{live} of {apps} are live after a day").into());
        }
    }
    for (id, (owner, at)) in &asked {
        let events = memory.deployments.events(*id).await?;
        // What is swept comes after the end.
        let ended = events.iter().find_map(|it| match &it.event {
            DeploymentEvent::Ended { end } => Some((it.at, end)),
            _ => None,
        });
        let Some((end, DeploymentEnd::Active { target, .. })) = ended else {
            return Err(format!("{id} ended otherwise: {ended:?}").into());
        };
        waits.add(owner, end.since(*at), target.as_str() == "second");
    }
    let took = clock.now().since(start).as_secs_f64() / 60.0;
    // A budget of an hour may be spent at once: the first hour's when the target is back, then each hour's as it comes.
    let left = f64::from(apps) - f64::from(waits.fell);
    let hours = (left / f64::from(PREFERRED / scale)).ceil() - 1.0;
    let allowed = DOWN.as_secs_f64() / 60.0 + hours * 60.0;
    bench.show(&LIVE, Reading::limited(took, allowed));
    let over = preferred.policy().over() + second.policy().over();
    bench.show(&OVER, Reading { ratio: Some(f64::from(over)), ..Reading::alone(f64::from(over)) });
    let all = waits.quantile(|_| true, 0.95);
    bench.show(&SMALL, Reading::limited(waits.quantile(|apps| apps == 1, 0.95), all));
    bench.show(&LARGE, Reading::limited(waits.quantile(|apps| apps >= 1_000 / scale as usize, 0.95), all));
    let (slowest, median) = waits.firsts();
    bench.show(&SPREAD, Reading::limited(slowest, median));
    bench.show(&FELL, Reading::alone(f64::from(waits.fell)));
    Ok(())
}

/// The owner of each app, in the order in which they come: half of all apps belong to a few owners with a thousand each,
/// the others have one, ten or a hundred.
fn owners(apps: u32) -> Vec<String> {
    let (mut owners, mut n) = (Vec::new(), 0);
    while owners.len() < apps as usize {
        let many = match n % 40 {
            0 => apps / 50,
            1..4 => 100,
            4..10 => 10,
            _ => 1,
        };
        let left = apps as usize - owners.len();
        owners.extend(std::iter::repeat_n(format!("owner{n}"), (many as usize).min(left)));
        n += 1;
    }
    owners
}

/// How long each app waited, by owner, in minutes.
#[derive(Default)]
struct Waits {
    owners: BTreeMap<String, Vec<f64>>,
    fell: u32,
}

impl Waits {
    fn add(&mut self, owner: &str, wait: Duration, fell: bool) {
        self.owners.entry(owner.to_owned()).or_default().push(wait.as_secs_f64() / 60.0);
        self.fell += u32::from(fell);
    }

    fn quantile(&self, of: impl Fn(usize) -> bool, part: f64) -> f64 {
        let mut all: Vec<_> = self.owners.values().filter(|waits| of(waits.len())).flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a place in a list"
        )]
        let place = ((all.len() as f64 * part) as usize).min(all.len().saturating_sub(1));
        all.get(place).copied().unwrap_or_default()
    }

    /// Of the first app of each owner: the longest wait, and the median.
    fn firsts(&self) -> (f64, f64) {
        let mut firsts: Vec<_> =
            self.owners.values().map(|waits| waits.iter().copied().fold(f64::INFINITY, f64::min)).collect();
        firsts.sort_by(f64::total_cmp);
        (firsts.last().copied().unwrap_or_default(), firsts.get(firsts.len() / 2).copied().unwrap_or_default())
    }
}

/// Counts what a target is asked in any hour, and may say that it is down.
#[derive(Clone, Debug)]
struct Counted {
    clock: TestClock,
    per_hour: u32,
    down_until: Option<Timestamp>,
    asked: Arc<Mutex<(VecDeque<Timestamp>, u32)>>,
}

impl Counted {
    fn target(
        name: &str,
        per_hour: u32,
        clock: &TestClock,
        down_until: Option<Timestamp>,
    ) -> Around<MemoryTarget, Self> {
        let mut info = TargetInfo::new(BackendName::parse(name).expect("a legal name"), name);
        info.deploys_per_hour = NonZeroU32::new(per_hour);
        let counted = Self { clock: clock.clone(), per_hour, down_until, asked: Arc::default() };
        Around::with_policy(MemoryTarget::with(info), counted)
    }

    fn over(&self) -> u32 {
        self.asked.lock().expect("nobody panics with it").1
    }

    fn count(&self) -> Result<()> {
        let now = self.clock.now();
        let mut asked = self.asked.lock().expect("nobody panics with it");
        let (times, over) = &mut *asked;
        while times.front().is_some_and(|first| first.plus(Duration::from_hours(1)) <= now) {
            times.pop_front();
        }
        times.push_back(now);
        *over += u32::from(times.len() > self.per_hour as usize);
        if self.down_until.is_some_and(|until| now < until) {
            return Err(Error::new(ErrorKind::Unavailable, "down"));
        }
        Ok(())
    }
}

impl Policy for Counted {
    async fn run<'a, T, F, Fut>(&'a self, operation: Operation, mut call: F) -> Result<T>
    where
        T: Send + 'a,
        F: FnMut() -> Fut + Send + 'a,
        Fut: Future<Output = Result<T>> + Send + 'a,
    {
        if operation.name == "stage" {
            self.count()?;
        }
        call().await
    }
}
