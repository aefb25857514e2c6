//! Packages as npm lays them out: files, for who bundles an app as a whole.

use super::{
    deno,
    fetch::Tool,
    flight::Audience,
    manifest::Manifest,
    names::split_specifier,
    npm::NpmPackages,
    prepare::{root_of, starts},
    prepared::PackageRequest,
    store::Shelf,
    tree::Tree,
    trouble::{Trouble, blocking},
};
use crate::{Problem, Result};
use bytes::Bytes;
use overskill_core::{Clock, Digest};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::SemaphorePermit;

/// Which packages there are, and where the files of those lie that are needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Installed {
    pub(crate) tree: Arc<Tree>,
    /// Places such as `node_modules/react`, with the folders that hold their files.
    pub(crate) places: BTreeMap<String, PathBuf>,
    /// What of the entries cannot be had.
    pub(crate) failed: BTreeMap<String, Problem>,
}

impl Installed {
    /// The place and the folder of the package that `name` means to the package at `from` (empty: the app).
    pub(crate) fn find(&self, from: &str, name: &str) -> Option<(&str, &Path)> {
        let place = self.tree.lookup(from, name)?;
        Some((place, self.places.get(place)?))
    }
}

impl NpmPackages {
    /// The packages of the entries with all that they need.
    pub(crate) async fn install(&self, request: &PackageRequest) -> Result<Installed, Trouble> {
        let inner = &self.0;
        let manifest = Arc::new(Manifest::parse(&request.manifest)?);
        let chosen = inner.choose(&manifest, request).await?;
        let (mut entries, mut failed) = (BTreeSet::new(), BTreeMap::new());
        for entry in &request.entries {
            match root_of(entry, &chosen.tree, &manifest) {
                Ok(()) => drop(entries.insert(entry.clone())),
                Err((problem, _)) => drop(failed.insert(entry.clone(), problem)),
            }
        }
        let tree = inner.with_integrities(chosen.tree, &entries).await?;
        let needed: BTreeSet<String> =
            tree.needed(starts(&tree, &entries), false).into_iter().map(str::to_owned).collect();
        let (places, lacking) = inner.gather(&tree, &needed, &Audience::default()).await?;
        for entry in &entries {
            let Some((name, _)) = split_specifier(entry) else { continue };
            let own = tree.needed(tree.lookup("", name), false);
            let gone = lacking.iter().find(|(place, _)| own.contains(place.as_str()));
            let unknown = tree.missing_of(&own).next();
            if let Some((_, Trouble::Problem { problem, .. })) = gone {
                failed.insert(entry.clone(), (**problem).clone());
            } else if let Some(missing) = unknown {
                failed.insert(entry.clone(), missing.problem.clone());
            }
        }
        Ok(Installed { tree, places, failed })
    }

    /// Brings the package `name` that the one at `from` turned out to want. False if there is none, or it is there.
    pub(crate) async fn install_more(
        &self,
        installed: &mut Installed,
        from: &str,
        name: &str,
    ) -> Result<bool, Trouble> {
        let Some(place) = installed.tree.lookup(from, name) else { return Ok(false) };
        if installed.places.contains_key(place) || installed.tree.nodes[place].bundled {
            return Ok(false);
        }
        let needed = installed.tree.needed([place], false).into_iter().map(str::to_owned).collect();
        let (places, lacking) = self.0.gather(&installed.tree, &needed, &Audience::default()).await?;
        installed.places.extend(places);
        Ok(lacking.is_empty())
    }

    /// The bundler's program.
    pub(crate) async fn bundler(&self) -> Result<PathBuf, Trouble> {
        self.0.program().await
    }

    /// The program that runs the code of configurations.
    pub(crate) async fn runner(&self) -> Result<PathBuf, Trouble> {
        let tool: Tool = deno::tool()?;
        self.0.tool(tool).await
    }

    /// Waits until one more bundling may keep a processor busy.
    pub(crate) async fn bundling_turn(&self) -> SemaphorePermit<'_> {
        self.0.bundling.acquire().await.expect("it is never closed")
    }

    /// A private folder beside the cache, deleted when dropped.
    pub(crate) async fn workspace(&self) -> Result<tempfile::TempDir, Trouble> {
        let store = self.0.store.clone();
        blocking(move || store.workspace()).await
    }

    /// A bundled tool that was kept; none if it cannot be read.
    pub(crate) async fn kept_tool(&self, key: Digest) -> Option<Bytes> {
        let store = self.0.store.clone();
        blocking(move || store.read(Shelf::Tool, &key)).await.ok().flatten()
    }

    /// Keeps a bundled tool.
    pub(crate) async fn keep_tool(&self, key: Digest, head: Vec<u8>, code: Bytes) -> Result<(), Trouble> {
        let store = self.0.store.clone();
        blocking(move || store.write(Shelf::Tool, &key, &[&head, b"\n", &code]).map(drop)).await
    }

    /// Where time comes from.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// How long one run of the bundler may take.
    pub(crate) fn bundling_limit(&self) -> Duration {
        self.0.options.bundling_limit
    }
}
