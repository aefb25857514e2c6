//! The platform's own Worker, and what it needs in the account.

mod account;
mod dns;
mod plan;
mod strangers;

pub use plan::{Action, Change, Plan};

use crate::{
    api::{Module, ScriptSummary, Upload},
    cloudflare::Settings,
    hostnames::{Hostnames, NOTED_IN},
    target::metadata::{Binding, Metadata, MigrationStep, Migrations, Outbound, OutboundParam, OutboundWorker},
    workers::{self, WorkerBundle},
};
use account::Found;
use overskill_core::{Digest, Environment, Error, Result, Secret};
use serde_json::{Map, Value};
use std::{fmt, sync::Arc};

/// How the platform's own Worker is to be; for [`Cloudflare::install`](crate::Cloudflare::install).
///
/// ```
/// use overskill_cloudflare::Install;
///
/// let ingest_keys = r#"{"2026-11":"6f1c…"}"#; // `IngestKey::to_binding` makes it
/// let install = Install::new(ingest_keys, "a key for sockets")
///     .setting("upstream", "https://api.example.com/apps")
///     .setting("default_plan", "free");
/// ```
///
/// A Worker of one of its names that no installation made, which a tag tells, and a route for a domain that leads elsewhere are
/// somebody else's: they are named as a `Conflict`, also by [`plan`](crate::Cloudflare::plan), and nothing is changed. Uninstalling
/// refuses such a Worker too, and leaves such a route. KV namespaces, dispatch namespaces and the bucket bear no tags: whatever
/// there is under their names is the platform's.
///
/// Uninstall with what was installed: DNS records and the bucket are not looked for where it does
/// [without](Self::without_dns) [them](Self::without_bucket).
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub struct Install {
    ingest_keys: Secret,
    socket_key: Secret,
    app_token_key: Option<Secret>,
    settings: Map<String, Value>,
    outbound: Sees,
    bucket: bool,
    dns: bool,
    customer_hostnames: bool,
    #[cfg(feature = "r2")]
    r2_keys: Option<crate::R2Keys>,
    worker_loader: bool,
}

impl Install {
    /// With the keys that requests of the platform are signed with (JSON, hex digits by key id), and the one that sockets'
    /// tokens are made of.
    pub fn new(ingest_keys: impl Into<Secret>, socket_key: impl Into<Secret>) -> Self {
        Self {
            ingest_keys: ingest_keys.into(),
            socket_key: socket_key.into(),
            app_token_key: None,
            settings: Map::new(),
            outbound: Sees::Ours,
            bucket: true,
            dns: true,
            customer_hostnames: false,
            #[cfg(feature = "r2")]
            r2_keys: None,
            worker_loader: false,
        }
    }

    /// With these keys [`uninstall`](crate::Cloudflare::uninstall) can empty the R2 bucket; a bucket that holds files cannot
    /// be removed without.
    #[cfg(feature = "r2")]
    pub fn r2_keys(mut self, keys: crate::R2Keys) -> Self {
        self.r2_keys = Some(keys);
        self
    }

