//! The signed context: who acts for which app, in a form that the database checks itself.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use overskill_core::{AccessToken, Ids, KeyId, ParseError, Right, Rights, Scope, Secret, SubjectId, Timestamp};
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;
use std::{collections::BTreeMap, fmt, fmt::Write as _};

/// A key that contexts are signed under: 32 secret bytes and a name. Wiped when dropped.
#[derive(Clone)]
pub struct ContextKey {
    id: KeyId,
    bytes: Zeroizing<[u8; 32]>,
}

impl ContextKey {
    /// Takes 64 hex digits, such as `openssl rand -hex 32` prints.
    pub fn parse(id: KeyId, hex: &Secret) -> Result<Self, ParseError> {
        let refuse = || {
            let rule = "must be 64 hex digits (`openssl rand -hex 32` makes some)";
            ParseError::secret("context key", rule, hex.expose())
        };
        let mut bytes = Zeroizing::new([0; 32]);
        if hex.expose().len() != 64 {
            return Err(refuse());
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.expose().as_bytes().chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or_else(refuse)?;
            *byte = high << 4 | low;
        }
        Ok(Self { id, bytes })
    }

    /// A new one.
    pub fn generate(id: KeyId, ids: &dyn Ids) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        ids.fill(&mut *bytes);
        Self { id, bytes }
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// HMAC's inner and outer pad, which are all that the database keeps.
    pub(crate) fn pads(&self) -> (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>) {
        let pad = |with: u8| {
            let mut pad = vec![with; 64];
            pad.iter_mut().zip(&*self.bytes).for_each(|(p, b)| *p ^= b);
            Zeroizing::new(pad)
        };
        (pad(0x36), pad(0x5c))
    }

    fn sign(&self, text: &str) -> impl AsRef<[u8]> + use<> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.bytes).expect("HMAC takes keys of any length");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes()
    }
}

impl fmt::Debug for ContextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContextKey({})", self.id)
    }
}

/// Keys of contexts: one that new ones are signed under, and others that the database still takes.
///
/// To rotate: [install](crate::Schema::keys) the new key beside the old one, sign under the new one, and leave out the old
/// one once the last context under it has expired.
///
/// ```
/// use overskill_core::{KeyId, SystemIds};
/// use overskill_supabase::{ContextKey, ContextKeys};
///
/// let old = ContextKey::generate(KeyId::parse("2026-10")?, &SystemIds);
/// let new = ContextKey::generate(KeyId::parse("2026-11")?, &SystemIds);
/// let keys = ContextKeys::new(new).accept(old);
/// assert_eq!(keys.current().as_str(), "2026-11");
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ContextKeys {
    current: KeyId,
    keys: BTreeMap<KeyId, ContextKey>,
}

impl ContextKeys {
    /// One key, that new contexts are signed under.
    pub fn new(key: ContextKey) -> Self {
        Self { current: key.id.clone(), keys: [(key.id.clone(), key)].into() }
    }

    /// Takes contexts under `key` too. A key of the same name as the current one changes nothing.
    pub fn accept(mut self, key: ContextKey) -> Self {
        self.keys.entry(key.id.clone()).or_insert(key);
        self
    }

    /// The key that new contexts are signed under.
    pub fn current(&self) -> &KeyId {
        &self.current
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &ContextKey> {
        self.keys.values()
    }

    /// The context as text: what `overskill.context`, or the claim `app_metadata.overskill` of a token, has to be.
    pub(crate) fn sign(&self, context: &Context<'_>) -> Secret {
        let mut text = format!("1.{}.{}.{}.", self.current, context.scope.app, context.scope.environment);
        for (right, letter) in [(Right::Data, 'd'), (Right::Develop, 'v'), (Right::Operate, 'o')] {
            text.extend(context.rights.has(right).then_some(letter));
        }
        text.push('.');
        push_hex(&mut text, context.subject.as_str().as_bytes());
        text.push('.');
        push_hex(&mut text, &context.session.0);
        let seconds = context.expires_at.as_unix_millis().div_euclid(1000).max(0);
        write!(text, ".{seconds}").expect("a string takes all");
        let mac = self.keys[&self.current].sign(&text);
        text.push('.');
        push_hex(&mut text, mac.as_ref());
        Secret::new(text)
    }
}

/// Who acts for which app. Short-lived: it is signed anew for each transaction or token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) rights: Rights,
    pub(crate) subject: &'a SubjectId,
    pub(crate) session: Session,
    /// Rounded down to seconds.
    pub(crate) expires_at: Timestamp,
}

