//! The embedded target: static apps on this machine's disk.

mod contents;
mod record;

pub(crate) use contents::Contents;

use crate::{
    disk::{self, blocking},
    options::Addresses,
};
use async_trait::async_trait;
use overskill_core::{
    BackendName, DeployRequest, DeploymentId, DeploymentTarget, Digest, Error, Fence, FilePath, Handle, Observed,
    PlatformFacts, Readiness, Removal, Result, Scope, Staged, TargetInfo, TargetStatus,
};
use record::{Asset, Site, Version};
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

/// Serves deployed apps from this machine: `http://{app}.localhost:PORT` for production, with the environment's prefix for
/// the others. Clones share it. Made by [`LocalBackends::target`](crate::LocalBackends::target).
///
/// It keeps everything on disk, so a process that starts again serves what it served; enforces fences; and keeps the three
/// versions that were live before, so that going back needs no upload. An artifact with a server module is `Unsupported`
/// here: another target of the strategy takes it.
///
/// A live version can have a part of the visitors only; a cookie (`overskill_visitor`) keeps each where they are.
///
/// What it is good at and costs is [`FACTS`](Self::FACTS), by which a
/// [`PlacementPolicy`](overskill_core::PlacementPolicy) chooses:
///
/// | an app | here |
/// |---|---|
/// | of files alone | served, at no cost: an idle app is files on the disk |
/// | with a server module, of which alone sockets, Node's modules or a schedule could be | not run |
#[derive(Clone, Debug)]
pub struct LocalTarget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: BackendName,
    folder: PathBuf,
    addresses: Addresses,
    /// Records that were read, by scope. A scope's lock is held for a whole change.
    sites: Mutex<HashMap<Scope, Slot>>,
}

/// A scope's record, if it was read.
type Slot = Arc<Mutex<Option<Arc<Site>>>>;

/// What is served for a path.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) contents: Contents,
    pub(crate) digest: Digest,
    /// The path of the asset that was found, which may be another than the one asked for.
    pub(crate) path: FilePath,
    /// Whether it stands in for a page that does not exist.
    pub(crate) missing: bool,
    /// Whether another visitor may get another version.
    pub(crate) shared: bool,
}

/// Records kept in memory. More are read again when they are needed.
const CACHED_RECORDS: usize = 4_096;

impl LocalTarget {
    /// Largest artifact in bytes.
    pub const MAX_ARTIFACT_BYTES: u64 = 256 * 1024 * 1024;
    /// Most files in an artifact.
    pub const MAX_ARTIFACT_FILES: u32 = 20_000;
    /// What is known of this platform. Nothing of an app runs here, so nothing sleeps, needs Node or can be called on a
    /// schedule; nobody sends a bill for it, and the machine is there for the service itself.
    pub const FACTS: PlatformFacts = {
        let mut facts = PlatformFacts::read("overskill-local/README.md, \"For placement\"", "2026-11-22");
        facts.idle_fleet_dollars = Some(0);
        facts
    };

    pub(crate) fn new(name: BackendName, folder: PathBuf, addresses: Addresses) -> Self {
        Self(Arc::new(Inner { name, folder, addresses, sites: Mutex::default() }))
    }

    /// Whether something is live in a scope.
    pub(crate) async fn is_live(&self, scope: &Scope) -> Result<bool> {
        self.with(scope, |inner, scope| Ok(inner.read(scope)?.live().is_some())).await
    }

    /// The asset for a path that a browser asked for; `page` if it would take a page.
    ///
    /// Tried in turn: the asset itself, `{path}/index.html`, `{path}.html`, and for a page `index.html` of a single-page
    /// app, or else `404.html`.
    ///
    /// `visitor`: their number of a hundred, which decides where versions are divided.
    pub(crate) async fn serve(&self, scope: &Scope, path: String, page: bool, visitor: u8) -> Result<Option<Served>> {
        self.with(scope, move |inner, scope| {
            let site = inner.read(scope)?;
            let shared = site.is_shared();
            let theirs = site.live_for(visitor).map(|(_, version)| version);
            // What loads without cookies may be of the version that the page is not of by its number.
            let other = site.live_for(0).filter(|_| shared && !page).map(|(_, version)| version);
            let before = site.live_for(99).filter(|_| shared && !page).map(|(_, version)| version);
            let versions = theirs.into_iter().chain(other).chain(before);
            let mut found = versions.filter_map(|version| Some((version, find(version, &path, page)?)));
            let Some((version, (path, asset, missing))) = found.next() else { return Ok(None) };
            let contents = match inner.asset(scope, version, asset) {
                // Removed between the two reads: what is live now is another version, or none.
                Err(e) if e.kind() == overskill_core::ErrorKind::NotFound => return Ok(None),
                read => read?,
            };
            Ok(Some(Served { contents, digest: asset.digest, path, missing, shared }))
        })
        .await
    }

