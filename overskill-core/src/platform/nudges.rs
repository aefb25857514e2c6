use crate::DeploymentId;
use std::{collections::BTreeSet, sync::Mutex};
use tokio::sync::Notify;

/// Deployments that somebody says should be looked at now, each once. More than fit are found in the usual rounds.
#[derive(Debug, Default)]
pub(crate) struct Nudges {
    ids: Mutex<BTreeSet<DeploymentId>>,
    bell: Notify,
}

impl Nudges {
    const MAX: usize = 10_000;

    pub(crate) fn add(&self, id: DeploymentId) {
        let mut ids = self.ids.lock().expect("nobody panics with this lock");
        if ids.len() < Self::MAX {
            ids.insert(id);
        }
        drop(ids);
        self.bell.notify_one();
    }

    /// The next one. May be dropped at any time.
    pub(super) async fn next(&self) -> DeploymentId {
        loop {
            if let Some(id) = self.take() {
                return id;
            }
            self.bell.notified().await;
        }
    }

    fn take(&self) -> Option<DeploymentId> {
        let mut ids = self.ids.lock().expect("nobody panics with this lock");
        let id = ids.pop_first();
        if !ids.is_empty() {
            // Somebody else may wait for these.
            self.bell.notify_one();
        }
        id
    }
}
