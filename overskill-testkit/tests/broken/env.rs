use async_trait::async_trait;
use overskill_core::{
    EnvChanges, EnvEntry, EnvKey, EnvRevision, EnvSnapshot, EnvStore, EnvValue, Environment, Error, ErrorKind,
    Incarnation, KeyProvider, Readiness, Result, Scope, Sealer, StreamPosition, SystemIds, memory::MemoryEnv,
};
use overskill_testkit::{EnvStoreFixture, TestKeys, suites::env::V1};
use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    UnstableStart,
    SealedReadAsPlain,
    PutReplacesEverything,
    UnsetOfNothingAddsNothing,
    AnswersTheNewest,
    EveryValueIsNew,
    StartIsNoRevision,
    IgnoresExpected,
    UnknownIsEmpty,
    LeaksEnvironments,
    ChecksThenActs,
    GuessesItsRevision,
    StaysBusyWhenDropped,
    ForgetsOnRestart,
    NotReady,
    TrimsValues,
    FoldsCase,
    TakesNoChanges,
    CountsEveryByteTwice,
    TakesFewerVariables,
    DebugShowsValues,
    LeavesOutWhatIsOld,
    AnswersWhatIsStored,
    ResealsNothing,
    ResealsEverybody,
    ResealsHalf,
    OpensBeforeItPuts,
}

