//! Answers to requests.

use super::{
    PageRequest, PageResponse, ahead,
    client::{REFRESH_PREAMBLE, client_file},
    html::{LoadKind, Page, Tag, escaped, in_script},
    messages, modules,
    path::{Params, content_type, decode, is_private, looks_like_file},
    resolve::{Ask, Target},
    scan::{self, Sort},
    style,
    tailwind::{self, CANDIDATES_FILE, CORE_FILE},
    view::View,
};
use crate::{Problem, ProblemKind};
use bytes::Bytes;
use overskill_core::{AppFile, Digest, FilePath};
use serde_json::{Value, json};

const NO_CACHE: &str = "no-cache";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
/// Where every page's first script is.
pub(super) const CLIENT: &str = "/@overskill/client.js";
const HTML: &str = "text/html; charset=utf-8";

/// Answers, and says whether it had to say that a module is broken.
pub(super) fn respond(view: &View, request: &PageRequest) -> (PageResponse, bool) {
    match answer(view, request) {
        Ok(found) => (found.response(request), false),
        Err(Refusal::Bad(why)) => (plain(400, format!("{why}.\n")), false),
        Err(Refusal::Missing(what)) => (plain(404, what), false),
        Err(Refusal::Broken(problem)) => (plain(500, broken(&problem)), true),
    }
}

/// What somebody else will serve.
pub(super) struct Answer {
    pub(super) content_type: String,
    pub(super) cache_control: &'static str,
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// The whole answer to a request, for who serves it later; `None` where there is nothing.
pub(super) fn baked(view: &View, request: &PageRequest) -> Option<Answer> {
    match answer(view, request) {
        Ok(Found { content_type, cache, body, status, .. }) => {
            Some(Answer { content_type, cache_control: cache, status, body })
        }
        Err(Refusal::Bad(_) | Refusal::Missing(_)) => None,
        Err(Refusal::Broken(problem)) => Some(Answer {
            content_type: "text/plain; charset=utf-8".to_owned(),
            cache_control: "no-store",
            status: 500,
            body: broken(&problem).into(),
        }),
    }
}

fn broken(problem: &Problem) -> String {
    format!("{problem}\n{}", problem.frame.as_deref().unwrap_or_default())
}

struct Found {
    content_type: String,
    cache: &'static str,
    body: Bytes,
    /// What is known of the body without looking at it.
    etag: Option<String>,
    status: u16,
}

enum Refusal {
    Bad(&'static str),
    Missing(String),
    Broken(Problem),
}

impl Found {
    fn new(content_type: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { content_type: content_type.into(), cache: NO_CACHE, body: body.into(), etag: None, status: 200 }
    }

    fn file(path: &str, file: &AppFile) -> Self {
        let etag = Some(tag(file.digest()));
        Self { etag, ..Self::new(content_type(path), file.contents().clone()) }
    }

