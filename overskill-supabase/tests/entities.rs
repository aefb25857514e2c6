//! The entity API on Postgres passes the suite that the embedded one passes, directly and behind a pooler.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use overskill_core::{ApiUpstream, Timestamp};
use overskill_supabase::{EntityApi, Plan, PoolOptions};
use overskill_testkit::{EntityApiFixture, EntityTokens};
use std::{sync::Arc, time::Duration};
use support::{Way, World};

async fn entities(way: Way) -> EntityApiFixture {
    let world = Arc::new(World::new().await);
    let open = move |world: &World| -> Arc<dyn ApiUpstream> {
        let plan = |_: &overskill_core::AppId| Plan::new("test").wait(Duration::from_mins(1));
        Arc::new(EntityApi::new(world.pool_with(way, "overskill_app", PoolOptions::new().plans(plan))))
    };
    let (api, tokens, again) = (open(&world), world.tokens.clone(), world.clone());
    let mint = EntityTokens::new(move |claims| tokens.mint(claims, Timestamp::EPOCH).unwrap());
    EntityApiFixture::with(api, mint).reopen(move || std::future::ready(open(&again))).keep(world)
}

mod direct {
    use super::{Way, entities};

    overskill_testkit::entity_api_conformance!(v1, entities(Way::Direct));
}

mod pooled {
    use super::{Way, entities};

    overskill_testkit::entity_api_conformance!(v1, entities(Way::Pooled));
}
