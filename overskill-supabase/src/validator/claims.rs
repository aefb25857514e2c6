//! What a signed token says, before anybody believes it.

use overskill_core::{Refusal, Timestamp};
use serde::Deserialize;

/// `serde` refuses a claim that comes twice. Other claims are nobody's business here.
#[derive(Deserialize)]
pub(super) struct Said {
    pub(super) iss: Option<String>,
    aud: Option<Audience>,
    pub(super) sub: Option<String>,
    exp: Option<i64>,
    nbf: Option<i64>,
    iat: Option<i64>,
    pub(super) role: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) rights: Option<String>,
    pub(super) env: Option<String>,
}

/// One audience, or several (RFC 7519, 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Said {
    pub(super) fn read(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json).map_err(|_| Refusal::Malformed("claims"))
    }

    /// Whether it is for `audience`, compared whole.
    pub(super) fn is_for(&self, audience: &str) -> Result<bool, Refusal> {
        Ok(match self.aud.as_ref().ok_or(Refusal::MissingClaim("aud"))? {
            Audience::One(one) => one == audience,
            Audience::Several(all) => all.iter().any(|one| one == audience),
        })
    }

    /// From when and until when it is valid. Supabase's own tokens have no `nbf`: there `iat` takes its place.
    pub(super) fn validity(&self, iat_will_do: bool) -> Result<(Timestamp, Timestamp), Refusal> {
        let moment = |seconds: i64| Timestamp::from_unix_millis(seconds.saturating_mul(1000));
        let from = self.nbf.or(self.iat.filter(|_| iat_will_do)).ok_or(Refusal::MissingClaim("nbf"))?;
        Ok((moment(from), moment(self.exp.ok_or(Refusal::MissingClaim("exp"))?)))
    }
}
