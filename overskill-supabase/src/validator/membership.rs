//! Who belongs to which tenant: rows that a key attests, so that who can write rows cannot make members.

use crate::permit::permit_app;
use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use overskill_core::{
    AppId, DataKey, Error, KeyId, Readiness, Refusal, Result, Rights, SubjectId, SystemGrant, TenantGate, TenantId,
    Timestamp,
};
use sha2::Sha256;
use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard},
};

/// That a subject belongs to a tenant. A subject may belong to many; to one app it belongs once.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Membership {
    /// Who.
    pub subject: SubjectId,
    /// The whole app, or this subject's own part of it.
    pub tenant: TenantId,
    /// What they may do at most.
    pub rights: Rights,
    /// Tokens that became valid before are refused: setting it to now ends every session.
    pub since: Timestamp,
    /// Which key attests it.
    pub key: KeyId,
    /// The attestation: HMAC-SHA-256.
    pub mac: [u8; 32],
}

impl Membership {
    /// A row as a store kept it. Whether it is true is for [`MembershipKeys`] to say.
    pub const fn stored(
        subject: SubjectId,
        tenant: TenantId,
        rights: Rights,
        since: Timestamp,
        key: KeyId,
        mac: [u8; 32],
    ) -> Self {
        Self { subject, tenant, rights, since, key, mac }
    }
}

impl Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Membership({} in {}: {}, by {})", self.subject, self.tenant, self.rights, self.key)
    }
}

/// The keys that attest memberships: one for new ones, and older ones whose rows are still good.
///
/// To rotate: make a new key the current one, keep the old, attest every row anew, then leave out the old one.
///
/// ```
/// use overskill_core::{DataKey, KeyId, Rights, SubjectId, TenantId, Timestamp};
/// use overskill_supabase::MembershipKeys;
///
/// let keys = MembershipKeys::new(KeyId::parse("m2")?, DataKey::from_bytes([7; 32]))
///     .also(KeyId::parse("m1")?, DataKey::from_bytes([1; 32]))?;
/// let (ada, tenant) = (SubjectId::parse("ada")?, TenantId::parse("app_todo42_tenant")?);
/// let row = keys.attest(ada, tenant, Rights::ALL, Timestamp::EPOCH);
/// assert!(keys.attests(&row));
/// # Ok::<(), overskill_core::Error>(())
/// ```
#[derive(Clone)]
pub struct MembershipKeys {
    current: KeyId,
    keys: BTreeMap<KeyId, DataKey>,
}

impl MembershipKeys {
    /// New memberships are attested with `key`.
    pub fn new(current: KeyId, key: DataKey) -> Self {
        Self { keys: [(current.clone(), key)].into(), current }
    }

    /// What `key` attested is good too. `Invalid` for an id that is there already.
    pub fn also(mut self, id: KeyId, key: DataKey) -> Result<Self> {
        if self.keys.contains_key(&id) {
            return Err(Error::invalid(format!("key id must be of one key, but `{id}` was given twice")));
        }
        self.keys.insert(id, key);
        Ok(self)
    }

    /// Attests that `subject` belongs to `tenant` with at most `rights`, by tokens that become valid from `since` on.
    pub fn attest(&self, subject: SubjectId, tenant: TenantId, rights: Rights, since: Timestamp) -> Membership {
        let mut row = Membership { subject, tenant, rights, since, key: self.current.clone(), mac: [0; 32] };
        let key = self.keys.get(&self.current).expect("the current key is among the keys");
        row.mac = code(key, &row).finalize().into_bytes().into();
        row
    }

    /// Whether one of the keys attested this row. Takes the same time wherever it differs.
    pub fn attests(&self, row: &Membership) -> bool {
        self.keys.get(&row.key).is_some_and(|key| code(key, row).verify_slice(&row.mac).is_ok())
    }
}

impl Debug for MembershipKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MembershipKeys(current {}, {} in all)", self.current, self.keys.len())
    }
}

/// The code over every field, each with its length before it, so that no two rows are the same text.
fn code(key: &DataKey, row: &Membership) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("HMAC takes keys of every length");
    let (tenant, rights) = (row.tenant.to_string(), row.rights.to_string());
    let since = row.since.as_unix_millis().to_be_bytes();
    let fields: [&[u8]; 6] = [
        b"overskill membership 1",
        row.key.as_str().as_bytes(),
        row.subject.as_str().as_bytes(),
        tenant.as_bytes(),
        rights.as_bytes(),
        &since,
    ];
    for field in fields {
        mac.update(&(field.len() as u64).to_be_bytes());
        mac.update(field);
    }
    mac
}

/// Where memberships are kept. It is not trusted: what it says is checked against [`MembershipKeys`].
///
/// A gate is made of a validator, and that of a store: so the store has no gate, and whoever writes brings one with the
/// grant. That proves that the write was asked for at that gate, is in its audit log and is for the app; not that the gate is
/// the one that reads this store. Hand a store to nobody who may not change it. With a gate of their own they could remove
/// memberships, or put back old ones; new ones nobody makes without the keys.
#[async_trait]
pub trait Memberships: Debug + Send + Sync + 'static {
    /// Whether it can be used.
    async fn check(&self) -> Result<Readiness>;

    /// The one membership of `subject` in `app`, if there is one.
    async fn find(&self, subject: &SubjectId, app: &AppId) -> Result<Option<Membership>>;

    /// Keeps a membership, in place of the one of the same subject and app. `Denied` unless `grant` is of `gate` and for the
    /// app in all its environments: [`TenantGate::permit_app`] says so.
    async fn put(&self, gate: &TenantGate, grant: &SystemGrant, membership: &Membership) -> Result<()>;

    /// Forgets it; whether there was one. `Denied` as with [`put`](Self::put).
    async fn remove(&self, gate: &TenantGate, grant: &SystemGrant, subject: &SubjectId, app: &AppId) -> Result<bool>;
}

