//! Signs whatever an attacker, or a careless issuer, would have signed.

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

pub(crate) const ISSUER: &str = "https://tokens.overskill.example";
pub(crate) const KID: &str = "key-1";
pub(crate) const TENANT: &str = "app_todo42_tenant";
/// A full second of 2026.
pub(crate) const NOW: i64 = 1_767_225_600;

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair of the issuer, or of somebody else.
pub(crate) struct Forge(EcdsaKeyPair);

impl Forge {
    pub(crate) fn new() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap())
    }

    /// The public key: an uncompressed point (SEC 1).
    pub(crate) fn point(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let point = self.point();
        let (x, y) = point[1..].split_at(32);
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": kid, "x": b64(x), "y": b64(y) })
    }

    pub(crate) fn sign(&self, text: &str) -> Vec<u8> {
        self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
    }

    /// A token of this header and these claims, as they stand.
    pub(crate) fn token(&self, header: &Value, claims: &str) -> String {
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims));
        let signature = b64(self.sign(&signed));
        format!("{signed}.{signature}")
    }
}

pub(crate) fn header() -> Value {
    json!({ "alg": "ES256", "typ": "JWT", "kid": KID })
}

/// The claims of a good token.
pub(crate) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "authenticated", "sub": "ada", "role": "authenticated",
        "iat": NOW, "nbf": NOW, "exp": NOW + 300, "tenant": TENANT, "rights": "data",
    })
}

/// The claims of a good token with one changed.
pub(crate) fn with(name: &str, value: impl Into<Value>) -> String {
    let mut claims = claims();
    claims[name] = value.into();
    claims.to_string()
}

pub(crate) fn mac(secret: &[u8], header: &Value, claims: &str) -> String {
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", b64(tag))
}
