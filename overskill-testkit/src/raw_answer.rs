//! Answers of HTTP/1.1, for tests that speak it by hand so that what they send is exactly what they say.

/// An answer that was read until its connection closed.
///
/// ```
/// use overskill_testkit::RawAnswer;
///
/// let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
/// let answer = RawAnswer::read(bytes, false).unwrap();
/// assert_eq!((answer.status, answer.text()), (200, "hello"));
/// assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers in their order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, whole, whether or not it came in chunks.
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// Takes `bytes` apart; `head_only` where the request was a `HEAD`. `None` for what is no whole answer.
    pub fn read(bytes: &[u8], head_only: bool) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let mut lines = std::str::from_utf8(&bytes[..end]).ok()?.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers: Vec<_> = lines.map(header).collect::<Option<_>>()?;
        let rest = &bytes[end + 4..];
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = if chunked && !head_only { unchunked(rest)? } else { rest.to_vec() };
        Some(Self { status, headers, body })
    }

    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Its body as text; panics where it is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// Its body as JSON; panics where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        let chunk = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk.get(..size)?);
        rest = chunk.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_is_no_answer() {
        let whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        for length in 0..whole.len() - 4 {
            assert_eq!(RawAnswer::read(&whole[..length], false), None, "{length} bytes");
        }
        assert_eq!(RawAnswer::read(whole, true).unwrap().status, 200, "a `HEAD` has the headers of what it stands for");
    }
}