const BUGS: &[(Bug, &[&str])] = &[
    (Bug::UnstableStart, &["an_untouched_scope_has_an_empty_revision"]),
    (Bug::SealedReadAsPlain, &["what_was_set_is_read"]),
    (Bug::PutReplacesEverything, &["set_and_unset_change_what_they_name"]),
    (Bug::UnsetOfNothingAddsNothing, &["every_put_adds_exactly_one"]),
    (Bug::AnswersTheNewest, &["revisions_never_change"]),
    (Bug::EveryValueIsNew, &["entries_tell_names_and_origins"]),
    (Bug::StartIsNoRevision, &["the_expected_revision_lets_it_pass"]),
    (Bug::IgnoresExpected, &["another_expected_revision_is_refused", "pointers_and_wrappers_answer_alike"]),
    (Bug::UnknownIsEmpty, &["a_revision_that_never_was_is_not_found"]),
    (Bug::LeaksEnvironments, &["scopes_know_nothing_of_each_other"]),
    (Bug::ChecksThenActs, &["of_concurrent_conditional_puts_one_wins"]),
    (Bug::GuessesItsRevision, &["concurrent_puts_all_land"]),
    (Bug::StaysBusyWhenDropped, &["a_dropped_put_leaves_all_or_nothing"]),
    (Bug::ForgetsOnRestart, &["revisions_survive_a_restart"]),
    (Bug::NotReady, &["it_is_ready"]),
    (Bug::TrimsValues, &["values_are_read_as_they_were_set"]),
    (Bug::FoldsCase, &["names_that_look_alike_are_different"]),
    (Bug::TakesNoChanges, &["no_changes_are_refused"]),
    (Bug::CountsEveryByteTwice, &["the_largest_value_is_taken_and_a_larger_refused"]),
    (Bug::TakesFewerVariables, &["the_most_variables_are_taken_and_more_refused"]),
    (Bug::DebugShowsValues, &["nothing_shows_a_sealed_value"]),
    (Bug::LeavesOutWhatIsOld, &["old_values_open_after_a_rotation", "a_retired_key_fails_closed"]),
    (Bug::AnswersWhatIsStored, &["a_retired_key_fails_closed"]),
    (Bug::ResealsNothing, &["reseal_moves_every_value_to_the_current_key"]),
    (Bug::ResealsEverybody, &["reseal_stays_in_its_scope"]),
    (Bug::ResealsHalf, &["an_interrupted_reseal_harms_nothing"]),
    (Bug::OpensBeforeItPuts, &["a_lost_value_can_be_replaced"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bug_of_an_env_store_is_found() {
    super::judge(&V1, Bug::None, BUGS, fixture).await;
}

fn fixture(bug: Bug) -> EnvStoreFixture {
    let keys = TestKeys::new();
    let sealer = Sealer::new(Arc::new(keys.clone()), Arc::new(SystemIds));
    let inner = MemoryEnv::with(&SystemIds, sealer.clone());
    let kept = inner.clone();
    let env = Env {
        inner,
        keys: keys.clone(),
        bug,
        seen: Mutex::default(),
        scopes: Mutex::default(),
        busy: AtomicBool::new(false),
        starts: AtomicU64::new(1),
    };
    EnvStoreFixture::with(Arc::new(env), keys).reopen(move || {
        let fresh = || MemoryEnv::with(&SystemIds, sealer.clone());
        let again = if bug == Bug::ForgetsOnRestart { fresh() } else { kept.clone() };
        let again: Arc<dyn EnvStore> = Arc::new(again);
        async { again }
    })
}

struct Env {
    inner: MemoryEnv,
    keys: TestKeys,
    bug: Bug,
    seen: Mutex<String>,
    scopes: Mutex<BTreeSet<Scope>>,
    busy: AtomicBool,
    starts: AtomicU64,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bug {
            Bug::DebugShowsValues => write!(f, "Env({})", self.seen.lock().unwrap()),
            _ => f.write_str("Env"),
        }
    }
}

impl Env {
    fn scope(&self, scope: &Scope) -> Scope {
        match self.bug {
            Bug::LeaksEnvironments => Scope::new(scope.app.clone(), Environment::Development),
            _ => scope.clone(),
        }
    }

    async fn names(&self, scope: &Scope) -> Result<Vec<EnvKey>> {
        let current = self.inner.current(scope).await?;
        Ok(self.inner.entries(scope, current).await?.into_iter().map(|entry| entry.key).collect())
    }

    /// The changes as this store takes them.
    fn changes(&self, changes: &EnvChanges) -> EnvChanges {
        let mut taken = EnvChanges::new();
        for (key, value) in changes.iter() {
            let key = match self.bug {
                Bug::FoldsCase => EnvKey::parse(&key.as_str().to_uppercase()).unwrap(),
                _ => key.clone(),
            };
            let Some(value) = value else {
                taken = taken.unset(key);
                continue;
            };
            value.expose().clone_into(&mut self.seen.lock().unwrap());
            let value = match (self.bug, value) {
                (Bug::TrimsValues, EnvValue::Plain(text)) => EnvValue::plain(text.trim()),
                _ => value.clone(),
            };
            taken = taken.set(key, value);
        }
        taken
    }
}

#[async_trait]
impl EnvStore for Env {
    async fn check(&self) -> Result<Readiness> {
        let ready = self.inner.check().await?;
        Ok(if self.bug == Bug::NotReady { ready.lacks("a disk", "mount one") } else { ready })
    }

    async fn current(&self, scope: &Scope) -> Result<EnvRevision> {
        let current = self.inner.current(&self.scope(scope)).await?;
        if self.bug == Bug::UnstableStart && current.0.seq == 0 {
            let life = self.starts.fetch_add(1, Ordering::Relaxed);
            return Ok(EnvRevision(StreamPosition::start(Incarnation::from_u64(life))));
        }
        Ok(current)
    }

    async fn put(&self, scope: &Scope, changes: &EnvChanges, expected: Option<EnvRevision>) -> Result<EnvRevision> {
        let scope = &self.scope(scope);
        self.scopes.lock().unwrap().insert(scope.clone());
        let mut changes = self.changes(changes);
        let current = self.inner.current(scope).await?;
        match self.bug {
            Bug::PutReplacesEverything => {
                let named: BTreeSet<_> = changes.iter().map(|(key, _)| key.clone()).collect();
                for key in self.names(scope).await?.into_iter().filter(|key| !named.contains(key)) {
                    changes = changes.unset(key);
                }
            }
            Bug::UnsetOfNothingAddsNothing => {
                let names = self.names(scope).await?;
                if !changes.is_empty() && changes.iter().all(|(key, value)| value.is_none() && !names.contains(key)) {
                    return Ok(current);
                }
            }
            Bug::StartIsNoRevision if expected.is_some_and(|expected| expected.0.seq == 0) => {
                return Err(Error::conflict("there is nothing yet"));
            }
            Bug::IgnoresExpected => return self.inner.put(scope, &changes, None).await,
            Bug::ChecksThenActs if expected.is_some() => {
                if expected != Some(current) {
                    return Err(Error::conflict("it stands elsewhere"));
                }
                super::pause().await;
                return self.inner.put(scope, &changes, None).await;
            }
            Bug::GuessesItsRevision if expected.is_none() => {
                super::pause().await;
                self.inner.put(scope, &changes, None).await?;
                return Ok(EnvRevision(current.0.next()));
            }
            Bug::StaysBusyWhenDropped => {
                if self.busy.swap(true, Ordering::Relaxed) {
                    return Err(super::busy("broken"));
                }
                super::pause().await;
                let done = self.inner.put(scope, &changes, expected).await;
                self.busy.store(false, Ordering::Relaxed);
                return done;
            }
            Bug::TakesNoChanges if changes.is_empty() => return Ok(current),
            Bug::CountsEveryByteTwice => {
                let bytes = changes.iter().filter_map(|(_, value)| value).map(|value| 2 * value.expose().len()).max();
                if bytes > Some(EnvValue::MAX_BYTES) {
                    return Err(Error::new(ErrorKind::LimitExceeded, "value must be at most 32768 bytes"));
                }
            }
            Bug::TakesFewerVariables if changes.iter().count() > 500 => {
                return Err(Error::new(ErrorKind::LimitExceeded, "at most 500 variables"));
            }
            Bug::OpensBeforeItPuts => drop(self.inner.get(scope, current).await?),
            _ => {}
        }
        self.inner.put(scope, &changes, expected).await
    }

    async fn get(&self, scope: &Scope, revision: EnvRevision) -> Result<EnvSnapshot> {
        let scope = &self.scope(scope);
        let asked = match self.bug {
            Bug::AnswersTheNewest => self.inner.current(scope).await?,
            Bug::UnstableStart if revision.0.seq == 0 => self.inner.current(scope).await?,
            _ => revision,
        };
        let empty = EnvSnapshot { revision, values: [].into() };
        let mut got = match self.inner.get(scope, asked).await {
            Err(e) if e.kind() == ErrorKind::NotFound && self.bug == Bug::UnknownIsEmpty => return Ok(empty),
            Err(_) if self.bug == Bug::LeavesOutWhatIsOld => empty,
            Err(_) if self.bug == Bug::AnswersWhatIsStored => {
                let mut raw = empty;
                for entry in self.inner.entries(scope, asked).await? {
                    raw.values.insert(entry.key, EnvValue::sealed("AQVraXQtMQ=="));
                }
                raw
            }
            got => got?,
        };
        got.revision = revision;
        if self.bug == Bug::SealedReadAsPlain {
            for value in got.values.values_mut() {
                *value = EnvValue::plain(value.expose());
            }
        }
        if self.bug == Bug::LeavesOutWhatIsOld {
            let current = self.keys.current().await?;
            let entries = self.inner.entries(scope, asked).await?;
            let old = entries.into_iter().filter(|entry| entry.key_id.as_ref().is_some_and(|id| *id != current));
            for entry in old {
                got.values.remove(&entry.key);
            }
        }
        Ok(got)
    }

    async fn entries(&self, scope: &Scope, revision: EnvRevision) -> Result<Vec<EnvEntry>> {
        let scope = &self.scope(scope);
        let mut entries = self.inner.entries(scope, revision).await?;
        if self.bug == Bug::EveryValueIsNew {
            for entry in &mut entries {
                entry.since = revision;
            }
        }
        Ok(entries)
    }

    async fn reseal(&self, scope: &Scope) -> Result<u64> {
        match self.bug {
            Bug::ResealsNothing => Ok(0),
            Bug::ResealsHalf => {
                // What was begun counts as done.
                if self.busy.swap(true, Ordering::Relaxed) {
                    return Ok(0);
                }
                // Not a pause: on a busy machine one may be over before anybody looks.
                tokio::task::yield_now().await;
                let done = self.inner.reseal(scope).await;
                self.busy.store(false, Ordering::Relaxed);
                done
            }
            Bug::ResealsEverybody => {
                let scopes = self.scopes.lock().unwrap().clone();
                let mut resealed = 0;
                for scope in &scopes {
                    resealed += self.inner.reseal(scope).await?;
                }
                Ok(resealed)
            }
            _ => self.inner.reseal(&self.scope(scope)).await,
        }
    }
}
