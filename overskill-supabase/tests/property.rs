//! Random work of random subjects of random apps, against a model: never a foreign row, never a lost one of one's own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_core::{ErrorKind, IdsExt as _, Rights, SeededIds, SubjectId, SystemIds, TenantGrant};
use overskill_supabase::{
    Plan, PoolOptions, TenantPool, TenantTx,
    tokio_postgres::types::{ToSql, Type},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};
use support::{Way, World, scope};

/// How many rows are asked for, written or looked at, altogether.
const OPERATIONS: usize = 100_000;
/// At a time, in one transaction.
const BATCH: usize = 100;
const KINDS: [&str; 3] = ["Private", "Listed", "Shared"];
const WORKERS: usize = 4;

type Key = (&'static str, String);

#[derive(Clone, Debug)]
struct Record {
    owner: String,
    data: Value,
    deleted: bool,
}

/// One app, as it should be.
#[derive(Clone, Default)]
struct Model {
    records: BTreeMap<Key, Record>,
    access: BTreeMap<&'static str, i16>,
}

impl Model {
    fn may_see(&self, key: &Key, record: &Record, person: Option<&str>) -> bool {
        self.access[key.0] >= 1 || person == Some(record.owner.as_str())
    }

    fn may_change(&self, key: &Key, record: &Record, person: Option<&str>) -> bool {
        self.access[key.0] == 2 || person == Some(record.owner.as_str())
    }
}

struct Worker {
    random: SeededIds,
    pools: [TenantPool; 2],
    apps: Vec<(String, Model, Vec<TenantGrant>, TenantGrant)>,
    done: usize,
    counts: BTreeMap<&'static str, usize>,
}

#[test]
fn nobody_ever_sees_or_loses_anything() {
    let seed =
        std::env::var("OVERSKILL_PROPERTY_SEED").ok().map_or_else(|| SystemIds.random_u64(), |s| s.parse().unwrap());
    println!("OVERSKILL_PROPERTY_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::new().await);
        let many = NonZeroU32::new(8).unwrap();
        let options = || {
            let plan = Plan::new("test").connections_per_app(many).wait(Duration::from_mins(2));
            PoolOptions::new().plans(move |_| plan.statement_timeout(Duration::from_mins(1)))
        };
        let pools = Way::ALL.map(|way| world.pool_with(way, "overskill_app", options()));
        let work = (0..WORKERS).map(|n| {
            let (world, pools) = (world.clone(), pools.clone());
            tokio::spawn(async move {
                let mut worker = Worker::new(&world, pools, n, seed).await;
                while worker.done < OPERATIONS / WORKERS {
                    worker.step().await;
                }
                worker.look_at_all().await;
                (worker.done, worker.counts)
            })
        });
        let (mut all, mut counts) = (0, BTreeMap::new());
        for worker in futures::future::join_all(work).await {
            let (done, what_was) = worker.unwrap();
            all += done;
            for (what, n) in what_was {
                *counts.entry(what).or_insert(0) += n;
            }
        }
        println!("{all} operations: {counts:?}");
        assert!(all >= OPERATIONS);
        for what in
            ["inserted", "taken", "changed", "untouched", "deleted", "seen", "hidden", "undone", "refused", "redefined"]
        {
            assert!(counts.get(what).is_some_and(|n| *n > 0), "{what} never happened: {counts:?}");
        }
    });
}

impl Worker {
    async fn new(world: &World, pools: [TenantPool; 2], n: usize, seed: u64) -> Self {
        let mut apps = Vec::new();
        for m in 0..3 {
            let app = format!("app{n}x{m}");
            let mut people = Vec::new();
            for subject in ["ada", "bob", "cyd", SubjectId::visitor().as_str()] {
                people.push(world.grant(subject, &app).await);
            }
            let developer = world.grant_of("dev", &app, Rights::ALL).await;
            apps.push((app, Model::default(), people, developer));
        }
        let random = SeededIds::new(seed.wrapping_add(n as u64));
        let mut worker = Self { random, pools, apps, done: 0, counts: BTreeMap::new() };
        for app in 0..worker.apps.len() {
            for (kind, access) in KINDS.into_iter().zip(0..) {
                worker.define(app, kind, access).await;
            }
        }
        worker
    }

