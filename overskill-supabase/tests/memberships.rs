//! Memberships in Postgres: the same rules as in memory, kept, and out of reach of tenants.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/mod.rs"]
mod support;

use overskill_core::{
    AppId, DataKey, ErrorKind, KeyId, LocalKeys, LocalTokens, Right, Rights, SubjectId, SystemClock, SystemGrant,
    SystemScopes, TenantGate, Timestamp, memory::MemoryAudit,
};
use overskill_supabase::{Membership, MembershipKeys, Memberships, MemoryMemberships, PostgresMemberships, Server};
use std::sync::Arc;
use support::{Way, World};

fn keys() -> MembershipKeys {
    MembershipKeys::new(KeyId::parse("m1").unwrap(), DataKey::from_bytes([7; 32]))
}

fn member(subject: &str, tenant: &str, rights: Rights) -> Membership {
    keys().attest(
        subject.parse().unwrap(),
        tenant.parse().unwrap(),
        rights,
        Timestamp::from_unix_millis(1_767_225_600_123),
    )
}

async fn holds(store: &dyn Memberships, gate: &TenantGate, grant: &SystemGrant) {
    let (ada, todo): (SubjectId, AppId) = ("ada|@1".parse().unwrap(), "todo".parse().unwrap());
    assert!(store.check().await.unwrap().is_ready());
    assert_eq!(store.find(&ada, &todo).await.unwrap(), None);
    assert!(!store.remove(gate, grant, &ada, &todo).await.unwrap());
    let whole = member("ada|@1", "app_todo_tenant", Rights::of([Right::Data, Right::Develop]));
    let other = member("ada|@1", "app_shop_user_ada|@1", Rights::NONE);
    for row in [&whole, &other] {
        store.put(gate, grant, row).await.unwrap();
    }
    assert_eq!(store.find(&ada, &todo).await.unwrap().as_ref(), Some(&whole));
    assert_eq!(store.find(&ada, &"shop".parse().unwrap()).await.unwrap().as_ref(), Some(&other));
    assert_eq!(store.find(&"ad".parse().unwrap(), &todo).await.unwrap(), None);
    let less = member("ada|@1", "app_todo_user_ada|@1", Rights::of([Right::Data]));
    store.put(gate, grant, &less).await.unwrap();
    let found = store.find(&ada, &todo).await.unwrap().unwrap();
    assert!(found == less && keys().attests(&found));
    // Not with a grant for another app, for one environment, or of another gate.
    let shop = gate.system("test", "one app", SystemScopes::app("shop".parse().unwrap())).await.unwrap();
    let only = SystemScopes::Only(["todo/production".parse().unwrap()].into());
    let only = gate.system("test", "one environment", only).await.unwrap();
    let elsewhere = Arc::new(MemoryAudit::new());
    let elsewhere = TenantGate::new(Arc::new(LocalTokens::new(local()).validator()), elsewhere, Arc::new(SystemClock));
    let other = elsewhere.system("test", "another gate", SystemScopes::All).await.unwrap();
    for grant in [&shop, &only, &other] {
        assert_eq!(store.put(gate, grant, &whole).await.unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(store.remove(gate, grant, &ada, &todo).await.unwrap_err().kind(), ErrorKind::Denied);
    }
    assert_eq!(store.find(&ada, &todo).await.unwrap().as_ref(), Some(&less));
    assert!(store.remove(gate, grant, &ada, &todo).await.unwrap());
    assert_eq!(store.find(&ada, &todo).await.unwrap(), None);
}

fn local() -> LocalKeys {
    LocalKeys::generate(KeyId::parse("local").unwrap()).unwrap()
}

#[tokio::test]
async fn memory_and_postgres_hold_alike() {
    let world = World::bare("NOBYPASSRLS").await;
    let (gate, grant) = (&world.gate, &world.system);
    holds(&MemoryMemberships::new(), gate, grant).await;
    for way in Way::ALL {
        let store = PostgresMemberships::new(Server::parse(&world.url(way, "host").as_str().into()).unwrap());
        if way == Way::Direct {
            assert!(!store.check().await.unwrap().is_ready());
        }
        for _ in 0..2 {
            store.install(gate, grant).await.unwrap();
        }
        holds(&store, gate, grant).await;
    }
}

#[tokio::test]
async fn no_tenants_role_reaches_them() {
    let world = World::new().await;
    // What Supabase's defaults would open.
    world.execute(
        "ALTER DEFAULT PRIVILEGES FOR ROLE host GRANT ALL ON TABLES TO anon, authenticated, service_role, overskill_app; \
         ALTER DEFAULT PRIVILEGES FOR ROLE host GRANT USAGE ON SCHEMAS TO anon, authenticated, service_role, overskill_app",
    );
    let store = PostgresMemberships::new(Server::parse(&world.url(Way::Direct, "host").as_str().into()).unwrap());
    store.install(&world.gate, &world.system).await.unwrap();
    store.put(&world.gate, &world.system, &member("ada", "app_todo_tenant", Rights::ALL)).await.unwrap();
    assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new());
    for (role, become_role) in [
        ("overskill_app", ""),
        ("overskill_explorer", ""),
        ("authenticator", ""),
        ("authenticator", "SET ROLE authenticated"),
        ("authenticator", "SET ROLE anon"),
        ("authenticator", "SET ROLE service_role"),
    ] {
        let client = world.raw(Way::Direct, role).await;
        client.batch_execute(become_role).await.unwrap();
        for sql in [
            "SELECT * FROM overskill_members.memberships",
            "INSERT INTO overskill_members.memberships SELECT * FROM overskill_members.memberships",
            "UPDATE overskill_members.memberships SET rights = 'data develop operate'",
            "DELETE FROM overskill_members.memberships",
        ] {
            let e = client.batch_execute(sql).await.unwrap_err();
            assert_eq!(
                e.code().map(overskill_supabase::tokio_postgres::error::SqlState::code),
                Some("42501"),
                "{role} {become_role}: {sql}"
            );
        }
    }
    world.execute("GRANT USAGE ON SCHEMA overskill_members TO service_role");
    let found = world.schema.audit(&world.system).await.unwrap();
    assert!(found.iter().any(|finding| finding.contains("service_role may use schema overskill_members")), "{found:?}");
    // Installing once more closes it again.
    store.install(&world.gate, &world.system).await.unwrap();
    assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new());
    // Who owns the database may write a row, and it is nobody's membership.
    let raw = world.raw(Way::Direct, "host").await;
    raw.batch_execute("UPDATE overskill_members.memberships SET subject = 'bob'").await.unwrap();
    let forged = store.find(&"bob".parse().unwrap(), &"todo".parse().unwrap()).await.unwrap().unwrap();
    assert!(!keys().attests(&forged));
    raw.batch_execute("UPDATE overskill_members.memberships SET rights = 'root'").await.unwrap();
    let e = store.find(&"bob".parse().unwrap(), &"todo".parse().unwrap()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unexpected);
    world.cluster.kill().unwrap();
    let e = store.find(&"bob".parse().unwrap(), &"todo".parse().unwrap()).await.unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Unavailable);
}
