//! Workers for Platforms: apps as user Workers in dispatch namespaces.

mod draft;
mod in_place;
pub(crate) mod metadata;
mod names;
mod rotate;
mod routed;
mod site;

pub(crate) use draft::DurableClass;
pub(crate) use names::check_own_tags;

use crate::{
    api::{AssetToken, ScriptSummary, Upload, code},
    cloudflare::Settings,
    edge::Edge,
};
use async_trait::async_trait;
use draft::Draft;
use names::{Label, about};
use overskill_core::{
    AppId, DeployRequest, DeploymentId, DeploymentTarget, Error, ErrorKind, Fence, Fencing, Handle, Observed,
    PlatformFacts, Readiness, Removal, Result, RouteTable, Scope, Staged, TargetInfo, TargetStatus, urgently,
};
use site::{Memory, Site};
use std::{num::NonZeroU32, sync::Arc};

/// Runs apps as user Workers of Workers for Platforms. Made by [`Cloudflare::target`](crate::Cloudflare::target); clones
/// share what they remember.
///
/// # What is where
///
/// The dispatch namespace of an environment, `{prefix}-{environment}`, is made when it is first needed, untrusted. In it,
/// a version is a script of its own, `{app}-{fence}`, and its tags name deployment, artifact, variables and fence. So no
/// version ever takes the place of another: whoever comes late with an old fence displaces nothing, and going back uploads
/// nothing. What has the traffic is what the platform's route names; a target that does not [know the routes](Self::at)
/// calls the version with the greatest fence active.
///
/// An app with Durable Objects (the artifact's setting `durable_objects`, such as `ROOMS=Room`) stays in one place, the
/// script `{app}`: its objects belong to the script. There a late upload does displace, so it is read right before each
/// upload, which is refused where something newer is, and after it, which tells whether somebody else's came over it; fences
/// are [`Observed`](Fencing::Observed). Nothing of it runs before it has the traffic: a gate before
/// activation has no address to look at, and the gate after it is all there is. What the objects keep goes with the script,
/// so that only [`Removal::All`] removes it: whoever removes a version that it holds, as sweeps do, is answered
/// `Unsupported`, and it stays.
///
/// The builders of overskill-build never set `durable_objects`, and refuse it in an app's package.json: on Cloudflare what an
/// object fetches does not pass the outbound Worker (`docs/protocols/egress.md`), so it is for the host to say which app
/// may have some. Its own [`Builder`](overskill_core::Builder) around one of ours adds the setting, and the server module has
/// to export the classes; previews bind none.
///
/// # What is called
///
/// [`stage`](DeploymentTarget::stage) brings new assets there, and uploads code, assets, variables and secrets in one atomic
/// request. A deploy is one call to look, one for a session of assets, one for each bucket of new assets, and one upload;
/// the first two go side by side, and the look is saved when somebody [observed](DeploymentTarget::observe) a moment ago.
/// [`activate`](DeploymentTarget::activate) then has nothing to call: the route is what the platform sets. For an app that
/// stays in one place, and where the routes are not known, the upload is the activation, and staging only checks it; an app
/// with Durable Objects is looked at once more before and after, and asked for what it binds: eight calls in all.
///
/// Assets have names that depend on the app, so that no app can name another's.
///
/// # Errors
///
/// `LimitExceeded` and `Invalid` name field and limit before any call: 25 MiB an asset, 128 variables of 5 KiB, eight tags.
#[derive(Clone, Debug)]
pub struct WfpTarget {
    settings: Arc<Settings>,
    memory: Memory,
    /// Where versions have addresses.
    edge: Option<Edge>,
    routes: Option<Arc<dyn RouteTable>>,
}

