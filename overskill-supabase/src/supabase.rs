//! One project, and everything that is made from it.

use crate::{
    AppTables, ContextKeys, EntityApi, Explorer, ExplorerLimits, FunctionBundle, Jwks, Management, MembershipKeys,
    Mover, PoolOptions, PostgresMemberships, ProjectRef, RolePasswords, Schema, SchemaEditor, SchemaInspector, Server,
    Session, SigningKey, SupabaseValidator, TenantPool, TokenIssuer, TrustedIssuer, gateway_function,
    install::{Changes, Installation},
};
use overskill_core::{
    AccessToken, AuditLog, Clock, Error, Ids, ParseError, Result, Right, Secret, SystemClock, SystemGrant, SystemIds,
    TenantGate,
};
use overskill_http::{Client, Credential, Limiter, NetworkTransport, Transport};
use overskill_sql::postgres::{PostgresOptions, PostgresStores};
use std::{collections::BTreeSet, sync::Arc};

const NAME: &str = "supabase";

/// A project of Supabase. Clones are cheap and share everything: the validator's memory, and the limiter of the control API.
///
/// What decides who may do what is a [`TenantGate`]. A platform has one; parts that serve apps by themselves, such as the
/// [entity API](Self::entities) behind a server that starts before the platform, may have one of their own, by the same
/// validator.
///
/// ```no_run
/// # async fn example() -> overskill_core::Result<()> {
/// use overskill_core::{Clock, KeyId, Secret, SystemClock, SystemIds, SystemScopes, memory::MemoryAudit};
/// use overskill_supabase::{ContextKey, ContextKeys, RolePasswords, SigningKey, Supabase};
/// use std::sync::Arc;
///
/// # let (app, explorer) = (Secret::new("…"), Secret::new("…"));
/// let contexts = ContextKeys::new(ContextKey::parse(KeyId::parse("2026-11")?, &Secret::new("…64 hex digits…"))?);
/// let supabase = Supabase::connect("abcdefghijklmnopqrst", "postgres://postgres:…@db.example.com:5432/postgres")
///     .passwords(RolePasswords { app, explorer })
///     .contexts(contexts)
///     .signing_key(SigningKey::from_pkcs8("01890000-0000-7000-8000-000000000000", &Secret::new("…"))?)
///     .pooler("postgres://postgres.abcdefghijklmnopqrst:…@pooler.example.com:6543/postgres")
///     .access_token("sbp_…")
///     .build()?;
///
/// let gate = supabase.gate(Arc::new(MemoryAudit::new())); // a platform has one: `platform.gate()`
/// let grant = gate.system("install", "the first installation", SystemScopes::All).await?;
/// println!("{}", supabase.plan(&gate, &grant).await?);
/// supabase.install(&gate, &grant).await?;
///
/// let api = supabase.entities(&gate); // an `ApiUpstream`
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Supabase(Arc<Settings>);

#[derive(Debug)]
struct Settings {
    project: ProjectRef,
    database: Server,
    tenants: Server,
    records: Option<Secret>,
    passwords: RolePasswords,
    contexts: ContextKeys,
    validator: SupabaseValidator,
    issuer: Option<TokenIssuer>,
    members: Option<PostgresMemberships>,
    pool: PoolOptions,
    limits: ExplorerLimits,
    access: Option<Access>,
    publishable: Option<String>,
    public_channels: bool,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

/// How to reach the control API.
#[derive(Debug)]
struct Access {
    token: Secret,
    base: String,
    transport: Arc<dyn Transport>,
    limiter: Limiter,
}

impl Supabase {
    /// Begins to describe a project, by its ref and the URL of its database as the role `postgres`.
    ///
    /// The URL has to lead to the server itself or to sessions of the pooler (port 5432).
    pub fn connect(project: impl Into<String>, database: impl Into<Secret>) -> SupabaseBuilder {
        SupabaseBuilder {
            project: project.into(),
            database: database.into(),
            pooler: None,
            records: None,
            certificates: None,
            passwords: None,
            contexts: None,
            signing: None,
            published: Vec::new(),
            issuer: None,
            members: None,
            trusted: Vec::new(),
            pool: PoolOptions::new(),
            limits: ExplorerLimits::new(),
            token: None,
            publishable: None,
            public_channels: false,
            api_base: Management::URL.to_owned(),
            transport: None,
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
        }
    }

