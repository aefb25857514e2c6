//! The parts of a token, and its header: an allow-list of fields.

use super::keys::Pinned;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use overskill_core::Refusal;
use serde::Deserialize;

/// The three parts of a token (RFC 7515, 3.1), not decoded.
pub(super) struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    /// What was signed: header and payload with the dot between them.
    pub(super) signed: &'a str,
    pub(super) signature: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn of(token: &'a str) -> Result<Self, Refusal> {
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed("parts"))?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed("parts"))?;
        if payload.contains('.') {
            return Err(Refusal::Malformed("parts"));
        }
        Ok(Self { header, payload, signed, signature })
    }

    pub(super) fn header(&self) -> Result<Header, Refusal> {
        let json = URL_SAFE_NO_PAD.decode(self.header).map_err(|_| Refusal::Malformed("header"))?;
        let fields: Fields = serde_json::from_slice(&json).map_err(|e| match e.classify() {
            // A field that nobody here understands may change what the token means: `crit`, `b64`, `jwk`, `jku`, `zip`, …
            serde_json::error::Category::Data => Refusal::NotAuthentic("header field"),
            _ => Refusal::Malformed("header"),
        })?;
        // What was signed to be something else, such as a logout token.
        if fields.typ.is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(Refusal::NotAuthentic("type"));
        }
        let algorithm = Pinned::parse(&fields.alg).ok_or(Refusal::NotAuthentic("algorithm"))?;
        Ok(Header { algorithm, kid: fields.kid })
    }

    pub(super) fn payload(&self) -> Result<Vec<u8>, Refusal> {
        URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| Refusal::Malformed("payload"))
    }
}

/// What a header may say; `serde` refuses any other field, and one that comes twice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
}

pub(super) struct Header {
    pub(super) algorithm: Pinned,
    pub(super) kid: Option<String>,
}
