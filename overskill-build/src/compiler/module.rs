//! What the compiler makes of one file.

use crate::{Location, Problem};
use std::{collections::BTreeSet, ops::Range, sync::Arc};

/// One file, transformed: an ES module that still names what it imports as its author did.
///
/// It depends on the file's path and contents and on the compiler's options alone, so every app that has the same file
/// shares it. [`link`](super::link::link) puts the addresses in.
#[derive(Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Module {
    /// The code.
    pub code: String,
    /// Its source map (version 3, JSON, with the source inside), if it has lines of its own.
    pub source_map: Option<Arc<str>>,
    /// What it imports, in the order of the code.
    pub imports: Vec<Import>,
    /// Its calls of `import.meta.glob`, in the order of the code.
    pub globs: Vec<Glob>,
    /// What it does with `import.meta.hot`.
    pub hot: Hot,
    /// Whether React components are registered in it.
    pub refresh: bool,
    /// Which `import.meta.env` names it reads, but for those that were inlined; `*` where it takes the whole object.
    pub env: BTreeSet<String>,
    /// What it exports; `None` with `export * from`.
    pub exports: Option<BTreeSet<String>>,
    /// A style sheet's own facts.
    pub style: Option<Style>,
    /// What will most likely not work, though it keeps nothing from being served.
    pub warnings: Vec<Problem>,
}

impl Module {
    /// About how many bytes it keeps in memory.
    pub fn retained_bytes(&self) -> u64 {
        let imports: usize = self.imports.iter().map(|import| import.specifier.len() + 160).sum();
        let style = self.style.as_ref().map_or(0, |style| style.css.len() + style.references.len() * 160);
        let map = self.source_map.as_ref().map_or(0, |map| map.len());
        (size_of::<Self>() + self.code.len() + map + imports + style) as u64
    }
}

/// One import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// As its author wrote it, with its `?query`.
    pub specifier: String,
    /// What sort of import.
    pub kind: ImportKind,
    /// Where the specifier's literal stands in the code, with its quotes.
    pub literal: Range<usize>,
    /// Where the whole statement or expression stands in the code.
    pub whole: Range<usize>,
    /// Where it stands in the source.
    pub at: Location,
}

/// Sorts of imports.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportKind {
    /// `import …  from '…'` or `import '…'`.
    Static(Vec<Binding>),
    /// `export { a as b } from '…'`: pairs of the name there and the name here.
    ReExport(Vec<(String, String)>),
    /// `export * from '…'`, or `export * as name from '…'`.
    ReExportAll(Option<String>),
    /// `import('…')` of a literal.
    Dynamic,
    /// `new URL('…', import.meta.url)`.
    Url,
    /// `import.meta.hot.accept('…', …)`: a dependency whose updates are accepted; never loaded by this.
    Accept,
}

/// A name that an import brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// `import local from`.
    Default(String),
    /// `import * as local from`.
    Namespace(String),
    /// `import { imported as local } from`.
    Named {
        /// The name there.
        imported: String,
        /// The name here.
        local: String,
    },
}

/// A call of `import.meta.glob`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    /// The patterns; `!` excludes.
    pub patterns: Vec<String>,
    /// `eager: true`.
    pub eager: bool,
    /// `import: '…'`.
    pub import: Option<String>,
    /// `query: '?raw'` and the like.
    pub query: Option<String>,
    /// Where the call stands in the code; an object literal takes its place.
    pub whole: Range<usize>,
    /// Where it stands in the source.
    pub at: Location,
}

/// What a module does with `import.meta.hot`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hot {
    /// It names `import.meta.hot` at all.
    pub used: bool,
    /// It accepts its own updates.
    pub accepts_self: bool,
    /// The specifiers whose updates it accepts, as written.
    pub accepts: Vec<String>,
}

/// What is particular to a style sheet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// The style sheet itself: what goes into the page (or to Tailwind first).
    pub css: String,
    /// Its imports and addresses, to be put in: places in `css`.
    pub references: Vec<StyleReference>,
    /// Of a CSS module: the exported names with their classes (composed ones after a space).
    pub classes: Option<Vec<(String, String)>>,
    /// Whether Tailwind has to see it (`@tailwind`, `@apply`, `@theme`, `@import "tailwindcss"` and so on).
    pub tailwind: bool,
}

/// A place in a style sheet that names another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StyleReference {
    /// As its author wrote it.
    pub specifier: String,
    /// `@import`, or `url()`.
    pub kind: StyleReferenceKind,
    /// Of an `@import`, the whole rule; of a `url()`, from `url(` to `)`.
    pub whole: Range<usize>,
    /// Where it stands in the source.
    pub at: Location,
}

/// Sorts of references in style sheets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StyleReferenceKind {
    /// `@import '…' conditions;`, with the conditions (layer, supports, media) as written.
    Import(String),
    /// `url(…)`.
    Url,
}