    /// What decides whose tokens are good: tokens of the [issuer](Self::issuer), and those of Supabase Auth where there are
    /// [membership keys](SupabaseBuilder::membership_keys).
    pub fn validator(&self) -> SupabaseValidator {
        self.0.validator.clone()
    }

    /// A gate by this validator. A platform that is built with the validator has one already.
    pub fn gate(&self, audit: Arc<dyn AuditLog>) -> TenantGate {
        TenantGate::new(Arc::new(self.validator()), audit, self.0.clock.clone())
    }

    /// What apps' tokens are made by: it publishes the keys, and makes tokens for who
    /// [holds a grant](TokenIssuer::granted).
    ///
    /// # Errors
    /// `Invalid` without a [signing key](SupabaseBuilder::signing_key).
    pub fn issuer(&self) -> Result<TokenIssuer> {
        self.0.issuer.clone().ok_or_else(|| missing("signing_key"))
    }

    /// Who belongs to which app.
    ///
    /// # Errors
    /// `Invalid` without [membership keys](SupabaseBuilder::membership_keys).
    pub fn memberships(&self) -> Result<PostgresMemberships> {
        self.0.members.clone().ok_or_else(|| missing("membership_keys"))
    }

    /// Ends an app's token that leaked, before it expires: for [the database](Schema::revoke), so for the gateway, storage and
    /// realtime, and for [this handle's validator](SupabaseValidator::revoke). Other processes have validators of their own,
    /// which want to be told, too. Needs a grant for all apps.
    ///
    /// # Errors
    /// `Invalid` when it is none of the [issuer's](Self::issuer) making: tokens of the project's users open nothing in the
    /// database, so the validator is all that has to be told.
    pub async fn revoke(&self, gate: &TenantGate, grant: &SystemGrant, token: &AccessToken) -> Result<()> {
        let (session, now) = (Session::of_token(token)?, self.0.clock.now());
        self.0.validator.revoke(gate, grant, token, now)?;
        self.schema(gate).revoke(grant, session, now.plus(TokenIssuer::MAX_TTL)).await
    }

    /// The tenants' schema, seen by its owner.
    pub fn schema(&self, gate: &TenantGate) -> Schema {
        Schema::new(self.0.database.clone(), gate.clone())
    }

    /// Transactions of tenants.
    pub fn tenants(&self, gate: &TenantGate) -> TenantPool {
        let Settings { tenants, passwords, contexts, pool, .. } = &*self.0;
        let server = tenants.clone().role("overskill_app", &passwords.app);
        TenantPool::new(server, gate.clone(), contexts.clone(), pool.clone())
    }

    /// Apps' records: what their `/api/entities` are answered with. Its pool is its own.
    pub fn entities(&self, gate: &TenantGate) -> EntityApi {
        let api = EntityApi::new(self.tenants(gate));
        api.clock(self.0.clock.clone()).ids(self.0.ids.clone())
    }

    /// Developers' own queries; each is noted in `audit`.
    ///
    /// # Errors
    /// None that a handle which was built could give; the signature is that of [`Explorer::new`].
    pub fn explorer(&self, gate: &TenantGate, audit: Arc<dyn AuditLog>) -> Result<Explorer> {
        let Settings { tenants, passwords, contexts, limits, .. } = &*self.0;
        let server = tenants.clone().role("overskill_explorer", &passwords.explorer);
        Explorer::new(server, gate.clone(), contexts.clone(), audit, *limits)
    }

    /// What looks at the tables that apps share, app by app. For one with a schema of its own, see [`AppTables::own`].
    pub fn inspector(&self, gate: &TenantGate) -> SchemaInspector {
        SchemaInspector::new(AppTables::shared(self.tenants(gate)))
    }

    /// What changes them.
    pub fn editor(&self, gate: &TenantGate) -> SchemaEditor {
        let editor = SchemaEditor::new(AppTables::shared(self.tenants(gate)));
        editor.clock(self.0.clock.clone()).ids(self.0.ids.clone())
    }

    /// What moves apps to schemas or projects of their own, and back.
    pub fn mover(&self, gate: &TenantGate) -> Mover {
        let mover = Mover::new(self.schema(gate), self.0.contexts.clone());
        mover.clock(self.0.clock.clone()).ids(self.0.ids.clone())
    }

