//! What somebody who writes to the database by hand cannot do unnoticed.
#![cfg(feature = "sqlite")]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::Folder;
use overskill_core::{
    Actor, Artifact, AuditEntry, AuditLog, BundleStore, Changes, DeploymentId, Effect, EnvChanges, EnvKey, EnvRevision,
    EnvStore, EnvValue, ErrorKind, FilePath, FileStore, LocalKeyProvider, Scope, Sealer, SystemIds, Timestamp,
};
use overskill_sql::{
    SqliteOptions, SqliteStores,
    sqlite::{Durability, Env},
};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection, query, query_scalar};
use std::{num::NonZeroU32, sync::Arc};

struct Opened {
    stores: SqliteStores,
    by_hand: SqliteConnection,
    _folder: Folder,
}

async fn open(options: SqliteOptions) -> Opened {
    let folder = Folder::new();
    let stores = SqliteStores::open(folder.db(), options.durability(Durability::Normal)).await.unwrap();
    let by_hand = SqliteConnection::connect(&format!("sqlite://{}", folder.db().display())).await.unwrap();
    Opened { stores, by_hand, _folder: folder }
}

fn sealer() -> Sealer {
    Sealer::new(Arc::new(LocalKeyProvider::generate(&SystemIds)), Arc::new(SystemIds))
}

/// A sealed value, where it is and what it is.
struct Secret {
    scope: Scope,
    key: &'static str,
    revision: EnvRevision,
    value: String,
}

/// 16 secrets: two apps, two environments, two names, two revisions.
async fn secrets(env: &Env) -> Vec<Secret> {
    let mut all = Vec::new();
    for scope in ["todo42/staging", "todo42/production", "todo43/staging", "todo43/production"] {
        let scope: Scope = scope.parse().unwrap();
        for n in 0..2 {
            let value = |key| format!("{key} of {scope}, {n}");
            let set = |changes: EnvChanges, key| changes.set(EnvKey::parse(key).unwrap(), EnvValue::sealed(value(key)));
            let changes = ["ONE", "TWO"].into_iter().fold(EnvChanges::new(), set);
            let revision = env.put(&scope, &changes, None).await.unwrap();
            all.extend(["ONE", "TWO"].map(|key| Secret { scope: scope.clone(), key, revision, value: value(key) }));
        }
    }
    all
}

#[tokio::test]
async fn sealed_values_that_were_swapped_are_refused_whichever_they_are() {
    let Opened { stores, mut by_hand, _folder } = open(SqliteOptions::new()).await;
    let env = stores.env(sealer());
    let all = secrets(&env).await;
    assert_eq!(all.len(), 16);
    let mut sealed = Vec::new();
    for secret in &all {
        let read = "SELECT sealed FROM env_values WHERE app || '/' || environment = $1 AND key = $2 AND seq = $3";
        let bytes: Vec<u8> = query_scalar(read)
            .bind(secret.scope.to_string())
            .bind(secret.key)
            .bind(i64::try_from(secret.revision.0.seq).unwrap())
            .fetch_one(&mut by_hand)
            .await
            .unwrap();
        assert!(!bytes.windows(4).any(|w| w == b" of "), "a value is stored as it is");
        sealed.push(bytes);
    }
    let mut refused = 0;
    for (i, there) in all.iter().enumerate() {
        for (j, bytes) in sealed.iter().enumerate() {
            let put =
                "UPDATE env_values SET sealed = $4 WHERE app || '/' || environment = $1 AND key = $2 AND seq = $3";
            query(put)
                .bind(there.scope.to_string())
                .bind(there.key)
                .bind(i64::try_from(there.revision.0.seq).unwrap())
                .bind(bytes)
                .execute(&mut by_hand)
                .await
                .unwrap();
            let got = env.get(&there.scope, there.revision).await;
            if i == j {
                assert_eq!(got.unwrap().values[&EnvKey::parse(there.key).unwrap()].expose(), there.value);
            } else {
                let e = got.expect_err("a value from another row opens");
                assert_eq!((e.kind(), e.effect()), (ErrorKind::Unexpected, Effect::None), "{e}");
                assert!(!format!("{e} {e:?}").contains(" of "), "an error shows a value");
                refused += 1;
            }
            if j + 1 == sealed.len() {
                query(put)
                    .bind(there.scope.to_string())
                    .bind(there.key)
                    .bind(i64::try_from(there.revision.0.seq).unwrap())
                    .bind(&sealed[i])
                    .execute(&mut by_hand)
                    .await
                    .unwrap();
            }
        }
    }
    assert_eq!(refused, 16 * 15);
}

