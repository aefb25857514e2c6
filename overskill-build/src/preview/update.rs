//! What a change means for the pages that are open: Vite's rules.

use super::{
    graph::{Edge, Graph, How, Node},
    messages::Acceptor,
    resolve::Ask,
    scan::is_plain_import,
};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Longest way from what changed to who takes it. Whatever is farther away loads the page anew: no app that anybody wrote
/// has such a way, and following one without end would end with the stack.
const LONGEST_WAY: usize = 500;

/// A graph with the ways up.
pub(super) struct Ways<'g> {
    pub(super) graph: &'g Graph,
    importers: Vec<Vec<usize>>,
    /// Who accepts whose updates: (who, whose).
    accepted: HashSet<(usize, usize)>,
}

/// What the update of some modules needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Who takes it.
    pub(super) acceptors: Vec<Acceptor>,
    /// The modules that are loaded anew: what changed, and what leads from there to who takes it.
    pub(super) renewed: BTreeSet<usize>,
    /// Where nobody took it: the page has to be loaded anew.
    pub(super) dead_end: bool,
    /// The acceptors' places in the graph.
    pub(super) boundaries: BTreeSet<usize>,
}

struct Boundary {
    at: usize,
    via: usize,
    circular: bool,
}

impl<'g> Ways<'g> {
    pub(super) fn of(graph: &'g Graph) -> Self {
        let mut importers = vec![Vec::new(); graph.nodes.len()];
        let mut accepted = HashSet::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            for Edge { to, how } in &node.deps {
                match how {
                    How::Import => importers[*to as usize].push(index),
                    How::Accept => drop(accepted.insert((index, *to as usize))),
                    How::Package => {}
                }
            }
        }
        Self { graph, importers, accepted }
    }

    /// What the update of `node` needs.
    pub(super) fn reach(&self, node: usize, invalidated_by: Option<&str>) -> Reach {
        let mut boundaries = Vec::new();
        let dead_end = self.propagate(node, &mut HashSet::new(), &mut boundaries, &mut vec![node]);
        let mut reach = Reach { dead_end, ..Reach::default() };
        self.renew(node, &mut reach.renewed);
        for Boundary { at, via, circular } in boundaries {
            reach.boundaries.insert(at);
            reach.acceptors.push(self.acceptor(at, via, circular, invalidated_by));
        }
        reach
    }

    pub(super) fn importers(&self, node: usize) -> &[usize] {
        &self.importers[node]
    }

    fn acceptor(&self, at: usize, via: usize, circular: bool, invalidated_by: Option<&str>) -> Acceptor {
        let (at, via) = (&self.graph.nodes[at], &self.graph.nodes[via]);
        Acceptor {
            path: at.address(),
            accepted: via.address(),
            linked: at.ask == Ask::Linked,
            explicit: at.ask != Ask::Linked && !is_plain_import(via.path.as_str()),
            circular,
            invalidated_by: invalidated_by.map(str::to_owned),
        }
    }

    /// Goes up from `node` to who accepts; true where nobody does.
    fn propagate(
        &self,
        node: usize,
        seen: &mut HashSet<usize>,
        boundaries: &mut Vec<Boundary>,
        chain: &mut Vec<usize>,
    ) -> bool {
        if !seen.insert(node) {
            return false;
        }
        if chain.len() > LONGEST_WAY {
            return true;
        }
        let this = &self.graph.nodes[node];
        if this.accepts_self {
            boundaries.push(Boundary { at: node, via: node, circular: self.is_circular(node, chain) });
            // A sheet that others take in as well, or a file that a sheet depends on.
            for importer in &self.importers[node] {
                if self.graph.nodes[*importer].style && !chain.contains(importer) {
                    chain.push(*importer);
                    self.propagate(*importer, seen, boundaries, chain);
                    chain.pop();
                }
            }
            return false;
        }
        if self.importers[node].is_empty() {
            return true;
        }
        for &importer in &self.importers[node] {
            chain.push(importer);
            let dead_end = if self.accepted.contains(&(importer, node)) {
                boundaries.push(Boundary { at: importer, via: node, circular: self.is_circular(importer, chain) });
                false
            } else {
                !chain[..chain.len() - 1].contains(&importer) && self.propagate(importer, seen, boundaries, chain)
            };
            chain.pop();
            if dead_end {
                return true;
            }
        }
        false
    }

    /// Whether `node` is imported, however far, by one of `chain`: then the order of evaluation may differ from the first.
    fn is_circular(&self, node: usize, chain: &[usize]) -> bool {
        let chain: HashSet<usize> = chain.iter().copied().collect();
        let mut seen = HashSet::from([node]);
        let mut open = vec![node];
        while let Some(next) = open.pop() {
            for &importer in &self.importers[next] {
                if importer == next {
                    continue;
                }
                if chain.contains(&importer) {
                    return true;
                }
                if seen.insert(importer) {
                    open.push(importer);
                }
            }
        }
        false
    }

    fn renew(&self, node: usize, renewed: &mut BTreeSet<usize>) {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            if !renewed.insert(node) {
                continue;
            }
            let this = &self.graph.nodes[node];
            // Past who accepts nothing is loaded anew: a second instance of it would be another module.
            open.extend(self.importers[node].iter().copied().filter(|&importer| {
                let takes = self.accepted.contains(&(importer, node));
                !takes && (!this.accepts_self || self.graph.nodes[importer].style)
            }));
        }
    }
}