    fn below(&self, limit: usize) -> usize {
        usize::try_from(self.random.random_u64() % limit as u64).unwrap()
    }

    fn count(&mut self, what: &'static str, n: usize) {
        *self.counts.entry(what).or_insert(0) += n;
    }

    /// Ids are the same few in all apps, so that whatever reaches too far finds something.
    fn keys(&self) -> Vec<Key> {
        let key = |_| (KINDS[self.below(3)], format!("r{}", self.below(400)));
        let keys: std::collections::BTreeSet<Key> = (0..BATCH).map(key).collect();
        keys.into_iter().collect()
    }

    async fn define(&mut self, app: usize, kind: &'static str, access: i16) {
        const DEFINE: &str = "SELECT overskill_data.define($1, $2, '{\"t1\": \"of\", \"n1\": \"n\"}')";
        let (name, model, _, developer) = &mut self.apps[app];
        let work = async |tx: &TenantTx| tx.query(DEFINE, &[(&kind, Type::TEXT), (&access, Type::INT2)]).await;
        self.pools[0].with_tenant(developer, &scope(name), work).await.unwrap();
        model.access.insert(kind, access);
    }

    #[allow(clippy::too_many_lines, reason = "one kind of work after another")]
    async fn step(&mut self) {
        let (app, pool) = (self.below(self.apps.len()), self.pools[self.below(2)].clone());
        if self.below(60) == 0 {
            let (kind, access) = (KINDS[self.below(3)], i16::try_from(self.below(3)).unwrap());
            self.define(app, kind, access).await;
            self.count("redefined", 1);
        }
        let (name, mut model, people, _) = self.apps[app].clone();
        let grant = &people[self.below(people.len())];
        let subject = grant.subject().to_string();
        let person = (*grant.subject() != SubjectId::visitor()).then_some(subject.as_str());
        let (what, keep) = (self.below(4), self.below(8) > 0);
        let mut keys = self.keys();
        let datum = json!({ "of": name, "n": self.below(1_000_000) });
        if what == 0 && person.is_none() && self.below(3) > 0 {
            keys.retain(|(kind, _)| model.access[kind] == 2);
        }
        let tx = pool.begin(grant, &scope(&name)).await.unwrap();
        self.done += keys.len();
        let (kinds, ids): (Vec<_>, Vec<_>) = keys.iter().map(|(kind, id)| (*kind, id.as_str())).unzip();
        let arguments: [(&(dyn ToSql + Sync), Type); 3] =
            [(&kinds, Type::TEXT_ARRAY), (&ids, Type::TEXT_ARRAY), (&datum, Type::JSONB)];
        let hit = async |sql: &str, n: usize| {
            let rows = tx.query(sql, &arguments[..n]).await?;
            let mut hit: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            hit.sort();
            Ok::<_, overskill_core::Error>(hit)
        };
        let named =
            |keys: Vec<&Key>| keys.into_iter().map(|(kind, id)| ((*kind).to_owned(), id.clone())).collect::<Vec<_>>();
        match what {
            0 => {
                const INSERT: &str = "INSERT INTO overskill_data.entities (entity_type, id, data) \
                    SELECT kind, id, $3 FROM unnest($1, $2) u (kind, id) ON CONFLICT DO NOTHING RETURNING entity_type, id";
                let inserted = hit(INSERT, 3).await;
                let mine = |key: &&Key| person.is_some() || model.access[key.0] == 2;
                if keys.iter().all(|key| mine(&key)) {
                    let new: Vec<_> = keys.iter().filter(|key| !model.records.contains_key(key)).collect();
                    assert_eq!(inserted.unwrap(), named(new.clone()), "{name}: {subject} inserts");
                    let (n, taken) = (new.len(), keys.len() - new.len());
                    let record = Record { owner: subject.clone(), data: datum.clone(), deleted: false };
                    let new: Vec<_> = new.into_iter().cloned().collect();
                    model.records.extend(new.into_iter().map(|key| (key, record.clone())));
                    self.count("inserted", n);
                    self.count("taken", taken);
                } else {
                    assert_eq!(inserted.unwrap_err().kind(), ErrorKind::Denied, "visitors own nothing");
                    self.count("refused", 1);
                    tx.rollback().await.unwrap();
                    return;
                }
            }
            1 | 2 => {
                const UPDATE: &str = "UPDATE overskill_data.entities e SET data = $3 FROM unnest($1, $2) u (kind, id) \
                    WHERE e.entity_type = u.kind AND e.id = u.id AND deleted_at IS NULL RETURNING entity_type, e.id";
                const DELETE: &str = "UPDATE overskill_data.entities e SET deleted_at = now() FROM unnest($1, $2) u (kind, id) \
                    WHERE e.entity_type = u.kind AND e.id = u.id AND deleted_at IS NULL RETURNING entity_type, e.id";
                let changed = if what == 1 { hit(UPDATE, 3).await } else { hit(DELETE, 2).await }.unwrap();
                let can =
                    |key: &&Key| model.records.get(key).is_some_and(|r| !r.deleted && model.may_change(key, r, person));
                let able: Vec<_> = keys.iter().filter(can).collect();
                assert_eq!(changed, named(able.clone()), "{name}: {subject} changes or deletes");
                let (n, able) = (able.len(), able.into_iter().cloned().collect::<Vec<_>>());
                for key in able {
                    let record = model.records.get_mut(&key).unwrap();
                    if what == 1 { record.data = datum.clone() } else { record.deleted = true }
                }
                self.count(if what == 1 { "changed" } else { "deleted" }, n);
                self.count("untouched", keys.len() - n);
            }
            _ => {
                let (seen, hidden) = look(&tx, &name, &model, person).await;
                self.count("seen", seen);
                self.count("hidden", hidden);
            }
        }
        if keep {
            tx.commit().await.unwrap();
            self.apps[app].1 = model;
        } else {
            tx.rollback().await.unwrap();
            self.count("undone", 1);
        }
    }

