//! The key that signs apps' tokens.

use aws_lc_rs::{
    encoding::AsBigEndian,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use overskill_core::{Error, ErrorKind, Ids, IdsExt as _, ParseError, Result, Secret, Timestamp};
use serde_json::{Value, json};
use std::fmt;

/// A private key for ES256 (P-256) with its id.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    pkcs8: Secret,
    signing: EncodingKey,
    x: String,
    y: String,
    d: Secret,
}

impl SigningKey {
    /// A new key from the operating system's randomness. Its id is a UUID, as Supabase wants it of keys that it imports.
    pub fn generate(ids: &dyn Ids, now: Timestamp) -> Result<Self> {
        let fail = |_| Error::new(ErrorKind::Unexpected, "a P-256 key could not be made");
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).map_err(fail)?;
        let kid = ids.uuid_v7(now).to_string();
        Self::from_pkcs8(&kid, &Secret::new(URL_SAFE_NO_PAD.encode(pkcs8.as_ref())))
    }

    /// A key that was kept: PKCS #8 in base64url, as [`to_pkcs8`](Self::to_pkcs8) gives it.
    pub fn from_pkcs8(kid: &str, pkcs8: &Secret) -> Result<Self> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if kid.is_empty() || kid.len() > 64 || !kid.bytes().all(legal) {
            return Err(ParseError::new("key id", "must be 1 to 64 of A-Z a-z 0-9 - _", kid).into());
        }
        let refuse =
            || ParseError::secret("signing key", "must be a P-256 key as PKCS #8 in base64url", pkcs8.expose());
        let der = URL_SAFE_NO_PAD.decode(pkcs8.expose()).map_err(|_| refuse())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(|_| refuse())?;
        // An uncompressed point (SEC 1): 4, x, y.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let d = pair.private_key().as_be_bytes().map_err(|_| refuse())?;
        Ok(Self {
            kid: kid.to_owned(),
            pkcs8: pkcs8.clone(),
            signing: EncodingKey::from_ec_der(&der),
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
            d: Secret::new(URL_SAFE_NO_PAD.encode(d.as_ref())),
        })
    }

    /// The key, to be kept in a safe place.
    pub fn to_pkcs8(&self) -> Secret {
        self.pkcs8.clone()
    }

    /// Its id: the header field `kid`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JWK (RFC 7517).
    pub fn public_jwk(&self) -> Value {
        json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "key_ops": ["verify"],
            "kid": self.kid, "x": self.x, "y": self.y,
        })
    }

    /// The private key as a JWK: what a project takes when it imports the key.
    pub fn private_jwk(&self) -> Secret {
        let mut jwk = self.public_jwk();
        jwk["key_ops"] = json!(["sign", "verify"]);
        jwk["d"] = json!(self.d.expose());
        Secret::new(jwk.to_string())
    }

    pub(super) fn signing(&self) -> &EncodingKey {
        &self.signing
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::SeededIds;

    #[test]
    fn a_key_is_kept_as_text_and_shows_nothing() {
        let key = SigningKey::generate(&SeededIds::new(1), Timestamp::from_unix_millis(1_767_225_600_000)).unwrap();
        let kept = SigningKey::from_pkcs8(key.kid(), &key.to_pkcs8()).unwrap();
        assert_eq!((kept.public_jwk(), kept.private_jwk()), (key.public_jwk(), key.private_jwk()));
        assert_eq!(URL_SAFE_NO_PAD.decode(key.d.expose()).unwrap().len(), 32);
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.kid()));
        let e = SigningKey::from_pkcs8("k", &Secret::new("hunter2")).unwrap_err();
        assert!(e.message().contains("PKCS #8") && !e.message().contains("hunter2"), "{e}");
        assert!(SigningKey::from_pkcs8("../k", &key.to_pkcs8()).is_err());
    }
}
