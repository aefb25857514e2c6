//! What a project needs, and what of it is missing.

use crate::{
    ApiKey, ApiKeyKind, ContextKeys, KeyState, Management, PostgresMemberships, ProjectSigningKey, RolePasswords,
    Schema, SecretName, SigningKey, TokenIssuer, gateway_function, validator::Memberships,
};
use overskill_core::{Digest, Error, Ids, Result, Secret, SystemGrant};
use std::fmt::{self, Write as _};

/// Changes of a project, in their order. `Display` has a line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(Vec<String>);

impl Changes {
    /// Whether everything is as it should be.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes, in words.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing to change");
        }
        f.write_str(&self.0.join("\n"))
    }
}

/// What there should be.
pub(crate) struct Installation<'a> {
    pub(crate) schema: Schema,
    pub(crate) passwords: &'a RolePasswords,
    pub(crate) contexts: &'a ContextKeys,
    pub(crate) members: Option<&'a PostgresMemberships>,
    /// The project's own services, where they can be reached.
    pub(crate) services: Option<(Management, &'a TokenIssuer)>,
    pub(crate) publishable: Option<&'a str>,
    /// Whether channels that no policy is asked about may stay.
    pub(crate) public_channels: bool,
    pub(crate) ids: &'a dyn Ids,
}

/// What is missing, by who mends it.
#[derive(Default)]
struct Missing<'a> {
    schema: Vec<String>,
    members: bool,
    services: Vec<Service<'a>>,
    gateway: Option<Gateway>,
}

/// A setting of the project's own services.
enum Service<'a> {
    Key(&'a SigningKey),
    Exposed,
    PrivateChannels,
}

impl Service<'_> {
    fn change(&self) -> String {
        match self {
            Self::Key(key) => format!("import the key {} of apps' tokens, on standby", key.kid()),
            Self::Exposed => "let the REST API show the schema `overskill_data`".to_owned(),
            Self::PrivateChannels => {
                "let Realtime open private channels alone, which policies are asked about".to_owned()
            }
        }
    }
}

/// The gateway's settings, and the name of a secret by which one sees that it was deployed with them.
struct Gateway {
    settings: Vec<(SecretName, Secret)>,
    mark: SecretName,
    old_marks: Vec<SecretName>,
}

const SCHEMA: &str = "overskill_data";
const MARK: &str = "OVERSKILL_GATEWAY_";

impl Installation<'_> {
    pub(crate) async fn plan(&self, grant: &SystemGrant) -> Result<Changes> {
        self.missing(grant).await.map(|missing| missing.changes())
    }

    pub(crate) async fn run(&self, grant: &SystemGrant) -> Result<Changes> {
        let missing = self.missing(grant).await?;
        let changes = missing.changes();
        if !missing.schema.is_empty() {
            self.schema.install(grant, self.passwords, self.contexts).await?;
        }
        if let Some(members) = self.members.filter(|_| missing.members) {
            members.install(self.schema.gate(), grant).await?;
        }
        let Some((management, _)) = &self.services else { return Ok(changes) };
        for service in &missing.services {
            match service {
                Service::Key(key) => management.import_signing_key(grant, key).await.map(drop)?,
                Service::Exposed => management.expose_schema(grant, SCHEMA).await?,
                Service::PrivateChannels => management.set_public_channels(grant, false).await?,
            }
        }
        if let Some(gateway) = &missing.gateway {
            management.set_secrets(grant, &gateway.settings).await?;
            management.deploy_function(grant, &gateway_function(), self.ids).await?;
            // Last: what was interrupted is done again.
            management.set_secrets(grant, &[(gateway.mark.clone(), Secret::new("deployed"))]).await?;
            if !gateway.old_marks.is_empty() {
                management.delete_secrets(grant, &gateway.old_marks).await?;
            }
        }
        Ok(changes)
    }

    async fn missing(&self, grant: &SystemGrant) -> Result<Missing<'_>> {
        let mut missing = Missing { schema: self.schema.pending(grant, self.contexts).await?, ..Missing::default() };
        if let Some(members) = self.members {
            missing.members = !members.check().await?.is_ready();
        }
        let Some((management, issuer)) = &self.services else { return Ok(missing) };
        let known = management.signing_keys(grant).await?;
        for key in issuer.keys() {
            if !is_imported(&known, key)? {
                missing.services.push(Service::Key(key));
            }
        }
        let wrong = [
            (Service::Exposed, !management.exposed_schemas(grant).await?.iter().any(|known| known == SCHEMA)),
            (Service::PrivateChannels, !self.public_channels && management.has_public_channels(grant).await?),
        ];
        missing.services.extend(wrong.into_iter().filter(|(_, wrong)| *wrong).map(|(service, _)| service));
        missing.gateway = self.gateway(grant, management, issuer).await?;
        Ok(missing)
    }

    /// `None` when it is deployed as it should be.
    async fn gateway(
        &self,
        grant: &SystemGrant,
        management: &Management,
        issuer: &TokenIssuer,
    ) -> Result<Option<Gateway>> {
        let publishable = if let Some(key) = self.publishable {
            Secret::new(key)
        } else {
            let keys = management.api_keys(grant, true).await?;
            let shown = keys.iter().filter(|key| key.kind == Some(ApiKeyKind::Publishable)).find_map(ApiKey::key);
            shown.ok_or_else(|| {
                let message = "the project has no publishable key: make one, or give it with `publishable_key`";
                Error::invalid(message).at("supabase", "install")
            })?
        };
        let settings = [
            ("OVERSKILL_PUBLISHABLE_KEY", publishable),
            ("OVERSKILL_ISSUER", Secret::new(issuer.issuer())),
            ("OVERSKILL_JWKS", Secret::new(issuer.jwks().to_string())),
        ];
        let mut all = gateway_function().digest().to_string();
        for (name, value) in &settings {
            write!(all, "\0{name}\0{}", value.expose()).expect("a string takes all");
        }
        let digest = Digest::of(all.as_bytes()).to_string();
        let mark: String = digest.chars().filter(char::is_ascii_hexdigit).take(32).collect();
        let mark = SecretName::parse(&format!("{MARK}{}", mark.to_uppercase()))?;
        let known = management.secrets(grant).await?;
        let deployed = management.functions(grant).await?.iter().any(|it| it.slug == gateway_function().slug());
        if deployed && known.iter().any(|it| it == mark.as_str()) {
            return Ok(None);
        }
        let old = known.iter().filter(|it| it.starts_with(MARK) && *it != mark.as_str());
        let old_marks = old.map(|it| SecretName::parse(it)).collect::<Result<_, _>>()?;
        let settings = settings.into_iter().map(|(name, value)| Ok((SecretName::parse(name)?, value)));
        Ok(Some(Gateway { settings: settings.collect::<Result<_>>()?, mark, old_marks }))
    }
}

