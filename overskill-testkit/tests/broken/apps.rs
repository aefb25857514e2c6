use async_trait::async_trait;
use overskill_core::{AppDirectory, AppId, AppRecord, AppState, Page, Readiness, Result, Timestamp};
use overskill_testkit::{AppDirectoryFixture, suites::apps::V1};
use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    InventsApps,
    LosesOwners,
    LosesStrategies,
    KeepsOldOwners,
    RenewsTheTimeOfCreation,
    MatchesPrefixes,
    TakesAnyName,
    ListsActiveOnly,
    SkipsBetweenPages,
    WantsAfterToExist,
    WritesInTwoSteps,
    DeletesThenInserts,
    ForgetsOnRestart,
    LosesPuts,
    NotReady,
}

const BUGS: &[(Bug, &[&str])] = &[
    (Bug::InventsApps, &["an_unknown_app_is_absent"]),
    (Bug::LosesOwners, &["an_app_is_read_as_it_was_put"]),
    (Bug::LosesStrategies, &["an_app_is_read_as_it_was_put"]),
    (Bug::KeepsOldOwners, &["a_put_replaces"]),
    (Bug::RenewsTheTimeOfCreation, &["the_time_of_creation_stays"]),
    (Bug::MatchesPrefixes, &["ids_that_look_alike_are_different"]),
    (Bug::TakesAnyName, &["the_longest_name_is_taken_and_a_longer_refused"]),
    (Bug::ListsActiveOnly, &["a_listing_is_in_the_order_of_ids"]),
    (Bug::SkipsBetweenPages, &["pages_join_without_gap_or_overlap"]),
    (Bug::WantsAfterToExist, &["a_page_may_begin_after_an_app_that_is_not_there"]),
    (Bug::WritesInTwoSteps, &["concurrent_puts_make_one_app", "a_dropped_put_leaves_all_or_nothing"]),
    (Bug::DeletesThenInserts, &["a_dropped_put_leaves_all_or_nothing"]),
    (Bug::ForgetsOnRestart, &["apps_survive_a_restart"]),
    (Bug::LosesPuts, &["pointers_and_wrappers_answer_alike"]),
    (Bug::NotReady, &["it_is_ready"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bug_of_an_app_directory_is_found() {
    super::judge(&V1, Bug::None, BUGS, fixture).await;
}

fn fixture(bug: Bug) -> AppDirectoryFixture {
    let rows = Rows::default();
    let directory = move |rows: Rows| -> Arc<dyn AppDirectory> { Arc::new(Directory { rows, bug }) };
    AppDirectoryFixture::new(directory(rows.clone())).reopen(move || {
        let again = if bug == Bug::ForgetsOnRestart { Rows::default() } else { rows.clone() };
        std::future::ready(directory(again))
    })
}

type Rows = Arc<Mutex<BTreeMap<AppId, AppRecord>>>;

#[derive(Debug)]
struct Directory {
    rows: Rows,
    bug: Bug,
}

#[async_trait]
impl AppDirectory for Directory {
    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready("broken");
        Ok(if self.bug == Bug::NotReady { ready.lacks("a disk", "mount one") } else { ready })
    }

    async fn put(&self, app: &AppRecord) -> Result<()> {
        if self.bug != Bug::TakesAnyName {
            app.admit()?;
        }
        if self.bug == Bug::LosesPuts {
            return Ok(());
        }
        let mut next = app.clone();
        let before = self.rows.lock().unwrap().get(&app.app).cloned();
        if let Some(before) = &before {
            if self.bug != Bug::RenewsTheTimeOfCreation {
                next.created_at = before.created_at;
            }
            if self.bug == Bug::KeepsOldOwners {
                next.owner = next.owner.or_else(|| before.owner.clone());
            }
        }
        match self.bug {
            Bug::LosesOwners => next.owner = None,
            Bug::LosesStrategies => next.strategy = None,
            Bug::DeletesThenInserts => {
                self.rows.lock().unwrap().remove(&app.app);
                super::pause().await;
            }
            Bug::WritesInTwoSteps => {
                let mut half = before.unwrap_or_else(|| next.clone());
                half.name.clone_from(&next.name);
                self.rows.lock().unwrap().insert(app.app.clone(), half);
                super::pause().await;
                // The second step writes what the first did not.
                if let Some(row) = self.rows.lock().unwrap().get_mut(&app.app) {
                    row.state = next.state;
                    row.owner = next.owner;
                    row.strategy = next.strategy;
                }
                return Ok(());
            }
            _ => {}
        }
        self.rows.lock().unwrap().insert(app.app.clone(), next);
        Ok(())
    }

    async fn get(&self, app: &AppId) -> Result<Option<AppRecord>> {
        let rows = self.rows.lock().unwrap();
        Ok(match self.bug {
            Bug::InventsApps => {
                let invented = || AppRecord::new(app.clone(), "new", Timestamp::EPOCH);
                Some(rows.get(app).cloned().unwrap_or_else(invented))
            }
            Bug::MatchesPrefixes => rows.values().find(|row| app.as_str().starts_with(row.app.as_str())).cloned(),
            _ => rows.get(app).cloned(),
        })
    }

    async fn list(&self, after: Option<AppId>, limit: NonZeroU32) -> Result<Page<AppRecord, AppId>> {
        let rows = self.rows.lock().unwrap();
        if self.bug == Bug::WantsAfterToExist && after.as_ref().is_some_and(|after| !rows.contains_key(after)) {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let skip =
            usize::from(self.bug == Bug::SkipsBetweenPages && after.as_ref().is_some_and(|a| rows.contains_key(a)));
        let shown = |row: &&AppRecord| self.bug != Bug::ListsActiveOnly || row.state == AppState::Active;
        let behind = |row: &&AppRecord| after.as_ref().is_none_or(|after| row.app > *after);
        let limit = usize::try_from(limit.get()).unwrap();
        let items = rows.values().filter(shown).filter(behind).skip(skip).take(limit.saturating_add(1)).cloned();
        Ok(Page::cut(items.collect(), limit, |row| row.app.clone()))
    }
}
