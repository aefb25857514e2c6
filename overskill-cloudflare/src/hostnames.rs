//! Customers' own domains.

use crate::{
    api::{Api, Envelope, KvPair, code, done, enveloped, is_missing, result},
    cloudflare::Settings,
};
use overskill_core::{Effect, Environment, Error, Result, Timestamp};
use overskill_http::{FairKey, Method};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

/// Customers' own domains, which lead to the platform's zone (Cloudflare for `SaaS`). Made by
/// [`Cloudflare::hostnames`](crate::Cloudflare::hostnames).
///
/// A hostname works once both its [state](Hostname::state) and its [certificate](Hostname::certificate) are active. What
/// the customer has to put into DNS until then is in [`Hostname::validation`]. It leads to the platform's Worker where
/// [`Install::customer_hostnames`](crate::Install::customer_hostnames) is installed, and to an app once
/// [`CloudflareRoutes::connect_host`](crate::CloudflareRoutes::connect_host) says to which.
///
/// The zone may have hostnames that somebody else made. So what is made here is noted in Workers KV, in `{prefix}-production`
/// (the provider's own metadata are for Enterprise plans), and [`uninstall`](crate::Cloudflare::uninstall) takes away what is
/// noted, and nothing else:
///
/// - `hostname_id_{id}`, once it was made: that one, whatever name it has;
/// - `hostname_{name}`, with the time, while it is being made. Where a process died then, nobody knows whether it made it: a
///   hostname of that name counts as made here if it was made within half an hour of the note, and else as somebody's.
///
/// KV lists late: a name that was made less than a minute or two before may stay.
#[derive(Clone, Debug)]
pub struct Hostnames {
    api: Api,
    settings: Arc<Settings>,
    zone: String,
}

/// A customer's own domain.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hostname {
    /// The provider's id of it.
    pub id: String,
    /// The name: `www.customer.example`.
    pub name: String,
    /// Whether requests for it are taken.
    pub state: HostnameState,
    /// Whether it has a certificate.
    pub certificate: CertificateState,
    /// What the customer has to do.
    pub validation: Vec<Validation>,
    /// What the provider says is wrong.
    pub problems: Vec<String>,
}

impl Hostname {
    /// Whether it works.
    pub fn is_live(&self) -> bool {
        self.state == HostnameState::Active && self.certificate == CertificateState::Active
    }
}

/// Whether requests for a hostname are taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HostnameState {
    /// DNS does not show yet that it is the customer's and leads here.
    Pending,
    /// Requests are taken.
    Active,
    /// It was active, and DNS leads elsewhere now.
    Moved,
    /// The provider refuses it.
    Blocked,
    /// It is on its way out.
    Deleted,
    /// Another word of the provider.
    Other(String),
}

/// Whether a hostname has a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CertificateState {
    /// It was only just asked for.
    Initializing,
    /// DNS or a file has to show that the domain is the customer's.
    PendingValidation,
    /// It is being issued or brought out.
    PendingDeployment,
    /// It is there.
    Active,
    /// It is over or on its way out.
    Expired,
    /// It took too long: begin again.
    TimedOut,
    /// Another word of the provider.
    Other(String),
}

/// Something that a customer has to put up, so that the provider sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Validation {
    /// A TXT record in DNS.
    Txt {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A file, or an answer of the customer's present server.
    Http {
        /// Where it is looked for.
        url: String,
        /// What has to be there.
        body: String,
    },
}

#[derive(Debug, Deserialize)]
struct Told {
    id: String,
    hostname: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    ssl: Option<Ssl>,
    #[serde(default)]
    ownership_verification: Option<Record>,
    #[serde(default)]
    verification_errors: Vec<String>,
    #[serde(default)]
    created_at: String,
}

#[derive(Debug, Default, Deserialize)]
struct Ssl {
    #[serde(default)]
    status: String,
    #[serde(default)]
    validation_records: Vec<SslRecord>,
    #[serde(default)]
    validation_errors: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
struct Record {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
struct SslRecord {
    txt_name: Option<String>,
    txt_value: Option<String>,
    http_url: Option<String>,
    http_body: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    #[serde(default)]
    message: String,
}

impl Hostnames {
    pub(crate) fn new(settings: &Arc<Settings>) -> Result<Self> {
        let zone = settings.zone.clone().ok_or_else(|| {
            let e = Error::invalid("hostnames need a zone: name it with `CloudflareBuilder::zone`");
            settings.at(e, "hostnames")
        })?;
        Ok(Self { api: settings.api.clone(), settings: settings.clone(), zone })
    }

