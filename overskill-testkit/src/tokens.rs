//! [`TokenMint`]: tokens for tests, good ones and every kind of bad one.
//!
//! The mint puts its tokens together by hand and signs them with keys of its own, so it can make what no library would,
//! and shares nothing with the validators that it tests but the algorithms.
//!
//! ```
//! use overskill_core::Timestamp;
//! use overskill_testkit::{Flaw, TokenWish, tokens::TokenMint};
//!
//! let mint = TokenMint::new("https://issuer.example", "overskill");
//! let keys = mint.jwks(); // what a validator is configured with
//! # assert_eq!(keys["keys"][0]["alg"], "ES256");
//!
//! let wish = TokenWish::new("app_todo42_tenant".parse()?, "ada".parse()?, Timestamp::from_unix_millis(1_767_225_600_000));
//! let good = mint.mint(&wish);
//! let forged = mint.mint(&wish.flaw(Flaw::ForgedSignature));
//! assert_ne!(good, forged);
//! # Ok::<(), overskill_core::ParseError>(())
//! ```

use crate::{Flaw, KeyForm, TokenAlgorithm, TokenClaim, TokenWish};
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use overskill_core::{AccessToken, IdsExt as _, Secret, SystemIds, Timestamp};
use serde_json::{Map, Value, json};
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// Makes tokens. Clones share the keys, which are new in each mint.
#[derive(Clone)]
pub struct TokenMint {
    issuer: String,
    audience: String,
    algorithm: TokenAlgorithm,
    layout: Arc<Layout>,
    keys: Arc<Keys>,
}

type Layout = dyn Fn(&TokenWish) -> Map<String, Value> + Send + Sync;

struct Keys {
    es256: EcdsaKeyPair,
    es256_pkcs8: Secret,
    ed25519: Ed25519KeyPair,
    hs256: [u8; 32],
    /// Made when it is first used, for that takes long.
    rs256: OnceLock<rsa::KeyPair>,
    /// A key that nobody published.
    foreign: EcdsaKeyPair,
}