    /// Every scope in which something is live.
    pub(crate) async fn live(&self) -> Result<Vec<Scope>> {
        let inner = self.0.clone();
        blocking(move || {
            let mut live = Vec::new();
            let entries = match fs::read_dir(&inner.folder) {
                Ok(entries) => entries,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(live),
                Err(e) => return Err(disk::failed("the list of deployed apps could not be read", e)),
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let scope = name.to_str().and_then(|name| name.replacen('.', "/", 1).parse::<Scope>().ok());
                if let Some(scope) = scope
                    && inner.read(&scope)?.live().is_some()
                {
                    live.push(scope);
                }
            }
            live.sort();
            Ok(live)
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        scope: &Scope,
        act: impl FnOnce(&Inner, &Scope) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (inner, scope) = (self.0.clone(), scope.clone());
        blocking(move || act(&inner, &scope)).await
    }

    fn refused(&self, e: Error, operation: &'static str, scope: &Scope, id: DeploymentId) -> Error {
        e.at(self.0.name.to_string(), operation).with("scope", scope).with("deployment", id)
    }
}

/// The asset for a path, and whether it only stands in for a page that does not exist.
fn find(version: &Version, path: &str, page: bool) -> Option<(FilePath, Asset, bool)> {
    let get = |path: &str| {
        let path = FilePath::parse(path).ok()?;
        let asset = *version.assets.get(&path)?;
        Some((path, asset))
    };
    let folder = path.trim_end_matches('/');
    let index = if folder.is_empty() { "index.html".to_owned() } else { format!("{folder}/index.html") };
    let found = get(path).or_else(|| get(&index)).or_else(|| get(&format!("{folder}.html")));
    if let Some((path, asset)) = found {
        return Some((path, asset, false));
    }
    let (path, asset, missing) = if version.single_page && page {
        get("index.html").map(|(path, asset)| (path, asset, false))?
    } else {
        get("404.html").filter(|_| page).map(|(path, asset)| (path, asset, true))?
    };
    Some((path, asset, missing))
}

impl Inner {
    fn site_folder(&self, scope: &Scope) -> PathBuf {
        self.folder.join(format!("{}.{}", scope.app, scope.environment))
    }

    fn record(&self, scope: &Scope) -> PathBuf {
        self.site_folder(scope).join("versions.json")
    }

    fn pack(&self, scope: &Scope, digest: Digest) -> PathBuf {
        self.site_folder(scope).join(format!("{digest}.pack"))
    }

    fn slot(&self, scope: &Scope) -> Slot {
        let mut sites = self.sites.lock().expect("nobody panics with this lock");
        if sites.len() >= CACHED_RECORDS && !sites.contains_key(scope) {
            // A slot that somebody holds is in use: two of one scope would not exclude each other.
            sites.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        sites.entry(scope.clone()).or_default().clone()
    }

    fn read(&self, scope: &Scope) -> Result<Arc<Site>> {
        let slot = self.slot(scope);
        let mut site = slot.lock().expect("nobody panics with this lock");
        self.load(scope, &mut site)
    }

    fn load(&self, scope: &Scope, slot: &mut Option<Arc<Site>>) -> Result<Arc<Site>> {
        if let Some(site) = slot {
            return Ok(site.clone());
        }
        let site: Arc<Site> = Arc::new(disk::read_json(&self.record(scope))?.unwrap_or_default());
        *slot = Some(site.clone());
        Ok(site)
    }

    /// Changes a record: the new one is durable when this returns, or the old one still is what counts.
    fn change<T>(&self, scope: &Scope, act: impl FnOnce(&mut Site) -> Result<T>) -> Result<T> {
        let slot = self.slot(scope);
        let mut slot = slot.lock().expect("nobody panics with this lock");
        let mut site = (*self.load(scope, &mut slot)?).clone();
        let done = act(&mut site)?;
        // What the disk holds after a failure is read anew.
        *slot = None;
        disk::replace_json(&self.record(scope), &site)?;
        self.tidy(scope, &site);
        *slot = Some(Arc::new(site));
        Ok(done)
    }

    /// Removes what no version needs: of versions that are gone, and of changes that a crash cut off. The record is right
    /// whether or not this gets done. The caller holds the scope's lock: nobody else is writing a pack.
    fn tidy(&self, scope: &Scope, site: &Site) {
        let needed: BTreeSet<_> = site.artifacts().into_iter().map(|digest| format!("{digest}.pack")).collect();
        for entry in fs::read_dir(self.site_folder(scope)).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let is_ours = path.extension().is_some_and(|ending| ending == "pack" || ending == "new");
            if is_ours
                && !name.to_str().is_some_and(|name| needed.contains(name))
                && let Err(e) = disk::remove(&path)
            {
                tracing::warn!(%scope, error = %e, "an artifact that nothing needs any more was left on disk");
            }
        }
    }

    fn asset(&self, scope: &Scope, version: &Version, asset: Asset) -> Result<Contents> {
        if let Some(text) = version.filled.get(&asset.digest) {
            return Ok(Contents::Small(text.clone().into()));
        }
        let pack = fs::File::open(self.pack(scope, version.digest));
        pack.and_then(|pack| Contents::open(pack, asset.offset, asset.size_bytes)).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::not_found("the artifact was removed"),
            _ => disk::failed("an asset could not be read", e),
        })
    }

