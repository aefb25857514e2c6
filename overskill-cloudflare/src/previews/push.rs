//! Brings what is ready to a room: what differs from what it has, in one commit.

use super::{
    CloudflarePreviews, RoomStatus,
    room::{Given, State},
    server,
};
use crate::edge::{FRAME, Frame};
use bytes::Bytes;
use overskill_build::{
    packages::Prepared,
    preview::{AppPreview, Baked, BakedFile, CatchUp},
};
use overskill_core::{Digest, Error, ErrorKind, IdsExt as _, Result, Scope, StreamPosition};
use overskill_http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
};

/// How many bytes go in one request: several fit into the memory of an isolate.
const BATCH_BYTES: usize = 6 << 20;
/// How often a push begins again because the room had changed meanwhile.
const MOST_TURNS: usize = 4;
/// What stands in the place of a shelf where the app's own script serves a file.
const BY_SCRIPT: &str = "script";
/// How many sets are remembered to be at the edge.
const MOST_SHELVES: usize = 10_000;

/// What became of a push.
pub(super) enum Flushed {
    /// The room shows this.
    Shown(StreamPosition),
    /// It shows newer sources, which somebody else brought.
    Overtaken(StreamPosition),
}

/// The sets that are known to be at the edge.
#[derive(Debug, Default)]
pub(super) struct Shelves(Mutex<HashSet<Digest>>);

#[derive(Deserialize)]
struct Committed {
    done: bool,
    #[serde(default)]
    missing: Vec<Digest>,
    #[serde(flatten)]
    status: RoomStatus,
}

#[derive(Deserialize)]
struct Listed {
    files: BTreeMap<String, String>,
    #[serde(flatten)]
    status: RoomStatus,
}

#[derive(Deserialize)]
struct Shelf {
    complete: bool,
}

impl CloudflarePreviews {
    /// Brings the room to where the app is, and tells its viewers. If this is dropped or fails, the next call goes on with it.
    pub(super) async fn flush(&self, scope: &Scope, state: &mut State) -> Result<Flushed> {
        let Some(app) = state.app.clone() else { return Err(Error::invalid("nothing is open")) };
        if !state.dirty && state.given.is_some() {
            return Ok(Flushed::Shown(state.shown_at()));
        }
        let baked = app.bake().await;
        let push = self.push_id();
        if let (Some(builder), Some(env)) = (&self.0.servers, state.env.clone()) {
            server::build(&**builder, scope, &app, &env, state, &self.0.date, &push).await?;
        }
        let client = client_set(&baked);
        for set in baked.packages.iter().map(packages_of).chain([client.clone()]) {
            self.shelve(&set).await?;
        }
        let files = files_of(&baked, client.digest, self.0.mode.script(scope).as_deref());
        self.bring(scope, state, &files).await?;
        let mut absent: Vec<Digest> = Vec::new();
        for _ in 0..MOST_TURNS {
            let is_new = std::mem::take(&mut state.is_new);
            let before = match state.given.clone() {
                Some(given) => Some(given),
                // One request instead of two: should it show something after all, it refuses.
                None if is_new => None,
                None => match self.listed(scope, state, &baked).await? {
                    Found::Nothing => None,
                    Found::Shown(given) => Some(given),
                    Found::Newer(position) => return Ok(Flushed::Overtaken(position)),
                },
            };
            let told = state.news.len();
            let push = self.push_id();
            let server = state.server.as_ref().map_or(Value::Null, |built| built.told.clone());
            let prints = files.iter().map(|(key, file)| (key.clone(), file.print.clone())).collect();
            let given = Given { push: push.clone(), position: baked.position, files: prints, server };
            let commit = Commit {
                app: &app,
                baked: &baked,
                files: &files,
                before: before.as_ref(),
                state,
                push,
                is_new,
                client: client.digest,
            };
            let (head, frame) = self.prepared(scope, &commit, &absent).await?;
            state.sent = Some((given, told));
            let body = frame.into_body(head);
            let done: Committed = self.call(Method::Post, scope, "commit", |call| call.body(FRAME, body)).await?;
            let (given, told) = state.sent.clone().expect("it was put there");
            if done.done {
                state.given(given, told);
                return Ok(Flushed::Shown(baked.position));
            }
            absent = done.missing;
            if absent.is_empty() {
                // Somebody else changed the room, or it lost what it had.
                state.given = None;
                let newer = done.status.open_at().filter(|at| at.behind(baked.position).is_none());
                if let Some(at) = newer.filter(|at| at.incarnation == baked.position.incarnation) {
                    return Ok(Flushed::Overtaken(at));
                }
            }
        }
        Err(Error::new(ErrorKind::Conflict, "the preview's room was changed by somebody else again and again"))
    }

    fn push_id(&self) -> String {
        format!("{:016x}{:016x}", self.0.edge.ids().random_u64(), self.0.edge.ids().random_u64())
    }

