//! Every use case refuses a grant of another gate, for another app, that has expired, or that lacks the right.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use async_trait::async_trait;
use overskill_core::{
    memory::{MemoryBackends, MemoryTarget},
    *,
};
use std::{future::Future, num::NonZeroU32, pin::Pin, sync::Arc, time::Duration};

/// Believes tokens of the form `{tenant}.{rights joined with +}`; good for a minute.
#[derive(Debug)]
struct Believes;

#[async_trait]
impl TenantValidator for Believes {
    async fn check(&self) -> Result<Readiness> {
        Ok(Readiness::ready("believes"))
    }

    async fn validate(&self, token: &AccessToken, _: &TenantId, now: Timestamp) -> Result<Claims, Refusal> {
        let (tenant, rights) = token.expose().split_once('.').ok_or(Refusal::Malformed("no dot"))?;
        let (subject, tenant) = (SubjectId::parse("ada").unwrap(), TenantId::parse(tenant).unwrap());
        Ok(Claims::new(subject, tenant, rights.replace('+', " ").parse().unwrap(), now.plus(Duration::from_mins(1))))
    }
}

struct World {
    clock: TestClock,
    memory: MemoryBackends,
    platform: Platform,
}

async fn world(seed: u64) -> World {
    let clock = TestClock::new();
    let memory = MemoryBackends::with(Arc::new(clock.clone()), Arc::new(SeededIds::new(seed)));
    let platform = memory.platform().tenants(Believes).build().await.unwrap();
    for app in ["todo42", "other7"] {
        let app = AppId::parse(app).unwrap();
        let host = platform.gate().system("test", "adds apps", SystemScopes::app(app.clone())).await.unwrap();
        platform.put_app(&host, &AppRecord::new(app, "Test", clock.now())).await.unwrap();
    }
    World { clock, memory, platform }
}

impl World {
    async fn app(&self, rights: &str) -> AppHandle {
        let token = AccessToken::parse(&format!("app_todo42_tenant.{rights}")).unwrap();
        self.platform.app(&token, "todo42").await.unwrap()
    }
}

const ONE: NonZeroU32 = NonZeroU32::new(1).unwrap();
const PRODUCTION: Environment = Environment::Production;

