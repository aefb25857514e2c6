//! What a client shows to a server, and how.

use crate::Headers;
use overskill_core::{Error, Result, Secret};

/// A credential and the way it goes onto a request. `Debug` shows the way only.
#[derive(Clone, Debug, Default)]
pub struct Credential(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    None,
    Headers(Vec<(String, Secret)>),
}

impl Credential {
    /// None: the server needs none.
    pub fn none() -> Self {
        Self::default()
    }

    /// `Authorization: Bearer …` (RFC 6750).
    pub fn bearer(token: impl Into<Secret>) -> Self {
        let value = Secret::new(format!("Bearer {}", token.into().expose()));
        Self(Kind::Headers(vec![("authorization".to_owned(), value)]))
    }

    /// A header field of its own, such as `apikey`.
    pub fn header(name: impl Into<String>, value: impl Into<Secret>) -> Self {
        Self(Kind::Headers(vec![(name.into(), value.into())]))
    }

    /// Both: Supabase wants `apikey` beside `Authorization`.
    pub fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Kind::None, kind) | (kind, Kind::None) => Self(kind),
            (Kind::Headers(mut fields), Kind::Headers(more)) => {
                fields.extend(more);
                Self(Kind::Headers(fields))
            }
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self.0, Kind::None)
    }

    pub(crate) fn put_on(&self, headers: &mut Headers) -> Result<()> {
        let Kind::Headers(fields) = &self.0 else {
            return Ok(());
        };
        for (name, value) in fields {
            headers.set_secret(name, value).map_err(|e| {
                Error::invalid("credential must be one line of visible text in a header field with a legal name")
                    .with("header", name.escape_debug())
                    .caused_by(e)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_onto_requests_and_show_nowhere() {
        let both = Credential::bearer("hunter2").and(Credential::header("apikey", "hunter3"));
        let mut headers = Headers::new();
        both.put_on(&mut headers).unwrap();
        assert_eq!(headers.get("authorization"), Some("Bearer hunter2"));
        assert_eq!(headers.get("apikey"), Some("hunter3"));
        let shown = format!("{both:?} {headers:?}");
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(Credential::none().and(Credential::none()).is_none());
    }

    #[test]
    fn a_bad_credential_is_refused_and_not_shown() {
        let e = Credential::bearer("hunter2\n").put_on(&mut Headers::new()).unwrap_err();
        assert!(!format!("{e:?}").contains("hunter"), "{e:?}");
    }
}
