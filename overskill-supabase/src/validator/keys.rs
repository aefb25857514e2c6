//! Keys that verify, each with the one algorithm that it is for.

use jsonwebtoken::{Algorithm, DecodingKey};
use overskill_core::{Error, ErrorKind, ParseError, Refusal, Result, Secret};
use serde::Deserialize;
use std::{collections::HashMap, fmt};

/// An algorithm that a key can be pinned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Pinned {
    Es256,
    Rs256,
    EdDsa,
    Hs256,
}

impl Pinned {
    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Es256, Self::Rs256, Self::EdDsa, Self::Hs256].into_iter().find(|it| it.as_str() == name)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    const fn algorithm(self) -> Algorithm {
        match self {
            Self::Es256 => Algorithm::ES256,
            Self::Rs256 => Algorithm::RS256,
            Self::EdDsa => Algorithm::EdDSA,
            Self::Hs256 => Algorithm::HS256,
        }
    }
}

#[derive(Clone)]
struct Key {
    algorithm: Pinned,
    key: DecodingKey,
}

/// Keys by their id. What a token says of its algorithm is compared with its key's, and decides nothing.
///
/// Public keys come from a JWK Set (RFC 7517): ES256, RS256 of at least 2,048 bits, and `EdDSA` on Ed25519. Others are left
/// out, as are shared secrets (a published secret is none), keys for encryption, and ids that two keys claim. A project's
/// legacy HS256 secret is given by [`legacy_secret`](Self::legacy_secret).
#[derive(Clone, Default)]
pub struct TokenKeys {
    named: HashMap<String, Key>,
    unnamed: Option<Key>,
}

impl TokenKeys {
    /// How many keys a set may have.
    pub const MAX_KEYS: usize = 64;
    /// Longest key id in bytes.
    pub const MAX_KID_BYTES: usize = 256;
    /// Shortest shared secret in bytes (RFC 7518, 3.2).
    pub const MIN_SECRET_BYTES: usize = 32;

    /// No keys: every token is refused.
    pub fn none() -> Self {
        Self::default()
    }

    /// The usable keys of a JWK Set, as JSON.
    ///
    /// # Errors
    /// `Invalid` when it is no JWK Set, has more than 64 keys, or has none that can be used.
    pub fn from_jwks(json: &[u8]) -> Result<Self> {
        let refuse = |why: &'static str| Error::invalid(why).public("The service is not available; try again later.");
        let set: JwkSet =
            serde_json::from_slice(json).map_err(|_| refuse("JWK Set must be JSON as RFC 7517 has it"))?;
        if set.keys.len() > Self::MAX_KEYS {
            return Err(refuse("JWK Set must have at most 64 keys"));
        }
        let mut named: HashMap<String, Option<Key>> = HashMap::new();
        for jwk in set.keys {
            let Some(jwk) = serde_json::from_value::<Jwk>(jwk).ok().filter(Jwk::verifies) else { continue };
            let key = jwk.key();
            // An id that two keys claim names neither.
            named.entry(jwk.kid).and_modify(|it| *it = None).or_insert(key);
        }
        let named: HashMap<_, _> = named.into_iter().filter_map(|(kid, key)| Some((kid, key?))).collect();
        if named.is_empty() {
            return Err(refuse("JWK Set must have a key for ES256, RS256 or EdDSA with an id of its own"));
        }
        Ok(Self { named, unnamed: None })
    }

