//! A whole platform in memory, seeded, without child processes.

use overskill_core::{
    AppHandle, AppId, AppRecord, Platform, PlatformBuilder, Result, SeededIds, SystemGrant, SystemScopes, TestClock,
    memory::MemoryBackends,
};
use std::sync::Arc;

/// A platform in memory with its clock and backends in the test's hands.
///
/// The same seed gives the same ids and the same story, as long as the test does the same.
#[derive(Clone, Debug)]
pub struct TestPlatform {
    /// The platform.
    pub platform: Platform,
    /// Its clock; it stands still until it is moved.
    pub clock: TestClock,
    /// Its backends, to look inside.
    pub memory: MemoryBackends,
    host: SystemGrant,
}

/// A platform in memory with the seed 1.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use overskill_core::{Environment, Outcome};
/// let test = overskill_testkit::platform().await;
/// let app = test.app("todo42").await;
/// app.write(overskill_testkit::fixtures::todo_app()).await?;
/// let outcome = test.clock.drive(app.deploy(Environment::Production).await?.outcome()).await?;
/// assert!(matches!(outcome, Outcome::Active { .. }));
/// # Ok::<(), overskill_core::Error>(())
/// # }).unwrap();
/// ```
pub async fn platform() -> TestPlatform {
    TestPlatform::seeded(1, |builder, _| builder).await.expect("backends in memory are ready")
}

impl TestPlatform {
    /// A platform in memory that `change` may change before it is built: wrap a target, take another store.
    pub async fn seeded(
        seed: u64,
        change: impl FnOnce(PlatformBuilder, &MemoryBackends) -> PlatformBuilder,
    ) -> Result<Self> {
        let clock = TestClock::new();
        let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(seed)));
        Self::over(clock, memory, change).await
    }

    /// Another platform over backends that are there already: what a restarted process finds.
    pub async fn over(
        clock: TestClock,
        memory: MemoryBackends,
        change: impl FnOnce(PlatformBuilder, &MemoryBackends) -> PlatformBuilder,
    ) -> Result<Self> {
        let platform = change(memory.platform(), &memory).build().await?;
        let host = platform.gate().system("testkit", "a test", SystemScopes::All).await?;
        Ok(Self { platform, clock, memory, host })
    }

    /// The host's own grant, for all apps.
    pub fn host(&self) -> &SystemGrant {
        &self.host
    }

    /// An app, added if it is not there, in the hands of the host.
    ///
    /// # Panics
    /// When `app` is no app id.
    pub async fn app(&self, app: &str) -> AppHandle {
        let id = AppId::parse(app).expect("a test's app id is legal");
        let now = overskill_core::Clock::now(&self.clock);
        let record = AppRecord::new(id.clone(), app, now);
        self.platform.put_app(&self.host, &record).await.expect("a directory in memory takes apps");
        self.platform.open(self.host.clone(), id).await.expect("the app was just added")
    }
}
