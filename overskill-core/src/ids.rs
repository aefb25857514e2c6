//! Randomness: everything random in overskill comes from [`Ids`], so that a test can seed it.

use crate::Timestamp;
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};
use uuid::Uuid;

/// A source of randomness.
///
/// [`SystemIds`] (the operating system's) in service, [`SeededIds`] in tests.
pub trait Ids: fmt::Debug + Send + Sync + 'static {
    /// Fills `bytes` with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

impl<I: Ids + ?Sized> Ids for Arc<I> {
    fn fill(&self, bytes: &mut [u8]) {
        (**self).fill(bytes);
    }
}

/// What is made from randomness.
pub trait IdsExt: Ids {
    /// A random number.
    fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A UUIDv7 (RFC 9562) of that moment: ids made later sort later, to the millisecond.
    fn uuid_v7(&self, now: Timestamp) -> Uuid {
        let mut random = [0; 10];
        self.fill(&mut random);
        let millis = u64::try_from(now.as_unix_millis()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// A duration spread evenly over `0..=max` ("full jitter").
    fn jitter(&self, max: Duration) -> Duration {
        let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
        match nanos.checked_add(1) {
            Some(bound) => Duration::from_nanos(self.random_u64() % bound),
            None => Duration::from_nanos(self.random_u64()),
        }
    }
}

impl<I: Ids + ?Sized> IdsExt for I {}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system has randomness");
    }
}

/// The same sequence for the same seed (`SplitMix64`). **For tests: anybody can guess it.** Clones share the sequence.
#[derive(Clone, Debug)]
pub struct SeededIds(Arc<Mutex<u64>>);

impl SeededIds {
    /// A sequence that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(seed)))
    }
}

impl Ids for SeededIds {
    fn fill(&self, bytes: &mut [u8]) {
        let mut state = self.0.lock().expect("no holder of the seed panics");
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays() {
        let draw = |seed| (0..4).map(|_| SeededIds::new(seed).random_u64()).collect::<Vec<_>>();
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn uuids_sort_by_time_and_are_version_7() {
        let ids = SeededIds::new(1);
        let early = ids.uuid_v7(Timestamp::from_unix_millis(1_000));
        let late = ids.uuid_v7(Timestamp::from_unix_millis(1_001));
        assert!(early < late);
        assert_eq!(early.get_version_num(), 7);
    }

    #[test]
    fn jitter_stays_within_its_bound() {
        let ids = SeededIds::new(2);
        let max = Duration::from_millis(10);
        assert!((0..1000).all(|_| ids.jitter(max) <= max));
        assert_eq!(ids.jitter(Duration::ZERO), Duration::ZERO);
        ids.jitter(Duration::MAX);
    }
}
