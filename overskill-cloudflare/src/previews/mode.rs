//! Where the files of previews are, and what serves them.

use super::{CloudflarePreviews, push::File, room::State};
use crate::{
    Cloudflare,
    api::{KvPair, Upload, code},
    target::metadata::{Binding, Metadata},
    workers,
};
use bytes::Bytes;
use overskill_core::{Digest, Environment, Result, Scope};
use overskill_http::FairKey;
use std::collections::BTreeMap;

/// Where the files of previews are, and what serves them; for [`CloudflarePreviews::mode`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum PreviewMode {
    /// In the app's room, which serves them. No app has a script, and nothing of the account's API is called: the one to
    /// take, unless there is a reason for the other.
    #[default]
    Shared,
    /// In Workers KV, `{prefix}-preview`, served by a script of the app's own in the dispatch namespace of the same name:
    /// `{app}-{environment}-preview`. It has the limits and the numbers of a Worker of its own, and its room keeps the
    /// positions and sockets alone.
    ///
    /// Opening a preview costs two calls of the account's quota and each edit one. Files are named by their contents, so KV
    /// never answers with an old one. What an edit replaces stays until the preview is closed: an edit that is undone names it
    /// again, and KV would go on for a minute to answer that what was removed is not there. The account's `install` has to be
    /// there. Server sides run as in the other mode.
    Script(Cloudflare),
}

impl PreviewMode {
    /// The script that serves a scope, if one does.
    pub(super) fn script(&self, scope: &Scope) -> Option<String> {
        matches!(self, Self::Script(_)).then(|| format!("{}-{}-preview", scope.app, scope.environment))
    }
}

/// What was brought to the account for a scope. Losing it costs calls, nothing else.
#[derive(Debug, Default)]
pub(super) struct Brought {
    script: bool,
    files: std::collections::HashSet<Digest>,
}

impl CloudflarePreviews {
    /// Says where files are, and what serves them; [`PreviewMode::Shared`] unless set.
    ///
    /// Before anything is opened, as with [`progress_to`](Self::progress_to).
    pub fn mode(self, mode: PreviewMode) -> Self {
        self.changed(|inner| inner.mode = mode)
    }

    /// Brings what the app's script needs to the account, before the room names it.
    pub(super) async fn bring(&self, scope: &Scope, state: &mut State, files: &BTreeMap<String, File>) -> Result<()> {
        let (PreviewMode::Script(cf), Some(script)) = (&self.0.mode, self.0.mode.script(scope)) else { return Ok(()) };
        let mut new: BTreeMap<Digest, Bytes> = BTreeMap::new();
        for file in files.values() {
            if let Some(contents) = file.in_kv.as_ref().filter(|_| !state.brought.files.contains(&file.digest)) {
                new.insert(file.digest, contents.clone());
            }
        }
        let pairs: Vec<KvPair> = new
            .iter()
            .map(|(digest, contents)| KvPair {
                key: key(scope, &digest.to_string()),
                value: contents.clone(),
                metadata: None,
            })
            .collect();
        let namespace = self.kv_namespace(cf).await?;
        let put = async {
            if pairs.is_empty() {
                return Ok(());
            }
            match cf.0.api.kv_put_all(&FairKey::from(&scope.app), &namespace, &pairs).await {
                Err(e) if code(&e) == Some(10_013) => {
                    // It was removed, and another is made: nothing of what was brought is there.
                    self.forget_kv();
                    Err(e.retry_as(overskill_core::Retry::Backoff))
                }
                put => put,
            }
        };
        let upload =
            async { if state.brought.script { Ok(()) } else { put_script(cf, scope, &script, &namespace).await } };
        if let Err(e) = futures::try_join!(put, upload) {
            state.brought = Brought::default();
            return Err(e);
        }
        state.brought.script = true;
        state.brought.files.extend(new.into_keys());
        Ok(())
    }

    /// Takes away what was brought for a scope.
    pub(super) async fn take_away(&self, scope: &Scope) -> Result<()> {
        let (PreviewMode::Script(cf), Some(script)) = (&self.0.mode, self.0.mode.script(scope)) else { return Ok(()) };
        let (api, app) = (&cf.0.api, FairKey::from(&scope.app));
        api.delete_script(&scope.app, &cf.0.of(Environment::Preview), &script).await?;
        let known = self.0.kv.lock().expect("nobody panics with this lock").clone();
        let namespace = match known {
            Some(id) => Some(id),
            None => api.kv_namespace(&cf.0.of(Environment::Preview)).await?,
        };
        let Some(namespace) = namespace else { return Ok(()) };
        let keys = api.kv_keys(&app, &namespace, &key(scope, "")).await?;
        api.kv_delete_all(&app, &namespace, &keys).await
    }

    /// The id of the KV namespace, asked once.
    async fn kv_namespace(&self, cf: &Cloudflare) -> Result<String> {
        let known = || self.0.kv.lock().expect("nobody panics with this lock");
        if let Some(id) = known().clone() {
            return Ok(id);
        }
        let id = cf.0.api.ensure_kv_namespace(&cf.0.of(Environment::Preview)).await?;
        *known() = Some(id.clone());
        Ok(id)
    }

    fn forget_kv(&self) {
        *self.0.kv.lock().expect("nobody panics with this lock") = None;
    }
}

async fn put_script(cf: &Cloudflare, scope: &Scope, script: &str, kv: &str) -> Result<()> {
    let (modules, compatibility_date) = workers::viewer();
    let bindings = vec![
        Binding::KvNamespace { name: "FILES".into(), namespace_id: kv.to_owned() },
        Binding::PlainText { name: "FOLDER".into(), text: key(scope, "") },
    ];
    let metadata = Metadata {
        main_module: "viewer.js".into(),
        compatibility_date: compatibility_date.into(),
        bindings,
        // Not the tag of deployed versions: it is none.
        tags: vec![format!("preview-of-{}", scope.app)],
        ..Metadata::default()
    };
    let (api, namespace) = (&cf.0.api, cf.0.of(Environment::Preview));
    let put = async || {
        let upload = Upload { metadata: &metadata, modules: &modules };
        api.put_script(&scope.app, &namespace, script, upload).await.map(drop)
    };
    match put().await {
        Err(e) if code(&e) == Some(100_119) => {
            api.create_namespace(&namespace).await?;
            put().await
        }
        done => done,
    }
}

/// Where a file of a scope is. Sources that a [`KvFiles`](crate::KvFiles) keeps there begin otherwise.
fn key(scope: &Scope, digest: &str) -> String {
    format!("preview_{}_{}_{digest}", scope.app, scope.environment)
}