impl WfpTarget {
    /// Most assets of an app.
    pub const MAX_FILES: u32 = 100_000;
    /// How many deploys the quota allows in an hour. Of 1,200 calls in 5 minutes 120 may burst, and what may burst does not
    /// flow: (1,200 − 120 + 1) × 12 = 12,972 calls. A version takes six: look, session, one bucket of assets, upload; and for
    /// the oldest one, which retires in its stead, a look and its removal. Nothing but apps with Durable Objects would be 1,441
    /// an hour, for each takes nine: the limiter keeps the quota all the same, and they wait for it.
    const DEPLOYS_PER_HOUR: NonZeroU32 = NonZeroU32::new((1_200 - 120 + 1) * 12 / 6).expect("not zero");

    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, memory: Memory::default(), edge: None, routes: None }
    }

    fn namespace(&self, scope: &Scope) -> String {
        self.settings.of(scope.environment)
    }

    fn handle(&self, scope: &Scope, script: &str) -> Handle {
        let handle = Handle::new(script);
        match self.url(scope) {
            Some(url) => handle.served_at(url),
            None => handle,
        }
    }

    /// What the account has of a scope, asked anew.
    async fn look(&self, scope: &Scope) -> Result<Site> {
        let (api, namespace) = (&self.settings.api, self.namespace(scope));
        let scripts = api.scripts_tagged(&scope.app, &namespace, &names::app_tag(&scope.app)).await?;
        let site = Site::of(scripts);
        self.memory.saw(scope, site.clone(), api.clock.monotonic());
        Ok(site)
    }

    /// The same, or what was seen a moment ago.
    async fn glance(&self, scope: &Scope) -> Result<Site> {
        match self.memory.seen(scope, self.settings.api.clock.monotonic()) {
            Some(site) => Ok(site),
            None => self.look(scope).await,
        }
    }

    /// Brings the assets there, in a namespace that is made if need be.
    async fn bring_assets(&self, scope: &Scope, script: &str, draft: &Draft) -> Result<Option<AssetToken>> {
        if draft.assets.is_empty() {
            return Ok(None);
        }
        let (api, namespace) = (&self.settings.api, self.namespace(scope));
        match api.upload_assets(&scope.app, &namespace, script, &draft.assets).await {
            Err(e) if code(&e) == Some(100_119) => {
                api.create_namespace(&namespace).await?;
                api.upload_assets(&scope.app, &namespace, script, &draft.assets).await.map(Some)
            }
            token => token.map(Some),
        }
    }

    /// Uploads a version under a name. What went missing meanwhile, namespace or session, is made anew once.
    async fn upload(&self, request: &DeployRequest, draft: &Draft, script: &str, fence: Fence) -> Result<()> {
        let (api, scope) = (&self.settings.api, request.scope());
        let namespace = self.namespace(scope);
        let kept = self.memory.token(scope, request.id(), script, api.clock.monotonic());
        let fresh = kept.is_none();
        let token = match kept {
            Some(token) => Some(token),
            None => self.bring_assets(scope, script, draft).await?,
        };
        let mut migrations = self.migrations(scope, script, draft).await?;
        let mut metadata = draft.metadata(request, &self.settings, fence, token, migrations.take());
        let put = async |metadata: &metadata::Metadata| {
            let upload = Upload { metadata, modules: &draft.modules };
            if draft.classes.is_empty() {
                return api.put_script(&scope.app, &namespace, script, upload).await;
            }
            self.check_before_upload(scope, request.id(), fence).await?;
            api.put_script_once(&scope.app, &namespace, script, upload).await
        };
        let Err(refused) = put(&metadata).await else { return Ok(()) };
        let is_gone = code(&refused) == Some(100_119);
        // A session that ended or was forgotten is refused in words that no page documents.
        let is_stale = !fresh
            && !draft.assets.is_empty()
            && refused.effect() == overskill_core::Effect::None
            && matches!(refused.kind(), ErrorKind::Invalid | ErrorKind::Unauthenticated | ErrorKind::NotFound);
        if code(&refused) == Some(10_074) {
            // An earlier try of ours made the class.
            metadata.migrations = self.migrations(scope, script, draft).await?;
        } else if is_gone || is_stale {
            if is_gone {
                api.create_namespace(&namespace).await?;
            }
            tracing::debug!(%scope, error = %refused, "the assets are brought there once more");
            let token = self.bring_assets(scope, script, draft).await?;
            metadata = draft.metadata(request, &self.settings, fence, token, metadata.migrations);
        } else {
            return Err(refused);
        }
        put(&metadata).await.map(drop)
    }

    /// Refuses who was overtaken, as far as can be seen.
    fn fence_off(site: &Site, id: DeploymentId, fence: Fence) -> Result<()> {
        match site.newest() {
            Some(live) if live.label.fence > fence || (live.label.fence == fence && live.label.id != id) => {
                Err(overtaken(live.label.fence, fence))
            }
            _ => Ok(()),
        }
    }

    async fn stage_now(&self, request: &DeployRequest) -> Result<Staged> {
        let draft = Draft::of(request, &self.settings)?;
        let (scope, id) = (request.scope(), request.id());
        let separate = self.stages(&draft);
        let script =
            if separate { routed::staged_name(request) } else { script_name(&scope.app, &draft, request.fence()) };
        let clock = &self.settings.api.clock;
        let known = self.memory.token(scope, id, &script, clock.monotonic()).is_some();
        let check = async {
            let site = self.glance(scope).await?;
            let there = site.version(id).cloned();
            if let Some(there) = &there {
                there.label.admit(request)?;
            }
            Ok(there)
        };
        // An id that was seen a moment ago needs no assets; whoever was not looked for is looked for meanwhile.
        let seen = self.memory.seen(scope, clock.monotonic());
        let there = if known || seen.is_some_and(|site| site.version(id).is_some()) {
            check.await?
        } else {
            let (there, token) = futures::try_join!(check, self.bring_assets(scope, &script, &draft))?;
            if let Some(token) = token {
                self.memory.keep(scope, id, &script, token, clock.monotonic());
            }
            there
        };
        if let Some(there) = there {
            return Ok(self.staged(scope, id, &there.script));
        }
        if separate {
            let seen = self.memory.seen(scope, clock.monotonic());
            self.memory.forget(scope);
            self.upload(request, &draft, &script, request.fence()).await?;
            self.memory.drop_token(scope, id);
            if let Some(site) = seen {
                let site = site.with(&script, Label::of(request, request.fence()));
                self.memory.saw(scope, site, clock.monotonic());
            }
        }
        Ok(self.staged(scope, id, &script))
    }

    /// Whether staging uploads: where the routes say what is live, and nothing stays in one place.
    fn stages(&self, draft: &Draft) -> bool {
        self.routes.is_some() && draft.classes.is_empty()
    }

    /// Activates what was staged: it is there, and so the route can name it.
    async fn ready(&self, request: &DeployRequest, fence: Fence) -> Result<Handle> {
        let (scope, id) = (request.scope(), request.id());
        let mut site = self.glance(scope).await?;
        // What was staged a moment ago is there; what is gone back to may have been removed meanwhile.
        if site.version(id).is_none_or(|there| there.label.fence != fence) {
            site = self.look(scope).await?;
        }
        let there = site.version(id).ok_or_else(|| Error::not_found("the version is gone: stage it again"))?;
        there.label.admit(request)?;
        Ok(self.handle(scope, &there.script))
    }

    async fn activate_now(&self, request: &DeployRequest, fence: Fence) -> Result<Handle> {
        let draft = Draft::of(request, &self.settings)?;
        if self.stages(&draft) {
            // Nothing was changed, whatever became of the question.
            return self.ready(request, fence).await.map_err(|e| e.effect_as(overskill_core::Effect::None));
        }
        if !draft.classes.is_empty() {
            return self.activate_in_place(request, &draft, fence).await;
        }
        let (scope, id, api) = (request.scope(), request.id(), &self.settings.api);
        let mut site = self.glance(scope).await?;
        if site.version(id).is_some_and(|there| there.label.fence == fence) {
            // That it is live already is worth a look.
            site = self.look(scope).await?;
        }
        Self::fence_off(&site, id, fence)?;
        if let Some(there) = site.version(id) {
            there.label.admit(request)?;
            if there.label.fence != fence {
                // What follows is not what was seen.
                self.memory.forget(scope);
                let tags = Label::of(request, fence).tags(&self.settings.tags);
                match api.put_tags(&scope.app, &self.namespace(scope), &there.script, &tags).await {
                    Err(e) if e.kind() == ErrorKind::NotFound => {
                        return Err(Error::not_found("the version is gone: stage it again").caused_by(e));
                    }
                    answer => answer?,
                }
            }
            return Ok(self.handle(scope, &there.script));
        }
        self.memory.forget(scope);
        let script = names::of_version(&scope.app, fence);
        self.upload(request, &draft, &script, fence).await?;
        self.memory.drop_token(scope, id);
        Ok(self.handle(scope, &script))
    }

    async fn remove_now(&self, scope: &Scope, removal: Removal) -> Result<()> {
        let (api, namespace) = (&self.settings.api, self.namespace(scope));
        self.memory.forget(scope);
        let site = match removal {
            Removal::All => {
                api.delete_tagged(&scope.app, &namespace, &names::app_tag(&scope.app)).await?;
                // What is certain is what is seen.
                self.look(scope).await?
            }
            Removal::Only(_) => self.look(scope).await?,
            _ => return Err(Error::new(ErrorKind::Unsupported, "this cannot be removed here")),
        };
        let goes = |script: &&ScriptSummary| match removal {
            Removal::Only(id) => {
                self.memory.drop_token(scope, id);
                script.tags.as_deref().and_then(Label::read).is_some_and(|label| label.id == id)
            }
            _ => true,
        };
        let in_place = names::in_place(&scope.app);
        // Whichever version it holds, its objects are the app's.
        let stays = |script: &ScriptSummary| removal != Removal::All && script.id == in_place;
        let (stay, go): (Vec<_>, Vec<_>) = site.scripts().iter().filter(goes).partition(|script| stays(script));
        for script in go {
            self.memory.forget(scope);
            api.delete_script(&scope.app, &namespace, &script.id).await?;
        }
        if stay.is_empty() {
            return Ok(());
        }
        let message = format!(
            "script {in_place} must stay as long as its app, for the data of its Durable Objects would go with it: \
             deploy over it, or remove everything of the app (`Removal::All`)"
        );
        Err(Error::new(ErrorKind::Unsupported, message))
    }
}

