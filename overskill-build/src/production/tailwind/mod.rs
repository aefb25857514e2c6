//! Tailwind in production: the version of the lock, run in a child that can reach nothing but the app's own files.

mod bundle;
mod child;

pub(super) use bundle::Form;
pub(super) use child::Waiting;

use super::{
    builder::Limits,
    sheets::{Sheet, Sheets},
    trouble::Failure,
    walk::Ground,
};
use crate::{
    Problem, ProblemKind, Result,
    packages::{Installed, NpmPackages},
    preview::{
        packages::tailwind_major,
        resolve::{Target, resolve},
        scan,
        tailwind::{TailwindForm, TailwindNeedKind, TailwindStyle, Words},
    },
};
use lightningcss::{
    printer::PrinterOptions,
    stylesheet::{MinifyOptions, ParserOptions, StyleSheet},
    targets::{Browsers, Targets},
};
use overskill_core::FilePath;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a sheet is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum For {
    /// A group of sheets that modules bring.
    Group(usize),
    /// A sheet that a page links to.
    Linked(FilePath),
    /// The text that a unit is.
    Text(usize),
}

/// All sheets of a build, put together as far as they can be without Tailwind.
pub(super) struct Styling {
    major: Option<u32>,
    pieces: Vec<(For, Piece)>,
    /// What has to stand before everything else.
    outside: BTreeMap<For, String>,
    /// What Tailwind is given, by the major version whose form it has.
    three: Vec<Given>,
    four: Vec<Given>,
    /// Sheets that those of Tailwind 4 take in, by who names them and how.
    imports: Map<String, Value>,
    /// Scripts that they name.
    scripts: Vec<Script>,
}

enum Piece {
    Ready(String),
    Three(usize),
    Four(usize),
}

struct Given {
    path: FilePath,
    css: String,
}

/// A script that a sheet names: a plugin, or a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// The path of the sheet, from the root with a `/` before it.
    from: String,
    specifier: String,
    /// The file, if it is one of the app's.
    file: Option<FilePath>,
}

impl Styling {
    pub(super) fn new(ground: &Ground) -> Self {
        Self {
            major: tailwind_major(&ground.files),
            pieces: Vec::new(),
            outside: BTreeMap::new(),
            three: Vec::new(),
            four: Vec::new(),
            imports: Map::new(),
            scripts: Vec::new(),
        }
    }

    /// Adds a sheet to what is made for `to`.
    pub(super) fn add(&mut self, to: For, sheets: &mut Sheets<'_>, sheet: &Sheet) -> Result<()> {
        let whole = sheets.whole(sheet)?;
        let piece = if !whole.tailwind {
            Piece::Ready(whole.css)
        } else if TailwindForm::is_three(&whole.css, self.major) {
            self.three.push(Given { path: sheet.path().clone(), css: whole.css });
            Piece::Three(self.three.len() - 1)
        } else {
            let css = sheets.addressed(sheet)?;
            self.needs(sheets, sheet, &css)?;
            self.four.push(Given { path: sheet.path().clone(), css });
            Piece::Four(self.four.len() - 1)
        };
        if !whole.outside.is_empty() {
            self.outside.entry(to.clone()).or_default().push_str(&whole.outside);
        }
        self.pieces.push((to, piece));
        Ok(())
    }

    /// What a sheet of Tailwind 4 takes in, and what that takes in.
    fn needs(&mut self, sheets: &mut Sheets<'_>, root: &Sheet, css: &str) -> Result<()> {
        let mut style = TailwindStyle::new(root.path(), css, TailwindForm::Four);
        let mut known: BTreeMap<String, Sheet> = [(format!("/{}", root.path()), root.clone())].into();
        while let Some(need) = style.next_need() {
            let Some(from) = known.get(&need.from).cloned() else { continue };
            match need.kind {
                TailwindNeedKind::Script => {
                    let ground = sheets.ground;
                    let target = resolve(&ground.files, &ground.config, from.path().as_str(), &need.specifier);
                    let file = match target {
                        Ok(Target::File(path, _)) => Some(path),
                        _ => None,
                    };
                    let script = Script { from: need.from.clone(), specifier: need.specifier.clone(), file };
                    if !self.scripts.contains(&script) {
                        self.scripts.push(script);
                    }
                }
                TailwindNeedKind::Sheet => {
                    // What is not found Tailwind says itself.
                    let Some(found) = sheets.named(&from, &need.specifier) else { continue };
                    let (path, css) = (format!("/{}", found.path()), sheets.addressed(&found)?);
                    let of_sheet = self.imports.entry(need.from.clone()).or_insert_with(|| json!({}));
                    of_sheet[need.specifier.as_str()] = json!({ "path": path, "css": css });
                    style.sheet(&need, path.clone(), css);
                    known.insert(path, found);
                }
            }
        }
        Ok(())
    }
}

