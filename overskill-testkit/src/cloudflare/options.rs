//! How an emulator is to be.

use super::{CloudflareEmulator, FaultPlan};
use overskill_core::{Clock, Result, SystemClock};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How a [`CloudflareEmulator`] is to be; from [`CloudflareEmulator::options`].
#[derive(Debug)]
pub struct CloudflareOptions {
    pub(super) account: String,
    pub(super) tokens: Vec<String>,
    pub(super) zones: Vec<String>,
    pub(super) quota: (usize, Duration),
    pub(super) clock: Arc<dyn Clock>,
    pub(super) seed: u64,
    pub(super) faults: FaultPlan,
    pub(super) record_bodies: bool,
    pub(super) kv_same_key: Duration,
    pub(super) single_asset_uploads: bool,
    pub(super) edge: bool,
    pub(super) api_port: u16,
    pub(super) edge_port: u16,
    pub(super) max_loaded_scripts: usize,
    pub(super) folder: Option<PathBuf>,
}

impl Default for CloudflareOptions {
    fn default() -> Self {
        Self {
            account: "acc0".repeat(8),
            tokens: vec!["emulator-token".to_owned()],
            zones: vec!["example.com".to_owned()],
            quota: (1200, Duration::from_mins(5)),
            clock: Arc::new(SystemClock),
            seed: 1,
            faults: FaultPlan::none(),
            record_bodies: false,
            kv_same_key: Duration::from_secs(1),
            single_asset_uploads: false,
            edge: true,
            api_port: 0,
            edge_port: 0,
            max_loaded_scripts: 64,
            folder: None,
        }
    }
}

impl CloudflareOptions {
    /// The account's id; `acc0…`, 32 digits long, unless said otherwise.
    pub fn account(mut self, id: impl Into<String>) -> Self {
        self.account = id.into();
        self
    }

    /// The API tokens; `emulator-token` alone unless said otherwise. Each is a key of the S3 API as well.
    pub fn tokens(mut self, tokens: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tokens = tokens.into_iter().map(Into::into).collect();
        self
    }

    /// The domains of the account; `example.com` alone unless said otherwise.
    pub fn zones(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.zones = names.into_iter().map(Into::into).collect();
        self
    }

    /// So many calls of the API in so long, over all tokens; 1,200 in 5 minutes unless said otherwise.
    pub fn quota(mut self, calls: usize, window: Duration) -> Self {
        self.quota = (calls, window);
        self
    }

    /// Where time comes from: for the quota, latencies, expiry and dates. What runs in workerd has the system's time.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Ids are made from it; the same calls yield the same ids.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What goes wrong; see also [`CloudflareEmulator::set_faults`].
    pub fn faults(mut self, plan: FaultPlan) -> Self {
        self.faults = plan;
        self
    }

    /// Keeps the bodies of requests for [`CloudflareEmulator::requests`]. Off unless said otherwise: they may be large.
    pub fn record_bodies(mut self, record: bool) -> Self {
        self.record_bodies = record;
        self
    }

    /// How long a key of KV takes no second write; the provider's 1 s unless said otherwise.
    pub fn kv_same_key_interval(mut self, interval: Duration) -> Self {
        self.kv_same_key = interval;
        self
    }

    /// Sessions ask for one upload per asset, as the provider does for some accounts. Off unless said otherwise.
    pub fn single_asset_uploads(mut self, single: bool) -> Self {
        self.single_asset_uploads = single;
        self
    }

    /// Whether [`start`](Self::start) runs workerd. On unless said otherwise.
    pub fn edge(mut self, edge: bool) -> Self {
        self.edge = edge;
        self
    }

    /// The loopback port of the API; any free one unless said otherwise.
    pub fn api_port(mut self, port: u16) -> Self {
        self.api_port = port;
        self
    }

    /// The loopback port of the edge; any free one unless said otherwise.
    pub fn edge_port(mut self, port: u16) -> Self {
        self.edge_port = port;
        self
    }

    /// How many user scripts stay loaded at least; beyond it those that rest are unloaded. 64 unless said otherwise:
    /// a small one takes 2 MiB.
    pub fn max_loaded_scripts(mut self, count: usize) -> Self {
        self.max_loaded_scripts = count;
        self
    }

    /// Where the data of Durable Objects lies, for as long as the caller keeps it; a folder of its own, gone with the
    /// emulator, unless said otherwise. Everything else is in memory.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// An emulator without a network and without an edge: only [`CloudflareEmulator::call`].
    pub fn in_process(self) -> CloudflareEmulator {
        CloudflareEmulator::new(self)
    }

    /// Starts it on loopback.
    ///
    /// # Errors
    /// `Unavailable` when a port is taken, workerd is not installed or does not start.
    pub async fn start(self) -> Result<CloudflareEmulator> {
        CloudflareEmulator::start_with(self).await
    }
}
