//! The embedded entity API passes the suite that its twin on Postgres passes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use overskill_core::{ApiUpstream, KeyId, LocalKeys, LocalTokens, SystemClock, SystemIds};
use overskill_local::EntityApi;
use overskill_testkit::{EntityApiFixture, EntityTokens};
use std::{path::PathBuf, sync::Arc};

async fn open(file: PathBuf, tokens: LocalTokens) -> Arc<dyn ApiUpstream> {
    Arc::new(EntityApi::open(&file, tokens.validator(), Arc::new(SystemClock), Arc::new(SystemIds)).await.unwrap())
}

async fn entities() -> EntityApiFixture {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entities.db");
    let tokens = LocalTokens::new(LocalKeys::generate(KeyId::parse("local").unwrap()).unwrap());
    let api = open(file.clone(), tokens.clone()).await;
    let mints = tokens.clone();
    let start = overskill_core::Timestamp::EPOCH;
    let mint = EntityTokens::new(move |claims| mints.mint(claims, start).unwrap());
    EntityApiFixture::with(api, mint).reopen(move || open(file.clone(), tokens.clone())).keep(folder)
}

overskill_testkit::entity_api_conformance!(v1, entities());
