//! The suites of the seams, on a well-behaved account and under three plans of faults.

use crate::common::{account, connect, emulated};
use async_trait::async_trait;
use overskill_cloudflare::{R2Keys, WfpTarget};
use overskill_core::{
    DeployRequest, DeploymentId, DeploymentTarget, Fence, FileStore, Handle, Observed, Readiness, Removal, Result,
    Route, RouteTable as _, Scope, Secret, Staged, TargetInfo, TargetStatus, memory::MemoryRoutes,
};
use overskill_testkit::{
    DeploymentTargetFixture, FileStoreFixture, TargetOutside,
    cloudflare::{Calls, CloudflareEmulator, Fault, FaultPlan, Moment},
};
use std::{sync::Arc, time::Duration};

/// The API asks to slow down, in all its ways.
pub(crate) fn throttling() -> FaultPlan {
    FaultPlan::seeded(11)
        .latency(Duration::ZERO, Duration::from_millis(3))
        .chance(40, Calls::any(), Fault::Throttled)
        .chance(20, Calls::any(), Fault::BareTooMany)
        .chance(20, Calls::any(), Fault::TooMany { retry_after: Some(Duration::ZERO) })
}

/// The same of R2, which knows no codes. One case reads a history from each of its positions, in thousands of calls: at twice
/// the rate one of them would meet four refusals in a row now and then, and rightly give up.
fn throttling_s3() -> FaultPlan {
    FaultPlan::seeded(11)
        .latency(Duration::ZERO, Duration::from_millis(1))
        .chance(20, Calls::any(), Fault::BareTooMany)
        .chance(15, Calls::any(), Fault::TooMany { retry_after: Some(Duration::ZERO) })
}

/// It fails before and after it did what was asked.
pub(crate) fn failing() -> FaultPlan {
    FaultPlan::seeded(12)
        .chance(30, Calls::any(), Fault::ServerError { status: 500, moment: Moment::Before })
        .chance(30, Calls::any(), Fault::ServerError { status: 522, moment: Moment::After })
        .chance(30, Calls::any(), Fault::CutOff(Moment::After))
        .chance(10, Calls::any(), Fault::CutOff(Moment::Before))
}

/// Answers come in part, some keys are not written, and reads are late.
pub(crate) fn lossy() -> FaultPlan {
    FaultPlan::seeded(13).kv_staleness(Duration::from_millis(200)).chance(50, Calls::any(), Fault::CutBody).chance(
        150,
        Calls::of("PUT", "/bulk"),
        Fault::RefuseKeys,
    )
}

#[expect(clippy::unused_async, reason = "a suite takes a future")]
async fn target(plan: FaultPlan) -> DeploymentTargetFixture {
    let emulator = under(plan);
    let target: Arc<dyn DeploymentTarget> = Arc::new(account(&emulator).target());
    let again = emulator;
    DeploymentTargetFixture::with(target, TargetOutside::new()).reopen(move || {
        let again: Arc<dyn DeploymentTarget> = Arc::new(account(&again).target());
        async { again }
    })
}

/// A target that knows the routes, and the platform that sets them: whatever is activated is routed to.
#[derive(Debug)]
struct Routed {
    target: WfpTarget,
    routes: MemoryRoutes,
}

#[async_trait]
impl DeploymentTarget for Routed {
    fn info(&self) -> TargetInfo {
        self.target.info()
    }

    async fn check(&self) -> Result<Readiness> {
        self.target.check().await
    }

    async fn stage(&self, request: &DeployRequest) -> Result<Staged> {
        self.target.stage(request).await
    }

    async fn activate(&self, request: &DeployRequest, staged: &Staged, fence: Fence) -> Result<Handle> {
        let handle = self.target.activate(request, staged, fence).await?;
        let route = Route::new(self.info().name, request.id(), handle.clone(), fence);
        self.routes.set(request.scope(), &route).await?;
        Ok(handle)
    }

    async fn status(&self, scope: &Scope, id: DeploymentId, fence: Fence) -> Result<TargetStatus> {
        self.target.status(scope, id, fence).await
    }

    async fn observe(&self, scope: &Scope) -> Result<Vec<Observed>> {
        self.target.observe(scope).await
    }

    async fn remove(&self, scope: &Scope, removal: Removal) -> Result<()> {
        self.target.remove(scope, removal).await
    }
}

#[expect(clippy::unused_async, reason = "a suite takes a future")]
async fn routed(plan: FaultPlan) -> DeploymentTargetFixture {
    let (emulator, routes) = (under(plan), MemoryRoutes::new());
    let open = move || -> Arc<dyn DeploymentTarget> {
        let target = account(&emulator).target().routed_by(routes.clone());
        Arc::new(Routed { target, routes: routes.clone() })
    };
    DeploymentTargetFixture::with(open(), TargetOutside::new()).reopen(move || {
        let again = open();
        async { again }
    })
}

