//! The schema and its transactions: what holds when nobody attacks.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod audit;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tls.rs"]
mod tls;

use futures::StreamExt as _;
use overskill_core::{
    ApiMethod, ApiRequest, ApiUpstream as _, Clock as _, Effect, ErrorKind, FilePath, Right, Rights, Scope, SubjectId,
    SystemClock, SystemScopes, TenantGrant, TestClock, memory::MemoryAudit,
};
use overskill_supabase::{
    Access, ContextKeys, EntityApi, Explorer, ExplorerLimits, Plan, PoolOptions, Query, Server, TenantPool, TenantTx,
    tokio_postgres::types::Type,
};
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use support::{Way, World, key, passwords, scope, server};

async fn put(tx: &TenantTx, id: &str) -> overskill_core::Result<u64> {
    const PUT: &str = "INSERT INTO overskill_data.entities (entity_type, id, data) VALUES ('Todo', $1, '{\"n\": 1}')";
    tx.execute(PUT, &[(&id, Type::TEXT)]).await
}

async fn ids(tx: &TenantTx) -> overskill_core::Result<Vec<String>> {
    let rows = tx.query("SELECT id FROM overskill_data.entities ORDER BY id", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[tokio::test]
async fn each_app_and_environment_has_its_own_rows() {
    for attributes in ["NOBYPASSRLS", "BYPASSRLS"] {
        let world = World::installed_by(attributes).await;
        for way in Way::ALL {
            let pool = world.pool(way);
            assert!(pool.check().await.unwrap().is_ready());
            let (one, other) = (world.grant("ada", "one").await, world.grant("bob", "other").await);
            let mut staging = scope("one");
            staging.environment = overskill_core::Environment::Staging;
            let id = format!("{way:?}");
            pool.with_tenant(&one, &scope("one"), async |tx| put(tx, &id).await).await.unwrap();
            pool.with_tenant(&other, &scope("other"), async |tx| put(tx, &id).await).await.unwrap();
            let seen = async |grant: &TenantGrant, scope: &Scope| {
                pool.with_tenant(grant, scope, async |tx| ids(tx).await).await.unwrap()
            };
            assert!(seen(&one, &scope("one")).await.contains(&id), "{way:?}");
            assert!(seen(&other, &scope("other")).await.contains(&id), "the same id is free elsewhere");
            assert_eq!(seen(&one, &staging).await, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_transaction_ends_with_its_session() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    for way in Way::ALL {
        let (pool, id) = (world.pool(way), format!("{way:?}"));
        pool.with_tenant(&grant, &scope("one"), async |tx| put(tx, &id).await).await.unwrap();
        let ended = pool.begin(&grant, &scope("one")).await.unwrap();
        let other = pool.begin(&grant, &scope("one")).await.unwrap();
        assert_ne!(ended.session(), other.session());
        assert!(ids(&ended).await.unwrap().contains(&id));
        let until = SystemClock.now().plus(Duration::from_mins(10));
        world.schema.revoke(&world.system, ended.session(), until).await.unwrap();
        assert_eq!(ids(&ended).await.unwrap(), Vec::<String>::new(), "{way:?}");
        assert_eq!(put(&ended, "late").await.unwrap_err().kind(), ErrorKind::Denied, "{way:?}");
        ended.rollback().await.unwrap();
        // Nobody else's.
        assert!(ids(&other).await.unwrap().contains(&id));
        other.commit().await.unwrap();
    }
}

#[tokio::test]
async fn grants_are_checked_at_each_use() {
    let world = World::new().await;
    let pool = world.pool(Way::Direct);
    let kind = async |grant: &TenantGrant, app: &str| pool.begin(grant, &scope(app)).await.unwrap_err().kind();
    let one = world.grant("ada", "one").await;
    assert_eq!(kind(&one, "other").await, ErrorKind::Denied);
    let weak = world.grant_of("ada", "one", Rights::of([Right::Develop])).await;
    assert_eq!(kind(&weak, "one").await, ErrorKind::Denied, "without Data");
    let stranger = World::new().await;
    assert_eq!(kind(&stranger.grant("ada", "one").await, "one").await, ErrorKind::Denied, "another gate's");
    let some = world.gate.system("test", "one app", SystemScopes::app(scope("one").app)).await.unwrap();
    assert_eq!(world.schema.audit(&some).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(world.schema.audit(&stranger.system).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(world.schema.suspend(&some, &scope("other"), true).await.unwrap_err().kind(), ErrorKind::Denied);
    world.schema.suspend(&some, &scope("one"), true).await.unwrap();
    assert_eq!(kind(&one, "one").await, ErrorKind::Denied, "suspended");
    world.schema.suspend(&some, &scope("one"), false).await.unwrap();
    pool.begin(&one, &scope("one")).await.unwrap().rollback().await.unwrap();
}

#[tokio::test]
async fn installing_again_changes_nothing_and_another_schema_is_refused() {
    let world = World::new().await;
    let pool = world.pool(Way::Direct);
    let grant = world.grant("ada", "one").await;
    pool.with_tenant(&grant, &scope("one"), async |tx| put(tx, "kept").await).await.unwrap();
    world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap();
    let seen = pool.with_tenant(&grant, &scope("one"), async |tx| ids(tx).await).await.unwrap();
    assert_eq!(seen, ["kept"]);
    world.cluster.execute(support::DATABASE, "UPDATE overskill_guard.migrations SET checksum = 'x'").unwrap();
    let e = world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap_err();
    assert!(e.to_string().contains("migration 1 (tenants)"), "{e}");
    world.cluster.execute(support::DATABASE, "UPDATE overskill_guard.migrations SET version = version + 98").unwrap();
    let e = world.schema.install(&world.system, &passwords(), &world.keys).await.unwrap_err();
    assert!(e.to_string().contains("version 99") && e.to_string().contains("update"), "{e}");
}

#[tokio::test]
async fn concurrent_installs_of_one_schema_are_one() {
    let world = World::bare("NOBYPASSRLS").await;
    let installing = (0..4).map(|_| async { world.schema.install(&world.system, &passwords(), &world.keys).await });
    for done in futures::future::join_all(installing).await {
        done.unwrap();
    }
    assert_eq!(world.schema.audit(&world.system).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn policies_do_not_grow_with_the_number_of_apps() {
    let world = World::new().await;
    let count = async || {
        let client = world.raw(Way::Direct, "host").await;
        client.query_one("SELECT count(*) FROM pg_policy", &[]).await.unwrap().get::<_, i64>(0)
    };
    let before = count().await;
    let pool = world.pool(Way::Direct);
    for n in 0..20 {
        let app = format!("app{n}");
        let grant = world.grant("ada", &app).await;
        pool.with_tenant(&grant, &scope(&app), async |tx| put(tx, "x").await).await.unwrap();
    }
    assert_eq!(count().await, before);
    assert!((5..100).contains(&before), "{before}");
}

#[tokio::test]
async fn keys_rotate_without_a_gap() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    let both = world.keys.clone().accept(key("k2", 9));
    let old_pool = world.pool(Way::Direct);
    let server = server(&world.url(Way::Direct, "overskill_app"));
    let alone = ContextKeys::new(key("k2", 9));
    let new_pool = TenantPool::new(server, world.gate.clone(), alone.clone(), PoolOptions::new());
    let opens = async |pool: &TenantPool| match pool.begin(&grant, &scope("one")).await {
        Ok(tx) => tx.rollback().await.map(|()| true).unwrap(),
        Err(e) => {
            assert!(e.to_string().contains("install the key"), "{e}");
            false
        }
    };
    assert_eq!((opens(&old_pool).await, opens(&new_pool).await), (true, false));
    world.schema.keys(&world.system, &both).await.unwrap();
    assert_eq!((opens(&old_pool).await, opens(&new_pool).await), (true, true));
    world.schema.keys(&world.system, &alone).await.unwrap();
    assert_eq!((opens(&old_pool).await, opens(&new_pool).await), (false, true));
}

#[tokio::test]
async fn a_failure_that_was_swallowed_is_not_committed() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    for way in Way::ALL {
        let pool = world.pool(way);
        let swallowed = async |tx: &TenantTx| {
            put(tx, "one").await?;
            assert_eq!(put(tx, "one").await.unwrap_err().kind(), ErrorKind::Conflict);
            Ok(())
        };
        let e = pool.with_tenant(&grant, &scope("one"), swallowed).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Conflict, Effect::None), "{e}");
        let seen = pool.with_tenant(&grant, &scope("one"), async |tx| ids(tx).await).await.unwrap();
        assert_eq!(seen, Vec::<String>::new());
        let e = pool.begin_read_only(&grant, &scope("one")).await.unwrap();
        assert_eq!(put(&e, "two").await.unwrap_err().kind(), ErrorKind::Denied, "read only");
    }
}

/// As by a timeout of the host's own, or a stream that is read as far as it is wanted.
#[tokio::test]
async fn a_failure_that_nobody_waited_for_is_not_committed() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    for way in Way::ALL {
        let pool = world.pool(way);
        let statement = async |tx: &TenantTx| {
            put(tx, "one").await?;
            let mut given_up = std::pin::pin!(tx.query("SELECT 1 / 0", &[]));
            assert!(futures::poll!(given_up.as_mut()).is_pending(), "it is sent, and not answered");
            Ok(())
        };
        let stream = async |tx: &TenantTx| {
            put(tx, "one").await?;
            let mut rows =
                std::pin::pin!(tx.query_stream("SELECT 1 / (3 - n) FROM generate_series(1, 9) n", &[]).await?);
            assert_eq!(rows.next().await.unwrap()?.get::<_, i32>(0), 0);
            Ok(())
        };
        for refused in [
            pool.with_tenant(&grant, &scope("one"), statement).await,
            pool.with_tenant(&grant, &scope("one"), stream).await,
        ] {
            let e = refused.unwrap_err();
            assert_eq!((e.kind(), e.effect()), (ErrorKind::Conflict, Effect::None), "{way:?}: {e}");
            let seen = pool.with_tenant(&grant, &scope("one"), async |tx| ids(tx).await).await.unwrap();
            assert_eq!(seen, Vec::<String>::new(), "{way:?}");
        }
    }
}

#[tokio::test]
async fn a_dropped_transaction_ends_and_leaves_nothing() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    for way in Way::ALL {
        let options = PoolOptions::new()
            .connections(NonZeroU32::MIN)
            .plans(|_| Plan::new("patient").wait(Duration::from_mins(1)).statement_timeout(Duration::from_mins(10)));
        let pool = world.pool_with(way, "overskill_app", options);
        let one = scope("one");
        let work = pool.with_tenant(&grant, &one, async |tx| {
            put(tx, "lost").await?;
            tx.query("SELECT pg_sleep(500)", &[]).await
        });
        // Long enough for the sleep to have begun; if it has not, the test shows less but is not wrong.
        assert!(tokio::time::timeout(Duration::from_millis(500), work).await.is_err());
        let seen = pool.with_tenant(&grant, &scope("one"), async |tx| ids(tx).await).await.unwrap();
        assert_eq!(seen, Vec::<String>::new(), "{way:?}");
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
        let watcher = world.raw(Way::Direct, "postgres").await;
        let mut left = -1_i64;
        for _ in 0..200 {
            left = watcher.query_one(sleeping, &[]).await.unwrap().get(0);
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(left, 0, "the server goes on sleeping for nobody");
    }
}

#[tokio::test]
async fn connections_that_were_cut_are_replaced() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    let pool = world.pool(Way::Direct);
    pool.with_tenant(&grant, &scope("one"), async |tx| put(tx, "kept").await).await.unwrap();
    world.cluster.restart().unwrap();
    let seen = pool.with_tenant(&grant, &scope("one"), async |tx| ids(tx).await).await.unwrap();
    assert_eq!(seen, ["kept"]);
    world.cluster.kill().unwrap();
    let e = pool.begin(&grant, &scope("one")).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e}");
}

#[tokio::test]
async fn a_transaction_that_outlasts_its_grant_is_not_committed() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    let clock = TestClock::at(SystemClock.now());
    let options = PoolOptions::new().clock(clock.clone());
    let pool = world.pool_with(Way::Direct, "overskill_app", options);
    let e = pool
        .with_tenant(&grant, &scope("one"), async |tx| {
            put(tx, "late").await?;
            clock.advance(Duration::from_mins(2));
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Timeout, Effect::None), "{e}");
}

/// Who may read and write is said for each kind of records, by developers of the app.
#[tokio::test]
async fn owners_rules_hold_inside_an_app() {
    const CHANGE: &str = "UPDATE overskill_data.entities SET data = '{\"n\": 2}'";
    let world = World::new().await;
    let developer = world.grant_of("dev", "one", Rights::ALL).await;
    for way in Way::ALL {
        let pool = world.pool(way);
        let ada = world.grant("ada", "one").await;
        let bob = world.grant("bob", "one").await;
        let visitor = world.grant(SubjectId::visitor().as_str(), "one").await;
        let define = async |who: Access| {
            let work = async |tx: &TenantTx| tx.define("Todo", who, &[("n1", "n")]).await;
            pool.with_tenant(&developer, &scope("one"), work).await.unwrap();
        };
        let refused = async |tx: &TenantTx| tx.define("Todo", Access::Owner, &[]).await;
        let e = pool.with_tenant(&ada, &scope("one"), refused).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Denied, "no developer");
        for (entity, column, field) in [("To-do", "t1", "a"), ("Todo", "t9", "a"), ("Todo", "t1", "a b")] {
            let wrong = async |tx: &TenantTx| tx.define(entity, Access::Owner, &[(column, field)]).await;
            let e = pool.with_tenant(&developer, &scope("one"), wrong).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Invalid, "{entity} {column} {field}: {e}");
        }
        let id = format!("{way:?}");
        let can = async |grant: &TenantGrant| {
            let work = async |tx: &TenantTx| Ok((ids(tx).await?.contains(&id), tx.execute(CHANGE, &[]).await? > 0));
            pool.with_tenant(grant, &scope("one"), work).await.unwrap()
        };
        define(Access::Owner).await;
        pool.with_tenant(&ada, &scope("one"), async |tx| put(tx, &id).await).await.unwrap();
        assert_eq!(
            (can(&ada).await, can(&bob).await, can(&visitor).await),
            ((true, true), (false, false), (false, false))
        );
        let e = pool.with_tenant(&visitor, &scope("one"), async |tx| put(tx, "nobodys").await).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Denied, "what visitors own nobody owns");
        define(Access::OwnerWrites).await;
        assert_eq!(
            (can(&ada).await, can(&bob).await, can(&visitor).await),
            ((true, true), (true, false), (true, false))
        );
        define(Access::Everybody).await;
        assert_eq!((can(&ada).await, can(&bob).await, can(&visitor).await), ((true, true), (true, true), (true, true)));
        let explorer = world.pool_with(way, "overskill_explorer", PoolOptions::new().right(Right::Develop));
        define(Access::Owner).await;
        let tx = explorer.begin_read_only(&developer, &scope("one")).await.unwrap();
        assert!(ids(&tx).await.unwrap().contains(&id), "developers see all of their app");
        tx.rollback().await.unwrap();
        assert_eq!(explorer.begin(&ada, &scope("one")).await.unwrap_err().kind(), ErrorKind::Denied);
    }
}

