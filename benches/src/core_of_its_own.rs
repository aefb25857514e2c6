//! Keeping what is measured on one core.

/// Keeps this thread, and all that it starts, on one core until this is dropped; where the system can (Linux).
///
/// Two threads that wait for each other take ten times as long when they are on two cores of which one has to be woken
/// each time. Which of them share a core is up to the scheduler and stays so for seconds, so that the same call is fast in
/// one thread and slow in another. On one core they are all alike.
#[derive(Debug)]
pub struct OneCore {
    #[cfg(target_os = "linux")]
    before: Option<rustix::thread::CpuSet>,
}

impl OneCore {
    /// Begins. Without the right to, it changes nothing.
    pub fn keep() -> Self {
        #[cfg(target_os = "linux")]
        {
            use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
            let before = sched_getaffinity(None).ok();
            // The last: the first has the system's own work to do.
            let last = before.and_then(|before| (0..CpuSet::MAX_CPU).rev().find(|core| before.is_set(*core)));
            if let Some(core) = last {
                let mut one = CpuSet::new();
                one.set(core);
                let _ = sched_setaffinity(None, &one); // then the scheduler chooses, as without this
            }
            Self { before }
        }
        #[cfg(not(target_os = "linux"))]
        Self {}
    }
}

#[cfg(target_os = "linux")]
impl Drop for OneCore {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::thread::sched_setaffinity(None, before); // it was allowed before
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::thread::sched_getaffinity;

    #[test]
    fn threads_stay_on_one_core_until_it_is_dropped() {
        let before = sched_getaffinity(None).unwrap().count();
        let one = OneCore::keep();
        assert_eq!(std::thread::spawn(|| sched_getaffinity(None).unwrap().count()).join().unwrap(), 1);
        drop(one);
        assert_eq!(sched_getaffinity(None).unwrap().count(), before);
    }
}
