use super::Settings;
use overskill_core::{Ids, ParseError, Result, SystemIds};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// How to use a database for [`PostgresStores`](super::PostgresStores).
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    pub(super) schema: String,
    pub(super) max_connections: NonZeroU32,
    pub(super) statement_timeout: Duration,
    pub(super) acquire_timeout: Duration,
    pub(super) ids: Arc<dyn Ids>,
    history: u32,
}

impl PostgresOptions {
    /// The schema `overskill`, at most 10 connections, 30 seconds for a statement, 10 for a free connection, and a history
    /// of 256 changes a scope.
    pub fn new() -> Self {
        Self {
            schema: "overskill".into(),
            max_connections: NonZeroU32::new(10).expect("not zero"),
            statement_timeout: Duration::from_secs(30),
            acquire_timeout: Duration::from_secs(10),
            ids: Arc::new(SystemIds),
            history: 256,
        }
    }

    /// Sets the schema: 1 to 63 of `a-z 0-9 _`, beginning with a letter, and not `pg_…`.
    pub fn schema(mut self, name: &str) -> Result<Self> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let rule = if name.is_empty() || name.len() > 63 {
            "must be 1 to 63 bytes long"
        } else if !name.bytes().all(legal) || !name.as_bytes()[0].is_ascii_lowercase() {
            "may hold only a-z, 0-9 and _, and must begin with a letter"
        } else if name.starts_with("pg_") {
            "may not begin with pg_, which is the server's"
        } else {
            self.schema = name.into();
            return Ok(self);
        };
        Err(ParseError::new("schema name", rule, name).into())
    }

    /// Sets how many connections may be open at a time.
    pub fn max_connections(mut self, connections: NonZeroU32) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets how long the server lets a statement run, waiting for locks included. From a millisecond to 24 days.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = timeout;
        self
    }

    /// Sets how long a call waits for a free connection before it is `Unavailable`.
    pub fn acquire_timeout(mut self, timeout: Duration) -> Self {
        self.acquire_timeout = timeout;
        self
    }

    /// Sets how many changes per scope the file store remembers for those who catch up; 0 for none.
    pub fn history(mut self, changes: u32) -> Self {
        self.history = changes;
        self
    }

    /// Sets where randomness comes from: that of a new schema's incarnation.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    pub(super) fn statement_timeout_ms(&self) -> String {
        millis(self.statement_timeout)
    }

    /// How long a transaction may stand still, which is up to this process and its machine, not to a statement.
    pub(super) fn idle_timeout_ms(&self) -> String {
        millis(self.statement_timeout.max(SHORTEST_IDLE))
    }

    pub(super) fn settings(&self) -> Settings {
        Settings { history: self.history }
    }
}

/// Less would cut off transactions of a process that is merely busy.
const SHORTEST_IDLE: Duration = Duration::from_secs(10);

/// A timeout as the server takes it: an `int` of milliseconds, of which 0 would mean none at all.
fn millis(timeout: Duration) -> String {
    timeout.as_millis().clamp(1, i32::MAX as u128).to_string()
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_what_the_server_takes() {
        let of = |timeout| {
            let options = PostgresOptions::new().statement_timeout(timeout);
            (options.statement_timeout_ms(), options.idle_timeout_ms())
        };
        let text = |one: &str, two: &str| (one.to_owned(), two.to_owned());
        assert_eq!(of(Duration::from_secs(30)), text("30000", "30000"));
        assert_eq!(of(Duration::from_millis(200)), text("200", "10000"));
        assert_eq!(of(Duration::from_nanos(1)), text("1", "10000"), "0 would be no timeout");
        assert_eq!(of(Duration::MAX), text("2147483647", "2147483647"));
    }

    #[test]
    fn schema_names_need_no_quotes() {
        for bad in ["", "Public", "pg_x", "a-b", "a\"; DROP", "1a", "_a", &"x".repeat(64)] {
            assert!(PostgresOptions::new().schema(bad).is_err(), "{bad}");
        }
        assert_eq!(PostgresOptions::new().schema("overskill_eu2").unwrap().schema, "overskill_eu2");
    }
}
