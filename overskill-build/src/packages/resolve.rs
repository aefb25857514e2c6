//! Choosing versions where no lock does.

use super::{
    manifest::{Manifest, Spec, Wanted},
    registry::Registries,
    tree::{MODULES, Missing, Node, Tree, above, name_at},
    trouble::Trouble,
};
use crate::{Problem, ProblemKind};
use futures::{StreamExt as _, stream};
use std::collections::{BTreeMap, BTreeSet};

/// Most packages that are chosen for one app.
const MAX_PACKAGES: usize = 5_000;
/// Folders of packages within packages.
const MAX_DEPTH: usize = 24;

/// Adds to `tree` whatever `roots` (names with what the app asks of them) and their dependencies lack.
///
/// What a lock put there stays. A package goes to the top if the name is free there, else below the one that wants it, so
/// nobody who has something already gets something else. Peers are shared: they go to the top or nowhere, so there is one
/// React. The outcome is the same whenever the registry says the same; false if it could not say all.
pub(crate) async fn complete(
    tree: &mut Tree,
    roots: &Wanted,
    manifest: &Manifest,
    registries: &Registries,
) -> Result<bool, Trouble> {
    let mut choice = Choice { tree, manifest, registries, fresh: BTreeSet::new(), picked: BTreeMap::new() };
    let wanted: Vec<Edge> = roots.iter().map(|(name, wanted)| choice.edge("", name, wanted, Sort::Certain)).collect();
    choice.prefetch(&wanted).await?;
    for edge in &wanted {
        let there = format!("{MODULES}{}", edge.name);
        if choice.tree.nodes.get(&there).is_some_and(|it| edge.accepts(it)) {
            continue;
        }
        if choice.tree.nodes.contains_key(&there) {
            choice.tree.remove(&there);
            // Those who had the old version may not like the new one.
            let users = choice.tree.nodes.iter().filter(|(_, node)| node.dependencies.contains_key(&edge.name));
            let users: Vec<String> = users.map(|(place, _)| place.clone()).collect();
            choice.fresh.extend(users);
        }
        choice.place(edge)?;
    }
    choice.settle().await?;
    let passing = |it: &Result<Node, Trouble>| matches!(it, Err(Trouble::Problem { passing: true, .. }));
    Ok(!choice.picked.values().any(passing))
}

struct Choice<'a> {
    tree: &'a mut Tree,
    manifest: &'a Manifest,
    registries: &'a Registries,
    /// Places that were filled here, and of which nobody has looked yet what they want: by level.
    fresh: BTreeSet<String>,
    /// What the registry said, by name and what was asked for.
    picked: BTreeMap<(String, String), Result<Node, Trouble>>,
}

/// Somebody's wish for a package.
struct Edge {
    from: String,
    name: String,
    wanted: String,
    sort: Sort,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Certain,
    Optional,
    Peer,
}

impl Edge {
    fn spec(&self) -> Spec {
        Spec::parse(&self.name, &self.wanted)
    }

    fn accepts(&self, node: &Node) -> bool {
        node.elsewhere.is_none() && self.spec().accepts(&node.name, &node.version)
    }

    fn key(&self) -> (String, String) {
        (self.name.clone(), self.wanted.clone())
    }
}

