//! What goes between a preview and whoever serves it.

use bytes::Bytes;
use overskill_core::StreamPosition;
use std::fmt;

/// A request for something of a preview, as a server got it.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageRequest {
    /// The path, still percent-encoded, beginning with `/`.
    pub path: String,
    /// What stands after the `?`, if anything.
    pub query: Option<String>,
    /// The `Accept` header.
    pub accept: Option<String>,
    /// The `If-None-Match` header.
    pub if_none_match: Option<String>,
    /// The token that the page's socket has to show; the server that checks it puts it in. It is written into pages.
    pub socket_token: Option<String>,
}

impl PageRequest {
    /// A request for a path.
    pub fn get(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

impl fmt::Debug for PageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, query, accept, if_none_match, socket_token } = self;
        f.debug_struct("PageRequest")
            .field("path", path)
            .field("query", query)
            .field("accept", accept)
            .field("if_none_match", if_none_match)
            .field("socket_token", &socket_token.as_ref().map(|_| "…"))
            .finish()
    }
}

/// What to answer. `HEAD` gets the same without the body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageResponse {
    /// 200, 304, 400, 404 or 500.
    pub status: u16,
    /// Headers, names in lower case: `content-type`, `cache-control`, `etag` and so on.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

/// A message to every viewer of a preview: Vite's messages (facts: its protocol), with the position that it brings them to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HotMessage {
    /// Where a viewer stands who has handled it; `None` for what changes nothing (a problem shown).
    pub position: Option<StreamPosition>,
    /// The JSON text to send.
    pub text: String,
}

/// What a viewer gets who comes (back) with a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// These, in order; none if it missed nothing.
    Messages(Vec<HotMessage>),
    /// What it missed is gone: it has to load the page anew. The text to send.
    Reload(HotMessage),
}
