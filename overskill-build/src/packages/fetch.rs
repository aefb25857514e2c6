//! Packages from the registry to folders of files, each loaded and unpacked once.

use super::{
    esbuild,
    flight::Audience,
    integrity::Integrity,
    npm::{Inner, PinnedPackage},
    store::{Shelf, key_of},
    tree::{Node, Tree},
    trouble::{Trouble, blocking, local},
    unpack,
};
use crate::{Error, Problem, ProblemKind, Result};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use overskill_core::{Digest, Progress};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How many packages are loaded or unpacked at once, at most; semaphores bound what of it really runs.
pub(crate) const AT_ONCE: usize = 64;

/// A package's files on the disk.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) folder: PathBuf,
    /// What its tarball holds, unpacked.
    pub(crate) bytes: u64,
}

const FILES: &str = "files";
const SIZE: &str = "size";

impl Files {
    fn at(kept: &Path) -> Option<Self> {
        let bytes = fs::read_to_string(kept.join(SIZE)).ok()?.parse().ok()?;
        Some(Self { folder: kept.join(FILES), bytes })
    }
}

impl Inner {
    /// The files of each place, and what could not be had.
    pub(crate) async fn gather(
        self: &Arc<Self>,
        tree: &Tree,
        needed: &BTreeSet<String>,
        audience: &Audience,
    ) -> Result<(BTreeMap<String, PathBuf>, BTreeMap<String, Trouble>), Trouble> {
        let mut nodes: Vec<(String, Node)> = Vec::with_capacity(needed.len());
        for place in needed {
            let node = &tree.nodes[place];
            if !node.bundled {
                nodes.push((place.clone(), node.clone()));
            }
        }
        let (total, done) = (nodes.len(), AtomicUsize::new(0));
        let one = |(place, node): (String, Node)| {
            let done = &done;
            async move {
                let got = self.files_of(&node).await;
                let n = done.fetch_add(1, Ordering::Relaxed) + 1;
                let percent = u8::try_from(5 + n * 50 / total.max(1)).unwrap_or(55);
                audience.at(percent, "packages", &format!("Packages: {n} of {total} ({})", node.name));
                (place, got)
            }
        };
        let got: Vec<_> = stream::iter(nodes).map(one).buffer_unordered(AT_ONCE).collect().await;
        let (mut files, mut lacking) = (BTreeMap::new(), BTreeMap::new());
        let mut bytes = 0_u64;
        for (place, got) in got {
            match got {
                Ok(got) => {
                    bytes = bytes.saturating_add(got.bytes);
                    files.insert(place, got.folder);
                }
                Err(fault @ Trouble::Fault(_)) => return Err(fault),
                Err(problem) => drop(lacking.insert(place, problem)),
            }
        }
        let most = self.options.max_unpacked_bytes;
        if bytes > most {
            let why = format!("the imported packages have {bytes} bytes when unpacked; at most {most} may be used");
            return Err(Problem::new(ProblemKind::Limit, why).help("import fewer packages, or smaller ones").into());
        }
        Ok((files, lacking))
    }

    /// The folder with a package's files.
    pub(crate) async fn files_of(self: &Arc<Self>, node: &Node) -> Result<Files, Trouble> {
        let subject = format!("`{}` {}", node.name, node.version);
        if let Some(why) = node.elsewhere {
            return Err(Trouble::problem(ProblemKind::Unsupported, why)
                .about(&subject, "only packages from the registry can be used: give a version in package.json"));
        }
        let integrity = match &node.integrity {
            Some(integrity) => integrity.clone(),
            None => {
                self.integrity_of(node).await.map_err(|it| it.about(&subject, "run `npm install` to lock it anew"))?
            }
        };
        let key = key_of(&integrity);
        let start = |_| {
            let (inner, node) = (Arc::clone(self), node.clone());
            async move { inner.unpacked(&node, &integrity, key).await }
        };
        let got = self.unpacking_now.join(key, &Progress::discard(), start).await;
        got.map_err(|it| it.about(&subject, "use another version of it, or another package"))
    }

    async fn unpacked(&self, node: &Node, integrity: &Integrity, key: Digest) -> Result<Files, Trouble> {
        let path = self.store.path(Shelf::Unpacked, &key);
        if let Some(files) = blocking(move || Ok(Files::at(&path))).await? {
            return Ok(files);
        }
        let store = self.store.clone();
        blocking(move || {
            store.remove(Shelf::Unpacked, &key); // half of it, if somebody deleted the rest
            Ok(())
        })
        .await?;
        let tarball = self.tarball(node, integrity).await?;
        let _permit = self.unpacking.acquire().await.expect("it is never closed");
        let (store, limits) = (self.store.clone(), self.options.package);
        blocking(move || {
            let work = store.workspace()?;
            let package = work.path().join("package");
            let folder = package.join(FILES);
            fs::create_dir_all(&folder).map_err(local("make a folder"))?;
            let bytes = unpack::unpack(&tarball, &folder, &limits)?;
            fs::write(package.join(SIZE), bytes.to_string()).map_err(local("write a file"))?;
            let kept = store.keep_folder(Shelf::Unpacked, &key, &package)?;
            Ok(Files { folder: kept.join(FILES), bytes })
        })
        .await
    }