/// Whether loading `from` anew would fail: it reaches, through what is loaded for the first time or anew, a module that is
/// broken.
pub(super) fn is_blocked(now: &Graph, from: &[&Node], is_new: &dyn Fn(&Node) -> bool, broken: &HashSet<&str>) -> bool {
    let index: HashMap<(&str, Ask), usize> = now.index();
    let mut open: Vec<usize> =
        from.iter().filter_map(|node| index.get(&(node.path.as_str(), node.ask)).copied()).collect();
    let mut seen: HashSet<usize> = open.iter().copied().collect();
    while let Some(at) = open.pop() {
        for edge in now.nodes[at].deps.iter().filter(|edge| edge.how == How::Import) {
            let to = &now.nodes[edge.to as usize];
            if !(to.unseen || is_new(to)) || !seen.insert(edge.to as usize) {
                continue;
            }
            if broken.contains(to.path.as_str()) {
                return true;
            }
            open.push(edge.to as usize);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::FilePath;

    fn place(nodes: &mut Vec<(String, bool, Vec<Edge>)>, name: &str) -> usize {
        let (name, accepts) = name.strip_suffix('*').map_or((name, false), |name| (name, true));
        let at = nodes.iter().position(|node| node.0 == name).unwrap_or_else(|| {
            nodes.push((name.to_owned(), false, Vec::new()));
            nodes.len() - 1
        });
        nodes[at].1 |= accepts;
        at
    }

    /// `"app* > child"`: `*` accepts itself; `!` before a dependency accepts its updates.
    fn graph(lines: &[&str]) -> Graph {
        let mut nodes: Vec<(String, bool, Vec<Edge>)> = Vec::new();
        for line in lines {
            let (from, to) = line.split_once(" > ").unwrap_or((line, ""));
            let from = place(&mut nodes, from);
            for name in to.split_whitespace() {
                let to = u32::try_from(place(&mut nodes, name.trim_start_matches('!'))).unwrap();
                nodes[from].2.push(Edge { to, how: How::Import });
                if name.starts_with('!') {
                    nodes[from].2.push(Edge { to, how: How::Accept });
                }
            }
        }
        let node = |(name, accepts_self, deps): (String, bool, Vec<Edge>)| Node {
            path: FilePath::parse(&name).unwrap(),
            ask: if name == "link.css" { Ask::Linked } else { Ask::Plain },
            accepts_self,
            style: name.split('.').next_back() == Some("css"),
            refresh: false,
            unseen: false,
            signature: 0,
            deps: deps.into(),
        };
        Graph { nodes: nodes.into_iter().map(node).collect(), ..Graph::default() }
    }

    /// `path<accepted` of each acceptor, `~` for circular; what is renewed; `dead end`.
    fn update(lines: &[&str], changed: &str) -> (Vec<String>, Vec<String>) {
        let graph = graph(lines);
        let ways = Ways::of(&graph);
        let at = graph.nodes.iter().position(|node| node.path.as_str() == changed).unwrap();
        let reach = ways.reach(at, None);
        if reach.dead_end {
            return (vec!["dead end".to_owned()], Vec::new());
        }
        let show = |it: &Acceptor| {
            let (kind, circle) = (if it.linked { "css:" } else { "" }, if it.circular { "~" } else { "" });
            format!("{kind}{}<{}{circle}", &it.path[1..], &it.accepted[1..])
        };
        let renewed = reach.renewed.iter().map(|at| graph.nodes[*at].path.to_string()).collect();
        (reach.acceptors.iter().map(show).collect(), renewed)
    }

    #[test]
    fn as_vite_was_recorded() {
        let app =
            ["main.tsx > app.tsx* index.css*", "app.tsx* > child.tsx* a.module.css d.json", "child.tsx* > util.ts"];
        let one =
            |taken: &str, renewed: &[&str]| (vec![taken.to_owned()], renewed.iter().map(|s| (*s).to_owned()).collect());
        assert_eq!(update(&app, "child.tsx"), one("child.tsx<child.tsx", &["child.tsx"]));
        assert_eq!(update(&app, "index.css"), one("index.css<index.css", &["index.css"]));
        assert_eq!(update(&app, "a.module.css"), one("app.tsx<app.tsx", &["app.tsx", "a.module.css"]));
        assert_eq!(update(&app, "d.json"), one("app.tsx<app.tsx", &["app.tsx", "d.json"]));
        assert_eq!(update(&app, "util.ts"), one("child.tsx<child.tsx", &["child.tsx", "util.ts"]));
        assert_eq!(update(&app, "main.tsx").0, ["dead end"]);
    }

    #[test]
    fn two_importers_both_take_it_and_one_that_does_not_is_a_dead_end() {
        let both = ["main.ts > a.tsx* b.tsx*", "a.tsx > shared.ts", "b.tsx > shared.ts"];
        assert_eq!(update(&both, "shared.ts").0, ["a.tsx<a.tsx", "b.tsx<b.tsx"]);
        let one = ["main.ts > a.tsx* shared.ts", "a.tsx > shared.ts"];
        assert_eq!(update(&one, "shared.ts").0, ["dead end"]);
    }

    #[test]
    fn an_accepted_dependency_is_loaded_anew_and_who_accepts_is_not() {
        let lines = ["main.ts > !dep.ts", "dep.ts > leaf.ts"];
        assert_eq!(update(&lines, "leaf.ts"), (vec!["main.ts<dep.ts".into()], vec!["dep.ts".into(), "leaf.ts".into()]));
    }

    #[test]
    fn circles_are_told_and_end() {
        let circle = ["main.ts > a.tsx*", "a.tsx > b.ts", "b.ts > a.tsx c.ts"];
        assert_eq!(update(&circle, "c.ts").0, ["a.tsx<a.tsx~"]);
        assert_eq!(update(&circle, "a.tsx").0, ["a.tsx<a.tsx~"]);
        let nobody = ["main.ts > a.ts", "a.ts > b.ts", "b.ts > a.ts"];
        assert_eq!(update(&nobody, "b.ts").0, ["dead end"]);
    }

    #[test]
    fn sheets_within_sheets() {
        let lines = ["main.ts > index.css* base.css*", "index.css > base.css", "link.css* > base.css"];
        assert_eq!(update(&lines, "base.css").0, ["base.css<base.css", "index.css<index.css", "css:link.css<link.css"]);
    }

    #[test]
    fn what_would_load_something_broken_is_blocked() {
        let now = graph(&["main.ts > app.tsx*", "app.tsx > old.ts new.ts", "new.ts > broken.ts"]);
        let app = &now.nodes[1];
        let broken = HashSet::from(["broken.ts"]);
        assert!(is_blocked(&now, &[app], &|node| node.path.as_str() != "old.ts", &broken));
        assert!(!is_blocked(&now, &[app], &|node| node.path.as_str() == "old.ts", &broken));
    }

    #[test]
    fn a_way_without_end_is_no_end_of_the_stack() {
        const MOST: u32 = 100_000;
        let node = |n: u32| Node {
            path: FilePath::parse(&format!("m{n}.js")).unwrap(),
            ask: Ask::Plain,
            accepts_self: n == 0,
            style: false,
            refresh: false,
            unseen: false,
            signature: 0,
            deps: if n == MOST { Box::default() } else { [Edge { to: n + 1, how: How::Import }].into() },
        };
        let graph = Graph { nodes: (0..=MOST).map(node).collect(), ..Graph::default() };
        let ways = Ways::of(&graph);
        let far = ways.reach(MOST as usize, None);
        assert!(far.dead_end && far.renewed.len() == MOST as usize + 1);
        let near = ways.reach(LONGEST_WAY - 1, None);
        assert!(!near.dead_end && near.boundaries.contains(&0));
    }
}