    /// Takes a customer's domain in, and asks for its certificate, which a TXT record will validate. Safe to repeat: a name
    /// that is there is answered as it stands, and is whose it was.
    ///
    /// # Errors
    /// `Invalid` when the name is none, or is in the platform's own zone; `Conflict` when another zone has it.
    pub async fn create(&self, name: &str) -> Result<Hostname> {
        if let Some(there) = self.find(name).await? {
            return Ok(there);
        }
        let namespace = self.api.ensure_kv_namespace(&self.settings.of(NOTED_IN)).await?;
        // Noted before it is there: whoever is cut off in between leaves a note of nothing, and no hostname of nobody's.
        let at = json!({ "at": self.api.clock.now().as_unix_millis() });
        self.note(&namespace, note(name), name, Some(at)).await?;
        let body = json!({"hostname": name, "ssl": {"method": "txt", "type": "dv"}});
        let call = self.api.zone(Method::Post, &self.zone, &["custom_hostnames"]).operation("create_hostname");
        match result::<Told>(call.json(&body).idempotent()).await {
            Ok(made) => Ok(self.made(&namespace, made).await),
            // "Duplicate custom hostname found.": ours of an earlier try, or another zone's.
            Err(e) if code(&e) == Some(1_406) => match self.find(name).await? {
                Some(there) => Ok(there),
                None => self.refused(&namespace, name, e).await,
            },
            Err(e) if e.effect() == Effect::None => self.refused(&namespace, name, e).await,
            Err(e) => Err(e),
        }
    }

    /// Notes by its id what was made. The note of its name says less, and goes.
    async fn made(&self, namespace: &str, made: Told) -> Hostname {
        let noted = async {
            self.note(namespace, note_of(&made.id), &made.hostname, None).await?;
            self.forget(namespace, &[note(&made.hostname)]).await
        };
        if let Err(e) = noted.await {
            tracing::warn!(name = made.hostname, error = %e, "the note of a hostname's name stays");
        }
        made.read()
    }

    async fn note(&self, namespace: &str, key: String, name: &str, metadata: Option<Value>) -> Result<()> {
        let pair = KvPair { key, value: name.to_owned().into(), metadata };
        self.api.kv_put_all(&FairKey::default(), namespace, &[pair]).await
    }

    async fn forget(&self, namespace: &str, notes: &[String]) -> Result<()> {
        self.api.kv_delete_all(&FairKey::default(), namespace, notes).await
    }

    /// The name is not taken in, and so nothing is noted.
    async fn refused(&self, namespace: &str, name: &str, e: Error) -> Result<Hostname> {
        if let Err(kept) = self.forget(namespace, &[note(name)]).await {
            tracing::debug!(name, error = %kept, "a note of no hostname stays");
        }
        Err(e)
    }

    /// How a domain stands, by its name; `None` if it was never taken in.
    pub async fn find(&self, name: &str) -> Result<Option<Hostname>> {
        check_name(name).map_err(|e| self.settings.at(e, "find_hostname"))?;
        let call = self.api.zone(Method::Get, &self.zone, &["custom_hostnames"]).operation("find_hostname");
        let told = enveloped::<Vec<Told>>(call.query("hostname", name).query("per_page", 50)).await?;
        // The filter finds parts of names too.
        Ok(told.result.unwrap_or_default().into_iter().find(|told| told.hostname == name).map(Told::read))
    }

    /// How a domain stands, by its id; `None` if it is not there.
    pub async fn status(&self, id: &str) -> Result<Option<Hostname>> {
        let call = self.api.zone(Method::Get, &self.zone, &["custom_hostnames", id]).operation("get_hostname");
        match result::<Told>(call).await {
            Err(e) if is_missing(&e) => Ok(None),
            told => told.map(|told| Some(told.read())),
        }
    }

    /// Asks the provider to look at the domain's records once more.
    pub async fn refresh(&self, id: &str) -> Result<Hostname> {
        let call = self.api.zone(Method::Patch, &self.zone, &["custom_hostnames", id]).operation("refresh_hostname");
        let body = json!({"ssl": {"method": "txt", "type": "dv"}});
        Ok(result::<Told>(call.json(&body).idempotent()).await?.read())
    }

