//! Deployed apps: static files with their caching.

use super::{
    AsIs, Shared, guard, pages,
    ranges::{Asked, asked},
};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts},
};
use overskill_core::{Digest, FilePath, Result, Scope};

/// Answers for a scope of the target.
pub(super) async fn answer(shared: &Shared, scope: &Scope, parts: &Parts) -> Result<Response<Body>> {
    let Parts { method, uri, headers, .. } = parts;
    let page = guard::wants_page(headers);
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut refused =
            pages::plain(StatusCode::METHOD_NOT_ALLOWED, "Use GET or HEAD: this app has static files only.");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    let Some(path) = guard::decode(uri.path()) else {
        return Ok(pages::plain(StatusCode::BAD_REQUEST, "The path is not valid: it must be percent-encoded text."));
    };
    let Some(served) = shared.target.serve(scope, path, page).await? else {
        return nothing(shared, scope, page).await;
    };
    let tag = etag(served.digest);
    let seen = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let unchanged = !served.missing && seen.is_some_and(|seen| matches(seen, &tag));
    let size_bytes = served.contents.size_bytes();
    let whole = served.missing || unchanged || *method != Method::GET;
    let asked = if whole { Asked::Whole } else { asked(headers, size_bytes) };
    let mut response = match asked {
        _ if unchanged => with_status(StatusCode::NOT_MODIFIED, Body::empty()),
        Asked::Beyond => {
            let message = format!("The file has {size_bytes} bytes: ask for some of these.");
            let mut beyond = pages::plain(StatusCode::RANGE_NOT_SATISFIABLE, &message);
            set(&mut beyond, header::CONTENT_RANGE, &format!("bytes */{size_bytes}"));
            return Ok(beyond);
        }
        Asked::Part(part) => {
            let range = format!("bytes {}-{}/{size_bytes}", part.start, part.end - 1);
            let length = part.end - part.start;
            let mut response = with_status(StatusCode::PARTIAL_CONTENT, served.contents.into_body(part));
            set(&mut response, header::CONTENT_RANGE, &range);
            set(&mut response, header::CONTENT_LENGTH, &length.to_string());
            response.extensions_mut().insert(AsIs); // a part of what is not compressed
            response
        }
        Asked::Whole => {
            let status = if served.missing { StatusCode::NOT_FOUND } else { StatusCode::OK };
            let mut response = with_status(status, served.contents.into_body(0..size_bytes));
            set(&mut response, header::CONTENT_LENGTH, &size_bytes.to_string());
            response
        }
    };
    let caching = if is_hashed(&served.path) { "public, max-age=31536000, immutable" } else { "no-cache" };
    set(&mut response, header::CACHE_CONTROL, caching);
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::ETAG, &tag);
    set(&mut response, header::CONTENT_TYPE, &media_type(&served.path));
    Ok(response)
}

fn with_status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

async fn nothing(shared: &Shared, scope: &Scope, page: bool) -> Result<Response<Body>> {
    let live = shared.target.is_live(scope).await?;
    let (title, detail) = if live {
        ("Not found", "The app has no file and no page here: check the address.".to_owned())
    } else {
        let (app, environment) = (&scope.app, scope.environment);
        let detail = format!("Nothing of the app “{app}” is live in {environment}: deploy it, or check the address.");
        ("Nothing here yet", detail)
    };
    Ok(if page {
        pages::problem(StatusCode::NOT_FOUND, title, &detail, &shared.frame_ancestors)
    } else {
        pages::plain(StatusCode::NOT_FOUND, &detail)
    })
}

/// A weak tag: the same contents, compressed or not.
fn etag(digest: Digest) -> String {
    format!("W/\"{}\"", &digest.to_string()[..32])
}

/// Whether `If-None-Match` names the tag (RFC 9110, 13.1.2: weak comparison).
fn matches(header: &str, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    header.trim() == "*" || header.split(',').any(|given| opaque(given) == opaque(tag))
}

/// Whether a build put the hash of the contents into the name, as Vite does: `assets/index-BqX3kJ2a.js`.
///
/// A name like `assets/photo-Section1.png` must not be mistaken for one: a browser would keep it for a year. A hash that looks
/// like a word may be mistaken: it is only asked for again.
fn is_hashed(path: &FilePath) -> bool {
    let Some((stem, _)) = path.as_str().strip_prefix("assets/").and_then(|name| name.rsplit_once('.')) else {
        return false;
    };
    let bytes = stem.as_bytes();
    let Some(at) = bytes.len().checked_sub(8).filter(|at| *at > 0) else { return false };
    let hash = &bytes[at..];
    // Words, years and counters stand in runs; the letters and digits of a hash alternate.
    let kind = |b: u8| match b {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let turns = hash.windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count();
    matches!(bytes[at - 1], b'-' | b'.')
        && hash.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        && hash.iter().any(u8::is_ascii_digit)
        && turns >= 3
}

/// The media type of a file, by its name.
fn media_type(path: &FilePath) -> String {
    let guess = mime_guess::from_path(path.as_str()).first_or_octet_stream();
    let text = guess.type_() == "text" || matches!(guess.subtype().as_str(), "javascript" | "json");
    if text { format!("{guess}; charset=utf-8") } else { guess.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_hash_are_told_from_words() {
        let hashed = |path: &str| is_hashed(&FilePath::parse(path).unwrap());
        for path in ["assets/index-BqX3kJ2a.js", "assets/a-b-D_9-xZ1q.css", "assets/deep/x.1a2b3c4d.woff2"] {
            assert!(hashed(path), "{path}");
        }
        for path in [
            "index.html",
            "assets/1.js",
            "assets/photo-Overview.png",
            "assets/photo-Section1.png",
            "assets/avatar-profile2.jpg",
            "assets/icon-MyNewApp.svg",
            "assets/date-formatter.js",
            "assets/logo-20250101.png",
            "index-BqX3kJ2a.js",
            "assets/BqX3kJ2a.js",
        ] {
            assert!(!hashed(path), "{path}");
        }
    }

    #[test]
    fn tags_are_compared_weakly() {
        let tag = etag(Digest::of(b"x"));
        assert!(matches(&tag, &tag) && matches("*", &tag) && matches(&format!("\"a\", {tag}"), &tag));
        assert!(matches(tag.trim_start_matches("W/"), &tag));
        assert!(!matches("\"a\"", &tag) && !matches("", &tag));
    }

    #[test]
    fn text_says_its_encoding() {
        let of = |path: &str| media_type(&FilePath::parse(path).unwrap());
        assert_eq!(of("index.html"), "text/html; charset=utf-8");
        assert_eq!(of("a.js"), "text/javascript; charset=utf-8");
        assert_eq!(of("a.json"), "application/json; charset=utf-8");
        assert_eq!(of("a.png"), "image/png");
        assert_eq!(of("a.wasm"), "application/wasm");
        assert_eq!(of("a"), "application/octet-stream");
    }
}