    /// Accepts HS256 tokens of a shared secret too, whose header names `kid`, or no key where there is none.
    ///
    /// Supabase takes these secrets out of service; they let whoever verifies sign as well. Only for projects that have not
    /// moved to signing keys.
    ///
    /// # Errors
    /// `Invalid` when the secret is shorter than 32 bytes, or the id is taken.
    pub fn legacy_secret(mut self, kid: Option<&str>, secret: &Secret) -> Result<Self> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < Self::MIN_SECRET_BYTES {
            return Err(ParseError::secret("legacy secret", "must be at least 32 bytes", secret.expose()).into());
        }
        let key = Key { algorithm: Pinned::Hs256, key: DecodingKey::from_secret(bytes) };
        let taken = match kid {
            None => self.unnamed.replace(key).is_some(),
            Some(kid) => self.named.insert(kid.to_owned(), key).is_some(),
        };
        if taken {
            return Err(Error::invalid("key id must be of one key, but the legacy secret's is taken"));
        }
        Ok(self)
    }

    pub(crate) fn has(&self, kid: Option<&str>) -> bool {
        self.find(kid).is_some()
    }

    fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match kid {
            None => self.unnamed.as_ref(),
            Some(kid) => self.named.get(kid),
        }
    }

    /// Whether `signature` is one of `signed` by the key `kid`, under the key's own algorithm.
    pub(crate) fn verify(
        &self,
        kid: Option<&str>,
        claimed: Pinned,
        signed: &str,
        signature: &str,
    ) -> Result<(), Refusal> {
        let key = self.find(kid).ok_or(Refusal::NotAuthentic("key"))?;
        if key.algorithm != claimed {
            return Err(Refusal::NotAuthentic("algorithm"));
        }
        match jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, key.algorithm.algorithm()) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Refusal::NotAuthentic("signature")),
        }
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kids: Vec<_> = self.named.keys().collect();
        kids.sort();
        f.debug_struct("TokenKeys").field("kids", &kids).field("unnamed", &self.unnamed.is_some()).finish()
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    alg: Option<String>,
    crv: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl Jwk {
    fn verifies(&self) -> bool {
        let for_signatures = self.usage.as_deref().is_none_or(|it| it == "sig");
        let for_verifying = self.key_ops.as_ref().is_none_or(|it| it.iter().any(|op| op == "verify"));
        for_signatures && for_verifying && !self.kid.is_empty() && self.kid.len() <= TokenKeys::MAX_KID_BYTES
    }

    fn key(&self) -> Option<Key> {
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("EC", Some("P-256")) => {
                (Pinned::Es256, DecodingKey::from_ec_components(self.x.as_ref()?, self.y.as_ref()?).ok()?)
            }
            ("OKP", Some("Ed25519")) => (Pinned::EdDsa, DecodingKey::from_ed_components(self.x.as_ref()?).ok()?),
            ("RSA", None) => {
                let modulus = self.n.as_ref()?;
                // 2,048 bits are 342 characters of base64.
                let long_enough = modulus.len() >= 342 && !modulus.starts_with('A');
                let key = DecodingKey::from_rsa_components(modulus, self.e.as_ref()?).ok()?;
                (Pinned::Rs256, long_enough.then_some(key)?)
            }
            _ => return None,
        };
        // A key for another algorithm of its family is not for this one.
        let meant = self.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str());
        meant.then_some(Key { algorithm, key })
    }
}

/// Nothing can be verified at present.
pub(super) fn out_of_reach(why: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, why).effect_as(overskill_core::Effect::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_testkit::{TokenAlgorithm, tokens::TokenMint};
    use serde_json::{Value, json};

    fn jwks(change: impl Fn(&mut Value)) -> Result<TokenKeys> {
        let mut jwks = TokenMint::new("i", "a").jwks_of(&[TokenAlgorithm::Es256, TokenAlgorithm::EdDsa]);
        change(&mut jwks);
        TokenKeys::from_jwks(jwks.to_string().as_bytes())
    }

    #[test]
    fn keys_that_are_for_something_else_are_left_out() {
        assert!(jwks(|_| ()).unwrap().has(Some("es256-1")));
        let changes: [(&str, Value); 6] = [
            ("use", json!("enc")),
            ("key_ops", json!(["sign"])),
            ("alg", json!("ES384")),
            ("kid", json!("")),
            ("kty", json!("oct")),
            ("x", json!("!!")),
        ];
        for (name, value) in changes {
            let keys = jwks(|it| it["keys"][0][name] = value.clone()).unwrap();
            assert!(!keys.has(Some("es256-1")) && keys.has(Some("eddsa-1")), "{name}");
        }
        let two = jwks(|it| it["keys"][1]["kid"] = json!("es256-1"));
        assert!(two.unwrap_err().message().contains("an id of its own"));
    }

    #[test]
    fn a_published_secret_and_a_short_one_are_no_keys() {
        let published = json!({ "keys": [{ "kty": "oct", "kid": "k", "alg": "HS256", "k": "c2VjcmV0" }] });
        assert!(TokenKeys::from_jwks(published.to_string().as_bytes()).is_err());
        let e = TokenKeys::none().legacy_secret(None, &Secret::new("hunter2")).unwrap_err();
        assert!(e.message().contains("at least 32 bytes") && !e.message().contains("hunter2"));
        let short = json!({ "keys": [{ "kty": "RSA", "kid": "k", "n": "x".repeat(171), "e": "AQAB" }] });
        assert!(TokenKeys::from_jwks(short.to_string().as_bytes()).is_err());
    }

    #[test]
    fn too_many_keys_are_refused() {
        let many = jwks(|it| it["keys"] = vec![it["keys"][0].clone(); 65].into());
        assert!(many.unwrap_err().message().contains("at most 64 keys"));
    }
}
