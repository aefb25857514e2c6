//! `multipart/form-data` (RFC 7578), as far as clients of this API send it.

use bytes::Bytes;

pub(super) struct Part {
    pub(super) name: String,
    pub(super) file_name: Option<String>,
    pub(super) contents: Bytes,
}

/// The parts of a body; `None` when it is no form.
pub(super) fn parts(content_type: &str, body: &Bytes) -> Option<Vec<Part>> {
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=")?;
    let line = format!("--{boundary}");
    let mut parts = Vec::new();
    let mut at = find(body, line.as_bytes(), 0)? + line.len();
    while body.get(at..at + 2)? == b"\r\n" {
        let head_end = find(body, b"\r\n\r\n", at)?;
        let end = find(body, format!("\r\n{line}").as_bytes(), head_end + 4)?;
        let head = String::from_utf8_lossy(&body[at..head_end]).into_owned();
        parts.push(Part {
            name: attribute(&head, "name")?,
            file_name: attribute(&head, "filename"),
            contents: body.slice(head_end + 4..end),
        });
        at = end + 2 + line.len();
    }
    (body.get(at..at + 2)? == b"--").then_some(parts)
}

fn find(haystack: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    haystack.get(from..)?.windows(needle.len()).position(|window| window == needle).map(|at| at + from)
}

fn attribute(head: &str, name: &str) -> Option<String> {
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"))?;
    let (_, rest) = line.split_once(&format!("; {name}=\""))?;
    rest.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_and_what_is_no_form_is_refused() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"metadata\"\r\n\r\n{}\r\n\
                    --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a/b.ts\"\r\nContent-Type: x\r\n\r\n\
                    one\r\ntwo\r\n--b--\r\n";
        let found = parts("multipart/form-data; boundary=b", &Bytes::from(body)).unwrap();
        assert_eq!((found[0].name.as_str(), &found[0].contents[..]), ("metadata", &b"{}"[..]));
        assert_eq!((found[1].file_name.as_deref(), &found[1].contents[..]), (Some("a/b.ts"), &b"one\r\ntwo"[..]));
        for (content_type, body) in [
            ("text/plain", body),
            ("multipart/form-data; boundary=b", "--b\r\n"),
            ("multipart/form-data; boundary=c", body),
        ] {
            assert!(parts(content_type, &Bytes::from(body.to_owned())).is_none());
        }
    }
}
