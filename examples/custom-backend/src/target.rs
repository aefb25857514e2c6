use crate::disk;
use async_trait::async_trait;
use overskill_core::{
    Artifact, BackendName, DeployRequest, DeploymentId, DeploymentTarget, EnvRevision, Error, ErrorKind, Fence,
    FilePath, Handle, Manifest, Observed, ObservedState, Readiness, Removal, Result, Scope, Staged, TargetInfo,
    TargetStatus,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// A folder of this machine that static apps are "deployed" to. It enforces fences and keeps the previous version.
///
/// Each scope has a folder with the assets by digest and one record of its versions, which is replaced as a whole: that
/// is the moment at which a version goes live. One process at a time.
#[derive(Clone, Debug)]
pub struct FolderTarget {
    name: BackendName,
    folder: PathBuf,
    /// Held for a whole call, so that records are read, changed and replaced by one at a time.
    turn: Arc<Mutex<()>>,
}

/// The record of a scope.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Site {
    versions: BTreeMap<DeploymentId, Version>,
    active: Option<DeploymentId>,
    /// The highest activation there ever was; it outlives the version, so that what was overtaken stays so.
    highest: Option<(Fence, DeploymentId)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Version {
    digest: overskill_core::Digest,
    manifest: Manifest,
    env: EnvRevision,
    fence: Option<Fence>,
    previous: bool,
}

impl FolderTarget {
    /// Deploys to `folder`, which is made when it is needed.
    pub fn new(name: BackendName, folder: impl Into<PathBuf>) -> Self {
        Self { name, folder: folder.into(), turn: Arc::default() }
    }

    /// What a web server would answer for `path`: the asset of the live version.
    pub fn asset(&self, scope: &Scope, path: &FilePath) -> Result<Option<Vec<u8>>> {
        self.with(scope, |site| {
            let live = site.active.and_then(|id| site.versions.get(&id));
            let digest = live.and_then(|version| version.manifest.assets.get(path));
            digest.map(|digest| disk::blob(&self.blobs(scope), *digest)).transpose()
        })
    }

    /// Reads the record of a scope and does something with it.
    fn with<T>(&self, scope: &Scope, act: impl FnOnce(&mut Site) -> Result<T>) -> Result<T> {
        let _turn = self.turn.lock().expect("nobody panics with this lock");
        let mut site = disk::read_json(&self.record(scope))?.unwrap_or_default();
        act(&mut site)
    }

    /// The same, and replaces the record afterwards.
    fn change<T>(&self, scope: &Scope, act: impl FnOnce(&mut Site) -> Result<T>) -> Result<T> {
        self.with(scope, |site| {
            let done = act(site)?;
            disk::replace_json(&self.record(scope), site)?;
            Ok(done)
        })
    }

    fn site(&self, scope: &Scope) -> PathBuf {
        self.folder.join(format!("{}.{}", scope.app, scope.environment))
    }

    fn record(&self, scope: &Scope) -> PathBuf {
        self.site(scope).join("versions.json")
    }

    fn blobs(&self, scope: &Scope) -> PathBuf {
        self.site(scope).join("assets")
    }

    fn handle(scope: &Scope, id: DeploymentId) -> Handle {
        Handle::new(format!("{scope}/{id}"))
    }
}

impl Site {
    /// The id is the idempotency key: with something else it is a conflict.
    fn admit(&self, request: &DeployRequest) -> Result<()> {
        match self.versions.get(&request.id()) {
            Some(known) if known.digest != request.digest() => {
                Err(Error::conflict("this deployment is here with another artifact"))
            }
            Some(known) if known.env != request.env_revision() => {
                Err(Error::conflict("this deployment is here with other variables"))
            }
            _ => Ok(()),
        }
    }

    fn state(&self, id: DeploymentId, version: &Version) -> ObservedState {
        match self.active {
            Some(active) if active == id => ObservedState::Active,
            _ if version.previous => ObservedState::Previous,
            _ => ObservedState::Staged,
        }
    }
}

#[async_trait]
impl DeploymentTarget for FolderTarget {
    fn info(&self) -> TargetInfo {
        let mut info = TargetInfo::new(self.name.clone(), "this machine");
        info.max_artifact_bytes = 64 * 1024 * 1024;
        info.max_artifact_files = 5_000;
        info.keeps_previous = true;
        // What it cannot do it declares; the suite holds it to that too.
        info.runs_servers = false;
        info.honours_env = false;
        info.honours_limits = false;
        info
    }

    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready(self.name.to_string());
        Ok(match fs::create_dir_all(&self.folder) {
            Ok(()) => ready,
            Err(e) => ready.lacks(format!("its folder cannot be made: {e}"), "choose a folder that can be written to"),
        })
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        self.info().admit(request)?;
        self.change(request.scope(), |site| {
            site.admit(request)?;
            // Assets first: the record names only what is there.
            let artifact: &Artifact = request.artifact();
            for file in artifact.blobs() {
                disk::put_blob(&self.blobs(request.scope()), file.digest(), file.contents())?;
            }
            site.versions.entry(request.id()).or_insert_with(|| Version {
                digest: request.digest(),
                manifest: artifact.manifest(),
                env: request.env_revision(),
                fence: None,
                previous: false,
            });
            Ok(Staged { id: request.id(), handle: Self::handle(request.scope(), request.id()) })
        })
    }

    async fn activate(&self, request: &DeployRequest, _: &Staged, fence: Fence) -> Result<Handle> {
        let (scope, id) = (request.scope(), request.id());
        self.change(scope, |site| {
            site.admit(request)?;
            if let Some((highest, whose)) = site.highest
                && (fence < highest || (fence == highest && whose != id))
            {
                return Err(Error::conflict(format!("fence must be above {highest}, but was {fence}")));
            }
            if !site.versions.contains_key(&id) {
                return Err(Error::not_found("the staged version is gone: stage it again"));
            }
            if site.active != Some(id) {
                // One version is kept to go back to; what was kept before goes.
                site.versions.retain(|other, version| *other == id || !version.previous);
                if let Some(before) = site.active.and_then(|before| site.versions.get_mut(&before)) {
                    before.previous = true;
                }
            }
            if let Some(version) = site.versions.get_mut(&id) {
                (version.fence, version.previous) = (Some(fence), false);
            }
            site.active = Some(id);
            site.highest = Some((fence, id));
            Ok(Self::handle(scope, id))
        })
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        self.with(scope, |site| {
            let live = site.active.and_then(|live| Some((live, site.versions.get(&live)?.fence?)));
            Ok(match live {
                Some((live, under)) if live == id && under == fence => TargetStatus::Landed(Self::handle(scope, id)),
                Some((_, under)) if under > fence => TargetStatus::Superseded,
                _ => TargetStatus::Absent,
            })
        })
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        self.with(scope, |site| {
            let observed = |(id, version): (&DeploymentId, &Version)| {
                Observed::new(site.state(*id, version)).id(*id).digest(version.digest).fence(version.fence)
            };
            Ok(site.versions.iter().map(observed).collect())
        })
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        if !self.site(scope).exists() {
            return Ok(());
        }
        self.change(scope, |site| {
            match removal {
                Removal::All => site.versions.clear(),
                Removal::Only(id) => drop(site.versions.remove(&id)),
                _ => return Err(Error::new(ErrorKind::Unsupported, "this cannot be removed here")),
            }
            site.active = site.active.filter(|id| site.versions.contains_key(id));
            Ok(())
        })?;
        // Assets that no version names any more; the record is right whether or not this gets done.
        let used =
            self.with(scope, |site| Ok(site.versions.values().flat_map(|v| v.manifest.blobs()).collect::<Vec<_>>()))?;
        let unused = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            (!used.iter().any(|digest| digest.to_string() == name)).then(|| entry.path())
        };
        if let Ok(entries) = fs::read_dir(self.blobs(scope)) {
            for path in entries.filter_map(unused) {
                fs::remove_file(path).map_err(|e| disk::failed("an asset could not be removed", e))?;
            }
        }
        Ok(())
    }
}
