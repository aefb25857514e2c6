//! The entity API on Postgres passes the suite that the embedded one passes, directly and behind a pooler, wherever an app's
//! tables are; and apps move from one place to another while they are in use.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![allow(unreachable_pub, reason = "a test's modules")]

mod moves;
mod support;

use overskill_core::{ApiUpstream, Timestamp};
use overskill_supabase::{EntityApi, Placement, Plan, PoolOptions};
use overskill_testkit::{EntityApiFixture, EntityTokens};
use std::{sync::Arc, time::Duration};
use support::{Way, World, places::Placing};

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

/// The same, on apps that are moved before they are first called.
async fn placed(to: Placement) -> EntityApiFixture {
    let world = Arc::new(World::new().await);
    let projects = world.projects(Way::Pooled).await;
    let open = move |world: &World| -> Arc<dyn ApiUpstream> {
        let plan = |_: &overskill_core::AppId| Plan::new("test").wait(Duration::from_mins(1));
        let options = PoolOptions::new().plans(plan).projects(projects.clone());
        let api = EntityApi::new(world.pool_with(Way::Pooled, "overskill_app", options));
        let mover = world.mover(Way::Pooled).projects(projects.clone());
        Arc::new(Placing::new(api, mover, world.system.clone(), to.clone()))
    };
    let (api, tokens, again) = (open(&world), world.tokens.clone(), world.clone());
    let mint = EntityTokens::new(move |claims| tokens.mint(claims, Timestamp::EPOCH).unwrap());
    EntityApiFixture::with(api, mint).reopen(move || std::future::ready(open(&again))).keep(world)
}

mod in_a_schema_of_its_own {
    use super::{Placement, placed};

    overskill_testkit::entity_api_conformance!(v1, placed(Placement::Schema));
}

mod in_a_project_of_its_own {
    use super::{Placement, placed, support::places::acme};

    overskill_testkit::entity_api_conformance!(v1, placed(Placement::OwnProject(acme())));
}

mod direct {
    use super::{Way, entities};

    overskill_testkit::entity_api_conformance!(v1, entities(Way::Direct));
}

mod pooled {
    use super::{Way, entities};

    overskill_testkit::entity_api_conformance!(v1, entities(Way::Pooled));
}
