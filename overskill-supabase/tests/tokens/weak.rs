//! The weak twin: a validator as people write them, sound but for one hole.

use crate::forge::{ISSUER, KID, b64};
use aws_lc_rs::{
    digest, hmac,
    signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::HashSet, fs, path::PathBuf};

/// What somebody forgot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hole {
    /// Nothing: it refuses every attack.
    Sound,
    AlgNone,
    AlgNoneInAnyCase,
    HeaderPicksAlgorithm,
    KidIsAPath,
    KeyOfAnyIssuer,
    HeaderBringsKey,
    HeaderSaysWhereKeysAre,
    HeaderSaysWhereCertificatesAre,
    UnknownHeadersIgnored,
    TypeIgnored,
    EmptySignaturePasses,
    ZeroSignaturePasses,
    NoSizeLimit,
    LastDuplicateCounts,
    IssuerNotCompared,
    IssuerByPrefix,
    AudienceNotCompared,
    AudienceByContains,
    AMinuteOfGrace,
    ExpiryOptional,
    ExpiryOfAnyType,
    NotBeforeIgnored,
    AnyLifetime,
    AnyRole,
    TenantFolded,
    TenantFoundAnywhere,
    TenantTrimmed,
    PartWidened,
    RevokedByWholeToken,
}

/// What stands at an address.
pub(crate) type Web = Box<dyn Fn(&str) -> Option<Vec<u8>>>;

pub(crate) struct Weak {
    pub(crate) hole: Hole,
    /// The issuer's key, and that of another issuer of the same platform.
    pub(crate) point: Vec<u8>,
    pub(crate) other_point: Vec<u8>,
    /// What a header's URLs would be answered with.
    pub(crate) web: Web,
    pub(crate) key_folder: PathBuf,
    pub(crate) revoked: HashSet<Vec<u8>>,
}

impl Weak {
    fn is(&self, hole: Hole) -> bool {
        self.hole == hole
    }

    pub(crate) fn revoke(&mut self, token: &str) {
        let of = self.revocation_key(token);
        self.revoked.insert(of);
    }

    fn revocation_key(&self, token: &str) -> Vec<u8> {
        let (signed, _) = token.rsplit_once('.').unwrap();
        let of = if self.is(Hole::RevokedByWholeToken) { token } else { signed };
        digest::digest(&digest::SHA256, of.as_bytes()).as_ref().to_vec()
    }

    /// Whether `token` opens `tenant`.
    pub(crate) fn opens(&self, token: &str, tenant: &str, now: i64) -> bool {
        self.read(token, tenant, now).is_some() && !self.revoked.contains(&self.revocation_key(token))
    }

    fn read(&self, token: &str, tenant: &str, now: i64) -> Option<()> {
        let need = |it: bool| it.then_some(());
        need(token.len() <= 8192 || self.is(Hole::NoSizeLimit))?;
        let parts: Vec<_> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else { return None };
        let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        self.signed(&head, header, payload, &URL_SAFE_NO_PAD.decode(signature).ok()?)?;
        let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
        need(self.is(Hole::LastDuplicateCounts) || serde_json::from_slice::<Strict>(&json).is_ok())?;
        let claims: Value = serde_json::from_slice(&json).ok()?;
        self.times(&claims, now)?;
        let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
        need(match self.hole {
            Hole::IssuerNotCompared => true,
            Hole::IssuerByPrefix => text("iss").starts_with(ISSUER),
            _ => text("iss") == ISSUER,
        })?;
        need(match self.hole {
            Hole::AudienceNotCompared => true,
            Hole::AudienceByContains => text("aud").contains("authenticated"),
            _ => text("aud") == "authenticated",
        })?;
        need(self.is(Hole::AnyRole) || text("role") == "authenticated")?;
        let said = text("tenant");
        need(match self.hole {
            Hole::TenantFolded => said.to_lowercase() == tenant,
            Hole::TenantFoundAnywhere => said.contains(tenant),
            Hole::TenantTrimmed => said.trim() == tenant,
            Hole::PartWidened => said == tenant || said.split("_user_").next() == tenant.strip_suffix("_tenant"),
            _ => said == tenant,
        })
    }

