//! Style sheets: what they take in put in, addresses in their `url()`s.

use super::{
    modules::{self, For, PackageFile},
    names::Assets,
    walk::Ground,
};
use crate::{
    Error, Problem, ProblemKind, Result,
    compiler::{Module, Query, StyleReference, StyleReferenceKind, link_style},
    packages::Installed,
    preview::{
        resolve::Target,
        scan::style_target,
        style::{quoted, split_suffix, under},
    },
};
use overskill_core::{AppFile, FilePath};
use std::{fmt::Write as _, sync::Arc};

/// How deep sheets may take in sheets.
const DEEPEST: usize = 64;
/// How many sheets one may take in.
const MOST_SHEETS: usize = 2_000;
/// How large it may be with what it takes in, in bytes.
const MOST_BYTES: usize = 32 << 20;

/// Puts sheets together.
pub(super) struct Sheets<'a> {
    pub(super) ground: &'a Ground,
    pub(super) installed: &'a Installed,
    pub(super) assets: &'a mut Assets,
    pub(super) problems: Vec<Problem>,
}

/// A sheet: the app's own, or a package's.
#[derive(Clone, Debug)]
pub(super) enum Sheet {
    Own(FilePath),
    Of(PackageFile),
}

/// A sheet that is put together of others.
#[derive(Debug, Default)]
pub(super) struct Whole {
    /// `@import`s of what is elsewhere, which have to stand before everything else.
    pub(super) outside: String,
    pub(super) css: String,
    /// Whether Tailwind has to see it.
    pub(super) tailwind: bool,
}

struct Within {
    around: Vec<FilePath>,
    outside: String,
    tailwind: bool,
    sheets: usize,
    bytes: usize,
}

impl Sheet {
    pub(super) fn path(&self) -> &FilePath {
        match self {
            Self::Own(path) => path,
            Self::Of(file) => &file.path,
        }
    }
}

