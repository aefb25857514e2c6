use overskill_core::{Digest, Ids, KeyId, ParseError, RootKey, Secret};
use std::fmt;

/// A key that requests to our Workers are signed with: 32 secret bytes, and the id under which the Workers know it.
///
/// To rotate: give the Workers both (their secret `INGEST_KEYS` is JSON, hex digits by id), sign with the new one, and take
/// the old one away.
#[derive(Clone)]
pub struct IngestKey {
    id: KeyId,
    hex: Secret,
}

impl IngestKey {
    /// Takes a key as 64 hex digits, such as `openssl rand -hex 32` prints.
    pub fn parse(id: KeyId, hex: &str) -> Result<Self, ParseError> {
        RootKey::parse(hex)?;
        Ok(Self { id, hex: Secret::new(hex.to_ascii_lowercase()) })
    }

    /// A new one.
    pub fn generate(id: KeyId, ids: &dyn Ids) -> Self {
        let mut bytes = [0; 32];
        ids.fill(&mut bytes);
        Self { id, hex: Secret::new(Digest::from_bytes(bytes).to_string()) }
    }

    /// The id under which the Workers know it.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What the Workers' secret `INGEST_KEYS` holds for this key alone.
    pub fn to_binding(&self) -> Secret {
        Secret::new(serde_json::json!({ self.id.as_str(): self.hex.expose() }).to_string())
    }

    pub(super) fn bytes(&self) -> [u8; 32] {
        *self.hex.expose().parse::<Digest>().expect("64 hex digits").as_bytes()
    }
}

impl fmt::Debug for IngestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IngestKey({}, …)", self.id)
    }
}