type UseCase = (&'static str, Right, fn(AppHandle) -> Pin<Box<dyn Future<Output = Result<()>>>>);

macro_rules! use_cases {
    ($($name:literal $right:ident |$app:ident| $call:expr;)*) => {
        &[$(($name, Right::$right, |$app: AppHandle| Box::pin(async move { $call.await.map(drop) }))),*]
    };
}

/// Every method of `AppHandle` and what it hands out. A new one belongs here.
const USE_CASES: &[UseCase] = use_cases! {
    "sources" Develop |app| app.sources();
    "read" Develop |app| app.read("a");
    "write" Develop |app| app.write([("a", "b")]);
    "apply" Develop |app| async { app.apply(&Changes::new().put("a".try_into()?, "b"), None).await };
    "route" Develop |app| app.route(PRODUCTION);
    "deployments" Develop |app| app.deployments(PRODUCTION, None, ONE);
    "reconcile" Develop |app| app.reconcile(PRODUCTION);
    "share" Operate |app| app.share(PRODUCTION, 50);
    "restore" Operate |app| app.restore(PRODUCTION);
    "deploy" Operate |app| app.deploy(PRODUCTION);
    "promote" Operate |app| app.promote(Environment::Staging, PRODUCTION);
    "rollback" Operate |app| app.rollback(PRODUCTION, To::LastGood);
    "rollback_with" Operate |app| app.rollback_with(PRODUCTION, To::LastGood, Variables::Newest);
    "audit" Operate |app| app.audit(PRODUCTION, None, ONE);
    "preview.open" Develop |app| async { app.preview().open(Sources::Stored).await };
    "preview.status" Develop |app| async { app.preview().status().await };
    "preview.refill" Develop |app| async { app.preview().refill().await };
    "preview.close" Develop |app| async { app.preview().close().await };
    "env.current" Develop |app| async { app.env(PRODUCTION).current().await };
    "env.entries" Develop |app| async { app.env(PRODUCTION).entries().await };
    "env.put" Operate |app| async {
        app.env(PRODUCTION).put(&EnvChanges::new().unset(EnvKey::parse("A")?), None).await
    };
    "env.reveal" Operate |app| async {
        let none = EnvRevision(StreamPosition::start(Incarnation::from_u64(1)));
        app.env(PRODUCTION).reveal(none).await
    };
    "env.reseal" Operate |app| async { app.env(PRODUCTION).reseal().await };
    "jobs.put" Operate |app| async {
        let scope = Scope::new(app.id().clone(), PRODUCTION);
        app.jobs(PRODUCTION).put(&JobSpec::new(scope, JobName::parse("j")?, Schedule::OnDemand)).await
    };
    "jobs.remove" Operate |app| async { app.jobs(PRODUCTION).remove(&JobName::parse("j")?).await };
    "jobs.list" Develop |app| async { app.jobs(PRODUCTION).list(None, ONE).await };
    "jobs.trigger" Develop |app| async { app.jobs(PRODUCTION).trigger(&JobName::parse("j")?).await };
    "jobs.history" Develop |app| async { app.jobs(PRODUCTION).history(&JobName::parse("j")?, ONE).await };
};

/// Refused by a check of the grant, and by nothing else.
fn refused(result: &Result<()>) -> bool {
    result.as_ref().is_err_and(|e| {
        matches!(e.kind(), ErrorKind::Denied | ErrorKind::Unauthenticated)
            && e.backend() == "gate"
            && e.public_message() == Refusal::PUBLIC
    })
}

/// Public functions of the platform that need no grant of their own, and why.
const NO_GRANT: &[(&str, &str)] = &[
    ("builder", "makes a platform; there is nothing to guard yet"),
    ("gate", "is where grants are made"),
    ("app", "takes a token, and makes a grant of it or refuses"),
    ("open", "takes a grant: shown below"),
    ("put_app", "takes a system grant: shown below"),
    ("runs", "takes a system grant: shown below"),
    ("run", "the host's own loop; it hands nothing out"),
    ("clock", "is what time it is"),
    ("report", "says how the seams are, and nothing of any app"),
    ("nudge", "has `run` look earlier at what it looks at anyway; it hands nothing out"),
    ("work", "one round of it"),
    ("id", "what the handle is of, or a deployment's id"),
    ("record", "what the directory said when the handle was made; of a deployment, the same as `deployment`"),
    ("scope", "where a deployment goes to"),
    ("preview", "hands out what asks itself"),
    ("env", "hands out what asks itself"),
    ("jobs", "hands out what asks itself"),
    ("outcome", "it was authorised when it was asked for"),
    ("deployment", "needs one that exists: shown below"),
    ("answer", "needs one that exists: shown below"),
    ("resume", "needs one that exists: shown below"),
    ("claim", "of a `RunWorker`, which asks each time"),
    ("renew", "of a `RunWorker`, which asks each time"),
    ("finish", "of a `RunWorker`, which asks each time"),
    ("files", "makes `Sources`, a value"),
    ("is_ready", "of a report, a value"),
];

#[test]
fn every_public_function_of_the_platform_is_in_a_list() {
    let sources = [
        ("", include_str!("../src/platform/app.rs")),
        ("", include_str!("../src/platform/mod.rs")),
        ("preview.", include_str!("../src/platform/previews.rs")),
        ("env.", include_str!("../src/platform/env.rs")),
        ("jobs.", include_str!("../src/platform/jobs.rs")),
    ];
    let mut found = std::collections::BTreeSet::new();
    for (prefix, source) in sources {
        let functions = source.lines().map(str::trim).filter_map(|line| {
            let rest = line.strip_prefix("pub ")?;
            let rest = rest.strip_prefix("const ").unwrap_or(rest);
            rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")
        });
        for line in functions {
            let name = line.split(['(', '<']).next().unwrap();
            let full = format!("{prefix}{name}");
            let guarded = USE_CASES.iter().any(|(listed, ..)| *listed == full);
            let free = NO_GRANT.iter().any(|(listed, _)| *listed == name);
            assert!(guarded || free, "`{full}` is neither among the use cases nor among what needs no grant");
            found.insert(full);
        }
    }
    for (listed, ..) in USE_CASES {
        assert!(found.contains(*listed), "`{listed}` is in the list, but not in the platform");
    }
}

#[tokio::test]
async fn a_grant_that_lacks_the_right_is_refused_by_every_use_case() {
    for (name, right, call) in USE_CASES {
        let without: Vec<_> = Right::ALL.into_iter().filter(|r| r != right).map(Right::as_str).collect();
        let world = world(1).await;
        assert!(refused(&call(world.app(&without.join("+")).await).await), "{name} without {right}");
        assert!(!refused(&call(world.app(right.as_str()).await).await), "{name} with {right} alone");
    }
}

#[tokio::test]
async fn a_grant_that_has_expired_is_refused_by_every_use_case() {
    for (name, _, call) in USE_CASES {
        let world = world(2).await;
        let app = world.app("data+develop+operate").await;
        world.clock.advance(Duration::from_secs(59));
        assert!(!refused(&call(app.clone()).await), "{name} too early");
        world.clock.advance(Duration::from_secs(1));
        assert!(refused(&call(app).await), "{name}");
    }
}

#[tokio::test]
async fn a_grant_of_another_gate_or_for_another_app_opens_nothing() {
    let (here, there) = (world(3).await, world(3).await);
    let app = AppId::parse("todo42").unwrap();
    let token = AccessToken::parse("app_todo42_tenant.data+develop+operate").unwrap();
    let foreign = there.platform.gate().admit(&token, &TenantId::of_app(app.clone())).await.unwrap();
    let own = here.platform.gate().admit(&token, &TenantId::of_app(app.clone())).await.unwrap();
    let other = AppId::parse("other7").unwrap();
    assert!(refused(&here.platform.open(foreign, app.clone()).await.map(drop)));
    assert!(refused(&here.platform.open(own.clone(), other).await.map(drop)));
    assert!(here.platform.open(own, app.clone()).await.is_ok());

    // A handle carries its platform, so a foreign grant cannot reach a use case; what takes a grant itself is checked.
    let system = there.platform.gate().system("test", "foreign", SystemScopes::All).await.unwrap();
    assert!(refused(&here.platform.put_app(&system, &AppRecord::new(app.clone(), "x", here.clock.now())).await));
    assert!(refused(&here.platform.runs(&system).map(drop)));
    assert!(refused(&here.platform.open(system, app).await.map(drop)));
}

#[tokio::test]
async fn a_system_grant_reaches_what_it_named_and_nothing_else() {
    let world = world(4).await;
    let (todo, other) = (AppId::parse("todo42").unwrap(), AppId::parse("other7").unwrap());
    let staging = Scope::new(todo.clone(), Environment::Staging);
    let only = SystemScopes::Only([staging].into());
    let grant = world.platform.gate().system("test", "staging only", only).await.unwrap();
    assert!(refused(&world.platform.open(grant.clone(), other).await.map(drop)));
    let app = world.platform.open(grant.clone(), todo.clone()).await.unwrap();
    assert!(app.route(Environment::Staging).await.is_ok());
    assert!(refused(&app.route(PRODUCTION).await.map(drop)));
    assert!(refused(&world.platform.put_app(&grant, &AppRecord::new(todo, "x", world.clock.now())).await));
    assert_eq!(world.platform.runs(&grant).unwrap_err().kind(), ErrorKind::Denied);
}

/// Claims that are good in one environment open that one alone.
#[tokio::test]
async fn a_grant_for_one_environment_is_good_there_alone() {
    #[derive(Debug)]
    struct InPreview;
    #[async_trait]
    impl TenantValidator for InPreview {
        async fn check(&self) -> Result<Readiness> {
            Ok(Readiness::ready("in preview"))
        }
        async fn validate(&self, token: &AccessToken, tenant: &TenantId, now: Timestamp) -> Result<Claims, Refusal> {
            Ok(Believes.validate(token, tenant, now).await?.in_environment(Environment::Preview))
        }
    }
    let world = world(8).await;
    let platform = world.memory.platform().tenants(InPreview).build().await.unwrap();
    let token = AccessToken::parse("app_todo42_tenant.data+develop+operate").unwrap();
    let app = platform.app(&token, "todo42").await.unwrap();
    assert!(app.route(Environment::Preview).await.is_ok());
    assert!(refused(&app.route(PRODUCTION).await.map(drop)));
    assert!(refused(&app.deploy(PRODUCTION).await.map(drop)));
}

#[tokio::test]
async fn another_apps_deployment_is_not_to_be_seen() {
    let world = world(5).await;
    let app = world.app("develop+operate").await;
    app.write([("index.html", "hi")]).await.unwrap();
    let id = app.deploy(PRODUCTION).await.unwrap().id();
    assert!(app.deployment(id).await.is_ok());
    assert!(refused(&world.app("operate").await.deployment(id).await.map(drop)));
    assert!(refused(&world.app("develop").await.answer(id, OperatorChoice::Abort).await));
    assert!(refused(&world.app("develop").await.resume(id).await.map(drop)));
    assert_eq!(app.resume(id).await.unwrap().id(), id);
    assert_eq!(app.answer(id, OperatorChoice::Abort).await.unwrap_err().kind(), ErrorKind::Conflict, "it asks nothing");
    let token = AccessToken::parse("app_other7_tenant.data+develop+operate").unwrap();
    let stranger = world.platform.app(&token, "other7").await.unwrap();
    assert_eq!(stranger.deployment(id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(stranger.answer(id, OperatorChoice::Abort).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_refusal_is_audited_with_its_reason_and_tells_the_caller_nothing() {
    let world = world(6).await;
    let token = AccessToken::parse("app_other7_tenant.data").unwrap();
    let e = world.platform.app(&token, "todo42").await.unwrap_err();
    assert_eq!(e.public_message(), "Access denied.");
    let log = world.memory.audit.read(None, None, NonZeroU32::new(100).unwrap()).await.unwrap();
    let last = &log.items.last().unwrap().entry;
    assert_eq!((last.action.as_str(), &last.actor), ("tenant.refused", &Actor::Unknown));
    assert!(last.detail.starts_with("other_tenant"), "{}", last.detail);
}

#[tokio::test]
async fn a_flood_of_bad_tokens_is_refused_and_does_not_fill_the_log() {
    let world = world(8).await;
    let token = AccessToken::parse("app_other7_tenant.data").unwrap();
    let knock = async |app: &str| world.platform.app(&token, app).await.unwrap_err().kind();
    for _ in 0..50 {
        assert_eq!(knock("todo42").await, ErrorKind::Unauthenticated);
    }
    let refusals = async || {
        let log = world.memory.audit.read(None, None, NonZeroU32::new(1_000).unwrap()).await.unwrap();
        let told = log.items.into_iter().map(|it| it.entry).filter(|it| it.action == "tenant.refused");
        told.map(|it| it.detail).collect::<Vec<_>>()
    };
    assert_eq!(refusals().await.len(), 10);
    knock("shop").await;
    world.clock.advance(Duration::from_mins(1));
    knock("todo42").await;
    let told = refusals().await;
    assert!(told.len() == 12 && told[11].ends_with("; 40 more like it were counted only"), "{told:?}");
}

#[tokio::test]
async fn a_suspended_app_stays_as_it_is() {
    let world = world(7).await;
    let host = world.platform.gate().system("test", "suspends", SystemScopes::All).await.unwrap();
    let record = AppRecord::new(AppId::parse("todo42").unwrap(), "Test", world.clock.now());
    let before = world.app("data+develop+operate").await;
    world.platform.put_app(&host, &record.clone().state(AppState::Suspended)).await.unwrap();
    let app = world.app("data+develop+operate").await;
    assert_eq!(before.write([("a", "b")]).await.unwrap_err().kind(), ErrorKind::Denied, "a handle from before");
    assert_eq!(app.write([("a", "b")]).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(app.deploy(PRODUCTION).await.unwrap_err().kind(), ErrorKind::Denied);
    assert!(app.sources().await.is_ok());
    world.platform.put_app(&host, &record.state(AppState::Removed)).await.unwrap();
    let token = AccessToken::parse("app_todo42_tenant.develop").unwrap();
    assert_eq!(world.platform.app(&token, "todo42").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn everything_that_is_missing_is_in_one_report() {
    let e = Platform::builder().build().await.unwrap_err().to_string();
    for seam in
        ["files", "bundles", "env", "routes", "previews", "builder", "deployments", "audit", "apps", "jobs", "tenants"]
    {
        assert!(e.contains(&format!("{seam}: is not set: call `.{seam}(…)`")), "{seam} is not in: {e}");
    }
    assert!(e.contains("call `.deploy_with(…)`"), "{e}");
    let memory = MemoryBackends::new();
    let twice = DeploymentStrategy::prefer(memory.target.clone())
        .then(MemoryTarget::new(BackendName::parse("memory").unwrap()));
    let e = memory.platform().deploy_with(twice).build().await.unwrap_err().to_string();
    assert!(e.contains("two called `memory`"), "{e}");
    let replica = memory::MemoryFiles::with(
        &SystemIds,
        StoreInfo::new("kv").consistency(Consistency::Eventual(Duration::from_mins(1))),
    );
    let e = memory.platform().files(replica).build().await.unwrap_err().to_string();
    assert!(
        e.contains("files (memory): reads may be 60s old") || e.contains("files (kv): reads may be 60s old"),
        "{e}"
    );
}
