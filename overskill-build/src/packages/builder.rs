//! Settings of [`NpmPackages`].

use super::{
    flight::Flights,
    kept::Kept,
    npm::{Inner, NpmPackages},
    registry::{Calling, Registries},
    settings::{Settings, Sources},
    store::Store,
    unpack::UnpackLimits,
};
use crate::Result;
use overskill_core::{Clock, SystemClock};
use overskill_http::Transport;
use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, thread, time::Duration};
use tokio::sync::Semaphore;

/// What can be set besides where packages come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) package: UnpackLimits,
    pub(crate) max_unpacked_bytes: u64,
    pub(crate) max_tarball_bytes: usize,
    pub(crate) max_bundled_bytes: u64,
    pub(crate) bundling_limit: Duration,
}

/// Settings of [`NpmPackages`].
///
/// Where the registry is, is said by [`registry`](Self::registry), else `NPM_CONFIG_REGISTRY` or `npm_config_registry` in
/// the environment, else `registry=` in the file of [`npmrc`](Self::npmrc), else in `~/.npmrc`. Registries of scopes
/// (`@acme:registry=`) and credentials (`//host/:_authToken=`, `_auth`) come from those files too. An app's own `.npmrc`
/// is never read.
#[must_use = "a builder does nothing before `build`"]
#[derive(Debug)]
pub struct NpmPackagesBuilder {
    cache_dir: PathBuf,
    sources: Sources,
    transport: Option<Arc<dyn Transport>>,
    clock: Arc<dyn Clock>,
    plain_http: bool,
    downloads: NonZeroUsize,
    memory_bytes: usize,
    options: Options,
}

impl NpmPackagesBuilder {
    pub(crate) fn new(cache_dir: PathBuf) -> Self {
        Self {
            cache_dir,
            sources: Sources::default(),
            transport: None,
            clock: Arc::new(SystemClock),
            plain_http: false,
            downloads: const { NonZeroUsize::new(16).expect("16 is not 0") },
            memory_bytes: 256 << 20,
            options: Options {
                package: UnpackLimits { bytes: 200 << 20, files: 50_000, depth: 32, ratio: 200 },
                max_unpacked_bytes: 512 << 20,
                max_tarball_bytes: 100 << 20,
                max_bundled_bytes: 128 << 20,
                bundling_limit: Duration::from_mins(1),
            },
        }
    }

    /// The registry's address, in place of what environment and files say.
    pub fn registry(mut self, url: impl Into<String>) -> Self {
        self.sources.registry = Some(url.into());
        self
    }

    /// A file in the form of `.npmrc`, besides `~/.npmrc`, over which it wins.
    pub fn npmrc(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.npmrc = Some(path.into());
        self
    }

    /// Looks neither at the environment nor at `~/.npmrc`.
    pub fn ignore_environment(mut self) -> Self {
        self.sources.ignore_environment = true;
        self
    }

    /// What carries the calls to registries; the network unless set.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Where time comes from; the machine's clocks unless set.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Lets registries be called over plain `http` where they are not on this machine, such as in a private network.
    pub fn allow_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// How many calls to registries may be under way at once; 16 unless set.
    pub fn downloads_at_once(mut self, downloads: NonZeroUsize) -> Self {
        self.downloads = downloads;
        self
    }

    /// How many bytes of prepared packages stay in memory when no preview uses them; 256 MiB unless set. Those in use stay
    /// in any case.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// How large one package may be: its tarball and its files, in bytes. 100 MiB and 200 MiB unless set.
    pub fn max_package_bytes(mut self, tarball: usize, unpacked: u64) -> Self {
        self.options.max_tarball_bytes = tarball;
        self.options.package.bytes = unpacked;
        self
    }

    /// How large all packages that an app imports may be together when unpacked, in bytes; 512 MiB unless set.
    pub fn max_unpacked_bytes(mut self, bytes: u64) -> Self {
        self.options.max_unpacked_bytes = bytes;
        self
    }

    /// How long one run of esbuild may take; 60 s unless set. It is stopped then.
    pub fn bundling_limit(mut self, limit: Duration) -> Self {
        self.options.bundling_limit = limit;
        self
    }

    /// The resolver. Calls nobody; reads the environment and `.npmrc` files.
    ///
    /// A registry may be missing: then only what is cached can be had, and [`check`](super::DependencyResolver::check)
    /// says so.
    ///
    /// # Errors
    /// `Invalid` when an address is malformed or plain `http`, or a given file cannot be read.
    pub fn build(self) -> Result<NpmPackages> {
        let settings = Settings::read(&self.sources)?;
        let calling = Calling {
            transport: self.transport,
            clock: Arc::clone(&self.clock),
            plain_http: self.plain_http,
            downloads: self.downloads.get(),
            max_tarball_bytes: self.options.max_tarball_bytes,
        };
        let processors = thread::available_parallelism().map_or(2, NonZeroUsize::get);
        Ok(NpmPackages(Arc::new(Inner {
            store: Store::new(self.cache_dir),
            registries: Registries::new(&settings, calling)?,
            clock: self.clock,
            options: self.options,
            kept: Kept::new(self.memory_bytes),
            unpacking: Semaphore::new(processors.max(2)),
            bundling: Semaphore::new(processors.div_ceil(2)),
            requests: Flights::new(),
            packs: Flights::new(),
            unpacking_now: Flights::new(),
            programs: Flights::new(),
            pinned: Flights::new(),
        })))
    }
}