    /// The platform's own stores, out of reach of every tenant: [`Schema::records`]. Install first.
    ///
    /// # Errors
    /// `Invalid` when the certificates are one's own and there is no [URL for the records](SupabaseBuilder::records_url).
    pub async fn records(
        &self,
        gate: &TenantGate,
        grant: &SystemGrant,
        options: PostgresOptions,
    ) -> Result<PostgresStores> {
        let url = self.0.records.clone().ok_or_else(|| missing("records_url"))?;
        self.schema(gate).records(grant, url, options).await
    }

    /// The project's control API. All of a project's share one limiter.
    ///
    /// # Errors
    /// `Invalid` without an [access token](SupabaseBuilder::access_token).
    pub fn management(&self, gate: &TenantGate) -> Result<Management> {
        let Access { token, base, transport, limiter } =
            self.0.access.as_ref().ok_or_else(|| missing("access_token"))?;
        let client = Client::builder(NAME, base)
            .credential(Credential::bearer(token.clone()))
            .transport(transport.clone())
            .limiter(limiter.clone())
            .clock(self.0.clock.clone())
            .ids(self.0.ids.clone());
        Management::with(self.0.project.clone(), client, gate.clone())
    }

    /// The Edge Function in front of all apps' data. [`install`](Self::install) deploys it.
    pub fn gateway(&self) -> FunctionBundle {
        gateway_function()
    }

    /// What [`install`](Self::install) would change; changes nothing. Needs a grant for all apps.
    pub async fn plan(&self, gate: &TenantGate, grant: &SystemGrant) -> Result<Changes> {
        self.installation(gate)?.plan(grant).await
    }

    /// Brings the project to where it should be, and says what it changed: the tenants' schema with its roles and keys, the
    /// memberships and, with an access token and a signing key, the published keys in the project, the schema in its REST API,
    /// Realtime with private channels alone, and the gateway with its settings. Safe to repeat; what was interrupted goes on.
    /// Needs a grant for all apps.
    ///
    /// What is compared: the schema's migrations by their digests, and its walls by what the database's catalogs say; keys of
    /// contexts by what the database checks with; signing keys by id, algorithm, state and, where the control API shows it,
    /// the public key; the gateway by a digest of its files and settings, which is the name of a secret beside them. Not what
    /// no API shows: passwords (to change them alone, [install the schema](Schema::install)), and files or settings of the
    /// gateway that somebody else put in place of ours.
    ///
    /// # Errors
    /// `Conflict` when the project has another signing key by the id of one of ours, or has revoked one of ours.
    pub async fn install(&self, gate: &TenantGate, grant: &SystemGrant) -> Result<Changes> {
        self.installation(gate)?.run(grant).await
    }

    fn installation(&self, gate: &TenantGate) -> Result<Installation<'_>> {
        let Settings { passwords, contexts, members, issuer, publishable, access, ids, .. } = &*self.0;
        let services = match issuer {
            Some(issuer) if access.is_some() => Some((self.management(gate)?, issuer)),
            _ => None,
        };
        let publishable = publishable.as_deref();
        Ok(Installation {
            schema: self.schema(gate),
            passwords,
            contexts,
            members: members.as_ref(),
            services,
            publishable,
            public_channels: self.0.public_channels,
            ids: &**ids,
        })
    }
}

