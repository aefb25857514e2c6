use super::{NAME, Shared};
use crate::{AppDirectory, AppId, AppRecord, Page, Readiness, Result};
use async_trait::async_trait;
use std::{collections::BTreeMap, num::NonZeroU32, ops::Bound};

/// The list of apps in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryApps(Shared<BTreeMap<AppId, AppRecord>>);

impl MemoryApps {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl AppDirectory for MemoryApps {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(NAME))
    }

    async fn put(&self, app: &AppRecord) -> Result<()> {
        app.admit()?;
        let mut apps = self.0.lock();
        let created_at = apps.get(&app.app).map_or(app.created_at, |known| known.created_at);
        apps.insert(app.app.clone(), AppRecord { created_at, ..app.clone() });
        Ok(())
    }

    async fn get(&self, app: &AppId) -> Result<Option<AppRecord>> {
        Ok(self.0.lock().get(app).cloned())
    }

    async fn list(&self, after: Option<AppId>, limit: NonZeroU32) -> Result<Page<AppRecord, AppId>> {
        let limit = limit.get() as usize;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let apps = self.0.lock();
        let items = apps.range((from, Bound::Unbounded)).map(|(_, app)| app.clone());
        Ok(Page::cut(items.take(limit.saturating_add(1)).collect(), limit, |app: &AppRecord| app.app.clone()))
    }
}