    fn handle(&self, scope: &Scope, id: DeploymentId, live: bool) -> Handle {
        let handle = Handle::new(format!("{scope}/{id}"));
        if live { handle.served_at(self.addresses.of(scope)) } else { handle }
    }
}

#[async_trait]
impl DeploymentTarget for LocalTarget {
    fn info(&self) -> TargetInfo {
        let mut info = TargetInfo::new(self.0.name.clone(), "this machine");
        info.max_artifact_bytes = Self::MAX_ARTIFACT_BYTES;
        info.max_artifact_files = Self::MAX_ARTIFACT_FILES;
        info.keeps_previous = true;
        info.gradual = true;
        // Static files run nothing: there is nothing to give variables or limits to.
        info.runs_servers = false;
        info.honours_env = false;
        info.honours_limits = false;
        info.facts = Self::FACTS;
        info
    }

    async fn check(&self) -> Result<Readiness> {
        let (name, folder) = (self.0.name.to_string(), self.0.folder.clone());
        blocking(move || {
            Ok(match disk::replace(&folder.join(".writable"), b"") {
                Ok(()) => Readiness::ready(name),
                Err(e) => Readiness::ready(name).lacks(
                    format!("its folder `{}` cannot be written to: {}", folder.display(), e.message()),
                    "free some space, or choose a folder that this process may write to",
                ),
            })
        })
        .await
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        self.info().admit(request)?;
        let (scope, id) = (request.scope().clone(), request.id());
        let request = request.clone();
        let staged = self.with(&scope, move |inner, scope| {
            let handle = inner.handle(scope, request.id(), false);
            if inner.read(scope)?.versions.contains_key(&request.id()) {
                inner.read(scope)?.admit(&request)?;
                return Ok(Staged { id: request.id(), handle });
            }
            let (version, pack) = Version::pack(&request);
            inner.change(scope, |site| {
                site.admit(&request)?;
                // Assets first: the record names only what is there.
                if !site.artifacts().contains(&version.digest) {
                    disk::replace(&inner.pack(scope, version.digest), &pack)?;
                }
                site.versions.entry(request.id()).or_insert(version);
                Ok(())
            })?;
            Ok(Staged { id: request.id(), handle })
        });
        staged.await.map_err(|e| self.refused(e, "stage", &scope, id))
    }