    fn times(&self, claims: &Value, now: i64) -> Option<()> {
        let exp = match &claims["exp"] {
            Value::Null if self.is(Hole::ExpiryOptional) => i64::MAX,
            Value::String(text) if self.is(Hole::ExpiryOfAnyType) => text.parse().ok()?,
            other => other.as_i64()?,
        };
        let nbf = claims["nbf"].as_i64()?;
        let grace = if self.is(Hole::AMinuteOfGrace) { 60 } else { 0 };
        let in_time = now < exp.saturating_add(grace) && (nbf <= now || self.is(Hole::NotBeforeIgnored));
        let short = exp.saturating_sub(nbf) <= 86_400 || matches!(self.hole, Hole::AnyLifetime | Hole::ExpiryOptional);
        (in_time && short).then_some(())
    }

    fn signed(&self, head: &Value, header: &str, payload: &str, signature: &[u8]) -> Option<()> {
        let need = |it: bool| it.then_some(());
        let text = format!("{header}.{payload}");
        let fields: HashSet<&str> = head.as_object()?.keys().map(String::as_str).collect();
        let unknown = fields.iter().any(|it| !["alg", "typ", "kid"].contains(it));
        let trusting = [
            Hole::UnknownHeadersIgnored,
            Hole::HeaderBringsKey,
            Hole::HeaderSaysWhereKeysAre,
            Hole::HeaderSaysWhereCertificatesAre,
        ];
        need(!unknown || trusting.contains(&self.hole))?;
        need(self.is(Hole::TypeIgnored) || head["typ"].as_str().is_none_or(|it| it == "JWT"))?;
        let algorithm = head["alg"].as_str()?;
        if algorithm == "none" || algorithm.eq_ignore_ascii_case("none") && self.is(Hole::AlgNoneInAnyCase) {
            // The case-blind one has "none" itself on its list of what to refuse.
            return need(self.is(Hole::AlgNone) || algorithm != "none" && self.is(Hole::AlgNoneInAnyCase));
        }
        if signature.is_empty() {
            return need(self.is(Hole::EmptySignaturePasses));
        }
        let kid = head["kid"].as_str()?;
        if algorithm == "HS256" {
            let secret = match self.hole {
                Hole::HeaderPicksAlgorithm => self.point.clone(),
                Hole::KidIsAPath => fs::read(self.key_folder.join(kid)).ok()?,
                _ => return None,
            };
            return hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &secret), text.as_bytes(), signature).ok();
        }
        need(algorithm == "ES256")?;
        let from_jwk = |jwk: &Value| {
            let number = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok();
            Some([vec![4], number("x")?, number("y")?].concat())
        };
        let point = match self.hole {
            Hole::HeaderBringsKey if fields.contains("jwk") => from_jwk(&head["jwk"])?,
            Hole::HeaderSaysWhereKeysAre if fields.contains("jku") => {
                let set: Value = serde_json::from_slice(&(self.web)(head["jku"].as_str()?)?).ok()?;
                from_jwk(&set["keys"][0])?
            }
            Hole::HeaderSaysWhereCertificatesAre if fields.contains("x5u") => (self.web)(head["x5u"].as_str()?)?,
            Hole::KeyOfAnyIssuer if kid == "other-1" => self.other_point.clone(),
            _ if kid == KID => self.point.clone(),
            _ => return None,
        };
        // r = s = 0 solves the equation when nobody looks whether they are in range (CVE-2022-21449).
        if self.is(Hole::ZeroSignaturePasses) && signature.iter().all(|b| *b == 0) {
            return Some(());
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(text.as_bytes(), signature).ok()
    }
}

/// `serde` refuses what comes twice.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only that they come once counts")]
struct Strict {
    iss: Option<Value>,
    aud: Option<Value>,
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    tenant: Option<Value>,
    rights: Option<Value>,
}

/// The other way to write an ECDSA signature: (r, n − s).
pub(crate) fn mirrored(token: &str) -> String {
    // The order of P-256 (SP 800-186, 3.2.1.3).
    const N: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0_i16;
    for n in (0..32).rev() {
        let digit = i16::from(N[n]) - i16::from(bytes[32 + n]) - borrow;
        borrow = i16::from(digit < 0);
        bytes[32 + n] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    format!("{signed}.{}", b64(bytes))
}
