//! Bundles of what the platform itself brings.

use super::{
    esbuild::{self, Metafile, Ran},
    layout::lay_out,
    npm::{Inner, PinnedPackage},
    store::Shelf,
    tree::MODULES,
    trouble::{Trouble, blocking, local},
};
use crate::{Error, Result};
use bytes::Bytes;
use overskill_core::Digest;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

/// What identifies such a bundle.
pub(crate) fn key_of_bundle(packages: &[PinnedPackage], source: &str) -> Digest {
    let mut parts = vec!["pinned 1", esbuild::VERSION, source];
    parts.extend(packages.iter().flat_map(|it| [it.name.as_str(), &it.version, &it.integrity]));
    Digest::of_parts(parts.into_iter().map(str::as_bytes))
}

impl Inner {
    pub(crate) async fn bundle_pinned(
        self: Arc<Self>,
        key: Digest,
        packages: &[PinnedPackage],
        source: String,
    ) -> Result<Bytes, Trouble> {
        let store = self.store.clone();
        if let Some(made) = blocking(move || store.read(Shelf::Bundle, &key)).await? {
            return Ok(made);
        }
        let mut places = BTreeMap::new();
        for package in packages {
            let files = self.files_of(&package.node()?).await?;
            places.insert(format!("{MODULES}{}", package.name), files.folder);
        }
        let program = self.program().await?;
        let _permit = self.bundling.acquire().await.expect("it is never closed");
        let store = self.store.clone();
        let work = blocking(move || {
            let work = store.workspace()?;
            lay_out(work.path(), &places, &BTreeSet::new())?;
            fs::write(work.path().join(ENTRY), source).map_err(local("write a file"))?;
            Ok(work)
        })
        .await?;
        let mut arguments = esbuild::arguments();
        arguments.extend(["--minify", "--metafile=meta.json", "--outfile=out/bundle.js", ENTRY].map(str::to_owned));
        let ran = esbuild::run(&program, work.path(), &arguments, self.options.bundling_limit, &*self.clock).await?;
        if let Ran::Badly(complaints) = ran {
            let said: Vec<String> = complaints.into_iter().map(|it| it.message).collect();
            let why = format!("pinned packages cannot be bundled: {}", said.join("; "));
            return Err(Error::invalid(why).at("npm", "bundle_pinned").into());
        }
        let store = self.store.clone();
        blocking(move || {
            let made = read(work.path())?;
            store.write(Shelf::Bundle, &key, &[&made])?;
            drop(work); // deletes the folder, here where that may block
            Ok(made)
        })
        .await
    }
}

const ENTRY: &str = "overskill-entry.js";

fn read(folder: &Path) -> Result<Bytes, Trouble> {
    let meta = Metafile::read(&folder.join("meta.json"))?;
    if meta.outputs.len() != 1 {
        let why = "pinned packages bundle to more than one file: they hold style sheets, fonts or the like";
        return Err(Error::invalid(why).at("npm", "bundle_pinned").into());
    }
    Ok(fs::read(folder.join("out/bundle.js")).map_err(local("read what esbuild wrote"))?.into())
}
