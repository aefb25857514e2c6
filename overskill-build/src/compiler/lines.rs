//! Places in a source.

use crate::Location;

/// Where the lines of a source begin, so that places are found without counting from its start.
pub(super) struct Lines<'s> {
    source: &'s str,
    starts: Vec<usize>,
}

impl<'s> Lines<'s> {
    pub(super) fn of(source: &'s str) -> Self {
        let newlines = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(index, _)| index + 1);
        Self { source, starts: std::iter::once(0).chain(newlines).collect() }
    }

    pub(super) fn at(&self, offset: usize) -> Location {
        let offset = self.source.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        let before = &self.source[self.starts[line - 1]..offset];
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Location { line: number(line), column: number(before.encode_utf16().count() + 1) }
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
        fn places_are_those_that_counting_gives(source in "(a|é|😀|\\n){0,30}", offset in 0usize..60) {
            let offset = offset.min(source.len());
            prop_assert_eq!(Lines::of(&source).at(offset), Location::of(&source, offset));
        }
    }
}
