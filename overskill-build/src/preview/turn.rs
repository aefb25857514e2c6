//! From one state to the next: what pages are told.

use super::{
    app::State,
    graph::{Graph, Node},
    messages::{self, Acceptor},
    resolve::Ask,
    update::{Reach, Ways, is_blocked},
    view::View,
};
use overskill_core::FilePath;
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// What a change comes to.
pub(super) enum Turn {
    /// Pages have to be loaded anew: this says so.
    Reload(View, Value),
    /// These messages bring pages there; with the modules that they renew.
    Go(View, Vec<Value>, BTreeSet<FilePath>),
}

/// Decides, by Vite's rules. One difference: what would only break a page that runs is held back until it is mended.
pub(super) fn turn(state: &mut State, old: &View, new: View, differing: &[FilePath], follows: bool) -> Turn {
    if let Some((path, by)) = whole_page(state, old, &new, differing, follows) {
        return reload(new, &path, by.as_deref());
    }
    let updates = match updates(state, old, &new, differing) {
        Ok(updates) => updates,
        Err(by) => return reload(new, "*", Some(by.as_str())),
    };
    let mut stamps: Option<HashMap<FilePath, u64>> = None;
    let seq = new.position.seq;
    let mut stamp = |path: &FilePath| {
        stamps.get_or_insert_with(|| (*old.stamps).clone()).insert(path.clone(), seq);
    };
    updates.renewed.iter().for_each(&mut stamp);
    let mut sent = Vec::new();
    if !updates.acceptors.is_empty() {
        sent.push(messages::update(&updates.acceptors, seq));
    }
    let wrong = new.blocking();
    let left = leaving(state, old, &new);
    if wrong.is_empty() && !left.is_empty() {
        // When they come back, they have to be evaluated again.
        left.iter().for_each(&mut stamp);
        sent.push(messages::prune(&left.iter().map(|path| format!("/{path}")).collect::<Vec<_>>()));
        state.leaving.clear();
    } else {
        state.leaving = left;
    }
    let were_wrong = old.blocking();
    if let Some(first) = wrong.first() {
        if !sent.is_empty() || wrong != were_wrong {
            sent.push(messages::error(first, wrong.len() - 1));
        }
    } else if !were_wrong.is_empty() && updates.acceptors.is_empty() {
        // Nothing to load, but the overlay has to go.
        sent.insert(0, messages::update(&[], seq));
    }
    state.pending = updates.pending;
    let stamps = stamps.map_or_else(|| old.stamps.clone(), Arc::new);
    Turn::Go(View { stamps, ..new }, sent, updates.renewed)
}

fn reload(new: View, path: &str, by: Option<&str>) -> Turn {
    let message = messages::full_reload(path, by);
    Turn::Reload(View { stamps: Arc::default(), ..new }, message)
}

/// What no module can take: which page, and because of which file.
fn whole_page(
    state: &State,
    old: &View,
    new: &View,
    differing: &[FilePath],
    follows: bool,
) -> Option<(String, Option<String>)> {
    let all = |by: Option<&FilePath>| Some(("*".to_owned(), by.map(ToString::to_string)));
    if !follows || old.env.digest() != new.env.digest() || old.packages.digests() != new.packages.digests() {
        return all(None);
    }
    let with_tailwind = |path: &str| path.starts_with("tailwind.config.") || path.starts_with("postcss.config.");
    let decides = |path: &str| {
        path.starts_with("public/") || !path.contains('/') && (path.starts_with("vite.config.") || with_tailwind(path))
    };
    if let Some(by) = differing.iter().find(|path| decides(path.as_str())) {
        return all(Some(by));
    }
    if new.config.compiler != old.config.compiler || !new.config.paths_like(&old.config) {
        return all(differing.iter().find(|path| new.config.read.contains(path) || old.config.read.contains(path)));
    }
    let was_broken = old.broken();
    let broken = new.broken();
    if state.served_broken && was_broken.iter().any(|path| !broken.contains(path)) {
        return all(None);
    }
    let mut pages = differing.iter().filter(|path| path.extension() == Some("html") && !path.as_str().contains('/'));
    match (pages.next(), pages.next()) {
        (None, _) => None,
        (Some(page), None) => Some((format!("/{page}"), Some(page.to_string()))),
        (Some(by), Some(_)) => all(Some(by)),
    }
}

#[derive(Default)]
struct Updates {
    acceptors: Vec<Acceptor>,
    renewed: BTreeSet<FilePath>,
    pending: BTreeSet<FilePath>,
}

/// Who takes what changed; or the file whose change nobody takes.
fn updates(state: &State, old: &View, new: &View, differing: &[FilePath]) -> Result<Updates, FilePath> {
    let changed: HashSet<&FilePath> = differing.iter().chain(&state.pending).collect();
    let index = new.graph.index();
    let dirty: Vec<usize> = (old.graph.nodes.iter().enumerate())
        .filter(|(_, node)| {
            let now = index.get(&(node.path.as_str(), node.ask)).map(|at| &new.graph.nodes[*at]);
            now.is_some_and(|now| changed.contains(&node.path) || now.signature != node.signature)
        })
        .map(|(at, _)| at)
        .collect();
    let mut updates = Updates::default();
    if dirty.is_empty() {
        return Ok(updates);
    }
    let ways = Ways::of(&old.graph);
    let reaches: Vec<(usize, Reach)> = dirty.into_iter().map(|at| (at, ways.reach(at, None))).collect();
    let broken = new.broken();
    let known = old.graph.index();
    for (at, reach) in reaches {
        let node = &old.graph.nodes[at];
        let anew: HashSet<&str> = reach.renewed.iter().map(|at| old.graph.nodes[*at].path.as_str()).collect();
        let is_held = !broken.is_empty()
            && (reach.dead_end
                || anew.iter().any(|path| broken.contains(path))
                || blocks(
                    &old.graph,
                    &new.graph,
                    &reach,
                    &|node| anew.contains(node.path.as_str()) || !known.contains_key(&(node.path.as_str(), node.ask)),
                    &broken,
                ));
        if is_held {
            updates.pending.insert(node.path.clone());
        } else if reach.dead_end {
            return Err(node.path.clone());
        } else {
            updates.renewed.extend(reach.renewed.iter().map(|at| old.graph.nodes[*at].path.clone()));
            updates.acceptors.extend(reach.acceptors);
        }
    }
    updates.acceptors.sort_by(|a, b| (&a.path, &a.accepted, !a.circular).cmp(&(&b.path, &b.accepted, !b.circular)));
    updates.acceptors.dedup_by(|a, b| a.path == b.path && a.accepted == b.accepted);
    Ok(updates)
}

fn blocks(old: &Graph, new: &Graph, reach: &Reach, is_new: &dyn Fn(&Node) -> bool, broken: &HashSet<&str>) -> bool {
    let from: Vec<&Node> = reach.renewed.iter().map(|at| &old.nodes[*at]).collect();
    is_blocked(new, &from, is_new, broken)
}

/// The modules that nothing imports any more.
fn leaving(state: &State, old: &View, new: &View) -> BTreeSet<FilePath> {
    let index = new.graph.index();
    let gone = |path: &FilePath| !index.contains_key(&(path.as_str(), Ask::Plain));
    let were = old.graph.nodes.iter().filter(|node| node.ask == Ask::Plain).map(|node| &node.path);
    were.chain(&state.leaving).filter(|path| gone(path)).cloned().collect()
}