#[expect(clippy::unused_async, reason = "a suite takes a future")]
async fn kv(plan: FaultPlan) -> FileStoreFixture {
    let emulator = under(plan);
    let files: Arc<dyn FileStore> = Arc::new(account(&emulator).files());
    let again = emulator;
    FileStoreFixture::new(files).reopen(move || {
        let again: Arc<dyn FileStore> = Arc::new(account(&again).files());
        async { again }
    })
}

async fn r2(plan: FaultPlan) -> FileStoreFixture {
    let emulator = emulated(|options| options);
    let open = |emulator: &CloudflareEmulator| -> Arc<dyn FileStore> {
        let (id, _) = emulator.s3_keys(&emulator.token()).unwrap();
        let keys = R2Keys::of_token(id, &Secret::new(emulator.token()));
        Arc::new(account(emulator).r2_files(&keys).unwrap())
    };
    crate::install::make_bucket(&emulator).await;
    emulator.set_faults(plan);
    let again = emulator.clone();
    FileStoreFixture::new(open(&emulator)).reopen(move || {
        let again = open(&again);
        async { again }
    })
}

fn under(plan: FaultPlan) -> CloudflareEmulator {
    emulated(|options| options.faults(plan))
}

/// The same for an account in each state of health.
macro_rules! suites {
    ($($health:ident: $plan:expr, $s3:expr;)*) => {$(
        mod $health {
            mod target {
                use super::super::*;
                overskill_testkit::deployment_target_conformance!(v1, target($plan), except {
                    it_can_be_seen_from_outside: "without workerd nobody serves; with it (`served`) it is seen",
                });
            }
            mod routed {
                use super::super::*;
                overskill_testkit::deployment_target_conformance!(v1, routed($plan), except {
                    it_can_be_seen_from_outside: "without workerd nobody serves; with it (`gates`) it is seen",
                });
            }
            mod kv {
                use super::super::*;
                overskill_testkit::file_store_conformance!(v1, kv($plan));
            }
            mod r2 {
                use super::super::*;
                overskill_testkit::file_store_conformance!(v1, r2($s3));
            }
        }
    )*};
}

suites! {
    well: FaultPlan::none(), FaultPlan::none();
    throttled: throttling(), throttling_s3();
    failing: failing(), failing();
    lossy: lossy(), lossy();
}

#[tokio::test]
async fn it_does_not_show_what_it_was_given() {
    let emulator = emulated(|options| options);
    let cf = connect(&emulator).asset_salt("hunter3").build().unwrap();
    let shown = format!("{cf:?} {:?} {:?}", cf.target(), cf.files());
    assert!(!shown.contains(&emulator.token()) && !shown.contains("hunter"), "{shown}");
}

/// The same with a viewer: what is live is asked of real workerd, through a Worker that dispatches by name.
mod served {
    use super::*;
    use crate::common::{get, put_viewer};

    async fn target() -> DeploymentTargetFixture {
        let emulator = emulated_at_the_edge().await;
        put_viewer(&emulator).await;
        let target: Arc<dyn DeploymentTarget> = Arc::new(account(&emulator).target());
        let (seen, viewer, again) = (target.clone(), emulator.clone(), emulator);
        let outside = TargetOutside::new().serving(move |scope, path| {
            let (seen, viewer) = (seen.clone(), viewer.clone());
            async move {
                let observed = seen.observe(&scope).await?;
                let live = observed.into_iter().find(|o| o.state == overskill_core::ObservedState::Active);
                let Some(script) = live.and_then(|live| live.handle) else { return Ok(None) };
                // A page is served without its file's name.
                let page = path.as_str().strip_suffix("index.html").unwrap_or(path.as_str());
                let (status, body) = get(&viewer, &scope, &script.reference, &format!("/{page}")).await;
                assert!(status == 200 || status == 404, "{status} {body:?}");
                Ok((status == 200).then_some(body))
            }
        });
        DeploymentTargetFixture::with(target, outside).reopen(move || {
            let again: Arc<dyn DeploymentTarget> = Arc::new(account(&again).target());
            async { again }
        })
    }

    async fn emulated_at_the_edge() -> CloudflareEmulator {
        let options = CloudflareEmulator::options().quota(usize::MAX, Duration::from_mins(5));
        options.start().await.unwrap()
    }

    overskill_testkit::deployment_target_conformance!(v1, target());
}
