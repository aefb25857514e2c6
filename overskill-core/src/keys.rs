//! Keys that this process holds itself, for whoever has no KMS.

use crate::{AppId, DataKey, Error, Ids, KeyId, KeyProvider, ParseError, Readiness, Result};
use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;
use std::{collections::BTreeMap, fmt};

const NAME: &str = "local-keys";

/// A root key: 32 secret bytes from which every app's own key is derived. Wiped when dropped.
#[derive(Clone)]
pub struct RootKey(Zeroizing<[u8; 32]>);

impl RootKey {
    /// Takes 32 secret bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Takes 64 hex digits, such as `openssl rand -hex 32` prints.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let refuse =
            || ParseError::secret("root key", "must be 64 hex digits (`openssl rand -hex 32` makes some)", text);
        let mut bytes = Zeroizing::new([0; 32]);
        if text.len() != 64 {
            return Err(refuse());
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or_else(refuse)?;
            *byte = high << 4 | low;
        }
        Ok(Self(bytes))
    }

    /// A new one.
    pub fn generate(ids: &dyn Ids) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        ids.fill(&mut *bytes);
        Self(bytes)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(…)")
    }
}

/// Root keys of this process: one that new values are sealed under, and older ones that still open what they sealed.
///
/// To rotate: make a new key the current one and keep the old one, [`reseal`](crate::EnvStore::reseal) every scope, then
/// leave out the old one.
///
/// ```
/// use overskill_core::{KeyId, KeyProvider, LocalKeyProvider, RootKey};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let old = RootKey::parse("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")?;
/// let new = RootKey::parse("202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f")?;
/// let keys = LocalKeyProvider::new(KeyId::parse("k2")?, new).also(KeyId::parse("k1")?, old)?;
/// assert_eq!(keys.current().await?.as_str(), "k2");
/// # Ok::<(), overskill_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct LocalKeyProvider {
    current: KeyId,
    roots: BTreeMap<KeyId, RootKey>,
}

impl LocalKeyProvider {
    /// New values are sealed under `root`.
    pub fn new(current: KeyId, root: RootKey) -> Self {
        Self { roots: [(current.clone(), root)].into(), current }
    }

    /// What was sealed under `root` can still be opened. `Invalid` for an id that is there already.
    pub fn also(mut self, id: KeyId, root: RootKey) -> Result<Self> {
        if self.roots.contains_key(&id) {
            return Err(Error::invalid(format!("key id must be of one key, but `{id}` was given twice")));
        }
        self.roots.insert(id, root);
        Ok(self)
    }

    /// One new key, which is lost when the process ends: for what is lost then as well.
    pub fn generate(ids: &dyn Ids) -> Self {
        Self::new(KeyId::parse("generated").expect("a legal key id"), RootKey::generate(ids))
    }
}

impl fmt::Debug for LocalKeyProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<_> = self.roots.keys().map(KeyId::as_str).collect();
        f.debug_struct("LocalKeyProvider").field("current", &self.current.as_str()).field("keys", &ids).finish()
    }
}

#[async_trait]
impl KeyProvider for LocalKeyProvider {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready(NAME))
    }

    async fn current(&self) -> Result<KeyId> {
        Ok(self.current.clone())
    }

    async fn data_key(&self, id: &KeyId, app: &AppId) -> Result<DataKey> {
        let Some(root) = self.roots.get(id) else {
            let message = format!("key `{id}` is not among the configured keys; add it back to open what it sealed");
            return Err(Error::not_found(message).at(NAME, "data_key"));
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&*root.0).expect("HMAC takes keys of every length");
        // The label has a fixed length, so no other pair of label and app gives the same text.
        mac.update(b"overskill data key 1");
        mac.update(app.as_str().as_bytes());
        Ok(DataKey::from_bytes(mac.finalize().into_bytes().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, ErrorKind, SeededIds};

    const HEX: &str = "000102030405060708090A0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn id(s: &str) -> KeyId {
        KeyId::parse(s).unwrap()
    }

    fn app(s: &str) -> AppId {
        AppId::parse(s).unwrap()
    }

    #[tokio::test]
    async fn a_data_key_is_the_hmac_of_label_and_app() {
        let keys = LocalKeyProvider::new(id("k1"), RootKey::parse(HEX).unwrap());
        let key = keys.data_key(&id("k1"), &app("todo42")).await.unwrap();
        // printf 'overskill data key 1todo42' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f
        let want = "6cd9317105c06b8963d40ec3e56db5c3ab83a71c43b3385915620fb4c0671146";
        assert_eq!(crate::Digest::from_bytes(*key.expose()).to_string(), want);
        let other = keys.data_key(&id("k1"), &app("todo43")).await.unwrap();
        assert_ne!(key.expose(), other.expose());
    }

    #[tokio::test]
    async fn a_key_that_is_gone_is_named_with_what_to_do() {
        let keys = LocalKeyProvider::generate(&SeededIds::new(1));
        let e = keys.data_key(&id("k1"), &app("todo42")).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::NotFound, Effect::None));
        assert!(e.message().contains("`k1` is not among the configured keys; add it back"), "{e}");
    }

    #[test]
    fn an_id_has_one_key() {
        let root = |n| RootKey::from_bytes([n; 32]);
        let e = LocalKeyProvider::new(id("k1"), root(1)).also(id("k1"), root(2)).unwrap_err();
        assert!(e.message().contains("`k1` was given twice"), "{e}");
    }

    #[test]
    fn other_text_is_refused_and_not_repeated() {
        for bad in ["", "00", &HEX[1..], &format!("{HEX}0"), &HEX.replace('0', "g"), &"é".repeat(32)] {
            let e = RootKey::parse(bad).unwrap_err().to_string();
            assert!(e.ends_with(&format!("but was {} bytes long", bad.len())), "{e}");
        }
    }

    #[test]
    fn debug_shows_ids_only() {
        let keys = LocalKeyProvider::new(id("k2"), RootKey::parse(HEX).unwrap());
        let keys = keys.also(id("k1"), RootKey::from_bytes([255; 32])).unwrap();
        let shown = format!("{keys:?} {:?}", RootKey::parse(HEX).unwrap());
        assert_eq!(shown, r#"LocalKeyProvider { current: "k2", keys: ["k1", "k2"] } RootKey(…)"#);
    }
}
