//! Secrets, keys, and whose tokens the project accepts.

use super::Management;
use crate::tokens::SigningKey;
use overskill_core::{Error, ParseError, Result, Secret, SystemGrant};
use overskill_http::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;

/// The name of a secret of Edge Functions: 1 to 256 of `A-Z a-z 0-9 _`, not beginning with a digit or `SUPABASE_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretName(String);

impl SecretName {
    /// Takes a name as it is.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let rule = if text.is_empty() || text.len() > 256 {
            "must be 1 to 256 bytes long"
        } else if !text.bytes().all(legal) || text.as_bytes()[0].is_ascii_digit() {
            "may hold only A-Z, a-z, 0-9 and _, and not begin with a digit"
        } else if text.starts_with("SUPABASE_") {
            "may not begin with SUPABASE_: those are Supabase's own"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(ParseError::new("secret name", rule, text))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an API key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ApiKeyKind {
    /// The keys of before, which are tokens themselves.
    Legacy,
    /// For browsers.
    Publishable,
    /// For servers: it passes by row level security.
    Secret,
    /// One that this library does not know.
    #[serde(other)]
    Other,
}

/// A key of the project's services.
#[derive(Clone, Deserialize)]
#[non_exhaustive]
pub struct ApiKey {
    /// Its id; legacy keys have none.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// What it may do.
    #[serde(rename = "type")]
    pub kind: Option<ApiKeyKind>,
    #[serde(rename = "api_key")]
    shown: Option<String>,
}

impl ApiKey {
    /// The key itself, when the API was asked to show it.
    pub fn key(&self) -> Option<Secret> {
        // Hidden ones come with dots in them.
        self.shown.as_deref().filter(|key| !key.contains(['·', '•', '*'])).map(Secret::new)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({:?} {})", self.kind, self.name)
    }
}

/// What a project does with a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeyState {
    /// Published; signs nothing yet.
    Standby,
    /// Signs.
    InUse,
    /// What it signed is still accepted.
    PreviouslyUsed,
    /// What it signed is refused.
    Revoked,
}

impl KeyState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::InUse => "in_use",
            Self::PreviouslyUsed => "previously_used",
            Self::Revoked => "revoked",
        }
    }
}

/// A key that signs, or verifies, the project's tokens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ProjectSigningKey {
    /// Its id, which is the `kid` of tokens.
    pub id: String,
    /// `ES256`, `RS256`, `EdDSA` or `HS256`.
    pub algorithm: String,
    /// What the project does with it.
    pub status: KeyState,
    /// Its public half as a JWK (RFC 7517); of a shared secret there is none.
    #[serde(default)]
    pub public_jwk: Option<Value>,
}

impl ProjectSigningKey {
    /// Whether it is the public half of `key`, as far as the API shows it.
    pub(crate) fn is(&self, key: &SigningKey) -> bool {
        let ours = key.public_jwk();
        let same = |shown: &Value| ["kty", "crv", "x", "y"].iter().all(|name| shown[name] == ours[name]);
        self.id == key.kid() && self.algorithm == "ES256" && self.public_jwk.as_ref().is_none_or(same)
    }
}

