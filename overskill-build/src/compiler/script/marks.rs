//! Marks: names that stand in the syntax tree for what other modules are named by, and are found again in the printed code.
//! What they stand for is rendered here, so its places are known exactly.

use crate::{
    Location,
    compiler::{
        Binding, Glob, Import, ImportKind,
        link::{export_name, push_quoted, quote},
    },
};
use std::{fmt::Write as _, ops::Range};

/// What every mark begins with.
pub(super) const STEM: &str = "__overskill_mark";

/// All marks of one module.
pub(super) struct Marks {
    pub(super) prefix: String,
    pub(super) taken: Vec<Mark>,
    /// The name of the last one.
    name: String,
}

/// What a mark stands for; ranges are within `text`.
pub(super) struct Mark {
    pub(super) text: String,
    pub(super) import: Option<Import>,
    pub(super) glob: Option<Glob>,
    /// Whether a `;` that follows belongs to it.
    pub(super) statement: bool,
}

impl Marks {
    /// Marks that do not occur in `source`.
    pub(super) fn for_source(source: &str) -> Self {
        let mut prefix = format!("{STEM}0_");
        for n in 1_u64.. {
            if !source.contains(&prefix) {
                break;
            }
            prefix = format!("{STEM}{n}_");
        }
        let name = prefix.clone();
        Self { prefix, taken: Vec::new(), name }
    }

    /// Takes a mark and gives the name that stands for it.
    pub(super) fn add(&mut self, mark: Mark) -> &str {
        self.name.truncate(self.prefix.len());
        write!(self.name, "{}$", self.taken.len()).expect("a string takes all");
        self.taken.push(mark);
        &self.name
    }
}

impl Mark {
    /// Text that names nothing.
    pub(super) fn plain(text: String) -> Self {
        Self { text, import: None, glob: None, statement: false }
    }

    /// `before 'specifier' after`.
    fn import(
        before: impl Into<String>,
        specifier: &str,
        after: &str,
        kind: ImportKind,
        at: Location,
        statement: bool,
    ) -> Self {
        let mut text = before.into();
        text.reserve_exact(specifier.len() + 2 + after.len());
        let start = text.len();
        push_quoted(&mut text, specifier);
        let literal = start..text.len();
        text.push_str(after);
        let import = Import { specifier: specifier.to_owned(), kind, literal, whole: 0..text.len(), at };
        Self { text, import: Some(import), glob: None, statement }
    }

    pub(super) fn static_import(specifier: &str, bindings: Vec<Binding>, at: Location) -> Self {
        let mut before = String::with_capacity(32 + 16 * bindings.len() + specifier.len());
        before.push_str("import ");
        let mut separator = "";
        for binding in &bindings {
            let (clause, local) = match binding {
                Binding::Default(local) => ("", local),
                Binding::Namespace(local) => ("* as ", local),
                Binding::Named { .. } => continue,
            };
            before.extend([separator, clause, local]);
            separator = ", ";
        }
        let mut brace = "{ ";
        for binding in &bindings {
            let Binding::Named { imported, local } = binding else { continue };
            before.extend([separator, brace]);
            if imported == local {
                before.push_str(local);
            } else {
                before.extend([&*export_name(imported), " as ", local]);
            }
            (separator, brace) = (", ", "");
        }
        if brace.is_empty() {
            before.push_str(" }");
        }
        if !bindings.is_empty() {
            before.push_str(" from ");
        }
        Self::import(before, specifier, "", ImportKind::Static(bindings), at, true)
    }

    pub(super) fn re_export(specifier: &str, names: Vec<(String, String)>, at: Location) -> Self {
        let pairs: Vec<String> = names
            .iter()
            .map(|(there, here)| {
                if there == here {
                    return export_name(there);
                }
                format!("{} as {}", export_name(there), export_name(here))
            })
            .collect();
        let before = format!("export {{ {} }} from ", pairs.join(", "));
        Self::import(before, specifier, "", ImportKind::ReExport(names), at, true)
    }

    pub(super) fn re_export_all(specifier: &str, name: Option<String>, at: Location) -> Self {
        let before = match &name {
            Some(name) => format!("export * as {} from ", export_name(name)),
            None => "export * from ".to_owned(),
        };
        Self::import(before, specifier, "", ImportKind::ReExportAll(name), at, true)
    }

    pub(super) fn dynamic(specifier: &str, at: Location) -> Self {
        Self::import("import(", specifier, ")", ImportKind::Dynamic, at, false)
    }

    pub(super) fn url(specifier: &str, at: Location) -> Self {
        Self::import("new URL(", specifier, ", import.meta.url)", ImportKind::Url, at, false)
    }

    pub(super) fn accept(specifier: &str, at: Location) -> Self {
        Self::import("", specifier, "", ImportKind::Accept, at, false)
    }

    /// A call of `import.meta.glob`, rendered as one, between `before` and `after`.
    pub(super) fn glob(before: &str, mut glob: Glob, after: &str) -> Self {
        let patterns: Vec<String> = glob.patterns.iter().map(|pattern| quote(pattern)).collect();
        let mut options = Vec::new();
        if glob.eager {
            options.push("eager: true".to_owned());
        }
        options.extend(glob.import.iter().map(|name| format!("import: {}", quote(name))));
        options.extend(glob.query.iter().map(|query| format!("query: {}", quote(query))));
        let options = if options.is_empty() { String::new() } else { format!(", {{ {} }}", options.join(", ")) };
        let call = format!("import.meta.glob([{}]{options})", patterns.join(", "));
        glob.whole = before.len()..before.len() + call.len();
        Self { text: format!("{before}{call}{after}"), import: None, glob: Some(glob), statement: false }
    }
}

/// `range`, `by` further on.
pub(super) fn shifted(range: &Range<usize>, by: usize) -> Range<usize> {
    range.start + by..range.end + by
}
