//! Prepared packages as one file: written once, read with one call.

use super::prepared::{PackageEntry, PackageFile};
use crate::{Problem, ProblemKind};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What bundling gave.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pack {
    pub(crate) entries: BTreeMap<String, PackageEntry>,
    pub(crate) failed: BTreeMap<String, Problem>,
    pub(crate) files: BTreeMap<String, PackageFile>,
    /// Of each entry, who in it imports what is not there. Not kept.
    pub(crate) stand_ins: BTreeMap<String, Vec<(String, String)>>,
    /// What its packages turned out to want, by run. Not kept with it.
    pub(crate) rounds: Vec<Round>,
    /// What was wanted could not be had now: the next time it may. Not kept.
    pub(crate) for_now: bool,
}

/// Who wanted what in one run: places, and names of packages.
pub(crate) type Round = BTreeSet<(String, String)>;

/// The first line; with it the form can change.
const MAGIC: &[u8] = b"overskill packages 2\n";

#[derive(Serialize, Deserialize)]
struct Index {
    entries: BTreeMap<String, EntryForm>,
    failed: BTreeMap<String, ProblemForm>,
    /// In the order of the contents: name, media type, length in bytes, imports.
    files: Vec<(String, String, usize, Vec<String>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum EntryForm {
    Module { file: String, common_js: bool },
    Style { file: String },
    Asset { file: String },
}

#[derive(Serialize, Deserialize)]
struct ProblemForm {
    kind: String,
    message: String,
    help: Option<String>,
}

impl Pack {
    /// The parts of the file.
    pub(crate) fn head(&self) -> Vec<u8> {
        let entries = self.entries.iter().map(|(name, entry)| (name.clone(), entry.into())).collect();
        let failed = self.failed.iter().map(|(name, problem)| (name.clone(), problem.into())).collect();
        let files = self.files.iter();
        let files =
            files.map(|(name, it)| (name.clone(), it.content_type.clone(), it.contents.len(), it.imports.clone()));
        let index = Index { entries, failed, files: files.collect() };
        let index = serde_json::to_vec(&index).expect("JSON of texts can be written");
        let mut head = MAGIC.to_vec();
        head.extend((index.len() as u64).to_le_bytes());
        head.extend(index);
        head
    }

    /// Reads the file; `None` if it is not whole, or of another form. The contents are not copied.
    pub(crate) fn read(whole: &Bytes) -> Option<Self> {
        let rest = whole.strip_prefix(MAGIC)?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let index: Index = serde_json::from_slice(rest.get(..length)?).ok()?;
        let mut at = MAGIC.len() + 8 + length;
        let mut files = BTreeMap::new();
        for (name, content_type, length, imports) in index.files {
            let end = at.checked_add(length).filter(|end| *end <= whole.len())?;
            files.insert(name, PackageFile { content_type, contents: whole.slice(at..end), imports });
            at = end;
        }
        (at == whole.len()).then(|| Self {
            entries: index.entries.into_iter().map(|(name, entry)| (name, entry.into())).collect(),
            failed: index.failed.into_iter().map(|(name, problem)| (name, problem.into())).collect(),
            files,
            ..Self::default()
        })
    }
}

impl From<&PackageEntry> for EntryForm {
    fn from(entry: &PackageEntry) -> Self {
        match entry.clone() {
            PackageEntry::Module { file, common_js } => Self::Module { file, common_js },
            PackageEntry::Style { file } => Self::Style { file },
            PackageEntry::Asset { file } => Self::Asset { file },
        }
    }
}

impl From<EntryForm> for PackageEntry {
    fn from(entry: EntryForm) -> Self {
        match entry {
            EntryForm::Module { file, common_js } => Self::Module { file, common_js },
            EntryForm::Style { file } => Self::Style { file },
            EntryForm::Asset { file } => Self::Asset { file },
        }
    }
}

impl From<&Problem> for ProblemForm {
    fn from(problem: &Problem) -> Self {
        let kind = match problem.kind {
            ProblemKind::Unresolved => "unresolved",
            ProblemKind::Limit => "limit",
            _ => "package",
        };
        Self { kind: kind.to_owned(), message: problem.message.clone(), help: problem.help.clone() }
    }
}

impl From<ProblemForm> for Problem {
    fn from(form: ProblemForm) -> Self {
        let kind = match form.kind.as_str() {
            "unresolved" => ProblemKind::Unresolved,
            "limit" => ProblemKind::Limit,
            _ => ProblemKind::Package,
        };
        let mut problem = Self::new(kind, form.message);
        problem.help = form.help;
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_half_of_it_is_not() {
        let mut pack = Pack::default();
        pack.entries.insert("a".into(), PackageEntry::Module { file: "a.js".into(), common_js: true });
        pack.entries.insert("b".into(), PackageEntry::Style { file: "b.css".into() });
        pack.failed.insert("c".into(), Problem::new(ProblemKind::Unresolved, "no c").help("add it"));
        let script = PackageFile::new("text/javascript", "one").importing(vec!["b.js".into()]);
        pack.files.insert("a.js".into(), script);
        pack.files.insert("b.css".into(), PackageFile::new("text/css", "three"));
        let whole = Bytes::from([pack.head().as_slice(), b"one", b"three"].concat());
        let again = Pack::read(&whole).unwrap();
        assert_eq!(again.entries, pack.entries);
        assert_eq!(again.failed, pack.failed);
        assert_eq!(again.files["b.css"].contents, "three");
        assert_eq!(again.files["a.js"].content_type, "text/javascript");
        assert_eq!(again.files["a.js"].imports, ["b.js"]);
        for end in 0..whole.len() {
            assert!(Pack::read(&whole.slice(..end)).is_none(), "{end}");
        }
        assert!(Pack::read(&Bytes::from([&whole[..], b"x"].concat())).is_none());
    }
}