/// What contexts of one token or transaction have in common, so that they can be [revoked](crate::Schema::revoke)
/// together. Its text is 32 hex digits, in lower case.
///
/// ```
/// use overskill_core::SystemIds;
/// use overskill_supabase::Session;
///
/// let session = Session::generate(&SystemIds);
/// assert_eq!(Session::parse(&session.to_string())?, session);
/// # Ok::<(), overskill_core::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session([u8; 16]);

impl Session {
    /// A new one.
    pub fn generate(ids: &dyn Ids) -> Self {
        let mut bytes = [0; 16];
        ids.fill(&mut bytes);
        Self(bytes)
    }

    /// Takes 32 hex digits in lower case, such as the claim `session_id` of an app's token.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let refuse = || ParseError::new("session", "must be 32 hex digits in lower case", text);
        let digit = |b: u8| {
            let digit = char::from(b).to_digit(16).filter(|_| !b.is_ascii_uppercase())?;
            u8::try_from(digit).ok()
        };
        let mut bytes = [0; 16];
        if text.len() != 32 {
            return Err(refuse());
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or_else(refuse)?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }

    /// The session of a token that a [`TokenIssuer`](crate::TokenIssuer) made: what the database compares when the token
    /// comes. Nothing of the token is validated, for one that leaked has to be ended whatever it is.
    pub fn of_token(token: &AccessToken) -> Result<Self, ParseError> {
        let read = || {
            let claims = URL_SAFE_NO_PAD.decode(token.expose().split('.').nth(1)?).ok()?;
            let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
            // As `sign` writes it.
            Self::parse(claims["app_metadata"]["overskill"].as_str()?.split('.').nth(6)?).ok()
        };
        read().ok_or_else(|| ParseError::secret("token", "must be an app's, with a signed context", token.expose()))
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({self})")
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for b in bytes {
        write!(text, "{b:02x}").expect("a string takes all");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{AppId, Environment};

    fn key(id: &str, byte: &str) -> ContextKey {
        ContextKey::parse(KeyId::parse(id).unwrap(), &Secret::new(byte.repeat(32))).unwrap()
    }

    #[test]
    fn a_context_is_its_parts_and_their_hmac() {
        let scope = Scope::new(AppId::parse("todo42").unwrap(), Environment::Production);
        let subject = SubjectId::parse("ada").unwrap();
        let context = Context {
            scope: &scope,
            rights: Rights::of([Right::Data, Right::Develop]),
            subject: &subject,
            session: Session([0xab; 16]),
            expires_at: Timestamp::from_unix_millis(1_800_000_000_999),
        };
        let keys = ContextKeys::new(key("k2", "02")).accept(key("k1", "01"));
        let signed = keys.sign(&context);
        let (text, mac) = signed.expose().rsplit_once('.').unwrap();
        assert_eq!(text, format!("1.k2.todo42.production.dv.616461.{}.1800000000", "ab".repeat(16)));
        // As the database does it, from the pads.
        let (inner, outer) = key("k2", "02").pads();
        let sha256 = |parts: &[&[u8]]| <Sha256 as sha2::Digest>::digest(parts.concat());
        let want = sha256(&[&outer, &sha256(&[&inner, text.as_bytes()])]);
        let mut hex = String::new();
        push_hex(&mut hex, &want);
        assert_eq!(mac, hex);
    }

    #[test]
    fn a_session_is_what_it_is_written_as() {
        let session = Session([0xab; 16]);
        assert_eq!(Session::parse(&"ab".repeat(16)).unwrap(), session);
        for bad in ["", "ab", &"AB".repeat(16), &"xy".repeat(16), &"ab".repeat(17), &"\u{e9}".repeat(16)] {
            assert!(Session::parse(bad).unwrap_err().to_string().contains("32 hex digits"), "{bad}");
        }
        for bad in ["hunter2", "hunter2.b.c", "hunter2.e30.c"] {
            let e = Session::of_token(&AccessToken::parse(bad).unwrap()).unwrap_err().to_string();
            assert!(e.contains("signed context") && !e.contains("hunter2"), "{e}");
        }
    }

    #[test]
    fn keys_show_nothing_of_themselves() {
        let e = ContextKey::parse(KeyId::parse("k1").unwrap(), &Secret::new("hunter2")).unwrap_err();
        assert!(e.to_string().contains("64 hex digits") && !e.to_string().contains("hunter2"), "{e}");
        assert_eq!(format!("{:?}", key("k1", "07")), "ContextKey(k1)");
    }
}