/// Settings of a [`Supabase`].
#[must_use = "a builder does nothing before `build`"]
#[derive(Debug)]
pub struct SupabaseBuilder {
    project: String,
    database: Secret,
    pooler: Option<Secret>,
    records: Option<Secret>,
    certificates: Option<Vec<u8>>,
    passwords: Option<RolePasswords>,
    contexts: Option<ContextKeys>,
    signing: Option<SigningKey>,
    published: Vec<SigningKey>,
    issuer: Option<String>,
    members: Option<MembershipKeys>,
    trusted: Vec<TrustedIssuer>,
    pool: PoolOptions,
    limits: ExplorerLimits,
    token: Option<Secret>,
    publishable: Option<String>,
    public_channels: bool,
    api_base: String,
    transport: Option<Arc<dyn Transport>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl SupabaseBuilder {
    /// The passwords of the roles that tenants' connections log in as. Needed.
    pub fn passwords(mut self, passwords: RolePasswords) -> Self {
        self.passwords = Some(passwords);
        self
    }

    /// The keys that contexts are signed under. Needed.
    pub fn contexts(mut self, keys: ContextKeys) -> Self {
        self.contexts = Some(keys);
        self
    }

    /// The key that signs apps' tokens. To change it, see [`also_publish`](Self::also_publish).
    pub fn signing_key(mut self, key: SigningKey) -> Self {
        self.signing = Some(key);
        self
    }

    /// Publishes `key` too: what is signed with it is good, for the validator at once, and for the project and its gateway
    /// from the next [installation](Supabase::install) on. So that no token that lives is refused while keys change:
    ///
    /// 1. Publish the new key, in every process and in the project.
    /// 2. Sign with it, and publish the old one.
    /// 3. When the last token of the old one has expired, after [`TokenIssuer::MAX_TTL`], leave it out, install, and
    ///    [revoke](Management::set_signing_key) it in the project, which goes on taking what it signed otherwise.
    pub fn also_publish(mut self, key: SigningKey) -> Self {
        self.published.push(key);
        self
    }

    /// Who issues apps' tokens, as their claim `iss`; the project's URL and `/overskill` unless set.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// The keys that attest who belongs to which app. With them, tokens of the project's own users are good for their apps.
    pub fn membership_keys(mut self, keys: MembershipKeys) -> Self {
        self.members = Some(keys);
        self
    }

    /// Trusts one more issuer.
    pub fn trust(mut self, issuer: TrustedIssuer) -> Self {
        self.trusted.push(issuer);
        self
    }

    /// Where tenants' transactions go: the URL of the transaction pooler (port 6543), whatever its role. The database itself
    /// unless set.
    pub fn pooler(mut self, url: impl Into<Secret>) -> Self {
        self.pooler = Some(url.into());
        self
    }

    /// Where the platform's own stores are, as [`Schema::records`] wants it; the database with `sslmode=verify-full` unless
    /// set.
    pub fn records_url(mut self, url: impl Into<Secret>) -> Self {
        self.records = Some(url.into());
        self
    }

    /// Trusts these certificates alone, given as PEM, instead of the public roots: those that Supabase shows under "SSL
    /// Configuration".
    pub fn certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates = Some(pem.into());
        self
    }

    /// How tenants' connections are shared. Clock and ids are those of this handle, and the right stays `Data`.
    pub fn pool(mut self, options: PoolOptions) -> Self {
        self.pool = options;
        self
    }

    /// What one query of a developer may give.
    pub fn explorer_limits(mut self, limits: ExplorerLimits) -> Self {
        self.limits = limits;
        self
    }