    #[cfg_attr(
        not(feature = "r2"),
        expect(clippy::unused_async, unused_variables, reason = "there is nothing to do it with")
    )]
    async fn empty_bucket(&self, settings: &Settings, full: Error) -> Result<()> {
        #[cfg(feature = "r2")]
        if let Some(keys) = &self.r2_keys {
            return crate::files::empty_bucket(settings, keys).await;
        }
        let message = "the R2 bucket still holds files: give `Install::r2_keys`, or empty it by hand";
        Err(Error::conflict(message).caused_by(full))
    }

    /// The key that apps' tokens are signed with (JSON: `kid` and `pkcs8`); without it `/api/*` leads nowhere.
    pub fn app_token_key(mut self, key: impl Into<Secret>) -> Self {
        self.app_token_key = Some(key.into());
        self
    }

    /// A setting of the Worker, such as `upstream`, `plans` or `frame_ancestors`. `domains`, `targets` and `outbound` are made
    /// of what else is told: an installation refuses those.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    /// A Worker of the account's that sees what apps' code fetches, in the place of the platform's own; it is told the scope
    /// and the plan.
    ///
    /// Unless it is set, that is `{prefix}-outbound`: it lets code call public names, and neither addresses nor names of a
    /// network of its own nor the platform itself (`docs/protocols/egress.md`; the settings `egress` and `plans`).
    pub fn outbound(mut self, script: impl Into<String>) -> Self {
        self.outbound = Sees::Theirs(script.into());
        self
    }

    /// Lets apps' code fetch whatever it likes.
    pub fn without_outbound(mut self) -> Self {
        self.outbound = Sees::Nobody;
        self
    }

    /// Leaves the DNS records of the domains to somebody else. Unless it is called, each domain and `*.{domain}` get one that
    /// leads to the Worker, where they have none yet; the token then needs *DNS: Edit* of the zone.
    pub fn without_dns(mut self) -> Self {
        self.dns = false;
        self
    }

    /// Has customers' own domains ([`Hostnames`](crate::Hostnames)) served. That takes a route for everything in the zone,
    /// `*/*`, and a fallback origin, `{prefix}-customers.{first domain}`: a record that leads nowhere, without which
    /// Cloudflare takes no customer's domain in. [`without_dns`](Self::without_dns) leaves that record to somebody else too.
    ///
    /// Requests for **every** name of the zone come to the Worker then, but for those with a route of their own: a name that
    /// is to stay outside needs one, to another Worker or to none. A zone has one such route and one fallback origin: where
    /// they are somebody else's, that is an error, and they stay as they are.
    pub fn customer_hostnames(mut self) -> Self {
        self.customer_hostnames = true;
        self
    }

    /// Leaves the R2 bucket out, for accounts without R2.
    pub fn without_bucket(mut self) -> Self {
        self.bucket = false;
        self
    }

    /// Lets the Worker load apps' server sides itself, for previews of apps that have one.
    pub fn worker_loader(mut self) -> Self {
        self.worker_loader = true;
        self
    }
}

/// Who sees what apps' code fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sees {
    Ours,
    Theirs(String),
    Nobody,
}

impl fmt::Debug for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Install")
            .field("settings", &self.settings.keys().collect::<Vec<_>>())
            .field("outbound", &self.outbound)
            .field("dns", &self.dns)
            .field("customer_hostnames", &self.customer_hostnames)
            .field("bucket", &self.bucket)
            .field("worker_loader", &self.worker_loader)
            .finish_non_exhaustive()
    }
}

pub(super) const NAMESPACE: &str = "dispatch namespace";
pub(super) const KV: &str = "KV namespace";
pub(super) const BUCKET: &str = "R2 bucket";
pub(super) const WORKER: &str = "Worker";
pub(super) const DNS: &str = "DNS record";
pub(super) const ROUTE: &str = "route";
pub(super) const FALLBACK: &str = "fallback origin";
pub(super) const HOSTNAME: &str = "custom hostname";

/// The route that customers' hostnames take.
const EVERYTHING: &str = "*/*";

/// What stands in a tag before the digest of what was installed; it tells our Workers from others too.
const INSTALLED: &str = "overskill-install-";

/// The names of everything that an installation is.
#[derive(Debug)]
struct Names {
    worker: String,
    outbound: String,
    bucket: String,
    /// Names that lead to the Worker.
    hosts: Vec<String>,
    routes: Vec<String>,
    /// Where customers' hostnames lead to, if they are served.
    fallback: Option<String>,
}

impl Names {
    fn of(settings: &Settings, install: &Install) -> Self {
        let hosts = settings.domains.iter().flat_map(|domain| [format!("*.{domain}"), domain.clone()]);
        let mut hosts: Vec<String> = hosts.collect();
        let mut routes: Vec<String> = hosts.iter().map(|host| format!("{host}/*")).collect();
        let fallback = settings.domains.first().filter(|_| install.customer_hostnames);
        let fallback = fallback.map(|domain| format!("{}{domain}", fallback_of(settings)));
        if let Some(fallback) = &fallback {
            hosts.push(fallback.clone());
            routes.push(EVERYTHING.to_owned());
        }
        Self {
            worker: format!("{}-dispatch", settings.prefix),
            outbound: format!("{}-outbound", settings.prefix),
            bucket: format!("{}-files", settings.prefix),
            routes,
            hosts,
            fallback,
        }
    }