    /// What a room has of which nothing is known here.
    async fn listed(&self, scope: &Scope, state: &mut State, baked: &Baked) -> Result<Found> {
        let listed: Listed = self.call(Method::Get, scope, "files", |call| call).await?;
        let Some(position) = listed.status.open_at() else { return Ok(Found::Nothing) };
        let push = listed.status.push.unwrap_or_default();
        // What was thought lost may have landed.
        if let Some((given, told)) = state.sent.take().filter(|(given, _)| given.push == push) {
            state.given(given.clone(), told);
            return Ok(Found::Shown(given));
        }
        if position.incarnation == baked.position.incarnation && position.seq > baked.position.seq {
            return Ok(Found::Newer(position));
        }
        Ok(Found::Shown(Given { push: format!("?{push}"), position, files: listed.files, server: Value::Null }))
    }

    /// The head of a commit and its bytes; what does not fit into one request is sent before.
    async fn prepared(&self, scope: &Scope, commit: &Commit<'_>, absent: &[Digest]) -> Result<(Value, Frame)> {
        let none = BTreeMap::new();
        let (before, after, known) = match commit.before {
            Some(given) => (&given.files, Some(given.push.trim_start_matches('?')), !given.push.starts_with('?')),
            None => (&none, None, true),
        };
        let changed: Vec<_> = commit.files.iter().filter(|(key, file)| before.get(*key) != Some(&file.print)).collect();
        let removed: Vec<_> = before.keys().filter(|key| !commit.files.contains_key(*key)).collect();
        let mut frames = vec![Frame::default()];
        let mut packed = HashSet::new();
        let wanted = commit.files.values().filter(|file| absent.contains(&file.digest));
        for file in changed.iter().map(|(_, file)| *file).chain(wanted) {
            let Some(body) = &file.body else { continue };
            if !packed.insert(file.digest) {
                continue;
            }
            let is_full = frames.last().is_some_and(|last| !last.is_empty() && last.len() + body.len() > BATCH_BYTES);
            if is_full {
                frames.push(Frame::default());
            }
            frames.last_mut().expect("there is one").push(file.digest, body.clone());
        }
        if let Some(built) = &commit.state.server {
            // They are small, and go along with the head that names them.
            let there = commit.before.is_some_and(|given| given.server == built.told) && absent.is_empty();
            for (digest, body) in built.blobs.iter().filter(|(digest, _)| !there && packed.insert(**digest)) {
                frames.last_mut().expect("there is one").push(*digest, body.clone());
            }
        }
        let last = frames.pop().unwrap_or_default();
        for frame in frames {
            let body = frame.into_body(json!({}));
            let _: RoomStatus = self.call(Method::Post, scope, "blobs", |call| call.body(FRAME, body)).await?;
        }
        let mut messages: Vec<String> = commit.state.news.iter().map(|message| message.text.clone()).collect();
        let differs = !changed.is_empty() || !removed.is_empty();
        if let Some(before) = commit.before.filter(|_| !known) {
            // Pages that are open were given by somebody else: what they need to be brought here is not known.
            messages = if differs { vec![reload(before.position, commit.baked.position)] } else { Vec::new() };
        }
        let mut problems = problems(commit.app);
        if let Some(problem) = commit.state.server.as_ref().and_then(|built| built.problem.clone()) {
            messages.push(problem.clone());
            problems.push(problem);
        }
        let mut shelves: Vec<_> = commit.baked.packages.iter().map(|set| set.digest).collect();
        shelves.push(commit.client);
        let head = json!({
            "push": commit.push,
            "after": if commit.is_new { Some("") } else { after },
            "position": commit.baked.position,
            "env": commit.state.env.as_ref().map(|env| env.revision.to_string()).unwrap_or_default(),
            "files": changed.iter().map(|(key, file)| file.told(key)).collect::<Vec<_>>(),
            "removed": removed,
            "shelves": shelves,
            "config": commit.baked.config,
            "messages": messages,
            "problems": problems,
            "server": commit.state.server.as_ref().map_or(&Value::Null, |built| &built.told),
        });
        Ok((head, last))
    }

    /// Sees to it that a set is at the edge.
    async fn shelve(&self, set: &Set) -> Result<()> {
        if self.0.shelves.0.lock().expect("nobody panics with this lock").contains(&set.digest) {
            return Ok(());
        }
        let name = set.digest.to_string();
        let path = ["shelves", name.as_str()];
        let edge = &self.0.edge;
        let there: Shelf = edge.ask(Method::Get, &path, "shelf", |call| call).await?;
        if !there.complete {
            let mut files = set.files.iter().peekable();
            while files.peek().is_some() {
                let (mut frame, mut listed, mut packed) = (Frame::default(), Vec::new(), HashSet::new());
                while let Some((name, file)) =
                    files.next_if(|(_, file)| frame.is_empty() || frame.len() + file.contents.len() <= BATCH_BYTES)
                {
                    let digest = Digest::of(&file.contents);
                    listed.push(json!({ "name": name, "type": file.content_type, "digest": digest }));
                    if packed.insert(digest) {
                        frame.push(digest, file.contents.clone());
                    }
                }
                let whole = files.peek().is_none();
                let body = frame.into_body(json!({ "files": listed, "whole": whole }));
                let _: Shelf = edge.ask(Method::Put, &path, "shelve", |call| call.body(FRAME, body)).await?;
            }
        }
        let mut known = self.0.shelves.0.lock().expect("nobody panics with this lock");
        if known.len() >= MOST_SHELVES {
            known.clear();
        }
        known.insert(set.digest);
        Ok(())
    }
}

