//! Where an app's tables are, and moving them.

mod beside;
mod copy;
mod mover;
mod side;
mod steps;

pub use mover::{Move, MoveStep, Mover};

use crate::{context::ContextKeys, tx::Server};
use async_trait::async_trait;
use overskill_core::{Effect, Error, ErrorKind, ParseError, Result};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Where an app's tables are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// In the tables that all apps share, where each app begins: tens of thousands of apps, and nothing to make for one.
    Shared,
    /// In tables of its own, in a schema of its own of the same database, with the same walls around them: for the few apps
    /// that are large, or have to be backed up, measured or indexed by themselves. The schema's name tells nothing of whose
    /// it is. What any tenant's SQL could still learn from the server's own catalogs is how many such schemas there are,
    /// and how large. The [gateway](crate::gateway_function) serves it like any other.
    Schema,
    /// In the database of another project, such as the customer's own: bring your own Supabase. [`Schema`](crate::Schema)
    /// was installed there before. The platform's own server reaches it there; the gateway of the platform's project does
    /// not, and says so with 421.
    OwnProject(ProjectName),
}

impl Placement {
    /// As a move's record has it, with the schema for an app that gets its own.
    fn of_place(place: &str) -> Result<Self> {
        match place.strip_prefix("project:") {
            Some(name) => Ok(Self::OwnProject(ProjectName::parse(name)?)),
            None if place == SHARED => Ok(Self::Shared),
            None => Ok(Self::Schema),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("the shared tables"),
            Self::Schema => f.write_str("a schema of its own"),
            Self::OwnProject(name) => write!(f, "project `{name}`"),
        }
    }
}

/// The schema of the tables that apps share, on every project alike.
const SHARED: &str = "overskill_data";

/// What the platform calls a project that an app may be moved to: 1 to 64 of `a-z 0-9 -`. A Supabase project's ref will do.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectName(Arc<str>);

impl ProjectName {
    /// Takes a name as it is.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
            return Ok(Self(text.into()));
        }
        Err(ParseError::new("project name", "must be 1 to 64 of a-z, 0-9 and -", text))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProjectName({:?})", &*self.0)
    }
}

/// How another project's database is reached: as each of its roles, and with its own keys for contexts.
#[derive(Clone, Debug)]
pub struct Project {
    pub(crate) owner: Server,
    pub(crate) app: Server,
    pub(crate) explorer: Server,
    pub(crate) keys: ContextKeys,
}

impl Project {
    /// `owner` installed the [`Schema`](crate::Schema) there, with `keys`; `app` logs in as `overskill_app`, and `explorer` as
    /// `overskill_explorer`.
    ///
    /// The keys should be the project's alone: whoever owns its database can read what it checks contexts with, and could
    /// sign contexts for any app of another database that takes the same keys.
    pub fn new(owner: Server, app: Server, explorer: Server, keys: ContextKeys) -> Self {
        Self { owner, app, explorer, keys }
    }
}

/// Who knows how projects are reached. The platform's database keeps their names, and no credentials.
#[async_trait]
pub trait Projects: fmt::Debug + Send + Sync + 'static {
    /// The project of this name; `NotFound` if there is none. Asked again every [half
    /// minute](crate::PoolOptions::route_age) for each app that is in use.
    async fn project(&self, name: &ProjectName) -> Result<Project>;
}

#[async_trait]
impl<P: Projects + ?Sized> Projects for Arc<P> {
    async fn project(&self, name: &ProjectName) -> Result<Project> {
        (**self).project(name).await
    }
}

/// A few projects, in memory.
#[derive(Clone, Debug, Default)]
pub struct ProjectList(BTreeMap<ProjectName, Project>);

impl ProjectList {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a project, or replaces the one of that name.
    pub fn with(mut self, name: ProjectName, project: Project) -> Self {
        self.0.insert(name, project);
        self
    }
}

#[async_trait]
impl Projects for ProjectList {
    async fn project(&self, name: &ProjectName) -> Result<Project> {
        self.0.get(name).cloned().ok_or_else(|| {
            let message = format!("project `{name}` is not known: name it to whoever was given as `projects`");
            Error::new(ErrorKind::NotFound, message).effect_as(Effect::None).at("supabase", "find a project")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        for good in ["a", "abcdefghijklmnopqrst", "acme-2"] {
            assert_eq!(ProjectName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "A", "a b", "a:b", "a_b", &"x".repeat(65)] {
            let e = ProjectName::parse(bad).unwrap_err().to_string();
            assert!(e.contains("1 to 64"), "{e}");
        }
    }

    #[test]
    fn a_place_is_read_back() {
        assert_eq!(Placement::of_place("overskill_data").unwrap(), Placement::Shared);
        assert_eq!(Placement::of_place("overskill_app_0123456789abcdef").unwrap(), Placement::Schema);
        let acme = ProjectName::parse("acme").unwrap();
        assert_eq!(Placement::of_place("project:acme").unwrap(), Placement::OwnProject(acme));
        assert!(Placement::of_place("project:").is_err());
    }
}
