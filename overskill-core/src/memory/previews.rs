use super::Shared;
use crate::{
    BackendName, Changes, EnvSnapshot, Error, Preview, PreviewHost, PreviewStatus, PublicUrl, Readiness, Result, Scope,
    Snapshot, StreamPosition, Update,
};
use async_trait::async_trait;
use std::collections::HashMap;

/// A preview host that serves nothing but remembers what it would show. Clones share it.
///
/// Its addresses are under `.test`, where nobody answers (RFC 2606).
#[derive(Clone, Debug)]
pub struct MemoryPreviews {
    name: BackendName,
    open: Shared<HashMap<Scope, Room>>,
}

struct Room {
    /// `None` when the sources were lost.
    shown: Option<Snapshot>,
    env: Option<EnvSnapshot>,
    viewers: u32,
}

impl MemoryPreviews {
    /// A host called `memory`.
    pub fn new() -> Self {
        Self::named(BackendName::parse(super::NAME).expect("a legal backend name"))
    }

    /// A host called `name`.
    pub fn named(name: BackendName) -> Self {
        Self { name, open: Shared::default() }
    }

    /// What a preview shows.
    pub fn shown(&self, scope: &Scope) -> Option<Snapshot> {
        self.open.lock().get(scope)?.shown.clone()
    }

    /// The variables that a preview has.
    pub fn env(&self, scope: &Scope) -> Option<EnvSnapshot> {
        self.open.lock().get(scope)?.env.clone()
    }

    /// Forgets a preview's sources, as a host does that was restarted, while somebody looks at it: it is
    /// [`Empty`](PreviewStatus::Empty) until it is opened again.
    pub fn lose(&self, scope: &Scope) {
        self.open.lock().entry(scope.clone()).or_insert(Room { shown: None, env: None, viewers: 1 }).shown = None;
    }

    /// Says how many viewers an open preview has.
    pub fn set_viewers(&self, scope: &Scope, viewers: u32) {
        if let Some(room) = self.open.lock().get_mut(scope) {
            room.viewers = viewers;
        }
    }

    fn preview(&self, scope: &Scope, position: StreamPosition) -> Result<Preview> {
        let host = format!("{}.{}.test", scope.host_label(), self.name);
        let url = |text: String| PublicUrl::parse(&text).map_err(Error::from);
        Ok(Preview::new(url(format!("https://{host}"))?, url(format!("wss://{host}/ws"))?, position))
    }
}

impl Default for MemoryPreviews {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl PreviewHost for MemoryPreviews {
    fn name(&self) -> BackendName {
        self.name.clone()
    }

    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(self.name.to_string()))
    }

    async fn open(&self, scope: &Scope, snapshot: &Snapshot, env: &EnvSnapshot) -> Result<Preview> {
        let mut open = self.open.lock();
        let room = open.entry(scope.clone()).or_insert(Room { shown: None, env: None, viewers: 0 });
        room.env = Some(env.clone());
        let older = |shown: &Snapshot| snapshot.position.behind(shown.position).is_some();
        match &room.shown {
            Some(shown) if older(shown) => self.preview(scope, shown.position),
            _ => {
                let preview = self.preview(scope, snapshot.position)?;
                room.shown = Some(snapshot.clone());
                Ok(preview)
            }
        }
    }

    async fn apply(
        &self,
        scope: &Scope,
        base: StreamPosition,
        next: StreamPosition,
        changes: &Changes,
    ) -> Result<Update> {
        let mut open = self.open.lock();
        let Some(shown) = open.get_mut(scope).and_then(|room| room.shown.as_mut()) else {
            return Ok(Update::Missed { have: None });
        };
        if shown.position == base {
            changes.apply_to(&mut shown.files);
            shown.position = next;
        }
        // A repeated call finds the new position already there.
        Ok(if shown.position == next { Update::Applied } else { Update::Missed { have: Some(shown.position) } })
    }

    async fn status(&self, scope: &Scope) -> Result<PreviewStatus> {
        let open = self.open.lock();
        Ok(match open.get(scope) {
            None => PreviewStatus::Closed,
            Some(Room { shown: None, .. }) => PreviewStatus::Empty,
            Some(Room { shown: Some(shown), viewers, .. }) => {
                PreviewStatus::Open { preview: self.preview(scope, shown.position)?, viewers: *viewers }
            }
        })
    }

    async fn close(&self, scope: &Scope) -> Result<()> {
        self.open.lock().remove(scope);
        Ok(())
    }
}
