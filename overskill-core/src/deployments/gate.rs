use super::journal::Journal;
use crate::{Clock, DeployRequest, Handle, Health, HealthProbe, ProbeRequest, timeout};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// Whether a version is well, asked of a [`HealthProbe`]: before it gets the traffic where the target serves what is staged
/// at an address of its own, and after.
///
/// A version that is not well is the app's fault: it is rolled back, and no other target is asked.
///
/// ```
/// use overskill_core::{HealthGate, memory::MemoryProbe};
/// use std::{num::NonZeroU32, time::Duration};
/// let gate = HealthGate::new(MemoryProbe::new()).passes(NonZeroU32::new(2).unwrap(), NonZeroU32::new(5).unwrap());
/// let gate = gate.every(Duration::from_secs(2));
/// # let _ = gate;
/// ```
#[derive(Clone, Debug)]
pub struct HealthGate {
    probe: Arc<dyn HealthProbe>,
    passes: NonZeroU32,
    of: NonZeroU32,
    every: Duration,
}

impl HealthGate {
    /// Passes at the first good look of three, a second apart.
    pub fn new(probe: impl HealthProbe) -> Self {
        let count = |n| NonZeroU32::new(n).expect("not zero");
        Self { probe: Arc::new(probe), passes: count(1), of: count(3), every: Duration::from_secs(1) }
    }

    /// Passes with `passes` good looks of `of`; more than `of` counts as `of`.
    pub fn passes(mut self, passes: NonZeroU32, of: NonZeroU32) -> Self {
        (self.passes, self.of) = (passes.min(of), of);
        self
    }

    /// Sets the time between looks.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    pub(super) fn probe(&self) -> &Arc<dyn HealthProbe> {
        &self.probe
    }

    /// The time between looks.
    pub(super) fn pause(&self) -> Duration {
        self.every
    }

    /// Looks until it is decided, under the lease of `journal`; the inner error says why it did not pass. What has no
    /// address cannot be looked at, and passes.
    pub(super) async fn look(
        &self,
        clock: &dyn Clock,
        limit: Duration,
        request: &DeployRequest,
        handle: &Handle,
        journal: &mut Journal,
    ) -> crate::Result<Result<(), String>> {
        journal.keep().await?;
        let Some(url) = handle.url.clone() else { return Ok(Ok(())) };
        let ask = ProbeRequest::new(request.scope().clone(), url).expect(request.digest());
        let (mut good, mut why) = (0, String::from("it was never looked at"));
        for look in 1..=self.of.get() {
            match timeout(clock, limit, self.probe.probe(&ask)).await {
                Ok(Health::Healthy) => good += 1,
                Ok(Health::Unhealthy { reason }) => why = reason,
                // What cannot be looked at is not known to be well.
                Err(e) => why = format!("it could not be looked at: {e}"),
            }
            if good == self.passes.get() {
                return Ok(Ok(()));
            }
            if good + (self.of.get() - look) < self.passes.get() {
                break;
            }
            clock.sleep(self.every).await;
            journal.keep_unless_fresh().await?;
        }
        Ok(Err(why))
    }
}
