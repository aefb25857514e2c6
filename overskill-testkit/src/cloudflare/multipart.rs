//! Reads `multipart/form-data` (RFC 7578) that is whole in memory.

use super::wire::Refusal;
use bytes::Bytes;

/// One part of a form.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) file_name: Option<String>,
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

/// The parts of a form in their order.
pub(super) fn parts(content_type: &str, body: &Bytes) -> Result<Vec<Part>, Refusal> {
    let refused = |what: &str| Refusal::new(400, 10_001, format!("multipart body: {what}"));
    let boundary = parameter(content_type, "boundary").ok_or_else(|| refused("the content type names no boundary"))?;
    let delimiter = format!("--{boundary}");
    let mut rest = find(body, delimiter.as_bytes()).ok_or_else(|| refused("it does not hold its boundary"))?;
    let inner = format!("\r\n{delimiter}");
    let mut parts = Vec::new();
    loop {
        rest += delimiter.len();
        if body[rest..].starts_with(b"--") {
            return Ok(parts);
        }
        if !body[rest..].starts_with(b"\r\n") {
            return Err(refused("a boundary does not end its line"));
        }
        rest += 2;
        let end = find(&body[rest..], inner.as_bytes()).ok_or_else(|| refused("its last part does not end"))? + rest;
        // A part without header fields begins with the empty line itself.
        let (head, start) = match find(&body[rest..end], b"\r\n\r\n") {
            Some(_) if body[rest..].starts_with(b"\r\n") => (rest..rest, rest + 2),
            Some(at) => (rest..rest + at, rest + at + 4),
            None => return Err(refused("a part has no header fields")),
        };
        let head = String::from_utf8_lossy(&body[head]).into_owned();
        parts.push(part(&head, body.slice(start..end)).ok_or_else(|| refused("a part has no name"))?);
        rest = end + 2;
    }
}

fn part(head: &str, body: Bytes) -> Option<Part> {
    let field = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    let disposition = field("content-disposition")?;
    let content_type = field("content-type").unwrap_or_default();
    let (name, file_name) = (parameter(&disposition, "name")?, parameter(&disposition, "filename"));
    Some(Part { name, file_name, content_type, body })
}

/// A parameter of a header field: `name=value` or `name="value"`.
fn parameter(field: &str, name: &str) -> Option<String> {
    let mut rest = field.split_once(';')?.1;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"')?;
                (&quoted[..end], &quoted[end + 1..])
            }
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        if key.trim_matches([' ', ';', '\t']).eq_ignore_ascii_case(name) {
            return Some(value.replace("%22", "\"").trim().to_owned());
        }
        rest = next;
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    // The first byte is searched for by the fast way; bodies are megabytes.
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = hay[from..].iter().position(|&b| b == first) {
        let start = from + at;
        if hay[start..].starts_with(needle) {
            return Some(start);
        }
        from = start + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Vec<Part>, Refusal> {
        parts("multipart/form-data; boundary=\"x\"", &Bytes::from(body.to_owned()))
    }

    #[test]
    fn parts_come_with_names_types_and_exact_bodies() {
        let body = "--x\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{}\r\n--x\r\ncontent-disposition: \
                    form-data; name=\"a\"; filename=\"a b.js\"\r\nContent-Type: text/plain\r\n\r\n1\r\n--y\r\n\r\n--x--\r\n";
        let parts = read(body).unwrap();
        assert_eq!((parts[0].name.as_str(), &parts[0].body[..]), ("metadata", &b"{}"[..]));
        assert_eq!((parts[1].file_name.as_deref(), &parts[1].body[..]), (Some("a b.js"), &b"1\r\n--y\r\n"[..]));
        assert_eq!(parts[1].content_type, "text/plain");
    }

    #[test]
    fn what_is_broken_is_refused() {
        for broken in ["", "--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--", "--x\r\nA: b\r\n\r\n1"] {
            assert_eq!(read(broken).unwrap_err().status, 400, "{broken:?}");
        }
        assert!(parts("multipart/form-data", &Bytes::from("--x--")).is_err());
    }
}
