//! Values at rest: sealed under an app's own key, bound to the place they belong to.
//!
//! # Format 1
//!
//! ```text
//! version (1 byte: 1) · length of the key id (1) · key id · commitment (32) · nonce (24) · ciphertext with tag (16 more)
//! ```
//!
//! From the data key and the random nonce, HKDF-SHA256 (RFC 5869; the nonce is the salt) makes two things, as in the AWS
//! Encryption SDK: the key for XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) and the **commitment**. The commitment says
//! which key sealed the value, and is compared first and in constant time: Poly1305 alone would let one ciphertext be
//! made to open under two keys, to two values.
//!
//! The associated data are version, key id, app, environment, name and revision, each with its length before it. So a
//! sealed value that was copied to another row is refused there.

use crate::{
    DataKey, Effect, EnvKey, EnvRevision, Environment, Error, ErrorKind, Ids, KeyId, KeyProvider, Result, Scope, Secret,
};
use bytes::Bytes;
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305,
    aead::{Aead as _, Payload},
};
use hmac::{Hmac, Mac};
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;
use std::{fmt, sync::Arc};

const NAME: &str = "sealer";
const VERSION: u8 = 1;
const COMMITMENT_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Seals values and opens them again.
///
/// It fails closed: what was altered, moved, or sealed under a key that is gone is an error that says nothing of the
/// value, never a missing or a raw value.
///
/// ```
/// use overskill_core::{EnvKey, EnvRevision, LocalKeyProvider, Scope, SealContext, Sealer, SystemIds};
/// use std::sync::Arc;
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let sealer = Sealer::new(Arc::new(LocalKeyProvider::generate(&SystemIds)), Arc::new(SystemIds));
/// let (scope, key): (Scope, EnvKey) = ("todo42/production".parse()?, "STRIPE_KEY".parse()?);
/// let context = SealContext::new(&scope, &key, EnvRevision("1f:1".parse()?));
///
/// let sealed = sealer.seal(&context, "sk_live_1").await?;
/// assert_eq!(sealer.open(&context, &sealed).await?.expose(), "sk_live_1");
///
/// let elsewhere: Scope = "todo43/production".parse()?;
/// assert!(sealer.open(&SealContext { scope: &elsewhere, ..context }, &sealed).await.is_err());
/// # Ok::<(), overskill_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Sealer {
    keys: Arc<dyn KeyProvider>,
    ids: Arc<dyn Ids>,
}

/// The place that a sealed value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealContext<'a> {
    /// The app and environment.
    pub scope: &'a Scope,
    /// The variable.
    pub key: &'a EnvKey,
    /// The revision that gave it this value.
    pub revision: EnvRevision,
}

/// A sealed value, as a store keeps it. It holds nothing that is secret without the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    bytes: Bytes,
    key_id: KeyId,
}

impl Sealer {
    /// Seals under the keys of `keys`; nonces come from `ids`.
    pub fn new(keys: Arc<dyn KeyProvider>, ids: Arc<dyn Ids>) -> Self {
        Self { keys, ids }
    }

    /// Where its keys come from.
    pub fn keys(&self) -> &Arc<dyn KeyProvider> {
        &self.keys
    }

    /// Seals a value under the current key.
    pub async fn seal(&self, context: &SealContext<'_>, plaintext: &str) -> Result<Sealed> {
        let key_id = self.keys.current().await?;
        let data_key = self.keys.data_key(&key_id, &context.scope.app).await?;
        let mut nonce = [0; NONCE_BYTES];
        self.ids.fill(&mut nonce);
        let derived = Derived::new(&data_key, &nonce);
        let payload = Payload { msg: plaintext.as_bytes(), aad: &context.associated_data(&key_id) };
        let ciphertext =
            derived.cipher().encrypt(&nonce.into(), payload).map_err(|_| fault("the value is too large to seal"))?;

        let mut bytes = Vec::with_capacity(Sealed::overhead(&key_id) + plaintext.len());
        bytes.push(VERSION);
        bytes.push(u8::try_from(key_id.as_str().len()).expect("a key id has at most 32 bytes"));
        bytes.extend_from_slice(key_id.as_str().as_bytes());
        bytes.extend_from_slice(&derived.commitment().finalize().into_bytes());
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&ciphertext);
        Ok(Sealed { bytes: bytes.into(), key_id })
    }

    /// Opens a value. `NotFound` when its key was retired, `Unexpected` when it was altered or belongs elsewhere.
    pub async fn open(&self, context: &SealContext<'_>, sealed: &Sealed) -> Result<Secret> {
        let refused = |e: Error| e.with("scope", context.scope).with("key", context.key).with("key_id", &sealed.key_id);
        let data_key = self.keys.data_key(&sealed.key_id, &context.scope.app).await.map_err(refused)?;
        sealed.open(context, &data_key).map_err(refused)
    }
}

