use async_trait::async_trait;
use overskill_core::{
    Artifact, BundleStore, Collected, DeploymentId, Digest, Error, Readiness, Result, Scope, Timestamp,
    memory::MemoryBundles,
};
use overskill_testkit::{BundleStoreFixture, suites::bundles::V1};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    PutTellsWhatIsThere,
    LosesTheServer,
    ReadsForAnybody,
    HoldsAnything,
    CountsHolds,
    ReleaseOfNothingFails,
    NobodyHolds,
    ReleasesEverybody,
    ReleasesTheFirstOnly,
    ForgetsOnRestart,
    MarksBeforeItWrites,
    NotReady,
    NeverCollects,
    CollectsWhatIsHeld,
    KnowsNoAge,
    IsDueAMomentEarly,
    PutLeavesItOld,
    ReleaseLeavesItOld,
    CollectsSharedBlobs,
    BuriesForEver,
    ListsThenDeletes,
}

const BUGS: &[(Bug, &[&str])] = &[
    (Bug::PutTellsWhatIsThere, &["put_answers_the_digest"]),
    (Bug::LosesTheServer, &["an_artifact_is_read_as_it_was_put"]),
    (Bug::ReadsForAnybody, &["get_answers_only_holders"]),
    (Bug::HoldsAnything, &["what_was_never_put_cannot_be_held", "pointers_and_wrappers_answer_alike"]),
    (Bug::CountsHolds, &["a_hold_is_one_hold"]),
    (Bug::ReleaseOfNothingFails, &["release_of_nothing_is_fine"]),
    (Bug::NobodyHolds, &["holding_says_who_holds_something"]),
    (Bug::ReleasesEverybody, &["one_of_two_holds_keeps"]),
    (Bug::ReleasesTheFirstOnly, &["release_lets_go_of_everything"]),
    (Bug::ForgetsOnRestart, &["holds_survive_a_restart"]),
    (Bug::MarksBeforeItWrites, &["a_dropped_put_can_be_repeated"]),
    (Bug::NotReady, &["it_is_ready"]),
    (Bug::NeverCollects, &["what_nobody_holds_is_collected", "what_was_collected_can_be_put_again"]),
    (Bug::CollectsWhatIsHeld, &["what_is_held_is_not_collected"]),
    (Bug::KnowsNoAge, &["what_is_young_is_not_collected"]),
    (Bug::IsDueAMomentEarly, &["what_is_young_is_not_collected"]),
    (Bug::PutLeavesItOld, &["a_put_makes_it_new_again"]),
    (Bug::ReleaseLeavesItOld, &["a_release_makes_it_new_again"]),
    (Bug::CollectsSharedBlobs, &["shared_contents_survive"]),
    (Bug::BuriesForEver, &["what_was_collected_can_be_put_again"]),
    (Bug::ListsThenDeletes, &["puts_and_collections_do_not_race"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bug_of_a_bundle_store_is_found() {
    super::judge(&V1, Bug::None, BUGS, fixture).await;
}

fn fixture(bug: Bug) -> BundleStoreFixture {
    let bundles = Bundles { inner: MemoryBundles::new(), bug, seen: Mutex::default() };
    let kept = bundles.inner.clone();
    BundleStoreFixture::new(Arc::new(bundles)).reopen(move || {
        let again = if bug == Bug::ForgetsOnRestart { MemoryBundles::new() } else { kept.clone() };
        let again: Arc<dyn BundleStore> = Arc::new(again);
        async { again }
    })
}

#[derive(Debug)]
struct Bundles {
    inner: MemoryBundles,
    bug: Bug,
    seen: Mutex<Seen>,
}

/// What went by; the bugs are made of it.
#[derive(Debug, Default)]
struct Seen {
    puts: BTreeMap<Digest, (Artifact, Timestamp)>,
    holds: Vec<(Scope, Digest, DeploymentId)>,
    marked: BTreeSet<Digest>,
    gone: BTreeSet<Digest>,
    lost_blobs: BTreeSet<Digest>,
}

impl Bundles {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

#[async_trait]
impl BundleStore for Bundles {
    async fn check(&self) -> Result<Readiness> {
        let ready = self.inner.check().await?;
        Ok(if self.bug == Bug::NotReady { ready.lacks("a disk", "mount one") } else { ready })
    }

    async fn put(&self, artifact: &Artifact, now: Timestamp) -> Result<Digest> {
        let digest = artifact.digest();
        let there = self.seen().puts.contains_key(&digest);
        match self.bug {
            Bug::PutTellsWhatIsThere if there => return Err(Error::conflict("it is there already")),
            Bug::PutLeavesItOld if there => return Ok(digest),
            Bug::BuriesForEver if self.seen().gone.contains(&digest) => return Ok(digest),
            Bug::MarksBeforeItWrites => {
                if !self.seen().marked.insert(digest) {
                    return Ok(digest);
                }
                super::pause().await;
            }
            _ => {}
        }
        let digest = self.inner.put(artifact, now).await?;
        let mut seen = self.seen();
        seen.puts.insert(digest, (artifact.clone(), now));
        if self.bug != Bug::BuriesForEver {
            seen.gone.remove(&digest);
        }
        for blob in artifact.manifest().blobs() {
            seen.lost_blobs.remove(&blob);
        }
        Ok(digest)
    }

    async fn hold(&self, scope: &Scope, digest: Digest, deployment: DeploymentId) -> Result<()> {
        self.seen().holds.push((scope.clone(), digest, deployment));
        match self.inner.hold(scope, digest, deployment).await {
            Err(_) if self.bug == Bug::HoldsAnything => Ok(()),
            done => done,
        }
    }

    async fn release(&self, deployment: DeploymentId, now: Timestamp) -> Result<()> {
        let holds = self.seen().holds.clone();
        let own: Vec<_> = holds.iter().filter(|(_, _, holder)| *holder == deployment).collect();
        match self.bug {
            Bug::ReleaseOfNothingFails if own.is_empty() => return Err(Error::not_found("it holds nothing")),
            Bug::CountsHolds if own.len() > 1 => {
                let mut seen = self.seen();
                let first = seen.holds.iter().position(|(_, _, holder)| *holder == deployment);
                first.map(|first| seen.holds.remove(first));
                return Ok(());
            }
            Bug::ReleasesEverybody => {
                for (_, _, other) in holds.iter().filter(|(_, digest, _)| own.iter().any(|(_, d, _)| d == digest)) {
                    self.inner.release(*other, now).await?;
                }
            }
            _ => {}
        }
        let at = if self.bug == Bug::ReleaseLeavesItOld { Timestamp::EPOCH } else { now };
        self.inner.release(deployment, at).await?;
        if self.bug == Bug::ReleasesTheFirstOnly {
            for (scope, digest, _) in own.iter().skip(1) {
                self.inner.hold(scope, *digest, deployment).await?;
            }
        }
        self.seen().holds.retain(|(_, _, holder)| *holder != deployment);
        Ok(())
    }

    async fn holding(&self, deployments: &[DeploymentId]) -> Result<BTreeSet<DeploymentId>> {
        if self.bug == Bug::NobodyHolds {
            return Ok(BTreeSet::new());
        }
        self.inner.holding(deployments).await
    }

    async fn get(&self, scope: &Scope, digest: Digest) -> Result<Option<Arc<Artifact>>> {
        let got = self.inner.get(scope, digest).await?;
        let seen = self.seen();
        Ok(match self.bug {
            Bug::ReadsForAnybody => seen.puts.get(&digest).map(|(artifact, _)| Arc::new(artifact.clone())),
            Bug::LosesTheServer => got.map(|artifact| {
                let assets = artifact.assets().clone();
                Artifact::new(assets, None, artifact.config().clone()).map_or(artifact, Arc::new)
            }),
            Bug::ListsThenDeletes if seen.gone.contains(&digest) => None,
            Bug::CollectsSharedBlobs => match got {
                Some(artifact) if !artifact.manifest().blobs().is_disjoint(&seen.lost_blobs) => {
                    return Err(Error::not_found("a blob is missing"));
                }
                got => got,
            },
            _ => got,
        })
    }

    async fn collect(&self, now: Timestamp, min_age: Duration) -> Result<Collected> {
        let before: Vec<_> = self.seen().puts.keys().copied().collect();
        match self.bug {
            Bug::NeverCollects => return Ok(Collected::default()),
            Bug::CollectsWhatIsHeld => {
                let holders: Vec<_> = self.seen().holds.iter().map(|(_, _, holder)| *holder).collect();
                for holder in holders {
                    self.inner.release(holder, Timestamp::EPOCH).await?;
                }
            }
            Bug::KnowsNoAge => return self.inner.collect(now.plus(Duration::from_secs(1_000_000)), min_age).await,
            Bug::IsDueAMomentEarly => {
                return self.inner.collect(now.plus(Duration::from_millis(1)), min_age).await;
            }
            Bug::ListsThenDeletes => {
                let old = |(_, (_, at)): &(&Digest, &(Artifact, Timestamp))| now.since(*at) > min_age;
                let due: Vec<_> = {
                    let seen = self.seen();
                    let held = |digest| seen.holds.iter().any(|(_, held, _)| *held == digest);
                    seen.puts.iter().filter(old).map(|(digest, _)| *digest).filter(|digest| !held(*digest)).collect()
                };
                super::pause().await;
                self.seen().gone.extend(due);
            }
            _ => {}
        }
        let collected = self.inner.collect(now, min_age).await?;
        if matches!(self.bug, Bug::CollectsSharedBlobs | Bug::BuriesForEver) {
            let ids = overskill_core::SystemIds;
            for digest in before {
                let (scope, probe) = ("probe/preview".parse()?, DeploymentId::generate(&ids, now));
                let there = self.inner.hold(&scope, digest, probe).await.is_ok();
                self.inner.release(probe, Timestamp::EPOCH).await?;
                let mut seen = self.seen();
                if !there && let Some((artifact, _)) = seen.puts.remove(&digest) {
                    seen.gone.insert(digest);
                    seen.lost_blobs.extend(artifact.manifest().blobs());
                }
            }
        }
        Ok(collected)
    }
}
