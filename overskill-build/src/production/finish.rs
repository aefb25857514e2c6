//! From what the bundler wrote to files with names that say what is in them.

use super::{
    bundle::MODULES_OF_APP,
    emit::unit_of,
    names::{hashed_path, stem_and_extension},
    tokens::{Token, replace, tokens},
};
use crate::{Error, Result, packages::esbuild::Metafile};
use overskill_core::{AppFile, Digest, ErrorKind, FilePath};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// A file that came out, before it has its name.
pub(super) struct Out {
    stem: String,
    extension: String,
    contents: Contents,
    /// Scripts that it loads at once.
    loads: Vec<String>,
    /// The style sheet that packages bring along with it.
    style: Option<String>,
}

enum Contents {
    Text(String),
    Bytes(Vec<u8>),
}

/// Everything that comes out, by the tokens that stand for the names.
#[derive(Default)]
pub(super) struct Outs {
    all: BTreeMap<String, Out>,
    /// What stands for a list of tokens, or for a text.
    lists: BTreeMap<String, Vec<String>>,
    texts: BTreeMap<String, String>,
    bytes: u64,
}

/// Files with their names.
#[derive(Default)]
pub(super) struct Named {
    pub(super) files: BTreeMap<FilePath, AppFile>,
    /// Where each token's file is.
    paths: BTreeMap<String, FilePath>,
}

impl Outs {
    /// Takes what a run of the bundler wrote. `stem` gives what a unit's file is called after. Blocks.
    pub(super) fn read(
        &mut self,
        folder: &Path,
        meta: &Metafile,
        most_bytes: u64,
        stem: impl Fn(usize) -> Option<String>,
    ) -> Result<()> {
        let failed = |e| Error::new(ErrorKind::Unavailable, "what the bundler wrote could not be read").caused_by(e);
        for (path, output) in &meta.outputs {
            let (token, extension) = stem_and_extension(path);
            let bytes = fs::read(folder.join(path)).map_err(failed)?;
            self.bytes += bytes.len() as u64;
            if self.bytes > most_bytes {
                let why = format!(
                    "the built app has more than {most_bytes} bytes; that is the limit: use fewer packages, or smaller ones"
                );
                return Err(Error::invalid(why.clone()).public(why));
            }
            let called = output.entry_point.as_deref().and_then(unit_of).and_then(&stem);
            let source = || output.inputs.iter().next().map(|it| stem_and_extension(it).0.to_owned());
            let text = matches!(extension, "js" | "css");
            let own = called.unwrap_or_else(|| if text { "chunk".to_owned() } else { source().unwrap_or_default() });
            let loads = output.imports.iter().filter(|it| it.kind == "import-statement");
            let name = |path: &str| stem_and_extension(path).0.to_owned();
            let contents = match String::from_utf8(bytes) {
                Ok(code) if text => Contents::Text(code),
                Ok(other) => Contents::Bytes(other.into_bytes()),
                Err(e) => Contents::Bytes(e.into_bytes()),
            };
            // A script and its style sheet have one name there.
            let key = key(token, extension);
            let out = Out {
                stem: own,
                extension: extension.to_owned(),
                contents,
                loads: loads.map(|it| name(&it.path)).filter(|it| it.starts_with("__overskill_")).collect(),
                style: output.css_bundle.as_deref().map(|it| self::key(&name(it), "css")),
            };
            self.all.insert(key, out);
        }
        Ok(())
    }

    /// Adds a style sheet under a name of its own.
    pub(super) fn add_style(&mut self, key: &str, stem: &str, css: String) {
        let (loads, style) = (Vec::new(), None);
        let (stem, contents) = (stem.to_owned(), Contents::Text(css));
        self.all.insert(key.to_owned(), Out { stem, extension: "css".to_owned(), contents, loads, style });
    }

    pub(super) fn set_text(&mut self, token: Token, text: String) {
        self.texts.insert(token.to_string(), text);
    }

    /// What stands for what has to be loaded along with a unit: `styles`, and what its file loads but for `there`.
    pub(super) fn set_loads(&mut self, unit: usize, styles: &[String], there: &BTreeSet<String>) {
        let (scripts, own_styles) = self.reached(&Token::Entry(unit).to_string());
        let mut list: Vec<String> = own_styles;
        list.extend(styles.iter().cloned());
        // With nothing else to load, the import itself is enough.
        let mut scripts: Vec<String> = scripts.into_iter().filter(|it| !there.contains(it)).collect();
        if scripts.len() == 1 {
            scripts.clear();
        }
        list.extend(scripts);
        self.lists.insert(Token::Loads(unit).to_string(), list);
    }

