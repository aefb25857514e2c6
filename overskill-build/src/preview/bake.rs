//! Everything that pages may ask for, for hosts that serve bytes and know nothing else.

use super::{
    PageRequest,
    client::client_files,
    html::in_script,
    path::is_private,
    resolve::Ask,
    scan::{self, Sort},
    serve::{self, Answer},
    tailwind::{CANDIDATES_FILE, CORE_FILE},
    view::View,
};
use crate::packages::Prepared;
use bytes::Bytes;
use overskill_core::{Digest, FilePath, StreamPosition};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

/// An app's preview as it is at one position, ready to be served by a host that cannot ask an engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Baked {
    /// The position of the sources.
    pub position: StreamPosition,
    /// What there is, by `{form}:{path}`. The path has no `/` before it and is not encoded; the form is what the query of a
    /// request asks for: empty (the file as what it is), `import` (the module that stands for it), `raw`, `url`, `inline`,
    /// `worker`, `init`, `css` (a sheet that a page links to), or `proxy{index}` (an inline script of a page).
    pub files: BTreeMap<String, BakedFile>,
    /// The packages whose files are asked for under `/@npm/{digest}/{name}`; they never change.
    pub packages: Vec<Arc<Prepared>>,
    /// What pages are told besides their position, epoch and token.
    pub config: Value,
}

/// A file that is ready to be served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BakedFile {
    /// Its media type.
    pub content_type: String,
    /// The `cache-control` header.
    pub cache_control: &'static str,
    /// 200; 404 for a page that says that there is none; 500 for a module that is broken.
    pub status: u16,
    /// Its bytes.
    pub body: Bytes,
    /// Their digest; its first 32 digits are its `ETag`.
    pub digest: Digest,
    /// In a page: where its config belongs, as JSON in which every `<` is written as `\u003c`. It has `position`, `epoch` and
    /// `token`, and what is in [`Baked::config`].
    pub config_at: Option<usize>,
    /// It is the same for every app of this version.
    pub shared: bool,
}

/// What a path keeps as it is.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

pub(super) fn bake(view: &View) -> Baked {
    let mut oven = Oven { view, files: BTreeMap::new(), wanted: Vec::new() };
    oven.put("", "", "", None, false);
    for (path, file) in view.files.iter() {
        let json = path.extension() == Some("json");
        let path = path.as_str();
        if file.size_bytes() > MOST_FILE_BYTES {
            continue;
        }
        if let Some(public) = path.strip_prefix("public/") {
            oven.put("", public, "", None, false);
            oven.put("import", public, "import", None, false);
        }
        if is_private(path) {
            continue;
        }
        match Sort::of(path) {
            // Pages are among them.
            Sort::Asset => {
                oven.put("", path, "", None, false);
                oven.put("import", path, "import", None, false);
            }
            Sort::Script if json => oven.put("", path, "", None, false),
            Sort::Script | Sort::Style => {}
        }
    }
    for node in &view.graph.nodes {
        oven.node(&node.path, node.ask);
    }
    if view.has_tailwind() {
        oven.own(CORE_FILE, false);
        oven.own(CANDIDATES_FILE, false);
        if let Some(path) = scan::tailwind_config(&view.files) {
            oven.node(path, Ask::Plain);
        }
    }
    oven.own("env.js", false);
    for file in client_files() {
        oven.own(file.name, true);
    }
    // What modules ask of packages besides the files themselves stands in their code.
    while let Some(address) = oven.wanted.pop() {
        oven.address(&address);
    }
    let packages = view.packages();
    let sets = [&packages.prepared, &packages.previous, &packages.tailwind];
    Baked {
        position: view.position,
        files: oven.files,
        packages: sets.into_iter().flatten().cloned().collect(),
        config: serve::page_config(view),
    }
}

/// Larger ones are not served by hosts that keep everything they serve.
const MOST_FILE_BYTES: u64 = 16 << 20;

struct Oven<'v> {
    view: &'v View,
    files: BTreeMap<String, BakedFile>,
    /// Addresses with a query that were seen and not looked at yet.
    wanted: Vec<String>,
}

impl Oven<'_> {
    fn node(&mut self, path: &FilePath, ask: Ask) {
        let at = path.as_str();
        if let Some((page, index)) = at.split_once("?html-proxy&index=") {
            let query = format!("html-proxy&index={index}");
            return self.put(&format!("proxy{index}"), page, &query, None, false);
        }
        let import = if scan::is_plain_import(at) { "" } else { "import" };
        match ask {
            Ask::Plain => self.put(import, at, import, None, false),
            Ask::Linked => self.put("css", at, "", Some("text/css,*/*;q=0.1"), false),
            Ask::Part => {}
            Ask::Raw | Ask::Url | Ask::Inline | Ask::Worker | Ask::Init => {
                let name = ask.name().unwrap_or_default();
                self.put(name, at, &format!("import&{name}"), None, false);
                // Its address leads to the file itself.
                if matches!(ask, Ask::Url | Ask::Worker) {
                    self.put("", at, "", None, false);
                }
            }
        }
    }

    fn own(&mut self, name: &str, shared: bool) {
        self.put("", &format!("@overskill/{name}"), "", None, shared);
    }

    /// Something of a package: `/@npm/{digest}/{name}?import…`.
    fn address(&mut self, address: &str) {
        let Some((path, query)) = address.split_once('?') else { return };
        let form = query.rsplit('&').next().unwrap_or_default();
        self.put(form, path.trim_start_matches('/'), query, None, false);
    }

    fn put(&mut self, form: &str, path: &str, query: &str, accept: Option<&str>, shared: bool) {
        let key = format!("{form}:{path}");
        if self.files.contains_key(&key) {
            return;
        }
        let mut request = PageRequest::get(format!("/{}", utf8_percent_encode(path, PLAIN)));
        request.query = (!query.is_empty()).then(|| query.to_owned());
        request.accept = accept.map(str::to_owned);
        let Some(Answer { content_type, cache_control, status, mut body }) = serve::baked(self.view, &request) else {
            return;
        };
        let mut config_at = None;
        if content_type.starts_with("text/html") {
            let config = in_script(&serve::first_config(self.view));
            let head = format!("type=\"application/json\">{config}</script>");
            let at = find(&body, head.as_bytes()).map(|at| at + "type=\"application/json\">".len());
            if let Some(at) = at {
                body = [&body[..at], &body[at + config.len()..]].concat().into();
                config_at = Some(at);
            }
        } else if content_type.starts_with("text/javascript") && !shared {
            self.look_for_packages(&body);
        }
        let digest = Digest::of(&body);
        self.files.insert(key, BakedFile { content_type, cache_control, status, body, digest, config_at, shared });
    }

    fn look_for_packages(&mut self, code: &[u8]) {
        let Ok(code) = str::from_utf8(code) else { return };
        for (at, _) in code.match_indices("/@npm/") {
            let address = code[at..].split(['"', '\'', '`', ')', '\\', ' ', '\n']).next().unwrap_or_default();
            if address.contains('?') {
                self.wanted.push(address.to_owned());
            }
        }
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
