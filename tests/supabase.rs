//! The platform over a project of Supabase: its validator decides, its tables hold apps' records and the platform's own.
//! The database is real Postgres, with the roles of a project.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use overskill::{
    ApiMethod, ApiRequest, ApiUpstream as _, AppId, AppRecord, AppTokens as _, Clock as _, DeploymentStrategy,
    Environment, ErrorKind, FilePath, KeyId, LocalKeyProvider, Outcome, Overskill, RootKey, Scope, Sealer, Secret,
    SubjectId, SystemClock, SystemIds, SystemScopes, TenantId, Timestamp,
    memory::{MemoryAudit, MemoryTarget},
    sql::postgres::PostgresOptions,
    supabase::{ContextKey, ContextKeys, RolePasswords, SigningKey, Supabase},
};
use overskill_testkit::postgres::PostgresCluster;
use std::sync::Arc;

const PROJECT: &str = "
    CREATE ROLE anon NOLOGIN NOINHERIT;
    CREATE ROLE authenticated NOLOGIN NOINHERIT;
    CREATE ROLE service_role NOLOGIN NOINHERIT BYPASSRLS;
    CREATE ROLE authenticator LOGIN NOINHERIT;
    GRANT anon, authenticated, service_role TO authenticator;
    CREATE ROLE host LOGIN NOSUPERUSER CREATEROLE CREATEDB BYPASSRLS;";

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_keeps_everything_in_a_project() {
    let cluster = PostgresCluster::shared().unwrap();
    cluster.execute("postgres", PROJECT).unwrap();
    cluster.execute("postgres", "CREATE DATABASE project OWNER host").unwrap();
    let url = cluster.url("project").replacen("postgres@", "host@", 1);
    let contexts = ContextKeys::new(ContextKey::generate(KeyId::parse("c1").unwrap(), &SystemIds));
    let supabase = Supabase::connect("abcdefghijklmnopqrst", url)
        .passwords(RolePasswords { app: Secret::new("correct horse"), explorer: Secret::new("battery staple") })
        .contexts(contexts)
        .signing_key(SigningKey::generate(&SystemIds, SystemClock.now()).unwrap())
        .build()
        .unwrap();

    // Before there is a platform, a gate of one's own; it opens nothing of the platform's.
    let before = supabase.gate(Arc::new(MemoryAudit::new()));
    let grant = before.system("test", "installs", SystemScopes::All).await.unwrap();
    supabase.install(&before, &grant).await.unwrap();
    let stores = supabase.records(&before, &grant, PostgresOptions::new()).await.unwrap();

    let keys = LocalKeyProvider::new(KeyId::parse("k1").unwrap(), RootKey::from_bytes([7; 32]));
    let edge = MemoryTarget::new("edge".parse().unwrap());
    let platform = Overskill::builder()
        .tenants(supabase.validator())
        .records(stores.records(Sealer::new(Arc::new(keys), Arc::new(SystemIds))))
        .deploy_with(DeploymentStrategy::prefer(edge.clone()))
        .build()
        .await
        .unwrap();
    let app = AppId::parse("todo42").unwrap();
    let host = platform.gate().system("test", "owns the app", SystemScopes::All).await.unwrap();
    platform.put_app(&host, &AppRecord::new(app.clone(), "Todo", Timestamp::EPOCH)).await.unwrap();
    let todo = platform.open(host.clone(), app.clone()).await.unwrap();
    todo.write([("index.html", "one")]).await.unwrap();
    let outcome = todo.deploy(Environment::Production).await.unwrap().outcome().await.unwrap();
    assert!(matches!(outcome, Outcome::Active { .. }), "{outcome}");

    // The app's users, behind the platform's own gate.
    let scope = Scope::new(app.clone(), Environment::Production);
    let issuer = supabase.issuer().unwrap().granted(platform.gate(), &host);
    let (ada, _) = issuer.issue(&scope, Some(SubjectId::parse("ada").unwrap()), SystemClock.now()).await.unwrap();
    let api = supabase.entities(platform.gate());
    let call = async |scope: &Scope, method: ApiMethod, body: &'static str| {
        let request = ApiRequest::new(scope.clone(), ada.clone(), method, FilePath::parse("entities/Task").unwrap());
        let request = if body.is_empty() { request } else { request.body("application/json", body) };
        api.call(&request).await.unwrap()
    };
    assert_eq!(call(&scope, ApiMethod::Post, r#"{"id":"t1","title":"write tests"}"#).await.status, 201);
    let list = call(&scope, ApiMethod::Get, "").await;
    assert!(list.status == 200 && String::from_utf8_lossy(&list.body).contains("write tests"), "{list:?}");
    // Not in another app, not in another environment, and not the app's sources: the token has the right to data alone.
    let shop = Scope::new(AppId::parse("shop").unwrap(), Environment::Production);
    assert_eq!(call(&shop, ApiMethod::Get, "").await.status, 401);
    let staging = Scope::new(app.clone(), Environment::Staging);
    assert_eq!(call(&staging, ApiMethod::Get, "").await.status, 403);
    let user = platform.gate().admit(&ada, &TenantId::of_app(app.clone())).await.unwrap();
    let e = match platform.open(user.clone(), app).await {
        Ok(opened) => opened.write([("index.html", "mine")]).await.unwrap_err(),
        Err(e) => e,
    };
    assert_eq!(e.kind(), ErrorKind::Denied);
    // A grant of another gate is none.
    let e = supabase.tenants(&before).begin(&user, &scope).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Denied);
    stores.close().await.unwrap();
}
