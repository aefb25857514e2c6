//! A head in JSON and bytes after it, in one body.

use bytes::Bytes;
use overskill_core::Digest;
use serde_json::{Value, json};

pub(crate) const CONTENT_TYPE: &str = "application/octet-stream";

/// The length of the head as a big-endian 32-bit number, the head, and the bytes that its `blobs` name, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    blobs: Vec<(Digest, Bytes)>,
    bytes: usize,
}

impl Frame {
    /// Adds bytes; those of one digest once.
    pub(crate) fn push(&mut self, digest: Digest, bytes: Bytes) {
        self.bytes += bytes.len();
        self.blobs.push((digest, bytes));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// How many bytes there are so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// The body, under this head.
    pub(crate) fn into_body(self, mut head: Value) -> Bytes {
        let listed = self.blobs.iter().map(|(digest, bytes)| json!({ "digest": digest, "length": bytes.len() }));
        head["blobs"] = listed.collect();
        let head = head.to_string();
        let mut body = Vec::with_capacity(4 + head.len() + self.bytes);
        body.extend(u32::try_from(head.len()).expect("a head is small").to_be_bytes());
        body.extend(head.as_bytes());
        for (_, bytes) in &self.blobs {
            body.extend(bytes);
        }
        body.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_length_head_and_bytes() {
        let mut frame = Frame::default();
        frame.push(Digest::of(b"ab"), Bytes::from_static(b"ab"));
        frame.push(Digest::of(b""), Bytes::new());
        assert_eq!((frame.len(), frame.is_empty()), (2, false));
        let body = frame.into_body(json!({ "whole": true }));
        let length = u32::from_be_bytes(body[..4].try_into().unwrap()) as usize;
        let head: Value = serde_json::from_slice(&body[4..4 + length]).unwrap();
        assert_eq!((head["whole"].as_bool(), head["blobs"][0]["length"].as_u64()), (Some(true), Some(2)));
        assert_eq!(&body[4 + length..], b"ab");
    }
}
