//! The whole platform over one SQLite file: what was acknowledged is there after a restart, and the story goes on.
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use overskill::{
    AppHandle, AppId, AppRecord, BackendName, DeploymentStrategy, EnvChanges, EnvKey, EnvValue, Environment, JobName,
    JobSpec, KeyId, LocalKeyProvider, Outcome, Overskill, RootKey, Schedule, Scope, Sealer, SystemIds, SystemScopes,
    Timestamp, To,
    memory::MemoryTarget,
    sql::{SqliteOptions, SqliteStores},
};
use std::{num::NonZeroU32, path::Path, sync::Arc};

const PRODUCTION: Environment = Environment::Production;

/// What a process that starts finds: the file, the root key, and whatever runs at the target.
async fn start(path: &Path, edge: &MemoryTarget) -> (Overskill, AppHandle) {
    let keys = LocalKeyProvider::new(KeyId::parse("k1").unwrap(), RootKey::from_bytes([7; 32]));
    let stores = SqliteStores::open(path, SqliteOptions::new()).await.unwrap();
    let records = stores.records(Sealer::new(Arc::new(keys), Arc::new(SystemIds)));
    let strategy = DeploymentStrategy::prefer(edge.clone());
    let platform = Overskill::builder().records(records).deploy_with(strategy).build().await.unwrap();
    let todo = AppId::parse("todo42").unwrap();
    let host = platform.gate().system("test", "starts", SystemScopes::All).await.unwrap();
    platform.put_app(&host, &AppRecord::new(todo.clone(), "Todo", Timestamp::EPOCH)).await.unwrap();
    let app = platform.open(host, todo).await.unwrap();
    (platform, app)
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("overskill.db");
    let edge = MemoryTarget::new(BackendName::parse("edge").unwrap());
    let token = EnvKey::parse("API_TOKEN").unwrap();
    let scope = Scope::new(AppId::parse("todo42").unwrap(), PRODUCTION);

    let (platform, app) = start(&path, &edge).await;
    app.write([("index.html", "one"), ("a.js", "1")]).await.unwrap();
    app.env(PRODUCTION).put(&EnvChanges::new().set(token.clone(), EnvValue::sealed("hunter2")), None).await.unwrap();
    let job = JobSpec::new(scope.clone(), JobName::parse("nightly").unwrap(), Schedule::OnDemand);
    app.jobs(PRODUCTION).put(&job).await.unwrap();
    let outcome = app.deploy(PRODUCTION).await.unwrap().outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Active { .. }), "{outcome}");
    app.write([("index.html", "two")]).await.unwrap();
    let waiting = app.deploy(PRODUCTION).await.unwrap().id(); // asked for, and nobody drives it
    drop((platform, app));

    let (platform, app) = start(&path, &edge).await;
    let sources = app.sources().await.unwrap();
    assert_eq!((sources.files.len(), sources.position.seq), (2, 2));
    assert_eq!(app.jobs(PRODUCTION).list(None, NonZeroU32::MIN).await.unwrap().items, [job]);
    assert_eq!(platform.work().await.unwrap(), 1, "what waited is driven");
    assert_eq!(app.route(PRODUCTION).await.unwrap().unwrap().deployment, waiting);
    assert_eq!(edge.env(&scope).unwrap().values[&token].expose(), "hunter2");
    app.rollback(PRODUCTION, To::LastGood).await.unwrap().outcome().await.unwrap();
    let page = edge.asset(&scope, &"index.html".parse().unwrap()).unwrap();
    assert_eq!(page.contents(), "one");
    let file = std::fs::read(&path).unwrap();
    assert!(!file.windows(7).any(|w| w == b"hunter2"), "a secret is in the file");
}