/// Tailwind 3 with the app's configuration, started for sheets that are not put together yet.
pub(super) async fn begin(
    packages: &NpmPackages,
    limits: Limits,
    ground: &Ground,
    installed: &Installed,
) -> Result<Waiting, Failure> {
    let bundled = bundle::three(packages, ground, installed, scan::tailwind_config(&ground.files)).await?;
    child::start(packages, limits, ground, bundled).await
}

/// All sheets, finished and minified. `begun` is Tailwind 3, where it was foreseen that sheets need it.
pub(super) async fn run(
    packages: &NpmPackages,
    limits: Limits,
    ground: &Ground,
    styling: &Styling,
    installed: &Installed,
    begun: Option<Result<Waiting, Failure>>,
) -> Result<BTreeMap<For, String>, Failure> {
    let (mut three, mut four) = (Vec::new(), Vec::new());
    if !styling.three.is_empty() {
        let job = json!({ "sheets": given(&styling.three) });
        let waiting = match begun {
            Some(begun) => begun?,
            None => begin(packages, limits, ground, installed).await?,
        };
        three = child::run(packages, waiting, &job).await?;
    }
    if !styling.four.is_empty() {
        let words = Words::default().list(ground.files.iter().map(|(path, file)| (path, &**file)));
        let own = bundle::own_sheets(installed)?;
        let job = json!({ "sheets": given(&styling.four), "imports": styling.imports, "own": own, "words": words });
        let bundled = bundle::four(packages, ground, installed, &styling.scripts).await?;
        let waiting = child::start(packages, limits, ground, bundled).await?;
        four = child::run(packages, waiting, &job).await?;
    }
    let mut all: BTreeMap<For, String> = styling.outside.clone();
    for (whose, piece) in &styling.pieces {
        let css = match piece {
            Piece::Ready(css) => Some(css),
            Piece::Three(number) => three.get(*number),
            Piece::Four(number) => four.get(*number),
        };
        let whole = all.entry(whose.clone()).or_default();
        whole.push_str(css.map_or("", String::as_str));
        whole.push('\n');
    }
    let minified =
        tokio::task::spawn_blocking(move || all.into_iter().map(|(whose, css)| (whose, minified(&css))).collect());
    let minified = minified.await.map_err(|e| crate::Error::unexpected("minifying style sheets was broken off", e))?;
    Ok(minified)
}

fn given(sheets: &[Given]) -> Vec<Value> {
    sheets.iter().map(|it| json!({ "path": format!("/{}", it.path), "css": it.css })).collect()
}

/// A sheet without what it does not need, for the browsers that Vite builds for. What cannot be understood stays as it is.
fn minified(css: &str) -> String {
    const fn version(major: u32, minor: u32) -> u32 {
        major << 16 | minor << 8
    }
    let browsers = Browsers {
        chrome: Some(version(111, 0)),
        edge: Some(version(111, 0)),
        firefox: Some(version(114, 0)),
        safari: Some(version(16, 4)),
        ios_saf: Some(version(16, 4)),
        ..Browsers::default()
    };
    let targets = Targets::from(browsers);
    let options = ParserOptions { error_recovery: true, ..ParserOptions::default() };
    let Ok(mut sheet) = StyleSheet::parse(css, options) else { return css.to_owned() };
    if sheet.minify(MinifyOptions { targets, ..MinifyOptions::default() }).is_err() {
        return css.to_owned();
    }
    let printed = sheet.to_css(PrinterOptions { minify: true, targets, ..PrinterOptions::default() });
    printed.map_or_else(|_| css.to_owned(), |it| it.code)
}

fn problem(message: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Unsupported, message)
}
