//! The calls that are measured, and the rounds in which ours and its peers make them.

use crate::work::{PreparedArtifact, Work};
use async_trait::async_trait;
use overskill_benches::{Bench, Figure, Outcome, PreparedCommit, Turns, interleave};
use overskill_core::{BundleStore, Changes, DeploymentStore, FilePath, FileStore, Scope, Timestamp};
use std::{sync::Arc, time::Instant};

/// Who can do what a store does. What is read comes back as a number of bytes.
#[async_trait(?Send)]
pub(crate) trait Contestant {
    async fn apply(&mut self, scope: &Scope, changes: &Changes) -> Outcome<()>;
    async fn get(&mut self, scope: &Scope, path: &FilePath) -> Outcome<usize>;
    async fn snapshot(&mut self, scope: &Scope) -> Outcome<usize>;
    async fn put(&mut self, artifact: &PreparedArtifact) -> Outcome<()>;
    async fn commit(&mut self, commit: &PreparedCommit) -> Outcome<()>;
}

/// The figures of one database.
pub(crate) struct Figures {
    /// Against sqlx alone.
    pub(crate) peers: [Figure; 6],
    /// Against the third contestant.
    pub(crate) third: [Figure; 6],
}

/// What was seen of each case, in the order of the figures.
pub(crate) type Seen = [Turns<3>; 6];

macro_rules! figures {
    ($on:literal, $third:literal) => {{
        const MOST: overskill_benches::Goal = overskill_benches::Goal::AtMost(1.3);
        const fn to(case: &'static str, peer: &'static str) -> overskill_benches::Figure {
            overskill_benches::Figure::shown(case, "time", "µs", peer)
        }
        const APPLY: &str = concat!($on, ": FileStore apply, one file of 4 KiB");
        const APPLY_APP: &str = concat!($on, ": FileStore apply, a new app of 60 files");
        const PUT: &str = concat!($on, ": BundleStore put, 30 files of 16 KiB");
        const COMMIT: &str = concat!($on, ": DeploymentStore commit");
        const GET: &str = concat!($on, ": FileStore get, one file of 4 KiB");
        const SNAPSHOT: &str = concat!($on, ": FileStore snapshot, 60 files of 4 KiB");
        $crate::contest::Figures {
            peers: [
                to(APPLY, "sqlx").goal(MOST),
                to(APPLY_APP, "sqlx").goal(MOST),
                to(PUT, "sqlx").goal(MOST),
                to(COMMIT, "sqlx").goal(MOST),
                to(GET, "sqlx").goal(MOST),
                // A snapshot checks every digest, and the peer none.
                to(SNAPSHOT, "sqlx"),
            ],
            third: [
                to(APPLY, $third),
                to(APPLY_APP, $third),
                to(PUT, $third),
                to(COMMIT, $third),
                to(GET, $third),
                to(SNAPSHOT, $third),
            ],
        }
    }};
}
pub(crate) use figures;

impl Figures {
    /// Ours, who is the first, against the others.
    pub(crate) fn show(&self, bench: &mut Bench, seen: &Seen) {
        for ((peer, third), turns) in self.peers.iter().zip(&self.third).zip(seen) {
            bench.show(peer, turns.compare_undisturbed(0, 1));
            bench.show(third, turns.compare_undisturbed(0, 2));
        }
    }
}

/// Lets the contestants do everything in turn; in the order of the figures.
pub(crate) async fn contest(bench: &Bench, mut contestants: [Box<dyn Contestant>; 3]) -> Outcome<Seen> {
    let mut works: [Work; 3] = std::array::from_fn(|_| Work::default());
    let app = Scope::sources("todo42".try_into()?);
    for (contestant, work) in contestants.iter_mut().zip(&mut works) {
        contestant.apply(&app, &Work::template()?).await?;
        // As many changes as the store remembers, so that it forgets one with each that comes.
        for _ in 0..bench.size(257, 1) {
            contestant.apply(&app, &work.one_file()?).await?;
        }
    }

    // Short turns, so that most are not interrupted by another program.
    let (turns, times) = bench.size((90, 1), (4, 1));
    let apply = interleave(turns, async |who| {
        let changes = (0..times).map(|_| works[who].one_file()).collect::<Outcome<Vec<_>>>()?;
        let start = Instant::now();
        for changes in &changes {
            contestants[who].apply(&app, changes).await?;
        }
        Ok(micros_each(start, times))
    });
    let apply = apply.await?;

    let apply_app = interleave(bench.size(18, 3), async |who| {
        let (scope, changes) = (works[who].new_app()?, Work::template()?);
        let start = Instant::now();
        contestants[who].apply(&scope, &changes).await?;
        Ok(micros_each(start, 1))
    });
    let apply_app = apply_app.await?;

    let put = interleave(bench.size(40, 3), async |who| {
        let artifact = works[who].artifact()?;
        let start = Instant::now();
        contestants[who].put(&artifact).await?;
        Ok(micros_each(start, 1))
    });
    let put = put.await?;

    let commit = interleave(bench.size(30, 3), async |who| {
        let commits = works[who].deployment()?;
        let start = Instant::now();
        for commit in &commits {
            contestants[who].commit(commit).await?;
        }
        Ok(micros_each(start, u32::try_from(commits.len())?))
    });
    let commit = commit.await?;

    let (turns, times) = bench.size((240, 5), (10, 5));
    let get = interleave(turns, async |who| {
        let paths = (0..times).map(Work::path).collect::<Outcome<Vec<_>>>()?;
        let start = Instant::now();
        for path in &paths {
            if contestants[who].get(&app, path).await? != Work::FILE_BYTES {
                return Err("a file was read that was not written".into());
            }
        }
        Ok(micros_each(start, times))
    });
    let get = get.await?;

    let snapshot = interleave(bench.size(48, 5), async |who| {
        let start = Instant::now();
        if contestants[who].snapshot(&app).await? != 60 * Work::FILE_BYTES {
            return Err("an app was read that was not written".into());
        }
        Ok(micros_each(start, 1))
    });
    Ok([apply, apply_app, put, commit, get, snapshot.await?])
}

fn micros_each(start: Instant, times: u32) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / f64::from(times)
}

/// The stores.
pub(crate) struct Ours {
    files: Arc<dyn FileStore>,
    bundles: Arc<dyn BundleStore>,
    deployments: Arc<dyn DeploymentStore>,
}

impl Ours {
    pub(crate) fn new(files: impl FileStore, bundles: impl BundleStore, deployments: impl DeploymentStore) -> Self {
        Self { files: Arc::new(files), bundles: Arc::new(bundles), deployments: Arc::new(deployments) }
    }
}

#[async_trait(?Send)]
impl Contestant for Ours {
    async fn apply(&mut self, scope: &Scope, changes: &Changes) -> Outcome<()> {
        self.files.apply(scope, changes, None).await?;
        Ok(())
    }

    async fn get(&mut self, scope: &Scope, path: &FilePath) -> Outcome<usize> {
        Ok(self.files.get(scope, path).await?.map_or(0, |file| file.contents().len()))
    }

    async fn snapshot(&mut self, scope: &Scope) -> Outcome<usize> {
        Ok(self.files.snapshot(scope).await?.files.values().map(|file| file.contents().len()).sum())
    }

    async fn put(&mut self, artifact: &PreparedArtifact) -> Outcome<()> {
        self.bundles.put(&artifact.artifact, Timestamp::from_unix_millis(artifact.now)).await?;
        Ok(())
    }

    async fn commit(&mut self, commit: &PreparedCommit) -> Outcome<()> {
        self.deployments.commit(&commit.commit).await?;
        Ok(())
    }
}
