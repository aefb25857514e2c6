//! Pages: their scripts and style sheets under the names that they were built to.

use super::{
    names::Assets,
    walk::{App, Ground},
};
use crate::{
    Problem, Result,
    preview::{
        env,
        html::{LoadKind, Page, Tag, escaped},
        resolve::{Ask, Target},
        scan::{self, Sort},
    },
};
use overskill_core::{AppFile, FilePath, PageEnv, PageHole};
use std::collections::{BTreeMap, BTreeSet};

/// A page of the sources.
pub(super) struct PageRoot {
    pub(super) path: FilePath,
    html: String,
    page: Page,
    /// What each of its tags leads to.
    leads: Vec<Lead>,
}

/// What a tag leads to.
enum Lead {
    Script(usize),
    Style(FilePath),
    Public(FilePath),
    Elsewhere,
}

/// The files that Vite reads for production; a later one counts more.
const ENV_FILES: [&str; 4] = [".env", ".env.local", ".env.production", ".env.production.local"];

/// Reads the pages, and takes in what they load.
pub(super) fn read(ground: &Ground, app: &mut App) -> Vec<PageRoot> {
    let mut roots = Vec::new();
    for (path, html) in scan::pages(&ground.files) {
        let page = Page::read(html).with_head_end();
        let leads = page.loads.iter().map(|load| match scan::load(ground.sources(), path.as_str(), &load.kind) {
            Some(Ok(Target::File(to, Ask::Linked))) => {
                app.take(ground, &to, Ask::Linked);
                Lead::Style(to)
            }
            Some(Ok(Target::File(to, ask))) => Lead::Script(app.take(ground, &to, ask)),
            Some(Ok(Target::Public(to, _))) => Lead::Public(to),
            _ => Lead::Elsewhere,
        });
        let leads = leads.collect();
        roots.push(PageRoot { path: path.clone(), html: html.to_owned(), page, leads });
    }
    app.problems.extend(scan::page_problems(ground.sources()).into_iter().filter(|it| !runs_nothing(it)));
    roots
}

/// A page without scripts is a page all the same.
fn runs_nothing(problem: &Problem) -> bool {
    problem.message.contains("loads no script")
}

impl PageRoot {
    /// The units that its scripts begin with.
    pub(super) fn scripts(&self) -> Vec<usize> {
        let scripts = self.leads.iter().filter_map(|it| if let Lead::Script(unit) = it { Some(*unit) } else { None });
        let mut scripts: Vec<usize> = scripts.collect();
        scripts.dedup();
        scripts
    }

    /// The sheets that it links to.
    pub(super) fn linked(&self) -> impl Iterator<Item = &FilePath> {
        self.leads.iter().filter_map(|it| if let Lead::Style(path) = it { Some(path) } else { None })
    }

    /// Files of the sources that it names otherwise: pictures, icons. They keep their addresses.
    pub(super) fn other_files(&self, ground: &Ground) -> BTreeMap<FilePath, AppFile> {
        let mut found = BTreeMap::new();
        for (name, value) in attributes(&self.html) {
            let addresses: Vec<&str> = match name.as_str() {
                "srcset" => value.split(',').filter_map(|it| it.split_whitespace().next()).collect(),
                "src" | "href" | "poster" | "content" | "data" => vec![value.as_str()],
                _ => continue,
            };
            for address in addresses {
                let plain = address.split(['?', '#']).next().unwrap_or_default();
                let decoded = percent_encoding::percent_decode_str(plain).decode_utf8_lossy();
                let inside = decoded.trim_start_matches("./").trim_start_matches('/');
                let Some((path, file)) = ground.files.get(inside) else { continue };
                if Sort::of(inside) == Sort::Asset && path.extension() != Some("html") && !inside.starts_with("public/")
                {
                    found.insert(path.clone(), (**file).clone());
                }
            }
        }
        found
    }

