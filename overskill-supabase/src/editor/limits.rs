//! How long and how much a change may lock.

use std::time::Duration;

/// What a [`SchemaEditor`](super::SchemaEditor) may ask of a database that others use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EditorLimits {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) lock_timeout: Duration,
    pub(super) attempts: u32,
    pub(super) statement_timeout: Duration,
    pub(super) online_timeout: Duration,
    pub(super) batch_pages: u32,
}

impl EditorLimits {
    /// 100,000 rows or 256 MiB of a table may be read or written while others wait; 2 seconds for a lock, 5 times; 15 seconds
    /// for a statement that others wait for, an hour for one that they do not.
    pub const fn new() -> Self {
        Self {
            rows: 100_000,
            bytes: 256 << 20,
            lock_timeout: Duration::from_secs(2),
            attempts: 5,
            statement_timeout: Duration::from_secs(15),
            online_timeout: Duration::from_hours(1),
            batch_pages: 256,
        }
    }

    /// Sets from how many rows a table is large. What would lock a large table for as long as it takes to go through it is
    /// done in steps that do not, or refused when there are none.
    pub const fn rows(mut self, rows: u64) -> Self {
        self.rows = rows;
        self
    }

    /// Sets from how many bytes, with indexes, a table is large.
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets how long a statement waits for its lock, and everybody else behind it, and how often it is tried (at least once).
    pub const fn locks(mut self, timeout: Duration, attempts: u32) -> Self {
        (self.lock_timeout, self.attempts) = (timeout, attempts);
        self
    }

    /// Sets how long a statement may run that others wait for, and one that they do not.
    pub const fn timeouts(mut self, waited_for: Duration, online: Duration) -> Self {
        (self.statement_timeout, self.online_timeout) = (waited_for, online);
        self
    }

    /// Sets how many pages of 8 KiB are filled at a time, at least one.
    pub const fn batch_pages(mut self, pages: u32) -> Self {
        self.batch_pages = if pages == 0 { 1 } else { pages };
        self
    }
}

impl Default for EditorLimits {
    fn default() -> Self {
        Self::new()
    }
}