    /// A tarball with this integrity, from the disk or the registry.
    async fn tarball(&self, node: &Node, integrity: &Integrity) -> Result<Bytes, Trouble> {
        let key = key_of(integrity);
        let (store, wanted) = (self.store.clone(), integrity.clone());
        let kept = blocking(move || {
            let kept = store.read(Shelf::Tarball, &key)?;
            let good = kept.filter(|it| wanted.matches(it));
            if good.is_none() {
                store.remove(Shelf::Tarball, &key); // damaged on the disk, if it was there
            }
            Ok(good)
        });
        if let Some(kept) = kept.await? {
            return Ok(kept);
        }
        let tarball = self.registries.tarball(&node.name, &node.version, node.resolved.as_deref()).await?;
        metrics::counter!("overskill_packages_downloaded_bytes").increment(tarball.len() as u64);
        let (store, wanted) = (self.store.clone(), integrity.clone());
        blocking(move || {
            if !wanted.matches(&tarball) {
                let why = "what the registry gave is not what the lock states (its integrity differs)";
                let help = "if the registry is yours and was changed, run `npm install` to lock it anew; else someone may \
                            have tampered with it";
                return Err(Problem::new(ProblemKind::Package, why).help(help).into());
            }
            store.write(Shelf::Tarball, &key, &[&tarball])?;
            Ok(tarball)
        })
        .await
    }

    pub(crate) async fn integrity_of(&self, node: &Node) -> Result<Integrity, Trouble> {
        let parts = [self.registries.address_of(&node.name), node.name.clone(), node.version.clone()];
        let key = Digest::of_parts(parts.iter().map(String::as_bytes));
        let store = self.store.clone();
        let kept = blocking(move || store.read(Shelf::Integrity, &key)).await?;
        let kept = kept.and_then(|it| Integrity::parse(std::str::from_utf8(&it).ok()?));
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let stated = self.registries.version(&node.name, &node.version).await?.integrity;
        let stated = stated.ok_or_else(|| {
            Trouble::problem(ProblemKind::Package, "neither the lock nor the registry states an integrity for it")
        })?;
        let (store, text) = (self.store.clone(), stated.to_string());
        blocking(move || store.write(Shelf::Integrity, &key, &[text.as_bytes()])).await?;
        Ok(stated)
    }

    /// esbuild's program, ready to be run.
    pub(crate) async fn program(self: &Arc<Self>) -> Result<PathBuf, Trouble> {
        self.tool(esbuild::tool()?).await
    }

    /// A program that comes in a package of the registry, ready to be run.
    pub(crate) async fn tool(self: &Arc<Self>, tool: Tool) -> Result<PathBuf, Trouble> {
        let key = key_of(&tool.integrity);
        let path = self.store.path(Shelf::Program, &key);
        let there = path.clone();
        if blocking(move || Ok(there.is_file())).await? {
            return Ok(path);
        }
        let about = format!("{} {}", tool.name, tool.version);
        let start = |_| {
            let inner = Arc::clone(self);
            async move { inner.place_program(&tool, key).await }
        };
        let placed = self.programs.join(key, &Progress::discard(), start).await;
        // Without it nothing can be prepared: that is no app's problem.
        placed.map_err(|trouble| match trouble {
            Trouble::Problem { problem, .. } => {
                let why = format!("{about} could not be had from the registry: {problem}");
                let e = Error::new(overskill_core::ErrorKind::Unavailable, why).effect_as(overskill_core::Effect::None);
                e.at("npm", "prepare").into()
            }
            fault @ Trouble::Fault(_) => fault,
        })
    }

    async fn place_program(&self, tool: &Tool, key: Digest) -> Result<PathBuf, Trouble> {
        let (name, version) = (tool.package.to_owned(), tool.version.to_owned());
        let node = Node { name, version, integrity: Some(tool.integrity.clone()), ..Node::default() };
        let tarball = self.tarball(&node, &tool.integrity).await?;
        let (store, file, max_bytes) = (self.store.clone(), tool.file, tool.max_bytes);
        blocking(move || {
            let program = unpack::read_one(&tarball, file, max_bytes)?;
            let lacks = || Trouble::problem(ProblemKind::Package, "its tarball has no program in it");
            store.write(Shelf::Program, &key, &[&program.ok_or_else(lacks)?])
        })
        .await
    }
}

/// A program as its npm package ships it.
pub(crate) struct Tool {
    /// What people call it.
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// Its package for this machine, and what that hashes to.
    pub(crate) package: &'static str,
    pub(crate) integrity: Integrity,
    /// Where the program is within its package.
    pub(crate) file: &'static str,
    pub(crate) max_bytes: u64,
}

impl PinnedPackage {
    pub(crate) fn node(&self) -> Result<Node> {
        let wrong = |what: &str| Error::invalid(format!("pinned package's {what} cannot be used")).at("npm", "pin");
        if !super::names::is_package_name(&self.name) {
            return Err(wrong("name").with("name", self.name.escape_debug()));
        }
        if !super::names::is_version(&self.version) {
            return Err(wrong("version").with("version", self.version.escape_debug()));
        }
        let integrity = Integrity::parse(&self.integrity).ok_or_else(|| wrong("integrity").with("name", &self.name))?;
        let (name, version) = (self.name.clone(), self.version.clone());
        Ok(Node { name, version, integrity: Some(integrity), ..Node::default() })
    }
}