    /// At the end, everything as everybody sees it.
    async fn look_at_all(&mut self) {
        for (name, model, people, _) in &self.apps {
            for grant in people {
                let person = (*grant.subject() != SubjectId::visitor()).then_some(grant.subject().as_str());
                let tx = self.pools[1].begin_read_only(grant, &scope(name)).await.unwrap();
                look(&tx, name, model, person).await;
                tx.rollback().await.unwrap();
            }
        }
    }
}

/// Exactly what the subject may see is there, as it was written. How many rows are, and how many of the app are not.
async fn look(tx: &TenantTx, name: &str, model: &Model, person: Option<&str>) -> (usize, usize) {
    const ALL: &str = "SELECT entity_type, id, owner, data, deleted_at IS NOT NULL, t1, n1 FROM overskill_data.entities ORDER BY 1, 2";
    let rows = tx.query(ALL, &[]).await.unwrap();
    let visible: Vec<_> = model.records.iter().filter(|(key, record)| model.may_see(key, record, person)).collect();
    assert_eq!(rows.len(), visible.len(), "{name}: rows that {person:?} sees");
    for (row, ((kind, id), record)) in rows.iter().zip(&visible) {
        let seen: (&str, &str, &str, Value, bool) = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        let want = (*kind, id.as_str(), record.owner.as_str(), record.data.clone(), record.deleted);
        assert_eq!(seen, want, "{name}: a row that {person:?} sees");
        assert_eq!(row.get::<_, Option<&str>>(5), record.data["of"].as_str(), "the column of its own");
        assert_eq!(row.get::<_, Option<f64>>(6), record.data["n"].as_f64());
    }
    (rows.len(), model.records.len() - visible.len())
}
