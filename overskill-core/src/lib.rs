#![doc = include_str!("../README.md")]

mod artifact;
mod deployments;
pub mod entities;
pub mod error;
mod file;
mod id;
mod ids;
pub mod instruments;
mod keys;
pub mod memory;
mod notifier;
mod page;
mod parse;
mod platform;
mod position;
mod requests;
mod schedule;
mod seal;
mod seam;
mod secret;
mod tenant;
mod time;
mod url;
mod webhook;
mod wrap;

pub use artifact::{Artifact, ArtifactConfig, Manifest, ServerModule};
pub use deployments::{
    AppFacts, DeploymentCost, DeploymentRecord, DeploymentState, DeploymentStrategy, Deployments, DeploymentsParts,
    Drift, Failback, Fallback, HealthGate, NewDeployment, Outcome, PlacementPolicy, PlatformFacts, Reconciled,
    StrategyConfig,
};
pub use error::{Consequence, Effect, Error, ErrorKind, Result, Retry};
pub use file::{AppFile, Change, Changes, Digest, FilePath, Snapshot};
pub use id::{
    AppId, BackendName, DeploymentId, Environment, JobName, KeyId, RunId, Scope, SubjectId, TenantId, WorkerName,
};
pub use ids::{Ids, IdsExt, SeededIds, SystemIds};
pub use keys::{LocalKeyProvider, RootKey};
pub use notifier::LogNotifier;
pub use page::{PageEnv, PageHole};
pub use parse::ParseError;
pub use platform::{
    AppEnv, AppHandle, AppJobs, AppPreview, Deployment, Platform, PlatformBuilder, PlatformReport, Pushed, Records,
    RunWorker, SeamReport, Sources, To, Variables, Written,
};
pub use position::{Fence, Incarnation, StreamPosition};
pub use requests::{count_request, is_urgent, name_answer, urgently};
pub use schedule::{CronExpression, CronNote, Schedule, TimeZoneName};
pub use seal::{SealContext, Sealed, Sealer};
pub use seam::*;
pub use secret::{AccessToken, Secret};
pub use tenant::{Grant, SystemGrant, SystemScopes, TenantGate, TenantGrant};
#[cfg(feature = "local-keys")]
pub use tenant::{LocalKeys, LocalTokens, LocalValidator};
pub use time::{Clock, SystemClock, TestClock, Timestamp, timeout};
pub use url::PublicUrl;
pub use webhook::{WebhookRefusal, WebhookSecret, WebhookSecrets, WebhookSignature};
pub use wrap::*;