impl<'a> SealContext<'a> {
    /// The variable `key` of `scope`, as `revision` set it.
    pub const fn new(scope: &'a Scope, key: &'a EnvKey, revision: EnvRevision) -> Self {
        Self { scope, key, revision }
    }

    fn associated_data(&self, key_id: &KeyId) -> Vec<u8> {
        let environment: Environment = self.scope.environment;
        let revision = self.revision.to_string();
        let parts: [&[u8]; 6] = [
            &[VERSION],
            key_id.as_str().as_bytes(),
            self.scope.app.as_str().as_bytes(),
            environment.as_str().as_bytes(),
            self.key.as_str().as_bytes(),
            revision.as_bytes(),
        ];
        parts
            .iter()
            .flat_map(|part| (part.len() as u64).to_le_bytes().into_iter().chain(part.iter().copied()))
            .collect()
    }
}

impl Sealed {
    /// Takes stored bytes. `Unexpected` when they are not a sealed value, or of a format that this version does not know.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        let key_id = match *bytes {
            [VERSION, length, ref rest @ ..] => rest
                .split_at_checked(usize::from(length))
                .filter(|(_, rest)| rest.len() >= COMMITMENT_BYTES + NONCE_BYTES + TAG_BYTES)
                .and_then(|(id, _)| KeyId::parse(std::str::from_utf8(id).ok()?).ok()),
            [] | [VERSION] => None,
            [version, ..] => {
                let message = format!("the stored value has the format {version}, but this version opens format 1");
                return Err(fault(message));
            }
        };
        let key_id = key_id.ok_or_else(|| fault("the stored value is not a sealed one: it was altered"))?;
        Ok(Self { bytes, key_id })
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The key that it is sealed under.
    pub fn key_id(&self) -> &KeyId {
        &self.key_id
    }

    fn overhead(key_id: &KeyId) -> usize {
        2 + key_id.as_str().len() + COMMITMENT_BYTES + NONCE_BYTES + TAG_BYTES
    }

    fn open(&self, context: &SealContext<'_>, data_key: &DataKey) -> Result<Secret> {
        let altered = || fault("the sealed value cannot be opened: it was altered, moved, or sealed under another key");
        let body = self.bytes.get(2 + self.key_id.as_str().len()..).ok_or_else(altered)?;
        let (commitment, body) = body.split_first_chunk::<COMMITMENT_BYTES>().ok_or_else(altered)?;
        let (nonce, ciphertext) = body.split_first_chunk::<NONCE_BYTES>().ok_or_else(altered)?;

        let derived = Derived::new(data_key, nonce);
        derived.commitment().verify_slice(commitment).map_err(|_| altered())?;
        let payload = Payload { msg: ciphertext, aad: &context.associated_data(&self.key_id) };
        let plaintext = derived.cipher().decrypt(nonce.into(), payload).map_err(|_| altered())?;
        let plaintext = Zeroizing::new(plaintext);
        Ok(Secret::new(std::str::from_utf8(&plaintext).map_err(|_| altered())?))
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed(under {})", self.key_id)
    }
}

/// What a data key gives for one nonce (HKDF-SHA256).
struct Derived(Zeroizing<[u8; 32]>);

impl Derived {
    fn new(data_key: &DataKey, nonce: &[u8; NONCE_BYTES]) -> Self {
        Self(Zeroizing::new(mac(nonce, &[data_key.expose()]).finalize().into_bytes().into()))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        let key = Zeroizing::new(<[u8; 32]>::from(self.expand(b"overskill seal 1 key").finalize().into_bytes()));
        XChaCha20Poly1305::new((&*key).into())
    }

    fn commitment(&self) -> Hmac<Sha256> {
        self.expand(b"overskill seal 1 commitment")
    }

