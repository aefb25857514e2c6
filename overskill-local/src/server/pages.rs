//! The server's own pages: the list of apps, and what to do when there is nothing to show.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use overskill_core::PublicUrl;
use std::fmt::Write as _;

/// Everything that the server itself writes loads nothing and runs nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;\
    color:#1c2024;background:#fff}h1{font-size:1.4rem}a{color:#0b68cb}li{margin:.3rem 0}code{background:#f1f3f5;\
    padding:.1rem .3rem;border-radius:4px}small{color:#60646c}@media(prefers-color-scheme:dark){body{color:#edeef0;\
    background:#111113}code{background:#212225}a{color:#70b8ff}small{color:#b0b4ba}}";

/// One line of the list.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// What people call it.
    pub(super) name: String,
    pub(super) url: PublicUrl,
    /// What it is, such as `preview`.
    pub(super) what: &'static str,
}

/// The list of what is served.
pub(super) fn list(entries: &[Entry], policy: &str) -> Response<Body> {
    let mut items = String::new();
    for Entry { name, url, what } in entries {
        let (name, url) = (escape(name), escape(url.as_str()));
        let _ = write!(items, "<li><a href=\"{url}\">{name}</a> <small>{what} · {url}</small></li>");
    }
    let body = if entries.is_empty() {
        "<p>Nothing is open or deployed yet. Open a preview or deploy an app, and it is listed here.</p>".to_owned()
    } else {
        format!("<ul>{items}</ul>")
    };
    page(StatusCode::OK, "Apps", &body, "", policy)
}

/// Something that cannot be shown, and what to do. `detail` is text, not markup.
pub(super) fn problem(status: StatusCode, title: &str, detail: &str, policy: &str) -> Response<Body> {
    page(status, title, &format!("<p>{}</p>", escape(detail)), "", policy)
}

/// The same for a page that will be there soon: it asks again by itself.
pub(super) fn retrying(title: &str, detail: &str, policy: &str) -> Response<Body> {
    let again = "<meta http-equiv=\"refresh\" content=\"1\">";
    let body = format!("<p>{}</p><p><small>This page tries again every second.</small></p>", escape(detail));
    let mut page = page(StatusCode::SERVICE_UNAVAILABLE, title, &body, again, policy);
    page.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    page
}

/// The same for a script or a fetch, which shows no page.
pub(super) fn plain(status: StatusCode, detail: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{detail}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer of an app's API that is the server's own.
pub(super) fn json_problem(status: StatusCode, detail: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(serde_json::json!({ "error": detail }).to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `frame_ancestors` is `'self' …`, as configured.
fn page(status: StatusCode, title: &str, body: &str, head: &str, frame_ancestors: &str) -> Response<Body> {
    let title = escape(title);
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">{head}<title>{title}</title><style>{STYLE}</style></head>\
         <body><h1>{title}</h1>{body}</body></html>\n"
    );
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(policy) = HeaderValue::from_str(&format!("{POLICY}; {frame_ancestors}")) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Text as it goes into markup and quoted attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_shown_and_does_nothing() {
        let text = escape("<img src=x onerror=\"alert('1')\">&");
        assert_eq!(text, "&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;");
    }
}
