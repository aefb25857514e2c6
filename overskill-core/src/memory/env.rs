use super::{NAME, Shared};
use crate::{
    EnvChanges, EnvEntry, EnvKey, EnvRevision, EnvSnapshot, EnvStore, EnvValue, Error, ErrorKind, Ids, Incarnation,
    LocalKeyProvider, MAX_ENV_VARS, Readiness, Result, Scope, SealContext, Sealed, Sealer, StreamPosition, SystemIds,
};
use async_trait::async_trait;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Environment variables in memory, the sealed ones sealed as in every other store. Clones share them.
#[derive(Clone, Debug)]
pub struct MemoryEnv {
    sealer: Sealer,
    incarnation: Incarnation,
    scopes: Shared<HashMap<Scope, Variables>>,
}

#[derive(Default)]
struct Variables {
    /// The values, each under its name and the number of the revision that set it.
    values: BTreeMap<(EnvKey, u64), Value>,
    /// From revision 1 on: which value each name has.
    revisions: Vec<BTreeMap<EnvKey, u64>>,
}

#[derive(Clone)]
enum Value {
    Plain(String),
    Sealed(Sealed),
}

impl MemoryEnv {
    /// An empty store under a key that is lost with it.
    pub fn new() -> Self {
        let keys = LocalKeyProvider::generate(&SystemIds);
        Self::with(&SystemIds, Sealer::new(Arc::new(keys), Arc::new(SystemIds)))
    }

    /// An empty store that seals with `sealer`; its incarnation comes from `ids`.
    pub fn with(ids: &dyn Ids, sealer: Sealer) -> Self {
        Self { sealer, incarnation: Incarnation::generate(ids), scopes: Shared::default() }
    }

    /// The same store with another sealer, as after a restart with other keys.
    pub fn sealed_by(mut self, sealer: Sealer) -> Self {
        self.sealer = sealer;
        self
    }

    fn revision(&self, seq: u64) -> EnvRevision {
        EnvRevision(StreamPosition::new(self.incarnation, seq))
    }

    fn newest(&self, scope: &Scope) -> u64 {
        self.scopes.lock().get(scope).map_or(0, Variables::newest)
    }

    /// The values of a revision, each with the number of the revision that set it.
    fn read(&self, scope: &Scope, revision: EnvRevision, operation: &'static str) -> Result<Vec<(EnvKey, u64, Value)>> {
        let EnvRevision(at) = revision;
        let scopes = self.scopes.lock();
        let variables = scopes.get(scope);
        if at.incarnation != self.incarnation || at.seq > variables.map_or(0, Variables::newest) {
            let e = Error::not_found("the scope never had this revision of its variables").at(NAME, operation);
            return Err(e.with("scope", scope).with("revision", revision));
        }
        let read = |variables: &Variables| {
            let value = |(key, set): (&EnvKey, &u64)| {
                let value = variables.values.get(&(key.clone(), *set))?;
                Some((key.clone(), *set, value.clone()))
            };
            variables.at(at.seq).iter().flat_map(|names| names.iter()).filter_map(value).collect()
        };
        Ok(variables.map(read).unwrap_or_default())
    }
}

impl Default for MemoryEnv {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl EnvStore for MemoryEnv {
    async fn check(&self) -> Result<Readiness> {
        self.sealer.keys().check().await
    }

    async fn current(&self, scope: &Scope) -> Result<EnvRevision> {
        Ok(self.revision(self.newest(scope)))
    }

    async fn put(&self, scope: &Scope, changes: &EnvChanges, expected: Option<EnvRevision>) -> Result<EnvRevision> {
        changes.admit()?;
        loop {
            let newest = self.newest(scope);
            let conflict = || {
                let e = Error::conflict("the variables were changed: read them again").at(NAME, "put");
                e.with("scope", scope).with("revision", self.revision(newest))
            };
            if expected.is_some_and(|expected| expected != self.revision(newest)) {
                return Err(conflict());
            }
            // Sealed before the lock is taken, for keys may come from far away.
            let seq = newest + 1;
            let mut values = Vec::new();
            for (key, value) in changes.iter() {
                let value = match value {
                    None => None,
                    Some(EnvValue::Plain(value)) => Some(Value::Plain(value.clone())),
                    Some(EnvValue::Sealed(secret)) => {
                        let context = SealContext::new(scope, key, self.revision(seq));
                        Some(Value::Sealed(self.sealer.seal(&context, secret.expose()).await?))
                    }
                };
                values.push((key.clone(), value));
            }

            let mut scopes = self.scopes.lock();
            let variables = scopes.entry(scope.clone()).or_default();
            if variables.newest() != newest {
                continue; // Somebody was faster: what was sealed is bound to a revision that is theirs now.
            }
            let mut names = variables.at(newest).cloned().unwrap_or_default();
            for (key, value) in &values {
                match value {
                    Some(_) => drop(names.insert(key.clone(), seq)),
                    None => drop(names.remove(key)),
                }
            }
            if names.len() > MAX_ENV_VARS {
                let message =
                    format!("a scope may have at most {MAX_ENV_VARS} variables, but would have {}", names.len());
                return Err(Error::new(ErrorKind::LimitExceeded, message).at(NAME, "put").with("scope", scope));
            }
            let set = values.into_iter().filter_map(|(key, value)| Some(((key, seq), value?)));
            variables.values.extend(set);
            variables.revisions.push(names);
            return Ok(self.revision(seq));
        }
    }