    /// The Worker that sees what apps fetch.
    fn sees(&self, install: &Install) -> Option<String> {
        match &install.outbound {
            Sees::Ours => Some(self.outbound.clone()),
            Sees::Theirs(script) => Some(script.clone()),
            Sees::Nobody => None,
        }
    }
}

pub(crate) async fn plan(settings: &Settings, install: &Install) -> Result<Plan> {
    let looked = look(settings, install).await;
    looked.map(|(plan, _)| plan).map_err(|e| settings.at(e, "plan"))
}

pub(crate) async fn install(settings: &Arc<Settings>, install: &Install) -> Result<Plan> {
    let done = carry_out(settings, install).await;
    done.map_err(|e| settings.at(e, "install"))
}

pub(crate) async fn uninstall(settings: &Arc<Settings>, install: &Install) -> Result<Plan> {
    let done = take_away(settings, install).await;
    done.map_err(|e| settings.at(e, "uninstall"))
}

/// What our fallback origins begin with, in whichever domain.
fn fallback_of(settings: &Settings) -> String {
    format!("{}-customers.", settings.prefix)
}

/// What is there, and what is missing.
async fn look(settings: &Settings, install: &Install) -> Result<(Plan, Found)> {
    check(settings)?;
    check_settings(install)?;
    let (names, bundle) = (Names::of(settings, install), workers::dispatch());
    let found = Found::look(settings, &names, install).await?;
    strangers::refuse(settings, install, &names, &found)?;
    let mut plan = Plan::default();
    for environment in Environment::ALL {
        let name = settings.of(environment);
        if !found.namespaces.contains(&name) {
            plan.add(Action::Create, NAMESPACE, name);
        }
    }
    for environment in Environment::ALL {
        if !found.kv.contains_key(&environment) {
            plan.add(Action::Create, KV, settings.of(environment));
        }
    }
    if install.bucket && !found.has_bucket {
        plan.add(Action::Create, BUCKET, names.bucket.clone());
    }
    let mut worker = |name: &str, found: Option<&ScriptSummary>, wanted: Option<Metadata>| match found {
        None => plan.add(Action::Create, WORKER, name),
        Some(found) => {
            let is_current =
                wanted.is_some_and(|metadata| found.tags.iter().flatten().any(|tag| metadata.tags.contains(tag)));
            if !is_current {
                plan.add(Action::Update, WORKER, name);
            }
        }
    };
    if install.outbound == Sees::Ours {
        worker(&names.outbound, found.outbound.as_ref(), Some(outbound_metadata(settings, install)?.0));
    }
    worker(&names.worker, found.worker.as_ref(), metadata(settings, install, &names, &bundle, &found));
    for host in names.hosts.iter().filter(|_| install.dns) {
        let mut records = found.records.iter().filter(|record| record.name == *host);
        match records.next() {
            None => plan.add(Action::Create, DNS, host.clone()),
            Some(ours) if ours.is_ours(settings) && !ours.leads_to_the_edge() => {
                plan.add(Action::Update, DNS, host.clone());
            }
            Some(_) => {}
        }
    }
    for pattern in &names.routes {
        if !found.routes.iter().any(|route| route.pattern == *pattern) {
            plan.add(Action::Create, ROUTE, pattern.clone());
        }
    }
    // After the route, by which whoever uninstalls knows that there may be one.
    if let Some(fallback) = names.fallback.as_ref().filter(|fallback| found.fallback.as_ref() != Some(fallback)) {
        let action = if found.fallback.is_some() { Action::Update } else { Action::Create };
        plan.add(action, FALLBACK, fallback.clone());
    }
    Ok((plan, found))
}

