//! Signed notices, as [Standard Webhooks](https://www.standardwebhooks.com) have them: HMAC-SHA256 (`v1`) over
//! `id.timestamp.body`, with as many signatures as there are secrets.

use crate::{Ids, ParseError, Secret, Timestamp};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;
use std::{fmt, sync::Arc, time::Duration};

/// A secret that sender and receiver share: `whsec_` and 24 to 64 bytes in base64.
#[derive(Clone)]
pub struct WebhookSecret(Arc<Zeroizing<Vec<u8>>>);

impl WebhookSecret {
    /// What its text begins with.
    pub const PREFIX: &'static str = "whsec_";

    /// From its text.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let refuse = |rule| ParseError::secret("webhook secret", rule, text);
        let encoded = text.strip_prefix(Self::PREFIX).ok_or_else(|| refuse("must begin with whsec_"))?;
        // Not all who make them pad.
        let decoded = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
        let key = Zeroizing::new(decoded.map_err(|_| refuse("must go on in base64 after whsec_"))?);
        if !(24..=64).contains(&key.len()) {
            return Err(refuse("must be of 24 to 64 bytes, in base64"));
        }
        Ok(Self(Arc::new(key)))
    }

    /// A new one of 32 random bytes.
    pub fn generate(ids: &dyn Ids) -> Self {
        let mut key = Zeroizing::new(vec![0; 32]);
        ids.fill(&mut key);
        Self(Arc::new(key))
    }

    /// Its text, to be kept in a safe place and given to the other side.
    pub fn to_text(&self) -> Secret {
        Secret::new(format!("{}{}", Self::PREFIX, STANDARD.encode(&**self.0)))
    }

    fn mac(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of every length");
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// The secrets of one sender and receiver: all of them sign, any of them is enough to be believed.
///
/// To rotate: add the new one on both sides, then take the old one away on both sides. In between either side may be
/// ahead of the other.
///
/// ```
/// use overskill_core::{SystemIds, Timestamp, WebhookRefusal, WebhookSecret, WebhookSecrets};
///
/// let (old, new) = (WebhookSecret::generate(&SystemIds), WebhookSecret::generate(&SystemIds));
/// let sender = WebhookSecrets::new(new.clone()).and(old.clone());
/// let now = Timestamp::from_unix_millis(1_767_225_600_000);
/// let signed = sender.sign("msg_1", now, b"{}")?;
///
/// for receiver in [old, new] {
///     assert_eq!(WebhookSecrets::new(receiver.clone()).verify(&signed, b"{}", now), Ok(()));
///     let tampered = WebhookSecrets::new(receiver).verify(&signed, b"{ }", now);
///     assert_eq!(tampered, Err(WebhookRefusal::NotAuthentic));
/// }
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct WebhookSecrets(Vec<WebhookSecret>);

impl WebhookSecrets {
    /// Signatures that are looked at; more are no rotation but an attempt to keep us busy.
    const MAX_SIGNATURES: usize = 16;

    /// How far the clocks of the two sides may be apart, the way of the message included.
    pub const TOLERANCE: Duration = Duration::from_mins(5);

    /// One secret.
    pub fn new(secret: WebhookSecret) -> Self {
        Self(vec![secret])
    }

    /// One more.
    pub fn and(mut self, secret: WebhookSecret) -> Self {
        self.0.push(secret);
        self
    }

    /// Signs the message `id`, sent at `at`, with every secret. The id stays the same when a message is sent again; it is 1
    /// to 256 visible ASCII characters without a full stop, which would let one message pass for another.
    pub fn sign(&self, id: &str, at: Timestamp, body: &[u8]) -> Result<WebhookSignature, ParseError> {
        if !is_id(id) {
            return Err(ParseError::new("webhook id", "must be 1 to 256 visible ASCII characters without `.`", id));
        }
        let timestamp = at.as_unix_millis().div_euclid(1000).to_string();
        let one = |secret: &WebhookSecret| {
            format!("v1,{}", STANDARD.encode(secret.mac(id, &timestamp, body).finalize().into_bytes()))
        };
        let signature = self.0.iter().map(one).collect::<Vec<_>>().join(" ");
        Ok(WebhookSignature { id: id.to_owned(), timestamp, signature })
    }

    /// Whether one of the secrets signed `body`, not more than [`TOLERANCE`](Self::TOLERANCE) from `now`.
    ///
    /// That a message was seen before is for the receiver to notice, who keeps its id for twice that long.
    pub fn verify(&self, signed: &WebhookSignature, body: &[u8], now: Timestamp) -> Result<(), WebhookRefusal> {
        let WebhookSignature { id, timestamp, signature } = signed;
        if !is_id(id) {
            return Err(WebhookRefusal::Malformed("webhook-id"));
        }
        // Only digits: what `parse` would take besides, such as a sign, is another text with the same meaning.
        let seconds = timestamp.parse::<i64>().ok().filter(|_| timestamp.bytes().all(|b| b.is_ascii_digit()));
        let at = seconds.and_then(|seconds| seconds.checked_mul(1000)).map(Timestamp::from_unix_millis);
        let at = at.ok_or(WebhookRefusal::Malformed("webhook-timestamp"))?;
        let given = signature.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
        let authentic = given.take(Self::MAX_SIGNATURES).any(|given| {
            // `verify_slice` takes the same time wherever they differ.
            self.0.iter().any(|secret| secret.mac(id, timestamp, body).verify_slice(&given).is_ok())
        });
        if !authentic {
            return Err(WebhookRefusal::NotAuthentic);
        }
        if now.since(at) > Self::TOLERANCE || at.since(now) > Self::TOLERANCE {
            return Err(WebhookRefusal::OutsideTolerance);
        }
        Ok(())
    }
}

fn is_id(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic() && b != b'.')
}

