//! The same work, asked for by many at once, is done once.

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use overskill_core::{Digest, Progress};
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
};

/// Work under way, by what identifies it. It runs on whoever waits for it, and is dropped with the last of them.
pub(crate) struct Flights<T: Clone>(Mutex<HashMap<Digest, UnderWay<T>>>);

struct UnderWay<T: Clone> {
    work: WeakShared<BoxFuture<'static, T>>,
    audience: Audience,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    /// Joins the work that has this key, or starts it; `progress` hears of it from here on.
    pub(crate) async fn join<F>(&self, key: Digest, progress: &Progress, start: impl FnOnce(Audience) -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let work = self.find_or_start(key, progress, start);
        let done = work.await;
        let mut all = self.0.lock().expect("nothing panics under this lock");
        all.retain(|_, it| it.work.upgrade().is_some_and(|work| work.peek().is_none()));
        done
    }

    fn find_or_start<F>(
        &self,
        key: Digest,
        progress: &Progress,
        start: impl FnOnce(Audience) -> F,
    ) -> Shared<BoxFuture<'static, T>>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut all = self.0.lock().expect("nothing panics under this lock");
        if let Some(found) = all.get(&key)
            && let Some(work) = found.work.upgrade()
        {
            found.audience.add(progress);
            return work;
        }
        let audience = Audience::default();
        audience.add(progress);
        let work = start(audience.clone()).boxed().shared();
        if let Some(weak) = work.downgrade() {
            all.insert(key, UnderWay { work: weak, audience });
        }
        work
    }
}

/// Those who want to hear how the work goes.
#[derive(Clone, Default)]
pub(crate) struct Audience(Arc<Mutex<Vec<Progress>>>);

impl Audience {
    fn add(&self, progress: &Progress) {
        self.0.lock().expect("nothing panics under this lock").push(progress.clone());
    }

    /// Tells all of them.
    pub(crate) fn at(&self, percent: u8, stage: &str, message: &str) {
        let all = self.0.lock().expect("nothing panics under this lock").clone();
        for progress in all {
            progress.at(percent, stage, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_run() {
        let (flights, runs) = (Flights::new(), Arc::new(AtomicU32::new(0)));
        let (key, nobody) = (Digest::of(b"x"), Progress::discard());
        let ask = || {
            let runs = Arc::clone(&runs);
            flights.join(key, &nobody, |_| async move {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                runs.fetch_add(1, Ordering::SeqCst)
            })
        };
        assert_eq!(futures::future::join_all([ask(), ask(), ask()]).await, [0, 0, 0]);
        assert_eq!(ask().await, 1, "it is over, so it starts anew");
        assert!(flights.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_dropped() {
        let flights = Flights::new();
        let (alive, gone) = tokio::sync::oneshot::channel::<()>();
        let work = flights.find_or_start(Digest::of(b"x"), &Progress::discard(), |_| async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        assert!(futures::poll!(work.clone()).is_pending());
        drop(work);
        assert!(gone.await.is_err());
    }
}
