//! From a request to packages that are ready: versions, tarballs, files, bundles.

use super::{
    bundle::{Job, MAX_RUNS},
    esbuild,
    fetch::AT_ONCE,
    flight::Audience,
    lock,
    manifest::Manifest,
    names::{is_node_builtin, split_specifier},
    npm::Inner,
    pack::{Pack, Round},
    prepared::{PackageRequest, Prepared},
    registry::not_set,
    resolve,
    store::{Shelf, Store},
    tree::{Node, Tree},
    trouble::{Trouble, blocking},
};
use crate::{Problem, ProblemKind, Result};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use overskill_core::{Digest, Progress};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

/// Changes when the same packages would be prepared otherwise.
const PREPARER: &str = "3";
/// Most specifiers of one app.
const MAX_ENTRIES: usize = 5_000;

/// The versions for a request.
pub(super) struct Chosen {
    pub(super) tree: Arc<Tree>,
    /// The lock that was made for it, if one was.
    lock: Option<Bytes>,
}

impl Inner {
    pub(crate) async fn prepare(
        self: Arc<Self>,
        key: Digest,
        request: PackageRequest,
        audience: Audience,
    ) -> Result<Arc<Prepared>, Trouble> {
        audience.at(1, "packages", "Choosing packages");
        let all_fail = |problem: Problem| {
            let failed = request.entries.iter().map(|it| (it.clone(), problem.clone())).collect();
            Arc::new(Prepared {
                digest: Digest::of_parts([b"failed".as_slice(), key.as_bytes()]),
                entries: BTreeMap::new(),
                failed,
                lock: None,
                files: BTreeMap::new(),
            })
        };
        if request.entries.len() > MAX_ENTRIES {
            let why = format!("an app may import at most {MAX_ENTRIES} different things of packages");
            return Ok(all_fail(Problem::new(ProblemKind::Limit, why).help("import packages as a whole")));
        }
        let manifest = match Manifest::parse(&request.manifest) {
            Ok(manifest) => Arc::new(manifest),
            Err(problem) => return Ok(all_fail(problem)),
        };
        let chosen = match self.choose(&manifest, &request).await {
            Ok(chosen) => chosen,
            Err(Trouble::Problem { problem, .. }) => return Ok(all_fail(*problem)),
            Err(fault) => return Err(fault),
        };
        let (mut entries, mut failed) = (BTreeSet::new(), BTreeMap::new());
        let mut passing = false;
        for entry in &request.entries {
            match root_of(entry, &chosen.tree, &manifest) {
                Ok(()) => drop(entries.insert(entry.clone())),
                Err(missing) => {
                    passing |= missing.1;
                    failed.insert(entry.clone(), missing.0);
                }
            }
        }
        let tree = self.with_integrities(chosen.tree, &entries).await?;
        let (digest, pack) = loop {
            let made = match self.pack(digest_of(&tree, &entries), &tree, &entries, &audience).await {
                Ok(made) => made,
                // What holds for all of them together, such as their size.
                Err(trouble @ Trouble::Problem { .. }) => {
                    Made::Lacks(entries.iter().map(|it| (it.clone(), trouble.clone())).collect())
                }
                Err(fault) => return Err(fault),
            };
            match made {
                Made::Pack(digest, pack) => break (digest, pack),
                Made::Lacks(lacking) => {
                    for (entry, trouble) in lacking {
                        if let Trouble::Problem { problem, passing: now } = trouble {
                            passing |= now;
                            entries.remove(&entry);
                            failed.insert(entry, *problem);
                        }
                    }
                }
            }
        };
        passing |= pack.for_now;
        failed.extend(pack.failed.clone());
        let lock_digest = chosen.lock.as_deref().map(Digest::of);
        let failures = serde_json::to_vec(&failed).unwrap_or_default();
        let prepared =
            Prepared { digest, entries: pack.entries.clone(), failed, lock: chosen.lock, files: pack.files.clone() };
        audience.at(90, "packages", "Packages are ready");
        if passing {
            return Ok(Arc::new(prepared)); // the next one who asks may have more luck
        }
        let lock_part = lock_digest.as_ref().map_or(&[][..], |it| it.as_bytes());
        let same = Digest::of_parts([digest.as_bytes().as_slice(), lock_part, &failures]);
        Ok(self.kept.keep(key, same, prepared))
    }

