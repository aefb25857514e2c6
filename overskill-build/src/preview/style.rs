//! Style sheets: what they take in put in, and the modules that bring them into the page.

use super::{
    modules::{hot_line, package, package_address, script_address},
    resolve::{Ask, Target, resolve_in_style},
    scan::{self, style_target},
    tailwind::{TailwindForm, TailwindNeedKind, TailwindStyle},
    view::View,
};
use crate::{
    Problem, ProblemKind,
    compiler::{Linked, Module, Query, StyleReference, StyleReferenceKind, link_style},
    packages::PackageEntry,
};
use overskill_core::{AppFile, Digest, FilePath};
use serde_json::Value;
use std::{fmt::Write as _, sync::Arc};

/// How deep sheets may take in sheets.
const DEEPEST: usize = 64;
/// How many sheets one may take in: ten that each take in the next one ten times would be without end.
const MOST_SHEETS: usize = 2_000;
/// How large it may be with what it takes in, in bytes.
const MOST_BYTES: usize = 32 << 20;

/// A sheet that is put together of others.
struct Whole {
    /// The sheets around the place that is looked at.
    within: Vec<FilePath>,
    /// Rules that have to stand before everything else.
    outside: Vec<String>,
    sheets: usize,
    bytes: usize,
}

/// The module that brings a style sheet into the page.
pub(super) fn module(view: &View, path: &FilePath) -> Result<String, Arc<Problem>> {
    let compiled = compile(view, path)?;
    let Some(style) = &compiled.style else { return Ok(String::new()) };
    if style.tailwind {
        return Ok(tailwind(view, path, &compiled));
    }
    let css = whole(view, path, &compiled)?;
    Ok(format!("{}\n{}", hot_line(path), bringing(&format!("/{path}"), &css, style.classes.as_deref(), true)))
}

/// The text of a style sheet, with what it takes in.
pub(super) fn text(view: &View, path: &FilePath) -> Result<String, Arc<Problem>> {
    let compiled = compile(view, path)?;
    whole(view, path, &compiled)
}

/// A sheet with all that it takes in.
fn whole(view: &View, path: &FilePath, compiled: &Module) -> Result<String, Arc<Problem>> {
    let mut whole = Whole { within: vec![path.clone()], outside: Vec::new(), sheets: 0, bytes: 0 };
    let css = inlined(view, path, compiled, &mut whole);
    if whole.is_full() {
        let why = format!("it takes in more than {MOST_SHEETS} style sheets, or {MOST_BYTES} bytes of them");
        let problem = Problem::new(ProblemKind::Limit, why).help("import each style sheet once");
        return Err(Arc::new(problem.in_file(path.clone())));
    }
    Ok(format!("{}{css}", whole.outside.concat()))
}

impl Whole {
    fn is_full(&self) -> bool {
        self.sheets > MOST_SHEETS || self.bytes > MOST_BYTES
    }
}

/// The module that brings a package's style sheet into the page.
pub(super) fn of_package(view: &View, digest: Digest, file: &str, contents: &AppFile) -> String {
    let css = package_text(view, digest, file, contents);
    bringing(&package_address(digest, file), &css, None, false)
}

/// The text of a package's style sheet, with addresses that lead to the package's files wherever it stands.
pub(super) fn package_text(view: &View, digest: Digest, file: &str, contents: &AppFile) -> String {
    let as_it_is = || String::from_utf8_lossy(contents.contents()).into_owned();
    let Ok(path) = FilePath::parse(&format!("@npm/{digest}/{file}")) else { return as_it_is() };
    let Ok(compiled) = view.compiler.compile(&path, contents, Query::None) else { return as_it_is() };
    let Some(style) = &compiled.style else { return as_it_is() };
    // Of a package's CSS module nobody asks the classes here, so its names stay.
    if style.classes.is_some() {
        return as_it_is();
    }
    let folder = path.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
    link_style(style, &mut |reference| {
        let written = style.css[reference.whole.clone()].to_owned();
        let relative = !reference.specifier.contains(':') && !reference.specifier.starts_with(['/', '#']);
        match &reference.kind {
            StyleReferenceKind::Url if relative => {
                let (name, rest) = split_suffix(&reference.specifier);
                match super::config::join(folder, name) {
                    Some(full) => format!("url({})", quoted(&format!("/{full}{rest}"))),
                    None => written,
                }
            }
            _ => written,
        }
    })
}

fn compile(view: &View, path: &FilePath) -> Result<Arc<Module>, Arc<Problem>> {
    let file = scan::source(&view.files, path.as_str()).ok_or_else(|| {
        Arc::new(Problem::new(ProblemKind::Unresolved, format!("{path} is not among the app's files")))
    })?;
    view.compiler.compile(path, &file, Query::None)
}