    fn response(self, request: &PageRequest) -> PageResponse {
        let etag = self.etag.unwrap_or_else(|| tag(Digest::of(&self.body)));
        let held = request.if_none_match.as_deref().unwrap_or_default();
        let same = held.split(',').map(|one| one.trim().trim_start_matches("W/")).any(|one| one == etag || one == "*");
        let unchanged = same && self.status == 200;
        let mut headers = vec![("cache-control", self.cache.to_owned()), ("etag", etag)];
        if !unchanged {
            headers.insert(0, ("content-type", self.content_type));
        }
        let (status, body) = if unchanged { (304, Bytes::new()) } else { (self.status, self.body) };
        PageResponse { status, headers, body }
    }
}

fn tag(digest: Digest) -> String {
    format!("\"{}\"", &digest.to_string()[..32])
}

fn plain(status: u16, text: String) -> PageResponse {
    let headers = vec![
        ("content-type", "text/plain; charset=utf-8".to_owned()),
        ("cache-control", "no-store".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
    ];
    PageResponse { status, headers, body: text.into() }
}

fn answer(view: &View, request: &PageRequest) -> Result<Found, Refusal> {
    let path = decode(&request.path).map_err(Refusal::Bad)?;
    let params = Params::of(request.query.as_deref());
    if let Some(name) = path.strip_prefix("@overskill/") {
        return own(view, name);
    }
    if let Some(rest) = path.strip_prefix("@npm/") {
        return package(view, rest, params);
    }
    if path.is_empty() {
        return page(view, "index.html", request);
    }
    if let Some(public) = public_file(view, &path) {
        if params.has("import") {
            return Ok(Found::new(SCRIPT, modules::default_export(&format!("/{path}"))));
        }
        return Ok(Found::file(&path, public));
    }
    if let Some((file_path, file)) = view.files.get(&path) {
        return source(view, request, params, file_path, file);
    }
    if path == "index.html" {
        return page(view, "index.html", request);
    }
    let wants_page = request.accept.as_deref().is_some_and(|accept| accept.contains("text/html"));
    if wants_page && !path.starts_with('@') && !is_private(&path) && !looks_like_file(&path) {
        return page(view, "index.html", request);
    }
    Err(missing(&path))
}

fn missing(path: &str) -> Refusal {
    let shown: String = path.chars().take(200).collect();
    Refusal::Missing(format!("There is no /{shown} in this app.\n"))
}

fn public_file<'v>(view: &'v View, path: &str) -> Option<&'v AppFile> {
    let hidden = path.split('/').any(|segment| segment.starts_with('.') && segment != ".well-known");
    let (_, file) = view.files.get(&format!("public/{path}")).filter(|_| !hidden)?;
    Some(file)
}

fn own(view: &View, name: &str) -> Result<Found, Refusal> {
    let script = |code: String| Ok(Found::new(SCRIPT, code));
    match name {
        "env.js" => script(view.env.module()),
        CANDIDATES_FILE => script(view.shared.words.module(view.files.iter().map(|(path, file)| (path, &**file)))),
        CORE_FILE => {
            let packages = view.packages();
            let own = packages.prepared.as_ref().filter(|it| it.entries.contains_key("tailwindcss/index.css"));
            let Some(prepared) = own.or(packages.tailwind.as_ref()) else {
                let why =
                    packages.failure.as_deref().cloned().unwrap_or_else(|| {
                        Problem::new(ProblemKind::Package, "no style sheet of this app uses Tailwind")
                    });
                return Err(Refusal::Broken(why));
            };
            let code = tailwind::core_module(prepared, |file| modules::package_address(prepared.digest, file));
            script(code.map_err(|problem| Refusal::Broken(*problem))?)
        }
        name => {
            let file = client_file(name).ok_or_else(|| missing(&format!("@overskill/{name}")))?;
            let body = Bytes::from_static(file.contents.as_bytes());
            Ok(Found { etag: Some(file.etag.clone()), ..Found::new(file.content_type, body) })
        }
    }
}

/// The code of one of our own modules, if it imports others.
pub(super) fn own_code(view: &View, name: &str) -> Option<String> {
    if name == CANDIDATES_FILE || name == "env.js" {
        return None;
    }
    let found = own(view, name).ok()?;
    Some(String::from_utf8_lossy(&found.body).into_owned())
}

fn package(view: &View, rest: &str, params: Params<'_>) -> Result<Found, Refusal> {
    let not_there =
        || Refusal::Missing(format!("There is no /@npm/{rest}: the packages changed; load the page anew.\n"));
    let (digest, name) = rest.split_once('/').ok_or_else(not_there)?;
    let file = view.package_file(digest, name).ok_or_else(not_there)?;
    let known: Digest = digest.parse().map_err(|_| not_there())?;
    if !params.has("import") {
        let etag = tag(Digest::of_parts([known.as_bytes().as_slice(), name.as_bytes()]));
        let cache = FOR_EVER;
        return Ok(Found { cache, etag: Some(etag), ..Found::new(file.content_type.clone(), file.contents.clone()) });
    }
    let address = modules::package_address(known, name);
    let contents = || AppFile::new(file.contents.clone());
    let is_style = file.content_type.starts_with("text/css");
    Ok(Found::new(
        SCRIPT,
        if params.has("url") {
            modules::default_export(&address)
        } else if params.has("raw") {
            modules::default_export(&String::from_utf8_lossy(&file.contents))
        } else if params.has("inline") && is_style {
            modules::default_export(&style::package_text(view, known, name, &contents()))
        } else if is_style {
            style::of_package(view, known, name, &contents())
        } else {
            modules::default_export(&address)
        },
    ))
}

fn source(
    view: &View,
    request: &PageRequest,
    params: Params<'_>,
    path: &FilePath,
    file: &AppFile,
) -> Result<Found, Refusal> {
    let asked =
        [("raw", Ask::Raw), ("url", Ask::Url), ("inline", Ask::Inline), ("worker", Ask::Worker), ("init", Ask::Init)];
    let ask = asked.into_iter().find(|(name, _)| params.has(name)).map_or(Ask::Plain, |(_, ask)| ask);
    // What the app itself imports, it may load: a version out of package.json.
    if is_private(path.as_str()) && !(params.has("import") || ask != Ask::Plain) {
        return Err(missing(path.as_str()));
    }
    if is_private(path.as_str()) && !view.graph.has(path.as_str(), ask) {
        return Err(missing(path.as_str()));
    }
    let broken = |problem: std::sync::Arc<Problem>| Refusal::Broken((*problem).clone());
    if path.extension() == Some("html") && ask == Ask::Plain {
        if let Some(index) = params.get("index").filter(|_| params.has("html-proxy")) {
            let index = index.strip_suffix(".js").and_then(|index| index.parse().ok());
            let inline = index.and_then(|index| scan::inline_path(path.as_str(), index));
            let inline = inline.filter(|inline| scan::source(&view.files, inline.as_str()).is_some());
            let inline = inline.ok_or_else(|| missing(path.as_str()))?;
            return Ok(Found::new(SCRIPT, modules::module(view, &inline, Ask::Plain).map_err(broken)?));
        }
        return page(view, path.as_str(), request);
    }
    let sort = Sort::of(path.as_str());
    let is_link =
        params.has("direct") || request.accept.as_deref().is_some_and(|accept| accept.starts_with("text/css"));
    let json = path.extension() == Some("json");
    match (ask, sort) {
        (Ask::Plain, Sort::Style) if is_link => Ok(Found::new(STYLE, style::text(view, path).map_err(broken)?)),
        (Ask::Plain, Sort::Asset) if !params.has("import") => Ok(Found::file(path.as_str(), file)),
        (Ask::Plain, Sort::Script) if json && !params.has("import") => Ok(Found::file(path.as_str(), file)),
        _ => Ok(Found::new(SCRIPT, modules::module(view, path, ask).map_err(broken)?)),
    }
}

fn page(view: &View, path: &str, request: &PageRequest) -> Result<Found, Refusal> {
    let mut head = head(view, request);
    let Some(html) = view.files.text(path) else {
        let problems = scan::page_problems(view.sources());
        let problem = problems.into_iter().next().ok_or_else(|| missing(path))?;
        return Ok(Found { status: 404, ..Found::new(HTML, nothing_to_show(&head, &problem)) });
    };
    let page = Page::read(html);
    let scripts = page.loads.iter().filter_map(|it| match scan::load(view.sources(), path, &it.kind) {
        Some(Ok(Target::File(to, Ask::Plain))) => Some(to),
        Some(Ok(Target::File(to, Ask::Linked))) if scan::is_tailwind(view.sources(), &to) => Some(to),
        _ => None,
    });
    head.push_str(&ahead::links(view, scripts));
    let written = page.write(
        html,
        &head,
        &mut |kind| match scan::load(view.sources(), path, kind) {
            Some(Ok(Target::File(to, Ask::Linked))) => {
                if scan::is_tailwind(view.sources(), &to) {
                    Tag::AsScript(view.address(&to, Ask::Plain, false))
                } else {
                    Tag::At(view.address(&to, Ask::Linked, false))
                }
            }
            Some(Ok(Target::File(to, ask))) => Tag::At(view.address(&to, ask, false)),
            Some(Ok(Target::Public(to, _))) => Tag::At(to.as_str()["public".len()..].to_owned()),
            Some(Ok(Target::Package(..) | Target::Address(_)) | Err(_)) | None => match kind {
                LoadKind::Script(_) | LoadKind::Style(_) | LoadKind::Inline(..) => Tag::Same,
            },
        },
        &|name| view.env.in_page(name),
    );
    Ok(Found::new(HTML, written))
}

/// What a page is told, but for its token.
pub(super) fn first_config(view: &View) -> Value {
    let mut config = page_config(view);
    config["position"] = messages::position(view.position);
    config["epoch"] = view.epoch.into();
    config
}

/// What every page of an app is told, wherever it stands.
pub(super) fn page_config(view: &View) -> Value {
    let mut config = json!({});
    if !view.shared.inspect_origins.is_empty() {
        config["inspectOrigins"] = json!(view.shared.inspect_origins);
        config["postErrors"] = true.into();
    }
    config
}

/// What stands first in every page: where it is, the client, and what has to be there before React.
fn head(view: &View, request: &PageRequest) -> String {
    let mut config = first_config(view);
    if let Some(token) = &request.socket_token {
        config["token"] = token.as_str().into();
    }
    let mut head = format!(
        "<script id=\"overskill-preview\" type=\"application/json\">{}</script>\
         <script type=\"module\" src=\"{CLIENT}\"></script>",
        in_script(&config)
    );
    if view.graph.refreshes() || view.config.dependencies.contains("react") {
        head.push_str(REFRESH_PREAMBLE);
    }
    head
}

fn nothing_to_show(head: &str, problem: &Problem) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head>{head}<meta charset=\"utf-8\"><title>Nothing to show yet</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1rem;color:#222}}\
         code{{background:#f2f2f4;padding:.1em .3em;border-radius:4px}}</style></head>\
         <body><h1>Nothing to show yet</h1><p>{}</p><p>{}</p></body></html>",
        escaped(&problem.message),
        escaped(problem.help.as_deref().unwrap_or_default())
    )
}
