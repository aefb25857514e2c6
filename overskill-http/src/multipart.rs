//! `multipart/form-data` bodies (RFC 7578), made in memory so that a call can be sent again.

use bytes::{Bytes, BytesMut};
use overskill_core::{Error, Ids, IdsExt as _, Result};
use std::fmt;

/// A form of several parts, for [`Call::multipart`](crate::Call::multipart).
///
/// ```
/// use overskill_http::Multipart;
/// use overskill_core::SeededIds;
///
/// let form = Multipart::new(&SeededIds::new(1))
///     .text("metadata", "application/json", r#"{"main_module":"worker.js"}"#)?
///     .file("worker.js", "worker.js", "application/javascript+module", "export default {}")?;
/// assert!(form.content_type().starts_with("multipart/form-data; boundary="));
/// # Ok::<(), overskill_http::Error>(())
/// ```
#[derive(Clone)]
pub struct Multipart {
    boundary: String,
    body: BytesMut,
}

impl Multipart {
    /// A form without parts. The boundary is random, so that no part holds it.
    pub fn new(ids: &dyn Ids) -> Self {
        Self {
            boundary: format!("overskill-{:016x}{:016x}", ids.random_u64(), ids.random_u64()),
            body: BytesMut::new(),
        }
    }

    /// Adds a part.
    ///
    /// # Errors
    /// `Invalid` when the content type holds a control character.
    pub fn text(self, name: &str, content_type: &str, value: impl AsRef<[u8]>) -> Result<Self> {
        self.part(name, None, content_type, value.as_ref())
    }

    /// Adds a file.
    ///
    /// # Errors
    /// `Invalid` when the content type holds a control character.
    pub fn file(self, name: &str, file_name: &str, content_type: &str, contents: impl AsRef<[u8]>) -> Result<Self> {
        self.part(name, Some(file_name), content_type, contents.as_ref())
    }

    /// The content type, with the boundary.
    pub fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// The body.
    pub fn into_body(mut self) -> Bytes {
        let end = format!("--{}--\r\n", self.boundary);
        self.body.extend_from_slice(end.as_bytes());
        self.body.freeze()
    }

    fn part(mut self, name: &str, file_name: Option<&str>, content_type: &str, value: &[u8]) -> Result<Self> {
        if content_type.contains(char::is_control) {
            return Err(Error::invalid("content type of a part must hold no control character")
                .with("part", name.escape_debug()));
        }
        let file_name = file_name.map_or(String::new(), |file| format!("; filename=\"{}\"", escape(file)));
        let head = format!(
            "--{}\r\nContent-Disposition: form-data; name=\"{}\"{file_name}\r\nContent-Type: {content_type}\r\n\r\n",
            self.boundary,
            escape(name),
        );
        self.body.extend_from_slice(head.as_bytes());
        self.body.extend_from_slice(value);
        self.body.extend_from_slice(b"\r\n");
        Ok(self)
    }
}

impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Multipart({} bytes)", self.body.len())
    }
}

/// As browsers do it (WHATWG HTML § 4.10.21.8).
fn escape(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::SeededIds;

    #[test]
    fn parts_are_laid_out_as_rfc_7578_says_and_names_cannot_break_out() {
        let form = Multipart::new(&SeededIds::new(1))
            .text("a", "text/plain", "1")
            .and_then(|f| f.file("b\"\r\nX: y", "c.js", "text/javascript", b"\x00\xff"))
            .unwrap();
        let boundary = form.content_type().split_once('=').unwrap().1.to_owned();
        let want = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"a\"\r\nContent-Type: text/plain\r\n\r\n1\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"b%22%0D%0AX: y\"; filename=\"c.js\"\r\n\
             Content-Type: text/javascript\r\n\r\n"
        );
        let want = [want.as_bytes(), b"\x00\xff\r\n--", boundary.as_bytes(), b"--\r\n"].concat();
        assert_eq!(form.into_body(), want);
        let bad = Multipart::new(&SeededIds::new(1)).text("a", "text/plain\r\nX: y", "1");
        assert!(bad.is_err());
    }
}
