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
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding},
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
    es384: EcdsaKeyPair,
    es512: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    /// Of every HMAC algorithm, as hex digits; as long as the longest digest (RFC 7518, 3.2).
    secret: [u8; 64],
    /// Of every RSA algorithm. Made when it is first used, for that takes long.
    rsa: OnceLock<rsa::KeyPair>,
    /// A key that nobody published.
    foreign: EcdsaKeyPair,
}

impl TokenMint {
    /// ES256 tokens of `issuer` for `audience`, with the claims `iss`, `aud`, `sub`, `iat`, `nbf`, `exp`, `tenant`, `rights`
    /// and, where a wish names an environment, `env`: those of core's `LocalTokens`.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            algorithm: TokenAlgorithm::Es256,
            layout: Arc::new(|wish| {
                let mut own = Map::new();
                own.insert("tenant".into(), json!(wish.tenant.to_string()));
                own.insert("rights".into(), json!(wish.rights));
                own.extend(wish.environment.map(|environment| ("env".to_owned(), json!(environment.as_str()))));
                own
            }),
            keys: Arc::new(Keys::generate()),
        }
    }

    /// Signs with another algorithm unless a wish names one.
    pub fn algorithm(mut self, algorithm: TokenAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Says which claims carry a wish's tenant, rights and environment, for validators that read other ones than `tenant`,
    /// `rights` and `env`. They are added to `iss`, `aud`, `sub`, `iat`, `nbf` and `exp`, or replace them.
    ///
    /// A layout without a claim `tenant` makes [`Flaw::TenantText`] and [`Flaw::Missing`] of the tenant itself, as far as
    /// its validator can be shown them; what it does not make, the source of a fixture has to answer with `None`.
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
            Some(Flaw::KeyConfusion(form)) => mac(hmac::HMAC_SHA256, &self.public_key(algorithm, *form), &signed),
            Some(Flaw::ForeignKey | Flaw::UnknownKey) => ecdsa(&self.keys.foreign, signed.as_bytes()),
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

    /// The public keys of some algorithms as a JWK Set (RFC 7517). Shared secrets have no public key and are left out.
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

    /// The public key of an algorithm as PEM (RFC 7468); `None` for a shared secret.
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

    /// The secret of HS256, HS384 and HS512 tokens: 64 bytes, which are hex digits.
    pub fn shared_secret(&self) -> Vec<u8> {
        self.keys.secret.to_vec()
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
            KeyForm::Raw => match self.keys.of(algorithm) {
                Key::Ecdsa(pair, _) => pair.public_key().as_ref().to_vec(),
                Key::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
                Key::Rsa(pair, _) => pair.public_key().as_ref().to_vec(),
                Key::Secret(_) => Vec::new(),
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

/// The key of an algorithm, with what else the algorithm is made of.
enum Key<'a> {
    Ecdsa(&'a EcdsaKeyPair, &'static str),
    Ed25519(&'a Ed25519KeyPair),
    Rsa(&'a rsa::KeyPair, &'static dyn RsaEncoding),
    Secret(hmac::Algorithm),
}

impl Keys {
    fn generate() -> Self {
        let pkcs8 = |of: &'static EcdsaSigningAlgorithm| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(of, &SystemRandom::new()).expect("the machine has randomness");
            let pair = EcdsaKeyPair::from_pkcs8(of, pkcs8.as_ref()).expect("a key that was just made is one");
            (pair, Secret::new(URL_SAFE_NO_PAD.encode(pkcs8.as_ref())))
        };
        let (es256, es256_pkcs8) = pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let mut secret = [0; 64];
        for chunk in secret.chunks_mut(16) {
            chunk.copy_from_slice(format!("{:016x}", SystemIds.random_u64()).as_bytes());
        }
        Self {
            es256,
            es256_pkcs8,
            es384: pkcs8(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).0,
            es512: pkcs8(&signature::ECDSA_P521_SHA512_FIXED_SIGNING).0,
            ed25519: Ed25519KeyPair::generate().expect("the machine has randomness"),
            secret,
            rsa: OnceLock::new(),
            foreign: pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).0,
        }
    }

    fn of(&self, algorithm: TokenAlgorithm) -> Key<'_> {
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let new = || rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("the machine has randomness");
            Key::Rsa(self.rsa.get_or_init(new), encoding)
        };
        match algorithm {
            TokenAlgorithm::Es256 => Key::Ecdsa(&self.es256, "P-256"),
            TokenAlgorithm::Es384 => Key::Ecdsa(&self.es384, "P-384"),
            TokenAlgorithm::Es512 => Key::Ecdsa(&self.es512, "P-521"),
            TokenAlgorithm::Rs256 => rsa(&signature::RSA_PKCS1_SHA256),
            TokenAlgorithm::Rs384 => rsa(&signature::RSA_PKCS1_SHA384),
            TokenAlgorithm::Rs512 => rsa(&signature::RSA_PKCS1_SHA512),
            TokenAlgorithm::Ps256 => rsa(&signature::RSA_PSS_SHA256),
            TokenAlgorithm::Ps384 => rsa(&signature::RSA_PSS_SHA384),
            TokenAlgorithm::Ps512 => rsa(&signature::RSA_PSS_SHA512),
            TokenAlgorithm::EdDsa => Key::Ed25519(&self.ed25519),
            TokenAlgorithm::Hs256 => Key::Secret(hmac::HMAC_SHA256),
            TokenAlgorithm::Hs384 => Key::Secret(hmac::HMAC_SHA384),
            TokenAlgorithm::Hs512 => Key::Secret(hmac::HMAC_SHA512),
        }
    }

    fn sign(&self, algorithm: TokenAlgorithm, message: &[u8]) -> Vec<u8> {
        match self.of(algorithm) {
            Key::Ecdsa(pair, _) => ecdsa(pair, message),
            Key::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Key::Secret(algorithm) => mac(algorithm, &self.secret, message),
            Key::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &SystemRandom::new(), message, &mut signature).expect("a key of 2048 bits signs");
                signature
            }
        }
    }

    fn public_der(&self, algorithm: TokenAlgorithm) -> Option<Vec<u8>> {
        fn der(key: &impl AsDer<PublicKeyX509Der<'static>>) -> Vec<u8> {
            key.as_der().expect("a public key has a DER form").as_ref().to_vec()
        }
        match self.of(algorithm) {
            Key::Ecdsa(pair, _) => Some(der(pair.public_key())),
            Key::Ed25519(pair) => Some(der(pair.public_key())),
            Key::Rsa(pair, _) => Some(der(pair.public_key())),
            Key::Secret(_) => None,
        }
    }

    fn public_numbers(&self, algorithm: TokenAlgorithm) -> Option<Value> {
        match self.of(algorithm) {
            Key::Ecdsa(pair, curve) => {
                // An uncompressed point (SEC 1, 2.3.3): 4, x, y.
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                Some(json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) }))
            }
            Key::Ed25519(pair) => {
                Some(json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref()) }))
            }
            Key::Rsa(pair, _) => {
                // RSAPublicKey (RFC 8017, A.1.1) of 2048 bits: 9 bytes of headers and a zero, n, 2 of header, e.
                let der = pair.public_key().as_ref();
                let (n, e) = (&der[9..265], &der[267..]);
                Some(json!({ "kty": "RSA", "n": encode(n), "e": encode(e) }))
            }
            Key::Secret(_) => None,
        }
    }
}