    /// A personal access token for the control API: one with few scopes, please.
    pub fn access_token(mut self, token: impl Into<Secret>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The project's key for browsers, `sb_publishable_…`; the control API is asked for one unless set.
    pub fn publishable_key(mut self, key: impl Into<String>) -> Self {
        self.publishable = Some(key.into());
        self
    }

    /// Leaves Realtime's public channels as they are: [`install`](Supabase::install) closes them otherwise, for no policy is
    /// asked who joins one. Apps' channels are private ones, whatever is set here.
    pub fn public_channels(mut self) -> Self {
        self.public_channels = true;
        self
    }

    /// Where the control API is, for an emulator or a proxy.
    pub fn api_base(mut self, url: impl Into<String>) -> Self {
        self.api_base = url.into();
        self
    }

    /// What carries requests to the control API and for published keys; the network unless set.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Where time comes from; the machine's clocks unless set.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where randomness comes from; the system's unless set.
    pub fn ids(mut self, ids: impl Ids) -> Self {
        self.ids = Arc::new(ids);
        self
    }

    /// The handle. Connects to nothing.
    ///
    /// # Errors
    /// `Invalid` when something is malformed or missing; the error names the field.
    pub fn build(self) -> Result<Supabase> {
        let project = ProjectRef::parse(&self.project)?;
        let server = |field: &'static str, url: &Secret| {
            let server = Server::parse(url).and_then(|server| match &self.certificates {
                Some(pem) => server.trusting(pem),
                None => Ok(server),
            });
            server.map_err(|e| e.at(NAME, "connect").with("field", field))
        };
        let database = server("database", &self.database)?;
        let tenants = self.pooler.as_ref().map_or(Ok(database.clone()), |url| server("pooler", url))?;
        let passwords = self.passwords.ok_or_else(|| missing("passwords"))?;
        for (field, password) in [("passwords.app", &passwords.app), ("passwords.explorer", &passwords.explorer)] {
            if password.expose().is_empty() {
                return Err(at(Error::from(ParseError::secret(field, "must not be empty", password.expose()))));
            }
        }
        let contexts = self.contexts.ok_or_else(|| missing("contexts"))?;
        if self.publishable.as_ref().is_some_and(|key| !key.starts_with("sb_publishable_")) {
            // It would be every browser's.
            let message = "publishable_key must begin with sb_publishable_: no other key may be shown to browsers";
            return Err(at(Error::invalid(message)));
        }
        let transport: Arc<dyn Transport> = match self.transport {
            Some(transport) => transport,
            None => Arc::new(NetworkTransport::new()?),
        };
        let issuer = self.issuer.unwrap_or_else(|| format!("{}/overskill", project.url()));
        let keys = || self.signing.iter().chain(&self.published);
        if self.signing.is_none() && !self.published.is_empty() {
            return Err(missing("signing_key"));
        }
        if keys().map(SigningKey::kid).collect::<BTreeSet<_>>().len() < keys().count() {
            return Err(at(Error::invalid("signing keys must have an id each: two of them have the same")));
        }
        let issuer = self.signing.map(|key| {
            let issuer = TokenIssuer::new(issuer, key, contexts.clone()).ids(self.ids.clone());
            self.published.into_iter().fold(issuer, TokenIssuer::also_publish)
        });
        let members = self.members.is_some();
        let members = members.then(|| PostgresMemberships::new(database.clone()).clock(self.clock.clone()));

        let mut validator = SupabaseValidator::builder();
        if let Some(issuer) = &issuer {
            let keys = crate::TokenKeys::from_jwks(issuer.jwks().to_string().as_bytes())?;
            validator = validator.trust(TrustedIssuer::apps(issuer.issuer(), keys));
        }
        if let Some((keys, store)) = self.members.zip(members.clone()) {
            let client = Client::builder("supabase-auth", &project.url()).transport(transport.clone());
            let client = client.clock(self.clock.clone()).ids(self.ids.clone()).build()?;
            let keys_of_project = Jwks::new(client, Jwks::SUPABASE_PATH, self.clock.clone());
            let users = TrustedIssuer::users(format!("{}/auth/v1", project.url()), keys_of_project);
            validator = validator.trust(users).memberships(keys, store);
        }
        let validator = self.trusted.into_iter().fold(validator, crate::SupabaseValidatorBuilder::trust);
        let validator = validator.build().map_err(|e| {
            at(Error::invalid(format!("{}: give `signing_key`, `membership_keys` or `trust`", e.message())))
        })?;

        let access = match self.token {
            Some(token) => {
                let limiter = Limiter::new(NAME, Management::quota(), self.clock.clone())?;
                Some(Access { token, base: self.api_base, transport, limiter })
            }
            None => None,
        };
        let own = self.certificates.is_some() && !database.is_plain();
        let records = self.records.or_else(|| (!own).then(|| verified(&self.database, &database)));
        let supabase = Supabase(Arc::new(Settings {
            project,
            database,
            tenants,
            records,
            passwords,
            contexts,
            validator,
            issuer,
            members,
            pool: self.pool.right(Right::Data).clock(self.clock.clone()).ids(self.ids.clone()),
            limits: self.limits,
            access,
            publishable: self.publishable,
            public_channels: self.public_channels,
            clock: self.clock,
            ids: self.ids,
        }));
        if supabase.0.access.is_some() {
            // What is wrong with the token or the address shows now.
            let nobody: Arc<dyn AuditLog> = Arc::new(overskill_core::memory::MemoryAudit::new());
            supabase.management(&supabase.gate(nobody)).map_err(at)?;
        }
        Ok(supabase)
    }
}

fn at(e: Error) -> Error {
    e.at(NAME, "connect")
}

fn missing(field: &'static str) -> Error {
    at(Error::invalid(format!("{field} must be given: call `SupabaseBuilder::{field}`")))
}

/// The URL for a driver that checks certificates only when it is told to.
fn verified(url: &Secret, server: &Server) -> Secret {
    let text = url.expose();
    if server.is_plain() || text.contains("sslmode=verify-full") {
        return url.clone();
    }
    if text.contains("sslmode=") {
        return Secret::new(text.replace("sslmode=require", "sslmode=verify-full"));
    }
    let joint = if text.contains('?') { '&' } else { '?' };
    Secret::new(format!("{text}{joint}sslmode=verify-full"))
}

#[cfg(test)]
mod tests;