#[tokio::test]
async fn a_statement_is_cancelled_in_the_server() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    let options = || PoolOptions::new().plans(|_| Plan::new("patient").statement_timeout(Duration::from_mins(10)));
    for way in Way::ALL {
        let pool = world.pool_with(way, "overskill_app", options());
        let tx = pool.begin(&grant, &scope("one")).await.unwrap();
        let canceller = tx.canceller();
        let cancelling = async {
            // It may come before the statement does; then it is asked again.
            loop {
                canceller.cancel().await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let slept = tokio::select! {
            slept = tx.query("SELECT pg_sleep(500)", &[]) => slept,
            () = cancelling => unreachable!("it has no end"),
        };
        assert_eq!(slept.unwrap_err().kind(), ErrorKind::Timeout, "{way:?}");
        tx.rollback().await.unwrap();
        // What lies between has survived it.
        pool.with_tenant(&grant, &scope("one"), async |tx| ids(tx).await).await.unwrap();
    }
}

#[tokio::test]
async fn statements_end_in_the_time_of_their_plan() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    let brief = PoolOptions::new().plans(|_| Plan::new("brief").statement_timeout(Duration::from_millis(50)));
    let pool = world.pool_with(Way::Pooled, "overskill_app", brief);
    let slept = pool.with_tenant(&grant, &scope("one"), async |tx| tx.query("SELECT pg_sleep(500)", &[]).await).await;
    assert_eq!(slept.unwrap_err().kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn the_platforms_records_are_out_of_reach() {
    let world = World::new().await;
    // What Supabase's defaults would open.
    world.cluster.execute(support::DATABASE, "GRANT CREATE, CONNECT ON DATABASE tenants TO host").unwrap();
    let defaults = "ALTER DEFAULT PRIVILEGES FOR ROLE host GRANT ALL ON TABLES TO anon, authenticated, service_role, overskill_app; \
                    ALTER DEFAULT PRIVILEGES FOR ROLE host GRANT USAGE ON SCHEMAS TO anon, authenticated, service_role, overskill_app";
    world.cluster.execute(support::DATABASE, defaults).unwrap();
    let options = overskill_sql::postgres::PostgresOptions::new();
    let stores = world.schema.records(&world.system, world.url(Way::Direct, "host"), options).await.unwrap();
    assert!(stores.check().await.unwrap().is_ready());
    let named = overskill_core::AppRecord::new(scope("one").app, "hidden", SystemClock.now());
    overskill_core::AppDirectory::put(&stores.apps(), &named).await.unwrap();
    for (role, become_role) in [
        ("overskill_app", ""),
        ("overskill_explorer", ""),
        ("authenticator", "SET ROLE authenticated"),
        ("authenticator", "SET ROLE anon"),
        ("authenticator", "SET ROLE service_role"),
    ] {
        let client = world.raw(Way::Direct, role).await;
        client.batch_execute(become_role).await.unwrap();
        let e = client.simple_query("SELECT * FROM overskill_records.apps").await.unwrap_err();
        assert_eq!(e.code().unwrap().code(), "42501", "{role} {become_role}: {e}");
    }
    world.cluster.execute(support::DATABASE, "GRANT USAGE ON SCHEMA overskill_records TO service_role").unwrap();
    let found = world.schema.audit(&world.system).await.unwrap();
    assert!(found.iter().any(|finding| finding.contains("overskill_records")), "{found:?}");
    stores.close().await.unwrap();
}

#[tokio::test]
async fn without_a_clock_or_a_server_everything_stays_closed() {
    let world = World::new().await;
    let grant = world.grant("ada", "one").await;
    let late = TestClock::at(SystemClock.now().minus(Duration::from_hours(3)));
    let behind = world.pool_with(Way::Direct, "overskill_app", PoolOptions::new().clock(late));
    let e = behind.begin(&grant, &scope("one")).await.unwrap_err();
    assert!(e.kind() == ErrorKind::Unavailable && e.to_string().contains("compare the clocks"), "{e}");
    let developer = world.grant_of("dev", "one", Rights::of([Right::Develop])).await;
    let (server, audit) = (server(&world.url(Way::Direct, "overskill_explorer")), MemoryAudit::new());
    let (gate, keys) = (world.gate.clone(), world.keys.clone());
    let explorer = Explorer::new(server, gate, keys, Arc::new(audit), ExplorerLimits::new()).unwrap();
    let (one, query) = (scope("one"), Query::new("SELECT id FROM Todo"));
    assert_eq!(explorer.table(&developer, &one, &query).await.unwrap().rows.len(), 0);
    let api = EntityApi::new(world.pool(Way::Direct));
    let path = FilePath::parse("entities/Todo").unwrap();
    let token = world.token("ada", "one", Rights::of([Right::Data]));
    let list = ApiRequest::new(scope("one"), token, ApiMethod::Get, path);
    assert_eq!(api.call(&list).await.unwrap().status, 200);
    world.cluster.kill().unwrap();
    let e = api.call(&list).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e}");
    assert!(!api.check().await.is_ok_and(|readiness| readiness.is_ready()));
    let e = explorer.table(&developer, &one, &query).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e}");
    let e = world.schema.audit(&world.system).await.unwrap_err();
    assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e}");
}

