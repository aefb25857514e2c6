use crate::{
    AppId, Error, ErrorKind, KeyId, ParseError, Readiness, Result, Scope, Secret, StreamPosition, parse::text_newtype,
};
use async_trait::async_trait;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, fmt::Debug, sync::Arc};

/// The name of an environment variable: 1 to 128 of `A-Z a-z 0-9 _`, not beginning with a digit (POSIX), and not one of
/// the names that belong to the platform (`OVERSKILL_…`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvKey(Arc<str>);

impl EnvKey {
    /// Longest name in bytes.
    pub const MAX_BYTES: usize = 128;

    /// Takes a name as it is.
    pub fn parse(s: &str) -> Result<Self, ParseError> {
        let rule = if s.is_empty() || s.len() > Self::MAX_BYTES {
            "must be 1 to 128 bytes long"
        } else if !s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') || s.as_bytes()[0].is_ascii_digit() {
            "may hold only A-Z, a-z, 0-9 and _, and may not begin with a digit"
        } else if s.len() >= 10 && s.as_bytes()[..10].eq_ignore_ascii_case(b"OVERSKILL_") {
            "may not begin with OVERSKILL_, which is the platform's"
        } else {
            return Ok(Self(s.into()));
        };
        Err(ParseError::new("env key", rule, s))
    }
}

text_newtype!(EnvKey);

/// The value of a variable.
#[derive(Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// Shown to whoever may see the app's settings.
    Plain(String),
    /// Sealed at rest, never shown again by default.
    Sealed(Secret),
}

impl EnvValue {
    /// Longest value in bytes.
    pub const MAX_BYTES: usize = 32 * 1024;

    /// A plain value.
    pub fn plain(value: impl Into<String>) -> Self {
        Self::Plain(value.into())
    }

    /// A sealed value.
    pub fn sealed(value: impl Into<Secret>) -> Self {
        Self::Sealed(value.into())
    }

    /// Whether it is sealed.
    pub fn is_sealed(&self) -> bool {
        matches!(self, Self::Sealed(_))
    }

    /// The value itself, sealed or not. Search for this name to find every place where it is used.
    pub fn expose(&self) -> &str {
        match self {
            Self::Plain(value) => value,
            Self::Sealed(secret) => secret.expose(),
        }
    }
}

/// Neither form shows its value: plain values are settings of a tenant, and logs are not the place for them.
impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => write!(f, "Plain({} bytes)", value.len()),
            Self::Sealed(_) => f.write_str("Sealed(…)"),
        }
    }
}

/// One state of a scope's variables. It never changes: a deploy names it, and a promotion can name it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnvRevision(pub StreamPosition);

impl fmt::Display for EnvRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The variables of a scope at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvSnapshot {
    /// Which state.
    pub revision: EnvRevision,
    /// The variables.
    pub values: BTreeMap<EnvKey, EnvValue>,
}

/// A variable without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvEntry {
    /// Its name.
    pub key: EnvKey,
    /// Whether its value is sealed.
    pub sealed: bool,
    /// The revision that gave it this value.
    pub since: EnvRevision,
    /// The key its value is sealed under, if it is.
    pub key_id: Option<KeyId>,
}

/// What to set and what to remove; each name at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvChanges(BTreeMap<EnvKey, Option<EnvValue>>);

impl EnvChanges {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a variable.
    pub fn set(mut self, key: EnvKey, value: EnvValue) -> Self {
        self.0.insert(key, Some(value));
        self
    }

    /// Removes a variable; fine if it is not there.
    pub fn unset(mut self, key: EnvKey) -> Self {
        self.0.insert(key, None);
        self
    }

    /// In name order; `None` removes.
    pub fn iter(&self) -> impl Iterator<Item = (&EnvKey, Option<&EnvValue>)> {
        self.0.iter().map(|(k, v)| (k, v.as_ref()))
    }

    /// Whether they change nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses what no store takes: nothing at all, and values over the limit.
    pub fn admit(&self) -> Result<()> {
        if self.0.is_empty() {
            return Err(Error::invalid("env changes must set or unset at least one variable, but are empty"));
        }
        for (key, value) in &self.0 {
            let bytes = value.as_ref().map_or(0, |v| v.expose().len());
            if bytes > EnvValue::MAX_BYTES {
                let message = format!("env value must be at most {} bytes, but has {bytes}", EnvValue::MAX_BYTES);
                return Err(Error::new(ErrorKind::LimitExceeded, message).with("key", key));
            }
        }
        Ok(())
    }
}

/// Most variables that one scope may have.
pub const MAX_ENV_VARS: usize = 512;

/// Environment variables, sealed ones under a [`KeyProvider`].
///
/// Revisions are immutable and follow each other. It fails closed: what cannot be opened (a key that is gone, a row that
/// was altered or moved) is an error, never a missing or a raw value.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait EnvStore: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// The newest revision. A scope that nothing was set in has one too, with `seq` 0 and no variables.
    async fn current(&self, scope: &Scope) -> Result<EnvRevision>;

    /// Makes `changes` happen together and returns the new revision once it is durable.
    ///
    /// With `expected`, only if that is the current revision; otherwise `Conflict`. `LimitExceeded` for a value over
    /// [`EnvValue::MAX_BYTES`] or more than [`MAX_ENV_VARS`] variables.
    async fn put(&self, scope: &Scope, changes: &EnvChanges, expected: Option<EnvRevision>) -> Result<EnvRevision>;

    /// The variables with their values, opened. `NotFound` for a revision that never was.
    async fn get(&self, scope: &Scope, revision: EnvRevision) -> Result<EnvSnapshot>;

    /// The variables without their values, in name order; opens nothing.
    async fn entries(&self, scope: &Scope, revision: EnvRevision) -> Result<Vec<EnvEntry>>;

    /// Seals every value of `scope`, of every revision, under the provider's current key where it is under another, and
    /// returns how many. Safe to repeat and to interrupt.
    async fn reseal(&self, scope: &Scope) -> Result<u64>;
}

crate::seam::forward_seam!(EnvStore as "env" [] {
    safe fn check(&self) -> Readiness;
    safe fn current(&self, scope: &Scope) -> EnvRevision;
    unsafe_to_repeat fn put(&self, scope: &Scope, changes: &EnvChanges, expected: Option<EnvRevision>) -> EnvRevision;
    safe fn get(&self, scope: &Scope, revision: EnvRevision) -> EnvSnapshot;
    safe fn entries(&self, scope: &Scope, revision: EnvRevision) -> Vec<EnvEntry>;
    safe fn reseal(&self, scope: &Scope) -> u64;
});

/// A key that seals one app's values: 32 bytes, wiped when dropped.
#[derive(Clone)]
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// Takes 32 secret bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

/// Where the keys come from that seal values: a file, the environment, a KMS.
///
/// Every app has a key of its own under each key id, so that a key that leaks opens one app. A provider over a KMS may
/// derive it (a MAC of the app's id) or keep wrapped keys of its own.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait KeyProvider: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// The key that new values are sealed under.
    async fn current(&self) -> Result<KeyId>;

    /// `app`'s key under `id`, the same every time. `NotFound` for a key that was retired: what it sealed stays sealed.
    async fn data_key(&self, id: &KeyId, app: &AppId) -> Result<DataKey>;
}

crate::seam::forward_seam!(KeyProvider as "keys" [] {
    safe fn check(&self) -> Readiness;
    safe fn current(&self) -> KeyId;
    safe fn data_key(&self, id: &KeyId, app: &AppId) -> DataKey;
});
