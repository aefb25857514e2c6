use async_trait::async_trait;
use overskill_core::{AppId, DataKey, Digest, Error, KeyId, KeyProvider, Readiness, Result};
use std::{
    fmt,
    sync::{Arc, Mutex},
};

/// Keys for tests of an [`EnvStore`](overskill_core::EnvStore) that can be rotated and retired; clones share them.
///
/// **For tests: anybody can guess them.** Their ids are `kit-1`, `kit-2` and so on.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use overskill_core::{AppId, KeyProvider};
/// use overskill_testkit::TestKeys;
///
/// let keys = TestKeys::new();
/// let (old, app) = (keys.current().await?, AppId::parse("todo42")?);
/// keys.rotate();
/// assert_ne!(keys.current().await?, old);
/// assert!(keys.data_key(&old, &app).await.is_ok(), "old values still open");
/// keys.retire(&old);
/// assert!(keys.data_key(&old, &app).await.is_err());
/// # Ok::<(), overskill_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct TestKeys(Arc<Mutex<Ring>>);

struct Ring {
    made: u32,
    usable: Vec<KeyId>,
}

impl TestKeys {
    /// A ring with one key.
    pub fn new() -> Self {
        let keys = Self(Arc::new(Mutex::new(Ring { made: 0, usable: Vec::new() })));
        keys.rotate();
        keys
    }

    /// Makes a new key the current one, and returns its id.
    pub fn rotate(&self) -> KeyId {
        let mut ring = self.lock();
        ring.made += 1;
        let id = KeyId::parse(&format!("kit-{}", ring.made)).expect("a legal name");
        ring.usable.push(id.clone());
        id
    }

    /// Takes a key away: nothing that it sealed can be opened any more.
    pub fn retire(&self, id: &KeyId) {
        self.lock().usable.retain(|usable| usable != id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.0.lock().expect("no holder of the ring panics")
    }
}

impl Default for TestKeys {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TestKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestKeys").field(&self.lock().usable).finish()
    }
}

#[async_trait]
impl KeyProvider for TestKeys {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("test-keys"))
    }

    async fn current(&self) -> Result<KeyId> {
        let current = self.lock().usable.last().cloned();
        current.ok_or_else(|| Error::not_found("every test key was retired").at("test-keys", "current"))
    }

    async fn data_key(&self, id: &KeyId, app: &AppId) -> Result<DataKey> {
        if !self.lock().usable.contains(id) {
            let e = Error::not_found("the key was retired, or never was").at("test-keys", "data_key");
            return Err(e.with("key_id", id));
        }
        let parts = [b"overskill test key".as_slice(), id.as_str().as_bytes(), app.as_str().as_bytes()];
        Ok(DataKey::from_bytes(*Digest::of_parts(parts).as_bytes()))
    }
}
