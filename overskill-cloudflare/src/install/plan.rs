//! What an installation changes.

use std::fmt;

/// What is done to one thing in the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is made.
    Create,
    /// It is there, and becomes what it should be.
    Update,
    /// It is taken away, with everything in it.
    Remove,
}

/// One change of the account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// To what sort of thing: `dispatch namespace`, `KV namespace`, `R2 bucket`, `Worker`, `DNS record`, `route`,
    /// `fallback origin`, `custom hostname`.
    pub what: &'static str,
    /// Its name in the account.
    pub name: String,
}

impl Change {
    pub(super) fn new(action: Action, what: &'static str, name: impl Into<String>) -> Self {
        Self { action, what, name: name.into() }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match self.action {
            Action::Create => "create",
            Action::Update => "update",
            Action::Remove => "remove",
        };
        write!(f, "{action} {} `{}`", self.what, self.name)
    }
}

/// Changes of the account, in their order. `Display` has a line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub(super) changes: Vec<Change>,
}

impl Plan {
    /// Whether everything is as it should be.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(super) fn add(&mut self, action: Action, what: &'static str, name: impl Into<String>) {
        self.changes.push(Change::new(action, what, name));
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing to change");
        }
        for (n, change) in self.changes.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{change}")?;
        }
        Ok(())
    }
}