fn check(settings: &Settings) -> Result<()> {
    if settings.domains.is_empty() {
        return Err(Error::invalid("domains must name at least one: give them with `CloudflareBuilder::domains`"));
    }
    if settings.zone.is_none() {
        return Err(Error::invalid("zone must be named for the routes: give it with `CloudflareBuilder::zone`"));
    }
    Ok(())
}

/// Refuses settings that would take the place of what the installation says itself.
fn check_settings(install: &Install) -> Result<()> {
    for (name, instead) in [
        ("domains", "give them with `CloudflareBuilder::domains`"),
        ("targets", "the account's name is it, from `CloudflareBuilder::name`"),
        ("outbound", "say it with `Install::outbound` or `Install::without_outbound`"),
    ] {
        if install.settings.contains_key(name) {
            return Err(Error::invalid(format!("setting `{name}` must not be given by itself: {instead}")));
        }
    }
    Ok(())
}

async fn carry_out(settings: &Arc<Settings>, install: &Install) -> Result<Plan> {
    let (plan, mut found) = look(settings, install).await?;
    let (names, bundle, api) = (Names::of(settings, install), workers::dispatch(), &settings.api);
    for change in plan.changes() {
        tracing::info!(%change, "installing");
        match (change.what, change.action) {
            (NAMESPACE, _) => api.create_namespace(&change.name).await?,
            (KV, _) => {
                let id = api.ensure_kv_namespace(&change.name).await?;
                let environment = Environment::ALL.into_iter().find(|e| settings.of(*e) == change.name);
                found.kv.extend(environment.map(|environment| (environment, id)));
            }
            (BUCKET, _) => account::create_bucket(api, &change.name).await?,
            (WORKER, _) if change.name == names.outbound => {
                let (metadata, modules) = outbound_metadata(settings, install)?;
                let upload = Upload { metadata: &metadata, modules: &modules };
                api.put_account_script(&change.name, upload).await?;
            }
            (WORKER, _) => {
                let mut metadata = metadata(settings, install, &names, &bundle, &found)
                    .ok_or_else(|| Error::invalid("every KV namespace must be there before the Worker"))?;
                let known = found.worker.as_ref().and_then(|worker| worker.migration_tag.as_deref());
                metadata.migrations = migrations(&bundle, known);
                let modules: Vec<Module> = bundle.modules.iter().copied().map(workers::module).collect();
                api.put_account_script(&change.name, Upload { metadata: &metadata, modules: &modules }).await?;
            }
            (DNS, _) => {
                let known = found.records.iter().find(|record| record.name == change.name);
                dns::put(settings, known.map(|record| record.id.as_str()), &change.name).await?;
            }
            (FALLBACK, _) => account::put_fallback(settings, &change.name).await?,
            (ROUTE, _) => account::create_route(settings, &change.name, &names.worker).await?,
            _ => {}
        }
    }
    Ok(plan)
}

async fn take_away(settings: &Arc<Settings>, install: &Install) -> Result<Plan> {
    check(settings)?;
    let (names, api) = (Names::of(settings, install), &settings.api);
    let found = Found::look(settings, &names, install).await?;
    strangers::refuse_workers(install, &found)?;
    let mut plan = Plan::default();
    // Nobody is sent there any more; then what they were sent to, and what that kept.
    if let Some(namespace) = found.kv.get(&NOTED_IN) {
        for name in Hostnames::new(settings)?.remove_noted(namespace).await? {
            plan.add(Action::Remove, HOSTNAME, name);
        }
    }
    // Before the route, by which it is known that there may be one.
    if let Some(origin) = found.fallback.filter(|origin| origin.starts_with(&fallback_of(settings))) {
        account::delete_fallback(settings).await?;
        plan.add(Action::Remove, FALLBACK, origin);
    }
    for route in found.routes.iter().filter(|route| route.leads_to(&names.worker)) {
        account::delete_route(settings, &route.id).await?;
        plan.add(Action::Remove, ROUTE, route.pattern.clone());
    }
    let records = if install.dns { dns::ours(settings).await? } else { Vec::new() };
    for record in &records {
        dns::delete(settings, &record.id).await?;
        plan.add(Action::Remove, DNS, record.name.clone());
    }
    for worker in found.worker.iter().chain(&found.outbound).filter(|worker| strangers::is_ours(worker)) {
        account::delete_worker(api, &worker.id).await?;
        plan.add(Action::Remove, WORKER, worker.id.clone());
    }
    for environment in Environment::ALL {
        let name = settings.of(environment);
        if found.namespaces.contains(&name) && api.delete_namespace(&name).await? {
            plan.add(Action::Remove, NAMESPACE, name);
        }
    }
    for (environment, id) in &found.kv {
        api.delete_kv_namespace(id).await?;
        plan.add(Action::Remove, KV, settings.of(*environment));
    }
    if found.has_bucket {
        account::delete_bucket(settings, install, &names.bucket).await?;
        plan.add(Action::Remove, BUCKET, names.bucket);
    }
    Ok(plan)
}