    /// Lets a domain go, whoever made it; fine if it is not there. Repeat it where it was cut off.
    pub async fn delete(&self, id: &str) -> Result<()> {
        let mut notes = vec![note_of(id)];
        if let Some(there) = self.status(id).await? {
            notes.push(note(&there.name));
            self.remove(id).await?;
        }
        // Only now: whoever is cut off in between leaves a note of nothing, as nothing else ever has this id.
        match self.api.kv_namespace(&self.settings.of(NOTED_IN)).await? {
            Some(namespace) => self.forget(&namespace, &notes).await,
            None => Ok(()),
        }
    }

    async fn remove(&self, id: &str) -> Result<()> {
        let call = self.api.zone(Method::Delete, &self.zone, &["custom_hostnames", id]).operation("delete_hostname");
        match done(call).await {
            Err(e) if is_missing(&e) => Ok(()),
            answer => answer,
        }
    }

    /// Removes every hostname that is noted in this KV namespace, and names them. The notes stay, so that whoever is cut off
    /// can go on.
    pub(crate) async fn remove_noted(&self, namespace: &str) -> Result<Vec<String>> {
        let notes = self.api.kv_entries(&FairKey::default(), namespace, NOTE).await?;
        if notes.is_empty() {
            return Ok(Vec::new());
        }
        let (mut ids, mut names) = (HashSet::new(), HashMap::new());
        for entry in &notes {
            let Some(known) = entry.name.strip_prefix(NOTE) else { continue };
            if let Some(id) = known.strip_prefix(ID) {
                ids.insert(id);
            } else if let Some(at) = entry.metadata["at"].as_i64() {
                names.insert(known, Timestamp::from_unix_millis(at));
            }
        }
        let is_ours = |told: &Told| {
            ids.contains(&*told.id) || names.get(&*told.hostname).is_some_and(|at| told.was_made_around(*at))
        };
        let ours: Vec<Told> = self.all().await?.into_iter().filter(is_ours).collect();
        for hostname in &ours {
            self.remove(&hostname.id).await?;
        }
        Ok(ours.into_iter().map(|told| told.hostname).collect())
    }

    /// Every hostname of the zone, whoever's.
    async fn all(&self) -> Result<Vec<Told>> {
        let mut all = Vec::new();
        for page in 1.. {
            let call = self.api.zone(Method::Get, &self.zone, &["custom_hostnames"]).operation("list_hostnames");
            let told: Envelope<Vec<Told>> = enveloped(call.query("page", page).query("per_page", PAGE)).await?;
            let found = told.result.unwrap_or_default();
            let full = found.len() >= PAGE;
            all.extend(found);
            if !told.result_info.and_then(|info| info.total_pages).map_or(full, |pages| page < pages) {
                break;
            }
        }
        Ok(all)
    }
}

/// Hostnames in a page of a listing: the most that the API gives.
const PAGE: usize = 50;
/// Where it is noted which hostnames were made here.
pub(crate) const NOTED_IN: Environment = Environment::Production;
const NOTE: &str = "hostname_";
/// What stands before ids in notes: no hostname holds a `_`.
const ID: &str = "id_";
/// The longest that making a hostname takes; and how far the provider's clock may be from ours.
const LASTS: Duration = Duration::from_mins(30);
const SKEW: Duration = Duration::from_mins(1);

fn note(name: &str) -> String {
    format!("{NOTE}{name}")
}

fn note_of(id: &str) -> String {
    format!("{NOTE}{ID}{id}")
}

impl Told {
    /// Whether it may be what a note of that time speaks of.
    fn was_made_around(&self, noted: Timestamp) -> bool {
        // Both are RFC 3339 in UTC, whose order is that of the texts.
        let (from, until) = (noted.minus(SKEW).to_string(), noted.plus(LASTS).to_string());
        (from..until).contains(&self.created_at)
    }