impl TokenMint {
    /// ES256 tokens of `issuer` for `audience`, with the claims `iss`, `aud`, `sub`, `iat`, `nbf`, `exp`, `tenant` and
    /// `rights`: those of core's `LocalTokens`.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            algorithm: TokenAlgorithm::Es256,
            layout: Arc::new(|wish| {
                let own = json!({ "tenant": wish.tenant.to_string(), "rights": wish.rights });
                own.as_object().cloned().unwrap_or_default()
            }),
            keys: Arc::new(Keys::generate()),
        }
    }

    /// Signs with another algorithm unless a wish names one.
    pub fn algorithm(mut self, algorithm: TokenAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Says which claims carry a wish's tenant and rights, for validators that read other ones than `tenant` and
    /// `rights`. They are added to `iss`, `aud`, `sub`, `iat`, `nbf` and `exp`, or replace them.
    pub fn layout(mut self, claims: impl Fn(&TokenWish) -> Map<String, Value> + Send + Sync + 'static) -> Self {
        self.layout = Arc::new(claims);
        self
    }

    /// The token that a wish asks for, as text: an oversized one is no [`AccessToken`].
    pub fn mint(&self, wish: &TokenWish) -> String {
        let algorithm = wish.algorithm.unwrap_or(self.algorithm);
        let mut header = json!({ "alg": algorithm.as_str(), "typ": "JWT", "kid": algorithm.kid() });
        match &wish.flaw {
            Some(Flaw::AlgNone) => header["alg"] = json!("none"),
            Some(Flaw::KeyConfusion(_)) => header["alg"] = json!("HS256"),
            Some(Flaw::UnknownKey) => header["kid"] = json!("nobody-knows"),
            Some(Flaw::WrongType) => header["typ"] = json!("logout+jwt"),
            Some(Flaw::UnknownCritical) => {
                header["crit"] = json!(["urn:example:must-understand"]);
                header["urn:example:must-understand"] = json!(true);
            }
            _ => {}
        }
        let signed = format!("{}.{}", encode(header.to_string()), encode(self.payload(wish)));
        let mut signature = match &wish.flaw {
            Some(Flaw::AlgNone) => Vec::new(),
            Some(Flaw::KeyConfusion(form)) => mac(&self.public_key(algorithm, *form), signed.as_bytes()),
            Some(Flaw::ForeignKey | Flaw::UnknownKey) => es256(&self.keys.foreign, signed.as_bytes()),
            _ => self.keys.sign(algorithm, signed.as_bytes()),
        };
        match &wish.flaw {
            Some(Flaw::ForgedSignature) => signature[7] ^= 1,
            Some(Flaw::NoSignature) => signature.clear(),
            Some(Flaw::AlteredClaims) => {
                let altered = TokenWish { rights: "data develop operate".into(), ..wish.clone() };
                let later =
                    TokenWish { expires_at: wish.expires_at.plus(std::time::Duration::from_secs(1)), ..altered };
                return format!(
                    "{}.{}.{}",
                    encode(header.to_string()),
                    encode(self.payload(&later)),
                    encode(signature)
                );
            }
            _ => {}
        }
        format!("{signed}.{}", encode(signature))
    }

    /// The same for wishes that are tokens at all.
    ///
    /// # Panics
    ///
    /// When the wish asks for an oversized token.
    pub fn access_token(&self, wish: &TokenWish) -> AccessToken {
        AccessToken::parse(&self.mint(wish)).expect("a token of the mint is of the right size")
    }

    /// The public key of the mint's own algorithm, as a JWK Set (RFC 7517).
    pub fn jwks(&self) -> Value {
        self.jwks_of(&[self.algorithm])
    }

    /// The public keys of some algorithms as a JWK Set (RFC 7517). HS256 has no public key and is left out.
    pub fn jwks_of(&self, algorithms: &[TokenAlgorithm]) -> Value {
        let keys = algorithms.iter().filter_map(|algorithm| {
            let mut jwk = self.keys.public_numbers(*algorithm)?;
            jwk["alg"] = json!(algorithm.as_str());
            jwk["use"] = json!("sig");
            jwk["kid"] = json!(algorithm.kid());
            Some(jwk)
        });
        json!({ "keys": keys.collect::<Vec<_>>() })
    }

    /// The public key of an algorithm as PEM (RFC 7468); `None` for HS256.
    pub fn public_pem(&self, algorithm: TokenAlgorithm) -> Option<String> {
        self.keys.public_der(algorithm).map(|der| pem(&der))
    }

    /// The key id that tokens of an algorithm name.
    pub fn kid(&self, algorithm: TokenAlgorithm) -> &'static str {
        algorithm.kid()
    }

    /// The private ES256 key, as PKCS #8 in base64url: what core's `LocalKeys::from_pkcs8` takes.
    pub fn es256_pkcs8(&self) -> Secret {
        self.keys.es256_pkcs8.clone()
    }

    /// The secret of HS256 tokens.
    pub fn hs256_secret(&self) -> Vec<u8> {
        self.keys.hs256.to_vec()
    }

    fn payload(&self, wish: &TokenWish) -> String {
        let seconds = |t: Timestamp| t.as_unix_millis().div_euclid(1000);
        let mut claims = json!({
            "iss": self.issuer,
            "aud": self.audience,
            "sub": wish.subject.as_str(),
            "iat": seconds(wish.issued_at),
            "nbf": seconds(wish.issued_at),
            "exp": seconds(wish.expires_at),
        });
        for (name, value) in (self.layout)(wish) {
            claims[name] = value;
        }
        let members = claims.as_object_mut().expect("claims are an object");
        match &wish.flaw {
            Some(Flaw::Missing(claim)) => drop(members.remove(claim.as_str())),
            Some(Flaw::WrongIssuer) => drop(members.insert("iss".into(), json!("https://somebody.else.example"))),
            Some(Flaw::WrongAudience) => drop(members.insert("aud".into(), json!("somebody-else"))),
            Some(Flaw::TenantText(text)) => drop(members.insert("tenant".into(), json!(text))),
            Some(Flaw::Oversized) => drop(members.insert("pad".into(), json!("x".repeat(AccessToken::MAX_BYTES)))),
            Some(Flaw::DuplicateClaim(first)) => {
                // Two members of one name: which one counts depends on who reads.
                let rest = claims.to_string();
                return format!("{{\"sub\":{},{}", json!(first.as_str()), &rest[1..]);
            }
            Some(Flaw::NotJson) => return "exp=never".into(),
            _ => {}
        }
        claims.to_string()
    }

    fn public_key(&self, algorithm: TokenAlgorithm, form: KeyForm) -> Vec<u8> {
        let der = || self.keys.public_der(algorithm).unwrap_or_default();
        match form {
            KeyForm::Pem => pem(&der()).into_bytes(),
            KeyForm::Der => der(),
            KeyForm::Raw => match algorithm {
                TokenAlgorithm::Es256 => self.keys.es256.public_key().as_ref().to_vec(),
                TokenAlgorithm::EdDsa => self.keys.ed25519.public_key().as_ref().to_vec(),
                TokenAlgorithm::Rs256 => self.keys.rs256().public_key().as_ref().to_vec(),
                TokenAlgorithm::Hs256 => Vec::new(),
            },
        }
    }
}