/// Whether the project has `key`. Another in its place, or one that was revoked, is not for an installation to mend.
fn is_imported(known: &[ProjectSigningKey], key: &SigningKey) -> Result<bool> {
    let Some(it) = known.iter().find(|it| it.id == key.kid()) else { return Ok(false) };
    let message = if it.status == KeyState::Revoked {
        format!("the project has revoked the signing key {}: sign with another, and leave this one out", key.kid())
    } else if !it.is(key) {
        format!("the project has another signing key by the id {}: give ours another id", key.kid())
    } else {
        return Ok(true);
    };
    Err(Error::conflict(message).at("supabase", "install"))
}

impl Missing<'_> {
    fn changes(&self) -> Changes {
        let mut changes = self.schema.clone();
        changes.extend(self.members.then(|| "make the table of memberships".to_owned()));
        changes.extend(self.services.iter().map(Service::change));
        let gateway = self.gateway.as_ref();
        changes.extend(gateway.map(|_| "deploy the Edge Function `gateway` and its settings".to_owned()));
        Changes(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overskill_core::{ErrorKind, SeededIds, Timestamp};
    use serde_json::{Value, json};

    #[test]
    fn a_key_is_known_by_all_that_the_project_shows_of_it() {
        let key = SigningKey::generate(&SeededIds::new(1), Timestamp::EPOCH).unwrap();
        let other = SigningKey::generate(&SeededIds::new(2), Timestamp::EPOCH).unwrap();
        let shown = |id: &str, algorithm: &str, status: &str, public_jwk: Value| {
            let it = json!({ "id": id, "algorithm": algorithm, "status": status, "public_jwk": public_jwk });
            [serde_json::from_value::<ProjectSigningKey>(it).unwrap()]
        };
        let (kid, ours) = (key.kid(), key.public_jwk());
        // A shared secret shows no public half.
        for known in [shown(kid, "ES256", "standby", ours.clone()), shown(kid, "ES256", "in_use", Value::Null)] {
            assert!(is_imported(&known, &key).unwrap(), "{known:?}");
        }
        assert!(!is_imported(&[], &key).unwrap());
        assert!(!is_imported(&shown(other.kid(), "ES256", "standby", ours.clone()), &key).unwrap());
        for known in [
            shown(kid, "ES256", "standby", other.public_jwk()),
            shown(kid, "HS256", "standby", Value::Null),
            shown(kid, "ES256", "revoked", ours),
        ] {
            let e = is_imported(&known, &key).unwrap_err();
            assert!(e.kind() == ErrorKind::Conflict && e.message().contains(kid), "{known:?}: {e}");
        }
    }
}