    /// The first block of HKDF-Expand, which is all that is needed.
    fn expand(&self, info: &[u8]) -> Hmac<Sha256> {
        mac(&*self.0, &[info, &[1]])
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac
}

fn fault(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Unexpected, message).at(NAME, "open").effect_as(Effect::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AppId, LocalKeyProvider, RootKey, SeededIds};
    use futures::FutureExt;
    use proptest::prelude::*;

    struct Place {
        scope: Scope,
        key: EnvKey,
        revision: EnvRevision,
    }

    impl Place {
        fn new(app: &str, environment: Environment, key: &str, revision: &str) -> Self {
            let scope = Scope::new(AppId::parse(app).unwrap(), environment);
            Self { scope, key: EnvKey::parse(key).unwrap(), revision: EnvRevision(revision.parse().unwrap()) }
        }

        fn context(&self) -> SealContext<'_> {
            SealContext::new(&self.scope, &self.key, self.revision)
        }
    }

    fn place() -> Place {
        Place::new("todo42", Environment::Production, "API_KEY", "1f:1")
    }

    fn id(s: &str) -> KeyId {
        KeyId::parse(s).unwrap()
    }

    fn root(n: u8) -> RootKey {
        RootKey::from_bytes([n; 32])
    }

    fn sealer_with(keys: LocalKeyProvider) -> Sealer {
        Sealer::new(Arc::new(keys), Arc::new(SeededIds::new(1)))
    }

    fn sealer() -> Sealer {
        // Two ids of one key: an altered id must be found even then.
        sealer_with(LocalKeyProvider::new(id("k1"), root(7)).also(id("k3"), root(7)).unwrap())
    }

    fn seal(with: &Sealer, place: &Place, value: &str) -> Sealed {
        with.seal(&place.context(), value).now_or_never().unwrap().unwrap()
    }

    fn open(with: &Sealer, place: &Place, sealed: &Sealed) -> Result<Secret> {
        with.open(&place.context(), sealed).now_or_never().unwrap()
    }

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn a_value_opens_where_it_was_sealed_and_nowhere_else() {
        let mut places = Vec::new();
        for app in ["a", "aa"] {
            for environment in [Environment::Staging, Environment::Production] {
                for key in ["K", "K1"] {
                    for revision in ["1:1", "1:11", "11:1"] {
                        places.push(Place::new(app, environment, key, revision));
                    }
                }
            }
        }
        let with = sealer();
        let sealed: Vec<_> = places.iter().map(|place| seal(&with, place, "value")).collect();
        let mut swaps = 0;
        for (at, place) in places.iter().enumerate() {
            for (from, sealed) in sealed.iter().enumerate() {
                let opened = open(&with, place, sealed);
                if at == from {
                    assert_eq!(opened.unwrap().expose(), "value");
                } else {
                    swaps += 1;
                    let e = opened.unwrap_err();
                    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unexpected, Effect::None), "{e}");
                }
            }
        }
        assert_eq!(swaps, places.len() * (places.len() - 1));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let (with, place) = (sealer(), place());
        let sealed = seal(&with, &place, "hunter2");
        let mut under_the_other_id = 0;
        for bit in 0..sealed.as_bytes().len() * 8 {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let opened = Sealed::from_bytes(bytes).and_then(|sealed| {
                under_the_other_id += usize::from(sealed.key_id() == &id("k3"));
                open(&with, &place, &sealed)
            });
            let e = opened.unwrap_err();
            assert_eq!(e.effect(), Effect::None, "bit {bit}: {e}");
            assert!(matches!(e.kind(), ErrorKind::Unexpected | ErrorKind::NotFound), "bit {bit}: {e}");
            assert!(!format!("{e:?}").contains("hunter2"), "bit {bit}");
        }
        assert_eq!(under_the_other_id, 1, "`k1` and `k3` differ in one bit");
    }

    #[test]
    fn another_key_under_the_same_id_is_refused_by_the_commitment() {
        let place = place();
        let sealed = seal(&sealer(), &place, "hunter2");
        let imposter = sealer_with(LocalKeyProvider::new(id("k1"), root(8)));
        assert_eq!(open(&imposter, &place, &sealed).unwrap_err().kind(), ErrorKind::Unexpected);
        // With the right commitment for the wrong key, the tag still refuses.
        let data_key = imposter.keys().data_key(&id("k1"), &place.scope.app).now_or_never().unwrap().unwrap();
        let mut forged = sealed.as_bytes().to_vec();
        let nonce: [u8; NONCE_BYTES] = forged[4 + COMMITMENT_BYTES..][..NONCE_BYTES].try_into().unwrap();
        let commitment = Derived::new(&data_key, &nonce).commitment().finalize().into_bytes();
        forged[4..4 + COMMITMENT_BYTES].copy_from_slice(&commitment);
        assert!(open(&imposter, &place, &Sealed::from_bytes(forged).unwrap()).is_err());
    }

    #[test]
    fn a_retired_key_is_not_found() {
        let sealed = seal(&sealer(), &place(), "hunter2");
        let e = open(&sealer_with(LocalKeyProvider::new(id("k2"), root(9))), &place(), &sealed).unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::NotFound, Effect::None));
        assert!(e.to_string().contains("add it back") && e.to_string().contains("key=API_KEY"), "{e}");
    }

    #[test]
    fn equal_values_look_different_and_a_sealed_one_is_sealed_again() {
        let (with, place) = (sealer(), place());
        let (one, two) = (seal(&with, &place, "x"), seal(&with, &place, "x"));
        assert_ne!(one, two);
        let text: String = one.as_bytes().iter().map(|b| char::from(*b)).collect();
        let twice = seal(&with, &place, &text);
        assert_eq!(open(&with, &place, &twice).unwrap().expose(), text);
        assert_eq!(twice.as_bytes().len(), Sealed::overhead(&id("k1")) + text.len());
    }

    #[test]
    fn nothing_of_it_shows() {
        let with = sealer();
        let sealed = seal(&with, &place(), "hunter2");
        assert_eq!(format!("{sealed:?}"), "Sealed(under k1)");
        assert!(!sealed.as_bytes().windows(7).any(|w| w == b"hunter2"));
        let shown = format!("{:?}", Sealer::new(with.keys().clone(), Arc::new(crate::SystemIds)));
        assert_eq!(shown, r#"Sealer { keys: LocalKeyProvider { current: "k1", keys: ["k1", "k3"] }, ids: SystemIds }"#);
    }

    /// draft-irtf-cfrg-xchacha-03, A.3.1: the crate is the cipher that it says it is.
    #[test]
    fn the_cipher_is_xchacha20_poly1305() {
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap());
        let nonce: [u8; 24] = std::array::from_fn(|i| 0x40 + u8::try_from(i).unwrap());
        let msg = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                    sunscreen would be it.";
        let aad = hex("50515253c0c1c2c3c4c5c6c7");
        let got = XChaCha20Poly1305::new(&key.into()).encrypt(&nonce.into(), Payload { msg, aad: &aad }).unwrap();
        let want = "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39\
                    ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
                    21f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49";
        assert_eq!(got, hex(want));
    }

    /// Values that were stored have to open for ever, so this text must never change. It was made outside this crate, from
    /// the description of the format above.
    #[test]
    fn format_1_still_opens() {
        let stored = "01026b31212616c24feb7c6162e7d51c287e321d249148b763b41833427b8f324cc3e55b404142434445464748494a4b4c4d\
                      4e4f50515253545556570a3918239254febb332f7e06f397f68c4ddae9940459b0";
        let sealed = Sealed::from_bytes(hex(stored)).unwrap();
        assert_eq!(open(&sealer(), &place(), &sealed).unwrap().expose(), "hunter2");
    }

    #[test]
    fn an_unknown_format_is_named() {
        let mut bytes = seal(&sealer(), &place(), "x").as_bytes().to_vec();
        bytes[0] = 2;
        let e = Sealed::from_bytes(bytes).unwrap_err();
        assert!(e.message().contains("format 2"), "{e}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_open(
            junk in proptest::collection::vec(any::<u8>(), 0..200),
            header in prop_oneof![Just(vec![]), Just(vec![1]), Just(b"\x01\x02k1".to_vec()), Just(b"\x01\x20k1".to_vec())],
        ) {
            let bytes = [header, junk].concat();
            if let Ok(sealed) = Sealed::from_bytes(bytes) {
                prop_assert!(open(&sealer(), &place(), &sealed).is_err());
            }
        }

        #[test]
        fn every_value_round_trips(value in ".{0,100}") {
            let (with, place) = (sealer(), place());
            let stored = Sealed::from_bytes(seal(&with, &place, &value).as_bytes().clone()).unwrap();
            let opened = open(&with, &place, &stored).unwrap();
            prop_assert_eq!(opened.expose(), value);
        }
    }
}