fn bringing(id: &str, css: &str, classes: Option<&[(String, String)]>, hot: bool) -> String {
    let (id, css) = (Value::from(id), Value::from(css));
    let mut module = format!(
        "import {{ updateStyle as __overskill_update, removeStyle as __overskill_remove }} from \"/@overskill/client.js\";\n\
         __overskill_update({id}, {css});\n"
    );
    if !hot {
        return module;
    }
    match classes {
        None => module.push_str("import.meta.hot.accept();\n"),
        Some(classes) => {
            let all: serde_json::Map<_, _> =
                classes.iter().map(|(name, class)| (name.clone(), Value::from(class.as_str()))).collect();
            let _ = writeln!(module, "const classes = {};\nexport default classes;", Value::from(all));
            for (index, (name, _)) in classes.iter().enumerate().filter(|(_, (name, _))| name != "default") {
                let name = Value::from(name.as_str());
                let _ = writeln!(module, "const class{index} = classes[{name}];\nexport {{ class{index} as {name} }};");
            }
        }
    }
    let _ = writeln!(module, "import.meta.hot.prune(() => __overskill_remove({id}));");
    module
}

/// The sheet with its imports in their places. What is elsewhere has to stand before everything else: it goes to `outside`.
fn inlined(view: &View, path: &FilePath, module: &Module, whole: &mut Whole) -> String {
    let Some(style) = &module.style else { return String::new() };
    whole.bytes = whole.bytes.saturating_add(style.css.len());
    link_style(style, &mut |reference| {
        let written = &style.css[reference.whole.clone()];
        match &reference.kind {
            StyleReferenceKind::Url => url(view, path, reference, written),
            StyleReferenceKind::Import(conditions) => {
                whole.sheets += 1;
                if whole.is_full() {
                    return String::new();
                }
                let css = match style_target(view.sources(), path, reference, false) {
                    Some(Ok(Target::File(to, _))) => {
                        // A sheet that takes itself in, however far, has it already.
                        if whole.within.contains(&to) || whole.within.len() >= DEEPEST {
                            return String::new();
                        }
                        let Ok(compiled) = compile(view, &to) else { return String::new() };
                        whole.within.push(to.clone());
                        let css = inlined(view, &to, &compiled, whole);
                        whole.within.pop();
                        css
                    }
                    Some(Ok(Target::Package(name, _))) => match of_entry(view, &name) {
                        Some((digest, file, contents)) => {
                            whole.bytes = whole.bytes.saturating_add(contents.contents().len());
                            package_text(view, digest, &file, &contents)
                        }
                        None => String::new(),
                    },
                    Some(Ok(Target::Public(to, _))) => {
                        whole.outside.push(rule(&to.as_str()["public".len()..], conditions));
                        return String::new();
                    }
                    Some(Ok(Target::Address(address))) => {
                        whole.outside.push(rule(&address, conditions));
                        return String::new();
                    }
                    // The overlay says so.
                    Some(Err(_)) | None => return String::new(),
                };
                under(conditions, &css)
            }
        }
    })
}

fn rule(address: &str, conditions: &str) -> String {
    format!("@import url({}) {};\n", quoted(address), conditions.trim())
}

/// A style sheet of a package.
fn of_entry(view: &View, name: &str) -> Option<(Digest, String, AppFile)> {
    let prepared = view.packages().prepared.as_ref()?;
    let (PackageEntry::Style { file } | PackageEntry::Asset { file }) = prepared.entries.get(name)? else {
        return None;
    };
    Some((prepared.digest, file.clone(), AppFile::new(prepared.files.get(file)?.contents.clone())))
}

fn url(view: &View, path: &FilePath, reference: &StyleReference, written: &str) -> String {
    let (_, rest) = split_suffix(&reference.specifier);
    let address = match style_target(view.sources(), path, reference, false) {
        Some(Ok(Target::File(to, _))) => {
            let address = view.address(&to, Ask::Url, true);
            let rest = if address.contains('?') { rest.trim_start_matches('?') } else { rest };
            format!("{address}{rest}")
        }
        Some(Ok(Target::Public(to, _))) => format!("{}{rest}", &to.as_str()["public".len()..]),
        Some(Ok(Target::Package(name, _))) => match package(view, &name, Ask::Url, true) {
            Linked::Url(url) | Linked::CommonJs(url) => format!("{url}{rest}"),
            Linked::Failed(_) => return written.to_owned(),
        },
        // Addresses elsewhere, and what leads nowhere: the browser says so where it is used.
        _ => return written.to_owned(),
    };
    format!("url({})", quoted(&address))
}

pub(crate) fn split_suffix(specifier: &str) -> (&str, &str) {
    specifier.split_at(specifier.find(['?', '#']).unwrap_or(specifier.len()))
}

