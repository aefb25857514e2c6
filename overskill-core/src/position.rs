//! The two counters of overskill: a [`StreamPosition`] for everything that is read in order, and a [`Fence`] for
//! everything that only one may do. There are no others.

use crate::ParseError;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// One life of a stream. A store that was restored from a copy, or a ring that lost its memory, begins a new one, so
/// that positions of the old life cannot be mistaken for its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Incarnation(u64);

impl Incarnation {
    /// A new life, told from all others by chance of 1 in 2⁶³.
    pub fn generate(ids: &dyn crate::Ids) -> Self {
        use crate::IdsExt as _;
        Self(ids.random_u64() >> 1) // fits an SQL bigint
    }

    /// From a stored number.
    pub const fn from_u64(n: u64) -> Self {
        Self(n)
    }

    /// As a number to store.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({:x})", self.0)
    }
}

/// How far a stream has come: of an app's sources, preview updates, progress, deployments, schema changes.
///
/// `seq` is 0 for a stream that nothing was written to, and grows by one with each entry. Positions of different
/// incarnations are not comparable, so there is no `Ord`. As text, and so in JSON: `{incarnation in hex}:{seq}`.
///
/// ```
/// use overskill_core::{Incarnation, StreamPosition};
/// let start = StreamPosition::start(Incarnation::from_u64(0x1f));
/// assert_eq!(start.next().to_string(), "1f:1");
/// assert_eq!("1f:1".parse::<StreamPosition>()?, start.next());
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamPosition {
    /// The stream's life.
    pub incarnation: Incarnation,
    /// How many entries it had.
    pub seq: u64,
}

impl StreamPosition {
    /// Before the first entry.
    pub const fn start(incarnation: Incarnation) -> Self {
        Self { incarnation, seq: 0 }
    }

    /// At `seq` of `incarnation`.
    pub const fn new(incarnation: Incarnation, seq: u64) -> Self {
        Self { incarnation, seq }
    }

    /// One entry further.
    pub const fn next(self) -> Self {
        Self { incarnation: self.incarnation, seq: self.seq.saturating_add(1) }
    }

    /// How many entries it is behind `head`, or `None` when it is of another life or ahead of it: then only a fresh
    /// start helps.
    pub fn behind(self, head: Self) -> Option<u64> {
        if self.incarnation == head.incarnation { head.seq.checked_sub(self.seq) } else { None }
    }
}

impl fmt::Display for StreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{}", self.incarnation.0, self.seq)
    }
}

impl fmt::Debug for StreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamPosition({self})")
    }
}

impl FromStr for StreamPosition {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let parse = || {
            let (incarnation, seq) = s.split_once(':')?;
            let position =
                Self { incarnation: Incarnation(u64::from_str_radix(incarnation, 16).ok()?), seq: seq.parse().ok()? };
            // One position, one text: `01:1` and `+1:1` are not forms of `1:1`.
            (position.to_string() == s).then_some(position)
        };
        parse().ok_or_else(|| ParseError::new("stream position", "must be `{hex}:{number}`, such as `1f:42`", s))
    }
}

impl TryFrom<String> for StreamPosition {
    type Error = ParseError;
    fn try_from(s: String) -> Result<Self, ParseError> {
        s.parse()
    }
}

impl From<StreamPosition> for String {
    fn from(p: StreamPosition) -> String {
        p.to_string()
    }
}

/// A number that only grows: whoever holds a lower one was overtaken and is refused.
///
/// For leases, activations and routes alike. A lease's fence is one more than the highest seen in the store, in the
/// route and at the targets, so a store restored from an older copy cannot fall behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(u64);

impl Fence {
    /// Lower than every fence that was ever given out.
    pub const ZERO: Self = Self(0);

    /// From a stored number.
    pub const fn from_u64(n: u64) -> Self {
        Self(n)
    }

    /// As a number to store.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The next higher fence; the highest stays, so that it never begins anew.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn behind_counts_within_one_life_only() {
        let at = |life, seq| StreamPosition::new(Incarnation(life), seq);
        assert_eq!(at(1, 3).behind(at(1, 5)), Some(2));
        assert_eq!(at(1, 5).behind(at(1, 3)), None);
        assert_eq!(at(1, 3).behind(at(2, 5)), None);
    }

    proptest! {
        #[test]
        fn positions_round_trip(life: u64, seq: u64) {
            let p = StreamPosition::new(Incarnation(life), seq);
            prop_assert_eq!(p.to_string().parse::<StreamPosition>().unwrap(), p);
            let json = serde_json::to_string(&p).unwrap();
            prop_assert_eq!(serde_json::from_str::<StreamPosition>(&json).unwrap(), p);
        }

        #[test]
        fn other_text_is_refused_without_panic(s in ".{0,30}") {
            if let Ok(p) = s.parse::<StreamPosition>() { prop_assert_eq!(p.to_string(), s); }
        }
    }
}