/// Shows no key.
impl fmt::Debug for TokenMint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenMint({} of {} for {})", self.algorithm.as_str(), self.issuer, self.audience)
    }
}

impl Keys {
    fn generate() -> Self {
        let pair = || {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .expect("the machine has randomness");
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref());
            (pair.expect("a key that was just made is one"), Secret::new(URL_SAFE_NO_PAD.encode(pkcs8.as_ref())))
        };
        let (es256, es256_pkcs8) = pair();
        let mut hs256 = [0; 32];
        for chunk in hs256.chunks_mut(8) {
            chunk.copy_from_slice(&SystemIds.random_u64().to_le_bytes());
        }
        let ed25519 = Ed25519KeyPair::generate().expect("the machine has randomness");
        Self { es256, es256_pkcs8, ed25519, hs256, rs256: OnceLock::new(), foreign: pair().0 }
    }

    fn rs256(&self) -> &rsa::KeyPair {
        self.rs256.get_or_init(|| rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("the machine has randomness"))
    }

    fn sign(&self, algorithm: TokenAlgorithm, message: &[u8]) -> Vec<u8> {
        match algorithm {
            TokenAlgorithm::Es256 => es256(&self.es256, message),
            TokenAlgorithm::EdDsa => self.ed25519.sign(message).as_ref().to_vec(),
            TokenAlgorithm::Hs256 => mac(&self.hs256, message),
            TokenAlgorithm::Rs256 => {
                let pair = self.rs256();
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .expect("a key of 2048 bits signs");
                signature
            }
        }
    }

    fn public_der(&self, algorithm: TokenAlgorithm) -> Option<Vec<u8>> {
        fn der(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
            key.as_der().expect("a public key has a DER form").as_ref().to_vec()
        }
        match algorithm {
            TokenAlgorithm::Es256 => Some(der(self.es256.public_key())),
            TokenAlgorithm::EdDsa => Some(der(self.ed25519.public_key())),
            TokenAlgorithm::Rs256 => Some(der(self.rs256().public_key())),
            TokenAlgorithm::Hs256 => None,
        }
    }

    fn public_numbers(&self, algorithm: TokenAlgorithm) -> Option<Value> {
        match algorithm {
            TokenAlgorithm::Es256 => {
                // An uncompressed point (SEC 1, 2.3.3): 4, x, y.
                let (x, y) = self.es256.public_key().as_ref()[1..].split_at(32);
                Some(json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) }))
            }
            TokenAlgorithm::EdDsa => {
                Some(json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(self.ed25519.public_key().as_ref()) }))
            }
            TokenAlgorithm::Rs256 => {
                // RSAPublicKey (RFC 8017, A.1.1) of 2048 bits: 9 bytes of headers and a zero, n, 2 of header, e.
                let der = self.rs256().public_key().as_ref();
                let (n, e) = (&der[9..265], &der[267..]);
                Some(json!({ "kty": "RSA", "n": encode(n), "e": encode(e) }))
            }
            TokenAlgorithm::Hs256 => None,
        }
    }
}

impl TokenAlgorithm {
    const fn kid(self) -> &'static str {
        match self {
            Self::Es256 => "es256-1",
            Self::Rs256 => "rs256-1",
            Self::EdDsa => "eddsa-1",
            Self::Hs256 => "hs256-1",
        }
    }
}

impl TokenClaim {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Expiry => "exp",
            Self::Subject => "sub",
            Self::Issuer => "iss",
            Self::Audience => "aud",
            Self::Tenant => "tenant",
        }
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn es256(pair: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    pair.sign(&SystemRandom::new(), message).expect("a P-256 key signs").as_ref().to_vec()
}

fn mac(key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message).as_ref().to_vec()
}

