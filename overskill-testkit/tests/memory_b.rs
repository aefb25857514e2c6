//! Deployments, jobs, progress, targets, previews and tenants: the suites on core's own backends.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]
#![allow(clippy::unused_async, reason = "a suite takes fixtures that may have to wait")]

mod deployments {
    use overskill_core::{DeploymentStore, memory::MemoryDeployments};
    use overskill_testkit::DeploymentStoreFixture;
    use std::sync::Arc;

    async fn fixture() -> DeploymentStoreFixture {
        let store = Arc::new(MemoryDeployments::new());
        let again = store.clone();
        DeploymentStoreFixture::new(store).reopen(move || {
            let again: Arc<dyn DeploymentStore> = again.clone();
            async { again }
        })
    }

    overskill_testkit::deployment_store_conformance!(v1, fixture());
}

mod jobs {
    use overskill_core::memory::MemoryJobs;
    use overskill_testkit::{Jobs, JobsFixture};
    use std::sync::Arc;

    async fn fixture() -> JobsFixture {
        let jobs = Arc::new(Jobs::new(Arc::new(MemoryJobs::new())));
        let again = jobs.clone();
        JobsFixture::new(jobs).reopen(move || {
            let again = again.clone();
            async { again }
        })
    }

    overskill_testkit::jobs_conformance!(v1, fixture());
}

mod progress {
    use overskill_core::CatchUp;
    use overskill_core::memory::MemoryProgress;
    use overskill_testkit::{ProgressReader, ProgressSinkFixture};
    use std::sync::Arc;

    async fn fixture() -> ProgressSinkFixture {
        let ring = MemoryProgress::new();
        let seen = ring.clone();
        let reader = ProgressReader::new(move |stream| {
            let CatchUp::Entries(events) = seen.since(&stream, None) else { panic!("a ring is read from its start") };
            async { events }
        });
        ProgressSinkFixture::with(Arc::new(ring), reader.capacity(256))
    }

    overskill_testkit::progress_sink_conformance!(v1, fixture());
}

mod recording {
    use overskill_testkit::{ProgressReader, ProgressSinkFixture, recording::RecordingSink};
    use std::sync::Arc;

    async fn fixture() -> ProgressSinkFixture {
        let sink = RecordingSink::new();
        let seen = sink.clone();
        let reader = ProgressReader::new(move |stream| {
            let published = seen.published(&stream);
            async { published }
        });
        ProgressSinkFixture::with(Arc::new(sink), reader)
    }

    overskill_testkit::progress_sink_conformance!(v1, fixture());
}

mod targets {
    use overskill_core::{BackendName, DeploymentTarget, TargetInfo, memory::MemoryTarget};
    use overskill_testkit::{DeploymentTargetFixture, TargetOutside};
    use std::sync::Arc;

    fn fixture_of(target: MemoryTarget) -> DeploymentTargetFixture {
        let seen = target.clone();
        let outside = TargetOutside::new().serving(move |scope, path| {
            let contents = seen.asset(&scope, &path).map(|file| file.contents().clone());
            async { Ok(contents) }
        });
        let again = target.clone();
        DeploymentTargetFixture::with(Arc::new(target), outside).reopen(move || {
            let again: Arc<dyn DeploymentTarget> = Arc::new(again.clone());
            async { again }
        })
    }

    fn info() -> TargetInfo {
        TargetInfo::new(BackendName::parse("memory").unwrap(), "memory")
    }

    mod as_it_is {
        use super::*;

        async fn fixture() -> DeploymentTargetFixture {
            fixture_of(MemoryTarget::new(info().name))
        }

        overskill_testkit::deployment_target_conformance!(v1, fixture());
    }

    /// Takes any fence, keeps one version, only checks when it stages, and has no servers: as a static host does.
    mod that_can_little {
        use super::*;
        use overskill_core::Fencing;

        async fn fixture() -> DeploymentTargetFixture {
            let mut info = info();
            info.fencing = Fencing::Observed;
            (info.stages_separately, info.keeps_previous, info.runs_servers) = (false, false, false);
            (info.max_artifact_bytes, info.max_artifact_files) = (1024 * 1024, 20);
            fixture_of(MemoryTarget::with(info))
        }

        overskill_testkit::deployment_target_conformance!(v1, fixture());
    }
}

mod previews {
    use overskill_core::memory::MemoryPreviews;
    use overskill_testkit::{PreviewHostFixture, PreviewOutside};
    use std::sync::Arc;

    async fn fixture() -> PreviewHostFixture {
        let host = MemoryPreviews::new();
        let seen = host.clone();
        let outside = PreviewOutside::new().serving(move |scope, path| {
            let shown = seen.shown(&scope);
            async move { Ok(shown.and_then(|s| s.files.get(&path).map(|file| file.contents().clone()))) }
        });
        PreviewHostFixture::with(Arc::new(host), outside)
    }

    overskill_testkit::preview_host_conformance!(v1, fixture());
}

#[cfg(feature = "tokens")]
mod tenants {
    use overskill_core::{KeyId, LocalKeys, LocalTokens};
    use overskill_testkit::{TenantValidatorFixture, TokenAlgorithm, TokenSource, tokens::TokenMint};
    use std::sync::Arc;

    async fn fixture() -> TenantValidatorFixture {
        let mint = TokenMint::new("https://issuer.example", "overskill");
        let kid = KeyId::parse(mint.kid(TokenAlgorithm::Es256)).unwrap();
        let keys = LocalKeys::from_pkcs8(kid, &mint.es256_pkcs8()).unwrap();
        let validator = LocalTokens::new(keys).issuer("https://issuer.example", "overskill").validator();
        TenantValidatorFixture::with(Arc::new(validator), TokenSource::new(move |wish| Some(mint.mint(wish))))
    }

    overskill_testkit::tenant_validator_conformance!(
        v1,
        fixture(),
        except { what_cannot_be_decided_is_refused: "its keys are its own: it asks nobody who could be out of reach" }
    );
}