fn overtaken(by: Fence, fence: Fence) -> Error {
    Error::conflict(format!("fence must be above {by}, but was {fence}: take the lease again"))
}

/// The name of a version's script.
fn script_name(app: &AppId, draft: &Draft, fence: Fence) -> String {
    if draft.classes.is_empty() { names::of_version(app, fence) } else { names::in_place(app) }
}

#[async_trait]
impl DeploymentTarget for WfpTarget {
    fn info(&self) -> TargetInfo {
        let mut info = TargetInfo::new(self.settings.name.clone(), "cloudflare");
        info.fencing = Fencing::Observed;
        // Without routes, code and variables come in one atomic request, which is the activation.
        info.stages_separately = self.routes.is_some();
        info.max_artifact_files = Self::MAX_FILES;
        info.keeps_previous = true;
        info.deploys_per_hour = Some(Self::DEPLOYS_PER_HOUR);
        let source =
            "https://developers.cloudflare.com/cloudflare-for-platforms/workers-for-platforms/reference/pricing/";
        info.facts = PlatformFacts::read(source, "2026-11-21");
        info.facts.sleeping_sockets = true;
        // 25 a month with 1,000 scripts, and 0.02 for each further one.
        info.facts.idle_fleet_dollars = Some(1_005);
        info
    }

