//! The moments that cases of leases and schedules use.

use crate::Names;
use overskill_core::Timestamp;
use std::time::Duration;

/// A full minute, an hour from now. A store that takes the later of the moment it is given and its own clock takes the
/// one it is given, so a case can let any time pass without waiting.
pub(crate) fn base(names: &Names) -> Timestamp {
    let hour = names.start().plus(Duration::from_hours(1)).as_unix_millis();
    Timestamp::from_unix_millis(hour - hour.rem_euclid(60_000))
}

/// So many seconds.
pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
