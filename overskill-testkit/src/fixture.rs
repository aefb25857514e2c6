use crate::{Broken, Stop, suite::CASE_LIMIT};
use futures::future::BoxFuture;
use overskill_core::{
    AppId, Clock, DeploymentId, Digest, Environment, Ids, IdsExt, Scope, SeededIds, SystemClock, SystemIds, Timestamp,
};
use std::{
    any::Any,
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

type Reopen<S> = Box<dyn Fn() -> BoxFuture<'static, Arc<S>> + Send + Sync>;

/// What a suite needs of a backend, made anew for every case.
///
/// `S` is the seam, such as `dyn FileStore`; `W` is what the suite needs besides, such as the keys of an
/// [`EnvStore`](overskill_core::EnvStore).
///
/// ```
/// use overskill_core::{FileStore, memory::MemoryFiles};
/// use overskill_testkit::FileStoreFixture;
/// use std::sync::Arc;
///
/// let files = Arc::new(MemoryFiles::new());
/// let again = files.clone();
/// let fixture = FileStoreFixture::new(files).reopen(move || {
///     let again: Arc<dyn FileStore> = again.clone(); // a real store opens its directory or database again
///     async { again }
/// });
/// assert!(fixture.store().info().history > 0);
/// ```
pub struct Fixture<S: ?Sized, W = ()> {
    store: Arc<S>,
    with: W,
    names: Names,
    reopen: Option<Reopen<S>>,
    limit: Duration,
    // Last, so that it goes after the store.
    kept: Vec<Box<dyn Any + Send + Sync>>,
}

impl<S: ?Sized> Fixture<S> {
    /// A fixture of `store`.
    pub fn new(store: Arc<S>) -> Self {
        Self::with(store, ())
    }
}

impl<S: ?Sized, W> Fixture<S, W> {
    /// A fixture of `store`, with what the suite needs besides.
    pub fn with(store: Arc<S>, with: W) -> Self {
        Self { store, with, names: Names::of_this_run(), reopen: None, limit: CASE_LIMIT, kept: Vec::new() }
    }

    /// Says how the store is opened again on the same data, as a process that was started again would do it.
    ///
    /// Without it nothing can be seen of what is durable, and those cases fail: a store that promises nothing there, such
    /// as one in memory, excepts them with that reason.
    pub fn reopen<F>(mut self, reopen: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Arc<S>> + Send + 'static,
    {
        self.reopen = Some(Box::new(move || Box::pin(reopen())));
        self
    }

    /// Keeps `guard` until the case is over and the store is gone: a temporary directory, a database.
    pub fn keep(mut self, guard: impl Any + Send + Sync) -> Self {
        self.kept.push(Box::new(guard));
        self
    }

    /// Sets how long one case may take; 2 minutes otherwise. For a backend that is slow but right: one whose every call
    /// takes half a second, or whose reads may be stale for a minute.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Uses the names that `seed` gives, in place of those of this run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.names = Names::seeded(seed);
        self
    }

    /// The store.
    pub fn store(&self) -> &Arc<S> {
        &self.store
    }

    /// Names that nobody else has.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// What the suite needs besides the store.
    pub fn besides(&self) -> &W {
        &self.with
    }

    /// Gives the case names that no other case of the same seed has: all of them may share one store.
    pub(crate) fn begin(&mut self, case: &str) {
        let digest = Digest::of_parts([&self.names.seed.to_le_bytes()[..], case.as_bytes()]);
        let mut root = [0; 8];
        root.copy_from_slice(&digest.as_bytes()[..8]);
        self.names = Names::of(self.names.seed, u64::from_le_bytes(root));
    }

    pub(crate) fn case_limit(&self) -> Duration {
        self.limit
    }

    /// The store, opened again; a fixture that cannot do it has to except the case.
    pub(crate) async fn reopened(&self) -> Result<Arc<S>, Stop> {
        match &self.reopen {
            Some(reopen) => Ok(reopen().await),
            None => Err(unseen("the fixture does not open its store again; say how with `reopen`")),
        }
    }
}

impl<S: ?Sized + fmt::Debug, W> fmt::Debug for Fixture<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, names, reopen, limit, kept, with: _ } = self;
        f.debug_struct("Fixture")
            .field("store", store)
            .field("names", names)
            .field("reopens", &reopen.is_some())
            .field("limit", limit)
            .field("kept", &kept.len())
            .finish_non_exhaustive()
    }
}