    fn read(self) -> Hostname {
        let ssl = self.ssl.unwrap_or_default();
        let mut validation = Vec::new();
        if let Some(Record { name, value }) = self.ownership_verification.filter(|record| !record.name.is_empty()) {
            validation.push(Validation::Txt { name, value });
        }
        for record in ssl.validation_records {
            if let (Some(name), Some(value)) = (record.txt_name, record.txt_value) {
                validation.push(Validation::Txt { name, value });
            }
            if let (Some(url), Some(body)) = (record.http_url, record.http_body) {
                validation.push(Validation::Http { url, body });
            }
        }
        let mut problems = self.verification_errors;
        problems.extend(ssl.validation_errors.into_iter().map(|problem| problem.message));
        Hostname {
            id: self.id,
            name: self.hostname,
            state: HostnameState::of(&self.status),
            certificate: CertificateState::of(&ssl.status),
            validation,
            problems,
        }
    }
}

impl HostnameState {
    fn of(word: &str) -> Self {
        match word {
            "pending" | "active_redeploying" | "pending_provisioned" | "provisioned" => Self::Pending,
            "active" => Self::Active,
            "moved" => Self::Moved,
            "blocked" | "pending_blocked" => Self::Blocked,
            "deleted" | "pending_deletion" => Self::Deleted,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl CertificateState {
    fn of(word: &str) -> Self {
        match word {
            "initializing" => Self::Initializing,
            "pending_validation" => Self::PendingValidation,
            "pending_issuance" | "pending_deployment" | "staging_deployment" => Self::PendingDeployment,
            "active" | "staging_active" | "backup_issued" => Self::Active,
            "expired" | "deleted" | "pending_deletion" | "pending_expiration" => Self::Expired,
            "initializing_timed_out" | "validation_timed_out" | "issuance_timed_out" | "deployment_timed_out" => {
                Self::TimedOut
            }
            other => Self::Other(other.to_owned()),
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    let label = |l: &str| {
        let marks = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !l.is_empty() && l.len() <= 63 && l.bytes().all(marks) && !l.starts_with('-') && !l.ends_with('-')
    };
    if name.len() > 253 || !name.contains('.') || !name.split('.').all(label) {
        let shown: String = name.chars().take(60).collect();
        let rule = "hostname must be at most 253 bytes and like www.customer.example, in lower case";
        return Err(Error::invalid(format!("{rule}, but was {shown:?}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_customer_has_to_do_is_told() {
        let told: Told = serde_json::from_value(json!({
            "id": "h1", "hostname": "www.customer.example", "status": "pending",
            "ssl": {
                "status": "pending_validation",
                "validation_records": [
                    {"txt_name": "_acme-challenge.www", "txt_value": "v"},
                    {"http_url": "http://www/.well-known/x", "http_body": "b"},
                ],
                "validation_errors": [{"message": "CAA records forbid it"}],
            },
            "ownership_verification": {"type": "txt", "name": "_cf-custom-hostname.www", "value": "o"},
        }))
        .unwrap();
        let hostname = told.read();
        assert_eq!(hostname.validation.len(), 3);
        assert_eq!(hostname.problems, ["CAA records forbid it"]);
        assert_eq!(
            (&hostname.state, &hostname.certificate),
            (&HostnameState::Pending, &CertificateState::PendingValidation)
        );
        assert!(!hostname.is_live());
        assert_eq!(CertificateState::of("new word"), CertificateState::Other("new word".into()));
    }

    #[test]
    fn what_a_note_speaks_of_was_made_soon_after_it() {
        let noted = Timestamp::from_unix_millis(1_795_386_000_000);
        let is_ours = |created_at: &str| {
            let told = json!({"id": "h1", "hostname": "www.customer.org", "created_at": created_at});
            serde_json::from_value::<Told>(told).unwrap().was_made_around(noted)
        };
        assert_eq!(noted.to_string(), "2026-11-22T22:20:00.000Z");
        for near in ["2026-11-22T22:20:00Z", "2026-11-22T22:19:30.123456Z", "2026-11-22T22:49:59.999999Z"] {
            assert!(is_ours(near), "{near}");
        }
        for far in ["", "2026-11-22T22:18:59.999Z", "2026-11-22T22:50:00.001Z", "2026-11-23T22:20:00Z"] {
            assert!(!is_ours(far), "{far}");
        }
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for bad in
            ["", "localhost", "UPPER.example", "a..b", "-a.example", "a_b.example", "a.example/x", "*.example.com"]
        {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_name("xn--mnchen-3ya.example").is_ok());
    }
}