    async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Result<Handle> {
        let (scope, id) = (request.scope().clone(), request.id());
        let refuse = |e| self.refused(e, "activate", &scope, id);
        if staged.id != id {
            let message = "what was staged must be of the deployment to activate, but is another's";
            return Err(refuse(Error::invalid(message)));
        }
        self.info().admit(request)?;
        let request = request.clone();
        let activated = self.with(&scope, move |inner, scope| {
            inner.change(scope, |site| {
                site.fence_off(fence, id)?;
                site.admit(&request)?;
                site.activate(id, fence)
            })?;
            Ok(inner.handle(scope, id, true))
        });
        activated.await.map_err(refuse)
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        let status = self.with(scope, move |inner, scope| {
            let site = inner.read(scope)?;
            let live = site.live().and_then(|(live, version)| Some((live, version.fence?)));
            Ok(match live {
                Some((live, under)) if live == id && under == fence => {
                    TargetStatus::Landed(inner.handle(scope, id, true))
                }
                Some((_, under)) if under > fence => TargetStatus::Superseded,
                _ => TargetStatus::Absent,
            })
        });
        status.await.map_err(|e| self.refused(e, "status", scope, id))
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        let observed = self.with(scope, |inner, scope| {
            let site = inner.read(scope)?;
            let observed = |(id, version): (&DeploymentId, &Version)| {
                Observed::new(site.state(*id, version)).id(*id).digest(version.digest).fence(version.fence)
            };
            Ok(site.versions.iter().map(observed).collect())
        });
        observed.await.map_err(|e| e.at(self.0.name.to_string(), "observe").with("scope", scope))
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        let removed = self.with(scope, move |inner, scope| {
            if inner.read(scope)?.versions.is_empty() {
                return Ok(());
            }
            inner.change(scope, |site| site.remove(removal))
        });
        removed.await.map_err(|e| e.at(self.0.name.to_string(), "remove").with("scope", scope))
    }

    async fn share(&self, scope: &Scope, id: DeploymentId, fence: Fence, percent: u8) -> Result<()> {
        let divided = self.with(scope, move |inner, scope| inner.change(scope, |site| site.divide(id, fence, percent)));
        divided.await.map_err(|e| self.refused(e, "share", scope, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{
        AppFile, Artifact, ArtifactConfig, EnvRevision, EnvSnapshot, Incarnation, StreamPosition, SystemClock,
        SystemIds,
    };
    use std::collections::BTreeMap;

    fn version(files: &[&str], config: ArtifactConfig) -> Version {
        let files: BTreeMap<_, _> =
            files.iter().map(|f| (FilePath::parse(f).unwrap(), AppFile::new((*f).to_owned()))).collect();
        let env = EnvRevision(StreamPosition::start(Incarnation::from_u64(1)));
        let env = Arc::new(EnvSnapshot { revision: env, values: BTreeMap::new() });
        let artifact = Arc::new(Artifact::new(files, None, config).unwrap());
        let id = DeploymentId::generate(&SystemIds, overskill_core::Clock::now(&SystemClock));
        Version::pack(&DeployRequest::new(id, "todo42/production".parse().unwrap(), artifact, env)).0
    }

    #[test]
    fn paths_lead_to_pages_and_assets() {
        let site =
            version(&["index.html", "about.html", "docs/index.html", "a.js", "404.html"], ArtifactConfig::default());
        let at = |path: &str, page| find(&site, path, page).map(|(path, _, missing)| (path.to_string(), missing));
        let found = |path: &str| Some((path.to_owned(), false));
        assert_eq!(at("", true), found("index.html"));
        assert_eq!(at("about", true), found("about.html"));
        assert_eq!(at("docs/", true), found("docs/index.html"));
        assert_eq!(at("docs", true), found("docs/index.html"));
        assert_eq!(at("a.js", false), found("a.js"));
        assert_eq!(at("b.js", false), None);
        assert_eq!(at("nowhere", true), Some(("404.html".into(), true)));
        assert_eq!(at("../versions.json", true), Some(("404.html".into(), true)));
    }

    #[test]
    fn a_single_page_app_answers_for_pages_only() {
        let site = version(&["index.html", "assets/a.js"], ArtifactConfig::single_page());
        assert_eq!(find(&site, "deep/link", true).unwrap().0.as_str(), "index.html");
        assert_eq!(find(&site, "assets/gone.js", false), None);
    }
}
