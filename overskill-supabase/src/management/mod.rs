//! A project's control API: what Supabase lets its owner change over HTTPS.

mod functions;
mod settings;

pub use functions::{EdgeFunction, FunctionBundle};
pub use settings::{ApiKey, ApiKeyKind, KeyState, ProjectSigningKey, SecretName};

use crate::permit::permit_all;
use overskill_core::{Clock, Effect, Error, ErrorKind, ParseError, Result, Retry, Secret, SystemGrant, TenantGate};
use overskill_http::{Client, ClientBuilder, Credential, Limiter, Quota, Request, Response, Target};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

const NAME: &str = "supabase";

/// A project's name in URLs: 20 lower-case letters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProjectRef(Arc<str>);

impl ProjectRef {
    /// Takes a name as the dashboard shows it.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() == 20 && text.bytes().all(|b| b.is_ascii_lowercase()) {
            return Ok(Self(text.into()));
        }
        Err(ParseError::new("project ref", "must be 20 of a-z", text))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the project's own services are.
    pub fn url(&self) -> String {
        format!("https://{}.supabase.co", self.0)
    }
}

impl fmt::Display for ProjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The Management API of one project. Clones share the limiter: 120 calls a minute for a token.
///
/// Every call touches all tenants of the project, so each takes a [`SystemGrant`] for all apps, of its own gate.
///
/// ```no_run
/// # async fn example(gate: overskill_core::TenantGate) -> overskill_core::Result<()> {
/// use overskill_core::{Secret, SystemClock, SystemScopes};
/// use overskill_supabase::{Management, ProjectRef};
/// use std::sync::Arc;
///
/// let project = ProjectRef::parse("abcdefghijklmnopqrst")?;
/// let management = Management::new(project, &Secret::new("sbp_…"), gate.clone(), Arc::new(SystemClock))?;
/// let grant = gate.system("advisor", "nightly look at the walls", SystemScopes::All).await?;
/// for advice in management.security_advice(&grant).await? {
///     println!("{} {}", advice.level, advice.title);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Management {
    client: Client,
    project: ProjectRef,
    gate: TenantGate,
}

impl Management {
    /// Where the API is.
    pub const URL: &'static str = "https://api.supabase.com/v1";

    /// The API of `project`, with a personal access token; one with few scopes, please.
    pub fn new(project: ProjectRef, token: &Secret, gate: TenantGate, clock: Arc<dyn Clock>) -> Result<Self> {
        let limiter = Limiter::new(NAME, Self::quota(), clock.clone())?;
        let client = Client::builder(NAME, Self::URL).credential(Credential::bearer(token.clone())).limiter(limiter);
        Self::with(project, client.clock(clock), gate)
    }

    /// The same with settings of one's own: another transport, or a limiter that is shared with other projects of the token.
    pub fn with(project: ProjectRef, client: ClientBuilder, gate: TenantGate) -> Result<Self> {
        let client = client.header("accept", "application/json").classify(judge).build()?;
        Ok(Self { client, project, gate })
    }

    /// What the API lets a token do: 120 calls a minute.
    pub fn quota() -> Quota {
        Quota::new(const { NonZeroU32::new(120).expect("not zero") }, Duration::from_mins(1))
    }

    /// The project.
    pub fn project(&self) -> &ProjectRef {
        &self.project
    }

    /// Runs one statement as `postgres`, which no row level security binds, and gives its rows. **Never with SQL of a
    /// tenant:** that is what the explorer is for.
    ///
    /// # Errors
    /// `Invalid` when the database refuses the statement.
    pub async fn query(&self, grant: &SystemGrant, sql: &str, parameters: &[Value]) -> Result<Vec<Map<String, Value>>> {
        self.permit(grant)?;
        let body = json!({ "query": sql, "parameters": parameters, "read_only": false });
        let call = self.client.post(self.path(["database", "query"])).json(&body);
        call.operation("query").send().await?.json()
    }

    /// The same in a transaction that can only read.
    pub async fn query_read_only(
        &self,
        grant: &SystemGrant,
        sql: &str,
        parameters: &[Value],
    ) -> Result<Vec<Map<String, Value>>> {
        self.permit(grant)?;
        let body = json!({ "query": sql, "parameters": parameters, "read_only": true });
        let call = self.client.post(self.path(["database", "query"])).json(&body).read_only();
        call.operation("query_read_only").send().await?.json()
    }

    /// What Supabase's advisor says of the project's security.
    pub async fn security_advice(&self, grant: &SystemGrant) -> Result<Vec<Advice>> {
        self.advice(grant, "security").await
    }

    /// What Supabase's advisor says of the project's performance.
    pub async fn performance_advice(&self, grant: &SystemGrant) -> Result<Vec<Advice>> {
        self.advice(grant, "performance").await
    }

    async fn advice(&self, grant: &SystemGrant, of: &str) -> Result<Vec<Advice>> {
        self.permit(grant)?;
        let call = self.client.get(self.path(["advisors", of])).operation("advice");
        Ok(call.send().await?.json::<Lints>()?.lints)
    }

    /// TypeScript types of the project's tables in these schemas.
    pub async fn typescript_types(&self, grant: &SystemGrant, schemas: &[&str]) -> Result<String> {
        self.permit(grant)?;
        let call = self.client.get(self.path(["types", "typescript"])).query("included_schemas", schemas.join(","));
        Ok(call.operation("types").send().await?.json::<Types>()?.types)
    }

    fn permit(&self, grant: &SystemGrant) -> Result<()> {
        permit_all(&self.gate, grant)
    }

    fn path<'a>(&'a self, rest: impl IntoIterator<Item = &'a str>) -> Target {
        let segments: Vec<_> = ["projects", self.project.as_str()].into_iter().chain(rest).collect();
        segments.as_slice().into()
    }
}

/// One thing that the advisor found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Advice {
    /// Its rule, such as `rls_disabled_in_public`.
    pub name: String,
    /// The rule in words.
    pub title: String,
    /// `ERROR`, `WARN` or `INFO`.
    pub level: String,
    /// What it found where.
    #[serde(default)]
    pub detail: String,
    /// Where to read what to do.
    #[serde(default)]
    pub remediation: String,
}

#[derive(Deserialize)]
struct Lints {
    lints: Vec<Advice>,
}

#[derive(Deserialize)]
struct Types {
    types: String,
}

#[derive(Deserialize)]
struct Complaint {
    message: String,
}

/// The API says in `message` what it did not like, and on 429 in a header of its own when it will like it again.
fn judge(_: &Request, response: &Response, by_status: Option<Error>) -> Option<Error> {
    let error = by_status?;
    let wait = response.header("x-ratelimit-reset").and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let error = match (error.kind(), error.retry(), wait) {
        (ErrorKind::RateLimited, Retry::Backoff, Some(wait)) => {
            error.retry_as(Retry::After(wait.min(Duration::from_mins(5))))
        }
        _ => error,
    };
    let said = serde_json::from_slice::<Complaint>(&response.body).ok();
    // The database's own complaint names the statement; a 5xx may have been carried out.
    Some(match said.filter(|_| response.status < 500) {
        Some(complaint) => error.with("said", shortened(&complaint.message)).effect_as(Effect::None),
        None => error,
    })
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