/// The metadata of the Worker's upload, tagged with a digest of all of it; `None` while something that it is bound to is
/// not there yet.
fn metadata(
    settings: &Settings,
    install: &Install,
    names: &Names,
    bundle: &WorkerBundle,
    found: &Found,
) -> Option<Metadata> {
    let domains: Vec<&str> = settings.domains.iter().map(String::as_str).collect();
    let mut json = workers::settings(&domains, &[settings.name.as_str()]);
    let told = json.as_object_mut().expect("it is an object");
    told.extend(install.settings.clone());
    let sees = names.sees(install);
    if sees.is_some() {
        told.insert("outbound".into(), true.into());
    }
    let mut bindings = vec![
        Binding::Json { name: workers::SETTINGS.to_owned(), json },
        Binding::SecretText { name: workers::INGEST_KEYS.to_owned(), text: install.ingest_keys.clone() },
        Binding::SecretText { name: workers::SOCKET_KEY.to_owned(), text: install.socket_key.clone() },
    ];
    if let Some(key) = &install.app_token_key {
        bindings.push(Binding::SecretText { name: workers::APP_TOKEN_KEY.to_owned(), text: key.clone() });
    }
    for (name, environment) in workers::NAMESPACES {
        let outbound = sees.clone().map(|service| Outbound {
            worker: OutboundWorker { service },
            params: ["scope", "plan"].map(|name| OutboundParam { name: name.to_owned() }).into(),
        });
        let namespace = settings.of(environment);
        bindings.push(Binding::DispatchNamespace { name: name.to_owned(), namespace, outbound });
        let namespace_id = found.kv.get(&environment)?.clone();
        bindings.push(Binding::KvNamespace { name: format!("FILES_{name}"), namespace_id });
    }
    if install.bucket {
        bindings.push(Binding::R2Bucket { name: "LARGE_FILES".into(), bucket_name: names.bucket.clone() });
    }
    if install.worker_loader {
        bindings.push(Binding::WorkerLoader { name: "LOADER".into() });
    }
    for (name, class) in &bundle.durable_objects {
        let (name, class_name) = ((*name).to_owned(), (*class).to_owned());
        bindings.push(Binding::DurableObjectNamespace { name, class_name });
    }
    let mut metadata = Metadata {
        main_module: bundle.main_module.to_owned(),
        compatibility_date: bundle.compatibility_date.to_owned(),
        compatibility_flags: bundle.compatibility_flags.iter().map(|flag| (*flag).to_owned()).collect(),
        bindings,
        ..Metadata::default()
    };
    // Secrets are part of what is compared, and cannot be read out of it: they are long and random.
    metadata.tags = vec![installed(&metadata, [bundle.version.as_bytes()])?];
    Some(metadata)
}