    /// The page, with `head` at the end of its head.
    pub(super) fn write(
        &self,
        head: &[String],
        script: impl Fn(usize) -> Option<String>,
        style: impl Fn(&FilePath) -> Option<String>,
        defaults: &BTreeMap<String, String>,
    ) -> (String, Vec<PageHole>) {
        let names = variables(&self.html);
        let marks: BTreeMap<&str, String> =
            names.iter().enumerate().map(|(n, name)| (name.as_str(), format!("overskillValue{n}Here"))).collect();
        let value = |name: &str| match name {
            "BASE_URL" => Some("/"),
            "PROD" => Some("true"),
            "DEV" | "SSR" => Some("false"),
            name => marks.get(name).map(String::as_str),
        };
        let mut next = self.leads.iter();
        let mut tag = |kind: &LoadKind| match next.next() {
            Some(Lead::Script(unit)) => script(*unit).map_or(Tag::Same, Tag::At),
            Some(Lead::Style(path)) => style(path).map_or(Tag::Same, Tag::At),
            Some(Lead::Public(path)) if !matches!(kind, LoadKind::Inline(..)) => {
                Tag::At(path.as_str()["public".len()..].to_owned())
            }
            _ => Tag::Same,
        };
        let html = self.page.write(&self.html, &head.concat(), &mut tag, &value);
        let by_mark: BTreeMap<&str, &str> = marks.iter().map(|(name, mark)| (mark.as_str(), *name)).collect();
        holes(&html, &by_mark, defaults)
    }
}

/// The tags that load scripts ahead of time, and style sheets.
pub(super) fn head_tags(scripts: &[String], styles: &[String]) -> Vec<String> {
    let scripts = scripts.iter().map(|it| format!("<link rel=\"modulepreload\" href=\"{}\">\n", escaped(it)));
    let styles = styles.iter().map(|it| format!("<link rel=\"stylesheet\" href=\"{}\">\n", escaped(it)));
    scripts.chain(styles).collect()
}

/// What the sources themselves say of variables.
pub(super) fn defaults(ground: &Ground) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for name in ENV_FILES {
        if let Some(text) = ground.files.text(name) {
            env::parse(text, &mut all);
        }
    }
    all.retain(|name, _| name.starts_with("VITE_"));
    all
}

/// Where variables come from when the environment has none; nothing if nothing asks for them.
pub(super) fn page_env(
    module: bool,
    defaults: BTreeMap<String, String>,
    pages: BTreeMap<FilePath, Vec<PageHole>>,
) -> Result<Option<PageEnv>> {
    if !module && pages.is_empty() {
        return Ok(None);
    }
    let module = module.then(|| FilePath::parse(super::emit::ENV_MODULE)).transpose()?;
    Ok(Some(PageEnv { module, defaults, pages }))
}

/// Adds what lies in `public/`, as it is.
pub(super) fn public_files(ground: &Ground, assets: &mut Assets) -> Result<()> {
    for (path, file) in ground.files.iter() {
        if let Some(inside) = path.as_str().strip_prefix("public/") {
            assets.files.insert(FilePath::parse(inside)?, (**file).clone());
        }
    }
    Ok(())
}

/// The names of variables that stand in a page as `%NAME%`.
fn variables(html: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in html.match_indices('%') {
        let rest = &html[at + 1..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = &rest[..end];
        if rest[end..].starts_with('%') && (name.starts_with("VITE_") || name == "MODE") {
            names.insert(name.to_owned());
        }
    }
    names
}

/// The page with its own values, and where they stand.
fn holes(html: &str, by_mark: &BTreeMap<&str, &str>, defaults: &BTreeMap<String, String>) -> (String, Vec<PageHole>) {
    let raw = Page::read(html).raw;
    let (mut page, mut holes, mut done) = (String::with_capacity(html.len()), Vec::new(), 0);
    while let Some((at, mark, name)) = by_mark
        .iter()
        .filter_map(|(mark, name)| Some((done + html[done..].find(mark)?, *mark, *name)))
        .min_by_key(|(at, ..)| *at)
    {
        page.push_str(&html[done..at]);
        let raw = raw.iter().any(|it| it.contains(&at));
        let own = match (name, defaults.get(name)) {
            ("MODE", _) => "production".to_owned(),
            (_, Some(value)) if raw => value.replace("</", "<\\/").replace("<!--", "<\\!--"),
            (_, Some(value)) => escaped(value),
            (_, None) => format!("%{name}%"),
        };
        holes.push(PageHole { at: page.len(), length: own.len(), name: name.to_owned(), raw });
        page.push_str(&own);
        done = at + mark.len();
    }
    page.push_str(&html[done..]);
    (page, holes)
}

fn attributes(html: &str) -> Vec<(String, String)> {
    use html5gum::{DefaultEmitter, Token, Tokenizer};
    let mut emitter = DefaultEmitter::<usize>::new_with_span();
    emitter.naively_switch_states(true);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut found = Vec::new();
    for token in Tokenizer::new_with_emitter(html, emitter).flatten() {
        if let Token::StartTag(tag) = token {
            found.extend(tag.attributes.iter().map(|(name, value)| (text(name), text(value))));
        }
    }
    found
}