impl TokenAlgorithm {
    const fn kid(self) -> &'static str {
        match self {
            Self::Es256 => "es256-1",
            Self::Es384 => "es384-1",
            Self::Es512 => "es512-1",
            Self::Rs256 => "rs256-1",
            Self::Rs384 => "rs384-1",
            Self::Rs512 => "rs512-1",
            Self::Ps256 => "ps256-1",
            Self::Ps384 => "ps384-1",
            Self::Ps512 => "ps512-1",
            Self::EdDsa => "eddsa-1",
            Self::Hs256 => "hs256-1",
            Self::Hs384 => "hs384-1",
            Self::Hs512 => "hs512-1",
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

fn ecdsa(pair: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    pair.sign(&SystemRandom::new(), message).expect("a key on a curve signs").as_ref().to_vec()
}

fn mac(algorithm: hmac::Algorithm, key: &[u8], message: impl AsRef<[u8]>) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, key), message.as_ref()).as_ref().to_vec()
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
        let name: Algorithm = algorithm.as_str().parse().unwrap();
        let key = if algorithm.as_str().starts_with("HS") {
            DecodingKey::from_secret(&mint.shared_secret())
        } else {
            let keys: JwkSet = serde_json::from_value(mint.jwks_of(&[algorithm])).unwrap();
            let jwk = keys.find(mint.kid(algorithm)).unwrap();
            assert_eq!(jwk.common.key_algorithm.unwrap().to_string(), algorithm.as_str());
            DecodingKey::from_jwk(jwk).unwrap()
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
        // The library knows every algorithm but one, whose tokens the test below reads.
        for algorithm in TokenAlgorithm::ALL.into_iter().filter(|a| *a != TokenAlgorithm::Es512) {
            let claims = read(&mint, algorithm, &mint.mint(&wish().signed_with(algorithm))).unwrap();
            assert_eq!((claims["sub"].as_str(), claims["exp"].as_i64()), (Some("ada"), Some(1_767_225_900)));
            assert_eq!(claims["tenant"], "app_todo42_tenant");
            let forged = mint.mint(&wish().signed_with(algorithm).flaw(Flaw::ForgedSignature));
            assert!(read(&mint, algorithm, &forged).is_err(), "{algorithm:?}");
        }
    }

    #[test]
    fn es512_tokens_are_signed_with_the_published_key() {
        let mint = TokenMint::new("https://issuer.example", "overskill");
        let jwk = &mint.jwks_of(&[TokenAlgorithm::Es512])["keys"][0];
        let number = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
        assert_eq!((jwk["crv"].as_str(), number("x").len(), number("y").len()), (Some("P-521"), 66, 66));
        let point = [vec![4], number("x"), number("y")].concat();
        let key = signature::UnparsedPublicKey::new(&signature::ECDSA_P521_SHA512_FIXED, point);
        let check = |token: &str| {
            let (signed, signature) = token.rsplit_once('.').unwrap();
            key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        };
        let wish = wish().signed_with(TokenAlgorithm::Es512);
        assert!(check(&mint.mint(&wish)).is_ok());
        assert!(check(&mint.mint(&wish.flaw(Flaw::ForgedSignature))).is_err());
    }

    #[test]
    fn an_environment_is_a_claim_of_its_own() {
        let mint = TokenMint::new("https://issuer.example", "overskill");
        let env = |wish: &TokenWish| read(&mint, TokenAlgorithm::Es256, &mint.mint(wish)).unwrap().get("env").cloned();
        assert_eq!(env(&wish()), None);
        assert_eq!(env(&wish().in_environment(overskill_core::Environment::Preview)), Some(json!("preview")));
    }

    #[test]
    fn public_keys_are_pem_that_another_library_reads() {
        let mint = TokenMint::new("i", "a");
        let pem = |algorithm| mint.public_pem(algorithm).unwrap().into_bytes();
        assert!(DecodingKey::from_ec_pem(&pem(TokenAlgorithm::Es256)).is_ok());
        assert!(DecodingKey::from_rsa_pem(&pem(TokenAlgorithm::Rs256)).is_ok());
        assert!(DecodingKey::from_ed_pem(&pem(TokenAlgorithm::EdDsa)).is_ok());
        assert_eq!(mint.public_pem(TokenAlgorithm::Hs256), None);
        assert_eq!(mint.jwks_of(&TokenAlgorithm::ALL)["keys"].as_array().unwrap().len(), 10);
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