#[tokio::test]
async fn rows_of_variables_that_make_no_sense_are_refused() {
    let Opened { stores, mut by_hand, _folder } = open(SqliteOptions::new()).await;
    let env = stores.env(sealer());
    let secret = secrets(&env).await.remove(0);
    for (what, spoil) in [
        ("cut short", "UPDATE env_values SET sealed = substr(sealed, 1, 20)"),
        ("empty", "UPDATE env_values SET sealed = x''"),
        ("of another format", "UPDATE env_values SET sealed = CAST(x'ff' || substr(sealed, 2) AS BLOB)"),
        ("under another key's id", "UPDATE env_values SET key_id = 'other'"),
        ("of another life", "UPDATE env_values SET life = '1'"),
        ("of no life", "UPDATE env_values SET life = 'x'"),
        ("of no name", "UPDATE env_values SET key = '1' WHERE key = 'ONE'"),
    ] {
        query("CREATE TEMP TABLE kept AS SELECT * FROM env_values").execute(&mut by_hand).await.unwrap();
        query(spoil).execute(&mut by_hand).await.unwrap();
        let e = env.get(&secret.scope, secret.revision).await.expect_err(what);
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unexpected, Effect::None), "{what}: {e}");
        for back in ["DELETE FROM env_values", "INSERT INTO env_values SELECT * FROM kept", "DROP TABLE kept"] {
            query(back).execute(&mut by_hand).await.unwrap();
        }
        env.get(&secret.scope, secret.revision).await.expect("everything is as it was");
    }
}

#[tokio::test]
async fn every_change_of_the_audit_log_is_found() {
    const RECORDS: u64 = 1203; // more than two pages
    let Opened { stores, mut by_hand, _folder } = open(SqliteOptions::new()).await;
    let audit = stores.audit();
    let scope: Scope = "todo42/production".parse().unwrap();
    for n in 0..RECORDS {
        let entry = AuditEntry::new(Timestamp::from_unix_millis(7), Actor::System("host".into()), format!("a{n}"));
        audit.append(&if n % 2 == 0 { entry.in_scope(scope.clone()) } else { entry.detail("d") }).await.unwrap();
    }
    assert_eq!(audit.verify().await.unwrap(), RECORDS);
    query("CREATE TEMP TABLE kept AS SELECT * FROM audit").execute(&mut by_hand).await.unwrap();
    query("CREATE TEMP TABLE kept_head AS SELECT * FROM audit_head").execute(&mut by_hand).await.unwrap();
    for (what, spoil, named) in [
        ("another detail", "UPDATE audit SET detail = 'forged' WHERE seq = 2", 2),
        ("another time", "UPDATE audit SET at_ms = 8 WHERE seq = 500", 500),
        ("another actor", "UPDATE audit SET actor_kind = 'subject' WHERE seq = 501", 501),
        ("another place", "UPDATE audit SET app = NULL, environment = NULL WHERE seq = 1001", 1001),
        ("half a place", "UPDATE audit SET app = NULL WHERE seq = 1001", 1001),
        ("another action", "UPDATE audit SET action = 'b' WHERE seq = 1", 1),
        ("another digest", "UPDATE audit SET digest = previous WHERE seq = 1203", 1203),
        ("one taken out", "DELETE FROM audit WHERE seq = 700", 701),
        ("the first taken out", "DELETE FROM audit WHERE seq = 1", 2),
        ("the last taken out", "DELETE FROM audit WHERE seq = 1203", 1203),
        ("all taken out", "DELETE FROM audit", 1),
        ("all taken out with the head", "DELETE FROM audit_head", 1204),
        (
            "one put in at the end",
            "INSERT INTO audit SELECT 1204, substr(position, 1, instr(position, ':')) || '1204', at_ms, actor_kind, actor,
                action, app, environment, detail, digest, digest FROM audit WHERE seq = 1203",
            1204,
        ),
        (
            "two exchanged",
            "UPDATE audit SET seq = -seq WHERE seq IN (10, 11); UPDATE audit SET seq = 21 + seq WHERE seq < 0",
            10,
        ),
    ] {
        sqlx::raw_sql(spoil).execute(&mut by_hand).await.unwrap();
        let e = audit.verify().await.expect_err(what);
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unexpected, Effect::None), "{what}: {e}");
        let shown = e.to_string();
        assert!(shown.ends_with(&format!(":{named}")) || shown.contains(&format!("record={named}")), "{what}: {shown}");
        for back in [
            "DELETE FROM audit",
            "INSERT INTO audit SELECT * FROM kept",
            "DELETE FROM audit_head",
            "INSERT INTO audit_head SELECT * FROM kept_head",
        ] {
            query(back).execute(&mut by_hand).await.unwrap();
        }
    }
    assert_eq!(audit.verify().await.unwrap(), RECORDS);
}

