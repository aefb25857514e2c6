//! Places in a source.

use crate::Location;
use std::cell::{Cell, RefCell};

/// Where the lines of a source begin, as far as places were asked for, so that none is found by counting from its start.
pub(super) struct Lines<'s> {
    source: &'s str,
    /// Of every line that begins before `seen` or there.
    starts: RefCell<Vec<usize>>,
    seen: Cell<usize>,
    /// The last place that was asked for: line, offset, units before it. A long line is counted through only once.
    last: Cell<(usize, usize, usize)>,
}

impl<'s> Lines<'s> {
    pub(super) fn of(source: &'s str) -> Self {
        Self { source, starts: RefCell::new(vec![0]), seen: Cell::default(), last: Cell::default() }
    }

    pub(super) fn at(&self, offset: usize) -> Location {
        let offset = self.source.floor_char_boundary(offset);
        let mut starts = self.starts.borrow_mut();
        let seen = self.seen.get();
        if let Some(unseen) = self.source.get(seen..offset) {
            starts.extend(unseen.match_indices('\n').map(|(index, _)| seen + index + 1));
            self.seen.set(offset);
        }
        let line = starts.partition_point(|start| *start <= offset);
        let (from, counted) = match self.last.get() {
            (last, from, counted) if last == line && from <= offset => (from, counted),
            _ => (starts[line - 1], 0),
        };
        let before = counted + self.source[from..offset].encode_utf16().count();
        self.last.set((line, offset, before));
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Location { line: number(line), column: number(before + 1) }
    }

    pub(super) fn source(&self) -> &'s str {
        self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_those_that_counting_gives(
            source in "(a|é|😀|\\n){0,30}",
            offsets in proptest::collection::vec(0usize..60, 1..6),
        ) {
            let lines = Lines::of(&source);
            for offset in offsets {
                prop_assert_eq!(lines.at(offset), Location::of(&source, offset));
            }
        }
    }
}
