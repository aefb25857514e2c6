//! Apps whose Durable Objects keep them in one place: an upload displaces whatever is there, so it is looked at before and
//! after.

use super::{
    WfpTarget,
    draft::Draft,
    metadata::{MigrationStep, Migrations},
    names, overtaken,
    site::{Site, Standing, Version},
};
use overskill_core::{DeployRequest, DeploymentId, Effect, Error, ErrorKind, Fence, Handle, Result, Scope};

impl WfpTarget {
    /// Uploads a version over what is there.
    pub(super) async fn activate_in_place(
        &self,
        request: &DeployRequest,
        draft: &Draft,
        fence: Fence,
    ) -> Result<Handle> {
        let (scope, id) = (request.scope(), request.id());
        let script = names::in_place(&scope.app);
        let mut site = self.glance(scope).await?;
        if holds(&site, id, fence) {
            // That it is live already is worth a look.
            site = self.look(scope).await?;
        }
        Self::fence_off(&site, id, fence)?;
        if let Some(there) = site.version(id) {
            there.label.admit(request)?;
        }
        if !holds(&site, id, fence) {
            // Tags go up with the code: by themselves they might name what somebody else uploaded meanwhile.
            self.upload(request, draft, &script, fence).await?;
            self.memory.drop_token(scope, id);
            self.check_in_place(scope, id, fence).await?;
        }
        Ok(self.handle(scope, &script))
    }

    /// Refuses to upload over what is newer, by what is there now.
    pub(super) async fn check_before_upload(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<()> {
        let (site, standing) = futures::try_join!(self.look(scope), self.standing(scope))?;
        // It will be another one in a moment.
        self.memory.forget(scope);
        match standing {
            // What came late may lie over it.
            Some(Standing { fence: routed, .. }) if routed > fence => Err(overtaken(routed, fence)),
            _ => Self::fence_off(&site, id, fence),
        }
    }

    /// Whether what was just uploaded is what is there. If not, it was for a moment.
    async fn check_in_place(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<()> {
        let unknown = |e: Error| e.effect_as(Effect::Unknown);
        let site = self.look(scope).await.map_err(unknown)?;
        Self::fence_off(&site, id, fence).map_err(unknown)?;
        if holds(&site, id, fence) {
            return Ok(());
        }
        let other = site.in_place().map_or_else(
            || "nothing".to_owned(),
            |Version { label, .. }| format!("deployment {} under fence {}", label.id, label.fence),
        );
        let message = format!(
            "script {} must hold what was just uploaded under fence {fence}, but holds {other}: activate it again",
            names::in_place(&scope.app)
        );
        Err(unknown(Error::new(ErrorKind::Unavailable, message)))
    }

    /// The classes that the script does not have yet.
    pub(super) async fn migrations(&self, scope: &Scope, script: &str, draft: &Draft) -> Result<Option<Migrations>> {
        if draft.classes.is_empty() {
            return Ok(None);
        }
        let (api, namespace) = (&self.settings.api, self.namespace(scope));
        let live = api.script(&scope.app, &namespace, script).await?;
        let old_tag = live.as_ref().and_then(|script| script.migration_tag.clone()).filter(|tag| !tag.is_empty());
        let known = match live {
            Some(_) => api.bindings(&scope.app, &namespace, script).await?,
            None => Vec::new(),
        };
        let has =
            |class: &str| known.iter().any(|b| b["type"] == "durable_object_namespace" && b["class_name"] == class);
        let new: Vec<String> = draft.classes.iter().map(|c| c.class.clone()).filter(|class| !has(class)).collect();
        if new.is_empty() {
            return Ok(None);
        }
        let number = old_tag.as_deref().and_then(|tag| tag.strip_prefix('v')?.parse().ok()).unwrap_or(0_u32);
        let steps = vec![MigrationStep { new_sqlite_classes: new }];
        Ok(Some(Migrations { old_tag, new_tag: format!("v{}", number + 1), steps }))
    }
}

/// Whether the script holds that deployment, uploaded under that fence.
fn holds(site: &Site, id: DeploymentId, fence: Fence) -> bool {
    site.in_place().is_some_and(|there| there.label.id == id && there.label.fence == fence)
}