    /// The scripts that a file loads at once, itself among them, and the style sheets that packages bring with them.
    pub(super) fn reached(&self, key: &str) -> (Vec<String>, Vec<String>) {
        let (mut scripts, mut styles, mut left) = (Vec::new(), Vec::new(), vec![key.to_owned()]);
        while let Some(next) = left.pop() {
            let Some(out) = self.all.get(&next).filter(|_| !scripts.contains(&next)) else { continue };
            styles.extend(out.style.clone());
            left.extend(out.loads.iter().rev().cloned());
            scripts.push(next);
        }
        (scripts, styles)
    }

    /// Gives everything its name.
    ///
    /// A file names others, and they may name it: so its hash is of all that it leads to, with the names left out.
    pub(super) fn name(self) -> Result<Named> {
        let mut leads: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut own: BTreeMap<&str, Digest> = BTreeMap::new();
        for (key, out) in &self.all {
            let mut to = BTreeSet::new();
            let digest = match &out.contents {
                Contents::Bytes(bytes) => Digest::of(bytes),
                Contents::Text(text) => {
                    let mut left_out = text.clone();
                    for token in tokens(text).map(|(_, _, token)| token) {
                        let known = self.names_of(token);
                        if !known.is_empty() || self.texts.contains_key(token) {
                            left_out = left_out.replace(token, "");
                        }
                        to.extend(known);
                        if let Some(put) = self.texts.get(token) {
                            left_out.push_str(put);
                        }
                    }
                    Digest::of(left_out.as_bytes())
                }
            };
            own.insert(key, Digest::of_parts([out.stem.as_bytes(), digest.as_bytes()]));
            leads.insert(key, to);
        }
        let mut named = Named::default();
        for (key, out) in &self.all {
            let (mut reached, mut left) = (BTreeSet::new(), vec![key.as_str()]);
            while let Some(next) = left.pop() {
                if reached.insert(next) {
                    left.extend(leads.get(next).into_iter().flatten());
                }
            }
            let mut parts: Vec<Digest> = reached.iter().filter(|it| *it != key).map(|it| own[it]).collect();
            parts.sort_unstable();
            parts.insert(0, own[key.as_str()]);
            let digest = Digest::of_parts(parts.iter().map(|it| it.as_bytes().as_slice()));
            named.paths.insert(key.clone(), hashed_path(&out.stem, &out.extension, digest)?);
        }
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for (key, path) in &named.paths {
            let (stem, _) = stem_and_extension(path.as_str());
            // A worker's script is named by its address, everything else within one.
            let value = if key.starts_with("__overskill_w") { format!("/{path}") } else { stem.to_owned() };
            values.insert(key.clone(), value);
        }
        for (token, list) in &self.lists {
            let list: Vec<String> = list.iter().filter_map(|it| Some(format!("/{}", named.paths.get(it)?))).collect();
            values.insert(token.clone(), list.join(" "));
        }
        values.extend(self.texts.clone());
        for (key, out) in self.all {
            let contents = match out.contents {
                Contents::Bytes(bytes) => AppFile::new(bytes),
                Contents::Text(text) => AppFile::new(replace(&text, |token| values.get(token).map(String::as_str))),
            };
            named.files.insert(named.paths[&key].clone(), contents);
        }
        Ok(named)
    }

    /// The files whose names come of a token.
    fn names_of(&self, token: &str) -> Vec<&str> {
        let known = |key: &str| self.all.get_key_value(key).map(|(key, _)| key.as_str());
        match self.lists.get(token) {
            Some(list) => list.iter().filter_map(|it| known(it)).collect(),
            None => known(token).into_iter().collect(),
        }
    }
}

impl Named {
    /// Takes a file out.
    pub(super) fn take(&mut self, key: &str) -> Option<AppFile> {
        self.files.remove(self.paths.get(key)?)
    }

    pub(super) fn address(&self, key: &str) -> Option<String> {
        self.paths.get(key).map(|path| format!("/{path}"))
    }
}

fn key(token: &str, extension: &str) -> String {
    if extension == "css" { format!("{token}.css") } else { token.to_owned() }
}

/// Where a unit's module is.
pub(super) fn module_path(unit: usize) -> String {
    format!("{MODULES_OF_APP}/{}", super::emit::file_name(unit))
}
