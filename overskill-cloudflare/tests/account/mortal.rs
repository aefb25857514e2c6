//! A process that dies at one of its calls.

use crate::common::transport;
use overskill_cloudflare::CloudflareBuilder;
use overskill_http::{Request, Transport, transport_fn};
use overskill_testkit::cloudflare::{CloudflareEmulator, Moment};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::sync::Notify;

/// A process that dies at its `at`th call, before or after that had its effect.
#[derive(Clone)]
pub(crate) struct Mortal {
    at: usize,
    moment: Moment,
    made: Arc<AtomicUsize>,
    died: Arc<Notify>,
}

impl Mortal {
    pub(crate) fn new(at: usize, moment: Moment) -> Self {
        Self { at, moment, made: Arc::default(), died: Arc::default() }
    }

    /// Its way to where `way` leads. All of its ways count together.
    pub(crate) fn way(&self, way: impl Transport) -> Arc<dyn Transport> {
        let (process, way): (_, Arc<dyn Transport>) = (self.clone(), Arc::new(way));
        Arc::new(transport_fn(move |request: Request| {
            let (process, way) = (process.clone(), way.clone());
            let call = process.made.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                if call < process.at {
                    return way.send(request).await;
                }
                if call == process.at && process.moment == Moment::After {
                    drop(way.send(request).await);
                }
                process.died.notify_one();
                std::future::pending().await
            }
        }))
    }

    /// The account as this process reaches it.
    pub(crate) fn connect(&self, emulator: &CloudflareEmulator) -> CloudflareBuilder {
        crate::common::connect(emulator).transport(self.way(transport(emulator)))
    }

    /// Whether it got to the end of that.
    pub(crate) async fn does(&self, work: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = work => true,
            () = self.died.notified() => false,
        }
    }
}

/// Has a process die at each call of `work` in turn, before and after that had its effect, each time in another `world`; then
/// others `resume`, who are told whether it got to the end, and where it died. Ends with the process that makes all calls,
/// which must be `least` or more.
pub(crate) async fn dies_anywhere<W>(
    least: usize,
    world: impl AsyncFn() -> W,
    work: impl AsyncFn(&W, &Mortal),
    resume: impl AsyncFn(&W, bool, &str),
) {
    for moment in [Moment::Before, Moment::After] {
        for at in 1.. {
            let (world, process) = (world().await, Mortal::new(at, moment));
            let finished = process.does(work(&world, &process)).await;
            resume(&world, finished, &format!("{moment:?} call {at}")).await;
            if finished {
                assert!(at > least, "only {} calls were tried", at - 1);
                break;
            }
        }
    }
}
