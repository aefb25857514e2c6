use super::AppHandle;
use crate::{
    AppFile, CatchUp, Change, Changes, Environment, Error, FilePath, Preview, PreviewStatus, Result, Right, Scope,
    Snapshot, StreamPosition, Update, instruments,
};
use std::collections::BTreeMap;

/// What a preview shows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Sources {
    /// The sources as they are stored.
    Stored,
    /// These files, which become the app's sources first: files that are not among them are deleted.
    Files(BTreeMap<FilePath, AppFile>),
}

impl Sources {
    /// These files, which become the app's sources first: files that are not among them are deleted.
    pub fn files<P, C>(files: impl IntoIterator<Item = (P, C)>) -> Result<Self>
    where
        P: TryInto<FilePath>,
        Error: From<P::Error>,
        C: Into<AppFile>,
    {
        let files = files.into_iter().map(|(path, contents)| Ok((path.try_into()?, contents.into())));
        files.collect::<Result<_>>().map(Self::Files)
    }
}

/// What became of a write.
#[derive(Debug)]
pub struct Written {
    /// The position it led to. It is durable.
    pub position: StreamPosition,
    /// Whether an open preview shows it.
    pub pushed: Pushed,
}

/// Whether an open preview shows what was written.
#[derive(Debug)]
pub enum Pushed {
    /// No preview is open.
    NotOpen,
    /// It shows it.
    Shown,
    /// It could not be reached; it catches up with the next write, or when it is opened again.
    Failed(Error),
}

/// An app's live preview.
#[derive(Debug)]
pub struct AppPreview<'a> {
    app: &'a AppHandle,
}

impl<'a> AppPreview<'a> {
    pub(super) fn new(app: &'a AppHandle) -> Self {
        Self { app }
    }

    /// Opens it with the newest variables of the preview environment, and returns where it is. Needs `Develop`.
    ///
    /// If it is open already it shows what is newer; to bring changed variables to it, open it again.
    #[tracing::instrument(name = "overskill.previews.open", skip_all, fields(app = %self.app.id()))]
    pub async fn open(&self, sources: Sources) -> Result<Preview> {
        let call = async {
            let stored = self.app.permit_change(Environment::Development, Right::Develop).await?;
            let scope = self.app.permit_change(Environment::Preview, Right::Develop).await?;
            let parts = &self.app.parts;
            let timer = instruments::Timer::start(&parts.clock, instruments::OPEN_SECONDS);
            let open = async {
                let mut snapshot = parts.files.snapshot(&stored).await?;
                if let Sources::Files(files) = sources {
                    let changes = difference(&snapshot.files, &files);
                    if !changes.is_empty() {
                        snapshot.position = parts.files.apply(&stored, &changes, Some(snapshot.position)).await?;
                        snapshot.files = files;
                    }
                }
                self.open_with(&scope, &snapshot).await
            };
            let opened = open.await;
            timer.stop_with(&opened);
            opened
        };
        self.app.measured("preview.open", call).await
    }

    /// What the host knows of it. Needs `Develop`.
    pub async fn status(&self) -> Result<PreviewStatus> {
        let call = async {
            let scope = self.app.permit(Environment::Preview, Right::Develop)?;
            self.app.parts.previews.status(&scope).await
        };
        self.app.measured("preview.status", call).await
    }

    /// Fills it again if its host lost its sources; true if it had. Needs `Develop`.
    pub async fn refill(&self) -> Result<bool> {
        let call = async {
            let stored = self.app.permit(Environment::Development, Right::Develop)?;
            let scope = self.app.permit(Environment::Preview, Right::Develop)?;
            if self.app.parts.previews.status(&scope).await? != PreviewStatus::Empty {
                return Ok(false);
            }
            let snapshot = self.app.parts.files.snapshot(&stored).await?;
            self.open_with(&scope, &snapshot).await?;
            Ok(true)
        };
        self.app.measured("preview.refill", call).await
    }

    /// Ends it. Fine if it is not open. Needs `Develop`.
    pub async fn close(&self) -> Result<()> {
        let call = async {
            let scope = self.app.permit(Environment::Preview, Right::Develop)?;
            self.app.parts.previews.close(&scope).await
        };
        self.app.measured("preview.close", call).await
    }

    /// Opens it with the newest variables of its environment.
    async fn open_with(&self, scope: &Scope, snapshot: &Snapshot) -> Result<Preview> {
        let parts = &self.app.parts;
        let env = parts.env.current(scope).await?;
        parts.previews.open(scope, snapshot, &parts.env.get(scope, env).await?).await
    }

    /// Makes changes durable, then shows them. The caller checked the grant for `stored`.
    pub(super) async fn write(
        &self,
        stored: &Scope,
        changes: &Changes,
        expected: Option<StreamPosition>,
    ) -> Result<Written> {
        let parts = &self.app.parts;
        let bytes = changes.iter().map(|(_, c)| if let Change::Put(f) = c { f.size_bytes() } else { 0 }).sum::<u64>();
        let timer = instruments::Timer::start(&parts.clock, instruments::APPLY_SECONDS);
        let applied = parts.files.apply(stored, changes, expected).await;
        timer.stop_with(&applied);
        let position = applied?;
        #[expect(clippy::cast_precision_loss, reason = "a histogram does not count single bytes")]
        metrics::histogram!(instruments::APPLY_BYTES).record(bytes as f64);

        let timer = instruments::Timer::start(&parts.clock, instruments::PUSH_SECONDS);
        let scope = Scope::new(stored.app.clone(), Environment::Preview);
        let shown = self.show(stored, &scope, position, changes).await;
        timer.stop_with(&shown);
        let pushed = match shown {
            Ok(true) => Pushed::Shown,
            Ok(false) => Pushed::NotOpen,
            Err(e) => {
                tracing::warn!(app = %stored.app, error = %e, "an update did not reach the preview");
                Pushed::Failed(e)
            }
        };
        Ok(Written { position, pushed })
    }

    /// Brings an open preview to `position` or further; false when none is open.
    async fn show(&self, stored: &Scope, scope: &Scope, position: StreamPosition, changes: &Changes) -> Result<bool> {
        let parts = &self.app.parts;
        let base = StreamPosition::new(position.incarnation, position.seq.saturating_sub(1));
        let have = match parts.previews.apply(scope, base, position, changes).await? {
            Update::Applied => return Ok(true),
            Update::Missed { have: None } => return Ok(false),
            Update::Missed { have: Some(have) } => have,
        };
        // It missed something, or a later write was quicker: catch up from where it stands.
        let mut at = have;
        if let CatchUp::Entries(missed) = parts.files.changes_since(stored, have).await? {
            for entry in missed {
                if parts.previews.apply(scope, at, entry.position, &entry.changes).await? != Update::Applied {
                    break;
                }
                at = entry.position;
            }
            if at.incarnation == position.incarnation && at.seq >= position.seq {
                return Ok(true);
            }
        }
        let snapshot = parts.files.snapshot(stored).await?;
        self.open_with(scope, &snapshot).await?;
        Ok(true)
    }
}

/// What turns `old` into `new`.
fn difference(old: &BTreeMap<FilePath, AppFile>, new: &BTreeMap<FilePath, AppFile>) -> Changes {
    let gone = old.keys().filter(|path| !new.contains_key(*path)).map(|path| (path.clone(), Change::Delete));
    let changed = new.iter().filter(|(path, file)| old.get(*path) != Some(file));
    gone.chain(changed.map(|(path, file)| (path.clone(), Change::Put(file.clone())))).collect()
}
