//! Addresses that people open.

use crate::{ParseError, parse::text_newtype};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An `http`, `https`, `ws` or `wss` address that may be shown to anybody: no user, no query, no fragment, at most
/// 2,048 bytes of visible ASCII.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicUrl(Arc<str>);

impl PublicUrl {
    /// Longest address in bytes.
    pub const MAX_BYTES: usize = 2_048;

    /// Takes an address as it is.
    pub fn parse(s: &str) -> Result<Self, ParseError> {
        let refuse = |rule| Err(ParseError::new("public URL", rule, s));
        if s.len() > Self::MAX_BYTES {
            return refuse("must be at most 2,048 bytes long");
        }
        if !s.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b)) {
            return refuse("may hold only visible ASCII that needs no escape");
        }
        let schemes = ["https://", "http://", "wss://", "ws://"];
        let Some(rest) = schemes.iter().find_map(|scheme| s.strip_prefix(scheme)) else {
            return refuse("must begin with https://, http://, wss:// or ws://");
        };
        let authority = rest.split('/').next().unwrap_or_default();
        // An `@` in the path is no user: `/@vite/client`.
        if authority.contains('@') || rest.contains(['?', '#']) {
            return refuse("may have no user, query or fragment");
        }
        if authority.is_empty() || authority.starts_with(':') {
            return refuse("must name a host");
        }
        Ok(Self(s.into()))
    }
}

text_newtype!(PublicUrl);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_have_no_place_in_it() {
        for good in ["https://todo42.overskill.app", "http://preview-todo42.localhost:3000/a/b", "ws://[::1]:8/@a/ws"] {
            assert!(PublicUrl::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "https://",
            "https://:80",
            "ftp://x",
            "https://u:p@x",
            "https://x?token=1",
            "https://x#t",
            "https://x y",
        ] {
            assert!(PublicUrl::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(s in ".{0,80}") {
            let _ = PublicUrl::parse(&s);
            let _ = PublicUrl::parse(&format!("https://{s}"));
        }
    }
}
