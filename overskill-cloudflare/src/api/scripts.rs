//! Dispatch namespaces and the scripts in them.

use super::{Api, Envelope, code, done, enveloped, is_missing, result};
use bytes::Bytes;
use overskill_core::{AppId, Error, ErrorKind, Result};
use overskill_http::{FairKey, Method, Multipart, Repeat};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// One module of a script.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    /// As others import it.
    pub(crate) name: String,
    /// What it is.
    pub(crate) content_type: &'static str,
    pub(crate) contents: Bytes,
}

/// A script to upload: metadata and modules, in one request.
#[derive(Clone, Debug)]
pub(crate) struct Upload<'a, M> {
    pub(crate) metadata: &'a M,
    pub(crate) modules: &'a [Module],
}

/// A script as listings and `GET` show it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ScriptSummary {
    /// Its name; older answers say `script_name`.
    #[serde(default, alias = "script_name")]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) tags: Option<Vec<String>>,
    /// The last migration of its Durable Objects.
    #[serde(default)]
    pub(crate) migration_tag: Option<String>,
}

#[derive(Debug, Deserialize)]
struct InNamespace {
    script: ScriptSummary,
}

/// A dispatch namespace.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Namespace {
    pub(crate) namespace_name: String,
    #[serde(default)]
    pub(crate) trusted_workers: bool,
}

/// Scripts in one page of a listing.
const PAGE: u32 = 1_000;
/// How long one upload may take.
const UPLOAD_TIMEOUT: Duration = Duration::from_mins(2);

impl Api {
    pub(crate) async fn namespaces(&self) -> Result<Vec<Namespace>> {
        result(self.dispatch(Method::Get, &[]).operation("list_namespaces")).await
    }