/// A rule that cannot be seen, because the fixture lacks something. It is broken until somebody says why that is so.
pub(crate) fn unseen(lacking: &str) -> Stop {
    Broken::new(format!("nothing can be seen: {lacking}, or except this case with the reason")).into()
}

/// Names and moments for one case: told from those of every other case by their seed.
#[derive(Debug)]
pub struct Names {
    seed: u64,
    /// What they are made of: the seed, or the seed and the case.
    root: u64,
    next: AtomicU64,
    ids: SeededIds,
    start: Timestamp,
}

impl Names {
    /// The names of `seed`; the moments are of now.
    pub fn seeded(seed: u64) -> Self {
        Self::of(seed, seed)
    }

    fn of(seed: u64, root: u64) -> Self {
        Self { seed, root, next: AtomicU64::new(1), ids: SeededIds::new(root), start: SystemClock.now() }
    }

    /// Of the seed in `OVERSKILL_CONFORMANCE_SEED`, or of a new one.
    fn of_this_run() -> Self {
        let given = std::env::var("OVERSKILL_CONFORMANCE_SEED").ok();
        Self::seeded(given.map_or_else(|| SystemIds.random_u64(), |text| given_seed(&text)))
    }

    /// What they are all made of.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Randomness of the seed.
    pub fn ids(&self) -> &dyn Ids {
        &self.ids
    }

    /// A new app. Apps of one seed begin alike and sort in the order they were made.
    pub fn app(&self) -> AppId {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        AppId::parse(&format!("kit{:016x}n{n:04x}", self.root)).expect("letters and digits, and short")
    }

    /// Where the sources of a new app live.
    pub fn scope(&self) -> Scope {
        Scope::sources(self.app())
    }

    /// A new app in `environment`.
    pub fn scope_in(&self, environment: Environment) -> Scope {
        Scope::new(self.app(), environment)
    }

    /// Scopes that are easily mistaken for `scope`: its other environments, another app, and an app whose name begins
    /// with its name.
    pub fn beside(&self, scope: &Scope) -> Vec<Scope> {
        let longer = AppId::parse(&format!("{}x", scope.app)).expect("letters and digits, and short");
        let apps = [Scope::new(self.app(), scope.environment), Scope::new(longer, scope.environment)];
        let environments = Environment::ALL.into_iter().filter(|e| *e != scope.environment);
        environments.map(|e| Scope::new(scope.app.clone(), e)).chain(apps).collect()
    }

    /// A new deployment.
    pub fn deployment(&self) -> DeploymentId {
        DeploymentId::generate(&self.ids, self.start)
    }

    /// The moment the case began.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// `seconds` after the case began.
    pub fn after(&self, seconds: u64) -> Timestamp {
        self.start.plus(Duration::from_secs(seconds))
    }
}

/// Another seed than the one that was asked for would replay nothing, and nobody would notice.
fn given_seed(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| {
        panic!("OVERSKILL_CONFORMANCE_SEED must be a number as a failure names it after `seed`, but is {text:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_that_was_asked_for_is_used_or_refused() {
        assert_eq!(given_seed(" 18446744073709551615\n"), u64::MAX);
        for wrong in ["", "0x1f", "-1", "seed 7"] {
            let panic = std::panic::catch_unwind(|| given_seed(wrong)).unwrap_err();
            assert!(panic.downcast_ref::<String>().unwrap().contains("as a failure names it"));
        }
    }
}
