//! Values that must not be seen: `Debug` prints nothing of them, and memory is wiped when they go.

use crate::ParseError;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;

/// A secret text, such as an API token.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself. Search for this name to find every place where a secret is used.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Does not compare lengths or contents early, so that time tells nothing.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        use sha2::Digest as _;
        let digest = |s: &Self| sha2::Sha256::digest(s.expose().as_bytes());
        digest(self).iter().zip(digest(other)).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
    }
}

impl Eq for Secret {}

/// A bearer token as a client sent it; nothing is known of it yet.
#[derive(Clone)]
pub struct AccessToken(SecretString);

impl AccessToken {
    /// Longest token in bytes. Longer ones are refused before anything looks inside.
    pub const MAX_BYTES: usize = 8 * 1024;

    /// Takes a token, without its `Bearer ` prefix.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let rule = if text.is_empty() || text.len() > Self::MAX_BYTES {
            "must be 1 to 8,192 bytes"
        } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
            "may hold only visible ASCII"
        } else {
            return Ok(Self(SecretString::from(text.to_owned())));
        };
        Err(ParseError::secret("access token", rule, text))
    }

    /// The token itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_shows() {
        let shown = format!("{:?} {:?}", Secret::new("hunter2"), AccessToken::parse("hunter2").unwrap());
        assert_eq!(shown, "Secret(…) AccessToken(…)");
        let refused = AccessToken::parse("hunter2 \n").unwrap_err().to_string();
        assert!(!refused.contains("hunter2"), "{refused}");
    }

    #[test]
    fn equal_means_equal_contents() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("aa"));
    }

    #[test]
    fn tokens_have_a_size_limit() {
        assert!(AccessToken::parse(&"x".repeat(AccessToken::MAX_BYTES)).is_ok());
        assert!(AccessToken::parse(&"x".repeat(AccessToken::MAX_BYTES + 1)).is_err());
        assert!(AccessToken::parse("").is_err());
    }
}