#[tokio::test]
async fn certificates_are_checked_unless_it_is_said_that_there_are_none() {
    let world = World::new().await;
    let (authority, stranger) = (tls::Authority::new(), tls::Authority::new());
    let grant = world.grant("ada", "one").await;
    let url = |host: &str, mode: &str| {
        let url = world.cluster.tcp_url(support::DATABASE).replacen(
            "postgres@127.0.0.1",
            &format!("overskill_app@{host}"),
            1,
        );
        format!("{url}?sslmode={mode}")
    };
    let begin = async |server: Server| {
        let pool = TenantPool::new(server, world.gate.clone(), world.keys.clone(), PoolOptions::new());
        let tx = pool.begin(&grant, &scope("one")).await?;
        let has = tx.query("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await?;
        tx.commit().await.map(|()| has[0].get::<_, bool>(0))
    };
    let trusting = |host: &str, authority: &tls::Authority| {
        server(&url(host, "require")).trusting(authority.pem().as_bytes()).unwrap()
    };
    let refused = async |server: Server, word: &str| {
        let e = begin(server).await.unwrap_err();
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unavailable, Effect::None), "{e}");
        assert!(e.to_string().contains("no TLS with the database") && e.to_string().contains(word), "{word}: {e}");
    };
    refused(trusting("localhost", &authority), "does not support TLS").await;
    authority.certify(&world.cluster, "localhost");
    // The server takes its new settings a moment later.
    let mut has = begin(trusting("localhost", &authority)).await;
    for _ in 0..500 {
        if has.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        has = begin(trusting("localhost", &authority)).await;
    }
    assert!(has.unwrap(), "it is a connection with TLS");
    assert!(!begin(server(&url("localhost", "disable"))).await.unwrap(), "without, because it was said");
    refused(server(&url("localhost", "require")), "UnknownIssuer").await;
    refused(trusting("localhost", &stranger), "certificate").await;
    refused(trusting("127.0.0.1", &authority), "not valid for name").await;
    let e = Server::parse(&url("localhost", "prefer").as_str().into()).unwrap_err();
    assert!(e.message().contains("say `require`"), "{e}");
    // A statement is cancelled over TLS too.
    let pool =
        TenantPool::new(trusting("localhost", &authority), world.gate.clone(), world.keys.clone(), PoolOptions::new());
    let tx = pool.begin(&grant, &scope("one")).await.unwrap();
    let canceller = tx.canceller();
    let cancelling = async {
        loop {
            canceller.cancel().await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let slept = tokio::select! {
        slept = tx.query("SELECT pg_sleep(5)", &[]) => slept,
        () = cancelling => unreachable!("it has no end"),
    };
    assert_eq!(slept.unwrap_err().kind(), ErrorKind::Timeout);
}