/// What a room has.
enum Found {
    Nothing,
    Shown(Given),
    Newer(StreamPosition),
}

struct Commit<'a> {
    app: &'a AppPreview,
    baked: &'a Baked,
    files: &'a BTreeMap<String, File>,
    before: Option<&'a Given>,
    state: &'a State,
    push: String,
    /// It is for a room that shows nothing.
    is_new: bool,
    client: Digest,
}

/// A file as a room is told of it.
pub(super) struct File {
    content_type: String,
    cache_control: &'static str,
    status: u16,
    pub(super) digest: Digest,
    config_at: Option<usize>,
    /// `None`: it is on this shelf, under this name.
    body: Option<Bytes>,
    /// What it holds, where the app's script serves it out of KV.
    pub(super) in_kv: Option<Bytes>,
    shelf: Option<(String, String)>,
    /// As the room writes it: digest, status, type, shelf, place of the config.
    print: String,
}

impl File {
    fn told(&self, key: &str) -> Value {
        let mut told = json!({
            "key": key, "type": self.content_type, "cache": self.cache_control, "status": self.status, "digest": self.digest,
        });
        if let Some(at) = self.config_at {
            told["config_at"] = at.into();
        }
        if let Some((shelf, name)) = &self.shelf {
            told["shelf"] = shelf.as_str().into();
            told["name"] = name.as_str().into();
        }
        told
    }
}

/// `script`: the app's own, if it serves what is on no shelf.
fn files_of(baked: &Baked, client: Digest, script: Option<&str>) -> BTreeMap<String, File> {
    let file = |(key, file): (&String, &BakedFile)| {
        let shelf = match script {
            _ if file.shared => Some((client.to_string(), key.trim_start_matches(":@overskill/").to_owned())),
            Some(script) => Some((BY_SCRIPT.to_owned(), script.to_owned())),
            None => None,
        };
        let text = |text: Option<String>| text.unwrap_or_default();
        let print = format!(
            "{} {} {} {} {}",
            file.digest,
            file.status,
            file.content_type,
            text(shelf.as_ref().map(|(shelf, _)| shelf.clone())),
            text(file.config_at.map(|at| at.to_string())),
        );
        let file = File {
            content_type: file.content_type.clone(),
            cache_control: file.cache_control,
            status: file.status,
            digest: file.digest,
            config_at: file.config_at,
            body: shelf.is_none().then(|| file.body.clone()),
            in_kv: shelf.as_ref().is_some_and(|(shelf, _)| shelf == BY_SCRIPT).then(|| file.body.clone()),
            shelf,
            print,
        };
        (key.clone(), file)
    };
    baked.files.iter().map(file).collect()
}

/// Files that many apps share.
#[derive(Clone)]
struct Set {
    digest: Digest,
    files: BTreeMap<String, SetFile>,
}

#[derive(Clone)]
struct SetFile {
    content_type: String,
    contents: Bytes,
}

fn packages_of(prepared: &Arc<Prepared>) -> Set {
    let files = prepared.files.iter().map(|(name, file)| {
        (name.clone(), SetFile { content_type: file.content_type.clone(), contents: file.contents.clone() })
    });
    Set { digest: prepared.digest, files: files.collect() }
}

/// What the page itself is given, which is the same for all apps.
fn client_set(baked: &Baked) -> Set {
    let shared = baked.files.iter().filter(|(_, file)| file.shared);
    let files: BTreeMap<_, _> = shared
        .map(|(key, file)| {
            let name = key.trim_start_matches(":@overskill/").to_owned();
            (name, SetFile { content_type: file.content_type.clone(), contents: file.body.clone() })
        })
        .collect();
    let parts = files.iter().flat_map(|(name, file)| [name.as_bytes(), &file.contents[..]]);
    Set { digest: Digest::of_parts(parts), files }
}

/// What whoever comes is told is wrong.
fn problems(app: &AppPreview) -> Vec<String> {
    match app.catch_up(None, None) {
        CatchUp::Messages(messages) => messages.into_iter().map(|message| message.text).collect(),
        CatchUp::Reload(_) => Vec::new(),
    }
}

fn reload(from: StreamPosition, to: StreamPosition) -> String {
    let mut message = json!({ "type": "full-reload", "path": "*" });
    if from != to {
        message["position"] = json!({ "incarnation": format!("{:x}", to.incarnation.as_u64()), "seq": to.seq });
    }
    message.to_string()
}
