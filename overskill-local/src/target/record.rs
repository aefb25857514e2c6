//! What a scope runs: one JSON file, which is replaced as a whole.

use overskill_core::{
    Artifact, DeployRequest, DeploymentId, Digest, EnvRevision, Error, Fence, FilePath, ObservedState, Removal, Result,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How many versions that served before are kept for an instant way back.
const KEPT_VERSIONS: usize = 3;

/// The record of a scope.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Site {
    pub(super) versions: BTreeMap<DeploymentId, Version>,
    pub(super) active: Option<DeploymentId>,
    /// The highest activation there ever was, and whose; it outlives the version, so that what was overtaken stays so.
    highest: Option<(Fence, DeploymentId)>,
    /// How many of a hundred visitors the live version has, if not all; the others have the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<u8>,
}

/// One deployment. Its assets are in the pack of its digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) digest: Digest,
    pub(super) env: EnvRevision,
    pub(super) fence: Option<Fence>,
    previous: bool,
    pub(super) single_page: bool,
    pub(super) assets: BTreeMap<FilePath, Asset>,
    /// Assets with the values of variables in them, by their digests: the pack has them without.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) filled: BTreeMap<Digest, String>,
}

/// Where an asset is in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asset {
    pub(super) digest: Digest,
    pub(super) offset: u64,
    pub(super) size_bytes: u64,
}

impl Site {
    /// The version that serves.
    pub(super) fn live(&self) -> Option<(DeploymentId, &Version)> {
        let id = self.active?;
        Some((id, self.versions.get(&id)?))
    }

    /// Whether visitors are divided between the live version and the one before.
    pub(super) fn is_shared(&self) -> bool {
        self.share.is_some() && self.before().is_some()
    }

    /// The version for a visitor with this number of a hundred.
    pub(super) fn live_for(&self, visitor: u8) -> Option<(DeploymentId, &Version)> {
        let before = self.share.filter(|share| visitor >= *share).and_then(|_| self.before());
        before.or_else(|| self.live())
    }

    /// The version that was live before the live one.
    fn before(&self) -> Option<(DeploymentId, &Version)> {
        let kept = self.versions.iter().filter(|(_, version)| version.previous);
        kept.max_by_key(|(_, version)| version.fence).map(|(id, version)| (*id, version))
    }

    /// Gives the live version so many of a hundred visitors.
    pub(super) fn divide(&mut self, id: DeploymentId, fence: Fence, percent: u8) -> Result<()> {
        if percent > 100 {
            return Err(Error::invalid(format!("percent must be at most 100, but was {percent}")));
        }
        if self.live().is_none_or(|(live, version)| (live, version.fence) != (id, Some(fence))) {
            return Err(Error::conflict("another version is live").with("deployment", id).with("fence", fence));
        }
        if percent < 100 && self.before().is_none() {
            return Err(Error::not_found("no version before is kept that the other visitors could have"));
        }
        self.share = Some(percent).filter(|percent| *percent < 100);
        Ok(())
    }

    /// The id is the idempotency key: with something else it is a conflict.
    pub(super) fn admit(&self, request: &DeployRequest) -> Result<()> {
        match self.versions.get(&request.id()) {
            Some(known) if known.digest != request.digest() => {
                Err(Error::conflict("the deployment is here with another artifact"))
            }
            Some(known) if known.env != request.env_revision() => {
                Err(Error::conflict("the deployment is here with another revision of the variables"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses who was overtaken.
    pub(super) fn fence_off(&self, fence: Fence, id: DeploymentId) -> Result<()> {
        match self.highest {
            Some((highest, whose)) if fence < highest || (fence == highest && whose != id) => {
                let message = format!("fence must be above {highest}, but was {fence}: take the lease again");
                Err(Error::conflict(message))
            }
            _ => Ok(()),
        }
    }

    /// Gives the traffic to a version that is here.
    pub(super) fn activate(&mut self, id: DeploymentId, fence: Fence) -> Result<()> {
        if !self.versions.contains_key(&id) {
            return Err(Error::not_found("the staged version is gone: stage it again"));
        }
        if self.active != Some(id)
            && let Some(before) = self.active.and_then(|before| self.versions.get_mut(&before))
        {
            before.previous = true;
        }
        if let Some(version) = self.versions.get_mut(&id) {
            (version.fence, version.previous) = (Some(fence), false);
        }
        (self.active, self.highest, self.share) = (Some(id), Some((fence, id)), None);
        self.forget_oldest();
        Ok(())
    }

    pub(super) fn remove(&mut self, removal: Removal) -> Result<()> {
        match removal {
            Removal::All => self.versions.clear(),
            Removal::Only(id) => drop(self.versions.remove(&id)),
            _ => {
                return Err(Error::new(overskill_core::ErrorKind::Unsupported, "this cannot be removed here"));
            }
        }
        self.active = self.active.filter(|id| self.versions.contains_key(id));
        Ok(())
    }

    pub(super) fn state(&self, id: DeploymentId, version: &Version) -> ObservedState {
        match self.active {
            Some(active) if active == id => ObservedState::Active,
            _ if version.previous => ObservedState::Previous,
            _ => ObservedState::Staged,
        }
    }

    /// The artifacts that a version names.
    pub(super) fn artifacts(&self) -> BTreeSet<Digest> {
        self.versions.values().map(|version| version.digest).collect()
    }

    fn forget_oldest(&mut self) {
        let mut kept: Vec<_> = self.versions.iter().filter(|(_, v)| v.previous).map(|(id, v)| (v.fence, *id)).collect();
        kept.sort_unstable();
        for (_, id) in kept.iter().rev().skip(KEPT_VERSIONS) {
            self.versions.remove(id);
        }
    }
}

impl Version {
    /// A staged version, and the bytes of its pack: every file once.
    pub(super) fn pack(request: &DeployRequest) -> (Self, Vec<u8>) {
        let artifact: &Artifact = request.artifact();
        let (mut pack, mut offsets) = (Vec::new(), BTreeMap::new());
        let mut place = |file: &overskill_core::AppFile| {
            let offset = *offsets.entry(file.digest()).or_insert_with(|| {
                let offset = pack.len() as u64;
                pack.extend_from_slice(file.contents());
                offset
            });
            Asset { digest: file.digest(), offset, size_bytes: file.size_bytes() }
        };
        let assets = artifact.assets().iter().map(|(path, file)| (path.clone(), place(file))).collect();
        let mut assets: BTreeMap<FilePath, Asset> = assets;
        let mut filled = BTreeMap::new();
        for (path, file) in artifact.page_assets(request.scope().environment, request.env()) {
            if let Some(asset) = assets.get_mut(&path) {
                asset.digest = file.digest();
                filled.insert(file.digest(), String::from_utf8_lossy(file.contents()).into_owned());
            }
        }
        let version = Self {
            filled,
            digest: request.digest(),
            env: request.env_revision(),
            fence: None,
            previous: false,
            single_page: artifact.config().single_page,
            assets,
        };
        (version, pack)
    }
}
