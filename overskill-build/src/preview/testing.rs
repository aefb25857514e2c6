//! What the tests of this folder share.

use super::files::{Files, Pool};
use overskill_core::{
    AppFile, EnvKey, EnvRevision, EnvSnapshot, EnvValue, FilePath, Incarnation, Snapshot, StreamPosition,
};

pub(crate) fn snapshot(seq: u64, list: &[(&str, &str)]) -> Snapshot {
    let files = list.iter().map(|(path, text)| (FilePath::parse(path).unwrap(), AppFile::new((*text).to_owned())));
    Snapshot::new(StreamPosition::new(Incarnation::from_u64(1), seq), files.collect())
}

pub(super) fn files(list: &[(&str, &str)]) -> Files {
    Files::of(&snapshot(1, list), &Pool::default())
}

pub(super) fn env(seq: u64, list: &[(&str, EnvValue)]) -> EnvSnapshot {
    let values = list.iter().map(|(key, value)| (EnvKey::parse(key).unwrap(), value.clone()));
    let revision = EnvRevision(StreamPosition::new(Incarnation::from_u64(2), seq));
    EnvSnapshot { revision, values: values.collect() }
}
