use super::Settings;
use overskill_core::{Clock, Ids, SystemClock, SystemIds};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// What a write has survived when it returns: SQLite's `synchronous`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Also a power cut: every commit waits until the disk has it (`synchronous = FULL`).
    #[default]
    Full,
    /// The end of the process, however it came, but a power cut or a crash of the system may take the last writes (those
    /// since the last checkpoint), though never half of one (`synchronous = NORMAL`). Many times faster on slow disks.
    Normal,
}

/// How to open a [`SqliteStores`](super::SqliteStores).
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    pub(super) durability: Durability,
    pub(super) busy_timeout: Duration,
    pub(super) readers: NonZeroU32,
    pub(super) create: bool,
    pub(super) ids: Arc<dyn Ids>,
    pub(super) clock: Arc<dyn Clock>,
    history: u32,
}

impl SqliteOptions {
    /// Full durability, 5 seconds of patience with other processes, 4 readers, and a history of 256 changes a scope.
    pub fn new() -> Self {
        Self {
            durability: Durability::Full,
            busy_timeout: Duration::from_secs(5),
            readers: NonZeroU32::new(4).expect("not zero"),
            create: true,
            ids: Arc::new(SystemIds),
            clock: Arc::new(SystemClock),
            history: 256,
        }
    }

    /// Sets what a write has survived when it returns.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets how long a call waits for another process to finish writing, before it is `Unavailable`. At most 24 days.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Sets how many connections may read at a time. Each is a thread, made when it is first needed.
    pub fn readers(mut self, readers: NonZeroU32) -> Self {
        self.readers = readers;
        self
    }

    /// Sets whether a file that is missing is created (the default) or refused.
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets how many changes per scope the file store remembers for those who catch up; 0 for none.
    pub fn history(mut self, changes: u32) -> Self {
        self.history = changes;
        self
    }

    /// Sets where randomness comes from: that of a new database's incarnation.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// Sets the clock by which opening waits for other processes that open the same file.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    pub(super) fn settings(&self) -> Settings {
        Settings { history: self.history }
    }
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self::new()
    }
}
