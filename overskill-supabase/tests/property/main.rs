//! Random work of random subjects of random apps, against a model: never a foreign row, never a lost one of one's own.
//!
//! Subjects act in all the ways there are: transactions of their own SQL, the entity API, the explorer; directly and behind a
//! pooler; while their apps' tables are shared, in a schema of their own, or in another project. An operation is one
//! statement of theirs, one call or one query; of the statements, a few travel together in one transaction.
//!
//! The seed is printed; `OVERSKILL_PROPERTY_SEED` does the same once more, as far as the order of several workers allows.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(unreachable_pub, reason = "a test's modules")]

mod model;
#[path = "../support/mod.rs"]
mod support;
mod ways;
mod weak;
mod worker;

use overskill_core::{IdsExt as _, SystemIds};
use std::{collections::BTreeMap, sync::Arc};
use support::World;
use worker::{Field, Mix, Worker};

/// How many in one run.
const OPERATIONS: usize = 100_000;
const WORKERS: usize = 6;
const MIX: Mix = Mix { transactions: 150, calls: 500, queries: 40, refusals: 10, moves: 3, redefinitions: 15 };

/// A number from the environment.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn nobody_ever_sees_or_loses_anything() {
    let seed = given("OVERSKILL_PROPERTY_SEED").unwrap_or_else(|| SystemIds.random_u64());
    let operations = given("OVERSKILL_PROPERTY_OPERATIONS").map_or(OPERATIONS, |it| usize::try_from(it).unwrap());
    println!("OVERSKILL_PROPERTY_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let field = Arc::new(Field::new(World::new().await).await);
        let work = (0..WORKERS).map(|n| {
            let field = field.clone();
            tokio::spawn(async move {
                let mut worker = Worker::new(field, n, seed, MIX).await;
                while worker.done < operations / WORKERS + 1 {
                    worker.step().await.unwrap_or_else(|breach| panic!("seed {seed}, worker {n}: {breach}"));
                }
                worker.look_at_all().await.unwrap_or_else(|breach| panic!("seed {seed}, worker {n}: {breach}"));
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
        assert!(all >= operations);
        for what in [
            "statements",
            "made",
            "taken",
            "changed",
            "untouched",
            "seen",
            "undone",
            "calls",
            "pages",
            "explored",
            "refused",
            "moved",
            "redefined",
        ] {
            assert!(counts.get(what).is_some_and(|n| *n > 0), "{what} never happened: {counts:?}");
        }
    });
}
