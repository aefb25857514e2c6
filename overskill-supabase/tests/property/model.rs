//! One app, as it should be; and what it means when it is not.

use std::{collections::BTreeMap, fmt};

/// Kinds of records. Each app says of each who may use it, and says otherwise now and then.
pub const KINDS: [&str; 3] = ["Private", "Listed", "Shared"];
/// Ids are the same few in all apps, so that whatever reaches too far finds something.
pub const IDS: u64 = 240;
/// A field with few values, to be looked for.
pub const GROUPS: u64 = 9;

pub type Key = (&'static str, String);

#[derive(Clone, Debug)]
pub struct Record {
    pub owner: String,
    /// Different in each write.
    pub n: u64,
    pub k: u64,
    pub deleted: bool,
    /// The order in which they came.
    pub place: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub records: BTreeMap<Key, Record>,
    pub access: BTreeMap<&'static str, i16>,
}

impl Model {
    /// `person` is nobody for a visitor.
    pub fn may_see(&self, key: &Key, record: &Record, person: Option<&str>) -> bool {
        self.access[key.0] >= 1 || person == Some(record.owner.as_str())
    }

    pub fn may_change(&self, key: &Key, record: &Record, person: Option<&str>) -> bool {
        self.access[key.0] == 2 || person == Some(record.owner.as_str())
    }

    pub fn may_make(&self, kind: &str, person: Option<&str>) -> bool {
        self.access[kind] == 2 || person.is_some()
    }

    /// What there is for somebody.
    pub fn seen(&self, app: &str, person: Option<&str>) -> Vec<Seen> {
        let visible = self.records.iter().filter(|(key, record)| self.may_see(key, record, person));
        visible.map(|(key, record)| Seen::of(app, key, record)).collect()
    }

    /// The records of a kind that were not deleted, of those that somebody may see.
    pub fn listed(&self, app: &str, kind: &str, person: Option<&str>) -> Vec<(u64, Seen)> {
        let here =
            |(key, record): &(&Key, &Record)| key.0 == kind && !record.deleted && self.may_see(key, record, person);
        self.records.iter().filter(here).map(|(key, record)| (record.place, Seen::of(app, key, record))).collect()
    }
}

/// A row, as somebody was shown it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub kind: String,
    pub id: String,
    /// Which app wrote it.
    pub app: String,
    pub n: u64,
    pub k: u64,
    /// Where they are told.
    pub owner: Option<String>,
    pub deleted: Option<bool>,
}

impl Seen {
    pub fn of(app: &str, key: &Key, record: &Record) -> Self {
        Self {
            kind: key.0.to_owned(),
            id: key.1.clone(),
            app: app.to_owned(),
            n: record.n,
            k: record.k,
            owner: Some(record.owner.clone()),
            deleted: Some(record.deleted),
        }
    }

    /// As the entity API shows it.
    pub fn without_owner(mut self) -> Self {
        (self.owner, self.deleted) = (None, None);
        self
    }
}

/// What must never be.
#[derive(Clone, Debug)]
pub enum Breach {
    Foreign(String),
    Lost(String),
    /// Anything else that is not as it should be.
    Wrong(String),
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, told) = match self {
            Self::Foreign(told) => ("a foreign row", told),
            Self::Lost(told) => ("a lost row", told),
            Self::Wrong(told) => ("not as it should be", told),
        };
        write!(f, "{what}: {told}")
    }
}

pub type Held<T = ()> = Result<T, Breach>;

pub fn wrong(what: &str, e: impl fmt::Display) -> Breach {
    Breach::Wrong(format!("{what}: {e}"))
}

/// Exactly the rows that there should be, in that order.
pub fn same(what: &str, app: &str, want: &[Seen], got: &[Seen]) -> Held {
    if want == got {
        return Ok(());
    }
    if let Some(row) = got.iter().find(|it| it.app != app) {
        return Err(Breach::Foreign(format!("{what} in {app}: a row of {}: {row:?}", row.app)));
    }
    let there = |row: &Seen, rows: &[Seen]| rows.iter().any(|it| (&it.kind, &it.id) == (&row.kind, &row.id));
    if let Some(row) = want.iter().find(|it| !there(it, got)) {
        return Err(Breach::Lost(format!("{what} in {app}: {row:?} is not there")));
    }
    if let Some(row) = got.iter().find(|it| !there(it, want)) {
        return Err(Breach::Wrong(format!("{what} in {app}: {row:?} should not be there")));
    }
    Err(Breach::Wrong(format!("{what} in {app}: {got:?} and not {want:?}")))
}

/// A write that should have met a row, or none, and did not.
pub fn met(what: &str, app: &str, key: &Key, should: bool, did: bool) -> Held {
    let what = format!("{what} {key:?} in {app}");
    match (should, did) {
        (true, false) => Err(Breach::Lost(format!("{what}: its row is not there"))),
        (false, true) => Err(Breach::Foreign(format!("{what}: it met a row that is nobody's here"))),
        _ => Ok(()),
    }
}