pub(crate) fn quoted(address: &str) -> String {
    let mut quoted = "\"".to_owned();
    for c in address.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // A line would end the string.
            c if c.is_control() => {}
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A sheet under the conditions of its `@import`: `layer`, `supports()`, media.
pub(crate) fn under(conditions: &str, css: &str) -> String {
    let mut rest = conditions.trim();
    let mut css = css.to_owned();
    let mut layer = None;
    let mut supports = None;
    if let Some((inner, after)) = call(rest, "layer") {
        (layer, rest) = (Some(inner.to_owned()), after);
    } else if let Some(after) = rest.strip_prefix("layer").filter(|after| after.is_empty() || after.starts_with(' ')) {
        (layer, rest) = (Some(String::new()), after.trim_start());
    }
    if let Some((inner, after)) = call(rest, "supports") {
        (supports, rest) = (Some(inner.to_owned()), after);
    }
    if let Some(layer) = layer {
        css = format!("@layer {layer} {{\n{css}\n}}\n");
    }
    if let Some(supports) = supports {
        let is_condition = supports.starts_with('(') || supports.starts_with("not ");
        let condition = if is_condition { supports } else { format!("({supports})") };
        css = format!("@supports {condition} {{\n{css}\n}}\n");
    }
    if !rest.is_empty() {
        css = format!("@media {rest} {{\n{css}\n}}\n");
    }
    css
}

/// What stands in the parentheses of `name(…)` at the beginning, and what follows.
fn call<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let inner = text.strip_prefix(name)?.strip_prefix('(')?;
    let mut depth = 1;
    for (at, c) in inner.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&inner[..at], inner[at + 1..].trim_start()));
        }
    }
    None
}

/// The form in which Tailwind takes a sheet.
pub(super) fn tailwind_form(view: &View, css: &str) -> TailwindForm {
    if !TailwindForm::is_three(css, super::packages::tailwind_major(&view.files)) {
        return TailwindForm::Four;
    }
    TailwindForm::Three { config: scan::tailwind_config(&view.files).map(|path| view.address(path, Ask::Plain, false)) }
}

fn tailwind(view: &View, path: &FilePath, module: &Module) -> String {
    let Some(style) = &module.style else { return String::new() };
    let css = addressed(view, path, module);
    let form = tailwind_form(view, &css);
    let mut sheet = TailwindStyle::new(path, css, form);
    while let Some(need) = sheet.next_need() {
        let Ok(from) = FilePath::parse(need.from.trim_start_matches('/')) else { continue };
        match need.kind {
            TailwindNeedKind::Script => match script_address(view, &from, &need.specifier) {
                Ok(address) => sheet.script(&need, address),
                Err(message) => sheet.failed(&need, message),
            },
            TailwindNeedKind::Sheet => {
                match resolve_in_style(&view.files, &view.config, from.as_str(), &need.specifier) {
                    Ok(Target::File(to, _)) => match compile(view, &to) {
                        Ok(compiled) => sheet.sheet(&need, format!("/{to}"), addressed(view, &to, &compiled)),
                        Err(problem) => sheet.failed(&need, problem.to_string()),
                    },
                    Ok(Target::Package(name, _)) => match of_entry(view, &name) {
                        Some((digest, file, contents)) => {
                            let css = package_text(view, digest, &file, &contents);
                            sheet.sheet(&need, package_address(digest, &file), css);
                        }
                        None => sheet.failed(&need, format!("`{name}` is no style sheet of a package")),
                    },
                    Ok(Target::Public(..) | Target::Address(_)) => sheet
                        .failed(&need, format!("`{}` cannot be taken into a style sheet of Tailwind", need.specifier)),
                    Err(error) => sheet.failed(&need, error.message),
                }
            }
        }
    }
    format!("{}\n{}", hot_line(path), sheet.into_module(style.classes.as_deref()))
}

/// The sheet with addresses in its `url()`s; its imports stay for Tailwind.
fn addressed(view: &View, path: &FilePath, module: &Module) -> String {
    let Some(style) = &module.style else { return String::new() };
    link_style(style, &mut |reference| {
        let written = &style.css[reference.whole.clone()];
        match reference.kind {
            StyleReferenceKind::Url => url(view, path, reference, written),
            StyleReferenceKind::Import(_) => written.to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_an_import() {
        assert_eq!(under("", "a{}"), "a{}");
        assert_eq!(under("layer(base.x)", "a{}"), "@layer base.x {\na{}\n}\n");
        assert_eq!(under("layer", "a{}"), "@layer  {\na{}\n}\n");
        assert_eq!(
            under("layer(b) supports(display: grid) screen and (min-width: 1px)", "a{}"),
            "@media screen and (min-width: 1px) {\n@supports (display: grid) {\n@layer b {\na{}\n}\n\n}\n\n}\n"
        );
        assert_eq!(under("supports(not (a: b))", "c"), "@supports not (a: b) {\nc\n}\n");
    }

    #[test]
    fn addresses_cannot_leave_their_quotes() {
        assert_eq!(quoted("/a\") x\\\n.png"), r#""/a\") x\\.png""#);
    }
}