impl Choice<'_> {
    /// Goes on until everybody has what they want.
    async fn settle(&mut self) -> Result<(), Trouble> {
        let mut peers: BTreeMap<String, Vec<Edge>> = BTreeMap::new();
        loop {
            let level = std::mem::take(&mut self.fresh);
            let mut edges = Vec::new();
            for place in &level {
                for edge in self.edges_of(place) {
                    if edge.sort == Sort::Peer {
                        peers.entry(edge.name.clone()).or_default().push(edge);
                    } else if self.is_open(&edge) {
                        edges.push(edge);
                    }
                }
            }
            if edges.is_empty() {
                // Peers come last: by then most are there for another reason.
                edges = self.open_peers(std::mem::take(&mut peers));
                if edges.is_empty() {
                    return Ok(());
                }
            }
            self.prefetch(&edges).await?;
            for edge in &edges {
                if self.is_open(edge) {
                    self.place(edge)?;
                }
            }
        }
    }

    fn edges_of(&self, place: &str) -> Vec<Edge> {
        let Some(node) = self.tree.nodes.get(place) else { return Vec::new() };
        let mut edges = Vec::new();
        let mut add = |wanted: &Wanted, sort| {
            let named = wanted.iter().filter(|(name, _)| !name.starts_with("@types/"));
            edges.extend(named.map(|(name, wanted)| self.edge(place, name, wanted, sort)));
        };
        add(&node.dependencies, Sort::Certain);
        add(&node.optional_dependencies, Sort::Optional);
        let mut peers = node.peers.clone();
        peers.retain(|name, _| !node.optional_peers.contains(name));
        add(&peers, Sort::Peer);
        edges
    }

    /// A wish, as the app's overrides leave it.
    fn edge(&self, from: &str, name: &str, wanted: &str, sort: Sort) -> Edge {
        let mut chain = Vec::new();
        let mut at = Some(from).filter(|it| !it.is_empty());
        while let Some(place) = at {
            chain.push(name_at(place));
            at = above(place).filter(|it| !it.is_empty());
        }
        chain.reverse();
        let applies = |below: &[String]| {
            let mut left = chain.iter();
            below.iter().all(|name| left.any(|it| it == name))
        };
        let rules = self.manifest.overrides.iter().filter(|it| it.name == name && applies(&it.below));
        // The app's own wish stands; npm refuses an override that differs from it.
        let rule = rules.max_by_key(|it| it.below.len()).filter(|_| !from.is_empty());
        let wanted = rule.map_or(wanted, |it| it.wanted.as_str());
        Edge { from: from.to_owned(), name: name.to_owned(), wanted: wanted.to_owned(), sort }
    }

    /// Whether something has to be done for a wish.
    fn is_open(&self, edge: &Edge) -> bool {
        if self.tree.missing.contains_key(&(edge.from.clone(), edge.name.clone())) {
            return false;
        }
        match self.tree.lookup(&edge.from, &edge.name) {
            None => true,
            // A peer that is there is used, whatever its version: two of it would be worse.
            Some(_) if edge.sort == Sort::Peer => false,
            Some(place) => !edge.accepts(&self.tree.nodes[place]),
        }
    }

    /// One wish for each peer that is not there: one that suits all who want it, or else the first.
    fn open_peers(&self, peers: BTreeMap<String, Vec<Edge>>) -> Vec<Edge> {
        let mut open = Vec::new();
        for edges in peers.into_values() {
            let ranges: BTreeSet<&str> = edges.iter().map(|it| it.wanted.as_str()).collect();
            let together = ranges.iter().copied().collect::<Vec<_>>().join(" ");
            let simple = ranges.iter().all(|it| !it.contains("||") && !it.starts_with("npm:"));
            let Some(mut first) = edges.into_iter().find(|it| self.is_open(it)) else { continue };
            if simple && matches!(Spec::parse(&first.name, &together), Spec::Range { .. }) {
                first.wanted = together;
            }
            open.push(first);
        }
        open
    }

    /// Asks the registry for all that will be needed at once.
    async fn prefetch(&mut self, edges: &[Edge]) -> Result<(), Trouble> {
        let asked: BTreeMap<(String, String), Spec> = edges
            .iter()
            .filter(|edge| !self.picked.contains_key(&edge.key()) && self.is_open(edge))
            .map(|edge| (edge.key(), edge.spec()))
            .collect();
        if self.picked.len() + asked.len() > 2 * MAX_PACKAGES {
            let why = format!("the dependencies come to more than {MAX_PACKAGES} packages");
            return Err(Problem::new(ProblemKind::Limit, why).help("use fewer packages").into());
        }
        let registries = self.registries;
        let answers = stream::iter(asked).map(|(key, spec)| async move { (key, registries.pick(&spec).await) });
        let answers: Vec<_> = answers.buffer_unordered(32).collect().await;
        for (key, answer) in answers {
            if let Err(Trouble::Fault(e)) = answer {
                return Err(Trouble::Fault(e));
            }
            self.picked.insert(key, answer);
        }
        Ok(())
    }

    fn place(&mut self, edge: &Edge) -> Result<(), Trouble> {
        let node = match self.picked.get(&edge.key()) {
            Some(Ok(node)) => node.clone(),
            Some(Err(trouble)) => {
                self.note_missing(edge, &trouble.clone());
                return Ok(());
            }
            None => return Ok(()), // it was there when the registry was asked
        };
        if edge.sort == Sort::Optional && node.for_platform {
            return Ok(()); // not for browsers
        }
        let top = format!("{MODULES}{}", edge.name);
        let place = if self.tree.nodes.contains_key(&top) && edge.sort != Sort::Peer {
            format!("{}/{top}", edge.from)
        } else {
            top
        };
        let too_many = self.tree.nodes.len() >= MAX_PACKAGES;
        if too_many || place.matches(MODULES).count() > MAX_DEPTH {
            let limit = if too_many { format!("{MAX_PACKAGES} packages") } else { format!("{MAX_DEPTH} levels") };
            return Err(Problem::new(ProblemKind::Limit, format!("the dependencies come to more than {limit}"))
                .help("use fewer packages, or commit a package-lock.json")
                .into());
        }
        self.tree.nodes.insert(place.clone(), node);
        self.fresh.insert(place);
        Ok(())
    }

    fn note_missing(&mut self, edge: &Edge, trouble: &Trouble) {
        let Trouble::Problem { problem, passing } = trouble else { return };
        let mut problem = (**problem).clone();
        let by = if edge.from.is_empty() { String::new() } else { format!(", which `{}` needs", name_at(&edge.from)) };
        problem.message = format!("`{}` ({}){by}: {}", edge.name, edge.wanted, problem.message);
        if edge.sort == Sort::Certain {
            self.tree.missing.insert((edge.from.clone(), edge.name.clone()), Missing { problem, passing: *passing });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::{lock, registry::registry_of};
    use overskill_http::Response;

    /// A registry of these packages: name, version, and what the entry says.
    fn registry(packages: &'static [(&str, &str, &str)]) -> Registries {
        registry_of("https://npm.example", move |request| {
            let name = request.url.path()[1..].replace("%2F", "/");
            let versions = packages.iter().filter(|it| it.0 == name);
            let versions: Vec<String> =
                versions.map(|(_, version, entry)| format!("\"{version}\": {{{entry}}}")).collect();
            if versions.is_empty() {
                return Response::new(404, "");
            }
            Response::new(200, format!("{{\"versions\": {{{}}}}}", versions.join(",")))
        })
    }

    async fn resolve(manifest: &str, packages: &'static [(&str, &str, &str)]) -> Tree {
        let manifest = Manifest::parse(manifest.as_bytes()).unwrap();
        let mut tree = Tree::default();
        let registries = registry(packages);
        complete(&mut tree, &manifest.dependencies, &manifest, &registries).await.unwrap();
        let mut again = Tree::default();
        complete(&mut again, &manifest.dependencies, &manifest, &registries).await.unwrap();
        assert_eq!(lock::write(&tree, &manifest), lock::write(&again, &manifest));
        tree
    }

    fn places(tree: &Tree) -> Vec<String> {
        tree.nodes.iter().map(|(place, node)| format!("{}@{}", place.replace(MODULES, ""), node.version)).collect()
    }

    #[tokio::test]
    async fn one_react_and_a_second_version_below_the_one_who_wants_it() {
        let tree = resolve(
            r#"{"dependencies": {"react": "^18", "ui": "*", "old": "*"}}"#,
            &[
                ("react", "18.3.0", ""),
                ("react", "19.0.0", ""),
                ("ui", "1.0.0", r#""peerDependencies": {"react": ">=16"}, "dependencies": {"util": "^2"}"#),
                (
                    "old",
                    "1.0.0",
                    r#""peerDependencies": {"react": "^19"}, "dependencies": {"util": "^1", "deep": "*"}"#,
                ),
                ("deep", "1.0.0", r#""dependencies": {"util": "^2", "old": "*"}"#),
                ("util", "1.0.0", ""),
                ("util", "2.0.0", ""),
            ],
        )
        .await;
        assert_eq!(
            places(&tree),
            ["deep@1.0.0", "deep/util@2.0.0", "old@1.0.0", "react@18.3.0", "ui@1.0.0", "ui/util@2.0.0", "util@1.0.0"]
        );
        assert!(tree.missing.is_empty());
    }

    #[tokio::test]
    async fn a_peer_that_nobody_else_wants_suits_all_who_want_it() {
        let tree = resolve(
            r#"{"dependencies": {"a": "*", "b": "*"}}"#,
            &[
                (
                    "a",
                    "1.0.0",
                    r#""peerDependencies": {"p": ">=1", "q": "*"}, "peerDependenciesMeta": {"q": {"optional": true}}"#,
                ),
                ("b", "1.0.0", r#""peerDependencies": {"p": "<3"}"#),
                ("p", "1.0.0", ""),
                ("p", "2.0.0", r#""dependencies": {"r": "1"}"#),
                ("p", "3.0.0", ""),
                ("r", "1.0.0", ""),
            ],
        )
        .await;
        assert_eq!(places(&tree), ["a@1.0.0", "b@1.0.0", "p@2.0.0", "r@1.0.0"]);
    }

    #[tokio::test]
    async fn aliases_overrides_and_what_cannot_be_had() {
        let tree = resolve(
            r#"{"dependencies": {"mine": "npm:real@^1", "a": "*", "gone": "^1", "git": "user/repo"},
                "overrides": {"a": {"util": "1.0.0"}}}"#,
            &[
                ("real", "1.2.0", ""),
                ("a", "1.0.0", r#""dependencies": {"util": "^2", "lost": "*"}, "optionalDependencies": {"native": "*", "maybe": "*"}"#),
                ("util", "1.0.0", ""),
                ("util", "2.0.0", ""),
                ("gone", "0.9.0", ""),
                ("native", "1.0.0", r#""os": ["linux"]"#),
            ],
        )
        .await;
        assert_eq!(places(&tree), ["a@1.0.0", "mine@1.2.0", "util@1.0.0"]);
        assert_eq!(tree.nodes["node_modules/mine"].name, "real");
        let missing = |from: &str, name: &str| tree.missing[&(from.to_owned(), name.to_owned())].problem.to_string();
        assert!(missing("", "gone").contains("`gone` (^1): the registry has no version of it in the range"));
        assert!(missing("", "git").contains("it comes from a git repository"));
        assert!(missing("node_modules/a", "lost").contains("`lost` (*), which `a` needs: the registry has no package"));
    }

    #[tokio::test]
    async fn what_a_lock_has_stays_and_the_rest_is_added() {
        let manifest = Manifest::parse(br#"{"dependencies": {"a": "^1", "b": "^2", "c": "*"}}"#).unwrap();
        let locked = br#"{"lockfileVersion": 3, "packages": {"node_modules/a": {"version": "1.0.0"},
            "node_modules/b": {"version": "1.0.0"}, "node_modules/b/node_modules/x": {"version": "1.0.0"}}}"#;
        let mut tree = lock::parse(locked).unwrap();
        let registries =
            registry(&[("a", "1.9.0", ""), ("b", "2.0.0", ""), ("c", "1.0.0", r#""dependencies": {"a": "^1.5"}"#)]);
        complete(&mut tree, &manifest.dependencies, &manifest, &registries).await.unwrap();
        assert_eq!(places(&tree), ["a@1.0.0", "b@2.0.0", "c@1.0.0", "c/a@1.9.0"]);
    }

    #[tokio::test]
    async fn dependencies_without_end_have_one() {
        let manifest = Manifest::parse(br#"{"dependencies": {"p0": "*"}}"#).unwrap();
        let registries = registry_of("https://npm.example", |request| {
            let n: u32 = request.url.path()[2..].parse().unwrap();
            let text = format!("{{\"versions\": {{\"1.0.0\": {{\"dependencies\": {{\"p{}\": \"*\"}}}}}}}}", n + 1);
            Response::new(200, text)
        });
        let mut tree = Tree::default();
        let Err(Trouble::Problem { problem, .. }) =
            complete(&mut tree, &manifest.dependencies, &manifest, &registries).await
        else {
            panic!("there is no end to them");
        };
        assert_eq!(problem.kind, ProblemKind::Limit);
    }

    #[tokio::test]
    async fn more_dependencies_than_may_be_are_not_even_asked_for() {
        let all: Vec<String> = (0..=2 * MAX_PACKAGES).map(|n| format!("\"p{n}\": \"*\"")).collect();
        let manifest = Manifest::parse(format!("{{\"dependencies\": {{{}}}}}", all.join(",")).as_bytes()).unwrap();
        let registries = registry_of("https://npm.example", |_| panic!("it was asked"));
        let done = complete(&mut Tree::default(), &manifest.dependencies, &manifest, &registries).await;
        assert!(matches!(done, Err(Trouble::Problem { problem, .. }) if problem.kind == ProblemKind::Limit));
    }
}