    async fn get(&self, scope: &Scope, revision: EnvRevision) -> Result<EnvSnapshot> {
        let mut values = BTreeMap::new();
        for (key, set, value) in self.read(scope, revision, "get")? {
            let value = match value {
                Value::Plain(value) => EnvValue::Plain(value),
                Value::Sealed(sealed) => {
                    let context = SealContext::new(scope, &key, self.revision(set));
                    EnvValue::Sealed(self.sealer.open(&context, &sealed).await?)
                }
            };
            values.insert(key, value);
        }
        Ok(EnvSnapshot { revision, values })
    }

    async fn entries(&self, scope: &Scope, revision: EnvRevision) -> Result<Vec<EnvEntry>> {
        let entry = |(key, set, value): (EnvKey, u64, Value)| EnvEntry {
            key,
            sealed: matches!(value, Value::Sealed(_)),
            since: self.revision(set),
            key_id: match value {
                Value::Plain(_) => None,
                Value::Sealed(sealed) => Some(sealed.key_id().clone()),
            },
        };
        Ok(self.read(scope, revision, "entries")?.into_iter().map(entry).collect())
    }

    async fn reseal(&self, scope: &Scope) -> Result<u64> {
        let current = self.sealer.keys().current().await?;
        let old: Vec<(EnvKey, u64, Sealed)> = {
            let scopes = self.scopes.lock();
            let values = scopes.get(scope).into_iter().flat_map(|variables| &variables.values);
            let sealed = values.filter_map(|((key, set), value)| match value {
                Value::Sealed(sealed) if *sealed.key_id() != current => Some((key.clone(), *set, sealed.clone())),
                _ => None,
            });
            sealed.collect()
        };
        let mut resealed = 0;
        for (key, set, sealed) in old {
            let context = SealContext::new(scope, &key, self.revision(set));
            let secret = self.sealer.open(&context, &sealed).await?;
            let anew = self.sealer.seal(&context, secret.expose()).await?;
            let mut scopes = self.scopes.lock();
            let value = scopes.get_mut(scope).and_then(|variables| variables.values.get_mut(&(key.clone(), set)));
            // Another call may have been here in the meantime.
            if let Some(Value::Sealed(there)) = value
                && *there == sealed
            {
                *there = anew;
                resealed += 1;
            }
        }
        Ok(resealed)
    }
}

impl Variables {
    fn newest(&self) -> u64 {
        self.revisions.len() as u64
    }

    /// Which value each name has at revision `seq`; nothing has one at 0.
    fn at(&self, seq: u64) -> Option<&BTreeMap<EnvKey, u64>> {
        self.revisions.get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyId, RootKey, SeededIds};

    fn key(s: &str) -> EnvKey {
        EnvKey::parse(s).unwrap()
    }

    fn sealer(keys: LocalKeyProvider) -> Sealer {
        Sealer::new(Arc::new(keys), Arc::new(SeededIds::new(2)))
    }

    #[tokio::test]
    async fn keys_rotate_without_losing_a_revision() {
        let (k1, k2) = (KeyId::parse("k1").unwrap(), KeyId::parse("k2").unwrap());
        let (r1, r2) = (RootKey::from_bytes([1; 32]), RootKey::from_bytes([2; 32]));
        let scope: Scope = "todo42/production".parse().unwrap();
        let old = MemoryEnv::with(&SeededIds::new(1), sealer(LocalKeyProvider::new(k1.clone(), r1.clone())));
        let set =
            |value: &str| EnvChanges::new().set(key("A"), EnvValue::sealed(value)).set(key("P"), EnvValue::plain("p"));
        let first = old.put(&scope, &set("one"), None).await.unwrap();
        let second = old.put(&scope, &set("two"), Some(first)).await.unwrap();

        let both = LocalKeyProvider::new(k2.clone(), r2.clone()).also(k1, r1).unwrap();
        let rotating = old.clone().sealed_by(sealer(both));
        assert_eq!(rotating.reseal(&scope).await.unwrap(), 2);
        assert_eq!(rotating.reseal(&scope).await.unwrap(), 0);

        let new = old.clone().sealed_by(sealer(LocalKeyProvider::new(k2.clone(), r2)));
        for (revision, value) in [(first, "one"), (second, "two")] {
            let snapshot = new.get(&scope, revision).await.unwrap();
            assert_eq!(snapshot.values[&key("A")].expose(), value);
            assert_eq!(new.entries(&scope, revision).await.unwrap()[0].key_id, Some(k2.clone()));
        }
        let e = old.get(&scope, first).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::NotFound, "the old key alone opens nothing any more");
    }

    #[tokio::test]
    async fn nothing_of_a_sealed_value_is_kept_as_it_is() {
        let (store, scope) = (MemoryEnv::new(), "todo42/production".parse().unwrap());
        store.put(&scope, &EnvChanges::new().set(key("A"), EnvValue::sealed("hunter2")), None).await.unwrap();
        let scopes = store.scopes.lock();
        let Some(Value::Sealed(sealed)) = scopes[&scope].values.get(&(key("A"), 1)) else { panic!("not sealed") };
        assert!(!sealed.as_bytes().windows(7).any(|w| w == b"hunter2"));
    }
}