#[derive(Deserialize)]
struct SigningKeys {
    keys: Vec<ProjectSigningKey>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Its secret is not even read.
#[derive(Deserialize)]
struct Rest {
    #[serde(default)]
    db_schema: String,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Management {
    /// Most secrets of a project.
    pub const MAX_SECRETS: usize = 100;
    /// Most bytes of a secret.
    pub const MAX_SECRET_BYTES: usize = 48 * 1024;

    /// Sets secrets of the project's Edge Functions, in place of those of the same names. All functions see all of them:
    /// **no tenant's secret belongs here.**
    pub async fn set_secrets(&self, grant: &SystemGrant, secrets: &[(SecretName, Secret)]) -> Result<()> {
        self.permit(grant)?;
        if let Some((name, value)) = secrets.iter().find(|(_, value)| value.expose().len() > Self::MAX_SECRET_BYTES) {
            let rule = "must be at most 49,152 bytes";
            return Err(Error::from(ParseError::secret("secret", rule, value.expose())).with("name", name.as_str()));
        }
        let body: Vec<_> =
            secrets.iter().map(|(name, value)| json!({ "name": name.as_str(), "value": value.expose() })).collect();
        let call = self.client.post(self.path(["secrets"])).json(&body).operation("set_secrets").idempotent();
        quiet(call.send().await).map(drop)
    }

    /// The names of the project's secrets.
    pub async fn secrets(&self, grant: &SystemGrant) -> Result<Vec<String>> {
        self.permit(grant)?;
        let call = self.client.get(self.path(["secrets"])).operation("secrets");
        Ok(call.send().await?.json::<Vec<Named>>()?.into_iter().map(|it| it.name).collect())
    }

    /// Removes secrets. Those that are not there are passed over.
    pub async fn delete_secrets(&self, grant: &SystemGrant, names: &[SecretName]) -> Result<()> {
        self.permit(grant)?;
        let names: Vec<_> = names.iter().map(SecretName::as_str).collect();
        let call = self.client.delete(self.path(["secrets"])).json(&names).operation("delete_secrets");
        call.send().await.map(drop)
    }

    /// The project's API keys, shown or hidden.
    pub async fn api_keys(&self, grant: &SystemGrant, reveal: bool) -> Result<Vec<ApiKey>> {
        self.permit(grant)?;
        let call = self.client.get(self.path(["api-keys"])).query("reveal", reveal).operation("api_keys");
        call.send().await?.json()
    }

    /// Makes a new API key, and shows it once.
    pub async fn create_api_key(&self, grant: &SystemGrant, kind: ApiKeyKind, name: &str) -> Result<ApiKey> {
        self.permit(grant)?;
        let kind = match kind {
            ApiKeyKind::Publishable => "publishable",
            ApiKeyKind::Secret => "secret",
            ApiKeyKind::Legacy | ApiKeyKind::Other => {
                return Err(Error::invalid("API key must be publishable or secret: no others are made any more"));
            }
        };
        let call = self.client.post(self.path(["api-keys"])).query("reveal", true);
        let call = call.json(&json!({ "type": kind, "name": name })).operation("create_api_key");
        quiet(call.send().await)?.json()
    }

    /// Removes an API key, which ends what it opened.
    pub async fn delete_api_key(&self, grant: &SystemGrant, id: &str) -> Result<()> {
        self.permit(grant)?;
        self.client.delete(self.path(["api-keys", id])).operation("delete_api_key").send().await.map(drop)
    }

    /// The project's signing keys.
    pub async fn signing_keys(&self, grant: &SystemGrant) -> Result<Vec<ProjectSigningKey>> {
        self.permit(grant)?;
        let call = self.client.get(self.path(["config", "auth", "signing-keys"])).operation("signing_keys");
        Ok(call.send().await?.json::<SigningKeys>()?.keys)
    }

    /// Gives the project a key of ours, so that it accepts what a [`TokenIssuer`](crate::TokenIssuer) signs with it. It is
    /// published at once and signs none of the project's own tokens: it stays on standby.
    pub async fn import_signing_key(&self, grant: &SystemGrant, key: &SigningKey) -> Result<ProjectSigningKey> {
        self.permit(grant)?;
        let jwk: Value = serde_json::from_str(key.private_jwk().expose())
            .map_err(|_| Error::invalid("signing key must be a JWK"))?; // a source would repeat parts of it
        let body = json!({ "algorithm": "ES256", "status": "standby", "private_jwk": jwk });
        let call = self.client.post(self.path(["config", "auth", "signing-keys"])).json(&body);
        quiet(call.operation("import_signing_key").send().await)?.json()
    }

    /// Says what the project is to do with a signing key.
    pub async fn set_signing_key(&self, grant: &SystemGrant, id: &str, state: KeyState) -> Result<ProjectSigningKey> {
        self.permit(grant)?;
        let call = self.client.patch(self.path(["config", "auth", "signing-keys", id]));
        let call = call.json(&json!({ "status": state.as_str() })).operation("set_signing_key").idempotent();
        call.send().await?.json()
    }

    /// Removes a signing key that is revoked or on standby.
    pub async fn delete_signing_key(&self, grant: &SystemGrant, id: &str) -> Result<()> {
        self.permit(grant)?;
        let call = self.client.delete(self.path(["config", "auth", "signing-keys", id]));
        call.operation("delete_signing_key").send().await.map(drop)
    }

    /// Lets the project accept tokens whose keys are published at `url`: those of a [`TokenIssuer`](crate::TokenIssuer), say.
    /// Gives the id to [distrust](Self::distrust) them by.
    pub async fn trust_jwks(&self, grant: &SystemGrant, url: &str) -> Result<String> {
        self.permit(grant)?;
        let call =
            self.client.post(self.path(["config", "auth", "third-party-auth"])).json(&json!({ "jwks_url": url }));
        Ok(call.operation("trust_jwks").send().await?.json::<Id>()?.id)
    }

    /// The schemas that the project's REST API shows.
    pub async fn exposed_schemas(&self, grant: &SystemGrant) -> Result<Vec<String>> {
        self.permit(grant)?;
        let shown: Rest =
            self.client.get(self.path(["postgrest"])).operation("exposed_schemas").send().await?.json()?;
        let names = shown.db_schema.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    /// Lets the project's REST API show one more schema; grants and row level security say what of it.
    pub async fn expose_schema(&self, grant: &SystemGrant, schema: &str) -> Result<()> {
        let mut schemas = self.exposed_schemas(grant).await?;
        if schemas.iter().any(|known| known == schema) {
            return Ok(());
        }
        schemas.push(schema.to_owned());
        let call = self.client.patch(self.path(["postgrest"])).json(&json!({ "db_schema": schemas.join(", ") }));
        call.operation("expose_schema").idempotent().send().await.map(drop)
    }

    /// Whether Realtime lets everybody who has the publishable key join channels that no policy is asked about.
    pub async fn has_public_channels(&self, grant: &SystemGrant) -> Result<bool> {
        self.permit(grant)?;
        let call = self.client.get(self.path(["config", "realtime"])).operation("realtime");
        // As long as nobody said anything, the setting is not shown.
        Ok(!call.send().await?.json::<Realtime>()?.private_only.unwrap_or(false))
    }

    /// Sets whether it does. Whoever is connected to the project's Realtime is disconnected, and connects again.
    pub async fn set_public_channels(&self, grant: &SystemGrant, allowed: bool) -> Result<()> {
        self.permit(grant)?;
        let call = self.client.patch(self.path(["config", "realtime"])).json(&json!({ "private_only": !allowed }));
        call.operation("set_realtime").idempotent().send().await.map(drop)
    }

    /// Ends the trust in tokens of another issuer.
    pub async fn distrust(&self, grant: &SystemGrant, id: &str) -> Result<()> {
        self.permit(grant)?;
        let call = self.client.delete(self.path(["config", "auth", "third-party-auth", id]));
        call.operation("distrust").send().await.map(drop)
    }
}

#[derive(Deserialize)]
struct Realtime {
    private_only: Option<bool>,
}

/// What the server says of a call that carried secrets might repeat one.
fn quiet(answer: Result<Response>) -> Result<Response> {
    answer.map_err(|e| {
        let quiet = Error::new(e.kind(), "the project refused what held a secret").retry_as(e.retry());
        quiet.effect_as(e.effect()).at(super::NAME, e.operation())
    })
}