/// What goes along with a signed message, in the header fields of these names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookSignature {
    /// `webhook-id`: the same for every try to deliver one message.
    pub id: String,
    /// `webhook-timestamp`: when this try was made, in seconds since the Unix epoch.
    pub timestamp: String,
    /// `webhook-signature`: signatures with a space between.
    pub signature: String,
}

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookRefusal {
    /// This header field cannot be read.
    #[error("`{0}` is malformed")]
    Malformed(&'static str),
    /// None of the secrets signed this body with this id and this time.
    #[error("no signature is right")]
    NotAuthentic,
    /// It is signed, but too old, or from the future.
    #[error("its time is more than 5 minutes off")]
    OutsideTolerance,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededIds;
    use proptest::prelude::*;

    fn secrets(text: &str) -> WebhookSecrets {
        WebhookSecrets::new(WebhookSecret::parse(text).unwrap())
    }

    fn seconds(s: i64) -> Timestamp {
        Timestamp::from_unix_millis(s * 1000)
    }

    /// The vectors of the reference libraries, and of the specification's own verifier.
    #[test]
    fn the_published_vectors_are_met() {
        for (secret, id, at, body, want) in [
            (
                "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1_649_367_553,
                r#"{"email":"test@example.com","username":"test_user"}"#,
                "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            ),
            (
                "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#,
                "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            ),
        ] {
            let signed = secrets(secret).sign(id, seconds(at), body.as_bytes()).unwrap();
            assert_eq!((signed.signature.as_str(), signed.timestamp.as_str()), (want, at.to_string().as_str()));
            assert_eq!(secrets(secret).verify(&signed, body.as_bytes(), seconds(at + 299)), Ok(()));
        }
    }

    #[test]
    fn what_was_changed_on_the_way_is_refused() {
        use WebhookRefusal::{Malformed, NotAuthentic};
        let secrets = WebhookSecrets::new(WebhookSecret::generate(&SeededIds::new(1)));
        let now = seconds(1_767_225_600);
        let signed = secrets.sign("msg_1", now, b"body").unwrap();
        let refused = |change: fn(&mut WebhookSignature), body: &[u8]| {
            let mut changed = signed.clone();
            change(&mut changed);
            secrets.verify(&changed, body, now).unwrap_err()
        };
        assert_eq!(refused(|_| {}, b"Body"), NotAuthentic);
        assert_eq!(refused(|s| s.id = "msg_2".into(), b"body"), NotAuthentic);
        assert_eq!(refused(|s| s.timestamp = "1767225601".into(), b"body"), NotAuthentic);
        assert_eq!(refused(|s| s.timestamp = "+1767225600".into(), b"body"), Malformed("webhook-timestamp"));
        assert_eq!(refused(|s| s.timestamp = String::new(), b"body"), Malformed("webhook-timestamp"));
        assert_eq!(refused(|s| s.id = "msg_1.1767225600".into(), b"body"), Malformed("webhook-id"));
        assert_eq!(refused(|s| s.signature = String::new(), b"body"), NotAuthentic);
        assert_eq!(refused(|s| s.signature = "v1,".into(), b"body"), NotAuthentic);
        assert_eq!(refused(|s| s.signature.truncate(12), b"body"), NotAuthentic);
        assert_eq!(refused(|s| s.signature = s.signature.replace("v1,", "v1a,"), b"body"), NotAuthentic);
        let flood =
            |s: &mut WebhookSignature| s.signature = format!("{} {}", "v1,AAAA ".repeat(16).trim(), s.signature);
        assert_eq!(refused(flood, b"body"), NotAuthentic, "only so many are looked at");
    }

    #[test]
    fn time_may_be_off_by_five_minutes_either_way() {
        let secrets = WebhookSecrets::new(WebhookSecret::generate(&SeededIds::new(1)));
        let signed = secrets.sign("msg_1", seconds(1_000_000), b"").unwrap();
        for (now, want) in [
            (1_000_300, Ok(())),
            (999_700, Ok(())),
            (1_000_301, Err(WebhookRefusal::OutsideTolerance)),
            (999_699, Err(WebhookRefusal::OutsideTolerance)),
        ] {
            assert_eq!(secrets.verify(&signed, b"", seconds(now)), want, "{now}");
        }
    }

    #[test]
    fn while_secrets_rotate_either_side_may_be_ahead() {
        let [old, new, other] = [1, 2, 3].map(|seed| WebhookSecret::generate(&SeededIds::new(seed)));
        let (of_old, of_new) = (WebhookSecrets::new(old.clone()), WebhookSecrets::new(new.clone()));
        let of_both = of_new.clone().and(old);
        let now = seconds(1);
        for (sender, receiver, believed) in [
            (&of_both, &of_old, true),
            (&of_both, &of_new, true),
            (&of_old, &of_both, true),
            (&of_new, &of_both, true),
            (&of_old, &of_new, false),
            (&WebhookSecrets::new(other), &of_both, false),
        ] {
            let signed = sender.sign("m", now, b"x").unwrap();
            assert_eq!(receiver.verify(&signed, b"x", now).is_ok(), believed);
        }
        assert_eq!(of_both.sign("m", now, b"x").unwrap().signature.split(' ').count(), 2);
    }

    #[test]
    fn a_secret_is_parsed_strictly_and_never_shown() {
        let secret = WebhookSecret::generate(&SeededIds::new(7));
        let text = secret.to_text();
        assert_eq!(WebhookSecret::parse(text.expose()).unwrap().to_text(), text);
        assert!(WebhookSecret::parse(text.expose().trim_end_matches('=')).is_ok(), "without padding");
        let body = text.expose().strip_prefix("whsec_").unwrap();
        let shown = format!("{secret:?} {:?}", WebhookSecrets::new(secret.clone()));
        assert!(!shown.contains(&body[..8]), "{shown}");
        for bad in ["", "whsec_", body, "whsec_hunter2!", "whsec_aHVudGVyMg==", &format!("whsec_{}", "A".repeat(88))] {
            let e = WebhookSecret::parse(bad).unwrap_err().to_string();
            assert!(!e.contains("hunter2") && !e.contains(&body[..8]), "{e}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_believe(id in ".{0,40}", timestamp in ".{0,24}", signature in ".{0,80}") {
            let secrets = WebhookSecrets::new(WebhookSecret::generate(&SeededIds::new(1)));
            let signed = WebhookSignature { id, timestamp, signature };
            prop_assert!(secrets.verify(&signed, b"", seconds(0)).is_err());
        }
    }
}
