//! What is sent of an asset: read at once if it is small, or else while it is sent.

use crate::disk::blocking;
use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use overskill_core::Error;
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    ops::Range,
};

/// What is read at once, in bytes; and how much of larger ones is in memory while they are sent.
const PART_BYTES: u64 = 64 * 1024;

/// The contents of an asset. A file stays readable after its version was removed.
#[derive(Debug)]
pub(crate) enum Contents {
    Small(Bytes),
    Large {
        pack: File,
        /// Where it begins in its pack.
        offset: u64,
        size_bytes: u64,
    },
}

impl Contents {
    /// The `size_bytes` bytes from `offset` on. Blocks.
    pub(super) fn open(mut pack: File, offset: u64, size_bytes: u64) -> io::Result<Self> {
        if size_bytes > PART_BYTES {
            return Ok(Self::Large { pack, offset, size_bytes });
        }
        pack.seek(SeekFrom::Start(offset))?;
        Ok(Self::Small(exactly(&mut pack, size_bytes)?))
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::Small(bytes) => bytes.len() as u64,
            Self::Large { size_bytes, .. } => *size_bytes,
        }
    }

    /// A body of these bytes of it, which lie within it.
    pub(crate) fn into_body(self, range: Range<u64>) -> Body {
        match self {
            Self::Small(bytes) => {
                let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(bytes.len());
                Body::from(bytes.slice(at(range.start)..at(range.end)))
            }
            Self::Large { pack, offset, .. } => {
                let left = (pack, offset + range.start..offset + range.end);
                Body::from_stream(stream::try_unfold(left, |(mut pack, left)| async move {
                    if left.is_empty() {
                        return Ok(None);
                    }
                    let part = left.start..left.end.min(left.start + PART_BYTES);
                    let rest = part.end..left.end;
                    let read = move || {
                        let read = pack.seek(SeekFrom::Start(part.start));
                        let read = read.and_then(|_| exactly(&mut pack, part.end - part.start));
                        let bytes = read.map_err(|e| crate::disk::failed("an asset could not be read", e))?;
                        Ok((bytes, pack))
                    };
                    let (bytes, pack) = blocking(read).await?;
                    Ok::<_, Error>(Some((bytes, (pack, rest))))
                }))
            }
        }
    }
}

fn exactly(file: &mut File, bytes: u64) -> io::Result<Bytes> {
    let mut read = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    file.read_exact(&mut read)?;
    Ok(read.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;
    use std::io::Write as _;

    #[tokio::test]
    async fn every_part_of_small_and_large_ones_is_what_it_is() {
        let mut pack = tempfile::tempfile().unwrap();
        let all: Vec<u8> = (0..400_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        pack.write_all(&all).unwrap();
        for (offset, size) in [(0, 0), (7, 1), (3, PART_BYTES), (3, PART_BYTES + 1), (5, 3 * PART_BYTES), (11, 300_000)]
        {
            for range in [0..size, 0..size.min(1), size.saturating_sub(1)..size, size / 3..size / 2, size..size] {
                let contents = Contents::open(pack.try_clone().unwrap(), offset, size).unwrap();
                assert_eq!(contents.size_bytes(), size);
                let body = to_bytes(contents.into_body(range.clone()), usize::MAX).await.unwrap();
                let at = |place: u64| usize::try_from(offset + place).unwrap();
                assert!(body[..] == all[at(range.start)..at(range.end)], "{range:?} of {size} from {offset}");
            }
        }
    }

    #[tokio::test]
    async fn a_pack_that_is_too_short_is_an_error_and_no_short_answer() {
        let pack = tempfile::tempfile().unwrap();
        pack.set_len(PART_BYTES * 2).unwrap();
        assert!(Contents::open(pack.try_clone().unwrap(), PART_BYTES * 2 - 1, 2).is_err());
        let contents = Contents::open(pack, 0, PART_BYTES * 2 + 1).unwrap();
        assert!(to_bytes(contents.into_body(0..PART_BYTES * 2 + 1), usize::MAX).await.is_err());
    }
}
