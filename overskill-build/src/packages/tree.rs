//! Which versions there are, and who gets which: a `node_modules` folder that exists on paper.

use super::{integrity::Integrity, manifest::Wanted};
use crate::Problem;
use std::collections::{BTreeMap, BTreeSet};

/// Packages by their place, such as `node_modules/a/node_modules/@b/c`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: BTreeMap<String, Node>,
    /// Dependencies that could not be had, by the place of who has them (empty: the app) and their name.
    pub(crate) missing: BTreeMap<(String, String), Missing>,
}

/// Why a dependency is not there.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    pub(crate) problem: Problem,
    pub(crate) passing: bool,
}

/// One package at one place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// Its name in the registry, which is not its place's with an alias.
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) resolved: Option<String>,
    pub(crate) integrity: Option<Integrity>,
    pub(crate) dependencies: Wanted,
    pub(crate) optional_dependencies: Wanted,
    pub(crate) peers: Wanted,
    pub(crate) optional_peers: BTreeSet<String>,
    /// It is for some operating systems or processors only, which a browser is not.
    pub(crate) for_platform: bool,
    /// Only tools need it.
    pub(crate) dev: bool,
    /// It comes inside the tarball of the package above it.
    pub(crate) bundled: bool,
    /// Why no registry has it.
    pub(crate) elsewhere: Option<&'static str>,
}

impl Tree {
    /// The place that `name` means to the package at `from` (empty: the app), as Node looks it up.
    pub(crate) fn lookup(&self, from: &str, name: &str) -> Option<&str> {
        let mut base = from;
        loop {
            let place = if base.is_empty() { format!("{MODULES}{name}") } else { format!("{base}/{MODULES}{name}") };
            if let Some((place, _)) = self.nodes.get_key_value(&place) {
                return Some(place);
            }
            base = above(base)?;
        }
    }

    /// What has to be there for the packages at `starts`: their dependencies and peers, and so on.
    ///
    /// Peers that only tools need are left out unless `all`: should they be imported after all, bundling says so.
    pub(crate) fn needed<'a>(&'a self, starts: impl IntoIterator<Item = &'a str>, all: bool) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut left: Vec<&str> = starts.into_iter().collect();
        while let Some(place) = left.pop() {
            let Some((place, node)) = self.nodes.get_key_value(place) else { continue };
            if !found.insert(place.as_str()) {
                continue;
            }
            let certain = node.dependencies.keys().map(|name| (name, false));
            let optional = node.optional_dependencies.keys().map(|name| (name, true));
            let peers = node.peers.keys().map(|name| (name, true));
            for (name, uncertain) in certain.chain(optional).chain(peers) {
                // Types are nothing at run time.
                if name.starts_with("@types/") {
                    continue;
                }
                let Some(next) = self.lookup(place, name) else { continue };
                let node = &self.nodes[next];
                let useless = node.for_platform || (node.dev && !all);
                if !(uncertain && useless) {
                    left.push(next);
                }
            }
        }
        found
    }

    /// What of the dependencies of these places could not be had.
    pub(crate) fn missing_of<'a>(&'a self, places: &'a BTreeSet<&str>) -> impl Iterator<Item = &'a Missing> {
        self.missing.iter().filter(|((place, _), _)| places.contains(place.as_str())).map(|(_, missing)| missing)
    }

    /// Takes out a place and all below it.
    pub(crate) fn remove(&mut self, place: &str) {
        let below = format!("{place}/");
        self.nodes.retain(|it, _| it != place && !it.starts_with(&below));
        self.missing.retain(|(it, _), _| it != place && !it.starts_with(&below));
    }
}

/// What every place begins with.
pub(crate) const MODULES: &str = "node_modules/";

/// The place of the package above a place; empty is the app, and nothing is above that.
pub(crate) fn above(place: &str) -> Option<&str> {
    place.rfind(MODULES).map(|at| place[..at].trim_end_matches('/'))
}

/// The name at the end of a place.
pub(crate) fn name_at(place: &str) -> &str {
    place.rfind(MODULES).map_or(place, |at| &place[at + MODULES.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &[(&str, &[&str])]) -> Tree {
        let nodes = nodes.iter().map(|(place, dependencies)| {
            let dependencies = dependencies.iter().map(|it| ((*it).to_owned(), "*".to_owned())).collect();
            ((*place).to_owned(), Node { name: name_at(place).to_owned(), dependencies, ..Node::default() })
        });
        Tree { nodes: nodes.collect(), ..Tree::default() }
    }

    #[test]
    fn a_name_means_the_nearest() {
        let tree = tree(&[
            ("node_modules/a", &[]),
            ("node_modules/@s/b", &[]),
            ("node_modules/@s/b/node_modules/a", &[]),
            ("node_modules/@s/b/node_modules/c", &[]),
        ]);
        assert_eq!(tree.lookup("", "a"), Some("node_modules/a"));
        assert_eq!(tree.lookup("node_modules/@s/b", "a"), Some("node_modules/@s/b/node_modules/a"));
        assert_eq!(tree.lookup("node_modules/@s/b/node_modules/c", "a"), Some("node_modules/@s/b/node_modules/a"));
        assert_eq!(tree.lookup("node_modules/a", "@s/b"), Some("node_modules/@s/b"));
        assert_eq!(tree.lookup("node_modules/a", "c"), None);
    }

    #[test]
    fn only_what_is_reached_is_needed() {
        let mut tree = tree(&[
            ("node_modules/app", &["lib", "@types/lib"]),
            ("node_modules/lib", &["app"]),
            ("node_modules/@types/lib", &[]),
            ("node_modules/vite", &["rollup"]),
            ("node_modules/rollup", &[]),
        ]);
        tree.nodes.get_mut("node_modules/vite").unwrap().dev = true;
        tree.nodes.get_mut("node_modules/lib").unwrap().peers.insert("vite".into(), "*".into());
        let needed = |tree: &Tree, start: &str, all| {
            tree.needed([start], all).into_iter().map(name_at).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(needed(&tree, "node_modules/app", false), ["app", "lib"]);
        assert_eq!(needed(&tree, "node_modules/app", true), ["app", "lib", "rollup", "vite"]);
        assert_eq!(needed(&tree, "node_modules/vite", false), ["rollup", "vite"]);
    }
}
