//! A backend that answers what it was told to, for the tests of all wrappers.

use crate::{Effect, Error, ErrorKind, Notice, Notifier, Readiness, Result};
use async_trait::async_trait;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

/// Of its two methods `check` is safe to repeat and `notify` is not. Without a step left, both succeed. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Scripted(Arc<Mutex<Script>>);

#[derive(Debug, Default)]
struct Script {
    steps: VecDeque<Step>,
    calls: usize,
    running: usize,
}

#[derive(Debug)]
enum Step {
    Succeed,
    Fail(Error),
    Hang,
}

impl Scripted {
    /// The next call without a step fails with `error`.
    pub(super) fn fail(self, error: Error) -> Self {
        self.script().steps.push_back(Step::Fail(error));
        self
    }

    /// The next `n` calls without a step fail so.
    pub(super) fn fail_times(self, n: usize, kind: ErrorKind, effect: Effect) -> Self {
        (0..n).fold(self, |scripted, _| scripted.fail(Error::new(kind, "scripted").effect_as(effect)))
    }

    /// The next call without a step succeeds.
    pub(super) fn succeed(self) -> Self {
        self.script().steps.push_back(Step::Succeed);
        self
    }

    /// The next call without a step never ends.
    pub(super) fn hang(self) -> Self {
        self.script().steps.push_back(Step::Hang);
        self
    }

    pub(super) fn calls(&self) -> usize {
        self.script().calls
    }

    /// Calls that have neither ended nor been dropped.
    pub(super) fn running(&self) -> usize {
        self.script().running
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    async fn call(&self) -> Result<()> {
        let step = {
            let mut script = self.script();
            script.calls += 1;
            script.running += 1;
            script.steps.pop_front().unwrap_or(Step::Succeed)
        };
        let _running = Running(self);
        match step {
            Step::Succeed => Ok(()),
            Step::Fail(error) => Err(error),
            Step::Hang => std::future::pending().await,
        }
    }
}

struct Running<'a>(&'a Scripted);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.script().running -= 1;
    }
}

#[async_trait]
impl Notifier for Scripted {
    async fn check(&self) -> Result<Readiness> {
        self.call().await.map(|()| Readiness::ready("scripted"))
    }

    async fn notify(&self, _: &Notice) -> Result<()> {
        self.call().await
    }
}

pub(super) fn notice() -> Notice {
    Notice::Backend { name: "kv".into(), message: "down".into() }
}
