//! [`ModuleBuilder`]: sources to an artifact, without Node.

use super::{build::Build, trouble::failed};
use crate::{
    Result,
    compiler::{Compiler, CompilerOptions},
    packages::NpmPackages,
};
use async_trait::async_trait;
use overskill_core::{Artifact, BuildRequest, Builder, Effect, Error, ErrorKind, Readiness, timeout};
use std::time::Duration;

/// Builds an app as `vite build` would: bundled, minified, with hashed names, split where modules are imported when they are
/// needed. It runs neither Node nor anything of the app but Tailwind's configuration, and that only in a child that can read
/// its own folder and nothing else. Cheap to clone.
///
/// Where imports lead is decided by the rules of the [previews](crate::preview), so what works in one works in the other.
/// `src/worker.ts` (or `.js`), if there is one, becomes the artifact's server side: one ES module that exports `fetch`, and
/// the `.wasm` that it imports.
///
/// The artifact holds no environment's values: `DEV`, `PROD` and `SSR` are inlined; `MODE` and `VITE_…` come from a module
/// of their own, which a target fills in ([`Artifact::page_assets`]). What package.json says under `overskill`, as in
/// `{"overskill": {"sockets": true}}`, goes into its settings, for the choice of a target: `sockets`, `node`, `crons`
/// ([`AppFacts`](overskill_core::AppFacts)), and nothing else. So no app gets Durable Objects by its sources alone, from this
/// builder or any other of this crate: a host that gives it some wraps the builder, and adds the setting `durable_objects`
/// for Cloudflare's `WfpTarget`. The same sources with the same lock give the same digest, on every machine.
///
/// ```no_run
/// # async fn example(scope: overskill_core::Scope, sources: overskill_core::Snapshot) -> overskill_core::Result<()> {
/// use overskill_build::{packages::NpmPackages, production::ModuleBuilder};
/// use overskill_core::{BuildMode, BuildRequest, Builder as _};
///
/// let builder = ModuleBuilder::new(NpmPackages::builder("./data/packages").build()?);
/// let request = BuildRequest::new(scope, std::sync::Arc::new(sources), BuildMode::Production);
/// let artifact = builder.build(&request).await?;
/// println!("{} files, {} bytes, {}", artifact.files(), artifact.size_bytes(), artifact.digest());
/// # Ok(()) }
/// ```
///
/// # Errors
/// `Invalid` when the sources or the packages are at fault; the public message names files, lines, and what to do.
/// `Unavailable` when the registry, the disk or a tool could not be used.
#[derive(Clone, Debug)]
pub struct ModuleBuilder {
    compiler: Compiler,
    packages: NpmPackages,
    limits: Limits,
}

/// What a build may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) time: Duration,
    pub(super) output_bytes: u64,
    pub(super) tailwind_time: Duration,
    pub(super) tailwind_bytes: u64,
}

impl ModuleBuilder {
    /// A builder with packages from `packages`.
    pub fn new(packages: NpmPackages) -> Self {
        let limits = Limits {
            time: Duration::from_mins(5),
            output_bytes: 256 << 20,
            tailwind_time: Duration::from_secs(30),
            tailwind_bytes: 512 << 20,
        };
        Self { compiler: Compiler::new(CompilerOptions::production()), packages, limits }
    }

    /// Compiles with `compiler`, so that what it remembers is shared with others; its options do not matter here.
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = compiler;
        self
    }

    /// How long a build may take; 5 minutes unless set.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.limits.time = limit;
        self
    }

    /// How large an artifact may be, in bytes; 256 MiB unless set.
    pub fn max_output_bytes(mut self, bytes: u64) -> Self {
        self.limits.output_bytes = bytes;
        self
    }

    /// What the child that runs Tailwind may take: time, and memory in bytes beyond what its runtime takes itself. 30 s and
    /// 512 MiB unless set.
    pub fn tailwind_limits(mut self, time: Duration, memory_bytes: u64) -> Self {
        (self.limits.tailwind_time, self.limits.tailwind_bytes) = (time, memory_bytes);
        self
    }
}

#[async_trait]
impl Builder for ModuleBuilder {
    async fn check(&self) -> Result<Readiness> {
        // A registry may be missing: what is cached can be built without.
        let readiness = Readiness::ready("build");
        Ok(match self.packages.workspace().await {
            Ok(_) => readiness,
            Err(trouble) => {
                let what = format!("the folder of packages cannot be written: {}", trouble.into_error().message());
                readiness.lacks(what, "make it writable, or free some space")
            }
        })
    }

    async fn build(&self, request: &BuildRequest) -> Result<Artifact> {
        let work = Build::new(&self.compiler, &self.packages, self.limits, request);
        let clock = self.packages.clock().clone();
        let limit = self.limits.time;
        let built = timeout(&*clock, limit, async { work.run().await.map_err(failed) }).await;
        built.map_err(|e| {
            let e = if e.kind() == ErrorKind::Timeout {
                let why = format!(
                    "the build took longer than {} s and was stopped: import less, or smaller packages",
                    limit.as_secs()
                );
                Error::invalid(why.clone()).public(why)
            } else {
                e
            };
            e.effect_as(Effect::None).at("build", "build").with("scope", &request.scope)
        })
    }
}