/// Memberships in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryMemberships(Arc<Mutex<Rows>>);

impl Debug for MemoryMemberships {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryMemberships({})", self.lock().len())
    }
}

type Rows = HashMap<(SubjectId, AppId), Membership>;

impl MemoryMemberships {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same as [`put`](Memberships::put), at once.
    pub fn insert(&self, gate: &TenantGate, grant: &SystemGrant, membership: Membership) -> Result<()> {
        permit_app(gate, grant, membership.tenant.app())?;
        self.lock().insert((membership.subject.clone(), membership.tenant.app().clone()), membership);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

#[async_trait]
impl Memberships for MemoryMemberships {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("memory"))
    }

    async fn find(&self, subject: &SubjectId, app: &AppId) -> Result<Option<Membership>> {
        Ok(self.lock().get(&(subject.clone(), app.clone())).cloned())
    }

    async fn put(&self, gate: &TenantGate, grant: &SystemGrant, membership: &Membership) -> Result<()> {
        self.insert(gate, grant, membership.clone())
    }

    async fn remove(&self, gate: &TenantGate, grant: &SystemGrant, subject: &SubjectId, app: &AppId) -> Result<bool> {
        permit_app(gate, grant, app)?;
        Ok(self.lock().remove(&(subject.clone(), app.clone())).is_some())
    }
}

/// The keys and the store of a validator.
#[derive(Clone, Debug)]
pub(super) struct Attested {
    pub(super) keys: MembershipKeys,
    pub(super) store: Arc<dyn Memberships>,
}

impl Attested {
    /// The membership, if it is there and true.
    pub(super) async fn find(&self, subject: &SubjectId, app: &AppId) -> Result<Membership, Refusal> {
        let row = self.store.find(subject, app).await?.ok_or(Refusal::NotAttested)?;
        // A store may answer with somebody else's row.
        let asked = row.subject == *subject && row.tenant.app() == app;
        let own = row.tenant.subject().is_none_or(|it| it == subject);
        if asked && own && self.keys.attests(&row) { Ok(row) } else { Err(Refusal::NotAttested) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::Right;

    fn keys(id: &str, byte: u8) -> MembershipKeys {
        MembershipKeys::new(KeyId::parse(id).unwrap(), DataKey::from_bytes([byte; 32]))
    }

    fn row(keys: &MembershipKeys, subject: &str, tenant: &str) -> Membership {
        let (subject, tenant) = (subject.parse().unwrap(), tenant.parse().unwrap());
        keys.attest(subject, tenant, Rights::of([Right::Data]), Timestamp::EPOCH)
    }

    #[test]
    fn every_field_is_attested() {
        let keys = keys("m1", 1).also(KeyId::parse("m0").unwrap(), DataKey::from_bytes([0; 32])).unwrap();
        let good = row(&keys, "ada", "app_todo42_tenant");
        assert!(keys.attests(&good));
        let changes: [fn(&mut Membership); 6] = [
            |it| it.subject = "bob".parse().unwrap(),
            |it| it.tenant = "app_todo43_tenant".parse().unwrap(),
            |it| it.rights = Rights::ALL,
            |it| it.since = Timestamp::from_unix_millis(1),
            |it| it.key = KeyId::parse("m0").unwrap(),
            |it| it.mac[31] ^= 1,
        ];
        for (n, change) in changes.into_iter().enumerate() {
            let mut forged = good.clone();
            change(&mut forged);
            assert!(!keys.attests(&forged), "change {n}");
        }
    }

    #[test]
    fn fields_cannot_flow_into_each_other() {
        let keys = keys("m1", 1);
        // Joined without lengths, these two are the same text.
        let (one, two) = (row(&keys, "a", "app_b_user_a"), row(&keys, "a", "app_b_tenant"));
        assert_ne!(one.mac, two.mac);
        let moved = row(&keys, "aapp", "app_b_tenant");
        assert_ne!(moved.mac, two.mac);
    }

    #[test]
    fn keys_rotate() {
        let old = keys("m1", 1);
        let kept = row(&old, "ada", "app_todo42_tenant");
        let rotated = keys("m2", 2).also(KeyId::parse("m1").unwrap(), DataKey::from_bytes([1; 32])).unwrap();
        assert!(rotated.attests(&kept) && !keys("m2", 2).attests(&kept));
        assert_eq!(row(&rotated, "ada", "app_todo42_tenant").key.as_str(), "m2");
        assert!(rotated.also(KeyId::parse("m1").unwrap(), DataKey::from_bytes([3; 32])).is_err());
        assert_eq!(format!("{old:?}"), "MembershipKeys(current m1, 1 in all)");
    }
}