#[tokio::test]
async fn nothing_is_built_from_damaged_contents() {
    let Opened { stores, mut by_hand, _folder } = open(SqliteOptions::new()).await;
    let (files, bundles) = (stores.files(), stores.bundles());
    let (scope, path): (Scope, _) = ("todo42/production".parse().unwrap(), FilePath::parse("a").unwrap());
    let start = files.snapshot(&scope).await.unwrap().position;
    files.apply(&scope, &Changes::new().put(path.clone(), "contents"), None).await.unwrap();
    let artifact = Artifact::of_assets([(path.clone(), "contents".into())]).unwrap();
    let digest = bundles.put(&artifact, Timestamp::EPOCH).await.unwrap();
    bundles.hold(&scope, digest, DeploymentId::generate(&SystemIds, Timestamp::EPOCH)).await.unwrap();
    assert!(bundles.get(&scope, digest).await.unwrap().is_some());

    for table in ["file_contents", "blobs"] {
        let spoil = format!("UPDATE {table} SET bytes = CAST('Contents' AS BLOB)");
        query(AssertSqlSafe(spoil)).execute(&mut by_hand).await.unwrap();
    }
    for e in [
        files.snapshot(&scope).await.expect_err("a damaged snapshot"),
        files.changes_since(&scope, start).await.expect_err("a damaged history"),
        bundles.get(&scope, digest).await.expect_err("a damaged artifact"),
    ] {
        assert_eq!((e.kind(), e.effect()), (ErrorKind::Unexpected, Effect::None), "{e}");
    }
}

#[tokio::test]
async fn contents_go_with_the_last_that_names_them() {
    let Opened { stores, mut by_hand, _folder } = open(SqliteOptions::new().history(2)).await;
    let files = stores.files();
    let path = |s| FilePath::parse(s).unwrap();
    let (a, b): (Scope, Scope) = ("todo42/development".parse().unwrap(), "todo43/development".parse().unwrap());
    let mut kept = async || -> Vec<String> {
        let read = "SELECT CAST(bytes AS TEXT) FROM file_contents ORDER BY 1";
        query_scalar(read).fetch_all(&mut by_hand).await.unwrap()
    };
    let apply = async |scope: &Scope, changes| files.apply(scope, &changes, None).await.unwrap();
    let template = || Changes::new().put(path("x"), "template").put(path("y"), "template");
    apply(&a, template()).await;
    apply(&b, template()).await;
    assert_eq!(kept().await, ["template"], "once, for four files of two apps");

    apply(&a, Changes::new().put(path("x"), "1")).await;
    apply(&a, Changes::new().put(path("x"), "2")).await;
    assert_eq!(kept().await, ["1", "2", "template"], "history still needs `1`");
    apply(&a, Changes::new().put(path("x"), "3")).await;
    assert_eq!(kept().await, ["2", "3", "template"], "nobody needs `1` any more");
    apply(&a, Changes::new().delete(path("x")).delete(path("y"))).await;
    apply(&a, Changes::new().put(path("z"), "4")).await;
    apply(&a, Changes::new().put(path("z"), "5")).await;
    assert_eq!(kept().await, ["4", "5", "template"], "the other app still has the template");
    apply(&b, Changes::new().delete(path("x")).delete(path("y"))).await;
    apply(&b, Changes::new().delete(path("x"))).await;
    apply(&b, Changes::new().delete(path("x"))).await;
    assert_eq!(kept().await, ["4", "5"]);
    // Removed and put again in one step, when nothing else names it.
    apply(&a, Changes::new().put(path("z"), "6")).await;
    apply(&a, Changes::new().put(path("z"), "4")).await;
    assert_eq!(kept().await, ["4", "6"]);
    assert_eq!(files.get(&a, &path("z")).await.unwrap().unwrap().contents(), "4");
    let listed = files.list(&a, None, NonZeroU32::MAX).await.unwrap();
    assert_eq!(listed.items.len(), 1);
}