    /// Versions from the lock, from an earlier choice, or from the registry.
    pub(super) async fn choose(&self, manifest: &Arc<Manifest>, request: &PackageRequest) -> Result<Chosen, Trouble> {
        let lock = request.lock.clone().filter(|it| !it.trim_ascii().is_empty());
        let text = lock.clone();
        let mut tree = blocking(move || text.map_or_else(|| Ok(Tree::default()), |it| Ok(lock::parse(&it)?))).await?;
        let imported: BTreeSet<&str> =
            request.entries.iter().filter_map(|it| split_specifier(it)).map(|(name, _)| name).collect();
        let mut roots = manifest.dependencies.clone();
        let listed = manifest.dev_dependencies.iter().filter(|(name, _)| imported.contains(name.as_str()));
        for (name, wanted) in listed {
            roots.entry(name.clone()).or_insert_with(|| wanted.clone());
        }
        if lock.is_some() {
            // A lock is complete; only what is imported although it is new, or asked for otherwise, is chosen anew.
            roots.retain(|name, wanted| {
                let spec = super::manifest::Spec::parse(name, wanted);
                let there = tree.lookup("", name).map(|it| &tree.nodes[it]);
                let fine = there.is_some_and(|it| it.elsewhere.is_some() || spec.accepts(&it.name, &it.version));
                imported.contains(name.as_str()) && !fine
            });
        }
        if roots.is_empty() {
            return Ok(Chosen { tree: Arc::new(tree), lock: None });
        }
        let overrides = format!("{:?}", manifest.overrides);
        let base = lock.as_deref().unwrap_or_default();
        let mut parts: Vec<String> = vec![PREPARER.into(), overrides, Digest::of(base).to_string()];
        parts.extend(roots.iter().flat_map(|(name, wanted)| [name.clone(), wanted.clone()]));
        parts.extend(roots.keys().map(|it| self.registries.address_of(it)));
        let key = Digest::of_parts(parts.iter().map(String::as_bytes));
        let store = self.store.clone();
        if let Some(made) = blocking(move || store.read(Shelf::Lock, &key)).await?
            && let Ok(tree) = lock::parse(&made)
        {
            return Ok(Chosen { tree: Arc::new(tree), lock: Some(made) });
        }
        if !self.registries.is_known() {
            return Err(not_set().into());
        }
        let whole = resolve::complete(&mut tree, &roots, manifest, &self.registries).await?;
        // Others with the same wishes get it as well: neither the app's name nor what else it lists is in it.
        let (store, written) = (self.store.clone(), Manifest { dependencies: roots, ..Manifest::default() });
        let tree = Arc::new(tree);
        // A lock says nothing of what could not be had: it would hide it the next time.
        if !whole || !tree.missing.is_empty() {
            return Ok(Chosen { tree, lock: None });
        }
        let given = Arc::clone(&tree);
        let made = blocking(move || {
            let made = Bytes::from(lock::write(&given, &written));
            store.write(Shelf::Lock, &key, &[&made])?;
            Ok(made)
        })
        .await?;
        Ok(Chosen { tree, lock: Some(made) })
    }