    /// Makes a namespace for code that nobody vouches for; fine if it is there.
    pub(crate) async fn create_namespace(&self, name: &str) -> Result<()> {
        let call = self.dispatch(Method::Post, &[]).operation("create_namespace").json(&json!({ "name": name }));
        match result::<Namespace>(call.idempotent()).await {
            Ok(made) if made.trusted_workers => Err(trusted(name)),
            Ok(_) => Ok(()),
            Err(e) if code(&e) == Some(100_120) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Removes a namespace with every script in it; whether it was there.
    pub(crate) async fn delete_namespace(&self, name: &str) -> Result<bool> {
        gone(done(self.dispatch(Method::Delete, &[name]).operation("delete_namespace")).await)
    }

    /// Every script of a namespace that has the tag; none in a namespace that is not there.
    pub(crate) async fn scripts_tagged(&self, app: &AppId, namespace: &str, tag: &str) -> Result<Vec<ScriptSummary>> {
        let (mut scripts, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut call = self.dispatch(Method::Get, &[namespace, "scripts"]).operation("list_scripts").for_app(app);
            call = call.query("tags", format_args!("{tag}:yes")).query("limit", PAGE);
            if let Some(cursor) = &cursor {
                call = call.query("cursor", cursor);
            }
            let page: Envelope<Vec<ScriptSummary>> = match enveloped(call).await {
                Err(e) if code(&e) == Some(100_119) => return Ok(scripts),
                page => page?,
            };
            let found = page.result.unwrap_or_default().into_iter();
            scripts.extend(found.filter(|s| s.tags.iter().flatten().any(|own| own == tag)));
            match page.result_info.unwrap_or_default().next() {
                Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => return Ok(scripts),
            }
        }
    }

    /// A script, or `None`.
    pub(crate) async fn script(&self, app: &AppId, namespace: &str, name: &str) -> Result<Option<ScriptSummary>> {
        let call = self.dispatch(Method::Get, &[namespace, "scripts", name]).operation("get_script").for_app(app);
        let found = found(result::<InNamespace>(call).await)?;
        Ok(found.map(|found| ScriptSummary { id: name.to_owned(), ..found.script }))
    }

    /// The bindings of a script, as the API tells them; none if it is not there.
    pub(crate) async fn bindings(&self, app: &AppId, namespace: &str, name: &str) -> Result<Vec<Value>> {
        let call = self.dispatch(Method::Get, &[namespace, "scripts", name, "bindings"]);
        let found = found(result(call.operation("get_bindings").for_app(app)).await)?;
        Ok(found.unwrap_or_default())
    }

    /// Puts a script into a namespace, whole, in place of what is there under that name.
    pub(crate) async fn put_script<M: Serialize>(
        &self,
        app: &AppId,
        namespace: &str,
        name: &str,
        upload: Upload<'_, M>,
    ) -> Result<ScriptSummary> {
        self.put_into(app, namespace, name, upload, Repeat::Idempotent).await
    }

    /// The same under a name that somebody else may upload to: what may have landed is not sent again.
    pub(crate) async fn put_script_once<M: Serialize>(
        &self,
        app: &AppId,
        namespace: &str,
        name: &str,
        upload: Upload<'_, M>,
    ) -> Result<ScriptSummary> {
        self.put_into(app, namespace, name, upload, Repeat::Once).await
    }

    async fn put_into<M: Serialize>(
        &self,
        app: &AppId,
        namespace: &str,
        name: &str,
        upload: Upload<'_, M>,
        repeat: Repeat,
    ) -> Result<ScriptSummary> {
        let form = self.form(&upload)?;
        let call = self.dispatch(Method::Put, &[namespace, "scripts", name]).repeat(repeat);
        let call = call.query("bindings_inherit", "strict").query("excludeScript", true);
        result(call.operation("put_script").for_app(app).try_timeout(UPLOAD_TIMEOUT).multipart(form)).await
    }

    /// Replaces the tags of a script.
    pub(crate) async fn put_tags(&self, app: &AppId, namespace: &str, name: &str, tags: &[String]) -> Result<()> {
        let call = self.dispatch(Method::Put, &[namespace, "scripts", name, "tags"]);
        done(call.operation("put_tags").for_app(app).json(&tags)).await
    }

    /// Changes settings of a script: one part, `settings`.
    pub(crate) async fn patch_settings<M: Serialize>(
        &self,
        app: &AppId,
        namespace: &str,
        name: &str,
        settings: &M,
    ) -> Result<()> {
        let form = Multipart::new(&*self.ids).text("settings", "application/json", to_json(settings)?)?;
        let call = self.dispatch(Method::Patch, &[namespace, "scripts", name, "settings"]).idempotent();
        done(call.operation("patch_settings").for_app(app).multipart(form)).await
    }

    /// Changes secrets of a script together; `null` removes one.
    pub(crate) async fn patch_secrets(&self, app: &AppId, namespace: &str, name: &str, secrets: &Value) -> Result<()> {
        let call = self.dispatch(Method::Patch, &[namespace, "scripts", name, "secrets-bulk"]).idempotent();
        let body = json!({ "secrets": secrets }).to_string();
        done(call.operation("patch_secrets").for_app(app).body("application/merge-patch+json", body)).await
    }

    /// Removes a script; whether it was there.
    pub(crate) async fn delete_script(&self, app: &AppId, namespace: &str, name: &str) -> Result<bool> {
        let call = self.dispatch(Method::Delete, &[namespace, "scripts", name]).query("force", true);
        gone(done(call.operation("delete_script").for_app(app)).await)
    }

    /// Removes every script of a namespace that has the tag.
    pub(crate) async fn delete_tagged(&self, app: &AppId, namespace: &str, tag: &str) -> Result<()> {
        let call = self.dispatch(Method::Delete, &[namespace, "scripts"]).query("tags", format_args!("{tag}:yes"));
        gone(done(call.operation("delete_tagged").for_app(app)).await).map(drop)
    }

    /// Puts a script into the account itself, where routes lead to it.
    pub(crate) async fn put_account_script<M: Serialize>(&self, name: &str, upload: Upload<'_, M>) -> Result<()> {
        let form = self.form(&upload)?;
        let call = self.account(Method::Put, &["workers", "scripts", name]).query("bindings_inherit", "strict");
        done(call.operation("put_account_script").try_timeout(UPLOAD_TIMEOUT).multipart(form)).await
    }

    fn form<M: Serialize>(&self, upload: &Upload<'_, M>) -> Result<Multipart> {
        let form = Multipart::new(&*self.ids).text("metadata", "application/json", to_json(upload.metadata)?)?;
        let add = |form: Multipart, m: &Module| form.file(&m.name, &m.name, m.content_type, &m.contents);
        upload.modules.iter().try_fold(form, add)
    }

    fn dispatch(&self, method: Method, below: &[&str]) -> overskill_http::Call {
        let mut path = vec!["workers", "dispatch", "namespaces"];
        path.extend_from_slice(below);
        self.account(method, &path).for_app(FairKey::default())
    }
}

/// The refusal of a namespace whose code would see more than a tenant's may.
pub(crate) fn trusted(name: &str) -> Error {
    let message = "dispatch namespace must be untrusted, but its scripts are trusted: tenants would share caches";
    Error::new(ErrorKind::Denied, message).with("namespace", name)
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::invalid("metadata cannot be JSON").caused_by(e))
}

/// Nothing, where what was asked for is not there.
fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(e) if is_missing(&e) => Ok(None),
        answer => answer.map(Some),
    }
}

fn gone(answer: Result<()>) -> Result<bool> {
    found(answer).map(|found| found.is_some())
}