/// The same for the Worker that sees what apps fetch.
fn outbound_metadata(settings: &Settings, install: &Install) -> Result<(Metadata, Vec<Module>)> {
    let (modules, compatibility_date) = workers::outbound();
    let mut json = serde_json::json!({ "domains": settings.domains });
    let told = json.as_object_mut().expect("it is an object");
    for name in ["upstream", "egress", "plans"] {
        told.extend(install.settings.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    let mut metadata = Metadata {
        main_module: "outbound.js".to_owned(),
        compatibility_date: compatibility_date.to_owned(),
        bindings: vec![Binding::Json { name: workers::SETTINGS.to_owned(), json }],
        ..Metadata::default()
    };
    let texts = modules.iter().map(|module| &module.contents[..]);
    let tag = installed(&metadata, texts);
    metadata.tags = vec![tag.ok_or_else(|| Error::invalid("settings must be JSON"))?];
    Ok((metadata, modules))
}

/// The tag of what is installed: another one says that something of it differs.
fn installed<'a>(metadata: &Metadata, parts: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let all = serde_json::to_vec(metadata).ok()?;
    let parts: Vec<&[u8]> =
        [all.as_slice()].into_iter().chain(parts.into_iter().map(|part| -> &[u8] { part })).collect();
    let digest = Digest::of_parts(parts).to_string();
    Some(format!("{INSTALLED}{}", &digest[..32]))
}

/// The steps that are not known there yet.
fn migrations(bundle: &WorkerBundle, known: Option<&str>) -> Option<Migrations> {
    let done = known.and_then(|tag| bundle.migrations.iter().position(|step| step.tag == tag));
    let left = &bundle.migrations[done.map_or(0, |done| done + 1)..];
    let new_tag = left.last()?.tag.to_owned();
    let classes = |step: &workers::Migration| step.new_sqlite_classes.iter().map(|class| (*class).to_owned()).collect();
    let steps = left.iter().map(|step| MigrationStep { new_sqlite_classes: classes(step) }).collect();
    Some(Migrations { old_tag: known.map(str::to_owned), new_tag, steps })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cloudflare;

    fn settings() -> Arc<Settings> {
        let builder = Cloudflare::connect("0123456789abcdef", "token").zone("z1").domains(["apps.example.com"]);
        builder.build().unwrap().0
    }

    fn found() -> Found {
        let mut found = Found::default();
        found.kv.extend(Environment::ALL.map(|e| (e, format!("id-{e}"))));
        found
    }

    fn tag(install: &Install) -> String {
        let settings = settings();
        let made =
            metadata(&settings, install, &Names::of(&settings, install), &workers::dispatch(), &found()).unwrap();
        made.tags.into_iter().next().unwrap()
    }

    #[test]
    fn every_key_and_setting_counts_in_the_tag() {
        let install = Install::new("one", "two");
        let same = tag(&install);
        assert_eq!(same, tag(&Install::new("one", "two")));
        for other in [
            Install::new("other", "two"),
            Install::new("one", "other"),
            install.clone().app_token_key("three"),
            install.clone().setting("upstream", "https://api.example.com"),
            install.clone().outbound("watch"),
            install.clone().without_outbound(),
            install.clone().without_bucket(),
            install.clone().worker_loader(),
        ] {
            assert_ne!(tag(&other), same, "{other:?}");
        }
        assert!(!format!("{:?}", Install::new("hunter2", "hunter3")).contains("hunter"));
    }

    #[test]
    fn bindings_wait_for_their_namespaces() {
        let (settings, install) = (settings(), Install::new("one", "two"));
        let names = Names::of(&settings, &install);
        assert!(metadata(&settings, &install, &names, &workers::dispatch(), &Found::default()).is_none());
    }

    #[test]
    fn only_new_migrations_are_sent() {
        let mut bundle = workers::dispatch();
        bundle.migrations.truncate(1);
        let first = bundle.migrations[0].tag;
        bundle.migrations.push(workers::Migration { tag: "next", new_sqlite_classes: &["More"] });
        let all = migrations(&bundle, None).unwrap();
        assert_eq!((all.old_tag, all.new_tag.as_str(), all.steps.len()), (None, "next", 2));
        let rest = migrations(&bundle, Some(first)).unwrap();
        assert_eq!((rest.old_tag.as_deref(), rest.new_tag.as_str(), rest.steps.len()), (Some(first), "next", 1));
        assert_eq!(migrations(&bundle, Some("next")), None);
    }
}