fn pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, jwk::JwkSet};

    fn wish() -> TokenWish {
        let now = Timestamp::from_unix_millis(1_767_225_600_000);
        TokenWish::new("app_todo42_tenant".parse().unwrap(), "ada".parse().unwrap(), now)
    }

    /// What another library says of a token, by the published keys alone.
    fn read(mint: &TokenMint, algorithm: TokenAlgorithm, token: &str) -> jsonwebtoken::errors::Result<Value> {
        let (name, key) = if algorithm == TokenAlgorithm::Hs256 {
            (Algorithm::HS256, DecodingKey::from_secret(&mint.hs256_secret()))
        } else {
            let keys: JwkSet = serde_json::from_value(mint.jwks_of(&[algorithm])).unwrap();
            let jwk = keys.find(mint.kid(algorithm)).unwrap();
            let name = jwk.common.key_algorithm.unwrap().to_string().parse().unwrap();
            (name, DecodingKey::from_jwk(jwk).unwrap())
        };
        let mut validation = Validation::new(name);
        validation.validate_exp = false;
        validation.set_audience(&["overskill"]);
        validation.set_issuer(&["https://issuer.example"]);
        decode::<Value>(token, &key, &validation).map(|t| t.claims)
    }

    #[test]
    fn another_library_accepts_every_algorithm_by_the_published_keys() {
        let mint = TokenMint::new("https://issuer.example", "overskill");
        for algorithm in TokenAlgorithm::ALL {
            let claims = read(&mint, algorithm, &mint.mint(&wish().signed_with(algorithm))).unwrap();
            assert_eq!((claims["sub"].as_str(), claims["exp"].as_i64()), (Some("ada"), Some(1_767_225_900)));
            assert_eq!(claims["tenant"], "app_todo42_tenant");
            let forged = mint.mint(&wish().signed_with(algorithm).flaw(Flaw::ForgedSignature));
            assert!(read(&mint, algorithm, &forged).is_err(), "{algorithm:?}");
        }
    }

    #[test]
    fn public_keys_are_pem_that_another_library_reads() {
        let mint = TokenMint::new("i", "a");
        let pem = |algorithm| mint.public_pem(algorithm).unwrap().into_bytes();
        assert!(DecodingKey::from_ec_pem(&pem(TokenAlgorithm::Es256)).is_ok());
        assert!(DecodingKey::from_rsa_pem(&pem(TokenAlgorithm::Rs256)).is_ok());
        assert!(DecodingKey::from_ed_pem(&pem(TokenAlgorithm::EdDsa)).is_ok());
        assert_eq!(mint.public_pem(TokenAlgorithm::Hs256), None);
        assert_eq!(mint.jwks_of(&TokenAlgorithm::ALL)["keys"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_confused_validator_would_be_fooled() {
        // The flaw is real: who takes the public key for a secret accepts these.
        let mint = TokenMint::new("https://issuer.example", "overskill");
        let pem = mint.public_pem(TokenAlgorithm::Es256).unwrap();
        let token = mint.mint(&wish().flaw(Flaw::KeyConfusion(KeyForm::Pem)));
        let mut validation = Validation::new(Algorithm::HS256);
        (validation.validate_exp, validation.validate_aud) = (false, false);
        assert!(decode::<Value>(&token, &DecodingKey::from_secret(pem.as_bytes()), &validation).is_ok());
    }

    #[test]
    fn each_flaw_changes_the_token_as_it_says() {
        let mint = TokenMint::new("https://issuer.example", "overskill");
        let parts = |flaw| {
            let token = mint.mint(&wish().flaw(flaw));
            let text = |part: &str| String::from_utf8_lossy(&URL_SAFE_NO_PAD.decode(part).unwrap()).into_owned();
            let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
            (text(header), text(payload), signature.to_owned())
        };
        assert!(parts(Flaw::AlgNone).0.contains("\"alg\":\"none\"") && parts(Flaw::AlgNone).2.is_empty());
        assert!(parts(Flaw::UnknownCritical).0.contains("\"crit\":["));
        for (claim, name) in TokenClaim::ALL.into_iter().zip(["exp", "sub", "iss", "aud", "tenant"]) {
            assert!(!parts(Flaw::Missing(claim)).1.contains(&format!("\"{name}\":")), "{name}");
        }
        let twice = parts(Flaw::DuplicateClaim("bob".parse().unwrap())).1;
        assert_eq!(twice.matches("\"sub\":").count(), 2, "{twice}");
        assert!(parts(Flaw::TenantText("x y".into())).1.contains("\"tenant\":\"x y\""));
        assert!(AccessToken::parse(&mint.mint(&wish().flaw(Flaw::Oversized))).is_err());
    }

    #[test]
    fn a_layout_replaces_claims_and_debug_shows_no_key() {
        let mint = TokenMint::new("https://issuer.example", "overskill").layout(|wish| {
            let own = json!({ "app_metadata": { "app": wish.tenant.app().as_str() }, "aud": "authenticated" });
            own.as_object().cloned().unwrap_or_default()
        });
        let token = mint.mint(&wish());
        let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!((&claims["aud"], &claims["app_metadata"]["app"]), (&json!("authenticated"), &json!("todo42")));
        assert_eq!(claims.get("tenant"), None);
        assert_eq!(format!("{mint:?}"), "TokenMint(ES256 of https://issuer.example for overskill)");
    }
}