impl Sheets<'_> {
    /// A sheet with all that it takes in. What it takes in of Tailwind's own stays for Tailwind.
    pub(super) fn whole(&mut self, sheet: &Sheet) -> Result<Whole> {
        let around = vec![sheet.path().clone()];
        let mut within = Within { around, outside: String::new(), tailwind: false, sheets: 0, bytes: 0 };
        let css = self.inlined(sheet, &mut within)?;
        if within.sheets > MOST_SHEETS || within.bytes > MOST_BYTES {
            let why = format!("it takes in more than {MOST_SHEETS} style sheets, or {MOST_BYTES} bytes of them");
            let problem = Problem::new(ProblemKind::Limit, why).help("import each style sheet once");
            self.problems.push(problem.in_file(sheet.path().clone()));
        }
        Ok(Whole { outside: within.outside, css, tailwind: within.tailwind })
    }

    /// A sheet with addresses in its `url()`s; its imports stay for Tailwind.
    pub(super) fn addressed(&mut self, sheet: &Sheet) -> Result<String> {
        let Some(module) = self.compile(sheet)? else { return Ok(String::new()) };
        let Some(style) = &module.style else { return Ok(String::new()) };
        let mut failed = None;
        let css = link_style(style, &mut |reference| {
            let written = style.css[reference.whole.clone()].to_owned();
            match reference.kind {
                StyleReferenceKind::Url => self.url(sheet, reference, &written).unwrap_or_else(|e| {
                    failed.get_or_insert(e);
                    String::new()
                }),
                StyleReferenceKind::Import(_) => written,
            }
        });
        failed.map_or(Ok(css), Err)
    }

    /// The sheet that `specifier` means in `sheet`.
    pub(super) fn named(&self, sheet: &Sheet, specifier: &str) -> Option<Sheet> {
        use crate::preview::resolve::resolve_in_style;
        match sheet {
            Sheet::Of(file) => self.of_package(file, specifier).map(Sheet::Of),
            Sheet::Own(path) => {
                match resolve_in_style(&self.ground.files, &self.ground.config, path.as_str(), specifier).ok()? {
                    Target::File(to, _) => Some(Sheet::Own(to)),
                    Target::Package(name, _) => modules::find(self.installed, "", &name, For::Style).map(Sheet::Of),
                    Target::Public(..) | Target::Address(_) => None,
                }
            }
        }
    }

    fn of_package(&self, file: &PackageFile, specifier: &str) -> Option<PackageFile> {
        let specifier = specifier.trim_start_matches('~');
        modules::beside(file, specifier).or_else(|| modules::find(self.installed, &file.place, specifier, For::Style))
    }

    fn compile(&mut self, sheet: &Sheet) -> Result<Option<Arc<Module>>> {
        let compiled = match sheet {
            Sheet::Own(path) => match self.ground.file(path.as_str()) {
                Some(file) => self.ground.compiler.compile(path, &file, Query::None),
                None => return Ok(None),
            },
            Sheet::Of(file) => {
                let contents = AppFile::new(read(file)?);
                self.ground.compiler.compile(&file.path, &contents, Query::None)
            }
        };
        match compiled {
            Ok(module) => Ok(Some(module)),
            Err(problem) => {
                if !self.problems.contains(&problem) {
                    self.problems.push((*problem).clone());
                }
                Ok(None)
            }
        }
    }

    fn inlined(&mut self, sheet: &Sheet, within: &mut Within) -> Result<String> {
        let Some(module) = self.compile(sheet)? else { return Ok(String::new()) };
        let Some(style) = &module.style else { return Ok(String::new()) };
        within.bytes = within.bytes.saturating_add(style.css.len());
        within.tailwind |= style.tailwind;
        let mut failed = None;
        let css = link_style(style, &mut |reference| {
            let written = &style.css[reference.whole.clone()];
            let put = match &reference.kind {
                StyleReferenceKind::Url => self.url(sheet, reference, written),
                StyleReferenceKind::Import(conditions) => {
                    self.import(sheet, reference, conditions, style.tailwind, within, written)
                }
            };
            put.unwrap_or_else(|e| {
                failed.get_or_insert(e);
                String::new()
            })
        });
        failed.map_or(Ok(css), Err)
    }

    fn import(
        &mut self,
        sheet: &Sheet,
        reference: &StyleReference,
        conditions: &str,
        tailwind: bool,
        within: &mut Within,
        written: &str,
    ) -> Result<String> {
        within.sheets += 1;
        if within.sheets > MOST_SHEETS || within.bytes > MOST_BYTES {
            return Ok(String::new());
        }
        let specifier = reference.specifier.as_str();
        let elsewhere = |within: &mut Within, address: &str| {
            let _ = writeln!(within.outside, "@import url({}) {};", quoted(address), conditions.trim());
            Ok(String::new())
        };
        if specifier.contains("://") || specifier.starts_with("//") {
            return elsewhere(within, specifier);
        }
        let next = match sheet {
            Sheet::Of(file) => {
                let Some(next) = self.of_package(file, specifier) else {
                    self.missing(sheet, reference);
                    return Ok(String::new());
                };
                Sheet::Of(next)
            }
            Sheet::Own(path) => match style_target(self.ground.sources(), path, reference, tailwind) {
                // Of Tailwind's own.
                None => return Ok(written.to_owned()),
                Some(Ok(Target::File(to, _))) => Sheet::Own(to),
                Some(Ok(Target::Package(name, _))) => {
                    let Some(file) = modules::find(self.installed, "", &name, For::Style) else {
                        self.missing(sheet, reference);
                        return Ok(String::new());
                    };
                    Sheet::Of(file)
                }
                Some(Ok(Target::Public(to, _))) => return elsewhere(within, &to.as_str()["public".len()..]),
                Some(Ok(Target::Address(address))) => return elsewhere(within, &address),
                // Looking at the app's files told it.
                Some(Err(_)) => return Ok(String::new()),
            },
        };
        // A sheet that takes itself in, however far, has it already.
        if within.around.contains(next.path()) || within.around.len() >= DEEPEST {
            return Ok(String::new());
        }
        within.around.push(next.path().clone());
        let css = self.inlined(&next, within)?;
        within.around.pop();
        Ok(under(conditions, &css))
    }

    fn url(&mut self, sheet: &Sheet, reference: &StyleReference, written: &str) -> Result<String> {
        let (name, rest) = split_suffix(&reference.specifier);
        if name.is_empty() || name.contains(':') {
            return Ok(written.to_owned());
        }
        let address = match sheet {
            Sheet::Of(file) => match self.of_package(file, name) {
                Some(asset) => self.assets.address(asset.path.as_str(), &AppFile::new(read(&asset)?))?,
                None => return Ok(written.to_owned()),
            },
            Sheet::Own(path) => match style_target(self.ground.sources(), path, reference, false) {
                Some(Ok(Target::File(to, _))) => match self.ground.file(to.as_str()) {
                    Some(file) => self.assets.address(to.as_str(), &file)?,
                    None => return Ok(written.to_owned()),
                },
                Some(Ok(Target::Public(to, _))) => to.as_str()["public".len()..].to_owned(),
                Some(Ok(Target::Package(name, _))) => match modules::find(self.installed, "", &name, For::Style) {
                    Some(asset) => self.assets.address(asset.path.as_str(), &AppFile::new(read(&asset)?))?,
                    None => return Ok(written.to_owned()),
                },
                // Addresses elsewhere, and what leads nowhere: the browser says so where it is used.
                _ => return Ok(written.to_owned()),
            },
        };
        let rest = if address.starts_with("data:") { "" } else { rest };
        Ok(format!("url({})", quoted(&format!("{address}{rest}"))))
    }

    fn missing(&mut self, sheet: &Sheet, reference: &StyleReference) {
        let why = format!("`{}` is no style sheet of a package", reference.specifier);
        let mut problem = Problem::new(ProblemKind::Unresolved, why).help("check the package's documentation");
        if let Some(file) = self.ground.file(sheet.path().as_str())
            && let Ok(text) = std::str::from_utf8(file.contents())
        {
            problem = problem.at(text, reference.at);
        }
        self.problems.push(problem.in_file(sheet.path().clone()));
    }
}

pub(super) fn read(file: &PackageFile) -> Result<Vec<u8>> {
    std::fs::read(&file.on_disk).map_err(|e| {
        let e = Error::new(overskill_core::ErrorKind::Unavailable, "a package's file could not be read").caused_by(e);
        e.at("build", "build").with("file", &file.path)
    })
}