    async fn check(&self) -> Result<Readiness> {
        let ready = Readiness::ready(self.settings.name.to_string());
        let namespaces = match self.settings.api.namespaces().await {
            Ok(namespaces) => namespaces,
            Err(e) if matches!(e.kind(), ErrorKind::Unauthenticated | ErrorKind::Denied | ErrorKind::Invalid) => {
                let remedy = "give the id of the account and a token of it with `Workers Scripts: Edit`";
                return Ok(ready.lacks(format!("the account cannot be used: {}", e.message()), remedy));
            }
            Err(e) => return Err(self.settings.at(e, "check")),
        };
        let ours = |name: &str| overskill_core::Environment::ALL.iter().any(|e| self.settings.of(*e) == name);
        let trusted = namespaces.iter().filter(|n| n.trusted_workers && ours(&n.namespace_name));
        Ok(trusted.fold(ready, |ready, namespace| {
            let what = format!("the scripts of dispatch namespace `{}` are trusted", namespace.namespace_name);
            ready.lacks(what, "make it untrusted: tenants of a trusted one share caches")
        }))
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        self.info().admit(request)?;
        let staged = self.stage_now(request).await;
        staged.map_err(|e| about(self.settings.at(e, "stage"), request.scope(), request.id()))
    }

    async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Result<Handle> {
        let refuse = |e| about(self.settings.at(e, "activate"), request.scope(), request.id());
        if staged.id != request.id() {
            let message = "what was staged must be of the deployment to activate, but is another's";
            return Err(refuse(Error::invalid(message)));
        }
        self.info().admit(request)?;
        self.activate_now(request, fence).await.map_err(refuse)
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        let asked = futures::try_join!(self.look(scope), self.standing(scope));
        let (site, standing) = asked.map_err(|e| about(self.settings.at(e, "status"), scope, id))?;
        let active = site.active(standing.as_ref());
        // What stays in one place has landed when it was uploaded, whether or not the route names it yet.
        let in_place = site.in_place().map(|version| (version, version.label.fence));
        let mut landed = active.into_iter().chain(in_place);
        if let Some((live, _)) = landed.clone().find(|(live, under)| live.label.id == id && *under == fence) {
            return Ok(TargetStatus::Landed(self.handle(scope, &live.script)));
        }
        let overtaken = standing.is_some_and(|s| s.fence > fence) || landed.any(|(_, under)| under > fence);
        Ok(if overtaken { TargetStatus::Superseded } else { TargetStatus::Absent })
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        let asked = futures::try_join!(self.look(scope), self.standing(scope));
        let (site, standing) = asked.map_err(|e| self.settings.at(e, "observe").with("scope", scope))?;
        Ok(site.observed(standing.as_ref(), |script| self.handle(scope, script)))
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        let removing = self.remove_now(scope, removal);
        // An app is taken off the air; a version is tidied up.
        let removed = if removal == Removal::All { urgently(removing).await } else { removing.await };
        removed.map_err(|e| self.settings.at(e, "remove").with("scope", scope))
    }
}