    /// Old locks, and those of some registries, state no integrity: the registry does.
    pub(super) async fn with_integrities(
        &self,
        tree: Arc<Tree>,
        entries: &BTreeSet<String>,
    ) -> Result<Arc<Tree>, Trouble> {
        let needed = tree.needed(starts(&tree, entries), true);
        let unknown = needed.iter().filter(|it| {
            let node = &tree.nodes[**it];
            node.integrity.is_none() && !node.bundled && node.elsewhere.is_none()
        });
        let unknown: Vec<String> = unknown.map(|it| (*it).to_owned()).collect();
        if unknown.is_empty() {
            return Ok(tree);
        }
        let ask = |place: String| {
            let node = tree.nodes[&place].clone();
            async move { (place, self.integrity_of(&node).await) }
        };
        let answers: Vec<_> = stream::iter(unknown).map(ask).buffer_unordered(AT_ONCE).collect().await;
        let mut tree = (*tree).clone();
        for (place, answer) in answers {
            match answer {
                Ok(integrity) => {
                    if let Some(node) = tree.nodes.get_mut(&place) {
                        node.integrity = Some(integrity);
                    }
                }
                // Whoever needs it will hear of it.
                Err(Trouble::Problem { .. }) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(Arc::new(tree))
    }

    /// The bundle of these versions and entries: from the disk, or made; or which entries cannot be part of it.
    async fn pack(
        self: &Arc<Self>,
        digest: Digest,
        tree: &Arc<Tree>,
        entries: &BTreeSet<String>,
        audience: &Audience,
    ) -> Result<Made, Trouble> {
        if entries.is_empty() {
            return Ok(Made::Pack(digest, Arc::default()));
        }
        let (store, of) = (self.store.clone(), Arc::clone(tree));
        if let Some((digest, pack)) = blocking(move || kept(&store, &of, digest)).await? {
            return Ok(Made::Pack(digest, Arc::new(pack)));
        }
        let began = self.clock.monotonic();
        let needed: BTreeSet<String> =
            tree.needed(starts(tree, entries), false).into_iter().map(str::to_owned).collect();
        let (files, lacking) = self.gather(tree, &needed, audience).await?;
        let mut entries_lacking = BTreeMap::new();
        for entry in entries {
            let Some((name, _)) = split_specifier(plain_name(entry)) else { continue };
            let own = tree.needed(tree.lookup("", name), false);
            let gone =
                lacking.iter().find(|(place, _)| own.contains(place.as_str())).map(|(_, trouble)| trouble.clone());
            let unknown = tree
                .missing_of(&own)
                .next()
                .map(|it| Trouble::Problem { problem: Box::new(it.problem.clone()), passing: it.passing });
            if let Some(trouble) = gone.or(unknown) {
                entries_lacking.insert(entry.clone(), trouble);
            }
        }
        if !entries_lacking.is_empty() {
            return Ok(Made::Lacks(entries_lacking));
        }
        audience.at(60, "packages", "Preparing packages");
        let flight = {
            let (inner, tree, entries) = (Arc::clone(self), Arc::clone(tree), entries.clone());
            move |_| async move { inner.bundle(digest, tree, entries, files).await }
        };
        // What will be wanted of the tree is not known yet, so only those with the same one share the work.
        let all = identities(tree, tree.nodes.keys().map(String::as_str));
        let whole =
            Digest::of_parts([digest.as_bytes().as_slice()].into_iter().chain(all.iter().map(String::as_bytes)));
        let (digest, pack) = self.packs.join(whole, &Progress::discard(), flight).await?;
        let took = self.clock.monotonic().saturating_sub(began);
        metrics::histogram!("overskill_packages_prepare_seconds").record(took.as_secs_f64());
        tracing::debug!(%digest, entries = entries.len(), ?took, "packages prepared");
        Ok(Made::Pack(digest, pack))
    }
}

/// What came of making a pack.
enum Made {
    Pack(Digest, Arc<Pack>),
    /// These entries need what cannot be had.
    Lacks(BTreeMap<String, Trouble>),
}

impl Inner {
    async fn bundle(
        self: Arc<Self>,
        digest: Digest,
        tree: Arc<Tree>,
        entries: BTreeSet<String>,
        places: BTreeMap<String, PathBuf>,
    ) -> Result<(Digest, Arc<Pack>), Trouble> {
        let program = self.program().await?;
        let _permit = self.bundling.acquire().await.expect("it is never closed");
        let store = self.store.clone();
        let work = blocking(move || store.workspace()).await?;
        let job = Job {
            program,
            folder: work.path().to_owned(),
            tree: Arc::clone(&tree),
            entries,
            places,
            clock: Arc::clone(&self.clock),
            limit: self.options.bundling_limit,
            max_bytes: self.options.max_bundled_bytes,
            rounds: Vec::new(),
            for_now: false,
        };
        let more = |place: String| async {
            let place = place;
            let needed = tree.needed([place.as_str()], false).into_iter().map(str::to_owned).collect();
            let (files, lacking) = self.gather(&tree, &needed, &Audience::default()).await?;
            lacking.into_values().next().map_or(Ok(files), Err)
        };
        let pack = job.run(more).await?;
        let store = self.store.clone();
        blocking(move || {
            let head = pack.head();
            let parts: Vec<&[u8]> =
                std::iter::once(head.as_slice()).chain(pack.files.values().map(|it| &*it.contents)).collect();
            let mut key = digest;
            if pack.for_now {
                let all = [key.as_bytes().as_slice(), b"for now"].into_iter().chain(parts);
                key = Digest::of_parts(all);
            } else {
                for round in &pack.rounds {
                    let wants = serde_json::to_vec(round).unwrap_or_default();
                    store.write(Shelf::Wants, &key, &[&wants])?;
                    key = with_wants(key, &tree, round);
                }
                store.write(Shelf::Prepared, &key, &parts)?;
            }
            drop(work); // deletes the folder, here where that may block
            Ok((key, Arc::new(pack)))
        })
        .await
    }
}

/// What identifies bundles: all versions that could be part of them, what is wanted of them, and how they are made.
fn digest_of(tree: &Tree, entries: &BTreeSet<String>) -> Digest {
    let mut parts: Vec<String> = vec![PREPARER.to_owned(), esbuild::VERSION.to_owned()];
    parts.extend(identities(tree, starts(tree, entries)));
    parts.extend(entries.iter().cloned());
    Digest::of_parts(parts.iter().map(String::as_bytes))
}

/// All that a lock states of these places and of what they need that decides what comes of them. Locks are the apps' own:
/// one that differs in anything must not decide for others.
fn identities<'a>(tree: &'a Tree, starts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let starts: Vec<&str> = starts.into_iter().collect();
    let (needed, loaded) = (tree.needed(starts.iter().copied(), true), tree.needed(starts, false));
    let mut parts = vec![needed.len().to_string()];
    for place in needed {
        let node: &Node = &tree.nodes[place];
        let integrity = node.integrity.as_ref().map(ToString::to_string).unwrap_or_default();
        let flags = format!("{} {}", node.bundled, loaded.contains(place));
        parts.extend([place.to_owned(), node.name.clone(), node.version.clone(), integrity, flags]);
        let named = [&node.dependencies, &node.optional_dependencies, &node.peers].map(|it| it.keys().collect());
        for names in named.into_iter().chain([node.optional_peers.iter().collect::<Vec<_>>()]) {
            parts.push(names.len().to_string());
            parts.extend(names.into_iter().cloned());
        }
    }
    parts
}

/// What identifies bundles of packages that want more than they state, once that is known.
fn with_wants(key: Digest, tree: &Tree, round: &Round) -> Digest {
    let mut parts = vec![key.to_string()];
    for (place, name) in round {
        parts.extend([place.clone(), name.clone()]);
        parts.extend(tree.lookup(place, name).map(|found| identities(tree, [found])).unwrap_or_default());
    }
    Digest::of_parts(parts.iter().map(String::as_bytes))
}

/// The bundle that is kept for such a tree, with what identifies it. Blocks.
fn kept(store: &Store, tree: &Tree, mut key: Digest) -> Result<Option<(Digest, Pack)>, Trouble> {
    for _ in 0..MAX_RUNS {
        let wants = store.read(Shelf::Wants, &key)?;
        let Some(round) = wants.and_then(|it| serde_json::from_slice::<Round>(&it).ok()) else { break };
        key = with_wants(key, tree, &round);
    }
    Ok(store.read(Shelf::Prepared, &key)?.and_then(|it| Pack::read(&it)).map(|pack| (key, pack)))
}

/// The places of the packages that the entries name.
pub(super) fn starts<'a>(tree: &'a Tree, entries: &BTreeSet<String>) -> Vec<&'a str> {
    let names: BTreeSet<&str> =
        entries.iter().filter_map(|it| split_specifier(plain_name(it))).map(|(name, _)| name).collect();
    names.into_iter().filter_map(|name| tree.lookup("", name)).collect()
}

fn plain_name(entry: &str) -> &str {
    entry.strip_prefix("node:").unwrap_or(entry)
}

/// Whether an entry's package is there; if not, why, and whether that may pass.
pub(super) fn root_of(entry: &str, tree: &Tree, manifest: &Manifest) -> Result<(), (Problem, bool)> {
    let problem = |why: String, help: String| Err((Problem::new(ProblemKind::Unresolved, why).help(help), false));
    let Some((name, _)) = split_specifier(plain_name(entry)) else {
        let why = format!("`{}` is neither a package nor a file", entry.escape_debug());
        return problem(why, "begin the paths of your own files with `./` or `/`".to_owned());
    };
    if tree.lookup("", name).is_some() || is_node_builtin(entry) {
        return Ok(());
    }
    if let Some(missing) = tree.missing.get(&(String::new(), name.to_owned())) {
        return Err((missing.problem.clone(), missing.passing));
    }
    if manifest.wanted(name).is_some() {
        let why = format!("`{name}` is in package.json, but could not be had");
        return problem(why, "check its version there".to_owned());
    }
    problem(format!("`{name}` is not in package.json"), format!("add it: `npm install {name}`"))
}
